//! Convolution of spikes: one spike adds one contiguous row, of weights in the forward pass and of
//! the output's gradient in the weight gradient.

use super::buffer::Buffer;
use super::conv::{Conv2d, WeightSum};
use super::panel::{Panel, Panels};
use super::product::ZEROS;
use super::simd::{LANES, Simd, Vector, dispatch};
use super::spikes::{SpikeView, WORD};
use crate::Shape;
use std::ops::Range;

/// Output channels of one slab of the forward pass.
pub(super) const SLAB: usize = 64;

/// Outputs that share the weights of a slab while they are in a cache.
const OUTPUTS: usize = 2048;

/// Values of the output's gradient of one tile of the weight gradient. A tile a little larger than
/// the first cache is better than more tiles, each with its share of sums to store.
const TILE: usize = 12 << 10;

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

/// Reads as many lanes as `from` has, and zeros.
#[inline(always)]
fn load_lanes<V: Vector, const N: usize>(from: &[f32]) -> [V; N] {
    let mut lanes = ZEROS;
    let mut from = from;
    if from.len() < N * LANES {
        lanes[..from.len()].copy_from_slice(from);
        from = &lanes;
    }
    let mut sums = [V::splat(0.0); N];
    for (block, sum) in sums.iter_mut().enumerate() {
        // SAFETY: there are at least `N` blocks.
        *sum = unsafe { V::load(from.as_ptr().add(block * LANES)) };
    }
    sums
}

/// Writes as many lanes as `out` has.
#[inline(always)]
fn store_lanes<V: Vector, const N: usize>(sums: &[V; N], out: &mut [f32]) {
    if out.len() == N * LANES {
        for (block, sum) in sums.iter().enumerate() {
            // SAFETY: `out` holds `N` blocks.
            unsafe { sum.store(out.as_mut_ptr().add(block * LANES)) };
        }
    } else {
        let mut lanes = ZEROS;
        for (block, sum) in sums.iter().enumerate() {
            // SAFETY: `lanes` holds four blocks, the most there are.
            unsafe { sum.store(lanes.as_mut_ptr().add(block * LANES)) };
        }
        out.copy_from_slice(&lanes[..out.len()]);
    }
}

/// Memory of the weight gradient.
#[derive(Debug, Default)]
pub(super) struct Tiles {
    /// A tile of the output's gradient with its margins, `[image, row, column, lane]`.
    d_out: Buffer,
    /// The tile's spikes as `position · 65,536 + channel`.
    spikes: Vec<u32>,
    /// Positions of the tile's spikes, `capacity` for each channel.
    positions: Vec<u16>,
    /// Number of spikes of each channel.
    counts: Vec<u32>,
    /// Most spikes of a channel.
    capacity: usize,
    /// The gradient, `[slab, channel, kernel_row, kernel_column, lane]`.
    gradient: Buffer,
}

/// Geometry of a tile: whole images, or some rows of one.
#[derive(Clone, Copy)]
struct Tile {
    /// Images of the tile.
    images: usize,
    /// Input rows of each image.
    rows: usize,
    /// Columns of a row of the padded gradient.
    columns: usize,
    /// Rows of an image of the padded gradient.
    padded_rows: usize,
}

impl Tile {
    /// The largest tile of `lanes` output channels that the first cache holds.
    fn of(conv: &Conv2d, lanes: usize) -> Self {
        let columns = conv.input.width + conv.kernel[1] - 1;
        let image = (conv.input.height + conv.kernel[0] - 1) * columns;
        let most = TILE / lanes;
        let (images, rows) = if image <= most {
            (most / image, conv.input.height)
        } else {
            let rows = (most / columns).saturating_sub(conv.kernel[0] - 1).max(1);
            let n_tiles = conv.input.height.div_ceil(rows);
            (1, conv.input.height.div_ceil(n_tiles))
        };
        Self { images, rows, columns, padded_rows: rows + conv.kernel[0] - 1 }
    }
}

/// Adds the gradient with respect to the weights to `sum`. Strides must be 1.
pub(super) fn weight_gradient(
    simd: Simd,
    conv: &Conv2d,
    spikes: SpikeView<'_>,
    d_out: &[f32],
    tiles: &mut Tiles,
    sum: &mut WeightSum<'_>,
) {
    assert_eq!(conv.stride, [1, 1], "tiles are of every pixel");
    let shape = conv.input;
    // Where one window covers the input, every neuron is a channel of its own.
    let conv = &if conv.output().height * conv.output().width == 1 && conv.padding == [0, 0] {
        Conv2d::linear(Shape::flat(shape.len()), conv.out_channels)
    } else {
        *conv
    };
    let (x, n_taps) = (conv.input, conv.kernel[0] * conv.kernel[1]);
    let flat = x != shape;
    assert!(x.channels <= 1 << 16, "a channel is a 16-bit number");
    let lanes =
        if n_taps == 1 { SLAB.min(conv.out_channels.next_multiple_of(LANES)) } else { LANES };
    let n_slabs = conv.out_channels.div_ceil(lanes);
    let slab_len = x.channels * n_taps * lanes;
    tiles.gradient.zeroed(n_slabs * slab_len);
    let tile = Tile::of(conv, lanes);
    let (n_images, n_rows) = (spikes.n_images(), x.height);
    for image in (0..n_images).step_by(tile.images) {
        let images = image..(image + tile.images).min(n_images);
        for row in (0..n_rows).step_by(tile.rows) {
            let rows = row..(row + tile.rows).min(n_rows);
            let rows = if flat { 0..shape.height } else { rows };
            list_channels(simd, conv, tiles, &tile, spikes, images.clone(), rows);
            for slab in 0..n_slabs {
                copy_tile(conv, tiles, &tile, d_out, images.clone(), row, slab * lanes, lanes);
                let gradient = slab * slab_len..(slab + 1) * slab_len;
                add_tile(simd, conv, &tile, tiles, lanes, gradient);
            }
        }
    }
    let slabs = tiles.gradient.as_slice()[..n_slabs * slab_len].chunks_exact(slab_len);
    for (slab, values) in slabs.enumerate() {
        let outs = slab * lanes..conv.out_channels.min((slab + 1) * lanes);
        if flat {
            // The neurons of a pixel are neighbours here; in `sum` those of a channel are.
            sum.add(outs, 0, shape.height * shape.width, values, lanes);
        } else {
            sum.add(outs, 0, 1, values, lanes);
        }
    }
}

/// Lists the spikes of each channel as positions `(image · padded rows + row) · columns + column`
/// in the tile.
fn list_channels(
    simd: Simd,
    conv: &Conv2d,
    tiles: &mut Tiles,
    tile: &Tile,
    spikes: SpikeView<'_>,
    images: Range<usize>,
    rows: Range<usize>,
) {
    tiles.capacity = tile.images * tile.rows * conv.input.width;
    tiles.counts.clear();
    tiles.counts.resize(conv.input.channels, 0);
    tiles.positions.resize(conv.input.channels * tiles.capacity, 0);
    let all = spikes.images(images.clone());
    tiles.spikes.resize(all.count() + LANES, 0);
    list_tile(simd, conv, tile, all, rows, tiles);
}

dispatch! {
    fn list_tile(conv: &Conv2d, tile: &Tile, spikes: SpikeView<'_>, rows: Range<usize>, tiles: &mut Tiles) = list_tile_body::<V>;
}

#[inline(always)]
fn list_tile_body<V: Vector>(
    conv: &Conv2d,
    tile: &Tile,
    spikes: SpikeView<'_>,
    rows: Range<usize>,
    tiles: &mut Tiles,
) {
    let (shape, n_channels) = (spikes.shape(), conv.input.channels);
    let list = &mut tiles.spikes;
    let mut n = 0;
    // A flat layer's channels are the neurons of all rows, and its positions the images.
    let flat = n_channels != shape.channels;
    for image in 0..spikes.n_images() {
        for row in rows.clone() {
            let words = spikes.row(image, row);
            let first = (image * tile.padded_rows + row - rows.start) * tile.columns;
            let pixels = if flat { 1 } else { shape.width };
            let len = if flat { shape.width * shape.channels } else { n_channels };
            for pixel in 0..pixels {
                let position = if flat { image } else { first + pixel };
                let channel = if flat { row * len } else { 0 };
                let (begin, end) = (pixel * len, (pixel + 1) * len);
                let mut bit = begin;
                while bit < end {
                    let take = LANES.min(end - bit).min(WORD - bit % WORD);
                    let bits =
                        (words[bit / WORD] >> (bit % WORD)) as u32 & (u32::MAX >> (32 - take));
                    assert!(n + LANES <= list.len(), "all spikes were counted");
                    let base = (position << 16) + channel + bit - begin;
                    // SAFETY: 16 values can be written at `n`.
                    unsafe { V::write_bits(bits, base as u32, list.as_mut_ptr().add(n)) };
                    n += bits.count_ones() as usize;
                    bit += take;
                }
            }
        }
    }
    for &spike in &list[..n] {
        let (channel, position) = (spike as usize & 0xffff, (spike >> 16) as u16);
        let count = &mut tiles.counts[channel];
        tiles.positions[channel * tiles.capacity + *count as usize] = position;
        *count += 1;
    }
}

/// Copies the part of the output's gradient that the tile's spikes meet, with zeros where there is
/// no output. The first row and column are those that the first input meets with its last tap.
fn copy_tile(
    conv: &Conv2d,
    tiles: &mut Tiles,
    tile: &Tile,
    d_out: &[f32],
    images: Range<usize>,
    first_row: usize,
    channel: usize,
    lanes: usize,
) {
    let y = conv.output();
    let valid = lanes.min(y.channels - channel);
    let row_len = tile.columns * lanes;
    let to = tiles.d_out.first(images.len() * tile.padded_rows * row_len);
    for (at, to) in to.chunks_exact_mut(row_len).enumerate() {
        let image = images.start + at / tile.padded_rows;
        let row =
            (first_row + at % tile.padded_rows + conv.padding[0]).wrapping_sub(conv.kernel[0] - 1);
        if row >= y.height {
            to.fill(0.0);
            continue;
        }
        let from = &d_out[(image * y.height + row) * y.width * y.channels..];
        for (column, to) in to.chunks_exact_mut(lanes).enumerate() {
            let column = (column + conv.padding[1]).wrapping_sub(conv.kernel[1] - 1);
            if column >= y.width {
                to.fill(0.0);
                continue;
            }
            let from = &from[column * y.channels + channel..][..valid];
            match (<&mut [f32; LANES]>::try_from(&mut *to), <&[f32; LANES]>::try_from(from)) {
                // The common case, without a call.
                (Ok(to), Ok(from)) => *to = *from,
                _ => {
                    to[..valid].copy_from_slice(from);
                    to[valid..].fill(0.0);
                }
            }
        }
    }
}

/// Adds the tile's gradient to its slab of the whole.
fn add_tile(
    simd: Simd,
    conv: &Conv2d,
    tile: &Tile,
    tiles: &mut Tiles,
    lanes: usize,
    slab: Range<usize>,
) {
    let [rows, columns] = conv.kernel;
    let d_out = tiles.d_out.as_slice();
    let gradient = &mut tiles.gradient.as_mut_slice()[slab];
    let mut group = Group {
        counts: &tiles.counts,
        positions: &tiles.positions,
        capacity: tiles.capacity,
        d_out,
        columns: tile.columns,
        kernel: conv.kernel,
        first: [0, 0],
        n_taps: [1, 1],
        lanes,
    };
    let wide = simd.keeps_nine();
    let rows_at_once = if wide && rows == 3 && columns == 3 { 3 } else { 1 };
    for row in (0..rows).step_by(rows_at_once) {
        for column in (0..columns).step_by(3) {
            group.first = [row, column];
            group.n_taps = [rows_at_once, 3.min(columns - column)];
            add_group(simd, &group, gradient);
        }
    }
}

/// Taps whose sums are in registers together.
struct Group<'a> {
    counts: &'a [u32],
    positions: &'a [u16],
    capacity: usize,
    d_out: &'a [f32],
    /// Columns of a row of `d_out`.
    columns: usize,
    kernel: [usize; 2],
    /// First kernel row and column.
    first: [usize; 2],
    /// Number of kernel rows and columns.
    n_taps: [usize; 2],
    lanes: usize,
}

dispatch! {
    fn add_group(group: &Group<'_>, gradient: &mut [f32]) = add_group_body::<V>;
}

#[inline(always)]
fn add_group_body<V: Vector>(group: &Group<'_>, gradient: &mut [f32]) {
    match (group.n_taps, group.lanes / LANES) {
        ([3, 3], 1) => add_taps::<V, 3, 3, 1>(group, gradient),
        ([1, 3], 1) => add_taps::<V, 1, 3, 1>(group, gradient),
        ([1, 2], 1) => add_taps::<V, 1, 2, 1>(group, gradient),
        ([1, 1], 1) => add_taps::<V, 1, 1, 1>(group, gradient),
        ([1, 1], 2) => add_taps::<V, 1, 1, 2>(group, gradient),
        ([1, 1], 3) => add_taps::<V, 1, 1, 3>(group, gradient),
        ([1, 1], 4) => add_taps::<V, 1, 1, 4>(group, gradient),
        (taps, blocks) => unreachable!("no kernel for {taps:?} taps of {blocks} blocks"),
    }
}

#[inline(always)]
fn add_taps<V: Vector, const ROWS: usize, const COLUMNS: usize, const N: usize>(
    group: &Group<'_>,
    gradient: &mut [f32],
) {
    let width = N * LANES;
    let n_taps = group.kernel[0] * group.kernel[1];
    // Offset in `d_out` from a spike's position to its output by the group's last tap.
    let last_row = group.kernel[0] - group.first[0] - ROWS;
    let last_column = group.kernel[1] - group.first[1] - COLUMNS;
    let offset = last_row * group.columns + last_column;
    let reach = offset + (ROWS - 1) * group.columns + COLUMNS;
    let n_positions = group.d_out.len() / width;
    let lists = group.positions.chunks_exact(group.capacity).zip(group.counts);
    for (gradient, (list, &count)) in gradient.chunks_exact_mut(n_taps * width).zip(lists) {
        let positions = &list[..count as usize];
        // Positions ascend, so that the last bounds them all.
        let Some(&last) = positions.last() else { continue };
        assert!(usize::from(last) + reach <= n_positions, "the tile reaches every tap");
        let mut sums = [[[V::splat(0.0); N]; COLUMNS]; ROWS];
        for &position in positions {
            let at = (usize::from(position) + offset) * width;
            for (row, sums) in sums.iter_mut().enumerate() {
                for (column, sums) in sums.iter_mut().enumerate() {
                    for (block, sum) in sums.iter_mut().enumerate() {
                        let at = at + (row * group.columns + column) * width + block * LANES;
                        // SAFETY: the assertion above, in units of `width`.
                        *sum = sum.plus(unsafe { V::load(group.d_out.as_ptr().add(at)) });
                    }
                }
            }
        }
        // Outputs ascend where taps descend.
        for (row, sums) in sums.iter().enumerate() {
            for (column, sums) in sums.iter().enumerate() {
                let kernel_row = group.first[0] + ROWS - 1 - row;
                let kernel_column = group.first[1] + COLUMNS - 1 - column;
                let at = (kernel_row * group.kernel[1] + kernel_column) * width;
                for (block, sum) in sums.iter().enumerate() {
                    let to = gradient[at + block * LANES..][..LANES].as_mut_ptr();
                    // SAFETY: the slice holds one block.
                    unsafe { V::load(to).plus(*sum).store(to) };
                }
            }
        }
    }
}
