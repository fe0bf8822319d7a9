//! A fully connected layer of non-leaky integrate-and-fire neurons with at most one spike each.
//!
//! Input spikes are visited once, in ascending order of time; each adds one contiguous row of
//! weights to all potentials. Time is a real number, there is no grid.

use crate::spikes::Events;
use crate::times::simd::{Block, LANES, MAX_BLOCKS, Simd, dispatch};

/// The end of the window, in its own unit; the output time of a neuron that stays silent.
pub const T_MAX: f32 = 1.0;

/// Whether the last input spike of a sample can make a neuron fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastEvent {
    /// The potentials are compared for the last time just before the last spike is integrated, as
    /// the reference implementation does.
    NeverFires,
    /// The potentials are compared once more after it.
    Fires,
}

/// What the layer did with one sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outputs {
    /// Spike time of each neuron, [`T_MAX`] if silent.
    pub times: Vec<f32>,
    /// Potential of each neuron: at its spike if it fired, at the end of the window otherwise.
    pub potentials: Vec<f32>,
}

impl Outputs {
    /// True if neuron `n` fired.
    pub fn fired(&self, n: usize) -> bool {
        self.times[n] < T_MAX
    }
}

/// Weights of the layer, one row per input, each row padded to whole blocks of 16 neurons.
///
/// A neuron's weights are the stored values times the neuron's factor, rounded once. A
/// normalisation thus costs one factor instead of a pass over the memory and gives the very
/// numbers that a pass would have stored.
#[derive(Clone, Debug)]
pub struct Layer {
    n_inputs: usize,
    n_neurons: usize,
    pub(super) n_blocks: usize,
    /// `[input, block, lane]`.
    pub(super) stored: Vec<Block>,
    /// `[block, lane]`.
    pub(super) factors: Vec<Block>,
    pub(super) simd: Simd,
}

impl Layer {
    /// A layer with `weights[[neuron, input]]`.
    ///
    /// # Panics
    ///
    /// If the weights do not fill the shape.
    pub fn new(n_inputs: usize, n_neurons: usize, weights: &[f32]) -> Self {
        let n_blocks = n_neurons.div_ceil(LANES);
        let mut layer = Self {
            n_inputs,
            n_neurons,
            n_blocks,
            stored: vec![[0.0; LANES]; n_inputs * n_blocks],
            factors: vec![[1.0; LANES]; n_blocks],
            simd: Simd::best(),
        };
        layer.set_weights(weights);
        layer
    }

    /// The same layer, computed with other instructions; the results have the same bits.
    #[must_use]
    pub fn with_simd(mut self, simd: Simd) -> Self {
        self.simd = simd;
        self
    }

    /// Number of inputs.
    pub fn n_inputs(&self) -> usize {
        self.n_inputs
    }

    /// Number of neurons.
    pub fn n_neurons(&self) -> usize {
        self.n_neurons
    }

    /// The weights as `[neuron, input]`.
    pub fn weights(&self) -> Vec<f32> {
        let weight = |n: usize, i: usize| {
            let (block, lane) = (n / LANES, n % LANES);
            self.stored[i * self.n_blocks + block][lane] * self.factors[block][lane]
        };
        (0..self.n_neurons).flat_map(|n| (0..self.n_inputs).map(move |i| weight(n, i))).collect()
    }

    /// Replaces the weights by `weights[[neuron, input]]`.
    ///
    /// # Panics
    ///
    /// If the weights do not fill the shape.
    pub fn set_weights(&mut self, weights: &[f32]) {
        assert_eq!(weights.len(), self.n_inputs * self.n_neurons, "weights fill the shape");
        self.factors.fill([1.0; LANES]);
        for (n, row) in weights.chunks_exact(self.n_inputs).enumerate() {
            for (i, &w) in row.iter().enumerate() {
                self.stored[i * self.n_blocks + n / LANES][n % LANES] = w;
            }
        }
    }

    /// Shows one sample to the layer.
    ///
    /// All spikes of one time are integrated before the potentials are compared with the
    /// thresholds (strictly above), so their order does not matter; see [`LastEvent`] for the
    /// exception. A neuron whose threshold is infinite never fires.
    ///
    /// # Panics
    ///
    /// If there is no event, an event names an input that does not exist, or `thresholds` has
    /// not one entry per neuron.
    pub fn forward(
        &self,
        events: Events<'_>,
        thresholds: &[f32],
        last: LastEvent,
        out: &mut Outputs,
    ) {
        assert_eq!(thresholds.len(), self.n_neurons, "one threshold per neuron");
        assert!(!events.is_empty(), "a sample has events");
        let n_lanes = self.n_blocks * LANES;
        out.times.resize(n_lanes, T_MAX);
        out.potentials.resize(n_lanes, 0.0);
        for first in (0..self.n_blocks).step_by(MAX_BLOCKS) {
            let n_blocks = MAX_BLOCKS.min(self.n_blocks - first);
            let mut limits = [[f32::INFINITY; LANES]; MAX_BLOCKS];
            let lanes = first * LANES..((first + n_blocks) * LANES).min(self.n_neurons);
            for (to, &from) in limits.as_flattened_mut().iter_mut().zip(&thresholds[lanes]) {
                *to = from;
            }
            let group = Group { layer: self, first, limits: &limits, events, last };
            let lanes = first * LANES..(first + n_blocks) * LANES;
            let (times, potentials) =
                (&mut out.times[lanes.clone()], &mut out.potentials[lanes.clone()]);
            integrate(self.simd, n_blocks, group, times, potentials);
        }
        out.times.truncate(self.n_neurons);
        out.potentials.truncate(self.n_neurons);
    }
}

/// Up to [`MAX_BLOCKS`] neighbouring blocks of neurons, and what they are shown.
#[derive(Clone, Copy)]
struct Group<'a> {
    layer: &'a Layer,
    first: usize,
    limits: &'a [Block; MAX_BLOCKS],
    events: Events<'a>,
    last: LastEvent,
}

dispatch!(
    integrate,
    integrate_blocks,
    (group: Group<'_>, times: &mut [f32], potentials: &mut [f32])
);

/// The walk through the events. A neuron that fired gets an infinite threshold; its potential
/// goes on being summed and is ignored.
#[inline(always)]
fn integrate_blocks<const BLOCKS: usize>(
    group: Group<'_>,
    times: &mut [f32],
    potentials: &mut [f32],
) {
    let Group { layer, first, limits, events, last } = group;
    let mut limits: [Block; BLOCKS] = std::array::from_fn(|b| limits[b]);
    let factors: [Block; BLOCKS] = std::array::from_fn(|b| layer.factors[first + b]);
    let mut v = [[0.0f32; LANES]; BLOCKS];
    let final_event = if last == LastEvent::NeverFires { events.len() - 1 } else { usize::MAX };
    let mut now = events.times[0];
    times.fill(T_MAX);
    for (e, (&input, &t)) in events.neurons.iter().zip(events.times).enumerate() {
        if t != now || e == final_event {
            if any_above(&v, &limits) {
                limits = fire(v, limits, now, times, potentials);
            }
            now = t;
        }
        let start = usize::from(input) * layer.n_blocks + first;
        let row: &[Block; BLOCKS] =
            layer.stored[start..start + BLOCKS].try_into().expect("whole blocks");
        for b in 0..BLOCKS {
            for l in 0..LANES {
                v[b][l] += row[b][l] * factors[b][l];
            }
        }
    }
    if last == LastEvent::Fires && any_above(&v, &limits) {
        fire(v, limits, now, times, potentials);
    }
    for ((v, t), potential) in v.as_flattened().iter().zip(times).zip(potentials) {
        if *t >= T_MAX {
            *potential = *v;
        }
    }
}

#[inline(always)]
fn any_above<const BLOCKS: usize>(v: &[Block; BLOCKS], limits: &[Block; BLOCKS]) -> bool {
    let mut above = [0u32; LANES];
    for b in 0..BLOCKS {
        for l in 0..LANES {
            above[l] |= u32::from(v[b][l] > limits[b][l]);
        }
    }
    above.iter().fold(0, |any, &a| any | a) != 0
}

/// Lets every neuron above its threshold fire; returns the thresholds that remain. Arguments go
/// by value so that the caller's copies can stay in registers.
#[cold]
#[inline(never)]
fn fire<const BLOCKS: usize>(
    v: [Block; BLOCKS],
    mut limits: [Block; BLOCKS],
    now: f32,
    times: &mut [f32],
    potentials: &mut [f32],
) -> [Block; BLOCKS] {
    for (n, (limit, &v)) in limits.as_flattened_mut().iter_mut().zip(v.as_flattened()).enumerate() {
        if v > *limit {
            (times[n], potentials[n]) = (now, v);
            *limit = f32::INFINITY;
        }
    }
    limits
}
