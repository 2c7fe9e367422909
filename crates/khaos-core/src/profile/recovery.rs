//! When did a failure begin to show, and when was it over? Judged from the lag alone.
//!
//! `s = (lag − median of the baseline)/max(λ, 1)`: the lag above normal, in seconds of data. A
//! failure shows when `s > 3 + p99` and is over when `s < 1 + p99` for 15 s, p99 being that of `s`
//! over the baseline, which is frozen at the failure. Source: DESIGN, recovery detection.

use crate::observe::Baseline;
use crate::series::{Sample, Series};
use crate::units::{Span, Timestamp};

/// Excess of lag at which a failure shows, in seconds of data above the baseline's p99.
const SHOWS_S: f64 = 3.0;
/// Excess below which it is over, in seconds of data above the baseline's p99.
const OVER_S: f64 = 1.0;
/// For how long it has to stay below, s.
const CALM_S: f64 = 15.0;

/// Lag above normal, in seconds of data, below which a recovery counts as over.
pub fn calm_below_s(baseline: &Baseline) -> f64 {
    OVER_S + baseline.p99_s
}

/// The first instant within `span` at which the lag shows a failure.
pub fn onset(baseline: &Baseline, lag: &Series, arrival: &Series, span: Span) -> Option<Timestamp> {
    lag.within(span)
        .iter()
        .find(|sample| excess(baseline, arrival, sample) > SHOWS_S + baseline.p99_s)
        .map(|sample| sample.at)
}

/// How far a recovery has come, by the lag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The failure has not shown in the lag.
    NotShown,
    /// The lag has risen and is not back to normal for good.
    NotOver,
    /// The lag was back to normal then, the first instant of the calm.
    Over(Timestamp),
}

/// How far the recovery from the failure at `failed_at` has come.
///
/// Where the time of the failure is known, any excess that would have to end also shows it.
pub fn recovered(
    baseline: &Baseline,
    lag: &Series,
    arrival: &Series,
    failed_at: Timestamp,
) -> Progress {
    let samples = lag.within(Span { from: failed_at, to: Timestamp(i64::MAX) });
    let over = |sample: &Sample| excess(baseline, arrival, sample) < calm_below_s(baseline);
    let Some(risen) = samples.iter().position(|sample| !over(sample)) else {
        return Progress::NotShown;
    };
    let mut calm_since = None;
    for sample in &samples[risen..] {
        if !over(sample) {
            calm_since = None;
            continue;
        }
        let since = *calm_since.get_or_insert(sample.at);
        if sample.at.secs_since(since) >= CALM_S {
            return Progress::Over(since);
        }
    }
    Progress::NotOver
}

/// Lag above normal, in seconds of data at the load of that moment; of the baseline where the load
/// of that moment was not read.
fn excess(baseline: &Baseline, arrival: &Series, sample: &Sample) -> f64 {
    let load = arrival.latest(sample.at, 60.0).known().unwrap_or(baseline.load);
    (sample.value - baseline.lag) / load.max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::Reading;

    fn lag_of(values: &[f64]) -> Series {
        let sample = |(i, &value): (usize, &f64)| Sample { at: Timestamp(i as i64 * 5_000), value };
        Series::new(values.iter().enumerate().map(sample))
    }

    const BASELINE: Baseline =
        Baseline { lag: 50.0, p99_s: 0.5, load: 100.0, latency_ms: Reading::Unknown };

    #[test]
    fn the_first_calm_instant_by_hand() {
        // At 100 events/s the lag is over below 50 + 1.5·100 = 200 events and shows above 400.
        let lag = lag_of(&[50., 60., 300., 500., 900., 250., 150., 250., 150., 60., 50., 50., 50.]);
        let span = Span { from: Timestamp(0), to: Timestamp(60_000) };
        let none = Series::default();
        assert_eq!(onset(&BASELINE, &lag, &none, span), Some(Timestamp(15_000)));
        // 150 at 30 s is interrupted at 35 s; calm from 40 s on, sure at 55 s.
        assert_eq!(
            recovered(&BASELINE, &lag, &none, Timestamp(0)),
            Progress::Over(Timestamp(40_000))
        );
    }

    #[test]
    fn not_over_before_it_has_risen_nor_before_it_is_calm() {
        let none = Series::default();
        let flat = lag_of(&[50.0; 20]);
        assert_eq!(recovered(&BASELINE, &flat, &none, Timestamp(0)), Progress::NotShown);
        let rising = lag_of(&[50., 500., 900., 100., 100., 100.]);
        assert_eq!(recovered(&BASELINE, &rising, &none, Timestamp(0)), Progress::NotOver);
    }

    #[test]
    fn the_load_of_the_moment_counts() {
        // 500 events are 4.5 s at 100/s but 0.45 s at 1,000/s.
        let lag = lag_of(&[500.0]);
        let span = Span { from: Timestamp(0), to: Timestamp(1) };
        let busy = Series::new([Sample { at: Timestamp(0), value: 1_000.0 }]);
        assert!(onset(&BASELINE, &lag, &Series::default(), span).is_some());
        assert!(onset(&BASELINE, &lag, &busy, span).is_none());
    }
}
