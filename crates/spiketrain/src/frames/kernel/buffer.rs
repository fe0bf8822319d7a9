//! Memory on cache lines.

use super::simd::LANES;

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
    /// `n` zeros.
    pub(super) fn zeros(n: usize) -> Self {
        Self { lines: vec![Line([0.0; LANES]); n.div_ceil(LANES)] }
    }

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
