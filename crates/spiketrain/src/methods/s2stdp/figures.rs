//! Pictures for the report.

use super::S2stdp;
use crate::error::Result;
use crate::event::{Figure, Histogram, RasterPanel};
use crate::learner::Batch;
use crate::times::integrate::T_MAX;

/// Samples shown in the raster.
const N_PANELS: usize = 4;
/// Bins of the weight histograms.
const N_BINS: usize = 40;

pub(super) fn figures(learner: &S2stdp, probe: &Batch<'_>) -> Result<Vec<Figure>> {
    Ok(vec![output_raster(learner, probe)?, weight_histograms(learner)])
}

/// Output spikes of a few samples, one row per neuron.
fn output_raster(learner: &S2stdp, probe: &Batch<'_>) -> Result<Figure> {
    let times = probe.inputs.as_times();
    let m = learner.params.neurons_per_class;
    let name = |n: usize| {
        let role = if learner.params.is_target(n) { "target" } else { "other" };
        format!("{} · {role} {}", n / m, n % m)
    };
    let mut panels = Vec::new();
    for &row in probe.rows.iter().take(N_PANELS) {
        let outputs = learner.outputs(times.sample(row)).map_err(|e| e.context(row))?;
        let fired: Vec<usize> = (0..learner.n_neurons()).filter(|&n| outputs.fired(n)).collect();
        let label = probe.labels.get(row).map(|&l| usize::from(l));
        let of_class = label.map_or(0..0, |k| learner.params.group(k));
        panels.push(RasterPanel {
            label: label.map_or(format!("sample {row}"), |k| format!("sample {row}, class {k}")),
            n_neurons: learner.n_neurons(),
            names: (0..learner.n_neurons()).map(name).collect(),
            times: fired.iter().map(|&n| outputs.times[n] / T_MAX).collect(),
            neurons: fired.iter().map(|&n| n as u32).collect(),
            highlight: of_class.map(|n| n as u32).collect(),
        });
    }
    Ok(Figure::Raster {
        title: "Output spikes".into(),
        caption: "Each output neuron fires at most once; the class of the first spike is the \
                  answer. Rows: class, role and place in its group; the true class is highlighted."
            .into(),
        panels,
    })
}

/// Distribution of the weights of target and of non-target neurons.
fn weight_histograms(learner: &S2stdp) -> Figure {
    let (low, high) = (learner.params.weight_min, learner.params.weight_max);
    let weights = learner.layer.weights();
    let histogram = |is_target: bool, label: &str| {
        let mut counts = vec![0u64; N_BINS];
        for (n, row) in weights.chunks_exact(learner.layer.n_inputs()).enumerate() {
            if learner.params.is_target(n) != is_target {
                continue;
            }
            for &w in row {
                let bin = ((w - low) / (high - low) * N_BINS as f32) as usize;
                counts[bin.min(N_BINS - 1)] += 1;
            }
        }
        Histogram { label: label.into(), from: f64::from(low), to: f64::from(high), counts }
    };
    let mut histograms = vec![histogram(true, "weights of target neurons")];
    if learner.params.non_target_neurons > 0 {
        histograms.push(histogram(false, "weights of non-target neurons"));
    }
    Figure::Histograms {
        title: "Weights".into(),
        caption: "Normalisation may carry single weights above the upper bound until the next \
                  sample; they are counted in the last bin."
            .into(),
        histograms,
    }
}
