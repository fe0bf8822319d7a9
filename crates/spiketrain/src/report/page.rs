//! Puts the page together: everything the template shows, in the order it shows it.

use super::drawing::{self, Drawing};
use super::metric::{self, COSTS, DECISION_TIME};
use super::replay::Run;
use super::{competition, confusion, format, learning};
use crate::error::{Error, ErrorKind, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Value, context};

const TEMPLATES: [(&str, &str); 3] = [
    ("drawings.html", include_str!("drawings.html")),
    ("page.html", include_str!("page.html")),
    ("compare.html", include_str!("compare.html")),
];
/// The style sheet of every page.
pub(super) const STYLE: &str = include_str!("style.css");

/// The page of a run.
pub(super) fn render(run: &Run<'_>) -> Result<String> {
    fill("page.html", page(run))
}

/// The template `name` filled in.
pub(super) fn fill(name: &str, values: Value) -> Result<String> {
    let mut env = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    env.set_syntax(syntax.expect("the usual delimiters are well formed"));
    // The names' ending makes the engine escape every value.
    for (name, text) in TEMPLATES {
        env.add_template(name, text).expect("the template is well formed");
    }
    let template = env.get_template(name).expect("the template was added");
    template
        .render(values)
        .map_err(|e| Error::new(ErrorKind::Io, "the report's page cannot be made").with_source(e))
}

fn page(run: &Run<'_>) -> Value {
    let start = &run.start;
    let costs = measured(run, |name| COSTS.contains(&name));
    let latency = measured(run, |name| name == DECISION_TIME);
    let mut latency_drawings: Vec<Drawing> =
        learning::metric_drawing(run, DECISION_TIME).into_iter().collect();
    latency_drawings
        .extend(run.test.iter().flat_map(|test| drawing::of_histograms(test.histograms)));
    let figures: Vec<Drawing> = run.figures.iter().map(|f| drawing::of_figure(f)).collect();
    context! {
        style => Value::from_safe_string(STYLE.to_owned()),
        run => start.run,
        method => start.method,
        data => start.data,
        seed => start.seed,
        version => start.spiketrain,
        headline => headline(run),
        state => state(run),
        facts => facts(run),
        learning => values(&learning::metric_drawings(run)),
        only_epoch => only_epoch(run),
        test => measured(run, |_| true),
        confusion => confusion::value(run),
        figures => values(&figures),
        inside => values(&[competition::drawings(run), learning::series_drawings(run)].concat()),
        costs => costs,
        cost_drawings => values(&learning::cost_drawings(run)),
        latency => latency,
        latency_drawings => values(&latency_drawings),
        stages => stages(run),
        recipe => start.recipe,
        recipe_lines => recipe_lines(start.recipe),
    }
}

fn values(drawings: &[Drawing]) -> Vec<Value> {
    drawings.iter().map(Drawing::value).collect()
}

/// The one number that matters: of the test, else of the last epoch's validation or training.
fn headline(run: &Run<'_>) -> Option<Value> {
    let last = run.epochs.last();
    let tables = [
        ("test", run.test.as_ref().map(|t| t.metrics)),
        ("validation", last.map(|e| e.valid)),
        ("training", last.map(|e| e.train)),
        ("training", last.map(|e| e.metrics)),
    ];
    let (split, table) =
        tables.into_iter().find_map(|(s, t)| Some((s, t?)).filter(|t| !t.1.is_empty()))?;
    let mut names: Vec<&str> = table.keys().map(String::as_str).collect();
    metric::sort(&mut names);
    // What only its method can name leads the costs, but not the well-known qualities.
    let is_cost = |name: &&&str| COSTS.contains(*name) || **name == DECISION_TIME;
    let name = names.iter().find(|n| !is_cost(n)).or(names.first())?;
    Some(context! {
        value => metric::show(name, table[*name]),
        label => format!("{split} {}", metric::title(name).to_lowercase()),
        is_final => split == "test",
    })
}

/// Whether the run came to its end, in words and as a class of the style sheet.
fn state(run: &Run<'_>) -> Value {
    let epochs = |n: u64| format::plural(n, "epoch", "epochs");
    let (kind, text) = match (run.stopped, run.end) {
        (Some((n, reason)), _) => {
            ("stopped", format!("stopped early after {}: {reason}", epochs(n)))
        }
        (None, Some((n, _))) => ("finished", format!("finished after {}", epochs(n))),
        (None, None) => {
            let of = match run.n_epochs_planned() {
                Some(n) => format!("{} of {}", run.n_epochs(), epochs(n)),
                None => epochs(run.n_epochs()),
            };
            ("open", format!("running, interrupted or crashed after {of}"))
        }
    };
    context! { kind => kind, text => text }
}

/// Key facts as (name, value).
fn facts(run: &Run<'_>) -> Vec<Value> {
    let start = &run.start;
    let n_samples: u64 = run.epochs.iter().fold(0, |sum, e| sum.saturating_add(e.n_samples));
    let training = run.training_seconds();
    let count = |n: usize| if n == 0 { "none".to_owned() } else { format::count(n as u64) };
    let mut rows = vec![
        ("Method", start.method.to_owned()),
        ("Data", start.data.to_owned()),
        ("Encoder", start.encoder.to_owned()),
        ("Seed", start.seed.to_string()),
        ("Threads", start.threads.to_string()),
        ("Classes", count(start.classes.len())),
        ("Training samples", count(start.n_train)),
        ("Validation samples", count(start.n_valid)),
        ("Test samples", count(start.n_test)),
        ("Epochs", format::count(run.n_epochs())),
        ("Time", run_time(run)),
    ];
    if training > 0.0 {
        let rate = n_samples as f64 / training;
        rows.push(("Training speed", format!("{} samples/s", format::number(rate))));
    }
    if let Some(best) = run.best {
        rows.push(("Best checkpoint", format!("epoch {best}")));
    }
    if !run.resumed.is_empty() {
        let after: Vec<String> = run.resumed.iter().map(u64::to_string).collect();
        rows.push(("Resumed", format!("after epoch {}", after.join(", "))));
    }
    rows.push(("Started", format::date(start.unix_time)));
    rows.push(("Run", start.run.to_owned()));
    rows.push(("Version", start.spiketrain.to_owned()));
    rows.into_iter().map(|(name, value)| context! { name => name, value => value }).collect()
}

fn run_time(run: &Run<'_>) -> String {
    match run.end {
        Some((_, seconds)) => format::duration(seconds),
        None => {
            let stages = run.stages.iter().filter_map(|s| s.end).map(|(seconds, _)| seconds);
            let known = stages.filter(|s| s.is_finite()).sum::<f64>() + run.training_seconds();
            format!("{} so far", format::duration(known))
        }
    }
}

/// The test's metrics whose names are wanted, each with its meaning.
fn measured(run: &Run<'_>, is_wanted: impl Fn(&str) -> bool) -> Vec<Value> {
    let Some(test) = &run.test else { return Vec::new() };
    let mut names: Vec<&str> =
        test.metrics.keys().map(String::as_str).filter(|name| is_wanted(name)).collect();
    metric::sort(&mut names);
    names.into_iter().map(|name| row(run, name, metric::title(name), test.metrics[name])).collect()
}

/// One metric as a table shows it.
fn row(run: &Run<'_>, name: &str, title: String, value: f64) -> Value {
    // A name that ends in a number may be explained for all numbers together.
    let numbered = format!("{}N", name.trim_end_matches(|c: char| c.is_ascii_digit()));
    let meanings = run.start.meanings;
    let own = meanings.get(name).or(meanings.get(&numbered)).map_or("", String::as_str);
    let meaning = Some(metric::meaning(name)).filter(|m| !m.is_empty()).unwrap_or(own);
    context! {
        name => name,
        title => title,
        value => metric::show(name, value),
        meaning => sentence(meaning),
    }
}

/// With a capital at the beginning and a full stop at the end.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return String::new() };
    let stop = if text.ends_with('.') { "" } else { "." };
    // A symbol such as θ stays what it is.
    format!("{}{}{stop}", first.to_ascii_uppercase(), chars.as_str())
}

/// What the one epoch of a run measured: a curve of one point says less than a number.
fn only_epoch(run: &Run<'_>) -> Vec<Value> {
    let [epoch] = run.epochs.as_slice() else { return Vec::new() };
    let mut rows = Vec::new();
    for name in learning::names(run) {
        for (table, of) in
            [(epoch.train, ", training"), (epoch.valid, ", validation"), (epoch.metrics, "")]
        {
            if let Some(&value) = table.get(name) {
                rows.push(row(run, name, metric::title(name) + of, value));
            }
        }
    }
    rows
}

/// Stages, then training, each with its share of the time.
fn stages(run: &Run<'_>) -> Vec<Value> {
    let mut rows: Vec<(String, Option<(f64, bool)>)> =
        run.stages.iter().map(|s| (s.name.to_owned(), s.end)).collect();
    if !run.epochs.is_empty() {
        let n = format::plural(run.n_epochs(), "epoch", "epochs");
        rows.push((format!("training, {n}"), Some((run.training_seconds(), false))));
    }
    let seconds = |row: &(String, Option<(f64, bool)>)| {
        row.1.map_or(0.0, |(s, _)| if s.is_finite() { s.max(0.0) } else { 0.0 })
    };
    let longest = rows.iter().map(seconds).fold(0.0, f64::max);
    rows.iter()
        .map(|row| {
            let share = if longest > 0.0 { 100.0 * seconds(row) / longest } else { 0.0 };
            context! {
                name => row.0.as_str(),
                time => row.1.map_or("did not end".to_owned(), |(s, _)| format::duration(s)),
                cached => row.1.is_some_and(|(_, cached)| cached),
                share => format!("{share:.1}"),
            }
        })
        .collect()
}

/// The recipe line by line, each with the class of what it holds.
fn recipe_lines(recipe: &str) -> Vec<Value> {
    let kind = |line: &str| match line.trim_start().chars().next() {
        Some('[') => "table",
        Some('#') => "comment",
        _ => "",
    };
    recipe.lines().map(|line| context! { text => line, kind => kind(line) }).collect()
}
