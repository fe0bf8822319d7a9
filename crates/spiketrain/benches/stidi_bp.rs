//! Training and prediction of networks with one spike a neuron, on images of 28×28 of which about a
//! fifth of the pixels spike. Ids: layers – steps of the window – mini-batch.

use criterion::{BatchSize, Criterion, Throughput};
use spiketrain::learner::{Batch, Ctx, Learner, Task};
use spiketrain::methods::stidi_bp::StidiBp;
use spiketrain::methods::stidi_bp::{Init, Params, PerLayer, Weights};
use spiketrain::{Inputs, Notation, Seed, Shape, Times};
use std::hint::black_box;

const N_CLASSES: usize = 10;
const SHAPE: Shape = Shape { channels: 1, height: 28, width: 28 };

/// Images of one bright square each, its place given by the class, its spike times random.
fn samples(n: usize) -> (Inputs, Vec<u16>) {
    let mut times = Times::new(SHAPE).expect("few inputs");
    let mut labels = Vec::new();
    for sample in 0..n {
        let mut stream = Seed(1).stream("bench.samples", sample as u64);
        let class = sample % N_CLASSES;
        let (top, left) = (class / 5 * 14, class % 5 * 3);
        let dense: Vec<f32> = (0..SHAPE.height * SHAPE.width)
            .map(|i| (i / SHAPE.width, i % SHAPE.width))
            .map(|(y, x)| (top..top + 13).contains(&y) && (left..left + 13).contains(&x))
            .map(|is_bright| if is_bright { 0.9 * stream.uniform() } else { 1.0 })
            .collect();
        times.push_dense(&dense, 1.0);
        labels.push(class as u16);
    }
    (Inputs::Times(times), labels)
}

fn conv() -> Params {
    let init = [[4.8, 4.0], [2.4, 4.0], [1.2, 4.0]].map(Init::Scaled);
    Params {
        hidden: "40C5-P2-1000".into(),
        n_steps: 32,
        rise: 31,
        threshold: PerLayer::All(1.0),
        init: PerLayer::Each(init.to_vec()),
        learning_rate: PerLayer::Each(vec![0.02, 0.02, 0.04]),
        mini_batch: 8,
        ..Params::default()
    }
}

fn stidi_bp(c: &mut Criterion) {
    let init = [Init::Uniform([-1.5, 2.0]), Init::Uniform([-6.0, 8.0])];
    let binary = Params {
        weights: Weights::Binary,
        factor: Some(PerLayer::Each(vec![5.0, 14.0])),
        init: PerLayer::Each(init.to_vec()),
        ..Params::default()
    };
    let (inputs, labels) = samples(64);
    let rows: Vec<usize> = (0..inputs.len()).collect();
    let batch = Batch { inputs: &inputs, rows: &rows, labels: &labels };
    let ctx = Ctx { seed: Seed(0), epoch: 0, step: 0, n_presented: 0, rate: 1.0 };
    let mut group = c.benchmark_group("stidi-bp");
    for (kind, params) in [
        ("real", Params::default()),
        ("real", Params { mini_batch: 8, ..Params::default() }),
        ("binary", binary),
        ("real", conv()),
    ] {
        let Params { hidden, n_steps, mini_batch, .. } = &params;
        let size = format!("{kind}/784-{hidden}-{N_CLASSES}-{n_steps}-{mini_batch}");
        let task = Task {
            shape: SHAPE,
            notation: Notation::Times,
            n_classes: N_CLASSES,
            n_train: 0,
            seed: Seed(0),
        };
        let mut trained = StidiBp::new(&params, &task).expect("a valid task");
        trained.step(&batch, &ctx).expect("learnable");
        group.throughput(Throughput::Elements(rows.len() as u64)).sample_size(10);
        group.bench_function(format!("train/{size}"), |b| {
            b.iter_batched_ref(
                || trained.clone(),
                |learner| learner.step(&batch, &ctx),
                BatchSize::LargeInput,
            );
        });
        group.bench_function(format!("predict/{size}"), |b| {
            b.iter(|| black_box(trained.predict(&batch)));
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    stidi_bp(&mut criterion);
    criterion.final_summary();
}
