//! A profile in two panels: the model through the trials, and its predictions of trials that it had not
//! seen.

use khaos_core::profile::Trial;
use plotters::coord::combinators::WithKeyPoints;
use plotters::prelude::*;

use super::validation::{Held, Subject};
use crate::report::axes::{GREY, Panel, VERMILLION, labelled};

const SIZE: (u32, u32) = (1_060, 400);
/// Points of a curve.
const STEPS: u32 = 200;

/// What a picture shows.
pub(super) struct Picture<'a> {
    /// What is predicted.
    pub(super) subject: Subject,
    /// Every trial of the profile.
    pub(super) trials: &'a [Trial],
    /// Places of outliers.
    pub(super) outliers: &'a [usize],
    /// Predictions of trials by all others.
    pub(super) held: &'a [Held],
    /// What the model of all trials says at an interval (s) and load (events/s); `None` where nothing.
    pub(super) curve: &'a dyn Fn(f64, f64) -> Option<f64>,
}

impl Picture<'_> {
    /// The two panels as one SVG element.
    pub(super) fn draw(&self) -> anyhow::Result<String> {
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            area.fill(&WHITE)?;
            let (left, right) = area.split_horizontally(580);
            self.through_the_trials(&left)?;
            self.unseen(&right)?;
            area.present()?;
        }
        let (name, _) = self.words();
        Ok(labelled(&svg, SIZE, &format!("{name}: model and trials; predicted against seen")))
    }

    fn words(&self) -> (&'static str, &'static str) {
        match self.subject {
            Subject::Recovery => ("Recovery", "s"),
            Subject::Latency => ("p99 latency", "ms"),
        }
    }

    fn seen(&self) -> impl Iterator<Item = (usize, &Trial, f64)> {
        let seen = |(i, t)| self.subject.seen(t).map(|value| (i, t, value));
        self.trials.iter().enumerate().filter_map(seen)
    }

    /// Intervals, smallest first, each with its colour.
    fn intervals(&self) -> Vec<(f64, RGBColor)> {
        let mut intervals: Vec<f64> = self.trials.iter().map(|t| t.interval.seconds()).collect();
        intervals.sort_by(f64::total_cmp);
        intervals.dedup();
        let last = (intervals.len() - 1).max(1) as f64;
        let colour = |(i, ci)| (ci, scale(i as f64 / last));
        intervals.into_iter().enumerate().map(colour).collect()
    }

    fn colour(&self, trial: &Trial) -> RGBColor {
        let own = trial.interval.seconds();
        let found = self.intervals().into_iter().find(|(ci, _)| (ci - own).abs() < 1e-9);
        found.map_or(GREY, |(_, colour)| colour)
    }

    /// From the lowest to the highest value seen, outliers left out, with a margin.
    fn range(&self) -> (f64, f64) {
        let kept = self.seen().filter(|(i, ..)| !self.outliers.contains(i)).map(|(.., v)| v);
        let (low, high) =
            kept.fold((f64::INFINITY, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)));
        (low / 1.4, high * 1.4)
    }

    fn through_the_trials(&self, area: &Panel<'_>) -> anyhow::Result<()> {
        let (low, high) = self.range();
        let loads = self.trials.iter().map(|t| t.load.get());
        let top = loads.fold(1.0, f64::max) * 1.02;
        let (name, unit) = self.words();
        let title = format!("{name}, {unit}, by load: the model and the trials (×: outlier)");
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .x_label_area_size(44)
            .y_label_area_size(60)
            .caption(title, ("sans-serif", 16))
            .build_cartesian_2d(0.0..top, logarithmic(low, high))?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GREY.mix(0.25))
            .label_style(("sans-serif", 13))
            .x_desc("thousand events/s")
            .x_label_formatter(&|v| format!("{}", v / 1_000.0))
            .y_label_formatter(&|v| format!("{v:.0}"))
            .draw()?;
        for (interval, colour) in self.intervals() {
            let points = (0..=STEPS).map(|i| top * f64::from(i) / f64::from(STEPS));
            let points = points.filter_map(|load| Some((load, (self.curve)(interval, load)?)));
            let points = points.filter(|(_, value)| (low..high).contains(value));
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
                .label(format!("{interval:.0} s"))
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(3))
                });
        }
        for (place, trial, value) in self.seen() {
            let at = (trial.load.get(), value.clamp(low, high));
            if self.outliers.contains(&place) {
                chart.draw_series([Cross::new(at, 6, VERMILLION.stroke_width(3))])?;
            } else {
                chart.draw_series([Circle::new(at, 3, self.colour(trial).filled())])?;
            }
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .label_font(("sans-serif", 13))
            .background_style(WHITE.mix(0.8))
            .border_style(GREY.mix(0.5))
            .draw()?;
        Ok(())
    }

    fn unseen(&self, area: &Panel<'_>) -> anyhow::Result<()> {
        let (low, high) = self.range();
        let (_, unit) = self.words();
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .margin_right(24)
            .x_label_area_size(44)
            .y_label_area_size(60)
            .caption("Each trial by all others, with its 90 % interval", ("sans-serif", 16))
            .build_cartesian_2d(logarithmic(low, high), logarithmic(low, high))?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GREY.mix(0.25))
            .label_style(("sans-serif", 13))
            .x_desc(format!("seen, {unit}"))
            .y_desc(format!("predicted, {unit}"))
            .x_label_formatter(&|v| format!("{v:.0}"))
            .y_label_formatter(&|v| format!("{v:.0}"))
            .draw()?;
        chart.draw_series(LineSeries::new([(low, low), (high, high)], GREY.stroke_width(1)))?;
        for held in self.held {
            let missed = held.interval.is_none_or(|(l, h)| !(l..=h).contains(&held.seen));
            let colour = if missed { VERMILLION } else { self.colour(&self.trials[held.place]) };
            let within = |value: f64| value.clamp(low, high);
            let x = within(held.seen);
            if let Some((from, to)) = held.interval {
                let bar = [(x, within(from)), (x, within(to))];
                chart.draw_series(LineSeries::new(bar, colour.mix(0.35).stroke_width(2)))?;
            }
            chart.draw_series([Circle::new((x, within(held.predicted)), 3, colour.filled())])?;
        }
        Ok(())
    }
}

/// A logarithmic axis with a label at 1, 2 and 5 times each power of ten, so that less than a decade
/// has some too.
fn logarithmic(low: f64, high: f64) -> WithKeyPoints<LogCoord<f64>> {
    let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let labels = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|n| n * 10_f64.powi(power)));
    let labels = labels.filter(|label| (low..high).contains(label)).collect();
    (low..high).log_scale().with_key_points(labels)
}

/// From dark blue over green to yellow: told apart by everyone, and in grey.
fn scale(share: f64) -> RGBColor {
    const STOPS: [(f64, f64, f64); 4] =
        [(68.0, 1.0, 84.0), (49.0, 104.0, 142.0), (53.0, 183.0, 121.0), (220.0, 190.0, 20.0)];
    let position = share.clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let (below, rest) = (position.floor() as usize, position.fract());
    let (a, b) = (STOPS[below], STOPS[(below + 1).min(STOPS.len() - 1)]);
    let mix = |a: f64, b: f64| (a + (b - a) * rest).round() as u8;
    RGBColor(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
}
