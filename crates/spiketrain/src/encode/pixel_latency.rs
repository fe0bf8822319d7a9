//! Bytes as spike times, as the networks with alpha synapses read them: pixel p of 0..255 fires at
//! `1 − p/256`, a black pixel never.
//!
//! With noise η every time becomes `clamp(t + η(1 + z), 0, 1)`, z standard normal, a silent pixel
//! counting as t = 1; what ends at 1 is silent. Noise mostly delays or removes spikes, and creates
//! some. It is drawn once: an image has the same noise in every epoch, since the stream's index is
//! a hash of the image. The samples before noise are the [`Times::targets`].

use super::{FitEncoder, FittedEncoder, Tick};
use crate::check::Checks;
use crate::error::Result;
use crate::seed::Seed;
use crate::spikes::{Images, Inputs, Pixels, Shape, Times};
use crate::state::State;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Time from which an input counts as silent.
const SILENT_FROM: f64 = 1.0;

/// Which pixels fire early.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Coding {
    /// Bright ones: `t = 1 − p/256`; black is silent.
    #[default]
    Bright,
    /// Dark ones: `t = p/256`; nothing is silent.
    Dark,
    /// Both, as twice as many inputs.
    Both,
}

/// Parameters of `[encode.pixel-latency]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// Noise factor η, in units of the window; 0 = none.
    pub noise: f64,
    /// Which pixels fire early.
    pub coding: Coding,
}

impl Params {
    /// What is wrong with the values.
    pub fn check(&self) -> Checks {
        let mut c = Checks::default();
        c.within("noise", self.noise, 0.0, 10.0);
        c
    }
}

/// Time of a pixel of intensity `p` (0 to 255) that fires early when bright; 1 is silent.
pub fn pixel_time(p: f64) -> f64 {
    1.0 - p / 256.0
}

/// A time `t` (silent: 1) after noise of factor `noise` with standard normal draw `z`; 1 is silent.
pub fn noisy(t: f64, noise: f64, z: f64) -> f64 {
    (t + noise * (1.0 + z)).clamp(0.0, SILENT_FROM)
}

#[derive(Debug)]
struct PixelLatency {
    params: Params,
    shape: Shape,
    seed: Seed,
}

impl PixelLatency {
    /// Clean times of image `i`, 1 where silent.
    fn clean(&self, images: &Images, i: usize) -> Vec<f64> {
        let n = self.shape.len();
        let pixels: Vec<f64> = match &images.pixels {
            Pixels::Bytes(p) => p[i * n..(i + 1) * n].iter().map(|&b| f64::from(b)).collect(),
            Pixels::Counts(p) => {
                p[i * n..(i + 1) * n].iter().map(|&c| f64::from(c) * 255.0).collect()
            }
            Pixels::Floats(p) => {
                p[i * n..(i + 1) * n].iter().map(|&v| f64::from(v) * 255.0).collect()
            }
        };
        let bright = pixels.iter().map(|&p| pixel_time(p).clamp(0.0, SILENT_FROM));
        let dark = pixels.iter().map(|&p| (p / 256.0).clamp(0.0, SILENT_FROM));
        match self.params.coding {
            Coding::Bright => bright.collect(),
            Coding::Dark => dark.collect(),
            Coding::Both => bright.chain(dark).collect(),
        }
    }

    /// Adds noise that depends on the seed and the times alone.
    fn add_noise(&self, times: &mut [f64]) {
        let bytes = times.iter().flat_map(|t| t.to_bits().to_le_bytes());
        // FNV-1a: equal images have equal noise, others almost surely not.
        let index = bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let mut stream = self.seed.stream("pixel-latency.noise", index);
        times.iter_mut().for_each(|t| *t = noisy(*t, self.params.noise, stream.normal(0.0, 1.0)));
    }
}

impl FittedEncoder for PixelLatency {
    fn shape(&self) -> Shape {
        let factor = if self.params.coding == Coding::Both { 2 } else { 1 };
        Shape { channels: self.shape.channels * factor, ..self.shape }
    }

    fn encode(&self, images: &Images, tick: Tick<'_>) -> Result<Inputs> {
        super::check_shape(images, self.shape)?;
        let shape = self.shape();
        let (mut samples, mut targets) = (Times::new(shape)?, Times::new(shape)?);
        let push = |out: &mut Times, times: &[f64]| {
            let times: Vec<f32> = times.iter().map(|&t| t as f32).collect();
            out.push_dense(&times, SILENT_FROM as f32);
        };
        for part in super::parts(images.len()) {
            let both: Vec<(Vec<f64>, Vec<f64>)> = part
                .clone()
                .into_par_iter()
                .map(|i| {
                    let clean = self.clean(images, i);
                    let mut times = clean.clone();
                    if self.params.noise > 0.0 {
                        self.add_noise(&mut times);
                    }
                    (times, clean)
                })
                .collect();
            for (times, clean) in &both {
                push(&mut samples, times);
                if self.params.noise > 0.0 {
                    push(&mut targets, clean);
                }
            }
            tick(part.end as u64, images.len() as u64)?;
        }
        let is_noisy = self.params.noise > 0.0;
        Ok(Inputs::Times(if is_noisy { samples.with_targets(targets) } else { samples }))
    }

    fn state(&self) -> State {
        let mut state = State::new();
        state.put("seed", &[], vec![self.seed.0]);
        state
    }
}

impl FitEncoder for Params {
    fn fit(&self, train: &Images, seed: Seed, _: Tick<'_>) -> Result<Box<dyn FittedEncoder>> {
        Ok(Box::new(PixelLatency { params: self.clone(), shape: train.shape, seed }))
    }

    fn restore(&self, shape: Shape, state: &State) -> Result<Box<dyn FittedEncoder>> {
        let seed = Seed(state.scalar("seed")?);
        Ok(Box::new(PixelLatency { params: self.clone(), shape, seed }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(params: &Params, pixels: &[u8]) -> Times {
        let images = Images::from_bytes(Shape::flat(pixels.len()), pixels.to_vec());
        let fitted = params.fit(&images, Seed(5), &mut |_, _| Ok(())).unwrap();
        let again = params.restore(images.shape, &fitted.state()).unwrap();
        let inputs = fitted.encode(&images, &mut |_, _| Ok(())).unwrap();
        assert_eq!(again.encode(&images, &mut |_, _| Ok(())).unwrap(), inputs);
        inputs.as_times().clone()
    }

    #[test]
    fn bright_pixels_fire_early_and_black_ones_never() {
        let times = encode(&Params::default(), &[0, 1, 255, 128]);
        let events = times.sample(0);
        assert_eq!(events.neurons, [2, 3, 1]);
        assert_eq!(events.times, [0.003_906_25, 0.5, 0.996_093_75]);
        assert_eq!(times.targets(), &times);
        let dark = encode(&Params { coding: Coding::Dark, ..Params::default() }, &[0, 255]);
        assert_eq!(dark.sample(0).times, [0.0, 0.996_093_75]);
        let both = encode(&Params { coding: Coding::Both, ..Params::default() }, &[0, 255]);
        assert_eq!((both.shape.len(), both.sample(0).len()), (4, 3));
    }

    #[test]
    fn noise_delays_on_average_and_leaves_the_targets() {
        let pixels: Vec<u8> = (0..4000).map(|i| (i % 256) as u8).collect();
        let params = Params { noise: 0.1, ..Params::default() };
        let (noisy, clean) = (encode(&params, &pixels), encode(&Params::default(), &pixels));
        assert_eq!(noisy.targets(), &clean);
        let shift = |i: usize| {
            let (mut a, mut b) = (vec![0.0; 4000], vec![0.0; 4000]);
            noisy.read_dense(0, 1.0, &mut a);
            clean.read_dense(0, 1.0, &mut b);
            a[i] - b[i]
        };
        // Pixels in the middle of the range, where the clamp does not act.
        let inner: Vec<f32> =
            (0..4000).filter(|i| (100..150).contains(&(i % 256))).map(shift).collect();
        let mean = inner.iter().sum::<f32>() / inner.len() as f32;
        assert!((mean - 0.1).abs() < 0.02, "{mean}");
    }
}
