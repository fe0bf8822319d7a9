//! Neurons of the spike pass: they fire, and note their mean rate and their eligibility, the
//! derivative of that rate with respect to an input added at every step.
//!
//! With u\[t\], s\[t\], v\[t\] of [`Lif`], sg\[t\] its slope at u\[t\] and f\[t\] = du\[t\]/dx, x the same at
//! every step:
//!
//! `r = (1/T) Σ_t s[t]`, `e = (1/T) Σ_t f[t] sg[t]`, `f[1] = k`,
//!
//! | reset | f\[t+1\] |
//! | --- | --- |
//! | both soft ones, detached | k + λ f\[t\], the same for all neurons: k (1 − λ^t)/(1 − λ) at t |
//! | soft | k + λ f\[t\] (1 − θ sg\[t\]) |
//! | soft after the leak | k + f\[t\] (λ − θ sg\[t\]) |
//! | hard, detached | k + λ f\[t\] (1 − s\[t\]) |
//! | hard | k + λ f\[t\] (1 − s\[t\] − u\[t\] sg\[t\]) |
//!
//! e is exactly dr/dx of backpropagation through time with these slopes.

use crate::frames::activation::{AffineTiles, BLOCKS, Images, PART, Part};
use crate::frames::kernel::Spikes;
use crate::frames::neuron::{Known, Lif, Reset, known};
use crate::frames::norm::Affine;
use crate::frames::shards::{self, Workspaces};
use crate::frames::signal::{Data, Signal};
use crate::simd::{Simd, Vector, dispatch, load_lanes, store_lanes};
use std::ops::Range;

/// What one layer of neurons notes, `[sample, row, column, channel]` each.
#[derive(Clone, Debug)]
pub struct Neurons {
    /// Σ s while it runs, r after the last step.
    pub rate: Vec<f32>,
    /// Σ f sg while it runs, e after the last step.
    pub eligibility: Vec<f32>,
    /// v and f after the last step of a block; empty where one block holds all steps.
    membrane: Vec<f32>,
    factor: Vec<f32>,
    /// Steps done, and steps there are.
    done: usize,
    n_steps: usize,
}

impl Neurons {
    /// `n` neurons before the first of `n_steps` steps. Those that go on from block to block keep
    /// their membranes.
    pub fn new(
        neuron: &Lif,
        n: usize,
        n_steps: usize,
        goes_on: bool,
        workspaces: &Workspaces,
    ) -> Self {
        let room = |is_needed: bool| if is_needed { workspaces.take(n) } else { Vec::new() };
        let (rate, eligibility, membrane) = (room(true), room(true), room(goes_on));
        let factor = room(goes_on && !is_shared(neuron));
        Self { rate, eligibility, membrane, factor, done: 0, n_steps }
    }

    /// Runs the steps of a block, gives the spikes and brings `mean`, if there is one, from the sum
    /// of the inputs of earlier blocks to that of this block too, and in the last block to their
    /// mean. `input` is dense.
    pub fn advance(
        &mut self,
        neuron: &Lif,
        threshold: f32,
        input: &Signal,
        affine: Option<&Affine>,
        mean: Option<&mut [f32]>,
    ) -> Signal {
        let (shape, simd) = (input.shape, Simd::best());
        let images = Images::new(input);
        let tiles = AffineTiles::new(affine, shape);
        let mut spikes = Spikes::silent(shape, input.n_steps * input.n_samples);
        let factors = shared_factors(neuron, self.done, input.n_steps);
        let is_first = self.done == 0;
        self.done += input.n_steps;
        let scale = (self.done == self.n_steps).then_some(1.0 / self.n_steps as f32);
        let last = self.n_steps - (self.done - input.n_steps) - 1;
        let tiles = &tiles;
        let layer = Layer { neuron, threshold, tiles, factors: &factors, is_first, scale, last };
        let mut words =
            shards::by_sample(spikes.words_mut(), input.n_samples, Spikes::words_per_image(shape))
                .into_iter();
        let mut each = [
            Some(&mut self.rate[..]),
            Some(&mut self.eligibility[..]),
            mean,
            (!self.membrane.is_empty()).then_some(&mut self.membrane[..]),
            (!self.factor.is_empty()).then_some(&mut self.factor[..]),
        ]
        .map(|values| values.map(|v| v.chunks_exact_mut(shape.len())));
        let mut sample = || {
            let [rate, eligibility, mean, membrane, factor] =
                each.each_mut().map(|v| v.as_mut().and_then(Iterator::next));
            Some(Sample {
                words: words.next()?,
                rate: rate?,
                eligibility: eligibility?,
                mean,
                membrane,
                factor,
            })
        };
        let shard = |range: Range<usize>| {
            let samples: Vec<Sample<'_>> = range.clone().map_while(|_| sample()).collect();
            (range.start, samples)
        };
        let jobs = shards::of_images(input.n_samples).into_iter().map(shard).collect();
        shards::map(jobs, |(first, samples)| note(simd, images, &layer, first, samples));
        Signal { data: Data::Spikes(spikes), ..*input }
    }

    /// Gives back the memory that the steps needed.
    pub fn finish(&mut self, workspaces: &Workspaces) {
        workspaces.give(std::mem::take(&mut self.membrane));
        workspaces.give(std::mem::take(&mut self.factor));
    }
}

/// Whether f is the same for all neurons.
fn is_shared(neuron: &Lif) -> bool {
    neuron.reset != Reset::Hard && neuron.detach_reset
}

/// f of `n_steps` steps after the first `done`, where it is the same for all neurons.
pub fn shared_factors(neuron: &Lif, done: usize, n_steps: usize) -> Vec<f32> {
    if !is_shared(neuron) {
        return Vec::new();
    }
    let next = |f: &f32| Some(neuron.gain + neuron.decay * f);
    std::iter::successors(Some(neuron.gain), next).skip(done).take(n_steps).collect()
}

/// What is the same for all samples of a layer.
struct Layer<'a> {
    neuron: &'a Lif,
    threshold: f32,
    tiles: &'a AffineTiles,
    /// f of each step; empty where every neuron has its own.
    factors: &'a [f32],
    /// Whether this is the first block.
    is_first: bool,
    /// From sums to means, in the last block.
    scale: Option<f32>,
    /// The last step of all, counted from the block's first.
    last: usize,
}

/// One sample of a layer.
struct Sample<'a> {
    /// Spikes of each step.
    words: Vec<&'a mut [u64]>,
    rate: &'a mut [f32],
    eligibility: &'a mut [f32],
    mean: Option<&'a mut [f32]>,
    membrane: Option<&'a mut [f32]>,
    factor: Option<&'a mut [f32]>,
}

dispatch! {
    /// Runs and notes some samples.
    fn note(images: Images<'_>, layer: &Layer<'_>, first: usize, samples: Vec<Sample<'_>>) = note_body::<V>;
}

#[inline(always)]
fn note_body<V: Vector>(
    images: Images<'_>,
    layer: &Layer<'_>,
    first: usize,
    samples: Vec<Sample<'_>>,
) {
    for (n, mut sample) in (first..).zip(samples) {
        for part in images.parts(n) {
            known!(layer.neuron, layer.threshold, |neuron| {
                note_part::<V, _, _, _>(images, layer, neuron, &part, &mut sample);
            });
        }
    }
}

/// One part of a sample, all steps of the block.
#[inline(always)]
fn note_part<V: Vector, const HARD: bool, const DETACHED: bool, const AT: bool>(
    images: Images<'_>,
    layer: &Layer<'_>,
    neuron: Known<HARD, DETACHED, AT>,
    part: &Part,
    sample: &mut Sample<'_>,
) {
    let zero = [V::splat(0.0); BLOCKS];
    let goes_on = |values: &[f32]| if layer.is_first { zero } else { part.load(values) };
    let (mut rate, mut eligibility) = (goes_on(sample.rate), goes_on(sample.eligibility));
    let mut v = sample.membrane.as_ref().map_or(zero, |kept| goes_on(kept));
    let mut f = [V::splat(layer.neuron.gain); BLOCKS];
    if let (Some(kept), false) = (&sample.factor, layer.is_first) {
        f = part.load(kept);
    }
    let mut sum = sample.mean.as_ref().map_or(zero, |mean| goes_on(mean));
    for (t, words) in sample.words.iter_mut().enumerate() {
        // Nobody reads what the last step leaves.
        let is_last = t == layer.last;
        let image = images.at(t, part.n);
        part.prefetch_ahead(image);
        if sample.mean.is_some() {
            let y: [V; BLOCKS] = part.load(image);
            let is_new = layer.is_first && t == 0;
            for b in 0..BLOCKS {
                sum[b] = if is_new { y[b] } else { sum[b].plus(y[b]) };
            }
        }
        let u = neuron.charge(v, layer.tiles.blocks(t, part, image));
        words[part.word] = neuron.fire(u) & part.lanes();
        let (h, fires) = (neuron.slopes(u), neuron.spikes(u));
        let shared = layer.factors.get(t).map(|&f| [V::splat(f); BLOCKS]);
        let factor = shared.unwrap_or(f);
        for b in 0..BLOCKS {
            rate[b] = rate[b].plus(fires[b]);
            eligibility[b] = eligibility[b].plus(factor[b].times(h[b]));
        }
        if !is_last {
            if shared.is_none() {
                f = next_factor(layer.neuron, layer.threshold, fires, u, h, f);
            }
            v = neuron.reset(u);
        }
    }
    if let Some(scale) = layer.scale {
        let scale = V::splat(scale);
        for sum in [&mut rate, &mut eligibility, &mut sum] {
            for b in 0..BLOCKS {
                sum[b] = sum[b].times(scale);
            }
        }
    }
    part.store(&rate, sample.rate);
    part.store(&eligibility, sample.eligibility);
    let kept = [(&mut sample.mean, &sum), (&mut sample.membrane, &v), (&mut sample.factor, &f)];
    for (kept, values) in kept {
        if let Some(kept) = kept {
            part.store(values, kept);
        }
    }
}

/// From f\[t\] to f\[t+1\] for neurons with membranes u and slopes h.
pub fn advance_factor(neuron: &Lif, threshold: f32, u: &[f32], h: &[f32], f: &mut [f32]) {
    advance(Simd::best(), neuron, threshold, u, h, f);
}

dispatch! {
    /// [`advance_factor`].
    fn advance(neuron: &Lif, threshold: f32, u: &[f32], h: &[f32], f: &mut [f32]) = advance_body::<V>;
}

#[inline(always)]
fn advance_body<V: Vector>(neuron: &Lif, threshold: f32, u: &[f32], h: &[f32], f: &mut [f32]) {
    for ((u, h), f) in u.chunks(PART).zip(h.chunks(PART)).zip(f.chunks_mut(PART)) {
        let (u, h): ([V; BLOCKS], [V; BLOCKS]) = (load_lanes(u), load_lanes(h));
        let fires = known!(neuron, threshold, |known| known.spikes(u));
        let next = next_factor(neuron, threshold, fires, u, h, load_lanes(f));
        store_lanes(&next, f);
    }
}

/// [`advance_factor`] for blocks, with what fires.
#[inline(always)]
fn next_factor<V: Vector>(
    neuron: &Lif,
    threshold: f32,
    fires: [V; BLOCKS],
    u: [V; BLOCKS],
    h: [V; BLOCKS],
    f: [V; BLOCKS],
) -> [V; BLOCKS] {
    let (decay, gain, one) = (V::splat(neuron.decay), V::splat(neuron.gain), V::splat(1.0));
    let lost = V::splat(neuron.thresholds_lost() * threshold);
    let mut next = f;
    for b in 0..BLOCKS {
        let kept = match (neuron.reset, neuron.detach_reset) {
            (Reset::Hard, true) => one.minus(fires[b]),
            (Reset::Hard, false) => one.minus(fires[b]).minus(u[b].times(h[b])),
            (_, true) => one,
            (_, false) => one.minus(lost.times(h[b])),
        };
        next[b] = gain.plus(decay.times(f[b]).times(kept));
    }
    next
}
