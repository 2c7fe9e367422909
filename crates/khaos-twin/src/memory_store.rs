//! The store that forgets when the process ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use khaos_control::core::job::JobKey;
use khaos_control::core::record::{Kind, Record, RecordId};
use khaos_control::core::units::Span;
use khaos_control::ports::{PortError, Store};

/// Records in memory, in the order in which they were appended.
#[derive(Debug, Default)]
pub struct MemoryStore {
    shelves: Mutex<Shelves>,
}

#[derive(Debug, Default)]
struct Shelves {
    by_id: BTreeMap<RecordId, Arc<Record>>,
    by_kind: BTreeMap<(JobKey, Kind), Vec<Arc<Record>>>,
    by_parent: BTreeMap<RecordId, Vec<Arc<Record>>>,
    all: Vec<Arc<Record>>,
}

impl MemoryStore {
    /// Every record, in the order in which they were appended.
    pub fn all(&self) -> Vec<Arc<Record>> {
        self.shelves().all.clone()
    }

    fn shelves(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn append(&self, record: Record) -> Result<Arc<Record>, PortError> {
        let mut shelves = self.shelves();
        if let Some(there) = shelves.by_id.get(record.id()) {
            return Ok(Arc::clone(there));
        }
        let record = Arc::new(record);
        let kind = (record.job().clone(), record.fact().kind());
        shelves.by_id.insert(record.id().clone(), Arc::clone(&record));
        shelves.by_kind.entry(kind).or_default().push(Arc::clone(&record));
        for parent in record.parents() {
            shelves.by_parent.entry(parent.clone()).or_default().push(Arc::clone(&record));
        }
        shelves.all.push(Arc::clone(&record));
        Ok(record)
    }

    async fn latest(&self, job: &JobKey, kind: Kind) -> Result<Option<Arc<Record>>, PortError> {
        let shelves = self.shelves();
        Ok(shelves.by_kind.get(&(job.clone(), kind)).and_then(|shelf| shelf.last().cloned()))
    }

    async fn range(
        &self,
        job: &JobKey,
        kind: Kind,
        span: Span,
    ) -> Result<Vec<Arc<Record>>, PortError> {
        let shelves = self.shelves();
        let shelf = shelves.by_kind.get(&(job.clone(), kind)).map_or(&[][..], Vec::as_slice);
        Ok(shelf.iter().filter(|record| span.contains(record.at())).cloned().collect())
    }

    async fn children(&self, id: &RecordId) -> Result<Vec<Arc<Record>>, PortError> {
        Ok(self.shelves().by_parent.get(id).cloned().unwrap_or_default())
    }
}
