//! `events.jsonl`: one event a line, written as it happens.

use crate::error::{Error, Result};
use crate::event::Event;
use std::fs::{File, OpenOptions};
use std::io::Write;
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
}

impl RunLog {
    /// An empty log.
    pub(crate) fn create(dir: &Path) -> Result<Self> {
        let path = dir.join(LOG_FILE);
        let file = File::create(&path).map_err(|e| Error::io("writing", &path, e))?;
        Ok(Self { path, file, is_new: true, seconds: 0.0 })
    }

    /// The log of a run that goes on after `epoch` epochs: what was logged later is dropped.
    pub(crate) fn reopen(dir: &Path, epoch: u64) -> Result<Self> {
        let path = dir.join(LOG_FILE);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let mut kept = Vec::new();
        let mut seconds = 0.0;
        for line in text.lines() {
            let Ok(event) = serde_json::from_str::<Event>(line) else { continue };
            let is_later = match &event {
                Event::EpochEnd { epoch: e, .. } | Event::EpochStart { epoch: e, .. } => {
                    *e >= epoch
                }
                Event::Checkpoint { epoch: e, .. } => *e > epoch,
                Event::Test { .. }
                | Event::Figure { .. }
                | Event::RunEnd { .. }
                | Event::Stopped { .. } => true,
                _ => false,
            };
            if !is_later {
                seconds += seconds_of(&event);
                kept.push(line);
            }
        }
        let is_new = kept.is_empty();
        let mut bytes = kept.join("\n").into_bytes();
        if !is_new {
            bytes.push(b'\n');
        }
        crate::checkpoint::write_atomically(&path, &bytes)?;
        let file = OpenOptions::new().append(true).open(&path);
        let file = file.map_err(|e| Error::io("writing", &path, e))?;
        Ok(Self { path, file, is_new, seconds })
    }

    /// Whether nothing stands in it yet.
    pub(crate) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Seconds of all stages and epochs logged.
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
        Event::StageEnd { seconds, .. } | Event::EpochEnd { seconds, .. } => *seconds,
        _ => 0.0,
    }
}
