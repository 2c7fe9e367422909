//! Where records are kept.

use std::sync::Arc;

use async_trait::async_trait;
use khaos_core::job::JobKey;
use khaos_core::record::{Kind, Record, RecordId};
use khaos_core::units::Span;

use crate::ports::PortError;

/// Appends records and finds them; what is in it never changes.
#[async_trait]
pub trait Store: Send + Sync {
    /// Appends a record; one whose id is there already is there already.
    async fn append(&self, record: Record) -> Result<Arc<Record>, PortError>;

    /// The record of this kind that was appended last.
    async fn latest(&self, job: &JobKey, kind: Kind) -> Result<Option<Arc<Record>>, PortError>;

    /// Records of this kind that were made within `span`, in the order in which they were made.
    async fn range(
        &self,
        job: &JobKey,
        kind: Kind,
        span: Span,
    ) -> Result<Vec<Arc<Record>>, PortError>;

    /// Records that have `id` among their parents, in the order in which they were appended.
    async fn children(&self, id: &RecordId) -> Result<Vec<Arc<Record>>, PortError>;
}
