//! Episodes of sleep.

use super::super::plasticity::Decay;
use super::super::*;
use super::{digits, trained};

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

/// A batch of a whole number of intervals sleeps at its last step too.
#[test]
fn every_episode_of_a_batch_takes_its_share_of_the_contraction() {
    for (n_images, n_steps) in [(350, 3500), (35, 350), (36, 350), (69, 350), (34, 0)] {
        let [train, _] = digits(n_images, 1);
        let ends_at = |lambda| {
            let params = Params {
                learning_rate_excitatory: 0.0,
                learning_rate_inhibitory: 0.0,
                lambda,
                ..Params::default()
            };
            let (learner, _) = trained(&params, &train, n_images);
            assert_eq!(learner.clock, (100 * n_images + n_steps) as u64);
            learner.synapses.weights
        };
        // All weights begin at 0.3.
        let after = |power: f64| 0.5 * libm::pow(0.6, power);
        let lambda = 0.999;
        let by_contraction = if n_steps == 0 { 0.3 } else { after(0.4) };
        let by_lambda = after(libm::pow(lambda, n_steps as f64));
        for (given, expected) in [(None, by_contraction), (Some(lambda), by_lambda)] {
            for w in ends_at(given) {
                assert!((w - expected).abs() < 1e-9, "{n_images} images: {w}, not {expected}");
            }
        }
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
    assert!((0.5..=5.0).contains(&rate), "{rate} spikes a step");
}

#[test]
fn sticky_spikes_take_over_the_network() {
    let sleeps = |sticky_spikes| {
        let mut params = Params { sticky_spikes, ..Params::as_published() };
        params.max_window = Some(50);
        let (mut learner, mut decay) = awake(&params);
        learner.sleep(&mut decay);
        learner.activity.before.len()
    };
    assert!(sleeps(true) >= 249);
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
