//! Normalisation and neurons in one pass over time.
//!
//! What is kept for the backward pass is the layer's input alone: normalised values, membranes and
//! spikes are computed again. A row of an image is worked on for all steps while its membranes
//! stay in the cache; the gradient with respect to the spikes is turned into the one with respect
//! to the input in its own memory.

mod moments;
mod rows;

use super::kernel::Spikes;
use super::neuron::{Known, Lif, Threshold, known};
use super::norm::{Affine, Moments, Norm, PerStep};
use super::parameters::{Gradients, Parameters};
use super::shards::{self, Workspaces};
use super::signal::{Data, Gradient, Signal};
use crate::simd::{Block, LANES, Simd, Vector, dispatch, load_lanes, store_lanes};
use moments::fold;
pub use moments::moments;
use rows::Tiles;
pub(crate) use rows::{AffineTiles, BLOCKS, Images, PART, Part, Shard};
use std::ops::Range;
use std::sync::Arc;

/// A normalisation, neurons, or neurons behind a normalisation.
#[derive(Clone, Debug)]
pub struct Activation {
    /// The normalisation, if there is one.
    pub norm: Option<Norm>,
    /// The neurons, if there are any.
    pub neuron: Option<Lif>,
}

/// What the backward pass needs.
#[derive(Debug)]
pub struct Record {
    input: Arc<Signal>,
    affine: Option<Affine>,
    derivative: Option<Vec<f32>>,
}

impl Record {
    /// Bytes it takes.
    pub fn n_bytes(&self) -> usize {
        self.input.n_bytes() + 4 * self.derivative.as_ref().map_or(0, Vec::len)
    }

    /// The layer's input.
    pub fn input(&self) -> &Signal {
        &self.input
    }

    /// Gives back the memory, once the record has served.
    pub fn recycle(self, workspaces: &Workspaces) {
        workspaces.give_signal(self.input);
        self.derivative.into_iter().for_each(|derivative| workspaces.give(derivative));
    }
}

impl Activation {
    /// The affine map for a batch in training, with the moments its statistics come from.
    pub fn of_batch(&self, parameters: &Parameters, input: &Signal) -> Option<(Affine, Moments)> {
        let norm = self.norm.as_ref()?;
        let moments = norm.moments(moments(input), input.n_steps);
        Some((norm.of_batch(parameters, &moments, input.n_steps), moments))
    }

    /// Forward pass: spikes, or normalised values where there are no neurons. `input` is dense.
    pub fn forward(
        &self,
        parameters: &Parameters,
        input: &Signal,
        affine: Option<&Affine>,
    ) -> Signal {
        let tiles = AffineTiles::new(affine, input.shape);
        match &self.neuron {
            Some(neuron) => {
                let threshold = neuron.threshold(parameters);
                let spikes = spikes_of(neuron, threshold, input, &tiles);
                Signal { data: Data::Spikes(spikes), ..*input }
            }
            None => Signal { data: Data::Values(values_of(input, &tiles)), ..*input },
        }
    }

    /// What the backward pass needs of a forward pass.
    pub fn record(input: Arc<Signal>, affine: Option<Affine>) -> Record {
        Record { input, affine, derivative: None }
    }

    /// The record of a pass of one step whose neurons have a known derivative of the output with
    /// respect to the normalised value, `[sample, row, column, channel]`: the backward pass
    /// multiplies by it. Without a normalisation `input` says the sizes and its values are not
    /// read.
    pub fn record_of(
        input: Arc<Signal>,
        affine: Option<Affine>,
        derivative: Option<Vec<f32>>,
    ) -> Record {
        assert!(derivative.is_none() || input.n_steps == 1, "a derivative is that of one step");
        Record { input, affine, derivative }
    }

    /// Backward pass: from the gradient with respect to the output of every step to the one with
    /// respect to the input; adds to the gradients of what is learned.
    pub fn backward(
        &self,
        parameters: &Parameters,
        record: &Record,
        d: Gradient,
        gradients: &mut Gradients,
    ) -> Gradient {
        let (mut d, rest) = self.backward_open(parameters, record, d, gradients);
        let input = &record.input;
        let Some(rest) = rest else {
            return if input.is_steady() { sum_steps(&d, input.n_steps) } else { d };
        };
        let ranges = shards::of_images(input.n_steps * input.n_samples);
        let parts = shards::split(&mut d, &ranges, input.shape.len());
        let jobs = ranges.into_iter().zip(parts).collect();
        shards::map(jobs, |(images, d)| rest.finish(input, images, d));
        if input.is_steady() {
            add_steps(&mut d, input.gradient_len());
        }
        d
    }

    /// [`Activation::backward`] up to the gradient with respect to the normalised value, for every
    /// step, and the rest of the way, if there is a normalisation.
    pub fn backward_open(
        &self,
        parameters: &Parameters,
        record: &Record,
        mut d: Gradient,
        gradients: &mut Gradients,
    ) -> (Gradient, Option<ToInput>) {
        let Record { input, affine, derivative } = record;
        let (shape, n_steps) = (input.shape, input.n_steps);
        let neurons = match (derivative, &self.neuron) {
            (Some(derivative), _) => Neurons::Derivative(derivative),
            (None, Some(neuron)) => Neurons::Recursion(neuron, neuron.threshold(parameters)),
            (None, None) => Neurons::Absent,
        };
        let sums = to_normalised(neurons, input, affine.as_ref(), &mut d);
        if let (Some(Lif { threshold: Threshold::Learned(id), .. }), Some(neuron)) =
            (self.neuron, &self.neuron)
        {
            let threshold = f64::from(neuron.threshold(parameters));
            gradients.add(id, [(1.0 - threshold * threshold) * sums.threshold]);
        }
        let rest = self.norm.as_ref().zip(affine.as_ref()).map(|(norm, affine)| {
            let [d, d_centred] = [sums.d, sums.d_centred].map(|values| PerStep { n_steps, values });
            let c = norm.backward(parameters, affine, &d, &d_centred, gradients);
            let of = [&c.d_out, &c.centred, &c.constant, &affine.centre];
            ToInput { tiles: of.map(|p| Tiles::new(p, shape)) }
        });
        (d, rest)
    }
}

/// What stands between the normalised value and the output.
#[derive(Clone, Copy)]
enum Neurons<'a> {
    /// Nothing.
    Absent,
    /// Neurons and their threshold.
    Recursion(&'a Lif, f32),
    /// A known derivative, one step.
    Derivative(&'a [f32]),
}

/// Turns the gradient with respect to the output into dL/dx, x the normalised value, in place, and
/// sums it up.
fn to_normalised(
    neurons: Neurons<'_>,
    input: &Signal,
    affine: Option<&Affine>,
    d: &mut [f32],
) -> Sums {
    let (images, simd) = (Images::new(input), Simd::best());
    let tiles = AffineTiles::new(affine, input.shape);
    let mean = affine.map(|a| Tiles::new(&a.mean, input.shape));
    let jobs = images.shards(d, input.shape.len());
    let parts =
        shards::map(jobs, |shard| back(simd, images, &tiles, mean.as_ref(), neurons, shard));
    let mut total = Sums::new(input.n_steps, input.shape.channels);
    parts.iter().for_each(|part| total.add(part));
    total
}

dispatch! {
    /// [`to_normalised`] for some samples.
    fn back(images: Images<'_>, tiles: &AffineTiles, mean: Option<&Tiles>, neurons: Neurons<'_>, shard: Shard<'_, f32>) -> Sums = back_body::<V>;
}

#[inline(always)]
fn back_body<V: Vector>(
    images: Images<'_>,
    tiles: &AffineTiles,
    mean: Option<&Tiles>,
    neurons: Neurons<'_>,
    shard: Shard<'_, f32>,
) -> Sums {
    let shape = images.shape;
    let mut sums = Sums::new(images.n_steps, shape.channels);
    let mut scratch = BackScratch::new(images.n_steps, images.row());
    for (n, mut d) in (shard.first..).zip(shard.samples) {
        scratch.clear();
        for part in images.parts(n) {
            match neurons {
                Neurons::Absent => scratch.pass::<V>(images, mean, None, &part, &mut d),
                Neurons::Recursion(lif, threshold) => known!(lif, threshold, |neuron| {
                    let learns = matches!(lif.threshold, Threshold::Learned(_));
                    let of = Recursion { neuron, learns, tiles, mean };
                    sums.threshold += scratch.neuron::<V, _, _, _>(images, &of, &part, &mut d);
                }),
                Neurons::Derivative(factors) => {
                    let factors = &factors[n * shape.len()..][..shape.len()];
                    scratch.pass::<V>(images, mean, Some(factors), &part, &mut d);
                }
            }
        }
        scratch.fold_into(&mut sums, shape.channels);
    }
    sums
}

/// Spikes of all steps.
fn spikes_of(neuron: &Lif, threshold: f32, input: &Signal, tiles: &AffineTiles) -> Spikes {
    let (images, simd) = (Images::new(input), Simd::best());
    let mut spikes = Spikes::silent(input.shape, input.n_steps * input.n_samples);
    let words = Spikes::words_per_image(input.shape);
    let jobs = images.shards(spikes.words_mut(), words);
    shards::map(jobs, |shard| fire(simd, images, tiles, neuron, threshold, shard));
    spikes
}

dispatch! {
    /// Spikes of some samples.
    fn fire(images: Images<'_>, tiles: &AffineTiles, neuron: &Lif, threshold: f32, shard: Shard<'_, u64>) = fire_body::<V>;
}

#[inline(always)]
fn fire_body<V: Vector>(
    images: Images<'_>,
    tiles: &AffineTiles,
    neuron: &Lif,
    threshold: f32,
    shard: Shard<'_, u64>,
) {
    for (n, mut words) in (shard.first..).zip(shard.samples) {
        for part in images.parts(n) {
            known!(neuron, threshold, |neuron| {
                fire_part::<V, _, _, _>(images, tiles, neuron, &part, &mut words);
            });
        }
    }
}

/// Spikes of a part of a row, to one word of each step.
#[inline(always)]
fn fire_part<V: Vector, const HARD: bool, const DETACHED: bool, const AT: bool>(
    images: Images<'_>,
    tiles: &AffineTiles,
    neuron: Known<HARD, DETACHED, AT>,
    part: &Part,
    words: &mut [&mut [u64]],
) {
    let mut v = [V::splat(0.0); BLOCKS];
    for (t, words) in words.iter_mut().enumerate() {
        part.prefetch_ahead(images.at(t, part.n));
        let u = neuron.charge(v, tiles.blocks(t, part, images.at(t, part.n)));
        words[part.word] = neuron.fire(u) & part.lanes();
        v = neuron.reset(u);
    }
}

/// Normalised values of all steps.
fn values_of(input: &Signal, tiles: &AffineTiles) -> Vec<f32> {
    let (images, simd) = (Images::new(input), Simd::best());
    let mut out = vec![0.0; input.n_steps * input.n_samples * input.shape.len()];
    let jobs = images.shards(&mut out, input.shape.len());
    shards::map(jobs, |shard| normalise(simd, images, tiles, shard));
    out
}

dispatch! {
    /// Normalised values of some samples.
    fn normalise(images: Images<'_>, tiles: &AffineTiles, shard: Shard<'_, f32>) = normalise_body;
}

#[inline(always)]
fn normalise_body(images: Images<'_>, tiles: &AffineTiles, shard: Shard<'_, f32>) {
    let row = images.row();
    for (n, steps) in (shard.first..).zip(shard.samples) {
        for (t, out) in steps.into_iter().enumerate() {
            let rows = images.at(t, n).chunks_exact(row).zip(out.chunks_exact_mut(row));
            rows.for_each(|(y, out)| tiles.apply(t, y, out));
        }
    }
}

/// The way from dL/dx to dL/dy of a normalisation, once it is known for the whole batch:
/// `d_out·d + centred·(y − centre) + constant`.
pub struct ToInput {
    tiles: [Tiles; 4],
}

impl ToInput {
    /// Goes it in place for some images `[time, sample]` of the gradient; `input` is the layer's.
    pub fn finish(&self, input: &Signal, images: Range<usize>, d: &mut [f32]) {
        combine(Simd::best(), Images::new(input), &self.tiles, images, d);
    }
}

dispatch! {
    /// [`ToInput::finish`].
    fn combine(of: Images<'_>, tiles: &[Tiles; 4], images: Range<usize>, d: &mut [f32]) = combine_body;
}

#[inline(always)]
fn combine_body(of: Images<'_>, tiles: &[Tiles; 4], images: Range<usize>, d: &mut [f32]) {
    let row = of.row();
    let [d_out, centred, constant, centre] = tiles;
    for (image, d) in images.zip(d.chunks_exact_mut(of.shape.len())) {
        let (t, n) = (image / of.n_samples, image % of.n_samples);
        let (a, b, c, m) = (d_out.at(t), centred.at(t), constant.at(t), centre.at(t));
        for (d, y) in d.chunks_exact_mut(row).zip(of.at(t, n).chunks_exact(row)) {
            for i in 0..row {
                d[i] = a[i] * d[i] + b[i] * (y[i] - m[i]) + c[i];
            }
        }
    }
}

/// Sum of a gradient `[time, …]` over its steps.
pub fn sum_steps(d: &[f32], n_steps: usize) -> Gradient {
    let (first, rest) = d.split_at(d.len() / n_steps);
    let mut sum = first.to_vec();
    for step in rest.chunks_exact(first.len()) {
        sum.iter_mut().zip(step).for_each(|(s, &d)| *s += d);
    }
    sum
}

/// Adds later steps of `len` values to the first, which alone stays.
fn add_steps(d: &mut Gradient, len: usize) {
    let (first, rest) = d.split_at_mut(len);
    for step in rest.chunks_exact(len) {
        first.iter_mut().zip(step).for_each(|(s, &d)| *s += d);
    }
    d.truncate(len);
}

/// Sums of a gradient.
struct Sums {
    /// Σ d, `[step, channel]`.
    d: Vec<f64>,
    /// Σ d·(y − μ), `[step, channel]`.
    d_centred: Vec<f64>,
    /// dL/dθ.
    threshold: f64,
}

impl Sums {
    fn new(n_steps: usize, n_channels: usize) -> Self {
        let zeros = vec![0.0; n_steps * n_channels];
        Self { d: zeros.clone(), d_centred: zeros, threshold: 0.0 }
    }

    fn add(&mut self, other: &Sums) {
        self.d.iter_mut().zip(&other.d).for_each(|(s, o)| *s += o);
        self.d_centred.iter_mut().zip(&other.d_centred).for_each(|(s, o)| *s += o);
        self.threshold += other.threshold;
    }
}

/// What the backward pass through neurons needs to know of them.
struct Recursion<'a, const HARD: bool, const DETACHED: bool, const AT: bool> {
    neuron: Known<HARD, DETACHED, AT>,
    learns: bool,
    tiles: &'a AffineTiles,
    mean: Option<&'a Tiles>,
}

/// Memory of the backward pass over one sample.
struct BackScratch {
    row: usize,
    /// Membranes of a part of a row, `[time, lane]`.
    u: Vec<[Block; BLOCKS]>,
    /// Σ d over the rows of the sample, `[time, row]`.
    d: Vec<f32>,
    /// Σ d·(y − μ), `[time, row]`.
    d_centred: Vec<f32>,
}

impl BackScratch {
    fn new(n_steps: usize, row: usize) -> Self {
        let all = vec![0.0; n_steps * row];
        Self { row, u: vec![[[0.0; LANES]; BLOCKS]; n_steps], d: all.clone(), d_centred: all }
    }

    #[inline(always)]
    fn clear(&mut self) {
        self.d.fill(0.0);
        self.d_centred.fill(0.0);
    }

    /// Membranes forward, gradients backward, for a part of every image in `d`; returns its dL/dθ.
    #[inline(always)]
    fn neuron<V: Vector, const HARD: bool, const DETACHED: bool, const AT: bool>(
        &mut self,
        images: Images<'_>,
        of: &Recursion<'_, HARD, DETACHED, AT>,
        part: &Part,
        d: &mut [&mut [f32]],
    ) -> f64 {
        let Recursion { neuron, learns, tiles, mean } = *of;
        let mut v = [V::splat(0.0); BLOCKS];
        for t in 0..d.len() {
            let y = images.at(t, part.n);
            part.prefetch_ahead(y);
            part.prefetch_ahead(d[t]);
            let u = neuron.charge(v, tiles.blocks(t, part, y));
            for b in 0..BLOCKS {
                u[b].write(&mut self.u[t][b]);
            }
            v = neuron.reset(u);
        }
        let mut a = [V::splat(0.0); BLOCKS];
        let mut d_threshold = 0.0;
        for t in (0..d.len()).rev() {
            let mut u = [V::splat(0.0); BLOCKS];
            for b in 0..BLOCKS {
                u[b] = V::read(&self.u[t][b]);
            }
            let h = neuron.slopes(u);
            let g = part.load(d[t]);
            let (x, through) = neuron.back(u, h, &mut a, g);
            part.store(&x, d[t]);
            if let Some(mean) = mean {
                self.count(t, part, x, images.at(t, part.n), mean);
            }
            if learns {
                let mut lanes = [0.0; PART];
                store_lanes::<V, BLOCKS>(&through, &mut lanes);
                let lanes = &lanes[..part.along.len()];
                d_threshold -= lanes.iter().map(|&h| f64::from(h)).sum::<f64>();
            }
        }
        d_threshold
    }

    /// The same without neurons: through a known derivative, or as it is.
    #[inline(always)]
    fn pass<V: Vector>(
        &mut self,
        images: Images<'_>,
        mean: Option<&Tiles>,
        factors: Option<&[f32]>,
        part: &Part,
        d: &mut [&mut [f32]],
    ) {
        for t in 0..d.len() {
            let mut x: [V; BLOCKS] = part.load(d[t]);
            if let Some(factors) = factors {
                let factors: [V; BLOCKS] = part.load(factors);
                for b in 0..BLOCKS {
                    x[b] = x[b].times(factors[b]);
                }
                part.store(&x, d[t]);
            }
            if let Some(mean) = mean {
                self.count(t, part, x, images.at(t, part.n), mean);
            }
        }
    }

    #[inline(always)]
    fn count<V: Vector>(&mut self, t: usize, part: &Part, d: [V; BLOCKS], y: &[f32], mean: &Tiles) {
        let y: [V; BLOCKS] = part.load(y);
        let mean: [V; BLOCKS] = load_lanes(&mean.at(t)[part.along.clone()]);
        let sum = &mut self.d[t * self.row..][part.along.clone()];
        let mut sums: [V; BLOCKS] = load_lanes(sum);
        for b in 0..BLOCKS {
            sums[b] = sums[b].plus(d[b]);
        }
        store_lanes(&sums, sum);
        let sum = &mut self.d_centred[t * self.row..][part.along.clone()];
        let mut sums: [V; BLOCKS] = load_lanes(sum);
        for b in 0..BLOCKS {
            sums[b] = sums[b].plus(d[b].times(V::minus(y[b], mean[b])));
        }
        store_lanes(&sums, sum);
    }

    #[inline(always)]
    fn fold_into(&self, sums: &mut Sums, n_channels: usize) {
        let steps = sums.d.chunks_exact_mut(n_channels).zip(self.d.chunks_exact(self.row));
        steps.for_each(|(of_channel, row)| fold(row, of_channel));
        let steps =
            sums.d_centred.chunks_exact_mut(n_channels).zip(self.d_centred.chunks_exact(self.row));
        steps.for_each(|(of_channel, row)| fold(row, of_channel));
    }
}
