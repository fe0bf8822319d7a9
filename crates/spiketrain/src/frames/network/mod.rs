//! What a network is made of: a list of layers in a recipe, or a preset that writes one.

mod presets;

pub use presets::{Dense, Network, Plain, Small, Vgg9, dense_features};

use super::activation::Activation;
use super::kernel::{Buffers, Conv2d, Forms, Pool};
use super::layer::{Add, Concat, Conv, Dropout, Layer, Vote};
use super::net::Net;
use super::neuron::{self, Lif};
use super::norm::{Norm, NormKind};
use super::parameters::Kind;
use crate::check::Checks;
use crate::error::{Error, Result};
use crate::seed::{Seed, Stream};
use crate::spikes::Shape;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One layer of a recipe: `{ conv = { channels = 32 } }`, `"norm"`, `"neuron"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum LayerSpec {
    /// Convolution.
    Conv(ConvSpec),
    /// Linear layer over all that comes in.
    Linear {
        /// Outputs.
        features: usize,
        /// Whether it has a bias.
        #[serde(default = "yes")]
        bias: bool,
    },
    /// Mean of windows.
    AveragePool(PoolSpec),
    /// Maximum of windows; of spikes it stays binary.
    MaxPool(PoolSpec),
    /// Mean over the whole image.
    GlobalAverage,
    /// The normalisation of the network.
    Norm,
    /// The neurons of the network.
    Neuron,
    /// Dropout in training.
    Dropout {
        /// Probability that a unit is silenced.
        rate: f32,
        /// Whether every step draws anew.
        #[serde(default)]
        per_step: bool,
    },
    /// Sum of two paths; an empty shortcut is the input itself.
    Add {
        /// One path.
        body: Vec<LayerSpec>,
        /// The other.
        #[serde(default)]
        shortcut: Vec<LayerSpec>,
    },
    /// The input's channels and those of a path, side by side.
    Concat {
        /// The path.
        body: Vec<LayerSpec>,
    },
    /// Mean of consecutive groups of outputs.
    Vote {
        /// Outputs a group.
        group: usize,
    },
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

fn three() -> usize {
    3
}

/// A convolution with a square kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvSpec {
    /// Output channels.
    pub channels: usize,
    /// Rows and columns of the kernel.
    #[serde(default = "three")]
    pub kernel: usize,
    /// Steps between windows.
    #[serde(default = "one")]
    pub stride: usize,
    /// Zeros on every side; half of the kernel, rounded down, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub padding: Option<usize>,
    /// Whether it has a bias.
    #[serde(default)]
    pub bias: bool,
}

/// Square windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolSpec {
    /// Rows and columns of a window.
    pub size: usize,
    /// Steps between windows; side by side if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<usize>,
    /// Rows and columns added on every side.
    #[serde(default)]
    pub padding: usize,
}

/// How weights begin.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Init {
    /// Uniform in ±1/√fan_in, biases too.
    Uniform {},
    /// Normal with variance 2/fan_in, biases 0 (K. He et al., ICCV 2015, arXiv 1502.01852).
    KaimingFanIn {},
    /// Normal with variance 2/fan_out, biases 0.
    KaimingFanOut {},
    /// Normal with a given deviation, biases 0.
    Normal {
        /// Standard deviation.
        deviation: f64,
    },
}

impl Init {
    /// What is wrong with the values.
    fn check(self) -> Checks {
        let mut c = Checks::default();
        if let Init::Normal { deviation } = self {
            c.positive("normal.deviation", deviation);
        }
        c
    }

    /// One weight of a layer with `fan_in` inputs an output and `fan_out` outputs an input.
    fn weight(self, stream: &mut Stream, fan_in: f64, fan_out: f64) -> f32 {
        let draw = match self {
            Init::Uniform {} => (2.0 * stream.uniform_f64() - 1.0) / fan_in.sqrt(),
            Init::KaimingFanIn {} => stream.normal(0.0, (2.0 / fan_in).sqrt()),
            Init::KaimingFanOut {} => stream.normal(0.0, (2.0 / fan_out).sqrt()),
            Init::Normal { deviation } => stream.normal(0.0, deviation),
        };
        draw as f32
    }

    fn bias(self, stream: &mut Stream, fan_in: f64) -> f32 {
        match self {
            Init::Uniform {} => self.weight(stream, fan_in, 1.0),
            _ => 0.0,
        }
    }
}

/// Layers and how their weights begin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The layers, from the input on.
    pub layers: Vec<LayerSpec>,
    /// Weights of convolutions.
    #[serde(default = "uniform")]
    pub conv_init: Init,
    /// Weights of linear layers.
    #[serde(default = "uniform")]
    pub linear_init: Init,
}

fn uniform() -> Init {
    Init::Uniform {}
}

impl Description {
    /// What is wrong with the values.
    fn check(&self) -> Checks {
        let mut c = Checks::default();
        c.nest("layers", check_layers(&self.layers));
        c.nest("conv_init", self.conv_init.check());
        c.nest("linear_init", self.linear_init.check());
        c
    }
}

fn check_layers(layers: &[LayerSpec]) -> Checks {
    let mut c = Checks::default();
    let most = 1 << 16;
    for (i, layer) in layers.iter().enumerate() {
        let field = |name: &str| format!("{i}.{name}");
        match layer {
            LayerSpec::Conv(conv) => {
                c.count(&field("conv.channels"), conv.channels, 1, most);
                c.count(&field("conv.kernel"), conv.kernel, 1, 64);
                c.count(&field("conv.stride"), conv.stride, 1, 64);
                c.count(&field("conv.padding"), conv.padding.unwrap_or(0), 0, 64);
            }
            LayerSpec::Linear { features, .. } => {
                c.count(&field("linear.features"), *features, 1, most);
            }
            LayerSpec::AveragePool(pool) | LayerSpec::MaxPool(pool) => {
                c.count(&field("pool.size"), pool.size, 1, 11);
                c.count(&field("pool.stride"), pool.stride.unwrap_or(1), 1, 64);
                let allowed = "a whole number below the size";
                c.that(pool.padding < pool.size, &field("pool.padding"), pool.padding, allowed);
            }
            LayerSpec::Dropout { rate, .. } => {
                let ok = (0.0..1.0).contains(rate);
                c.that(ok, &field("dropout.rate"), rate, "a number from 0 to below 1");
            }
            LayerSpec::Add { body, shortcut } => {
                c.nest(&field("add.body"), check_layers(body));
                c.nest(&field("add.shortcut"), check_layers(shortcut));
            }
            LayerSpec::Concat { body } => c.nest(&field("concat.body"), check_layers(body)),
            LayerSpec::Vote { group } => c.count(&field("vote.group"), *group, 1, most),
            LayerSpec::GlobalAverage | LayerSpec::Norm | LayerSpec::Neuron => {}
        }
    }
    c
}

/// What every layer of a network has in common.
#[derive(Clone, Debug)]
pub struct Common {
    /// Time steps.
    pub n_steps: usize,
    /// The neurons.
    pub neuron: neuron::Params,
    /// The normalisation.
    pub norm: NormKind,
    /// Source of the initial weights.
    pub seed: Seed,
}

/// Puts layers together; keeps the shape as it goes.
pub(super) struct Builder<'a> {
    pub(super) common: &'a Common,
    pub(super) conv_init: Init,
    pub(super) linear_init: Init,
    pub(super) net: Net,
    /// Memory of the forms of all weights.
    pub(super) forms: Arc<Buffers>,
}

impl Builder<'_> {
    /// The layers of `specs` on an input of `shape`, and the shape they give. `prefix` stands
    /// before the names of parameters.
    pub(super) fn layers(
        &mut self,
        specs: &[LayerSpec],
        mut shape: Shape,
        prefix: &str,
    ) -> Result<(Vec<Layer>, Shape)> {
        let mut layers: Vec<Layer> = Vec::new();
        for (i, spec) in specs.iter().enumerate() {
            let name = format!("{prefix}{i}");
            // Neurons join the normalisation before them: one pass does both.
            if *spec == LayerSpec::Neuron
                && let Some(Layer::Activation(a @ Activation { neuron: None, .. })) =
                    layers.last_mut()
            {
                a.neuron = Some(Lif::new(&self.common.neuron, &name, &mut self.net.parameters));
                continue;
            }
            let (layer, output) = self.layer(spec, shape, &name)?;
            layers.push(layer);
            shape = output;
        }
        Ok((layers, shape))
    }

    fn layer(&mut self, spec: &LayerSpec, shape: Shape, name: &str) -> Result<(Layer, Shape)> {
        Ok(match spec {
            LayerSpec::Conv(spec) => {
                let padding = spec.padding.unwrap_or(spec.kernel / 2);
                let fits = spec.kernel <= shape.height.min(shape.width) + 2 * padding;
                let kernel = spec.kernel;
                let what = format!("a kernel of {kernel}×{kernel} with padding {padding}");
                require(fits, name, shape, &what)?;
                let conv = Conv2d::square(shape, spec.channels, kernel, spec.stride, padding);
                (self.conv(conv, spec.bias, self.conv_init, false, name), conv.output())
            }
            LayerSpec::Linear { features, bias } => {
                let conv = Conv2d::linear(shape, *features);
                (self.conv(conv, *bias, self.linear_init, true, name), conv.output())
            }
            LayerSpec::AveragePool(spec) => {
                let pool = pool(spec, shape, name)?;
                (Layer::AveragePool(pool), pool.output())
            }
            LayerSpec::MaxPool(spec) => {
                let pool = pool(spec, shape, name)?;
                (Layer::MaxPool(pool), pool.output())
            }
            LayerSpec::GlobalAverage => {
                require(shape.height * shape.width < 128, name, shape, "a mean over 127 pixels")?;
                let pool = Pool::global(shape);
                (Layer::AveragePool(pool), pool.output())
            }
            LayerSpec::Norm => {
                let Common { n_steps, neuron, norm, .. } = self.common;
                let Net { parameters, running, .. } = &mut self.net;
                let extents = [*n_steps, shape.channels];
                let norm = Norm::new(*norm, name, extents, neuron.threshold, parameters, running);
                (Layer::Activation(Activation { norm: Some(norm), neuron: None }), shape)
            }
            LayerSpec::Neuron => {
                let neuron = Lif::new(&self.common.neuron, name, &mut self.net.parameters);
                (Layer::Activation(Activation { norm: None, neuron: Some(neuron) }), shape)
            }
            LayerSpec::Dropout { rate, per_step } => {
                let purpose = format!("frames.dropout.{name}");
                let (rate, is_per_step, len) = (*rate, *per_step, shape.len());
                (Layer::Dropout(Dropout { rate, is_per_step, purpose, len }), shape)
            }
            LayerSpec::Add { body, shortcut } => {
                let (body, of_body) = self.layers(body, shape, &format!("{name}.body"))?;
                let (shortcut, of_shortcut) =
                    self.layers(shortcut, shape, &format!("{name}.shortcut"))?;
                let what = format!("a body of shape {of_body} to be added to {of_shortcut}");
                require(of_body == of_shortcut, name, shape, &what)?;
                (Layer::Add(Add { body, shortcut }), of_body)
            }
            LayerSpec::Concat { body } => {
                let (body, of_body) = self.layers(body, shape, &format!("{name}.body"))?;
                let same = (of_body.height, of_body.width) == (shape.height, shape.width);
                require(same, name, shape, &format!("a body of shape {of_body} beside it"))?;
                let (in_channels, body_channels) = (shape.channels, of_body.channels);
                let output = Shape { channels: in_channels + body_channels, ..shape };
                (Layer::Concat(Concat { body, in_channels, body_channels }), output)
            }
            LayerSpec::Vote { group } => {
                let fits = shape.channels.is_multiple_of(*group);
                require(fits, name, shape, &format!("votes in groups of {group}"))?;
                let output = Shape { channels: shape.channels / group, ..shape };
                (Layer::Vote(Vote { group: *group }), output)
            }
        })
    }

    fn conv(
        &mut self,
        kernel: Conv2d,
        bias: bool,
        init: Init,
        is_linear: bool,
        name: &str,
    ) -> Layer {
        let n_out = kernel.out_channels;
        let taps = kernel.kernel[0] * kernel.kernel[1];
        let fan_in = (kernel.input.channels * taps) as f64;
        let fan_out = if is_linear { n_out as f64 } else { (n_out * taps) as f64 };
        let parameters = &mut self.net.parameters;
        let index = parameters.list.len() as u64;
        let mut stream = self.common.seed.stream("frames.weights", index);
        let weights = (0..kernel.n_weights()).map(|_| init.weight(&mut stream, fan_in, fan_out));
        let weights: Vec<f32> = weights.collect();
        let shape = match is_linear {
            true => vec![n_out, kernel.input.len()],
            false => vec![n_out, kernel.input.channels, kernel.kernel[0], kernel.kernel[1]],
        };
        let weight = parameters.add(format!("{name}.weight"), &shape, Kind::Weight, weights);
        let bias = bias.then(|| {
            let values = (0..n_out).map(|_| init.bias(&mut stream, fan_in)).collect();
            parameters.add(format!("{name}.bias"), &[n_out], Kind::Bias, values)
        });
        let forms = Forms::sharing(self.forms.clone());
        Layer::Conv(Box::new(Conv::new(kernel, weight, bias, forms)))
    }
}

fn pool(spec: &PoolSpec, shape: Shape, name: &str) -> Result<Pool> {
    let fits = spec.size <= shape.height.min(shape.width) + 2 * spec.padding;
    require(fits, name, shape, &format!("windows of {0}×{0}", spec.size))?;
    let stride = spec.stride.unwrap_or(spec.size);
    let (window, padding) = ([spec.size; 2], [spec.padding; 2]);
    Ok(Pool { input: shape, window, stride: [stride; 2], padding })
}

fn require(fits: bool, name: &str, shape: Shape, what: &str) -> Result<()> {
    if fits {
        return Ok(());
    }
    Err(Error::recipe(format!("{name} of the network cannot hold {what}: its input is {shape}")))
}
