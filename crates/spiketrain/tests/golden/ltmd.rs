//! Neurons with a learned threshold, graded neurons, moderate dropout, the loss of two views, batch
//! normalisation over time, and a small dense network with one step of the optimiser.

use super::frames::{self, LAYER, NETWORK, close, number};
use super::{Comparison, Golden, Kind};
use spiketrain::frames::activation::Activation;
use spiketrain::frames::layer::{Notes, Phase};
use spiketrain::frames::net::steady;
use spiketrain::frames::network::{Dense, Network};
use spiketrain::frames::neuron::{self, Lif};
use spiketrain::frames::norm::{Norm, NormKind};
use spiketrain::frames::optimizer::Settings;
use spiketrain::frames::parameters::Parameters;
use spiketrain::frames::shards::Workspaces;
use spiketrain::frames::signal::Signal;
use spiketrain::frames::slope::Slope;
use spiketrain::learner::Task;
use spiketrain::methods::ltmd;
use spiketrain::methods::ltmd::graded::{Graded, lateral, lateral_gradient};
use spiketrain::methods::ltmd::moderate_dropout::Keeping;
use spiketrain::methods::ltmd::two_views::TwoViews;
use spiketrain::{Notation, Seed, Shape};
use std::collections::HashMap;
use std::sync::Arc;

pub(crate) const KINDS: [Kind; 6] = [
    Kind { folder: "ltmd", recognises: |g| is(g, "lt_neuron"), check: check_neuron },
    Kind {
        folder: "ltmd",
        recognises: |g| is(g, "graded_output_neuron_with_lateral"),
        check: check_graded,
    },
    Kind { folder: "ltmd", recognises: |g| is(g, "moderate_dropout"), check: check_dropout },
    Kind { folder: "ltmd", recognises: |g| is(g, "two_view_loss"), check: check_loss },
    Kind { folder: "ltmd", recognises: |g| is(g, "batchnorm_over_time"), check: check_norm },
    Kind { folder: "ltmd", recognises: |g| is(g, "dense_snn_step"), check: check_network },
];

fn is(golden: &Golden, case: &str) -> bool {
    golden.metadata.get("case").is_some_and(|c| c == case)
}

/// The tensor `[…, time]` as `[time, …]`, and the number of steps.
fn time_first(golden: &Golden, name: &str) -> (Vec<f32>, usize) {
    let n_steps = *golden.shape(name).last().expect("an axis of time");
    let values = golden.get::<f32>(name);
    (frames::exchange(values, values.len() / n_steps, n_steps), n_steps)
}

/// Compares `[time, …]` with a reference `[…, time]`.
fn close_over_time(
    golden: &Golden,
    comparison: &mut Comparison,
    name: &str,
    ours: &[f32],
    n_steps: usize,
) {
    let ours = frames::exchange(ours, n_steps, ours.len() / n_steps);
    close(golden, comparison, name, &ours, LAYER);
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

fn raw_threshold(golden: &Golden) -> f32 {
    golden.get::<f64>("in.w")[0] as f32
}

fn check_neuron(golden: &Golden, comparison: &mut Comparison) {
    let params = neuron::Params {
        decay: number(golden, "tau") as f32,
        threshold: 0.5,
        learns_threshold: true,
        slope: Slope::Rectangle { width: number(golden, "a") as f32 },
        ..neuron::Params::default()
    };
    let mut parameters = Parameters::default();
    let lif = Lif::new(&params, "neuron", &mut parameters);
    parameters.list[0].values[0] = raw_threshold(golden);
    let (x, n_steps) = time_first(golden, "in.x");
    let (n, threshold) = (x.len() / n_steps, lif.threshold(&parameters));
    let mut v = vec![0.0; n];
    let mut membranes = Vec::new();
    for x in x.chunks_exact(n) {
        let mut u = x.to_vec();
        lif.charge(&v, &mut u);
        lif.reset(&u, threshold, &mut v);
        membranes.extend(u);
    }
    close_over_time(golden, comparison, "u", &membranes, n_steps);
    let layer = Activation { norm: None, neuron: Some(lif) };
    let input = Arc::new(frames::signal(&x, Shape::flat(n), n_steps));
    let spikes = frames::planes(layer.forward(&parameters, &input, None));
    let spikes = frames::exchange(&spikes, n_steps, n);
    comparison.exact::<f32, u8>("spikes", &spikes, golden.get("spikes"));
    let mut gradients = parameters.zeros();
    let (d, _) = time_first(golden, "in.grad_out");
    let d = layer.backward(&parameters, &Activation::record(input, None), d, &mut gradients);
    close_over_time(golden, comparison, "grad_x", &d, n_steps);
    close(golden, comparison, "grad_w", &gradients.list[0], LAYER);
}

fn check_graded(golden: &Golden, comparison: &mut Comparison) {
    let (decay, window) = (number(golden, "tau") as f32, number(golden, "a") as f32);
    let (neuron, threshold) = (Graded { decay, window }, raw_threshold(golden).tanh());
    let (current, n_steps) = time_first(golden, "in.x");
    let (kernel, n_units) = (golden.get::<f32>("in.kernel"), golden.shape("in.x")[1]);
    let sums = lateral(kernel, &current, n_units);
    close_over_time(golden, comparison, "lateral", &sums, n_steps);
    let mut u: Vec<f32> = current.iter().zip(&sums).map(|(i, l)| i + l).collect();
    let outputs = neuron.forward(threshold, &mut u, n_steps);
    close_over_time(golden, comparison, "u", &u, n_steps);
    close_over_time(golden, comparison, "out", &outputs, n_steps);
    let (mut d, _) = time_first(golden, "in.grad_out");
    neuron.backward(threshold, &u, &outputs, &mut d, n_steps);
    let d_kernel = lateral_gradient(kernel, &current, &mut d, n_units);
    close_over_time(golden, comparison, "grad_x", &d, n_steps);
    close(golden, comparison, "grad_kernel", &narrow(&d_kernel), LAYER);
    // Nothing computes a gradient of the threshold.
    close(golden, comparison, "grad_w", &[0.0], LAYER);
}

fn mask(golden: &Golden) -> Vec<bool> {
    golden.get::<u8>("in.keep_mask").iter().map(|&k| k == 1).collect()
}

fn check_dropout(golden: &Golden, comparison: &mut Comparison) {
    let (outputs, n_steps) = time_first(golden, "in.x");
    let keeping = Keeping::new(&outputs, n_steps, number(golden, "rate"));
    close(golden, comparison, "p", &narrow(&keeping.p), LAYER);
    let kept = mask(golden);
    let mut dropped = outputs.clone();
    keeping.apply(&kept, &mut dropped);
    close_over_time(golden, comparison, "out", &dropped, n_steps);
    for (name, through_p) in [("grad_x", true), ("grad_x_p_detached", false)] {
        let (mut d, _) = time_first(golden, "in.grad_out");
        keeping.backward(&kept, &outputs, &mut d, through_p);
        close_over_time(golden, comparison, name, &d, n_steps);
    }
}

fn check_loss(golden: &Golden, comparison: &mut Comparison) {
    let z = ["in.out1", "in.out2"].map(|name| golden.get::<f32>(name));
    let loss = TwoViews::new(z, &frames::labels(golden));
    let [ce1, ce2] = loss.cross_entropies;
    let numbers = [("ce1", ce1), ("ce2", ce2), ("kl", loss.divergence), ("loss", loss.value())];
    for (name, value) in numbers {
        close(golden, comparison, name, &[value as f32], LAYER);
    }
    for (name, gradient) in ["grad_out1", "grad_out2"].into_iter().zip(&loss.gradients) {
        close(golden, comparison, name, gradient, LAYER);
    }
}

fn check_norm(golden: &Golden, comparison: &mut Comparison) {
    let &[_, channels, height, width, n_steps] = golden.shape("in.x0") else {
        panic!("x has five axes")
    };
    let shape = Shape::new(channels, height, width);
    let (mut parameters, mut running) = (Parameters::default(), Vec::new());
    let kind = NormKind::BatchNorm {};
    let extents = [n_steps, channels];
    let norm = Norm::new(kind, "norm", extents, 1.0, &mut parameters, &mut running);
    for (parameter, name) in parameters.list.iter_mut().zip(["in.weight", "in.bias"]) {
        parameter.values.copy_from_slice(golden.get(name));
    }
    let running = &mut running[0];
    let layer = Activation { norm: Some(norm), neuron: None };
    let input = |name: &str| -> Arc<Signal> {
        Arc::new(frames::signal(&time_first(golden, name).0, shape, n_steps))
    };
    for call in 0..2 {
        let input = input(&format!("in.x{call}"));
        let (affine, moments) = layer.of_batch(&parameters, &input).expect("a norm");
        running.update(&moments);
        let name = |what: &str| format!("{what}{}", call + 1);
        close(golden, comparison, &name("mean"), &running.mean, LAYER);
        close(golden, comparison, &name("var"), &running.variance, LAYER);
        if call > 0 {
            continue;
        }
        let y = frames::planes(layer.forward(&parameters, &input, Some(&affine)));
        close_over_time(golden, comparison, "y", &y, n_steps);
        let mut gradients = parameters.zeros();
        let d = frames::gradient(&time_first(golden, "in.grad_out").0, shape);
        let record = Activation::record(input, Some(affine));
        let d = layer.backward(&parameters, &record, d, &mut gradients);
        let d = frames::outside(&d, shape);
        close_over_time(golden, comparison, "grad_x", &d, n_steps);
        close(golden, comparison, "grad_weight", &gradients.list[0], LAYER);
        close(golden, comparison, "grad_bias", &gradients.list[1], LAYER);
    }
    let affine = norm.of_running(&parameters, running, n_steps);
    let y = frames::planes(layer.forward(&parameters, &input("in.x_eval"), Some(&affine)));
    close_over_time(golden, comparison, "y_eval", &y, n_steps);
}

/// Names in the file of our parameters and running statistics.
fn names(blocks: &[usize]) -> HashMap<String, String> {
    let mut names = HashMap::new();
    let of_norm = |ours: &str, theirs: &str| -> Vec<(String, String)> {
        let pairs = [
            ("gamma", "weight"),
            ("beta", "bias"),
            ("mean", "running_mean"),
            ("variance", "running_var"),
        ];
        pairs.map(|(a, b)| (format!("{ours}.{a}"), format!("features.{theirs}.bn.{b}"))).into()
    };
    let of_conv = |ours: &str, theirs: &str| {
        vec![(format!("{ours}.weight"), format!("features.{theirs}.layer.weight"))]
    };
    let of_neuron =
        |ours: &str, theirs: &str| vec![(format!("{ours}.threshold"), format!("{theirs}.w"))];
    names.extend(of_conv("layer0", "conv0"));
    names.extend(of_norm("layer1", "norm0"));
    names.extend(of_neuron("layer2", "spike"));
    names.extend(of_conv("layer3", "pool0"));
    let mut at = 4;
    for (b, n_layers) in blocks.iter().enumerate() {
        for j in 1..=*n_layers {
            let theirs = format!("denseblock{}.denselayer{j}", b + 1);
            let body = |i: usize| format!("layer{at}.body{i}");
            names.extend(of_norm(&body(0), &format!("{theirs}.norm1")));
            names.extend(of_neuron(&body(1), &format!("features.{theirs}.spikeA")));
            names.extend(of_conv(&body(2), &format!("{theirs}.conv1")));
            names.extend(of_norm(&body(3), &format!("{theirs}.norm2")));
            names.extend(of_neuron(&body(4), &format!("features.{theirs}.spikeB")));
            names.extend(of_conv(&body(5), &format!("{theirs}.conv2")));
            at += 1;
        }
        let layer = |i: usize| format!("layer{}", at + i);
        // In a transition of the authors' program the neurons come first.
        if b + 1 == blocks.len() {
            names.extend(of_norm(&layer(0), "norm5"));
            names.extend(of_neuron(&layer(1), "spike1"));
        } else {
            let theirs = format!("transition{}", b + 1);
            names.extend(of_neuron(&layer(0), &format!("features.{theirs}.spike")));
            names.extend(of_norm(&layer(1), &format!("{theirs}.norm")));
            names.extend(of_conv(&layer(2), &format!("{theirs}.conv")));
        }
        at += 4;
    }
    for i in 0..2 {
        let (ours, k) = (format!("classifier{i}"), i + 1);
        for what in ["weight", "bias"] {
            names.insert(format!("{ours}.{what}"), format!("classifier{k}.layer.{what}"));
        }
        names.insert(format!("{ours}.lateral"), format!("lateralfc{k}.layer.weight"));
        names.extend(of_neuron(&ours, &format!("outspike{k}")));
    }
    names
}

fn params(golden: &Golden) -> ltmd::Params {
    let count = |key: &str| number(golden, key) as usize;
    let blocks = serde_json::from_str(frames::text(golden, "blocks")).expect("a list of numbers");
    ltmd::Params {
        n_steps: count("T"),
        network: Network::Densenet(Dense {
            initial: count("init_features"),
            growth: count("growth"),
            blocks,
            bottleneck: count("bn_size"),
        }),
        hidden: count("hidden"),
        dropout: number(golden, "drop_rate"),
        optimizer: Settings::Sgd {
            learning_rate: number(golden, "lr"),
            momentum: number(golden, "momentum"),
            weight_decay: number(golden, "weight_decay"),
        },
        ..ltmd::Params::default()
    }
}

fn check_network(golden: &Golden, comparison: &mut Comparison) {
    let params = params(golden);
    let Network::Densenet(Dense { blocks, .. }) = &params.network else { unreachable!() };
    let (names, n_steps) = (names(blocks), params.n_steps);
    let name_of = |ours: &str| names[ours].clone();
    let task = Task {
        shape: frames::image_shape(golden.shape("in.x")),
        notation: Notation::Images,
        n_classes: number(golden, "classes") as usize,
        n_train: 0,
        seed: Seed(0),
    };
    let (mut net, classifier) = ltmd::network(&params, &task).unwrap();
    frames::set_parameters(&mut net, golden, name_of);
    classifier.forget_forms();
    let (workspaces, seed) = (Workspaces::default(), Seed(0));
    let input = steady(golden.get("in.x"), task.shape, n_steps);
    let (features, trace) = net.forward(input.clone(), seed, 0, &workspaces).unwrap();
    net.update_running(&trace.notes);
    let context = net.context(Phase::Training { seed, first: 0 }, n_steps, &workspaces);
    let head = classifier.forward(features, |_| mask(golden), &context);
    close(golden, comparison, "p", &narrow(&head.keeping.p), NETWORK);
    let (z1, z2) = head.z.split_at(head.z.len() / 2);
    close(golden, comparison, "out1", z1, NETWORK);
    close(golden, comparison, "out2", z2, NETWORK);
    let loss = TwoViews::new([z1, z2], &frames::labels(golden));
    close(golden, comparison, "loss", &[loss.value() as f32], NETWORK);
    let mut of_head = net.parameters.zeros();
    let d = classifier.backward(&head, &loss.gradients.concat(), &context, &mut of_head);
    let (mut gradients, _) = net.backward(trace, d, false, &workspaces);
    gradients.add_scaled(&of_head, 1.0);
    for (p, g) in net.parameters.list.iter().zip(&gradients.list) {
        close(golden, comparison, &format!("grad.{}", name_of(&p.name)), g, NETWORK);
    }
    ltmd::optimizer(&params, &net.parameters).step(&mut net.parameters, &gradients, 1.0);
    net.forget_forms();
    classifier.forget_forms();
    for p in &net.parameters.list {
        close(golden, comparison, &format!("step.{}", name_of(&p.name)), &p.values, NETWORK);
    }
    for r in &net.running {
        let name = |what: &str| format!("buf.{}", name_of(&format!("{}.{what}", r.name)));
        close(golden, comparison, &name("mean"), &r.mean, NETWORK);
        close(golden, comparison, &name("variance"), &r.variance, NETWORK);
    }
    let (features, _) = net.evaluate(input, &workspaces).unwrap();
    let context = net.context(Phase::Evaluation, n_steps, &workspaces);
    let z = classifier.evaluate(features, &context, &mut Notes::default());
    close(golden, comparison, "eval_out_after_step", &z, NETWORK);
}
