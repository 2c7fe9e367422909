//! Drive: trigger each checkpoint from outside, so that the interval changes without a restart.
//!
//! One task per driven job, one outstanding trigger per task. The next trigger is due one interval
//! after the last completed checkpoint was *triggered*, whoever triggered it; only a job whose every
//! vertex runs is triggered. When the driver dies, nothing more is triggered, and the engine's own
//! interval, the fallback, takes over by itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use khaos_core::job::{CheckpointHistory, EngineJobId, JobKey, JobRun, JobStatus, TriggerId};
use khaos_core::units::{CheckpointInterval, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::ports::{Actuator, Checkpoints, Generation, Jobs, PortError, TriggerOutcome};

/// Time between two looks at a triggered checkpoint, ms.
const POLL_MS: i64 = 250;
/// Time before the next try when the job does not run, nobody answers or a checkpoint failed, ms.
const RETRY_MS: i64 = 1_000;
/// A trigger whose answer got lost may still arrive for this long, ms.
const ARRIVES_MS: i64 = 10_000;
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

/// A job that is or was driven.
#[derive(Default)]
struct Drive {
    /// The last change; remembered when nobody drives any more, so that a delayed one cannot begin
    /// anew.
    generation: Option<Generation>,
    /// The trigger whose end is not known yet; outlives the task that sent it.
    outstanding: Outstanding,
    driving: Option<Driving>,
}

type Outstanding = Arc<Mutex<Option<Sent>>>;

/// A trigger that was sent.
#[derive(Debug, Clone)]
struct Sent {
    to: EngineJobId,
    id: TriggerId,
    at: Timestamp,
}

/// A task that drives. Dropping it stops it.
struct Driving {
    interval: watch::Sender<CheckpointInterval>,
    task: JoinHandle<()>,
}

impl Drop for Driving {
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
        let drive = drives.entry(run.key.clone()).or_default();
        if let Some(current) = drive.generation.filter(|current| generation <= *current) {
            return Err(PortError::StaleGeneration { given: generation, current });
        }
        drive.generation = Some(generation);
        match &drive.driving {
            Some(driving) if !driving.task.is_finished() => {
                driving.interval.send_replace(interval);
            }
            _ => {
                let (sender, receiver) = watch::channel(interval);
                let outstanding = Arc::clone(&drive.outstanding);
                let driven = self.engine.clone().drive(run.key.clone(), receiver, outstanding);
                drive.driving = Some(Driving { interval: sender, task: tokio::spawn(driven) });
            }
        }
        Ok(())
    }

    async fn release(&self, run: &JobRun) -> Result<(), PortError> {
        let mut drives = self.drives.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(drive) = drives.get_mut(&run.key) {
            drive.driving = None;
        }
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
    async fn drive(
        self,
        job: JobKey,
        mut wanted: watch::Receiver<CheckpointInterval>,
        outstanding: Outstanding,
    ) {
        // A trigger that an earlier task sent may still be under way.
        self.settle(&outstanding).await;
        let (mut retry_ms, mut not_before) = (RETRY_MS, self.clock.now());
        loop {
            let interval = *wanted.borrow_and_update();
            let now = self.clock.now();
            let next = match self.look(&job).await {
                Ok((run, history)) => match next(&run, &history, interval, now) {
                    Next::Trigger if now >= not_before => {
                        if self.checkpoint(&run, &outstanding).await {
                            retry_ms = RETRY_MS;
                        } else {
                            // Ever more slowly, down to the pace that is wanted anyhow.
                            not_before = self.clock.now().plus_millis(retry_ms);
                            retry_ms = (2 * retry_ms).min(interval.millis()).max(RETRY_MS);
                        }
                        continue;
                    }
                    Next::Trigger => not_before,
                    Next::Look(at) => at,
                },
                Err(_) => now.plus_millis(RETRY_MS),
            };
            tokio::select! {
                biased;
                changed = wanted.changed() => if changed.is_err() { return },
                () = self.clock.sleep_until(next) => {}
            }
        }
    }

    async fn look(&self, job: &JobKey) -> Result<(JobRun, CheckpointHistory), PortError> {
        let run = self.jobs.describe(job).await?;
        let history = self.checkpoints.history(&run.engine_id).await?;
        Ok((run, history))
    }

    /// Triggers one checkpoint and waits for its end, only then may there be another; whether it
    /// completed.
    async fn checkpoint(&self, run: &JobRun, outstanding: &Outstanding) -> bool {
        let at = self.clock.now();
        let id = TriggerId::new(&run.engine_id, at);
        let sent = Sent { to: run.engine_id.clone(), id: id.clone(), at };
        *outstanding.lock().unwrap_or_else(PoisonError::into_inner) = Some(sent);
        match self.checkpoints.trigger(&run.engine_id, &id).await {
            Ok(()) => {}
            // It may have arrived all the same.
            Err(PortError::Unavailable(_)) => self.pause(RETRY_MS).await,
            Err(_) => {
                *outstanding.lock().unwrap_or_else(PoisonError::into_inner) = None;
                return false;
            }
        }
        self.settle(outstanding).await
    }

    /// Waits for the end of the outstanding trigger, if there is one; whether it completed. Nothing
    /// is sent before that is known, or has not been known for so long that the engine has given up.
    async fn settle(&self, outstanding: &Outstanding) -> bool {
        let known = outstanding.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(Sent { to, id, at }) = known else { return true };
        let deadline = self.clock.now().plus_millis(DEADLINE_MS);
        let mut completed = false;
        while self.clock.now() < deadline {
            match self.checkpoints.outcome(&to, &id).await {
                Ok(TriggerOutcome::InProgress) => self.pause(POLL_MS).await,
                Err(PortError::Unavailable(_)) => self.pause(RETRY_MS).await,
                Ok(TriggerOutcome::Completed(_)) => {
                    completed = true;
                    break;
                }
                Err(PortError::NotFound(_)) if self.clock.now() < at.plus_millis(ARRIVES_MS) => {
                    self.pause(RETRY_MS).await;
                }
                Ok(TriggerOutcome::Failed(_)) | Err(_) => break,
            }
        }
        *outstanding.lock().unwrap_or_else(PoisonError::into_inner) = None;
        completed
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
    use khaos_core::job::{CheckpointSettings, CompletedCheckpoint, JobShape, PendingCheckpoint};

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
