//! Several runs side by side: a row each, and their learning curves over a common abscissa.

use super::drawing::Drawing;
use super::metric::{self, COSTS, DECISION_TIME};
use super::replay::{Epoch, Run};
use super::svg::{self, Axis, Line, N_COLOURS};
use super::{format, log, page};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::learner::Metrics;
use minijinja::{Value, context};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What one run came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Name of the run folder; its path where another run has the same name.
    pub run: String,
    /// Method.
    pub method: String,
    /// Data set.
    pub data: String,
    /// Seed.
    pub seed: u64,
    /// Threads.
    pub threads: usize,
    /// Epochs done.
    pub epochs: u64,
    /// Presentations of training samples.
    pub n_presented: u64,
    /// Name of the headline metric, for example `accuracy`; empty before the test.
    pub figure: String,
    /// Its value on the test split; NaN (`null` in JSON) before the test.
    pub value: f64,
    /// Spikes up to the decision, mean over the test samples; NaN if the run does not say.
    pub spikes_per_sample: f64,
    /// Synaptic operations up to the decision, mean over the test samples.
    pub synops_per_sample: f64,
    /// Wall-clock seconds of the run so far.
    pub seconds: f64,
}

/// Writes the comparison of the runs in `dirs` into the folder `out`; returns a row for each run,
/// in their order, and the page's path.
///
/// # Errors
///
/// If a log cannot be read or the page cannot be written.
pub fn write(dirs: &[PathBuf], out: &Path) -> Result<(Vec<Row>, PathBuf)> {
    let events = read_all(dirs)?;
    let runs = events.iter().map(|e| Run::replay(e)).collect::<Result<Vec<_>>>()?;
    let mut rows: Vec<Row> = runs.iter().map(row).collect();
    let names: Vec<String> = rows.iter().map(|row| row.run.clone()).collect();
    for (row, dir) in rows.iter_mut().zip(dirs) {
        if names.iter().filter(|name| **name == row.run).count() > 1 {
            row.run = dir.display().to_string();
        }
    }
    std::fs::create_dir_all(out).map_err(|e| Error::io("making the folder", out, e))?;
    let page = super::write_page(&out.join(super::COMPARISON_FILE), &render(&runs, &rows)?)?;
    Ok((rows, page))
}

/// The events of the runs in `dirs`.
///
/// # Errors
///
/// If a log cannot be read.
pub fn read_all(dirs: &[PathBuf]) -> Result<Vec<Vec<Event>>> {
    dirs.iter().map(|dir| log::read_log(&dir.join(crate::runlog::LOG_FILE))).collect()
}

fn row(run: &Run<'_>) -> Row {
    let test = run.test.as_ref().map(|t| t.metrics);
    let of_test = |name: &str| test.and_then(|t| t.get(name)).copied().unwrap_or(f64::NAN);
    let figure = test.and_then(quality).unwrap_or_default();
    Row {
        run: run.start.run.into(),
        method: run.start.method.into(),
        data: run.start.data.into(),
        seed: run.start.seed,
        threads: run.start.threads,
        epochs: run.n_epochs(),
        n_presented: run.epochs.iter().map(|e| e.n_samples).sum(),
        figure: figure.into(),
        value: of_test(figure),
        spikes_per_sample: of_test(COSTS[0]),
        synops_per_sample: of_test(COSTS[1]),
        seconds: run.end.map_or_else(|| run.training_seconds(), |(_, seconds)| seconds),
    }
}

/// Name of the metric that says how good a run is.
fn quality(metrics: &Metrics) -> Option<&str> {
    let mut names: Vec<&str> = metrics.keys().map(String::as_str).collect();
    metric::sort(&mut names);
    names.into_iter().find(|n| !COSTS.contains(n) && *n != DECISION_TIME)
}

fn render(runs: &[Run<'_>], rows: &[Row]) -> Result<String> {
    let cell = |name: &str, v: f64| {
        if v.is_finite() { metric::show(name, v) } else { "–".to_owned() }
    };
    let rows: Vec<Value> = rows
        .iter()
        .map(|r| {
            context! {
                run => r.run.as_str(),
                method => r.method.as_str(),
                data => r.data.as_str(),
                seed => r.seed,
                threads => r.threads,
                epochs => r.epochs,
                samples => format::count(r.n_presented),
                figure => metric::title(&r.figure),
                value => cell(&r.figure, r.value),
                spikes => cell(COSTS[0], r.spikes_per_sample),
                synops => cell(COSTS[1], r.synops_per_sample),
                time => format::duration(r.seconds),
            }
        })
        .collect();
    let curves: Vec<Value> = curves(runs).iter().map(Drawing::value).collect();
    page::fill(
        "compare.html",
        context! {
            style => Value::from_safe_string(page::STYLE.to_owned()),
            version => env!("CARGO_PKG_VERSION"),
            rows => rows,
            curves => curves,
        },
    )
}

/// For every quality that epochs report: over the samples shown, and over the time of training.
fn curves(runs: &[Run<'_>]) -> Vec<Drawing> {
    let mut names: Vec<&str> = Vec::new();
    for name in runs.iter().flat_map(|r| &r.epochs).filter_map(|e| quality(said(e))) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let shown: fn(&Epoch<'_>) -> f64 = |e| e.n_samples as f64;
    let time: fn(&Epoch<'_>) -> f64 = |e| e.seconds;
    let abscissae = [("training samples shown", shown), ("seconds of training", time)];
    names
        .iter()
        .flat_map(|name| abscissae.iter().filter_map(|(x, of)| curve(runs, name, x, *of)))
        .collect()
}

/// What an epoch says of samples it did not learn from, else of those it did.
fn said<'a>(epoch: &Epoch<'a>) -> &'a Metrics {
    if epoch.valid.is_empty() { epoch.train } else { epoch.valid }
}

fn curve(
    runs: &[Run<'_>],
    name: &str,
    x_label: &str,
    step: fn(&Epoch<'_>) -> f64,
) -> Option<Drawing> {
    let lines: Vec<Line> = runs
        .iter()
        .enumerate()
        .map(|(i, run)| {
            let mut x = 0.0;
            let points = run.epochs.iter().map(|e| {
                x += step(e);
                (x, said(e).get(name).copied().unwrap_or(f64::NAN))
            });
            let split =
                if run.epochs.iter().all(|e| e.valid.is_empty()) { ", training" } else { "" };
            let (points, name) = (points.collect(), format!("{}{split}", run.start.run));
            Line { name, colour: i % N_COLOURS, points }
        })
        .filter(|line| line.points.iter().any(|p| svg::is_drawable(p.1)))
        .collect();
    let points = || lines.iter().flat_map(|l| l.points.iter());
    let (unit, title) = (metric::unit(name), metric::title(name));
    let high = if unit == metric::Unit::Percent { 1.0 } else { f64::INFINITY };
    let y = Axis::over(&title, points().map(|p| p.1))?.padded(0.0, high).in_unit(unit);
    let x = Axis::over(x_label, points().map(|p| p.0))?.including(0.0);
    let title = format!("{title} over {x_label}");
    let svg = svg::curves(&title, x, y, &lines, &[], &[]);
    let legend = lines.iter().map(|l| (l.name.clone(), l.colour)).collect();
    let caption = "On validation samples, where a run keeps some aside.";
    Some(Drawing::chart(&title, caption, svg).with_legend(legend))
}
