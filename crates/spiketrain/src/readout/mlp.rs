//! A perceptron with one hidden layer of rectified units, trained with Adam.
//!
//! `h = max(0, x W₁ + b₁)`, `z = h W₂ + b₂`; outputs are a softmax with cross-entropy or sigmoids
//! with the mean squared error. Adam has the usual constants, its ε outside the root (D. P.
//! Kingma, J. Ba, ICLR 2015, arXiv 1412.6980).

use crate::error::Result;
use crate::seed::Stream;
use crate::state::State;

/// What the outputs are, and the loss that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Softmax; the cross-entropy against a target distribution.
    Softmax,
    /// Sigmoids; the mean over outputs of the squared error.
    Sigmoid,
}

/// The network, its gradient and its optimiser.
#[derive(Clone, Debug, PartialEq)]
pub struct Mlp {
    output: Output,
    /// Inputs, hidden units, outputs.
    sizes: [usize; 3],
    /// W₁ `[input][hidden]`, b₁, W₂ `[hidden][output]`, b₂, one after another.
    parameters: Vec<f32>,
    gradient: Vec<f32>,
    moments: [Vec<f32>; 2],
    n_updates: u64,
    hidden: Vec<f32>,
    out: Vec<f32>,
    delta: Vec<f32>,
}

/// Lanes of a dot product.
const LANES: usize = 16;

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (a_blocks, b_blocks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a_blocks.remainder().iter().zip(b_blocks.remainder());
    let rest: f32 = rest.map(|(x, y)| x * y).sum();
    for (x, y) in a_blocks.zip(b_blocks) {
        for l in 0..LANES {
            sums[l] += x[l] * y[l];
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// `y += a·x`.
fn add_scaled(y: &mut [f32], a: f32, x: &[f32]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += a * x);
}

impl Mlp {
    /// Weights uniform within `±√(6/(fan in + fan out))` from `stream`, biases 0.
    pub fn new(output: Output, sizes: [usize; 3], stream: &mut Stream) -> Self {
        let [n_in, n_hidden, n_out] = sizes;
        let mut parameters = Vec::new();
        for (rows, columns) in [(n_in, n_hidden), (n_hidden, n_out)] {
            let bound = libm::sqrt(6.0 / (rows + columns) as f64);
            let draw = || (bound * (2.0 * stream.uniform_f64() - 1.0)) as f32;
            parameters.extend(std::iter::repeat_with(draw).take(rows * columns));
            parameters.extend(std::iter::repeat_n(0.0, columns));
        }
        let zeros = vec![0.0; parameters.len()];
        Self {
            output,
            sizes,
            gradient: zeros.clone(),
            moments: [zeros.clone(), zeros],
            parameters,
            n_updates: 0,
            hidden: vec![0.0; n_hidden],
            out: vec![0.0; n_out],
            delta: vec![0.0; n_hidden],
        }
    }

    /// Where b₁, W₂ and b₂ begin.
    fn offsets(&self) -> [usize; 3] {
        let [n_in, n_hidden, n_out] = self.sizes;
        let b1 = n_in * n_hidden;
        [b1, b1 + n_hidden, b1 + n_hidden + n_hidden * n_out]
    }

    /// Hidden activities and outputs for `x`.
    pub fn forward(&self, x: &[f32], hidden: &mut Vec<f32>, out: &mut Vec<f32>) {
        let [_, n_hidden, n_out] = self.sizes;
        let [b1, w2, b2] = self.offsets();
        hidden.clear();
        hidden.extend_from_slice(&self.parameters[b1..w2]);
        for (row, &x) in self.parameters[..b1].chunks_exact(n_hidden).zip(x) {
            if x != 0.0 {
                add_scaled(hidden, x, row);
            }
        }
        hidden.iter_mut().for_each(|h| *h = h.max(0.0));
        out.clear();
        out.extend_from_slice(&self.parameters[b2..]);
        for (row, &h) in self.parameters[w2..b2].chunks_exact(n_out).zip(&*hidden) {
            if h != 0.0 {
                add_scaled(out, h, row);
            }
        }
        match self.output {
            Output::Sigmoid => out.iter_mut().for_each(|z| *z = 1.0 / (1.0 + libm::expf(-*z))),
            Output::Softmax => {
                let top = out.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                out.iter_mut().for_each(|z| *z = libm::expf(*z - top));
                let sum: f32 = out.iter().sum();
                out.iter_mut().for_each(|z| *z /= sum);
            }
        }
    }

    /// The class with the largest output.
    pub fn class(&self, x: &[f32]) -> u16 {
        let (mut hidden, mut out) = (Vec::new(), Vec::new());
        self.forward(x, &mut hidden, &mut out);
        super::largest(&out) as u16
    }

    /// Adds the gradient of one sample; returns its loss.
    pub fn accumulate(&mut self, x: &[f32], target: &[f32]) -> f64 {
        let [_, n_hidden, n_out] = self.sizes;
        let [b1, w2, b2] = self.offsets();
        let (mut hidden, mut out) =
            (std::mem::take(&mut self.hidden), std::mem::take(&mut self.out));
        self.forward(x, &mut hidden, &mut out);
        let mut loss = 0.0;
        for (o, &y) in out.iter_mut().zip(target) {
            match self.output {
                Output::Softmax => {
                    loss -= f64::from(y) * libm::log(f64::from(*o) + 1e-12);
                    *o -= y;
                }
                Output::Sigmoid => {
                    let error = *o - y;
                    loss += f64::from(error) * f64::from(error) / n_out as f64;
                    *o = 2.0 / n_out as f32 * error * *o * (1.0 - *o);
                }
            }
        }
        add_scaled(&mut self.gradient[b2..], 1.0, &out);
        for (h, &activity) in hidden.iter().enumerate() {
            let columns = w2 + h * n_out..w2 + (h + 1) * n_out;
            self.delta[h] = if activity > 0.0 {
                add_scaled(&mut self.gradient[columns.clone()], activity, &out);
                dot(&self.parameters[columns], &out)
            } else {
                0.0
            };
        }
        add_scaled(&mut self.gradient[b1..w2], 1.0, &self.delta);
        for (row, &x) in self.gradient[..b1].chunks_exact_mut(n_hidden).zip(x) {
            if x != 0.0 {
                add_scaled(row, x, &self.delta);
            }
        }
        (self.hidden, self.out) = (hidden, out);
        loss
    }

    /// One step of Adam with the mean of the `n_samples` gradients that stand summed.
    pub fn update(&mut self, rate: f32, n_samples: usize) {
        self.n_updates += 1;
        let unbias = |beta: f64| (1.0 / (1.0 - libm::pow(beta, self.n_updates as f64))) as f32;
        let (unbias_m, unbias_v, share) = (unbias(0.9), unbias(0.999), 1.0 / n_samples as f32);
        let [m, v] = &mut self.moments;
        let all = self.parameters.iter_mut().zip(&mut self.gradient).zip(m).zip(v);
        for (((x, g), m), v) in all {
            let d = *g * share;
            *m = 0.9 * *m + 0.1 * d;
            *v = 0.999 * *v + 0.001 * d * d;
            *x -= rate * (*m * unbias_m) / ((*v * unbias_v).sqrt() + 1e-8);
            *g = 0.0;
        }
    }

    #[cfg(test)]
    pub(super) fn gradient(&self) -> &[f32] {
        &self.gradient
    }

    #[cfg(test)]
    pub(super) fn parameters_mut(&mut self) -> &mut [f32] {
        &mut self.parameters
    }

    /// Parameters, moments and the number of updates.
    pub fn state(&self) -> State {
        let mut state = State::new();
        let n = [self.parameters.len()];
        state.put("parameter", &n, self.parameters.clone());
        state.put("parameter_mean", &n, self.moments[0].clone());
        state.put("parameter_square", &n, self.moments[1].clone());
        state.put("n_updates", &[], vec![self.n_updates]);
        state
    }

    /// Puts back what [`Mlp::state`] gave.
    ///
    /// # Errors
    ///
    /// If an array is missing or does not fit.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        let n = [self.parameters.len()];
        self.parameters = state.get("parameter", &n)?.to_vec();
        let moment = |name: &str| Ok(state.get(name, &n)?.to_vec());
        self.moments = [moment("parameter_mean")?, moment("parameter_square")?];
        self.n_updates = state.scalar("n_updates")?;
        self.gradient.fill(0.0);
        Ok(())
    }
}
