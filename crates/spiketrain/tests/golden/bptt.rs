//! Neurons over several steps in every reset and slope, and small networks with one step of the
//! optimiser.

use super::frames::{self, LAYER, NETWORK, close, neuron, number, text};
use super::{Comparison, Golden, Kind};
use spiketrain::frames::activation::Activation;
use spiketrain::frames::loss::Loss;
use spiketrain::frames::net::{Net, steady};
use spiketrain::frames::network::{Common, ConvSpec, Description, Init, LayerSpec};
use spiketrain::frames::neuron::Lif;
use spiketrain::frames::norm::NormKind;
use spiketrain::frames::optimizer::Settings;
use spiketrain::frames::parameters::Parameters;
use spiketrain::frames::shards::Workspaces;
use spiketrain::frames::signal::Signal;
use spiketrain::{Seed, Shape};
use std::sync::Arc;

pub(crate) const KINDS: [Kind; 2] = [
    Kind { folder: "bptt", recognises: |g| is(g, "lif_multistep"), check: check_neuron },
    Kind { folder: "bptt", recognises: |g| is(g, "net_step"), check: check_network },
];

fn is(golden: &Golden, case: &str) -> bool {
    golden.metadata.get("case").is_some_and(|c| c == case)
}

fn check_neuron(golden: &Golden, comparison: &mut Comparison) {
    let mut parameters = Parameters::default();
    let lif = Lif::new(&neuron(golden), "neuron", &mut parameters);
    let &[n_steps, n_samples, n] = golden.shape("in.x") else { panic!("x has three axes") };
    let (x, threshold) = (golden.get::<f32>("in.x"), lif.threshold(&parameters));
    let mut v = vec![0.0; n_samples * n];
    let mut membranes = Vec::new();
    for x in x.chunks_exact(v.len()) {
        let mut u = x.to_vec();
        lif.charge(&v, &mut u);
        lif.reset(&u, threshold, &mut v);
        membranes.extend(u);
    }
    close(golden, comparison, "u", &membranes, LAYER);
    let layer = Activation { norm: None, neuron: Some(lif) };
    let input = Arc::new(frames::signal(x, Shape::flat(n), n_steps));
    let spikes = frames::planes(layer.forward(&parameters, &input, None));
    comparison.exact::<f32, u8>("spikes", &spikes, golden.get("spikes"));
    let record = Activation::record(input, None);
    let d = golden.get::<f32>("in.grad_out").to_vec();
    let d = layer.backward(&parameters, &record, d, &mut parameters.zeros());
    close(golden, comparison, "grad_x", &d, LAYER);
}

fn conv(channels: usize, stride: usize) -> LayerSpec {
    LayerSpec::Conv(ConvSpec { channels, kernel: 3, stride, padding: Some(1), bias: false })
}

/// Name in the file of one of our parameters or running statistics.
fn name_of(ours: &str) -> String {
    let (layer, what) = ours.split_once('.').expect("layer and parameter");
    let layer = match layer {
        "layer0" => "conv1",
        "layer1" => "bn1",
        "layer3" => "conv2",
        "layer4" => "bn2",
        "layer6" => "fc",
        other => panic!("unknown layer {other}"),
    };
    let what = match what {
        "gamma" => "weight",
        "beta" => "bias",
        other => other,
    };
    format!("{layer}.{what}")
}

fn network(golden: &Golden, input: Shape, n_steps: usize) -> Net {
    let [of_conv1, of_conv2, of_fc] =
        ["conv1", "conv2", "fc"].map(|l| golden.shape(&format!("in.param.{l}.weight"))[0]);
    let (norm, neurons) = (LayerSpec::Norm, LayerSpec::Neuron);
    let fc = LayerSpec::Linear { features: of_fc, bias: true };
    let layers = vec![
        conv(of_conv1, 1),
        norm.clone(),
        neurons.clone(),
        conv(of_conv2, 2),
        norm,
        neurons,
        fc,
    ];
    let init = Init::Uniform {};
    let description = Description { layers, conv_init: init, linear_init: init };
    let (neuron, norm, seed) = (neuron(golden), NormKind::BatchNorm {}, Seed(0));
    let mut net = Net::new(&description, input, &Common { n_steps, neuron, norm, seed }).unwrap();
    frames::set_parameters(&mut net, golden, name_of);
    net
}

fn settings(golden: &Golden) -> Settings {
    let optimizer: serde_json::Value =
        serde_json::from_str(text(golden, "optimiser")).expect("the optimiser is JSON");
    let number = |key: &str| optimizer[key].as_f64().unwrap_or_else(|| panic!("no {key}"));
    let (learning_rate, weight_decay) = (number("lr"), number("wd"));
    match optimizer["kind"].as_str() {
        Some("SGD") => Settings::Sgd { learning_rate, momentum: number("momentum"), weight_decay },
        Some("Adam") => Settings::Adam { learning_rate, weight_decay },
        Some("AdamW") => Settings::AdamW { learning_rate, weight_decay },
        other => panic!("unknown optimiser {other:?}"),
    }
}

fn input(golden: &Golden, n_steps: usize) -> Signal {
    let shape = frames::image_shape(golden.shape("in.x"));
    match text(golden, "input") {
        "image repeated" => steady(golden.get("in.x"), shape, n_steps),
        "frames [T,B,C,H,W]" => {
            let frames: Vec<f32> =
                golden.get::<u8>("in.x").iter().copied().map(f32::from).collect();
            frames::signal(&frames, shape, n_steps)
        }
        other => panic!("unknown input {other}"),
    }
}

fn check_network(golden: &Golden, comparison: &mut Comparison) {
    let n_steps = number(golden, "T") as usize;
    let input = input(golden, n_steps);
    let mut net = network(golden, input.shape, n_steps);
    let (workspaces, labels) = (Workspaces::default(), frames::labels(golden));
    let loss = match text(golden, "loss") {
        "CE(mean_t logits)" => Loss::CrossEntropy {},
        "mean_t CE(logits_t)" => Loss::Tet { weight: 0.0, target: 0.0 },
        other => panic!("unknown loss {other}"),
    };
    for (i, n_layers) in [2, 4].into_iter().enumerate() {
        let name = format!("spikes{i}");
        let spikes = frames::spikes_after(&net, n_layers, input.clone());
        comparison.exact::<u8, u8>(&name, &spikes, golden.get(&name));
    }
    let (outputs, trace) = net.forward(input.clone(), Seed(0), 0, &workspaces).unwrap();
    net.update_running(&trace.notes);
    close(golden, comparison, "logits", &outputs, NETWORK);
    let evaluated = loss.evaluate(&outputs, n_steps, &labels);
    close(golden, comparison, "loss", &[evaluated.value as f32], NETWORK);
    let (gradients, _) = net.backward(trace, evaluated.gradient, false, &workspaces);
    for (p, g) in net.parameters.list.iter().zip(&gradients.list) {
        close(golden, comparison, &format!("grad.{}", name_of(&p.name)), g, NETWORK);
    }
    let mut optimizer = frames::optimizer(settings(golden), &net.parameters);
    optimizer.step(&mut net.parameters, &gradients, 1.0);
    net.forget_forms();
    for p in &net.parameters.list {
        close(golden, comparison, &format!("step1.{}", name_of(&p.name)), &p.values, NETWORK);
    }
    let (outputs, trace) = net.forward(input, Seed(0), 0, &workspaces).unwrap();
    net.update_running(&trace.notes);
    let value = loss.evaluate(&outputs, n_steps, &labels).value as f32;
    close(golden, comparison, "loss2", &[value], NETWORK);
    for r in &net.running {
        let name = |what| format!("buf2.{}", name_of(&format!("{}.{what}", r.name)));
        close(golden, comparison, &name("running_mean"), &r.mean, NETWORK);
        close(golden, comparison, &name("running_var"), &r.variance, NETWORK);
    }
}
