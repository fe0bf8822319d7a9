//! Eligibilities in every reset, normalisations of the rate pass, and whole networks in both modes.

use super::frames::{self, LAYER, NETWORK, Tolerance, ZERO, close, number, text};
use super::{Comparison, Golden, Kind};
use spiketrain::frames::activation::Activation;
use spiketrain::frames::loss::Loss;
use spiketrain::frames::net::{Net, steady};
use spiketrain::frames::network::{Common, ConvSpec, Description, Init, LayerSpec};
use spiketrain::frames::neuron::{self, Lif, Reset};
use spiketrain::frames::norm::{Norm, NormKind};
use spiketrain::frames::optimizer::{Optimizer, Settings as OptimizerSettings};
use spiketrain::frames::parameters::{Gradients, Parameters};
use spiketrain::frames::shards::Workspaces;
use spiketrain::frames::signal::Signal;
use spiketrain::frames::slope::Slope;
use spiketrain::methods::rate_bp::eligibility::{Neurons, advance_factor};
use spiketrain::methods::rate_bp::spike_pass::{self, NotedNorm, statistics};
use spiketrain::methods::rate_bp::{Mode, Settings, rate_pass};
use spiketrain::{Seed, Shape};
use std::sync::Arc;

pub(crate) const KINDS: [Kind; 3] = [
    Kind { folder: "rate-bp", recognises: |g| is(g, "lif_eligibility"), check: check_eligibility },
    Kind { folder: "rate-bp", recognises: |g| is(g, "bn_rate_stage"), check: check_norm },
    Kind { folder: "rate-bp", recognises: |g| is(g, "net"), check: check_network },
];

fn is(golden: &Golden, case: &str) -> bool {
    golden.metadata.get("case").is_some_and(|c| c == case)
}

fn neuron(golden: &Golden) -> neuron::Params {
    let reset_of_layer = golden.metadata.get("reset_mode");
    let reset = reset_of_layer.map_or_else(|| text(golden, "reset"), String::as_str);
    let (reset, detach_reset) = match reset {
        "soft" => (Reset::Soft, false),
        "soft_detach" | "soft, detached" => (Reset::Soft, true),
        "hard" => (Reset::Hard, false),
        "hard_detach" | "hard, detached" => (Reset::Hard, true),
        other => panic!("unknown reset {other}"),
    };
    let steepness = text(golden, "surrogate").strip_prefix("sigmoid alpha=");
    let steepness = steepness.and_then(|a| a.parse().ok()).expect("a sigmoid");
    assert_eq!(text(golden, "spike_when"), "u>=threshold");
    neuron::Params {
        decay: number(golden, "decay") as f32,
        threshold: number(golden, "threshold") as f32,
        reset,
        detach_reset,
        fires_at_threshold: true,
        slope: Slope::Sigmoid { steepness },
        ..neuron::Params::default()
    }
}

fn mode(golden: &Golden) -> Mode {
    match text(golden, "mode") {
        "multi-step" => Mode::MultiStep,
        "single-step" => Mode::SingleStep,
        other => panic!("unknown mode {other}"),
    }
}

/// Shape of one image of `[…, sample, channel, row, column]` or `[…, sample, unit]`.
fn shape_of(image: &[usize]) -> Shape {
    match *image {
        [n] => Shape::flat(n),
        [channels, height, width] => Shape::new(channels, height, width),
        ref other => panic!("images of shape {other:?}"),
    }
}

/// Compares with the references in double and in single precision.
fn close_to_both(
    golden: &Golden,
    comparison: &mut Comparison,
    name: &str,
    ours: &[f32],
    tolerance: Tolerance,
) {
    close(golden, comparison, name, ours, tolerance);
    let single = format!("f32.{name}");
    if golden.has(&single) {
        let reference = golden.get::<f32>(&single);
        let max = reference.iter().map(|x| f64::from(x.abs())).fold(0.0, f64::max);
        comparison.close(&single, ours, reference, tolerance[0] * max + tolerance[1]);
    }
}

fn check_eligibility(golden: &Golden, comparison: &mut Comparison) {
    let lif = Lif::new(&neuron(golden), "neuron", &mut Parameters::default());
    let (x, extents) = (golden.get::<f32>("in.x"), golden.shape("in.x"));
    let (n_steps, n_samples, shape) = (extents[0], extents[1], shape_of(&extents[2..]));
    let n = n_samples * shape.len();
    let threshold = lif.threshold(&Parameters::default());
    let (mut v, mut f) = (vec![0.0; n], vec![lif.gain; n]);
    let (mut membranes, mut slopes, mut factors) = (Vec::new(), Vec::new(), Vec::new());
    for x in x.chunks_exact(n) {
        let (mut u, mut h) = (x.to_vec(), vec![0.0; n]);
        lif.charge(&v, &mut u);
        lif.slope.write(&u, threshold, &mut h);
        factors.extend_from_slice(&f);
        advance_factor(&lif, threshold, &u, &h, &mut f);
        lif.reset(&u, threshold, &mut v);
        membranes.extend(u);
        slopes.extend(h);
    }
    close(golden, comparison, "u", &membranes, LAYER);
    close(golden, comparison, "sg", &slopes, LAYER);
    close(golden, comparison, "elig_factor", &factors, LAYER);

    let input = frames::signal(x, shape, n_steps);
    let outside = |values: &[f32]| frames::outside(values, shape);
    let upstream = frames::gradient(golden.get("in.grad_rate"), shape);
    for goes_on in [false, true] {
        let workspaces = Workspaces::default();
        let mut neurons = Neurons::new(&lif, n, n_steps, goes_on, &workspaces);
        let mut spikes = Vec::new();
        for block in x.chunks_exact(if goes_on { n } else { x.len() }) {
            let block = frames::signal(block, shape, block.len() / n);
            spikes.extend(frames::planes(neurons.advance(&lif, threshold, &block, None, None)));
        }
        comparison.exact::<f32, u8>("spikes", &spikes, golden.get("spikes"));
        let Neurons { rate, eligibility, .. } = &neurons;
        close_to_both(golden, comparison, "mean_rate", &outside(rate), LAYER);
        close_to_both(golden, comparison, "elig", &outside(eligibility), LAYER);
        let layer = Activation { norm: None, neuron: Some(lif) };
        let one = Signal { n_steps: 1, ..input.clone() };
        let record = Activation::record_of(Arc::new(one), None, Some(eligibility.clone()));
        let mut none = Parameters::default().zeros();
        let d = layer.backward(&Parameters::default(), &record, upstream.clone(), &mut none);
        close_to_both(golden, comparison, "grad_x_rate", &outside(&d), LAYER);
        close(golden, comparison, "bptt_grad_constant_input", &outside(&d), LAYER);
    }
    // The same through time: the gradient of the mean rate, summed over the steps.
    let layer = Activation { norm: None, neuron: Some(lif) };
    let record = Activation::record(Arc::new(input), None);
    let d: Vec<f32> = upstream.repeat(n_steps).iter().map(|d| d / n_steps as f32).collect();
    let mut none = Parameters::default().zeros();
    let d = layer.backward(&Parameters::default(), &record, d, &mut none);
    let d = spiketrain::frames::activation::sum_steps(&d, n_steps);
    close(golden, comparison, "bptt_grad_constant_input", &outside(&d), LAYER);
}

fn check_norm(golden: &Golden, comparison: &mut Comparison) {
    let (mode, n_steps) = (mode(golden), number(golden, "T") as usize);
    let shape = frames::image_shape(golden.shape("in.x_spike"));
    let (mut parameters, mut running) = (Parameters::default(), Vec::new());
    let kind = NormKind::BatchNorm {};
    let extents = [n_steps, shape.channels];
    let norm = Norm::new(kind, "norm", extents, 1.0, &mut parameters, &mut running);
    for (p, name) in parameters.list.iter_mut().zip(["in.weight", "in.bias"]) {
        p.values.copy_from_slice(golden.get(name));
    }
    let layer = Activation { norm: Some(norm), neuron: None };
    let spikes = golden.get::<f32>("in.x_spike");
    let n_blocks = if mode == Mode::MultiStep { 1 } else { n_steps };
    let (mut outputs, mut moments, mut last) = (Vec::new(), Vec::new(), None);
    for block in spikes.chunks_exact(spikes.len() / n_blocks) {
        let block = frames::signal(block, shape, n_steps / n_blocks);
        let (affine, of_block) = layer.of_batch(&parameters, &block).expect("a normalisation");
        running[0].update(&of_block);
        outputs.extend(frames::planes(layer.forward(&parameters, &block, Some(&affine))));
        moments.push(of_block);
        last = Some(affine);
    }
    close(golden, comparison, "y_spike", &outputs, LAYER);
    close_to_both(golden, comparison, "running_mean", &running[0].mean, LAYER);
    close_to_both(golden, comparison, "running_var", &running[0].variance, LAYER);
    // The layer alone was run with a count of steps that advanced; in the authors' networks it
    // does not, and the mean is that of the last step.
    let settings = Settings { mode, avg_mean: true, ..Settings::default() };
    let (mean, variance) = statistics(&moments, &settings);
    let narrow = |v: &[f64]| v.iter().map(|&v| v as f32).collect::<Vec<_>>();
    close_to_both(golden, comparison, "stat_mean", &narrow(&mean.values), LAYER);
    close_to_both(golden, comparison, "stat_var", &narrow(&variance.values), LAYER);

    let x = Arc::new(frames::signal(golden.get("in.x_rate"), shape, 1));
    let affine = last.expect("a block");
    let noted = NotedNorm { input: x.clone(), affine, moments };
    let affine = rate_pass::affine(&noted, &x, false, &settings);
    let y = layer.forward(&parameters, &x, Some(&affine));
    close(golden, comparison, "y_rate", &frames::planes(y), LAYER);
    let record = Activation::record(x, Some(affine));
    let mut gradients = parameters.zeros();
    let d = frames::gradient(golden.get("in.grad_out"), shape);
    let d = layer.backward(&parameters, &record, d, &mut gradients);
    close_to_both(golden, comparison, "grad_x_rate", &frames::outside(&d, shape), LAYER);
    close_to_both(golden, comparison, "grad_weight", &gradients.list[0], LAYER);
    close_to_both(golden, comparison, "grad_bias", &gradients.list[1], LAYER);
}

/// A network of a file, in our layers, with the file's names.
struct Described {
    layers: Vec<LayerSpec>,
    /// The file's name of each parameter, in our order.
    parameters: Vec<String>,
    /// The file's name of each normalisation.
    norms: Vec<String>,
    /// The file's name of each layer of neurons, in the order in which they run, and its shape.
    neurons: Vec<(String, Shape)>,
}

impl Described {
    /// Reads the network from the names and shapes of the tensors.
    fn new(golden: &Golden, input: Shape) -> Self {
        let mut net = Self {
            layers: Vec::new(),
            parameters: Vec::new(),
            norms: Vec::new(),
            neurons: Vec::new(),
        };
        let has = |layer: &str| golden.has(&format!("in.param.{layer}.weight"));
        let mut shape = input;
        if has("conv0") {
            let mut layers = net.convolution(golden, "conv0", Some("bn0"), "lif0", &mut shape);
            net.neurons(golden, "lif0", &mut layers);
            net.layers.extend(layers);
            for i in (1..).take_while(|i| has(&format!("b{i}.conv1"))) {
                net.block(golden, &format!("b{i}"), &mut shape);
            }
            net.layers.push(LayerSpec::GlobalAverage);
        }
        for i in (1..).take_while(|i| has(&format!("conv{i}"))) {
            let (conv, bn, lif) = (format!("conv{i}"), format!("bn{i}"), format!("lif{i}"));
            let norm = has(&bn).then_some(bn.as_str());
            let mut layers = net.convolution(golden, &conv, norm, &lif, &mut shape);
            net.neurons(golden, &lif, &mut layers);
            net.layers.extend(layers);
        }
        for i in (1..).take_while(|i| has(&format!("fc{i}"))) {
            net.linear(golden, &format!("fc{i}"));
            let lif = format!("lif{i}");
            if golden.has(&format!("f64.elig.{lif}")) {
                let mut layers = Vec::new();
                net.neurons(golden, &lif, &mut layers);
                net.layers.extend(layers);
            }
        }
        if has("fc") {
            net.linear(golden, "fc");
        }
        net
    }

    fn learned(&mut self, golden: &Golden, layer: &str) -> bool {
        self.parameters.push(format!("{layer}.weight"));
        let has_bias = golden.has(&format!("in.param.{layer}.bias"));
        if has_bias {
            self.parameters.push(format!("{layer}.bias"));
        }
        has_bias
    }

    fn linear(&mut self, golden: &Golden, name: &str) {
        let bias = self.learned(golden, name);
        let features = golden.shape(&format!("in.param.{name}.weight"))[0];
        self.layers.push(LayerSpec::Linear { features, bias });
    }

    /// A convolution and its normalisation; `neurons` gives the shape of its output.
    fn convolution(
        &mut self,
        golden: &Golden,
        name: &str,
        norm: Option<&str>,
        neurons: &str,
        shape: &mut Shape,
    ) -> Vec<LayerSpec> {
        let [channels, _, kernel, _] = *golden.shape(&format!("in.param.{name}.weight")) else {
            panic!("{name} is a convolution")
        };
        let output = shape_of(&golden.shape(&format!("f64.elig.{neurons}"))[1..]);
        let stride = shape.height / output.height;
        let bias = self.learned(golden, name);
        let padding = Some(kernel / 2);
        *shape = output;
        let conv = ConvSpec { channels, kernel, stride, padding, bias };
        let mut layers = vec![LayerSpec::Conv(conv)];
        if let Some(norm) = norm {
            self.learned(golden, norm);
            self.norms.push(norm.to_owned());
            layers.push(LayerSpec::Norm);
        }
        layers
    }

    fn neurons(&mut self, golden: &Golden, name: &str, layers: &mut Vec<LayerSpec>) {
        let shape = shape_of(&golden.shape(&format!("f64.elig.{name}"))[1..]);
        self.neurons.push((name.to_owned(), shape));
        layers.push(LayerSpec::Neuron);
    }

    fn block(&mut self, golden: &Golden, name: &str, shape: &mut Shape) {
        let of = |what: &str| format!("{name}.{what}");
        let input = *shape;
        let first = of("spike1");
        let mut body = self.convolution(golden, &of("conv1"), Some(&of("bn1")), &first, shape);
        self.neurons(golden, &first, &mut body);
        let last = of("spike2");
        body.extend(self.convolution(golden, &of("conv2"), Some(&of("bn2")), &last, shape));
        let mut shortcut = Vec::new();
        if golden.has(&format!("in.param.{}.weight", of("shortcut.0"))) {
            let norm = of("shortcut.1");
            let conv = of("shortcut.0");
            shortcut = self.convolution(golden, &conv, Some(&norm), &last, &mut { input });
        }
        self.layers.push(LayerSpec::Add { body, shortcut });
        let mut layers = Vec::new();
        self.neurons(golden, &last, &mut layers);
        self.layers.extend(layers);
    }
}

fn optimizer(golden: &Golden, parameters: &Parameters) -> Option<Optimizer> {
    let described = text(golden, "optimiser");
    if described == "none" {
        return None;
    }
    let described: serde_json::Value = serde_json::from_str(described).expect("JSON");
    let number = |key: &str| described[key].as_f64().unwrap_or_else(|| panic!("no {key}"));
    let (learning_rate, momentum, weight_decay) = (number("lr"), number("momentum"), number("wd"));
    let settings = OptimizerSettings::Sgd { learning_rate, momentum, weight_decay };
    Some(frames::optimizer(settings, parameters))
}

/// Samples of a file, whose images have the shape of a sample or are frames.
fn input(golden: &Golden, n_steps: usize) -> Signal {
    let extents = golden.shape("in.x");
    if text(golden, "input").starts_with("frames") {
        let frames: Vec<f32> = golden.get::<u8>("in.x").iter().copied().map(f32::from).collect();
        frames::signal(&frames, shape_of(&extents[2..]), n_steps)
    } else {
        steady(golden.get("in.x"), shape_of(&extents[1..]), n_steps)
    }
}

fn check_network(golden: &Golden, comparison: &mut Comparison) {
    let n_steps = number(golden, "T") as usize;
    let input = input(golden, n_steps);
    let described = Described::new(golden, input.shape);
    let init = Init::Uniform {};
    let layers = described.layers.clone();
    let description = Description { layers, conv_init: init, linear_init: init };
    let (neuron, norm, seed) = (neuron(golden), NormKind::BatchNorm {}, Seed(0));
    let common = Common { n_steps, neuron, norm, seed };
    let mut net = Net::new(&description, input.shape, &common).unwrap();
    for (p, name) in net.parameters.list.iter_mut().zip(&described.parameters) {
        p.values.copy_from_slice(golden.get(&format!("in.param.{name}")));
    }
    net.forget_forms();
    let last_frame = text(golden, "arch").contains("LAST frame");
    let settings = Settings { mode: mode(golden), last_frame, ..Settings::default() };
    let (workspaces, labels) = (Workspaces::default(), frames::labels(golden));
    if settings.mode == Mode::MultiStep || described.norms.is_empty() {
        check_bptt(golden, comparison, &net, &described, input.clone());
    }

    let pass = spike_pass::run(&net, input, &settings, seed, 0, &workspaces).unwrap();
    net.update_running(&pass.notes);
    close_to_both(golden, comparison, "avg_logits", &pass.outputs, NETWORK);
    let loss = Loss::CrossEntropy {}.evaluate(&pass.outputs, 1, &labels);
    close_to_both(golden, comparison, "loss", &[loss.value as f32], NETWORK);
    let noted = pass.layers.iter().filter_map(|l| l.neurons.as_ref());
    assert_eq!(noted.clone().count(), described.neurons.len(), "layers of neurons");
    for (noted, (name, shape)) in noted.zip(&described.neurons) {
        let outside = |values: &[f32]| frames::outside(values, *shape);
        let rate = outside(&noted.rate);
        close(golden, comparison, &format!("mean_rate.{name}"), &rate, NETWORK);
        let eligibility = outside(&noted.eligibility);
        close(golden, comparison, &format!("elig.{name}"), &eligibility, NETWORK);
    }
    let d = loss.gradient.iter().map(|d| d / n_steps as f32).collect();
    let gradients = rate_pass::gradients(&net, pass, &settings, d, &workspaces).unwrap();
    check_gradients(golden, comparison, "grad", &described, &gradients);
    for (running, name) in net.running.iter().zip(&described.norms) {
        let name = |what: &str| format!("buf.{name}.{what}");
        close(golden, comparison, &name("running_mean"), &running.mean, NETWORK);
        close(golden, comparison, &name("running_var"), &running.variance, NETWORK);
    }
    if let Some(mut optimizer) = optimizer(golden, &net.parameters) {
        optimizer.step(&mut net.parameters, &gradients, 1.0);
        for (p, name) in net.parameters.list.iter().zip(&described.parameters) {
            close(golden, comparison, &format!("step.{name}"), &p.values, NETWORK);
        }
    }
}

/// The same network by backpropagation through time.
fn check_bptt(
    golden: &Golden,
    comparison: &mut Comparison,
    net: &Net,
    described: &Described,
    input: Signal,
) {
    let (n_steps, workspaces) = (input.n_steps, Workspaces::default());
    let labels = frames::labels(golden);
    let (outputs, trace) = net.forward(input, Seed(0), 0, &workspaces).unwrap();
    let loss = Loss::CrossEntropy {}.evaluate(&outputs, n_steps, &labels);
    close_to_both(golden, comparison, "bptt_loss", &[loss.value as f32], NETWORK);
    let mean = spiketrain::frames::loss::mean_over_time(&outputs, n_steps);
    close_to_both(golden, comparison, "bptt_avg_logits", &mean, NETWORK);
    let (gradients, _) = net.backward(trace, loss.gradient, false, &workspaces);
    check_gradients(golden, comparison, "bptt_grad", described, &gradients);
}

fn check_gradients(
    golden: &Golden,
    comparison: &mut Comparison,
    what: &str,
    described: &Described,
    gradients: &Gradients,
) {
    for (g, name) in gradients.list.iter().zip(&described.parameters) {
        let layer = name.strip_suffix(".bias");
        // The normalisation after a convolution takes its bias out again.
        let is_idle = layer.is_some_and(|l| l.contains("conv") && !described.norms.is_empty());
        let tolerance = if is_idle { ZERO } else { NETWORK };
        close(golden, comparison, &format!("{what}.{name}"), g, tolerance);
    }
}
