//! Replays a log: from a list of events to the run they tell of.

use super::log::check_version;
use crate::error::{Error, Result};
use crate::event::{Event, Figure, Histogram};
use crate::learner::Metrics;
use std::collections::BTreeMap;

/// A run as its log tells it. Borrows from the events.
#[derive(Debug)]
pub(super) struct Run<'a> {
    /// What was known at the start.
    pub(super) start: Start<'a>,
    /// Stages before the epochs, in order.
    pub(super) stages: Vec<Stage<'a>>,
    /// Epochs that ended, in order.
    pub(super) epochs: Vec<Epoch<'a>>,
    /// Epochs done when the run was resumed, once per resumption.
    pub(super) resumed: Vec<u64>,
    /// Epochs done at the last checkpoint called best.
    pub(super) best: Option<u64>,
    /// The test, if the run came so far.
    pub(super) test: Option<Test<'a>>,
    /// Pictures, in order of first appearance.
    pub(super) figures: Vec<&'a Figure>,
    /// Epochs done and reason of an early stop.
    pub(super) stopped: Option<(u64, &'a str)>,
    /// Epochs done and seconds of a run that came to its end.
    pub(super) end: Option<(u64, f64)>,
}

/// What [`Event::RunStart`] says.
#[derive(Debug)]
pub(super) struct Start<'a> {
    pub(super) spiketrain: &'a str,
    pub(super) run: &'a str,
    pub(super) recipe: &'a str,
    pub(super) method: &'a str,
    pub(super) data: &'a str,
    pub(super) encoder: &'a str,
    pub(super) seed: u64,
    pub(super) threads: usize,
    pub(super) n_train: usize,
    pub(super) n_valid: usize,
    pub(super) n_test: usize,
    pub(super) classes: &'a [String],
    pub(super) unix_time: u64,
    pub(super) meanings: &'a BTreeMap<String, String>,
}

/// A stage before the epochs.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    pub(super) name: &'a str,
    /// Seconds and whether the result came from the cache; nothing if it did not end.
    pub(super) end: Option<(f64, bool)>,
}

/// An epoch that ended.
#[derive(Debug)]
pub(super) struct Epoch<'a> {
    /// Epochs done after it: 1 for the first.
    pub(super) number: u64,
    pub(super) seconds: f64,
    pub(super) n_samples: u64,
    pub(super) train: &'a Metrics,
    pub(super) valid: &'a Metrics,
    pub(super) metrics: &'a Metrics,
    pub(super) series: &'a BTreeMap<String, Vec<f64>>,
}

/// The test.
#[derive(Debug)]
pub(super) struct Test<'a> {
    pub(super) metrics: &'a Metrics,
    pub(super) confusion: &'a [Vec<u64>],
    pub(super) histograms: &'a [Histogram],
}

impl<'a> Run<'a> {
    /// Replays `events`.
    ///
    /// # Errors
    ///
    /// If the first event is not [`Event::RunStart`] or has another major version.
    pub(super) fn replay(events: &'a [Event]) -> Result<Self> {
        let start = Start::read(events.first())?;
        let mut run = Run {
            start,
            stages: Vec::new(),
            epochs: Vec::new(),
            resumed: Vec::new(),
            best: None,
            test: None,
            figures: Vec::new(),
            stopped: None,
            end: None,
        };
        events[1..].iter().for_each(|event| run.follow(event));
        Ok(run)
    }

    fn follow(&mut self, event: &'a Event) {
        match event {
            Event::StageStart { stage } => {
                self.stages.push(Stage { name: stage, end: None });
            }
            Event::StageEnd { stage, seconds, cached } => {
                let end = Some((*seconds, *cached));
                match self.stages.iter_mut().rev().find(|s| s.name == stage && s.end.is_none()) {
                    Some(open) => open.end = end,
                    None => self.stages.push(Stage { name: stage, end }),
                }
            }
            Event::EpochEnd {
                epoch, seconds, n_samples, train, valid, metrics, series, ..
            } => {
                self.forget_from(*epoch);
                self.epochs.push(Epoch {
                    number: epoch.saturating_add(1),
                    seconds: *seconds,
                    n_samples: *n_samples,
                    train,
                    valid,
                    metrics,
                    series,
                });
            }
            Event::Checkpoint { epoch, file } if file.starts_with("best") => {
                self.best = Some(*epoch);
            }
            Event::Resumed { epoch } => {
                self.forget_from(*epoch);
                self.resumed.push(*epoch);
                (self.stopped, self.test, self.end) = (None, None, None);
            }
            Event::Stopped { epoch, reason, .. } => self.stopped = Some((*epoch, reason)),
            Event::Test { metrics, confusion, histograms } => {
                self.test = Some(Test { metrics, confusion, histograms });
            }
            Event::Figure { figure } => {
                // A resumed run offers its pictures again; the newest of each heading counts.
                match self.figures.iter_mut().find(|f| heading(f) == heading(figure)) {
                    Some(old) => *old = figure,
                    None => self.figures.push(figure),
                }
            }
            Event::RunEnd { epochs, seconds } => self.end = Some((*epochs, *seconds)),
            _ => {}
        }
    }

    /// Drops epochs that a resumed run has gone through again.
    fn forget_from(&mut self, epoch: u64) {
        self.epochs.retain(|e| e.number <= epoch);
    }

    /// Epochs done.
    pub(super) fn n_epochs(&self) -> u64 {
        self.epochs.last().map_or(0, |e| e.number)
    }

    /// Seconds of training: all epochs together.
    pub(super) fn training_seconds(&self) -> f64 {
        // A sum of nothing is −0.
        0.0 + self.epochs.iter().map(|e| e.seconds).filter(|s| s.is_finite()).sum::<f64>()
    }

    /// The epochs the recipe asks for, if it says so under `[train]`.
    pub(super) fn n_epochs_planned(&self) -> Option<u64> {
        let recipe: toml::Table = self.start.recipe.parse().ok()?;
        let n = recipe.get("train")?.get("epochs")?.as_integer()?;
        u64::try_from(n).ok()
    }
}

impl<'a> Start<'a> {
    fn read(event: Option<&'a Event>) -> Result<Self> {
        let Some(Event::RunStart {
            version,
            spiketrain,
            run,
            recipe,
            method,
            data,
            encoder,
            seed,
            threads,
            n_train,
            n_valid,
            n_test,
            classes,
            unix_time,
            meanings,
        }) = event
        else {
            return Err(Error::checkpoint("the event log does not begin with a run_start event"));
        };
        check_version(version)?;
        Ok(Self {
            spiketrain,
            run,
            recipe,
            method,
            data,
            encoder,
            seed: *seed,
            threads: *threads,
            n_train: *n_train,
            n_valid: *n_valid,
            n_test: *n_test,
            classes,
            unix_time: *unix_time,
            meanings,
        })
    }
}

fn heading(figure: &Figure) -> &str {
    match figure {
        Figure::Images { title, .. }
        | Figure::Raster { title, .. }
        | Figure::Bars { title, .. }
        | Figure::Lines { title, .. }
        | Figure::Histograms { title, .. } => title,
    }
}
