//! The behaviour of whole runs on small budgets.

mod closed_forms;
mod episodes;

use super::*;
use crate::data::{Data, DataDirs, Dataset, Limits};
use crate::encode::{FitEncoder, resize};
use crate::recipe::{BUILT_IN, Recipe};
use crate::spikes::{Inputs, Shape};

/// The bundled digits at 15×15 pixels: inputs and labels of training and test split.
fn digits(n_train: usize, n_test: usize) -> [(Inputs, Vec<u16>); 2] {
    let limits = Limits { n_train: Some(n_train), n_test: Some(n_test), draw: Some(1) };
    let dirs = DataDirs { root: "nowhere".into() };
    let Dataset { train, test, shape, .. } = Data::MnistMini(limits).load(&dirs).unwrap();
    let encoder = resize::Params::default().restore(shape, &State::new()).unwrap();
    [train, test].map(|s| (encoder.encode(&s.images, &mut |_, _| Ok(())).unwrap(), s.labels))
}

fn task(seed: u64) -> Task {
    let (shape, notation) = (Shape::new(1, 15, 15), Notation::Images);
    Task { shape, notation, n_classes: 10, n_train: 0, seed: Seed(seed) }
}

/// Shows all training images in batches of `batch`; returns the learner and the growth of the
/// excitatory weights after each batch.
fn trained(
    params: &Params,
    (inputs, labels): &(Inputs, Vec<u16>),
    batch: usize,
) -> (SleepStdp, Vec<f64>) {
    let seed = Seed(7);
    let mut learner = SleepStdp::new(params, &task(seed.0)).unwrap();
    let rows: Vec<usize> = (0..inputs.len()).collect();
    let mut growth = Vec::new();
    for (step, rows) in rows.chunks(batch).enumerate() {
        let n_presented = (step * batch) as u64;
        let ctx = Ctx { seed, epoch: 0, step: step as u64, n_presented, rate: 1.0 };
        learner.step(&Batch { inputs, rows, labels }, &ctx).unwrap();
        growth.push(learner.growth()[0]);
    }
    (learner, growth)
}

fn accuracy(learner: &mut SleepStdp, train: &(Inputs, Vec<u16>), test: &(Inputs, Vec<u16>)) -> f64 {
    let ctx = Ctx { seed: Seed(7), epoch: 1, step: 0, n_presented: 0, rate: 1.0 };
    let all = |s: &(Inputs, Vec<u16>)| (0..s.1.len()).collect::<Vec<usize>>();
    let rows = all(train);
    let batch = Batch { inputs: &train.0, rows: &rows, labels: &train.1 };
    learner.fit_readout(&batch, &ctx).unwrap();
    let rows = all(test);
    let batch = Batch { inputs: &test.0, rows: &rows, labels: &test.1 };
    let predictions = learner.predict(&batch).unwrap();
    let n_right = predictions.iter().zip(&test.1).filter(|(p, l)| p.class == Some(**l)).count();
    n_right as f64 / rows.len() as f64
}

/// Weights stay inside their bounds under every regularisation, and a network without
/// plasticity stays as it is.
#[test]
fn bounds_hold_and_frozen_weights_stay() {
    let [train, _] = digits(40, 1);
    for regularisation in [
        Regularisation::None,
        Regularisation::Sleep,
        Regularisation::LayerNormalisation,
        Regularisation::SynapticScaling,
    ] {
        let rate = 0.02;
        let params = Params {
            regularisation,
            interval: 500,
            weight_max: 2.0,
            learning_rate_excitatory: rate,
            learning_rate_inhibitory: rate,
            ..Params::default()
        };
        let (learner, growth) = trained(&params, &train, 40);
        assert!(learner.synapses.weights.iter().all(|w| (0.01..=2.0).contains(w)));
        assert!(growth[0] != 1.0, "{regularisation:?}");
        let (frozen, _) = trained(&Params { plastic: false, ..params }, &train, 40);
        assert!(frozen.synapses.weights.iter().all(|&w| w == 0.3));
    }
}

/// Ten times the learning rate on a tenth of the images: batches of 100 in place of 1,000.
fn hurried(params: Params) -> Params {
    Params {
        learning_rate_excitatory: 5e-3,
        learning_rate_inhibitory: 5e-3,
        interval: 350,
        readout_samples: 600,
        frozen_readout: false,
        ..params
    }
}

#[test]
fn a_frozen_network_already_tells_digits_apart() {
    let [train, test] = digits(1000, 500);
    let params = Params { plastic: false, frozen_readout: false, ..Params::default() };
    let (mut learner, _) = trained(&params, &train, 1000);
    let rate = learner.tally.metrics()["network_spikes_per_step"];
    assert!((3.0..3.6).contains(&rate), "{rate} spikes a step");
    let accuracy = accuracy(&mut learner, &train, &test);
    assert!((0.72..=0.78).contains(&accuracy), "{accuracy}");
}

#[test]
fn without_regularisation_the_weights_run_away() {
    let [train, test] = digits(400, 200);
    for params in [
        Params { regularisation: Regularisation::None, ..Params::default() },
        Params { sleep_downscaling: false, ..Params::default() },
    ] {
        let (mut learner, growth) = trained(&hurried(params), &train, 100);
        assert!(growth[0] > 2.5 && growth[1] > 50.0, "{growth:?}");
        let rate = learner.spikes(test.0.as_images(), 0).len() as f64 / 100.0;
        assert!(rate > 200.0, "{rate} spikes a step");
        let accuracy = accuracy(&mut learner, &train, &test);
        assert!(accuracy <= 0.15, "{accuracy}");
    }
}

#[test]
fn sleep_keeps_the_weights_in_bounds_and_the_classes_apart() {
    let [train, test] = digits(800, 400);
    for sleep_plasticity in [true, false] {
        let params = Params { sleep_plasticity, ..Params::default() };
        let (mut learner, growth) = trained(&hurried(params), &train, 100);
        let as_expected =
            growth.iter().zip([2.8, 6.7, 7.8, 7.2]).all(|(g, e)| (g / e - 1.0).abs() < 0.15);
        assert!(as_expected && growth.iter().all(|&g| g <= 9.0), "{growth:?}");
        let largest = learner.synapses.weights.iter().copied().fold(0.0, f64::max);
        assert!(largest < 0.999 * 25.0, "{largest}");
        let accuracy = accuracy(&mut learner, &train, &test);
        assert!(accuracy >= 0.72, "{accuracy}");
    }
}

// The published program's way of counting samples.

#[test]
fn runs_of_equal_labels_are_one_sample_only_if_asked_for() {
    let mut stream = Seed(6).stream("labels", 0);
    let labels: Vec<u16> = (0..200).map(|_| stream.below(10) as u16).collect();
    let counts = (0..400).map(|i| i as u32).collect();
    let records = Records { counts, labels: labels.clone(), rows: (0..200).collect() };
    assert_eq!(records.samples(100, false).labels, labels);
    let merged = records.samples(100, true);
    assert!((172..=188).contains(&merged.labels.len()), "{}", merged.labels.len());
    assert!(merged.labels.windows(2).all(|w| w[0] != w[1]));
    let pair = Records { counts: vec![10, 0, 30, 5], labels: vec![4, 4], rows: vec![0, 1] };
    let samples = pair.samples(100, true);
    assert_eq!((samples.features, samples.labels), (vec![0.2, 0.025], vec![4]));
}

#[test]
fn a_merged_prediction_is_one_for_the_run() {
    let [train, test] = digits(60, 60);
    let params = Params { merge_equal_labels: true, reset_every: 20, ..Params::default() };
    let (mut learner, _) = trained(&params, &train, 60);
    accuracy(&mut learner, &train, &test);
    let rows: Vec<usize> = (0..60).collect();
    let batch = Batch { inputs: &test.0, rows: &rows, labels: &test.1 };
    let predictions = learner.predict(&batch).unwrap();
    for i in (1..60).filter(|i| i % 20 != 0 && test.1[*i] == test.1[i - 1]) {
        assert_eq!(predictions[i].class, predictions[i - 1].class);
        assert!(predictions[i].measures.iter().all(|m| m.name != "merged_accuracy"));
    }
}

#[test]
fn the_published_variants_are_the_published_parameters() {
    for name in ["sleep-stdp-mnist", "sleep-stdp-fashion-mnist"] {
        let text = BUILT_IN.iter().find(|b| b.name == name).unwrap().text;
        for (variant, sleep_ratio) in
            [("published-0", 0.0), ("published-10", 0.1), ("published-20", 0.2)]
        {
            let recipe = Recipe::parse(name, text, Some(variant), &[]).unwrap();
            let expected = Params { sleep_ratio, ..Params::as_published() };
            assert_eq!(recipe.method, crate::methods::Method::SleepStdp(expected), "{variant}");
            assert!(!recipe.train.shuffle, "{variant}: every pass shows the images in one order");
        }
        let recipe = Recipe::parse(name, text, None, &[]).unwrap();
        assert_eq!(recipe.method, crate::methods::Method::SleepStdp(Params::default()));
    }
}
