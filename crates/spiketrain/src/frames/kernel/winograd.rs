//! Winograd's convolution F(2×2, 3×3), F(4×4, 3×3) and F(2×2, 5×5): 16 products for four outputs of
//! a 3×3 kernel, or 36 for sixteen, instead of 9 for each, and 36 for four outputs of a 5×5 kernel
//! instead of 25 for each, after a linear transformation of inputs, kernel and outputs (A. Lavin,
//! S. Gray 2016, arXiv:1509.09308). Equal to the direct sum but for rounding.
//!
//! Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A for each tile d of the input, and so for the gradient with
//! respect to g: Gᵀ [ Σ (Bᵀ d B) ⊙ (A dY Aᵀ) ] G.

mod tiles;
mod transform;

use super::buffer::{Buffer, Buffers};
use super::conv::WeightSum;
use super::panel::Panels;
use super::product::{Init, Product, ZEROS};
use super::simd::{LANES, Simd};
use crate::Shape;
use tiles::{
    transform_d_out, transform_gradient, transform_input, transform_kernel, transform_output,
};

/// Values of the transformed tiles of one chunk; they stay in the second cache.
const CHUNK: usize = 128 << 10;

/// Most values of a transformed tile.
const MAX_POINTS: usize = 36;

/// Most weights of a kernel.
const MAX_TAPS: usize = 25;

/// Memory of the transformed tiles.
#[derive(Debug, Default)]
pub(super) struct Tiles {
    input: Buffer,
    output: Buffer,
    gradient: Buffer,
    /// A pixel outside the image.
    outside: Buffer,
}

/// A convolution of stride 1; channels are whole blocks.
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
    /// Rows and columns of the kernel, 3, or 5 for tiles of 2.
    pub(super) kernel: usize,
}

impl Winograd {
    /// Panels of the weights of one point.
    fn panels(&self) -> Panels {
        Panels { k: self.x.channels, n: self.y.channels, width: self.panel }
    }

    /// Values of a transformed tile.
    fn points(&self) -> usize {
        (self.tile + self.kernel - 1).pow(2)
    }

    /// Transformed weights, one packed matrix `[in, out]` a point; `element(out, in, row, column)`.
    pub(super) fn pack(
        &self,
        simd: Simd,
        memory: &Buffers,
        element: impl Fn(usize, usize, usize, usize) -> f32,
    ) -> Buffer {
        let panels = self.panels();
        let mut buffer = memory.take(self.points() * panels.len());
        let values = buffer.as_mut_slice();
        let (mut taps, mut points) = ([0.0; MAX_TAPS * LANES], [0.0; MAX_POINTS * LANES]);
        let taps = &mut taps[..self.kernel * self.kernel * LANES];
        for panel in panels.iter() {
            for i in 0..panels.k {
                for lane in (0..panel.width).step_by(LANES) {
                    for (at, tap) in taps.iter_mut().enumerate() {
                        let out = panel.column + lane + at % LANES;
                        let (row, column) = (at / LANES / self.kernel, at / LANES % self.kernel);
                        *tap = element(out, i, row, column);
                    }
                    transform_kernel(simd, self, taps, &mut points);
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
        let (taps, n_taps) = (input, self.kernel * self.kernel);
        for panel in panels.iter() {
            let outs = panel.column..panel.column + panel.lanes;
            for i in 0..panels.k {
                let at = panel.start + i * panel.width;
                let gradient = &gradient[at..];
                transform_gradient(simd, self, gradient, panels.len(), panel.width, taps);
                let taps = &taps[..n_taps * panel.width];
                sum.add(outs.clone(), i * n_taps, 1, taps, panel.width);
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
