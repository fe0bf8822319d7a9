//! The contract of a method, checked for every method by one table.
//!
//! A row is a recipe of a second or two on the bundled digits and the figure it must reach. A new
//! method adds one row; a method without one fails the first test.

use spiketrain::Recipe;
use spiketrain::Seed;
use spiketrain::data::DataDirs;
use spiketrain::event::{Event, Flow, Observer};
use spiketrain::learner::{Batch, Ctx, Task};
use spiketrain::methods::Method;
use spiketrain::train::{Options, Summary, resume, train};
use std::path::Path;

/// What the headline metric of the toy run must reach.
enum Bound {
    /// Test accuracy not below.
    Accuracy(f64),
    /// Mean squared error of the reconstruction not above.
    Mse(f64),
}

struct Row {
    method: &'static str,
    recipe: &'static str,
    bound: Bound,
}

const ROWS: &[Row] = &[
    Row {
        method: "bptt",
        recipe: "
        [data.mnist-mini]
        n_train = 400
        n_test = 200
        [method.bptt.network.custom]
        layers = [
            { conv = { channels = 8, stride = 2 } }, 'norm', 'neuron',
            { conv = { channels = 16, stride = 2 } }, 'norm', 'neuron',
            { dropout = { rate = 0.1 } },
            { linear = { features = 10 } },
        ]
        [method.bptt.optimizer.sgd]
        learning_rate = 0.1
        momentum = 0.9
        [method.bptt.input]
        augment = [{ crop = { padding = 1 } }]
        [train]
        epochs = 4
        batch_size = 32
        [validation]
        folds = 5
    ",
        bound: Bound::Accuracy(0.6),
    },
    Row {
        method: "event-stdp",
        recipe: "
        [data.mnist-mini]
        n_train = 60
        n_test = 20
        [method.event-stdp]
        neurons = 16
        [train]
        epochs = 2
        batch_size = 8
    ",
        // An untrained layer has 0.029, an empty image 0.096.
        bound: Bound::Mse(0.016),
    },
    Row {
        method: "ltmd",
        recipe: "
        [data.mnist-mini]
        n_train = 400
        n_test = 200
        [method.ltmd]
        hidden = 64
        virtual_batch = 16
        noise_study = true
        [method.ltmd.network.custom]
        layers = [
            { conv = { channels = 8, stride = 2 } }, 'norm', 'neuron',
            { conv = { channels = 16, stride = 2 } }, 'norm', 'neuron',
        ]
        [method.ltmd.input]
        mean = [0.1307]
        deviation = [0.3081]
        augment = [{ crop = { padding = 1 } }]
        [train]
        epochs = 12
        batch_size = 32
        [validation]
        folds = 5
    ",
        bound: Bound::Accuracy(0.6),
    },
    Row {
        method: "rate-bp",
        recipe: "
        [data.mnist-mini]
        n_train = 400
        n_test = 200
        [method.rate-bp.network.custom]
        layers = [
            { conv = { channels = 8, stride = 2 } }, 'norm', 'neuron',
            { add = { body = [{ conv = { channels = 8 } }, 'norm'] } }, 'neuron',
            { average-pool = { size = 2 } },
            { dropout = { rate = 0.1 } },
            { linear = { features = 10 } },
        ]
        [method.rate-bp.optimizer.sgd]
        learning_rate = 0.1
        momentum = 0.9
        [method.rate-bp.input]
        augment = [{ crop = { padding = 1 } }]
        [train]
        epochs = 4
        batch_size = 32
        [validation]
        folds = 5
    ",
        bound: Bound::Accuracy(0.6),
    },
    Row {
        method: "rate-bp",
        recipe: "
        [data.mnist-mini]
        n_train = 400
        n_test = 200
        [method.rate-bp]
        mode = 'single-step'
        grad_scale = '1'
        avg_mean = true
        avg_recip = true
        [method.rate-bp.network.custom]
        layers = [
            { conv = { channels = 8, stride = 2 } }, 'norm', 'neuron',
            { conv = { channels = 16, stride = 2 } }, 'norm', 'neuron',
            { linear = { features = 10 } },
        ]
        [train]
        epochs = 4
        batch_size = 32
    ",
        bound: Bound::Accuracy(0.6),
    },
    Row {
        method: "s2stdp",
        recipe: "
        [data.mnist-mini]
        n_train = 400
        n_test = 200
        [encode.latency]
        [method.s2stdp]
        threshold = 20.0
        [train]
        epochs = 2
        batch_size = 32
        [validation]
        folds = 5
    ",
        bound: Bound::Accuracy(0.6),
    },
    Row {
        method: "stidi-bp",
        recipe: "
            [data.mnist-mini]
            n_train = 400
            n_test = 200
            [encode.latency]
            [method.stidi-bp]
            hidden = '8C5-P2-60'
            n_steps = 32
            rise = 31
            threshold = 1.0
            init = [{ scaled = [4.8, 4.0] }, { scaled = [2.4, 4.0] }, { scaled = [1.2, 4.0] }]
            learning_rate = [0.01, 0.01, 0.02]
            mini_batch = 12
            max_shift = 1
            [train]
            epochs = 4
            batch_size = 32
            [validation]
            folds = 5
        ",
        bound: Bound::Accuracy(0.6),
    },
    Row {
        method: "tebn",
        recipe: "
        [data.mnist-mini]
        n_train = 400
        n_test = 200
        [method.tebn.network.custom]
        layers = [
            { conv = { channels = 8, stride = 2 } }, 'norm', 'neuron',
            { conv = { channels = 16, stride = 2 } }, 'norm', 'neuron',
            { dropout = { rate = 0.1 } },
            { linear = { features = 10 } },
        ]
        [method.tebn.optimizer.sgd]
        learning_rate = 0.05
        momentum = 0.9
        [method.tebn.input]
        augment = [{ crop = { padding = 1 } }]
        [train]
        epochs = 4
        batch_size = 32
        [validation]
        folds = 5
    ",
        bound: Bound::Accuracy(0.6),
    },
    Row {
        method: "temporal-autoencoder",
        recipe: "
        [data.mnist-mini]
        n_train = 400
        n_test = 100
        [encode.pixel-latency]
        noise = 0.1
        [method.temporal-autoencoder]
        readouts = [\"nearest-neighbours\"]
        [train]
        epochs = 3
        batch_size = 10
        keep_best = true
        [validation]
        folds = 5
    ",
        // A black image has 0.113, the mean image 0.067.
        bound: Bound::Mse(0.07),
    },
    Row {
        method: "time-losses",
        recipe: "
        [data.mnist-mini]
        n_train = 400
        n_test = 200
        [method.time-losses.network.custom]
        layers = [
            { conv = { channels = 8, kernel = 5, stride = 2 } },
            { add = { body = [{ conv = { channels = 8, kernel = 3, padding = 1 } }] } },
            { pool = { size = 2 } },
            { dropout = { rate = 0.1 } },
            { linear = { features = 64 } },
            { linear = { features = 10 } },
        ]
        [method.time-losses.optimizer.adam-w]
        learning_rate = 2e-3
        weight_decay = 0.01
        [method.time-losses.input]
        mean = [0.1307]
        deviation = [0.3081]
        augment = [{ crop = { padding = 1 } }]
        [train]
        epochs = 4
        batch_size = 20
        [validation]
        folds = 5
    ",
        bound: Bound::Accuracy(0.6),
    },
    Row {
        method: "sleep-stdp",
        recipe: "
        [data.mnist-mini]
        n_train = 390
        n_test = 200
        [encode.resize]
        [method.sleep-stdp]
        interval = 1000
        readout_samples = 390
        [train]
        epochs = 1
        batch_size = 30
    ",
        bound: Bound::Accuracy(0.5),
    },
    Row {
        method: "sleep-surrogate",
        recipe: "
        [data.mnist-mini]
        n_train = 500
        n_test = 200
        [encode.resize]
        [method.sleep-surrogate]
        n_hidden = 100
        learning_rate = 2e-3
        sleep_ratio = 0.3
        [train]
        epochs = 3
        batch_size = 40
    ",
        bound: Bound::Accuracy(0.6),
    },
];

/// Stops a run after so many steps.
struct StopAfter(u64);

impl Observer for StopAfter {
    fn on_event(&mut self, event: &Event) -> Flow {
        if matches!(event, Event::Step { .. }) {
            self.0 = self.0.saturating_sub(1);
        }
        if self.0 == 0 { Flow::Stop } else { Flow::Continue }
    }
}

fn recipe(row: &Row) -> Recipe {
    Recipe::parse(row.method, row.recipe, None, &[]).unwrap_or_else(|e| panic!("{e}"))
}

fn options(dir: &Path, threads: usize) -> Options {
    Options {
        run_dir: dir.to_owned(),
        data: DataDirs::new(Some("nowhere".into())),
        cache_dir: None,
        threads,
    }
}

fn run(row: &Row, dir: &Path, threads: usize, n_steps: u64) -> Summary {
    train(&recipe(row), &options(dir, threads), &mut StopAfter(n_steps))
        .unwrap_or_else(|e| panic!("{}: {e}", row.method))
}

fn bytes(dir: &Path) -> Vec<u8> {
    std::fs::read(dir.join("last.safetensors")).expect("a checkpoint")
}

/// The card says what each of the method's own metrics means; `_N` stands for a number.
fn assert_own_metrics_are_named(row: &Row, dir: &Path) {
    let card = recipe(row).method.card();
    let log = std::fs::read_to_string(dir.join("events.jsonl")).expect("a log");
    let events = log.lines().map(|line| serde_json::from_str::<Event>(line).expect("an event"));
    for event in events {
        let Event::EpochEnd { metrics, .. } = event else { continue };
        for name in metrics.keys() {
            let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
            let numbered = format!("{stem}N");
            let is_named = card.metrics.iter().any(|m| m.0 == name || m.0 == numbered);
            assert!(is_named, "{}: the card does not name {name}", row.method);
        }
    }
}

#[test]
fn every_method_has_a_row() {
    let cards: Vec<&str> = Method::all().iter().map(|c| c.name).collect();
    let mut rows: Vec<&str> = ROWS.iter().map(|r| r.method).collect();
    rows.dedup();
    assert_eq!(cards, rows, "methods and rows, in the same order");
    for row in ROWS {
        assert_eq!(recipe(row).method.card().name, row.method);
    }
}

#[test]
fn every_method_learns_and_gives_the_same_bytes_on_any_number_of_threads() {
    for row in ROWS {
        let dir = tempfile::tempdir().unwrap();
        let folder = |n: usize| dir.path().join(n.to_string());
        let summaries: Vec<Summary> = (1..=3).map(|n| run(row, &folder(n), n, u64::MAX)).collect();
        let first = bytes(&folder(1));
        for n in 2..=3 {
            assert!(bytes(&folder(n)) == first, "{}: {n} threads against one", row.method);
            assert_eq!(summaries[n - 1].test, summaries[0].test, "{}", row.method);
        }
        assert_own_metrics_are_named(row, &folder(1));
        match row.bound {
            Bound::Accuracy(least) => {
                let accuracy = summaries[0].test["accuracy"];
                assert!(accuracy >= least, "{}: accuracy {accuracy}, at least {least}", row.method);
            }
            Bound::Mse(most) => {
                let mse = summaries[0].test["mse"];
                assert!(mse <= most, "{}: mse {mse}, at most {most}", row.method);
            }
        }
    }
}

#[test]
fn every_method_goes_on_from_any_step_to_the_same_bytes() {
    for row in ROWS {
        let dir = tempfile::tempdir().unwrap();
        let whole = dir.path().join("whole");
        run(row, &whole, 2, u64::MAX);
        let expected = bytes(&whole);
        for n_steps in [1, 4, 11] {
            let cut = dir.path().join(format!("cut-{n_steps}"));
            let summary = run(row, &cut, 1, n_steps);
            assert!(summary.was_interrupted, "{}: stopped after {n_steps} steps", row.method);
            let after = resume(&options(&cut, 2), None, &mut StopAfter(u64::MAX)).unwrap();
            assert!(!after.was_interrupted);
            assert!(bytes(&cut) == expected, "{}: stopped after {n_steps} steps", row.method);
        }
    }
}

#[test]
fn predicting_changes_nothing_and_depends_on_no_neighbour() {
    for row in ROWS {
        let recipe = recipe(row);
        let data = recipe.data.load(&DataDirs::new(Some("nowhere".into()))).unwrap();
        let seed = Seed(recipe.seed);
        let encoder = recipe.encode.fit(&data.train.images, seed, &mut |_, _| Ok(())).unwrap();
        let inputs = encoder.encode(&data.train.images, &mut |_, _| Ok(())).unwrap();
        let task = Task {
            shape: inputs.shape(),
            notation: inputs.notation(),
            n_classes: data.classes.len(),
            n_train: inputs.len(),
            seed,
        };
        let mut learner = recipe.method.build(&task).unwrap();
        let rows: Vec<usize> = (0..recipe.train.batch_size.min(inputs.len())).collect();
        let labels = data.train.labels.as_slice();
        let batch = Batch { inputs: &inputs, rows: &rows, labels };
        let ctx = Ctx { seed, epoch: 0, step: 0, n_presented: 0, rate: 1.0 };
        learner.step(&batch, &ctx).unwrap();
        let before = learner.state();
        let together = learner.predict(&batch).unwrap();
        assert_eq!(together.len(), rows.len(), "{}: a prediction a sample", row.method);
        for (i, whole) in together.iter().enumerate().take(5) {
            let one = Batch { inputs: &inputs, rows: &rows[i..=i], labels };
            let alone = &learner.predict(&one).unwrap()[0];
            let texts = (format!("{alone:?}"), format!("{whole:?}"));
            assert_eq!(texts.0, texts.1, "{}: sample {i} alone and in a batch", row.method);
        }
        assert_eq!(learner.state(), before, "{}: predicting changes nothing", row.method);
        let mut twin = recipe.method.build(&task).unwrap();
        twin.restore(&before).unwrap();
        assert_eq!(twin.state(), before, "{}: a state restored is the same state", row.method);
    }
}
