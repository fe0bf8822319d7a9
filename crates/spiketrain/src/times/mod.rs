//! Event-driven mathematics of neurons that spike at most once: pure functions of spike times,
//! knowing nothing of the methods that call them.

pub mod competition;
pub mod integrate;
pub(crate) mod simd;
pub mod stdp;

pub use simd::Simd;
