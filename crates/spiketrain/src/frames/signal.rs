//! What passes from layer to layer over a block of time steps.

use super::kernel::{Input, Spikes};
use crate::spikes::Shape;
use std::ops::Range;

/// All steps of all samples of a batch at one place of a network. Image `t · n_samples + n` is
/// step t of sample n; every image is `[row, column, channel]`.
#[derive(Clone, Debug)]
pub struct Signal {
    /// Shape of one image.
    pub shape: Shape,
    /// Time steps.
    pub n_steps: usize,
    /// Samples.
    pub n_samples: usize,
    /// The values.
    pub data: Data,
}

/// Values of a [`Signal`].
#[derive(Clone, Debug)]
pub enum Data {
    /// Any values, `[time, sample, row, column, channel]`.
    Values(Vec<f32>),
    /// Values that are the same at every step, `[sample, row, column, channel]`: a still image and
    /// all that is computed from it before the first neuron.
    Steady(Vec<f32>),
    /// Spikes of value 1.
    Spikes(Spikes),
}

/// A gradient with respect to a [`Signal`]: one value for each that is stored, so for a steady
/// signal the sum over its steps.
pub type Gradient = Vec<f32>;

impl Signal {
    /// Images that are stored: one a sample for a steady signal, else one a step and sample.
    pub fn n_images(&self) -> usize {
        match self.data {
            Data::Steady(_) => self.n_samples,
            Data::Values(_) | Data::Spikes(_) => self.n_steps * self.n_samples,
        }
    }

    /// Number of values of a gradient with respect to this signal.
    pub fn gradient_len(&self) -> usize {
        self.n_images() * self.shape.len()
    }

    /// Some of the stored images, as the kernels read them.
    pub fn images(&self, range: Range<usize>) -> Input<'_> {
        let n = self.shape.len();
        match &self.data {
            Data::Values(v) | Data::Steady(v) => Input::Dense(&v[range.start * n..range.end * n]),
            Data::Spikes(spikes) => Input::Spikes(spikes.images(range)),
        }
    }

    /// All stored images.
    pub fn all(&self) -> Input<'_> {
        self.images(0..self.n_images())
    }

    /// The same signal with its values written out: spikes become ones and zeros.
    pub fn into_dense(self) -> Self {
        let data = match self.data {
            Data::Spikes(ref spikes) => {
                let mut values = vec![0.0; self.gradient_len()];
                spikes.view().write_dense(&mut values);
                Data::Values(values)
            }
            data => data,
        };
        Self { data, ..self }
    }

    /// The values of every step, `[time, sample, row, column, channel]`.
    pub fn into_values(self) -> Vec<f32> {
        let n_steps = self.n_steps;
        match self.into_dense().data {
            Data::Values(values) => values,
            Data::Steady(values) => values.repeat(n_steps),
            Data::Spikes(_) => unreachable!("spikes were written out"),
        }
    }

    /// The stored values of a dense signal.
    ///
    /// # Panics
    ///
    /// If it holds spikes.
    pub fn values(&self) -> &[f32] {
        match &self.data {
            Data::Values(v) | Data::Steady(v) => v,
            Data::Spikes(_) => panic!("values are read from a dense signal"),
        }
    }

    /// True if the values are the same at every step and stored once.
    pub fn is_steady(&self) -> bool {
        matches!(self.data, Data::Steady(_))
    }

    /// A signal like this one with other values of `shape`, as many images as are stored here.
    pub fn with_dense(&self, shape: Shape, values: Vec<f32>) -> Self {
        assert_eq!(values.len(), self.n_images() * shape.len(), "values fill the images");
        let data = if self.is_steady() { Data::Steady(values) } else { Data::Values(values) };
        Self { shape, data, ..*self }
    }

    /// Bytes it takes.
    pub fn n_bytes(&self) -> usize {
        match &self.data {
            Data::Values(v) | Data::Steady(v) => 4 * v.len(),
            Data::Spikes(s) => 8 * s.n_images() * Spikes::words_per_image(s.shape()),
        }
    }
}
