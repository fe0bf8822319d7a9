//! How the network learns: the gradient of a batch, in parts, and the update.

use super::super::adam::Step;
use super::super::params::{self, Params};
use super::{Activity, Goal, Layer, Network, Sample};
use crate::times::alpha::layer::{Backward, Block, Clips, LANES, Matrix, backward};
use rayon::prelude::*;

/// Most parts a batch is cut into; their gradients are summed in order.
const MAX_SHARDS: usize = 4;
/// Samples in a part that are worth a gradient of their own.
const SHARD_SAMPLES: usize = 4;

/// Sums over the samples of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    /// Losses.
    pub loss: f64,
    /// Samples whose class was right.
    pub n_correct: u64,
    /// Neurons that fired, `[layer]`.
    pub n_fired: Vec<u64>,
    /// Their times, `[layer]`.
    pub sum_of_times: Vec<f64>,
}

impl Sums {
    fn new(n_layers: usize) -> Self {
        let (n_fired, sum_of_times) = (vec![0; n_layers], vec![0.0; n_layers]);
        Self { n_fired, sum_of_times, ..Self::default() }
    }

    fn add(&mut self, other: &Sums) {
        self.loss += other.loss;
        self.n_correct += other.n_correct;
        self.n_fired.iter_mut().zip(&other.n_fired).for_each(|(n, d)| *n += d);
        self.sum_of_times.iter_mut().zip(&other.sum_of_times).for_each(|(s, d)| *s += d);
    }
}

/// How the network learns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Learning {
    /// What for.
    pub goal: Goal,
    /// Rate of the weights.
    pub learning_rate: f64,
    /// Rate of the pulse times.
    pub learning_rate_pulses: f64,
    /// What every weight of a silent neuron gains, as a gradient of the other sign.
    pub penalty_no_spike: f64,
    /// Bounds on derivatives and gradients.
    pub clips: Clips,
    /// Smallest weight.
    pub least_weight: f64,
}

impl Learning {
    /// As the recipe says.
    pub(in super::super) fn of(params: &Params) -> Self {
        let bound = |x: f64| if x > 0.0 { x } else { f64::INFINITY };
        let goal = match params.goal {
            params::Goal::Reconstruction => Goal::Reconstruction { latency: params.latency },
            params::Goal::Classification => Goal::Classification,
        };
        let clips = Clips {
            derivative: bound(params.clip_derivative),
            gradient: bound(params.clip_gradient),
        };
        Self {
            goal,
            learning_rate: params.learning_rate,
            learning_rate_pulses: params.learning_rate_pulses,
            penalty_no_spike: params.penalty_no_spike,
            clips,
            least_weight: if params.non_negative { 0.0 } else { f64::NEG_INFINITY },
        }
    }
}

/// What one part of a batch is computed with.
#[derive(Clone, Debug)]
pub(super) struct Shard {
    activity: Activity,
    gradient: Gradient,
}

/// Sums over samples.
#[derive(Clone, Debug)]
struct Gradient {
    weights: Vec<Matrix>,
    /// `[layer][pulse]`.
    pulses: Vec<Vec<f64>>,
    /// −penalty for every silent neuron, in every weight of its column.
    silence: Vec<Vec<Block>>,
    sums: Sums,
}

impl Network {
    fn gradient_room(&self) -> Gradient {
        let blocks = |l: &Layer| vec![Block::splat(0.0); l.weights.blocks_per_row()];
        let matrix = |l: &Layer| Matrix::new(l.weights.n_rows(), l.weights.n_neurons());
        Gradient {
            weights: self.layers.iter().map(matrix).collect(),
            pulses: self.layers.iter().map(|l| vec![0.0; l.pulses.len()]).collect(),
            silence: self.layers.iter().map(blocks).collect(),
            sums: Sums::new(self.layers.len()),
        }
    }

    /// Adds one sample's gradient and loss.
    fn accumulate(&self, how: &Learning, sample: &Sample<'_>, shard: &mut Shard) {
        let Shard { activity: a, gradient } = shard;
        self.forward_without(sample.spikes, sample.dropout, a);
        let (loss, is_correct) = self.judge(how.goal, sample.target, a);
        gradient.sums.loss += loss;
        gradient.sums.n_correct += u64::from(is_correct);
        for (l, layer) in self.layers.iter().enumerate().rev() {
            let silence = &mut gradient.silence[l];
            let reference = a.arrivals[l].reference();
            for n in 0..layer.weights.n_neurons() {
                if a.spikes[l].fired(n) {
                    gradient.sums.n_fired[l] += 1;
                    gradient.sums.sum_of_times[l] += a.spikes[l].time(n, reference);
                } else {
                    silence[n / LANES].0[n % LANES] -= how.penalty_no_spike;
                }
            }
            let n_senders = layer.n_senders();
            a.by_time[l].fill(0.0);
            let task = Backward {
                neuron: self.neuron,
                weights: &layer.weights,
                arrivals: &a.arrivals[l],
                spikes: &a.spikes[l],
                errors: &a.errors[l],
                clips: how.clips,
                first_row: if l == 0 { n_senders } else { 0 },
            };
            backward(self.simd, &task, &mut gradient.weights[l], &mut a.by_time[l]);
            let (below, pulses) = a.by_time[l].split_at(n_senders);
            gradient.pulses[l].iter_mut().zip(pulses).for_each(|(sum, p)| *sum += p);
            if l > 0 {
                let errors = &mut a.errors[l - 1];
                below.iter().enumerate().for_each(|(n, g)| errors[n / LANES].0[n % LANES] = *g);
            }
        }
    }

    /// Gradient of a batch, in parts that do not depend on the number of threads; returns sums
    /// over the samples.
    pub fn gradient(&mut self, how: &Learning, batch: &[Sample<'_>]) -> Sums {
        let n_shards = batch.len().div_ceil(SHARD_SAMPLES).clamp(1, MAX_SHARDS);
        let mut shards = std::mem::take(&mut self.shards);
        while shards.len() < n_shards {
            shards.push(Shard { activity: self.activity(), gradient: self.gradient_room() });
        }
        shards[..n_shards].par_iter_mut().enumerate().for_each(|(s, shard)| {
            let part = s * batch.len() / n_shards..(s + 1) * batch.len() / n_shards;
            batch[part].iter().for_each(|sample| self.accumulate(how, sample, shard));
        });
        let mut total = Sums::new(self.layers.len());
        for shard in &mut shards[..n_shards] {
            let sums = std::mem::replace(&mut shard.gradient.sums, Sums::new(self.layers.len()));
            total.add(&sums);
        }
        self.shards = shards;
        total
    }

    /// Moves weights and pulse times by the gradient that [`Network::gradient`] has summed over
    /// `n_samples`, and clears it. `factor` multiplies both rates.
    pub fn update(&mut self, how: &Learning, factor: f64, n_samples: usize) {
        self.n_updates += 1;
        let step = |rate, least| Step::new(self.n_updates, rate * factor, n_samples, least);
        let of_weights = step(how.learning_rate, how.least_weight);
        let of_pulses = step(how.learning_rate_pulses, 0.0);
        for (l, layer) in self.layers.iter_mut().enumerate() {
            let mut silence = vec![Block::splat(0.0); layer.weights.blocks_per_row()];
            let mut by_pulse = vec![0.0; layer.pulses.len()];
            let mut parts = Vec::new();
            for shard in &mut self.shards {
                let g = &mut shard.gradient;
                for (sum, part) in silence.iter_mut().zip(&mut g.silence[l]) {
                    sum.0.iter_mut().zip(&part.0).for_each(|(s, p)| *s += p);
                    *part = Block::splat(0.0);
                }
                for (sum, part) in by_pulse.iter_mut().zip(&mut g.pulses[l]) {
                    *sum += std::mem::take(part);
                }
                parts.push(g.weights[l].blocks_mut());
            }
            let [m, v] = &mut layer.moments;
            let weights = layer.weights.blocks_mut();
            of_weights.apply_all(self.simd, weights, [m, v], parts, &silence);
            let [m, v] = &mut layer.pulse_moments;
            for (i, x) in layer.pulses.iter_mut().enumerate() {
                of_pulses.apply(x, &mut m[i], &mut v[i], by_pulse[i]);
            }
        }
    }

    /// Mean gradient over `n_samples` that stands summed: weights `[layer][neuron][sender, then
    /// pulse]` and pulses `[layer][pulse]`.
    pub fn mean_gradient(&self, n_samples: usize) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
        let n = n_samples as f64;
        let of_layer = |l: usize| {
            let layer = &self.layers[l];
            let mut sum = Matrix::new(layer.weights.n_rows(), layer.weights.n_neurons());
            let n_blocks = sum.blocks_per_row();
            for shard in &self.shards {
                let (parts, silence) = (&shard.gradient.weights[l], &shard.gradient.silence[l]);
                for (i, (sum, part)) in sum.blocks_mut().iter_mut().zip(parts.blocks()).enumerate()
                {
                    let silent = &silence[i % n_blocks];
                    (0..LANES).for_each(|k| sum.0[k] += part.0[k] + silent.0[k]);
                }
            }
            sum.to_rows_of_neurons().iter().map(|g| g / n).collect::<Vec<f64>>()
        };
        let pulses_of = |l: usize| {
            let mut sum = vec![0.0; self.layers[l].pulses.len()];
            for shard in &self.shards {
                sum.iter_mut().zip(&shard.gradient.pulses[l]).for_each(|(s, p)| *s += p);
            }
            sum.iter().map(|g| g / n).collect::<Vec<f64>>()
        };
        let layers = 0..self.layers.len();
        (layers.clone().map(of_layer).collect(), layers.map(pulses_of).collect())
    }
}
