//! Learning from a mini-batch: forward passes, targets, displacements and updates.

use super::network::Kind;
use super::{ErrorScale, Sample, StidiBp, Trace, Variation, Weights, targets};
use crate::error::{Error, Result};
use crate::simd::{LANES, Line};
use crate::spikes::Events;
use crate::times::stepped::decay;
use rayon::prelude::*;

/// Parts a mini-batch is cut into, whatever the number of threads; their sums are added in order.
const N_SHARDS: usize = 8;

/// Rows of weights of a fully connected layer that are updated together.
const ROWS_PER_PART: usize = 16;

/// Least rows times samples that are worth a thread of their own.
const ROWS_PER_THREAD: usize = 4096;

impl StidiBp {
    /// Forward passes, targets, and layer by layer displacement and update.
    pub(super) fn mini_batch(
        &mut self,
        items: &[(Events<'_>, usize)],
        variations: &[Variation],
        rate: f64,
    ) -> Result<()> {
        let n_classes = self.layers[self.layers.len() - 1].size.output.channels;
        if let Some((_, label)) = items.iter().find(|(_, label)| *label >= n_classes) {
            let last = n_classes - 1;
            return Err(Error::data(format!("label {label}, expected 0 to {last}")));
        }
        let mut samples = std::mem::take(&mut self.samples);
        samples.resize_with(samples.len().max(items.len()), Sample::default);
        let batch = &mut samples[..items.len()];
        let network = self.training();
        let work = batch.par_iter_mut().zip(items).zip(variations);
        work.for_each(|((sample, &(events, label)), variation)| {
            network.forward(events, variation, sample);
            self.output_errors(sample, label);
        });
        let n_steps = self.params.n_steps;
        batch.iter().for_each(|sample| self.activity.count(&self.layers, sample, n_steps));
        for l in (0..self.layers.len()).rev() {
            self.learn_layer(l, batch, rate);
        }
        self.n_seen += batch.len() as u64;
        self.n_learned += batch.iter().filter(|s| s.norm > 0.0).count() as u64;
        self.samples = samples;
        Ok(())
    }

    /// Equation 2.
    fn output_errors(&self, sample: &mut Sample, label: usize) {
        let p = &self.params;
        sample.desired.resize(sample.outputs.len(), 0.0);
        let (times, desired) = (&sample.outputs, &mut sample.desired);
        targets::desired_times(p.target, p.n_steps, p.margin, times, label, desired);
        let mut errors = vec![0.0; times.len()];
        sample.norm = targets::timing_errors(p.n_steps, times, desired, &mut errors);
        sample.is_live = sample.norm > 0.0;
        sample.scale = match p.error_scale {
            ErrorScale::Unit => 1.0,
            ErrorScale::Output => {
                (sample.norm * f64::from(p.n_steps) / f64::from(p.margin)).min(1.0)
            }
        };
        if sample.is_live {
            let factor = sample.scale / sample.norm;
            let trace = sample.traces.last_mut().expect("an output layer");
            trace.errors.extend(errors.iter().map(|e| (e * factor) as f32));
        }
    }

    /// Equations 3 and 4 for layer `l` and all samples of a mini-batch.
    fn learn_layer(&mut self, l: usize, batch: &mut [Sample], rate: f64) {
        let p = &self.params;
        let layer = &self.layers[l];
        batch.par_iter_mut().filter(|s| s.is_live).for_each(|sample| {
            let trace = &mut sample.traces[l];
            layer.set_gains(p, trace);
            if l > 0 && !p.displacement_uses_updated_weights {
                layer.displace(p, trace);
            }
            if p.learns_factors() && !p.displacement_uses_updated_weights {
                layer.set_factor_change(p, trace);
            }
            layer.apply_rate(trace, rate);
        });
        let mut real = std::mem::take(&mut self.layers[l].rows.real);
        let layer = &self.layers[l];
        let live = || batch.iter().filter(|s| s.is_live).map(|s| &s.traces[l]);
        if layer.size.kind == Kind::Dense {
            let traces: Vec<&Trace> = live().collect();
            let least = ROWS_PER_THREAD / ROWS_PER_PART / traces.len().max(1);
            let parts = real.par_chunks_mut(ROWS_PER_PART * layer.rows.n_blocks).enumerate();
            parts.with_min_len(least.max(1)).for_each(|(part, rows)| {
                traces.iter().for_each(|t| layer.learn_part(p, t, part * ROWS_PER_PART, rows));
            });
        } else {
            let per_shard = batch.len().div_ceil(N_SHARDS);
            let n_shards = batch.len().div_ceil(per_shard);
            self.changes.resize(self.changes.len().max(n_shards), Vec::new());
            let shards = batch.par_chunks(per_shard).zip(&mut self.changes);
            shards.for_each(|(shard, change)| {
                change.clear();
                change.resize(real.len(), Line([0.0; LANES]));
                let live = shard.iter().filter(|s| s.is_live);
                live.for_each(|s| layer.learn_windows(p, &s.traces[l], change));
            });
            for change in &self.changes[..n_shards] {
                for (line, c) in real.iter_mut().zip(change) {
                    line.0.iter_mut().zip(&c.0).for_each(|(w, c)| *w += c);
                }
            }
        }
        let decay = layer.learning_rate * rate * p.l2.get(l) * live().count() as f64;
        let layer = &mut self.layers[l];
        layer.rows.real = real;
        layer.kept *= (1.0 - decay).max(0.0);
        match (p.weights, layer.size.kind) {
            (Weights::Real, _) => {}
            (Weights::Binary, Kind::Conv { .. }) => layer.rows.pack(),
            (Weights::Binary, Kind::Dense) => {
                // Only the weights of inputs that fired have changed.
                let silent = f32::from(p.n_steps);
                for input in 0..layer.rows.n_inputs() {
                    let fired = |s: &Sample| s.is_live && s.traces[l].input[input] < silent;
                    if batch.iter().any(fired) {
                        layer.rows.pack_rows(input..input + 1);
                    }
                }
            }
        }
        self.pass_down(l, batch);
    }

    /// Makes up for the weight decay of the samples since the last call.
    pub(super) fn decay(&mut self) {
        for layer in self.layers.iter_mut().filter(|l| l.kept < 1.0) {
            let kept = std::mem::replace(&mut layer.kept, 1.0) as f32;
            let parts = layer.rows.real.par_chunks_mut(ROWS_PER_PART * layer.rows.n_blocks);
            parts.for_each(|rows| decay(rows, kept));
            layer.rows.pack();
        }
    }

    /// Displacements after the update, if they are wanted so; the factor; errors of layer `l − 1`.
    fn pass_down(&mut self, l: usize, batch: &mut [Sample]) {
        let p = &self.params;
        let layer = &self.layers[l];
        if p.learns_factors() {
            if p.displacement_uses_updated_weights {
                let live = batch.par_iter_mut().filter(|s| s.is_live);
                live.for_each(|s| layer.set_factor_change(p, &mut s.traces[l]));
            }
            let changes = batch.iter().filter(|s| s.is_live).map(|s| s.traces[l].factor_change);
            let change = p.factor_learning_rate * changes.sum::<f64>();
            self.layers[l].factor = (self.layers[l].factor + change).max(f64::MIN_POSITIVE);
        }
        if l == 0 {
            return;
        }
        let layer = &self.layers[l];
        batch.par_iter_mut().filter(|s| s.is_live).for_each(|sample| {
            let (below, above) = sample.traces.split_at_mut(l);
            let (below, trace) = (&mut below[l - 1], &mut above[0]);
            if p.displacement_uses_updated_weights {
                layer.set_gains(p, trace);
                layer.displace(p, trace);
            }
            let d = &mut trace.displacement;
            centre(d, p.centring);
            let norm = d.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            sample.is_live = norm > 0.0;
            if sample.is_live {
                let factor = sample.scale / norm;
                below.errors.extend(d.iter().map(|&x| (f64::from(x) * factor) as f32));
            }
        });
    }
}

/// Takes the share `centring` of their mean off all displacements but those that are 0.
fn centre(d: &mut [f32], centring: f64) {
    if centring == 0.0 {
        return;
    }
    let displaced = || d.iter().filter(|&&x| x != 0.0);
    let sum: f64 = displaced().map(|&x| f64::from(x)).sum();
    let off = (centring * sum / displaced().count().max(1) as f64) as f32;
    d.iter_mut().filter(|x| **x != 0.0).for_each(|x| *x -= off);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn centring_takes_the_mean_off_what_moves() {
        let whole = [3.0, 0.0, -1.0, 4.0, 0.0];
        let centred = |centring| {
            let mut d = whole;
            centre(&mut d, centring);
            d
        };
        assert_eq!(centred(1.0), [1.0, 0.0, -3.0, 2.0, 0.0]);
        assert_eq!(centred(0.5), [2.0, 0.0, -2.0, 3.0, 0.0]);
        assert_eq!(centred(0.0), whole);
        let mut still = [0.0; 3];
        centre(&mut still, 1.0);
        assert_eq!(still, [0.0; 3]);
    }
}
