//! Is the job steady? The state against which an experiment is judged.

use khaos_stats::{mean, median, quantile};
use thiserror::Error;

use crate::job::JobRun;
use crate::series::{Reading, Readings};
use crate::units::{Span, Timestamp};

/// Length of the baseline, s.
pub const WINDOW_S: f64 = 300.0;
/// A reading older than this cannot be acted on, s.
pub const STALE_AFTER_S: f64 = 30.0;
/// Lag may wander by this much, in seconds of data, between the two halves of a steady window.
const DRIFT_S: f64 = 1.0;
/// Share of the samples seen at the usual pace that a window must have.
const COVERAGE: f64 = 0.8;

/// A steady state: what normal looks like, frozen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Baseline {
    /// Median consumer lag, events.
    pub lag: f64,
    /// p99 of the lag above its median, in seconds of data.
    pub p99_s: f64,
    /// Mean arrival rate, events/s.
    pub load: f64,
    /// Mean p99 latency, ms.
    pub latency_ms: Reading<f64>,
}

impl Baseline {
    /// The last [`WINDOW_S`] before `at`, whether steady or not; `None` when lag or arrival was not
    /// read.
    pub fn before(at: Timestamp, readings: &Readings) -> Option<Self> {
        let window = Span::last(WINDOW_S, at);
        let lags = readings.lag().values(window);
        // A negative rate is no rate.
        let load = readings.arrival().mean(window).known().filter(|load| *load >= 0.0)?;
        let lag = median(&lags)?;
        let excess: Vec<f64> = lags.iter().map(|l| (l - lag) / load.max(1.0)).collect();
        let latency_ms = readings.latency_ms.mean(window);
        Some(Self { lag, p99_s: quantile(&excess, 0.99)?, load, latency_ms })
    }
}

/// Why a job is not steady.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum NotSteady {
    /// Some vertex does not run, or has not run for the whole window.
    #[error("the job has not run without interruption for the last {WINDOW_S} s")]
    NotRunning,
    /// Lag or arrival rate is missing, has gaps or is old.
    #[error("lag or arrival rate is missing or has gaps in the last {WINDOW_S} s")]
    NotRead,
    /// The lag moves: catching up, or falling behind.
    #[error("the lag moved by {0:.1} s of data within the last {WINDOW_S} s")]
    Drifting(f64),
}

/// The job's steady state over the last [`WINDOW_S`] before `now`, or why it is not in one.
/// Catch-up never counts as steady: its lag moves.
pub fn steady(now: Timestamp, run: &JobRun, readings: &Readings) -> Result<Baseline, NotSteady> {
    if !run.ran_throughout(Span::last(WINDOW_S, now)) {
        return Err(NotSteady::NotRunning);
    }
    settled(now, readings)
}

/// As [`steady`], by the readings alone: of a job that has failed since, nobody can say any more how
/// long it had been running.
pub fn settled(now: Timestamp, readings: &Readings) -> Result<Baseline, NotSteady> {
    let window = Span::last(WINDOW_S, now);
    let (lag, arrival) = (readings.lag(), readings.arrival());
    let fresh = |s: &crate::series::Series| s.latest(now, STALE_AFTER_S).known().is_some();
    let samples = lag.within(window);
    let gaps: Vec<f64> = samples.windows(2).map(|w| w[1].at.secs_since(w[0].at)).collect();
    let pace = median(&gaps).ok_or(NotSteady::NotRead)?;
    if !fresh(&lag) || !fresh(&arrival) || (samples.len() as f64) * pace < COVERAGE * WINDOW_S {
        return Err(NotSteady::NotRead);
    }
    let baseline = Baseline::before(now, readings).ok_or(NotSteady::NotRead)?;
    let middle = now.plus_secs(-WINDOW_S / 2.0);
    let half = |from, to| mean(&lag.values(Span { from, to })).ok_or(NotSteady::NotRead);
    let moved = half(middle, now)? - half(window.from, middle)?;
    let drift = moved.abs() / baseline.load.max(1.0);
    if drift > DRIFT_S { Err(NotSteady::Drifting(drift)) } else { Ok(baseline) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{CheckpointSettings, EngineJobId, JobKey, JobShape, JobStatus};
    use crate::series::{Sample, Series, SourceReadings};
    use crate::units::CheckpointInterval;

    fn readings(lag: impl Fn(i64) -> Option<f64>) -> Readings {
        let series = |f: &dyn Fn(i64) -> Option<f64>| {
            Series::new(
                (0..=60)
                    .filter_map(|i| f(i).map(|value| Sample { at: Timestamp(i * 5_000), value })),
            )
        };
        let source = SourceReadings {
            name: "s".into(),
            arrival: series(&|_| Some(100.0)),
            lag: series(&lag),
        };
        let latency_ms = series(&|_| Some(40.0));
        Readings { sources: vec![source], throughput: Series::default(), latency_ms }
    }

    fn run(running_since: Option<i64>) -> JobRun {
        JobRun {
            key: JobKey("j".into()),
            engine_id: EngineJobId("e".into()),
            attempt: 0,
            parallelism: 1,
            shape: JobShape("s".into()),
            status: JobStatus::Running,
            running_since: running_since.map(Timestamp),
            checkpointing: CheckpointSettings::periodic(CheckpointInterval::from_secs(9).unwrap()),
            noticed: Vec::new(),
            expected_dead_time: None,
        }
    }

    const NOW: Timestamp = Timestamp(300_000);

    #[test]
    fn a_flat_lag_is_steady_and_its_baseline_is_by_hand() {
        // Lag alternates 10, 30 (30 of each): median 20; excess ±10 events = ±0.1 s at 100/s.
        let alternating = |i: i64| Some(if i % 2 == 0 { 10.0 } else { 30.0 });
        let baseline = steady(NOW, &run(Some(0)), &readings(alternating)).unwrap();
        assert!((baseline.lag - 20.0).abs() < 1e-9);
        assert!((baseline.p99_s - 0.1).abs() < 1e-9);
        assert!((baseline.load - 100.0).abs() < 1e-9);
        assert_eq!(baseline.latency_ms, Reading::Known(40.0));
    }

    #[test]
    fn each_reason_against() {
        let judge = |run: &JobRun, lag: &dyn Fn(i64) -> Option<f64>| {
            steady(NOW, run, &readings(lag)).unwrap_err()
        };
        assert_eq!(judge(&run(Some(1)), &|_| Some(0.0)), NotSteady::NotRunning);
        assert_eq!(judge(&run(None), &|_| Some(0.0)), NotSteady::NotRunning);
        assert_eq!(judge(&run(Some(0)), &|_| None), NotSteady::NotRead);
        assert_eq!(judge(&run(Some(0)), &|i| (i < 50).then_some(0.0)), NotSteady::NotRead);
        let gappy = |i: i64| (!(10..40).contains(&i)).then_some(0.0);
        assert_eq!(judge(&run(Some(0)), &gappy), NotSteady::NotRead);
        // Catching up at 10 events every 5 s: the halves differ by 300 events = 3 s of data.
        let NotSteady::Drifting(drift) = judge(&run(Some(0)), &|i| Some(1_000.0 - 10.0 * i as f64))
        else {
            panic!("catch-up must not be steady")
        };
        assert!((drift - 3.0).abs() < 0.1, "{drift}");
    }
}
