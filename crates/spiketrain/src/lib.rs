//! Trains spiking neural networks with published rules on the same data, with the same loop and
//! the same metrics, reproducibly to the bit.

pub mod augment;
pub mod bench;
mod cache;
mod check;
pub mod checkpoint;
pub mod data;
mod elementary;
pub mod encode;
mod error;
pub mod event;
pub mod frames;
pub mod learner;
pub mod methods;
pub mod metrics;
pub mod readout;
pub mod recipe;
pub mod report;
mod runlog;
pub mod schedule;
mod seed;
mod simd;
mod spikes;
mod state;
pub mod times;
pub mod train;

pub use check::{Checks, Invalid};
pub use error::{Error, ErrorKind, Excerpt, Result};
pub use recipe::Recipe;
pub use runlog::LOG_FILE;
pub use seed::{Seed, Stream};
pub use simd::Simd;
pub use spikes::{Events, Frames, Images, Inputs, Notation, Pixels, Shape, Times};
pub use state::{Array, State, Stored, Values};
