//! What the layer makes of an image: reconstructions by both decoders, put together in both ways,
//! and the sparsity of its spikes.

use super::decode::{Canvas, Cosine, weighted_filters};
use super::layer::{Layer, Response, Scratch};
use super::params::{Decoder, Params, Sampling};
use super::walk::Walk;
use crate::error::Result;
use crate::learner::{Measure, Prediction};
use crate::metrics::{correlation, rms, treves_rolls};
use crate::seed::Seed;
use crate::spikes::Shape;

/// How patches become an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiling {
    /// Every pixel is the mean of all patches, `stride` apart, that cover it.
    Overlap,
    /// Patches lie side by side.
    Tiled,
}

/// The layer as it stands, with what the decoders need of it.
pub(super) struct Reader<'a> {
    params: &'a Params,
    shape: Shape,
    layer: &'a Layer,
    /// `[neuron, input]`.
    weights: Vec<f64>,
    cosine: Cosine,
}

/// What the layer made of one image.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The image on the scale of the reconstructions, `[channel, row, column]`.
    pub target: Vec<f32>,
    /// Reconstructions: decoder, tiling, image. The cosine decoder is for unsigned pixels only.
    pub reconstructions: Vec<(Decoder, Tiling, Vec<f32>)>,
    /// Measures of the image and its patches.
    pub measures: Vec<Measure>,
    /// Spikes of input and output.
    pub n_spikes: u64,
    /// One per input spike of every patch and neuron.
    pub n_synops: u64,
    /// Output spikes of each patch that was counted.
    pub(super) spikes_per_patch: Vec<f64>,
}

/// Canvases of one tiling.
struct Canvases {
    tiling: Tiling,
    vq: Canvas,
    cosine: Canvas,
}

/// Sums over patches.
#[derive(Default)]
struct Sparsity {
    n_patches: u64,
    n_responding: u64,
    n_active_neurons: u64,
    activity: f64,
    n_steps: u64,
    n_active: u64,
    n_spikes: u64,
    rms: f64,
    correlation: f64,
    n_correlated: u64,
    spikes_per_patch: Vec<f64>,
}

impl Sparsity {
    fn add(&mut self, response: &Response, decoded: &[f64], targets: &[f64]) {
        self.n_patches += 1;
        self.n_steps += response.n_steps;
        self.n_active += response.n_active;
        self.n_spikes += response.n_spikes();
        self.n_active_neurons += response.counts.iter().filter(|&&n| n > 0).count() as u64;
        self.spikes_per_patch.push(response.n_spikes() as f64);
        if let Some(activity) = treves_rolls(&response.counts) {
            self.n_responding += 1;
            self.activity += activity;
        }
        self.rms += rms(decoded, targets);
        if let Some(r) = correlation(decoded, targets) {
            self.n_correlated += 1;
            self.correlation += r;
        }
    }

    fn measures(&self, n_neurons: usize) -> Vec<Measure> {
        let measure = |name, sum, count| Measure { name, sum, count };
        let n_neurons = n_neurons as u64;
        vec![
            measure("patch_rms", self.rms, self.n_patches),
            measure("patch_correlation", self.correlation, self.n_correlated),
            measure("spikes_per_step", self.n_spikes as f64, self.n_steps),
            measure("active_steps", self.n_active as f64, self.n_steps),
            measure("active_neurons", self.n_active_neurons as f64, self.n_patches * n_neurons),
            measure("firing_fraction", self.n_spikes as f64, self.n_steps * n_neurons),
            measure("treves_rolls", self.activity, self.n_responding),
        ]
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(params: &'a Params, shape: Shape, layer: &'a Layer) -> Self {
        let cosine = Cosine::new(layer, params.decoder_tau, params.decoder_threshold);
        Self { params, shape, layer, weights: layer.weights(), cosine }
    }

    /// Reads the image in `walk.image`, drawing spikes and places number `index`.
    pub(super) fn read(&self, walk: &mut Walk, seed: Seed, index: u64) -> Result<Reading> {
        let mut sparsity = Sparsity::default();
        let mut reading = Reading {
            target: self.params.code.targets(&walk.image, self.params.contrast),
            reconstructions: Vec::new(),
            measures: Vec::new(),
            n_spikes: 0,
            n_synops: 0,
            spikes_per_patch: Vec::new(),
        };
        if self.params.sampling == Sampling::Random {
            self.read_random(walk, seed, index, &mut sparsity)?;
        }
        let mut spikes = seed.stream("event-stdp.test-spikes", index);
        walk.begin(&mut spikes);
        reading.n_spikes = walk.n_shared_spikes();
        for tiling in [Tiling::Overlap, Tiling::Tiled] {
            let Shape { channels, height, width } = self.shape;
            let canvas = Canvas::new(channels, height, width);
            let mut canvases = Canvases { tiling, vq: canvas.clone(), cosine: canvas };
            self.paint(walk, &mut canvases, &mut reading, &mut sparsity, &mut spikes);
            self.finish(canvases, &mut reading);
        }
        reading.measures.extend(sparsity.measures(self.layer.n_neurons()));
        reading.spikes_per_patch = sparsity.spikes_per_patch;
        Ok(reading)
    }

    /// Sparsity and error of random patches that have a spike.
    fn read_random(
        &self,
        walk: &mut Walk,
        seed: Seed,
        index: u64,
        sparsity: &mut Sparsity,
    ) -> Result<()> {
        let mut places = seed.stream("event-stdp.test-places", index);
        let mut spikes = seed.stream("event-stdp.test-patch-spikes", index);
        let (mut scratch, mut response) = (Scratch::default(), Response::default());
        walk.begin_apart();
        for _ in 0..self.params.patches_per_image {
            let (top, left) = walk.random_place(&mut places)?;
            let gain = walk.take_apart(top, left, &mut spikes);
            if walk.patch.live.is_empty() {
                continue;
            }
            self.layer.respond(&walk.patch, &mut scratch, &mut response);
            let decoded = self.decode(&response.counts);
            sparsity.add(&response, &decoded, &walk.patch_targets(top, left, gain));
        }
        Ok(())
    }

    /// The mean filter of the spikes `counts` (D1).
    fn decode(&self, counts: &[u32]) -> Vec<f64> {
        let code = self.params.code;
        let n: u32 = counts.iter().sum();
        let mut filter = Vec::new();
        weighted_filters(&self.weights, counts, &mut filter);
        if n == 0 {
            return vec![code.neutral(); filter.len() / code.channels()];
        }
        filter.iter_mut().for_each(|x| *x /= f64::from(n));
        code.decode(&filter)
    }

    /// Puts all patches of one tiling on its canvases.
    fn paint(
        &self,
        walk: &mut Walk,
        canvases: &mut Canvases,
        reading: &mut Reading,
        sparsity: &mut Sparsity,
        spikes: &mut crate::seed::Stream,
    ) {
        let (size, code) = (self.params.patch, self.params.code);
        let (mut scratch, mut response) = (Scratch::default(), Response::default());
        let is_overlap = canvases.tiling == Tiling::Overlap;
        let counts_patches = is_overlap && self.params.sampling == Sampling::All;
        let neutral = vec![code.neutral(); self.shape.channels * size * size];
        let starts = |n| -> Vec<isize> {
            if is_overlap { walk.starts(n).collect() } else { walk.tiles(n).collect() }
        };
        let (tops, lefts) = (starts(self.shape.height), starts(self.shape.width));
        for &top in &tops {
            for &left in &lefts {
                let gain = walk.take(top, left, spikes);
                if walk.patch.live.is_empty() {
                    canvases.vq.add(top, left, size, &neutral);
                    canvases.cosine.add(top, left, size, &neutral);
                    continue;
                }
                self.layer.respond(&walk.patch, &mut scratch, &mut response);
                let mut decoded = self.decode(&response.counts);
                if counts_patches {
                    sparsity.add(&response, &decoded, &walk.patch_targets(top, left, gain));
                }
                if is_overlap {
                    let n_inputs = walk.patch.n_spikes();
                    reading.n_synops += n_inputs * self.layer.n_neurons() as u64;
                    reading.n_spikes += response.n_spikes();
                    reading.n_spikes += if self.params.normalise_contrast { n_inputs } else { 0 };
                }
                decoded.iter_mut().for_each(|x| {
                    *x = code.neutral() + (*x - code.neutral()) * gain;
                });
                canvases.vq.add(top, left, size, &decoded);
                if !code.is_signed() {
                    let counts = self.cosine.counts(&walk.patch);
                    weighted_filters(&self.weights, &counts, &mut decoded);
                    canvases.cosine.add(top, left, size, &decoded);
                }
            }
        }
    }

    /// Turns canvases into reconstructions and measures them.
    fn finish(&self, canvases: Canvases, reading: &mut Reading) {
        let tiling = canvases.tiling;
        let target: Vec<f64> = reading.target.iter().map(|&x| f64::from(x)).collect();
        let mut add = |decoder, image: Vec<f64>| {
            let [rms_name, correlation_name] = names(decoder, tiling);
            let sum = rms(&image, &target);
            reading.measures.push(Measure { name: rms_name, sum, count: 1 });
            if let Some(sum) = correlation(&image, &target) {
                reading.measures.push(Measure { name: correlation_name, sum, count: 1 });
            }
            let image = image.into_iter().map(|x| x as f32).collect();
            reading.reconstructions.push((decoder, tiling, image));
        };
        add(Decoder::Vq, canvases.vq.image());
        if !self.params.code.is_signed() {
            let mut image = canvases.cosine.image();
            let max = image.iter().copied().fold(0.0, f64::max);
            if max > 0.0 {
                image.iter_mut().for_each(|x| *x /= max);
            }
            add(Decoder::CosineLif, image);
        }
    }
}

impl Reading {
    /// The reconstruction by `decoder` and `tiling`.
    pub fn reconstruction(&self, decoder: Decoder, tiling: Tiling) -> Option<&[f32]> {
        let is_it = |r: &&(Decoder, Tiling, Vec<f32>)| r.0 == decoder && r.1 == tiling;
        self.reconstructions.iter().find(is_it).map(|r| r.2.as_slice())
    }

    pub(super) fn into_prediction(self, decoder: Decoder) -> Prediction {
        Prediction {
            reconstruction: self.reconstruction(decoder, Tiling::Overlap).map(<[f32]>::to_vec),
            target: Some(self.target),
            n_spikes: self.n_spikes,
            n_synops: self.n_synops,
            measures: self.measures,
            ..Prediction::default()
        }
    }
}

fn names(decoder: Decoder, tiling: Tiling) -> [&'static str; 2] {
    match (decoder, tiling) {
        (Decoder::Vq, Tiling::Overlap) => ["d1_overlap_rms", "d1_overlap_correlation"],
        (Decoder::Vq, Tiling::Tiled) => ["d1_tiled_rms", "d1_tiled_correlation"],
        (Decoder::CosineLif, Tiling::Overlap) => ["d2_overlap_rms", "d2_overlap_correlation"],
        (Decoder::CosineLif, Tiling::Tiled) => ["d2_tiled_rms", "d2_tiled_correlation"],
    }
}
