//! The command line: parse, one library call, a documented exit code. No science in here.
//!
//! Exit codes: 0 done, 1 a bug or the operating system, 2 usage or recipe, 3 data, 4 diverged,
//! 130 interrupted (the run is saved and can be resumed).

mod args;
mod bench;
mod compare;
mod data;
mod observe;

use args::{Args, Command, Common, ListWhat, RecipeArgs};
use clap::{CommandFactory, Parser};
use observe::{Console, Style, print};
use spiketrain::data::DataDirs;
use spiketrain::encode::Encoder;
use spiketrain::methods::Method;
use spiketrain::recipe::{BUILT_IN, Validation};
use spiketrain::train::{self, Answers, Options, Summary};
use spiketrain::{Error, ErrorKind, Recipe, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = Args::parse();
    match run(args) {
        Ok(code) => code,
        Err(error) if observe::has_nobody_listening(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let code = match error.kind() {
                ErrorKind::Recipe | ErrorKind::Checkpoint => 2,
                ErrorKind::Data => 3,
                ErrorKind::Diverged => 4,
                ErrorKind::Interrupted => 130,
                _ => 1,
            };
            observe::print_error(&error);
            ExitCode::from(code)
        }
    }
}

fn run(args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Train { recipe, common, folds, force } => train(&recipe, &common, folds, force),
        Command::Resume { run, epochs, common } => {
            let (options, style) = (options(&common, run)?, style(&common));
            let mut console = Console::new(style);
            let summary = told(&options, train::resume(&options, epochs, &mut console))?;
            finish(&options.run_dir, &summary, style)
        }
        Command::Eval { run, checkpoint, predictions, common } => {
            let options = options(&common, run)?;
            let file = format!("{checkpoint}.safetensors");
            let answers = train::evaluate(&options, &file, &mut Console::new(style(&common)))?;
            if let Some(path) = predictions {
                spiketrain::checkpoint::write_atomically(&path, predicted(&answers).as_bytes())?;
            }
            let evaluation = answers.evaluation;
            if common.json {
                let test = evaluation.metrics;
                print(serde_json::json!({ "run": options.run_dir, "test": test }))?;
            } else {
                for (name, value) in &evaluation.metrics {
                    print(format_args!("{name:<20} {value:.6}"))?;
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Check { recipe } => {
            print(read_recipe(&recipe)?.to_toml().trim_end())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Report { run } => {
            print(spiketrain::report::write(&run)?.display())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::List { what } => {
            list(what)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Data { command } => data::run(command),
        Command::Compare { names, all, common } => {
            let out = all.out.clone().unwrap_or_else(|| PathBuf::from("runs/compare"));
            compare::run(&names, &all, &common, &out)
        }
        Command::Demo { all, common } => {
            let out = all.out.clone().unwrap_or_else(|| PathBuf::from("runs/demo"));
            compare::run(&compare::quick_recipes(), &all, &common, &out)
        }
        Command::Bench { names, samples, threads, seconds, set, data_dir, json } => {
            let plan = bench::plan(samples, &threads, seconds)?;
            bench::run(&names, &set, &DataDirs::new(data_dir), &plan, json)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Args::command(),
                "spiketrain",
                &mut std::io::stdout(),
            );
            Ok(ExitCode::SUCCESS)
        }
        Command::Man => {
            print(String::from_utf8_lossy(&manual()?))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn train(
    args: &RecipeArgs,
    common: &Common,
    folds: Option<String>,
    force: bool,
) -> Result<ExitCode> {
    let recipe = read_recipe(args)?;
    let run_dir =
        args.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(folder_name(&args.recipe)));
    let style = style(common);
    let Some(folds) = folds else {
        let options = options(common, run_dir)?;
        make_room(&options, &recipe, force)?;
        let summary = told(&options, train::train(&recipe, &options, &mut Console::new(style)))?;
        return finish(&options.run_dir, &summary, style);
    };
    let runs = parse_folds(&folds, recipe.validation.folds)?
        .into_iter()
        .map(|fold| of_fold(&recipe, fold).map(|recipe| (fold, recipe)))
        .collect::<Result<Vec<_>>>()?;
    // Folds that are there go on.
    if force || run_dir.join(train::LAST).exists() {
        make_room(&options(common, run_dir.clone())?, &recipe, force)?;
    }
    let dir_of = |fold| run_dir.join(format!("fold-{fold}"));
    for (fold, recipe) in &runs {
        may_go_on(&dir_of(*fold), recipe)?;
    }
    let mut figures = Vec::new();
    let mut name = "";
    for (fold, recipe) in runs {
        let options = options(common, dir_of(fold))?;
        let summary = go_on(&recipe, &options, style)?;
        let code = finish(&options.run_dir, &summary, style)?;
        if summary.was_interrupted {
            return Ok(code);
        }
        let (figure, value) = headline(&summary);
        name = figure;
        figures.push(value);
    }
    let n = figures.len() as f64;
    let mean = figures.iter().sum::<f64>() / n;
    let std = (figures.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
    let line = serde_json::json!({
        "run": run_dir, "figure": name, "folds": figures, "mean": mean, "std": std,
    });
    spiketrain::checkpoint::write_atomically(
        &run_dir.join("folds.json"),
        format!("{line}\n").as_bytes(),
    )?;
    if style == Style::Json {
        print(line)?;
    } else {
        let shown = figure_text(name, &[mean, std]);
        print(format_args!("{n} folds: {shown} (population deviation)"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The recipe for one fold, whose number is added to the seed.
fn of_fold(recipe: &Recipe, fold: usize) -> Result<Recipe> {
    let seed = recipe.seed.checked_add(fold as u64).filter(|&s| s <= Recipe::LAST_SEED);
    let seed = seed.ok_or_else(|| {
        let (seed, last) = (recipe.seed, Recipe::LAST_SEED);
        Error::recipe(format!("seed = {seed}, for fold {fold}: allowed is at most {last} in all"))
    })?;
    let validation = Validation { fold, ..recipe.validation.clone() };
    Ok(Recipe { seed, validation, ..recipe.clone() })
}

/// `values` of the headline figure `name`, joined by a plus-minus.
fn figure_text(name: &str, values: &[f64]) -> String {
    let is_share = name == "test_accuracy";
    let one = |v: &f64| if is_share { format!("{:.2}", 100.0 * v) } else { format!("{v:.6}") };
    let values: Vec<String> = values.iter().map(one).collect();
    let unit = if is_share { " %" } else { "" };
    format!("{} {}{unit}", name.replace('_', " "), values.join(" ± "))
}

/// The folder of a recipe's run: its name without what a file system might not take.
fn folder_name(recipe: &str) -> String {
    recipe.replace([':', '/', '\\'], "-").replace(".toml", "")
}

/// Sees to it that there is no run folder: an older run goes only by force, and only when nothing
/// that the new one needs is missing.
fn make_room(options: &Options, recipe: &Recipe, force: bool) -> Result<()> {
    let run_dir = &options.run_dir;
    if !run_dir.exists() {
        return Ok(());
    }
    if !force {
        return Err(Error::recipe(format!(
            "the run folder {} exists; use --force to replace it, --out to name another, or `spiketrain resume` to go on with it",
            run_dir.display()
        )));
    }
    let here = std::env::current_dir().and_then(|d| d.canonicalize());
    if here.is_ok_and(|here| run_dir.canonicalize().is_ok_and(|dir| here.starts_with(dir))) {
        let dir = run_dir.display();
        return Err(Error::recipe(format!("--force cannot replace {dir}, which you are in")));
    }
    recipe.data.load(&options.data)?;
    if let Some(stranger) = not_of_a_run(run_dir)? {
        return Err(Error::recipe(format!(
            "{} is not a run's; --force removes only folders that hold nothing but runs",
            stranger.display()
        )));
    }
    std::fs::remove_dir_all(run_dir).map_err(|e| Error::io("removing", run_dir, e))
}

/// Whether the folder holds a run of this recipe.
fn is_run_of(dir: &Path, recipe: &Recipe) -> bool {
    let same =
        std::fs::read_to_string(dir.join(train::RECIPE)).is_ok_and(|t| t == recipe.to_toml());
    same && dir.join(train::LAST).exists()
}

/// An error if something stands in the way of a run in `dir`, other than an earlier run of the same
/// recipe.
pub(crate) fn may_go_on(dir: &Path, recipe: &Recipe) -> Result<()> {
    if !dir.exists() || is_run_of(dir, recipe) {
        return Ok(());
    }
    let dir = dir.display();
    Err(Error::recipe(format!(
        "{dir} is there and holds no run of this recipe; use --force to replace a run"
    )))
}

/// Trains the recipe, or goes on with the run of it that the folder holds.
pub(crate) fn go_on(recipe: &Recipe, options: &Options, style: Style) -> Result<Summary> {
    let mut console = Console::new(style);
    let summary = match is_run_of(&options.run_dir, recipe) {
        true => train::resume(options, None, &mut console),
        false => train::train(recipe, options, &mut console),
    };
    told(options, summary)
}

/// Writes the report of a run that diverged, which ends without one.
fn told<T>(options: &Options, result: Result<T>) -> Result<T> {
    if result.as_ref().is_err_and(|e| e.kind() == ErrorKind::Diverged) {
        // That the run diverged says more than that there is no page.
        let _ = spiketrain::report::write(&options.run_dir);
    }
    result
}

/// Answers as a table of comma-separated values, a line a sample; what there is not is empty.
fn predicted(answers: &Answers) -> String {
    let mut table = "sample,label,class,decision_time,spikes,synops\n".to_owned();
    for (i, p) in answers.predictions.iter().enumerate() {
        let label = answers.labels.get(i).map(u16::to_string).unwrap_or_default();
        let class = p.class.map(|c| c.to_string()).unwrap_or_default();
        let time = p.decision_time.map(|t| t.to_string()).unwrap_or_default();
        let (spikes, synops) = (p.n_spikes, p.n_synops);
        table += &format!("{i},{label},{class},{time},{spikes},{synops}\n");
    }
    table
}

/// The manual: a page of the program, then one of each command.
fn manual() -> Result<Vec<u8>> {
    let mut command = Args::command();
    command.build();
    let mut text = Vec::new();
    for page in std::iter::once(&command).chain(command.get_subcommands()) {
        let rendered = clap_mangen::Man::new(page.clone()).render(&mut text);
        rendered.map_err(|e| Error::io("writing", Path::new("the manual"), e))?;
    }
    Ok(text)
}

/// What in `dir` no run has written, if there is such a thing.
fn not_of_a_run(dir: &Path) -> Result<Option<PathBuf>> {
    let failed = |e| Error::io("reading", dir, e);
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let is_folder = entry.file_type().map_err(failed)?.is_dir();
        let stranger = if is_folder && name.starts_with("fold-") {
            not_of_a_run(&path)?
        } else {
            let is_ours = train::FILES.contains(&&*name) || name == "folds.json";
            let is_torn = name.starts_with(".writing-") && name.ends_with(".tmp");
            (is_folder || !(is_ours || is_torn)).then_some(path)
        };
        if stranger.is_some() {
            return Ok(stranger);
        }
    }
    Ok(None)
}

fn parse_folds(text: &str, n_folds: usize) -> Result<Vec<usize>> {
    if n_folds == 0 {
        return Err(Error::recipe("--folds: the recipe has none; set validation.folds"));
    }
    if text == "all" {
        return Ok((0..n_folds).collect());
    }
    let parse = |part: &str| part.trim().parse().ok().filter(|f| *f < n_folds);
    let folds: Option<Vec<usize>> = text.split(',').map(parse).collect();
    folds.filter(|folds| folds.iter().collect::<BTreeSet<_>>().len() == folds.len()).ok_or_else(
        || {
            Error::recipe(format!(
                "--folds {text:?}: allowed is all, or different numbers below {n_folds} joined by \
                 commas"
            ))
        },
    )
}

/// The method's headline figure: accuracy for classifiers. Not a number without test images.
fn headline(summary: &Summary) -> (&'static str, f64) {
    for (metric, name) in [("accuracy", "test_accuracy"), ("mse", "test_mse")] {
        if let Some(&value) = summary.test.get(metric) {
            return (name, value);
        }
    }
    ("test_accuracy", f64::NAN)
}

/// Writes the report and prints the last line.
fn finish(run_dir: &Path, summary: &Summary, style: Style) -> Result<ExitCode> {
    let report = spiketrain::report::write(run_dir)?;
    let (name, value) = headline(summary);
    let (epochs, seconds) = (summary.epochs, summary.seconds);
    if summary.was_interrupted {
        let run = run_dir.display();
        observe::complain(format_args!(
            "interrupted after {epochs} epochs and saved; go on with `spiketrain resume {run}`"
        ));
        return Ok(ExitCode::from(130));
    }
    if style == Style::Json {
        let line = serde_json::json!({
            "run": run_dir, "epochs": epochs, name: value, "seconds": seconds, "report": report,
        });
        print(line)?;
    } else {
        let shown = match value.is_nan() {
            true => "trained, without a figure,".to_owned(),
            false => figure_text(name, &[value]),
        };
        let report = report.display();
        print(format_args!("{shown} after {epochs} epochs, {seconds:.1} s; report: {report}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn read_recipe(args: &RecipeArgs) -> Result<Recipe> {
    let mut recipe = find_recipe(&args.recipe, &args.set)?;
    recipe.seed = args.seed.unwrap_or(recipe.seed);
    Ok(recipe)
}

/// The recipe called `name`, built in or a file, possibly with `:VARIANT`.
fn find_recipe(name: &str, sets: &[String]) -> Result<Recipe> {
    let (name, variant) = match name.rsplit_once(':') {
        Some((name, variant)) if !variant.contains(['/', '\\']) => (name, Some(variant)),
        _ => (name, None),
    };
    if let Some(b) = BUILT_IN.iter().find(|b| b.name == name) {
        return Recipe::parse(name, b.text, variant, sets);
    }
    let path = Path::new(name);
    if !path.is_file() {
        let mut known: Vec<&str> = BUILT_IN.iter().map(|b| b.name).collect();
        known.sort_by_key(|known| strsim::damerau_levenshtein(name, known));
        return Err(Error::recipe(format!(
            "no recipe {name:?}: neither a file nor one of those that `spiketrain list recipes` \
             names; the nearest are {}",
            known[..3].join(", ")
        )));
    }
    let bytes = std::fs::read(path).map_err(|e| Error::io("reading", path, e))?;
    let text = String::from_utf8(bytes);
    let text = text.map_err(|e| Error::recipe(format!("{name}: not a text in UTF-8: {e}")))?;
    Recipe::parse(name, &text, variant, sets)
}

fn options(common: &Common, run_dir: PathBuf) -> Result<Options> {
    let threads = common.threads.unwrap_or_else(n_cores);
    if !(1..=MOST_THREADS).contains(&threads) {
        return Err(Error::recipe(format!(
            "--threads {threads}: allowed is a whole number from 1 to {MOST_THREADS}"
        )));
    }
    let data = DataDirs::new(common.data_dir.clone());
    let cache_dir = (!common.no_cache).then(|| DataDirs::new(None).root.join("encoders"));
    Ok(Options { run_dir, data, cache_dir, threads })
}

/// More threads than any machine has cores.
const MOST_THREADS: usize = 4096;

/// Cores of the machine.
fn n_cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

fn style(common: &Common) -> Style {
    Style::of(common.json, common.quiet)
}

fn list(what: ListWhat) -> Result<()> {
    match what {
        ListWhat::Methods => {
            for card in Method::all() {
                let (name, title, citation) = (card.name, card.title, card.citation);
                print(format_args!("{name:<22} {title}\n{:<22} {citation}", ""))?;
            }
        }
        ListWhat::Recipes => {
            for recipe in BUILT_IN {
                print(format_args!("{:<34} {}", recipe.name, Recipe::about(recipe.text)))?;
                let variants = Recipe::variants(recipe.text);
                if !variants.is_empty() {
                    print(format_args!("{:<34} variants: {}", "", variants.join(" ")))?;
                }
            }
        }
        ListWhat::Encoders => {
            for (name, does) in Encoder::ALL {
                print(format_args!("{name:<12} {does}"))?;
            }
        }
        ListWhat::Data => data::list()?,
    }
    Ok(())
}
