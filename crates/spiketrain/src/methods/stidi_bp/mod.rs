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
//!    `Σ_j e_j κ_j w_ji ε′(t_j − t_i)`; 0 for silent i. `e_i = d_i/‖d‖`, and on with 3.
//! 5. Binary weights: the forward pass uses the signs and `θ/f`; 3 and 4 the real weights.
//!
//! | symbol | field | shape | unit | default |
//! | --- | --- | --- | --- | --- |
//! | T | `n_steps` | | steps | 64 |
//! | τ_r, τ_d | `rise`, `fall` | | steps | 32, 0 |
//! | θ | `threshold` | `[layer]` | potential | 100 |
//! | γ | `margin` | | steps | 4 |
//! | η | `learning_rate` | `[layer]` | potential | 0.8, 1.6 |
//! | w | state `layerL.weight` | `[neuron, input]` | potential | `init` |
//!
//! Departures are listed in [`CARD`].

mod activity;
mod figures;
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
use crate::learner::{
    Batch, Card, Ctx, EpochReport, Learner, Measure, Prediction, StepReport, Task,
};
use crate::seed::Stream;
use crate::simd::Line;
use crate::spikes::{Events, Notation, Shape};
use crate::state::State;
use crate::times::stepped::{Rows, Sign};
use activity::Activity;
use layer::{Layer, Trace};
use network::{Map, Plan};
use rayon::prelude::*;

/// The method's visiting card.
pub const CARD: Card = Card {
    name: "stidi-bp",
    title: "Spike time displacement backpropagation (STiDi-BP, S4NN, BS4NN)",
    citation: "Mirsadeghi, Shalchian, Kheradpisheh, Masquelier, Neurocomputing 427, 2021; \
               Neural Computing and Applications, 2023, arXiv 2108.13621",
    reads: Notation::Times,
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
        Ok(Self {
            params: params.clone(),
            shape: task.shape,
            layers: sizes.into_iter().enumerate().map(layer).collect(),
            n_seen: 0,
            n_learned: 0,
            activity,
            samples: Vec::new(),
            changes: Vec::new(),
        })
    }

    /// The weights of layer `l` as `[neuron, input]`, inputs counted channels, rows, columns.
    pub fn weights(&self, l: usize) -> Vec<f32> {
        let Layer { rows, size, .. } = &self.layers[l];
        let row = |n| (0..rows.n_inputs()).map(move |i| rows.weight(n, size.row(i)));
        (0..rows.n_neurons()).flat_map(row).collect()
    }

    /// Replaces what [`StidiBp::weights`] gave.
    ///
    /// # Panics
    ///
    /// If the weights do not fill the shape.
    pub fn set_weights(&mut self, l: usize, weights: &[f32]) {
        let Layer { rows, size, .. } = &mut self.layers[l];
        let mut ordered = vec![0.0; weights.len()];
        let n_inputs = rows.n_inputs();
        for (from, to) in weights.chunks(n_inputs).zip(ordered.chunks_mut(n_inputs)) {
            from.iter().enumerate().for_each(|(i, &w)| to[size.row(i)] = w);
        }
        rows.set_weights(&ordered);
    }

    /// The factors of binary weights, one a layer.
    pub fn factors(&self) -> Vec<f64> {
        self.layers.iter().map(|l| l.factor).collect()
    }

    /// Learns from samples with the same weights (one mini-batch) and says what happened.
    ///
    /// # Errors
    ///
    /// If a label is no class.
    pub fn learn(&mut self, samples: &[(Events<'_>, usize)], rate: f64) -> Result<Vec<Record>> {
        let variations = vec![Variation::default(); samples.len()];
        self.mini_batch(samples, &variations, rate)?;
        self.decay();
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

    /// Forward pass of one sample, decision included (equation 1).
    fn forward(&self, events: Events<'_>, variation: &Variation, sample: &mut Sample) {
        let p = &self.params;
        sample.traces.resize_with(self.layers.len(), Trace::default);
        self.code(events, variation, &mut sample.traces[0].input);
        let mut stream = variation.dropout.clone();
        for (l, layer) in self.layers.iter().enumerate() {
            let (below, above) = sample.traces.split_at_mut(l + 1);
            let output = match above.first_mut() {
                Some(next) => &mut next.input,
                None => &mut sample.outputs,
            };
            below[l].errors.clear();
            let dropout = stream.as_mut().map(|s| (p.dropout.get(l), s));
            layer.forward(p, dropout, &mut below[l], output);
        }
        sample.decision = self.decide(sample);
    }

    /// Steps `⌊t (T − 1)⌋` of the input spikes, in the order of the first map. Times are single
    /// precision multiples of 1/255 or coarser; half of such a step is far above their rounding.
    fn code(&self, events: Events<'_>, variation: &Variation, input: &mut Vec<f32>) {
        let Shape { channels, height, width } = self.shape;
        let map = Map { height, width, channels };
        input.clear();
        input.resize(map.len(), f32::from(self.params.n_steps));
        let last = f32::from(self.params.n_steps - 1);
        for (i, t) in events.iter().filter(|&(_, t)| t < 1.0) {
            let (channel, row, column) = (i / (height * width), i / width % height, i % width);
            let column = if variation.mirror { width - 1 - column } else { column };
            let (y, x) = (row as isize + variation.down, column as isize + variation.right);
            if (0..height as isize).contains(&y) && (0..width as isize).contains(&x) {
                let place = (y as usize * width + x as usize) * channels + channel;
                input[place] = (t * last + 1.0 / 512.0).floor();
            }
        }
    }

    /// The first output spike; ties go to the larger potential, silence to the largest ever.
    fn decide(&self, sample: &Sample) -> usize {
        let (outputs, n_steps) = (&sample.outputs, self.params.n_steps);
        let earliest = outputs.iter().copied().fold(f32::from(n_steps), f32::min);
        let tied: Vec<usize> = (0..outputs.len()).filter(|&k| outputs[k] == earliest).collect();
        if tied.len() == 1 {
            return tied[0];
        }
        let (layer, trace) = (&self.layers[self.layers.len() - 1], &sample.traces);
        let trace = &trace[trace.len() - 1];
        let at = |k: usize, t: u16| layer.potential(&self.params, trace, k, t);
        let potential = |&k: &usize| match earliest < f32::from(n_steps) {
            true => at(k, earliest as u16),
            false => (1..n_steps).map(|t| at(k, t)).fold(f64::NEG_INFINITY, f64::max),
        };
        let values: Vec<f64> = tied.iter().map(potential).collect();
        let best = (0..tied.len()).reduce(|a, b| if values[b] > values[a] { b } else { a });
        tied[best.expect("there are classes")]
    }

    fn prediction(
        &self,
        events: Events<'_>,
        label: Option<u16>,
        sample: &mut Sample,
    ) -> Prediction {
        self.forward(events, &Variation::default(), sample);
        let n_steps = f32::from(self.params.n_steps);
        let generous = label.map(|label| {
            let (label, first) = (usize::from(label), sample.outputs[sample.decision]);
            let is_among = first < n_steps && sample.outputs.get(label) == Some(&first);
            let sum = f64::from(u8::from(is_among || label == sample.decision));
            Measure { name: "tie_generous_accuracy", sum, count: 1 }
        });
        let decision = sample.outputs[sample.decision];
        let before =
            |times: &[f32]| times.iter().filter(|&&t| t <= decision && t < n_steps).count();
        // Minus the spike time; of several with the same time the decision is above the others.
        let mut scores: Vec<f32> = sample.outputs.iter().map(|t| -t / n_steps).collect();
        for (k, score) in scores.iter_mut().enumerate() {
            if k != sample.decision {
                *score = score.next_down();
            }
        }
        let inputs = sample.traces.iter().map(|t| before(&t.input)).sum::<usize>();
        let synops = |(layer, trace): (&Layer, &Trace)| {
            layer.events_until(trace, decision) * layer.size.neurons.channels
        };
        Prediction {
            class: Some(sample.decision as u16),
            scores,
            n_spikes: (inputs + before(&sample.outputs)) as u64,
            n_synops: self.layers.iter().zip(&sample.traces).map(synops).sum::<usize>() as u64,
            decision_time: Some(decision / n_steps),
            measures: generous.into_iter().collect(),
            ..Prediction::default()
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
        report.n_correct = Some(n_correct);
        Ok(report)
    }

    fn predict(&self, batch: &Batch<'_>) -> Result<Vec<Prediction>> {
        let times = batch.inputs.as_times();
        let predict = |sample: &mut Sample, &row: &usize| {
            self.prediction(times.sample(row), batch.labels.get(row).copied(), sample)
        };
        Ok(batch.rows.par_iter().map_init(Sample::default, predict).collect())
    }

    fn state(&self) -> State {
        let mut state = State::new();
        for (l, layer) in self.layers.iter().enumerate() {
            let shape = [layer.rows.n_neurons(), layer.rows.n_inputs()];
            state.put(&format!("layer{l}.weight"), &shape, self.weights(l));
            state.put(&format!("layer{l}.factor"), &[], vec![layer.factor]);
        }
        state.put("epoch.samples", &[], vec![self.n_seen]);
        state.put("epoch.learned", &[], vec![self.n_learned]);
        self.activity.save(&mut state);
        state
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        for l in 0..self.layers.len() {
            let shape = [self.layers[l].rows.n_neurons(), self.layers[l].rows.n_inputs()];
            let weights = state.get::<f32>(&format!("layer{l}.weight"), &shape)?.to_vec();
            self.set_weights(l, &weights);
            self.layers[l].factor = state.scalar(&format!("layer{l}.factor"))?;
        }
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
