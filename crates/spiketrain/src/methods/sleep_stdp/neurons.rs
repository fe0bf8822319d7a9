//! Leaky integrate-and-fire neurons with adaptive thresholds, all advanced together.

use crate::error::Result;
use crate::simd::{Simd, dispatch};
use crate::state::State;

/// Resting potential, mV.
pub(super) const V_REST: f64 = -70.0;
/// Potential after a spike, mV.
pub(super) const V_RESET: f64 = -80.0;
/// Bounds of the potential, mV.
const V_BOUNDS: [f64; 2] = [-100.0, 40.0];
/// Threshold without adaptation, mV.
const THRESHOLD: f64 = -55.0;
/// Bounds of the threshold, mV.
const THRESHOLD_BOUNDS: [f64; 2] = [-90.0, 0.0];
/// Membrane time constant, ms.
const TAU_M: f64 = 30.0;
/// Time constant of the synaptic current, ms.
const TAU_SYN: f64 = 30.0;
/// Membrane resistance, MΩ.
const RESISTANCE: f64 = 30.0;
/// Time constant of the adaptation, ms.
const TAU_ADAPTATION: f64 = 100.0;
/// What a spike adds to the threshold, mV.
const ADAPTATION: f64 = 3.0;

/// State of the excitatory and inhibitory neurons, `[neuron]`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Neurons {
    /// Membrane potential V, mV.
    pub(super) potential: Vec<f64>,
    /// Synaptic current I.
    pub(super) current: Vec<f64>,
    /// Adaptation a of the threshold, mV.
    pub(super) adaptation: Vec<f64>,
    /// 1 where the neuron spiked in the last step, else 0.
    pub(super) spiked: Vec<f64>,
}

impl Neurons {
    /// `n` neurons at rest.
    pub(super) fn at_rest(n: usize) -> Self {
        Self {
            potential: vec![V_REST; n],
            current: vec![0.0; n],
            adaptation: vec![0.0; n],
            spiked: vec![0.0; n],
        }
    }

    /// One step of 1 ms with synaptic input `input` and membrane noise `noise`, mV:
    ///
    /// `I += (input − I)/τ_syn`, `V += (V_rest − V + R·I)/τ_m + noise`, a spike where V is above
    /// the threshold `θ₀ + a` of the step before, `a ← a(1 − 1/τ_a) + δ·spike`, reset.
    ///
    /// If `sticky`, who spiked in the last step spikes again.
    pub(super) fn step(&mut self, simd: Simd, input: &[f64], noise: &[f64], sticky: bool) {
        step_all(simd, self, input, noise, f64::from(u8::from(sticky)));
    }

    pub(super) fn state(&self) -> State {
        let n = self.potential.len();
        let mut state = State::new();
        state.put("potential", &[n], self.potential.clone());
        state.put("current", &[n], self.current.clone());
        state.put("adaptation", &[n], self.adaptation.clone());
        state.put("spiked", &[n], self.spiked.clone());
        state
    }

    pub(super) fn restored(state: &State, n: usize) -> Result<Self> {
        let read = |name: &str| state.get::<f64>(name, &[n]).map(<[f64]>::to_vec);
        Ok(Self {
            potential: read("potential")?,
            current: read("current")?,
            adaptation: read("adaptation")?,
            spiked: read("spiked")?,
        })
    }
}

dispatch! {
    fn step_all(neurons: &mut Neurons, input: &[f64], noise: &[f64], sticky: f64) = step_loop;
}

#[inline(always)]
fn step_loop(neurons: &mut Neurons, input: &[f64], noise: &[f64], sticky: f64) {
    let n = neurons.potential.len();
    let (input, noise) = (&input[..n], &noise[..n]);
    let (current, adaptation) = (&mut neurons.current[..n], &mut neurons.adaptation[..n]);
    let (potential, spiked) = (&mut neurons.potential[..n], &mut neurons.spiked[..n]);
    for i in 0..n {
        let c = current[i] + (input[i] - current[i]) * (1.0 / TAU_SYN);
        let v = potential[i];
        let v = v + (V_REST - v + RESISTANCE * c) * (1.0 / TAU_M) + noise[i];
        let v = clip(v, V_BOUNDS);
        let threshold = clip(THRESHOLD + adaptation[i], THRESHOLD_BOUNDS);
        let again = sticky * spiked[i];
        let spike = if v > threshold { 1.0 } else { again };
        current[i] = c;
        adaptation[i] = adaptation[i] * (1.0 - 1.0 / TAU_ADAPTATION) + ADAPTATION * spike;
        potential[i] = if spike > 0.0 { V_RESET } else { v };
        spiked[i] = spike;
    }
}

/// As `clamp`, but a plain selection that compiles to vector instructions.
#[inline(always)]
fn clip(x: f64, [low, high]: [f64; 2]) -> f64 {
    let x = if x > low { x } else { low };
    if x < high { x } else { high }
}
