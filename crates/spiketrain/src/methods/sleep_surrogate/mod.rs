//! The gradient-trained network that the sleep study is controlled with: does the same sleep help
//! where nothing runs away?
//!
//! A. Massey, A. Hubin, S. Nichele, S. Sæbø, "Sleep-Based Homeostatic Regularization for
//! Stabilizing Spike-Timing-Dependent Plasticity in Recurrent Spiking Neural Networks", 2026,
//! arXiv 2601.08447.
//!
//! Reads images (the same at every step, as constant currents) or frames (one a step). Two fully
//! connected layers of leaky neurons, trained by backpropagation through time with a surrogate
//! slope. Equations:
//!
//! 1. `m ← β m + W s + b − 1[m > 1]`, spike where m > 1: the soft reset behind the leak of
//!    [`neuron`]
//! 2. `L = Σ_t cross-entropy(output spikes at t, label)`, mean over the batch
//! 3. slope of a spike: `1/(1 + (π(m − 1))²)`; the reset has none
//! 4. Adam on all weights and biases
//! 5. asleep: `m ← m + σξ`, then equation 1 without input; traces `x ← x e^(−1/τ) + s`;
//!    `w_oh += η (A₊ s_o x_h − A₋ x_o s_h)`, mean over the copies, at every step
//! 6. after it, once: `|w| ← w*(|w|/w*)^λ` for both weight matrices
//!
//! Equations 1 to 4 are the clock-driven engine's; `sleep.rs` has 5 and 6.
//!
//! | symbol | field | shape | unit | default |
//! | --- | --- | --- | --- | --- |
//! | | `n_hidden` | | | 1000 |
//! | β | `beta` | | | 0.95 |
//! | T | `n_steps` | | steps | 25 |
//! | | `learning_rate` | | | 5·10⁻⁴ |
//! | | `sleep_ratio` | | | 0.1 |
//! | σ | `noise_std` | | threshold | 3 |
//! | τ, A₊, A₋ | `tau`, `a_plus`, `a_minus` | | steps | 20, 0.01, 0.012 |
//! | η | `sleep_learning_rate` | | weight | 10⁻³ |
//! | w*, λ | `target`, `lambda` | | weight | 0.2, 0.999 |
//! | W, b | state `net.layer0`, `net.layer2` | `[neuron, input]`, `[neuron]` | threshold | ±1/√inputs |
//!
//! The input is silent asleep, so that only the output weights see STDP.

mod sleep;
#[cfg(test)]
mod tests;

use crate::check::Checks;
use crate::error::{Error, Result};
use crate::frames::loss::{Evaluated, Loss};
use crate::frames::net::Net;
use crate::frames::network::{Common, Description, Init, LayerSpec};
use crate::frames::neuron::{self, Reset};
use crate::frames::norm::NormKind;
use crate::frames::optimizer::Settings;
use crate::frames::parameters::Kind;
use crate::frames::slope::Slope;
use crate::frames::source::{self, Source};
use crate::frames::trainer::{Decays, Trainer};
use crate::learner::{Batch, Card, Ctx, EpochReport, Learner, Prediction, StepReport, Task};
use crate::spikes::Notation;
use crate::state::State;
use serde::{Deserialize, Serialize};

/// The method's visiting card.
pub const CARD: Card = Card {
    name: "sleep-surrogate",
    title: "Surrogate-gradient control network of the sleep study",
    citation: "Massey, Hubin, Nichele, Sæbø, 2026, arXiv 2601.08447",
    reads: &[Notation::Images],
    metrics: &[
        ("weight_hidden", "mean magnitude of the hidden layer's weights"),
        ("weight_output", "mean magnitude of the output layer's weights"),
        ("firing_rate", "spikes per neuron and step in training, mean over both layers"),
        ("firing_rates", "the same for each layer"),
        ("silent_fractions", "per layer: share of neurons that never fired in a batch, mean"),
        ("saturated_fractions", "per layer: share of neurons that always fired in a batch, mean"),
        ("gradient_norms", "per weight: Euclidean norm of its gradient, mean over the batches"),
    ],
    departures: &[
        "25 steps, as the published raw results record, where a later version of the program says \
         100",
    ],
};

/// Equation 2, but for its factor T: the mean over the steps.
const LOSS: Loss = Loss::Tet { weight: 0.0, target: 0.0 };

/// Hyper-parameters: the table `[method.sleep-surrogate]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// Hidden neurons.
    pub n_hidden: usize,
    /// What a membrane keeps from step to step, β.
    pub beta: f32,
    /// Steps an image is shown, T.
    pub n_steps: usize,
    /// Adam's learning rate.
    pub learning_rate: f64,
    /// Sleep comes after every ⌊1/ratio⌋-th batch; 0 for never.
    pub sleep_ratio: f64,
    /// Standard deviation of the membrane noise asleep, in units of the threshold.
    pub noise_std: f64,
    /// Time constant of the traces, τ, steps.
    pub tau: f64,
    /// Gain of a causal pair of spikes asleep, A₊.
    pub a_plus: f32,
    /// Loss of an acausal pair of spikes asleep, A₋.
    pub a_minus: f32,
    /// Learning rate asleep, η.
    pub sleep_learning_rate: f32,
    /// Target of the magnitudes, w*.
    pub target: f64,
    /// Exponent of the downscaling after each sleep, λ.
    pub lambda: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            n_hidden: 1000,
            beta: 0.95,
            n_steps: 25,
            learning_rate: 5e-4,
            sleep_ratio: 0.1,
            noise_std: 3.0,
            tau: 20.0,
            a_plus: 0.01,
            a_minus: 0.012,
            sleep_learning_rate: 1e-3,
            target: 0.2,
            lambda: 0.999,
        }
    }
}

impl Params {
    /// What is wrong with the values, if anything.
    pub fn check(&self) -> Checks {
        let mut c = Checks::default();
        c.count("n_hidden", self.n_hidden, 1, 1 << 16);
        let is_share = self.beta > 0.0 && self.beta <= 1.0;
        c.that(is_share, "beta", self.beta, "a number above 0, at most 1");
        c.count("n_steps", self.n_steps, 1, 10_000);
        c.not_negative("learning_rate", self.learning_rate);
        c.within("sleep_ratio", self.sleep_ratio, 0.0, 1.0);
        c.not_negative("noise_std", self.noise_std);
        c.positive("tau", self.tau);
        c.not_negative("a_plus", f64::from(self.a_plus));
        c.not_negative("a_minus", f64::from(self.a_minus));
        c.not_negative("sleep_learning_rate", f64::from(self.sleep_learning_rate));
        c.positive("target", self.target);
        let is_share = self.lambda > 0.0 && self.lambda <= 1.0;
        c.that(is_share, "lambda", self.lambda, "a number above 0, at most 1");
        c
    }

    /// Batches from one sleep to the next; nothing if the network never sleeps.
    fn period(&self) -> Option<u64> {
        let period = || (libm::floor(1.0 / self.sleep_ratio) as u64).max(1);
        (self.sleep_ratio > 0.0).then(period)
    }
}

/// The learner.
#[derive(Debug)]
pub struct SleepSurrogate {
    params: Params,
    trainer: Trainer,
}

impl SleepSurrogate {
    /// A network with weights and biases drawn from the task's seed, uniform in ±1/√inputs.
    ///
    /// # Errors
    ///
    /// If the task gives spike times or has fewer than two classes.
    pub fn new(params: &Params, task: &Task) -> Result<Self> {
        let n_classes = task.n_classes;
        if n_classes < 2 {
            return Err(Error::recipe(format!(
                "sleep-surrogate needs at least 2 classes, the data has {n_classes}"
            )));
        }
        let n_steps = params.n_steps;
        let source = Source::new(&source::Params::default(), task, n_steps)?;
        let neuron = neuron::Params {
            decay: params.beta,
            reset: Reset::SoftAfterLeak,
            detach_reset: true,
            slope: Slope::Atan { steepness: 2.0 },
            ..neuron::Params::default()
        };
        let linear = |features| LayerSpec::Linear { features, bias: true };
        let layers =
            vec![linear(params.n_hidden), LayerSpec::Neuron, linear(n_classes), LayerSpec::Neuron];
        let init = Init::Uniform {};
        let description = Description { layers, conv_init: init, linear_init: init };
        let common = Common { n_steps, neuron, norm: NormKind::BatchNorm {}, seed: task.seed };
        let net = Net::new(&description, task.shape, &common)?;
        let adam = Settings::Adam { learning_rate: params.learning_rate, weight_decay: 0.0 };
        let trainer = Trainer::new(net, adam, Decays::All, source);
        Ok(Self { params: params.clone(), trainer })
    }

    /// Mean magnitudes of both weight matrices.
    fn mean_magnitudes(&self) -> impl Iterator<Item = f64> {
        let weights = self.trainer.net.parameters.list.iter().filter(|p| p.kind == Kind::Weight);
        weights.map(|p| {
            let sum: f64 = p.values.iter().map(|w| f64::from(w.abs())).sum();
            sum / p.values.len() as f64
        })
    }
}

impl Learner for SleepSurrogate {
    fn step(&mut self, batch: &Batch<'_>, ctx: &Ctx) -> Result<StepReport> {
        let (n_steps, n_samples) = (self.params.n_steps, batch.len());
        let forward = self.trainer.forward(batch, ctx)?;
        let n_correct = Some(forward.n_correct(n_steps));
        let Evaluated { value, mut gradient } =
            LOSS.evaluate(&forward.outputs, n_steps, &forward.labels);
        gradient.iter_mut().for_each(|d| *d *= n_steps as f32);
        let (gradients, notes) = self.trainer.backward(forward.trace, gradient);
        self.trainer.update(gradients, &notes, ctx)?;
        if self.params.period().is_some_and(|n| (ctx.step + 1).is_multiple_of(n)) {
            let Trainer { net, workspaces, .. } = &mut self.trainer;
            sleep::sleep(net, &self.params, n_samples, (ctx.seed, ctx.step), workspaces);
        }
        let loss = value * (n_steps * n_samples) as f64;
        Ok(StepReport { n_samples: n_samples as u64, loss, n_correct })
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
        let mut report = self.trainer.end_epoch()?;
        for (name, mean) in
            ["weight_hidden", "weight_output"].into_iter().zip(self.mean_magnitudes())
        {
            report.metrics.insert(name.into(), mean);
        }
        Ok(report)
    }

    fn notes(&self, batch_size: usize) -> Vec<String> {
        self.trainer.notes(batch_size)
    }
}
