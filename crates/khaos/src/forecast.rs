//! `khaos forecast`: how well is a workload forecast, and does the bound of its maximum hold?
//!
//! workload → for every minute from `FIRST` on what would have been forecast then → `Origin` →
//! `Evaluation` → JSON, a table, or a page (`page`).

mod page;

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use khaos_core::job::JobStatus;
use khaos_core::observe::Minute;
use khaos_core::optimize::forecast_load;
use khaos_core::series::Reading;
use khaos_core::stats::mean;
use khaos_core::units::{EventRate, Seconds, Timestamp};
use khaos_twin::Workload;
use serde::Serialize;
use serde_json::json;

use crate::duration::seconds;
use crate::input::{self, BadInput};
use crate::output::{folder, say};
use crate::progress::progress;
use crate::simulate::day::ANCHOR;
use crate::table::{percent, table};

/// Minutes that are seen before the first forecast is judged.
const FIRST: usize = 70;
/// Minutes that a forecast looks back: two weeks, the longest that a season is seen twice in.
const LOOK_BACK: usize = 14 * 24 * 60;

/// What `khaos forecast` was asked.
#[derive(Debug, Args)]
pub struct ForecastArgs {
    /// The workload: CSV with second,events_per_second, one row a minute.
    #[arg(long)]
    workload: PathBuf,
    /// How far ahead, in whole minutes.
    #[arg(long, default_value = "10m", value_parser = seconds)]
    horizon: Seconds,
    /// Folder for forecast.html, the page that shows it, and forecast.csv.
    #[arg(long)]
    out: Option<PathBuf>,
    /// One JSON document on standard output instead of a table.
    #[arg(long)]
    json: bool,
}

/// How well a workload is forecast.
#[derive(Debug, Serialize)]
struct Evaluation {
    /// Mean absolute percentage error of the rate in the last minute of the horizon, as a share, over
    /// origins whose last minute was not empty; `null` where all were.
    mape: Option<f64>,
    /// Share of origins whose maximum over the horizon stayed below its upper 90 % bound.
    upper90_coverage: f64,
    /// Forecasts judged: one a minute, from the 70th minute on, as far as the horizon lies within.
    origins: usize,
    /// The error of expecting what was seen last.
    last_value_mape: Option<f64>,
    /// How far the bound lay above the maximum, as a share of it, in the mean: a bound without end
    /// would always hold.
    bound_above_maximum: Option<f64>,
    /// The horizon, s.
    horizon_s: f64,
}

/// One forecast beside what came.
#[derive(Debug, Clone, Copy)]
struct Origin {
    /// Minutes seen before it.
    seen: usize,
    /// Rates, events/s: in the last minute that was seen, and in the last of the horizon, as it came and
    /// as it was forecast.
    last: f64,
    came: f64,
    forecast: f64,
    /// The highest rate within the horizon, and its bound, events/s.
    highest: f64,
    upper: f64,
}

impl ForecastArgs {
    /// Forecasts, judges, and prints.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let workload = input::workload(&self.workload)?;
        let horizon = self.minutes(&workload)?;
        if let Some(dir) = &self.out {
            folder(dir)?;
        }
        let origins = origins(&workload, horizon)?;
        let evaluation = Evaluation::of(&origins, horizon);
        let page = self.out.as_ref().map(|dir| page::write(dir, &workload, &origins, &evaluation));
        let page = page.transpose()?;
        if self.json {
            return say(&format!("{:#}", json!(evaluation)));
        }
        print(&evaluation)?;
        page.map_or(Ok(()), |page| say(&format!("\nThe forecasts as pictures: {}", page.display())))
    }

    /// The horizon in minutes, if the workload is long enough for it.
    fn minutes(&self, workload: &Workload) -> Result<u32, BadInput> {
        let horizon_s = self.horizon.get();
        let minutes = (horizon_s / 60.0).round();
        if minutes < 1.0 || (minutes * 60.0 - horizon_s).abs() > 1e-9 {
            return Err(BadInput(format!(
                "--horizon: {horizon_s} s are no whole minutes: give one or more, as in 10m"
            )));
        }
        let (have, need) = (workload.per_minute().len(), FIRST + minutes as usize);
        if have < need {
            return Err(BadInput(format!(
                "{}: {have} minutes are too few: {FIRST} are seen before the first forecast, which \
                 reaches {minutes} minutes ahead; record {need} or more, or shorten --horizon",
                self.workload.display()
            )));
        }
        Ok(minutes as u32)
    }
}

/// Every forecast of the workload, each by what had been seen until then.
fn origins(workload: &Workload, horizon: u32) -> anyhow::Result<Vec<Origin>> {
    let rates = workload.per_minute();
    let start = |i: usize| ANCHOR.plus_secs(i as f64 * Minute::SECS);
    let minutes: Vec<Minute> = rates
        .iter()
        .enumerate()
        .map(|(i, rate)| {
            let arrival = Reading::from_option(EventRate::new(*rate).ok());
            Minute { arrival, status: JobStatus::Running, ..Minute::blind(start(i)) }
        })
        .collect();
    let minutes: Vec<&Minute> = minutes.iter().collect();
    let last = rates.len() - horizon as usize;
    let bar = progress((last - FIRST + 1) as u64, "forecasts");
    let origins = (FIRST..=last)
        .map(|seen| {
            bar.inc(1);
            let known = &minutes[seen.saturating_sub(LOOK_BACK)..seen];
            let now: Timestamp = start(seen);
            let forecast = forecast_load(known, now, horizon)
                .with_context(|| format!("no forecast after minute {seen}"))?;
            let ahead = &rates[seen..seen + horizon as usize];
            Ok(Origin {
                seen,
                last: rates[seen - 1],
                came: ahead[ahead.len() - 1],
                forecast: forecast.at_horizon.get(),
                highest: ahead.iter().copied().fold(0.0, f64::max),
                upper: forecast.upper.get(),
            })
        })
        .collect();
    bar.finish_and_clear();
    origins
}

impl Evaluation {
    fn of(origins: &[Origin], horizon: u32) -> Self {
        let held = origins.iter().filter(|o| o.highest <= o.upper).count();
        let busy = || origins.iter().filter(|o| o.came > 0.0);
        let error = |expected: fn(&Origin) -> f64| {
            mean(&busy().map(|o| (expected(o) / o.came - 1.0).abs()).collect::<Vec<_>>())
        };
        let above = origins.iter().filter(|o| o.highest > 0.0).map(|o| o.upper / o.highest - 1.0);
        Self {
            mape: error(|o| o.forecast),
            upper90_coverage: held as f64 / origins.len() as f64,
            origins: origins.len(),
            last_value_mape: error(|o| o.last),
            bound_above_maximum: mean(&above.collect::<Vec<_>>()),
            horizon_s: f64::from(horizon) * Minute::SECS,
        }
    }
}

fn print(evaluation: &Evaluation) -> anyhow::Result<()> {
    let Evaluation { mape, last_value_mape, upper90_coverage, bound_above_maximum, .. } =
        evaluation;
    let minutes = evaluation.horizon_s / Minute::SECS;
    let mut figures = table(&[&format!("{minutes:.0} minutes ahead"), "khaos", "last value"]);
    figures.add_row(["mean error of the rate".into(), percent(*mape), percent(*last_value_mape)]);
    figures.add_row([
        "maximum below its 90 % bound".into(),
        percent(Some(*upper90_coverage)),
        "–".into(),
    ]);
    figures.add_row(["bound above the maximum".into(), percent(*bound_above_maximum), "–".into()]);
    say(&figures.to_string())?;
    say(&format!("\n{} forecasts, one a minute.", evaluation.origins))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_by_hand() {
        let origin = |last, came, forecast, highest, upper| Origin {
            seen: 70,
            last,
            came,
            forecast,
            highest,
            upper,
        };
        let figures = Evaluation::of(
            &[origin(100.0, 200.0, 180.0, 210.0, 231.0), origin(200.0, 0.0, 50.0, 100.0, 90.0)],
            10,
        );
        // An empty minute has no error in percent.
        assert!((figures.mape.unwrap() - 0.1).abs() < 1e-12);
        assert!((figures.last_value_mape.unwrap() - 0.5).abs() < 1e-12);
        assert!((figures.upper90_coverage - 0.5).abs() < 1e-12);
        assert!((figures.bound_above_maximum.unwrap() - 0.0).abs() < 1e-12);
        let idle = Evaluation::of(&[origin(0.0, 0.0, 0.0, 0.0, 1.0)], 1);
        assert_eq!((idle.mape, idle.bound_above_maximum), (None, None));
    }

    #[test]
    fn every_minute_whose_horizon_lies_within_is_an_origin() {
        let rates: Vec<f64> = (0..82).map(|i| 1_000.0 + f64::from(i)).collect();
        let origins = origins(&Workload::new(rates).unwrap(), 10).unwrap();
        let seen: Vec<usize> = origins.iter().map(|o| o.seen).collect();
        assert_eq!(seen, [70, 71, 72]);
        assert!(
            (origins[2].came - 1_081.0).abs() < 1e-9 && (origins[2].last - 1_071.0).abs() < 1e-9
        );
    }
}
