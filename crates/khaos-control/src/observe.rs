//! Observe: follow a job by the minute, and conclude which loads matter.
//!
//! metrics + jobs + checkpoints → `Minute`* → `Observation`. Observing never fails: a minute in
//! which nobody answered is a minute of which nothing is known.

use std::sync::Arc;

use khaos_core::job::JobKey;
use khaos_core::observe::{Minute, StretchShape, observe};
use khaos_core::record::{Fact, Kind, Record, RecordId};
use khaos_core::units::{Span, Timestamp};

use crate::ReconcileError;
use crate::clock::Clock;
use crate::ports::{Checkpoints, Jobs, Metrics, PortError, Store};

/// How long after its end a minute is condensed, ms: its last samples have to arrive.
pub const GRACE_MS: i64 = 10_000;
/// Minutes that are filled in after a pause: engines and metrics remember no more for sure.
const BACKFILL_MIN: i64 = 60;

/// The reconciler of the observe phase.
#[derive(Clone)]
pub struct Observe {
    /// Time.
    pub clock: Clock,
    /// What runs.
    pub jobs: Arc<dyn Jobs>,
    /// Readings.
    pub metrics: Arc<dyn Metrics>,
    /// Checkpoints.
    pub checkpoints: Arc<dyn Checkpoints>,
    /// Records.
    pub store: Arc<dyn Store>,
}

impl std::fmt::Debug for Observe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observe").finish_non_exhaustive()
    }
}

impl Observe {
    /// Appends every minute that is over and not there yet. Each minute's parent is the one before.
    pub async fn minutes(&self, job: &JobKey) -> Result<(), ReconcileError> {
        let mut last = self.store.latest(job, Kind::Minute).await?;
        let over = self.clock.now().plus_millis(-GRACE_MS).minute();
        let earliest = match last.as_deref().and_then(Record::minute) {
            Some(minute) => minute.start.plus_millis(60_000),
            None => over.plus_millis(-60_000),
        };
        let mut start = earliest.max(over.plus_millis(-BACKFILL_MIN * 60_000));
        while start < over {
            let minute = self.condense(job, start).await;
            let parents = last.iter().map(|record| record.id().clone()).collect();
            last = Some(self.append(job, parents, Fact::Minute(minute)).await?);
            start = start.plus_millis(60_000);
        }
        Ok(())
    }

    /// Concludes the phase from the minutes within `span`, once: the observation that follows from
    /// them is appended, or found again.
    pub async fn conclude(
        &self,
        job: &JobKey,
        span: Span,
        shape: StretchShape,
    ) -> Result<Arc<Record>, ReconcileError> {
        // A minute is appended after it ends, after a pause long after.
        let appended = Span { from: span.from, to: self.clock.now().plus_millis(1) };
        let records = self.store.range(job, Kind::Minute, appended).await?;
        let within =
            |record: &&Arc<Record>| record.minute().is_some_and(|m| span.contains(m.start));
        let records: Vec<&Arc<Record>> = records.iter().filter(within).collect();
        let minutes: Vec<&Minute> = records.iter().filter_map(|record| record.minute()).collect();
        let observation = observe(&minutes, shape)?;
        let parents = records.last().map(|record| record.id().clone()).into_iter().collect();
        Ok(self.append(job, parents, Fact::Observation(observation)).await?)
    }

    /// Asks everybody; whoever does not answer is missing, and said to be.
    async fn condense(&self, job: &JobKey, start: Timestamp) -> Minute {
        let span = Span { from: start, to: start.plus_millis(60_000) };
        let run = match self.jobs.describe(job).await {
            Ok(run) => run,
            Err(error) => {
                return Minute { errors: vec![error.to_string()], ..Minute::blind(start) };
            }
        };
        let readings = self.metrics.readings(&run.engine_id, span).await;
        let history = self.checkpoints.history(&run.engine_id).await;
        let errors = [readings.as_ref().err(), history.as_ref().err()];
        Minute {
            errors: errors.into_iter().flatten().map(ToString::to_string).collect(),
            ..Minute::condense(start, Some(&run), readings.as_ref().ok(), history.as_ref().ok())
        }
    }

    async fn append(
        &self,
        job: &JobKey,
        parents: Vec<RecordId>,
        fact: Fact,
    ) -> Result<Arc<Record>, PortError> {
        self.store.append(Record::new(job, self.clock.now(), parents, fact)).await
    }
}
