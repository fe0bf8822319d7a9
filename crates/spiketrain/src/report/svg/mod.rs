//! Hand-laid SVG: a canvas, scales with round ticks, and the charts made from them.
//!
//! Colours and type come from the page's style sheet by class, so that a chart follows the
//! reader's light or dark theme. Lengths are user units; a chart is [`WIDTH`] wide and is shown
//! at about that many pixels.

mod axis;
mod bars;
mod curves;
mod heat;
mod raster;

pub(super) use axis::Axis;
pub(super) use bars::{histogram, mirrored_bars, stacked_bars};
pub(super) use curves::{Line, curves};
pub(super) use heat::heat_map;
pub(super) use raster::raster;

use super::format::escape;
use std::fmt::Write;

/// Width of a chart.
pub(super) const WIDTH: f64 = 400.0;
/// Height of a chart, unless its content decides.
pub(super) const HEIGHT: f64 = 250.0;
/// Distinct colours before they repeat.
pub(super) const N_COLOURS: usize = 6;

/// A value that can be drawn: finite, and far enough from the largest number that differences
/// stay finite.
pub(super) fn is_drawable(v: f64) -> bool {
    v.abs() < 1e300
}

/// An SVG image in the making.
#[derive(Debug)]
pub(super) struct Canvas {
    width: f64,
    height: f64,
    title: String,
    description: String,
    body: String,
}

impl Canvas {
    /// An empty image; title and description are for readers who do not see it.
    pub(super) fn new(width: f64, height: f64, title: &str, description: &str) -> Self {
        let (title, description) = (escape(title), escape(description));
        Self { width, height, title, description, body: String::new() }
    }

    /// A straight line.
    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        self.hinted_line(from, to, class, "");
    }

    /// A straight line with a `hint` that appears when the pointer rests on it.
    pub(super) fn hinted_line(
        &mut self,
        from: (f64, f64),
        to: (f64, f64),
        class: &str,
        hint: &str,
    ) {
        let (x1, y1, x2, y2) = (coord(from.0), coord(from.1), coord(to.0), coord(to.1));
        let _ = write!(self.body, "<path class=\"{class}\" d=\"M{x1} {y1}L{x2} {y2}\"");
        self.close("path", hint);
    }

    /// A path from its `d` attribute.
    pub(super) fn path(&mut self, d: &str, class: &str) {
        let _ = write!(self.body, "<path class=\"{class}\" d=\"{d}\"/>");
    }

    /// A rectangle; `hint` appears when the pointer rests on it.
    pub(super) fn rect(&mut self, corner: (f64, f64), size: (f64, f64), class: &str, hint: &str) {
        let _ = write!(
            self.body,
            "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"",
            coord(corner.0),
            coord(corner.1),
            coord(size.0.max(0.0)),
            coord(size.1.max(0.0))
        );
        self.close("rect", hint);
    }

    /// A disc; `hint` appears when the pointer rests on it.
    pub(super) fn disc(&mut self, centre: (f64, f64), radius: f64, class: &str, hint: &str) {
        let _ = write!(
            self.body,
            "<circle class=\"{class}\" cx=\"{}\" cy=\"{}\" r=\"{}\"",
            coord(centre.0),
            coord(centre.1),
            coord(radius)
        );
        self.close("circle", hint);
    }

    /// A text whose baseline begins, is centred on or ends at a point, by `class`.
    pub(super) fn text(&mut self, at: (f64, f64), class: &str, text: &str) {
        let (x, y, text) = (coord(at.0), coord(at.1), escape(text));
        let _ = write!(self.body, "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{text}</text>");
    }

    /// A text that rises to its end, which is at a point.
    pub(super) fn slanted_text(&mut self, at: (f64, f64), class: &str, text: &str) {
        let (x, y, text) = (coord(at.0), coord(at.1), escape(text));
        let _ = write!(
            self.body,
            "<text class=\"{class} end\" transform=\"translate({x} {y}) rotate(-40)\">{text}</text>"
        );
    }

    /// An inline picture, stretched to fill its box with hard pixels.
    pub(super) fn picture(&mut self, corner: (f64, f64), size: (f64, f64), uri: &str) {
        let _ = write!(
            self.body,
            "<image class=\"pixels\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" \
             preserveAspectRatio=\"none\" href=\"{uri}\"/>",
            coord(corner.0),
            coord(corner.1),
            coord(size.0),
            coord(size.1)
        );
    }

    /// The finished image.
    pub(super) fn finish(self) -> String {
        let Self { width, height, title, description, body } = self;
        let (width, height) = (coord(width), coord(height));
        format!(
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\">\
             <title>{title}</title><desc>{description}</desc>{body}</svg>"
        )
    }

    fn close(&mut self, element: &str, hint: &str) {
        let _ = if hint.is_empty() {
            write!(self.body, "/>")
        } else {
            write!(self.body, "><title>{}</title></{element}>", escape(hint))
        };
    }
}

/// A coordinate with at most two decimals. Callers draw only what [`is_drawable`]; should a value
/// slip through all the same, it must not break the image.
pub(super) fn coord(v: f64) -> String {
    let rounded = (100.0 * v).round() / 100.0;
    if rounded.is_finite() && rounded.abs() < 1e9 {
        // Adding 0 turns −0 into 0.
        format!("{}", rounded + 0.0)
    } else {
        "0".to_owned()
    }
}

/// The class of the `i`-th colour.
pub(super) fn colour(i: usize) -> String {
    format!("c{}", i % N_COLOURS)
}
