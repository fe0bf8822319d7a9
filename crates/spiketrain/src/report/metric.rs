//! What the names of metrics mean, in plain language.

use super::format;

/// How the values of a metric are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// A fraction, written in percent.
    Percent,
    /// A plain number.
    Plain,
}

/// A metric that the report can explain.
struct Known {
    name: &'static str,
    title: &'static str,
    unit: Unit,
    meaning: &'static str,
}

const fn known(
    name: &'static str,
    title: &'static str,
    unit: Unit,
    meaning: &'static str,
) -> Known {
    Known { name, title, unit, meaning }
}

/// In the order in which they lead: the first one measured is the headline.
const KNOWN: &[Known] = &[
    known(
        "accuracy",
        "Accuracy",
        Unit::Percent,
        "Share of the samples whose class was predicted correctly. Guessing gives one over the \
         number of classes.",
    ),
    known(
        "balanced_accuracy",
        "Balanced accuracy",
        Unit::Percent,
        "Mean over the classes of the share of correct predictions, so that rare classes count as \
         much as frequent ones.",
    ),
    known(
        "top5_accuracy",
        "Top-5 accuracy",
        Unit::Percent,
        "Share of the samples whose class is among the five that scored highest.",
    ),
    known(
        "reconstruction_error",
        "Reconstruction error",
        Unit::Plain,
        "Distance between the reconstructed sample and what it should be; 0 is perfect.",
    ),
    known(
        "mse",
        "Mean squared error",
        Unit::Plain,
        "Mean squared difference between the output and what it should be; 0 is perfect.",
    ),
    known(
        "rms",
        "Root mean squared error",
        Unit::Plain,
        "Root of the mean squared error, the mean taken over all samples; 0 is perfect.",
    ),
    known(
        "mae",
        "Mean absolute error",
        Unit::Plain,
        "Mean absolute difference between the output and what it should be; 0 is perfect.",
    ),
    known(
        "psnr",
        "Peak signal-to-noise ratio",
        Unit::Plain,
        "Fidelity of the reconstruction in decibels; higher is better.",
    ),
    known(
        "ssim",
        "Structural similarity",
        Unit::Plain,
        "Likeness of the reconstruction to the sample as the eye judges it; 1 is identical.",
    ),
    known(
        "loss",
        "Loss",
        Unit::Plain,
        "The quantity the method minimises, per sample. Compare it only between runs of the same \
         method with the same settings.",
    ),
    known(
        "spikes_per_sample",
        "Spikes per sample",
        Unit::Plain,
        "Spikes that entered or arose in the network before it decided, on average. Fewer spikes \
         mean less communication.",
    ),
    known(
        "synops_per_sample",
        "Synaptic operations per sample",
        Unit::Plain,
        "One for every spike and every connection it travels, on average: the usual stand-in for \
         the energy of event-driven hardware.",
    ),
    known(
        "decision_time",
        "Decision time",
        Unit::Plain,
        "When the network decided, on average, as a fraction of the presentation window: 0 is the \
         beginning, 1 is the end.",
    ),
    known(
        "silent_fraction",
        "Silent samples",
        Unit::Percent,
        "Share of the samples for which no output neuron fired; their class is a guess.",
    ),
    known(
        "sparsity",
        "Sparsity",
        Unit::Percent,
        "Share of the neurons that stay silent during a sample, on average.",
    ),
];

/// Metrics that are drawn in sections of their own.
pub(super) const COSTS: &[&str] = &["spikes_per_sample", "synops_per_sample"];
/// The mean time of the decision.
pub(super) const DECISION_TIME: &str = "decision_time";

fn find(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|k| k.name == name)
}

/// Heading of a metric.
pub(super) fn title(name: &str) -> String {
    find(name).map_or_else(|| format::words(name), |k| k.title.to_owned())
}

/// What a metric means; nothing for names that only their method knows.
pub(super) fn meaning(name: &str) -> &'static str {
    find(name).map_or("", |k| k.meaning)
}

/// How the values of a metric are written. Fractions are recognised by their name.
pub(super) fn unit(name: &str) -> Unit {
    match find(name) {
        Some(k) => k.unit,
        None if name.ends_with("accuracy") => Unit::Percent,
        None => Unit::Plain,
    }
}

/// A value of a metric as text.
pub(super) fn show(name: &str, value: f64) -> String {
    unit(name).show(value)
}

/// Sorts names as they should be read: known ones in their order, then the rest by name.
pub(super) fn sort(names: &mut [&str]) {
    let place = |name: &str| KNOWN.iter().position(|k| k.name == name).unwrap_or(KNOWN.len());
    names.sort_by(|a, b| place(a).cmp(&place(b)).then(a.cmp(b)));
}

impl Unit {
    /// A value as text.
    pub(super) fn show(self, value: f64) -> String {
        match self {
            Unit::Percent => format::percent(value, 2),
            Unit::Plain => format::number(value),
        }
    }

    /// A value as a short text, for beside a curve.
    pub(super) fn brief(self, value: f64) -> String {
        match self {
            Unit::Percent => format::percent(value, 2),
            Unit::Plain => format::brief(value),
        }
    }
}
