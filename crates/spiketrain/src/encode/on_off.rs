//! Difference-of-Gaussians filter with on and off channels, as in the retina.

/// The kernel G(σ₁) − G(σ₂), each Gaussian normalised to sum 1, `[size, size]`, size odd.
///
/// G(σ; d) ∝ exp(−d² / 2σ²), d the distance from the centre in pixels.
pub fn dog_kernel(size: usize, sigma_1: f64, sigma_2: f64) -> Vec<f32> {
    let centre = (size / 2) as f64;
    let gaussian = |sigma: f64| -> Vec<f64> {
        let value = |i: usize| {
            let (y, x) = ((i / size) as f64 - centre, (i % size) as f64 - centre);
            libm::exp(-(x * x + y * y) / (2.0 * sigma * sigma))
        };
        let g: Vec<f64> = (0..size * size).map(value).collect();
        let sum: f64 = g.iter().sum();
        g.into_iter().map(|v| v / sum).collect()
    };
    gaussian(sigma_1).iter().zip(gaussian(sigma_2)).map(|(a, b)| (a - b) as f32).collect()
}

/// Correlates a plane `[height, width]` with `kernel` `[size, size]`; beyond the border the
/// nearest pixel counts.
pub fn correlate(
    plane: &[f32],
    height: usize,
    width: usize,
    kernel: &[f32],
    size: usize,
) -> Vec<f32> {
    let half = size / 2;
    let pad = width + 2 * half;
    // Each row padded once, so that the inner loop has no borders.
    let mut rows = vec![0.0f32; height * pad];
    for y in 0..height {
        for x in 0..pad {
            rows[y * pad + x] = plane[y * width + x.saturating_sub(half).min(width - 1)];
        }
    }
    let mut out = vec![0.0f32; height * width];
    for y in 0..height {
        let sums = &mut out[y * width..(y + 1) * width];
        for ky in 0..size {
            let from = (y + ky).saturating_sub(half).min(height - 1);
            let row = &rows[from * pad..(from + 1) * pad];
            for kx in 0..size {
                let k = kernel[ky * size + kx];
                sums.iter_mut().zip(&row[kx..]).for_each(|(s, &v)| *s += k * v);
            }
        }
    }
    out
}

/// Positive and negative part of plane `c` go to channels 2c and 2c+1 of `out`
/// `[height, width, channel]`, which has `n_channels` = twice the planes.
pub fn split_signs(plane: &[f32], c: usize, n_channels: usize, out: &mut [f32]) {
    for (cell, &v) in out.chunks_exact_mut(n_channels).zip(plane) {
        // Which zero the larger of −0 and 0 is depends on the build; adding 0 makes it 0.
        cell[2 * c] = v.max(0.0) + 0.0;
        cell[2 * c + 1] = (-v).max(0.0) + 0.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parts_of_zero_are_plain_zeros() {
        let mut out = [9.0f32; 8];
        split_signs(&[0.0, -0.0, 2.0, -3.0], 0, 2, &mut out);
        let bits = [0.0f32, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 3.0].map(f32::to_bits);
        assert_eq!(out.map(f32::to_bits), bits);
    }

    #[test]
    fn the_kernel_ignores_uniform_light() {
        let kernel = dog_kernel(7, 1.0, 2.0);
        assert!(kernel.iter().sum::<f32>().abs() < 1e-6 && kernel[24] > 0.0);
        let flat = correlate(&[0.7; 30], 5, 6, &kernel, 7);
        assert!(flat.iter().all(|v| v.abs() < 1e-6), "{flat:?}");
    }

    #[test]
    fn an_impulse_gives_the_kernel_back() {
        let mut plane = vec![0.0; 81];
        plane[40] = 1.0;
        let kernel = dog_kernel(7, 1.0, 2.0);
        let out = correlate(&plane, 9, 9, &kernel, 7);
        for y in 0..7 {
            assert_eq!(&out[(y + 1) * 9 + 1..(y + 1) * 9 + 8], &kernel[y * 7..y * 7 + 7]);
        }
        let mut cells = vec![9.0; 4];
        split_signs(&[0.5, -0.25], 0, 2, &mut cells);
        assert_eq!(cells, [0.5, 0.0, 0.0, 0.25]);
    }
}
