//! Convolution and linear layers over time: the kernels on shards of images.

use super::super::activation::ToInput;
use super::super::kernel::{Conv2d, Forms, Input, Weights, Workspace, add_bias_gradient};
use super::super::parameters::{Gradients, ParameterId, Parameters};
use super::super::shards;
use super::super::signal::{Gradient, Signal};
use super::{Context, Notes, Phase};
use rayon::prelude::*;
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
    /// Forms of the weights.
    pub forms: Forms,
    /// What the kernels read instead of the parameter, if a method makes its weights of it.
    pub made: Option<Vec<f32>>,
}

/// Values of a gradient worked on at once, a quarter of a megabyte.
const AT_ONCE: usize = 64 << 10;

/// Weights of a linear layer from which on its gradient is cut by outputs instead of images.
const LARGE: usize = 1 << 20;

/// Weights whose sums over the shards are added up at once.
const ADDED_AT_ONCE: usize = 4096;

/// Parts of the outputs of a large linear layer.
const N_PARTS: usize = 8;

/// Gradients of one shard.
struct WeightSums {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl WeightSums {
    fn new(conv: &Conv, context: &Context<'_>) -> Self {
        let n_bias = conv.bias.map_or(0, |_| conv.kernel.out_channels);
        let mut weight = context.workspaces.take_least(conv.kernel.n_weights());
        weight.fill(0.0);
        Self { weight, bias: vec![0.0; n_bias] }
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
    /// A layer that reads its parameters as they are.
    pub fn new(
        kernel: Conv2d,
        weight: ParameterId,
        bias: Option<ParameterId>,
        forms: Forms,
    ) -> Self {
        Self { kernel, weight, bias, forms, made: None }
    }

    /// The weights.
    pub fn weights<'a>(&'a self, parameters: &'a Parameters) -> Weights<'a> {
        self.forms.of(self.made.as_deref().unwrap_or_else(|| parameters.get(self.weight)))
    }

    /// Output of all stored images; a steady input gives a steady output.
    pub fn forward(&self, input: &Signal, context: &Context<'_>) -> Signal {
        let shape = self.kernel.output();
        let mut out = context.workspaces.take(input.n_images() * shape.len());
        let ranges = shards::of_images(input.n_images());
        let parts = shards::split(&mut out, &ranges, shape.len());
        let weights = self.weights(context.parameters);
        let bias = self.bias.map(|b| context.parameters.get(b));
        let jobs: Vec<_> = ranges.into_iter().zip(parts).collect();
        shards::map(jobs, |(range, out)| {
            let mut workspace = context.workspaces.borrow();
            let mut run = |range: Range<usize>, out: &mut [f32]| {
                let images = input.images(range);
                self.kernel.forward(weights, bias, images, out, &mut workspace);
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
        if self.kernel.covers_input() && self.kernel.n_weights() > LARGE {
            return self.gradients_by_outputs(input, d, context, gradients);
        }
        let ranges = shards::of_gradients(input.n_images(), self.kernel.n_weights());
        let sums = shards::map(ranges, |range| {
            let mut sum = WeightSums::new(self, context);
            let d = &d[range.start * image..range.end * image];
            sum.add(self, input, range, d, &mut context.workspaces.borrow());
            sum
        });
        self.add_sums(sums, context, gradients);
    }

    /// [`Conv::gradients`] of a large linear layer: each part of the work is some of the outputs
    /// for all images, so that there are no sums to be kept beside the gradient.
    fn gradients_by_outputs(
        &self,
        input: &Signal,
        d: &[f32],
        context: &Context<'_>,
        gradients: &mut Gradients,
    ) {
        if let Some(bias) = self.bias {
            add_bias_gradient(d, gradients.get_mut(bias));
        }
        let (n_out, n_in) = (self.kernel.out_channels, self.kernel.input.len());
        let ranges = shards::ranges(n_out, N_PARTS);
        let parts = shards::split(gradients.get_mut(self.weight), &ranges, n_in);
        let jobs: Vec<_> = ranges.into_iter().zip(parts).collect();
        shards::map(jobs, |(outs, gradient)| {
            let kernel = Conv2d { out_channels: outs.len(), ..self.kernel };
            let rows = d.chunks_exact(n_out).flat_map(|row| &row[outs.clone()]);
            let d: Vec<f32> = rows.copied().collect();
            let images = input.images(0..input.n_images());
            kernel.weight_gradient(images, &d, gradient, &mut context.workspaces.borrow());
        });
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
        let mut d_in = wants_input.then(|| context.workspaces.take_most(n_images * image_in));
        let ranges = shards::of_gradients(n_images, self.kernel.n_weights());
        let d = shards::split(d, &ranges, image);
        let d_in_parts = match d_in.as_mut() {
            Some(d_in) => shards::split(d_in, &ranges, image_in).into_iter().map(Some).collect(),
            None => ranges.iter().map(|_| None).collect::<Vec<_>>(),
        };
        let jobs: Vec<_> = ranges.into_iter().zip(d.into_iter().zip(d_in_parts)).collect();
        // A weight gradient costs its own size on top of the images it is of.
        let at_once = (AT_ONCE.max(4 * self.kernel.n_weights()) / image).max(1);
        let weights = self.weights(context.parameters);
        let sums = shards::map(jobs, |(range, (d, mut d_in))| {
            let mut sum = WeightSums::new(self, context);
            let mut workspace = context.workspaces.borrow();
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
                    self.kernel.input_gradient(weights, d, d_in, &mut workspace);
                }
            }
            sum
        });
        self.add_sums(sums, context, gradients);
        d_in
    }

    /// Whether [`Conv::backward_through`] is the way for an output `y`: not for a still image, whose
    /// steps are summed up behind the normalisation, nor for large weights, which have few shards.
    pub fn goes_through(&self, y: &Signal) -> bool {
        let shards = |n_weights| shards::of_gradients(y.n_images(), n_weights).len();
        !y.is_steady() && shards(self.kernel.n_weights()) == shards(1)
    }

    fn add_sums(&self, sums: Vec<WeightSums>, context: &Context<'_>, gradients: &mut Gradients) {
        let add = |total: &mut [f32], part: &[f32]| {
            total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
        };
        let parts = gradients.get_mut(self.weight).par_chunks_mut(ADDED_AT_ONCE);
        parts.enumerate().for_each(|(i, total)| {
            let at = i * ADDED_AT_ONCE;
            sums.iter().for_each(|sum| add(total, &sum.weight[at..at + total.len()]));
        });
        for sum in sums {
            if let Some(bias) = self.bias {
                add(gradients.get_mut(bias), &sum.bias);
            }
            context.workspaces.give(sum.weight);
        }
    }

    /// Gradient with respect to the input.
    pub fn input_gradient(&self, d: &[f32], context: &Context<'_>) -> Gradient {
        let (image, input) = (self.kernel.output().len(), self.kernel.input.len());
        let n_images = d.len() / image;
        let mut d_in = context.workspaces.take_most(n_images * input);
        let ranges = shards::of_images(n_images);
        let parts = shards::split(&mut d_in, &ranges, input);
        let jobs: Vec<_> = ranges.into_iter().zip(parts).collect();
        let weights = self.weights(context.parameters);
        shards::map(jobs, |(range, d_in)| {
            let d = &d[range.start * image..range.end * image];
            let mut workspace = context.workspaces.borrow();
            self.kernel.input_gradient(weights, d, d_in, &mut workspace);
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
