//! Observers: the progress line, JSON lines, and the interrupt key.

use indicatif::{ProgressBar, ProgressStyle};
use spiketrain::event::{Event, Flow, Observer};
use spiketrain::{Error, Result};
use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// What goes to the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Progress,
    Quiet,
    Json,
}

impl Style {
    /// The style for the flags `--json` and `--quiet`; the former wins.
    pub(crate) fn of(json: bool, quiet: bool) -> Self {
        match (json, quiet) {
            (true, _) => Style::Json,
            (false, true) => Style::Quiet,
            (false, false) => Style::Progress,
        }
    }
}

/// Prints a line on standard output.
///
/// # Errors
///
/// If it cannot be written, which also stops a run, so that it is saved.
pub(crate) fn print(line: impl Display) -> Result<()> {
    let written = writeln!(io::stdout(), "{line}");
    written.map_err(|e| Error::io("writing", Path::new("standard output"), e))
}

/// Whether the error is that standard output was closed by who read it.
pub(crate) fn has_nobody_listening(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|e| e.downcast_ref::<io::Error>());
    source.is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// Prints a line on standard error, if anybody listens.
pub(crate) fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static HANDLER: OnceLock<()> = OnceLock::new();

/// Shows a run and stops it when the user interrupts.
pub(crate) struct Console {
    style: Style,
    bar: ProgressBar,
}

impl Console {
    /// Shows a run.
    pub(crate) fn new(style: Style) -> Self {
        Self::with_template(style, "{msg} [{bar:30}] {pos}/{len} {elapsed}")
    }

    /// Shows a download.
    pub(crate) fn for_bytes(style: Style) -> Self {
        let template = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
        Self::with_template(style, template)
    }

    fn with_template(style: Style, template: &str) -> Self {
        HANDLER.get_or_init(|| {
            // Without a handler, and at the second time, an interrupt ends the program at once; the
            // last checkpoint stays.
            let _ = ctrlc::set_handler(|| {
                if INTERRUPTED.swap(true, Ordering::SeqCst) {
                    std::process::exit(130);
                }
            });
        });
        let bar = match style {
            Style::Progress => ProgressBar::new(0),
            Style::Quiet | Style::Json => ProgressBar::hidden(),
        };
        bar.set_style(ProgressStyle::with_template(template).expect("a valid template"));
        Self { style, bar }
    }

    fn line(&self, text: String) {
        if self.style == Style::Progress {
            self.bar.suspend(|| complain(text));
        }
    }

    fn progress(&mut self, message: String, done: u64, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
        self.bar.set_message(message);
    }

    fn show(&mut self, event: &Event) {
        let percent = |m: &spiketrain::learner::Metrics| {
            m.get("accuracy").map_or_else(String::new, |a| format!("{:.2} %", 100.0 * a))
        };
        match event {
            Event::StageProgress { stage, done, total } => {
                self.progress(stage.clone(), *done, *total)
            }
            Event::Step { epoch, batch, n_batches, train, .. } => {
                let text = format!("epoch {} train {}", epoch + 1, percent(train));
                self.progress(text, *batch, *n_batches);
            }
            Event::StageEnd { stage, seconds, cached } => {
                let from = if *cached { " (from the cache)" } else { "" };
                self.line(format!("{stage}: {seconds:.1} s{from}"));
            }
            Event::Note { text } => self.line(text.clone()),
            Event::EpochEnd { epoch, seconds, n_samples, train, valid, .. } => {
                let rate = *n_samples as f64 / seconds.max(1e-9);
                self.line(format!(
                    "epoch {:>3}  train {}  validation {}  {rate:.0} samples/s",
                    epoch + 1,
                    percent(train),
                    percent(valid),
                ));
            }
            Event::Stopped { reason, .. } => self.line(format!("stopped: {reason}")),
            Event::RunEnd { .. } => self.bar.finish_and_clear(),
            _ => {}
        }
    }
}

impl Observer for Console {
    fn on_event(&mut self, event: &Event) -> Flow {
        match self.style {
            Style::Json if event.is_logged() && !matches!(event, Event::Figure { .. }) => {
                let line = serde_json::to_string(event).expect("events are JSON");
                if print(line).is_err() {
                    return Flow::Stop;
                }
            }
            Style::Progress => self.show(event),
            _ => {}
        }
        if INTERRUPTED.load(Ordering::SeqCst) { Flow::Stop } else { Flow::Continue }
    }
}

/// Prints an error, with a caret where it lies in a text.
pub(crate) fn print_error(error: &Error) {
    let Some(excerpt) = error.excerpt() else {
        complain(format_args!("error: {error}"));
        return;
    };
    let source = miette::NamedSource::new(&excerpt.name, excerpt.text.clone());
    let label = miette::LabeledSpan::at(excerpt.span.clone(), "here");
    let report = if excerpt.help.is_empty() {
        miette::miette!(labels = vec![label], "{error}")
    } else {
        miette::miette!(
            labels = vec![label],
            help = format!("allowed: {}", excerpt.help),
            "{error}"
        )
    };
    complain(format_args!("{:?}", report.with_source_code(source)));
}
