//! Encoders: from images to what a learner reads.
//!
//! An encoder may first be fitted to the training images (scaling limits, whitening, or a whole
//! unsupervised feature extractor). A fitted encoder is a pure function of the image.

pub mod softhebb;

use crate::error::Result;
use crate::event::Figure;
use crate::seed::Seed;
use crate::spikes::{Images, Inputs, Shape};
use crate::state::State;

/// Reports progress of a long stage as (done, total); an error means the user wants to stop.
pub type Tick<'a> = &'a mut dyn FnMut(u64, u64) -> Result<()>;

/// An encoder after fitting: a pure function from images to inputs, and what it remembers.
pub trait FittedEncoder: Send + Sync {
    /// Shape of one encoded sample.
    fn shape(&self) -> Shape;

    /// Encodes all images, in order; the result does not depend on the number of threads.
    ///
    /// # Errors
    ///
    /// If the images do not have the shape the encoder was fitted to.
    fn encode(&self, images: &Images, tick: Tick<'_>) -> Result<Inputs>;

    /// Everything that was fitted; empty for encoders without memory.
    fn state(&self) -> State;

    /// Pictures for the report, for example learned filters.
    fn figures(&self) -> Vec<Figure> {
        Vec::new()
    }
}

/// Fits an encoder; implemented by the parameters of each encoder.
pub trait FitEncoder {
    /// Learns what the encoder needs from the training images.
    ///
    /// # Errors
    ///
    /// If the images do not suit the encoder.
    fn fit(&self, train: &Images, seed: Seed, tick: Tick<'_>) -> Result<Box<dyn FittedEncoder>>;

    /// Puts back what [`FittedEncoder::state`] gave, for images of `shape`.
    ///
    /// # Errors
    ///
    /// If an array is missing or does not fit.
    fn restore(&self, shape: Shape, state: &State) -> Result<Box<dyn FittedEncoder>>;
}
