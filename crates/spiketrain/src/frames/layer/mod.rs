//! Layers: each owns its forward pass and its backward pass, nothing else.
//!
//! `forward` takes all steps of a batch and gives the output with what `backward` needs, a
//! [`Record`]; `backward` takes the record and the gradient with respect to the output, adds to the
//! gradients of the parameters and gives the gradient with respect to the input. Layers hold
//! indices of their parameters; the values stand in one list, see
//! [`Parameters`]. A method with a pass of its own walks [`Layer`] itself: the
//! variants and their fields are public.

mod combine;
mod conv;
mod dropout;
pub mod pool;

pub use combine::{Add, Concat, Vote};
pub use conv::Conv;
pub use dropout::Dropout;

use super::activation::{self, Activation};
use super::kernel::Pool;
use super::norm::{Moments, Running};
use super::parameters::{Gradients, Parameters};
use super::shards::Workspaces;
use super::signal::{Data, Gradient, Signal};
use crate::error::{Error, ErrorKind, Result};
use crate::seed::Seed;
use std::sync::Arc;

/// One layer of a network.
#[derive(Clone, Debug)]
pub enum Layer {
    /// Convolution or linear layer.
    Conv(Box<Conv>),
    /// Mean of windows.
    AveragePool(Pool),
    /// Maximum of windows.
    MaxPool(Pool),
    /// Normalisation, neurons or both.
    Activation(Activation),
    /// Dropout.
    Dropout(Dropout),
    /// Sum of two paths.
    Add(Add),
    /// Channels of the input and of a path, side by side.
    Concat(Concat),
    /// Mean of groups of outputs.
    Vote(Vote),
}

/// What the backward pass of a layer needs.
#[derive(Debug)]
pub enum Record {
    /// The input.
    Conv(Arc<Signal>),
    /// Nothing.
    AveragePool,
    /// Winner of each window.
    MaxPool(Vec<u8>),
    /// Input and statistics.
    Activation(activation::Record),
    /// Whether the input was steady; masks are drawn again.
    Dropout(bool),
    /// Records of both paths, and whether the input was steady.
    Add([Vec<Record>; 2], bool),
    /// Records of the path, and whether the input was steady.
    Concat(Vec<Record>, bool),
    /// Nothing.
    Vote,
}

impl Record {
    /// Gives the memory of a record that no backward pass will read back.
    fn recycle(self, workspaces: &Workspaces) {
        match self {
            Record::Conv(input) => workspaces.give_signal(input),
            Record::Activation(record) => record.recycle(workspaces),
            _ => {}
        }
    }
}

/// Whether a pass learns.
#[derive(Clone, Copy, Debug)]
pub enum Phase {
    /// Statistics of the batch, dropout; `first` is the presentation of the batch's first sample.
    Training {
        /// Source of dropout masks.
        seed: Seed,
        /// See [`Ctx::presentation`](crate::learner::Ctx::presentation).
        first: u64,
    },
    /// Running statistics, no dropout. A sample's outputs do not depend on the rest of its batch.
    Evaluation,
}

/// What all layers of a pass share.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// What was learned.
    pub parameters: &'a Parameters,
    /// Running statistics of the normalisations.
    pub running: &'a [Running],
    /// Kernel memory.
    pub workspaces: &'a Workspaces,
    /// Time steps of the batch.
    pub n_steps: usize,
    /// Whether it learns.
    pub phase: Phase,
    /// Whether the forms that training makes of weights outlive their layer's pass, because
    /// another pass reads them before the weights change.
    pub keeps_forms: bool,
}

/// What a forward pass notes on the way.
#[derive(Debug, Default)]
pub struct Notes {
    /// Moments of each normalisation's batch, with the index of its running statistics.
    pub moments: Vec<(usize, Moments)>,
    /// What each layer of neurons did, in the order of layers.
    pub activity: Vec<Activity>,
    /// Spikes of each sample, all layers; counted in evaluation.
    pub n_spikes: Vec<u64>,
    /// Synaptic operations of each sample, all layers; counted in evaluation.
    pub n_synops: Vec<f64>,
}

/// What one layer of neurons did over a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Activity {
    /// Spikes per neuron and step.
    pub rate: f64,
    /// Share of the neurons that never fired.
    pub silent: f64,
    /// Share of the neurons that fired at every step of every sample.
    pub saturated: f64,
}

/// Runs layers one after another.
///
/// # Errors
///
/// If a normalisation meets values that are not finite; names the layer.
pub fn forward(
    layers: &[Layer],
    mut signal: Arc<Signal>,
    context: &Context<'_>,
    notes: &mut Notes,
    records: Option<&mut Vec<Record>>,
) -> Result<Arc<Signal>> {
    let mut records = records;
    for layer in layers {
        let (output, record) = layer.forward(signal, context, notes)?;
        if let (Layer::Conv(conv), Phase::Training { .. }, false) =
            (layer, context.phase, context.keeps_forms)
        {
            // The weights change before the next forward pass.
            conv.forms.forget_forward();
        }
        match records.as_mut() {
            Some(records) => records.push(record),
            None => record.recycle(context.workspaces),
        }
        signal = output;
    }
    Ok(signal)
}

/// Runs layers backward; takes the records from the end, and where a normalisation follows a
/// convolution both at once. Without `wants_input` the gradient with
/// respect to the input of the first layer with parameters is not computed, and none is returned.
pub fn backward(
    layers: &[Layer],
    mut records: Vec<Record>,
    d: Gradient,
    context: &Context<'_>,
    gradients: &mut Gradients,
    wants_input: bool,
) -> Option<Gradient> {
    let (mut layers, mut d) = (layers, d);
    while let [before @ .., layer] = layers {
        let record = records.pop().expect("one record a layer");
        let wants = |layers: &[Layer]| wants_input || layers.iter().any(Layer::learns);
        if !layer.learns() && !wants(before) {
            return None;
        }
        (layers, d) = match (before, layer, record) {
            ([first @ .., Layer::Conv(conv)], Layer::Activation(layer), Record::Activation(y))
                if conv.goes_through(y.input()) =>
            {
                let Some(Record::Conv(input)) = records.pop() else {
                    unreachable!("a convolution leaves its input")
                };
                let (mut d, rest) = layer.backward_open(context.parameters, &y, d, gradients);
                let through = (y.input(), rest.as_ref());
                let wants = wants(first);
                let d_in =
                    conv.backward_through(&input, through, &mut d, context, gradients, wants);
                if !context.keeps_forms {
                    conv.forms.forget_backward();
                }
                context.workspaces.give(d);
                y.recycle(context.workspaces);
                context.workspaces.give_signal(input);
                (first, d_in?)
            }
            (_, layer, record) => {
                (before, layer.backward(record, d, context, gradients, wants(before))?)
            }
        };
    }
    Some(d)
}

impl Layer {
    /// True if it has parameters.
    pub fn learns(&self) -> bool {
        match self {
            Layer::Conv(_) => true,
            Layer::AveragePool(_) | Layer::MaxPool(_) | Layer::Dropout(_) | Layer::Vote(_) => false,
            Layer::Activation(a) => {
                a.norm.is_some()
                    || a.neuron.is_some_and(|n| {
                        matches!(n.threshold, super::neuron::Threshold::Learned(_))
                    })
            }
            Layer::Add(add) => add.body.iter().chain(&add.shortcut).any(Layer::learns),
            Layer::Concat(concat) => concat.body.iter().any(Layer::learns),
        }
    }

    /// Output of all steps and what the backward pass needs.
    ///
    /// # Errors
    ///
    /// If a normalisation meets values that are not finite.
    pub fn forward(
        &self,
        input: Arc<Signal>,
        context: &Context<'_>,
        notes: &mut Notes,
    ) -> Result<(Arc<Signal>, Record)> {
        Ok(match self {
            Layer::Conv(conv) => {
                if matches!(context.phase, Phase::Evaluation) {
                    conv.count(&input, notes);
                }
                let output = conv.forward(&input, context);
                (Arc::new(output), Record::Conv(input))
            }
            Layer::AveragePool(kernel) => {
                (Arc::new(pool::average(kernel, &input, context.workspaces)), Record::AveragePool)
            }
            Layer::MaxPool(kernel) => {
                let (output, winners) = pool::max(kernel, &input, context.workspaces);
                (Arc::new(output), Record::MaxPool(winners))
            }
            Layer::Activation(layer) => activate(layer, input, context, notes)?,
            Layer::Dropout(dropout) => {
                let (input, was_steady) = spread(input);
                (dropout.forward(input, context), Record::Dropout(was_steady))
            }
            Layer::Add(add) => {
                let (input, was_steady) = spread(input);
                let (output, records) = add.forward(input, context, notes)?;
                (Arc::new(output), Record::Add(records, was_steady))
            }
            Layer::Concat(concat) => {
                let (input, was_steady) = spread(input);
                let (output, records) = concat.forward(input, context, notes)?;
                (Arc::new(output), Record::Concat(records, was_steady))
            }
            Layer::Vote(vote) => (Arc::new(vote.forward(&input)), Record::Vote),
        })
    }

    /// Gradient with respect to the input, if `wants_input`; adds to the gradients of parameters.
    pub fn backward(
        &self,
        record: Record,
        d: Gradient,
        context: &Context<'_>,
        gradients: &mut Gradients,
        wants_input: bool,
    ) -> Option<Gradient> {
        match (self, record) {
            (Layer::Conv(conv), Record::Conv(input)) => {
                conv.gradients(&input, &d, context, gradients);
                context.workspaces.give_signal(input);
                let d_in = wants_input.then(|| conv.input_gradient(&d, context));
                if !context.keeps_forms {
                    conv.forms.forget_backward();
                }
                context.workspaces.give(d);
                d_in
            }
            (Layer::AveragePool(kernel), Record::AveragePool) => {
                let d_in = pool::average_gradient(kernel, &d, context.workspaces);
                context.workspaces.give(d);
                Some(d_in)
            }
            (Layer::MaxPool(kernel), Record::MaxPool(winners)) => {
                let d_in = pool::max_gradient(kernel, &winners, &d, context.workspaces);
                context.workspaces.give(d);
                Some(d_in)
            }
            (Layer::Activation(layer), Record::Activation(record)) => {
                let d_in = layer.backward(context.parameters, &record, d, gradients);
                record.recycle(context.workspaces);
                Some(d_in)
            }
            (Layer::Dropout(dropout), Record::Dropout(was_steady)) => {
                Some(gather(dropout.backward(d, context), was_steady, context.n_steps))
            }
            (Layer::Add(add), Record::Add(records, was_steady)) => {
                let d = add.backward(records, d, context, gradients, wants_input)?;
                Some(gather(d, was_steady, context.n_steps))
            }
            (Layer::Concat(concat), Record::Concat(records, was_steady)) => {
                let d = concat.backward(records, d, context, gradients, wants_input)?;
                Some(gather(d, was_steady, context.n_steps))
            }
            (Layer::Vote(vote), Record::Vote) => Some(vote.backward(&d)),
            (layer, record) => unreachable!("{layer:?} did not make {record:?}"),
        }
    }
}

/// A signal that is stored for every step, and whether it was steady before.
pub(crate) fn spread(input: Arc<Signal>) -> (Arc<Signal>, bool) {
    if !input.is_steady() {
        return (input, false);
    }
    let like = Signal { data: Data::Values(Vec::new()), ..*input };
    let values = Arc::unwrap_or_clone(input).into_values();
    (Arc::new(Signal { data: Data::Values(values), ..like }), true)
}

/// The gradient with respect to what [`spread`] was given.
fn gather(d: Gradient, was_steady: bool, n_steps: usize) -> Gradient {
    if was_steady { activation::sum_steps(&d, n_steps) } else { d }
}

/// Statistics, then the fused pass.
fn activate(
    layer: &Activation,
    input: Arc<Signal>,
    context: &Context<'_>,
    notes: &mut Notes,
) -> Result<(Arc<Signal>, Record)> {
    let input = match input.data {
        Data::Spikes(_) => Arc::new(Arc::unwrap_or_clone(input).into_dense()),
        _ => input,
    };
    let affine = match (&layer.norm, context.phase) {
        (None, _) => None,
        (Some(norm), Phase::Training { .. }) => {
            let (affine, moments) =
                layer.of_batch(context.parameters, &input).expect("there is a normalisation");
            let name = &context.running[norm.running].name;
            check_finite(name, &moments)?;
            notes.moments.push((norm.running, moments));
            Some(affine)
        }
        (Some(norm), Phase::Evaluation) => {
            let running = &context.running[norm.running];
            Some(norm.of_running(context.parameters, running, input.n_steps))
        }
    };
    let output = layer.forward(context.parameters, &input, affine.as_ref());
    if let Data::Spikes(spikes) = &output.data {
        notes.activity.push(Activity::of(spikes));
        if matches!(context.phase, Phase::Evaluation) {
            let n = output.n_samples;
            notes.n_spikes.resize(n, 0);
            for image in 0..spikes.n_images() {
                notes.n_spikes[image % n] += spikes.images(image..image + 1).count() as u64;
            }
        }
    }
    Ok((Arc::new(output), Record::Activation(Activation::record(input, affine))))
}

/// Complains if statistics are not finite.
///
/// # Errors
///
/// If they are not; names the layer.
pub(crate) fn check_finite(name: &str, moments: &Moments) -> Result<()> {
    let is_finite = |v: &f64| v.is_finite();
    if moments.mean.values.iter().chain(&moments.deviation.values).all(is_finite) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Diverged,
        format!(
            "what {name} normalises is not finite: weights before it have grown without bound; \
             a smaller learning rate or a warm-up is the usual remedy"
        ),
    ))
}

impl Activity {
    /// Of the spikes of all steps and samples.
    pub(crate) fn of(spikes: &super::kernel::Spikes) -> Self {
        let shape = spikes.shape();
        let n_images = spikes.n_images();
        let words = super::kernel::Spikes::words_per_image(shape);
        let (mut any, mut all) = (vec![0u64; words], vec![u64::MAX; words]);
        for image in 0..n_images {
            let view = spikes.images(image..image + 1);
            let rows = (0..shape.height).flat_map(|row| view.row(0, row));
            for ((any, all), &word) in any.iter_mut().zip(&mut all).zip(rows) {
                *any |= word;
                *all &= word;
            }
        }
        let count = |words: &[u64]| words.iter().map(|w| w.count_ones() as usize).sum::<usize>();
        let n = shape.len() as f64;
        Self {
            rate: spikes.view().density(),
            silent: 1.0 - count(&any) as f64 / n,
            saturated: count(&all) as f64 / n,
        }
    }
}
