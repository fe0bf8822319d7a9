//! Event-driven mathematics of neurons that spike at most once: pure functions of spike times,
//! knowing nothing of the methods that call them.

pub mod alpha;
pub mod competition;
pub mod homeostasis;
pub mod integrate;
pub mod stdp;
pub mod stepped;
