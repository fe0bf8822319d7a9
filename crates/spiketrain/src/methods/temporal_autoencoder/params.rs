//! Hyper-parameters: the table `[method.temporal-autoencoder]` of a recipe.

use crate::check::Checks;
use serde::{Deserialize, Serialize};

/// What the network learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// To give its input back, `latency` later.
    Reconstruction,
    /// To let the output of the right class spike first.
    Classification,
}

/// What the network is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Units {
    /// Spiking neurons with an alpha synapse.
    Spiking,
    /// Rectified hidden units and sigmoid outputs on intensities `1 − t`: the yardstick.
    Conventional,
}

/// A classifier fitted to the embedding after the last epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Readout {
    /// Multinomial logistic regression, C = 1.
    Logistic,
    /// Five nearest neighbours.
    NearestNeighbours,
    /// A perceptron with 100 hidden units.
    Mlp,
    /// The spiking classifier of this method, embedding-340-classes, on the raw times.
    Spiking,
}

/// Hyper-parameters. The defaults are the published autoencoder for MNIST without noise, latency
/// 1 and 32 hidden neurons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// What the network learns.
    pub goal: Goal,
    /// What the network is made of. A conventional one reads `hidden`, `learning_rate` and
    /// `readouts` alone.
    pub units: Units,
    /// Hidden neurons h: the embedding.
    pub hidden: usize,
    /// Target latency l of a reconstruction, in windows.
    pub latency: f64,
    /// Decay rate K of the synaptic kernel, 1/window.
    pub decay: f64,
    /// Threshold θ, weight × window.
    pub threshold: f64,
    /// Pulses sent to each layer.
    pub n_pulses: usize,
    /// Learning rate of the weights.
    pub learning_rate: f64,
    /// Learning rate of the pulse times.
    pub learning_rate_pulses: f64,
    /// Bound of every single derivative of a spike time; 0 = none.
    pub clip_derivative: f64,
    /// Bound of every product of error and derivative; 0 = none.
    pub clip_gradient: f64,
    /// Gradient, of the other sign, of every weight of a neuron that stays silent.
    pub penalty_no_spike: f64,
    /// Mean of the initial weights of neurons, in their standard deviations.
    pub nonpulse_weight_mean_multiplier: f64,
    /// Mean of the initial weights of pulses, in their standard deviations.
    pub pulse_weight_mean_multiplier: f64,
    /// Deviation of a normal draw that moves every input spike of a training sample, in windows;
    /// drawn anew for every presentation.
    pub input_jitter: f64,
    /// Shares of the input and of the hidden spikes that are left out of each presentation of a
    /// training sample, each spike with this probability q; the rest are 1/(1 − q) times as strong.
    pub dropout: [f64; 2],
    /// Decay β of the running mean of the weights, a factor an update; the mean predicts. 0 = the
    /// weights themselves predict.
    pub averaging: f64,
    /// True if weights below 0 are set to 0 after every step: no inhibition.
    pub non_negative: bool,
    /// Classifiers fitted to the embedding.
    pub readouts: Vec<Readout>,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            goal: Goal::Reconstruction,
            units: Units::Spiking,
            hidden: 32,
            latency: 1.0,
            decay: 0.172556,
            threshold: 0.834236,
            n_pulses: 10,
            learning_rate: 0.001676,
            learning_rate_pulses: 0.001441,
            clip_derivative: 386.058227,
            clip_gradient: 0.0,
            penalty_no_spike: 6.250341,
            nonpulse_weight_mean_multiplier: -7.038462,
            pulse_weight_mean_multiplier: 4.213218,
            input_jitter: 0.0,
            dropout: [0.0; 2],
            averaging: 0.0,
            non_negative: false,
            readouts: Vec::new(),
        }
    }
}

impl Params {
    /// The published classifier 784-340-10.
    pub fn classifier() -> Self {
        Self {
            goal: Goal::Classification,
            hidden: 340,
            decay: 0.18176949150701854,
            threshold: 1.1673205005788956,
            learning_rate: 0.0010186407877494507,
            learning_rate_pulses: 0.09537534860701444,
            clip_derivative: 539.6997390421168,
            penalty_no_spike: 48.374830659132556,
            nonpulse_weight_mean_multiplier: -0.2754188425913906,
            pulse_weight_mean_multiplier: 7.839124550382458,
            ..Self::default()
        }
    }

    /// What is wrong with the values, if anything.
    pub fn check(&self) -> Checks {
        let mut c = Checks::default();
        c.count("hidden", self.hidden, 1, 65_536);
        c.within("latency", self.latency, 0.0, 1000.0);
        c.within("decay", self.decay, 1e-3, 1e3);
        c.within("threshold", self.threshold, 1e-6, 1e6);
        c.count("n_pulses", self.n_pulses, 0, 1000);
        c.not_negative("learning_rate", self.learning_rate);
        c.not_negative("learning_rate_pulses", self.learning_rate_pulses);
        c.not_negative("clip_derivative", self.clip_derivative);
        c.not_negative("clip_gradient", self.clip_gradient);
        c.not_negative("penalty_no_spike", self.penalty_no_spike);
        c.finite("nonpulse_weight_mean_multiplier", self.nonpulse_weight_mean_multiplier);
        c.finite("pulse_weight_mean_multiplier", self.pulse_weight_mean_multiplier);
        c.within("input_jitter", self.input_jitter, 0.0, 10.0);
        self.dropout.iter().for_each(|&q| c.within("dropout", q, 0.0, 0.99));
        c.within("averaging", self.averaging, 0.0, 1.0);
        let is_conventional = self.units == Units::Conventional;
        let reconstructs = self.goal == Goal::Reconstruction;
        let allowed = "\"spiking\" with goal = \"classification\"";
        c.that(reconstructs || !is_conventional, "units", "\"conventional\"", allowed);
        let of_spikes = [
            ("input_jitter", self.input_jitter > 0.0),
            ("dropout", self.dropout != [0.0; 2]),
            ("averaging", self.averaging > 0.0),
        ];
        for (field, is_set) in of_spikes {
            let allowed = "0 with units = \"conventional\"";
            c.that(!(is_conventional && is_set), field, "above 0", allowed);
        }
        let listed = format!("{:?}", self.readouts);
        let allowed = "an empty list with goal = \"classification\"";
        c.that(reconstructs || self.readouts.is_empty(), "readouts", &listed, allowed);
        let is_first = |(i, r): (usize, &Readout)| !self.readouts[..i].contains(r);
        let are_distinct = self.readouts.iter().enumerate().all(is_first);
        c.that(are_distinct, "readouts", listed, "a list that holds each classifier once");
        c
    }
}
