//! Convolution of spikes: one spike adds one contiguous row, of weights in the forward pass and of
//! the output's gradient in the weight gradient.

mod gradient;

use super::conv::Conv2d;
use super::panel::{Panel, Panels};
use super::product::ZEROS;
use super::simd::{LANES, Simd, Vector, dispatch};
use super::spikes::{SpikeView, WORD};
use crate::simd::{load_lanes, store_lanes};
pub(super) use gradient::{Tiles, weight_gradient};
use std::ops::Range;

/// Output channels of one slab of the forward pass.
pub(super) const SLAB: usize = 64;

/// Outputs that share the weights of a slab while they are in a cache.
const OUTPUTS: usize = 2048;

/// Spikes of images, row by row.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// Index `column · channels + channel` of every spike, ascending in its row.
    indices: Vec<u32>,
    /// For each row, where each column begins in `indices`, and where the row ends.
    starts: Vec<u32>,
}

impl Lists {
    /// Lists the spikes of all rows.
    fn fill(&mut self, simd: Simd, spikes: SpikeView<'_>) {
        let n_rows = spikes.n_images() * spikes.shape().height;
        self.indices.resize(spikes.count() + LANES, 0);
        self.starts.resize(n_rows * (spikes.shape().width + 1), 0);
        list_rows(simd, spikes, &mut self.indices, &mut self.starts);
    }
}

dispatch! {
    fn list_rows(spikes: SpikeView<'_>, indices: &mut [u32], starts: &mut [u32]) = list_rows_body::<V>;
}

#[inline(always)]
fn list_rows_body<V: Vector>(spikes: SpikeView<'_>, indices: &mut [u32], starts: &mut [u32]) {
    let shape = spikes.shape();
    let mut n = 0;
    let rows = starts.chunks_exact_mut(shape.width + 1).zip(spikes.rows());
    for (starts, words) in rows {
        for (column, start) in starts[..shape.width].iter_mut().enumerate() {
            *start = n as u32;
            let end = (column + 1) * shape.channels;
            let mut bit = column * shape.channels;
            while bit < end {
                let take = LANES.min(end - bit).min(WORD - bit % WORD);
                let bits = (words[bit / WORD] >> (bit % WORD)) as u32 & (u32::MAX >> (32 - take));
                assert!(n + LANES <= indices.len(), "all spikes were counted");
                // SAFETY: 16 values can be written at `n`.
                unsafe { V::write_bits(bits, bit as u32, indices.as_mut_ptr().add(n)) };
                n += bits.count_ones() as usize;
                bit += take;
            }
        }
        starts[shape.width] = n as u32;
    }
}

/// `out = bias + Σ weights of the window's spikes`; `weights` are `[kernel_row, kernel_column, in]`
/// in panels of [`SLAB`] output channels, `bias` whole blocks.
pub(super) fn forward(
    simd: Simd,
    conv: &Conv2d,
    (panels, weights): (Panels, &[f32]),
    bias: Option<&[f32]>,
    spikes: SpikeView<'_>,
    out: &mut [f32],
    lists: &mut Lists,
) {
    let y = conv.output();
    let density = spikes.density();
    let at_once = (OUTPUTS / (y.height * y.width)).max(1);
    for (chunk, out) in out.chunks_mut(at_once * y.len()).enumerate() {
        let first = chunk * at_once;
        let spikes = spikes.images(first..first + out.len() / y.len());
        lists.fill(simd, spikes);
        for panel in panels.iter() {
            let weights = &weights[panel.start..][..panels.k * panel.width];
            let bias = bias.map_or(&ZEROS[..], |bias| &bias[panel.column..]);
            for taps in passes(conv, panel.width, density) {
                forward_panel(simd, conv, panel, &taps, weights, bias, lists, out);
            }
        }
    }
}

/// Taps of the kernel whose weights one pass over the outputs adds, rows and columns.
#[derive(Clone)]
struct Taps {
    rows: Range<usize>,
    columns: Range<usize>,
}

/// Cuts the kernel so that the weights of a pass stay in the first cache, as long as a pass finds
/// enough spikes to be worth its sums' way to memory and back. The order of the sums stays the
/// same.
fn passes(conv: &Conv2d, width: usize, density: f64) -> Vec<Taps> {
    /// Values of weights above which passes are cut, by rows and by taps.
    const CUT_ROWS: usize = 24 << 10;
    const CUT_TAPS: usize = 16 << 10;
    /// Fewest spikes of a pass.
    const SPIKES: f64 = 16.0;
    let [rows, columns] = conv.kernel;
    let spikes = density * conv.input.channels as f64;
    let of_row = columns * conv.input.channels * width;
    if of_row > CUT_TAPS && spikes >= SPIKES {
        let tap = |tap: usize| Taps {
            rows: tap / columns..tap / columns + 1,
            columns: tap % columns..tap % columns + 1,
        };
        return (0..rows * columns).map(tap).collect();
    }
    let at_once =
        if rows * of_row > CUT_ROWS && columns as f64 * spikes >= SPIKES { 1 } else { rows };
    (0..rows)
        .step_by(at_once)
        .map(|row| Taps { rows: row..row + at_once, columns: 0..columns })
        .collect()
}

dispatch! {
    fn forward_panel(conv: &Conv2d, panel: Panel, taps: &Taps, weights: &[f32], bias: &[f32], lists: &Lists, out: &mut [f32]) = forward_panel_body::<V>;
}

#[inline(always)]
fn forward_panel_body<V: Vector>(
    conv: &Conv2d,
    panel: Panel,
    taps: &Taps,
    weights: &[f32],
    bias: &[f32],
    lists: &Lists,
    out: &mut [f32],
) {
    match panel.width / LANES {
        1 => forward_blocks::<V, 1>(conv, panel, taps, weights, bias, lists, out),
        2 => forward_blocks::<V, 2>(conv, panel, taps, weights, bias, lists, out),
        3 => forward_blocks::<V, 3>(conv, panel, taps, weights, bias, lists, out),
        _ => forward_blocks::<V, 4>(conv, panel, taps, weights, bias, lists, out),
    }
}

#[inline(always)]
fn forward_blocks<V: Vector, const N: usize>(
    conv: &Conv2d,
    panel: Panel,
    taps: &Taps,
    weights: &[f32],
    bias: &[f32],
    lists: &Lists,
    out: &mut [f32],
) {
    let (x, y) = (conv.input, conv.output());
    let width = N * LANES;
    assert!(bias.len() >= width, "the bias holds whole blocks");
    assert_eq!(
        weights.len(),
        conv.kernel[0] * conv.kernel[1] * x.channels * width,
        "one row of weights for each value of a window"
    );
    let is_first = taps.rows.start == 0 && taps.columns.start == 0;
    for (row, out) in out.chunks_exact_mut(y.width * y.channels).enumerate() {
        let (image, top) = (row / y.height, row % y.height * conv.stride[0]);
        for (column, out) in out.chunks_exact_mut(y.channels).enumerate() {
            let out = &mut out[panel.column..][..panel.lanes];
            let mut sums: [V; N] = load_lanes(if is_first { bias } else { out });
            let left = column * conv.stride[1];
            let from = (left + taps.columns.start).saturating_sub(conv.padding[1]).min(x.width);
            let to = (left + taps.columns.end).saturating_sub(conv.padding[1]).clamp(from, x.width);
            for kernel_row in taps.rows.clone() {
                let y_in = (top + kernel_row).wrapping_sub(conv.padding[0]);
                if y_in >= x.height {
                    continue;
                }
                let starts = &lists.starts[(image * x.height + y_in) * (x.width + 1)..];
                let spikes = &lists.indices[starts[from] as usize..starts[to] as usize];
                // Row of weights of the window's first value less that value's index: indices of
                // the window lead to rows of this row of the kernel.
                let base = (kernel_row * conv.kernel[1] + conv.padding[1]) * x.channels;
                let base = base.wrapping_sub(left * x.channels);
                for &index in spikes {
                    let row = base.wrapping_add(index as usize);
                    debug_assert!((row + 1) * width <= weights.len());
                    for (block, sum) in sums.iter_mut().enumerate() {
                        // SAFETY: columns `from..to` lie in the window, so that `row` is below
                        // the number of rows; each holds `N` blocks.
                        *sum = sum.plus(unsafe {
                            V::load(weights.as_ptr().add(row * width + block * LANES))
                        });
                    }
                }
            }
            store_lanes(&sums, out);
        }
    }
}
