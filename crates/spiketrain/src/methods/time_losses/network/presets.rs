//! Networks as recipes write them: a list of layers, or one of the authors' by name.

use crate::check::Checks;
use serde::{Deserialize, Serialize};

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
