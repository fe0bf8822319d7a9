//! Data sets: files in, [`Dataset`] out. One file per format.

use crate::error::Result;
use crate::spikes::{Images, Shape};
use std::path::PathBuf;

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

#[allow(dead_code)]
fn _keep(_: Result<()>) {}
