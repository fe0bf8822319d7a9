//! Double-exponential neurons and their gradients through spike times.
//!
//! Forward, for every neuron, with `κ_m = 1 − 1/τ_m` and so on, I\[t\] the weighted input of step t
//! and all states 0 at first:
//!
//! 1. `m ← κ_m (m + I)`, `y ← κ_s (y + I)`, `c ← κ_g (c + I)`
//! 2. leaky: `u = (m − y) / (1 − τ_s/τ_m)`, `Δ = u − u₋`, where u₋ is the u of the step before;
//!    else `Δ = c`, `u = u₋ + Δ`
//! 3. `s = 1` where `u ≥ V`; then m, y, c and u are set to 0
//!
//! Where leaky, an input spike of weight w adds `w ε(k)` at the k-th step from its own on, until the
//! next output spike: `ε(k) = (κ_m^k − κ_s^k) / (1 − τ_s/τ_m)`. Neurons without leak are given the
//! gradients of the same kernel, as in the authors' program.
//!
//! Backward, with e the derivative of the loss with respect to the time of an output spike at step
//! t_s: every input step t since the output spike before receives, k = t_s − t + 1,
//!
//! - for the weights `e p_w ε(k)`, `p_w = clip(−1/Δ, −4, 0)`
//! - for the times of input spikes `−e p_t κ(k)`, `p_t = clip(−1/Δ_t, −R, 0)`; exponential:
//!   `κ(k) = κ_g^k`, `Δ_t = c`; original: `κ(k) = ε(k) − ε(k−1)`, `Δ_t = Δ`.
//!
//! A step that does not rise (Δ ≤ 0) has p = 0; p of Δ = 0 is its lower bound. Quantities are
//! without unit; times are in steps.

use crate::check::Checks;
use crate::frames::activation::{Images, Shard};
use crate::frames::kernel::Spikes;
use crate::frames::neuron::pack;
use crate::frames::shards;
use crate::frames::signal::{Data, Signal};
use crate::simd::{LANES, Simd, dispatch};
use crate::spikes::Shape;
use serde::{Deserialize, Serialize};

/// Kernel of the gradients with respect to spike times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeKernel {
    /// `κ_g^k`: the same total for every neuron.
    #[default]
    Exponential,
    /// `ε(k) − ε(k−1)`, the derivative of the membrane's own kernel.
    Original,
}

/// Settings: the table `neuron` of the method.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// Time constant of the membrane, τ_m, in steps.
    pub membrane: f64,
    /// Time constant of the synapse, τ_s, in steps; below `membrane`.
    pub synapse: f64,
    /// Time constant of the gradients, τ_g, in steps; below `synapse`.
    pub gradient: f64,
    /// False for neurons that integrate without leak.
    pub leaky: bool,
    /// Kernel of the gradients with respect to spike times.
    pub kernel: TimeKernel,
    /// Largest factor 1/Δ of gradients with respect to times, R.
    pub time_clip: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            membrane: 5.0,
            synapse: 3.0,
            gradient: 2.5,
            leaky: true,
            kernel: TimeKernel::Exponential,
            time_clip: 123_456_789.0,
        }
    }
}

impl Params {
    /// What is wrong with the values.
    pub fn check(&self) -> Checks {
        let mut c = Checks::default();
        let ok = self.gradient > 1.0 && self.gradient.is_finite();
        c.that(ok, "gradient", self.gradient, "a number above 1");
        let (low, high) = (self.gradient, self.membrane);
        let ok = self.synapse > low && self.synapse < high;
        c.that(ok, "synapse", self.synapse, &format!("a number between {low} and {high}"));
        c.finite("membrane", self.membrane);
        c.positive("time_clip", self.time_clip);
        let ok = self.leaky || self.kernel == TimeKernel::Exponential;
        c.that(ok, "leaky", self.leaky, "true with the original kernel");
        c
    }
}

/// Largest factor 1/Δ of gradients with respect to weights.
const WEIGHT_CLIP: f32 = 4.0;

/// The constants of the equations.
#[derive(Clone, Copy, Debug)]
pub struct Neuron {
    /// κ_m, κ_s, κ_g.
    keep: [f32; 3],
    /// 1/(1 − τ_s/τ_m).
    gain: f32,
    /// 1/κ − 1 of membrane and synapse, times the gain.
    fall: [f32; 2],
    time_clip: f32,
    leaky: bool,
    kernel: TimeKernel,
}

impl Neuron {
    /// The neuron that `params` describe.
    pub fn new(params: &Params) -> Self {
        let keep = [params.membrane, params.synapse, params.gradient].map(|tau| 1.0 - 1.0 / tau);
        let gain = 1.0 / (1.0 - params.synapse / params.membrane);
        let fall = [keep[0], keep[1]].map(|k| (gain * (1.0 / k - 1.0)) as f32);
        let (leaky, kernel) = (params.leaky, params.kernel);
        let keep = keep.map(|k| k as f32);
        Self { keep, gain: gain as f32, fall, time_clip: params.time_clip as f32, leaky, kernel }
    }

    /// `ε(k)` for k = 1 to `n`.
    pub fn response(&self, n: usize) -> Vec<f32> {
        let [mut membrane, mut synapse] = [1.0, 1.0];
        let mut next = || {
            membrane *= self.keep[0];
            synapse *= self.keep[1];
            self.gain * (membrane - synapse)
        };
        (0..n).map(|_| next()).collect()
    }

    /// `κ(k)` for k = 1 to `n`.
    pub fn time_response(&self, n: usize) -> Vec<f32> {
        let epsilon = self.response(n);
        (0..n)
            .map(|k| match self.kernel {
                TimeKernel::Exponential => self.keep[2].powi(k as i32 + 1),
                TimeKernel::Original if k == 0 => epsilon[0],
                TimeKernel::Original => epsilon[k] - epsilon[k - 1],
            })
            .collect()
    }

    /// Spikes for an input current; `threshold` has one value a channel.
    pub fn fire(&self, threshold: &[f32], current: &Signal) -> Signal {
        let of = Images::new(current);
        let mut spikes = Spikes::silent(of.shape, of.n_steps * of.n_samples);
        let shards = of.shards(spikes.words_mut(), Spikes::words_per_image(of.shape));
        let row = along_row(threshold, of.shape);
        shards::map(shards, |shard| fire(Simd::best(), of, self, &row, shard));
        Signal { data: Data::Spikes(spikes), ..*current }
    }

    /// The rises Δ and Δ_t at every step, each `[time, sample, …]`.
    pub fn rises(&self, threshold: &[f32], current: &Signal) -> [Vec<f32>; 2] {
        let of = Images::new(current);
        let n = of.n_steps * of.n_samples * of.shape.len();
        let (mut weight, mut time) = (vec![0.0; n], vec![0.0; n]);
        let row = along_row(threshold, of.shape);
        let shards = of.shards(&mut weight, of.shape.len());
        let both: Vec<_> = shards.into_iter().zip(of.shards(&mut time, of.shape.len())).collect();
        shards::map(both, |(weight, time)| {
            write_rises(Simd::best(), of, self, &row, weight, time);
        });
        [weight, time]
    }

    /// Factors of the gradients with respect to times and to weights, `[time, sample, …]`: `e` is
    /// dL/dt of the output spikes, read where `spikes` are, and becomes the first if
    /// `wants_times`; the second overwrites `to_weights`. `spikes` may hold some that the membrane
    /// did not fire. The sum of dL/dt over the spikes is returned.
    pub fn backward(
        &self,
        threshold: &[f32],
        current: &Signal,
        spikes: &Spikes,
        e: &mut [f32],
        to_weights: &mut [f32],
        wants_times: bool,
    ) -> f64 {
        let of = Images::new(current);
        assert_eq!(e.len(), of.n_steps * of.n_samples * of.shape.len(), "one value a spike");
        assert_eq!(e.len(), to_weights.len(), "as many values");
        let row = along_row(threshold, of.shape);
        let shards = of.shards(e, of.shape.len());
        let both: Vec<_> = shards.into_iter().zip(of.shards(to_weights, of.shape.len())).collect();
        let totals = shards::map(both, |(e, to_weights)| {
            back(Simd::best(), of, self, &row, spikes, e, to_weights, wants_times)
        });
        totals.into_iter().sum()
    }
}

/// One value a channel, written out along a row `[column, channel]`.
fn along_row(of_channel: &[f32], shape: Shape) -> Vec<f32> {
    assert_eq!(of_channel.len(), shape.channels, "one threshold a channel");
    of_channel.repeat(shape.width)
}

/// Δ and Δ_t of one step.
struct Rises<'a> {
    weight: &'a mut [f32],
    time: &'a mut [f32],
}

/// States of a row of neurons.
struct Scan {
    m: Vec<f32>,
    y: Vec<f32>,
    c: Vec<f32>,
    u: Vec<f32>,
}

impl Scan {
    fn new(n: usize) -> Self {
        let zeros = || vec![0.0; n];
        Self { m: zeros(), y: zeros(), c: zeros(), u: zeros() }
    }

    #[inline(always)]
    fn clear(&mut self) {
        for state in [&mut self.m, &mut self.y, &mut self.c, &mut self.u] {
            state.fill(0.0);
        }
    }

    /// One step of equations 1 to 3; writes the potential before the reset.
    #[inline(always)]
    fn advance(
        &mut self,
        neuron: &Neuron,
        current: &[f32],
        threshold: &[f32],
        potential: &mut [f32],
        rises: Option<&mut Rises<'_>>,
    ) {
        let n = potential.len();
        let [km, ks, kg] = neuron.keep;
        let (m, y, c, before) =
            (&mut self.m[..n], &mut self.y[..n], &mut self.c[..n], &mut self.u[..n]);
        let (current, threshold) = (&current[..n], &threshold[..n]);
        if let Some(Rises { weight, time }) = rises {
            let (weight, time) = (&mut weight[..n], &mut time[..n]);
            let is_original = neuron.kernel == TimeKernel::Original;
            for i in 0..n {
                c[i] = kg * (c[i] + current[i]);
                m[i] = km * (m[i] + current[i]);
                y[i] = ks * (y[i] + current[i]);
                let u = if neuron.leaky { neuron.gain * (m[i] - y[i]) } else { before[i] + c[i] };
                weight[i] = if neuron.leaky { u - before[i] } else { c[i] };
                time[i] = if is_original { weight[i] } else { c[i] };
                potential[i] = u;
                let fires = u >= threshold[i];
                m[i] = if fires { 0.0 } else { m[i] };
                y[i] = if fires { 0.0 } else { y[i] };
                c[i] = if fires { 0.0 } else { c[i] };
                before[i] = if fires { 0.0 } else { u };
            }
        } else if neuron.leaky {
            // Neither Δ nor c are needed.
            for i in 0..n {
                m[i] = km * (m[i] + current[i]);
                y[i] = ks * (y[i] + current[i]);
                let u = neuron.gain * (m[i] - y[i]);
                potential[i] = u;
                let fires = u >= threshold[i];
                m[i] = if fires { 0.0 } else { m[i] };
                y[i] = if fires { 0.0 } else { y[i] };
            }
        } else {
            for i in 0..n {
                c[i] = kg * (c[i] + current[i]);
                let u = before[i] + c[i];
                potential[i] = u;
                let fires = u >= threshold[i];
                c[i] = if fires { 0.0 } else { c[i] };
                before[i] = if fires { 0.0 } else { u };
            }
        }
    }
}

dispatch! {
    fn fire(of: Images<'_>, neuron: &Neuron, threshold: &[f32], shard: Shard<'_, u64>) = fire_body;
}

#[inline(always)]
fn fire_body(of: Images<'_>, neuron: &Neuron, threshold: &[f32], mut shard: Shard<'_, u64>) {
    let row = of.row();
    let mut scan = Scan::new(row);
    let mut u = vec![0.0; row];
    for (n, steps) in shard.samples.iter_mut().enumerate() {
        for y in 0..of.shape.height {
            scan.clear();
            for (t, words) in steps.iter_mut().enumerate() {
                let current = &of.at(t, shard.first + n)[y * row..][..row];
                scan.advance(neuron, current, threshold, &mut u, None);
                u.iter_mut().zip(threshold).for_each(|(u, v)| *u -= v);
                let of_row = words.len() / of.shape.height;
                pack(&u, &mut words[y * of_row..][..of_row], |above| above >= 0.0);
            }
        }
    }
}

dispatch! {
    fn write_rises(of: Images<'_>, neuron: &Neuron, threshold: &[f32], weight: Shard<'_, f32>, time: Shard<'_, f32>) = write_rises_body;
}

#[inline(always)]
fn write_rises_body(
    of: Images<'_>,
    neuron: &Neuron,
    threshold: &[f32],
    mut weight: Shard<'_, f32>,
    mut time: Shard<'_, f32>,
) {
    let (row, first) = (of.row(), weight.first);
    let (mut scan, mut u) = (Scan::new(row), vec![0.0; row]);
    let samples = weight.samples.iter_mut().zip(&mut time.samples).enumerate();
    for (n, (weights, times)) in samples {
        for y in 0..of.shape.height {
            let at = y * row..(y + 1) * row;
            scan.clear();
            for (t, (weight, time)) in weights.iter_mut().zip(times.iter_mut()).enumerate() {
                let current = &of.at(t, first + n)[at.clone()];
                let mut rises =
                    Rises { weight: &mut weight[at.clone()], time: &mut time[at.clone()] };
                scan.advance(neuron, current, threshold, &mut u, Some(&mut rises));
            }
        }
    }
}

dispatch! {
    fn back(
        of: Images<'_>,
        neuron: &Neuron,
        threshold: &[f32],
        spikes: &Spikes,
        e: Shard<'_, f32>,
        to_weights: Shard<'_, f32>,
        wants_times: bool,
    ) -> f64 = back_body;
}

#[inline(always)]
fn back_body(
    of: Images<'_>,
    neuron: &Neuron,
    threshold: &[f32],
    spikes: &Spikes,
    mut e: Shard<'_, f32>,
    mut to_weights: Shard<'_, f32>,
    wants_times: bool,
) -> f64 {
    let (row, first, len) = (of.row(), e.first, of.shape.len());
    let (mut scan, mut u) = (Scan::new(row), vec![0.0; row]);
    let [mut weight, mut time] = [vec![0.0; of.n_steps * row], vec![0.0; of.n_steps * row]];
    let mut fired = vec![0.0; of.n_steps * len];
    let mut latched = Latched::new(row);
    let mut total = 0.0;
    let samples = e.samples.iter_mut().zip(&mut to_weights.samples).enumerate();
    for (n, (e, to_weights)) in samples {
        for (t, fired) in fired.chunks_exact_mut(len).enumerate() {
            let image = t * of.n_samples + first + n;
            spikes.images(image..image + 1).write_dense(fired);
        }
        for y in 0..of.shape.height {
            let at = y * row..(y + 1) * row;
            scan.clear();
            for t in 0..of.n_steps {
                let steps = t * row..(t + 1) * row;
                let mut rises =
                    Rises { weight: &mut weight[steps.clone()], time: &mut time[steps] };
                let current = &of.at(t, first + n)[at.clone()];
                scan.advance(neuron, current, threshold, &mut u, Some(&mut rises));
            }
            latched.clear();
            for t in (0..of.n_steps).rev() {
                let fired = &fired[t * len..][at.clone()];
                total += f64::from(sum_where(fired, &e[t][at.clone()]));
                let (e, rise) = (&mut e[t][at.clone()], &weight[t * row..][..row]);
                latched.step_weights(neuron, fired, rise, e, &mut to_weights[t][at.clone()]);
                if wants_times {
                    latched.step_times(neuron, fired, &time[t * row..][..row], e);
                }
            }
        }
    }
    total
}

/// Sum of the `values` of neurons that fired, in [`LANES`] sums side by side.
#[inline(always)]
fn sum_where(fired: &[f32], values: &[f32]) -> f32 {
    let (fired, few_fired) = fired.as_chunks::<LANES>();
    let (values, few_values) = values.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (fired, values) in fired.iter().zip(values) {
        for l in 0..LANES {
            sums[l] += fired[l] * values[l];
        }
    }
    let rest = few_fired.iter().zip(few_values).map(|(f, v)| f * v);
    sums.into_iter().chain(rest).sum()
}

/// What the last output spike, seen backward, gives to the inputs before it: its factors times the
/// powers κ_m^k and κ_s^k for weights, and κ_g^k or κ_m^k and κ_s^k for times.
struct Latched {
    weight: [Vec<f32>; 2],
    time: [Vec<f32>; 2],
}

impl Latched {
    fn new(n: usize) -> Self {
        let zeros = || [vec![0.0; n], vec![0.0; n]];
        Self { weight: zeros(), time: zeros() }
    }

    #[inline(always)]
    fn clear(&mut self) {
        self.weight.iter_mut().chain(&mut self.time).for_each(|power| power.fill(0.0));
    }

    /// One step backward: the factor for weights.
    #[inline(always)]
    fn step_weights(
        &mut self,
        neuron: &Neuron,
        fired: &[f32],
        rise: &[f32],
        e: &[f32],
        to_weights: &mut [f32],
    ) {
        let n = e.len();
        let [km, ks, _] = neuron.keep;
        let (fired, rise, to_weights) = (&fired[..n], &rise[..n], &mut to_weights[..n]);
        let [a, b] = &mut self.weight;
        let (a, b) = (&mut a[..n], &mut b[..n]);
        for i in 0..n {
            let new = e[i] * (-1.0 / rise[i]).clamp(-WEIGHT_CLIP, 0.0);
            let fires = fired[i] != 0.0;
            a[i] = km * if fires { new } else { a[i] };
            b[i] = ks * if fires { new } else { b[i] };
            to_weights[i] = neuron.gain * (a[i] - b[i]);
        }
    }

    /// The same step: `e` becomes the factor for times.
    #[inline(always)]
    fn step_times(&mut self, neuron: &Neuron, fired: &[f32], time_rise: &[f32], e: &mut [f32]) {
        let n = e.len();
        let [km, ks, kg] = neuron.keep;
        let (fired, time_rise) = (&fired[..n], &time_rise[..n]);
        let [c, d] = &mut self.time;
        let (c, d) = (&mut c[..n], &mut d[..n]);
        let clip = neuron.time_clip;
        match neuron.kernel {
            TimeKernel::Exponential => {
                for i in 0..n {
                    let new = e[i] * (-1.0 / time_rise[i]).clamp(-clip, 0.0);
                    c[i] = kg * if fired[i] != 0.0 { new } else { c[i] };
                    e[i] = -c[i];
                }
            }
            TimeKernel::Original => {
                let [of_membrane, of_synapse] = neuron.fall;
                for i in 0..n {
                    let new = e[i] * (-1.0 / time_rise[i]).clamp(-clip, 0.0);
                    let fires = fired[i] != 0.0;
                    c[i] = km * if fires { new } else { c[i] };
                    d[i] = ks * if fires { new } else { d[i] };
                    e[i] = of_membrane * c[i] - of_synapse * d[i];
                }
            }
        }
    }
}
