//! Closed forms, invariants, finite differences, a clocked brute force, and the layer against the
//! single neuron.

use super::layer::*;
use super::*;
use crate::seed::Seed;
use crate::simd::Simd;
use proptest::prelude::*;

/// A neuron of 14 inputs, some of them silent, with mixed weights.
fn random(index: u64) -> (Neuron, Vec<f64>, Vec<f64>) {
    let mut s = Seed(11).stream("test.alpha", index);
    let mut between = |low: f64, high: f64| low + (high - low) * s.uniform_f64();
    let neuron = Neuron { decay: between(0.15, 2.0), threshold: between(0.1, 1.2) };
    let weights = (0..14).map(|_| between(-0.7, 1.3)).collect();
    let times = (0..14).map(|_| between(0.0, 4.0)).map(|t| if t > 3.6 { f64::INFINITY } else { t });
    (neuron, weights, times.collect())
}

fn arrivals(simd: Simd, neuron: Neuron, times: &[f64]) -> Arrivals {
    let mut order: Vec<(f64, u32)> = times.iter().copied().zip(0..).collect();
    order.retain(|(t, _)| t.is_finite());
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut arrivals = Arrivals::default();
    arrivals.set(simd, neuron.decay, (&order, 1.0), &[]);
    arrivals
}

#[test]
fn one_input_fires_from_its_closed_form_on() {
    let neuron = Neuron { decay: 0.7, threshold: 0.4 };
    let least = neuron.decay * std::f64::consts::E * neuron.threshold;
    assert_eq!(neuron.first_spike(&[least * 0.999_999], &[0.3]), None);
    for w in [least * 1.000_001, 2.0 * least, 40.0] {
        let spike = neuron.first_spike(&[w], &[0.3]).unwrap();
        let expected = 0.3 - lambert_w0(-neuron.decay * neuron.threshold / w) / neuron.decay;
        assert!((spike.time - expected).abs() < 1e-12);
        assert!(spike.time <= 0.3 + 1.0 / neuron.decay);
    }
}

#[test]
fn lambert_w_inverts_its_definition() {
    assert_eq!(lambert_w0(-1.0 / std::f64::consts::E), -1.0);
    assert_eq!(lambert_w0(0.0), 0.0);
    assert!(lambert_w0(-0.37).is_nan() && lambert_w0(0.1).is_nan());
    for step in 1..1000 {
        let x = -f64::from(step) / 1000.0 / std::f64::consts::E;
        let w = lambert_w0(x);
        assert!((-1.0..0.0).contains(&w) && (w * libm::exp(w) - x).abs() < 1e-16, "{x}");
    }
}

#[test]
fn a_clocked_brute_force_agrees_as_its_step_shrinks() {
    let (mut n_fired, mut worst) = (0, [0.0f64; 2]);
    for index in 0..1000 {
        let (neuron, weights, times) = random(index);
        let spike = neuron.first_spike(&weights, &times);
        let end = spike.map_or(8.0, |s| s.time + 2e-3);
        for (k, dt) in [1e-3, 1e-4].into_iter().enumerate() {
            // A fine step pays only where the spike is near.
            let from = if k == 0 { 0.0 } else { spike.map_or(7.9, |s| (s.time - 0.05).max(0.0)) };
            let crossing = (0..=((end - from) / dt) as u64)
                .map(|i| from + i as f64 * dt)
                .find(|&t| neuron.potential(&weights, &times, t) >= neuron.threshold);
            match (spike, crossing) {
                (Some(s), Some(t)) => {
                    assert!(t >= s.time - 1e-9, "{index}: {t} before {}", s.time);
                    worst[k] = worst[k].max(t - s.time);
                }
                // A hump that overtops θ for less than a step is missed by the clock.
                (Some(s), None) => assert!(1.0 + s.lambert_w < 0.05, "{index}: {s:?}"),
                (None, crossing) => assert_eq!(crossing, None, "{index}"),
            }
        }
        n_fired += u32::from(spike.is_some());
    }
    assert!((200..900).contains(&n_fired), "{n_fired} of 1000");
    assert!(worst[0] <= 1.001e-3 && worst[1] <= 1.001e-4, "{worst:?}");
}

#[test]
fn the_potential_meets_the_threshold_from_below() {
    for index in 0..400 {
        let (neuron, weights, times) = random(index);
        let Some(s) = neuron.first_spike(&weights, &times) else { continue };
        let v = neuron.potential(&weights, &times, s.time);
        assert!((v - neuron.threshold).abs() < 1e-11, "{index}: {v}");
        let slope = s.sum_a * libm::exp(-neuron.decay * s.time) * (1.0 + s.lambert_w);
        assert!(s.sum_a > 0.0 && (-1.0..0.0).contains(&s.lambert_w) && slope > 0.0);
        assert!((s.by_threshold(neuron) * slope - 1.0).abs() < 1e-9);
    }
}

#[test]
fn derivatives_are_central_differences() {
    let mut n_checked = 0;
    for index in 0..600 {
        let (neuron, weights, times) = random(index);
        let Some(s) = neuron.first_spike(&weights, &times) else { continue };
        if 1.0 + s.lambert_w < 0.05 || times.iter().any(|t| (t - s.time).abs() < 1e-4) {
            continue;
        }
        let h = 1e-5;
        let slope = |f: &dyn Fn(f64) -> f64| (f(h) - f(-h)) / (2.0 * h);
        let time = |n: Neuron, w: &[f64], t: &[f64]| n.first_spike(w, t).unwrap().time;
        let close = |exact: f64, found: f64, what: &str| {
            let tolerance = 1e-6 * (exact.abs() + 1e-2);
            assert!((exact - found).abs() <= tolerance, "{index} {what}: {exact}, not {found}");
        };
        for i in (0..times.len()).filter(|&i| times[i].is_finite()) {
            let moved = |x: &[f64], d: f64| {
                let mut x = x.to_vec();
                x[i] += d;
                x
            };
            let found = slope(&|d| time(neuron, &moved(&weights, d), &times));
            close(s.by_weight(neuron, times[i]), found, "weight");
            let found = slope(&|d| time(neuron, &weights, &moved(&times, d)));
            close(s.by_input(neuron, weights[i], times[i]), found, "input");
        }
        let raised = |d: f64| Neuron { threshold: neuron.threshold + d, ..neuron };
        let found = slope(&|d| time(raised(d), &weights, &times));
        close(s.by_threshold(neuron), found, "threshold");
        n_checked += 1;
    }
    assert!(n_checked > 100, "{n_checked}");
}

/// Everything a layer gives, on one set of instructions.
fn layer(
    simd: Simd,
    neuron: Neuron,
    weights: &Matrix,
    times: &[f64],
) -> (Spikes, Matrix, Vec<f64>, f64) {
    let arrivals = arrivals(simd, neuron, times);
    let mut spikes = Spikes::default();
    first_spikes(simd, neuron, weights, &arrivals, &mut spikes);
    let errors: Vec<Block> = (0..weights.blocks_per_row())
        .map(|b| Block(std::array::from_fn(|l| 0.01 * (b * LANES + l) as f64 - 0.2)))
        .collect();
    let task = Backward {
        neuron,
        weights,
        arrivals: &arrivals,
        spikes: &spikes,
        errors: &errors,
        clips: Clips { derivative: 0.7, gradient: 0.1 },
        first_row: 5,
    };
    let (n_rows, n) = (weights.n_rows(), weights.n_neurons());
    let (mut gradient, mut by_time) = (Matrix::new(n_rows, n), vec![0.0; n_rows]);
    backward(simd, &task, &mut gradient, &mut by_time);
    let reference = arrivals.reference();
    (spikes, gradient, by_time, reference)
}

#[test]
fn a_layer_is_its_neurons_one_by_one_on_all_instructions() {
    for index in 0..40 {
        let (neuron, _, times) = random(index);
        let n = 37;
        let rows: Vec<f64> = (0..n).flat_map(|k| random(1000 + index * 64 + k).1).collect();
        let weights = Matrix::from_rows_of_neurons(times.len(), n as usize, &rows);
        let all = Simd::available().into_iter().map(|simd| layer(simd, neuron, &weights, &times));
        let all: Vec<_> = all.collect();
        for other in &all[1..] {
            assert_eq!(format!("{other:?}"), format!("{:?}", all[0]), "the same bits");
        }
        let (spikes, gradient, by_time, reference) = &all[0];
        let mut expected_by_time = vec![0.0; times.len()];
        for (k, w) in rows.chunks_exact(times.len()).enumerate() {
            let single = neuron.first_spike(w, &times);
            let time = single.map_or(f64::INFINITY, |s| s.time);
            let ours = spikes.time(k, *reference);
            assert!(ours == time || (ours - time).abs() < 1e-9, "{ours} against {time}");
            let g = 0.01 * k as f64 - 0.2;
            for (i, &t) in times.iter().enumerate() {
                let product = |d: f64| (g * d.clamp(-0.7, 0.7)).clamp(-0.1, 0.1);
                let expected = single.map_or(0.0, |s| product(s.by_weight(neuron, t)));
                let ours = gradient.at(i, k);
                assert!((ours - expected).abs() < 1e-8, "{ours} against {expected}");
                let by_input = single.map_or(0.0, |s| product(s.by_input(neuron, w[i], t)));
                expected_by_time[i] += if i >= 5 { by_input } else { 0.0 };
            }
        }
        for (ours, expected) in by_time.iter().zip(&expected_by_time) {
            assert!((ours - expected).abs() < 1e-7, "{ours} against {expected}");
        }
    }
}

#[test]
fn padding_and_silence_stay_silent() {
    let neuron = Neuron { decay: 0.5, threshold: 1.0 };
    let weights = Matrix::from_rows_of_neurons(2, 3, &[-1.0, -1.0, 0.0, 0.0, 9.0, 9.0]);
    for simd in Simd::available() {
        let (spikes, gradient, ..) = layer(simd, neuron, &weights, &[0.1, 0.2]);
        let fired: Vec<usize> = (0..LANES).filter(|&n| spikes.fired(n)).collect();
        assert_eq!(fired, [2]);
        let moved = gradient.blocks().iter().flat_map(|b| b.0).filter(|&g| g != 0.0).count();
        assert!(moved <= 2, "only the neuron that fired has a gradient");
        let (nothing, ..) = layer(simd, neuron, &weights, &[f64::INFINITY; 2]);
        assert!((0..3).all(|n| nothing.time(n, 0.0) == f64::INFINITY));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Shift, scale, units, sums of derivatives, order and late inputs (closed forms).
    #[test]
    fn spikes_keep_their_invariants(index in 2000u64..200_000, c in 0.3f64..3.0) {
        let (neuron, weights, times) = random(index);
        let spike = neuron.first_spike(&weights, &times);
        let near = |a: Option<Spike>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => {
                (a.time - b).abs() <= 1e-9 * (1.0 + b.abs()) / (1.0 + a.lambert_w).max(1e-3)
            }
            (a, b) => a.is_none() == b.is_none(),
        };
        // A hump that just touches may be lost to rounding.
        prop_assume!(spike.is_none_or(|s| s.lambert_w > -1.0 + 1e-3));
        let time = spike.map(|s| s.time);
        let mapped = |x: &[f64], f: &dyn Fn(f64) -> f64| x.iter().map(|&x| f(x)).collect::<Vec<_>>();
        let shifted = neuron.first_spike(&weights, &mapped(&times, &|t| t + c));
        prop_assert!(near(shifted, time.map(|t| t + c)));
        let louder = Neuron { threshold: neuron.threshold * c, ..neuron };
        prop_assert!(near(louder.first_spike(&mapped(&weights, &|w| w * c), &times), time));
        let slower = Neuron { decay: neuron.decay / c, threshold: neuron.threshold * c };
        let scaled = slower.first_spike(&weights, &mapped(&times, &|t| t * c));
        prop_assert!(near(scaled, time.map(|t| t * c)));
        let reversed = |x: &[f64]| x.iter().rev().copied().collect::<Vec<_>>();
        prop_assert!(near(neuron.first_spike(&reversed(&weights), &reversed(&times)), time));
        let Some(s) = spike else { return Ok(()) };
        let late = mapped(&times, &|t| if t > s.time { f64::INFINITY } else { t });
        prop_assert_eq!(neuron.first_spike(&weights, &late), spike);
        let pairs = || weights.iter().zip(&times);
        let by_input: f64 = pairs().map(|(&w, &t)| s.by_input(neuron, w, t)).sum();
        prop_assert!((by_input - 1.0).abs() < 1e-7, "sum of dt*/dt_i is {}", by_input);
        prop_assert!(pairs().all(|(_, &t)| s.by_weight(neuron, t) <= 0.0));
        let by_weight: f64 = pairs()
            .filter(|(_, t)| t.is_finite())
            .map(|(&w, &t)| w * s.by_weight(neuron, t))
            .sum();
        let expected = -neuron.threshold * s.by_threshold(neuron);
        prop_assert!((by_weight - expected).abs() < 1e-7 * (1.0 + expected.abs()));
        let closed = s.lambert_w / (neuron.decay * (1.0 + s.lambert_w));
        prop_assert!((expected - closed).abs() < 1e-7 * (1.0 + expected.abs()));
    }
}
