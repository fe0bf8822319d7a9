//! Neurons with a piecewise linear postsynaptic potential that fire at most once, on a grid of
//! time steps.
//!
//! With lag `s = t − t_i` (steps) the postsynaptic potential is
//!
//! ```text
//! ε(s) = 0                          s ≤ 0
//!      = s/τ_r                      0 < s ≤ τ_r
//!      = 1                          s > τ_r, plateau
//!      = max(0, 1 − (s − τ_r)/τ_d)  s > τ_r, triangle
//! ```
//!
//! and `V_j(t) = Σ_i w_ji ε(t − t_i)`. Neuron j fires at the first `t` in `1..T` with
//! `V_j(t) > θ`; `T` means silent. With `A_j(t) = Σ_{t_i ≤ t} w_ji` the potential moves by
//!
//! ```text
//! V_j(t+1) − V_j(t) = A_j(t)/τ_r − (1/τ_r + 1/τ_d) A_j(t−τ_r) + A_j(t−τ_r−τ_d)/τ_d ,
//! ```
//!
//! so that every input spike touches its weights once and every step costs a constant. All this
//! is summed times τ_r (times τ_d for a triangle): with weights ±1 every sum is a whole number.

mod learn;
pub mod pool;
mod rows;
#[cfg(test)]
mod tests;
mod walk;

pub use rows::{Event, Rows, Sign, sort_events};
pub use walk::{History, first_spikes};

pub(crate) use learn::{Slope, Spread, decay, learn_rows};

/// The postsynaptic potential: rise and fall in steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Psp {
    /// Steps from 0 to 1, τ_r; at least 1, which is the instantaneous synapse.
    pub rise: u16,
    /// Steps from 1 back to 0, τ_d; 0 for a plateau.
    pub fall: u16,
}

impl Psp {
    /// ε at lag `s`.
    pub fn at(self, s: f64) -> f64 {
        let rise = s / f64::from(self.rise);
        let fall = match self.fall {
            0 => 1.0,
            f => 1.0 - (s - f64::from(self.rise)) / f64::from(f),
        };
        rise.min(fall).max(0.0)
    }

    /// ε′ at lag `s`, the slope of the piece that ends there.
    pub fn slope(self, s: f64) -> f64 {
        let (rise, fall) = (f64::from(self.rise), f64::from(self.fall));
        if s > 0.0 && s <= rise {
            1.0 / rise
        } else if s > rise && s <= rise + fall {
            -1.0 / fall
        } else {
            0.0
        }
    }

    /// What the walk's sums are multiplied by.
    pub(crate) fn scale(self) -> f32 {
        f32::from(self.rise) * f32::from(self.fall.max(1))
    }

    /// Factors of `A(t)`, `A(t−τ_r)` and `A(t−τ_r−τ_d)` in the step of the scaled potential.
    pub(crate) fn factors(self) -> [f32; 3] {
        let (rise, fall) = (f32::from(self.rise), f32::from(self.fall));
        match self.fall {
            0 => [1.0, -1.0, 0.0],
            _ => [fall, -(rise + fall), rise],
        }
    }
}

/// Potential after the inputs `events` of weights `weight(row)`, at step `t`, by the plain sum.
///
/// ```text
/// V(t) = Σ_i w_i ε(t − t_i)
/// ```
pub fn potential(psp: Psp, events: &[Event], weight: impl Fn(usize) -> f32, t: u16) -> f64 {
    let lag = |e: &Event| f64::from(t) - f64::from(e.time);
    events.iter().map(|e| f64::from(weight(usize::from(e.row))) * psp.at(lag(e))).sum()
}
