//! Spiking neurons, one file each: charge, fire, reset and their backward pass.

mod lif;

pub(crate) use lif::pack;
pub use lif::{Lif, Params, Reset, Threshold};
