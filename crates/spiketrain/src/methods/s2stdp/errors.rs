//! Desired firing times and timing errors (equations 3 to 6 of the module's page).

use super::params::{Params, Rule};
use crate::times::integrate::{Outputs, T_MAX};

/// Timing error `e_n = (t_n − T_n)/T_max` of each neuron of `learning`, in that order: positive
/// for a neuron that fired too late.
///
/// `learning` are the neurons that take part: all of them, or the winner of each class.
pub(super) fn timing_errors(
    params: &Params,
    outputs: &Outputs,
    label: usize,
    learning: &[usize],
) -> Vec<f64> {
    let t_max = f64::from(T_MAX);
    let n_target = if params.intra_class_wta { 1 } else { params.neurons_per_class };
    let share = n_target as f64 / learning.len() as f64;
    let (gap_others, gap_target) = (params.gap * share, params.gap * (1.0 - share));
    let fired = learning.iter().filter(|&&n| outputs.fired(n));
    let (sum, n_fired) =
        fired.fold((0.0, 0), |(s, k), &n| (s + f64::from(outputs.times[n]), k + 1));
    let latest = t_max - gap_others;
    let base = if n_fired == 0 { latest } else { (sum / f64::from(n_fired)).min(latest) };
    let error = |&n: &usize| {
        let t = f64::from(outputs.times[n]);
        let is_target = params.targets(label).contains(&n);
        let desired = if is_target { base - gap_target } else { base + gap_others };
        let desired = match (params.rule, is_target) {
            (Rule::Sstdp, true) => desired.min(t),
            (Rule::Sstdp, false) => desired.max(t),
            _ => desired,
        };
        (t - desired) / t_max
    };
    learning.iter().map(error).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn params(rule: Rule, neurons_per_class: usize, gap: f64) -> Params {
        Params {
            rule,
            neurons_per_class,
            non_target_neurons: 0,
            intra_class_wta: neurons_per_class > 1,
            gap,
            ..Params::default()
        }
    }

    fn outputs(times: &[f32]) -> Outputs {
        Outputs { times: times.to_vec(), potentials: vec![0.0; times.len()] }
    }

    /// Two classes, one neuron each, gap 0.1: base 0.4, desired 0.45 and 0.35.
    #[test]
    fn two_neurons_by_hand() {
        for rule in [Rule::S2Stdp, Rule::Sstdp] {
            let e = timing_errors(&params(rule, 1, 0.1), &outputs(&[0.2, 0.6]), 1, &[0, 1]);
            assert!((e[0] + 0.25).abs() < 1e-7 && (e[1] - 0.25).abs() < 1e-7, "{rule:?}: {e:?}");
        }
        let e = timing_errors(&params(Rule::Sstdp, 1, 0.1), &outputs(&[0.6, 0.2]), 1, &[0, 1]);
        assert_eq!(e, [0.0, 0.0]);
    }

    #[test]
    fn without_any_spike_the_base_is_the_latest_possible() {
        let e = timing_errors(&params(Rule::S2Stdp, 1, 0.1), &outputs(&[1.0, 1.0]), 0, &[0, 1]);
        assert!((e[0] - 0.1).abs() < 1e-7 && e[1].abs() < 1e-7, "{e:?}");
    }

    proptest! {
        /// Stabilised: if all fired and the base is not capped, the errors sum to 0; if the true
        /// class is represented by a non-target neuron, to −|U|·g_n.
        #[test]
        fn errors_do_not_drift(
            times in prop::collection::vec(0.0f32..0.8, 6),
            label in 0usize..3,
            gap in 0.001f64..0.1,
        ) {
            let mut p = params(Rule::S2Stdp, 2, gap);
            let learning = [0, 3, 4];
            let total: f64 = timing_errors(&p, &outputs(&times), label, &learning).iter().sum();
            prop_assert!(total.abs() < 1e-12, "{total}");
            p.non_target_neurons = 1;
            let total: f64 = timing_errors(&p, &outputs(&times), label, &learning).iter().sum();
            let expected = if label == 1 { 0.0 } else { -gap };
            prop_assert!((total - expected).abs() < 1e-12, "{total} against {expected}");
        }

        /// SSTDP does not move a neuron that is on the right side.
        #[test]
        fn ranges_leave_neurons_in_place(early in 0.0f32..0.3, late in 0.6f32..0.9) {
            let p = params(Rule::Sstdp, 1, 0.1);
            let e = timing_errors(&p, &outputs(&[late, early, late]), 1, &[0, 1, 2]);
            // With two late neurons the base lies 2/3 of the way to them.
            let base = f64::from(early + 2.0 * late) / 3.0;
            let room = f64::from(late) - base >= p.gap / 3.0;
            prop_assert!(!room || e.iter().all(|&e| e == 0.0), "{:?}", e);
        }
    }
}
