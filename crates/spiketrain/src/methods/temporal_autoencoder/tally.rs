//! What is counted during an epoch.

use super::network::{Network, Sums};
use crate::error::Result;
use crate::learner::EpochReport;
use crate::state::State;

/// Names of a layer's metrics, from the first hidden one.
const LAYERS: [&str; 2] = ["hidden", "output"];

/// Counts since the epoch began, `[layer]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tally {
    n_samples: u64,
    n_fired: Vec<u64>,
    sum_of_times: Vec<f64>,
}

impl Tally {
    pub(super) fn new(n_layers: usize) -> Self {
        Self { n_samples: 0, n_fired: vec![0; n_layers], sum_of_times: vec![0.0; n_layers] }
    }

    pub(super) fn count(&mut self, n_samples: usize, sums: &Sums) {
        self.n_samples += n_samples as u64;
        self.n_fired.iter_mut().zip(&sums.n_fired).for_each(|(n, d)| *n += d);
        self.sum_of_times.iter_mut().zip(&sums.sum_of_times).for_each(|(s, d)| *s += d);
    }

    /// The epoch's curves.
    pub(super) fn report(&self, network: &Network) -> EpochReport {
        let mut report = EpochReport::default();
        let mut metric = |name: String, value| report.metrics.insert(name, value);
        for (l, layer) in LAYERS.iter().enumerate().take(network.n_layers()) {
            let n = self.n_samples * network.n_neurons(l) as u64;
            metric(
                format!("silent_{layer}_fraction"),
                1.0 - self.n_fired[l] as f64 / n.max(1) as f64,
            );
            let mean = self.sum_of_times[l] / self.n_fired[l].max(1) as f64;
            metric(format!("mean_{layer}_time"), mean);
            let [neurons, pulses] = network.negative_shares(l);
            metric(format!("negative_{layer}_weights"), neurons);
            metric(format!("negative_{layer}_pulse_weights"), pulses);
        }
        report
    }

    pub(super) fn state(&self) -> State {
        let mut state = State::new();
        let n = [self.n_fired.len()];
        state.put("n_samples", &[], vec![self.n_samples]);
        state.put("n_fired", &n, self.n_fired.clone());
        state.put("sum_of_times", &n, self.sum_of_times.clone());
        state
    }

    pub(super) fn restored(state: &State, n_layers: usize) -> Result<Self> {
        Ok(Self {
            n_samples: state.scalar("n_samples")?,
            n_fired: state.get("n_fired", &[n_layers])?.to_vec(),
            sum_of_times: state.get("sum_of_times", &[n_layers])?.to_vec(),
        })
    }
}
