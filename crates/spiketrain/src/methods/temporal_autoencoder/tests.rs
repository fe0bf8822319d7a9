//! The gradient against central differences, silence, bounds, threads, readouts, figures.

use super::network::{Dropout, Goal as Aim, Learning, Network, Sample, Target};
use super::*;
use crate::seed::Seed;
use crate::simd::Simd;
use crate::spikes::{Inputs, Shape};

const N: usize = 25;

/// Samples of 5×5 pixels: a bright row, at a place that depends on the class.
fn bars(n: usize) -> (Inputs, Vec<u16>) {
    let mut times = Times::new(Shape::new(1, 5, 5)).unwrap();
    let labels: Vec<u16> = (0..n).map(|i| (i % 3) as u16).collect();
    for (i, &label) in labels.iter().enumerate() {
        let mut stream = Seed(4).stream("test.bars", i as u64);
        let mut dense = [1.0; N];
        dense.iter_mut().filter(|_| stream.chance(0.1)).for_each(|t| *t = 0.9);
        let row = usize::from(label) * 2 * 5;
        dense[row..row + 5].iter_mut().for_each(|t| *t = 0.1 + 0.3 * stream.uniform());
        times.push_dense(&dense, 1.0);
    }
    (Inputs::Times(times), labels)
}

fn task() -> Task {
    Task {
        shape: Shape::new(1, 5, 5),
        notation: Notation::Times,
        n_classes: 3,
        n_train: 60,
        seed: Seed(3),
    }
}

fn small() -> Params {
    Params {
        hidden: 8,
        n_pulses: 3,
        learning_rate: 0.02,
        nonpulse_weight_mean_multiplier: 0.0,
        ..Params::default()
    }
}

fn small_classifier() -> Params {
    Params { hidden: 12, n_pulses: 3, learning_rate: 0.005, ..Params::classifier() }
}

fn ctx(step: u64) -> Ctx {
    Ctx { seed: Seed(3), epoch: 0, step, n_presented: 0, rate: 1.0 }
}

fn train(learner: &mut dyn Learner, n_steps: u64) -> Vec<f64> {
    let (inputs, labels) = bars(60);
    let loss = |step| {
        let rows: Vec<usize> = (0..10).map(|i| (step as usize * 10 + i) % 60).collect();
        let batch = Batch { inputs: &inputs, rows: &rows, labels: &labels };
        learner.step(&batch, &ctx(step)).unwrap().loss / 10.0
    };
    (0..n_steps).map(loss).collect()
}

/// A dense random network, with inhibition, most of whose neurons fire.
fn random_network(index: u64, sizes: &[usize]) -> (Network, Vec<Vec<(f64, u32)>>) {
    let mut s = Seed(8).stream("test.network", index);
    let neuron = crate::times::alpha::Neuron { decay: 0.5, threshold: 0.4 };
    let n_pulses = 3;
    let mut weights = Vec::new();
    for pair in sizes.windows(2) {
        let n = (pair[0] + n_pulses) * pair[1];
        weights.push((0..n).map(|_| s.normal(0.12, 0.25)).collect::<Vec<f64>>());
    }
    let mut pulses = Vec::new();
    for _ in 1..sizes.len() {
        pulses.push((0..n_pulses).map(|_| 2.0 * s.uniform_f64()).collect::<Vec<f64>>());
    }
    let sample = |_| {
        let mut spikes: Vec<(f64, u32)> =
            (0..sizes[0] as u32).map(|i| (s.uniform_f64(), i)).collect();
        spikes.sort_by(|a, b| a.0.total_cmp(&b.0));
        spikes
    };
    let spikes = (0..3).map(sample).collect();
    (Network::new(neuron, sizes, &weights, &pulses), spikes)
}

/// Dropout of samples, with draws of its own for each.
fn dropout(shares: [f64; 2], n: u64) -> Vec<Dropout> {
    (0..n).map(|i| Dropout { shares, stream: Seed(3).stream("test.dropout", i) }).collect()
}

#[test]
fn dropout_leaves_spikes_out_and_makes_the_rest_stronger() {
    let sizes = [9, 6, 7];
    let (network, spikes) = random_network(0, &sizes);
    let (mut room, mut halved) = (network.activity(), network.activity());
    let target = Target::Label(2);
    let all = &spikes[0];
    let left_out = &dropout([0.5, 0.0], 1)[0];
    let thinned = Sample { spikes: all, target, dropout: Some(left_out) };
    let loss = network.loss(Aim::Classification, &thinned, &mut room);
    let n_pulses = network.pulses(0).len();
    let arrived = room.n_arrivals(0) - n_pulses;
    assert!(0 < arrived && arrived < all.len(), "{arrived} of {}", all.len());
    // The same with twice the weights and without those spikes.
    let mut weights: Vec<Vec<f64>> = (0..2).map(|l| network.weights(l)).collect();
    for of_neuron in weights[0].chunks_exact_mut(sizes[0] + n_pulses) {
        of_neuron[..sizes[0]].iter_mut().for_each(|w| *w *= 2.0);
    }
    let pulses: Vec<Vec<f64>> = (0..2).map(|l| network.pulses(l).to_vec()).collect();
    let doubled = Network::new(network.neuron(), &sizes, &weights, &pulses);
    let mut stream = left_out.stream.clone();
    let kept: Vec<(f64, u32)> = all.iter().copied().filter(|_| !stream.chance(0.5)).collect();
    let whole = Sample { spikes: &kept, target, dropout: None };
    assert_eq!(loss, doubled.loss(Aim::Classification, &whole, &mut halved));
    for n in 0..sizes[1] {
        assert_eq!(room.time(0, n), halved.time(0, n));
    }
}

#[test]
fn conventional_units_refuse_what_only_spiking_ones_do() {
    let fields =
        |params: Params| params.check().found.iter().map(|f| f.field.clone()).collect::<Vec<_>>();
    let set =
        Params { input_jitter: 0.1, dropout: [0.0, 0.1], averaging: 0.9, ..Params::default() };
    assert!(fields(set.clone()).is_empty());
    let conventional = Params { units: Units::Conventional, ..set };
    assert_eq!(fields(conventional), ["input_jitter", "dropout", "averaging"]);
}

#[test]
fn the_gradient_is_the_central_difference_of_the_loss() {
    let no_clips =
        crate::times::alpha::layer::Clips { derivative: f64::INFINITY, gradient: f64::INFINITY };
    let (mut n_checked, mut n_skipped) = (0, 0);
    for index in 0..6 {
        let sizes = [9, 6, 7];
        let (mut network, spikes) = random_network(index, &sizes);
        let goal =
            if index % 2 == 0 { Aim::Reconstruction { latency: 1.0 } } else { Aim::Classification };
        let targets = [0.3, 1.0, 0.8, 0.1, 0.5, 0.6, 0.9];
        let how = Learning {
            goal,
            learning_rate: 0.01,
            learning_rate_pulses: 0.01,
            penalty_no_spike: 0.0,
            clips: no_clips,
            least_weight: f64::NEG_INFINITY,
        };
        // The last networks learn with spikes left out.
        let left_out = dropout([0.2, 0.3], spikes.len() as u64);
        let samples: Vec<Sample<'_>> = spikes
            .iter()
            .zip(&left_out)
            .map(|(spikes, left_out)| {
                let target = match goal {
                    Aim::Reconstruction { .. } => Target::Times(&targets),
                    Aim::Classification => Target::Label(2),
                };
                Sample { spikes, target, dropout: (index >= 4).then_some(left_out) }
            })
            .collect();
        network.gradient(&how, &samples);
        let (by_weight, by_pulse) = network.mean_gradient(samples.len());
        // The published scale of the reconstruction's error.
        let scale = if index % 2 == 0 { 7.0 / 2.0 } else { 1.0 };
        let loss = |weights: &[Vec<f64>], pulses: &[Vec<f64>]| {
            let moved = Network::new(network.neuron(), &sizes, weights, pulses);
            let mut room = moved.activity();
            let sum: f64 = samples.iter().map(|s| moved.loss(goal, s, &mut room)).sum();
            scale * sum / samples.len() as f64
        };
        let weights: Vec<Vec<f64>> = (0..2).map(|l| network.weights(l)).collect();
        let pulses: Vec<Vec<f64>> = (0..2).map(|l| network.pulses(l).to_vec()).collect();
        let mut check = |exact: f64, at: &dyn Fn(f64) -> f64, what: &str| {
            let slope = |h: f64| (at(h) - at(-h)) / (2.0 * h);
            let (found, coarse) = (slope(1e-5), slope(2e-5));
            let size = exact.abs() + 1e-2;
            // Where the two differ, a spike appears or the potential only touches the threshold.
            if (found - coarse).abs() > 1e-6 * size {
                n_skipped += 1;
                return;
            }
            n_checked += 1;
            assert!((exact - found).abs() <= 1e-6 * size, "{index} {what}: {exact}, not {found}");
        };
        for l in 0..2 {
            for i in 0..weights[l].len() {
                let at = |h: f64| {
                    let mut moved = weights.clone();
                    moved[l][i] += h;
                    loss(&moved, &pulses)
                };
                check(by_weight[l][i], &at, "weight");
            }
            for i in 0..pulses[l].len() {
                let at = |h: f64| {
                    let mut moved = pulses.clone();
                    moved[l][i] += h;
                    loss(&weights, &moved)
                };
                check(by_pulse[l][i], &at, "pulse");
            }
        }
    }
    assert!(n_checked > 700 && n_skipped * 20 < n_checked, "{n_checked}, skipped {n_skipped}");
}

#[test]
fn instructions_and_threads_change_no_bit() {
    let (inputs, labels) = bars(40);
    let rows: Vec<usize> = (0..37).collect();
    let batch = Batch { inputs: &inputs, rows: &rows, labels: &labels };
    let states = [1, 2, 3].into_iter().flat_map(|n_threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        Simd::available()
            .into_iter()
            .map(|simd| {
                let mut learner = TemporalAutoencoder::new(&small(), &task()).unwrap();
                learner.network = learner.network.with_simd(simd);
                let learner = pool.install(|| {
                    for step in 0..5 {
                        learner.step(&batch, &ctx(step)).unwrap();
                    }
                    learner
                });
                (
                    learner.state(),
                    format!("{:?}", pool.install(|| learner.predict(&batch)).unwrap()),
                )
            })
            .collect::<Vec<_>>()
    });
    let states: Vec<_> = states.collect();
    assert!(states.iter().all(|s| *s == states[0]));
}

#[test]
fn the_mean_of_the_weights_predicts_and_survives_the_state() {
    let (inputs, labels) = bars(40);
    let rows: Vec<usize> = (0..37).collect();
    let batch = Batch { inputs: &inputs, rows: &rows, labels: &labels };
    let mut plain = TemporalAutoencoder::new(&small(), &task()).unwrap();
    let params = Params { averaging: 0.75, ..small() };
    let mut averaged = TemporalAutoencoder::new(&params, &task()).unwrap();
    let mut mean = vec![0.0; plain.network.weights(0).len()];
    for step in 0..6 {
        plain.step(&batch, &ctx(step)).unwrap();
        averaged.step(&batch, &ctx(step)).unwrap();
        let share = f64::max(0.25, 1.0 / (step + 1) as f64);
        mean.iter_mut().zip(plain.network.weights(0)).for_each(|(m, w)| *m += share * (w - *m));
    }
    assert_eq!(plain.network.state(), averaged.network.state(), "learning stays the same");
    assert_eq!(averaged.network().weights(0), mean);

    let mut twin = TemporalAutoencoder::new(&params, &task()).unwrap();
    twin.restore(&averaged.state()).unwrap();
    assert_eq!(twin.state(), averaged.state());
    let times = |learner: &TemporalAutoencoder| format!("{:?}", learner.predict(&batch).unwrap());
    assert_eq!(times(&twin), times(&averaged));
    assert_ne!(times(&plain), times(&averaged));
    twin.network = averaged.network().clone();
    twin.mean = None;
    assert_eq!(times(&twin), times(&averaged));
}

#[test]
fn a_silent_network_is_woken_by_the_penalty() {
    let params = Params {
        nonpulse_weight_mean_multiplier: -9.0,
        pulse_weight_mean_multiplier: -9.0,
        ..small()
    };
    let mut learner = TemporalAutoencoder::new(&params, &task()).unwrap();
    let (inputs, labels) = bars(60);
    let rows: Vec<usize> = (0..60).collect();
    let batch = Batch { inputs: &inputs, rows: &rows, labels: &labels };
    let mse = |learner: &TemporalAutoencoder| {
        crate::metrics::evaluate(&learner.predict(&batch).unwrap(), &labels, 3).metrics["mse"]
    };
    let black = mse(&learner);
    let nothing = learner.predict(&batch).unwrap();
    assert!(nothing.iter().all(|p| p.reconstruction.iter().flatten().all(|&x| x == 0.0)));
    let losses = train(&mut learner, 4000);
    assert!((losses[0] - black).abs() < 0.05 * black, "{} and {black}", losses[0]);
    assert!(mse(&learner) < 0.5 * black, "{} against black, {black}", mse(&learner));
}

#[test]
fn both_goals_are_learned() {
    let mut learner = TemporalAutoencoder::new(&small(), &task()).unwrap();
    let losses = train(&mut learner, 4000);
    assert!(losses[3999] < 0.03, "{}", losses[3999]);
    let mut learner = TemporalAutoencoder::new(&small_classifier(), &task()).unwrap();
    train(&mut learner, 200);
    let (inputs, labels) = bars(60);
    let rows: Vec<usize> = (0..60).collect();
    let batch = Batch { inputs: &inputs, rows: &rows, labels: &labels };
    let predictions = learner.predict(&batch).unwrap();
    let right = predictions.iter().zip(&labels).filter(|(p, l)| p.class == Some(**l)).count();
    assert!(right >= 58, "{right} of 60");
}

#[test]
fn a_wholly_silent_classifier_has_an_accuracy_of_0() {
    let params = Params {
        nonpulse_weight_mean_multiplier: -9.0,
        pulse_weight_mean_multiplier: -9.0,
        ..small_classifier()
    };
    let learner = TemporalAutoencoder::new(&params, &task()).unwrap();
    let (inputs, labels) = bars(6);
    let batch = Batch { inputs: &inputs, rows: &[0, 1, 2, 3, 4, 5], labels: &labels };
    let predictions = learner.predict(&batch).unwrap();
    assert!(predictions.iter().all(|p| p.class.is_none()));
    assert_eq!(crate::metrics::evaluate(&predictions, &labels, 3).metrics["accuracy"], 0.0);
}

#[test]
fn weights_without_inhibition_and_pulse_times_stay_in_bounds() {
    let params = Params { non_negative: true, learning_rate_pulses: 0.5, ..small() };
    let mut learner = TemporalAutoencoder::new(&params, &task()).unwrap();
    train(&mut learner, 100);
    for l in 0..2 {
        assert!(learner.network.weights(l).iter().all(|&w| w >= 0.0));
        assert!(learner.network.pulses(l).iter().all(|&t| t >= 0.0));
        assert_eq!(learner.network.negative_shares(l), [0.0, 0.0]);
    }
}

#[test]
fn readouts_learn_the_classes_and_survive_the_state() {
    let readouts =
        vec![Readout::Logistic, Readout::NearestNeighbours, Readout::Mlp, Readout::Spiking];
    let (inputs, labels) = bars(60);
    let rows: Vec<usize> = (0..60).collect();
    let batch = Batch { inputs: &inputs, rows: &rows, labels: &labels };
    for units in [Units::Spiking, Units::Conventional] {
        let params = Params { units, readouts: readouts.clone(), ..small() };
        let mut learner = build(&params, &task()).unwrap();
        train(learner.as_mut(), 150);
        assert!(learner.predict(&batch).unwrap()[0].measures.is_empty());
        learner.fit_readout(&batch, &ctx(0)).unwrap();
        let predictions = learner.predict(&batch).unwrap();
        let metrics = crate::metrics::evaluate(&predictions, &labels, 3).metrics;
        for name in ["logistic", "nearest_neighbours"] {
            let accuracy = metrics[&format!("accuracy_{name}")];
            assert!(accuracy > 0.9, "{units:?}, {name}: {accuracy}");
        }
        assert!(metrics.contains_key("accuracy_mlp") && metrics.contains_key("accuracy_spiking"));
        let state = learner.state();
        let mut twin = build(&params, &Task { seed: Seed(77), ..task() }).unwrap();
        twin.restore(&state).unwrap();
        assert_eq!(twin.state(), state);
        assert_eq!(
            format!("{:?}", twin.predict(&batch).unwrap()),
            format!("{predictions:?}"),
            "{units:?}"
        );
    }
}

#[test]
fn figures_show_the_probe() {
    let (inputs, labels) = bars(6);
    let batch = Batch { inputs: &inputs, rows: &[1, 2], labels: &labels };
    let learner = TemporalAutoencoder::new(&small(), &task()).unwrap();
    let figures = learner.figures(&batch).unwrap();
    let Figure::Images { images, labels: names, .. } = &figures[0] else { panic!("images first") };
    assert_eq!((images.len(), names.len(), images[0].len()), (4, 4, N));
    let Figure::Raster { panels, .. } = &figures[1] else { panic!("then the embedding") };
    assert_eq!((panels.len(), panels[0].n_neurons), (2, 8));
    assert!(panels.iter().all(|p| p.times.iter().all(|t| (0.0..=1.0).contains(t))));
    let classifier = TemporalAutoencoder::new(&small_classifier(), &task()).unwrap();
    let Figure::Raster { panels, .. } = &classifier.figures(&batch).unwrap()[0] else {
        panic!("outputs first")
    };
    assert_eq!((panels[0].n_neurons, panels[0].highlight.as_slice()), (3, [1].as_slice()));
    let conventional = build(&Params { units: Units::Conventional, ..small() }, &task()).unwrap();
    assert_eq!(conventional.figures(&batch).unwrap().len(), 1);
}

#[test]
fn wrong_tasks_and_samples_are_refused() {
    let message = |r: Result<Box<dyn Learner>>| r.err().expect("an error").to_string();
    let images = Task { notation: Notation::Images, ..task() };
    let expected = "temporal-autoencoder reads spike times, the encoder gives images";
    assert_eq!(message(build(&small(), &images)), expected);
    let unlabelled = Task { n_classes: 0, ..task() };
    assert!(build(&small(), &unlabelled).is_ok());
    let expected = "temporal-autoencoder needs at least 2 classes to classify, the data has 0";
    assert_eq!(message(build(&small_classifier(), &unlabelled)), expected);
    let mut learner = build(&small_classifier(), &task()).unwrap();
    let (inputs, _) = bars(2);
    let mut step = |labels: &[u16]| {
        let batch = Batch { inputs: &inputs, rows: &[0, 1], labels };
        learner.step(&batch, &ctx(0)).unwrap_err().to_string()
    };
    assert_eq!(step(&[0, 3]), "sample 1: label 3, expected 0 to 2");
    assert_eq!(step(&[0]), "sample 1 has no label");
}

#[test]
fn params_are_checked_and_written_as_documented() {
    let twice = Params { readouts: vec![Readout::Mlp, Readout::Mlp], ..Params::default() };
    let found = twice.check().found;
    assert_eq!((found.len(), found[0].field.as_str()), (1, "readouts"));
    assert_eq!(found[0].allowed, "a list that holds each classifier once");
    assert_eq!(Params::default().check().found, []);
    assert_eq!(Params::classifier().check().found, []);
    let wrong = Params {
        units: Units::Conventional,
        hidden: 0,
        decay: 0.0,
        clip_derivative: -1.0,
        readouts: vec![Readout::Mlp],
        ..Params::classifier()
    };
    let fields: Vec<_> = wrong.check().found.into_iter().map(|i| i.field).collect();
    assert_eq!(fields, ["hidden", "decay", "clip_derivative", "units", "readouts"]);
    let text = "goal = \"classification\"\nreadouts = [\"nearest-neighbours\"]";
    let read: Params = toml::from_str(text).unwrap();
    assert_eq!((read.goal, read.hidden), (Goal::Classification, 32));
    assert_eq!(toml::from_str::<Params>(&toml::to_string(&read).unwrap()).unwrap(), read);
    assert!(toml::from_str::<Params>("latencey = 1.0").is_err());
}
