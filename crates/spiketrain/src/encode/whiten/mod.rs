//! Whitening: of whole images by their spectrum (the encoder), and filters from patches.
//!
//! Natural images have amplitudes that fall off as one over the frequency. The encoder multiplies
//! the spectrum of an image less its mean by
//!
//! ```text
//! H(ρ) = ρ · exp(−(ρ/ρ₀)⁴)
//! ```
//!
//! with ρ the length of the frequency vector, and divides by the standard deviation (B. A.
//! Olshausen, D. J. Field, "Sparse coding with an overcomplete basis set: a strategy employed by
//! V1?", Vision Research 37:3311–3325, 1997, with ρ₀ = 0.4 cycles per pixel). Every channel of
//! every image is treated by itself.

mod patches;

pub use patches::filters;

use super::{FitEncoder, FittedEncoder, Tick};
use crate::check::Checks;
use crate::error::Result;
use crate::seed::Seed;
use crate::spikes::{Images, Inputs, Shape};
use crate::state::State;
use rayon::prelude::*;
use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlannerScalar};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Parameters of `[encode.whiten]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// Frequency ρ₀ above which the spectrum is suppressed, in cycles per pixel.
    pub cutoff: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self { cutoff: 0.4 }
    }
}

impl Params {
    /// What is wrong with the values.
    pub fn check(&self) -> Checks {
        let mut checks = Checks::default();
        checks.positive("cutoff", self.cutoff);
        checks
    }
}

struct Whiten {
    shape: Shape,
    /// Along a row, forth and back.
    rows: [Arc<dyn Fft<f64>>; 2],
    /// Along a column, forth and back.
    columns: [Arc<dyn Fft<f64>>; 2],
    /// H over the number of pixels, `[column, row]`.
    gains: Vec<f64>,
}

impl Whiten {
    fn new(shape: Shape, cutoff: f64) -> Self {
        let Shape { height, width, .. } = shape;
        // Plain arithmetic: the same bits on every machine.
        let mut planner = FftPlannerScalar::new();
        let mut both = |n| [planner.plan_fft_forward(n), planner.plan_fft_inverse(n)];
        let (rows, columns) = (both(width), both(height));
        let frequency = |k: usize, n: usize| k.min(n - k) as f64 / n as f64;
        let n_pixels = (height * width) as f64;
        let gain = |x: usize, y: usize| {
            let rho = libm::hypot(frequency(x, width), frequency(y, height));
            rho * libm::exp(-libm::pow(rho / cutoff, 4.0)) / n_pixels
        };
        let gains = (0..width).flat_map(|x| (0..height).map(move |y| gain(x, y))).collect();
        Self { shape, rows, columns, gains }
    }

    /// Whitens one channel `[row, column]` in place; a constant one becomes 0.
    fn apply(&self, channel: &mut [f32]) {
        let (height, width) = (self.shape.height, self.shape.width);
        let mean = channel.iter().map(|&v| f64::from(v)).sum::<f64>() / channel.len() as f64;
        let mut spectrum: Vec<Complex<f64>> =
            channel.iter().map(|&v| Complex::new(f64::from(v) - mean, 0.0)).collect();
        self.rows[0].process(&mut spectrum);
        let mut turned = transposed(&spectrum, width);
        self.columns[0].process(&mut turned);
        turned.iter_mut().zip(&self.gains).for_each(|(z, gain)| *z *= gain);
        self.columns[1].process(&mut turned);
        spectrum = transposed(&turned, height);
        self.rows[1].process(&mut spectrum);
        // The mean is 0, since H(0) is.
        let variance = spectrum.iter().map(|z| z.re * z.re).sum::<f64>() / channel.len() as f64;
        let scale = if variance > 1e-20 { 1.0 / libm::sqrt(variance) } else { 0.0 };
        channel.iter_mut().zip(&spectrum).for_each(|(v, z)| *v = (z.re * scale) as f32);
    }
}

/// A matrix with rows of `width` values, columns for rows.
fn transposed(matrix: &[Complex<f64>], width: usize) -> Vec<Complex<f64>> {
    let height = matrix.len() / width;
    (0..width).flat_map(|x| (0..height).map(move |y| matrix[y * width + x])).collect()
}

impl FittedEncoder for Whiten {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn encode(&self, images: &Images, tick: Tick<'_>) -> Result<Inputs> {
        super::check_shape(images, self.shape)?;
        let n = self.shape.len();
        let mut values = vec![0.0f32; n * images.len()];
        for part in super::parts(images.len()) {
            let pixels = &mut values[part.start * n..part.end * n];
            pixels.par_chunks_exact_mut(n).zip(part.clone()).for_each(|(image, i)| {
                images.read(i, image);
                let area = self.shape.height * self.shape.width;
                image.chunks_exact_mut(area).for_each(|channel| self.apply(channel));
            });
            tick(part.end as u64, images.len() as u64)?;
        }
        Ok(Inputs::Images(Images::from_floats(self.shape, values)))
    }

    fn state(&self) -> State {
        State::new()
    }
}

impl FitEncoder for Params {
    fn fit(&self, train: &Images, _: Seed, _: Tick<'_>) -> Result<Box<dyn FittedEncoder>> {
        Ok(Box::new(Whiten::new(train.shape, self.cutoff)))
    }

    fn restore(&self, shape: Shape, _: &State) -> Result<Box<dyn FittedEncoder>> {
        Ok(Box::new(Whiten::new(shape, self.cutoff)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    fn whiten(shape: Shape, pixels: Vec<f32>) -> Vec<f32> {
        let images = Images::from_floats(shape, pixels);
        let encoder = Params::default().fit(&images, Seed(0), &mut |_, _| Ok(())).unwrap();
        let encoded = encoder.encode(&images, &mut |_, _| Ok(())).unwrap();
        let again = Params::default().restore(shape, &encoder.state()).unwrap();
        assert_eq!(again.encode(&images, &mut |_, _| Ok(())).unwrap(), encoded);
        let mut out = vec![0.0; shape.len()];
        encoded.as_images().read(0, &mut out);
        out
    }

    #[test]
    fn every_wave_is_multiplied_by_the_filter() {
        let shape = Shape::new(1, 24, 32);
        // Waves of 3/32 cycles per pixel along x, and of (2/32, 6/24) cycles per pixel.
        let waves = |a: f64, b: f64| -> Vec<f32> {
            let wave = |i: usize| {
                let (x, y) = ((i % 32) as f64, (i / 32) as f64);
                let first = libm::cos(TAU * 3.0 / 32.0 * x + 0.4);
                let second = libm::sin(TAU * (2.0 / 32.0 * x + 6.0 / 24.0 * y));
                (a * first + b * second) as f32
            };
            (0..shape.len()).map(wave).collect()
        };
        let input: Vec<f32> = waves(2.0, 5.0).iter().map(|v| v + 7.0).collect();
        let gain = |rho: f64| rho * libm::exp(-libm::pow(rho / 0.4, 4.0));
        let a = 2.0 * gain(3.0 / 32.0);
        let b = 5.0 * gain(libm::hypot(2.0 / 32.0, 0.25));
        let deviation = libm::sqrt(0.5 * (a * a + b * b));
        let expected = waves(a / deviation, b / deviation);
        for (x, e) in whiten(shape, input).iter().zip(expected) {
            assert!((x - e).abs() < 1e-5, "{x} {e}");
        }
    }

    #[test]
    fn nothing_to_whiten_is_nothing() {
        assert_eq!(whiten(Shape::new(1, 7, 5), vec![0.3; 35]), [0.0; 35]);
    }
}
