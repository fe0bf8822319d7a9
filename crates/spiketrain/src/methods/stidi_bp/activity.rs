//! How often and how early neurons fire in an epoch of training, and new weights for silent ones.

use super::layer::Layer;
use super::{Sample, StidiBp, initial};
use crate::error::Result;
use crate::learner::Ctx;
use crate::state::State;
use std::collections::BTreeMap;

/// Spikes of one epoch, layer by layer.
#[derive(Clone, Debug)]
pub(super) struct Activity {
    /// Spikes after pooling, `[layer][channel]`.
    fired: Vec<Vec<u64>>,
    /// Sum of their times in steps, `[layer]`.
    steps: Vec<u64>,
}

impl Activity {
    /// Nothing fired yet in layers of so many channels.
    pub(super) fn new(n_channels: impl Iterator<Item = usize>) -> Self {
        let fired: Vec<Vec<u64>> = n_channels.map(|n| vec![0; n]).collect();
        Self { steps: vec![0; fired.len()], fired }
    }

    /// Adds the spikes of one sample, before the next layer's dropout.
    pub(super) fn count(&mut self, layers: &[Layer], sample: &Sample, n_steps: u16) {
        let silent = f32::from(n_steps);
        for (l, (layer, trace)) in layers.iter().zip(&sample.traces).enumerate() {
            let fired = &mut self.fired[l];
            let n_channels = fired.len();
            let times = (0..layer.size.output.len()).map(|i| layer.output_time(trace, i, silent));
            for (i, t) in times.enumerate().filter(|&(_, t)| t < silent) {
                fired[i % n_channels] += 1;
                self.steps[l] += t as u64;
            }
        }
    }

    pub(super) fn save(&self, state: &mut State) {
        for (l, fired) in self.fired.iter().enumerate() {
            state.put(&format!("epoch.fired{l}"), &[fired.len()], fired.clone());
        }
        state.put("epoch.fired_steps", &[self.steps.len()], self.steps.clone());
    }

    pub(super) fn restore(&mut self, state: &State) -> Result<()> {
        for (l, fired) in self.fired.iter_mut().enumerate() {
            *fired = state.get(&format!("epoch.fired{l}"), &[fired.len()])?.to_vec();
        }
        let n_layers = self.steps.len();
        self.steps.copy_from_slice(state.get("epoch.fired_steps", &[n_layers])?);
        Ok(())
    }

    fn clear(&mut self) {
        self.fired.iter_mut().for_each(|f| f.fill(0));
        self.steps.fill(0);
    }
}

impl StidiBp {
    /// Share and mean time of each layer's spikes; new weights, as in the program of S4NN, for
    /// hidden neurons that hardly fired; then a new count.
    pub(super) fn end_activity(&mut self, ctx: &Ctx, metrics: &mut BTreeMap<String, f64>) {
        let n_layers = self.layers.len();
        for (l, layer) in self.layers.iter().enumerate() {
            let fired = self.activity.fired[l].iter().sum::<u64>() as f64;
            let n_outputs = (layer.size.output.len() as u64 * self.n_seen).max(1) as f64;
            metrics.insert(format!("fired_{l}"), fired / n_outputs);
            let steps = self.activity.steps[l] as f64 / fired.max(1.0);
            metrics.insert(format!("time_{l}"), steps / f64::from(self.params.n_steps));
        }
        if self.params.rescue > 0.0 {
            let n_rescued: usize = (0..n_layers - 1).map(|l| self.rescue(l, ctx)).sum();
            metrics.insert("rescued".into(), n_rescued as f64);
        }
        self.activity.clear();
    }

    /// Draws the weights of the quiet neurons of layer `l` anew; says how many there were.
    fn rescue(&mut self, l: usize, ctx: &Ctx) -> usize {
        let size = &self.layers[l].size;
        let n_places = (size.output.len() / size.output.channels) as u64 * self.n_seen;
        let least = self.params.rescue * n_places as f64;
        let is_quiet = |&n: &usize| (self.activity.fired[l][n] as f64) < least;
        let quiet: Vec<usize> = (0..size.output.channels).filter(is_quiet).collect();
        if quiet.is_empty() {
            return 0;
        }
        let (fan_in, threshold) = (size.fan_in(), self.layers[l].threshold);
        let index = ctx.epoch * self.layers.len() as u64 + l as u64;
        let mut stream = ctx.seed.stream("stidi-bp.rescue", index);
        let mut weights = self.weights(l);
        for &n in &quiet {
            for w in &mut weights[n * fan_in..(n + 1) * fan_in] {
                *w = initial(self.params.init.get(l), threshold, fan_in, &mut stream);
            }
        }
        self.set_weights(l, &weights);
        quiet.len()
    }
}
