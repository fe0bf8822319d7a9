//! Rows of images as the loops over time read them: factors written out along a row, the images of
//! a signal, shards of samples.

use super::super::norm::{Affine, PerStep};
use super::super::shards;
use super::super::signal::Signal;
use crate::simd::{LANES, Vector, load_lanes, prefetch, store_lanes};
use crate::spikes::Shape;
use std::ops::Range;

/// Blocks of a row that are worked on for all steps at a time: those of one word of spikes, few
/// enough that they stay in registers.
pub(crate) const BLOCKS: usize = 4;

/// Values of as many blocks.
pub(crate) const PART: usize = BLOCKS * LANES;

/// A part of a row of a sample.
pub(crate) struct Part {
    /// The sample.
    pub(crate) n: usize,
    /// Its word among those of an image's spikes.
    pub(crate) word: usize,
    /// First value of the row in its image.
    first: usize,
    /// Its place in the row.
    pub(super) along: Range<usize>,
}

impl Part {
    /// Its values of an image, and zeros.
    #[inline(always)]
    pub(crate) fn load<V: Vector>(&self, image: &[f32]) -> [V; BLOCKS] {
        load_lanes(&image[self.first..][self.along.clone()])
    }

    /// Writes its values to an image.
    #[inline(always)]
    pub(crate) fn store<V: Vector>(&self, values: &[V; BLOCKS], image: &mut [f32]) {
        store_lanes(values, &mut image[self.first..][self.along.clone()]);
    }

    /// A bit for each of its values.
    #[inline(always)]
    pub(crate) fn lanes(&self) -> u64 {
        u64::MAX >> (PART - self.along.len())
    }

    /// Asks for values of an image ahead of their use: those of a part are read from one image
    /// after another, too far apart for the machine to see by itself what comes next.
    #[inline(always)]
    pub(crate) fn prefetch_ahead(&self, image: &[f32]) {
        /// Values ahead, as measured.
        const AHEAD: usize = 4 * PART;
        prefetch(image, self.first + self.along.start + AHEAD);
    }
}

/// Factors per step, written out along one row `[column, channel]` of an image.
pub(crate) struct Tiles {
    n_steps: usize,
    row: usize,
    values: Vec<f32>,
}

impl Tiles {
    pub(crate) fn new(of: &PerStep, shape: Shape) -> Self {
        let row = shape.width * shape.channels;
        let mut values = Vec::with_capacity(of.n_steps * row);
        for step in of.values.chunks_exact(shape.channels) {
            for _ in 0..shape.width {
                values.extend(step.iter().map(|&v| v as f32));
            }
        }
        Self { n_steps: of.n_steps, row, values }
    }

    pub(crate) fn filled(value: f32, shape: Shape) -> Self {
        let row = shape.width * shape.channels;
        Self { n_steps: 1, row, values: vec![value; row] }
    }

    #[inline(always)]
    pub(crate) fn at(&self, t: usize) -> &[f32] {
        let step = if self.n_steps == 1 { 0 } else { t };
        &self.values[step * self.row..][..self.row]
    }
}

/// The affine map as the loops read it.
pub(crate) struct AffineTiles {
    pub(crate) scale: Tiles,
    pub(crate) shift: Tiles,
}

impl AffineTiles {
    pub(crate) fn new(affine: Option<&Affine>, shape: Shape) -> Self {
        match affine {
            Some(a) => {
                Self { scale: Tiles::new(&a.scale(), shape), shift: Tiles::new(&a.shift(), shape) }
            }
            None => Self { scale: Tiles::filled(1.0, shape), shift: Tiles::filled(0.0, shape) },
        }
    }

    /// `x = scale·y + shift`.
    #[inline(always)]
    pub(crate) fn apply(&self, t: usize, y: &[f32], x: &mut [f32]) {
        let (scale, shift) = (self.scale.at(t), self.shift.at(t));
        for (((x, &y), &a), &b) in x.iter_mut().zip(y).zip(scale).zip(shift) {
            *x = a * y + b;
        }
    }
}

impl AffineTiles {
    /// The same for a part of an image.
    #[inline(always)]
    pub(crate) fn blocks<V: Vector>(&self, t: usize, part: &Part, image: &[f32]) -> [V; BLOCKS] {
        let scale: [V; BLOCKS] = load_lanes(&self.scale.at(t)[part.along.clone()]);
        let shift: [V; BLOCKS] = load_lanes(&self.shift.at(t)[part.along.clone()]);
        let mut x: [V; BLOCKS] = part.load(image);
        for b in 0..BLOCKS {
            x[b] = scale[b].times(x[b]).plus(shift[b]);
        }
        x
    }
}

/// The input of a pass, and where its images are.
#[derive(Clone, Copy)]
pub(crate) struct Images<'a> {
    values: &'a [f32],
    is_steady: bool,
    pub(crate) n_samples: usize,
    pub(crate) n_steps: usize,
    pub(crate) shape: Shape,
}

impl<'a> Images<'a> {
    pub(crate) fn new(input: &'a Signal) -> Self {
        let Signal { shape, n_steps, n_samples, .. } = *input;
        let (values, is_steady) = (input.values(), input.is_steady());
        Self { values, is_steady, n_samples, n_steps, shape }
    }

    /// Sample `n` at step `t`; steady values have one step.
    #[inline(always)]
    pub(crate) fn at(&self, t: usize, n: usize) -> &'a [f32] {
        let image = if self.is_steady { n } else { t * self.n_samples + n };
        &self.values[image * self.shape.len()..][..self.shape.len()]
    }

    /// The parts of sample `n`, row by row, the last of each row with what is left.
    #[inline(always)]
    pub(crate) fn parts(&self, n: usize) -> impl Iterator<Item = Part> {
        let (height, row) = (self.shape.height, self.row());
        let row_words = row.div_ceil(PART);
        (0..height * row_words).map(move |word| {
            let (first, along) = (word / row_words * row, word % row_words * PART);
            Part { n, word, first, along: along..row.min(along + PART) }
        })
    }

    /// Values of one row.
    #[inline(always)]
    pub(crate) fn row(&self) -> usize {
        self.shape.width * self.shape.channels
    }

    /// Shards of samples: the first of each, and the steps of each sample of `values`, which has
    /// `item` of them an image.
    pub(crate) fn shards<'v, T>(&self, values: &'v mut [T], item: usize) -> Vec<Shard<'v, T>> {
        let mut samples = shards::by_sample(values, self.n_samples, item).into_iter();
        let ranges = shards::of_images(self.n_samples).into_iter();
        let shard = |r: Range<usize>| Shard {
            first: r.start,
            samples: samples.by_ref().take(r.len()).collect(),
        };
        ranges.map(shard).collect()
    }
}

/// Samples that follow one another, each a list of its steps.
pub(crate) struct Shard<'v, T> {
    pub(crate) first: usize,
    pub(crate) samples: Vec<Vec<&'v mut [T]>>,
}
