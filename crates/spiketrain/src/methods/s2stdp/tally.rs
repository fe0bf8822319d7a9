//! What is counted during an epoch.

use super::params::Params;
use crate::error::Result;
use crate::learner::EpochReport;
use crate::state::State;
use crate::times::integrate::Outputs;

/// Counts since the epoch began.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tally {
    pub(super) n_samples: u64,
    pub(super) n_correct: u64,
    n_silent: u64,
    sum_of_times: f64,
    /// Samples of its own class that each neuron won inside its group, `[neuron]`.
    target_updates: Vec<u64>,
    /// Samples of other classes that each neuron won inside its group, `[neuron]`.
    non_target_updates: Vec<u64>,
    /// Samples each neuron decided, `[neuron]`.
    decisions: Vec<u64>,
    /// Samples each neuron decided rightly, `[neuron]`.
    right_decisions: Vec<u64>,
}

impl Tally {
    pub(super) fn new(n_neurons: usize) -> Self {
        let zeros = vec![0; n_neurons];
        Self {
            target_updates: zeros.clone(),
            non_target_updates: zeros.clone(),
            decisions: zeros.clone(),
            right_decisions: zeros,
            ..Self::default()
        }
    }

    /// Counts one sample: `winners` holds each class's first neuron, `decider` the layer's.
    pub(super) fn count(
        &mut self,
        outputs: &Outputs,
        label: usize,
        winners: &[usize],
        decider: usize,
        n_per_class: usize,
    ) {
        self.n_samples += 1;
        for n in 0..outputs.times.len() {
            if outputs.fired(n) {
                self.sum_of_times += f64::from(outputs.times[n]);
            } else {
                self.n_silent += 1;
            }
        }
        for (class, &n) in winners.iter().enumerate() {
            let wins = if class == label {
                &mut self.target_updates
            } else {
                &mut self.non_target_updates
            };
            wins[n] += 1;
        }
        let is_right = decider / n_per_class == label;
        self.n_correct += u64::from(is_right);
        self.decisions[decider] += 1;
        self.right_decisions[decider] += u64::from(is_right);
    }

    /// Share of the samples whose class was predicted before learning from them.
    pub(super) fn accuracy(&self) -> f64 {
        self.n_correct as f64 / self.n_samples.max(1) as f64
    }

    /// The epoch's curves, but for what the weights and thresholds say.
    pub(super) fn report(&self, params: &Params, n_classes: usize) -> EpochReport {
        let n_outputs = self.n_samples * self.decisions.len() as u64;
        let n_fired = n_outputs - self.n_silent;
        let mut report = EpochReport::default();
        let mut metric = |name: &str, value| report.metrics.insert(name.to_owned(), value);
        metric("mean_output_time", self.sum_of_times / n_fired.max(1) as f64);
        metric("silent_fraction", self.n_silent as f64 / n_outputs.max(1) as f64);
        let balances: Vec<f64> = (0..n_classes)
            .filter_map(|k| balance(&self.target_updates[params.targets(k)]))
            .collect();
        if !balances.is_empty() {
            metric("win_balance", balances.iter().sum::<f64>() / balances.len() as f64);
        }
        let floats = |counts: &[u64]| counts.iter().map(|&c| c as f64).collect::<Vec<_>>();
        let precision = self.right_decisions.iter().zip(&self.decisions);
        let precision = precision.map(|(&r, &d)| r as f64 / d.max(1) as f64).collect();
        report.series.insert("target_updates".into(), floats(&self.target_updates));
        report.series.insert("non_target_updates".into(), floats(&self.non_target_updates));
        report.series.insert("neuron_precision".into(), precision);
        report
    }

    pub(super) fn state(&self) -> State {
        let mut state = State::new();
        let n = [self.decisions.len()];
        state.put("n_samples", &[], vec![self.n_samples]);
        state.put("n_correct", &[], vec![self.n_correct]);
        state.put("n_silent", &[], vec![self.n_silent]);
        state.put("sum_of_times", &[], vec![self.sum_of_times]);
        state.put("target_updates", &n, self.target_updates.clone());
        state.put("non_target_updates", &n, self.non_target_updates.clone());
        state.put("decisions", &n, self.decisions.clone());
        state.put("right_decisions", &n, self.right_decisions.clone());
        state
    }

    pub(super) fn restored(state: &State, n_neurons: usize) -> Result<Self> {
        let counts = |name| Ok(state.get::<u64>(name, &[n_neurons])?.to_vec());
        Ok(Self {
            n_samples: state.scalar("n_samples")?,
            n_correct: state.scalar("n_correct")?,
            n_silent: state.scalar("n_silent")?,
            sum_of_times: state.scalar("sum_of_times")?,
            target_updates: counts("target_updates")?,
            non_target_updates: counts("non_target_updates")?,
            decisions: counts("decisions")?,
            right_decisions: counts("right_decisions")?,
        })
    }
}

/// Entropy of the shares of `wins` over that of equal shares; none for fewer than two neurons or
/// without wins.
fn balance(wins: &[u64]) -> Option<f64> {
    let total = wins.iter().sum::<u64>() as f64;
    if wins.len() < 2 || total == 0.0 {
        return None;
    }
    let shares = wins.iter().filter(|&&w| w > 0).map(|&w| w as f64 / total);
    let entropy = -shares.map(|p| p * libm::log(p)).sum::<f64>();
    Some(entropy.max(0.0) / libm::log(wins.len() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balance_is_one_for_equal_wins_and_zero_for_one_winner() {
        assert!((balance(&[7, 7, 7, 7]).unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(balance(&[0, 1969, 0]), Some(0.0));
        assert!((balance(&[5, 5, 0, 0]).unwrap() - 0.5).abs() < 1e-12);
        assert_eq!((balance(&[3]), balance(&[0, 0])), (None, None));
    }

    #[test]
    fn wins_and_decisions_are_counted() {
        let params = Params { neurons_per_class: 2, non_target_neurons: 0, ..Params::default() };
        let outputs =
            Outputs { times: vec![0.25, 0.5, 1.0, 0.75], potentials: vec![1.0, 1.0, 0.0, 1.0] };
        let mut tally = Tally::new(4);
        tally.count(&outputs, 1, &[0, 3], 0, 2);
        tally.count(&outputs, 0, &[0, 3], 0, 2);
        let report = tally.report(&params, 2);
        assert_eq!(report.series["target_updates"], [1.0, 0.0, 0.0, 1.0]);
        assert_eq!(report.series["non_target_updates"], [1.0, 0.0, 0.0, 1.0]);
        assert_eq!(report.series["neuron_precision"], [0.5, 0.0, 0.0, 0.0]);
        assert_eq!(report.metrics["mean_output_time"], 0.5);
        assert_eq!(report.metrics["silent_fraction"], 0.25);
        assert_eq!(report.metrics["win_balance"], 0.0);
        assert_eq!(tally.accuracy(), 0.5);
        assert_eq!(Tally::restored(&tally.state(), 4).unwrap(), tally);
    }
}
