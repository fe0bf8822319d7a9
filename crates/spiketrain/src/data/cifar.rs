//! CIFAR-10's binary format: records of a label byte and 3,072 pixel bytes (red, green, blue
//! planes of 32×32), in five training files and one test file; plain, each packed with xz, or
//! together in the official archive. A. Krizhevsky, "Learning Multiple Layers of Features from
//! Tiny Images", 2009.

use super::Split;
use crate::error::{Error, Result};
use crate::spikes::{Images, Shape};
use rayon::prelude::*;
use std::io::{Cursor, Read};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Names of the classes in label order.
pub(super) const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Training files in order, then the test file.
const FILES: [&str; 6] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
    "test_batch.bin",
];

/// The official archive of these files.
pub(super) const ARCHIVE: &str = "cifar-10-binary.tar.gz";

/// Bytes of one record.
const RECORD: usize = 3073;

/// Largest unpacked file accepted, in bytes; the official ones have 30,730,000.
const MAX_BYTES: u64 = 1 << 26;

/// Most bytes that the whole archive may unpack to; the official one has 184 million.
const MAX_ARCHIVE: u64 = 1 << 28;

/// Largest dictionary an xz file may ask for, in bytes; that of `xz -9`.
const MAX_DICTIONARY: usize = 1 << 26;

/// A file's name in messages, and its bytes.
type Named = (String, Vec<u8>);

/// Reads training and test split from below the data folder `root`.
///
/// In the folders `cifar10` and `cifar-10-batches-bin` each file is looked for as it is and with
/// `.xz`; if none of them is there, the archive is looked for in `cifar10` and in `root` itself.
///
/// # Errors
///
/// If files are missing or damaged; names file, what was expected and what was found.
pub(super) fn load(root: &Path) -> Result<(Split, Split)> {
    let folders = ["cifar10", "cifar-10-batches-bin"].map(|f| root.join(f));
    let archives = [folders[0].join(ARCHIVE), root.join(ARCHIVE)];
    if let Some(folder) = folders.iter().find(|f| FILES.iter().any(|n| find(f, n).is_some())) {
        return read_folder(folder);
    }
    if let Some(path) = archives.iter().find(|p| p.is_file()) {
        let file = std::fs::File::open(path).map_err(|e| Error::io("reading", path, e))?;
        return read_archive(&path.display().to_string(), std::io::BufReader::new(file));
    }
    let folder = super::folder(root, "cifar10", &["cifar-10-batches-bin"])?;
    Err(missing(&folder.join(FILES[0])))
}

/// The splits, if they are complete: a file that was cut between two images looks whole.
///
/// # Errors
///
/// If they are not.
pub(super) fn whole((train, test): (Split, Split)) -> Result<(Split, Split)> {
    let found = [train.labels.len(), test.labels.len()];
    if found == [50_000, 10_000] {
        return Ok((train, test));
    }
    let [train, test] = found;
    Err(Error::data(format!(
        "cifar10: {train} training and {test} test images, expected 50000 and 10000 in six files of \
         10000"
    )))
}

fn missing(path: &Path) -> Error {
    let path = path.display();
    let how = super::how_to_obtain("cifar10");
    Error::data(format!("{path} is missing (nor is it there with .xz, nor is {ARCHIVE}){how}"))
}

/// The file `name` of `folder`, plain or packed.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    [folder.join(name), folder.join(format!("{name}.xz"))].into_iter().find(|p| p.is_file())
}

fn read_folder(folder: &Path) -> Result<(Split, Split)> {
    let read = |name: &&str| -> Result<Named> {
        let path = find(folder, name).ok_or_else(|| missing(&folder.join(name)))?;
        let bytes = std::fs::read(&path).map_err(|e| Error::io("reading", &path, e))?;
        let is_packed = path.extension().is_some_and(|e| e == "xz");
        let name = path.display().to_string();
        let bytes = if is_packed { unpack_xz(&name, bytes)? } else { bytes };
        Ok((name, bytes))
    };
    let files: Vec<Result<Named>> = FILES.par_iter().map(read).collect();
    splits(files.into_iter().collect::<Result<_>>()?)
}

/// Reads the official archive, a tar file in gzip. `name` stands in messages.
///
/// # Errors
///
/// If the archive is damaged, is too long or lacks one of the six files.
pub fn read_archive(name: &str, bytes: impl Read) -> Result<(Split, Split)> {
    let mut tar = flate2::read::MultiGzDecoder::new(bytes).take(MAX_ARCHIVE + 1);
    let files = read_members(name, &mut tar);
    if tar.limit() == 0 {
        return Err(Error::data(format!(
            "{name}: expected at most {MAX_ARCHIVE} bytes unpacked, found more"
        )));
    }
    let files = files?.into_iter().zip(FILES).map(|(file, expected)| {
        file.ok_or_else(|| Error::data(format!("{name}: expected {expected}, found no such file")))
    });
    splits(files.collect::<Result<_>>()?)
}

/// Names and bytes of those of the six files that a tar file holds.
fn read_members(name: &str, tar: impl Read) -> Result<[Option<Named>; 6]> {
    let damaged = |e: std::io::Error| {
        Error::data(format!("{name}: damaged or truncated archive: {e}")).with_source(e)
    };
    let mut archive = tar::Archive::new(tar);
    let mut files = FILES.map(|_| None);
    // Raw: an entry that only holds a long name for the next one is not read into memory.
    for entry in archive.entries().map_err(damaged)?.raw(true) {
        let entry = entry.map_err(damaged)?;
        let path = entry.path().map_err(damaged)?.into_owned();
        let place = FILES.iter().position(|f| path.file_name().is_some_and(|n| n == *f));
        let Some(i) = place.filter(|_| entry.header().entry_type().is_file()) else { continue };
        let member = format!("{name}: {}", path.display());
        files[i] = Some((member.clone(), read_all(&member, entry, "archive")?));
    }
    Ok(files)
}

/// Unpacks an xz file, filters included. `name` stands in messages.
fn unpack_xz(name: &str, bytes: Vec<u8>) -> Result<Vec<u8>> {
    let decoder = xz4rust::XzDecoder::in_heap_with_alloc_dict_size(1 << 16, MAX_DICTIONARY);
    let chunk = NonZeroUsize::new(1 << 16).expect("not zero");
    let bytes = Cursor::new(bytes);
    let reader = xz4rust::XzReader::new_with_buffer_size_and_decoder(bytes, chunk, decoder);
    read_all(name, reader, "xz file")
}

/// All bytes of a packed file of a sensible size.
fn read_all(name: &str, reader: impl Read, kind: &str) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    reader.take(MAX_BYTES + 1).read_to_end(&mut out).map_err(|e| {
        Error::data(format!("{name}: damaged or truncated {kind}: {e}")).with_source(e)
    })?;
    if out.len() as u64 > MAX_BYTES {
        return Err(Error::data(format!("{name}: expected at most {MAX_BYTES} bytes, found more")));
    }
    Ok(out)
}

/// The splits from the six files' names and bytes.
fn splits(files: Vec<Named>) -> Result<(Split, Split)> {
    let join = |files: &[Named]| -> Result<Split> {
        let n_bytes = files.iter().map(|(_, bytes)| bytes.len()).sum();
        let (mut pixels, mut labels) = (Vec::with_capacity(n_bytes), Vec::new());
        for (name, bytes) in files {
            read_records(name, bytes, &mut pixels, &mut labels)?;
        }
        Ok(Split { images: images(pixels), labels })
    };
    let (train, test) = files.split_at(5);
    Ok((join(train)?, join(test)?))
}

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
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    /// A file of one record, the label 7 and all its pixels 7, as packed by
    /// `xz --delta=dist=1 --delta=dist=32 --lzma2=dict=4MiB`.
    const PACKED: &[u8] = include_bytes!("../../tests/data/record.xz");

    fn record(label: u8) -> Vec<u8> {
        vec![label; RECORD]
    }

    fn archive(names: &[&str]) -> Vec<u8> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        for (i, name) in names.iter().enumerate() {
            let mut header = tar::Header::new_gnu();
            header.set_size(RECORD as u64);
            header.set_mode(0o644);
            let path = format!("cifar-10-batches-bin/{name}");
            tar.append_data(&mut header, path, record(i as u8).as_slice()).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    /// An archive of one entry of `size` zeros, a multiple of 1 MiB, that is none of the files.
    fn bomb(kind: tar::EntryType, size: u64) -> Vec<u8> {
        let gzip = |bytes: &[u8]| {
            let mut gz = GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut gz, bytes).unwrap();
            gz.finish().unwrap()
        };
        let mut header = tar::Header::new_gnu();
        header.set_path("other").unwrap();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_cksum();
        let zeros = gzip(&vec![0; 1 << 20]);
        [gzip(header.as_bytes()), zeros.repeat((size >> 20) as usize)].concat()
    }

    #[test]
    fn records_are_split_and_checked() {
        let mut bytes = record(7);
        bytes.extend(record(2));
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

    #[test]
    fn plain_packed_and_in_the_archive() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("cifar10");
        let message = || load(dir.path()).unwrap_err().to_string();
        assert!(message().contains("no folder with cifar10"), "{}", message());
        std::fs::create_dir(&folder).unwrap();
        assert!(message().contains("data_batch_1.bin is missing"), "{}", message());
        let labels = || load(dir.path()).map(|(train, test)| (train.labels, test.labels));
        std::fs::write(folder.join(ARCHIVE), archive(&FILES)).unwrap();
        assert_eq!(labels().unwrap(), (vec![0, 1, 2, 3, 4], vec![5]));
        for name in &FILES[..5] {
            std::fs::write(folder.join(name), record(1)).unwrap();
        }
        assert!(message().contains("test_batch.bin is missing"), "{}", message());
        std::fs::write(folder.join("test_batch.bin.xz"), PACKED).unwrap();
        assert_eq!(labels().unwrap(), (vec![1; 5], vec![7]));
        let cut = whole(load(dir.path()).unwrap()).map(drop).unwrap_err().to_string();
        assert!(cut.starts_with("cifar10: 5 training and 1 test images, expected 50000"), "{cut}");
        assert_eq!(unpack_xz("x", PACKED.to_vec()).unwrap(), record(7));
    }

    #[test]
    fn what_is_wrong_with_an_archive_is_named() {
        let message = |b: &[u8]| read_archive("c.tar.gz", b).unwrap_err().to_string();
        let error = message(&archive(&FILES[..5]));
        assert_eq!(error, "c.tar.gz: expected test_batch.bin, found no such file");
        let whole = archive(&FILES);
        let error = message(&whole[..whole.len() - 30]);
        assert!(error.contains("damaged or truncated archive"), "{error}");
        let error = message(&bomb(tar::EntryType::Regular, MAX_ARCHIVE));
        assert_eq!(error, "c.tar.gz: expected at most 268435456 bytes unpacked, found more");
        let error = message(&bomb(tar::EntryType::GNULongName, 1 << 25));
        assert_eq!(error, "c.tar.gz: expected data_batch_1.bin, found no such file");
        let error = unpack_xz("t.xz", PACKED[..60].to_vec()).unwrap_err().to_string();
        assert!(error.starts_with("t.xz: damaged or truncated xz file"), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_records("x", &bytes, &mut Vec::new(), &mut Vec::new());
            let _ = read_archive("x", bytes.as_slice());
            let _ = unpack_xz("x", bytes);
        }

        #[test]
        fn no_mutation_makes_it_panic(at: prop::sample::Index, byte: u8, cut in 0usize..200) {
            for whole in [archive(&FILES[..2]), PACKED.to_vec()] {
                let mut bytes = whole;
                let n = bytes.len();
                bytes[at.index(n)] = byte;
                bytes.truncate(n - cut.min(n));
                let _ = read_archive("x", bytes.as_slice());
                let _ = unpack_xz("x", bytes);
            }
        }

        #[test]
        fn no_tar_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1600)) {
            let mut gz = GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut gz, &bytes).unwrap();
            let _ = read_archive("x", gz.finish().unwrap().as_slice());
        }
    }
}
