//! Time-based training and its loss functions.
//!
//! Y. Zhu, W. Fang, X. Xie, T. Huang, Z. Yu, "Exploring Loss Functions for Time-based Training
//! Strategy in Spiking Neural Networks", NeurIPS 2023. Gradients travel through the times of spikes
//! alone; no slope stands in for the derivative of a spike.
//!
//! Reads images (the same at every step, or one spike a pixel at a step of its brightness) or
//! frames (one a step).
//!
//! 1. Double-exponential neurons: [`neuron`].
//! 2. Weights are standardised for every output channel; what the optimiser does to their scale
//!    becomes a change of the thresholds: [`mod@standardise`].
//! 3. In training the label's neuron is given a spike where it last rose: [`losses::force_labels`].
//! 4. A loss gives every output spike a derivative e with respect to its time: [`losses`]. The
//!    paper's, `count-plus`, gives every output neuron a total that does not depend on the number
//!    of its spikes.
//! 5. Backward, `dL/dt_i[t] = Σ_j W_ji gin_j[t] · input_i[t]` and `dL/dW = Σ gw[t] input[t]`, gin
//!    and gw as in [`neuron`]. Pools and sums share out what they receive: [`layers`].
//! 6. The norm of all gradients together is clipped at 1000; then a step of the optimiser.
//!
//! The class is that of the largest `Σ_t o[t] (1.1 − t/(10 T))`.
//!
//! | symbol | field | shape | unit | paper (MNIST) |
//! | --- | --- | --- | --- | --- |
//! | T | `n_steps` | | steps | 5 |
//! | τ_m, τ_s, τ_g | `neuron.membrane`, `.synapse`, `.gradient` | | steps | 5, 3, 2.5 |
//! | D, U | `desired`, `undesired` | | spikes | 5, 1 |
//! | η, d | `optimizer.adam-w` | | – | 5·10⁻⁴, 0.05 on weights |
//! | V | state `net.layerN.threshold` | `[channel]` | – | by search |
//! | w | state `net.layerN.weight` | `[out, in, kernel_row, kernel_column]` | – | |
//! | g, b | state `net.layerN.scale`, `.shift` | `[channel]` | – | 1, 0 |

mod figures;
pub mod initial;
pub mod layers;
pub mod losses;
pub mod network;
pub mod neuron;
pub mod standardise;
#[cfg(test)]
mod tests;

use crate::check::Checks;
use crate::error::{Error, Result};
use crate::frames::health::Health;
use crate::frames::kernel::Spikes;
use crate::frames::memory::Memory;
use crate::frames::optimizer::{self, Group, Optimizer};
use crate::frames::parameters::Kind;
use crate::frames::shards::Workspaces;
use crate::frames::signal::{Data, Signal};
use crate::frames::source::{self, Source};
use crate::frames::trainer::{PREDICTED_TOGETHER, class_of, n_correct};
use crate::learner::{
    Batch, Card, Ctx, EpochReport, Learner, Measure, Prediction, StepReport, Task,
};
use crate::spikes::{Notation, Shape};
use crate::state::State;
use losses::{Loss, Readout, Targets};
use network::{Net, Network};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The method's visiting card.
pub const CARD: Card = Card {
    name: "time-losses",
    title: "Time-based training with loss functions on spike times",
    citation: "Zhu, Fang, Xie, Huang, Yu, NeurIPS 2023",
    reads: &[Notation::Images, Notation::Frames],
    metrics: &[
        ("firing_rate", "spikes per neuron and step in training, mean over the layers"),
        ("firing_rates", "the same for each layer"),
        ("silent_fractions", "per layer: share of neurons that never fired in a batch, mean"),
        ("saturated_fractions", "per layer: share of neurons that always fired in a batch, mean"),
        ("gradient_norms", "per weight: Euclidean norm of its gradient, mean over the batches"),
        (
            "total_gradient",
            "sum of dL/dt over the output spikes over the sum of its magnitudes: 1 if all are \
             drawn earlier, 0 if as much later",
        ),
        ("total_gradients", "per layer: sum of dL/dt over its spikes, a sample"),
        ("forced_spikes", "share of the training samples whose label was given a spike"),
        ("thresholds", "per layer: mean of its thresholds"),
        (
            "inference_time",
            "steps until one output neuron alone fires and is the right answer; all steps \
             otherwise",
        ),
    ],
    departures: &[
        "no dropout while thresholds are searched for; the authors' deep networks leave it on",
        "the search takes the first batch that is shown, not the first of the data",
        "augmentation by policy is CIFAR-10's, not ImageNet's",
        "a pass of evaluation changes nothing: scales move into thresholds after every step \
         instead of before the next pass, which is the same",
    ],
};

/// How still images enter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Coding {
    /// Their values at every step.
    #[default]
    Direct,
    /// One spike a pixel at step `⌊T v⌋`, v its value between the image's least and largest: bright
    /// pixels fire late.
    FirstSpike,
}

/// Hyper-parameters: the table `[method.time-losses]`. The defaults are the paper's for MNIST.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// Time steps, T.
    pub n_steps: usize,
    /// The layers.
    pub network: Network,
    /// The neurons.
    pub neuron: neuron::Params,
    /// The loss.
    pub loss: Loss,
    /// Spikes wanted of the label's neuron, D.
    pub desired: f64,
    /// Spikes allowed to the other output neurons, U.
    pub undesired: f64,
    /// Spikes a neuron that thresholds are set for at the beginning.
    pub initial_spikes: f64,
    /// Whether scales of weights are taken into thresholds.
    pub transfer: bool,
    /// The optimiser; its weight decay is that of weights.
    pub optimizer: optimizer::Settings,
    /// Weight decay of scales and shifts.
    pub norm_decay: f64,
    /// Largest norm of all gradients together.
    pub gradient_clip: f64,
    /// How classes are scored.
    pub readout: Readout,
    /// How still images enter.
    pub coding: Coding,
    /// What samples go through before they enter.
    pub input: source::Params,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            n_steps: 5,
            network: Network::Mnist {},
            neuron: neuron::Params::default(),
            loss: Loss::CountPlus,
            desired: 5.0,
            undesired: 1.0,
            initial_spikes: 0.6,
            transfer: true,
            optimizer: optimizer::Settings::AdamW { learning_rate: 5e-4, weight_decay: 0.05 },
            norm_decay: 0.001,
            gradient_clip: 1000.0,
            readout: Readout::Count,
            coding: Coding::Direct,
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
        let steps = self.n_steps as f64;
        c.within("desired", self.desired, 0.0, steps);
        c.within("undesired", self.undesired, 0.0, steps);
        let ok = self.initial_spikes > 0.0 && self.initial_spikes <= steps;
        let allowed = format!("a number above 0 up to {steps} (n_steps)");
        c.that(ok, "initial_spikes", self.initial_spikes, &allowed);
        c.nest("optimizer", self.optimizer.check());
        c.not_negative("norm_decay", self.norm_decay);
        c.positive("gradient_clip", self.gradient_clip);
        c.nest("input", self.input.check());
        c
    }

    /// The optimiser of a network's parameters.
    pub fn optimizer(&self, net: &Net) -> Optimizer {
        let settings = self.optimizer;
        Optimizer::new(settings, &net.parameters, |p| Group {
            learning_rate: settings.learning_rate(),
            weight_decay: match p.kind {
                Kind::Weight => settings.weight_decay(),
                _ => self.norm_decay,
            },
        })
    }
}

/// Sums over the steps of an epoch.
#[derive(Clone, Debug, Default)]
struct Totals {
    n_samples: f64,
    forced: f64,
    /// Σ e and Σ |e| over the output spikes.
    outputs: [f64; 2],
    /// Σ dL/dt of each layer.
    layers: Vec<f64>,
}

/// The learner.
#[derive(Debug)]
pub struct TimeLosses {
    params: Params,
    net: Net,
    optimizer: Optimizer,
    source: Source,
    workspaces: Workspaces,
    health: Health,
    totals: Totals,
    /// Whether thresholds were searched for.
    has_thresholds: bool,
}

impl TimeLosses {
    /// A network with weights drawn from the task's seed.
    ///
    /// # Errors
    ///
    /// If the network does not fit the task.
    pub fn new(params: &Params, task: &Task) -> Result<Self> {
        let n_classes = task.n_classes;
        if n_classes < 2 {
            return Err(Error::recipe(format!(
                "time-losses needs at least 2 classes, the data has {n_classes}"
            )));
        }
        if params.coding == Coding::FirstSpike && task.notation != Notation::Images {
            return Err(Error::recipe("method.time-losses.coding = \"first-spike\" is for images"));
        }
        let source = Source::new(&params.input, task, params.n_steps)?;
        let layers = params.network.layers(n_classes);
        let Params { n_steps, neuron, transfer, .. } = params;
        let net = Net::new(&layers, task.shape, *n_steps, neuron, *transfer, task.seed)?;
        if net.output != Shape::flat(n_classes) {
            let found = net.output;
            return Err(Error::recipe(format!(
                "the network gives {found} values a step, {n_classes} classes need {n_classes}×1×1"
            )));
        }
        Ok(Self {
            optimizer: params.optimizer(&net),
            params: params.clone(),
            totals: Totals { layers: vec![0.0; net.spiking().len()], ..Totals::default() },
            net,
            source,
            workspaces: Workspaces::default(),
            health: Health::default(),
            has_thresholds: false,
        })
    }

    /// Samples as the network reads them.
    fn input(&self, batch: &Batch<'_>, ctx: Option<&Ctx>) -> Result<Signal> {
        let signal = match ctx {
            Some(ctx) => self.source.training(batch, ctx)?,
            None => self.source.plain(batch)?,
        };
        Ok(match self.params.coding {
            Coding::Direct => signal,
            Coding::FirstSpike => first_spikes(&signal),
        })
    }

    fn targets<'a>(&self, labels: &'a [u16]) -> Targets<'a> {
        let Params { n_steps, desired, undesired, neuron, .. } = &self.params;
        let synapse = neuron.synapse;
        Targets { labels, n_steps: *n_steps, desired: *desired, undesired: *undesired, synapse }
    }
}

/// One spike a pixel of a still image, see [`Coding::FirstSpike`].
fn first_spikes(images: &Signal) -> Signal {
    let (n_steps, n_samples, shape) = (images.n_steps, images.n_samples, images.shape);
    let mut values = vec![0.0; n_steps * n_samples * shape.len()];
    for (n, image) in images.values().chunks_exact(shape.len()).enumerate() {
        let least = image.iter().copied().fold(f32::INFINITY, f32::min);
        let range = image.iter().copied().fold(f32::NEG_INFINITY, f32::max) - least;
        for (at, v) in image.iter().enumerate() {
            let bright = if range > 0.0 { (v - least) / range } else { 0.0 };
            let step = ((bright * n_steps as f32) as usize).min(n_steps - 1);
            values[(step * n_samples + n) * shape.len() + at] = 1.0;
        }
    }
    Signal { data: Data::Spikes(Spikes::from_dense(shape, &values)), ..*images }
}

/// The step at which one output neuron fires alone for the first time, and which it is.
fn first_alone(spikes: &[f32], n: usize, n_samples: usize, n_steps: usize) -> Option<(usize, u16)> {
    let n_classes = spikes.len() / n_samples / n_steps;
    (0..n_steps).find_map(|t| {
        let step = &spikes[(t * n_samples + n) * n_classes..][..n_classes];
        let mut firing = (0..n_classes).filter(|&c| step[c] != 0.0);
        match (firing.next(), firing.next()) {
            (Some(class), None) => Some((t, class as u16)),
            _ => None,
        }
    })
}

impl Learner for TimeLosses {
    fn step(&mut self, batch: &Batch<'_>, ctx: &Ctx) -> Result<StepReport> {
        if !self.has_thresholds {
            let input = self.input(batch, None)?;
            let wanted = self.params.initial_spikes;
            initial::set_thresholds(&mut self.net, input, wanted, &self.workspaces);
            self.has_thresholds = true;
        }
        let labels = source::labels(batch)?;
        let input = self.input(batch, Some(ctx))?;
        let n_steps = self.params.n_steps;
        let (output, mut trace) =
            self.net.forward(input, ctx.seed, ctx.n_presented, &self.workspaces);
        let like = Signal { data: Data::Values(Vec::new()), ..*output };
        let mut spikes = Arc::unwrap_or_clone(output).into_values();
        let scores = self.params.readout.scores(&spikes, n_steps);
        let n_correct = n_correct(&scores, &labels);

        let last = self.net.spiking().pop().expect("the last layer has neurons");
        let [rises, _] = self.net.neuron.rises(&last.threshold, trace.last_current());
        let forced = losses::force_labels(&mut spikes, &rises, &labels, n_steps);
        let outputs = Data::Spikes(Spikes::from_dense(like.shape, &spikes));
        trace.set_outputs(Arc::new(Signal { data: outputs, ..like }));

        let loss = self.params.loss.evaluate(&spikes, self.targets(&labels));
        let masked = loss.gradient.iter().zip(&spikes).map(|(g, s)| g * f64::from(*s));
        for e in masked {
            self.totals.outputs[0] += e;
            self.totals.outputs[1] += e.abs();
        }
        let e = loss.gradient.iter().map(|&g| g as f32).collect();
        let notes = std::mem::take(&mut trace.notes);
        let (mut gradients, totals) = self.net.backward(trace, e, &self.workspaces);
        self.totals.layers.iter_mut().zip(totals).for_each(|(sum, total)| *sum += total);
        self.totals.n_samples += labels.len() as f64;
        self.totals.forced += forced as f64;

        self.health.count(&notes, &gradients, &self.net.parameters)?;
        gradients.clip(self.params.gradient_clip);
        self.optimizer.step(&mut self.net.parameters, &gradients, ctx.rate);
        gradients.recycle(&self.workspaces);
        self.net.prepare()?;
        let n_samples = batch.len() as u64;
        let per_sample = if self.params.loss.is_sum() { 1.0 } else { n_samples as f64 };
        let loss = loss.value * per_sample;
        Ok(StepReport { n_samples, loss, n_correct: Some(n_correct) })
    }

    fn predict(&self, batch: &Batch<'_>) -> Result<Vec<Prediction>> {
        let n_steps = self.params.n_steps;
        let mut predictions = Vec::with_capacity(batch.len());
        for rows in batch.rows.chunks(PREDICTED_TOGETHER) {
            let input = self.input(&Batch { rows, ..*batch }, None)?;
            let (output, notes) = self.net.evaluate(input, &self.workspaces);
            let spikes = Arc::unwrap_or_clone(output).into_values();
            let scores = self.params.readout.scores(&spikes, n_steps);
            let of_sample = scores.chunks_exact(scores.len() / rows.len());
            for (n, (scores, row)) in of_sample.zip(rows).enumerate() {
                let class = class_of(scores);
                let alone = first_alone(&spikes, n, rows.len(), n_steps);
                let is_right = batch.labels.get(*row) == Some(&class);
                let in_time = alone.filter(|&(_, first)| is_right && first == class);
                let time = in_time.map_or(n_steps, |(t, _)| t + 1) as f64;
                let decided = alone.map_or(n_steps, |(t, _)| t + 1) as f32 / n_steps as f32;
                predictions.push(Prediction {
                    class: Some(class),
                    scores: scores.to_vec(),
                    n_spikes: notes.n_spikes.get(n).copied().unwrap_or(0),
                    n_synops: notes.n_synops.get(n).map_or(0, |&s| s as u64),
                    decision_time: Some(decided),
                    measures: vec![Measure { name: "inference_time", sum: time, count: 1 }],
                    ..Prediction::default()
                });
            }
        }
        Ok(predictions)
    }

    fn state(&self) -> State {
        let mut state = State::new();
        state.nest("net", self.net.state());
        state.nest("optimizer", self.optimizer.state(&self.net.parameters));
        state.nest("health", self.health.state());
        let Totals { n_samples, forced, outputs, layers } = &self.totals;
        let mut totals = vec![*n_samples, *forced, outputs[0], outputs[1]];
        totals.extend(layers);
        state.put("totals", &[totals.len()], totals);
        state.put("has_thresholds", &[], vec![u64::from(self.has_thresholds)]);
        state
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.net.restore(&state.sub("net"))?;
        self.optimizer.restore(&self.net.parameters, &state.sub("optimizer"))?;
        self.health = Health::restored(&state.sub("health"))?;
        let n_layers = self.totals.layers.len();
        let totals: &[f64] = state.get("totals", &[4 + n_layers])?;
        self.totals = Totals {
            n_samples: totals[0],
            forced: totals[1],
            outputs: [totals[2], totals[3]],
            layers: totals[4..].to_vec(),
        };
        self.has_thresholds = state.scalar::<u64>("has_thresholds")? == 1;
        Ok(())
    }

    fn end_epoch(&mut self, _ctx: &Ctx) -> Result<EpochReport> {
        let mut report = self.health.report()?;
        let layers = vec![0.0; self.totals.layers.len()];
        let totals = std::mem::replace(&mut self.totals, Totals { layers, ..Totals::default() });
        let n = totals.n_samples.max(1.0);
        report.metrics.insert("forced_spikes".into(), totals.forced / n);
        let ratio = totals.outputs[0] / totals.outputs[1].max(f64::MIN_POSITIVE);
        report.metrics.insert("total_gradient".into(), ratio);
        let per_sample = totals.layers.iter().map(|total| total / n).collect();
        report.series.insert("total_gradients".into(), per_sample);
        let mean = |v: &[f32]| v.iter().map(|&v| f64::from(v)).sum::<f64>() / v.len() as f64;
        let thresholds = self.net.spiking().iter().map(|l| mean(&l.threshold)).collect();
        report.series.insert("thresholds".into(), thresholds);
        Ok(report)
    }

    fn notes(&self, batch_size: usize) -> Vec<String> {
        let n = 4 * self.net.parameters.n_values();
        // The standardised weights and their forms.
        let bytes = |l: &layers::Spiking| {
            4 * l.conv.kernel.n_weights() + l.conv.kernel.form_bytes().iter().sum::<usize>()
        };
        let packed: usize = self.net.spiking().into_iter().map(bytes).sum();
        let learned = n * (2 + self.optimizer.n_moments()) + packed;
        let step = 4 * self.params.n_steps * batch_size;
        let largest = self.net.spiking().iter().map(|l| l.conv.kernel.output().len()).max();
        let neurons: usize = self.net.spiking().iter().map(|l| l.conv.kernel.output().len()).sum();
        // Weighted inputs are kept; two gradients of the largest layer live at once.
        let (kept, passing) = (step * neurons, 3 * step * largest.unwrap_or(0));
        let memory = Memory { learned, kept, passing };
        vec![memory.note(self.net.parameters.n_values(), batch_size)]
    }

    fn figures(&self, probe: &Batch<'_>) -> Result<Vec<crate::event::Figure>> {
        figures::figures(self, probe)
    }
}
