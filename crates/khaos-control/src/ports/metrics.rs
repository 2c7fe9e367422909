//! What a metrics system says.

use async_trait::async_trait;
use khaos_core::job::EngineJobId;
use khaos_core::series::Readings;
use khaos_core::units::Span;

use crate::ports::PortError;

/// Reads a job's metrics.
#[async_trait]
pub trait Metrics: Send + Sync {
    /// Arrival rate and lag per source, throughput and latency within `span`, as sampled. A sample
    /// that is missing is missing; nothing is filled in, and nothing lies outside of `span`.
    async fn readings(&self, job: &EngineJobId, span: Span) -> Result<Readings, PortError>;
}
