//! Surrogate-gradient backpropagation through time: the baseline of the clocked methods.
//!
//! - E. O. Neftci, H. Mostafa, F. Zenke, "Surrogate Gradient Learning in Spiking Neural Networks",
//!   IEEE Signal Processing Magazine 36(6):51–63, 2019, arXiv 1901.09948.
//! - Settings of the baseline in C. Yu, L. Liu, G. Wang, E. Li, A. Wang, "Advancing Training
//!   Efficiency of Deep Spiking Neural Networks through Rate-based Backpropagation", NeurIPS 2024,
//!   arXiv 2410.11488.
//!
//! Reads images (the same at every step) or frames (one a step).
//!
//! 1. `x[t] = W s_below[t]`, normalised; see the network's layers.
//! 2. `u[t] = λ v[t−1] + x[t]`; `s[t] = 1` where `u[t] ≥ θ`; `v[t] = u[t] − θ s[t]`.
//! 3. `z = mean_t W s[t]` of the last layer, which has no neurons; `L = CE(z, y)`.
//! 4. Backward in reverse order of layers and steps, with `h(u − θ)` in place of ds/du:
//!    `b[t] = g[t] h[t] + A[t]`, `A[t−1] = λ b[t]`, `dL/dx[t] = b[t]`.
//! 5. `v ← μ v + (dL/dw + d w)`, `w ← w − η v`.
//!
//! Other resets, slopes, losses and optimisers are settings; their equations stand where they are
//! written: [`neuron`], [`Slope`], [`Loss`], [`optimizer::Settings`].
//!
//! | symbol | field | shape | unit | default |
//! | --- | --- | --- | --- | --- |
//! | T | `n_steps` | | steps | 4 |
//! | λ, θ | `neuron.decay`, `neuron.threshold` | | – | 0.2, 1 |
//! | α | `neuron.slope.sigmoid.steepness` | | – | 4 |
//! | η, μ, d | `optimizer.sgd` | | – | 0.1, 0.9, 5·10⁻⁴ on weights |
//! | W | state `net.layerN.weight` | `[out, in, kernel_row, kernel_column]` | – | `network` |

use crate::check::Checks;
use crate::error::{Error, Result};
use crate::frames::loss::Loss;
use crate::frames::net::Net;
use crate::frames::network::{Common, Network};
use crate::frames::neuron::{self, Reset};
use crate::frames::norm::NormKind;
use crate::frames::slope::Slope;
use crate::frames::source::{self, Source};
use crate::frames::trainer::{Decays, Trainer};
use crate::frames::{health, optimizer};
use crate::learner::{Batch, Card, Ctx, EpochReport, Learner, Prediction, StepReport, Task};
use crate::spikes::Notation;
use crate::state::State;
use serde::{Deserialize, Deserializer, Serialize};

/// The method's visiting card.
pub const CARD: Card = Card {
    name: "bptt",
    title: "Surrogate-gradient backpropagation through time",
    citation: "Neftci, Mostafa, Zenke, IEEE Signal Processing Magazine 36(6), 2019, \
               arXiv 1901.09948",
    reads: &[Notation::Images, Notation::Frames],
    metrics: health::METRICS,
    departures: &[
        "convolutions before a normalisation have no bias unless asked for: its gradient is zero",
    ],
};

/// Hyper-parameters: the table `[method.bptt]`. The defaults are those of the baseline runs on
/// CIFAR of C. Yu et al., NeurIPS 2024.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// Time steps, T.
    pub n_steps: usize,
    /// The layers.
    pub network: Network,
    /// The neurons.
    #[serde(deserialize_with = "read_neuron")]
    pub neuron: neuron::Params,
    /// The normalisation.
    pub norm: NormKind,
    /// The loss of the outputs of all steps.
    pub loss: Loss,
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
            network: Network::Resnet18 {},
            neuron: neuron::Params {
                decay: 0.2,
                reset: Reset::Soft,
                detach_reset: true,
                fires_at_threshold: true,
                slope: Slope::Sigmoid { steepness: 4.0 },
                ..neuron::Params::default()
            },
            norm: NormKind::BatchNorm {},
            loss: Loss::CrossEntropy {},
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
        c.nest("norm", self.norm.check());
        c.nest("loss", self.loss.check());
        c.nest("optimizer", self.optimizer.check());
        c.nest("input", self.input.check());
        c
    }
}

/// The learner.
#[derive(Debug)]
pub struct Bptt {
    loss: Loss,
    trainer: Trainer,
}

impl Bptt {
    /// A network with weights drawn from the task's seed.
    ///
    /// # Errors
    ///
    /// If the network does not fit the task.
    pub fn new(params: &Params, task: &Task) -> Result<Self> {
        if task.n_classes < 2 {
            let n = task.n_classes;
            return Err(Error::recipe(format!("bptt needs at least 2 classes, the data has {n}")));
        }
        let source = Source::new(&params.input, task, params.n_steps)?;
        let common = Common {
            n_steps: params.n_steps,
            neuron: params.neuron.clone(),
            norm: params.norm,
            seed: task.seed,
        };
        let description = params.network.description(task.n_classes);
        let net = Net::new(&description, task.shape, &common)?;
        net.require_classes(task.n_classes)?;
        let trainer = Trainer::new(net, params.optimizer, params.decays, source);
        Ok(Self { loss: params.loss, trainer })
    }
}

impl Learner for Bptt {
    fn step(&mut self, batch: &Batch<'_>, ctx: &Ctx) -> Result<StepReport> {
        self.trainer.learn(batch, ctx, &self.loss)
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
        self.trainer.notes(batch_size)
    }
}
