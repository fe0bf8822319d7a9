//! Backpropagation by spike time displacement: STiDi-BP, with S4NN and BS4NN as settings.
//!
//! - M. Mirsadeghi, M. Shalchian, S. R. Kheradpisheh, T. Masquelier, "STiDi-BP: Spike time
//!   displacement based error backpropagation in multilayer spiking neural networks",
//!   Neurocomputing 427, 2021; the same authors, "Spike time displacement-based error
//!   backpropagation in convolutional spiking neural networks", Neural Computing and Applications,
//!   2023, doi 10.1007/s00521-023-08567-0, arXiv 2108.13621.
//! - S4NN: S. R. Kheradpisheh, T. Masquelier, Int. J. Neural Systems 2020, arXiv 1910.09495.
//! - BS4NN: S. R. Kheradpisheh, M. Mirsadeghi, T. Masquelier, Neural Processing Letters 2021,
//!   arXiv 2007.04039.
//!
//! Reads [`Times`](crate::Times), one spike time per pixel in fractions of the window. Layers of
//! neurons that fire at most once, on a grid of T steps (see [`crate::times::stepped`]); the class
//! of the first output spike is the answer. Equations:
//!
//! 1. `V_j(t) = Σ_i w_ji ε(t − t_i)`; `t_j` = first t with `V_j(t) > θ`, T if there is none.
//! 2. Output errors `e_k = (t_k − T_k)/T` against the desired times of [`targets`], scaled to norm 1.
//! 3. `Δw_ji = η e_j κ_j ε(t_j − t_i)` for `t_i < t_j`; `κ_j = 1` or `1/max(slope_j, s_min)`.
//! 4. Displacement of the spikes below `d_i = Σ_j e_j w_ji [t_i < t_j]`, or
//!    `Σ_j e_j κ_j w_ji ε′(t_j − t_i)`; 0 for silent i. With centring `d_i ← d_i − ζ mean d` over
//!    the spikes with `d_i ≠ 0`. `e_i = d_i/‖d‖`, and on with 3.
//! 5. Binary weights: the forward pass uses the signs and `θ/f`; 3 and 4 the real weights. A
//!    learned factor grows by `η_f` times the mean of `e_j [t_i < t_j] sign(w_ji)` over a layer's
//!    synapses, summed over the positions of a convolution.
//! 6. With averaging, after each of the loop's batches, the n-th:
//!    `w̄ ← w̄ + max(1 − β, 1/n) (w − w̄)`; w̄ predicts, w learns.
//!
//! | symbol | field | shape | unit | default |
//! | --- | --- | --- | --- | --- |
//! | T | `n_steps` | | steps | 64 |
//! | τ_r, τ_d | `rise`, `fall` | | steps | 32, 0 |
//! | θ | `threshold` | `[layer]` | potential | 100 |
//! | γ | `margin` | | steps | 4 |
//! | η | `learning_rate` | `[layer]` | potential | 0.8, 1.6 |
//! | ζ | `centring` | | | 0 |
//! | β | `averaging` | | | 0: w predicts |
//! | w | state `layerL.weight` | `[neuron, input]` | potential | `init` |
//!
//! Departures are listed in [`CARD`].

mod activity;
mod figures;
mod forward;
mod layer;
mod learn;
mod network;
mod params;
pub mod targets;
#[cfg(test)]
mod tests;

pub use params::{Displacement, ErrorScale, Init, Latency, Params, PerLayer, Target, Weights};

use crate::error::{Error, Result};
use crate::event::Figure;
use crate::learner::{Batch, Card, Ctx, EpochReport, Learner, Prediction, StepReport, Task};
use crate::schedule::share_of_newest;
use crate::seed::Stream;
use crate::simd::Line;
use crate::spikes::{Events, Notation, Shape};
use crate::state::State;
use crate::times::stepped::{Rows, Sign};
use activity::Activity;
use forward::Network;
use layer::{Layer, Trace};
use network::{Map, Plan};
use rayon::prelude::*;

/// The method's visiting card.
pub const CARD: Card = Card {
    name: "stidi-bp",
    title: "Spike time displacement backpropagation (STiDi-BP, S4NN, BS4NN)",
    citation: "Mirsadeghi, Shalchian, Kheradpisheh, Masquelier, Neurocomputing 427, 2021; \
               Neural Computing and Applications, 2023, arXiv 2108.13621",
    reads: &[Notation::Times],
    metrics: &[
        ("learned_from", "share of the epoch's samples whose margin did not hold"),
        ("weight_scale_N", "mean absolute weight of layer N over its threshold"),
        ("fired_N", "share of the outputs of layer N, after pooling, that fired in training"),
        ("time_N", "mean time of those spikes, as a fraction of the window"),
        ("rescued", "hidden neurons that hardly fired and got new weights"),
        (
            "tie_generous_accuracy",
            "share of the samples whose class is among the earliest outputs, as the programs of \
             S4NN and BS4NN count; where all are silent, the decision counts",
        ),
    ],
    departures: &[
        "the papers' kernel is known to be piecewise linear, not its shape: rise and plateau, or a \
         triangle",
        "the papers' formula for the desired times of hidden neurons was not at hand: displacement \
         by weight or by linear response",
        "target = \"margin\" pulls the right neuron ahead of the best rival, where S4NN only asks \
         it to be as early as the earliest",
        "weights can be averaged over updates, and errors of a layer centred, which the papers do \
         not mention",
        "ties go to the larger potential at the spike, then to the lower index; if all output \
         neurons stay silent, to the largest potential over the run",
    ],
};

/// The learner.
#[derive(Clone, Debug)]
pub struct StidiBp {
    params: Params,
    shape: Shape,
    layers: Vec<Layer>,
    /// The layers with the running means of their weights, if the recipe asks for them.
    mean: Option<Vec<Layer>>,
    n_updates: u64,
    n_seen: u64,
    n_learned: u64,
    activity: Activity,
    /// Working space, one entry a sample of a mini-batch; holds nothing between steps.
    samples: Vec<Sample>,
    /// Weight changes of the shards of a mini-batch.
    changes: Vec<Vec<Line>>,
}

/// One sample on its way through the network.
#[derive(Clone, Debug, Default)]
struct Sample {
    traces: Vec<Trace>,
    outputs: Vec<f32>,
    desired: Vec<f32>,
    decision: usize,
    /// Norm of the output errors before they are scaled.
    norm: f64,
    /// Factor of the unit errors.
    scale: f64,
    is_live: bool,
}

/// What the network did with one training sample and what it learned from it, for comparison.
#[derive(Clone, Debug)]
pub struct Record {
    /// Spike times of each layer in the order of its state, before pooling; T if silent.
    pub times: Vec<Vec<f32>>,
    /// Desired times of the output neurons.
    pub desired: Vec<f32>,
    /// Errors of each layer's outputs, counted channels, rows, columns, after pooling; empty where
    /// learning stopped above.
    pub errors: Vec<Vec<f32>>,
}

impl StidiBp {
    /// A network with weights drawn from the task's seed.
    ///
    /// # Errors
    ///
    /// If the task has no spike times, fewer than two classes, or samples the layers do not fit.
    pub fn new(params: &Params, task: &Task) -> Result<Self> {
        if task.notation != Notation::Times {
            let found = task.notation.name();
            return Err(Error::recipe(format!(
                "stidi-bp reads spike times, the encoder gives {found}"
            )));
        }
        if task.n_classes < 2 {
            let n = task.n_classes;
            return Err(Error::recipe(format!(
                "stidi-bp needs at least 2 classes, the data has {n}"
            )));
        }
        let plan = Plan::parse(&params.hidden).map_err(Error::recipe)?;
        let sizes = plan.sizes(task.shape, task.n_classes)?;
        let activity = Activity::new(sizes.iter().map(|s| s.output.channels));
        let sign = match params.weights {
            Weights::Real => Sign::Real,
            Weights::Binary => Sign::Signs,
        };
        let layer = |(l, size): (usize, network::Size)| {
            let (fan_in, n) = (size.fan_in(), size.neurons.channels);
            let threshold = params.threshold.get(l);
            let mut stream = task.seed.stream("stidi-bp.weights", l as u64);
            let draw = || initial(params.init.get(l), threshold, fan_in, &mut stream);
            let weights: Vec<f32> = std::iter::repeat_with(draw).take(fan_in * n).collect();
            let rows = Rows::new(fan_in, n, &weights, sign);
            let factor = match (params.weights, &params.factor) {
                (Weights::Real, _) => 1.0,
                (Weights::Binary, Some(f)) => f.get(l),
                (Weights::Binary, None) => rows.mean_abs(),
            };
            let learning_rate = params.learning_rate.get(l);
            Layer { size, rows, threshold, factor, learning_rate, kept: 1.0 }
        };
        let layers: Vec<Layer> = sizes.into_iter().enumerate().map(layer).collect();
        Ok(Self {
            params: params.clone(),
            shape: task.shape,
            mean: (params.averaging > 0.0).then(|| layers.clone()),
            layers,
            n_updates: 0,
            n_seen: 0,
            n_learned: 0,
            activity,
            samples: Vec::new(),
            changes: Vec::new(),
        })
    }

    /// The weights of layer `l` as `[neuron, input]`, inputs counted channels, rows, columns.
    pub fn weights(&self, l: usize) -> Vec<f32> {
        self.layers[l].weights()
    }

    /// Replaces what [`StidiBp::weights`] gave.
    ///
    /// # Panics
    ///
    /// If the weights do not fill the shape.
    pub fn set_weights(&mut self, l: usize, weights: &[f32]) {
        self.layers[l].set_weights(weights);
    }

    /// The factors of binary weights, one a layer.
    pub fn factors(&self) -> Vec<f64> {
        self.layers.iter().map(|l| l.factor).collect()
    }

    /// The network in training.
    fn training(&self) -> Network<'_> {
        Network { params: &self.params, shape: self.shape, layers: &self.layers }
    }

    /// The network that predicts: with averaging that of the mean weights.
    fn predicting(&self) -> Network<'_> {
        let layers = self.mean.as_ref().unwrap_or(&self.layers);
        Network { layers, ..self.training() }
    }

    /// Equation 6.
    fn average(&mut self) {
        self.n_updates += 1;
        if let Some(mean) = &mut self.mean {
            let share = share_of_newest(self.params.averaging, self.n_updates);
            mean.iter_mut().zip(&self.layers).for_each(|(m, layer)| m.follow(layer, share));
        }
    }

    /// Learns from samples with the same weights (one mini-batch) and says what happened. Without
    /// samples nothing does.
    ///
    /// # Errors
    ///
    /// If a label is no class.
    pub fn learn(&mut self, samples: &[(Events<'_>, usize)], rate: f64) -> Result<Vec<Record>> {
        if samples.is_empty() {
            return Ok(Vec::new());
        }
        let variations = vec![Variation::default(); samples.len()];
        self.mini_batch(samples, &variations, rate)?;
        self.decay();
        self.average();
        Ok(self.samples[..samples.len()].iter().map(|s| self.record(s)).collect())
    }

    fn record(&self, sample: &Sample) -> Record {
        let dense = |(layer, trace): (&Layer, &Trace)| {
            let lanes = layer.rows.n_lanes();
            let map = Map { channels: lanes, ..layer.size.neurons };
            let n = layer.size.neurons.len();
            (0..n).map(|i| trace.times[map.place(i)]).collect()
        };
        let errors = |(layer, trace): (&Layer, &Trace)| {
            let map = layer.size.output;
            (0..trace.errors.len()).map(|i| trace.errors[map.place(i)]).collect()
        };
        let all = || self.layers.iter().zip(&sample.traces);
        Record {
            times: all().map(dense).collect(),
            desired: sample.desired.clone(),
            errors: all().map(errors).collect(),
        }
    }
}

/// How a training sample is varied: its image moved and mirrored, spikes left out.
#[derive(Clone, Debug, Default)]
struct Variation {
    down: isize,
    right: isize,
    mirror: bool,
    dropout: Option<Stream>,
}

impl Variation {
    fn draw(p: &Params, ctx: &Ctx, index: u64) -> Self {
        let mut stream = ctx.seed.stream("stidi-bp.shift", index);
        let most = u32::from(p.max_shift);
        let mut steps = || stream.below(2 * most + 1) as isize - most as isize;
        let (down, right) = (steps(), steps());
        let mirror = stream.chance(p.mirror as f32);
        let dropout = p.dropout.values().iter().any(|&d| d > 0.0);
        let dropout = dropout.then(|| ctx.seed.stream("stidi-bp.dropout", index));
        Self { down, right, mirror, dropout }
    }
}

fn initial(init: Init, threshold: f64, fan_in: usize, stream: &mut Stream) -> f32 {
    let n = fan_in as f64;
    match init {
        Init::Uniform([low, high]) => (low + (high - low) * stream.uniform_f64()) as f32,
        Init::Scaled([mean, std]) => {
            stream.normal(mean * threshold / n, std * threshold / n.sqrt()) as f32
        }
    }
}

impl Learner for StidiBp {
    fn step(&mut self, batch: &Batch<'_>, ctx: &Ctx) -> Result<StepReport> {
        let times = batch.inputs.as_times();
        let mut report = StepReport { n_samples: batch.len() as u64, ..StepReport::default() };
        let mut n_correct = 0;
        let mini_batch = self.params.mini_batch;
        for (part, rows) in batch.rows.chunks(mini_batch).enumerate() {
            let mut items = Vec::with_capacity(rows.len());
            let mut variations = Vec::with_capacity(rows.len());
            for (i, &row) in rows.iter().enumerate() {
                let label = batch.labels.get(row).copied();
                let label =
                    label.ok_or_else(|| Error::data(format!("sample {row} has no label")))?;
                items.push((times.sample(row), usize::from(label)));
                let index = ctx.presentation(part * mini_batch + i);
                variations.push(Variation::draw(&self.params, ctx, index));
            }
            self.mini_batch(&items, &variations, ctx.rate)?;
            for (sample, (_, label)) in self.samples.iter().zip(&items) {
                report.loss += 0.5 * sample.norm * sample.norm;
                n_correct += u64::from(sample.decision == *label);
            }
        }
        self.decay();
        self.average();
        report.n_correct = Some(n_correct);
        Ok(report)
    }

    fn predict(&self, batch: &Batch<'_>) -> Result<Vec<Prediction>> {
        let times = batch.inputs.as_times();
        let network = self.predicting();
        let predict = |sample: &mut Sample, &row: &usize| {
            network.prediction(times.sample(row), batch.labels.get(row).copied(), sample)
        };
        Ok(batch.rows.par_iter().map_init(Sample::default, predict).collect())
    }

    fn state(&self) -> State {
        let mut state = State::new();
        for (l, layer) in self.layers.iter().enumerate() {
            let shape = [layer.rows.n_neurons(), layer.rows.n_inputs()];
            state.put(&format!("layer{l}.weight"), &shape, layer.weights());
            state.put(&format!("layer{l}.factor"), &[], vec![layer.factor]);
        }
        for (l, mean) in self.mean.iter().flatten().enumerate() {
            let shape = [mean.rows.n_neurons(), mean.rows.n_inputs()];
            state.put(&format!("mean{l}.weight"), &shape, mean.weights());
            state.put(&format!("mean{l}.factor"), &[], vec![mean.factor]);
        }
        state.put("n_updates", &[], vec![self.n_updates]);
        state.put("epoch.samples", &[], vec![self.n_seen]);
        state.put("epoch.learned", &[], vec![self.n_learned]);
        self.activity.save(&mut state);
        state
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        let means = self.mean.iter_mut().map(|m| ("mean", m));
        for (name, layers) in [("layer", &mut self.layers)].into_iter().chain(means) {
            for (l, layer) in layers.iter_mut().enumerate() {
                let shape = [layer.rows.n_neurons(), layer.rows.n_inputs()];
                layer.set_weights(state.get(&format!("{name}{l}.weight"), &shape)?);
                layer.factor = state.scalar(&format!("{name}{l}.factor"))?;
            }
        }
        self.n_updates = state.scalar("n_updates")?;
        self.n_seen = state.scalar("epoch.samples")?;
        self.n_learned = state.scalar("epoch.learned")?;
        self.activity.restore(state)
    }

    fn end_epoch(&mut self, ctx: &Ctx) -> Result<EpochReport> {
        let mut report = EpochReport::default();
        let share = self.n_learned as f64 / self.n_seen.max(1) as f64;
        report.metrics.insert("learned_from".into(), share);
        for (l, layer) in self.layers.iter().enumerate() {
            let scale = layer.rows.mean_abs() / layer.threshold;
            report.metrics.insert(format!("weight_scale_{l}"), scale);
        }
        self.end_activity(ctx, &mut report.metrics);
        (self.n_seen, self.n_learned) = (0, 0);
        Ok(report)
    }

    fn figures(&self, probe: &Batch<'_>) -> Result<Vec<Figure>> {
        Ok(figures::figures(self, probe))
    }
}
