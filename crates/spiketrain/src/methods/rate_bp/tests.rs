//! Identities of the paper and of its description, and differences of a rate network.

use super::eligibility::Neurons;
use super::memory;
use super::{Mode, Params, RateBp, Settings, rate_pass, spike_pass};
use crate::frames::activation::{Activation, sum_steps};
use crate::frames::layer::Layer;
use crate::frames::loss::{Loss, mean_over_time};
use crate::frames::net::{Net, steady, values};
use crate::frames::network::{Common, ConvSpec, Description, Init, LayerSpec, Network, PoolSpec};
use crate::frames::neuron::{self, Lif, Reset};
use crate::frames::norm::NormKind;
use crate::frames::parameters::{Gradients, Parameters};
use crate::frames::shards::Workspaces;
use crate::frames::signal::{Data, Signal};
use crate::learner::Task;
use crate::seed::Seed;
use crate::spikes::{Notation, Shape};
use std::sync::Arc;

const SINGLE: Settings =
    Settings { mode: Mode::SingleStep, avg_mean: false, avg_recip: false, last_frame: false };
const MULTI: Settings = Settings { mode: Mode::MultiStep, ..SINGLE };

fn draw(n: usize, deviation: f64, purpose: &str) -> Vec<f32> {
    let mut stream = Seed(5).stream(purpose, n as u64);
    (0..n).map(|_| stream.normal(0.0, deviation) as f32).collect()
}

fn conv(channels: usize, stride: usize) -> LayerSpec {
    LayerSpec::Conv(ConvSpec { channels, kernel: 3, stride, padding: None, bias: false })
}

fn unit(channels: usize, stride: usize) -> [LayerSpec; 3] {
    [conv(channels, stride), LayerSpec::Norm, LayerSpec::Neuron]
}

fn linear(features: usize) -> LayerSpec {
    LayerSpec::Linear { features, bias: true }
}

fn net(layers: Vec<LayerSpec>, input: Shape, n_steps: usize) -> Net {
    let init = Init::Uniform {};
    let description = Description { layers, conv_init: init, linear_init: init };
    let (neuron, norm) = (Params::default().neuron, NormKind::BatchNorm {});
    Net::new(&description, input, &Common { n_steps, neuron, norm, seed: Seed(3) }).unwrap()
}

/// Two units and a linear layer.
fn plain(n_steps: usize) -> Net {
    let pool = PoolSpec { size: 2, stride: None, padding: 0 };
    let mut layers: Vec<LayerSpec> = unit(16, 1).into();
    layers.push(LayerSpec::AveragePool(pool));
    layers.extend(unit(16, 1));
    layers.push(linear(5));
    net(layers, Shape::new(3, 8, 8), n_steps)
}

/// A residual block with a convolution on its shortcut.
fn residual(n_steps: usize) -> Net {
    let mut layers: Vec<LayerSpec> = unit(8, 1).into();
    let mut body: Vec<LayerSpec> = unit(12, 2).into();
    body.extend([conv(12, 1), LayerSpec::Norm]);
    layers.push(LayerSpec::Add { body, shortcut: vec![conv(12, 2), LayerSpec::Norm] });
    layers.extend([LayerSpec::Neuron, LayerSpec::GlobalAverage, linear(5)]);
    net(layers, Shape::new(3, 8, 8), n_steps)
}

const LABELS: [u16; 6] = [0, 1, 2, 3, 4, 0];

fn images(net: &Net) -> Vec<f32> {
    draw(LABELS.len() * net.input.len(), 1.0, "images")
}

/// Gradients without a factor, and the mean outputs.
fn by_rates(net: &Net, input: Signal, settings: &Settings) -> (Gradients, Vec<f32>) {
    let workspaces = Workspaces::default();
    let pass = spike_pass::run(net, input, settings, Seed(0), 0, &workspaces).unwrap();
    let outputs = pass.outputs.clone();
    let loss = Loss::CrossEntropy {}.evaluate(&outputs, 1, &LABELS);
    let gradients = rate_pass::gradients(net, pass, settings, loss.gradient, &workspaces).unwrap();
    (gradients, outputs)
}

fn through_time(net: &Net, input: Signal) -> (Gradients, Vec<f32>) {
    let (workspaces, n_steps) = (Workspaces::default(), input.n_steps);
    let (outputs, trace) = net.forward(input, Seed(0), 0, &workspaces).unwrap();
    let loss = Loss::CrossEntropy {}.evaluate(&outputs, n_steps, &LABELS);
    let (gradients, _) = net.backward(trace, loss.gradient, false, &workspaces);
    (gradients, mean_over_time(&outputs, n_steps))
}

fn largest(v: &[f32]) -> f32 {
    v.iter().fold(0.0, |m, v| v.abs().max(m))
}

fn assert_near(what: &str, a: &[f32], b: &[f32], share: f32) {
    assert_eq!(a.len(), b.len(), "{what}");
    let most = share * largest(b) + 1e-7;
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= most, "{what}[{i}]: {a} against {b}");
    }
}

#[test]
fn one_step_is_backpropagation_through_time() {
    for net in [plain(1), residual(1)] {
        let input = || steady(&images(&net), net.input, 1);
        let (rates, z) = by_rates(&net, input(), &MULTI);
        let (time, z_time) = through_time(&net, input());
        assert_eq!(z, z_time);
        for (i, p) in net.parameters.list.iter().enumerate() {
            assert_near(&p.name, &rates.list[i], &time.list[i], 5e-5);
        }
    }
}

#[test]
fn the_last_layer_has_the_gradient_of_backpropagation_through_time() {
    for n_steps in [2, 5] {
        for net in [plain(n_steps), residual(n_steps)] {
            let input = || steady(&images(&net), net.input, n_steps);
            let (rates, z) = by_rates(&net, input(), &MULTI);
            let (time, z_time) = through_time(&net, input());
            assert_near("outputs", &z, &z_time, 1e-6);
            let last = net.parameters.list.len() - 2;
            for i in last..last + 2 {
                assert_near(&net.parameters.list[i].name, &rates.list[i], &time.list[i], 1e-5);
            }
        }
    }
}

/// The shift of all inputs of one layer by a constant; identity 3.
#[test]
fn eligibility_is_the_gradient_of_the_rate_for_a_shift_of_the_input() {
    let (shape, n_steps, n_samples) = (Shape::new(5, 2, 3), 7, 4);
    let n = n_samples * shape.len();
    let (x, d) = (draw(n_steps * n, 0.8, "x"), draw(n, 1.0, "d"));
    let resets = [Reset::Soft, Reset::SoftAfterLeak, Reset::Hard];
    for (reset, detach_reset) in resets.into_iter().flat_map(|r| [(r, true), (r, false)]) {
        let (decay, threshold, scales_input) = (0.6, 0.7, reset == Reset::Hard);
        let params = neuron::Params {
            decay,
            threshold,
            reset,
            detach_reset,
            scales_input,
            ..Params::default().neuron
        };
        let lif = Lif::new(&params, "neuron", &mut Parameters::default());
        let input = Signal { shape, n_steps, n_samples, data: Data::Values(x.clone()) };
        let mut neurons = Neurons::new(&lif, n, n_steps, false, &Workspaces::default());
        let spikes = neurons.advance(&lif, threshold, &input, None, None).into_values();
        assert_near("rate", &neurons.rate, &mean_over_time(&spikes, n_steps), 1e-6);
        let ours: Vec<f32> = neurons.eligibility.iter().zip(&d).map(|(e, d)| e * d).collect();
        let layer = Activation { norm: None, neuron: Some(lif) };
        let of_steps = d.repeat(n_steps).iter().map(|d| d / n_steps as f32).collect();
        let record = Activation::record(Arc::new(input), None);
        let none = Parameters::default();
        let through = layer.backward(&none, &record, of_steps, &mut none.zeros());
        let what = format!("{reset:?}, detached {detach_reset}");
        assert_near(&what, &ours, &sum_steps(&through, n_steps), 1e-5);
    }
}

/// f[t] = (1 − λ^t)/(1 − λ) for the default reset; without a memory e is the mean slope.
#[test]
fn eligibility_has_a_closed_form() {
    let (n_steps, n) = (9, 40);
    let x = draw(n_steps * n, 1.0, "x");
    for decay in [0.0, 0.2, 1.0] {
        let params = neuron::Params { decay, ..Params::default().neuron };
        let lif = Lif::new(&params, "neuron", &mut Parameters::default());
        let data = Data::Values(x.clone());
        let input = Signal { shape: Shape::flat(n), n_steps, n_samples: 1, data };
        let mut neurons = Neurons::new(&lif, n, n_steps, false, &Workspaces::default());
        neurons.advance(&lif, params.threshold, &input, None, None);
        for i in 0..n {
            let (mut v, mut expected) = (0.0f64, 0.0f64);
            for t in 0..n_steps {
                let u = f64::from(decay) * v + f64::from(x[t * n + i]);
                let f = match decay {
                    1.0 => (t + 1) as f64,
                    _ => (1.0 - f64::from(decay).powi(t as i32 + 1)) / (1.0 - f64::from(decay)),
                };
                expected += f * f64::from(lif.slope.at(u as f32, 1.0)) / n_steps as f64;
                v = if u >= 1.0 { u - 1.0 } else { u };
            }
            let got = f64::from(neurons.eligibility[i]);
            assert!((got - expected).abs() < 1e-5 * expected.max(1.0), "{got} against {expected}");
        }
    }
}

/// Outputs of the rate network are those of the spiking one, averaged: identity 4.
#[test]
fn the_rate_network_has_the_outputs_of_the_spiking_one() {
    let n_steps = 4;
    for net in [plain(n_steps), residual(n_steps)] {
        let frames = draw(n_steps * LABELS.len() * net.input.len(), 1.0, "frames");
        for input in
            [steady(&images(&net), net.input, n_steps), values(&frames, net.input, n_steps)]
        {
            let workspaces = Workspaces::default();
            let pass = spike_pass::run(&net, input, &MULTI, Seed(0), 0, &workspaces).unwrap();
            let spiking = pass.outputs.clone();
            let rates = rate_pass::outputs(&net, pass, &MULTI, &workspaces).unwrap();
            assert_near("outputs", &rates, &spiking, 1e-5);
        }
    }
}

#[test]
fn the_steps_of_single_step_mode_share_the_forms_of_weights() {
    let net = plain(4);
    for (settings, is_shared) in [(MULTI, false), (SINGLE, true)] {
        let (input, workspaces) = (steady(&images(&net), net.input, 4), Workspaces::default());
        let pass = spike_pass::run(&net, input, &settings, Seed(0), 0, &workspaces).unwrap();
        let bytes = net.layers.iter().map(|layer| match layer {
            Layer::Conv(conv) => conv.forms.n_bytes()[0],
            _ => 0,
        });
        assert_eq!(bytes.sum::<usize>() > 0, is_shared, "{settings:?}");
        let d = vec![1.0; pass.outputs.len()];
        rate_pass::gradients(&net, pass, &settings, d, &workspaces).unwrap();
        let mut backward = net.layers.iter().filter_map(|layer| match layer {
            Layer::Conv(conv) => Some(conv.forms.n_bytes()[1]),
            _ => None,
        });
        assert!(backward.all(|bytes| bytes == 0));
        net.forget_forms();
    }
}

/// Directions against backpropagation through time: section of the paper on descent directions.
#[test]
fn gradients_point_where_those_through_time_point() {
    let cosine = |a: &[f32], b: &[f32]| {
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
        };
        (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(), (dot(a, a) / dot(b, b)).sqrt())
    };
    for n_steps in [2, 4, 8] {
        let net = plain(n_steps);
        let input = || steady(&images(&net), net.input, n_steps);
        let (rates, _) = by_rates(&net, input(), &MULTI);
        let (time, _) = through_time(&net, input());
        for (i, p) in net.parameters.list.iter().enumerate() {
            let (cosine, ratio) = cosine(&rates.list[i], &time.list[i]);
            assert!(cosine > 0.9, "{} at T = {n_steps}: cosine {cosine}", p.name);
            assert!((0.8..1.25).contains(&ratio), "{} at T = {n_steps}: length {ratio}", p.name);
        }
    }
}

/// Without normalisations the modes are two orders of the same sums.
#[test]
fn both_modes_are_one_without_normalisations() {
    let layers = vec![
        conv(8, 1),
        LayerSpec::Neuron,
        conv(8, 2),
        LayerSpec::Neuron,
        LayerSpec::Dropout { rate: 0.3, per_step: false },
        linear(5),
    ];
    let net = net(layers, Shape::new(3, 8, 8), 5);
    let image: Vec<f32> = images(&net).iter().map(|v| 3.0 * v).collect();
    let frames = draw(5 * image.len(), 3.0, "frames");
    for input in [steady(&image, net.input, 5), values(&frames, net.input, 5)] {
        let (multi, z) = by_rates(&net, input.clone(), &MULTI);
        let (single, z_single) = by_rates(&net, input, &SINGLE);
        assert_near("outputs", &z_single, &z, 1e-6);
        for (i, p) in net.parameters.list.iter().enumerate() {
            assert!(largest(&multi.list[i]) > 0.0, "{} has a gradient", p.name);
            assert_near(&p.name, &single.list[i], &multi.list[i], 1e-5);
        }
    }
}

/// With one step of still images both switches of single-step mode change nothing.
#[test]
fn switches_of_the_single_step_mode_agree_on_one_step() {
    let net = plain(1);
    let input = || steady(&images(&net), net.input, 1);
    let (reference, _) = by_rates(&net, input(), &SINGLE);
    let all = Settings { avg_mean: true, avg_recip: true, last_frame: true, ..SINGLE };
    let (switched, _) = by_rates(&net, input(), &all);
    for (i, p) in net.parameters.list.iter().enumerate() {
        assert_near(&p.name, &switched.list[i], &reference.list[i], 1e-6);
    }
}

/// What a maximum of rates gives is not the mean of maxima, so convolutions behind it are run.
#[test]
fn a_maximum_is_taken_of_rates() {
    let pool = PoolSpec { size: 2, stride: None, padding: 0 };
    let mut layers: Vec<LayerSpec> = unit(8, 1).into();
    layers.push(LayerSpec::MaxPool(pool));
    layers.extend(unit(8, 1));
    layers.push(linear(5));
    let net = net(layers, Shape::new(3, 8, 8), 4);
    let input = || steady(&images(&net), net.input, 4);
    let (rates, z) = by_rates(&net, input(), &MULTI);
    let (time, z_time) = through_time(&net, input());
    assert_near("outputs", &z, &z_time, 1e-6);
    let last = net.parameters.list.len() - 2;
    assert_near("last layer", &rates.list[last], &time.list[last], 1e-5);
    assert!(rates.list.iter().flatten().all(|g| g.is_finite()));
}

fn task(shape: Shape) -> Task {
    Task { shape, notation: Notation::Images, n_classes: 10, n_train: 100, seed: Seed(0) }
}

#[test]
fn memory_does_not_grow_with_the_steps_in_single_step_mode() {
    let shape = Shape::new(3, 32, 32);
    let of = |mode, n_steps| {
        let network = Network::NetworkS(Default::default());
        let common = Common {
            n_steps,
            neuron: Params::default().neuron,
            norm: NormKind::BatchNorm {},
            seed: Seed(0),
        };
        let net = Net::new(&network.description(10), shape, &common).unwrap();
        (memory::of_step(&net, mode, 32, 1), crate::frames::memory::of_step(&net, 32, 1))
    };
    let single: Vec<usize> =
        [1, 2, 16].map(|n| of(Mode::SingleStep, n).0.total()).into_iter().collect();
    assert!(single.iter().all(|&m| m == single[0]), "{single:?}");
    for n_steps in [4, 8, 16] {
        let (rates, time) = of(Mode::MultiStep, n_steps);
        assert!(rates.total() < time.total(), "T = {n_steps}: {rates:?}, {time:?}");
        assert_eq!(rates.kept, of(Mode::MultiStep, 1).0.kept);
    }
}

#[test]
fn settings_that_do_not_fit_are_refused() {
    let mut params = Params { avg_recip: true, last_frame: true, ..Params::default() };
    params.neuron.learns_threshold = true;
    params.neuron.threshold = 0.5;
    let found = params.check().found;
    let fields: Vec<&str> = found.iter().map(|f| f.field.as_str()).collect();
    assert_eq!(fields, ["neuron.learns_threshold", "avg_recip", "last_frame"]);
    let network = Network::Vgg9(Default::default());
    let error = RateBp::new(&Params { network, ..Params::default() }, &task(Shape::new(3, 32, 32)));
    let text = error.unwrap_err().to_string();
    assert!(text.contains("dropout that is the same at all steps"), "{text}");
}

/// One hidden layer of the rate network around one batch: neurons are straight lines through what
/// was noted, statistics move with those of the input.
struct Hidden {
    rate: Vec<f64>,
    eligibility: Vec<f64>,
    /// Input of the normalisation, and what it was normalised to.
    x: Vec<f64>,
    y: Vec<f64>,
    mean: Vec<f64>,
    variance: Vec<f64>,
}

fn wide(v: &[f32]) -> Vec<f64> {
    v.iter().copied().map(f64::from).collect()
}

/// Mean and biased variance of each column of `[sample, unit]`.
fn moments(x: &[f64], n_units: usize) -> Vec<[f64; 2]> {
    let n = (x.len() / n_units) as f64;
    let column = |c| x.iter().skip(c).step_by(n_units);
    let moments = |c| {
        let mean = column(c).sum::<f64>() / n;
        [mean, column(c).map(|x| (x - mean).powi(2)).sum::<f64>() / n]
    };
    (0..n_units).map(moments).collect()
}

/// `[sample, in]` times `[out, in]` plus a bias.
fn product(r: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let n_in = weight.len() / bias.len();
    let of_sample = |r: &[f64]| {
        let dot = |w: &[f64]| w.iter().zip(r).map(|(w, r)| w * r).sum::<f64>();
        weight.chunks_exact(n_in).zip(bias).map(|(w, b)| b + dot(w)).collect::<Vec<_>>()
    };
    r.chunks_exact(n_in).flat_map(of_sample).collect()
}

/// Σ d z of the rate network in double precision; `parameters` are weight, bias, γ, β of every
/// hidden layer, then weight and bias.
fn rate_network(input: &[f64], hidden: &[Hidden], parameters: &[Vec<f64>], d: &[f64]) -> f64 {
    let (mut r, mut parameters) = (input.to_vec(), parameters.iter());
    let mut next = || parameters.next().expect("a parameter");
    for layer in hidden {
        let (weight, bias, gamma, beta) = (next(), next(), next(), next());
        let x = product(&r, weight, bias);
        let n_units = bias.len();
        let (now, then) = (moments(&x, n_units), moments(&layer.x, n_units));
        let value = |(i, x): (usize, &f64)| {
            let c = i % n_units;
            let mean = layer.mean[c] + now[c][0] - then[c][0];
            let variance = layer.variance[c] + now[c][1] - then[c][1];
            let y = gamma[c] * (x - mean) / (variance + 1e-5).sqrt() + beta[c];
            layer.rate[i] + layer.eligibility[i] * (y - layer.y[i])
        };
        r = x.iter().enumerate().map(value).collect();
    }
    let (weight, bias) = (next(), next());
    product(&r, weight, bias).iter().zip(d).map(|(z, d)| z * d).sum()
}

/// Every gradient of the rate pass, that of statistics included, against differences.
#[test]
fn gradients_are_those_of_the_rate_network() {
    let mut layers = Vec::new();
    for features in [8, 7] {
        layers.extend([linear(features), LayerSpec::Norm, LayerSpec::Neuron]);
    }
    layers.push(linear(5));
    let n_steps = 4;
    let mut net = net(layers, Shape::flat(6), n_steps);
    for p in &mut net.parameters.list {
        let moved = draw(p.values.len(), 0.3, &p.name);
        p.values.iter_mut().zip(moved).for_each(|(v, m)| *v += m);
    }
    net.forget_forms();
    let (workspaces, n) = (Workspaces::default(), LABELS.len());
    let d = draw(n * 5, 1.0, "d");
    let frames = draw(n_steps * n * 6, 1.5, "frames");
    for settings in [MULTI, SINGLE, Settings { avg_mean: true, avg_recip: true, ..SINGLE }] {
        let input = values(&frames, net.input, n_steps);
        let pass = spike_pass::run(&net, input, &settings, Seed(0), 0, &workspaces).unwrap();
        let samples = wide(pass.input.values());
        let gamma_of = |layer: usize| wide(&net.parameters.list[4 * layer + 2].values);
        let beta_of = |layer: usize| wide(&net.parameters.list[4 * layer + 3].values);
        let noted = pass.layers.iter().enumerate().map(|(i, layer)| {
            let norm = layer.norm.as_ref().unwrap();
            let neurons = layer.neurons.as_ref().unwrap();
            let (mean, variance) = spike_pass::statistics(&norm.moments, &settings);
            let (mean, variance, x) = (mean.values, variance.values, wide(norm.input.values()));
            let (gamma, beta) = (gamma_of(i), beta_of(i));
            let normalise = |(i, x): (usize, &f64)| {
                let c = i % gamma.len();
                gamma[c] * (x - mean[c]) / (variance[c] + 1e-5).sqrt() + beta[c]
            };
            let y = x.iter().enumerate().map(normalise).collect();
            let [rate, eligibility] = [&neurons.rate, &neurons.eligibility].map(|v| wide(v));
            Hidden { rate, eligibility, x, y, mean, variance }
        });
        let hidden: Vec<Hidden> = noted.collect();
        let gradients =
            rate_pass::gradients(&net, pass, &settings, d.clone(), &workspaces).unwrap();
        let start: Vec<Vec<f64>> = net.parameters.list.iter().map(|p| wide(&p.values)).collect();
        let d = wide(&d);
        for (p, ours) in gradients.list.iter().enumerate() {
            let scale = f64::from(largest(ours)).max(0.05);
            for i in (0..ours.len()).step_by(1 + ours.len() / 9) {
                let at = |step: f64| {
                    let mut moved = start.clone();
                    moved[p][i] += step;
                    rate_network(&samples, &hidden, &moved, &d)
                };
                let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
                let (name, ours) = (&net.parameters.list[p].name, f64::from(ours[i]));
                let what = format!("{settings:?} {name}[{i}]");
                assert!((ours - numeric).abs() < 2e-5 * scale, "{what}: {ours}, {numeric}");
            }
        }
    }
}
