//! Hyper-parameters: the table `[method.sleep-stdp]` of a recipe.

use crate::check::Checks;
use serde::{Deserialize, Serialize};

/// What keeps the weights from running away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Regularisation {
    /// Nothing.
    None,
    /// Sleep: episodes without input, with noise, plasticity and downscaling.
    Sleep,
    /// All excitatory and all inhibitory weights are rescaled to their initial totals.
    LayerNormalisation,
    /// The same for every postsynaptic neuron.
    SynapticScaling,
}

/// When a sleep episode ends before its window does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EarlyEnd {
    /// Never.
    Never,
    /// When both totals of weights are at or below their initial values (the paper's equation 6).
    BelowTarget,
    /// When both totals are within 0.1 % of their initial values (the published program).
    Band,
}

/// Hyper-parameters. The defaults are the corrected mechanism at its working point;
/// [`Params::as_published`] is the run behind the paper's table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// Excitatory neurons, N_e.
    pub n_excitatory: usize,
    /// Inhibitory neurons, N_i.
    pub n_inhibitory: usize,
    /// Probability of a synapse from an input to an excitatory neuron.
    pub density_input: f32,
    /// Probability of a synapse between two excitatory neurons.
    pub density_ee: f32,
    /// Probability of a synapse from an excitatory to an inhibitory neuron.
    pub density_ei: f32,
    /// Probability of a synapse from an inhibitory to an excitatory neuron, before those whose
    /// reverse exists are taken away.
    pub density_ie: f32,
    /// Initial weight of the input synapses.
    pub weight_input: f64,
    /// Initial weight between excitatory neurons.
    pub weight_ee: f64,
    /// Initial weight from excitatory to inhibitory neurons.
    pub weight_ei: f64,
    /// Initial magnitude of the weights from inhibitory to excitatory neurons.
    pub weight_ie: f64,
    /// Steps an image is shown, T, of 1 ms.
    pub n_steps: usize,
    /// Mean firing probability of an input in a step before `gain`.
    pub activity: f64,
    /// Factor on the firing probabilities of the inputs.
    pub gain: f64,
    /// False freezes all weights: the random network that every result is compared with.
    pub plastic: bool,
    /// Learning rate of the excitatory synapses, η_e.
    pub learning_rate_excitatory: f64,
    /// Learning rate of the inhibitory synapses, η_i.
    pub learning_rate_inhibitory: f64,
    /// Gain of a causal pair of spikes, A₊.
    pub a_plus: f64,
    /// Loss of an acausal pair of spikes, A₋.
    pub a_minus: f64,
    /// Time constant of the gain, τ₊, steps.
    pub tau_plus: f64,
    /// Time constant of the loss, τ₋, steps.
    pub tau_minus: f64,
    /// Smallest magnitude of a weight.
    pub weight_min: f64,
    /// Largest magnitude of a weight; may be `inf`.
    pub weight_max: f64,
    /// What keeps the weights from running away.
    pub regularisation: Regularisation,
    /// Steps of real time between two episodes of sleep or two normalisations.
    pub interval: u64,
    /// Virtual steps of sleep per real step, 0.1 for "10 % sleep".
    pub sleep_ratio: f64,
    /// Most virtual steps of one episode; no limit if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_window: Option<u64>,
    /// By how much the sleep of one batch contracts ln(w/w*) in all, ρ.
    pub contraction: f64,
    /// Exponent of the downscaling in a virtual step, λ, in place of the one that follows from
    /// `contraction`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lambda: Option<f64>,
    /// Target of the excitatory weights, w*_e.
    pub target_excitatory: f64,
    /// Target of the magnitudes of the inhibitory weights, w*_i.
    pub target_inhibitory: f64,
    /// Standard deviation of the membrane noise asleep, σ, mV a step.
    pub noise_std: f64,
    /// Downscaling asleep.
    pub sleep_downscaling: bool,
    /// Membrane noise asleep.
    pub sleep_noise: bool,
    /// Plasticity asleep.
    pub sleep_plasticity: bool,
    /// No input asleep; false replays the spikes of the current image in a circle.
    pub sleep_suppression: bool,
    /// When an episode ends before its window does.
    pub early_end: EarlyEnd,
    /// The last so many training images whose rates the readout is fitted to.
    pub readout_samples: usize,
    /// Random share of them that is used.
    pub readout_share: f64,
    /// Also fits a readout to the rates of the same images with the final weights frozen.
    pub frozen_readout: bool,
    /// Test images after which the network is put back to rest.
    pub reset_every: usize,
    /// Published quirk: the order of two spikes is read backwards, so that causal pairs lose.
    pub inverted_stdp: bool,
    /// Published quirk: a synapse learns a step after the spike, with the ages of the new step.
    pub late_gate: bool,
    /// Published quirk: every neuron counts as having just spiked at the start.
    pub ages_start_at_zero: bool,
    /// Published quirk: who spikes asleep goes on spiking until the episode ends.
    pub sticky_spikes: bool,
    /// Published quirk: consecutive images of one class are one sample of the readout, in
    /// training and in testing.
    pub merge_equal_labels: bool,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            n_excitatory: 200,
            n_inhibitory: 50,
            density_input: 0.1,
            density_ee: 0.15,
            density_ei: 0.2,
            density_ie: 0.25,
            weight_input: 0.3,
            weight_ee: 0.3,
            weight_ei: 0.3,
            weight_ie: 0.3,
            n_steps: 100,
            activity: 0.1,
            gain: 1.0,
            plastic: true,
            learning_rate_excitatory: 5e-4,
            learning_rate_inhibitory: 5e-4,
            a_plus: 1.0,
            a_minus: 0.1,
            tau_plus: 10.0,
            tau_minus: 10.0,
            weight_min: 0.01,
            weight_max: 25.0,
            regularisation: Regularisation::Sleep,
            interval: 3500,
            sleep_ratio: 0.1,
            max_window: None,
            contraction: 0.4,
            lambda: None,
            target_excitatory: 0.5,
            target_inhibitory: 0.5,
            noise_std: 2.0,
            sleep_downscaling: true,
            sleep_noise: true,
            sleep_plasticity: true,
            sleep_suppression: true,
            early_end: EarlyEnd::Never,
            readout_samples: 1000,
            readout_share: 1.0,
            frozen_readout: true,
            reset_every: 200,
            inverted_stdp: false,
            late_gate: false,
            ages_start_at_zero: false,
            sticky_spikes: false,
            merge_equal_labels: false,
        }
    }
}

impl Params {
    /// The published run, its quirks included. That all passes show the same 400 images is a
    /// matter of the recipe.
    pub fn as_published() -> Self {
        Self {
            weight_input: 0.15,
            a_minus: 1.0,
            weight_min: 0.0,
            weight_max: f64::INFINITY,
            interval: 35_000,
            max_window: Some(10_000),
            lambda: Some(0.99997),
            target_excitatory: 0.01,
            target_inhibitory: 0.01,
            early_end: EarlyEnd::Band,
            readout_samples: 400,
            readout_share: 0.8,
            frozen_readout: false,
            inverted_stdp: true,
            late_gate: true,
            ages_start_at_zero: true,
            sticky_spikes: true,
            merge_equal_labels: true,
            ..Self::default()
        }
    }

    /// What is wrong with the values, if anything.
    pub fn check(&self) -> Checks {
        let mut c = Checks::default();
        c.count("n_excitatory", self.n_excitatory, 1, 20_000);
        c.count("n_inhibitory", self.n_inhibitory, 0, 20_000);
        for (field, p) in [
            ("density_input", self.density_input),
            ("density_ee", self.density_ee),
            ("density_ei", self.density_ei),
            ("density_ie", self.density_ie),
        ] {
            c.within(field, f64::from(p), 0.0, 1.0);
        }
        c.not_negative("weight_min", self.weight_min);
        let allowed = "a number above weight_min, or inf";
        c.that(self.weight_max > self.weight_min, "weight_max", self.weight_max, allowed);
        for (field, w) in [
            ("weight_input", self.weight_input),
            ("weight_ee", self.weight_ee),
            ("weight_ei", self.weight_ei),
            ("weight_ie", self.weight_ie),
        ] {
            let inside = w.is_finite() && (self.weight_min..=self.weight_max).contains(&w);
            c.that(inside, field, w, "a number from weight_min to weight_max");
        }
        c.count("n_steps", self.n_steps, 1, 100_000);
        c.within("activity", self.activity, 0.0, 1.0);
        c.not_negative("gain", self.gain);
        for (field, x) in [
            ("learning_rate_excitatory", self.learning_rate_excitatory),
            ("learning_rate_inhibitory", self.learning_rate_inhibitory),
            ("a_plus", self.a_plus),
            ("a_minus", self.a_minus),
            ("noise_std", self.noise_std),
        ] {
            c.not_negative(field, x);
        }
        c.positive("tau_plus", self.tau_plus);
        c.positive("tau_minus", self.tau_minus);
        self.check_sleep(&mut c);
        c.count("readout_samples", self.readout_samples, 1, 1_000_000);
        let is_share = self.readout_share > 0.0 && self.readout_share <= 1.0;
        c.that(is_share, "readout_share", self.readout_share, "a number above 0, at most 1");
        c.count("reset_every", self.reset_every, 1, 1_000_000);
        c
    }

    fn check_sleep(&self, c: &mut Checks) {
        c.that(self.interval > 0, "interval", self.interval, "a whole number above 0");
        c.within("sleep_ratio", self.sleep_ratio, 0.0, 10.0);
        c.that(self.window() <= 1 << 20, "sleep_ratio", self.sleep_ratio, "episodes of 2^20 steps");
        let is_share = |x: f64| x > 0.0 && x <= 1.0;
        let allowed = "a number above 0, at most 1";
        c.that(is_share(self.contraction), "contraction", self.contraction, allowed);
        if let Some(lambda) = self.lambda {
            c.that(is_share(lambda), "lambda", lambda, allowed);
        }
        for (field, target) in [
            ("target_excitatory", self.target_excitatory),
            ("target_inhibitory", self.target_inhibitory),
        ] {
            let inside = target > 0.0
                && target.is_finite()
                && (self.weight_min..=self.weight_max).contains(&target);
            let allowed = "a number above 0, from weight_min to weight_max";
            c.that(inside, field, target, allowed);
        }
    }

    /// Inputs aside, how many neurons there are.
    pub(super) fn n_neurons(&self) -> usize {
        self.n_excitatory + self.n_inhibitory
    }

    /// Virtual steps of one episode; 0 if the network never sleeps.
    pub(super) fn window(&self) -> u64 {
        if self.regularisation != Regularisation::Sleep {
            return 0;
        }
        let window = libm::round(self.sleep_ratio * self.interval as f64) as u64;
        window.min(self.max_window.unwrap_or(u64::MAX))
    }

    /// Virtual steps of a batch of `n_images`, if no episode ends early.
    pub(super) fn virtual_steps(&self, n_images: usize) -> u64 {
        self.window() * ((n_images * self.n_steps) as u64 / self.interval)
    }
}
