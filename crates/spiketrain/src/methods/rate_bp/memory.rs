//! What a step will take, before it is taken.

use super::Mode;
use crate::frames::kernel::Spikes;
use crate::frames::layer::Layer;
use crate::frames::memory::Memory;
use crate::frames::net::Net;
use crate::spikes::Shape;

/// How a block of the spike pass is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Steady,
    Values,
    Spikes,
}

/// Bytes of a step with `n_samples` still images; `n_moments` is the number of arrays that the
/// optimiser keeps for each parameter.
pub(super) fn of_step(net: &Net, mode: Mode, n_samples: usize, n_moments: usize) -> Memory {
    let is_whole = mode == Mode::MultiStep;
    let block_steps = if is_whole { net.n_steps } else { 1 };
    let learned = 4 * net.parameters.n_values() * (2 + n_moments);
    let mut walk = Walk {
        block_steps,
        is_whole,
        n_samples,
        forms: [0; 2],
        kept: 0,
        membranes: 0,
        block: 0,
        gradients: 0,
    };
    walk.kept += walk.of_step(net.input);
    walk.layers(&net.layers, net.input, Form::Steady, 0);
    let passing = walk.gradients.max(walk.membranes + walk.block);
    Memory { learned: learned + walk.forms.iter().sum::<usize>(), kept: walk.kept, passing }
}

struct Walk {
    /// Steps of a block of the spike pass.
    block_steps: usize,
    /// Whether a block holds all steps.
    is_whole: bool,
    n_samples: usize,
    /// Forms of weights that live at once. Where a block holds all steps they are the largest
    /// layer's, forward or backward; else the forward ones of all layers and the backward ones of
    /// the largest.
    forms: [usize; 2],
    /// What the rate pass reads.
    kept: usize,
    /// Membranes between the blocks.
    membranes: usize,
    /// The largest block, input and output.
    block: usize,
    /// The largest gradients, input and output.
    gradients: usize,
}

impl Walk {
    /// Values of one step.
    fn of_step(&self, shape: Shape) -> usize {
        4 * self.n_samples * shape.len()
    }

    fn of_block(&self, shape: Shape, form: Form) -> usize {
        match form {
            Form::Steady => self.of_step(shape),
            Form::Values => self.block_steps * self.of_step(shape),
            Form::Spikes => 8 * self.block_steps * self.n_samples * Spikes::words_per_image(shape),
        }
    }

    /// Walks a list of layers while `held` bytes wait beside it.
    fn layers(&mut self, layers: &[Layer], shape: Shape, form: Form, held: usize) -> (Shape, Form) {
        layers.iter().fold((shape, form), |(shape, form), layer| {
            let output = self.layer(layer, shape, form, held);
            let block = self.of_block(shape, form) + self.of_block(output.0, output.1);
            self.block = self.block.max(held + block);
            self.gradients = self.gradients.max(self.of_step(shape) + self.of_step(output.0));
            output
        })
    }

    fn layer(&mut self, layer: &Layer, shape: Shape, form: Form, held: usize) -> (Shape, Form) {
        let dense = if form == Form::Steady { Form::Steady } else { Form::Values };
        match layer {
            Layer::Conv(conv) => {
                let [forward, backward] = conv.kernel.form_bytes();
                let [all, largest] = self.forms;
                self.forms = match self.is_whole {
                    true => [0, largest.max(forward).max(backward)],
                    false => [all + forward, largest.max(backward)],
                };
                (conv.kernel.output(), dense)
            }
            Layer::AveragePool(pool) => {
                self.kept += self.of_step(pool.output());
                (pool.output(), dense)
            }
            Layer::MaxPool(pool) => {
                self.kept += self.of_step(pool.output());
                (pool.output(), form)
            }
            Layer::Activation(a) => {
                let of_step = self.of_step(shape);
                self.kept += if a.norm.is_some() { of_step } else { 0 };
                if a.neuron.is_none() {
                    return (shape, Form::Values);
                }
                self.kept += 2 * of_step;
                self.membranes += if self.is_whole { 0 } else { of_step };
                (shape, Form::Spikes)
            }
            Layer::Dropout(_) => (shape, Form::Values),
            Layer::Add(add) => {
                let input = self.of_block(shape, form);
                let body = self.layers(&add.body, shape, form, held + input);
                let held = held + self.of_block(body.0, body.1);
                self.layers(&add.shortcut, shape, form, held);
                (body.0, Form::Values)
            }
            Layer::Concat(concat) => {
                let input = self.of_block(shape, form);
                let (body, _) = self.layers(&concat.body, shape, form, held + input);
                (Shape { channels: shape.channels + body.channels, ..shape }, Form::Values)
            }
            Layer::Vote(vote) => (Shape { channels: shape.channels / vote.group, ..shape }, dense),
        }
    }
}
