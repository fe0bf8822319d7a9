//! Elementary functions as plain arithmetic without branches or tables: a loop over them compiles
//! to vector instructions, and every machine gives the same bits.

/// ln x for a normal x > 0; a large negative number for 0.
///
/// `x = 2^k·m` with m in [√½, √2) and `ln m = 2·artanh((m − 1)/(m + 1))`, whose series in
/// s² ≤ 0.0295 is cut after ten terms.
#[inline(always)]
pub(crate) fn ln(x: f64) -> f64 {
    const ROOT_HALF: u64 = 0x3fe6_a09e_667f_3bcd;
    const ONE: u64 = 0x3ff0_0000_0000_0000;
    let bits = x.to_bits();
    // Biased exponent k + 1023 of the nearest power of two, in the low bits.
    let biased = bits.wrapping_add(ONE.wrapping_sub(ROOT_HALF)) >> 52;
    let m = f64::from_bits(bits.wrapping_sub(biased.wrapping_sub(1023) << 52));
    // Placed in the mantissa of 2⁵², a small whole number becomes a double without a conversion.
    let k = f64::from_bits(0x4330_0000_0000_0000 | biased) - (4_503_599_627_370_496.0 + 1023.0);
    let s = (m - 1.0) / (m + 1.0);
    let q = s * s;
    let mut series = 1.0 / 21.0;
    for d in [19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0] {
        series = series * q + 1.0 / d;
    }
    let ln_m = 2.0 * s + 2.0 * s * q * series;
    k * LN_2_HIGH + (ln_m + k * LN_2_LOW)
}

/// eˣ for |x| ≤ 700.
///
/// `x = n·ln 2 + r` with |r| ≤ ½ ln 2; the series of e^r is cut after r¹³/13!.
#[inline(always)]
pub(crate) fn exp(x: f64) -> f64 {
    // Adding 1.5·2⁵² rounds to a whole number and leaves it in the low bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let shifted = x * std::f64::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let mut series = 1.0 + r * (1.0 / 13.0);
    for d in [12.0, 11.0, 10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0] {
        series = 1.0 + r * (1.0 / d) * series;
    }
    f64::from_bits(series.to_bits().wrapping_add(shifted.to_bits() << 52))
}

/// Sine and cosine of `turns` full turns, for |turns| ≤ 2²⁰.
///
/// The angle is brought to within an eighth of a turn of a multiple q of a quarter turn; the
/// series there are cut after r¹⁵/15! and r¹⁶/16!.
#[inline(always)]
pub(crate) fn sin_cos_turns(turns: f64) -> (f64, f64) {
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let quarters = turns * 4.0;
    let shifted = quarters + ROUND;
    let r = (quarters - (shifted - ROUND)) * std::f64::consts::FRAC_PI_2;
    let q = shifted.to_bits();
    let r2 = r * r;
    let mut sin = 1.0;
    for d in [14.0 * 15.0, 12.0 * 13.0, 10.0 * 11.0, 8.0 * 9.0, 6.0 * 7.0, 4.0 * 5.0, 2.0 * 3.0] {
        sin = 1.0 - r2 * (1.0 / d) * sin;
    }
    let sin = r * sin;
    let mut cos = 1.0;
    for d in
        [15.0 * 16.0, 13.0 * 14.0, 11.0 * 12.0, 9.0 * 10.0, 7.0 * 8.0, 5.0 * 6.0, 3.0 * 4.0, 2.0]
    {
        cos = 1.0 - r2 * (1.0 / d) * cos;
    }
    let (s, c) = if q & 1 == 0 { (sin, cos) } else { (cos, sin) };
    // The sine is negative in quarters 2 and 3, the cosine in quarters 1 and 2.
    let flip = |x: f64, bit: u64| f64::from_bits(x.to_bits() ^ (bit & 2) << 62);
    (flip(s, q), flip(c, q.wrapping_add(1)))
}

/// The upper bits of ln 2, so that a multiple of it by a small whole number is exact.
const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
/// ln 2 minus its upper bits.
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn logarithm_and_exponential(x in 1e-300f64..1e300, y in -700.0f64..700.0) {
            let (found, exact) = (ln(x), libm::log(x));
            prop_assert!((found - exact).abs() <= 4e-16 * exact.abs().max(0.5), "ln {}", x);
            let near_one = 1.0 + x.fract() * 1e-3;
            prop_assert!((ln(near_one) - libm::log(near_one)).abs() <= 1e-18 + 4e-16 * 1e-3);
            let (found, exact) = (exp(y), libm::exp(y));
            prop_assert!((found - exact).abs() <= 1e-15 * exact, "exp {}", y);
        }

        #[test]
        fn sine_and_cosine(turns in -10.0f64..10.0) {
            let (sin, cos) = sin_cos_turns(turns);
            let angle = std::f64::consts::TAU * (turns - libm::round(turns));
            prop_assert!((sin - libm::sin(angle)).abs() <= 2e-15, "sin {}", turns);
            prop_assert!((cos - libm::cos(angle)).abs() <= 2e-15, "cos {}", turns);
        }
    }

    #[test]
    fn ends_and_quarters() {
        assert_eq!((ln(1.0), exp(0.0)), (0.0, 1.0));
        assert!(ln(0.0) < -700.0);
        let quarters: Vec<(f64, f64)> = (0..5).map(|k| sin_cos_turns(f64::from(k) / 4.0)).collect();
        assert_eq!(quarters, [(0.0, 1.0), (1.0, 0.0), (0.0, -1.0), (-1.0, 0.0), (0.0, 1.0)]);
    }
}
