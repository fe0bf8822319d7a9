//! Adam with its ε inside the root, over blocks of lanes.
//!
//! `m ← 0.9 m + 0.1 d`, `v ← 0.999 v + 0.001 d²`,
//! `x ← x − rate·(m/(1 − 0.9ᵏ))/√(v/(1 − 0.999ᵏ) + 1e−8)`, k = 1 at the first step.

use crate::simd::{Simd, dispatch};
use crate::times::alpha::lanes::{Block, LANES};
use rayon::prelude::*;

const BETA_M: f64 = 0.9;
const BETA_V: f64 = 0.999;
const EPSILON: f64 = 1e-8;
/// Blocks a thread takes at once, about.
const GRAIN: usize = 256;

/// One step's factors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    rate: f64,
    /// 1/(1 − 0.9ᵏ) and 1/(1 − 0.999ᵏ).
    unbias: [f64; 2],
    /// 1/number of samples in the sum of gradients.
    share: f64,
    /// Smallest value that a parameter may take.
    least: f64,
}

impl Step {
    /// The `k`-th step, from 1, for gradients summed over `n_samples`.
    pub(super) fn new(k: u64, rate: f64, n_samples: usize, least: f64) -> Self {
        let unbias = [BETA_M, BETA_V].map(|b| 1.0 / (1.0 - libm::pow(b, k as f64)));
        Self { rate, unbias, share: 1.0 / n_samples as f64, least }
    }

    /// Steps one parameter.
    #[inline(always)]
    pub(super) fn apply(&self, x: &mut f64, m: &mut f64, v: &mut f64, sum: f64) {
        let d = sum * self.share;
        *m = BETA_M * *m + (1.0 - BETA_M) * d;
        *v = BETA_V * *v + (1.0 - BETA_V) * (d * d);
        let step = self.rate * (*m * self.unbias[0]) / (*v * self.unbias[1] + EPSILON).sqrt();
        let moved = *x - step;
        *x = if moved > self.least { moved } else { self.least };
    }

    /// Steps all `x`, rows of `common.len()` blocks. A gradient is the sum of the `parts`, in
    /// their order, plus `common` of its column; the parts are set to 0.
    pub(super) fn apply_all(
        &self,
        simd: Simd,
        x: &mut [Block],
        moments: [&mut Vec<Block>; 2],
        parts: Vec<&mut [Block]>,
        common: &[Block],
    ) {
        let chunk = GRAIN.div_ceil(common.len()) * common.len();
        let n_chunks = x.len().div_ceil(chunk);
        let mut parts_of: Vec<Vec<&mut [Block]>> = (0..n_chunks).map(|_| Vec::new()).collect();
        for part in parts {
            parts_of.iter_mut().zip(part.chunks_mut(chunk)).for_each(|(of, p)| of.push(p));
        }
        let [m, v] = moments;
        x.par_chunks_mut(chunk)
            .zip(m.par_chunks_mut(chunk))
            .zip(v.par_chunks_mut(chunk))
            .zip(parts_of)
            .for_each(|(((x, m), v), mut parts)| {
                let (sum, others) = parts.split_first_mut().expect("a gradient");
                others.iter_mut().for_each(|o| add(simd, sum, o));
                step_blocks(simd, self, x, m, v, sum, common);
            });
    }
}

dispatch! {
    /// Adds `part` to `sum` and clears it.
    fn add(sum: &mut [Block], part: &mut [Block]) = add_body;
}

#[inline(always)]
fn add_body(sum: &mut [Block], part: &mut [Block]) {
    for (sum, part) in sum.iter_mut().zip(part) {
        for l in 0..LANES {
            sum.0[l] += part.0[l];
        }
        *part = Block::splat(0.0);
    }
}

dispatch! {
    /// [`Step::apply`] on blocks; clears `sum`.
    fn step_blocks(
        step: &Step,
        x: &mut [Block],
        m: &mut [Block],
        v: &mut [Block],
        sum: &mut [Block],
        common: &[Block],
    ) = step_blocks_body;
}

#[inline(always)]
fn step_blocks_body(
    step: &Step,
    x: &mut [Block],
    m: &mut [Block],
    v: &mut [Block],
    sum: &mut [Block],
    common: &[Block],
) {
    let blocks = x.iter_mut().zip(m).zip(v).zip(sum).zip(common.iter().cycle());
    for ((((x, m), v), sum), common) in blocks {
        for l in 0..LANES {
            step.apply(&mut x.0[l], &mut m.0[l], &mut v.0[l], sum.0[l] + common.0[l]);
        }
        *sum = Block::splat(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_is_the_rate_but_for_epsilon() {
        for d in [3.0, -2e-4, 1e-9] {
            let (mut x, mut m, mut v) = (0.5, 0.0, 0.0);
            Step::new(1, 0.01, 4, f64::NEG_INFINITY).apply(&mut x, &mut m, &mut v, 4.0 * d);
            let expected = 0.5 - 0.01 * d / (d * d + 1e-8f64).sqrt();
            assert!((x - expected).abs() < 1e-15, "{x} against {expected}");
        }
    }

    #[test]
    fn blocks_step_as_single_parameters_do() {
        let value = |i: usize, k: usize| ((i * 37 + k * 11) % 17) as f64 / 17.0 - 0.4;
        let n_blocks = 3 * 200;
        let array = |k: usize| -> Vec<Block> {
            (0..n_blocks).map(|b| Block(std::array::from_fn(|l| value(b * LANES + l, k)))).collect()
        };
        let common: Vec<Block> = array(9)[..3].to_vec();
        let step = Step::new(5, 0.01, 3, -0.2);
        for simd in Simd::available() {
            let (mut x, mut m, mut v) = (array(0), array(1), array(2));
            v.iter_mut().for_each(|b| b.0.iter_mut().for_each(|v| *v = v.abs()));
            let (mut first, mut second) = (array(3), array(4));
            let parts = vec![first.as_mut_slice(), second.as_mut_slice()];
            step.apply_all(simd, &mut x, [&mut m, &mut v], parts, &common);
            for i in 0..n_blocks * LANES {
                let (mut one, mut m_one, mut v_one) = (value(i, 0), value(i, 1), value(i, 2).abs());
                let sum = value(i, 3) + value(i, 4) + common[i / LANES % 3].0[i % LANES];
                step.apply(&mut one, &mut m_one, &mut v_one, sum);
                let at = |a: &[Block]| a[i / LANES].0[i % LANES];
                assert_eq!((at(&x), at(&m), at(&v)), (one, m_one, v_one));
            }
            assert!(first.iter().chain(&second).all(|b| *b == Block::splat(0.0)));
        }
    }
}
