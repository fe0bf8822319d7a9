//! Sums over the synapses of neurons that have fired: weight updates, what spikes of the layer
//! below should have done, and slopes of the potential.

use super::rows::signs;
use super::{Event, Psp, Rows, Sign};
use crate::simd::{Block, LANES, Line, Simd, Vector, dispatch};
use std::ops::Range;

/// How a spike of the layer below answers for the timing errors of the neurons it reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spread {
    /// `[t_i < t_j]`
    Causal,
    /// `ε′(t_j − t_i)`
    Slope,
}

/// Whole blocks of lanes.
fn blocks(lanes: &[f32]) -> &[Block] {
    let (blocks, rest) = lanes.as_chunks::<LANES>();
    assert!(rest.is_empty(), "whole blocks");
    blocks
}

impl Rows {
    /// `out[e] = Σ_j error_j w_ji f(t_j − t_i)` for the input i of every event e.
    pub(crate) fn displacements(
        &self,
        (spread, sign): (Spread, Sign),
        psp: Psp,
        events: &[Event],
        times: &[f32],
        errors: &[f32],
        out: &mut [f32],
    ) {
        let (times, errors) = (blocks(times), blocks(errors));
        assert!(times.len() == self.n_blocks && errors.len() == self.n_blocks, "a value a lane");
        assert_eq!(events.len(), out.len(), "one sum an event");
        let job = Displacement { rows: self, sign, psp, events, times, errors };
        match spread {
            Spread::Causal => causal(self.simd, job, out),
            Spread::Slope => sloped(self.simd, job, out),
        }
    }

    /// `slope_j = V_j(t_j) − V_j(t_j − 1)`, of the weights of a forward pass; 0 for neurons that
    /// are silent at `n_steps`.
    pub(crate) fn slopes(&self, psp: Psp, n_steps: u16, events: &[Event], job: Slope<'_>) {
        let Slope { times, slopes } = job;
        let times = blocks(times);
        assert!(times.len() == self.n_blocks, "a value a lane");
        slope_rows(self.simd, self, psp, events, times, slopes);
        let silent = f32::from(n_steps);
        for (slope, &t) in slopes.iter_mut().zip(times.as_flattened()) {
            *slope = if t < silent { *slope } else { 0.0 };
        }
    }

    /// Brings the packed signs up to date.
    pub(crate) fn pack(&mut self) {
        self.pack_rows(0..self.n_inputs);
    }

    /// [`Rows::pack`] of the weights of some inputs.
    pub(crate) fn pack_rows(&mut self, inputs: Range<usize>) {
        if self.bits.is_empty() {
            return;
        }
        let lines = inputs.start * self.n_blocks..inputs.end * self.n_blocks;
        signs(self.simd, &self.real[lines.clone()], &mut self.bits[lines]);
    }
}

/// Multiplies weights by `factor`. Packed signs stay as they were, see [`Rows::pack`].
pub(crate) fn decay(rows: &mut [Line], factor: f32) {
    for line in rows {
        line.0.iter_mut().for_each(|w| *w *= factor);
    }
}

/// Spike times, and where the slopes of the potential there go; one entry a lane each.
pub(crate) struct Slope<'a> {
    pub(crate) times: &'a [f32],
    pub(crate) slopes: &'a mut [f32],
}

/// `w_ji += gain_j ε(t_j − t_i)` for the inputs of `events`, whose rows are counted in `rows`;
/// `times` and `gains` have one entry a lane. Packed signs stay as they were, see [`Rows::pack`].
pub(crate) fn learn_rows(
    simd: Simd,
    n_blocks: usize,
    rows: &mut [Line],
    psp: Psp,
    events: &[Event],
    times: &[f32],
    gains: &[f32],
) {
    let (times, gains) = (blocks(times), blocks(gains));
    assert!(times.len() == n_blocks && gains.len() == n_blocks, "a value a lane");
    if psp.fall == 0 {
        learn_plateau(simd, rows, psp, events, times, gains);
    } else {
        learn_triangle(simd, rows, psp, events, times, gains);
    }
}

type Blocks<'a> = &'a [Block];

dispatch! {
    fn learn_plateau(rows: &mut [Line], psp: Psp, events: &[Event], times: Blocks<'_>, gains: Blocks<'_>) = learn_plateau_lanes::<V>;
}
dispatch! {
    fn learn_triangle(rows: &mut [Line], psp: Psp, events: &[Event], times: Blocks<'_>, gains: Blocks<'_>) = learn_triangle_lanes::<V>;
}
dispatch! {
    fn causal(job: Displacement<'_>, out: &mut [f32]) = causal_lanes::<V>;
}
dispatch! {
    fn sloped(job: Displacement<'_>, out: &mut [f32]) = sloped_lanes::<V>;
}
dispatch! {
    fn slope_rows(rows: &Rows, psp: Psp, events: &[Event], times: Blocks<'_>, slopes: &mut [f32]) = slope_lanes::<V>;
}

/// The postsynaptic potential in registers.
#[derive(Clone, Copy)]
struct Curve<V> {
    per_rise: V,
    per_fall: V,
    rise: V,
    zero: V,
    one: V,
}

impl<V: Vector> Curve<V> {
    #[inline(always)]
    fn new(psp: Psp) -> Self {
        let per_fall = if psp.fall == 0 { 0.0 } else { -1.0 / f32::from(psp.fall) };
        Self {
            per_rise: V::splat(1.0 / f32::from(psp.rise)),
            per_fall: V::splat(per_fall),
            rise: V::splat(-f32::from(psp.rise)),
            zero: V::splat(0.0),
            one: V::splat(1.0),
        }
    }

    /// ε
    #[inline(always)]
    fn at<const FALLS: bool>(self, s: V) -> V {
        let rise = s.times(self.per_rise);
        if FALLS {
            let fall = s.plus(self.rise).times(self.per_fall).plus(self.one);
            rise.at_most(fall, rise, fall).clip(self.zero, self.one)
        } else {
            rise.clip(self.zero, self.one)
        }
    }
}

#[inline(always)]
fn learn_plateau_lanes<V: Vector>(
    rows: &mut [Line],
    psp: Psp,
    events: &[Event],
    times: Blocks<'_>,
    gains: Blocks<'_>,
) {
    learn_lanes::<V, false>(rows, psp, events, times, gains);
}

#[inline(always)]
fn learn_triangle_lanes<V: Vector>(
    rows: &mut [Line],
    psp: Psp,
    events: &[Event],
    times: Blocks<'_>,
    gains: Blocks<'_>,
) {
    learn_lanes::<V, true>(rows, psp, events, times, gains);
}

#[inline(always)]
fn learn_lanes<V: Vector, const FALLS: bool>(
    rows: &mut [Line],
    psp: Psp,
    events: &[Event],
    times: Blocks<'_>,
    gains: Blocks<'_>,
) {
    let curve = Curve::<V>::new(psp);
    let n_blocks = times.len();
    for event in events {
        let start = usize::from(event.row) * n_blocks;
        let row = &mut rows[start..start + n_blocks];
        let gains = &gains[..n_blocks];
        let before = V::splat(-f32::from(event.time));
        for b in 0..n_blocks {
            let psp = curve.at::<FALLS>(V::read(&times[b]).plus(before));
            let change = V::read(&gains[b]).times(psp);
            V::read(&row[b].0).plus(change).write(&mut row[b].0);
        }
    }
}

/// What [`Rows::displacements`] works on.
#[derive(Clone, Copy)]
struct Displacement<'a> {
    rows: &'a Rows,
    sign: Sign,
    psp: Psp,
    events: &'a [Event],
    times: Blocks<'a>,
    errors: Blocks<'a>,
}

#[inline(always)]
fn causal_lanes<V: Vector>(job: Displacement<'_>, out: &mut [f32]) {
    displacement_lanes::<V, false>(job, out);
}

#[inline(always)]
fn sloped_lanes<V: Vector>(job: Displacement<'_>, out: &mut [f32]) {
    displacement_lanes::<V, true>(job, out);
}

#[inline(always)]
fn displacement_lanes<V: Vector, const SLOPED: bool>(job: Displacement<'_>, out: &mut [f32]) {
    let Displacement { rows, sign, psp, events, times, errors } = job;
    let n_blocks = rows.n_blocks;
    let (times, errors) = (&times[..n_blocks], &errors[..n_blocks]);
    let zero = V::splat(0.0);
    let rising = V::splat(1.0 / f32::from(psp.rise));
    let falling = V::splat(if psp.fall == 0 { 0.0 } else { -1.0 / f32::from(psp.fall) });
    for (event, out) in events.iter().zip(out) {
        let start = usize::from(event.row) * n_blocks;
        let t = f32::from(event.time);
        let own = V::splat(t);
        let risen = V::splat(t + f32::from(psp.rise));
        let fallen = V::splat(t + f32::from(psp.rise) + f32::from(psp.fall));
        let mut sums = [zero; 2];
        for b in 0..n_blocks {
            let time = V::read(&times[b]);
            let error = V::read(&errors[b]);
            let share = if SLOPED {
                let late = time.at_most(fallen, falling, zero);
                error.times(time.at_most(risen, rising, late))
            } else {
                error
            };
            let weight = weight::<V>(rows, sign, start + b);
            sums[b % 2] = sums[b % 2].plus(weight.times(time.at_most(own, zero, share)));
        }
        let mut lanes = [0.0; LANES];
        sums[0].plus(sums[1]).write(&mut lanes);
        *out = sum(&lanes);
    }
}

#[inline(always)]
fn slope_lanes<V: Vector>(
    rows: &Rows,
    psp: Psp,
    events: &[Event],
    times: Blocks<'_>,
    slopes: &mut [f32],
) {
    let curve = Curve::<V>::new(psp);
    let sign = rows.sign();
    let minus = V::splat(-1.0);
    for (b, out) in slopes.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let time = V::read(&times[b]);
        let mut slope = V::splat(0.0);
        for event in events {
            let s = time.plus(V::splat(-f32::from(event.time)));
            let gain = curve.at::<true>(s).plus(curve.at::<true>(s.plus(minus)).times(minus));
            let weight = weight::<V>(rows, sign, usize::from(event.row) * rows.n_blocks + b);
            slope = slope.plus(weight.times(gain));
        }
        slope.write(out);
    }
}

/// The weights of one block as real numbers or as signs.
#[inline(always)]
fn weight<V: Vector>(rows: &Rows, sign: Sign, at: usize) -> V {
    match sign {
        Sign::Real => V::read(&rows.real[at].0),
        Sign::Signs => {
            let bits = u32::from(rows.bits[at]);
            V::splat(-1.0).plus_bits(bits).plus_bits(bits)
        }
    }
}

/// Sum of the lanes, in a fixed order.
#[inline(always)]
fn sum(lanes: &Block) -> f32 {
    let mut sum = [0.0; 4];
    for quad in lanes.as_chunks::<4>().0 {
        for l in 0..4 {
            sum[l] += quad[l];
        }
    }
    (sum[0] + sum[1]) + (sum[2] + sum[3])
}
