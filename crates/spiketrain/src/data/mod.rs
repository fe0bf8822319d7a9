//! Data sets: files in, [`Dataset`] out. One file per format.

pub mod cifar;
pub mod idx;

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
}

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
    /// Name in recipes.
    pub fn name(&self) -> &'static str {
        match self {
            Data::MnistMini(_) => "mnist-mini",
            Data::Mnist(_) => "mnist",
            Data::FashionMnist(_) => "fashion-mnist",
            Data::Cifar10(_) => "cifar10",
        }
    }

    fn limits(&self) -> &Limits {
        match self {
            Data::MnistMini(l) | Data::Mnist(l) | Data::FashionMnist(l) | Data::Cifar10(l) => l,
        }
    }

    /// What is wrong with the values.
    pub fn check(&self) -> Checks {
        let mut checks = Checks::default();
        let l = self.limits();
        for (field, n) in [("n_train", l.n_train), ("n_test", l.n_test)] {
            checks.that(n != Some(0), field, 0, "a whole number above 0");
        }
        checks
    }

    /// Reads the data set.
    ///
    /// # Errors
    ///
    /// If files are missing or damaged; names file, what was expected and what was found.
    pub fn load(&self, dirs: &DataDirs) -> Result<Dataset> {
        let digits = || (0..10).map(|d| d.to_string()).collect::<Vec<_>>();
        let named = |names: [&str; 10]| names.map(str::to_owned).to_vec();
        let (classes, train, test) = match self {
            Data::MnistMini(_) => {
                let bytes = MINI.map(<[u8]>::to_vec);
                let names = IDX_FILES.map(|n| format!("bundled {n}.gz"));
                let (train, test) = idx_splits(&names, &bytes)?;
                (digits(), train, test)
            }
            Data::Mnist(_) => {
                let (train, test) = idx_folder(&dirs.root, "mnist", &["MNIST/raw"])?;
                (digits(), train, test)
            }
            Data::FashionMnist(_) => {
                let (train, test) = idx_folder(&dirs.root, "fashion-mnist", &["FashionMNIST/raw"])?;
                (named(FASHION), train, test)
            }
            Data::Cifar10(_) => {
                let (train, test) = cifar_folder(&dirs.root)?;
                (named(CIFAR), train, test)
            }
        };
        let l = self.limits();
        let (train, test) = (first(train, l.n_train), first(test, l.n_test));
        Ok(Dataset { name: self.name().into(), shape: train.images.shape, classes, train, test })
    }
}

fn first(split: Split, n: Option<usize>) -> Split {
    let Some(n) = n.filter(|&n| n < split.images.len()) else { return split };
    let rows: Vec<usize> = (0..n).collect();
    Split { images: split.images.select(&rows), labels: split.labels[..n].to_vec() }
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
