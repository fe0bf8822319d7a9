//! Spiking neurons, one file each: charge, fire, reset and their backward pass.

mod lif;

pub(crate) use lif::pack;
pub(crate) use lif::{Known, known};
pub use lif::{Lif, Params, Reset, Threshold};
