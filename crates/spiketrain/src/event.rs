//! What happens in a run, as typed events. Progress line, log file and report are observers.
//!
//! The log `events.jsonl` is one event a line. Its first line is [`Event::RunStart`], which
//! carries the format's version: the major number changes when an old reader would misread a new
//! file, the minor number when fields or events are added. Readers skip events they do not know.
//! JSON has no word for what is not a finite number: it is written as `null` and read as NaN.

use crate::error::{Error, Result};
use crate::learner::Metrics;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the event log's format, major.minor.
pub const LOG_VERSION: &str = "1.3";

/// Reason of [`Event::Stopped`] where the observer asked for it.
pub const INTERRUPTED: &str = "interrupted";

/// Whether the run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Flow {
    /// Go on.
    Continue,
    /// Save and stop.
    Stop,
}

/// Listens to a run. It cannot change training, except to stop it.
pub trait Observer: Send {
    /// Called for every event, in order.
    fn on_event(&mut self, event: &Event) -> Flow;
}

/// Shows an event; an error if the observer wants to stop.
pub(crate) fn show(observer: &mut dyn Observer, event: &Event) -> Result<()> {
    match observer.on_event(event) {
        Flow::Continue => Ok(()),
        Flow::Stop => Err(Error::interrupted()),
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// First event of a run.
    RunStart {
        /// [`LOG_VERSION`].
        version: String,
        /// Version of the program.
        spiketrain: String,
        /// Name of the run folder.
        run: String,
        /// The complete recipe as TOML.
        recipe: String,
        /// Method's name.
        method: String,
        /// Data set's name.
        data: String,
        /// Encoder's name.
        encoder: String,
        /// The seed.
        seed: u64,
        /// Threads at work.
        threads: usize,
        /// Training samples.
        n_train: usize,
        /// Validation samples.
        n_valid: usize,
        /// Test samples.
        n_test: usize,
        /// Names of the classes; empty for data without labels.
        classes: Vec<String>,
        /// Seconds since 1970.
        unix_time: u64,
        /// What the method's own metrics mean, by name; empty before version 1.2.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        meanings: BTreeMap<String, String>,
    },
    /// A stage before the epochs began (loading, fitting an encoder, encoding).
    StageStart {
        /// What is done.
        stage: String,
    },
    /// A stage advances. Not logged.
    StageProgress {
        /// What is done.
        stage: String,
        /// Units done.
        done: u64,
        /// Units in all.
        total: u64,
    },
    /// A stage ended.
    StageEnd {
        /// What was done.
        stage: String,
        /// Wall-clock seconds.
        #[serde(deserialize_with = "null::number")]
        seconds: f64,
        /// True if the result came from the cache.
        cached: bool,
    },
    /// Something to know: before training begins, or about the test. Since version 1.1.
    Note {
        /// One sentence or two.
        text: String,
    },
    /// An epoch began.
    EpochStart {
        /// From 0.
        epoch: u64,
        /// Batches it will take.
        n_batches: u64,
    },
    /// A batch was learned. Not logged.
    Step {
        /// Epoch, from 0.
        epoch: u64,
        /// Batches done in this epoch.
        batch: u64,
        /// Batches in this epoch.
        n_batches: u64,
        /// Samples shown in this epoch so far.
        n_samples: u64,
        /// Mean training metrics of this epoch so far.
        #[serde(deserialize_with = "null::metrics")]
        train: Metrics,
    },
    /// An epoch ended.
    EpochEnd {
        /// From 0.
        epoch: u64,
        /// Wall-clock seconds of training in it, in all sessions that worked on it.
        #[serde(deserialize_with = "null::number")]
        seconds: f64,
        /// Wall-clock seconds of the validation and of what the method does at an epoch's end; 0
        /// before version 1.3.
        #[serde(default, deserialize_with = "null::number")]
        closing_seconds: f64,
        /// Samples shown in it.
        n_samples: u64,
        /// Training metrics.
        #[serde(deserialize_with = "null::metrics")]
        train: Metrics,
        /// Validation metrics; empty without a validation split.
        #[serde(deserialize_with = "null::metrics")]
        valid: Metrics,
        /// The method's own numbers.
        #[serde(deserialize_with = "null::metrics")]
        metrics: Metrics,
        /// The method's own vectors.
        #[serde(deserialize_with = "null::series")]
        series: BTreeMap<String, Vec<f64>>,
    },
    /// A checkpoint was written.
    Checkpoint {
        /// Epochs done.
        epoch: u64,
        /// File name inside the run folder.
        file: String,
    },
    /// The run goes on from a checkpoint.
    Resumed {
        /// Epochs done before.
        epoch: u64,
    },
    /// Training ended before its last epoch.
    Stopped {
        /// Epochs done.
        epoch: u64,
        /// Why; [`INTERRUPTED`] where it can go on.
        reason: String,
        /// Wall-clock seconds of training in the epoch that is under way; 0 before version 1.3.
        #[serde(default, deserialize_with = "null::number")]
        seconds: f64,
    },
    /// The test split was evaluated.
    Test {
        /// Metrics.
        #[serde(deserialize_with = "null::metrics")]
        metrics: Metrics,
        /// Counts `[label][predicted class]`; empty without classes.
        confusion: Vec<Vec<u64>>,
        /// Distributions over the samples, for example of the decision time.
        histograms: Vec<Histogram>,
    },
    /// A picture for the report.
    Figure {
        /// The picture.
        figure: Figure,
    },
    /// Last event of a run that came to its end.
    RunEnd {
        /// Epochs done.
        epochs: u64,
        /// Wall-clock seconds, all sessions of the run together.
        #[serde(deserialize_with = "null::number")]
        seconds: f64,
    },
}

impl Event {
    /// True if the event belongs in the log; progress ticks do not.
    pub fn is_logged(&self) -> bool {
        !matches!(self, Event::StageProgress { .. } | Event::Step { .. })
    }
}

/// Counts of a quantity in equal bins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// What is counted, with its unit.
    pub label: String,
    /// Left edge of the first bin.
    #[serde(deserialize_with = "null::number")]
    pub from: f64,
    /// Right edge of the last bin.
    #[serde(deserialize_with = "null::number")]
    pub to: f64,
    /// Counts.
    pub counts: Vec<u64>,
}

/// A named curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Legend.
    pub name: String,
    /// Abscissae.
    #[serde(deserialize_with = "null::numbers")]
    pub x: Vec<f64>,
    /// Ordinates, as many.
    #[serde(deserialize_with = "null::numbers")]
    pub y: Vec<f64>,
}

/// A named row of bars.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BarRow {
    /// Legend.
    pub name: String,
    /// One value per category.
    #[serde(deserialize_with = "null::numbers")]
    pub values: Vec<f64>,
}

/// Spikes of one sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RasterPanel {
    /// Heading.
    pub label: String,
    /// Rows of the panel.
    pub n_neurons: usize,
    /// Row names, as many as neurons, or empty.
    pub names: Vec<String>,
    /// Spike times, as fractions of the window.
    #[serde(deserialize_with = "null::times")]
    pub times: Vec<f32>,
    /// Neuron of each spike.
    pub neurons: Vec<u32>,
    /// Rows to emphasise.
    pub highlight: Vec<u32>,
}

/// A picture a method or an encoder offers for the report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Figure {
    /// A grid of small images.
    Images {
        /// Heading.
        title: String,
        /// One or two sentences.
        caption: String,
        /// Rows of each image.
        height: usize,
        /// Columns of each image.
        width: usize,
        /// 1 for grey, 3 for colour (red, green, blue).
        channels: usize,
        /// Bytes `[image][row, column, channel]`.
        images: Vec<Vec<u8>>,
        /// One label per image, or empty.
        labels: Vec<String>,
    },
    /// Spikes over time.
    Raster {
        /// Heading.
        title: String,
        /// One or two sentences.
        caption: String,
        /// One panel per sample.
        panels: Vec<RasterPanel>,
    },
    /// Bars by category; rows are stacked.
    Bars {
        /// Heading.
        title: String,
        /// One or two sentences.
        caption: String,
        /// Category names.
        categories: Vec<String>,
        /// Rows.
        rows: Vec<BarRow>,
        /// Name of the value axis.
        y_label: String,
    },
    /// Curves.
    Lines {
        /// Heading.
        title: String,
        /// One or two sentences.
        caption: String,
        /// Name of the horizontal axis.
        x_label: String,
        /// Name of the vertical axis.
        y_label: String,
        /// Curves.
        curves: Vec<Curve>,
    },
    /// Distributions, drawn one below the other.
    Histograms {
        /// Heading.
        title: String,
        /// One or two sentences.
        caption: String,
        /// The distributions.
        histograms: Vec<Histogram>,
    },
}

/// Reads `null` as not a number.
mod null {
    use super::{BTreeMap, Metrics};
    use serde::{Deserialize, Deserializer};

    /// A number that may be `null`.
    #[derive(Deserialize)]
    #[serde(from = "Option<f64>")]
    struct Number(f64);

    impl From<Option<f64>> for Number {
        fn from(v: Option<f64>) -> Self {
            Self(v.unwrap_or(f64::NAN))
        }
    }

    pub(super) fn number<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
        Ok(Number::deserialize(d)?.0)
    }

    pub(super) fn times<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<f32>, D::Error> {
        let times = Vec::<Option<f32>>::deserialize(d)?;
        Ok(times.into_iter().map(|t| t.unwrap_or(f32::NAN)).collect())
    }

    pub(super) fn numbers<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<f64>, D::Error> {
        Ok(Vec::<Number>::deserialize(d)?.into_iter().map(|v| v.0).collect())
    }

    pub(super) fn metrics<'de, D: Deserializer<'de>>(d: D) -> Result<Metrics, D::Error> {
        let table = BTreeMap::<String, Number>::deserialize(d)?;
        Ok(table.into_iter().map(|(name, v)| (name, v.0)).collect())
    }

    pub(super) fn series<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<BTreeMap<String, Vec<f64>>, D::Error> {
        let table = BTreeMap::<String, Vec<Number>>::deserialize(d)?;
        let plain = |v: Vec<Number>| v.into_iter().map(|v| v.0).collect();
        Ok(table.into_iter().map(|(name, v)| (name, plain(v))).collect())
    }
}
