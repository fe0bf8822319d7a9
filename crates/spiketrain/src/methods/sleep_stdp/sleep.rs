//! What keeps the weights in bounds every `interval` steps: sleep, or one of its rivals.

use super::params::{EarlyEnd, Params, Regularisation};
use super::plasticity::{self, Decay};
use super::{Scratch, SleepStdp};
use crate::seed::Stream;
use crate::times::homeostasis::{exponent_per_step, powers};

/// How near both totals must be to their initial values to end an episode in the published way.
const BAND: f64 = 0.001;

impl SleepStdp {
    /// What happens every `interval` steps, in a batch whose downscaling is `decay`.
    pub(super) fn regularise(&mut self, decay: &mut Option<Decay>) {
        let Params { weight_min: min, weight_max: max, .. } = self.params;
        self.snapshot(false);
        let is_changed = match self.params.regularisation {
            _ if !self.params.plastic => false,
            Regularisation::None => false,
            Regularisation::Sleep => self.sleep(decay),
            Regularisation::LayerNormalisation => {
                self.synapses.normalise_layer(min, max);
                true
            }
            Regularisation::SynapticScaling => {
                self.synapses.scale_neurons(min, max);
                true
            }
        };
        if is_changed {
            self.snapshot(self.params.regularisation == Regularisation::Sleep);
        }
    }

    fn snapshot(&mut self, asleep: bool) {
        self.history.record(&self.synapses, self.clock, self.n_images, asleep);
    }

    /// One episode of sleep; false if there is none.
    pub(super) fn sleep(&mut self, decay: &mut Option<Decay>) -> bool {
        let window = self.params.window();
        if window == 0 {
            return false;
        }
        let mut stream = self.seed.stream("sleep-stdp.noise", self.n_episodes);
        self.n_episodes += 1;
        if let Some(decay) = decay {
            decay.start();
        }
        if self.params.sleep_suppression {
            let n_inputs = self.synapses.n_inputs;
            self.activity.before.retain(|&p| usize::from(p) >= n_inputs);
        }
        for t in 0..window as usize {
            self.virtual_step(t, decay, &mut stream);
            if self.has_slept_enough(decay) {
                break;
            }
        }
        if let Some(decay) = decay {
            decay.settle(&mut self.synapses);
        }
        true
    }

    /// Virtual step `t` of an episode.
    pub(super) fn virtual_step(
        &mut self,
        t: usize,
        decay: &mut Option<Decay>,
        stream: &mut Stream,
    ) {
        let Scratch { input, noise, train, .. } = &mut self.scratch;
        input.fill(0.0);
        noise.fill(0.0);
        if self.params.sleep_noise {
            stream.normals(self.params.noise_std, noise);
        }
        plasticity::drive(&mut self.synapses, &self.activity.before, decay.as_mut(), input);
        self.neurons.step(self.simd, input, noise, self.params.sticky_spikes);
        let replayed = !self.params.sleep_suppression && train.n_steps() > 0;
        let inputs = if replayed { train.step(t % train.n_steps()) } else { &[] };
        self.activity.collect(inputs, &self.neurons.spiked, self.synapses.n_inputs);
        self.activity.grow_older();
        if self.params.sleep_plasticity {
            self.stdp.update(&mut self.synapses, &self.activity, decay.as_mut());
        }
        if let Some(decay) = decay {
            decay.step();
        }
        self.activity.advance();
        self.clock += 1;
        self.tally.sleep_steps += 1;
        self.tally.sleep_spikes += (self.activity.before.len() - inputs.len()) as u64;
    }

    /// Whether the episode ends early.
    fn has_slept_enough(&mut self, decay: &mut Option<Decay>) -> bool {
        if self.params.early_end == EarlyEnd::Never {
            return false;
        }
        if let Some(decay) = decay {
            decay.settle(&mut self.synapses);
        }
        let (now, then) = (self.synapses.totals(), self.synapses.initial_totals());
        [0, 1].iter().all(|&k| match self.params.early_end {
            EarlyEnd::Band => (now[k] - then[k]).abs() <= BAND * then[k],
            _ => now[k] <= then[k],
        })
    }

    /// The downscaling of a batch of `n_images`; nothing if the network sleeps without it.
    pub(super) fn decay(&self, n_images: usize) -> Option<Decay> {
        let p = &self.params;
        if p.window() == 0 || !p.sleep_downscaling {
            return None;
        }
        let n_steps = p.virtual_steps(n_images);
        let lambda = p.lambda.unwrap_or_else(|| exponent_per_step(p.contraction, n_steps));
        let powers = powers(lambda, p.window() as usize);
        let targets = [p.target_excitatory, p.target_inhibitory];
        Some(Decay::new(&self.synapses, powers, targets, self.simd))
    }
}
