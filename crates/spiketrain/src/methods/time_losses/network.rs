//! The networks of the paper's programs: every convolution and linear layer has neurons, none has
//! a bias.

use super::layers::{self, Backward, Dropout, Layer, Record, Spiking};
use super::neuron::{self, Neuron};
use crate::check::Checks;
use crate::error::{Error, Result};
use crate::frames::kernel::{Conv2d, Pool};
use crate::frames::layer::{Context, Conv, Notes, Phase};
use crate::frames::parameters::{Gradients, Kind, Parameters};
use crate::frames::shards::Workspaces;
use crate::frames::signal::{Gradient, Signal};
use crate::seed::Seed;
use crate::spikes::Shape;
use crate::state::State;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One layer of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum LayerSpec {
    /// Convolution with neurons.
    Conv {
        /// Output channels.
        channels: usize,
        /// Rows and columns of the kernel.
        kernel: usize,
        /// Steps between windows.
        #[serde(default = "one")]
        stride: usize,
        /// Zeros on every side.
        #[serde(default)]
        padding: usize,
    },
    /// Linear layer with neurons.
    Linear {
        /// Outputs.
        features: usize,
    },
    /// Average pool of windows side by side.
    Pool {
        /// Rows and columns of a window.
        size: usize,
    },
    /// Dropout of whole channels in training.
    Dropout {
        /// Probability that a channel is silenced.
        rate: f32,
    },
    /// Sum of two paths; an empty shortcut is the input itself.
    Add {
        /// One path.
        body: Vec<LayerSpec>,
        /// The other.
        #[serde(default)]
        shortcut: Vec<LayerSpec>,
    },
}

fn one() -> usize {
    1
}

/// Options of the deep networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Deep {
    /// Rate of the dropout.
    pub dropout: f32,
}

impl Default for Deep {
    fn default() -> Self {
        Self { dropout: 0.1 }
    }
}

/// A network by name: `network = { mnist = {} }`. In the lists a number is a convolution of so many
/// channels, P an average pool of 2, d dropout; the last layer has one neuron a class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Network {
    /// A list of layers.
    Custom {
        /// The layers, from the input on.
        layers: Vec<LayerSpec>,
    },
    /// 15C5 P 40C5 P, linear 300, linear; no padding.
    Mnist {},
    /// 32C5 P 64C5 P with padding 2, linear 1024, linear.
    FashionMnist {},
    /// 12C5 (padding 1) P 64C5 P, linear: for frames of 34×34.
    NMnist {},
    /// 128 128 P d 256 ×3 P d 512 ×3 P d, linear 2048 d, linear 2048 d, linear; kernels of 3.
    Vgg(Deep),
    /// 128C5; stages of 128, 256, 512 channels with two blocks of two convolutions each, every
    /// stage's first with stride 2 and a 1×1 convolution beside it, d after each; P, linear.
    Resnet(Deep),
    /// 128 P d 256 d 256 P d 256 d 256 P d 128 P d, linear 512 d, linear 256 d, linear: for frames
    /// of 48×48.
    DvsGesture(Deep),
    /// 128 P d 256 256 P d 256 512 P d 512 ×3 P d, linear 1024 d, linear 1024 d, linear: for frames
    /// of 48×48.
    Cifar10Dvs(Deep),
}

fn conv(channels: usize, kernel: usize, stride: usize, padding: usize) -> LayerSpec {
    LayerSpec::Conv { channels, kernel, stride, padding }
}

/// Layers from a list: numbers are 3×3 convolutions, 0 a pool with dropout, 1 dropout.
fn plain(features: &[usize], hidden: &[usize], rate: f32) -> Vec<LayerSpec> {
    let mut layers = Vec::new();
    for &feature in features {
        match feature {
            0 => layers.extend([LayerSpec::Pool { size: 2 }, LayerSpec::Dropout { rate }]),
            1 => layers.push(LayerSpec::Dropout { rate }),
            channels => layers.push(conv(channels, 3, 1, 1)),
        }
    }
    for &features in hidden {
        layers.extend([LayerSpec::Linear { features }, LayerSpec::Dropout { rate }]);
    }
    layers
}

fn resnet(rate: f32) -> Vec<LayerSpec> {
    let mut layers = vec![conv(128, 5, 1, 2)];
    for channels in [128, 256, 512] {
        let block = |stride: usize, shortcut: Vec<LayerSpec>| LayerSpec::Add {
            body: vec![conv(channels, 3, stride, 1), conv(channels, 3, 1, 1)],
            shortcut,
        };
        layers.push(block(2, vec![conv(channels, 1, 2, 0)]));
        layers.push(block(1, Vec::new()));
        layers.push(LayerSpec::Dropout { rate });
    }
    layers.push(LayerSpec::Pool { size: 2 });
    layers
}

impl Network {
    /// The layers for so many classes.
    pub fn layers(&self, n_classes: usize) -> Vec<LayerSpec> {
        let pool = LayerSpec::Pool { size: 2 };
        let small = |c: [usize; 2], padding: [usize; 2], hidden: Option<usize>| {
            let first = conv(c[0], 5, 1, padding[0]);
            let mut layers = vec![first, pool.clone(), conv(c[1], 5, 1, padding[1]), pool.clone()];
            layers.extend(hidden.map(|features| LayerSpec::Linear { features }));
            layers
        };
        let mut layers = match self {
            Network::Custom { layers } => return layers.clone(),
            Network::Mnist {} => small([15, 40], [0, 0], Some(300)),
            Network::FashionMnist {} => small([32, 64], [2, 2], Some(1024)),
            Network::NMnist {} => small([12, 64], [1, 0], None),
            Network::Vgg(Deep { dropout }) => {
                let features = [128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0];
                plain(&features, &[2048, 2048], *dropout)
            }
            Network::Resnet(Deep { dropout }) => resnet(*dropout),
            Network::DvsGesture(Deep { dropout }) => {
                let features = [128, 0, 256, 1, 256, 0, 256, 1, 256, 0, 128, 0];
                plain(&features, &[512, 256], *dropout)
            }
            Network::Cifar10Dvs(Deep { dropout }) => {
                let features = [128, 0, 256, 256, 0, 256, 512, 0, 512, 512, 512, 0];
                plain(&features, &[1024, 1024], *dropout)
            }
        };
        layers.push(LayerSpec::Linear { features: n_classes });
        layers
    }

    /// What is wrong with the values.
    pub fn check(&self) -> Checks {
        let mut c = Checks::default();
        match self {
            Network::Custom { layers } => {
                c.that(!layers.is_empty(), "custom.layers", "[]", "at least one layer");
                c.nest("custom.layers", check_layers(layers));
            }
            Network::Mnist {} | Network::FashionMnist {} | Network::NMnist {} => {}
            Network::Vgg(deep) => check_rate(&mut c, "vgg.dropout", deep.dropout),
            Network::Resnet(deep) => check_rate(&mut c, "resnet.dropout", deep.dropout),
            Network::DvsGesture(deep) => check_rate(&mut c, "dvs-gesture.dropout", deep.dropout),
            Network::Cifar10Dvs(deep) => check_rate(&mut c, "cifar10-dvs.dropout", deep.dropout),
        }
        c
    }
}

fn check_rate(c: &mut Checks, field: &str, rate: f32) {
    c.that((0.0..1.0).contains(&rate), field, rate, "a number from 0 to below 1");
}

fn check_layers(layers: &[LayerSpec]) -> Checks {
    let mut c = Checks::default();
    for (i, layer) in layers.iter().enumerate() {
        let field = |name: &str| format!("{i}.{name}");
        match layer {
            LayerSpec::Conv { channels, kernel, stride, padding } => {
                c.count(&field("conv.channels"), *channels, 1, 1 << 16);
                c.count(&field("conv.kernel"), *kernel, 1, 64);
                c.count(&field("conv.stride"), *stride, 1, 64);
                c.count(&field("conv.padding"), *padding, 0, 64);
            }
            LayerSpec::Linear { features } => {
                c.count(&field("linear.features"), *features, 1, 1 << 16);
            }
            LayerSpec::Pool { size } => c.count(&field("pool.size"), *size, 1, 11),
            LayerSpec::Dropout { rate } => check_rate(&mut c, &field("dropout.rate"), *rate),
            LayerSpec::Add { body, shortcut } => {
                c.nest(&field("add.body"), check_layers(body));
                c.nest(&field("add.shortcut"), check_layers(shortcut));
            }
        }
    }
    c
}

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
        Context { parameters, running: &[], workspaces, n_steps, phase }
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
        let mut back = Backward { gradients: self.parameters.zeros(), totals: Vec::new() };
        let neuron = &self.neuron;
        layers::backward(&self.layers, trace.records, e, neuron, &context, &mut back, false);
        back.totals.reverse();
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
        let packed = kernel.pack(&weights);
        let mut add = |what: &str, extents: &[usize], kind, values| {
            self.parameters.add(format!("{name}.{what}"), extents, kind, values)
        };
        let weight = add("weight", extents, Kind::Weight, weights);
        let scale = add("scale", &[n_out], Kind::Norm, vec![1.0; n_out]);
        let shift = add("shift", &[n_out], Kind::Norm, vec![0.0; n_out]);
        let conv = Conv { kernel, weight, bias: None, packed };
        let (name, threshold) = (name.to_owned(), vec![1.0; n_out]);
        Layer::Spiking(Box::new(Spiking { name, conv, scale, shift, threshold }))
    }
}
