//! Work in fixed shards: the same shards on any number of threads, and sums over them in one fixed
//! order, so that results do not depend on scheduling.

use super::kernel::Workspace;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Shards that loops over images are cut into.
const N_SHARDS: usize = 16;
/// Values that all shards of one weight gradient may hold together.
const GRADIENT_BUDGET: usize = 1 << 23;

/// `0..n` in at most `n_shards` ranges that follow one another, of sizes that differ by one.
pub fn ranges(n: usize, n_shards: usize) -> Vec<Range<usize>> {
    let n_shards = n_shards.min(n);
    (0..n_shards).map(|i| i * n / n_shards..(i + 1) * n / n_shards).collect()
}

/// The shards of `n` images.
pub fn of_images(n: usize) -> Vec<Range<usize>> {
    ranges(n, N_SHARDS)
}

/// The shards of `n` images that each keep a gradient of `n_weights` values: fewer for large
/// layers.
pub fn of_gradients(n: usize, n_weights: usize) -> Vec<Range<usize>> {
    ranges(n, (GRADIENT_BUDGET / n_weights.max(1)).clamp(2, 8))
}

/// Cuts `values` (`item` of them each) into the parts of `ranges`, which cover all of it.
pub fn split<'a, T>(
    mut values: &'a mut [T],
    ranges: &[Range<usize>],
    item: usize,
) -> Vec<&'a mut [T]> {
    let mut parts = Vec::with_capacity(ranges.len());
    for range in ranges {
        let (part, rest) = values.split_at_mut(range.len() * item);
        parts.push(part);
        values = rest;
    }
    parts
}

/// Regroups `[time, sample, item]` into one list of steps for every sample.
pub fn by_sample<T>(values: &mut [T], n_samples: usize, item: usize) -> Vec<Vec<&mut [T]>> {
    let mut samples: Vec<Vec<&mut [T]>> = (0..n_samples).map(|_| Vec::new()).collect();
    for (image, part) in values.chunks_exact_mut(item).enumerate() {
        samples[image % n_samples].push(part);
    }
    samples
}

/// Kernel memory, one part for each shard, kept between calls.
#[derive(Debug)]
pub struct Workspaces(Vec<Mutex<Workspace>>);

impl Default for Workspaces {
    fn default() -> Self {
        Self((0..N_SHARDS).map(|_| Mutex::default()).collect())
    }
}

impl Workspaces {
    /// The memory of shard `i`.
    pub fn of(&self, i: usize) -> MutexGuard<'_, Workspace> {
        // What a panicked shard left behind is scratch.
        self.0[i % N_SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs `work` on every shard in parallel and gives the results in the order of shards.
pub fn map<I: Send, R: Send>(items: Vec<I>, work: impl Fn(usize, I) -> R + Sync + Send) -> Vec<R> {
    items.into_par_iter().enumerate().map(|(i, item)| work(i, item)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_all_in_order() {
        for n in 0..40 {
            let ranges = ranges(n, 16);
            assert_eq!(
                ranges.iter().flat_map(Clone::clone).collect::<Vec<_>>(),
                (0..n).collect::<Vec<_>>()
            );
            assert!(ranges.len() <= 16 && ranges.iter().all(|r| !r.is_empty()));
        }
        assert_eq!(of_gradients(100, 1 << 22).len(), 2);
        assert_eq!(of_gradients(100, 1).len(), 8);
    }

    #[test]
    fn samples_see_their_own_steps() {
        let mut values: Vec<u32> = (0..12).collect();
        let samples = by_sample(&mut values, 3, 2);
        assert_eq!(samples[1], [&[2, 3], &[8, 9]]);
    }
}
