//! Spikes over time, one row a neuron.

use super::super::format;
use super::{Canvas, WIDTH, coord};
use crate::event::RasterPanel;
use std::fmt::Write;

/// More spikes than this are thinned out evenly.
const MAX_SPIKES: usize = 8_000;
/// Rows up to this many are tall enough for their names.
const MAX_NAMED: usize = 40;
/// Characters of a name that are shown.
const MAX_NAME: usize = 14;
/// Least height of a spike's tick.
const TICK: f64 = 4.0;

/// One sample's spikes: a tick each, rows to emphasise in a second colour on a band.
pub(in super::super) fn raster(panel: &RasterPanel) -> String {
    let n = panel.n_neurons.max(1);
    let has_names = panel.names.len() == n && n <= MAX_NAMED;
    let row = if has_names { 15.0 } else { (200.0 / n as f64).clamp(0.4, 10.0) };
    let longest = panel.names.iter().map(|c| c.chars().count()).max().unwrap_or(0).min(MAX_NAME);
    let left = if has_names { 12.0 + 6.8 * longest as f64 } else { 12.0 };
    // Panels of very many neurons keep to a height that fits a screen.
    let (top, bottom) = (4.0, 4.0 + (row * n as f64).min(400.0));
    let (row, right) = ((bottom - top) / n as f64, WIDTH - 12.0);
    let spikes: Vec<(f64, usize)> = panel
        .times
        .iter()
        .zip(&panel.neurons)
        .map(|(&t, &i)| (f64::from(t), i as usize))
        .filter(|&(t, i)| (0.0..=1.0).contains(&t) && i < n)
        .collect();
    let description = format!(
        "{} of {} over the presentation window.",
        format::plural(spikes.len() as u64, "spike", "spikes"),
        format::plural(panel.n_neurons as u64, "neuron", "neurons")
    );
    let mut canvas = Canvas::new(WIDTH, bottom + 38.0, &panel.label, &description);
    let at_x = |t: f64| left + t * (right - left);
    let at_y = |i: usize| top + row * i as f64;
    for &i in panel.highlight.iter().filter(|&&i| (i as usize) < n) {
        canvas.rect((left, at_y(i as usize)), (right - left, row), "band", "");
    }
    for t in [0.0, 0.25, 0.5, 0.75, 1.0] {
        canvas.line((at_x(t), top), (at_x(t), bottom), "grid");
        canvas.text((at_x(t), bottom + 18.0), "tick mid", &format::number(t));
    }
    let is_highlit = |i: usize| panel.highlight.iter().any(|&h| h as usize == i);
    for (is_on, class) in [(false, "spike c0"), (true, "spike c1")] {
        let mut d = String::new();
        let every = spikes.len().div_ceil(MAX_SPIKES).max(1);
        for &(t, i) in spikes.iter().step_by(every).filter(|s| is_highlit(s.1) == is_on) {
            // Ticks of low rows may reach into the next ones, or nobody would see them.
            let height = (0.8 * row).max(TICK);
            let y = at_y(i) + 0.5 * (row - height);
            let _ = write!(d, "M{} {}v{}", coord(at_x(t)), coord(y), coord(height));
        }
        if !d.is_empty() {
            canvas.path(&d, class);
        }
    }
    if has_names {
        for (i, name) in panel.names.iter().enumerate() {
            let class = if is_highlit(i) { "tick end strong" } else { "tick end" };
            let short: String = name.chars().take(MAX_NAME).collect();
            canvas.text((left - 6.0, at_y(i) + 0.5 * row + 4.0), class, &short);
        }
    }
    canvas.line((left, bottom), (right, bottom), "axis");
    canvas.text((right, bottom + 34.0), "label end", "time (fraction of the window)");
    canvas.finish()
}
