//! Drive: trigger each checkpoint from outside, so that the interval changes without a restart.
//!
//! One task per driven job, one outstanding trigger per task. The next trigger is due one interval
//! after the last completed checkpoint was *triggered*, whoever triggered it; only a job whose every
//! vertex runs is triggered. When the driver dies, nothing more is triggered, and the engine's own
//! interval, the fallback, takes over by itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use khaos_core::job::{CheckpointHistory, JobKey, JobRun, JobStatus, TriggerId};
use khaos_core::units::{CheckpointInterval, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::ports::{Actuator, Checkpoints, Generation, Jobs, PortError, TriggerOutcome};

/// Time between two looks at a triggered checkpoint, ms.
const POLL_MS: i64 = 250;
/// Time before the next try when the job does not run, nobody answers or a checkpoint failed, ms.
const RETRY_MS: i64 = 1_000;
/// A trigger without an outcome for this long is given up, ms: Flink's default checkpoint timeout.
const DEADLINE_MS: i64 = 600_000;

/// The actuator that drives.
pub struct Driver {
    engine: Engine,
    drives: Mutex<BTreeMap<JobKey, Drive>>,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

/// One driven job. Dropping it stops driving.
struct Drive {
    generation: Generation,
    interval: watch::Sender<CheckpointInterval>,
    task: JoinHandle<()>,
}

impl Drop for Drive {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Driver {
    /// A driver that drives nothing yet.
    pub fn new(clock: Clock, jobs: Arc<dyn Jobs>, checkpoints: Arc<dyn Checkpoints>) -> Self {
        Self { engine: Engine { clock, jobs, checkpoints }, drives: Mutex::default() }
    }
}

#[async_trait]
impl Actuator for Driver {
    async fn apply(
        &self,
        run: &JobRun,
        interval: CheckpointInterval,
        generation: Generation,
    ) -> Result<(), PortError> {
        // Driven checkpoints come on top of the engine's own: the interval can only get shorter.
        let fallback = run.checkpointing.interval;
        if interval > fallback {
            return Err(PortError::Refused(format!(
                "an interval of {interval} cannot be driven: the engine's own is {fallback}"
            )));
        }
        let mut drives = self.drives.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(drive) = drives.get_mut(&run.key) {
            if generation <= drive.generation {
                let current = drive.generation;
                return Err(PortError::StaleGeneration { given: generation, current });
            }
            drive.generation = generation;
            drive.interval.send_replace(interval);
            return Ok(());
        }
        let (sender, receiver) = watch::channel(interval);
        let task = tokio::spawn(self.engine.clone().drive(run.key.clone(), receiver));
        drives.insert(run.key.clone(), Drive { generation, interval: sender, task });
        Ok(())
    }

    async fn release(&self, run: &JobRun) -> Result<(), PortError> {
        self.drives.lock().unwrap_or_else(PoisonError::into_inner).remove(&run.key);
        Ok(())
    }
}

/// The engine as the driver sees it.
#[derive(Clone)]
struct Engine {
    clock: Clock,
    jobs: Arc<dyn Jobs>,
    checkpoints: Arc<dyn Checkpoints>,
}

/// What to do next about a job.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Trigger a checkpoint now.
    Trigger,
    /// Look again then.
    Look(Timestamp),
}

impl Engine {
    async fn drive(self, job: JobKey, mut wanted: watch::Receiver<CheckpointInterval>) {
        loop {
            let interval = *wanted.borrow_and_update();
            let now = self.clock.now();
            let seen = self.look(&job).await;
            let at = match &seen {
                Ok((run, history)) => match next(run, history, interval, now) {
                    Next::Trigger => {
                        self.checkpoint(run).await;
                        continue;
                    }
                    Next::Look(at) => at,
                },
                Err(_) => now.plus_millis(RETRY_MS),
            };
            tokio::select! {
                biased;
                changed = wanted.changed() => if changed.is_err() { return },
                () = self.clock.sleep_until(at) => {}
            }
        }
    }

    async fn look(&self, job: &JobKey) -> Result<(JobRun, CheckpointHistory), PortError> {
        let run = self.jobs.describe(job).await?;
        let history = self.checkpoints.history(&run.engine_id).await?;
        Ok((run, history))
    }

    /// Triggers one checkpoint and waits for its end: only then may there be another.
    async fn checkpoint(&self, run: &JobRun) {
        let triggered_at = self.clock.now();
        let id = TriggerId::new(&run.engine_id, triggered_at);
        let deadline = triggered_at.plus_millis(DEADLINE_MS);
        let mut answer = self
            .checkpoints
            .trigger(&run.engine_id, &id)
            .await
            .map(|()| TriggerOutcome::InProgress);
        // An engine that does not answer may still be at it: nothing is sent before it is known.
        while !matches!(answer, Ok(TriggerOutcome::Completed(_) | TriggerOutcome::Failed(_)))
            && self.clock.now() < deadline
        {
            match answer {
                Err(PortError::NotFound(_)) => break,
                Err(_) => self.pause(RETRY_MS).await,
                Ok(_) => {}
            }
            answer = self.checkpoints.outcome(&run.engine_id, &id).await;
            if answer == Ok(TriggerOutcome::InProgress) {
                self.pause(POLL_MS).await;
            }
        }
        if !matches!(answer, Ok(TriggerOutcome::Completed(_))) {
            self.pause(RETRY_MS).await;
        }
    }

    async fn pause(&self, millis: i64) {
        self.clock.sleep_until(self.clock.now().plus_millis(millis)).await;
    }
}

/// What to do next: a pure function of what is seen.
fn next(
    run: &JobRun,
    history: &CheckpointHistory,
    interval: CheckpointInterval,
    now: Timestamp,
) -> Next {
    let Some(running_since) = run.running_since.filter(|_| run.status == JobStatus::Running) else {
        return Next::Look(now.plus_millis(RETRY_MS));
    };
    if history.pending.is_some() {
        return Next::Look(now.plus_millis(POLL_MS));
    }
    // What a failure now would roll back to: before the first checkpoint, the start.
    let newest = history.newest().or(history.restored.as_ref());
    let due = newest.map_or(running_since, |c| c.triggered_at).plus_millis(interval.millis());
    if due <= now { Next::Trigger } else { Next::Look(due) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use khaos_core::job::{
        CheckpointSettings, CompletedCheckpoint, EngineJobId, JobShape, PendingCheckpoint,
    };

    fn secs(seconds: u32) -> CheckpointInterval {
        CheckpointInterval::from_secs(seconds).expect("not zero")
    }

    fn run(running_since: Option<i64>) -> JobRun {
        JobRun {
            key: JobKey("j".into()),
            engine_id: EngineJobId("e".into()),
            attempt: 0,
            parallelism: 1,
            shape: JobShape("s".into()),
            status: running_since.map_or(JobStatus::Restarting, |_| JobStatus::Running),
            running_since: running_since.map(Timestamp),
            checkpointing: CheckpointSettings::full(secs(60)),
        }
    }

    fn completed(triggered_at: i64) -> CheckpointHistory {
        let checkpoint = CompletedCheckpoint {
            id: 1,
            triggered_at: Timestamp(triggered_at),
            completed_at: Timestamp(triggered_at + 500),
        };
        CheckpointHistory { completed: vec![checkpoint], ..CheckpointHistory::default() }
    }

    #[test]
    fn the_age_counts_from_the_trigger_of_the_newest_completed_checkpoint() {
        let at = |now| next(&run(Some(0)), &completed(20_000), secs(10), Timestamp(now));
        assert_eq!(at(29_999), Next::Look(Timestamp(30_000)));
        assert_eq!(at(30_000), Next::Trigger);
    }

    #[test]
    fn before_the_first_checkpoint_the_age_counts_from_the_start() {
        let none = CheckpointHistory::default();
        let at = |now| next(&run(Some(5_000)), &none, secs(10), Timestamp(now));
        assert_eq!(at(14_000), Next::Look(Timestamp(15_000)));
        assert_eq!(at(15_000), Next::Trigger);
    }

    #[test]
    fn never_while_a_vertex_does_not_run_nor_while_one_is_pending() {
        let down = next(&run(None), &completed(0), secs(1), Timestamp(90_000));
        assert_eq!(down, Next::Look(Timestamp(90_000 + RETRY_MS)));
        let pending = PendingCheckpoint {
            id: 2,
            triggered_at: Timestamp(80_000),
            acknowledged: 0,
            subtasks: 4,
        };
        let busy = CheckpointHistory { pending: Some(pending), ..completed(0) };
        let look = next(&run(Some(0)), &busy, secs(1), Timestamp(90_000));
        assert_eq!(look, Next::Look(Timestamp(90_000 + POLL_MS)));
    }
}
