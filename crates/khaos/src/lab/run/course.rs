//! What arrives at the lab's job, and when it fails: an afternoon that rises and falls, again and
//! again.
//!
//! All of it is in the time of the lab's clock but for what the job itself is told: a minute of the
//! lab passes in five seconds.

use std::f64::consts::TAU;

use khaos_adapters::lab::Rates;
use khaos_core::units::Timestamp;
use khaos_twin::Workload;

/// How many times as fast as the wall's the lab's clock runs.
pub(super) const SPEED: u32 = 12;
/// What the job sustains, events/s of the wall's time.
pub(super) const CAPACITY: u64 = 2_000;
/// Minutes in which the load rises and falls once.
pub(super) const PERIOD_MIN: u32 = 48;
/// The lowest and the highest load, as shares of the capacity.
const LOWEST: f64 = 0.25;
const HIGHEST: f64 = 0.72;
/// The minute of the period in which the load is lowest: a trial of it needs room before.
const LOWEST_MIN: f64 = 9.0;
/// The minutes of the period in which failures strike: at the bottom, rising, at the height, falling. So
/// far apart that each recovery is over, and its traces, before the next.
const FAILURES_MIN: [u32; 4] = [9, 21, 33, 45];
/// From the start of the contest to its first failure at least, minutes: whoever has just begun has to
/// be steady.
const STEADY_MIN: u32 = 7;
/// From its last failure to its end, minutes.
const AFTER_MIN: u32 = 10;

/// Mean arrival rate in `minute` since the beginning, whole events/s of the wall's time.
fn rate(minute: u32) -> u64 {
    let turn = (f64::from(minute % PERIOD_MIN) + 0.5 - LOWEST_MIN) / f64::from(PERIOD_MIN);
    let share = LOWEST + (HIGHEST - LOWEST) * 0.5 * (1.0 - (TAU * turn).cos());
    (share * CAPACITY as f64).round() as u64
}

/// What the job is told: one period, which is repeated.
pub(super) fn rates() -> anyhow::Result<Rates> {
    let wall_s = 60.0 / f64::from(SPEED);
    let minutes: Vec<String> =
        (0..PERIOD_MIN).map(|minute| format!("{wall_s}:{}", rate(minute))).collect();
    minutes.join(",").parse().map_err(anyhow::Error::msg)
}

/// The same from minute `from` on, `minutes` long, as the embedded engine is told it.
pub(super) fn workload(from: u32, minutes: u32) -> anyhow::Result<Workload> {
    let minute = |minute| rate(minute) as f64 / f64::from(SPEED);
    Ok(Workload::new((from..from + minutes).map(minute).collect())?)
}

/// The stretch in which policies are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Contest {
    /// Its first minute, since the beginning.
    pub(super) first: u32,
    /// How many minutes it has.
    pub(super) minutes: u32,
    /// The minutes in which failures strike, from its first on.
    pub(super) failures: Vec<u32>,
}

impl Contest {
    /// The contest that begins with minute `first`.
    pub(super) fn from(first: u32) -> Self {
        let earliest = first + STEADY_MIN;
        let next = |of_period: u32| {
            let before = earliest.saturating_sub(of_period).div_ceil(PERIOD_MIN);
            of_period + before * PERIOD_MIN - first
        };
        let mut failures = FAILURES_MIN.map(next).to_vec();
        failures.sort_unstable();
        let last = failures.last().copied().unwrap_or(0);
        Self { first, minutes: last + AFTER_MIN, failures }
    }

    /// When minute `minute` of it begins, where the lab began at `began_at`.
    pub(super) fn at(&self, began_at: Timestamp, minute: u32) -> Timestamp {
        began_at.plus_secs(60.0 * f64::from(self.first + minute))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_rises_and_falls_between_its_bounds() {
        let all: Vec<u64> = (0..PERIOD_MIN).map(rate).collect();
        let capacity = CAPACITY as f64;
        let (least, most) = (all.iter().min().unwrap(), all.iter().max().unwrap());
        assert!((*least as f64 / capacity - LOWEST).abs() < 0.01, "{least}");
        assert!((*most as f64 / capacity - HIGHEST).abs() < 0.01, "{most}");
        assert_eq!(all.iter().position(|rate| rate == least), Some(8));
        assert_eq!(rate(3), rate(3 + PERIOD_MIN));
        assert!(rates().unwrap().to_string().starts_with("5:"));
    }

    #[test]
    fn a_contest_has_every_failure_once_and_room_for_each() {
        for first in 0..2 * PERIOD_MIN {
            let contest = Contest::from(first);
            assert_eq!(contest.failures.len(), FAILURES_MIN.len());
            assert!(contest.failures[0] >= STEADY_MIN, "{contest:?}");
            assert!(contest.failures.windows(2).all(|pair| pair[1] - pair[0] >= 12), "{contest:?}");
            assert!(contest.minutes <= STEADY_MIN + PERIOD_MIN + AFTER_MIN, "{contest:?}");
            for failure in &contest.failures {
                let of_period = (first + failure) % PERIOD_MIN;
                assert!(FAILURES_MIN.iter().any(|f| f % PERIOD_MIN == of_period), "{contest:?}");
            }
        }
    }
}
