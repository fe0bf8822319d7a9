//! Rate-based backpropagation.
//!
//! C. Yu, L. Liu, G. Wang, E. Li, A. Wang, "Advancing Training Efficiency of Deep Spiking Neural
//! Networks through Rate-based Backpropagation", NeurIPS 2024, arXiv 2410.11488.
//!
//! Reads images (the same at every step) or frames (one a step). The network runs T steps without
//! leaving anything for a backward pass but, for every neuron, its mean rate and its eligibility;
//! then one backward pass without time is made through a network of rates that shares the weights.
//! Time and memory of the backward pass do not depend on T.
//!
//! 1. `u[t] = λ v[t−1] + x[t]`; `s[t] = 1` where `u[t] ≥ θ`; `v[t] = u[t] − θ s[t]`.
//! 2. `r = mean_t s[t]`, `e = mean_t f[t] h(u[t] − θ)`, `f[t+1] = 1 + λ f[t]`, `f[1] = 1`: e is
//!    dr/dx for an x added at every step. Other resets: [`eligibility`].
//! 3. `z = mean_t W s[t]` of the last layer, which has no neurons; `L = CE(z, y)`.
//! 4. Backward through rates, `dL/dx = e dL/dr` at neurons; normalisations with the statistics of
//!    the spikes' pass for values: [`rate_pass`].
//! 5. All gradients are divided by T (`grad_scale`), as in the authors' program.
//! 6. `v ← μ v + (dL/dw + d w)`, `w ← w − η v`.
//!
//! In multi-step mode every layer runs all steps before the next; statistics of normalisations are
//! over samples, pixels and steps. In single-step mode the network runs step by step; every step
//! has statistics of its own: [`spike_pass`].
//!
//! | symbol | field | shape | unit | paper |
//! | --- | --- | --- | --- | --- |
//! | T | `n_steps` | | steps | 2 to 6 on images, 10 on events |
//! | λ, θ | `neuron.decay`, `neuron.threshold` | | – | 0.2, 1 |
//! | α | `neuron.slope.sigmoid.steepness` | | – | 4 |
//! | η, μ, d | `optimizer.sgd` | | – | 0.1, 0.9, 5·10⁻⁴ on weights |
//! | W | state `net.layerN.weight` | `[out, in, kernel_row, kernel_column]` | – | `network` |

pub mod eligibility;
mod memory;
pub mod rate_pass;
pub mod spike_pass;
#[cfg(test)]
mod tests;

use crate::check::Checks;
use crate::error::{Error, Result};
use crate::frames::layer::Layer;
use crate::frames::loss::Loss;
use crate::frames::net::Net;
use crate::frames::network::{Common, Network};
use crate::frames::neuron::{self, Reset};
use crate::frames::norm::NormKind;
use crate::frames::slope::Slope;
use crate::frames::source::{self, Source};
use crate::frames::trainer::{Decays, Trainer, n_correct};
use crate::frames::{health, optimizer};
use crate::learner::{Batch, Card, Ctx, EpochReport, Learner, Prediction, StepReport, Task};
use crate::spikes::Notation;
use crate::state::State;
use serde::{Deserialize, Deserializer, Serialize};

/// The method's visiting card.
pub const CARD: Card = Card {
    name: "rate-bp",
    title: "Rate-based backpropagation",
    citation: "Yu, Liu, Wang, Li, Wang, NeurIPS 2024, arXiv 2410.11488",
    reads: &[Notation::Images, Notation::Frames],
    metrics: health::METRICS,
    departures: &[
        "convolutions before a normalisation have no bias unless asked for: its gradient is zero",
        "in single-step mode the rate pass reads the mean of the frames; last_frame = true is the \
         authors' program",
        "the eligibility of neurons with an attached soft reset holds for every threshold, that of \
         the authors' program for 1",
    ],
};

/// How the steps of the spike pass run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Layer after layer, all steps in each.
    #[default]
    MultiStep,
    /// Step after step, all layers in each.
    SingleStep,
}

/// What gradients are multiplied by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GradScale {
    /// 1/T.
    #[default]
    #[serde(rename = "1/T")]
    InverseSteps,
    /// 1.
    #[serde(rename = "1")]
    One,
}

/// What the two passes are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// How the steps run.
    pub mode: Mode,
    /// See [`Params::avg_mean`].
    pub avg_mean: bool,
    /// See [`Params::avg_recip`].
    pub avg_recip: bool,
    /// See [`Params::last_frame`].
    pub last_frame: bool,
}

/// Hyper-parameters: the table `[method.rate-bp]`. The defaults are the paper's for CIFAR.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// Time steps, T.
    pub n_steps: usize,
    /// How they run.
    pub mode: Mode,
    /// What gradients are multiplied by.
    pub grad_scale: GradScale,
    /// In single-step mode: whether the rate pass normalises with the mean over the steps of their
    /// means, not with that of the last step as the authors' program does.
    pub avg_mean: bool,
    /// In single-step mode: whether the rate pass takes the variance from the mean over the steps
    /// of 1/(σ² + ε), not from the last step as the authors' program does.
    pub avg_recip: bool,
    /// In single-step mode: whether the rate pass reads the last frame, as the authors' program
    /// does, not the mean of all.
    pub last_frame: bool,
    /// The layers.
    pub network: Network,
    /// The neurons.
    #[serde(deserialize_with = "read_neuron")]
    pub neuron: neuron::Params,
    /// The optimiser.
    pub optimizer: optimizer::Settings,
    /// Which parameters weight decay applies to.
    pub decays: Decays,
    /// What samples go through before they enter.
    pub input: source::Params,
}

/// Neurons whose unwritten settings are this method's.
fn read_neuron<'de, D: Deserializer<'de>>(from: D) -> Result<neuron::Params, D::Error> {
    Params::default().neuron.or_read(from)
}

impl Default for Params {
    fn default() -> Self {
        Self {
            n_steps: 4,
            mode: Mode::MultiStep,
            grad_scale: GradScale::InverseSteps,
            avg_mean: false,
            avg_recip: false,
            last_frame: false,
            network: Network::Resnet18 {},
            neuron: neuron::Params {
                decay: 0.2,
                reset: Reset::Soft,
                detach_reset: true,
                fires_at_threshold: true,
                slope: Slope::Sigmoid { steepness: 4.0 },
                ..neuron::Params::default()
            },
            optimizer: optimizer::Settings::Sgd {
                learning_rate: 0.1,
                momentum: 0.9,
                weight_decay: 5e-4,
            },
            decays: Decays::Weights,
            input: source::Params::default(),
        }
    }
}

impl Params {
    /// What is wrong with the values, if anything.
    pub fn check(&self) -> Checks {
        let mut c = Checks::default();
        c.count("n_steps", self.n_steps, 1, 1000);
        c.nest("network", self.network.check());
        c.nest("neuron", self.neuron.check());
        let learns = self.neuron.learns_threshold;
        let allowed = "false: rates have no derivative with respect to a threshold";
        c.that(!learns, "neuron.learns_threshold", learns, allowed);
        for (name, is_on) in [
            ("avg_mean", self.avg_mean),
            ("avg_recip", self.avg_recip),
            ("last_frame", self.last_frame),
        ] {
            let fits = !is_on || self.mode == Mode::SingleStep;
            c.that(fits, name, is_on, "false unless mode is \"single-step\"");
        }
        c.nest("optimizer", self.optimizer.check());
        c.nest("input", self.input.check());
        c
    }

    /// What the two passes are told.
    pub fn settings(&self) -> Settings {
        let Params { mode, avg_mean, avg_recip, last_frame, .. } = *self;
        Settings { mode, avg_mean, avg_recip, last_frame }
    }

    /// What gradients are multiplied by.
    pub fn gradient_factor(&self) -> f32 {
        match self.grad_scale {
            GradScale::InverseSteps => 1.0 / self.n_steps as f32,
            GradScale::One => 1.0,
        }
    }
}

/// The learner.
#[derive(Debug)]
pub struct RateBp {
    settings: Settings,
    gradient_factor: f32,
    trainer: Trainer,
}

impl RateBp {
    /// A network with weights drawn from the task's seed.
    ///
    /// # Errors
    ///
    /// If the network does not fit the task or draws dropout for every step.
    pub fn new(params: &Params, task: &Task) -> Result<Self> {
        if task.n_classes < 2 {
            let n = task.n_classes;
            return Err(Error::recipe(format!(
                "rate-bp needs at least 2 classes, the data has {n}"
            )));
        }
        let source = Source::new(&params.input, task, params.n_steps)?;
        let common = Common {
            n_steps: params.n_steps,
            neuron: params.neuron.clone(),
            norm: NormKind::BatchNorm {},
            seed: task.seed,
        };
        let description = params.network.description(task.n_classes);
        let net = Net::new(&description, task.shape, &common)?;
        net.require_classes(task.n_classes)?;
        require_steady_dropout(&net.layers)?;
        let trainer = Trainer::new(net, params.optimizer, params.decays, source);
        let (settings, gradient_factor) = (params.settings(), params.gradient_factor());
        Ok(Self { settings, gradient_factor, trainer })
    }
}

/// Rates have no steps that dropout could differ by.
fn require_steady_dropout(layers: &[Layer]) -> Result<()> {
    for layer in layers {
        match layer {
            Layer::Dropout(dropout) if dropout.is_per_step && dropout.rate > 0.0 => {
                return Err(Error::recipe(
                    "rate-bp takes dropout that is the same at all steps of a sample; this network \
                     draws it for every step: set its rate to 0 or per_step to false",
                ));
            }
            Layer::Add(add) => {
                require_steady_dropout(&add.body)?;
                require_steady_dropout(&add.shortcut)?;
            }
            Layer::Concat(concat) => require_steady_dropout(&concat.body)?,
            _ => {}
        }
    }
    Ok(())
}

impl Learner for RateBp {
    fn step(&mut self, batch: &Batch<'_>, ctx: &Ctx) -> Result<StepReport> {
        let Trainer { net, source, workspaces, .. } = &self.trainer;
        let labels = source::labels(batch)?;
        let input = source.training(batch, ctx)?;
        let (seed, first) = (ctx.seed, ctx.n_presented);
        let mut pass = spike_pass::run(net, input, &self.settings, seed, first, workspaces)?;
        let n_correct = n_correct(&pass.outputs, &labels);
        let loss = Loss::CrossEntropy {}.evaluate(&pass.outputs, 1, &labels);
        let mut d = loss.gradient;
        d.iter_mut().for_each(|d| *d *= self.gradient_factor);
        let notes = std::mem::take(&mut pass.notes);
        let gradients = rate_pass::gradients(net, pass, &self.settings, d, workspaces)?;
        self.trainer.update(gradients, &notes, ctx)?;
        let n_samples = batch.len() as u64;
        let loss = loss.value * n_samples as f64;
        Ok(StepReport { n_samples, loss, n_correct: Some(n_correct) })
    }

    fn predict(&self, batch: &Batch<'_>) -> Result<Vec<Prediction>> {
        self.trainer.predict(batch)
    }

    fn state(&self) -> State {
        self.trainer.state()
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.trainer.restore(state)
    }

    fn end_epoch(&mut self, _ctx: &Ctx) -> Result<EpochReport> {
        self.trainer.end_epoch()
    }

    fn notes(&self, batch_size: usize) -> Vec<String> {
        let Trainer { net, optimizer, .. } = &self.trainer;
        let memory = memory::of_step(net, self.settings.mode, batch_size, optimizer.n_moments());
        vec![memory.note(net.parameters.n_values(), batch_size)]
    }
}
