//! The soft competition: shares of the neurons, eight at a time.

/// Neurons of one block; potentials are padded to whole blocks.
pub(super) const LANES: usize = 8;

/// Below this the exponential counts as 0; its value there is 3·10⁻³⁰⁸.
const LOWEST: f64 = -708.0;
/// 1.5·2⁵²: adding it rounds to a whole number, which then stands in the lowest bits.
const ROUND: f64 = 6_755_399_441_055_744.0;
/// ln 2 in two parts, the first with zeros at its end so that small multiples are exact.
const LN_2: [f64; 2] = [0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10];

/// Coefficients of the series of exp, the highest first.
const SERIES: [f64; 13] = [
    1.0 / 479_001_600.0,
    1.0 / 39_916_800.0,
    1.0 / 3_628_800.0,
    1.0 / 362_880.0,
    1.0 / 40_320.0,
    1.0 / 5_040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
    1.0,
    1.0,
];

/// `exp(x)` for x ≤ 0, with plain operations of fixed order, so that vectorised code gives the
/// bits of plain code: `x = n·ln 2 + r`, `exp(x) = 2ⁿ·exp(r)`, Taylor series of degree 13 for
/// |r| ≤ ½ ln 2. The relative error is below 4·10⁻¹⁶.
#[inline(always)]
fn exp(x: f64) -> f64 {
    let inside = if x > LOWEST { x } else { LOWEST };
    let rounded = inside * std::f64::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (inside - n * LN_2[0]) - n * LN_2[1];
    let mut sum = 1.0 / 6_227_020_800.0;
    for coefficient in SERIES {
        sum = sum * r + coefficient;
    }
    let power = f64::from_bits(rounded.to_bits().wrapping_add(1023) << 52);
    if x > LOWEST { sum * power } else { 0.0 }
}

/// Turns potentials into `exp(U − max U)`, in place, and returns their sum; a share is the
/// quotient of the two. Lanes of −∞ have no share.
#[inline(always)]
pub(super) fn exponentials(potentials: &mut [f64]) -> f64 {
    let mut max = [f64::NEG_INFINITY; LANES];
    let (blocks, rest) = potentials.as_chunks_mut::<LANES>();
    debug_assert!(rest.is_empty(), "whole blocks");
    for block in blocks.iter() {
        for l in 0..LANES {
            max[l] = if block[l] > max[l] { block[l] } else { max[l] };
        }
    }
    let max = max.into_iter().fold(f64::NEG_INFINITY, f64::max);
    let mut sums = [0.0; LANES];
    for block in blocks {
        for l in 0..LANES {
            block[l] = exp(block[l] - max);
            sums[l] += block[l];
        }
    }
    let [a, b, c, d, e, f, g, h] = sums;
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exact_to_the_last_places() {
        let mut worst = 0.0f64;
        for i in 0..100_000 {
            let x = -f64::from(i) * 0.007;
            worst = worst.max((exp(x) / libm::exp(x) - 1.0).abs());
        }
        assert!(worst < 4e-16, "{worst}");
        assert_eq!([0.0, -709.0, f64::NEG_INFINITY, -1e300].map(exp), [1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn shares_add_up_to_one_whatever_is_added_to_the_potentials() {
        let potentials: Vec<f64> = (0..16)
            .map(|i| if i < 11 { f64::from(i * i % 7) } else { f64::NEG_INFINITY })
            .collect();
        let shares = |offset: f64| {
            let mut u: Vec<f64> = potentials.iter().map(|u| u + offset).collect();
            let sum = exponentials(&mut u);
            u.iter().map(|e| e / sum).collect::<Vec<f64>>()
        };
        let base = shares(0.0);
        assert!((base.iter().sum::<f64>() - 1.0).abs() < 1e-15);
        assert_eq!(base[11..], [0.0; 5]);
        for (a, b) in base.iter().zip(shares(-1234.5)) {
            assert!((a - b).abs() < 1e-12, "{a} {b}");
        }
    }
}
