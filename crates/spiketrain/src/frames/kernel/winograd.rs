//! Winograd's convolution F(2×2, 3×3): 16 products for four outputs of a 3×3 kernel instead of
//! 36, after a linear transformation of inputs, kernel and outputs (Lavin and Gray 2016,
//! arXiv:1509.09308). Equal to the direct sum but for rounding, of about 10⁻⁶ relative.
//!
//! Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A for each 4×4 tile d of the input, and so for the gradient with
//! respect to g: Gᵀ [ Σ (Bᵀ d B) ⊙ (A dY Aᵀ) ] G.

use super::buffer::Buffer;
use super::conv::WeightSum;
use super::panel::Panels;
use super::product::{Init, Product, ZEROS};
use super::simd::{LANES, Simd, Vector, dispatch};
use crate::Shape;

/// Values of a transformed tile.
const POINTS: usize = 16;

/// Values of the transformed tiles of one chunk; they stay in the second cache.
const CHUNK: usize = 128 << 10;

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
}

/// Weights of one kernel: `element(row, column)`, transformed to G g Gᵀ.
fn transform_kernel(element: impl Fn(usize, usize) -> f32) -> [f32; POINTS] {
    let half = |g: [f32; 3]| {
        let (sum, middle) = (g[0] + g[2], g[1]);
        [g[0], 0.5 * (sum + middle), 0.5 * (sum - middle), g[2]]
    };
    let columns: [[f32; 4]; 3] =
        std::array::from_fn(|column| half(std::array::from_fn(|row| element(row, column))));
    let mut out = [0.0; POINTS];
    for row in 0..4 {
        out[row * 4..][..4].copy_from_slice(&half([
            columns[0][row],
            columns[1][row],
            columns[2][row],
        ]));
    }
    out
}

/// Bᵀ d.
#[inline(always)]
fn of_input<V: Vector>([a, b, c, d]: [V; 4]) -> [V; 4] {
    [a.minus(c), b.plus(c), c.minus(b), b.minus(d)]
}

/// Aᵀ m.
#[inline(always)]
fn of_output<V: Vector>([a, b, c, d]: [V; 4]) -> [V; 2] {
    [a.plus(b).plus(c), b.minus(c).minus(d)]
}

/// A y.
#[inline(always)]
fn spread<V: Vector>(a: V, b: V) -> [V; 4] {
    [a, a.plus(b), a.minus(b), V::splat(0.0).minus(b)]
}

impl Winograd {
    /// Panels of the weights of one point.
    fn panels(&self) -> Panels {
        Panels { k: self.x.channels, n: self.y.channels, width: self.panel }
    }

    /// Transformed weights, one packed matrix `[in, out]` a point; `element(out, in, row, column)`.
    pub(super) fn pack(&self, element: impl Fn(usize, usize, usize, usize) -> f32) -> Buffer {
        let panels = self.panels();
        let mut buffer = Buffer::zeros(POINTS * panels.len());
        let values = buffer.as_mut_slice();
        for panel in panels.iter() {
            for (i, lane) in (0..panels.k).flat_map(|i| (0..panel.lanes).map(move |lane| (i, lane)))
            {
                let points = transform_kernel(|r, c| element(panel.column + lane, i, r, c));
                for (point, value) in points.into_iter().enumerate() {
                    values[point * panels.len() + panel.start + i * panel.width + lane] = value;
                }
            }
        }
        buffer
    }

    /// Tiles of one image along rows and columns.
    fn tiles(&self) -> [usize; 2] {
        [self.y.height.div_ceil(2), self.y.width.div_ceil(2)]
    }

    /// Tiles transformed together.
    fn tiles_at_once(&self) -> usize {
        let most = CHUNK / (POINTS * (self.x.channels + self.y.channels));
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
        let input = input.first(POINTS * x_step);
        let output = output.first(POINTS * y_step);
        for (first, n) in self.chunks(x.len() / self.x.len()) {
            transform_input(simd, self, x, first, n, outside, input);
            for point in 0..POINTS {
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
        let input = input.first(POINTS * x_step);
        let output = output.first(POINTS * y_step);
        let gradient = gradient.zeroed(POINTS * panels.len());
        for (first, n) in self.chunks(x.len() / self.x.len()) {
            transform_input(simd, self, x, first, n, outside, input);
            transform_d_out(simd, self, d_out, first, n, output);
            for point in 0..POINTS {
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
                transform_gradient(simd, gradient, panels.len(), at, panel.width, taps);
                sum.add(outs.clone(), i * 9, 1, &taps[..9 * panel.width], panel.width);
            }
        }
    }

    /// Image, row and column of the first output of a tile.
    #[inline(always)]
    fn place(&self, tile: usize) -> (usize, usize, usize) {
        let [rows, columns] = self.tiles();
        (tile / (rows * columns), tile / columns % rows * 2, tile % columns * 2)
    }
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
    let (shape, channels) = (of.x, of.x.channels);
    let step = of.step(channels);
    assert!(channels.is_multiple_of(LANES) && outside.len() >= channels, "whole blocks");
    assert!(n > 0 && (POINTS - 1) * step + n * channels <= out.len(), "the tiles fit");
    for tile in 0..n {
        let (image, row, column) = of.place(first + tile);
        let mut pixels = [&outside[..channels]; POINTS];
        for (i, pixel) in pixels.iter_mut().enumerate() {
            let y_at = (row + i / 4).wrapping_sub(of.padding[0]);
            let x_at = (column + i % 4).wrapping_sub(of.padding[1]);
            if y_at < shape.height && x_at < shape.width {
                let at = (image * shape.height + y_at) * shape.width + x_at;
                *pixel = &x[at * channels..][..channels];
            }
        }
        for channel in (0..channels).step_by(LANES) {
            let mut columns = [[V::splat(0.0); 4]; 4];
            for (column, points) in columns.iter_mut().enumerate() {
                let mut d = [V::splat(0.0); 4];
                for (row, d) in d.iter_mut().enumerate() {
                    let pixel = pixels[row * 4 + column].as_ptr();
                    // SAFETY: channels are whole blocks, and every pixel has all of them.
                    *d = unsafe { V::load(pixel.add(channel)) };
                }
                *points = of_input(d);
            }
            for row in 0..4 {
                let points =
                    of_input([columns[0][row], columns[1][row], columns[2][row], columns[3][row]]);
                for (column, point) in points.into_iter().enumerate() {
                    let at = (row * 4 + column) * step + tile * channels + channel;
                    // SAFETY: the second assertion above; `at` is largest in the last tile.
                    unsafe { point.store(out.as_mut_ptr().add(at)) };
                }
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
    let (shape, channels) = (of.y, of.y.channels);
    let step = of.step(channels);
    assert!(channels.is_multiple_of(LANES), "whole blocks");
    assert!(n > 0 && (POINTS - 1) * step + n * channels <= m.len(), "the tiles are there");
    assert!(bias.is_none_or(|bias| bias.len() >= channels), "one bias a channel");
    for tile in 0..n {
        let (image, row, column) = of.place(first + tile);
        let pixel = (image * shape.height + row) * shape.width + column;
        let (two_rows, two_columns) = (row + 1 < shape.height, column + 1 < shape.width);
        let last = pixel + if two_rows { shape.width } else { 0 } + usize::from(two_columns);
        assert!((last + 1) * channels <= out.len(), "the outputs are there");
        for channel in (0..channels).step_by(LANES) {
            let mut columns = [[V::splat(0.0); 2]; 4];
            for (column, points) in columns.iter_mut().enumerate() {
                let mut of_column = [V::splat(0.0); 4];
                for (row, value) in of_column.iter_mut().enumerate() {
                    let at = (row * 4 + column) * step + tile * channels + channel;
                    // SAFETY: the second assertion above; `at` is largest in the last tile.
                    *value = unsafe { V::load(m.as_ptr().add(at)) };
                }
                *points = of_output(of_column);
            }
            let first = match bias {
                // SAFETY: the bias has all channels.
                Some(bias) => unsafe { V::load(bias.as_ptr().add(channel)) },
                None => V::splat(0.0),
            };
            for row in 0..if two_rows { 2 } else { 1 } {
                let [left, right] =
                    of_output([columns[0][row], columns[1][row], columns[2][row], columns[3][row]]);
                let at = (pixel + row * shape.width) * channels + channel;
                // SAFETY: the last assertion above.
                unsafe {
                    left.plus(first).store(out.as_mut_ptr().add(at));
                    if two_columns {
                        right.plus(first).store(out.as_mut_ptr().add(at + channels));
                    }
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
    let (shape, channels) = (of.y, of.y.channels);
    let step = of.step(channels);
    assert!(channels.is_multiple_of(LANES), "whole blocks");
    assert!(n > 0 && (POINTS - 1) * step + n * channels <= out.len(), "the tiles fit");
    for tile in 0..n {
        let (image, row, column) = of.place(first + tile);
        let pixel = (image * shape.height + row) * shape.width + column;
        let (two_rows, two_columns) = (row + 1 < shape.height, column + 1 < shape.width);
        let last = pixel + if two_rows { shape.width } else { 0 } + usize::from(two_columns);
        assert!((last + 1) * channels <= d_out.len(), "the outputs are there");
        for channel in (0..channels).step_by(LANES) {
            let mut d = [[V::splat(0.0); 2]; 2];
            for (row, d) in d.iter_mut().enumerate().take(1 + usize::from(two_rows)) {
                for (column, d) in d.iter_mut().enumerate().take(1 + usize::from(two_columns)) {
                    let at = (pixel + row * shape.width + column) * channels + channel;
                    // SAFETY: the last assertion above.
                    *d = unsafe { V::load(d_out.as_ptr().add(at)) };
                }
            }
            let left = spread(d[0][0], d[1][0]);
            let right = spread(d[0][1], d[1][1]);
            for row in 0..4 {
                for (column, point) in spread(left[row], right[row]).into_iter().enumerate() {
                    let at = (row * 4 + column) * step + tile * channels + channel;
                    // SAFETY: the second assertion above.
                    unsafe { point.store(out.as_mut_ptr().add(at)) };
                }
            }
        }
    }
}

dispatch! {
    /// The gradient with respect to kernels from that with respect to their transforms, Gᵀ u G, as
    /// `[tap, lane]` of `width` lanes from `at`; `step` leads from one point to the next.
    fn transform_gradient(u: &[f32], step: usize, at: usize, width: usize, out: &mut [f32]) = transform_gradient_body::<V>;
}

#[inline(always)]
fn transform_gradient_body<V: Vector>(
    u: &[f32],
    step: usize,
    at: usize,
    width: usize,
    out: &mut [f32],
) {
    assert!(width.is_multiple_of(LANES) && out.len() >= 9 * width, "whole blocks of nine taps");
    assert!((POINTS - 1) * step + at + width <= u.len(), "the points are there");
    for lane in (0..width).step_by(LANES) {
        let mut columns = [[V::splat(0.0); 3]; 4];
        for (column, taps) in columns.iter_mut().enumerate() {
            let mut points = [V::splat(0.0); 4];
            for (row, point) in points.iter_mut().enumerate() {
                let at = (row * 4 + column) * step + at + lane;
                // SAFETY: the second assertion above.
                *point = unsafe { V::load(u.as_ptr().add(at)) };
            }
            *taps = of_gradient(points);
        }
        for row in 0..3 {
            let taps =
                of_gradient([columns[0][row], columns[1][row], columns[2][row], columns[3][row]]);
            for (column, tap) in taps.into_iter().enumerate() {
                let at = (row * 3 + column) * width + lane;
                // SAFETY: the first assertion above.
                unsafe { tap.store(out.as_mut_ptr().add(at)) };
            }
        }
    }
}

/// Gᵀ u.
#[inline(always)]
fn of_gradient<V: Vector>([a, b, c, d]: [V; 4]) -> [V; 3] {
    let half = V::splat(0.5);
    let zero = V::splat(0.0);
    let sum = zero.plus_product(half, b.plus(c));
    [a.plus(sum), zero.plus_product(half, b.minus(c)), sum.plus(d)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transforms_of_one_tile_are_a_correlation() {
        let g: [f32; 9] = std::array::from_fn(|i| (i * i % 7) as f32 - 2.0);
        // A single weight's response, through the adjoint.
        let u = transform_kernel(|r, c| g[r * 3 + c]);
        let points: Vec<f32> = u.iter().flat_map(|&u| [u; LANES]).collect();
        for simd in Simd::available() {
            let mut back = [9.0; 9 * LANES];
            transform_gradient(simd, &points, LANES, 0, LANES, &mut back);
            for tap in 0..9 {
                let unit = transform_kernel(|r, c| f32::from(u8::from(r * 3 + c == tap)));
                let dot: f32 = unit.iter().zip(&u).map(|(a, b)| a * b).sum();
                let same = back[tap * LANES..][..LANES].iter().all(|b| (dot - b).abs() < 1e-5);
                assert!(same, "the second transform is the first's adjoint");
            }
        }
    }
}
