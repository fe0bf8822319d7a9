//! One step of the network of `ltmd-mnist` on 64 random images, its parts switched off one after
//! another, and the moderate dropout of its 256 hidden units alone.

use criterion::{Criterion, Throughput};
use spiketrain::frames::network::{Description, Network};
use spiketrain::learner::{Batch, Ctx, Learner, Task};
use spiketrain::methods::ltmd::moderate_dropout::Keeping;
use spiketrain::methods::ltmd::{Ltmd, Params};
use spiketrain::{Images, Inputs, Notation, Seed, Shape};
use std::hint::black_box;

const SHAPE: Shape = Shape { channels: 1, height: 28, width: 28 };
const N_SAMPLES: usize = 64;
const LAYERS: &str = r#"
layers = [
    { conv = { channels = 32 } }, "norm", "neuron",
    { conv = { channels = 64, stride = 2 } }, "norm", "neuron",
    { conv = { channels = 128, stride = 2 } }, "norm", "neuron",
    { average-pool = { size = 2 } },
]
"#;

fn normals(n: usize) -> Vec<f32> {
    let mut stream = Seed(1).stream("bench.images", 0);
    (0..n).map(|_| stream.normal(0.3, 0.5) as f32).collect()
}

fn steps(criterion: &mut Criterion) {
    let description: Description = toml::from_str(LAYERS).expect("a list of layers");
    let network = Network::Custom(description);
    let inputs = Inputs::Images(Images::from_floats(SHAPE, normals(N_SAMPLES * SHAPE.len())));
    let labels: Vec<u16> = (0..N_SAMPLES).map(|i| (i % 10) as u16).collect();
    let rows: Vec<usize> = (0..N_SAMPLES).collect();
    let batch = Batch { inputs: &inputs, rows: &rows, labels: &labels };
    let ctx = Ctx { seed: Seed(0), epoch: 0, step: 0, n_presented: 0, rate: 0.1 };
    let (notation, seed) = (Notation::Images, Seed(0));
    let task = Task { shape: SHAPE, notation, n_classes: 10, n_train: N_SAMPLES, seed };
    let ltmd = Params { network, ..Params::default() };
    let lt = Params { dropout: 0.0, ..ltmd.clone() };
    let mut lif = lt.clone();
    lif.neuron.learns_threshold = false;
    let mut group = criterion.benchmark_group("ltmd");
    group.throughput(Throughput::Elements(N_SAMPLES as u64)).sample_size(10);
    for (name, params) in [("ltmd", ltmd), ("lt", lt), ("lif", lif)] {
        let mut learner = Ltmd::new(&params, &task).expect("a valid task");
        group.bench_function(format!("train/{name}"), |b| b.iter(|| learner.step(&batch, &ctx)));
        group.bench_function(format!("predict/{name}"), |b| {
            b.iter(|| black_box(learner.predict(&batch)));
        });
    }
    group.finish();
}

fn dropout(criterion: &mut Criterion) {
    let (n_steps, n_units) = (4, 256);
    let outputs = normals(n_steps * 2 * N_SAMPLES * n_units);
    let kept: Vec<bool> = (0..2 * N_SAMPLES * n_units).map(|i| i % 5 != 0).collect();
    let mut group = criterion.benchmark_group("moderate-dropout");
    group.throughput(Throughput::Elements(outputs.len() as u64));
    group.bench_function("forward and backward", |b| {
        b.iter(|| {
            let keeping = Keeping::new(&outputs, n_steps, 0.2);
            let (mut dropped, mut d) = (outputs.clone(), outputs.clone());
            keeping.apply(&kept, &mut dropped);
            keeping.backward(&kept, &outputs, &mut d, true);
            black_box((dropped, d))
        });
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    steps(&mut criterion);
    dropout(&mut criterion);
    criterion.final_summary();
}
