//! Blocks in the registers of x86-64. Safe to call only where the feature is; the one caller,
//! `simd::dispatch`, sees to that.

use crate::times::simd::{Block, Vector};
use std::arch::x86_64::*;

/// Two registers of eight lanes.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256, __m256);

impl Vector for Avx2 {
    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: AVX is there, see the module.
        unsafe { Self(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
    }
    #[inline(always)]
    fn load(block: &Block) -> Self {
        // SAFETY: AVX is there; a block holds 16 values.
        unsafe { Self(_mm256_loadu_ps(block.as_ptr()), _mm256_loadu_ps(block.as_ptr().add(8))) }
    }
    #[inline(always)]
    fn store(self, block: &mut Block) {
        // SAFETY: AVX is there; a block holds 16 values.
        unsafe {
            _mm256_storeu_ps(block.as_mut_ptr(), self.0);
            _mm256_storeu_ps(block.as_mut_ptr().add(8), self.1);
        }
    }
    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        // SAFETY: AVX is there.
        unsafe { Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
    }
    #[inline(always)]
    fn times(self, other: Self) -> Self {
        // SAFETY: AVX is there.
        unsafe { Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: AVX is there.
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            Self(_mm256_andnot_ps(sign, self.0), _mm256_andnot_ps(sign, self.1))
        }
    }
    #[inline(always)]
    fn clip(self, low: Self, high: Self) -> Self {
        // SAFETY: AVX is there.
        unsafe {
            Self(
                _mm256_min_ps(_mm256_max_ps(self.0, low.0), high.0),
                _mm256_min_ps(_mm256_max_ps(self.1, low.1), high.1),
            )
        }
    }
    #[inline(always)]
    fn above(self, other: Self) -> u32 {
        // SAFETY: AVX is there.
        unsafe {
            let low = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(self.0, other.0));
            let high = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(self.1, other.1));
            (low | high << 8) as u32
        }
    }
    #[inline(always)]
    fn at_most(self, other: Self, yes: Self, no: Self) -> Self {
        // SAFETY: AVX is there.
        unsafe {
            let low = _mm256_cmp_ps::<_CMP_LE_OQ>(self.0, other.0);
            let high = _mm256_cmp_ps::<_CMP_LE_OQ>(self.1, other.1);
            Self(_mm256_blendv_ps(no.0, yes.0, low), _mm256_blendv_ps(no.1, yes.1, high))
        }
    }
}

/// One register of sixteen lanes.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m512);

impl Vector for Avx512 {
    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: AVX-512 is there, see the module.
        unsafe { Self(_mm512_set1_ps(x)) }
    }
    #[inline(always)]
    fn load(block: &Block) -> Self {
        // SAFETY: AVX-512 is there; a block holds 16 values.
        unsafe { Self(_mm512_loadu_ps(block.as_ptr())) }
    }
    #[inline(always)]
    fn store(self, block: &mut Block) {
        // SAFETY: AVX-512 is there; a block holds 16 values.
        unsafe { _mm512_storeu_ps(block.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        // SAFETY: AVX-512 is there.
        unsafe { Self(_mm512_add_ps(self.0, other.0)) }
    }
    #[inline(always)]
    fn times(self, other: Self) -> Self {
        // SAFETY: AVX-512 is there.
        unsafe { Self(_mm512_mul_ps(self.0, other.0)) }
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: AVX-512 is there.
        unsafe { Self(_mm512_abs_ps(self.0)) }
    }
    #[inline(always)]
    fn clip(self, low: Self, high: Self) -> Self {
        // SAFETY: AVX-512 is there.
        unsafe { Self(_mm512_min_ps(_mm512_max_ps(self.0, low.0), high.0)) }
    }
    #[inline(always)]
    fn above(self, other: Self) -> u32 {
        // SAFETY: AVX-512 is there.
        unsafe { u32::from(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, other.0)) }
    }
    #[inline(always)]
    fn at_most(self, other: Self, yes: Self, no: Self) -> Self {
        // SAFETY: AVX-512 is there.
        unsafe {
            let mask = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(self.0, other.0);
            Self(_mm512_mask_blend_ps(mask, no.0, yes.0))
        }
    }
}
