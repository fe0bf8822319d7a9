//! Training and prediction of the first-spike layer, at the size of STDP-CSNN features of
//! 28×28 images: 4,608 inputs of which about 1,400 spike. Ids: inputs × neurons – spikes.

use criterion::{BatchSize, Criterion, Throughput};
use spiketrain::learner::{Batch, Ctx, Learner, Task};
use spiketrain::methods::s2stdp::{Params, Regulation, Rule, S2stdp};
use spiketrain::{Inputs, Notation, Seed, Shape, Times};
use std::hint::black_box;

const N_CLASSES: usize = 10;

/// Samples of `n_spikes` spikes; each class draws its early spikes from its own tenth of inputs.
fn samples(n: usize, n_inputs: usize, n_spikes: usize) -> (Inputs, Vec<u16>) {
    let mut times = Times::new(Shape::flat(n_inputs)).expect("few inputs");
    let mut labels = Vec::new();
    for sample in 0..n {
        let mut stream = Seed(1).stream("bench.samples", sample as u64);
        let class = sample % N_CLASSES;
        let mut inputs: Vec<usize> = (0..n_inputs).collect();
        stream.shuffle(&mut inputs);
        let mut dense = vec![1.0; n_inputs];
        for &i in &inputs[..n_spikes] {
            let of_class = i * N_CLASSES / n_inputs == class;
            dense[i] = if of_class { 0.5 * stream.uniform() } else { 0.3 + 0.7 * stream.uniform() };
        }
        times.push_dense(&dense, 1.0);
        labels.push(class as u16);
    }
    (Inputs::Times(times), labels)
}

fn learner(params: &Params, n_inputs: usize) -> S2stdp {
    let (shape, notation, seed) = (Shape::flat(n_inputs), Notation::Times, Seed(0));
    let task = Task { shape, notation, n_classes: N_CLASSES, n_train: 0, seed };
    S2stdp::new(params, &task).expect("a valid task")
}

fn s2stdp(c: &mut Criterion) {
    let one = Params {
        neurons_per_class: 1,
        non_target_neurons: 0,
        intra_class_wta: false,
        regulation: Regulation::None,
        threshold: 250.0,
        ..Params::default()
    };
    let reward = Params {
        rule: Rule::RStdp,
        neurons_per_class: 20,
        non_target_neurons: 0,
        regulation: Regulation::None,
        normalise: false,
        weight_mean: 0.8,
        weight_min: 0.2,
        weight_max: 0.8,
        threshold: 250.0,
        ..Params::default()
    };
    let mut group = c.benchmark_group("s2stdp");
    for (params, n_inputs, n_spikes) in [
        (Params::default(), 4608, 1400),
        (one, 4608, 1400),
        (reward, 4608, 1400),
        (Params { threshold: 1100.0, ..Params::default() }, 13_824, 6000),
    ] {
        let size = format!("{n_inputs}x{}-{n_spikes}", N_CLASSES * params.neurons_per_class);
        let (inputs, labels) = samples(200, n_inputs, n_spikes);
        let rows: Vec<usize> = (0..inputs.len()).collect();
        let batch = Batch { inputs: &inputs, rows: &rows, labels: &labels };
        let ctx = Ctx { seed: Seed(0), epoch: 0, step: 0, n_presented: 0, rate: 1.0 };
        let mut trained = learner(&params, n_inputs);
        trained.step(&batch, &ctx).expect("learnable");
        group.throughput(Throughput::Elements(rows.len() as u64)).sample_size(20);
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
    s2stdp(&mut criterion);
    criterion.final_summary();
}
