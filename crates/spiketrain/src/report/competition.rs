//! Balance of the competition between the output neurons of one class.
//!
//! Every class has a group of M neurons that compete to learn its samples. With p_j the share of
//! the group's target updates that went to neuron j, the group's balance is its normalised
//! entropy (Shannon 1948)
//!
//! ```text
//! B = −Σ_j p_j ln p_j / ln M
//! ```
//!
//! which is 1 if all neurons of the group learn equally often and 0 if a single one learns alone.

use super::drawing::{Drawing, Layout};
use super::format;
use super::learning::{BALANCE_SERIES, epoch_axis, marks};
use super::metric::Unit;
use super::replay::Run;
use super::svg::{self, Axis, Line};

/// Classes shown as small multiples.
const MAX_GROUPS: usize = 100;

/// True if the run logged the updates of whole groups of output neurons.
pub(super) fn applies(run: &Run<'_>) -> bool {
    last_updates(run).is_some()
}

/// The small multiples of the last epoch and the balance over the epochs.
pub(super) fn drawings(run: &Run<'_>) -> Vec<Drawing> {
    let Some((number, target, non_target)) = last_updates(run) else { return Vec::new() };
    let n_per_class = target.len() / run.start.classes.len();
    let both = target.iter().chain(non_target).copied().filter(|&v| svg::is_drawable(v));
    let full = both.fold(0.0, f64::max);
    let names = ("target updates", "non-target updates");
    let groups = target.chunks(n_per_class).zip(non_target.chunks(n_per_class));
    let panels = groups
        .zip(run.start.classes)
        .take(MAX_GROUPS)
        .map(|((up, down), class)| svg::mirrored_bars(class, up, down, full, names))
        .collect();
    let multiples = Drawing {
        title: format!("Updates per output neuron, epoch {number}"),
        caption: format!(
            "One small chart per class, one bar per neuron of its group ({}); all to one scale, \
             the longest bar is {}.",
            format::plural(n_per_class as u64, "neuron", "neurons"),
            format::number(full)
        ),
        legend: vec![(names.0.to_owned(), 0), (names.1.to_owned(), 1)],
        panels,
        layout: Layout::Multiples,
    };
    let mut out = vec![multiples];
    if n_per_class > 1 {
        out.extend(balance_drawing(run, n_per_class));
    }
    out
}

/// Balance of the groups over the epochs: their mean, and the least balanced one.
fn balance_drawing(run: &Run<'_>, n_per_class: usize) -> Option<Drawing> {
    let (mut mean, mut least) = (Vec::new(), Vec::new());
    for epoch in &run.epochs {
        let Some(target) = epoch.series.get(BALANCE_SERIES[0]) else { continue };
        let balances: Vec<f64> =
            target.chunks_exact(n_per_class).map(balance).filter(|b| b.is_finite()).collect();
        let x = epoch.number as f64;
        mean.push((x, balances.iter().sum::<f64>() / balances.len() as f64));
        least.push((x, balances.iter().copied().fold(f64::NAN, f64::min)));
    }
    let lines = [
        Line { name: "mean of all classes".to_owned(), colour: 2, points: mean },
        Line { name: "least balanced class".to_owned(), colour: 3, points: least },
    ];
    let title = "Balance of the competition";
    let heights = lines.iter().flat_map(|l| l.points.iter().map(|p| p.1));
    let y = Axis::over("balance", heights)?.including(0.0).including(1.0).in_unit(Unit::Plain);
    let svg = svg::curves(title, epoch_axis(run)?, y, &lines, &[], &marks(run));
    let legend = lines.iter().map(|l| (l.name.clone(), l.colour)).collect();
    let caption = "Normalised entropy of the target updates inside each class's group: 1 if all \
                   its neurons learn equally often, 0 if one neuron learns alone.";
    Some(Drawing::chart(title, caption, svg).with_legend(legend))
}

/// Epoch, target and non-target updates of the last epoch that has both, if they belong to groups
/// of equal size, one per class.
fn last_updates<'a>(run: &'a Run<'_>) -> Option<(u64, &'a [f64], &'a [f64])> {
    let of = |e: &'a super::replay::Epoch<'_>| {
        let [target, non_target] = BALANCE_SERIES.map(|name| e.series.get(name));
        Some((e.number, target?.as_slice(), non_target?.as_slice()))
    };
    let (number, target, non_target) = run.epochs.iter().rev().find_map(of)?;
    let n_classes = run.start.classes.len();
    let is_grouped = n_classes > 0 && !target.is_empty() && target.len().is_multiple_of(n_classes);
    (is_grouped && target.len() == non_target.len()).then_some((number, target, non_target))
}

/// Normalised entropy of the shares in `updates`; not a number without updates.
fn balance(updates: &[f64]) -> f64 {
    let positive = || updates.iter().copied().filter(|&v| v > 0.0 && svg::is_drawable(v));
    let sum: f64 = positive().sum();
    if sum == 0.0 {
        return f64::NAN;
    }
    let entropy: f64 = positive().map(|v| -(v / sum) * libm::log(v / sum)).sum();
    entropy.max(0.0) / libm::log(updates.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balance_goes_from_one_neuron_to_all() {
        assert_eq!(balance(&[4.0, 0.0, 0.0]), 0.0);
        assert!((balance(&[2.0, 2.0, 2.0]) - 1.0).abs() < 1e-12);
        // p = (3/4, 1/4): B = 2 − (3/4) log₂ 3.
        assert!((balance(&[3.0, 1.0]) - 0.811_278_124_459_132_9).abs() < 1e-12);
        assert!(balance(&[0.0, f64::NAN]).is_nan());
    }
}
