//! Normalisations, one file each.
//!
//! Every one of them is an affine map of the normalised value, `out = w[t,c] x̂ + b[t,c]` with
//! `x̂ = (y − μ)/√(σ² + ε)`, c the channel. They differ in how w and b come from what is learned
//! and in whether μ and σ² are shared by all steps. A file says the first two things; the rest
//! stands here:
//!
//! - training: μ, σ² of the batch over samples, rows, columns (and steps, where shared), σ² biased;
//! - evaluation: running statistics `r ← (1 − m) r + m·batch`, the variance unbiased, m = 0.1;
//! - backward, with d = dL/dout and means over what the statistics were taken of:
//!   `dw = Σ d x̂`, `db = Σ d`, `dL/dy = (w d − mean(w d) − x̂ mean(w d x̂))/√(σ² + ε)`.

mod batch_norm;
mod bntt;
mod td_bn;
mod tebn;

pub use batch_norm::BatchNorm;
pub use bntt::Bntt;
pub use td_bn::TdBn;
pub use tebn::Tebn;

use super::parameters::{Gradients, Parameters};
use crate::check::Checks;
use crate::error::Result;
use crate::state::State;
use serde::{Deserialize, Serialize};

/// Added to every variance.
pub const EPSILON: f64 = 1e-5;
/// Share of a new batch in the running statistics.
pub const MOMENTUM: f64 = 0.1;

/// Which normalisation a network uses: `norm = { tebn = {} }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum NormKind {
    /// Batch normalisation over time.
    BatchNorm {},
    /// Threshold-dependent batch normalisation.
    TdBn {
        /// Factor α on the threshold.
        #[serde(default = "one")]
        alpha: f32,
    },
    /// Batch normalisation through time: statistics and scales of their own for every step.
    Bntt {},
    /// Temporal effective batch normalisation.
    Tebn {},
}

fn one() -> f32 {
    1.0
}

impl NormKind {
    /// What is wrong with the values.
    pub fn check(&self) -> Checks {
        let mut checks = Checks::default();
        if let NormKind::TdBn { alpha } = self {
            checks.positive("td-bn.alpha", f64::from(*alpha));
        }
        checks
    }
}

/// A value per step and channel, `[step, channel]`; one step stands for all where they are equal.
#[derive(Clone, Debug, PartialEq)]
pub struct PerStep {
    /// 1 or the number of steps.
    pub n_steps: usize,
    /// `[step, channel]`.
    pub values: Vec<f64>,
}

impl PerStep {
    /// Zeros.
    pub fn zeros(n_steps: usize, n_channels: usize) -> Self {
        Self { n_steps, values: vec![0.0; n_steps * n_channels] }
    }

    /// From `f(step, channel)`.
    pub fn from_fn(
        n_steps: usize,
        n_channels: usize,
        mut f: impl FnMut(usize, usize) -> f64,
    ) -> Self {
        let at = (0..n_steps).flat_map(|t| (0..n_channels).map(move |c| (t, c)));
        Self { n_steps, values: at.map(|(t, c)| f(t, c)).collect() }
    }

    /// Channels.
    pub fn n_channels(&self) -> usize {
        self.values.len() / self.n_steps
    }

    /// Value at step `t`.
    pub fn at(&self, t: usize, channel: usize) -> f64 {
        self.values[t % self.n_steps * self.n_channels() + channel]
    }
}

/// Mean and sum of squared deviations of a signal, per step and channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Values that each mean was taken of.
    pub count: f64,
    /// Mean.
    pub mean: PerStep,
    /// Sum of (value − mean)².
    pub deviation: PerStep,
}

impl Moments {
    /// The moments over all steps together (`n_steps` of them, where one stands for all).
    pub fn over_time(&self, n_steps: usize) -> Moments {
        let (stored, n_channels) = (self.mean.n_steps, self.mean.n_channels());
        let (mut mean, mut deviation) =
            (PerStep::zeros(1, n_channels), PerStep::zeros(1, n_channels));
        for c in 0..n_channels {
            let m = (0..stored).map(|t| self.mean.at(t, c)).sum::<f64>() / stored as f64;
            let within: f64 = (0..stored).map(|t| self.deviation.at(t, c)).sum();
            let between: f64 = (0..stored).map(|t| (self.mean.at(t, c) - m).powi(2)).sum();
            mean.values[c] = m;
            deviation.values[c] = (within + self.count * between) * n_steps as f64 / stored as f64;
        }
        Moments { count: self.count * n_steps as f64, mean, deviation }
    }

    /// Biased variance.
    pub fn variance(&self) -> PerStep {
        let values = self.deviation.values.iter().map(|d| d / self.count).collect();
        PerStep { n_steps: self.deviation.n_steps, values }
    }
}

/// Running statistics of one layer, `[step, channel]`, one step where all share them.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    /// Name in a checkpoint.
    pub name: String,
    /// 1 or the number of steps.
    pub n_steps: usize,
    /// Mean.
    pub mean: Vec<f32>,
    /// Variance.
    pub variance: Vec<f32>,
}

impl Running {
    /// Mean 0 and variance 1.
    pub fn new(name: String, n_steps: usize, n_channels: usize) -> Self {
        let n = n_steps * n_channels;
        Self { name, n_steps, mean: vec![0.0; n], variance: vec![1.0; n] }
    }

    /// Takes in a batch, with the unbiased variance.
    pub fn update(&mut self, moments: &Moments) {
        let mix = |old: &mut f32, new: f64| {
            *old = ((1.0 - MOMENTUM) * f64::from(*old) + MOMENTUM * new) as f32;
        };
        self.mean.iter_mut().zip(&moments.mean.values).for_each(|(r, &m)| mix(r, m));
        let n = (moments.count - 1.0).max(1.0);
        let pairs = self.variance.iter_mut().zip(&moments.deviation.values);
        pairs.for_each(|(r, &d)| mix(r, d / n));
    }

    /// As named arrays.
    pub fn put(&self, state: &mut State) {
        let shape = self.shape();
        state.put(&format!("{}.mean", self.name), &shape, self.mean.clone());
        state.put(&format!("{}.variance", self.name), &shape, self.variance.clone());
    }

    /// Puts back what [`Running::put`] gave.
    ///
    /// # Errors
    ///
    /// If an array is missing or does not fit.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        let shape = self.shape();
        self.mean = state.get(&format!("{}.mean", self.name), &shape)?.to_vec();
        self.variance = state.get(&format!("{}.variance", self.name), &shape)?.to_vec();
        Ok(())
    }

    fn shape(&self) -> [usize; 2] {
        [self.n_steps, self.mean.len() / self.n_steps]
    }
}

/// What a normalisation learns, and how w and b come from it.
#[derive(Clone, Copy, Debug)]
pub enum Learned {
    /// Batch normalisation over time.
    BatchNorm(BatchNorm),
    /// Threshold-dependent batch normalisation.
    TdBn(TdBn),
    /// Batch normalisation through time.
    Bntt(Bntt),
    /// Temporal effective batch normalisation.
    Tebn(Tebn),
}

/// The normalisation of one layer.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// Which one, and its parameters.
    pub learned: Learned,
    /// Channels.
    pub n_channels: usize,
    /// Index of its running statistics.
    pub running: usize,
}

/// A normalisation with its statistics put in: `out = scale·y + shift` per step and channel.
#[derive(Clone, Debug)]
pub struct Affine {
    /// w.
    pub w: PerStep,
    /// b.
    pub b: PerStep,
    /// μ.
    pub mean: PerStep,
    /// Mean of the input that gradients flow to through the statistics; differs from μ only where
    /// the statistics are of other values than the input.
    pub centre: PerStep,
    /// 1/√(σ² + ε).
    pub inverse: PerStep,
    /// Values that the statistics were taken of; none if they are the running ones.
    pub count: Option<f64>,
}

/// Backward coefficients: `dL/dy = d_out·d + centred·(y − centre) + constant`, centre the mean of y.
#[derive(Clone, Debug)]
pub struct Coefficients {
    /// Factor of dL/dout.
    pub d_out: PerStep,
    /// Factor of y − centre.
    pub centred: PerStep,
    /// Summand.
    pub constant: PerStep,
}

impl Norm {
    /// A normalisation with fresh parameters and statistics, named after the layer.
    pub fn new(
        kind: NormKind,
        name: &str,
        [n_steps, n_channels]: [usize; 2],
        threshold: f32,
        parameters: &mut Parameters,
        running: &mut Vec<Running>,
    ) -> Self {
        let learned = match kind {
            NormKind::BatchNorm {} => {
                Learned::BatchNorm(BatchNorm::new(name, n_channels, parameters))
            }
            NormKind::TdBn { alpha } => {
                Learned::TdBn(TdBn::new(name, n_channels, alpha * threshold, parameters))
            }
            NormKind::Bntt {} => Learned::Bntt(Bntt::new(name, [n_steps, n_channels], parameters)),
            NormKind::Tebn {} => Learned::Tebn(Tebn::new(name, [n_steps, n_channels], parameters)),
        };
        let kept = if matches!(learned, Learned::Bntt(_)) { n_steps } else { 1 };
        running.push(Running::new(name.to_owned(), kept, n_channels));
        Self { learned, n_channels, running: running.len() - 1 }
    }

    /// True if every step has statistics of its own.
    pub fn is_per_step(&self) -> bool {
        matches!(self.learned, Learned::Bntt(_))
    }

    /// w and b for `n_steps` steps, or for one that stands for all.
    fn effective(&self, parameters: &Parameters, n_steps: usize) -> (PerStep, PerStep) {
        match &self.learned {
            Learned::BatchNorm(norm) => norm.effective(parameters),
            Learned::TdBn(norm) => norm.effective(parameters),
            Learned::Bntt(norm) => norm.effective(parameters, n_steps),
            Learned::Tebn(norm) => norm.effective(parameters, n_steps),
        }
    }

    /// The moments that the statistics of a batch are taken from: those of a signal of `n_steps`
    /// steps, together or step by step.
    pub fn moments(&self, signal: Moments, n_steps: usize) -> Moments {
        if !self.is_per_step() {
            return signal.over_time(n_steps);
        }
        let spread = |v: &PerStep| PerStep::from_fn(n_steps, self.n_channels, |t, c| v.at(t, c));
        Moments { mean: spread(&signal.mean), deviation: spread(&signal.deviation), ..signal }
    }

    /// The affine map with the statistics of a batch.
    pub fn of_batch(&self, parameters: &Parameters, moments: &Moments, n_steps: usize) -> Affine {
        let (w, b) = self.effective(parameters, n_steps);
        let mut inverse = moments.variance();
        inverse.values.iter_mut().for_each(|v| *v = 1.0 / (*v + EPSILON).sqrt());
        let [mean, centre] = [(); 2].map(|()| moments.mean.clone());
        Affine { w, b, mean, centre, inverse, count: Some(moments.count) }
    }

    /// The affine map with running statistics: the layer in evaluation, to be folded into what
    /// stands before it.
    pub fn of_running(&self, parameters: &Parameters, running: &Running, n_steps: usize) -> Affine {
        let (w, b) = self.effective(parameters, n_steps);
        let wide = |v: &[f32]| PerStep {
            n_steps: running.n_steps,
            values: v.iter().copied().map(f64::from).collect(),
        };
        let mut inverse = wide(&running.variance);
        inverse.values.iter_mut().for_each(|v| *v = 1.0 / (*v + EPSILON).sqrt());
        let [mean, centre] = [(); 2].map(|()| wide(&running.mean));
        Affine { w, b, mean, centre, inverse, count: None }
    }

    /// Backward pass. `d` and `d_centred` are Σ dL/dout and Σ dL/dout·(y − μ) per step and channel;
    /// adds to the gradients of what is learned.
    pub fn backward(
        &self,
        parameters: &Parameters,
        affine: &Affine,
        d: &PerStep,
        d_centred: &PerStep,
        gradients: &mut Gradients,
    ) -> Coefficients {
        let (n_steps, n) = (d.n_steps, self.n_channels);
        let inverse = &affine.inverse;
        let d_w = PerStep::from_fn(n_steps, n, |t, c| d_centred.at(t, c) * inverse.at(t, c));
        match &self.learned {
            Learned::BatchNorm(norm) => norm.gradients(&d_w, d, gradients),
            Learned::TdBn(norm) => norm.gradients(&d_w, d, gradients),
            Learned::Bntt(norm) => norm.gradients(&d_w, gradients),
            Learned::Tebn(norm) => norm.gradients(parameters, &d_w, d, gradients),
        }
        let d_out = PerStep::from_fn(n_steps, n, |t, c| affine.w.at(t, c) * inverse.at(t, c));
        let Some(count) = affine.count else {
            let zeros = PerStep::zeros(1, n);
            return Coefficients { d_out, centred: zeros.clone(), constant: zeros };
        };
        // Mean of w·d and of w·d·x̂ over what the statistics were taken of.
        let mean = |sums: &PerStep| {
            let groups = if self.is_per_step() { n_steps } else { 1 };
            PerStep::from_fn(groups, n, |group, c| {
                let steps = if groups == 1 { 0..n_steps } else { group..group + 1 };
                steps.map(|t| affine.w.at(t, c) * sums.at(t, c)).sum::<f64>() / count
            })
        };
        let (mean_d, mean_dx) = (mean(d), mean(&d_w));
        let groups = mean_d.n_steps;
        let centred =
            PerStep::from_fn(groups, n, |t, c| -inverse.at(t, c).powi(2) * mean_dx.at(t, c));
        let constant = PerStep::from_fn(groups, n, |t, c| -inverse.at(t, c) * mean_d.at(t, c));
        Coefficients { d_out, centred, constant }
    }
}

impl Affine {
    /// Steps that differ: 1 if all are equal.
    pub fn n_steps(&self) -> usize {
        self.w.n_steps.max(self.mean.n_steps)
    }

    /// `scale[t,c] = w/√(σ² + ε)`.
    pub fn scale(&self) -> PerStep {
        PerStep::from_fn(self.n_steps(), self.w.n_channels(), |t, c| {
            self.w.at(t, c) * self.inverse.at(t, c)
        })
    }

    /// `shift[t,c] = b − w μ/√(σ² + ε)`.
    pub fn shift(&self) -> PerStep {
        PerStep::from_fn(self.n_steps(), self.w.n_channels(), |t, c| {
            self.b.at(t, c) - self.w.at(t, c) * self.mean.at(t, c) * self.inverse.at(t, c)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_over_time_are_those_of_all_values() {
        // Channel values 1, 2 at step 0 and 4, 9 at step 1.
        let per_step = |values: [f64; 2]| PerStep { n_steps: 2, values: values.to_vec() };
        let moments =
            Moments { count: 2.0, mean: per_step([1.5, 6.5]), deviation: per_step([0.5, 12.5]) };
        let all = moments.over_time(2);
        assert_eq!((all.count, all.mean.values[0], all.deviation.values[0]), (4.0, 4.0, 38.0));
        let one = Moments {
            count: 2.0,
            mean: PerStep { n_steps: 1, values: vec![1.5] },
            deviation: PerStep { n_steps: 1, values: vec![0.5] },
        };
        let all = one.over_time(3);
        assert_eq!((all.count, all.mean.values[0], all.deviation.values[0]), (6.0, 1.5, 1.5));
    }
}
