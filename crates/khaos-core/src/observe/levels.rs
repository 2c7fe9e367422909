//! Which loads matter, and where each can be replayed from.

use khaos_stats::{mean, median, quantile};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::job::JobStatus;
use crate::observe::Minute;
use crate::series::Reading;
use crate::units::{EventRate, Millis, Seconds, Span, Timestamp};

/// Load levels between the lowest and the highest: enough for any design to choose from.
const LEVELS: usize = 5;
/// A minute whose lag is this far above the usual is catching up, in seconds of data.
const CATCHING_UP_S: f64 = 3.0;

/// Shape of the stretch that a trial replays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StretchShape {
    /// From its start to the failure, but for an interval, s.
    pub lead_s: f64,
    /// From the failure to the end of the longest recovery that is waited for, s.
    pub hold_s: f64,
}

/// A load level and a stretch of the recording that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LoadLevel {
    /// Mean arrival rate around the middle of the stretch.
    pub rate: EventRate,
    /// Where it was recorded.
    pub stretch: Span,
}

/// What the observe phase concluded: the basis of a design.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// The recorded span.
    pub span: Span,
    /// Minutes with a known arrival rate.
    pub known_minutes: u32,
    /// Minutes without.
    pub unknown_minutes: u32,
    /// Minutes of steady state: running throughout and not catching up.
    pub steady_minutes: u32,
    /// Median consumer lag over the steady minutes, in seconds of data.
    pub lag: Seconds,
    /// Median p99 latency over the steady minutes.
    pub latency: Reading<Millis>,
    /// Lowest load, by minutes.
    pub lowest: EventRate,
    /// Highest load, by minutes.
    pub highest: EventRate,
    /// Load levels, lowest first.
    pub levels: Vec<LoadLevel>,
    /// p99 of checkpoint durations.
    pub checkpoint_duration: Reading<Seconds>,
}

/// Why no levels can be told yet.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum NotEnough {
    /// Too little was recorded to replay from.
    #[error("{have_s:.0} s recorded, but a trial replays {need_s:.0} s: observe for longer")]
    Recorded {
        /// Recorded so far, s.
        have_s: f64,
        /// Needed, s.
        need_s: f64,
    },
    /// The arrival rate was unknown too often.
    #[error("the arrival rate was unknown in {unknown} of {all} minutes: check the metrics")]
    Known {
        /// Minutes without an arrival rate.
        unknown: u32,
        /// Minutes in all.
        all: u32,
    },
    /// The job is seldom in a steady state.
    #[error(
        "the job was steady in {steady} of {all} minutes, running and not catching up: look at what \
         disturbs it, then observe again"
    )]
    Steady {
        /// Steady minutes.
        steady: u32,
        /// Minutes in all.
        all: u32,
    },
}

/// Concludes the observe phase from its minutes, oldest first.
///
/// Only steady minutes count for the levels: the load is known while a job is down or catches up,
/// but what is replayed should be what it normally sees.
pub fn observe(minutes: &[&Minute], shape: StretchShape) -> Result<Observation, NotEnough> {
    observe_levels(minutes, shape, LEVELS)
}

/// As [`observe`], with `count ≥ 2` equally spaced load levels instead of the usual.
pub fn observe_levels(
    minutes: &[&Minute],
    shape: StretchShape,
    count: usize,
) -> Result<Observation, NotEnough> {
    let all = minutes.len() as u32;
    let need_s = shape.lead_s + shape.hold_s;
    let have_s = f64::from(all) * Minute::SECS;
    let (Some(first), Some(last)) = (minutes.first(), minutes.last()) else {
        return Err(NotEnough::Recorded { have_s, need_s });
    };
    if have_s < need_s {
        return Err(NotEnough::Recorded { have_s, need_s });
    }
    let unknown = minutes.iter().filter(|m| m.arrival.known().is_none()).count() as u32;
    if unknown * 2 > all {
        return Err(NotEnough::Known { unknown, all });
    }
    let (steady, lag) = steady_minutes(minutes);
    if (steady.len() as u32) * 2 < all {
        return Err(NotEnough::Steady { steady: steady.len() as u32, all });
    }

    let rates: Vec<(Timestamp, f64)> =
        steady.iter().filter_map(|m| m.arrival.known().map(|rate| (m.start, rate.get()))).collect();
    let span = Span { from: first.start, to: last.start.plus_secs(Minute::SECS) };
    let by_rate: Vec<f64> = rates.iter().map(|&(_, rate)| rate).collect();
    let of = |q| quantile(&by_rate, q).expect("half of the minutes are steady");
    let (lowest, highest) = (of(0.0), of(1.0));
    let levels = (0..count)
        .map(|i| lowest + (highest - lowest) * i as f64 / (count - 1) as f64)
        .map(|rate| flattest_stretch(&rates, span, shape, rate))
        .collect();
    let durations: Vec<f64> =
        minutes.iter().filter_map(|m| m.checkpoint_duration.known()).map(Seconds::get).collect();
    let latencies: Vec<f64> =
        steady.iter().filter_map(|m| m.latency.known()).map(Millis::get).collect();
    Ok(Observation {
        span,
        known_minutes: all - unknown,
        unknown_minutes: unknown,
        steady_minutes: steady.len() as u32,
        lag: Seconds::new(lag).expect("a median of lags"),
        latency: Reading::from_option(median(&latencies).and_then(|ms| Millis::new(ms).ok())),
        lowest: rate(lowest),
        highest: rate(highest),
        levels,
        checkpoint_duration: Reading::from_option(
            quantile(&durations, 0.99).and_then(|s| Seconds::new(s).ok()),
        ),
    })
}

/// The minutes of steady state, and their median lag in seconds of data: running throughout, and
/// less than [`CATCHING_UP_S`] from what is usual.
fn steady_minutes<'a>(minutes: &[&'a Minute]) -> (Vec<&'a Minute>, f64) {
    let running: Vec<(&Minute, f64)> = minutes
        .iter()
        .filter(|m| m.status == JobStatus::Running)
        .filter_map(|m| Some((*m, m.lag.known()?.get() / m.arrival.known()?.get().max(1.0))))
        .collect();
    let lags: Vec<f64> = running.iter().map(|(_, lag)| *lag).collect();
    let usual = median(&lags).unwrap_or(0.0);
    // Both ways: of a lag that only grows, half would be below its median.
    let steady = running.iter().filter(|(_, lag)| (lag - usual).abs() < CATCHING_UP_S);
    (steady.map(|(minute, _)| *minute).collect(), usual)
}

/// The stretch in which the load around the failure stays closest to `target`, relative to it.
fn flattest_stretch(
    rates: &[(Timestamp, f64)],
    span: Span,
    shape: StretchShape,
    target: f64,
) -> LoadLevel {
    // What decides about a trial: the baseline before the failure and the first catch-up after it.
    let core = |from: Timestamp| Span {
        from: from.plus_secs((shape.lead_s - 300.0).max(0.0)),
        to: from.plus_secs(shape.lead_s + (shape.hold_s / 2.0).min(900.0)),
    };
    let within = |span: Span| -> Vec<f64> {
        let from = rates.partition_point(|&(at, _)| at < span.from);
        let to = rates.partition_point(|&(at, _)| at < span.to);
        rates[from..to].iter().map(|&(_, rate)| rate).collect()
    };
    let latest = span.to.plus_secs(-(shape.lead_s + shape.hold_s));
    let misfit = |from: Timestamp| {
        let squares: Vec<f64> = within(core(from))
            .iter()
            .map(|rate| ((rate - target) / target.max(1.0)).powi(2))
            .collect();
        mean(&squares).unwrap_or(f64::INFINITY)
    };
    let from = rates
        .iter()
        .map(|&(at, _)| at)
        .filter(|&at| at <= latest)
        .min_by(|&a, &b| misfit(a).total_cmp(&misfit(b)))
        .unwrap_or(span.from);
    let stretch = Span { from, to: from.plus_secs(shape.lead_s + shape.hold_s) };
    LoadLevel { rate: rate(mean(&within(core(from))).unwrap_or(target)), stretch }
}

fn rate(value: f64) -> EventRate {
    EventRate::new(value).expect("made of rates: finite and zero or more")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Events;

    fn minutes(rates: &[Option<f64>]) -> Vec<Minute> {
        let minute = |(i, value): (usize, &Option<f64>)| Minute {
            arrival: Reading::from_option(value.map(rate)),
            lag: Reading::Known(Events::new(10.0).unwrap()),
            status: JobStatus::Running,
            attempt: Some(0),
            checkpoint_duration: Reading::Known(Seconds::new(2.0).unwrap()),
            ..Minute::blind(Timestamp(i as i64 * 60_000))
        };
        rates.iter().enumerate().map(minute).collect()
    }

    const SHAPE: StretchShape = StretchShape { lead_s: 300.0, hold_s: 300.0 };

    #[test]
    fn levels_reach_from_lowest_to_highest_and_each_is_found_where_it_is_flat() {
        // Twenty minutes at 100, twenty at 300, twenty at 500.
        let rates: Vec<_> = (0..60).map(|i| Some(100.0 + 200.0 * f64::from(i / 20))).collect();
        let minutes = minutes(&rates);
        let observation = observe(&minutes.iter().collect::<Vec<_>>(), SHAPE).unwrap();
        assert!((observation.lowest.get() - 100.0).abs() < 1e-9);
        assert!((observation.highest.get() - 500.0).abs() < 1e-9);
        let levels: Vec<f64> = observation.levels.iter().map(|l| l.rate.get()).collect();
        assert_eq!(levels.len(), 5);
        for (level, expected) in [(0, 100.0), (2, 300.0), (4, 500.0)] {
            assert!((levels[level] - expected).abs() < 1e-9, "{levels:?}");
        }
        assert!(observation.levels.iter().all(|l| l.stretch.to <= observation.span.to));
        let three = observe_levels(&minutes.iter().collect::<Vec<_>>(), SHAPE, 3).unwrap().levels;
        assert_eq!(three, [0, 2, 4].map(|i| observation.levels[i]));
    }

    #[test]
    fn catching_up_is_not_steady() {
        let mut minutes = minutes(&[Some(100.0); 20]);
        for minute in &mut minutes[5..10] {
            minute.lag = Reading::Known(Events::new(900.0).unwrap());
            minute.arrival = Reading::Known(rate(500.0));
        }
        minutes[12].status = JobStatus::Restarting;
        let observation = observe(&minutes.iter().collect::<Vec<_>>(), SHAPE).unwrap();
        // 900 events at 500/s are 1.8 s behind; 2,000 would be 4 s.
        assert_eq!(observation.steady_minutes, 19);
        for minute in &mut minutes[5..10] {
            minute.lag = Reading::Known(Events::new(2_000.0).unwrap());
        }
        let observation = observe(&minutes.iter().collect::<Vec<_>>(), SHAPE).unwrap();
        assert_eq!(observation.steady_minutes, 14);
        assert!((observation.highest.get() - 100.0).abs() < 1e-9, "it was catching up above that");
        for minute in &mut minutes {
            minute.status = JobStatus::Restarting;
        }
        let error = observe(&minutes.iter().collect::<Vec<_>>(), SHAPE).unwrap_err();
        assert_eq!(error, NotEnough::Steady { steady: 0, all: 20 });
    }

    #[test]
    fn too_little_and_too_unknown_are_said() {
        let short = minutes(&[Some(1.0); 9]);
        let error = observe(&short.iter().collect::<Vec<_>>(), SHAPE).unwrap_err();
        assert_eq!(error, NotEnough::Recorded { have_s: 540.0, need_s: 600.0 });
        let blind = minutes(&[None; 20]);
        let error = observe(&blind.iter().collect::<Vec<_>>(), SHAPE).unwrap_err();
        assert_eq!(error, NotEnough::Known { unknown: 20, all: 20 });
    }
}
