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

    /// Index of the element in row 0 of a column, and the step to the next row.
    pub(super) fn column(self, column: usize) -> (usize, usize) {
        let first = column / self.width * self.width;
        let width = self.width.min((self.n - first).next_multiple_of(LANES));
        (first * self.k + column - first, width)
    }

    /// A matrix given by its elements `(row, column)`; columns that only fill a block are zero.
    pub(super) fn pack(self, memory: &Buffers, element: impl Fn(usize, usize) -> f32) -> Buffer {
        self.pack_in_order(memory, 0..self.k, element)
    }

    /// The same, the rows in an order in which the elements are close to each other.
    pub(super) fn pack_in_order(
        self,
        memory: &Buffers,
        rows: impl Iterator<Item = usize> + Clone,
        element: impl Fn(usize, usize) -> f32,
    ) -> Buffer {
        let mut buffer = memory.take(self.len());
        let values = buffer.as_mut_slice();
        for panel in self.iter() {
            for row in rows.clone() {
                let to = &mut values[panel.start + row * panel.width..][..panel.lanes];
                for (lane, to) in to.iter_mut().enumerate() {
                    *to = element(row, panel.column + lane);
                }
            }
        }
        buffer
    }
}
