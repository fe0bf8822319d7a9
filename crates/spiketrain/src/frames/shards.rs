//! Work in fixed shards: the same shards on any number of threads, and sums over them in one fixed
//! order, so that results do not depend on scheduling.

use super::kernel::{Workspace, ask_for_large_pages, lock};
use super::signal::{Data, Signal};
use rayon::prelude::*;
use std::ops::{Deref, DerefMut, Range};
use std::sync::{Arc, Mutex};

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

/// Memory kept between calls: that of the kernels, as many as work at once, and the values of
/// signals and gradients that are no longer needed.
#[derive(Debug, Default)]
pub struct Workspaces {
    kernels: Mutex<Vec<Workspace>>,
    spare: Mutex<Spare>,
}

/// Arrays that may be used again.
#[derive(Debug, Default)]
struct Spare {
    /// With the training step in which each was given.
    arrays: Vec<(u64, Vec<f32>)>,
    step: u64,
}

/// Memory of the kernels while one shard works with it; goes back when it is dropped.
#[derive(Debug)]
pub struct Borrowed<'a> {
    workspace: Workspace,
    home: &'a Workspaces,
}

impl Deref for Borrowed<'_> {
    type Target = Workspace;

    fn deref(&self) -> &Workspace {
        &self.workspace
    }
}

impl DerefMut for Borrowed<'_> {
    fn deref_mut(&mut self) -> &mut Workspace {
        &mut self.workspace
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        lock(&self.home.kernels).push(std::mem::take(&mut self.workspace));
    }
}

impl Workspaces {
    /// Memory for the kernels. What it holds is scratch: results do not depend on who had it.
    pub fn borrow(&self) -> Borrowed<'_> {
        Borrowed { workspace: lock(&self.kernels).pop().unwrap_or_default(), home: self }
    }

    /// `len` values to be overwritten, to be kept; what they are is not said. Fresh memory costs a
    /// page fault for every page, so it is used again.
    pub fn take(&self, len: usize) -> Vec<f32> {
        // Much more than is needed is better left for something larger.
        let most = len + len / 4;
        let found =
            self.find(len, |all| all.filter(|&(_, size)| size <= most).min_by_key(|&(_, s)| s));
        with_len(found.unwrap_or_default(), len)
    }

    /// `len` values to be overwritten, for a gradient on its way: the most there is, so that the
    /// gradients of all layers pass through the same memory; where that is not enough, fresh memory
    /// in its place.
    pub fn take_most(&self, len: usize) -> Vec<f32> {
        let largest = self.find(0, |all| all.max_by_key(|&(_, size)| size));
        let enough = largest.filter(|values| values.capacity() >= len);
        with_len(enough.unwrap_or_default(), len)
    }

    /// `len` values to be overwritten, for a sum: the least that is enough.
    pub fn take_least(&self, len: usize) -> Vec<f32> {
        let found = self.find(len, |all| all.min_by_key(|&(_, size)| size));
        with_len(found.unwrap_or_default(), len)
    }

    /// One of the spare arrays of at least `len` values, chosen by index and size.
    fn find(
        &self,
        len: usize,
        choose: impl FnOnce(&mut dyn Iterator<Item = (usize, usize)>) -> Option<(usize, usize)>,
    ) -> Option<Vec<f32>> {
        let mut spare = lock(&self.spare);
        let sizes = spare.arrays.iter().map(|(_, array)| array.capacity());
        let mut enough = sizes.enumerate().filter(|&(_, size)| size >= len);
        let (best, _) = choose(&mut enough)?;
        Some(spare.arrays.swap_remove(best).1)
    }

    /// Takes back what is no longer needed.
    pub fn give(&self, values: Vec<f32>) {
        let spare = &mut *lock(&self.spare);
        if values.capacity() > 0 && spare.arrays.len() < MOST_SPARE {
            spare.arrays.push((spare.step, values));
        }
    }

    /// Ends a training step: frees what nobody took during it.
    pub fn end_step(&self) {
        let spare = &mut *lock(&self.spare);
        let step = spare.step;
        spare.arrays.retain(|&(given, _)| given == step);
        spare.step += 1;
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

/// The same memory with `len` values, fresh if it holds none.
fn with_len(mut values: Vec<f32>, len: usize) -> Vec<f32> {
    if values.capacity() == 0 {
        // Zeros of the system's: no page is touched yet.
        values = vec![0.0; len];
        ask_for_large_pages(&values);
        return values;
    }
    values.resize(len, 0.0);
    values
}

/// Runs `work` on every shard in parallel and gives the results in the order of shards.
pub fn map<I: Send, R: Send>(items: Vec<I>, work: impl Fn(I) -> R + Sync + Send) -> Vec<R> {
    items.into_par_iter().map(work).collect()
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
        workspaces.give(vec![1.0; 10]);
        workspaces.give(vec![2.0; 100]);
        workspaces.give(vec![3.0; 1000]);
        assert_eq!(workspaces.take_least(50), [2.0; 50]);
        assert_eq!(workspaces.take_most(5), [3.0; 5]);
        assert_eq!(workspaces.take_least(5), [1.0; 5]);
        workspaces.give(vec![1.0; 10]);
        assert_eq!(workspaces.take_most(11), [0.0; 11]);
        assert_eq!(workspaces.take(10), [0.0; 10]);
    }

    #[test]
    fn what_nobody_took_for_a_step_is_freed() {
        let workspaces = Workspaces::default();
        workspaces.give(vec![1.0; 10]);
        workspaces.end_step();
        assert_eq!(workspaces.take(10), [1.0; 10]);
        workspaces.give(vec![1.0; 10]);
        workspaces.end_step();
        workspaces.end_step();
        assert_eq!(workspaces.take(10), [0.0; 10]);
    }

    #[test]
    fn samples_see_their_own_steps() {
        let mut values: Vec<u32> = (0..12).collect();
        let samples = by_sample(&mut values, 3, 2);
        assert_eq!(samples[1], [&[2, 3], &[8, 9]]);
    }
}
