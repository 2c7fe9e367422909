//! What was in force and known, minute by minute, by the records alone.

use std::sync::Arc;

use khaos_core::optimize::{Effect, Goals, RecoveryParameters};
use khaos_core::record::Record;
use khaos_core::units::{CheckpointInterval, EventRate, Seconds, Timestamp};

/// A minute as the charts show it. What was not known is `None`, and not drawn.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Point {
    pub(super) at: Timestamp,
    pub(super) load: Option<f64>,
    pub(super) interval: CheckpointInterval,
    /// Worst-case recovery at the interval in force, s; infinite beyond capacity.
    pub(super) worst_s: Option<f64>,
    /// The same at the fallback.
    pub(super) worst_at_fallback_s: Option<f64>,
    /// Whether the job had restarted since the minute before.
    pub(super) failed: bool,
}

pub(super) fn timeline(records: &[Arc<Record>], goals: &Goals) -> Vec<Point> {
    let models = records.iter().rev().find_map(|record| record.models());
    let parameters = models.map(|models| models.recovery.parameters);
    let changes: Vec<(Timestamp, CheckpointInterval)> = records
        .iter()
        .filter_map(|record| record.outcome())
        .filter(|o| matches!(o.effect, Effect::Applied | Effect::RolledBack(_)))
        .map(|outcome| (outcome.at, outcome.to))
        .collect();
    let mut minutes: Vec<_> = records.iter().filter_map(|record| record.minute()).collect();
    minutes.sort_by_key(|minute| minute.start);

    let mut attempt = minutes.first().and_then(|minute| minute.attempt);
    minutes
        .into_iter()
        .map(|minute| {
            let made = changes.partition_point(|(at, _)| *at <= minute.start);
            let interval = made.checked_sub(1).map_or(goals.bounds.max(), |i| changes[i].1);
            let load = minute.arrival.known().map(EventRate::get);
            let duration = minute.checkpoint_duration.known().map_or(0.0, Seconds::get);
            let worst = |interval: CheckpointInterval| {
                let worst = |p: RecoveryParameters, load| {
                    p.worst_case(interval.seconds(), duration, load).unwrap_or(f64::INFINITY)
                };
                parameters.zip(load).map(|(p, load)| worst(p, load))
            };
            let failed = attempt.zip(minute.attempt).is_some_and(|(was, is)| is > was);
            attempt = minute.attempt.or(attempt);
            Point {
                at: minute.start,
                load,
                interval,
                worst_s: worst(interval),
                worst_at_fallback_s: worst(goals.bounds.max()),
                failed,
            }
        })
        .collect()
}
