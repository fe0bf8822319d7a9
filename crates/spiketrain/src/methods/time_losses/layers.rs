//! Layers of spiking neurons whose gradients travel through spike times.

use super::neuron::Neuron;
use super::standardise;
use crate::error::{Error, ErrorKind, Result};
use crate::frames::activation::sum_steps;
use crate::frames::kernel::{Pool, Spikes};
use crate::frames::layer::{self, Activity, Context, Conv, Notes, Phase, pool};
use crate::frames::parameters::{Gradients, ParameterId, Parameters};
use crate::frames::signal::{Data, Gradient, Signal};
use crate::spikes::Shape;
use std::sync::Arc;

/// Largest magnitude of a weight before its standardisation.
const LARGEST_WEIGHT: f32 = 4.0;

/// One layer.
#[derive(Clone, Debug)]
pub enum Layer {
    /// Convolution or linear layer with neurons.
    Spiking(Box<Spiking>),
    /// Average pool whose backward pass keeps the total: `dL/dx = dL/dy / (y k²)`, 0 where y = 0.
    Pool(Pool),
    /// Dropout of whole channels, the same at all steps and pixels of a sample.
    Dropout(Dropout),
    /// Sum z of two paths a and b; `dL/da = a/z dL/dz`, 0 where z = 0.
    Add {
        /// One path.
        body: Vec<Layer>,
        /// The other; without layers the input itself.
        shortcut: Vec<Layer>,
    },
}

/// A convolution or linear layer with neurons; see [`standardise`] for its weights.
#[derive(Clone, Debug)]
pub struct Spiking {
    /// Name in states and messages.
    pub name: String,
    /// The weights, with the standardised ones made of them.
    pub conv: Conv,
    /// g, one a channel.
    pub scale: ParameterId,
    /// b, one a channel.
    pub shift: ParameterId,
    /// V, one a channel.
    pub threshold: Vec<f32>,
}

/// Dropout of channels.
#[derive(Clone, Debug)]
pub struct Dropout {
    /// Probability that a channel is silenced.
    pub rate: f32,
    /// Name of its draws.
    pub purpose: String,
    /// Shape of one image.
    pub shape: Shape,
}

/// What the backward pass of a layer needs.
#[derive(Debug)]
pub enum Record {
    /// Input, weighted input, output spikes.
    Spiking([Arc<Signal>; 3]),
    /// Output.
    Pool(Arc<Signal>),
    /// Nothing: masks are drawn again.
    Dropout,
    /// Records and outputs of both paths.
    Add([Vec<Record>; 2], [Arc<Signal>; 2]),
}

impl Spiking {
    /// Weighted input of the neurons.
    pub fn current(&self, input: &Signal, context: &Context<'_>) -> Signal {
        self.conv.forward(input, context)
    }

    /// Takes the scale into the thresholds, if `transfers`, clamps the weights and standardises them; must
    /// follow every change of the parameters.
    ///
    /// # Errors
    ///
    /// If a scale is not positive; names the layer.
    pub fn prepare(&mut self, parameters: &mut Parameters, transfers: bool) -> Result<()> {
        let weights = &mut parameters.list[self.conv.weight.0].values;
        weights.iter_mut().for_each(|w| *w = w.clamp(-LARGEST_WEIGHT, LARGEST_WEIGHT));
        if transfers {
            let mut scale = std::mem::take(&mut parameters.list[self.scale.0].values);
            let shift = &mut parameters.list[self.shift.0].values;
            let wrong = standardise::transfer(&mut self.threshold, &mut scale, shift);
            parameters.list[self.scale.0].values = scale;
            if let Some(channel) = wrong {
                let name = &self.name;
                return Err(Error::new(
                    ErrorKind::Diverged,
                    format!(
                        "the scale of channel {channel} of {name} is not positive: a smaller \
                         learning rate is the usual remedy"
                    ),
                ));
            }
        }
        let weights = parameters.get(self.conv.weight);
        let (scale, shift) = (parameters.get(self.scale), parameters.get(self.shift));
        let standard = standardise::standardise(weights, scale, shift);
        self.conv.made = Some(standard);
        self.conv.forms.forget();
        Ok(())
    }

    /// From the gradient with respect to the standardised weights, which `gradients` hold, to those
    /// of weights, scale and shift.
    fn finish(&self, parameters: &Parameters, gradients: &mut Gradients) {
        let (weight, scale) = (parameters.get(self.conv.weight), parameters.get(self.scale));
        let d = gradients.get_mut(self.conv.weight);
        let [d_scale, d_shift] = standardise::gradients(weight, scale, d);
        gradients.get_mut(self.scale).copy_from_slice(&d_scale);
        gradients.get_mut(self.shift).copy_from_slice(&d_shift);
    }

    fn backward(
        &self,
        neuron: &Neuron,
        [input, current, output]: [Arc<Signal>; 3],
        mut e: Gradient,
        context: &Context<'_>,
        back: &mut Backward,
        wants_input: bool,
    ) -> Option<Gradient> {
        let workspaces = context.workspaces;
        let mut to_weights = workspaces.take_most(e.len());
        let spikes = spikes_of(&output);
        let threshold = &self.threshold;
        let total =
            neuron.backward(threshold, &current, spikes, &mut e, &mut to_weights, wants_input);
        back.totals.push(total);
        if input.is_steady() {
            let of_steps = sum_steps(&to_weights, input.n_steps);
            workspaces.give(std::mem::replace(&mut to_weights, of_steps));
        }
        self.conv.gradients(&input, &to_weights, context, &mut back.gradients);
        self.finish(context.parameters, &mut back.gradients);
        workspaces.give(to_weights);
        workspaces.give_signal(current);
        let d = wants_input.then(|| {
            let mut d = self.conv.input_gradient(&e, context);
            // A spike counts once, and the layer that fired it reads nothing else.
            if let Data::Values(values) = &input.data {
                d.iter_mut().zip(values).for_each(|(d, v)| *d *= v);
            }
            d
        });
        workspaces.give(e);
        d
    }
}

/// The spikes of a layer's output.
fn spikes_of(output: &Signal) -> &Spikes {
    match &output.data {
        Data::Spikes(spikes) => spikes,
        _ => unreachable!("neurons give spikes"),
    }
}

/// What a backward pass collects.
#[derive(Debug)]
pub struct Backward {
    /// Gradients of the parameters.
    pub gradients: Gradients,
    /// Sum of dL/dt over the spikes of each layer, the last layer first.
    pub totals: Vec<f64>,
}

/// Runs layers one after another.
pub fn forward(
    layers: &[Layer],
    mut signal: Arc<Signal>,
    neuron: &Neuron,
    context: &Context<'_>,
    notes: &mut Notes,
    mut records: Option<&mut Vec<Record>>,
) -> Arc<Signal> {
    for layer in layers {
        let (output, record) = layer.forward(signal, neuron, context, notes);
        if let Some(records) = records.as_mut() {
            records.push(record);
        } else if let Record::Spiking([_, current, _]) = record {
            context.workspaces.give_signal(current);
        }
        signal = output;
    }
    signal
}

/// Runs layers backward from `e`, dL/dt of the last layer's spikes; without `wants_input` only as
/// far as parameters need it.
pub fn backward(
    layers: &[Layer],
    mut records: Vec<Record>,
    mut e: Gradient,
    neuron: &Neuron,
    context: &Context<'_>,
    back: &mut Backward,
    wants_input: bool,
) -> Option<Gradient> {
    for (at, layer) in layers.iter().enumerate().rev() {
        let record = records.pop().expect("one record a layer");
        let wants = wants_input || layers[..at].iter().any(Layer::learns);
        if !wants && !layer.learns() {
            return None;
        }
        e = layer.backward(record, e, neuron, context, back, wants)?;
    }
    Some(e)
}

impl Layer {
    /// True if it has parameters.
    pub fn learns(&self) -> bool {
        match self {
            Layer::Spiking(_) => true,
            Layer::Pool(_) | Layer::Dropout(_) => false,
            Layer::Add { body, shortcut } => body.iter().chain(shortcut).any(Layer::learns),
        }
    }

    fn forward(
        &self,
        input: Arc<Signal>,
        neuron: &Neuron,
        context: &Context<'_>,
        notes: &mut Notes,
    ) -> (Arc<Signal>, Record) {
        match self {
            Layer::Spiking(layer) => {
                let current = layer.current(&input, context);
                let output = Arc::new(neuron.fire(&layer.threshold, &current));
                let spikes = spikes_of(&output);
                notes.activity.push(Activity::of(spikes));
                if matches!(context.phase, Phase::Evaluation) {
                    layer.conv.count(&input, notes);
                    let n = output.n_samples;
                    notes.n_spikes.resize(n, 0);
                    for image in 0..spikes.n_images() {
                        notes.n_spikes[image % n] += spikes.images(image..image + 1).count() as u64;
                    }
                }
                (output.clone(), Record::Spiking([input, Arc::new(current), output]))
            }
            Layer::Pool(kernel) => {
                let output = Arc::new(pool::average(kernel, &input, context.workspaces));
                (output.clone(), Record::Pool(output))
            }
            Layer::Dropout(dropout) => (dropout.forward(input, context), Record::Dropout),
            Layer::Add { body, shortcut } => {
                let (input, _) = layer::spread(input);
                let mut records = [Vec::new(), Vec::new()];
                let [of_body, of_shortcut] = &mut records;
                let a = forward(body, input.clone(), neuron, context, notes, Some(of_body));
                let b = forward(shortcut, input, neuron, context, notes, Some(of_shortcut));
                let sum = layer::Add::sum(a.clone(), b.clone());
                (Arc::new(sum), Record::Add(records, [a, b]))
            }
        }
    }

    fn backward(
        &self,
        record: Record,
        mut e: Gradient,
        neuron: &Neuron,
        context: &Context<'_>,
        back: &mut Backward,
        wants_input: bool,
    ) -> Option<Gradient> {
        match (self, record) {
            (Layer::Spiking(layer), Record::Spiking(signals)) => {
                layer.backward(neuron, signals, e, context, back, wants_input)
            }
            (Layer::Pool(kernel), Record::Pool(output)) => {
                share_of_mean(kernel, output.values(), &mut e);
                let d = pool::average_gradient(kernel, &e, context.workspaces);
                context.workspaces.give(e);
                Some(d)
            }
            (Layer::Dropout(dropout), Record::Dropout) => {
                dropout.multiply(&mut e, context);
                Some(e)
            }
            (Layer::Add { body, shortcut }, Record::Add([of_body, of_shortcut], [a, b])) => {
                let [to_a, to_b] = shares(a, b, &e);
                context.workspaces.give(e);
                let a = backward(body, of_body, to_a, neuron, context, back, wants_input);
                let b = backward(shortcut, of_shortcut, to_b, neuron, context, back, wants_input);
                let mut sum = a?;
                sum.iter_mut().zip(b?).for_each(|(s, b)| *s += b);
                Some(sum)
            }
            (layer, record) => unreachable!("{layer:?} did not make {record:?}"),
        }
    }
}

/// Divides the gradient with respect to means y of windows by y, so that the windows' shares of
/// the total go to their spikes; 0 where y is 0.
pub fn share_of_mean(pool: &Pool, y: &[f32], e: &mut [f32]) {
    // A single spike of the window gives 1/k².
    let least = 1.0 / (pool.window[0] * pool.window[1] + 1) as f32;
    e.iter_mut().zip(y).for_each(|(e, &y)| *e = if y >= least { *e / y } else { 0.0 });
}

/// The gradients with respect to a and b from that with respect to `z = a + b`: `dL/da = a/z dL/dz`.
pub fn shares(a: Arc<Signal>, b: Arc<Signal>, e: &[f32]) -> [Gradient; 2] {
    let [mut a, mut b] = [a, b].map(|path| Arc::unwrap_or_clone(path).into_values());
    for ((a, b), &e) in a.iter_mut().zip(&mut b).zip(e) {
        let z = *a + *b;
        (*a, *b) = if z == 0.0 { (0.0, 0.0) } else { (*a / z * e, *b / z * e) };
    }
    [a, b]
}

impl Dropout {
    /// Multiplies `[time, sample, row, column, channel]` by the factors 0 or 1/(1 − p); nothing in
    /// evaluation.
    fn multiply(&self, values: &mut [f32], context: &Context<'_>) {
        let Phase::Training { seed, first } = context.phase else { return };
        let n_samples = values.len() / self.shape.len() / context.n_steps;
        let kept = 1.0 / (1.0 - self.rate);
        let factors: Vec<Vec<f32>> = (0..n_samples as u64)
            .map(|n| {
                let mut stream = seed.stream(&self.purpose, first + n);
                let factor = || if stream.chance(self.rate) { 0.0 } else { kept };
                std::iter::repeat_with(factor).take(self.shape.channels).collect()
            })
            .collect();
        for (image, values) in values.chunks_exact_mut(self.shape.len()).enumerate() {
            for pixel in values.chunks_exact_mut(self.shape.channels) {
                pixel.iter_mut().zip(&factors[image % n_samples]).for_each(|(v, f)| *v *= f);
            }
        }
    }

    fn forward(&self, input: Arc<Signal>, context: &Context<'_>) -> Arc<Signal> {
        if self.rate == 0.0 || matches!(context.phase, Phase::Evaluation) {
            return input;
        }
        let (input, _) = layer::spread(input);
        let like = Signal { data: Data::Values(Vec::new()), ..*input };
        let mut values = Arc::unwrap_or_clone(input).into_values();
        self.multiply(&mut values, context);
        Arc::new(Signal { data: Data::Values(values), ..like })
    }
}
