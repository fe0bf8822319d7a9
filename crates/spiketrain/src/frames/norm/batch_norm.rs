//! Batch normalisation over time: one set of statistics, one scale γ and one shift β a channel for
//! all steps; `w = γ[c]`, `b = β[c]`.
//!
//! S. Ioffe, C. Szegedy, "Batch Normalization", ICML 2015, arXiv 1502.03167, with time as one more
//! axis that statistics are taken over.

use super::super::parameters::{Gradients, Kind, ParameterId, Parameters};
use super::PerStep;

/// Batch normalisation over time.
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm {
    /// γ, `[channel]`, begins with 1.
    pub gamma: ParameterId,
    /// β, `[channel]`, begins with 0.
    pub beta: ParameterId,
}

impl BatchNorm {
    /// Fresh parameters `name.gamma` and `name.beta`.
    pub fn new(name: &str, n_channels: usize, parameters: &mut Parameters) -> Self {
        let mut add = |what: &str, value: f32| {
            let name = format!("{name}.{what}");
            parameters.add(name, &[n_channels], Kind::Norm, vec![value; n_channels])
        };
        Self { gamma: add("gamma", 1.0), beta: add("beta", 0.0) }
    }

    /// w and b, the same at every step.
    pub fn effective(&self, parameters: &Parameters) -> (PerStep, PerStep) {
        let wide = |id| {
            let values: &[f32] = parameters.get(id);
            PerStep { n_steps: 1, values: values.iter().copied().map(f64::from).collect() }
        };
        (wide(self.gamma), wide(self.beta))
    }

    /// `dγ = Σ_t dw`, `dβ = Σ_t db`.
    pub fn gradients(&self, d_w: &PerStep, d_b: &PerStep, gradients: &mut Gradients) {
        gradients.add(self.gamma, over_steps(d_w));
        gradients.add(self.beta, over_steps(d_b));
    }
}

/// Sum over the steps, `[channel]`.
pub(super) fn over_steps(d: &PerStep) -> impl Iterator<Item = f64> {
    (0..d.n_channels()).map(|c| (0..d.n_steps).map(|t| d.at(t, c)).sum())
}
