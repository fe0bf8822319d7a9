//! One step of the networks for MNIST and Fashion-MNIST on 50 random images, and the neurons'
//! passes alone.

use criterion::{Criterion, Throughput};
use spiketrain::frames::kernel::Spikes;
use spiketrain::frames::signal::{Data, Signal};
use spiketrain::learner::{Batch, Ctx, Learner, Task};
use spiketrain::methods::time_losses::network::Network;
use spiketrain::methods::time_losses::neuron::{self, Neuron};
use spiketrain::methods::time_losses::{Params, TimeLosses};
use spiketrain::{Images, Inputs, Notation, Seed, Shape};
use std::hint::black_box;

const SHAPE: Shape = Shape { channels: 1, height: 28, width: 28 };
const N_SAMPLES: usize = 50;

fn normals(n: usize) -> Vec<f32> {
    let mut stream = Seed(1).stream("bench.values", 0);
    (0..n).map(|_| stream.normal(0.3, 0.5) as f32).collect()
}

fn steps(criterion: &mut Criterion) {
    let inputs = Inputs::Images(Images::from_floats(SHAPE, normals(N_SAMPLES * SHAPE.len())));
    let labels: Vec<u16> = (0..N_SAMPLES).map(|i| (i % 10) as u16).collect();
    let rows: Vec<usize> = (0..N_SAMPLES).collect();
    let batch = Batch { inputs: &inputs, rows: &rows, labels: &labels };
    let ctx = Ctx { seed: Seed(0), epoch: 0, step: 0, n_presented: 0, rate: 0.1 };
    let (notation, seed) = (Notation::Images, Seed(0));
    let task = Task { shape: SHAPE, notation, n_classes: 10, n_train: N_SAMPLES, seed };
    let mut group = criterion.benchmark_group("time-losses");
    group.throughput(Throughput::Elements(N_SAMPLES as u64)).sample_size(10);
    for (name, network) in
        [("15C5-40C5-300-10", Network::Mnist {}), ("32C5-64C5-1024-10", Network::FashionMnist {})]
    {
        let params = Params { network, ..Params::default() };
        let mut learner = TimeLosses::new(&params, &task).expect("a valid task");
        group.bench_function(format!("train/{name}-T5"), |b| b.iter(|| learner.step(&batch, &ctx)));
        group.bench_function(format!("predict/{name}-T5"), |b| {
            b.iter(|| black_box(learner.predict(&batch)));
        });
    }
    group.finish();
}

fn neurons(criterion: &mut Criterion) {
    let (shape, n_steps) = (Shape::new(64, 14, 14), 5);
    let data = Data::Values(normals(n_steps * N_SAMPLES * shape.len()));
    let current = Signal { shape, n_steps, n_samples: N_SAMPLES, data };
    let neuron = Neuron::new(&neuron::Params::default());
    let threshold = vec![0.8; shape.channels];
    let output = neuron.fire(&threshold, &current).into_values();
    let spikes = Spikes::from_dense(shape, &output);
    let mut group = criterion.benchmark_group("double-exponential");
    group.throughput(Throughput::Elements(output.len() as u64)).sample_size(20);
    group.bench_function("fire/64x14x14-T5", |b| {
        b.iter(|| black_box(neuron.fire(&threshold, &current)));
    });
    let (mut e, mut to_weights) = (output.clone(), output.clone());
    group.bench_function("backward/64x14x14-T5", |b| {
        b.iter(|| {
            e.copy_from_slice(&output);
            neuron.backward(&threshold, &current, &spikes, &mut e, &mut to_weights, true)
        });
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    steps(&mut criterion);
    neurons(&mut criterion);
    criterion.final_summary();
}
