//! `spiketrain compare` and `spiketrain demo`: runs side by side.

use crate::args::{Common, ForAll};
use crate::observe::{Style, print};
use spiketrain::methods::Method;
use spiketrain::recipe::BUILT_IN;
use spiketrain::report::compare::{self, Row};
use spiketrain::{Error, Recipe, Result};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Trains the recipes among `names`, then compares them with the run folders among them.
pub(crate) fn run(names: &[String], all: &ForAll, common: &Common, out: &Path) -> Result<ExitCode> {
    let style = crate::style(common);
    // Whatever is wrong with a name is said before anything is trained.
    let mut runs: Vec<(PathBuf, Option<Recipe>)> = Vec::new();
    for name in names {
        let run = match Path::new(name).is_dir() {
            true => (PathBuf::from(name), None),
            false => {
                let mut recipe =
                    crate::find_recipe(name, &all.set).map_err(|e| not_a_run(name, e))?;
                recipe.seed = all.seed.unwrap_or(recipe.seed);
                let dir = out.join(crate::folder_name(name));
                if !all.force {
                    crate::may_go_on(&dir, &recipe)?;
                }
                (dir, Some(recipe))
            }
        };
        if !runs.iter().any(|(dir, _)| *dir == run.0) {
            runs.push(run);
        }
    }
    let found = runs.iter().filter(|(_, recipe)| recipe.is_none()).map(|(dir, _)| dir.clone());
    let found: Vec<PathBuf> = found.collect();
    let is_told = !all.set.is_empty() || all.seed.is_some() || all.force;
    if is_told && found.len() == runs.len() {
        let what = "--set, --seed and --force: nothing is trained, only run folders are named";
        return Err(Error::recipe(what));
    }
    compare::read_all(&found)?;
    let mut dirs = Vec::new();
    for (dir, recipe) in runs {
        if let Some(recipe) = recipe {
            let options = crate::options(common, dir.clone())?;
            if all.force {
                crate::make_room(&options, &recipe, true)?;
            }
            let summary = crate::go_on(&recipe, &options, style)?;
            let code = crate::finish(&dir, &summary, style)?;
            if summary.was_interrupted {
                return Ok(code);
            }
        }
        dirs.push(dir);
    }
    let (rows, page) = compare::write(&dirs, out)?;
    if style == Style::Json {
        print(serde_json::json!({ "runs": rows, "page": page }))?;
    } else {
        print_table(&rows)?;
        print(format_args!("page: {}", page.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Adds to an error about a name that it could have been a folder.
fn not_a_run(name: &str, error: Error) -> Error {
    match Path::new(name).exists() {
        true => error,
        false => error.context(format!("{name:?} is no run folder")),
    }
}

fn print_table(rows: &[Row]) -> Result<()> {
    let width = rows.iter().map(|r| r.run.chars().count()).max().unwrap_or(0).max(3);
    print(format_args!(
        "{:<width$}  {:<20}  {:<14}  {:>6}  {:>10}  {:<14}  {:>9}  {:>9}  {:>9}  {:>8}",
        "run",
        "method",
        "data",
        "epochs",
        "shown",
        "figure",
        "value",
        "spikes",
        "synops",
        "seconds"
    ))?;
    for r in rows {
        print(format_args!(
            "{:<width$}  {:<20}  {:<14}  {:>6}  {:>10}  {:<14}  {:>9}  {:>9}  {:>9}  {:>8.1}",
            r.run,
            r.method,
            r.data,
            r.epochs,
            r.n_presented,
            r.figure,
            shown(r.value, 4),
            shown(r.spikes_per_sample, 0),
            shown(r.synops_per_sample, 0),
            r.seconds,
        ))?;
    }
    Ok(())
}

/// A number, or a dash for none.
fn shown(value: f64, digits: usize) -> String {
    if value.is_finite() { format!("{value:.digits$}") } else { "–".to_owned() }
}

/// For every method the first recipe on the bundled digits.
pub(crate) fn quick_recipes() -> Vec<String> {
    let first = |method: &str| {
        BUILT_IN.iter().find(|b| {
            Recipe::parse(b.name, b.text, None, &[])
                .is_ok_and(|r| r.method.card().name == method && r.data.name() == "mnist-mini")
        })
    };
    Method::all().iter().filter_map(|c| first(c.name)).map(|b| b.name.to_owned()).collect()
}
