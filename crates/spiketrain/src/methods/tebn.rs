//! Temporal effective batch normalisation (TEBN).
//!
//! C. Duan, J. Ding, S. Chen, Z. Yu, T. Huang, "Temporal Effective Batch Normalization in Spiking
//! Neural Networks", NeurIPS 2022, pp. 34377–34390.
//!
//! Reads images (the same at every step) or frames (one a step). The network is trained by
//! surrogate-gradient backpropagation through time; what the paper adds is the normalisation after
//! every convolution. Input y\[t\], statistics over samples, rows, columns and all steps:
//!
//! 1. `x̂ = (y − μ)/√(σ² + ε)`, `z = γ x̂ + β`, `out[t] = p[t] z`, with one learned p\[t\] a step
//!    and layer; forward and backward stand in [`Tebn`].
//! 2. Evaluation folds the layer into an affine map a step and channel: `scale[t] = p[t] γ/√(r_σ² +
//!    ε)`, `shift[t] = p[t] (β − γ r_μ/√(r_σ² + ε))`, r the running statistics.
//! 3. `u[t] = τ v[t−1] + x[t]`; `s[t] = 1` where `u[t] > θ`; `v[t] = u[t] (1 − s[t])`; gradients
//!    flow through the reset; slope `max(0, γ_s − |u − θ|)/γ_s²`.
//! 4. `L = CE(mean_t z[t], y)`; stochastic gradient descent with momentum and weight decay on every
//!    parameter, p, γ and β included.
//!
//! | symbol | field | shape | unit | paper |
//! | --- | --- | --- | --- | --- |
//! | T | `n_steps` | | steps | 4 |
//! | τ, θ | `neuron.decay`, `neuron.threshold` | | – | 0.25, 1 |
//! | γ_s | `neuron.slope.triangle.width` | | – | 1 |
//! | η, μ, d | `optimizer.sgd` | | – | 0.02, 0.9, 5·10⁻⁴ |
//! | p | state `net.layerN.p` | `[step]` | – | 1 at first |
//! | γ, β | state `net.layerN.gamma`, `.beta` | `[channel]` | – | 1, 0 at first |

use crate::check::Checks;
use crate::error::{Error, Result};
use crate::frames::loss::Loss;
use crate::frames::net::Net;
use crate::frames::network::{Common, Network, Vgg9};
use crate::frames::norm::NormKind;
#[cfg(doc)]
use crate::frames::norm::Tebn;
use crate::frames::source::{self, Source};
use crate::frames::trainer::{Decays, Trainer};
use crate::frames::{health, neuron, optimizer};
use crate::learner::{Batch, Card, Ctx, EpochReport, Learner, Prediction, StepReport, Task};
use crate::spikes::Notation;
use crate::state::State;
use serde::{Deserialize, Deserializer, Serialize};

/// The method's visiting card.
pub const CARD: Card = Card {
    name: "tebn",
    title: "Temporal effective batch normalisation",
    citation: "Duan, Ding, Chen, Yu, Huang, NeurIPS 2022, pp. 34377-34390",
    reads: &[Notation::Images, Notation::Frames],
    metrics: health::METRICS,
    departures: &[
        "p has one value a step of the network, where the authors' program has 4 whatever the \
         number of steps",
        "convolutions have no bias unless asked for: the normalisation takes it out again, its \
         gradient is zero",
        "statistics are those of the whole batch, where the authors' program took those of each \
         device",
        "the ResNet-19 of the authors' program cannot run; resnet-19-tebn is the network it means, \
         with the first neurons of a block put in",
    ],
};

/// Hyper-parameters: the table `[method.tebn]`. The defaults are the paper's for CIFAR-10.
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
            network: Network::Vgg9(Vgg9::default()),
            neuron: neuron::Params::default(),
            optimizer: optimizer::Settings::Sgd {
                learning_rate: 0.02,
                momentum: 0.9,
                weight_decay: 5e-4,
            },
            decays: Decays::All,
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
        c.nest("optimizer", self.optimizer.check());
        c.nest("input", self.input.check());
        c
    }
}

/// The learner: a network all of whose normalisations are TEBN.
#[derive(Debug)]
pub struct TebnNet {
    trainer: Trainer,
}

impl TebnNet {
    /// A network with weights drawn from the task's seed.
    ///
    /// # Errors
    ///
    /// If the network does not fit the task.
    pub fn new(params: &Params, task: &Task) -> Result<Self> {
        if task.n_classes < 2 {
            let n = task.n_classes;
            return Err(Error::recipe(format!("tebn needs at least 2 classes, the data has {n}")));
        }
        let n_steps = params.n_steps;
        let source = Source::new(&params.input, task, n_steps)?;
        let (neuron, norm, seed) = (params.neuron.clone(), NormKind::Tebn {}, task.seed);
        let description = params.network.description(task.n_classes);
        let net = Net::new(&description, task.shape, &Common { n_steps, neuron, norm, seed })?;
        net.require_classes(task.n_classes)?;
        let trainer = Trainer::new(net, params.optimizer, params.decays, source);
        Ok(Self { trainer })
    }

    /// p of every layer, `[step]` each, with the layer's name.
    fn step_factors(&self) -> impl Iterator<Item = (&str, &[f32])> {
        let list = self.trainer.net.parameters.list.iter();
        list.filter_map(|p| Some((p.name.strip_suffix(".p")?, p.values.as_slice())))
    }
}

impl Learner for TebnNet {
    fn step(&mut self, batch: &Batch<'_>, ctx: &Ctx) -> Result<StepReport> {
        self.trainer.learn(batch, ctx, &Loss::CrossEntropy {})
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
        for (layer, p) in self.step_factors() {
            let p = p.iter().copied().map(f64::from).collect();
            report.series.insert(format!("step_factors_{layer}"), p);
        }
        Ok(report)
    }

    fn notes(&self, batch_size: usize) -> Vec<String> {
        self.trainer.notes(batch_size)
    }
}
