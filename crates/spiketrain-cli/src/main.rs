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
use observe::{Console, Style};
use spiketrain::data::DataDirs;
use spiketrain::encode::Encoder;
use spiketrain::methods::Method;
use spiketrain::recipe::BUILT_IN;
use spiketrain::train::{self, Options, Summary};
use spiketrain::{Error, ErrorKind, Recipe, Result};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = Args::parse();
    match run(args) {
        Ok(code) => code,
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
        Command::Resume { run, common } => {
            let (options, style) = (options(&common, run)?, style(&common));
            let mut console = Console::new(style);
            let summary = train::resume(&options, &mut console)?;
            finish(&options.run_dir, &summary, style)
        }
        Command::Eval { run, checkpoint, common } => {
            let options = options(&common, run)?;
            let file = format!("{checkpoint}.safetensors");
            let evaluation = train::evaluate(&options, &file)?;
            if common.json {
                println!(
                    "{}",
                    serde_json::json!({ "run": options.run_dir, "test": evaluation.metrics })
                );
            } else {
                for (name, value) in &evaluation.metrics {
                    println!("{name:<20} {value:.6}");
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Check { recipe } => {
            print!("{}", read_recipe(&recipe)?.to_toml());
            Ok(ExitCode::SUCCESS)
        }
        Command::Report { run } => {
            println!("{}", spiketrain::report::write(&run)?.display());
            Ok(ExitCode::SUCCESS)
        }
        Command::List { what } => {
            list(what);
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
            let page = clap_mangen::Man::new(Args::command());
            page.render(&mut std::io::stdout())
                .map_err(|e| Error::io("writing", Path::new("standard output"), e))?;
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
    let mut recipe = read_recipe(args)?;
    let run_dir =
        args.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(folder_name(&args.recipe)));
    make_room(&run_dir, force)?;
    let style = style(common);
    let Some(folds) = folds else {
        let options = options(common, run_dir)?;
        let summary = train::train(&recipe, &options, &mut Console::new(style))?;
        return finish(&options.run_dir, &summary, style);
    };
    let mut figures = Vec::new();
    for fold in parse_folds(&folds, recipe.validation.folds)? {
        recipe.validation.fold = fold;
        recipe.seed = args.seed.unwrap_or(0) + fold as u64;
        let options = options(common, run_dir.join(format!("fold-{fold}")))?;
        let summary = train::train(&recipe, &options, &mut Console::new(style))?;
        let code = finish(&options.run_dir, &summary, style)?;
        if summary.was_interrupted {
            return Ok(code);
        }
        figures.push(headline(&summary).1);
    }
    let n = figures.len() as f64;
    let mean = figures.iter().sum::<f64>() / n;
    let std = (figures.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
    let line = serde_json::json!({
        "run": run_dir, "folds": figures, "mean": mean, "std": std,
    });
    spiketrain::checkpoint::write_atomically(
        &run_dir.join("folds.json"),
        format!("{line}\n").as_bytes(),
    )?;
    if style == Style::Json {
        println!("{line}");
    } else {
        println!("{} folds: {:.2} ± {:.2} % (population deviation)", n, 100.0 * mean, 100.0 * std);
    }
    Ok(ExitCode::SUCCESS)
}

/// The folder of a recipe's run: its name without what a file system might not take.
fn folder_name(recipe: &str) -> String {
    recipe.replace([':', '/', '\\'], "-").replace(".toml", "")
}

/// Sees to it that there is no folder `run_dir`: an older run goes only by force.
fn make_room(run_dir: &Path, force: bool) -> Result<()> {
    if !run_dir.exists() {
        return Ok(());
    }
    if !force {
        return Err(Error::recipe(format!(
            "the run folder {} exists; use --force to replace it, --out to name another, or `spiketrain resume` to go on with it",
            run_dir.display()
        )));
    }
    remove_run(run_dir)
}

/// Removes a run folder, but only one that holds nothing but runs.
fn remove_run(dir: &Path) -> Result<()> {
    let is_run = dir.join("recipe.toml").is_file()
        || dir.join("folds.json").is_file()
        || dir.join("fold-0").is_dir()
        || std::fs::read_dir(dir).is_ok_and(|mut d| d.next().is_none());
    if !is_run {
        return Err(Error::recipe(format!(
            "{} is not a run folder; --force removes only those",
            dir.display()
        )));
    }
    std::fs::remove_dir_all(dir).map_err(|e| Error::io("removing", dir, e))
}

fn parse_folds(text: &str, n_folds: usize) -> Result<Vec<usize>> {
    if text == "all" {
        return Ok((0..n_folds).collect());
    }
    let parse = |part: &str| part.trim().parse().ok().filter(|f| *f < n_folds);
    text.split(',').map(parse).collect::<Option<Vec<usize>>>().ok_or_else(|| {
        Error::recipe(format!(
            "--folds {text:?}: allowed is all, or numbers below {n_folds} joined by commas"
        ))
    })
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
        eprintln!(
            "interrupted after {epochs} epochs and saved; go on with `spiketrain resume {run}`"
        );
        return Ok(ExitCode::from(130));
    }
    if style == Style::Json {
        let line = serde_json::json!({
            "run": run_dir, "epochs": epochs, name: value, "seconds": seconds, "report": report,
        });
        println!("{line}");
    } else {
        let shown = if value.is_nan() {
            "trained, nothing to test on,".to_owned()
        } else if name == "test_accuracy" {
            format!("test accuracy {:.2} %", 100.0 * value)
        } else {
            format!("{} {value:.6}", name.replace('_', " "))
        };
        println!("{shown} after {epochs} epochs, {seconds:.1} s; report: {}", report.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn read_recipe(args: &RecipeArgs) -> Result<Recipe> {
    let mut recipe = find_recipe(&args.recipe, &args.set)?;
    if let Some(seed) = args.seed {
        recipe.seed = seed;
    }
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
        let known: Vec<&str> = BUILT_IN.iter().map(|b| b.name).collect();
        return Err(Error::recipe(format!(
            "no recipe {name:?}: neither a file nor one of {}",
            known.join(", ")
        )));
    }
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("reading", path, e))?;
    Recipe::parse(name, &text, variant, sets)
}

fn options(common: &Common, run_dir: PathBuf) -> Result<Options> {
    let threads = common.threads.unwrap_or_else(n_cores);
    if threads == 0 {
        return Err(Error::recipe("--threads 0: allowed is a whole number above 0"));
    }
    let data = DataDirs::new(common.data_dir.clone());
    let cache_dir = (!common.no_cache).then(|| DataDirs::new(None).root.join("encoders"));
    Ok(Options { run_dir, data, cache_dir, threads })
}

/// Cores of the machine.
fn n_cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

fn style(common: &Common) -> Style {
    Style::of(common.json, common.quiet)
}

fn list(what: ListWhat) {
    match what {
        ListWhat::Methods => {
            for card in Method::all() {
                println!("{:<22} {}\n{:<22} {}", card.name, card.title, "", card.citation);
            }
        }
        ListWhat::Recipes => {
            for recipe in BUILT_IN {
                let variants = Recipe::variants(recipe.text);
                println!("{:<24} {}", recipe.name, variants.join(" "));
            }
        }
        ListWhat::Encoders => {
            Encoder::ALL.iter().for_each(|(name, does)| println!("{name:<12} {does}"));
        }
        ListWhat::Data => data::list(),
    }
}
