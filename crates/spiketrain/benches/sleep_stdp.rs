//! What an image costs the recurrent network, awake and asleep, and what a test image costs.
//! Ids: inputs × neurons, regularisation. `saturated` is the costliest state: every neuron spikes
//! in every step.

use criterion::{BatchSize, Criterion, Throughput};
use spiketrain::learner::{Batch, Ctx, Learner, Task};
use spiketrain::methods::sleep_stdp::{Params, Regularisation, SleepStdp};
use spiketrain::{Images, Inputs, Notation, Seed, Shape};
use std::hint::black_box;

const SHAPE: Shape = Shape::new(1, 15, 15);

/// Blurred random blobs, about as many bright pixels as a digit has.
fn images(n: usize) -> (Inputs, Vec<u16>) {
    let mut pixels = Vec::new();
    for i in 0..n {
        let mut stream = Seed(1).stream("bench.images", i as u64);
        let (y0, x0) = (3.0 + 9.0 * stream.uniform(), 3.0 + 9.0 * stream.uniform());
        for p in 0..SHAPE.len() {
            let (dy, dx) = ((p / 15) as f32 - y0, (p % 15) as f32 - x0);
            pixels.push((1.2 - (dy * dy + dx * dx) / 16.0).clamp(0.0, 1.0));
        }
    }
    let labels = (0..n).map(|i| (i % 10) as u16).collect();
    (Inputs::Images(Images::from_floats(SHAPE, pixels)), labels)
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let (inputs, labels) = images(100);
    let rows: Vec<usize> = (0..100).collect();
    let batch = Batch { inputs: &inputs, rows: &rows, labels: &labels };
    let ctx = Ctx { seed: Seed(0), epoch: 0, step: 0, n_presented: 0, rate: 1.0 };
    let (notation, seed) = (Notation::Images, Seed(0));
    let task = Task { shape: SHAPE, notation, n_classes: 10, n_train: 100, seed };
    let none = Params { regularisation: Regularisation::None, ..Params::default() };
    let mut group = criterion.benchmark_group("sleep-stdp");
    group.throughput(Throughput::Elements(100)).sample_size(10);
    for (name, params) in [
        ("none", none.clone()),
        ("sleep-10", Params::default()),
        ("sleep-20", Params { sleep_ratio: 0.2, ..Params::default() }),
        ("saturated", Params { weight_input: 25.0, weight_ee: 25.0, weight_ei: 25.0, ..none }),
        ("published-10", Params { interval: 3500, ..Params::as_published() }),
    ] {
        let mut learner = SleepStdp::new(&params, &task).expect("a valid task");
        learner.step(&batch, &ctx).expect("images with labels");
        group.bench_function(format!("train/225x250, {name}"), |b| {
            b.iter_batched_ref(
                || learner.clone(),
                |learner| learner.step(&batch, &ctx),
                BatchSize::LargeInput,
            );
        });
        group.bench_function(format!("predict/225x250, {name}"), |b| {
            b.iter(|| black_box(learner.predict(&batch)));
        });
    }
    group.finish();
    criterion.final_summary();
}
