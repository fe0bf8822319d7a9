//! Memory on cache lines.

use super::simd::LANES;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One cache line of values.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; LANES]);

/// Values whose first lies at the beginning of a cache line.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffer {
    lines: Vec<Line>,
}

impl Buffer {
    /// The first `n` values, which are left over from the last use; the buffer grows if it must.
    pub(super) fn first(&mut self, n: usize) -> &mut [f32] {
        let n_lines = n.div_ceil(LANES);
        if self.lines.len() < n_lines {
            self.lines.resize(n_lines, Line([0.0; LANES]));
        }
        &mut self.as_mut_slice()[..n]
    }

    /// The first `n` values, set to zero.
    pub(super) fn zeroed(&mut self, n: usize) -> &mut [f32] {
        let values = self.first(n);
        values.fill(0.0);
        values
    }

    /// All values.
    pub(super) fn as_slice(&self) -> &[f32] {
        // SAFETY: a line is 16 values without padding, and lines follow one another.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.lines.len() * LANES) }
    }

    /// All values, to be written.
    pub(super) fn as_mut_slice(&mut self) -> &mut [f32] {
        let n = self.lines.len() * LANES;
        // SAFETY: as for `as_slice`.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), n) }
    }
}

/// Buffers to be used again.
#[derive(Debug, Default)]
pub struct Buffers(Mutex<Vec<Buffer>>);

impl Buffers {
    fn lock(&self) -> MutexGuard<'_, Vec<Buffer>> {
        // What is in it is whole after every change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `n` zeros in the largest of the buffers, which grows if it must.
    pub(super) fn take(&self, n: usize) -> Buffer {
        let largest = {
            let mut buffers = self.lock();
            let largest = (0..buffers.len()).max_by_key(|&i| buffers[i].lines.len());
            largest.map(|i| buffers.swap_remove(i))
        };
        // A larger one is made anew: nothing of the old one is worth copying.
        let mut buffer = largest.filter(|b| b.as_slice().len() >= n).unwrap_or_default();
        buffer.zeroed(n);
        buffer
    }

    /// Takes one back.
    pub(super) fn give(&self, buffer: Buffer) {
        self.lock().push(buffer);
    }
}
