//! Following and triggering checkpoints.

use async_trait::async_trait;
use khaos_core::job::{CheckpointHistory, EngineJobId, TriggerId};

use crate::ports::PortError;

/// What became of a triggered checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TriggerOutcome {
    /// It is under way, or waits for another to end.
    InProgress,
    /// It completed, as the engine's checkpoint of this number.
    Completed(u64),
    /// It failed, and why.
    Failed(String),
}

/// Follows a job's checkpoints and triggers them from outside.
#[async_trait]
pub trait Checkpoints: Send + Sync {
    /// What the engine remembers.
    async fn history(&self, job: &EngineJobId) -> Result<CheckpointHistory, PortError>;

    /// Asks for a checkpoint. That this succeeds says nothing about the checkpoint; asking twice
    /// with the same id triggers once.
    async fn trigger(&self, job: &EngineJobId, id: &TriggerId) -> Result<(), PortError>;

    /// What became of it.
    async fn outcome(&self, job: &EngineJobId, id: &TriggerId)
    -> Result<TriggerOutcome, PortError>;
}
