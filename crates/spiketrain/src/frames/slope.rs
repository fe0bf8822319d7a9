//! Surrogate slopes h(a), a = u − θ: what stands in for the derivative of the step function.

use crate::check::Checks;
use crate::simd::{LANES, Vector};
use serde::{Deserialize, Serialize};

/// A slope, by name and width: `slope = { triangle = { width = 1.0 } }`.
///
/// | name | h(a) |
/// | --- | --- |
/// | triangle | max(0, γ − \|a\|)/γ², γ = `width` |
/// | rectangle | 1/(2γ) where \|a\| < γ, else 0, γ = `width` |
/// | sigmoid | α q(1 − q), q = 1/(1 + exp(−αa)), α = `steepness` |
/// | atan | (α/2)/(1 + (παa/2)²), α = `steepness` |
/// | fast-sigmoid | 1/(1 + α\|a\|)², α = `steepness` |
/// | gaussian | exp(−a²/2σ²)/(σ√2π), σ = `deviation` |
///
/// E. O. Neftci, H. Mostafa, F. Zenke, "Surrogate Gradient Learning in Spiking Neural Networks",
/// IEEE Signal Processing Magazine 36(6), 2019, arXiv 1901.09948. All but the fast sigmoid have
/// area 1. Where a membrane is not a number, neither is its slope, so that training stops there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Slope {
    /// A tent.
    Triangle {
        /// Half of its base, γ.
        width: f32,
    },
    /// A box.
    Rectangle {
        /// Half of its base, γ.
        width: f32,
    },
    /// Derivative of a logistic curve.
    Sigmoid {
        /// α.
        steepness: f32,
    },
    /// Derivative of an arc tangent.
    Atan {
        /// α.
        steepness: f32,
    },
    /// Derivative of x/(1 + |x|).
    FastSigmoid {
        /// α.
        steepness: f32,
    },
    /// A normal density.
    Gaussian {
        /// σ.
        deviation: f32,
    },
}

impl Slope {
    /// What is wrong with the values.
    pub fn check(&self) -> Checks {
        let mut checks = Checks::default();
        let (field, value) = match *self {
            Slope::Triangle { width } => ("triangle.width", width),
            Slope::Rectangle { width } => ("rectangle.width", width),
            Slope::Sigmoid { steepness } => ("sigmoid.steepness", steepness),
            Slope::Atan { steepness } => ("atan.steepness", steepness),
            Slope::FastSigmoid { steepness } => ("fast-sigmoid.steepness", steepness),
            Slope::Gaussian { deviation } => ("gaussian.deviation", deviation),
        };
        checks.positive(field, f64::from(value));
        checks
    }

    /// `out[i] = h(u[i] − threshold)`.
    #[inline(always)]
    pub fn write(&self, u: &[f32], threshold: f32, out: &mut [f32]) {
        #[inline(always)]
        fn each(u: &[f32], threshold: f32, out: &mut [f32], h: impl Fn(f32) -> f32) {
            out.iter_mut().zip(u).for_each(|(o, &u)| *o = h(u - threshold));
        }
        match *self {
            Slope::Triangle { width } => {
                let scale = 1.0 / (width * width);
                each(u, threshold, out, |a| {
                    let inside = width - a.abs();
                    if inside <= 0.0 { 0.0 } else { inside * scale }
                });
            }
            Slope::Rectangle { width } => {
                let height = 0.5 / width;
                each(u, threshold, out, |a| {
                    let outside = if a.is_nan() { a } else { 0.0 };
                    if a.abs() < width { height } else { outside }
                });
            }
            Slope::Sigmoid { steepness } => each(u, threshold, out, |a| {
                let e = exp(-(steepness * a).abs());
                steepness * e / ((1.0 + e) * (1.0 + e))
            }),
            Slope::Atan { steepness } => {
                let k = std::f32::consts::FRAC_PI_2 * steepness;
                each(u, threshold, out, |a| 0.5 * steepness / (1.0 + (k * a) * (k * a)));
            }
            Slope::FastSigmoid { steepness } => each(u, threshold, out, |a| {
                let d = 1.0 + steepness * a.abs();
                1.0 / (d * d)
            }),
            Slope::Gaussian { deviation } => {
                let k = -0.5 / (deviation * deviation);
                let height = 0.398_942_3 / deviation;
                each(u, threshold, out, |a| height * exp(k * a * a));
            }
        }
    }

    /// h(u − threshold) of blocks in registers.
    #[inline(always)]
    pub(crate) fn blocks<V: Vector, const N: usize>(&self, u: [V; N], threshold: f32) -> [V; N] {
        let (mut h, zero, at) = (u, V::splat(0.0), V::splat(threshold));
        match *self {
            Slope::Triangle { width } => {
                let (scale, width) = (V::splat(1.0 / (width * width)), V::splat(width));
                for b in 0..N {
                    let inside = width.minus(u[b].minus(at).abs());
                    h[b] = inside.at_most(zero, zero, inside.times(scale));
                }
            }
            Slope::Rectangle { width } => {
                let (height, width) = (V::splat(0.5 / width), V::splat(width));
                let infinity = V::splat(f32::INFINITY);
                for b in 0..N {
                    let distance = u[b].minus(at).abs();
                    let slope = width.at_most(distance, zero, height);
                    h[b] = distance.at_most(infinity, slope, distance);
                }
            }
            _ => {
                for b in 0..N {
                    let (mut membranes, mut slopes) = ([0.0; LANES], [0.0; LANES]);
                    u[b].write(&mut membranes);
                    self.write(&membranes, threshold, &mut slopes);
                    h[b] = V::read(&slopes);
                }
            }
        }
        h
    }

    /// h(u − threshold) of one value.
    pub fn at(&self, u: f32, threshold: f32) -> f32 {
        let mut out = [0.0];
        self.write(&[u], threshold, &mut out);
        out[0]
    }
}

/// e^x for x ≤ 0, in operations that vectorise and are the same on every machine; relative error
/// below 3·10⁻⁷; below −87 what it is there, 1.6·10⁻³⁸.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// 1.5·2²³: adding it rounds to whole numbers.
    const ROUND: f32 = 12_582_912.0;
    // In this order NaN stays NaN.
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts, so that the remainder is exact.
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let p = 1.0 / 720.0 + r * (1.0 / 5040.0);
    let p = 1.0 / 120.0 + r * p;
    let p = 1.0 / 24.0 + r * p;
    let p = 1.0 / 6.0 + r * p;
    let p = 0.5 + r * p;
    let p = 1.0 + r * (1.0 + r * p);
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    p * power
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Slope; 6] = [
        Slope::Triangle { width: 0.7 },
        Slope::Rectangle { width: 0.5 },
        Slope::Sigmoid { steepness: 4.0 },
        Slope::Atan { steepness: 2.0 },
        Slope::FastSigmoid { steepness: 5.0 },
        Slope::Gaussian { deviation: 0.4 },
    ];

    #[test]
    fn exponential_is_accurate() {
        let mut x = -86.9f32;
        while x <= 0.0 {
            let (ours, exact) = (f64::from(exp(x)), libm::exp(f64::from(x)));
            assert!((ours / exact - 1.0).abs() < 3e-7, "exp({x}) = {ours}, is {exact}");
            x += 0.013;
        }
        assert_eq!(exp(0.0), 1.0);
        let least = exp(-87.0);
        assert!((f64::from(least) / libm::exp(-87.0) - 1.0).abs() < 3e-7);
        assert_eq!([-87.1, -1e9, f32::NEG_INFINITY].map(exp), [least; 3]);
    }

    #[test]
    fn slopes_keep_what_is_not_a_number() {
        for slope in ALL {
            assert!(slope.at(f32::NAN, 1.0).is_nan(), "{slope:?}");
        }
    }

    #[test]
    fn slopes_are_even_and_have_area_one() {
        for slope in ALL {
            let step = 1e-3;
            let grid = (0..200_000).map(|i| (i as f32 + 0.5) * step);
            let area: f64 = grid.map(|a| f64::from(slope.at(a, 0.0))).sum::<f64>() * 2e-3;
            let expected = if let Slope::FastSigmoid { steepness } = slope {
                2.0 / f64::from(steepness)
            } else {
                1.0
            };
            assert!((area - expected).abs() < 3e-3, "{slope:?}: area {area}");
            assert_eq!(slope.at(1.25, 1.0), slope.at(0.75, 1.0), "{slope:?}");
            assert!(slope.at(1.0, 1.0) >= slope.at(1.2, 1.0), "{slope:?}");
        }
    }
}
