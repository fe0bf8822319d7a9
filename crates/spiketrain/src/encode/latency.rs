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

/// Parameters of `[encode.latency]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// Share of the window that the spikes lie in: a value v > 0 spikes at span · max(0, 1 − v).
    /// What is left of the window is there for the layers that come after.
    pub span: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self { span: 1.0 }
    }
}

impl Params {
    /// What is wrong with the values.
    pub fn check(&self) -> Checks {
        let mut c = Checks::default();
        c.within("span", self.span, 0.01, 1.0);
        c
    }
}

#[derive(Debug)]
struct Latency {
    shape: Shape,
    span: f32,
}

impl Latency {
    fn new(params: &Params, shape: Shape) -> Self {
        Self { shape, span: params.span as f32 }
    }

    fn time(&self, value: f32) -> f32 {
        let t = latency(value);
        if t < 1.0 { self.span * t } else { 1.0 }
    }
}

impl FittedEncoder for Latency {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn encode(&self, images: &Images, tick: Tick<'_>) -> Result<Inputs> {
        super::check_shape(images, self.shape)?;
        let mut out = Times::new(self.shape)?;
        for part in super::parts(images.len()) {
            let times: Vec<Times> = part
                .clone()
                .into_par_iter()
                .map(|i| {
                    let mut values = vec![0.0; self.shape.len()];
                    images.read(i, &mut values);
                    values.iter_mut().for_each(|v| *v = self.time(*v));
                    let mut one = Times::new(self.shape)?;
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
        Ok(Box::new(Latency::new(self, train.shape)))
    }

    fn restore(&self, shape: Shape, _: &State) -> Result<Box<dyn FittedEncoder>> {
        Ok(Box::new(Latency::new(self, shape)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bright_pixels_fire_first_and_black_ones_never() {
        let images = Images::from_floats(Shape::flat(4), vec![0.0, 1.0, 0.25, 2.0]);
        for (span, last) in [(1.0, 0.75), (0.5, 0.375)] {
            let encoder = Params { span }.fit(&images, Seed(0), &mut |_, _| Ok(())).unwrap();
            let inputs = encoder.encode(&images, &mut |_, _| Ok(())).unwrap();
            let events = inputs.as_times().sample(0);
            assert_eq!(
                (events.neurons, events.times),
                ([1, 3, 2].as_slice(), [0.0, 0.0, last].as_slice())
            );
        }
    }
}
