//! Neurons, losses, standardised weights, pools and sums, thresholds, and whole networks trained
//! through spike times.

use super::frames::{self, LAYER, NETWORK, Tolerance, image_shape, labels, number, text};
use super::{Comparison, Golden, Kind};
use spiketrain::frames::kernel::{Conv2d, Forms, Pool, Spikes};
use spiketrain::frames::layer::pool;
use spiketrain::frames::net::{channels_first, channels_last, steady};
use spiketrain::frames::optimizer::Settings;
use spiketrain::frames::parameters::ParameterId;
use spiketrain::frames::shards::Workspaces;
use spiketrain::frames::signal::{Data, Signal};
use spiketrain::methods::time_losses::Params;
use spiketrain::methods::time_losses::initial::{find_factor, late_spikes};
use spiketrain::methods::time_losses::layers::{share_of_mean, shares};
use spiketrain::methods::time_losses::losses::{Loss, Readout, Targets, force_labels};
use spiketrain::methods::time_losses::network::{LayerSpec, Net};
use spiketrain::methods::time_losses::neuron::{self, Neuron, TimeKernel};
use spiketrain::methods::time_losses::standardise;
use spiketrain::{Seed, Shape};
use std::sync::Arc;

pub(crate) const KINDS: [Kind; 7] = [
    Kind { folder: "time-losses", recognises: |g| is(g, "neuron"), check: check_neuron },
    Kind { folder: "time-losses", recognises: |g| is(g, "losses"), check: check_losses },
    Kind {
        folder: "time-losses",
        recognises: |g| is(g, "weight_standardisation"),
        check: check_standardisation,
    },
    Kind {
        folder: "time-losses",
        recognises: |g| is(g, "pool_and_residual_add"),
        check: check_pool_and_sum,
    },
    Kind { folder: "time-losses", recognises: |g| is(g, "init_search"), check: check_search },
    Kind {
        folder: "time-losses",
        recognises: |g| is(g, "output_layer_forced_spike"),
        check: check_forced,
    },
    Kind { folder: "time-losses", recognises: |g| is(g, "small_net"), check: check_network },
];

fn is(golden: &Golden, case: &str) -> bool {
    golden.metadata.get("case").is_some_and(|c| c == case)
}

/// Compares with the references in double and in single precision.
fn close(
    golden: &Golden,
    comparison: &mut Comparison,
    name: &str,
    ours: &[f32],
    tolerance: Tolerance,
) {
    frames::close(golden, comparison, name, ours, tolerance);
    let single = format!("f32.{name}");
    if golden.has(&single) {
        let reference = golden.get::<f32>(&single);
        let max = reference.iter().map(|x| f64::from(x.abs())).fold(0.0, f64::max);
        comparison.close(&single, ours, reference, tolerance[0] * max + tolerance[1]);
    }
}

fn neuron(golden: &Golden) -> neuron::Params {
    let setting = |key: &str| golden.metadata.get(key).map(String::as_str);
    neuron::Params {
        membrane: number(golden, "tau_m"),
        synapse: number(golden, "tau_s"),
        gradient: number(golden, "tau_grad"),
        leaky: match setting("forward_type") {
            None | Some("leaky") => true,
            Some("nonleaky") => false,
            other => panic!("unknown forward type {other:?}"),
        },
        kernel: match setting("gradient_type") {
            None | Some("exponential") => TimeKernel::Exponential,
            Some("original") => TimeKernel::Original,
            other => panic!("unknown gradient type {other:?}"),
        },
        time_clip: setting("max_dudt_inv")
            .map_or(neuron::Params::default().time_clip, |clip| clip.parse().expect("a number")),
    }
}

/// `[time, sample, …]` with one or three axes an image.
fn shape_of(extents: &[usize]) -> Shape {
    match *extents {
        [n] => Shape::flat(n),
        [_, _, _] => image_shape(extents),
        ref other => panic!("images of shape {other:?}"),
    }
}

fn spikes_of(signal: &Signal) -> &Spikes {
    match &signal.data {
        Data::Spikes(spikes) => spikes,
        other => panic!("{other:?} are no spikes"),
    }
}

fn to_f32(values: &[u8]) -> Vec<f32> {
    values.iter().map(|&v| f32::from(v)).collect()
}

/// Spikes `[time, sample, channel, row, column]` of the engine's layout.
fn spikes_signal(values: &[u8], shape: Shape, n_steps: usize) -> Signal {
    let dense = channels_last(&to_f32(values), shape);
    let n_samples = values.len() / n_steps / shape.len();
    Signal { shape, n_steps, n_samples, data: Data::Spikes(Spikes::from_dense(shape, &dense)) }
}

fn check_neuron(golden: &Golden, comparison: &mut Comparison) {
    let neuron = Neuron::new(&neuron(golden));
    let extents = golden.shape("in.I");
    let (n_steps, shape) = (extents[0], shape_of(&extents[2..]));
    let threshold = golden.get::<f32>("in.threshold");
    let current = frames::signal(golden.get("in.I"), shape, n_steps);
    let output = neuron.fire(threshold, &current);
    let planes = frames::planes(output.clone());
    comparison.exact::<f32, u8>("spikes", &planes, golden.get("spikes"));
    let [rise, time_rise] = neuron.rises(threshold, &current);
    close(golden, comparison, "delta_u", &channels_first(&rise, shape), LAYER);
    close(golden, comparison, "delta_u_t", &channels_first(&time_rise, shape), LAYER);
    let mut e = channels_last(golden.get("in.grad_spike_time"), shape);
    let mut to_weights = vec![9.0; e.len()];
    let spikes = spikes_of(&output);
    neuron.backward(threshold, &current, spikes, &mut e, &mut to_weights, true);
    close(golden, comparison, "grad_in", &channels_first(&e, shape), LAYER);
    close(golden, comparison, "grad_w", &channels_first(&to_weights, shape), LAYER);
    // The files' last entry only fills the array.
    let n = golden.shape("f64.syn_a")[0];
    let mut responses = [neuron.response(n), neuron.time_response(n)];
    for (name, response) in ["syn_a", "delta_syn_a"].into_iter().zip(&mut responses) {
        let reference = golden.get::<f64>(&format!("f64.{name}"));
        if reference[n - 1] == 0.0 {
            response[n - 1] = 0.0;
        }
        close(golden, comparison, name, response, LAYER);
    }
}

fn targets<'a>(golden: &Golden, labels: &'a [u16]) -> Targets<'a> {
    Targets {
        labels,
        n_steps: number(golden, "T") as usize,
        desired: number(golden, "desired_count"),
        undesired: number(golden, "undesired_count"),
        synapse: number(golden, "tau_s"),
    }
}

fn check_losses(golden: &Golden, comparison: &mut Comparison) {
    let (spikes, labels) = (to_f32(golden.get("in.spikes")), labels(golden));
    let targets = targets(golden, &labels);
    for (name, loss) in [
        ("count", Loss::Count),
        ("count_plus", Loss::CountPlus),
        ("count0", Loss::CountZero),
        ("kernel", Loss::Kernel),
        ("TET", Loss::Tet),
        ("CE_plus", Loss::CePlus),
        ("timing", Loss::Timing),
        ("TTFS", Loss::Ttfs),
        ("TTFS0", Loss::TtfsZero),
    ] {
        let evaluated = loss.evaluate(&spikes, targets);
        let gradient: Vec<f32> = evaluated.gradient.iter().map(|&g| g as f32).collect();
        close(golden, comparison, &format!("loss.{name}"), &[evaluated.value as f32], LAYER);
        close(golden, comparison, &format!("grad.{name}"), &gradient, LAYER);
    }
    for (name, readout) in [("default", Readout::Count), ("TTFS", Readout::FirstSpike)] {
        let scores = readout.scores(&spikes, targets.n_steps);
        close(golden, comparison, &format!("readout.{name}"), &scores, LAYER);
    }
}

fn check_standardisation(golden: &Golden, comparison: &mut Comparison) {
    let get = |name: &str| golden.get::<f32>(&format!("in.{name}")).to_vec();
    let (weight, mut scale, mut shift) = (get("weight"), get("norm_weight"), get("norm_bias"));
    let standard = standardise::standardise(&weight, &scale, &shift);
    close(golden, comparison, "standardised", &standard, LAYER);
    let mut d = get("grad_out");
    let [d_scale, d_shift] = standardise::gradients(&weight, &scale, &mut d);
    close(golden, comparison, "grad_weight", &d, LAYER);
    close(golden, comparison, "grad_norm_weight", &d_scale, LAYER);
    close(golden, comparison, "grad_norm_bias", &d_shift, LAYER);
    let mut threshold = get("threshold");
    assert_eq!(standardise::transfer(&mut threshold, &mut scale, &mut shift), None);
    close(golden, comparison, "transfer.threshold", &threshold, LAYER);
    close(golden, comparison, "transfer.norm_bias", &shift, LAYER);
}

fn check_pool_and_sum(golden: &Golden, comparison: &mut Comparison) {
    let workspaces = Workspaces::default();
    let extents = golden.shape("in.x");
    let shape = image_shape(&extents[extents.len() - 3..]);
    let input = spikes_signal(golden.get("in.x"), shape, extents[0]);
    let kernel = Pool::square(shape, number(golden, "kernel") as usize);
    let pooled = pool::average(&kernel, &input, &workspaces);
    let outside = channels_first(pooled.values(), kernel.output());
    close(golden, comparison, "pooled", &outside, LAYER);
    let mut e = channels_last(golden.get("in.grad_out"), kernel.output());
    share_of_mean(&kernel, pooled.values(), &mut e);
    let d = pool::average_gradient(&kernel, &e, &workspaces);
    close(golden, comparison, "grad_x", &channels_first(&d, shape), LAYER);

    let extents = golden.shape("in.a");
    let shape = image_shape(&extents[extents.len() - 3..]);
    let [a, b] =
        ["in.a", "in.b"].map(|n| Arc::new(spikes_signal(golden.get(n), shape, extents[0])));
    let sum = spiketrain::frames::layer::Add::sum(a.clone(), b.clone());
    close(golden, comparison, "sum", &channels_first(sum.values(), shape), LAYER);
    let e = channels_last(golden.get("in.grad_sum"), shape);
    let [to_a, to_b] = shares(a, b, &e);
    close(golden, comparison, "grad_a", &channels_first(&to_a, shape), LAYER);
    close(golden, comparison, "grad_b", &channels_first(&to_b, shape), LAYER);
}

/// A linear layer with neurons, its weights from the file.
fn linear(golden: &Golden, threshold: f32) -> Net {
    let extents = golden.shape("in.weight");
    let specs = [LayerSpec::Linear { features: extents[0] }];
    let n_steps = number(golden, "T") as usize;
    let neuron = neuron(golden);
    let mut net = Net::new(&specs, Shape::flat(extents[1]), n_steps, &neuron, true, Seed(0))
        .unwrap_or_else(|e| panic!("{e}"));
    net.parameters.list[0].values.copy_from_slice(golden.get("in.weight"));
    net.set_thresholds(|_, v| v.fill(threshold));
    net.prepare().unwrap_or_else(|e| panic!("{e}"));
    net
}

fn check_search(golden: &Golden, comparison: &mut Comparison) {
    let before = number(golden, "threshold0") as f32;
    let net = linear(golden, before);
    let workspaces = Workspaces::default();
    let input = spikes_signal(golden.get("in.x"), net.input, net.n_steps);
    let context = net.context(spiketrain::frames::layer::Phase::Evaluation, &workspaces);
    let layer = net.spiking()[0];
    let current = layer.current(&input, &context);
    let wanted = number(golden, "avg_spike_init");
    let factor = find_factor(&net.neuron, &layer.threshold, &current, wanted);
    let threshold: Vec<f32> =
        layer.threshold.iter().map(|&v| (f64::from(v) / factor) as f32).collect();
    close(golden, comparison, "threshold", &threshold, LAYER);
    let output = net.neuron.fire(&threshold, &current);
    let late = late_spikes(&output, 2 * net.n_steps / 3);
    close(golden, comparison, "mean_late_spikes", &[late as f32], LAYER);
    comparison.exact::<f32, u8>("spikes", &frames::planes(output), golden.get("f64.spikes"));
}

fn check_forced(golden: &Golden, comparison: &mut Comparison) {
    let net = linear(golden, number(golden, "threshold") as f32);
    let workspaces = Workspaces::default();
    let input = spikes_signal(golden.get("in.x"), net.input, net.n_steps);
    let e = golden.get::<f32>("in.grad_spike_time").to_vec();
    let labels = labels(golden);
    // The first layer of a network is not asked for times of its inputs: the kernels are.
    let (output, mut trace) = net.forward(input.clone(), Seed(0), 0, &workspaces);
    let raw = Arc::unwrap_or_clone(output).into_values();
    comparison.exact::<f32, u8>("spikes_raw", &raw, golden.get("spikes_raw"));
    let threshold = net.spiking()[0].threshold.clone();
    let [rises, _] = net.neuron.rises(&threshold, trace.last_current());
    close(golden, comparison, "delta_u", &rises, LAYER);
    let mut forced = raw;
    force_labels(&mut forced, &rises, &labels, net.n_steps);
    comparison.exact::<f32, u8>("spikes_forced", &forced, golden.get("spikes_forced"));
    let spikes = Spikes::from_dense(net.output, &forced);
    let mut to_times = e.clone();
    let mut to_weights = vec![0.0; e.len()];
    let current = trace.last_current();
    net.neuron.backward(&threshold, current, &spikes, &mut to_times, &mut to_weights, true);
    let conv = Conv2d::linear(net.input, net.output.channels);
    let weights = standardise::standardise(
        net.parameters.get(ParameterId(0)),
        net.parameters.get(ParameterId(1)),
        net.parameters.get(ParameterId(2)),
    );
    let mut d = vec![0.0; input.gradient_len()];
    conv.input_gradient(Forms::default().of(&weights), &to_times, &mut d, &mut Default::default());
    let x = to_f32(golden.get("in.x"));
    d.iter_mut().zip(&x).for_each(|(d, x)| *d *= x);
    close(golden, comparison, "grad_x", &d, LAYER);
    let like = Signal { shape: net.output, data: Data::Spikes(spikes), ..input };
    trace.set_outputs(Arc::new(like));
    let (gradients, _) = net.backward(trace, e, &workspaces);
    for (i, name) in ["grad_weight", "grad_norm_weight", "grad_norm_bias"].into_iter().enumerate() {
        close(golden, comparison, name, gradients.get(ParameterId(i)), LAYER);
    }
}

fn check_network(golden: &Golden, comparison: &mut Comparison) {
    assert_eq!(
        text(golden, "arch"),
        "conv3x3(1->4,pad1) - adjusted avgpool2 - fc(100->12) - fc(12->6)"
    );
    let n_steps = number(golden, "T") as usize;
    let specs = [
        LayerSpec::Conv { channels: 4, kernel: 3, stride: 1, padding: 1 },
        LayerSpec::Pool { size: 2 },
        LayerSpec::Linear { features: 12 },
        LayerSpec::Linear { features: 6 },
    ];
    let rate = number(golden, "lr");
    let weight_decay = number(golden, "weight_decay");
    let params = Params {
        n_steps,
        neuron: neuron(golden),
        loss: match text(golden, "loss") {
            "count+" => Loss::CountPlus,
            "count" => Loss::Count,
            "TTFS" => Loss::Ttfs,
            other => panic!("unknown loss {other}"),
        },
        optimizer: match text(golden, "optimiser") {
            "AdamW" => Settings::AdamW { learning_rate: rate, weight_decay },
            "SGD" => Settings::Sgd { learning_rate: rate, momentum: 0.0, weight_decay },
            other => panic!("unknown optimiser {other}"),
        },
        norm_decay: number(golden, "weight_decay_norm"),
        ..Params::default()
    };
    let extents = golden.shape("in.x");
    let shape = image_shape(&extents[extents.len() - 3..]);
    let mut net = Net::new(&specs, shape, n_steps, &params.neuron, true, Seed(0))
        .unwrap_or_else(|e| panic!("{e}"));
    for layer in 0..3 {
        let weight = golden.get(&format!("in.weight{layer}"));
        net.parameters.list[3 * layer].values.copy_from_slice(weight);
    }
    net.set_thresholds(|layer, v| {
        v.fill(golden.get::<f64>(&format!("in.threshold{layer}"))[0] as f32)
    });
    net.prepare().unwrap_or_else(|e| panic!("{e}"));
    let input = match text(golden, "input") {
        "constant image every step" => steady(golden.get("in.x"), shape, n_steps),
        "spike frames [T,B,C,H,W]" => spikes_signal(golden.get("in.x"), shape, n_steps),
        other => panic!("unknown input {other}"),
    };
    let (workspaces, labels) = (Workspaces::default(), labels(golden));
    let (output, mut trace) = net.forward(input, Seed(0), 0, &workspaces);
    for (layer, spikes) in trace.spikes().into_iter().enumerate() {
        let planes = frames::planes(Signal::clone(spikes));
        let name = format!("spikes{layer}");
        comparison.exact::<f32, u8>(&name, &planes, golden.get(&name));
    }
    let mut spikes = Arc::unwrap_or_clone(output).into_values();
    comparison.exact::<f32, u8>("out_raw", &spikes, golden.get("out_raw"));
    let threshold = net.spiking()[2].threshold.clone();
    let [rises, _] = net.neuron.rises(&threshold, trace.last_current());
    force_labels(&mut spikes, &rises, &labels, n_steps);
    comparison.exact::<f32, u8>("out_forced", &spikes, golden.get("out_forced"));
    let n_samples = labels.len();
    let data = Data::Spikes(Spikes::from_dense(net.output, &spikes));
    trace.set_outputs(Arc::new(Signal { shape: net.output, n_steps, n_samples, data }));
    let loss = params.loss.evaluate(&spikes, targets(golden, &labels));
    close(golden, comparison, "loss", &[loss.value as f32], NETWORK);
    let e = loss.gradient.iter().map(|&g| g as f32).collect();
    let (mut gradients, _) = net.backward(trace, e, &workspaces);
    let norm = gradients.clip(params.gradient_clip);
    close(golden, comparison, "grad_norm", &[norm as f32], NETWORK);
    let names =
        |layer: usize| ["weight", "norm_weight", "norm_bias"].map(|name| format!("{name}{layer}"));
    let each = |comparison: &mut Comparison, what: &str, of: &dyn Fn(ParameterId) -> Vec<f32>| {
        for layer in 0..3 {
            for (i, name) in names(layer).into_iter().enumerate() {
                let ours = of(ParameterId(3 * layer + i));
                close(golden, comparison, &format!("{what}{name}"), &ours, NETWORK);
            }
        }
    };
    if norm <= params.gradient_clip {
        each(comparison, "grad_", &|id| gradients.get(id).to_vec());
    }
    let mut optimizer = params.optimizer(&net);
    optimizer.step(&mut net.parameters, &gradients, 1.0);
    each(comparison, "step.", &|id| net.parameters.get(id).to_vec());
    net.prepare().unwrap_or_else(|e| panic!("{e}"));
    for layer in 0..3 {
        let threshold = &net.spiking()[layer].threshold;
        close(golden, comparison, &format!("after.threshold{layer}"), threshold, NETWORK);
        let shift = net.parameters.get(ParameterId(3 * layer + 2));
        close(golden, comparison, &format!("after.norm_bias{layer}"), shift, NETWORK);
    }
}
