//! Bars: stacked by category, mirrored about a base line, and histograms.

use super::super::format;
use super::axis::Frame;
use super::{Axis, Canvas, colour, coord, is_drawable};
use crate::event::{BarRow, Histogram};
use std::fmt::Write;

/// Bars by category, rows stacked upwards, negative values downwards.
pub(in super::super) fn stacked_bars(
    title: &str,
    categories: &[String],
    rows: &[BarRow],
    y_label: &str,
) -> Option<String> {
    let n = categories.len().max(rows.iter().map(|r| r.values.len()).max().unwrap_or(0));
    if n == 0 {
        return None;
    }
    let value = |row: &BarRow, i: usize| {
        row.values.get(i).copied().filter(|&v| is_drawable(v)).unwrap_or(0.0)
    };
    let reach = |i: usize, sign: f64| -> f64 {
        rows.iter().map(|r| value(r, i)).filter(|v| v * sign > 0.0).sum()
    };
    let heights = (0..n).flat_map(|i| [reach(i, 1.0), reach(i, -1.0), 0.0]);
    let y = Axis::over(y_label, heights)?.including(0.0).padded(0.0, f64::INFINITY);
    let x = Axis::over("", [0.0, n as f64])?;
    let description = format!("{y_label} of {n} categories.");
    let mut frame = Frame::new(title, &description, x, y, 10.0);
    let slot = (frame.right - frame.left) / n as f64;
    if are_slanted(categories, slot) {
        frame.bottom -= 34.0;
    }
    frame.draw_y();
    let width = (0.76 * slot).max(0.5);
    for i in 0..n {
        let x = frame.left + slot * (i as f64 + 0.5) - width / 2.0;
        let name = categories.get(i).cloned().unwrap_or_else(|| i.to_string());
        let (mut above, mut below) = (0.0, 0.0);
        for (r, row) in rows.iter().enumerate() {
            let v = value(row, i);
            let base = if v < 0.0 { &mut below } else { &mut above };
            let (from, to) = (frame.at_y(*base), frame.at_y(*base + v));
            *base += v;
            let hint = format!("{name} · {}: {}", row.name, format::number(v));
            let size = (width, (from - to).abs());
            frame.canvas.rect((x, from.min(to)), size, &format!("bar {}", colour(r)), &hint);
        }
    }
    let zero = frame.at_y(0.0);
    frame.canvas.line((frame.left, zero), (frame.right, zero), "axis");
    draw_categories(&mut frame, categories, slot);
    Some(frame.canvas.finish())
}

/// True if the category names must be slanted not to collide.
fn are_slanted(categories: &[String], slot: f64) -> bool {
    let longest = categories.iter().map(|c| c.chars().count().min(12)).max().unwrap_or(0);
    7.5 * longest as f64 + 6.0 > slot
}

/// Writes category names below their bars, only every so many if there are very many.
fn draw_categories(frame: &mut Frame, categories: &[String], slot: f64) {
    // Round steps read better than the smallest that fits.
    let least = (22.0 / slot).ceil() as usize;
    let round = [1, 2, 5, 10, 20, 50, 100, 200, 500];
    let every = round.into_iter().find(|&r| r >= least).unwrap_or(least);
    let is_slanted = are_slanted(categories, slot);
    for (i, name) in categories.iter().enumerate().step_by(every) {
        let x = frame.left + slot * (i as f64 + 0.5);
        if is_slanted {
            frame.canvas.slanted_text((x + 5.0, frame.bottom + 14.0), "tick", &shortened(name));
        } else {
            frame.canvas.text((x, frame.bottom + 18.0), "tick mid", &shortened(name));
        }
    }
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= 12 {
        return name.to_owned();
    }
    name.chars().take(11).chain(['…']).collect()
}

/// A small chart of pairs of bars: `up` above a base line, `down` below it, both to the scale
/// that gives `full` the whole half.
pub(in super::super) fn mirrored_bars(
    title: &str,
    up: &[f64],
    down: &[f64],
    full: f64,
    names: (&str, &str),
) -> String {
    let (width, half) = (180.0, 40.0);
    let description = format!("{} upwards, {} downwards, one bar per neuron.", names.0, names.1);
    let mut canvas = Canvas::new(width, 2.0 * half + 22.0, title, &description);
    canvas.text((2.0, 13.0), "label strong", &shortened(title));
    let base = 20.0 + half;
    let n = up.len().max(down.len()).max(1);
    let slot = (width - 4.0) / n as f64;
    let length = |v: Option<&f64>| match v {
        Some(&v) if is_drawable(v) && full > 0.0 => half * (v / full).clamp(0.0, 1.0),
        _ => 0.0,
    };
    for i in 0..n {
        let x = 2.0 + slot * (i as f64 + 0.12);
        let (u, d) = (length(up.get(i)), length(down.get(i)));
        let hint = |name: &str, v: Option<&f64>| {
            format!("neuron {i} · {name}: {}", format::number(v.copied().unwrap_or(f64::NAN)))
        };
        canvas.rect((x, base - u), (0.76 * slot, u), "bar c0", &hint(names.0, up.get(i)));
        canvas.rect((x, base), (0.76 * slot, d), "bar c1", &hint(names.1, down.get(i)));
    }
    canvas.line((2.0, base), (width - 2.0, base), "axis");
    canvas.finish()
}

/// A distribution as adjoining bars, with its median marked.
pub(in super::super) fn histogram(histogram: &Histogram) -> Option<String> {
    let Histogram { label, from, to, counts } = histogram;
    let n_samples: u64 = counts.iter().fold(0, |sum, &c| sum.saturating_add(c));
    if counts.is_empty() || !is_drawable(*from) || !is_drawable(*to) || from >= to {
        return None;
    }
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let x = Axis::over(label, [*from, *to])?;
    let y = Axis::over("count", [0.0, most as f64])?.whole();
    let median = median(histogram);
    let description = format!(
        "Distribution of {label} over {}, median {}.",
        format::plural(n_samples, "value", "values"),
        format::number(median)
    );
    let mut frame = Frame::new(label, &description, x, y, 14.0);
    frame.draw_y();
    let bin = (to - from) / counts.len() as f64;
    let mut outline = format!("M{} {}", coord(frame.at_x(*from)), coord(frame.bottom));
    for (i, &c) in counts.iter().enumerate() {
        let (x0, x1) = (frame.at_x(from + bin * i as f64), frame.at_x(from + bin * (i + 1) as f64));
        let y = frame.at_y(c as f64);
        let _ = write!(outline, "V{}H{}", coord(y), coord(x1));
        if counts.len() <= 100 {
            let (a, b) = (from + bin * i as f64, from + bin * (i + 1) as f64);
            let hint =
                format!("{} to {}: {}", format::number(a), format::number(b), format::count(c));
            let size = (x1 - x0, frame.bottom - frame.top);
            frame.canvas.rect((x0, frame.top), size, "hit", &hint);
        }
    }
    let _ = write!(outline, "V{}Z", coord(frame.bottom));
    frame.canvas.path(&outline, "area c0");
    if is_drawable(median) {
        let x = frame.at_x(median);
        frame.canvas.line((x, frame.top), (x, frame.bottom), "median");
        let text = format!("median {}", format::brief(median));
        // Above the plot, clear of the names of the axis and of the edge.
        let at = (x.clamp(frame.left + 70.0, frame.right - 40.0), frame.top - 8.0);
        frame.canvas.text(at, "value mid", &text);
    }
    frame.draw_x();
    Some(frame.canvas.finish())
}

/// Where half of the counts lie below, taken as spread evenly inside each bin.
fn median(histogram: &Histogram) -> f64 {
    let n: f64 = histogram.counts.iter().map(|&c| c as f64).sum();
    let bin = (histogram.to - histogram.from) / histogram.counts.len() as f64;
    let mut below = 0.0;
    for (i, &c) in histogram.counts.iter().enumerate() {
        if c > 0 && below + c as f64 >= n / 2.0 {
            return histogram.from + bin * (i as f64 + (n / 2.0 - below) / c as f64);
        }
        below += c as f64;
    }
    f64::NAN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_lies_inside_its_bin() {
        let counts = vec![1, 2, 1, 0];
        let h = Histogram { label: "t".into(), from: 0.0, to: 4.0, counts };
        assert_eq!(median(&h), 1.5);
        assert!(median(&Histogram { counts: vec![0, 0], ..h }).is_nan());
    }
}
