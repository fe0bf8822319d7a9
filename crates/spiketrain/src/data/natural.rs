//! Natural images: grey photographs of 512×512 pixels in the sub-folders `olshausen` and `photos`.
//!
//! `olshausen`: the ten scenes of B. A. Olshausen and D. J. Field, "Emergence of simple-cell
//! receptive field properties by learning a sparse code for natural images", Nature 381:607–609
//! (1996), doi 10.1038/381607a0, not whitened. `photos`: photographs free to share.

use super::{Dataset, png};
use crate::check::Checks;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A sub-folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Set {
    /// The ten scenes of Olshausen and Field (1996).
    Olshausen,
    /// Photographs free to share.
    Photos,
}

impl Set {
    fn folder(self) -> &'static str {
        match self {
            Set::Olshausen => "olshausen",
            Set::Photos => "photos",
        }
    }
}

/// Parameters of `[data.natural]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// Which sub-folders, in which order.
    pub sets: Vec<Set>,
    /// Files whose names begin so are left out. The default leaves out photographs with much blur
    /// or man-made structure, from which filters learn little texture.
    pub leave_out: Vec<String>,
    /// Every so many-th image, counted in order of set and name, is held back as a test image;
    /// 0 = none.
    pub test_every: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            sets: vec![Set::Olshausen, Set::Photos],
            leave_out: ["friends", "seeding", "sunset"].map(str::to_owned).to_vec(),
            test_every: 5,
        }
    }
}

impl Params {
    /// What is wrong with the values.
    pub fn check(&self) -> Checks {
        let mut checks = Checks::default();
        let is_repeated = |s: &Set| self.sets.iter().filter(|t| *t == s).count() > 1;
        let names: Vec<&str> = self.sets.iter().map(|s| s.folder()).collect();
        checks.that(
            !self.sets.is_empty() && !self.sets.iter().any(is_repeated),
            "sets",
            format!("{names:?}"),
            "one or both of \"olshausen\" and \"photos\", each once",
        );
        png::check_test_every(&mut checks, self.test_every);
        checks
    }

    /// Reads the images; `root` is the data folder.
    ///
    /// # Errors
    ///
    /// If a folder does not exist or holds no PNG images, or one of them is damaged or differs in
    /// shape from the others.
    pub fn load(&self, root: &Path) -> Result<Dataset> {
        let folder = super::folder(root, "natural", &[])?;
        let mut files = Vec::new();
        for set in &self.sets {
            files.extend(png::list(&super::folder(&folder, set.folder(), &[])?)?);
        }
        files.retain(|path| !self.is_left_out(path));
        if files.is_empty() {
            let prefixes = &self.leave_out;
            return Err(Error::data(format!(
                "{}: leave_out = {prefixes:?} leaves no image of {:?}",
                folder.display(),
                self.sets
            )));
        }
        png::dataset("natural", &files, self.test_every)
    }

    fn is_left_out(&self, path: &Path) -> bool {
        let name = path.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
        self.leave_out.iter().any(|prefix| name.starts_with(prefix.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spikes::Pixels;

    fn write(path: &Path, value: u8) {
        let mut bytes = Vec::new();
        let encoder = ::png::Encoder::new(&mut bytes, 1, 1);
        encoder.write_header().unwrap().write_image_data(&[value]).unwrap();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn sets_are_read_in_order_without_what_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let natural = dir.path().join("natural");
        write(&natural.join("olshausen/02.png"), 2);
        write(&natural.join("olshausen/01.png"), 1);
        write(&natural.join("photos/sunset-1.png"), 9);
        write(&natural.join("photos/stream-1.png"), 3);
        let pixels = |p: &Params| {
            let data = p.load(dir.path()).unwrap();
            (data.train.images.pixels, data.test.images.pixels)
        };
        let mut params = Params { test_every: 3, ..Params::default() };
        assert_eq!(pixels(&params), (Pixels::Bytes(vec![1, 2]), Pixels::Bytes(vec![3])));
        (params.sets, params.leave_out) = (vec![Set::Photos], Vec::new());
        assert_eq!(pixels(&params).0, Pixels::Bytes(vec![3, 9]));
        params.leave_out = vec!["s".into()];
        let error = params.load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("leaves no image"), "{error}");
        std::fs::remove_dir_all(natural.join("photos")).unwrap();
        let error = params.load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("no folder with photos: looked for "), "{error}");
        params.sets.clear();
        assert_eq!(params.check().found[0].field, "sets");
    }
}
