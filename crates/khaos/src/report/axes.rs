//! What every picture shares: colours, panels over one axis of time, and words for whoever cannot see
//! it.

use khaos_core::units::Timestamp;
use plotters::coord::Shift;
use plotters::prelude::*;

// Okabe & Ito's colours, told apart by everyone.
pub(crate) const BLUE: RGBColor = RGBColor(0, 114, 178);
pub(crate) const VERMILLION: RGBColor = RGBColor(213, 94, 0);
pub(crate) const GREEN: RGBColor = RGBColor(0, 130, 95);
pub(crate) const GREY: RGBColor = RGBColor(120, 120, 120);

pub(crate) type Panel<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Says what the picture of `size` is to whoever cannot see it, and lets it scale.
pub(crate) fn labelled(svg: &str, size: (u32, u32), label: &str) -> String {
    let (width, height) = size;
    svg.replacen(
        &format!("<svg width=\"{width}\" height=\"{height}\""),
        &format!("<svg role=\"img\" aria-label=\"{label}\""),
        1,
    )
}

/// The axis of time: where it begins, and its length in hours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axis {
    start: Timestamp,
    pub(crate) hours: f64,
}

impl Axis {
    /// From the minute that begins at `first` to the end of the one that begins at `last`.
    pub(crate) fn over(first: Timestamp, last: Timestamp) -> Self {
        Self { start: first, hours: hours(first, last) + 1.0 / 60.0 }
    }

    /// Where `at` lies, in hours.
    pub(crate) fn of(&self, at: Timestamp) -> f64 {
        hours(self.start, at)
    }
}

fn hours(from: Timestamp, to: Timestamp) -> f64 {
    to.secs_since(from) / 3_600.0
}

/// Hours and minutes of a place on the axis.
pub(crate) fn clock(hours: f64) -> String {
    let minutes = (hours * 60.0).round();
    format!("{:02.0}:{:02.0}", (minutes / 60.0).floor(), minutes.rem_euclid(60.0))
}

/// An empty panel on an area: over an [`Axis`], from nothing to a top, with a title and a format of
/// the labels at its left.
macro_rules! panel {
    ($area:expr, $axis:expr, $top:expr, $title:expr, $format:expr) => {{
        let mut chart = ChartBuilder::on($area)
            .margin(10)
            .margin_right(32)
            .x_label_area_size(28)
            .y_label_area_size(72)
            .caption($title, ("sans-serif", 17))
            .build_cartesian_2d(0.0..$axis.hours, 0.0..$top)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GREY.mix(0.25))
            .x_labels(13)
            .y_labels(5)
            .label_style(("sans-serif", 14))
            .x_label_formatter(&|hour| $crate::report::axes::clock(*hour))
            .y_label_formatter(&$format)
            .draw()?;
        chart
    }};
}
pub(crate) use panel;

/// The stretches in which a value was known: a gap stays a gap.
pub(crate) fn known<P>(
    points: &[P],
    at: impl Fn(&P) -> f64,
    value: impl Fn(&P) -> Option<f64>,
) -> Vec<Vec<(f64, f64)>> {
    points
        .chunk_by(|a, b| value(a).is_some() == value(b).is_some())
        .map(|run| run.iter().filter_map(|p| Some((at(p), value(p)?))).collect())
        .collect()
}
