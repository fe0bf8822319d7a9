//! The layer: traces to potentials, soft competition, update. One patch after another.
//!
//! Weights lie input by input, so that an input adds one contiguous row to all potentials. Every
//! kernel is one plain body compiled for each set of vector instructions; nothing is fused and
//! every sum has a fixed order, so that all of them give the same bits.

use super::params::Params;
use super::softmax::{LANES, exponentials};
use super::trains::Patch;
use crate::simd::{Simd, dispatch};

/// How the layer learns; see [`Params`] for the symbols.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// μ.
    pub learning_rate: f64,
    /// κ.
    pub depression: f64,
    /// λ.
    pub disconnect: f64,
    /// b.
    pub threshold_rate: f64,
    /// m*.
    pub target_spikes: f64,
    /// η_h.
    pub homeostasis: f64,
    /// True if ½‖w‖² is taken from the potential.
    pub exact_distance: bool,
    /// True if only the largest share may spike.
    pub single_winner: bool,
}

impl From<&Params> for Rule {
    fn from(p: &Params) -> Self {
        Self {
            learning_rate: p.learning_rate,
            depression: p.depression,
            disconnect: p.disconnect,
            threshold_rate: p.threshold_rate,
            target_spikes: p.target_spikes,
            homeostasis: p.homeostasis,
            exact_distance: p.exact_distance,
            single_winner: p.single_winner,
        }
    }
}

/// Weights, threshold and offsets.
#[derive(Clone, Debug)]
pub struct Layer {
    pub(super) rule: Rule,
    n_inputs: usize,
    n_neurons: usize,
    /// Neurons, padded to whole blocks.
    n_lanes: usize,
    /// `[input, lane]`.
    weights: Vec<f64>,
    /// θ, one for all neurons.
    threshold: f64,
    /// h, `[lane]`.
    offsets: Vec<f64>,
    /// ½‖w‖² if the distance is exact, otherwise 0, `[neuron]`.
    half_norms: Vec<f64>,
    /// What each potential begins with: −h, less ½‖w‖² if the distance is exact; −∞ for lanes
    /// without a neuron.
    bias: Vec<f64>,
    simd: Simd,
}

/// What the layer did with one patch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Response {
    /// Output spikes of each neuron, n, `[neuron]`.
    pub counts: Vec<u32>,
    /// Steps shown.
    pub n_steps: u64,
    /// Steps with an output spike.
    pub n_active: u64,
    /// Sum over the output spikes of `½ Σ_j [(s_j − w_ij)² + λ w_ij²]`, before each was learned
    /// from; 0 where nothing is learned.
    pub loss: f64,
}

impl Response {
    fn begin(&mut self, n_neurons: usize, n_steps: usize) {
        self.counts.clear();
        self.counts.resize(n_neurons, 0);
        self.n_steps = n_steps as u64;
        self.n_active = 0;
        self.loss = 0.0;
    }

    /// Output spikes of all neurons.
    pub fn n_spikes(&self) -> u64 {
        self.counts.iter().map(|&n| u64::from(n)).sum()
    }
}

/// Buffers of one patch; hold nothing between patches.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    /// Potentials, then exponentials, `[lane]`.
    potentials: Vec<f64>,
    /// Neurons that spike in this step, ascending.
    fired: Vec<usize>,
    /// Per input: what w is multiplied with, what is added, whether it is causal.
    updates: Vec<[f64; 3]>,
}

impl Layer {
    /// A layer with `weights[[neuron, input]]` in [0, 1].
    pub fn new(rule: Rule, n_inputs: usize, threshold: f64, weights: &[f64], simd: Simd) -> Self {
        let n_neurons = weights.len() / n_inputs;
        let n_lanes = n_neurons.next_multiple_of(LANES);
        let mut layer = Self {
            rule,
            n_inputs,
            n_neurons,
            n_lanes,
            weights: vec![0.0; n_inputs * n_lanes],
            threshold,
            offsets: vec![0.0; n_neurons],
            half_norms: vec![0.0; n_neurons],
            bias: vec![f64::NEG_INFINITY; n_lanes],
            simd,
        };
        layer.restore(weights, threshold, &vec![0.0; n_neurons]);
        layer
    }

    /// Puts back weights `[neuron, input]`, threshold and offsets `[neuron]`.
    pub fn restore(&mut self, weights: &[f64], threshold: f64, offsets: &[f64]) {
        assert_eq!(weights.len(), self.n_neurons * self.n_inputs, "weights fill the layer");
        for (i, row) in weights.chunks_exact(self.n_inputs).enumerate() {
            for (j, &w) in row.iter().enumerate() {
                self.weights[j * self.n_lanes + i] = w;
            }
        }
        self.threshold = threshold;
        self.offsets.copy_from_slice(offsets);
        for i in 0..self.n_neurons {
            if self.rule.exact_distance {
                self.half_norms[i] = self.half_norm(i);
            }
            self.set_bias(i);
        }
    }

    /// From offset and norm, so that a restored layer has the same bits.
    fn set_bias(&mut self, i: usize) {
        self.bias[i] = -self.offsets[i] - self.half_norms[i];
    }

    /// ½‖w_i‖², summed in the order of inputs.
    fn half_norm(&self, i: usize) -> f64 {
        let column = self.weights.iter().skip(i).step_by(self.n_lanes);
        0.5 * column.map(|w| w * w).sum::<f64>()
    }

    /// Weights `[neuron, input]`.
    pub fn weights(&self) -> Vec<f64> {
        let mut out = Vec::with_capacity(self.n_neurons * self.n_inputs);
        for i in 0..self.n_neurons {
            out.extend(self.weights.iter().skip(i).step_by(self.n_lanes));
        }
        out
    }

    /// θ.
    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// h, `[neuron]`.
    pub fn offsets(&self) -> &[f64] {
        &self.offsets
    }

    /// Number of inputs, d.
    pub fn n_inputs(&self) -> usize {
        self.n_inputs
    }

    /// Number of neurons, D.
    pub fn n_neurons(&self) -> usize {
        self.n_neurons
    }

    /// Shows a patch and learns from it, with the learning rate multiplied by `rate`.
    pub fn learn(&mut self, patch: &Patch, rate: f64, scratch: &mut Scratch, out: &mut Response) {
        learn(self.simd, self, patch, rate, scratch, out);
    }

    /// Shows a patch and learns nothing.
    pub fn respond(&self, patch: &Patch, scratch: &mut Scratch, out: &mut Response) {
        respond(self.simd, self, patch, scratch, out);
    }

    /// Softmax shares P of the neurons in step `t` of a patch, `[neuron]`.
    pub fn shares(&self, patch: &Patch, t: usize) -> Vec<f64> {
        let mut potentials = self.bias.clone();
        integrate(self, patch, t, &mut potentials);
        let sum = exponentials(&mut potentials);
        potentials[..self.n_neurons].iter().map(|e| e / sum).collect()
    }
}

dispatch! {
    fn learn(
        layer: &mut Layer,
        patch: &Patch,
        rate: f64,
        scratch: &mut Scratch,
        out: &mut Response,
    ) = learn_body;
}

dispatch! {
    fn respond(
        layer: &Layer,
        patch: &Patch,
        scratch: &mut Scratch,
        out: &mut Response,
    ) = respond_body;
}

/// Potentials of step `t`: bias plus traces times weights, four inputs at a time.
#[inline(always)]
fn integrate(layer: &Layer, patch: &Patch, t: usize, potentials: &mut [f64]) {
    potentials.copy_from_slice(&layer.bias);
    let n_live = patch.live.len();
    let whole = n_live - n_live % 4;
    for first in (0..whole).step_by(4) {
        add_rows::<4>(layer, patch, t, first, potentials);
    }
    for first in whole..n_live {
        add_rows::<1>(layer, patch, t, first, potentials);
    }
}

/// Adds the rows of `N` live inputs from `first` on, one after another in every lane.
#[inline(always)]
fn add_rows<const N: usize>(
    layer: &Layer,
    patch: &Patch,
    t: usize,
    first: usize,
    potentials: &mut [f64],
) {
    let rows: [&[[f64; LANES]]; N] = std::array::from_fn(|k| {
        let start = patch.live[first + k] as usize * layer.n_lanes;
        layer.weights[start..start + layer.n_lanes].as_chunks().0
    });
    let y: [f64; N] = std::array::from_fn(|k| patch.traces[(first + k) * patch.n_steps + t]);
    let (blocks, _) = potentials.as_chunks_mut::<LANES>();
    for b in 0..blocks.len() {
        let mut sums = blocks[b];
        for k in 0..N {
            for l in 0..LANES {
                sums[l] += y[k] * rows[k][b][l];
            }
        }
        blocks[b] = sums;
    }
}

/// Decides which neurons spike in step `t`.
#[inline(always)]
fn compete(layer: &Layer, patch: &Patch, t: usize, scratch: &mut Scratch) {
    let Scratch { potentials, fired, .. } = scratch;
    integrate(layer, patch, t, potentials);
    let sum = exponentials(potentials);
    fired.clear();
    // The largest share has the numerator 1.
    if 1.0 / sum < layer.threshold {
        return;
    }
    if layer.rule.single_winner {
        fired.extend(potentials.iter().position(|&e| e == 1.0));
        return;
    }
    let (blocks, _) = potentials[..layer.n_lanes].as_chunks::<LANES>();
    for (b, block) in blocks.iter().enumerate() {
        let mut above = 0u32;
        for (l, e) in block.iter().enumerate() {
            above |= u32::from(e / sum >= layer.threshold) << l;
        }
        while above != 0 {
            let i = b * LANES + above.trailing_zeros() as usize;
            above &= above - 1;
            if i < layer.n_neurons {
                fired.push(i);
            }
        }
    }
}

#[inline(always)]
fn respond_body(layer: &Layer, patch: &Patch, scratch: &mut Scratch, out: &mut Response) {
    out.begin(layer.n_neurons, patch.n_steps - 1);
    scratch.potentials.resize(layer.n_lanes, 0.0);
    for t in 1..patch.n_steps {
        compete(layer, patch, t, scratch);
        out.n_active += u64::from(!scratch.fired.is_empty());
        scratch.fired.iter().for_each(|&i| out.counts[i] += 1);
    }
}

#[inline(always)]
fn learn_body(
    layer: &mut Layer,
    patch: &Patch,
    rate: f64,
    scratch: &mut Scratch,
    out: &mut Response,
) {
    out.begin(layer.n_neurons, patch.n_steps - 1);
    scratch.potentials.resize(layer.n_lanes, 0.0);
    let Rule { depression, disconnect, threshold_rate, target_spikes, homeostasis, .. } =
        layer.rule;
    let mu = layer.rule.learning_rate * rate;
    let potentiate = [1.0 - mu * (1.0 + disconnect), mu, 1.0];
    let depress = [1.0 - mu * depression * (1.0 + disconnect), 0.0, 0.0];
    scratch.updates.clear();
    scratch.updates.resize(layer.n_inputs, depress);
    let n_words = patch.n_words();
    let share = target_spikes / layer.n_neurons as f64;
    for t in 1..patch.n_steps {
        compete(layer, patch, t, scratch);
        let n_fired = scratch.fired.len();
        if n_fired > 0 {
            out.n_active += 1;
            for l in 0..patch.live.len() {
                let is_causal = patch.causal[l * n_words + t / 64] >> (t % 64) & 1 == 1;
                let input = patch.live[l] as usize;
                scratch.updates[input] = if is_causal { potentiate } else { depress };
            }
            for &i in &scratch.fired {
                out.counts[i] += 1;
                out.loss += update(layer, i, &scratch.updates);
            }
        }
        layer.threshold += threshold_rate * (n_fired as f64 - target_spikes);
        if homeostasis > 0.0 {
            layer.offsets.iter_mut().for_each(|h| *h -= homeostasis * share);
            scratch.fired.iter().for_each(|&i| layer.offsets[i] += homeostasis);
            (0..layer.n_neurons).for_each(|i| layer.set_bias(i));
        }
    }
}

/// Updates the weights of neuron `i` and returns its error before.
#[inline(always)]
fn update(layer: &mut Layer, i: usize, updates: &[[f64; 3]]) -> f64 {
    let (mut error, mut squares, mut squares_after) = (0.0, 0.0, 0.0);
    for j in 0..updates.len() {
        let [factor, gain, spike] = updates[j];
        let w = &mut layer.weights[j * layer.n_lanes + i];
        error += (spike - *w) * (spike - *w);
        squares += *w * *w;
        let moved = *w * factor + gain;
        let moved = if moved > 0.0 { moved } else { 0.0 };
        *w = if moved < 1.0 { moved } else { 1.0 };
        squares_after += *w * *w;
    }
    if layer.rule.exact_distance {
        layer.half_norms[i] = 0.5 * squares_after;
        layer.set_bias(i);
    }
    0.5 * (error + layer.rule.disconnect * squares)
}
