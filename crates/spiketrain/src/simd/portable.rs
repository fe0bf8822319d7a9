//! A block as an array, for machines without known vector instructions. Plain loops, because
//! closures are not always inlined; the compiler makes vectors of what the machine has at least.

use super::{Block, LANES, Level, Vector, write_each_bit};

/// Sixteen lanes.
#[derive(Clone, Copy)]
pub(crate) struct Portable(Block);

impl Vector for Portable {
    const LEVEL: Level = Level::Portable;
    const ROWS: [usize; 4] = [2, 1, 1, 1];
    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; LANES])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise; an array of `f32` needs no more alignment than `f32`.
        Self(unsafe { *from.cast() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as for `load`.
        unsafe { *to.cast() = self.0 }
    }
    #[inline(always)]
    fn plus(mut self, other: Self) -> Self {
        for l in 0..LANES {
            self.0[l] += other.0[l];
        }
        self
    }
    #[inline(always)]
    fn minus(mut self, other: Self) -> Self {
        for l in 0..LANES {
            self.0[l] -= other.0[l];
        }
        self
    }
    #[inline(always)]
    fn times(mut self, other: Self) -> Self {
        for l in 0..LANES {
            self.0[l] *= other.0[l];
        }
        self
    }
    #[inline(always)]
    fn plus_product(mut self, a: Self, b: Self) -> Self {
        for l in 0..LANES {
            self.0[l] += a.0[l] * b.0[l];
        }
        self
    }
    #[inline(always)]
    fn plus_fused(mut self, a: Self, b: Self) -> Self {
        for l in 0..LANES {
            self.0[l] = a.0[l].mul_add(b.0[l], self.0[l]);
        }
        self
    }
    #[inline(always)]
    fn min(mut self, other: Self) -> Self {
        for l in 0..LANES {
            self.0[l] = if self.0[l] < other.0[l] { self.0[l] } else { other.0[l] };
        }
        self
    }
    #[inline(always)]
    fn abs(mut self) -> Self {
        for l in 0..LANES {
            self.0[l] = self.0[l].abs();
        }
        self
    }
    #[inline(always)]
    fn clip(mut self, low: Self, high: Self) -> Self {
        for l in 0..LANES {
            let x = if self.0[l] > low.0[l] { self.0[l] } else { low.0[l] };
            self.0[l] = if x < high.0[l] { x } else { high.0[l] };
        }
        self
    }
    #[inline(always)]
    fn above(self, other: Self) -> u32 {
        let mut bits = 0;
        for l in 0..LANES {
            bits |= u32::from(self.0[l] > other.0[l]) << l;
        }
        bits
    }
    #[inline(always)]
    fn at_least(self, other: Self) -> u32 {
        let mut bits = 0;
        for l in 0..LANES {
            bits |= u32::from(self.0[l] >= other.0[l]) << l;
        }
        bits
    }
    #[inline(always)]
    fn at_most(mut self, other: Self, yes: Self, no: Self) -> Self {
        for l in 0..LANES {
            self.0[l] = if self.0[l] <= other.0[l] { yes.0[l] } else { no.0[l] };
        }
        self
    }
    #[inline(always)]
    fn where_above(mut self, other: Self, yes: Self, no: Self) -> Self {
        for l in 0..LANES {
            self.0[l] = if self.0[l] > other.0[l] { yes.0[l] } else { no.0[l] };
        }
        self
    }
    #[inline(always)]
    fn plus_bits(mut self, bits: u32) -> Self {
        for l in 0..LANES {
            self.0[l] += (bits >> l & 1) as f32;
        }
        self
    }
    #[inline(always)]
    unsafe fn write_bits(bits: u32, base: u32, to: *mut u32) {
        // SAFETY: the caller's promise.
        unsafe { write_each_bit(bits, base, to) }
    }
}
