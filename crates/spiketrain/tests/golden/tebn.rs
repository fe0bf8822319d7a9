//! The TEBN layer alone, behind a convolution and before neurons, and in two small networks with
//! one step of the optimiser.

use super::frames::{self, LAYER, NETWORK, Tolerance, ZERO, close, exchange, number, text};
use super::{Comparison, Golden, Kind};
use spiketrain::frames::activation::Activation;
use spiketrain::frames::loss::{Loss, mean_over_time};
use spiketrain::frames::net::{Net, steady};
use spiketrain::frames::network::{Common, ConvSpec, Description, Init, LayerSpec, PoolSpec};
use spiketrain::frames::neuron::Params;
use spiketrain::frames::norm::{Affine, Norm, NormKind, Running};
use spiketrain::frames::optimizer::Settings;
use spiketrain::frames::parameters::Parameters;
use spiketrain::frames::shards::Workspaces;
use spiketrain::frames::signal::Signal;
use spiketrain::frames::slope::Slope;
use spiketrain::{Seed, Shape};
use std::sync::Arc;

pub(crate) const KINDS: [Kind; 3] = [
    Kind { folder: "tebn", recognises: |g| is(g, "tebn_layer"), check: check_layer },
    Kind { folder: "tebn", recognises: |g| is(g, "conv_tebn_lif"), check: check_block },
    Kind { folder: "tebn", recognises: |g| is(g, "net_step"), check: check_network },
];

fn is(golden: &Golden, case: &str) -> bool {
    golden.metadata.get("case").is_some_and(|c| c == case)
}

fn neuron(golden: &Golden) -> Params {
    Params {
        decay: number(golden, "tau") as f32,
        threshold: number(golden, "v_th") as f32,
        slope: Slope::Triangle { width: number(golden, "gamma") as f32 },
        ..Params::default()
    }
}

/// Shape of one image and numbers of samples and steps of `[sample, time, channel, row, column]`.
fn extents(golden: &Golden, name: &str) -> (Shape, usize, usize) {
    let extents = golden.shape(name);
    (frames::image_shape(extents), extents[0], extents[1])
}

/// The tensor `[sample, time, …]` as a signal.
fn signal(golden: &Golden, name: &str) -> Signal {
    let (shape, n_samples, n_steps) = extents(golden, name);
    frames::signal(&exchange(golden.get(name), n_samples, n_steps), shape, n_steps)
}

fn check_layer(golden: &Golden, comparison: &mut Comparison) {
    let (shape, n_samples, n_steps) = extents(golden, "in.x0");
    let (mut parameters, mut running) = (Parameters::default(), Vec::new());
    let extents = [n_steps, shape.channels];
    let norm = Norm::new(NormKind::Tebn {}, "norm", extents, 1.0, &mut parameters, &mut running);
    let names = ["weight", "bias", "p"];
    for (parameter, name) in parameters.list.iter_mut().zip(names) {
        parameter.values.copy_from_slice(golden.get(&format!("in.{name}")));
    }
    let running: &mut Running = &mut running[0];
    running.mean.copy_from_slice(golden.get("in.running_mean"));
    running.variance.copy_from_slice(golden.get("in.running_var"));
    let layer = Activation { norm: Some(norm), neuron: None };
    let is_training = match text(golden, "mode") {
        "train" => true,
        "eval" => false,
        other => panic!("unknown mode {other}"),
    };
    let n_calls = (0..).take_while(|i| golden.has(&format!("in.x{i}"))).count();
    let mut last = None;
    for call in 0..n_calls {
        let input = Arc::new(signal(golden, &format!("in.x{call}")));
        let affine: Affine = if is_training {
            let (affine, moments) = layer.of_batch(&parameters, &input).expect("a norm");
            running.update(&moments);
            affine
        } else {
            norm.of_running(&parameters, running, n_steps)
        };
        let name = |what: &str| format!("running_{what}{call}");
        close(golden, comparison, &name("mean"), &running.mean, LAYER);
        close(golden, comparison, &name("var"), &running.variance, LAYER);
        last = Some((input, affine));
    }
    let (input, affine) = last.expect("at least one call");
    let y = frames::planes(layer.forward(&parameters, &input, Some(&affine)));
    close(golden, comparison, "y", &exchange(&y, n_steps, n_samples), LAYER);
    let d = exchange(golden.get::<f32>("in.grad_out"), n_samples, n_steps);
    let mut gradients = parameters.zeros();
    let record = Activation::record(input, Some(affine));
    let d = layer.backward(&parameters, &record, frames::gradient(&d, shape), &mut gradients);
    let d = exchange(&frames::outside(&d, shape), n_steps, n_samples);
    close(golden, comparison, "grad_x", &d, LAYER);
    for (gradient, name) in gradients.list.iter().zip(names) {
        close(golden, comparison, &format!("grad_{name}"), gradient, LAYER);
    }
    let folded = norm.of_running(&parameters, running, n_steps);
    for (name, values) in [("fold_scale", folded.scale()), ("fold_shift", folded.shift())] {
        let values: Vec<f32> = values.values.iter().map(|&v| v as f32).collect();
        close(golden, comparison, name, &values, LAYER);
    }
}

fn conv(channels: usize, kernel: usize, stride: usize, padding: usize) -> LayerSpec {
    LayerSpec::Conv(ConvSpec { channels, kernel, stride, padding: Some(padding), bias: true })
}

fn net(layers: Vec<LayerSpec>, input: Shape, n_steps: usize, neuron: Params) -> Net {
    let init = Init::Uniform {};
    let description = Description { layers, conv_init: init, linear_init: init };
    let common = Common { n_steps, neuron, norm: NormKind::Tebn {}, seed: Seed(0) };
    Net::new(&description, input, &common).unwrap_or_else(|e| panic!("{e}"))
}

fn check_block(golden: &Golden, comparison: &mut Comparison) {
    let (shape, n_samples, n_steps) = extents(golden, "in.x");
    let (stride, padding) = (number(golden, "stride") as usize, number(golden, "pad") as usize);
    let &[channels, _, kernel, _] = golden.shape("in.conv_weight") else { panic!("four axes") };
    let layers = vec![conv(channels, kernel, stride, padding), LayerSpec::Norm, LayerSpec::Neuron];
    let mut net = net(layers, shape, n_steps, neuron(golden));
    let names = ["conv_weight", "conv_bias", "bn_weight", "bn_bias", "p"];
    for (parameter, name) in net.parameters.list.iter_mut().zip(names) {
        parameter.values.copy_from_slice(golden.get(&format!("in.{name}")));
    }
    net.forget_forms();
    let workspaces = Workspaces::default();
    let (spikes, trace) = net.forward(signal(golden, "in.x"), Seed(0), 0, &workspaces).unwrap();
    let out = net.output;
    let spikes = exchange(&frames::outside(&spikes, out), n_steps, n_samples);
    comparison.exact::<f32, u8>("spikes", &spikes, golden.get("spikes"));
    let d = exchange(golden.get::<f32>("in.grad_out"), n_samples, n_steps);
    let (gradients, d_x) = net.backward(trace, frames::gradient(&d, out), true, &workspaces);
    let d_x = frames::outside(&d_x.expect("asked for"), shape);
    close(golden, comparison, "grad_x", &exchange(&d_x, n_steps, n_samples), LAYER);
    for (gradient, name) in gradients.list.iter().zip(names) {
        let tolerance = if name == "conv_bias" { ZERO } else { LAYER };
        close(golden, comparison, &format!("grad_{name}"), gradient, tolerance);
    }
}

/// Layers of a network case, and the file's name of one of our parameters or statistics.
fn architecture(golden: &Golden) -> (Vec<LayerSpec>, fn(&str) -> String) {
    let features = |name: &str| golden.shape(&format!("in.param.{name}"))[0];
    let linear = |features| LayerSpec::Linear { features, bias: true };
    let (norm, neurons) = (LayerSpec::Norm, LayerSpec::Neuron);
    if golden.has("in.param.fc1.module.weight") {
        let pool = LayerSpec::AveragePool(PoolSpec { size: 2, stride: None, padding: 0 });
        let mut layers = Vec::new();
        for name in ["features.0.fwd.module.weight", "features.3.fwd.module.weight"] {
            let unit = [conv(features(name), 3, 1, 1), norm.clone(), neurons.clone()];
            layers.extend(unit.into_iter().chain([pool.clone()]));
        }
        layers.push(linear(features("fc1.module.weight")));
        layers.push(linear(features("fc2.module.0.weight")));
        layers.push(LayerSpec::Vote { group: number(golden, "vote") as usize });
        return (layers, name_in_vgg);
    }
    let block = |block: &str, stride| {
        let n = features(&format!("{block}.conv1.fwd.module.weight"));
        let body = vec![
            conv(n, 3, stride, 1),
            norm.clone(),
            neurons.clone(),
            conv(n, 3, 1, 1),
            norm.clone(),
        ];
        let shortcut = match stride {
            1 => vec![norm.clone()],
            _ => vec![conv(n, 1, stride, 0), norm.clone()],
        };
        [LayerSpec::Add { body, shortcut }, neurons.clone()]
    };
    let [a, b] = [block("b1", 1), block("b2", 2)];
    let head = [LayerSpec::GlobalAverage, linear(features("fc.module.weight"))];
    (a.into_iter().chain(b).chain(head).collect(), name_in_residual)
}

/// `gamma` and `beta` are the affine pair of a batch norm inside the layer, `p` its own.
fn inside(layer: &str, what: &str) -> String {
    match what {
        "gamma" => format!("{layer}.bn.weight"),
        "beta" => format!("{layer}.bn.bias"),
        "p" => format!("{layer}.p"),
        other => format!("{layer}.bn.{other}"),
    }
}

fn name_in_vgg(ours: &str) -> String {
    let (layer, what) = ours.split_once('.').expect("layer and parameter");
    match layer {
        "layer0" => format!("features.0.fwd.module.{what}"),
        "layer1" => inside("features.0.bn", what),
        "layer4" => format!("features.3.fwd.module.{what}"),
        "layer5" => inside("features.3.bn", what),
        "layer8" => format!("fc1.module.{what}"),
        "layer9" => format!("fc2.module.0.{what}"),
        other => panic!("unknown layer {other}"),
    }
}

fn name_in_residual(ours: &str) -> String {
    let (path, what) = ours.rsplit_once('.').expect("layer and parameter");
    let (layer, inner) = path.split_once('.').unwrap_or((path, ""));
    let block = if layer == "layer0" { "b1" } else { "b2" };
    match inner {
        "body0" => format!("{block}.conv1.fwd.module.{what}"),
        "body1" => inside(&format!("{block}.conv1.bn"), what),
        "body3" => format!("{block}.conv2.fwd.module.{what}"),
        "body4" => inside(&format!("{block}.conv2.bn"), what),
        "shortcut0" if block == "b1" => inside("b1.down", what),
        "shortcut0" => format!("{block}.down.fwd.module.{what}"),
        "shortcut1" => inside(&format!("{block}.down.bn"), what),
        _ => format!("fc.module.{what}"),
    }
}

/// Biases of convolutions stand before a normalisation: their gradients are zero.
fn tolerance(name: &str) -> Tolerance {
    if name.ends_with("fwd.module.bias") { ZERO } else { NETWORK }
}

fn check_network(golden: &Golden, comparison: &mut Comparison) {
    let n_steps = number(golden, "T") as usize;
    let input = match golden.shape("in.x").len() {
        5 => signal(golden, "in.x"),
        _ => {
            let shape = frames::image_shape(golden.shape("in.x"));
            steady(golden.get("in.x"), shape, n_steps)
        }
    };
    let (layers, name_of) = architecture(golden);
    let mut net = net(layers, input.shape, n_steps, neuron(golden));
    frames::set_parameters(&mut net, golden, name_of);
    let (workspaces, labels) = (Workspaces::default(), frames::labels(golden));
    let (outputs, trace) = net.forward(input.clone(), Seed(0), 0, &workspaces).unwrap();
    net.update_running(&trace.notes);
    close(golden, comparison, "out", &exchange(&outputs, n_steps, labels.len()), NETWORK);
    close(golden, comparison, "mean_out", &mean_over_time(&outputs, n_steps), NETWORK);
    let evaluated = Loss::CrossEntropy {}.evaluate(&outputs, n_steps, &labels);
    close(golden, comparison, "loss", &[evaluated.value as f32], NETWORK);
    let (gradients, _) = net.backward(trace, evaluated.gradient, false, &workspaces);
    for (p, g) in net.parameters.list.iter().zip(&gradients.list) {
        let name = format!("grad.{}", name_of(&p.name));
        close(golden, comparison, &name, g, tolerance(&name));
    }
    let settings = Settings::Sgd {
        learning_rate: number(golden, "lr"),
        momentum: number(golden, "momentum"),
        weight_decay: number(golden, "weight_decay"),
    };
    frames::optimizer(settings, &net.parameters).step(&mut net.parameters, &gradients, 1.0);
    net.forget_forms();
    for p in &net.parameters.list {
        let name = format!("step.{}", name_of(&p.name));
        close(golden, comparison, &name, &p.values, NETWORK);
    }
    for r in &net.running {
        let name = |what: &str| format!("buf.{}", name_of(&format!("{}.{what}", r.name)));
        close(golden, comparison, &name("running_mean"), &r.mean, NETWORK);
        close(golden, comparison, &name("running_var"), &r.variance, NETWORK);
    }
    let (outputs, _) = net.evaluate(input, &workspaces).unwrap();
    let outputs = exchange(&outputs, n_steps, labels.len());
    close(golden, comparison, "eval_out_after_step", &outputs, NETWORK);
}
