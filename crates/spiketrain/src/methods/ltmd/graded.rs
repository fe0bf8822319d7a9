//! Graded output neurons with lateral interaction.
//!
//! 1. `l[t,n] = Σ_j K[j] I[t, n + j − 2]`, five taps along the units, zeros outside
//! 2. `u[t] = τ u[t−1] (1 − 1[o[t−1] > θ]) + I[t] + l[t]`
//! 3. `o[t] = u[t]` where `u[t] > θ`, else 0
//!
//! Backward, with g\[t\] = dL/do\[t\] and A\[T\] = 0; a is how far below the threshold gradients
//! still pass, and θ has no gradient:
//!
//! 4. `b[t] = g[t] 1[u[t] ≥ θ − a] + A[t] (1 − 1[o[t] > θ])`, `A[t−1] = τ b[t]`
//! 5. `dL/dI[t] = b[t]` plus b\[t\] through the transposed filter;
//!    `dL/dK[j] = Σ b[t,n] I[t, n + j − 2]`
//!
//! Arrays are `[time, sample, unit]`.

/// Taps of the lateral filter.
pub const TAPS: usize = 5;
const MIDDLE: usize = TAPS / 2;

/// Graded neurons.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Graded {
    /// τ.
    pub decay: f32,
    /// a.
    pub window: f32,
}

impl Graded {
    /// Equations 2 and 3: turns `I + l` of `n_steps` steps into membranes, and gives the outputs.
    pub fn forward(&self, threshold: f32, current: &mut [f32], n_steps: usize) -> Vec<f32> {
        let n = current.len() / n_steps;
        let mut outputs = vec![0.0; current.len()];
        for t in 0..n_steps {
            let (past, present) = current.split_at_mut(t * n);
            for i in 0..n {
                let kept = match t {
                    0 => 0.0,
                    _ if outputs[(t - 1) * n + i] > threshold => 0.0,
                    _ => past[(t - 1) * n + i],
                };
                let u = self.decay * kept + present[i];
                present[i] = u;
                // In this order NaN stays NaN.
                outputs[t * n + i] = if u <= threshold { 0.0 } else { u };
            }
        }
        outputs
    }

    /// Equation 4: from dL/do to b, in place; `u` and `outputs` are those of the forward pass.
    pub fn backward(
        &self,
        threshold: f32,
        u: &[f32],
        outputs: &[f32],
        d: &mut [f32],
        n_steps: usize,
    ) {
        let n = u.len() / n_steps;
        let mut a = vec![0.0; n];
        for t in (0..n_steps).rev() {
            let at = t * n..(t + 1) * n;
            for (((d, a), &u), &o) in
                d[at.clone()].iter_mut().zip(&mut a).zip(&u[at.clone()]).zip(&outputs[at])
            {
                let through = if u >= threshold - self.window { *d } else { 0.0 };
                let stays = if o > threshold { 0.0 } else { *a };
                *d = through + stays;
                *a = self.decay * *d;
            }
        }
    }
}

/// Input of tap `j` at unit `n`, if there is one.
fn source(n: usize, j: usize, n_units: usize) -> Option<usize> {
    (n + j).checked_sub(MIDDLE).filter(|&i| i < n_units)
}

/// Equation 1.
pub fn lateral(kernel: &[f32], current: &[f32], n_units: usize) -> Vec<f32> {
    let mut out = vec![0.0; current.len()];
    for (out, row) in out.chunks_exact_mut(n_units).zip(current.chunks_exact(n_units)) {
        for (n, out) in out.iter_mut().enumerate() {
            let taps = kernel.iter().enumerate();
            *out = taps.filter_map(|(j, k)| Some(k * row[source(n, j, n_units)?])).sum();
        }
    }
    out
}

/// Equation 5: from b to dL/dI, in place, and dL/dK.
pub fn lateral_gradient(
    kernel: &[f32],
    current: &[f32],
    b: &mut [f32],
    n_units: usize,
) -> [f64; TAPS] {
    let mut d_kernel = [0.0; TAPS];
    let mut sums = vec![0.0; n_units];
    for (b, row) in b.chunks_exact_mut(n_units).zip(current.chunks_exact(n_units)) {
        sums.copy_from_slice(b);
        for (n, &b) in b.iter().enumerate() {
            for (j, &k) in kernel.iter().enumerate() {
                let Some(i) = source(n, j, n_units) else { continue };
                sums[i] += k * b;
                d_kernel[j] += f64::from(b) * f64::from(row[i]);
            }
        }
        b.copy_from_slice(&sums);
    }
    d_kernel
}
