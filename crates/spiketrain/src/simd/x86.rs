//! Blocks in the registers of x86-64.
//!
//! SAFETY of all blocks below: the instructions are there, because [`Vector`] is used only in
//! bodies of `dispatch`; what pointers need, the caller promises.

use super::{Level, Vector};
use std::arch::x86_64::*;

/// For each byte the positions of its bits that are set, ascending, one a byte; then zeros.
static POSITIONS: [[u8; 8]; 256] = positions();

const fn positions() -> [[u8; 8]; 256] {
    let mut all = [[0; 8]; 256];
    let mut bits = 0;
    while bits < all.len() {
        let (mut bit, mut n) = (0, 0);
        while bit < 8 {
            if bits >> bit & 1 == 1 {
                all[bits][n] = bit as u8;
                n += 1;
            }
            bit += 1;
        }
        bits += 1;
    }
    all
}

/// Writes eight values: `base + bit` for each bit that is set, in ascending order; the rest is
/// without meaning.
///
/// # Safety
///
/// 8 values can be written at `to`; the machine has AVX2.
#[inline(always)]
unsafe fn write_positions(bits: u8, base: u32, to: *mut u32) {
    // SAFETY: the caller's promise; an entry of the table is 8 bytes.
    unsafe {
        let packed = _mm_loadl_epi64(POSITIONS[usize::from(bits)].as_ptr().cast());
        let index = _mm256_add_epi32(_mm256_cvtepu8_epi32(packed), _mm256_set1_epi32(base as i32));
        _mm256_storeu_si256(to.cast(), index);
    }
}

/// Two registers of eight lanes.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256, __m256);

impl Vector for Avx2 {
    const LEVEL: Level = Level::Avx2;
    const ROWS: [usize; 4] = [6, 3, 1, 1];
    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: see the module.
        unsafe { Self(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see the module.
        unsafe { Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see the module.
        unsafe {
            _mm256_storeu_ps(to, self.0);
            _mm256_storeu_ps(to.add(8), self.1);
        }
    }
    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        // SAFETY: see the module.
        unsafe { Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
    }
    #[inline(always)]
    fn times(self, other: Self) -> Self {
        // SAFETY: see the module.
        unsafe { Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
    }
    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        // SAFETY: see the module.
        unsafe { Self(_mm256_sub_ps(self.0, other.0), _mm256_sub_ps(self.1, other.1)) }
    }
    #[inline(always)]
    fn plus_product(self, a: Self, b: Self) -> Self {
        // SAFETY: see the module.
        unsafe { Self(_mm256_fmadd_ps(a.0, b.0, self.0), _mm256_fmadd_ps(a.1, b.1, self.1)) }
    }
    #[inline(always)]
    fn plus_fused(self, a: Self, b: Self) -> Self {
        self.plus_product(a, b)
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: see the module.
        unsafe { Self(_mm256_min_ps(self.0, other.0), _mm256_min_ps(self.1, other.1)) }
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: see the module.
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            Self(_mm256_andnot_ps(sign, self.0), _mm256_andnot_ps(sign, self.1))
        }
    }
    #[inline(always)]
    fn clip(self, low: Self, high: Self) -> Self {
        // SAFETY: see the module.
        unsafe {
            Self(
                _mm256_min_ps(_mm256_max_ps(self.0, low.0), high.0),
                _mm256_min_ps(_mm256_max_ps(self.1, low.1), high.1),
            )
        }
    }
    #[inline(always)]
    fn above(self, other: Self) -> u32 {
        // SAFETY: see the module.
        unsafe {
            let low = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(self.0, other.0));
            let high = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(self.1, other.1));
            (low | high << 8) as u32
        }
    }
    #[inline(always)]
    fn at_least(self, other: Self) -> u32 {
        // SAFETY: see the module.
        unsafe {
            let low = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(self.0, other.0));
            let high = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(self.1, other.1));
            (low | high << 8) as u32
        }
    }
    #[inline(always)]
    fn at_most(self, other: Self, yes: Self, no: Self) -> Self {
        // SAFETY: see the module.
        unsafe {
            let low = _mm256_cmp_ps::<_CMP_LE_OQ>(self.0, other.0);
            let high = _mm256_cmp_ps::<_CMP_LE_OQ>(self.1, other.1);
            Self(_mm256_blendv_ps(no.0, yes.0, low), _mm256_blendv_ps(no.1, yes.1, high))
        }
    }
    #[inline(always)]
    fn where_above(self, other: Self, yes: Self, no: Self) -> Self {
        // SAFETY: see the module.
        unsafe {
            let low = _mm256_cmp_ps::<_CMP_GT_OQ>(self.0, other.0);
            let high = _mm256_cmp_ps::<_CMP_GT_OQ>(self.1, other.1);
            Self(_mm256_blendv_ps(no.0, yes.0, low), _mm256_blendv_ps(no.1, yes.1, high))
        }
    }
    #[inline(always)]
    fn plus_bits(self, bits: u32) -> Self {
        // SAFETY: see the module.
        unsafe {
            let lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            let ones = |bits: u32| {
                let set = _mm256_and_si256(_mm256_set1_epi32(bits as i32), lanes);
                let set = _mm256_cmpeq_epi32(set, lanes);
                _mm256_and_ps(_mm256_castsi256_ps(set), _mm256_set1_ps(1.0))
            };
            let (low, high) = (ones(bits), ones(bits >> 8));
            Self(_mm256_add_ps(self.0, low), _mm256_add_ps(self.1, high))
        }
    }
    #[inline(always)]
    unsafe fn write_bits(bits: u32, base: u32, to: *mut u32) {
        let (low, high) = (bits as u8, (bits >> 8) as u8);
        // SAFETY: see the module; the second half begins at the eighth value at the latest.
        unsafe {
            write_positions(low, base, to);
            write_positions(high, base + 8, to.add(low.count_ones() as usize));
        }
    }
}

/// One register of sixteen lanes.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m512);

impl Vector for Avx512 {
    const LEVEL: Level = Level::Avx512;
    const ROWS: [usize; 4] = [12, 12, 8, 6];
    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: see the module.
        unsafe { Self(_mm512_set1_ps(x)) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see the module.
        unsafe { Self(_mm512_loadu_ps(from)) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see the module.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        // SAFETY: see the module.
        unsafe { Self(_mm512_add_ps(self.0, other.0)) }
    }
    #[inline(always)]
    fn times(self, other: Self) -> Self {
        // SAFETY: see the module.
        unsafe { Self(_mm512_mul_ps(self.0, other.0)) }
    }
    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        // SAFETY: see the module.
        unsafe { Self(_mm512_sub_ps(self.0, other.0)) }
    }
    #[inline(always)]
    fn plus_product(self, a: Self, b: Self) -> Self {
        // SAFETY: see the module.
        unsafe { Self(_mm512_fmadd_ps(a.0, b.0, self.0)) }
    }
    #[inline(always)]
    fn plus_fused(self, a: Self, b: Self) -> Self {
        self.plus_product(a, b)
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: see the module.
        unsafe { Self(_mm512_min_ps(self.0, other.0)) }
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: see the module.
        unsafe { Self(_mm512_abs_ps(self.0)) }
    }
    #[inline(always)]
    fn clip(self, low: Self, high: Self) -> Self {
        // SAFETY: see the module.
        unsafe { Self(_mm512_min_ps(_mm512_max_ps(self.0, low.0), high.0)) }
    }
    #[inline(always)]
    fn above(self, other: Self) -> u32 {
        // SAFETY: see the module.
        unsafe { u32::from(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, other.0)) }
    }
    #[inline(always)]
    fn at_least(self, other: Self) -> u32 {
        // SAFETY: see the module.
        unsafe { u32::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(self.0, other.0)) }
    }
    #[inline(always)]
    fn at_most(self, other: Self, yes: Self, no: Self) -> Self {
        // SAFETY: see the module.
        unsafe {
            let mask = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(self.0, other.0);
            Self(_mm512_mask_blend_ps(mask, no.0, yes.0))
        }
    }
    #[inline(always)]
    fn where_above(self, other: Self, yes: Self, no: Self) -> Self {
        // SAFETY: see the module.
        unsafe {
            let mask = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, other.0);
            Self(_mm512_mask_blend_ps(mask, no.0, yes.0))
        }
    }
    #[inline(always)]
    fn plus_bits(self, bits: u32) -> Self {
        // SAFETY: see the module.
        unsafe {
            Self(_mm512_add_ps(self.0, _mm512_maskz_mov_ps(bits as u16, _mm512_set1_ps(1.0))))
        }
    }
    #[inline(always)]
    unsafe fn write_bits(bits: u32, base: u32, to: *mut u32) {
        // SAFETY: see the module.
        unsafe {
            let lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
            let index = _mm512_add_epi32(lane, _mm512_set1_epi32(base as i32));
            let packed = _mm512_maskz_compress_epi32(bits as u16, index);
            _mm512_storeu_si512(to.cast(), packed);
        }
    }
}
