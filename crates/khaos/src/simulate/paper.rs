//! The published method: trials on a grid, two planes through them, a look every five minutes, and
//! a redeploy for every change.
//!
//! Source: Geldenhuys et al., *Khaos* (FedCSIS 2022, arXiv 2109.02340), as DESIGN, scoring, states
//! it. Nothing here is better than published, and nothing worse.

use std::collections::VecDeque;

use anyhow::Context;
use khaos_core::observe::LoadLevel;
use khaos_core::observe::steady::STALE_AFTER_S;
use khaos_core::profile::{Design, IntervalBounds, PlannedTrial, Recovery, Trial};
use khaos_core::series::Readings;
use khaos_core::stats::{LinearRegression, mean, ols};
use khaos_core::units::{CheckpointInterval, Millis, Seconds, Span, Timestamp};

/// Equally spaced loads of its trials.
pub const LOADS: usize = 12;
/// Equally spaced intervals of its trials, at most.
pub const INTERVALS: usize = 5;
/// Time between two looks, and what each takes the means of, s.
pub const LOOK_S: f64 = 300.0;
/// Time from a change to the next look, s.
pub const AFTER_CHANGE_S: f64 = 600.0;
/// Looks whose ratios of seen to expected latency are averaged.
const RATIOS: usize = 6;
/// Moves below this are not worth a restart, s.
const SMALLEST_MOVE_S: u32 = 5;

/// The trials: each interval at each of `levels`.
pub fn design(levels: &[LoadLevel], bounds: IntervalBounds) -> Design {
    let planned = |interval| {
        levels.iter().map(move |&LoadLevel { rate, stretch }| PlannedTrial {
            interval,
            load: rate,
            stretch,
        })
    };
    Design { trials: intervals(bounds).into_iter().flat_map(planned).collect(), shape: None }
}

/// The quarters of the largest interval from nought on, held in the bounds: the paper's own 10, 30,
/// 60, 90 and 120 s between 10 s and 120 s. Fewer where several fall on the smallest.
fn intervals(bounds: IntervalBounds) -> Vec<CheckpointInterval> {
    let (min, max) = (bounds.min(), bounds.max());
    let quarter = |i| f64::from(i) * max.seconds() / (INTERVALS - 1) as f64;
    let mut intervals: Vec<CheckpointInterval> = (0..INTERVALS as u32)
        .map(|i| CheckpointInterval::from_secs(quarter(i).round() as u32).unwrap_or(min).max(min))
        .collect();
    intervals.dedup();
    intervals
}

/// Means over the last [`LOOK_S`] of what the ports show.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Arrival rate, events/s.
    pub load: f64,
    /// p99 latency as reported, ms.
    pub latency_ms: f64,
}

impl Seen {
    /// What `readings` show at `now`; `None` when either is missing or stale.
    pub fn read(readings: &Readings, now: Timestamp) -> Option<Self> {
        let span = Span::last(LOOK_S, now);
        let (arrival, latency) = (readings.arrival(), &readings.latency_ms);
        for series in [&arrival, latency] {
            series.latest(now, STALE_AFTER_S).known()?;
        }
        Some(Self { load: arrival.mean(span).known()?, latency_ms: latency.mean(span).known()? })
    }
}

/// The method's controller: what it learnt before, and the ratios of its last looks.
#[derive(Debug, Clone)]
pub struct PaperMethod {
    /// Recovery, s, and latency, ms, over (1, λ, CI).
    recovery: LinearRegression<3>,
    latency: LinearRegression<3>,
    bounds: IntervalBounds,
    recovery_max: Seconds,
    latency_max: Millis,
    ratios: VecDeque<f64>,
}

impl PaperMethod {
    /// Fits both planes to what `trials` measured, as they are: a recovery that had no end counts
    /// for as long as it was watched, a trial that says nothing is left out.
    pub fn fit<'a>(
        trials: impl Iterator<Item = &'a Trial> + Clone,
        bounds: IntervalBounds,
        recovery_max: Seconds,
        latency_max: Millis,
    ) -> anyhow::Result<Self> {
        let usable = trials.filter(|trial| !matches!(trial.recovery, Recovery::Spoilt(_)));
        let at = |trial: &Trial| predictors(trial.load.get(), trial.interval);
        let recoveries: Vec<_> = usable
            .clone()
            .filter_map(|trial| match &trial.recovery {
                Recovery::Measured(s) | Recovery::Censored(s) => Some((at(trial), s.get())),
                Recovery::Spoilt(_) => None,
            })
            .collect();
        let latencies: Vec<_> =
            usable.filter_map(|trial| Some((at(trial), trial.latency?.get()))).collect();
        let undetermined = "paper: its trials tell too little for a plane over load and interval: \
                            give a --recording whose load varies and bounds that lie apart, or \
                            leave paper out of --policies";
        Ok(Self {
            recovery: ols(&recoveries).context(undetermined)?,
            latency: ols(&latencies).context(undetermined)?,
            bounds,
            recovery_max,
            latency_max,
            ratios: VecDeque::with_capacity(RATIOS + 1),
        })
    }

    /// The interval to change to from `current`; `None` to hold, also where nothing was `seen`.
    ///
    /// Where no interval has both shares below one it holds: the paper says nothing of that case,
    /// and whichever it took would cost a restart without meeting the objectives.
    pub fn decide(
        &mut self,
        current: CheckpointInterval,
        seen: Option<Seen>,
    ) -> Option<CheckpointInterval> {
        let Seen { load, latency_ms } = seen?;
        let weight = self.weight(load, latency_ms, current)?;
        let (recovery_max, latency_max) = (self.recovery_max.get(), self.latency_max.get());
        let recovery = |interval| self.recovery.predict(&predictors(load, interval));
        let longer = if latency_ms > latency_max && recovery(current) < recovery_max {
            true
        } else if latency_ms < latency_max && recovery(current) > recovery_max {
            false
        } else {
            return None;
        };
        let cost = |interval: CheckpointInterval| {
            let a = weight * self.latency.predict(&predictors(load, interval)) / latency_max;
            let b = recovery(interval) / recovery_max;
            let within = |share: f64| share > 0.0 && share < 1.0;
            (within(a) && within(b)).then_some(a + b + (a - b).abs())
        };
        let direction = |interval: &CheckpointInterval| {
            if longer { *interval > current } else { *interval < current }
        };
        let (best, _) = self
            .bounds
            .candidates()
            .filter(direction)
            .filter_map(|interval| Some((interval, cost(interval)?)))
            .min_by(|(_, one), (_, other)| one.total_cmp(other))?;
        (best.secs().abs_diff(current.secs()) >= SMALLEST_MOVE_S).then_some(best)
    }

    /// Mean of the last ratios of seen to expected latency, this look's among them; `None` where the
    /// plane has fallen below zero, for a ratio to that says nothing.
    fn weight(&mut self, load: f64, latency_ms: f64, current: CheckpointInterval) -> Option<f64> {
        let expected = self.latency.predict(&predictors(load, current));
        if expected <= 0.0 {
            return None;
        }
        self.ratios.push_back(latency_ms / expected);
        if self.ratios.len() > RATIOS {
            self.ratios.pop_front();
        }
        mean(self.ratios.make_contiguous())
    }
}

fn predictors(load: f64, interval: CheckpointInterval) -> [f64; 3] {
    [1.0, load, interval.seconds()]
}
