//! Folders of PNG images: grey or colour, 8 or 16 bits, without labels.

use super::{Dataset, Split};
use crate::check::Checks;
use crate::error::{Error, Result};
use crate::spikes::{Images, Pixels, Shape};
use png::{ColorType, Transformations};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A deflate stream unpacks to at most 1,032 times its size; a header that promises more lies.
const MAX_RATIO: u64 = 1032;

/// Most that decoding one image may take, and that its samples may take, in bytes.
const MAX_BYTES: usize = 1 << 30;

/// Parameters of `[data.png-folder]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The folder whose `*.png` files are read, in order of name. A relative path is looked for
    /// under the data folder first, then under the working folder.
    pub path: PathBuf,
    /// Every so many-th image, counted in that order, is held back as a test image; 0 = none.
    #[serde(default)]
    pub test_every: usize,
}

impl Params {
    /// What is wrong with the values.
    pub fn check(&self) -> Checks {
        let mut checks = Checks::default();
        let path = self.path.display();
        checks.that(!self.path.as_os_str().is_empty(), "path", path, "the path of a folder");
        check_test_every(&mut checks, self.test_every);
        checks
    }

    /// Reads the folder; `root` is the data folder.
    ///
    /// # Errors
    ///
    /// If the folder does not exist, holds no PNG images, or one of them is damaged or differs in
    /// shape from the others.
    pub fn load(&self, root: &Path) -> Result<Dataset> {
        let folder = super::own_path(root, &self.path, Path::is_dir, "folder")?;
        dataset("png-folder", &list(&folder)?, self.test_every)
    }
}

/// Complains about a share of test images that leaves none to train on.
pub(super) fn check_test_every(checks: &mut Checks, test_every: usize) {
    let allowed = "0 (no test images) or a whole number from 2";
    checks.that(test_every != 1, "test_every", test_every, allowed);
}

/// The `*.png` files of `folder`, in order of name.
pub(super) fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e| Error::io("reading the folder", folder, e);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_png = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("png"));
        if is_png && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Error::data(format!("{}: expected PNG images, found none", folder.display())));
    }
    Ok(files)
}

/// The images `files` as a data set without labels.
pub(super) fn dataset(name: &str, files: &[PathBuf], test_every: usize) -> Result<Dataset> {
    let images = read_files(files)?;
    let is_test = |i: &usize| test_every > 0 && i % test_every == test_every - 1;
    let (test, train): (Vec<usize>, Vec<usize>) = (0..images.len()).partition(is_test);
    let split = |rows: &[usize]| Split { images: images.select(rows), labels: Vec::new() };
    Ok(Dataset {
        name: name.into(),
        shape: images.shape,
        classes: Vec::new(),
        train: split(&train),
        test: split(&test),
    })
}

/// Reads `files`, which must agree in shape, in that order.
fn read_files(files: &[PathBuf]) -> Result<Images> {
    let mut all: Option<Images> = None;
    for path in files {
        let bytes = std::fs::read(path).map_err(|e| Error::io("reading", path, e))?;
        let image = read(&path.display().to_string(), &bytes)?;
        let Some(all) = &mut all else {
            all = Some(image);
            continue;
        };
        if image.shape != all.shape {
            let (found, expected) = (image.shape, all.shape);
            return Err(Error::data(format!(
                "{}: an image of {found}, expected {expected} (channels×rows×columns) as in {}",
                path.display(),
                files[0].display()
            )));
        }
        append(&mut all.pixels, image.pixels);
    }
    all.ok_or_else(|| Error::data("a list of images without an image"))
}

/// Appends pixels; bytes next to floats become floats.
fn append(all: &mut Pixels, more: Pixels) {
    let floats = |p: &[u8]| p.iter().map(|&b| f32::from(b) / 255.0).collect::<Vec<f32>>();
    match (&mut *all, more) {
        (Pixels::Bytes(a), Pixels::Bytes(b)) => a.extend(b),
        (Pixels::Floats(a), Pixels::Floats(b)) => a.extend(b),
        (Pixels::Floats(a), Pixels::Bytes(b)) => a.extend(floats(&b)),
        (Pixels::Bytes(a), Pixels::Floats(b)) => {
            let mut joined = floats(a);
            joined.extend(b);
            *all = Pixels::Floats(joined);
        }
        (Pixels::Counts(_), _) | (_, Pixels::Counts(_)) => unreachable!("images have no counts"),
    }
}

/// Reads one PNG image, `[channel, row, column]`. `name` stands in messages.
///
/// Samples of 8 bits or fewer become bytes, those of 16 bits fractions of 65,535. A palette is
/// resolved to colours and an alpha channel dropped.
///
/// # Errors
///
/// If the bytes are not a complete PNG image.
pub fn read(name: &str, bytes: &[u8]) -> Result<Images> {
    let damaged = |e: png::DecodingError| {
        Error::data(format!("{name}: expected a PNG image: {e}")).with_source(e)
    };
    let limits = png::Limits { bytes: MAX_BYTES };
    let mut decoder = png::Decoder::new_with_limits(std::io::Cursor::new(bytes), limits);
    decoder.set_transformations(Transformations::EXPAND);
    let info = decoder.read_header_info().map_err(damaged)?;
    let (height, width) = (info.height as usize, info.width as usize);
    let promised = (info.raw_row_length() as u64).saturating_mul(u64::from(info.height));
    if promised > MAX_RATIO * bytes.len() as u64 {
        return Err(Error::data(format!(
            "{name}: the header promises {height}×{width} pixels, more than {} bytes can hold",
            bytes.len()
        )));
    }
    let mut reader = decoder.read_info().map_err(damaged)?;
    let size = reader.output_buffer_size().ok_or_else(|| {
        Error::data(format!("{name}: the header promises {height}×{width} pixels"))
    })?;
    if size > MAX_BYTES {
        return Err(Error::data(format!(
            "{name}: {height}×{width} pixels take {size} bytes, expected at most {MAX_BYTES}"
        )));
    }
    let mut samples = vec![0; size];
    let frame = reader.next_frame(&mut samples).map_err(damaged)?;
    reader.finish().map_err(damaged)?;
    let (stored, channels) = match frame.color_type {
        ColorType::Grayscale => (1, 1),
        ColorType::GrayscaleAlpha => (2, 1),
        ColorType::Rgb => (3, 3),
        ColorType::Rgba => (4, 3),
        ColorType::Indexed => {
            return Err(Error::data(format!("{name}: a palette that cannot be resolved")));
        }
    };
    let shape = Shape::new(channels, height, width);
    Ok(if frame.bit_depth == png::BitDepth::Sixteen {
        let value = |i: usize| {
            f32::from(u16::from_be_bytes([samples[2 * i], samples[2 * i + 1]])) / 65_535.0
        };
        Images::from_floats(shape, planes(shape, stored, value))
    } else {
        Images::from_bytes(shape, planes(shape, stored, |i| samples[i]))
    })
}

/// From `[row, column, stored channel]`, the `i`-th sample being `value(i)`, to
/// `[channel, row, column]`.
fn planes<T>(shape: Shape, n_stored: usize, value: impl Fn(usize) -> T) -> Vec<T> {
    let area = shape.height * shape.width;
    (0..shape.channels).flat_map(|c| (0..area).map(move |i| i * n_stored + c)).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(width: u32, color: ColorType, depth: png::BitDepth, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = png::Encoder::new(&mut out, width, 2);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if color == ColorType::Indexed {
            encoder.set_palette(vec![1, 2, 3, 4, 5, 6]);
        }
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        out
    }

    #[test]
    fn grey_colour_palette_alpha_and_16_bits() {
        use png::BitDepth::{Eight, One, Sixteen};
        let grey = read("g", &encode(2, ColorType::Grayscale, Eight, &[1, 2, 3, 4])).unwrap();
        assert_eq!(grey, Images::from_bytes(Shape::new(1, 2, 2), vec![1, 2, 3, 4]));
        let rgb = read("c", &encode(1, ColorType::Rgb, Eight, &[1, 2, 3, 4, 5, 6])).unwrap();
        let expected = Images::from_bytes(Shape::new(3, 2, 1), vec![1, 4, 2, 5, 3, 6]);
        assert_eq!(rgb, expected);
        let rgba = encode(1, ColorType::Rgba, Eight, &[1, 2, 3, 9, 4, 5, 6, 9]);
        assert_eq!(read("a", &rgba).unwrap(), expected);
        let palette = encode(1, ColorType::Indexed, One, &[0x00, 0x80]);
        assert_eq!(read("p", &palette).unwrap(), expected);
        let deep = encode(1, ColorType::Grayscale, Sixteen, &[0xff, 0xff, 0x33, 0x33]);
        let expected = Images::from_floats(Shape::new(1, 2, 1), vec![1.0, 0.2]);
        assert_eq!(read("d", &deep).unwrap(), expected);
        let mut pixels = Pixels::Bytes(vec![51]);
        append(&mut pixels, Pixels::Floats(vec![0.5]));
        assert_eq!(pixels, Pixels::Floats(vec![0.2, 0.5]));
    }

    #[test]
    fn a_folder_is_read_in_order_and_every_so_many_th_image_held_back() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("own");
        let message = |p: &Params| p.load(dir.path()).unwrap_err().to_string();
        let mut params = Params { path: "own".into(), test_every: 2 };
        assert!(message(&params).contains("no folder"), "{}", message(&params));
        std::fs::create_dir(&folder).unwrap();
        assert!(message(&params).ends_with("expected PNG images, found none"));
        let grey = |v: u8| encode(1, ColorType::Grayscale, png::BitDepth::Eight, &[v, v]);
        for (name, v) in [("b.png", 2), ("a.PNG", 1), ("c.png", 3)] {
            std::fs::write(folder.join(name), grey(v)).unwrap();
        }
        std::fs::write(folder.join("notes.txt"), "no image").unwrap();
        let data = params.load(dir.path()).unwrap();
        assert_eq!(data.train.images.pixels, Pixels::Bytes(vec![1, 1, 3, 3]));
        assert_eq!(data.test.images.pixels, Pixels::Bytes(vec![2, 2]));
        assert!(data.classes.is_empty() && data.train.labels.is_empty());
        params.test_every = 0;
        assert_eq!(params.load(dir.path()).unwrap().test.images.len(), 0);
        params.test_every = 1;
        assert_eq!(params.check().found[0].field, "test_every");
        let wide = encode(2, ColorType::Grayscale, png::BitDepth::Eight, &[0; 4]);
        std::fs::write(folder.join("d.png"), wide).unwrap();
        let error = message(&params);
        assert!(error.contains("d.png: an image of 1×2×2, expected 1×2×1"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let message = |b: &[u8]| read("x.png", b).unwrap_err().to_string();
        assert!(message(b"GIF89a").starts_with("x.png: expected a PNG image: "));
        let whole = encode(2, ColorType::Grayscale, png::BitDepth::Eight, &[1, 2, 3, 4]);
        assert!(message(&whole[..whole.len() - 20]).starts_with("x.png: expected a PNG image: "));
        let mut huge = whole;
        huge[16..24].copy_from_slice(&[0x10, 0, 0, 0, 0x10, 0, 0, 0]);
        let mut crc = flate2::Crc::new();
        crc.update(&huge[12..29]);
        huge[29..33].copy_from_slice(&crc.sum().to_be_bytes());
        let error = message(&huge);
        assert!(error.contains("promises 268435456×268435456 pixels"), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read("x", &bytes);
        }

        #[test]
        fn no_mutation_makes_it_panic(at in 8usize..80, byte: u8, cut in 0usize..80, crc: bool) {
            let mut bytes =
                encode(2, ColorType::Rgb, png::BitDepth::Eight, &[7, 0, 1, 2, 3, 4, 5, 6, 8, 9, 1, 2]);
            let n = bytes.len();
            bytes[at % n] = byte;
            if crc {
                let mut sum = flate2::Crc::new();
                sum.update(&bytes[12..29]);
                bytes[29..33].copy_from_slice(&sum.sum().to_be_bytes());
            }
            bytes.truncate(n - cut.min(n));
            let _ = read("x", &bytes);
        }
    }
}
