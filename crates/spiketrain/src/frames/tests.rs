//! Finite differences and identities of whole passes.
//!
//! The step function has no derivative to compare with, so passes are checked where it is
//! replaced by what its slope is the derivative of, or where spikes do not change.

use super::activation::Activation;
use super::health::Health;
use super::layer::Layer;
use super::net::{Net, steady, values};
use super::network::{Common, ConvSpec, Description, Init, LayerSpec, PoolSpec};
use super::neuron::{Lif, Params, Reset};
use super::norm::{Norm, NormKind};
use super::parameters::{Gradients, Parameters};
use super::shards::Workspaces;
use super::signal::{Data, Signal};
use super::slope::Slope;
use crate::seed::Seed;
use crate::spikes::Shape;
use std::sync::Arc;

const NORMS: [NormKind; 4] =
    [NormKind::BatchNorm {}, NormKind::TdBn { alpha: 0.7 }, NormKind::Bntt {}, NormKind::Tebn {}];

fn draw(n: usize, deviation: f64, purpose: &str) -> Vec<f32> {
    let mut stream = Seed(11).stream(purpose, 0);
    (0..n).map(|_| stream.normal(0.0, deviation) as f32).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// Everything the layers learn is moved off its initial value.
fn shake(parameters: &mut Parameters) {
    for (i, p) in parameters.list.iter_mut().enumerate() {
        let shift = draw(p.values.len(), 0.2, &format!("shake{i}"));
        p.values.iter_mut().zip(shift).for_each(|(v, s)| *v += s);
    }
}

/// `(f(x + e) − f(x − e))/2` over e in single precision.
fn numeric(x: &[f32], i: usize, step: f32, f: &mut dyn FnMut(&[f32]) -> f64) -> f64 {
    let mut moved = x.to_vec();
    let mut at = |value: f32| {
        moved[i] = value;
        f(&moved)
    };
    let (high, low) = (x[i] + step, x[i] - step);
    (at(high) - at(low)) / f64::from(high - low)
}

fn assert_near(what: &str, ours: f64, numeric: f64, scale: f64) {
    assert!((ours - numeric).abs() <= 4e-3 * scale, "{what}: {ours} against {numeric} of {scale}");
}

fn largest(values: &[f32]) -> f64 {
    values.iter().map(|v| f64::from(v.abs())).fold(0.0, f64::max)
}

fn norm_layer(kind: NormKind, n_steps: usize, n_channels: usize) -> (Activation, Parameters) {
    let (mut parameters, mut running) = (Parameters::default(), Vec::new());
    let extents = [n_steps, n_channels];
    let norm = Norm::new(kind, "norm", extents, 0.9, &mut parameters, &mut running);
    shake(&mut parameters);
    (Activation { norm: Some(norm), neuron: None }, parameters)
}

/// Input of a normalisation, steady or not.
fn norm_input(is_steady: bool) -> Signal {
    let (shape, n_steps, n_samples) = (Shape::new(3, 2, 4), 3, 2);
    let n = n_samples * shape.len();
    let data = match is_steady {
        true => Data::Steady(draw(n, 1.3, "x")),
        false => Data::Values(draw(n_steps * n, 1.3, "x")),
    };
    Signal { shape, n_steps, n_samples, data }
}

fn norm_loss(layer: &Activation, parameters: &Parameters, input: &Signal, d: &[f32]) -> f64 {
    let (affine, _) = layer.of_batch(parameters, input).unwrap();
    dot(layer.forward(parameters, input, Some(&affine)).values(), d)
}

#[test]
fn gradients_of_every_normalisation_are_those_of_its_values() {
    for (kind, is_steady) in NORMS.iter().flat_map(|&k| [(k, false), (k, true)]) {
        let input = norm_input(is_steady);
        let (layer, mut parameters) = norm_layer(kind, input.n_steps, input.shape.channels);
        let d = draw(input.n_steps * input.n_samples * input.shape.len(), 1.0, "d");
        let (affine, _) = layer.of_batch(&parameters, &input).unwrap();
        let record = Activation::record(Arc::new(input.clone()), Some(affine));
        let mut gradients = parameters.zeros();
        let d_x = layer.backward(&parameters, &record, d.clone(), &mut gradients);
        let x = input.values().to_vec();
        for i in (0..x.len()).step_by(5) {
            let numeric = numeric(&x, i, 0.02, &mut |x| {
                let input = input.with_dense(input.shape, x.to_vec());
                norm_loss(&layer, &parameters, &input, &d)
            });
            let what = format!("{kind:?}, steady {is_steady}, input {i}");
            assert_near(&what, f64::from(d_x[i]), numeric, largest(&d_x));
        }
        for p in 0..parameters.list.len() {
            let values = parameters.list[p].values.clone();
            let ours = gradients.list[p].clone();
            for i in 0..values.len() {
                let numeric = numeric(&values, i, 0.02, &mut |v| {
                    parameters.list[p].values.copy_from_slice(v);
                    norm_loss(&layer, &parameters, &input, &d)
                });
                parameters.list[p].values.copy_from_slice(&values);
                let what = format!("{kind:?}, {}[{i}]", parameters.list[p].name);
                assert_near(&what, f64::from(ours[i]), numeric, largest(&ours));
            }
        }
    }
}

#[test]
fn gradients_behind_a_normalisation_are_orthogonal_to_what_it_takes_out() {
    let input = norm_input(false);
    for kind in [NormKind::BatchNorm {}, NormKind::Tebn {}] {
        let (layer, parameters) = norm_layer(kind, input.n_steps, input.shape.channels);
        let d = draw(input.values().len(), 1.0, "d");
        let (affine, _) = layer.of_batch(&parameters, &input).unwrap();
        let record = Activation::record(Arc::new(input.clone()), Some(affine));
        let d = layer.backward(&parameters, &record, d, &mut parameters.zeros());
        for c in 0..3 {
            let of_channel = |v: &[f32]| v.iter().skip(c).step_by(3).copied().collect::<Vec<_>>();
            let (d, x) = (of_channel(&d), of_channel(input.values()));
            let sum: f64 = d.iter().map(|&d| f64::from(d)).sum();
            assert!(
                sum.abs() < 1e-5 && dot(&d, &x).abs() < 2e-4,
                "{kind:?}: {sum}, {}",
                dot(&d, &x)
            );
        }
    }
}

/// Σ_t p dL/dp = Σ_c γ dL/dγ + β dL/dβ.
#[test]
fn tebn_fulfils_eulers_identity_and_equals_batch_norm_where_p_is_one() {
    let input = norm_input(false);
    let d = draw(input.values().len(), 1.0, "d");
    let (layer, mut parameters) = norm_layer(NormKind::Tebn {}, 3, 3);
    let pass = |layer: &Activation, parameters: &Parameters| -> (Vec<f32>, Vec<f32>, Gradients) {
        let (affine, _) = layer.of_batch(parameters, &input).unwrap();
        let out = layer.forward(parameters, &input, Some(&affine)).into_values();
        let record = Activation::record(Arc::new(input.clone()), Some(affine));
        let mut gradients = parameters.zeros();
        let d = layer.backward(parameters, &record, d.clone(), &mut gradients);
        (out, d, gradients)
    };
    let (out, _, gradients) = pass(&layer, &parameters);
    let term = |i: usize| dot(&parameters.list[i].values, &gradients.list[i]);
    assert!((term(2) - term(0) - term(1)).abs() < 1e-4, "{} {} {}", term(2), term(0), term(1));
    // p scaled by 4, γ and β by 1/4: the same function.
    parameters.list[2].values.iter_mut().for_each(|p| *p *= 4.0);
    (0..2).for_each(|i| parameters.list[i].values.iter_mut().for_each(|v| *v *= 0.25));
    assert_eq!(pass(&layer, &parameters).0, out);
    parameters.list[2].values.fill(1.0);
    let (plain, mut shared) = norm_layer(NormKind::BatchNorm {}, 3, 3);
    (0..2).for_each(|i| shared.list[i].values.clone_from(&parameters.list[i].values));
    let (tebn, batch) = (pass(&layer, &parameters), pass(&plain, &shared));
    assert_eq!((tebn.0, tebn.1), (batch.0, batch.1));
}

/// A neuron whose step is replaced by the sigmoid that its slope is the derivative of, in double
/// precision; returns Σ_t d[t] s[t].
fn soft_neuron(lif: &Lif, threshold: f64, x: &[f64], d: &[f64]) -> f64 {
    let Slope::Sigmoid { steepness } = lif.slope else { panic!("a sigmoid") };
    let (mut v, mut sum) = (0.0, 0.0);
    for (x, d) in x.iter().zip(d) {
        let u = f64::from(lif.decay) * v + f64::from(lif.gain) * x;
        let s = 1.0 / (1.0 + libm::exp(-f64::from(steepness) * (u - threshold)));
        v = match lif.reset {
            Reset::Hard => u * (1.0 - s),
            Reset::Soft => u - threshold * s,
            Reset::SoftAfterLeak => u - threshold / f64::from(lif.decay) * s,
        };
        sum += d * s;
    }
    sum
}

/// The recursion's formulas, with smooth spikes in place of binary ones, against differences.
#[test]
fn the_recursion_backward_is_the_derivative_of_the_recursion_forward() {
    let cases = [(Reset::Hard, false), (Reset::Soft, true), (Reset::SoftAfterLeak, false)];
    for (reset, scales_input) in cases {
        let slope = Slope::Sigmoid { steepness: 3.0 };
        let params =
            Params { decay: 0.6, threshold: 0.8, reset, scales_input, slope, ..Params::default() };
        let lif = Lif::new(&params, "neuron", &mut Parameters::default());
        let (x, d) = (draw(6, 1.0, "x"), draw(6, 1.0, "d"));
        let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
        let (x, d) = (wide(&x), wide(&d));
        let threshold = f64::from(params.threshold);
        let kappa = if reset == Reset::SoftAfterLeak { 1.0 / f64::from(lif.decay) } else { 1.0 };
        // tebn.md's table with s smooth.
        let (mut v, mut membranes) = (0.0, Vec::new());
        for x in &x {
            let u = f64::from(lif.decay) * v + f64::from(lif.gain) * x;
            let s = 1.0 / (1.0 + libm::exp(-3.0 * (u - threshold)));
            v = if reset == Reset::Hard { u * (1.0 - s) } else { u - kappa * threshold * s };
            membranes.push((u, s));
        }
        let (mut a, mut d_x, mut d_threshold) = (0.0, vec![0.0; 6], 0.0);
        for t in (0..6).rev() {
            let (u, s) = membranes[t];
            let h = 3.0 * s * (1.0 - s);
            let through = d[t] - a * if reset == Reset::Hard { u } else { kappa * threshold };
            let b = through * h + a * if reset == Reset::Hard { 1.0 - s } else { 1.0 };
            d_threshold -= through * h + if reset == Reset::Hard { 0.0 } else { kappa * a * s };
            a = f64::from(lif.decay) * b;
            d_x[t] = f64::from(lif.gain) * b;
        }
        let step = 1e-5;
        for t in 0..6 {
            let at = |e: f64| {
                let mut x = x.clone();
                x[t] += e;
                soft_neuron(&lif, threshold, &x, &d)
            };
            let numeric = (at(step) - at(-step)) / (2.0 * step);
            assert!((numeric - d_x[t]).abs() < 1e-8, "{reset:?} step {t}");
        }
        let at = |e: f64| soft_neuron(&lif, threshold + e, &x, &d);
        let numeric = (at(step) - at(-step)) / (2.0 * step);
        assert!((numeric - d_threshold).abs() < 1e-8, "{reset:?}: {numeric} {d_threshold}");
    }
}

/// The engine's neuron against the table, every reset and slope, with a learned threshold.
#[test]
fn neurons_follow_the_table_of_the_general_backward_pass() {
    let slopes = [
        Slope::Triangle { width: 0.8 },
        Slope::Rectangle { width: 0.5 },
        Slope::Sigmoid { steepness: 4.0 },
        Slope::Atan { steepness: 2.0 },
        Slope::FastSigmoid { steepness: 3.0 },
        Slope::Gaussian { deviation: 0.5 },
    ];
    let (shape, n_steps, n_samples) = (Shape::new(5, 2, 3), 4, 3);
    let n = n_samples * shape.len();
    let (x, d) = (draw(n_steps * n, 0.8, "x"), draw(n_steps * n, 1.0, "d"));
    let resets = [Reset::Hard, Reset::Soft, Reset::SoftAfterLeak];
    let resets = resets.into_iter().flat_map(|r| [(r, false), (r, true)]);
    let cases = slopes.into_iter().flat_map(|s| resets.clone().map(move |r| (s, r)));
    for (i, (slope, (reset, detach_reset))) in cases.enumerate() {
        let params = Params {
            decay: 0.5,
            scales_input: i % 5 == 1,
            threshold: 0.6,
            learns_threshold: true,
            reset,
            detach_reset,
            fires_at_threshold: i % 4 == 3,
            slope,
        };
        let mut parameters = Parameters::default();
        let lif = Lif::new(&params, "neuron", &mut parameters);
        let layer = Activation { norm: None, neuron: Some(lif) };
        let data = Data::Values(x.clone());
        let input = Arc::new(Signal { shape, n_steps, n_samples, data });
        let record = Activation::record(input, None);
        let mut gradients = parameters.zeros();
        let ours = layer.backward(&parameters, &record, d.clone(), &mut gradients);
        let threshold = lif.threshold(&parameters);
        assert!((threshold - 0.6).abs() < 1e-6);
        let mut d_threshold = 0.0f64;
        for neuron in 0..n {
            let (mut kept, mut u) = (0.0f32, Vec::new());
            for t in 0..n_steps {
                u.push(kept + lif.gain * x[t * n + neuron]);
                let s = f32::from(u8::from(lif.fires(u[t], threshold)));
                kept = match reset {
                    Reset::Hard => 0.5 * u[t] * (1.0 - s),
                    Reset::Soft => 0.5 * (u[t] - threshold * s),
                    Reset::SoftAfterLeak => 0.5 * u[t] - threshold * s,
                };
            }
            let mut a = 0.0f32;
            for t in (0..n_steps).rev() {
                let s = f32::from(u8::from(lif.fires(u[t], threshold)));
                let g = d[t * n + neuron];
                let through = match (reset, detach_reset) {
                    (_, true) => g,
                    (Reset::Hard, false) => g - u[t] * a,
                    (Reset::Soft, false) => g - threshold * a,
                    (Reset::SoftAfterLeak, false) => g - 2.0 * threshold * a,
                };
                let h = slope.at(u[t], threshold);
                let b = through * h + if reset == Reset::Hard { a * (1.0 - s) } else { a };
                d_threshold -= f64::from(through * h);
                d_threshold -= match reset {
                    Reset::Hard => 0.0,
                    Reset::Soft => f64::from(a * s),
                    Reset::SoftAfterLeak => f64::from(2.0 * a * s),
                };
                a = 0.5 * b;
                let expected = lif.gain * b;
                let got = ours[t * n + neuron];
                let what = format!("{slope:?}, {reset:?}, detached {detach_reset}");
                assert!((got - expected).abs() < 1e-5, "{what}: {got} against {expected}");
            }
        }
        let d_raw = d_threshold * (1.0 - f64::from(threshold).powi(2));
        let ours = f64::from(gradients.list[0][0]);
        assert!((ours - d_raw).abs() < 1e-4, "{slope:?}: {ours} against {d_raw}");
    }
}

fn conv(channels: usize, stride: usize) -> LayerSpec {
    LayerSpec::Conv(ConvSpec { channels, kernel: 3, stride, padding: None, bias: true })
}

fn pool(size: usize) -> PoolSpec {
    PoolSpec { size, stride: None, padding: 0 }
}

fn net(layers: Vec<LayerSpec>, input: Shape, norm: NormKind) -> Net {
    let init = Init::Uniform {};
    let description = Description { layers, conv_init: init, linear_init: init };
    let common = Common { n_steps: 3, neuron: Params::default(), norm, seed: Seed(2) };
    Net::new(&description, input, &common).unwrap()
}

/// A network without neurons is smooth: every backward but the neurons' in one.
#[test]
fn gradients_of_a_smooth_network_are_those_of_its_outputs() {
    let dropout = |per_step| LayerSpec::Dropout { rate: 0.3, per_step };
    let layers = vec![
        conv(4, 1),
        LayerSpec::Add { body: vec![conv(4, 1), LayerSpec::Norm], shortcut: Vec::new() },
        LayerSpec::Concat { body: vec![LayerSpec::Norm, conv(2, 1)] },
        LayerSpec::AveragePool(pool(2)),
        LayerSpec::Add { body: vec![conv(3, 2)], shortcut: vec![conv(3, 2), LayerSpec::Norm] },
        dropout(false),
        LayerSpec::Linear { features: 6, bias: true },
        dropout(true),
        LayerSpec::Vote { group: 2 },
    ];
    let shape = Shape::new(2, 8, 8);
    let mut net = net(layers, shape, NormKind::Tebn {});
    shake(&mut net.parameters);
    net.forget_forms();
    let workspaces = Workspaces::default();
    for is_steady in [true, false] {
        let x = draw(if is_steady { 2 } else { 6 } * shape.len(), 1.0, "image");
        let input = |x: &[f32]| match is_steady {
            true => steady(x, shape, 3),
            false => values(x, shape, 3),
        };
        let d = draw(3 * 2 * 3, 1.0, "d");
        let (_, trace) = net.forward(input(&x), Seed(4), 7, &workspaces).unwrap();
        let (gradients, d_x) = net.backward(trace, d.clone(), true, &workspaces);
        let loss = |net: &Net, x: &[f32]| {
            let (outputs, _) = net.forward(input(x), Seed(4), 7, &workspaces).unwrap();
            dot(&outputs, &d)
        };
        let d_x = super::net::channels_first(&d_x.unwrap(), shape);
        for i in (0..x.len()).step_by(37) {
            let numeric = numeric(&x, i, 0.02, &mut |x| loss(&net, x));
            assert_near(&format!("input {i}"), f64::from(d_x[i]), numeric, largest(&d_x));
        }
        for p in 0..net.parameters.list.len() {
            let start = net.parameters.list[p].values.clone();
            let ours = &gradients.list[p];
            for i in (0..start.len()).step_by(1 + start.len() / 4) {
                let numeric = numeric(&start, i, 0.02, &mut |v| {
                    net.parameters.list[p].values.copy_from_slice(v);
                    net.forget_forms();
                    loss(&net, &x)
                });
                net.parameters.list[p].values.copy_from_slice(&start);
                net.forget_forms();
                let what = format!("{}[{i}], steady {is_steady}", net.parameters.list[p].name);
                // A bias before a normalisation has no gradient but rounding.
                let scale = largest(ours).max(0.05);
                assert_near(&what, f64::from(ours[i]), numeric, scale);
            }
        }
    }
}

/// Spiking layers everywhere, max pooling, a network of its own kind of sums.
fn spiking() -> Net {
    let unit = |channels| [conv(channels, 1), LayerSpec::Norm, LayerSpec::Neuron];
    let mut layers: Vec<LayerSpec> = unit(6).into();
    layers.push(LayerSpec::Add { body: unit(6).into(), shortcut: Vec::new() });
    layers.push(LayerSpec::MaxPool(pool(2)));
    layers.extend(unit(5));
    layers.push(LayerSpec::MaxPool(pool(2)));
    layers.push(LayerSpec::Linear { features: 4, bias: true });
    net(layers, Shape::new(2, 8, 8), NormKind::BatchNorm {})
}

#[test]
fn a_steady_image_and_the_same_image_at_every_step_are_one() {
    let (net, workspaces) = (spiking(), Workspaces::default());
    let x = draw(3 * net.input.len(), 1.0, "image");
    let run = |input: Signal| {
        let (outputs, trace) = net.forward(input, Seed(0), 0, &workspaces).unwrap();
        let d = draw(outputs.len(), 1.0, "d");
        let (gradients, _) = net.backward(trace, d, false, &workspaces);
        (outputs, gradients)
    };
    let (a, from_steady) = run(steady(&x, net.input, 3));
    let (b, from_values) = run(values(&x.repeat(3), net.input, 3));
    assert_eq!(a, b);
    for (a, b) in from_steady.list.iter().zip(&from_values.list) {
        let scale = largest(a).max(1e-3) as f32;
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5 * scale.max(1.0)));
    }
}

#[test]
fn the_same_bits_on_any_number_of_threads() {
    let (net, workspaces) = (spiking(), Workspaces::default());
    let x = draw(20 * net.input.len(), 1.0, "image");
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let input = steady(&x, net.input, 3);
            let (outputs, trace) = net.forward(input, Seed(0), 0, &workspaces).unwrap();
            let d = draw(outputs.len(), 1.0, "d");
            (outputs, net.backward(trace, d, false, &workspaces).0.list)
        })
    };
    let one = run(1);
    assert!((2..4).all(|n| run(n) == one));
}

#[test]
fn a_network_that_has_lost_its_numbers_is_named() {
    let mut net = spiking();
    net.parameters.list[0].values[0] = f32::NAN;
    net.forget_forms();
    let x = draw(net.input.len(), 1.0, "image");
    let input = steady(&x, net.input, 3);
    let error = net.forward(input, Seed(0), 0, &Workspaces::default()).unwrap_err();
    assert_eq!(error.kind(), crate::error::ErrorKind::Diverged);
    assert!(error.to_string().contains("layer1"), "{error}");
}

/// Without a normalisation gradients are what notices.
#[test]
fn a_network_without_normalisation_that_has_lost_its_numbers_is_named() {
    let slopes = [
        Slope::Triangle { width: 1.0 },
        Slope::Rectangle { width: 0.5 },
        Slope::Sigmoid { steepness: 4.0 },
        Slope::Gaussian { deviation: 0.4 },
    ];
    let kinds = [Reset::Hard, Reset::Soft].into_iter().flat_map(|reset| {
        [(false, false), (false, true), (true, false), (true, true)].map(|kind| (reset, kind))
    });
    let cases = slopes.into_iter().flat_map(|slope| kinds.clone().map(move |kind| (slope, kind)));
    for (slope, (reset, (detach_reset, fires_at_threshold))) in cases {
        let neuron = Params { slope, reset, detach_reset, fires_at_threshold, ..Params::default() };
        let (norm, seed) = (NormKind::BatchNorm {}, Seed(2));
        let common = Common { n_steps: 3, neuron, norm, seed };
        let linear = LayerSpec::Linear { features: 4, bias: true };
        let layers = vec![conv(4, 2), LayerSpec::Neuron, linear];
        let init = Init::Uniform {};
        let description = Description { layers, conv_init: init, linear_init: init };
        let mut net = Net::new(&description, Shape::new(2, 8, 8), &common).unwrap();
        net.parameters.list[0].values[0] = f32::NAN;
        let (x, workspaces) = (draw(net.input.len(), 1.0, "image"), Workspaces::default());
        let input = steady(&x, net.input, 3);
        let (outputs, mut trace) = net.forward(input, Seed(0), 0, &workspaces).unwrap();
        let notes = std::mem::take(&mut trace.notes);
        let d = draw(outputs.len(), 1.0, "d");
        let (gradients, _) = net.backward(trace, d, false, &workspaces);
        let counted = Health::default().count(&notes, &gradients, &net.parameters);
        let error = counted.expect_err(&format!("{:?}", common.neuron));
        assert_eq!(error.kind(), crate::error::ErrorKind::Diverged);
        assert!(error.to_string().contains("layer0"), "{error}");
    }
}

#[test]
fn layers_that_do_not_fit_are_refused_by_name() {
    let init = Init::Uniform {};
    let description = Description {
        layers: vec![conv(2, 1), LayerSpec::AveragePool(pool(9))],
        conv_init: init,
        linear_init: init,
    };
    let common =
        Common { n_steps: 1, neuron: Params::default(), norm: NormKind::Tebn {}, seed: Seed(0) };
    let error = Net::new(&description, Shape::new(1, 8, 8), &common).unwrap_err();
    assert!(error.to_string().starts_with("layer1 of the network cannot hold windows of 9×9"));
    assert!(matches!(spiking().layers[0], Layer::Conv(_)));
}
