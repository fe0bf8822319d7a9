//! Frames: a sequence of images that enters a clocked network step by step.

use super::{FitEncoder, FittedEncoder, Tick};
use crate::check::Checks;
use crate::error::Result;
use crate::seed::Seed;
use crate::spikes::{Frames, Images, Inputs, Shape};
use crate::state::State;
use serde::{Deserialize, Serialize};

/// Parameters of `[encode.frames]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// Channels of one frame; a sample has its frames one after another in its channels. Recordings
    /// of events have two, for pixels that turned darker and for those that turned brighter.
    pub channels: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self { channels: 2 }
    }
}

impl Params {
    /// What is wrong with the values.
    pub fn check(&self) -> Checks {
        let mut checks = Checks::default();
        checks.count("channels", self.channels, 1, 1 << 16);
        checks
    }
}

#[derive(Debug)]
struct InFrames {
    /// Shape of a sample, all frames.
    from: Shape,
    /// Shape of a frame.
    to: Shape,
}

impl FittedEncoder for InFrames {
    fn shape(&self) -> Shape {
        self.to
    }

    fn encode(&self, images: &Images, _: Tick<'_>) -> Result<Inputs> {
        super::check_shape(images, self.from)?;
        Ok(Inputs::Frames(Frames::new(images.clone(), self.to.channels)?))
    }

    fn state(&self) -> State {
        State::new()
    }
}

impl FitEncoder for Params {
    fn fit(&self, train: &Images, _: Seed, _: Tick<'_>) -> Result<Box<dyn FittedEncoder>> {
        self.restore(train.shape, &State::new())
    }

    fn restore(&self, shape: Shape, _: &State) -> Result<Box<dyn FittedEncoder>> {
        Frames::n_steps_of(shape, self.channels)
            .map_err(|e| e.context("encode.frames.channels"))?;
        Ok(Box::new(InFrames { from: shape, to: Shape { channels: self.channels, ..shape } }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_become_steps() {
        let images = Images::from_counts(Shape::new(6, 1, 2), (0..24).collect());
        let encoder = Params::default().fit(&images, Seed(0), &mut |_, _| Ok(())).unwrap();
        assert_eq!(encoder.shape(), Shape::new(2, 1, 2));
        let Inputs::Frames(frames) = encoder.encode(&images, &mut |_, _| Ok(())).unwrap() else {
            panic!("frames")
        };
        let mut frame = [0.0; 4];
        frames.read(1, 2, &mut frame);
        assert_eq!((frames.n_steps(), frame), (3, [20.0, 21.0, 22.0, 23.0]));
        let error = Params { channels: 4 }.restore(images.shape, &State::new()).err().unwrap();
        let expected = "encode.frames.channels: images of 6 channels, expected a multiple of the 4";
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}
