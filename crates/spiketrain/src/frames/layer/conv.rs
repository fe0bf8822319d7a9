//! Convolution and linear layers over time: the kernels on shards of images.

use super::super::activation::ToInput;
use super::super::kernel::{Conv2d, ConvWeights, Input, Workspace, add_bias_gradient};
use super::super::parameters::{Gradients, ParameterId, Parameters};
use super::super::shards;
use super::super::signal::{Gradient, Signal};
use super::{Context, Notes, Phase};
use std::ops::Range;

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

/// Values of a gradient worked on at once, a quarter of a megabyte.
const AT_ONCE: usize = 64 << 10;

/// Gradients of one shard.
struct WeightSums {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl WeightSums {
    fn new(conv: &Conv) -> Self {
        let n_bias = conv.bias.map_or(0, |_| conv.kernel.out_channels);
        Self { weight: vec![0.0; conv.kernel.n_weights()], bias: vec![0.0; n_bias] }
    }

    fn add(
        &mut self,
        conv: &Conv,
        input: &Signal,
        images: Range<usize>,
        d: &[f32],
        workspace: &mut Workspace,
    ) {
        conv.kernel.weight_gradient(input.images(images), d, &mut self.weight, workspace);
        if !self.bias.is_empty() {
            add_bias_gradient(d, &mut self.bias);
        }
    }
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
            let mut run = |range: Range<usize>, out: &mut [f32]| {
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
        let image = self.kernel.output().len();
        let ranges = shards::of_gradients(input.n_images(), self.kernel.n_weights());
        let sums = shards::map(ranges, |shard, range| {
            let mut sum = WeightSums::new(self);
            let d = &d[range.start * image..range.end * image];
            sum.add(self, input, range, d, &mut context.workspaces.of(shard));
            sum
        });
        self.add_sums(&sums, gradients);
    }

    /// Backward pass from a gradient that lacks the way through the normalisation of this layer's
    /// output `y`: that way, the gradients of weight and bias and the gradient with respect to the
    /// input, if wanted, for so few images at a time that they stay in the second cache.
    pub fn backward_through(
        &self,
        input: &Signal,
        (y, rest): (&Signal, Option<&ToInput>),
        d: &mut [f32],
        context: &Context<'_>,
        gradients: &mut Gradients,
        wants_input: bool,
    ) -> Option<Gradient> {
        let (image, image_in) = (self.kernel.output().len(), self.kernel.input.len());
        let n_images = input.n_images();
        let mut d_in = wants_input.then(|| context.workspaces.take(n_images * image_in));
        let ranges = shards::of_gradients(n_images, self.kernel.n_weights());
        let d = shards::split(d, &ranges, image);
        let d_in_parts = match d_in.as_mut() {
            Some(d_in) => shards::split(d_in, &ranges, image_in).into_iter().map(Some).collect(),
            None => ranges.iter().map(|_| None).collect::<Vec<_>>(),
        };
        let jobs: Vec<_> = ranges.into_iter().zip(d.into_iter().zip(d_in_parts)).collect();
        // A weight gradient costs its own size on top of the images it is of.
        let at_once = (AT_ONCE.max(4 * self.kernel.n_weights()) / image).max(1);
        let sums = shards::map(jobs, |shard, (range, (d, mut d_in))| {
            let mut sum = WeightSums::new(self);
            let mut workspace = context.workspaces.of(shard);
            for (first, d) in range.clone().step_by(at_once).zip(d.chunks_mut(at_once * image)) {
                let images = first..range.end.min(first + at_once);
                if let Some(rest) = rest {
                    rest.finish(y, images.clone(), d);
                }
                let at = (first - range.start) * image_in;
                let n = images.len() * image_in;
                sum.add(self, input, images, d, &mut workspace);
                if let Some(d_in) = &mut d_in {
                    let d_in = &mut d_in[at..at + n];
                    self.kernel.input_gradient(&self.packed, d, d_in, &mut workspace);
                }
            }
            sum
        });
        self.add_sums(&sums, gradients);
        d_in
    }

    /// Whether [`Conv::backward_through`] is the way for an output `y`: not for a still image, whose
    /// steps are summed up behind the normalisation, nor for large weights, which have few shards.
    pub fn goes_through(&self, y: &Signal) -> bool {
        let shards = |n_weights| shards::of_gradients(y.n_images(), n_weights).len();
        !y.is_steady() && shards(self.kernel.n_weights()) == shards(1)
    }

    fn add_sums(&self, sums: &[WeightSums], gradients: &mut Gradients) {
        for sum in sums {
            let add = |total: &mut [f32], part: &[f32]| {
                total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
            };
            add(gradients.get_mut(self.weight), &sum.weight);
            if let Some(bias) = self.bias {
                add(gradients.get_mut(bias), &sum.bias);
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
