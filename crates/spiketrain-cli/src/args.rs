//! What can be typed.

use clap::builder::RangedU64ValueParser;
use clap::{Parser, Subcommand, ValueEnum};
use spiketrain::Recipe;
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 a bug or the operating system, 2 usage, recipe or run folder, 3 data, \
4 diverged, 130 interrupted (the run is saved and can be resumed).";

/// Trains spiking neural networks with published rules: one loop, one data path, one set of
/// metrics, the same bytes on any number of threads.
#[derive(Debug, Parser)]
#[command(name = "spiketrain", version, about, long_about = None, after_help = AFTER_HELP)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Trains a recipe; without one, the default on the bundled digits.
    Train {
        #[command(flatten)]
        recipe: RecipeArgs,
        #[command(flatten)]
        common: Common,
        /// Trains several folds, `all` or numbers joined by commas, each with its number added to
        /// the seed.
        #[arg(long)]
        folds: Option<String>,
        /// Replaces the run folder if it exists.
        #[arg(long)]
        force: bool,
    },
    /// Goes on with a run from its last checkpoint.
    Resume {
        /// The run folder.
        run: PathBuf,
        /// Epochs in all, in place of the recipe's: a run that has ended goes on.
        #[arg(long)]
        epochs: Option<u64>,
        #[command(flatten)]
        common: Common,
    },
    /// Evaluates a run's checkpoint on the test split.
    Eval {
        /// The run folder.
        run: PathBuf,
        /// Which checkpoint: last or best.
        #[arg(long, default_value = "last", value_parser = ["last", "best"])]
        checkpoint: String,
        /// Writes what is answered for every test sample to a CSV file.
        #[arg(long, value_name = "FILE")]
        predictions: Option<PathBuf>,
        #[command(flatten)]
        common: Common,
    },
    /// Checks a recipe and prints it complete, defaults filled in.
    Check {
        #[command(flatten)]
        recipe: RecipeArgs,
    },
    /// Writes a run's report again from its log.
    Report {
        /// The run folder.
        run: PathBuf,
    },
    /// Lists what there is.
    List {
        /// Of what.
        what: ListWhat,
    },
    /// Data sets.
    Data {
        #[command(subcommand)]
        command: DataCommand,
    },
    /// Puts runs side by side: a table, and a page with their learning curves. A recipe is trained
    /// first, or goes on if a run of it is there; give all of them the same budget with
    /// `--set train.epochs=N`.
    Compare {
        /// Run folders and recipes.
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        all: ForAll,
        #[command(flatten)]
        common: Common,
    },
    /// Trains every method's quick recipe on the bundled digits and compares them.
    Demo {
        #[command(flatten)]
        all: ForAll,
        #[command(flatten)]
        common: Common,
    },
    /// Measures how many samples a second are encoded, trained and evaluated.
    Bench {
        /// Methods or recipes; without one, every method. A method stands for its first recipe.
        names: Vec<String>,
        /// Training samples to use.
        #[arg(long, default_value_t = 2000)]
        samples: usize,
        /// Numbers of threads, joined by commas; default 1 and all cores.
        #[arg(long, value_delimiter = ',')]
        threads: Vec<usize>,
        /// Seconds of training, and again of evaluation, for each number of threads.
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
        /// Overrides a value of the recipes, for example `--set train.batch_size=32` (repeatable).
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<String>,
        /// Folder of the data sets; default the user's cache folder.
        #[arg(long, env = "SPIKETRAIN_DATA")]
        data_dir: Option<PathBuf>,
        /// One JSON object a line on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Prints a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Prints the manual page.
    Man,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Lists the data sets, their licences and where they come from.
    List,
    /// Downloads a data set, going on where an earlier call stopped.
    Fetch {
        /// Its name.
        name: String,
        /// Folder of the data sets; default the user's cache folder.
        #[arg(long, env = "SPIKETRAIN_DATA")]
        data_dir: Option<PathBuf>,
        /// No progress, only the last line.
        #[arg(long)]
        quiet: bool,
        /// One JSON object a line on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Reads a data set and says what is in it.
    Info {
        /// Its name.
        name: String,
        /// The path, for a data set of your own.
        path: Option<PathBuf>,
        /// Folder of the data sets.
        #[arg(long, env = "SPIKETRAIN_DATA")]
        data_dir: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ListWhat {
    Methods,
    Recipes,
    Data,
    Encoders,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RecipeArgs {
    /// A built-in name or a path, with `:VARIANT` for one of its variants.
    #[arg(default_value = "s2stdp-digits")]
    pub(crate) recipe: String,
    /// Overrides a value, for example `--set train.epochs=5` (repeatable).
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Seed, in place of the recipe's.
    #[arg(long, value_parser = seed())]
    pub(crate) seed: Option<u64>,
    /// The run folder; default runs/RECIPE.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

/// A seed that can be written into a recipe.
fn seed() -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(..=Recipe::LAST_SEED)
}

/// What holds for every recipe that is trained for a comparison.
#[derive(Debug, clap::Args)]
pub(crate) struct ForAll {
    /// Overrides a value of every recipe trained (repeatable).
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Seed of every recipe trained, in place of its own.
    #[arg(long, value_parser = seed())]
    pub(crate) seed: Option<u64>,
    /// Folder for the page and the runs that are trained; default runs/compare or runs/demo.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Replaces runs that exist.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// Threads; default all cores. The results do not depend on it.
    #[arg(long)]
    pub(crate) threads: Option<usize>,
    /// Folder of the data sets; default the user's cache folder.
    #[arg(long, env = "SPIKETRAIN_DATA")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Neither reads nor writes the cache of fitted encoders and encoded images.
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// No progress, only the last line.
    #[arg(long)]
    pub(crate) quiet: bool,
    /// One JSON object a line on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}
