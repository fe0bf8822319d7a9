//! N-MNIST: MNIST's digits as events of a camera that moved in front of them in three saccades.
//! G. Orchard, A. Jayawant, G. K. Cohen, N. Thakor, "Converting static image datasets to spiking
//! neuromorphic datasets using saccades", Frontiers in Neuroscience 9:437, 2015,
//! doi 10.3389/fnins.2015.00437.
//!
//! A recording is a file of events of five bytes: column, row, then 24 bits, the most significant
//! first, of which the first is the polarity (1: brighter) and 23 are the time in microseconds. An
//! event in row 240 is none: the clock overflowed, and 2¹³ µs are added to all later times.

use super::{Limits, Split};
use crate::check::Checks;
use crate::error::{Error, Result};
use crate::spikes::{Images, Shape};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// Rows and columns.
const SIDE: usize = 34;

/// Channels of a frame, one a polarity.
const CHANNELS: usize = 2;

/// Bytes of an event.
const EVENT: usize = 5;

/// Row of an event that stands for an overflow of the clock, and what it adds to later times.
const OVERFLOW: (u8, u32) = (240, 1 << 13);

/// Most bytes of a recording; those of the data set have some 20,000.
const MAX_BYTES: u64 = 1 << 20;

/// Most frames of a recording.
const MAX_FRAMES: usize = 1000;

/// Folders, archives and sizes of the training and the test split.
const SPLITS: [(&str, usize); 2] = [("Train", 60_000), ("Test", 10_000)];

/// How a recording is cut into frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cut {
    /// As many events in each; the last also has what is left over.
    #[default]
    Number,
    /// As much time in each, from the first event on.
    Time,
}

/// Parameters of `[data.n-mnist]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// Frames a recording is cut into.
    pub n_frames: usize,
    /// How it is cut.
    pub cut: Cut,
    /// Only the first so many training samples; all if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_train: Option<usize>,
    /// Only the first so many test samples; all if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_test: Option<usize>,
    /// As for the other sets: seed of a random choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draw: Option<u64>,
}

impl Default for Params {
    fn default() -> Self {
        Self { n_frames: 10, cut: Cut::Number, n_train: None, n_test: None, draw: None }
    }
}

impl Params {
    pub(super) fn limits(&self) -> Limits {
        Limits { n_train: self.n_train, n_test: self.n_test, draw: self.draw }
    }

    /// What is wrong with the values.
    pub fn check(&self) -> Checks {
        let mut checks = self.limits().check();
        checks.count("n_frames", self.n_frames, 1, MAX_FRAMES);
        checks
    }

    /// Reads the recordings below the data folder `root`: numbers of events, the frames one after
    /// another in the channels, darker before brighter. Counts end at 255.
    ///
    /// Of a split there is either the folder (`Train`, with a folder for each digit) or the archive
    /// (`Train.zip`, with that folder in it). Samples are in order of their numbers, which are those
    /// of MNIST's images.
    ///
    /// # Errors
    ///
    /// If files are missing or damaged; names file, what was expected and what was found.
    pub(super) fn read(&self, root: &Path) -> Result<(Split, Split)> {
        let folder = super::folder(root, "n-mnist", &["N-MNIST", "nmnist", "NMNIST"])?;
        let [train, test] = SPLITS.map(|split| self.split(&folder, split));
        Ok((train?, test?))
    }

    fn split(&self, folder: &Path, (name, most): (&str, usize)) -> Result<Split> {
        let (directory, archive) = (folder.join(name), folder.join(format!("{name}.zip")));
        let mut source = match (directory.is_dir(), archive.is_file()) {
            (true, _) => Source::Folder(directory),
            (false, true) => Source::Archive(archive.display().to_string(), open(&archive)?),
            (false, false) => {
                let (directory, archive) = (directory.display(), archive.display());
                let how = super::how_to_obtain("n-mnist");
                return Err(Error::data(format!(
                    "neither {directory} nor {archive} is there{how}"
                )));
            }
        };
        let mut recordings = source.recordings()?;
        if recordings.is_empty() || recordings.len() > most {
            let n = recordings.len();
            return Err(Error::data(format!(
                "{}: {n} recordings, expected 1 to {most} files NUMBER.bin in folders 0 to 9",
                folder.join(name).display()
            )));
        }
        recordings.sort_by_key(|r| (r.number, r.label));
        let shape = Shape::new(self.n_frames * CHANNELS, SIDE, SIDE);
        let mut counts = vec![0; recordings.len() * shape.len()];
        match &mut source {
            Source::Folder(_) => {
                let samples = counts.par_chunks_exact_mut(shape.len()).zip(&recordings);
                samples.try_for_each(|(counts, recording)| {
                    let path = Path::new(&recording.name);
                    let file = File::open(path).map_err(|e| Error::io("reading", path, e))?;
                    self.count_in(&recording.name, file, counts)
                })?;
            }
            Source::Archive(archive_name, archive) => {
                let samples = counts.chunks_exact_mut(shape.len()).zip(&recordings);
                for (counts, recording) in samples {
                    let name = format!("{archive_name}: {}", recording.name);
                    let file = archive.by_name(&recording.name);
                    let file = file.map_err(|e| damaged(&*archive_name, e))?;
                    self.count_in(&name, file, counts)?;
                }
            }
        }
        let labels = recordings.iter().map(|r| r.label).collect();
        Ok(Split { images: Images::from_counts(shape, counts), labels })
    }

    fn count_in(&self, name: &str, file: impl Read, counts: &mut [u8]) -> Result<()> {
        count(&events(name, &limited(name, file)?)?, self.n_frames, self.cut, counts);
        Ok(())
    }
}

/// One recording.
struct Recording {
    number: u64,
    label: u16,
    /// Path of the file, or name in the archive.
    name: String,
}

impl Recording {
    /// The recording that the last two parts of a path name, `7/00042.bin`.
    fn new(digit: &str, file_name: &str, name: String) -> Option<Self> {
        let label = digit.parse().ok().filter(|&l: &u16| l < 10 && digit.len() == 1)?;
        let number = file_name.strip_suffix(".bin").filter(|n| !n.starts_with('+'))?;
        Some(Self { number: number.parse().ok()?, label, name })
    }
}

type Archive = zip::ZipArchive<BufReader<File>>;

/// Where the recordings of a split are.
enum Source {
    Folder(PathBuf),
    Archive(String, Archive),
}

impl Source {
    /// All recordings, in no order.
    fn recordings(&mut self) -> Result<Vec<Recording>> {
        match self {
            Source::Folder(folder) => {
                let mut recordings = Vec::new();
                for digit in (0..10).map(|label| label.to_string()) {
                    let folder = folder.join(&digit);
                    if !folder.is_dir() {
                        continue;
                    }
                    let failed = |e| Error::io("reading", &folder, e);
                    for entry in std::fs::read_dir(&folder).map_err(failed)? {
                        let path = entry.map_err(failed)?.path();
                        let file_name = path.file_name().and_then(|n| n.to_str());
                        if let (Some(file_name), Some(name)) = (file_name, path.to_str()) {
                            recordings.extend(Recording::new(&digit, file_name, name.to_owned()));
                        }
                    }
                }
                Ok(recordings)
            }
            Source::Archive(archive_name, archive) => {
                let mut recordings = Vec::new();
                for name in archive.file_names() {
                    let name = name.map_err(|e| damaged(&*archive_name, e))?;
                    let mut parts = name.rsplit('/');
                    if let (Some(file_name), Some(digit)) = (parts.next(), parts.next()) {
                        recordings.extend(Recording::new(digit, file_name, name.to_string()));
                    }
                }
                Ok(recordings)
            }
        }
    }
}

fn open(path: &Path) -> Result<Archive> {
    let file = File::open(path).map_err(|e| Error::io("reading", path, e))?;
    zip::ZipArchive::new(BufReader::new(file)).map_err(|e| damaged(path.display(), e))
}

fn damaged(archive: impl std::fmt::Display, e: zip::result::ZipError) -> Error {
    Error::data(format!("{archive}: damaged or truncated archive: {e}")).with_source(e)
}

/// All bytes, if they are not too many for a recording.
fn limited(name: &str, file: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::data(format!("{name}: {e}")).with_source(e))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::data(format!("{name}: expected at most {MAX_BYTES} bytes, found more")));
    }
    Ok(bytes)
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Event {
    row: u8,
    column: u8,
    is_brighter: bool,
    /// Microseconds.
    time: u32,
}

/// The events of a recording; `name` stands in messages.
fn events(name: &str, bytes: &[u8]) -> Result<Vec<Event>> {
    if !bytes.len().is_multiple_of(EVENT) {
        return Err(Error::data(format!(
            "{name}: {} bytes, expected a multiple of the {EVENT} of an event",
            bytes.len()
        )));
    }
    let mut added = 0u32;
    let mut events = Vec::with_capacity(bytes.len() / EVENT);
    for (i, event) in bytes.chunks_exact(EVENT).enumerate() {
        let (column, row) = (event[0], event[1]);
        if row == OVERFLOW.0 {
            added += OVERFLOW.1;
            continue;
        }
        if usize::from(row) >= SIDE || usize::from(column) >= SIDE {
            return Err(Error::data(format!(
                "{name}: event {i} is in row {row} and column {column}, expected 0 to {}",
                SIDE - 1
            )));
        }
        let time = u32::from_be_bytes([0, event[2] & 0x7f, event[3], event[4]]) + added;
        events.push(Event { row, column, is_brighter: event[2] & 0x80 != 0, time });
    }
    Ok(events)
}

/// Adds the events to `counts`, `[frame, polarity, row, column]`.
fn count(events: &[Event], n_frames: usize, cut: Cut, counts: &mut [u8]) {
    let last = n_frames - 1;
    let first_time = events.iter().map(|e| e.time).min().unwrap_or(0);
    let duration = events.iter().map(|e| e.time - first_time).max().unwrap_or(0);
    let (per_frame, time_per_frame) = (events.len() / n_frames, duration as usize / n_frames);
    for (i, event) in events.iter().enumerate() {
        let (at, unit) = match cut {
            Cut::Number => (i, per_frame),
            Cut::Time => ((event.time - first_time) as usize, time_per_frame),
        };
        let frame = at.checked_div(unit).map_or(last, |frame| frame.min(last));
        let plane = CHANNELS * frame + usize::from(event.is_brighter);
        let pixel = (plane * SIDE + usize::from(event.row)) * SIDE + usize::from(event.column);
        counts[pixel] = counts[pixel].saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Data, DataDirs};
    use std::io::Write;

    fn bytes(events: &[(u8, u8, bool, u32)]) -> Vec<u8> {
        let event = |&(column, row, is_brighter, time): &(u8, u8, bool, u32)| {
            let [_, high, middle, low] = time.to_be_bytes();
            [column, row, high | u8::from(is_brighter) << 7, middle, low]
        };
        events.iter().flat_map(event).collect()
    }

    #[test]
    fn events_are_read_and_overflows_are_added() {
        let recording = [(18, 16, true, 893), (10, 240, false, 5), (10, 11, false, 0x7f_ff_ff)];
        let found = events("x", &bytes(&recording)).unwrap();
        let expected = [
            Event { row: 16, column: 18, is_brighter: true, time: 893 },
            Event { row: 11, column: 10, is_brighter: false, time: 0x7f_ff_ff + 8192 },
        ];
        assert_eq!(found, expected);
        assert!(events("x", &[0; 6]).unwrap_err().to_string().contains("x: 6 bytes"));
        let error = events("x", &bytes(&[(0, 0, true, 0), (34, 0, true, 0)])).unwrap_err();
        assert_eq!(error.to_string(), "x: event 1 is in row 0 and column 34, expected 0 to 33");
    }

    /// Seven events into three frames: by number 2, 2 and 3, by time as they come.
    #[test]
    fn recordings_are_cut_by_number_and_by_time() {
        let times = [100, 101, 102, 103, 104, 105, 130];
        let event = |time| Event { row: 1, column: 2, is_brighter: time % 2 == 1, time };
        let recording = times.map(event);
        let frames = |recording: &[Event], cut| {
            let mut counts = vec![0; 6 * SIDE * SIDE];
            count(recording, 3, cut, &mut counts);
            let planes = counts.chunks(SIDE * SIDE).map(|p| (p[SIDE + 2], p.iter().sum::<u8>()));
            planes.inspect(|(pixel, all)| assert_eq!(pixel, all)).map(|p| p.0).collect::<Vec<u8>>()
        };
        assert_eq!(frames(&recording, Cut::Number), [1, 1, 1, 1, 2, 1]);
        assert_eq!(frames(&recording, Cut::Time), [3, 3, 0, 0, 1, 0]);
        assert_eq!(frames(&recording[..2], Cut::Number), [0, 0, 0, 0, 1, 1]);
        assert_eq!(frames(&recording[..1], Cut::Time), [0, 0, 0, 0, 1, 0]);
        assert_eq!(frames(&[], Cut::Time), [0; 6]);
    }

    #[test]
    fn many_events_of_a_pixel_do_not_wrap() {
        let event = Event { row: 0, column: 0, is_brighter: false, time: 0 };
        let mut counts = vec![0; 2 * SIDE * SIDE];
        count(&[event; 300], 1, Cut::Number, &mut counts);
        assert_eq!(counts[0], 255);
    }

    /// The same recordings as folders and as archives; in order of their numbers.
    #[test]
    fn folders_and_archives_hold_the_same() {
        let root = tempfile::tempdir().unwrap();
        let params = Params { n_frames: 2, ..Params::default() };
        let load = |folder: &str, params: &Params| {
            let dirs = DataDirs::new(Some(root.path().join(folder)));
            Data::NMnist(params.clone()).load(&dirs)
        };
        let missing = load("", &params).unwrap_err().to_string();
        assert!(missing.contains("no folder with n-mnist"), "{missing}");
        let (plain, packed) = (root.path().join("a/n-mnist"), root.path().join("b/N-MNIST"));
        std::fs::create_dir_all(&packed).unwrap();
        for (split, files) in [("Train", [("7", 2u8), ("3", 10)]), ("Test", [("0", 1), ("9", 3)])] {
            let archive = File::create(packed.join(format!("{split}.zip"))).unwrap();
            let mut archive = zip::ZipWriter::new(archive);
            for (digit, number) in files {
                let recording = bytes(&[(number, 0, true, 0), (number, 1, false, 9)]);
                let name = format!("{split}/{digit}/{number:05}.bin");
                std::fs::create_dir_all(plain.join(split).join(digit)).unwrap();
                std::fs::write(plain.join(&name), &recording).unwrap();
                archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
                archive.write_all(&recording).unwrap();
            }
            archive.finish().unwrap();
        }
        std::fs::write(plain.join("Train/3/notes.txt"), "x").unwrap();
        let a = load("a", &params).unwrap();
        let b = load("b", &params).unwrap();
        assert_eq!((&a.train.labels, &a.test.labels), (&vec![7, 3], &vec![0, 9]));
        assert_eq!((&b.train.labels, &b.test.labels), (&a.train.labels, &a.test.labels));
        assert_eq!((&a.train.images, &a.test.images), (&b.train.images, &b.test.images));
        assert_eq!((a.shape, a.train.images.len()), (Shape::new(4, 34, 34), 2));
        let one = load("b", &Params { n_train: Some(1), ..params }).unwrap();
        assert_eq!((one.train.labels, one.test.labels.len()), (vec![7], 2));
        std::fs::write(packed.join("Test.zip"), "no archive").unwrap();
        let error = load("b", &Params::default()).unwrap_err().to_string();
        assert!(error.contains("Test.zip: damaged or truncated archive"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            if let Ok(events) = events("x", &bytes) {
                for cut in [Cut::Number, Cut::Time] {
                    count(&events, 7, cut, &mut vec![0; 14 * SIDE * SIDE]);
                }
            }
        }
    }
}
