//! Invariants of the method, closed forms, and a task it must learn.

use super::*;
use crate::seed::Seed;
use crate::spikes::{Inputs, Shape, Times};
use proptest::prelude::*;

const N_INPUTS: usize = 60;

fn task(n_classes: usize) -> Task {
    let (shape, notation) = (Shape::flat(N_INPUTS), Notation::Times);
    Task { shape, notation, n_classes, n_train: 400, seed: Seed(5) }
}

fn small() -> Params {
    let (threshold, gap, threshold_learning_rate) = (4.0, 0.05, 0.5);
    Params { threshold, gap, threshold_learning_rate, ..Params::default() }
}

fn ctx(epoch: u64, n_presented: u64) -> Ctx {
    Ctx { seed: Seed(5), epoch, step: 0, n_presented, rate: 1.0 }
}

/// Noisy time templates, one a class; a third of the inputs stays silent.
fn templates(n: usize, n_classes: usize, first: u64) -> (Inputs, Vec<u16>) {
    let mut times = Times::new(Shape::flat(N_INPUTS)).unwrap();
    let mut labels = Vec::new();
    for sample in 0..n as u64 {
        let label = sample % n_classes as u64;
        let mut template = Seed(5).stream("template", label);
        let mut noise = Seed(5).stream("noise", first + sample);
        let time = |_| match template.uniform() * 1.5 {
            t if t < 1.0 => (t + 0.1 * (noise.uniform() - 0.5)).clamp(0.0, 0.99),
            _ => 1.0,
        };
        times.push_dense(&(0..N_INPUTS).map(time).collect::<Vec<f32>>(), 1.0);
        labels.push(label as u16);
    }
    (Inputs::Times(times), labels)
}

fn train(learner: &mut S2stdp, n_epochs: u64) -> EpochReport {
    let (inputs, labels) = templates(400, 4, 0);
    let rows: Vec<usize> = (0..400).collect();
    let batch = Batch { inputs: &inputs, rows: &rows, labels: &labels };
    let mut report = EpochReport::default();
    for epoch in 0..n_epochs {
        learner.step(&batch, &ctx(epoch, epoch * 400)).unwrap();
        report = learner.end_epoch(&ctx(epoch, (epoch + 1) * 400)).unwrap();
    }
    report
}

fn accuracy(learner: &S2stdp) -> f64 {
    let (inputs, labels) = templates(200, 4, 1_000_000);
    let rows: Vec<usize> = (0..200).collect();
    let batch = Batch { inputs: &inputs, rows: &rows, labels: &labels };
    let predictions = learner.predict(&batch).unwrap();
    let right = predictions.iter().zip(&labels).filter(|(p, l)| p.class == Some(**l)).count();
    right as f64 / 200.0
}

fn variants() -> Vec<(&'static str, Params)> {
    let base = small();
    let plain = Params {
        neurons_per_class: 1,
        non_target_neurons: 0,
        intra_class_wta: false,
        regulation: Regulation::None,
        ..base.clone()
    };
    let free = Params { normalise: false, weight_mean: 0.5, a_minus: -0.01, ..plain.clone() };
    let pcn = Params { neurons_per_class: 2, regulation: Regulation::None, ..base.clone() };
    let reward = Params {
        rule: Rule::RStdp,
        neurons_per_class: 5,
        threshold: 7.0,
        a_minus: -0.005,
        output_dropout: 0.1,
        weight_mean: 0.8,
        weight_min: 0.2,
        weight_max: 0.8,
        ..free.clone()
    };
    vec![
        ("ncg", base.clone()),
        ("cr-1", Params { regulation: Regulation::OneThreshold, ..base }),
        ("pcn", pcn),
        ("s2-stdp", plain),
        ("sstdp", Params { rule: Rule::Sstdp, ..free }),
        ("r-stdp", reward),
    ]
}

#[test]
fn every_variant_learns_noisy_templates() {
    for (name, params) in variants() {
        let mut learner = S2stdp::new(&params, &task(4)).unwrap();
        let report = train(&mut learner, 6);
        let right = accuracy(&learner);
        assert!(right >= 0.95, "{name}: {right}, {:?}", report.metrics);
    }
}

/// In the first epoch, where the regulation has not been annealed away.
#[test]
fn regulation_shares_the_wins_out() {
    let balance = |regulation| {
        let params = Params { regulation, ..small() };
        let report = train(&mut S2stdp::new(&params, &task(4)).unwrap(), 1);
        report.metrics["win_balance"]
    };
    let (with, without) = (balance(Regulation::TwoCompartments), balance(Regulation::None));
    assert!(with > 0.9 && without < 0.5, "{with} against {without}");
}

#[test]
fn stopping_anywhere_and_going_on_changes_no_bit() {
    let (inputs, labels) = templates(90, 4, 0);
    let rows: Vec<usize> = (0..90).collect();
    for (name, params) in variants() {
        let whole = |stop_at: Option<usize>| {
            let mut learner = S2stdp::new(&params, &task(4)).unwrap();
            for epoch in 0..2 {
                for (step, rows) in rows.chunks(30).enumerate() {
                    if stop_at == Some(epoch * 3 + step) {
                        let bytes = learner.state().to_safetensors(&Default::default());
                        let (state, _) = State::from_safetensors(&bytes).unwrap();
                        learner =
                            S2stdp::new(&params, &Task { seed: Seed(99), ..task(4) }).unwrap();
                        learner.restore(&state).unwrap();
                    }
                    let batch = Batch { inputs: &inputs, rows, labels: &labels };
                    let n_presented = (epoch * 90 + step * 30) as u64;
                    learner.step(&batch, &ctx(epoch as u64, n_presented)).unwrap();
                }
                let report = learner.end_epoch(&ctx(epoch as u64, 0)).unwrap();
                if epoch == 1 {
                    return (learner.state(), report.metrics, report.series);
                }
            }
            unreachable!("two epochs")
        };
        let uninterrupted = whole(None);
        for stop_at in [1, 3, 5] {
            assert!(whole(Some(stop_at)) == uninterrupted, "{name}, stopped before {stop_at}");
        }
    }
}

#[test]
fn predictions_do_not_depend_on_the_number_of_threads() {
    let mut learner = S2stdp::new(&small(), &task(4)).unwrap();
    train(&mut learner, 1);
    let (inputs, labels) = templates(100, 4, 7_000);
    let rows: Vec<usize> = (0..100).rev().collect();
    let batch = Batch { inputs: &inputs, rows: &rows, labels: &labels };
    let on = |n_threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        format!("{:?}", pool.install(|| learner.predict(&batch)).unwrap())
    };
    assert_eq!(on(1), on(2));
    assert_eq!(on(1), on(3));
}

#[test]
fn scores_follow_the_decision_order_even_in_silence() {
    let params = Params { threshold: 1e6, ..small() };
    let learner = S2stdp::new(&params, &task(4)).unwrap();
    let (inputs, _) = templates(8, 4, 0);
    let batch = Batch { inputs: &inputs, rows: &[0, 3, 5], labels: &[] };
    for (p, row) in learner.predict(&batch).unwrap().iter().zip([0, 3, 5]) {
        let best = (0..4).max_by(|&a, &b| p.scores[a].total_cmp(&p.scores[b])).unwrap();
        assert_eq!(p.class, Some(best as u16));
        let n_in = inputs.as_times().sample(row).len() as u64;
        assert_eq!((p.n_spikes, p.n_synops, p.decision_time), (n_in, n_in * 20, Some(1.0)));
    }
}

#[test]
fn wrong_tasks_and_samples_are_refused() {
    let message = |r: Result<S2stdp>| r.unwrap_err().to_string();
    let images = Task { notation: Notation::Images, ..task(4) };
    let expected = "s2stdp reads spike times, the encoder gives images";
    assert_eq!(message(S2stdp::new(&small(), &images)), expected);
    let expected = "s2stdp needs at least 2 classes, the data has 1";
    assert_eq!(message(S2stdp::new(&small(), &task(1))), expected);

    let mut learner = S2stdp::new(&small(), &task(4)).unwrap();
    let mut times = Times::new(Shape::flat(N_INPUTS)).unwrap();
    times.push_dense(&[0.5; N_INPUTS], 1.0);
    times.push_dense(&[1.0; N_INPUTS], 1.0);
    let inputs = Inputs::Times(times);
    let mut step = |rows: &[usize], labels: &[u16]| {
        let batch = Batch { inputs: &inputs, rows, labels };
        learner.step(&batch, &ctx(0, 0)).unwrap_err().to_string()
    };
    let expected = "sample 1: no spike before the end of the window, expected at least one";
    assert_eq!(step(&[0, 1], &[0, 0]), expected);
    assert_eq!(step(&[0], &[4, 0]), "sample 0: label 4, expected 0 to 3");
    assert_eq!(step(&[0], &[]), "sample 0 has no label");
}

#[test]
fn params_are_checked_and_written_as_documented() {
    assert_eq!(Params::default().check().found, []);
    for (_, params) in variants() {
        assert_eq!(params.check().found, []);
    }
    let wrong = Params {
        non_target_neurons: 5,
        output_dropout: 1.0,
        a_minus: 0.1,
        weight_mean: -0.3,
        weight_max: 0.0,
        ..Params::default()
    };
    let fields: Vec<_> = wrong.check().found.into_iter().map(|i| i.field).collect();
    let expected = ["non_target_neurons", "output_dropout", "a_minus", "weight_mean", "weight_max"];
    assert_eq!(fields, expected);
    let text = "rule = \"r-stdp\"\nregulation = \"cr-1\"\nanti_a_plus = -0.05";
    let read: Params = toml::from_str(text).unwrap();
    assert_eq!((read.rule, read.regulation), (Rule::RStdp, Regulation::OneThreshold));
    assert_eq!(toml::from_str::<Params>(&toml::to_string(&read).unwrap()).unwrap(), read);
    assert!(toml::from_str::<Params>("treshold = 1.0").is_err());
}

#[test]
fn sums_below_0_are_not_kept() {
    let params = Params { weight_mean: 1e-4, weight_std: 1.0, ..small() };
    assert!(params.check().found.is_empty());
    let message = S2stdp::new(&params, &task(4)).unwrap_err().to_string();
    assert!(message.starts_with("method.s2stdp.weight_mean = 0.0001: with weight_std = 1"));
    assert!(message.ends_with("normalise = true needs sums not below 0"), "{message}");
    assert!(S2stdp::new(&Params { normalise: false, ..params }, &task(4)).is_ok());
}

#[test]
fn two_compartments_leave_losers_at_the_floor() {
    // Four target neurons, η = 1: the winner gains 0.75, the others fall by 0.25 to the floor.
    let params = Params { threshold_learning_rate: 1.0, ..small() };
    let mut learner = S2stdp::new(&params, &task(4)).unwrap();
    let (inputs, _) = templates(1, 4, 0);
    learner.learn(inputs.as_times().sample(0), 0, None).unwrap();
    let mut adaptive = learner.adaptive.clone();
    assert_eq!(adaptive[0], 4.0, "the non-target neuron takes no part");
    assert!(adaptive[5..].iter().all(|&a| a == 4.0), "other classes take no part");
    adaptive[1..5].sort_by(f32::total_cmp);
    assert_eq!(adaptive[1..5], [4.0, 4.0, 4.0, 4.75]);
}

#[test]
fn dropped_neurons_stay_silent_and_empty() {
    let mut learner = S2stdp::new(&small(), &task(4)).unwrap();
    let (inputs, _) = templates(1, 4, 0);
    let active: Vec<bool> = (0..20).map(|n| n % 3 != 0).collect();
    let learned = learner.learn(inputs.as_times().sample(0), 0, Some(&active)).unwrap();
    for n in (0..20).step_by(3) {
        assert_eq!((learned.outputs.times[n], learned.outputs.potentials[n]), (1.0, 0.0));
    }
}

#[test]
fn figures_show_the_probe() {
    let learner = S2stdp::new(&small(), &task(4)).unwrap();
    let (inputs, labels) = templates(6, 4, 0);
    let batch = Batch { inputs: &inputs, rows: &[1, 2], labels: &labels };
    let figures = learner.figures(&batch).unwrap();
    let Figure::Raster { panels, .. } = &figures[0] else { panic!("a raster first") };
    assert_eq!((panels.len(), panels[0].n_neurons), (2, 20));
    assert_eq!(panels[0].highlight, [5, 6, 7, 8, 9]);
    let Figure::Histograms { histograms, .. } = &figures[1] else { panic!("then weights") };
    let n: u64 = histograms.iter().flat_map(|h| &h.counts).sum();
    assert_eq!(n as usize, 20 * N_INPUTS);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// After every update the sums are kept (with normalisation) or the bounds hold (without);
    /// CR-2 never lowers a threshold below the fixed one, and testing never depends on it.
    #[test]
    fn weights_and_thresholds_keep_their_invariants(
        n_samples in 1usize..60,
        first in 0u64..1000,
        regulation in prop::sample::select(vec![Regulation::None, Regulation::TwoCompartments]),
        normalise: bool,
    ) {
        let params = Params { regulation, normalise, ..small() };
        let mut learner = S2stdp::new(&params, &task(4)).unwrap();
        let (inputs, labels) = templates(n_samples, 4, first);
        for (i, &label) in labels.iter().enumerate() {
            let before = learner.adaptive.clone();
            learner.learn(inputs.as_times().sample(i), usize::from(label), None).unwrap();
            let targets = params.targets(usize::from(label));
            for (n, (old, new)) in before.iter().zip(&learner.adaptive).enumerate() {
                prop_assert!(*new >= params.threshold);
                prop_assert!(targets.contains(&n) || old == new);
            }
        }
        let weights = learner.layer.weights();
        prop_assert!(weights.iter().all(|&w| w >= params.weight_min));
        prop_assert!(normalise || weights.iter().all(|&w| w <= params.weight_max));
        for (row, &sum) in weights.chunks_exact(N_INPUTS).zip(&learner.weight_sums) {
            let now: f64 = row.iter().map(|&w| f64::from(w).abs()).sum();
            prop_assert!(!normalise || (now - sum).abs() <= 1e-4 * sum, "{now} against {sum}");
        }
        let outputs = learner.outputs(inputs.as_times().sample(0)).unwrap();
        learner.adaptive.iter_mut().for_each(|a| *a += 1.0);
        prop_assert_eq!(outputs, learner.outputs(inputs.as_times().sample(0)).unwrap());
    }
}
