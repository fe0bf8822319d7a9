//! Temporal effective batch normalisation (TEBN): batch normalisation over time, times one learned
//! factor p\[t\] a step; `w = p[t] γ[c]`, `b = p[t] β[c]`.
//!
//! C. Duan, J. Ding, S. Chen, Z. Yu, T. Huang, "Temporal Effective Batch Normalization in Spiking
//! Neural Networks", NeurIPS 2022.

use super::super::parameters::{Gradients, Kind, ParameterId, Parameters};
use super::{BatchNorm, PerStep};

/// Temporal effective batch normalisation.
#[derive(Clone, Copy, Debug)]
pub struct Tebn {
    /// γ and β.
    pub shared: BatchNorm,
    /// p, `[step]`, begins with 1.
    pub p: ParameterId,
}

impl Tebn {
    /// Fresh parameters `name.gamma`, `name.beta` and `name.p`.
    pub fn new(name: &str, [n_steps, n_channels]: [usize; 2], parameters: &mut Parameters) -> Self {
        let shared = BatchNorm::new(name, n_channels, parameters);
        let ones = vec![1.0; n_steps];
        Self { shared, p: parameters.add(format!("{name}.p"), &[n_steps], Kind::Norm, ones) }
    }

    /// w and b for the first `n_steps` steps.
    pub fn effective(&self, parameters: &Parameters, n_steps: usize) -> (PerStep, PerStep) {
        let (gamma, beta) = self.shared.effective(parameters);
        let p = parameters.get(self.p);
        let times_p = |v: &PerStep| {
            PerStep::from_fn(n_steps, v.n_channels(), |t, c| f64::from(p[t]) * v.at(t, c))
        };
        (times_p(&gamma), times_p(&beta))
    }

    /// `dγ[c] = Σ_t p dw`, `dβ[c] = Σ_t p db`, `dp[t] = Σ_c γ dw + β db`.
    pub fn gradients(
        &self,
        parameters: &Parameters,
        d_w: &PerStep,
        d_b: &PerStep,
        gradients: &mut Gradients,
    ) {
        let p = |t: usize| f64::from(parameters.get(self.p)[t]);
        let (n_steps, n_channels) = (d_w.n_steps, d_w.n_channels());
        let weighted = |d: &PerStep, c| (0..n_steps).map(|t| p(t) * d.at(t, c)).sum::<f64>();
        let channels = 0..n_channels;
        gradients.add(self.shared.gamma, channels.clone().map(|c| weighted(d_w, c)));
        gradients.add(self.shared.beta, channels.clone().map(|c| weighted(d_b, c)));
        let (gamma, beta) = self.shared.effective(parameters);
        let of_step = |t| {
            let of_channel = |c| gamma.at(0, c) * d_w.at(t, c) + beta.at(0, c) * d_b.at(t, c);
            channels.clone().map(of_channel).sum::<f64>()
        };
        gradients.add(self.p, (0..n_steps).map(of_step));
    }
}
