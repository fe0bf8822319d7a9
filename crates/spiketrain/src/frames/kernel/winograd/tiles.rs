//! The transformations of the tiles of images, of kernels and of their gradients.

use super::super::simd::{LANES, Vector, dispatch};
use super::Winograd;
use super::transform::{OfInput, OfKernel, OfOutput, Square, ToKernel, ToOutput, Transform};

/// Calls `$body` for the sizes of tile and kernel, with the points, outputs and taps of a side.
macro_rules! by_tile {
    ($of:expr, $body:ident($($arg:expr),*)) => {
        match ($of.tile, $of.kernel) {
            (2, 3) => $body::<V, 4, 2, 3>($($arg),*),
            (4, 3) => $body::<V, 6, 4, 3>($($arg),*),
            (2, 5) => $body::<V, 6, 2, 5>($($arg),*),
            sizes => unreachable!("no tiles for {sizes:?}"),
        }
    };
}

dispatch! {
    /// Bᵀ d B of tiles `first..first + n`, as `[point, tile, channel]`.
    pub(super) fn transform_input(
        of: &Winograd,
        x: &[f32],
        first: usize,
        n: usize,
        outside: &[f32],
        out: &mut [f32],
    ) = transform_input_body::<V>;
}

#[inline(always)]
fn transform_input_body<V: Vector>(
    of: &Winograd,
    x: &[f32],
    first: usize,
    n: usize,
    outside: &[f32],
    out: &mut [f32],
) {
    by_tile!(of, input_tiles(of, x, first, n, outside, out));
}

#[inline(always)]
fn input_tiles<V: Vector, const SIDE: usize, const TILE: usize, const TAPS: usize>(
    of: &Winograd,
    x: &[f32],
    first: usize,
    n: usize,
    outside: &[f32],
    out: &mut [f32],
) where
    OfInput: Transform<SIDE, SIDE>,
    [[V; SIDE]; SIDE]: Square<V, SIDE>,
{
    let (shape, channels) = (of.x, of.x.channels);
    let step = of.step(channels);
    assert!(channels.is_multiple_of(LANES) && outside.len() >= channels, "whole blocks");
    assert!(n > 0 && (SIDE * SIDE - 1) * step + n * channels <= out.len(), "the tiles fit");
    for tile in 0..n {
        let (image, row, column) = of.place(first + tile);
        let (top, left) = (row.wrapping_sub(of.padding[0]), column.wrapping_sub(of.padding[1]));
        // Both are huge where the tile begins in the padding.
        let is_inside = top < shape.height
            && top + SIDE <= shape.height
            && left < shape.width
            && left + SIDE <= shape.width;
        if is_inside {
            let pixel = (image * shape.height + top) * shape.width + left;
            let last = pixel + (SIDE - 1) * (shape.width + 1);
            assert!((last + 1) * channels <= x.len(), "the pixels are there");
            for channel in (0..channels).step_by(LANES) {
                let from = x[pixel * channels + channel..].as_ptr();
                let at = tile * channels + channel;
                // SAFETY: the assertions above; channels are whole blocks.
                unsafe {
                    let d = <[[V; SIDE]; SIDE]>::load(from, shape.width * channels, channels);
                    OfInput::both(d).store(out.as_mut_ptr().add(at), SIDE * step, step);
                }
            }
            continue;
        }
        let mut pixels = [[outside.as_ptr(); SIDE]; SIDE];
        for (i, pixels) in pixels.iter_mut().enumerate() {
            let y_at = top.wrapping_add(i);
            if y_at >= shape.height {
                continue;
            }
            let line = (image * shape.height + y_at) * shape.width;
            for (i, pixel) in pixels.iter_mut().enumerate() {
                let x_at = left.wrapping_add(i);
                if x_at < shape.width {
                    *pixel = x[(line + x_at) * channels..][..channels].as_ptr();
                }
            }
        }
        for channel in (0..channels).step_by(LANES) {
            let at = tile * channels + channel;
            // SAFETY: all channels stand behind every pointer, and channels are whole blocks; for
            // `out` the second assertion above.
            unsafe {
                let d = <[[V; SIDE]; SIDE]>::gather(&pixels, channel);
                OfInput::both(d).store(out.as_mut_ptr().add(at), SIDE * step, step);
            }
        }
    }
}

dispatch! {
    /// Aᵀ m A + bias of tiles `first..first + n`, written to those outputs that exist.
    pub(super) fn transform_output(
        of: &Winograd,
        m: &[f32],
        bias: Option<&[f32]>,
        first: usize,
        n: usize,
        out: &mut [f32],
    ) = transform_output_body::<V>;
}

#[inline(always)]
fn transform_output_body<V: Vector>(
    of: &Winograd,
    m: &[f32],
    bias: Option<&[f32]>,
    first: usize,
    n: usize,
    out: &mut [f32],
) {
    by_tile!(of, output_tiles(of, m, bias, first, n, out));
}

#[inline(always)]
fn output_tiles<V: Vector, const SIDE: usize, const TILE: usize, const TAPS: usize>(
    of: &Winograd,
    m: &[f32],
    bias: Option<&[f32]>,
    first: usize,
    n: usize,
    out: &mut [f32],
) where
    ToOutput: Transform<SIDE, TILE>,
    [[V; SIDE]; SIDE]: Square<V, SIDE>,
    [[V; TILE]; TILE]: Square<V, TILE>,
{
    let (shape, channels) = (of.y, of.y.channels);
    let step = of.step(channels);
    assert!(channels.is_multiple_of(LANES), "whole blocks");
    assert!(n > 0 && (SIDE * SIDE - 1) * step + n * channels <= m.len(), "the tiles are there");
    assert!(bias.is_none_or(|bias| bias.len() >= channels), "one bias a channel");
    for tile in 0..n {
        let (image, row, column) = of.place(first + tile);
        let pixel = (image * shape.height + row) * shape.width + column;
        let (rows, columns) = (TILE.min(shape.height - row), TILE.min(shape.width - column));
        let last = pixel + (rows - 1) * shape.width + columns - 1;
        assert!((last + 1) * channels <= out.len(), "the outputs are there");
        for channel in (0..channels).step_by(LANES) {
            let first = match bias {
                // SAFETY: the bias has all channels.
                Some(bias) => unsafe { V::load(bias.as_ptr().add(channel)) },
                None => V::splat(0.0),
            };
            // SAFETY: the second assertion above; channels are whole blocks.
            let points = unsafe {
                let from = m.as_ptr().add(tile * channels + channel);
                <[[V; SIDE]; SIDE]>::load(from, SIDE * step, step)
            };
            let values = ToOutput::both(points).plus(first);
            let to = &mut out[pixel * channels + channel..];
            if rows == TILE && columns == TILE {
                // SAFETY: the last assertion above.
                unsafe { values.store(to.as_mut_ptr(), shape.width * channels, channels) };
                continue;
            }
            let mut copy = [[[0.0; LANES]; TILE]; TILE];
            // SAFETY: `copy` holds all blocks.
            unsafe { values.store(copy.as_mut_ptr().cast(), TILE * LANES, LANES) };
            for (row, copy) in copy.iter().enumerate().take(rows) {
                for (column, copy) in copy.iter().enumerate().take(columns) {
                    let at = (row * shape.width + column) * channels;
                    to[at..at + LANES].copy_from_slice(copy);
                }
            }
        }
    }
}

dispatch! {
    /// A dY Aᵀ of tiles `first..first + n`, as `[point, tile, channel]`.
    pub(super) fn transform_d_out(
        of: &Winograd,
        d_out: &[f32],
        first: usize,
        n: usize,
        out: &mut [f32],
    ) = transform_d_out_body::<V>;
}

#[inline(always)]
fn transform_d_out_body<V: Vector>(
    of: &Winograd,
    d_out: &[f32],
    first: usize,
    n: usize,
    out: &mut [f32],
) {
    by_tile!(of, d_out_tiles(of, d_out, first, n, out));
}

#[inline(always)]
fn d_out_tiles<V: Vector, const SIDE: usize, const TILE: usize, const TAPS: usize>(
    of: &Winograd,
    d_out: &[f32],
    first: usize,
    n: usize,
    out: &mut [f32],
) where
    OfOutput: Transform<TILE, SIDE>,
    [[V; SIDE]; SIDE]: Square<V, SIDE>,
    [[V; TILE]; TILE]: Square<V, TILE>,
{
    let (shape, channels) = (of.y, of.y.channels);
    let step = of.step(channels);
    assert!(channels.is_multiple_of(LANES), "whole blocks");
    assert!(n > 0 && (SIDE * SIDE - 1) * step + n * channels <= out.len(), "the tiles fit");
    for tile in 0..n {
        let (image, row, column) = of.place(first + tile);
        let pixel = (image * shape.height + row) * shape.width + column;
        let (rows, columns) = (TILE.min(shape.height - row), TILE.min(shape.width - column));
        let last = pixel + (rows - 1) * shape.width + columns - 1;
        assert!((last + 1) * channels <= d_out.len(), "the outputs are there");
        for channel in (0..channels).step_by(LANES) {
            let from = &d_out[pixel * channels + channel..];
            let d = if rows == TILE && columns == TILE {
                // SAFETY: the last assertion above.
                unsafe {
                    <[[V; TILE]; TILE]>::load(from.as_ptr(), shape.width * channels, channels)
                }
            } else {
                let mut copy = [[[0.0; LANES]; TILE]; TILE];
                for (row, copy) in copy.iter_mut().enumerate().take(rows) {
                    for (column, copy) in copy.iter_mut().enumerate().take(columns) {
                        let at = (row * shape.width + column) * channels;
                        copy.copy_from_slice(&from[at..at + LANES]);
                    }
                }
                // SAFETY: `copy` holds all blocks.
                unsafe { <[[V; TILE]; TILE]>::load(copy.as_ptr().cast(), TILE * LANES, LANES) }
            };
            let at = tile * channels + channel;
            // SAFETY: the second assertion above.
            unsafe { OfOutput::both(d).store(out.as_mut_ptr().add(at), SIDE * step, step) };
        }
    }
}

dispatch! {
    /// G g Gᵀ of 16 kernels, `[tap, lane]` to `[point, lane]`.
    pub(super) fn transform_kernel(of: &Winograd, taps: &[f32], points: &mut [f32]) =
        transform_kernel_body::<V>;
}

#[inline(always)]
fn transform_kernel_body<V: Vector>(of: &Winograd, taps: &[f32], points: &mut [f32]) {
    by_tile!(of, kernel_points(taps, points));
}

#[inline(always)]
fn kernel_points<V: Vector, const SIDE: usize, const TILE: usize, const TAPS: usize>(
    taps: &[f32],
    points: &mut [f32],
) where
    OfKernel: Transform<TAPS, SIDE>,
    [[V; SIDE]; SIDE]: Square<V, SIDE>,
    [[V; TAPS]; TAPS]: Square<V, TAPS>,
{
    assert!(taps.len() >= TAPS * TAPS * LANES, "the taps are there");
    assert!(points.len() >= SIDE * SIDE * LANES, "the points fit");
    // SAFETY: the assertions above.
    unsafe {
        let taps = <[[V; TAPS]; TAPS]>::load(taps.as_ptr(), TAPS * LANES, LANES);
        OfKernel::both(taps).store(points.as_mut_ptr(), SIDE * LANES, LANES);
    }
}

dispatch! {
    /// Gᵀ u G, the gradient with respect to kernels from that with respect to their transforms:
    /// `width` lanes of every point, `step` values from one to the next, to `[tap, lane]`.
    pub(super) fn transform_gradient(
        of: &Winograd,
        u: &[f32],
        step: usize,
        width: usize,
        out: &mut [f32],
    ) = transform_gradient_body::<V>;
}

#[inline(always)]
fn transform_gradient_body<V: Vector>(
    of: &Winograd,
    u: &[f32],
    step: usize,
    width: usize,
    out: &mut [f32],
) {
    by_tile!(of, gradient_taps(u, step, width, out));
}

#[inline(always)]
fn gradient_taps<V: Vector, const SIDE: usize, const TILE: usize, const TAPS: usize>(
    u: &[f32],
    step: usize,
    width: usize,
    out: &mut [f32],
) where
    ToKernel: Transform<SIDE, TAPS>,
    [[V; SIDE]; SIDE]: Square<V, SIDE>,
    [[V; TAPS]; TAPS]: Square<V, TAPS>,
{
    assert!(width.is_multiple_of(LANES) && out.len() >= TAPS * TAPS * width, "the taps fit");
    assert!((SIDE * SIDE - 1) * step + width <= u.len(), "the points are there");
    for lane in (0..width).step_by(LANES) {
        // SAFETY: the assertions above.
        unsafe {
            let points = <[[V; SIDE]; SIDE]>::load(u.as_ptr().add(lane), SIDE * step, step);
            ToKernel::both(points).store(out.as_mut_ptr().add(lane), TAPS * width, width);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::simd::Simd;
    use super::super::{MAX_POINTS, MAX_TAPS};
    use super::*;
    use crate::Shape;

    #[test]
    fn the_last_transform_is_the_adjoint_of_the_kernel_s() {
        let sizes = [(2, 3), (4, 3), (2, 5)];
        for (simd, (tile, kernel)) in
            Simd::available().into_iter().flat_map(|s| sizes.map(|size| (s, size)))
        {
            let shape = Shape::new(LANES, kernel, kernel);
            let of = Winograd { x: shape, y: shape, padding: [0; 2], panel: LANES, tile, kernel };
            let n_taps = kernel * kernel;
            let transformed = |tap: &dyn Fn(usize) -> f32| {
                let lanes: Vec<f32> = (0..n_taps * LANES).map(|i| tap(i / LANES)).collect();
                let mut points = [0.0; MAX_POINTS * LANES];
                transform_kernel(simd, &of, &lanes, &mut points);
                points
            };
            let u = transformed(&|i| (i * i % 7) as f32 - 2.0);
            let mut back = [9.0; MAX_TAPS * LANES];
            transform_gradient(simd, &of, &u, LANES, LANES, &mut back);
            for tap in 0..n_taps {
                let unit = transformed(&|i| f32::from(u8::from(i == tap)));
                let dot = unit.iter().zip(&u).map(|(a, b)| a * b).sum::<f32>() / LANES as f32;
                let is_close = |b: &f32| (dot - b).abs() < 1e-5 * dot.abs().max(1.0);
                let same = back[tap * LANES..][..LANES].iter().all(is_close);
                assert!(same, "{simd:?} {tile} {kernel} {tap}");
            }
        }
    }
}
