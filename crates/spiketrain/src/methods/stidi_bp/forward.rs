//! What a network of given weights makes of one sample.

use super::layer::{Layer, Trace};
use super::network::Map;
use super::{Params, Sample, Variation};
use crate::learner::{Measure, Prediction};
use crate::spikes::{Events, Shape};

/// Layers and how to run them: those in training, or the means of their weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network<'a> {
    pub(super) params: &'a Params,
    /// Shape of the samples.
    pub(super) shape: Shape,
    pub(super) layers: &'a [Layer],
}

impl Network<'_> {
    /// Forward pass of one sample, decision included (equation 1).
    pub(super) fn forward(self, events: Events<'_>, variation: &Variation, sample: &mut Sample) {
        let p = self.params;
        sample.traces.resize_with(self.layers.len(), Trace::default);
        self.code(events, variation, &mut sample.traces[0].input);
        let mut stream = variation.dropout.clone();
        for (l, layer) in self.layers.iter().enumerate() {
            let (below, above) = sample.traces.split_at_mut(l + 1);
            let output = match above.first_mut() {
                Some(next) => &mut next.input,
                None => &mut sample.outputs,
            };
            below[l].errors.clear();
            let dropout = stream.as_mut().map(|s| (p.dropout.get(l), s));
            layer.forward(p, dropout, &mut below[l], output);
        }
        sample.decision = self.decide(sample);
    }

    /// Steps `⌊t (T − 1) + 1/512⌋` of the input spikes, in the order of the first map. Of bytes
    /// coded over the whole window `t (T − 1)` is a multiple of 1/255 but for rounding, so that
    /// this is `⌊t (T − 1)⌋`; other times count from 1/512 of a step before it on.
    fn code(self, events: Events<'_>, variation: &Variation, input: &mut Vec<f32>) {
        let Shape { channels, height, width } = self.shape;
        let map = Map { height, width, channels };
        input.clear();
        input.resize(map.len(), f32::from(self.params.n_steps));
        let last = f32::from(self.params.n_steps - 1);
        for (i, t) in events.iter().filter(|&(_, t)| t < 1.0) {
            let (channel, row, column) = (i / (height * width), i / width % height, i % width);
            let column = if variation.mirror { width - 1 - column } else { column };
            let (y, x) = (row as isize + variation.down, column as isize + variation.right);
            if (0..height as isize).contains(&y) && (0..width as isize).contains(&x) {
                let place = (y as usize * width + x as usize) * channels + channel;
                input[place] = (t * last + 1.0 / 512.0).floor();
            }
        }
    }

    /// The first output spike; ties go to the larger potential, silence to the largest ever.
    fn decide(self, sample: &Sample) -> usize {
        let (outputs, n_steps) = (&sample.outputs, self.params.n_steps);
        let earliest = outputs.iter().copied().fold(f32::from(n_steps), f32::min);
        let tied: Vec<usize> = (0..outputs.len()).filter(|&k| outputs[k] == earliest).collect();
        if tied.len() == 1 {
            return tied[0];
        }
        let (layer, trace) = (&self.layers[self.layers.len() - 1], &sample.traces);
        let trace = &trace[trace.len() - 1];
        let at = |k: usize, t: u16| layer.potential(self.params, trace, k, t);
        let potential = |&k: &usize| match earliest < f32::from(n_steps) {
            true => at(k, earliest as u16),
            false => (1..n_steps).map(|t| at(k, t)).fold(f64::NEG_INFINITY, f64::max),
        };
        let values: Vec<f64> = tied.iter().map(potential).collect();
        let best = (0..tied.len()).reduce(|a, b| if values[b] > values[a] { b } else { a });
        tied[best.expect("there are classes")]
    }

    /// The answer to one sample and what it took.
    pub(super) fn prediction(
        self,
        events: Events<'_>,
        label: Option<u16>,
        sample: &mut Sample,
    ) -> Prediction {
        self.forward(events, &Variation::default(), sample);
        let n_steps = f32::from(self.params.n_steps);
        let generous = label.map(|label| {
            let (label, first) = (usize::from(label), sample.outputs[sample.decision]);
            let is_among = first < n_steps && sample.outputs.get(label) == Some(&first);
            let sum = f64::from(u8::from(is_among || label == sample.decision));
            Measure { name: "tie_generous_accuracy", sum, count: 1 }
        });
        let decision = sample.outputs[sample.decision];
        let before =
            |times: &[f32]| times.iter().filter(|&&t| t <= decision && t < n_steps).count();
        // Minus the spike time; of several with the same time the decision is above the others.
        let mut scores: Vec<f32> = sample.outputs.iter().map(|t| -t / n_steps).collect();
        for (k, score) in scores.iter_mut().enumerate() {
            if k != sample.decision {
                *score = score.next_down();
            }
        }
        let inputs = sample.traces.iter().map(|t| before(&t.input)).sum::<usize>();
        let synops = |(layer, trace): (&Layer, &Trace)| {
            layer.events_until(trace, decision) * layer.size.neurons.channels
        };
        Prediction {
            class: Some(sample.decision as u16),
            scores,
            n_spikes: (inputs + before(&sample.outputs)) as u64,
            n_synops: self.layers.iter().zip(&sample.traces).map(synops).sum::<usize>() as u64,
            decision_time: Some(decision / n_steps),
            measures: generous.into_iter().collect(),
            ..Prediction::default()
        }
    }
}
