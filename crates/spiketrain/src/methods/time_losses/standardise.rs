//! Weight standardisation, and the transfer of its scale into the thresholds.
//!
//! For the n incoming weights w of every output channel, with mean μ, unbiased variance σ² and
//! learned scale g and shift b: `z = (w − μ)/r`, `r = √(σ² + ε)`, `W = g z + b`. Backward, with
//! `D = dL/dW`:
//!
//! - `dg = Σ D z`, `db = Σ D`
//! - `dw = g (D − mean D)/r − (w − μ)/((n − 1) r³) Σ g D (w − μ)`
//!
//! Dividing V, b and g of a channel by g leaves all spikes as they are ([`transfer`]), so that what
//! the optimiser does to the scale becomes a change of the threshold.

use rayon::prelude::*;

/// ε.
const EPSILON: f64 = 1e-5;

/// Channels whose sums are made side by side: the additions of one wait for each other, those of
/// several do not.
const SIDE_BY_SIDE: usize = 8;

/// N channels, and what stands beside their weights.
struct Channels<'a, const N: usize> {
    weights: [&'a [f32]; N],
    mean: [f64; N],
    /// r
    deviation: [f64; N],
}

impl<'a, const N: usize> Channels<'a, N> {
    fn new(weights: &'a [f32]) -> Self {
        let n = weights.len() / N;
        let weights = rows::<N>(weights);
        let mean = sums(n, |i, c| f64::from(weights[c][i])).map(|sum| sum / n as f64);
        let squares = sums(n, |i, c| (f64::from(weights[c][i]) - mean[c]).powi(2));
        let deviation = squares.map(|s| (s / (n as f64 - 1.0).max(1.0) + EPSILON).sqrt());
        Self { weights, mean, deviation }
    }

    fn standardise(&self, scale: &[f32], shift: &[f32], out: &mut [f32]) {
        let n = out.len() / N;
        for (c, out) in out.chunks_exact_mut(n).enumerate() {
            let (g, b) = (f64::from(scale[c]), f64::from(shift[c]));
            let (mean, r) = (self.mean[c], self.deviation[c]);
            for (out, &w) in out.iter_mut().zip(self.weights[c]) {
                *out = (g * (f64::from(w) - mean) / r + b) as f32;
            }
        }
    }

    fn gradients(&self, scale: &[f32], d: &mut [f32], d_scale: &mut [f32], d_shift: &mut [f32]) {
        let n = d.len() / N;
        let gradient = rows::<N>(d);
        let sum: [f64; N] = sums(n, |i, c| f64::from(gradient[c][i]));
        let product: [f64; N] = sums(n, |i, c| {
            f64::from(gradient[c][i]) * (f64::from(self.weights[c][i]) - self.mean[c])
        });
        for (c, d) in d.chunks_exact_mut(n).enumerate() {
            let (mean, r, g) = (self.mean[c], self.deviation[c], f64::from(scale[c]));
            d_scale[c] = (product[c] / r) as f32;
            d_shift[c] = sum[c] as f32;
            let mean_d = sum[c] / n as f64;
            let slope = product[c] / ((n as f64 - 1.0).max(1.0) * r * r);
            for (d, &w) in d.iter_mut().zip(self.weights[c]) {
                *d = (g / r * (f64::from(*d) - mean_d - slope * (f64::from(w) - mean))) as f32;
            }
        }
    }
}

/// The N rows of `values`.
fn rows<const N: usize>(values: &[f32]) -> [&[f32]; N] {
    let n = values.len() / N;
    std::array::from_fn(|c| &values[c * n..][..n])
}

/// N sums of `n` terms each, every one in the order of its terms.
#[inline(always)]
fn sums<const N: usize>(n: usize, term: impl Fn(usize, usize) -> f64) -> [f64; N] {
    let mut sums = [0.0; N];
    for i in 0..n {
        for (c, sum) in sums.iter_mut().enumerate() {
            *sum += term(i, c);
        }
    }
    sums
}

/// W of weights `[out, …]`; `scale` and `shift` have one value a channel.
pub fn standardise(weight: &[f32], scale: &[f32], shift: &[f32]) -> Vec<f32> {
    let n = weight.len() / scale.len();
    let mut out = vec![0.0; weight.len()];
    let parts = weight.par_chunks(SIDE_BY_SIDE * n).zip(out.par_chunks_mut(SIDE_BY_SIDE * n));
    let of_channel = scale.par_chunks(SIDE_BY_SIDE).zip(shift.par_chunks(SIDE_BY_SIDE));
    parts.zip(of_channel).for_each(|((weight, out), (scale, shift))| {
        if scale.len() == SIDE_BY_SIDE {
            Channels::<SIDE_BY_SIDE>::new(weight).standardise(scale, shift, out);
            return;
        }
        let channels = weight.chunks_exact(n).zip(out.chunks_exact_mut(n));
        for (c, (weight, out)) in channels.enumerate() {
            Channels::<1>::new(weight).standardise(&scale[c..], &shift[c..], out);
        }
    });
    out
}

/// Gradients with respect to scale and shift; `d`, the gradient with respect to W, becomes that
/// with respect to the weights.
pub fn gradients(weight: &[f32], scale: &[f32], d: &mut [f32]) -> [Vec<f32>; 2] {
    let n = weight.len() / scale.len();
    let [mut d_scale, mut d_shift] = [vec![0.0; scale.len()], vec![0.0; scale.len()]];
    let parts = weight.par_chunks(SIDE_BY_SIDE * n).zip(d.par_chunks_mut(SIDE_BY_SIDE * n));
    let results = d_scale.par_chunks_mut(SIDE_BY_SIDE).zip(d_shift.par_chunks_mut(SIDE_BY_SIDE));
    let of_channel = scale.par_chunks(SIDE_BY_SIDE).zip(results);
    parts.zip(of_channel).for_each(|((weight, d), (scale, (d_scale, d_shift)))| {
        if scale.len() == SIDE_BY_SIDE {
            Channels::<SIDE_BY_SIDE>::new(weight).gradients(scale, d, d_scale, d_shift);
            return;
        }
        let channels = weight.chunks_exact(n).zip(d.chunks_exact_mut(n));
        for (c, (weight, d)) in channels.enumerate() {
            let channel = Channels::<1>::new(weight);
            channel.gradients(&scale[c..], d, &mut d_scale[c..], &mut d_shift[c..]);
        }
    });
    [d_scale, d_shift]
}

/// Moves the scales into the thresholds: `V ← V/g`, `b ← b/g`, `g ← 1`. A scale that is not
/// positive stays, and its channel is returned.
pub fn transfer(threshold: &mut [f32], scale: &mut [f32], shift: &mut [f32]) -> Option<usize> {
    let mut wrong = None;
    for (c, g) in scale.iter_mut().enumerate() {
        if *g > 0.0 {
            threshold[c] /= *g;
            shift[c] /= *g;
            *g = 1.0;
        } else {
            wrong = Some(c);
        }
    }
    wrong
}
