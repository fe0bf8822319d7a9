//! Encoders: from images to what a learner reads.
//!
//! An encoder may first be fitted to the training images (scaling limits, whitening, or a whole
//! unsupervised feature extractor). A fitted encoder is a pure function of the image.

pub mod direct;
pub mod frames;
pub mod latency;
pub mod on_off;
pub mod pixel_latency;
pub mod resize;
pub mod softhebb;
pub mod stdp_csnn;
pub mod whiten;

use crate::check::Checks;
use crate::error::{Error, Result};
use crate::event::Figure;
use crate::seed::Seed;
use crate::spikes::{Images, Inputs, Notation, Shape};
use crate::state::State;
use serde::{Deserialize, Serialize};

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

/// The encoders a recipe can name: `[encode.latency]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoder {
    /// Images as they are.
    Direct(direct::Params),
    /// A sequence of frames, from a sample's channels.
    Frames(frames::Params),
    /// The larger the value, the earlier the spike.
    Latency(latency::Params),
    /// Pixel p fires at 1 − p/256, with noise that stays the same for every presentation.
    PixelLatency(pixel_latency::Params),
    /// Images at another size.
    Resize(resize::Params),
    /// Three convolutional layers trained by a soft winner-take-all Hebbian rule.
    Softhebb(softhebb::Params),
    /// One convolutional layer trained by unsupervised STDP.
    StdpCsnn(stdp_csnn::Params),
    /// Whole images, whitened by their spectrum.
    Whiten(whiten::Params),
}

impl Default for Encoder {
    fn default() -> Self {
        Encoder::Direct(direct::Params::default())
    }
}

impl Encoder {
    /// Names of all encoders, with what they do.
    pub const ALL: &'static [(&'static str, &'static str)] = &[
        ("direct", "images as they are"),
        ("frames", "a sequence of frames, which a sample has one after another in its channels"),
        ("latency", "the larger the value, the earlier the spike"),
        ("pixel-latency", "pixel p fires at 1 − p/256, possibly with noise drawn once per image"),
        ("resize", "images at another size, by smoothed bilinear interpolation"),
        ("softhebb", "three convolutional layers trained by a soft winner-take-all Hebbian rule"),
        ("stdp-csnn", "one convolutional spiking layer trained by unsupervised STDP"),
        ("whiten", "images whitened by their spectrum"),
    ];

    /// Name in recipes.
    pub fn name(&self) -> &'static str {
        match self {
            Encoder::Direct(_) => "direct",
            Encoder::Frames(_) => "frames",
            Encoder::Latency(_) => "latency",
            Encoder::PixelLatency(_) => "pixel-latency",
            Encoder::Resize(_) => "resize",
            Encoder::Softhebb(_) => "softhebb",
            Encoder::StdpCsnn(_) => "stdp-csnn",
            Encoder::Whiten(_) => "whiten",
        }
    }

    /// What it gives.
    pub fn notation(&self) -> Notation {
        match self {
            Encoder::Direct(_) | Encoder::Resize(_) | Encoder::Whiten(_) => Notation::Images,
            Encoder::Frames(_) => Notation::Frames,
            Encoder::Latency(_)
            | Encoder::PixelLatency(_)
            | Encoder::Softhebb(_)
            | Encoder::StdpCsnn(_) => Notation::Times,
        }
    }

    /// Whether it learns from the training images; then it is worth keeping.
    pub fn needs_fit(&self) -> bool {
        matches!(self, Encoder::StdpCsnn(_) | Encoder::Softhebb(_))
    }

    /// What is wrong with the values.
    pub fn check(&self) -> Checks {
        match self {
            Encoder::Direct(p) => p.check(),
            Encoder::Frames(p) => p.check(),
            Encoder::Latency(p) => p.check(),
            Encoder::PixelLatency(p) => p.check(),
            Encoder::Resize(p) => p.check(),
            Encoder::Softhebb(p) => p.check(),
            Encoder::StdpCsnn(p) => p.check(),
            Encoder::Whiten(p) => p.check(),
        }
    }

    fn params(&self) -> &dyn FitEncoder {
        match self {
            Encoder::Direct(p) => p,
            Encoder::Frames(p) => p,
            Encoder::Latency(p) => p,
            Encoder::PixelLatency(p) => p,
            Encoder::Resize(p) => p,
            Encoder::Softhebb(p) => p,
            Encoder::StdpCsnn(p) => p,
            Encoder::Whiten(p) => p,
        }
    }

    /// Learns what the encoder needs from the training images.
    ///
    /// # Errors
    ///
    /// If the images do not suit the encoder, or the user stops it.
    pub fn fit(
        &self,
        train: &Images,
        seed: Seed,
        tick: Tick<'_>,
    ) -> Result<Box<dyn FittedEncoder>> {
        self.params().fit(train, seed, tick)
    }

    /// Puts back what [`FittedEncoder::state`] gave, for images of `shape`.
    ///
    /// # Errors
    ///
    /// If an array is missing or does not fit.
    pub fn restore(&self, shape: Shape, state: &State) -> Result<Box<dyn FittedEncoder>> {
        self.params().restore(shape, state)
    }
}

/// Ranges of at most 1,000 images, the unit of progress; they do not depend on threads.
fn parts(n: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..n).step_by(1000).map(move |i| i..(i + 1000).min(n))
}

fn check_shape(images: &Images, expected: Shape) -> Result<()> {
    if images.shape == expected {
        return Ok(());
    }
    let found = images.shape;
    Err(Error::data(format!("images of shape {found}, the encoder was made for {expected}")))
}
