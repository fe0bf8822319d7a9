//! The spike pass: the network runs its steps and leaves no records, only what the rate pass reads.
//!
//! In multi-step mode layer after layer runs all steps, and the block `[time, sample, …]` of one
//! layer lives at a time. In single-step mode the network runs one step after another, and nothing
//! is larger than one step.

use super::eligibility::Neurons;
use super::{Mode, Settings};
use crate::error::Result;
use crate::frames::activation::Activation;
use crate::frames::layer::{self, Activity, Add, Context, Layer, Notes, Phase, check_finite};
use crate::frames::loss::mean_over_time;
use crate::frames::net::Net;
use crate::frames::neuron::Lif;
use crate::frames::norm::{Affine, EPSILON, Moments, PerStep};
use crate::frames::shards::{self, Workspaces};
use crate::frames::signal::{Data, Signal};
use crate::seed::Seed;
use crate::simd::{Simd, dispatch};
use std::sync::Arc;

/// What a normalisation, neurons, or neurons behind a normalisation leave for the rate pass.
#[derive(Debug)]
pub struct Noted {
    /// Sizes of one step, without values.
    pub sizes: Signal,
    /// What the neurons noted.
    pub neurons: Option<Neurons>,
    /// What the normalisation noted.
    pub norm: Option<NotedNorm>,
}

/// What a normalisation leaves for the rate pass.
#[derive(Debug)]
pub struct NotedNorm {
    /// Mean of its input over the steps, one step.
    pub input: Arc<Signal>,
    /// The affine map of the last block.
    pub affine: Affine,
    /// Statistics of every block: one in multi-step mode, T in single-step mode.
    pub moments: Vec<Moments>,
}

/// What the spike pass leaves.
#[derive(Debug)]
pub struct SpikePass {
    /// Outputs averaged over the steps, `[sample, class]`.
    pub outputs: Vec<f32>,
    /// What the rate pass reads in place of the samples, one step.
    pub input: Arc<Signal>,
    /// Whether `input` is the mean of what the network read.
    pub input_is_mean: bool,
    /// What layers noted, in the order in which they run.
    pub layers: Vec<Noted>,
    /// Statistics and activity.
    pub notes: Notes,
    /// The phase both passes run in.
    pub phase: Phase,
}

/// Mean m and variance V that the rate pass normalises with, per channel.
///
/// Of one block with all steps: those of the block. Of blocks of one step: `m = μ[T]`, `V = σ²[T] +
/// ε`; with `avg_mean` `m = mean_t μ[t]`, with `avg_recip` `1/V = mean_t 1/(σ²[t] + ε)`.
pub fn statistics(moments: &[Moments], settings: &Settings) -> (PerStep, PerStep) {
    let last = moments.last().expect("a normalisation ran");
    if settings.mode == Mode::MultiStep {
        return (last.mean.clone(), last.variance());
    }
    let mean = if settings.avg_mean { mean_of_means(moments) } else { last.mean.clone() };
    let plus_epsilon = |m: &Moments, c: usize| m.deviation.at(0, c) / m.count + EPSILON;
    let variance = if settings.avg_recip {
        let mut mean = over_steps(moments, |m, c| 1.0 / plus_epsilon(m, c));
        mean.values.iter_mut().for_each(|v| *v = 1.0 / *v);
        mean
    } else {
        PerStep::from_fn(1, last.mean.n_channels(), |_, c| plus_epsilon(last, c))
    };
    (mean, variance)
}

/// Mean over all steps, per channel.
pub fn mean_of_means(moments: &[Moments]) -> PerStep {
    over_steps(moments, |m, c| m.mean.at(0, c))
}

fn over_steps(moments: &[Moments], f: impl Fn(&Moments, usize) -> f64) -> PerStep {
    let n_channels = moments.first().map_or(0, |m| m.mean.n_channels());
    let mean = |c| moments.iter().map(|m| f(m, c)).sum::<f64>() / moments.len() as f64;
    PerStep::from_fn(1, n_channels, |_, c| mean(c))
}

/// Runs a batch. `first` is the presentation of its first sample, which dropout draws by.
///
/// # Errors
///
/// If the network diverged; names the layer.
pub fn run(
    net: &Net,
    input: Signal,
    settings: &Settings,
    seed: Seed,
    first: u64,
    workspaces: &Workspaces,
) -> Result<SpikePass> {
    let phase = Phase::Training { seed, first };
    let n_steps = input.n_steps;
    let block_steps = if settings.mode == Mode::MultiStep { n_steps } else { 1 };
    // The next block reads the same weights.
    let keeps_forms = block_steps < n_steps;
    let context = Context { keeps_forms, ..net.context(phase, block_steps, workspaces) };
    let mut walk = Walk { context, n_steps, layers: Vec::new(), at: 0, notes: Notes::default() };
    let (rate_input, input_is_mean) = of_rates(&input, settings);
    let mut outputs = match settings.mode {
        Mode::MultiStep => {
            let output = walk.layers(&net.layers, Arc::new(input))?;
            mean_over_time(&Arc::unwrap_or_clone(output).into_values(), n_steps)
        }
        Mode::SingleStep => walk.steps(&net.layers, &input)?,
    };
    if settings.mode == Mode::SingleStep {
        outputs.iter_mut().for_each(|z| *z /= n_steps as f32);
    }
    let layers = walk.layers.into_iter().map(|l| l.finish(workspaces)).collect::<Vec<_>>();
    let mut notes = walk.notes;
    for neurons in layers.iter().filter_map(|l| l.neurons.as_ref()) {
        notes.activity.push(activity(&neurons.rate, rate_input.n_samples));
    }
    Ok(SpikePass { outputs, input: Arc::new(rate_input), input_is_mean, layers, notes, phase })
}

/// What the rate pass reads, and whether it is the mean over the steps.
fn of_rates(input: &Signal, settings: &Settings) -> (Signal, bool) {
    let (values, is_mean) = match &input.data {
        Data::Steady(values) => (values.clone(), true),
        _ => {
            let values = input.values();
            let of_step = values.len() / input.n_steps;
            if settings.mode == Mode::SingleStep && settings.last_frame {
                (values[values.len() - of_step..].to_vec(), false)
            } else {
                (mean_over_time(values, input.n_steps), true)
            }
        }
    };
    (Signal { n_steps: 1, data: Data::Values(values), ..*input }, is_mean)
}

/// What one layer of neurons did, from its mean rates `[sample, …]`.
fn activity(rate: &[f32], n_samples: usize) -> Activity {
    let n = rate.len() / n_samples;
    let (mut total, mut silent, mut saturated) = (0.0, 0, 0);
    for first in (0..n).step_by(BLOCK) {
        let of = count(Simd::best(), &rate[first..], n, BLOCK.min(n - first));
        total += of.total;
        silent += of.silent;
        saturated += of.saturated;
    }
    Activity {
        rate: total / rate.len() as f64,
        silent: silent as f64 / n as f64,
        saturated: saturated as f64 / n as f64,
    }
}

/// Neurons that are counted together.
const BLOCK: usize = 1024;

/// What some neurons did.
struct Count {
    total: f64,
    silent: usize,
    saturated: usize,
}

dispatch! {
    /// Counts the first `n_neurons` of every sample of `rate`, one sample every `stride` values.
    fn count(rate: &[f32], stride: usize, n_neurons: usize) -> Count = count_body;
}

#[inline(always)]
fn count_body(rate: &[f32], stride: usize, n_neurons: usize) -> Count {
    // 1/T is rounded, so that a neuron that fires at every step may have a rate just below 1.
    const ALL: f32 = 1.0 - 1e-6;
    let (mut sum, mut least, mut most) = ([0.0; BLOCK], [f32::INFINITY; BLOCK], [0.0; BLOCK]);
    for sample in rate.chunks(stride) {
        let neurons = sum.iter_mut().zip(&mut least).zip(&mut most);
        for (((sum, least), most), &r) in neurons.zip(&sample[..n_neurons]) {
            *sum += r;
            *least = if r < *least { r } else { *least };
            *most = if r > *most { r } else { *most };
        }
    }
    Count {
        total: sum[..n_neurons].iter().map(|&s| f64::from(s)).sum(),
        silent: most[..n_neurons].iter().filter(|&&r| r == 0.0).count(),
        saturated: least[..n_neurons].iter().filter(|&&r| r >= ALL).count(),
    }
}

/// Mean input of a normalisation while the steps run.
#[derive(Debug)]
enum Mean {
    /// The input is the same at every step.
    Still(Arc<Signal>),
    /// Sum over the blocks so far; with the last it becomes their mean. Of several blocks the
    /// first's input becomes the sum.
    Moving(Vec<f32>),
}

/// A layer while the steps run.
#[derive(Debug)]
struct Running {
    /// Sizes of one step, without values.
    sizes: Signal,
    neurons: Option<Neurons>,
    input: Option<Mean>,
    affine: Option<Affine>,
    moments: Vec<Moments>,
}

impl Running {
    fn finish(self, workspaces: &Workspaces) -> Noted {
        let Running { sizes, mut neurons, input, affine, moments, .. } = self;
        if let Some(neurons) = &mut neurons {
            neurons.finish(workspaces);
        }
        let norm = input.zip(affine).map(|(input, affine)| {
            let values = match input {
                Mean::Still(signal) => match Arc::unwrap_or_clone(signal).data {
                    Data::Values(values) | Data::Steady(values) => values,
                    Data::Spikes(_) => unreachable!("what is normalised is dense"),
                },
                Mean::Moving(mean) => mean,
            };
            let input = Arc::new(Signal { data: Data::Values(values), ..sizes });
            NotedNorm { input, affine, moments }
        });
        Noted { sizes, neurons, norm }
    }
}

/// A walk over the layers, once for each block of steps.
struct Walk<'a> {
    context: Context<'a>,
    /// Steps of all blocks.
    n_steps: usize,
    layers: Vec<Running>,
    /// Index of the next of `layers`.
    at: usize,
    notes: Notes,
}

impl Walk<'_> {
    /// All blocks of one step each; gives the sum of the outputs.
    fn steps(&mut self, layers: &[Layer], input: &Signal) -> Result<Vec<f32>> {
        let one = |data| Arc::new(Signal { n_steps: 1, data, ..*input });
        // Up to the first neurons a still image is computed once.
        let is_plain = |l: &Layer| {
            matches!(l, Layer::Conv(_) | Layer::AveragePool(_) | Layer::MaxPool(_) | Layer::Vote(_))
        };
        let n_plain =
            if input.is_steady() { layers.iter().take_while(|l| is_plain(l)).count() } else { 0 };
        let still = match &input.data {
            Data::Steady(v) => Some(self.layers(&layers[..n_plain], one(Data::Steady(v.clone())))?),
            _ => None,
        };
        let mut sum: Vec<f32> = Vec::new();
        let of_step = input.n_samples * input.shape.len();
        for t in 0..self.n_steps {
            self.at = 0;
            let signal = match &still {
                Some(still) => still.clone(),
                None => one(Data::Values(input.values()[t * of_step..][..of_step].to_vec())),
            };
            let output = self.layers(&layers[n_plain..], signal)?;
            let output = Arc::unwrap_or_clone(output).into_values();
            if sum.is_empty() {
                sum = output;
            } else {
                sum.iter_mut().zip(output).for_each(|(s, z)| *s += z);
            }
        }
        Ok(sum)
    }

    /// Runs a block through layers one after another.
    fn layers(&mut self, layers: &[Layer], mut signal: Arc<Signal>) -> Result<Arc<Signal>> {
        for layer in layers {
            signal = match layer {
                Layer::Activation(activation) => Arc::new(self.activate(activation, signal)?),
                Layer::Add(add) => {
                    let (input, _) = layer::spread(signal);
                    let body = self.layers(&add.body, input.clone())?;
                    Arc::new(Add::sum(body, self.layers(&add.shortcut, input)?))
                }
                Layer::Concat(concat) => {
                    let (input, _) = layer::spread(signal);
                    let body = self.layers(&concat.body, input.clone())?;
                    Arc::new(concat.join(input, body))
                }
                other => {
                    let other = std::slice::from_ref(other);
                    layer::forward(other, signal, &self.context, &mut self.notes, None)?
                }
            };
        }
        Ok(signal)
    }

    /// Statistics, neurons, and what they note.
    fn activate(&mut self, layer: &Activation, input: Arc<Signal>) -> Result<Signal> {
        let input = match input.data {
            Data::Spikes(_) => Arc::new(Arc::unwrap_or_clone(input).into_dense()),
            _ => input,
        };
        if self.at == self.layers.len() {
            let goes_on = self.n_steps > self.context.n_steps;
            let workspaces = self.context.workspaces;
            self.layers.push(Running::new(layer, &input, self.n_steps, goes_on, workspaces));
        }
        let running = &mut self.layers[self.at];
        self.at += 1;
        let affine = layer.of_batch(self.context.parameters, &input).zip(layer.norm);
        let affine = match affine {
            None => None,
            Some(((affine, moments), norm)) => {
                check_finite(&self.context.running[norm.running].name, &moments)?;
                self.notes.moments.push((norm.running, moments.clone()));
                running.moments.push(moments);
                Some(affine)
            }
        };
        let parameters = self.context.parameters;
        let begins_sum = running.moments.len() == 1 && self.n_steps > input.n_steps;
        let output = match (&layer.neuron, &mut running.neurons) {
            (Some(neuron), Some(noted)) => {
                let mean = match &mut running.input {
                    Some(Mean::Moving(mean)) if !begins_sum => Some(&mut mean[..]),
                    _ => None,
                };
                let threshold = neuron.threshold(parameters);
                noted.advance(neuron, threshold, &input, affine.as_ref(), mean)
            }
            _ => {
                if let Some(Mean::Moving(mean)) = &mut running.input
                    && !begins_sum
                {
                    let is_first = running.moments.len() == 1;
                    let is_last = running.moments.len() * input.n_steps == self.n_steps;
                    let scale = if is_last { 1.0 / self.n_steps as f32 } else { 1.0 };
                    add_steps(mean, &input, is_first, scale);
                }
                layer.forward(parameters, &input, affine.as_ref())
            }
        };
        match &mut running.input {
            Some(Mean::Still(still)) => *still = input,
            Some(Mean::Moving(mean)) if begins_sum => {
                *mean = Arc::unwrap_or_clone(input).into_values();
            }
            _ => self.context.workspaces.give_signal(input),
        }
        running.affine = affine;
        Ok(output)
    }
}

impl Running {
    /// A layer before its first step.
    fn new(
        layer: &Activation,
        input: &Arc<Signal>,
        n_steps: usize,
        goes_on: bool,
        workspaces: &Workspaces,
    ) -> Self {
        let n = input.n_samples * input.shape.len();
        let mean = || match input.is_steady() {
            true => Mean::Still(input.clone()),
            false if goes_on => Mean::Moving(Vec::new()),
            false => Mean::Moving(workspaces.take(n)),
        };
        let neurons = |neuron: &Lif| Neurons::new(neuron, n, n_steps, goes_on, workspaces);
        Self {
            sizes: Signal { n_steps: 1, data: Data::Values(Vec::new()), ..**input },
            neurons: layer.neuron.as_ref().map(neurons),
            input: layer.norm.map(|_| mean()),
            affine: None,
            moments: Vec::new(),
        }
    }
}

/// Adds every step of a block to `sum`, or sets out with them, and multiplies by `scale`.
fn add_steps(sum: &mut [f32], block: &Signal, is_first: bool, scale: f32) {
    let (len, values) = (block.shape.len(), block.values());
    let ranges = shards::of_images(block.n_samples);
    let jobs = ranges.iter().cloned().zip(shards::split(sum, &ranges, len)).collect();
    shards::map(jobs, |(range, sum)| {
        if is_first {
            sum.fill(0.0);
        }
        for step in values.chunks_exact(block.n_samples * len) {
            let step = &step[range.start * len..range.end * len];
            sum.iter_mut().zip(step).for_each(|(s, &v)| *s += v);
        }
        sum.iter_mut().for_each(|s| *s *= scale);
    });
}
