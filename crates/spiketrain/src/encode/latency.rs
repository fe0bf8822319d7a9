//! Latency coding: the larger the value, the earlier the spike.

use super::{FitEncoder, FittedEncoder, Tick};
use crate::check::Checks;
use crate::error::Result;
use crate::seed::Seed;
use crate::spikes::{Images, Inputs, Shape, Times};
use crate::state::State;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// t = max(0, 1 − v); a value of 0 (t = 1) is no spike. Times are fractions of the window.
#[inline]
pub fn latency(value: f32) -> f32 {
    (1.0 - value).max(0.0)
}

/// Parameters of `[encode.latency]`: none.
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
struct Latency(Shape);

impl FittedEncoder for Latency {
    fn shape(&self) -> Shape {
        self.0
    }

    fn encode(&self, images: &Images, tick: Tick<'_>) -> Result<Inputs> {
        super::check_shape(images, self.0)?;
        let mut out = Times::new(self.0)?;
        for part in super::parts(images.len()) {
            let times: Vec<Times> = part
                .clone()
                .into_par_iter()
                .map(|i| {
                    let mut values = vec![0.0; self.0.len()];
                    images.read(i, &mut values);
                    values.iter_mut().for_each(|v| *v = latency(*v));
                    let mut one = Times::new(self.0)?;
                    one.push_dense(&values, 1.0);
                    Ok(one)
                })
                .collect::<Result<_>>()?;
            times.iter().for_each(|t| out.append(t));
            tick(part.end as u64, images.len() as u64)?;
        }
        Ok(Inputs::Times(out))
    }

    fn state(&self) -> State {
        State::new()
    }
}

impl FitEncoder for Params {
    fn fit(&self, train: &Images, _: Seed, _: Tick<'_>) -> Result<Box<dyn FittedEncoder>> {
        Ok(Box::new(Latency(train.shape)))
    }

    fn restore(&self, shape: Shape, _: &State) -> Result<Box<dyn FittedEncoder>> {
        Ok(Box::new(Latency(shape)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bright_pixels_fire_first_and_black_ones_never() {
        let images = Images::from_floats(Shape::flat(4), vec![0.0, 1.0, 0.25, 2.0]);
        let encoder = Params {}.fit(&images, Seed(0), &mut |_, _| Ok(())).unwrap();
        let inputs = encoder.encode(&images, &mut |_, _| Ok(())).unwrap();
        let events = inputs.as_times().sample(0);
        assert_eq!(
            (events.neurons, events.times),
            ([1, 3, 2].as_slice(), [0.0, 0.0, 0.75].as_slice())
        );
    }
}
