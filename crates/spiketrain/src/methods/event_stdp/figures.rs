//! Pictures for the report.

use super::filters::{fit_gabor, picture};
use super::{Decoder, EventStdp, Reading, Tiling};
use crate::error::Result;
use crate::event::{Curve, Figure};
use crate::learner::Batch;
use crate::metrics::histogram;

/// Sides above this are shown by their middle.
const MAX_SIDE: usize = 128;
/// Pixels reconstructed for the report; at least one image is shown.
const MAX_PIXELS: usize = 1 << 16;

pub(super) fn figures(learner: &EventStdp, probe: &Batch<'_>) -> Result<Vec<Figure>> {
    let mut out = vec![filter_pictures(learner)];
    let images = probe.inputs.as_images();
    let mut readings = Vec::new();
    let n_shown = (MAX_PIXELS / (learner.shape.height * learner.shape.width)).max(1);
    for &row in probe.rows.iter().take(n_shown) {
        readings.push(learner.read(images, row).map_err(|e| e.context(format!("sample {row}")))?);
    }
    if !readings.is_empty() {
        out.push(reconstructions(learner, &readings));
        out.push(spikes_per_patch(&readings));
    }
    out.extend(course(learner));
    Ok(out)
}

/// The filters, the busiest first; signed ones with grey as 0.
fn filter_pictures(learner: &EventStdp) -> Figure {
    let (code, size) = (learner.params.code, learner.params.patch);
    let (weights, n_inputs) = (learner.layer.weights(), learner.layer.n_inputs());
    let fits = if learner.params.fit_gabor {
        fit_gabor(code, &weights, n_inputs, size)
    } else {
        Vec::new()
    };
    let channels = if learner.shape.channels == 3 { 3 } else { 1 };
    let mut images = Vec::new();
    let mut labels = Vec::new();
    for (i, row) in weights.chunks_exact(n_inputs).enumerate() {
        let filter = picture(code, row);
        let n = size * size;
        let shown = &filter[..channels * n];
        let (low, high) = if code.is_signed() {
            let mean = shown.iter().sum::<f64>() / shown.len() as f64;
            let reach = shown.iter().map(|w| (w - mean).abs()).fold(1e-9, f64::max);
            (mean - reach, mean + reach)
        } else {
            (0.0, 1.0)
        };
        let byte = |w: f64| (255.0 * (w - low) / (high - low)).round().clamp(0.0, 255.0) as u8;
        images.push(
            (0..n * channels).map(|k| byte(shown[k % channels * n + k / channels])).collect(),
        );
        let fit = fits.get(i).map(|f| f.map_or(0.0, |g| g.r_squared));
        labels.push(fit.map_or(format!("{i}"), |r| format!("{i}: R² {r:.2}")));
    }
    let scale = if code.is_signed() {
        "Each from its own least to its largest weight."
    } else {
        "Black is 0, white is 1."
    };
    Figure::Images {
        title: "Filters".into(),
        caption: format!("The weights of each neuron. {scale}"),
        height: size,
        width: size,
        channels,
        images,
        labels,
    }
}

/// Originals, each followed by its reconstructions.
fn reconstructions(learner: &EventStdp, readings: &[Reading]) -> Figure {
    let shape = learner.shape;
    let channels = if shape.channels == 3 { 3 } else { 1 };
    let (height, width) = (shape.height.min(MAX_SIDE), shape.width.min(MAX_SIDE));
    let (top, left) = ((shape.height - height) / 2, (shape.width - width) / 2);
    let bytes = |image: &[f32]| -> Vec<u8> {
        let mut out = Vec::with_capacity(channels * height * width);
        for y in top..top + height {
            for x in left..left + width {
                for c in 0..channels {
                    let v = image[(c * shape.height + y) * shape.width + x];
                    out.push((255.0 * v).round().clamp(0.0, 255.0) as u8);
                }
            }
        }
        out
    };
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for (i, reading) in readings.iter().enumerate() {
        images.push(bytes(&reading.target));
        labels.push(format!("image {i}"));
        for (decoder, tiling, image) in &reading.reconstructions {
            images.push(bytes(image));
            let decoder = if *decoder == Decoder::Vq { "D1" } else { "D2" };
            let tiling = if *tiling == Tiling::Tiled { "tiled" } else { "overlap" };
            labels.push(format!("{decoder} {tiling}"));
        }
    }
    let whole = height == shape.height && width == shape.width;
    let part = if whole { "" } else { " The middle of each image is shown." };
    Figure::Images {
        title: "Reconstructions".into(),
        caption: format!(
            "Originals, each followed by its reconstructions. D1: mean filter of the output \
             spikes; D2: filters counted by cosine-driven neurons.{part}"
        ),
        height,
        width,
        channels,
        images,
        labels,
    }
}

fn spikes_per_patch(readings: &[Reading]) -> Figure {
    let spikes: Vec<f64> = readings.iter().flat_map(|r| r.spikes_per_patch.clone()).collect();
    let most = spikes.iter().copied().fold(1.0, f64::max);
    Figure::Histograms {
        title: "Spikes of a patch".into(),
        caption: "Output spikes of all neurons while one patch is shown, over the patches of a \
                  few test images."
            .into(),
        histograms: vec![histogram("output spikes of a patch", &spikes, 0.0, most + 1.0)],
    }
}

/// Threshold and activity over the run.
fn course(learner: &EventStdp) -> Vec<Figure> {
    let x = learner.history.images();
    if x.len() < 2 {
        return Vec::new();
    }
    let (spikes, active) = learner.history.activity();
    let curve = |name: &str, y| Curve { name: name.into(), x: x.clone(), y };
    let lines = |title: &str, caption: &str, y_label: &str, curves| Figure::Lines {
        title: title.into(),
        caption: caption.into(),
        x_label: "images learned from".into(),
        y_label: y_label.into(),
        curves,
    };
    vec![
        lines(
            "Threshold over time",
            "The threshold on the softmax share, the same for all neurons.",
            "threshold",
            vec![curve("threshold", learner.history.thresholds.clone())],
        ),
        lines(
            "Spikes a step",
            "Output spikes of all neurons a step, and the share of steps with at least one.",
            "spikes",
            vec![curve("spikes a step", spikes), curve("steps with a spike", active)],
        ),
    ]
}
