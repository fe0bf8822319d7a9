//! Sleep-based homeostatic regularisation of STDP in a recurrent network.
//!
//! A. Massey, A. Hubin, S. Nichele, S. Sæbø, "Sleep-Based Homeostatic Regularization for
//! Stabilizing Spike-Timing-Dependent Plasticity in Recurrent Spiking Neural Networks", 2026,
//! arXiv 2601.08447.
//!
//! Reads [`Images`] and draws Bernoulli spikes from the pixels. Inputs X drive
//! excitatory neurons E, which drive each other and inhibitory neurons I, which inhibit E. All
//! synapses learn by pair STDP. Every `interval` steps the network sleeps: no input, noisy
//! membranes, STDP, and weights that contract toward a target. A linear readout of the firing
//! rates gives the class. Equations, with a step of 1 ms:
//!
//! 1. `I_i += (Σ_j w_ij z_j(t−1) − I_i)/τ_syn`
//! 2. `V_i += (V_rest − V_i + R I_i)/τ_m [+ σξ asleep]`; a spike z_i where `V_i > θ₀ + a_i`
//! 3. `a_i ← a_i(1 − 1/τ_a) + δ z_i`; V_i ← V_reset after a spike
//! 4. at a spike of i: `|w_ij| += η A₊ exp(−g_j/τ₊)` for every j before it, with g_j the steps
//!    since j spiked; at a spike of j while i is silent: `|w_ij| −= η A₋ exp(−g_i/τ₋)`; clip
//! 5. asleep, after each virtual step: `|w| ← w*(|w|/w*)^λ`
//! 6. `λ = ρ^(1/N)`, N the virtual steps of a batch
//!
//! | symbol | field | shape | unit | default | published run |
//! | --- | --- | --- | --- | --- | --- |
//! | N_e, N_i | `n_excitatory`, `n_inhibitory` | | | 200, 50 | the same |
//! | T | `n_steps` | | steps | 100 | 100 |
//! | η_e, η_i | `learning_rate_excitatory`, `_inhibitory` | | weight | 5·10⁻⁴ | the same |
//! | A₊, A₋ | `a_plus`, `a_minus` | | | 1, 0.1 | 1, 1 |
//! | τ₊, τ₋ | `tau_plus`, `tau_minus` | | steps | 10, 10 | the same |
//! | | `interval` | | steps | 3,500 | 35,000 |
//! | | `sleep_ratio` | | | 0.1 | 0 to 1 |
//! | ρ, λ | `contraction`, `lambda` | | | 0.4, from ρ | –, 0.99997 |
//! | w* | `target_excitatory`, `target_inhibitory` | | weight | 0.5 | 0.01 |
//! | σ | `noise_std` | | mV | 2 | 2 |
//! | w | state `synapse.weight` | `[synapse]` | weight | 0.3 | 0.15, 0.3 |
//!
//! Departures are listed in [`CARD`].

mod eigen;
mod figures;
mod frozen;
mod history;
mod input;
mod neurons;
mod params;
mod plasticity;
mod readout;
mod sleep;
mod synapses;
#[cfg(test)]
mod tests;

pub use params::{EarlyEnd, Params, Regularisation};

use crate::error::{Error, Result};
use crate::event::Figure;
use crate::learner::{Batch, Card, Ctx, EpochReport, Learner, Prediction, StepReport, Task};
use crate::seed::{Seed, Stream};
use crate::simd::Simd;
use crate::spikes::{Images, Notation};
use crate::state::State;
use history::{History, Tally};
use input::SpikeTrain;
use neurons::Neurons;
use plasticity::{Activity, Stdp};
use readout::{Readout, Samples};
use synapses::Synapses;

/// The method's visiting card.
pub const CARD: Card = Card {
    name: "sleep-stdp",
    title: "Unsupervised STDP in a recurrent network, kept in bounds by sleep",
    citation: "Massey, Hubin, Nichele, Sæbø, 2026, arXiv 2601.08447",
    reads: &[Notation::Images],
    metrics: &[
        ("growth_excitatory", "total excitatory weight over its initial value"),
        ("growth_inhibitory", "total magnitude of the inhibitory weights over its initial value"),
        ("saturated_fraction", "share of the excitatory weights at 99.9 % of weight_max or above"),
        ("floor_fraction", "share of the excitatory weights at weight_min"),
        ("weight_max", "largest excitatory weight"),
        ("network_spikes_per_step", "spikes of excitatory and inhibitory neurons in a step"),
        ("sleep_spikes_per_step", "the same asleep"),
        ("silent_fraction", "share of the images without such a spike"),
        (
            "class_separation",
            "variance between the classes over variance inside them, each by its degrees of \
             freedom, of the last images' firing rates in their principal components",
        ),
        ("frozen_readout_accuracy", "test accuracy of a readout fitted with frozen final weights"),
        (
            "merged_accuracy",
            "test accuracy over runs of consecutive images of one class, each counted once",
        ),
    ],
    departures: &[
        "the default is the mechanism as described; the published run inverted the order of \
         spikes, kept neurons spiking through sleep, merged consecutive images of one class, \
         capped the length of sleep and never ended it early: each is a setting, all are in \
         Params::as_published",
        "weights have an upper bound of 25; the published program only kept their signs",
        "training and test images are drawn from the two splits of the data set, which the \
         published program merged first",
    ],
};

/// Share of `weight_max` from which on a weight counts as saturated.
const SATURATED: f64 = 0.999;

/// The learner.
#[derive(Clone, Debug)]
pub struct SleepStdp {
    params: Params,
    n_classes: usize,
    seed: Seed,
    synapses: Synapses,
    neurons: Neurons,
    activity: Activity,
    stdp: Stdp,
    simd: Simd,
    /// Spike counts of the last training images.
    records: Records,
    readout: Option<Readout>,
    /// The readout fitted to rates of the frozen network.
    frozen_readout: Option<Readout>,
    history: History,
    tally: Tally,
    /// Steps since the beginning, real and virtual.
    clock: u64,
    /// Images since the beginning.
    n_images: u64,
    /// Episodes since the beginning.
    n_episodes: u64,
    scratch: Scratch,
}

/// Buffers of one step; hold nothing between steps.
#[derive(Clone, Debug, Default)]
struct Scratch {
    pixels: Vec<f32>,
    train: SpikeTrain,
    input: Vec<f64>,
    noise: Vec<f64>,
}

impl Scratch {
    fn new(n_inputs: usize, n_neurons: usize) -> Self {
        let (input, noise) = (vec![0.0; n_neurons], vec![0.0; n_neurons]);
        Self { pixels: vec![0.0; n_inputs], input, noise, ..Self::default() }
    }
}

/// What the network did with images, one row each.
#[derive(Clone, Debug, Default, PartialEq)]
struct Records {
    /// Spikes of each neuron, `[image, neuron]`.
    counts: Vec<u32>,
    /// Class of each image.
    labels: Vec<u16>,
    /// Row of each image in its split.
    rows: Vec<u32>,
}

impl Records {
    /// Drops the oldest images beyond `n`.
    fn keep_last(&mut self, n: usize) {
        let n_all = self.labels.len();
        if n_all > n {
            let n_neurons = self.counts.len() / n_all;
            self.counts.drain(..(n_all - n) * n_neurons);
            self.labels.drain(..n_all - n);
            self.rows.drain(..n_all - n);
        }
    }

    /// Firing rates, one sample an image or, `merged`, one a run of consecutive images of one
    /// class.
    fn samples(&self, n_steps: usize, merged: bool) -> Samples {
        let n_neurons = self.counts.len() / self.labels.len().max(1);
        let mut samples = Samples::default();
        let mut first = 0;
        while first < self.labels.len() {
            let run = if merged { run_length(&self.labels[first..]) } else { 1 };
            let rows = &self.counts[first * n_neurons..(first + run) * n_neurons];
            samples.features.extend(mean_rates(rows, n_neurons, n_steps));
            samples.labels.push(self.labels[first]);
            first += run;
        }
        samples
    }
}

/// Number of equal labels at the beginning.
fn run_length(labels: &[u16]) -> usize {
    labels.iter().take_while(|&&l| l == labels[0]).count()
}

/// Mean firing rate of each neuron over `rows` of counts.
fn mean_rates(rows: &[u32], n_neurons: usize, n_steps: usize) -> Vec<f64> {
    let n_steps = (rows.len() / n_neurons * n_steps) as f64;
    let sum = |i: usize| rows[i..].iter().step_by(n_neurons).map(|&c| u64::from(c)).sum::<u64>();
    (0..n_neurons).map(|i| sum(i) as f64 / n_steps).collect()
}

impl SleepStdp {
    /// A network whose connections are drawn from the task's seed.
    ///
    /// # Errors
    ///
    /// If the task has no images or no classes, or is too large.
    pub fn new(params: &Params, task: &Task) -> Result<Self> {
        if task.notation != Notation::Images {
            let found = task.notation.name();
            return Err(Error::recipe(format!(
                "sleep-stdp reads images, the encoder gives {found}"
            )));
        }
        if task.n_classes < 2 {
            let n = task.n_classes;
            return Err(Error::recipe(format!(
                "sleep-stdp needs at least 2 classes, the data has {n}"
            )));
        }
        let synapses = Synapses::new(params, task.shape.len(), task.seed)?;
        Ok(Self::with_synapses(params, task.n_classes, task.seed, synapses))
    }

    fn with_synapses(params: &Params, n_classes: usize, seed: Seed, synapses: Synapses) -> Self {
        let (n_inputs, n_neurons, n) = (synapses.n_inputs, synapses.n_neurons, synapses.n_pre());
        let simd = Simd::best();
        Self {
            params: params.clone(),
            n_classes,
            seed,
            neurons: Neurons::at_rest(n_neurons),
            activity: Activity::silent(n, params.ages_start_at_zero),
            stdp: Stdp::new(params, &synapses, simd),
            simd,
            synapses,
            records: Records::default(),
            readout: None,
            frozen_readout: None,
            history: History::default(),
            tally: Tally::default(),
            clock: 0,
            n_images: 0,
            n_episodes: 0,
            scratch: Scratch::new(n_inputs, n_neurons),
        }
    }

    /// Growth of the total excitatory and inhibitory weight since the beginning.
    pub fn growth(&self) -> [f64; 2] {
        self.synapses.growth()
    }

    /// Draws the spike train of image `row`.
    fn draw(&self, images: &Images, row: usize, scratch: &mut Scratch, stream: &mut Stream) {
        images.read(row, &mut scratch.pixels);
        input::probabilities(&mut scratch.pixels, &self.params);
        scratch.train.draw(&scratch.pixels, self.params.n_steps, stream);
    }

    /// One real step with input spikes at `t` of the current train; returns the neurons' spikes.
    fn wake_step(&mut self, t: usize) -> u64 {
        let Scratch { input, noise, train, .. } = &mut self.scratch;
        input.fill(0.0);
        noise.fill(0.0);
        plasticity::add_rows(&self.synapses, &self.activity.before, input);
        self.neurons.step(self.simd, input, noise, false);
        let inputs = train.step(t);
        self.activity.collect(inputs, &self.neurons.spiked, self.synapses.n_inputs);
        self.activity.grow_older();
        if self.params.plastic {
            self.stdp.update(&mut self.synapses, &self.activity, None);
        }
        self.activity.advance();
        (self.activity.before.len() - inputs.len()) as u64
    }

    fn fit(&self, records: &Records, seed: Seed) -> Readout {
        let samples = records.samples(self.params.n_steps, self.params.merge_equal_labels);
        let n = samples.labels.len();
        let mut rows: Vec<usize> = (0..n).collect();
        if self.params.readout_share < 1.0 {
            seed.stream("sleep-stdp.readout-share", 0).shuffle(&mut rows);
            rows.truncate(((n as f64 * self.params.readout_share) as usize).max(1));
        }
        Readout::fit(&samples.select(&rows), self.n_classes)
    }

    fn readouts(&self) -> [(&'static str, Option<&Readout>); 2] {
        [("readout", self.readout.as_ref()), ("frozen_readout", self.frozen_readout.as_ref())]
    }
}

impl Learner for SleepStdp {
    fn step(&mut self, batch: &Batch<'_>, ctx: &Ctx) -> Result<StepReport> {
        let images = batch.inputs.as_images();
        let mut decay = self.decay(batch.len());
        let mut t_batch = 0;
        for (i, &row) in batch.rows.iter().enumerate() {
            let label = batch.labels.get(row).copied();
            let label = label.ok_or_else(|| Error::data(format!("sample {row} has no label")))?;
            let mut stream = ctx.seed.stream("sleep-stdp.input", ctx.presentation(i));
            let mut scratch = std::mem::take(&mut self.scratch);
            self.draw(images, row, &mut scratch, &mut stream);
            self.scratch = scratch;
            let mut counts = vec![0u32; self.synapses.n_neurons];
            let mut n_spikes = 0;
            for t in 0..self.params.n_steps {
                t_batch += 1;
                if t_batch % self.params.interval == 0 {
                    self.regularise(&mut decay);
                }
                n_spikes += self.wake_step(t);
                let spiked = self.neurons.spiked.iter();
                counts.iter_mut().zip(spiked).for_each(|(c, &s)| *c += s as u32);
                self.clock += 1;
            }
            self.records.counts.extend(counts);
            self.records.labels.push(label);
            self.records.rows.push(row as u32);
            self.n_images += 1;
            self.tally.steps += self.params.n_steps as u64;
            self.tally.spikes += n_spikes;
            self.tally.images += 1;
            self.tally.silent += u64::from(n_spikes == 0);
        }
        self.records.keep_last(self.params.readout_samples);
        Ok(StepReport { n_samples: batch.len() as u64, ..StepReport::default() })
    }

    /// A test image is shown after the others of its block of `reset_every` images of the split,
    /// as if the whole split were shown in order; its prediction does not depend on which rows are
    /// asked for.
    fn predict(&self, batch: &Batch<'_>) -> Result<Vec<Prediction>> {
        let images = batch.inputs.as_images();
        Ok(self.predictions(images, batch.rows, batch.labels))
    }

    fn state(&self) -> State {
        let (n, n_neurons) = (self.synapses.n_pre(), self.synapses.n_neurons);
        let n_records = self.records.labels.len();
        let wide = |v: &[u16]| v.iter().map(|&x| u32::from(x)).collect::<Vec<u32>>();
        let mut state = State::new();
        state.nest("synapse", self.synapses.state());
        state.nest("neuron", self.neurons.state());
        state.put("age", &[n], self.activity.ages.clone());
        state.put("spiked", &[self.activity.before.len()], wide(&self.activity.before));
        state.put("record.count", &[n_records, n_neurons], self.records.counts.clone());
        state.put("record.label", &[n_records], wide(&self.records.labels));
        state.put("record.row", &[n_records], self.records.rows.clone());
        state.nest("history", self.history.state());
        state.put("epoch", &[6], self.tally.values());
        state.put("counters", &[3], vec![self.clock, self.n_images, self.n_episodes]);
        for (name, readout) in self.readouts() {
            if let Some(readout) = readout {
                let mut inner = State::new();
                inner.put("weight", &[self.n_classes, n_neurons], readout.weight.clone());
                inner.put("bias", &[self.n_classes], readout.bias.clone());
                state.nest(name, inner);
            }
        }
        state
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        let (n, n_neurons) = (self.synapses.n_pre(), self.synapses.n_neurons);
        self.synapses.restore(&state.sub("synapse"))?;
        self.neurons = Neurons::restored(&state.sub("neuron"), n_neurons)?;
        self.activity.ages = state.get("age", &[n])?.to_vec();
        let narrow = |name: &str, below: usize| -> Result<Vec<u16>> {
            let values = state.get::<u32>(name, &[state.array(name)?.values.len()])?;
            let fits = values.iter().all(|&v| (v as usize) < below);
            let wrong =
                || Error::checkpoint(format!("array {name}: expected values below {below}"));
            if fits { Ok(values.iter().map(|&v| v as u16).collect()) } else { Err(wrong()) }
        };
        self.activity.before = narrow("spiked", n)?;
        self.records.labels = narrow("record.label", self.n_classes)?;
        let n_records = self.records.labels.len();
        self.records.counts = state.get("record.count", &[n_records, n_neurons])?.to_vec();
        self.records.rows = state.get("record.row", &[n_records])?.to_vec();
        self.history = History::restored(&state.sub("history"))?;
        self.tally = Tally::from_values(state.get("epoch", &[6])?);
        let counters = state.get::<u64>("counters", &[3])?;
        (self.clock, self.n_images, self.n_episodes) = (counters[0], counters[1], counters[2]);
        let readout = |name: &str| -> Result<Option<Readout>> {
            let state = state.sub(name);
            if state.is_empty() {
                return Ok(None);
            }
            let weight = state.get("weight", &[self.n_classes, n_neurons])?.to_vec();
            Ok(Some(Readout { weight, bias: state.get("bias", &[self.n_classes])?.to_vec() }))
        };
        let [(first, _), (second, _)] = self.readouts();
        let (readout, frozen_readout) = (readout(first)?, readout(second)?);
        (self.readout, self.frozen_readout) = (readout, frozen_readout);
        Ok(())
    }

    fn end_epoch(&mut self, _ctx: &Ctx) -> Result<EpochReport> {
        let mut report = EpochReport { metrics: self.tally.metrics(), ..EpochReport::default() };
        let [excitatory, inhibitory] = self.growth();
        let weights = &self.synapses.weights[..self.synapses.n_excitatory];
        let share = |is: &dyn Fn(f64) -> bool| {
            weights.iter().filter(|w| is(**w)).count() as f64 / weights.len().max(1) as f64
        };
        let p = &self.params;
        let largest = weights.iter().copied().fold(0.0, f64::max);
        let saturated = share(&|w| w >= SATURATED * p.weight_max);
        report.metrics.extend([
            ("growth_excitatory".to_owned(), excitatory),
            ("growth_inhibitory".to_owned(), inhibitory),
            ("saturated_fraction".to_owned(), saturated),
            ("floor_fraction".to_owned(), share(&|w| w <= p.weight_min)),
            ("weight_max".to_owned(), largest),
        ]);
        let samples = self.records.samples(p.n_steps, false);
        let phi = readout::class_separation(&samples, self.n_classes);
        report.metrics.extend(phi.map(|phi| ("class_separation".to_owned(), phi)));
        self.tally = Tally::default();
        Ok(report)
    }

    fn has_readout(&self) -> bool {
        true
    }

    fn fit_readout(&mut self, train: &Batch<'_>, ctx: &Ctx) -> Result<()> {
        if self.records.labels.is_empty() {
            return Ok(());
        }
        self.readout = Some(self.fit(&self.records, ctx.seed));
        if self.params.frozen_readout {
            let records = self.frozen_records(train.inputs.as_images());
            self.frozen_readout = Some(self.fit(&records, ctx.seed));
        }
        Ok(())
    }

    fn figures(&self, probe: &Batch<'_>) -> Result<Vec<Figure>> {
        Ok(figures::figures(self, probe))
    }
}
