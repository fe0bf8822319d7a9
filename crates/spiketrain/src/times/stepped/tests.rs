//! Closed forms, and the walk against a clocked brute force.

use super::*;
use crate::seed::Seed;
use crate::simd::Simd;
use proptest::prelude::*;

fn spike(psp: Psp, n_steps: u16, threshold: f32, weights: &[f32], events: &[Event]) -> f32 {
    let rows = Rows::new(weights.len(), 1, weights, Sign::Real);
    let mut times = vec![0.0; rows.n_lanes()];
    first_spikes(&rows, psp, n_steps, threshold, events, &mut History::default(), &mut times);
    times[0]
}

fn events(times: &[u16]) -> Vec<Event> {
    let mut events: Vec<Event> =
        times.iter().enumerate().map(|(i, &time)| Event { row: i as u16, time }).collect();
    events.sort_by_key(|e| e.time);
    events
}

/// One input at 0, w = 2, θ = 1, τ_r = 10: V(5) = 1 is not above the threshold.
#[test]
fn a_ramp_crosses_after_it_touches() {
    let psp = Psp { rise: 10, fall: 0 };
    let at_0 = events(&[0]);
    assert_eq!(spike(psp, 64, 1.0, &[2.0], &at_0), 6.0);
    let v = |t| potential(psp, &at_0, |_| 2.0, t);
    assert!((v(6) - v(5) - 0.2).abs() < 1e-12 && (psp.at(6.0) - 0.6).abs() < 1e-12);
}

#[test]
fn instantaneous_synapses_count_inputs() {
    let psp = Psp { rise: 1, fall: 0 };
    assert_eq!(spike(psp, 64, 2.5, &[1.0; 3], &events(&[3, 5, 9])), 10.0);
}

#[test]
fn a_triangle_rises_and_falls() {
    let psp = Psp { rise: 2, fall: 2 };
    assert_eq!([0.0, 1.0, 2.0, 3.0, 4.0].map(|s| psp.at(s)), [0.0, 0.5, 1.0, 0.5, 0.0]);
    assert_eq!([1.0, 2.0, 3.0, 5.0].map(|s| psp.slope(s)), [0.5, 0.5, -0.5, 0.0]);
}

#[test]
fn earliest_spikes_are_largest_values() {
    let times = [3.0, 9.0, 64.0, 3.0];
    let (mut pooled, mut origins) = ([0.0], [0]);
    pool::earliest(&times, (2, 2, 1, 1), 2, 64.0, &mut pooled, &mut origins);
    let largest = times.iter().map(|t| 64.0 - t).fold(0.0, f32::max);
    assert_eq!((64.0 - pooled[0], origins), (largest, [0]));
    pool::earliest(&[64.0; 4], (2, 2, 1, 1), 2, 64.0, &mut pooled, &mut origins);
    assert_eq!(origins, [pool::NO_ORIGIN]);
}

/// A finer grid comes ever closer to the crossing in continuous time, 2.5 units after the spike.
#[test]
fn finer_steps_approach_the_continuous_crossing() {
    for k in [1u16, 4, 16, 64] {
        let psp = Psp { rise: 10 * k, fall: 0 };
        let t = spike(psp, 30 * k, 1.0, &[4.0], &events(&[3 * k])) / f32::from(k);
        assert!(t > 5.5 && t <= 5.5 + 1.0 / f32::from(k) + 1e-6, "{k}: {t}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The walk, real and binary, on every instruction set, finds the first step at which the
    /// plain double sum is above the threshold.
    #[test]
    fn the_walk_is_the_double_sum(
        rise in 1u16..20,
        fall in 0u16..12,
        n_neurons in 1usize..90,
        threshold in 0.3f32..4.0,
        binary: bool,
        index: u64,
    ) {
        let (n_inputs, n_steps, psp) = (30, 40u16, Psp { rise, fall });
        let mut stream = Seed(8).stream("stepped", index);
        let weights: Vec<f32> =
            (0..n_inputs * n_neurons).map(|_| stream.uniform() - 0.4).collect();
        let times: Vec<f32> = (0..n_inputs).map(|_| stream.below(50) as f32).collect();
        let sign = if binary { Sign::Signs } else { Sign::Real };
        let mut found = Vec::new();
        sort_events(&times, n_steps, &mut Vec::new(), &mut found);
        // Half-way between whole numbers, so that no sum of signs is near.
        let threshold = if binary { threshold.floor() + 0.513 } else { threshold };
        for simd in Simd::available() {
            let rows = Rows::new(n_inputs, n_neurons, &weights, sign).with_simd(simd);
            let mut fired = vec![0.0; rows.n_lanes()];
            first_spikes(&rows, psp, n_steps, threshold, &found, &mut History::default(), &mut fired);
            for n in 0..n_neurons {
                let v = |t| potential(psp, &found, |i| rows.forward_weight(n, i), t);
                let above = |t: &u16| v(*t) > f64::from(threshold);
                let first = (1..n_steps).find(above).unwrap_or(n_steps);
                let near = (1..=first.min(n_steps - 1))
                    .any(|t| (v(t) - f64::from(threshold)).abs() < 1e-4);
                prop_assert!(near || fired[n] == f32::from(first), "{} {}", fired[n], first);
            }
        }
    }

    /// Learning leaves the weights of inputs that came no earlier than the neuron's spike, and is
    /// the same at every level of instructions.
    #[test]
    fn only_causes_are_changed(fall in 0u16..9, index: u64) {
        let (psp, n) = (Psp { rise: 7, fall }, 20);
        let mut stream = Seed(9).stream("stepped", index);
        let t_in = events(&(0..12).map(|_| stream.below(40) as u16).collect::<Vec<_>>());
        let times: Vec<f32> = (0..32).map(|_| stream.below(41) as f32).collect();
        let gains: Vec<f32> = (0..32).map(|_| stream.uniform() - 0.5).collect();
        let start: Vec<f32> = (0..12 * n).map(|_| stream.uniform()).collect();
        let mut results = Vec::new();
        for simd in Simd::available() {
            let mut rows = Rows::new(12, n, &start, Sign::Real).with_simd(simd);
            learn_rows(rows.simd, rows.n_blocks, &mut rows.real, psp, &t_in, &times, &gains);
            for (j, &t) in times.iter().enumerate().take(n) {
                for e in &t_in {
                    let i = usize::from(e.row);
                    let (before, after) = (start[j * 12 + i], rows.weight(j, i));
                    let s = f64::from(t) - f64::from(e.time);
                    let expected = f64::from(before) + f64::from(gains[j]) * psp.at(s);
                    prop_assert!((f64::from(after) - expected).abs() < 1e-6);
                    prop_assert!(s > 0.0 || before == after);
                }
            }
            results.push(rows.weights());
        }
        prop_assert!(results.iter().all(|r| *r == results[0]));
    }
}
