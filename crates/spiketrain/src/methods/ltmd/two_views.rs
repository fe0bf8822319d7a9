//! The loss of two views of a batch.
//!
//! With z₁, z₂ the outputs `[sample, class]` averaged over time and p = softmax z:
//!
//! `L = ½ (CE(z₁, y) + CE(z₂, y)) + ½ KL`,
//! `KL = ½ (mean_{b,c} p₂ (log p₂ − log p₁) + mean_{b,c} p₁ (log p₁ − log p₂))`.
//!
//! `dL/dz₁ = ½ (p₁ − y)/B + 1/(4BC) [(p₁ − p₂) + p₁ (l − Σ_c p₁ l)]`, `l = log p₁ − log p₂`; for
//! z₂ with the views exchanged.

/// Value and gradients.
#[derive(Clone, Debug)]
pub struct TwoViews {
    /// CE(z₁, y) and CE(z₂, y), means over the samples.
    pub cross_entropies: [f64; 2],
    /// KL.
    pub divergence: f64,
    /// dL/dz₁ and dL/dz₂, `[sample, class]`.
    pub gradients: [Vec<f32>; 2],
}

/// log softmax.
fn log_softmax(z: &[f32]) -> Vec<f64> {
    let max = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shifted = z.iter().map(|&z| f64::from(z - max));
    let log_sum = libm::log(shifted.clone().map(libm::exp).sum());
    shifted.map(|z| z - log_sum).collect()
}

impl TwoViews {
    /// The loss of `z`, each `[sample, class]`.
    pub fn new(z: [&[f32]; 2], labels: &[u16]) -> Self {
        let n_classes = z[0].len() / labels.len();
        let n_samples = labels.len() as f64;
        let of_all = 1.0 / (n_samples * n_classes as f64);
        let mut loss = Self {
            cross_entropies: [0.0; 2],
            divergence: 0.0,
            gradients: [0, 1].map(|_| Vec::with_capacity(z[0].len())),
        };
        let rows = z[0].chunks_exact(n_classes).zip(z[1].chunks_exact(n_classes));
        for ((z1, z2), &label) in rows.zip(labels) {
            let logs = [log_softmax(z1), log_softmax(z2)];
            for (own, other) in [(0, 1), (1, 0)] {
                let p = |view: usize, c: usize| libm::exp(logs[view][c]);
                let l = |c: usize| logs[own][c] - logs[other][c];
                let mean_l: f64 = (0..n_classes).map(|c| p(own, c) * l(c)).sum();
                loss.cross_entropies[own] -= logs[own][usize::from(label)] / n_samples;
                loss.divergence += 0.5 * of_all * mean_l;
                for c in 0..n_classes {
                    let y = f64::from(u8::from(c == usize::from(label)));
                    let (p1, p2) = (p(own, c), p(other, c));
                    let of_kl = (p1 - p2) + p1 * (l(c) - mean_l);
                    let d = 0.5 * (p1 - y) / n_samples + 0.25 * of_all * of_kl;
                    loss.gradients[own].push(d as f32);
                }
            }
        }
        loss
    }

    /// L.
    pub fn value(&self) -> f64 {
        0.5 * (self.cross_entropies[0] + self.cross_entropies[1]) + 0.5 * self.divergence
    }
}
