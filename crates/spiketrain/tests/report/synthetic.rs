//! Logs of runs that never happened, but look as if they had.

use spiketrain::event::{BarRow, Curve, Event, Figure, Histogram, LOG_VERSION, RasterPanel};
use spiketrain::{Seed, Stream};
use std::collections::BTreeMap;

/// Size of a synthetic run.
pub(crate) struct Size {
    pub(crate) n_epochs: u64,
    pub(crate) n_filters: usize,
    pub(crate) n_panels: usize,
}

const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
const N_PER_CLASS: usize = 5;

const RECIPE: &str = r#"# Neuronal competition groups on features of spiking convolution.
[data.cifar10]
validation = 0.1

[encode.csnn]
n_filters = 128
filter = [5, 5]
stride = 1
threshold = 10.0

[method.s2stdp]
neurons_per_class = 5
learning_rate_positive = 0.01
learning_rate_negative = -0.01
annealing = 0.95
early_stopping = { metric = "valid.accuracy", patience = 10, minimum = 0.0005, restore_best = true }

[train]
epochs = 30
seed = 7
"#;

/// A triangular draw in [-width, width].
fn noise(draws: &mut Stream, width: f64) -> f64 {
    width * (draws.uniform_f64() + draws.uniform_f64() - 1.0)
}

/// First event of a run on `classes`.
pub(crate) fn run_start(classes: &[&str]) -> Event {
    Event::RunStart {
        version: LOG_VERSION.to_owned(),
        spiketrain: "0.1.0".to_owned(),
        run: "ncg-cifar10-7".to_owned(),
        recipe: RECIPE.to_owned(),
        method: "s2stdp".to_owned(),
        data: "cifar10".to_owned(),
        encoder: "csnn".to_owned(),
        seed: 7,
        threads: 2,
        n_train: 45_000,
        n_valid: 5_000,
        n_test: 10_000,
        classes: classes.iter().map(|c| (*c).to_owned()).collect(),
        unix_time: 1_764_000_000,
        meanings: [("mean_output_time".to_owned(), "when outputs fire".to_owned())].into(),
    }
}

/// The log of a whole run: ten classes, five output neurons each.
pub(crate) fn ncg_run(size: &Size) -> Vec<Event> {
    let mut draws = Seed(7).stream("synthetic", 0);
    let mut events = vec![run_start(&CLASSES)];
    for (stage, seconds, cached) in
        [("loading", 1.2, false), ("fitting csnn", 312.0, true), ("encoding", 41.5, false)]
    {
        events.push(Event::StageStart { stage: stage.to_owned() });
        events.push(Event::StageEnd { stage: stage.to_owned(), seconds, cached });
    }
    for epoch in 0..size.n_epochs {
        events.push(Event::EpochStart { epoch, n_batches: 450 });
        events.push(epoch_end(epoch, &mut draws));
    }
    let epochs = size.n_epochs;
    events.push(Event::Checkpoint { epoch: epochs * 4 / 5, file: "best.safetensors".to_owned() });
    events.push(test(&mut draws));
    for figure in figures(size, &mut draws) {
        events.push(Event::Figure { figure });
    }
    events.push(Event::RunEnd { epochs, seconds: 355.0 + 18.4 * epochs as f64 });
    events
}

fn metrics(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
    pairs.iter().map(|(name, v)| ((*name).to_owned(), *v)).collect()
}

fn epoch_end(epoch: u64, draws: &mut Stream) -> Event {
    let gone = 1.0 - (-(epoch as f64 + 1.0) / 5.0).exp();
    let updates = |draws: &mut Stream, total: f64| -> Vec<f64> {
        (0..10 * N_PER_CLASS)
            .map(|j| (total * (1.0 + noise(draws, 1.0 - 0.8 * gone)) / (1 + j % 2) as f64).round())
            .collect()
    };
    Event::EpochEnd {
        closing_seconds: 0.0,
        epoch,
        seconds: 18.4 + noise(draws, 0.5),
        n_samples: 45_000,
        train: metrics(&[
            ("accuracy", 0.31 + 0.38 * gone + noise(draws, 0.008)),
            ("loss", 1.9 - 1.2 * gone + noise(draws, 0.03)),
        ]),
        valid: metrics(&[
            ("accuracy", 0.32 + 0.33 * gone + noise(draws, 0.012)),
            ("spikes_per_sample", 1850.0 - 320.0 * gone + noise(draws, 20.0)),
            ("synops_per_sample", 92_500.0 - 16_000.0 * gone + noise(draws, 900.0)),
            ("decision_time", 0.61 - 0.14 * gone + noise(draws, 0.01)),
        ]),
        metrics: metrics(&[("learning_rate", 0.01 * 0.95f64.powi(epoch as i32))]),
        series: BTreeMap::from([
            ("target_updates".to_owned(), updates(draws, 900.0)),
            ("non_target_updates".to_owned(), updates(draws, 500.0)),
            ("thresholds".to_owned(), (0..50).map(|j| 10.0 + 0.2 * j as f64 * gone).collect()),
            ("mean_first_spike".to_owned(), vec![0.7 - 0.2 * gone, 0.8 - 0.1 * gone]),
        ]),
    }
}

fn test(draws: &mut Stream) -> Event {
    let mut confusion = vec![vec![0u64; 10]; 10];
    for (i, row) in confusion.iter_mut().enumerate() {
        for (j, cell) in row.iter_mut().enumerate() {
            let is_alike = (i, j) == (3, 5) || (i, j) == (5, 3) || (i, j) == (1, 9);
            *cell =
                (if is_alike { 120.0 } else { 0.0 } + 50.0 * draws.uniform_f64().powi(2)) as u64;
        }
        row[i] = 0;
        row[i] = 1000 - row.iter().sum::<u64>();
    }
    let counts = (0..40).map(|i| (800.0 * (-((i as f64 - 18.0) / 6.0).powi(2)).exp()) as u64);
    Event::Test {
        metrics: metrics(&[
            ("accuracy", 0.6641),
            ("decision_time", 0.467),
            ("silent_fraction", 0.0012),
            ("spikes_per_sample", 1531.2),
            ("synops_per_sample", 76_560.0),
            ("winner_margin", 0.083),
        ]),
        confusion,
        histograms: vec![Histogram {
            label: "decision time (fraction of the window)".to_owned(),
            from: 0.0,
            to: 1.0,
            counts: counts.collect(),
        }],
    }
}

/// One figure of every kind.
fn figures(size: &Size, draws: &mut Stream) -> Vec<Figure> {
    vec![filters(size.n_filters, draws), rasters(size.n_panels, draws), bars(), lines(), spread()]
}

fn filters(n: usize, draws: &mut Stream) -> Figure {
    let image = |i: usize, draws: &mut Stream| -> Vec<u8> {
        let angle = i as f64 * 0.37;
        let colour = [1.0, 0.5 + 0.5 * (i as f64).sin(), 0.5 + 0.5 * (1.7 * i as f64).cos()];
        let mut bytes = Vec::new();
        for y in 0..5 {
            for x in 0..5 {
                let along = (x as f64 - 2.0) * angle.cos() + (y as f64 - 2.0) * angle.sin();
                let v = (-(along - 0.4).powi(2)).exp() - (-(along + 1.2).powi(2)).exp();
                bytes.extend(
                    colour.map(|c| (128.0 + 115.0 * v * c + 20.0 * draws.uniform_f64()) as u8),
                );
            }
        }
        bytes
    };
    Figure::Images {
        title: "Learned filters".to_owned(),
        caption: "Weights of each filter, on-channels minus off-channels, grey is zero.".to_owned(),
        height: 5,
        width: 5,
        channels: 3,
        images: (0..n).map(|i| image(i, draws)).collect(),
        labels: Vec::new(),
    }
}

fn rasters(n_panels: usize, draws: &mut Stream) -> Figure {
    let panel = |i: usize, draws: &mut Stream| {
        let winner = (i * 3 % 10) as u32;
        let neurons: Vec<u32> = (0..50).filter(|j| j % 7 != 6).collect();
        let mut time =
            |j: &u32| 0.3 + 0.6 * draws.uniform_f64() - if j / 5 == winner { 0.2 } else { 0.0 };
        RasterPanel {
            label: format!("{}, predicted {}", CLASSES[winner as usize], CLASSES[winner as usize]),
            n_neurons: 50,
            names: Vec::new(),
            times: neurons.iter().map(|j| time(j) as f32).collect(),
            neurons,
            highlight: (0..5).map(|k| winner * 5 + k).collect(),
        }
    };
    Figure::Raster {
        title: "First spikes of the output neurons".to_owned(),
        caption: "The group of the true class is on an orange band; the first spike decides."
            .to_owned(),
        panels: (0..n_panels).map(|i| panel(i, draws)).collect(),
    }
}

fn bars() -> Figure {
    let row = |name: &str, base: f64| BarRow {
        name: name.to_owned(),
        values: (0..10).map(|i| base + 10.0 * ((i * 7) % 5) as f64).collect(),
    };
    Figure::Bars {
        title: "First spikes by class".to_owned(),
        caption: "Samples decided by target and by non-target neurons.".to_owned(),
        categories: CLASSES.map(str::to_owned).to_vec(),
        rows: vec![row("target neurons", 80.0), row("non-target neurons", 30.0)],
        y_label: "samples".to_owned(),
    }
}

fn lines() -> Figure {
    let curve = |name: &str, k: f64| Curve {
        name: name.to_owned(),
        x: (0..50).map(|i| i as f64 / 50.0).collect(),
        y: (0..50).map(|i| 1.0 - (-k * i as f64 / 50.0).exp()).collect(),
    };
    Figure::Lines {
        title: "Accuracy if decided early".to_owned(),
        caption: "Share of correct decisions when the window is cut.".to_owned(),
        x_label: "time (fraction of the window)".to_owned(),
        y_label: "accuracy".to_owned(),
        curves: vec![curve("all neurons", 6.0), curve("target neurons only", 3.0)],
    }
}

fn spread() -> Figure {
    let histogram = |label: &str, centre: f64| Histogram {
        label: label.to_owned(),
        from: 0.0,
        to: 1.0,
        counts: (0..30)
            .map(|i| (300.0 * (-((i as f64 / 30.0 - centre) / 0.15).powi(2)).exp()) as u64)
            .collect(),
    };
    Figure::Histograms {
        title: "Weights".to_owned(),
        caption: "After training.".to_owned(),
        histograms: vec![
            histogram("weights of layer 0", 0.2),
            histogram("weights of layer 1", 0.7),
        ],
    }
}
