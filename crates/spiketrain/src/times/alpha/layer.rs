//! A whole layer of alpha-synapse neurons: exact first spikes and derivatives, vectorised over
//! the neurons.
//!
//! The spikes that reach the layer are sorted once and shared by all neurons. On the interval
//! from one spike to the next the potential has one hump, at `B/A + 1/K`, of height
//! `A/K·exp(−K B/A − 1)`, if A > 0. A neuron below threshold at the interval's start fires in it
//! if and only if the potential at its end is not below θ, that is
//! `A t_next − B ≥ θ exp(K t_next)`, or the hump lies inside and reaches θ. Lambert's function is
//! therefore needed once per spike, not once per arrival. Times count from the first arrival, so
//! that no exponential overflows.
//!
//! Rows of a [`Matrix`] belong to senders, lanes of a [`Block`] to neurons of the layer.

use super::Neuron;
pub use super::lanes::{Block, LANES};
use super::lanes::{exp, rise};
use crate::simd::{Simd, dispatch};

/// Arrivals later than `MAX_EXPONENT/K` after the first are not seen: no exponential overflows,
/// and a product of a few of them neither.
pub const MAX_EXPONENT: f64 = 300.0;

/// Bound of `1/(A(1 + W))`, which grows without limit where the potential only touches θ.
const MAX_INVERSE_SLOPE: f64 = 1e100;

/// Values `[sender][neuron]`, each row padded to whole blocks; padding holds 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    n_rows: usize,
    n_neurons: usize,
    blocks: Vec<Block>,
}

impl Matrix {
    /// Zeros.
    pub fn new(n_rows: usize, n_neurons: usize) -> Self {
        let blocks = vec![Block::splat(0.0); n_rows * n_neurons.div_ceil(LANES)];
        Self { n_rows, n_neurons, blocks }
    }

    /// From values `[neuron][sender]`, as papers write weights.
    ///
    /// # Panics
    ///
    /// If the values do not fill the shape.
    pub fn from_rows_of_neurons(n_rows: usize, n_neurons: usize, values: &[f64]) -> Self {
        assert_eq!(values.len(), n_rows * n_neurons, "values fill the shape");
        let mut matrix = Self::new(n_rows, n_neurons);
        for (i, &v) in values.iter().enumerate() {
            *matrix.at_mut(i % n_rows, i / n_rows) = v;
        }
        matrix
    }

    /// The values as `[neuron][sender]`.
    pub fn to_rows_of_neurons(&self) -> Vec<f64> {
        let neurons = 0..self.n_neurons;
        neurons.flat_map(|n| (0..self.n_rows).map(move |r| self.at(r, n))).collect()
    }

    /// Number of senders.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Number of neurons, without padding.
    pub fn n_neurons(&self) -> usize {
        self.n_neurons
    }

    /// Blocks a row.
    pub fn blocks_per_row(&self) -> usize {
        self.n_neurons.div_ceil(LANES)
    }

    /// Weight of sender `row` on `neuron`.
    pub fn at(&self, row: usize, neuron: usize) -> f64 {
        self.blocks[row * self.blocks_per_row() + neuron / LANES].0[neuron % LANES]
    }

    /// The same, to be changed.
    pub fn at_mut(&mut self, row: usize, neuron: usize) -> &mut f64 {
        let index = row * self.blocks_per_row() + neuron / LANES;
        &mut self.blocks[index].0[neuron % LANES]
    }

    /// All blocks, row after row.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The same, to be changed; padding must stay 0.
    pub fn blocks_mut(&mut self) -> &mut [Block] {
        &mut self.blocks
    }

    /// All blocks, row after row.
    pub fn into_blocks(self) -> Vec<Block> {
        self.blocks
    }

    #[inline(always)]
    fn row(&self, row: usize) -> &[Block] {
        let n = self.blocks_per_row();
        &self.blocks[row * n..(row + 1) * n]
    }

    #[inline(always)]
    fn row_mut(&mut self, row: usize) -> &mut [Block] {
        let n = self.blocks_per_row();
        &mut self.blocks[row * n..(row + 1) * n]
    }
}

/// Spikes that reach a layer, in order of time.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    rows: Vec<u32>,
    /// Since the first arrival.
    times: Vec<f64>,
    /// `exp(K t)` of those times.
    exps: Vec<f64>,
    /// The same times the strength of the arrival.
    currents: Vec<f64>,
    reference: f64,
}

impl Arrivals {
    /// Number of arrivals.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True if nothing arrives.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Time of the first arrival, 0 if nothing arrives.
    pub fn reference(&self) -> f64 {
        self.reference
    }

    /// Sender of each arrival.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// Takes the union of two lists of (time, row), each in ascending order of time. `spikes` are
    /// `strength` times as strong as their weights say, `pulses` as strong.
    pub fn set(
        &mut self,
        simd: Simd,
        decay: f64,
        (spikes, strength): (&[(f64, u32)], f64),
        pulses: &[(f64, u32)],
    ) {
        debug_assert!(spikes.is_sorted_by(|a, b| a.0 <= b.0));
        debug_assert!(pulses.is_sorted_by(|a, b| a.0 <= b.0));
        self.rows.clear();
        self.times.clear();
        self.exps.clear();
        self.currents.clear();
        let first = spikes.iter().chain(pulses.first()).map(|s| s.0).fold(f64::INFINITY, f64::min);
        self.reference = if first.is_finite() { first } else { 0.0 };
        let last = self.reference + MAX_EXPONENT / decay;
        let (mut i, mut j) = (0, 0);
        while i < spikes.len() || j < pulses.len() {
            let from_spikes = j == pulses.len() || (i < spikes.len() && spikes[i].0 <= pulses[j].0);
            let (time, row) = if from_spikes {
                i += 1;
                spikes[i - 1]
            } else {
                j += 1;
                pulses[j - 1]
            };
            if time > last {
                break;
            }
            self.rows.push(row);
            self.times.push(time - self.reference);
            self.currents.push(if from_spikes { strength } else { 1.0 });
        }
        self.exps.resize(self.times.len().next_multiple_of(LANES), 0.0);
        exponentials(simd, decay, &self.times, &mut self.exps);
        self.currents.iter_mut().zip(&self.exps).for_each(|(c, exp)| *c *= exp);
    }
}

dispatch! {
    /// `exps = exp(decay·times)`, whole blocks.
    fn exponentials(decay: f64, times: &[f64], exps: &mut [f64]) = exponentials_body;
}

#[inline(always)]
fn exponentials_body(decay: f64, times: &[f64], exps: &mut [f64]) {
    for (exps, times) in exps.chunks_exact_mut(LANES).zip(times.chunks(LANES)) {
        let mut x = [0.0; LANES];
        x.iter_mut().zip(times).for_each(|(x, t)| *x = decay * t);
        exps.copy_from_slice(&exp(&x));
    }
}

/// First spikes of a layer and what their derivatives need, one block a lane group.
#[derive(Clone, Debug, Default)]
pub struct Spikes {
    /// Time since the first arrival; 0 for the silent.
    pub delay: Vec<Block>,
    /// Number of arrivals before the spike; 0 for the silent and for padding.
    pub n_causal: Vec<Block>,
    /// `1/(A(1 + W))` with A over times since the first arrival; 0 for the silent.
    pub inverse_slope: Vec<Block>,
    sum_a: Vec<Block>,
    sum_b: Vec<Block>,
}

impl Spikes {
    /// Whether `neuron` fired.
    #[inline]
    pub fn fired(&self, neuron: usize) -> bool {
        self.n_causal[neuron / LANES].0[neuron % LANES] > 0.0
    }

    /// Time of `neuron`'s spike, infinite if silent; `reference` is that of the arrivals.
    #[inline]
    pub fn time(&self, neuron: usize, reference: f64) -> f64 {
        let delay = self.delay[neuron / LANES].0[neuron % LANES];
        if self.fired(neuron) { reference + delay } else { f64::INFINITY }
    }

    /// Makes room for `n_blocks` blocks of silence.
    fn clear(&mut self, n_blocks: usize) {
        let arrays =
            [&mut self.delay, &mut self.n_causal, &mut self.inverse_slope, &mut self.sum_b];
        for a in arrays {
            a.clear();
            a.resize(n_blocks, Block::splat(0.0));
        }
        self.sum_a.clear();
        self.sum_a.resize(n_blocks, Block::splat(1.0));
    }
}

/// First spikes of all neurons for `arrivals` over `weights[[sender]][[neuron]]`.
pub fn first_spikes(
    simd: Simd,
    neuron: Neuron,
    weights: &Matrix,
    arrivals: &Arrivals,
    spikes: &mut Spikes,
) {
    spikes.clear(weights.blocks_per_row());
    search(simd, neuron, weights, arrivals, spikes);
    solve(simd, neuron, spikes);
}

dispatch! {
    /// Finds which neurons fire and their causal sums.
    fn search(
        neuron: Neuron,
        weights: &Matrix,
        arrivals: &Arrivals,
        spikes: &mut Spikes,
    ) = search_body;
}

#[inline(always)]
fn search_body(neuron: Neuron, weights: &Matrix, arrivals: &Arrivals, spikes: &mut Spikes) {
    let Neuron { decay, threshold } = neuron;
    let inverse_decay = 1.0 / decay;
    let n = arrivals.len();
    for block in 0..weights.blocks_per_row() {
        let n_lanes = LANES.min(weights.n_neurons() - block * LANES);
        let mut open = [0u64; LANES];
        open[..n_lanes].fill(u64::MAX);
        let mut n_open = n_lanes;
        let (mut sum_a, mut sum_b) = ([0.0; LANES], [0.0; LANES]);
        for e in 0..n {
            let w = &weights.row(arrivals.rows[e] as usize)[block].0;
            let (time, exp, unit) = (arrivals.times[e], arrivals.exps[e], arrivals.currents[e]);
            // After the last arrival only the hump can reach the threshold.
            let is_last = e + 1 == n;
            let next = if is_last { f64::INFINITY } else { arrivals.times[e + 1] };
            let level = if is_last { f64::NAN } else { threshold * arrivals.exps[e + 1] };
            let least = decay * threshold * exp;
            let mut hits = 0;
            for l in 0..LANES {
                let current = w[l] * unit;
                let (a, b) = (sum_a[l] + current, sum_b[l] + current * time);
                (sum_a[l], sum_b[l]) = (a, b);
                let crosses = a * next - b >= level;
                // The hump, A times: its distance from the arrival, and from the next.
                let after = b + a * inverse_decay - a * time;
                let before = a * next - b - a * inverse_decay;
                // exp is above its tangent, so this is necessary for the hump to reach θ.
                let high = a * a >= least * (a + decay * after);
                let hump = (a > 0.0) & (after > 0.0) & (before > 0.0) & high;
                hits |= if crosses | hump { open[l] } else { 0 };
            }
            if hits != 0 {
                let reached = At { neuron, next, level, time, n_causal: (e + 1) as f64 };
                n_open -= reached.close(block, &sum_a, &sum_b, &mut open, spikes);
                if n_open == 0 {
                    break;
                }
            }
        }
    }
}

/// The interval after one arrival.
struct At {
    neuron: Neuron,
    time: f64,
    next: f64,
    level: f64,
    n_causal: f64,
}

impl At {
    /// Records the neurons of a block that fire in this interval; returns how many.
    #[inline(never)]
    fn close(
        &self,
        block: usize,
        sum_a: &[f64; LANES],
        sum_b: &[f64; LANES],
        open: &mut [u64; LANES],
        spikes: &mut Spikes,
    ) -> usize {
        let Neuron { decay, threshold } = self.neuron;
        let mut n_closed = 0;
        for l in 0..LANES {
            let (a, b) = (sum_a[l], sum_b[l]);
            if open[l] == 0 || a <= 0.0 {
                continue;
            }
            let crosses = a * self.next - b >= self.level;
            let peak = b + a / decay;
            let reaches = || decay * threshold / a * libm::exp(decay * b / a + 1.0) <= 1.0;
            if crosses || (peak > a * self.time && peak < a * self.next && reaches()) {
                open[l] = 0;
                n_closed += 1;
                spikes.n_causal[block].0[l] = self.n_causal;
                spikes.sum_a[block].0[l] = a;
                spikes.sum_b[block].0[l] = b;
            }
        }
        n_closed
    }
}

dispatch! {
    /// Times and slopes from the causal sums.
    fn solve(neuron: Neuron, spikes: &mut Spikes) = solve_body;
}

#[inline(always)]
fn solve_body(neuron: Neuron, spikes: &mut Spikes) {
    let Neuron { decay, threshold } = neuron;
    let inverse_decay = 1.0 / decay;
    for block in 0..spikes.delay.len() {
        let (sum_a, sum_b) = (&spikes.sum_a[block].0, &spikes.sum_b[block].0);
        let n_causal = &spikes.n_causal[block].0;
        let (mut inverse, mut centre, mut x) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        for l in 0..LANES {
            inverse[l] = 1.0 / sum_a[l];
            centre[l] = sum_b[l] * inverse[l];
            x[l] = decay * centre[l] + 1.0;
        }
        let mut y = exp(&x);
        for l in 0..LANES {
            y[l] *= decay * threshold * inverse[l];
        }
        let rise = rise(&y);
        let (delay, slope) = (&mut spikes.delay[block].0, &mut spikes.inverse_slope[block].0);
        for l in 0..LANES {
            let fired = n_causal[l] > 0.0;
            let time = centre[l] + (1.0 - rise[l]) * inverse_decay;
            delay[l] = if fired { time } else { 0.0 };
            let bounded = (inverse[l] / rise[l]).min(MAX_INVERSE_SLOPE);
            slope[l] = if fired { bounded } else { 0.0 };
        }
    }
}

/// Bounds on derivatives and gradients; infinite where there is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clips {
    /// Bound of each single ∂t*/∂w and ∂t*/∂t.
    pub derivative: f64,
    /// Bound of each product of such a derivative and the error it carries.
    pub gradient: f64,
}

/// Back-propagates errors through the layer that [`first_spikes`] has just computed.
///
/// With g the `errors` of the neurons, adds `g·∂t*/∂w` to `gradient[[sender]][[neuron]]`, and for
/// every sender not below `first_row` adds `Σ g·∂t*/∂t` over the neurons to `by_time[[sender]]`.
/// Silent neurons take no part, whatever their error.
pub struct Backward<'a> {
    /// What all neurons share.
    pub neuron: Neuron,
    /// Weights.
    pub weights: &'a Matrix,
    /// What arrived.
    pub arrivals: &'a Arrivals,
    /// What was fired.
    pub spikes: &'a Spikes,
    /// Error g of each neuron.
    pub errors: &'a [Block],
    /// Bounds.
    pub clips: Clips,
    /// First sender whose time has a gradient.
    pub first_row: usize,
}

/// Runs a [`Backward`].
pub fn backward(simd: Simd, task: &Backward<'_>, gradient: &mut Matrix, by_time: &mut [f64]) {
    assert_eq!(task.errors.len(), task.weights.blocks_per_row(), "one error per neuron");
    assert_eq!(by_time.len(), task.weights.n_rows(), "one time per sender");
    accumulate(simd, task, gradient, by_time);
}

dispatch! {
    /// The sums of [`backward`].
    fn accumulate(
        task: &Backward<'_>,
        gradient: &mut Matrix,
        by_time: &mut [f64],
    ) = accumulate_body;
}

#[inline(always)]
fn accumulate_body(task: &Backward<'_>, gradient: &mut Matrix, by_time: &mut [f64]) {
    let Backward { neuron, weights, arrivals, spikes, errors, clips, first_row } = *task;
    let bound = |x: f64, by: f64| {
        let x = if x > by { by } else { x };
        if x < -by { -by } else { x }
    };
    for e in 0..arrivals.len() {
        let (row, index) = (arrivals.rows[e] as usize, e as f64);
        let (time, unit) = (arrivals.times[e], arrivals.currents[e]);
        let gradient = gradient.row_mut(row);
        let mut total = [0.0; LANES];
        for (block, sums) in gradient.iter_mut().enumerate() {
            let (delay, n_causal) = (&spikes.delay[block].0, &spikes.n_causal[block].0);
            let (slope, error) = (&spikes.inverse_slope[block].0, &errors[block].0);
            for l in 0..LANES {
                let by_weight = unit * slope[l] * (time - delay[l]);
                let product = bound(error[l] * bound(by_weight, clips.derivative), clips.gradient);
                sums.0[l] += if n_causal[l] > index { product } else { 0.0 };
            }
            if row >= first_row {
                let w = &weights.row(row)[block].0;
                for l in 0..LANES {
                    let rise = 1.0 - neuron.decay * (delay[l] - time);
                    let by_input = w[l] * (unit * slope[l]) * rise;
                    let product =
                        bound(error[l] * bound(by_input, clips.derivative), clips.gradient);
                    total[l] += if n_causal[l] > index { product } else { 0.0 };
                }
            }
        }
        if row >= first_row {
            by_time[row] += total.iter().sum::<f64>();
        }
    }
}
