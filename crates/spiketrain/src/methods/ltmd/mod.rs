//! Learnable thresholding neurons and moderate dropout (LTMD).
//!
//! S. Wang, T. H. Cheng, M.-H. Lim, "LTMD: Learning Improvement of Spiking Neural Networks with
//! Learnable Thresholding Neurons and Moderate Dropout", NeurIPS 2022, pp. 28350–28362.
//!
//! Reads images (the same at every step) or frames (one a step). The network is trained by
//! surrogate-gradient backpropagation through time; the paper adds:
//!
//! 1. Neurons whose threshold is learned, one scalar w a layer: `θ = tanh w`,
//!    `u[t] = τ u[t−1] (1 − s[t−1]) + x[t]`, `s[t] = 1` where `u[t] > θ`; gradients flow through
//!    the reset; `dL/dw = (1 − θ²) dL/dθ`. See [`neuron`].
//! 2. A classifier of two layers of [`graded`] neurons with lateral interaction, see
//!    [`classifier`].
//! 3. [`moderate_dropout`] between them: active units are kept more often.
//! 4. Two views of every batch that differ by their dropout alone, and the loss [`two_views`] that
//!    pulls their predictions together.
//!
//! Predictions: one view, no dropout, the class of the largest mean output.
//!
//! | symbol | field | shape | unit | paper |
//! | --- | --- | --- | --- | --- |
//! | T | `n_steps` | | steps | 4 |
//! | τ, θ | `neuron.decay`, `neuron.threshold` | | – | 0.25, tanh 0.5 at first |
//! | a | `neuron.slope.rectangle.width`, `graded_window` | | – | 0.5 |
//! | r | `dropout` | | – | 0.2 |
//! | η, μ, d | `optimizer.sgd` | | – | 0.04, 0.9, 10⁻⁴ |
//! | w | state `net.….threshold` | `[1]` | – | 0.5 at first |
//! | K | state `net.classifierN.lateral` | `[tap]` | – | – |

pub mod classifier;
pub mod graded;
pub mod moderate_dropout;
mod noise;
#[cfg(test)]
mod tests;
pub mod two_views;

use crate::check::Checks;
use crate::error::{Error, Result};
use crate::frames::layer::Phase;
use crate::frames::network::{Common, Dense, Description, LayerSpec, Network};
use crate::frames::neuron;
use crate::frames::norm::NormKind;
use crate::frames::optimizer::{self, Group, Optimizer};
use crate::frames::parameters::{Gradients, Kind, Parameter, Parameters};
use crate::frames::slope::Slope;
use crate::frames::source::{self, Source};
use crate::frames::trainer::{Decays, Forward, PREDICTED_TOGETHER, Trainer, class_of};
use crate::frames::{Net, Signal, layer::Notes};
use crate::learner::{
    Batch, Card, Ctx, EpochReport, Learner, Measure, Prediction, StepReport, Task,
};
use crate::seed::Seed;
use crate::spikes::Notation;
use crate::state::State;
use classifier::{Classifier, Settings, Trace};
use graded::Graded;
use serde::{Deserialize, Deserializer, Serialize};
use two_views::TwoViews;

/// The method's visiting card.
pub const CARD: Card = Card {
    name: "ltmd",
    title: "Learnable thresholding neurons and moderate dropout",
    citation: "Wang, Cheng, Lim, NeurIPS 2022, pp. 28350-28362",
    reads: &[Notation::Images, Notation::Frames],
    metrics: &[
        ("firing_rate", "spikes per neuron and step in training, mean over the layers of neurons"),
        ("threshold", "mean of the learned thresholds of spiking layers"),
        ("thresholds", "threshold of each spiking layer"),
        ("divergence", "KL between the predictions of the two views, mean over the epoch"),
        ("accuracy_noise_0.N", "accuracy with Gaussian noise of that deviation on the images"),
        ("firing_rates", "firing rate of each layer of neurons"),
        ("silent_fractions", "per layer: share of neurons that never fired in a batch, mean"),
        ("saturated_fractions", "per layer: share of neurons that always fired in a batch, mean"),
        ("gradient_norms", "per weight: Euclidean norm of its gradient, mean over the batches"),
    ],
    departures: &[
        "statistics of normalisation and dropout are those of the whole batch; virtual_batch = 16 \
         is what the authors' program took on its four devices",
        "where all activities are equal, units are kept with probability 1 - r; the authors' \
         program divides by zero",
        "the networks for MNIST and the definition of noise are ours: they were not published",
    ],
};

/// Hyper-parameters: the table `[method.ltmd]`. The defaults are the paper's for CIFAR-10.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// Time steps, T.
    pub n_steps: usize,
    /// The layers up to the classifier: of a network by name those before its head, which begins
    /// with the first linear layer; of a list all but a linear layer at the end.
    pub network: Network,
    /// The spiking neurons.
    #[serde(deserialize_with = "read_neuron")]
    pub neuron: neuron::Params,
    /// Units of the classifier's first layer.
    pub hidden: usize,
    /// How far below the threshold gradients pass through graded neurons, a.
    pub graded_window: f32,
    /// Whether graded neurons have lateral interaction.
    pub lateral: bool,
    /// Rate of the moderate dropout, r; 0 is no dropout, and the views are the same.
    pub dropout: f64,
    /// Whether gradients flow through the probabilities of being kept.
    pub gradient_through_p: bool,
    /// Samples that share statistics of normalisation and dropout; 0 is the whole batch.
    pub virtual_batch: usize,
    /// The optimiser.
    pub optimizer: optimizer::Settings,
    /// Which parameters weight decay applies to.
    pub decays: Decays,
    /// What samples go through before they enter.
    pub input: source::Params,
    /// Whether every prediction is also made under noise of 0.1 to 0.5, for the metrics.
    pub noise_study: bool,
}

/// Neurons whose unwritten settings are this method's.
fn read_neuron<'de, D: Deserializer<'de>>(from: D) -> Result<neuron::Params, D::Error> {
    Params::default().neuron.or_read(from)
}

impl Default for Params {
    fn default() -> Self {
        Self {
            n_steps: 4,
            network: Network::Densenet(Dense::default()),
            neuron: neuron::Params {
                threshold: 0.462_117_16,
                learns_threshold: true,
                slope: Slope::Rectangle { width: 0.5 },
                ..neuron::Params::default()
            },
            hidden: 256,
            graded_window: 0.5,
            lateral: true,
            dropout: 0.2,
            gradient_through_p: true,
            virtual_batch: 0,
            optimizer: optimizer::Settings::Sgd {
                learning_rate: 0.04,
                momentum: 0.9,
                weight_decay: 1e-4,
            },
            decays: Decays::All,
            input: source::Params::default(),
            noise_study: false,
        }
    }
}

impl Params {
    /// What is wrong with the values, if anything.
    pub fn check(&self) -> Checks {
        let mut c = Checks::default();
        c.count("n_steps", self.n_steps, 1, 1000);
        c.nest("network", self.network.check());
        c.nest("neuron", self.neuron.check());
        let threshold = self.neuron.threshold;
        let allowed = "a number above 0 and below 1, as graded neurons begin with it";
        c.that(threshold > 0.0 && threshold < 1.0, "neuron.threshold", threshold, allowed);
        c.count("hidden", self.hidden, 1, 1 << 16);
        c.not_negative("graded_window", f64::from(self.graded_window));
        let allowed = "a number from 0 to below 1";
        c.that((0.0..1.0).contains(&self.dropout), "dropout", self.dropout, allowed);
        c.count("virtual_batch", self.virtual_batch, 0, 1 << 20);
        c.nest("optimizer", self.optimizer.check());
        c.nest("input", self.input.check());
        c
    }
}

/// The learner.
#[derive(Debug)]
pub struct Ltmd {
    trainer: Trainer,
    classifier: Classifier,
    virtual_batch: usize,
    /// Deviations of the noise that predictions are measured under.
    noise: &'static [(&'static str, f32)],
    /// Source of that noise.
    seed: Seed,
    /// Σ KL over the samples of the epoch, and their number.
    divergence: [f64; 2],
}

/// The layers of a network up to the classifier, which takes the place of its head.
fn features(network: &Network, n_classes: usize) -> Description {
    let mut description = network.description(n_classes);
    let layers = &mut description.layers;
    let is_linear = |layer: &LayerSpec| matches!(layer, LayerSpec::Linear { .. });
    if let Network::Custom(_) = network {
        layers.pop_if(|layer| is_linear(layer));
        return description;
    }
    layers.truncate(layers.iter().position(is_linear).unwrap_or(layers.len()));
    layers.pop_if(|layer| matches!(layer, LayerSpec::Dropout { .. }));
    description
}

/// The network up to the classifier, and the classifier of what comes out of it.
///
/// # Errors
///
/// If layers do not fit each other; names the layer.
pub fn network(params: &Params, task: &Task) -> Result<(Net, Classifier)> {
    let description = features(&params.network, task.n_classes);
    let (neuron, norm, seed) = (params.neuron.clone(), NormKind::BatchNorm {}, task.seed);
    let common = Common { n_steps: params.n_steps, neuron, norm, seed };
    let mut net = Net::new(&description, task.shape, &common)?;
    // The parts of a batch have their passes with the same weights.
    net.keeps_forms = params.virtual_batch > 0;
    let settings = Settings {
        neuron: Graded { decay: params.neuron.decay, window: params.graded_window },
        threshold: params.neuron.threshold,
        has_lateral: params.lateral,
        dropout: params.dropout,
        through_p: params.gradient_through_p,
    };
    let units = [params.hidden, task.n_classes];
    let (features, parameters) = (net.output, &mut net.parameters);
    let classifier = Classifier::new(features, units, &settings, seed, parameters);
    Ok((net, classifier))
}

/// The optimiser: thresholds of graded neurons have no gradient, and decay would move them.
pub fn optimizer(params: &Params, parameters: &Parameters) -> Optimizer {
    let (settings, decays) = (params.optimizer, params.decays);
    Optimizer::new(settings, parameters, |p| {
        let is_decayed = !is_graded(p) && (decays == Decays::All || p.kind == Kind::Weight);
        let weight_decay = if is_decayed { settings.weight_decay() } else { 0.0 };
        Group { learning_rate: settings.learning_rate(), weight_decay }
    })
}

fn is_graded(p: &Parameter) -> bool {
    p.kind == Kind::Threshold && p.name.starts_with("classifier")
}

/// k of a batch, `[view, sample, unit]`: a stream a sample, its first view first.
fn draw(p: &[f64], seed: Seed, first: u64, n_units: usize) -> Vec<bool> {
    let n_samples = p.len() / n_units / 2;
    let mut kept = vec![false; p.len()];
    for n in 0..n_samples {
        let mut stream = seed.stream("ltmd.kept", first + n as u64);
        for view in 0..2 {
            let at = (view * n_samples + n) * n_units..(view * n_samples + n + 1) * n_units;
            for (kept, p) in kept[at.clone()].iter_mut().zip(&p[at]) {
                *kept = stream.uniform_f64() < *p;
            }
        }
    }
    kept
}

impl Ltmd {
    /// A network with weights drawn from the task's seed.
    ///
    /// # Errors
    ///
    /// If the network does not fit the task.
    pub fn new(params: &Params, task: &Task) -> Result<Self> {
        if task.n_classes < 2 {
            let n = task.n_classes;
            return Err(Error::recipe(format!("ltmd needs at least 2 classes, the data has {n}")));
        }
        let source = Source::new(&params.input, task, params.n_steps)?;
        let (net, classifier) = network(params, task)?;
        let mut trainer = Trainer::new(net, params.optimizer, params.decays, source);
        trainer.optimizer = optimizer(params, &trainer.net.parameters);
        Ok(Self {
            trainer,
            classifier,
            virtual_batch: params.virtual_batch,
            noise: if params.noise_study { &noise::LEVELS } else { &[] },
            seed: task.seed,
            divergence: [0.0; 2],
        })
    }

    /// The classifier's side of a step: loss, gradients of all parameters, what was noted.
    fn learn(&self, forward: Forward, ctx: &Ctx) -> (TwoViews, u64, Gradients, Notes) {
        let Forward { outputs, trace, labels } = forward;
        let Trainer { net, workspaces, .. } = &self.trainer;
        let phase = Phase::Training { seed: ctx.seed, first: ctx.n_presented };
        let context = net.context(phase, net.n_steps, workspaces);
        let n_hidden = self.classifier.n_hidden();
        let keep = |p: &[f64]| draw(p, ctx.seed, ctx.n_presented, n_hidden);
        let head: Trace = self.classifier.forward(outputs, keep, &context);
        let (z1, z2) = head.z.split_at(head.z.len() / 2);
        let loss = TwoViews::new([z1, z2], &labels);
        let rows = z1.chunks_exact(z1.len() / labels.len()).zip(&labels);
        let n_correct = rows.filter(|(z, y)| class_of(z) == **y).count() as u64;
        let mut of_head = net.parameters.zeros();
        let d = self.classifier.backward(&head, &loss.gradients.concat(), &context, &mut of_head);
        let (mut gradients, notes) = self.trainer.backward(trace, d);
        gradients.add_scaled(&of_head, 1.0);
        (loss, n_correct, gradients, notes)
    }

    /// z `[sample, class]` in evaluation, and what was noted.
    fn evaluate(&self, input: Signal) -> Result<(Vec<f32>, Notes)> {
        let Trainer { net, workspaces, .. } = &self.trainer;
        let context = net.context(Phase::Evaluation, input.n_steps, workspaces);
        let (features, mut notes) = net.evaluate(input, workspaces)?;
        let z = self.classifier.evaluate(features, &context, &mut notes);
        Ok((z, notes))
    }

    /// Threshold of every spiking layer.
    fn thresholds(&self) -> Vec<f64> {
        let list = &self.trainer.net.parameters.list;
        let spiking = list.iter().filter(|p| p.kind == Kind::Threshold && !is_graded(p));
        spiking.map(|p| libm::tanh(f64::from(p.values[0]))).collect()
    }
}

impl Learner for Ltmd {
    fn step(&mut self, batch: &Batch<'_>, ctx: &Ctx) -> Result<StepReport> {
        let together = if self.virtual_batch == 0 { batch.len() } else { self.virtual_batch };
        let mut total: Option<(Gradients, Notes)> = None;
        let mut report = StepReport { n_samples: batch.len() as u64, loss: 0.0, n_correct: None };
        for (i, rows) in batch.rows.chunks(together.max(1)).enumerate() {
            let part = Batch { rows, ..*batch };
            let ctx = Ctx { n_presented: ctx.presentation(i * together), ..*ctx };
            let forward = self.trainer.forward(&part, &ctx)?;
            let (loss, n_correct, gradients, notes) = self.learn(forward, &ctx);
            let n = part.len() as f64;
            report.loss += loss.value() * n;
            report.n_correct = Some(report.n_correct.unwrap_or(0) + n_correct);
            self.divergence[0] += loss.divergence * n;
            self.divergence[1] += n;
            let share = (n / batch.len() as f64) as f32;
            match &mut total {
                Some((sum, _)) => sum.add_scaled(&gradients, share),
                // Running statistics and health are those of the first part.
                None => {
                    let mut first = gradients;
                    first.scale(share);
                    total = Some((first, notes));
                }
            }
        }
        if let Some((gradients, notes)) = total {
            self.trainer.update(gradients, &notes, ctx)?;
            self.classifier.forget_forms();
        }
        Ok(report)
    }

    fn predict(&self, batch: &Batch<'_>) -> Result<Vec<Prediction>> {
        let mut predictions = Vec::with_capacity(batch.len());
        for rows in batch.rows.chunks(PREDICTED_TOGETHER) {
            let input = self.trainer.source.plain(&Batch { rows, ..*batch })?;
            let mut measures = vec![Vec::new(); rows.len()];
            for &(name, deviation) in self.noise {
                let mut input = input.clone();
                noise::add(&mut input, rows, self.trainer.source.scale(), deviation, self.seed);
                let (z, _) = self.evaluate(input)?;
                let z = z.chunks_exact(z.len() / rows.len());
                for ((z, row), measures) in z.zip(rows).zip(&mut measures) {
                    let is_correct = batch.labels.get(*row) == Some(&class_of(z));
                    let sum = f64::from(u8::from(is_correct));
                    measures.push(Measure { name, sum, count: 1 });
                }
            }
            let (z, notes) = self.evaluate(input)?;
            let z = z.chunks_exact(z.len() / rows.len());
            for (n, (z, measures)) in z.zip(measures).enumerate() {
                predictions.push(Prediction {
                    class: Some(class_of(z)),
                    scores: z.to_vec(),
                    n_spikes: notes.n_spikes.get(n).copied().unwrap_or(0),
                    n_synops: notes.n_synops.get(n).map_or(0, |&s| s as u64),
                    measures,
                    ..Prediction::default()
                });
            }
        }
        Ok(predictions)
    }

    fn state(&self) -> State {
        let mut state = self.trainer.state();
        state.put("divergence", &[2], self.divergence.to_vec());
        state
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.trainer.restore(state)?;
        self.classifier.forget_forms();
        self.divergence.copy_from_slice(state.get("divergence", &[2])?);
        Ok(())
    }

    fn end_epoch(&mut self, _ctx: &Ctx) -> Result<EpochReport> {
        let mut report = self.trainer.end_epoch()?;
        let [sum, count] = std::mem::take(&mut self.divergence);
        report.metrics.insert("divergence".into(), sum / count.max(1.0));
        let thresholds = self.thresholds();
        if !thresholds.is_empty() {
            let mean = thresholds.iter().sum::<f64>() / thresholds.len() as f64;
            report.metrics.insert("threshold".into(), mean);
            report.series.insert("thresholds".into(), thresholds);
        }
        Ok(report)
    }

    fn notes(&self, batch_size: usize) -> Vec<String> {
        let together = if self.virtual_batch == 0 { batch_size } else { self.virtual_batch };
        self.trainer.notes(together.min(batch_size))
    }
}
