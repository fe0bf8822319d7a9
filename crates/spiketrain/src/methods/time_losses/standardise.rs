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

/// ε.
const EPSILON: f64 = 1e-5;

/// Mean μ and r of one channel's weights.
fn moments(weight: &[f32]) -> (f64, f64) {
    let n = weight.len() as f64;
    let mean = weight.iter().map(|&w| f64::from(w)).sum::<f64>() / n;
    let squares: f64 = weight.iter().map(|&w| (f64::from(w) - mean).powi(2)).sum();
    (mean, (squares / (n - 1.0).max(1.0) + EPSILON).sqrt())
}

/// W of weights `[out, …]`; `scale` and `shift` have one value a channel.
pub fn standardise(weight: &[f32], scale: &[f32], shift: &[f32]) -> Vec<f32> {
    let n = weight.len() / scale.len();
    let mut out = Vec::with_capacity(weight.len());
    for ((weight, &g), &b) in weight.chunks_exact(n).zip(scale).zip(shift) {
        let (mean, r) = moments(weight);
        let (g, b) = (f64::from(g), f64::from(b));
        out.extend(weight.iter().map(|&w| (g * (f64::from(w) - mean) / r + b) as f32));
    }
    out
}

/// Gradients with respect to scale and shift; `d`, the gradient with respect to W, becomes that
/// with respect to the weights.
pub fn gradients(weight: &[f32], scale: &[f32], d: &mut [f32]) -> [Vec<f32>; 2] {
    let n = weight.len() / scale.len();
    let [mut d_scale, mut d_shift] = [Vec::new(), Vec::new()];
    for ((weight, d), &g) in weight.chunks_exact(n).zip(d.chunks_exact_mut(n)).zip(scale) {
        let ((mean, r), g) = (moments(weight), f64::from(g));
        let (mut sum, mut product) = (0.0, 0.0);
        for (&w, &d) in weight.iter().zip(&*d) {
            sum += f64::from(d);
            product += f64::from(d) * (f64::from(w) - mean);
        }
        d_scale.push((product / r) as f32);
        d_shift.push(sum as f32);
        let (mean_d, slope) = (sum / n as f64, product / ((n as f64 - 1.0).max(1.0) * r * r));
        for (d, &w) in d.iter_mut().zip(weight) {
            *d = (g / r * (f64::from(*d) - mean_d - slope * (f64::from(w) - mean))) as f32;
        }
    }
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
