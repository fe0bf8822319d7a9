//! Training and reconstruction with 40 steps a patch. Ids: neurons × inputs – what is shown:
//! 100 of the bundled digits with a 5×5 patch around every pixel, or 100 random 16×16 patches of
//! noise in the on-off code.

use criterion::{BatchSize, Criterion, Throughput};
use spiketrain::data::{Data, DataDirs, Limits};
use spiketrain::learner::{Batch, Ctx, Learner, Task};
use spiketrain::methods::event_stdp::{Code, Decoder, EventStdp, Params, Sampling};
use spiketrain::{Images, Inputs, Notation, Seed, Shape};
use std::hint::black_box;

fn digits() -> Inputs {
    let limits = Limits { n_train: Some(100), n_test: Some(1), draw: None };
    let data = Data::MnistMini(limits).load(&DataDirs::new(None)).expect("bundled");
    Inputs::Images(data.train.images)
}

fn noise() -> Inputs {
    let mut stream = Seed(1).stream("bench.noise", 0);
    let values = (0..64 * 64).map(|_| stream.normal(0.0, 1.0) as f32).collect();
    Inputs::Images(Images::from_floats(Shape::new(1, 64, 64), values))
}

fn event_stdp(c: &mut Criterion) {
    let natural = Params {
        neurons: 64,
        patch: 16,
        code: Code::OnOff,
        sampling: Sampling::Random,
        stride: 8,
        homeostasis: 0.01,
        decoder: Decoder::Vq,
        ..Params::default()
    };
    let mut group = c.benchmark_group("event-stdp");
    group.sample_size(10);
    for (what, inputs, params) in [
        ("digits", digits(), Params { neurons: 8, ..Params::default() }),
        ("digits", digits(), Params::default()),
        ("digits", digits(), Params { neurons: 64, ..Params::default() }),
        ("noise", noise(), natural),
    ] {
        let (shape, notation, seed) = (inputs.shape(), Notation::Images, Seed(0));
        let task = Task { shape, notation, n_classes: 0, n_train: inputs.len(), seed };
        let fresh = EventStdp::new(&params, &task).expect("a valid task");
        let n_inputs = fresh.layer().n_inputs();
        let rows: Vec<usize> = (0..inputs.len()).collect();
        let batch = Batch { inputs: &inputs, rows: &rows, labels: &[] };
        let ctx = Ctx { seed, epoch: 0, step: 0, n_presented: 0, rate: 1.0 };
        let size = format!("{}x{n_inputs}-{what}", params.neurons);
        group.throughput(Throughput::Elements(rows.len() as u64));
        group.bench_function(format!("train/{size}"), |b| {
            b.iter_batched_ref(
                || fresh.clone(),
                |learner| learner.step(&batch, &ctx),
                BatchSize::LargeInput,
            );
        });
        let mut trained = fresh.clone();
        trained.step(&batch, &ctx).expect("learnable");
        let few = Batch { inputs: &inputs, rows: &rows[..rows.len().min(10)], labels: &[] };
        group.throughput(Throughput::Elements(few.len() as u64));
        group.bench_function(format!("predict/{size}"), |b| {
            b.iter(|| black_box(trained.predict(&few)));
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    event_stdp(&mut criterion);
    criterion.final_summary();
}
