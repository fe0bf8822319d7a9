//! The two graded layers that make classes of features.
//!
//! 1. `I₁[t] = W₁ f[t] + b₁`, graded neurons with lateral filter K₁ give o₁
//! 2. in training o₁ is written down twice, the two views, and moderate dropout acts on both
//! 3. `I₂[t] = W₂ o₁[t] + b₂`, graded neurons with K₂ give o₂; `z = mean_t o₂`
//!
//! Both views have the same o₁, so it is computed once.

use super::graded::{Graded, TAPS, lateral, lateral_gradient};
use super::moderate_dropout::Keeping;
use crate::frames::kernel::{Conv2d, Forms};
use crate::frames::layer::{Context, Conv, Notes};
use crate::frames::loss::mean_over_time;
use crate::frames::parameters::{Gradients, Kind, ParameterId, Parameters};
use crate::frames::signal::{Data, Signal};
use crate::seed::Seed;
use crate::spikes::Shape;

/// A linear layer, its lateral filter and its graded neurons.
#[derive(Clone, Debug)]
struct Stage {
    linear: Conv,
    /// K, where there is one.
    lateral: Option<ParameterId>,
    /// w, the threshold's raw parameter.
    threshold: ParameterId,
    neuron: Graded,
}

/// What a stage's backward pass needs.
#[derive(Debug)]
struct StageTrace {
    input: Signal,
    /// I, `[time, row, unit]`.
    current: Vec<f32>,
    u: Vec<f32>,
    outputs: Vec<f32>,
}

/// Uniform draws in ±1/√n.
fn uniform(seed: Seed, index: u64, n_values: usize, n: usize) -> Vec<f32> {
    let mut stream = seed.stream("ltmd.classifier", index);
    let width = 1.0 / (n as f64).sqrt();
    (0..n_values).map(|_| ((2.0 * stream.uniform_f64() - 1.0) * width) as f32).collect()
}

impl Stage {
    fn new(
        index: usize,
        input: Shape,
        n_units: usize,
        settings: &Settings,
        seed: Seed,
        parameters: &mut Parameters,
    ) -> Self {
        let name = |what: &str| format!("classifier{index}.{what}");
        let kernel = Conv2d::linear(input, n_units);
        let weights = uniform(seed, 2 * index as u64, kernel.n_weights(), input.len());
        let shape = [n_units, input.len()];
        let weight = parameters.add(name("weight"), &shape, Kind::Weight, weights);
        let bias = parameters.add(name("bias"), &[n_units], Kind::Bias, vec![0.0; n_units]);
        let lateral = settings.has_lateral.then(|| {
            let taps = uniform(seed, 2 * index as u64 + 1, TAPS, TAPS);
            parameters.add(name("lateral"), &[TAPS], Kind::Weight, taps)
        });
        let raw = libm::atanhf(settings.threshold);
        let threshold = parameters.add(name("threshold"), &[1], Kind::Threshold, vec![raw]);
        let linear = Conv::new(kernel, weight, Some(bias), Forms::default());
        Self { linear, lateral, threshold, neuron: settings.neuron }
    }

    fn threshold(&self, parameters: &Parameters) -> f32 {
        libm::tanhf(parameters.get(self.threshold)[0])
    }

    fn forward(&self, input: Signal, context: &Context<'_>) -> StageTrace {
        let current = self.linear.forward(&input, context).into_values();
        let mut u = current.clone();
        if let Some(id) = self.lateral {
            let kernel = context.parameters.get(id);
            let sums = lateral(kernel, &current, self.linear.kernel.out_channels);
            u.iter_mut().zip(sums).for_each(|(u, l)| *u += l);
        }
        let threshold = self.threshold(context.parameters);
        let outputs = self.neuron.forward(threshold, &mut u, context.n_steps);
        StageTrace { input, current, u, outputs }
    }

    /// Gradient with respect to the input.
    fn backward(
        &self,
        trace: &StageTrace,
        mut d: Vec<f32>,
        context: &Context<'_>,
        gradients: &mut Gradients,
    ) -> Vec<f32> {
        let threshold = self.threshold(context.parameters);
        self.neuron.backward(threshold, &trace.u, &trace.outputs, &mut d, context.n_steps);
        if let Some(id) = self.lateral {
            let (kernel, n_units) = (context.parameters.get(id), self.linear.kernel.out_channels);
            gradients.add(id, lateral_gradient(kernel, &trace.current, &mut d, n_units));
        }
        self.linear.gradients(&trace.input, &d, context, gradients);
        self.linear.input_gradient(&d, context)
    }
}

/// What both layers have in common.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The graded neurons.
    pub neuron: Graded,
    /// Their threshold at first, θ.
    pub threshold: f32,
    /// Whether there is lateral interaction.
    pub has_lateral: bool,
    /// Rate of the moderate dropout, r.
    pub dropout: f64,
    /// Whether gradients flow through the probabilities.
    pub through_p: bool,
}

/// The classifier.
#[derive(Clone, Debug)]
pub struct Classifier {
    stages: [Stage; 2],
    dropout: f64,
    through_p: bool,
}

/// A forward pass in training.
#[derive(Debug)]
pub struct Trace {
    stages: [StageTrace; 2],
    /// o₁ of both views before dropout, `[time, view and sample, unit]`.
    doubled: Vec<f32>,
    /// What dropout was drawn by.
    pub keeping: Keeping,
    kept: Vec<bool>,
    /// z of both views, `[view, sample, class]`.
    pub z: Vec<f32>,
}

impl Classifier {
    /// A classifier of `features` with weights drawn from `seed`; what it learns joins
    /// `parameters`.
    pub fn new(
        features: Shape,
        [n_hidden, n_classes]: [usize; 2],
        settings: &Settings,
        seed: Seed,
        parameters: &mut Parameters,
    ) -> Self {
        let first = Stage::new(0, features, n_hidden, settings, seed, parameters);
        let hidden = Shape::flat(n_hidden);
        let second = Stage::new(1, hidden, n_classes, settings, seed, parameters);
        let Settings { dropout, through_p, .. } = *settings;
        Self { stages: [first, second], dropout, through_p }
    }

    /// Units of the first layer.
    pub fn n_hidden(&self) -> usize {
        self.stages[0].linear.kernel.out_channels
    }

    /// Must follow every change of the parameters.
    pub fn forget_forms(&self) {
        self.stages.iter().for_each(|s| s.linear.forms.forget());
    }

    /// Features `[time, sample, …]` to z of both views. `keep` draws k from p, `[view, sample,
    /// unit]`.
    pub fn forward(
        &self,
        features: Vec<f32>,
        keep: impl FnOnce(&[f64]) -> Vec<bool>,
        context: &Context<'_>,
    ) -> Trace {
        let first = self.stages[0].forward(self.features(features, context), context);
        let step = first.outputs.len() / context.n_steps;
        let doubled: Vec<f32> =
            first.outputs.chunks_exact(step).flat_map(|o| [o, o].concat()).collect();
        let keeping = Keeping::new(&doubled, context.n_steps, self.dropout);
        let kept = keep(&keeping.p);
        let mut dropped = doubled.clone();
        keeping.apply(&kept, &mut dropped);
        let input = rows(dropped, Shape::flat(self.n_hidden()), context);
        let second = self.stages[1].forward(input, context);
        let z = mean_over_time(&second.outputs, context.n_steps);
        Trace { stages: [first, second], doubled, keeping, kept, z }
    }

    /// From dL/dz of both views to the gradient with respect to the features; adds to the
    /// gradients of what is learned.
    pub fn backward(
        &self,
        trace: &Trace,
        d_z: &[f32],
        context: &Context<'_>,
        gradients: &mut Gradients,
    ) -> Vec<f32> {
        let n_steps = context.n_steps;
        let of_step: Vec<f32> = d_z.iter().map(|d| d / n_steps as f32).collect();
        let [first, second] = &trace.stages;
        let mut d = self.stages[1].backward(second, of_step.repeat(n_steps), context, gradients);
        trace.keeping.backward(&trace.kept, &trace.doubled, &mut d, self.through_p);
        let step = first.outputs.len() / n_steps;
        let views = d.chunks_exact(2 * step).map(|d| d.split_at(step));
        let d = views.flat_map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b)).collect();
        self.stages[0].backward(first, d, context, gradients)
    }

    /// z `[sample, class]` of features `[time, sample, …]` without dropout; notes the synaptic
    /// operations.
    pub fn evaluate(
        &self,
        features: Vec<f32>,
        context: &Context<'_>,
        notes: &mut Notes,
    ) -> Vec<f32> {
        let input = self.features(features, context);
        self.stages[0].linear.count(&input, notes);
        let hidden = self.stages[0].forward(input, context).outputs;
        let input = rows(hidden, Shape::flat(self.n_hidden()), context);
        self.stages[1].linear.count(&input, notes);
        mean_over_time(&self.stages[1].forward(input, context).outputs, context.n_steps)
    }

    fn features(&self, features: Vec<f32>, context: &Context<'_>) -> Signal {
        rows(features, self.stages[0].linear.kernel.input, context)
    }
}

/// A signal of `[time, row, …]`.
fn rows(values: Vec<f32>, shape: Shape, context: &Context<'_>) -> Signal {
    let n_steps = context.n_steps;
    let n_samples = values.len() / shape.len() / n_steps;
    Signal { shape, n_steps, n_samples, data: Data::Values(values) }
}
