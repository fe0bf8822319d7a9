//! Evaluates a network that was released with the authors' program, `google/ihmehimmeli`, folder
//! `tempcoding/networks`, on the test images of MNIST:
//!
//! ```sh
//! cargo run --release --example released_classifier -- slow_network DATA_DIR 0.181769
//! ```
//!
//! The last argument is the decay rate K, which the file does not hold. The file is text: a tag,
//! the threshold, the number of layers, their sizes, the number of pulses, the pulse times of every
//! layer, and the weights `[layer][neuron][sender, then pulse]`.

use spiketrain::data::{Data, DataDirs, Limits};
use spiketrain::encode::Encoder;
use spiketrain::methods::temporal_autoencoder::network::Network;
use spiketrain::times::alpha::Neuron;
use spiketrain::{Error, Result, Seed};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, dir, decay] = args.as_slice() else {
        return Err(Error::recipe("expected a network file, a data folder and a decay rate"));
    };
    let text = std::fs::read_to_string(file).map_err(|e| Error::io("reading", file.as_ref(), e))?;
    let decay = decay.parse().map_err(|_| Error::recipe(format!("decay rate {decay:?}")))?;
    let network = read(&text, decay).ok_or_else(|| Error::data(format!("{file}: no network")))?;
    let data = Data::Mnist(Limits::default()).load(&DataDirs::new(Some(dir.into())))?;
    let encoder = Encoder::PixelLatency(Default::default());
    let mut tick = |_, _| Ok(());
    let encoder = encoder.fit(&data.test.images, Seed(0), &mut tick)?;
    let inputs = encoder.encode(&data.test.images, &mut tick)?;
    let mut activity = network.activity();
    let (mut n_right, mut sum_of_times) = (0, 0.0);
    for (sample, &label) in data.test.labels.iter().enumerate() {
        let events = inputs.as_times().sample(sample);
        let spikes: Vec<(f64, u32)> =
            events.iter().map(|(n, t)| (f64::from(t), n as u32)).collect();
        network.forward(&spikes, &mut activity);
        let outputs = 0..network.n_neurons(1);
        let first = outputs.map(|n| (activity.time(1, n), n)).min_by(|a, b| a.0.total_cmp(&b.0));
        let (time, class) = first.expect("there are outputs");
        n_right += usize::from(time.is_finite() && class == usize::from(label));
        sum_of_times += if time.is_finite() { time } else { 0.0 };
    }
    let n = data.test.labels.len() as f64;
    println!(
        "accuracy {:.4}, mean time of the first spike {:.3}",
        n_right as f64 / n,
        sum_of_times / n
    );
    Ok(())
}

/// The network of a file, if it is one with a single hidden layer.
fn read(text: &str, decay: f64) -> Option<Network> {
    let numbers = text.split_whitespace().filter_map(|w| w.parse::<f64>().ok());
    let mut numbers = numbers.collect::<Vec<f64>>().into_iter();
    let threshold = numbers.next()?;
    let n_layers = numbers.next()? as usize;
    let sizes: Vec<usize> = numbers.by_ref().take(n_layers).map(|n| n as usize).collect();
    let n_pulses = numbers.next()? as usize;
    let mut take = |n: usize| numbers.by_ref().take(n).collect::<Vec<f64>>();
    let mut pulses: Vec<Vec<f64>> = (0..n_layers).map(|_| take(n_pulses)).collect();
    pulses.pop()?;
    let weights: Vec<Vec<f64>> = sizes.windows(2).map(|n| take((n[0] + n_pulses) * n[1])).collect();
    let is_whole = sizes.windows(2).zip(&weights).all(|(n, w)| w.len() == (n[0] + n_pulses) * n[1]);
    let is_whole = is_whole && sizes.len() == 3 && pulses.iter().all(|p| p.len() == n_pulses);
    is_whole.then(|| Network::new(Neuron { decay, threshold }, &sizes, &weights, &pulses))
}
