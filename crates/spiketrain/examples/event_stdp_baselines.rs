//! Event-based STDP beside two classical coders of the same patches: vector quantisation by
//! k-means, and sparse coding with a LASSO dictionary.
//!
//! ```text
//! cargo run --release -p spiketrain --example event_stdp_baselines            # bundled digits
//! cargo run --release -p spiketrain --example event_stdp_baselines DATA_DIR   # and natural images
//! ```
//!
//! All three learn from the same images and code the same test patches with as many units. The
//! LASSO dictionary alternates codes (coordinate descent) and the least-squares dictionary (K.
//! Engan, S. O. Aase, J. H. Husøy, "Method of optimal directions for frame design", ICASSP 1999).
//! It prints tables: root-mean-square error of single patches and of images put together from all
//! overlapping patches; the share of units that are not silent for a patch; Treves–Rolls activity.

use linfa::DatasetBase;
use linfa::prelude::{Fit, Predict};
use linfa_clustering::KMeans;
use linfa_elasticnet::ElasticNet;
use nalgebra::DMatrix;
use ndarray::{Array1, Array2, Axis};
use spiketrain::data::{Data, DataDirs, Limits, natural};
use spiketrain::encode::FitEncoder;
use spiketrain::encode::whiten;
use spiketrain::learner::{Batch, Ctx, Learner, Metrics, Task};
use spiketrain::methods::event_stdp::{Code, Decoder, EventStdp, Params, Sampling};
use spiketrain::{Images, Inputs, Notation, Result, Seed, Shape, metrics};

/// Rounds of codes and dictionary.
const N_ROUNDS: usize = 12;
/// Digit patches the dictionary learns from, and natural ones.
const N_DICTIONARY: [usize; 2] = [3000, 1000];

fn main() -> Result<()> {
    digits()?;
    if let Some(dir) = std::env::args().nth(1) {
        natural_images(DataDirs::new(Some(dir.into())))?;
    }
    Ok(())
}

/// One line of a table.
fn line(name: &str, patch_rms: f64, image_rms: Option<f64>, active: f64, treves_rolls: f64) {
    let image = image_rms.map_or("–".to_owned(), |x| format!("{x:.3}"));
    println!("| {name} | {patch_rms:.3} | {image} | {active:.3} | {treves_rolls:.3} |");
}

fn head(title: &str) {
    println!("\n{title}\n");
    println!("| coder | patch RMS | image RMS | active units | Treves–Rolls |");
    println!("| --- | --- | --- | --- | --- |");
}

/// Patches as rows, and the code of each by one coder.
struct Coded {
    reconstructions: Array2<f64>,
    codes: Array2<f64>,
}

impl Coded {
    fn patch_rms(&self, patches: &Array2<f64>) -> f64 {
        let difference = patches - &self.reconstructions;
        let rms = |row: ndarray::ArrayView1<'_, f64>| (row.mapv(|x| x * x).mean().unwrap()).sqrt();
        difference.map_axis(Axis(1), rms).mean().expect("patches")
    }

    fn active(&self) -> f64 {
        self.codes.mapv(|a| f64::from(u8::from(a != 0.0))).mean().expect("codes")
    }

    fn treves_rolls(&self) -> f64 {
        let of_row = |row: ndarray::ArrayView1<'_, f64>| {
            let sum = row.mapv(f64::abs).sum();
            let squares = row.mapv(|a| a * a).sum();
            if squares > 0.0 { Some(sum * sum / (squares * row.len() as f64)) } else { None }
        };
        let values: Vec<f64> = self.codes.outer_iter().filter_map(of_row).collect();
        values.iter().sum::<f64>() / values.len().max(1) as f64
    }
}

/// Codes `test` by the nearest of `n_units` centroids of `train`.
fn vector_quantisation(train: &Array2<f64>, test: &Array2<f64>, n_units: usize) -> Coded {
    let data = DatasetBase::from(train.clone());
    let model =
        KMeans::params(n_units).n_runs(1).max_n_iterations(60).fit(&data).expect("centroids");
    let labels: Array1<usize> = model.predict(test);
    let mut codes = Array2::zeros((test.nrows(), n_units));
    labels.iter().enumerate().for_each(|(i, &k)| codes[[i, k]] = 1.0);
    Coded { reconstructions: codes.dot(model.centroids()), codes }
}

/// LASSO codes of `patches` in the dictionary `atoms[[unit, input]]`.
fn lasso(atoms: &Array2<f64>, patches: &Array2<f64>, penalty: f64) -> Array2<f64> {
    let design = atoms.t().to_owned();
    let mut codes = Array2::zeros((patches.nrows(), atoms.nrows()));
    for (i, patch) in patches.outer_iter().enumerate() {
        let data = DatasetBase::new(design.clone(), patch.to_owned());
        let params = ElasticNet::params().penalty(penalty).l1_ratio(1.0).with_intercept(false);
        let fitted = params.max_iterations(500).tolerance(1e-3).fit(&data).expect("codes");
        codes.row_mut(i).assign(fitted.hyperplane());
    }
    codes
}

/// Codes `test` in a dictionary of `n_units` atoms of unit length learned from `train`.
fn sparse_coding(train: &Array2<f64>, test: &Array2<f64>, n_units: usize, penalty: f64) -> Coded {
    let d = train.ncols();
    let mut stream = Seed(0).stream("baselines.atoms", 0);
    let mut atoms = Array2::from_shape_fn((n_units, d), |_| stream.normal(0.0, 1.0));
    let normalise = |atoms: &mut Array2<f64>| {
        for mut atom in atoms.outer_iter_mut() {
            let norm = atom.dot(&atom).sqrt().max(1e-9);
            atom /= norm;
        }
    };
    normalise(&mut atoms);
    for _ in 0..N_ROUNDS {
        let codes = lasso(&atoms, train, penalty);
        // The least-squares dictionary: (AᵀA) D = AᵀX.
        let gram = codes.t().dot(&codes);
        let right = codes.t().dot(train);
        let ridge = |i, j| gram[[i, j]] + if i == j { 1e-6 } else { 0.0 };
        let gram = DMatrix::from_fn(n_units, n_units, ridge);
        let right = DMatrix::from_fn(n_units, d, |i, j| right[[i, j]]);
        let solved = gram.cholesky().expect("a positive matrix").solve(&right);
        for i in 0..n_units {
            // An atom that no patch uses stays as it is.
            if codes.column(i).iter().any(|a| *a != 0.0) {
                (0..d).for_each(|j| atoms[[i, j]] = solved[(i, j)]);
            }
        }
        normalise(&mut atoms);
    }
    let codes = lasso(&atoms, test, penalty);
    Coded { reconstructions: codes.dot(&atoms), codes }
}

/// The rows `rows` of `all`.
fn pick(all: &Array2<f64>, n: usize) -> Array2<f64> {
    let mut rows: Vec<usize> = (0..all.nrows()).collect();
    Seed(0).stream("baselines.rows", 0).shuffle(&mut rows);
    rows.truncate(n);
    all.select(Axis(0), &rows)
}

fn event_stdp(params: &Params, train: &Inputs, test: &Inputs, n_epochs: u64) -> Result<Metrics> {
    let task = Task {
        shape: train.shape(),
        notation: Notation::Images,
        n_classes: 0,
        n_train: train.len(),
        seed: Seed(0),
    };
    let mut learner = EventStdp::new(params, &task)?;
    let rows: Vec<usize> = (0..train.len()).collect();
    for epoch in 0..n_epochs {
        let n_presented = epoch * train.len() as u64;
        let ctx = Ctx { seed: Seed(0), epoch, step: epoch, n_presented, rate: 1.0 };
        learner.step(&Batch { inputs: train, rows: &rows, labels: &[] }, &ctx)?;
    }
    let rows: Vec<usize> = (0..test.len()).collect();
    let predictions = learner.predict(&Batch { inputs: test, rows: &rows, labels: &[] })?;
    Ok(metrics::evaluate(&predictions, &[], 0).metrics)
}

/// 5×5 patches of the bundled digits, 32 units, 100 training and 40 test images.
fn digits() -> Result<()> {
    let limits = Limits { n_train: Some(100), n_test: Some(40), ..Limits::default() };
    let data = Data::MnistMini(limits).load(&DataDirs::new(None))?;
    let (train, _) = digit_patches(&data.train.images);
    let (test, places) = digit_patches(&data.test.images);
    let n_units = 32;
    head("Digits: 5×5 patches, 32 units");
    let images = |coded: &Coded| image_rms(&data.test.images, &places, &coded.reconstructions);
    let report = |name: &str, coded: &Coded| {
        let (active, sparsity) = (coded.active(), coded.treves_rolls());
        line(name, coded.patch_rms(&test), Some(images(coded)), active, sparsity);
    };
    report("k-means", &vector_quantisation(&pick(&train, 20_000), &test, n_units));
    for penalty in [0.02, 0.05] {
        let coded = sparse_coding(&pick(&train, N_DICTIONARY[0]), &test, n_units, penalty);
        report(&format!("LASSO dictionary, penalty {penalty}"), &coded);
    }
    let (train, test) =
        (Inputs::Images(data.train.images), Inputs::Images(data.test.images.clone()));
    for (name, exact_distance) in [("event-STDP", false), ("event-STDP, exact distance", true)] {
        let params = Params { exact_distance, ..Params::default() };
        let m = event_stdp(&params, &train, &test, 1)?;
        let (patch, image) = (m["patch_rms"], Some(m["d1_overlap_rms"]));
        line(name, patch, image, m["active_neurons"], m["treves_rolls"]);
    }
    Ok(())
}

/// All 5×5 patches with ink around the pixels of `images`, as rows, and where each lies.
fn digit_patches(images: &Images) -> (Array2<f64>, Vec<(usize, isize, isize)>) {
    let (mut values, mut places) = (Vec::new(), Vec::new());
    let mut image = vec![0.0; 784];
    for i in 0..images.len() {
        images.read(i, &mut image);
        for y in 0..28isize {
            for x in 0..28isize {
                let pixel = |k: isize| {
                    let (r, c) = (y + k / 5 - 2, x + k % 5 - 2);
                    let is_inside = (0..28).contains(&r) && (0..28).contains(&c);
                    if is_inside { f64::from(image[(r * 28 + c) as usize]) } else { 0.0 }
                };
                let patch: Vec<f64> = (0..25).map(pixel).collect();
                if patch.iter().any(|v| *v > 0.0) {
                    values.extend(patch);
                    places.push((i, y, x));
                }
            }
        }
    }
    (Array2::from_shape_vec((places.len(), 25), values).expect("whole patches"), places)
}

/// Mean over the images of the error of the mean of all overlapping patches.
fn image_rms(images: &Images, places: &[(usize, isize, isize)], patches: &Array2<f64>) -> f64 {
    let mut sums = vec![0.0; 784 * images.len()];
    for (&(i, y, x), patch) in places.iter().zip(patches.outer_iter()) {
        for (k, v) in patch.iter().enumerate() {
            let (r, c) = (y + k as isize / 5 - 2, x + k as isize % 5 - 2);
            if (0..28).contains(&r) && (0..28).contains(&c) {
                sums[784 * i + (r * 28 + c) as usize] += v;
            }
        }
    }
    // So many patches have their centre inside the image and cover a row (or column).
    let covers = |k: usize| (0..28).filter(|&c: &usize| c.abs_diff(k) <= 2).count() as f64;
    let mut image = vec![0.0; 784];
    let mut total = 0.0;
    for i in 0..images.len() {
        images.read(i, &mut image);
        let target: Vec<f64> = image.iter().map(|&v| f64::from(v)).collect();
        let mean = |k: usize| sums[784 * i + k] / (covers(k / 28) * covers(k % 28));
        total += metrics::rms(&(0..784).map(mean).collect::<Vec<f64>>(), &target);
    }
    total / images.len() as f64
}

/// 16×16 patches of whitened natural images, 64 units, 2,000 training and 400 test patches.
fn natural_images(dirs: DataDirs) -> Result<()> {
    let data = Data::Natural(natural::Params::default()).load(&dirs)?;
    let patches = |images: &Images, n: usize| -> Result<Images> {
        let encoder = whiten::Params::default().fit(images, Seed(0), &mut |_, _| Ok(()))?;
        let whitened = encoder.encode(images, &mut |_, _| Ok(()))?;
        Ok(natural_patches(whitened.as_images(), n))
    };
    let (train, test) = (patches(&data.train.images, 2000)?, patches(&data.test.images, 400)?);
    let n_units = 64;
    let contrast = 3.0;
    // Signed values around 0 on the scale of probabilities.
    let rows = |images: &Images| {
        let mut patch = vec![0.0; 256];
        let mut values = Vec::new();
        for i in 0..images.len() {
            images.read(i, &mut patch);
            values
                .extend(patch.iter().map(|&z| (f64::from(z) / (2.0 * contrast)).clamp(-0.5, 0.5)));
        }
        Array2::from_shape_vec((images.len(), 256), values).expect("whole patches")
    };
    let (train_rows, test_rows) = (rows(&train), rows(&test));
    head("Whitened natural images: 16×16 patches, 64 units");
    let report = |name: &str, coded: &Coded| {
        line(name, coded.patch_rms(&test_rows), None, coded.active(), coded.treves_rolls());
    };
    let (reconstructions, codes) = (Array2::zeros(test_rows.dim()), Array2::zeros((400, 64)));
    line("constant ½", Coded { reconstructions, codes }.patch_rms(&test_rows), None, 0.0, 0.0);
    report("k-means", &vector_quantisation(&train_rows, &test_rows, n_units));
    for penalty in [0.0005, 0.001] {
        let coded =
            sparse_coding(&pick(&train_rows, N_DICTIONARY[1]), &test_rows, n_units, penalty);
        report(&format!("LASSO dictionary, penalty {penalty}"), &coded);
    }
    let params = Params {
        neurons: n_units,
        patch: 16,
        code: Code::OnOff,
        sampling: Sampling::Random,
        patches_per_image: 1,
        border: 0,
        min_deviation: 0.0,
        stride: 8,
        threshold: 0.25,
        threshold_rate: 1e-4,
        homeostasis: 0.01,
        decoder: Decoder::Vq,
        ..Params::default()
    };
    let m = event_stdp(&params, &Inputs::Images(train), &Inputs::Images(test), 10)?;
    line("event-STDP, on-off", m["patch_rms"], None, m["active_neurons"], m["treves_rolls"]);
    Ok(())
}

/// `n` patches at random places, 10 pixels from the border, with at least 0.3 of the deviation.
fn natural_patches(images: &Images, n: usize) -> Images {
    let Shape { height, width, .. } = images.shape;
    let mut stream = Seed(0).stream("baselines.places", images.len() as u64);
    let mut image = vec![0.0f32; images.shape.len()];
    let mut values = Vec::new();
    while values.len() < n * 256 {
        images.read(values.len() / 256 % images.len(), &mut image);
        let top = 10 + stream.below(height as u32 - 35) as usize;
        let left = 10 + stream.below(width as u32 - 35) as usize;
        let pixel = |k: usize| image[(top + k / 16) * width + left + k % 16];
        let patch: Vec<f32> = (0..256).map(pixel).collect();
        let mean = patch.iter().sum::<f32>() / 256.0;
        let variance = patch.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / 256.0;
        if variance.sqrt() >= 0.3 {
            values.extend(patch);
        }
    }
    Images::from_floats(Shape::new(1, 16, 16), values)
}
