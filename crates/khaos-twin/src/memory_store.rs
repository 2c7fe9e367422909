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
    by_kind: BTreeMap<(JobKey, Kind), Shelf>,
    by_parent: BTreeMap<RecordId, Vec<Arc<Record>>>,
    all: Vec<Arc<Record>>,
}

/// Records of one kind, in the order in which they were made, and the one appended last.
#[derive(Debug, Default)]
struct Shelf {
    sorted: Vec<Arc<Record>>,
    latest: Option<Arc<Record>>,
}

impl Shelf {
    fn push(&mut self, record: Arc<Record>) {
        let place = self.sorted.partition_point(|other| other.at() <= record.at());
        self.sorted.insert(place, Arc::clone(&record));
        self.latest = Some(record);
    }

    fn within(&self, span: Span) -> &[Arc<Record>] {
        let from = self.sorted.partition_point(|record| record.at() < span.from);
        let to = self.sorted.partition_point(|record| record.at() < span.to);
        &self.sorted[from..to.max(from)]
    }
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
        Ok(shelves.by_kind.get(&(job.clone(), kind)).and_then(|shelf| shelf.latest.clone()))
    }

    async fn range(
        &self,
        job: &JobKey,
        kind: Kind,
        span: Span,
    ) -> Result<Vec<Arc<Record>>, PortError> {
        let shelves = self.shelves();
        let shelf = shelves.by_kind.get(&(job.clone(), kind));
        Ok(shelf.map_or_else(Vec::new, |shelf| shelf.within(span).to_vec()))
    }

    async fn children(&self, id: &RecordId) -> Result<Vec<Arc<Record>>, PortError> {
        Ok(self.shelves().by_parent.get(id).cloned().unwrap_or_default())
    }
}
