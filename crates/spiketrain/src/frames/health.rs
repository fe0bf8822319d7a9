//! How a network fares in training: firing of every layer of neurons, gradient of every weight.

use super::layer::Notes;
use super::parameters::{Gradients, Kind, ParameterId, Parameters};
use crate::error::{Error, ErrorKind, Result};
use crate::learner::EpochReport;
use crate::state::State;

/// Sums over the steps of an epoch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    n_steps: u64,
    /// Spikes per neuron and step, of each layer of neurons.
    rate: Vec<f64>,
    /// Share of its neurons that never fired.
    silent: Vec<f64>,
    /// Share of its neurons that always fired.
    saturated: Vec<f64>,
    /// Gradient norm of each weight.
    gradient: Vec<f64>,
}

fn add(sums: &mut Vec<f64>, values: impl Iterator<Item = f64>) {
    for (i, value) in values.enumerate() {
        if i == sums.len() {
            sums.push(0.0);
        }
        sums[i] += value;
    }
}

impl Health {
    /// Takes in a step.
    ///
    /// # Errors
    ///
    /// If a gradient is not finite; names the parameter nearest to the loss.
    pub fn count(
        &mut self,
        notes: &Notes,
        gradients: &Gradients,
        parameters: &Parameters,
    ) -> Result<()> {
        let list = &parameters.list;
        let norms: Vec<f64> = (0..list.len()).map(|i| gradients.norm(ParameterId(i))).collect();
        if let Some(last) = norms.iter().rposition(|n| !n.is_finite()) {
            let name = &list[last].name;
            return Err(Error::new(
                ErrorKind::Diverged,
                format!(
                    "the gradient of {name} is not finite: a smaller learning rate, a warm-up or a \
                     narrower slope is the usual remedy"
                ),
            ));
        }
        self.n_steps += 1;
        add(&mut self.rate, notes.activity.iter().map(|a| a.rate));
        add(&mut self.silent, notes.activity.iter().map(|a| a.silent));
        add(&mut self.saturated, notes.activity.iter().map(|a| a.saturated));
        let is_weight = |i: &usize| list[*i].kind == Kind::Weight;
        add(&mut self.gradient, (0..list.len()).filter(is_weight).map(|i| norms[i]));
        Ok(())
    }

    /// Means over the epoch, and begins anew.
    ///
    /// # Errors
    ///
    /// If a layer of neurons did not fire once in the whole epoch.
    pub fn report(&mut self) -> Result<EpochReport> {
        let Health { n_steps, rate, silent, saturated, gradient } = std::mem::take(self);
        if let Some(layer) = rate.iter().position(|&r| r == 0.0) {
            return Err(Error::new(
                ErrorKind::Diverged,
                format!(
                    "layer {layer} of neurons did not fire once in a whole epoch: its threshold is \
                     too high for what reaches it, or its weights have died; a lower threshold or \
                     a normalisation before the neurons is the usual remedy"
                ),
            ));
        }
        let mean = |sums: Vec<f64>| -> Vec<f64> {
            sums.into_iter().map(|s| s / n_steps.max(1) as f64).collect()
        };
        let mut report = EpochReport::default();
        let rate = mean(rate);
        if !rate.is_empty() {
            let whole = rate.iter().sum::<f64>() / rate.len() as f64;
            report.metrics.insert("firing_rate".into(), whole);
        }
        for (name, values) in [
            ("firing_rates", rate),
            ("silent_fractions", mean(silent)),
            ("saturated_fractions", mean(saturated)),
            ("gradient_norms", mean(gradient)),
        ] {
            report.series.insert(name.into(), values);
        }
        Ok(report)
    }

    /// As named arrays.
    pub fn state(&self) -> State {
        let mut state = State::new();
        state.put("n_steps", &[], vec![self.n_steps]);
        for (name, sums) in self.sums() {
            state.put(name, &[sums.len()], sums.clone());
        }
        state
    }

    /// What [`Health::state`] gave.
    ///
    /// # Errors
    ///
    /// If an array is missing or does not fit.
    pub fn restored(state: &State) -> Result<Self> {
        let get = |name: &str| -> Result<Vec<f64>> {
            let shape = state.array(name)?.shape.clone();
            Ok(state.get(name, &shape)?.to_vec())
        };
        Ok(Self {
            n_steps: state.scalar("n_steps")?,
            rate: get("rate")?,
            silent: get("silent")?,
            saturated: get("saturated")?,
            gradient: get("gradient")?,
        })
    }

    fn sums(&self) -> [(&'static str, &Vec<f64>); 4] {
        [
            ("rate", &self.rate),
            ("silent", &self.silent),
            ("saturated", &self.saturated),
            ("gradient", &self.gradient),
        ]
    }
}

/// What the numbers of a health report mean, for the cards of methods.
pub const METRICS: &[(&str, &str)] = &[
    ("firing_rate", "spikes per neuron and step in training, mean over the layers of neurons"),
    ("firing_rates", "the same for each layer of neurons"),
    ("silent_fractions", "per layer: share of the neurons that never fired in a batch, mean"),
    ("saturated_fractions", "per layer: share of the neurons that always fired in a batch, mean"),
    ("gradient_norms", "per weight: Euclidean norm of its gradient, mean over the batches"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_layer_is_named_and_sums_survive_a_stop() {
        let health = Health {
            n_steps: 2,
            rate: vec![0.4, 0.0],
            silent: vec![0.2, 2.0],
            saturated: vec![0.0, 0.0],
            gradient: vec![1.0],
        };
        assert_eq!(Health::restored(&health.state()).unwrap(), health);
        let error = health.clone().report().unwrap_err();
        assert!(error.to_string().starts_with("layer 1 of neurons did not fire"), "{error}");
        let mut lively = Health { rate: vec![0.4, 0.2], ..health };
        let report = lively.report().unwrap();
        assert_eq!(report.series["firing_rates"], [0.2, 0.1]);
        assert!((report.metrics["firing_rate"] - 0.15).abs() < 1e-12);
        assert_eq!(lively, Health::default());
    }
}
