//! Convolution of dense values as sums of outer products over the padded image, without unrolling
//! it into a matrix.

use super::Input;
use super::conv::Conv2d;
use super::panel::{Panel, Panels};
use super::product::{Init, Product, ZEROS};
use super::simd::Simd;
use super::spikes::expand_row;
use crate::Shape;

/// Weights of one pass over the outputs, in values; they stay in the second cache.
const PASS: usize = 128 << 10;

/// Fewer output columns than this, and the kernel walks over images instead.
const MIN_COLUMNS: usize = 6;

/// Images that are walked over at once.
const IMAGES: usize = 24;

/// Zeros around an image: above, below, left, right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Margin {
    pub(super) above: usize,
    pub(super) below: usize,
    pub(super) left: usize,
    pub(super) right: usize,
}

impl Margin {
    pub(super) const NONE: Self = Self { above: 0, below: 0, left: 0, right: 0 };

    /// Shape of the image with its margin.
    pub(super) fn around(self, shape: Shape) -> Shape {
        let (height, width) = (shape.height, shape.width);
        let (height, width) = (height + self.above + self.below, width + self.left + self.right);
        Shape::new(shape.channels, height, width)
    }
}

/// Writes the images with their margins to `out`.
pub(super) fn pad(simd: Simd, input: Input<'_>, shape: Shape, margin: Margin, out: &mut [f32]) {
    let padded = margin.around(shape);
    let (row, padded_row) = (shape.width * shape.channels, padded.width * padded.channels);
    let (left, right) = (margin.left * shape.channels, margin.right * shape.channels);
    for (image, out) in out.chunks_exact_mut(padded.len()).enumerate() {
        let (above, rest) = out.split_at_mut(margin.above * padded_row);
        let (inner, below) = rest.split_at_mut(shape.height * padded_row);
        above.fill(0.0);
        below.fill(0.0);
        for (y, out) in inner.chunks_exact_mut(padded_row).enumerate() {
            out[..left].fill(0.0);
            out[padded_row - right..].fill(0.0);
            let out = &mut out[left..padded_row - right];
            match input {
                Input::Dense(x) => {
                    out.copy_from_slice(&x[(image * shape.height + y) * row..][..row]);
                }
                Input::Spikes(spikes) => {
                    expand_row(simd, spikes.row(image, y), out);
                }
            }
        }
    }
}

/// A window that slides over padded images: steps from one output to the next in the values read
/// and written, and the rows of values under a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slide {
    /// Number of outputs along each axis.
    pub(super) images: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Steps in the input.
    pub(super) x_image: usize,
    pub(super) x_row: usize,
    pub(super) x_column: usize,
    /// Steps in the output.
    pub(super) out_image: usize,
    pub(super) out_row: usize,
    pub(super) out_column: usize,
    /// Rows under the window, and their step in the input.
    pub(super) runs: usize,
    pub(super) x_run: usize,
    /// Values of one row under the window.
    pub(super) k: usize,
}

impl Slide {
    /// The window of a convolution over its padded images.
    pub(super) fn of(conv: &Conv2d, images: usize) -> Self {
        let y = conv.output();
        let x = conv.margin().around(conv.input);
        let (row, column) = (x.width * x.channels, x.channels);
        Self {
            images,
            rows: y.height,
            columns: y.width,
            x_image: x.len(),
            x_row: conv.stride[0] * row,
            x_column: conv.stride[1] * column,
            out_image: y.len(),
            out_row: y.width * y.channels,
            out_column: y.channels,
            runs: conv.kernel[0],
            x_run: row,
            k: conv.kernel[1] * column,
        }
    }

    /// Reads the outputs' gradient with pixels of `channels` values, some of which only fill a
    /// block.
    pub(super) fn widen_outputs(&mut self, channels: usize, y: Shape) {
        self.out_column = channels;
        self.out_row = y.width * channels;
        self.out_image = y.height * y.width * channels;
    }

    /// True if the outputs of a row are too few, so that images are walked over.
    fn over_images(&self) -> bool {
        self.columns < MIN_COLUMNS && self.images > self.columns
    }

    /// Images that should be padded and walked over together.
    pub(super) fn images_at_once(&self) -> usize {
        if self.over_images() { IMAGES } else { 1 }
    }

    /// `out = bias + weights · x` for every window; `weights` are `[row, value of the row]` in
    /// panels of output channels, `bias` whole blocks.
    pub(super) fn forward(
        &self,
        simd: Simd,
        x: &[f32],
        (panels, weights): (Panels, &[f32]),
        bias: Option<&[f32]>,
        out: &mut [f32],
    ) {
        debug_assert_eq!(panels.k, self.runs * self.k);
        for panel in panels.iter() {
            let weights = &weights[panel.start..][..panels.k * panel.width];
            let first = bias.map_or(&ZEROS[..], |bias| &bias[panel.column..]);
            if weights.len() <= PASS {
                self.pass(simd, x, weights, panel, Init::Row(first), out);
                continue;
            }
            // A weight matrix too large for the cache is cut along its rows.
            let most = PASS / panel.width;
            let pieces = self.k.div_ceil(most);
            for piece in 0..self.runs * pieces {
                let (run, piece_of_run) = (piece / pieces, piece % pieces);
                let from = self.k * piece_of_run / pieces;
                let to = self.k * (piece_of_run + 1) / pieces;
                let one = Self { runs: 1, k: to - from, ..*self };
                let x = &x[run * self.x_run + from..];
                let weights = &weights[(run * self.k + from) * panel.width..];
                let init = if piece == 0 { Init::Row(first) } else { Init::Keep };
                one.pass(simd, x, weights, panel, init, out);
            }
        }
    }

    /// All outputs of one panel.
    fn pass(
        &self,
        simd: Simd,
        x: &[f32],
        weights: &[f32],
        panel: Panel,
        init: Init<'_>,
        out: &mut [f32],
    ) {
        let product = Product {
            x,
            w: weights,
            m: if self.over_images() { self.images } else { self.columns },
            x_m: if self.over_images() { self.x_image } else { self.x_column },
            out_m: if self.over_images() { self.out_image } else { self.out_column },
            runs: self.runs,
            x_run: self.x_run,
            w_run: self.k * panel.width,
            k: self.k,
            x_k: 1,
            w_k: panel.width,
            lanes: panel.lanes,
        };
        self.lines(|x_start, out_start| {
            let product = Product { x: &x[x_start..], ..product };
            product.run(simd, init, &mut out[out_start + panel.column..]);
        });
    }

    /// Adds the gradient with respect to the weights to `gradient`, in panels; `d_out` is read in
    /// whole blocks.
    pub(super) fn weight_gradient(
        &self,
        simd: Simd,
        x: &[f32],
        d_out: &[f32],
        (panels, gradient): (Panels, &mut [f32]),
    ) {
        // A sum runs over a line of outputs and over as many lines as one step reaches.
        let (lines, x_line, out_line) = match self.over_images() {
            true => (self.columns, self.x_column, self.out_column),
            false => (self.rows, self.x_row, self.out_row),
        };
        let (line, x_k, w_k) = match self.over_images() {
            true => (self.images, self.x_image, self.out_image),
            false => (self.columns, self.x_column, self.out_column),
        };
        let (planes, x_plane, out_plane) = match self.over_images() {
            true => (self.rows, self.x_row, self.out_row),
            false => (self.images, self.x_image, self.out_image),
        };
        for plane in 0..planes {
            for panel in panels.iter() {
                for run in 0..self.runs {
                    let at = panel.start + run * self.k * panel.width;
                    let product = Product {
                        x: &x[plane * x_plane + run * self.x_run..],
                        w: &d_out[plane * out_plane + panel.column..],
                        m: self.k,
                        x_m: 1,
                        out_m: panel.width,
                        runs: lines,
                        x_run: x_line,
                        w_run: out_line,
                        k: line,
                        x_k,
                        w_k,
                        lanes: panel.width,
                    };
                    let to = &mut gradient[at..][..self.k * panel.width];
                    product.run(simd, Init::Keep, to);
                }
            }
        }
    }

    /// Visits every line of outputs with its first index in input and output.
    fn lines(&self, mut visit: impl FnMut(usize, usize)) {
        if self.over_images() {
            for (row, column) in
                (0..self.rows).flat_map(|row| (0..self.columns).map(move |column| (row, column)))
            {
                visit(
                    row * self.x_row + column * self.x_column,
                    row * self.out_row + column * self.out_column,
                );
            }
        } else {
            for (image, row) in
                (0..self.images).flat_map(|image| (0..self.rows).map(move |row| (image, row)))
            {
                visit(
                    image * self.x_image + row * self.x_row,
                    image * self.out_image + row * self.out_row,
                );
            }
        }
    }
}

/// One axis of the input gradient: inputs whose distance to a window's beginning leaves the same
/// remainder when divided by the stride are reached by the same taps, and by a plain convolution
/// of the output's gradient with those taps in reverse.
#[derive(Clone, Copy, Debug)]
pub(super) struct Phase {
    /// The first input of the phase; the others follow by the stride.
    pub(super) first: usize,
    /// Number of inputs of the phase.
    pub(super) inputs: usize,
    /// Number of taps.
    pub(super) taps: usize,
    /// Index of the first output that the first input reads, in the padded gradient.
    pub(super) start: usize,
    /// First tap in order of the outputs; each next one is `stride` lower.
    pub(super) last_tap: usize,
}

/// The phases of an axis of `size` inputs and `outputs`, and the margins of the output's gradient
/// before and behind.
pub(super) fn phases(
    size: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
) -> (Vec<Phase>, usize, usize) {
    let before = kernel.div_ceil(stride) - 1;
    let behind = ((size - 1 + padding) / stride + 1).saturating_sub(outputs);
    let phases = (0..stride.min(size)).map(|first| {
        let (quotient, remainder) = ((first + padding) / stride, (first + padding) % stride);
        let taps = kernel.saturating_sub(remainder).div_ceil(stride);
        Phase {
            first,
            inputs: (size - first).div_ceil(stride),
            taps,
            // A phase without taps reads nothing, but its windows still lie in the gradient.
            start: quotient + before + 1 - taps.max(1),
            last_tap: remainder + stride * taps.saturating_sub(1),
        }
    });
    (phases.collect(), before, behind)
}
