//! Stochastic gradient descent with momentum, Adam and AdamW over groups of parameters.

use super::parameters::{AT_ONCE, Gradients, Parameters};
use crate::check::Checks;
use crate::error::Result;
use crate::state::State;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// An optimiser by name: `optimizer = { sgd = { learning_rate = 0.1 } }`.
///
/// With g the gradient, w the parameter, η the learning rate and d the weight decay:
///
/// - sgd: `v ← μ v + (g + d w)`, `w ← w − η v`
/// - adam: `g ← g + d w`, `m ← β₁ m + (1 − β₁) g`, `v ← β₂ v + (1 − β₂) g²`,
///   `w ← w − η m̂/(√v̂ + ε)`, m̂ and v̂ corrected for their start at 0 (D. P. Kingma, J. Ba, ICLR
///   2015, arXiv 1412.6980)
/// - adam-w: the same without d in g, but `w ← (1 − η d) w` first (I. Loshchilov, F. Hutter, ICLR
///   2019, arXiv 1711.05101)
///
/// β₁ = 0.9, β₂ = 0.999, ε = 10⁻⁸.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Settings {
    /// Stochastic gradient descent with momentum.
    Sgd {
        /// η.
        learning_rate: f64,
        /// μ.
        #[serde(default)]
        momentum: f64,
        /// d.
        #[serde(default)]
        weight_decay: f64,
    },
    /// Adam with the weight decay in the gradient.
    Adam {
        /// η.
        learning_rate: f64,
        /// d.
        #[serde(default)]
        weight_decay: f64,
    },
    /// Adam with decoupled weight decay.
    AdamW {
        /// η.
        learning_rate: f64,
        /// d.
        #[serde(default)]
        weight_decay: f64,
    },
}

const BETAS: [f64; 2] = [0.9, 0.999];
const EPSILON: f32 = 1e-8;

impl Settings {
    /// What is wrong with the values.
    pub fn check(&self) -> Checks {
        let mut c = Checks::default();
        let name = match self {
            Settings::Sgd { momentum, .. } => {
                let ok = (0.0..1.0).contains(momentum);
                c.that(ok, "sgd.momentum", momentum, "a number from 0 to below 1");
                "sgd"
            }
            Settings::Adam { .. } => "adam",
            Settings::AdamW { .. } => "adam-w",
        };
        c.not_negative(&format!("{name}.learning_rate"), self.learning_rate());
        c.not_negative(&format!("{name}.weight_decay"), self.weight_decay());
        c
    }

    /// η.
    pub fn learning_rate(&self) -> f64 {
        match *self {
            Settings::Sgd { learning_rate, .. }
            | Settings::Adam { learning_rate, .. }
            | Settings::AdamW { learning_rate, .. } => learning_rate,
        }
    }

    /// d.
    pub fn weight_decay(&self) -> f64 {
        match *self {
            Settings::Sgd { weight_decay, .. }
            | Settings::Adam { weight_decay, .. }
            | Settings::AdamW { weight_decay, .. } => weight_decay,
        }
    }
}

/// How one parameter is treated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    /// η, before the schedule.
    pub learning_rate: f64,
    /// d.
    pub weight_decay: f64,
}

/// An optimiser and its memory.
#[derive(Clone, Debug)]
pub struct Optimizer {
    settings: Settings,
    /// One for each parameter.
    groups: Vec<Group>,
    n_steps: u64,
    /// v of SGD, m of Adam; in the order of parameters.
    first: Vec<Vec<f32>>,
    /// v of Adam; empty for SGD.
    second: Vec<Vec<f32>>,
}

impl Optimizer {
    /// An optimiser for `parameters`, each treated as `group` says from its index and itself.
    pub fn new(
        settings: Settings,
        parameters: &Parameters,
        group: impl Fn(&super::parameters::Parameter) -> Group,
    ) -> Self {
        let zeros = || parameters.zeros().list;
        let has_second = !matches!(settings, Settings::Sgd { .. });
        Self {
            settings,
            groups: parameters.list.iter().map(group).collect(),
            n_steps: 0,
            first: zeros(),
            second: if has_second { zeros() } else { Vec::new() },
        }
    }

    /// One step; `rate` is the schedule's factor of every learning rate.
    pub fn step(&mut self, parameters: &mut Parameters, gradients: &Gradients, rate: f64) {
        self.n_steps += 1;
        let power = |beta: f64| 1.0 - libm::pow(beta, self.n_steps as f64);
        let corrections = BETAS.map(power);
        for (i, parameter) in parameters.list.iter_mut().enumerate() {
            let Group { learning_rate, weight_decay } = self.groups[i];
            let learning_rate = learning_rate * rate;
            let (w, g, first) = (&mut parameter.values, &gradients.list[i], &mut self.first[i]);
            match self.settings {
                Settings::Sgd { momentum, .. } => {
                    let (momentum, decay, rate) =
                        (momentum as f32, weight_decay as f32, learning_rate as f32);
                    let parts = w.par_chunks_mut(AT_ONCE).zip(g.par_chunks(AT_ONCE));
                    parts.zip(first.par_chunks_mut(AT_ONCE)).for_each(|((w, g), v)| {
                        for ((w, &g), v) in w.iter_mut().zip(g).zip(v) {
                            *v = momentum * *v + (g + decay * *w);
                            *w -= rate * *v;
                        }
                    });
                }
                Settings::Adam { .. } => {
                    let decay = weight_decay as f32;
                    adam(w, g, first, &mut self.second[i], decay, 1.0, learning_rate, corrections);
                }
                Settings::AdamW { .. } => {
                    let shrink = (1.0 - learning_rate * weight_decay) as f32;
                    adam(w, g, first, &mut self.second[i], 0.0, shrink, learning_rate, corrections);
                }
            }
        }
    }

    /// Arrays it keeps for each parameter.
    pub fn n_moments(&self) -> usize {
        if self.second.is_empty() { 1 } else { 2 }
    }

    /// What it remembers, by the names of the parameters.
    pub fn state(&self, parameters: &Parameters) -> State {
        let mut state = State::new();
        state.put("n_steps", &[], vec![self.n_steps]);
        for (i, p) in parameters.list.iter().enumerate() {
            state.put(&format!("first.{}", p.name), &p.shape, self.first[i].clone());
            if let Some(second) = self.second.get(i) {
                state.put(&format!("second.{}", p.name), &p.shape, second.clone());
            }
        }
        state
    }

    /// Puts back what [`Optimizer::state`] gave.
    ///
    /// # Errors
    ///
    /// If an array is missing or does not fit.
    pub fn restore(&mut self, parameters: &Parameters, state: &State) -> Result<()> {
        self.n_steps = state.scalar("n_steps")?;
        for (i, p) in parameters.list.iter().enumerate() {
            self.first[i] = state.get(&format!("first.{}", p.name), &p.shape)?.to_vec();
            if let Some(second) = self.second.get_mut(i) {
                *second = state.get(&format!("second.{}", p.name), &p.shape)?.to_vec();
            }
        }
        Ok(())
    }
}

/// Adam on one array: `decay` in the gradient, `shrink` on the weight.
fn adam(
    w: &mut [f32],
    g: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    decay: f32,
    shrink: f32,
    learning_rate: f64,
    corrections: [f64; 2],
) {
    let [b1, b2] = BETAS.map(|b| b as f32);
    let [c1, c2] = BETAS.map(|b| (1.0 - b) as f32);
    let rate = (learning_rate / corrections[0]) as f32;
    let root = (1.0 / corrections[1].sqrt()) as f32;
    let parts = w.par_chunks_mut(AT_ONCE).zip(g.par_chunks(AT_ONCE));
    let moments = first.par_chunks_mut(AT_ONCE).zip(second.par_chunks_mut(AT_ONCE));
    parts.zip(moments).for_each(|((w, g), (m, v))| {
        for (((w, &g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
            let g = g + decay * *w;
            *m = b1 * *m + c1 * g;
            *v = b2 * *v + c2 * g * g;
            *w = shrink * *w - rate * *m / (v.sqrt() * root + EPSILON);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::parameters::Kind;
    use super::*;

    fn minimise(settings: Settings) -> f32 {
        let mut parameters = Parameters::default();
        parameters.add("w".into(), &[2], Kind::Weight, vec![3.0, -2.0]);
        let group = Group { learning_rate: settings.learning_rate(), weight_decay: 0.0 };
        let mut optimizer = Optimizer::new(settings, &parameters, |_| group);
        for _ in 0..400 {
            let w = &parameters.list[0].values;
            let gradients = Gradients { list: vec![vec![2.0 * (w[0] - 1.0), 20.0 * w[1]]] };
            optimizer.step(&mut parameters, &gradients, 1.0);
        }
        let w = &parameters.list[0].values;
        (w[0] - 1.0).abs().max(w[1].abs())
    }

    #[test]
    fn every_optimiser_finds_the_bottom_of_a_bowl() {
        let weight_decay = 0.0;
        let sgd = Settings::Sgd { learning_rate: 0.02, momentum: 0.9, weight_decay };
        assert!(minimise(sgd) < 1e-3);
        assert!(minimise(Settings::Adam { learning_rate: 0.1, weight_decay }) < 1e-2);
        assert!(minimise(Settings::AdamW { learning_rate: 0.1, weight_decay }) < 1e-2);
    }

    #[test]
    fn a_restored_optimiser_goes_on_alike() {
        let settings = Settings::Adam { learning_rate: 0.1, weight_decay: 0.01 };
        let mut parameters = Parameters::default();
        parameters.add("w".into(), &[1], Kind::Weight, vec![1.0]);
        let group = Group { learning_rate: 0.1, weight_decay: 0.01 };
        let mut a = Optimizer::new(settings, &parameters, |_| group);
        let gradients = Gradients { list: vec![vec![0.5]] };
        a.step(&mut parameters, &gradients, 1.0);
        let mut b = Optimizer::new(settings, &parameters, |_| group);
        b.restore(&parameters, &a.state(&parameters)).unwrap();
        let mut copy = parameters.clone();
        a.step(&mut parameters, &gradients, 0.5);
        b.step(&mut copy, &gradients, 0.5);
        assert_eq!(parameters.list[0].values, copy.list[0].values);
    }
}
