//! Hyper-parameters: the table `[method.s2stdp]` of a recipe.

use crate::check::Checks;
use serde::{Deserialize, Serialize};

/// How the layer learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Stabilised supervised STDP: each neuron is drawn to a desired time.
    S2Stdp,
    /// Supervised STDP: a neuron is drawn only while it is on the wrong side of its desired time.
    Sstdp,
    /// Reward-modulated STDP: the layer's first neuron learns, rewarded or punished.
    RStdp,
}

/// How thresholds keep the competition inside a class fair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Regulation {
    /// Not at all.
    None,
    /// One adaptive threshold per neuron, in training and testing.
    #[serde(rename = "cr-1")]
    OneThreshold,
    /// Two compartments: an adaptive threshold for training samples of the neuron's own class,
    /// the fixed one for all else.
    #[serde(rename = "cr-2")]
    TwoCompartments,
}

/// Hyper-parameters. The defaults are S2-STDP+NCG on MNIST with STDP-CSNN features (NeurIPS 2024,
/// arXiv 2410.17066).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// How the layer learns.
    pub rule: Rule,
    /// Output neurons per class, M.
    pub neurons_per_class: usize,
    /// Output neurons per class, the first of each group, that learn not to be the class.
    pub non_target_neurons: usize,
    /// True if only the winner of each class learns from a sample, false if all neurons do.
    /// R-STDP has one winner in the whole layer and does not read this.
    pub intra_class_wta: bool,
    /// How thresholds keep the competition inside a class fair.
    pub regulation: Regulation,
    /// Step of the adaptive thresholds, η, in units of the potential.
    pub threshold_learning_rate: f64,
    /// Factor on η after each epoch, α.
    pub threshold_annealing: f64,
    /// Probability that an output neuron is switched off for a training sample.
    pub output_dropout: f64,
    /// Firing threshold θ, in units of the potential.
    pub threshold: f32,
    /// Gap g between the desired times of the target and the other neurons, as a fraction of the
    /// window.
    pub gap: f64,
    /// Gain of causal synapses, A⁺.
    pub a_plus: f64,
    /// Gain of the other synapses, A⁻; not above 0.
    pub a_minus: f64,
    /// Gain of causal synapses of a neuron that must fire later, B⁺; −A⁺ if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anti_a_plus: Option<f64>,
    /// Gain of the other synapses of a neuron that must fire later, B⁻; −A⁻ if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anti_a_minus: Option<f64>,
    /// Factor on all four gains after each epoch.
    pub annealing: f64,
    /// Mean of the initial weights.
    pub weight_mean: f64,
    /// Standard deviation of the initial weights.
    pub weight_std: f64,
    /// Smallest weight.
    pub weight_min: f32,
    /// Largest weight.
    pub weight_max: f32,
    /// True if each neuron's sum of absolute weights is kept at its initial sum.
    pub normalise: bool,
    /// True if the last input spike of a sample never makes a neuron fire, as in the authors'
    /// program; false to compare once more after it.
    pub reference_last_event: bool,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            rule: Rule::S2Stdp,
            neurons_per_class: 5,
            non_target_neurons: 1,
            intra_class_wta: true,
            regulation: Regulation::TwoCompartments,
            threshold_learning_rate: 10.0,
            threshold_annealing: 0.5,
            output_dropout: 0.0,
            threshold: 200.0,
            gap: 0.03,
            a_plus: 0.05,
            a_minus: -0.1,
            anti_a_plus: None,
            anti_a_minus: None,
            annealing: 0.98,
            weight_mean: 0.3,
            weight_std: 0.01,
            weight_min: 0.0,
            weight_max: 1.0,
            normalise: true,
            reference_last_event: true,
        }
    }
}

impl Params {
    /// What is wrong with the values, if anything.
    pub fn check(&self) -> Checks {
        let mut c = Checks::default();
        c.count("neurons_per_class", self.neurons_per_class, 1, 10_000);
        let below_all = self.non_target_neurons < self.neurons_per_class;
        let allowed = "a whole number below neurons_per_class";
        c.that(below_all, "non_target_neurons", self.non_target_neurons, allowed);
        c.not_negative("threshold_learning_rate", self.threshold_learning_rate);
        c.within("threshold_annealing", self.threshold_annealing, 0.0, 1.0);
        let is_probability = (0.0..1.0).contains(&self.output_dropout);
        c.that(is_probability, "output_dropout", self.output_dropout, "a number from 0 to below 1");
        c.positive("threshold", f64::from(self.threshold));
        c.within("gap", self.gap, 0.0, 1.0);
        c.not_negative("a_plus", self.a_plus);
        let not_positive = |x: f64| x <= 0.0 && x.is_finite();
        c.that(not_positive(self.a_minus), "a_minus", self.a_minus, "a number not above 0");
        if let Some(b) = self.anti_a_plus {
            c.that(not_positive(b), "anti_a_plus", b, "a number not above 0");
        }
        if let Some(b) = self.anti_a_minus {
            c.not_negative("anti_a_minus", b);
        }
        c.within("annealing", self.annealing, 0.0, 1.0);
        // Normalisation keeps the initial sum, which must not be below 0.
        let has_sum = self.weight_mean.is_finite() && (self.weight_mean > 0.0 || !self.normalise);
        let allowed = "a number, above 0 with normalise = true";
        c.that(has_sum, "weight_mean", self.weight_mean, allowed);
        c.not_negative("weight_std", self.weight_std);
        c.finite("weight_min", f64::from(self.weight_min));
        let above_min = self.weight_max > self.weight_min && self.weight_max.is_finite();
        c.that(above_min, "weight_max", self.weight_max, "a number above weight_min");
        c
    }

    /// True if output neuron `n` learns to be its class.
    pub(super) fn is_target(&self, n: usize) -> bool {
        n % self.neurons_per_class >= self.non_target_neurons
    }

    /// The output neurons of class `k`.
    pub(super) fn group(&self, k: usize) -> std::ops::Range<usize> {
        k * self.neurons_per_class..(k + 1) * self.neurons_per_class
    }

    /// The output neurons that learn to be class `k`.
    pub(super) fn targets(&self, k: usize) -> std::ops::Range<usize> {
        let group = self.group(k);
        group.start + self.non_target_neurons..group.end
    }
}
