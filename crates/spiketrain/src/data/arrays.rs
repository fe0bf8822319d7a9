//! Arrays of one's own: images and labels in NumPy's formats `.npz` and `.npy`.
//!
//! An archive `.npz` or a folder of `.npy` files holds `train_images` and, if there are any,
//! `train_labels`, `test_images` and `test_labels`; a single `.npy` file is training images
//! without labels. Images are `[sample, row, column]`, `[sample, channel, row, column]`
//! or plain vectors `[sample, value]`, of type u8 (255 is 1.0), f32 or f64; sequences of frames are
//! `[sample, step, channel, row, column]`; labels are integers `[sample]`.

use super::npy::{self, Array, Values};
use super::{Dataset, Limits, Split};
use crate::check::Checks;
use crate::error::{Error, Result};
use crate::spikes::{Images, Shape};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// Most bytes that one array of an archive may take when it is unpacked.
const MAX_UNPACKED: u64 = 1 << 32;

/// Most classes accepted.
const MAX_CLASSES: usize = 1000;

/// Names of an array; the second is the one Keras uses.
type Names = [&'static str; 2];
const TRAIN: [Names; 2] = [["train_images", "x_train"], ["train_labels", "y_train"]];
const TEST: [Names; 2] = [["test_images", "x_test"], ["test_labels", "y_test"]];

/// Parameters of `[data.arrays]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// An `.npz` archive, a folder of `.npy` files or one `.npy` file. A relative path is looked
    /// for under the data folder first, then under the working folder.
    pub path: PathBuf,
    /// Names of the classes in label order; numbers if not given.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Whether the channels of images of four extents, and of sequences of five, come last:
    /// `[sample, row, column, channel]`.
    #[serde(default)]
    pub channels_last: bool,
    /// Whether images of type u8 are numbers of events, taken as they are.
    #[serde(default)]
    pub counts: bool,
    /// Only the first so many training samples; all if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_train: Option<usize>,
    /// Only the first so many test samples; all if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_test: Option<usize>,
}

impl Params {
    /// The arrays at `path`, everything else at its default.
    pub fn of(path: PathBuf) -> Self {
        let (classes, channels_last, counts) = (Vec::new(), false, false);
        Self { path, classes, channels_last, counts, n_train: None, n_test: None }
    }

    /// What is wrong with the values.
    pub fn check(&self) -> Checks {
        let mut checks = Limits { n_train: self.n_train, n_test: self.n_test, draw: None }.check();
        let path = self.path.display();
        checks.that(!self.path.as_os_str().is_empty(), "path", path, "a path");
        let (n, allowed) = (self.classes.len(), format!("at most {MAX_CLASSES} names"));
        checks.that(n <= MAX_CLASSES, "classes", format!("{n} names"), &allowed);
        checks
    }

    /// Reads the arrays; `root` is the data folder.
    ///
    /// # Errors
    ///
    /// If an array is missing, damaged, of another type or shape, if a label is out of range, or
    /// if the arrays do not fit each other.
    pub fn load(&self, root: &Path) -> Result<Dataset> {
        let path = super::own_path(root, &self.path, Path::exists, "file or folder")?;
        let mut source = Source::open(&path)?;
        let Some(train) = self.split(&mut source, TRAIN)? else {
            let [first, other] = TRAIN[0];
            return Err(Error::data(format!(
                "{}: expected an array {first} (or {other}), found none",
                path.display()
            )));
        };
        let shape = train.images.shape;
        let test = match self.split(&mut source, TEST)? {
            Some(test) => test,
            None => Split { images: train.images.select(&[]), labels: Vec::new() },
        };
        let (name, other) = (path.display().to_string(), "its test images");
        super::check_shapes(&name, shape, other, test.images.shape)?;
        if !test.images.is_empty() && train.labels.is_empty() != test.labels.is_empty() {
            return Err(Error::data(format!(
                "{name}: expected labels for training and test images or for neither, found {} and {}",
                train.labels.len(),
                test.labels.len()
            )));
        }
        let classes = self.class_names(&train.labels, &test.labels);
        let (train, test) =
            (super::taken(train, self.n_train, None), super::taken(test, self.n_test, None));
        Ok(Dataset { name: "arrays".into(), shape, classes, train, test })
    }

    /// The names given, or a number for each class up to the largest label.
    fn class_names(&self, train: &[u16], test: &[u16]) -> Vec<String> {
        let n = train.iter().chain(test).max().map_or(0, |&l| usize::from(l) + 1);
        match self.classes.is_empty() || n == 0 {
            true => (0..n).map(|c| c.to_string()).collect(),
            false => self.classes.clone(),
        }
    }

    fn split(&self, source: &mut Source, names: [Names; 2]) -> Result<Option<Split>> {
        let Some((name, array)) = source.find(names[0])? else { return Ok(None) };
        let images = self.images(&name, array)?;
        let labels = match source.find(names[1])? {
            None => Vec::new(),
            Some((labels, array)) => {
                let values = self.labels(&labels, array)?;
                super::check_counts(&name, images.len(), &labels, values.len())?;
                values
            }
        };
        Ok(Some(Split { images, labels }))
    }

    fn images(&self, name: &str, array: Array) -> Result<Images> {
        let (n_steps, frame) = match (array.extents.as_slice(), self.channels_last) {
            (&[_, n], _) => (1, Shape::flat(n)),
            (&[_, height, width], _) => (1, Shape::new(1, height, width)),
            (&[_, channels, height, width], false) | (&[_, height, width, channels], true) => {
                (1, Shape::new(channels, height, width))
            }
            (&[_, n_steps, channels, height, width], false)
            | (&[_, n_steps, height, width, channels], true) => {
                (n_steps, Shape::new(channels, height, width))
            }
            (other, _) => {
                return Err(Error::data(format!(
                    "{name}: {} extents, expected 2 to 5, samples first",
                    other.len()
                )));
            }
        };
        if array.extents.contains(&0) {
            return Err(Error::data(format!(
                "{name}: extents {:?}, expected numbers above 0",
                array.extents
            )));
        }
        let shape = Shape { channels: n_steps * frame.channels, ..frame };
        let is_moved = self.channels_last && array.extents.len() >= 4;
        match array.values {
            Values::Bytes(v) => {
                let v = if is_moved { channels_first(&v, frame) } else { v };
                Ok(match self.counts {
                    true => Images::from_counts(shape, v),
                    false => Images::from_bytes(shape, v),
                })
            }
            Values::Floats(v) => {
                if let Some(i) = v.iter().position(|x| !x.is_finite()) {
                    let (x, sample) = (v[i], i / shape.len());
                    return Err(Error::data(format!(
                        "{name}: a value of sample {sample} is {x}, expected finite numbers"
                    )));
                }
                let v = if is_moved { channels_first(&v, frame) } else { v };
                Ok(Images::from_floats(shape, v))
            }
            Values::Integers(_) => {
                Err(Error::data(format!("{name}: expected images of type u8, f32 or f64")))
            }
        }
    }

    fn labels(&self, name: &str, array: Array) -> Result<Vec<u16>> {
        if !matches!(array.extents.as_slice(), [_] | [_, 1]) {
            return Err(Error::data(format!(
                "{name}: extents {:?}, expected one label per sample",
                array.extents
            )));
        }
        let labels: Vec<i64> = match array.values {
            Values::Bytes(v) => v.into_iter().map(i64::from).collect(),
            Values::Integers(v) => v,
            Values::Floats(_) => {
                return Err(Error::data(format!("{name}: expected labels of an integer type")));
            }
        };
        let n = if self.classes.is_empty() { MAX_CLASSES } else { self.classes.len() };
        let label = |(i, &l): (usize, &i64)| {
            u16::try_from(l).ok().filter(|&l| usize::from(l) < n).ok_or_else(|| {
                Error::data(format!("{name}: label {i} is {l}, expected 0 to {}", n - 1))
            })
        };
        labels.iter().enumerate().map(label).collect()
    }
}

/// From `[sample, row, column, channel]` to `[sample, channel, row, column]`.
fn channels_first<T: Copy>(values: &[T], shape: Shape) -> Vec<T> {
    let mut out = Vec::with_capacity(values.len());
    for image in values.chunks_exact(shape.len()) {
        for c in 0..shape.channels {
            out.extend(image.iter().skip(c).step_by(shape.channels));
        }
    }
    out
}

/// Where arrays come from.
enum Source {
    Archive(String, zip::ZipArchive<BufReader<File>>),
    Folder(PathBuf),
    Single(PathBuf),
}

impl Source {
    fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Ok(Source::Folder(path.to_owned()));
        }
        let name = path.display().to_string();
        match path.extension().and_then(|e| e.to_str()) {
            Some("npy") => Ok(Source::Single(path.to_owned())),
            Some("npz") => {
                let file = File::open(path).map_err(|e| Error::io("reading", path, e))?;
                let archive = zip::ZipArchive::new(BufReader::new(file)).map_err(|e| {
                    Error::data(format!("{name}: expected an .npz archive: {e}")).with_source(e)
                })?;
                Ok(Source::Archive(name, archive))
            }
            _ => Err(Error::data(format!("{name}: expected a folder, an .npz or an .npy file"))),
        }
    }

    /// The array of the first of `names` that is there, with its full name.
    fn find(&mut self, names: Names) -> Result<Option<(String, Array)>> {
        match self {
            Source::Archive(archive_name, archive) => {
                let members = names.map(|n| format!("{n}.npy"));
                let Some(member) = members.iter().find(|m| archive.index_for_name(m).is_some())
                else {
                    return Ok(None);
                };
                let name = format!("{archive_name}: {member}");
                let file = archive.by_name(member).map_err(|e| {
                    Error::data(format!("{name}: damaged or truncated archive: {e}")).with_source(e)
                })?;
                let array = npy::read(&name, file, MAX_UNPACKED)?;
                Ok(Some((name, array)))
            }
            Source::Folder(folder) => {
                let paths = names.map(|n| folder.join(format!("{n}.npy")));
                paths.iter().find(|p| p.is_file()).map(|p| read_file(p)).transpose()
            }
            Source::Single(path) if names == TRAIN[0] => read_file(path).map(Some),
            Source::Single(_) => Ok(None),
        }
    }
}

fn read_file(path: &Path) -> Result<(String, Array)> {
    let file = File::open(path).map_err(|e| Error::io("reading", path, e))?;
    let name = path.display().to_string();
    let array = npy::read(&name, file, u64::MAX)?;
    Ok((name, array))
}

#[cfg(test)]
mod tests {
    use super::npy::tests::file;
    use super::*;
    use crate::spikes::Pixels;
    use proptest::prelude::*;
    use std::io::Write;

    fn archive(arrays: &[(&str, Vec<u8>)], method: zip::CompressionMethod) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, bytes) in arrays {
            let options = zip::write::SimpleFileOptions::default().compression_method(method);
            zip.start_file(format!("{name}.npy"), options).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn load(bytes: &[u8], change: impl Fn(&mut Params)) -> Result<Dataset> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.npz"), bytes).unwrap();
        let mut params = Params::of("a.npz".into());
        change(&mut params);
        params.load(dir.path())
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn archives_with_and_without_labels_and_test_part() {
        let images = file("|u1", "(2, 1, 2)", &[1, 2, 3, 4]);
        let labels = file("<i2", "(2,)", &[1, 0, 0, 0]);
        for method in [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated] {
            let parts = [("train_images", images.clone()), ("train_labels", labels.clone())];
            let data = load(&archive(&parts, method), |_| ()).unwrap();
            assert_eq!(
                data.train.images,
                Images::from_bytes(Shape::new(1, 1, 2), vec![1, 2, 3, 4])
            );
            assert_eq!(
                (data.train.labels, data.classes),
                (vec![1, 0], vec!["0".into(), "1".into()])
            );
            assert!(data.test.images.is_empty() && data.test.labels.is_empty());
        }
        let test = file("<f4", "(1, 1, 2)", &floats(&[0.5, 0.25]));
        let parts = [("x_train", images), ("x_test", test)];
        let data = load(&archive(&parts, zip::CompressionMethod::Stored), |p| p.n_train = Some(1));
        let data = data.unwrap();
        assert_eq!((data.train.images.len(), data.classes.len()), (1, 0));
        assert_eq!(data.test.images.pixels, Pixels::Floats(vec![0.5, 0.25]));
    }

    #[test]
    fn a_folder_a_single_file_and_channels_last() {
        let dir = tempfile::tempdir().unwrap();
        let images = file("|u1", "(1, 1, 2, 3)", &[1, 2, 3, 4, 5, 6]);
        std::fs::write(dir.path().join("train_images.npy"), &images).unwrap();
        let mut params = Params::of(dir.path().into());
        assert_eq!(params.load(dir.path()).unwrap().shape, Shape::new(1, 2, 3));
        params.path = "train_images.npy".into();
        params.channels_last = true;
        let images = params.load(dir.path()).unwrap().train.images;
        assert_eq!(images, Images::from_bytes(Shape::new(3, 1, 2), vec![1, 4, 2, 5, 3, 6]));
    }

    #[test]
    fn sequences_have_their_frames_in_the_channels() {
        let bytes: Vec<u8> = (1..=8).collect();
        let load = |shape: &str, channels_last, counts| {
            let parts = [("train_images", file("|u1", shape, &bytes))];
            let bytes = archive(&parts, zip::CompressionMethod::Stored);
            let change = |p: &mut Params| (p.channels_last, p.counts) = (channels_last, counts);
            load(&bytes, change).unwrap().train.images
        };
        let shape = Shape::new(4, 1, 2);
        assert_eq!(load("(1, 2, 2, 1, 2)", false, false), Images::from_bytes(shape, bytes.clone()));
        let moved = vec![1, 3, 2, 4, 5, 7, 6, 8];
        assert_eq!(load("(1, 2, 1, 2, 2)", true, true), Images::from_counts(shape, moved));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let message = |parts: &[(&str, Vec<u8>)], classes: &[&str]| {
            let names = classes.iter().map(|&c| c.to_owned()).collect::<Vec<_>>();
            let bytes = archive(parts, zip::CompressionMethod::Stored);
            load(&bytes, |p| p.classes = names.clone()).unwrap_err().to_string()
        };
        let images = || file("|u1", "(2, 2)", &[1, 2, 3, 4]);
        let part = |name, bytes| [("train_images", images()), (name, bytes)];
        let error = message(&[("other", images())], &[]);
        assert!(error.ends_with("expected an array train_images (or x_train), found none"));
        let error = message(&part("train_labels", file("|i1", "(2,)", &[0, 255])), &[]);
        assert!(error.ends_with("train_labels.npy: label 1 is -1, expected 0 to 999"), "{error}");
        let error = message(&part("train_labels", file("|i1", "(2,)", &[2, 0])), &["a", "b"]);
        assert!(error.ends_with("label 0 is 2, expected 0 to 1"), "{error}");
        let error = message(&part("train_labels", file("|u1", "(3,)", &[0; 3])), &[]);
        assert!(error.contains("holds 2 images") && error.contains("holds 3 labels"), "{error}");
        let error = message(&part("test_images", file("|u1", "(1, 4)", &[1; 4])), &[]);
        assert!(error.contains("holds images of 2×1×1, its test images of 4×1×1"), "{error}");
        let nan = file("<f4", "(1, 2)", &floats(&[0.0, f32::NAN]));
        let error = message(&[("train_images", nan)], &[]);
        assert!(error.ends_with("a value of sample 0 is NaN, expected finite numbers"), "{error}");
        let mut long = file("|u1", "(2, 2)", &[1, 2, 3, 4]);
        long.extend([0; 99]);
        let bytes = archive(&[("train_images", long)], zip::CompressionMethod::Deflated);
        let error = load(&bytes, |_| ()).unwrap_err().to_string();
        assert!(error.ends_with("found more than 4 bytes after it"), "{error}");
        let huge = file("|u1", "(65536, 65537)", &[]);
        let error = message(&[("train_images", huge)], &[]);
        assert!(error.contains("a.npz: train_images.npy: the header promises"), "{error}");
        assert!(error.ends_with("expected at most 4294967296 bytes in all"), "{error}");
        let error = load(b"no archive", |_| ()).unwrap_err().to_string();
        assert!(error.contains("expected an .npz archive"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_mutation_makes_it_panic(at: prop::sample::Index, byte: u8, cut in 0usize..60) {
            let parts = [("train_images", file("|u1", "(2, 2)", &[1, 2, 3, 4]))];
            let mut bytes = archive(&parts, zip::CompressionMethod::Deflated);
            let n = bytes.len();
            bytes[at.index(n)] = byte;
            bytes.truncate(n - cut.min(n));
            let _ = load(&bytes, |_| ());
        }
    }
}
