//! Spiking autoencoders and classifiers with temporal coding: exact spike times of alpha-synapse
//! neurons, trainable synchronisation pulses, exact gradients.
//!
//! - Autoencoder: I.-M. Comşa, L. Versari, T. Fischbacher, J. Alakuijala, "Spiking Autoencoders
//!   With Temporal Coding", Frontiers in Neuroscience 15:712667, 2021,
//!   doi:10.3389/fnins.2021.712667.
//! - Neuron and classifier: I. M. Comsa, K. Potempa, L. Versari, T. Fischbacher, A. Gesmundo,
//!   J. Alakuijala, "Temporal Coding in Spiking Neural Networks with Alpha Synaptic Function:
//!   Learning with Backpropagation", 2019, arXiv 1907.13223.

mod adam;
pub mod losses;
pub mod network;
