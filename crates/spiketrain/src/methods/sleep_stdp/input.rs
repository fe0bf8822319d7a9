//! Images as Bernoulli spike trains.

use super::params::Params;
use crate::seed::Stream;

/// One image's input spikes, step by step.
#[derive(Clone, Debug, Default)]
pub(super) struct SpikeTrain {
    /// First spike of each step, and the end.
    offsets: Vec<usize>,
    /// Inputs, ascending inside a step.
    inputs: Vec<u16>,
    /// Step and input of each spike in the order of the draws.
    drawn: Vec<(u32, u16)>,
}

impl SpikeTrain {
    /// Draws a train: at every step each input spikes with its probability.
    pub(super) fn draw(&mut self, probabilities: &[f32], n_steps: usize, stream: &mut Stream) {
        self.drawn.clear();
        self.offsets.clear();
        self.offsets.resize(n_steps + 1, 0);
        for (input, &p) in probabilities.iter().enumerate().filter(|(_, p)| **p > 0.0) {
            for t in 0..n_steps {
                if stream.chance(p) {
                    self.drawn.push((t as u32, input as u16));
                    self.offsets[t + 1] += 1;
                }
            }
        }
        (0..n_steps).for_each(|t| self.offsets[t + 1] += self.offsets[t]);
        self.inputs.clear();
        self.inputs.resize(self.drawn.len(), 0);
        // Counting sort by step; the draws came in the order of inputs.
        let mut next = self.offsets.clone();
        for &(t, input) in &self.drawn {
            self.inputs[next[t as usize]] = input;
            next[t as usize] += 1;
        }
    }

    /// Inputs that spike at step `t`.
    #[inline]
    pub(super) fn step(&self, t: usize) -> &[u16] {
        &self.inputs[self.offsets[t]..self.offsets[t + 1]]
    }

    /// Number of steps.
    pub(super) fn n_steps(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }
}

/// From pixels to firing probabilities, in place: scaled to the mean `activity` (a black image
/// stays black), times `gain`, clipped to [0, 1].
pub(super) fn probabilities(pixels: &mut [f32], params: &Params) {
    let sum: f64 = pixels.iter().map(|&x| f64::from(x)).sum();
    let scale = if sum > 0.0 { params.activity * pixels.len() as f64 / sum } else { 1.0 };
    let factor = (scale * params.gain) as f32;
    pixels.iter_mut().for_each(|x| *x = (*x * factor).clamp(0.0, 1.0));
}
