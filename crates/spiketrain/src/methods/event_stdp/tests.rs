//! Closed forms, invariants, and the behaviour on digits against the authors' released filters.

use super::*;
use crate::data::{Data, DataDirs, Limits};
use crate::encode::FitEncoder;
use crate::metrics;
use crate::spikes::Inputs;

/// A rule that is the exact gradient with the given μ, κ and λ, and b = 5·10⁻⁵.
fn rule(learning_rate: f64, depression: f64, disconnect: f64) -> Rule {
    Rule { learning_rate, depression, disconnect, ..Rule::from(&Params::default()) }
}

/// A patch in which the inputs of `steps[t]` spike in step t, without memory.
fn patch(n_inputs: usize, steps: &[&[usize]]) -> Patch {
    let mut trains = Trains::silent(n_inputs, steps.len());
    for (t, inputs) in steps.iter().enumerate() {
        inputs.iter().for_each(|&j| trains.set(j, t));
    }
    let mut patch = Patch::default();
    let kernel = Kernel::new(0.25, 1, 0, 0);
    patch.gather(&trains, (0..n_inputs).map(|j| (j, j)), &kernel);
    patch
}

fn learn(layer: &mut Layer, patch: &Patch) -> Response {
    let mut response = Response::default();
    layer.learn(patch, 1.0, &mut Scratch::default(), &mut response);
    response
}

fn close(a: &[f64], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len());
    for (x, y) in a.iter().zip(b) {
        assert!((x - y).abs() <= tolerance, "{a:?} {b:?}");
    }
}

#[test]
fn one_step_by_hand() {
    let weights = [0.2, 0.8, 0.5, 0.6, 0.1, 0.4];
    // Step 0 is not used.
    let shown = patch(3, &[&[], &[0, 2]]);
    let after = |threshold, kappa| {
        let mut layer = Layer::new(rule(0.1, kappa, 0.1), 3, threshold, &weights, Simd::best());
        close(&layer.shares(&shown, 1), &[0.425_557, 0.574_443], 1e-6);
        let response = learn(&mut layer, &shown);
        (response, layer)
    };
    let (response, layer) = after(0.5, 1.0);
    assert_eq!((response.counts, response.n_steps, response.n_active), (vec![0, 1], 1, 1));
    close(&layer.weights(), &[0.2, 0.8, 0.5, 0.634, 0.089, 0.456], 1e-12);
    assert_eq!(layer.threshold(), 0.5);
    // ½[(1 − .6)² + .1² + (1 − .4)² + .1(.36 + .01 + .16)]
    assert!((response.loss - 0.2915).abs() < 1e-12, "{}", response.loss);
    let (_, layer) = after(0.5, 0.75);
    close(&layer.weights(), &[0.2, 0.8, 0.5, 0.634, 0.091_75, 0.456], 1e-12);
    let (response, layer) = after(0.4, 1.0);
    assert_eq!((response.counts, layer.threshold()), (vec![1, 1], 0.4 + 5e-5));
    let (response, layer) = after(0.6, 1.0);
    assert_eq!((response.counts, layer.threshold()), (vec![0, 0], 0.6 - 5e-5));
    close(&layer.weights(), &weights, 0.0);
}

#[test]
fn a_neuron_that_always_spikes_goes_exponentially_to_its_fixed_point() {
    for (lambda, on, off) in [(0.0, 0.575_482, 0.181_936), (0.1, 0.557_729, 0.173_059)] {
        let mut layer = Layer::new(rule(5e-4, 1.0, lambda), 2, 0.5, &[0.3, 0.3], Simd::best());
        let steps: Vec<&[usize]> = vec![&[0]; 1001];
        learn(&mut layer, &patch(2, &steps));
        let shrunk = libm::pow(1.0 - 5e-4 * (1.0 + lambda), 1000.0);
        let fixed = 1.0 / (1.0 + lambda);
        let expected = [fixed + (0.3 - fixed) * shrunk, 0.3 * shrunk];
        close(&layer.weights(), &expected, 1e-9);
        close(&layer.weights(), &[on, off], 1e-6);
    }
}

#[test]
fn random_inputs_lead_to_the_fixed_point() {
    let check = |q: f32, kappa: f64, lambda: f64, expected: f64| {
        let mut layer = Layer::new(rule(5e-4, kappa, lambda), 1, 0.5, &[0.5], Simd::best());
        let mut stream = Seed(2).stream("test", 0);
        let (mut trains, mut patch) = (Trains::default(), Patch::default());
        let (mut sum, n) = (0.0, 200);
        for i in 0..n {
            trains.draw(&[q], 1001, &mut stream);
            patch.gather(&trains, [(0, 0)].into_iter(), &Kernel::new(0.25, 10, 0, 0));
            learn(&mut layer, &patch);
            sum += if i >= n / 2 { layer.weights()[0] } else { 0.0 };
        }
        let mean = sum / f64::from(n / 2);
        assert!((mean - expected).abs() < 0.01, "{q} {kappa} {lambda}: {mean}, not {expected}");
    };
    check(0.5, 1.0, 0.0, 0.5);
    check(0.5, 0.75, 0.0, 0.5714);
    check(0.5, 1.0, 0.1, 0.4545);
    check(0.3, 0.75, 0.0, 0.3636);
    check(0.9, 1.0, 0.1, 0.8182);
}

/// Random weights and patches of 10 inputs for `n_neurons` neurons.
fn random(n_neurons: usize) -> (Vec<f64>, Vec<Patch>) {
    let mut stream = Seed(4).stream("test", n_neurons as u64);
    let weights = (0..10 * n_neurons).map(|_| stream.uniform_f64()).collect();
    let kernel = Kernel::new(0.5, 4, 0, 1);
    let patches = (0..20)
        .map(|_| {
            let p: Vec<f32> = (0..10).map(|_| stream.uniform()).collect();
            let (mut trains, mut patch) = (Trains::default(), Patch::default());
            trains.draw(&p, 70, &mut stream);
            patch.gather(&trains, (0..10).map(|j| (j, j)), &kernel);
            patch
        })
        .collect();
    (weights, patches)
}

#[test]
fn only_rows_of_spiking_neurons_change_and_weights_stay_inside() {
    let (weights, patches) = random(6);
    let mut rule = rule(0.3, 1.0, 0.2);
    rule.threshold_rate = 1e-3;
    let mut layer = Layer::new(rule, 10, 0.3, &weights, Simd::best());
    for p in &patches {
        let (before, theta) = (layer.weights(), layer.threshold());
        for t in 1..p.n_steps {
            let shares = layer.shares(p, t);
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            let above = shares.iter().filter(|s| **s >= theta).count();
            assert!(above <= (1.0 / theta) as usize, "{above} shares of {theta}");
        }
        let response = learn(&mut layer, p);
        let after = layer.weights();
        for (i, &n) in response.counts.iter().enumerate() {
            let row = 10 * i..10 * (i + 1);
            assert_eq!(n == 0, before[row.clone()] == after[row], "neuron {i}, {n} spikes");
        }
        assert!(after.iter().all(|w| (0.0..=1.0).contains(w)));
    }
}

/// Learns `patches` step by step from the equations, without any of the layer's shortcuts.
fn reference(rule: &Rule, threshold: f64, weights: &[f64], patches: &[Patch]) -> (Vec<f64>, f64) {
    let (mut w, mut theta) = (weights.to_vec(), threshold);
    let n = weights.len() / 10;
    let mut h = vec![0.0; n];
    for p in patches {
        for t in 1..p.n_steps {
            let mut y = [0.0; 10];
            let mut s = [false; 10];
            for (l, &j) in p.live.iter().enumerate() {
                y[j as usize] = p.traces[l * p.n_steps + t];
                let words = &p.causal[l * p.n_words()..];
                s[j as usize] = words[t / 64] >> (t % 64) & 1 == 1;
            }
            let u: Vec<f64> = (0..n)
                .map(|i| {
                    let row = &w[10 * i..10 * (i + 1)];
                    let half = 0.5 * row.iter().map(|w| w * w).sum::<f64>();
                    let dot: f64 = row.iter().zip(&y).map(|(w, y)| w * y).sum();
                    dot - h[i] - if rule.exact_distance { half } else { 0.0 }
                })
                .collect();
            let sum: f64 = u.iter().map(|u| libm::exp(*u)).sum();
            let share = |i: usize| libm::exp(u[i]) / sum;
            let mut fired: Vec<usize> = (0..n).filter(|&i| share(i) >= theta).collect();
            if rule.single_winner {
                let best = (0..n).max_by(|&a, &b| u[a].total_cmp(&u[b])).unwrap();
                fired.retain(|&i| i == best);
            }
            for &i in &fired {
                for j in 0..10 {
                    let x = &mut w[10 * i + j];
                    let strength = 1.0 + rule.disconnect;
                    *x += if s[j] {
                        rule.learning_rate * (1.0 - strength * *x)
                    } else {
                        -rule.learning_rate * rule.depression * strength * *x
                    };
                    *x = x.clamp(0.0, 1.0);
                }
            }
            for i in 0..n {
                let spike = f64::from(u8::from(fired.contains(&i)));
                h[i] += rule.homeostasis * (spike - rule.target_spikes / n as f64);
            }
            theta += rule.threshold_rate * (fired.len() as f64 - rule.target_spikes);
        }
    }
    (w, theta)
}

/// A layer with the same weights, threshold and offsets goes on to the same bits.
fn assert_resumes(layer: &Layer, patches: &[Patch]) {
    let (weights, theta) = (layer.weights(), layer.threshold());
    let n_inputs = layer.n_inputs();
    let mut restored = Layer::new(layer.rule.clone(), n_inputs, 0.5, &weights, Simd::best());
    restored.restore(&weights, theta, layer.offsets());
    let mut layer = layer.clone();
    for p in patches {
        assert_eq!(learn(&mut layer, p), learn(&mut restored, p));
        let bits = |l: &Layer| -> Vec<u64> {
            let shares = (1..p.n_steps).flat_map(|t| l.shares(p, t));
            let all = l.weights().into_iter().chain(l.offsets().to_vec()).chain(shares);
            all.chain([l.threshold()]).map(f64::to_bits).collect()
        };
        assert_eq!(bits(&layer), bits(&restored));
    }
}

#[test]
fn every_option_and_instruction_set_agrees_with_the_equations() {
    for n_neurons in [1, 5, 20, 45] {
        let (weights, patches) = random(n_neurons);
        for variant in 0..6 {
            let mut rule = rule(0.02, 0.75, 0.1);
            rule.threshold_rate = 1e-3;
            rule.exact_distance = variant == 1 || variant == 5;
            rule.single_winner = variant == 2;
            rule.homeostasis = if variant == 3 || variant == 5 { 0.01 } else { 0.0 };
            rule.target_spikes = if variant == 4 && n_neurons > 1 { 1.5 } else { 1.0 };
            let threshold = 1.5 / n_neurons as f64;
            let (expected, theta) = reference(&rule, threshold, &weights, &patches);
            let mut bits: Vec<Vec<u64>> = Vec::new();
            for simd in Simd::available() {
                let mut layer = Layer::new(rule.clone(), 10, threshold, &weights, simd);
                patches.iter().for_each(|p| drop(learn(&mut layer, p)));
                close(&layer.weights(), &expected, 1e-9);
                assert!((layer.threshold() - theta).abs() < 1e-9);
                assert_resumes(&layer, &patches);
                bits.push(layer.weights().iter().map(|w| w.to_bits()).collect());
                let (mut shown, mut learned) = (Response::default(), Response::default());
                let mut scratch = Scratch::default();
                let before = layer.clone();
                layer.respond(&patches[0], &mut scratch, &mut shown);
                assert_eq!(layer.weights(), before.weights());
                let mut still = before;
                still.rule.learning_rate = 0.0;
                still.rule.threshold_rate = 0.0;
                still.rule.homeostasis = 0.0;
                still.learn(&patches[0], 1.0, &mut scratch, &mut learned);
                learned.loss = 0.0;
                assert_eq!(shown, learned, "showing is learning without change");
            }
            assert!(bits.windows(2).all(|b| b[0] == b[1]), "instruction sets differ");
        }
    }
}

#[test]
fn with_one_neuron_the_order_of_patches_hardly_matters() {
    let (_, mut patches) = random(1);
    let result = |patches: &[Patch]| {
        let mut layer = Layer::new(rule(5e-4, 1.0, 0.0), 10, 0.5, &[0.5; 10], Simd::best());
        patches.iter().for_each(|p| drop(learn(&mut layer, p)));
        layer.weights()
    };
    let forward = result(&patches);
    patches.reverse();
    close(&forward, &result(&patches), 0.1);
}

/// The first digits of MNIST in file order, as far as the bundled selection holds them.
fn digits(n: usize) -> (Inputs, Inputs) {
    let limits = Limits { n_train: Some(n), n_test: Some(40), draw: None };
    let data = Data::MnistMini(limits).load(&DataDirs::new(Some("nowhere".into()))).unwrap();
    (Inputs::Images(data.train.images), Inputs::Images(data.test.images))
}

fn learner(params: &Params, shape: Shape, seed: u64) -> EventStdp {
    let (notation, seed) = (Notation::Images, Seed(seed));
    EventStdp::new(params, &Task { shape, notation, n_classes: 0, n_train: 0, seed }).unwrap()
}

fn ctx_of(learner: &EventStdp, step: u64) -> Ctx {
    Ctx { seed: learner.seed, epoch: 0, step, n_presented: step, rate: 1.0 }
}

/// Learns from the samples `rows`, one a step.
fn train(learner: &mut EventStdp, inputs: &Inputs, rows: std::ops::Range<usize>) {
    for row in rows {
        let ctx = ctx_of(learner, row as u64);
        learner.step(&Batch { inputs, rows: &[row], labels: &[] }, &ctx).unwrap();
    }
}

fn test_metrics(learner: &EventStdp, inputs: &Inputs) -> crate::learner::Metrics {
    let rows: Vec<usize> = (0..inputs.len()).collect();
    let predictions = learner.predict(&Batch { inputs, rows: &rows, labels: &[] }).unwrap();
    metrics::evaluate(&predictions, &[], 0).metrics
}

/// Specification G1: weight statistics of the authors' released filters after 100 and 1,000
/// images (mean 0.323, deviation 0.339, share below 0.1 0.429, cosine 0.465; then 0.254, 0.329).
#[test]
fn released_program_mode_has_the_statistics_of_the_released_filters() {
    let params = Params { depression: 0.75, kernel_shift: 4, ..Params::default() };
    let (inputs, _) = digits(1000);
    let mut learner = learner(&params, inputs.shape(), 0);
    train(&mut learner, &inputs, 0..100);
    let s = WeightStatistics::of(&learner.layer.weights(), 25);
    assert!((s.mean - 0.33).abs() < 0.03, "{s:?}");
    assert!((s.deviation - 0.33).abs() < 0.02, "{s:?}");
    assert!((0.36..0.46).contains(&s.below_01), "{s:?}");
    assert!((0.43..0.53).contains(&s.cosine), "{s:?}");
    train(&mut learner, &inputs, 100..1000);
    let s = WeightStatistics::of(&learner.layer.weights(), 25);
    assert!((s.mean - 0.26).abs() < 0.03, "{s:?}");
    assert!((0.30..0.42).contains(&s.cosine), "{s:?}");
}

/// Specification G2, and the running mean of one spike a step.
#[test]
fn specification_mode_reconstructs_digits_the_better_the_more_it_saw() {
    let (inputs, test) = digits(100);
    let mut learner = learner(&Params::default(), inputs.shape(), 0);
    let mut errors = Vec::new();
    for rows in [0..1, 1..10, 10..100] {
        learner.tally = Tally::new(learner.layer.n_neurons());
        train(&mut learner, &inputs, rows);
        errors.push(test_metrics(&learner, &test)["d2_overlap_rms"]);
    }
    assert!(errors.windows(2).all(|e| e[1] < e[0]), "{errors:?}");
    let metrics = test_metrics(&learner, &test);
    assert!(metrics["d2_overlap_rms"] <= 0.12, "{metrics:?}");
    assert!(metrics["d2_tiled_rms"] <= 0.175, "{metrics:?}");
    assert!(metrics["d1_overlap_rms"] <= 0.135, "{metrics:?}");
    let spikes = learner.tally.report().metrics["spikes_per_step"];
    assert!((spikes - 1.0).abs() <= 0.02, "{spikes}");
}

#[test]
fn what_cannot_be_learned_from_is_named() {
    let task = |notation, side| {
        let shape = Shape::new(1, side, side);
        Task { shape, notation, n_classes: 0, n_train: 0, seed: Seed(0) }
    };
    let error =
        |params: &Params, task: &Task| EventStdp::new(params, task).unwrap_err().to_string();
    let params = Params::default();
    let message = error(&params, &task(Notation::Times, 28));
    assert_eq!(message, "event-stdp reads images, the encoder gives spike times");
    assert_eq!(error(&params, &task(Notation::Images, 4)), "patches of 5×5 in images of 1×4×4");
    let params = Params { sampling: Sampling::Random, code: Code::Grey, ..params };
    assert_eq!(params.check().found[0].field, "decoder");
    let flat = Inputs::Images(Images::from_floats(Shape::new(1, 20, 20), vec![0.0; 400]));
    let mut learner = learner(&params, flat.shape(), 0);
    let ctx = Ctx { seed: Seed(0), epoch: 0, step: 0, n_presented: 0, rate: 1.0 };
    let batch = Batch { inputs: &flat, rows: &[0], labels: &[] };
    let message = learner.step(&batch, &ctx).unwrap_err().to_string();
    assert!(message.contains("has no patch of 5×5, 10 pixels from its border"), "{message}");
}

/// Specification 4.4 and 8.1: a patch without a spike is neither learned from nor counted.
#[test]
fn random_patches_without_a_spike_are_skipped() {
    let params = Params {
        sampling: Sampling::Random,
        patches_per_image: 20,
        border: 0,
        min_deviation: 0.0,
        decoder: Decoder::Vq,
        homeostasis: 0.01,
        ..Params::default()
    };
    let shape = Shape::new(1, 6, 12);
    // The left half is black.
    let half = |i: usize| if i % 12 < 6 { 0.0 } else { 0.5 };
    let values = (0..72).map(|_| 0.0).chain((0..72).map(half)).collect();
    let inputs = Inputs::Images(Images::from_floats(shape, values));
    let mut learner = learner(&params, shape, 0);
    let before = learner.layer.clone();
    train(&mut learner, &inputs, 0..1);
    assert_eq!(learner.layer.threshold(), before.threshold());
    assert_eq!(learner.layer.offsets(), before.offsets());
    assert_eq!(learner.end_epoch(&ctx_of(&learner, 1)).unwrap().metrics["patches"], 0.0);
    train(&mut learner, &inputs, 1..2);
    let n_learned = learner.end_epoch(&ctx_of(&learner, 2)).unwrap().metrics["patches"];
    assert!(0.0 < n_learned && n_learned < 20.0, "{n_learned}");
    let images = inputs.as_images();
    assert!(learner.read(images, 0).unwrap().spikes_per_patch.is_empty());
    let n_counted = learner.read(images, 1).unwrap().spikes_per_patch.len();
    assert!(0 < n_counted && n_counted < 20, "{n_counted}");
}

/// Images of discs that cover one another: the edges of a natural scene, at every orientation.
fn dead_leaves(n: usize, side: usize) -> Images {
    let mut values = Vec::new();
    for i in 0..n {
        let mut stream = Seed(9).stream("test.leaves", i as u64);
        let mut image = vec![0.0f32; side * side];
        for _ in 0..400 {
            let size = side as f32;
            let (x, y) = (size * stream.uniform(), size * stream.uniform());
            let radius = 4.0 / (0.1 + 0.9 * stream.uniform());
            let grey = stream.uniform();
            for (k, v) in image.iter_mut().enumerate() {
                let (dx, dy) = ((k % side) as f32 - x, (k / side) as f32 - y);
                if dx * dx + dy * dy < radius * radius {
                    *v = grey;
                }
            }
        }
        values.extend(image);
    }
    Images::from_floats(Shape::new(1, side, side), values)
}

/// Specification G4, on a small budget and scenes of edges in place of photographs: filters of
/// whitened scenes are Gabor functions, and homeostasis keeps every neuron at work.
#[test]
fn scenes_give_gabor_filters_that_are_all_used() {
    let scenes = dead_leaves(6, 96);
    let encoder = crate::encode::whiten::Params::default();
    let encoder = encoder.fit(&scenes, Seed(0), &mut |_, _| Ok(())).unwrap();
    let inputs = encoder.encode(&scenes, &mut |_, _| Ok(())).unwrap();
    let params = Params {
        neurons: 24,
        patch: 12,
        code: Code::OnOff,
        contrast: 2.5,
        normalise_contrast: true,
        sampling: Sampling::Random,
        patches_per_image: 250,
        stride: 6,
        learning_rate: 5e-3,
        threshold: 0.25,
        threshold_rate: 1e-4,
        homeostasis: 0.01,
        decoder: Decoder::Vq,
        fit_gabor: true,
        ..Params::default()
    };
    assert!(params.check().found.is_empty());
    let mut learner = learner(&params, inputs.shape(), 0);
    let ctx = |n| Ctx { seed: Seed(0), epoch: n, step: n, n_presented: 6 * n, rate: 1.0 };
    let batch = Batch { inputs: &inputs, rows: &[0, 1, 2, 3, 4, 5], labels: &[] };
    let before = learner.end_epoch(&ctx(0)).unwrap().metrics;
    assert!(before["gabor_median"] < 0.3, "{before:?}");
    learner.step(&batch, &ctx(0)).unwrap();
    learner.step(&batch, &ctx(1)).unwrap();
    learner.end_epoch(&ctx(2)).unwrap();
    learner.step(&batch, &ctx(2)).unwrap();
    let after = learner.end_epoch(&ctx(3)).unwrap().metrics;
    assert!(after["gabor_share"] >= 0.8, "{after:?}");
    assert_eq!(after["neurons_used"], 24.0);
    assert!(after["busiest_neuron"] <= 1.5, "{after:?}");
    let prediction = &learner.predict(&Batch { rows: &[0], ..batch }).unwrap()[0];
    let metrics = metrics::evaluate(std::slice::from_ref(prediction), &[], 0).metrics;
    assert!(metrics["patch_correlation"] > 0.3, "{metrics:?}");
}
