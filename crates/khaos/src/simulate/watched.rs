//! A store that tells of each record as it arrives: progress is nothing but records arriving.

use std::sync::Arc;

use async_trait::async_trait;
use khaos_control::ports::{PortError, Store};
use khaos_core::job::JobKey;
use khaos_core::record::{Kind, Record, RecordId};
use khaos_core::units::Span;

/// Told of each record.
pub type OnRecord = Arc<dyn Fn(&Record) + Send + Sync>;

/// Tells nobody.
pub fn unwatched() -> OnRecord {
    Arc::new(|_| {})
}

/// A store whose appends are told.
pub struct Watched<S> {
    inner: Arc<S>,
    on_record: OnRecord,
}

impl<S> std::fmt::Debug for Watched<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}

impl<S> Watched<S> {
    /// Watches `inner`.
    pub fn new(inner: Arc<S>, on_record: OnRecord) -> Self {
        Self { inner, on_record }
    }
}

#[async_trait]
impl<S: Store> Store for Watched<S> {
    async fn append(&self, record: Record) -> Result<Arc<Record>, PortError> {
        let record = self.inner.append(record).await?;
        (self.on_record)(&record);
        Ok(record)
    }

    async fn latest(&self, job: &JobKey, kind: Kind) -> Result<Option<Arc<Record>>, PortError> {
        self.inner.latest(job, kind).await
    }

    async fn range(
        &self,
        job: &JobKey,
        kind: Kind,
        span: Span,
    ) -> Result<Vec<Arc<Record>>, PortError> {
        self.inner.range(job, kind, span).await
    }

    async fn children(&self, id: &RecordId) -> Result<Vec<Arc<Record>>, PortError> {
        self.inner.children(id).await
    }
}
