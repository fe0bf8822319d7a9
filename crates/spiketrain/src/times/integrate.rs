//! A fully connected layer of non-leaky integrate-and-fire neurons with at most one spike each.
//!
//! Input spikes are visited once, in ascending order of time; each adds one contiguous row of
//! weights to all potentials. Time is a real number, there is no grid.

use crate::simd::{Block, LANES, Line, Simd, Vector, dispatch};
use crate::spikes::Events;

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

/// Most blocks a kernel keeps in registers at once.
pub(super) const MAX_BLOCKS: usize = 4;

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
    pub(super) stored: Vec<Line>,
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
            stored: vec![Line([0.0; LANES]); n_inputs * n_blocks],
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
            self.stored[i * self.n_blocks + block].0[lane] * self.factors[block][lane]
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
                self.stored[i * self.n_blocks + n / LANES].0[n % LANES] = w;
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

dispatch! {
    fn integrate(
        n_blocks: usize,
        group: Group<'_>,
        times: &mut [f32],
        potentials: &mut [f32],
    ) = integrate_group::<V>;
}

#[inline(always)]
fn integrate_group<V: Vector>(
    n_blocks: usize,
    group: Group<'_>,
    times: &mut [f32],
    potentials: &mut [f32],
) {
    match n_blocks {
        1 => integrate_blocks::<V, 1>(group, times, potentials),
        2 => integrate_blocks::<V, 2>(group, times, potentials),
        3 => integrate_blocks::<V, 3>(group, times, potentials),
        MAX_BLOCKS => integrate_blocks::<V, MAX_BLOCKS>(group, times, potentials),
        n => unreachable!("groups of 1 to {MAX_BLOCKS} blocks, not {n}"),
    }
}

/// The walk through the events. A neuron that fired gets an infinite threshold; its potential
/// goes on being summed and is ignored.
#[inline(always)]
fn integrate_blocks<V: Vector, const BLOCKS: usize>(
    group: Group<'_>,
    times: &mut [f32],
    potentials: &mut [f32],
) {
    let Group { layer, first, limits, events, last } = group;
    let mut limits = *limits;
    let mut limit: [V; BLOCKS] = loaded(&limits);
    let factor: [V; BLOCKS] = loaded(&layer.factors[first..]);
    let mut v = [V::splat(0.0); BLOCKS];
    times.fill(T_MAX);
    let final_event = if last == LastEvent::NeverFires { events.len() - 1 } else { usize::MAX };
    let mut now = events.times[0];
    for (e, (&input, &t)) in events.neurons.iter().zip(events.times).enumerate() {
        if t != now || e == final_event {
            if any_above(&v, &limit) {
                fire(&stored(&v), &mut limits, now, times, potentials);
                limit = loaded(&limits);
            }
            now = t;
        }
        let start = usize::from(input) * layer.n_blocks + first;
        let row = &layer.stored[start..start + BLOCKS];
        for b in 0..BLOCKS {
            v[b] = v[b].plus(V::read(&row[b].0).times(factor[b]));
        }
    }
    if last == LastEvent::Fires && any_above(&v, &limit) {
        fire(&stored(&v), &mut limits, now, times, potentials);
    }
    for ((&v, t), potential) in stored(&v).as_flattened().iter().zip(times).zip(potentials) {
        if *t >= T_MAX {
            *potential = v;
        }
    }
}

// Closures and iterators over `V` might not be inlined and would then lack the caller's vector
// instructions; hence plain loops in functions that always are.

#[inline(always)]
fn loaded<V: Vector, const BLOCKS: usize>(blocks: &[Block]) -> [V; BLOCKS] {
    let mut v = [V::splat(0.0); BLOCKS];
    for b in 0..BLOCKS {
        v[b] = V::read(&blocks[b]);
    }
    v
}

#[inline(always)]
fn stored<V: Vector, const BLOCKS: usize>(v: &[V; BLOCKS]) -> [Block; MAX_BLOCKS] {
    let mut blocks = [[0.0; LANES]; MAX_BLOCKS];
    for b in 0..BLOCKS {
        v[b].write(&mut blocks[b]);
    }
    blocks
}

#[inline(always)]
fn any_above<V: Vector, const BLOCKS: usize>(v: &[V; BLOCKS], limit: &[V; BLOCKS]) -> bool {
    let mut above = 0;
    for b in 0..BLOCKS {
        above |= v[b].above(limit[b]);
    }
    above != 0
}

/// Lets every neuron above its threshold fire and takes it out of the race.
#[cold]
#[inline(never)]
fn fire(
    v: &[Block; MAX_BLOCKS],
    limits: &mut [Block; MAX_BLOCKS],
    now: f32,
    times: &mut [f32],
    potentials: &mut [f32],
) {
    let limits = limits.as_flattened_mut().iter_mut();
    let lanes = limits.zip(v.as_flattened()).zip(times).zip(potentials);
    for (((limit, &v), time), potential) in lanes {
        if v > *limit {
            (*time, *potential) = (now, v);
            *limit = f32::INFINITY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use crate::spikes::{Shape, Times};
    use proptest::prelude::*;

    /// A sample of `n_inputs` whose times lie on a grid of `1/steps`, some of them silent.
    fn sample(n_inputs: usize, steps: u32, index: u64) -> Times {
        let mut stream = Seed(3).stream("sample", index);
        let mut time = |_| stream.below(steps + steps / 4 + 1) as f32 / steps as f32;
        let mut dense: Vec<f32> = (0..n_inputs).map(&mut time).collect();
        dense[0] = 0.5;
        let mut times = Times::new(Shape::flat(n_inputs)).unwrap();
        times.push_dense(&dense, 1.0);
        times
    }

    fn random_weights(n: usize, index: u64) -> Vec<f32> {
        let mut stream = Seed(4).stream("weights", index);
        (0..n).map(|_| stream.uniform() - 0.2).collect()
    }

    fn forward(layer: &Layer, times: &Times, thresholds: &[f32], last: LastEvent) -> Outputs {
        let mut out = Outputs::default();
        layer.forward(times.sample(0), thresholds, last, &mut out);
        out
    }

    /// Three inputs at 0.1, 0.3, 0.5 with weights 0.4.
    #[test]
    fn three_inputs_by_hand() {
        let mut times = Times::new(Shape::flat(3)).unwrap();
        times.push_dense(&[0.1, 0.3, 0.5], 1.0);
        let layer = Layer::new(3, 1, &[0.4; 3]);
        let out = forward(&layer, &times, &[0.7], LastEvent::NeverFires);
        assert_eq!((out.times[0], out.potentials[0]), (0.3, 0.8));
        let out = forward(&layer, &times, &[0.9], LastEvent::NeverFires);
        assert_eq!((out.times[0], out.potentials[0]), (T_MAX, 0.8 + 0.4));
        let out = forward(&layer, &times, &[0.9], LastEvent::Fires);
        assert_eq!(out.times[0], 0.5);
    }

    /// One neuron at a time, straight from the definition.
    fn by_definition(layer: &Layer, times: &Times, threshold: f32, n: usize) -> (f32, f32) {
        let weights = layer.weights();
        let events: Vec<(usize, f32)> = times.sample(0).iter().collect();
        let mut v = 0.0;
        for (e, &(i, t)) in events.iter().enumerate() {
            if (e > 0 && t != events[e - 1].1 || e == events.len() - 1) && v > threshold {
                return (events[e.saturating_sub(1)].1, v);
            }
            v += weights[n * layer.n_inputs() + i];
        }
        (T_MAX, v)
    }

    proptest! {
        /// Any number of neurons, every instruction set: the definition, to the bit.
        #[test]
        fn the_walk_is_the_definition(
            n_neurons in 1usize..150,
            n_inputs in 1usize..40,
            steps in 2u32..40,
            threshold in 0.05f32..6.0,
            index: u64,
        ) {
            let times = sample(n_inputs, steps, index);
            let mut layer = Layer::new(n_inputs, n_neurons, &random_weights(n_neurons * n_inputs, index));
            layer.factors.as_flattened_mut().iter_mut().enumerate().for_each(|(n, f)| *f += n as f32 * 1e-3);
            let thresholds: Vec<f32> = (0..n_neurons).map(|n| threshold + n as f32 * 0.01).collect();
            for simd in Simd::available() {
                let out = forward(&layer.clone().with_simd(simd), &times, &thresholds, LastEvent::NeverFires);
                for n in 0..n_neurons {
                    let (t, v) = by_definition(&layer, &times, thresholds[n], n);
                    prop_assert_eq!((out.times[n], out.potentials[n].to_bits()), (t, v.to_bits()));
                }
            }
        }

        /// An output fires only at an input's time, and never earlier for a raised threshold.
        #[test]
        fn higher_thresholds_never_fire_earlier(
            threshold in 0.05f32..6.0, more in 0.0f32..2.0, index: u64,
        ) {
            let times = sample(30, 16, index);
            let layer = Layer::new(30, 20, &random_weights(600, index));
            let low = forward(&layer, &times, &[threshold; 20], LastEvent::Fires);
            let high = forward(&layer, &times, &[threshold + more; 20], LastEvent::Fires);
            for n in 0..20 {
                prop_assert!(high.times[n] >= low.times[n]);
                prop_assert!(!low.fired(n) || times.sample(0).times.contains(&low.times[n]));
            }
        }
    }
}
