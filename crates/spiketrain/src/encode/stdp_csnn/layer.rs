//! The convolutional layer, and its competition inside a patch.
//!
//! Weights stand as `[position, filter]`, a position being (row, column, channel) of the kernel,
//! so that one input spike adds one contiguous row. Filters are padded to whole blocks of 16
//! lanes; padded lanes have weight 0 and an infinite threshold. Every path (plain, AVX2, AVX-512)
//! adds lane by lane and gives the same bits.

use crate::simd::{LANES, Simd, dispatch};

/// Weights and thresholds of a convolutional layer of single-spike neurons without leak.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Rows (and columns) of the kernel.
    pub kernel: usize,
    /// Channels of the input.
    pub n_channels: usize,
    /// Filters.
    pub n_filters: usize,
    /// Filters, padded to whole blocks.
    stride: usize,
    /// Found once, not at every patch.
    simd: Simd,
    weights: Vec<f32>,
    thresholds: Vec<f32>,
}

/// Step sizes of one patch's learning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Step of the weights, A.
    pub weight: f32,
    /// Step of the thresholds, η.
    pub threshold: f32,
    /// Decay of the step near the bounds, β.
    pub beta: f32,
    /// Wanted time of the winner's spike, fraction of the window.
    pub target_time: f32,
    /// Lower bound of the thresholds.
    pub min_threshold: f32,
}

impl Layer {
    /// A layer from weights `[position, filter]` and thresholds `[filter]`.
    ///
    /// # Panics
    ///
    /// If the lengths do not fit.
    pub fn new(kernel: usize, n_channels: usize, weights: &[f32], thresholds: &[f32]) -> Self {
        let n_filters = thresholds.len();
        assert_eq!(weights.len(), kernel * kernel * n_channels * n_filters, "a weight per synapse");
        let stride = n_filters.next_multiple_of(LANES);
        let mut rows = Vec::with_capacity(weights.len() / n_filters * stride);
        for row in weights.chunks_exact(n_filters) {
            rows.extend_from_slice(row);
            rows.resize(rows.len().next_multiple_of(stride), 0.0);
        }
        let mut thresholds = thresholds.to_vec();
        thresholds.resize(stride, f32::INFINITY);
        Self {
            kernel,
            n_channels,
            n_filters,
            stride,
            simd: Simd::best(),
            weights: rows,
            thresholds,
        }
    }

    /// Weights `[position, filter]`.
    pub fn weights(&self) -> Vec<f32> {
        let rows = self.weights.chunks_exact(self.stride);
        rows.flat_map(|r| &r[..self.n_filters]).copied().collect()
    }

    /// Thresholds `[filter]`.
    pub fn thresholds(&self) -> &[f32] {
        &self.thresholds[..self.n_filters]
    }

    /// The first neuron above threshold (strictly; the lowest index among equals) when the
    /// `events` (position, time) of a patch arrive in their order, and the time.
    pub fn winner(&self, events: &[(u16, f32)], scratch: &mut Vec<f32>) -> Option<(usize, f32)> {
        scratch.clear();
        scratch.resize(self.stride, 0.0);
        let e = first_crossing(self.simd, self, events, scratch)?;
        let z = scratch.iter().zip(&self.thresholds).position(|(a, t)| a > t);
        Some((z.expect("a neuron crossed"), events[e].1))
    }

    /// Learns from one patch: winner, threshold adaptation, multiplicative STDP.
    ///
    /// θ_z += −η (s − t_obj) + (η if z won, else −η/(F−1)), at least the lower bound; for the
    /// winner's weights w += A exp(−β w) where the input came no later than s, else
    /// w −= A exp(β (w − 1)), kept in [0, 1]. `times` is the patch `[position]`, infinite where
    /// there is no spike. Returns the winner.
    pub fn learn(
        &mut self,
        times: &[f32],
        events: &[(u16, f32)],
        rates: &Rates,
        scratch: &mut Vec<f32>,
    ) -> Option<usize> {
        let (winner, s) = self.winner(events, scratch)?;
        let common = -rates.threshold * (s - rates.target_time);
        let losers = rates.threshold / (self.n_filters as f32 - 1.0).max(1.0);
        for (z, threshold) in self.thresholds[..self.n_filters].iter_mut().enumerate() {
            let own = if z == winner { rates.threshold } else { -losers };
            *threshold = (*threshold + common + own).max(rates.min_threshold);
        }
        for (p, &t) in times.iter().enumerate() {
            let w = &mut self.weights[p * self.stride + winner];
            *w += if t <= s {
                rates.weight * libm::expf(-rates.beta * *w)
            } else {
                -rates.weight * libm::expf(rates.beta * (*w - 1.0))
            };
            *w = w.clamp(0.0, 1.0);
        }
        Some(winner)
    }
}

/// Adds `row` to `potentials`; whether some lane is then above its threshold.
#[inline(always)]
fn add(potentials: &mut [f32], row: &[f32], thresholds: &[f32]) -> bool {
    let mut crossed = false;
    let blocks = potentials.chunks_exact_mut(LANES).zip(row.chunks_exact(LANES));
    for ((a, w), t) in blocks.zip(thresholds.chunks_exact(LANES)) {
        let mut any = 0u32;
        for l in 0..LANES {
            a[l] += w[l];
            any |= u32::from(a[l] > t[l]);
        }
        crossed |= any != 0;
    }
    crossed
}

dispatch! {
    /// The first event after which some potential is above its threshold.
    fn first_crossing(
        layer: &Layer,
        events: &[(u16, f32)],
        potentials: &mut [f32],
    ) -> Option<usize> = first_crossing_body;
}

#[inline(always)]
fn first_crossing_body(
    layer: &Layer,
    events: &[(u16, f32)],
    potentials: &mut [f32],
) -> Option<usize> {
    events.iter().position(|&(p, _)| {
        let row = &layer.weights[usize::from(p) * layer.stride..][..layer.stride];
        add(potentials, row, &layer.thresholds)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    #[test]
    fn thresholds_move_towards_the_target_time() {
        // One position fires at 0.5; filter 2 has the largest weight and alone crosses.
        let mut layer = Layer::new(1, 1, &[0.1, 0.1, 0.9, 0.1, 0.1], &[0.5; 5]);
        let rates =
            Rates { weight: 0.1, threshold: 1.0, beta: 1.0, target_time: 0.75, min_threshold: 0.0 };
        let winner = layer.learn(&[0.5], &[(0, 0.5)], &rates, &mut Vec::new());
        assert_eq!(winner, Some(2));
        // s = 0.5, t_obj = 0.75: the winner gains 1.25, the others 0.25 − 1/4 = 0.
        assert_eq!(layer.thresholds(), [0.5, 0.5, 1.75, 0.5, 0.5]);
        assert!((layer.weights()[2] - (0.9 + 0.1 * (-0.9f32).exp())).abs() < 1e-6);
    }

    #[test]
    fn the_winner_is_the_lowest_index_above_threshold() {
        for case in 0..20 {
            let mut s = Seed(5).stream("test", case);
            let f = 5 + s.below(20) as usize;
            let weights: Vec<f32> = (0..9 * f).map(|_| s.uniform()).collect();
            let layer = Layer::new(3, 1, &weights, &vec![2.5; f]);
            let events: Vec<(u16, f32)> = (0..9).map(|p| (p, f32::from(p))).collect();
            let potential = |z: usize, n: usize| (0..n).fold(0.0, |a, p| a + weights[p * f + z]);
            let above = |n: &usize| (0..f).any(|z| potential(z, *n) > 2.5);
            let expected = (1..=9).find(above).map(|n| {
                ((0..f).find(|&z| potential(z, n) > 2.5).expect("one is above"), (n - 1) as f32)
            });
            assert_eq!(layer.winner(&events, &mut Vec::new()), expected, "case {case}");
            for simd in Simd::available() {
                let mut a = vec![0.0; layer.stride];
                let found = first_crossing(simd, &layer, &events, &mut a);
                assert_eq!(found, expected.map(|(_, t)| t as usize), "case {case}, {simd:?}");
            }
        }
    }
}
