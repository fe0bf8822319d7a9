//! Curves over a common abscissa, with their last values written beside them.

use super::super::format;
use super::axis::Frame;
use super::{Axis, colour, coord, is_drawable};
use std::fmt::Write;

/// More points than this on a curve are thinned out to the extremes of each stretch.
const MAX_POINTS: usize = 400;
/// With more points than this, they no longer answer to the pointer one by one.
const MAX_HINTS: usize = 120;
/// Least distance between two values written beside the curves.
const LABEL_HEIGHT: f64 = 15.0;

/// A curve to draw.
#[derive(Clone, Debug)]
pub(in super::super) struct Line {
    /// Legend.
    pub(in super::super) name: String,
    /// Which colour.
    pub(in super::super) colour: usize,
    /// Points; those that are not numbers leave a gap.
    pub(in super::super) points: Vec<(f64, f64)>,
}

/// A chart of `lines`. `references` are heights marked by a dotted line with a hint, `marks`
/// abscissae marked by a dashed one.
pub(in super::super) fn curves(
    title: &str,
    x: Axis,
    y: Axis,
    lines: &[Line],
    references: &[(f64, String)],
    marks: &[(f64, String)],
) -> String {
    let mut frame = Frame::new(title, &describe(lines, &x, &y), x, y, 64.0);
    frame.draw_y();
    frame.draw_x();
    for (v, hint) in marks {
        let x = frame.at_x(*v);
        frame.canvas.hinted_line((x, frame.top), (x, frame.bottom), "mark", hint);
    }
    for (v, hint) in references {
        let y = frame.at_y(*v);
        frame.canvas.hinted_line((frame.left, y), (frame.right, y), "ref", hint);
    }
    for line in lines {
        let class = format!("curve {}", colour(line.colour));
        let d = path(&frame, &thinned(&line.points));
        frame.canvas.path(&d, &class);
    }
    lines.iter().for_each(|line| draw_hints(&mut frame, line));
    draw_last_values(&mut frame, lines);
    frame.canvas.finish()
}

fn can_draw(p: (f64, f64)) -> bool {
    is_drawable(p.0) && is_drawable(p.1)
}

/// The `d` attribute: a stretch for every run of drawable points.
fn path(frame: &Frame, points: &[(f64, f64)]) -> String {
    let mut d = String::new();
    let mut pen_is_down = false;
    for &p in points {
        if can_draw(p) {
            let (x, y) = (coord(frame.at_x(p.0)), coord(frame.at_y(p.1)));
            // The empty stroke makes a lone point visible as a dot.
            let _ = if pen_is_down { write!(d, "L{x} {y}") } else { write!(d, "M{x} {y}h0") };
        }
        pen_is_down = can_draw(p);
    }
    d
}

/// The points, or the lowest and highest of each stretch if there are too many.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= MAX_POINTS {
        return points.to_vec();
    }
    let stretch = points.len().div_ceil(MAX_POINTS / 2);
    let mut out = Vec::with_capacity(MAX_POINTS);
    for chunk in points.chunks(stretch) {
        let drawable = || (0..chunk.len()).filter(|&i| can_draw(chunk[i]));
        let low = drawable().min_by(|&a, &b| chunk[a].1.total_cmp(&chunk[b].1));
        let high = drawable().max_by(|&a, &b| chunk[a].1.total_cmp(&chunk[b].1));
        match (low, high) {
            (Some(a), Some(b)) => {
                out.push(chunk[a.min(b)]);
                out.push(chunk[a.max(b)]);
            }
            _ => out.push((f64::NAN, f64::NAN)),
        }
    }
    out
}

fn draw_hints(frame: &mut Frame, line: &Line) {
    if line.points.len() > MAX_HINTS {
        return;
    }
    for &p in line.points.iter().filter(|&&p| can_draw(p)) {
        let value = frame.y.unit.show(p.1);
        let hint = format!("{} · {} {}: {value}", line.name, frame.x.label, format::number(p.0));
        let centre = (frame.at_x(p.0), frame.at_y(p.1));
        frame.canvas.disc(centre, 5.0, &format!("hit {}", colour(line.colour)), &hint);
    }
}

/// Writes each curve's last value at its height, pushed apart where they would overlap.
fn draw_last_values(frame: &mut Frame, lines: &[Line]) {
    let mut ends: Vec<(f64, f64, f64, usize)> = lines
        .iter()
        .filter_map(|line| {
            let p = *line.points.iter().rev().find(|&&p| can_draw(p))?;
            Some((frame.at_x(p.0), frame.at_y(p.1), p.1, line.colour))
        })
        .collect();
    ends.sort_by(|a, b| a.1.total_cmp(&b.1));
    let n_that_fit = ((frame.bottom - frame.top) / LABEL_HEIGHT) as usize;
    ends.iter().for_each(|&(x, y, _, c)| {
        frame.canvas.disc((x, y), 3.0, &format!("dot {}", colour(c)), "");
    });
    if ends.len() > n_that_fit {
        return;
    }
    let mut places: Vec<f64> = ends.iter().map(|e| e.1).collect();
    for i in 1..places.len() {
        places[i] = places[i].max(places[i - 1] + LABEL_HEIGHT);
    }
    let mut floor = frame.bottom;
    for place in places.iter_mut().rev() {
        *place = place.min(floor);
        floor = *place - LABEL_HEIGHT;
    }
    for (&(_, _, value, c), y) in ends.iter().zip(places) {
        let at = (frame.right + 7.0, y + 4.0);
        frame.canvas.text(at, &format!("value {}", colour(c)), &frame.y.unit.brief(value));
    }
}

/// The chart in words.
fn describe(lines: &[Line], x: &Axis, y: &Axis) -> String {
    let mut out = format!("{} over {}.", y.label, x.label);
    for line in lines.iter().take(8) {
        let mut drawable = line.points.iter().filter(|&&p| can_draw(p));
        let Some(first) = drawable.next() else { continue };
        let last = drawable.next_back().unwrap_or(first);
        let (from, to) = (y.unit.show(first.1), y.unit.show(last.1));
        let _ = write!(out, " {}: from {from} to {to}.", line.name);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_leaves_a_gap() {
        let points = vec![(1.0, 0.5), (2.0, f64::NAN), (3.0, f64::INFINITY), (4.0, 0.7)];
        let axis = |i: usize| {
            Axis::over("v", points.iter().map(|p| if i == 0 { p.0 } else { p.1 })).unwrap()
        };
        let line = Line { name: "a".into(), colour: 0, points: points.clone() };
        let svg = curves("t", axis(0), axis(1), &[line], &[], &[]);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert_eq!(svg.matches("h0").count(), 2);
    }

    #[test]
    fn thinning_keeps_the_extremes() {
        let mut points: Vec<(f64, f64)> = (0..10_000).map(|i| (f64::from(i), 0.0)).collect();
        points[5_432].1 = 9.0;
        points[777].1 = -3.0;
        let thin = thinned(&points);
        assert!(thin.len() <= MAX_POINTS);
        assert!(thin.contains(&(5_432.0, 9.0)) && thin.contains(&(777.0, -3.0)));
        assert!(thin.is_sorted_by(|a, b| a.0 <= b.0));
    }
}
