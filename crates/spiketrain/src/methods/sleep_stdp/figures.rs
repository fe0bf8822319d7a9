//! Pictures for the report.

use super::SleepStdp;
use super::history::{LOG_FROM, N_BINS};
use crate::event::{Curve, Figure, Histogram, RasterPanel};
use crate::learner::Batch;

/// Test images shown in the raster.
const N_PANELS: usize = 2;
/// Columns of the picture of weights over time at most.
const MAX_COLUMNS: usize = 240;
/// Width of that picture, about, pixels.
const PICTURE_WIDTH: usize = 960;
/// Height of a bin in it, pixels.
const BIN_HEIGHT: usize = 6;
/// Height of the bar that marks sleep, with the gap above it, pixels.
const BAR_HEIGHT: usize = 14;
/// Bins from one line to the next.
const BINS_PER_DECADE: usize = 10;
/// Colours of waking and sleeping columns and of the lines.
const AWAKE: [u8; 3] = [30, 30, 30];
const ASLEEP: [u8; 3] = [40, 90, 200];
const GRID: [u8; 3] = [205, 205, 205];

pub(super) fn figures(learner: &SleepStdp, probe: &Batch<'_>) -> Vec<Figure> {
    let mut figures = Vec::new();
    if learner.history.len() > 1 {
        figures.push(growth(learner));
        figures.push(weights_over_time(learner));
    }
    figures.push(weight_histograms(learner));
    figures.push(raster(learner, probe));
    figures
}

/// Totals of the weights against time, sleep drawn as curves of their own.
fn growth(learner: &SleepStdp) -> Figure {
    let h = &learner.history;
    let curve = |name: &str, k: usize| Curve {
        name: name.into(),
        x: h.times.iter().map(|&t| t as f64).collect(),
        y: h.growth.iter().map(|g| g[k]).collect(),
    };
    let mut curves = vec![curve("excitatory", 0), curve("inhibitory", 1)];
    let mut asleep = Curve { name: "excitatory, asleep".into(), x: Vec::new(), y: Vec::new() };
    for i in (1..h.len()).filter(|&i| h.asleep[i]) {
        for at in [i - 1, i] {
            asleep.x.push(h.times[at] as f64);
            asleep.y.push(h.growth[at][0]);
        }
        // A gap between two episodes.
        asleep.x.push(h.times[i] as f64);
        asleep.y.push(f64::NAN);
    }
    if !asleep.x.is_empty() {
        curves.push(asleep);
    }
    Figure::Lines {
        title: "Growth of the weights".into(),
        caption: "Total magnitude of the synapses over its initial value, measured at every \
                  interval before and after what regularises it. Virtual steps of sleep count \
                  as time."
            .into(),
        x_label: "steps, real and virtual".into(),
        y_label: "growth".into(),
        curves,
    }
}

/// Histograms of the excitatory weights, a column each; columns after sleep are blue and marked by
/// a bar below.
fn weights_over_time(learner: &SleepStdp) -> Figure {
    let h = &learner.history;
    let stride = h.len().div_ceil(MAX_COLUMNS);
    // An odd stride keeps both waking and sleeping columns.
    let stride = if stride > 1 { stride | 1 } else { 1 };
    let columns: Vec<usize> = (0..h.len()).step_by(stride).collect();
    let column_width = (PICTURE_WIDTH / columns.len()).max(1);
    let (width, height) = (columns.len() * column_width, N_BINS * BIN_HEIGHT + BAR_HEIGHT);
    let mut image = vec![255u8; width * height * 3];
    let mut fill = |rows: std::ops::Range<usize>, c: usize, colour: [u8; 3]| {
        for y in rows {
            for x in c * column_width..(c + 1) * column_width {
                image[(y * width + x) * 3..][..3].copy_from_slice(&colour);
            }
        }
    };
    for (c, &i) in columns.iter().enumerate() {
        let counts = &h.counts[i * N_BINS..(i + 1) * N_BINS];
        let most = counts.iter().copied().max().unwrap_or(0).max(1);
        let full = if h.asleep[i] { ASLEEP } else { AWAKE };
        for (bin, &n) in counts.iter().enumerate() {
            // The square root shows rare weights beside the common ones.
            let ink = libm::sqrt(f64::from(n) / f64::from(most));
            let shade = |x: u8| (255.0 - (255.0 - f64::from(x)) * ink) as u8;
            let bottom = (N_BINS - bin) * BIN_HEIGHT;
            fill(bottom - BIN_HEIGHT..bottom, c, full.map(shade));
            if bin % BINS_PER_DECADE == 0 && n == 0 {
                fill(bottom - 1..bottom, c, GRID);
            }
        }
        if h.asleep[i] {
            fill(height - BAR_HEIGHT + 4..height, c, ASLEEP);
        }
    }
    let bottom = libm::pow(10.0, LOG_FROM);
    let top = libm::pow(10.0, LOG_FROM + N_BINS as f64 / BINS_PER_DECADE as f64);
    Figure::Images {
        title: "Weights over time".into(),
        caption: format!(
            "Distribution of the excitatory weights, from {bottom:.3} at the bottom to {top:.0} at \
             the top; grey lines mark the powers of ten between. Time runs to the right, two \
             columns for every interval: black before, blue after an episode of sleep, which the \
             bar below marks too. Darker is more, as a share of the column's fullest bin."
        ),
        height,
        width,
        channels: 3,
        images: vec![image],
        labels: Vec::new(),
    }
}

/// The weights at the end.
fn weight_histograms(learner: &SleepStdp) -> Figure {
    let (excitatory, inhibitory) = learner.synapses.weights.split_at(learner.synapses.n_excitatory);
    let largest = learner.synapses.weights.iter().copied().fold(1e-3, f64::max);
    let histogram = |label: &str, weights: &[f64]| {
        let mut counts = vec![0u64; 40];
        for w in weights {
            counts[((w / largest * 40.0) as usize).min(39)] += 1;
        }
        Histogram { label: label.into(), from: 0.0, to: largest, counts }
    };
    Figure::Histograms {
        title: "Weights".into(),
        caption: "Magnitudes at the end of training.".into(),
        histograms: vec![
            histogram("excitatory weights", excitatory),
            histogram("inhibitory weights", inhibitory),
        ],
    }
}

/// Spikes of the network for a few test images.
fn raster(learner: &SleepStdp, probe: &Batch<'_>) -> Figure {
    let images = probe.inputs.as_images();
    let n_neurons = learner.synapses.n_neurons;
    let panel = |&row: &usize| {
        let spikes = learner.spikes(images, row);
        let label = probe.labels.get(row);
        RasterPanel {
            label: label.map_or(format!("image {row}"), |k| format!("image {row}, class {k}")),
            n_neurons,
            names: Vec::new(),
            times: spikes.iter().map(|s| s.0 as f32 / learner.params.n_steps as f32).collect(),
            neurons: spikes.iter().map(|s| u32::from(s.1)).collect(),
            highlight: (learner.params.n_excitatory as u32..n_neurons as u32).collect(),
        }
    };
    Figure::Raster {
        title: "Spikes of the network".into(),
        caption: "Excitatory and, highlighted, inhibitory neurons while a test image is shown to \
                  the trained network, from rest."
            .into(),
        panels: probe.rows.iter().take(N_PANELS).map(panel).collect(),
    }
}
