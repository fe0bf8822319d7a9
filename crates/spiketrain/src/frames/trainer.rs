//! What every method that trains a [`Net`] by its backward pass does around its own equations:
//! reading samples, updating, health, predictions, state.

use super::health::Health;
use super::layer::Notes;
use super::loss::{Loss, mean_over_time};
use super::net::{Net, Trace};
use super::optimizer::{Group, Optimizer, Settings};
use super::parameters::{Gradients, Kind};
use super::shards::Workspaces;
use super::source::{self, Source};
use crate::error::Result;
use crate::learner::{Batch, Ctx, EpochReport, Prediction, StepReport};
use crate::state::State;
use serde::{Deserialize, Serialize};

/// Samples that are predicted together.
pub const PREDICTED_TOGETHER: usize = 50;

/// Which parameters weight decay applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decays {
    /// All of them.
    All,
    /// Weights of convolutions and linear layers.
    Weights,
}

/// A network in training.
#[derive(Debug)]
pub struct Trainer {
    /// The network.
    pub net: Net,
    /// The optimiser.
    pub optimizer: Optimizer,
    /// Makes its input.
    pub source: Source,
    /// Kernel memory.
    pub workspaces: Workspaces,
    /// How it fares.
    pub health: Health,
}

/// A forward pass in training.
#[derive(Debug)]
pub struct Forward {
    /// Outputs `[time, sample, class]`.
    pub outputs: Vec<f32>,
    /// For the backward pass.
    pub trace: Trace,
    /// Labels, one a sample.
    pub labels: Vec<u16>,
}

impl Forward {
    /// Samples whose largest mean output is their label's.
    pub fn n_correct(&self, n_steps: usize) -> u64 {
        n_correct(&mean_over_time(&self.outputs, n_steps), &self.labels)
    }
}

impl Trainer {
    /// A network before its first step.
    pub fn new(net: Net, settings: Settings, decays: Decays, source: Source) -> Self {
        let group = |p: &super::parameters::Parameter| {
            let is_decayed = decays == Decays::All || p.kind == Kind::Weight;
            let weight_decay = if is_decayed { settings.weight_decay() } else { 0.0 };
            Group { learning_rate: settings.learning_rate(), weight_decay }
        };
        let optimizer = Optimizer::new(settings, &net.parameters, group);
        let (workspaces, health) = (Workspaces::default(), Health::default());
        Self { net, optimizer, source, workspaces, health }
    }

    /// One step of plain backpropagation through time under `loss`.
    ///
    /// # Errors
    ///
    /// If a sample cannot be read or the network diverged.
    pub fn learn(&mut self, batch: &Batch<'_>, ctx: &Ctx, loss: &Loss) -> Result<StepReport> {
        let n_steps = self.net.n_steps();
        let forward = self.forward(batch, ctx)?;
        let n_correct = forward.n_correct(n_steps);
        let loss = loss.evaluate(&forward.outputs, n_steps, &forward.labels);
        let (gradients, notes) = self.backward(forward.trace, loss.gradient);
        self.update(gradients, &notes, ctx)?;
        let n_samples = batch.len() as u64;
        let loss = loss.value * n_samples as f64;
        Ok(StepReport { n_samples, loss, n_correct: Some(n_correct) })
    }

    /// Forward pass over a batch.
    ///
    /// # Errors
    ///
    /// If a sample cannot be read or the network diverged.
    pub fn forward(&self, batch: &Batch<'_>, ctx: &Ctx) -> Result<Forward> {
        let labels = source::labels(batch)?;
        let input = self.source.training(batch, ctx)?;
        let (outputs, trace) =
            self.net.forward(input, ctx.seed, ctx.n_presented, &self.workspaces)?;
        Ok(Forward { outputs, trace, labels })
    }

    /// Backward pass from the gradient of the loss with respect to the outputs; hands on what the
    /// forward pass noted.
    pub fn backward(&self, mut trace: Trace, d_outputs: Vec<f32>) -> (Gradients, Notes) {
        let notes = std::mem::take(&mut trace.notes);
        let (gradients, _) = self.net.backward(trace, d_outputs, false, &self.workspaces);
        (gradients, notes)
    }

    /// One step of the optimiser, running statistics, health.
    ///
    /// # Errors
    ///
    /// If a gradient is not finite.
    pub fn update(&mut self, gradients: Gradients, notes: &Notes, ctx: &Ctx) -> Result<()> {
        self.health.count(notes, &gradients, &self.net.parameters)?;
        self.net.update_running(notes);
        self.optimizer.step(&mut self.net.parameters, &gradients, ctx.rate);
        gradients.recycle(&self.workspaces);
        self.net.forget_forms();
        Ok(())
    }

    /// Class of the largest output averaged over time, for every sample.
    ///
    /// # Errors
    ///
    /// If a sample cannot be read.
    pub fn predict(&self, batch: &Batch<'_>) -> Result<Vec<Prediction>> {
        let mut predictions = Vec::with_capacity(batch.len());
        for rows in batch.rows.chunks(PREDICTED_TOGETHER) {
            let input = self.source.plain(&Batch { rows, ..*batch })?;
            let n_steps = input.n_steps;
            let (outputs, notes) = self.net.evaluate(input, &self.workspaces)?;
            let mean = mean_over_time(&outputs, n_steps);
            for (n, z) in mean.chunks_exact(mean.len() / rows.len()).enumerate() {
                predictions.push(Prediction {
                    class: Some(class_of(z)),
                    scores: z.to_vec(),
                    n_spikes: notes.n_spikes.get(n).copied().unwrap_or(0),
                    n_synops: notes.n_synops.get(n).map_or(0, |&s| s as u64),
                    ..Prediction::default()
                });
            }
        }
        Ok(predictions)
    }

    /// Everything that must survive a stop between two steps.
    pub fn state(&self) -> State {
        let mut state = State::new();
        state.nest("net", self.net.state());
        state.nest("optimizer", self.optimizer.state(&self.net.parameters));
        state.nest("health", self.health.state());
        state
    }

    /// Puts back what [`Trainer::state`] gave.
    ///
    /// # Errors
    ///
    /// If an array is missing or does not fit.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        self.net.restore(&state.sub("net"))?;
        self.optimizer.restore(&self.net.parameters, &state.sub("optimizer"))?;
        self.health = Health::restored(&state.sub("health"))?;
        Ok(())
    }

    /// Size of the network and the memory of a step with `batch_size` samples.
    pub fn notes(&self, batch_size: usize) -> Vec<String> {
        let memory = super::memory::of_step(&self.net, batch_size, self.optimizer.n_moments());
        vec![memory.note(self.net.parameters.n_values(), batch_size)]
    }

    /// What the epoch's health was.
    ///
    /// # Errors
    ///
    /// If a layer stayed silent.
    pub fn end_epoch(&mut self) -> Result<EpochReport> {
        self.health.report()
    }
}

/// Samples whose largest value of `z`, `[sample, class]`, is their label's.
pub fn n_correct(z: &[f32], labels: &[u16]) -> u64 {
    let rows = z.chunks_exact(z.len() / labels.len());
    rows.zip(labels).filter(|(z, y)| class_of(z) == **y).count() as u64
}

/// Index of the largest value, the first of equals.
pub fn class_of(z: &[f32]) -> u16 {
    let best = (0..z.len()).fold(0, |best, i| if z[i] > z[best] { i } else { best });
    best as u16
}
