//! Pictures for the report.

use super::{Sample, StidiBp, Variation};
use crate::event::{Figure, Histogram, RasterPanel};
use crate::learner::Batch;
use crate::metrics::histogram;

/// Spike times of every layer, and the output spikes of each sample of the probe.
pub(super) fn figures(learner: &StidiBp, probe: &Batch<'_>) -> Vec<Figure> {
    let network = learner.predicting();
    let n_steps = f32::from(network.params.n_steps);
    let n_layers = network.layers.len();
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); n_layers + 1];
    let mut panels = Vec::new();
    let mut sample = Sample::default();
    for &row in probe.rows {
        network.forward(probe.inputs.as_times().sample(row), &Variation::default(), &mut sample);
        let maps = sample.traces.iter().map(|t| &t.input).chain([&sample.outputs]);
        for (all, map) in times.iter_mut().zip(maps) {
            let fired = map.iter().filter(|&&t| t < n_steps);
            all.extend(fired.map(|t| f64::from(t / n_steps)));
        }
        let outputs = &sample.outputs;
        let fired: Vec<usize> = (0..outputs.len()).filter(|&k| outputs[k] < n_steps).collect();
        let label = probe.labels.get(row);
        panels.push(RasterPanel {
            label: label.map_or(format!("sample {row}"), |k| format!("sample {row}, class {k}")),
            n_neurons: outputs.len(),
            names: (0..outputs.len()).map(|k| k.to_string()).collect(),
            times: fired.iter().map(|&k| outputs[k] / n_steps).collect(),
            neurons: fired.iter().map(|&k| k as u32).collect(),
            highlight: label.map(|&k| u32::from(k)).into_iter().collect(),
        });
    }
    let named = |(l, times): (usize, &Vec<f64>)| -> Histogram {
        let label = match l {
            0 => "inputs".to_owned(),
            l if l == n_layers => "output neurons".to_owned(),
            l => format!("hidden layer {l}, after pooling"),
        };
        histogram(&label, times, 0.0, 1.0)
    };
    vec![
        Figure::Histograms {
            title: "Spike times".into(),
            caption: "Times of the neurons that fire, fractions of the window, over the samples \
                      shown below. A layer answers after the one before it."
                .into(),
            histograms: times.iter().enumerate().map(named).collect(),
        },
        Figure::Raster {
            title: "Output spikes".into(),
            caption: "One row a class; the class of the first spike is the answer. The true class \
                      is highlighted."
                .into(),
            panels,
        },
    ]
}
