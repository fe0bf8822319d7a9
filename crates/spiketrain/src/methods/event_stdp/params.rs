//! Hyper-parameters: the table `[method.event-stdp]` of a recipe.

use crate::check::Checks;
use serde::{Deserialize, Serialize};

/// What a pixel's spike probability is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// `x`, the pixel itself, clipped to [0, 1].
    Intensity,
    /// `½ + z/(2c)`, clipped to [0, 1]: signed values z on one channel.
    Grey,
    /// `z/c` on one channel and `−z/c` on another, each clipped to [0, 1].
    OnOff,
}

/// Which patches of an image are learned from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampling {
    /// One around every pixel (every `stride`-th), row by row; spikes are drawn once per image and
    /// shared by overlapping patches. Patches without a spike are skipped.
    All,
    /// `patches_per_image` at random places, each with spikes of its own.
    Random,
}

/// How output spikes become an image again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decoder {
    /// The mean filter of the layer's output spikes (D1).
    Vq,
    /// Filters counted by integrate-and-fire neurons driven by the cosine of filter and spikes
    /// (D2).
    CosineLif,
}

/// Hyper-parameters. The defaults are the specification mode on MNIST: the exact gradient of the
/// vector-quantisation error with causal kernels. The authors' released program differs in
/// `depression` = 0.75 and `kernel_shift` = 4.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// Representation neurons, D.
    pub neurons: usize,
    /// Rows and columns of a patch, p.
    pub patch: usize,
    /// Time steps a patch is shown, T, in steps of 1 ms; the first only fills the traces.
    pub steps: usize,
    /// What a pixel's spike probability is.
    pub code: Code,
    /// Value that saturates the codes of signed values, c, in the values' unit; or in standard
    /// deviations of the patch with `normalise_contrast`.
    pub contrast: f64,
    /// True if every patch of signed values is divided by its own standard deviation.
    pub normalise_contrast: bool,
    /// Which patches are learned from.
    pub sampling: Sampling,
    /// Random patches of an image, per presentation in training and once in testing.
    pub patches_per_image: usize,
    /// Distance of random patches from the image's border, in pixels.
    pub border: usize,
    /// Least standard deviation of a random patch, as a fraction of the image's.
    pub min_deviation: f64,
    /// Distance between neighbouring patches with `sampling = "all"` and in overlapping
    /// reconstruction, in pixels.
    pub stride: usize,
    /// Learning rate μ.
    pub learning_rate: f64,
    /// Strength of depression κ; 1 is the exact gradient.
    pub depression: f64,
    /// Synaptic disconnect λ.
    pub disconnect: f64,
    /// An input counts as causal if it spiked at most so many steps ago, ε.
    pub window: usize,
    /// Initial threshold θ on the softmax share.
    pub threshold: f64,
    /// Step of the threshold b.
    pub threshold_rate: f64,
    /// Output spikes per step the threshold aims at, m*.
    pub target_spikes: f64,
    /// Time constant of the trace τ, in steps.
    pub tau: f64,
    /// Taps of the trace's kernel, K.
    pub kernel_taps: usize,
    /// Steps the kernel looks ahead: 0 is causal; the authors' centred kernel of 10 taps has 4.
    pub kernel_shift: usize,
    /// Step of the per-neuron homeostatic offset η_h; 0 switches it off.
    pub homeostasis: f64,
    /// True if ½‖w‖² is taken from the potential, which makes it the exact distance of vector
    /// quantisation.
    pub exact_distance: bool,
    /// True if only the neuron with the largest share may spike in a step.
    pub single_winner: bool,
    /// The decoder of the reconstruction that is scored as `mse` and `rms`; measures of their own
    /// name every combination.
    pub decoder: Decoder,
    /// Threshold of the cosine decoder.
    pub decoder_threshold: f64,
    /// Membrane time constant of the cosine decoder, in steps.
    pub decoder_tau: f64,
    /// True if a Gabor function is fitted to every filter at the end of each epoch.
    pub fit_gabor: bool,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            neurons: 32,
            patch: 5,
            steps: 40,
            code: Code::Intensity,
            contrast: 3.0,
            normalise_contrast: false,
            sampling: Sampling::All,
            patches_per_image: 100,
            border: 10,
            min_deviation: 0.3,
            stride: 1,
            learning_rate: 5e-4,
            depression: 1.0,
            disconnect: 0.0,
            window: 0,
            threshold: 0.15,
            threshold_rate: 5e-5,
            target_spikes: 1.0,
            tau: 0.25,
            kernel_taps: 10,
            kernel_shift: 0,
            homeostasis: 0.0,
            exact_distance: false,
            single_winner: false,
            decoder: Decoder::CosineLif,
            decoder_threshold: 0.8,
            decoder_tau: 1.0,
            fit_gabor: false,
        }
    }
}

impl Params {
    /// What is wrong with the values, if anything.
    pub fn check(&self) -> Checks {
        let mut c = Checks::default();
        c.count("neurons", self.neurons, 1, 10_000);
        c.count("patch", self.patch, 1, 64);
        c.count("steps", self.steps, 2, 10_000);
        c.positive("contrast", self.contrast);
        let may_normalise = !self.normalise_contrast || self.code != Code::Intensity;
        let allowed = "false with code = \"intensity\"";
        c.that(may_normalise, "normalise_contrast", self.normalise_contrast, allowed);
        c.count("patches_per_image", self.patches_per_image, 1, 1_000_000);
        let decodes = self.decoder == Decoder::Vq || self.code == Code::Intensity;
        let allowed = "\"vq\"; \"cosine-lif\" needs code = \"intensity\"";
        c.that(decodes, "decoder", "\"cosine-lif\"", allowed);
        c.count("border", self.border, 0, 10_000);
        c.within("min_deviation", self.min_deviation, 0.0, 1.0);
        c.count("stride", self.stride, 1, self.patch.div_ceil(2).max(1));
        let keeps_bounds = (1.0 + self.disconnect) * self.depression.max(1.0);
        c.within("learning_rate", self.learning_rate, 0.0, 1.0 / keeps_bounds.max(1.0));
        c.within("depression", self.depression, 0.0, 10.0);
        c.within("disconnect", self.disconnect, 0.0, 10.0);
        c.count("window", self.window, 0, self.steps);
        c.within("threshold", self.threshold, 0.0, 1.0);
        c.not_negative("threshold_rate", self.threshold_rate);
        c.within("target_spikes", self.target_spikes, 0.0, self.neurons as f64);
        c.positive("tau", self.tau);
        c.count("kernel_taps", self.kernel_taps, 1, 1000);
        c.count("kernel_shift", self.kernel_shift, 0, self.kernel_taps.max(1) - 1);
        c.not_negative("homeostasis", self.homeostasis);
        c.positive("decoder_threshold", self.decoder_threshold);
        c.positive("decoder_tau", self.decoder_tau);
        c
    }
}
