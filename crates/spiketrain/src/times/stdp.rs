//! Additive spike-timing dependent plasticity of a [`Layer`], with bounds and normalisation.

use crate::simd::{Block, LANES, Vector, dispatch};
use crate::times::integrate::{Layer, MAX_BLOCKS};

/// Rows whose absolute weights are summed in single precision before the sum moves on to double
/// precision; keeps the sum of many thousand weights accurate to a few parts in 10⁷.
const ROWS_PER_SUM: usize = 64;

/// What every synapse of one neuron is to gain.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gain {
    /// Gain of a causal synapse, whose input spiked no later than the neuron.
    pub causal: f32,
    /// Gain of the others.
    pub acausal: f32,
}

impl Gain {
    /// True if nothing changes.
    pub fn is_zero(self) -> bool {
        self.causal == 0.0 && self.acausal == 0.0
    }
}

/// One additive update of a whole layer.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    /// Spike time of each input, [`T_MAX`](crate::times::integrate::T_MAX) if silent. A silent
    /// input is thus causal for a silent neuron and for no other.
    pub input_times: &'a [f32],
    /// Spike time of each neuron.
    pub output_times: &'a [f32],
    /// Gain of each neuron's synapses.
    pub gains: &'a [Gain],
    /// Smallest weight.
    pub weight_min: f32,
    /// Largest weight.
    pub weight_max: f32,
    /// The sum of absolute weights each neuron is scaled to after the bounds were applied; empty
    /// for no normalisation. A neuron all of whose weights are 0 is left as it is.
    pub norms: &'a [f64],
}

impl Layer {
    /// `w ← clip(w + gain)` for all synapses, then `w ← w·norm/Σ|w|` for each neuron.
    ///
    /// Without normalisation, blocks of neurons without any gain are not visited: their weights
    /// are inside the bounds already.
    ///
    /// # Panics
    ///
    /// If the lengths of the slices do not fit the layer.
    pub fn update(&mut self, update: &Update<'_>) {
        assert_eq!(update.input_times.len(), self.n_inputs(), "one time per input");
        assert_eq!(update.output_times.len(), self.n_neurons(), "one time per neuron");
        assert_eq!(update.gains.len(), self.n_neurons(), "one gain per neuron");
        let normalise = !update.norms.is_empty();
        for first in (0..self.n_blocks).step_by(MAX_BLOCKS) {
            let n_blocks = MAX_BLOCKS.min(self.n_blocks - first);
            let neurons = first * LANES..((first + n_blocks) * LANES).min(self.n_neurons());
            let gains = &update.gains[neurons.clone()];
            if !normalise && gains.iter().all(|g| g.is_zero()) {
                continue;
            }
            let mut group = Group { first, lanes: [Lane::default(); MAX_BLOCKS] };
            for (i, (&g, &t)) in gains.iter().zip(&update.output_times[neurons.clone()]).enumerate()
            {
                let (lane, l) = (&mut group.lanes[i / LANES], i % LANES);
                (lane.causal[l], lane.acausal[l], lane.time[l]) = (g.causal, g.acausal, t);
            }
            let mut sums = [[0.0; LANES]; MAX_BLOCKS];
            add_and_clip(self.simd, n_blocks, self, update, &group, &mut sums);
            let factors = self.factors[first..first + n_blocks].as_flattened_mut();
            factors.fill(1.0);
            if normalise {
                let sums = sums.as_flattened();
                for ((f, &norm), &sum) in factors.iter_mut().zip(&update.norms[neurons]).zip(sums) {
                    *f = if sum > 0.0 { (norm / sum) as f32 } else { 1.0 };
                }
            }
        }
    }
}

/// Per-neuron values of one block.
#[derive(Clone, Copy, Default)]
struct Lane {
    causal: Block,
    acausal: Block,
    time: Block,
}

/// Up to [`MAX_BLOCKS`] neighbouring blocks of neurons.
struct Group {
    first: usize,
    lanes: [Lane; MAX_BLOCKS],
}

dispatch! {
    fn add_and_clip(
        n_blocks: usize,
        layer: &mut Layer,
        update: &Update<'_>,
        group: &Group,
        sums: &mut [[f64; LANES]; MAX_BLOCKS],
    ) = add_and_clip_group::<V>;
}

#[inline(always)]
fn add_and_clip_group<V: Vector>(
    n_blocks: usize,
    layer: &mut Layer,
    update: &Update<'_>,
    group: &Group,
    sums: &mut [[f64; LANES]; MAX_BLOCKS],
) {
    match n_blocks {
        1 => add_and_clip_blocks::<V, 1>(layer, update, group, sums),
        2 => add_and_clip_blocks::<V, 2>(layer, update, group, sums),
        3 => add_and_clip_blocks::<V, 3>(layer, update, group, sums),
        MAX_BLOCKS => add_and_clip_blocks::<V, MAX_BLOCKS>(layer, update, group, sums),
        n => unreachable!("groups of 1 to {MAX_BLOCKS} blocks, not {n}"),
    }
}

/// One pass over the rows in memory order; leaves the weights unscaled and their absolute sums in
/// `sums`.
#[inline(always)]
fn add_and_clip_blocks<V: Vector, const BLOCKS: usize>(
    layer: &mut Layer,
    update: &Update<'_>,
    group: &Group,
    sums: &mut [[f64; LANES]; MAX_BLOCKS],
) {
    let (first, stride) = (group.first, layer.n_blocks);
    let (low, high) = (V::splat(update.weight_min), V::splat(update.weight_max));
    let zero = [V::splat(0.0); BLOCKS];
    let (mut factor, mut time, mut causal, mut acausal) = (zero, zero, zero, zero);
    for b in 0..BLOCKS {
        factor[b] = V::read(&layer.factors[first + b]);
        time[b] = V::read(&group.lanes[b].time);
        causal[b] = V::read(&group.lanes[b].causal);
        acausal[b] = V::read(&group.lanes[b].acausal);
    }
    let rows = layer.stored.chunks_mut(stride * ROWS_PER_SUM);
    for (rows, times) in rows.zip(update.input_times.chunks(ROWS_PER_SUM)) {
        let mut partial = zero;
        for (row, &t) in rows.chunks_exact_mut(stride).zip(times) {
            let row = &mut row[first..first + BLOCKS];
            let t = V::splat(t);
            for b in 0..BLOCKS {
                let gain = t.at_most(time[b], causal[b], acausal[b]);
                let w = V::read(&row[b].0).times(factor[b]).plus(gain).clip(low, high);
                partial[b] = partial[b].plus(w.abs());
                w.write(&mut row[b].0);
            }
        }
        for b in 0..BLOCKS {
            let mut lanes = [0.0; LANES];
            partial[b].write(&mut lanes);
            sums[b].iter_mut().zip(lanes).for_each(|(sum, x)| *sum += f64::from(x));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use crate::simd::Simd;
    use proptest::prelude::*;

    /// The update row by row, straight from the definition.
    fn by_definition(layer: &Layer, update: &Update<'_>) -> Vec<f32> {
        let mut weights = layer.weights();
        for (n, row) in weights.chunks_exact_mut(layer.n_inputs()).enumerate() {
            for (w, &t) in row.iter_mut().zip(update.input_times) {
                let gain = update.gains[n];
                *w += if t <= update.output_times[n] { gain.causal } else { gain.acausal };
                *w = w.clamp(update.weight_min, update.weight_max);
            }
            let sum: f64 = row.iter().map(|&w| f64::from(w).abs()).sum();
            if let Some(norm) = update.norms.get(n) {
                row.iter_mut().for_each(|w| *w *= (norm / sum) as f32);
            }
        }
        weights
    }

    proptest! {
        /// Several updates in a row, any size: the definition to a rounding of the sum, and the
        /// same bits with every instruction set.
        #[test]
        fn the_pass_is_the_definition(
            n_neurons in 1usize..150, n_inputs in 1usize..300, normalise: bool, index: u64,
        ) {
            let mut stream = Seed(6).stream("update", index);
            let weights: Vec<f32> = (0..n_neurons * n_inputs).map(|_| stream.uniform()).collect();
            let norms: Vec<f64> = (0..n_neurons).map(|_| 0.4 * n_inputs as f64).collect();
            let mut layers: Vec<Layer> = Simd::available()
                .into_iter()
                .map(|simd| Layer::new(n_inputs, n_neurons, &weights).with_simd(simd))
                .collect();
            for _ in 0..3 {
                let mut grid = |n| -> Vec<f32> {
                    (0..n).map(|_| stream.below(17) as f32 / 16.0).collect()
                };
                let (input_times, output_times) = (grid(n_inputs), grid(n_neurons));
                let mut gain = || 0.2 * (stream.uniform() - 0.5);
                let gains: Vec<Gain> = (0..n_neurons)
                    .map(|n| if n % 5 == 0 {
                        Gain { causal: gain(), acausal: gain() }
                    } else {
                        Gain::default()
                    })
                    .collect();
                let update = Update {
                    input_times: &input_times,
                    output_times: &output_times,
                    gains: &gains,
                    weight_min: 0.05,
                    weight_max: 1.0,
                    norms: if normalise { &norms } else { &[] },
                };
                if !normalise && gains.iter().all(|g| g.is_zero()) {
                    continue;
                }
                // Bounds hold from the first update on, as they do in every learner.
                if !normalise {
                    for layer in &mut layers {
                        let inside: Vec<f32> = layer.weights().iter().map(|w| w.max(0.05)).collect();
                        layer.set_weights(&inside);
                    }
                }
                let expected = by_definition(&layers[0], &update);
                layers.iter_mut().for_each(|l| l.update(&update));
                let ours = layers[0].weights();
                for (a, b) in ours.iter().zip(&expected) {
                    prop_assert!((a - b).abs() <= 1e-6, "{} against {}", a, b);
                }
                for other in &layers[1..] {
                    prop_assert_eq!(&ours, &other.weights());
                }
            }
        }

        /// Anti-STDP of an error is minus STDP of it, away from the bounds.
        #[test]
        fn opposite_gains_cancel(causal in -0.1f32..0.1, acausal in -0.1f32..0.1) {
            let mut layer = Layer::new(4, 1, &[0.5; 4]);
            for sign in [1.0, -1.0] {
                layer.update(&Update {
                    input_times: &[0.1, 0.5, 0.9, 1.0],
                    output_times: &[0.5],
                    gains: &[Gain { causal: sign * causal, acausal: sign * acausal }],
                    weight_min: 0.0,
                    weight_max: 1.0,
                    norms: &[],
                });
            }
            prop_assert!(layer.weights().iter().all(|w| (w - 0.5).abs() <= 1e-7));
        }
    }

    /// A silent neuron takes every input as causal, silent ones too.
    #[test]
    fn silence_is_causal_for_a_silent_neuron_only() {
        let mut layer = Layer::new(2, 2, &[0.5; 4]);
        layer.update(&Update {
            input_times: &[0.25, 1.0],
            output_times: &[1.0, 0.5],
            gains: &[Gain { causal: 0.25, acausal: -0.25 }; 2],
            weight_min: 0.0,
            weight_max: 1.0,
            norms: &[],
        });
        assert_eq!(layer.weights(), [0.75, 0.75, 0.75, 0.25]);
    }

    #[test]
    fn a_neuron_without_weights_stays_without() {
        let mut layer = Layer::new(2, 1, &[0.1, 0.1]);
        let mut update = Update {
            input_times: &[0.25, 0.5],
            output_times: &[0.75],
            gains: &[Gain { causal: -1.0, acausal: 0.0 }],
            weight_min: 0.0,
            weight_max: 1.0,
            norms: &[0.2],
        };
        layer.update(&update);
        assert_eq!(layer.weights(), [0.0, 0.0]);
        update.gains = &[Gain { causal: 0.5, acausal: 0.0 }];
        layer.update(&update);
        assert_eq!(layer.weights(), [0.1, 0.1]);
    }
}
