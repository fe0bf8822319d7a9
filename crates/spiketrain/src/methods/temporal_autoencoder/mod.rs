//! Spiking autoencoders and classifiers with temporal coding: exact spike times of alpha-synapse
//! neurons, trainable synchronisation pulses, exact gradients.
//!
//! - Autoencoder: I.-M. Comşa, L. Versari, T. Fischbacher, J. Alakuijala, "Spiking Autoencoders
//!   With Temporal Coding", Frontiers in Neuroscience 15:712667, 2021,
//!   doi:10.3389/fnins.2021.712667.
//! - Neuron and classifier: I. M. Comsa, K. Potempa, L. Versari, T. Fischbacher, A. Gesmundo,
//!   J. Alakuijala, "Temporal Coding in Spiking Neural Networks with Alpha Synaptic Function:
//!   Learning with Backpropagation", 2019, arXiv 1907.13223.
//!
//! Reads [`Times`]: one spike time per pixel, in windows; silent inputs have no
//! event. Every neuron fires at most once and the time of that spike is its value. Equations
//! (those of the neuron stand in [`times::alpha`](crate::times::alpha)):
//!
//! 1. `V(t) = Σ w_i (t − t_i) exp(−K(t − t_i))`; a neuron fires at the first t with `V = θ`.
//! 2. Reconstruction: `L = 1/N·Σ (o_j − τ_j)²`, `o_j = t_j − l`, or 1 where output j is silent;
//!    error `g_j = t_j − l − τ_j` where it is not.
//! 3. Classification: `p = softmax(−t)`, cross-entropy, error `g_j = y_j − p_j`.
//! 4. `∂L/∂w = Σ g·clip(∂t*/∂w)`, and −penalty for every weight of a silent neuron; errors travel
//!    back by `Σ g·clip(∂t*/∂t)`, to pulse times too.
//! 5. Adam with ε inside the root, on the mean over the batch; pulse times stay at or above 0.
//! 6. `w̄ ← w̄ + max(1 − β, 1/n)·(w − w̄)` after update n, weights and pulse times; w̄ predicts
//!    (B. T. Polyak, A. B. Juditsky, SIAM J. Control Optim. 30(4), 1992, doi:10.1137/0330046).
//! 7. Dropout: a spike to layer l of a training sample is left out with probability q_l, the others
//!    count 1/(1 − q_l) times (N. Srivastava et al., JMLR 15, 2014). Pulses all arrive.
//!
//! | symbol | field | shape | unit | default |
//! | --- | --- | --- | --- | --- |
//! | h | `hidden` | | neurons | 32 |
//! | l | `latency` | | window | 1 |
//! | K | `decay` | | 1/window | 0.172556 |
//! | θ | `threshold` | | weight × window | 0.834236 |
//! | β | `averaging` | | | 0: w predicts |
//! | q | `dropout` | `[layer]` | | 0, 0 |
//! | w | state `network.layerN.weight` | `[neuron, sender and pulse]` | | σ(z + m) |
//! | | state `network.layerN.pulse` | `[pulse]` | window | evenly spaced |
//!
//! Departures are listed in [`CARD`].

mod adam;
mod conventional;
mod embedding;
mod figures;
pub mod losses;
pub mod network;
mod params;
mod tally;
#[cfg(test)]
mod tests;

pub use conventional::Conventional;
pub use params::{Goal, Params, Readout, Units};

use crate::error::{Error, Result};
use crate::event::Figure;
use crate::learner::{Batch, Card, Ctx, EpochReport, Learner, Prediction, StepReport, Task};
use crate::schedule::share_of_newest;
use crate::seed::Stream;
use crate::spikes::{Notation, Times};
use crate::state::State;
use embedding::Readouts;
use network::{Activity, Dropout, Learning, Network, Sample, Target};
use rayon::prelude::*;
use tally::Tally;

/// The method's visiting card.
pub const CARD: Card = Card {
    name: "temporal-autoencoder",
    title: "Spiking autoencoders with exact spike times, alpha synapses and trainable pulses",
    citation: "Comşa, Versari, Fischbacher, Alakuijala, Frontiers in Neuroscience 15:712667, 2021, \
               doi:10.3389/fnins.2021.712667; Comsa et al., 2019, arXiv 1907.13223",
    reads: &[Notation::Times],
    metrics: &[
        ("silent_hidden_fraction", "share of hidden neurons that stayed silent, over samples"),
        ("silent_output_fraction", "share of outputs that stayed silent, over samples"),
        ("mean_hidden_time", "mean time of the hidden spikes in training, in windows"),
        ("mean_output_time", "mean time of the output spikes in training, in windows"),
        ("negative_hidden_weights", "share of negative weights from inputs to hidden neurons"),
        (
            "negative_hidden_pulse_weights",
            "share of negative weights from pulses to hidden neurons",
        ),
        ("negative_output_weights", "share of negative weights from hidden neurons to outputs"),
        ("negative_output_pulse_weights", "share of negative weights from pulses to outputs"),
        ("accuracy_logistic", "accuracy of a logistic regression on the embedding"),
        ("accuracy_nearest_neighbours", "accuracy of five nearest neighbours on the embedding"),
        ("accuracy_mlp", "accuracy of a perceptron with 100 hidden units on the embedding"),
        ("accuracy_spiking", "accuracy of a spiking classifier on the embedding"),
    ],
    departures: &[
        "Lambert's function converges fully, where the authors' program stops early (up to 5e-8 in \
         a spike time)",
        "an input at exactly the time of the output spike is not causal, where the authors' program \
         counts it in one of the two derivatives",
        "gradients of a batch are summed in a fixed order, so that runs are reproducible to the bit",
        "arrivals later than 300/K after the first are not seen",
        "every sample is learned from (the published setting); the option to learn from \
         misclassified ones alone is left out, and so are jitter of hidden spikes and the penalty \
         on output times, off in all published settings",
        "weights can be averaged over updates and spikes left out in training, which the authors do \
         not do",
        "of epochs that do equally well in validation the first is kept, where the authors' program \
         keeps the last",
        "the classifiers of the embedding are fitted to the training images alone, not to those that \
         choose the epoch too",
    ],
};

/// Builds the learner that the parameters ask for.
///
/// # Errors
///
/// If the method cannot learn this task.
pub fn build(params: &Params, task: &Task) -> Result<Box<dyn Learner>> {
    Ok(match params.units {
        Units::Spiking => Box::new(TemporalAutoencoder::new(params, task)?),
        Units::Conventional => Box::new(Conventional::new(params, task)?),
    })
}

/// The spiking learner.
#[derive(Clone, Debug)]
pub struct TemporalAutoencoder {
    params: Params,
    n_classes: usize,
    network: Network,
    /// Running mean of the weights, which predicts in place of them.
    mean: Option<Network>,
    how: Learning,
    readouts: Readouts,
    tally: Tally,
    scratch: Vec<Presented>,
}

/// One sample as the network reads it; a buffer.
#[derive(Clone, Debug, Default)]
struct Presented {
    spikes: Vec<(f64, u32)>,
    /// Target times, 1 where silent.
    targets: Vec<f64>,
}

impl Presented {
    fn read(&mut self, times: &Times, row: usize) {
        self.spikes.clear();
        self.spikes.extend(times.sample(row).iter().map(|(n, t)| (f64::from(t), n as u32)));
        self.targets.clear();
        self.targets.resize(times.shape.len(), 1.0);
        let targets = times.targets().sample(row);
        targets.iter().for_each(|(n, t)| self.targets[n] = f64::from(t));
    }

    /// Moves every spike by a normal draw of deviation `jitter`; the targets stay.
    fn jitter(&mut self, jitter: f64, stream: &mut Stream) {
        self.spikes.iter_mut().for_each(|s| s.0 = (s.0 + stream.normal(0.0, jitter)).max(0.0));
        self.spikes.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
}

fn check_task(params: &Params, task: &Task) -> Result<()> {
    if task.notation != Notation::Times {
        let found = task.notation.name();
        return Err(Error::recipe(format!(
            "temporal-autoencoder reads spike times, the encoder gives {found}"
        )));
    }
    let needs_classes = params.goal == Goal::Classification || !params.readouts.is_empty();
    if needs_classes && task.n_classes < 2 {
        let n = task.n_classes;
        return Err(Error::recipe(format!(
            "temporal-autoencoder needs at least 2 classes to classify, the data has {n}"
        )));
    }
    Ok(())
}

/// The labels of a batch, checked.
fn labels_of(batch: &Batch<'_>, n_classes: usize) -> Result<Vec<u16>> {
    let label = |&row: &usize| match batch.labels.get(row) {
        Some(&l) if usize::from(l) < n_classes => Ok(l),
        Some(l) => {
            let last = n_classes - 1;
            Err(Error::data(format!("sample {row}: label {l}, expected 0 to {last}")))
        }
        None => Err(Error::data(format!("sample {row} has no label"))),
    };
    batch.rows.iter().map(label).collect()
}

impl TemporalAutoencoder {
    /// A network with weights drawn from the task's seed.
    ///
    /// # Errors
    ///
    /// If the task has no spike times, or no classes where they are needed.
    pub fn new(params: &Params, task: &Task) -> Result<Self> {
        check_task(params, task)?;
        let n_inputs = task.shape.len();
        let n_outputs = match params.goal {
            Goal::Reconstruction => n_inputs,
            Goal::Classification => task.n_classes,
        };
        let network = Network::drawn(params, n_inputs, n_outputs, task.seed);
        Ok(Self {
            params: params.clone(),
            n_classes: task.n_classes,
            how: Learning::of(params),
            readouts: Readouts::new(&params.readouts, params.hidden, task.n_classes),
            tally: Tally::new(network.n_layers()),
            mean: (params.averaging > 0.0).then(|| network.clone()),
            network,
            scratch: Vec::new(),
        })
    }

    /// The network that predicts: with averaging that of the mean weights.
    pub fn network(&self) -> &Network {
        self.mean.as_ref().unwrap_or(&self.network)
    }

    /// Which spikes each sample of a batch of `n` does without; empty if none.
    fn dropout(&self, n: usize, ctx: &Ctx) -> Vec<Dropout> {
        let shares = self.params.dropout;
        if shares == [0.0; 2] {
            return Vec::new();
        }
        let stream =
            |i: usize| ctx.seed.stream("temporal-autoencoder.dropout", ctx.presentation(i));
        (0..n).map(|i| Dropout { shares, stream: stream(i) }).collect()
    }

    /// Equation 6.
    fn average(&mut self) {
        if let Some(mean) = &mut self.mean {
            let share = share_of_newest(self.params.averaging, self.network.n_updates());
            mean.follow(&self.network, share);
        }
    }

    /// Hidden spike times of a sample that stands in the network.
    fn embedding(&self, activity: &Activity) -> Vec<f64> {
        (0..self.params.hidden).map(|n| activity.time(0, n)).collect()
    }

    /// `1 − (t − l)` per output, not clamped; 0 where silent.
    fn reconstruction(&self, activity: &Activity) -> Vec<f32> {
        let last = self.network.n_layers() - 1;
        let intensity = |n: usize| {
            let t = activity.time(last, n);
            if t.is_finite() { (1.0 - (t - self.params.latency)) as f32 } else { 0.0 }
        };
        (0..self.network.n_neurons(last)).map(intensity).collect()
    }

    fn prediction(
        &self,
        shown: &Presented,
        label: Option<u16>,
        activity: &mut Activity,
    ) -> Prediction {
        let network = self.network();
        network.forward(&shown.spikes, activity);
        let last = network.n_layers() - 1;
        let n_arrivals = |l: usize| activity.n_arrivals(l) as u64;
        let layers = 0..network.n_layers();
        let n_out = (0..network.n_neurons(last)).filter(|&n| activity.time(last, n).is_finite());
        let mut prediction = Prediction {
            n_spikes: layers.clone().map(n_arrivals).sum::<u64>() + n_out.count() as u64,
            n_synops: layers.map(|l| n_arrivals(l) * network.n_neurons(l) as u64).sum(),
            ..Prediction::default()
        };
        if self.params.goal == Goal::Classification {
            let times: Vec<f64> = (0..self.n_classes).map(|n| activity.time(last, n)).collect();
            let first = (0..self.n_classes).min_by(|&a, &b| times[a].total_cmp(&times[b]));
            let first = first.expect("there are classes");
            // All silent is a wrong answer, so no class.
            prediction.class = times[first].is_finite().then_some(first as u16);
            prediction.scores = times.iter().map(|&t| -t as f32).collect();
            prediction.decision_time = times[first].is_finite().then_some(times[first] as f32);
        } else {
            prediction.reconstruction = Some(self.reconstruction(activity));
            prediction.target = Some(shown.targets.iter().map(|&t| (1.0 - t) as f32).collect());
            prediction.measures = self.readouts.judge(&self.embedding(activity), label);
        }
        prediction
    }
}

impl Learner for TemporalAutoencoder {
    fn step(&mut self, batch: &Batch<'_>, ctx: &Ctx) -> Result<StepReport> {
        let times = batch.inputs.as_times();
        let labels = match self.params.goal {
            Goal::Reconstruction => Vec::new(),
            Goal::Classification => labels_of(batch, self.n_classes)?,
        };
        let mut shown = std::mem::take(&mut self.scratch);
        shown.resize_with(batch.len().max(shown.len()), Presented::default);
        for (i, (&row, sample)) in batch.rows.iter().zip(&mut shown).enumerate() {
            sample.read(times, row);
            if self.params.input_jitter > 0.0 {
                let index = ctx.presentation(i);
                let stream = &mut ctx.seed.stream("temporal-autoencoder.jitter", index);
                sample.jitter(self.params.input_jitter, stream);
            }
        }
        let target = |i: usize| match self.params.goal {
            Goal::Reconstruction => Target::Times(&shown[i].targets),
            Goal::Classification => Target::Label(usize::from(labels[i])),
        };
        let dropout = self.dropout(batch.len(), ctx);
        let sample = |i: usize| Sample {
            spikes: &shown[i].spikes,
            target: target(i),
            dropout: dropout.get(i),
        };
        let samples: Vec<Sample<'_>> = (0..batch.len()).map(sample).collect();
        let sums = self.network.gradient(&self.how, &samples);
        self.network.update(&self.how, ctx.rate, batch.len());
        self.average();
        self.scratch = shown;
        self.tally.count(batch.len(), &sums);
        let is_classifier = self.params.goal == Goal::Classification;
        Ok(StepReport {
            n_samples: batch.len() as u64,
            loss: sums.loss,
            n_correct: is_classifier.then_some(sums.n_correct),
        })
    }

    fn predict(&self, batch: &Batch<'_>) -> Result<Vec<Prediction>> {
        let times = batch.inputs.as_times();
        let rooms = || (Presented::default(), self.network.activity());
        let predict = |room: &mut (Presented, Activity), &row: &usize| {
            room.0.read(times, row);
            self.prediction(&room.0, batch.labels.get(row).copied(), &mut room.1)
        };
        Ok(batch.rows.par_iter().map_init(rooms, predict).collect())
    }

    fn state(&self) -> State {
        let mut state = State::new();
        state.nest("network", self.network.state());
        if let Some(mean) = &self.mean {
            state.nest("mean", mean.weight_state());
        }
        state.nest("epoch", self.tally.state());
        state.nest("readout", self.readouts.state());
        state
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.network.restore(&state.sub("network"))?;
        if let Some(mean) = &mut self.mean {
            mean.restore_weights(&state.sub("mean"))?;
        }
        self.tally = Tally::restored(&state.sub("epoch"), self.network.n_layers())?;
        self.readouts.restore(&state.sub("readout"))
    }

    fn end_epoch(&mut self, _ctx: &Ctx) -> Result<EpochReport> {
        let report = self.tally.report(self.network());
        self.tally = Tally::new(self.network.n_layers());
        Ok(report)
    }

    fn has_readout(&self) -> bool {
        self.readouts.is_wanted()
    }

    fn fit_readout(&mut self, train: &Batch<'_>, ctx: &Ctx) -> Result<()> {
        if !self.readouts.is_wanted() {
            return Ok(());
        }
        let labels = labels_of(train, self.n_classes)?;
        let times = train.inputs.as_times();
        let rooms = || (Presented::default(), self.network.activity());
        let embed = |room: &mut (Presented, Activity), &row: &usize| {
            room.0.read(times, row);
            self.network().forward(&room.0.spikes, &mut room.1);
            self.embedding(&room.1)
        };
        let embeddings: Vec<Vec<f64>> = train.rows.par_iter().map_init(rooms, embed).collect();
        self.readouts.fit(embeddings.concat(), &labels, ctx.seed)
    }

    fn figures(&self, probe: &Batch<'_>) -> Result<Vec<Figure>> {
        Ok(figures::figures(self, probe))
    }
}
