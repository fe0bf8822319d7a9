//! Scales, round ticks and the frame of a chart.

use super::super::format;
use super::super::metric::Unit;
use super::{Canvas, HEIGHT, WIDTH, is_drawable};

const LEFT: f64 = 54.0;
const TOP: f64 = 26.0;
const TOP_UNLABELLED: f64 = 10.0;
const BOTTOM: f64 = 40.0;

/// One axis before it is laid out.
#[derive(Clone, Debug)]
pub(in super::super) struct Axis {
    /// Name, with unit.
    pub(in super::super) label: String,
    /// Smallest value shown.
    pub(in super::super) from: f64,
    /// Largest value shown.
    pub(in super::super) to: f64,
    /// How ticks are written.
    pub(in super::super) unit: Unit,
    /// True if only whole numbers have a meaning.
    pub(in super::super) is_whole: bool,
}

impl Axis {
    /// An axis that spans the drawable among `values`; nothing if there are none.
    pub(in super::super) fn over(
        label: &str,
        values: impl IntoIterator<Item = f64>,
    ) -> Option<Self> {
        let (from, to) = values
            .into_iter()
            .filter(|&v| is_drawable(v))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
        let axis = Self { label: label.to_owned(), from, to, unit: Unit::Plain, is_whole: false };
        (from <= to).then(|| axis.widened())
    }

    /// The axis with room for `value` too.
    pub(in super::super) fn including(mut self, value: f64) -> Self {
        self.from = self.from.min(value);
        self.to = self.to.max(value);
        self
    }

    /// The axis with a little air at both ends, but not beyond `low` and `high`.
    pub(in super::super) fn padded(mut self, low: f64, high: f64) -> Self {
        let air = 0.06 * (self.to - self.from);
        // A bound holds only if the values keep to it.
        let (under, over) = (self.from - air, self.to + air);
        self.from = if self.from >= low { under.max(low) } else { under };
        self.to = if self.to <= high { over.min(high) } else { over };
        self
    }

    /// The axis with ticks in `unit`.
    pub(in super::super) fn in_unit(mut self, unit: Unit) -> Self {
        self.unit = unit;
        self
    }

    /// The axis with whole numbers only.
    pub(in super::super) fn whole(mut self) -> Self {
        self.is_whole = true;
        self
    }

    /// An axis of some length, however close its values are.
    fn widened(mut self) -> Self {
        let least = 1e-9 * self.from.abs().max(self.to.abs());
        if self.to - self.from <= least {
            let half = if self.from == 0.0 { 0.5 } else { 0.1 * self.from.abs() };
            self.from -= half;
            self.to += half;
        }
        self
    }

    /// About `n` round values inside the axis, at distances of 1, 2 or 5 times a power of ten.
    fn ticks(&self, n: f64) -> (Vec<f64>, f64) {
        let raw = (self.to - self.from) / n;
        let power = 10f64.powf(raw.log10().floor());
        let mut step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|m| m * power)
            .find(|&s| s >= raw * 0.999)
            .unwrap_or(raw);
        if self.is_whole {
            step = step.max(1.0);
        }
        if !(step.is_finite() && step > 0.0) {
            return (Vec::new(), 1.0);
        }
        let first = (self.from / step - 1e-6).ceil();
        let last = (self.to / step + 1e-6).floor();
        let n_ticks = (last - first + 1.0).clamp(0.0, 20.0) as usize;
        ((0..n_ticks).map(|i| (first + i as f64) * step).collect(), step)
    }

    /// A tick's text, with as many decimals as the distance to the next one needs.
    fn tick_text(&self, v: f64, step: f64) -> String {
        let (v, step, suffix) = match self.unit {
            Unit::Percent => (100.0 * v, 100.0 * step, "\u{202f}%"),
            Unit::Plain => match self.from.abs().max(self.to.abs()) {
                size if !(1e-3..1e12).contains(&size) => return format::number(v),
                size if size >= 2e9 => (v / 1e9, step / 1e9, "\u{202f}G"),
                size if size >= 2e6 => (v / 1e6, step / 1e6, "\u{202f}M"),
                size if size >= 2e4 => (v / 1e3, step / 1e3, "\u{202f}k"),
                _ => (v, step, ""),
            },
        };
        let n_decimals = (-(step.log10() + 1e-9).floor()).clamp(0.0, 6.0) as usize;
        let text = format!("{:.n_decimals$}", v.abs());
        let is_zero = text.chars().all(|c| c == '0' || c == '.');
        format!("{}{text}{suffix}", if v < 0.0 && !is_zero { "−" } else { "" })
    }
}

/// A chart's frame: canvas, plot area and scales.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) canvas: Canvas,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
}

impl Frame {
    /// An empty chart with `right_margin` left free beside the plot area.
    pub(super) fn new(title: &str, description: &str, x: Axis, y: Axis, right_margin: f64) -> Self {
        let canvas = Canvas::new(WIDTH, HEIGHT, title, description);
        let right = WIDTH - right_margin;
        // A label that repeats the heading above the chart is left out.
        let top = if y.label == title { TOP_UNLABELLED } else { TOP };
        Self { canvas, x, y, left: LEFT, right, top, bottom: HEIGHT - BOTTOM }
    }

    /// Draws grid, vertical axis and its ticks.
    pub(super) fn draw_y(&mut self) {
        let (ticks, step) = self.y.ticks(4.5);
        for v in ticks {
            let y = self.at_y(v);
            self.canvas.line((self.left, y), (self.right, y), "grid");
            self.canvas.text((self.left - 7.0, y + 4.0), "tick end", &self.y.tick_text(v, step));
        }
        if self.top == TOP {
            self.canvas.text((2.0, 12.0), "label", &self.y.label);
        }
    }

    /// Draws the horizontal axis with ticks at round values.
    pub(super) fn draw_x(&mut self) {
        let (ticks, step) = self.x.ticks(5.5);
        for v in ticks {
            let x = self.at_x(v);
            self.canvas.line((x, self.bottom), (x, self.bottom + 4.0), "axis");
            self.canvas.text((x, self.bottom + 18.0), "tick mid", &self.x.tick_text(v, step));
        }
        self.draw_x_line();
    }

    /// Draws the horizontal axis without ticks.
    pub(super) fn draw_x_line(&mut self) {
        self.canvas.line((self.left, self.bottom), (self.right, self.bottom), "axis");
        self.canvas.text((self.right, self.bottom + 36.0), "label end", &self.x.label);
    }

    /// Horizontal position of a value.
    pub(super) fn at_x(&self, v: f64) -> f64 {
        self.left + (v - self.x.from) / (self.x.to - self.x.from) * (self.right - self.left)
    }

    /// Vertical position of a value.
    pub(super) fn at_y(&self, v: f64) -> f64 {
        self.bottom - (v - self.y.from) / (self.y.to - self.y.from) * (self.bottom - self.top)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let axis = Axis::over("", [0.13, 0.98, f64::NAN, f64::INFINITY]).unwrap();
        let (ticks, step) = axis.clone().in_unit(Unit::Percent).ticks(4.5);
        assert_eq!(step, 0.2);
        assert_eq!(ticks.len(), 4);
        assert_eq!(axis.in_unit(Unit::Percent).tick_text(0.2, 0.2), "20\u{202f}%");
        assert!(Axis::over("", [f64::NAN, f64::INFINITY, 1e305]).is_none());
    }

    #[test]
    fn degenerate_axes_have_a_length() {
        for v in [0.0, 3.0, -1e-300, 1e299, 1e17] {
            let axis = Axis::over("", [v, v]).unwrap();
            assert!(axis.to > axis.from && (axis.to - axis.from).is_finite(), "{v}");
            assert!(axis.ticks(5.0).0.len() <= 20);
        }
    }
}
