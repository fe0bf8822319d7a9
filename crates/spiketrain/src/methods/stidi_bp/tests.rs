//! Invariants of the method.

use super::*;
use crate::seed::Seed;
use crate::spikes::{Inputs, Times};

fn task(shape: Shape) -> Task {
    Task { shape, notation: Notation::Times, n_classes: 4, n_train: 0, seed: Seed(5) }
}

fn samples(n_inputs: usize, n: u64) -> Times {
    let mut times = Times::new(Shape::flat(n_inputs)).unwrap();
    for s in 0..n {
        let mut stream = Seed(6).stream("samples", s);
        let dense: Vec<f32> = (0..n_inputs).map(|_| stream.uniform() * 1.4).collect();
        times.push_dense(&dense, 1.0);
    }
    times
}

fn ctx(step: u64) -> Ctx {
    Ctx { seed: Seed(0), epoch: 0, step, n_presented: 20 * step, rate: 1.0 }
}

fn small() -> Params {
    let init = PerLayer::All(Init::Scaled([5.0, 4.0]));
    let (threshold, learning_rate) = (PerLayer::All(1.0), PerLayer::All(0.02));
    Params { hidden: "12".into(), threshold, init, learning_rate, ..Params::default() }
}

#[test]
fn scaling_weights_and_threshold_changes_no_time_and_binary_sees_signs_only() {
    let times = samples(30, 10);
    for weights in [Weights::Real, Weights::Binary] {
        let factor = Some(PerLayer::All(0.3));
        let params = Params { weights, factor, ..small() };
        let one = StidiBp::new(&params, &task(Shape::flat(30))).unwrap();
        let mut other = one.clone();
        for l in 0..2 {
            let scaled: Vec<f32> = one.weights(l).iter().map(|w| w * 4.0).collect();
            other.set_weights(l, &scaled);
            if weights == Weights::Real {
                other.layers[l].threshold *= 4.0;
            }
        }
        let (mut a, mut b) = (Sample::default(), Sample::default());
        for s in 0..10 {
            one.training().forward(times.sample(s), &Variation::default(), &mut a);
            other.training().forward(times.sample(s), &Variation::default(), &mut b);
            assert_eq!((&a.outputs, a.decision), (&b.outputs, b.decision));
            assert!(a.outputs.iter().all(|&t| (1.0..=64.0).contains(&t)));
        }
    }
}

#[test]
fn a_later_input_gives_later_spikes() {
    let params = Params { n_steps: 256, rise: 32, ..small() };
    let learner = StidiBp::new(&params, &task(Shape::flat(30))).unwrap();
    let mut n_spikes = 0;
    for s in 0..20 {
        // Times of a third of the window at most, so that nothing leaves it.
        let mut stream = Seed(7).stream("early", s);
        let early: Vec<f32> = (0..30).map(|_| (stream.uniform() * 85.0).floor()).collect();
        let run = |delay: f32| {
            let mut times = Times::new(Shape::flat(30)).unwrap();
            let dense: Vec<f32> = early.iter().map(|t| (t + delay) / 255.0).collect();
            times.push_dense(&dense, 1.0);
            let mut sample = Sample::default();
            learner.training().forward(times.sample(0), &Variation::default(), &mut sample);
            let hidden = sample.traces[0].times[..12].iter();
            hidden.chain(&sample.outputs).copied().collect::<Vec<f32>>()
        };
        for (now, later) in run(0.0).into_iter().zip(run(40.0)) {
            if now < 216.0 {
                assert_eq!(later, now + 40.0);
                n_spikes += 1;
            }
        }
    }
    assert!(n_spikes > 100, "{n_spikes}");
}

/// Two inputs, early or late, and one that is always early; classes "same" and "different".
#[test]
fn exclusive_or_is_learned() {
    let mut times = Times::new(Shape::flat(3)).unwrap();
    for (a, b) in [(0.0, 0.0), (0.0, 0.5), (0.5, 0.0), (0.5, 0.5)] {
        times.push_dense(&[a, b, 0.0], 1.0);
    }
    let params = Params {
        hidden: "4".into(),
        threshold: PerLayer::All(1.0),
        init: PerLayer::All(Init::Scaled([4.0, 4.0])),
        learning_rate: PerLayer::All(0.1),
        l2: PerLayer::All(0.0),
        margin: 8,
        error_scale: ErrorScale::Output,
        ..Params::default()
    };
    let is_learned = |seed| {
        let task = Task { n_classes: 2, seed: Seed(seed), ..task(Shape::flat(3)) };
        let mut learner = StidiBp::new(&params, &task).unwrap();
        for round in 0..8000 {
            let s = round % 4;
            learner.learn(&[(times.sample(s), usize::from(s == 1 || s == 2))], 1.0).unwrap();
        }
        let mut sample = Sample::default();
        (0..4).all(|s| {
            learner.training().forward(times.sample(s), &Variation::default(), &mut sample);
            sample.decision == usize::from(s == 1 || s == 2)
        })
    };
    // Four hidden neurons do not find the way from everywhere.
    let n_learned = (0..20).filter(|&seed| is_learned(seed)).count();
    assert!(n_learned >= 10, "{n_learned} of 20");
}

#[test]
fn a_class_among_the_earliest_counts_generously() {
    let learner = StidiBp::new(&small(), &task(Shape::flat(30))).unwrap();
    let times = samples(30, 20);
    let mut sample = Sample::default();
    for (s, label) in (0..20).flat_map(|s| (0..4).map(move |label| (s, label))) {
        let prediction = learner.predicting().prediction(times.sample(s), Some(label), &mut sample);
        let label = usize::from(label);
        let earliest = sample.outputs.iter().copied().fold(64.0, f32::min);
        let expected =
            label == sample.decision || (earliest < 64.0 && sample.outputs[label] == earliest);
        assert_eq!(prediction.measures[0].sum == 1.0, expected);
    }
    assert!(
        learner.predicting().prediction(times.sample(0), None, &mut sample).measures.is_empty()
    );
}

#[test]
fn a_margin_that_holds_changes_nothing() {
    let times = samples(30, 200);
    let mut learner =
        StidiBp::new(&Params { l2: PerLayer::All(0.0), ..small() }, &task(Shape::flat(30)))
            .unwrap();
    let mut n_still = 0;
    for round in 0..400 {
        let s = round % 20;
        let before = learner.state();
        let item = (times.sample(s), s % 4);
        let record = learner.learn(&[item], 1.0).unwrap().remove(0);
        if record.times[1] == record.desired {
            n_still += 1;
            for l in 0..2 {
                let name = format!("layer{l}.weight");
                assert_eq!(before.array(&name).unwrap(), learner.state().array(&name).unwrap());
            }
        }
    }
    assert!(n_still > 0, "some samples are learned");
}

#[test]
fn a_layer_of_mini_batches_adds_what_its_samples_add() {
    let times = samples(64, 3);
    let params =
        Params { hidden: "3C3-P2-10".into(), l2: PerLayer::All(0.0), mini_batch: 3, ..small() };
    let start = StidiBp::new(&params, &task(Shape::new(1, 8, 8))).unwrap();
    let change = |rows: &[usize]| -> Vec<f32> {
        let mut learner = start.clone();
        let items: Vec<_> = rows.iter().map(|&s| (times.sample(s), s)).collect();
        learner.learn(&items, 1.0).unwrap();
        let all = |l: &StidiBp| (0..3).flat_map(|k| l.weights(k)).collect::<Vec<f32>>();
        all(&learner).iter().zip(all(&start)).map(|(a, b)| a - b).collect()
    };
    let parts = [change(&[0]), change(&[1]), change(&[2])];
    for (i, together) in change(&[0, 1, 2]).into_iter().enumerate() {
        let sum: f32 = parts.iter().map(|p| p[i]).sum();
        assert!((together - sum).abs() < 1e-5, "{i}: {together} against {sum}");
    }
}

#[test]
fn weights_decay_with_the_samples_learned_from() {
    let times = samples(30, 6);
    let params = Params { l2: PerLayer::All(0.01), ..small() };
    let mut learner = StidiBp::new(&params, &task(Shape::flat(30))).unwrap();
    let (eta, rate, mut kept) = (learner.layers[1].learning_rate, 0.5, 1.0);
    for part in [0..2, 2..5, 5..6] {
        let items: Vec<_> = part.map(|s| (times.sample(s), s % 3)).collect();
        let n_before = learner.n_learned;
        learner.mini_batch(&items, &vec![Variation::default(); items.len()], rate).unwrap();
        kept *= 1.0 - eta * rate * 0.01 * (learner.n_learned - n_before) as f64;
    }
    assert!(kept < 1.0);
    assert_eq!(learner.layers[1].kept, kept);
    let learned = learner.weights(1);
    learner.decay();
    assert!(learner.weights(1).iter().zip(&learned).all(|(w, l)| *w == kept as f32 * l));
    assert_eq!(learner.layers[1].kept, 1.0);
}

#[test]
fn packed_signs_follow_the_weights() {
    for (hidden, shape) in [("12", Shape::flat(64)), ("3C3-P2-10", Shape::new(1, 8, 8))] {
        let params = Params {
            hidden: hidden.into(),
            weights: Weights::Binary,
            factor: Some(PerLayer::All(0.3)),
            init: PerLayer::All(Init::Scaled([0.5, 0.1])),
            learning_rate: PerLayer::All(0.2),
            mini_batch: 2,
            ..small()
        };
        let times = samples(64, 12);
        let mut learner = StidiBp::new(&params, &task(shape)).unwrap();
        let before: Vec<Vec<u16>> = learner.layers.iter().map(|l| l.rows.bits.clone()).collect();
        for pair in 0..6 {
            let items: Vec<_> = [2 * pair, 2 * pair + 1].map(|s| (times.sample(s), s % 4)).into();
            learner.learn(&items, 1.0).unwrap();
        }
        for (layer, before) in learner.layers.iter().zip(&before) {
            let learned = layer.rows.bits.clone();
            assert_ne!(&learned, before, "{hidden}: signs flip");
            let mut afresh = layer.rows.clone();
            afresh.pack();
            assert_eq!(learned, afresh.bits, "{hidden}");
        }
    }
}

#[test]
fn dropout_leaves_spikes_out_and_makes_the_rest_stronger() {
    let times = samples(30, 1);
    let params = Params { dropout: PerLayer::Each(vec![0.5, 0.0]), ..small() };
    let one = StidiBp::new(&params, &task(Shape::flat(30))).unwrap();
    let mut doubled = one.clone();
    let weights: Vec<f32> = one.weights(0).iter().map(|w| 2.0 * w).collect();
    doubled.set_weights(0, &weights);
    let stream = Some(Seed(7).stream("dropout", 0));
    let variation = Variation { dropout: stream, ..Variation::default() };
    let (mut varied, mut whole) = (Sample::default(), Sample::default());
    one.training().forward(times.sample(0), &variation, &mut varied);
    one.training().forward(times.sample(0), &Variation::default(), &mut whole);

    let (left, all) = (&varied.traces[0].input, &whole.traces[0].input);
    assert!(left.iter().zip(all).all(|(l, a)| l == a || *l == 64.0));
    let n_fired = |times: &[f32]| times.iter().filter(|&&t| t < 64.0).count();
    assert!(0 < n_fired(left) && n_fired(left) < n_fired(all));

    let mut trace = Trace::default();
    trace.input.clone_from(left);
    let mut output = Vec::new();
    doubled.layers[0].forward(&params, None, &mut trace, &mut output);
    assert_eq!(output, varied.traces[1].input);
    assert!(n_fired(&output) > 0);
}

#[test]
fn epoch_reports_share_and_time_of_spikes() {
    let times = samples(30, 3);
    let mut learner = StidiBp::new(&small(), &task(Shape::flat(30))).unwrap();
    let mut fired = Vec::new();
    for s in 0..3 {
        let record = learner.learn(&[(times.sample(s), s)], 1.0).unwrap().remove(0);
        fired.extend(record.times[0].iter().copied().filter(|&t| t < 64.0));
    }
    let mut copy = StidiBp::new(&small(), &task(Shape::flat(30))).unwrap();
    copy.restore(&learner.state()).unwrap();
    let ctx = ctx(0);
    let report = learner.end_epoch(&ctx).unwrap().metrics;
    assert_eq!(report, copy.end_epoch(&ctx).unwrap().metrics);
    assert!(!fired.is_empty());
    assert!((report["fired_0"] - fired.len() as f64 / 36.0).abs() < 1e-12);
    let mean = f64::from(fired.iter().sum::<f32>()) / fired.len() as f64;
    assert!((report["time_0"] - mean / 64.0).abs() < 1e-12);
}

#[test]
fn spikes_are_counted_before_the_next_layer_drops_them() {
    for (hidden, shape) in [("12", Shape::flat(64)), ("3C3-P2-10", Shape::new(1, 8, 8))] {
        let inputs = Inputs::Times(samples(64, 20));
        let (labels, rows): (Vec<u16>, Vec<usize>) = (0..20).map(|i| (i % 4, i as usize)).unzip();
        let batch = Batch { inputs: &inputs, rows: &rows, labels: &labels };
        let report = |dropout: f64| {
            let n_layers = hidden.split('-').filter(|part| !part.starts_with('P')).count() + 1;
            let mut shares = vec![dropout; n_layers];
            shares[0] = 0.0;
            let dropout = PerLayer::Each(shares);
            let params = Params { hidden: hidden.into(), dropout, ..small() };
            let mut learner = StidiBp::new(&params, &task(shape)).unwrap();
            learner.step(&batch, &Ctx { rate: 0.0, ..ctx(0) }).unwrap();
            learner.end_epoch(&ctx(0)).unwrap().metrics
        };
        let (whole, thinned) = (report(0.0), report(0.5));
        assert!(whole["fired_0"] > 0.1, "{hidden}: {whole:?}");
        for name in ["fired_0", "time_0"] {
            assert_eq!(whole[name], thinned[name], "{hidden}: {name}");
        }
        assert_ne!(whole["fired_1"], thinned["fired_1"], "{hidden}");
    }
}

/// Specification 4.7 by the plain sum, for every layer, with the signs before or after the update.
#[test]
fn factors_of_binary_weights_are_learned_in_every_layer() {
    let times = samples(64, 24);
    for updated in [false, true] {
        let params = Params {
            hidden: "3C3-P2-10".into(),
            weights: Weights::Binary,
            factor: Some(PerLayer::All(0.3)),
            factor_learning_rate: 0.1,
            init: PerLayer::All(Init::Scaled([0.5, 0.1])),
            learning_rate: PerLayer::All(0.2),
            l2: PerLayer::All(0.0),
            displacement_uses_updated_weights: updated,
            ..small()
        };
        let before = StidiBp::new(&params, &task(Shape::new(1, 8, 8))).unwrap();
        let mut n_changed = [0; 3];
        let mut n_flipped = 0;
        for s in 0..24 {
            let (mut learner, factors) = (before.clone(), before.factors());
            let record = learner.learn(&[(times.sample(s), s % 4)], 1.0).unwrap().remove(0);
            let signs = if updated { &learner } else { &before };
            let sample = &learner.samples[0];
            for l in 0..3 {
                let size = learner.layers[l].size;
                let is_positive = |w: f32| w >= 0.0;
                let pairs = learner.weights(l).into_iter().zip(before.weights(l));
                n_flipped += pairs.filter(|&(a, b)| is_positive(a) != is_positive(b)).count();
                let weights = signs.weights(l);
                let (input, fan_in) = (&sample.traces[l].input, size.fan_in());
                // Input number i of the window at (y, x), and its time.
                let time = |i: usize, y: usize, x: usize| match size.kind {
                    network::Kind::Dense => input[size.input.place(i)],
                    network::Kind::Conv { kernel, .. } => {
                        let (c, dy, dx) = (i / (kernel * kernel), i / kernel % kernel, i % kernel);
                        let row = (y + dy) * size.input.width + x + dx;
                        input[row * size.input.channels + c]
                    }
                };
                let mut sum = 0.0;
                let map = size.output;
                for (k, &e) in record.errors[l].iter().enumerate() {
                    // Of a pooled output the first of the earliest neurons, row by row.
                    let (n, y, x) =
                        (k / (map.height * map.width), k / map.width % map.height, k % map.width);
                    let pool = size.neurons.height / map.height;
                    let neurons =
                        (0..pool * pool).map(|p| (y * pool + p / pool, x * pool + p % pool));
                    let spike = |&(y, x): &(usize, usize)| {
                        record.times[l][(n * size.neurons.height + y) * size.neurons.width + x]
                    };
                    let first = neurons.reduce(|a, b| if spike(&b) < spike(&a) { b } else { a });
                    let (y, x) = first.unwrap();
                    let t = spike(&(y, x));
                    if t == 64.0 && map.len() > map.channels {
                        continue;
                    }
                    for i in (0..fan_in).filter(|&i| time(i, y, x) < t) {
                        let sign = if is_positive(weights[n * fan_in + i]) { 1.0 } else { -1.0 };
                        sum += f64::from(e) * sign;
                    }
                }
                let expected = factors[l] + 0.1 * sum / (fan_in * size.neurons.channels) as f64;
                let factor = learner.factors()[l];
                assert!((factor - expected).abs() < 1e-6, "{l}: {factor}, not {expected}");
                n_changed[l] += usize::from(factor != factors[l]);
            }
        }
        assert!(n_changed.iter().all(|&n| n > 3) && n_flipped > 0, "{n_changed:?} {n_flipped}");
    }
}

/// Specification 10, invariant 1.
#[test]
fn a_neuron_fires_after_an_input_that_excites_it() {
    for (hidden, shape) in [("12", Shape::flat(64)), ("3C3-P2-10", Shape::new(1, 8, 8))] {
        let params = Params { hidden: hidden.into(), ..small() };
        let learner = StidiBp::new(&params, &task(shape)).unwrap();
        let times = samples(64, 20);
        let mut sample = Sample::default();
        let mut n_spikes = 0;
        for s in 0..20 {
            learner.training().forward(times.sample(s), &Variation::default(), &mut sample);
            for (l, layer) in learner.layers.iter().enumerate() {
                let weights = learner.weights(l);
                let (size, trace) = (layer.size, &sample.traces[l]);
                let (fan_in, lanes) = (size.fan_in(), layer.rows.n_lanes());
                for (w, spikes) in trace.times.chunks_exact(lanes).enumerate() {
                    let (y, x) = (w / size.neurons.width, w % size.neurons.width);
                    let time = |row: usize| match size.kind {
                        network::Kind::Dense => trace.input[row],
                        network::Kind::Conv { kernel, .. } => {
                            let (dy, rest) = (
                                row / (kernel * size.input.channels),
                                row % (kernel * size.input.channels),
                            );
                            let first = ((y + dy) * size.input.width + x) * size.input.channels;
                            trace.input[first + rest]
                        }
                    };
                    for (n, &t) in spikes[..size.neurons.channels].iter().enumerate() {
                        assert!((1.0..=64.0).contains(&t));
                        let excites =
                            |i: usize| weights[n * fan_in + i] > 0.0 && time(size.row(i)) < t;
                        let is_caused = t == 64.0 || (0..fan_in).any(excites);
                        assert!(is_caused, "{hidden}: layer {l}, neuron {n} at {t}");
                        n_spikes += u32::from(t < 64.0);
                    }
                }
            }
        }
        assert!(n_spikes > 100, "{hidden}: {n_spikes}");
    }
}

#[test]
fn nothing_is_learned_from_no_samples() {
    for (hidden, shape) in [("12", Shape::flat(64)), ("3C3-P2-10", Shape::new(1, 8, 8))] {
        let params = Params { hidden: hidden.into(), averaging: 0.5, ..small() };
        let mut learner = StidiBp::new(&params, &task(shape)).unwrap();
        let before = learner.state();
        assert!(learner.learn(&[], 1.0).unwrap().is_empty());
        assert_eq!(learner.state(), before);
    }
}

#[test]
fn neurons_that_hardly_fire_get_new_weights() {
    let times = samples(30, 4);
    let params = Params { rescue: 0.01, ..small() };
    let mut learner = StidiBp::new(&params, &task(Shape::flat(30))).unwrap();
    let mut weights = learner.weights(0);
    weights[..60].fill(-1.0);
    learner.set_weights(0, &weights);
    let mut n_fired = [0; 12];
    for s in 0..4 {
        let record = learner.learn(&[(times.sample(s), s % 3)], 0.0).unwrap().remove(0);
        n_fired.iter_mut().zip(&record.times[0]).for_each(|(n, &t)| *n += u32::from(t < 64.0));
    }
    let before = learner.weights(0);
    let ctx = Ctx { seed: Seed(0), epoch: 3, step: 0, n_presented: 0, rate: 1.0 };
    let mut copy = StidiBp::new(&params, &task(Shape::flat(30))).unwrap();
    copy.restore(&learner.state()).unwrap();
    let report = learner.end_epoch(&ctx).unwrap();
    copy.end_epoch(&ctx).unwrap();
    let after = learner.weights(0);
    assert_eq!(after, copy.weights(0));
    assert_eq!(n_fired[..2], [0, 0]);
    assert!(n_fired.iter().any(|&n| n > 0));
    for (j, &n) in n_fired.iter().enumerate() {
        let row = j * 30..(j + 1) * 30;
        assert_eq!(before[row.clone()] == after[row], n > 0, "neuron {j}");
    }
    let n_quiet = n_fired.iter().filter(|&&n| n == 0).count();
    assert_eq!(report.metrics["rescued"], n_quiet as f64);
    assert!(learner.end_epoch(&ctx).unwrap().metrics.contains_key("rescued"));
}

#[test]
fn params_are_checked() {
    assert_eq!(Params::default().check().found, []);
    let wrong = Params {
        hidden: "P2".into(),
        rise: 0,
        threshold: PerLayer::All(0.0),
        margin: 64,
        ..Params::default()
    };
    let fields: Vec<_> = wrong.check().found.into_iter().map(|i| i.field).collect();
    assert_eq!(fields, ["hidden", "rise", "threshold", "margin"]);
    let lists = Params { learning_rate: PerLayer::Each(vec![0.1]), ..Params::default() };
    assert_eq!(lists.check().found[0].field, "learning_rate");
    let all_left_out = Params { dropout: PerLayer::All(1.0), ..Params::default() };
    assert_eq!(all_left_out.check().found[0].field, "dropout");
    let by_slope = Params {
        latency: Latency::Slope,
        displacement: Displacement::Linear,
        displacement_uses_updated_weights: true,
        ..Params::default()
    };
    let found = by_slope.check().found;
    assert_eq!((found.len(), found[0].field.as_str()), (1, "displacement_uses_updated_weights"));
    let before = Params { displacement_uses_updated_weights: false, ..by_slope.clone() };
    let by_weight = Params { displacement: Displacement::Weight, ..by_slope };
    assert!(before.check().found.is_empty() && by_weight.check().found.is_empty());
    let images = Task { notation: Notation::Images, ..task(Shape::flat(30)) };
    assert!(StidiBp::new(&small(), &images).is_err());
}

#[test]
fn the_mean_of_the_weights_predicts_and_survives_the_state() {
    for weights in [Weights::Real, Weights::Binary] {
        let inputs = Inputs::Times(samples(30, 20));
        let (labels, rows): (Vec<u16>, Vec<usize>) = (0..20).map(|i| (i % 4, i as usize)).unzip();
        let batch = Batch { inputs: &inputs, rows: &rows, labels: &labels };
        let make = |params: &Params| StidiBp::new(params, &task(Shape::flat(30))).unwrap();
        let params = Params { weights, factor: Some(PerLayer::All(0.3)), ..small() };
        let mut plain = make(&params);
        let params = Params { averaging: 0.75, ..params };
        let mut averaged = make(&params);
        let mut mean = averaged.weights(0);
        for step in 0..6 {
            plain.step(&batch, &ctx(step)).unwrap();
            averaged.step(&batch, &ctx(step)).unwrap();
            let share = f64::max(0.25, 1.0 / (step + 1) as f64) as f32;
            mean.iter_mut().zip(plain.weights(0)).for_each(|(m, w)| *m += share * (w - *m));
        }
        assert_eq!(plain.weights(0), averaged.weights(0), "learning stays the same");
        assert!(averaged.predicting().layers[0].weights() == mean);

        let mut twin = make(&params);
        twin.restore(&averaged.state()).unwrap();
        assert_eq!(twin.state(), averaged.state());
        let answers = |learner: &StidiBp| format!("{:?}", learner.predict(&batch).unwrap());
        assert_eq!(answers(&twin), answers(&averaged));
        assert_ne!(answers(&plain), answers(&averaged));
        for l in 0..2 {
            plain.set_weights(l, &averaged.predicting().layers[l].weights());
        }
        assert_eq!(answers(&plain), answers(&averaged));
    }
}
