//! Images at another size, by bilinear interpolation that averages when it shrinks.
//!
//! Along each axis, with n pixels in, m pixels out and the scale s = n/m, output pixel o has its
//! centre at c = (o + ½)s and is the weighted mean of the input pixels i with weights
//! `max(0, 1 − |i + ½ − c| / max(s, 1))`: a triangle that widens with the scale, so that no input
//! pixel is skipped. Rows and columns are treated one after the other.

use super::{FitEncoder, FittedEncoder, Tick};
use crate::check::Checks;
use crate::error::Result;
use crate::seed::Seed;
use crate::spikes::{Images, Inputs, Shape};
use crate::state::State;
use serde::{Deserialize, Serialize};

/// Parameters of `[encode.resize]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// Rows of the new images.
    pub height: usize,
    /// Columns of the new images.
    pub width: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self { height: 15, width: 15 }
    }
}

impl Params {
    /// What is wrong with the values.
    pub fn check(&self) -> Checks {
        let mut checks = Checks::default();
        checks.count("height", self.height, 1, 4096);
        checks.count("width", self.width, 1, 4096);
        checks
    }
}

#[derive(Debug)]
struct Resize {
    from: Shape,
    to: Shape,
}

/// The weights of one output pixel: the first input pixel and one weight each from there on.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

/// The weights of every output pixel along an axis, each pixel's summing to 1.
fn taps(n_in: usize, n_out: usize) -> Vec<Taps> {
    let scale = n_in as f64 / n_out as f64;
    let reach = scale.max(1.0);
    let of_pixel = |o: usize| {
        let centre = (o as f64 + 0.5) * scale;
        let first = (centre - reach).max(0.0) as usize;
        let end = ((centre + reach).ceil() as usize).min(n_in);
        let weight = |i: usize| (1.0 - (i as f64 + 0.5 - centre).abs() / reach).max(0.0);
        let sum: f64 = (first..end).map(weight).sum();
        Taps { first, weights: (first..end).map(|i| (weight(i) / sum) as f32).collect() }
    };
    (0..n_out).map(of_pixel).collect()
}

impl FittedEncoder for Resize {
    fn shape(&self) -> Shape {
        self.to
    }

    fn encode(&self, images: &Images, tick: Tick<'_>) -> Result<Inputs> {
        super::check_shape(images, self.from)?;
        let (from, to) = (self.from, self.to);
        let (columns, rows) = (taps(from.width, to.width), taps(from.height, to.height));
        let mut image = vec![0.0; from.len()];
        let mut narrow = vec![0.0; from.height * to.width];
        let mut pixels = Vec::with_capacity(images.len() * to.len());
        for part in super::parts(images.len()) {
            for i in part.clone() {
                images.read(i, &mut image);
                for channel in image.chunks_exact(from.height * from.width) {
                    let lines = channel.chunks_exact(from.width);
                    for (out, line) in narrow.chunks_exact_mut(to.width).zip(lines) {
                        for (o, t) in out.iter_mut().zip(&columns) {
                            let inputs = line[t.first..].iter();
                            *o = t.weights.iter().zip(inputs).map(|(w, x)| w * x).sum();
                        }
                    }
                    for t in &rows {
                        pixels.extend((0..to.width).map(|c| {
                            let inputs = narrow[t.first * to.width + c..].iter().step_by(to.width);
                            t.weights.iter().zip(inputs).map(|(w, x)| w * x).sum::<f32>()
                        }));
                    }
                }
            }
            tick(part.end as u64, images.len() as u64)?;
        }
        Ok(Inputs::Images(Images::from_floats(to, pixels)))
    }

    fn state(&self) -> State {
        State::new()
    }
}

impl FitEncoder for Params {
    fn fit(&self, train: &Images, _: Seed, _: Tick<'_>) -> Result<Box<dyn FittedEncoder>> {
        self.restore(train.shape, &State::new())
    }

    fn restore(&self, shape: Shape, _: &State) -> Result<Box<dyn FittedEncoder>> {
        let to = Shape::new(shape.channels, self.height, self.width);
        Ok(Box::new(Resize { from: shape, to }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resized(shape: Shape, pixels: Vec<f32>, height: usize, width: usize) -> Vec<f32> {
        let images = Images::from_floats(shape, pixels);
        let encoder = Params { height, width }.restore(shape, &State::new()).unwrap();
        let Inputs::Images(out) = encoder.encode(&images, &mut |_, _| Ok(())).unwrap() else {
            panic!("images")
        };
        let mut values = vec![0.0; out.shape.len()];
        out.read(0, &mut values);
        values
    }

    #[test]
    fn the_same_size_changes_nothing() {
        let pixels: Vec<f32> = (0..24).map(|i| i as f32).collect();
        assert_eq!(resized(Shape::new(2, 3, 4), pixels.clone(), 3, 4), pixels);
    }

    #[test]
    fn a_constant_stays_and_brightness_is_kept() {
        let grey = resized(Shape::new(1, 28, 28), vec![0.25; 784], 15, 15);
        assert!(grey.iter().all(|x| (x - 0.25).abs() < 1e-6));
        let mut dot = vec![0.0; 784];
        dot[14 * 28 + 13] = 1.0;
        let sum: f32 = resized(Shape::new(1, 28, 28), dot, 15, 15).iter().sum();
        assert!((sum - 225.0 / 784.0).abs() < 0.02, "{sum}");
    }

    /// Halving weighs four pixels 1, 3, 3, 1 inside; doubling weighs two 3, 1 or 1, 3.
    #[test]
    fn weights_of_halving_and_doubling() {
        let out = resized(Shape::new(1, 1, 8), (0..8).map(|i| (i * i) as f32).collect(), 1, 4);
        let inside = |a: f32, b: f32, c: f32, d: f32| (a + 3.0 * b + 3.0 * c + d) / 8.0;
        assert!((out[1] - inside(1.0, 4.0, 9.0, 16.0)).abs() < 1e-5, "{out:?}");
        assert!((out[2] - inside(9.0, 16.0, 25.0, 36.0)).abs() < 1e-5, "{out:?}");
        let out = resized(Shape::new(1, 1, 2), vec![0.0, 4.0], 1, 4);
        assert_eq!(out, [0.0, 1.0, 3.0, 4.0]);
    }
}
