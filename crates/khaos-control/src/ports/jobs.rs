//! What runs.

use async_trait::async_trait;
use khaos_core::job::{EngineJobId, JobKey, JobRun};

use crate::ports::PortError;

/// Describes jobs and their deployments.
#[async_trait]
pub trait Jobs: Send + Sync {
    /// Every job that is not a clone.
    async fn list(&self) -> Result<Vec<JobKey>, PortError>;

    /// The present deployment of a job.
    async fn describe(&self, job: &JobKey) -> Result<JobRun, PortError>;

    /// One deployment by the engine's id, a clone's too.
    async fn run(&self, id: &EngineJobId) -> Result<JobRun, PortError>;
}
