//! What an engine says of a job, in words that no engine owns.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::units::{CheckpointInterval, Seconds, Span, Timestamp};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The name under which Khaos keeps a job for as long as it lives: it outlasts redeploys.
    JobKey
);
name!(
    /// The engine's own id of one deployment of a job; changes with every redeploy.
    EngineJobId
);
name!(
    /// Hash of parallelism, configuration and state shape: models belong to a (job, shape).
    JobShape
);

impl JobShape {
    /// The shape of a job that consists of `parts`, in their order.
    pub fn of(parts: &[String]) -> Self {
        let digest = Sha256::digest(parts.join("\n").as_bytes());
        Self(digest[..8].iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Our own id of one triggered checkpoint, 32 hex digits: asking twice with the same id triggers
/// once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TriggerId(String);

impl TriggerId {
    /// The id of the checkpoint that is triggered in `job` at `at`.
    pub fn new(job: &EngineJobId, at: Timestamp) -> Self {
        let digest = Sha256::new()
            .chain_update(job.0.as_bytes())
            .chain_update(at.0.to_le_bytes())
            .finalize();
        Self(digest[..16].iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a job processes events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// Every vertex runs.
    Running,
    /// Starting, restoring, or failed without the engine having noticed every vertex.
    Restarting,
    /// Cancelled, finished or failed for good.
    Ended,
    /// The engine could not be asked.
    Unknown,
}

/// The engine's own checkpoint settings of a job.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CheckpointSettings {
    /// The engine's periodic interval: the fallback whenever Khaos is not driving.
    pub interval: CheckpointInterval,
    /// Pause that the engine keeps between a completed checkpoint and its own next one.
    pub min_pause: Seconds,
}

impl CheckpointSettings {
    /// Settings for driving in full mode: driven checkpoints defer the engine's own, which comes
    /// back one `fallback` after the last driven one.
    pub fn full(fallback: CheckpointInterval) -> Self {
        let min_pause = Seconds::new(fallback.seconds()).expect("an interval is a length of time");
        Self { interval: fallback, min_pause }
    }

    /// Whether a driven checkpoint defers the engine's own: the pause after it is as long as the
    /// interval.
    pub fn defers_own(&self) -> bool {
        self.min_pause.get() >= self.interval.seconds()
    }

    /// Periodic settings as most jobs have them; driven checkpoints come on top (assist mode).
    pub fn periodic(interval: CheckpointInterval) -> Self {
        Self { interval, min_pause: Seconds::new(0.0).expect("zero is a length of time") }
    }
}

/// One deployment of a job, as the engine describes it now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRun {
    /// The job.
    pub key: JobKey,
    /// The engine's id of this deployment.
    pub engine_id: EngineJobId,
    /// Restarts of this deployment so far.
    pub attempt: u32,
    /// Parallel subtasks.
    pub parallelism: u32,
    /// Hash of parallelism, configuration and state shape.
    pub shape: JobShape,
    /// Whether it processes events.
    pub status: JobStatus,
    /// Since when every vertex has been running; `None` while one of them is not.
    pub running_since: Option<Timestamp>,
    /// The engine's own checkpoint settings.
    pub checkpointing: CheckpointSettings,
    /// When the engine noticed failures of this deployment, oldest first, as far as it remembers.
    pub noticed: Vec<Timestamp>,
    /// What the engine's configuration makes of the dead time after the loss of a process: until that is
    /// noticed, until the restart, and a deployment with little state. `None` where it does not tell.
    /// Source: twice Flink's heartbeat interval, its restart delay and 1 s, as measured.
    pub expected_dead_time: Option<Seconds>,
}

impl JobRun {
    /// Whether every vertex has run for all of `span`.
    pub fn ran_throughout(&self, span: Span) -> bool {
        self.status == JobStatus::Running && self.running_since.is_some_and(|at| at <= span.from)
    }
}

/// A completed checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletedCheckpoint {
    /// The engine's number of it.
    pub id: u64,
    /// When it was triggered: the age of a checkpoint counts from here.
    pub triggered_at: Timestamp,
    /// When the last subtask had acknowledged it.
    pub completed_at: Timestamp,
}

impl CompletedCheckpoint {
    /// Trigger → completed, s.
    pub fn duration_s(&self) -> f64 {
        self.completed_at.secs_since(self.triggered_at)
    }
}

/// A checkpoint under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingCheckpoint {
    /// The engine's number of it.
    pub id: u64,
    /// When it was triggered.
    pub triggered_at: Timestamp,
    /// Subtasks that have acknowledged it.
    pub acknowledged: u32,
    /// Subtasks in all.
    pub subtasks: u32,
}

impl PendingCheckpoint {
    /// Whether at least half of the subtasks have acknowledged it.
    pub fn half_done(&self) -> bool {
        2 * self.acknowledged >= self.subtasks
    }
}

/// What the engine remembers of a job's checkpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointHistory {
    /// Completed ones, oldest first; engines keep only the newest few.
    pub completed: Vec<CompletedCheckpoint>,
    /// Since when none is missing in `completed`.
    pub complete_since: Timestamp,
    /// The one under way.
    pub pending: Option<PendingCheckpoint>,
    /// Failed ones since this deployment began.
    pub failed: u64,
    /// The one that this attempt started from.
    pub restored: Option<CompletedCheckpoint>,
}

impl CheckpointHistory {
    /// The newest completed checkpoint: what a failure now would roll back to.
    pub fn newest(&self) -> Option<&CompletedCheckpoint> {
        self.completed.last()
    }

    /// The `q`-quantile of checkpoint durations completed within `span`, s.
    pub fn duration_quantile(&self, span: Span, q: f64) -> Option<f64> {
        let durations: Vec<f64> = self
            .completed
            .iter()
            .filter(|c| span.contains(c.completed_at))
            .map(CompletedCheckpoint::duration_s)
            .collect();
        khaos_stats::quantile(&durations, q)
    }
}
