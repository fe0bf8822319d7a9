//! STiDi-BP: single neurons ("neuron"), one step of a network whose weights are the same for every
//! sample ("step"), and online training in binary and real S4NN order ("sequence").

use super::{Comparison, Golden, Kind};
use serde_json::Value;
use spiketrain::learner::Task;
use spiketrain::methods::stidi_bp::{
    Displacement, Latency, Params, PerLayer, Record, StidiBp, Target, Weights,
};
use spiketrain::times::stepped::{
    Event, History, Psp, Rows, Sign, first_spikes, potential, sort_events,
};
use spiketrain::{Notation, Seed, Shape, Times};

const FOLDER: &str = "stidi-bp";

pub(crate) const KINDS: [Kind; 3] = [
    Kind { folder: FOLDER, recognises: |g| g.config()["cases"].is_object(), check: check_neurons },
    Kind { folder: FOLDER, recognises: |g| g.has("dw_out"), check: check_step },
    Kind { folder: FOLDER, recognises: |g| g.has("w_out_init"), check: check_sequence },
];

const POTENTIAL: f64 = 1e-5;
/// Share of the largest absolute value, and an absolute part.
const ERROR: (f64, f64) = (1e-5, 1e-7);

fn close<T: Copy + Into<f64>>(out: &mut Comparison, name: &str, ours: &[T], reference: &[f64]) {
    let max = reference.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    out.close(name, ours, reference, ERROR.0 * max + ERROR.1);
}

fn number(config: &Value, key: &str) -> u16 {
    config[key].as_u64().unwrap_or_else(|| panic!("{key}")) as u16
}

fn list(config: &Value, key: &str) -> Vec<f64> {
    let list = config[key].as_array().unwrap_or_else(|| panic!("{key}"));
    list.iter().map(|x| x.as_f64().expect("numbers")).collect()
}

fn singles(x: &[f64]) -> Vec<f32> {
    x.iter().map(|&x| x as f32).collect()
}

fn check_neurons(golden: &Golden, out: &mut Comparison) {
    let config = golden.config();
    let n_steps = number(&config, "T");
    for (name, case) in config["cases"].as_object().expect("cases") {
        let psp = Psp { rise: number(case, "tau_r"), fall: number(case, "tau_d") };
        let tensor = |what: &str| format!("{name}.{what}");
        let curve: Vec<f64> = (-2..=40).map(|s| psp.at(f64::from(s))).collect();
        out.close(&tensor("psp"), &curve, golden.get::<f64>(&tensor("psp")), POTENTIAL);
        let &[n, n_inputs] = golden.shape(&tensor("w")) else { panic!("weights have two axes") };
        let rows = Rows::new(n_inputs, n, &singles(golden.get(&tensor("w"))), Sign::Real);
        let t_in: Vec<f32> = golden.get::<i32>(&tensor("t_in")).iter().map(|&t| t as f32).collect();
        let mut events: Vec<Event> = Vec::new();
        sort_events(&t_in, n_steps, &mut Vec::new(), &mut events);
        let mut times = vec![0.0; rows.n_lanes()];
        let threshold = case["threshold"].as_f64().expect("a threshold") as f32;
        first_spikes(&rows, psp, n_steps, threshold, &events, &mut History::default(), &mut times);
        out.exact(&tensor("t_out"), &times[..n], golden.get::<i32>(&tensor("t_out")));
        let v = |t: u16, n: usize| potential(psp, &events, |i| rows.weight(n, i), t);
        let all: Vec<f64> =
            (0..n_steps).flat_map(|t| (0..n).map(move |n| (t, n))).map(|(t, n)| v(t, n)).collect();
        out.close(&tensor("v"), &all, golden.get::<f64>(&tensor("v")), POTENTIAL);
        let slope = |n: usize| match times[n] as u16 {
            t if t < n_steps => v(t, n) - v(t - 1, n),
            _ => 0.0,
        };
        let slopes: Vec<f64> = (0..n).map(slope).collect();
        out.close(&tensor("slope"), &slopes, golden.get::<f64>(&tensor("slope")), POTENTIAL);
    }
}

/// Input times in steps as fractions of the window.
fn inputs(golden: &Golden, shape: Shape, n_steps: u16) -> Times {
    let mut times = Times::new(shape).expect("few inputs");
    for sample in golden.get::<i32>("t_in").chunks_exact(shape.len()) {
        let fraction = |&t: &i32| t as f32 / f32::from(n_steps - 1);
        times.push_dense(&sample.iter().map(fraction).collect::<Vec<_>>(), 1.0 + 1e-3);
    }
    times
}

fn network(params: &Params, shape: Shape, n_classes: usize) -> StidiBp {
    let wrong = params.check().found;
    assert!(wrong.is_empty(), "{wrong:?}");
    let (notation, seed) = (Notation::Times, Seed(0));
    StidiBp::new(params, &Task { shape, notation, n_classes, n_train: 0, seed }).expect("a network")
}

fn labels(golden: &Golden) -> Vec<usize> {
    golden.get::<i32>("labels").iter().map(|&y| y as usize).collect()
}

fn all(records: &[Record], of: impl Fn(&Record) -> &[f32]) -> Vec<f32> {
    records.iter().flat_map(|r| of(r).to_vec()).collect()
}

fn check_step(golden: &Golden, out: &mut Comparison) {
    let config = golden.config();
    let is_conv = config["conv"].is_array();
    let (name, other) = if is_conv { ("conv0", "pool0") } else { ("hidden", "hidden") };
    let w = |what: &str| format!("{what}_{name}");
    let (n_hidden, n_classes) = (golden.shape(&w("w"))[0], golden.shape("w_out")[0]);
    let (shape, hidden) = if is_conv {
        let conv = &config["conv"][0];
        let &[_, c, h, v] = golden.shape("t_in") else { panic!("images have four axes") };
        let (kernel, pool) = (number(conv, "kernel"), number(conv, "pool"));
        (Shape::new(c, h, v), format!("{n_hidden}C{kernel}-P{pool}"))
    } else {
        (Shape::flat(golden.shape("t_in")[1]), n_hidden.to_string())
    };
    let params = Params {
        hidden,
        n_steps: number(&config, "T"),
        rise: number(&config, "tau_r"),
        fall: number(&config, "tau_d"),
        threshold: PerLayer::Each(list(&config, "threshold")),
        learning_rate: PerLayer::Each(list(&config, "lr")),
        margin: number(&config, "gamma"),
        target: if config["target"] == "margin" { Target::Margin } else { Target::S4nn },
        latency: if config["kappa"] == "slope" { Latency::Slope } else { Latency::Const },
        slope_min: config["s_min"].as_f64().unwrap_or(1.0),
        displacement: match config["displacement"].as_str() {
            Some("linear") => Displacement::Linear,
            _ => Displacement::Weight,
        },
        l2: PerLayer::All(0.0),
        ..Params::default()
    };
    let times = inputs(golden, shape, params.n_steps);
    let start = [singles(golden.get(&w("w"))), singles(golden.get("w_out"))];
    let mut records = Vec::new();
    let mut changes = [Vec::new(), Vec::new()];
    for (i, label) in labels(golden).into_iter().enumerate() {
        let mut network = network(&params, shape, n_classes);
        (0..2).for_each(|l| network.set_weights(l, &start[l]));
        records.extend(network.learn(&[(times.sample(i), label)], 1.0).expect("a label"));
        for l in 0..2 {
            let after = network.weights(l);
            changes[l].extend(after.iter().zip(&start[l]).map(|(a, b)| f64::from(a - b)));
        }
    }
    out.exact(&w("t"), &all(&records, |r| &r.times[0]), golden.get::<i32>(&w("t")));
    out.exact("t_out", &all(&records, |r| &r.times[1]), golden.get::<i32>("t_out"));
    out.exact("target", &all(&records, |r| &r.desired), golden.get::<i32>("target"));
    close(out, "e_out", &all(&records, |r| &r.errors[1]), golden.get("e_out"));
    let e = format!("e_{other}");
    close(out, &e, &all(&records, |r| &r.errors[0]), golden.get(&e));
    // A change is the difference of two single-precision weights.
    for (l, name) in [(0, w("dw")), (1, "dw_out".into())] {
        let largest = start[l].iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let reference = golden.get::<f64>(&name);
        let max = reference.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        let rounding = f64::from(largest * f32::EPSILON);
        out.close(&name, &changes[l], reference, ERROR.0 * max + ERROR.1 + rounding);
    }
}

fn check_sequence(golden: &Golden, out: &mut Comparison) {
    let config = golden.config();
    let binary = golden.has("factor");
    let &[n_hidden, n_inputs] = golden.shape("w_hidden_init") else { panic!("two axes") };
    let n_classes = golden.shape("w_out_init")[0];
    let params = Params {
        hidden: n_hidden.to_string(),
        n_steps: number(&config, "T"),
        rise: 1,
        threshold: PerLayer::Each(list(&config, "threshold")),
        weights: if binary { Weights::Binary } else { Weights::Real },
        factor: binary.then(|| PerLayer::Each(list(&config, "factor_init"))),
        factor_learning_rate: if binary { list(&config, "lr_factor")[0] } else { 0.0 },
        learning_rate: PerLayer::Each(list(&config, "lr")),
        l2: PerLayer::All(if binary { 0.0 } else { list(&config, "l2")[0] }),
        margin: number(&config, "gamma"),
        target: if binary { Target::Bs4nn } else { Target::S4nn },
        displacement_uses_updated_weights: true,
        ..Params::default()
    };
    let shape = Shape::flat(n_inputs);
    let times = inputs(golden, shape, params.n_steps);
    let mut network = network(&params, shape, n_classes);
    network.set_weights(0, &singles(golden.get("w_hidden_init")));
    network.set_weights(1, &singles(golden.get("w_out_init")));
    let (mut records, mut weights, mut factors) =
        (Vec::new(), [Vec::new(), Vec::new()], Vec::new());
    for (i, label) in labels(golden).into_iter().enumerate() {
        records.extend(network.learn(&[(times.sample(i), label)], 1.0).expect("a label"));
        (0..2).for_each(|l| weights[l].extend(network.weights(l)));
        factors.extend(network.factors());
    }
    out.exact("t_hidden", &all(&records, |r| &r.times[0]), golden.get::<i32>("t_hidden"));
    out.exact("t_out", &all(&records, |r| &r.times[1]), golden.get::<i32>("t_out"));
    out.exact("target", &all(&records, |r| &r.desired), golden.get::<f64>("target"));
    // A sample without an output error teaches nothing; the reference writes zeros there.
    for (l, n, name) in [(0, n_hidden, "delta_hidden"), (1, n_classes, "delta_out")] {
        let minus = |r: &Record| match r.errors[l].as_slice() {
            [] => vec![0.0; n],
            errors => errors.iter().map(|e| -e).collect(),
        };
        let minus: Vec<f32> = records.iter().flat_map(minus).collect();
        close(out, name, &minus, golden.get(name));
    }
    out.close_to_max("w_hidden", &weights[0], golden.get::<f64>("w_hidden"), 1e-5);
    out.close_to_max("w_out", &weights[1], golden.get::<f64>("w_out"), 1e-5);
    if binary {
        out.close_to_max("factor", &factors, golden.get::<f64>("factor"), 1e-5);
    }
}
