//! The readout: standardise, keep the principal components that hold 95 % of the variance, whiten
//! them, and separate the classes by multinomial logistic regression.

use super::eigen::eigen;
use nalgebra::DMatrix;

/// Share of the variance that the components must exceed.
const VARIANCE: f64 = 0.95;
/// Largest entry of the gradient at which the regression has converged.
const TOLERANCE: f64 = 1e-5;
/// Most steps of the regression.
const MAX_STEPS: usize = 1000;
/// Pairs of steps and gradient changes that the quasi-Newton method remembers.
const MEMORY: usize = 10;

/// Rows of features with their classes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Samples {
    /// `[sample, feature]`.
    pub(super) features: Vec<f64>,
    /// `[sample]`.
    pub(super) labels: Vec<u16>,
}

impl Samples {
    /// The samples `rows`, in that order.
    pub(super) fn select(&self, rows: &[usize]) -> Self {
        let n = self.features.len() / self.labels.len().max(1);
        let features = rows.iter().flat_map(|&r| &self.features[r * n..(r + 1) * n]);
        let labels = rows.iter().map(|&r| self.labels[r]);
        Self { features: features.copied().collect(), labels: labels.collect() }
    }
}

/// A linear classifier of features: `scores = weight·x + bias`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Readout {
    /// `[class, feature]`.
    pub(super) weight: Vec<f64>,
    /// `[class]`.
    pub(super) bias: Vec<f64>,
}

impl Readout {
    /// Fits the readout. Where no feature varies, the most frequent class is always the answer.
    pub(super) fn fit(samples: &Samples, n_classes: usize) -> Self {
        let n_features = samples.features.len() / samples.labels.len().max(1);
        let Some(components) = Components::of(&samples.features, n_features) else {
            let mut counts = vec![0u32; n_classes];
            samples.labels.iter().for_each(|&l| counts[usize::from(l)] += 1);
            let bias = counts.into_iter().map(f64::from).collect();
            return Self { weight: vec![0.0; n_classes * n_features], bias };
        };
        let k = components.std.len();
        let scores = components.project(&samples.features);
        let regression = Regression { scores: &scores, labels: &samples.labels, k, n_classes };
        let solution = minimise(n_classes * (k + 1), |x, gradient| regression.loss(x, gradient));
        // Whitening, projection and standardisation are linear: they go into the weights.
        let mut weight = vec![0.0; n_classes * n_features];
        let mut bias = solution[n_classes * k..].to_vec();
        for (class, weight) in weight.chunks_exact_mut(n_features).enumerate() {
            for c in 0..k {
                let factor = solution[class * k + c] / components.std[c];
                let direction = &components.directions[c * n_features..(c + 1) * n_features];
                weight.iter_mut().zip(direction).for_each(|(w, d)| *w += factor * d);
            }
            for ((w, s), m) in weight.iter_mut().zip(&components.scale).zip(&components.mean) {
                *w /= s;
                bias[class] -= *w * m;
            }
        }
        Self { weight, bias }
    }

    /// One score per class.
    pub(super) fn scores(&self, features: &[f64]) -> Vec<f64> {
        let rows = self.weight.chunks_exact(features.len()).zip(&self.bias);
        rows.map(|(row, bias)| bias + dot(row, features)).collect()
    }
}

/// The class with the largest score, the lower index among equals.
pub(super) fn best(scores: &[f64]) -> u16 {
    let better = |best: usize, i: usize| if scores[i] > scores[best] { i } else { best };
    (0..scores.len()).fold(0, better) as u16
}

/// Principal components of standardised features.
#[derive(Clone, Debug)]
struct Components {
    /// `[feature]`.
    mean: Vec<f64>,
    /// Standard deviation of each feature with divisor n; 1 where it is constant.
    scale: Vec<f64>,
    /// `[component, feature]`, largest variance first.
    directions: Vec<f64>,
    /// Standard deviation of each component's scores with divisor n − 1.
    std: Vec<f64>,
}

impl Components {
    /// The fewest components whose share of the variance exceeds [`VARIANCE`]; nothing if no
    /// feature varies or there are fewer than two samples.
    fn of(features: &[f64], n_features: usize) -> Option<Self> {
        let n = features.len().checked_div(n_features)?;
        if n < 2 {
            return None;
        }
        let mut mean = vec![0.0; n_features];
        let mut scale = vec![0.0; n_features];
        for row in features.chunks_exact(n_features) {
            mean.iter_mut().zip(row).for_each(|(m, x)| *m += x / n as f64);
        }
        for row in features.chunks_exact(n_features) {
            for ((s, x), m) in scale.iter_mut().zip(row).zip(&mean) {
                *s += (x - m) * (x - m);
            }
        }
        // A constant feature may differ from its mean by roundings.
        let std = |s: f64| libm::sqrt(s / n as f64);
        scale.iter_mut().zip(&mean).for_each(|(s, m)| {
            *s = if std(*s) > 1e-12 * m.abs().max(1.0) { std(*s) } else { 1.0 };
        });
        let mut out = Self { mean, scale, directions: Vec::new(), std: Vec::new() };
        let standard = DMatrix::from_row_slice(n, n_features, &out.standardise(features));
        let eigen = eigen(standard.tr_mul(&standard));
        let total: f64 = eigen.eigenvalues.iter().map(|v| v.max(0.0)).sum();
        if total <= 1e-9 {
            return None;
        }
        let mut order: Vec<usize> = (0..n_features).collect();
        order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
        let mut sum = 0.0;
        for c in order {
            sum += eigen.eigenvalues[c];
            out.directions.extend(eigen.eigenvectors.column(c).iter());
            out.std.push(libm::sqrt(eigen.eigenvalues[c] / (n - 1) as f64));
            if sum > VARIANCE * total {
                break;
            }
        }
        Some(out)
    }

    fn standardise(&self, features: &[f64]) -> Vec<f64> {
        let place = self.mean.iter().zip(&self.scale).cycle();
        features.iter().zip(place).map(|(x, (m, s))| (x - m) / s).collect()
    }

    /// Whitened scores, `[sample, component]`.
    fn project(&self, features: &[f64]) -> Vec<f64> {
        let n_features = self.mean.len();
        let standard = self.standardise(features);
        let rows = standard.chunks_exact(n_features);
        let score = |row: &[f64], c: usize| {
            dot(row, &self.directions[c * n_features..(c + 1) * n_features]) / self.std[c]
        };
        rows.flat_map(|row| (0..self.std.len()).map(move |c| score(row, c))).collect()
    }
}

/// Class separation φ, between-class over within-class variance in the space of the principal
/// components (not whitened): `[BCSS/(K − 1)] / [WCSS/(n − K)]`; nothing if it is not defined.
pub(super) fn class_separation(samples: &Samples, n_classes: usize) -> Option<f64> {
    let n_features = samples.features.len() / samples.labels.len().max(1);
    let mut components = Components::of(&samples.features, n_features)?;
    components.std.fill(1.0);
    let k = components.std.len();
    let scores = components.project(&samples.features);
    let mut sums = vec![0.0; n_classes * k];
    let mut counts = vec![0.0f64; n_classes];
    for (row, &label) in scores.chunks_exact(k).zip(&samples.labels) {
        let label = usize::from(label);
        counts[label] += 1.0;
        sums[label * k..(label + 1) * k].iter_mut().zip(row).for_each(|(s, x)| *s += x);
    }
    // The scores have mean 0, so a class's distance from it is the length of its centroid.
    let classes = || sums.chunks_exact(k).zip(&counts).filter(|(_, n)| **n > 0.0);
    let between: f64 = classes().map(|(s, n)| dot(s, s) / n).sum();
    let within = dot(&scores, &scores) - between;
    let (n, n_present) = (samples.labels.len() as f64, classes().count() as f64);
    let phi = (between / (n_present - 1.0)) / (within / (n - n_present));
    (n_present > 1.0 && n > n_present && within > 0.0).then_some(phi)
}

/// Multinomial logistic regression: `½‖W‖² + Σ_n CE_n`, the bias not penalised.
struct Regression<'a> {
    /// `[sample, k]`.
    scores: &'a [f64],
    labels: &'a [u16],
    k: usize,
    n_classes: usize,
}

impl Regression<'_> {
    /// Loss and gradient at `x` = W `[class, k]`, then the bias `[class]`.
    fn loss(&self, x: &[f64], gradient: &mut [f64]) -> f64 {
        let (k, n_classes) = (self.k, self.n_classes);
        let (weight, bias) = x.split_at(n_classes * k);
        gradient[..n_classes * k].copy_from_slice(weight);
        gradient[n_classes * k..].fill(0.0);
        let mut loss = 0.5 * dot(weight, weight);
        let mut logits = vec![0.0; n_classes];
        for (row, &label) in self.scores.chunks_exact(k).zip(self.labels) {
            let rows = weight.chunks_exact(k).zip(bias);
            logits.iter_mut().zip(rows).for_each(|(l, (w, b))| *l = b + dot(w, row));
            let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let own = logits[usize::from(label)] - max;
            logits.iter_mut().for_each(|l| *l = libm::exp(*l - max));
            let sum: f64 = logits.iter().sum();
            loss += libm::log(sum) - own;
            for (class, l) in logits.iter().enumerate() {
                let error = l / sum - f64::from(u8::from(class == usize::from(label)));
                gradient[n_classes * k + class] += error;
                let g = &mut gradient[class * k..(class + 1) * k];
                g.iter_mut().zip(row).for_each(|(g, x)| *g += error * x);
            }
        }
        loss
    }
}

/// Minimises a strictly convex function of `n` variables from 0, by limited-memory BFGS with
/// backtracking (J. Nocedal, "Updating quasi-Newton matrices with limited storage", Mathematics of
/// Computation 35:773, 1980). `f` returns the value and writes the gradient.
fn minimise(n: usize, f: impl Fn(&[f64], &mut [f64]) -> f64) -> Vec<f64> {
    let mut x = vec![0.0; n];
    let mut gradient = vec![0.0; n];
    let mut value = f(&x, &mut gradient);
    let mut pairs: Vec<(Vec<f64>, Vec<f64>)> = Vec::new();
    let (mut x_new, mut gradient_new) = (x.clone(), gradient.clone());
    for _ in 0..MAX_STEPS {
        if gradient.iter().all(|g| g.abs() <= TOLERANCE) {
            break;
        }
        let direction = descent(&gradient, &pairs);
        let slope = dot(&direction, &gradient);
        // The first direction is the gradient, whose length says nothing about the step.
        let length = libm::sqrt(dot(&direction, &direction));
        let mut step = if pairs.is_empty() { (1.0 / length).min(1.0) } else { 1.0 };
        let mut value_new;
        loop {
            for ((new, old), d) in x_new.iter_mut().zip(&x).zip(&direction) {
                *new = old + step * d;
            }
            value_new = f(&x_new, &mut gradient_new);
            if value_new <= value + 1e-4 * step * slope || step < 1e-12 {
                break;
            }
            step *= 0.5;
        }
        let difference = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect();
        let (s, y): (Vec<f64>, Vec<f64>) =
            (difference(&x_new, &x), difference(&gradient_new, &gradient));
        std::mem::swap(&mut x, &mut x_new);
        std::mem::swap(&mut gradient, &mut gradient_new);
        if step < 1e-12 {
            // Rounding leaves nothing to gain.
            break;
        }
        value = value_new;
        if dot(&s, &y) > 0.0 {
            if pairs.len() == MEMORY {
                pairs.remove(0);
            }
            pairs.push((s, y));
        }
    }
    x
}

/// Minus the quasi-Newton matrix times `gradient` (two-loop recursion).
fn descent(gradient: &[f64], pairs: &[(Vec<f64>, Vec<f64>)]) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let add = |q: &mut [f64], factor: f64, v: &[f64]| {
        q.iter_mut().zip(v).for_each(|(q, v)| *q += factor * v);
    };
    let mut alphas = Vec::with_capacity(pairs.len());
    for (s, y) in pairs.iter().rev() {
        let alpha = dot(s, &q) / dot(s, y);
        add(&mut q, -alpha, y);
        alphas.push(alpha);
    }
    if let Some((s, y)) = pairs.last() {
        let factor = dot(s, y) / dot(y, y);
        q.iter_mut().for_each(|q| *q *= factor);
    }
    for ((s, y), alpha) in pairs.iter().zip(alphas.into_iter().rev()) {
        let beta = dot(y, &q) / dot(s, y);
        add(&mut q, alpha - beta, s);
    }
    q
}

/// Scalar product with eight partial sums, in fixed order.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a8.remainder().iter().zip(b8.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a8.zip(b8) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(s, (a, b))| *s += a * b);
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    /// Three clouds in ten features, of which the last is constant and the ninth repeats another.
    fn clouds(n: usize) -> Samples {
        let mut stream = Seed(2).stream("clouds", 0);
        let mut samples = Samples::default();
        for i in 0..n {
            let class = i % 3;
            let mut row: Vec<f64> = (0..8).map(|_| stream.normal(0.0, 1.0)).collect();
            row[class] += 3.0;
            row.push(2.0 * row[0]);
            row.push(7.0);
            samples.features.extend(row);
            samples.labels.push(class as u16);
        }
        samples
    }

    #[test]
    fn components_are_standardised_orthogonal_and_white() {
        let samples = clouds(300);
        let components = Components::of(&samples.features, 10).unwrap();
        assert_eq!(components.scale[9], 1.0);
        let k = components.std.len();
        assert!(k <= 8, "a repeated and a constant feature add no component: {k}");
        let scores = components.project(&samples.features);
        for a in 0..k {
            for b in a..k {
                let cov: f64 = scores.chunks_exact(k).map(|r| r[a] * r[b]).sum::<f64>() / 299.0;
                let expected = f64::from(u8::from(a == b));
                assert!((cov - expected).abs() < 1e-9, "{a} {b}: {cov}");
            }
        }
    }

    #[test]
    fn the_regression_ends_where_the_gradient_is_zero() {
        let samples = clouds(300);
        let scores = Components::of(&samples.features, 10).unwrap().project(&samples.features);
        let k = scores.len() / 300;
        let regression = Regression { scores: &scores, labels: &samples.labels, k, n_classes: 3 };
        let x = minimise(3 * (k + 1), |x, g| regression.loss(x, g));
        let mut gradient = vec![0.0; x.len()];
        let value = regression.loss(&x, &mut gradient);
        assert!(gradient.iter().all(|g| g.abs() <= TOLERANCE), "{gradient:?}");
        // The gradient is that of the loss, and no neighbour is better.
        for i in 0..x.len() {
            let at = |h: f64| {
                let mut y = x.clone();
                y[i] += h;
                regression.loss(&y, &mut vec![0.0; x.len()])
            };
            assert!(at(1e-3) > value && at(-1e-3) > value);
            let mut shifted = x.clone();
            shifted[i] += 0.1;
            let mut g = vec![0.0; x.len()];
            regression.loss(&shifted, &mut g);
            assert!(((at(0.1 + 1e-5) - at(0.1 - 1e-5)) / 2e-5 - g[i]).abs() < 1e-5);
        }
    }

    /// A network half of whose neurons are silent and whose others spike once in a while; the
    /// second neuron says the class.
    #[test]
    fn rare_spikes_are_told_apart() {
        for seed in 0..5 {
            let mut stream = Seed(seed).stream("rates", 0);
            let mut rate = |i: usize, j: usize| match j {
                1 => 0.01 * f64::from(i as u32 % 2),
                _ if j.is_multiple_of(2) => 0.0,
                _ => 0.01 * f64::from(u8::from(stream.uniform_f64() < 0.01)),
            };
            let features = (0..50 * 250).map(|at| rate(at / 250, at % 250)).collect();
            let samples = Samples { features, labels: (0..50).map(|i| i % 2).collect() };
            let readout = Readout::fit(&samples, 2);
            let rows = samples.features.chunks_exact(250).zip(&samples.labels);
            let n_right = rows.filter(|(x, l)| best(&readout.scores(x)) == **l).count();
            assert_eq!(n_right, 50, "seed {seed}");
        }
    }

    #[test]
    fn clouds_are_told_apart_and_constants_are_not() {
        let samples = clouds(300);
        let readout = Readout::fit(&samples, 3);
        let rows = samples.features.chunks_exact(10).zip(&samples.labels);
        let n_right = rows.filter(|(x, l)| best(&readout.scores(x)) == **l).count();
        assert!(n_right > 270, "{n_right} of 300");
        let phi = class_separation(&samples, 3).unwrap();
        assert!(phi > 20.0, "{phi}");
        let flat = Samples { features: vec![0.1; 50], labels: vec![1, 2, 2, 0, 2] };
        let readout = Readout::fit(&flat, 3);
        assert_eq!(best(&readout.scores(&flat.features[..10])), 2);
        assert!(class_separation(&flat, 3).is_none());
    }
}
