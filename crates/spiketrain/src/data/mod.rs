//! Data sets: files in, [`Dataset`] out. One file per format.

pub mod cifar;
pub mod idx;
pub mod natural;
pub mod png;

use crate::check::Checks;
use crate::error::{Error, Result};
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
    /// 500 training and 100 test digits of every class of MNIST, bundled with the program.
    MnistMini(Limits),
    /// MNIST handwritten digits (LeCun, Cortes, Burges), 60,000 + 10,000 of 28×28.
    Mnist(Limits),
    /// Fashion-MNIST (Xiao, Rasul, Vollgraf 2017), 60,000 + 10,000 of 28×28.
    FashionMnist(Limits),
    /// CIFAR-10 (Krizhevsky 2009), 50,000 + 10,000 of 3×32×32.
    Cifar10(Limits),
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
const CIFAR: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
const IDX_FILES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];
const MINI: [&[u8]; 4] = [
    include_bytes!("bundled/train-images-idx3-ubyte.gz"),
    include_bytes!("bundled/train-labels-idx1-ubyte.gz"),
    include_bytes!("bundled/t10k-images-idx3-ubyte.gz"),
    include_bytes!("bundled/t10k-labels-idx1-ubyte.gz"),
];

impl Data {
    /// Names of all data sets, with what they are.
    pub const ALL: &'static [(&'static str, &'static str)] = &[
        ("mnist-mini", "500 + 100 digits of every class of MNIST, bundled with the program"),
        ("mnist", "handwritten digits, 60,000 + 10,000 grey images of 28×28"),
        ("fashion-mnist", "articles of clothing, 60,000 + 10,000 grey images of 28×28"),
        ("cifar10", "photographs of ten kinds of object, 50,000 + 10,000 colour images of 32×32"),
        ("natural", "natural images, grey, 512×512, no labels"),
        ("png-folder", "PNG images of your own, no labels"),
    ];

    /// The data set called `name` with its default settings; `path` is for data of one's own.
    ///
    /// # Errors
    ///
    /// If there is no data set of that name, or a path is missing or superfluous.
    pub fn named(name: &str, path: Option<PathBuf>) -> Result<Data> {
        let with_path = |path: Option<PathBuf>| {
            path.ok_or_else(|| Error::recipe(format!("the data set {name} needs a path")))
        };
        if let Some(path) = path.as_ref().filter(|_| name != "png-folder") {
            let path = path.display();
            return Err(Error::recipe(format!("the data set {name} takes no path, found {path}")));
        }
        match name {
            "mnist-mini" => Ok(Data::MnistMini(Limits::default())),
            "mnist" => Ok(Data::Mnist(Limits::default())),
            "fashion-mnist" => Ok(Data::FashionMnist(Limits::default())),
            "cifar10" => Ok(Data::Cifar10(Limits::default())),
            "natural" => Ok(Data::Natural(natural::Params::default())),
            "png-folder" => {
                Ok(Data::PngFolder(png::Params { path: with_path(path)?, test_every: 0 }))
            }
            _ => {
                let known: Vec<&str> = Self::ALL.iter().map(|(name, _)| *name).collect();
                Err(Error::recipe(format!("no data set {name:?}: allowed is {}", known.join(", "))))
            }
        }
    }

    /// Name in recipes.
    pub fn name(&self) -> &'static str {
        match self {
            Data::MnistMini(_) => "mnist-mini",
            Data::Mnist(_) => "mnist",
            Data::FashionMnist(_) => "fashion-mnist",
            Data::Cifar10(_) => "cifar10",
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
            Data::MnistMini(l) => {
                let names = IDX_FILES.map(|n| format!("bundled {n}.gz"));
                Ok(self.labelled(&DIGITS, l, idx_splits(&names, &MINI.map(<[u8]>::to_vec))?))
            }
            Data::Mnist(l) => {
                Ok(self.labelled(&DIGITS, l, idx_folder(root, "mnist", &["MNIST/raw"])?))
            }
            Data::FashionMnist(l) => {
                let splits = idx_folder(root, "fashion-mnist", &["FashionMNIST/raw"])?;
                Ok(self.labelled(&FASHION, l, splits))
            }
            Data::Cifar10(l) => Ok(self.labelled(&CIFAR, l, cifar_folder(root)?)),
            Data::Natural(p) => p.load(root),
            Data::PngFolder(p) => p.load(root),
        }
    }

    fn labelled(&self, classes: &[&str], limits: &Limits, splits: (Split, Split)) -> Dataset {
        let (train, test) = (first(splits.0, limits.n_train), first(splits.1, limits.n_test));
        let classes = classes.iter().map(|&c| c.to_owned()).collect();
        Dataset { name: self.name().into(), shape: train.images.shape, classes, train, test }
    }
}

/// The first `n` samples.
fn first(split: Split, n: Option<usize>) -> Split {
    let Some(n) = n.filter(|&n| n < split.images.len()) else { return split };
    let rows: Vec<usize> = (0..n).collect();
    let labels = split.labels.into_iter().take(n).collect();
    Split { images: split.images.select(&rows), labels }
}

fn idx_splits(names: &[String; 4], bytes: &[Vec<u8>; 4]) -> Result<(Split, Split)> {
    let split = |i: usize| -> Result<Split> {
        let images = idx::read_images(&names[i], &bytes[i])?;
        let labels = idx::read_labels(&names[i + 1], &bytes[i + 1], 10)?;
        if images.len() != labels.len() {
            return Err(Error::data(format!(
                "{} holds {} images, {} holds {} labels",
                names[i],
                images.len(),
                names[i + 1],
                labels.len()
            )));
        }
        Ok(Split { images, labels })
    };
    let (train, test) = (split(0)?, split(2)?);
    if train.images.shape != test.images.shape {
        return Err(Error::data(format!(
            "{} holds {} images, {} holds {} images",
            names[0], train.images.shape, names[2], test.images.shape
        )));
    }
    Ok((train, test))
}

/// The first of the usual folders that exists.
fn folder(root: &Path, name: &str, others: &[&str]) -> Result<PathBuf> {
    let places: Vec<PathBuf> =
        std::iter::once(name).chain(others.iter().copied()).map(|n| root.join(n)).collect();
    places.iter().find(|p| p.is_dir()).cloned().ok_or_else(|| {
        let list: Vec<String> = places.iter().map(|p| p.display().to_string()).collect();
        Error::data(format!(
            "no folder with {name}: looked for {}; name the data folder with --data-dir or SPIKETRAIN_DATA",
            list.join(", ")
        ))
    })
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

fn idx_folder(root: &Path, name: &str, others: &[&str]) -> Result<(Split, Split)> {
    let folder = folder(root, name, others)?;
    let mut names = [const { String::new() }; 4];
    let mut bytes = [const { Vec::new() }; 4];
    for (i, file) in IDX_FILES.iter().enumerate() {
        let paths = [folder.join(format!("{file}.gz")), folder.join(file)];
        let Some(path) = paths.iter().find(|p| p.is_file()) else {
            return Err(Error::data(format!(
                "{} is missing (nor is it there without .gz)",
                paths[0].display()
            )));
        };
        names[i] = path.display().to_string();
        bytes[i] = std::fs::read(path).map_err(|e| Error::io("reading", path, e))?;
    }
    idx_splits(&names, &bytes)
}

fn cifar_folder(root: &Path) -> Result<(Split, Split)> {
    let folder = folder(root, "cifar10", &["cifar-10-batches-bin"])?;
    let read = |files: &[String]| -> Result<Split> {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for file in files {
            let path = folder.join(file);
            if !path.is_file() {
                return Err(Error::data(format!(
                    "{} is missing (a file ending in .xz is unpacked with `xz -dk`)",
                    path.display()
                )));
            }
            let bytes = std::fs::read(&path).map_err(|e| Error::io("reading", &path, e))?;
            cifar::read_records(&path.display().to_string(), &bytes, &mut pixels, &mut labels)?;
        }
        Ok(Split { images: cifar::images(pixels), labels })
    };
    let train: Vec<String> = (1..=5).map(|i| format!("data_batch_{i}.bin")).collect();
    Ok((read(&train)?, read(&["test_batch.bin".into()])?))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let some = Limits { n_train: Some(7), n_test: None };
        assert_eq!(Data::MnistMini(some).load(&dirs).unwrap().train.images.len(), 7);
    }

    #[test]
    fn absent_folders_and_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = DataDirs { root: dir.path().into() };
        let message = |d: Data| d.load(&dirs).unwrap_err().to_string();
        assert!(message(Data::Mnist(Limits::default())).contains("MNIST/raw"));
        std::fs::create_dir(dir.path().join("mnist")).unwrap();
        let missing = message(Data::Mnist(Limits::default()));
        assert!(missing.contains("train-images-idx3-ubyte.gz is missing"), "{missing}");
        std::fs::create_dir(dir.path().join("cifar10")).unwrap();
        assert!(message(Data::Cifar10(Limits::default())).contains("data_batch_1.bin is missing"));
    }

    #[test]
    fn counts_that_differ_are_an_error() {
        let names = IDX_FILES.map(str::to_owned);
        let mut bytes = MINI.map(<[u8]>::to_vec);
        bytes[1] = bytes[3].clone();
        let message = idx_splits(&names, &bytes).unwrap_err().to_string();
        assert!(message.contains("holds 5000 images") && message.contains("1000 labels"));
    }
}
