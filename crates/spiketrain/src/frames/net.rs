//! A network: layers, what they learn, their running statistics; forward and backward over time.
//!
//! This is backpropagation through time as all methods that use it share it: the forward pass runs
//! layer by layer, each over all time steps, and leaves records; the backward pass takes them from
//! the end. Losses are outside: the pass ends with the outputs of every step and begins again with
//! the gradient with respect to them.

use super::layer::{self, Context, Layer, Notes, Phase, Record};
use super::network::{Builder, Common, Description};
use super::norm::Running;
use super::parameters::{Gradients, Parameters};
use super::shards::Workspaces;
use super::signal::{Data, Gradient, Signal};
use crate::error::{Error, Result};
use crate::seed::Seed;
use crate::spikes::Shape;
use crate::state::State;
use std::sync::Arc;

/// Layers, parameters and running statistics.
#[derive(Clone, Debug)]
pub struct Net {
    /// Shape of one input image.
    pub input: Shape,
    /// Shape of the output of one step.
    pub output: Shape,
    /// Time steps it was made for.
    pub n_steps: usize,
    /// The layers.
    pub layers: Vec<Layer>,
    /// What they learn.
    pub parameters: Parameters,
    /// Running statistics of their normalisations.
    pub running: Vec<Running>,
    /// Whether a training step has several passes with the same weights, which then keep their
    /// forms; see [`Context`].
    pub keeps_forms: bool,
}

/// What a forward pass in training leaves for the backward pass.
#[derive(Debug)]
pub struct Trace {
    records: Vec<Record>,
    phase: Phase,
    n_steps: usize,
    is_steady: bool,
    /// What was noted on the way.
    pub notes: Notes,
}

impl Net {
    /// Time steps of a pass in training.
    pub fn n_steps(&self) -> usize {
        self.n_steps
    }

    /// A network with initial weights.
    ///
    /// # Errors
    ///
    /// If layers do not fit each other; names the layer.
    pub fn new(description: &Description, input: Shape, common: &Common) -> Result<Net> {
        let net = Net {
            input,
            output: input,
            n_steps: common.n_steps,
            layers: Vec::new(),
            parameters: Parameters::default(),
            running: Vec::new(),
            keeps_forms: false,
        };
        let Description { layers, conv_init, linear_init } = description;
        let (conv_init, linear_init) = (*conv_init, *linear_init);
        let mut builder = Builder { common, conv_init, linear_init, net, forms: Arc::default() };
        let (layers, output) = builder.layers(layers, input, "layer")?;
        Ok(Net { layers, output, ..builder.net })
    }

    /// Complains unless each step gives one value a class.
    ///
    /// # Errors
    ///
    /// If the outputs are not `n_classes`.
    pub fn require_classes(&self, n_classes: usize) -> Result<()> {
        if self.output == Shape::flat(n_classes) {
            return Ok(());
        }
        let found = self.output;
        Err(Error::recipe(format!(
            "the network gives {found} values a step, {n_classes} classes need {n_classes}×1×1"
        )))
    }

    /// Forward pass in training: outputs `[time, sample, …]` and what the backward pass needs.
    /// `first` is the presentation of the first sample, which dropout draws by.
    ///
    /// # Errors
    ///
    /// If the network diverged; names the layer.
    pub fn forward(
        &self,
        input: Signal,
        seed: Seed,
        first: u64,
        workspaces: &Workspaces,
    ) -> Result<(Vec<f32>, Trace)> {
        let phase = Phase::Training { seed, first };
        let n_steps = input.n_steps;
        let context = self.context(phase, n_steps, workspaces);
        let (mut notes, mut records) = (Notes::default(), Vec::new());
        let output = layer::forward(
            &self.layers,
            Arc::new(input),
            &context,
            &mut notes,
            Some(&mut records),
        )?;
        let is_steady = output.is_steady();
        let outputs = Arc::unwrap_or_clone(output).into_values();
        Ok((outputs, Trace { records, phase, n_steps, is_steady, notes }))
    }

    /// Backward pass from the gradient with respect to the outputs `[time, sample, …]`: gradients
    /// of the parameters and, if wanted, with respect to the input.
    pub fn backward(
        &self,
        trace: Trace,
        d: Gradient,
        wants_input: bool,
        workspaces: &Workspaces,
    ) -> (Gradients, Option<Gradient>) {
        let context = self.context(trace.phase, trace.n_steps, workspaces);
        let mut gradients = self.parameters.zeros_in(workspaces);
        let d = if trace.is_steady { super::activation::sum_steps(&d, trace.n_steps) } else { d };
        let d_in =
            layer::backward(&self.layers, trace.records, d, &context, &mut gradients, wants_input);
        workspaces.end_step();
        (gradients, d_in)
    }

    /// Forward pass in evaluation: outputs `[time, sample, …]` and what was noted. Changes nothing.
    ///
    /// # Errors
    ///
    /// Never in evaluation; the layers' contract allows it.
    pub fn evaluate(&self, input: Signal, workspaces: &Workspaces) -> Result<(Vec<f32>, Notes)> {
        let context = self.context(Phase::Evaluation, input.n_steps, workspaces);
        let mut notes = Notes::default();
        let output = layer::forward(&self.layers, Arc::new(input), &context, &mut notes, None)?;
        Ok((Arc::unwrap_or_clone(output).into_values(), notes))
    }

    /// Takes a batch into the running statistics.
    pub fn update_running(&mut self, notes: &Notes) {
        for (index, moments) in &notes.moments {
            self.running[*index].update(moments);
        }
    }

    /// Must follow every change of the parameters: forgets the forms of the old ones.
    pub fn forget_forms(&self) {
        fn each(layers: &[Layer]) {
            for layer in layers {
                match layer {
                    Layer::Conv(conv) => conv.forms.forget(),
                    Layer::Add(add) => {
                        each(&add.body);
                        each(&add.shortcut);
                    }
                    Layer::Concat(concat) => each(&concat.body),
                    _ => {}
                }
            }
        }
        each(&self.layers);
    }

    /// Parameters and running statistics by name.
    pub fn state(&self) -> State {
        let mut state = self.parameters.state();
        self.running.iter().for_each(|r| r.put(&mut state));
        state
    }

    /// Puts back what [`Net::state`] gave.
    ///
    /// # Errors
    ///
    /// If an array is missing or does not fit.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        self.parameters.restore(state)?;
        for running in &mut self.running {
            running.restore(state)?;
        }
        self.forget_forms();
        Ok(())
    }

    /// What the layers of a pass share.
    pub fn context<'a>(
        &'a self,
        phase: Phase,
        n_steps: usize,
        workspaces: &'a Workspaces,
    ) -> Context<'a> {
        let (parameters, running) = (&self.parameters, self.running.as_slice());
        let keeps_forms = self.keeps_forms;
        Context { parameters, running, workspaces, n_steps, phase, keeps_forms }
    }
}

/// A still image for every sample, the same at every step. `images` is `[sample, channel, row,
/// column]`.
pub fn steady(images: &[f32], shape: Shape, n_steps: usize) -> Signal {
    let values = channels_last(images, shape);
    Signal { shape, n_steps, n_samples: images.len() / shape.len(), data: Data::Steady(values) }
}

/// Values for every step and sample, `[time, sample, channel, row, column]`.
pub fn values(frames: &[f32], shape: Shape, n_steps: usize) -> Signal {
    let n_samples = frames.len() / shape.len() / n_steps;
    Signal { shape, n_steps, n_samples, data: Data::Values(channels_last(frames, shape)) }
}

/// `[image, channel, row, column]` to `[image, row, column, channel]`.
pub fn channels_last(images: &[f32], shape: Shape) -> Vec<f32> {
    let n_pixels = shape.height * shape.width;
    let mut out = vec![0.0; images.len()];
    for (from, to) in images.chunks_exact(shape.len()).zip(out.chunks_exact_mut(shape.len())) {
        for (c, plane) in from.chunks_exact(n_pixels).enumerate() {
            to[c..].iter_mut().step_by(shape.channels).zip(plane).for_each(|(t, &v)| *t = v);
        }
    }
    out
}

/// `[image, row, column, channel]` to `[image, channel, row, column]`.
pub fn channels_first(images: &[f32], shape: Shape) -> Vec<f32> {
    let turned = Shape::new(shape.height * shape.width, 1, shape.channels);
    channels_last(images, turned)
}
