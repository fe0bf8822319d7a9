//! Pictures for the report.

use super::TimeLosses;
use crate::error::Result;
use crate::event::{BarRow, Figure, RasterPanel};
use crate::learner::Batch;
use std::sync::Arc;

/// Output spikes of every sample of the probe, and how many spikes a neuron of every layer gives.
pub(super) fn figures(learner: &TimeLosses, probe: &Batch<'_>) -> Result<Vec<Figure>> {
    let n_steps = learner.params.n_steps;
    let input = learner.input(probe, None)?;
    let (output, notes) = learner.net.evaluate(input, &learner.workspaces);
    let spikes = Arc::unwrap_or_clone(output).into_values();
    let n_classes = spikes.len() / n_steps / probe.len();
    let panel = |(n, &row): (usize, &usize)| -> RasterPanel {
        let fires = |&(t, c): &(usize, usize)| spikes[(t * probe.len() + n) * n_classes + c] != 0.0;
        let all = (0..n_steps).flat_map(|t| (0..n_classes).map(move |c| (t, c)));
        let fired: Vec<(usize, usize)> = all.filter(fires).collect();
        let label = probe.labels.get(row);
        RasterPanel {
            label: label.map_or(format!("sample {row}"), |k| format!("sample {row}, class {k}")),
            n_neurons: n_classes,
            names: (0..n_classes).map(|c| c.to_string()).collect(),
            times: fired.iter().map(|&(t, _)| (t as f32 + 0.5) / n_steps as f32).collect(),
            neurons: fired.iter().map(|&(_, c)| c as u32).collect(),
            highlight: label.map(|&k| u32::from(k)).into_iter().collect(),
        }
    };
    let panels = probe.rows.iter().enumerate().map(panel).collect();
    let names = learner.net.spiking().iter().map(|l| l.name.clone()).collect();
    let per_neuron = notes.activity.iter().map(|a| a.rate * n_steps as f64).collect();
    Ok(vec![
        Figure::Raster {
            title: "Output spikes".into(),
            caption: "One row a class; the class with the most spikes is the answer, early ones \
                      count a little more. The true class is highlighted."
                .into(),
            panels,
        },
        Figure::Bars {
            title: "Spikes of each layer".into(),
            caption: "Spikes a neuron over all steps, mean over the samples shown.".into(),
            categories: names,
            rows: vec![BarRow { name: "spikes a neuron".into(), values: per_neuron }],
            y_label: "spikes".into(),
        },
    ])
}
