//! The gradient-trained network that the sleep study is controlled with: does the same sleep help
//! where nothing runs away?
//!
//! A. Massey, A. Hubin, S. Nichele, S. Sæbø, "Sleep-Based Homeostatic Regularization for
//! Stabilizing Spike-Timing-Dependent Plasticity in Recurrent Spiking Neural Networks", 2026,
//! arXiv 2601.08447.
//!
//! Reads [`Images`]; pixels are constant currents. Two fully connected layers of
//! leaky neurons, trained by backpropagation through time with a surrogate slope. Equations:
//!
//! 1. `m ← β m + W s + b − 1[m > 1]`, spike where m > 1
//! 2. `L = Σ_t cross-entropy(output spikes at t, label)`, mean over the batch
//! 3. slope of a spike: `1/(1 + (π(m − 1))²)`; the reset has none
//! 4. Adam on all weights and biases
//! 5. asleep: `m ← β(m + σξ) + …` without input; traces `x ← x e^(−1/τ) + s`;
//!    `w_oh += η (A₊ s_o x_h − A₋ x_o s_h)`, mean over the batch, at every step
//! 6. after it, once: `|w| ← w*(|w|/w*)^λ` for both weight matrices
//!
//! | symbol | field | shape | unit | default |
//! | --- | --- | --- | --- | --- |
//! | | `n_hidden` | | | 1000 |
//! | β | `beta` | | | 0.95 |
//! | T | `n_steps` | | steps | 25 |
//! | | `learning_rate` | | | 5·10⁻⁴ |
//! | | `sleep_ratio` | | | 0.1 |
//! | σ | `noise_std` | | threshold | 3 |
//! | τ, A₊, A₋ | `tau`, `a_plus`, `a_minus` | | steps | 20, 0.01, 0.012 |
//! | η | `sleep_learning_rate` | | weight | 10⁻³ |
//! | w*, λ | `target`, `lambda` | | weight | 0.2, 0.999 |
//! | W | state `hidden.weight`, `output.weight` | `[neuron, input]` | threshold | ±1/√inputs |
//!
//! The input is silent asleep, so that only the output weights see STDP.

use crate::check::Checks;
use crate::error::{Error, Result};
use crate::learner::{Batch, Card, Ctx, EpochReport, Learner, Prediction, StepReport, Task};
use crate::seed::Seed;
use crate::simd::{Simd, dispatch};
use crate::spikes::{Images, Notation};
use crate::state::State;
use crate::times::homeostasis::contract;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// The method's visiting card.
pub const CARD: Card = Card {
    name: "sleep-surrogate",
    title: "Surrogate-gradient control network of the sleep study",
    citation: "Massey, Hubin, Nichele, Sæbø, 2026, arXiv 2601.08447",
    reads: Notation::Images,
    metrics: &[
        ("weight_hidden", "mean magnitude of the hidden layer's weights"),
        ("weight_output", "mean magnitude of the output layer's weights"),
    ],
    departures: &[
        "25 steps, as the published raw results record, where a later version of the program says \
         100",
    ],
};

/// Samples of one shard of a batch; shards are added up in order.
const SHARD: usize = 16;
/// Adam's decay of the first moment.
const BETA_1: f64 = 0.9;
/// Adam's decay of the second moment.
const BETA_2: f64 = 0.999;
/// Adam's guard against division by 0.
const EPSILON: f64 = 1e-8;

/// Hyper-parameters: the table `[method.sleep-surrogate]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// Hidden neurons.
    pub n_hidden: usize,
    /// What a membrane keeps from step to step, β.
    pub beta: f32,
    /// Steps an image is shown, T.
    pub n_steps: usize,
    /// Adam's learning rate.
    pub learning_rate: f64,
    /// Sleep comes after every ⌊1/ratio⌋-th batch; 0 for never.
    pub sleep_ratio: f64,
    /// Standard deviation of the membrane noise asleep, in units of the threshold.
    pub noise_std: f64,
    /// Time constant of the traces, τ, steps.
    pub tau: f64,
    /// Gain of a causal pair of spikes asleep, A₊.
    pub a_plus: f32,
    /// Loss of an acausal pair of spikes asleep, A₋.
    pub a_minus: f32,
    /// Learning rate asleep, η.
    pub sleep_learning_rate: f32,
    /// Target of the magnitudes, w*.
    pub target: f64,
    /// Exponent of the downscaling after each sleep, λ.
    pub lambda: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            n_hidden: 1000,
            beta: 0.95,
            n_steps: 25,
            learning_rate: 5e-4,
            sleep_ratio: 0.1,
            noise_std: 3.0,
            tau: 20.0,
            a_plus: 0.01,
            a_minus: 0.012,
            sleep_learning_rate: 1e-3,
            target: 0.2,
            lambda: 0.999,
        }
    }
}

impl Params {
    /// What is wrong with the values, if anything.
    pub fn check(&self) -> Checks {
        let mut c = Checks::default();
        c.count("n_hidden", self.n_hidden, 1, 1 << 16);
        c.within("beta", f64::from(self.beta), 0.0, 1.0);
        c.count("n_steps", self.n_steps, 1, 10_000);
        c.not_negative("learning_rate", self.learning_rate);
        c.within("sleep_ratio", self.sleep_ratio, 0.0, 1.0);
        c.not_negative("noise_std", self.noise_std);
        c.positive("tau", self.tau);
        c.not_negative("a_plus", f64::from(self.a_plus));
        c.not_negative("a_minus", f64::from(self.a_minus));
        c.not_negative("sleep_learning_rate", f64::from(self.sleep_learning_rate));
        c.positive("target", self.target);
        let is_share = self.lambda > 0.0 && self.lambda <= 1.0;
        c.that(is_share, "lambda", self.lambda, "a number above 0, at most 1");
        c
    }

    /// Batches from one sleep to the next; nothing if the network never sleeps.
    fn period(&self) -> Option<u64> {
        let period = || (libm::floor(1.0 / self.sleep_ratio) as u64).max(1);
        (self.sleep_ratio > 0.0).then(period)
    }
}

/// The four arrays that learn, in one order everywhere.
type Arrays = [Vec<f32>; 4];
const NAMES: [&str; 4] = ["hidden.weight", "hidden.bias", "output.weight", "output.bias"];

/// The learner.
#[derive(Clone, Debug)]
pub struct SleepSurrogate {
    params: Params,
    n_inputs: usize,
    n_classes: usize,
    /// Hidden weights `[hidden, input]` and biases, output weights `[class, hidden]` and biases.
    weights: Arrays,
    /// Adam's moments.
    moments: [Arrays; 2],
    simd: Simd,
}

/// What the network does in one step, and what it needs to learn from it.
struct Trace {
    /// Hidden membranes at every step, `[time, hidden]`.
    hidden: Vec<f32>,
    /// Output membranes at every step, `[time, class]`.
    output: Vec<f32>,
}

impl SleepSurrogate {
    /// A network with weights drawn from the task's seed, uniform in ±1/√inputs.
    ///
    /// # Errors
    ///
    /// If the task has no images or fewer than two classes.
    pub fn new(params: &Params, task: &Task) -> Result<Self> {
        if task.notation != Notation::Images {
            let found = task.notation.name();
            return Err(Error::recipe(format!(
                "sleep-surrogate reads images, the encoder gives {found}"
            )));
        }
        if task.n_classes < 2 {
            let n = task.n_classes;
            return Err(Error::recipe(format!(
                "sleep-surrogate needs at least 2 classes, the data has {n}"
            )));
        }
        let (n_inputs, n_hidden, n_classes) = (task.shape.len(), params.n_hidden, task.n_classes);
        let uniform = |array: u64, n: usize, n_in: usize| -> Vec<f32> {
            let mut stream = task.seed.stream("sleep-surrogate.weights", array);
            let bound = 1.0 / libm::sqrt(n_in as f64) as f32;
            (0..n).map(|_| (2.0 * stream.uniform() - 1.0) * bound).collect()
        };
        let weights = [
            uniform(0, n_hidden * n_inputs, n_inputs),
            uniform(1, n_hidden, n_inputs),
            uniform(2, n_classes * n_hidden, n_hidden),
            uniform(3, n_classes, n_hidden),
        ];
        let zeros = || [0, 1, 2, 3].map(|k: usize| vec![0.0; weights[k].len()]);
        let moments = [zeros(), zeros()];
        let (params, simd) = (params.clone(), Simd::best());
        Ok(Self { params, n_inputs, n_classes, weights, moments, simd })
    }

    fn shapes(&self) -> [Vec<usize>; 4] {
        let (h, i, c) = (self.params.n_hidden, self.n_inputs, self.n_classes);
        [vec![h, i], vec![h], vec![c, h], vec![c]]
    }

    /// Input current of the hidden layer, `W x + b`, for each of `rows`.
    fn currents(&self, images: &Images, rows: &[usize]) -> (Vec<f32>, Vec<f32>) {
        let (h, n) = (self.params.n_hidden, self.n_inputs);
        let mut pixels = vec![0.0; rows.len() * n];
        pixels.chunks_exact_mut(n).zip(rows).for_each(|(p, &row)| images.read(row, p));
        let mut currents: Vec<f32> = self.weights[1].repeat(rows.len());
        multiply((rows.len(), n, h), (&pixels, n, 1), (&self.weights[0], 1, n), &mut currents);
        (pixels, currents)
    }

    /// Runs one image of hidden `current`; returns the spikes of each output and the number of
    /// hidden spikes, and leaves the membranes in `trace` if given.
    fn run(&self, current: &[f32], mut trace: Option<&mut Trace>) -> (Vec<u32>, u64) {
        let (h, c) = (self.params.n_hidden, self.n_classes);
        let mut hidden = Layer::new(h);
        let mut output = Layer::new(c);
        let mut input = vec![0.0; c];
        let mut counts = vec![0u32; c];
        let mut n_hidden_spikes = 0;
        for t in 0..self.params.n_steps {
            hidden.step(self.simd, current, self.params.beta);
            n_hidden_spikes += self.output_current(&hidden, &mut input);
            output.step(self.simd, &input, self.params.beta);
            output.spikes().for_each(|k| counts[k] += 1);
            if let Some(trace) = trace.as_mut() {
                trace.hidden[t * h..(t + 1) * h].copy_from_slice(&hidden.membrane);
                trace.output[t * c..(t + 1) * c].copy_from_slice(&output.membrane);
            }
        }
        (counts, n_hidden_spikes)
    }

    /// Input current of the output layer; returns the number of hidden spikes.
    fn output_current(&self, hidden: &Layer, input: &mut [f32]) -> u64 {
        let spikes: Vec<usize> = hidden.spikes().collect();
        let rows = self.weights[2].chunks_exact(self.params.n_hidden);
        for ((x, row), bias) in input.iter_mut().zip(rows).zip(&self.weights[3]) {
            *x = bias + spikes.iter().map(|&k| row[k]).sum::<f32>();
        }
        spikes.len() as u64
    }

    /// Summed gradient and loss of a shard.
    fn shard(&self, images: &Images, rows: &[usize], labels: &[u16]) -> (Arrays, f64) {
        let (h, n, c) = (self.params.n_hidden, self.n_inputs, self.n_classes);
        let (pixels, currents) = self.currents(images, rows);
        let n_steps = self.params.n_steps;
        let mut trace = Trace { hidden: vec![0.0; n_steps * h], output: vec![0.0; n_steps * c] };
        let mut gradients = [0, 1, 2, 3].map(|k: usize| vec![0.0; self.weights[k].len()]);
        // Gradient of the hidden current, summed over time, `[sample, hidden]`.
        let mut errors = vec![0.0; rows.len() * h];
        let mut loss = 0.0;
        let samples = currents.chunks_exact(h).zip(errors.chunks_exact_mut(h)).zip(rows);
        for ((current, error), &row) in samples {
            self.run(current, Some(&mut trace));
            loss += self.backward(&trace, usize::from(labels[row]), error, &mut gradients);
        }
        multiply((h, rows.len(), n), (&errors, 1, h), (&pixels, n, 1), &mut gradients[0]);
        for error in errors.chunks_exact(h) {
            gradients[1].iter_mut().zip(error).for_each(|(g, e)| *g += e);
        }
        (gradients, loss)
    }

    /// Walks a trace backwards: adds the gradients of the output layer, leaves that of the hidden
    /// current, summed over time, in `error`; returns the loss.
    fn backward(
        &self,
        trace: &Trace,
        label: usize,
        error: &mut [f32],
        gradients: &mut Arrays,
    ) -> f64 {
        let (h, c, beta) = (self.params.n_hidden, self.n_classes, self.params.beta);
        let mut loss = 0.0;
        let mut of_output = vec![0.0f32; c];
        let mut of_hidden = vec![0.0f32; h];
        let mut of_spikes = vec![0.0f32; h];
        for t in (0..self.params.n_steps).rev() {
            let output = &trace.output[t * c..(t + 1) * c];
            let hidden = &trace.hidden[t * h..(t + 1) * h];
            // Softmax over spikes, which are 0 or 1.
            let weight = |m: f32| if m > 1.0 { std::f64::consts::E } else { 1.0 };
            let sum: f64 = output.iter().map(|&m| weight(m)).sum();
            loss += libm::log(sum) - libm::log(weight(output[label]));
            for (k, (d, &m)) in of_output.iter_mut().zip(output).enumerate() {
                let from_loss = (weight(m) / sum) as f32 - f32::from(u8::from(k == label));
                *d = from_loss * slope(m) + beta * *d;
            }
            let spikes: Vec<usize> = (0..h).filter(|&k| hidden[k] > 1.0).collect();
            of_spikes.fill(0.0);
            for (k, &d) in of_output.iter().enumerate() {
                gradients[3][k] += d;
                let gradient = &mut gradients[2][k * h..(k + 1) * h];
                spikes.iter().for_each(|&i| gradient[i] += d);
                add_scaled(self.simd, &mut of_spikes, d, &self.weights[2][k * h..(k + 1) * h]);
            }
            step_back(self.simd, &mut of_hidden, &of_spikes, hidden, beta, error);
        }
        loss
    }

    /// One step of Adam with the mean gradient of `n` samples.
    fn adam(&mut self, gradients: &Arrays, n: usize, step: u64, rate: f64) {
        let t = (step + 1) as f64;
        let correction = [BETA_1, BETA_2].map(|b| 1.0 - libm::pow(b, t));
        let scale = Adam {
            gradient: 1.0 / n as f32,
            rate: (self.params.learning_rate * rate / correction[0]) as f32,
            second: (1.0 / correction[1]) as f32,
        };
        let [first, second] = &mut self.moments;
        for k in 0..4 {
            let (w, m, v) = (&mut self.weights[k], &mut first[k], &mut second[k]);
            adam_step(self.simd, w, m, v, &gradients[k], &scale);
        }
    }

    /// Sleeps once: noise and STDP for as many steps as an image has, on `n` copies of the
    /// network, then one downscaling.
    fn sleep(&mut self, n: usize, seed: Seed, step: u64) {
        let shards: Vec<Vec<usize>> =
            (0..n).collect::<Vec<_>>().chunks(SHARD).map(<[usize]>::to_vec).collect();
        let (h, c) = (self.params.n_hidden, self.n_classes);
        let mut copies: Vec<Vec<Sleeper>> = shards
            .iter()
            .map(|shard| {
                let index = |i: usize| step * (1 << 20) + i as u64;
                shard.iter().map(|&i| Sleeper::new(h, c, seed, index(i))).collect()
            })
            .collect();
        for _ in 0..self.params.n_steps {
            let changes: Vec<Vec<f32>> = copies
                .par_iter_mut()
                .map(|copies| {
                    let mut change = vec![0.0; c * h];
                    copies.iter_mut().for_each(|copy| copy.step(self, &mut change));
                    change
                })
                .collect();
            let rate = self.params.sleep_learning_rate / n as f32;
            for change in changes {
                self.weights[2].iter_mut().zip(change).for_each(|(w, d)| *w += rate * d);
            }
        }
        let (target, lambda) = (self.params.target, self.params.lambda);
        for k in [0, 2] {
            for w in &mut self.weights[k] {
                let magnitude = contract(f64::from(w.abs()), target, lambda);
                *w = (magnitude as f32).copysign(*w);
            }
        }
    }

    fn mean_magnitude(&self, array: usize) -> f64 {
        let weights = &self.weights[array];
        weights.iter().map(|w| f64::from(w.abs())).sum::<f64>() / weights.len() as f64
    }
}

/// A layer's membranes.
struct Layer {
    membrane: Vec<f32>,
}

impl Layer {
    fn new(n: usize) -> Self {
        Self { membrane: vec![0.0; n] }
    }

    fn step(&mut self, simd: Simd, current: &[f32], beta: f32) {
        leak_and_fire(simd, &mut self.membrane, current, beta);
    }

    /// Neurons that spike.
    fn spikes(&self) -> impl Iterator<Item = usize> {
        self.membrane.iter().enumerate().filter(|(_, m)| **m > 1.0).map(|(k, _)| k)
    }
}

/// One copy of the network, asleep.
struct Sleeper {
    hidden: Layer,
    output: Layer,
    /// Traces of hidden and of output spikes.
    traces: [Vec<f32>; 2],
    noise: Vec<f64>,
    input: Vec<f32>,
    stream: crate::seed::Stream,
}

impl Sleeper {
    fn new(h: usize, c: usize, seed: Seed, index: u64) -> Self {
        Self {
            hidden: Layer::new(h),
            output: Layer::new(c),
            traces: [vec![0.0; h], vec![0.0; c]],
            noise: vec![0.0; h + c],
            input: vec![0.0; c],
            stream: seed.stream("sleep-surrogate.noise", index),
        }
    }

    /// One step asleep; adds what STDP asks for to `change`, `[class, hidden]`.
    fn step(&mut self, network: &SleepSurrogate, change: &mut [f32]) {
        let p = &network.params;
        self.stream.normals(p.noise_std, &mut self.noise);
        let h = p.n_hidden;
        let membranes = self.hidden.membrane.iter_mut().chain(&mut self.output.membrane);
        membranes.zip(&self.noise).for_each(|(m, x)| *m += *x as f32);
        self.hidden.step(network.simd, &network.weights[1], p.beta);
        network.output_current(&self.hidden, &mut self.input);
        self.output.step(network.simd, &self.input, p.beta);
        let decay = libm::exp(-1.0 / p.tau) as f32;
        for (trace, layer) in self.traces.iter_mut().zip([&self.hidden, &self.output]) {
            trace.iter_mut().for_each(|x| *x *= decay);
            layer.spikes().for_each(|k| trace[k] += 1.0);
        }
        let [of_hidden, of_output] = &self.traces;
        for k in self.output.spikes() {
            add_scaled(network.simd, &mut change[k * h..(k + 1) * h], p.a_plus, of_hidden);
        }
        let spikes: Vec<usize> = self.hidden.spikes().collect();
        for (k, &x) in of_output.iter().enumerate().filter(|(_, x)| **x > 0.0) {
            let row = &mut change[k * h..(k + 1) * h];
            spikes.iter().for_each(|&i| row[i] -= p.a_minus * x);
        }
    }
}

/// Factors of one step of Adam.
struct Adam {
    /// On the gradient.
    gradient: f32,
    /// On the change.
    rate: f32,
    /// On the second moment.
    second: f32,
}

/// Slope of a spike with respect to the membrane.
#[inline(always)]
fn slope(m: f32) -> f32 {
    let x = std::f32::consts::PI * (m - 1.0);
    1.0 / (1.0 + x * x)
}

dispatch! {
    fn leak_and_fire(membrane: &mut [f32], current: &[f32], beta: f32) = leak_and_fire_loop;
}

#[inline(always)]
fn leak_and_fire_loop(membrane: &mut [f32], current: &[f32], beta: f32) {
    for (m, c) in membrane.iter_mut().zip(current) {
        let reset = if *m > 1.0 { 1.0 } else { 0.0 };
        *m = beta * *m + c - reset;
    }
}

dispatch! {
    fn add_scaled(to: &mut [f32], factor: f32, row: &[f32]) = add_scaled_loop;
}

#[inline(always)]
fn add_scaled_loop(to: &mut [f32], factor: f32, row: &[f32]) {
    for (x, w) in to.iter_mut().zip(row) {
        *x += factor * w;
    }
}

dispatch! {
    fn step_back(
        of_membrane: &mut [f32],
        of_spikes: &[f32],
        membrane: &[f32],
        beta: f32,
        sum: &mut [f32],
    ) = step_back_loop;
}

#[inline(always)]
fn step_back_loop(
    of_membrane: &mut [f32],
    of_spikes: &[f32],
    membrane: &[f32],
    beta: f32,
    sum: &mut [f32],
) {
    let n = of_membrane.len();
    let (of_spikes, membrane, sum) = (&of_spikes[..n], &membrane[..n], &mut sum[..n]);
    for i in 0..n {
        of_membrane[i] = of_spikes[i] * slope(membrane[i]) + beta * of_membrane[i];
        sum[i] += of_membrane[i];
    }
}

dispatch! {
    fn adam_step(
        w: &mut [f32],
        m: &mut [f32],
        v: &mut [f32],
        gradient: &[f32],
        scale: &Adam,
    ) = adam_loop;
}

#[inline(always)]
fn adam_loop(w: &mut [f32], m: &mut [f32], v: &mut [f32], gradient: &[f32], scale: &Adam) {
    let n = w.len();
    let (m, v, gradient) = (&mut m[..n], &mut v[..n], &gradient[..n]);
    let (b1, b2) = (BETA_1 as f32, BETA_2 as f32);
    for i in 0..n {
        let g = gradient[i] * scale.gradient;
        m[i] = b1 * m[i] + (1.0 - b1) * g;
        v[i] = b2 * v[i] + (1.0 - b2) * g * g;
        w[i] -= scale.rate * m[i] / ((v[i] * scale.second).sqrt() + EPSILON as f32);
    }
}

/// `out += a·b` for matrices of `(rows, inner, columns)`, each given as values, row stride and
/// column stride; `out` is row by row.
fn multiply(
    (rows, inner, columns): (usize, usize, usize),
    a: (&[f32], usize, usize),
    b: (&[f32], usize, usize),
    out: &mut [f32],
) {
    assert!(a.0.len() == rows * inner && b.0.len() == inner * columns, "matrices fill their sizes");
    assert_eq!(out.len(), rows * columns, "the product fills its size");
    let stride = |s: usize| s as isize;
    // SAFETY: the strides of each matrix are those of its rows and columns, whose products with
    // the extents stay inside the slices, as asserted above.
    unsafe {
        matrixmultiply::sgemm(
            rows,
            inner,
            columns,
            1.0,
            a.0.as_ptr(),
            stride(a.1),
            stride(a.2),
            b.0.as_ptr(),
            stride(b.1),
            stride(b.2),
            1.0,
            out.as_mut_ptr(),
            stride(columns),
            1,
        );
    }
}

impl Learner for SleepSurrogate {
    fn step(&mut self, batch: &Batch<'_>, ctx: &Ctx) -> Result<StepReport> {
        let images = batch.inputs.as_images();
        if let Some(row) = batch.rows.iter().find(|&&r| r >= batch.labels.len()) {
            return Err(Error::data(format!("sample {row} has no label")));
        }
        let shards: Vec<(Arrays, f64)> = batch
            .rows
            .par_chunks(SHARD)
            .map(|rows| self.shard(images, rows, batch.labels))
            .collect();
        let mut shards = shards.into_iter();
        let (mut gradients, mut loss) = shards.next().expect("a batch has samples");
        for (more, l) in shards {
            for (sum, more) in gradients.iter_mut().zip(more) {
                sum.iter_mut().zip(more).for_each(|(s, x)| *s += x);
            }
            loss += l;
        }
        self.adam(&gradients, batch.len(), ctx.step, ctx.rate);
        if self.params.period().is_some_and(|n| (ctx.step + 1).is_multiple_of(n)) {
            self.sleep(batch.len(), ctx.seed, ctx.step);
        }
        Ok(StepReport { n_samples: batch.len() as u64, loss, n_correct: None })
    }

    fn predict(&self, batch: &Batch<'_>) -> Result<Vec<Prediction>> {
        let images = batch.inputs.as_images();
        let of_row = |&row: &usize| {
            let (_, current) = self.currents(images, &[row]);
            let (counts, n_hidden) = self.run(&current, None);
            let best = |best: usize, k: usize| if counts[k] > counts[best] { k } else { best };
            let n_output = u64::from(counts.iter().sum::<u32>());
            Prediction {
                class: Some((0..counts.len()).fold(0, best) as u16),
                scores: counts.iter().map(|&c| c as f32).collect(),
                n_spikes: n_hidden + n_output,
                n_synops: n_hidden * self.n_classes as u64,
                ..Prediction::default()
            }
        };
        Ok(batch.rows.par_iter().map(of_row).collect())
    }

    fn state(&self) -> State {
        let mut state = State::new();
        let shapes = self.shapes();
        for k in 0..4 {
            state.put(NAMES[k], &shapes[k], self.weights[k].clone());
            for (moment, name) in self.moments.iter().zip(["first", "second"]) {
                state.put(&format!("adam.{name}.{}", NAMES[k]), &shapes[k], moment[k].clone());
            }
        }
        state
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        let shapes = self.shapes();
        for k in 0..4 {
            self.weights[k] = state.get(NAMES[k], &shapes[k])?.to_vec();
            for (moment, name) in self.moments.iter_mut().zip(["first", "second"]) {
                let name = format!("adam.{name}.{}", NAMES[k]);
                moment[k] = state.get(&name, &shapes[k])?.to_vec();
            }
        }
        Ok(())
    }

    fn end_epoch(&mut self, _ctx: &Ctx) -> Result<EpochReport> {
        let mut report = EpochReport::default();
        report.metrics.insert("weight_hidden".into(), self.mean_magnitude(0));
        report.metrics.insert("weight_output".into(), self.mean_magnitude(2));
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spikes::{Inputs, Shape};

    fn network(params: &Params) -> SleepSurrogate {
        let (shape, notation) = (Shape::flat(6), Notation::Images);
        let task = Task { shape, notation, n_classes: 3, n_train: 0, seed: Seed(1) };
        SleepSurrogate::new(params, &task).unwrap()
    }

    fn images(n: usize) -> Images {
        let mut stream = Seed(2).stream("images", 0);
        Images::from_floats(Shape::flat(6), (0..n * 6).map(|_| stream.uniform()).collect())
    }

    /// With the true slope replaced by the surrogate there is no loss to differentiate; what can
    /// be: the same walk on a smooth twin, whose spike is the surrogate's integral. Here the
    /// gradient is compared with a plain double loop over time written from the equations.
    #[test]
    fn the_gradient_is_that_of_the_unrolled_equations() {
        let params = Params { n_hidden: 8, n_steps: 7, ..Params::default() };
        let mut net = network(&params);
        net.weights[0].iter_mut().for_each(|w| *w *= 3.0);
        net.weights[2].iter_mut().for_each(|w| *w *= 6.0);
        let images = images(1);
        let (gradients, loss) = net.shard(&images, &[0], &[1]);
        let (h, c, n, n_steps) = (8, 3, 6, 7);
        let mut x = [0.0f32; 6];
        images.read(0, &mut x);
        let w = |k: usize, i: usize| f64::from(net.weights[k][i]);
        let (mut m, mut o) =
            (vec![vec![0.0f64; h]; n_steps + 1], vec![vec![0.0f64; c]; n_steps + 1]);
        let s = |m: f64| f64::from(u8::from(m > 1.0));
        for t in 1..=n_steps {
            for j in 0..h {
                let drive: f64 = (0..n).map(|i| w(0, j * n + i) * f64::from(x[i])).sum();
                m[t][j] = 0.95 * m[t - 1][j] + drive + w(1, j) - s(m[t - 1][j]);
            }
            for k in 0..c {
                let drive: f64 = (0..h).map(|j| w(2, k * h + j) * s(m[t][j])).sum();
                o[t][k] = 0.95 * o[t - 1][k] + drive + w(3, k) - s(o[t - 1][k]);
            }
        }
        let softmax =
            |t: usize, k: usize| s(o[t][k]).exp() / (0..c).map(|k| s(o[t][k]).exp()).sum::<f64>();
        let expected: f64 = (1..=n_steps).map(|t| -softmax(t, 1).ln()).sum();
        assert!((loss - expected).abs() < 1e-6, "{loss} against {expected}");
        let slope = |m: f64| 1.0 / (1.0 + (std::f64::consts::PI * (m - 1.0)).powi(2));
        // dL/do at step t gathers every later step's error, leaked back.
        let of_output = |t: usize, k: usize| -> f64 {
            (t..=n_steps)
                .map(|u| {
                    let error = softmax(u, k) - f64::from(u8::from(k == 1));
                    0.95f64.powi((u - t) as i32) * error * slope(o[u][k])
                })
                .sum()
        };
        let of_hidden = |t: usize, j: usize| -> f64 {
            (t..=n_steps)
                .map(|u| {
                    let back: f64 = (0..c).map(|k| w(2, k * h + j) * of_output(u, k)).sum();
                    0.95f64.powi((u - t) as i32) * back * slope(m[u][j])
                })
                .sum()
        };
        let near = |found: f32, expected: f64| {
            assert!((f64::from(found) - expected).abs() < 1e-4 * expected.abs().max(0.1));
        };
        assert!((0..h).any(|j| (1..=n_steps).any(|t| m[t][j] > 1.0)), "something spikes");
        for k in 0..c {
            near(gradients[3][k], (1..=n_steps).map(|t| of_output(t, k)).sum());
            for j in 0..h {
                let sum = (1..=n_steps).map(|t| of_output(t, k) * s(m[t][j])).sum();
                near(gradients[2][k * h + j], sum);
            }
        }
        for j in 0..h {
            let sum: f64 = (1..=n_steps).map(|t| of_hidden(t, j)).sum();
            near(gradients[1][j], sum);
            (0..n).for_each(|i| near(gradients[0][j * n + i], sum * f64::from(x[i])));
        }
    }

    #[test]
    fn sleep_moves_both_matrices_toward_the_target_and_keeps_signs() {
        let params = Params { n_hidden: 8, sleep_learning_rate: 0.0, ..Params::default() };
        let mut net = network(&params);
        let before = net.weights.clone();
        net.sleep(5, Seed(3), 0);
        assert_eq!((&net.weights[1], &net.weights[3]), (&before[1], &before[3]));
        for k in [0, 2] {
            for (now, then) in net.weights[k].iter().zip(&before[k]) {
                let expected = 0.2 * libm::pow(f64::from(then.abs()) / 0.2, 0.999);
                assert!((f64::from(now.abs()) - expected).abs() < 1e-7);
                assert_eq!(now.is_sign_positive(), then.is_sign_positive());
            }
        }
    }

    #[test]
    fn sleep_comes_after_every_so_many_batches() {
        let period = |sleep_ratio| Params { sleep_ratio, ..Params::default() }.period();
        assert_eq!(
            [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 1.0].map(period),
            [None, Some(10), Some(5), Some(3), Some(2), Some(2), Some(1), Some(1),]
        );
        let (inputs, labels) = (Inputs::Images(images(4)), [0, 1, 2, 0]);
        let batch = Batch { inputs: &inputs, rows: &[0, 1, 2, 3], labels: &labels };
        let after = |sleep_ratio, step| {
            let mut net = network(&Params { n_hidden: 8, sleep_ratio, ..Params::default() });
            let ctx = Ctx { seed: Seed(1), epoch: 0, step, n_presented: 0, rate: 1.0 };
            net.step(&batch, &ctx).unwrap();
            net.weights
        };
        assert_eq!(after(0.0, 3), after(0.2, 3));
        assert_ne!(after(0.0, 4), after(0.2, 4));
    }
}
