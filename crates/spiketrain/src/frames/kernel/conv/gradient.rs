//! Both gradients of a convolution.

use super::super::Input;
use super::super::buffer::Buffer;
use super::super::direct::{Margin, Phase, Slide, phases};
use super::super::panel::Panels;
use super::super::simd::LANES;
use super::super::sparse;
use super::super::winograd::Winograd;
use super::{Algorithm, Conv2d, Weights, Workspace, padded_images, slice};
use std::ops::Range;

/// Values of a weight gradient that are summed up together, four megabytes.
const AT_ONCE: usize = 1 << 20;

impl Conv2d {
    /// Adds the gradient with respect to the weights to `gradient`, `[out, in, kernel_row,
    /// kernel_column]`; `d_out` is the gradient with respect to the output.
    pub fn weight_gradient(
        &self,
        input: Input<'_>,
        d_out: &[f32],
        gradient: &mut [f32],
        workspace: &mut Workspace,
    ) {
        let algorithm = self.weight_gradient_algorithm(input);
        self.weight_gradient_by(algorithm, input, d_out, gradient, workspace);
    }

    /// [`Conv2d::weight_gradient`] by a certain algorithm, which must be one that
    /// [`Conv2d::weight_gradient_algorithms`] names.
    pub fn weight_gradient_by(
        &self,
        algorithm: Algorithm,
        input: Input<'_>,
        d_out: &[f32],
        gradient: &mut [f32],
        workspace: &mut Workspace,
    ) {
        let n_images = self.assert_input(input);
        let y = self.output();
        assert_eq!(d_out.len(), n_images * y.len(), "one gradient an output");
        assert_eq!(gradient.len(), self.n_weights(), "one gradient a weight");
        let simd = workspace.simd;
        let (n_in, n_taps) = (self.input.channels, self.kernel[0] * self.kernel[1]);
        let mut sum = WeightSum { gradient, per_out: n_in * n_taps };
        match (algorithm, input) {
            (Algorithm::Spikes, Input::Spikes(spikes)) => {
                sparse::weight_gradient(simd, self, spikes, d_out, &mut workspace.tiles, &mut sum);
            }
            (Algorithm::Spikes, Input::Dense(_)) => panic!("dense values are no spikes"),
            (Algorithm::Direct, _) => {
                let panels = self.panels(simd.panel());
                let Workspace { padded, d_out: blocks, gradient: packed, .. } = workspace;
                let at_once = Slide::of(self, n_images).images_at_once();
                // As many panels as stay within a few megabytes.
                let columns = (AT_ONCE / panels.k / panels.width).max(1) * panels.width;
                for first in (0..panels.n).step_by(columns) {
                    let some = Panels { n: columns.min(panels.n - first), ..panels };
                    let packed = packed.zeroed(some.len());
                    for (chunk, d_out) in d_out.chunks(at_once * y.len()).enumerate() {
                        let images = chunk * at_once..n_images.min((chunk + 1) * at_once);
                        let mut slide = Slide::of(self, images.len());
                        let input = slice(input, self.input, images);
                        let x = padded_images(simd, input, self.input, self.margin(), padded);
                        let d_out = whole_blocks(d_out, y.channels, blocks);
                        slide.widen_outputs(y.channels.next_multiple_of(LANES), y);
                        slide.weight_gradient(simd, x, &d_out[first..], (some, packed));
                    }
                    for panel in some.iter() {
                        let rows = &packed[panel.start..][..some.k * panel.width];
                        let outs = first + panel.column..first + panel.column + panel.lanes;
                        sum.add(outs, 0, n_taps, rows, panel.width);
                    }
                }
            }
            (Algorithm::Winograd2 | Algorithm::Winograd4, _) => {
                let x = padded_images(simd, input, self.input, Margin::NONE, &mut workspace.padded);
                let of = self.winograd(simd, algorithm);
                of.weight_gradient(simd, x, d_out, &mut workspace.winograd, &mut sum);
            }
        }
    }

    /// Writes the gradient with respect to the input, `[image, row, column, channel]`.
    pub fn input_gradient(
        &self,
        weights: Weights<'_>,
        d_out: &[f32],
        d_in: &mut [f32],
        workspace: &mut Workspace,
    ) {
        let algorithm = self.input_gradient_algorithm();
        self.input_gradient_by(algorithm, weights, d_out, d_in, workspace);
    }

    /// [`Conv2d::input_gradient`] by a certain algorithm, which must be one that
    /// [`Conv2d::input_gradient_algorithms`] names.
    pub fn input_gradient_by(
        &self,
        algorithm: Algorithm,
        weights: Weights<'_>,
        d_out: &[f32],
        d_in: &mut [f32],
        workspace: &mut Workspace,
    ) {
        let n_images = d_in.len() / self.input.len();
        assert_eq!(d_in.len(), n_images * self.input.len(), "gradients are whole images");
        assert_eq!(d_out.len(), n_images * self.output().len(), "one gradient an output");
        match algorithm {
            Algorithm::Spikes => panic!("gradients are no spikes"),
            Algorithm::Direct if self.covers_input() => {
                self.input_gradient_linear(weights, d_out, d_in, workspace);
            }
            Algorithm::Direct => self.input_gradient_direct(weights, d_out, d_in, workspace),
            Algorithm::Winograd2 | Algorithm::Winograd4 => {
                let forward = self.winograd(weights.forms.simd, algorithm);
                let last = forward.kernel - 1;
                let of = Winograd {
                    x: forward.y,
                    y: forward.x,
                    padding: forward.padding.map(|p| last - p),
                    ..forward
                };
                let weights_of = |i: usize, o: usize, r: usize, c: usize| {
                    weights.plain[self.weight_index(o, i, last - r, last - c)]
                };
                let simd = weights.forms.simd;
                let packed = weights.forms.backward_winograd[of.tile / 4]
                    .get(|| of.pack(simd, &weights.forms.memory, weights_of));
                let memory = &mut workspace.winograd;
                of.forward(simd, d_out, packed.as_slice(), None, d_in, memory);
            }
        }
    }

    /// True if every output reads the whole input once.
    pub fn covers_input(&self) -> bool {
        self.kernel == [self.input.height, self.input.width] && self.padding == [0; 2]
    }

    /// One product of `[image, output]` and `[output, input value]`.
    fn input_gradient_linear(
        &self,
        weights: Weights<'_>,
        d_out: &[f32],
        d_in: &mut [f32],
        workspace: &mut Workspace,
    ) {
        let (x, simd) = (self.input, weights.forms.simd);
        let panels = Panels { k: self.out_channels, n: x.len(), width: simd.panel() };
        let forms = weights.forms;
        let packed = forms.backward.get(|| vec![panels.pack_plain(&forms.memory, weights.plain)]);
        let slide = Slide {
            images: d_in.len() / x.len(),
            rows: 1,
            columns: 1,
            x_image: self.out_channels,
            x_row: self.out_channels,
            x_column: self.out_channels,
            out_image: x.len(),
            out_row: x.len(),
            out_column: x.len(),
            runs: 1,
            x_run: self.out_channels,
            k: self.out_channels,
        };
        slide.forward(simd, d_out, (panels, packed[0].as_slice()), None, d_in);
        // The weights have their channels outermost.
        let n_pixels = x.height * x.width;
        if n_pixels > 1 && x.channels > 1 {
            let image = workspace.padded.first(x.len());
            for d_in in d_in.chunks_exact_mut(x.len()) {
                image.copy_from_slice(d_in);
                for (pixel, d_in) in d_in.chunks_exact_mut(x.channels).enumerate() {
                    let of_pixel = image[pixel..].iter().step_by(n_pixels);
                    d_in.iter_mut().zip(of_pixel).for_each(|(d, &v)| *d = v);
                }
            }
        }
    }

    fn input_gradient_direct(
        &self,
        weights: Weights<'_>,
        d_out: &[f32],
        d_in: &mut [f32],
        workspace: &mut Workspace,
    ) {
        let (x, y, simd) = (self.input, self.output(), weights.forms.simd);
        let axis = |size: usize, outputs: usize, axis: usize| {
            phases(size, outputs, self.kernel[axis], self.stride[axis], self.padding[axis])
        };
        let (rows, above, below) = axis(x.height, y.height, 0);
        let (columns, left, right) = axis(x.width, y.width, 1);
        let margin = Margin { above, below, left, right };
        let padded = margin.around(y);
        let width = simd.panel();
        let panels = |row: &Phase, column: &Phase| Panels {
            k: row.taps * column.taps * y.channels,
            n: x.channels,
            width,
        };
        let pairs = || rows.iter().flat_map(|row| columns.iter().map(move |column| (row, column)));
        let packed = weights.forms.backward.get(|| {
            let pack = |(row, column): (&Phase, &Phase)| {
                panels(row, column).pack(&weights.forms.memory, |k, i| {
                    let (o, tap) = (k % y.channels, k / y.channels);
                    let kernel_row = row.last_tap - tap / column.taps * self.stride[0];
                    let kernel_column = column.last_tap - tap % column.taps * self.stride[1];
                    weights.plain[self.weight_index(o, i, kernel_row, kernel_column)]
                })
            };
            pairs().map(pack).collect()
        });
        let slide = |row: &Phase, column: &Phase, images: usize| Slide {
            images,
            rows: row.inputs,
            columns: column.inputs,
            x_image: padded.len(),
            x_row: padded.width * y.channels,
            x_column: y.channels,
            out_image: x.len(),
            out_row: self.stride[0] * x.width * x.channels,
            out_column: self.stride[1] * x.channels,
            runs: row.taps,
            x_run: padded.width * y.channels,
            k: column.taps * y.channels,
        };
        let at_once = slide(&rows[0], &columns[0], d_in.len() / x.len()).images_at_once();
        for (d_in, d_out) in d_in.chunks_mut(at_once * x.len()).zip(d_out.chunks(at_once * y.len()))
        {
            let d_out = padded_images(simd, Input::Dense(d_out), y, margin, &mut workspace.padded);
            for ((row, column), packed) in pairs().zip(&*packed) {
                let start = (row.start * padded.width + column.start) * y.channels;
                let to = (row.first * x.width + column.first) * x.channels;
                let slide = slide(row, column, d_in.len() / x.len());
                let packed = (panels(row, column), packed.as_slice());
                slide.forward(simd, &d_out[start..], packed, None, &mut d_in[to..]);
            }
        }
    }
}

/// A gradient `[out, weight]` that packed gradients are added to.
pub(in crate::frames::kernel) struct WeightSum<'a> {
    gradient: &'a mut [f32],
    /// Weights of one output channel.
    per_out: usize,
}

impl WeightSum<'_> {
    /// Adds packed rows `[tap, channel]` of `width` values to the weights `[channel, tap]` from
    /// `first` of the channels `outs`, one for each value of a row.
    pub(in crate::frames::kernel) fn add(
        &mut self,
        outs: Range<usize>,
        first: usize,
        n_taps: usize,
        rows: &[f32],
        width: usize,
    ) {
        let n_weights = rows.len() / width;
        let n_channels = n_weights / n_taps;
        for weight in (0..n_weights).step_by(LANES) {
            let n = LANES.min(n_weights - weight);
            let row = |weight: usize| weight % n_taps * n_channels + weight / n_taps;
            let starts: [usize; LANES] =
                std::array::from_fn(|i| row(weight + i.min(n - 1)) * width);
            for lane in (0..outs.len()).step_by(LANES) {
                // A block of 16 weights by 16 channels is turned around where it is close.
                let block: [[f32; LANES]; LANES] = std::array::from_fn(|i| {
                    let row = &rows[starts[i] + lane..][..LANES];
                    row.try_into().expect("a row is whole blocks")
                });
                for l in 0..LANES.min(outs.len() - lane) {
                    let at = (outs.start + lane + l) * self.per_out + first + weight;
                    let to = &mut self.gradient[at..][..n];
                    match <&mut [f32; LANES]>::try_from(&mut *to) {
                        Ok(to) => (0..LANES).for_each(|i| to[i] += block[i][l]),
                        Err(_) => (0..n).for_each(|i| to[i] += block[i][l]),
                    }
                }
            }
        }
    }
}

/// Pixels of `channels` values with as many zeros as fill their last block.
fn whole_blocks<'a>(values: &'a [f32], channels: usize, memory: &'a mut Buffer) -> &'a [f32] {
    let width = channels.next_multiple_of(LANES);
    if width == channels {
        return values;
    }
    let out = memory.zeroed(values.len() / channels * width);
    for (out, pixel) in out.chunks_exact_mut(width).zip(values.chunks_exact(channels)) {
        out[..channels].copy_from_slice(pixel);
    }
    out
}
