//! Vector instructions of the kernels: blocks of 16 lanes, with multiplications and additions
//! fused where the machine can. One body serves all; levels agree to the bit in sums of spikes,
//! and to rounding in sums of products.

/// Lanes of one block.
pub(super) const LANES: usize = 16;

/// Vector instructions that this machine was found to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simd(Level);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Default for Simd {
    fn default() -> Self {
        *Self::available().last().expect("the plain level is always there")
    }
}

impl Simd {
    /// Every level this machine has, the plain one first.
    pub fn available() -> Vec<Self> {
        #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut, reason = "nothing to add"))]
        let mut found = vec![Self(Level::Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx2") && has!("fma") {
                found.push(Self(Level::Avx2));
                if has!("avx512f") {
                    found.push(Self(Level::Avx512));
                }
            }
        }
        found
    }

    pub(super) fn level(self) -> Level {
        self.0
    }

    /// Output channels of a panel of the dense kernel.
    pub(super) fn panel(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => 4 * LANES,
            _ => LANES,
        }
    }

    /// True if nine blocks of sums fit into the registers.
    pub(super) fn keeps_nine(self) -> bool {
        self.panel() > LANES
    }
}

/// A block in registers. Its functions may be called only inside [`dispatch`], which sees to it
/// that the machine has the instructions.
pub(super) trait Vector: Copy {
    /// Rows of an outer product kept in registers, for 1 to 4 blocks a row.
    const ROWS: [usize; 4];
    /// All lanes `x`.
    fn splat(x: f32) -> Self;
    /// From memory.
    ///
    /// # Safety
    ///
    /// 16 values can be read at `from`.
    unsafe fn load(from: *const f32) -> Self;
    /// To memory.
    ///
    /// # Safety
    ///
    /// 16 values can be written at `to`.
    unsafe fn store(self, to: *mut f32);
    /// `self + other`.
    fn plus(self, other: Self) -> Self;
    /// `self − other`.
    fn minus(self, other: Self) -> Self;
    /// `self + a · b`.
    fn plus_product(self, a: Self, b: Self) -> Self;
    /// Writes `base + bit` for each of the lowest 16 bits that is set, in ascending order.
    ///
    /// # Safety
    ///
    /// 16 values can be written at `to`, whatever the number of bits.
    unsafe fn write_bits(bits: u32, base: u32, to: *mut u32);
}

/// A block as an array.
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; LANES]);

impl Vector for Portable {
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
    fn plus(self, other: Self) -> Self {
        Self(std::array::from_fn(|l| self.0[l] + other.0[l]))
    }
    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        Self(std::array::from_fn(|l| self.0[l] - other.0[l]))
    }
    #[inline(always)]
    fn plus_product(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|l| self.0[l] + a.0[l] * b.0[l]))
    }
    #[inline(always)]
    unsafe fn write_bits(bits: u32, base: u32, to: *mut u32) {
        // SAFETY: the caller's promise.
        unsafe { write_each_bit(bits, base, to) }
    }
}

/// [`Vector::write_bits`] one bit after another.
///
/// # Safety
///
/// As many values can be written at `to` as bits are set.
#[inline(always)]
unsafe fn write_each_bit(mut bits: u32, base: u32, mut to: *mut u32) {
    while bits != 0 {
        // SAFETY: the caller's promise.
        unsafe {
            *to = base + bits.trailing_zeros();
            to = to.add(1);
        }
        bits &= bits - 1;
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Vector, write_each_bit};
    use std::arch::x86_64::*;

    /// Two registers of eight lanes.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2(__m256, __m256);

    // SAFETY of all blocks below: the instructions are there, see `Vector`; what pointers need,
    // the caller promises.
    impl Vector for Avx2 {
        const ROWS: [usize; 4] = [6, 3, 1, 1];
        #[inline(always)]
        fn splat(x: f32) -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: see above.
            unsafe {
                _mm256_storeu_ps(to, self.0);
                _mm256_storeu_ps(to.add(8), self.1);
            }
        }
        #[inline(always)]
        fn plus(self, other: Self) -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
        }
        #[inline(always)]
        fn minus(self, other: Self) -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm256_sub_ps(self.0, other.0), _mm256_sub_ps(self.1, other.1)) }
        }
        #[inline(always)]
        fn plus_product(self, a: Self, b: Self) -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm256_fmadd_ps(a.0, b.0, self.0), _mm256_fmadd_ps(a.1, b.1, self.1)) }
        }
        #[inline(always)]
        unsafe fn write_bits(bits: u32, base: u32, to: *mut u32) {
            // SAFETY: see above.
            unsafe { write_each_bit(bits, base, to) }
        }
    }

    /// One register of 16 lanes.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512(__m512);

    // SAFETY of all blocks below: as above.
    impl Vector for Avx512 {
        const ROWS: [usize; 4] = [12, 12, 8, 6];
        #[inline(always)]
        fn splat(x: f32) -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm512_set1_ps(x)) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm512_loadu_ps(from)) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: see above.
            unsafe { _mm512_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        fn plus(self, other: Self) -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm512_add_ps(self.0, other.0)) }
        }
        #[inline(always)]
        fn minus(self, other: Self) -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm512_sub_ps(self.0, other.0)) }
        }
        #[inline(always)]
        fn plus_product(self, a: Self, b: Self) -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm512_fmadd_ps(a.0, b.0, self.0)) }
        }
        #[inline(always)]
        unsafe fn write_bits(bits: u32, base: u32, to: *mut u32) {
            // SAFETY: see above.
            unsafe {
                let lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
                let index = _mm512_add_epi32(lane, _mm512_set1_epi32(base as i32));
                let packed = _mm512_maskz_compress_epi32(bits as u16, index);
                _mm512_storeu_si512(to.cast(), packed);
            }
        }
    }
}

/// Compiles `$body::<V>` for every level and defines `$name(simd, …)`, which calls the right one.
/// The body and all it calls must be `#[inline(always)]` to be compiled with the instructions.
macro_rules! dispatch {
    ($(#[$doc:meta])* $name:ident, $body:ident, ($($arg:ident: $type:ty),* $(,)?)) => {
        $(#[$doc])*
        fn $name(simd: $crate::frames::kernel::simd::Simd, $($arg: $type),*) {
            use $crate::frames::kernel::simd::{Level, Portable};
            #[cfg(target_arch = "x86_64")]
            use $crate::frames::kernel::simd::{Avx2, Avx512};
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $type),*) {
                $body::<Avx2>($($arg),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx2,fma")]
            fn avx512($($arg: $type),*) {
                $body::<Avx512>($($arg),*);
            }
            match simd.level() {
                Level::Portable => $body::<Portable>($($arg),*),
                // SAFETY: a `Simd` of this level exists only where the features were detected.
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => unsafe { avx512($($arg),*) },
            }
        }
    };
}
pub(super) use dispatch;
