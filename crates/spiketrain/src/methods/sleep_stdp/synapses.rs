//! Who is connected to whom, and how strongly.

use super::params::Params;
use crate::error::{Error, Result};
use crate::seed::Seed;
use crate::state::State;
use std::ops::Range;

/// All synapses, in rows of one presynaptic neuron each.
///
/// Presynaptic neurons are counted inputs, excitatory, inhibitory; postsynaptic neurons
/// excitatory, inhibitory. Weights are magnitudes; a synapse of an inhibitory neuron counts
/// negatively. The excitatory synapses come first.
#[derive(Clone, Debug)]
pub(super) struct Synapses {
    /// Number of inputs.
    pub(super) n_inputs: usize,
    /// Number of excitatory and inhibitory neurons.
    pub(super) n_neurons: usize,
    /// First synapse of each presynaptic neuron, and the end.
    rows: Vec<usize>,
    /// Postsynaptic neuron of each synapse.
    pub(super) posts: Vec<u16>,
    /// Magnitude of each synapse.
    pub(super) weights: Vec<f64>,
    /// First entry of each postsynaptic neuron in `incoming`, and the end.
    columns: Vec<usize>,
    /// Synapse and presynaptic neuron, sorted by postsynaptic neuron.
    incoming: Vec<(u32, u16)>,
    /// Number of excitatory synapses.
    pub(super) n_excitatory: usize,
    /// What normalisation goes back to.
    initial: Totals,
}

/// Who is connected to whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wiring<'a> {
    rows: &'a [usize],
    posts: &'a [u16],
    columns: &'a [usize],
    incoming: &'a [(u32, u16)],
}

impl Wiring<'_> {
    /// Synapses of presynaptic neuron `pre` and the neurons they reach.
    #[inline(always)]
    pub(super) fn row(&self, pre: usize) -> (Range<usize>, &[u16]) {
        let row = self.rows[pre]..self.rows[pre + 1];
        (row.clone(), &self.posts[row])
    }

    /// Synapses onto neuron `post`, each with its presynaptic neuron.
    #[inline(always)]
    pub(super) fn column(&self, post: usize) -> &[(u32, u16)] {
        &self.incoming[self.columns[post]..self.columns[post + 1]]
    }
}

/// Sums of magnitudes.
#[derive(Clone, Debug, PartialEq)]
struct Totals {
    /// Over all excitatory and over all inhibitory synapses.
    layer: [f64; 2],
    /// The same for each postsynaptic neuron.
    neurons: Vec<[f64; 2]>,
}

impl Synapses {
    /// A random network for `n_inputs` inputs.
    ///
    /// # Errors
    ///
    /// If there are more than 65,536 inputs and neurons.
    pub(super) fn new(params: &Params, n_inputs: usize, seed: Seed) -> Result<Self> {
        let (n_e, n_neurons) = (params.n_excitatory, params.n_neurons());
        if n_inputs + n_neurons > 1 << 16 {
            return Err(Error::recipe(format!(
                "{n_inputs} inputs and {n_neurons} neurons: sleep-stdp takes at most 65,536 together"
            )));
        }
        let mut stream = seed.stream("sleep-stdp.connections", 0);
        let mut draw = |p: f32| stream.chance(p);
        let mut rows = vec![0];
        let (mut posts, mut weights) = (Vec::new(), Vec::new());
        let mut has_reverse = vec![false; n_e * params.n_inhibitory];
        for pre in 0..n_inputs + n_e {
            let source = pre.checked_sub(n_inputs);
            let (p, w) = match source {
                None => (params.density_input, params.weight_input),
                Some(_) => (params.density_ee, params.weight_ee),
            };
            for post in (0..n_e).filter(|&post| source != Some(post)) {
                if draw(p) {
                    posts.push(post as u16);
                    weights.push(w);
                }
            }
            for post in source.map_or(0..0, |_| n_e..n_neurons) {
                if draw(params.density_ei) {
                    posts.push(post as u16);
                    weights.push(params.weight_ei);
                    has_reverse[(post - n_e) * n_e + source.expect("not an input")] = true;
                }
            }
            rows.push(posts.len());
        }
        let n_excitatory = posts.len();
        for reverse in has_reverse.chunks_exact(n_e) {
            for (post, &taken) in reverse.iter().enumerate() {
                if draw(params.density_ie) && !taken {
                    posts.push(post as u16);
                    weights.push(params.weight_ie);
                }
            }
            rows.push(posts.len());
        }
        Ok(Self::from_rows(n_inputs, n_neurons, rows, posts, weights, n_excitatory))
    }

    /// Synapses given row by row, of which the first `n_excitatory` are excitatory.
    fn from_rows(
        n_inputs: usize,
        n_neurons: usize,
        rows: Vec<usize>,
        posts: Vec<u16>,
        weights: Vec<f64>,
        n_excitatory: usize,
    ) -> Self {
        let mut order: Vec<(u16, u32, u16)> = Vec::with_capacity(posts.len());
        for (pre, row) in rows.windows(2).enumerate() {
            order.extend((row[0]..row[1]).map(|s| (posts[s], s as u32, pre as u16)));
        }
        order.sort_unstable();
        let mut columns = vec![0; n_neurons + 1];
        order.iter().for_each(|&(post, ..)| columns[usize::from(post) + 1] += 1);
        (0..n_neurons).for_each(|i| columns[i + 1] += columns[i]);
        let incoming = order.into_iter().map(|(_, s, pre)| (s, pre)).collect();
        let initial = Totals { layer: [0.0; 2], neurons: Vec::new() };
        let mut synapses = Self {
            n_inputs,
            n_neurons,
            rows,
            posts,
            weights,
            columns,
            incoming,
            n_excitatory,
            initial,
        };
        let neurons = (0..n_neurons).map(|i| synapses.neuron_totals(i)).collect();
        synapses.initial = Totals { layer: synapses.totals(), neurons };
        synapses
    }

    /// Given synapses `(presynaptic, postsynaptic, magnitude)`, ascending, for tests of the rules.
    #[cfg(test)]
    pub(super) fn given(
        n_inputs: usize,
        n_e: usize,
        n_i: usize,
        list: &[(usize, u16, f64)],
    ) -> Self {
        assert!(list.is_sorted_by_key(|s| (s.0, s.1)));
        let n_pre = n_inputs + n_e + n_i;
        let rows = (0..=n_pre).map(|p| list.partition_point(|s| s.0 < p)).collect();
        let n_excitatory = list.partition_point(|s| s.0 < n_inputs + n_e);
        let posts = list.iter().map(|s| s.1).collect();
        let weights = list.iter().map(|s| s.2).collect();
        Self::from_rows(n_inputs, n_e + n_i, rows, posts, weights, n_excitatory)
    }

    /// Number of presynaptic neurons.
    pub(super) fn n_pre(&self) -> usize {
        self.rows.len() - 1
    }

    /// Synapses of presynaptic neuron `pre`.
    #[inline(always)]
    pub(super) fn row(&self, pre: usize) -> Range<usize> {
        self.rows[pre]..self.rows[pre + 1]
    }

    /// Synapses onto neuron `post`, each with its presynaptic neuron.
    #[inline(always)]
    pub(super) fn column(&self, post: usize) -> &[(u32, u16)] {
        &self.incoming[self.columns[post]..self.columns[post + 1]]
    }

    /// The magnitudes, to change them, and beside them who is connected.
    #[inline(always)]
    pub(super) fn split(&mut self) -> (&mut [f64], Wiring<'_>) {
        let Self { weights, rows, posts, columns, incoming, .. } = self;
        (weights, Wiring { rows, posts, columns, incoming })
    }

    /// True if `synapse` is inhibitory.
    #[inline(always)]
    pub(super) fn is_inhibitory(&self, synapse: usize) -> bool {
        synapse >= self.n_excitatory
    }

    /// Total magnitude of the excitatory and of the inhibitory synapses.
    pub(super) fn totals(&self) -> [f64; 2] {
        let (excitatory, inhibitory) = self.weights.split_at(self.n_excitatory);
        [sum(excitatory), sum(inhibitory)]
    }

    /// The totals at the start.
    pub(super) fn initial_totals(&self) -> [f64; 2] {
        self.initial.layer
    }

    /// Totals over the initial totals; 1 where there are no synapses.
    pub(super) fn growth(&self) -> [f64; 2] {
        let (now, then) = (self.totals(), self.initial.layer);
        [0, 1].map(|k| if then[k] > 0.0 { now[k] / then[k] } else { 1.0 })
    }

    fn neuron_totals(&self, post: usize) -> [f64; 2] {
        let mut sums = [0.0; 2];
        for &(s, _) in self.column(post) {
            sums[usize::from(self.is_inhibitory(s as usize))] += self.weights[s as usize];
        }
        sums
    }

    /// Scales the excitatory and the inhibitory weights to their initial totals, then clips.
    pub(super) fn normalise_layer(&mut self, min: f64, max: f64) {
        let factors = self.growth().map(|g| if g > 0.0 { 1.0 / g } else { 1.0 });
        let (excitatory, inhibitory) = self.weights.split_at_mut(self.n_excitatory);
        for (weights, factor) in [excitatory, inhibitory].into_iter().zip(factors) {
            weights.iter_mut().for_each(|w| *w = (*w * factor).clamp(min, max));
        }
    }

    /// Scales the excitatory and the inhibitory weights onto each neuron to their initial totals,
    /// then clips.
    pub(super) fn scale_neurons(&mut self, min: f64, max: f64) {
        for post in 0..self.n_neurons {
            let (now, then) = (self.neuron_totals(post), self.initial.neurons[post]);
            let factors = [0, 1].map(|k| if now[k] > 0.0 { then[k] / now[k] } else { 1.0 });
            for i in self.columns[post]..self.columns[post + 1] {
                let s = self.incoming[i].0 as usize;
                let factor = factors[usize::from(self.is_inhibitory(s))];
                self.weights[s] = (self.weights[s] * factor).clamp(min, max);
            }
        }
    }

    /// Presynaptic neuron of each synapse.
    fn pres(&self) -> Vec<u32> {
        let of_row = |pre: usize| std::iter::repeat_n(pre as u32, self.row(pre).len());
        (0..self.n_pre()).flat_map(of_row).collect()
    }

    /// `pre`, `post` and signed `weight` of each synapse.
    pub(super) fn state(&self) -> State {
        let n = self.weights.len();
        let sign = |s: usize| if self.is_inhibitory(s) { -1.0 } else { 1.0 };
        let signed: Vec<f64> = (0..n).map(|s| sign(s) * self.weights[s]).collect();
        let posts: Vec<u32> = self.posts.iter().map(|&p| u32::from(p)).collect();
        let mut state = State::new();
        state.put("pre", &[n], self.pres());
        state.put("post", &[n], posts);
        state.put("weight", &[n], signed);
        state
    }

    /// Puts back the weights of the same network.
    ///
    /// # Errors
    ///
    /// If the state is that of another network.
    pub(super) fn restore(&mut self, state: &State) -> Result<()> {
        let n = self.weights.len();
        let posts = self.posts.iter().map(|&p| u32::from(p));
        let same = state.get::<u32>("pre", &[n])?.iter().copied().eq(self.pres())
            && state.get::<u32>("post", &[n])?.iter().copied().eq(posts);
        if !same {
            return Err(Error::checkpoint("the synapses are those of another seed's network"));
        }
        self.weights = state.get::<f64>("weight", &[n])?.iter().map(|w| w.abs()).collect();
        Ok(())
    }
}

/// Sum in eight interleaved parts, in fixed order.
fn sum(values: &[f64]) -> f64 {
    let mut parts = [0.0; 8];
    for chunk in values.chunks(8) {
        parts.iter_mut().zip(chunk).for_each(|(p, x)| *p += x);
    }
    parts.iter().sum()
}
