//! The convolutional layer's kernels: competition inside a patch, and the whole convolution.
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

    /// Spike times of the whole convolution (stride 1, no padding) after pooling the earliest of
    /// `pool`×`pool` neurons: `[row, column, filter]`, 1 where nothing fires. Here a neuron fires
    /// once, when its potential reaches the threshold (not strictly).
    ///
    /// `events` are (row · width + column, channel, time) in the order of time.
    pub fn extract(
        &self,
        events: &[(u32, u16, f32)],
        height: usize,
        width: usize,
        pool: usize,
        scratch: &mut Extraction,
    ) -> Vec<f32> {
        let size = |n: usize| (n + 1 - self.kernel) / pool * pool;
        let (rows, columns) = (size(height), size(width));
        let (cell_rows, cell_columns) = (rows / pool, columns / pool);
        let cells = cell_rows * cell_columns;
        scratch.potentials.clear();
        scratch.potentials.resize(rows * columns * self.stride, 0.0);
        scratch.n_silent.clear();
        scratch.n_silent.resize(cells, self.n_filters);
        let mut out = vec![1.0f32; cells * self.n_filters];
        let grid = Grid { width, rows, columns, pool, cell_columns };
        scatter(self.simd, self, events, grid, scratch, &mut out);
        out
    }
}

/// Memory that [`Layer::extract`] uses again.
#[derive(Clone, Debug, Default)]
pub struct Extraction {
    potentials: Vec<f32>,
    n_silent: Vec<usize>,
}

/// Sizes of a convolution with pooling.
#[derive(Clone, Copy)]
struct Grid {
    width: usize,
    rows: usize,
    columns: usize,
    pool: usize,
    cell_columns: usize,
}

/// Adds `row` to `potentials`; whether some lane is then above its threshold, strictly or not.
#[inline(always)]
fn add<const STRICT: bool>(potentials: &mut [f32], row: &[f32], thresholds: &[f32]) -> bool {
    let mut crossed = false;
    let blocks = potentials.chunks_exact_mut(LANES).zip(row.chunks_exact(LANES));
    for ((a, w), t) in blocks.zip(thresholds.chunks_exact(LANES)) {
        let mut any = 0u32;
        for l in 0..LANES {
            a[l] += w[l];
            any |= u32::from(if STRICT { a[l] > t[l] } else { a[l] >= t[l] });
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
        add::<true>(potentials, row, &layer.thresholds)
    })
}

dispatch! {
    /// Adds every event to the potentials of the neurons that see it.
    fn scatter(
        layer: &Layer,
        events: &[(u32, u16, f32)],
        grid: Grid,
        scratch: &mut Extraction,
        out: &mut [f32],
    ) = scatter_body;
}

#[inline(always)]
fn scatter_body(
    layer: &Layer,
    events: &[(u32, u16, f32)],
    grid: Grid,
    scratch: &mut Extraction,
    out: &mut [f32],
) {
    let (kernel, stride) = (layer.kernel, layer.stride);
    for &(position, channel, time) in events {
        let (y, x) = (position as usize / grid.width, position as usize % grid.width);
        let first = |at: usize| (at + 1).saturating_sub(kernel);
        for row in first(y)..(y + 1).min(grid.rows) {
            for column in first(x)..(x + 1).min(grid.columns) {
                let cell = row / grid.pool * grid.cell_columns + column / grid.pool;
                if scratch.n_silent[cell] == 0 {
                    continue;
                }
                let p = ((y - row) * kernel + x - column) * layer.n_channels + usize::from(channel);
                let weights = &layer.weights[p * stride..][..stride];
                let potentials =
                    &mut scratch.potentials[(row * grid.columns + column) * stride..][..stride];
                if add::<false>(potentials, weights, &layer.thresholds) {
                    let times = &mut out[cell * layer.n_filters..][..layer.n_filters];
                    for (z, earliest) in times.iter_mut().enumerate() {
                        if potentials[z] >= layer.thresholds[z] {
                            potentials[z] = f32::NEG_INFINITY;
                            if *earliest == 1.0 {
                                *earliest = time;
                                scratch.n_silent[cell] -= 1;
                            }
                        }
                    }
                }
            }
        }
    }
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

    /// Brute force: every output neuron walks the events of its own window.
    fn brute(
        layer: &Layer,
        events: &[(u32, u16, f32)],
        h: usize,
        w: usize,
        pool: usize,
    ) -> Vec<f32> {
        let (weights, k, f) = (layer.weights(), layer.kernel, layer.n_filters);
        let (rows, columns) = ((h + 1 - k) / pool, (w + 1 - k) / pool);
        let mut out = vec![1.0f32; rows * columns * f];
        for y in 0..rows * pool {
            for x in 0..columns * pool {
                for z in 0..f {
                    let mut a = 0.0;
                    let fires = events.iter().find(|&&(at, c, _)| {
                        let (ey, ex) = (at as usize / w, at as usize % w);
                        if !(y..y + k).contains(&ey) || !(x..x + k).contains(&ex) {
                            return false;
                        }
                        let p = ((ey - y) * k + ex - x) * layer.n_channels + usize::from(c);
                        a += weights[p * f + z];
                        a >= layer.thresholds[z]
                    });
                    let cell = &mut out[((y / pool) * columns + x / pool) * f + z];
                    *cell = fires.map_or(1.0, |e| e.2).min(*cell);
                }
            }
        }
        out
    }

    #[test]
    fn the_event_driven_convolution_equals_brute_force() {
        for case in 0..20 {
            let mut s = Seed(5).stream("test", case);
            let (h, w, c) = (7 + s.below(5) as usize, 6 + s.below(5) as usize, 2);
            let (k, f, pool) = (3, 5 + s.below(20) as usize, 1 + s.below(2) as usize);
            let weights: Vec<f32> = (0..k * k * c * f).map(|_| s.uniform()).collect();
            let layer = Layer::new(k, c, &weights, &vec![2.5; f]);
            let mut events: Vec<(u32, u16, f32)> = (0..h * w * c / 2)
                .map(|_| (s.below((h * w) as u32), s.below(c as u32) as u16, s.uniform()))
                .collect();
            events.sort_by(|a, b| a.2.total_cmp(&b.2));
            let ours = layer.extract(&events, h, w, pool, &mut Extraction::default());
            assert_eq!(ours, brute(&layer, &events, h, w, pool), "case {case}");
            for simd in Simd::available() {
                let mut a = vec![0.0; layer.stride];
                let patch: Vec<(u16, f32)> = (0..9).map(|p| (p, f32::from(p))).collect();
                let found = first_crossing(simd, &layer, &patch, &mut a);
                assert_eq!(found, layer.winner(&patch, &mut Vec::new()).map(|(_, t)| t as usize));
            }
        }
    }
}
