//! Reads a run's event log, whatever became of the run.

use crate::error::{Error, Result};
use crate::event::{Event, LOG_VERSION};
use serde_json::Value;
use std::io::ErrorKind;
use std::path::Path;

/// Reads the event log at `path`.
///
/// Events of a kind this version does not know are skipped, and so is a damaged last line: a run
/// that crashed may have written half of it.
///
/// # Errors
///
/// If the file is missing or cannot be read, does not begin with [`Event::RunStart`], has another major version
/// or is damaged before its last line.
pub fn read_log(path: &Path) -> Result<Vec<Event>> {
    let bytes = std::fs::read(path).map_err(|e| match e.kind() {
        ErrorKind::NotFound => Error::checkpoint(format!("there is no log {}", path.display())),
        _ => Error::io("reading", path, e),
    })?;
    parse(&bytes).map_err(|e| e.context(path.display()))
}

fn parse(bytes: &[u8]) -> Result<Vec<Event>> {
    let lines: Vec<(usize, &[u8])> = bytes
        .split(|&b| b == b'\n')
        .enumerate()
        .map(|(i, line)| (i + 1, line.trim_ascii()))
        .filter(|(_, line)| !line.is_empty())
        .collect();
    let Some(((_, first), rest)) = lines.split_first() else {
        return Err(Error::checkpoint("the event log is empty; expected a run_start event"));
    };
    let mut events = vec![parse_start(first)?];
    for (i, (n, line)) in rest.iter().enumerate() {
        match serde_json::from_slice::<Event>(line) {
            Ok(event) => events.push(event),
            Err(_) if serde_json::from_slice::<Value>(line).is_ok() => {}
            Err(_) if i + 1 == rest.len() => {}
            Err(e) => {
                return Err(Error::checkpoint(format!("line {n}: expected an event, found {e}")));
            }
        }
    }
    Ok(events)
}

/// Reads the first line, its version before everything else.
fn parse_start(line: &[u8]) -> Result<Event> {
    let wrong = |found: String| {
        Error::checkpoint(format!("line 1: expected a run_start event, found {found}"))
    };
    let value: Value = serde_json::from_slice(line).map_err(|e| wrong(e.to_string()))?;
    if value["event"] != "run_start" {
        return Err(wrong(format!("{:.60}", value["event"].to_string())));
    }
    check_version(value["version"].as_str().unwrap_or(""))?;
    serde_json::from_value(value).map_err(|e| wrong(e.to_string()))
}

/// Refuses a log of another major version.
pub(super) fn check_version(version: &str) -> Result<()> {
    let major = |v: &str| v.split('.').next().and_then(|m| m.parse::<u32>().ok());
    if major(version).is_some() && major(version) == major(LOG_VERSION) {
        return Ok(());
    }
    Err(Error::checkpoint(format!(
        "the event log has version {version:?}; expected {}.x",
        LOG_VERSION.split('.').next().unwrap_or(LOG_VERSION)
    )))
}
