//! Matrices cut into panels of columns, as the kernels read and write them.

use super::buffer::{Buffer, Buffers};
use super::simd::LANES;

/// Where the columns of a matrix `[k, n]` lie: panels of `width` columns one after another, each
/// `[k, columns of the panel]`; the last panel has only as many columns as it needs, in whole
/// blocks of lanes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panels {
    /// Number of rows.
    pub(super) k: usize,
    /// Number of columns.
    pub(super) n: usize,
    /// Columns of every panel but the last.
    pub(super) width: usize,
}

/// One panel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panel {
    /// Its first column.
    pub(super) column: usize,
    /// Its columns, without those that only fill a block.
    pub(super) lanes: usize,
    /// Values of one row.
    pub(super) width: usize,
    /// Index of its first value.
    pub(super) start: usize,
}

impl Panel {
    /// Its `k` rows in the memory of all panels.
    fn rows_mut(self, k: usize, values: &mut [f32]) -> impl Iterator<Item = &mut [f32]> {
        values[self.start..][..k * self.width].chunks_exact_mut(self.width)
    }
}

impl Panels {
    /// Values of all panels.
    pub(super) fn len(self) -> usize {
        self.k * self.n.next_multiple_of(LANES)
    }

    /// The panels in order.
    pub(super) fn iter(self) -> impl Iterator<Item = Panel> {
        (0..self.n).step_by(self.width).map(move |column| {
            let lanes = self.width.min(self.n - column);
            let width = lanes.next_multiple_of(LANES);
            Panel { column, lanes, width, start: column * self.k }
        })
    }

    /// A matrix given by its elements `(row, column)`; columns that only fill a block are zero.
    pub(super) fn pack(self, memory: &Buffers, element: impl Fn(usize, usize) -> f32) -> Buffer {
        let mut buffer = memory.take(self.len());
        let values = buffer.as_mut_slice();
        for panel in self.iter() {
            for (row, to) in panel.rows_mut(self.k, values).enumerate() {
                for (lane, to) in to[..panel.lanes].iter_mut().enumerate() {
                    *to = element(row, panel.column + lane);
                }
            }
        }
        buffer
    }

    /// The matrix `values`, `[k, n]`, as it stands.
    pub(super) fn pack_plain(self, memory: &Buffers, values: &[f32]) -> Buffer {
        let mut buffer = memory.take(self.len());
        let packed = buffer.as_mut_slice();
        for panel in self.iter() {
            let columns = panel.column..panel.column + panel.lanes;
            let rows = values.chunks_exact(self.n).zip(panel.rows_mut(self.k, packed));
            rows.for_each(|(row, to)| to[..panel.lanes].copy_from_slice(&row[columns.clone()]));
        }
        buffer
    }

    /// The matrix whose columns are the rows of `values`, `[n, k]`; value `i` of each goes to the
    /// matrix's row `row(i)`.
    pub(super) fn pack_turned(
        self,
        memory: &Buffers,
        values: &[f32],
        row: impl Fn(usize) -> usize,
    ) -> Buffer {
        let mut buffer = memory.take(self.len());
        let packed = buffer.as_mut_slice();
        for panel in self.iter() {
            for lane in (0..panel.lanes).step_by(LANES) {
                let n = LANES.min(panel.lanes - lane);
                let columns = &values[(panel.column + lane) * self.k..][..n * self.k];
                for first in (0..self.k).step_by(LANES) {
                    // A block of 16 by 16 is turned around where it is close.
                    let n_rows = LANES.min(self.k - first);
                    let mut block = [[0.0; LANES]; LANES];
                    for (of_column, column) in block.iter_mut().zip(columns.chunks_exact(self.k)) {
                        of_column[..n_rows].copy_from_slice(&column[first..first + n_rows]);
                    }
                    for i in 0..n_rows {
                        let at = panel.start + row(first + i) * panel.width + lane;
                        let to = &mut packed[at..at + LANES];
                        to.iter_mut().zip(&block).for_each(|(to, column)| *to = column[i]);
                    }
                }
            }
        }
        buffer
    }
}
