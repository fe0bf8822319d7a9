//! Two-dimensional convolution, forward and both gradients.

use super::spikes::WORD;
use super::{Input, SpikeView};
use crate::Shape;

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

/// Weights in the layouts the kernels read.
#[derive(Clone, Debug)]
pub struct ConvWeights {
    /// `[kernel_row, kernel_column, in, out]`.
    forward: Vec<f32>,
    /// `[kernel_row, kernel_column, out, in]`.
    backward: Vec<f32>,
}

/// Memory that the kernels use and keep between calls; one for each thread.
#[derive(Debug, Default)]
pub struct Workspace {
    /// Spikes as indices `column · channels + channel`, row by row.
    indices: Vec<u16>,
    /// Where each row begins in `indices`.
    offsets: Vec<usize>,
    /// The weight gradient, `[kernel_row, kernel_column, in, out]`.
    gradient: Vec<f32>,
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

    /// Packs weights `[out, in, kernel_row, kernel_column]`.
    pub fn pack(&self, weight: &[f32]) -> ConvWeights {
        assert_eq!(weight.len(), self.n_weights(), "one value a weight");
        let (n_in, n_out) = (self.input.channels, self.out_channels);
        let n_taps = self.kernel[0] * self.kernel[1];
        let mut forward = vec![0.0; weight.len()];
        let mut backward = vec![0.0; weight.len()];
        for (at, &w) in weight.iter().enumerate() {
            let (o, i, tap) = (at / (n_in * n_taps), at / n_taps % n_in, at % n_taps);
            forward[(tap * n_in + i) * n_out + o] = w;
            backward[(tap * n_out + o) * n_in + i] = w;
        }
        ConvWeights { forward, backward }
    }

    /// `out[n, y, x, o] = bias[o] + Σ w[o, i, r, c] · input[n, y·s + r − p, x·s + c − p, i]`.
    ///
    /// `out` is `[image, row, column, channel]` and overwritten.
    pub fn forward(
        &self,
        weights: &ConvWeights,
        bias: Option<&[f32]>,
        input: Input<'_>,
        out: &mut [f32],
        workspace: &mut Workspace,
    ) {
        let n_images = self.assert_input(input);
        assert_eq!(out.len(), n_images * self.output().len(), "one output a window and channel");
        match bias {
            None => out.fill(0.0),
            Some(bias) => {
                assert_eq!(bias.len(), self.out_channels, "one bias a channel");
                out.chunks_exact_mut(bias.len()).for_each(|pixel| pixel.copy_from_slice(bias));
            }
        }
        let n_out = self.out_channels;
        match input {
            Input::Dense(x) => self.windows(n_images, |window, pixel| {
                let rows = weights.forward[window.weights..].chunks_exact(n_out);
                for (&x, row) in x[window.input..][..window.len].iter().zip(rows) {
                    add_scaled(&mut out[pixel * n_out..][..n_out], x, row);
                }
            }),
            Input::Spikes(spikes) => {
                workspace.list(spikes);
                self.windows(n_images, |window, pixel| {
                    for bit in workspace.window(window) {
                        let row = &weights.forward[window.weights + bit * n_out..][..n_out];
                        add(&mut out[pixel * n_out..][..n_out], row);
                    }
                });
            }
        }
    }

    /// Adds the gradient with respect to the weights to `gradient`, `[out, in, kernel_row,
    /// kernel_column]`; `d_out` is the gradient with respect to the output.
    pub fn weight_gradient(
        &self,
        input: Input<'_>,
        d_out: &[f32],
        gradient: &mut [f32],
        workspace: &mut Workspace,
    ) {
        let n_images = self.assert_input(input);
        assert_eq!(d_out.len(), n_images * self.output().len(), "one gradient an output");
        assert_eq!(gradient.len(), self.n_weights(), "one gradient a weight");
        let n_out = self.out_channels;
        let mut packed = std::mem::take(&mut workspace.gradient);
        packed.clear();
        packed.resize(gradient.len(), 0.0);
        match input {
            Input::Dense(x) => self.windows(n_images, |window, pixel| {
                let rows = packed[window.weights..].chunks_exact_mut(n_out);
                for (&x, row) in x[window.input..][..window.len].iter().zip(rows) {
                    add_scaled(row, x, &d_out[pixel * n_out..][..n_out]);
                }
            }),
            Input::Spikes(spikes) => {
                workspace.list(spikes);
                self.windows(n_images, |window, pixel| {
                    for bit in workspace.window(window) {
                        let row = &mut packed[window.weights + bit * n_out..][..n_out];
                        add(row, &d_out[pixel * n_out..][..n_out]);
                    }
                });
            }
        }
        self.add_unpacked(&packed, gradient);
        workspace.gradient = packed;
    }

    /// Writes the gradient with respect to the input, `[image, row, column, channel]`.
    pub fn input_gradient(
        &self,
        weights: &ConvWeights,
        d_out: &[f32],
        d_in: &mut [f32],
        _workspace: &mut Workspace,
    ) {
        let n_images = d_in.len() / self.input.len();
        assert_eq!(d_in.len(), n_images * self.input.len(), "gradients are whole images");
        assert_eq!(d_out.len(), n_images * self.output().len(), "one gradient an output");
        d_in.fill(0.0);
        let (n_in, n_out) = (self.input.channels, self.out_channels);
        self.windows(n_images, |window, pixel| {
            let d_pixel = &d_out[pixel * n_out..][..n_out];
            for column in 0..window.len / n_in {
                let d_in = &mut d_in[window.input + column * n_in..][..n_in];
                let rows =
                    weights.backward[window.weights + column * n_in * n_out..].chunks_exact(n_in);
                for (&d, row) in d_pixel.iter().zip(rows) {
                    add_scaled(d_in, d, row);
                }
            }
        });
    }

    /// Visits every row of every window that lies in the input, with the output pixel's index.
    fn windows(&self, n_images: usize, mut visit: impl FnMut(Window, usize)) {
        let (x, y) = (self.input, self.output());
        for (image, oy, ox) in (0..n_images).flat_map(|image| {
            (0..y.height).flat_map(move |oy| (0..y.width).map(move |ox| (image, oy, ox)))
        }) {
            for kr in 0..self.kernel[0] {
                let iy = (oy * self.stride[0] + kr).wrapping_sub(self.padding[0]);
                if iy >= x.height {
                    continue;
                }
                let left = ox * self.stride[1];
                let kc = self.padding[1].saturating_sub(left);
                let from = (left + kc).saturating_sub(self.padding[1]);
                let to = (left + self.kernel[1]).saturating_sub(self.padding[1]).min(x.width);
                if from >= to {
                    continue;
                }
                let row = image * x.height + iy;
                let window = Window {
                    row,
                    first: from * x.channels,
                    len: (to - from) * x.channels,
                    input: (row * x.width + from) * x.channels,
                    weights: (kr * self.kernel[1] + kc) * x.channels * self.out_channels,
                };
                visit(window, (image * y.height + oy) * y.width + ox);
            }
        }
    }

    /// Adds `[kernel_row, kernel_column, in, out]` to `[out, in, kernel_row, kernel_column]`.
    fn add_unpacked(&self, packed: &[f32], gradient: &mut [f32]) {
        let (n_in, n_out) = (self.input.channels, self.out_channels);
        let n_taps = self.kernel[0] * self.kernel[1];
        for (at, g) in gradient.iter_mut().enumerate() {
            let (o, i, tap) = (at / (n_in * n_taps), at / n_taps % n_in, at % n_taps);
            *g += packed[(tap * n_in + i) * n_out + o];
        }
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

/// The part of one row of the input that one output pixel sees.
#[derive(Clone, Copy)]
struct Window {
    /// Row of all images.
    row: usize,
    /// First index `column · channels + channel` in that row.
    first: usize,
    /// Number of values.
    len: usize,
    /// Index of the first value in the input.
    input: usize,
    /// Index of its first weight.
    weights: usize,
}

impl Workspace {
    /// Lists the spikes of all rows.
    fn list(&mut self, spikes: SpikeView<'_>) {
        assert!(
            spikes.shape().width * spikes.shape().channels <= 1 << 16,
            "a row has at most 65,536 neurons"
        );
        self.indices.clear();
        self.offsets.clear();
        self.offsets.push(0);
        for row in spikes.rows() {
            for (at, &word) in row.iter().enumerate() {
                let mut word = word;
                while word != 0 {
                    self.indices.push((at * WORD + word.trailing_zeros() as usize) as u16);
                    word &= word - 1;
                }
            }
            self.offsets.push(self.indices.len());
        }
    }

    /// Spikes of a window, counted from its first value.
    fn window(&self, window: Window) -> impl Iterator<Item = usize> {
        let row = &self.indices[self.offsets[window.row]..self.offsets[window.row + 1]];
        let start = row.partition_point(|&i| usize::from(i) < window.first);
        row[start..]
            .iter()
            .map(move |&i| usize::from(i) - window.first)
            .take_while(move |&i| i < window.len)
    }
}

/// Adds the gradient with respect to a bias, the sum of `d_out` over all pixels, to `gradient`.
pub fn add_bias_gradient(d_out: &[f32], gradient: &mut [f32]) {
    assert!(d_out.len().is_multiple_of(gradient.len()), "gradients are whole pixels");
    d_out.chunks_exact(gradient.len()).for_each(|pixel| add(gradient, pixel));
}

/// `sum += a · row`.
fn add_scaled(sum: &mut [f32], a: f32, row: &[f32]) {
    sum.iter_mut().zip(row).for_each(|(s, &v)| *s += a * v);
}

/// `sum += row`.
fn add(sum: &mut [f32], row: &[f32]) {
    sum.iter_mut().zip(row).for_each(|(s, &v)| *s += v);
}

#[cfg(test)]
mod tests {
    use super::super::{Spikes, reference};
    use super::*;

    /// Geometries that meet every branch: odd channels, borders, strides, linear, 1×1.
    fn geometries() -> Vec<Conv2d> {
        let shape = Shape::new;
        vec![
            Conv2d::square(shape(3, 8, 8), 32, 3, 1, 1),
            Conv2d::square(shape(32, 9, 7), 48, 3, 1, 1),
            Conv2d::square(shape(16, 8, 8), 64, 3, 2, 1),
            Conv2d::square(shape(7, 11, 6), 5, 5, 1, 2),
            Conv2d::square(shape(20, 7, 7), 33, 1, 1, 0),
            Conv2d::square(shape(20, 7, 8), 24, 1, 2, 0),
            Conv2d::square(shape(4, 12, 12), 16, 7, 2, 3),
            Conv2d::square(shape(5, 6, 6), 8, 2, 3, 4),
            Conv2d {
                input: shape(6, 5, 9),
                out_channels: 20,
                kernel: [2, 4],
                stride: [1, 3],
                padding: [0, 2],
            },
            Conv2d::linear(Shape::flat(100), 10),
            Conv2d::linear(shape(12, 3, 4), 37),
        ]
    }

    #[test]
    fn dense_passes_follow_the_definition() {
        let mut workspace = Workspace::default();
        for conv in geometries() {
            let n = 3;
            let x = reference::values(n * conv.input.len(), 0);
            let w = reference::values(conv.n_weights(), 1);
            let bias = reference::values(conv.out_channels, 2);
            let dy = reference::values(n * conv.output().len(), 3);
            let packed = conv.pack(&w);
            let mut y = vec![9.0; dy.len()];
            conv.forward(&packed, Some(&bias), Input::Dense(&x), &mut y, &mut workspace);
            let want = reference::forward(&conv, &w, Some(&bias), &x);
            reference::assert_close("forward", &y, &want, 2e-6);
            conv.forward(&packed, None, Input::Dense(&x), &mut y, &mut workspace);
            reference::assert_close("forward", &y, &reference::forward(&conv, &w, None, &x), 2e-6);
            let mut dx = vec![9.0; x.len()];
            conv.input_gradient(&packed, &dy, &mut dx, &mut workspace);
            let want = reference::input_gradient(&conv, &w, &dy);
            reference::assert_close("input gradient", &dx, &want, 2e-6);
            let mut dw = vec![0.0; w.len()];
            conv.weight_gradient(Input::Dense(&x), &dy, &mut dw, &mut workspace);
            let want = reference::weight_gradient(&conv, &x, &dy);
            reference::assert_close("weight gradient", &dw, &want, 2e-6);
            conv.weight_gradient(Input::Dense(&x), &dy, &mut dw, &mut workspace);
            let twice: Vec<f64> = want.iter().map(|g| 2.0 * g).collect();
            reference::assert_close("gradients add up", &dw, &twice, 2e-6);
        }
    }

    #[test]
    fn spikes_give_what_their_values_give() {
        let mut workspace = Workspace::default();
        for (conv, density) in geometries().into_iter().flat_map(|c| [(c, 0.1), (c, 0.6)]) {
            let n = 3;
            let x = reference::binary(n * conv.input.len(), density, 4);
            let spikes = Spikes::from_dense(conv.input, &x);
            let w = reference::values(conv.n_weights(), 1);
            let bias = reference::values(conv.out_channels, 2);
            let dy = reference::values(n * conv.output().len(), 3);
            let packed = conv.pack(&w);
            let mut y = vec![9.0; dy.len()];
            let input = Input::Spikes(spikes.view());
            conv.forward(&packed, Some(&bias), input, &mut y, &mut workspace);
            let want = reference::forward(&conv, &w, Some(&bias), &x);
            reference::assert_close("forward", &y, &want, 2e-6);
            let mut dw = vec![0.0; w.len()];
            conv.weight_gradient(input, &dy, &mut dw, &mut workspace);
            let want = reference::weight_gradient(&conv, &x, &dy);
            reference::assert_close("weight gradient", &dw, &want, 2e-6);
        }
    }

    #[test]
    fn a_bias_collects_its_channel() {
        let mut gradient = [1.0, 0.0];
        add_bias_gradient(&[1.0, 2.0, 3.0, 4.0], &mut gradient);
        assert_eq!(gradient, [5.0, 6.0]);
    }
}
