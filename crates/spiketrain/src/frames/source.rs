//! From samples to the input of a network: augmentation in training, normalisation, time.

use super::net;
use super::signal::Signal;
use crate::augment::Augment;
use crate::check::Checks;
use crate::error::{Error, Result};
use crate::learner::{Batch, Ctx, Task};
use crate::spikes::{Inputs, Notation, Shape};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Settings: the table `input` of a method.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// Mean that is taken away, one for each channel or one for all; 0 if not given.
    pub mean: Vec<f32>,
    /// Standard deviation that is divided by, likewise; 1 if not given.
    pub deviation: Vec<f32>,
    /// Random changes of training images, in order, before normalisation.
    pub augment: Vec<Augment>,
}

impl Params {
    /// What is wrong with the values.
    pub fn check(&self) -> Checks {
        let mut c = Checks::default();
        self.mean.iter().for_each(|&m| c.finite("mean", f64::from(m)));
        self.deviation.iter().for_each(|&d| c.positive("deviation", f64::from(d)));
        for (i, augment) in self.augment.iter().enumerate() {
            c.nest(&format!("augment.{i}"), augment.check());
        }
        c
    }
}

/// Makes signals of samples. A still image is the same at every step (direct coding); frames enter
/// step by step.
#[derive(Clone, Debug)]
pub struct Source {
    shape: Shape,
    n_steps: usize,
    mean: Vec<f32>,
    scale: Vec<f32>,
    augment: Vec<Augment>,
}

impl Source {
    /// A source for `task`.
    ///
    /// # Errors
    ///
    /// If the samples have no notation it can read, or settings do not fit their channels.
    pub fn new(params: &Params, task: &Task, n_steps: usize) -> Result<Self> {
        if task.notation == Notation::Times {
            return Err(Error::recipe(
                "a clocked network reads images or frames, the encoder gives spike times",
            ));
        }
        let n = task.shape.channels;
        let wide = |name: &str, values: &[f32], default: f32| match values.len() {
            0 => Ok(vec![default; n]),
            1 => Ok(vec![values[0]; n]),
            k if k == n => Ok(values.to_vec()),
            k => Err(Error::recipe(format!(
                "input.{name} has {k} values, the data has {n} channels"
            ))),
        };
        if n != 3 && params.augment.contains(&Augment::AutoAugment) {
            return Err(Error::recipe(format!(
                "input.augment: auto-augment is for images of 3 channels, the data has {n}"
            )));
        }
        let mut scale = wide("deviation", &params.deviation, 1.0)?;
        scale.iter_mut().for_each(|s| *s = 1.0 / *s);
        Ok(Self {
            shape: task.shape,
            n_steps,
            mean: wide("mean", &params.mean, 0.0)?,
            scale,
            augment: params.augment.clone(),
        })
    }

    /// Samples for learning, augmented by `ctx`'s draws.
    ///
    /// # Errors
    ///
    /// If a sample has not one frame for every step of the network.
    pub fn training(&self, batch: &Batch<'_>, ctx: &Ctx) -> Result<Signal> {
        self.signal(batch, Some(ctx))
    }

    /// Samples as they are, normalised.
    ///
    /// # Errors
    ///
    /// If a sample has not one frame for every step of the network.
    pub fn plain(&self, batch: &Batch<'_>) -> Result<Signal> {
        self.signal(batch, None)
    }

    /// What values are multiplied by after the mean was taken away, one for each channel.
    pub fn scale(&self) -> &[f32] {
        &self.scale
    }

    fn signal(&self, batch: &Batch<'_>, ctx: Option<&Ctx>) -> Result<Signal> {
        let (shape, len) = (self.shape, self.shape.len());
        match batch.inputs {
            Inputs::Images(images) => {
                let mut values = vec![0.0; batch.len() * len];
                let samples = values.par_chunks_exact_mut(len).zip(batch.rows).enumerate();
                samples.for_each(|(i, (image, &row))| {
                    images.read(row, image);
                    self.prepare(image, ctx.map(|c| (c, i)));
                });
                Ok(net::steady(&values, shape, self.n_steps))
            }
            Inputs::Frames(frames) => {
                if frames.n_steps() != self.n_steps {
                    let (has, needs) = (frames.n_steps(), self.n_steps);
                    return Err(Error::data(format!(
                        "samples have {has} frames, the network takes {needs} steps; expected as many"
                    )));
                }
                let mut values = vec![0.0; self.n_steps * batch.len() * len];
                let images = values.par_chunks_exact_mut(len).enumerate();
                images.for_each(|(at, image)| {
                    let (t, i) = (at / batch.len(), at % batch.len());
                    frames.read(batch.rows[i], t, image);
                    self.prepare(image, ctx.map(|c| (c, i)));
                });
                Ok(net::values(&values, shape, self.n_steps))
            }
            Inputs::Times(_) => unreachable!("building the source refused spike times"),
        }
    }

    /// Augments (the same way at every step of a sample) and normalises.
    fn prepare(&self, image: &mut [f32], draw: Option<(&Ctx, usize)>) {
        if let Some((ctx, i)) = draw
            && !self.augment.is_empty()
        {
            let mut stream = ctx.seed.stream("augment", ctx.presentation(i));
            self.augment.iter().for_each(|a| a.apply(image, self.shape, &mut stream));
        }
        let planes = image.chunks_exact_mut(self.shape.height * self.shape.width);
        for ((plane, &mean), &scale) in planes.zip(&self.mean).zip(&self.scale) {
            plane.iter_mut().for_each(|v| *v = (*v - mean) * scale);
        }
    }
}

/// Labels of a batch.
///
/// # Errors
///
/// If a sample has none.
pub fn labels(batch: &Batch<'_>) -> Result<Vec<u16>> {
    let label = |&row: &usize| {
        let label = batch.labels.get(row).copied();
        label.ok_or_else(|| Error::data(format!("sample {row} has no label")))
    };
    batch.rows.iter().map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use crate::spikes::{Frames, Images};

    fn task(shape: Shape, notation: Notation) -> Task {
        Task { shape, notation, n_classes: 2, n_train: 2, seed: Seed(0) }
    }

    #[test]
    fn images_become_steady_and_frames_go_step_by_step() {
        let shape = Shape::new(2, 1, 2);
        let params = Params { mean: vec![0.5], deviation: vec![0.5, 0.25], ..Params::default() };
        let source = Source::new(&params, &task(shape, Notation::Images), 2).unwrap();
        let images = Images::from_floats(shape, vec![0.5, 1.0, 0.0, 0.5, 1.0, 1.0, 1.0, 1.0]);
        let inputs = Inputs::Images(images);
        let batch = Batch { inputs: &inputs, rows: &[0], labels: &[] };
        let signal = source.plain(&batch).unwrap();
        assert!(signal.is_steady());
        assert_eq!(signal.values(), [0.0, -2.0, 1.0, 0.0]);
        let both = Images::from_counts(Shape::new(4, 1, 2), (0..16).collect());
        let inputs = Inputs::Frames(Frames::new(both, 2).unwrap());
        let batch = Batch { inputs: &inputs, rows: &[1], labels: &[] };
        let source = Source::new(&Params::default(), &task(shape, Notation::Frames), 2).unwrap();
        assert_eq!(
            source.plain(&batch).unwrap().values(),
            [8.0, 10.0, 9.0, 11.0, 12.0, 14.0, 13.0, 15.0]
        );
        assert!(labels(&batch).unwrap_err().to_string().contains("sample 1 has no label"));
    }

    #[test]
    fn settings_that_do_not_fit_are_refused() {
        let params = Params { mean: vec![0.1, 0.2], ..Params::default() };
        let shape = Shape::new(3, 4, 4);
        let error = Source::new(&params, &task(shape, Notation::Images), 1).unwrap_err();
        assert!(error.to_string().contains("input.mean has 2 values, the data has 3 channels"));
        assert!(Source::new(&Params::default(), &task(shape, Notation::Times), 1).is_err());
    }
}
