//! The day in three panels over one axis of time: load, interval, worst-case recovery.

use khaos_core::optimize::Goals;
use khaos_core::units::Seconds;
use plotters::prelude::*;

use super::axes::{Axis, BLUE, GREEN, GREY, Panel, VERMILLION, known, labelled, panel};
use super::timeline::Point;

const SIZE: (u32, u32) = (1_060, 760);

/// The three panels as one SVG element.
pub(super) fn day(points: &[Point], goals: &Goals) -> anyhow::Result<String> {
    let mut svg = String::new();
    if let (Some(first), Some(last)) = (points.first(), points.last()) {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let panels = area.split_evenly((3, 1));
        let [load_panel, interval_panel, recovery_panel] = &panels[..] else {
            anyhow::bail!("three panels were asked for");
        };
        let axis = Axis::over(first.at, last.at);
        load(load_panel, points, axis)?;
        interval(interval_panel, points, goals, axis)?;
        recovery(recovery_panel, points, goals, axis)?;
        area.present()?;
    }
    let label = "Load, checkpoint interval and worst-case recovery over the day";
    Ok(labelled(&svg, SIZE, label))
}

fn load(area: &Panel<'_>, points: &[Point], axis: Axis) -> anyhow::Result<()> {
    let top = points.iter().filter_map(|p| p.load).fold(1.0, f64::max) * 1.1;
    let (unit, of) =
        if top > 10_000.0 { ("thousand events/s", 1_000.0) } else { ("events/s", 1.0) };
    let title = format!("Load, {unit} (\u{25bc} failure)");
    let mut chart = panel!(area, axis, top, title, |v: &f64| format!("{:.0}", v / of));
    for run in known(points, |p| axis.of(p.at), |p| p.load) {
        chart.draw_series(LineSeries::new(run, BLUE.stroke_width(2)))?;
    }
    let marks = points.iter().filter(|p| p.failed).filter_map(|p| {
        let at = (axis.of(p.at), p.load? + top * 0.05);
        Some(TriangleMarker::new(at, -7, VERMILLION.filled()))
    });
    chart.draw_series(marks)?;
    Ok(())
}

fn interval(area: &Panel<'_>, points: &[Point], goals: &Goals, axis: Axis) -> anyhow::Result<()> {
    let top = goals.bounds.max().seconds() * 1.1;
    let title = format!("Checkpoint interval, s (fallback {})", goals.bounds.max());
    let mut chart = panel!(area, axis, top, title, |v: &f64| format!("{v:.0}"));
    let steps = points.iter().flat_map(|p| {
        let (from, value) = (axis.of(p.at), p.interval.seconds());
        [(from, value), (from + 1.0 / 60.0, value)]
    });
    chart.draw_series(LineSeries::new(steps, GREEN.stroke_width(2)))?;
    Ok(())
}

fn recovery(area: &Panel<'_>, points: &[Point], goals: &Goals, axis: Axis) -> anyhow::Result<()> {
    let objective = goals.objectives.recovery.map(Seconds::get);
    let highest = points.iter().filter_map(|p| p.worst_at_fallback_s).filter(|s| s.is_finite());
    let top = objective.map_or_else(
        || highest.clone().fold(60.0, f64::max) * 1.1,
        |s| (highest.clone().fold(s, f64::max) * 1.1).min(3.0 * s),
    );
    let title =
        "Worst-case recovery, s: with Khaos (blue), at the fallback (grey), objective (dashed)";
    let mut chart = panel!(area, axis, top, title, |v: &f64| format!("{v:.0}"));
    let drawn = |s: Option<f64>| s.map(|s| s.min(top));
    if let Some(objective) = objective {
        let exposed = points.iter().filter(|p| p.worst_s.is_some_and(|s| s > objective));
        chart.draw_series(exposed.map(|p| {
            let from = axis.of(p.at);
            Rectangle::new([(from, 0.0), (from + 1.0 / 60.0, top)], VERMILLION.mix(0.25).filled())
        }))?;
        let dashes = [(0.0, objective), (axis.hours, objective)];
        chart.draw_series(DashedLineSeries::new(dashes, 8, 5, VERMILLION.stroke_width(2)))?;
    }
    for run in known(points, |p| axis.of(p.at), |p| drawn(p.worst_at_fallback_s)) {
        chart.draw_series(LineSeries::new(run, GREY.stroke_width(1)))?;
    }
    for run in known(points, |p| axis.of(p.at), |p| drawn(p.worst_s)) {
        chart.draw_series(LineSeries::new(run, BLUE.stroke_width(2)))?;
    }
    Ok(())
}
