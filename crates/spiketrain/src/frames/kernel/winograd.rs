//! Winograd's convolution F(2×2, 3×3) and F(4×4, 3×3): 16 products for four outputs of a 3×3 kernel,
//! or 36 for sixteen, instead of 9 for each, after a linear transformation of inputs, kernel and
//! outputs (A. Lavin, S. Gray 2016, arXiv:1509.09308). Equal to the direct sum but for rounding.
//!
//! Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A for each tile d of the input, and so for the gradient with
//! respect to g: Gᵀ [ Σ (Bᵀ d B) ⊙ (A dY Aᵀ) ] G.

mod transform;

use super::buffer::Buffer;
use super::conv::WeightSum;
use super::panel::Panels;
use super::product::{Init, Product, ZEROS};
use super::simd::{LANES, Simd, Vector, dispatch};
use crate::Shape;
use transform::{OfInput, OfKernel, OfOutput, Square, ToKernel, ToOutput, Transform};

/// Values of the transformed tiles of one chunk; they stay in the second cache.
const CHUNK: usize = 128 << 10;

/// Most values of a transformed tile.
const MAX_POINTS: usize = 36;

/// Memory of the transformed tiles.
#[derive(Debug, Default)]
pub(super) struct Tiles {
    input: Buffer,
    output: Buffer,
    gradient: Buffer,
    /// A pixel outside the image.
    outside: Buffer,
}

/// A 3×3 convolution of stride 1; channels are whole blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Winograd {
    /// Shape of one input image.
    pub(super) x: Shape,
    /// Shape of one output image.
    pub(super) y: Shape,
    /// Rows and columns of zeros above and left of the input.
    pub(super) padding: [usize; 2],
    /// Columns of a panel of weights.
    pub(super) panel: usize,
    /// Rows and columns of outputs of a tile, 2 or 4.
    pub(super) tile: usize,
}

impl Winograd {
    /// Panels of the weights of one point.
    fn panels(&self) -> Panels {
        Panels { k: self.x.channels, n: self.y.channels, width: self.panel }
    }

    /// Values of a transformed tile.
    fn points(&self) -> usize {
        (self.tile + 2) * (self.tile + 2)
    }

    /// Transformed weights, one packed matrix `[in, out]` a point; `element(out, in, row, column)`.
    pub(super) fn pack(
        &self,
        simd: Simd,
        element: impl Fn(usize, usize, usize, usize) -> f32,
    ) -> Buffer {
        let panels = self.panels();
        let mut buffer = Buffer::zeros(self.points() * panels.len());
        let values = buffer.as_mut_slice();
        let (mut taps, mut points) = ([0.0; 9 * LANES], [0.0; MAX_POINTS * LANES]);
        for panel in panels.iter() {
            for i in 0..panels.k {
                for lane in (0..panel.width).step_by(LANES) {
                    for (at, tap) in taps.iter_mut().enumerate() {
                        let out = panel.column + lane + at % LANES;
                        *tap = element(out, i, at / LANES / 3, at / LANES % 3);
                    }
                    transform_kernel(simd, self.tile, &taps, &mut points);
                    for (point, from) in points.chunks_exact(LANES).take(self.points()).enumerate()
                    {
                        let at = point * panels.len() + panel.start + i * panel.width + lane;
                        values[at..at + LANES].copy_from_slice(from);
                    }
                }
            }
        }
        buffer
    }

    /// Tiles of one image along rows and columns.
    fn tiles(&self) -> [usize; 2] {
        [self.y.height.div_ceil(self.tile), self.y.width.div_ceil(self.tile)]
    }

    /// Tiles transformed together.
    fn tiles_at_once(&self) -> usize {
        let most = CHUNK / (self.points() * (self.x.channels + self.y.channels));
        most.clamp(24, 96) / 12 * 12
    }

    /// Visits chunks of tiles `(first, number)` of all images.
    fn chunks(&self, n_images: usize) -> impl Iterator<Item = (usize, usize)> {
        let n = n_images * self.tiles().iter().product::<usize>();
        let at_once = self.tiles_at_once();
        (0..n).step_by(at_once).map(move |first| (first, at_once.min(n - first)))
    }

    /// Step from one point to the next of the transformed tiles: not a power of two, so that the
    /// points of a tile do not meet in one set of the cache.
    fn step(&self, channels: usize) -> usize {
        self.tiles_at_once() * channels + LANES
    }

    /// The convolution; `weights` as [`Winograd::pack`] made them, `bias` whole blocks.
    pub(super) fn forward(
        &self,
        simd: Simd,
        x: &[f32],
        weights: &[f32],
        bias: Option<&[f32]>,
        out: &mut [f32],
        memory: &mut Tiles,
    ) {
        let panels = self.panels();
        let (x_step, y_step) = (self.step(self.x.channels), self.step(self.y.channels));
        let Tiles { input, output, outside, .. } = memory;
        let outside = &*outside.zeroed(self.x.channels);
        let input = input.first(self.points() * x_step);
        let output = output.first(self.points() * y_step);
        for (first, n) in self.chunks(x.len() / self.x.len()) {
            transform_input(simd, self, x, first, n, outside, input);
            for point in 0..self.points() {
                for panel in panels.iter() {
                    let product = Product {
                        x: &input[point * x_step..],
                        w: &weights[point * panels.len() + panel.start..],
                        m: n,
                        x_m: self.x.channels,
                        out_m: self.y.channels,
                        runs: 1,
                        x_run: 0,
                        w_run: 0,
                        k: self.x.channels,
                        x_k: 1,
                        w_k: panel.width,
                        lanes: panel.lanes,
                    };
                    let out = &mut output[point * y_step + panel.column..];
                    product.run(simd, Init::Row(&ZEROS), out);
                }
            }
            transform_output(simd, self, output, bias, first, n, out);
        }
    }

    /// Adds the gradient with respect to the weights to `sum`.
    pub(super) fn weight_gradient(
        &self,
        simd: Simd,
        x: &[f32],
        d_out: &[f32],
        memory: &mut Tiles,
        sum: &mut WeightSum<'_>,
    ) {
        let panels = self.panels();
        let (x_step, y_step) = (self.step(self.x.channels), self.step(self.y.channels));
        let Tiles { input, output, gradient, outside } = memory;
        let outside = &*outside.zeroed(self.x.channels);
        let input = input.first(self.points() * x_step);
        let output = output.first(self.points() * y_step);
        let gradient = gradient.zeroed(self.points() * panels.len());
        for (first, n) in self.chunks(x.len() / self.x.len()) {
            transform_input(simd, self, x, first, n, outside, input);
            transform_d_out(simd, self, d_out, first, n, output);
            for point in 0..self.points() {
                for panel in panels.iter() {
                    let product = Product {
                        x: &input[point * x_step..],
                        w: &output[point * y_step + panel.column..],
                        m: self.x.channels,
                        x_m: 1,
                        out_m: panel.width,
                        runs: 1,
                        x_run: 0,
                        w_run: 0,
                        k: n,
                        x_k: self.x.channels,
                        w_k: self.y.channels,
                        lanes: panel.width,
                    };
                    let to = &mut gradient[point * panels.len() + panel.start..];
                    product.run(simd, Init::Keep, to);
                }
            }
        }
        // One channel after another: few values, transformed where they lie.
        let taps = input;
        for panel in panels.iter() {
            let outs = panel.column..panel.column + panel.lanes;
            for i in 0..panels.k {
                let at = panel.start + i * panel.width;
                transform_gradient(
                    simd,
                    self.tile,
                    &gradient[at..],
                    panels.len(),
                    panel.width,
                    taps,
                );
                sum.add(outs.clone(), i * 9, 1, &taps[..9 * panel.width], panel.width);
            }
        }
    }

    /// Image, row and column of the first output of a tile.
    #[inline(always)]
    fn place(&self, tile: usize) -> (usize, usize, usize) {
        let [rows, columns] = self.tiles();
        let (row, column) = (tile / columns % rows, tile % columns);
        (tile / (rows * columns), row * self.tile, column * self.tile)
    }
}

/// Calls `$body` for the tile's size, with the points and outputs of a side.
macro_rules! by_tile {
    ($tile:expr, $body:ident($($arg:expr),*)) => {
        match $tile {
            2 => $body::<V, 4, 2>($($arg),*),
            4 => $body::<V, 6, 4>($($arg),*),
            tile => unreachable!("tiles have 2 or 4 rows, not {tile}"),
        }
    };
}

dispatch! {
    /// Bᵀ d B of tiles `first..first + n`, as `[point, tile, channel]`.
    fn transform_input(
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
    by_tile!(of.tile, input_tiles(of, x, first, n, outside, out));
}

#[inline(always)]
fn input_tiles<V: Vector, const SIDE: usize, const TILE: usize>(
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
    fn transform_output(
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
    by_tile!(of.tile, output_tiles(of, m, bias, first, n, out));
}

#[inline(always)]
fn output_tiles<V: Vector, const SIDE: usize, const TILE: usize>(
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
    fn transform_d_out(
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
    by_tile!(of.tile, d_out_tiles(of, d_out, first, n, out));
}

#[inline(always)]
fn d_out_tiles<V: Vector, const SIDE: usize, const TILE: usize>(
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
    fn transform_kernel(
        tile: usize,
        taps: &[f32; 9 * LANES],
        points: &mut [f32; MAX_POINTS * LANES],
    ) = transform_kernel_body::<V>;
}

#[inline(always)]
fn transform_kernel_body<V: Vector>(
    tile: usize,
    taps: &[f32; 9 * LANES],
    points: &mut [f32; MAX_POINTS * LANES],
) {
    by_tile!(tile, kernel_points(taps, points));
}

#[inline(always)]
fn kernel_points<V: Vector, const SIDE: usize, const TILE: usize>(
    taps: &[f32; 9 * LANES],
    points: &mut [f32; MAX_POINTS * LANES],
) where
    OfKernel: Transform<3, SIDE>,
    [[V; SIDE]; SIDE]: Square<V, SIDE>,
{
    // SAFETY: there are nine blocks of taps, and at least SIDE² of points.
    unsafe {
        let taps = <[[V; 3]; 3]>::load(taps.as_ptr(), 3 * LANES, LANES);
        OfKernel::both(taps).store(points.as_mut_ptr(), SIDE * LANES, LANES);
    }
}

dispatch! {
    /// Gᵀ u G, the gradient with respect to kernels from that with respect to their transforms:
    /// `width` lanes of every point, `step` values from one to the next, to `[tap, lane]`.
    fn transform_gradient(
        tile: usize,
        u: &[f32],
        step: usize,
        width: usize,
        out: &mut [f32],
    ) = transform_gradient_body::<V>;
}

#[inline(always)]
fn transform_gradient_body<V: Vector>(
    tile: usize,
    u: &[f32],
    step: usize,
    width: usize,
    out: &mut [f32],
) {
    by_tile!(tile, gradient_taps(u, step, width, out));
}

#[inline(always)]
fn gradient_taps<V: Vector, const SIDE: usize, const TILE: usize>(
    u: &[f32],
    step: usize,
    width: usize,
    out: &mut [f32],
) where
    ToKernel: Transform<SIDE, 3>,
    [[V; SIDE]; SIDE]: Square<V, SIDE>,
{
    assert!(width.is_multiple_of(LANES) && out.len() >= 9 * width, "whole blocks of nine taps");
    assert!((SIDE * SIDE - 1) * step + width <= u.len(), "the points are there");
    for lane in (0..width).step_by(LANES) {
        // SAFETY: the assertions above.
        unsafe {
            let points = <[[V; SIDE]; SIDE]>::load(u.as_ptr().add(lane), SIDE * step, step);
            ToKernel::both(points).store(out.as_mut_ptr().add(lane), 3 * width, width);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_transform_is_the_adjoint_of_the_kernel_s() {
        for (simd, tile) in Simd::available().into_iter().flat_map(|s| [(s, 2), (s, 4)]) {
            let kernel = |taps: [f32; 9]| {
                let lanes = std::array::from_fn(|i| taps[i / LANES]);
                let mut points = [0.0; MAX_POINTS * LANES];
                transform_kernel(simd, tile, &lanes, &mut points);
                points
            };
            let u = kernel(std::array::from_fn(|i| (i * i % 7) as f32 - 2.0));
            let mut back = [9.0; 9 * LANES];
            transform_gradient(simd, tile, &u, LANES, LANES, &mut back);
            for tap in 0..9 {
                let unit = kernel(std::array::from_fn(|i| f32::from(u8::from(i == tap))));
                let dot = unit.iter().zip(&u).map(|(a, b)| a * b).sum::<f32>() / LANES as f32;
                let same = back[tap * LANES..][..LANES].iter().all(|b| (dot - b).abs() < 1e-5);
                assert!(same, "{simd:?} {tile} {tap}");
            }
        }
    }
}
