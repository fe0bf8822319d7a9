//! Rows of images as the loops over time read them: factors written out along a row, the images of
//! a signal, shards of samples.

use super::super::norm::{Affine, PerStep};
use super::super::shards;
use super::super::signal::Signal;
use crate::spikes::Shape;
use std::ops::Range;

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
        &self.values[t % self.n_steps * self.row..][..self.row]
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
