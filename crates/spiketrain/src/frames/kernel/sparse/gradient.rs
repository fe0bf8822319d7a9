//! The weight gradient of spikes: one spike adds the outputs' gradient around it.

use super::super::buffer::Buffer;
use super::super::conv::{Conv2d, WeightSum};
use super::super::simd::{LANES, Simd, Vector, dispatch};
use super::super::spikes::{SpikeView, WORD};
use super::SLAB;
use crate::Shape;
use std::ops::Range;

/// Values of the output's gradient of one tile of the weight gradient. A tile a little larger than
/// the first cache is better than more tiles, each with its share of sums to store.
const TILE: usize = 12 << 10;

/// Memory of the weight gradient.
#[derive(Debug, Default)]
pub(in crate::frames::kernel) struct Tiles {
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

/// Adds the gradient with respect to the weights to `sum`. Strides must be 1, channels and columns
/// at most 65,536.
pub(in crate::frames::kernel) fn weight_gradient(
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
    let conv = &if conv.covers_input() {
        Conv2d::linear(Shape::flat(shape.len()), conv.out_channels)
    } else {
        *conv
    };
    let (x, n_taps) = (conv.input, conv.kernel[0] * conv.kernel[1]);
    let flat = x != shape;
    assert!(x.channels <= 1 << 16, "a channel is a 16-bit number");
    assert!(x.width + conv.kernel[1] - 1 <= 1 << 16, "a position is a 16-bit number");
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
