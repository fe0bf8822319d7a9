//! Matrix product in single precision with one order of summation on every processor.
//!
//! C = A·B. The depth is cut into blocks of at most [`DEPTH`]; inside a block every element of C
//! is one chain of fused multiply-adds in ascending depth that starts at 0, and the blocks are
//! added in order. Tiles, vectors and threads divide rows and columns only, so AVX-512, AVX2 and
//! portable code, on any number of threads, give the same bits.

use crate::simd::{LANES, Level, Simd, Vector, dispatch};
use rayon::prelude::*;

/// Largest depth of a block: 32 columns of it fill two thirds of a 48 KB first-level cache.
const DEPTH: usize = 256;

/// Most rows of C that one task computes, a multiple of every tile's height: a block of them stays
/// in a second-level cache of 512 KB, and the right factor is read once for all.
const TASK_ROWS: usize = 324;

/// Rows and columns of a tile: it fills the registers.
const fn tile(level: Level) -> (usize, usize) {
    match level {
        Level::Avx512 => (12, 2 * LANES),
        Level::Avx2 => (6, LANES),
        Level::Portable => (4, LANES),
    }
}

/// Largest tile, in values.
const TILE: usize = 12 * 2 * LANES;

/// The left factor: element (row, depth) stands at `row · row_stride + depth · depth_stride`.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    /// The values.
    pub(super) values: &'a [f32],
    /// Number of rows.
    pub(super) rows: usize,
    /// Length of the sums.
    pub(super) depth: usize,
    /// Step from row to row.
    pub(super) row_stride: usize,
    /// Step along the depth.
    pub(super) depth_stride: usize,
}

/// The right factor, cut into panels: `[depth block][panel][depth][column of the panel]`.
#[derive(Clone, Debug)]
pub(super) struct Right {
    simd: Simd,
    depth: usize,
    columns: usize,
    panels: Vec<f32>,
}

impl Right {
    /// An empty factor; [`Right::pack`] fills it.
    pub(super) fn new(simd: Simd) -> Self {
        Self { simd, depth: 0, columns: 0, panels: Vec::new() }
    }

    /// Takes over `values`, `[depth, column]`; storage is reused.
    pub(super) fn pack(&mut self, values: &[f32], columns: usize) {
        assert!(columns > 0 && values.len().is_multiple_of(columns), "values are whole rows");
        let (_, width) = tile(self.simd.level());
        let n_panels = columns.div_ceil(width);
        self.columns = columns;
        self.depth = values.len() / columns;
        self.panels.resize(self.depth * n_panels * width, 0.0);
        let block = block_depth(self.depth);
        let blocks = self.panels.par_chunks_mut(block * n_panels * width);
        blocks.zip(values.par_chunks(block * columns)).for_each(|(out, rows)| {
            let depth = rows.len() / columns;
            for (j, panel) in out.chunks_exact_mut(depth * width).enumerate() {
                let from = j * width;
                let n = width.min(columns - from);
                for (out, row) in panel.chunks_exact_mut(width).zip(rows.chunks_exact(columns)) {
                    out[..n].copy_from_slice(&row[from..from + n]);
                    out[n..].fill(0.0);
                }
            }
        });
    }
}

/// Depth of all blocks but the last.
fn block_depth(depth: usize) -> usize {
    depth.div_ceil(depth.div_ceil(DEPTH).max(1)).max(1)
}

/// `out = left · right`, `[row, column]`.
pub(super) fn multiply(left: Left<'_>, right: &Right, out: &mut [f32]) {
    assert_eq!(left.depth, right.depth, "factors have one depth");
    assert_eq!(out.len(), left.rows * right.columns, "the product fills the output");
    let task_rows = task_rows(left.rows, rayon::current_num_threads());
    let tasks = out.par_chunks_mut(task_rows * right.columns).enumerate();
    tasks.for_each_init(Vec::new, |packed, (i, out)| {
        let rows = Left { values: &left.values[i * task_rows * left.row_stride..], ..left };
        let n_rows = out.len() / right.columns;
        multiply_rows(Left { rows: n_rows, ..rows }, right, packed, out);
    });
}

/// Rows of a task: as many tasks as threads, or a multiple, of equal size. The values do not depend
/// on it.
fn task_rows(rows: usize, n_threads: usize) -> usize {
    let n_tasks = rows.div_ceil(TASK_ROWS).next_multiple_of(n_threads);
    rows.div_ceil(n_tasks).next_multiple_of(12)
}

/// One task: all blocks and panels for a few rows.
fn multiply_rows(left: Left<'_>, right: &Right, packed: &mut Vec<f32>, out: &mut [f32]) {
    let (height, width) = tile(right.simd.level());
    let n_panels = right.columns.div_ceil(width);
    let block = block_depth(left.depth);
    let mut sums = [0.0; TILE];
    for (b, panels) in right.panels.chunks(block * n_panels * width).enumerate() {
        let depth = panels.len() / (n_panels * width);
        pack_left(left, b * block, depth, height, packed);
        for (j, panel) in panels.chunks_exact(depth * width).enumerate() {
            let columns = j * width..right.columns.min((j + 1) * width);
            for (i, strip) in packed.chunks_exact(depth * height).enumerate() {
                multiply_tile(right.simd, strip, panel, &mut sums);
                let rows = i * height..left.rows.min((i + 1) * height);
                for (row, sums) in rows.zip(sums.chunks_exact(width)) {
                    let start = row * right.columns;
                    let out = &mut out[start + columns.start..start + columns.end];
                    if b == 0 {
                        out.copy_from_slice(&sums[..out.len()]);
                    } else {
                        out.iter_mut().zip(sums).for_each(|(o, s)| *o += s);
                    }
                }
            }
        }
    }
}

/// Strips of `height` rows, `[strip][depth][row of the strip]`, rows that do not exist are 0.
fn pack_left(left: Left<'_>, from: usize, depth: usize, height: usize, out: &mut Vec<f32>) {
    out.clear();
    out.resize(left.rows.div_ceil(height) * height * depth, 0.0);
    for (s, strip) in out.chunks_exact_mut(height * depth).enumerate() {
        let n = height.min(left.rows - s * height);
        let start = s * height * left.row_stride + from * left.depth_stride;
        if left.row_stride == 1 {
            for (d, out) in strip.chunks_exact_mut(height).enumerate() {
                let at = start + d * left.depth_stride;
                out[..n].copy_from_slice(&left.values[at..at + n]);
            }
        } else {
            for i in 0..n {
                let row = left.values[start + i * left.row_stride..].iter();
                let row = row.step_by(left.depth_stride);
                strip[i..].iter_mut().step_by(height).zip(row).for_each(|(o, &x)| *o = x);
            }
        }
    }
}

dispatch! {
    /// `tile = strip · panel` for one block.
    fn multiply_tile(strip: &[f32], panel: &[f32], tile: &mut [f32; TILE]) = tile_of_level::<V>;
}

#[inline(always)]
fn tile_of_level<V: Vector>(strip: &[f32], panel: &[f32], tile: &mut [f32; TILE]) {
    match V::LEVEL {
        Level::Avx512 => tile_of::<V, 12, 2>(strip, panel, tile),
        Level::Avx2 => tile_of::<V, 6, 1>(strip, panel, tile),
        Level::Portable => tile_of::<V, 4, 1>(strip, panel, tile),
    }
}

/// A tile of `ROWS` rows and `BLOCKS` blocks of columns, its sums kept in registers.
#[inline(always)]
fn tile_of<V: Vector, const ROWS: usize, const BLOCKS: usize>(
    strip: &[f32],
    panel: &[f32],
    tile: &mut [f32; TILE],
) {
    let mut sums = [[V::splat(0.0); BLOCKS]; ROWS];
    let panel = panel.as_chunks::<LANES>().0.as_chunks::<BLOCKS>().0;
    for (a, row) in strip.as_chunks::<ROWS>().0.iter().zip(panel) {
        let mut b = [V::splat(0.0); BLOCKS];
        for j in 0..BLOCKS {
            b[j] = V::read(&row[j]);
        }
        for i in 0..ROWS {
            let a = V::splat(a[i]);
            for j in 0..BLOCKS {
                sums[i][j] = sums[i][j].plus_fused(a, b[j]);
            }
        }
    }
    let tile = tile.as_chunks_mut::<LANES>().0.as_chunks_mut::<BLOCKS>().0;
    for i in 0..ROWS {
        for j in 0..BLOCKS {
            sums[i][j].write(&mut tile[i][j]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    fn draw(n: usize, index: u64) -> Vec<f32> {
        let mut stream = Seed(5).stream("test", index);
        (0..n).map(|_| stream.uniform() - 0.5).collect()
    }

    /// Sizes that leave incomplete tiles, tasks and blocks; both layouts of the left factor.
    #[test]
    fn every_instruction_set_gives_the_defined_sum() {
        for (rows, depth, columns) in [(1, 1, 1), (13, 300, 33), (250, 7, 70), (25, 513, 40)] {
            let (a, b) = (draw(rows * depth, 0), draw(depth * columns, 1));
            let block = block_depth(depth);
            let mut expected = vec![0.0f32; rows * columns];
            for (i, e) in expected.iter_mut().enumerate() {
                let (r, c) = (i / columns, i % columns);
                for from in (0..depth).step_by(block) {
                    let range = from..depth.min(from + block);
                    let sum =
                        range.fold(0.0f32, |s, d| a[r * depth + d].mul_add(b[d * columns + c], s));
                    *e = if from == 0 { sum } else { *e + sum };
                }
            }
            let transposed: Vec<f32> =
                (0..rows * depth).map(|i| a[i % rows * depth + i / rows]).collect();
            for simd in Simd::available() {
                let mut right = Right::new(simd);
                right.pack(&draw(999 * columns, 2), columns);
                right.pack(&b, columns);
                let mut out = vec![9.0; rows * columns];
                let left = Left { values: &a, rows, depth, row_stride: depth, depth_stride: 1 };
                multiply(left, &right, &mut out);
                assert_eq!(out, expected, "{simd:?} {rows} {depth} {columns}");
                let left = Left { values: &transposed, row_stride: 1, depth_stride: rows, ..left };
                multiply(left, &right, &mut out);
                assert_eq!(out, expected, "{simd:?} {rows} {depth} {columns} transposed");
            }
        }
    }
}
