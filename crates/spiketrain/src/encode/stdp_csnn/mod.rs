//! One convolutional spiking layer trained by unsupervised STDP, as a feature extractor.
//!
//! Papers: P. Falez, P. Tirilly, I. M. Bilasco, P. Devienne, P. Boulet, "Multi-layered spiking
//! neural network with target timestamp threshold adaptation and STDP", IJCNN 2019, arXiv
//! 1904.01908; as used by G. Goupy, P. Tirilly, I. M. Bilasco, NeurIPS 2024, arXiv 2410.17066.
//!
//! Images pass an on/off filter or whitening, are scaled per feature to the training images'
//! range, and become spike times t = max(0, 1 − v). The layer learns from one random patch an
//! image and epoch: the first neuron to fire wins, takes the patch in, and thresholds move so
//! that winners fire at a target time. After training, the whole convolution runs without
//! competition and the earliest spike of every 4×4 neurons is a feature.
//!
//! Features are numbered (row, column, filter), filter fastest: 28×28 pixels give 6×6×128.
//!
//! Departures: 1. spikes of one time inside a patch are taken in the order of their index (the
//! reference sorts unstably). 2. Patches come from counter-based streams.

mod convolution;
mod layer;
mod retina;

pub use convolution::{Convolution, Extraction};
pub use layer::{Layer, Rates};
pub use retina::Retina;

use super::{FitEncoder, FittedEncoder, Tick};
use crate::check::Checks;
use crate::error::{Error, Result};
use crate::event::{BarRow, Figure};
use crate::seed::Seed;
use crate::spikes::{Images, Inputs, Shape, Times};
use crate::state::State;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Most synapses of a filter, and most features: both are numbered in 16 bits.
const MAX_NEURONS: usize = 1 << 16;

/// What happens to an image before it is coded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// Difference of Gaussians, split by sign.
    #[default]
    OnOff,
    /// Whitening filters made from the training images, split by sign.
    Whiten,
    /// Nothing.
    None,
}

/// Parameters of `[encode.stdp-csnn]`; the defaults are those for MNIST.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// What happens to an image before it is coded.
    pub filter: Filter,
    /// Rows and columns of the on/off kernel, odd.
    pub dog_size: usize,
    /// Standard deviations of the two Gaussians, in pixels.
    pub dog_sigmas: [f64; 2],
    /// Rows and columns of the whitening filters, odd.
    pub whiten_size: usize,
    /// Step between patches for the whitening filters, in pixels.
    pub whiten_stride: usize,
    /// Added to the eigenvalues.
    pub whiten_epsilon: f64,
    /// Patches gathered for the whitening filters, at least.
    pub whiten_patches: usize,
    /// Filters of the layer.
    pub n_filters: usize,
    /// Rows and columns of the layer's kernels.
    pub kernel: usize,
    /// Rows and columns of neurons of which the earliest spike is taken.
    pub pool: usize,
    /// Passes over the training images.
    pub epochs: u64,
    /// Threshold at the start.
    pub threshold: f32,
    /// Lower bound of the thresholds.
    pub min_threshold: f32,
    /// Wanted time of the winners' spikes, fraction of the window.
    pub target_time: f32,
    /// Step of the weights.
    pub learning_rate: f32,
    /// Step of the thresholds.
    pub threshold_learning_rate: f32,
    /// Decay of the weights' step near the bounds.
    pub beta: f32,
    /// Factor of both steps after each epoch.
    pub annealing: f32,
    /// Mean of the first weights.
    pub weight_mean: f64,
    /// Standard deviation of the first weights.
    pub weight_std: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            filter: Filter::OnOff,
            dog_size: 7,
            dog_sigmas: [1.0, 2.0],
            whiten_size: 9,
            whiten_stride: 2,
            whiten_epsilon: 0.01,
            whiten_patches: 1_000_000,
            n_filters: 128,
            kernel: 5,
            pool: 4,
            epochs: 100,
            threshold: 5.0,
            min_threshold: 2.0,
            target_time: 0.75,
            learning_rate: 0.1,
            threshold_learning_rate: 1.0,
            beta: 1.0,
            annealing: 0.95,
            weight_mean: 0.5,
            weight_std: 0.01,
        }
    }
}

impl Params {
    /// What is wrong with the values.
    pub fn check(&self) -> Checks {
        let mut c = Checks::default();
        let odd = |n: usize| n % 2 == 1 && n <= 99;
        c.that(odd(self.dog_size), "dog_size", self.dog_size, "an odd number up to 99");
        c.that(odd(self.whiten_size), "whiten_size", self.whiten_size, "an odd number up to 99");
        for sigma in self.dog_sigmas {
            c.positive("dog_sigmas", sigma);
        }
        c.count("whiten_stride", self.whiten_stride, 1, 100);
        c.positive("whiten_epsilon", self.whiten_epsilon);
        c.count("whiten_patches", self.whiten_patches, 1, usize::MAX);
        c.count("n_filters", self.n_filters, 2, 4096);
        c.count("kernel", self.kernel, 1, 31);
        c.count("pool", self.pool, 1, 31);
        c.that(self.epochs <= 10_000, "epochs", self.epochs, "at most 10000");
        c.positive("threshold", self.threshold.into());
        c.positive("min_threshold", self.min_threshold.into());
        c.within("target_time", self.target_time.into(), 0.0, 1.0);
        c.not_negative("learning_rate", self.learning_rate.into());
        c.not_negative("threshold_learning_rate", self.threshold_learning_rate.into());
        c.finite("beta", self.beta.into());
        c.within("annealing", self.annealing.into(), 0.0, 1.0);
        c.finite("weight_mean", self.weight_mean);
        c.not_negative("weight_std", self.weight_std);
        c
    }

    /// Channels after the filter for each channel of the image.
    fn channels_per_channel(&self) -> usize {
        if self.filter == Filter::None { 1 } else { 2 }
    }

    /// Whether images of `shape` are large enough, and synapses and features few enough.
    fn check_shape(&self, shape: Shape) -> Result<()> {
        let Shape { channels, height, width } = shape;
        let (kernel, pool) = (self.kernel, self.pool);
        let least = kernel + pool - 1;
        if height < least || width < least {
            return Err(Error::recipe(format!(
                "images of {height}×{width} pixels are too small for kernels of {kernel} and \
                 pooling of {pool}: at least {least}×{least}"
            )));
        }
        let size = self.whiten_size;
        if self.filter == Filter::Whiten && (height < size || width < size) {
            let most = height.min(width);
            return Err(Error::recipe(format!(
                "encode.stdp-csnn.whiten_size = {size}: images of {height}×{width} pixels allow at \
                 most {most}"
            )));
        }
        let n_synapses = kernel * kernel * self.channels_per_channel() * channels;
        if n_synapses > MAX_NEURONS {
            return Err(Error::recipe(format!(
                "encode.stdp-csnn.kernel = {kernel}: {n_synapses} synapses a filter with images of \
                 {channels} channels, at most 65536 are supported"
            )));
        }
        let cells = |n: usize| (n + 1 - kernel) / pool;
        let n_features = cells(height) * cells(width) * self.n_filters;
        if n_features > MAX_NEURONS {
            return Err(Error::recipe(format!(
                "encode.stdp-csnn.n_filters = {}: {n_features} features with images of \
                 {height}×{width} pixels, at most 65536 are supported",
                self.n_filters
            )));
        }
        Ok(())
    }
}

/// The extractor after training.
#[derive(Clone, Debug)]
pub struct StdpCsnn {
    pool: usize,
    /// What stands before the layer.
    pub retina: Retina,
    /// The layer.
    pub layer: Layer,
}

impl StdpCsnn {
    /// An extractor with first weights, its retina fitted to `images`; and the images' spike
    /// times `[image, row, column, channel]`.
    pub fn start(params: &Params, images: &Images, seed: Seed) -> (StdpCsnn, Vec<f32>) {
        let (retina, mut times) = Retina::fit(params, images);
        times.par_chunks_mut(retina.n_features()).for_each(|v| retina.code(v));
        let n_positions = params.kernel * params.kernel * retina.n_channels;
        let mut stream = seed.stream("csnn.weights", 0);
        let weights: Vec<f32> = (0..n_positions * params.n_filters)
            .map(|_| stream.normal(params.weight_mean, params.weight_std) as f32)
            .collect();
        let thresholds = vec![params.threshold; params.n_filters];
        let layer = Layer::new(params.kernel, retina.n_channels, &weights, &thresholds);
        (StdpCsnn { pool: params.pool, retina, layer }, times)
    }

    /// One epoch: of every image in order, one random patch.
    ///
    /// The patch's corner is uniform over 0..=W_out − K, W_out being the width of the layer's
    /// output: the last rows and columns are never drawn, as in the reference.
    pub fn train_epoch(&mut self, params: &Params, times: &[f32], epoch: u64, seed: Seed) {
        let factor = libm::powf(params.annealing, epoch as f32);
        let rates = Rates {
            weight: params.learning_rate * factor,
            threshold: params.threshold_learning_rate * factor,
            beta: params.beta,
            target_time: params.target_time,
            min_threshold: params.min_threshold,
        };
        let (k, c) = (params.kernel, self.retina.n_channels);
        let Shape { height, width, .. } = self.retina.shape;
        let corners = |n: usize| (n + 2).saturating_sub(2 * k).max(1) as u32;
        let mut stream = seed.stream("csnn.patch", epoch);
        let (mut patch, mut events, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
        for image in times.chunks_exact(height * width * c) {
            let y = stream.below(corners(height)) as usize;
            let x = stream.below(corners(width)) as usize;
            patch.clear();
            for row in y..y + k {
                patch.extend_from_slice(&image[(row * width + x) * c..(row * width + x + k) * c]);
            }
            events.clear();
            let spikes = patch.iter().enumerate().filter(|(_, t)| t.is_finite());
            events.extend(spikes.map(|(p, &t)| (p as u16, t)));
            events.sort_by(|a, b| a.1.total_cmp(&b.1));
            self.layer.learn(&patch, &events, &rates, &mut scratch);
        }
    }

    /// The layer's convolution over whole images, of which the earliest spike of every
    /// `pool`×`pool` neurons is a feature.
    pub fn convolution(&self, pool: usize) -> Convolution {
        let Shape { height, width, .. } = self.retina.shape;
        Convolution::new(&self.layer, height, width, pool)
    }
}

impl FitEncoder for Params {
    fn fit(&self, train: &Images, seed: Seed, tick: Tick<'_>) -> Result<Box<dyn FittedEncoder>> {
        self.check_shape(train.shape)?;
        let (mut extractor, times) = StdpCsnn::start(self, train, seed);
        for epoch in 0..self.epochs {
            tick(epoch, self.epochs)?;
            extractor.train_epoch(self, &times, epoch, seed);
        }
        Ok(Box::new(extractor))
    }

    fn restore(&self, shape: Shape, state: &State) -> Result<Box<dyn FittedEncoder>> {
        self.check_shape(shape)?;
        let n_taps = self.whiten_size * self.whiten_size * shape.channels;
        let whiten = match self.filter {
            Filter::Whiten => state.get::<f32>("whiten", &[shape.channels, n_taps])?,
            _ => &[],
        };
        let filters = || whiten.chunks_exact(n_taps).map(<[f32]>::to_vec).collect();
        let mut retina = Retina::with_filters(self, shape, filters);
        let c = retina.n_channels;
        let features = [shape.height, shape.width, c];
        retina.min = state.get::<f32>("scale_min", &features)?.to_vec();
        retina.max = state.get::<f32>("scale_max", &features)?.to_vec();
        let weights = state.get::<f32>("weight", &[self.kernel, self.kernel, c, self.n_filters])?;
        let thresholds = state.get::<f32>("threshold", &[self.n_filters])?;
        let layer = Layer::new(self.kernel, c, weights, thresholds);
        Ok(Box::new(StdpCsnn { pool: self.pool, retina, layer }))
    }
}

impl FittedEncoder for StdpCsnn {
    fn shape(&self) -> Shape {
        let size = |n: usize| (n + 1 - self.layer.kernel) / self.pool;
        let Shape { height, width, .. } = self.retina.shape;
        Shape::new(self.layer.n_filters, size(height), size(width))
    }

    fn encode(&self, images: &Images, tick: Tick<'_>) -> Result<Inputs> {
        super::check_shape(images, self.retina.shape)?;
        let mut out = Times::new(self.shape())?;
        let convolution = self.convolution(self.pool);
        for part in super::parts(images.len()) {
            let events: Vec<(Vec<u16>, Vec<f32>)> = part
                .clone()
                .into_par_iter()
                .map_init(
                    || (Extraction::default(), vec![0.0; images.shape.len()]),
                    |(scratch, image), i| {
                        images.read(i, image);
                        convolution.events(&self.retina.times(image), scratch)
                    },
                )
                .collect();
            events.iter().for_each(|(neurons, times)| out.push_events(neurons, times));
            tick(part.end as u64, images.len() as u64)?;
        }
        Ok(Inputs::Times(out))
    }

    fn state(&self) -> State {
        let mut state = State::new();
        let Shape { height, width, .. } = self.retina.shape;
        let (k, c) = (self.layer.kernel, self.retina.n_channels);
        if let Some(filters) = self.retina.whitening() {
            let n_taps = filters.first().map_or(0, Vec::len);
            state.put("whiten", &[filters.len(), n_taps], filters.concat());
        }
        state.put("scale_min", &[height, width, c], self.retina.min.clone());
        state.put("scale_max", &[height, width, c], self.retina.max.clone());
        state.put("weight", &[k, k, c, self.layer.n_filters], self.layer.weights());
        state.put("threshold", &[self.layer.n_filters], self.layer.thresholds().to_vec());
        state
    }

    fn figures(&self) -> Vec<Figure> {
        let (k, c, f) = (self.layer.kernel, self.retina.n_channels, self.layer.n_filters);
        let weights = self.layer.weights();
        let shade = |w: f32| (w.clamp(0.0, 1.0) * 255.0).round() as u8;
        // Two channels: on in green, off in red. Six: on channels as the colours.
        let channel_of = |colour: usize| match c {
            2 => [Some(1), Some(0), None][colour],
            6 => Some(2 * colour),
            _ => Some(0),
        };
        let image = |z: usize| -> Vec<u8> {
            let pixel = |i: usize| {
                let (at, colour) = (i / 3, i % 3);
                channel_of(colour).map_or(0, |ch| shade(weights[(at * c + ch) * f + z]))
            };
            (0..k * k * 3).map(pixel).collect()
        };
        let thresholds = self.layer.thresholds().iter().map(|&t| f64::from(t)).collect();
        vec![
            Figure::Images {
                title: "Learned filters".into(),
                caption: "One square per filter of the spiking convolution. With on/off input, green is the weight of the on channel and red that of the off channel; with whitened colour input, the on weights of red, green and blue.".into(),
                height: k,
                width: k,
                channels: 3,
                images: (0..f).map(image).collect(),
                labels: Vec::new(),
            },
            Figure::Bars {
                title: "Thresholds of the filters".into(),
                caption: "After training; thresholds move so that winners fire at the target time.".into(),
                categories: (0..f).map(|z| z.to_string()).collect(),
                rows: vec![BarRow { name: "threshold".into(), values: thresholds }],
                y_label: "threshold".into(),
            },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(n: usize, shape: Shape) -> Images {
        let mut s = Seed(2).stream("test", 0);
        Images::from_bytes(shape, (0..n * shape.len()).map(|_| s.below(256) as u8).collect())
    }

    fn small() -> Params {
        Params { n_filters: 7, epochs: 2, whiten_size: 3, ..Params::default() }
    }

    fn quiet(_: u64, _: u64) -> Result<()> {
        Ok(())
    }

    #[test]
    fn a_restored_extractor_encodes_the_same_on_any_number_of_threads() {
        for (filter, shape) in
            [(Filter::OnOff, Shape::new(1, 12, 13)), (Filter::Whiten, Shape::new(3, 10, 10))]
        {
            let params = Params { filter, ..small() };
            let images = noise(30, shape);
            let run = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let fitted = params.fit(&images, Seed(1), &mut quiet).unwrap();
                    let inputs = fitted.encode(&images, &mut quiet).unwrap();
                    (fitted.state(), inputs)
                })
            };
            let (state, inputs) = run(1);
            assert!(inputs.as_times().n_events() > 0);
            assert_eq!((state.clone(), inputs.clone()), run(2));
            assert_eq!((state.clone(), inputs.clone()), run(3));
            let restored = params.restore(shape, &state).unwrap();
            assert_eq!(restored.encode(&images, &mut quiet).unwrap(), inputs);
            assert_eq!(restored.shape(), inputs.shape());
        }
    }

    #[test]
    fn small_images_and_wrong_values_are_refused() {
        let images = noise(1, Shape::new(1, 7, 9));
        let message = small().fit(&images, Seed(1), &mut quiet).err().unwrap().to_string();
        assert!(message.contains("at least 8×8"), "{message}");
        let wrong = Params { dog_size: 4, pool: 0, whiten_epsilon: 0.0, ..Params::default() };
        assert_eq!(wrong.check().found.len(), 3);
        assert!(Params::default().check().found.is_empty());
    }

    #[test]
    fn what_does_not_fit_is_refused_before_anything_is_learned() {
        let message = |params: &Params, shape: Shape| {
            let images = noise(1, shape);
            let mut tick = |_: u64, _: u64| -> Result<()> { panic!("nothing is learned") };
            params.fit(&images, Seed(1), &mut tick).err().unwrap().to_string()
        };
        let whiten = Params { filter: Filter::Whiten, whiten_size: 11, ..small() };
        let expected = "encode.stdp-csnn.whiten_size = 11: images of 10×12 pixels allow at most 10";
        assert_eq!(message(&whiten, Shape::new(1, 10, 12)), expected);
        assert!(Params { whiten_size: 9, ..whiten }.check_shape(Shape::new(1, 10, 12)).is_ok());
        let many = Params { n_filters: 1821, ..small() };
        let expected = "encode.stdp-csnn.n_filters = 1821: 65556 features with images of 28×28 \
                        pixels, at most 65536 are supported";
        assert_eq!(message(&many, Shape::new(1, 28, 28)), expected);
        assert!(Params { n_filters: 1820, ..many }.check_shape(Shape::new(1, 28, 28)).is_ok());
        let wide = Params { kernel: 31, ..small() };
        let expected = "encode.stdp-csnn.kernel = 31: 67270 synapses a filter with images of 35 \
                        channels, at most 65536 are supported";
        assert_eq!(message(&wide, Shape::new(35, 34, 34)), expected);
        assert!(wide.check_shape(Shape::new(34, 34, 34)).is_ok());
        let plain = Params { filter: Filter::None, ..wide };
        assert!(plain.check_shape(Shape::new(68, 34, 34)).is_ok());
    }
}
