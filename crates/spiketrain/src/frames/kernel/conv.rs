//! Two-dimensional convolution, forward and both gradients.

mod forms;
mod gradient;

use super::Input;
use super::buffer::{Buffer, Buffers};
use super::direct::{Margin, Slide, pad};
use super::panel::Panels;
use super::simd::{LANES, Simd};
use super::sparse;
use super::winograd::{self, Winograd};
use crate::Shape;
pub use forms::Forms;
pub(super) use gradient::WeightSum;
use std::ops::Range;
use std::sync::Arc;

/// A convolution's geometry. Rows and columns of kernel, stride and padding are separate; a linear
/// layer is the convolution whose kernel covers the whole input ([`Conv2d::linear`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Shape of one input image.
    pub input: Shape,
    /// Number of output channels.
    pub out_channels: usize,
    /// Kernel rows and columns.
    pub kernel: [usize; 2],
    /// Steps between windows, rows and columns.
    pub stride: [usize; 2],
    /// Rows and columns of zeros on every side.
    pub padding: [usize; 2],
}

/// Weights and the forms the kernels read.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// `[out, in, kernel_row, kernel_column]`.
    pub plain: &'a [f32],
    /// What was made of them.
    pub forms: &'a Forms,
}

/// Memory that the kernels use and keep between calls; one for each thread. Its choices are those
/// of the weight gradient.
#[derive(Debug, Default)]
pub struct Workspace {
    simd: Simd,
    padded: Buffer,
    d_out: Buffer,
    bias: Buffer,
    gradient: Buffer,
    lists: sparse::Lists,
    tiles: sparse::Tiles,
    winograd: winograd::Tiles,
}

/// How a convolution is computed. All ways give the same values but for rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// One row of weights or gradients added for each spike.
    Spikes,
    /// Sums of products over dense values. On spikes, the same to the bit as [`Self::Spikes`] in
    /// the forward pass.
    Direct,
    /// F(2×2, 3×3) over dense values: 2.25 times fewer products; F(2×2, 5×5): 2.8 times fewer,
    /// rounding errors about ten times larger.
    Winograd2,
    /// F(4×4, 3×3) over dense values: four times fewer products, rounding errors about ten times
    /// larger.
    Winograd4,
}

impl Conv2d {
    /// The same kernel size, stride and padding for rows and columns.
    pub fn square(
        input: Shape,
        out_channels: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Self {
        let (kernel, stride, padding) = ([kernel; 2], [stride; 2], [padding; 2]);
        Self { input, out_channels, kernel, stride, padding }
    }

    /// A linear layer: every output reads every input. Its weights are `[out, channel · row ·
    /// column]`, flattened in that order.
    pub fn linear(input: Shape, outputs: usize) -> Self {
        let kernel = [input.height, input.width];
        Self { input, out_channels: outputs, kernel, stride: [1; 2], padding: [0; 2] }
    }

    /// Shape of one output image.
    ///
    /// # Panics
    ///
    /// If the kernel is larger than the padded input.
    pub fn output(&self) -> Shape {
        let along = |size: usize, axis: usize| {
            let padded = size + 2 * self.padding[axis];
            assert!(
                self.kernel[axis] >= 1 && self.kernel[axis] <= padded && self.stride[axis] >= 1,
                "the kernel fits into the padded input"
            );
            (padded - self.kernel[axis]) / self.stride[axis] + 1
        };
        Shape::new(self.out_channels, along(self.input.height, 0), along(self.input.width, 1))
    }

    /// Number of weights.
    pub fn n_weights(&self) -> usize {
        self.out_channels * self.input.channels * self.kernel[0] * self.kernel[1]
    }

    /// Multiplications of one image's dense forward pass, padding counted as input.
    pub fn n_products(&self) -> usize {
        let y = self.output();
        y.height * y.width * self.n_weights()
    }

    /// Bytes of the [`Forms`] that the fastest ways read, but for the filling up of blocks: those of
    /// the forward pass and those of the input gradient.
    pub fn form_bytes(&self) -> [usize; 2] {
        let (n, kernel) = (4 * self.n_weights(), self.kernel[0]);
        let of = |most_points| match self.dense_algorithm(most_points) {
            Algorithm::Winograd2 => n * (kernel + 1).pow(2) / kernel.pow(2),
            Algorithm::Winograd4 => n * (kernel + 3).pow(2) / kernel.pow(2),
            Algorithm::Direct | Algorithm::Spikes => n,
        };
        // In rows for spikes and for dense values; backward.
        [n + of(4), of(6)]
    }

    /// `out[n, y, x, o] = bias[o] + Σ w[o, i, r, c] · input[n, y·s + r − p, x·s + c − p, i]`.
    ///
    /// `out` is `[image, row, column, channel]` and overwritten.
    pub fn forward(
        &self,
        weights: Weights<'_>,
        bias: Option<&[f32]>,
        input: Input<'_>,
        out: &mut [f32],
        workspace: &mut Workspace,
    ) {
        let algorithm = self.forward_algorithm(input);
        self.forward_by(algorithm, weights, bias, input, out, workspace);
    }

    /// [`Conv2d::forward`] by a certain algorithm, which must be one that
    /// [`Conv2d::forward_algorithms`] names.
    pub fn forward_by(
        &self,
        algorithm: Algorithm,
        weights: Weights<'_>,
        bias: Option<&[f32]>,
        input: Input<'_>,
        out: &mut [f32],
        workspace: &mut Workspace,
    ) {
        let n_images = self.assert_input(input);
        assert_eq!(out.len(), n_images * self.output().len(), "one output a window and channel");
        let Weights { plain, forms } = weights;
        assert_eq!(plain.len(), self.n_weights(), "one value a weight");
        let simd = forms.simd;
        let Workspace { padded, bias: bias_blocks, lists, winograd, .. } = workspace;
        let bias = bias.map(|bias| {
            assert_eq!(bias.len(), self.out_channels, "one bias a channel");
            let blocks = bias_blocks.zeroed(bias.len().next_multiple_of(sparse::SLAB));
            blocks[..bias.len()].copy_from_slice(bias);
            &*blocks
        });
        match (algorithm, input) {
            (Algorithm::Spikes, Input::Spikes(spikes)) => {
                let packed = self.wide(weights);
                let packed = (self.panels(sparse::SLAB), packed.as_slice());
                sparse::forward(simd, self, packed, bias, spikes, out, lists);
            }
            (Algorithm::Spikes, Input::Dense(_)) => panic!("dense values are no spikes"),
            (Algorithm::Direct, _) => {
                let width = simd.panel();
                let packed = match width {
                    sparse::SLAB => self.wide(weights),
                    _ => forms.narrow.get(|| self.pack_panels(&forms.memory, width, plain)),
                };
                let packed = (self.panels(width), packed.as_slice());
                let at_once = Slide::of(self, n_images).images_at_once();
                let chunks = out.chunks_mut(at_once * self.output().len());
                for (chunk, out) in chunks.enumerate() {
                    let images = chunk * at_once..n_images.min((chunk + 1) * at_once);
                    let slide = Slide::of(self, images.len());
                    let input = slice(input, self.input, images);
                    let x = padded_images(simd, input, self.input, self.margin(), padded);
                    slide.forward(simd, x, packed, bias, out);
                }
            }
            (Algorithm::Winograd2 | Algorithm::Winograd4, _) => {
                let of = self.winograd(simd, algorithm);
                let weights = forms.winograd[of.tile / 4].get(|| {
                    of.pack(simd, &forms.memory, |o, i, r, c| plain[self.weight_index(o, i, r, c)])
                });
                let x = padded_images(simd, input, self.input, Margin::NONE, padded);
                of.forward(simd, x, weights.as_slice(), bias, out, winograd);
            }
        }
    }

    /// Ways to compute the forward pass.
    pub fn forward_algorithms(&self, input: Input<'_>) -> Vec<Algorithm> {
        self.algorithms(matches!(input, Input::Spikes(_)))
    }

    /// Ways to compute the weight gradient.
    pub fn weight_gradient_algorithms(&self, input: Input<'_>) -> Vec<Algorithm> {
        self.algorithms(matches!(input, Input::Spikes(_)) && self.lists_spikes())
    }

    /// Ways to compute the input gradient.
    pub fn input_gradient_algorithms(&self) -> Vec<Algorithm> {
        self.algorithms(false)
    }

    /// The fastest way to compute the forward pass.
    pub fn forward_algorithm(&self, input: Input<'_>) -> Algorithm {
        // A forward pass is as exact as a direct one.
        self.choose(input, true, 4, 0.35, 0.65)
    }

    /// The fastest way to compute the weight gradient.
    pub fn weight_gradient_algorithm(&self, input: Input<'_>) -> Algorithm {
        self.choose(input, self.lists_spikes(), 6, 0.27, 0.6)
    }

    /// The fastest way to compute the input gradient.
    pub fn input_gradient_algorithm(&self) -> Algorithm {
        self.dense_algorithm(6)
    }

    /// True if the weight gradient can go through lists of spikes: their tiles are of every pixel,
    /// and number channels and positions in 16 bits.
    fn lists_spikes(&self) -> bool {
        let n_channels = if self.covers_input() { self.input.len() } else { self.input.channels };
        let n_columns = self.input.width + self.kernel[1] - 1;
        self.stride == [1, 1] && n_channels.max(n_columns) <= 1 << 16
    }

    fn algorithms(&self, spikes: bool) -> Vec<Algorithm> {
        let mut ways = vec![Algorithm::Direct];
        if spikes {
            ways.push(Algorithm::Spikes);
        }
        if self.has_winograd() {
            ways.push(Algorithm::Winograd2);
            if self.kernel == [3, 3] {
                ways.push(Algorithm::Winograd4);
            }
        }
        ways
    }

    /// Spikes below the density where the dense algorithm becomes faster.
    fn choose(
        &self,
        input: Input<'_>,
        sparse: bool,
        most_points: usize,
        against_winograd: f64,
        against_direct: f64,
    ) -> Algorithm {
        let dense = self.dense_algorithm(most_points);
        let limit = if dense == Algorithm::Direct { against_direct } else { against_winograd };
        match input {
            Input::Spikes(spikes) if sparse && spikes.density() < limit => Algorithm::Spikes,
            _ => dense,
        }
    }

    /// True if Winograd's algorithm applies.
    fn has_winograd(&self) -> bool {
        let [rows, columns] = self.kernel;
        rows == columns
            && [3, 5].contains(&rows)
            && self.stride == [1, 1]
            && self.padding.iter().all(|&p| p < rows)
            && self.input.channels.is_multiple_of(LANES)
            && self.out_channels.is_multiple_of(LANES)
    }

    /// The way with the fewest products on dense values, of those whose tiles have at most
    /// `most_points` points along a side. Small images fill large tiles badly.
    fn dense_algorithm(&self, most_points: usize) -> Algorithm {
        let (y, kernel) = (self.output(), self.kernel[0]);
        let products = |&algorithm: &Algorithm| {
            let (tile, side) = match algorithm {
                Algorithm::Winograd2 => (2, kernel + 1),
                Algorithm::Winograd4 => (4, kernel + 3),
                _ => return (self.kernel[1] * kernel * y.height * y.width, 0),
            };
            (y.height.div_ceil(tile) * y.width.div_ceil(tile) * side * side, side)
        };
        let ways = self.algorithms(false).into_iter();
        let exact = ways.filter(|way| products(way).1 <= most_points);
        exact.min_by_key(|way| products(way).0).expect("the direct sum is always possible")
    }

    fn winograd(&self, simd: Simd, algorithm: Algorithm) -> Winograd {
        assert!(self.has_winograd(), "Winograd's algorithm is for 3×3 and 5×5 kernels of stride 1");
        let tile = if algorithm == Algorithm::Winograd4 { 4 } else { 2 };
        let (x, y, kernel) = (self.input, self.output(), self.kernel[0]);
        Winograd { x, y, padding: self.padding, panel: simd.panel(), tile, kernel }
    }

    /// The margin of the forward pass.
    pub(super) fn margin(&self) -> Margin {
        let [rows, columns] = self.padding;
        Margin { above: rows, below: rows, left: columns, right: columns }
    }

    /// Layout of the weights of the forward pass.
    fn panels(&self, width: usize) -> Panels {
        let k = self.kernel[0] * self.kernel[1] * self.input.channels;
        Panels { k, n: self.out_channels, width }
    }

    fn wide(&self, weights: Weights<'_>) -> Arc<Buffer> {
        let Weights { plain, forms } = weights;
        forms.wide.get(|| self.pack_panels(&forms.memory, sparse::SLAB, plain))
    }

    fn pack_panels(&self, memory: &Buffers, width: usize, plain: &[f32]) -> Buffer {
        let (n_in, n_taps) = (self.input.channels, self.kernel[0] * self.kernel[1]);
        // The taps of one input channel are neighbours in `plain`.
        let row = |weight: usize| weight % n_taps * n_in + weight / n_taps;
        self.panels(width).pack_turned(memory, plain, row)
    }

    fn weight_index(&self, o: usize, i: usize, row: usize, column: usize) -> usize {
        ((o * self.input.channels + i) * self.kernel[0] + row) * self.kernel[1] + column
    }

    /// The number of images.
    fn assert_input(&self, input: Input<'_>) -> usize {
        match input {
            Input::Dense(x) => {
                assert!(x.len().is_multiple_of(self.input.len()), "the input is whole images");
                x.len() / self.input.len()
            }
            Input::Spikes(spikes) => {
                let (is, should) = (spikes.shape(), self.input);
                assert_eq!(is, should, "the spikes have the input's shape");
                spikes.n_images()
            }
        }
    }
}

impl Workspace {
    /// A workspace whose weight gradients use certain instructions.
    pub fn with(simd: Simd) -> Self {
        Self { simd, ..Self::default() }
    }
}

/// Some of the images.
fn slice(input: Input<'_>, shape: Shape, images: Range<usize>) -> Input<'_> {
    match input {
        Input::Dense(x) => Input::Dense(&x[images.start * shape.len()..images.end * shape.len()]),
        Input::Spikes(spikes) => Input::Spikes(spikes.images(images)),
    }
}

/// The images as dense values with their margins: as they are if they need neither.
fn padded_images<'a>(
    simd: Simd,
    input: Input<'a>,
    shape: Shape,
    margin: Margin,
    memory: &'a mut Buffer,
) -> &'a [f32] {
    let n_images = match input {
        Input::Dense(x) if margin == Margin::NONE => return x,
        Input::Dense(x) => x.len() / shape.len(),
        Input::Spikes(spikes) => spikes.n_images(),
    };
    let padded = memory.first(n_images * margin.around(shape).len());
    pad(simd, input, shape, margin, padded);
    padded
}

/// Adds the gradient with respect to a bias, the sum of `d_out` over all pixels, to `gradient`.
pub fn add_bias_gradient(d_out: &[f32], gradient: &mut [f32]) {
    assert!(d_out.len().is_multiple_of(gradient.len()), "gradients are whole pixels");
    d_out.chunks_exact(gradient.len()).for_each(|pixel| add(gradient, pixel));
}

/// `sum += row`.
fn add(sum: &mut [f32], row: &[f32]) {
    sum.iter_mut().zip(row).for_each(|(s, &v)| *s += v);
}

#[cfg(test)]
mod tests;
