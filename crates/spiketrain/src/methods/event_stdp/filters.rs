//! What the weights look like.

use super::params::Code;
use crate::metrics::gabor::{self, Gabor};
use rayon::prelude::*;

/// Statistics of the weights, all in one sum over `weights[[neuron, input]]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WeightStatistics {
    /// Mean weight.
    pub mean: f64,
    /// Standard deviation of the weights.
    pub deviation: f64,
    /// Share of weights above 0.9.
    pub above_09: f64,
    /// Share of weights below 0.1.
    pub below_01: f64,
    /// Mean cosine of all pairs of filters; 0 with one neuron.
    pub cosine: f64,
}

impl WeightStatistics {
    /// Of `weights[[neuron, input]]`.
    pub fn of(weights: &[f64], n_inputs: usize) -> Self {
        let n = weights.len() as f64;
        let mean = weights.iter().sum::<f64>() / n;
        let variance = weights.iter().map(|w| (w - mean) * (w - mean)).sum::<f64>() / n;
        let share = |f: fn(&f64) -> bool| weights.iter().filter(|w| f(w)).count() as f64 / n;
        let rows: Vec<&[f64]> = weights.chunks_exact(n_inputs).collect();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        let norms: Vec<f64> =
            rows.iter().map(|r| dot(r, r).sqrt().max(f64::MIN_POSITIVE)).collect();
        let (mut sum, mut n_pairs) = (0.0, 0u64);
        for i in 0..rows.len() {
            for j in 0..i {
                sum += dot(rows[i], rows[j]) / (norms[i] * norms[j]);
                n_pairs += 1;
            }
        }
        Self {
            mean,
            deviation: variance.sqrt(),
            above_09: share(|w| *w > 0.9),
            below_01: share(|w| *w < 0.1),
            cosine: sum / n_pairs.max(1) as f64,
        }
    }
}

/// The filter of one neuron as a picture: weights, or on minus off.
pub(super) fn picture(code: Code, weights: &[f64]) -> Vec<f64> {
    match code {
        Code::Intensity | Code::Grey => weights.to_vec(),
        Code::OnOff => {
            let (on, off) = weights.split_at(weights.len() / 2);
            on.iter().zip(off).map(|(a, b)| a - b).collect()
        }
    }
}

/// Gabor functions fitted to the first channel of every filter of side `size`; none for constant
/// filters.
pub(super) fn fit_gabor(
    code: Code,
    weights: &[f64],
    n_inputs: usize,
    size: usize,
) -> Vec<Option<Gabor>> {
    let filters: Vec<&[f64]> = weights.chunks_exact(n_inputs).collect();
    let fit = |w: &&[f64]| gabor::fit(&picture(code, w)[..size * size], size, size);
    filters.par_iter().map(fit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_two_filters() {
        let s = WeightStatistics::of(&[1.0, 0.0, 0.5, 0.5], 2);
        assert_eq!((s.mean, s.above_09, s.below_01), (0.5, 0.25, 0.25));
        assert!((s.deviation - 0.125f64.sqrt()).abs() < 1e-15);
        assert!((s.cosine - 0.5f64.sqrt()).abs() < 1e-15);
    }
}
