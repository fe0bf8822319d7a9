//! A vector per epoch as a heat map.

use super::super::format;
use super::super::picture::{Colour, png_uri};
use super::axis::Frame;
use super::{Axis, is_drawable};

/// Columns and rows of the map at most; more are averaged.
const MAX_CELLS: usize = 400;

/// A picture with one column per epoch and one row per element, and the smallest and largest
/// value in it. `columns` holds `(epoch, values)`.
///
/// Values of one sign go from pale (smallest) to blue; with both signs, blue is above zero and
/// orange below, the stronger the farther from it.
pub(in super::super) fn heat_map(
    title: &str,
    y_label: &str,
    columns: &[(f64, &[f64])],
) -> Option<(String, (f64, f64))> {
    let n_rows = columns.iter().map(|(_, v)| v.len()).max()?;
    let values = || columns.iter().flat_map(|(_, v)| v.iter().copied()).filter(|&v| is_drawable(v));
    let range @ (low, high) = values()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b): (f64, f64), v| (a.min(v), b.max(v)));
    if low > high {
        return None;
    }
    let (zero, full) = if low < 0.0 { (0.0, high.max(-low)) } else { (low, high - low) };
    // Equal values are all pale, whatever rounding makes of their means.
    let full = full.max(1e-9 * high.abs()).max(f64::MIN_POSITIVE);
    let (height, width) = (n_rows.min(MAX_CELLS), columns.len().min(MAX_CELLS));
    let mut pixels = Vec::with_capacity(4 * height * width);
    for r in 0..height {
        for c in 0..width {
            // Row 0 is the lowest, as the ticks say; a picture begins at the top.
            let (rows, cols) =
                (span(height - 1 - r, height, n_rows), span(c, width, columns.len()));
            let cells = columns[cols].iter().flat_map(|(_, v)| v.get(rows.clone()).unwrap_or(&[]));
            pixels.extend(shade((mean(cells) - zero) / full));
        }
    }
    let uri = png_uri(height, width, Colour::Rgba, &pixels)?;
    let x = Axis::over("epoch", columns.iter().map(|c| c.0))?.whole();
    // A column is centred on its epoch.
    let x = x.clone().including(x.from - 0.5).including(x.to + 0.5);
    let y = Axis::over(y_label, [0.0, n_rows as f64])?.whole();
    let description = format!(
        "{n_rows} values in each of {} epochs, from {} to {}.",
        columns.len(),
        format::number(low),
        format::number(high)
    );
    let mut frame = Frame::new(title, &description, x, y, 14.0);
    frame.draw_y();
    let size = (frame.right - frame.left, frame.bottom - frame.top);
    frame.canvas.picture((frame.left, frame.top), size, &uri);
    frame.draw_x();
    Some((frame.canvas.finish(), range))
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

/// Colour of a value from -1 to 1, transparent where there is none.
fn shade(v: f64) -> [u8; 4] {
    if !v.is_finite() {
        return [0; 4];
    }
    let opacity = (20.0 + 235.0 * v.abs().min(1.0)) as u8;
    if v < 0.0 { [222, 122, 40, opacity] } else { [46, 134, 200, opacity] }
}
