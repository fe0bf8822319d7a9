//! Layers that bring several values together: sums of paths, concatenation, voting.

use super::super::kernel::Input;
use super::super::parameters::Gradients;
use super::super::signal::{Data, Gradient, Signal};
use super::{Context, Layer, Notes, Record, backward, forward};
use crate::error::Result;
use std::sync::Arc;

/// `body(x) + shortcut(x)`; an empty shortcut is x itself. Of two binary paths (spike-element-wise
/// addition: W. Fang et al., "Deep Residual Learning in Spiking Neural Networks", NeurIPS 2021,
/// arXiv 2102.04159) the sum is 0, 1 or 2.
#[derive(Clone, Debug)]
pub struct Add {
    /// One path.
    pub body: Vec<Layer>,
    /// The other.
    pub shortcut: Vec<Layer>,
}

impl Add {
    /// The sum of two signals of the same steps.
    pub fn sum(a: Arc<Signal>, b: Arc<Signal>) -> Signal {
        let like = Signal { data: Data::Values(Vec::new()), ..*a };
        let mut sum = Arc::unwrap_or_clone(a).into_values();
        match b.all() {
            Input::Dense(values) => sum.iter_mut().zip(values).for_each(|(s, v)| *s += v),
            Input::Spikes(_) => {
                let values = Arc::unwrap_or_clone(b).into_values();
                sum.iter_mut().zip(values).for_each(|(s, v)| *s += v);
            }
        }
        Signal { data: Data::Values(sum), ..like }
    }

    pub(super) fn forward(
        &self,
        input: Arc<Signal>,
        context: &Context<'_>,
        notes: &mut Notes,
    ) -> Result<(Signal, [Vec<Record>; 2])> {
        let mut records = [Vec::new(), Vec::new()];
        let [of_body, of_shortcut] = &mut records;
        let a = forward(&self.body, input.clone(), context, notes, Some(of_body))?;
        let b = forward(&self.shortcut, input, context, notes, Some(of_shortcut))?;
        Ok((Self::sum(a, b), records))
    }

    pub(super) fn backward(
        &self,
        [of_body, of_shortcut]: [Vec<Record>; 2],
        d: Gradient,
        context: &Context<'_>,
        gradients: &mut Gradients,
        wants_input: bool,
    ) -> Option<Gradient> {
        let a = backward(&self.body, of_body, d.clone(), context, gradients, wants_input);
        let b = backward(&self.shortcut, of_shortcut, d, context, gradients, wants_input);
        let mut sum = a?;
        sum.iter_mut().zip(b?).for_each(|(s, v)| *s += v);
        Some(sum)
    }
}

/// The input's channels, then those of `body(x)`.
#[derive(Clone, Debug)]
pub struct Concat {
    /// The path.
    pub body: Vec<Layer>,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the path's output.
    pub body_channels: usize,
}

impl Concat {
    /// The channels of the input, then those of the path's output.
    pub fn join(&self, input: Arc<Signal>, body: Arc<Signal>) -> Signal {
        let (na, nb) = (self.in_channels, self.body_channels);
        let mut shape = input.shape;
        shape.channels = na + nb;
        let like = Signal { shape, data: Data::Values(Vec::new()), ..*input };
        let (a, b) =
            (Arc::unwrap_or_clone(input).into_values(), Arc::unwrap_or_clone(body).into_values());
        let mut values = Vec::with_capacity(a.len() + b.len());
        for (a, b) in a.chunks_exact(na).zip(b.chunks_exact(nb)) {
            values.extend_from_slice(a);
            values.extend_from_slice(b);
        }
        Signal { data: Data::Values(values), ..like }
    }

    pub(super) fn forward(
        &self,
        input: Arc<Signal>,
        context: &Context<'_>,
        notes: &mut Notes,
    ) -> Result<(Signal, Vec<Record>)> {
        let mut records = Vec::new();
        let body = forward(&self.body, input.clone(), context, notes, Some(&mut records))?;
        Ok((self.join(input, body), records))
    }

    pub(super) fn backward(
        &self,
        records: Vec<Record>,
        d: Gradient,
        context: &Context<'_>,
        gradients: &mut Gradients,
        wants_input: bool,
    ) -> Option<Gradient> {
        let n_pixels = d.len() / (self.in_channels + self.body_channels);
        let mut direct = Vec::with_capacity(n_pixels * self.in_channels);
        let mut d_body = Vec::with_capacity(n_pixels * self.body_channels);
        for pixel in d.chunks_exact(self.in_channels + self.body_channels) {
            direct.extend_from_slice(&pixel[..self.in_channels]);
            d_body.extend_from_slice(&pixel[self.in_channels..]);
        }
        drop(d);
        let through = backward(&self.body, records, d_body, context, gradients, wants_input)?;
        direct.iter_mut().zip(through).for_each(|(s, v)| *s += v);
        Some(direct)
    }
}

/// Mean of consecutive groups of channels: a vote of several outputs for each class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Outputs a class.
    pub group: usize,
}

impl Vote {
    pub(super) fn forward(&self, input: &Signal) -> Signal {
        let dense;
        let values = match &input.data {
            Data::Spikes(_) => {
                dense = input.clone().into_dense();
                dense.values()
            }
            _ => input.values(),
        };
        let scale = 1.0 / self.group as f32;
        let means = values.chunks_exact(self.group).map(|g| g.iter().sum::<f32>() * scale);
        let mut shape = input.shape;
        shape.channels /= self.group;
        input.with_dense(shape, means.collect())
    }

    pub(super) fn backward(&self, d: &[f32]) -> Gradient {
        let scale = 1.0 / self.group as f32;
        d.iter().flat_map(|&d| std::iter::repeat_n(d * scale, self.group)).collect()
    }
}
