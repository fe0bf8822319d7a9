//! Pictures for the report.

use super::network::{Activity, Network};
use super::{Goal, Presented, TemporalAutoencoder};
use crate::event::{BarRow, Figure, Histogram, RasterPanel};
use crate::learner::Batch;
use crate::metrics;
use crate::spikes::Times;

/// What sends to each layer, and to whom.
const GROUPS: [[&str; 2]; 2] =
    [["inputs to hidden", "pulses to hidden"], ["hidden to outputs", "pulses to outputs"]];

pub(super) fn figures(learner: &TemporalAutoencoder, probe: &Batch<'_>) -> Vec<Figure> {
    let times = probe.inputs.as_times();
    let shown: Vec<(usize, Presented, Activity)> = probe
        .rows
        .iter()
        .map(|&row| {
            let (mut sample, mut activity) = (Presented::default(), learner.network().activity());
            sample.read(times, row);
            learner.network().forward(&sample.spikes, &mut activity);
            (row, sample, activity)
        })
        .collect();
    let mut figures = Vec::new();
    if learner.params.goal == Goal::Reconstruction {
        let pictures = shown.iter().map(|(row, sample, activity)| {
            let mut input = vec![0.0; sample.targets.len()];
            sample.spikes.iter().for_each(|&(t, n)| input[n as usize] = (1.0 - t) as f32);
            let target = sample.targets.iter().map(|&t| (1.0 - t) as f32).collect();
            Picture { row: *row, input, target, output: learner.reconstruction(activity) }
        });
        figures.push(intensities(times, &pictures.collect::<Vec<_>>()));
    }
    figures.push(hidden_raster(learner, probe, &shown));
    figures.push(pulse_raster(learner.network()));
    figures.push(time_histograms(learner, &shown));
    figures.push(weight_histograms(learner.network()));
    figures.push(negative_weights(learner.network()));
    if learner.params.goal == Goal::Reconstruction {
        figures.push(drive(learner, &shown));
    }
    figures
}

/// One sample in intensities.
pub(super) struct Picture {
    pub(super) row: usize,
    pub(super) input: Vec<f32>,
    pub(super) target: Vec<f32>,
    pub(super) output: Vec<f32>,
}

/// Originals, inputs where they differ, and reconstructions, side by side.
pub(super) fn intensities(times: &Times, pictures: &[Picture]) -> Figure {
    let shape = times.shape;
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    // Of several channels the first is shown.
    let plane = shape.height * shape.width;
    let bytes = |values: &[f32]| -> Vec<u8> {
        values[..plane].iter().map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8).collect()
    };
    for Picture { row, input, target, output } in pictures {
        images.push(bytes(target));
        labels.push(format!("sample {row}"));
        if input != target {
            images.push(bytes(input));
            labels.push("with noise".into());
        }
        images.push(bytes(output));
        labels.push("reconstruction".into());
    }
    Figure::Images {
        title: "Reconstructions".into(),
        caption:
            "Each sample beside what the network makes of it. Brightness is 1 minus the spike \
                  time, a silent output is black."
                .into(),
        height: shape.height,
        width: shape.width,
        channels: 1,
        images,
        labels,
    }
}

/// Spikes scaled to the latest of them, in one panel.
fn panel(
    label: &str,
    spikes: &[(u32, f64)],
    names: Vec<String>,
    highlight: Vec<u32>,
) -> RasterPanel {
    let latest = spikes.iter().map(|s| s.1).fold(1.0, f64::max);
    RasterPanel {
        label: format!("{label}; the axis ends at {latest:.2} windows"),
        n_neurons: names.len(),
        names,
        times: spikes.iter().map(|s| (s.1 / latest) as f32).collect(),
        neurons: spikes.iter().map(|s| s.0).collect(),
        highlight,
    }
}

fn spikes_of(activity: &Activity, layer: usize, n: usize) -> Vec<(u32, f64)> {
    let spikes = (0..n).map(|k| (k as u32, activity.time(layer, k)));
    spikes.filter(|s| s.1.is_finite()).collect()
}

/// The embedding of each sample; a classifier's outputs instead.
fn hidden_raster(
    learner: &TemporalAutoencoder,
    probe: &Batch<'_>,
    shown: &[(usize, Presented, Activity)],
) -> Figure {
    let is_classifier = learner.params.goal == Goal::Classification;
    let (layer, what) = if is_classifier { (1, "class") } else { (0, "neuron") };
    let n = learner.network().n_neurons(layer);
    let panels = shown.iter().map(|(row, _, activity)| {
        let label = probe.labels.get(*row);
        let text = label.map_or(format!("sample {row}"), |k| format!("sample {row}, class {k}"));
        let names = (0..n).map(|k| format!("{what} {k}")).collect();
        let of_class = label.filter(|_| is_classifier).map(|&k| u32::from(k));
        panel(&text, &spikes_of(activity, layer, n), names, of_class.into_iter().collect())
    });
    let (title, caption) = if is_classifier {
        ("Output spikes", "The class of the first output spike is the answer.")
    } else {
        ("Embedding", "Spike times of the hidden neurons: all the outputs know of a sample.")
    };
    Figure::Raster { title: title.into(), caption: caption.into(), panels: panels.collect() }
}

/// When the pulses of each layer come.
fn pulse_raster(network: &Network) -> Figure {
    let names = ["to the hidden layer", "to the outputs"];
    let panels = (0..network.n_layers()).map(|l| {
        let pulses = network.pulses(l);
        let spikes: Vec<(u32, f64)> = (0..).zip(pulses.iter().copied()).collect();
        let rows = (0..pulses.len()).map(|k| format!("pulse {k}")).collect();
        panel(names[l.min(1)], &spikes, rows, Vec::new())
    });
    Figure::Raster {
        title: "Pulses".into(),
        caption: "Trained times of the synchronisation pulses, the same for every sample.".into(),
        panels: panels.collect(),
    }
}

fn histogram(label: &str, values: &[f64]) -> Histogram {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (low, high) = if low < high { (low, high) } else { (0.0, 1.0) };
    metrics::histogram(label, values, low, high)
}

/// Spike times of the hidden neurons and of the outputs.
fn time_histograms(
    learner: &TemporalAutoencoder,
    shown: &[(usize, Presented, Activity)],
) -> Figure {
    let of_layer = |l: usize| -> Vec<f64> {
        let n = learner.network().n_neurons(l);
        let all = shown.iter().flat_map(|(_, _, a)| spikes_of(a, l, n));
        all.map(|s| s.1).collect()
    };
    Figure::Histograms {
        title: "Spike times".into(),
        caption: "In windows, over the samples shown; silent neurons are not counted.".into(),
        histograms: vec![
            histogram("hidden spikes (windows)", &of_layer(0)),
            histogram("output spikes (windows)", &of_layer(1)),
        ],
    }
}

/// Weights of the two kinds of sender of each layer.
fn weight_histograms(network: &Network) -> Figure {
    let of_group = |l: usize, k: usize| -> Vec<f64> {
        let n = network.n_senders(l);
        let rows = if k == 0 { 0..n } else { n..n + network.pulses(l).len() };
        let neurons = 0..network.n_neurons(l);
        rows.flat_map(|r| neurons.clone().map(move |j| network.weight(l, r, j))).collect()
    };
    let groups = (0..network.n_layers().min(2)).flat_map(|l| [(l, 0), (l, 1)]);
    Figure::Histograms {
        title: "Weights".into(),
        caption: "Positive weights excite, negative weights inhibit.".into(),
        histograms: groups
            .map(|(l, k)| histogram(&format!("weights, {}", GROUPS[l][k]), &of_group(l, k)))
            .collect(),
    }
}

/// How much of each group inhibits.
fn negative_weights(network: &Network) -> Figure {
    let (mut categories, mut values) = (Vec::new(), Vec::new());
    for l in 0..network.n_layers().min(2) {
        let shares = network.negative_shares(l);
        for k in 0..2 {
            categories.push(GROUPS[l][k].to_owned());
            values.push(shares[k]);
        }
    }
    Figure::Bars {
        title: "Inhibition".into(),
        caption: "Share of negative weights in each group.".into(),
        categories,
        rows: vec![BarRow { name: "negative weights".into(), values }],
        y_label: "share".into(),
    }
}

/// What drives the outputs half a window before they are due.
fn drive(learner: &TemporalAutoencoder, shown: &[(usize, Presented, Activity)]) -> Figure {
    let at = learner.params.latency - 0.5;
    let mut mean = [0.0; 2];
    for (_, _, activity) in shown {
        let of_sample = learner.network().mean_drive(activity, at);
        mean.iter_mut().zip(of_sample).for_each(|(m, d)| *m += d / shown.len() as f64);
    }
    Figure::Bars {
        title: "Drive of the outputs".into(),
        caption: format!(
            "Mean contribution to the potential of an output at {at} windows, over the samples \
             shown; the threshold is {:.3}.",
            learner.params.threshold
        ),
        categories: vec!["hidden neurons".into(), "pulses".into()],
        rows: vec![BarRow { name: "drive".into(), values: mean.to_vec() }],
        y_label: "potential".into(),
    }
}
