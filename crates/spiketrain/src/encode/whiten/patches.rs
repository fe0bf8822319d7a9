//! Whitening filters from image patches.
//!
//! From patches x (mean patch removed) with covariance C = X Xᵀ/n = U S Uᵀ the whitening matrix is
//! W = U (S + ε)^(−1/2) Uᵀ. Filter z is the response to a unit impulse at the centre pixel of
//! channel z, minus its mean.

use crate::spikes::Images;
use nalgebra::{DMatrix, SymmetricEigen};

/// Filters `[channel][row, column, channel]` of `size`×`size` from the patches of `images` at a
/// stride of `stride` pixels, taken image by image until `n_patches` or more are gathered.
///
/// The covariance is summed in a fixed order; equal images give equal filters. An `epsilon` above
/// 0 keeps directions without variance finite.
///
/// # Panics
///
/// If a filter is larger than an image.
pub fn filters(
    images: &Images,
    size: usize,
    stride: usize,
    epsilon: f64,
    n_patches: usize,
) -> Vec<Vec<f32>> {
    let shape = images.shape;
    assert!(size <= shape.height && size <= shape.width, "a filter fits into an image");
    let (n_channels, dim) = (shape.channels, size * size * shape.channels);
    let mut sum = vec![0.0f64; dim];
    let mut products = DMatrix::<f64>::zeros(dim, dim);
    let mut n = 0usize;
    let mut image = vec![0.0f32; shape.len()];
    for i in 0..images.len() {
        if n >= n_patches {
            break;
        }
        images.read(i, &mut image);
        let patches = patches(&image, shape.height, shape.width, n_channels, size, stride);
        let count = patches.len() / dim;
        let x = DMatrix::from_column_slice(dim, count, &patches);
        products.gemm(1.0, &x, &x.transpose(), 1.0);
        patches.chunks_exact(dim).for_each(|p| sum.iter_mut().zip(p).for_each(|(s, v)| *s += v));
        n += count;
    }
    let n = n.max(1) as f64;
    let mean: Vec<f64> = sum.iter().map(|s| s / n).collect();
    let covariance = DMatrix::from_fn(dim, dim, |a, b| products[(a, b)] / n - mean[a] * mean[b]);
    let eigen = SymmetricEigen::new(covariance);
    let u = &eigen.eigenvectors;
    let scale = eigen.eigenvalues.map(|s| 1.0 / libm::sqrt(s.max(0.0) + epsilon));
    let whitening = u * DMatrix::from_diagonal(&scale) * u.transpose();
    let centre = (size / 2 * size + size / 2) * n_channels;
    (0..n_channels)
        .map(|z| {
            let response = whitening.column(centre + z);
            let mean = response.mean();
            response.iter().map(|v| (v - mean) as f32).collect()
        })
        .collect()
}

/// Patches of an image `[channel, row, column]`, each `[row, column, channel]`.
fn patches(
    image: &[f32],
    height: usize,
    width: usize,
    n_channels: usize,
    size: usize,
    stride: usize,
) -> Vec<f64> {
    let mut out = Vec::new();
    for y in (0..=height - size).step_by(stride) {
        for x in (0..=width - size).step_by(stride) {
            for ky in y..y + size {
                for kx in x..x + size {
                    let pixel = |c: usize| f64::from(image[(c * height + ky) * width + kx]);
                    out.extend((0..n_channels).map(pixel));
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use crate::spikes::Shape;

    #[test]
    fn white_noise_needs_only_a_scale() {
        let mut stream = Seed(1).stream("test", 0);
        let shape = Shape::new(1, 16, 16);
        let pixels = (0..400 * 256).map(|_| stream.normal(0.5, 0.5) as f32).collect();
        let images = Images::from_floats(shape, pixels);
        let filter = &filters(&images, 3, 1, 0.0, usize::MAX)[0];
        // W is the identity over the deviation, 2, and the filter's mean is taken away.
        for (i, &v) in filter.iter().enumerate() {
            let expected = if i == 4 { 2.0 - 2.0 / 9.0 } else { -2.0 / 9.0 };
            assert!((v - expected).abs() < 0.05, "{i}: {v}");
        }
    }
}
