//! Looking back at a change: was it made, did it hold, did it make anything worse?

use khaos_stats::mean;
use serde::{Deserialize, Serialize};

use crate::job::JobStatus;
use crate::observe::Minute;
use crate::optimize::{Goals, Objective};
use crate::units::{CheckpointInterval, EventRate, Millis, Seconds, Timestamp};

/// Minutes after a change before it is judged.
const WATCH_MIN: usize = 3;
/// A latency is worse because of a change only where the load is higher by less than this share.
const SAME_LOAD: f64 = 1.02;

/// What became of a decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// When the change was put into force, or refused.
    pub at: Timestamp,
    /// The interval before.
    pub from: CheckpointInterval,
    /// The interval after.
    pub to: CheckpointInterval,
    /// Number of the change: a later one has a higher one.
    pub generation: u64,
    /// What happened.
    pub effect: Effect,
    /// How long the job stood still for it, s, once that has been seen; `None` where it did not.
    #[serde(default)]
    pub stalled: Option<Seconds>,
}

/// What happened to a change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// The actuator took it.
    Applied,
    /// The actuator refused it, and why.
    Refused(String),
    /// Looked at again: nothing speaks against it.
    Kept,
    /// Something got worse because of it: the interval went back, and why.
    RolledBack(String),
}

/// How a change looks in hindsight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Too early to say.
    Wait,
    /// Nothing got worse.
    Keep,
    /// An objective got worse because of it, and how.
    RollBack(String),
}

/// Judges a change made at `changed_at` to an interval of `to` by the `minutes` around it, oldest
/// first.
///
/// Two things are laid to its charge: checkpoints that completed before and fail since, and a
/// latency objective that held before and is broken since at no more load, where latency outranks
/// the recovery for whose sake intervals shrink.
pub fn judge(
    minutes: &[&Minute],
    changed_at: Timestamp,
    to: CheckpointInterval,
    goals: &Goals,
) -> Judgement {
    let first_after = minutes.partition_point(|m| m.start <= changed_at);
    let (before, after) = minutes.split_at(first_after);
    // The minute of the change itself belongs to neither side.
    let before = &before[..before.len().saturating_sub(1)];
    let before = &before[before.len().saturating_sub(WATCH_MIN)..];
    let watched_s = after.len() as f64 * Minute::SECS;
    if after.len() < WATCH_MIN || watched_s < 2.0 * to.seconds() {
        return Judgement::Wait;
    }
    let attempt = minutes.last().and_then(|m| m.attempt);
    let undisturbed = |side: &[&Minute]| {
        side.iter().all(|m| m.status == JobStatus::Running && m.attempt == attempt)
    };
    if before.is_empty() || !undisturbed(before) || !undisturbed(after) {
        return Judgement::Keep;
    }

    // A side of which not every minute was told says nothing.
    let completed =
        |side: &[&Minute]| side.iter().map(|m| m.checkpoints_completed).sum::<Option<u32>>();
    let failed = |side: &[&Minute]| side.last().and_then(|m| m.checkpoints_failed);
    let came = completed(before).is_some_and(|n| n > 0);
    let stay_away = completed(after) == Some(0);
    let fail = failed(before).zip(failed(after)).is_some_and(|(was, is)| is > was);
    if came && stay_away && fail {
        return Judgement::RollBack("no checkpoint has completed since, and some failed".into());
    }
    let latency = |side: &[&Minute]| {
        mean(&side.iter().filter_map(|m| m.latency.known().map(Millis::get)).collect::<Vec<_>>())
    };
    let load = |side: &[&Minute]| {
        mean(&side.iter().filter_map(|m| m.arrival.known().map(EventRate::get)).collect::<Vec<_>>())
    };
    let bound = goals.objectives.latency.map(Millis::get);
    let (Some(bound), Some(was), Some(is)) = (bound, latency(before), latency(after)) else {
        return Judgement::Keep;
    };
    let (Some(load_was), Some(load_is)) = (load(before), load(after)) else {
        return Judgement::Keep;
    };
    let worse = was <= bound && is > bound && load_is <= load_was * SAME_LOAD;
    if worse && goals.objectives.outranks(Objective::Latency, Objective::Recovery) {
        return Judgement::RollBack(format!(
            "latency was {was:.0} ms, is {is:.0} ms at no more load, and its objective is {bound:.0} ms"
        ));
    }
    Judgement::Keep
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimize::{Confidence, Objectives};
    use crate::profile::IntervalBounds;
    use crate::series::Reading;

    fn secs(seconds: u32) -> CheckpointInterval {
        CheckpointInterval::from_secs(seconds).unwrap()
    }

    fn goals(order: [Objective; 2]) -> Goals {
        let mut objectives = Objectives::recovery_and_latency(
            Seconds::new(60.0).unwrap(),
            Millis::new(100.0).unwrap(),
        );
        objectives.order = order.to_vec();
        Goals {
            objectives,
            bounds: IntervalBounds::new(secs(5), secs(60)).unwrap(),
            checkpoints_per_hour: None,
            confidence: Confidence::Mean,
        }
    }

    /// Three minutes before a change at 3:10, its own, and three after.
    fn minutes(latency: [f64; 2], completed: [u32; 2], failed: [u64; 2]) -> Vec<Minute> {
        let side = |i: usize| usize::from(i > 3);
        let minute = |i: usize| Minute {
            arrival: Reading::Known(EventRate::new(500.0).unwrap()),
            latency: Reading::Known(Millis::new(latency[side(i)]).unwrap()),
            status: JobStatus::Running,
            attempt: Some(1),
            checkpoints_completed: Some(completed[side(i)]),
            checkpoints_failed: Some(failed[side(i)]),
            ..Minute::blind(Timestamp(i as i64 * 60_000))
        };
        (0..7).map(minute).collect()
    }

    fn judged(minutes: &[Minute], order: [Objective; 2]) -> Judgement {
        let minutes: Vec<&Minute> = minutes.iter().collect();
        judge(&minutes, Timestamp(190_000), secs(10), &goals(order))
    }

    const RECOVERY_FIRST: [Objective; 2] = [Objective::Recovery, Objective::Latency];
    const LATENCY_FIRST: [Objective; 2] = [Objective::Latency, Objective::Recovery];

    #[test]
    fn waits_until_it_has_seen_enough() {
        let all = minutes([50.0; 2], [6; 2], [0; 2]);
        assert_eq!(judged(&all[..6], RECOVERY_FIRST), Judgement::Wait);
        assert_eq!(judged(&all, RECOVERY_FIRST), Judgement::Keep);
    }

    #[test]
    fn failing_checkpoints_roll_a_change_back() {
        let failing = minutes([50.0; 2], [6, 0], [0, 4]);
        assert!(matches!(judged(&failing, RECOVERY_FIRST), Judgement::RollBack(_)));
        let failed_before_too = minutes([50.0; 2], [0, 0], [4, 4]);
        assert_eq!(judged(&failed_before_too, RECOVERY_FIRST), Judgement::Keep);
    }

    #[test]
    fn a_broken_latency_counts_only_where_it_outranks_recovery() {
        let slower = minutes([90.0, 130.0], [6; 2], [0; 2]);
        assert!(matches!(judged(&slower, LATENCY_FIRST), Judgement::RollBack(_)));
        assert_eq!(judged(&slower, RECOVERY_FIRST), Judgement::Keep);
        let broken_before = minutes([110.0, 130.0], [6; 2], [0; 2]);
        assert_eq!(judged(&broken_before, LATENCY_FIRST), Judgement::Keep);
    }
}
