//! What happened over time: weights and their totals around every episode, and the counts of an
//! epoch.

use super::synapses::Synapses;
use crate::error::Result;
use crate::learner::Metrics;
use crate::state::State;

/// Bins of the weight histograms, ten a decade.
pub(super) const N_BINS: usize = 50;
/// Logarithm to base 10 of the lower edge of the first bin.
pub(super) const LOG_FROM: f64 = -3.0;

/// Snapshots of the weights, at every interval before and after whatever regularises them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct History {
    /// Steps since the beginning, real and virtual.
    pub(super) times: Vec<u64>,
    /// True if the steps since the last snapshot were asleep.
    pub(super) asleep: Vec<bool>,
    /// Images seen.
    pub(super) images: Vec<u64>,
    /// Growth of the excitatory and the inhibitory total.
    pub(super) growth: Vec<[f64; 2]>,
    /// Counts of the excitatory weights, `[snapshot, bin]`.
    pub(super) counts: Vec<u32>,
}

impl History {
    pub(super) fn record(&mut self, synapses: &Synapses, time: u64, n_images: u64, asleep: bool) {
        self.times.push(time);
        self.images.push(n_images);
        self.asleep.push(asleep);
        self.growth.push(synapses.growth());
        let mut counts = [0u32; N_BINS];
        for &w in &synapses.weights[..synapses.n_excitatory] {
            let bin = (libm::log10(w.max(1e-9)) - LOG_FROM) * 10.0;
            counts[bin.clamp(0.0, (N_BINS - 1) as f64) as usize] += 1;
        }
        self.counts.extend(counts);
    }

    /// Number of snapshots.
    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    pub(super) fn state(&self) -> State {
        let n = self.len();
        let mut state = State::new();
        state.put("time", &[n], self.times.clone());
        state.put("images", &[n], self.images.clone());
        let asleep: Vec<u8> = self.asleep.iter().map(|&a| u8::from(a)).collect();
        state.put("asleep", &[n], asleep);
        state.put("growth", &[n, 2], self.growth.as_flattened().to_vec());
        state.put("counts", &[n, N_BINS], self.counts.clone());
        state
    }

    pub(super) fn restored(state: &State) -> Result<Self> {
        let n = state.array("time")?.values.len();
        let growth = state.get::<f64>("growth", &[n, 2])?;
        Ok(Self {
            times: state.get("time", &[n])?.to_vec(),
            images: state.get("images", &[n])?.to_vec(),
            asleep: state.get::<u8>("asleep", &[n])?.iter().map(|&a| a != 0).collect(),
            growth: growth.chunks_exact(2).map(|g| [g[0], g[1]]).collect(),
            counts: state.get("counts", &[n, N_BINS])?.to_vec(),
        })
    }
}

/// Counts since the epoch began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Real steps.
    pub(super) steps: u64,
    /// Spikes of excitatory and inhibitory neurons in them.
    pub(super) spikes: u64,
    /// Virtual steps.
    pub(super) sleep_steps: u64,
    /// Spikes of excitatory and inhibitory neurons in them.
    pub(super) sleep_spikes: u64,
    /// Images.
    pub(super) images: u64,
    /// Images during which no excitatory or inhibitory neuron spiked.
    pub(super) silent: u64,
}

impl Tally {
    pub(super) fn metrics(&self) -> Metrics {
        let mut metrics = Metrics::new();
        let mut ratio = |name: &str, a: u64, b: u64| {
            if b > 0 {
                metrics.insert(name.to_owned(), a as f64 / b as f64);
            }
        };
        ratio("network_spikes_per_step", self.spikes, self.steps);
        ratio("sleep_spikes_per_step", self.sleep_spikes, self.sleep_steps);
        ratio("silent_fraction", self.silent, self.images);
        metrics
    }

    pub(super) fn values(&self) -> Vec<u64> {
        let t = self;
        vec![t.steps, t.spikes, t.sleep_steps, t.sleep_spikes, t.images, t.silent]
    }

    pub(super) fn from_values(v: &[u64]) -> Self {
        Self {
            steps: v[0],
            spikes: v[1],
            sleep_steps: v[2],
            sleep_spikes: v[3],
            images: v[4],
            silent: v[5],
        }
    }
}
