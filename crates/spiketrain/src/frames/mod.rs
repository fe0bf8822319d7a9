//! The clock-driven engine: networks that advance in time steps, trained with explicit forward
//! and backward passes.

pub mod kernel;
