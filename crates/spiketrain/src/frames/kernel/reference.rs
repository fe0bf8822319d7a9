//! The definitions, naive and in `f64`, that the kernels are tested against.
#![cfg(test)]

use super::Conv2d;
use crate::Seed;

/// `(in index, weight index, out index)` of every product of a convolution of `n` images; the
/// weight index counts `[out, in, kernel_row, kernel_column]`.
fn products(conv: &Conv2d, n: usize, mut visit: impl FnMut(usize, usize, usize)) {
    let (x, y) = (conv.input, conv.output());
    for image in 0..n {
        for (oy, ox) in (0..y.height).flat_map(|oy| (0..y.width).map(move |ox| (oy, ox))) {
            for (kr, kc) in
                (0..conv.kernel[0]).flat_map(|kr| (0..conv.kernel[1]).map(move |kc| (kr, kc)))
            {
                let iy = (oy * conv.stride[0] + kr).wrapping_sub(conv.padding[0]);
                let ix = (ox * conv.stride[1] + kc).wrapping_sub(conv.padding[1]);
                if iy >= x.height || ix >= x.width {
                    continue;
                }
                for (o, i) in (0..y.channels).flat_map(|o| (0..x.channels).map(move |i| (o, i))) {
                    visit(
                        ((image * x.height + iy) * x.width + ix) * x.channels + i,
                        ((o * x.channels + i) * conv.kernel[0] + kr) * conv.kernel[1] + kc,
                        ((image * y.height + oy) * y.width + ox) * y.channels + o,
                    );
                }
            }
        }
    }
}

/// The convolution.
pub(super) fn forward(conv: &Conv2d, w: &[f32], bias: Option<&[f32]>, x: &[f32]) -> Vec<f64> {
    let (n, y) = (x.len() / conv.input.len(), conv.output());
    let mut out: Vec<f64> =
        (0..n * y.len()).map(|i| bias.map_or(0.0, |b| f64::from(b[i % y.channels]))).collect();
    products(conv, n, |xi, wi, yi| out[yi] += f64::from(x[xi]) * f64::from(w[wi]));
    out
}

/// Its gradient with respect to the weights.
pub(super) fn weight_gradient(conv: &Conv2d, x: &[f32], dy: &[f32]) -> Vec<f64> {
    let mut dw = vec![0.0; conv.n_weights()];
    products(conv, x.len() / conv.input.len(), |xi, wi, yi| {
        dw[wi] += f64::from(x[xi]) * f64::from(dy[yi]);
    });
    dw
}

/// Its gradient with respect to the input.
pub(super) fn input_gradient(conv: &Conv2d, w: &[f32], dy: &[f32]) -> Vec<f64> {
    let n = dy.len() / conv.output().len();
    let mut dx = vec![0.0; n * conv.input.len()];
    products(conv, n, |xi, wi, yi| dx[xi] += f64::from(w[wi]) * f64::from(dy[yi]));
    dx
}

/// Values between −1 and 1.
pub(super) fn values(n: usize, index: u64) -> Vec<f32> {
    let mut stream = Seed(7).stream("kernel.values", index);
    (0..n).map(|_| 2.0 * stream.uniform() - 1.0).collect()
}

/// Zeros and ones, a one with probability `density`.
pub(super) fn binary(n: usize, density: f32, index: u64) -> Vec<f32> {
    let mut stream = Seed(7).stream("kernel.binary", index);
    (0..n).map(|_| f32::from(u8::from(stream.uniform() < density))).collect()
}

/// Asserts that every value is within `tolerance` of the largest value's size.
pub(super) fn assert_close(what: &str, got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let scale = want.iter().fold(1e-6_f64, |m, v| m.max(v.abs()));
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(g) - w).abs() / scale;
        assert!(error <= tolerance, "{what}: value {i} is {g}, not {w} (relative error {error:e})");
    }
}
