//! One block: batch normalisation, SoftHebb convolution, triangle, pooling.

use super::gemm::{Left, Right, multiply};
use super::maps::{Maps, transpose, unfold};
use super::{BlockParams, math};
use crate::error::{Error, ErrorKind, Result};
use crate::seed::Seed;
use crate::simd::Simd;
use crate::spikes::Shape;
use rayon::prelude::*;

/// Added to the variance before its root is taken.
const VARIANCE_FLOOR: f64 = 1e-5;

/// Rows of the weight matrix that one task of an update takes.
const TASK_ROWS: usize = 64;

/// A block and what it has learned.
///
/// For an input x of shape `[image, height, width, channel]`, dimensionless:
///
/// ```text
/// x̂ = (x - mean) / sqrt(variance + 1e-5)          per channel
/// u = w ⋆ x̂                                        stride 1, mirrored borders, no bias
/// r = max(0, u - mean over the channels of u)ᵖ     at each position
/// o = pool(r)
/// ```
///
/// Weights are kept as a matrix `[a, b, input channel][output channel]`, so that the convolution
/// is one matrix product with the unfolded input and an update runs along its rows.
#[derive(Clone, Debug)]
pub struct Block {
    params: BlockParams,
    in_channels: usize,
    weight: Vec<f32>,
    running_mean: Vec<f32>,
    running_var: Vec<f32>,
}

/// Everything one pass through a [`Block`] computes; storage is reused by the next pass.
#[derive(Debug)]
pub struct Workspace {
    /// Normalised input x̂.
    pub normalised: Maps,
    /// Weighted input u.
    pub u: Maps,
    /// Triangle activation r.
    pub triangle: Maps,
    /// Pooled output o.
    pub pooled: Maps,
    /// Rate of each output channel in the last update, lr·(|‖w‖ - 1| + 1e-10)^power.
    pub rates: Vec<f32>,
    patches: Vec<f32>,
    competition: Vec<f32>,
    delta: Vec<f32>,
    delta_max: f32,
    packed_weight: Right,
    packed_competition: Right,
}

impl Default for Workspace {
    fn default() -> Self {
        let simd = Simd::best();
        Self {
            normalised: Maps::default(),
            u: Maps::default(),
            triangle: Maps::default(),
            pooled: Maps::default(),
            rates: Vec::new(),
            patches: Vec::new(),
            competition: Vec::new(),
            delta: Vec::new(),
            delta_max: 0.0,
            packed_weight: Right::new(simd),
            packed_competition: Right::new(simd),
        }
    }
}

impl Block {
    /// A block with weights drawn from a normal distribution of mean 0, such that the norm of an
    /// output channel's weights is near `weight_norm`. Streams are `softhebb.weight`, `index`.
    pub fn draw(
        params: &BlockParams,
        in_channels: usize,
        weight_norm: f64,
        seed: Seed,
        index: u64,
    ) -> Self {
        let n_inputs = in_channels * params.kernel * params.kernel;
        let std = weight_norm / libm::sqrt(n_inputs as f64);
        let mut stream = seed.stream("softhebb.weight", index);
        let n_weights = params.channels * n_inputs;
        let filters: Vec<f32> = (0..n_weights).map(|_| stream.normal(0.0, std) as f32).collect();
        Self::with_filters(params, in_channels, &filters)
    }

    /// A block with given weights, `[output channel, input channel, a, b]`, and running
    /// statistics mean 0, variance 1.
    ///
    /// # Panics
    ///
    /// If the number of weights is not that of the shape.
    pub fn with_filters(params: &BlockParams, in_channels: usize, filters: &[f32]) -> Self {
        let n_inputs = in_channels * params.kernel * params.kernel;
        assert_eq!(filters.len(), params.channels * n_inputs, "weights fill the shape");
        let mut inner = vec![0.0; filters.len()];
        for (out, filter) in inner.chunks_exact_mut(n_inputs).zip(filters.chunks_exact(n_inputs)) {
            transpose(filter, params.kernel * params.kernel, out);
        }
        let mut weight = vec![0.0; filters.len()];
        transpose(&inner, n_inputs, &mut weight);
        Self {
            params: params.clone(),
            in_channels,
            weight,
            running_mean: vec![0.0; in_channels],
            running_var: vec![1.0; in_channels],
        }
    }

    /// The same block with other running statistics, one value per input channel.
    ///
    /// # Panics
    ///
    /// If there are more or fewer.
    #[must_use]
    pub fn with_statistics(mut self, mean: &[f32], variance: &[f32]) -> Self {
        self.running_mean.copy_from_slice(mean);
        self.running_var.copy_from_slice(variance);
        self
    }

    /// The weights, `[output channel, input channel, a, b]`.
    pub fn filters(&self) -> Vec<f32> {
        self.to_filters(&self.weight)
    }

    /// The last update's direction, `[output channel, input channel, a, b]`, scaled so that its
    /// largest absolute value is 1.
    pub fn scaled_delta(&self, ws: &Workspace) -> Vec<f32> {
        let mut filters = self.to_filters(&ws.delta);
        filters.iter_mut().for_each(|d| *d /= ws.delta_max);
        filters
    }

    /// Shape of [`Block::filters`].
    pub fn filter_shape(&self) -> [usize; 4] {
        [self.params.channels, self.in_channels, self.params.kernel, self.params.kernel]
    }

    /// Running mean of each input channel.
    pub fn running_mean(&self) -> &[f32] {
        &self.running_mean
    }

    /// Running variance of each input channel.
    pub fn running_var(&self) -> &[f32] {
        &self.running_var
    }

    fn to_filters(&self, matrix: &[f32]) -> Vec<f32> {
        let n_inputs = matrix.len() / self.params.channels;
        let mut inner = vec![0.0; matrix.len()];
        transpose(matrix, self.params.channels, &mut inner);
        let mut filters = vec![0.0; matrix.len()];
        let pairs = filters.chunks_exact_mut(n_inputs).zip(inner.chunks_exact(n_inputs));
        pairs.for_each(|(out, filter)| transpose(filter, self.in_channels, out));
        filters
    }

    /// Takes over the weights for the passes that follow; needed after every change of them.
    pub fn prepare(&self, ws: &mut Workspace) {
        ws.packed_weight.pack(&self.weight, self.params.channels);
    }

    /// A pass with running statistics that learns nothing. [`Block::prepare`] came before.
    pub fn forward(&self, input: &Maps, ws: &mut Workspace) {
        let variance: Vec<f64> = self.running_var.iter().map(|&v| f64::from(v)).collect();
        let mean: Vec<f64> = self.running_mean.iter().map(|&m| f64::from(m)).collect();
        normalise(input, &mean, &variance, &mut ws.normalised);
        self.respond(ws);
    }

    /// A pass with the statistics of the mini-batch that learns from it. The output in `ws` is
    /// that of the weights before the update.
    ///
    /// # Errors
    ///
    /// If a weight is no longer finite.
    pub fn train(
        &mut self,
        input: &Maps,
        momentum: f32,
        rate_power: f64,
        ws: &mut Workspace,
    ) -> Result<()> {
        let (mean, variance) = statistics(input);
        let n = input.n_positions() as f64;
        let unbiased = n / (n - 1.0).max(1.0);
        for (c, (m, v)) in mean.iter().zip(&variance).enumerate() {
            self.running_mean[c] += momentum * (*m as f32 - self.running_mean[c]);
            self.running_var[c] += momentum * ((v * unbiased) as f32 - self.running_var[c]);
        }
        normalise(input, &mean, &variance, &mut ws.normalised);
        self.prepare(ws);
        self.respond(ws);
        self.update(rate_power, ws)
    }

    /// From the normalised input to the pooled output.
    fn respond(&self, ws: &mut Workspace) {
        let input = ws.normalised.shape;
        let shape = Shape::new(self.params.channels, input.height, input.width);
        unfold(&ws.normalised, self.params.kernel, &mut ws.patches);
        ws.u.resize(ws.normalised.n_images, shape);
        let depth = self.weight.len() / shape.channels;
        let rows = ws.normalised.n_positions();
        let left = Left { values: &ws.patches, rows, depth, row_stride: depth, depth_stride: 1 };
        multiply(left, &ws.packed_weight, &mut ws.u.values);

        ws.triangle.resize(ws.u.n_images, shape);
        let power = self.params.triangle_power;
        let lines = ws.triangle.values.par_chunks_exact_mut(shape.width * shape.channels);
        lines.zip(ws.u.values.par_chunks_exact(shape.width * shape.channels)).for_each(|(r, u)| {
            let positions = r.chunks_exact_mut(shape.channels).zip(u.chunks_exact(shape.channels));
            positions.for_each(|(r, u)| math::triangle(u, power, r));
        });
        self.params.window().pool(&ws.triangle, &mut ws.pooled);
    }

    /// The soft anti-Hebbian rule, with y the soft competition of u at each position:
    ///
    /// ```text
    /// dw[o,i,a,b] = Σ y[o]·x̂[i, position + (a,b)] - (Σ y[o]·u[o])·w[o,i,a,b]
    /// w[o] += lr·(| ‖w[o]‖ - 1 | + 1e-10)^power · dw[o] / max |dw|
    /// ```
    ///
    /// with sums over images and positions (T. Moraitis et al. 2022, doi:10.1088/2634-4386/aca710;
    /// the step's size: A. Journé et al., ICLR 2023, arXiv:2209.11883).
    fn update(&mut self, rate_power: f64, ws: &mut Workspace) -> Result<()> {
        let n_out = self.params.channels;
        let forgetting = self.compete(ws);
        let rows = self.weight.len() / n_out;
        ws.packed_competition.pack(&ws.competition, n_out);
        ws.delta.resize(self.weight.len(), 0.0);
        let depth = ws.u.n_positions();
        let left = Left { values: &ws.patches, rows, depth, row_stride: 1, depth_stride: rows };
        multiply(left, &ws.packed_competition, &mut ws.delta);

        let (max, squares) = forget(&mut ws.delta, &self.weight, &forgetting);
        ws.delta_max = max + 1e-30;
        ws.rates.clear();
        ws.rates.extend(squares.iter().map(|s| {
            let excess = (libm::sqrt(*s) - 1.0).abs() + 1e-10;
            (f64::from(self.params.learning_rate) * libm::pow(excess, rate_power)) as f32
        }));
        if let Some(o) = ws.rates.iter().position(|r| !r.is_finite()) {
            return Err(Error::new(
                ErrorKind::Diverged,
                format!("the weights of output channel {o} are no longer finite"),
            ));
        }
        let steps = self.weight.par_chunks_mut(TASK_ROWS * n_out);
        steps.zip(ws.delta.par_chunks(TASK_ROWS * n_out)).for_each(|(weight, delta)| {
            for (w, d) in weight.chunks_exact_mut(n_out).zip(delta.chunks_exact(n_out)) {
                for ((w, d), rate) in w.iter_mut().zip(d).zip(&ws.rates) {
                    *w += rate * (d / ws.delta_max);
                }
            }
        });
        Ok(())
    }

    /// Fills `ws.competition` with y and returns Σ y·u of each output channel.
    fn compete(&self, ws: &mut Workspace) -> Vec<f32> {
        let shape = ws.u.shape;
        ws.competition.resize(ws.u.values.len(), 0.0);
        let tau = self.params.inverse_temperature;
        let images = ws.competition.par_chunks_exact_mut(shape.len());
        let sums: Vec<Vec<f32>> = images
            .zip(ws.u.values.par_chunks_exact(shape.len()))
            .map(|(y, u)| {
                let mut sum = vec![0.0; shape.channels];
                let positions = y.chunks_exact_mut(shape.channels);
                for (y, u) in positions.zip(u.chunks_exact(shape.channels)) {
                    math::soft_competition(u, tau, y);
                    sum.iter_mut().zip(y).zip(u).for_each(|((s, y), u)| *s += *y * u);
                }
                sum
            })
            .collect();
        add_in_order(&sums)
    }
}

/// `delta -= forgetting · weight`; returns the largest |delta| and ‖weight‖² of each column.
fn forget(delta: &mut [f32], weight: &[f32], forgetting: &[f32]) -> (f32, Vec<f64>) {
    let n = forgetting.len();
    let tasks = delta.par_chunks_mut(TASK_ROWS * n).zip(weight.par_chunks(TASK_ROWS * n));
    let parts: Vec<(f32, Vec<f32>)> = tasks
        .map(|(delta, weight)| {
            let mut squares = vec![0.0f32; n];
            let mut largest = vec![0.0f32; n];
            for (d, w) in delta.chunks_exact_mut(n).zip(weight.chunks_exact(n)) {
                for ((d, w), f) in d.iter_mut().zip(w).zip(forgetting) {
                    *d -= f * w;
                }
                squares.iter_mut().zip(w).for_each(|(s, w)| *s += w * w);
                largest.iter_mut().zip(d).for_each(|(l, d)| *l = l.max(d.abs()));
            }
            (largest.into_iter().fold(0.0, f32::max), squares)
        })
        .collect();
    let mut squares = vec![0.0f64; n];
    for (_, part) in &parts {
        squares.iter_mut().zip(part).for_each(|(s, &p)| *s += f64::from(p));
    }
    (parts.iter().fold(0.0, |m, (p, _)| m.max(*p)), squares)
}

/// Sums vectors element by element, first to last.
fn add_in_order(parts: &[Vec<f32>]) -> Vec<f32> {
    let mut total = parts[0].clone();
    for part in &parts[1..] {
        total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
    }
    total
}

/// Mean and (biased) variance of each channel over images and positions.
fn statistics(maps: &Maps) -> (Vec<f64>, Vec<f64>) {
    let channels = maps.shape.channels;
    let parts: Vec<(Vec<f64>, Vec<f64>)> = maps
        .values
        .par_chunks_exact(maps.shape.len())
        .map(|image| {
            let (mut sums, mut squares) = (vec![0.0f64; channels], vec![0.0f64; channels]);
            for position in image.chunks_exact(channels) {
                for ((sum, square), &x) in sums.iter_mut().zip(&mut squares).zip(position) {
                    let x = f64::from(x);
                    *sum += x;
                    *square += x * x;
                }
            }
            (sums, squares)
        })
        .collect();
    let n = maps.n_positions() as f64;
    let mut mean = vec![0.0f64; channels];
    let mut variance = vec![0.0f64; channels];
    for (sums, squares) in &parts {
        mean.iter_mut().zip(sums).for_each(|(m, s)| *m += s / n);
        variance.iter_mut().zip(squares).for_each(|(v, s)| *v += s / n);
    }
    variance.iter_mut().zip(&mean).for_each(|(v, m)| *v = (*v - m * m).max(0.0));
    (mean, variance)
}

/// `out = (maps - mean) / sqrt(variance + floor)`, channel by channel.
fn normalise(maps: &Maps, mean: &[f64], variance: &[f64], out: &mut Maps) {
    out.resize(maps.n_images, maps.shape);
    let channels = maps.shape.channels;
    let scale: Vec<f32> =
        variance.iter().map(|v| (1.0 / libm::sqrt(v + VARIANCE_FLOOR)) as f32).collect();
    let mean: Vec<f32> = mean.iter().map(|&m| m as f32).collect();
    let images = out.values.par_chunks_exact_mut(maps.shape.len());
    images.zip(maps.values.par_chunks_exact(maps.shape.len())).for_each(|(out, image)| {
        for (out, x) in out.chunks_exact_mut(channels).zip(image.chunks_exact(channels)) {
            for (((out, x), mean), scale) in out.iter_mut().zip(x).zip(&mean).zip(&scale) {
                *out = (x - mean) * scale;
            }
        }
    });
}
