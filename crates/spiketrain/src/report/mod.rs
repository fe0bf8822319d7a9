//! A run's event log as one page to read: `events.jsonl` in, `report.html` out.
//!
//! The page is a replay of the log, so it can be made of a run that is under way, was stopped,
//! crashed or was resumed. It is a single file without scripts that loads nothing from anywhere:
//! charts are inline SVG, images inline PNG, and the style sheet is part of it.
//!
//! ```no_run
//! let page = spiketrain::report::write(std::path::Path::new("runs/digits"))?;
//! println!("open {}", page.display());
//! # Ok::<(), spiketrain::Error>(())
//! ```

pub mod compare;
mod competition;
mod confusion;
mod drawing;
mod format;
mod learning;
mod log;
mod metric;
mod page;
mod picture;
mod replay;
mod svg;

pub use log::read_log;

use crate::error::Result;
use crate::event::Event;
use crate::runlog::LOG_FILE;
use std::path::{Path, PathBuf};

/// Name of the page in a run folder.
pub(crate) const PAGE_FILE: &str = "report.html";
/// Name of the page that compares runs.
const COMPARISON_FILE: &str = "compare.html";

/// The page of the run that `events` tell of.
///
/// # Errors
///
/// If the first event is not [`Event::RunStart`] or the log has another major version.
pub fn render(events: &[Event]) -> Result<String> {
    page::render(&replay::Run::replay(events)?)
}

/// Writes the page of the run in `run_dir` beside its log and returns the page's path.
///
/// The page appears as a whole or not at all; an older one is replaced.
///
/// # Errors
///
/// If the log cannot be read (see [`read_log`]) or the page cannot be written.
pub fn write(run_dir: &Path) -> Result<PathBuf> {
    let log = run_dir.join(LOG_FILE);
    let html = render(&read_log(&log)?).map_err(|e| e.context(log.display()))?;
    write_page(&run_dir.join(PAGE_FILE), &html)
}

/// Writes `html` to `page`, as a whole or not at all, and returns the path.
fn write_page(page: &Path, html: &str) -> Result<PathBuf> {
    crate::checkpoint::write_atomically(page, html.as_bytes())?;
    Ok(page.to_owned())
}
