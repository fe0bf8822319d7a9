//! Losses of the output spikes as derivatives with respect to their times.
//!
//! T steps, N samples, C classes, output spikes o\[t, n, c\], counts `k = Σ_t o`. A positive
//! derivative says that the loss falls if the spike comes earlier. The counting, kernel and timing
//! losses are sums over the batch, the cross-entropies means.
//!
//! With D the desired count of the label and U that of the other classes: `k' = min(k, D)` of the
//! label and `max(k, U)` of the others, `d = (k' − D)/T` or `(k' − U)/T`; d' is d, on the label
//! multiplied by the balance `ρ = max(Σ_others k' / Σ_labels k' / 10, 1)` over the whole batch.
//!
//! | loss | value | dL/dt of a spike |
//! | --- | --- | --- |
//! | `count` | T/2 Σ d² | −d' |
//! | `count-plus` | T/2 Σ d² | −d'/k': the total does not depend on the count |
//! | `count-zero` | T/2 Σ d² | −d'/k' + S, S such that the total over the batch is 0 |
//! | `kernel` | ½ Σ (P o − P o*)² | −Pᵀ (P o − P o*) |
//! | `tet` | mean over n, t of CE(o\[t, n\], y) | (onehot − softmax)/(N T) |
//! | `ce-plus` | T/2 mean CE(z), z = 2k/T, −20 where k = 0 | T/2 (onehot − softmax)/(N k) |
//! | `timing` | ½ Σ δ² | δ of the spike that answers the target's |
//! | `ttfs` | T mean CE(z), z = 1 − f/T of the first spike f, −3 without | T (onehot − softmax)/N at f |
//! | `ttfs-zero` | the same with −20 | the same |
//!
//! `P z[t] = (1 − 1/τ_s) P z[t−1] + z[t]`, divided by τ_s. The target train o* of the label fires at
//! every second step, for T < 20 at every step but the first; the others are silent. `timing`: the
//! i-th spike at step a (from 1; T + 1 if missing) against the target's i-th at b, `δ = (a − b +
//! ½)/T`; of the label negative ones are 0, of others positive ones are 0 and negative ones
//! `−1/√C`. `ce-plus` gives nothing where the label is silent.

use serde::{Deserialize, Serialize};

/// A loss by name: `loss = "count-plus"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// Mean-square counting.
    Count,
    /// Enhanced counting, the paper's.
    #[default]
    CountPlus,
    /// Enhanced counting whose derivatives add up to zero.
    CountZero,
    /// Squared difference of filtered trains.
    Kernel,
    /// Cross-entropy at every step.
    Tet,
    /// Cross-entropy of the counts.
    CePlus,
    /// Squared difference of spike times.
    Timing,
    /// Cross-entropy of the first spike times.
    Ttfs,
    /// The same with a low score for silent classes.
    TtfsZero,
}

/// What a loss compares spikes with.
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a> {
    /// One label a sample.
    pub labels: &'a [u16],
    /// T.
    pub n_steps: usize,
    /// D.
    pub desired: f64,
    /// U.
    pub undesired: f64,
    /// τ_s.
    pub synapse: f64,
}

/// A loss of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated {
    /// Its value.
    pub value: f64,
    /// Derivatives with respect to times, `[time, sample, class]`; those of `kernel` and `tet` also
    /// where no spike is.
    pub gradient: Vec<f64>,
}

/// Spikes of a batch.
struct Trains<'a> {
    o: &'a [f32],
    n_classes: usize,
    of: Targets<'a>,
}

impl Trains<'_> {
    fn n_outputs(&self) -> usize {
        self.of.labels.len() * self.n_classes
    }

    /// 0 or 1 of output `(n, c)`, `at = n C + c`.
    fn at(&self, t: usize, at: usize) -> f64 {
        f64::from(self.o[t * self.n_outputs() + at])
    }

    fn is_label(&self, at: usize) -> bool {
        usize::from(self.of.labels[at / self.n_classes]) == at % self.n_classes
    }

    fn counts(&self) -> Vec<f64> {
        let count = |at| (0..self.of.n_steps).map(|t| self.at(t, at)).sum();
        (0..self.n_outputs()).map(count).collect()
    }

    /// Whether the label's target train has a spike at a step.
    fn is_wanted(&self, t: usize) -> bool {
        let n_steps = self.of.n_steps;
        if n_steps < 20 { t > 0 } else { t >= n_steps % 2 && (t - n_steps % 2) % 2 == 1 }
    }

    /// A derivative for every output at its spikes.
    fn at_spikes(&self, of_output: &[f64]) -> Vec<f64> {
        let n = self.n_outputs();
        (0..self.of.n_steps * n).map(|i| of_output[i % n] * self.at(i / n, i % n)).collect()
    }
}

/// Softmax and the cross-entropy of every row.
fn cross_entropy(z: &[f64], n_classes: usize, labels: &[u16]) -> (f64, Vec<f64>) {
    let mut sum = 0.0;
    let mut d = Vec::with_capacity(z.len());
    for (z, &label) in z.chunks_exact(n_classes).zip(labels.iter().cycle()) {
        let most = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = z.iter().map(|z| libm::exp(z - most)).sum();
        let label = usize::from(label);
        sum += libm::log(total) + most - z[label];
        d.extend(z.iter().enumerate().map(|(c, z)| {
            let wanted = if c == label { 1.0 } else { 0.0 };
            wanted - libm::exp(z - most) / total
        }));
    }
    (sum, d)
}

impl Loss {
    /// Value and derivatives for the output spikes `[time, sample, class]`, 0 or 1.
    pub fn evaluate(self, spikes: &[f32], targets: Targets<'_>) -> Evaluated {
        let n_classes = spikes.len() / targets.n_steps / targets.labels.len();
        let trains = Trains { o: spikes, n_classes, of: targets };
        match self {
            Loss::Count | Loss::CountPlus | Loss::CountZero => self.counting(&trains),
            Loss::Kernel => kernel(&trains),
            Loss::Tet => tet(&trains),
            Loss::CePlus => ce_plus(&trains),
            Loss::Timing => timing(&trains),
            Loss::Ttfs => first_spike(&trains, -3.0),
            Loss::TtfsZero => first_spike(&trains, -20.0),
        }
    }

    /// True if the value is a sum over the samples, false for a mean.
    pub fn is_sum(self) -> bool {
        !matches!(self, Loss::Tet | Loss::CePlus | Loss::Ttfs | Loss::TtfsZero)
    }

    fn counting(self, trains: &Trains<'_>) -> Evaluated {
        const SMALL: f64 = 1e-5;
        let Targets { n_steps, desired, undesired, .. } = trains.of;
        let (n, steps) = (trains.n_outputs(), n_steps as f64);
        let mut counts = trains.counts();
        let (mut of_labels, mut of_others) = (0.0, 0.0);
        for (at, k) in counts.iter_mut().enumerate() {
            if trains.is_label(at) {
                *k = k.min(desired);
                of_labels += *k;
            } else {
                *k = k.max(undesired);
                of_others += *k;
            }
        }
        let balance = ((of_others + SMALL) / (of_labels + SMALL) / 10.0).max(1.0);
        let mut value = 0.0;
        let mut rate = vec![0.0; n];
        for (at, &k) in counts.iter().enumerate() {
            let label = trains.is_label(at);
            let d = (k - if label { desired } else { undesired }) / steps;
            value += steps / 2.0 * d * d;
            let d = if label { balance * d } else { d };
            rate[at] = match self {
                Loss::Count => -d,
                _ if k == 0.0 => 0.0,
                _ => -d / k,
            };
        }
        let mut gradient = trains.at_spikes(&rate);
        if self == Loss::CountZero {
            let n_spikes: f64 = trains.o.iter().map(|&o| f64::from(o)).sum();
            let mean = gradient.iter().sum::<f64>() / n_spikes;
            gradient
                .iter_mut()
                .zip(trains.o)
                .filter(|(_, o)| **o != 0.0)
                .for_each(|(g, _)| *g -= mean);
        }
        Evaluated { value, gradient }
    }
}

fn kernel(trains: &Trains<'_>) -> Evaluated {
    let Targets { n_steps, synapse, .. } = trains.of;
    let (n, keep) = (trains.n_outputs(), 1.0 - 1.0 / synapse);
    let (mut value, mut gradient) = (0.0, vec![0.0; n_steps * n]);
    for at in 0..n {
        let mut filtered = 0.0;
        for t in 0..n_steps {
            let wanted = trains.is_label(at) && trains.is_wanted(t);
            filtered = keep * filtered + trains.at(t, at) - if wanted { 1.0 } else { 0.0 };
            gradient[t * n + at] = filtered / synapse;
            value += 0.5 * (filtered / synapse) * (filtered / synapse);
        }
        let mut back = 0.0;
        for t in (0..n_steps).rev() {
            back = keep * back + gradient[t * n + at];
            gradient[t * n + at] = -back / synapse;
        }
    }
    Evaluated { value, gradient }
}

fn tet(trains: &Trains<'_>) -> Evaluated {
    let z: Vec<f64> = trains.o.iter().map(|&o| f64::from(o)).collect();
    let n = (trains.of.labels.len() * trains.of.n_steps) as f64;
    let (sum, mut gradient) = cross_entropy(&z, trains.n_classes, trains.of.labels);
    gradient.iter_mut().for_each(|g| *g /= n);
    Evaluated { value: sum / n, gradient }
}

fn ce_plus(trains: &Trains<'_>) -> Evaluated {
    let (steps, counts) = (trains.of.n_steps as f64, trains.counts());
    let scores = counts.iter().map(|&k| if k == 0.0 { -20.0 } else { 2.0 * k / steps });
    let z: Vec<f64> = scores.collect();
    let n_samples = trains.of.labels.len();
    let (sum, mut d) = cross_entropy(&z, trains.n_classes, trains.of.labels);
    let of_sample = d.chunks_exact_mut(trains.n_classes).zip(counts.chunks_exact(trains.n_classes));
    for ((d, counts), &label) in of_sample.zip(trains.of.labels) {
        let is_silent = counts[usize::from(label)] == 0.0;
        for (d, k) in d.iter_mut().zip(counts) {
            *d = if is_silent || *k == 0.0 { 0.0 } else { steps / 2.0 * *d / n_samples as f64 / k };
        }
    }
    Evaluated { value: steps / 2.0 * sum / n_samples as f64, gradient: trains.at_spikes(&d) }
}

fn timing(trains: &Trains<'_>) -> Evaluated {
    let (n_steps, n) = (trains.of.n_steps, trains.n_outputs());
    let steps = n_steps as f64;
    let early = -1.0 / (trains.n_classes as f64).sqrt();
    let (mut value, mut gradient) = (0.0, vec![0.0; n_steps * n]);
    for at in 0..n {
        let label = trains.is_label(at);
        let mut actual = (0..n_steps).filter(|&t| trains.at(t, at) != 0.0);
        let mut wanted = (0..n_steps).filter(|&t| label && trains.is_wanted(t));
        for _ in 0..n_steps {
            let (a, b) = (actual.next(), wanted.next());
            let delta = (a.unwrap_or(n_steps) as f64 - b.unwrap_or(n_steps) as f64 + 0.5) / steps;
            let delta = match label {
                true => delta.max(0.0),
                false if delta > 0.0 => 0.0,
                false => early,
            };
            value += 0.5 * delta * delta;
            if let Some(t) = a {
                gradient[t * n + at] = delta;
            }
        }
    }
    Evaluated { value, gradient }
}

fn first_spike(trains: &Trains<'_>, silent: f64) -> Evaluated {
    let (n_steps, n) = (trains.of.n_steps, trains.n_outputs());
    let steps = n_steps as f64;
    let first = |at| (0..n_steps).find(|&t| trains.at(t, at) != 0.0);
    let firsts: Vec<Option<usize>> = (0..n).map(first).collect();
    let z: Vec<f64> = firsts.iter().map(|f| f.map_or(silent, |t| 1.0 - t as f64 / steps)).collect();
    let n_samples = trains.of.labels.len() as f64;
    let (sum, d) = cross_entropy(&z, trains.n_classes, trains.of.labels);
    let mut gradient = vec![0.0; n_steps * n];
    for (at, (d, first)) in d.iter().zip(firsts).enumerate() {
        if let Some(t) = first {
            gradient[t * n + at] = steps * d / n_samples;
        }
    }
    Evaluated { value: steps * sum / n_samples, gradient }
}

/// How classes are scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Readout {
    /// `Σ_t o[t] (1.1 − t/(10 T))`, t from 0: counts, early spikes a little more.
    #[default]
    Count,
    /// `Σ_t o[t] 2^−t`: the first spike decides.
    FirstSpike,
}

impl Readout {
    /// Scores `[sample, class]` of the output spikes `[time, sample, class]`.
    pub fn scores(self, spikes: &[f32], n_steps: usize) -> Vec<f32> {
        let mut scores = vec![0.0f64; spikes.len() / n_steps];
        for (t, spikes) in spikes.chunks_exact(scores.len()).enumerate() {
            let weight = match self {
                Readout::Count => 1.1 - t as f64 / n_steps as f64 / 10.0,
                Readout::FirstSpike => libm::exp2(-(t as f64)),
            };
            scores.iter_mut().zip(spikes).for_each(|(s, &o)| *s += weight * f64::from(o));
        }
        scores.into_iter().map(|s| s as f32).collect()
    }
}

/// Gives every sample's label a spike at the last step at which its membrane rose by more than
/// 0.05, at the first step if there is none (no spike if it did not move there): a silent label
/// would receive no gradient. `rises` are those of the output layer, `[time, sample, class]`, as
/// are `spikes`. The number of spikes that were added is returned.
pub fn force_labels(spikes: &mut [f32], rises: &[f32], labels: &[u16], n_steps: usize) -> usize {
    const LEAST_RISE: f32 = 0.05;
    let n = spikes.len() / n_steps;
    let n_classes = n / labels.len();
    let mut added = 0;
    for (sample, &label) in labels.iter().enumerate() {
        let at = |t: usize| t * n + sample * n_classes + usize::from(label);
        let rising = (0..n_steps).rev().find(|&t| rises[at(t)] > LEAST_RISE);
        let here = at(rising.unwrap_or(0));
        let forced = if rises[here] == 0.0 { 0.0 } else { 1.0 };
        added += usize::from(forced > spikes[here]);
        spikes[here] = forced;
    }
    added
}
