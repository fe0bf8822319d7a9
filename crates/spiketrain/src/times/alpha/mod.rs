//! Neurons with an alpha synapse that fire at most once, in closed form.
//!
//! A spike at `t_i` adds `w_i·s·exp(−K s)`, `s = t − t_i > 0`, to the potential. Between two
//! spikes the potential is `V(t) = exp(−K t)·(A t − B)` with
//!
//! 1. `A = Σ w_i exp(K t_i)`, `B = Σ w_i t_i exp(K t_i)` over the spikes so far;
//! 2. `t* = B/A − W/K`, `W = W₀(x)`, `x = −(K θ/A)·exp(K B/A)`: the rising crossing of θ;
//! 3. `∂t*/∂w_i = −exp(K t_i)·(t* − t_i)/(A(1 + W))`,
//!    `∂t*/∂t_i = w_i exp(K t_i)·(1 − K(t* − t_i))/(A(1 + W))`,
//!    `∂t*/∂θ = exp(K t*)/(A(1 + W))`, for the spikes before t*.
//!
//! W₀ is the principal branch of Lambert's function. There is no reset and no leak besides the
//! kernel. (I. M. Comsa et al., "Temporal Coding in Spiking Neural Networks with Alpha Synaptic
//! Function: Learning with Backpropagation", 2019, arXiv 1907.13223.)
//!
//! This module holds the neuron one by one, as the equations stand; [`layer`] computes a whole
//! layer at once and is tested against it.

pub(crate) mod lanes;
pub mod layer;

/// What all neurons of a network share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neuron {
    /// Decay rate of the synaptic kernel K, 1/time.
    pub decay: f64,
    /// Threshold θ, in units of weight × time.
    pub threshold: f64,
}

/// An output spike and what its derivatives need.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spike {
    /// Time t*.
    pub time: f64,
    /// A over the causal spikes.
    pub sum_a: f64,
    /// B over the causal spikes.
    pub sum_b: f64,
    /// W₀ at the crossing, in [−1, 0).
    pub lambert_w: f64,
}

/// Principal branch W₀ of Lambert's function, the solution of `W·exp(W) = x` with `W ≥ −1`, for
/// x in [−1/e, 0]; not a number elsewhere.
///
/// Halley's iteration from the series around the branch point.
pub fn lambert_w0(x: f64) -> f64 {
    // 1/e in two parts, so that the distance from the branch point is exact.
    const INV_E: [f64; 2] = [0.367_879_441_171_442_33, -1.242_875_367_278_836_3e-17];
    let above = (x + INV_E[0]) + INV_E[1];
    if !(above >= 0.0 && x <= 0.0) {
        // The double nearest to −1/e lies below it by less than this.
        return if above >= -2e-17 && x < 0.0 { -1.0 } else { f64::NAN };
    }
    let p = libm::sqrt(2.0 * std::f64::consts::E * above);
    let mut w = -1.0 + p * (1.0 + p * (-1.0 / 3.0 + p * (11.0 / 72.0 + p * (-43.0 / 540.0))));
    if p < 1e-3 {
        return w;
    }
    for _ in 0..8 {
        let exp = libm::exp(w);
        let residual = w * exp - x;
        let step = residual / (exp * (w + 1.0) - (w + 2.0) * residual / (2.0 * w + 2.0));
        w -= step;
        if step.abs() <= 1e-16 {
            break;
        }
    }
    w
}

impl Neuron {
    /// Potential at time `t` of a neuron with `weights[i]` on a spike at `times[i]`.
    pub fn potential(&self, weights: &[f64], times: &[f64], t: f64) -> f64 {
        let psp = |(&w, &t_i): (&f64, &f64)| {
            if t_i < t { w * (t - t_i) * libm::exp(-self.decay * (t - t_i)) } else { 0.0 }
        };
        weights.iter().zip(times).map(psp).sum()
    }

    /// The first spike of a neuron with `weights[i]` on a spike at `times[i]` (infinite: silent),
    /// by visiting the spikes in order of time (equations 1 and 2). A candidate before the spike
    /// just added belongs to inputs that had not arrived and is rejected; a candidate after the
    /// next spike may yet be cancelled by it.
    pub fn first_spike(&self, weights: &[f64], times: &[f64]) -> Option<Spike> {
        let (decay, threshold) = (self.decay, self.threshold);
        let mut order: Vec<usize> = (0..times.len()).filter(|&i| times[i].is_finite()).collect();
        order.sort_by(|&a, &b| times[a].total_cmp(&times[b]));
        let (mut sum_a, mut sum_b) = (0.0, 0.0);
        let mut spike: Option<Spike> = None;
        for i in order {
            if spike.is_some_and(|s| s.time <= times[i]) {
                break;
            }
            spike = None;
            let current = weights[i] * libm::exp(decay * times[i]);
            sum_a += current;
            sum_b += current * times[i];
            if sum_a <= 0.0 {
                continue;
            }
            let centre = sum_b / sum_a;
            let w = lambert_w0(-(decay * threshold / sum_a) * libm::exp(decay * centre));
            let time = centre - w / decay;
            if time >= times[i] {
                spike = Some(Spike { time, sum_a, sum_b, lambert_w: w });
            }
        }
        spike
    }
}

impl Spike {
    /// `1/(A(1 + W))`, the inverse slope of the potential at the crossing but for `exp(−K t*)`.
    fn inverse_slope(&self) -> f64 {
        1.0 / (self.sum_a * (1.0 + self.lambert_w))
    }

    /// ∂t*/∂w of the weight on a spike at `time` (equation 3).
    pub fn by_weight(&self, neuron: Neuron, time: f64) -> f64 {
        if time >= self.time {
            return 0.0;
        }
        -libm::exp(neuron.decay * time) * (self.time - time) * self.inverse_slope()
    }

    /// ∂t*/∂t of a spike at `time` with `weight` (equation 3).
    pub fn by_input(&self, neuron: Neuron, weight: f64, time: f64) -> f64 {
        if time >= self.time {
            return 0.0;
        }
        let rise = 1.0 - neuron.decay * (self.time - time);
        weight * libm::exp(neuron.decay * time) * rise * self.inverse_slope()
    }

    /// ∂t*/∂θ (equation 3).
    pub fn by_threshold(&self, neuron: Neuron) -> f64 {
        libm::exp(neuron.decay * self.time) * self.inverse_slope()
    }
}

#[cfg(test)]
mod tests;
