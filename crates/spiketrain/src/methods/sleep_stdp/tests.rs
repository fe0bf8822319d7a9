//! Closed forms, invariants and the behaviour of whole runs on small budgets.

use super::plasticity::Decay;
use super::*;
use crate::data::{Data, DataDirs, Dataset, Limits};
use crate::encode::{FitEncoder, resize};
use crate::recipe::{BUILT_IN, Recipe};
use crate::spikes::{Inputs, Shape};
use proptest::prelude::*;

const SIMD: fn() -> Simd = Simd::best;

/// The bundled digits at 15×15 pixels: inputs and labels of training and test split.
fn digits(n_train: usize, n_test: usize) -> [(Inputs, Vec<u16>); 2] {
    let limits = Limits { n_train: Some(n_train), n_test: Some(n_test), draw: Some(1) };
    let dirs = DataDirs { root: "nowhere".into() };
    let Dataset { train, test, shape, .. } = Data::MnistMini(limits).load(&dirs).unwrap();
    let encoder = resize::Params::default().restore(shape, &State::new()).unwrap();
    [train, test].map(|s| (encoder.encode(&s.images, &mut |_, _| Ok(())).unwrap(), s.labels))
}

fn task(seed: u64) -> Task {
    let (shape, notation) = (Shape::new(1, 15, 15), Notation::Images);
    Task { shape, notation, n_classes: 10, n_train: 0, seed: Seed(seed) }
}

/// Shows all training images in batches of `batch`; returns the learner and the growth of the
/// excitatory weights after each batch.
fn trained(
    params: &Params,
    (inputs, labels): &(Inputs, Vec<u16>),
    batch: usize,
) -> (SleepStdp, Vec<f64>) {
    let seed = Seed(7);
    let mut learner = SleepStdp::new(params, &task(seed.0)).unwrap();
    let rows: Vec<usize> = (0..inputs.len()).collect();
    let mut growth = Vec::new();
    for (step, rows) in rows.chunks(batch).enumerate() {
        let n_presented = (step * batch) as u64;
        let ctx = Ctx { seed, epoch: 0, step: step as u64, n_presented, rate: 1.0 };
        learner.step(&Batch { inputs, rows, labels }, &ctx).unwrap();
        growth.push(learner.growth()[0]);
    }
    (learner, growth)
}

fn accuracy(learner: &mut SleepStdp, train: &(Inputs, Vec<u16>), test: &(Inputs, Vec<u16>)) -> f64 {
    let ctx = Ctx { seed: Seed(7), epoch: 1, step: 0, n_presented: 0, rate: 1.0 };
    let all = |s: &(Inputs, Vec<u16>)| (0..s.1.len()).collect::<Vec<usize>>();
    let rows = all(train);
    let batch = Batch { inputs: &train.0, rows: &rows, labels: &train.1 };
    learner.fit_readout(&batch, &ctx).unwrap();
    let rows = all(test);
    let batch = Batch { inputs: &test.0, rows: &rows, labels: &test.1 };
    let predictions = learner.predict(&batch).unwrap();
    let n_right = predictions.iter().zip(&test.1).filter(|(p, l)| p.class == Some(**l)).count();
    n_right as f64 / rows.len() as f64
}

// Closed forms of the neuron.

#[test]
fn a_single_spike_of_weight_one() {
    let synapses = Synapses::given(1, 1, 0, &[(0, 0, 1.0)]);
    let mut neurons = Neurons::at_rest(1);
    let expected =
        [(1, 0.033_333), (2, 0.064_444), (10, 0.245_680), (29, 0.374_133), (30, 0.374_133)];
    for n in 1..=60 {
        let mut input = [0.0];
        let before: &[u16] = if n == 1 { &[0] } else { &[] };
        plasticity::add_rows(&synapses, before, &mut input);
        neurons.step(SIMD(), &input, &[0.0], false);
        if n == 1 {
            assert!((neurons.current[0] - 1.0 / 30.0).abs() < 1e-15);
        }
        let raised = neurons.potential[0] - neurons::V_REST;
        if let Some((_, v)) = expected.iter().find(|(m, _)| *m == n) {
            assert!((raised - v).abs() < 1e-6, "step {n}: {raised}");
        }
        let formula = f64::from(n) * (29.0f64 / 30.0).powi(n - 1) / 30.0;
        assert!((raised - formula).abs() < 1e-9, "step {n}: {raised} against {formula}");
    }
    assert!((neurons.potential[0] - neurons::V_REST - 0.270_619).abs() < 1e-6);
}

#[test]
fn a_constant_current_fires_at_step_53() {
    let mut neurons = Neurons::at_rest(1);
    neurons.current[0] = 18.0 / 30.0;
    for _ in 0..52 {
        neurons.step(SIMD(), &[18.0 / 30.0], &[0.0], false);
        assert_eq!(neurons.spiked, [0.0]);
    }
    let v = neurons.potential[0];
    assert!((v + (-70.0 - v + 18.0) / 30.0 + 54.984_969).abs() < 1e-6);
    neurons.step(SIMD(), &[18.0 / 30.0], &[0.0], false);
    assert_eq!((neurons.spiked[0], neurons.potential[0]), (1.0, neurons::V_RESET));
    neurons.current[0] = 0.0;
    let fired_at = neurons.adaptation[0];
    (0..100).for_each(|_| neurons.step(SIMD(), &[0.0], &[0.0], false));
    assert_eq!(fired_at, 3.0);
    assert!((neurons.adaptation[0] - 1.098_097).abs() < 1e-6);
}

/// Firing of 50 uncoupled neurons driven by membrane noise alone, with and without adaptation.
#[test]
fn noise_alone_makes_neurons_fire() {
    for (std, n_steps, expected) in [
        (2.0, 20_000, [0.0024, 0.0027]),
        (4.0, 8000, [0.0092, 0.0112]),
        (8.0, 4000, [0.022, 0.031]),
        (16.0, 4000, [0.049, 0.083]),
    ] {
        for (adapts, expected) in [true, false].into_iter().zip(expected) {
            let mut stream = Seed(4).stream("test", std as u64);
            let mut neurons = Neurons::at_rest(50);
            let (mut n_spikes, mut noise) = (0.0, [0.0; 50]);
            for _ in 0..n_steps {
                noise.iter_mut().for_each(|x| *x = stream.normal(0.0, std));
                neurons.step(SIMD(), &[0.0; 50], &noise, false);
                n_spikes += neurons.spiked.iter().sum::<f64>();
                if !adapts {
                    neurons.adaptation.fill(0.0);
                }
            }
            let rate = n_spikes / (50.0 * f64::from(n_steps));
            assert!((rate / expected - 1.0).abs() < 0.08, "σ = {std}: {rate}, {expected}");
        }
    }
}

#[test]
fn every_instruction_set_gives_the_same_neurons() {
    let mut stream = Seed(5).stream("test", 0);
    let start = {
        let mut n = Neurons::at_rest(37);
        n.potential.iter_mut().for_each(|v| *v = stream.normal(-60.0, 10.0));
        n
    };
    let input: Vec<f64> = (0..37).map(|_| stream.normal(1.0, 1.0)).collect();
    let noise: Vec<f64> = (0..37).map(|_| stream.normal(0.0, 4.0)).collect();
    let after = |simd| {
        let mut neurons = start.clone();
        (0..50).for_each(|_| neurons.step(simd, &input, &noise, false));
        neurons
    };
    for simd in Simd::available() {
        assert_eq!(after(simd), after(Simd::available()[0]));
    }
}

// Closed forms of plasticity.

/// Change of a synapse when its two neurons spike at the given steps, until `until`.
fn change(params: &Params, inhibitory: bool, t_pre: usize, t_post: usize, until: usize) -> f64 {
    // Input 0, excitatory neurons 0 and, as target, 1 (index 2 of all), inhibitory neuron (3).
    let pre = if inhibitory { 3 } else { 0 };
    let params = Params { n_excitatory: 2, n_inhibitory: 1, ..params.clone() };
    let mut synapses = Synapses::given(1, 2, 1, &[(pre, 1, 1.0)]);
    let mut stdp = Stdp::new(&params, &synapses, SIMD());
    let mut activity = Activity::silent(4, params.ages_start_at_zero);
    let mut last = 1.0;
    for t in 1..=until {
        last = synapses.weights[0];
        activity.now.clear();
        if t == t_post {
            activity.now.push(2);
        }
        if t == t_pre {
            activity.now.push(pre as u16);
        }
        activity.now.sort_unstable();
        activity.grow_older();
        stdp.update(&mut synapses, &activity, None);
        activity.advance();
    }
    synapses.weights[0] - last
}

#[test]
fn pairs_of_spikes() {
    let p = Params::default();
    let near = |found: f64, expected: f64| {
        assert!((found - expected).abs() < 1e-11, "{found} against {expected}");
    };
    for inhibitory in [false, true] {
        near(change(&p, inhibitory, 10, 15, 15), 3.032_653_3e-4);
        near(change(&p, inhibitory, 15, 10, 15), -3.032_653_3e-5);
        near(change(&p, inhibitory, 10, 10, 10), 5e-4);
        // A spike without a partner changes nothing.
        assert_eq!(change(&p, inhibitory, 10, 99, 10), 0.0);
    }
    // The published program reads the order backwards, a step late.
    let published = Params::as_published();
    near(change(&published, false, 10, 15, 16), -3.032_653_3e-4);
    near(change(&published, false, 15, 10, 16), 3.032_653_3e-4);
    near(change(&published, false, 10, 10, 11), 5e-4);
}

/// Random weights, ages and spikes of a small network.
fn random_activity(index: u64, share: f32) -> (Synapses, Activity) {
    let mut stream = Seed(8).stream("activity", index);
    let params = Params { n_excitatory: 20, n_inhibitory: 6, ..Params::default() };
    let mut synapses = Synapses::new(&params, 9, Seed(index)).unwrap();
    synapses.weights.iter_mut().for_each(|w| *w = 0.01 + 3.0 * stream.uniform_f64());
    let mut activity = Activity::silent(35, false);
    for j in 0..35u16 {
        activity.ages[usize::from(j)] = stream.below(256) as u8;
        for list in [&mut activity.before, &mut activity.now] {
            if stream.chance(share) {
                list.push(j);
            }
        }
    }
    for &j in &activity.now {
        activity.ages[usize::from(j)] = 0;
    }
    (synapses, activity)
}

proptest! {
    #[test]
    fn events_and_sweep_are_the_same_update(
        index: u64, share in 0.0f32..=1.0, inverted: bool, late_gate: bool, all: bool,
    ) {
        let (synapses, mut activity) = random_activity(index, share);
        if all {
            activity.now = (0..35).collect();
            activity.ages.fill(0);
        }
        let params = Params {
            n_excitatory: 20,
            n_inhibitory: 6,
            learning_rate_excitatory: 0.5,
            inverted_stdp: inverted,
            late_gate,
            ..Params::default()
        };
        let [a, b] = Stdp::new(&params, &synapses, SIMD()).both_ways(&synapses, &activity);
        prop_assert_eq!(&a.weights, &b.weights);
        prop_assert!(a.weights.iter().all(|w| (0.01..=25.0).contains(w)));
    }
}

// Connectivity.

#[test]
fn connections_have_their_densities_and_no_reciprocal_inhibition() {
    let synapses = Synapses::new(&Params::default(), 225, Seed(1)).unwrap();
    let row = |j: usize| synapses.row(j).map(|s| usize::from(synapses.posts[s]));
    let count = |pres: std::ops::Range<usize>, to: &dyn Fn(usize) -> bool| {
        pres.flat_map(row).filter(|&i| to(i)).count() as f64
    };
    let near = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 0.06);
    near(count(0..225, &|i| i < 200), 225.0 * 200.0 * 0.1);
    near(count(225..425, &|i| i < 200), 200.0 * 199.0 * 0.15);
    near(count(225..425, &|i| i >= 200), 200.0 * 50.0 * 0.2);
    near(count(425..475, &|i| i < 200), 200.0 * 50.0 * 0.25 * 0.8);
    assert_eq!(count(0..225, &|i| i >= 200) + count(425..475, &|i| i >= 200), 0.0);
    for e in 0..200 {
        assert!(row(225 + e).all(|i| i != e), "no synapse of a neuron onto itself");
        for i in row(225 + e).filter(|&i| i >= 200) {
            assert!(row(225 + i).all(|post| post != e), "{e} and {i} reach each other");
        }
    }
    let total = |w: f64, n: f64| w * n;
    let [e, i] = synapses.totals();
    assert!((e - total(0.3, synapses.n_excitatory as f64)).abs() < 1e-9);
    assert!((i - total(0.3, (synapses.weights.len() - synapses.n_excitatory) as f64)).abs() < 1e-9);
}

#[test]
fn normalisation_goes_back_to_the_initial_totals() {
    let (start, _) = random_activity(3, 0.0);
    for by_neuron in [false, true] {
        let mut synapses = start.clone();
        synapses.weights.iter_mut().enumerate().for_each(|(s, w)| *w *= 1.5 + (s % 3) as f64);
        if by_neuron {
            synapses.scale_neurons(0.0, 1e9);
        } else {
            synapses.normalise_layer(0.0, 1e9);
        }
        // The initial weights are 0.3 each; `random_activity` changed them afterwards.
        assert!(synapses.growth().iter().all(|g| (g - 1.0).abs() < 1e-12), "{by_neuron}");
        for post in 0..synapses.n_neurons {
            let column = synapses.column(post);
            let exc = column.iter().filter(|(s, _)| !synapses.is_inhibitory(*s as usize));
            let (n, sum) = exc.fold((0.0, 0.0), |(n, sum), (s, _)| {
                (n + 1.0, sum + synapses.weights[*s as usize])
            });
            if by_neuron {
                assert!((sum - 0.3 * n).abs() < 1e-9, "neuron {post}: {sum} for {n} synapses");
            }
        }
    }
}

// Sleep.

/// A learner in the middle of a run, and the downscaling of its batches.
fn awake(params: &Params) -> (SleepStdp, Option<Decay>) {
    let [train, _] = digits(30, 1);
    let (learner, _) = trained(params, &train, 30);
    let decay = learner.decay(1000);
    (learner, decay)
}

#[test]
fn lazy_downscaling_is_eager_downscaling() {
    let params = Params { contraction: 1e-3, ..Params::default() };
    let (mut lazy, decay) = awake(&params);
    let mut eager = lazy.clone();
    lazy.sleep(&mut decay.clone());
    let mut decay = decay.unwrap();
    decay.start();
    let n_inputs = eager.synapses.n_inputs;
    eager.activity.before.retain(|&p| usize::from(p) >= n_inputs);
    let mut stream = eager.seed.stream("sleep-stdp.noise", eager.n_episodes);
    let mut decay = Some(decay);
    for t in 0..params.window() as usize {
        eager.virtual_step(t, &mut decay, &mut stream);
        if let Some(decay) = &mut decay {
            decay.settle(&mut eager.synapses);
        }
    }
    assert_eq!(lazy.activity, eager.activity);
    for (a, b) in lazy.synapses.weights.iter().zip(&eager.synapses.weights) {
        assert!((a - b).abs() < 1e-12, "{a} against {b}");
    }
}

#[test]
fn downscaling_alone_contracts_by_the_endpoint_rule() {
    let params = Params { sleep_plasticity: false, ..Params::default() };
    let (mut learner, mut decay) = awake(&params);
    let before = learner.synapses.weights.clone();
    (0..28).for_each(|_| assert!(learner.sleep(&mut decay)));
    for (now, then) in learner.synapses.weights.iter().zip(before) {
        let expected = 0.5 * libm::pow(then / 0.5, 0.4);
        assert!((now - expected).abs() < 1e-9, "{now} against {expected}");
    }
}

#[test]
fn sleep_has_no_input_and_little_activity() {
    let (mut learner, mut decay) = awake(&Params::default());
    learner.tally = Tally::default();
    for _ in 0..3 {
        learner.sleep(&mut decay);
        let input_ages = &learner.activity.ages[..225];
        assert!(input_ages.iter().all(|&a| a == 255), "no input spiked in 350 steps");
    }
    let rate = learner.tally.metrics()["sleep_spikes_per_step"];
    assert!((0.2..5.0).contains(&rate), "{rate} spikes a step");
}

#[test]
fn sticky_spikes_take_over_the_network() {
    let sleeps = |sticky_spikes| {
        let mut params = Params { sticky_spikes, ..Params::as_published() };
        params.max_window = Some(60);
        let (mut learner, mut decay) = awake(&params);
        learner.sleep(&mut decay);
        learner.activity.before.len()
    };
    assert!(sleeps(true) > 240);
    assert!(sleeps(false) < 50);
}

#[test]
fn no_sleep_is_a_ratio_of_nothing() {
    let [train, _] = digits(60, 1);
    let none = Params { regularisation: Regularisation::None, ..Params::default() };
    let nothing = Params { sleep_ratio: 0.0, ..Params::default() };
    let (a, _) = trained(&none, &train, 60);
    let (b, _) = trained(&nothing, &train, 60);
    assert_eq!(a.state(), b.state());
}

#[test]
fn early_ends() {
    let ends_after = |early_end, target: f64, contraction| {
        let params = Params {
            early_end,
            contraction,
            target_excitatory: target,
            target_inhibitory: target,
            sleep_plasticity: false,
            ..Params::default()
        };
        let (mut learner, mut decay) = awake(&params);
        learner.synapses.weights.fill(0.6);
        learner.tally = Tally::default();
        learner.sleep(&mut decay);
        learner.tally.sleep_steps
    };
    assert_eq!(ends_after(EarlyEnd::Never, 0.2, 1e-3), 350);
    // The weights fall from 0.6 through 0.3, where they began, toward 0.2: u from ln 3 to ln 1.5
    // in ln(0.369)/ln λ steps.
    let lambda = libm::pow(1e-30, 1.0 / 9800.0);
    let ratio = libm::log(libm::log(1.5) / libm::log(3.0)) / libm::log(lambda);
    let expected = libm::ceil(ratio) as u64;
    assert_eq!(ends_after(EarlyEnd::BelowTarget, 0.2, 1e-30), expected);
    // The band is passed through within a step or two: too fast a fall misses it.
    assert_eq!(ends_after(EarlyEnd::Band, 0.2, 1e-200), 350);
}

// Whole runs.

/// Weights stay inside their bounds under every regularisation, and a network without
/// plasticity stays as it is.
#[test]
fn bounds_hold_and_frozen_weights_stay() {
    let [train, _] = digits(40, 1);
    for regularisation in [
        Regularisation::None,
        Regularisation::Sleep,
        Regularisation::LayerNormalisation,
        Regularisation::SynapticScaling,
    ] {
        let rate = 0.02;
        let params = Params {
            regularisation,
            interval: 500,
            weight_max: 2.0,
            learning_rate_excitatory: rate,
            learning_rate_inhibitory: rate,
            ..Params::default()
        };
        let (learner, growth) = trained(&params, &train, 40);
        assert!(learner.synapses.weights.iter().all(|w| (0.01..=2.0).contains(w)));
        assert!(growth[0] != 1.0, "{regularisation:?}");
        let (frozen, _) = trained(&Params { plastic: false, ..params }, &train, 40);
        assert!(frozen.synapses.weights.iter().all(|&w| w == 0.3));
    }
}

/// Ten times the learning rate on a tenth of the images: batches of 100 in place of 1,000.
fn hurried(params: Params) -> Params {
    Params {
        learning_rate_excitatory: 5e-3,
        learning_rate_inhibitory: 5e-3,
        interval: 350,
        readout_samples: 600,
        frozen_readout: false,
        ..params
    }
}

#[test]
fn a_frozen_network_already_tells_digits_apart() {
    let [train, test] = digits(800, 400);
    let params = Params { plastic: false, frozen_readout: false, ..Params::default() };
    let (mut learner, _) = trained(&params, &train, 800);
    let rate = learner.tally.metrics()["network_spikes_per_step"];
    assert!((3.0..3.6).contains(&rate), "{rate} spikes a step");
    let accuracy = accuracy(&mut learner, &train, &test);
    assert!((0.66..0.82).contains(&accuracy), "{accuracy}");
}

#[test]
fn without_regularisation_the_weights_run_away() {
    let [train, test] = digits(400, 200);
    for params in [
        Params { regularisation: Regularisation::None, ..Params::default() },
        Params { sleep_downscaling: false, ..Params::default() },
    ] {
        let (mut learner, growth) = trained(&hurried(params), &train, 100);
        assert!(growth[0] > 2.5 && growth[3] > 50.0, "{growth:?}");
        let rate = learner.spikes(test.0.as_images(), 0).len() as f64 / 100.0;
        assert!(rate > 200.0, "{rate} spikes a step");
        let accuracy = accuracy(&mut learner, &train, &test);
        assert!(accuracy <= 0.2, "{accuracy}");
    }
}

#[test]
fn sleep_keeps_the_weights_in_bounds_and_the_classes_apart() {
    let [train, test] = digits(800, 400);
    for sleep_plasticity in [true, false] {
        let params = Params { sleep_plasticity, ..Params::default() };
        let (mut learner, growth) = trained(&hurried(params), &train, 100);
        assert!(growth.iter().all(|g| (1.5..12.0).contains(g)), "{growth:?}");
        let largest = learner.synapses.weights.iter().copied().fold(0.0, f64::max);
        assert!(largest < 25.0, "{largest}");
        let accuracy = accuracy(&mut learner, &train, &test);
        assert!(accuracy >= 0.6, "{accuracy}");
    }
}

// The published program's way of counting samples.

#[test]
fn runs_of_equal_labels_are_one_sample_only_if_asked_for() {
    let mut stream = Seed(6).stream("labels", 0);
    let labels: Vec<u16> = (0..200).map(|_| stream.below(10) as u16).collect();
    let counts = (0..400).map(|i| i as u32).collect();
    let records = Records { counts, labels: labels.clone(), rows: (0..200).collect() };
    assert_eq!(records.samples(100, false).labels, labels);
    let merged = records.samples(100, true);
    assert!((172..=188).contains(&merged.labels.len()), "{}", merged.labels.len());
    assert!(merged.labels.windows(2).all(|w| w[0] != w[1]));
    let pair = Records { counts: vec![10, 0, 30, 5], labels: vec![4, 4], rows: vec![0, 1] };
    let samples = pair.samples(100, true);
    assert_eq!((samples.features, samples.labels), (vec![0.2, 0.025], vec![4]));
}

#[test]
fn a_merged_prediction_is_one_for_the_run() {
    let [train, test] = digits(60, 60);
    let params = Params { merge_equal_labels: true, reset_every: 20, ..Params::default() };
    let (mut learner, _) = trained(&params, &train, 60);
    accuracy(&mut learner, &train, &test);
    let rows: Vec<usize> = (0..60).collect();
    let batch = Batch { inputs: &test.0, rows: &rows, labels: &test.1 };
    let predictions = learner.predict(&batch).unwrap();
    for i in (1..60).filter(|i| i % 20 != 0 && test.1[*i] == test.1[i - 1]) {
        assert_eq!(predictions[i].class, predictions[i - 1].class);
        assert!(predictions[i].measures.iter().all(|m| m.name != "merged_accuracy"));
    }
}

#[test]
fn the_published_variants_are_the_published_parameters() {
    for name in ["sleep-stdp-mnist", "sleep-stdp-fashion-mnist"] {
        let text = BUILT_IN.iter().find(|b| b.name == name).unwrap().text;
        for (variant, sleep_ratio) in
            [("published-0", 0.0), ("published-10", 0.1), ("published-20", 0.2)]
        {
            let recipe = Recipe::parse(name, text, Some(variant), &[]).unwrap();
            let expected = Params { sleep_ratio, ..Params::as_published() };
            assert_eq!(recipe.method, crate::methods::Method::SleepStdp(expected), "{variant}");
        }
        let recipe = Recipe::parse(name, text, None, &[]).unwrap();
        assert_eq!(recipe.method, crate::methods::Method::SleepStdp(Params::default()));
    }
}
