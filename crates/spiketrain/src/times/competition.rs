//! Who wins among neurons that spike at most once, and thresholds that keep winning fair.

use crate::times::integrate::Outputs;
use std::cmp::Ordering;

/// Decision order of two neurons: the earlier spike first, then the larger potential, then the
/// smaller index.
pub fn decision_order(outputs: &Outputs, a: usize, b: usize) -> Ordering {
    let by_time = outputs.times[a].total_cmp(&outputs.times[b]);
    let by_potential = || outputs.potentials[b].total_cmp(&outputs.potentials[a]);
    by_time.then_with(by_potential).then(a.cmp(&b))
}

/// The first of `neurons` in decision order.
pub fn winner(outputs: &Outputs, neurons: impl IntoIterator<Item = usize>) -> Option<usize> {
    neurons.into_iter().min_by(|&a, &b| decision_order(outputs, a, b))
}

/// Competition regulation: among the `m` rivals the winner's threshold rises by `rate·(m−1)/m`
/// and each other's falls by `rate/m`, so that their sum stays.
///
/// Nothing happens with fewer than two rivals.
pub fn regulate(
    thresholds: &mut [f32],
    rivals: impl ExactSizeIterator<Item = usize>,
    winner: usize,
    rate: f64,
) {
    let m = rivals.len();
    if m < 2 {
        return;
    }
    let (rise, fall) = (rate * (m - 1) as f64 / m as f64, rate / m as f64);
    for n in rivals {
        thresholds[n] += if n == winner { rise as f32 } else { -fall as f32 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_then_potential_then_index() {
        let outputs =
            Outputs { times: vec![0.5, 0.25, 0.25, 0.25], potentials: vec![9.0, 1.0, 2.0, 2.0] };
        let mut order = [0, 1, 2, 3];
        order.sort_by(|&a, &b| decision_order(&outputs, a, b));
        assert_eq!(order, [2, 3, 1, 0]);
        assert_eq!(winner(&outputs, [0, 1]), Some(1));
        assert_eq!(winner(&outputs, []), None);
    }

    #[test]
    fn regulation_moves_thresholds_without_a_drift() {
        let mut thresholds = [5.0; 6];
        regulate(&mut thresholds, 1..5, 2, 1.0);
        assert_eq!(thresholds, [5.0, 4.75, 5.75, 4.75, 4.75, 5.0]);
        regulate(&mut thresholds, 0..1, 0, 1.0);
        assert_eq!(thresholds[0], 5.0, "a neuron without rivals is left alone");
    }
}
