//! The contract between the one training loop and every method.

use crate::error::Result;
use crate::event::Figure;
use crate::seed::Seed;
use crate::spikes::{Inputs, Notation, Shape};
use crate::state::State;
use std::collections::BTreeMap;

/// Named numbers, in the order of names.
pub type Metrics = BTreeMap<String, f64>;

/// A list of samples: rows of a split. An online method walks it in order.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The whole split.
    pub inputs: &'a Inputs,
    /// Which samples, in which order.
    pub rows: &'a [usize],
    /// Labels of the whole split, `0..n_classes`; empty for data without labels.
    pub labels: &'a [u16],
}

impl Batch<'_> {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True without samples.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// Where in the run a step stands, and the run's seed.
///
/// Draws that must be the same after a resume take their index from here:
/// `ctx.seed.stream("dropout", ctx.presentation(i))`.
#[derive(Clone, Copy, Debug)]
pub struct Ctx {
    /// The run's seed.
    pub seed: Seed,
    /// Epoch, from 0.
    pub epoch: u64,
    /// Steps done since the run began.
    pub step: u64,
    /// Samples shown since the run began, before this step.
    pub n_presented: u64,
    /// Factor of the learning-rate schedule for this step, 1 without a schedule.
    pub rate: f64,
}

impl Ctx {
    /// Index of the presentation of the `i`-th sample of this step; never repeats in a run.
    pub fn presentation(&self, i: usize) -> u64 {
        self.n_presented + i as u64
    }
}

/// What one step did.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepReport {
    /// Samples shown.
    pub n_samples: u64,
    /// Sum over the samples of the method's own loss; 0 for rules without one.
    pub loss: f64,
    /// Samples whose class was predicted correctly before learning from them, if the method says.
    pub n_correct: Option<u64>,
}

/// What one epoch did beyond its steps.
#[derive(Clone, Debug, Default)]
pub struct EpochReport {
    /// Single numbers, one curve each in the report.
    pub metrics: Metrics,
    /// Vectors, for example updates per neuron.
    pub series: BTreeMap<String, Vec<f64>>,
}

/// Everything a method can say about one sample. Metrics are made from this, in one place.
#[derive(Clone, Debug, Default)]
pub struct Prediction {
    /// The class, for classifiers; none if the network gave no answer, which is wrong.
    pub class: Option<u16>,
    /// One score per class, larger is likelier; empty if nothing is classified.
    pub scores: Vec<f32>,
    /// The reconstructed sample, for autoencoders.
    pub reconstruction: Option<Vec<f32>>,
    /// What the reconstruction is compared with.
    pub target: Option<Vec<f32>>,
    /// Spikes that entered or arose in the network up to the decision.
    pub n_spikes: u64,
    /// Synaptic operations up to the decision: one per spike and connection it travels.
    pub n_synops: u64,
    /// Time of the decision, as a fraction of the window.
    pub decision_time: Option<f32>,
    /// The method's own measures.
    pub measures: Vec<Measure>,
}

impl Prediction {
    /// Whether it is a classifier's, with an answer or without.
    pub fn classifies(&self) -> bool {
        self.class.is_some() || !self.scores.is_empty()
    }
}

/// A measure of one sample: the sum of a quantity over everything counted inside the sample
/// (itself, its patches, its steps) and how many those are. Its mean over samples is pooled.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    /// Name among the metrics.
    pub name: &'static str,
    /// Sum of the quantity.
    pub sum: f64,
    /// How many were summed.
    pub count: u64,
}

/// One way to train a network. See the numbered invariants in `ARCHITECTURE.md`.
pub trait Learner: Send {
    /// Learns from a batch.
    ///
    /// # Errors
    ///
    /// If the samples cannot be learned from or the method diverged.
    fn step(&mut self, batch: &Batch<'_>, ctx: &Ctx) -> Result<StepReport>;

    /// Says what it thinks of each sample; changes nothing.
    ///
    /// # Errors
    ///
    /// If a sample cannot be read.
    fn predict(&self, batch: &Batch<'_>) -> Result<Vec<Prediction>>;

    /// Everything that must survive a stop between two steps.
    fn state(&self) -> State;

    /// Puts back what [`Learner::state`] gave.
    ///
    /// # Errors
    ///
    /// If an array is missing or does not fit; the learner is then unusable.
    fn restore(&mut self, state: &State) -> Result<()>;

    /// Called after the last step of an epoch; anneals, rotates thresholds, reports.
    ///
    /// # Errors
    ///
    /// If the method diverged.
    fn end_epoch(&mut self, _ctx: &Ctx) -> Result<EpochReport> {
        Ok(EpochReport::default())
    }

    /// Whether [`Learner::fit_readout`] fits something: before it has, figures are missing.
    fn has_readout(&self) -> bool {
        false
    }

    /// Called once after the last epoch, for methods that classify with a readout of their own.
    ///
    /// # Errors
    ///
    /// If a sample cannot be read.
    fn fit_readout(&mut self, _train: &Batch<'_>, _ctx: &Ctx) -> Result<()> {
        Ok(())
    }

    /// What a user should know before training begins, for example the memory that a step of
    /// `batch_size` samples will take. One sentence or two each.
    fn notes(&self, _batch_size: usize) -> Vec<String> {
        Vec::new()
    }

    /// Pictures for the report; `probe` holds a few test samples.
    ///
    /// # Errors
    ///
    /// If a sample cannot be read.
    fn figures(&self, _probe: &Batch<'_>) -> Result<Vec<Figure>> {
        Ok(Vec::new())
    }
}

/// What a method is built for.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// Shape of one sample as the learner reads it.
    pub shape: Shape,
    /// Notation of the samples.
    pub notation: Notation,
    /// Number of classes; 0 for data without labels.
    pub n_classes: usize,
    /// Samples in the training split of this run.
    pub n_train: usize,
    /// The run's seed.
    pub seed: Seed,
}

/// A method's visiting card: the source of `list methods`, the docs table and the conformance
/// test.
#[derive(Clone, Copy, Debug)]
pub struct Card {
    /// Name in recipes.
    pub name: &'static str,
    /// One line.
    pub title: &'static str,
    /// Paper, venue, year, DOI or arXiv number.
    pub citation: &'static str,
    /// What it reads: one of these.
    pub reads: &'static [Notation],
    /// Its own metrics and what they mean.
    pub metrics: &'static [(&'static str, &'static str)],
    /// Where it departs from the paper, and why.
    pub departures: &'static [&'static str],
}
