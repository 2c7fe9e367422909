//! Checkpoints, followed beyond what Flink remembers: it keeps the last ten of all kinds.

use std::collections::BTreeMap;
use std::sync::{PoisonError, Weak};

use khaos_control::core::job::{
    CheckpointHistory, CompletedCheckpoint, EngineJobId, PendingCheckpoint,
};
use khaos_control::core::units::Timestamp;
use khaos_control::ports::PortError;

use super::Deployments;
use super::deployment::name;
use super::messages::{Checkpoint, CheckpointStatistics};
use super::rest::Rest;
use super::task::{Beat, Task};

/// Time between two looks, ms: checkpoints must not come ten at a time between them.
const PERIOD_MS: i64 = 5_000;

/// How long a completed checkpoint is remembered, s: longer than anybody looks back.
const REMEMBERED_S: f64 = 4_200.0;

/// What Flink tells of a deployment's checkpoints now.
pub(super) async fn ask(rest: &Rest, id: &EngineJobId) -> Result<CheckpointStatistics, PortError> {
    rest.get(&format!("/jobs/{id}/checkpoints"), &name(id)).await
}

/// Keeps the history of one deployment without gaps for as long as it is there, whether or not
/// anybody asks for it, or for readings. Dropping it stops it.
#[derive(Debug)]
pub(super) struct Follower {
    _task: Task,
}

impl Follower {
    pub(super) fn start(rest: Rest, deployments: Weak<Deployments>, id: EngineJobId) -> Self {
        Self { _task: Task::of(follow(rest, deployments, id)) }
    }
}

async fn follow(rest: Rest, deployments: Weak<Deployments>, id: EngineJobId) {
    let mut beat = Beat::every(PERIOD_MS, rest.clock());
    loop {
        beat.wait().await;
        // Where nobody answers there may be a gap, which the next answer shows.
        let told = ask(&rest, &id).await;
        let Some(deployments) = deployments.upgrade() else { return };
        let mut deployments = deployments.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Ok(told), Some(deployment)) = (told, deployments.get_mut(&id)) {
            deployment.followed.take_in(&told, &rest);
        }
    }
}

/// The completed checkpoints of one deployment, merged from what Flink told at different times.
#[derive(Debug, Default)]
pub(super) struct Followed {
    completed: BTreeMap<u64, CompletedCheckpoint>,
    /// Every checkpoint up to this number has been seen to its end; `None` before the first look.
    settled: Option<u64>,
    /// Since when `completed` is complete.
    complete_since: Timestamp,
}

impl Followed {
    /// Takes in what Flink tells now.
    pub(super) fn take_in(
        &mut self,
        told: &CheckpointStatistics,
        rest: &Rest,
    ) -> CheckpointHistory {
        self.merge(told, |theirs| rest.ours(theirs))
    }

    fn merge(
        &mut self,
        told: &CheckpointStatistics,
        ours: impl Fn(i64) -> Timestamp,
    ) -> CheckpointHistory {
        let in_progress = |c: &&Checkpoint| c.status == "IN_PROGRESS";
        let newest = told.history.iter().map(|c| c.id).max();
        if newest < self.settled && newest.is_some() {
            // Numbers began anew: another deployment under the same id.
            *self = Self::default();
        }
        // Numbers are given without gaps, so the oldest one told shows whether some were missed.
        if let Some(oldest) = told.history.iter().min_by_key(|c| c.id) {
            if oldest.id > self.settled.unwrap_or(0) + 1 {
                self.complete_since = ours(oldest.trigger_timestamp);
            }
            let open = told.history.iter().filter(in_progress).map(|c| c.id).min();
            self.settled = open.map(|id| id - 1).or(newest);
        } else {
            self.settled = Some(self.settled.unwrap_or(0));
        }
        // Savepoints are no restore points after a failure.
        let completed = |c: &&Checkpoint| c.status == "COMPLETED" && !c.is_savepoint;
        for checkpoint in told.history.iter().filter(completed) {
            self.completed.entry(checkpoint.id).or_insert_with(|| {
                let Checkpoint { id, trigger_timestamp, end_to_end_duration, .. } = *checkpoint;
                CompletedCheckpoint {
                    id,
                    triggered_at: ours(trigger_timestamp),
                    completed_at: ours(trigger_timestamp + end_to_end_duration),
                }
            });
        }
        if let Some(newest) = self.completed.values().next_back().copied() {
            let forgotten = newest.completed_at.plus_secs(-REMEMBERED_S);
            let before = self.completed.len();
            self.completed.retain(|_, c| c.completed_at >= forgotten);
            if self.completed.len() < before {
                self.complete_since = self.complete_since.max(forgotten);
            }
        }
        let pending = told.history.iter().find(in_progress);
        CheckpointHistory {
            completed: self.completed.values().copied().collect(),
            complete_since: self.complete_since,
            pending: pending.map(|checkpoint| PendingCheckpoint {
                id: checkpoint.id,
                triggered_at: ours(checkpoint.trigger_timestamp),
                acknowledged: checkpoint.num_acknowledged_subtasks,
                subtasks: checkpoint.num_subtasks,
            }),
            failed: told.counts.failed,
            // Flink does not tell when the restored one had been triggered.
            restored: told
                .latest
                .restored
                .as_ref()
                .and_then(|r| self.completed.get(&r.id))
                .copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checkpoints `(number, status, is it a savepoint)`, one every 10 s, 1 s long.
    fn told(checkpoints: &[(u64, &str, bool)], restored: Option<u64>) -> CheckpointStatistics {
        let entry = |(id, status, savepoint): &(u64, &str, bool)| {
            let (at, duration) = (10_000 * id, if *status == "IN_PROGRESS" { -1 } else { 1_000 });
            format!(
                r#"{{"id":{id},"status":"{status}","is_savepoint":{savepoint},
                    "trigger_timestamp":{at},"end_to_end_duration":{duration},
                    "num_subtasks":4,"num_acknowledged_subtasks":1}}"#
            )
        };
        let history: Vec<String> = checkpoints.iter().rev().map(entry).collect();
        let restored = restored.map_or("null".to_owned(), |id| format!(r#"{{"id":{id}}}"#));
        serde_json::from_str(&format!(
            r#"{{"counts":{{"failed":3}},"latest":{{"restored":{restored}}},
                "history":[{}]}}"#,
            history.join(",")
        ))
        .unwrap()
    }

    fn look(followed: &mut Followed, checkpoints: &[(u64, &str, bool)]) -> CheckpointHistory {
        // Our clock is 5 ms behind.
        followed.merge(&told(checkpoints, None), |theirs| Timestamp(theirs - 5))
    }

    const DONE: &str = "COMPLETED";

    #[test]
    fn what_flink_forgets_is_remembered() {
        let mut followed = Followed::default();
        look(&mut followed, &[(1, DONE, false), (2, DONE, false)]);
        let history = look(&mut followed, &[(2, DONE, false), (3, "IN_PROGRESS", false)]);
        let numbers: Vec<u64> = history.completed.iter().map(|c| c.id).collect();
        assert_eq!(numbers, [1, 2]);
        assert_eq!(history.completed[0].triggered_at, Timestamp(9_995));
        assert_eq!(history.completed[0].completed_at, Timestamp(10_995));
        assert_eq!(history.complete_since, Timestamp(0), "from the first one on");
        assert_eq!((history.pending.unwrap().id, history.failed), (3, 3));
    }

    #[test]
    fn what_was_missed_is_said() {
        // Looking begins late: what was before is not known.
        let mut followed = Followed::default();
        let history = look(&mut followed, &[(7, DONE, false), (8, "FAILED", false)]);
        assert_eq!(history.complete_since, Timestamp(69_995));
        // Number 9 was under way and has gone since: whether it completed is not known.
        look(&mut followed, &[(8, "FAILED", false), (9, "IN_PROGRESS", false)]);
        let history = look(&mut followed, &[(10, DONE, false)]);
        assert_eq!(history.complete_since, Timestamp(99_995));
        assert_eq!(history.completed.iter().map(|c| c.id).collect::<Vec<_>>(), [7, 10]);
    }

    #[test]
    fn another_deployment_under_the_same_id_begins_anew() {
        let mut followed = Followed::default();
        look(&mut followed, &[(7, DONE, false), (8, DONE, false)]);
        let history = look(&mut followed, &[(1, DONE, false)]);
        assert_eq!(history.completed.iter().map(|c| c.id).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_savepoint_takes_a_number_and_is_no_checkpoint() {
        let mut followed = Followed::default();
        look(&mut followed, &[(1, DONE, false)]);
        let history = look(&mut followed, &[(1, DONE, false), (2, DONE, true)]);
        assert_eq!(history.completed.len(), 1);
        let history = look(&mut followed, &[(3, DONE, false)]);
        assert_eq!(history.complete_since, Timestamp(0));
        assert_eq!(history.completed.len(), 2);
    }

    #[test]
    fn the_restored_one_is_known_where_it_was_seen_to_complete() {
        let mut followed = Followed::default();
        look(&mut followed, &[(1, DONE, false)]);
        let history = followed.merge(&told(&[], Some(1)), Timestamp);
        assert_eq!(history.restored.unwrap().triggered_at, Timestamp(9_995));
        let history = Followed::default().merge(&told(&[], Some(1)), Timestamp);
        assert_eq!(history.restored, None);
    }
}
