//! From output spikes back to patches, and from patches to an image.

use super::layer::Layer;
use super::softmax::LANES;
use super::trains::Patch;

/// `Σ_i n_i w_ij`, `[input]`, of `weights[[neuron, input]]`.
pub(super) fn weighted_filters(weights: &[f64], counts: &[u32], out: &mut Vec<f64>) {
    let n_inputs = weights.len() / counts.len();
    out.clear();
    out.resize(n_inputs, 0.0);
    for (row, &n) in weights.chunks_exact(n_inputs).zip(counts).filter(|(_, n)| **n > 0) {
        let n = f64::from(n);
        out.iter_mut().zip(row).for_each(|(x, w)| *x += n * w);
    }
}

/// The cosine decoder's integrate-and-fire neurons (D2).
///
/// `V_i(t) = e^{−1/τ} V_i(t−1) + (w_i·s(t)) / (‖w_i‖ ‖s(t)‖)`; spike and reset to 0 from
/// `V_i ≥ threshold` on. No competition.
#[derive(Clone, Debug)]
pub(super) struct Cosine {
    n_neurons: usize,
    n_lanes: usize,
    /// `w_i / ‖w_i‖`, `[input, lane]`.
    directions: Vec<f64>,
    leak: f64,
    threshold: f64,
}

impl Cosine {
    /// For the layer's weights as they are now.
    pub(super) fn new(layer: &Layer, tau: f64, threshold: f64) -> Self {
        let (n_neurons, n_inputs) = (layer.n_neurons(), layer.n_inputs());
        let n_lanes = n_neurons.next_multiple_of(LANES);
        let mut directions = vec![0.0; n_inputs * n_lanes];
        for (i, row) in layer.weights().chunks_exact(n_inputs).enumerate() {
            let norm = libm::sqrt(row.iter().map(|w| w * w).sum::<f64>());
            if norm > 0.0 {
                row.iter().enumerate().for_each(|(j, w)| directions[j * n_lanes + i] = w / norm);
            }
        }
        Self { n_neurons, n_lanes, directions, leak: libm::exp(-1.0 / tau), threshold }
    }

    /// Spike counts of the neurons over a patch's steps, without the first, `[neuron]`.
    pub(super) fn counts(&self, patch: &Patch) -> Vec<u32> {
        let mut potentials = vec![0.0; self.n_lanes];
        let mut drive = vec![0.0; self.n_lanes];
        let mut counts = vec![0u32; self.n_lanes];
        let n_words = patch.n_words();
        for t in 1..patch.n_steps {
            drive.fill(0.0);
            let mut n_spikes = 0u32;
            for (&input, spikes) in patch.live.iter().zip(patch.spikes.chunks_exact(n_words)) {
                if spikes[t / 64] >> (t % 64) & 1 == 1 {
                    n_spikes += 1;
                    let start = input as usize * self.n_lanes;
                    let row = &self.directions[start..start + self.n_lanes];
                    drive.iter_mut().zip(row).for_each(|(x, w)| *x += w);
                }
            }
            let scale = 1.0 / libm::sqrt(f64::from(n_spikes.max(1)));
            for ((v, x), n) in potentials.iter_mut().zip(&drive).zip(&mut counts) {
                let charged = *v * self.leak + x * scale;
                let spikes = charged >= self.threshold;
                *v = if spikes { 0.0 } else { charged };
                *n += u32::from(spikes);
            }
        }
        counts.truncate(self.n_neurons);
        counts
    }
}

/// An image put together from patches: each pixel is the mean of the patches that cover it.
#[derive(Clone, Debug)]
pub(super) struct Canvas {
    height: usize,
    width: usize,
    sums: Vec<f64>,
    covers: Vec<u32>,
}

impl Canvas {
    /// An empty canvas of `n_channels` channels.
    pub(super) fn new(n_channels: usize, height: usize, width: usize) -> Self {
        let n = n_channels * height * width;
        Self { height, width, sums: vec![0.0; n], covers: vec![0; n] }
    }

    /// Adds a square patch `[channel, row, column]` whose first pixel lies at `(top, left)`; what
    /// hangs over the border is cut off.
    pub(super) fn add(&mut self, top: isize, left: isize, size: usize, patch: &[f64]) {
        let n_channels = self.sums.len() / (self.height * self.width);
        for (input, pixel) in pixels(n_channels, self.height, self.width, top, left, size) {
            self.sums[pixel] += patch[input];
            self.covers[pixel] += 1;
        }
    }

    /// The image `[channel, row, column]`; 0 where no patch lies.
    pub(super) fn image(&self) -> Vec<f64> {
        self.sums.iter().zip(&self.covers).map(|(s, &n)| s / f64::from(n.max(1))).collect()
    }
}

/// Pairs (place in the patch, place in the image) of a square patch whose first pixel lies at
/// `(top, left)`, without what hangs over the border; both count `[channel, row, column]`.
pub(super) fn pixels(
    n_channels: usize,
    height: usize,
    width: usize,
    top: isize,
    left: isize,
    size: usize,
) -> impl Iterator<Item = (usize, usize)> {
    let inside = move |start: isize, n: usize| {
        let first = (-start).clamp(0, size as isize) as usize;
        let last = (n as isize - start).clamp(0, size as isize) as usize;
        first..last.max(first)
    };
    let (rows, columns) = (inside(top, height), inside(left, width));
    (0..n_channels).flat_map(move |c| {
        let columns = columns.clone();
        rows.clone().flat_map(move |r| {
            let y = (top + r as isize) as usize;
            columns.clone().map(move |k| {
                let x = (left + k as isize) as usize;
                ((c * size + r) * size + k, (c * height + y) * width + x)
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_cut_at_every_border() {
        let all: Vec<_> = pixels(1, 3, 4, -1, -1, 3).collect();
        assert_eq!(all, [(4, 0), (5, 1), (7, 4), (8, 5)]);
        let all: Vec<_> = pixels(2, 3, 4, 1, 2, 3).collect();
        let first = [(0, 6), (1, 7), (3, 10), (4, 11)];
        assert_eq!(all[..4], first);
        assert_eq!(all[4..], first.map(|(i, p)| (i + 9, p + 12)));
        assert_eq!(pixels(1, 3, 4, 3, 0, 3).count() + pixels(1, 3, 4, -3, 0, 3).count(), 0);
    }

    #[test]
    fn overlapping_patches_are_averaged() {
        let mut canvas = Canvas::new(1, 2, 3);
        canvas.add(0, 0, 2, &[1.0, 2.0, 3.0, 4.0]);
        canvas.add(0, 1, 2, &[4.0, 5.0, 6.0, 7.0]);
        assert_eq!(canvas.image(), [1.0, 3.0, 5.0, 3.0, 5.0, 7.0]);
    }
}
