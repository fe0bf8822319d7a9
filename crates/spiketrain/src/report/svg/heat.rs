//! A vector per epoch as a heat map.

use super::super::format;
use super::super::picture::{Colour, png_uri};
use super::axis::Frame;
use super::{Axis, is_drawable};

/// Columns and rows of the map at most; more are averaged.
const MAX_CELLS: usize = 400;

/// A picture with one column per epoch and one row per element, blue above zero and orange
/// below, the stronger the farther from it. `columns` holds `(epoch, values)`.
pub(in super::super) fn heat_map(
    title: &str,
    y_label: &str,
    columns: &[(f64, &[f64])],
) -> Option<String> {
    let n_rows = columns.iter().map(|(_, v)| v.len()).max()?;
    let values = || columns.iter().flat_map(|(_, v)| v.iter().copied()).filter(|&v| is_drawable(v));
    let largest = values().fold(0.0, |m: f64, v| m.max(v.abs()));
    if n_rows == 0 || values().next().is_none() {
        return None;
    }
    let (height, width) = (n_rows.min(MAX_CELLS), columns.len().min(MAX_CELLS));
    let mut pixels = Vec::with_capacity(4 * height * width);
    for r in 0..height {
        for c in 0..width {
            // Row 0 is the lowest, as the ticks say; a picture begins at the top.
            let (rows, cols) =
                (span(height - 1 - r, height, n_rows), span(c, width, columns.len()));
            let cells = columns[cols].iter().flat_map(|(_, v)| v.get(rows.clone()).unwrap_or(&[]));
            pixels.extend(shade(mean(cells), largest));
        }
    }
    let uri = png_uri(height, width, Colour::Rgba, &pixels)?;
    let x = Axis::over("epoch", columns.iter().map(|c| c.0))?.whole();
    // A column is centred on its epoch.
    let x = x.clone().including(x.from - 0.5).including(x.to + 0.5);
    let y = Axis::over(y_label, [0.0, n_rows as f64])?.whole();
    let description = format!(
        "{n_rows} values in each of {} epochs, largest magnitude {}.",
        columns.len(),
        format::number(largest)
    );
    let mut frame = Frame::new(title, &description, x, y, 14.0);
    frame.draw_y();
    let size = (frame.right - frame.left, frame.bottom - frame.top);
    frame.canvas.picture((frame.left, frame.top), size, &uri);
    frame.draw_x();
    Some(frame.canvas.finish())
}

/// The part of `0..n` that the `i`-th of `n_parts` covers.
fn span(i: usize, n_parts: usize, n: usize) -> std::ops::Range<usize> {
    i * n / n_parts..(i + 1) * n / n_parts
}

fn mean<'a>(cells: impl Iterator<Item = &'a f64>) -> f64 {
    let (n, sum) =
        cells.filter(|&&v| is_drawable(v)).fold((0.0, 0.0), |(n, sum), v| (n + 1.0, sum + v));
    sum / n
}

/// Colour of a value, transparent where there is none.
fn shade(v: f64, largest: f64) -> [u8; 4] {
    if !v.is_finite() || largest == 0.0 {
        return [0; 4];
    }
    let opacity = (255.0 * (v.abs() / largest).sqrt()) as u8;
    if v < 0.0 { [222, 122, 40, opacity] } else { [46, 134, 200, opacity] }
}
