//! The one dense microkernel: sums of outer products kept in registers.

use super::simd::{LANES, Simd, Vector, dispatch};

/// Most blocks of 16 lanes that one product writes a row.
pub(super) const MAX_BLOCKS: usize = 4;

/// Most rows kept in registers at once, on any machine.
const MAX_ROWS: usize = 12;

/// `out[m, l] = init[m, l] + Σ_{r, k} x[m, r, k] · w[r, k, l]` with `l < lanes`.
///
/// Each axis has a step in values; the axis `l` is contiguous. Terms are added in the order of
/// `r`, then `k`, each to one running sum, so that zeros of `x` change nothing and the result is
/// that of adding the rows of `w` where `x` is 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product<'a> {
    /// Values that are broadcast.
    pub(super) x: &'a [f32],
    /// Rows of values.
    pub(super) w: &'a [f32],
    /// Number of rows, and their steps in `x` and `out`.
    pub(super) m: usize,
    pub(super) x_m: usize,
    pub(super) out_m: usize,
    /// Number of runs, and their steps in `x` and `w`.
    pub(super) runs: usize,
    pub(super) x_run: usize,
    pub(super) w_run: usize,
    /// Terms of a run, and their steps in `x` and `w`.
    pub(super) k: usize,
    pub(super) x_k: usize,
    pub(super) w_k: usize,
    /// Lanes written, at most 64; `w` holds whole blocks.
    pub(super) lanes: usize,
}

/// What a sum begins with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Init<'a> {
    /// The same row for every `m`, of whole blocks.
    Row(&'a [f32]),
    /// What `out` holds.
    Keep,
}

/// Zeros, an [`Init::Row`].
pub(super) const ZEROS: [f32; LANES * MAX_BLOCKS] = [0.0; LANES * MAX_BLOCKS];

impl Product<'_> {
    /// Computes the product.
    pub(super) fn run(&self, simd: Simd, init: Init<'_>, out: &mut [f32]) {
        if self.m == 0 || self.lanes == 0 {
            return;
        }
        let blocks = self.lanes.div_ceil(LANES);
        assert!(blocks <= MAX_BLOCKS, "at most 64 lanes");
        assert!((self.m - 1) * self.out_m + self.lanes <= out.len(), "the output holds all rows");
        if self.runs > 0 && self.k > 0 {
            let (m, r, k) = (self.m - 1, self.runs - 1, self.k - 1);
            let last = m * self.x_m + r * self.x_run + k * self.x_k;
            assert!(last < self.x.len(), "the values are there");
            let last = r * self.w_run + k * self.w_k + blocks * LANES;
            assert!(last <= self.w.len(), "the rows are there");
        }
        if let Init::Row(row) = init {
            assert!(row.len() >= blocks * LANES, "the first row holds whole blocks");
        }
        strips(simd, self, init, out);
    }
}

dispatch! {
    fn strips(product: &Product<'_>, init: Init<'_>, out: &mut [f32]) = strips_body::<V>;
}

#[inline(always)]
fn strips_body<V: Vector>(product: &Product<'_>, init: Init<'_>, out: &mut [f32]) {
    match product.lanes.div_ceil(LANES) {
        1 => strips_of::<V, 1>(product, init, out),
        2 => strips_of::<V, 2>(product, init, out),
        3 => strips_of::<V, 3>(product, init, out),
        _ => strips_of::<V, 4>(product, init, out),
    }
}

/// Cuts the rows into strips of nearly equal height.
#[inline(always)]
fn strips_of<V: Vector, const N: usize>(product: &Product<'_>, init: Init<'_>, out: &mut [f32]) {
    let n_strips = product.m.div_ceil(V::ROWS[N - 1]);
    for strip in 0..n_strips {
        let (from, to) = (product.m * strip / n_strips, product.m * (strip + 1) / n_strips);
        if product.lanes == N * LANES {
            let out = out[from * product.out_m..].as_mut_ptr();
            let (first, step) = match init {
                Init::Row(row) => (row.as_ptr(), 0),
                Init::Keep => (out.cast_const(), product.out_m),
            };
            // SAFETY: `run` has checked that the last row's first and last value of every axis
            // lie in the slices, for whole blocks.
            unsafe { strip_of::<V, N>(product, from, to - from, first, step, out, product.out_m) };
        } else {
            let mut rows = [0.0; MAX_ROWS * MAX_BLOCKS * LANES];
            let width = N * LANES;
            for m in from..to {
                let row = &mut rows[(m - from) * width..][..width];
                match init {
                    Init::Row(init) => row.copy_from_slice(&init[..width]),
                    Init::Keep => row[..product.lanes]
                        .copy_from_slice(&out[m * product.out_m..][..product.lanes]),
                }
            }
            let all = rows.as_mut_ptr();
            // SAFETY: as above for `x` and `w`; `rows` holds the most rows of the most blocks.
            unsafe { strip_of::<V, N>(product, from, to - from, all, width, all, width) };
            for m in from..to {
                out[m * product.out_m..][..product.lanes]
                    .copy_from_slice(&rows[(m - from) * width..][..product.lanes]);
            }
        }
    }
}

/// One strip of `n_rows` rows from row `m`.
///
/// # Safety
///
/// All rows, runs and terms of the product lie in its slices; `init` and `out` can be read and
/// written at `n_rows` rows of `N` blocks with their steps.
#[inline(always)]
unsafe fn strip_of<V: Vector, const N: usize>(
    product: &Product<'_>,
    m: usize,
    n_rows: usize,
    init: *const f32,
    init_step: usize,
    out: *mut f32,
    out_step: usize,
) {
    macro_rules! heights {
        ($($rows:literal)*) => {
            match n_rows {
                // SAFETY: the caller's promise.
                $($rows if $rows <= V::ROWS[N - 1] => unsafe {
                    rows_of::<V, $rows, N>(product, m, init, init_step, out, out_step)
                },)*
                _ => unreachable!("a strip has 1 to {} rows", V::ROWS[N - 1]),
            }
        };
    }
    heights!(1 2 3 4 5 6 7 8 9 10 11 12)
}

/// Repeats a statement for each index of the list that is below `$n`, with the index a constant, so
/// that arrays of vectors become registers.
macro_rules! each {
    ($i:ident < $n:ident of [$($at:literal)*], $body:expr) => {
        $(if $at < $n {
            const $i: usize = $at;
            $body;
        })*
    };
}
macro_rules! each_row {
    ($i:ident < $n:ident, $body:expr) => { each!($i < $n of [0 1 2 3 4 5 6 7 8 9 10 11], $body) };
}
macro_rules! each_block {
    ($i:ident < $n:ident, $body:expr) => { each!($i < $n of [0 1 2 3], $body) };
}

/// `ROWS` rows from row `m`, with all sums in registers.
///
/// # Safety
///
/// As for [`strip_of`], with `ROWS` rows.
#[inline(always)]
unsafe fn rows_of<V: Vector, const ROWS: usize, const N: usize>(
    product: &Product<'_>,
    m: usize,
    init: *const f32,
    init_step: usize,
    out: *mut f32,
    out_step: usize,
) {
    let mut sums = [[V::splat(0.0); MAX_BLOCKS]; MAX_ROWS];
    // SAFETY: the caller's promise, for every pointer below.
    unsafe {
        each_row!(
            ROW < ROWS,
            each_block!(BLOCK < N, {
                sums[ROW][BLOCK] = V::load(init.add(ROW * init_step + BLOCK * LANES));
            })
        );
        for run in 0..product.runs {
            let mut x = product.x.as_ptr().wrapping_add(m * product.x_m + run * product.x_run);
            let mut w = product.w.as_ptr().wrapping_add(run * product.w_run);
            for _ in 0..product.k {
                let mut values = [V::splat(0.0); MAX_BLOCKS];
                each_block!(BLOCK < N, values[BLOCK] = V::load(w.add(BLOCK * LANES)));
                each_row!(ROW < ROWS, {
                    let x = V::splat(*x.add(ROW * product.x_m));
                    each_block!(BLOCK < N, {
                        sums[ROW][BLOCK] = sums[ROW][BLOCK].plus_product(x, values[BLOCK]);
                    });
                });
                x = x.wrapping_add(product.x_k);
                w = w.wrapping_add(product.w_k);
            }
        }
        each_row!(
            ROW < ROWS,
            each_block!(BLOCK < N, {
                sums[ROW][BLOCK].store(out.add(ROW * out_step + BLOCK * LANES));
            })
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference;
    use super::*;

    #[test]
    fn every_level_and_height_follows_the_definition() {
        for (m, lanes) in (1..15).flat_map(|m| [1, 16, 30, 48, 64].map(|l| (m, l))) {
            let width = usize::div_ceil(lanes, LANES) * LANES;
            let (runs, k) = (2, 5);
            let x = reference::values(m * 7 + runs * 20 + k * 3, 0);
            let w = reference::values(runs * k * width, 1);
            let first = reference::values(width, 2);
            let product = Product {
                x: &x,
                w: &w,
                m,
                x_m: 7,
                out_m: lanes + 1,
                runs,
                x_run: 20,
                w_run: k * width,
                k,
                x_k: 3,
                w_k: width,
                lanes,
            };
            let mut want = vec![5.0; m * (lanes + 1)];
            for (m, l) in (0..m).flat_map(|m| (0..lanes).map(move |l| (m, l))) {
                let sum: f64 = (0..runs * k)
                    .map(|i| {
                        let (r, k) = (i / k, i % k);
                        f64::from(x[m * 7 + r * 20 + k * 3]) * f64::from(w[i * width + l])
                    })
                    .sum();
                want[m * (lanes + 1) + l] = sum + f64::from(first[l]);
            }
            for simd in Simd::available() {
                let mut out = vec![5.0; want.len()];
                product.run(simd, Init::Row(&first), &mut out);
                reference::assert_close("product", &out, &want, 1e-6);
                let again: Vec<f32> = out.clone();
                let silent = Product { runs: 0, ..product };
                silent.run(simd, Init::Keep, &mut out);
                assert_eq!(out, again);
            }
        }
    }
}
