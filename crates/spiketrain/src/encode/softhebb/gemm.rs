//! Matrix product in single precision with one order of summation on every processor.
//!
//! C = A·B. The depth is cut into blocks of at most [`DEPTH`]; inside a block every element of C
//! is one chain of fused multiply-adds in ascending depth that starts at 0, and the blocks are
//! added in order. Tiles, vectors and threads divide rows and columns only, so AVX-512, AVX2 and
//! portable code, on any number of threads, give the same bits.

use rayon::prelude::*;

/// Largest depth of a block: 32 columns of it fill two thirds of a 48 KB first-level cache.
const DEPTH: usize = 256;

/// Most rows of C that one task computes, a multiple of every tile's height: a block of them stays
/// in a second-level cache of 512 KB, and the right factor is read once for all.
const TASK_ROWS: usize = 324;

/// Instruction set of the inner loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isa {
    /// 12×32 tiles in 24 registers of 16 values.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 6×16 tiles in 12 registers of 8 values.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 4×16 tiles, left to the compiler.
    Portable,
}

impl Isa {
    /// The fastest that this machine has.
    pub(super) fn detect() -> Self {
        Self::available()[0]
    }

    /// All that this machine has, fastest first.
    pub(super) fn available() -> Vec<Self> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                found.push(Isa::Avx512);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                found.push(Isa::Avx2);
            }
        }
        found.push(Isa::Portable);
        found
    }

    /// Rows and columns of a tile.
    const fn tile(self) -> (usize, usize) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => (12, 32),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => (6, 16),
            Isa::Portable => (4, 16),
        }
    }
}

/// Largest tile, in values.
const TILE: usize = 12 * 32;

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
    isa: Isa,
    depth: usize,
    columns: usize,
    panels: Vec<f32>,
}

impl Right {
    /// An empty factor; [`Right::pack`] fills it.
    pub(super) fn new(isa: Isa) -> Self {
        Self { isa, depth: 0, columns: 0, panels: Vec::new() }
    }

    /// Takes over `values`, `[depth, column]`; storage is reused.
    pub(super) fn pack(&mut self, values: &[f32], columns: usize) {
        assert!(columns > 0 && values.len().is_multiple_of(columns), "values are whole rows");
        let (_, width) = self.isa.tile();
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
    let (height, width) = right.isa.tile();
    let n_panels = right.columns.div_ceil(width);
    let block = block_depth(left.depth);
    let mut tile = [0.0; TILE];
    for (b, panels) in right.panels.chunks(block * n_panels * width).enumerate() {
        let depth = panels.len() / (n_panels * width);
        pack_left(left, b * block, depth, height, packed);
        for (j, panel) in panels.chunks_exact(depth * width).enumerate() {
            let columns = j * width..right.columns.min((j + 1) * width);
            for (i, strip) in packed.chunks_exact(depth * height).enumerate() {
                compute_tile(right.isa, strip, panel, &mut tile);
                let rows = i * height..left.rows.min((i + 1) * height);
                for (row, sums) in rows.zip(tile.chunks_exact(width)) {
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

/// `tile = strip · panel` for one block.
fn compute_tile(isa: Isa, strip: &[f32], panel: &[f32], tile: &mut [f32; TILE]) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => {
            // SAFETY: `Isa::Avx512` comes from `Isa::available`, which found the feature.
            unsafe { avx512(strip, panel, tile) }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => {
            // SAFETY: `Isa::Avx2` comes from `Isa::available`, which found both features.
            unsafe { avx2(strip, panel, tile) }
        }
        Isa::Portable => portable(strip, panel, tile),
    }
}

fn portable(strip: &[f32], panel: &[f32], tile: &mut [f32; TILE]) {
    let mut sums = [[0.0f32; 16]; 4];
    for (a, b) in strip.as_chunks::<4>().0.iter().zip(panel.as_chunks::<16>().0) {
        for (sums, a) in sums.iter_mut().zip(a) {
            sums.iter_mut().zip(b).for_each(|(s, b)| *s = a.mul_add(*b, *s));
        }
    }
    tile[..64].copy_from_slice(sums.as_flattened());
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(strip: &[f32], panel: &[f32], tile: &mut [f32; TILE]) {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_storeu_ps};
    let mut sums = [[_mm512_set1_ps(0.0); 2]; 12];
    for (a, b) in strip.as_chunks::<12>().0.iter().zip(panel.as_chunks::<32>().0) {
        // SAFETY: both loads stay inside the 32 values of `b`.
        let b = unsafe { [_mm512_loadu_ps(b.as_ptr()), _mm512_loadu_ps(b.as_ptr().add(16))] };
        for (sums, &a) in sums.iter_mut().zip(a) {
            let a = _mm512_set1_ps(a);
            sums[0] = _mm512_fmadd_ps(a, b[0], sums[0]);
            sums[1] = _mm512_fmadd_ps(a, b[1], sums[1]);
        }
    }
    for (out, sums) in tile.as_chunks_mut::<16>().0.iter_mut().zip(sums.as_flattened()) {
        // SAFETY: the store fills the 16 values of `out`.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), *sums) }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(strip: &[f32], panel: &[f32], tile: &mut [f32; TILE]) {
    use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_storeu_ps};
    let mut sums = [[_mm256_set1_ps(0.0); 2]; 6];
    for (a, b) in strip.as_chunks::<6>().0.iter().zip(panel.as_chunks::<16>().0) {
        // SAFETY: both loads stay inside the 16 values of `b`.
        let b = unsafe { [_mm256_loadu_ps(b.as_ptr()), _mm256_loadu_ps(b.as_ptr().add(8))] };
        for (sums, &a) in sums.iter_mut().zip(a) {
            let a = _mm256_set1_ps(a);
            sums[0] = _mm256_fmadd_ps(a, b[0], sums[0]);
            sums[1] = _mm256_fmadd_ps(a, b[1], sums[1]);
        }
    }
    for (out, sums) in tile.as_chunks_mut::<8>().0.iter_mut().zip(sums.as_flattened()) {
        // SAFETY: the store fills the 8 values of `out`.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), *sums) }
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
            for isa in Isa::available() {
                let mut right = Right::new(isa);
                right.pack(&draw(999 * columns, 2), columns);
                right.pack(&b, columns);
                let mut out = vec![9.0; rows * columns];
                let left = Left { values: &a, rows, depth, row_stride: depth, depth_stride: 1 };
                multiply(left, &right, &mut out);
                assert_eq!(out, expected, "{isa:?} {rows} {depth} {columns}");
                let left = Left { values: &transposed, row_stride: 1, depth_stride: rows, ..left };
                multiply(left, &right, &mut out);
                assert_eq!(out, expected, "{isa:?} {rows} {depth} {columns} transposed");
            }
        }
    }
}
