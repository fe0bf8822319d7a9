//! Output errors: what the last layer's spike times should have been.

/// Mean squared error of a reconstruction, `L = 1/N·Σ (o_j − τ_j)²` with `o_j = t_j − latency`,
/// or 1 where output j is silent, and the errors `g_j = t_j − latency − τ_j` (0 where silent).
///
/// `times` are infinite where silent; `targets` are τ, 1 where the target is silent. The error is
/// N/2 times the derivative of L: the published scale, which the optimiser's ε, the penalty and
/// the clips are tuned to.
pub fn reconstruction(
    latency: f64,
    times: impl Iterator<Item = f64>,
    targets: &[f64],
    mut error: impl FnMut(usize, f64),
) -> f64 {
    let mut sum = 0.0;
    for (j, (t, &target)) in times.zip(targets).enumerate() {
        if t.is_finite() {
            let g = t - latency - target;
            error(j, g);
            sum += g * g;
        } else {
            error(j, 0.0);
            sum += (1.0 - target) * (1.0 - target);
        }
    }
    sum / targets.len() as f64
}

/// What the outputs say about a class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// The earliest output, the lowest index on ties; none if all are silent.
    pub class: Option<usize>,
    /// Cross-entropy `−log(p_label + 1e−8)`.
    pub loss: f64,
}

/// Cross-entropy over `p = softmax(−t)`, 0 for silent outputs, uniform if all are silent, and the
/// errors `g_j = y_j − p_j`; `probabilities` receives p.
pub fn classification(
    times: impl Iterator<Item = f64>,
    label: usize,
    probabilities: &mut Vec<f64>,
    mut error: impl FnMut(usize, f64),
) -> Verdict {
    probabilities.clear();
    probabilities.extend(times);
    let (mut first, mut class) = (f64::INFINITY, None);
    for (j, &t) in probabilities.iter().enumerate() {
        if t < first {
            (first, class) = (t, Some(j));
        }
    }
    let n = probabilities.len() as f64;
    if class.is_none() {
        probabilities.fill(1.0 / n);
    } else {
        probabilities.iter_mut().for_each(|t| *t = libm::exp(first - *t));
        let sum: f64 = probabilities.iter().sum();
        probabilities.iter_mut().for_each(|p| *p /= sum);
    }
    for (j, p) in probabilities.iter().enumerate() {
        error(j, f64::from(u8::from(j == label)) - p);
    }
    Verdict { class, loss: -libm::log(probabilities[label] + 1e-8) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_output_reconstructs_black() {
        let mut errors = [9.0; 3];
        let times = [1.25, f64::INFINITY, f64::INFINITY];
        let targets = [0.5, 1.0, 0.0];
        let loss = reconstruction(1.0, times.into_iter(), &targets, |j, g| errors[j] = g);
        assert_eq!(errors, [-0.25, 0.0, 0.0]);
        assert_eq!(loss, (0.0625 + 0.0 + 1.0) / 3.0);
    }

    #[test]
    fn earlier_is_likelier_and_silence_is_uniform() {
        let mut p = Vec::new();
        let mut errors = [0.0; 3];
        let times = [2.0, f64::INFINITY, 1.0];
        let verdict = classification(times.into_iter(), 0, &mut p, |j, g| errors[j] = g);
        let late = libm::exp(-1.0) / (1.0 + libm::exp(-1.0));
        assert_eq!(verdict.class, Some(2));
        assert!((p[0] - late).abs() < 1e-15 && p[1] == 0.0);
        assert!((verdict.loss + libm::log(late + 1e-8)).abs() < 1e-15);
        assert!((errors[0] - (1.0 - late)).abs() < 1e-15 && errors[1] == 0.0);
        let silent = [f64::INFINITY; 4];
        let verdict = classification(silent.into_iter(), 1, &mut p, |_, _| {});
        assert_eq!((verdict.class, p.as_slice()), (None, [0.25; 4].as_slice()));
    }
}
