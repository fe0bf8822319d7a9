//! The clock-driven engine: networks that advance in time steps, trained with explicit forward
//! and backward passes.
//!
//! # Layout
//!
//! One step of a batch is `[sample, row, column, channel]`, channels innermost; several steps are
//! `[time, sample, row, column, channel]`. What passes between layers is a [`Signal`]: values,
//! spikes (one bit a neuron), or steady values (the same at every step and stored once, which is
//! what direct coding of a still image gives up to the first neuron). Outside the engine images
//! are `[channel, row, column]` and weights `[out, in, kernel_row, kernel_column]`.
//!
//! # How the parts fit
//!
//! - [`kernel`]: convolution, linear layer and pooling on images; they know no time.
//! - [`neuron`], [`norm`], [`slope`]: one file each, equations beside code, on rows and channels.
//! - [`activation`]: normalisation and neurons fused over time, with recomputation.
//! - [`layer`]: forward and backward of one layer over all steps; a forward pass returns the
//!   [`layer::Record`] its backward pass needs. No tape, no global state.
//! - [`network`]: layers of a recipe and presets; [`net`]: the network and the whole pass.
//! - [`parameters`], [`optimizer`], [`loss`]: what is learned, how, and towards what.
//! - [`source`], [`health`], [`trainer`]: samples in, numbers about the network out, and what every
//!   method does around its own equations.
//!
//! A method whose gradient is backpropagation through time calls [`net::Net::forward`], a loss,
//! [`net::Net::backward`] and [`optimizer::Optimizer::step`]. A method with a pass of its own
//! (rates instead of spikes, spike times instead of slopes) walks [`layer::Layer`] and calls what
//! it needs of the layers.
//!
//! # Reproducibility
//!
//! Work is cut into shards whose number depends on sizes alone ([`shards`]); sums over shards have
//! one order. The same recipe gives the same bytes on any number of threads.

pub mod activation;
pub mod health;
pub mod kernel;
pub mod layer;
pub mod loss;
pub mod memory;
pub mod net;
pub mod network;
pub mod neuron;
pub mod norm;
pub mod optimizer;
pub mod parameters;
pub mod shards;
pub mod signal;
pub mod slope;
pub mod source;
#[cfg(test)]
mod tests;
pub mod trainer;

pub use net::Net;
pub use parameters::{Gradients, Parameters};
pub use signal::Signal;
