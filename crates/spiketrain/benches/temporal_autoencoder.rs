//! Training and prediction of networks with alpha synapses on images of the density of MNIST:
//! 784 inputs of which about 150 spike. Ids: sizes of the layers; the settings are the published
//! ones, the networks have learned from a few thousand samples before they are measured.

use criterion::{BatchSize, Criterion, Throughput};
use spiketrain::learner::{Batch, Ctx, Learner, Task};
use spiketrain::methods::temporal_autoencoder::{Params, TemporalAutoencoder};
use spiketrain::{Inputs, Notation, Seed, Shape, Times};
use std::hint::black_box;

const N_INPUTS: usize = 784;
const N_SAMPLES: usize = 210;

/// Blobs of about 150 pixels, at a place that depends on the class.
fn samples() -> (Inputs, Vec<u16>) {
    let mut times = Times::new(Shape::new(1, 28, 28)).expect("few inputs");
    let mut labels = Vec::new();
    for sample in 0..N_SAMPLES {
        let mut stream = Seed(1).stream("bench.samples", sample as u64);
        let class = sample % 10;
        let (x0, y0) = (6.0 + 4.0 * (class % 5) as f32, 9.0 + 9.0 * (class / 5) as f32);
        let (dx, dy) = (2.0 * stream.uniform(), 2.0 * stream.uniform());
        let dense: Vec<f32> = (0..N_INPUTS)
            .map(|i| {
                let (x, y) = ((i % 28) as f32 - x0 - dx, (i / 28) as f32 - y0 - dy);
                0.02 * (x * x + y * y) + 0.1 * stream.uniform()
            })
            .collect();
        times.push_dense(&dense, 1.0);
        labels.push(class as u16);
    }
    (Inputs::Times(times), labels)
}

fn bench(c: &mut Criterion) {
    let (inputs, labels) = samples();
    let rows: Vec<usize> = (0..N_SAMPLES).collect();
    let task = Task {
        shape: Shape::new(1, 28, 28),
        notation: Notation::Times,
        n_classes: 10,
        n_train: N_SAMPLES,
        seed: Seed(0),
    };
    let ctx = Ctx { seed: Seed(0), epoch: 0, step: 0, n_presented: 0, rate: 1.0 };
    let mut group = c.benchmark_group("temporal-autoencoder");
    for (name, params, batch_size) in [
        ("784-32-784", Params::default(), 7),
        ("784-8-784", Params { hidden: 8, ..Params::default() }, 18),
        ("784-340-10", Params::classifier(), 32),
    ] {
        let epoch = |learner: &mut TemporalAutoencoder| {
            for rows in rows.chunks(batch_size) {
                let batch = Batch { inputs: &inputs, rows, labels: &labels };
                learner.step(&batch, &ctx).expect("learnable");
            }
        };
        let mut trained = TemporalAutoencoder::new(&params, &task).expect("a valid task");
        (0..20).for_each(|_| epoch(&mut trained));
        group.throughput(Throughput::Elements(N_SAMPLES as u64)).sample_size(20);
        group.bench_function(format!("train/{name}"), |b| {
            b.iter_batched_ref(|| trained.clone(), |l| epoch(l), BatchSize::LargeInput);
        });
        let batch = Batch { inputs: &inputs, rows: &rows, labels: &labels };
        group.bench_function(format!("predict/{name}"), |b| {
            b.iter(|| black_box(trained.predict(&batch)));
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    bench(&mut criterion);
    criterion.final_summary();
}
