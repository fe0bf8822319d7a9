//! Moderate dropout: the more active a unit, the likelier it is kept.
//!
//! With o the outputs `[time, row, unit]`, i over all n pairs of row and unit, r the rate:
//!
//! 1. `d[i] = mean_t o[t,i]`
//! 2. `q[i] = (d[i] − min d)/(max d − min d)`
//! 3. `p̃[i] = 1 − (1 − q[i]) r/(1 − mean q)`, `p[i] = clamp(p̃[i], 0, 1)`
//! 4. `k[i]` is 1 with probability p\[i\], else 0: one draw for all steps
//! 5. `out[t,i] = o[t,i] k[i]/p[i]`, 0 where p is 0
//!
//! Where all d are equal, p = 1 − r. Unclamped, the mean of p is 1 − r.
//!
//! Backward, with D = dL/dout and R = max d − min d; the draw has no gradient, p has:
//!
//! - `P[i] = −k[i]/p[i]² Σ_t D[t,i] o[t,i]` where 0 ≤ p̃\[i\] ≤ 1 and p\[i\] > 0, else 0
//! - `Q[i] = P[i] r/(1 − q̄) − r/(n (1 − q̄)²) Σ_j P[j] (1 − q[j])`
//! - `E[i] = Q[i]/R`; at the smallest d also `Σ_j Q[j] (q[j] − 1)/R`, at the largest
//!   `−Σ_j Q[j] q[j]/R`, each shared equally among equals
//! - `dL/do[t,i] = D[t,i] k[i]/p[i] + E[i]/T`, or without E where p counts as a constant

/// What the activities of a batch make of the rate.
#[derive(Clone, Debug)]
pub struct Keeping {
    /// p, `[row, unit]`.
    pub p: Vec<f64>,
    /// p̃; empty where all activities are equal.
    unclamped: Vec<f64>,
    q: Vec<f64>,
    /// R.
    range: f64,
    rate: f64,
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

impl Keeping {
    /// Equations 1 to 3.
    pub fn new(outputs: &[f32], n_steps: usize, rate: f64) -> Self {
        let n = outputs.len() / n_steps;
        let mut d = vec![0.0; n];
        for step in outputs.chunks_exact(n) {
            d.iter_mut().zip(step).for_each(|(d, &o)| *d += f64::from(o) / n_steps as f64);
        }
        let min = d.iter().copied().fold(f64::INFINITY, f64::min);
        let range = d.iter().copied().fold(f64::NEG_INFINITY, f64::max) - min;
        if range <= 0.0 {
            return Self { p: vec![1.0 - rate; n], unclamped: vec![], q: vec![], range, rate };
        }
        let q: Vec<f64> = d.iter().map(|d| (d - min) / range).collect();
        let share = rate / (1.0 - mean(&q));
        let unclamped: Vec<f64> = q.iter().map(|q| 1.0 - (1.0 - q) * share).collect();
        let p = unclamped.iter().map(|p| p.clamp(0.0, 1.0)).collect();
        Self { p, unclamped, q, range, rate }
    }

    /// k/p of every pair.
    fn factors(&self, kept: &[bool]) -> Vec<f64> {
        let of = |(&p, &k): (&f64, &bool)| if k && p > 0.0 { 1.0 / p } else { 0.0 };
        self.p.iter().zip(kept).map(of).collect()
    }

    /// Equation 5, in place.
    pub fn apply(&self, kept: &[bool], outputs: &mut [f32]) {
        let factors = self.factors(kept);
        for step in outputs.chunks_exact_mut(factors.len()) {
            step.iter_mut().zip(&factors).for_each(|(o, f)| *o = (f64::from(*o) * f) as f32);
        }
    }

    /// From dL/dout to dL/do, in place; `outputs` are those before dropout. Without `through_p` the
    /// probabilities count as constants.
    pub fn backward(&self, kept: &[bool], outputs: &[f32], d: &mut [f32], through_p: bool) {
        let factors = self.factors(kept);
        let n_steps = outputs.len() / factors.len();
        let e = if through_p { self.through_p(&factors, outputs, d) } else { Vec::new() };
        for step in d.chunks_exact_mut(factors.len()) {
            for (i, (d, factor)) in step.iter_mut().zip(&factors).enumerate() {
                let e = e.get(i).map_or(0.0, |e| e / n_steps as f64);
                *d = (f64::from(*d) * factor + e) as f32;
            }
        }
    }

    /// E; empty where p does not depend on the outputs.
    fn through_p(&self, factors: &[f64], outputs: &[f32], d: &[f32]) -> Vec<f64> {
        let (n, q) = (factors.len(), &self.q);
        if q.is_empty() {
            return Vec::new();
        }
        let mut d_p = vec![0.0; n];
        for (outputs, d) in outputs.chunks_exact(n).zip(d.chunks_exact(n)) {
            for i in 0..n {
                d_p[i] -= f64::from(outputs[i]) * f64::from(d[i]);
            }
        }
        for i in 0..n {
            let passes = (0.0..=1.0).contains(&self.unclamped[i]);
            // k² = k, so k/p² is the square of k/p.
            d_p[i] = if passes { d_p[i] * factors[i] * factors[i] } else { 0.0 };
        }
        let rest = 1.0 - mean(q);
        let together: f64 = d_p.iter().zip(q).map(|(p, q)| p * (1.0 - q)).sum();
        let common = self.rate / (rest * rest) * together / n as f64;
        let d_q: Vec<f64> = d_p.iter().map(|p| p * self.rate / rest - common).collect();
        let at_min: f64 = d_q.iter().zip(q).map(|(d, q)| d * (q - 1.0)).sum();
        let at_max: f64 = d_q.iter().zip(q).map(|(d, q)| -d * q).sum();
        let count = |value: f64| q.iter().filter(|&&q| q == value).count().max(1) as f64;
        let (n_min, n_max) = (count(0.0), count(1.0));
        let of = |(&d, &q): (&f64, &f64)| {
            let mut e = d;
            if q == 0.0 {
                e += at_min / n_min;
            }
            if q == 1.0 {
                e += at_max / n_max;
            }
            e / self.range
        };
        d_q.iter().zip(q).map(of).collect()
    }
}
