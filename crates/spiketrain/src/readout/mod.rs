//! Small classifiers of vectors, to say how much a learned representation tells about the class:
//! nearest neighbours, multinomial logistic regression, a perceptron with one hidden layer.
//!
//! They are fitted once, after a method has learned, and give the same bits on any number of
//! threads.

mod logistic;
mod mlp;
mod neighbours;

pub use logistic::Logistic;
pub use mlp::{Mlp, Output};
pub use neighbours::NearestNeighbours;

use crate::error::Result;
use crate::state::State;

/// Mean 0 and standard deviation 1 per dimension, as found in a training set.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaling {
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

impl Scaling {
    /// Means and deviations of `points[[sample]][[dimension]]`; a dimension that is constant but
    /// for roundings has deviation 1.
    pub fn fit(points: &[f64], n_dimensions: usize) -> Self {
        let n = (points.len() / n_dimensions) as f64;
        let moment = |f: &dyn Fn(usize, f64) -> f64| {
            let mut sums = vec![0.0; n_dimensions];
            for row in points.chunks_exact(n_dimensions) {
                sums.iter_mut().zip(row).enumerate().for_each(|(d, (s, &x))| *s += f(d, x));
            }
            sums.into_iter().map(|s| s / n).collect::<Vec<f64>>()
        };
        let mean = moment(&|_, x| x);
        let variance = moment(&|d, x| (x - mean[d]) * (x - mean[d]));
        // The mean of n equal values differs from them by at most n/2 units in the last place.
        let deviation = |(v, m): (f64, &f64)| match libm::sqrt(v) {
            d if d > n * f64::EPSILON * m.abs() => d,
            _ => 1.0,
        };
        Self { deviation: variance.into_iter().zip(&mean).map(deviation).collect(), mean }
    }

    /// Number of dimensions.
    pub fn n_dimensions(&self) -> usize {
        self.mean.len()
    }

    /// Scales one or more points.
    pub fn apply(&self, points: &[f64]) -> Vec<f32> {
        let row = |row: &[f64]| -> Vec<f32> {
            let scaled = row.iter().zip(&self.mean).zip(&self.deviation);
            scaled.map(|((x, m), d)| ((x - m) / d) as f32).collect()
        };
        points.chunks_exact(self.mean.len()).flat_map(row).collect()
    }

    /// Means and deviations.
    pub fn state(&self) -> State {
        let mut state = State::new();
        let n = [self.mean.len()];
        state.put("mean", &n, self.mean.clone());
        state.put("deviation", &n, self.deviation.clone());
        state
    }

    /// Puts back what [`Scaling::state`] gave.
    ///
    /// # Errors
    ///
    /// If an array is missing or does not fit.
    pub fn restored(state: &State, n_dimensions: usize) -> Result<Self> {
        let list = |name: &str| Ok(state.get::<f64>(name, &[n_dimensions])?.to_vec());
        Ok(Self { mean: list("mean")?, deviation: list("deviation")? })
    }
}

/// The first of the largest values.
fn largest<T: PartialOrd + Copy>(values: &[T]) -> usize {
    (1..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

#[cfg(test)]
mod tests;
