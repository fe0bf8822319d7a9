//! Hyper-parameters: the table `[method.stidi-bp]` of a recipe.

use super::network::Plan;
use crate::check::Checks;
use serde::{Deserialize, Deserializer, Serialize};

/// Desired times of the output neurons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The right neuron is asked to lead the best rival by the margin.
    Margin,
    /// The right neuron is asked to be as early as the earliest, as in S4NN.
    S4nn,
    /// As `s4nn`, but nothing is learned from a sample for which no output neuron fired.
    Bs4nn,
}

/// The derivative of a spike time by the potential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Latency {
    /// −1 for every neuron.
    Const,
    /// −1 over the potential's slope at the spike.
    Slope,
}

/// What the hidden neurons' spikes should have done for the errors of the layer above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Displacement {
    /// `Σ_j e_j w_ji [t_i < t_j]`
    Weight,
    /// `Σ_j e_j κ_j w_ji ε′(t_j − t_i)`
    Linear,
}

/// Scale of a layer's timing errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorScale {
    /// Every layer's errors have norm 1.
    Unit,
    /// Every layer's errors have the norm of the output's, in units of the margin, at most 1.
    Output,
}

/// Weights of the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weights {
    /// Real numbers.
    Real,
    /// Signs of the real numbers.
    Binary,
}

/// Distribution of a layer's initial weights; n is the number of a neuron's inputs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// Uniform between two weights.
    Uniform([f64; 2]),
    /// Normal with mean `a·θ/n` and standard deviation `b·θ/√n`, given as `[a, b]`.
    Scaled([f64; 2]),
}

/// One value for all layers or one a layer with weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PerLayer<T> {
    /// The same everywhere.
    All(T),
    /// From the first layer to the output.
    Each(Vec<T>),
}

impl<T: Copy> PerLayer<T> {
    /// The value of layer `l`.
    pub fn get(&self, l: usize) -> T {
        match self {
            PerLayer::All(x) => *x,
            PerLayer::Each(x) => x[l],
        }
    }

    /// All values written.
    pub(super) fn values(&self) -> &[T] {
        match self {
            PerLayer::All(x) => std::slice::from_ref(x),
            PerLayer::Each(x) => x,
        }
    }
}

/// Hyper-parameters. The defaults are those of the fully connected network 784-350-10.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// The hidden layers, parts joined by `-`: `nCk` = n maps with k × k kernels, `Pp` = p × p
    /// earliest-spike pooling of the maps before, `n` = n fully connected neurons. The output
    /// layer, one neuron a class, is not written.
    #[serde(deserialize_with = "layers")]
    pub hidden: String,
    /// Steps of the window, T; a spike at step T is none.
    pub n_steps: u16,
    /// Rise of the postsynaptic potential, τ_r, in steps; 1 is the instantaneous synapse.
    pub rise: u16,
    /// Fall of the postsynaptic potential, τ_d, in steps; 0 is a plateau.
    pub fall: u16,
    /// Threshold θ.
    pub threshold: PerLayer<f64>,
    /// Initial weights.
    pub init: PerLayer<Init>,
    /// Weights of the forward pass.
    pub weights: Weights,
    /// Binary weights stand for ±f, f a number a layer; the mean absolute initial weight if left
    /// out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor: Option<PerLayer<f64>>,
    /// Learning rate of the factors of binary weights; 0 keeps them.
    pub factor_learning_rate: f64,
    /// Learning rate η, in units of the weights.
    pub learning_rate: PerLayer<f64>,
    /// Decay λ: weights are multiplied by 1 − ηλ for every sample learned from, at the end of the
    /// loop's batch.
    pub l2: PerLayer<f64>,
    /// Samples whose updates are computed with the same weights and then added.
    pub mini_batch: usize,
    /// Forgetting β of the running mean of the weights, taken after each of the loop's batches;
    /// with 0 there is none, otherwise the mean predicts.
    pub averaging: f64,
    /// Steps γ between the right output neuron and the others.
    pub margin: u16,
    /// Desired times of the output neurons.
    pub target: Target,
    /// The derivative of a spike time by the potential.
    pub latency: Latency,
    /// Least slope of the potential, per step; only read with `latency = "slope"`.
    pub slope_min: f64,
    /// How errors reach the layer below.
    pub displacement: Displacement,
    /// True if errors travel down through the weights after their update, and factors learn from
    /// their signs after it, as in S4NN and BS4NN.
    pub displacement_uses_updated_weights: bool,
    /// Share ζ of their mean that is taken off the displacements of a layer's spikes, 0 to 1: with
    /// 0 errors can pull a whole layer earlier or later, with 1 its spikes move against each other.
    pub centring: f64,
    /// Scale of the errors.
    pub error_scale: ErrorScale,
    /// Training images are shifted by up to so many pixels in each direction.
    pub max_shift: u16,
    /// Probability that a training image is mirrored left to right.
    pub mirror: f64,
    /// Probability that an input spike of a layer is left out in training.
    pub dropout: PerLayer<f64>,
    /// Hidden neurons (maps of a convolution) of whose outputs less than this share fired in an
    /// epoch get new initial weights; 0 leaves them.
    pub rescue: f64,
}

/// Reads `hidden`; a single fully connected layer may be a bare number.
fn layers<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected layers like \"40C5-P2-1000\", or a number of neurons")]
    enum Layers {
        Number(u64),
        Text(String),
    }
    Ok(match Layers::deserialize(from)? {
        Layers::Number(n) => n.to_string(),
        Layers::Text(text) => text,
    })
}

impl Default for Params {
    fn default() -> Self {
        let init = [Init::Uniform([-4.0, 6.0]), Init::Uniform([-24.0, 36.0])];
        Self {
            hidden: "350".into(),
            n_steps: 64,
            rise: 32,
            fall: 0,
            threshold: PerLayer::All(100.0),
            init: PerLayer::Each(init.to_vec()),
            weights: Weights::Real,
            factor: None,
            factor_learning_rate: 0.0,
            learning_rate: PerLayer::Each(vec![0.8, 1.6]),
            l2: PerLayer::All(1e-6),
            mini_batch: 1,
            averaging: 0.0,
            margin: 4,
            target: Target::Margin,
            latency: Latency::Const,
            slope_min: 1.0,
            displacement: Displacement::Weight,
            displacement_uses_updated_weights: false,
            centring: 0.0,
            error_scale: ErrorScale::Unit,
            max_shift: 0,
            mirror: 0.0,
            dropout: PerLayer::All(0.0),
            rescue: 0.0,
        }
    }
}

impl Params {
    /// What is wrong with the values, if anything.
    pub fn check(&self) -> Checks {
        let mut c = Checks::default();
        let n_layers = match Plan::parse(&self.hidden) {
            Ok(hidden) => Some(hidden.n_weight_layers() + 1),
            Err(allowed) => {
                c.that(false, "hidden", format!("{:?}", self.hidden), &allowed);
                None
            }
        };
        c.count("n_steps", usize::from(self.n_steps), 2, 4096);
        c.count("rise", usize::from(self.rise), 1, 4096);
        c.count("fall", usize::from(self.fall), 0, 4096);
        let every = |c: &mut Checks, field: &str, values: &PerLayer<f64>, least: f64| {
            count_layers(c, field, values, n_layers);
            let ok = |x: &&f64| **x > least && x.is_finite();
            if let Some(x) = values.values().iter().find(|x| !ok(x)) {
                let allowed = if least < 0.0 { "a number not below 0" } else { "a number above 0" };
                c.that(false, field, x, allowed);
            }
        };
        every(&mut c, "threshold", &self.threshold, 0.0);
        every(&mut c, "learning_rate", &self.learning_rate, -f64::MIN_POSITIVE);
        if let Some(factor) = &self.factor {
            every(&mut c, "factor", factor, 0.0);
        }
        count_layers(&mut c, "init", &self.init, n_layers);
        for init in self.init.values() {
            let (ok, [a, b], allowed) = match *init {
                Init::Uniform([a, b]) => (a < b, [a, b], "two ascending numbers"),
                Init::Scaled([a, b]) => (b >= 0.0, [a, b], "two numbers, the second not below 0"),
            };
            c.that(ok && a.is_finite() && b.is_finite(), "init", format!("[{a}, {b}]"), allowed);
        }
        c.not_negative("factor_learning_rate", self.factor_learning_rate);
        c.count("mini_batch", self.mini_batch, 1, 4096);
        c.within("averaging", self.averaging, 0.0, 1.0);
        let margin = usize::from(self.margin);
        c.count("margin", margin, 1, usize::from(self.n_steps.saturating_sub(1)));
        c.positive("slope_min", self.slope_min);
        c.within("centring", self.centring, 0.0, 1.0);
        c.count("max_shift", usize::from(self.max_shift), 0, 64);
        c.within("mirror", self.mirror, 0.0, 1.0);
        for (field, values, most) in [("l2", &self.l2, 1.0), ("dropout", &self.dropout, 0.99)] {
            count_layers(&mut c, field, values, n_layers);
            values.values().iter().for_each(|&x| c.within(field, x, 0.0, most));
        }
        c.within("rescue", self.rescue, 0.0, 0.5);
        // Slopes at the spike times belong to the weights that the neurons fired with.
        let travels_by_slope =
            self.latency == Latency::Slope && self.displacement == Displacement::Linear;
        let allowed = "false with latency = \"slope\" and displacement = \"linear\"";
        let is_updated = self.displacement_uses_updated_weights;
        let field = "displacement_uses_updated_weights";
        c.that(!(travels_by_slope && is_updated), field, is_updated, allowed);
        c
    }

    /// Whether the factors of binary weights are learned.
    pub(super) fn learns_factors(&self) -> bool {
        self.weights == Weights::Binary && self.factor_learning_rate > 0.0
    }
}

fn count_layers<T: Copy>(
    c: &mut Checks,
    field: &str,
    values: &PerLayer<T>,
    n_layers: Option<usize>,
) {
    if let (PerLayer::Each(v), Some(n)) = (values, n_layers) {
        let allowed = format!("one value, or a list of {n} (the layers with weights)");
        c.that(v.len() == n, field, format!("a list of {}", v.len()), &allowed);
    }
}
