//! Threshold-dependent batch normalisation (tdBN): batch normalisation over time whose output is
//! scaled to the threshold, `w = αθ γ[c]`, `b = β[c]`.
//!
//! H. Zheng, Y. Wu, L. Deng, Y. Hu, G. Li, "Going Deeper With Directly-Trained Larger Spiking
//! Neural Networks", AAAI 2021, arXiv 2011.05280.

use super::super::parameters::{Gradients, Parameters};
use super::batch_norm::over_steps;
use super::{BatchNorm, PerStep};

/// Threshold-dependent batch normalisation.
#[derive(Clone, Copy, Debug)]
pub struct TdBn {
    /// γ and β.
    pub learned: BatchNorm,
    /// αθ; α is 1 on a path of its own and 1/√2 where two paths are added.
    pub target: f32,
}

impl TdBn {
    /// Fresh parameters.
    pub fn new(name: &str, n_channels: usize, target: f32, parameters: &mut Parameters) -> Self {
        Self { learned: BatchNorm::new(name, n_channels, parameters), target }
    }

    /// w and b, the same at every step.
    pub fn effective(&self, parameters: &Parameters) -> (PerStep, PerStep) {
        let (mut w, b) = self.learned.effective(parameters);
        w.values.iter_mut().for_each(|w| *w *= f64::from(self.target));
        (w, b)
    }

    /// `dγ = αθ Σ_t dw`, `dβ = Σ_t db`.
    pub fn gradients(&self, d_w: &PerStep, d_b: &PerStep, gradients: &mut Gradients) {
        let target = f64::from(self.target);
        gradients.add(self.learned.gamma, over_steps(d_w).map(|d| target * d));
        gradients.add(self.learned.beta, over_steps(d_b));
    }
}
