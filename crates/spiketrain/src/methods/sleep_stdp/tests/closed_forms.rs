//! Closed forms of neurons and plasticity, and what the connections must be.

use super::super::*;
use proptest::prelude::*;

const SIMD: fn() -> Simd = Simd::best;

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

/// At σ = 1 spikes are so rare that adaptation is without effect: 2·10⁻⁵ a step.
#[test]
fn weak_noise_hardly_ever_fires_a_neuron() {
    let mut stream = Seed(4).stream("test", 1);
    let mut neurons = Neurons::at_rest(50);
    let (mut n_spikes, mut noise, n_steps) = (0.0, [0.0; 50], 400_000);
    for _ in 0..n_steps {
        stream.normals(1.0, &mut noise);
        neurons.step(SIMD(), &[0.0; 50], &noise, false);
        n_spikes += neurons.spiked.iter().sum::<f64>();
    }
    let rate = n_spikes / (50.0 * f64::from(n_steps));
    assert!((1.5e-5..2.5e-5).contains(&rate), "{rate}");
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
