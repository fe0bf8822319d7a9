//! One paper, one file (or one folder, where a paper needs more).

pub mod bptt;
pub mod event_stdp;
pub mod ltmd;
pub mod rate_bp;
pub mod s2stdp;
pub mod sleep_stdp;
pub mod sleep_surrogate;
pub mod stidi_bp;
pub mod tebn;
pub mod temporal_autoencoder;
pub mod time_losses;

use crate::check::Checks;
use crate::error::Result;
use crate::learner::{Card, Learner, Task};
use serde::{Deserialize, Serialize};

/// The methods a recipe can name: `[method.s2stdp]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Surrogate-gradient backpropagation through time.
    Bptt(bptt::Params),
    /// Representation learning by event-based STDP.
    EventStdp(event_stdp::Params),
    /// Learnable thresholding neurons and moderate dropout.
    Ltmd(ltmd::Params),
    /// Rate-based backpropagation.
    RateBp(rate_bp::Params),
    /// Supervised STDP with neuronal competition groups.
    S2stdp(s2stdp::Params),
    /// Temporal effective batch normalisation.
    Tebn(tebn::Params),
    /// Spiking autoencoders with temporal coding.
    TemporalAutoencoder(temporal_autoencoder::Params),
    /// Time-based training with loss functions on spike times.
    TimeLosses(time_losses::Params),
    /// Unsupervised STDP in a recurrent network, kept in bounds by sleep.
    SleepStdp(sleep_stdp::Params),
    /// Spike time displacement backpropagation, S4NN and BS4NN.
    StidiBp(stidi_bp::Params),
    /// The gradient-trained network that the sleep study is controlled with.
    SleepSurrogate(sleep_surrogate::Params),
}

impl Method {
    /// The cards of all methods.
    pub fn all() -> &'static [&'static Card] {
        &[
            &bptt::CARD,
            &event_stdp::CARD,
            &ltmd::CARD,
            &rate_bp::CARD,
            &s2stdp::CARD,
            &stidi_bp::CARD,
            &tebn::CARD,
            &temporal_autoencoder::CARD,
            &time_losses::CARD,
            &sleep_stdp::CARD,
            &sleep_surrogate::CARD,
        ]
    }

    /// The method's card.
    pub fn card(&self) -> &'static Card {
        match self {
            Method::Bptt(_) => &bptt::CARD,
            Method::EventStdp(_) => &event_stdp::CARD,
            Method::Ltmd(_) => &ltmd::CARD,
            Method::RateBp(_) => &rate_bp::CARD,
            Method::S2stdp(_) => &s2stdp::CARD,
            Method::Tebn(_) => &tebn::CARD,
            Method::TemporalAutoencoder(_) => &temporal_autoencoder::CARD,
            Method::TimeLosses(_) => &time_losses::CARD,
            Method::SleepStdp(_) => &sleep_stdp::CARD,
            Method::StidiBp(_) => &stidi_bp::CARD,
            Method::SleepSurrogate(_) => &sleep_surrogate::CARD,
        }
    }

    /// What is wrong with the hyper-parameters.
    pub fn check(&self) -> Checks {
        match self {
            Method::Bptt(p) => p.check(),
            Method::EventStdp(p) => p.check(),
            Method::Ltmd(p) => p.check(),
            Method::RateBp(p) => p.check(),
            Method::S2stdp(p) => p.check(),
            Method::Tebn(p) => p.check(),
            Method::TemporalAutoencoder(p) => p.check(),
            Method::TimeLosses(p) => p.check(),
            Method::SleepStdp(p) => p.check(),
            Method::StidiBp(p) => p.check(),
            Method::SleepSurrogate(p) => p.check(),
        }
    }

    /// Time steps of a method that reads frames; a sample must have as many.
    pub fn n_frames(&self) -> Option<usize> {
        match self {
            Method::Bptt(p) => Some(p.n_steps),
            Method::Ltmd(p) => Some(p.n_steps),
            Method::RateBp(p) => Some(p.n_steps),
            Method::Tebn(p) => Some(p.n_steps),
            Method::TimeLosses(p) => Some(p.n_steps),
            Method::EventStdp(_)
            | Method::S2stdp(_)
            | Method::TemporalAutoencoder(_)
            | Method::SleepStdp(_)
            | Method::StidiBp(_)
            | Method::SleepSurrogate(_) => None,
        }
    }

    /// Builds the learner.
    ///
    /// # Errors
    ///
    /// If the method cannot learn this task.
    pub fn build(&self, task: &Task) -> Result<Box<dyn Learner>> {
        Ok(match self {
            Method::Bptt(p) => Box::new(bptt::Bptt::new(p, task)?),
            Method::EventStdp(p) => Box::new(event_stdp::EventStdp::new(p, task)?),
            Method::Ltmd(p) => Box::new(ltmd::Ltmd::new(p, task)?),
            Method::RateBp(p) => Box::new(rate_bp::RateBp::new(p, task)?),
            Method::S2stdp(p) => Box::new(s2stdp::S2stdp::new(p, task)?),
            Method::Tebn(p) => Box::new(tebn::TebnNet::new(p, task)?),
            Method::TemporalAutoencoder(p) => temporal_autoencoder::build(p, task)?,
            Method::TimeLosses(p) => Box::new(time_losses::TimeLosses::new(p, task)?),
            Method::SleepStdp(p) => Box::new(sleep_stdp::SleepStdp::new(p, task)?),
            Method::StidiBp(p) => Box::new(stidi_bp::StidiBp::new(p, task)?),
            Method::SleepSurrogate(p) => Box::new(sleep_surrogate::SleepSurrogate::new(p, task)?),
        })
    }
}
