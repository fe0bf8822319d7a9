//! Desired times and timing errors of the output neurons.

use super::params::Target;

/// Desired times in steps. With `m` the earliest output time, `m_o` the earliest of the wrong
/// neurons, y the label, T = `n_steps`, γ = `margin`:
///
/// ```text
/// m = T:  T_y = T − γ ("bs4nn": T),  T_k = T
/// else:   T_k = min(m + γ, T)  for k ≠ y with t_k − m < γ, t_k for the other k ≠ y
///         T_y = m                              "s4nn", "bs4nn"
///         T_y = min(t_y, max(m_o − γ, 1))      "margin"
/// ```
pub fn desired_times(
    target: Target,
    n_steps: u16,
    margin: u16,
    times: &[f32],
    label: usize,
    desired: &mut [f32],
) {
    let (end, margin) = (f32::from(n_steps), f32::from(margin));
    let earliest = times.iter().copied().fold(end, f32::min);
    if earliest >= end {
        desired.fill(end);
        if target != Target::Bs4nn {
            desired[label] = end - margin;
        }
        return;
    }
    let mut rival = end;
    for (k, (&t, desired)) in times.iter().zip(&mut *desired).enumerate() {
        *desired = if t - earliest < margin { (earliest + margin).min(end) } else { t };
        if k != label {
            rival = rival.min(t);
        }
    }
    desired[label] = match target {
        Target::S4nn | Target::Bs4nn => earliest,
        Target::Margin => times[label].min((rival - margin).max(1.0)),
    };
}

/// Errors `(t_k − T_k)/T`, in double precision, and their Euclidean norm.
pub fn timing_errors(n_steps: u16, times: &[f32], desired: &[f32], errors: &mut [f64]) -> f64 {
    for ((error, &t), &d) in errors.iter_mut().zip(times).zip(desired) {
        *error = f64::from(t - d) / f64::from(n_steps);
    }
    errors.iter().map(|e| e * e).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(target: Target, times: &[f32], label: usize) -> Vec<f32> {
        let mut desired = vec![0.0; times.len()];
        desired_times(target, 64, 4, times, label, &mut desired);
        desired
    }

    #[test]
    fn targets_by_hand() {
        let times = [20.0, 22.0, 30.0];
        assert_eq!(targets(Target::Margin, &times, 1), [24.0, 16.0, 30.0]);
        assert_eq!(targets(Target::S4nn, &times, 1), [24.0, 20.0, 30.0]);
    }

    #[test]
    fn a_margin_that_holds_asks_for_nothing() {
        let times = [30.0, 20.0, 26.0];
        assert_eq!(targets(Target::Margin, &times, 1), times);
        let mut errors = [1.0; 3];
        assert_eq!(timing_errors(64, &times, &times, &mut errors), 0.0);
        assert_eq!(errors, [0.0; 3]);
    }

    #[test]
    fn silence_wakes_the_right_neuron_or_nobody() {
        assert_eq!(targets(Target::Margin, &[64.0; 3], 2), [64.0, 64.0, 60.0]);
        assert_eq!(targets(Target::Bs4nn, &[64.0; 3], 2), [64.0; 3]);
    }

    #[test]
    fn the_right_neuron_is_never_asked_to_be_at_step_0_or_later_than_it_was() {
        assert_eq!(targets(Target::Margin, &[2.0, 3.0, 64.0], 1), [6.0, 1.0, 64.0]);
        assert_eq!(targets(Target::Margin, &[63.0, 5.0, 64.0], 1), [63.0, 5.0, 64.0]);
    }
}
