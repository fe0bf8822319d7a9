//! Convolution and linear kernels. Throughput is that of the dense computation: elements are its
//! multiplications, so that sparse and dense are compared by it, and twice the elements a second
//! are the operations a second. Ids: pass/algorithm/input channels-output channels@size[-firing
//! rate in per cent].

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use spiketrain::frames::kernel::{Algorithm, Conv2d, Forms, Input, Spikes, Workspace};
use spiketrain::{Seed, Shape};
use std::time::Duration;

const RATES: [u32; 6] = [2, 5, 10, 20, 30, 50];

/// A layer with values for all its passes.
struct Case {
    name: String,
    conv: Conv2d,
    n_images: usize,
    weights: Vec<f32>,
    d_out: Vec<f32>,
}

/// Values between −½ and ½.
fn values(n: usize) -> Vec<f32> {
    let mut stream = Seed(1).stream("bench.values", 0);
    (0..n).map(|_| stream.uniform() - 0.5).collect()
}

fn spikes(shape: Shape, n_images: usize, percent: u32) -> Spikes {
    let mut stream = Seed(1).stream("bench.spikes", u64::from(percent));
    let rate = percent as f32 / 100.0;
    let fires = (0..n_images * shape.len()).map(|_| f32::from(u8::from(stream.uniform() < rate)));
    Spikes::from_dense(shape, &fires.collect::<Vec<_>>())
}

impl Case {
    fn new(name: &str, conv: Conv2d, n_images: usize) -> Self {
        let (weights, d_out) = (values(conv.n_weights()), values(n_images * conv.output().len()));
        Self { name: name.to_string(), conv, n_images, weights, d_out }
    }

    fn conv(channels: usize, out: usize, size: usize, n_images: usize) -> Self {
        let conv = Conv2d::square(Shape::new(channels, size, size), out, 3, 1, 1);
        Self::new(&format!("{channels}-{out}@{size}x{size}"), conv, n_images)
    }

    fn passes(&self, group: &mut BenchmarkGroup<'_, WallTime>) {
        let n_products = self.n_images * self.conv.n_products();
        group.throughput(Throughput::Elements(n_products as u64));
        let dense = values(self.n_images * self.conv.input.len());
        self.passes_of(group, Input::Dense(&dense), "");
        for percent in RATES {
            let spikes = spikes(self.conv.input, self.n_images, percent);
            self.passes_of(group, Input::Spikes(spikes.view()), &format!("-{percent}"));
        }
    }

    fn passes_of(&self, group: &mut BenchmarkGroup<'_, WallTime>, input: Input<'_>, rate: &str) {
        let Self { name, conv, d_out, .. } = self;
        let mut workspace = Workspace::default();
        let forms = Forms::default();
        let weights = forms.of(&self.weights);
        let mut out = vec![0.0; d_out.len()];
        let mut gradient = vec![0.0; self.weights.len()];
        let is_new = |algorithm| rate.is_empty() || algorithm == Algorithm::Spikes;
        for algorithm in conv.forward_algorithms(input).into_iter().filter(|&a| is_new(a)) {
            group.bench_function(format!("forward/{algorithm:?}/{name}{rate}"), |b| {
                b.iter(|| {
                    conv.forward_by(algorithm, weights, None, input, &mut out, &mut workspace);
                });
            });
        }
        for algorithm in conv.weight_gradient_algorithms(input).into_iter().filter(|&a| is_new(a)) {
            group.bench_function(format!("weight-gradient/{algorithm:?}/{name}{rate}"), |b| {
                b.iter(|| {
                    let gradient = &mut gradient;
                    conv.weight_gradient_by(algorithm, input, d_out, gradient, &mut workspace);
                });
            });
        }
        if let Input::Dense(x) = input {
            let mut d_in = vec![0.0; x.len()];
            for algorithm in conv.input_gradient_algorithms() {
                group.bench_function(format!("input-gradient/{algorithm:?}/{name}"), |b| {
                    b.iter(|| {
                        let d_in = &mut d_in;
                        conv.input_gradient_by(algorithm, weights, d_out, d_in, &mut workspace);
                    });
                });
            }
        }
    }
}

fn kernels(c: &mut Criterion) {
    let mut group = c.benchmark_group("kernels");
    group.sample_size(20).warm_up_time(Duration::from_millis(200));
    group.measurement_time(Duration::from_secs(1));
    for case in [
        Case::conv(64, 128, 32, 2),
        Case::conv(128, 128, 16, 4),
        Case::conv(256, 256, 8, 4),
        Case::conv(32, 32, 32, 4),
        Case::new("784-800", Conv2d::linear(Shape::flat(784), 800), 128),
        Case::new("800-10", Conv2d::linear(Shape::flat(800), 10), 128),
    ] {
        case.passes(&mut group);
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    kernels(&mut criterion);
    criterion.final_summary();
}
