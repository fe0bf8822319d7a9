//! Reads the published data sets in a folder and compares what comes out with what is known of
//! them: labels per class, mean pixel, checksums of the official CIFAR-10 records.
//!
//! `cargo run --release --example published_data -- DIR`; a set that is not there is an error.

use sha2::{Digest, Sha256};
use spiketrain::Pixels;
use spiketrain::data::{Data, DataDirs, Dataset, Split};
use std::path::PathBuf;

/// Panics where a set differs from what is published of it.
type Check = fn(&Dataset);

fn main() {
    let Some(root) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("name the folder of the data sets");
        std::process::exit(2);
    };
    let checks: [(&str, Check); 4] = [
        ("mnist", mnist),
        ("fashion-mnist", fashion_mnist),
        ("cifar10", cifar10),
        ("natural", natural),
    ];
    for (name, check) in checks {
        let data = Data::named(name, None).expect("a known set");
        match data.load(&DataDirs::new(Some(root.clone()))) {
            Ok(data) => check(&data),
            Err(error) => {
                eprintln!("{error}");
                std::process::exit(3);
            }
        }
        println!("{name}: as published");
    }
}

fn bytes(split: &Split) -> &[u8] {
    match &split.images.pixels {
        Pixels::Bytes(bytes) => bytes,
        Pixels::Counts(_) | Pixels::Floats(_) => panic!("expected bytes"),
    }
}

fn per_class(split: &Split) -> Vec<usize> {
    (0..10).map(|c| split.labels.iter().filter(|&&l| l == c).count()).collect()
}

/// Mean of the pixels, 255 being 1.
fn mean(split: &Split) -> f64 {
    let pixels = bytes(split);
    pixels.iter().map(|&b| u64::from(b)).sum::<u64>() as f64 / (255.0 * pixels.len() as f64)
}

fn mnist(data: &Dataset) {
    let train = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949];
    let test = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009];
    assert_eq!(per_class(&data.train), train);
    assert_eq!(per_class(&data.test), test);
    assert!((mean(&data.train) - 0.13066).abs() < 1e-5, "{}", mean(&data.train));
}

fn fashion_mnist(data: &Dataset) {
    assert_eq!((per_class(&data.train), per_class(&data.test)), (vec![6000; 10], vec![1000; 10]));
    assert!((mean(&data.train) - 0.28604).abs() < 1e-5, "{}", mean(&data.train));
}

/// Written out again as records, the images must be the six official files, whichever of the
/// layouts they were read from.
fn cifar10(data: &Dataset) {
    let published = [
        "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
        "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
        "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
        "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
        "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    ];
    let mut sums = Vec::new();
    for split in [&data.train, &data.test] {
        let files = split.labels.chunks(10_000).zip(bytes(split).chunks(10_000 * 3072));
        for (labels, pixels) in files {
            let mut hash = Sha256::new();
            for (&label, pixels) in labels.iter().zip(pixels.chunks(3072)) {
                hash.update([label as u8]);
                hash.update(pixels);
            }
            sums.push(hash.finalize().iter().map(|b| format!("{b:02x}")).collect::<String>());
        }
    }
    assert_eq!(sums, published);
}

fn natural(data: &Dataset) {
    assert_eq!((data.shape.height, data.shape.width, data.shape.channels), (512, 512, 1));
    assert!(
        data.train.labels.is_empty() && data.classes.is_empty() && !data.test.images.is_empty()
    );
    // Photographs are neither black nor white, whatever else they are.
    assert!((0.1..0.9).contains(&mean(&data.train)), "{}", mean(&data.train));
}
