//! The page of a forecast: the load beside what was forecast of it, and every forecast as CSV.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use khaos_core::observe::Minute;
use khaos_core::units::Timestamp;
use khaos_twin::Workload;
use maud::{PreEscaped, html};
use plotters::prelude::*;

use super::{Evaluation, Origin};
use crate::output::keep;
use crate::report::axes::{Axis, BLUE, GREEN, GREY, VERMILLION, labelled, panel};
use crate::report::sheet::sheet;
use crate::simulate::day::ANCHOR;
use crate::table::percent;

const SIZE: (u32, u32) = (1_060, 620);

/// Writes `forecast.html` and `forecast.csv` into `dir`; the page's path.
pub(super) fn write(
    dir: &Path,
    workload: &Workload,
    origins: &[Origin],
    evaluation: &Evaluation,
) -> anyhow::Result<PathBuf> {
    keep(dir, "forecast.csv", &csv(origins, evaluation))?;
    let minutes = evaluation.horizon_s / Minute::SECS;
    let body = html! {
        p {
            "The load (grey), what was expected of each minute " (format!("{minutes:.0}")) " minutes before (blue),
            and the bound below which nine in ten maxima should stay, drawn where its horizon ends (green). Where
            the maximum came out higher the background is red. Below, the error of the expected rate."
        }
        (PreEscaped(draw(workload, origins, evaluation)?))
        p {
            "Mean error " b { (percent(evaluation.mape)) } ", of the last value " (percent(evaluation.last_value_mape))
            "; the bound held " b { (percent(Some(evaluation.upper90_coverage))) } " of the time and lay "
            (percent(evaluation.bound_above_maximum)) " above the maximum in the mean. "
            (evaluation.origins) " forecasts, one a minute."
        }
    };
    keep(dir, "forecast.html", &sheet("The load as it was forecast", &body))
}

/// When the horizon of `origin` ends, and the minute that it ends with begins.
fn end(origin: &Origin, evaluation: &Evaluation) -> Timestamp {
    let seen_s = origin.seen as f64 * Minute::SECS;
    ANCHOR.plus_secs(seen_s + evaluation.horizon_s - Minute::SECS)
}

fn draw(
    workload: &Workload,
    origins: &[Origin],
    evaluation: &Evaluation,
) -> anyhow::Result<String> {
    let rates = workload.per_minute();
    let at = |i: usize| ANCHOR.plus_secs(i as f64 * Minute::SECS);
    let axis = Axis::over(at(0), at(rates.len() - 1));
    let x = |origin: &Origin| axis.of(end(origin, evaluation));
    let highest = rates.iter().copied().fold(1.0, f64::max);
    // A bound may be far out where nothing is known yet: the load has to stay legible.
    let top = origins.iter().map(|o| o.upper).fold(highest, f64::max).min(2.0 * highest) * 1.05;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let (load, errors) = area.split_vertically(400);
        let mut chart = panel!(&load, axis, top, "Load, events/s", |v: &f64| format!("{v:.0}"));
        let minute = 1.0 / 60.0;
        chart.draw_series(origins.iter().filter(|o| o.highest > o.upper).map(|o| {
            Rectangle::new([(x(o) - minute, 0.0), (x(o), top)], VERMILLION.mix(0.25).filled())
        }))?;
        let seen = rates.iter().enumerate().map(|(i, rate)| (axis.of(at(i)), *rate));
        chart.draw_series(LineSeries::new(seen, GREY.stroke_width(2)))?;
        let bound = origins.iter().map(|o| (x(o), o.upper.min(top)));
        chart.draw_series(LineSeries::new(bound, GREEN.stroke_width(1)))?;
        let expected = origins.iter().map(|o| (x(o), o.forecast.min(top)));
        chart.draw_series(LineSeries::new(expected, BLUE.stroke_width(1)))?;

        let error = |o: &Origin| 100.0 * (o.forecast / o.came - 1.0).abs();
        let title = "Error of the expected rate, % (cut at 100)";
        let mut chart = panel!(&errors, axis, 100.0, title, |v: &f64| format!("{v:.0}"));
        let known = origins.iter().filter(|o| o.came > 0.0).map(|o| (x(o), error(o).min(100.0)));
        chart.draw_series(LineSeries::new(known, BLUE.stroke_width(1)))?;
        area.present()?;
    }
    Ok(labelled(&svg, SIZE, "The load, its forecast with bound, and the error over time"))
}

/// Every forecast beside what came.
fn csv(origins: &[Origin], evaluation: &Evaluation) -> String {
    let mut text = String::from("second,actual,forecast,maximum,upper90\n");
    for origin in origins {
        let second = end(origin, evaluation).secs_since(ANCHOR);
        let Origin { came, forecast, highest, upper, .. } = origin;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{second},{came},{forecast:.2},{highest},{upper:.2}");
    }
    text
}
