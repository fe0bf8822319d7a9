//! Identities of the equations.

use super::losses::{Loss, Readout, Targets, force_labels};
use super::network::{Deep, LayerSpec, Net, Network};
use super::neuron::{Neuron, Params};
use super::{first_alone, first_spikes, initial, standardise};
use crate::frames::kernel::Spikes;
use crate::frames::net::{steady, values};
use crate::frames::shards::Workspaces;
use crate::frames::signal::{Data, Signal};
use crate::seed::Seed;
use crate::spikes::Shape;

fn normal(n: usize, seed: u64) -> Vec<f32> {
    let mut stream = Seed(seed).stream("normal", n as u64);
    (0..n).map(|_| stream.normal(0.0, 1.0) as f32).collect()
}

fn binary(n: usize, p: f32, seed: u64) -> Vec<f32> {
    let mut stream = Seed(seed).stream("binary", n as u64);
    (0..n).map(|_| if stream.chance(p) { 1.0 } else { 0.0 }).collect()
}

fn sum(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v)).sum()
}

/// A single synapse of weight w, one input spike at the second step.
fn one_synapse(w: f32, n_steps: usize) -> Signal {
    let current = (0..n_steps).map(|t| if t == 1 { w } else { 0.0 }).collect::<Vec<_>>();
    values(&current, Shape::flat(1), n_steps)
}

#[test]
fn a_spike_falls_where_the_response_reaches_the_threshold() {
    let (neuron, n_steps, threshold) = (Neuron::new(&Params::default()), 9, [0.6]);
    let response = neuron.response(n_steps);
    for w in [0.9f32, 1.3, 2.5] {
        let current = one_synapse(w, n_steps);
        let reached = response.iter().position(|e| w * e >= threshold[0]);
        let output = neuron.fire(&threshold, &current).into_values();
        let fired = output.iter().position(|&s| s != 0.0);
        assert_eq!(fired, reached.map(|k| k + 1), "weight {w}");
        let Some(t) = fired else { continue };
        let k = t - 1;
        let (mut e, mut to_weights) = (vec![0.0; n_steps], vec![9.0; n_steps]);
        e[t] = 1.0;
        let spikes = Spikes::from_dense(Shape::flat(1), &output);
        let total = neuron.backward(&threshold, &current, &spikes, &mut e, &mut to_weights, true);
        assert_eq!(total, 1.0);
        let mut alone = vec![9.0; n_steps];
        let mut same = vec![0.0; n_steps];
        same[t] = 1.0;
        neuron.backward(&threshold, &current, &spikes, &mut same, &mut alone, false);
        assert_eq!((alone, same[t]), (to_weights.clone(), 1.0));
        let rise = w * (response[k] - if k == 0 { 0.0 } else { response[k - 1] });
        let expected = -response[k] * (1.0 / rise).min(4.0);
        assert!((to_weights[1] - expected).abs() < 1e-5, "{to_weights:?} against {expected}");
        assert!(to_weights[t + 1..].iter().chain(&e[t + 1..]).all(|&g| g == 0.0));
    }
}

#[test]
fn the_weight_gradient_is_the_derivative_of_the_crossing() {
    // The membrane between two steps as a straight line, the threshold at the end of a step:
    // dt/dw = −ε(k)/(w (ε(k) − ε(k−1))).
    let (neuron, n_steps, w) = (Neuron::new(&Params::default()), 6, 1.7f32);
    let response: Vec<f64> = neuron.response(n_steps).iter().map(|&e| f64::from(e)).collect();
    let threshold = w * response[1] as f32 * (1.0 - 1e-6);
    let crossing = |w: f64| {
        let (before, at) = (w * response[0], w * response[1]);
        (f64::from(threshold) - before) / (at - before)
    };
    let h = 1e-5;
    let difference = (crossing(f64::from(w) + h) - crossing(f64::from(w) - h)) / (2.0 * h);
    let current = one_synapse(w, n_steps);
    let output = neuron.fire(&[threshold], &current).into_values();
    assert_eq!(output.iter().position(|&s| s != 0.0), Some(2));
    let (mut e, mut to_weights) = (vec![0.0; n_steps], vec![0.0; n_steps]);
    e[2] = 1.0;
    let spikes = Spikes::from_dense(Shape::flat(1), &output);
    neuron.backward(&[threshold], &current, &spikes, &mut e, &mut to_weights, true);
    let ours = f64::from(to_weights[1]);
    assert!((difference - ours).abs() < 1e-4 * ours.abs(), "{difference} against {ours}");
}

#[test]
fn the_response_peaks_where_its_derivative_is_zero() {
    for params in [Params::default(), Params { membrane: 8.0, synapse: 4.0, ..Params::default() }] {
        let response = Neuron::new(&params).response(40);
        let [a, b] = [params.membrane, params.synapse].map(|tau| (1.0 - 1.0 / tau).ln());
        let peak = (b / a).ln() / (a - b);
        let most = (0..40).max_by(|&i, &j| response[i].total_cmp(&response[j])).unwrap() + 1;
        assert!((most as f64 - peak).abs() < 1.0, "{most} against {peak}");
    }
}

/// A network of every kind of layer, its weights mostly positive so that membranes rise.
fn every_layer(n_steps: usize) -> Net {
    let conv = |channels| LayerSpec::Conv { channels, kernel: 3, stride: 1, padding: 1 };
    let specs = [
        conv(4),
        LayerSpec::Pool { size: 2 },
        LayerSpec::Add { body: vec![conv(4)], shortcut: Vec::new() },
        LayerSpec::Linear { features: 3 },
    ];
    let shape = Shape::new(2, 6, 6);
    let mut net = Net::new(&specs, shape, n_steps, &Params::default(), true, Seed(1)).unwrap();
    for p in &mut net.parameters.list {
        if p.name.ends_with("shift") {
            p.values.fill(3.0);
        }
    }
    net.prepare().unwrap();
    net
}

#[test]
fn totals_of_time_gradients_are_kept() {
    let (n_steps, n) = (6, 3);
    let mut net = every_layer(n_steps);
    let x = binary(n_steps * n * net.input.len(), 0.5, 2);
    let input = values(&x, net.input, n_steps);
    let workspaces = Workspaces::default();
    initial::set_thresholds(&mut net, input.clone(), 2.0, &workspaces);
    let (output, trace) = net.forward(input, Seed(0), 0, &workspaces);
    let spikes = std::sync::Arc::unwrap_or_clone(output).into_values();
    let e: Vec<f32> = normal(spikes.len(), 3).iter().map(|e| e.abs()).collect();
    let total: f64 = e.iter().zip(&spikes).map(|(e, s)| f64::from(e * s)).sum();
    assert!(total > 1.0);
    let (_, totals) = net.backward(trace, e, &workspaces);
    // The path beside the inner convolution hands its share on past it.
    let [first, inner, last] = totals[..] else { panic!("three layers, not {totals:?}") };
    assert!((last - total).abs() < 1e-5 * total, "{last} against {total}");
    assert!((first - total).abs() < 1e-4 * total, "{first} against {total}");
    assert!(inner > 0.0 && inner < total, "{inner} of {total}");
}

fn targets(labels: &[u16], n_steps: usize) -> Targets<'_> {
    Targets { labels, n_steps, desired: 4.0, undesired: 1.0, synapse: 3.0 }
}

#[test]
fn counting_losses_differ_by_their_totals() {
    let (labels, n_steps, n) = ([1u16, 0, 3], 6, 12);
    let spikes = binary(n_steps * n, 0.6, 4);
    let of = |loss: Loss| loss.evaluate(&spikes, targets(&labels, n_steps));
    let [plain, plus, zero] = [Loss::Count, Loss::CountPlus, Loss::CountZero].map(of);
    assert_eq!((plain.value, plus.value), (zero.value, plain.value));
    let total = |g: &[f64], at: usize| (0..n_steps).map(|t| g[t * n + at]).sum::<f64>();
    for at in 0..n {
        let k: f64 = (0..n_steps).map(|t| f64::from(spikes[t * n + at])).sum();
        let label = usize::from(labels[at / 4]) == at % 4;
        // Where the count is clipped there is no error.
        let is_within = if label { k <= 4.0 } else { k >= 1.0 };
        if k > 0.0 && is_within {
            let error = total(&plain.gradient, at) / k;
            assert!((total(&plus.gradient, at) - error).abs() < 1e-12, "of {k} spikes");
        }
    }
    let sum: f64 = zero.gradient.iter().sum();
    assert!(sum.abs() < 1e-12 && zero.gradient.iter().any(|g| g.abs() > 1e-3), "{sum}");
}

#[test]
fn scaling_weights_and_thresholds_together_changes_no_spike() {
    let (mut threshold, mut scale, mut shift) = (vec![0.7, 1.2], vec![2.0, 0.5], vec![0.3, -0.1]);
    let w = normal(2 * 9, 5);
    let neuron = Neuron::new(&Params::default());
    let run = |threshold: &[f32], scale: &[f32], shift: &[f32]| {
        let weights = standardise::standardise(&w, scale, shift);
        let x = binary(5 * 9, 0.5, 6);
        let current: Vec<f32> = x
            .chunks_exact(9)
            .flat_map(|x| {
                let of = |w: &[f32]| w.iter().zip(x).map(|(w, x)| w * x).sum::<f32>();
                weights.chunks_exact(9).map(of).collect::<Vec<_>>()
            })
            .collect();
        neuron.fire(threshold, &values(&current, Shape::flat(2), 5)).into_values()
    };
    let before = run(&threshold, &scale, &shift);
    assert!(before.contains(&1.0));
    assert_eq!(standardise::transfer(&mut threshold, &mut scale, &mut shift), None);
    assert_eq!((scale[0], scale[1]), (1.0, 1.0));
    assert_eq!(run(&threshold, &scale, &shift), before);
    assert_eq!(standardise::transfer(&mut threshold, &mut [1.0, 0.0], &mut shift), Some(1));
}

#[test]
fn standardised_weights_have_their_moments_and_gradients() {
    let (w, scale, shift) = (normal(3 * 10, 7), [0.5f32, 1.0, 2.0], [0.1f32, -0.2, 0.0]);
    let standard = standardise::standardise(&w, &scale, &shift);
    for (c, row) in standard.chunks_exact(10).enumerate() {
        let mean = sum(row) / 10.0;
        let variance: f64 = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / 9.0;
        assert!((mean - f64::from(shift[c])).abs() < 1e-6);
        assert!((variance.sqrt() - f64::from(scale[c])).abs() < 1e-4);
    }
    let upstream = normal(30, 8);
    let loss = |w: &[f32]| -> f64 {
        let standard = standardise::standardise(w, &scale, &shift);
        standard.iter().zip(&upstream).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let mut d = upstream.clone();
    standardise::gradients(&w, &scale, &mut d);
    let h = 1e-2;
    for i in 0..w.len() {
        let shifted = |by: f32| {
            let mut w = w.clone();
            w[i] += by;
            loss(&w)
        };
        let difference = (shifted(h) - shifted(-h)) / (2.0 * f64::from(h));
        assert!((difference - f64::from(d[i])).abs() < 2e-3, "{i}: {difference} against {}", d[i]);
    }
}

#[test]
fn the_search_ends_within_a_hundredth() {
    let neuron = Neuron::new(&Params::default());
    let current = values(&normal(9 * 4 * 50, 9), Shape::flat(50), 9);
    let factor = initial::find_factor(&neuron, &[1.0; 50], &current, 1.0);
    let late = |factor: f64| {
        let threshold = [(1.0 / factor) as f32; 50];
        initial::late_spikes(&neuron.fire(&threshold, &current), 6)
    };
    let wanted = 3.0 / 9.0;
    assert!(late(factor / 1.01) <= wanted && late(factor * 1.01) >= wanted, "{factor}");
}

#[test]
fn a_label_is_given_a_spike_where_it_last_rose() {
    let labels = [1u16, 0];
    // [time, sample, class]: the first label rises at step 1, the second nowhere.
    let rises = [0.0, 0.2, 0.0, 0.0, 0.0, 0.3, 0.01, 0.0, 0.0, 0.04, 0.0, 0.0];
    let mut spikes = vec![0.0; 12];
    spikes[8] = 1.0;
    assert_eq!(force_labels(&mut spikes, &rises, &labels, 3), 1);
    let mut expected = vec![0.0; 12];
    (expected[5], expected[8]) = (1.0, 1.0);
    assert_eq!(spikes, expected);
}

#[test]
fn bright_pixels_fire_late_and_the_first_lone_spike_decides() {
    let images = steady(&[0.0, 1.0, 0.5, 0.25], Shape::flat(4), 4);
    let spikes = first_spikes(&images);
    assert!(matches!(spikes.data, Data::Spikes(_)));
    let steps = spikes.into_values();
    let step = |pixel: usize| (0..4).find(|t| steps[t * 4 + pixel] != 0.0);
    assert_eq!([0, 1, 2, 3].map(step), [Some(0), Some(3), Some(2), Some(1)]);
    let outputs = [1.0, 1.0, 0.0, 1.0, 1.0, 0.0];
    assert_eq!(first_alone(&outputs, 0, 1, 3), Some((1, 1)));
    assert_eq!(first_alone(&[0.0, 0.0], 0, 1, 1), None);
    assert_eq!(Readout::FirstSpike.scores(&outputs, 3), [1.25, 1.5]);
}

#[test]
fn networks_have_their_parameters() {
    let weights = |network: &Network, shape| {
        let layers = network.layers(10);
        let net = Net::new(&layers, shape, 1, &Params::default(), true, Seed(0)).unwrap();
        let list = &net.parameters.list;
        list.iter().filter(|p| p.name.ends_with("weight")).map(|p| p.values.len()).sum::<usize>()
    };
    let digits = Shape::new(1, 28, 28);
    let mnist = 15 * 25 + 40 * 15 * 25 + 640 * 300 + 300 * 10;
    assert_eq!(weights(&Network::Mnist {}, digits), mnist);
    let colour = Shape::new(3, 32, 32);
    let millions = |n: usize| (n as f64 / 1e5).round() / 10.0;
    assert_eq!(millions(weights(&Network::Vgg(Deep::default()), colour)), 28.5);
    assert_eq!(millions(weights(&Network::Resnet(Deep::default()), colour)), 11.1);
    let frames = Shape::new(2, 48, 48);
    for network in [Network::DvsGesture(Deep::default()), Network::Cifar10Dvs(Deep::default())] {
        assert!(weights(&network, frames) > 1_000_000);
    }
    assert_eq!(weights(&Network::NMnist {}, Shape::new(2, 34, 34)), 12 * 50 + 64 * 300 + 23040);
}
