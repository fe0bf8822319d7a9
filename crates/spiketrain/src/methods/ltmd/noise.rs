//! Predictions under noise: Gaussian, added to every value of the image on its scale from 0 to 1.
//! A function of the sample's row and the seed alone, so that networks are compared on the same
//! noisy images; levels differ by a factor only.

use crate::frames::signal::{Data, Signal};
use crate::seed::Seed;

/// Name of the metric and deviation.
pub(super) const LEVELS: [(&str, f32); 5] = [
    ("accuracy_noise_0.1", 0.1),
    ("accuracy_noise_0.2", 0.2),
    ("accuracy_noise_0.3", 0.3),
    ("accuracy_noise_0.4", 0.4),
    ("accuracy_noise_0.5", 0.5),
];

/// Adds noise to the samples `rows` of a split, which have been multiplied by `scale` (one for each
/// channel) since they were images.
pub(super) fn add(signal: &mut Signal, rows: &[usize], scale: &[f32], deviation: f32, seed: Seed) {
    let (len, n_samples) = (signal.shape.len(), signal.n_samples);
    let mut streams: Vec<_> =
        rows.iter().map(|&row| seed.stream("ltmd.noise", row as u64)).collect();
    let (Data::Values(values) | Data::Steady(values)) = &mut signal.data else { return };
    for (image, values) in values.chunks_exact_mut(len).enumerate() {
        let stream = &mut streams[image % n_samples];
        for pixel in values.chunks_exact_mut(scale.len()) {
            for (value, scale) in pixel.iter_mut().zip(scale) {
                *value += scale * deviation * stream.normal(0.0, 1.0) as f32;
            }
        }
    }
}
