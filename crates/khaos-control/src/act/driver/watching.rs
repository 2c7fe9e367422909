//! What a drive tells those who watch it.

use std::sync::Arc;

use khaos_core::job::{CheckpointHistory, CompletedCheckpoint, EngineJobId, JobKey, JobRun};
use khaos_core::units::CheckpointInterval;

/// How a drive is doing.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// Checkpoints complete, as often as wanted.
    Driving,
    /// Nothing is triggered: the job does not run, or nobody answers.
    Waiting(String),
    /// The last checkpoint that was triggered failed; it is tried again, ever more slowly.
    Failing(String),
    /// Checkpoints take longer than the interval: they come one after the other, no faster.
    Saturated {
        /// How long the last one took, s.
        duration_s: f64,
    },
}

/// What happens while a job is driven.
#[derive(Debug, Clone, PartialEq)]
pub enum DriveEvent {
    /// A checkpoint completed, whoever triggered it.
    Completed(CompletedCheckpoint),
    /// The drive is doing otherwise than before.
    Now(Condition),
}

/// Whoever is told what happens.
pub type Watcher = Arc<dyn Fn(&JobKey, &DriveEvent) + Send + Sync>;

/// The log is told when a drive changes its condition, not of every checkpoint.
pub(super) fn log(job: &JobKey, event: &DriveEvent) {
    match event {
        DriveEvent::Completed(_) => {}
        DriveEvent::Now(Condition::Driving) => tracing::info!(%job, "driving"),
        DriveEvent::Now(Condition::Waiting(why)) => tracing::warn!(%job, %why, "waiting"),
        DriveEvent::Now(Condition::Failing(why)) => tracing::warn!(%job, %why, "checkpoints fail"),
        DriveEvent::Now(Condition::Saturated { duration_s }) => tracing::warn!(
            %job,
            "checkpoints take {duration_s:.1} s, longer than the interval: they cannot come faster"
        ),
    }
}

/// Tells the watcher what is new.
pub(super) struct Telling<'a> {
    job: &'a JobKey,
    watcher: &'a Watcher,
    condition: Option<Condition>,
    /// The newest checkpoint that was told, and of which deployment.
    newest: Option<(EngineJobId, u64)>,
}

impl<'a> Telling<'a> {
    pub(super) fn new(job: &'a JobKey, watcher: &'a Watcher) -> Self {
        Self { job, watcher, condition: None, newest: None }
    }

    /// Told when it is another condition than before; the same one with other figures is not.
    pub(super) fn now(&mut self, condition: Condition) {
        let same = |before: &Condition| {
            std::mem::discriminant(before) == std::mem::discriminant(&condition)
        };
        if !self.condition.as_ref().is_some_and(same) {
            (self.watcher)(self.job, &DriveEvent::Now(condition.clone()));
        }
        self.condition = Some(condition);
    }

    /// What the engine shows: what completed since the last look, and what that says of the drive.
    pub(super) fn seen(
        &mut self,
        run: &JobRun,
        history: &CheckpointHistory,
        interval: CheckpointInterval,
    ) {
        let told = match &self.newest {
            Some((of, told)) if *of == run.engine_id => *told,
            // What was there before is not news.
            _ => history.newest().map_or(0, |c| c.id),
        };
        let mut newest = told;
        for checkpoint in history.completed.iter().filter(|c| c.id > told) {
            (self.watcher)(self.job, &DriveEvent::Completed(*checkpoint));
            newest = checkpoint.id;
            let duration_s = checkpoint.duration_s();
            let slow = duration_s >= interval.seconds();
            self.now(if slow { Condition::Saturated { duration_s } } else { Condition::Driving });
        }
        self.newest = Some((run.engine_id.clone(), newest));
    }
}
