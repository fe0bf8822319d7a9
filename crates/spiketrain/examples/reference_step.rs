//! The training step of `benches/reference/networks.py` in this library, from the weights, images
//! and labels that script saved: the same losses, to be compared in speed and memory. Prints the
//! same line of JSON. Processor time and memory are read from `/proc`, so elsewhere than on Linux
//! they are null.
//!
//!     cargo run --release --example reference_step FILE [s|vgg9|s-max|vgg9-max] [STEPS] [train|infer]
//!         [THRESHOLD]
//!
//! Threads are rayon's: RAYON_NUM_THREADS.

use spiketrain::frames::loss::Loss;
use spiketrain::frames::net::{Net, steady};
use spiketrain::frames::network::{Common, LayerSpec, Network, Plain, Vgg9};
use spiketrain::frames::neuron;
use spiketrain::frames::norm::NormKind;
use spiketrain::frames::optimizer::{Group, Optimizer, Settings};
use spiketrain::frames::shards::Workspaces;
use spiketrain::{Seed, Shape};
use std::time::Instant;

/// Processor seconds of this process.
fn processor_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / 100.0)
}

/// Time of steps, without the first two.
#[derive(Default)]
struct Time {
    processor: Vec<Option<f64>>,
    wall: Vec<f64>,
    clock: Option<Instant>,
}

impl Time {
    fn start(&mut self) {
        self.processor.push(processor_seconds());
        self.clock = Some(Instant::now());
    }

    fn stop(&mut self) {
        self.wall.push(self.clock.expect("a step was started").elapsed().as_secs_f64());
        self.processor.push(processor_seconds());
    }

    /// Mean, since the system counts in hundredths of a second.
    fn processor(&self) -> Option<f64> {
        let ends = self.processor.last()?.as_ref().zip(self.processor.get(4)?.as_ref())?;
        Some((ends.0 - ends.1) / (self.wall.len() - 2) as f64)
    }

    /// Median.
    fn wall(&self) -> Option<f64> {
        let mut wall = self.wall.get(2..)?.to_vec();
        wall.sort_by(f64::total_cmp);
        wall.get(wall.len() / 2).copied()
    }
}

/// Peak memory in megabytes.
fn peak_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}

/// One array of the file.
fn array(file: &safetensors::SafeTensors<'_>, name: &str) -> Vec<f32> {
    let view = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: reference_step FILE [NETWORK] [STEPS] [train|infer] [THRESHOLD]";
    let path = args.next().ok_or(usage)?;
    let name = args.next().unwrap_or_else(|| "s".into());
    let (kind, largest) = name.strip_suffix("-max").map_or((&*name, false), |kind| (kind, true));
    let network = match kind {
        "s" => Network::NetworkS(Plain { bias: true }),
        "vgg9" => Network::Vgg9(Vgg9 { dropout: 0.0, vote: 10, bias: true }),
        other => return Err(format!("{other} is neither s nor vgg9").into()),
    };
    let n_steps: usize = args.next().map_or(Ok(4), |s| s.parse())?;
    let trains = args.next().as_deref() != Some("infer");
    let threshold: f32 = args.next().map_or(Ok(1.0), |s| s.parse())?;

    let bytes = std::fs::read(path)?;
    let file = safetensors::SafeTensors::deserialize(&bytes)?;
    let (images, labels) = (array(&file, "images"), array(&file, "labels"));
    let shape = Shape::new(3, 32, 32);
    let batch = file.tensor("images")?.shape()[1];
    let (neuron, norm) =
        (neuron::Params { threshold, ..neuron::Params::default() }, NormKind::BatchNorm {});
    let common = Common { n_steps, neuron, norm, seed: Seed(0) };
    let mut description = network.description(10);
    if largest {
        for layer in &mut description.layers {
            if let LayerSpec::AveragePool(pool) = layer {
                *layer = LayerSpec::MaxPool(pool.clone());
            }
        }
    }
    let mut net = Net::new(&description, shape, &common)?;
    for (i, parameter) in net.parameters.list.iter_mut().enumerate() {
        parameter.values.copy_from_slice(&array(&file, &format!("parameter{i:02}")));
    }
    net.forget_forms();
    drop(bytes);

    let settings = Settings::Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 0.0 };
    let group = |_: &_| Group { learning_rate: 0.1, weight_decay: 0.0 };
    let mut optimizer = Optimizer::new(settings, &net.parameters, group);
    let (workspaces, before) = (Workspaces::default(), peak_mb());
    let batches = images.chunks_exact(batch * shape.len()).zip(labels.chunks_exact(batch));
    let mut losses = Vec::new();
    let mut time = Time::default();
    for (images, labels) in batches.clone() {
        let labels: Vec<u16> = labels.iter().map(|&l| l as u16).collect();
        time.start();
        let input = steady(images, shape, n_steps);
        let (outputs, trace) = net.forward(input, Seed(0), 0, &workspaces)?;
        let loss = Loss::CrossEntropy {}.evaluate(&outputs, n_steps, &labels);
        net.update_running(&trace.notes);
        let (gradients, _) = net.backward(trace, loss.gradient, false, &workspaces);
        optimizer.step(&mut net.parameters, &gradients, 1.0);
        gradients.recycle(&workspaces);
        net.forget_forms();
        time.stop();
        losses.push((loss.value * 1e5).round() / 1e5);
    }
    let mut spikes = Vec::new();
    if !trains {
        time = Time::default();
        for (images, _) in batches {
            time.start();
            let (_, notes) = net.evaluate(steady(images, shape, n_steps), &workspaces)?;
            time.stop();
            spikes = notes.activity.iter().map(|a| (a.rate * 1e3).round() / 1e3).collect();
        }
    }
    let line = serde_json::json!({
        "framework": "spiketrain",
        "steps": n_steps,
        "batch": batch,
        "inference": !trains,
        "losses": losses,
        "processor_seconds": time.processor(),
        "wall_seconds": time.wall(),
        "spikes": spikes,
        "peak_mb": peak_mb().map(f64::round),
        "above_data_mb": peak_mb().zip(before).map(|(peak, before)| (peak - before).round()),
    });
    println!("{line}");
    Ok(())
}
