//! Features of a SoftHebb network as spike times.
//!
//! Three convolutional layers learn without labels and without feedback, by a Hebbian rule with
//! soft winner-takes-all and anti-Hebbian losers; all layers learn in the same pass over the
//! training images. A feature o of an image becomes the spike time t = 1 - o / max o, as a
//! fraction of the window, so the strongest feature fires first and a feature of 0 never fires.
//!
//! Paper: A. Journé, H. Garcia Rodriguez, Q. Guo, T. Moraitis, "Hebbian Deep Learning Without
//! Feedback", ICLR 2023, arXiv:2209.11883. Equations stand at [`Block`]. As input of a spiking
//! classifier: G. Goupy, P. Tirilly, I. M. Bilasco, "Neuronal Competition Groups with Supervised
//! STDP for Spike-Based Classification", NeurIPS 2024, arXiv:2410.17066.
//!
//! An image without any feature above 0 is encoded as a sample without events.

mod block;
mod fitted;
mod gemm;
mod maps;
mod math;
#[cfg(test)]
mod tests;

pub use block::{Block, Workspace};
pub use maps::Maps;

use crate::check::Checks;
use crate::encode::{FitEncoder, FittedEncoder, Tick};
use crate::error::{Error, Result};
use crate::seed::Seed;
use crate::spikes::{Images, Shape, Times};
use crate::state::State;
use fitted::Network;
use serde::{Deserialize, Serialize};

/// How a block pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pool {
    /// The largest value under the window; padding never wins.
    Max,
    /// The sum under the window divided by the window's area; padding counts as 0.
    Average,
}

/// One block: batch normalisation, convolution, triangle, pooling. The defaults are those of the
/// first block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlockParams {
    /// Output channels.
    pub channels: usize,
    /// Side of the square kernel, odd; stride 1, borders mirrored so that the extent stays.
    pub kernel: usize,
    /// Inverse temperature τ of the softmax over channels.
    pub inverse_temperature: f32,
    /// Power p of the triangle activation max(0, u - mean u)ᵖ.
    pub triangle_power: f32,
    /// Kind of pooling.
    pub pool: Pool,
    /// Side of the pooling window.
    pub pool_size: usize,
    /// Step from window to window.
    pub pool_stride: usize,
    /// Rows and columns added on each side before pooling, fewer than the window's side.
    pub pool_padding: usize,
    /// Learning rate.
    pub learning_rate: f32,
}

impl Default for BlockParams {
    fn default() -> Self {
        Self {
            channels: 96,
            kernel: 5,
            inverse_temperature: 1.0,
            triangle_power: 0.7,
            pool: Pool::Max,
            pool_size: 4,
            pool_stride: 2,
            pool_padding: 1,
            learning_rate: 0.08,
        }
    }
}

impl BlockParams {
    /// Complaints about the values.
    pub fn check(&self) -> Checks {
        let mut checks = Checks::default();
        checks.count("channels", self.channels, 1, 65_536);
        let odd = self.kernel % 2 == 1 && self.kernel <= 31;
        checks.that(odd, "kernel", self.kernel, "an odd number from 1 to 31");
        checks.positive("inverse_temperature", f64::from(self.inverse_temperature));
        checks.positive("triangle_power", f64::from(self.triangle_power));
        checks.count("pool_size", self.pool_size, 1, 64);
        checks.count("pool_stride", self.pool_stride, 1, 64);
        let fits = self.pool_padding < self.pool_size;
        checks.that(fits, "pool_padding", self.pool_padding, "a number below pool_size");
        checks.positive("learning_rate", f64::from(self.learning_rate));
        checks
    }

    fn window(&self) -> maps::Window {
        maps::Window {
            kind: self.pool,
            size: self.pool_size,
            stride: self.pool_stride,
            padding: self.pool_padding,
        }
    }

    /// Shape of the output, or what does not fit.
    fn plan(&self, input: Shape) -> std::result::Result<Shape, String> {
        let (reach, window) = (self.kernel / 2, self.window());
        if reach >= input.height.min(input.width) {
            return Err(format!(
                "kernel {} needs more than {reach} rows and columns, the input is {input}",
                self.kernel
            ));
        }
        let output =
            Shape::new(self.channels, window.extent(input.height), window.extent(input.width));
        if output.len() == 0 {
            return Err(format!("pool_size {} does not fit into {input}", self.pool_size));
        }
        Ok(output)
    }
}

/// Parameters of the extractor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// The blocks, input first.
    pub blocks: Vec<BlockParams>,
    /// Passes over the training images.
    pub epochs: usize,
    /// Images of a mini-batch.
    pub batch_size: usize,
    /// Share of the mini-batch in the running statistics of batch normalisation.
    pub momentum: f32,
    /// Expected norm of an output channel's weights at the start; learning brings it to 1.
    pub weight_norm: f64,
    /// Power of the distance from norm 1 in the size of a step.
    pub rate_power: f64,
    /// Whether rows and columns of the images are swapped, as in the authors' program.
    pub transpose_input: bool,
}

impl Default for Params {
    fn default() -> Self {
        let second = BlockParams {
            channels: 384,
            kernel: 3,
            inverse_temperature: 0.65,
            triangle_power: 1.4,
            learning_rate: 0.005,
            ..BlockParams::default()
        };
        let third = BlockParams {
            channels: 1536,
            kernel: 3,
            inverse_temperature: 0.25,
            triangle_power: 1.0,
            pool: Pool::Average,
            pool_size: 2,
            pool_stride: 2,
            pool_padding: 0,
            learning_rate: 0.01,
        };
        Self {
            blocks: vec![BlockParams::default(), second, third],
            epochs: 1,
            batch_size: 10,
            momentum: 0.1,
            weight_norm: 25.0,
            rate_power: 0.5,
            transpose_input: true,
        }
    }
}

impl Params {
    /// Complaints about the values.
    pub fn check(&self) -> Checks {
        let mut checks = Checks::default();
        checks.count("blocks", self.blocks.len(), 1, 16);
        for (i, block) in self.blocks.iter().enumerate() {
            checks.nest(&format!("blocks[{i}]"), block.check());
        }
        checks.count("epochs", self.epochs, 0, 1_000_000);
        checks.count("batch_size", self.batch_size, 1, 65_536);
        checks.within("momentum", f64::from(self.momentum), 0.0, 1.0);
        checks.positive("weight_norm", self.weight_norm);
        checks.not_negative("rate_power", self.rate_power);
        checks
    }

    /// Input shape of each block and, last, the shape of the features.
    fn plan(&self, images: Shape) -> Result<Vec<Shape>> {
        let Shape { channels, height, width } = images;
        let first = if self.transpose_input { Shape::new(channels, width, height) } else { images };
        let mut shapes = vec![first];
        for (i, block) in self.blocks.iter().enumerate() {
            let output = block.plan(shapes[i]).map_err(|e| {
                Error::recipe(format!("softhebb on images of {images}: blocks[{i}]: {e}"))
            })?;
            shapes.push(output);
        }
        Times::new(shapes[self.blocks.len()])?;
        Ok(shapes)
    }
}

impl FitEncoder for Params {
    fn fit(&self, train: &Images, seed: Seed, tick: Tick<'_>) -> Result<Box<dyn FittedEncoder>> {
        let mut network = Network::draw(self, train.shape, seed)?;
        network.train(train, seed, tick)?;
        Ok(Box::new(network))
    }

    fn restore(&self, shape: Shape, state: &State) -> Result<Box<dyn FittedEncoder>> {
        Ok(Box::new(Network::restore(self, shape, state)?))
    }
}

/// Spike times of features, t = 1 - o / max o, as fractions of the window; 1 is no spike. Without
/// a feature above 0 nothing spikes.
pub fn spike_times(features: &[f32]) -> Vec<f32> {
    let max = features.iter().fold(0.0f32, |m, &o| m.max(o));
    if max == 0.0 {
        return vec![1.0; features.len()];
    }
    features.iter().map(|&o| 1.0 - o / max).collect()
}
