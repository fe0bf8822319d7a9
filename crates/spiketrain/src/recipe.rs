//! Recipes: everything a run depends on, in one TOML file.
//!
//! The table's name is the choice: `[data.mnist]`, `[encode.stdp-csnn]`, `[method.s2stdp]`. What
//! is not written has the paper's value. `[variants.NAME]` holds tables merged over the recipe
//! when that variant is asked for.

use crate::check::{Checks, Invalid};
use crate::data::Data;
use crate::encode::Encoder;
use crate::error::{Error, Excerpt, Result};
use crate::methods::Method;
use crate::schedule::Schedule;
use serde::{Deserialize, Serialize};
use toml_edit::{DocumentMut, Item, Table, TableLike};

/// A run's complete description.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Seed of every random draw.
    #[serde(default)]
    pub seed: u64,
    /// The data set.
    pub data: Data,
    /// From images to what the method reads.
    #[serde(default)]
    pub encode: Encoder,
    /// The method and its hyper-parameters.
    pub method: Method,
    /// The loop.
    #[serde(default)]
    pub train: Train,
    /// The validation split.
    #[serde(default)]
    pub validation: Validation,
}

/// Settings of the loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Train {
    /// Passes over the training split at most.
    pub epochs: u64,
    /// Epochs without a better validation accuracy after which training ends; 0 = never.
    pub patience: u64,
    /// Samples a step. An online method learns from them one after another.
    pub batch_size: usize,
    /// Whether each epoch has its own random order of samples.
    pub shuffle: bool,
    /// Whether the test is of the epoch that did best in validation, not of the last.
    pub keep_best: bool,
    /// Epochs over which the learning rate grows from 0 to its full value, on top of the schedule.
    pub warm_up: u64,
    /// How the learning rate changes from epoch to epoch.
    pub schedule: Schedule,
}

impl Default for Train {
    fn default() -> Self {
        Self {
            epochs: 10,
            patience: 0,
            batch_size: 64,
            shuffle: true,
            keep_best: false,
            warm_up: 0,
            schedule: Schedule::default(),
        }
    }
}

/// Which part of the training images is held back for validation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Validation {
    /// Stratified parts the training images are cut into; 0 = no validation.
    pub folds: usize,
    /// The part held back: of every class, its `fold`-th share in file order.
    pub fold: usize,
}

impl Recipe {
    /// The largest seed: whole numbers of TOML have 63 bits.
    pub const LAST_SEED: u64 = i64::MAX as u64;

    /// Reads a recipe from `text`; `name` stands in messages. `variant` picks one of the recipe's
    /// variants and `sets` are overrides `table.key=value`, applied in order.
    ///
    /// # Errors
    ///
    /// Unknown keys, wrong types and values out of range, with place and allowed values.
    pub fn parse(name: &str, text: &str, variant: Option<&str>, sets: &[String]) -> Result<Recipe> {
        let mut doc: DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| {
            located(name, text, e.span(), format!("not valid TOML: {}", e.message()), "")
        })?;
        let variants = doc.remove("variants");
        if let Some(wanted) = variant {
            let table = variants.as_ref().and_then(Item::as_table_like);
            let Some(chosen) = table.and_then(|t| t.get(wanted)).and_then(Item::as_table_like)
            else {
                let known: Vec<&str> =
                    table.map(|t| t.iter().map(|(k, _)| k).collect()).unwrap_or_default();
                return Err(Error::recipe(format!(
                    "{name} has no variant {wanted:?}; it has: {}",
                    if known.is_empty() { "none".into() } else { known.join(", ") }
                )));
            };
            merge(doc.as_table_mut(), chosen, "");
        }
        for set in sets {
            let over = parse_override(set)?;
            merge(doc.as_table_mut(), over.as_table(), "");
        }
        let (name, text) = if variant.is_none() && sets.is_empty() {
            (name.to_owned(), text.to_owned())
        } else {
            (format!("{name} (with variant and overrides)"), doc.to_string())
        };
        let recipe: Recipe = match without_variants(&text) {
            Ok(t) => t,
            Err(e) => {
                return Err(located(&name, &text, e.span(), e.message().to_owned(), ""));
            }
        };
        match recipe.check().found.into_iter().next() {
            None => Ok(recipe),
            Some(invalid) => Err(out_of_range(&name, &text, &invalid)),
        }
    }

    /// Names of the variants in a recipe's text, in file order.
    pub fn variants(text: &str) -> Vec<String> {
        let doc: Option<DocumentMut> = text.parse().ok();
        doc.as_ref()
            .and_then(|d| d.get("variants"))
            .and_then(Item::as_table_like)
            .map(|t| t.iter().map(|(k, _)| k.to_owned()).collect())
            .unwrap_or_default()
    }

    /// The first sentence of the comment that a recipe's text begins with, without its full stop;
    /// empty if it begins with none.
    pub fn about(text: &str) -> String {
        let lines = text.lines().map_while(|line| line.strip_prefix('#'));
        let words: Vec<&str> = lines.map(str::trim).take_while(|line| !line.is_empty()).collect();
        let paragraph = words.join(" ");
        let sentence = paragraph.split_once(". ").map_or(paragraph.as_str(), |(first, _)| first);
        sentence.trim_end_matches('.').to_owned()
    }

    /// What is wrong with the values.
    pub fn check(&self) -> Checks {
        let mut checks = Checks::default();
        let allowed = format!("at most {}", Self::LAST_SEED);
        checks.that(self.seed <= Self::LAST_SEED, "seed", self.seed, &allowed);
        checks.nest(&format!("data.{}", self.data.name()), self.data.check());
        checks.nest(&format!("encode.{}", self.encode.name()), self.encode.check());
        checks.nest(&format!("method.{}", self.method.card().name), self.method.check());
        let (gives, reads) = (self.encode.notation(), self.method.card().reads);
        let names: Vec<&str> = reads.iter().map(|n| n.name()).collect();
        let allowed = format!("an encoder that gives {}", names.join(" or "));
        checks.that(reads.contains(&gives), "encode", self.encode.name(), &allowed);
        let t = &self.train;
        checks.that(t.epochs <= 1_000_000, "train.epochs", t.epochs, "at most 1000000");
        checks.count("train.batch_size", t.batch_size, 1, 1 << 20);
        checks.that(t.warm_up <= 1_000_000, "train.warm_up", t.warm_up, "at most 1000000");
        checks.nest("train.schedule", t.schedule.check());
        let v = &self.validation;
        checks.that(
            v.folds != 1 && v.folds <= 1000,
            "validation.folds",
            v.folds,
            "0 (no validation) or a whole number from 2 to 1000",
        );
        let allowed = format!("a whole number below {} (folds)", v.folds.max(1));
        checks.that(v.fold < v.folds.max(1), "validation.fold", v.fold, &allowed);
        let can_choose = v.folds > 0;
        let allowed = "0 without validation (validation.folds = 0)";
        checks.that(t.patience == 0 || can_choose, "train.patience", t.patience, allowed);
        let allowed = "false without validation (validation.folds = 0)";
        checks.that(!t.keep_best || can_choose, "train.keep_best", t.keep_best, allowed);
        checks
    }

    /// The complete recipe as TOML, defaults filled in.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("a recipe is TOML")
    }
}

/// Parses `text` as a recipe; a top-level `variants` table is no unknown key.
fn without_variants(text: &str) -> Result<Recipe, toml::de::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct WithVariants {
        #[serde(default)]
        seed: u64,
        data: Data,
        #[serde(default)]
        encode: Encoder,
        method: Method,
        #[serde(default)]
        train: Train,
        #[serde(default)]
        validation: Validation,
        #[serde(default, rename = "variants")]
        _variants: Option<toml::Table>,
    }
    let r: WithVariants = toml::from_str(text)?;
    Ok(Recipe {
        seed: r.seed,
        data: r.data,
        encode: r.encode,
        method: r.method,
        train: r.train,
        validation: r.validation,
    })
}

/// `table.key=value` as a document; a value that is no TOML is taken as a string.
fn parse_override(set: &str) -> Result<DocumentMut> {
    let wrong = || Error::recipe(format!("--set {set:?} is not of the form table.key=value"));
    let (path, value) = set.split_once('=').ok_or_else(wrong)?;
    let (path, value) = (path.trim(), value.trim());
    let quoted = format!("{value:?}");
    [value, &quoted]
        .iter()
        .find_map(|v| format!("{path} = {v}\n").parse::<DocumentMut>().ok())
        .ok_or_else(wrong)
}

/// Tables whose one key is a choice.
const CHOICES: [&str; 4] = ["data", "encode", "method", "train.schedule"];
/// The same inside a method's table.
const METHOD_CHOICES: [&str; 5] = ["network", "norm", "optimizer", "loss", "slope"];

/// Whether the one key of the table at `path` is a choice.
fn is_choice(path: &str) -> bool {
    let name = path.rsplit('.').next().unwrap_or_default();
    CHOICES.contains(&path) || path.starts_with("method.") && METHOD_CHOICES.contains(&name)
}

/// Puts `over` on top of `base`, the table at `path`. Where the key is a choice, another choice
/// replaces the one that stands there. Inline tables become tables of their own.
fn merge(base: &mut Table, over: &dyn TableLike, path: &str) {
    for (key, item) in over.iter() {
        let Some(inner) = item.as_table_like() else {
            base.insert(key, item.clone());
            continue;
        };
        let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        let is_choice = is_choice(&path);
        let old = base.entry(key).or_insert(Item::None);
        *old = Item::Table(std::mem::take(old).into_table().unwrap_or_default());
        let table = old.as_table_mut().expect("just made a table");
        if is_choice && inner.iter().any(|(k, _)| !table.contains_key(k)) {
            table.clear();
        }
        // An empty table is a choice with its defaults; only one that holds tables alone is implied.
        table.set_implicit(!inner.is_empty() && inner.iter().all(|(_, i)| i.is_table_like()));
        merge(table, inner, &path);
    }
}

fn out_of_range(name: &str, text: &str, invalid: &Invalid) -> Error {
    let message = format!("{} = {}: allowed is {}", invalid.field, invalid.value, invalid.allowed);
    let span = toml_edit::Document::parse(text).ok().and_then(|doc| {
        let mut item = doc.as_item();
        for part in invalid.field.split('.') {
            item = item.get(part)?;
        }
        item.span()
    });
    located(name, text, span, message, &invalid.allowed)
}

fn located(
    name: &str,
    text: &str,
    span: Option<std::ops::Range<usize>>,
    message: String,
    help: &str,
) -> Error {
    let Some(span) = span else { return Error::recipe(format!("{name}: {message}")) };
    let line = 1 + text[..span.start.min(text.len())].matches('\n').count();
    let (name, text, help) = (name.to_owned(), text.to_owned(), help.to_owned());
    Error::recipe(format!("{name}:{line}: {}", message.trim())).with_excerpt(Excerpt {
        name,
        text,
        span,
        help,
    })
}

/// A recipe that comes with the program.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn {
    /// Name on the command line.
    pub name: &'static str,
    /// The recipe's text.
    pub text: &'static str,
}

macro_rules! built_in {
    ($($name:literal)*) => {
        &[$(BuiltIn { name: $name, text: include_str!(concat!("../../../recipes/", $name, ".toml")) },)*]
    };
}

/// Every recipe that comes with the program; the first is the default.
pub const BUILT_IN: &[BuiltIn] = built_in! {
    "s2stdp-digits"
    "s2stdp-mnist"
    "s2stdp-fashion-mnist"
    "s2stdp-cifar10"
    "s2stdp-softhebb-mnist"
    "s2stdp-softhebb-fashion-mnist"
    "s2stdp-softhebb-cifar10"
    "bptt-digits"
    "bptt-mnist"
    "bptt-fashion-mnist"
    "bptt-n-mnist"
    "bptt-cifar10"
    "stidi-bp-digits"
    "stidi-bp-mnist"
    "stidi-bp-fashion-mnist"
    "stidi-bp-mnist-shifted"
    "ltmd-digits"
    "ltmd-mnist"
    "ltmd-cifar10"
    "rate-bp-digits"
    "rate-bp-mnist"
    "rate-bp-fashion-mnist"
    "rate-bp-n-mnist"
    "rate-bp-cifar10"
    "tebn-digits"
    "tebn-mnist"
    "tebn-fashion-mnist"
    "tebn-n-mnist"
    "tebn-cifar10"
    "event-stdp-digits"
    "event-stdp-mnist"
    "event-stdp-natural"
    "temporal-autoencoder-digits"
    "temporal-autoencoder-mnist"
    "temporal-autoencoder-fashion-mnist"
    "temporal-autoencoder-classifier"
    "time-losses-digits"
    "time-losses-mnist"
    "time-losses-fashion-mnist"
    "time-losses-n-mnist"
    "time-losses-cifar10"
    "sleep-stdp-digits"
    "sleep-stdp-mnist"
    "sleep-stdp-fashion-mnist"
    "sleep-surrogate-mnist"
    "sleep-surrogate-fashion-mnist"
};

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "seed = 3\n[data.mnist-mini]\n[encode.latency]\n[method.s2stdp]\n\
        threshold = 20.0\n[train]\nepochs = 2\n[variants.pcn.method.s2stdp]\n\
        neurons_per_class = 2\n[variants.other.data.mnist]\n";

    fn parse(text: &str, variant: Option<&str>, sets: &[&str]) -> Result<Recipe> {
        let sets: Vec<String> = sets.iter().map(|s| (*s).to_string()).collect();
        Recipe::parse("r.toml", text, variant, &sets)
    }

    #[test]
    fn a_recipe_and_its_complete_copy_are_equal() {
        let recipe = parse(TEXT, None, &[]).unwrap();
        assert_eq!((recipe.seed, recipe.train.epochs), (3, 2));
        assert_eq!(parse(&recipe.to_toml(), None, &[]).unwrap(), recipe);
    }

    #[test]
    fn variants_and_overrides_are_merged() {
        let merged = parse(TEXT, Some("pcn"), &[]).unwrap().to_toml();
        assert!(merged.contains("neurons_per_class = 2") && merged.contains("threshold = 20.0"));
        assert_eq!(parse(TEXT, Some("other"), &[]).unwrap().data.name(), "mnist");
        let recipe =
            parse(TEXT, None, &["train.epochs=7", "seed=9", "validation.folds=5"]).unwrap();
        assert_eq!((recipe.train.epochs, recipe.seed, recipe.validation.folds), (7, 9, 5));
        let sets = ["train.schedule.cosine.floor=0.1", "train.schedule.exponential.decay=0.5"];
        let schedule = parse(TEXT, None, &sets).unwrap().train.schedule;
        assert_eq!(schedule, Schedule::Exponential { decay: 0.5 });
        let text = "[data.mnist-mini]\n[method.tebn.network.small-conv]\n";
        let sets = ["method.tebn.network.vgg-9.dropout=0.5", "method.tebn.n_steps=2"];
        let merged = parse(text, None, &sets).unwrap().to_toml();
        assert!(merged.contains("vgg-9") && !merged.contains("small-conv"), "{merged}");
        let message = parse(TEXT, Some("x"), &[]).unwrap_err().to_string();
        assert_eq!(message, "r.toml has no variant \"x\"; it has: pcn, other");
        assert!(
            parse(TEXT, None, &["epochs"]).unwrap_err().to_string().contains("table.key=value")
        );
    }

    #[test]
    fn inline_tables_are_merged_like_any_other() {
        let text = "train = { epochs = 5, batch_size = 8, \
            schedule.step = { epochs = [3], factor = 0.5 } }\n\
            data = { mnist-mini = { n_train = 50 } }\nencode.latency = {}\n\
            method.s2stdp = { threshold = 20.0 }\n\
            variants = { pcn = { method = { s2stdp = { neurons_per_class = 2 } } } }\n";
        let plain = "[train]\nepochs = 7\nbatch_size = 8\n[train.schedule.step]\nepochs = [3]\n\
            factor = 0.25\n[data.mnist-mini]\nn_train = 50\nn_test = 9\n\
            [encode.latency]\n[method.s2stdp]\nthreshold = 20.0\nneurons_per_class = 2\n";
        let sets =
            ["train.epochs=7", "data.mnist-mini.n_test=9", "train.schedule.step.factor=0.25"];
        let merged = parse(text, Some("pcn"), &sets).unwrap();
        assert_eq!(merged, parse(plain, None, &[]).unwrap());
        assert_eq!(parse(text, None, &["data.mnist.n_test=9"]).unwrap().data.name(), "mnist");
        let error = parse(text, None, &["train.batch_size=0"]).unwrap_err();
        let excerpt = error.excerpt().unwrap();
        assert_eq!(&excerpt.text[excerpt.span.clone()], "0");
        let line = excerpt.text[..excerpt.span.start].lines().last().unwrap();
        assert_eq!(line.trim(), "batch_size =");
    }

    #[test]
    fn neurons_are_the_method_s_where_nothing_is_written() {
        for method in ["bptt", "tebn", "ltmd", "rate-bp"] {
            let text = format!("[data.mnist-mini]\n[method.{method}.network.small-conv]\n");
            let decay = format!("method.{method}.neuron.decay=0.375");
            let (whole, one) = (parse(&text, None, &[]).unwrap(), parse(&text, None, &[&decay]));
            let (whole, one) = (whole.to_toml(), one.unwrap().to_toml());
            let differ: Vec<_> = whole.lines().zip(one.lines()).filter(|(a, b)| a != b).collect();
            assert!(matches!(differ[..], [(_, "decay = 0.375")]), "{differ:?}");
            let unknown = format!("method.{method}.neuron.decai=0.375");
            let message = parse(&text, None, &[&unknown]).unwrap_err().to_string();
            assert!(message.contains("unknown field `decai`"), "{message}");
        }
    }

    #[test]
    fn errors_name_line_and_allowed_values() {
        let wrong = TEXT.replace("threshold = 20.0", "treshold = 20.0");
        let error = parse(&wrong, None, &[]).unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with("r.toml:5: unknown field `treshold`"), "{message}");
        assert!(message.contains("`threshold`"), "{message}");
        let wrong = TEXT.replace("epochs = 2", "epochs = 2\nbatch_size = 0");
        let error = parse(&wrong, None, &[]).unwrap_err();
        let excerpt = error.excerpt().unwrap();
        assert_eq!(&excerpt.text[excerpt.span.clone()], "0");
        assert!(
            error.to_string().contains("train.batch_size = 0: allowed is a whole number from 1")
        );
    }

    #[test]
    fn a_recipe_says_what_it_is_about() {
        let text = "# One layer\n# on digits. More.\n#\n# Source.\nseed = 0";
        assert_eq!(Recipe::about(text), "One layer on digits");
        assert_eq!(Recipe::about("# T = 0.5 steps,\n# no more.\n\n# x"), "T = 0.5 steps, no more");
        assert_eq!(Recipe::about("seed = 0\n# x"), "");
    }

    #[test]
    fn every_built_in_recipe_and_variant_is_valid() {
        for built_in in BUILT_IN {
            Recipe::parse(built_in.name, built_in.text, None, &[]).unwrap();
            assert!(Recipe::about(built_in.text).len() > 20, "{}", built_in.name);
            for variant in Recipe::variants(built_in.text) {
                Recipe::parse(built_in.name, built_in.text, Some(&variant), &[]).unwrap();
            }
        }
    }
}
