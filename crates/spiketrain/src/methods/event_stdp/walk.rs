//! From an image to patches with spikes, in training and in testing.

use super::decode::pixels;
use super::params::{Params, Sampling};
use super::trains::{Kernel, Patch, Trains};
use crate::error::{Error, Result};
use crate::seed::Stream;
use crate::spikes::Shape;

/// Places tried before an image is said to have no patch with enough contrast.
const MAX_TRIES: usize = 10_000;

/// Walks over the patches of one image after another; holds nothing between images.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    params: Params,
    shape: Shape,
    kernel: Kernel,
    /// The image `[channel, row, column]`.
    pub(super) image: Vec<f32>,
    /// Standard deviation of the image.
    deviation: f64,
    probabilities: Vec<f32>,
    trains: Trains,
    values: Vec<f32>,
    /// The patch at hand.
    pub(super) patch: Patch,
}

impl Walk {
    pub(super) fn new(params: &Params, shape: Shape) -> Self {
        let p = params;
        Self {
            params: p.clone(),
            shape,
            kernel: Kernel::new(p.tau, p.kernel_taps, p.kernel_shift, p.window),
            image: vec![0.0; shape.len()],
            deviation: 0.0,
            probabilities: Vec::new(),
            trains: Trains::default(),
            values: Vec::new(),
            patch: Patch::default(),
        }
    }

    /// Looks at the image in `self.image`; draws its spikes unless every patch has its own.
    pub(super) fn begin(&mut self, spikes: &mut Stream) {
        self.deviation = deviation(&self.image);
        if !self.params.normalise_contrast {
            self.params.code.probabilities(
                &self.image,
                self.params.contrast,
                &mut self.probabilities,
            );
            self.trains.draw(&self.probabilities, self.params.steps, spikes);
        }
    }

    /// Looks at the image in `self.image` for patches with spikes of their own only.
    pub(super) fn begin_apart(&mut self) {
        self.deviation = deviation(&self.image);
    }

    /// Spikes shared by all patches of the image.
    pub(super) fn n_shared_spikes(&self) -> u64 {
        if self.params.normalise_contrast { 0 } else { self.trains.n_spikes() }
    }

    /// Rows or columns of an extent of `n` pixels at which patches begin whose centres are
    /// `stride` apart, the first centre on the first pixel.
    pub(super) fn starts(&self, n: usize) -> impl Iterator<Item = isize> + use<> {
        let half = (self.params.patch / 2) as isize;
        (0..n).step_by(self.params.stride).map(move |centre| centre as isize - half)
    }

    /// Rows or columns of an extent of `n` pixels at which tiles begin, the first centred on the
    /// first pixel.
    pub(super) fn tiles(&self, n: usize) -> impl Iterator<Item = isize> + use<> {
        let size = self.params.patch;
        (-((size / 2) as isize)..n as isize).step_by(size)
    }

    /// Takes the patch that begins at `(top, left)` from the image's shared spikes, or draws its
    /// own if contrast is normalised; returns the deviation it was divided by.
    pub(super) fn take(&mut self, top: isize, left: isize, spikes: &mut Stream) -> f64 {
        if self.params.normalise_contrast {
            return self.take_apart(top, left, spikes);
        }
        let Shape { channels, height, width } = self.shape;
        let n_channels = channels * self.params.code.channels();
        let inputs = pixels(n_channels, height, width, top, left, self.params.patch);
        self.patch.gather(&self.trains, inputs, &self.kernel);
        1.0
    }

    /// Takes the patch that begins at `(top, left)` and draws spikes of its own; returns the
    /// deviation it was divided by.
    pub(super) fn take_apart(&mut self, top: isize, left: isize, spikes: &mut Stream) -> f64 {
        self.read(top, left);
        let mut gain = 1.0;
        if self.params.normalise_contrast {
            let deviation = deviation(&self.values);
            if deviation > 0.0 {
                gain = deviation;
                self.values.iter_mut().for_each(|v| *v /= deviation as f32);
            }
        }
        let Params { code, contrast, steps, .. } = self.params;
        code.probabilities(&self.values, contrast, &mut self.probabilities);
        self.trains.draw(&self.probabilities, steps, spikes);
        let all = (0..self.probabilities.len()).map(|i| (i, i));
        self.patch.gather(&self.trains, all, &self.kernel);
        gain
    }

    /// A random place, far enough from the border and with enough contrast.
    pub(super) fn random_place(&mut self, places: &mut Stream) -> Result<(isize, isize)> {
        let Params { border, patch, min_deviation, .. } = self.params;
        let range = |n: usize| n.checked_sub(2 * border + patch).map(|n| n as u32 + 1);
        let ranges = range(self.shape.height).zip(range(self.shape.width));
        let (rows, columns) = ranges.ok_or_else(|| {
            let shape = self.shape;
            Error::data(format!(
                "an image of {shape} has no patch of {patch}×{patch}, {border} pixels from its border"
            ))
        })?;
        for _ in 0..MAX_TRIES {
            let top = border as isize + places.below(rows) as isize;
            let left = border as isize + places.below(columns) as isize;
            self.read(top, left);
            if deviation(&self.values) >= min_deviation * self.deviation {
                return Ok((top, left));
            }
        }
        Err(Error::data(format!(
            "{MAX_TRIES} patches at random and none whose deviation is {min_deviation} of the image's"
        )))
    }

    /// Copies the patch's values; 0 outside the image.
    fn read(&mut self, top: isize, left: isize) {
        let Shape { channels, height, width } = self.shape;
        let size = self.params.patch;
        self.values.clear();
        self.values.resize(channels * size * size, 0.0);
        for (input, pixel) in pixels(channels, height, width, top, left, size) {
            self.values[input] = self.image[pixel];
        }
    }

    /// What a reconstruction of the patch that was taken at `(top, left)` is compared with.
    pub(super) fn patch_targets(&mut self, top: isize, left: isize, gain: f64) -> Vec<f64> {
        self.read(top, left);
        self.values.iter_mut().for_each(|v| *v /= gain as f32);
        let targets = self.params.code.targets(&self.values, self.params.contrast);
        targets.into_iter().map(f64::from).collect()
    }

    /// Visits the patches to learn from in their order; those without a spike are skipped.
    pub(super) fn each(
        &mut self,
        places: &mut Stream,
        spikes: &mut Stream,
        mut visit: impl FnMut(&Patch),
    ) -> Result<()> {
        let mut visit = |patch: &Patch| {
            if !patch.live.is_empty() {
                visit(patch);
            }
        };
        match self.params.sampling {
            Sampling::All => {
                self.begin(spikes);
                for top in self.starts(self.shape.height) {
                    for left in self.starts(self.shape.width) {
                        self.take(top, left, spikes);
                        visit(&self.patch);
                    }
                }
            }
            Sampling::Random => {
                self.begin_apart();
                for _ in 0..self.params.patches_per_image {
                    let (top, left) = self.random_place(places)?;
                    self.take_apart(top, left, spikes);
                    visit(&self.patch);
                }
            }
        }
        Ok(())
    }
}

fn deviation(values: &[f32]) -> f64 {
    let n = values.len().max(1) as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let square = |&v: &f32| (f64::from(v) - mean) * (f64::from(v) - mean);
    (values.iter().map(square).sum::<f64>() / n).sqrt()
}
