//! `spiketrain bench`: a table of throughputs.

use crate::observe::print;
use spiketrain::bench::{Plan, Throughput, throughput};
use spiketrain::data::DataDirs;
use spiketrain::methods::Method;
use spiketrain::recipe::BUILT_IN;
use spiketrain::{Error, Recipe, Result};
use std::time::Duration;

/// What was asked for, checked.
pub(crate) fn plan(n_samples: usize, threads: &[usize], seconds: f64) -> Result<Plan> {
    let budget = Duration::try_from_secs_f64(seconds).map_err(|_| {
        Error::recipe(format!("--seconds {seconds}: allowed is a number not below 0"))
    })?;
    let mut threads = match threads {
        [] => vec![1, crate::n_cores()],
        some => some.to_vec(),
    };
    let mut seen = std::collections::BTreeSet::new();
    threads.retain(|&n| seen.insert(n));
    Ok(Plan { n_samples, threads, budget })
}

/// Measures `names`, recipes or methods; every method without one.
pub(crate) fn run(
    names: &[String],
    sets: &[String],
    data: &DataDirs,
    plan: &Plan,
    json: bool,
) -> Result<()> {
    let every: Vec<String> = Method::all().iter().map(|c| c.name.to_owned()).collect();
    let names = if names.is_empty() { &every } else { names };
    let width = names.iter().map(|n| recipe_name(n).len()).max().unwrap_or(0).max(6);
    if !json {
        print(format_args!(
            "{:<width$}  threads  samples  encoded/s  trained/s  evaluated/s  trained, ratio  evaluated, ratio",
            "recipe"
        ))?;
    }
    for name in names {
        let name = recipe_name(name);
        let rows = throughput(&crate::find_recipe(&name, sets)?, data, plan)?;
        for row in &rows {
            if json {
                print(serde_json::json!({ "recipe": name, "throughput": row }))?;
            } else {
                print(line(&name, width, row, &rows[0]))?;
            }
        }
    }
    Ok(())
}

fn line(name: &str, width: usize, row: &Throughput, first: &Throughput) -> String {
    let (train, evaluate) = (row.trained_per_second, row.evaluated_per_second);
    format!(
        "{name:<width$}  {:>7}  {:>7}  {:>9.0}  {train:>9.0}  {evaluate:>11.0}  {:>14.2}  {:>16.2}",
        row.threads,
        row.n_samples,
        row.encoded_per_second,
        train / first.trained_per_second,
        evaluate / first.evaluated_per_second,
    )
}

/// A method's name stands for the first recipe that trains it.
fn recipe_name(name: &str) -> String {
    let trains = |text: &str| {
        Recipe::parse("built-in", text, None, &[]).is_ok_and(|r| r.method.card().name == name)
    };
    let found = BUILT_IN.iter().find(|b| trains(b.text));
    found.map_or_else(|| name.to_owned(), |b| b.name.to_owned())
}
