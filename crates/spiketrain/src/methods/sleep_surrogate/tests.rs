//! Gradient and sleep against loops written from the equations.

use super::*;
use crate::frames::Gradients;
use crate::frames::net::steady;
use crate::frames::shards::Workspaces;
use crate::seed::Seed;
use crate::spikes::{Images, Inputs, Shape};

const N_INPUTS: usize = 6;
const N_CLASSES: usize = 3;

fn network(params: &Params) -> SleepSurrogate {
    let (shape, notation) = (Shape::flat(N_INPUTS), Notation::Images);
    let task = Task { shape, notation, n_classes: N_CLASSES, n_train: 0, seed: Seed(1) };
    SleepSurrogate::new(params, &task).unwrap()
}

fn pixels(n: usize) -> Vec<f32> {
    let mut stream = Seed(2).stream("images", 0);
    (0..n * N_INPUTS).map(|_| stream.uniform()).collect()
}

/// Hidden weights and biases, output weights and biases.
fn arrays(net: &Net) -> [Vec<f32>; 4] {
    [0, 1, 2, 3].map(|k| net.parameters.list[k].values.clone())
}

fn asleep(net: &mut Net, params: &Params, n_copies: usize) {
    sleep::sleep(net, params, n_copies, (Seed(3), 7), &Workspaces::default());
}

/// The step function has no derivative to compare with; the gradient is compared with a plain
/// double loop over time written from the equations.
#[test]
fn the_gradient_is_that_of_the_unrolled_equations() {
    let params = Params { n_hidden: 8, n_steps: 7, ..Params::default() };
    let mut net = network(&params).trainer.net;
    for (k, factor) in [(0, 3.0), (2, 6.0)] {
        net.parameters.list[k].values.iter_mut().for_each(|w| *w *= factor);
    }
    net.forget_forms();
    let (h, c, n, n_steps) = (8, N_CLASSES, N_INPUTS, 7);
    let x = pixels(1);
    let (workspaces, label) = (Workspaces::default(), 1);
    let (outputs, trace) =
        net.forward(steady(&x, net.input, n_steps), Seed(0), 0, &workspaces).unwrap();
    let Evaluated { value: loss, gradient } = LOSS.evaluate(&outputs, n_steps, &[label as u16]);
    let (Gradients { list: gradients }, _) = net.backward(trace, gradient, false, &workspaces);
    let weights = arrays(&net);
    let w = |k: usize, i: usize| f64::from(weights[k][i]);
    let (mut m, mut o) = (vec![vec![0.0f64; h]; n_steps + 1], vec![vec![0.0f64; c]; n_steps + 1]);
    let s = |m: f64| f64::from(u8::from(m > 1.0));
    for t in 1..=n_steps {
        for j in 0..h {
            let drive: f64 = (0..n).map(|i| w(0, j * n + i) * f64::from(x[i])).sum();
            m[t][j] = 0.95 * m[t - 1][j] + drive + w(1, j) - s(m[t - 1][j]);
        }
        for k in 0..c {
            let drive: f64 = (0..h).map(|j| w(2, k * h + j) * s(m[t][j])).sum();
            o[t][k] = 0.95 * o[t - 1][k] + drive + w(3, k) - s(o[t - 1][k]);
        }
    }
    let softmax =
        |t: usize, k: usize| s(o[t][k]).exp() / (0..c).map(|k| s(o[t][k]).exp()).sum::<f64>();
    let per_step = 1.0 / n_steps as f64;
    let expected = per_step * (1..=n_steps).map(|t| -softmax(t, label).ln()).sum::<f64>();
    assert!((loss - expected).abs() < 1e-6, "{loss} against {expected}");
    let slope = |m: f64| 1.0 / (1.0 + (std::f64::consts::PI * (m - 1.0)).powi(2));
    // dL/do at step t gathers every later step's error, leaked back.
    let of_output = |t: usize, k: usize| -> f64 {
        (t..=n_steps)
            .map(|u| {
                let error = per_step * (softmax(u, k) - f64::from(u8::from(k == label)));
                0.95f64.powi((u - t) as i32) * error * slope(o[u][k])
            })
            .sum()
    };
    let of_hidden = |t: usize, j: usize| -> f64 {
        (t..=n_steps)
            .map(|u| {
                let back: f64 = (0..c).map(|k| w(2, k * h + j) * of_output(u, k)).sum();
                0.95f64.powi((u - t) as i32) * back * slope(m[u][j])
            })
            .sum()
    };
    let near = |found: f32, expected: f64| {
        assert!((f64::from(found) - expected).abs() < 1e-4 * expected.abs().max(0.1 * per_step));
    };
    assert!((0..h).any(|j| (1..=n_steps).any(|t| m[t][j] > 1.0)), "something spikes");
    assert!((0..c).any(|k| (1..n_steps).any(|t| o[t][k] > 1.0)), "an output is reset");
    for k in 0..c {
        near(gradients[3][k], (1..=n_steps).map(|t| of_output(t, k)).sum());
        for j in 0..h {
            let sum = (1..=n_steps).map(|t| of_output(t, k) * s(m[t][j])).sum();
            near(gradients[2][k * h + j], sum);
        }
    }
    for j in 0..h {
        let sum: f64 = (1..=n_steps).map(|t| of_hidden(t, j)).sum();
        near(gradients[1][j], sum);
        (0..n).for_each(|i| near(gradients[0][j * n + i], sum * f64::from(x[i])));
    }
}

/// The loss that is reported and learned from is the sum over the steps, the update Adam's.
#[test]
fn a_step_sums_the_loss_over_the_steps() {
    let params = Params { n_hidden: 8, sleep_ratio: 0.0, ..Params::default() };
    let (mut learner, twin) = (network(&params), network(&params));
    let inputs = Inputs::Images(Images::from_floats(Shape::flat(N_INPUTS), pixels(4)));
    let batch = Batch { inputs: &inputs, rows: &[0, 1, 2, 3], labels: &[0, 1, 2, 0] };
    let ctx = Ctx { seed: Seed(1), epoch: 0, step: 0, n_presented: 0, rate: 1.0 };
    let report = learner.step(&batch, &ctx).unwrap();
    let forward = twin.trainer.forward(&batch, &ctx).unwrap();
    let Evaluated { value, gradient } =
        LOSS.evaluate(&forward.outputs, params.n_steps, &forward.labels);
    assert!((report.loss - 4.0 * 25.0 * value).abs() < 1e-9 * report.loss);
    let (gradients, _) = twin.trainer.backward(forward.trace, gradient);
    let mut summed = 0;
    for (k, then) in arrays(&twin.trainer.net).iter().enumerate() {
        for ((now, then), g) in
            arrays(&learner.trainer.net)[k].iter().zip(then).zip(&gradients.list[k])
        {
            // Adam's first step: the rate times the gradient over its magnitude and ε.
            let g = 25.0 * f64::from(*g);
            let expected = f64::from(*then) - 5e-4 * g / (g.abs() + 1e-8);
            assert!((f64::from(*now) - expected).abs() < 1e-7, "{now} against {expected}");
            summed += usize::from(g != 0.0);
        }
    }
    assert!(summed > 8, "something is learned");
}

#[test]
fn sleep_follows_its_equations() {
    let params = Params {
        n_hidden: 8,
        n_steps: 9,
        tau: 4.0,
        a_plus: 0.3,
        a_minus: 0.5,
        sleep_learning_rate: 0.2,
        ..Params::default()
    };
    let mut net = network(&params).trainer.net;
    let [_, hidden_bias, mut w, output_bias] = arrays(&net);
    let (h, c, n_copies) = (8, N_CLASSES, 5);
    asleep(&mut net, &params, n_copies);
    let mut streams: Vec<_> = (0..n_copies as u64)
        .map(|copy| Seed(3).stream("sleep-surrogate.noise", 7 * (1 << 20) + copy))
        .collect();
    // Membranes and traces of both layers of each copy.
    let mut copies = vec![[vec![0.0f32; h], vec![0.0; c], vec![0.0; h], vec![0.0; c]]; n_copies];
    let decay = (-1.0f32 / 4.0).exp();
    let fires = |m: f32| f32::from(u8::from(m > 1.0));
    let (mut n_hidden_spikes, mut n_output_spikes) = (0.0, 0.0);
    for _ in 0..params.n_steps {
        let mut change = vec![0.0f32; c * h];
        for ([m, o, x, y], stream) in copies.iter_mut().zip(&mut streams) {
            let (mut of_hidden, mut of_output) = (vec![0.0; h], vec![0.0; c]);
            stream.normals(3.0, &mut of_hidden);
            for j in 0..h {
                m[j] += of_hidden[j] as f32;
                m[j] = 0.95 * m[j] + hidden_bias[j] - fires(m[j]);
                x[j] = decay * x[j] + fires(m[j]);
                n_hidden_spikes += fires(m[j]);
            }
            stream.normals(3.0, &mut of_output);
            for k in 0..c {
                o[k] += of_output[k] as f32;
                let drive: f32 = (0..h).map(|j| w[k * h + j] * fires(m[j])).sum();
                o[k] = 0.95 * o[k] + drive + output_bias[k] - fires(o[k]);
                y[k] = decay * y[k] + fires(o[k]);
                n_output_spikes += fires(o[k]);
                for j in 0..h {
                    change[k * h + j] += 0.3 * fires(o[k]) * x[j] - 0.5 * y[k] * fires(m[j]);
                }
            }
        }
        w.iter_mut().zip(change).for_each(|(w, d)| *w += 0.2 * d / n_copies as f32);
    }
    assert!(n_hidden_spikes > 20.0 && n_output_spikes > 10.0, "the noise makes it fire");
    for (now, learned) in arrays(&net)[2].iter().zip(&w) {
        let magnitude = 0.2 * (learned.abs() / 0.2).powf(0.999);
        let expected = magnitude.copysign(*learned);
        assert!((now - expected).abs() < 1e-5, "{now} against {expected}");
    }
}

#[test]
fn sleep_moves_both_matrices_toward_the_target_and_keeps_signs() {
    let params = Params { n_hidden: 8, sleep_learning_rate: 0.0, ..Params::default() };
    let mut net = network(&params).trainer.net;
    let before = arrays(&net);
    asleep(&mut net, &params, 5);
    let after = arrays(&net);
    assert_eq!((&after[1], &after[3]), (&before[1], &before[3]));
    for k in [0, 2] {
        for (now, then) in after[k].iter().zip(&before[k]) {
            let expected = 0.2 * libm::pow(f64::from(then.abs()) / 0.2, 0.999);
            assert!((f64::from(now.abs()) - expected).abs() < 1e-7);
            assert_eq!(now.is_sign_positive(), then.is_sign_positive());
        }
    }
}

#[test]
fn sleep_comes_after_every_so_many_batches() {
    let period = |sleep_ratio| Params { sleep_ratio, ..Params::default() }.period();
    assert_eq!(
        [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 1.0].map(period),
        [None, Some(10), Some(5), Some(3), Some(2), Some(2), Some(1), Some(1),]
    );
    let inputs = Inputs::Images(Images::from_floats(Shape::flat(N_INPUTS), pixels(4)));
    let batch = Batch { inputs: &inputs, rows: &[0, 1, 2, 3], labels: &[0, 1, 2, 0] };
    let after = |sleep_ratio, step| {
        let mut learner = network(&Params { n_hidden: 8, sleep_ratio, ..Params::default() });
        let ctx = Ctx { seed: Seed(1), epoch: 0, step, n_presented: 0, rate: 1.0 };
        learner.step(&batch, &ctx).unwrap();
        arrays(&learner.trainer.net)
    };
    assert_eq!(after(0.0, 3), after(0.2, 3));
    assert_ne!(after(0.0, 4), after(0.2, 4));
}
