//! Nearest-neighbour pair STDP from the ages of spikes.
//!
//! Two ways to do the same update: by events, which visits the synapses of spiking neurons only,
//! and by a sweep over all rows, which is faster when most neurons spike.

use super::params::Params;
use super::synapses::{Synapses, Wiring};
use crate::simd::{Simd, dispatch};
use crate::times::homeostasis::{contract, contract_all};

/// Ages are counted up to here.
const OLDEST: u8 = u8::MAX;
/// From this age on a spike is forgotten.
const FORGOTTEN: usize = 201;

/// Who spiked when. Neurons are counted inputs, excitatory, inhibitory.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Activity {
    /// Steps since the last spike, `[neuron]`; 255 is long ago or never.
    pub(super) ages: Vec<u8>,
    /// Neurons that spiked in the last step, ascending.
    pub(super) before: Vec<u16>,
    /// Neurons that spike in this step, ascending.
    pub(super) now: Vec<u16>,
}

impl Activity {
    /// Silence. The neurons count as having just spiked if `ages_start_at_zero`.
    pub(super) fn silent(n: usize, ages_start_at_zero: bool) -> Self {
        let age = if ages_start_at_zero { 0 } else { OLDEST };
        Self { ages: vec![age; n], before: Vec::new(), now: Vec::new() }
    }

    /// Fills `now` with `inputs` and the neurons that `spiked`.
    #[inline]
    pub(super) fn collect(&mut self, inputs: &[u16], spiked: &[f64], n_inputs: usize) {
        self.now.clear();
        self.now.extend_from_slice(inputs);
        for (i, &s) in spiked.iter().enumerate() {
            if s > 0.0 {
                self.now.push((n_inputs + i) as u16);
            }
        }
    }

    /// All ages grow by a step; who spikes now has age 0.
    #[inline]
    pub(super) fn grow_older(&mut self) {
        self.ages.iter_mut().for_each(|a| *a = a.saturating_add(1));
        self.now.iter().for_each(|&j| self.ages[usize::from(j)] = 0);
    }

    /// This step becomes the last one.
    #[inline]
    pub(super) fn advance(&mut self) {
        std::mem::swap(&mut self.before, &mut self.now);
    }
}

/// Downscaling that is applied to a synapse when it is next needed.
#[derive(Clone, Debug)]
pub(super) struct Decay {
    /// Steps of downscaling that each synapse has had.
    applied: Vec<u32>,
    /// Steps that every synapse should have had by now.
    due: u32,
    /// True if every synapse has had `due` steps.
    is_settled: bool,
    /// λᵏ for k = 0, 1, …
    powers: Vec<f64>,
    /// w* of excitatory and inhibitory synapses.
    targets: [f64; 2],
    n_excitatory: usize,
    simd: Simd,
}

impl Decay {
    /// For an episode of at most as many steps as there are `powers` after the zeroth.
    pub(super) fn new(
        synapses: &Synapses,
        powers: Vec<f64>,
        targets: [f64; 2],
        simd: Simd,
    ) -> Self {
        let n_excitatory = synapses.n_excitatory;
        let applied = vec![0; synapses.weights.len()];
        Self { applied, due: 0, is_settled: true, powers, targets, n_excitatory, simd }
    }

    /// The beginning of an episode.
    pub(super) fn start(&mut self) {
        self.applied.fill(0);
        (self.due, self.is_settled) = (0, true);
    }

    /// One more step is due everywhere.
    pub(super) fn step(&mut self) {
        self.due += 1;
        self.is_settled = false;
    }

    /// Brings all synapses up to date.
    pub(super) fn settle(&mut self, synapses: &mut Synapses) {
        if self.is_settled {
            return;
        }
        if self.applied.iter().all(|&a| a + 1 == self.due) {
            let (excitatory, inhibitory) = synapses.weights.split_at_mut(self.n_excitatory);
            contract_all(self.simd, excitatory, self.targets[0], self.powers[1]);
            contract_all(self.simd, inhibitory, self.targets[1], self.powers[1]);
            self.applied.fill(self.due);
        } else {
            for (s, w) in synapses.weights.iter_mut().enumerate() {
                *w = self.current(s, *w);
            }
        }
        self.is_settled = true;
    }
}

/// How a weight is brought up to date before it is used.
trait Upkeep {
    /// Synapse `s`, whose weight was `w` when it was last used, as it is now.
    fn current(&mut self, s: usize, w: f64) -> f64;
}

impl Upkeep for Decay {
    #[inline(always)]
    fn current(&mut self, s: usize, w: f64) -> f64 {
        let missing = self.due - self.applied[s];
        if missing == 0 {
            return w;
        }
        self.applied[s] = self.due;
        let target = self.targets[usize::from(s >= self.n_excitatory)];
        contract(w, target, self.powers[missing as usize])
    }
}

/// Weights that are always up to date.
struct Settled;

impl Upkeep for Settled {
    #[inline(always)]
    fn current(&mut self, _: usize, w: f64) -> f64 {
        w
    }
}

/// Adds the synaptic input of the neurons that spiked `before`, `Σ_j w_ij z_j`, to `input`.
pub(super) fn drive(
    synapses: &mut Synapses,
    before: &[u16],
    decay: Option<&mut Decay>,
    input: &mut [f64],
) {
    if let Some(decay) = decay.filter(|d| !d.is_settled) {
        for &pre in before {
            for s in synapses.row(usize::from(pre)) {
                synapses.weights[s] = decay.current(s, synapses.weights[s]);
            }
        }
    }
    add_rows(synapses, before, input);
}

/// [`drive`] for weights that are up to date.
#[inline]
pub(super) fn add_rows(synapses: &Synapses, before: &[u16], input: &mut [f64]) {
    for &pre in before {
        let row = synapses.row(usize::from(pre));
        let (posts, weights) = (&synapses.posts[row.clone()], &synapses.weights[row.clone()]);
        if synapses.is_inhibitory(row.start) {
            for (&i, w) in posts.iter().zip(weights) {
                input[usize::from(i)] -= w;
            }
        } else {
            for (&i, w) in posts.iter().zip(weights) {
                input[usize::from(i)] += w;
            }
        }
    }
}

/// The rule, with its exponentials tabulated by age.
#[derive(Clone, Debug)]
pub(super) struct Stdp {
    /// `A₊ exp(−age/τ₊)`.
    plus: [f64; 256],
    /// `A₋ exp(−age/τ₋)`.
    minus: [f64; 256],
    /// Published program: change by 255 + age of post − age of pre.
    by_order: Box<[f64; 511]>,
    /// Rate η of each neuron's outgoing synapses, `[neuron]`.
    rates: Vec<f64>,
    bounds: [f64; 2],
    inverted: bool,
    late_gate: bool,
    /// 1 for neurons that spiked in the step that gates, `[neuron]`; 0 between updates.
    gated: Vec<u8>,
    /// What a synapse of each neuron gains from a postsynaptic spike now, `[neuron]`.
    gains: Vec<f64>,
    simd: Simd,
}

impl Stdp {
    /// The rule of `params` for a network.
    pub(super) fn new(params: &Params, synapses: &Synapses, simd: Simd) -> Self {
        let table = |amplitude: f64, tau: f64| {
            let value = |age: usize| amplitude * libm::exp(-(age as f64) / tau);
            std::array::from_fn(|age| if age < FORGOTTEN { value(age) } else { 0.0 })
        };
        let plus: [f64; 256] = table(params.a_plus, params.tau_plus);
        let minus: [f64; 256] = table(params.a_minus, params.tau_minus);
        let order = |k: usize| if k >= 255 { plus[k - 255] } else { -minus[255 - k] };
        let n = synapses.n_pre();
        let n_excitatory = n - params.n_inhibitory;
        let rate = |j: usize| {
            let excitatory = j < n_excitatory;
            if excitatory {
                params.learning_rate_excitatory
            } else {
                params.learning_rate_inhibitory
            }
        };
        Self {
            by_order: Box::new(std::array::from_fn(order)),
            plus,
            minus,
            rates: (0..n).map(rate).collect(),
            bounds: [params.weight_min, params.weight_max],
            inverted: params.inverted_stdp,
            late_gate: params.late_gate,
            gated: vec![0; n],
            gains: vec![0.0; n],
            simd,
        }
    }

    fn gate<'a>(&self, activity: &'a Activity) -> &'a [u16] {
        if self.late_gate { &activity.before } else { &activity.now }
    }

    fn mark(&mut self, gate: &[u16], as_gated: u8) {
        gate.iter().for_each(|&p| self.gated[usize::from(p)] = as_gated);
    }

    /// One step of plasticity, by events or by a sweep, whichever visits less.
    pub(super) fn update(
        &mut self,
        synapses: &mut Synapses,
        activity: &Activity,
        decay: Option<&mut Decay>,
    ) {
        let gate = self.gate(activity);
        if gate.is_empty() {
            return;
        }
        let n_inputs = synapses.n_inputs;
        let n_visits = |&p: &u16| {
            let p = usize::from(p);
            let n_in = p.checked_sub(n_inputs).map_or(0, |post| synapses.column(post).len());
            synapses.row(p).len() + n_in
        };
        let n_visits: usize = gate.iter().map(n_visits).sum();
        self.mark(gate, 1);
        if n_visits >= synapses.weights.len() {
            decay.into_iter().for_each(|d| d.settle(synapses));
            self.by_sweep(synapses, &activity.ages);
        } else {
            match decay.filter(|d| !d.is_settled) {
                Some(decay) => self.by_events(synapses, activity, decay),
                None => self.by_events(synapses, activity, &mut Settled),
            }
        }
        self.mark(gate, 0);
    }

    #[inline(always)]
    fn clip(&self, w: f64) -> f64 {
        clip(w, self.bounds[0], self.bounds[1])
    }

    /// The published program's change: Δ = age of post − age of pre; a gain from 0 on.
    #[inline(always)]
    fn ordered(&self, age_pre: u8, age_post: u8) -> f64 {
        self.by_order[255 + usize::from(age_post) - usize::from(age_pre)]
    }

    /// Visits the synapses of the neurons that spiked.
    fn by_events(
        &mut self,
        synapses: &mut Synapses,
        activity: &Activity,
        upkeep: &mut impl Upkeep,
    ) {
        let (n_inputs, gate) = (synapses.n_inputs, self.gate(activity));
        let first_post = gate.partition_point(|&p| usize::from(p) < n_inputs);
        let (weights, wiring) = synapses.split();
        let ages = activity.ages.as_slice();
        for &pre in gate {
            self.after_pre_spike(weights, wiring, ages, n_inputs, usize::from(pre), upkeep);
        }
        if first_post == gate.len() {
            return;
        }
        if !self.inverted {
            let gains = self.gains.iter_mut().zip(&self.rates).zip(ages);
            gains.for_each(|((g, rate), &age)| *g = rate * self.plus[usize::from(age)]);
        }
        for &post in &gate[first_post..] {
            let post = usize::from(post);
            if self.inverted {
                let gains = self.gains.iter_mut().zip(&self.rates).zip(ages);
                let by_order = &self.by_order[..];
                let base = 255 + usize::from(ages[post]);
                gains.for_each(|((g, rate), &age)| *g = rate * by_order[base - usize::from(age)]);
            }
            for &(s, pre) in wiring.column(post - n_inputs) {
                let w = &mut weights[s as usize];
                let gain = self.gains[usize::from(pre)];
                *w = self.clip(upkeep.current(s as usize, *w) + gain);
            }
        }
    }

    /// Changes the synapses of `pre`, which spiked, onto neurons that did not. A synapse both of
    /// whose neurons spiked is left to the postsynaptic spike.
    #[inline(always)]
    fn after_pre_spike(
        &self,
        weights: &mut [f64],
        wiring: Wiring<'_>,
        ages: &[u8],
        n_inputs: usize,
        pre: usize,
        upkeep: &mut impl Upkeep,
    ) {
        let (row, posts) = wiring.row(pre);
        let (gated, post_ages) = (&self.gated[n_inputs..], &ages[n_inputs..]);
        let (first, rate) = (row.start, self.rates[pre]);
        for (k, (w, &post)) in weights[row].iter_mut().zip(posts).enumerate() {
            let post = usize::from(post);
            if gated[post] == 0 {
                let change = self.at_pre(ages[pre], post_ages[post]);
                *w = self.clip(upkeep.current(first + k, *w) + rate * change);
            }
        }
    }

    /// Change per unit rate of a synapse, as the presynaptic spike sees it.
    #[inline(always)]
    fn at_pre(&self, age_pre: u8, age_post: u8) -> f64 {
        if self.inverted {
            self.ordered(age_pre, age_post)
        } else {
            -self.minus[usize::from(age_post)]
        }
    }

    /// Change per unit rate of a synapse, as the postsynaptic spike sees it.
    #[inline(always)]
    fn at_post(&self, age_pre: u8, age_post: u8) -> f64 {
        if self.inverted {
            self.ordered(age_pre, age_post)
        } else {
            self.plus[usize::from(age_pre)]
        }
    }

    /// Visits all synapses.
    fn by_sweep(&self, synapses: &mut Synapses, ages: &[u8]) {
        let n_inputs = synapses.n_inputs;
        let n_pre = synapses.n_pre();
        let (gated, post_ages) = (&self.gated[n_inputs..], &ages[n_inputs..]);
        let is_uniform = gated.iter().all(|&g| g == 1)
            && (!self.inverted || post_ages.iter().all(|&a| a == post_ages[0]));
        let (weights, wiring) = synapses.split();
        for pre in 0..n_pre {
            let (row, posts) = wiring.row(pre);
            let weights = &mut weights[row];
            let rate = self.rates[pre];
            if is_uniform {
                let change = rate * self.at_post(ages[pre], post_ages[0]);
                if change != 0.0 {
                    add_and_clip(self.simd, weights, change, self.bounds[0], self.bounds[1]);
                }
                continue;
            }
            let pre_is_gated = self.gated[pre] == 1;
            for (w, &post) in weights.iter_mut().zip(posts) {
                let post = usize::from(post);
                let at_post = rate * self.at_post(ages[pre], post_ages[post]);
                let at_pre = rate * self.at_pre(ages[pre], post_ages[post]);
                let otherwise = if pre_is_gated { at_pre } else { 0.0 };
                *w = self.clip(*w + if gated[post] == 1 { at_post } else { otherwise });
            }
        }
    }

    /// Both ways of the same update, for the test that they agree.
    #[cfg(test)]
    pub(super) fn both_ways(&mut self, synapses: &Synapses, activity: &Activity) -> [Synapses; 2] {
        self.mark(self.gate(activity), 1);
        let (mut events, mut sweep) = (synapses.clone(), synapses.clone());
        self.by_events(&mut events, activity, &mut Settled);
        self.by_sweep(&mut sweep, &activity.ages);
        self.gated.fill(0);
        [events, sweep]
    }
}

dispatch! {
    fn add_and_clip(weights: &mut [f64], change: f64, low: f64, high: f64) = add_and_clip_loop;
}

#[inline(always)]
fn add_and_clip_loop(weights: &mut [f64], change: f64, low: f64, high: f64) {
    for w in weights {
        *w = clip(*w + change, low, high);
    }
}

/// As `clamp`, but a plain selection that compiles to vector instructions.
#[inline(always)]
fn clip(w: f64, low: f64, high: f64) -> f64 {
    let w = if w > low { w } else { low };
    if w < high { w } else { high }
}
