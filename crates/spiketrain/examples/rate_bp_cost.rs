//! Time and memory of a training step by rate-based backpropagation, in both modes, beside
//! backpropagation through time: the same network, weights and images. Every case is a process of
//! its own, so that its peak memory is its own; the weights stay, so that all see the same firing
//! rates. Prints a table of processor milliseconds a step and peak megabytes, and the ratios to
//! backpropagation through time. Both are read from `/proc`, so this runs on Linux alone.
//!
//!     RAYON_NUM_THREADS=1 cargo run --release --example rate_bp_cost [s|small] [T...]
//!
//! `s` is network S on 32 images of 3×32×32, `small` the network of `rate-bp-mnist` on 64 images
//! of 1×28×28.

use spiketrain::frames::network::Network;
use spiketrain::learner::{Batch, Ctx, Learner, Task};
use spiketrain::methods::bptt::{self, Bptt};
use spiketrain::methods::rate_bp::{self, Mode, RateBp};
use spiketrain::{Images, Inputs, Notation, Seed, Shape};
use std::error::Error;
use std::process::Command;

const METHODS: [&str; 3] = ["bptt", "multi-step", "single-step"];
/// Steps that are measured in a process, after one that is not.
const N_MEASURED: usize = 3;
/// Times every case is run, one case after the other.
const N_ROUNDS: usize = 3;

/// What one process measured.
#[derive(Clone, Copy)]
struct Cost {
    /// Processor milliseconds a step.
    time: f64,
    /// Peak megabytes.
    memory: f64,
}

/// Processor nanoseconds of all threads of this process.
fn processor_nanoseconds() -> Result<f64, Box<dyn Error>> {
    let mut total = 0.0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let of_task = std::fs::read_to_string(task?.path().join("schedstat"))?;
        total += of_task.split_whitespace().next().ok_or("an empty schedstat")?.parse::<f64>()?;
    }
    Ok(total)
}

/// Peak memory in megabytes.
fn peak_megabytes() -> Result<f64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|l| l.starts_with("VmHWM")).ok_or("no VmHWM")?;
    Ok(line.split_whitespace().nth(1).ok_or("an empty VmHWM")?.parse::<f64>()? / 1024.0)
}

fn learner(method: &str, network: Network, n_steps: usize, task: &Task) -> Box<dyn Learner> {
    let mode = match method {
        "multi-step" => Mode::MultiStep,
        "single-step" => Mode::SingleStep,
        _ => {
            let params = bptt::Params { n_steps, network, ..Default::default() };
            return Box::new(Bptt::new(&params, task).expect("a valid task"));
        }
    };
    let params = rate_bp::Params { n_steps, mode, network, ..Default::default() };
    Box::new(RateBp::new(&params, task).expect("a valid task"))
}

/// Network, images and their number.
fn setting(network: &str) -> Result<(Network, Shape, usize), Box<dyn Error>> {
    match network {
        "s" => Ok((Network::NetworkS(Default::default()), Shape::new(3, 32, 32), 32)),
        "small" => Ok((Network::SmallConv(Default::default()), Shape::new(1, 28, 28), 64)),
        other => Err(format!("{other} is neither s nor small").into()),
    }
}

/// One case in this process.
fn measure(method: &str, network: &str, n_steps: usize) -> Result<Cost, Box<dyn Error>> {
    let (network, shape, n_samples) = setting(network)?;
    let mut stream = Seed(1).stream("example.images", 0);
    let values = (0..n_samples * shape.len()).map(|_| stream.normal(0.0, 1.0) as f32).collect();
    let inputs = Inputs::Images(Images::from_floats(shape, values));
    let labels: Vec<u16> = (0..n_samples).map(|i| (i % 10) as u16).collect();
    let rows: Vec<usize> = (0..n_samples).collect();
    let batch = Batch { inputs: &inputs, rows: &rows, labels: &labels };
    let (notation, seed) = (Notation::Images, Seed(0));
    let task = Task { shape, notation, n_classes: 10, n_train: n_samples, seed };
    let mut learner = learner(method, network, n_steps, &task);
    let ctx = Ctx { seed, epoch: 0, step: 0, n_presented: 0, rate: 0.0 };
    learner.step(&batch, &ctx)?;
    let mut times = Vec::with_capacity(N_MEASURED);
    for _ in 0..N_MEASURED {
        let start = processor_nanoseconds()?;
        learner.step(&batch, &ctx)?;
        times.push((processor_nanoseconds()? - start) / 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok(Cost { time: times[N_MEASURED / 2], memory: peak_megabytes()? })
}

/// One case in a process of its own.
fn spawn(method: &str, network: &str, n_steps: usize) -> Result<Cost, Box<dyn Error>> {
    let output = Command::new(std::env::current_exe()?)
        .args(["case", method, network, &n_steps.to_string()])
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let numbers: Vec<f64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    match numbers[..] {
        [time, memory] => Ok(Cost { time, memory }),
        _ => Err(format!("{method}: {}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// The least of all rounds: other work on the machine only adds.
fn least(costs: &[[Cost; METHODS.len()]], method: usize) -> Cost {
    let min = |of: fn(&Cost) -> f64| costs.iter().map(|c| of(&c[method])).fold(f64::MAX, f64::min);
    Cost { time: min(|c| c.time), memory: min(|c| c.memory) }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [case, method, network, n_steps] = &args[..]
        && case == "case"
    {
        let Cost { time, memory } = measure(method, network, n_steps.parse()?)?;
        println!("{time} {memory}");
        return Ok(());
    }
    let network = args.first().map_or("s", String::as_str);
    setting(network)?;
    let mut steps: Vec<usize> = args.iter().skip(1).map(|t| t.parse()).collect::<Result<_, _>>()?;
    if steps.is_empty() {
        steps = vec![1, 2, 4, 8, 16];
    }
    println!("| T | bptt: ms, MB | multi-step: ms, MB | single-step: ms, MB | time | memory |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for n_steps in steps {
        let mut rounds = Vec::new();
        for _ in 0..N_ROUNDS {
            let mut costs = [Cost { time: 0.0, memory: 0.0 }; METHODS.len()];
            for (cost, method) in costs.iter_mut().zip(METHODS) {
                *cost = spawn(method, network, n_steps)?;
            }
            rounds.push(costs);
        }
        let [time, multi, single] = [0, 1, 2].map(|m| least(&rounds, m));
        let cell = |c: Cost| format!("{:.1}, {:.0}", c.time, c.memory);
        let ratios = |of: fn(Cost) -> f64| {
            format!("{:.2}, {:.2}", of(multi) / of(time), of(single) / of(time))
        };
        println!(
            "| {n_steps} | {} | {} | {} | {} | {} |",
            cell(time),
            cell(multi),
            cell(single),
            ratios(|c| c.time),
            ratios(|c| c.memory),
        );
    }
    Ok(())
}
