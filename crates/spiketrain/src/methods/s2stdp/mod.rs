//! Supervised STDP on first spikes: S2-STDP, paired competing neurons (PCN), neuronal competition
//! groups (NCG), with SSTDP and reward-modulated STDP for comparison.
//!
//! - NCG: G. Goupy, P. Tirilly, I. M. Bilasco, "Neuronal Competition Groups with Supervised STDP
//!   for Spike-Based Classification", NeurIPS 2024, arXiv 2410.17066.
//! - S2-STDP, PCN: the same, "Paired competing neurons improving STDP supervised local learning in
//!   Spiking Neural Networks", Frontiers in Neuroscience 18:1401690, 2024, arXiv 2308.02194.
//! - SSTDP: F. Liu et al., "SSTDP: Supervised Spike Timing Dependent Plasticity for Efficient
//!   Spiking Neural Network Training", Frontiers in Neuroscience 15:756876, 2021.
//!
//! Reads [`Times`](crate::Times): one spike time per feature, fractions of the window; what is not
//! below 1 is no spike. One layer of non-leaky integrate-and-fire neurons, M per class, of which
//! each fires at most once; the class of the first output spike is the answer. Equations:
//!
//! 1. `V_n(t) = Σ_{i: t_i ≤ t} w[n,i]`; neuron n fires at the first t with `V_n > θ_n`.
//! 2. Decision order: spike time ascending, potential descending, index ascending.
//! 3. `U` = all neurons, n_T = M; or the winner of each class, n_T = 1.
//!    `g_n = g·n_T/|U|`, `g_t = g·(|U| − n_T)/|U|`.
//! 4. `T_b = min(mean of t_n over the n in U that fired, T_max − g_n)`.
//! 5. `T_n = T_b − g_t` for target neurons of the true class, else `T_b + g_n`; SSTDP takes
//!    `min(t_n, ·)` and `max(t_n, ·)` of them.
//! 6. `e_n = (t_n − T_n)/T_max`.
//! 7. `w[n,i] += e_n·(A⁺ if t_i ≤ t_n else A⁻)`; clip; `w[n,:] ·= S_n/Σ|w[n,:]|`.
//! 8. Regulation among the m target neurons of the true class: the first in decision order gains
//!    `η(m−1)/m` of threshold, each other loses `η/m`.
//!
//! | symbol | field | shape | unit | default |
//! | --- | --- | --- | --- | --- |
//! | M | `neurons_per_class` | | | 5 |
//! | θ | `threshold` | `[neuron]` | potential | 200 |
//! | g | `gap` | | window | 0.03 |
//! | A⁺, A⁻ | `a_plus`, `a_minus` | | weight | 0.05, −0.1 |
//! | η, α | `threshold_learning_rate`, `threshold_annealing` | | potential, – | 10, 0.5 |
//! | w | state `weight` | `[neuron, input]` | potential | N(0.3, 0.01²) |
//! | S | state `weight_sum` | `[neuron]` | potential | Σ w at the start |
//!
//! Departures are listed in [`CARD`].

mod errors;
mod figures;
mod params;
mod tally;
#[cfg(test)]
mod tests;

pub use params::{Params, Regulation, Rule};

use crate::error::{Error, Result};
use crate::event::Figure;
use crate::learner::{Batch, Card, Ctx, EpochReport, Learner, Prediction, StepReport, Task};
use crate::spikes::{Events, Notation};
use crate::state::State;
use crate::times::competition::{decision_order, regulate, winner};
use crate::times::integrate::{LastEvent, Layer, Outputs, T_MAX};
use crate::times::stdp::{Gain, Update};
use rayon::prelude::*;
use tally::Tally;

/// The method's visiting card.
pub const CARD: Card = Card {
    name: "s2stdp",
    title: "Supervised STDP with neuronal competition groups (S2-STDP, SSTDP, PCN, NCG, R-STDP)",
    citation: "Goupy, Tirilly, Bilasco, NeurIPS 2024, arXiv 2410.17066; \
               Frontiers in Neuroscience 18:1401690, 2024, arXiv 2308.02194",
    reads: &[Notation::Times],
    metrics: &[
        ("mean_output_time", "mean time of the output spikes in training, fraction of the window"),
        ("silent_fraction", "share of the output neurons that stayed silent, over samples"),
        (
            "win_balance",
            "how evenly a class's target neurons share its own samples: entropy of their wins \
             over that of equal shares, mean over classes; 1 is even, 0 is one winner",
        ),
        ("weight_mean", "mean weight at the end of the epoch"),
        (
            "threshold_spread",
            "largest minus smallest training threshold among a class's target neurons, mean over \
             classes, at the end of the epoch",
        ),
        ("target_updates", "per neuron: samples of its own class it won inside its group"),
        ("non_target_updates", "per neuron: samples of other classes it won inside its group"),
        ("neuron_precision", "per neuron: share of the samples it decided that it decided rightly"),
    ],
    departures: &[
        "the last input spike of a sample never makes a neuron fire, as in the authors' program \
         (reference_last_event = false switches this off)",
        "a neuron all of whose weights are 0 is not normalised, where the authors' program divides \
         by 0",
        "the unused leak, input dropout and multiplicative STDP of the authors' program are left \
         out, and so is S4NN, which the NCG paper trains on the same features as a control",
    ],
};

/// The learner.
#[derive(Clone, Debug)]
pub struct S2stdp {
    params: Params,
    n_classes: usize,
    layer: Layer,
    /// Sum each neuron's weights are normalised to, `[neuron]`.
    weight_sums: Vec<f64>,
    /// Thresholds of testing, `[neuron]`.
    thresholds: Vec<f32>,
    /// Adaptive thresholds of training, `[neuron]`.
    adaptive: Vec<f32>,
    /// A⁺, A⁻, B⁺, B⁻ after annealing.
    rates: [f64; 4],
    /// η after annealing.
    threshold_rate: f64,
    /// Training accuracy of the last epoch; R-STDP scales its rates by it.
    last_accuracy: f64,
    tally: Tally,
    scratch: Scratch,
}

/// Buffers of one sample; hold nothing between samples.
#[derive(Clone, Debug, Default)]
struct Scratch {
    outputs: Outputs,
    thresholds: Vec<f32>,
    /// Dense input times; [`T_MAX`] everywhere between samples.
    input_times: Vec<f32>,
    gains: Vec<Gain>,
}

/// What the layer did with a training sample before it learned from it.
#[derive(Clone, Copy, Debug)]
pub struct Learned<'a> {
    /// Spike times and potentials.
    pub outputs: &'a Outputs,
    /// Thresholds used, `[neuron]`; infinite where dropout switched the neuron off.
    pub thresholds: &'a [f32],
    /// The class predicted.
    pub class: usize,
    /// ½ Σ e² over the neurons that learned; 0 for R-STDP.
    pub loss: f64,
}

impl S2stdp {
    /// A layer with weights drawn from the task's seed.
    ///
    /// # Errors
    ///
    /// If the task has no spike times or fewer than two classes, or a neuron's initial weights have
    /// a sum below 0 that normalisation would keep.
    pub fn new(params: &Params, task: &Task) -> Result<Self> {
        let n_inputs = task.shape.len();
        let n_neurons = task.n_classes * params.neurons_per_class;
        let mut weights = Vec::with_capacity(n_neurons * n_inputs);
        for n in 0..n_neurons {
            let mut stream = task.seed.stream("s2stdp.weights", n as u64);
            let draw = || stream.normal(params.weight_mean, params.weight_std) as f32;
            weights.extend(std::iter::repeat_with(draw).take(n_inputs));
        }
        Self::with_weights(params, task, weights)
    }

    /// A layer with given `weights[[neuron, input]]` in place of drawn ones. Their sums are what
    /// normalisation keeps; then they are clipped.
    ///
    /// # Errors
    ///
    /// As [`S2stdp::new`], or if the weights do not fill the shape or have a sum below 0 that
    /// normalisation would keep.
    pub fn with_weights(params: &Params, task: &Task, mut weights: Vec<f32>) -> Result<Self> {
        let (n_inputs, n_neurons) = (task.shape.len(), task.n_classes * params.neurons_per_class);
        if task.notation != Notation::Times {
            let found = task.notation.name();
            return Err(Error::recipe(format!(
                "s2stdp reads spike times, the encoder gives {found}"
            )));
        }
        if task.n_classes < 2 {
            let n = task.n_classes;
            return Err(Error::recipe(format!(
                "s2stdp needs at least 2 classes, the data has {n}"
            )));
        }
        if weights.len() != n_inputs * n_neurons {
            let n = weights.len();
            return Err(Error::recipe(format!("{n} weights for {n_neurons}×{n_inputs} synapses")));
        }
        let row_sum = |row: &[f32]| row.iter().map(|&w| f64::from(w)).sum::<f64>();
        let weight_sums: Vec<f64> = weights.chunks_exact(n_inputs).map(row_sum).collect();
        let below = weight_sums.iter().position(|&s| s < 0.0);
        if let Some(n) = below.filter(|_| params.normalise) {
            let Params { weight_mean: mean, weight_std: std, .. } = params;
            let sum = weight_sums[n];
            return Err(Error::recipe(format!(
                "method.s2stdp.weight_mean = {mean}: with weight_std = {std} the initial weights of \
                 neuron {n} have the sum {sum:.4}; normalise = true needs sums not below 0"
            )));
        }
        weights.iter_mut().for_each(|w| *w = w.clamp(params.weight_min, params.weight_max));
        let anti_plus = params.anti_a_plus.unwrap_or(-params.a_plus);
        let anti_minus = params.anti_a_minus.unwrap_or(-params.a_minus);
        Ok(Self {
            params: params.clone(),
            n_classes: task.n_classes,
            layer: Layer::new(n_inputs, n_neurons, &weights),
            weight_sums,
            thresholds: vec![params.threshold; n_neurons],
            adaptive: vec![params.threshold; n_neurons],
            rates: [params.a_plus, params.a_minus, anti_plus, anti_minus],
            threshold_rate: params.threshold_learning_rate,
            last_accuracy: 1.0 / task.n_classes as f64,
            tally: Tally::new(n_neurons),
            scratch: Scratch { input_times: vec![T_MAX; n_inputs], ..Scratch::default() },
        })
    }

    /// Number of output neurons.
    pub fn n_neurons(&self) -> usize {
        self.layer.n_neurons()
    }

    /// A⁺, A⁻, B⁺, B⁻ as they apply now: annealed, and for R-STDP scaled by the last epoch's
    /// training accuracy.
    pub fn rates(&self) -> [f64; 4] {
        let [a_plus, a_minus, b_plus, b_minus] = self.rates;
        if self.params.rule != Rule::RStdp {
            return self.rates;
        }
        let (miss, hit) = (1.0 - self.last_accuracy, self.last_accuracy);
        [a_plus * miss, a_minus * miss, b_plus * hit, b_minus * hit]
    }

    /// Output times and potentials for one sample, with the thresholds of testing (equation 1).
    ///
    /// # Errors
    ///
    /// If the sample has no spike.
    pub fn outputs(&self, events: Events<'_>) -> Result<Outputs> {
        let events = inside_window(events)?;
        let mut outputs = Outputs::default();
        self.layer.forward(events, &self.thresholds, self.last_event(), &mut outputs);
        Ok(outputs)
    }

    /// Learns from one sample; neurons where `active` is false stay silent and compete as silent.
    ///
    /// # Errors
    ///
    /// If the sample has no spike or `label` is no class.
    pub fn learn(
        &mut self,
        events: Events<'_>,
        label: usize,
        active: Option<&[bool]>,
    ) -> Result<Learned<'_>> {
        let events = inside_window(events)?;
        if label >= self.n_classes {
            let last = self.n_classes - 1;
            return Err(Error::data(format!("label {label}, expected 0 to {last}")));
        }
        self.set_training_thresholds(label);
        let last = self.last_event();
        let Scratch { outputs, thresholds, .. } = &mut self.scratch;
        if let Some(active) = active {
            let off = |t: &mut f32| *t = f32::INFINITY;
            thresholds.iter_mut().zip(active).filter(|(_, a)| !**a).for_each(|(t, _)| off(t));
        }
        self.layer.forward(events, thresholds, last, outputs);
        if let Some(active) = active {
            let off = outputs.potentials.iter_mut().zip(active).filter(|(_, a)| !**a);
            off.for_each(|(v, _)| *v = 0.0);
        }
        let outputs = &self.scratch.outputs;
        let winners: Vec<usize> =
            (0..self.n_classes).filter_map(|k| winner(outputs, self.params.group(k))).collect();
        let decider = winner(outputs, winners.iter().copied()).expect("there are classes");
        self.tally.count(outputs, label, &winners, decider, self.params.neurons_per_class);
        self.regulate_thresholds(label);
        let loss = self.set_gains(label, &winners, decider);
        self.update_weights(events);
        let Scratch { outputs, thresholds, .. } = &self.scratch;
        Ok(Learned { outputs, thresholds, class: decider / self.params.neurons_per_class, loss })
    }

    fn last_event(&self) -> LastEvent {
        if self.params.reference_last_event { LastEvent::NeverFires } else { LastEvent::Fires }
    }

    /// Thresholds for a training sample of class `label`.
    fn set_training_thresholds(&mut self, label: usize) {
        let used = &mut self.scratch.thresholds;
        used.clear();
        match self.params.regulation {
            Regulation::None => used.extend_from_slice(&self.thresholds),
            Regulation::OneThreshold => used.extend_from_slice(&self.adaptive),
            Regulation::TwoCompartments => {
                used.extend_from_slice(&self.thresholds);
                let targets = self.params.targets(label);
                used[targets.clone()].copy_from_slice(&self.adaptive[targets]);
            }
        }
    }

    /// Equation 8, before the weights change.
    fn regulate_thresholds(&mut self, label: usize) {
        if self.params.regulation == Regulation::None || self.threshold_rate == 0.0 {
            return;
        }
        let rivals = self.params.targets(label);
        let Some(first) = winner(&self.scratch.outputs, rivals.clone()) else { return };
        regulate(&mut self.adaptive, rivals.clone(), first, self.threshold_rate);
        if self.params.regulation == Regulation::TwoCompartments {
            let floor = self.thresholds.iter().copied().fold(f32::INFINITY, f32::min);
            self.adaptive[rivals].iter_mut().for_each(|a| *a = a.max(floor));
        }
    }

    /// What each neuron is to gain from this sample; returns the loss.
    fn set_gains(&mut self, label: usize, winners: &[usize], decider: usize) -> f64 {
        let [a_plus, a_minus, b_plus, b_minus] = self.rates();
        let n_neurons = self.n_neurons();
        let gains = &mut self.scratch.gains;
        gains.clear();
        gains.resize(n_neurons, Gain::default());
        // A positive error asks for STDP, a negative one for anti-STDP.
        let gain = |e: f64| {
            let (causal, acausal) = if e >= 0.0 { (a_plus, a_minus) } else { (b_plus, b_minus) };
            Gain { causal: (e.abs() * causal) as f32, acausal: (e.abs() * acausal) as f32 }
        };
        if self.params.rule == Rule::RStdp {
            let is_right = self.params.targets(label).contains(&decider);
            gains[decider] = gain(if is_right { 1.0 } else { -1.0 });
            return 0.0;
        }
        let all: Vec<usize>;
        let learning = if self.params.intra_class_wta {
            winners
        } else {
            all = (0..n_neurons).collect();
            &all
        };
        let outputs = &self.scratch.outputs;
        let errors = errors::timing_errors(&self.params, outputs, label, learning);
        learning.iter().zip(&errors).for_each(|(&n, &e)| gains[n] = gain(e));
        0.5 * errors.iter().map(|e| e * e).sum::<f64>()
    }

    /// Equation 7.
    fn update_weights(&mut self, events: Events<'_>) {
        let Scratch { outputs, input_times, gains, .. } = &mut self.scratch;
        events.iter().for_each(|(i, t)| input_times[i] = t);
        self.layer.update(&Update {
            input_times,
            output_times: &outputs.times,
            gains,
            weight_min: self.params.weight_min,
            weight_max: self.params.weight_max,
            norms: if self.params.normalise { &self.weight_sums } else { &[] },
        });
        events.iter().for_each(|(i, _)| input_times[i] = T_MAX);
    }

    fn threshold_spread(&self) -> f64 {
        let spread = |k| {
            let of_class = &self.adaptive[self.params.targets(k)];
            let max = of_class.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            f64::from(max - of_class.iter().copied().fold(f32::INFINITY, f32::min))
        };
        (0..self.n_classes).map(spread).sum::<f64>() / self.n_classes as f64
    }

    fn prediction(&self, events: Events<'_>) -> Result<Prediction> {
        let outputs = self.outputs(events)?;
        let winners = (0..self.n_classes).filter_map(|k| winner(&outputs, self.params.group(k)));
        let mut winners: Vec<usize> = winners.collect();
        winners.sort_by(|&a, &b| decision_order(&outputs, a, b));
        // Minus the time of the class's first spike; a class behind another in decision order
        // scores less, by one unit in the last place where their times are the same.
        let mut scores = vec![0.0; self.n_classes];
        let mut above = f32::INFINITY;
        for &n in &winners {
            above = (-outputs.times[n]).min(above.next_down());
            scores[n / self.params.neurons_per_class] = above;
        }
        let decision = outputs.times[winners[0]];
        let n_in = events.times.partition_point(|&t| t <= decision && t < T_MAX) as u64;
        let n_out = outputs.times.iter().filter(|&&t| t <= decision && t < T_MAX).count() as u64;
        Ok(Prediction {
            class: Some((winners[0] / self.params.neurons_per_class) as u16),
            scores,
            n_spikes: n_in + n_out,
            n_synops: n_in * self.n_neurons() as u64,
            decision_time: Some(decision / T_MAX),
            ..Prediction::default()
        })
    }
}

/// The events before the end of the window.
fn inside_window(events: Events<'_>) -> Result<Events<'_>> {
    let n = events.times.partition_point(|&t| t < T_MAX);
    if n == 0 {
        return Err(Error::data("no spike before the end of the window, expected at least one"));
    }
    Ok(Events { neurons: &events.neurons[..n], times: &events.times[..n] })
}

impl Learner for S2stdp {
    fn step(&mut self, batch: &Batch<'_>, ctx: &Ctx) -> Result<StepReport> {
        let times = batch.inputs.as_times();
        let p = self.params.output_dropout as f32;
        let mut report = StepReport { n_samples: batch.len() as u64, ..StepReport::default() };
        let mut n_correct = 0;
        for (i, &row) in batch.rows.iter().enumerate() {
            let label = batch.labels.get(row).copied();
            let label = label.ok_or_else(|| Error::data(format!("sample {row} has no label")))?;
            let mut stream = ctx.seed.stream("s2stdp.dropout", ctx.presentation(i));
            let active: Option<Vec<bool>> =
                (p > 0.0).then(|| (0..self.n_neurons()).map(|_| !stream.chance(p)).collect());
            let learned = self
                .learn(times.sample(row), usize::from(label), active.as_deref())
                .map_err(|e| e.context(format!("sample {row}")))?;
            report.loss += learned.loss;
            n_correct += u64::from(learned.class == usize::from(label));
        }
        report.n_correct = Some(n_correct);
        Ok(report)
    }

    fn predict(&self, batch: &Batch<'_>) -> Result<Vec<Prediction>> {
        let times = batch.inputs.as_times();
        let predict = |&row: &usize| {
            self.prediction(times.sample(row)).map_err(|e| e.context(format!("sample {row}")))
        };
        batch.rows.par_iter().map(predict).collect()
    }

    fn state(&self) -> State {
        let (n, i) = (self.n_neurons(), self.layer.n_inputs());
        let mut state = State::new();
        state.put("weight", &[n, i], self.layer.weights());
        state.put("weight_sum", &[n], self.weight_sums.clone());
        state.put("threshold", &[n], self.thresholds.clone());
        state.put("adaptive_threshold", &[n], self.adaptive.clone());
        state.put("rates", &[4], self.rates.to_vec());
        state.put("threshold_learning_rate", &[], vec![self.threshold_rate]);
        state.put("last_accuracy", &[], vec![self.last_accuracy]);
        state.nest("epoch", self.tally.state());
        state
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        let (n, i) = (self.n_neurons(), self.layer.n_inputs());
        self.layer.set_weights(state.get("weight", &[n, i])?);
        self.weight_sums = state.get("weight_sum", &[n])?.to_vec();
        self.thresholds = state.get("threshold", &[n])?.to_vec();
        self.adaptive = state.get("adaptive_threshold", &[n])?.to_vec();
        self.rates.copy_from_slice(state.get("rates", &[4])?);
        self.threshold_rate = state.scalar("threshold_learning_rate")?;
        self.last_accuracy = state.scalar("last_accuracy")?;
        self.tally = Tally::restored(&state.sub("epoch"), n)?;
        Ok(())
    }

    fn end_epoch(&mut self, _ctx: &Ctx) -> Result<EpochReport> {
        let mut report = self.tally.report(&self.params, self.n_classes);
        let weights = self.layer.weights();
        let mean = weights.iter().map(|&w| f64::from(w)).sum::<f64>() / weights.len() as f64;
        report.metrics.insert("weight_mean".into(), mean);
        report.metrics.insert("threshold_spread".into(), self.threshold_spread());
        self.rates.iter_mut().for_each(|r| *r *= self.params.annealing);
        self.threshold_rate *= self.params.threshold_annealing;
        match self.params.regulation {
            Regulation::None => {}
            Regulation::OneThreshold => self.thresholds.clone_from(&self.adaptive),
            Regulation::TwoCompartments => self.adaptive.clone_from(&self.thresholds),
        }
        self.last_accuracy = self.tally.accuracy();
        self.tally = Tally::new(self.n_neurons());
        Ok(report)
    }

    fn figures(&self, probe: &Batch<'_>) -> Result<Vec<Figure>> {
        figures::figures(self, probe)
    }
}
