//! One sleep of the network: as many copies of it as a batch has samples, without input, moved by
//! noise; equations 5 and 6.

use super::Params;
use crate::frames::Net;
use crate::frames::activation::Activation;
use crate::frames::kernel::{Forms, Input, Spikes, Weights, Workspace};
use crate::frames::layer::{Conv, Layer};
use crate::frames::neuron::Lif;
use crate::frames::parameters::Kind;
use crate::frames::shards::{self, Workspaces};
use crate::seed::{Seed, Stream};
use crate::spikes::Shape;
use crate::times::homeostasis::contract;

/// Noise and STDP for as many steps as an image is shown, on `n_copies` copies of the network, then
/// one downscaling. Noise is drawn by the seed and the number of the training step before.
pub(super) fn sleep(
    net: &mut Net,
    params: &Params,
    n_copies: usize,
    (seed, step): (Seed, u64),
    workspaces: &Workspaces,
) {
    let [
        Layer::Conv(hidden),
        Layer::Activation(Activation { neuron: Some(neuron), .. }),
        Layer::Conv(output),
        _,
    ] = net.layers.as_slice()
    else {
        unreachable!("the network has two fully connected layers of neurons")
    };
    let bias = |conv: &Conv| conv.bias.map(|id| net.parameters.get(id));
    let silent = Spikes::silent(net.input, 1);
    let mut drive = vec![0.0; params.n_hidden];
    let input = Input::Spikes(silent.view());
    let weights = hidden.weights(&net.parameters);
    hidden.kernel.forward(weights, bias(hidden), input, &mut drive, &mut workspaces.borrow());

    let ranges = shards::of_gradients(n_copies, output.kernel.n_weights());
    let stream = |copy: usize| seed.stream("sleep-surrogate.noise", step * (1 << 20) + copy as u64);
    let mut copies: Vec<Copies> = ranges
        .into_iter()
        .map(|range| Copies {
            hidden: Population::new(params.n_hidden, range.len()),
            output: Population::new(output.kernel.out_channels, range.len()),
            streams: range.map(stream).collect(),
        })
        .collect();
    let rate = params.sleep_learning_rate / n_copies as f32;
    let asleep = Asleep { params, neuron, drive: &drive, output, bias: bias(output) };
    let mut weights = net.parameters.get(output.weight).to_vec();
    for _ in 0..params.n_steps {
        let forms = Forms::default();
        let changes = shards::map(copies.iter_mut().collect(), |copies: &mut Copies| {
            copies.step(&asleep, forms.of(&weights), &mut workspaces.borrow())
        });
        for change in changes {
            weights.iter_mut().zip(change).for_each(|(w, d)| *w += rate * d);
        }
    }
    let id = output.weight;
    net.parameters.list[id.0].values = weights;
    for p in net.parameters.list.iter_mut().filter(|p| p.kind == Kind::Weight) {
        for w in &mut p.values {
            let magnitude = contract(f64::from(w.abs()), params.target, params.lambda);
            *w = (magnitude as f32).copysign(*w);
        }
    }
    net.forget_forms();
}

/// What stays the same while the network sleeps.
struct Asleep<'a> {
    params: &'a Params,
    /// The neurons of both layers.
    neuron: &'a Lif,
    /// Input of the hidden layer, `[hidden]`: its bias.
    drive: &'a [f32],
    output: &'a Conv,
    bias: Option<&'a [f32]>,
}

/// Some copies of the network.
struct Copies {
    hidden: Population,
    output: Population,
    /// Noise of each copy.
    streams: Vec<Stream>,
}

impl Copies {
    /// One step; returns what STDP asks for, `[class, hidden]`, summed over the copies.
    fn step(
        &mut self,
        asleep: &Asleep<'_>,
        weights: Weights<'_>,
        workspace: &mut Workspace,
    ) -> Vec<f32> {
        let Asleep { params, neuron, drive, output, bias } = *asleep;
        let Self { hidden, output: top, streams } = self;
        hidden.step(neuron, params, drive, streams);
        let mut current = vec![0.0; top.membranes.len()];
        let spikes = Input::Spikes(hidden.spikes.view());
        output.kernel.forward(weights, bias, spikes, &mut current, workspace);
        top.step(neuron, params, &current, streams);
        // Sums of products over the copies, like the gradient of a weight.
        let mut change = vec![0.0; output.kernel.n_weights()];
        let mut pairs = |of_hidden: Input<'_>, of_output: &[f32]| {
            output.kernel.weight_gradient(of_hidden, of_output, &mut change, workspace);
        };
        let gain = |&m: &f32| if neuron.fires(m, THRESHOLD) { params.a_plus } else { 0.0 };
        pairs(Input::Dense(&hidden.traces), &top.membranes.iter().map(gain).collect::<Vec<_>>());
        let loss = |x: &f32| -params.a_minus * x;
        pairs(spikes, &top.traces.iter().map(loss).collect::<Vec<_>>());
        change
    }
}

/// The membrane's threshold.
const THRESHOLD: f32 = 1.0;

/// One layer of some copies.
struct Population {
    n_neurons: usize,
    /// m, `[copy, neuron]`.
    membranes: Vec<f32>,
    /// x, `[copy, neuron]`.
    traces: Vec<f32>,
    /// What fired in the last step.
    spikes: Spikes,
}

impl Population {
    fn new(n_neurons: usize, n_copies: usize) -> Self {
        let zeros = vec![0.0; n_copies * n_neurons];
        let spikes = Spikes::silent(Shape::flat(n_neurons), n_copies);
        Self { n_neurons, membranes: zeros.clone(), traces: zeros, spikes }
    }

    /// One step with noise on the membranes; `input` is `[copy, neuron]`, or `[neuron]` for all.
    fn step(&mut self, neuron: &Lif, params: &Params, input: &[f32], streams: &mut [Stream]) {
        let n = self.n_neurons;
        let decay = libm::exp(-1.0 / params.tau) as f32;
        let (mut noise, mut kept) = (vec![0.0; n], vec![0.0; n]);
        let rows = self.membranes.chunks_exact_mut(n).zip(self.traces.chunks_exact_mut(n));
        let rows = rows.zip(input.chunks_exact(n).cycle()).zip(streams).enumerate();
        for (copy, (((m, x), input), stream)) in rows {
            stream.normals(params.noise_std, &mut noise);
            m.iter_mut().zip(&noise).for_each(|(m, noise)| *m += *noise as f32);
            neuron.reset(m, THRESHOLD, &mut kept);
            m.copy_from_slice(input);
            neuron.charge(&kept, m);
            neuron.fire(m, THRESHOLD, self.spikes.row_mut(copy, 0));
            for (x, &m) in x.iter_mut().zip(&*m) {
                *x = decay * *x + if neuron.fires(m, THRESHOLD) { 1.0 } else { 0.0 };
            }
        }
    }
}
