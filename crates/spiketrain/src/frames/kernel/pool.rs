//! Average and max pooling, forward and backward.

use super::simd::{LANES, Simd, Vector, dispatch};
use super::spikes::{WORD, some_bits};
use super::{Input, SpikeView, Spikes};
use crate::Shape;

/// A pooling's geometry, the same window for every channel. Rows and columns that do not fill a
/// window are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Shape of one input image.
    pub input: Shape,
    /// Window rows and columns; at most 127 pixels.
    pub window: [usize; 2],
    /// Steps between windows, rows and columns.
    pub stride: [usize; 2],
    /// Rows and columns added on every side. An average counts them as zeros; a maximum never
    /// chooses them.
    pub padding: [usize; 2],
}

impl Pool {
    /// Windows of `size` × `size` side by side, without padding.
    pub fn square(input: Shape, size: usize) -> Self {
        Self { input, window: [size; 2], stride: [size; 2], padding: [0; 2] }
    }

    /// One window over the whole image.
    pub fn global(input: Shape) -> Self {
        let window = [input.height, input.width];
        Self { input, window, stride: window, padding: [0; 2] }
    }

    /// Shape of one output image.
    pub fn output(&self) -> Shape {
        let along = |size: usize, axis: usize| {
            let padded = size + 2 * self.padding[axis];
            assert!(
                (1..=padded).contains(&self.window[axis])
                    && self.stride[axis] >= 1
                    && self.padding[axis] < self.window[axis],
                "every window meets the input"
            );
            (padded - self.window[axis]) / self.stride[axis] + 1
        };
        Shape::new(self.input.channels, along(self.input.height, 0), along(self.input.width, 1))
    }

    /// Mean of each window; `out` is `[image, row, column, channel]` and overwritten.
    pub fn average(&self, input: Input<'_>, out: &mut [f32]) {
        let (n, scale) = (self.n_images(out.len()), self.scale());
        let n_channels = self.input.channels;
        match input {
            Input::Dense(x) => {
                assert_eq!(x.len(), n * self.input.len(), "one value a neuron");
                out.fill(0.0);
                self.pixels(n, |_, from, to| {
                    let from = &x[from * n_channels..][..n_channels];
                    let to = &mut out[to * n_channels..][..n_channels];
                    to.iter_mut().zip(from).for_each(|(t, &f)| *t += f);
                });
                out.iter_mut().for_each(|o| *o *= scale);
            }
            Input::Spikes(spikes) => {
                self.assert_spikes(spikes, n);
                average_spikes(Simd::default(), self, spikes, out);
            }
        }
    }

    /// Gradient of [`Pool::average`] with respect to its input, which is overwritten.
    pub fn average_gradient(&self, d_out: &[f32], d_in: &mut [f32]) {
        let (n, scale) = (self.n_images(d_out.len()), self.scale());
        assert_eq!(d_in.len(), n * self.input.len(), "one gradient a neuron");
        d_in.fill(0.0);
        let n_channels = self.input.channels;
        self.pixels(n, |_, from, to| {
            let from = &mut d_in[from * n_channels..][..n_channels];
            let to = &d_out[to * n_channels..][..n_channels];
            from.iter_mut().zip(to).for_each(|(f, &t)| *f += scale * t);
        });
    }

    /// Largest value of each window, and which pixel of the window it was (counted row by row; the
    /// first of equals).
    pub fn max(&self, x: &[f32], out: &mut [f32], winners: &mut [u8]) {
        let n = self.n_images(out.len());
        assert_eq!(x.len(), n * self.input.len(), "one value a neuron");
        assert_eq!(winners.len(), out.len(), "one winner an output");
        out.fill(f32::NEG_INFINITY);
        let n_channels = self.input.channels;
        self.pixels(n, |pixel, from, to| {
            let from = &x[from * n_channels..][..n_channels];
            let out = &mut out[to * n_channels..][..n_channels];
            let winners = &mut winners[to * n_channels..][..n_channels];
            for ((out, winner), &x) in out.iter_mut().zip(winners).zip(from) {
                // A window's first pixel always wins at first, and NaN is never replaced.
                if x > *out || *out == f32::NEG_INFINITY {
                    (*out, *winner) = (x, pixel);
                }
            }
        });
    }

    /// A spike where any neuron of the window fires.
    pub fn max_spikes(&self, spikes: SpikeView<'_>) -> Spikes {
        let n = spikes.n_images();
        self.assert_spikes(spikes, n);
        let shape = self.output();
        let mut out = Spikes::silent(shape, n);
        let n_channels = self.input.channels;
        self.pixels(n, |_, from, to| {
            let from_row = spikes.row(0, from / self.input.width);
            let to_row =
                out.row_mut(to / shape.width / shape.height, to / shape.width % shape.height);
            let (from, to) = (from % self.input.width, to % shape.width);
            or_bits(to_row, to * n_channels, from_row, from * n_channels, n_channels);
        });
        out
    }

    /// The winners of [`Pool::max_spikes`]: the first neuron of the window that fires, or the
    /// first of all.
    pub fn spike_winners(&self, spikes: SpikeView<'_>, winners: &mut [u8]) {
        /// Set while no neuron of the window was seen to fire.
        const SILENT: u8 = 0x80;
        let n = self.n_images(winners.len());
        self.assert_spikes(spikes, n);
        let (n_channels, mut window) = (self.input.channels, usize::MAX);
        self.pixels(n, |pixel, from, to| {
            let words = spikes.row(0, from / self.input.width);
            let first = from % self.input.width * n_channels;
            let winners = &mut winners[to * n_channels..][..n_channels];
            if to != window {
                window = to;
                winners.fill(pixel | SILENT);
            }
            for (block, winners) in winners.chunks_mut(LANES).enumerate() {
                let mut bits = some_bits(words, first + block * LANES, winners.len());
                while bits != 0 {
                    let winner = &mut winners[bits.trailing_zeros() as usize];
                    if *winner & SILENT != 0 {
                        *winner = pixel;
                    }
                    bits &= bits - 1;
                }
            }
        });
        winners.iter_mut().for_each(|winner| *winner &= !SILENT);
    }

    /// Gradient of a maximum with respect to its input, which is overwritten: each output's
    /// gradient goes to its winner.
    pub fn max_gradient(&self, winners: &[u8], d_out: &[f32], d_in: &mut [f32]) {
        let n = self.n_images(d_out.len());
        assert_eq!(winners.len(), d_out.len(), "one winner an output");
        assert_eq!(d_in.len(), n * self.input.len(), "one gradient a neuron");
        d_in.fill(0.0);
        let n_channels = self.input.channels;
        self.pixels(n, |pixel, from, to| {
            let d_in = &mut d_in[from * n_channels..][..n_channels];
            let d_out = &d_out[to * n_channels..][..n_channels];
            let winners = &winners[to * n_channels..][..n_channels];
            for ((d_in, &d_out), &winner) in d_in.iter_mut().zip(d_out).zip(winners) {
                // Without a branch, so that it becomes vector instructions.
                *d_in += if winner == pixel { d_out } else { 0.0 };
            }
        });
    }

    /// Visits the pixels of every window: its place in the window, its index among the input's
    /// pixels, the window's index among the output's.
    fn pixels(&self, n_images: usize, mut visit: impl FnMut(u8, usize, usize)) {
        let (x, y) = (self.input, self.output());
        let [rows, columns] = self.window;
        assert!(rows * columns < 128, "a window has at most 127 pixels");
        for row in 0..n_images * y.height {
            let (image, oy) = (row / y.height, row % y.height);
            for ox in 0..y.width {
                for pixel in 0..rows * columns {
                    let (wr, wc) = (pixel / columns, pixel % columns);
                    let iy = (oy * self.stride[0] + wr).wrapping_sub(self.padding[0]);
                    let ix = (ox * self.stride[1] + wc).wrapping_sub(self.padding[1]);
                    if iy < x.height && ix < x.width {
                        let from = (image * x.height + iy) * x.width + ix;
                        visit(pixel as u8, from, row * y.width + ox);
                    }
                }
            }
        }
    }

    /// Number of images of an output of `len` values.
    fn n_images(&self, len: usize) -> usize {
        let image = self.output().len();
        assert!(len.is_multiple_of(image), "outputs are whole images");
        len / image
    }

    fn assert_spikes(&self, spikes: SpikeView<'_>, n_images: usize) {
        assert_eq!(spikes.shape(), self.input, "the spikes have the input's shape");
        assert_eq!(spikes.n_images(), n_images, "as many images in as out");
    }

    /// One over the number of pixels of a window.
    fn scale(&self) -> f32 {
        1.0 / (self.window[0] * self.window[1]) as f32
    }
}

dispatch! {
    /// [`Pool::average`] of spikes.
    fn average_spikes(pool: &Pool, spikes: SpikeView<'_>, out: &mut [f32]) = average_spikes_body::<V>;
}

#[inline(always)]
fn average_spikes_body<V: Vector>(pool: &Pool, spikes: SpikeView<'_>, out: &mut [f32]) {
    let (x, y) = (pool.input, pool.output());
    let scale = V::splat(pool.scale());
    for (pixel, out) in out.chunks_exact_mut(y.channels).enumerate() {
        let (image, row, column) =
            (pixel / (y.height * y.width), pixel / y.width % y.height, pixel % y.width);
        let (top, left) = (row * pool.stride[0], column * pool.stride[1]);
        let rows = top.saturating_sub(pool.padding[0])
            ..(top + pool.window[0]).saturating_sub(pool.padding[0]).min(x.height);
        let columns = left.saturating_sub(pool.padding[1])
            ..(left + pool.window[1]).saturating_sub(pool.padding[1]).min(x.width);
        for (block, out) in out.chunks_mut(LANES).enumerate() {
            let mut count = V::splat(0.0);
            for row in rows.clone() {
                let words = spikes.row(image, row);
                for column in columns.clone() {
                    let at = column * x.channels + block * LANES;
                    count = count.plus_bits(some_bits(words, at, out.len()));
                }
            }
            let mean = V::splat(0.0).plus_product(count, scale);
            let mut lanes = [0.0; LANES];
            // SAFETY: `lanes` is one block.
            unsafe { mean.store(lanes.as_mut_ptr()) };
            out.copy_from_slice(&lanes[..out.len()]);
        }
    }
}

/// `n` bits of `from`, beginning with `first`, are added by OR to those of `to`, beginning with
/// `at`.
fn or_bits(to: &mut [u64], at: usize, from: &[u64], first: usize, n: usize) {
    let mut done = 0;
    while done < n {
        let (f, t) = (first + done, at + done);
        let take = (WORD - f % WORD).min(WORD - t % WORD).min(n - done);
        let mask = u64::MAX >> (WORD - take);
        to[t / WORD] |= (from[f / WORD] >> (f % WORD) & mask) << (t % WORD);
        done += take;
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference;
    use super::*;

    fn pools() -> Vec<Pool> {
        let wide = Shape::new(70, 5, 7);
        vec![
            Pool::square(Shape::new(3, 8, 6), 2),
            Pool::square(wide, 2),
            Pool::global(wide),
            Pool { input: wide, window: [3, 2], stride: [2, 1], padding: [1, 1] },
        ]
    }

    /// Index and window place of the neurons of the window of output `o`.
    fn window(pool: &Pool, o: usize) -> Vec<(usize, u8)> {
        let (x, y) = (pool.input, pool.output());
        let (channel, ox) = (o % y.channels, o / y.channels % y.width);
        let (oy, image) = (o / y.channels / y.width % y.height, o / y.len());
        let mut found = Vec::new();
        for (place, (r, c)) in
            (0..pool.window[0]).flat_map(|r| (0..pool.window[1]).map(move |c| (r, c))).enumerate()
        {
            let iy = (oy * pool.stride[0] + r) as isize - pool.padding[0] as isize;
            let ix = (ox * pool.stride[1] + c) as isize - pool.padding[1] as isize;
            if (0..x.height as isize).contains(&iy) && (0..x.width as isize).contains(&ix) {
                let pixel = (image * x.height + iy as usize) * x.width + ix as usize;
                found.push((pixel * x.channels + channel, place as u8));
            }
        }
        found
    }

    #[test]
    fn averages_and_their_gradients() {
        for pool in pools() {
            let n = 2;
            let n_out = n * pool.output().len();
            let area = (pool.window[0] * pool.window[1]) as f64;
            let x = reference::binary(n * pool.input.len(), 0.3, 0);
            let spikes = Spikes::from_dense(pool.input, &x);
            let want: Vec<f64> = (0..n_out)
                .map(|o| window(&pool, o).iter().map(|&(i, _)| f64::from(x[i])).sum::<f64>() / area)
                .collect();
            let mut y = vec![9.0; n_out];
            pool.average(Input::Dense(&x), &mut y);
            reference::assert_close("average", &y, &want, 1e-6);
            let mut of_spikes = vec![9.0; n_out];
            pool.average(Input::Spikes(spikes.view()), &mut of_spikes);
            assert_eq!(y, of_spikes);
            let dy = reference::values(n_out, 1);
            let mut want = vec![0.0; x.len()];
            for o in 0..n_out {
                window(&pool, o).iter().for_each(|&(i, _)| want[i] += f64::from(dy[o]) / area);
            }
            let mut dx = vec![9.0; x.len()];
            pool.average_gradient(&dy, &mut dx);
            reference::assert_close("gradient", &dx, &want, 1e-6);
        }
    }

    #[test]
    fn maxima_and_their_gradients() {
        for (pool, spiking) in pools().into_iter().flat_map(|p| [(p, false), (p, true)]) {
            let n = 2;
            let n_out = n * pool.output().len();
            let x = match spiking {
                true => reference::binary(n * pool.input.len(), 0.2, 0),
                false => reference::values(n * pool.input.len(), 0),
            };
            // The first of the largest.
            let best = |o: usize| {
                let window = window(&pool, o);
                window.iter().fold(window[0], |b, &w| if x[w.0] > x[b.0] { w } else { b })
            };
            let (mut y, mut winners) = (vec![9.0; n_out], vec![99; n_out]);
            pool.max(&x, &mut y, &mut winners);
            assert!((0..n_out).all(|o| y[o] == x[best(o).0] && winners[o] == best(o).1));
            if spiking {
                let spikes = Spikes::from_dense(pool.input, &x);
                let pooled = pool.max_spikes(spikes.view());
                assert_eq!(pooled, Spikes::from_dense(pool.output(), &y));
                let mut of_spikes = vec![99; n_out];
                pool.spike_winners(spikes.view(), &mut of_spikes);
                assert_eq!(winners, of_spikes);
            }
            let dy = reference::values(n_out, 1);
            let mut want = vec![0.0; x.len()];
            (0..n_out).for_each(|o| want[best(o).0] += f64::from(dy[o]));
            let mut dx = vec![9.0; x.len()];
            pool.max_gradient(&winners, &dy, &mut dx);
            reference::assert_close("gradient", &dx, &want, 1e-6);
        }
    }
}
