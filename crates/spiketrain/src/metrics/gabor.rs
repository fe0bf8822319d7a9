//! How well a filter is described by a Gabor function (J. G. Daugman, J. Opt. Soc. Am. A 2:1160,
//! 1985; fitted to receptive fields by J. P. Jones and L. A. Palmer, J. Neurophysiol. 58:1233,
//! 1987).
//!
//! ```text
//! g(x, y) = exp(−½ [u²/σ_u² + v²/σ_v²]) · (a cos(k u) + b sin(k u)) + c
//! u =  (x − x₀) cos ψ + (y − y₀) sin ψ
//! v = −(x − x₀) sin ψ + (y − y₀) cos ψ
//! ```
//!
//! Least squares by the method of Levenberg and Marquardt (D. W. Marquardt, J. SIAM 11:431, 1963)
//! from the best of a fixed set of starting points, at which a, b and c are solved for. Lengths
//! are in pixels. The centre stays inside the filter, σ between half a pixel and the filter's
//! side, k between 0 and π.

use nalgebra::{SMatrix, SVector};
use std::f64::consts::PI;

/// x₀, y₀, ψ, k, ln σ_u, ln σ_v, a, b, c.
type Point = SVector<f64, 9>;
type Square = SMatrix<f64, 9, 9>;

/// Starting points from which the fit is followed to its end.
const N_STARTS: usize = 6;
/// Steps of one fit at most.
const N_STEPS: usize = 60;

/// A fitted Gabor function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gabor {
    /// Column and row of the centre.
    pub centre: [f64; 2],
    /// Direction of the wave, in radians from the direction of columns.
    pub orientation: f64,
    /// Wave number, in radians per pixel.
    pub wave_number: f64,
    /// Widths of the envelope, along and across the wave.
    pub widths: [f64; 2],
    /// Share of the filter's variance that the function explains.
    pub r_squared: f64,
}

/// Fits a Gabor function to `filter[[row, column]]`; none if the filter is constant.
pub fn fit(filter: &[f64], height: usize, width: usize) -> Option<Gabor> {
    assert_eq!(filter.len(), height * width, "a filter fills its shape");
    let n = filter.len() as f64;
    let mean = filter.iter().sum::<f64>() / n;
    let total: f64 = filter.iter().map(|w| (w - mean) * (w - mean)).sum();
    if total <= 1e-24 * n {
        return None;
    }
    let problem = Problem { filter, height, width };
    let mut starts = problem.starts(mean);
    starts.sort_by(|a, b| a.0.total_cmp(&b.0));
    let ends = starts.iter().take(N_STARTS).map(|(_, start)| problem.descend(*start));
    let (error, p) = ends.min_by(|a, b| a.0.total_cmp(&b.0)).expect("there are starts");
    Some(Gabor {
        centre: [p[0], p[1]],
        orientation: p[2],
        wave_number: p[3],
        widths: [libm::exp(p[4]), libm::exp(p[5])],
        r_squared: 1.0 - error / total,
    })
}

struct Problem<'a> {
    filter: &'a [f64],
    height: usize,
    width: usize,
}

impl Problem<'_> {
    fn pixels(&self) -> impl Iterator<Item = (f64, f64, f64)> {
        let place = |i: usize| ((i % self.width) as f64, (i / self.width) as f64);
        self.filter.iter().enumerate().map(move |(i, &w)| (place(i).0, place(i).1, w))
    }

    /// Starting points with their squared errors: centres where the filter's energy lies,
    /// orientations, wave numbers and widths on a grid.
    fn starts(&self, mean: f64) -> Vec<(f64, Point)> {
        let side = self.height.min(self.width) as f64;
        let mut starts = Vec::new();
        for (x, y) in self.centres(mean, side) {
            for orientation in (0..8).map(|i| f64::from(i) * PI / 8.0) {
                for wave_number in [0.5, 1.0, 1.5, 2.5, 4.0].map(|waves| 2.0 * PI * waves / side) {
                    for sigma in [side / 8.0, side / 4.0].map(libm::log) {
                        let mut p = Point::zeros();
                        p[0] = x;
                        p[1] = y;
                        p[2] = orientation;
                        p[3] = wave_number;
                        p[4] = sigma;
                        p[5] = sigma;
                        self.clamp(&mut p);
                        starts.push((self.solve_linear(&mut p), p));
                    }
                }
            }
        }
        starts
    }

    /// The centre of the filter's energy, and where its smoothed energy is largest.
    fn centres(&self, mean: f64, side: f64) -> Vec<(f64, f64)> {
        let energy = |w: f64| (w - mean) * (w - mean);
        let total: f64 = self.pixels().map(|(_, _, w)| energy(w)).sum();
        let x = self.pixels().map(|(x, _, w)| x * energy(w)).sum::<f64>() / total;
        let y = self.pixels().map(|(_, y, w)| y * energy(w)).sum::<f64>() / total;
        let radius = (side / 8.0).max(1.0);
        let nearby = |x: f64, y: f64| {
            let weigh = |(px, py, w): (f64, f64, f64)| {
                let distance = (px - x) * (px - x) + (py - y) * (py - y);
                energy(w) * libm::exp(-distance / (2.0 * radius * radius))
            };
            self.pixels().map(weigh).sum::<f64>()
        };
        let smoothed = self.pixels().map(|(x, y, _)| (nearby(x, y), x, y));
        let peak = smoothed.max_by(|a, b| a.0.total_cmp(&b.0)).expect("there are pixels");
        vec![(x, y), (peak.1, peak.2)]
    }

    /// Puts the best a, b and c into `p` and returns the squared error.
    fn solve_linear(&self, p: &mut Point) -> f64 {
        let mut normal = SMatrix::<f64, 3, 3>::identity() * 1e-9;
        let mut right = SVector::<f64, 3>::zeros();
        let function = Function::new(p);
        for (x, y, w) in self.pixels() {
            let wave = function.at(x, y);
            let basis =
                SVector::<f64, 3>::new(wave.envelope * wave.cos, wave.envelope * wave.sin, 1.0);
            normal += basis * basis.transpose();
            right += basis * w;
        }
        if let Some(best) = normal.cholesky().map(|c| c.solve(&right)) {
            p.fixed_rows_mut::<3>(6).copy_from(&best);
        }
        self.error(p)
    }

    fn error(&self, p: &Point) -> f64 {
        let function = Function::new(p);
        self.pixels().map(|(x, y, w)| function.value(x, y) - w).map(|e| e * e).sum()
    }

    /// Follows Levenberg and Marquardt's way down from `p`; returns squared error and point.
    fn descend(&self, mut p: Point) -> (f64, Point) {
        let mut error = self.error(&p);
        let mut damping = 1e-2;
        for _ in 0..N_STEPS {
            let mut normal = Square::zeros();
            let mut right = Point::zeros();
            let function = Function::new(&p);
            for (x, y, w) in self.pixels() {
                let (value, gradient) = function.gradient(x, y);
                normal.ger(1.0, &gradient, &gradient, 1.0);
                right += gradient * (w - value);
            }
            let mut gained = 0.0;
            while damping < 1e8 {
                let mut damped = normal;
                (0..9).for_each(|i| damped[(i, i)] += damping * (normal[(i, i)] + 1e-9));
                let step = damped.cholesky().map(|c| c.solve(&right));
                let mut next = p + step.unwrap_or_else(Point::zeros);
                self.clamp(&mut next);
                let e = self.error(&next);
                if e < error {
                    gained = error - e;
                    (p, error) = (next, e);
                    damping *= 0.2;
                    break;
                }
                damping *= 5.0;
            }
            if gained <= 1e-7 * error {
                break;
            }
        }
        (error, p)
    }

    fn clamp(&self, p: &mut Point) {
        let longest = self.height.max(self.width) as f64;
        p[0] = p[0].clamp(0.0, self.width as f64 - 1.0);
        p[1] = p[1].clamp(0.0, self.height as f64 - 1.0);
        p[3] = p[3].clamp(0.0, PI);
        p[4] = p[4].clamp(libm::log(0.5), libm::log(longest));
        p[5] = p[5].clamp(libm::log(0.5), libm::log(longest));
    }
}

/// What all pixels share.
struct Function<'a> {
    p: &'a Point,
    /// sin ψ and cos ψ.
    turn: (f64, f64),
    /// 1/σ_u², 1/σ_v².
    precision: [f64; 2],
}

/// The function's parts at one pixel.
struct Wave {
    u: f64,
    v: f64,
    envelope: f64,
    sin: f64,
    cos: f64,
}

impl<'a> Function<'a> {
    fn new(p: &'a Point) -> Self {
        let precision = [libm::exp(-2.0 * p[4]), libm::exp(-2.0 * p[5])];
        Self { p, turn: libm::sincos(p[2]), precision }
    }

    fn at(&self, x: f64, y: f64) -> Wave {
        let (sin, cos) = self.turn;
        let (dx, dy) = (x - self.p[0], y - self.p[1]);
        let (u, v) = (dx * cos + dy * sin, dy * cos - dx * sin);
        let exponent = u * u * self.precision[0] + v * v * self.precision[1];
        let (sin, cos) = libm::sincos(self.p[3] * u);
        Wave { u, v, envelope: libm::exp(-0.5 * exponent), sin, cos }
    }

    fn value(&self, x: f64, y: f64) -> f64 {
        let wave = self.at(x, y);
        wave.envelope * (self.p[6] * wave.cos + self.p[7] * wave.sin) + self.p[8]
    }

    /// Value and derivatives with respect to the nine parameters.
    fn gradient(&self, x: f64, y: f64) -> (f64, Point) {
        let (p, precision) = (self.p, self.precision);
        let Wave { u, v, envelope, sin, cos } = self.at(x, y);
        let wave = envelope * (p[6] * cos + p[7] * sin);
        let slope = envelope * (p[7] * cos - p[6] * sin);
        let along = p[3] * slope - u * precision[0] * wave;
        let across = -v * precision[1] * wave;
        let (s, c) = self.turn;
        let gradient = [
            across * s - along * c,
            -along * s - across * c,
            along * v - across * u,
            u * slope,
            u * u * precision[0] * wave,
            v * v * precision[1] * wave,
            envelope * cos,
            envelope * sin,
            1.0,
        ];
        (wave + p[8], Point::from(gradient))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;

    fn sample(p: &Point, side: usize) -> Vec<f64> {
        let place = |i: usize| ((i % side) as f64, (i / side) as f64);
        (0..side * side).map(|i| Function::new(p).value(place(i).0, place(i).1)).collect()
    }

    #[test]
    fn derivatives_are_those_of_central_differences() {
        let p = Point::from([3.2, 4.1, 0.7, 0.9, 0.8, 1.1, 0.6, -0.4, 0.2]);
        for (x, y) in [(1.0, 5.0), (4.0, 4.0), (6.0, 2.0)] {
            let gradient = Function::new(&p).gradient(x, y).1;
            for i in 0..9 {
                let value = |h: f64| {
                    let mut q = p;
                    q[i] += h;
                    Function::new(&q).value(x, y)
                };
                let expected = (value(1e-6) - value(-1e-6)) / 2e-6;
                assert!((gradient[i] - expected).abs() < 1e-8, "{i}: {} {expected}", gradient[i]);
            }
        }
    }

    #[test]
    fn a_gabor_function_is_found_again() {
        for (i, orientation) in [0.3, 1.2, 2.6].into_iter().enumerate() {
            let p = Point::from([6.5, 8.2, orientation, 0.9, 0.9, 1.2, 0.5, 0.3 * i as f64, 0.5]);
            let found = fit(&sample(&p, 16), 16, 16).unwrap();
            assert!(found.r_squared > 0.999, "{found:?}");
            assert!((found.wave_number - 0.9).abs() < 0.01, "{found:?}");
            assert!((found.centre[0] - 6.5).abs() < 0.05, "{found:?}");
        }
        assert_eq!(fit(&[0.5; 36], 6, 6), None);
    }

    #[test]
    fn white_noise_is_no_gabor_function() {
        let mut r: Vec<f64> = (0..15)
            .map(|i| {
                let mut stream = Seed(5).stream("test", i);
                let noise: Vec<f64> = (0..256).map(|_| stream.normal(0.0, 1.0)).collect();
                fit(&noise, 16, 16).unwrap().r_squared
            })
            .collect();
        r.sort_by(f64::total_cmp);
        assert!((0.02..0.15).contains(&r[7]), "{r:?}");
    }
}
