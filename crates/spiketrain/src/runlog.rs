//! `events.jsonl`: one event a line, written as it happens.

use crate::error::{Error, Result};
use crate::event::{Event, INTERRUPTED};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Name of the log inside a run folder.
pub const LOG_FILE: &str = "events.jsonl";

/// The log of a run.
#[derive(Debug)]
pub(crate) struct RunLog {
    path: PathBuf,
    file: File,
    is_new: bool,
    seconds: f64,
    unfinished: f64,
    notes: Vec<String>,
}

impl RunLog {
    /// An empty log.
    pub(crate) fn create(dir: &Path) -> Result<Self> {
        let path = dir.join(LOG_FILE);
        let file = File::create(&path).map_err(|e| Error::io("writing", &path, e))?;
        let notes = Vec::new();
        Ok(Self { path, file, is_new: true, seconds: 0.0, unfinished: 0.0, notes })
    }

    /// The log of a run that goes on after `epoch` epochs: what was logged later is dropped, and so
    /// are lines that a crash tore.
    pub(crate) fn reopen(dir: &Path, epoch: u64) -> Result<Self> {
        let path = dir.join(LOG_FILE);
        let bytes = match std::fs::read(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
            read => read.map_err(|e| Error::io("reading", &path, e))?,
        };
        let mut kept = Vec::new();
        let (mut seconds, mut unfinished) = (0.0, 0.0);
        let (mut notes, mut is_tested) = (Vec::new(), false);
        for line in bytes.split(|&b| b == b'\n') {
            let Ok(event) = serde_json::from_slice::<Event>(line) else { continue };
            let is_later = match &event {
                Event::EpochEnd { epoch: e, .. } | Event::EpochStart { epoch: e, .. } => {
                    *e >= epoch
                }
                Event::Checkpoint { epoch: e, .. } => *e > epoch,
                Event::Stopped { epoch: e, reason, seconds } => {
                    unfinished = if *e == epoch && reason == INTERRUPTED { *seconds } else { 0.0 };
                    true
                }
                // Notes are of the test once there is one.
                Event::Note { .. } => is_tested,
                Event::Test { .. } => {
                    is_tested = true;
                    true
                }
                Event::Figure { .. } | Event::RunEnd { .. } => true,
                _ => false,
            };
            if is_later {
                continue;
            }
            seconds += seconds_of(&event);
            kept.extend_from_slice(line);
            kept.push(b'\n');
            if let Event::Note { text } = event {
                notes.push(text);
            }
        }
        let is_new = kept.is_empty();
        crate::checkpoint::write_atomically(&path, &kept)?;
        let file = OpenOptions::new().append(true).open(&path);
        let file = file.map_err(|e| Error::io("writing", &path, e))?;
        Ok(Self { path, file, is_new, seconds, unfinished, notes })
    }

    /// Whether the note stands in it from an earlier session.
    pub(crate) fn has_note(&self, text: &str) -> bool {
        self.notes.iter().any(|n| n == text)
    }

    /// Seconds of training in the epoch that an interrupt left unfinished.
    pub(crate) fn unfinished(&self) -> f64 {
        self.unfinished
    }

    /// What was written is on the disk, for a checkpoint that relies on it.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| Error::io("writing", &self.path, e))
    }

    /// Whether nothing stands in it yet.
    pub(crate) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Seconds of all stages and epochs logged, validation included.
    pub(crate) fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Appends an event, unless it is a progress tick.
    pub(crate) fn write(&mut self, event: &Event) -> Result<()> {
        if !event.is_logged() {
            return Ok(());
        }
        self.is_new = false;
        self.seconds += seconds_of(event);
        let mut line = serde_json::to_vec(event).expect("events are JSON");
        line.push(b'\n');
        self.file.write_all(&line).map_err(|e| Error::io("writing", &self.path, e))
    }
}

fn seconds_of(event: &Event) -> f64 {
    match event {
        Event::StageEnd { seconds, .. } => *seconds,
        Event::EpochEnd { seconds, closing_seconds, .. } => seconds + closing_seconds,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_costs_that_line_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = RunLog::create(dir.path()).unwrap();
        let note = |text: &str| Event::Note { text: text.into() };
        let stopped =
            |epoch, reason: &str, seconds| Event::Stopped { epoch, reason: reason.into(), seconds };
        let test = Event::Test {
            metrics: Default::default(),
            confusion: Vec::new(),
            histograms: Vec::new(),
        };
        for event in [
            note("before"),
            Event::StageEnd { stage: "fit".into(), seconds: 2.0, cached: false },
            test,
            note("of the test"),
            stopped(3, INTERRUPTED, 0.5),
        ] {
            log.write(&event).unwrap();
        }
        log.file.write_all(b"{\"event\":\"note\",\"text\":\"caf\xc3").unwrap();
        let log = RunLog::reopen(dir.path(), 3).unwrap();
        assert_eq!((log.seconds(), log.unfinished(), log.is_new()), (2.0, 0.5, false));
        assert!(log.has_note("before") && !log.has_note("of the test"));
        let text = std::fs::read_to_string(dir.path().join(LOG_FILE)).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert_eq!(RunLog::reopen(dir.path(), 3).unwrap().unfinished(), 0.0, "told once");
    }
}
