//! What load to be ready for: a forecast with a calibrated upper bound.
//!
//! Damped Holt on minute means. The bound is a rolling quantile of how much higher the maximum over
//! the horizon came out than forecast: it is calibrated on the job's own past, whatever its noise.
//! Source: DESIGN, forecast.

use khaos_stats::{DampedHolt, quantile};
use serde::{Deserialize, Serialize};

use crate::observe::Minute;
use crate::units::{EventRate, Timestamp};

const ALPHA: f64 = 0.7;
const BETA: f64 = 0.3;
const PHI: f64 = 0.97;
/// Probability that the maximum over the horizon stays below the bound.
const BOUND: f64 = 0.9;
/// Past forecasts whose errors calibrate the bound.
const ERRORS: usize = 180;
/// Errors below which they cannot be trusted to show the tail.
const FEW: usize = 20;
/// The bound while there are few: this factor, or the largest error seen. Also how far a forecast may
/// go beyond what was seen: after a step up a trend shoots over, and errors, being ratios, say that
/// anything may follow.
const WIDE: f64 = 1.25;
/// Minutes beyond whose highest load nothing is expected, but for that factor.
const LATELY: usize = 3;
/// Minutes without an arrival rate after which there is no forecast.
const BLIND: u32 = 3;

/// The load expected over the minutes to come.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LoadForecast {
    /// Expected maximum of the minute means over the horizon.
    pub expected: EventRate,
    /// Upper 90 % bound of that maximum.
    pub upper: EventRate,
    /// Whether the bound rests on the job's own forecast errors already.
    pub calibrated: bool,
}

/// Forecasts the maximum over the next `horizon` minutes from `minutes`, oldest first; missing
/// minutes are gaps. `None` when the arrival rate has not been known for three minutes before
/// `now`.
pub fn forecast_load(minutes: &[&Minute], now: Timestamp, horizon: u32) -> Option<LoadForecast> {
    let loads = by_minute(minutes, now)?;
    let mut holt = DampedHolt::new(ALPHA, BETA, PHI, loads.first().copied().flatten()?);
    let peak = |holt: &DampedHolt| -> f64 {
        (1..=horizon).map(|step| holt.ahead(step)).fold(0.0, f64::max)
    };
    let mut peaks = vec![peak(&holt)];
    for load in &loads[1..] {
        holt.update(*load);
        peaks.push(peak(&holt));
    }

    let horizon = horizon as usize;
    let errors: Vec<f64> = (0..loads.len().saturating_sub(horizon))
        .filter_map(|origin| {
            let seen = loads[origin + 1..=origin + horizon].iter().flatten().copied();
            let highest = seen.reduce(f64::max)?;
            loads[origin].map(|_| highest / peaks[origin].max(1.0))
        })
        .collect();
    let recent = &errors[errors.len().saturating_sub(ERRORS)..];
    let calibrated = recent.len() >= FEW;
    let factor = if calibrated {
        // The finite-sample correction of conformal prediction.
        let n = recent.len() as f64;
        quantile(recent, (BOUND * (n + 1.0) / n).min(1.0))?
    } else {
        recent.iter().copied().fold(WIDE, f64::max)
    };
    let lately = loads.iter().rev().flatten().take(LATELY).copied().fold(0.0, f64::max);
    let expected = peaks.last()?.min(WIDE * lately);
    let highest = loads.iter().flatten().copied().fold(0.0, f64::max);
    Some(LoadForecast {
        expected: EventRate::new(expected).ok()?,
        upper: EventRate::new((expected * factor).min(WIDE * highest).max(expected)).ok()?,
        calibrated,
    })
}

/// Loads by minute from the first known one up to `now`, `None` where unknown.
fn by_minute(minutes: &[&Minute], now: Timestamp) -> Option<Vec<Option<f64>>> {
    let known: Vec<(i64, f64)> = minutes
        .iter()
        .filter_map(|m| m.arrival.known().map(|rate| (m.start.0 / 60_000, rate.get())))
        .collect();
    let (first, last) = (known.first()?.0, known.last()?.0);
    let current = now.minute().0 / 60_000;
    if current - last > i64::from(BLIND) {
        return None;
    }
    let mut loads = vec![None; usize::try_from(last - first).ok()? + 1];
    for (minute, load) in known {
        loads[usize::try_from(minute - first).ok()?] = Some(load);
    }
    // Minutes since the last known one are gaps that the forecast walks over.
    loads.extend((last + 1..current).map(|_| None));
    Some(loads)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobStatus;
    use crate::series::Reading;

    fn minutes(rates: impl IntoIterator<Item = Option<f64>>) -> Vec<Minute> {
        let minute = |(i, rate): (usize, Option<f64>)| Minute {
            arrival: Reading::from_option(rate.map(|r| EventRate::new(r).unwrap())),
            status: JobStatus::Running,
            ..Minute::blind(Timestamp(i as i64 * 60_000))
        };
        rates.into_iter().enumerate().map(minute).collect()
    }

    fn at(minutes: &[Minute], n: usize) -> Option<LoadForecast> {
        let seen: Vec<&Minute> = minutes[..n].iter().collect();
        forecast_load(&seen, Timestamp(n as i64 * 60_000 + 10_000), 2)
    }

    #[test]
    fn the_first_forecast_is_the_last_value_with_a_wide_bound() {
        let forecast = at(&minutes([Some(100.0)]), 1).unwrap();
        assert!((forecast.expected.get() - 100.0).abs() < 1e-9);
        assert!((forecast.upper.get() - 125.0).abs() < 1e-9);
        assert!(!forecast.calibrated);
    }

    #[test]
    fn nothing_known_no_forecast() {
        assert_eq!(at(&minutes([None, None]), 2), None);
        let gone = minutes([Some(1.0), None, None, None]);
        assert!(at(&gone, 3).is_some());
        let seen: Vec<&Minute> = gone.iter().collect();
        assert_eq!(forecast_load(&seen, Timestamp(5 * 60_000), 2), None);
    }

    #[test]
    fn the_bound_covers_nine_in_ten() {
        // A day with a rise, a fall and noise that is no function of either.
        let day = (0..1_440).map(|i| {
            let t = f64::from(i) / 1_440.0 * std::f64::consts::TAU;
            let noise = (f64::from(i) * 12.9898).sin() * 43_758.547;
            Some(10_000.0 * (1.2 - t.cos()) * (1.0 + 0.08 * (noise - noise.floor() - 0.5)))
        });
        let minutes = minutes(day);
        let origins = 70..1_438;
        let covered = origins
            .clone()
            .filter(|&n| {
                let upper = at(&minutes, n).unwrap().upper.get();
                minutes[n..n + 2].iter().all(|m| m.arrival.known().unwrap().get() <= upper)
            })
            .count() as f64;
        let share = covered / origins.len() as f64;
        assert!((0.87..0.94).contains(&share), "{share}");
    }

    #[test]
    fn a_step_up_from_nothing_is_no_reason_to_expect_anything() {
        let minutes = minutes((0..60).map(|i| Some(if i < 30 { 0.0 } else { 20_000.0 })));
        for n in 31..60 {
            let upper = at(&minutes, n).unwrap().upper.get();
            assert!((19_900.0..=25_000.0).contains(&upper), "{n}: {upper}");
        }
    }

    #[test]
    fn a_gap_is_walked_over() {
        let rising =
            (0..60).map(|i| (!(30..32).contains(&i)).then(|| 1_000.0 + 10.0 * f64::from(i)));
        let minutes = minutes(rising);
        let forecast = at(&minutes, 32).unwrap();
        assert!((forecast.expected.get() - 1_330.0).abs() < 30.0, "{forecast:?}");
    }
}
