//! Leaky integrate-and-fire; with `decay = 1` integrate-and-fire.
//!
//! 1. charge: `u[t] = λ v[t−1] + k x[t]`, k = 1, or 1 − λ with `scales_input`; v\[0\] = 0
//! 2. fire: `s[t] = 1` where `u[t] > θ` (`u[t] ≥ θ` with `fires_at_threshold`), else 0
//! 3. reset: hard `v[t] = u[t](1 − s[t])`, soft `v[t] = u[t] − θ s[t]`, soft after the leak
//!    `v[t] = u[t] − (θ/λ) s[t]`, so that `u[t+1] = λ u[t] + k x[t+1] − θ s[t]`
//!
//! Backward, with g\[t\] = dL/ds\[t\], A\[t\] = dL/dv\[t\] (A\[T\] = 0), h\[t\] the slope at u\[t\] − θ:
//!
//! | reset | ĝ\[t\] | b\[t\] = dL/du\[t\] |
//! | --- | --- | --- |
//! | hard | g − u A | ĝ h + A (1 − s) |
//! | hard, detached | g | ĝ h + A (1 − s) |
//! | soft | g − κθ A | ĝ h + A |
//! | soft, detached | g | ĝ h + A |
//!
//! `A[t−1] = λ b[t]`, `dL/dx[t] = k b[t]`, `dL/dθ = −Σ ĝ h`, for soft resets also `−κ Σ A s`; κ is 1,
//! after the leak 1/λ. A membrane that is not a number stays as it is and does not fire; its
//! gradients are no numbers either.

use super::super::parameters::{Kind, ParameterId, Parameters};
use super::super::slope::Slope;
use crate::check::Checks;
use crate::simd::{LANES, Vector};
use serde::{Deserialize, Deserializer, Serialize};

/// What a spike does to the membrane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reset {
    /// Sets it to 0.
    Hard,
    /// Takes the threshold away.
    Soft,
    /// Takes the threshold away at the next step, behind the leak.
    SoftAfterLeak,
}

/// Settings of the neurons of a network: the table `neuron` of a method, read by
/// [`Params::or_read`]. All quantities are without unit; time is counted in steps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Params {
    /// Share of the membrane that stays from step to step, λ, 0 to 1.
    pub decay: f32,
    /// True if the input is multiplied by 1 − λ.
    pub scales_input: bool,
    /// Threshold θ.
    pub threshold: f32,
    /// True if each layer learns its threshold θ = tanh(w); w begins where θ is `threshold`.
    pub learns_threshold: bool,
    /// What a spike does to the membrane.
    pub reset: Reset,
    /// True if no gradient flows through the spike in the reset.
    pub detach_reset: bool,
    /// True if a membrane at the threshold fires, false if it must be above.
    pub fires_at_threshold: bool,
    /// What stands in for the derivative of the step function.
    pub slope: Slope,
}

impl Default for Params {
    /// The neuron of C. Duan et al., NeurIPS 2022 (TEBN).
    fn default() -> Self {
        Self {
            decay: 0.25,
            scales_input: false,
            threshold: 1.0,
            learns_threshold: false,
            reset: Reset::Hard,
            detach_reset: false,
            fires_at_threshold: false,
            slope: Slope::Triangle { width: 1.0 },
        }
    }
}

/// Settings as they are written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    decay: Option<f32>,
    scales_input: Option<bool>,
    threshold: Option<f32>,
    learns_threshold: Option<bool>,
    reset: Option<Reset>,
    detach_reset: Option<bool>,
    fires_at_threshold: Option<bool>,
    slope: Option<Slope>,
}

impl Params {
    /// Reads settings; what is not written is as in `self`, a method's defaults.
    ///
    /// # Errors
    ///
    /// If a field is unknown or of another type.
    pub fn or_read<'de, D: Deserializer<'de>>(self, from: D) -> Result<Self, D::Error> {
        let read = Written::deserialize(from)?;
        Ok(Self {
            decay: read.decay.unwrap_or(self.decay),
            scales_input: read.scales_input.unwrap_or(self.scales_input),
            threshold: read.threshold.unwrap_or(self.threshold),
            learns_threshold: read.learns_threshold.unwrap_or(self.learns_threshold),
            reset: read.reset.unwrap_or(self.reset),
            detach_reset: read.detach_reset.unwrap_or(self.detach_reset),
            fires_at_threshold: read.fires_at_threshold.unwrap_or(self.fires_at_threshold),
            slope: read.slope.unwrap_or(self.slope),
        })
    }

    /// What is wrong with the values.
    pub fn check(&self) -> Checks {
        let mut c = Checks::default();
        c.within("decay", f64::from(self.decay), 0.0, 1.0);
        c.positive("threshold", f64::from(self.threshold));
        if self.learns_threshold {
            let allowed = "a number above 0 and below 1, as it is a hyperbolic tangent";
            c.that(self.threshold < 1.0, "threshold", self.threshold, allowed);
        }
        let useful = !(self.scales_input && self.decay == 1.0);
        c.that(useful, "scales_input", self.scales_input, "false where decay is 1");
        let leaves_something = self.decay > 0.0 || self.reset != Reset::SoftAfterLeak;
        let allowed = "a number above 0 where the reset is soft-after-leak";
        c.that(leaves_something, "decay", self.decay, allowed);
        c.nest("slope", self.slope.check());
        c
    }
}

/// Threshold of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    /// The same for ever.
    Fixed(f32),
    /// tanh of a learned scalar.
    Learned(ParameterId),
}

/// The neurons of one layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lif {
    /// λ.
    pub decay: f32,
    /// k.
    pub gain: f32,
    /// θ.
    pub threshold: Threshold,
    /// What a spike does to the membrane.
    pub reset: Reset,
    /// True if no gradient flows through the spike in the reset.
    pub detach_reset: bool,
    /// True if a membrane at the threshold fires.
    pub fires_at_threshold: bool,
    /// Surrogate slope.
    pub slope: Slope,
}

impl Lif {
    /// Neurons with these settings; a learned threshold becomes the parameter `name.threshold`.
    pub fn new(params: &Params, name: &str, parameters: &mut Parameters) -> Self {
        let threshold = if params.learns_threshold {
            let raw = libm::atanhf(params.threshold);
            let name = format!("{name}.threshold");
            Threshold::Learned(parameters.add(name, &[1], Kind::Threshold, vec![raw]))
        } else {
            Threshold::Fixed(params.threshold)
        };
        Self {
            decay: params.decay,
            gain: if params.scales_input { 1.0 - params.decay } else { 1.0 },
            threshold,
            reset: params.reset,
            detach_reset: params.detach_reset,
            fires_at_threshold: params.fires_at_threshold,
            slope: params.slope,
        }
    }

    /// θ as it is now.
    pub fn threshold(&self, parameters: &Parameters) -> f32 {
        match self.threshold {
            Threshold::Fixed(threshold) => threshold,
            Threshold::Learned(id) => libm::tanhf(parameters.get(id)[0]),
        }
    }

    /// κ: what a spike takes from the membrane under a soft reset, in thresholds.
    #[inline(always)]
    pub fn thresholds_lost(&self) -> f32 {
        if self.reset == Reset::SoftAfterLeak { 1.0 / self.decay } else { 1.0 }
    }

    /// Whether a membrane of `u` fires.
    #[inline(always)]
    pub fn fires(&self, u: f32, threshold: f32) -> bool {
        if self.fires_at_threshold { u >= threshold } else { u > threshold }
    }

    /// Equation 1: `u = λ v + k u`; `u` holds the input before.
    #[inline(always)]
    pub fn charge(&self, v: &[f32], u: &mut [f32]) {
        let (decay, gain) = (self.decay, self.gain);
        u.iter_mut().zip(v).for_each(|(u, &v)| *u = decay * v + gain * *u);
    }

    /// Equation 2, packed: bit i of the words says whether neuron i fires.
    #[inline(always)]
    pub fn fire(&self, u: &[f32], threshold: f32, words: &mut [u64]) {
        if self.fires_at_threshold {
            pack(u, words, |u| u >= threshold);
        } else {
            pack(u, words, |u| u > threshold);
        }
    }

    /// Equation 3.
    #[inline(always)]
    pub fn reset(&self, u: &[f32], threshold: f32, v: &mut [f32]) {
        let (hard, lost) = (self.reset == Reset::Hard, self.thresholds_lost() * threshold);
        let after = |u: f32| if hard { 0.0 } else { u - lost };
        let pairs = v.iter_mut().zip(u);
        if self.fires_at_threshold {
            pairs.for_each(|(v, &u)| *v = if u >= threshold { after(u) } else { u });
        } else {
            pairs.for_each(|(v, &u)| *v = if u > threshold { after(u) } else { u });
        }
    }
}

/// Neurons whose kind the compiler knows, for blocks in registers: the same equations.
#[derive(Clone, Copy)]
pub(crate) struct Known<const HARD: bool, const DETACHED: bool, const AT: bool> {
    decay: f32,
    gain: f32,
    threshold: f32,
    kappa: f32,
    slope: Slope,
}

/// Calls a method of the [`Known`] neurons of a [`Lif`] with a threshold: `known!(lif, threshold,
/// |neuron| …)`.
macro_rules! known {
    ($lif:expr, $threshold:expr, |$neuron:ident| $call:expr) => {
        known!(@ $lif, $threshold, $neuron, $call,
            [true true true] [true true false] [true false true] [true false false]
            [false true true] [false true false] [false false true] [false false false])
    };
    (@ $lif:expr, $threshold:expr, $neuron:ident, $call:expr, $([$hard:tt $detached:tt $at:tt])*) => {
        match ($lif.reset == $crate::frames::neuron::Reset::Hard, $lif.detach_reset, $lif.fires_at_threshold) {
            $(($hard, $detached, $at) => {
                let $neuron = $lif.known::<$hard, $detached, $at>($threshold);
                $call
            })*
        }
    };
}
pub(crate) use known;

impl Lif {
    /// The neurons with this threshold. The kind must be theirs; use [`known`].
    #[inline(always)]
    pub(crate) fn known<const HARD: bool, const DETACHED: bool, const AT: bool>(
        &self,
        threshold: f32,
    ) -> Known<HARD, DETACHED, AT> {
        let (decay, gain, slope) = (self.decay, self.gain, self.slope);
        Known { decay, gain, threshold, kappa: self.thresholds_lost(), slope }
    }
}

impl<const HARD: bool, const DETACHED: bool, const AT: bool> Known<HARD, DETACHED, AT> {
    /// Equation 1: the membranes, from those before and the input.
    #[inline(always)]
    pub(crate) fn charge<V: Vector, const N: usize>(&self, v: [V; N], x: [V; N]) -> [V; N] {
        let (decay, gain) = (V::splat(self.decay), V::splat(self.gain));
        let mut u = x;
        for b in 0..N {
            u[b] = decay.times(v[b]).plus(gain.times(x[b]));
        }
        u
    }

    /// Equation 2: bit i says whether neuron i fires.
    #[inline(always)]
    pub(crate) fn fire<V: Vector, const N: usize>(&self, u: [V; N]) -> u64 {
        let (threshold, mut word) = (V::splat(self.threshold), 0);
        for b in 0..N {
            let bits = if AT { u[b].at_least(threshold) } else { u[b].above(threshold) };
            word |= u64::from(bits) << (LANES * b);
        }
        word
    }

    /// The same as 1 and 0.
    #[inline(always)]
    pub(crate) fn spikes<V: Vector, const N: usize>(&self, u: [V; N]) -> [V; N] {
        let mut s = u;
        for b in 0..N {
            s[b] = self.choose(u[b], V::splat(1.0), V::splat(0.0));
        }
        s
    }

    /// Equation 3: the membranes after it.
    #[inline(always)]
    pub(crate) fn reset<V: Vector, const N: usize>(&self, u: [V; N]) -> [V; N] {
        let lost = V::splat(self.kappa * self.threshold);
        let mut v = u;
        for b in 0..N {
            let after = if HARD { V::splat(0.0) } else { u[b].minus(lost) };
            v[b] = self.choose(u[b], after, u[b]);
        }
        v
    }

    /// `fired` where a membrane fires, else `silent`.
    #[inline(always)]
    fn choose<V: Vector>(&self, u: V, fired: V, silent: V) -> V {
        let threshold = V::splat(self.threshold);
        if AT {
            threshold.at_most(u, fired, silent)
        } else {
            u.where_above(threshold, fired, silent)
        }
    }

    /// The slopes at the membranes.
    #[inline(always)]
    pub(crate) fn slopes<V: Vector, const N: usize>(&self, u: [V; N]) -> [V; N] {
        self.slope.blocks(u, self.threshold)
    }

    /// One step backward: dL/dx\[t\] and −dL/dθ of each neuron, from the slope, A\[t\], which becomes
    /// A\[t−1\], and g\[t\].
    #[inline(always)]
    pub(crate) fn back<V: Vector, const N: usize>(
        &self,
        u: [V; N],
        h: [V; N],
        a: &mut [V; N],
        g: [V; N],
    ) -> ([V; N], [V; N]) {
        let (decay, gain) = (V::splat(self.decay), V::splat(self.gain));
        let (kappa, lost) = (V::splat(self.kappa), V::splat(self.kappa * self.threshold));
        let (mut x, mut to_threshold) = (g, g);
        for b in 0..N {
            let through = match (DETACHED, HARD) {
                (true, _) => g[b],
                (false, true) => g[b].minus(u[b].times(a[b])),
                (false, false) => g[b].minus(lost.times(a[b])),
            };
            let through = through.times(h[b]);
            let to_membrane = if HARD {
                to_threshold[b] = through;
                through.plus(self.choose(u[b], V::splat(0.0), a[b]))
            } else {
                let of_reset = through.plus(kappa.times(a[b]));
                to_threshold[b] = self.choose(u[b], of_reset, through);
                through.plus(a[b])
            };
            a[b] = decay.times(to_membrane);
            x[b] = gain.times(to_membrane);
        }
        (x, to_threshold)
    }
}

/// Packs `fires(u)` into words, 64 neurons each.
#[inline(always)]
pub(crate) fn pack(u: &[f32], words: &mut [u64], fires: impl Fn(f32) -> bool) {
    for (word, u) in words.iter_mut().zip(u.chunks(64)) {
        let mut flags = [0u8; 64];
        flags.iter_mut().zip(u).for_each(|(f, &u)| *f = u8::from(fires(u)));
        *word = 0;
        for (byte, eight) in flags.chunks_exact(8).enumerate() {
            let eight = u64::from_le_bytes(eight.try_into().expect("eight flags"));
            // The product gathers the lowest bits of eight bytes in the highest byte.
            let bits = eight.wrapping_mul(0x0102_0408_1020_4080) >> 56;
            *word |= bits << (8 * byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Simd, dispatch, load_lanes, store_lanes};

    #[test]
    fn packing_keeps_the_order() {
        let u: Vec<f32> = (0..150).map(|i| ((i * 7919) % 13) as f32 / 6.0).collect();
        let mut words = [u64::MAX; 3];
        pack(&u, &mut words, |u| u > 1.0);
        for i in 0..192 {
            let expected = u.get(i).is_some_and(|&u| u > 1.0);
            assert_eq!(words[i / 64] >> (i % 64) & 1 == 1, expected, "neuron {i}");
        }
    }

    /// What the functions of [`Known`] give, and their word of spikes.
    #[derive(Debug, Default, PartialEq)]
    struct Blocks {
        values: Vec<u32>,
        word: u64,
    }

    dispatch! {
        fn blocks(lif: &Lif, threshold: f32, v: &[f32], x: &[f32]) -> Blocks = blocks_body::<V>;
    }

    #[inline(always)]
    fn blocks_body<V: Vector>(lif: &Lif, threshold: f32, v: &[f32], x: &[f32]) -> Blocks {
        let (v, x): ([V; 4], [V; 4]) = (load_lanes(v), load_lanes(x));
        known!(lif, threshold, |neuron| {
            let (u, mut a) = (neuron.charge(v, x), v);
            let h = neuron.slopes(u);
            let (d, to_threshold) = neuron.back(u, h, &mut a, x);
            let mut out = Blocks { word: neuron.fire(u), ..Blocks::default() };
            for part in [u, neuron.spikes(u), neuron.reset(u), h, d, a, to_threshold] {
                let mut values = [0.0f32; 64];
                store_lanes(&part, &mut values);
                out.values.extend(values.map(f32::to_bits));
            }
            out
        })
    }

    #[test]
    fn blocks_follow_the_equations() {
        let values = |seed: u32| -> Vec<f32> {
            (0..64u32).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 400.0 - 0.7).collect()
        };
        let (mut v, mut x) = (values(1), values(2));
        // At the threshold.
        (v[3], x[3]) = (0.0, 1.0);
        let threshold = 1.0;
        for (reset, detach_reset, fires_at_threshold) in
            [Reset::Hard, Reset::Soft, Reset::SoftAfterLeak].into_iter().flat_map(|reset| {
                [(false, false), (false, true), (true, false), (true, true)]
                    .map(|(detached, at)| (reset, detached, at))
            })
        {
            for slope in [Slope::Triangle { width: 0.8 }, Slope::Atan { steepness: 2.0 }] {
                let params = Params {
                    decay: 0.5,
                    scales_input: reset == Reset::Soft,
                    reset,
                    detach_reset,
                    fires_at_threshold,
                    slope,
                    ..Params::default()
                };
                let lif = Lif::new(&params, "layer", &mut Parameters::default());
                let kappa = lif.thresholds_lost();
                let (mut u, mut words) = (x.clone(), [0]);
                lif.charge(&v, &mut u);
                lif.fire(&u, threshold, &mut words);
                let s: Vec<f32> =
                    u.iter().map(|&u| f32::from(u8::from(lif.fires(u, threshold)))).collect();
                assert!(s.contains(&1.0) && s.contains(&0.0));
                assert!(lif.gain != 1.0 || (s[3] == 1.0) == fires_at_threshold);
                let (mut after, mut h) = (vec![0.0; 64], vec![0.0; 64]);
                lif.reset(&u, threshold, &mut after);
                slope.write(&u, threshold, &mut h);
                // The table of the module with g = x and A = v.
                let each = (0..64).map(|i| {
                    let through = match (reset, detach_reset) {
                        (_, true) => x[i],
                        (Reset::Hard, false) => x[i] - u[i] * v[i],
                        (_, false) => x[i] - kappa * threshold * v[i],
                    } * h[i];
                    let hard = reset == Reset::Hard;
                    let b = through + if hard && s[i] == 1.0 { 0.0 } else { v[i] };
                    let of_threshold =
                        if !hard && s[i] == 1.0 { through + kappa * v[i] } else { through };
                    (lif.gain * b, lif.decay * b, of_threshold)
                });
                let (mut d, mut a, mut to_threshold) = (Vec::new(), Vec::new(), Vec::new());
                for (of_x, of_v, of_threshold) in each {
                    d.push(of_x);
                    a.push(of_v);
                    to_threshold.push(of_threshold);
                }
                let values = [u, s, after, h, d, a, to_threshold].concat();
                let values = values.into_iter().map(f32::to_bits).collect();
                let want = Blocks { values, word: words[0] };
                for simd in Simd::available() {
                    assert_eq!(blocks(simd, &lif, threshold, &v, &x), want, "{simd:?} {params:?}");
                }
            }
        }
    }

    #[test]
    fn a_membrane_that_is_not_a_number_is_silent_and_its_gradients_are_none() {
        let slopes = [
            Slope::Triangle { width: 0.8 },
            Slope::Rectangle { width: 0.5 },
            Slope::Sigmoid { steepness: 4.0 },
            Slope::Gaussian { deviation: 0.4 },
        ];
        let (v, mut x) = ([0.0; 64], [2.0; 64]);
        x[5] = f32::NAN;
        for (reset, detach_reset, fires_at_threshold) in
            [Reset::Hard, Reset::Soft].into_iter().flat_map(|reset| {
                [(false, false), (false, true), (true, false), (true, true)]
                    .map(|(detached, at)| (reset, detached, at))
            })
        {
            for slope in slopes {
                let params =
                    Params { reset, detach_reset, fires_at_threshold, slope, ..Params::default() };
                let lif = Lif::new(&params, "layer", &mut Parameters::default());
                for simd in Simd::available() {
                    let Blocks { values, word } = blocks(simd, &lif, 1.0, &v, &x);
                    assert_eq!(word, !(1 << 5), "{simd:?} {params:?}");
                    let of: Vec<f32> =
                        values.chunks(64).map(|part| f32::from_bits(part[5])).collect();
                    let [_, spike, after, h, d, a, _] = of[..] else { unreachable!() };
                    assert_eq!(spike, 0.0, "{simd:?} {params:?}");
                    assert!([after, h, d, a].iter().all(|v| v.is_nan()), "{simd:?} {params:?}");
                }
            }
        }
    }

    #[test]
    fn a_threshold_that_cannot_be_a_tangent_is_refused() {
        let params = Params { learns_threshold: true, ..Params::default() };
        assert_eq!(params.check().found[0].field, "threshold");
        assert!(Params::default().check().found.is_empty());
    }

    #[test]
    fn a_reset_behind_the_leak_needs_a_leak_that_leaves_something() {
        let of = |decay, reset| Params { decay, reset, ..Params::default() }.check().found;
        assert_eq!(of(0.0, Reset::SoftAfterLeak)[0].field, "decay");
        assert!(of(0.1, Reset::SoftAfterLeak).is_empty() && of(0.0, Reset::Soft).is_empty());
    }
}
