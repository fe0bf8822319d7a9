//! S2-STDP, SSTDP, PCN, NCG and R-STDP: the forward pass alone ("forward"), and whole trainings
//! ("sub-cases"), any number to a file, each with a name before its tensors.

use super::{Comparison, Golden, Kind};
use serde_json::Value;
use spiketrain::learner::{Ctx, Learner, Task};
use spiketrain::methods::s2stdp::{Params, Regulation, Rule, S2stdp};
use spiketrain::times::competition::decision_order;
use spiketrain::times::integrate::{LastEvent, Layer, Outputs};
use spiketrain::{Notation, Seed, Shape, Times};

pub(crate) const KINDS: [Kind; 2] = [
    Kind { folder: "ncg-s2stdp", recognises: is_forward, check: check_forward },
    Kind { folder: "ncg-s2stdp", recognises: is_training, check: check_training },
];

const POTENTIAL: f64 = 1e-5;
const WEIGHT: f64 = 2e-6;
const THRESHOLD: f64 = 1e-5;
/// Rates are recorded in double precision; the order of two products may differ.
const RATE: f64 = 1e-12;

fn is_forward(golden: &Golden) -> bool {
    ["x", "weights", "thresholds", "out_spikes", "order"].iter().all(|name| golden.has(name))
}

fn is_training(golden: &Golden) -> bool {
    let Value::Object(cases) = golden.config() else { return false };
    !cases.is_empty() && cases.keys().all(|name| golden.has(&format!("{name}.x_train")))
}

fn times_of(dense: &[f32], n_inputs: usize) -> Times {
    let mut times = Times::new(Shape::flat(n_inputs)).expect("few inputs");
    dense.chunks_exact(n_inputs).for_each(|row| times.push_dense(row, 1.0));
    times
}

fn check_forward(golden: &Golden, comparison: &mut Comparison) {
    let config = golden.config();
    for (key, value) in config.as_object().expect("a table") {
        match key.as_str() {
            "max_time" => assert_eq!(value.as_f64(), Some(1.0), "the window ends at 1"),
            "leak" => assert!(value.is_null(), "the neurons do not leak"),
            other => panic!("unknown setting {other}"),
        }
    }
    let &[n_neurons, n_inputs] = golden.shape("weights") else { panic!("weights have two axes") };
    let times = times_of(golden.get("x"), n_inputs);
    let layer = Layer::new(n_inputs, n_neurons, golden.get("weights"));
    let (mut recorded, mut spikes, mut potentials, mut order) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::<i32>::new());
    let mut outputs = Outputs::default();
    for sample in 0..times.len() {
        let mut dense = vec![0.0; n_inputs];
        times.read_dense(sample, 1.0, &mut dense);
        recorded.extend(dense);
        let thresholds = golden.get("thresholds");
        layer.forward(times.sample(sample), thresholds, LastEvent::NeverFires, &mut outputs);
        spikes.extend_from_slice(&outputs.times);
        potentials.extend_from_slice(&outputs.potentials);
        let mut neurons: Vec<usize> = (0..n_neurons).collect();
        neurons.sort_by(|&a, &b| decision_order(&outputs, a, b));
        order.extend(neurons.iter().map(|&n| n as i32));
    }
    comparison.exact::<f32, f32>("in_spikes", &recorded, golden.get("in_spikes"));
    comparison.exact::<f32, f32>("out_spikes", &spikes, golden.get("out_spikes"));
    comparison.close::<f32, f32>("potentials", &potentials, golden.get("potentials"), POTENTIAL);
    comparison.exact::<i32, i32>("order", &order, golden.get("order"));
}

/// Settings of one sub-case; every key is read, an unknown one is a failure.
fn settings(config: &Value) -> (Params, usize, usize) {
    let mut params = Params {
        neurons_per_class: 1,
        non_target_neurons: 0,
        intra_class_wta: false,
        regulation: Regulation::None,
        threshold_learning_rate: 0.0,
        threshold_annealing: 1.0,
        ..Params::default()
    };
    let (mut n_classes, mut n_epochs) = (0, 1);
    for (key, value) in config.as_object().expect("a table") {
        let float = || value.as_f64().unwrap_or_else(|| panic!("{key} = {value}"));
        let count = || value.as_u64().unwrap_or_else(|| panic!("{key} = {value}")) as usize;
        let flag = || value.as_bool().unwrap_or_else(|| panic!("{key} = {value}"));
        match key.as_str() {
            "K" => n_classes = count(),
            "M" => params.neurons_per_class = count(),
            "nt" => params.non_target_neurons = count(),
            "rule" => {
                params.rule = match value.as_str() {
                    Some("s2stdp") => Rule::S2Stdp,
                    Some("sstdp") => Rule::Sstdp,
                    Some("rstdp") => Rule::RStdp,
                    _ => panic!("unknown rule {value}"),
                }
            }
            "thr" => params.threshold = float() as f32,
            "gap" => params.gap = float(),
            "wta" => params.intra_class_wta = flag(),
            "ap" => params.a_plus = float(),
            "am" => params.a_minus = float(),
            "aap" => params.anti_a_plus = value.as_f64(),
            "aam" => params.anti_a_minus = value.as_f64(),
            // The recorder's own placeholder for a multiplier that no case uses.
            "ap_anti" => assert!(value.is_null(), "ap_anti = {value}"),
            "ann" => params.annealing = float(),
            "wm" => params.weight_mean = float(),
            "ws" => params.weight_std = float(),
            "wn" => params.normalise = flag(),
            "wmin" => params.weight_min = float() as f32,
            "wmax" => params.weight_max = float() as f32,
            "cr" => {
                params.regulation = match value.as_u64() {
                    None if value.is_null() => Regulation::None,
                    Some(0) => Regulation::None,
                    Some(1) => Regulation::OneThreshold,
                    Some(2) => Regulation::TwoCompartments,
                    _ => panic!("unknown regulation {value}"),
                }
            }
            "tlr" => params.threshold_learning_rate = float(),
            "tann" => params.threshold_annealing = float(),
            "epochs" => n_epochs = count(),
            other => panic!("unknown setting {other}"),
        }
    }
    let wrong = params.check().found;
    assert!(wrong.is_empty(), "{wrong:?}");
    (params, n_classes, n_epochs)
}

fn check_training(golden: &Golden, comparison: &mut Comparison) {
    for (name, config) in golden.config().as_object().expect("a table") {
        let (params, n_classes, n_epochs) = settings(config);
        SubCase { golden, name, n_classes, n_epochs }.check(&params, comparison);
    }
}

struct SubCase<'a> {
    golden: &'a Golden,
    name: &'a str,
    n_classes: usize,
    n_epochs: usize,
}

/// What our training gave, in the layout of the reference's tensors.
#[derive(Default)]
struct Record {
    thr_used: Vec<f32>,
    out_spikes: Vec<f32>,
    potentials: Vec<f32>,
    pred_train: Vec<i32>,
    thr_adaptive_after: Vec<f32>,
    w_after: Vec<f32>,
    thr_test: Vec<f32>,
    lr_after_epoch: Vec<f64>,
    test_out_spikes: Vec<f32>,
    test_potentials: Vec<f32>,
    test_pred: Vec<i32>,
}

impl SubCase<'_> {
    fn tensor(&self, what: &str) -> String {
        format!("{}.{what}", self.name)
    }

    fn check(&self, params: &Params, comparison: &mut Comparison) {
        let record = self.train(params);
        let g = self.golden;
        let name = |what| self.tensor(what);
        let mut exact = |what, ours: &[f32]| {
            comparison.exact::<f32, f32>(&name(what), ours, g.get(&name(what)));
        };
        exact("out_spikes", &record.out_spikes);
        exact("test_out_spikes", &record.test_out_spikes);
        for (what, ours) in [("pred_train", &record.pred_train), ("test_pred", &record.test_pred)] {
            comparison.exact::<i32, i32>(&name(what), ours, g.get(&name(what)));
        }
        for (what, ours, tolerance) in [
            ("thr_used", &record.thr_used, THRESHOLD),
            ("potentials", &record.potentials, POTENTIAL),
            ("thr_adaptive_after", &record.thr_adaptive_after, THRESHOLD),
            ("w_after", &record.w_after, WEIGHT),
            ("thr_test", &record.thr_test, THRESHOLD),
            ("test_potentials", &record.test_potentials, POTENTIAL),
        ] {
            comparison.close::<f32, f32>(&name(what), ours, g.get(&name(what)), tolerance);
        }
        let what = name("lr_after_epoch");
        comparison.close::<f64, f64>(&what, &record.lr_after_epoch, g.get(&what), RATE);
    }

    fn train(&self, params: &Params) -> Record {
        let g = self.golden;
        let get = |what| g.get::<f32>(&self.tensor(what));
        let &[n_neurons, n_inputs] = g.shape(&self.tensor("w_init")) else { panic!("two axes") };
        let (train, test) = (times_of(get("x_train"), n_inputs), times_of(get("x_test"), n_inputs));
        let task = Task {
            shape: Shape::flat(n_inputs),
            notation: Notation::Times,
            n_classes: self.n_classes,
            n_train: train.len(),
            seed: Seed(0),
        };
        let weights = get("w_init").to_vec();
        let mut learner = S2stdp::with_weights(params, &task, weights).expect("fits");
        let labels = g.get::<i32>(&self.tensor("y_train"));
        let saved = g.get::<i32>(&self.tensor("w_after_index"));
        let masks = self.masks();
        let mut record = Record::default();
        for epoch in 0..self.n_epochs {
            for (i, &label) in labels.iter().enumerate() {
                let shown = epoch * labels.len() + i;
                let mask = masks.as_ref().map(|m| &m[shown * n_neurons..(shown + 1) * n_neurons]);
                let learned =
                    learner.learn(train.sample(i), label as usize, mask).expect("learnable");
                record.out_spikes.extend_from_slice(&learned.outputs.times);
                record.potentials.extend_from_slice(&learned.outputs.potentials);
                record.pred_train.push(learned.class as i32);
                let used = learned.thresholds.iter();
                // Dropout is an infinite threshold here, a mask in the reference.
                record
                    .thr_used
                    .extend(used.map(|t| if t.is_finite() { *t } else { params.threshold }));
                let state = learner.state();
                let adaptive = state.get::<f32>("adaptive_threshold", &[n_neurons]).expect("kept");
                record.thr_adaptive_after.extend_from_slice(adaptive);
                for _ in saved.iter().filter(|&&s| s as usize == shown) {
                    let weights = state.get::<f32>("weight", &[n_neurons, n_inputs]);
                    record.w_after.extend_from_slice(weights.expect("kept"));
                }
            }
            let n_presented = ((epoch + 1) * labels.len()) as u64;
            let ctx = Ctx {
                seed: Seed(0),
                epoch: epoch as u64,
                step: n_presented,
                n_presented,
                rate: 1.0,
            };
            learner.end_epoch(&ctx).expect("ends");
            self.test(&learner, &test, params.neurons_per_class, &mut record);
        }
        record
    }

    fn test(&self, learner: &S2stdp, test: &Times, per_class: usize, record: &mut Record) {
        let state = learner.state();
        let thresholds = state.get::<f32>("threshold", &[learner.n_neurons()]).expect("kept");
        record.thr_test.extend_from_slice(thresholds);
        record.lr_after_epoch.extend(learner.rates());
        let rows: Vec<usize> = (0..test.len()).collect();
        let inputs = spiketrain::Inputs::Times(test.clone());
        let batch = spiketrain::learner::Batch { inputs: &inputs, rows: &rows, labels: &[] };
        for (i, prediction) in learner.predict(&batch).expect("predictable").iter().enumerate() {
            let outputs = learner.outputs(test.sample(i)).expect("predictable");
            let best = (0..learner.n_neurons())
                .min_by(|&a, &b| decision_order(&outputs, a, b))
                .expect("neurons");
            assert_eq!(prediction.class.map(usize::from), Some(best / per_class));
            record.test_pred.push((best / per_class) as i32);
            record.test_out_spikes.extend(outputs.times);
            record.test_potentials.extend(outputs.potentials);
        }
    }

    fn masks(&self) -> Option<Vec<bool>> {
        let name = self.tensor("mask_out");
        self.golden
            .has(&name)
            .then(|| self.golden.get::<u8>(&name).iter().map(|&m| m != 0).collect())
    }
}
