//! IDX, the format of MNIST and Fashion-MNIST, plain or in gzip.
//!
//! A big-endian header (magic number, one extent per dimension), then the bytes. Magic 2051 is
//! images `[n, height, width]`, 2049 labels `[n]`.

use crate::error::{Error, Result};
use crate::spikes::{Images, Shape};
use std::io::Read;

/// Largest unpacked file accepted, in bytes; MNIST's training images are 47 MB.
const MAX_BYTES: u64 = 1 << 30;

/// Reads an image file. `name` stands in messages.
///
/// # Errors
///
/// If the bytes are not a complete IDX file of images; names what was expected and found.
pub fn read_images(name: &str, bytes: &[u8]) -> Result<Images> {
    let (extents, pixels) = read(name, bytes, 2051, 3)?;
    let shape = Shape::new(1, extents[1], extents[2]);
    if shape.len() == 0 {
        return Err(Error::data(format!("{name}: images of {}×{} pixels", extents[1], extents[2])));
    }
    Ok(Images::from_bytes(shape, pixels))
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

/// The file's content, unpacked if it is gzip.
fn unpack(name: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes.to_vec());
    }
    let mut out = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes).take(MAX_BYTES).read_to_end(&mut out).map_err(
        |e| Error::data(format!("{name}: damaged or truncated gzip: {e}")).with_source(e),
    )?;
    Ok(out)
}

fn read(name: &str, bytes: &[u8], magic: u32, n_extents: usize) -> Result<(Vec<usize>, Vec<u8>)> {
    let mut bytes = unpack(name, bytes)?;
    let head = 4 + 4 * n_extents;
    if bytes.len() < head {
        return Err(Error::data(format!(
            "{name}: {} bytes, expected a header of {head}",
            bytes.len()
        )));
    }
    let word = |i: usize| u32::from_be_bytes(bytes[4 * i..4 * i + 4].try_into().expect("4 bytes"));
    if word(0) != magic {
        return Err(Error::data(format!("{name}: magic number {}, expected {magic}", word(0))));
    }
    let extents: Vec<usize> = (1..=n_extents).map(|i| word(i) as usize).collect();
    let expected = extents.iter().try_fold(1usize, |a, &b| a.checked_mul(b));
    let found = bytes.len() - head;
    if expected != Some(found) {
        return Err(Error::data(format!(
            "{name}: the header promises {extents:?} values, found {found} bytes after it"
        )));
    }
    bytes.drain(..head);
    Ok((extents, bytes))
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
        let huge = message(&file(2051, &[u32::MAX, u32::MAX, u32::MAX], &[]));
        assert!(huge.contains("promises"), "{huge}");
        let label = read_labels("l", &file(2049, &[2], &[0, 10]), 10).unwrap_err().to_string();
        assert_eq!(label, "l: label 1 is 10, expected 0 to 9");
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
