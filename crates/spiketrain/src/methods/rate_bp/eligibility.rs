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

use crate::frames::activation::{AffineTiles, Images};
use crate::frames::kernel::Spikes;
use crate::frames::neuron::{Lif, Reset};
use crate::frames::norm::Affine;
use crate::frames::shards::{self, Workspaces};
use crate::frames::signal::{Data, Signal};
use crate::simd::{Simd, dispatch};
use crate::spikes::Shape;
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

/// From f\[t\] to f\[t+1\] for a row of membranes u and slopes h.
#[inline(always)]
pub fn advance_factor(neuron: &Lif, threshold: f32, u: &[f32], h: &[f32], f: &mut [f32]) {
    let (decay, gain) = (neuron.decay, neuron.gain);
    let lost = neuron.thresholds_lost() * threshold;
    let kept = |u: f32, h: f32| {
        let silent = if neuron.fires(u, threshold) { 0.0 } else { 1.0 };
        match (neuron.reset, neuron.detach_reset) {
            (Reset::Hard, true) => silent,
            (Reset::Hard, false) => silent - u * h,
            (_, true) => 1.0,
            (_, false) => 1.0 - lost * h,
        }
    };
    f.iter_mut().zip(u.iter().zip(h)).for_each(|(f, (&u, &h))| *f = gain + decay * *f * kept(u, h));
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

/// One row of neurons. What goes on from block to block is worked on where it lies.
struct Row<'a> {
    u: &'a mut [f32],
    v: &'a mut [f32],
    h: &'a mut [f32],
    f: &'a mut [f32],
}

dispatch! {
    /// Runs and notes some samples.
    fn note(images: Images<'_>, layer: &Layer<'_>, first: usize, samples: Vec<Sample<'_>>) = note_body;
}

#[inline(always)]
fn note_body(images: Images<'_>, layer: &Layer<'_>, first: usize, samples: Vec<Sample<'_>>) {
    let Shape { height, .. } = images.shape;
    let row_len = images.row();
    let [mut u, mut v, mut h, mut f] = std::array::from_fn(|_| vec![0.0f32; row_len]);
    for (n, mut sample) in (first..).zip(samples) {
        let row_words = sample.words[0].len() / height;
        for row in 0..height {
            let at = row * row_len..(row + 1) * row_len;
            let words_at = row * row_words..(row + 1) * row_words;
            let mut neurons = Row {
                u: &mut u,
                v: sample.membrane.as_mut().map_or(&mut v, |kept| &mut kept[at.clone()]),
                h: &mut h,
                f: sample.factor.as_mut().map_or(&mut f, |kept| &mut kept[at.clone()]),
            };
            if layer.is_first {
                neurons.v.fill(0.0);
                neurons.f.fill(layer.neuron.gain);
            }
            let rate = &mut sample.rate[at.clone()];
            let eligibility = &mut sample.eligibility[at.clone()];
            let mut mean = sample.mean.as_mut().map(|mean| &mut mean[at.clone()]);
            if layer.is_first {
                rate.fill(0.0);
                eligibility.fill(0.0);
            }
            for (t, words) in sample.words.iter_mut().enumerate() {
                let y = &images.at(t, n)[at.clone()];
                if let Some(mean) = &mut mean {
                    if layer.is_first && t == 0 {
                        mean.copy_from_slice(y);
                    } else {
                        mean.iter_mut().zip(y).for_each(|(m, &y)| *m += y);
                    }
                }
                layer.tiles.apply(t, y, neurons.u);
                neurons.step(layer, t, &mut words[words_at.clone()], rate, eligibility);
            }
            if let Some(scale) = layer.scale {
                let to_mean = |sum: &mut [f32]| sum.iter_mut().for_each(|s| *s *= scale);
                to_mean(rate);
                to_mean(eligibility);
                mean.into_iter().for_each(to_mean);
            }
        }
    }
}

impl Row<'_> {
    /// One step of a row; `u` holds the normalised input.
    #[inline(always)]
    fn step(
        &mut self,
        layer: &Layer<'_>,
        t: usize,
        words: &mut [u64],
        rate: &mut [f32],
        eligibility: &mut [f32],
    ) {
        let Layer { neuron, threshold, factors, .. } = *layer;
        // Nobody reads what the last step leaves.
        let is_last = t == layer.last;
        neuron.charge(self.v, self.u);
        neuron.fire(self.u, threshold, words);
        neuron.slope.write(self.u, threshold, self.h);
        let u = self.u.iter();
        if neuron.fires_at_threshold {
            let pairs = rate.iter_mut().zip(u);
            pairs.for_each(|(r, &u)| *r += if u >= threshold { 1.0 } else { 0.0 });
        } else {
            let pairs = rate.iter_mut().zip(u);
            pairs.for_each(|(r, &u)| *r += if u > threshold { 1.0 } else { 0.0 });
        }
        match factors.get(t) {
            Some(&f) => eligibility.iter_mut().zip(&*self.h).for_each(|(e, &h)| *e += f * h),
            None => {
                let each = eligibility.iter_mut().zip(self.f.iter().zip(&*self.h));
                each.for_each(|(e, (&f, &h))| *e += f * h);
                if !is_last {
                    advance_factor(neuron, threshold, self.u, self.h, self.f);
                }
            }
        }
        if !is_last {
            neuron.reset(self.u, threshold, self.v);
        }
    }
}
