//! One paper, one file.

pub mod s2stdp;
