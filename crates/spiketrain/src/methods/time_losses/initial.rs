//! Thresholds at the beginning: layer after layer, as many spikes as wanted.
//!
//! With g = 1 and V = 1, a factor f in \[0.01, 100\] of the weights is found by bisection
//! (geometric middle, until the ends differ by less than 1 %): the layer's spikes in the last third
//! of the steps, `t ≥ t₀ = ⌊2T/3⌋`, are to be `wanted (T − t₀)/T` a neuron and sample. Then
//! `V ← V/f`, the layer runs, and the next one follows. No dropout, no forced spikes.

use super::layers::{Layer, Spiking};
use super::network::Net;
use super::neuron::Neuron;
use crate::frames::layer::{self, Context, Phase};
use crate::frames::parameters::Parameters;
use crate::frames::shards::Workspaces;
use crate::frames::signal::{Data, Signal};
use std::sync::Arc;

/// Sets the thresholds of a network for a batch; `wanted` spikes a neuron and sample over all
/// steps.
pub fn set_thresholds(net: &mut Net, input: Signal, wanted: f64, workspaces: &Workspaces) {
    let Net { layers, parameters, neuron, n_steps, .. } = net;
    let search = Search { neuron, parameters, n_steps: *n_steps, wanted, workspaces };
    search.layers(layers, Arc::new(input));
}

struct Search<'a> {
    neuron: &'a Neuron,
    parameters: &'a Parameters,
    n_steps: usize,
    wanted: f64,
    workspaces: &'a Workspaces,
}

impl Search<'_> {
    fn context(&self) -> Context<'_> {
        let Search { parameters, n_steps, workspaces, .. } = *self;
        let (phase, keeps_forms) = (Phase::Evaluation, false);
        Context { parameters, running: &[], workspaces, n_steps, phase, keeps_forms }
    }

    fn layers(&self, layers: &mut [Layer], mut signal: Arc<Signal>) -> Arc<Signal> {
        for layer in layers {
            signal = match layer {
                Layer::Spiking(layer) => Arc::new(self.spiking(layer, &signal)),
                Layer::Pool(pool) => Arc::new(layer::pool::average(pool, &signal, self.workspaces)),
                Layer::Dropout(_) => signal,
                Layer::Add { body, shortcut } => {
                    let (input, _) = layer::spread(signal);
                    let a = self.layers(body, input.clone());
                    let b = self.layers(shortcut, input);
                    Arc::new(layer::Add::sum(a, b))
                }
            };
        }
        signal
    }

    fn spiking(&self, layer: &mut Spiking, input: &Signal) -> Signal {
        let current = layer.current(input, &self.context());
        let factor = find_factor(self.neuron, &layer.threshold, &current, self.wanted);
        layer.threshold.iter_mut().for_each(|v| *v = (f64::from(*v) / factor) as f32);
        self.neuron.fire(&layer.threshold, &current)
    }
}

/// The factor of the weights at which a layer gives the wanted spikes. A factor of the weights is
/// one of the thresholds, inverted.
pub fn find_factor(neuron: &Neuron, threshold: &[f32], current: &Signal, wanted: f64) -> f64 {
    let n_steps = current.n_steps;
    let late = 2 * n_steps / 3;
    let wanted = wanted * (n_steps - late) as f64 / n_steps as f64;
    let (mut low, mut high, mut middle) = (0.01f64, 100.0f64, 1.0);
    while high / low >= 1.01 {
        middle = (low * high).sqrt();
        let scaled: Vec<f32> = threshold.iter().map(|&v| (f64::from(v) / middle) as f32).collect();
        if late_spikes(&neuron.fire(&scaled, current), late) > wanted {
            high = middle;
        } else {
            low = middle;
        }
    }
    middle
}

/// Spikes from step `late` on, a neuron and sample.
pub fn late_spikes(output: &Signal, late: usize) -> f64 {
    let Data::Spikes(spikes) = &output.data else { unreachable!("neurons give spikes") };
    let n = output.n_samples;
    let count = spikes.images(late * n..output.n_steps * n).count();
    count as f64 / (n * output.shape.len()) as f64
}
