//! Classification from the embedding: the hidden spike times of a sample.
//!
//! A silent neuron counts as the largest finite time of the training set plus 1; every dimension
//! is scaled to mean 0 and deviation 1 over the training set. The spiking classifier reads the raw
//! times.

use super::network::{Goal, Learning, Network, Sample, Target};
use super::params::{Params, Readout};
use crate::error::{Error, Result};
use crate::learner::Measure;
use crate::readout::{Logistic, Mlp, NearestNeighbours, Output, Scaling};
use crate::seed::Seed;
use crate::state::State;

/// Neighbours that vote.
const NEIGHBOURS: usize = 5;
/// Inverse penalty of the logistic regression.
const INVERSE_PENALTY: f64 = 1.0;
/// Hidden units, epochs and learning rate of the perceptron.
const MLP: (usize, usize, f32) = (100, 12, 1e-3);
/// Epochs of the spiking classifier.
const SPIKING_EPOCHS: usize = 20;
/// Samples a step.
const BATCH: usize = 32;

/// Classifiers of embeddings; none before they are fitted.
#[derive(Clone, Debug)]
pub(super) struct Readouts {
    which: Vec<Readout>,
    n_dimensions: usize,
    n_classes: usize,
    fitted: Option<Fitted>,
}

#[derive(Clone, Debug)]
struct Fitted {
    /// Time of a silent neuron.
    silent: f64,
    scaling: Scaling,
    classifiers: Vec<Classifier>,
}

#[derive(Clone, Debug)]
enum Classifier {
    Logistic(Logistic),
    NearestNeighbours(NearestNeighbours),
    Mlp(Mlp),
    Spiking(Box<Network>),
}

impl Readout {
    /// Name in the state.
    fn name(self) -> &'static str {
        match self {
            Readout::Logistic => "logistic",
            Readout::NearestNeighbours => "nearest_neighbours",
            Readout::Mlp => "mlp",
            Readout::Spiking => "spiking",
        }
    }

    /// Name in metrics.
    fn metric(self) -> &'static str {
        match self {
            Readout::Logistic => "accuracy_logistic",
            Readout::NearestNeighbours => "accuracy_nearest_neighbours",
            Readout::Mlp => "accuracy_mlp",
            Readout::Spiking => "accuracy_spiking",
        }
    }
}

impl Readouts {
    pub(super) fn new(which: &[Readout], n_dimensions: usize, n_classes: usize) -> Self {
        Self { which: which.to_vec(), n_dimensions, n_classes, fitted: None }
    }

    pub(super) fn is_wanted(&self) -> bool {
        !self.which.is_empty()
    }

    /// Fits all to `embeddings[[sample]][[neuron]]`, infinite where silent.
    pub(super) fn fit(
        &mut self,
        mut embeddings: Vec<f64>,
        labels: &[u16],
        seed: Seed,
    ) -> Result<()> {
        if labels.is_empty() || labels.len() * self.n_dimensions != embeddings.len() {
            return Err(Error::data("classifiers of the embedding need a label for every sample"));
        }
        let finite = embeddings.iter().copied().filter(|t| t.is_finite());
        let silent = 1.0 + finite.fold(0.0, f64::max);
        let spikes: Vec<Vec<(f64, u32)>> =
            embeddings.chunks_exact(self.n_dimensions).map(in_order).collect();
        embeddings.iter_mut().filter(|t| !t.is_finite()).for_each(|t| *t = silent);
        let scaling = Scaling::fit(&embeddings, self.n_dimensions);
        let points = scaling.apply(&embeddings);
        let (d, n) = (self.n_dimensions, self.n_classes);
        let fit = |readout: &Readout| match readout {
            Readout::Logistic => {
                Classifier::Logistic(Logistic::fit(INVERSE_PENALTY, d, n, &points, labels))
            }
            Readout::NearestNeighbours => {
                let fitted = NearestNeighbours::fit(NEIGHBOURS, d, &points, labels);
                Classifier::NearestNeighbours(fitted)
            }
            Readout::Mlp => Classifier::Mlp(fit_mlp(d, n, &points, labels, seed)),
            Readout::Spiking => {
                Classifier::Spiking(Box::new(fit_spiking(d, n, &spikes, labels, seed)))
            }
        };
        let classifiers = self.which.iter().map(fit).collect();
        self.fitted = Some(Fitted { silent, scaling, classifiers });
        Ok(())
    }

    /// Whether each classifier gives the embedding its label; nothing before they are fitted.
    pub(super) fn judge(&self, embedding: &[f64], label: Option<u16>) -> Vec<Measure> {
        let (Some(fitted), Some(label)) = (&self.fitted, label) else { return Vec::new() };
        let heard: Vec<f64> =
            embedding.iter().map(|&t| if t.is_finite() { t } else { fitted.silent }).collect();
        let point = fitted.scaling.apply(&heard);
        let class = |c: &Classifier| match c {
            Classifier::Logistic(c) => Some(c.class(&point)),
            Classifier::NearestNeighbours(c) => Some(c.class(&point)),
            Classifier::Mlp(c) => Some(c.class(&point)),
            Classifier::Spiking(network) => {
                let mut activity = network.activity();
                network.forward(&in_order(embedding), &mut activity);
                let last = network.n_layers() - 1;
                let time = |n: &usize| activity.time(last, *n);
                let spiked = (0..self.n_classes).filter(|n| time(n).is_finite());
                spiked.min_by(|a, b| time(a).total_cmp(&time(b))).map(|first| first as u16)
            }
        };
        let measure = |(readout, classifier): (&Readout, &Classifier)| {
            let is_right = class(classifier) == Some(label);
            Measure { name: readout.metric(), sum: f64::from(u8::from(is_right)), count: 1 }
        };
        self.which.iter().zip(&fitted.classifiers).map(measure).collect()
    }

    pub(super) fn state(&self) -> State {
        let mut state = State::new();
        let Some(fitted) = &self.fitted else { return state };
        state.put("silent", &[], vec![fitted.silent]);
        state.nest("scaling", fitted.scaling.state());
        for (readout, classifier) in self.which.iter().zip(&fitted.classifiers) {
            let inner = match classifier {
                Classifier::Logistic(c) => c.state(),
                Classifier::NearestNeighbours(c) => c.state(),
                Classifier::Mlp(c) => c.state(),
                Classifier::Spiking(c) => c.state(),
            };
            state.nest(readout.name(), inner);
        }
        state
    }

    pub(super) fn restore(&mut self, state: &State) -> Result<()> {
        self.fitted = None;
        if state.is_empty() {
            return Ok(());
        }
        let (d, n) = (self.n_dimensions, self.n_classes);
        let classifier = |readout: &Readout| {
            let inner = state.sub(readout.name());
            Ok(match readout {
                Readout::Logistic => Classifier::Logistic(Logistic::restored(&inner, d, n)?),
                Readout::NearestNeighbours => Classifier::NearestNeighbours(
                    NearestNeighbours::restored(&inner, NEIGHBOURS, d)?,
                ),
                Readout::Mlp => {
                    let mut mlp = new_mlp(d, n, Seed(0));
                    mlp.restore(&inner)?;
                    Classifier::Mlp(mlp)
                }
                Readout::Spiking => {
                    let mut network = Network::drawn(&Params::classifier(), d, n, Seed(0));
                    network.restore(&inner)?;
                    Classifier::Spiking(Box::new(network))
                }
            })
        };
        let classifiers = self.which.iter().map(classifier).collect::<Result<_>>()?;
        let scaling = Scaling::restored(&state.sub("scaling"), d)?;
        self.fitted = Some(Fitted { silent: state.scalar("silent")?, scaling, classifiers });
        Ok(())
    }
}

/// The spikes of an embedding as (time, neuron) in order of time.
fn in_order(embedding: &[f64]) -> Vec<(f64, u32)> {
    let mut spikes: Vec<(f64, u32)> = embedding.iter().copied().zip(0..).collect();
    spikes.retain(|(t, _)| t.is_finite());
    spikes.sort_by(|a, b| a.0.total_cmp(&b.0));
    spikes
}

fn new_mlp(n_dimensions: usize, n_classes: usize, seed: Seed) -> Mlp {
    let sizes = [n_dimensions, MLP.0, n_classes];
    Mlp::new(Output::Softmax, sizes, &mut seed.stream("temporal-autoencoder.mlp", 0))
}

/// The order of samples in one epoch of a readout.
fn shuffled(n: usize, seed: Seed, epoch: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    seed.stream("temporal-autoencoder.readout-order", epoch as u64).shuffle(&mut order);
    order
}

fn fit_mlp(d: usize, n_classes: usize, points: &[f32], labels: &[u16], seed: Seed) -> Mlp {
    let mut mlp = new_mlp(d, n_classes, seed);
    let mut target = vec![0.0; n_classes];
    for epoch in 0..MLP.1 {
        for batch in shuffled(labels.len(), seed, epoch).chunks(BATCH) {
            for &i in batch {
                target.fill(0.0);
                target[usize::from(labels[i])] = 1.0;
                mlp.accumulate(&points[i * d..(i + 1) * d], &target);
            }
            mlp.update(MLP.2, batch.len());
        }
    }
    mlp
}

fn fit_spiking(
    d: usize,
    n_classes: usize,
    spikes: &[Vec<(f64, u32)>],
    labels: &[u16],
    seed: Seed,
) -> Network {
    let params = Params::classifier();
    let mut network = Network::drawn(&params, d, n_classes, seed);
    let how = Learning::of(&params);
    debug_assert_eq!(how.goal, Goal::Classification);
    for epoch in 0..SPIKING_EPOCHS {
        for batch in shuffled(labels.len(), seed, epoch).chunks(BATCH) {
            let sample = |&i: &usize| {
                let target = Target::Label(usize::from(labels[i]));
                Sample { spikes: &spikes[i], target, dropout: None }
            };
            let samples: Vec<Sample<'_>> = batch.iter().map(sample).collect();
            network.gradient(&how, &samples);
            network.update(&how, 1.0, samples.len());
        }
    }
    network
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::times::alpha::Neuron;

    #[test]
    fn silence_is_no_class() {
        let neuron = Neuron { decay: 0.5, threshold: 0.4 };
        let judged = |weights: [f64; 4], label| {
            let network = Network::new(neuron, &[2, 2], &[weights.to_vec()], &[Vec::new()]);
            let mut readouts = Readouts::new(&[Readout::Spiking], 2, 2);
            let scaling = Scaling::fit(&[0.0, 0.0, 1.0, 1.0], 2);
            let classifiers = vec![Classifier::Spiking(Box::new(network))];
            readouts.fitted = Some(Fitted { silent: 2.0, scaling, classifiers });
            readouts.judge(&[0.1, 0.2], Some(label))[0].sum
        };
        for label in 0..2 {
            assert_eq!(judged([0.0; 4], label), 0.0, "class {label}");
            assert_eq!(judged([0.0, 0.0, 2.0, 2.0], label), f64::from(label));
        }
    }
}
