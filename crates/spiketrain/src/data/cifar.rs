//! CIFAR-10's binary format: records of a label byte and 3,072 pixel bytes (red, green, blue
//! planes of 32×32). A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.

use crate::error::{Error, Result};
use crate::spikes::{Images, Shape};

/// Bytes of one record.
const RECORD: usize = 3073;

/// Appends the records of one file to `pixels` and `labels`. `name` stands in messages.
///
/// # Errors
///
/// If the file is not a whole number of records or a label is not 0 to 9.
pub fn read_records(
    name: &str,
    bytes: &[u8],
    pixels: &mut Vec<u8>,
    labels: &mut Vec<u16>,
) -> Result<()> {
    if bytes.is_empty() || !bytes.len().is_multiple_of(RECORD) {
        return Err(Error::data(format!(
            "{name}: {} bytes, expected a multiple of {RECORD}",
            bytes.len()
        )));
    }
    for (i, record) in bytes.chunks_exact(RECORD).enumerate() {
        if record[0] > 9 {
            let label = record[0];
            return Err(Error::data(format!("{name}: label {i} is {label}, expected 0 to 9")));
        }
        labels.push(u16::from(record[0]));
        pixels.extend_from_slice(&record[1..]);
    }
    Ok(())
}

/// The images of pixels gathered by [`read_records`].
pub fn images(pixels: Vec<u8>) -> Images {
    Images::from_bytes(Shape::new(3, 32, 32), pixels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_split_and_checked() {
        let mut bytes = vec![7u8; RECORD];
        bytes.extend(vec![2u8; RECORD]);
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        read_records("a.bin", &bytes, &mut pixels, &mut labels).unwrap();
        assert_eq!((labels.as_slice(), images(pixels).len()), ([7, 2].as_slice(), 2));
        let message = |b: &[u8]| {
            read_records("a.bin", b, &mut Vec::new(), &mut Vec::new()).unwrap_err().to_string()
        };
        assert_eq!(message(&bytes[..5]), "a.bin: 5 bytes, expected a multiple of 3073");
        bytes[RECORD] = 10;
        assert_eq!(message(&bytes), "a.bin: label 1 is 10, expected 0 to 9");
    }
}
