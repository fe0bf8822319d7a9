//! The networks of the paper's programs: every convolution and linear layer has neurons, none has
//! a bias.

mod presets;

pub use presets::{Deep, LayerSpec, Network};

use super::layers::{self, Backward, Dropout, Layer, Record, Spiking};
use super::neuron::{self, Neuron};
use crate::error::{Error, Result};
use crate::frames::kernel::{Conv2d, Forms, Pool};
use crate::frames::layer::{Context, Conv, Notes, Phase};
use crate::frames::parameters::{Gradients, Kind, Parameters};
use crate::frames::shards::Workspaces;
use crate::frames::signal::{Gradient, Signal};
use crate::seed::Seed;
use crate::spikes::Shape;
use crate::state::State;
use std::sync::Arc;

/// Layers and what they learn.
#[derive(Clone, Debug)]
pub struct Net {
    /// Shape of one input image.
    pub input: Shape,
    /// Shape of the output of one step.
    pub output: Shape,
    /// Time steps.
    pub n_steps: usize,
    /// The neurons.
    pub neuron: Neuron,
    /// The layers.
    pub layers: Vec<Layer>,
    /// What they learn.
    pub parameters: Parameters,
    /// Whether scales are taken into thresholds.
    pub transfers: bool,
}

/// What a forward pass in training leaves.
#[derive(Debug)]
pub struct Trace {
    records: Vec<Record>,
    phase: Phase,
    /// What was noted on the way.
    pub notes: Notes,
}

impl Trace {
    /// The weighted input of the output layer.
    ///
    /// # Panics
    ///
    /// If the last layer has no neurons.
    pub fn last_current(&self) -> &Signal {
        match self.records.last() {
            Some(Record::Spiking([_, current, _])) => current,
            other => panic!("the last layer has neurons, not {other:?}"),
        }
    }

    /// The output spikes of every layer with neurons outside of sums.
    pub fn spikes(&self) -> Vec<&Signal> {
        self.records
            .iter()
            .filter_map(|record| match record {
                Record::Spiking([_, _, output]) => Some(&**output),
                _ => None,
            })
            .collect()
    }

    /// Puts other spikes in the place of the output layer's.
    pub fn set_outputs(&mut self, spikes: Arc<Signal>) {
        if let Some(Record::Spiking([_, _, output])) = self.records.last_mut() {
            *output = spikes;
        }
    }
}

struct Builder {
    seed: Seed,
    parameters: Parameters,
}

impl Net {
    /// A network with initial weights, uniform in ±1/√fan_in, and thresholds of 1.
    ///
    /// # Errors
    ///
    /// If layers do not fit each other; names the layer.
    pub fn new(
        specs: &[LayerSpec],
        input: Shape,
        n_steps: usize,
        neuron: &neuron::Params,
        transfers: bool,
        seed: Seed,
    ) -> Result<Self> {
        let mut builder = Builder { seed, parameters: Parameters::default() };
        let (layers, output) = builder.layers(specs, input, "layer")?;
        if !matches!(layers.last(), Some(Layer::Spiking(_))) {
            return Err(Error::recipe("the last layer of the network must have neurons"));
        }
        let (neuron, parameters) = (Neuron::new(neuron), builder.parameters);
        let mut net = Self { input, output, n_steps, neuron, layers, parameters, transfers };
        net.prepare()?;
        Ok(net)
    }

    /// See [`Spiking::prepare`]; of all layers.
    ///
    /// # Errors
    ///
    /// If a scale is not positive; names the layer.
    pub fn prepare(&mut self) -> Result<()> {
        let (parameters, transfers) = (&mut self.parameters, self.transfers);
        let mut result = Ok(());
        each_mut(&mut self.layers, &mut |layer| {
            let prepared = layer.prepare(parameters, transfers);
            if result.is_ok() {
                result = prepared;
            }
        });
        result
    }

    /// What the layers of a pass share.
    pub fn context<'a>(&'a self, phase: Phase, workspaces: &'a Workspaces) -> Context<'a> {
        let (parameters, n_steps) = (&self.parameters, self.n_steps);
        Context { parameters, running: &[], workspaces, n_steps, phase, keeps_forms: false }
    }

    /// Forward pass in training: output spikes and what the backward pass needs.
    pub fn forward(
        &self,
        input: Signal,
        seed: Seed,
        first: u64,
        workspaces: &Workspaces,
    ) -> (Arc<Signal>, Trace) {
        let phase = Phase::Training { seed, first };
        let (mut notes, mut records) = (Notes::default(), Vec::new());
        let context = self.context(phase, workspaces);
        let (input, neuron) = (Arc::new(input), &self.neuron);
        let output =
            layers::forward(&self.layers, input, neuron, &context, &mut notes, Some(&mut records));
        (output, Trace { records, phase, notes })
    }

    /// Backward pass from dL/dt of the output spikes; the sums of dL/dt are of the layers from the
    /// first to the last.
    pub fn backward(
        &self,
        trace: Trace,
        e: Gradient,
        workspaces: &Workspaces,
    ) -> (Gradients, Vec<f64>) {
        let context = self.context(trace.phase, workspaces);
        let mut back =
            Backward { gradients: self.parameters.zeros_in(workspaces), totals: Vec::new() };
        let neuron = &self.neuron;
        layers::backward(&self.layers, trace.records, e, neuron, &context, &mut back, false);
        back.totals.reverse();
        workspaces.end_step();
        (back.gradients, back.totals)
    }

    /// Forward pass in evaluation: output spikes and what was noted.
    pub fn evaluate(&self, input: Signal, workspaces: &Workspaces) -> (Arc<Signal>, Notes) {
        let context = self.context(Phase::Evaluation, workspaces);
        let mut notes = Notes::default();
        let (input, neuron) = (Arc::new(input), &self.neuron);
        let output = layers::forward(&self.layers, input, neuron, &context, &mut notes, None);
        (output, notes)
    }

    /// The layers with neurons, in the order in which they run.
    pub fn spiking(&self) -> Vec<&Spiking> {
        fn each<'a>(layers: &'a [Layer], all: &mut Vec<&'a Spiking>) {
            for layer in layers {
                match layer {
                    Layer::Spiking(spiking) => all.push(spiking),
                    Layer::Add { body, shortcut } => {
                        each(body, all);
                        each(shortcut, all);
                    }
                    Layer::Pool(_) | Layer::Dropout(_) => {}
                }
            }
        }
        let mut all = Vec::new();
        each(&self.layers, &mut all);
        all
    }

    /// Sets the thresholds of each layer, numbered in the order in which they run.
    pub fn set_thresholds(&mut self, set: impl Fn(usize, &mut [f32])) {
        let mut n = 0;
        each_mut(&mut self.layers, &mut |layer| {
            set(n, &mut layer.threshold);
            n += 1;
        });
    }

    /// Parameters and thresholds by name.
    pub fn state(&self) -> State {
        let mut state = self.parameters.state();
        for layer in self.spiking() {
            let name = format!("{}.threshold", layer.name);
            state.put(&name, &[layer.threshold.len()], layer.threshold.clone());
        }
        state
    }

    /// Puts back what [`Net::state`] gave.
    ///
    /// # Errors
    ///
    /// If an array is missing or does not fit.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        self.parameters.restore(state)?;
        let mut result = Ok(());
        each_mut(&mut self.layers, &mut |layer| {
            let name = format!("{}.threshold", layer.name);
            match state.get(&name, &[layer.threshold.len()]) {
                Ok(values) => layer.threshold.copy_from_slice(values),
                Err(error) => result = Err(error),
            }
        });
        result?;
        self.prepare()
    }
}

/// Visits the layers with neurons.
fn each_mut(layers: &mut [Layer], visit: &mut impl FnMut(&mut Spiking)) {
    for layer in layers {
        match layer {
            Layer::Spiking(layer) => visit(layer),
            Layer::Add { body, shortcut } => {
                each_mut(body, visit);
                each_mut(shortcut, visit);
            }
            Layer::Pool(_) | Layer::Dropout(_) => {}
        }
    }
}

impl Builder {
    fn layers(
        &mut self,
        specs: &[LayerSpec],
        mut shape: Shape,
        prefix: &str,
    ) -> Result<(Vec<Layer>, Shape)> {
        let mut layers = Vec::new();
        for (i, spec) in specs.iter().enumerate() {
            let (layer, output) = self.layer(spec, shape, &format!("{prefix}{i}"))?;
            layers.push(layer);
            shape = output;
        }
        Ok((layers, shape))
    }

    fn layer(&mut self, spec: &LayerSpec, shape: Shape, name: &str) -> Result<(Layer, Shape)> {
        let require = |fits: bool, what: &str| match fits {
            true => Ok(()),
            false => Err(Error::recipe(format!(
                "{name} of the network cannot hold {what}: its input is {shape}"
            ))),
        };
        Ok(match spec {
            LayerSpec::Conv { channels, kernel, stride, padding } => {
                let fits = *kernel <= shape.height.min(shape.width) + 2 * padding;
                require(fits, &format!("a kernel of {kernel}×{kernel} with padding {padding}"))?;
                let conv = Conv2d::square(shape, *channels, *kernel, *stride, *padding);
                let extents = [*channels, shape.channels, *kernel, *kernel];
                (self.spiking(conv, &extents, name), conv.output())
            }
            LayerSpec::Linear { features } => {
                let linear = Conv2d::linear(shape, *features);
                (self.spiking(linear, &[*features, shape.len()], name), linear.output())
            }
            LayerSpec::Pool { size } => {
                require(*size <= shape.height.min(shape.width), &format!("windows of {size}"))?;
                let pool = Pool::square(shape, *size);
                (Layer::Pool(pool), pool.output())
            }
            LayerSpec::Dropout { rate } => {
                let purpose = format!("time-losses.dropout.{name}");
                (Layer::Dropout(Dropout { rate: *rate, purpose, shape }), shape)
            }
            LayerSpec::Add { body, shortcut } => {
                let (body, a) = self.layers(body, shape, &format!("{name}.body"))?;
                let (shortcut, b) = self.layers(shortcut, shape, &format!("{name}.shortcut"))?;
                require(a == b, &format!("a body of shape {a} to be added to {b}"))?;
                (Layer::Add { body, shortcut }, a)
            }
        })
    }

    fn spiking(&mut self, kernel: Conv2d, extents: &[usize], name: &str) -> Layer {
        let (n_out, n) = (kernel.out_channels, kernel.n_weights());
        let bound = 1.0 / ((n / n_out) as f64).sqrt();
        let index = self.parameters.list.len() as u64;
        let mut stream = self.seed.stream("time-losses.weights", index);
        let draw = |_| ((2.0 * stream.uniform_f64() - 1.0) * bound) as f32;
        let weights: Vec<f32> = (0..n).map(draw).collect();
        let mut add = |what: &str, extents: &[usize], kind, values| {
            self.parameters.add(format!("{name}.{what}"), extents, kind, values)
        };
        let weight = add("weight", extents, Kind::Weight, weights);
        let scale = add("scale", &[n_out], Kind::Norm, vec![1.0; n_out]);
        let shift = add("shift", &[n_out], Kind::Norm, vec![0.0; n_out]);
        let conv = Conv::new(kernel, weight, None, Forms::default());
        let (name, threshold) = (name.to_owned(), vec![1.0; n_out]);
        Layer::Spiking(Box::new(Spiking { name, conv, scale, shift, threshold }))
    }
}
