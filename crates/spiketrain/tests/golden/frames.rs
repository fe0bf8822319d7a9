//! What the clock-driven cases share: layouts, tolerances, settings, networks.

use super::{Comparison, Golden};
use spiketrain::Shape;
use spiketrain::frames::layer::{self, Context};
use spiketrain::frames::net::{channels_first, channels_last};
use spiketrain::frames::neuron::{Params, Reset};
use spiketrain::frames::optimizer::{Group, Optimizer, Settings};
use spiketrain::frames::shards::Workspaces;
use spiketrain::frames::signal::{Data, Signal};
use spiketrain::frames::slope::Slope;
use spiketrain::frames::{Net, Parameters};
use std::sync::Arc;

/// Relative and absolute part of a tolerance.
pub(crate) type Tolerance = [f64; 2];
/// Cases of one layer.
pub(crate) const LAYER: Tolerance = [1e-5, 1e-6];
/// Cases of a whole network.
pub(crate) const NETWORK: Tolerance = [5e-5, 5e-6];
/// Gradients that are zero in exact arithmetic.
pub(crate) const ZERO: Tolerance = [0.0, 2e-5];

/// Compares with the double-precision reference `f64.name`.
pub(crate) fn close(
    golden: &Golden,
    comparison: &mut Comparison,
    name: &str,
    ours: &[f32],
    [relative, absolute]: Tolerance,
) {
    let name = format!("f64.{name}");
    let reference = golden.get::<f64>(&name);
    let max = reference.iter().map(|x| x.abs()).fold(0.0, f64::max);
    comparison.close(&name, ours, reference, relative * max + absolute);
}

/// A metadata entry.
pub(crate) fn text<'a>(golden: &'a Golden, key: &str) -> &'a str {
    golden.metadata.get(key).unwrap_or_else(|| panic!("no {key} in the metadata"))
}

/// A number of the metadata.
pub(crate) fn number(golden: &Golden, key: &str) -> f64 {
    text(golden, key).parse().unwrap_or_else(|_| panic!("{key} = {}", text(golden, key)))
}

/// The neuron that a file describes.
pub(crate) fn neuron(golden: &Golden) -> Params {
    let width = number(golden, "surrogate_par") as f32;
    let slope = match text(golden, "surrogate") {
        "triangle" => Slope::Triangle { width },
        "rect" => Slope::Rectangle { width },
        "sigmoid" => Slope::Sigmoid { steepness: width },
        "atan" => Slope::Atan { steepness: width },
        "gauss" => Slope::Gaussian { deviation: width },
        other => panic!("unknown surrogate {other}"),
    };
    Params {
        decay: number(golden, "decay") as f32,
        scales_input: golden.metadata.get("charge").is_some_and(|c| c.contains("(1-decay)*x")),
        threshold: number(golden, "threshold") as f32,
        learns_threshold: false,
        reset: match text(golden, "reset") {
            "hard" => Reset::Hard,
            "soft" => Reset::Soft,
            other => panic!("unknown reset {other}"),
        },
        detach_reset: text(golden, "detach_reset") == "true",
        fires_at_threshold: match text(golden, "spike_when") {
            "u>=threshold" => true,
            "u>threshold" => false,
            other => panic!("unknown comparison {other}"),
        },
        slope,
    }
}

/// Shape of one image of a tensor `[…, channel, row, column]`.
pub(crate) fn image_shape(extents: &[usize]) -> Shape {
    let [.., channels, height, width] = *extents else { panic!("images have three axes") };
    Shape::new(channels, height, width)
}

/// `[sample, time, …]` to `[time, sample, …]`, or back with the two numbers exchanged.
pub(crate) fn exchange<T: Copy>(values: &[T], outer: usize, inner: usize) -> Vec<T> {
    let item = values.len() / outer / inner;
    let mut out = Vec::with_capacity(values.len());
    for i in 0..inner {
        for o in 0..outer {
            out.extend_from_slice(&values[(o * inner + i) * item..][..item]);
        }
    }
    out
}

/// A dense signal from `[time, sample, channel, row, column]`.
pub(crate) fn signal(values: &[f32], shape: Shape, n_steps: usize) -> Signal {
    spiketrain::frames::net::values(values, shape, n_steps)
}

/// Values `[time, sample, channel, row, column]` of a signal.
pub(crate) fn planes(signal: Signal) -> Vec<f32> {
    let shape = signal.shape;
    channels_first(&signal.into_values(), shape)
}

/// A gradient in the engine's layout.
pub(crate) fn gradient(values: &[f32], shape: Shape) -> Vec<f32> {
    channels_last(values, shape)
}

/// Values of the engine's layout as `[image, channel, row, column]`.
pub(crate) fn outside(values: &[f32], shape: Shape) -> Vec<f32> {
    channels_first(values, shape)
}

/// Puts the file's initial parameters into the network; `name_of` gives the file's name of ours.
pub(crate) fn set_parameters(net: &mut Net, golden: &Golden, name_of: impl Fn(&str) -> String) {
    for p in &mut net.parameters.list {
        p.values.copy_from_slice(golden.get(&format!("in.param.{}", name_of(&p.name))));
    }
    net.forget_forms();
}

/// One optimiser for all parameters alike.
pub(crate) fn optimizer(settings: Settings, parameters: &Parameters) -> Optimizer {
    let group =
        Group { learning_rate: settings.learning_rate(), weight_decay: settings.weight_decay() };
    Optimizer::new(settings, parameters, |_| group)
}

/// The labels as the engine reads them.
pub(crate) fn labels(golden: &Golden) -> Vec<u16> {
    golden.get::<i64>("in.labels").iter().map(|&y| y as u16).collect()
}

/// Spikes after the first `n_layers` layers as `[time, sample, channel, row, column]`.
pub(crate) fn spikes_after(net: &Net, n_layers: usize, input: Signal) -> Vec<u8> {
    let workspaces = Workspaces::default();
    let phase = layer::Phase::Training { seed: spiketrain::Seed(0), first: 0 };
    let context: Context<'_> = net.context(phase, input.n_steps, &workspaces);
    let layers = &net.layers[..n_layers];
    let mut notes = layer::Notes::default();
    let output = layer::forward(layers, Arc::new(input), &context, &mut notes, None)
        .unwrap_or_else(|e| panic!("{e}"));
    assert!(matches!(output.data, Data::Spikes(_)), "layer {n_layers} ends in neurons");
    planes(Arc::unwrap_or_clone(output)).iter().map(|&s| s as u8).collect()
}
