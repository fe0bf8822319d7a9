//! Layers of alpha-synapse neurons with trainable pulses.

mod learning;

pub use learning::{Learning, Sums};

use super::losses;
use super::params::Params;
use crate::error::Result;
use crate::seed::{Seed, Stream};
use crate::simd::Simd;
use crate::state::State;
use crate::times::alpha::Neuron;
use crate::times::alpha::layer::{Arrivals, Block, LANES, Matrix, Spikes, first_spikes};
use learning::Shard;

/// What the network is trained for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// Output j should spike at the target time of pixel j plus the latency.
    Reconstruction {
        /// Time by which outputs follow their targets.
        latency: f64,
    },
    /// The output of the sample's class should spike first.
    Classification,
}

/// What one sample should give.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// Times τ, `[output]`, 1 where silent.
    Times(&'a [f64]),
    /// The class.
    Label(usize),
}

/// One training sample: spikes as (time, input) in order of time, and the target.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// Input spikes.
    pub spikes: &'a [(f64, u32)],
    /// What they should give.
    pub target: Target<'a>,
    /// Which spikes are left out.
    pub dropout: Option<&'a Dropout>,
}

/// Spikes left out at random.
#[derive(Clone, Debug)]
pub struct Dropout {
    /// Share q of the spikes that each layer does not receive; the rest are 1/(1 − q) times as
    /// strong. Pulses all arrive.
    pub shares: [f64; 2],
    /// Where the draws come from.
    pub stream: Stream,
}

impl Dropout {
    /// Leaves spikes to layer `layer` out; returns how strong the others are.
    fn thin(&mut self, layer: usize, spikes: &mut Vec<(f64, u32)>) -> f64 {
        let share = self.shares[layer];
        if share == 0.0 {
            return 1.0;
        }
        spikes.retain(|_| !self.stream.chance(share as f32));
        1.0 / (1.0 - share)
    }
}

/// One layer: weights from the senders below and from their pulses.
#[derive(Clone, Debug)]
struct Layer {
    /// `[sender, then pulse][neuron]`.
    weights: Matrix,
    moments: [Vec<Block>; 2],
    /// Times of the pulses that are sent to this layer.
    pulses: Vec<f64>,
    pulse_moments: [Vec<f64>; 2],
}

impl Layer {
    fn n_senders(&self) -> usize {
        self.weights.n_rows() - self.pulses.len()
    }
}

/// A feed-forward network.
#[derive(Clone, Debug)]
pub struct Network {
    neuron: Neuron,
    simd: Simd,
    layers: Vec<Layer>,
    /// Updates done.
    n_updates: u64,
    shards: Vec<Shard>,
}

/// One sample in the network.
#[derive(Clone, Debug, Default)]
pub struct Activity {
    arrivals: Vec<Arrivals>,
    spikes: Vec<Spikes>,
    errors: Vec<Vec<Block>>,
    by_time: Vec<Vec<f64>>,
    order: Vec<(f64, u32)>,
    pulses: Vec<(f64, u32)>,
    probabilities: Vec<f64>,
}

impl Activity {
    /// Time of `neuron` of layer `layer`, counted from the first hidden one; infinite if silent.
    pub fn time(&self, layer: usize, neuron: usize) -> f64 {
        self.spikes[layer].time(neuron, self.arrivals[layer].reference())
    }

    /// Arrivals at layer `layer`.
    pub fn n_arrivals(&self, layer: usize) -> usize {
        self.arrivals[layer].len()
    }

    /// `p = softmax(−t)` of the last classification.
    pub fn probabilities(&self) -> &[f64] {
        &self.probabilities
    }
}

/// Evenly spaced pulse times inside the window: `i/(n + 1)`, i = 1..n.
pub fn even_pulses(n: usize) -> Vec<f64> {
    (1..=n).map(|i| i as f64 / (n + 1) as f64).collect()
}

/// Initial weight onto one of `n_neurons` with `n_columns` senders and pulses, from a standard
/// normal draw: `σ(z + m)`, `σ = √(2/(n_neurons + n_columns))`.
pub fn initial_weight(n_neurons: usize, n_columns: usize, multiplier: f64, z: f64) -> f64 {
    libm::sqrt(2.0 / (n_neurons + n_columns) as f64) * (z + multiplier)
}

impl Network {
    /// A network of `sizes` (inputs first) whose layer l has `weights[l]`, as
    /// `[neuron][sender, then pulse]`, and is sent `pulses[l]`.
    ///
    /// # Panics
    ///
    /// If the arrays do not fit the sizes.
    pub fn new(neuron: Neuron, sizes: &[usize], weights: &[Vec<f64>], pulses: &[Vec<f64>]) -> Self {
        assert!(sizes.len() >= 2 && weights.len() == sizes.len() - 1, "weights for every layer");
        let layers = sizes.windows(2).zip(weights.iter().zip(pulses)).map(|(n, (w, p))| {
            let weights = Matrix::from_rows_of_neurons(n[0] + p.len(), n[1], w);
            let zeros = vec![Block::splat(0.0); weights.blocks().len()];
            Layer {
                weights,
                moments: [zeros.clone(), zeros],
                pulses: p.clone(),
                pulse_moments: [vec![0.0; p.len()], vec![0.0; p.len()]],
            }
        });
        let layers: Vec<Layer> = layers.collect();
        assert_eq!(layers.len(), weights.len(), "pulses for every layer");
        Self { neuron, simd: Simd::best(), layers, n_updates: 0, shards: Vec::new() }
    }

    /// A network `n_inputs`-hidden-`n_outputs` with weights drawn from `seed` and evenly spaced
    /// pulses.
    pub(super) fn drawn(params: &Params, n_inputs: usize, n_outputs: usize, seed: Seed) -> Self {
        let sizes = [n_inputs, params.hidden, n_outputs];
        let of_layer = |l: usize| -> Vec<f64> {
            let (n_neurons, n_columns) = (sizes[l + 1], sizes[l] + params.n_pulses);
            let of_neuron = |n: usize| {
                let index = ((l as u64) << 32) | n as u64;
                let mut stream = seed.stream("temporal-autoencoder.weights", index);
                let mut weight = |i: usize| {
                    let multiplier = if i < sizes[l] {
                        params.nonpulse_weight_mean_multiplier
                    } else {
                        params.pulse_weight_mean_multiplier
                    };
                    let z = stream.normal(0.0, 1.0);
                    let w = initial_weight(n_neurons, n_columns, multiplier, z);
                    if params.non_negative { w.max(0.0) } else { w }
                };
                (0..n_columns).map(&mut weight).collect::<Vec<f64>>()
            };
            (0..n_neurons).flat_map(of_neuron).collect()
        };
        let pulses = vec![even_pulses(params.n_pulses); 2];
        let neuron = Neuron { decay: params.decay, threshold: params.threshold };
        Self::new(neuron, &sizes, &[of_layer(0), of_layer(1)], &pulses)
    }

    /// The same network on other vector instructions; the results are the same bits.
    #[must_use]
    pub fn with_simd(mut self, simd: Simd) -> Self {
        self.simd = simd;
        self
    }

    /// Number of layers, without the inputs.
    pub fn n_layers(&self) -> usize {
        self.layers.len()
    }

    /// Neurons of layer `layer`, counted from the first hidden one.
    pub fn n_neurons(&self, layer: usize) -> usize {
        self.layers[layer].weights.n_neurons()
    }

    /// Senders of layer `layer`, without pulses.
    pub fn n_senders(&self, layer: usize) -> usize {
        self.layers[layer].n_senders()
    }

    /// Weight of sender (or, behind them, pulse) `row` on `neuron` of layer `layer`.
    pub fn weight(&self, layer: usize, row: usize, neuron: usize) -> f64 {
        self.layers[layer].weights.at(row, neuron)
    }

    /// Weights of layer `layer`, `[neuron][sender, then pulse]`.
    pub fn weights(&self, layer: usize) -> Vec<f64> {
        self.layers[layer].weights.to_rows_of_neurons()
    }

    /// Times of the pulses that are sent to layer `layer`.
    pub fn pulses(&self, layer: usize) -> &[f64] {
        &self.layers[layer].pulses
    }

    /// Share of negative weights onto layer `layer` among those of neurons and those of pulses.
    pub fn negative_shares(&self, layer: usize) -> [f64; 2] {
        let (n, n_neurons) = (self.n_senders(layer), self.n_neurons(layer));
        let share = |rows: std::ops::Range<usize>| {
            let n_weights = rows.len() * n_neurons;
            let of_row = |r: usize| (0..n_neurons).filter(move |&k| self.weight(layer, r, k) < 0.0);
            rows.flat_map(of_row).count() as f64 / n_weights.max(1) as f64
        };
        [share(0..n), share(n..n + self.pulses(layer).len())]
    }

    /// Contribution of neurons and of pulses to the potential of the last layer at time `t`, as
    /// the mean over its neurons, for the sample that stands in the network.
    pub fn mean_drive(&self, a: &Activity, t: f64) -> [f64; 2] {
        let last = self.layers.len() - 1;
        let (n, n_neurons) = (self.n_senders(last), self.n_neurons(last));
        let of_sender = |row: usize, time: f64| {
            let psp = self.neuron.potential(&[1.0], &[time], t);
            (0..n_neurons).map(|k| self.weight(last, row, k)).sum::<f64>() / n_neurons as f64 * psp
        };
        let time = |row: usize| {
            if last == 0 { f64::INFINITY } else { a.time(last - 1, row) }
        };
        let neurons = (0..n).map(|row| of_sender(row, time(row))).sum();
        let pulses = self.pulses(last).iter().enumerate();
        [neurons, pulses.map(|(i, &time)| of_sender(n + i, time)).sum()]
    }

    /// Decay and threshold.
    pub fn neuron(&self) -> Neuron {
        self.neuron
    }

    /// Room for a sample.
    pub fn activity(&self) -> Activity {
        let n = self.layers.len();
        let blocks = |l: &Layer| vec![Block::splat(0.0); l.weights.blocks_per_row()];
        Activity {
            arrivals: vec![Arrivals::default(); n],
            spikes: vec![Spikes::default(); n],
            errors: self.layers.iter().map(blocks).collect(),
            by_time: self.layers.iter().map(|l| vec![0.0; l.weights.n_rows()]).collect(),
            ..Activity::default()
        }
    }

    /// Spike times of all layers for input `spikes` in order of time.
    pub fn forward(&self, spikes: &[(f64, u32)], a: &mut Activity) {
        self.forward_without(spikes, None, a);
    }

    /// [`Network::forward`] without the spikes that `dropout` leaves out.
    fn forward_without(&self, spikes: &[(f64, u32)], dropout: Option<&Dropout>, a: &mut Activity) {
        let mut dropout = dropout.cloned();
        for (l, layer) in self.layers.iter().enumerate() {
            let n_senders = layer.n_senders();
            a.pulses.clear();
            let pulses = layer.pulses.iter().enumerate();
            a.pulses.extend(pulses.map(|(i, &t)| (t, (n_senders + i) as u32)));
            a.pulses.sort_by(|x, y| x.0.total_cmp(&y.0));
            a.order.clear();
            if l == 0 {
                a.order.extend_from_slice(spikes);
            } else {
                let (below, reference) = (&a.spikes[l - 1], a.arrivals[l - 1].reference());
                let fired = (0..n_senders).filter(|&n| below.fired(n));
                a.order.extend(fired.map(|n| (below.time(n, reference), n as u32)));
                a.order.sort_unstable_by(|x, y| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1)));
            }
            let strength = dropout.as_mut().map_or(1.0, |d| d.thin(l, &mut a.order));
            let arriving = (a.order.as_slice(), strength);
            a.arrivals[l].set(self.simd, self.neuron.decay, arriving, &a.pulses);
            let (weights, arrivals) = (&layer.weights, &a.arrivals[l]);
            first_spikes(self.simd, self.neuron, weights, arrivals, &mut a.spikes[l]);
        }
    }

    /// Loss of one sample, after [`Network::forward`]; sets the last layer's errors. True if the
    /// class is right.
    fn judge(&self, goal: Goal, target: Target<'_>, a: &mut Activity) -> (f64, bool) {
        let last = self.layers.len() - 1;
        let Activity { arrivals, spikes, errors, probabilities, .. } = a;
        let reference = arrivals[last].reference();
        let times = (0..self.n_neurons(last)).map(|n| spikes[last].time(n, reference));
        let errors = &mut errors[last];
        let mut error = |j: usize, g: f64| errors[j / LANES].0[j % LANES] = g;
        match (goal, target) {
            (Goal::Reconstruction { latency }, Target::Times(targets)) => {
                (losses::reconstruction(latency, times, targets, &mut error), false)
            }
            (Goal::Classification, Target::Label(label)) => {
                let verdict = losses::classification(times, label, probabilities, &mut error);
                (verdict.loss, verdict.class == Some(label))
            }
            _ => unreachable!("targets are those of the goal"),
        }
    }

    /// Loss of one sample; changes nothing.
    pub fn loss(&self, goal: Goal, sample: &Sample<'_>, a: &mut Activity) -> f64 {
        self.forward_without(sample.spikes, sample.dropout, a);
        self.judge(goal, sample.target, a).0
    }

    /// Moves weights and pulse times by `share` of the way to those of `other`.
    ///
    /// # Panics
    ///
    /// If the networks have other sizes.
    pub fn follow(&mut self, other: &Network, share: f64) {
        assert_eq!(self.layers.len(), other.layers.len(), "the same sizes");
        let step = |mean: &mut f64, x: f64| *mean += share * (x - *mean);
        for (mean, layer) in self.layers.iter_mut().zip(&other.layers) {
            assert_eq!(mean.weights.n_rows(), layer.weights.n_rows(), "the same sizes");
            let blocks = mean.weights.blocks_mut().iter_mut().zip(layer.weights.blocks());
            blocks.for_each(|(m, x)| m.0.iter_mut().zip(x.0).for_each(|(m, x)| step(m, x)));
            mean.pulses.iter_mut().zip(&layer.pulses).for_each(|(m, &x)| step(m, x));
        }
    }

    /// Updates done.
    pub fn n_updates(&self) -> u64 {
        self.n_updates
    }

    /// Weights, pulses, both moments and the number of updates.
    pub fn state(&self) -> State {
        let mut state = self.weight_state();
        state.put("n_updates", &[], vec![self.n_updates]);
        for (l, layer) in self.layers.iter().enumerate() {
            let shape = [layer.weights.n_neurons(), layer.weights.n_rows()];
            let n = [layer.pulses.len()];
            for (k, name) in ["mean", "square"].iter().enumerate() {
                let mut matrix = Matrix::new(shape[1], shape[0]);
                matrix.blocks_mut().copy_from_slice(&layer.moments[k]);
                let values = matrix.to_rows_of_neurons();
                state.put(&format!("layer{l}.weight_{name}"), &shape, values);
                let values = layer.pulse_moments[k].clone();
                state.put(&format!("layer{l}.pulse_{name}"), &n, values);
            }
        }
        state
    }

    /// Weights and pulses.
    pub fn weight_state(&self) -> State {
        let mut state = State::new();
        for (l, layer) in self.layers.iter().enumerate() {
            let shape = [layer.weights.n_neurons(), layer.weights.n_rows()];
            state.put(&format!("layer{l}.weight"), &shape, layer.weights.to_rows_of_neurons());
            let pulses = layer.pulses.clone();
            state.put(&format!("layer{l}.pulse"), &[pulses.len()], pulses);
        }
        state
    }

    /// Puts back what [`Network::state`] gave.
    ///
    /// # Errors
    ///
    /// If an array is missing or does not fit.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        self.restore_weights(state)?;
        self.n_updates = state.scalar("n_updates")?;
        for (l, layer) in self.layers.iter_mut().enumerate() {
            let shape = [layer.weights.n_neurons(), layer.weights.n_rows()];
            let moment = |name: &str| -> Result<Vec<Block>> {
                let values = state.get(&format!("layer{l}.weight_{name}"), &shape)?;
                Ok(Matrix::from_rows_of_neurons(shape[1], shape[0], values).into_blocks())
            };
            layer.moments = [moment("mean")?, moment("square")?];
            let n = [layer.pulses.len()];
            let list = |name: &str| Ok(state.get(&format!("layer{l}.pulse_{name}"), &n)?.to_vec());
            layer.pulse_moments = [list("mean")?, list("square")?];
        }
        Ok(())
    }

    /// Puts back what [`Network::weight_state`] gave.
    ///
    /// # Errors
    ///
    /// If an array is missing or does not fit.
    pub fn restore_weights(&mut self, state: &State) -> Result<()> {
        self.shards.clear();
        for (l, layer) in self.layers.iter_mut().enumerate() {
            let shape = [layer.weights.n_neurons(), layer.weights.n_rows()];
            let values = state.get(&format!("layer{l}.weight"), &shape)?;
            layer.weights = Matrix::from_rows_of_neurons(shape[1], shape[0], values);
            let pulses = state.get(&format!("layer{l}.pulse"), &[layer.pulses.len()])?;
            layer.pulses = pulses.to_vec();
        }
        Ok(())
    }
}
