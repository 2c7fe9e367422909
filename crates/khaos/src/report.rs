//! The page that shows a day: self-contained, opens offline, drawn from the store's records.
//!
//! records → `timeline` (what was in force and known, minute by minute) → `chart` (SVG) → HTML.

pub(crate) mod axes;
mod chart;
pub(crate) mod sheet;
mod timeline;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use khaos_adapters::sqlite::SqliteStore;
use khaos_control::ports::Store;
use khaos_core::optimize::{Goals, Verdict};
use khaos_core::profile::{Failure, Recovery};
use khaos_core::record::Record;
use khaos_core::units::{EventRate, Millis, Seconds};
use maud::{Markup, PreEscaped, html};

use self::sheet::sheet;
use self::timeline::timeline;
use crate::clock_time;
use crate::simulate::PolicyResult;
use crate::simulate::day::in_virtual_time;
use crate::table::longest;

/// What the page shows.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// Its heading.
    pub title: &'a str,
    /// Everything that khaos recorded.
    pub records: &'a [Arc<Record>],
    /// How each policy did.
    pub results: &'a [PolicyResult],
    /// What khaos was asked to keep.
    pub goals: &'a Goals,
}

/// Keeps the records behind it in `dir`, to look into with the `sqlite3` shell.
pub fn keep_records<'a>(
    dir: &Path,
    records: impl IntoIterator<Item = &'a Arc<Record>>,
) -> anyhow::Result<()> {
    let (path, draft) = (dir.join("records.sqlite"), dir.join(".records.sqlite.part"));
    let unwritable = || format!("{}: cannot be written", path.display());
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(unwritable);
        }
        _ => {}
    }
    let store = SqliteStore::open(&draft)?;
    in_virtual_time(async {
        for record in records {
            store.append(Record::clone(record)).await?;
        }
        Ok(())
    })?;
    drop(store);
    std::fs::rename(&draft, &path).with_context(unwritable)
}

/// The page as HTML.
pub fn page(report: &Report<'_>) -> anyhow::Result<String> {
    let timeline = timeline(report.records, report.goals);
    let charts = chart::day(&timeline, report.goals)?;
    let body = html! {
        (summary(report))
        (observed(report.records))
        h2 { "The day" }
        p {
            "The interval follows the load: the more arrives, the longer a failure takes to catch up with,
            and the more recent the last checkpoint has to be. A mark on the load is a failure."
        }
        (PreEscaped(charts))
        h2 { "Policies" }
        p {
            "The same day and the same failures under each policy. Exposure is the share of the day in which
            the worst-case recovery was above its objective, whether or not a failure struck just then."
        }
        div.scroll { (policies(report.results)) }
        h2 { "Trials" }
        p {
            "Before that day, clones of the job were broken at the worst moment and watched until they had
            caught up. What Khaos knew about the job when the day began comes from these."
        }
        div.scroll { (trials(report.records)) }
        (failures(report.records))
        h2 { "Decisions" }
        p { "Every change of the interval, and why." }
        details { summary { "All changes" } div.scroll { (decisions(report.records)) } }
        footer {
            "Charts, trials and decisions are drawn from Khaos's records: the worst-case recovery is what its
            models say of the load that it read. The table of policies is scored from outside, by the
            world's own formula. Times are hours and minutes of the day."
        }
    };
    Ok(sheet(report.title, &body))
}

fn summary(report: &Report<'_>) -> Markup {
    let objectives = &report.goals.objectives;
    let khaos = report.results.iter().find(|r| r.name == "khaos");
    html! {
        p {
            "Objectives: "
            @if let Some(recovery) = objectives.recovery { "recovery within " (format!("{:.0} s", recovery.get())) }
            @if let Some(latency) = objectives.latency { ", p99 latency below " (format!("{:.0} ms", latency.get())) }
            ". Fallback: " (report.goals.bounds.max()) "."
        }
        @if let Some(khaos) = khaos {
            p {
                b { (percent(khaos.exposure)) " exposure" } ", " (khaos.interval_changes) " changes of the interval, "
                (format!("{:.0} s", khaos.downtime_s)) " of downtime for them, " (khaos.recoveries_over) " of "
                (khaos.failures) " recoveries above the objective."
                @if let Some(dead) = khaos.exposure_if_dead {
                    " With Khaos dead and the fallback in force it would have been " (percent(dead)) "."
                }
            }
        }
    }
}

fn observed(records: &[Arc<Record>]) -> Markup {
    let observation = records.iter().rev().find_map(|r| r.observation());
    html! {
        @if let Some(seen) = observation {
            p {
                "Observed before: " (seen.known_minutes) " minutes, " (seen.steady_minutes) " of them steady, "
                (format!("{:.0} to {:.0} events/s", seen.lowest.get(), seen.highest.get())) "."
            }
        }
    }
}

fn policies(results: &[PolicyResult]) -> Markup {
    html! {
        table {
            thead { tr {
                th { "policy" } th { "exposure" } th { "recoveries over" } th { "longest, s" } th { "latency, ms" }
                th { "visibility, s" } th { "changes" } th { "downtime, s" } th { "checkpoints" }
            } }
            tbody {
                @for r in results {
                    tr.khaos[r.name == "khaos"] {
                        td { (r.name) } td { (percent(r.exposure)) }
                        td { (r.recoveries_over) " of " (r.failures) }
                        td { (longest(r)) }
                        td { (format!("{:.0}", r.latency_mean_ms)) }
                        td { (format!("{:.0}", r.visibility_mean_s)) }
                        td { (r.interval_changes) } td { (format!("{:.0}", r.downtime_s)) } td { (r.checkpoints) }
                    }
                }
            }
        }
    }
}

fn trials(records: &[Arc<Record>]) -> Markup {
    let mut trials: Vec<_> = records.iter().filter_map(|r| r.trial()).collect();
    trials.sort_by_key(|trial| trial.index);
    let design = records.iter().rev().find_map(|r| r.design());
    let planned =
        |index: u32| design.and_then(|d| d.trials.get(index as usize)).map(|t| t.load.get());
    let or_dash = |value: Option<f64>| value.map_or("–".into(), |v| format!("{v:.0}"));
    html! {
        table {
            thead { tr {
                th { "interval" } th { "planned, events/s" } th { "load, events/s" } th { "latency, ms" } th { "down, s" } th { "age, s" }
                th { "catch-up, events/s" } th { "recovery, s" }
            } }
            tbody {
                @for t in trials {
                    tr {
                        td { (t.interval) } td { (or_dash(planned(t.index))) }
                        td { (format!("{:.0}", t.load.get())) }
                        td { (or_dash(t.latency.map(Millis::get))) }
                        td { (or_dash(t.dead_time.map(Seconds::get))) }
                        td { (or_dash(t.age.map(Seconds::get))) }
                        td { (or_dash(t.catch_up.map(EventRate::get))) }
                        td { @match &t.recovery {
                            Recovery::Measured(s) => { (format!("{:.0}", s.get())) }
                            Recovery::Censored(s) => { "more than " (format!("{:.0}", s.get())) }
                            Recovery::Spoilt(why) => { (why) }
                        } }
                    }
                }
            }
        }
    }
}

fn failures(records: &[Arc<Record>]) -> Markup {
    let failures: Vec<_> = records.iter().filter_map(|r| r.failure()).collect();
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "–".into());
    let seen = |failure: &Failure| match failure.trial().map(|trial| &trial.recovery) {
        Some(Recovery::Measured(s)) => format!("{:.0}", s.get()),
        Some(Recovery::Censored(s)) => format!("more than {:.0}", s.get()),
        Some(Recovery::Spoilt(why)) => why.clone(),
        None => "nothing was learnt".into(),
    };
    html! {
        @if !failures.is_empty() {
            h2 { "Failures" }
            p {
                "Every failure of the job itself is measured like a trial, and compared with where the models
                expected nine in ten to be. When it struck is estimated from the readings."
            }
            div.scroll { table {
                thead { tr {
                    th { "at about" } th { "interval" } th { "down, s" } th { "recovery, s" } th { "predicted, s" }
                } }
                tbody {
                    @for f in failures {
                        tr {
                            td { (clock_time(f.failed_at.unwrap_or(f.noticed_at))) }
                            td { (or_dash(f.trial().map(|t| t.interval.to_string()))) }
                            td { (or_dash(f.trial().and_then(|t| t.dead_time).map(|s| format!("{:.0}", s.get())))) }
                            td { (seen(f)) }
                            td { (or_dash(f.predicted.map(|p| format!("{:.0} to {:.0}", p.low.get(), p.high.get())))) }
                        }
                    }
                }
            } }
        }
    }
}

fn decisions(records: &[Arc<Record>]) -> Markup {
    let changes = records
        .iter()
        .filter_map(|r| r.decision())
        .filter(|decision| decision.verdict == Verdict::Change);
    html! {
        table {
            thead { tr { th { "at" } th { "decision" } } }
            tbody { @for d in changes { tr { td { (clock_time(d.at)) } td.text { (d.sentence()) } } } }
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
