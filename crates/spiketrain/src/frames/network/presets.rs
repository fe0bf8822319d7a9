//! Networks of the literature, written as layers.

use super::{ConvSpec, Description, Init, LayerSpec, PoolSpec};
use crate::check::Checks;
use serde::{Deserialize, Serialize};

/// A network by name: `network = { resnet-18 = {} }`.
///
/// In a feature list a number is a 3×3 convolution of so many channels with normalisation and
/// neurons, A an average pool of 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Network {
    /// A list of layers.
    Custom(Description),
    /// Three convolutions, the second and third with stride 2, linear: for images of 28×28; spikes
    /// stay binary.
    SmallConv(Small),
    /// 32 32 A 64 64 A 128 128 A, linear.
    NetworkS(Plain),
    /// 64 64 A 128 128 A 256 256 256 A, dropout, linear 1024, dropout, linear, vote (the VGG-9 of
    /// C. Duan et al., NeurIPS 2022). No neurons after the convolutions.
    #[serde(rename = "vgg-9")]
    Vgg9(Vgg9),
    /// 64 A 128 256 A 512 512 A 512 A 512 512, mean, linear.
    #[serde(rename = "vgg-11")]
    Vgg11(Plain),
    /// 64 64 A 128 128 A 256 256 A 512 512 512 A 512, mean, linear.
    #[serde(rename = "vgg-13")]
    Vgg13(Plain),
    /// 64 64 A 128 128 A 256 256 256 A 512 512 512 A 512 512 512, mean, linear.
    #[serde(rename = "vgg-16")]
    Vgg16(Plain),
    /// 64 128 A 256 256 A 512 512 A 512 512, average to 3×3, linear: for images of 32×32.
    VggsnnCifar(Plain),
    /// 64 128 A 256 256 A 512 512 A 512 512 A, linear: for frames of 48×48.
    VggsnnDvs(Plain),
    /// 64 64 A 128 128 A 256 A, linear 1024 with neurons, linear: for frames of 48×48.
    SevenLayer(Plain),
    /// ResNet-18 for small images: 64, 128, 256, 512, two blocks each, mean, linear.
    #[serde(rename = "resnet-18")]
    Resnet18 {},
    /// ResNet-19: 128 ×3, 256 ×3, 512 ×2 blocks, mean, linear 256 with neurons, linear.
    #[serde(rename = "resnet-19")]
    Resnet19 {},
    /// ResNet-19 of C. Duan et al., NeurIPS 2022: a normalisation on identity paths too; average
    /// pool of 2, dropout, linear 256 without neurons, dropout, linear, vote.
    #[serde(rename = "resnet-19-tebn")]
    Resnet19Tebn(Vgg9),
    /// SEW-ResNet-34 for images of 224×224: spikes of both paths are added.
    #[serde(rename = "sew-resnet-34")]
    SewResnet34 {},
    /// PreAct-ResNet-34 for images of 224×224: neurons before the convolutions.
    #[serde(rename = "preact-resnet-34")]
    PreactResnet34 {},
    /// Spiking DenseNet, linear at the end.
    Densenet(Dense),
}

/// Options of the small network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Small {
    /// Channels of the three convolutions.
    pub channels: [usize; 3],
}

impl Default for Small {
    fn default() -> Self {
        Self { channels: [32, 64, 128] }
    }
}

/// Options of a plain network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plain {
    /// Whether convolutions have a bias, which the normalisation after them takes out again.
    pub bias: bool,
}

/// Options of the networks of C. Duan et al.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Vgg9 {
    /// Dropout before both linear layers, drawn for every step.
    pub dropout: f32,
    /// Outputs a class that vote; 1 for none.
    pub vote: usize,
    /// Whether convolutions have a bias.
    pub bias: bool,
}

impl Default for Vgg9 {
    fn default() -> Self {
        Self { dropout: 0.25, vote: 10, bias: false }
    }
}

/// Options of the spiking DenseNet of S. Wang, T. H. Cheng, M.-H. Lim, NeurIPS 2022 (LTMD).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dense {
    /// Maps of the first convolution.
    pub initial: usize,
    /// Maps that a dense layer adds.
    pub growth: usize,
    /// Dense layers in each block.
    pub blocks: Vec<usize>,
    /// Maps of the 1×1 convolution in a dense layer, as a multiple of the growth.
    pub bottleneck: usize,
}

impl Default for Dense {
    fn default() -> Self {
        Self { initial: 256, growth: 32, blocks: vec![12, 12, 24], bottleneck: 4 }
    }
}

fn conv(channels: usize, kernel: usize, stride: usize, bias: bool) -> LayerSpec {
    LayerSpec::Conv(ConvSpec { channels, kernel, stride, padding: None, bias })
}

fn average(size: usize, stride: usize) -> LayerSpec {
    LayerSpec::AveragePool(PoolSpec { size, stride: Some(stride), padding: 0 })
}

fn linear(features: usize) -> LayerSpec {
    LayerSpec::Linear { features, bias: true }
}

fn dropout(rate: f32) -> LayerSpec {
    LayerSpec::Dropout { rate, per_step: true }
}

/// Convolution, normalisation, neurons.
fn unit(channels: usize, kernel: usize, stride: usize, bias: bool) -> [LayerSpec; 3] {
    [conv(channels, kernel, stride, bias), LayerSpec::Norm, LayerSpec::Neuron]
}

/// A feature list; 0 is an average pool.
fn features(list: &[usize], bias: bool) -> Vec<LayerSpec> {
    let of = |&n: &usize| match n {
        0 => vec![average(2, 2)],
        n => unit(n, 3, 1, bias).into(),
    };
    list.iter().flat_map(of).collect()
}

/// Dropout, linear, dropout, linear, vote.
fn voting_head(hidden: usize, n_classes: usize, options: &Vgg9) -> Vec<LayerSpec> {
    let outputs = n_classes * options.vote;
    let mut head = Vec::new();
    for features in [hidden, outputs] {
        if options.dropout > 0.0 {
            head.push(dropout(options.dropout));
        }
        head.push(linear(features));
    }
    if options.vote > 1 {
        head.push(LayerSpec::Vote { group: options.vote });
    }
    head
}

/// How the blocks of a residual network are made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    /// conv, norm, neurons, conv, norm; added to the input; neurons.
    Basic,
    /// The same with a normalisation on the identity path.
    NormedIdentity,
    /// Two units; their spikes are added to the input's.
    Sew,
    /// neurons, conv, norm, neurons, conv, norm; added to the input.
    PreAct,
}

/// One block from `from` to `to` channels.
fn block(kind: Block, from: usize, to: usize, stride: usize) -> Vec<LayerSpec> {
    let bias = matches!(kind, Block::Sew | Block::PreAct);
    let mut body: Vec<LayerSpec> = Vec::new();
    for stride in [stride, 1] {
        let [conv, norm, neuron] = unit(to, 3, stride, bias);
        match kind {
            Block::PreAct => body.extend([neuron, conv, norm]),
            _ => body.extend([conv, norm, neuron]),
        }
    }
    let changes = from != to || stride != 1;
    let mut shortcut = match (changes, kind) {
        (true, _) => vec![conv(to, 1, stride, bias), LayerSpec::Norm],
        (false, Block::NormedIdentity) => vec![LayerSpec::Norm],
        (false, _) => Vec::new(),
    };
    match kind {
        Block::Basic | Block::NormedIdentity => {
            body.pop();
            vec![LayerSpec::Add { body, shortcut }, LayerSpec::Neuron]
        }
        Block::Sew => {
            if changes {
                shortcut.push(LayerSpec::Neuron);
            }
            vec![LayerSpec::Add { body, shortcut }]
        }
        Block::PreAct => vec![LayerSpec::Add { body, shortcut }],
    }
}

/// Stages of (channels, blocks, stride of the first block).
fn stages(kind: Block, mut from: usize, stages: &[(usize, usize, usize)]) -> Vec<LayerSpec> {
    let mut layers = Vec::new();
    for &(to, n_blocks, stride) in stages {
        for i in 0..n_blocks {
            layers.extend(block(kind, from, to, if i == 0 { stride } else { 1 }));
            from = to;
        }
    }
    layers
}

const STAGES_34: [(usize, usize, usize); 4] = [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)];

/// The spiking DenseNet up to its mean over the image. In transitions the neurons stand before the
/// normalisation, as in the authors' program.
pub fn dense_features(dense: &Dense) -> Vec<LayerSpec> {
    let mut channels = dense.initial;
    let mut layers: Vec<LayerSpec> = unit(channels, 3, 1, false).into();
    layers.push(conv(channels, 3, 2, false));
    for (i, &n_layers) in dense.blocks.iter().enumerate() {
        for _ in 0..n_layers {
            let mut body = vec![LayerSpec::Norm, LayerSpec::Neuron];
            body.push(conv(dense.bottleneck * dense.growth, 1, 1, false));
            body.extend([LayerSpec::Norm, LayerSpec::Neuron, conv(dense.growth, 3, 1, false)]);
            layers.push(LayerSpec::Concat { body });
            channels += dense.growth;
        }
        if i + 1 < dense.blocks.len() {
            channels /= 2;
            layers.extend([LayerSpec::Neuron, LayerSpec::Norm]);
            layers.extend([conv(channels, 1, 1, false), average(2, 2)]);
        } else {
            layers.extend([LayerSpec::Norm, LayerSpec::Neuron]);
        }
    }
    layers.push(LayerSpec::GlobalAverage);
    layers
}

impl Network {
    /// The layers for `n_classes` classes.
    pub fn description(&self, n_classes: usize) -> Description {
        let mut init = [Init::Uniform {}; 2];
        let end = [LayerSpec::GlobalAverage, linear(n_classes)];
        let plain = |list: &[usize], bias, end: &[LayerSpec]| {
            let mut layers = features(list, bias);
            layers.extend_from_slice(end);
            layers
        };
        let layers = match self {
            Network::Custom(description) => return description.clone(),
            Network::SmallConv(small) => {
                let units = small.channels.iter().zip([1, 2, 2]);
                let layers = units.flat_map(|(&n, stride)| unit(n, 3, stride, false));
                layers.chain([linear(n_classes)]).collect()
            }
            Network::NetworkS(o) => plain(&[32, 32, 0, 64, 64, 0, 128, 128, 0], o.bias, &end[1..]),
            Network::Vgg9(o) => {
                init[0] = Init::KaimingFanOut {};
                let list = [64, 64, 0, 128, 128, 0, 256, 256, 256, 0];
                plain(&list, o.bias, &voting_head(1024, n_classes, o))
            }
            Network::Vgg11(o) => {
                init = [Init::Normal { deviation: 0.5 }; 2];
                plain(&[64, 0, 128, 256, 0, 512, 512, 0, 512, 0, 512, 512], o.bias, &end)
            }
            Network::Vgg13(o) => {
                init = [Init::Normal { deviation: 0.5 }; 2];
                plain(&[64, 64, 0, 128, 128, 0, 256, 256, 0, 512, 512, 512, 0, 512], o.bias, &end)
            }
            Network::Vgg16(o) => {
                init[0] = Init::KaimingFanOut {};
                let list = [64, 64, 0, 128, 128, 0, 256, 256, 256, 0];
                let list = [list.as_slice(), &[512, 512, 512, 0, 512, 512, 512]].concat();
                plain(&list, o.bias, &end)
            }
            Network::VggsnnCifar(o) => {
                init = [Init::Normal { deviation: 0.5 }; 2];
                let list = [64, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512];
                plain(&list, o.bias, &[average(2, 1), linear(n_classes)])
            }
            Network::VggsnnDvs(o) => {
                init = [Init::Normal { deviation: 0.5 }; 2];
                plain(&[64, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0], o.bias, &end[1..])
            }
            Network::SevenLayer(o) => {
                init[0] = Init::KaimingFanOut {};
                let end = [linear(1024), LayerSpec::Neuron, linear(n_classes)];
                plain(&[64, 64, 0, 128, 128, 0, 256, 0], o.bias, &end)
            }
            Network::Resnet18 {} => {
                let body = [(64, 2, 1), (128, 2, 2), (256, 2, 2), (512, 2, 2)];
                let layers = unit(64, 3, 1, false).into_iter();
                layers.chain(stages(Block::Basic, 64, &body)).chain(end).collect()
            }
            Network::Resnet19 {} => {
                let layers = unit(128, 3, 1, false).into_iter();
                let body = stages(Block::Basic, 128, &[(128, 3, 1), (256, 3, 2), (512, 2, 2)]);
                let [mean, last] = end;
                let head = [mean, linear(256), LayerSpec::Neuron, last];
                layers.chain(body).chain(head).collect()
            }
            Network::Resnet19Tebn(o) => {
                init[0] = Init::KaimingFanOut {};
                let layers = unit(128, 3, 1, o.bias).into_iter();
                let body = [(128, 3, 1), (256, 3, 2), (512, 2, 2)];
                let layers = layers.chain(stages(Block::NormedIdentity, 128, &body));
                let head = voting_head(256, n_classes, o);
                layers.chain([average(2, 2)]).chain(head).collect()
            }
            Network::SewResnet34 {} => {
                init[0] = Init::KaimingFanOut {};
                let pool = PoolSpec { size: 3, stride: Some(2), padding: 1 };
                let layers = unit(64, 7, 2, true).into_iter().chain([LayerSpec::MaxPool(pool)]);
                layers.chain(stages(Block::Sew, 64, &STAGES_34)).chain(end).collect()
            }
            Network::PreactResnet34 {} => {
                init[0] = Init::KaimingFanOut {};
                let pool = PoolSpec { size: 3, stride: Some(2), padding: 1 };
                let stem = [conv(64, 7, 2, true), LayerSpec::Norm, LayerSpec::MaxPool(pool)];
                let layers = stem.into_iter().chain(stages(Block::PreAct, 64, &STAGES_34));
                layers.chain(end).collect()
            }
            Network::Densenet(dense) => {
                init[0] = Init::KaimingFanIn {};
                let mut layers = dense_features(dense);
                layers.push(linear(n_classes));
                layers
            }
        };
        Description { layers, conv_init: init[0], linear_init: init[1] }
    }

    /// What is wrong with the values.
    pub fn check(&self) -> Checks {
        let mut c = Checks::default();
        match self {
            Network::Custom(d) => c.nest("custom", d.check()),
            Network::Vgg9(o) | Network::Resnet19Tebn(o) => {
                let name =
                    if matches!(self, Network::Vgg9(_)) { "vgg-9" } else { "resnet-19-tebn" };
                let ok = (0.0..1.0).contains(&o.dropout);
                let field = format!("{name}.dropout");
                c.that(ok, &field, o.dropout, "a number from 0 to below 1");
                c.count(&format!("{name}.vote"), o.vote, 1, 1000);
            }
            Network::SmallConv(small) => {
                for &n in &small.channels {
                    c.count("small-conv.channels", n, 1, 4096);
                }
            }
            Network::Densenet(d) => {
                c.count("densenet.initial", d.initial, 1, 4096);
                c.count("densenet.growth", d.growth, 1, 1024);
                c.count("densenet.bottleneck", d.bottleneck, 1, 64);
                c.count("densenet.blocks", d.blocks.len(), 1, 8);
                for &n in &d.blocks {
                    c.count("densenet.blocks", n, 1, 128);
                }
            }
            _ => {}
        }
        c
    }
}

#[cfg(test)]
mod tests {
    use super::super::Common;
    use super::*;
    use crate::frames::net::Net;
    use crate::frames::neuron;
    use crate::frames::norm::NormKind;
    use crate::seed::Seed;
    use crate::spikes::Shape;

    fn net(network: &Network, norm: NormKind, input: Shape, n_classes: usize) -> Net {
        let (neuron, seed) = (neuron::Params::default(), Seed(1));
        let common = Common { n_steps: 4, neuron, norm, seed };
        // Uniform draws are the cheapest.
        let init = Init::Uniform {};
        let layers = network.description(n_classes).layers;
        let description = Description { layers, conv_init: init, linear_init: init };
        let net = Net::new(&description, input, &common).unwrap();
        net.require_classes(n_classes).unwrap();
        net
    }

    #[test]
    fn a_description_is_checked_with_its_initial_weights() {
        let fields = |conv: f64, linear: f64, kernel: usize| -> Vec<String> {
            let layers = vec![super::conv(4, kernel, 1, false)];
            let [conv_init, linear_init] =
                [conv, linear].map(|deviation| Init::Normal { deviation });
            let description = Description { layers, conv_init, linear_init };
            let found = Network::Custom(description).check().found;
            found.into_iter().map(|invalid| invalid.field).collect()
        };
        let (of_conv, of_linear) =
            ("custom.conv_init.normal.deviation", "custom.linear_init.normal.deviation");
        assert!(fields(0.1, 1.0, 3).is_empty());
        assert_eq!(fields(f64::NAN, f64::INFINITY, 3), [of_conv, of_linear]);
        assert_eq!(fields(1.0, 0.0, 3), [of_linear]);
        assert_eq!(fields(-1.0, 1.0, 0), ["custom.layers.0.conv.kernel", of_conv]);
    }

    /// Figures of the published networks.
    #[test]
    fn networks_have_as_many_parameters_as_published() {
        let (cifar, dvs) = (Shape::new(3, 32, 32), Shape::new(2, 48, 48));
        let biased = || Plain { bias: true };
        let bn = NormKind::BatchNorm {};
        let check = |network: Network, norm, input, n_classes, expected: usize| {
            let n = net(&network, norm, input, n_classes).parameters.n_values();
            assert_eq!(n, expected, "{network:?}");
        };
        let vgg9 = Vgg9 { bias: true, ..Vgg9::default() };
        check(Network::Vgg9(vgg9), NormKind::Tebn {}, cifar, 10, 6_035_648);
        check(Network::NetworkS(biased()), bn, cifar, 10, 308_394);
        check(Network::NetworkS(biased()), NormKind::Tebn {}, cifar, 10, 308_418);
        check(Network::Resnet18 {}, bn, cifar, 10, 11_173_962);
        check(Network::Resnet18 {}, bn, cifar, 100, 11_220_132);
        check(Network::Resnet19 {}, bn, cifar, 10, 12_697_994);
        check(Network::Resnet19 {}, bn, cifar, 100, 12_721_124);
        check(Network::Vgg11(biased()), bn, cifar, 10, 11_001_354);
        check(Network::Vgg13(biased()), bn, cifar, 10, 9_416_010);
        check(Network::VggsnnCifar(biased()), bn, cifar, 10, 9_272_074);
        check(Network::VggsnnDvs(biased()), bn, dvs, 10, 9_271_498);
    }

    #[test]
    fn imagenet_networks_have_as_many_parameters_as_published() {
        let (input, bn) = (Shape::new(3, 224, 224), NormKind::BatchNorm {});
        let count = |network| net(&network, bn, input, 1000).parameters.n_values();
        assert_eq!(count(Network::SewResnet34 {}), 21_806_184);
        assert_eq!(count(Network::PreactResnet34 {}), 21_806_184);
    }

    /// The published network has a hidden linear layer in place of the last one here.
    #[test]
    fn dense_features_are_those_of_the_published_network() {
        let network = Network::Densenet(Dense::default());
        let net = net(&network, NormKind::BatchNorm {}, Shape::new(3, 32, 32), 10);
        let hidden = 1120 * 256 + 256 + 256 * 10 + 10;
        let lateral_and_thresholds = 2 * 5 + 102;
        let n = net.parameters.n_values() - (1120 * 10 + 10);
        assert_eq!(n + hidden + lateral_and_thresholds, 6_820_282);
    }

    #[test]
    fn every_network_fits_its_data() {
        let cifar = Shape::new(3, 32, 32);
        let tebn = NormKind::Tebn {};
        net(&Network::SmallConv(Small::default()), tebn, Shape::new(1, 28, 28), 10);
        net(&Network::Resnet19Tebn(Vgg9::default()), tebn, cifar, 10);
        net(&Network::SevenLayer(Plain::default()), tebn, Shape::new(2, 48, 48), 10);
        let small = Dense { initial: 64, growth: 32, blocks: vec![4, 4], bottleneck: 4 };
        net(&Network::Densenet(small), tebn, Shape::new(1, 28, 28), 10);
    }
}
