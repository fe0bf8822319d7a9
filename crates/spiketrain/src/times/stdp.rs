//! Additive spike-timing dependent plasticity of a [`Layer`], with bounds and normalisation.

use crate::times::integrate::Layer;
use crate::times::simd::{Block, LANES, MAX_BLOCKS, dispatch};

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

dispatch!(
    add_and_clip,
    add_and_clip_blocks,
    (
        layer: &mut Layer,
        update: &Update<'_>,
        group: &Group,
        sums: &mut [[f64; LANES]; MAX_BLOCKS],
    )
);

/// As two plain comparisons, which become one instruction each.
#[inline(always)]
fn clip(w: f32, low: f32, high: f32) -> f32 {
    let w = if w > low { w } else { low };
    if w < high { w } else { high }
}

/// One pass over the rows in memory order; leaves the weights unscaled and their absolute sums in
/// `sums`.
#[inline(always)]
fn add_and_clip_blocks<const BLOCKS: usize>(
    layer: &mut Layer,
    update: &Update<'_>,
    group: &Group,
    sums: &mut [[f64; LANES]; MAX_BLOCKS],
) {
    let (first, stride) = (group.first, layer.n_blocks);
    let (low, high) = (update.weight_min, update.weight_max);
    let lanes: [Lane; BLOCKS] = std::array::from_fn(|b| group.lanes[b]);
    let factors: [Block; BLOCKS] = std::array::from_fn(|b| layer.factors[first + b]);
    let rows = layer.stored.chunks_mut(stride * ROWS_PER_SUM);
    for (rows, times) in rows.zip(update.input_times.chunks(ROWS_PER_SUM)) {
        let mut partial = [[0.0f32; LANES]; BLOCKS];
        for (row, &t) in rows.chunks_exact_mut(stride).zip(times) {
            let row: &mut [Block; BLOCKS] =
                (&mut row[first..first + BLOCKS]).try_into().expect("whole blocks");
            for b in 0..BLOCKS {
                for l in 0..LANES {
                    let lane = &lanes[b];
                    let gain = if t <= lane.time[l] { lane.causal[l] } else { lane.acausal[l] };
                    let w = clip(row[b][l] * factors[b][l] + gain, low, high);
                    partial[b][l] += w.abs();
                    row[b][l] = w;
                }
            }
        }
        for b in 0..BLOCKS {
            for l in 0..LANES {
                sums[b][l] += f64::from(partial[b][l]);
            }
        }
    }
}
