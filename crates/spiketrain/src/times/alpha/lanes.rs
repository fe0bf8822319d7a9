//! Neurons side by side: blocks of lanes, and the elementary functions on them.
//!
//! Every function is plain multiplications and additions per lane (nothing is fused), compiled
//! once per instruction set, so that all paths give the same bits.

/// Neurons computed side by side.
pub const LANES: usize = 16;

/// One value for each of [`LANES`] neurons, on cache lines of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub struct Block(pub [f64; LANES]);

impl Block {
    /// All lanes `x`.
    pub const fn splat(x: f64) -> Self {
        Self([x; LANES])
    }
}

/// `1/k!`, from k = 0: the exponential to double precision within half of ln 2 around 0.
const EXP: [f64; 14] = [
    1.0,
    1.0,
    1.0 / 2.0,
    1.0 / 6.0,
    1.0 / 24.0,
    1.0 / 120.0,
    1.0 / 720.0,
    1.0 / 5_040.0,
    1.0 / 40_320.0,
    1.0 / 362_880.0,
    1.0 / 3_628_800.0,
    1.0 / 39_916_800.0,
    1.0 / 479_001_600.0,
    1.0 / 6_227_020_800.0,
];

/// `exp(x)` per lane for |x| ≤ 700 (x is clamped to that), to about one unit in the last place.
#[inline(always)]
pub(super) fn exp(x: &[f64; LANES]) -> [f64; LANES] {
    // ln 2 in two parts; the first has few enough bits for exact multiples.
    const LN_2: [f64; 2] = [6.931_471_803_691_238e-1, 1.908_214_929_270_587_7e-10];
    // Adding 3·2⁵¹ leaves the nearest whole number in the low bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let mut out = [0.0; LANES];
    for l in 0..LANES {
        let x = x[l].clamp(-700.0, 700.0);
        let shifted = x * std::f64::consts::LOG2_E + ROUND;
        let n = shifted - ROUND;
        let r = (x - n * LN_2[0]) - n * LN_2[1];
        let mut sum = EXP[13];
        for k in (0..13).rev() {
            sum = sum * r + EXP[k];
        }
        // n + 1023 in the exponent bits is 2ⁿ; the bits above the low 12 are shifted out.
        let power = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
        out[l] = sum * power;
    }
    out
}

/// Coefficients of `q(u)`, see [`rise`]: the interpolant of degree 20 at the Chebyshev nodes, in
/// powers of u, computed with 60 digits.
const RISE: [f64; 21] = [
    8.204_296_924_610_145e-1,
    -1.380_740_848_532_373_8e-1,
    3.087_484_658_874_531e-2,
    -7.744_753_603_670_393e-3,
    2.068_864_875_119_901e-3,
    -5.751_440_337_891_251e-4,
    1.643_653_282_233_297_6e-4,
    -4.793_434_354_927_561_5e-5,
    1.419_798_696_546_181_3e-5,
    -4.257_350_570_492_95e-6,
    1.289_373_868_157_648_2e-6,
    -3.937_648_690_028_344_7e-7,
    1.210_791_763_373_605_7e-7,
    -3.737_925_642_935_959_4e-8,
    1.162_057_898_420_823_4e-8,
    -3.722_587_371_901_545_7e-9,
    1.167_571_549_168_475_9e-9,
    -2.929_727_549_473_366_6e-10,
    9.222_178_015_481_892e-11,
    -6.222_400_219_953_966e-11,
    1.978_840_908_127_742e-11,
];

/// `1 + W₀(−y/e)` per lane for y in [0, 1], to double precision: with `p = √(2(1 − y))` it is
/// `p·q(u)`, `u = √2·p − 1`, q smooth and near 1. A y above 1 by rounding counts as 1.
#[inline(always)]
pub(super) fn rise(y: &[f64; LANES]) -> [f64; LANES] {
    let mut out = [0.0; LANES];
    for l in 0..LANES {
        let p = (2.0 * (1.0 - y[l])).max(0.0).sqrt();
        let u = p * std::f64::consts::SQRT_2 - 1.0;
        let mut sum = RISE[20];
        for k in (0..20).rev() {
            sum = sum * u + RISE[k];
        }
        out[l] = p * sum;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::times::alpha::lambert_w0;

    #[test]
    fn the_exponential_is_right_to_the_last_places() {
        for step in 0..40_000 {
            let x = -700.0 + 0.035 * f64::from(step);
            let (ours, exact) = (exp(&[x; LANES])[step as usize % LANES], libm::exp(x));
            assert!((ours - exact).abs() <= 4e-16 * exact, "exp({x}) = {ours}, not {exact}");
        }
    }

    #[test]
    fn the_rise_is_one_plus_lambert_w() {
        for step in 0..=20_000 {
            let y = f64::from(step) / 20_000.0;
            let ours = rise(&[y; LANES])[3];
            let exact = 1.0 + lambert_w0(-y / std::f64::consts::E);
            // Near the branch point W depends on the rounding of −y/e.
            let tolerance = 4e-16 + 1e-15 * y / (ours + 1e-8);
            assert!((ours - exact).abs() <= tolerance, "{y}: {ours} against {exact}");
        }
    }
}
