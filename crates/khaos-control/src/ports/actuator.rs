//! Changing the interval of a job.

use async_trait::async_trait;
use khaos_core::job::JobRun;
use khaos_core::units::CheckpointInterval;

use crate::ports::PortError;

/// The number of a change. Later changes have higher numbers.
pub type Generation = u64;

/// Changes the interval: by driving, by redeploying, or by an engine's own API.
#[async_trait]
pub trait Actuator: Send + Sync {
    /// Puts `interval` into force. Refuses a generation that is not above the last one, so that a
    /// change that was delayed cannot undo a later one.
    async fn apply(
        &self,
        run: &JobRun,
        interval: CheckpointInterval,
        generation: Generation,
    ) -> Result<(), PortError>;

    /// Lets go: the engine's own interval, the fallback, is in force again.
    async fn release(&self, run: &JobRun) -> Result<(), PortError>;
}
