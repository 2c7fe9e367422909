//! The recorded workload.

use async_trait::async_trait;
use khaos_core::job::JobKey;
use khaos_core::units::{Span, Timestamp};

use crate::ports::{CloneId, PortError};

/// Knows what a job's workload was and replays it into clones.
#[async_trait]
pub trait WorkloadLog: Send + Sync {
    /// The span of the job's workload that can be replayed.
    async fn recorded(&self, job: &JobKey) -> Result<Span, PortError>;

    /// Starts to feed `clone` what arrived at `job` from `from` on, at its own pace, beginning now.
    /// Refuses what was not recorded.
    async fn replay(&self, job: &JobKey, from: Timestamp, clone: &CloneId)
    -> Result<(), PortError>;
}
