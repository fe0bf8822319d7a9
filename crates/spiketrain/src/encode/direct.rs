//! Images as they are, for methods that code their input themselves.

use super::{FitEncoder, FittedEncoder, Tick};
use crate::check::Checks;
use crate::error::Result;
use crate::seed::Seed;
use crate::spikes::{Images, Inputs, Shape};
use crate::state::State;
use serde::{Deserialize, Serialize};

/// Parameters of `[encode.direct]`: none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {}

impl Params {
    /// What is wrong with the values: nothing can be.
    pub fn check(&self) -> Checks {
        Checks::default()
    }
}

#[derive(Debug)]
struct Direct(Shape);

impl FittedEncoder for Direct {
    fn shape(&self) -> Shape {
        self.0
    }

    fn encode(&self, images: &Images, _: Tick<'_>) -> Result<Inputs> {
        super::check_shape(images, self.0)?;
        Ok(Inputs::Images(images.clone()))
    }

    fn state(&self) -> State {
        State::new()
    }
}

impl FitEncoder for Params {
    fn fit(&self, train: &Images, _: Seed, _: Tick<'_>) -> Result<Box<dyn FittedEncoder>> {
        Ok(Box::new(Direct(train.shape)))
    }

    fn restore(&self, shape: Shape, _: &State) -> Result<Box<dyn FittedEncoder>> {
        Ok(Box::new(Direct(shape)))
    }
}
