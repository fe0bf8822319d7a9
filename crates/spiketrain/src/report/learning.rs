//! Curves over the epochs: metrics, and the vectors that methods report.

use super::drawing::Drawing;
use super::format;
use super::metric::{self, COSTS, DECISION_TIME, Unit};
use super::replay::{Epoch, Run};
use super::svg::{self, Axis, Line};
use crate::learner::Metrics;
use std::collections::BTreeSet;

/// Series drawn together as the balance of the competition.
pub(super) const BALANCE_SERIES: [&str; 2] = ["target_updates", "non_target_updates"];
/// Vectors up to this length are drawn as curves, longer ones as heat maps.
const MAX_LINES: usize = 6;

/// One chart per metric of the epochs, without those that have sections of their own.
pub(super) fn metric_drawings(run: &Run<'_>) -> Vec<Drawing> {
    let mut names = names(run);
    names.retain(|name| !COSTS.contains(name) && *name != DECISION_TIME);
    names.iter().filter_map(|name| metric_drawing(run, name)).collect()
}

/// Charts of spikes and synaptic operations over the epochs.
pub(super) fn cost_drawings(run: &Run<'_>) -> Vec<Drawing> {
    COSTS.iter().filter_map(|name| metric_drawing(run, name)).collect()
}

/// The chart of one metric over the epochs, if any epoch has it.
pub(super) fn metric_drawing(run: &Run<'_>, name: &str) -> Option<Drawing> {
    let curve = |label: &str, colour: usize, table: for<'e> fn(&'e Epoch<'_>) -> &'e Metrics| {
        let points: Vec<(f64, f64)> = run
            .epochs
            .iter()
            .map(|e| (e.number as f64, table(e).get(name).copied().unwrap_or(f64::NAN)))
            .collect();
        let line = Line { name: label.to_owned(), colour, points };
        line.points.iter().any(|p| svg::is_drawable(p.1)).then_some(line)
    };
    let lines: Vec<Line> = [
        curve("training", 0, |e| e.train),
        curve("validation", 1, |e| e.valid),
        curve(run.start.method, 2, |e| e.metrics),
    ]
    .into_iter()
    .flatten()
    .collect();
    let test = run.test.as_ref().and_then(|t| t.metrics.get(name)).copied();
    let test = test.filter(|&v| svg::is_drawable(v));
    let (unit, title) = (metric::unit(name), metric::title(name));
    let heights = lines.iter().flat_map(|l| l.points.iter().map(|p| p.1));
    let high = if unit == Unit::Percent { 1.0 } else { f64::INFINITY };
    let y = Axis::over(&title, heights.chain(test))?.padded(0.0, high).in_unit(unit);
    let x = epoch_axis(run)?;
    let references: Vec<(f64, String)> =
        test.iter().map(|&v| (v, format!("test: {}", unit.show(v)))).collect();
    let svg = svg::curves(&title, x, y, &lines, &references, &marks(run));
    let caption = test.map(|v| format!("Dotted: test, {}.", unit.show(v))).unwrap_or_default();
    let legend = lines.iter().map(|l| (l.name.clone(), l.colour)).collect();
    (!lines.is_empty()).then(|| Drawing::chart(&title, &caption, svg).with_legend(legend))
}

/// One drawing per series that has no section of its own.
pub(super) fn series_drawings(run: &Run<'_>) -> Vec<Drawing> {
    let names: BTreeSet<&str> =
        run.epochs.iter().flat_map(|e| e.series.keys().map(String::as_str)).collect();
    let is_shown_elsewhere =
        |name: &str| BALANCE_SERIES.contains(&name) && super::competition::applies(run);
    names
        .into_iter()
        .filter(|name| !is_shown_elsewhere(name))
        .filter_map(|name| series_drawing(run, name))
        .collect()
}

fn series_drawing(run: &Run<'_>, name: &str) -> Option<Drawing> {
    let columns: Vec<(f64, &[f64])> = run
        .epochs
        .iter()
        .map(|e| (e.number as f64, e.series.get(name).map_or(&[][..], Vec::as_slice)))
        .collect();
    let n = columns.iter().map(|(_, v)| v.len()).max().filter(|&n| n > 0)?;
    let title = metric::title(name);
    if n > MAX_LINES {
        let (svg, (low, high)) = svg::heat_map(&title, "element", &columns)?;
        let sign = if low < 0.0 { "orange is negative" } else { "pale is small" };
        let caption = format!(
            "One column per epoch, one row per element; from {} to {}, {sign}.",
            format::number(low),
            format::number(high)
        );
        return Some(Drawing::chart(&title, &caption, svg));
    }
    let line = |i: usize| Line {
        name: format!("element {i}"),
        colour: i,
        points: columns.iter().map(|(x, v)| (*x, v.get(i).copied().unwrap_or(f64::NAN))).collect(),
    };
    let lines: Vec<Line> = (0..n).map(line).collect();
    let heights = lines.iter().flat_map(|l| l.points.iter().map(|p| p.1));
    let y = Axis::over(&title, heights)?.padded(0.0, f64::INFINITY);
    let svg = svg::curves(&title, epoch_axis(run)?, y, &lines, &[], &marks(run));
    let legend = lines.iter().map(|l| (l.name.clone(), l.colour)).collect();
    Some(Drawing::chart(&title, "", svg).with_legend(legend))
}

/// The horizontal axis of everything drawn over the epochs.
pub(super) fn epoch_axis(run: &Run<'_>) -> Option<Axis> {
    Some(Axis::over("epoch", run.epochs.iter().map(|e| e.number as f64))?.whole())
}

/// Where the best checkpoint was written and where the run was resumed.
pub(super) fn marks(run: &Run<'_>) -> Vec<(f64, String)> {
    let seen = |n: u64| run.epochs.iter().any(|e| e.number == n);
    let best = run.best.map(|n| (n, format!("best checkpoint: epoch {n}")));
    let resumed = run.resumed.iter().map(|&n| (n, format!("resumed after epoch {n}")));
    best.into_iter()
        .chain(resumed)
        .filter(|(n, _)| seen(*n))
        .map(|(n, hint)| (n as f64, hint))
        .collect()
}

/// Names of all metrics of all epochs.
pub(super) fn names<'a>(run: &Run<'a>) -> Vec<&'a str> {
    let tables = run.epochs.iter().flat_map(|e| [e.train, e.valid, e.metrics]);
    let names: BTreeSet<&str> = tables.flat_map(|t| t.keys().map(String::as_str)).collect();
    let mut names: Vec<&str> = names.into_iter().collect();
    metric::sort(&mut names);
    names
}
