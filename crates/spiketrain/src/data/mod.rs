//! Data sets: files in, [`Dataset`] out. One file per format.

pub mod arrays;
pub mod catalogue;
pub mod cifar;
pub mod fetch;
pub mod idx;
pub mod n_mnist;
pub mod natural;
mod npy;
pub mod png;

use crate::check::Checks;
use crate::error::{Error, Result};
use crate::seed::{Seed, Stream};
use crate::spikes::{Images, Shape};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One half of a data set.
#[derive(Clone, Debug)]
pub struct Split {
    /// The samples.
    pub images: Images,
    /// One label per sample, `0..n_classes`; empty for data without labels.
    pub labels: Vec<u16>,
}

/// A data set as it was read: images and labels, untouched.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Name in recipes.
    pub name: String,
    /// Shape of one sample.
    pub shape: Shape,
    /// Names of the classes in label order; empty for data without labels.
    pub classes: Vec<String>,
    /// For learning (and, by the recipe's choice, validation).
    pub train: Split,
    /// For the final figure only; may be empty.
    pub test: Split,
}

/// Where data sets are looked for.
#[derive(Clone, Debug)]
pub struct DataDirs {
    /// The folder given by the user, or the user's cache folder.
    pub root: PathBuf,
}

impl DataDirs {
    /// The folder `explicit`, or the program's part of the user's cache folder.
    pub fn new(explicit: Option<PathBuf>) -> Self {
        let cache = || directories::ProjectDirs::from("", "", "spiketrain");
        let root = explicit
            .or_else(|| cache().map(|d| d.cache_dir().join("data")))
            .unwrap_or_else(|| PathBuf::from("data"));
        Self { root }
    }
}

/// How much of a data set to take.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Only the first so many training samples; all if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_train: Option<usize>,
    /// Only the first so many test samples; all if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_test: Option<usize>,
    /// Seed of a random choice: each split is shuffled with it before its first samples are
    /// taken. In file order if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draw: Option<u64>,
}

impl Limits {
    fn check(&self) -> Checks {
        let mut checks = Checks::default();
        for (field, n) in [("n_train", self.n_train), ("n_test", self.n_test)] {
            checks.that(n != Some(0), field, 0, "a whole number above 0");
        }
        checks
    }
}

/// The data sets a recipe can name: `[data.mnist]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Data {
    /// Arrays of one's own in NumPy's formats.
    Arrays(arrays::Params),
    /// 500 training and 100 test digits of every class of MNIST, bundled with the program.
    MnistMini(Limits),
    /// MNIST handwritten digits (LeCun, Cortes, Burges), 60,000 + 10,000 of 28×28.
    Mnist(Limits),
    /// Fashion-MNIST (Xiao, Rasul, Vollgraf 2017), 60,000 + 10,000 of 28×28.
    FashionMnist(Limits),
    /// CIFAR-10 (Krizhevsky 2009), 50,000 + 10,000 of 3×32×32.
    Cifar10(Limits),
    /// Digits as events of a moving camera (Orchard and others 2015), 60,000 + 10,000 of 34×34.
    NMnist(n_mnist::Params),
    /// Natural images (Olshausen and Field 1996, and photographs), grey, 512×512, no labels.
    Natural(natural::Params),
    /// A folder of PNG images of one's own, no labels.
    PngFolder(png::Params),
}

const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
const FASHION: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

impl Data {
    /// The data set called `name` with its default settings; `path` is for data of one's own.
    ///
    /// # Errors
    ///
    /// If there is no data set of that name, or a path is missing or superfluous.
    pub fn named(name: &str, path: Option<PathBuf>) -> Result<Data> {
        let with_path = |path: Option<PathBuf>| {
            path.ok_or_else(|| Error::recipe(format!("the data set {name} needs a path")))
        };
        if let Some(path) = path.as_ref().filter(|_| !matches!(name, "arrays" | "png-folder")) {
            let path = path.display();
            return Err(Error::recipe(format!("the data set {name} takes no path, found {path}")));
        }
        match name {
            "arrays" => Ok(Data::Arrays(arrays::Params::of(with_path(path)?))),
            "mnist-mini" => Ok(Data::MnistMini(Limits::default())),
            "mnist" => Ok(Data::Mnist(Limits::default())),
            "fashion-mnist" => Ok(Data::FashionMnist(Limits::default())),
            "cifar10" => Ok(Data::Cifar10(Limits::default())),
            "n-mnist" => Ok(Data::NMnist(n_mnist::Params::default())),
            "natural" => Ok(Data::Natural(natural::Params::default())),
            "png-folder" => {
                Ok(Data::PngFolder(png::Params { path: with_path(path)?, test_every: 0 }))
            }
            _ => {
                let known: Vec<&str> = catalogue::CATALOGUE.iter().map(|e| e.name).collect();
                Err(Error::recipe(format!("no data set {name:?}: allowed is {}", known.join(", "))))
            }
        }
    }

    /// Name in recipes.
    pub fn name(&self) -> &'static str {
        match self {
            Data::Arrays(_) => "arrays",
            Data::MnistMini(_) => "mnist-mini",
            Data::Mnist(_) => "mnist",
            Data::FashionMnist(_) => "fashion-mnist",
            Data::Cifar10(_) => "cifar10",
            Data::NMnist(_) => "n-mnist",
            Data::Natural(_) => "natural",
            Data::PngFolder(_) => "png-folder",
        }
    }

    /// What is wrong with the values.
    pub fn check(&self) -> Checks {
        match self {
            Data::MnistMini(l) | Data::Mnist(l) | Data::FashionMnist(l) | Data::Cifar10(l) => {
                l.check()
            }
            Data::Arrays(p) => p.check(),
            Data::NMnist(p) => p.check(),
            Data::Natural(p) => p.check(),
            Data::PngFolder(p) => p.check(),
        }
    }

    /// Reads the data set.
    ///
    /// # Errors
    ///
    /// If files are missing or damaged; names file, what was expected and what was found.
    pub fn load(&self, dirs: &DataDirs) -> Result<Dataset> {
        let root = &dirs.root;
        match self {
            Data::Arrays(p) => p.load(root),
            Data::MnistMini(l) => Ok(self.labelled(&DIGITS, l, idx::bundled()?)),
            Data::Mnist(l) => {
                let folder = folder(root, "mnist", &["MNIST/raw"])?;
                Ok(self.labelled(&DIGITS, l, idx::read_folder(&folder)?))
            }
            Data::FashionMnist(l) => {
                let folder = folder(root, "fashion-mnist", &["FashionMNIST/raw"])?;
                Ok(self.labelled(&FASHION, l, idx::read_folder(&folder)?))
            }
            Data::Cifar10(l) => {
                Ok(self.labelled(&cifar::CLASSES, l, cifar::whole(cifar::load(root)?)?))
            }
            Data::NMnist(p) => Ok(self.labelled(&DIGITS, &p.limits(), p.read(root)?)),
            Data::Natural(p) => p.load(root),
            Data::PngFolder(p) => p.load(root),
        }
    }

    fn labelled(&self, classes: &[&str], limits: &Limits, splits: (Split, Split)) -> Dataset {
        let stream = |split| limits.draw.map(|seed| Seed(seed).stream("data.draw", split));
        let train = taken(splits.0, limits.n_train, stream(0));
        let test = taken(splits.1, limits.n_test, stream(1));
        let classes = classes.iter().map(|&c| c.to_owned()).collect();
        Dataset { name: self.name().into(), shape: train.images.shape, classes, train, test }
    }
}

/// The first `n` samples of a split, in file order or in the order that `draw` gives.
fn taken(split: Split, n: Option<usize>, draw: Option<Stream>) -> Split {
    let n_all = split.images.len();
    let n = n.unwrap_or(n_all).min(n_all);
    if n == n_all && draw.is_none() {
        return split;
    }
    let mut rows: Vec<usize> = (0..n_all).collect();
    if let Some(mut stream) = draw {
        stream.shuffle(&mut rows);
    }
    rows.truncate(n);
    let labels = rows.iter().filter_map(|&r| split.labels.get(r).copied()).collect();
    Split { images: split.images.select(&rows), labels }
}

/// As many labels as images.
fn check_counts(images: &str, n_images: usize, labels: &str, n_labels: usize) -> Result<()> {
    if n_images == n_labels {
        return Ok(());
    }
    Err(Error::data(format!(
        "{images} holds {n_images} images, {labels} holds {n_labels} labels; expected as many"
    )))
}

/// Training and test images of one shape.
fn check_shapes(train: &str, found: Shape, test: &str, other: Shape) -> Result<()> {
    if found == other {
        return Ok(());
    }
    Err(Error::data(format!(
        "{train} holds images of {found}, {test} of {other}; expected one shape"
    )))
}

/// The first of the usual folders that holds something, or else that exists.
fn folder(root: &Path, name: &str, others: &[&str]) -> Result<PathBuf> {
    let places: Vec<PathBuf> =
        std::iter::once(name).chain(others.iter().copied()).map(|n| root.join(n)).collect();
    let is_full = |p: &Path| std::fs::read_dir(p).is_ok_and(|mut d| d.next().is_some());
    let found = places.iter().find(|p| is_full(p)).or_else(|| places.iter().find(|p| p.is_dir()));
    found.cloned().ok_or_else(|| {
        let list: Vec<String> = places.iter().map(|p| p.display().to_string()).collect();
        Error::data(format!(
            "no folder with {name}: looked for {}; name the data folder with --data-dir or SPIKETRAIN_DATA{}",
            list.join(", "),
            how_to_obtain(name)
        ))
    })
}

/// What to do about a data set that is not there, as the end of a message.
fn how_to_obtain(name: &str) -> String {
    match catalogue::find(name).map(|e| e.origin) {
        Some(catalogue::Origin::Download(_)) => {
            format!(", or download it with `spiketrain data fetch {name}`")
        }
        Some(catalogue::Origin::ByHand(how)) => format!(", or obtain it by hand: {how}"),
        _ => String::new(),
    }
}

/// A file or folder of the user's own: an absolute `path`, or one below the data folder, or one
/// below the working folder. `is_there` tells which kind is wanted, `kind` is its word.
fn own_path(root: &Path, path: &Path, is_there: fn(&Path) -> bool, kind: &str) -> Result<PathBuf> {
    let places = [root.join(path), path.to_path_buf()];
    places.iter().find(|p| is_there(p)).cloned().ok_or_else(|| {
        let list: Vec<String> = places.iter().map(|p| p.display().to_string()).collect();
        let list = if path.is_absolute() { list[1].clone() } else { list.join(" and ") };
        Error::data(format!("no {kind} {}: looked for {list}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_folder_does_not_hide_another() {
        let root = tempfile::tempdir().unwrap();
        let (own, other) = (root.path().join("mnist"), root.path().join("MNIST/raw"));
        let found = || folder(root.path(), "mnist", &["MNIST/raw"]);
        assert!(found().unwrap_err().to_string().contains("looked for"));
        std::fs::create_dir(&own).unwrap();
        assert_eq!(found().unwrap(), own);
        std::fs::create_dir_all(&other).unwrap();
        std::fs::write(other.join("x"), "x").unwrap();
        assert_eq!(found().unwrap(), other);
        std::fs::write(own.join("x"), "x").unwrap();
        assert_eq!(found().unwrap(), own);
    }

    #[test]
    fn the_bundled_digits_are_balanced() {
        let dirs = DataDirs { root: "nowhere".into() };
        let data = Data::MnistMini(Limits::default()).load(&dirs).unwrap();
        assert_eq!((data.shape, data.classes.len()), (Shape::new(1, 28, 28), 10));
        for (split, n) in [(&data.train, 500), (&data.test, 100)] {
            for class in 0..10 {
                assert_eq!(split.labels.iter().filter(|&&l| l == class).count(), n);
            }
        }
        let some = Limits { n_train: Some(7), ..Limits::default() };
        assert_eq!(Data::MnistMini(some).load(&dirs).unwrap().train.images.len(), 7);
    }

    #[test]
    fn a_draw_is_a_choice_by_its_seed() {
        let dirs = DataDirs { root: "nowhere".into() };
        let load = |draw, n_train| {
            let limits = Limits { n_train, n_test: Some(9), draw };
            Data::MnistMini(limits).load(&dirs).unwrap()
        };
        let (all, whole) = (load(None, None), load(Some(1), None));
        assert_ne!(all.train.labels, whole.train.labels);
        let sorted = |mut labels: Vec<u16>| {
            labels.sort_unstable();
            labels
        };
        assert_eq!(sorted(all.train.labels), sorted(whole.train.labels.clone()));
        let some = load(Some(1), Some(50));
        assert_eq!(some.train.labels, whole.train.labels[..50]);
        assert_eq!((some.train.images.len(), some.test.labels.len()), (50, 9));
        assert_ne!(load(Some(2), Some(50)).train.labels, some.train.labels);
    }

    #[test]
    fn absent_folders_and_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = DataDirs { root: dir.path().into() };
        let message = |d: Data| d.load(&dirs).unwrap_err().to_string();
        let absent = message(Data::Mnist(Limits::default()));
        assert!(absent.contains("MNIST/raw") && absent.contains("data fetch mnist"), "{absent}");
        std::fs::create_dir(dir.path().join("mnist")).unwrap();
        let missing = message(Data::Mnist(Limits::default()));
        assert!(missing.contains("train-images-idx3-ubyte.gz is missing"), "{missing}");
        std::fs::create_dir(dir.path().join("cifar10")).unwrap();
        assert!(message(Data::Cifar10(Limits::default())).contains("data_batch_1.bin is missing"));
    }
}
