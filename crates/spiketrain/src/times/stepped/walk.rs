//! The forward pass: first spike times of a group of neurons that see the same events.

use super::{Event, Psp, Rows, Sign};
use crate::simd::{LANES, Line, Vector, dispatch};
use std::ops::Range;

/// Most blocks of neurons that are walked together, in registers.
const MAX_BLOCKS: usize = 4;

/// Working space of [`first_spikes`]: sums of weights at earlier steps.
#[derive(Clone, Debug, Default)]
pub struct History(Vec<Line>);

/// First spike times of all neurons, in steps, `n_steps` if silent; `times` has one entry a lane.
///
/// `events` ascend in time; a spike acts from the step after its own. `threshold` is compared
/// strictly. `history` is working space.
///
/// # Panics
///
/// If `times` has not one entry per lane or an event names a row that does not exist.
pub fn first_spikes(
    rows: &Rows,
    psp: Psp,
    n_steps: u16,
    threshold: f32,
    events: &[Event],
    history: &mut History,
    times: &mut [f32],
) {
    assert_eq!(times.len(), rows.n_lanes(), "one time per lane");
    for (g, times) in times.chunks_mut(MAX_BLOCKS * LANES).enumerate() {
        let first = g * MAX_BLOCKS;
        let blocks = first..first + times.len() / LANES;
        first_spikes_of_group(rows, psp, n_steps, threshold, events, blocks, history, times);
    }
}

/// As [`first_spikes`], for the neurons of the given blocks only, at most four of them.
fn first_spikes_of_group(
    rows: &Rows,
    psp: Psp,
    n_steps: u16,
    threshold: f32,
    events: &[Event],
    blocks: Range<usize>,
    History(history): &mut History,
    times: &mut [f32],
) {
    assert_eq!(times.len(), blocks.len() * LANES, "one time per lane");
    assert!(blocks.end <= rows.n_blocks && psp.rise > 0, "a group of the layer's neurons");
    times.fill(f32::from(n_steps));
    let (Some(first), Some(last)) = (events.first(), events.last()) else { return };
    // From `end` on nothing changes any more.
    let lasting = u32::from(last.time) + u32::from(psp.rise) + u32::from(psp.fall) + 1;
    let end = lasting.min(u32::from(n_steps).saturating_sub(1)) as u16;
    if end <= first.time {
        return;
    }
    let n_lines = usize::from(end - first.time) * blocks.len();
    if history.len() < n_lines {
        history.resize(n_lines, Line([0.0; LANES]));
    }
    let limit = threshold * psp.scale();
    let (first_block, begin) = (blocks.start, first.time);
    let group = Group { rows, psp, limit, events, first_block, begin, end };
    walk_group(rows.simd, blocks.len(), group, history, times);
}

/// Neighbouring blocks of neurons, and what they are shown.
#[derive(Clone, Copy)]
struct Group<'a> {
    rows: &'a Rows,
    psp: Psp,
    limit: f32,
    events: &'a [Event],
    first_block: usize,
    /// First and past-the-last step at which inputs are added up.
    begin: u16,
    end: u16,
}

dispatch! {
    fn walk_group(
        n_blocks: usize,
        group: Group<'_>,
        history: &mut [Line],
        times: &mut [f32],
    ) = walk_blocks::<V>;
}

#[inline(always)]
fn walk_blocks<V: Vector>(
    n_blocks: usize,
    group: Group<'_>,
    history: &mut [Line],
    times: &mut [f32],
) {
    let signs = group.rows.sign() == Sign::Signs;
    match (n_blocks, signs) {
        (1, false) => walk::<V, 1, false>(group, history, times),
        (2, false) => walk::<V, 2, false>(group, history, times),
        (3, false) => walk::<V, 3, false>(group, history, times),
        (4, false) => walk::<V, 4, false>(group, history, times),
        (1, true) => walk::<V, 1, true>(group, history, times),
        (2, true) => walk::<V, 2, true>(group, history, times),
        (3, true) => walk::<V, 3, true>(group, history, times),
        (4, true) => walk::<V, 4, true>(group, history, times),
        (n, _) => unreachable!("groups of 1 to 4 blocks, not {n}"),
    }
}

#[inline(always)]
fn walk<V: Vector, const BLOCKS: usize, const SIGNS: bool>(
    group: Group<'_>,
    history: &mut [Line],
    times: &mut [f32],
) {
    let Group { rows, psp, limit, events, first_block, begin, end } = group;
    let (rise, fall) = (usize::from(psp.rise), usize::from(psp.fall));
    let [now_factor, rise_factor, fall_factor] = psp.factors().map(V::splat);
    let never = V::splat(f32::INFINITY);
    let one = V::splat(1.0);
    let mut sum = [V::splat(0.0); BLOCKS];
    let mut v = [V::splat(0.0); BLOCKS];
    let mut limit = [V::splat(limit); BLOCKS];
    let mut time = [V::splat(times[0]); BLOCKS];
    let mut next = 0;
    for step in begin..end {
        while next < events.len() && events[next].time == step {
            let start = usize::from(events[next].row) * rows.n_blocks + first_block;
            if SIGNS {
                let row = &rows.bits[start..start + BLOCKS];
                for b in 0..BLOCKS {
                    sum[b] =
                        sum[b].minus(one).plus_bits(u32::from(row[b])).plus_bits(u32::from(row[b]));
                }
            } else {
                let row = &rows.real[start..start + BLOCKS];
                for b in 0..BLOCKS {
                    sum[b] = sum[b].plus(V::read(&row[b].0));
                }
            }
            next += 1;
        }
        let k = usize::from(step - begin);
        let line = k * BLOCKS;
        for b in 0..BLOCKS {
            sum[b].write(&mut history[line + b].0);
            v[b] = v[b].plus(sum[b].times(now_factor));
        }
        if k >= rise {
            let line = (k - rise) * BLOCKS;
            for b in 0..BLOCKS {
                v[b] = v[b].plus(V::read(&history[line + b].0).times(rise_factor));
            }
            if fall > 0 && k >= rise + fall {
                let line = (k - rise - fall) * BLOCKS;
                for b in 0..BLOCKS {
                    v[b] = v[b].plus(V::read(&history[line + b].0).times(fall_factor));
                }
            }
        }
        let now = V::splat(f32::from(step + 1));
        for b in 0..BLOCKS {
            time[b] = v[b].at_most(limit[b], time[b], now);
            limit[b] = v[b].at_most(limit[b], limit[b], never);
        }
    }
    for (b, lanes) in times.chunks_exact_mut(LANES).enumerate() {
        time[b].write(lanes.try_into().expect("whole blocks"));
    }
}
