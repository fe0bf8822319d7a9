//! Learning-rate schedules: a factor for every step, the same for all methods.
//!
//! A method multiplies its learning rates by [`Ctx::rate`](crate::learner::Ctx). Rules that anneal
//! by themselves ignore it and leave the schedule constant.

use crate::check::Checks;
use serde::{Deserialize, Serialize};

/// Share of the newest of `n` values in a running mean with forgetting β: `max(1 − β, 1/n)`, so that
/// the first few count alike.
pub(crate) fn share_of_newest(forgetting: f64, n: u64) -> f64 {
    (1.0 - forgetting).max(1.0 / n as f64)
}

/// How the learning rate changes from epoch to epoch: `[train.schedule.cosine]`.
///
/// With e the epoch (from 0) and E their number, the factor is
///
/// - constant: 1
/// - exponential: `decay^e`
/// - step: `factor^k`, k = number of `epochs` that are not above e
/// - cosine: `floor + (1 − floor)·(1 + cos(π e/E))/2` (I. Loshchilov, F. Hutter, "SGDR: Stochastic
///   Gradient Descent with Warm Restarts", ICLR 2017, arXiv 1608.03983, without restarts)
/// - linear: `1 − (1 − floor)·e/E`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// No change.
    Constant {},
    /// The same factor after every epoch.
    Exponential {
        /// The factor.
        decay: f64,
    },
    /// A factor at chosen epochs.
    Step {
        /// Epochs, ascending, at which the rate is multiplied.
        epochs: Vec<u64>,
        /// The factor.
        factor: f64,
    },
    /// Half a cosine from 1 down to the floor.
    Cosine {
        /// Factor that the last epoch tends to.
        #[serde(default)]
        floor: f64,
    },
    /// A straight line from 1 down to the floor.
    Linear {
        /// Factor that the last epoch tends to.
        #[serde(default)]
        floor: f64,
    },
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule::Constant {}
    }
}

impl Schedule {
    /// Factor of the learning rate in `epoch` (from 0) of `n_epochs`.
    pub fn factor(&self, epoch: u64, n_epochs: u64) -> f64 {
        let progress = epoch as f64 / n_epochs.max(1) as f64;
        match self {
            Schedule::Constant {} => 1.0,
            Schedule::Exponential { decay } => libm::pow(*decay, epoch as f64),
            Schedule::Step { epochs, factor } => {
                libm::pow(*factor, epochs.iter().filter(|&&e| e <= epoch).count() as f64)
            }
            Schedule::Cosine { floor } => {
                floor + (1.0 - floor) * 0.5 * (1.0 + libm::cos(std::f64::consts::PI * progress))
            }
            Schedule::Linear { floor } => 1.0 - (1.0 - floor) * progress,
        }
    }

    /// What is wrong with the values.
    pub fn check(&self) -> Checks {
        let mut checks = Checks::default();
        match self {
            Schedule::Constant {} => {}
            Schedule::Exponential { decay } => {
                checks.within("exponential.decay", *decay, 1e-6, 1.0);
            }
            Schedule::Step { epochs, factor } => {
                let listed = format!("{epochs:?}");
                checks.that(epochs.is_sorted(), "step.epochs", listed, "ascending epochs");
                checks.within("step.factor", *factor, 1e-6, 1.0);
            }
            Schedule::Cosine { floor } => checks.within("cosine.floor", *floor, 0.0, 1.0),
            Schedule::Linear { floor } => checks.within("linear.floor", *floor, 0.0, 1.0),
        }
        checks
    }
}

/// Factor of a linear warm-up over the first `n_epochs` epochs, growing with every step: the
/// first step of `n_batches` an epoch has 1/(n_epochs·n_batches), the last of the warm-up 1.
pub fn warm_up(n_epochs: u64, epoch: u64, batch: u64, n_batches: u64) -> f64 {
    let n_steps = n_epochs.saturating_mul(n_batches);
    let step = epoch.saturating_mul(n_batches).saturating_add(batch).saturating_add(1);
    if step >= n_steps { 1.0 } else { step as f64 / n_steps as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_follow_their_formulas() {
        let cosine = Schedule::Cosine { floor: 0.2 };
        assert_eq!((cosine.factor(0, 10), cosine.factor(10, 10)), (1.0, 0.2));
        assert!((cosine.factor(5, 10) - 0.6).abs() < 1e-12);
        let step = Schedule::Step { epochs: vec![3, 6], factor: 0.1 };
        let factors: Vec<f64> = [2, 3, 5, 6].iter().map(|&e| step.factor(e, 9)).collect();
        assert_eq!(factors[..3], [1.0, 0.1, 0.1]);
        assert!((factors[3] - 0.01).abs() < 1e-15);
        assert_eq!(Schedule::Exponential { decay: 0.5 }.factor(3, 9), 0.125);
        assert_eq!(Schedule::Linear { floor: 0.0 }.factor(5, 10), 0.5);
        assert_eq!(Schedule::default().factor(7, 9), 1.0);
    }

    #[test]
    fn the_warm_up_grows_by_equal_steps_to_one() {
        let factors: Vec<f64> =
            (0..3).flat_map(|e| (0..2).map(move |b| warm_up(2, e, b, 2))).collect();
        assert_eq!(factors, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
        assert_eq!(warm_up(0, 0, 0, 5), 1.0);
    }

    #[test]
    fn wrong_values_are_named() {
        let step = Schedule::Step { epochs: vec![6, 3], factor: 2.0 };
        let fields: Vec<String> = step.check().found.into_iter().map(|i| i.field).collect();
        assert_eq!(fields, ["step.epochs", "step.factor"]);
    }
}
