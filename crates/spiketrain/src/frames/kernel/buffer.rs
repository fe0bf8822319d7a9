//! Memory on cache lines.

use super::simd::{LANES, Line};
use std::sync::{Mutex, MutexGuard, PoisonError};

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
            self.lines.reserve_exact(n_lines - self.lines.len());
            ask_for_large_pages(self.lines.spare_capacity_mut());
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

/// Asks the system to back memory that was not touched yet by large pages, where there are any in
/// it: rows of images one step apart lie on pages of their own, and where each is to be looked up
/// costs as much as the work on it.
pub(in crate::frames) fn ask_for_large_pages<T>(memory: &[T]) {
    /// Bytes of a large page.
    const LARGE: usize = 2 << 20;
    let bytes = memory.as_ptr_range();
    let (start, end) = (bytes.start as usize, bytes.end as usize);
    let (start, end) = (start.next_multiple_of(LARGE), end / LARGE * LARGE);
    #[cfg(all(target_os = "linux", not(miri)))]
    if start < end {
        let first = memory.as_ptr().cast::<libc::c_void>().cast_mut();
        let first = first.wrapping_byte_add(start - bytes.start as usize);
        // SAFETY: the range lies in `memory`, and the advice leaves what it holds alone. Systems
        // without large pages refuse it, which changes nothing.
        unsafe { libc::madvise(first, end - start, libc::MADV_HUGEPAGE) };
    }
    #[cfg(not(all(target_os = "linux", not(miri))))]
    let _ = start < end;
}

/// Buffers to be used again.
#[derive(Debug, Default)]
pub struct Buffers(Mutex<Vec<Buffer>>);

/// Locks memory that is kept to be used again: what a panic left behind is scratch.
pub(in crate::frames) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Buffers {
    /// `n` zeros in the least of the buffers that is enough; where none is, in a new one in place of
    /// the largest.
    pub(super) fn take(&self, n: usize) -> Buffer {
        let found = {
            let mut buffers = lock(&self.0);
            let size = |i: &usize| buffers[*i].as_slice().len();
            let enough = (0..buffers.len()).filter(|i| size(i) >= n).min_by_key(size);
            let chosen = enough.or_else(|| (0..buffers.len()).max_by_key(size));
            chosen.map(|i| buffers.swap_remove(i))
        };
        let mut buffer = found.filter(|b| b.as_slice().len() >= n).unwrap_or_default();
        buffer.zeroed(n);
        buffer
    }

    /// Takes one back.
    pub(super) fn give(&self, buffer: Buffer) {
        lock(&self.0).push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pages_change_nothing() {
        let mut values: Vec<u32> = (0..2 << 20).collect();
        ask_for_large_pages(&values);
        ask_for_large_pages(&values[5..7]);
        values.extend(2 << 20..3 << 20);
        ask_for_large_pages(values.spare_capacity_mut());
        assert!(values.iter().enumerate().all(|(i, &v)| i == v as usize));
    }

    #[test]
    fn the_least_that_is_enough_is_used_again() {
        let buffers = Buffers::default();
        let sizes = [64, 32, 1024].map(|n| buffers.take(n));
        sizes.into_iter().for_each(|mut b| {
            b.as_mut_slice().fill(1.0);
            buffers.give(b);
        });
        let again = [64, 32, 1024].map(|n| buffers.take(n).as_slice().len());
        assert_eq!(again, [64, 32, 1024]);
        buffers.give(buffers.take(64));
        // Too small: it makes room.
        let large = buffers.take(80);
        assert_eq!(large.as_slice(), [0.0; 80]);
        assert!(lock(&buffers.0).is_empty());
    }
}
