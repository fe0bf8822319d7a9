//! Weights, one contiguous row per input, as real numbers and as packed signs.

use crate::simd::{LANES, Line, Simd, Vector, dispatch};

/// One input spike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Row of weights: the input.
    pub row: u16,
    /// Time in steps.
    pub time: u16,
}

/// The events of the dense `times[[input]]` that are below `n_steps`, in ascending order of time,
/// then of input; `offsets` is working space.
pub fn sort_events(times: &[f32], n_steps: u16, offsets: &mut Vec<u32>, events: &mut Vec<Event>) {
    let silent = f32::from(n_steps);
    offsets.clear();
    offsets.resize(usize::from(n_steps) + 1, 0);
    for &t in times.iter().filter(|&&t| t < silent) {
        offsets[t as usize + 1] += 1;
    }
    for t in 0..usize::from(n_steps) {
        offsets[t + 1] += offsets[t];
    }
    events.clear();
    events.resize(offsets[usize::from(n_steps)] as usize, Event::default());
    for (i, &t) in times.iter().enumerate().filter(|(_, t)| **t < silent) {
        let place = &mut offsets[t as usize];
        events[*place as usize] = Event { row: i as u16, time: t as u16 };
        *place += 1;
    }
}

/// Which weights a sum is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// The real numbers.
    Real,
    /// Their signs, ±1; the sign of 0 is +1.
    Signs,
}

/// Weights of neurons that share their inputs: one row per input, padded to whole blocks of 16
/// neurons. With signs, one bit a weight is kept beside the real numbers.
#[derive(Clone, Debug)]
pub struct Rows {
    pub(crate) n_inputs: usize,
    pub(crate) n_neurons: usize,
    pub(crate) n_blocks: usize,
    /// `[input, block, lane]`.
    pub(crate) real: Vec<Line>,
    /// `[input, block]`, bit = lane; empty without signs.
    pub(crate) bits: Vec<u16>,
    pub(crate) simd: Simd,
}

impl Rows {
    /// Weights `weights[[neuron, input]]`, with packed signs beside them if `sign` asks for them.
    ///
    /// # Panics
    ///
    /// If the weights do not fill the shape or an [`Event`] could not name every input.
    pub fn new(n_inputs: usize, n_neurons: usize, weights: &[f32], sign: Sign) -> Self {
        assert!(n_inputs <= 1 << 16, "events name 65,536 inputs");
        let n_blocks = n_neurons.div_ceil(LANES);
        let n_bits = if sign == Sign::Signs { n_inputs * n_blocks } else { 0 };
        let mut rows = Self {
            n_inputs,
            n_neurons,
            n_blocks,
            real: vec![Line([0.0; LANES]); n_inputs * n_blocks],
            bits: vec![0; n_bits],
            simd: Simd::best(),
        };
        rows.set_weights(weights);
        rows
    }

    /// The same weights, computed with other instructions; the results have the same bits.
    #[must_use]
    pub fn with_simd(mut self, simd: Simd) -> Self {
        self.simd = simd;
        self
    }

    /// Number of inputs.
    pub fn n_inputs(&self) -> usize {
        self.n_inputs
    }

    /// Number of neurons.
    pub fn n_neurons(&self) -> usize {
        self.n_neurons
    }

    /// Neurons with the padding to whole blocks.
    pub fn n_lanes(&self) -> usize {
        self.n_blocks * LANES
    }

    /// Whether sums of a forward pass are over signs.
    pub fn sign(&self) -> Sign {
        if self.bits.is_empty() { Sign::Real } else { Sign::Signs }
    }

    /// The weight from input `i` to neuron `n`.
    pub fn weight(&self, n: usize, i: usize) -> f32 {
        self.real[i * self.n_blocks + n / LANES].0[n % LANES]
    }

    /// The weight that a forward pass sees: the real number, or its sign.
    pub fn forward_weight(&self, n: usize, i: usize) -> f32 {
        match self.bits.get(i * self.n_blocks + n / LANES) {
            None => self.weight(n, i),
            Some(bits) if bits >> (n % LANES) & 1 == 1 => 1.0,
            Some(_) => -1.0,
        }
    }

    /// The real weights as `[neuron, input]`.
    pub fn weights(&self) -> Vec<f32> {
        let row = |n| (0..self.n_inputs).map(move |i| self.weight(n, i));
        (0..self.n_neurons).flat_map(row).collect()
    }

    /// Replaces the weights by `weights[[neuron, input]]`.
    ///
    /// # Panics
    ///
    /// If the weights do not fill the shape.
    pub fn set_weights(&mut self, weights: &[f32]) {
        assert_eq!(weights.len(), self.n_inputs * self.n_neurons, "weights fill the shape");
        for (n, row) in weights.chunks_exact(self.n_inputs.max(1)).enumerate() {
            for (i, &w) in row.iter().enumerate() {
                self.real[i * self.n_blocks + n / LANES].0[n % LANES] = w;
            }
        }
        self.pack();
    }

    /// Mean absolute value of the real weights.
    pub fn mean_abs(&self) -> f64 {
        let sum: f64 =
            self.real.as_slice().iter().flat_map(|l| &l.0).map(|w| f64::from(w.abs())).sum();
        sum / (self.n_inputs * self.n_neurons) as f64
    }
}

dispatch! {
    /// One bit a lane: set where the weight is not below 0.
    pub(super) fn signs(lines: &[Line], bits: &mut [u16]) = signs_body::<V>;
}

#[inline(always)]
fn signs_body<V: Vector>(lines: &[Line], bits: &mut [u16]) {
    for (line, bits) in lines.iter().zip(bits) {
        *bits = !V::splat(0.0).above(V::read(&line.0)) as u16;
    }
}
