//! What stands before the layer: filter, scaling to the training images' range, latency.

use super::super::latency::latency;
use super::super::on_off::{correlate, dog_kernel, split_signs};
use super::super::whiten;
use super::{Filter, Params};
use crate::spikes::{Images, Shape};
use rayon::prelude::*;

/// The way from an image to spike times. Values stand as `[row, column, channel]`.
#[derive(Clone, Debug)]
pub struct Retina {
    /// Shape of an image.
    pub(super) shape: Shape,
    /// Channels after the filter.
    pub n_channels: usize,
    kernels: Kernels,
    /// Least value of each feature over the training images, `[row, column, channel]`.
    pub min: Vec<f32>,
    /// Largest value of each feature over the training images, `[row, column, channel]`.
    pub max: Vec<f32>,
}

#[derive(Clone, Debug)]
enum Kernels {
    OnOff(usize, Vec<f32>),
    /// One filter `[row, column, channel]` per output channel.
    Whiten(usize, Vec<Vec<f32>>),
    None,
}

impl Retina {
    /// Makes filters and finds each feature's range; gives the training images' values too.
    pub(super) fn fit(params: &Params, images: &Images) -> (Retina, Vec<f32>) {
        let p = params;
        let whiten = || {
            let (size, n) = (p.whiten_size, p.whiten_patches);
            whiten::filters(images, size, p.whiten_stride, p.whiten_epsilon, n)
        };
        let mut retina = Self::with_filters(p, images.shape, whiten);
        let values = retina.filter_all(images);
        let n = retina.n_features();
        retina.min = vec![f32::MAX; n];
        retina.max = vec![f32::MIN_POSITIVE; n];
        for image in values.chunks_exact(n) {
            for ((low, high), &v) in retina.min.iter_mut().zip(&mut retina.max).zip(image) {
                (*low, *high) = (low.min(v), high.max(v));
            }
        }
        (retina, values)
    }

    /// A retina that knows no ranges yet; `whiten` makes the whitening filters if they are asked for.
    pub(super) fn with_filters(
        p: &Params,
        shape: Shape,
        whiten: impl FnOnce() -> Vec<Vec<f32>>,
    ) -> Retina {
        let kernels = match p.filter {
            Filter::OnOff => {
                let kernel = dog_kernel(p.dog_size, p.dog_sigmas[0], p.dog_sigmas[1]);
                Kernels::OnOff(p.dog_size, kernel)
            }
            Filter::Whiten => Kernels::Whiten(p.whiten_size, whiten()),
            Filter::None => Kernels::None,
        };
        let n_channels = p.channels_per_channel() * shape.channels;
        Retina { shape, n_channels, kernels, min: Vec::new(), max: Vec::new() }
    }

    /// Values in an image after the filter.
    pub(super) fn n_features(&self) -> usize {
        self.shape.height * self.shape.width * self.n_channels
    }

    /// The whitening filters, if it has any.
    pub(super) fn whitening(&self) -> Option<&[Vec<f32>]> {
        match &self.kernels {
            Kernels::Whiten(_, filters) => Some(filters),
            Kernels::OnOff(..) | Kernels::None => None,
        }
    }

    fn filter_all(&self, images: &Images) -> Vec<f32> {
        let n = self.n_features();
        let mut out = vec![0.0; images.len() * n];
        out.par_chunks_mut(n).enumerate().for_each(|(i, out)| {
            let mut image = vec![0.0; images.shape.len()];
            images.read(i, &mut image);
            self.filter(&image, out);
        });
        out
    }

    /// Filters an image `[channel, row, column]` into `out` `[row, column, channel]`.
    fn filter(&self, image: &[f32], out: &mut [f32]) {
        let Shape { height, width, channels } = self.shape;
        let plane = |c: usize| &image[c * height * width..(c + 1) * height * width];
        match &self.kernels {
            Kernels::OnOff(size, kernel) => {
                for c in 0..channels {
                    let response = correlate(plane(c), height, width, kernel, *size);
                    split_signs(&response, c, self.n_channels, out);
                }
            }
            Kernels::Whiten(size, filters) => {
                for (z, filter) in filters.iter().enumerate() {
                    let mut sum = vec![0.0; height * width];
                    for c in 0..channels {
                        let taps: Vec<f32> =
                            filter.iter().skip(c).step_by(channels).copied().collect();
                        let part = correlate(plane(c), height, width, &taps, *size);
                        sum.iter_mut().zip(part).for_each(|(s, v)| *s += v);
                    }
                    split_signs(&sum, z, self.n_channels, out);
                }
            }
            Kernels::None => {
                for c in 0..channels {
                    out.iter_mut()
                        .skip(c)
                        .step_by(channels)
                        .zip(plane(c))
                        .for_each(|(o, &v)| *o = v);
                }
            }
        }
    }

    /// Turns filtered values into spike times in place; infinite where there is no spike.
    pub(super) fn code(&self, values: &mut [f32]) {
        for ((v, &low), &high) in values.iter_mut().zip(&self.min).zip(&self.max) {
            let scaled = if high == low { 0.0 } else { (*v - low) / (high - low) };
            let t = latency(scaled);
            *v = if t >= 1.0 { f32::INFINITY } else { t };
        }
    }

    /// Spike times of an image `[channel, row, column]`, as `[row, column, channel]`.
    pub fn times(&self, image: &[f32]) -> Vec<f32> {
        let mut values = vec![0.0; self.n_features()];
        self.filter(image, &mut values);
        self.code(&mut values);
        values
    }
}
