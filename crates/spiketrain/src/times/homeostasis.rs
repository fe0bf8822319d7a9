//! Homeostasis of synaptic weights: the power-law contraction toward a target.
//!
//! One step takes a weight w to `w*·(w/w*)^λ`. In `u = ln(w/w*)` that is `u ← λu`, so n steps are
//! one step with exponent λⁿ; ranks are kept, weights above the target fall, weights below it
//! grow, and 0 stays 0.

use crate::elementary::{exp, ln};
use crate::simd::dispatch;

/// `target·(w/target)^exponent` for w ≥ 0, target > 0 and an exponent from 0 to 1.
///
/// The relative error is a few parts in 10¹⁶; w is returned unchanged for the exponent 1.
#[inline(always)]
pub fn contract(w: f64, target: f64, exponent: f64) -> f64 {
    w * exp((exponent - 1.0) * ln(w / target))
}

dispatch! {
    /// [`contract`] for all of `weights`.
    pub fn contract_all(weights: &mut [f64], target: f64, exponent: f64) = contract_loop;
}

#[inline(always)]
fn contract_loop(weights: &mut [f64], target: f64, exponent: f64) {
    for w in weights {
        *w = contract(*w, target, exponent);
    }
}

/// The exponent λ of one step such that `n_steps` of them contract by `contraction` in all:
/// `λ = contraction^(1/n_steps)`; 1 without steps.
pub fn exponent_per_step(contraction: f64, n_steps: u64) -> f64 {
    if n_steps == 0 { 1.0 } else { libm::pow(contraction, 1.0 / n_steps as f64) }
}

/// `exponent^k` for k = 0, 1, …, n.
pub fn powers(exponent: f64, n: usize) -> Vec<f64> {
    (0..=n).map(|k| libm::pow(exponent, k as f64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Simd;
    use proptest::prelude::*;

    #[test]
    fn figures_of_the_closed_form() {
        for (start, expected) in [
            (0.3, [0.213_740, 0.157_517, 0.124_243]),
            (25.0, [11.461_564, 5.679_472, 3.290_369]),
            (0.005, [0.005_358, 0.005_702, 0.005_984]),
        ] {
            let mut w = start;
            for n in 1..=10_000 {
                w = contract(w, 0.01, 0.999_97);
                if let Some(i) = [3500, 7000, 10_000].iter().position(|&m| m == n) {
                    assert!((w - expected[i]).abs() < 1e-6, "{start} after {n} steps: {w}");
                    let once = contract(start, 0.01, libm::pow(0.999_97, n as f64));
                    assert!((w - once).abs() < 1e-12 * w.max(1.0), "{w} against {once}");
                }
            }
        }
    }

    #[test]
    fn figures_of_the_endpoint_rule() {
        for (window, expected) in [
            (350, 0.999_957_601_363_749_4),
            (700, 0.999_978_800_457_164_5),
            (1750, 0.999_991_520_128_934_7),
            (3500, 0.999_995_760_055_478_7),
        ] {
            let exponent = exponent_per_step(0.66, 28 * window);
            assert!((exponent - expected).abs() < 1e-15, "{exponent}");
        }
        assert_eq!(exponent_per_step(0.4, 0), 1.0);
        let exponent = exponent_per_step(0.4, 9800);
        for (start, expected) in [(3.0, 1.023_836_255_5), (0.1, 0.262_652_780_4)] {
            let w = (0..9800).fold(start, |w, _| contract(w, 0.5, exponent));
            assert!((w - expected).abs() < 1e-9, "{w}");
        }
    }

    #[test]
    fn zero_stays_and_the_exponent_one_changes_nothing() {
        assert_eq!((contract(0.0, 0.5, 0.4), contract(0.0, 0.5, 0.0)), (0.0, 0.0));
        assert_eq!(contract(0.3, 0.5, 1.0), 0.3);
    }

    proptest! {
        #[test]
        fn power_to_a_few_units_in_the_last_place(
            w in 1e-6f64..1e4, target in 1e-3f64..10.0, exponent in 0.0f64..=1.0,
        ) {
            let exact = target * libm::pow(w / target, exponent);
            let ours = contract(w, target, exponent);
            prop_assert!((ours - exact).abs() <= 4e-15 * exact, "{} against {}", ours, exact);
        }

        #[test]
        fn ranks_are_kept_and_logarithms_shrink_alike(
            mut weights in proptest::collection::vec(1e-3f64..30.0, 2..50),
            exponent in 0.01f64..1.0,
        ) {
            let sum = |weights: &[f64]| weights.iter().map(|w| libm::log(w / 0.5)).sum::<f64>();
            weights.sort_by(f64::total_cmp);
            let before = sum(&weights);
            let plain: Vec<f64> = weights.iter().map(|&w| contract(w, 0.5, exponent)).collect();
            for simd in Simd::available() {
                let mut all = weights.clone();
                contract_all(simd, &mut all, 0.5, exponent);
                prop_assert_eq!(&all, &plain);
            }
            contract_all(Simd::best(), &mut weights, 0.5, exponent);
            prop_assert!(weights.is_sorted());
            prop_assert!((sum(&weights) - exponent * before).abs() < 1e-12 * weights.len() as f64);
        }
    }
}
