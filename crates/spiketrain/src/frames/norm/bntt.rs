//! Batch normalisation through time (BNTT): statistics and a scale γ\[t,c\] of their own for every
//! step, no shift; `w = γ[t,c]`, `b = 0`.
//!
//! Y. Kim, P. Panda, "Revisiting Batch Normalization for Training Low-Latency Deep Spiking Neural
//! Networks From Scratch", Frontiers in Neuroscience 15:773954, 2021, arXiv 2010.01729.

use super::super::parameters::{Gradients, Kind, ParameterId, Parameters};
use super::PerStep;

/// Batch normalisation through time.
#[derive(Clone, Copy, Debug)]
pub struct Bntt {
    /// γ, `[step, channel]`, begins with 1.
    pub gamma: ParameterId,
}

impl Bntt {
    /// Fresh parameter `name.gamma`.
    pub fn new(name: &str, shape: [usize; 2], parameters: &mut Parameters) -> Self {
        let ones = vec![1.0; shape[0] * shape[1]];
        Self { gamma: parameters.add(format!("{name}.gamma"), &shape, Kind::Norm, ones) }
    }

    /// w and b for the first `n_steps` steps.
    pub fn effective(&self, parameters: &Parameters, n_steps: usize) -> (PerStep, PerStep) {
        let parameter = &parameters.list[self.gamma.0];
        let n_channels = parameter.shape[1];
        let gamma = |t: usize, c: usize| f64::from(parameter.values[t * n_channels + c]);
        (PerStep::from_fn(n_steps, n_channels, gamma), PerStep::zeros(1, n_channels))
    }

    /// `dγ[t,c] = dw[t,c]`.
    pub fn gradients(&self, d_w: &PerStep, gradients: &mut Gradients) {
        gradients.add(self.gamma, d_w.values.iter().copied());
    }
}
