//! The whole convolution after training, and its pooling: which spike makes which filter fire
//! first.
//!
//! Every output neuron is independent of all others, so a position's potentials stay in registers
//! while the spikes of its window pass in order of time. Times enter as ranks among the image's
//! distinct times: the earliest of a cell is then a minimum, and sorting features is counting.

use super::layer::Layer;
use crate::simd::{Block, LANES, Level, Line, Simd, Vector, dispatch};

/// A layer's whole convolution (stride 1, no padding) over images of one size, of which the
/// earliest spike of every `pool`×`pool` neurons is taken.
///
/// A neuron fires once, when its potential reaches the threshold (not strictly). Spikes of one
/// time are integrated in the order of (row, column, channel).
#[derive(Clone, Debug)]
pub struct Convolution {
    kernel: usize,
    n_channels: usize,
    n_filters: usize,
    /// Blocks of filters.
    n_blocks: usize,
    /// Columns of an image.
    width: usize,
    /// Rows and columns of output neurons that are pooled.
    extent: [usize; 2],
    pool: usize,
    /// `[synapse, block]`.
    weights: Vec<Line>,
    /// `[block]`, infinite for a lane that stands for no filter.
    thresholds: Vec<Line>,
    /// No neuron can fire before that many spikes have arrived.
    n_least: usize,
    simd: Simd,
}

/// Memory that [`Convolution`] uses again.
#[derive(Clone, Debug, Default)]
pub struct Extraction {
    /// Spikes of the image, time in the upper half and place in the lower.
    spikes: Vec<u64>,
    /// The distinct times, ascending.
    times: Vec<f32>,
    /// What arrives at each position, in order of time; [`Extraction::n_arrivals`] of the room.
    arrivals: Vec<Arrival>,
    n_arrivals: Vec<usize>,
    /// Rank of the first spike, `[cell, lane]`, infinite where there is none.
    ranks: Vec<Block>,
    fired: Vec<u16>,
    starts: Vec<usize>,
}

/// A spike on its way to one position.
#[derive(Clone, Copy, Debug, Default)]
struct Arrival {
    /// First block of its weights.
    weights: u32,
    /// Rank of its time.
    rank: f32,
}

impl Convolution {
    /// The convolution of images of `height`×`width`.
    ///
    /// # Panics
    ///
    /// If an image has not room for one cell.
    pub fn new(layer: &Layer, height: usize, width: usize, pool: usize) -> Self {
        let Layer { kernel, n_channels, n_filters, .. } = *layer;
        let extent = [height, width].map(|n| (n + 1 - kernel) / pool * pool);
        assert!(extent[0] > 0 && extent[1] > 0, "an image has room for one cell");
        let (weights, thresholds) = (layer.weights(), layer.thresholds());
        let n_least = n_least(&weights, thresholds, kernel * kernel * n_channels);
        let rows = weights.chunks_exact(n_filters);
        Self {
            kernel,
            n_channels,
            n_filters,
            n_blocks: n_filters.div_ceil(LANES),
            width,
            extent,
            pool,
            weights: rows.flat_map(|row| lines(row, 0.0)).collect(),
            thresholds: lines(thresholds, f32::INFINITY).collect(),
            n_least,
            simd: Simd::best(),
        }
    }

    /// The same convolution, computed with other instructions; the results have the same bits.
    #[must_use]
    pub fn with_simd(mut self, simd: Simd) -> Self {
        self.simd = simd;
        self
    }

    /// Features of an image's spike times `[row, column, channel]` (infinite where there is no
    /// spike, never negative) as events: indices into `[row, column, filter]` and their times,
    /// ascending in (time, index).
    pub fn events(&self, times: &[f32], scratch: &mut Extraction) -> (Vec<u16>, Vec<f32>) {
        self.find_ranks(times, scratch);
        scratch.sort(self.n_filters)
    }

    /// [`Convolution::events`] as a dense `[row, column, filter]`, 1 where there is no spike.
    pub fn features(&self, times: &[f32], scratch: &mut Extraction) -> Vec<f32> {
        let (neurons, times) = self.events(times, scratch);
        let mut dense = vec![1.0; self.n_cells() * self.n_filters];
        neurons.iter().zip(times).for_each(|(&n, t)| dense[usize::from(n)] = t);
        dense
    }

    /// Fills `scratch.ranks`.
    fn find_ranks(&self, times: &[f32], scratch: &mut Extraction) {
        scratch.collect(times);
        self.deliver(scratch);
        let Extraction { arrivals, n_arrivals, ranks, .. } = scratch;
        ranks.clear();
        ranks.resize(self.n_cells() * self.n_blocks, [f32::INFINITY; LANES]);
        walk(self.simd, self, arrivals, n_arrivals, ranks);
    }

    /// Sorts spikes into the windows that see them.
    fn deliver(&self, scratch: &mut Extraction) {
        let Self { kernel, n_channels, extent: [rows, columns], .. } = *self;
        let room = self.n_synapses();
        let Extraction { spikes, times, arrivals, n_arrivals, .. } = scratch;
        n_arrivals.clear();
        n_arrivals.resize(rows * columns, 0);
        arrivals.resize(rows * columns * room, Arrival::default());
        times.clear();
        for &spike in spikes.iter() {
            let (time, place) = (f32::from_bits((spike >> 32) as u32), spike as u32 as usize);
            if times.last() != Some(&time) {
                times.push(time);
            }
            let rank = (times.len() - 1) as f32;
            let (pixel, channel) = (place / n_channels, place % n_channels);
            let (y, x) = (pixel / self.width, pixel % self.width);
            let first = |at: usize| (at + 1).saturating_sub(kernel);
            for row in first(y)..(y + 1).min(rows) {
                for column in first(x)..(x + 1).min(columns) {
                    let synapse = ((y - row) * kernel + x - column) * n_channels + channel;
                    let weights = (synapse * self.n_blocks) as u32;
                    let position = row * columns + column;
                    let n = &mut n_arrivals[position];
                    arrivals[position * room + *n] = Arrival { weights, rank };
                    *n += 1;
                }
            }
        }
    }

    /// Synapses of a neuron, the most spikes that can arrive at a position.
    fn n_synapses(&self) -> usize {
        self.kernel * self.kernel * self.n_channels
    }

    fn n_cells(&self) -> usize {
        self.extent[0] * self.extent[1] / (self.pool * self.pool)
    }
}

/// Whole blocks of `values`, filled up with `rest`.
fn lines(values: &[f32], rest: f32) -> impl Iterator<Item = Line> {
    values.chunks(LANES).map(move |chunk| {
        let mut line = Line([rest; LANES]);
        line.0[..chunk.len()].copy_from_slice(chunk);
        line
    })
}

/// The number of spikes without which no neuron reaches its threshold: rounding keeps order, so
/// no potential exceeds the sum of as many largest weights.
fn n_least(weights: &[f32], thresholds: &[f32], n_synapses: usize) -> usize {
    let largest = weights.iter().copied().fold(0.0, f32::max);
    let lowest = thresholds.iter().copied().fold(f32::INFINITY, f32::min);
    let mut bound = 0.0;
    let reaches = |_: &usize| {
        bound += largest;
        bound >= lowest
    };
    (1..=n_synapses).find(reaches).unwrap_or(n_synapses + 1)
}

impl Extraction {
    /// Takes over an image's spikes and sorts them.
    fn collect(&mut self, times: &[f32]) {
        // Times are not negative, so their bits ascend with them; the place breaks ties.
        let key = |(place, &t): (usize, &f32)| u64::from((t + 0.0).to_bits()) << 32 | place as u64;
        self.spikes.clear();
        self.spikes.extend(times.iter().enumerate().filter(|(_, t)| t.is_finite()).map(key));
        self.spikes.sort_unstable();
    }

    /// The ranks as events, sorted by counting.
    fn sort(&mut self, n_filters: usize) -> (Vec<u16>, Vec<f32>) {
        let n_lanes = n_filters.next_multiple_of(LANES);
        let Self { times, ranks, fired, starts, .. } = self;
        let cells = || ranks.as_flattened().chunks_exact(n_lanes).map(|c| &c[..n_filters]);
        starts.clear();
        starts.resize(times.len() + 1, 0);
        fired.clear();
        for (cell, ranks) in cells().enumerate() {
            for (filter, rank) in ranks.iter().enumerate() {
                if rank.is_finite() {
                    starts[*rank as usize + 1] += 1;
                    fired.push((cell * n_filters + filter) as u16);
                }
            }
        }
        (0..times.len()).for_each(|r| starts[r + 1] += starts[r]);
        let (mut neurons, mut sorted) = (vec![0; fired.len()], vec![0.0; fired.len()]);
        for &neuron in fired.iter() {
            let (cell, filter) = (usize::from(neuron) / n_filters, usize::from(neuron) % n_filters);
            let rank = ranks.as_flattened()[cell * n_lanes + filter] as usize;
            (neurons[starts[rank]], sorted[starts[rank]]) = (neuron, times[rank]);
            starts[rank] += 1;
        }
        (neurons, sorted)
    }
}

dispatch! {
    /// Lowers every rank to that of the first arrival that makes one of the cell's neurons fire.
    fn walk(
        convolution: &Convolution,
        arrivals: &[Arrival],
        n_arrivals: &[usize],
        ranks: &mut [Block],
    ) = walk_body::<V>;
}

/// As many filters at once as the registers hold potentials, ranks and (where they are many)
/// thresholds of.
#[inline(always)]
fn walk_body<V: Vector>(
    convolution: &Convolution,
    arrivals: &[Arrival],
    n_arrivals: &[usize],
    ranks: &mut [Block],
) {
    let at_once = match V::LEVEL {
        Level::Avx512 => 8,
        Level::Avx2 => 2,
        Level::Portable => 1,
    };
    let n_blocks = convolution.n_blocks;
    let mut first = 0;
    while first < n_blocks {
        first += match at_once.min(n_blocks - first) {
            8 => walk_blocks::<V, 8>(convolution, first, arrivals, n_arrivals, ranks),
            4..8 => walk_blocks::<V, 4>(convolution, first, arrivals, n_arrivals, ranks),
            2..4 => walk_blocks::<V, 2>(convolution, first, arrivals, n_arrivals, ranks),
            _ => walk_blocks::<V, 1>(convolution, first, arrivals, n_arrivals, ranks),
        };
    }
}

/// `N` blocks of filters from `first` on; gives `N`.
#[inline(always)]
fn walk_blocks<V: Vector, const N: usize>(
    convolution: &Convolution,
    first: usize,
    arrivals: &[Arrival],
    n_arrivals: &[usize],
    ranks: &mut [Block],
) -> usize {
    let Convolution { extent: [rows, columns], pool, n_blocks, n_least, .. } = *convolution;
    let (weights, room) = (&convolution.weights[first..], convolution.n_synapses());
    let mut limit = [V::splat(0.0); N];
    for b in 0..N {
        limit[b] = V::read(&convolution.thresholds[first + b].0);
    }
    for row in 0..rows {
        for column in 0..columns {
            let position = row * columns + column;
            let n = n_arrivals[position];
            if n < n_least {
                continue;
            }
            let arrivals = &arrivals[position * room..][..n];
            let (early, late) = arrivals.split_at(n_least - 1);
            let mut potential = [V::splat(0.0); N];
            for arrival in early {
                let weights = &weights[arrival.weights as usize..][..N];
                for b in 0..N {
                    potential[b] = potential[b].plus(V::read(&weights[b].0));
                }
            }
            let cell = row / pool * (columns / pool) + column / pool;
            let ranks = &mut ranks[cell * n_blocks + first..][..N];
            let mut earliest = [V::splat(0.0); N];
            for b in 0..N {
                earliest[b] = V::read(&ranks[b]);
            }
            for arrival in late {
                let weights = &weights[arrival.weights as usize..][..N];
                let rank = V::splat(arrival.rank);
                for b in 0..N {
                    potential[b] = potential[b].plus(V::read(&weights[b].0));
                    let earlier = earliest[b].min(rank);
                    earliest[b] = limit[b].at_most(potential[b], earlier, earliest[b]);
                }
            }
            for b in 0..N {
                earliest[b].write(&mut ranks[b]);
            }
        }
    }
    N
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::{Seed, Stream};

    /// Brute force: every output neuron walks the spikes of its own window.
    fn by_definition(layer: &Layer, times: &[f32], [height, width, pool]: [usize; 3]) -> Vec<f32> {
        let (weights, k, f) = (layer.weights(), layer.kernel, layer.n_filters);
        let (rows, columns) = ((height + 1 - k) / pool, (width + 1 - k) / pool);
        let mut spikes: Vec<usize> = (0..times.len()).filter(|&i| times[i].is_finite()).collect();
        spikes.sort_by(|&a, &b| times[a].total_cmp(&times[b]));
        let mut out = vec![1.0f32; rows * columns * f];
        for y in 0..rows * pool {
            for x in 0..columns * pool {
                for z in 0..f {
                    let mut a = 0.0;
                    let fires = spikes.iter().find(|&&i| {
                        let (at, c) = (i / layer.n_channels, i % layer.n_channels);
                        let (ey, ex) = (at / width, at % width);
                        if !(y..y + k).contains(&ey) || !(x..x + k).contains(&ex) {
                            return false;
                        }
                        let p = ((ey - y) * k + ex - x) * layer.n_channels + c;
                        a += weights[p * f + z];
                        a >= layer.thresholds()[z]
                    });
                    let cell = &mut out[((y / pool) * columns + x / pool) * f + z];
                    *cell = fires.map_or(1.0, |&i| times[i]).min(*cell);
                }
            }
        }
        out
    }

    /// Times of which some are equal and about a third are no spikes.
    fn draw_times(stream: &mut Stream, n: usize) -> Vec<f32> {
        let time = |s: &mut Stream| match s.below(3) {
            0 => f32::INFINITY,
            1 => s.below(8) as f32 / 8.0,
            _ => s.uniform(),
        };
        (0..n).map(|_| time(stream)).collect()
    }

    #[test]
    fn every_instruction_set_gives_the_definition() {
        for case in 0..40 {
            let mut s = Seed(5).stream("test", case);
            let (k, c, pool) =
                (1 + s.below(5) as usize, 1 + s.below(3) as usize, 1 + s.below(4) as usize);
            let f = [3, 16, 40, 100, 128, 150][s.below(6) as usize];
            let size = k + pool - 1;
            let [height, width] = [(); 2].map(|_| size + s.below(7) as usize);
            // Some weights are negative; thresholds from "at the first spike" to "never".
            let weights: Vec<f32> = (0..k * k * c * f).map(|_| s.uniform() - 0.1).collect();
            let reach = (k * k * c) as f32;
            let thresholds: Vec<f32> = (0..f).map(|_| reach * (s.uniform() - 0.01)).collect();
            let layer = Layer::new(k, c, &weights, &thresholds);
            let convolution = Convolution::new(&layer, height, width, pool);
            let mut scratch = Extraction::default();
            for _ in 0..2 {
                let times = draw_times(&mut s, height * width * c);
                let expected = by_definition(&layer, &times, [height, width, pool]);
                for simd in Simd::available() {
                    let convolution = convolution.clone().with_simd(simd);
                    let ours = convolution.features(&times, &mut scratch);
                    assert_eq!(ours, expected, "case {case}, {simd:?}");
                    let (neurons, sorted) = convolution.events(&times, &mut scratch);
                    let events: Vec<(f32, u16)> = sorted.into_iter().zip(neurons).collect();
                    assert!(events.is_sorted(), "case {case}, {simd:?}");
                }
            }
        }
    }

    #[test]
    fn no_neuron_fires_before_the_least_number_of_spikes() {
        assert_eq!(n_least(&[0.5, 0.25], &[1.1, 1.5], 9), 3);
        assert_eq!(n_least(&[0.5, 0.5], &[1.0], 9), 2);
        assert_eq!(n_least(&[-0.5, -0.5], &[0.0], 9), 1);
        assert_eq!(n_least(&[0.5, 0.5], &[9.0], 9), 10);
    }
}
