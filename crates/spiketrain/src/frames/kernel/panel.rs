//! Matrices cut into panels of columns, as the kernels read and write them.

use super::buffer::Buffer;
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

    /// A matrix given by its elements `(row, column)`; columns that only fill a block are zero.
    pub(super) fn pack(self, element: impl Fn(usize, usize) -> f32) -> Buffer {
        let mut buffer = Buffer::zeros(self.len());
        let values = buffer.as_mut_slice();
        for panel in self.iter() {
            for row in 0..self.k {
                let to = &mut values[panel.start + row * panel.width..][..panel.lanes];
                for (lane, to) in to.iter_mut().enumerate() {
                    *to = element(row, panel.column + lane);
                }
            }
        }
        buffer
    }
}
