//! Pooling over time: the kernels on shards of images.

use super::super::kernel::{Input, Pool};
use super::super::shards::{self, Workspaces};
use super::super::signal::{Data, Gradient, Signal};

/// Mean of each window. Of spikes it is no longer binary.
pub fn average(pool: &Pool, input: &Signal, workspaces: &Workspaces) -> Signal {
    let shape = pool.output();
    let mut out = workspaces.take(input.n_images() * shape.len());
    let ranges = shards::of_images(input.n_images());
    let parts = shards::split(&mut out, &ranges, shape.len());
    let jobs: Vec<_> = ranges.into_iter().zip(parts).collect();
    shards::map(jobs, |(range, out)| pool.average(input.images(range), out));
    input.with_dense(shape, out)
}

/// Gradient of [`average`] with respect to its input.
pub fn average_gradient(pool: &Pool, d: &[f32], workspaces: &Workspaces) -> Gradient {
    gradient(pool, d, workspaces, |_, d, d_in| pool.average_gradient(d, d_in))
}

/// Maximum of each window, and where it was; of spikes it stays binary.
pub fn max(pool: &Pool, input: &Signal, workspaces: &Workspaces) -> (Signal, Vec<u8>) {
    let shape = pool.output();
    let n_outputs = input.n_images() * shape.len();
    let mut winners = vec![0; n_outputs];
    let ranges = shards::of_images(input.n_images());
    let parts = shards::split(&mut winners, &ranges, shape.len());
    match input.all() {
        Input::Spikes(spikes) => {
            let jobs: Vec<_> = ranges.into_iter().zip(parts).collect();
            shards::map(jobs, |(range, winners)| {
                pool.spike_winners(spikes.images(range), winners);
            });
            let output = Signal { shape, data: Data::Spikes(pool.max_spikes(spikes)), ..*input };
            (output, winners)
        }
        Input::Dense(values) => {
            let mut out = workspaces.take(n_outputs);
            let outs = shards::split(&mut out, &ranges, shape.len());
            let jobs: Vec<_> = ranges.into_iter().zip(outs.into_iter().zip(parts)).collect();
            let n = input.shape.len();
            shards::map(jobs, |(range, (out, winners))| {
                pool.max(&values[range.start * n..range.end * n], out, winners);
            });
            (input.with_dense(shape, out), winners)
        }
    }
}

/// Gradient of [`max`] with respect to its input.
pub fn max_gradient(pool: &Pool, winners: &[u8], d: &[f32], workspaces: &Workspaces) -> Gradient {
    let n = pool.output().len();
    gradient(pool, d, workspaces, |range, d, d_in| {
        pool.max_gradient(&winners[range.start * n..range.end * n], d, d_in);
    })
}

fn gradient(
    pool: &Pool,
    d: &[f32],
    workspaces: &Workspaces,
    of_part: impl Fn(std::ops::Range<usize>, &[f32], &mut [f32]) + Sync + Send,
) -> Gradient {
    let (image, input) = (pool.output().len(), pool.input.len());
    let n_images = d.len() / image;
    let mut d_in = workspaces.take_most(n_images * input);
    let ranges = shards::of_images(n_images);
    let parts = shards::split(&mut d_in, &ranges, input);
    let jobs: Vec<_> = ranges.into_iter().zip(parts).collect();
    shards::map(jobs, |(range, d_in)| {
        of_part(range.clone(), &d[range.start * image..range.end * image], d_in);
    });
    d_in
}
