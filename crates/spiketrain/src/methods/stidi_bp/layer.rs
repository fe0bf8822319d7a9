//! One layer: weights, and what the layer does with one sample.

use super::network::{Kind, Size};
use super::params::{Displacement, Latency, Params};
use crate::seed::Stream;
use crate::simd::Line;
use crate::times::stepped::pool::{NO_ORIGIN, earliest};
use crate::times::stepped::{
    Event, History, Psp, Rows, Sign, Slope, Spread, first_spikes, learn_rows, sort_events,
};
use rayon::prelude::*;

/// Least lines of weights that are worth a thread of their own when means are taken.
const LINES_PER_THREAD: usize = 4096;

/// A layer's weights and settings.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) size: Size,
    pub(super) rows: Rows,
    pub(super) threshold: f64,
    /// What a binary weight of 1 stands for; 1 for real weights.
    pub(super) factor: f64,
    pub(super) learning_rate: f64,
    /// What weight decay will leave of the weights at the end of the step; 1 between steps.
    pub(super) kept: f64,
}

/// One sample in one layer. Maps are `[row, column, channel]`, times in steps.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace {
    /// Times of the layer's inputs.
    pub(super) input: Vec<f32>,
    /// Events of every window, one after another; one window for a fully connected layer.
    events: Vec<Event>,
    /// First event of every window, and the end of the last.
    starts: Vec<usize>,
    /// Spike times, `[window, lane]`.
    pub(super) times: Vec<f32>,
    /// Window each output's spike came from.
    origins: Vec<u32>,
    /// Timing errors of the outputs, after pooling.
    pub(super) errors: Vec<f32>,
    /// Errors times the linearised latency, `[window, lane]`.
    gains: Vec<f32>,
    /// Displacements of the layer's inputs.
    pub(super) displacement: Vec<f32>,
    /// What a learned factor is to grow by, before its learning rate.
    pub(super) factor_change: f64,
    sums: Vec<f32>,
    offsets: Vec<u32>,
    history: History,
}

impl Layer {
    /// The weights as `[neuron, input]`, inputs counted channels, rows, columns.
    pub(super) fn weights(&self) -> Vec<f32> {
        let Layer { rows, size, .. } = self;
        let row = |n| (0..rows.n_inputs()).map(move |i| rows.weight(n, size.row(i)));
        (0..rows.n_neurons()).flat_map(row).collect()
    }

    /// Replaces what [`Layer::weights`] gave.
    ///
    /// # Panics
    ///
    /// If the weights do not fill the shape.
    pub(super) fn set_weights(&mut self, weights: &[f32]) {
        let Layer { rows, size, .. } = self;
        let mut ordered = vec![0.0; weights.len()];
        let n_inputs = rows.n_inputs();
        for (from, to) in weights.chunks(n_inputs).zip(ordered.chunks_mut(n_inputs)) {
            from.iter().enumerate().for_each(|(i, &w)| to[size.row(i)] = w);
        }
        rows.set_weights(&ordered);
    }

    /// Moves the weights and the factor by `share` of the way to those of `other`, a layer of the
    /// same size.
    pub(super) fn follow(&mut self, other: &Layer, share: f64) {
        self.factor += share * (other.factor - self.factor);
        let share = share as f32;
        let lines = self.rows.real.par_iter_mut().zip(&other.rows.real);
        lines.with_min_len(LINES_PER_THREAD).for_each(|(mean, line)| {
            mean.0.iter_mut().zip(line.0).for_each(|(m, w)| *m += share * (w - *m));
        });
        self.rows.pack();
    }

    /// The threshold that the sums of the forward pass are compared with.
    fn limit(&self) -> f32 {
        (self.threshold / self.factor) as f32
    }

    /// From `trace.input` to `trace.times` and, pooled, to `output`. With `dropout`, a rate q and
    /// its random numbers, each input spike is left out with probability q and the threshold is
    /// multiplied by 1 − q, as if the spikes that stay were 1/(1 − q) times as strong.
    pub(super) fn forward(
        &self,
        p: &Params,
        dropout: Option<(f64, &mut Stream)>,
        trace: &mut Trace,
        output: &mut Vec<f32>,
    ) {
        let mut limit = self.limit();
        if let Some((rate, stream)) = dropout.filter(|d| d.0 > 0.0) {
            let silent = f32::from(p.n_steps);
            for t in trace.input.iter_mut().filter(|t| **t < silent) {
                if stream.chance(rate as f32) {
                    *t = silent;
                }
            }
            limit *= (1.0 - rate) as f32;
        }
        let psp = Psp { rise: p.rise, fall: p.fall };
        self.gather(p.n_steps, trace);
        let lanes = self.rows.n_lanes();
        let n_windows = trace.starts.len() - 1;
        trace.times.resize(n_windows * lanes, 0.0);
        for (w, times) in trace.times.chunks_exact_mut(lanes).enumerate() {
            let events = &trace.events[trace.starts[w]..trace.starts[w + 1]];
            first_spikes(&self.rows, psp, p.n_steps, limit, events, &mut trace.history, times);
        }
        let n = self.size.neurons;
        output.resize(self.size.output.len(), 0.0);
        match self.size.kind {
            Kind::Dense => output.copy_from_slice(&trace.times[..n.channels]),
            Kind::Conv { pool, .. } => {
                trace.origins.resize(output.len(), 0);
                let shape = (n.height, n.width, n.channels, lanes);
                let silent = f32::from(p.n_steps);
                earliest(&trace.times, shape, pool, silent, output, &mut trace.origins);
            }
        }
    }

    /// Sorts the input spikes by time and deals them out to the windows they fall into.
    fn gather(&self, n_steps: u16, trace: &mut Trace) {
        let Trace { input, events, starts, offsets, .. } = trace;
        starts.clear();
        let Kind::Conv { kernel, .. } = self.size.kind else {
            sort_events(input, n_steps, offsets, events);
            starts.extend([0, events.len()]);
            return;
        };
        let (map, out) = (self.size.input, self.size.neurons);
        let silent = f32::from(n_steps);
        let mut window = Vec::with_capacity(self.size.fan_in());
        let mut sorted = Vec::new();
        events.clear();
        for y in 0..out.height {
            for x in 0..out.width {
                starts.push(events.len());
                window.clear();
                for row in y..y + kernel {
                    let first = (row * map.width + x) * map.channels;
                    window.extend_from_slice(&input[first..first + kernel * map.channels]);
                }
                if window.iter().any(|&t| t < silent) {
                    sort_events(&window, n_steps, offsets, &mut sorted);
                    events.extend_from_slice(&sorted);
                }
            }
        }
        starts.push(events.len());
    }

    /// Time of output `i`, after pooling; `silent` if it did not fire.
    pub(super) fn output_time(&self, trace: &Trace, i: usize, silent: f32) -> f32 {
        match self.size.kind {
            Kind::Dense => trace.times[i],
            Kind::Conv { .. } => match trace.origins[i] {
                NO_ORIGIN => silent,
                origin => trace.times[self.place(origin, i)],
            },
        }
    }

    /// Place among `trace.times` of the neuron that output `i` of a convolution came from.
    fn place(&self, origin: u32, i: usize) -> usize {
        origin as usize * self.rows.n_lanes() + i % self.size.output.channels
    }

    /// From `trace.errors` to `errors` of all neurons, before pooling, `[window, lane]`.
    fn spread_errors(&self, trace: &Trace, errors: &mut Vec<f32>) {
        errors.clear();
        errors.resize(trace.times.len(), 0.0);
        match self.size.kind {
            Kind::Dense => errors[..trace.errors.len()].copy_from_slice(&trace.errors),
            Kind::Conv { .. } => {
                for (i, (&e, &origin)) in trace.errors.iter().zip(&trace.origins).enumerate() {
                    if origin != NO_ORIGIN {
                        errors[self.place(origin, i)] = e;
                    }
                }
            }
        }
    }

    /// From `trace.errors` to the gains of all neurons, before pooling.
    pub(super) fn set_gains(&self, p: &Params, trace: &mut Trace) {
        let lanes = self.rows.n_lanes();
        let mut gains = std::mem::take(&mut trace.gains);
        self.spread_errors(trace, &mut gains);
        trace.gains = gains;
        if p.latency == Latency::Const {
            return;
        }
        let psp = Psp { rise: p.rise, fall: p.fall };
        let mut slopes = vec![0.0; lanes];
        for (w, gains) in trace.gains.chunks_exact_mut(lanes).enumerate() {
            let events = &trace.events[trace.starts[w]..trace.starts[w + 1]];
            let times = &trace.times[w * lanes..(w + 1) * lanes];
            self.rows.slopes(psp, p.n_steps, events, Slope { times, slopes: &mut slopes });
            for (gain, &s) in gains.iter_mut().zip(&slopes) {
                *gain /= (s * self.factor as f32).max(p.slope_min as f32);
            }
        }
    }

    /// What the layer's inputs should have done: fills `trace.displacement`.
    pub(super) fn displace(&self, p: &Params, trace: &mut Trace) {
        let psp = Psp { rise: p.rise, fall: p.fall };
        trace.displacement.clear();
        trace.displacement.resize(trace.input.len(), 0.0);
        let lanes = self.rows.n_lanes();
        // With displacement by weight the errors count as they are, without the latency's slope.
        let mut plain = Vec::new();
        let errors = if p.displacement == Displacement::Weight && p.latency == Latency::Slope {
            self.spread_errors(trace, &mut plain);
            &plain
        } else {
            &trace.gains
        };
        let spread = match p.displacement {
            Displacement::Weight => Spread::Causal,
            Displacement::Linear => Spread::Slope,
        };
        let (map, out) = (self.size.input, self.size.neurons);
        for w in 0..trace.starts.len() - 1 {
            let events = &trace.events[trace.starts[w]..trace.starts[w + 1]];
            let errors = &errors[w * lanes..(w + 1) * lanes];
            if events.is_empty() || errors.iter().all(|&e| e == 0.0) {
                continue;
            }
            let times = &trace.times[w * lanes..(w + 1) * lanes];
            trace.sums.resize(events.len(), 0.0);
            let sums = &mut trace.sums[..events.len()];
            self.rows.displacements((spread, Sign::Real), psp, events, times, errors, sums);
            for (event, &sum) in events.iter().zip(&*sums) {
                let row = usize::from(event.row);
                let place = match self.size.kind {
                    Kind::Dense => row,
                    Kind::Conv { kernel, .. } => {
                        let width = kernel * map.channels;
                        let (dy, rest) = (row / width, row % width);
                        let (y, x) = (w / out.width, w % out.width);
                        ((y + dy) * map.width + x) * map.channels + rest
                    }
                };
                trace.displacement[place] += sum;
            }
        }
    }

    /// Multiplies the gains by the learning rate.
    pub(super) fn apply_rate(&self, trace: &mut Trace, rate: f64) {
        let eta = (self.learning_rate * rate) as f32;
        trace.gains.iter_mut().for_each(|g| *g *= eta);
    }

    /// Adds the sample's weight changes to `rows`, the rows from `first` on of a fully connected
    /// layer's weights.
    pub(super) fn learn_part(&self, p: &Params, trace: &Trace, first: usize, rows: &mut [Line]) {
        let psp = Psp { rise: p.rise, fall: p.fall };
        let silent = f32::from(p.n_steps);
        let n_rows = rows.len() / self.rows.n_blocks;
        for (row, &t) in trace.input[first..first + n_rows].iter().enumerate() {
            if t < silent {
                let event = [Event { row: row as u16, time: t as u16 }];
                let (simd, n_blocks) = (self.rows.simd, self.rows.n_blocks);
                learn_rows(simd, n_blocks, rows, psp, &event, &trace.times, &trace.gains);
            }
        }
    }

    /// Adds the sample's weight changes, window by window, to `rows`, which has the layout of the
    /// layer's weights.
    pub(super) fn learn_windows(&self, p: &Params, trace: &Trace, rows: &mut [Line]) {
        let psp = Psp { rise: p.rise, fall: p.fall };
        let lanes = self.rows.n_lanes();
        for w in 0..trace.starts.len() - 1 {
            let events = &trace.events[trace.starts[w]..trace.starts[w + 1]];
            let gains = &trace.gains[w * lanes..(w + 1) * lanes];
            if events.is_empty() || gains.iter().all(|&g| g == 0.0) {
                continue;
            }
            let times = &trace.times[w * lanes..(w + 1) * lanes];
            let (simd, n_blocks) = (self.rows.simd, self.rows.n_blocks);
            learn_rows(simd, n_blocks, rows, psp, events, times, gains);
        }
    }

    /// Mean over the synapses of `e_j [t_i < t_j] sign(w_ji)`: what a learned factor grows by. Of a
    /// convolution the synapses are those of its kernels, and positions are summed, as they are in
    /// the change of a weight.
    pub(super) fn set_factor_change(&self, p: &Params, trace: &mut Trace) {
        let psp = Psp { rise: p.rise, fall: p.fall };
        let kind = (Spread::Causal, Sign::Signs);
        let lanes = self.rows.n_lanes();
        let (mut all, mut sums) = (Vec::new(), Vec::new());
        self.spread_errors(trace, &mut all);
        let mut sum = 0.0;
        for (w, errors) in all.chunks_exact(lanes).enumerate() {
            let events = &trace.events[trace.starts[w]..trace.starts[w + 1]];
            if events.is_empty() || errors.iter().all(|&e| e == 0.0) {
                continue;
            }
            let times = &trace.times[w * lanes..(w + 1) * lanes];
            sums.resize(events.len(), 0.0);
            self.rows.displacements(kind, psp, events, times, errors, &mut sums);
            sum += sums.iter().map(|&s| f64::from(s)).sum::<f64>();
        }
        trace.factor_change = sum / (self.rows.n_inputs() * self.rows.n_neurons()) as f64;
    }

    /// Potential of output neuron `n` of a fully connected layer at step `t`.
    pub(super) fn potential(&self, p: &Params, trace: &Trace, n: usize, t: u16) -> f64 {
        let psp = Psp { rise: p.rise, fall: p.fall };
        let weight = |row| self.rows.forward_weight(n, row);
        crate::times::stepped::potential(psp, &trace.events, weight, t)
    }

    /// Input events of all windows up to step `last`.
    pub(super) fn events_until(&self, trace: &Trace, last: f32) -> usize {
        trace.events.iter().filter(|e| f32::from(e.time) <= last).count()
    }
}
