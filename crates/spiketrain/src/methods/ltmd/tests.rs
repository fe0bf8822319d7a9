//! Finite differences, and the identities that the equations imply.

use super::classifier::{Classifier, Settings};
use super::graded::{Graded, TAPS, lateral, lateral_gradient};
use super::moderate_dropout::Keeping;
use super::two_views::TwoViews;
use super::{Ltmd, Params, features, network};
use crate::frames::activation::Activation;
use crate::frames::layer::{Layer, Notes, Phase};
use crate::frames::loss::Loss;
use crate::frames::net::{Net, values};
use crate::frames::network::{Common, Description, Init, LayerSpec, Network};
use crate::frames::neuron::{self, Lif};
use crate::frames::norm::NormKind;
use crate::frames::parameters::{Kind, Parameters};
use crate::frames::shards::Workspaces;
use crate::frames::slope::Slope;
use crate::learner::{Batch, Ctx, Learner, Task};
use crate::seed::Seed;
use crate::spikes::{Images, Inputs, Notation, Shape};
use std::sync::Arc;

fn normals(purpose: &str, n: usize) -> Vec<f32> {
    let mut stream = Seed(11).stream(purpose, 0);
    (0..n).map(|_| stream.normal(0.3, 0.8) as f32).collect()
}

/// Σ out·weight in double precision.
fn weighted(out: &[f32], weights: &[f32]) -> f64 {
    out.iter().zip(weights).map(|(&o, &w)| f64::from(o) * f64::from(w)).sum()
}

fn assert_gradient(ours: &[f32], at: &[f32], step: f32, tolerance: f64, f: impl Fn(&[f32]) -> f64) {
    assert_eq!(ours.len(), at.len());
    for i in 0..at.len() {
        let moved = |step: f32| {
            let mut at = at.to_vec();
            at[i] += step;
            f(&at)
        };
        let numeric = (moved(step) - moved(-step)) / (2.0 * f64::from(step));
        let ours = f64::from(ours[i]);
        assert!((ours - numeric).abs() < tolerance, "{i}: {ours} against {numeric}");
    }
}

/// With a window of 0 the backward pass is the derivative wherever no membrane is at the threshold.
#[test]
fn graded_neurons_have_the_gradient_of_what_they_compute() {
    let (n_units, n_steps, threshold) = (7, 4, 0.46);
    let neuron = Graded { decay: 0.25, window: 0.0 };
    let current = normals("current", n_steps * 2 * n_units);
    let (kernel, d) = (normals("kernel", TAPS), normals("d", current.len()));
    let run = |current: &[f32], kernel: &[f32]| {
        let sums = lateral(kernel, current, n_units);
        let mut u: Vec<f32> = current.iter().zip(&sums).map(|(i, l)| i + l).collect();
        let outputs = neuron.forward(threshold, &mut u, n_steps);
        (u, outputs)
    };
    let (u, outputs) = run(&current, &kernel);
    let margin = u.iter().map(|u| (u - threshold).abs()).fold(f32::INFINITY, f32::min);
    assert!(margin > 5e-3, "a membrane lies {margin} from the threshold");
    let mut back = d.clone();
    neuron.backward(threshold, &u, &outputs, &mut back, n_steps);
    let d_kernel = lateral_gradient(&kernel, &current, &mut back, n_units).map(|d| d as f32);
    let value = |current: &[f32], kernel: &[f32]| weighted(&run(current, kernel).1, &d);
    assert_gradient(&back, &current, 1e-3, 2e-3, |current| value(current, &kernel));
    assert_gradient(&d_kernel, &kernel, 1e-3, 2e-3, |kernel| value(&current, kernel));
}

#[test]
fn gradients_pass_a_window_below_the_threshold_and_all_above() {
    let neuron = Graded { decay: 0.25, window: 0.5 };
    let mut u = vec![-0.1, 0.1, 0.55, 9.0];
    let outputs = neuron.forward(0.5, &mut u, 1);
    assert_eq!(outputs, [0.0, 0.0, 0.55, 9.0]);
    let mut d = vec![1.0; 4];
    neuron.backward(0.5, &u, &outputs, &mut d, 1);
    assert_eq!(d, [0.0, 1.0, 1.0, 1.0]);
}

#[test]
fn graded_outputs_keep_what_is_not_a_number() {
    let outputs = Graded { decay: 0.25, window: 0.5 }.forward(0.5, &mut [f32::NAN, 1.0, 0.0], 1);
    assert!(outputs[0].is_nan() && outputs[1..] == [1.0, 0.0]);
}

#[test]
fn dropout_has_the_gradient_of_what_it_computes() {
    let (n_steps, n) = (3, 24);
    let (outputs, d) = (normals("outputs", n_steps * n), normals("d", n_steps * n));
    for rate in [0.2, 0.8] {
        let keeping = Keeping::new(&outputs, n_steps, rate);
        let mut stream = Seed(3).stream("kept", 0);
        let kept: Vec<bool> = keeping.p.iter().map(|&p| stream.uniform_f64() < p).collect();
        assert!(kept.contains(&true) && kept.contains(&false));
        let clamped = keeping.p.iter().filter(|&&p| p == 0.0).count();
        assert_eq!(clamped > 0, rate == 0.8, "{clamped} are clamped at rate {rate}");
        let value = |outputs: &[f32]| {
            let mut dropped = outputs.to_vec();
            Keeping::new(outputs, n_steps, rate).apply(&kept, &mut dropped);
            weighted(&dropped, &d)
        };
        let mut back = d.clone();
        keeping.backward(&kept, &outputs, &mut back, true);
        assert_gradient(&back, &outputs, 1e-3, 1e-2, value);
        let mut back = d.clone();
        keeping.backward(&kept, &outputs, &mut back, false);
        let value = |outputs: &[f32]| {
            let mut dropped = outputs.to_vec();
            keeping.apply(&kept, &mut dropped);
            weighted(&dropped, &d)
        };
        assert_gradient(&back, &outputs, 1e-2, 1e-3, value);
    }
}

#[test]
fn active_units_are_kept_more_often_and_the_mean_is_kept() {
    let (n_steps, n, rate) = (4, 30, 0.2);
    let outputs: Vec<f32> = normals("outputs", n_steps * n).iter().map(|o| o.max(0.0)).collect();
    let keeping = Keeping::new(&outputs, n_steps, rate);
    let mean = keeping.p.iter().sum::<f64>() / n as f64;
    assert!((mean - (1.0 - rate)).abs() < 1e-12, "{mean}");
    let activity = |i: usize| (0..n_steps).map(|t| f64::from(outputs[t * n + i])).sum::<f64>();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| activity(a).total_cmp(&activity(b)));
    assert!(order.windows(2).all(|w| keeping.p[w[0]] <= keeping.p[w[1]] + 1e-12));
    assert!((keeping.p[order[n - 1]] - 1.0).abs() < 1e-12);
    let n_draws = 20_000;
    let mut sums = vec![0.0; outputs.len()];
    for draw in 0..n_draws {
        let mut stream = Seed(5).stream("kept", draw);
        let kept: Vec<bool> = keeping.p.iter().map(|&p| stream.uniform_f64() < p).collect();
        let mut dropped = outputs.clone();
        keeping.apply(&kept, &mut dropped);
        sums.iter_mut().zip(dropped).for_each(|(s, o)| *s += f64::from(o));
    }
    for (i, (sum, &o)) in sums.iter().zip(&outputs).enumerate() {
        let (mean, p) = (sum / n_draws as f64, keeping.p[i % n]);
        let deviation = f64::from(o) * ((1.0 - p) / p / n_draws as f64).sqrt();
        assert!((mean - f64::from(o)).abs() < 5.0 * deviation + 1e-6, "{i}: {mean} against {o}");
    }
}

#[test]
fn equal_activities_are_kept_alike() {
    let keeping = Keeping::new(&[0.5; 8], 2, 0.25);
    assert_eq!(keeping.p, [0.75; 4]);
    let (kept, mut d) = ([true, true, false, true], vec![1.0; 8]);
    keeping.backward(&kept, &[0.5; 8], &mut d, true);
    let kept = 4.0 / 3.0;
    assert_eq!(d, [kept, kept, 0.0, kept, kept, kept, 0.0, kept]);
}

#[test]
fn the_loss_of_two_views_has_the_gradient_of_its_value() {
    let labels = [2, 0, 1];
    let (z1, z2) = (normals("z1", 12), normals("z2", 12));
    let loss = TwoViews::new([&z1, &z2], &labels);
    let value = |z1: &[f32], z2: &[f32]| TwoViews::new([z1, z2], &labels).value();
    assert_gradient(&loss.gradients[0], &z1, 1e-2, 1e-5, |z1| value(z1, &z2));
    assert_gradient(&loss.gradients[1], &z2, 1e-2, 1e-5, |z2| value(&z1, z2));
}

#[test]
fn equal_views_leave_plain_cross_entropy() {
    let (z, labels) = (normals("z", 20), [1, 4, 0, 2]);
    let loss = TwoViews::new([&z, &z], &labels);
    assert_eq!(loss.divergence, 0.0);
    let plain = Loss::CrossEntropy {}.evaluate(&z, 1, &labels);
    assert!((loss.value() - plain.value).abs() < 1e-7);
    for ((a, b), plain) in loss.gradients[0].iter().zip(&loss.gradients[1]).zip(&plain.gradient) {
        assert_eq!(a, b);
        assert!((2.0 * a - plain).abs() < 1e-7);
    }
}

fn classifier(features: Shape, parameters: &mut Parameters) -> Classifier {
    let settings = Settings {
        neuron: Graded { decay: 0.25, window: 0.0 },
        threshold: 0.3,
        has_lateral: true,
        dropout: 0.2,
        through_p: true,
    };
    Classifier::new(features, [12, 4], &settings, Seed(8), parameters)
}

/// An empty network to lend its parameters to a classifier.
fn empty_net(features: Shape) -> Net {
    let init = Init::Uniform {};
    let description = Description { layers: Vec::new(), conv_init: init, linear_init: init };
    let (neuron, norm, seed) = (neuron::Params::default(), NormKind::BatchNorm {}, Seed(0));
    Net::new(&description, features, &Common { n_steps: 3, neuron, norm, seed }).unwrap()
}

#[test]
fn the_classifier_has_the_gradient_of_what_it_computes() {
    let (features, n_steps) = (Shape::new(3, 2, 1), 3);
    let mut net = empty_net(features);
    let head = classifier(features, &mut net.parameters);
    for p in net.parameters.list.iter_mut().filter(|p| p.kind == Kind::Weight) {
        // Larger weights, so that many neurons speak.
        p.values.iter_mut().for_each(|w| *w *= 2.0);
    }
    let x = normals("features", n_steps * 2 * features.len());
    let workspaces = Workspaces::default();
    let phase = Phase::Training { seed: Seed(0), first: 0 };
    let kept: Vec<bool> = (0..48).map(|i| i % 5 != 2).collect();
    let labels = [3, 1];
    head.forget_forms();
    let run = |net: &Net, x: &[f32]| {
        let context = net.context(phase, n_steps, &workspaces);
        head.forget_forms();
        let trace = head.forward(x.to_vec(), |_| kept.clone(), &context);
        let (z1, z2) = trace.z.split_at(8);
        let loss = TwoViews::new([z1, z2], &labels);
        (trace, loss)
    };
    let (trace, loss) = run(&net, &x);
    assert!(trace.z.iter().any(|&z| z > 0.0));
    let mut gradients = net.parameters.zeros();
    let context = net.context(phase, n_steps, &workspaces);
    let d = head.backward(&trace, &loss.gradients.concat(), &context, &mut gradients);
    assert_gradient(&d, &x, 1e-3, 2e-3, |x| run(&net, x).1.value());
    for (i, p) in net.parameters.list.iter().enumerate() {
        if p.kind == Kind::Threshold {
            assert_eq!(gradients.list[i], [0.0], "{}", p.name);
            continue;
        }
        assert_gradient(&gradients.list[i], &p.values, 1e-3, 3e-3, |values| {
            let mut net = net.clone();
            net.parameters.list[i].values.copy_from_slice(values);
            run(&net, &x).1.value()
        });
    }
}

/// A layer of neurons that learn their threshold, its parameters and its input of one step.
fn one_step(threshold: f32, x: &[f32]) -> (Activation, Parameters, Arc<crate::frames::Signal>) {
    let params = neuron::Params {
        threshold,
        slope: Slope::Rectangle { width: 0.5 },
        ..Params::default().neuron
    };
    let mut parameters = Parameters::default();
    let neuron = Some(Lif::new(&params, "neuron", &mut parameters));
    let input = Arc::new(values(x, Shape::flat(x.len() / 2), 1));
    (Activation { norm: None, neuron }, parameters, input)
}

#[test]
fn at_one_step_the_threshold_mirrors_the_input() {
    let x = normals("x", 40);
    let (layer, parameters, input) = one_step(0.4, &x);
    let spikes = layer.forward(&parameters, &input, None).into_values();
    // Raising inputs and threshold alike changes no spike.
    let raised: Vec<f32> = x.iter().map(|x| x + 0.25).collect();
    let (layer_2, parameters_2, input_2) = one_step(0.65, &raised);
    assert_eq!(layer_2.forward(&parameters_2, &input_2, None).into_values(), spikes);
    let mut gradients = parameters.zeros();
    // More spikes raise the loss: a higher threshold lowers it.
    let d: Vec<f32> = normals("d", 40).iter().map(|d| d.abs()).collect();
    let d = layer.backward(&parameters, &Activation::record(input, None), d, &mut gradients);
    let theta = f64::from(libm::tanhf(parameters.list[0].values[0]));
    let of_theta = f64::from(gradients.list[0][0]) / (1.0 - theta * theta);
    let of_inputs: f64 = d.iter().map(|&d| f64::from(d)).sum();
    assert!((of_theta + of_inputs).abs() < 1e-5 * of_inputs.abs(), "{of_theta} {of_inputs}");
    assert!(of_theta < 0.0);
}

#[test]
fn the_published_network_has_its_size() {
    let task = Task {
        shape: Shape::new(3, 32, 32),
        notation: Notation::Images,
        n_classes: 10,
        n_train: 0,
        seed: Seed(0),
    };
    let (net, _) = network(&Params::default(), &task).unwrap();
    assert_eq!(net.parameters.n_values(), 6_820_282);
    let is_threshold = |p: &&crate::frames::parameters::Parameter| p.kind == Kind::Threshold;
    assert_eq!(net.parameters.list.iter().filter(is_threshold).count(), 102);
}

#[test]
fn the_classifier_takes_the_place_of_the_head() {
    let end = |network: &str| {
        let network: Network = toml::from_str(network).unwrap();
        let layers = features(&network, 10).layers;
        let end = &layers[layers.len() - 2..];
        let names = end.iter().map(|layer| match layer {
            LayerSpec::Neuron => "neuron",
            LayerSpec::AveragePool(_) => "pool",
            LayerSpec::GlobalAverage => "mean",
            LayerSpec::Linear { .. } => "linear",
            _ => "other",
        });
        let is_head =
            |l: &LayerSpec| matches!(l, LayerSpec::Linear { .. } | LayerSpec::Vote { .. });
        assert!(matches!(network, Network::Custom(_)) || !layers.iter().any(is_head));
        names.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(end("vgg-9 = {}"), "neuron pool");
    assert_eq!(end("resnet-19-tebn = {}"), "neuron pool");
    assert_eq!(end("resnet-19 = {}"), "neuron mean");
    assert_eq!(end("vgg-16 = {}"), "neuron mean");
    assert_eq!(end("seven-layer = {}"), "neuron pool");
    assert_eq!(end("densenet = {}"), "neuron mean");
    // Of a list hidden layers stay.
    let list = |end: &str| {
        format!("[custom]\nlayers = [{{ linear = {{ features = 9 }} }}, 'neuron'{end}]")
    };
    assert_eq!(end(&list("")), "linear neuron");
    assert_eq!(end(&list(", { linear = { features = 10 } }")), "linear neuron");
}

/// A learner on four images of 8×8 and the images.
fn learner(set: impl FnOnce(&mut Params)) -> (Ltmd, Inputs) {
    let text = "layers = [{ conv = { channels = 4, stride = 2 } }, 'norm', 'neuron']";
    let description = toml::from_str(text).unwrap();
    let network = Network::Custom(description);
    let mut params = Params { network, hidden: 12, ..Params::default() };
    set(&mut params);
    let shape = Shape::new(1, 8, 8);
    let task = Task { shape, notation: Notation::Images, n_classes: 3, n_train: 4, seed: Seed(2) };
    let images = Images::from_floats(shape, normals("images", 4 * shape.len()));
    (Ltmd::new(&params, &task).unwrap(), Inputs::Images(images))
}

fn step(learner: &mut Ltmd, inputs: &Inputs) {
    let batch = Batch { inputs, rows: &[0, 1, 2, 3], labels: &[0, 1, 2, 0] };
    let ctx = Ctx { seed: Seed(2), epoch: 0, step: 0, n_presented: 0, rate: 1.0 };
    learner.step(&batch, &ctx).unwrap();
}

#[test]
fn a_virtual_batch_of_all_samples_is_the_batch() {
    let (mut whole, inputs) = learner(|_| {});
    let (mut same, _) = learner(|p| p.virtual_batch = 4);
    let (mut halves, _) = learner(|p| p.virtual_batch = 2);
    for learner in [&mut whole, &mut same, &mut halves] {
        step(learner, &inputs);
    }
    assert_eq!(whole.state(), same.state());
    assert_ne!(whole.state(), halves.state());
}

/// Bytes of the forms of the network's first layer, forward and backward.
fn forms(learner: &Ltmd) -> [usize; 2] {
    match &learner.trainer.net.layers[0] {
        Layer::Conv(conv) => conv.forms.n_bytes(),
        other => panic!("{other:?} is a convolution"),
    }
}

#[test]
fn parts_of_a_batch_share_the_forms_of_weights() {
    for (virtual_batch, is_shared) in [(0, false), (2, true)] {
        let (mut learner, inputs) = learner(|p| p.virtual_batch = virtual_batch);
        let batch = Batch { inputs: &inputs, rows: &[0, 1], labels: &[0, 1, 2, 0] };
        let ctx = Ctx { seed: Seed(2), epoch: 0, step: 0, n_presented: 0, rate: 1.0 };
        learner.trainer.forward(&batch, &ctx).unwrap();
        assert_eq!(forms(&learner)[0] > 0, is_shared);
        step(&mut learner, &inputs);
        assert_eq!(forms(&learner), [0; 2]);
    }
}

#[test]
fn thresholds_of_graded_neurons_stay() {
    let (mut learner, inputs) = learner(|_| {});
    let before = learner.trainer.net.parameters.clone();
    step(&mut learner, &inputs);
    for (before, after) in before.list.iter().zip(&learner.trainer.net.parameters.list) {
        let stays = super::is_graded(before);
        assert_eq!(before.values == after.values, stays, "{}", before.name);
    }
}

#[test]
fn evaluation_has_no_dropout() {
    let (other, _) = learner(|p| p.dropout = 0.0);
    let (learner, inputs) = learner(|p| p.dropout = 0.5);
    let batch = Batch { inputs: &inputs, rows: &[0, 1], labels: &[] };
    let input = learner.trainer.source.plain(&batch).unwrap();
    let net = &learner.trainer.net;
    let context = net.context(Phase::Evaluation, 4, &learner.trainer.workspaces);
    let (features, _) = net.evaluate(input, &learner.trainer.workspaces).unwrap();
    let z = learner.classifier.evaluate(features.clone(), &context, &mut Notes::default());
    let kept = |p: &[f64]| vec![true; p.len()];
    // The same weights, without dropout.
    let plain = other.classifier.forward(features, kept, &context);
    assert_eq!(z, plain.z[..z.len()]);
}
