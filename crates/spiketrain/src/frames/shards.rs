//! Work in fixed shards: the same shards on any number of threads, and sums over them in one fixed
//! order, so that results do not depend on scheduling.

use super::kernel::Workspace;
use super::signal::{Data, Signal};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Shards that loops over images are cut into.
const N_SHARDS: usize = 16;
/// Values that all shards of one weight gradient may hold together.
const GRADIENT_BUDGET: usize = 1 << 23;

/// Arrays kept for use again.
const MOST_SPARE: usize = 256;

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

/// Memory kept between calls: that of the kernels, one part for each shard, and the values of
/// signals and gradients that are no longer needed.
#[derive(Debug)]
pub struct Workspaces {
    kernels: Vec<Mutex<Workspace>>,
    spare: Mutex<Vec<Vec<f32>>>,
}

impl Default for Workspaces {
    fn default() -> Self {
        let kernels = (0..N_SHARDS).map(|_| Mutex::default()).collect();
        Self { kernels, spare: Mutex::default() }
    }
}

impl Workspaces {
    /// The kernel memory of shard `i`.
    pub fn of(&self, i: usize) -> MutexGuard<'_, Workspace> {
        // What a panicked shard left behind is scratch.
        self.kernels[i % N_SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `len` values to be overwritten; what they are is not said. Fresh memory costs a page fault
    /// for every page, so it is used again.
    pub fn take(&self, len: usize) -> Vec<f32> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = (0..spare.len()).filter(|&i| spare[i].capacity() >= len);
        let Some(best) = fits.min_by_key(|&i| spare[i].capacity()) else { return vec![0.0; len] };
        // Much more than is needed is better left for something larger.
        if spare[best].capacity() > len + len / 4 {
            return vec![0.0; len];
        }
        let mut values = spare.swap_remove(best);
        drop(spare);
        values.resize(len, 0.0);
        values
    }

    /// Takes back what is no longer needed.
    pub fn give(&self, values: Vec<f32>) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if values.capacity() > 0 && spare.len() < MOST_SPARE {
            spare.push(values);
        }
    }

    /// Takes back a signal's values if nobody else holds them.
    pub fn give_signal(&self, signal: Arc<Signal>) {
        if let Some(Signal { data: Data::Values(values) | Data::Steady(values), .. }) =
            Arc::into_inner(signal)
        {
            self.give(values);
        }
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
    fn memory_is_used_again_where_it_fits() {
        let workspaces = Workspaces::default();
        workspaces.give(vec![1.0; 100]);
        assert_eq!(workspaces.take(10), [0.0; 10]);
        assert_eq!(workspaces.take(90).len(), 90);
        assert_eq!(workspaces.take(60), [0.0; 60]);
    }

    #[test]
    fn samples_see_their_own_steps() {
        let mut values: Vec<u32> = (0..12).collect();
        let samples = by_sample(&mut values, 3, 2);
        assert_eq!(samples[1], [&[2, 3], &[8, 9]]);
    }
}
