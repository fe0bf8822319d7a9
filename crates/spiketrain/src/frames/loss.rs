//! Losses of the outputs of every step.
//!
//! Outputs are `[time, sample, class]`. A loss is the mean over the samples; its gradient is with
//! respect to the outputs, in their layout.

use crate::check::Checks;
use serde::{Deserialize, Serialize};

/// A loss by name: `loss = { tet = { weight = 0.0, target = 1.0 } }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Loss {
    /// Cross-entropy of the outputs averaged over time.
    CrossEntropy {},
    /// Temporal efficient training: `(1 − λ) mean_t CE(z[t], y) + λ mean (z[t] − φ)²` (S. Deng, Y.
    /// Li, S. Zhang, S. Gu, ICLR 2022, arXiv 2202.11946).
    Tet {
        /// λ.
        weight: f32,
        /// φ.
        target: f32,
    },
    /// Mean over classes of the squared difference of the mean output over time (the firing rate,
    /// where outputs are spikes) and its target: `of_label` for the label, `of_others` else.
    MeanSquare {
        /// Target of the label's output.
        of_label: f32,
        /// Target of all others.
        of_others: f32,
    },
}

/// Value of a loss and its gradient.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// Mean over the samples.
    pub value: f64,
    /// Gradient, `[time, sample, class]`.
    pub gradient: Vec<f32>,
}

impl Loss {
    /// What is wrong with the values.
    pub fn check(&self) -> Checks {
        let mut c = Checks::default();
        match *self {
            Loss::CrossEntropy {} => {}
            Loss::Tet { weight, target } => {
                c.within("tet.weight", f64::from(weight), 0.0, 1.0);
                c.finite("tet.target", f64::from(target));
            }
            Loss::MeanSquare { of_label, of_others } => {
                c.finite("mean-square.of_label", f64::from(of_label));
                c.finite("mean-square.of_others", f64::from(of_others));
            }
        }
        c
    }

    /// The loss of `outputs`, `[time, sample, class]`.
    pub fn evaluate(&self, outputs: &[f32], n_steps: usize, labels: &[u16]) -> Evaluated {
        match *self {
            Loss::CrossEntropy {} => of_mean(outputs, n_steps, labels, cross_entropy),
            Loss::Tet { weight, target } => tet(outputs, n_steps, labels, weight, target),
            Loss::MeanSquare { of_label, of_others } => {
                of_mean(outputs, n_steps, labels, |z, label, d| {
                    square(z, label, of_label, of_others, d)
                })
            }
        }
    }
}

/// Outputs averaged over time, `[sample, class]`.
pub fn mean_over_time(outputs: &[f32], n_steps: usize) -> Vec<f32> {
    let mut mean = super::activation::sum_steps(outputs, n_steps);
    mean.iter_mut().for_each(|m| *m /= n_steps as f32);
    mean
}

/// −log softmax(z)\[label\], of one sample; `d` becomes the gradient.
pub fn cross_entropy(z: &[f32], label: usize, d: &mut [f32]) -> f64 {
    let max = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for (d, &z) in d.iter_mut().zip(z) {
        *d = libm::expf(z - max);
        sum += f64::from(*d);
    }
    let scale = (1.0 / sum) as f32;
    d.iter_mut().for_each(|d| *d *= scale);
    d[label] -= 1.0;
    libm::log(sum) - f64::from(z[label] - max)
}

/// A loss of the mean over time, sample by sample.
fn of_mean(
    outputs: &[f32],
    n_steps: usize,
    labels: &[u16],
    loss: impl Fn(&[f32], usize, &mut [f32]) -> f64,
) -> Evaluated {
    let mean = mean_over_time(outputs, n_steps);
    let mut d = vec![0.0; mean.len()];
    let n_classes = mean.len() / labels.len();
    let rows = mean.chunks_exact(n_classes).zip(d.chunks_exact_mut(n_classes));
    let value: f64 = rows.zip(labels).map(|((z, d), &y)| loss(z, usize::from(y), d)).sum();
    let scale = 1.0 / (labels.len() * n_steps) as f32;
    d.iter_mut().for_each(|d| *d *= scale);
    Evaluated { value: value / labels.len() as f64, gradient: d.repeat(n_steps) }
}

fn tet(outputs: &[f32], n_steps: usize, labels: &[u16], weight: f32, target: f32) -> Evaluated {
    let mut gradient = vec![0.0; outputs.len()];
    let n_classes = outputs.len() / n_steps / labels.len();
    let rows = outputs.chunks_exact(n_classes).zip(gradient.chunks_exact_mut(n_classes));
    let n = (labels.len() * n_steps) as f32;
    let (mut entropy, mut squares) = (0.0, 0.0);
    for ((z, d), &y) in rows.zip(labels.iter().cycle()) {
        entropy += cross_entropy(z, usize::from(y), d);
        for (d, &z) in d.iter_mut().zip(z) {
            squares += f64::from(z - target).powi(2);
            *d = ((1.0 - weight) * *d + weight * 2.0 * (z - target) / n_classes as f32) / n;
        }
    }
    let (weight, n) = (f64::from(weight), f64::from(n));
    let value = ((1.0 - weight) * entropy + weight * squares / n_classes as f64) / n;
    Evaluated { value, gradient }
}

fn square(z: &[f32], label: usize, of_label: f32, of_others: f32, d: &mut [f32]) -> f64 {
    let n = z.len() as f32;
    let mut sum = 0.0;
    for (class, (d, &z)) in d.iter_mut().zip(z).enumerate() {
        let error = z - if class == label { of_label } else { of_others };
        *d = 2.0 * error / n;
        sum += f64::from(error * error);
    }
    sum / f64::from(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    #[test]
    fn gradients_are_those_of_the_values() {
        let losses = [
            Loss::CrossEntropy {},
            Loss::Tet { weight: 0.0, target: 0.0 },
            Loss::Tet { weight: 0.3, target: 1.0 },
            Loss::MeanSquare { of_label: 0.9, of_others: 0.1 },
        ];
        let (n_steps, labels) = (3, [2u16, 0]);
        let mut stream = Seed(5).stream("loss", 0);
        let z: Vec<f32> = (0..n_steps * 2 * 4).map(|_| stream.normal(0.0, 1.5) as f32).collect();
        for loss in losses {
            let gradient = loss.evaluate(&z, n_steps, &labels).gradient;
            for i in 0..z.len() {
                let at = |step: f32| {
                    let mut z = z.clone();
                    z[i] += step;
                    loss.evaluate(&z, n_steps, &labels).value
                };
                let numeric = (at(0.02) - at(-0.02)) / 0.04;
                let ours = f64::from(gradient[i]);
                assert!((ours - numeric).abs() < 2e-5, "{loss:?} {i}: {ours} against {numeric}");
            }
        }
    }

    #[test]
    fn losses_at_one_step_agree() {
        let (z, labels) = ([0.3, -1.0, 2.0], [1u16]);
        let mean = Loss::CrossEntropy {}.evaluate(&z, 1, &labels);
        let tet = Loss::Tet { weight: 0.0, target: 0.0 }.evaluate(&z, 1, &labels);
        assert_eq!((mean.value, mean.gradient), (tet.value, tet.gradient));
    }
}
