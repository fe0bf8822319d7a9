//! The rate pass: one backward pass, without time, through a network of mean rates that shares the
//! weights.
//!
//! Layers act on rates as they act on activations. The values of neurons are the noted rates, their
//! derivative the noted eligibility, a constant: `r = r̄`, `dL/dx = e dL/dr`. A normalisation has
//! the noted statistics m, V for values and lets gradients flow through the statistics of its
//! input x, n values a channel; σ = √(V + ε), x̂ = (x − m)/σ, g = dL/dout:
//!
//! `dγ = Σ g x̂`, `dβ = Σ g`,
//! `dL/dx = γ/σ · (g − Σ g/n − (x − mean x) Σ g (x − m)/(n σ²))`.
//!
//! Between two layers of neurons everything is linear, so what reaches a normalisation here is the
//! mean over time of what reached it in the spike pass, which was noted there: convolutions before
//! it are not run again. Where that is not so (behind a maximum of rates, or if the network is
//! given other values than the mean input) they are.

use super::spike_pass::{Noted, NotedNorm, SpikePass, mean_of_means, statistics};
use super::{Mode, Settings};
use crate::error::Result;
use crate::frames::activation::{self, Activation};
use crate::frames::layer::{self, Add, Concat, Context, Layer, Notes, Record};
use crate::frames::net::Net;
use crate::frames::norm::{Affine, EPSILON};
use crate::frames::parameters::Gradients;
use crate::frames::shards::Workspaces;
use crate::frames::signal::{Data, Signal};
use std::sync::Arc;

/// Gradients of the parameters from the one with respect to the mean outputs, `[sample, class]`.
///
/// # Errors
///
/// Never: the layers' contract of their forward pass allows it.
pub fn gradients(
    net: &Net,
    pass: SpikePass,
    settings: &Settings,
    d: Vec<f32>,
    workspaces: &Workspaces,
) -> Result<Gradients> {
    let context = net.context(pass.phase, 1, workspaces);
    let (records, _) = forward(net, pass, settings, context, false)?;
    let mut gradients = net.parameters.zeros_in(workspaces);
    layer::backward(&net.layers, records, d, &context, &mut gradients, false);
    workspaces.end_step();
    Ok(gradients)
}

/// Outputs of the rate network, `[sample, class]`: in multi-step mode, without a maximum on the
/// way, those of the spike pass but for rounding. Training does not need them.
///
/// # Errors
///
/// Never: the layers' contract of their forward pass allows it.
#[cfg(test)]
pub fn outputs(
    net: &Net,
    pass: SpikePass,
    settings: &Settings,
    workspaces: &Workspaces,
) -> Result<Vec<f32>> {
    let context = net.context(pass.phase, 1, workspaces);
    let (_, rates) = forward(net, pass, settings, context, true)?;
    Ok(Arc::unwrap_or_clone(rates.read()).into_values())
}

/// Records for the backward pass, and the outputs if they are wanted.
fn forward(
    net: &Net,
    pass: SpikePass,
    settings: &Settings,
    context: Context<'_>,
    wanted: bool,
) -> Result<(Vec<Record>, Rates)> {
    let rates = Rates { signal: Some(pass.input), is_mean: pass.input_is_mean };
    Walk { context, settings, noted: pass.layers.into_iter() }.layers(&net.layers, rates, wanted)
}

/// What passes between the layers of the rate network.
#[derive(Clone)]
struct Rates {
    /// One step; none where nobody reads it.
    signal: Option<Arc<Signal>>,
    /// Whether it is the mean over time of what the spike pass had here.
    is_mean: bool,
}

impl Rates {
    fn read(self) -> Arc<Signal> {
        self.signal.expect("what a layer reads was computed")
    }
}

/// Whether the layer after one reads its output's values; `wanted` is the answer behind the last.
fn reads(next: Option<&Layer>, is_mean: bool, wanted: bool) -> bool {
    match next {
        None => wanted,
        Some(Layer::Activation(a)) => a.norm.is_some() && !is_mean,
        Some(_) => true,
    }
}

/// The normalisation of the rate pass for an input `x`.
pub fn affine(noted: &NotedNorm, x: &Signal, is_mean: bool, settings: &Settings) -> Affine {
    let (mean, variance) = statistics(&noted.moments, settings);
    let centre = if is_mean { mean_of_means(&noted.moments) } else { activation::moments(x).mean };
    let mut inverse = variance;
    inverse.values.iter_mut().for_each(|v| *v = 1.0 / (*v + EPSILON).sqrt());
    let count = x.n_samples * x.shape.height * x.shape.width;
    let Affine { w, b, .. } = noted.affine.clone();
    Affine { w, b, mean, centre, inverse, count: Some(count as f64) }
}

/// A walk over the layers that leaves the records of the backward pass.
struct Walk<'a> {
    context: Context<'a>,
    settings: &'a Settings,
    noted: std::vec::IntoIter<Noted>,
}

impl Walk<'_> {
    fn layers(
        &mut self,
        layers: &[Layer],
        mut rates: Rates,
        wanted: bool,
    ) -> Result<(Vec<Record>, Rates)> {
        let mut records = Vec::with_capacity(layers.len());
        for (i, layer) in layers.iter().enumerate() {
            let next = layers.get(i + 1);
            let (record, output) = match layer {
                Layer::Activation(activation) => self.activate(activation, rates, next, wanted),
                Layer::Add(add) => self.add(add, rates, next, wanted)?,
                Layer::Concat(concat) => self.concat(concat, rates, next, wanted)?,
                other => {
                    let is_mean = rates.is_mean && !matches!(other, Layer::MaxPool(_));
                    self.run(other, rates, reads(next, is_mean, wanted), is_mean)?
                }
            };
            records.push(record);
            rates = output;
        }
        Ok((records, rates))
    }

    /// A layer that acts on rates as on activations, run if its output is read.
    fn run(
        &self,
        layer: &Layer,
        rates: Rates,
        is_read: bool,
        is_mean: bool,
    ) -> Result<(Record, Rates)> {
        let record = match layer {
            Layer::Conv(_) if !is_read => Record::Conv(rates.read()),
            Layer::AveragePool(_) if !is_read => Record::AveragePool,
            Layer::Dropout(_) if !is_read => Record::Dropout(false),
            Layer::Vote(_) if !is_read => Record::Vote,
            _ => {
                let (input, mut notes) = (rates.read(), Notes::default());
                let is_let_go = matches!(layer, Layer::AveragePool(_) | Layer::MaxPool(_));
                let kept = is_let_go.then(|| input.clone());
                let (output, record) = layer.forward(input, &self.context, &mut notes)?;
                kept.into_iter().for_each(|kept| self.context.workspaces.give_signal(kept));
                return Ok((record, Rates { signal: Some(output), is_mean }));
            }
        };
        Ok((record, Rates { signal: None, is_mean }))
    }

    fn activate(
        &mut self,
        layer: &Activation,
        rates: Rates,
        next: Option<&Layer>,
        wanted: bool,
    ) -> (Record, Rates) {
        let Noted { sizes, neurons, norm } =
            self.noted.next().expect("the spike pass noted every layer");
        let is_mean = rates.is_mean;
        let norm = norm.map(|norm| {
            let x = if is_mean { norm.input.clone() } else { rates.read() };
            let affine = affine(&norm, &x, is_mean, self.settings);
            (x, affine)
        });
        match (neurons, norm) {
            (Some(neurons), norm) => {
                let signal = Arc::new(Signal { data: Data::Values(neurons.rate), ..sizes });
                let (x, affine) = norm.map_or((Arc::new(sizes), None), |(x, a)| (x, Some(a)));
                let record = Activation::record_of(x, affine, Some(neurons.eligibility));
                (Record::Activation(record), Rates { signal: Some(signal), is_mean: true })
            }
            (None, Some((x, affine))) => {
                // The mean of what every step was normalised to by its own statistics is not what
                // the mean is normalised to by theirs.
                let is_mean = is_mean && self.settings.mode == Mode::MultiStep;
                let is_read = reads(next, is_mean, wanted);
                let output = is_read
                    .then(|| Arc::new(layer.forward(self.context.parameters, &x, Some(&affine))));
                let record = Activation::record(x, Some(affine));
                (Record::Activation(record), Rates { signal: output, is_mean })
            }
            (None, None) => unreachable!("an activation has a normalisation or neurons"),
        }
    }

    fn add(
        &mut self,
        add: &Add,
        rates: Rates,
        next: Option<&Layer>,
        wanted: bool,
    ) -> Result<(Record, Rates)> {
        // Of the sum's paths it is not known yet whether they are means.
        let is_read = reads(next, false, wanted);
        let (of_body, body) = self.layers(&add.body, rates.clone(), is_read)?;
        let (of_shortcut, shortcut) = self.layers(&add.shortcut, rates, is_read)?;
        let is_mean = body.is_mean && shortcut.is_mean;
        let signal = is_read.then(|| Arc::new(Add::sum(body.read(), shortcut.read())));
        Ok((Record::Add([of_body, of_shortcut], false), Rates { signal, is_mean }))
    }

    fn concat(
        &mut self,
        concat: &Concat,
        rates: Rates,
        next: Option<&Layer>,
        wanted: bool,
    ) -> Result<(Record, Rates)> {
        let is_read = reads(next, false, wanted);
        let (of_body, body) = self.layers(&concat.body, rates.clone(), is_read)?;
        let is_mean = rates.is_mean && body.is_mean;
        let signal = is_read.then(|| Arc::new(concat.join(rates.read(), body.read())));
        Ok((Record::Concat(of_body, false), Rates { signal, is_mean }))
    }
}
