//! Multinomial logistic regression with an L2 penalty, fitted by L-BFGS.
//!
//! Minimises `C·Σ −log softmax(W x + b)_y + ½‖W‖²` over all samples, divided by C·n. The intercept
//! b is not penalised. (J. Nocedal, S. J. Wright, "Numerical Optimization", 2nd edition, 2006,
//! algorithm 7.5, with backtracking.)

use crate::error::Result;
use crate::state::State;
use rayon::prelude::*;
use std::collections::VecDeque;

/// Samples whose sums are made together; does not depend on threads.
const SHARD: usize = 2048;
/// Pairs of steps and gradient changes remembered.
const MEMORY: usize = 10;
/// Iterations at most.
const MAX_ITERATIONS: usize = 300;
/// Fitted when no component of the gradient is larger.
const TOLERANCE: f64 = 1e-6;

/// A fitted regression.
#[derive(Clone, Debug, PartialEq)]
pub struct Logistic {
    n_classes: usize,
    /// `[class][dimension, then intercept]`.
    weights: Vec<f64>,
}

impl Logistic {
    /// Fits `points[[sample]][[dimension]]` with inverse penalty `c`.
    pub fn fit(
        c: f64,
        n_dimensions: usize,
        n_classes: usize,
        points: &[f32],
        labels: &[u16],
    ) -> Self {
        let problem = Problem { n_dimensions, n_classes, points, labels, c };
        let weights = minimise(vec![0.0; n_classes * (n_dimensions + 1)], |w| problem.evaluate(w));
        Self { n_classes, weights }
    }

    /// The class with the largest score.
    pub fn class(&self, point: &[f32]) -> u16 {
        let mut scores = vec![0.0; self.n_classes];
        score(&self.weights, point, &mut scores);
        super::largest(&scores) as u16
    }

    /// The weights.
    pub fn state(&self) -> State {
        let mut state = State::new();
        let n_columns = self.weights.len() / self.n_classes;
        state.put("weight", &[self.n_classes, n_columns], self.weights.clone());
        state
    }

    /// Puts back what [`Logistic::state`] gave.
    ///
    /// # Errors
    ///
    /// If an array is missing or does not fit.
    pub fn restored(state: &State, n_dimensions: usize, n_classes: usize) -> Result<Self> {
        let weights = state.get("weight", &[n_classes, n_dimensions + 1])?.to_vec();
        Ok(Self { n_classes, weights })
    }
}

fn score(weights: &[f64], point: &[f32], scores: &mut [f64]) {
    for (score, row) in scores.iter_mut().zip(weights.chunks_exact(point.len() + 1)) {
        let (w, intercept) = row.split_at(point.len());
        *score = intercept[0] + w.iter().zip(point).map(|(w, &x)| w * f64::from(x)).sum::<f64>();
    }
}

struct Problem<'a> {
    n_dimensions: usize,
    n_classes: usize,
    points: &'a [f32],
    labels: &'a [u16],
    c: f64,
}

impl Problem<'_> {
    /// Objective and gradient.
    fn evaluate(&self, weights: &[f64]) -> (f64, Vec<f64>) {
        let shards: Vec<(f64, Vec<f64>)> = self
            .points
            .par_chunks(SHARD * self.n_dimensions)
            .zip(self.labels.par_chunks(SHARD))
            .map(|(points, labels)| self.shard(weights, points, labels))
            .collect();
        let (mut loss, mut gradient) = (0.0, vec![0.0; weights.len()]);
        for (l, g) in shards {
            loss += l;
            gradient.iter_mut().zip(g).for_each(|(sum, g)| *sum += g);
        }
        let n = self.labels.len() as f64;
        loss /= n;
        gradient.iter_mut().for_each(|g| *g /= n);
        let penalty = 1.0 / (self.c * n);
        let columns = self.n_dimensions + 1;
        for (i, (&w, g)) in weights.iter().zip(&mut gradient).enumerate() {
            if i % columns < self.n_dimensions {
                loss += 0.5 * penalty * w * w;
                *g += penalty * w;
            }
        }
        (loss, gradient)
    }

    fn shard(&self, weights: &[f64], points: &[f32], labels: &[u16]) -> (f64, Vec<f64>) {
        let (mut loss, mut gradient) = (0.0, vec![0.0; weights.len()]);
        let mut p = vec![0.0; self.n_classes];
        for (point, &label) in points.chunks_exact(self.n_dimensions).zip(labels) {
            score(weights, point, &mut p);
            let top = p.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let at_label = p[usize::from(label)] - top;
            p.iter_mut().for_each(|s| *s = libm::exp(*s - top));
            let sum: f64 = p.iter().sum();
            loss += libm::log(sum) - at_label;
            for (k, row) in gradient.chunks_exact_mut(self.n_dimensions + 1).enumerate() {
                let error = p[k] / sum - f64::from(u8::from(k == usize::from(label)));
                let (of_weights, of_intercept) = row.split_at_mut(self.n_dimensions);
                of_weights.iter_mut().zip(point).for_each(|(g, &x)| *g += error * f64::from(x));
                of_intercept[0] += error;
            }
        }
        (loss, gradient)
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Minimises a smooth convex function, given as value and gradient, from `x` on.
fn minimise(mut x: Vec<f64>, f: impl Fn(&[f64]) -> (f64, Vec<f64>)) -> Vec<f64> {
    let (mut value, mut gradient) = f(&x);
    let mut memory: VecDeque<(Vec<f64>, Vec<f64>, f64)> = VecDeque::new();
    for _ in 0..MAX_ITERATIONS {
        if gradient.iter().all(|g| g.abs() <= TOLERANCE) {
            break;
        }
        let direction = direction(&gradient, &memory);
        let slope = dot(&direction, &gradient);
        let first = if memory.is_empty() { 1.0 / libm::sqrt(-slope) } else { 1.0 };
        // Halves the step until the value falls by a fair share of what the slope promises.
        let found = (0..30).map(|k| first / f64::from(1u32 << k)).find_map(|step| {
            let tried: Vec<f64> = x.iter().zip(&direction).map(|(x, d)| x + step * d).collect();
            let (v, g) = f(&tried);
            (v <= value + 1e-4 * step * slope).then_some((tried, v, g))
        });
        let Some((moved, v, g)) = found else { break };
        let s: Vec<f64> = moved.iter().zip(&x).map(|(a, b)| a - b).collect();
        let y: Vec<f64> = g.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        let curvature = dot(&s, &y);
        if curvature > 1e-12 {
            if memory.len() == MEMORY {
                memory.pop_front();
            }
            memory.push_back((s, y, curvature));
        }
        (x, value, gradient) = (moved, v, g);
    }
    x
}

/// −(inverse Hessian as remembered)·gradient, by the two-loop recursion.
fn direction(gradient: &[f64], memory: &VecDeque<(Vec<f64>, Vec<f64>, f64)>) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut shares = Vec::with_capacity(memory.len());
    for (s, y, curvature) in memory.iter().rev() {
        let share = dot(s, &q) / curvature;
        q.iter_mut().zip(y).for_each(|(q, y)| *q -= share * y);
        shares.push(share);
    }
    if let Some((_, y, curvature)) = memory.back() {
        let scale = curvature / dot(y, y);
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for ((s, y, curvature), share) in memory.iter().zip(shares.iter().rev()) {
        let back = dot(y, &q) / curvature;
        q.iter_mut().zip(s).for_each(|(q, s)| *q += (share - back) * s);
    }
    q
}
