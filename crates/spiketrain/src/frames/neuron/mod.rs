//! Spiking neurons, one file each: charge, fire, reset and their backward pass.

mod lif;

pub use lif::{Lif, Params, Reset, Threshold};
