//! Convolution, linear layer and pooling, each with a dense and a spike-driven form.
//!
//! A batch at one time step is `[image, row, column, channel]` in `f32`, channels innermost; the
//! kernels do not know of time, so several steps are more images. Spikes are [`Spikes`]: one bit a
//! neuron. Weights are `[out, in, kernel_row, kernel_column]` outside; inside they are read in
//! [`Forms`], made when they are first needed.
//!
//! Every function runs on the calling thread, allocates only in its [`Workspace`] and in [`Forms`],
//! sums in an order that depends on the shapes and values of the call alone (the density of spikes
//! chooses the algorithm) and so gives the same bits on any number of threads. Shapes that do not
//! fit are a bug of the caller and panic.

mod buffer;
mod conv;
mod direct;
mod panel;
mod pool;
mod product;
mod reference;
mod simd;
mod sparse;
mod spikes;
mod winograd;

pub use buffer::Buffers;
pub(super) use buffer::{ask_for_large_pages, lock};
pub use conv::{Algorithm, Conv2d, Forms, Weights, Workspace, add_bias_gradient};
pub use pool::Pool;
pub use simd::Simd;
pub use spikes::{SpikeView, Spikes};

/// What a layer reads.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Any values, `[image, row, column, channel]`.
    Dense(&'a [f32]),
    /// Spikes, each of value 1.
    Spikes(SpikeView<'a>),
}
