//! What a training step will take, before it is taken.

use super::kernel::Spikes;
use super::layer::Layer;
use super::net::Net;
use crate::spikes::Shape;

/// Bytes of a training step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Parameters, gradients, the optimiser's memory and the forms of weights that live at once.
    pub learned: usize,
    /// What forward passes leave for backward passes.
    pub kept: usize,
    /// The largest signals or gradients between layers that live at once.
    pub passing: usize,
}

impl Memory {
    /// All of it.
    pub fn total(&self) -> usize {
        self.learned + self.kept + self.passing
    }

    /// The sentence for the log about a step with `batch_size` samples of a network with so many
    /// learned values.
    pub fn note(&self, n_parameters: usize, batch_size: usize) -> String {
        let mega = |bytes: usize| bytes as f64 / 1e6;
        format!(
            "{n_parameters} parameters; a step of {batch_size} samples takes about {:.0} MB ({:.0} MB of \
             weights, gradients and optimiser, {:.0} MB kept for the backward pass, {:.0} MB \
             that pass between layers)",
            mega(self.total()),
            mega(self.learned),
            mega(self.kept),
            mega(self.passing),
        )
    }
}

/// How a signal is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Steady,
    Values,
    Spikes,
}

struct Walk {
    n_steps: usize,
    n_samples: usize,
    memory: Memory,
    /// Forms of weights: the largest layer's, as each layer's are forgotten after its pass, or
    /// those of all layers, where passes keep them.
    forms: usize,
    keeps_forms: bool,
}

/// Bytes of a step with `n_samples` still images on a network; `n_moments` is the number of arrays
/// that the optimiser keeps for each parameter.
pub fn of_step(net: &Net, n_samples: usize, n_moments: usize) -> Memory {
    let n = 4 * net.parameters.n_values();
    let memory = Memory { learned: n * (2 + n_moments), ..Memory::default() };
    let (n_steps, keeps_forms) = (net.n_steps, net.keeps_forms);
    let mut walk = Walk { n_steps, n_samples, memory, forms: 0, keeps_forms };
    walk.layers(&net.layers, net.input, Form::Steady);
    walk.memory.learned += walk.forms;
    walk.memory
}

impl Walk {
    fn bytes(&self, shape: Shape, form: Form) -> usize {
        match form {
            Form::Steady => 4 * self.n_samples * shape.len(),
            Form::Values => 4 * self.n_steps * self.n_samples * shape.len(),
            Form::Spikes => 8 * self.n_steps * self.n_samples * Spikes::words_per_image(shape),
        }
    }

    /// Counts the signal that enters a list of layers, and all that leave its members.
    fn layers(&mut self, layers: &[Layer], shape: Shape, form: Form) -> (Shape, Form) {
        self.memory.kept += self.bytes(shape, form);
        layers.iter().fold((shape, form), |(shape, form), layer| self.layer(layer, shape, form))
    }

    fn layer(&mut self, layer: &Layer, shape: Shape, form: Form) -> (Shape, Form) {
        let dense = if form == Form::Steady { Form::Steady } else { Form::Values };
        let (output, form) = match layer {
            Layer::Conv(conv) => {
                let [forward, backward] = conv.kernel.form_bytes();
                self.forms = match self.keeps_forms {
                    true => self.forms + forward + backward,
                    false => self.forms.max(forward).max(backward),
                };
                (conv.kernel.output(), dense)
            }
            Layer::AveragePool(pool) => (pool.output(), dense),
            Layer::MaxPool(pool) => (pool.output(), form),
            Layer::Activation(a) if a.neuron.is_some() => (shape, Form::Spikes),
            Layer::Activation(_) | Layer::Dropout(_) => (shape, Form::Values),
            Layer::Add(add) => {
                self.layers(&add.shortcut, shape, form);
                (self.layers(&add.body, shape, form).0, Form::Values)
            }
            Layer::Concat(concat) => {
                let (body, _) = self.layers(&concat.body, shape, form);
                let channels = shape.channels + body.channels;
                (Shape { channels, ..shape }, Form::Values)
            }
            Layer::Vote(vote) => (Shape { channels: shape.channels / vote.group, ..shape }, dense),
        };
        self.memory.kept += self.bytes(output, form);
        let gradient =
            |form, shape| self.bytes(shape, if form == Form::Steady { form } else { Form::Values });
        let both = gradient(form, output) + gradient(dense, shape);
        self.memory.passing = self.memory.passing.max(both);
        (output, form)
    }
}
