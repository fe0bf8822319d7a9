//! Mean and deviation of a batch.

use super::super::norm::{Moments, PerStep};
use super::super::shards;
use super::super::signal::Signal;
use crate::simd::{Simd, dispatch};
use crate::spikes::Shape;

/// Mean and deviation of a dense signal, per stored step and channel.
pub fn moments(signal: &Signal) -> Moments {
    let shape = signal.shape;
    let (n, n_channels) = (signal.n_samples, shape.channels);
    let n_steps = signal.n_images() / n;
    let ranges = shards::of_images(signal.n_images());
    let (values, simd) = (signal.values(), Simd::best());
    let parts = shards::map(ranges, |images| {
        of_images(simd, &values[images.start * shape.len()..images.end * shape.len()], shape)
    });
    let per_image = (shape.height * shape.width) as f64;
    let mut mean = PerStep::zeros(n_steps, n_channels);
    let mut deviation = PerStep::zeros(n_steps, n_channels);
    for (image, (sums, _)) in parts.iter().flatten().enumerate() {
        let of_step = &mut mean.values[image / n * n_channels..][..n_channels];
        of_step.iter_mut().zip(sums).for_each(|(m, s)| *m += s);
    }
    let count = per_image * n as f64;
    mean.values.iter_mut().for_each(|m| *m /= count);
    for (image, (sums, squares)) in parts.iter().flatten().enumerate() {
        for c in 0..n_channels {
            let at = image / n * n_channels + c;
            let between = sums[c] / per_image - mean.values[at];
            deviation.values[at] += squares[c] + per_image * between * between;
        }
    }
    Moments { count, mean, deviation }
}

dispatch! {
    /// [`of_image`] of each.
    fn of_images(images: &[f32], shape: Shape) -> Vec<(Vec<f64>, Vec<f64>)> = of_images_body;
}

#[inline(always)]
fn of_images_body(images: &[f32], shape: Shape) -> Vec<(Vec<f64>, Vec<f64>)> {
    let mut each = Vec::with_capacity(images.len() / shape.len());
    for image in images.chunks_exact(shape.len()) {
        each.push(of_image(image, shape));
    }
    each
}

/// Sum and squared deviations from the image's own mean, per channel.
#[inline(always)]
fn of_image(image: &[f32], shape: Shape) -> (Vec<f64>, Vec<f64>) {
    let row = shape.width * shape.channels;
    let mut sums = vec![0.0f32; row];
    for values in image.chunks_exact(row) {
        sums.iter_mut().zip(values).for_each(|(s, &v)| *s += v);
    }
    let mut of_channel = vec![0.0; shape.channels];
    fold(&sums, &mut of_channel);
    let pixels = (shape.height * shape.width) as f64;
    let mut mean = Vec::with_capacity(row);
    for _ in 0..shape.width {
        mean.extend(of_channel.iter().map(|s| (s / pixels) as f32));
    }
    // Deviations are taken from the rounded mean and put right afterwards.
    let mut squares = vec![0.0f32; row];
    for values in image.chunks_exact(row) {
        for ((s, &v), &m) in squares.iter_mut().zip(values).zip(&mean) {
            *s += (v - m) * (v - m);
        }
    }
    let mut deviation = vec![0.0; shape.channels];
    fold(&squares, &mut deviation);
    for ((d, s), &m) in deviation.iter_mut().zip(&of_channel).zip(&mean) {
        let off = s / pixels - f64::from(m);
        *d = (*d - pixels * off * off).max(0.0);
    }
    (of_channel, deviation)
}

/// Adds a row `[column, channel]` to `[channel]`.
#[inline(always)]
pub(super) fn fold(row: &[f32], of_channel: &mut [f64]) {
    for pixel in row.chunks_exact(of_channel.len()) {
        of_channel.iter_mut().zip(pixel).for_each(|(c, &v)| *c += f64::from(v));
    }
}
