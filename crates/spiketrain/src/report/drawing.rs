//! Drawings: what the page shows in a frame of its own, and how figures become them.

use super::format::{self, escape};
use super::picture::{Colour, png_uri};
use super::svg::{self, Axis, Line};
use crate::event::{Curve, Figure, Histogram, RasterPanel};
use minijinja::{Value, context};
use std::fmt::Write;

/// Images shown of one figure.
const MAX_IMAGES: usize = 256;
/// Panels, histograms and the like shown of one figure.
const MAX_PANELS: usize = 32;
/// Curves with a legend of their own.
const MAX_LEGEND: usize = 12;

/// How much of the page a drawing takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Layout {
    /// One column of the page.
    #[default]
    Card,
    /// The full width; panels flow.
    Wide,
    /// The full width; small panels flow.
    Multiples,
}

impl Layout {
    fn class(self) -> &'static str {
        match self {
            Layout::Card => "card",
            Layout::Wide => "wide",
            Layout::Multiples => "wide multiples",
        }
    }
}

/// A picture with heading, legend and caption.
#[derive(Clone, Debug, Default)]
pub(super) struct Drawing {
    /// Heading.
    pub(super) title: String,
    /// One or two sentences.
    pub(super) caption: String,
    /// Name and number of each colour.
    pub(super) legend: Vec<(String, usize)>,
    /// Finished markup, one piece for each panel.
    pub(super) panels: Vec<String>,
    /// How much of the page the panels take.
    pub(super) layout: Layout,
}

impl Drawing {
    /// A drawing of a single chart.
    pub(super) fn chart(title: &str, caption: &str, svg: String) -> Self {
        let (title, caption) = (title.to_owned(), caption.to_owned());
        Self { title, caption, panels: vec![svg], ..Self::default() }
    }

    /// The drawing with a legend.
    pub(super) fn with_legend(mut self, legend: Vec<(String, usize)>) -> Self {
        self.legend = legend;
        self
    }

    /// The drawing as the template reads it.
    pub(super) fn value(&self) -> Value {
        let legend: Vec<Value> = self
            .legend
            .iter()
            .map(|(name, i)| context! { name => name.as_str(), colour => svg::colour(*i) })
            .collect();
        let panels: Vec<Value> =
            self.panels.iter().map(|p| Value::from_safe_string(p.clone())).collect();
        context! {
            title => self.title.as_str(),
            caption => self.caption.as_str(),
            legend => legend,
            panels => panels,
            class => self.layout.class(),
        }
    }
}

/// A figure as a drawing. Figures whose data do not fit together say so instead.
pub(super) fn of_figure(figure: &Figure) -> Drawing {
    let (title, caption) = match figure {
        Figure::Images { title, caption, .. }
        | Figure::Raster { title, caption, .. }
        | Figure::Bars { title, caption, .. }
        | Figure::Lines { title, caption, .. }
        | Figure::Histograms { title, caption, .. } => (title, caption),
    };
    let mut drawing =
        Drawing { title: title.clone(), caption: caption.clone(), ..Drawing::default() };
    match figure {
        Figure::Images { height, width, channels, images, labels, .. } => {
            drawing.panels = images_panel(*height, *width, *channels, images, labels);
            drawing.layout = Layout::Wide;
            note_limit(&mut drawing, images.len(), MAX_IMAGES, "images");
        }
        Figure::Raster { panels, .. } => {
            drawing.panels = panels.iter().take(MAX_PANELS).map(raster_panel).collect();
            drawing.layout = Layout::Wide;
            note_limit(&mut drawing, panels.len(), MAX_PANELS, "panels");
        }
        Figure::Bars { categories, rows, y_label, .. } => {
            drawing.panels.extend(svg::stacked_bars(title, categories, rows, y_label));
            if rows.len() > 1 {
                let names = rows.iter().take(MAX_LEGEND).enumerate();
                drawing.legend = names.map(|(i, r)| (r.name.clone(), i)).collect();
            }
        }
        Figure::Lines { x_label, y_label, curves, .. } => {
            drawing.panels.extend(lines_panel(title, x_label, y_label, curves));
            let names = curves.iter().take(MAX_LEGEND).enumerate();
            drawing.legend = names.map(|(i, c)| (c.name.clone(), i)).collect();
        }
        Figure::Histograms { histograms, .. } => {
            drawing.panels =
                histograms.iter().take(MAX_PANELS).filter_map(svg::histogram).collect();
            if histograms.len() > 1 {
                drawing.layout = Layout::Wide;
            }
            note_limit(&mut drawing, histograms.len(), MAX_PANELS, "distributions");
        }
    }
    if drawing.panels.is_empty() {
        drawing.panels.push("<p class=\"empty\">This figure holds nothing to draw.</p>".to_owned());
    }
    drawing
}

/// The distributions of a test, a drawing each.
pub(super) fn of_histograms(histograms: &[Histogram]) -> Vec<Drawing> {
    // The unit stands at the axis; the heading does without.
    let title = |h: &Histogram| format::words(h.label.split(" (").next().unwrap_or_default());
    let drawn = histograms.iter().take(MAX_PANELS);
    drawn.filter_map(|h| Some(Drawing::chart(&title(h), "", svg::histogram(h)?))).collect()
}

fn note_limit(drawing: &mut Drawing, n: usize, limit: usize, things: &str) {
    if n > limit {
        let _ = write!(
            drawing.caption,
            " The first {limit} of {} {things} are shown.",
            format::count(n as u64)
        );
    }
}

/// All images in one flowing panel, each an inline PNG shown with whole-numbered magnification.
fn images_panel(
    height: usize,
    width: usize,
    channels: usize,
    images: &[Vec<u8>],
    labels: &[String],
) -> Vec<String> {
    let colour = match channels {
        1 => Colour::Grey,
        3 => Colour::Rgb,
        _ => return Vec::new(),
    };
    let scale = (52 / width.max(height).max(1)).max(1);
    let (shown_width, shown_height) = (width.saturating_mul(scale), height.saturating_mul(scale));
    let mut html = String::from("<ul class=\"images\">");
    let mut n_drawn = 0;
    for (i, image) in images.iter().take(MAX_IMAGES).enumerate() {
        let Some(uri) = png_uri(height, width, colour, image) else { continue };
        let label = labels.get(i).map(|l| escape(l));
        let name = label.clone().unwrap_or_else(|| format!("image {}", i + 1));
        let _ = write!(
            html,
            "<li><img src=\"{uri}\" width=\"{shown_width}\" height=\"{shown_height}\" \
             alt=\"{name}\" title=\"{name}\">"
        );
        if let Some(label) = label {
            let _ = write!(html, "<span>{label}</span>");
        }
        html.push_str("</li>");
        n_drawn += 1;
    }
    html.push_str("</ul>");
    if n_drawn == 0 { Vec::new() } else { vec![html] }
}

fn raster_panel(panel: &RasterPanel) -> String {
    format!("<h4>{}</h4>{}", escape(&panel.label), svg::raster(panel))
}

fn lines_panel(title: &str, x_label: &str, y_label: &str, curves: &[Curve]) -> Option<String> {
    let x = Axis::over(x_label, curves.iter().flat_map(|c| c.x.iter().copied()))?;
    let y = Axis::over(y_label, curves.iter().flat_map(|c| c.y.iter().copied()))?;
    let y = y.padded(0.0, f64::INFINITY);
    let line = |(i, c): (usize, &Curve)| Line {
        name: c.name.clone(),
        colour: i,
        points: c.x.iter().copied().zip(c.y.iter().copied()).collect(),
    };
    let lines: Vec<Line> = curves.iter().enumerate().map(line).collect();
    Some(svg::curves(title, x, y, &lines, &[], &[]))
}
