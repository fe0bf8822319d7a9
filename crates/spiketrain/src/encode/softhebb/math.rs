//! Functions of single values and of the channels at one position.
//!
//! Written in plain multiplications and additions, so that the compiler makes vectors of them and
//! every processor gives the same bits. Sums over channels run in 16 lanes, channel c in lane
//! c mod 16, and the lanes are added as a tree.

/// Lanes of a sum over channels.
const LANES: usize = 16;

/// eˣ for x from -87 to 88; beyond, the value at the end of that range, and below -87, 0.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2; Taylor series of eʳ to r⁷, whose remainder is 5·10⁻⁹.
/// Within 2 units in the last place.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// Adding it leaves no bits behind the binary point.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts; products of the first with small whole numbers are exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let inside = x.clamp(-87.0, 88.0);
    let shifted = inside * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (inside - n * LN_2[0]) - n * LN_2[1];
    let mut series = 1.0 / 5040.0;
    for inverse_factorial in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        series = series * r + inverse_factorial;
    }
    let exponent = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let scale = f32::from_bits(((exponent + 127) << 23) as u32);
    if x < -87.0 { 0.0 } else { series * scale }
}

/// ln x for normal x > 0.
///
/// x = 2ᵉ·m with m from √½ to √2; ln m = 2·artanh((m-1)/(m+1)), series to the ninth power, whose
/// remainder is 2·10⁻⁹ of the value.
#[inline(always)]
fn ln(x: f32) -> f32 {
    const SQRT_HALF: i32 = 0x3f35_04f3;
    let bits = x.to_bits() as i32;
    let e = bits.wrapping_sub(SQRT_HALF) >> 23;
    let m = f32::from_bits(bits.wrapping_sub(e << 23) as u32);
    let s = (m - 1.0) / (m + 1.0);
    let s2 = s * s;
    let series = (((s2 * (1.0 / 9.0) + 1.0 / 7.0) * s2 + 0.2) * s2 + 1.0 / 3.0) * s2 * s + s;
    e as f32 * std::f32::consts::LN_2 + 2.0 * series
}

/// xᵖ for p > 0; 0 where x is not above the smallest normal number.
///
/// The relative error is below (1 + |p·ln x|)·2⁻²².
#[inline(always)]
fn pow(x: f32, p: f32) -> f32 {
    let power = exp(p * ln(x.max(f32::MIN_POSITIVE)));
    if x > f32::MIN_POSITIVE { power } else { 0.0 }
}

/// Sum of `f` over the values, in lanes.
#[inline(always)]
fn sum(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    for chunk in values.chunks(LANES) {
        lanes.iter_mut().zip(chunk).for_each(|(l, &x)| *l += f(x));
    }
    let mut n = LANES;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            lanes[i] += lanes[i + n];
        }
    }
    lanes[0]
}

/// Triangle activation of the channels at one position, max(0, u - mean u)ᵖ.
pub(super) fn triangle(u: &[f32], power: f32, out: &mut [f32]) {
    let mean = sum(u, |x| x) / u.len() as f32;
    let pairs = out.iter_mut().zip(u);
    if power == 1.0 {
        pairs.for_each(|(o, &u)| *o = (u - mean).max(0.0));
    } else {
        pairs.for_each(|(o, &u)| *o = pow((u - mean).max(0.0), power));
    }
}

/// Soft winner-takes-all of the channels at one position, y = softmax(τ·u), negative (anti-
/// Hebbian) for all channels but the one with the largest u (the first of equals).
pub(super) fn soft_competition(u: &[f32], inverse_temperature: f32, y: &mut [f32]) {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in u.chunks(LANES) {
        lanes.iter_mut().zip(chunk).for_each(|(l, &x)| *l = l.max(x));
    }
    let max = lanes.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let winner = u.iter().position(|&x| x == max).unwrap_or(0);
    y.iter_mut().zip(u).for_each(|(y, &u)| *y = exp(inverse_temperature * (u - max)));
    let scale = -1.0 / sum(y, |x| x);
    y.iter_mut().for_each(|y| *y *= scale);
    y[winner] = -y[winner];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for i in 0..=1_750_000 {
            let x = -87.0 + i as f32 * 1e-4;
            let exact = libm::exp(f64::from(x));
            let unit = f64::from((exact as f32).next_up() - exact as f32);
            let error = (f64::from(exp(x)) - exact).abs() / unit;
            assert!(error <= 2.0, "exp({x}) is {error} units off");
        }
        assert_eq!((exp(0.0), exp(-88.0), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
    }

    #[test]
    fn pow_is_as_exact_as_promised() {
        for p in [0.3f32, 0.7, 1.4, 3.0] {
            for i in 1..200_000 {
                let x = i as f32 * 1e-3 * (i % 7) as f32 + 1e-6;
                let exact = libm::pow(f64::from(x), f64::from(p));
                let error = (f64::from(pow(x, p)) / exact - 1.0).abs();
                let bound =
                    (1.0 + libm::fabs(f64::from(p) * libm::log(f64::from(x)))) / 4_194_304.0;
                assert!(error <= bound, "{x}^{p}: {error}");
            }
            assert_eq!(pow(0.0, p), 0.0);
            assert_eq!(pow(1.0, p), 1.0);
        }
    }

    #[test]
    fn competition_sums_to_one_and_has_one_winner() {
        let u: Vec<f32> = (0..37).map(|i| ((i * 29) % 37) as f32 * 0.25).collect();
        let mut y = vec![0.0; 37];
        soft_competition(&u, 0.65, &mut y);
        let total: f64 = y.iter().map(|&y| f64::from(y.abs())).sum();
        assert!((total - 1.0).abs() < 1e-6, "{total}");
        let positive: Vec<usize> = (0..37).filter(|&i| y[i] > 0.0).collect();
        assert_eq!(positive, [u.iter().position(|&x| x == 9.0).unwrap()]);
        assert!((y[0] / y[positive[0]] + libm::expf(0.65 * (u[0] - 9.0))).abs() < 1e-6);
    }

    #[test]
    fn triangle_keeps_what_exceeds_the_mean() {
        let mut out = [0.0; 4];
        triangle(&[1.0, 2.0, 3.0, 6.0], 1.0, &mut out);
        assert_eq!(out, [0.0, 0.0, 0.0, 3.0]);
        triangle(&[1.0, 2.0, 3.0, 6.0], 0.7, &mut out);
        assert!((out[3] - libm::powf(3.0, 0.7)).abs() < 1e-6, "{out:?}");
    }
}
