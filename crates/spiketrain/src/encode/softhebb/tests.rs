//! Invariants of the rule: the size of a step and where the norms go.

use super::maps::Maps;
use super::{Block, BlockParams, Workspace};
use crate::seed::Seed;
use crate::spikes::Shape;

fn params() -> BlockParams {
    BlockParams { channels: 12, kernel: 3, learning_rate: 0.05, ..BlockParams::default() }
}

/// Images of smooth random waves, so that there is something to learn.
fn images(n: usize, index: u64) -> Maps {
    let shape = Shape::new(2, 8, 8);
    let mut maps = Maps::default();
    maps.resize(n, shape);
    let mut stream = Seed(3).stream("test", index);
    for image in maps.values.chunks_exact_mut(shape.len()) {
        let (a, b, phase) = (stream.uniform(), stream.uniform(), 6.0 * stream.uniform());
        for (i, v) in image.iter_mut().enumerate() {
            let (row, column, channel) = (i / 16, i / 2 % 8, i % 2);
            let at = phase + a * row as f32 + b * column as f32 + channel as f32;
            *v = libm::sinf(at) + 0.1 * stream.uniform();
        }
    }
    maps
}

/// Norms of the output channels.
fn norms(filters: &[f32], n_channels: usize) -> Vec<f64> {
    let rows = filters.chunks_exact(filters.len() / n_channels);
    rows.map(|r| r.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>().sqrt()).collect()
}

#[test]
fn the_largest_step_is_the_rate_and_a_norm_of_one_stays() {
    let p = params();
    let n = p.channels;
    let mut stream = Seed(4).stream("test", 0);
    let mut filters: Vec<f32> = (0..n * 18).map(|_| stream.normal(0.0, 1.0) as f32).collect();
    // The first channel's weights are a unit vector; its norm is exactly 1.
    filters[..18].fill(0.0);
    filters[5] = 1.0;
    let mut block = Block::with_filters(&p, 2, &filters);
    let mut ws = Workspace::default();
    block.train(&images(4, 0), 0.1, 0.5, &mut ws).unwrap();
    let delta = block.scaled_delta(&ws);
    let largest = delta.iter().fold(0.0f32, |m, d| m.max(d.abs()));
    assert!((largest - 1.0).abs() < 1e-6, "{largest}");
    let after = block.filters();
    for (o, norm) in norms(&filters, n).into_iter().enumerate() {
        let rate = f64::from(p.learning_rate) * ((norm - 1.0).abs() + 1e-10).sqrt();
        assert!((f64::from(ws.rates[o]) - rate).abs() <= 1e-6 * rate + 1e-9, "channel {o}");
        for i in o * 18..(o + 1) * 18 {
            let step = f64::from(after[i] - filters[i]);
            assert!((step - rate * f64::from(delta[i])).abs() < 1e-5, "channel {o}");
        }
    }
    assert!((0..18).all(|i| (after[i] - filters[i]).abs() <= 1e-6), "a norm of 1 stays");
}

/// From a norm of 5 the weights lose most of the distance to 1; channels that seldom win, and so
/// learn with the opposite sign, keep some of it.
#[test]
fn norms_tend_to_one() {
    let p = params();
    let mut block = Block::draw(&p, 2, 5.0, Seed(6), 0);
    let far = |b: &Block| norms(&b.filters(), p.channels).iter().map(|n| (n - 1.0).abs()).sum();
    let before: f64 = far(&block);
    let mut ws = Workspace::default();
    for i in 0..400 {
        block.train(&images(4, i), 0.1, 0.5, &mut ws).unwrap();
    }
    let after: f64 = far(&block);
    assert!(after < 0.4 * before, "{after} of {before}");
}
