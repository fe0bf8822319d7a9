//! The STDP-CSNN feature extractor: filter, scaling, latency, training, convolution, pooling.

use super::{Comparison, Golden, Kind};
use spiketrain::encode::on_off::dog_kernel;
use spiketrain::encode::stdp_csnn::{Extraction, Layer, Params, StdpCsnn};
use spiketrain::{Images, Seed, Shape};

pub(crate) const KINDS: [Kind; 1] =
    [Kind { folder: "ncg-s2stdp", recognises: is_csnn, check: check_csnn }];

const TIME: f64 = 5e-6;
const WEIGHT: f64 = 2e-6;
const THRESHOLD: f64 = 2e-4;
const SCALE: f64 = 1e-5;

fn is_csnn(golden: &Golden) -> bool {
    ["images_train", "dog_filter", "weights_ep0"].iter().all(|name| golden.has(name))
}

fn images(golden: &Golden, name: &str) -> Images {
    let &[_, height, width, channels] = golden.shape(name) else { panic!("images have four axes") };
    let mut pixels = Vec::new();
    for image in golden.get::<u8>(name).chunks_exact(height * width * channels) {
        for c in 0..channels {
            pixels.extend(image.iter().skip(c).step_by(channels));
        }
    }
    Images::from_bytes(Shape::new(channels, height, width), pixels)
}

fn params(golden: &Golden) -> Params {
    let config = golden.config();
    let number = |key: &str| config[key].as_f64().unwrap_or_else(|| panic!("no {key}"));
    let dog: Vec<f64> =
        config["dog"].as_array().expect("dog").iter().map(|v| v.as_f64().unwrap()).collect();
    assert_eq!(config["conv1_stdp"], "multiplicative");
    assert_eq!(config["conv1_wta_infer"], false);
    assert_eq!(config["feature_scaling"], true);
    Params {
        dog_size: dog[0] as usize,
        dog_sigmas: [dog[1], dog[2]],
        n_filters: number("conv1_c") as usize,
        kernel: number("conv1_k") as usize,
        threshold: number("conv1_th") as f32,
        min_threshold: number("conv1_min_th") as f32,
        target_time: number("conv1_t_obj") as f32,
        learning_rate: number("conv1_stdp_lr") as f32,
        threshold_learning_rate: number("conv1_lr_th") as f32,
        beta: number("conv1_stdp_b") as f32,
        annealing: number("conv1_annealing") as f32,
        weight_mean: number("conv1_w_init_mean"),
        weight_std: number("conv1_w_init_std"),
        ..Params::default()
    }
}

fn check_csnn(golden: &Golden, comparison: &mut Comparison) {
    let params = params(golden);
    let kernel = dog_kernel(params.dog_size, params.dog_sigmas[0], params.dog_sigmas[1]);
    comparison.close("dog_filter", &kernel, golden.get::<f32>("dog_filter"), TIME);
    let train = images(golden, "images_train");
    let (mut csnn, times) = StdpCsnn::start(&params, &train, Seed(0));
    comparison.close("scale_min", &csnn.retina.min, golden.get::<f32>("scale_min"), SCALE);
    comparison.close("scale_max", &csnn.retina.max, golden.get::<f32>("scale_max"), SCALE);
    let expected = golden.get::<f32>("latency_train");
    let coded: Vec<f32> = times[..expected.len()].iter().map(|t| t.min(1.0)).collect();
    comparison.close("latency_train", &coded, expected, TIME);
    let first = golden.get::<f32>("weights_ep0");
    csnn.layer = Layer::new(
        params.kernel,
        csnn.retina.n_channels,
        first,
        golden.get::<f32>("thresholds_ep0"),
    );
    let last = (0..=1000).filter(|e| golden.has(&format!("weights_ep{e}"))).max();
    for epoch in 0..=last.expect("epoch 0 is there") {
        let name = format!("weights_ep{epoch}");
        if golden.has(&name) {
            comparison.close(&name, &csnn.layer.weights(), golden.get::<f32>(&name), WEIGHT);
            let name = format!("thresholds_ep{epoch}");
            comparison.close(&name, csnn.layer.thresholds(), golden.get::<f32>(&name), THRESHOLD);
        }
        if Some(epoch) < last {
            csnn.train_epoch(&params, &times, epoch as u64, Seed(0));
        }
    }
    for split in ["train", "test"] {
        let images = images(golden, &format!("images_{split}"));
        for pool in [1, 2] {
            let name = format!("{split}_out_pool{pool}");
            let n = golden.shape(&name)[0];
            let (convolution, mut scratch) = (csnn.convolution(pool), Extraction::default());
            let mut ours = Vec::new();
            let mut image = vec![0.0; images.shape.len()];
            for i in 0..n {
                images.read(i, &mut image);
                let times = csnn.retina.times(&image);
                ours.extend(convolution.features(&times, &mut scratch));
            }
            comparison.close(&name, &ours, golden.get::<f32>(&name), TIME);
        }
    }
}
