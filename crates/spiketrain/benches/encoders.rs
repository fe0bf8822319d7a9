//! Feature extractors: training of the spiking convolution on patches and encoding of images with
//! it; SoftHebb blocks. Ids: filters × kernel – size of the input. The throughput of the spiking
//! convolution is in patches or images, that of SoftHebb in floating-point operations of its
//! products (two a weight and position; learning needs a second product).

use criterion::{Criterion, Throughput};
use spiketrain::encode::softhebb::{self, Block, Maps, Workspace};
use spiketrain::encode::{FitEncoder, stdp_csnn};
use spiketrain::{Images, Seed, Shape};
use std::hint::black_box;
use std::time::Duration;

/// Grey images of a few soft strokes: mostly dark, smooth, alike in density to digits.
fn strokes(n: usize, shape: Shape) -> Images {
    let Shape { channels, height, width } = shape;
    let mut pixels = Vec::with_capacity(n * shape.len());
    for i in 0..n {
        let mut stream = Seed(3).stream("bench.images", i as u64);
        let points: Vec<[f32; 2]> = {
            let mut at = [0.5f32; 2].map(|x| x * height as f32);
            let mut step = || {
                at = at
                    .map(|x| (x + 6.0 * (stream.uniform() - 0.5)).clamp(4.0, height as f32 - 5.0));
                at
            };
            (0..14).map(|_| step()).collect()
        };
        for _ in 0..channels {
            for y in 0..height {
                for x in 0..width {
                    let near = points.iter().map(|p| {
                        let (dy, dx) = (p[0] - y as f32, p[1] - x as f32);
                        dy * dy + dx * dx
                    });
                    let light = (1.8 - near.fold(f32::MAX, f32::min).sqrt() / 1.5).clamp(0.0, 1.0);
                    pixels.push((255.0 * light) as u8);
                }
            }
        }
    }
    Images::from_bytes(shape, pixels)
}

fn stdp_csnn(c: &mut Criterion) {
    let shape = Shape::new(1, 28, 28);
    let params = stdp_csnn::Params { epochs: 20, ..stdp_csnn::Params::default() };
    let images = strokes(1000, shape);
    let id = format!("{}x{}-28x28", params.n_filters, params.kernel);
    let mut group = c.benchmark_group("stdp-csnn");
    group.sample_size(10).throughput(Throughput::Elements(images.len() as u64));
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let (mut extractor, times) = stdp_csnn::StdpCsnn::start(&params, &images, Seed(0));
    let mut epoch = 0;
    group.bench_function(format!("train/{id}"), |b| {
        b.iter(|| {
            extractor.train_epoch(&params, &times, epoch, Seed(0));
            epoch += 1;
        });
    });
    let fitted = params.fit(&images, Seed(0), &mut |_, _| Ok(())).expect("large enough images");
    group.bench_function(format!("encode/{id}"), |b| {
        b.iter(|| black_box(fitted.encode(&images, &mut |_, _| Ok(()))));
    });
    group.finish();
}

fn softhebb(c: &mut Criterion) {
    let params = softhebb::Params::default();
    let inputs = [Shape::new(3, 32, 32), Shape::new(96, 16, 16), Shape::new(384, 8, 8)];
    let mut group = c.benchmark_group("softhebb");
    group.sample_size(10);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for (block, shape) in params.blocks.iter().zip(inputs) {
        let Shape { channels, height, width } = shape;
        let id = format!("{}x{}-{channels}x{height}x{width}", block.channels, block.kernel);
        let mut stream = Seed(4).stream("bench.maps", 0);
        let n = params.batch_size;
        let values: Vec<f32> = (0..n * shape.len()).map(|_| stream.uniform()).collect();
        let input = Maps::from_channels_first(shape, &values);
        let operations = 2 * n * shape.len() * block.kernel * block.kernel * block.channels;
        let mut ws = Workspace::default();
        let mut layer = Block::draw(block, channels, 1.0, Seed(0), 0);
        layer.prepare(&mut ws);
        group.throughput(Throughput::Elements(operations as u64));
        group.bench_function(format!("encode/{id}"), |b| b.iter(|| layer.forward(&input, &mut ws)));
        group.throughput(Throughput::Elements(2 * operations as u64));
        group.bench_function(format!("train/{id}"), |b| {
            b.iter(|| layer.train(&input, params.momentum, params.rate_power, &mut ws));
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    stdp_csnn(&mut criterion);
    softhebb(&mut criterion);
    criterion.final_summary();
}
