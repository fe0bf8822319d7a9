//! `spiketrain compare` and `spiketrain demo`: runs side by side.

use crate::args::{Common, ForAll};
use crate::observe::{Console, Style, print};
use spiketrain::methods::Method;
use spiketrain::recipe::BUILT_IN;
use spiketrain::report::compare::{self, Row};
use spiketrain::{Recipe, Result, train};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Trains the recipes among `names`, then compares them with the run folders among them.
pub(crate) fn run(names: &[String], all: &ForAll, common: &Common, out: &Path) -> Result<ExitCode> {
    let style = crate::style(common);
    let mut dirs = Vec::new();
    for name in names {
        if Path::new(name).is_dir() {
            dirs.push(PathBuf::from(name));
            continue;
        }
        let mut recipe = crate::find_recipe(name, &all.set)?;
        recipe.seed = all.seed.unwrap_or(recipe.seed);
        let options = crate::options(common, out.join(crate::folder_name(name)))?;
        crate::make_room(&options, &recipe, all.force)?;
        let summary = train::train(&recipe, &options, &mut Console::new(style))?;
        let code = crate::finish(&options.run_dir, &summary, style)?;
        if summary.was_interrupted {
            return Ok(code);
        }
        dirs.push(options.run_dir);
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
            "{:<width$}  {:<20}  {:<14}  {:>6}  {:>10}  {:<14}  {:>9.4}  {:>9.0}  {:>9.0}  {:>8.1}",
            r.run,
            r.method,
            r.data,
            r.epochs,
            r.n_presented,
            r.figure,
            r.value,
            r.spikes_per_sample,
            r.synops_per_sample,
            r.seconds,
        ))?;
    }
    Ok(())
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
