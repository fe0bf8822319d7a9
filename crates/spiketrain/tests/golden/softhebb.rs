//! One SoftHebb block trained on a few mini-batches.

use super::{Comparison, Golden, Kind};
use spiketrain::Shape;
use spiketrain::encode::softhebb::{Block, BlockParams, Maps, Pool, Workspace, spike_times};

/// Running statistics' share of a mini-batch and power of the step's size: the reference's.
const MOMENTUM: f32 = 0.1;
const RATE_POWER: f64 = 0.5;

pub(crate) const KINDS: [Kind; 1] = [Kind { folder: "ncg-s2stdp", recognises, check }];

fn recognises(golden: &Golden) -> bool {
    golden.has("triangle") && golden.has("running_var") && golden.has("delta_w")
}

fn check(golden: &Golden, out: &mut Comparison) {
    let [n_steps, n_images, channels, height, width] = *golden.shape("x") else {
        panic!("x has shape {:?}", golden.shape("x"));
    };
    let shape = Shape::new(channels, height, width);
    let batches: Vec<Maps> = golden
        .get::<f32>("x")
        .chunks_exact(n_images * shape.len())
        .map(|x| Maps::from_channels_first(shape, x))
        .collect();
    let params = params(golden);
    let mut block = Block::with_filters(&params, channels, golden.get("w_init"));
    let mut ws = Workspace::default();
    for step in 0..n_steps {
        block.train(&batches[step], MOMENTUM, RATE_POWER, &mut ws).expect("weights stay finite");
        for (name, maps) in [
            ("bn_out", &ws.normalised),
            ("u", &ws.u),
            ("triangle", &ws.triangle),
            ("pooled", &ws.pooled),
        ] {
            if let Some(expected) = recorded(golden, name, step) {
                let ours = maps.to_channels_first();
                out.close_to_max(&format!("{name} of step {step}"), &ours, expected, 1e-4);
            }
        }
        let rates: Vec<f32> = ws.rates.iter().map(|r| -r).collect();
        for (name, ours) in [
            ("delta_w", &block.scaled_delta(&ws)[..]),
            ("lr", &rates),
            ("w_after", &block.filters()),
            ("running_mean", block.running_mean()),
            ("running_var", block.running_var()),
        ] {
            let expected = recorded(golden, name, step).expect("recorded at every step");
            out.close(&format!("{name} of step {step}"), ours, expected, 1e-5);
        }
    }
    block.prepare(&mut ws);
    block.forward(&batches[0], &mut ws);
    let features = ws.pooled.to_channels_first();
    out.close_to_max("eval_features", &features, golden.get::<f32>("eval_features"), 1e-4);
    let times: Vec<f32> =
        features.chunks_exact(features.len() / n_images).flat_map(spike_times).collect();
    out.close("eval_spike_times", &times, golden.get::<f32>("eval_spike_times"), 1e-5);
}

/// What the file holds of tensor `name` for `step`; some are recorded for the first steps only.
fn recorded<'a>(golden: &'a Golden, name: &str, step: usize) -> Option<&'a [f32]> {
    let values = golden.get::<f32>(name);
    values.chunks_exact(values.len() / golden.shape(name)[0]).nth(step)
}

fn params(golden: &Golden) -> BlockParams {
    let config = golden.config();
    let number = |key: &str| config[key].as_f64().unwrap_or_else(|| panic!("config has {key}"));
    let kernel = number("kernel") as usize;
    assert_eq!(number("padding") as usize, kernel / 2, "the extent stays");
    let pool = config["pool"].as_str().expect("config has pool");
    let (kind, sizes) = match pool.split_at(3) {
        ("max", sizes) => (Pool::Max, sizes),
        ("avg", sizes) => (Pool::Average, sizes),
        (other, _) => panic!("pool {other}"),
    };
    // Window, stride and padding, for example 4s2p1.
    let mut sizes = sizes.split(['s', 'p']).map(|n| n.parse().expect("a size"));
    BlockParams {
        channels: golden.shape("w_init")[0],
        kernel,
        inverse_temperature: number("t_invert") as f32,
        triangle_power: number("triangle_power") as f32,
        pool: kind,
        pool_size: sizes.next().expect("a window"),
        pool_stride: sizes.next().unwrap_or(1),
        pool_padding: sizes.next().unwrap_or(0),
        learning_rate: number("lr") as f32,
    }
}
