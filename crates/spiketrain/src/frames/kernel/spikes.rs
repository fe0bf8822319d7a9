//! Spikes of many images, one bit a neuron.

use super::simd::{LANES, Simd, Vector, dispatch};
use crate::Shape;
use std::ops::Range;

/// Bits of one word.
pub(super) const WORD: usize = 64;

/// Spikes of many images of one shape. Bit `column · channels + channel` of row `r` says whether
/// that neuron fires; every row begins with a new word, and unused bits are zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Spikes {
    shape: Shape,
    bits: Vec<u64>,
}

/// A range of the images of [`Spikes`].
#[derive(Clone, Copy, Debug)]
pub struct SpikeView<'a> {
    shape: Shape,
    bits: &'a [u64],
}

/// Words of one row.
fn words_per_row(shape: Shape) -> usize {
    (shape.width * shape.channels).div_ceil(WORD)
}

impl Spikes {
    /// `n_images` images in which nothing fires.
    pub fn silent(shape: Shape, n_images: usize) -> Self {
        assert!(shape.len() > 0, "an image has neurons");
        Self { shape, bits: vec![0; n_images * shape.height * words_per_row(shape)] }
    }

    /// A spike for each value that is not zero; values are `[image, row, column, channel]`.
    pub fn from_dense(shape: Shape, values: &[f32]) -> Self {
        assert!(values.len().is_multiple_of(shape.len()), "values are whole images");
        let mut spikes = Self::silent(shape, values.len() / shape.len());
        let rows = values.chunks_exact(shape.width * shape.channels);
        for (row, values) in rows.enumerate() {
            spikes.write_row(row / shape.height, row % shape.height, values);
        }
        spikes
    }

    /// Shape of one image.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Number of images.
    pub fn n_images(&self) -> usize {
        self.view().n_images()
    }

    /// All images.
    pub fn view(&self) -> SpikeView<'_> {
        SpikeView { shape: self.shape, bits: &self.bits }
    }

    /// Some of the images.
    pub fn images(&self, range: Range<usize>) -> SpikeView<'_> {
        self.view().images(range)
    }

    /// Words of one row of one image, to be written; bits past the row's end must stay zero.
    pub fn row_mut(&mut self, image: usize, row: usize) -> &mut [u64] {
        assert!(row < self.shape.height, "the row exists");
        let n = words_per_row(self.shape);
        let start = (image * self.shape.height + row) * n;
        &mut self.bits[start..start + n]
    }

    /// Writes one row: a spike for each value that is not zero.
    pub fn write_row(&mut self, image: usize, row: usize, values: &[f32]) {
        assert_eq!(values.len(), self.shape.width * self.shape.channels, "values are a whole row");
        for (word, values) in self.row_mut(image, row).iter_mut().zip(values.chunks(WORD)) {
            *word = values.iter().rev().fold(0, |word, &v| word << 1 | u64::from(v != 0.0));
        }
    }

    /// The rows' words of all images, [`Spikes::words_per_image`] an image; for kernels that write
    /// in parallel. Bits past a row's end must stay zero.
    pub fn words_mut(&mut self) -> &mut [u64] {
        &mut self.bits
    }

    /// Words of one image: its rows, each a whole number of words.
    pub fn words_per_image(shape: Shape) -> usize {
        shape.height * words_per_row(shape)
    }
}

impl<'a> SpikeView<'a> {
    /// Shape of one image.
    pub fn shape(self) -> Shape {
        self.shape
    }

    /// Number of images.
    pub fn n_images(self) -> usize {
        self.bits.len() / Spikes::words_per_image(self.shape)
    }

    /// Some of the images.
    pub fn images(self, range: Range<usize>) -> SpikeView<'a> {
        let n = Spikes::words_per_image(self.shape);
        SpikeView { shape: self.shape, bits: &self.bits[range.start * n..range.end * n] }
    }

    /// Words of one row of one image.
    #[inline]
    pub fn row(self, image: usize, row: usize) -> &'a [u64] {
        let n = words_per_row(self.shape);
        let start = (image * self.shape.height + row) * n;
        &self.bits[start..start + n]
    }

    /// True if the neuron fires.
    #[inline]
    pub fn fires(self, image: usize, row: usize, column: usize, channel: usize) -> bool {
        let bit = column * self.shape.channels + channel;
        self.row(image, row)[bit / WORD] >> (bit % WORD) & 1 == 1
    }

    /// Number of spikes.
    pub fn count(self) -> usize {
        self.bits.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Spikes per neuron, 0 to 1.
    pub fn density(self) -> f64 {
        self.count() as f64 / (self.n_images() * self.shape.len()).max(1) as f64
    }

    /// Writes 1 where a neuron fires, else 0, as `[image, row, column, channel]`.
    pub fn write_dense(self, out: &mut [f32]) {
        assert_eq!(out.len(), self.n_images() * self.shape.len(), "one value a neuron");
        let rows = out.chunks_exact_mut(self.shape.width * self.shape.channels);
        for (row, words) in rows.zip(self.bits.chunks_exact(words_per_row(self.shape))) {
            expand_row(Simd::default(), words, row);
        }
    }

    /// Words of all rows, one row after another.
    pub(super) fn rows(self) -> impl Iterator<Item = &'a [u64]> {
        self.bits.chunks_exact(words_per_row(self.shape))
    }
}

/// `n` bits of a row from bit `at`, at most [`LANES`].
#[inline(always)]
pub(super) fn some_bits(words: &[u64], at: usize, n: usize) -> u32 {
    let (word, shift) = (at / WORD, at % WORD);
    let mut bits = words[word] >> shift;
    if shift + n > WORD {
        bits |= words[word + 1] << (WORD - shift);
    }
    bits as u32 & (u32::MAX >> (32 - n))
}

dispatch! {
    /// Writes 1 for each bit of a row that is set, else 0.
    pub(super) fn expand_row(words: &[u64], out: &mut [f32]) = expand_row_body::<V>;
}

#[inline(always)]
fn expand_row_body<V: Vector>(words: &[u64], out: &mut [f32]) {
    for (block, out) in out.chunks_mut(LANES).enumerate() {
        let bits = some_bits(words, block * LANES, out.len());
        let ones = V::splat(0.0).plus_bits(bits);
        if out.len() == LANES {
            // SAFETY: `out` holds one block.
            unsafe { ones.store(out.as_mut_ptr()) };
        } else {
            let mut lanes = [0.0; LANES];
            // SAFETY: `lanes` is one block.
            unsafe { ones.store(lanes.as_mut_ptr()) };
            out.copy_from_slice(&lanes[..out.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_and_values_are_two_forms_of_one_thing(
            (channels, height, width) in (1usize..70, 1usize..4, 1usize..5), seed in any::<u64>(),
        ) {
            let shape = Shape::new(channels, height, width);
            let mut stream = crate::Seed(seed).stream("spikes", 0);
            let dense: Vec<f32> =
                (0..3 * shape.len()).map(|_| f32::from(u8::from(stream.uniform() < 0.3))).collect();
            let spikes = Spikes::from_dense(shape, &dense);
            let mut back = vec![0.5; dense.len()];
            spikes.view().write_dense(&mut back);
            prop_assert_eq!(&back, &dense);
            prop_assert_eq!(spikes.view().count(), dense.iter().filter(|&&v| v == 1.0).count());
            let last = spikes.images(2..3);
            prop_assert_eq!(last.n_images(), 1);
            let at = |row: usize, column: usize, channel: usize| {
                dense[((2 * height + row) * width + column) * channels + channel] == 1.0
            };
            prop_assert_eq!(last.fires(0, height - 1, 0, channels - 1), at(height - 1, 0, channels - 1));
        }
    }
}
