//! The data sets a recipe can name: what they are, their licence, where they come from.
//!
//! Addresses and checksums are those of the publishers.

use super::fetch::{Download, Remote};

/// A data set.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Name in recipes.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Its licence.
    pub licence: &'static str,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a data set comes from.
#[derive(Clone, Copy, Debug)]
pub enum Origin {
    /// It is part of the program.
    Bundled,
    /// It can be downloaded.
    Download(Download),
    /// It has to be obtained by hand, as the text says.
    ByHand(&'static str),
    /// It is the user's own.
    Own,
}

/// The entry called `name`.
pub fn find(name: &str) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|e| e.name == name)
}

/// Every data set.
pub const CATALOGUE: &[Entry] = &[
    Entry {
        name: "mnist-mini",
        about: "500 + 100 digits of every class of MNIST, 28×28",
        licence: "CC BY-SA 3.0",
        origin: Origin::Bundled,
    },
    Entry {
        name: "mnist",
        about: "handwritten digits, 60,000 + 10,000 grey images of 28×28",
        licence: "CC BY-SA 3.0",
        origin: Origin::Download(MNIST),
    },
    Entry {
        name: "fashion-mnist",
        about: "articles of clothing, 60,000 + 10,000 grey images of 28×28",
        licence: "MIT",
        origin: Origin::Download(FASHION_MNIST),
    },
    Entry {
        name: "cifar10",
        about: "photographs of ten kinds of object, 50,000 + 10,000 colour images of 32×32",
        licence: "none stated, for research; not to be redistributed",
        origin: Origin::Download(CIFAR10),
    },
    Entry {
        name: "n-mnist",
        about: "MNIST's digits as events of a moving camera, 60,000 + 10,000 recordings of 34×34",
        licence: "CC BY-SA 4.0",
        origin: Origin::ByHand(
            "Train.zip and Test.zip in n-mnist (https://www.garrickorchard.com/datasets/n-mnist), as they are or unpacked",
        ),
    },
    Entry {
        name: "natural",
        about: "natural images, grey, 512×512, no labels",
        licence: "olshausen: none stated, not to be redistributed; photos: CC BY 4.0 and CC0",
        origin: Origin::ByHand(
            "PNG files in natural/olshausen (http://www.rctn.org/bruno/sparsenet/) and natural/photos; see docs/data.md",
        ),
    },
    Entry {
        name: "png-folder",
        about: "a folder of PNG images, no labels",
        licence: "yours",
        origin: Origin::Own,
    },
    Entry {
        name: "arrays",
        about: "NumPy arrays (.npz, .npy), with or without labels",
        licence: "yours",
        origin: Origin::Own,
    },
];

const MNIST: Download = Download {
    folder: "mnist",
    mirrors: &[
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ],
    files: &[
        Remote {
            name: "train-images-idx3-ubyte.gz",
            n_bytes: 9_912_422,
            sha256: "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        },
        Remote {
            name: "train-labels-idx1-ubyte.gz",
            n_bytes: 28_881,
            sha256: "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        },
        Remote {
            name: "t10k-images-idx3-ubyte.gz",
            n_bytes: 1_648_877,
            sha256: "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        },
        Remote {
            name: "t10k-labels-idx1-ubyte.gz",
            n_bytes: 4_542,
            sha256: "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
    ],
};

const FASHION_MNIST: Download = Download {
    folder: "fashion-mnist",
    mirrors: &[
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ],
    files: &[
        Remote {
            name: "train-images-idx3-ubyte.gz",
            n_bytes: 26_421_880,
            sha256: "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        },
        Remote {
            name: "train-labels-idx1-ubyte.gz",
            n_bytes: 29_515,
            sha256: "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        },
        Remote {
            name: "t10k-images-idx3-ubyte.gz",
            n_bytes: 4_422_102,
            sha256: "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        },
        Remote {
            name: "t10k-labels-idx1-ubyte.gz",
            n_bytes: 5_148,
            sha256: "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
    ],
};

const CIFAR10: Download = Download {
    folder: "cifar10",
    mirrors: &["https://www.cs.toronto.edu/~kriz/"],
    files: &[Remote {
        name: super::cifar::ARCHIVE,
        n_bytes: 170_052_171,
        sha256: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    }],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Data;

    #[test]
    fn every_entry_is_a_data_set_of_that_name() {
        for entry in CATALOGUE {
            let path = matches!(entry.origin, Origin::Own).then(|| "own".into());
            assert_eq!(Data::named(entry.name, path).unwrap().name(), entry.name);
            assert_eq!(find(entry.name).unwrap().about, entry.about);
        }
    }

    #[test]
    fn addresses_are_folders_and_checksums_whole() {
        for entry in CATALOGUE {
            let Origin::Download(download) = entry.origin else { continue };
            assert!(download.mirrors.iter().all(|m| m.starts_with("http") && m.ends_with('/')));
            for file in download.files {
                assert!(file.sha256.len() == 64 && file.n_bytes > 0, "{}", file.name);
            }
        }
    }
}
