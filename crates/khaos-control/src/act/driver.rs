//! Drive: trigger each checkpoint from outside, so that the interval changes without a restart.
//!
//! One task per driven job, one outstanding trigger per task. The next trigger is due one interval
//! after the last completed checkpoint was *triggered*, whoever triggered it; only a job whose every
//! vertex runs is triggered. When the driver dies, nothing more is triggered, and the engine's own
//! interval, the fallback, takes over by itself.

mod watching;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use khaos_core::job::{CheckpointHistory, EngineJobId, JobKey, JobRun, JobStatus, TriggerId};
use khaos_core::units::{CheckpointInterval, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use self::watching::{Condition, DriveEvent, Watcher};
use self::watching::{Telling, log};
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
        let watcher: Watcher = Arc::new(log);
        Self { engine: Engine { clock, jobs, checkpoints, watcher }, drives: Mutex::default() }
    }

    /// Tells `watcher` what happens, instead of the log.
    #[must_use]
    pub fn watched_by(mut self, watcher: Watcher) -> Self {
        self.engine.watcher = watcher;
        self
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
    watcher: Watcher,
}

/// What to do next about a job.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Trigger a checkpoint now.
    Trigger,
    /// Look again then.
    Look(Timestamp),
}

/// The checkpoint that this driver triggered last and knows to have completed: engines may show it
/// late, Flink by three seconds.
#[derive(Debug, Clone)]
struct Driven {
    of: EngineJobId,
    sent_at: Timestamp,
    number: u64,
}

impl Engine {
    async fn drive(
        self,
        job: JobKey,
        mut wanted: watch::Receiver<CheckpointInterval>,
        outstanding: Outstanding,
    ) {
        // A trigger that an earlier task sent may still be under way.
        let mut driven = self.settle(&outstanding).await.ok().flatten();
        let (mut retry_ms, mut not_before) = (RETRY_MS, self.clock.now());
        let mut telling = Telling::new(&job, &self.watcher);
        loop {
            let interval = *wanted.borrow_and_update();
            let now = self.clock.now();
            let next = match self.look(&job).await {
                Ok((run, _)) if run.status != JobStatus::Running => {
                    telling.now(Condition::Waiting("the job does not run".to_owned()));
                    now.plus_millis(RETRY_MS)
                }
                Ok((run, history)) => {
                    telling.seen(&run, &history, interval);
                    match next(&run, &history, interval, driven.as_ref(), now) {
                        Next::Trigger if now >= not_before => {
                            match self.checkpoint(&run, &outstanding).await {
                                Ok(completed) => {
                                    (driven, retry_ms) = (completed, RETRY_MS);
                                }
                                Err(why) => {
                                    telling.now(Condition::Failing(why));
                                    // Ever more slowly, down to the pace that is wanted anyhow.
                                    not_before = self.clock.now().plus_millis(retry_ms);
                                    retry_ms = (2 * retry_ms).min(interval.millis()).max(RETRY_MS);
                                }
                            }
                            continue;
                        }
                        Next::Trigger => not_before,
                        Next::Look(at) => at,
                    }
                }
                Err(error) => {
                    telling.now(Condition::Waiting(error.to_string()));
                    now.plus_millis(RETRY_MS)
                }
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

    /// Triggers one checkpoint and waits for its end, only then may there be another. What
    /// completed, or why nothing did.
    async fn checkpoint(
        &self,
        run: &JobRun,
        outstanding: &Outstanding,
    ) -> Result<Option<Driven>, String> {
        let at = self.clock.now();
        let id = TriggerId::new(&run.engine_id, at);
        let sent = Sent { to: run.engine_id.clone(), id: id.clone(), at };
        *outstanding.lock().unwrap_or_else(PoisonError::into_inner) = Some(sent);
        match self.checkpoints.trigger(&run.engine_id, &id).await {
            Ok(()) => {}
            // It may have arrived all the same.
            Err(PortError::Unavailable(_)) => self.pause(RETRY_MS).await,
            Err(error) => {
                *outstanding.lock().unwrap_or_else(PoisonError::into_inner) = None;
                return Err(error.to_string());
            }
        }
        self.settle(outstanding).await
    }

    /// Waits for the end of the outstanding trigger, if there is one. Nothing is sent before that is
    /// known, or has not been known for so long that the engine has given up.
    async fn settle(&self, outstanding: &Outstanding) -> Result<Option<Driven>, String> {
        let known = outstanding.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(sent) = known else { return Ok(None) };
        let settled = self.end_of(&sent).await;
        *outstanding.lock().unwrap_or_else(PoisonError::into_inner) = None;
        settled.map(|number| Some(Driven { of: sent.to, sent_at: sent.at, number }))
    }

    async fn end_of(&self, Sent { to, id, at }: &Sent) -> Result<u64, String> {
        let deadline = self.clock.now().plus_millis(DEADLINE_MS);
        let mut restarts_looked_for = self.clock.now();
        while self.clock.now() < deadline {
            match self.checkpoints.outcome(to, id).await {
                Ok(TriggerOutcome::InProgress) => {
                    self.pause(POLL_MS).await;
                    // A trigger that a restart swallowed stays in progress for ever.
                    if restarts_looked_for.plus_millis(RETRY_MS) <= self.clock.now() {
                        restarts_looked_for = self.clock.now();
                        let since = self.jobs.run(to).await.ok().and_then(|run| run.running_since);
                        if since.is_some_and(|since| since > *at) {
                            return Err("the job restarted before it completed".to_owned());
                        }
                    }
                }
                Ok(TriggerOutcome::Completed(number)) => return Ok(number),
                Ok(TriggerOutcome::Failed(why)) => return Err(why),
                Err(PortError::Unavailable(_)) => self.pause(RETRY_MS).await,
                Err(PortError::NotFound(_)) if self.clock.now() < at.plus_millis(ARRIVES_MS) => {
                    self.pause(RETRY_MS).await;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Err(format!("it did not end within {} s", DEADLINE_MS / 1_000))
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
    driven: Option<&Driven>,
    now: Timestamp,
) -> Next {
    let Some(running_since) = run.running_since.filter(|_| run.status == JobStatus::Running) else {
        return Next::Look(now.plus_millis(RETRY_MS));
    };
    let driven = driven.filter(|driven| driven.of == run.engine_id);
    let ended = |number| driven.is_some_and(|driven| number <= driven.number);
    if history.pending.as_ref().is_some_and(|pending| !ended(pending.id)) {
        return Next::Look(now.plus_millis(POLL_MS));
    }
    // What a failure now would roll back to: before the first checkpoint, the start.
    let newest = history.newest().or(history.restored.as_ref());
    let newest = newest.map_or(running_since, |c| c.triggered_at);
    let newest = driven.map_or(newest, |driven| newest.max(driven.sent_at));
    let due = newest.plus_millis(interval.millis());
    if due <= now {
        return Next::Trigger;
    }
    // A checkpoint in the future is one of a clock that was set: it is looked at again, not slept on.
    Next::Look(due.min(now.plus_millis(interval.millis())))
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
            noticed: Vec::new(),
            expected_dead_time: None,
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
        let at = |now| next(&run(Some(0)), &completed(20_000), secs(10), None, Timestamp(now));
        assert_eq!(at(29_999), Next::Look(Timestamp(30_000)));
        assert_eq!(at(30_000), Next::Trigger);
    }

    #[test]
    fn before_the_first_checkpoint_the_age_counts_from_the_start() {
        let none = CheckpointHistory::default();
        let at = |now| next(&run(Some(5_000)), &none, secs(10), None, Timestamp(now));
        assert_eq!(at(14_000), Next::Look(Timestamp(15_000)));
        assert_eq!(at(15_000), Next::Trigger);
    }

    #[test]
    fn a_clock_that_was_set_does_not_stop_the_drive() {
        // An hour ahead.
        let look = next(&run(Some(0)), &completed(3_700_000), secs(10), None, Timestamp(100_000));
        assert_eq!(look, Next::Look(Timestamp(110_000)));
    }

    #[test]
    fn an_engine_that_shows_late_what_completed_is_not_asked_again() {
        // Number 2 was sent at 30 s and completed; the engine still shows it as under way.
        let pending = PendingCheckpoint {
            id: 2,
            triggered_at: Timestamp(30_004),
            acknowledged: 1,
            subtasks: 4,
        };
        let late = CheckpointHistory { pending: Some(pending), ..completed(20_000) };
        let of = EngineJobId("e".into());
        let driven = Driven { of, sent_at: Timestamp(30_000), number: 2 };
        let at = |now| next(&run(Some(0)), &late, secs(10), Some(&driven), Timestamp(now));
        assert_eq!(at(31_000), Next::Look(Timestamp(40_000)));
        assert_eq!(at(40_000), Next::Trigger);
        // One that somebody else triggered is waited for.
        let other = CheckpointHistory {
            pending: Some(PendingCheckpoint { id: 3, ..late.pending.unwrap() }),
            ..completed(20_000)
        };
        let look = next(&run(Some(0)), &other, secs(10), Some(&driven), Timestamp(40_000));
        assert_eq!(look, Next::Look(Timestamp(40_000 + POLL_MS)));
    }

    #[test]
    fn never_while_a_vertex_does_not_run_nor_while_one_is_pending() {
        let down = next(&run(None), &completed(0), secs(1), None, Timestamp(90_000));
        assert_eq!(down, Next::Look(Timestamp(90_000 + RETRY_MS)));
        let pending = PendingCheckpoint {
            id: 2,
            triggered_at: Timestamp(80_000),
            acknowledged: 0,
            subtasks: 4,
        };
        let busy = CheckpointHistory { pending: Some(pending), ..completed(0) };
        let look = next(&run(Some(0)), &busy, secs(1), None, Timestamp(90_000));
        assert_eq!(look, Next::Look(Timestamp(90_000 + POLL_MS)));
    }
}
