//! Alpha-synapse neurons one by one ("neuron"), networks over a few optimiser steps ("network"),
//! and the deterministic helpers: pixel coding, noise, pulses, initial weights, Lambert's function
//! ("coding").

use super::{Comparison, Golden, Kind};
use spiketrain::Simd;
use spiketrain::Stored;
use spiketrain::encode::pixel_latency::{noisy, pixel_time};
use spiketrain::methods::temporal_autoencoder::losses;
use spiketrain::methods::temporal_autoencoder::network::{
    Activity, Goal, Learning, Network, Sample, Target, even_pulses, initial_weight,
};
use spiketrain::times::alpha::layer::{
    Arrivals, Backward, Block, Clips, Matrix, Spikes, backward, first_spikes,
};
use spiketrain::times::alpha::{Neuron, lambert_w0};

const FOLDER: &str = "temporal-autoencoder";

pub(crate) const KINDS: [Kind; 3] = [
    Kind { folder: FOLDER, recognises: |g| g.has("d_time_d_weight"), check: check_neurons },
    Kind { folder: FOLDER, recognises: |g| g.has("s0_grad_w0"), check: check_network },
    Kind { folder: FOLDER, recognises: |g| g.has("lambert_x"), check: check_coding },
];

/// |ours − reference| ≤ `tolerance`·(`floor` + |reference|); silence must agree.
fn within(
    out: &mut Comparison,
    name: &str,
    ours: &[f64],
    reference: &[f64],
    tolerance: f64,
    floor: f64,
) {
    let scale = |r: f64| if r.is_finite() { floor + r.abs() } else { 1.0 };
    let scaled =
        |x: &[f64]| -> Vec<f64> { x.iter().zip(reference).map(|(x, &r)| x / scale(r)).collect() };
    out.close(name, &scaled(ours), &scaled(reference), tolerance);
}

fn times(out: &mut Comparison, name: &str, ours: &[f64], reference: &[f64]) {
    within(out, name, ours, reference, 1e-9, 1.0);
}

fn gradients(out: &mut Comparison, name: &str, ours: &[f64], reference: &[f64]) {
    within(out, name, ours, reference, 1e-7, 1e-3);
}

fn losses(out: &mut Comparison, name: &str, ours: &[f64], reference: &[f64]) {
    within(out, name, ours, reference, 1e-9, 0.0);
}

/// Both ways to compute a neuron: alone, and as a layer of one on every set of instructions.
fn check_neurons(golden: &Golden, out: &mut Comparison) {
    let &[_, n_inputs] = golden.shape("weights") else { panic!("weights have two axes") };
    let rows = |name: &str| golden.get::<f64>(name).chunks_exact(n_inputs).collect::<Vec<_>>();
    let (weights, arriving) = (rows("weights"), rows("times"));
    let neurons: Vec<Neuron> = golden
        .get::<f64>("decay")
        .iter()
        .zip(golden.get::<f64>("threshold"))
        .map(|(&decay, &threshold)| Neuron { decay, threshold })
        .collect();
    let mut ours = Singles::default();
    for (r, &neuron) in neurons.iter().enumerate() {
        ours.add(neuron, weights[r], arriving[r]);
    }
    ours.compare("one by one", golden, out);
    for simd in Simd::available() {
        let mut layer = Singles::default();
        for (r, &neuron) in neurons.iter().enumerate() {
            layer.add_layer(simd, neuron, weights[r], arriving[r]);
        }
        // The layer's kernel keeps no sums; those of the single neuron stand in.
        layer.sums.clone_from(&ours.sums);
        layer.compare(&format!("{simd:?}"), golden, out);
    }
}

#[derive(Default)]
struct Singles {
    spike_time: Vec<f64>,
    /// A, B, W.
    sums: [Vec<f64>; 3],
    causal: Vec<f64>,
    by_weight: Vec<f64>,
    by_input: Vec<f64>,
    by_threshold: Vec<f64>,
}

impl Singles {
    fn add(&mut self, neuron: Neuron, weights: &[f64], times: &[f64]) {
        let spike = neuron.first_spike(weights, times);
        self.spike_time.push(spike.map_or(f64::INFINITY, |s| s.time));
        let sums = spike.map_or([0.0; 3], |s| [s.sum_a, s.sum_b, s.lambert_w]);
        self.sums.iter_mut().zip(sums).for_each(|(all, s)| all.push(s));
        self.by_threshold.push(spike.map_or(0.0, |s| s.by_threshold(neuron)));
        for (&w, &t) in weights.iter().zip(times) {
            self.causal.push(f64::from(u8::from(spike.is_some_and(|s| t < s.time))));
            self.by_weight.push(spike.map_or(0.0, |s| s.by_weight(neuron, t)));
            self.by_input.push(spike.map_or(0.0, |s| s.by_input(neuron, w, t)));
        }
    }

    fn add_layer(&mut self, simd: Simd, neuron: Neuron, weights: &[f64], times: &[f64]) {
        let n = weights.len();
        let mut order: Vec<(f64, u32)> = times.iter().copied().zip(0..).collect();
        order.retain(|(t, _)| t.is_finite());
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        let matrix = Matrix::from_rows_of_neurons(n, 1, weights);
        let (mut arrivals, mut spikes) = (Arrivals::default(), Spikes::default());
        arrivals.set(simd, neuron.decay, (&order, 1.0), &[]);
        first_spikes(simd, neuron, &matrix, &arrivals, &mut spikes);
        let clips = Clips { derivative: f64::INFINITY, gradient: f64::INFINITY };
        let (mut gradient, mut by_input) = (Matrix::new(n, 1), vec![0.0; n]);
        let task = Backward {
            neuron,
            weights: &matrix,
            arrivals: &arrivals,
            spikes: &spikes,
            errors: &[Block::splat(1.0)],
            clips,
            first_row: 0,
        };
        backward(simd, &task, &mut gradient, &mut by_input);
        let time = spikes.time(0, arrivals.reference());
        self.spike_time.push(time);
        let slope = spikes.inverse_slope[0].0[0];
        self.by_threshold.push((neuron.decay * spikes.delay[0].0[0]).exp() * slope);
        self.causal.extend(times.iter().map(|&t| f64::from(u8::from(spikes.fired(0) && t < time))));
        self.by_weight.extend(gradient.to_rows_of_neurons());
        self.by_input.extend(by_input);
    }

    fn compare(&self, how: &str, golden: &Golden, out: &mut Comparison) {
        let get = |name| golden.get::<f64>(name);
        let named = |name: &str| format!("{name}, {how}");
        times(out, &named("spike_time"), &self.spike_time, get("spike_time"));
        times(out, &named("sum_a"), &self.sums[0], get("sum_a"));
        times(out, &named("sum_b"), &self.sums[1], get("sum_b"));
        times(out, &named("lambert_w"), &self.sums[2], get("lambert_w"));
        out.exact::<f64, u8>(&named("causal"), &self.causal, golden.get("causal"));
        gradients(out, &named("d_time_d_weight"), &self.by_weight, get("d_time_d_weight"));
        gradients(out, &named("d_time_d_input"), &self.by_input, get("d_time_d_input"));
        gradients(out, &named("d_time_d_threshold"), &self.by_threshold, get("d_time_d_threshold"));
    }
}

/// A stored tensor in double precision.
fn wide(golden: &Golden, name: &str) -> Vec<f64> {
    match golden.tensors.array(name) {
        Ok(a) if f32::of(&a.values).is_some() => {
            golden.get::<f32>(name).iter().map(|&x| f64::from(x)).collect()
        }
        _ => golden.get::<f64>(name).to_vec(),
    }
}

/// What a whole network gives for one batch.
#[derive(Default)]
struct Outputs {
    hidden: Vec<Vec<f64>>,
    output: Vec<f64>,
    softmax: Vec<f64>,
    correct: Vec<f64>,
    loss: Vec<f64>,
}

fn check_network(golden: &Golden, out: &mut Comparison) {
    let numbers = |key: &str| -> serde_json::Value {
        serde_json::from_str(&golden.metadata[key]).unwrap_or_else(|e| panic!("{key}: {e}"))
    };
    let sizes: Vec<usize> = numbers("sizes")
        .as_array()
        .expect("sizes are a list")
        .iter()
        .map(|n| n.as_u64().expect("a size") as usize)
        .collect();
    let (mut network, how) = from_config(golden, &sizes);
    let &[n_steps, n_batch, n_inputs] = golden.shape("inputs") else { panic!("three axes") };
    let n_outputs = *sizes.last().expect("outputs");
    let (inputs, targets) = (golden.get::<f64>("inputs"), golden.get::<f64>("targets"));
    for step in 0..n_steps {
        let spikes: Vec<Vec<(f64, u32)>> = (0..n_batch)
            .map(|b| {
                let row = &inputs[(step * n_batch + b) * n_inputs..][..n_inputs];
                let mut spikes: Vec<(f64, u32)> = row.iter().copied().zip(0..).collect();
                spikes.retain(|(t, _)| t.is_finite());
                spikes.sort_by(|a, b| a.0.total_cmp(&b.0));
                spikes
            })
            .collect();
        let goals: Vec<Vec<f64>> = (0..n_batch)
            .map(|b| {
                let row = &targets[(step * n_batch + b) * n_outputs..][..n_outputs];
                row.iter().map(|&t| if t.is_finite() { t } else { 1.0 }).collect()
            })
            .collect();
        let batch: Vec<Sample<'_>> = spikes
            .iter()
            .zip(&goals)
            .map(|(spikes, goal)| Sample { spikes, target: target(how.goal, goal), dropout: None })
            .collect();
        let outputs = forward(&network, &how, &batch);
        let name = |what: &str| format!("s{step}_{what}");
        let get = |what: &str| golden.get::<f64>(&name(what));
        for (l, hidden) in outputs.hidden.iter().enumerate() {
            times(out, &name(&format!("hidden{l}")), hidden, get(&format!("hidden{l}")));
        }
        times(out, &name("output"), &outputs.output, get("output"));
        losses(out, &name("loss"), &outputs.loss, get("loss"));
        if golden.has(&name("softmax")) {
            losses(out, &name("softmax"), &outputs.softmax, get("softmax"));
            out.exact::<f64, u8>(&name("correct"), &outputs.correct, golden.get(&name("correct")));
        }
        network.gradient(&how, &batch);
        let (by_weight, mut by_pulse) = network.mean_gradient(n_batch);
        for (l, g) in by_weight.iter().enumerate() {
            gradients(out, &name(&format!("grad_w{l}")), g, get(&format!("grad_w{l}")));
        }
        // The output layer's own pulses are stored and never move.
        let n_pulses = golden.shape("pulses")[1];
        by_pulse.push(vec![0.0; n_pulses]);
        gradients(out, &name("grad_pulses"), &by_pulse.concat(), get("grad_pulses"));
        network.update(&how, 1.0, n_batch);
        if !golden.has(&name("pulses_after")) {
            continue;
        }
        for l in 0..network.n_layers() {
            let what = format!("w{l}_after");
            out.close(&name(&what), &network.weights(l), get(&what), 1e-8);
        }
        let inert = &golden.get::<f64>("pulses")[network.n_layers() * n_pulses..];
        let pulses: Vec<f64> = (0..network.n_layers())
            .flat_map(|l| network.pulses(l).to_vec())
            .chain(inert.iter().copied())
            .collect();
        out.close(&name("pulses_after"), &pulses, get("pulses_after"), 1e-8);
    }
}

fn from_config(golden: &Golden, sizes: &[usize]) -> (Network, Learning) {
    let config = golden.config();
    let number = |key: &str| config[key].as_f64().unwrap_or_else(|| panic!("config has {key}"));
    let bound = |x: f64| if x > 0.0 { x } else { f64::INFINITY };
    let neuron = Neuron { decay: number("K"), threshold: number("theta") };
    assert_eq!(number("adam"), 1.0, "the optimiser is Adam");
    let goal = if number("mse") == 1.0 {
        Goal::Reconstruction { latency: number("latency") }
    } else {
        Goal::Classification
    };
    let clips =
        Clips { derivative: bound(number("clip_deriv")), gradient: bound(number("clip_grad")) };
    let how = Learning {
        goal,
        learning_rate: number("lr"),
        learning_rate_pulses: number("lrp"),
        penalty_no_spike: number("penalty"),
        clips,
        least_weight: f64::NEG_INFINITY,
    };
    let n_layers = sizes.len() - 1;
    let n_pulses = golden.shape("pulses")[1];
    let weights: Vec<Vec<f64>> = (0..n_layers).map(|l| wide(golden, &format!("w{l}"))).collect();
    let pulses = golden.get::<f64>("pulses").chunks_exact(n_pulses).map(<[f64]>::to_vec);
    let pulses: Vec<Vec<f64>> = pulses.take(n_layers).collect();
    (Network::new(neuron, sizes, &weights, &pulses), how)
}

fn target(goal: Goal, values: &[f64]) -> Target<'_> {
    match goal {
        Goal::Reconstruction { .. } => Target::Times(values),
        Goal::Classification => {
            Target::Label(values.iter().position(|&y| y == 1.0).expect("one hot"))
        }
    }
}

fn forward(network: &Network, how: &Learning, batch: &[Sample<'_>]) -> Outputs {
    let last = network.n_layers() - 1;
    let mut outputs = Outputs { hidden: vec![Vec::new(); last], ..Outputs::default() };
    let mut a: Activity = network.activity();
    for sample in batch {
        let loss = network.loss(how.goal, sample, &mut a);
        let layer = |l: usize| (0..network.n_neurons(l)).map(|n| a.time(l, n)).collect::<Vec<_>>();
        (0..last).for_each(|l| outputs.hidden[l].extend(layer(l)));
        let output = layer(last);
        match sample.target {
            Target::Times(_) => outputs.loss.push(loss),
            Target::Label(label) => {
                // The reference divides by the number of classes.
                outputs.loss.push(loss / output.len() as f64);
                outputs.softmax.extend_from_slice(a.probabilities());
                let times = output.iter().copied();
                let verdict = losses::classification(times, label, &mut Vec::new(), |_, _| {});
                outputs.correct.push(f64::from(u8::from(verdict.class == Some(label))));
            }
        }
        outputs.output.extend(output);
    }
    outputs
}

fn check_coding(golden: &Golden, out: &mut Comparison) {
    let w: Vec<f64> = golden.get::<f64>("lambert_x").iter().map(|&x| lambert_w0(x)).collect();
    times(out, "lambert_w", &w, golden.get("lambert_w"));
    let pixels = golden.get::<u8>("pixel").iter();
    // A black pixel, 1 in our coding, is silent: infinite in the reference.
    let silent = |t: f64| if t >= 1.0 { f64::INFINITY } else { t };
    let coded: Vec<f64> = pixels.map(|&p| silent(pixel_time(f64::from(p)))).collect();
    out.close("pixel_time", &coded, golden.get::<f64>("pixel_time"), 1e-14);
    let clean = golden.get::<f64>("noise_clean");
    let z = golden.get::<f64>("noise_z");
    let etas = golden.get::<f64>("noise_eta");
    let delayed = |eta: f64| -> Vec<f64> {
        clean.iter().zip(z).map(|(&t, &z)| silent(noisy(t.min(1.0), eta, z))).collect()
    };
    let ours: Vec<f64> = etas.iter().flat_map(|&eta| delayed(eta)).collect();
    out.close("noise_times", &ours, golden.get::<f64>("noise_times"), 1e-14);
    for n in [1, 5, 10] {
        let name = format!("pulses_{n}");
        out.close(&name, &even_pulses(n), golden.get::<f64>(&name), 1e-14);
    }
    // 8 inputs, 3 pulses, 6 neurons; multipliers −7.038462 and 4.213218 (the file's metadata).
    let &[n_neurons, n_columns] = golden.shape("init_z") else { panic!("two axes") };
    let initial = |(i, &z): (usize, &f64)| {
        let multiplier = if i % n_columns < n_columns - 3 { -7.038462 } else { 4.213218 };
        initial_weight(n_neurons, n_columns, multiplier, z)
    };
    let weights: Vec<f64> = golden.get::<f64>("init_z").iter().enumerate().map(initial).collect();
    out.close("init_weights", &weights, golden.get::<f64>("init_weights"), 1e-14);
}
