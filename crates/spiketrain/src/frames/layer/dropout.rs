//! Dropout: units are silenced with probability p, the others scaled by 1/(1 − p); only in
//! training. One draw a unit for all steps of a sample, or one for every step.

use super::super::signal::{Gradient, Signal};
use super::{Context, Phase};
use std::sync::Arc;

/// Dropout of one layer.
#[derive(Clone, Debug)]
pub struct Dropout {
    /// p, from 0 to below 1.
    pub rate: f32,
    /// True if every step draws anew.
    pub is_per_step: bool,
    /// Name of its draws.
    pub purpose: String,
    /// Values of one image.
    pub len: usize,
}

impl Dropout {
    /// Factors of sample `n` of a batch, `[time, unit]` or `[unit]`; none in evaluation.
    fn factors(&self, n: usize, context: &Context<'_>) -> Option<Vec<f32>> {
        let Phase::Training { seed, first } = context.phase else { return None };
        let mut stream = seed.stream(&self.purpose, first + n as u64);
        let n_draws = if self.is_per_step { context.n_steps * self.len } else { self.len };
        let kept = 1.0 / (1.0 - self.rate);
        let factor = || if stream.chance(self.rate) { 0.0 } else { kept };
        Some(std::iter::repeat_with(factor).take(n_draws).collect())
    }

    /// Multiplies `[time, sample, unit]` by the factors.
    fn multiply(&self, values: &mut [f32], context: &Context<'_>) {
        let n_samples = values.len() / self.len / context.n_steps;
        for n in 0..n_samples {
            let Some(factors) = self.factors(n, context) else { return };
            for t in 0..context.n_steps {
                let of_step = &factors[t * self.len % factors.len()..][..self.len];
                let image = &mut values[(t * n_samples + n) * self.len..][..self.len];
                image.iter_mut().zip(of_step).for_each(|(v, f)| *v *= f);
            }
        }
    }

    /// Values times factors; in evaluation the input as it is.
    pub fn forward(&self, input: Arc<Signal>, context: &Context<'_>) -> Arc<Signal> {
        if self.rate == 0.0 || matches!(context.phase, Phase::Evaluation) {
            return input;
        }
        let like = Signal { data: super::Data::Values(Vec::new()), ..*input };
        let mut values = Arc::unwrap_or_clone(input).into_values();
        self.multiply(&mut values, context);
        Arc::new(Signal { data: super::Data::Values(values), ..like })
    }

    /// Gradient times factors.
    pub fn backward(&self, mut d: Gradient, context: &Context<'_>) -> Gradient {
        if self.rate > 0.0 {
            self.multiply(&mut d, context);
        }
        d
    }
}
