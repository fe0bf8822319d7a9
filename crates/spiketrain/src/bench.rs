//! Throughput of a whole method: encoding, training and evaluation in samples a second.
//!
//! The same recipe runs on the same first samples once for every number of threads asked for, in
//! one call, so that ratios mean something on a machine whose speed varies. Nothing is written.

use crate::data::{DataDirs, Dataset, Split};
use crate::error::{Error, Result};
use crate::learner::{Batch, Ctx, Learner};
use crate::recipe::Recipe;
use crate::seed::Seed;
use crate::spikes::Inputs;
use crate::train::{learner, on_threads};
use serde::Serialize;
use std::time::{Duration, Instant};

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Training samples used; the encoder is fitted to them too.
    pub n_samples: usize,
    /// Numbers of threads, each measured in turn.
    pub threads: Vec<usize>,
    /// Wall-clock time spent training, and again evaluating, for each number of threads.
    pub budget: Duration,
}

/// What was measured with one number of threads.
#[derive(Clone, Debug, Serialize)]
pub struct Throughput {
    /// Threads.
    pub threads: usize,
    /// Samples of the training split that were used.
    pub n_samples: usize,
    /// Wall-clock seconds of fitting the encoder.
    pub fit_seconds: f64,
    /// Images encoded a second.
    pub encoded_per_second: f64,
    /// Samples learned a second.
    pub trained_per_second: f64,
    /// Samples evaluated a second.
    pub evaluated_per_second: f64,
}

/// Measures `recipe` as `plan` says.
///
/// # Errors
///
/// If data are missing, the plan asks for no samples or no threads, or the method fails.
pub fn throughput(recipe: &Recipe, dirs: &DataDirs, plan: &Plan) -> Result<Vec<Throughput>> {
    if plan.n_samples == 0 || plan.threads.contains(&0) {
        return Err(Error::recipe("a benchmark needs at least one sample and one thread"));
    }
    let data = first(recipe.data.load(dirs)?, plan.n_samples);
    let measure = |&n: &usize| on_threads(n, || measure(recipe, &data, plan, n));
    plan.threads.iter().map(measure).collect()
}

/// The data set with only the first `n` training samples.
fn first(data: Dataset, n: usize) -> Dataset {
    let rows: Vec<usize> = (0..n.min(data.train.images.len())).collect();
    let labels = data.train.labels.iter().take(rows.len()).copied().collect();
    Dataset { train: Split { images: data.train.images.select(&rows), labels }, ..data }
}

fn measure(recipe: &Recipe, data: &Dataset, plan: &Plan, threads: usize) -> Result<Throughput> {
    let seed = Seed(recipe.seed);
    let images = &data.train.images;
    let start = Instant::now();
    let encoder = recipe.encode.fit(images, seed, &mut |_, _| Ok(()))?;
    let fit_seconds = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let inputs = encoder.encode(images, &mut |_, _| Ok(()))?;
    let encoded_per_second = images.len() as f64 / start.elapsed().as_secs_f64().max(1e-9);
    let mut learner = learner(recipe, data, &inputs, inputs.len())?;
    let labels = data.train.labels.as_slice();
    let trained_per_second = train(learner.as_mut(), recipe, &inputs, labels, plan.budget)?;
    let evaluated_per_second = evaluate(learner.as_ref(), &inputs, labels, plan.budget)?;
    Ok(Throughput {
        threads,
        n_samples: images.len(),
        fit_seconds,
        encoded_per_second,
        trained_per_second,
        evaluated_per_second,
    })
}

/// Samples learned a second; the first batch is not counted.
fn train(
    learner: &mut dyn Learner,
    recipe: &Recipe,
    inputs: &Inputs,
    labels: &[u16],
    budget: Duration,
) -> Result<f64> {
    let rows: Vec<usize> = (0..inputs.len()).collect();
    let mut ctx = Ctx { seed: Seed(recipe.seed), epoch: 0, step: 0, n_presented: 0, rate: 1.0 };
    let mut start = Instant::now();
    let mut n = 0;
    for rows in rows.chunks(recipe.train.batch_size).cycle() {
        let report = learner.step(&Batch { inputs, rows, labels }, &ctx)?;
        if ctx.step == 0 {
            start = Instant::now();
        } else {
            n += report.n_samples;
        }
        ctx.step += 1;
        ctx.n_presented += report.n_samples;
        if n > 0 && start.elapsed() >= budget {
            break;
        }
    }
    Ok(n as f64 / start.elapsed().as_secs_f64().max(1e-9))
}

/// Samples evaluated a second.
fn evaluate(
    learner: &dyn Learner,
    inputs: &Inputs,
    labels: &[u16],
    budget: Duration,
) -> Result<f64> {
    let rows: Vec<usize> = (0..inputs.len()).collect();
    let start = Instant::now();
    let mut n = 0;
    for rows in rows.chunks(1000).cycle() {
        n += learner.predict(&Batch { inputs, rows, labels })?.len();
        if start.elapsed() >= budget {
            break;
        }
    }
    Ok(n as f64 / start.elapsed().as_secs_f64().max(1e-9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_is_measured_once_for_each_number_of_threads() {
        let text = "[data.mnist-mini]\n[encode.latency]\n[method.s2stdp]\nthreshold = 20.0\n";
        let recipe = Recipe::parse("r", text, None, &[]).unwrap();
        let dirs = DataDirs::new(Some("nowhere".into()));
        let plan = Plan { n_samples: 80, threads: vec![1, 2], budget: Duration::from_millis(1) };
        let rows = throughput(&recipe, &dirs, &plan).unwrap();
        assert_eq!(
            rows.iter().map(|r| (r.threads, r.n_samples)).collect::<Vec<_>>(),
            [(1, 80), (2, 80)]
        );
        for row in rows {
            let rates = [row.encoded_per_second, row.trained_per_second, row.evaluated_per_second];
            assert!(rates.iter().all(|&r| r > 0.0 && r.is_finite()), "{row:?}");
        }
        assert!(throughput(&recipe, &dirs, &Plan { n_samples: 0, ..plan }).is_err());
    }
}
