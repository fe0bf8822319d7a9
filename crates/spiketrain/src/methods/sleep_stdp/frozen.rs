//! The network with its weights frozen: test images, and what the readout makes of them.

use super::neurons::Neurons;
use super::plasticity::{self, Activity};
use super::readout;
use super::{Records, Scratch, SleepStdp, mean_rates, run_length};
use crate::learner::{Measure, Prediction};
use crate::spikes::Images;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;

/// What the frozen network did with one image.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// Spikes of each neuron.
    counts: Vec<u32>,
    n_input_spikes: u64,
    n_synops: u64,
}

impl Shown {
    fn new(n_neurons: usize) -> Self {
        Self { counts: vec![0; n_neurons], n_input_spikes: 0, n_synops: 0 }
    }
}

impl SleepStdp {
    /// Shows `rows` to the frozen network one after another, from rest. The spikes of the k-th
    /// come from the stream `purpose`, `first_index + k`.
    fn show(&self, images: &Images, rows: &[usize], purpose: &str, first_index: u64) -> Vec<Shown> {
        let n_inputs = self.synapses.n_inputs;
        let mut shown = Vec::with_capacity(rows.len());
        let mut of_image = Shown::new(self.synapses.n_neurons);
        self.watch(images, rows, purpose, first_index, |t, spiked| {
            for &p in spiked {
                of_image.n_synops += self.synapses.row(usize::from(p)).len() as u64;
                match usize::from(p).checked_sub(n_inputs) {
                    Some(i) => of_image.counts[i] += 1,
                    None => of_image.n_input_spikes += 1,
                }
            }
            if t + 1 == self.params.n_steps {
                let next = Shown::new(self.synapses.n_neurons);
                shown.push(std::mem::replace(&mut of_image, next));
            }
        });
        shown
    }

    /// Runs the frozen network as [`SleepStdp::show`] does and tells for every step of every image
    /// who spiked.
    fn watch(
        &self,
        images: &Images,
        rows: &[usize],
        purpose: &str,
        first_index: u64,
        mut each: impl FnMut(usize, &[u16]),
    ) {
        let (n_inputs, n_neurons) = (self.synapses.n_inputs, self.synapses.n_neurons);
        let mut neurons = Neurons::at_rest(n_neurons);
        let mut activity = Activity::silent(self.synapses.n_pre(), false);
        let mut scratch = Scratch::new(n_inputs, n_neurons);
        for (k, &row) in rows.iter().enumerate() {
            let mut stream = self.seed.stream(purpose, first_index + k as u64);
            self.draw(images, row, &mut scratch, &mut stream);
            let Scratch { input, noise, train, .. } = &mut scratch;
            for t in 0..self.params.n_steps {
                input.fill(0.0);
                plasticity::add_rows(&self.synapses, &activity.before, input);
                neurons.step(self.simd, input, noise, false);
                activity.collect(train.step(t), &neurons.spiked, n_inputs);
                each(t, &activity.now);
                activity.advance();
            }
        }
    }

    /// Step and neuron of each spike of the frozen network while image `row` is shown from rest.
    pub(super) fn spikes(&self, images: &Images, row: usize) -> Vec<(u32, u16)> {
        let mut spikes = Vec::new();
        self.watch(images, &[row], "sleep-stdp.test-input", row as u64, |t, spiked| {
            let neurons =
                spiked.iter().filter_map(|p| p.checked_sub(self.synapses.n_inputs as u16));
            spikes.extend(neurons.map(|i| (t as u32, i)));
        });
        spikes
    }

    /// Rows `[first, end)` that are shown before `row` and with it: its block of `reset_every`
    /// images up to the end of its run of equal labels.
    fn run_of(&self, row: usize, labels: &[u16], n: usize) -> (usize, Range<usize>) {
        let first = row / self.params.reset_every * self.params.reset_every;
        let end = (first + self.params.reset_every).min(n);
        if !self.params.merge_equal_labels || labels.len() < n {
            return (first, row..row + 1);
        }
        let same = |r: &usize| labels[*r] == labels[row];
        let start = (first..row).rev().take_while(same).last().unwrap_or(row);
        (first, start..row + run_length(&labels[row..end]))
    }

    /// The prediction for image `at` of a `block` that was shown, in its `run`.
    fn prediction(
        &self,
        block: &[Shown],
        at: usize,
        run: Range<usize>,
        label: Option<u16>,
    ) -> Prediction {
        let (n_neurons, n_steps) = (self.synapses.n_neurons, self.params.n_steps);
        let is_first = at == run.start;
        let counts: Vec<u32> = block[run].iter().flat_map(|s| s.counts.iter().copied()).collect();
        let rates = mean_rates(&counts, n_neurons, n_steps);
        let shown = &block[at];
        let n_spikes: u64 = shown.counts.iter().map(|&c| u64::from(c)).sum();
        let scores = self.readout.as_ref().map(|r| r.scores(&rates));
        let class = scores.as_ref().map(|s| readout::best(s));
        let measure = |name: &'static str, sum: f64| Measure { name, sum, count: 1 };
        let mut measures = vec![
            measure("network_spikes_per_step", n_spikes as f64 / n_steps as f64),
            measure("silent_fraction", f64::from(u8::from(n_spikes == 0))),
        ];
        let is_right = |class: u16| label.map(|l| f64::from(u8::from(class == l)));
        if self.params.merge_equal_labels && is_first {
            let right = class.and_then(is_right);
            measures.extend(right.map(|right| measure("merged_accuracy", right)));
        }
        let frozen = self.frozen_readout.as_ref().map(|r| readout::best(&r.scores(&rates)));
        let right = frozen.and_then(is_right);
        measures.extend(right.map(|right| measure("frozen_readout_accuracy", right)));
        Prediction {
            class,
            scores: scores.unwrap_or_default().into_iter().map(|s| s as f32).collect(),
            n_spikes: n_spikes + shown.n_input_spikes,
            n_synops: shown.n_synops,
            measures,
            ..Prediction::default()
        }
    }

    /// Predictions for `rows` of a split: each block of `reset_every` images is shown once.
    pub(super) fn predictions(
        &self,
        images: &Images,
        rows: &[usize],
        labels: &[u16],
    ) -> Vec<Prediction> {
        let runs: Vec<(usize, Range<usize>)> =
            rows.iter().map(|&r| self.run_of(r, labels, images.len())).collect();
        let mut ends: BTreeMap<usize, usize> = BTreeMap::new();
        for (first, run) in &runs {
            let end = ends.entry(*first).or_default();
            *end = (*end).max(run.end);
        }
        let blocks: BTreeMap<usize, Vec<Shown>> = ends
            .into_par_iter()
            .map(|(first, end)| {
                let rows: Vec<usize> = (first..end).collect();
                (first, self.show(images, &rows, "sleep-stdp.test-input", first as u64))
            })
            .collect();
        let predict = |(&row, (first, run)): (&usize, (usize, Range<usize>))| {
            let label = labels.get(row).copied();
            self.prediction(&blocks[&first], row - first, run.start - first..run.end - first, label)
        };
        rows.iter().zip(runs).map(predict).collect()
    }

    /// Rates of the recorded images with the weights as they are now, shown from rest every
    /// `reset_every` images.
    pub(super) fn frozen_records(&self, images: &Images) -> Records {
        let n = self.params.reset_every;
        let rows: Vec<usize> = self.records.rows.iter().map(|&r| r as usize).collect();
        let blocks: Vec<Vec<Shown>> = rows
            .par_chunks(n)
            .enumerate()
            .map(|(b, rows)| self.show(images, rows, "sleep-stdp.readout-input", (b * n) as u64))
            .collect();
        let counts = blocks.iter().flatten().flat_map(|s| s.counts.iter().copied()).collect();
        Records { counts, labels: self.records.labels.clone(), rows: self.records.rows.clone() }
    }
}
