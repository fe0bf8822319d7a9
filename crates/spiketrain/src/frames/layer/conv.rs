//! Convolution and linear layers over time: the kernels on shards of images.

use super::super::kernel::{Conv2d, ConvWeights, Input, add_bias_gradient};
use super::super::parameters::{Gradients, ParameterId, Parameters};
use super::super::shards;
use super::super::signal::{Gradient, Signal};
use super::{Context, Notes, Phase};

/// A convolution, or a linear layer as one whose kernel covers the input.
#[derive(Clone, Debug)]
pub struct Conv {
    /// Geometry.
    pub kernel: Conv2d,
    /// `[out, in, kernel_row, kernel_column]`.
    pub weight: ParameterId,
    /// `[out]`.
    pub bias: Option<ParameterId>,
    /// The weights as the kernels read them.
    pub packed: ConvWeights,
}

impl Conv {
    /// Packs the weights after they changed.
    pub fn repack(&mut self, parameters: &Parameters) {
        self.packed = self.kernel.pack(parameters.get(self.weight));
    }

    /// Output of all stored images; a steady input gives a steady output.
    pub fn forward(&self, input: &Signal, context: &Context<'_>) -> Signal {
        let shape = self.kernel.output();
        let mut out = context.workspaces.take(input.n_images() * shape.len());
        let ranges = shards::of_images(input.n_images());
        let parts = shards::split(&mut out, &ranges, shape.len());
        let bias = self.bias.map(|b| context.parameters.get(b));
        let jobs: Vec<_> = ranges.into_iter().zip(parts).collect();
        shards::map(jobs, |shard, (range, out)| {
            let mut workspace = context.workspaces.of(shard);
            let mut run = |range: std::ops::Range<usize>, out: &mut [f32]| {
                let images = input.images(range);
                self.kernel.forward(&self.packed, bias, images, out, &mut workspace);
            };
            match context.phase {
                Phase::Training { .. } => run(range, out),
                // Kernels choose their path from what they see: one image at a time, a sample's
                // result does not depend on its neighbours.
                Phase::Evaluation => range
                    .zip(out.chunks_exact_mut(shape.len()))
                    .for_each(|(image, out)| run(image..image + 1, out)),
            }
        });
        input.with_dense(shape, out)
    }

    /// Adds the gradients of weight and bias.
    pub fn gradients(
        &self,
        input: &Signal,
        d: &[f32],
        context: &Context<'_>,
        gradients: &mut Gradients,
    ) {
        let n_weights = self.kernel.n_weights();
        let image = self.kernel.output().len();
        let ranges = shards::of_gradients(input.n_images(), n_weights);
        let parts = shards::map(ranges.clone(), |shard, range| {
            let mut sum = vec![0.0; n_weights];
            let d = &d[range.start * image..range.end * image];
            let mut workspace = context.workspaces.of(shard);
            self.kernel.weight_gradient(input.images(range), d, &mut sum, &mut workspace);
            sum
        });
        let total = gradients.get_mut(self.weight);
        for part in parts {
            total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
        }
        if let Some(bias) = self.bias {
            let n = self.kernel.out_channels;
            let parts = shards::map(ranges, |_, range| {
                let mut sum = vec![0.0; n];
                add_bias_gradient(&d[range.start * image..range.end * image], &mut sum);
                sum
            });
            let total = gradients.get_mut(bias);
            for part in parts {
                total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
            }
        }
    }

    /// Gradient with respect to the input.
    pub fn input_gradient(&self, d: &[f32], context: &Context<'_>) -> Gradient {
        let (image, input) = (self.kernel.output().len(), self.kernel.input.len());
        let n_images = d.len() / image;
        let mut d_in = context.workspaces.take(n_images * input);
        let ranges = shards::of_images(n_images);
        let parts = shards::split(&mut d_in, &ranges, input);
        let jobs: Vec<_> = ranges.into_iter().zip(parts).collect();
        shards::map(jobs, |shard, (range, d_in)| {
            let d = &d[range.start * image..range.end * image];
            let mut workspace = context.workspaces.of(shard);
            self.kernel.input_gradient(&self.packed, d, d_in, &mut workspace);
        });
        d_in
    }

    /// Notes the synaptic operations of each sample: spikes times the connections one travels on
    /// average; analog inputs travel all of them at every step.
    pub fn count(&self, input: &Signal, notes: &mut Notes) {
        let (n, products) = (input.n_samples, self.kernel.n_products() as f64);
        notes.n_synops.resize(n, 0.0);
        let repeats = (input.n_steps * n / input.n_images()) as f64;
        for image in 0..input.n_images() {
            let share = match input.images(image..image + 1) {
                Input::Dense(values) => {
                    values.iter().filter(|&&v| v != 0.0).count() as f64 / values.len() as f64
                }
                Input::Spikes(spikes) => spikes.density(),
            };
            notes.n_synops[image % n] += share * products * repeats;
        }
    }
}
