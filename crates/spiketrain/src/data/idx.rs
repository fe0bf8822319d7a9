//! IDX, the format of MNIST and Fashion-MNIST, plain or in gzip.
//!
//! A big-endian header (magic number, one extent per dimension), then the bytes. Magic 2051 is
//! images `[n, height, width]`, 2049 labels `[n]`.

use super::Split;
use crate::error::{Error, Result};
use crate::spikes::{Images, Shape};
use std::io::Read;
use std::path::Path;

/// Most values accepted in one file; MNIST's training images have 47 million.
const MAX_BYTES: u64 = 1 << 30;

/// The four files of a data set.
const FILES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

const BUNDLED: [&[u8]; 4] = [
    include_bytes!("bundled/train-images-idx3-ubyte.gz"),
    include_bytes!("bundled/train-labels-idx1-ubyte.gz"),
    include_bytes!("bundled/t10k-images-idx3-ubyte.gz"),
    include_bytes!("bundled/t10k-labels-idx1-ubyte.gz"),
];

/// The digits bundled with the program: training and test split.
///
/// # Errors
///
/// None, unless the program itself is damaged.
pub fn bundled() -> Result<(Split, Split)> {
    splits(&FILES.map(|n| format!("bundled {n}.gz")), &BUNDLED)
}

/// Reads training and test split of ten classes from the four files in `folder`, each with or
/// without `.gz`.
///
/// # Errors
///
/// If a file is missing or damaged, or the files do not fit each other.
pub fn read_folder(folder: &Path) -> Result<(Split, Split)> {
    let mut names = [const { String::new() }; 4];
    let mut bytes = [const { Vec::new() }; 4];
    for (i, file) in FILES.iter().enumerate() {
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
    splits(&names, &bytes.each_ref().map(Vec::as_slice))
}

fn splits(names: &[String; 4], bytes: &[&[u8]; 4]) -> Result<(Split, Split)> {
    let split = |i: usize| -> Result<Split> {
        let images = read_images(&names[i], bytes[i])?;
        let labels = read_labels(&names[i + 1], bytes[i + 1], 10)?;
        super::check_counts(&names[i], images.len(), &names[i + 1], labels.len())?;
        Ok(Split { images, labels })
    };
    let (train, test) = (split(0)?, split(2)?);
    super::check_shapes(&names[0], train.images.shape, &names[2], test.images.shape)?;
    Ok((train, test))
}

/// Reads an image file. `name` stands in messages.
///
/// # Errors
///
/// If the bytes are not a complete IDX file of at least one image; names what was expected and
/// found.
pub fn read_images(name: &str, bytes: &[u8]) -> Result<Images> {
    let (extents, pixels) = read(name, bytes, 2051, 3)?;
    Ok(Images::from_bytes(Shape::new(1, extents[1], extents[2]), pixels))
}

/// Reads a label file; every label must be below `n_classes`.
///
/// # Errors
///
/// If the bytes are not a complete IDX file of labels, or a label is out of range.
pub fn read_labels(name: &str, bytes: &[u8], n_classes: usize) -> Result<Vec<u16>> {
    let (_, labels) = read(name, bytes, 2049, 1)?;
    if let Some(i) = labels.iter().position(|&l| usize::from(l) >= n_classes) {
        return Err(Error::data(format!(
            "{name}: label {i} is {}, expected 0 to {}",
            labels[i],
            n_classes - 1
        )));
    }
    Ok(labels.into_iter().map(u16::from).collect())
}

/// Extents and values of an IDX file with that magic number and that many extents.
fn read(name: &str, bytes: &[u8], magic: u32, n_extents: usize) -> Result<(Vec<usize>, Vec<u8>)> {
    let mut plain: Box<dyn Read> = match bytes.starts_with(&[0x1f, 0x8b]) {
        true => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
        false => Box::new(bytes),
    };
    let mut take = |n: u64| {
        let mut out = Vec::new();
        plain.by_ref().take(n).read_to_end(&mut out).map(|_| out).map_err(|e| {
            Error::data(format!("{name}: damaged or truncated gzip: {e}")).with_source(e)
        })
    };
    let head = take(4 + 4 * n_extents as u64)?;
    let word = |i: usize| {
        let bytes = head.get(4 * i..4 * i + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().expect("4 bytes")))
    };
    if let Some(found) = word(0).filter(|&w| w != magic) {
        return Err(Error::data(format!("{name}: magic number {found}, expected {magic}")));
    }
    let extents: Option<Vec<usize>> = (1..=n_extents).map(|i| Some(word(i)? as usize)).collect();
    let Some(extents) = extents else {
        let (found, expected) = (head.len(), 4 + 4 * n_extents);
        return Err(Error::data(format!("{name}: {found} bytes, expected a header of {expected}")));
    };
    let expected = extents.iter().try_fold(1u64, |a, &b| a.checked_mul(b as u64));
    let Some(expected) = expected.filter(|n| (1..=MAX_BYTES).contains(n)) else {
        return Err(Error::data(format!(
            "{name}: the header promises {extents:?} values, expected 1 to {MAX_BYTES} in all"
        )));
    };
    // One byte more than promised shows that there are too many; no more are read.
    let values = take(expected + 1)?;
    let found = values.len() as u64;
    if found != expected {
        let more = if found > expected { "more than " } else { "" };
        let found = found.min(expected);
        return Err(Error::data(format!(
            "{name}: the header promises {extents:?} values, found {more}{found} bytes after it"
        )));
    }
    Ok((extents, values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn file(magic: u32, extents: &[u32], values: &[u8]) -> Vec<u8> {
        let mut out = magic.to_be_bytes().to_vec();
        extents.iter().for_each(|e| out.extend(e.to_be_bytes()));
        out.extend(values);
        out
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gz.write_all(bytes).unwrap();
        gz.finish().unwrap()
    }

    #[test]
    fn plain_and_gzip() {
        let plain = file(2051, &[2, 1, 2], &[1, 2, 3, 4]);
        let images = read_images("x", &plain).unwrap();
        assert_eq!((images.len(), images.shape), (2, Shape::new(1, 1, 2)));
        assert_eq!(read_images("x", &gzip(&plain)).unwrap(), images);
        assert_eq!(read_labels("y", &gzip(&file(2049, &[2], &[9, 0])), 10).unwrap(), [9, 0]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let message = |bytes: &[u8]| read_images("f.gz", bytes).unwrap_err().to_string();
        assert_eq!(message(&file(2049, &[0, 0, 0], &[])), "f.gz: magic number 2049, expected 2051");
        assert_eq!(message(&[0, 0]), "f.gz: 2 bytes, expected a header of 16");
        let short = message(&file(2051, &[3, 1, 1], &[1, 2]));
        assert_eq!(short, "f.gz: the header promises [3, 1, 1] values, found 2 bytes after it");
        let whole = gzip(&file(2051, &[2, 1, 2], &[1, 2, 3, 4]));
        assert!(message(&whole[..whole.len() - 9]).contains("truncated gzip"));
        let long = message(&file(2051, &[1, 1, 1], &[1, 2, 3]));
        assert!(long.ends_with("found more than 1 bytes after it"), "{long}");
        for extents in [[0, 28, 28], [0, u32::MAX, u32::MAX], [1, 0, 1], [u32::MAX; 3]] {
            let error = message(&file(2051, &extents, &[]));
            let promised = format!("f.gz: the header promises {extents:?} values, ");
            assert_eq!(error, promised + "expected 1 to 1073741824 in all");
        }
        let label = read_labels("l", &file(2049, &[2], &[0, 10]), 10).unwrap_err().to_string();
        assert_eq!(label, "l: label 1 is 10, expected 0 to 9");
    }

    #[test]
    fn counts_that_differ_are_an_error() {
        let mut bytes = BUNDLED;
        bytes[1] = bytes[3];
        let message = splits(&FILES.map(str::to_owned), &bytes).unwrap_err().to_string();
        assert!(message.contains("holds 5000 images") && message.contains("1000 labels"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (read_images("x", &bytes), read_labels("x", &bytes, 10));
        }

        #[test]
        fn no_mutation_makes_it_panic(at in 0usize..60, byte: u8, cut in 0usize..60, zip: bool) {
            let whole = file(2051, &[2, 2, 2], &[1, 2, 3, 4, 5, 6, 7, 8]);
            let mut bytes = if zip { gzip(&whole) } else { whole };
            let n = bytes.len();
            bytes[at % n] = byte;
            bytes.truncate(n - cut.min(n));
            let _ = read_images("x", &bytes);
        }
    }
}
