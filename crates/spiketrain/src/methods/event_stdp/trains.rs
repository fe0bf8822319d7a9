//! Spike trains of an image, and of one patch with its traces.

use crate::seed::Stream;

/// The trace's kernel and the window of causality.
#[derive(Clone, Debug, PartialEq)]
pub struct Kernel {
    /// `exp(−k/τ)` for k = 0, 1, …
    pub taps: Vec<f64>,
    /// Steps the kernel looks ahead, 0 if it is causal.
    pub shift: usize,
    /// An input counts as causal if it spiked at most so many steps ago, ε.
    pub window: usize,
}

impl Kernel {
    /// A kernel of `n_taps` taps with time constant `tau` in steps.
    pub fn new(tau: f64, n_taps: usize, shift: usize, window: usize) -> Self {
        let taps = (0..n_taps).map(|k| libm::exp(-(k as f64) / tau)).collect();
        Self { taps, shift, window }
    }
}

/// Spikes of all pixels of an image, one bit a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trains {
    n_steps: usize,
    /// `[pixel, word]`; bit t % 64 of word t / 64 is step t.
    bits: Vec<u64>,
}

impl Trains {
    /// Trains without a spike.
    pub fn silent(n_pixels: usize, n_steps: usize) -> Self {
        Self { n_steps, bits: vec![0; n_pixels * n_steps.div_ceil(64)] }
    }

    /// Draws an independent spike with the pixel's probability in every step. Pixels that are
    /// sure to spike or to stay silent take no draw.
    pub fn draw(&mut self, probabilities: &[f32], n_steps: usize, stream: &mut Stream) {
        self.n_steps = n_steps;
        let n_words = self.n_words();
        self.bits.clear();
        self.bits.resize(probabilities.len() * n_words, 0);
        for (&p, words) in probabilities.iter().zip(self.bits.chunks_exact_mut(n_words)) {
            if p <= 0.0 {
                continue;
            }
            for t in 0..n_steps {
                let spikes = p >= 1.0 || stream.chance(p);
                words[t / 64] |= u64::from(spikes) << (t % 64);
            }
        }
    }

    /// Makes `pixel` spike in step `t`.
    pub fn set(&mut self, pixel: usize, t: usize) {
        assert!(t < self.n_steps, "a step of the trains");
        let n_words = self.n_words();
        self.bits[pixel * n_words + t / 64] |= 1 << (t % 64);
    }

    /// Number of spikes of all pixels.
    pub fn n_spikes(&self) -> u64 {
        self.bits.iter().map(|w| u64::from(w.count_ones())).sum()
    }

    fn n_words(&self) -> usize {
        self.n_steps.div_ceil(64)
    }

    fn of_pixel(&self, pixel: usize) -> &[u64] {
        let n_words = self.n_words();
        &self.bits[pixel * n_words..(pixel + 1) * n_words]
    }
}

/// Spikes and traces of one patch. Inputs without a spike are left out.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    /// Time steps.
    pub n_steps: usize,
    /// Inputs with at least one spike, ascending.
    pub live: Vec<u32>,
    /// Trace `y(t) = Σ_k s(t − k + shift)·exp(−k/τ)`, `[live input, step]`.
    pub traces: Vec<f64>,
    /// Spikes, one bit a step, `[live input, word]`.
    pub spikes: Vec<u64>,
    /// Bit t tells whether there was a spike in [t − ε, t], `[live input, word]`.
    pub causal: Vec<u64>,
}

impl Patch {
    /// Takes the pixels `inputs`, pairs of the patch's input and the image's pixel, from `trains`.
    pub fn gather(
        &mut self,
        trains: &Trains,
        inputs: impl Iterator<Item = (usize, usize)>,
        kernel: &Kernel,
    ) {
        let n_steps = trains.n_steps;
        self.n_steps = n_steps;
        self.live.clear();
        self.traces.clear();
        self.spikes.clear();
        self.causal.clear();
        for (input, pixel) in inputs {
            let words = trains.of_pixel(pixel);
            if words.iter().all(|&w| w == 0) {
                continue;
            }
            self.live.push(input as u32);
            self.spikes.extend_from_slice(words);
            extend_causal(&mut self.causal, words, kernel.window);
            let start = self.traces.len();
            self.traces.resize(start + n_steps, 0.0);
            add_traces(&mut self.traces[start..], words, kernel);
        }
    }

    /// Number of words of each input's spikes.
    pub fn n_words(&self) -> usize {
        self.n_steps.div_ceil(64)
    }

    /// Number of input spikes.
    pub fn n_spikes(&self) -> u64 {
        self.spikes.iter().map(|w| u64::from(w.count_ones())).sum()
    }
}

/// Appends `words` widened to the window: bit t is set if any of the bits t − `window` to t was.
fn extend_causal(out: &mut Vec<u64>, words: &[u64], window: usize) {
    let start = out.len();
    out.extend_from_slice(words);
    for _ in 0..window {
        let mut carry = 0;
        for (wide, word) in out[start..].iter_mut().zip(words) {
            let shifted = *wide << 1 | carry;
            carry = *wide >> 63;
            *wide = shifted | word;
        }
    }
}

/// Adds the kernel to `trace` at every spike.
fn add_traces(trace: &mut [f64], words: &[u64], kernel: &Kernel) {
    for (w, &word) in words.iter().enumerate() {
        let mut rest = word;
        while rest != 0 {
            let t = w * 64 + rest.trailing_zeros() as usize;
            rest &= rest - 1;
            // Tap k lands on step t + k − shift.
            let skipped = kernel.shift.saturating_sub(t);
            let first = t + skipped - kernel.shift;
            let taps = kernel.taps.get(skipped..).unwrap_or_default();
            let after = &mut trace[first..];
            for k in 0..after.len().min(taps.len()) {
                after[k] += taps[k];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The trace of one input that spikes at `times`.
    fn trace(kernel: &Kernel, n_steps: usize, times: &[usize]) -> Patch {
        let mut trains = Trains::silent(1, n_steps);
        times.iter().for_each(|&t| trains.set(0, t));
        let mut patch = Patch::default();
        patch.gather(&trains, [(0, 0)].into_iter(), kernel);
        patch
    }

    #[test]
    fn the_kernel_is_exponential_and_causal() {
        let kernel = Kernel::new(0.5, 4, 0, 0);
        let expected =
            [1.0, 0.135_335_283_236_612_7, 0.018_315_638_888_734_18, 0.002_478_752_176_666_358_5];
        for (tap, e) in kernel.taps.iter().zip(expected) {
            assert!((tap - e).abs() < 1e-15, "{tap} {e}");
        }
        let y = trace(&kernel, 10, &[5]).traces;
        assert_eq!(y[..5], [0.0; 5]);
        assert_eq!(y[5..9], kernel.taps);
        assert_eq!(y[9], 0.0);
        // Two spikes add up.
        let y = trace(&kernel, 10, &[5, 6]).traces;
        assert_eq!(y[6], kernel.taps[1] + 1.0);
    }

    #[test]
    fn a_centred_kernel_looks_ahead_and_is_cut_at_the_start() {
        let kernel = Kernel::new(0.25, 10, 4, 0);
        let y = trace(&kernel, 20, &[6]).traces;
        assert_eq!((y[1], y[2], y[3]), (0.0, 1.0, kernel.taps[1]));
        let y = trace(&kernel, 20, &[1]).traces;
        assert_eq!(y[0], kernel.taps[3]);
    }

    #[test]
    fn the_window_reaches_back_across_words() {
        let bits = |window| {
            let patch = trace(&Kernel::new(0.5, 4, 0, window), 130, &[0, 62, 129]);
            let on = |t: &usize| patch.causal[t / 64] >> (t % 64) & 1 == 1;
            (0..130).filter(on).collect::<Vec<usize>>()
        };
        assert_eq!(bits(0), [0, 62, 129]);
        assert_eq!(bits(3), [0, 1, 2, 3, 62, 63, 64, 65, 129]);
    }

    #[test]
    fn draws_have_the_pixels_probability_and_sure_pixels_take_none() {
        let mut trains = Trains::default();
        let mut stream = crate::Seed(1).stream("test", 0);
        trains.draw(&[0.0, 1.0], 100, &mut stream);
        assert_eq!(trains.n_spikes(), 100);
        let mut untouched = crate::Seed(1).stream("test", 0);
        untouched.bits();
        trains.draw(&[0.3, 1.0], 5000, &mut stream);
        let n = f64::from(trains.of_pixel(0).iter().map(|w| w.count_ones()).sum::<u32>());
        assert!((n / 5000.0 - 0.3).abs() < 0.03, "{n}");
    }
}
