//! Changing the interval of a running job, where Flink can (FLIP-571).
//!
//! **No released Flink can.** This speaks by the published proposal,
//! `PATCH /jobs/:jobid/checkpoints/configuration {"checkpointInterval", "checkpointTimeout"}` in ms, and
//! was tried on a stub of it alone; on any other Flink every change is refused, with the reason.
//!
//! What was set stays set when Khaos dies: there is no dead-man switch here. So no interval is set that
//! is longer than the job's own was when it was first touched.

use std::collections::BTreeMap;

use async_trait::async_trait;
use khaos_control::core::job::{CheckpointHistory, EngineJobId, JobRun};
use khaos_control::core::units::{CheckpointInterval, Timestamp};
use khaos_control::ports::{Actuator, Checkpoints, Generation, PortError};
use serde_json::json;
use tokio::sync::Mutex;

use super::Flink;
use super::deployment::name;
use super::messages::OwnCheckpoints;
use super::rest::Rest;

/// Time between two looks, ms.
const POLL_MS: i64 = 250;
/// How long Flink may tell the interval before, ms of its own time: its cache of 3 s, and as much again.
const CACHED_MS: i64 = 6_000;
/// What a checkpoint may be late by, ms.
const LATE_MS: i64 = 5_000;

/// The actuator that sets the interval of a running job.
#[derive(Debug)]
pub struct LiveInterval {
    flink: Flink,
    touched: Mutex<BTreeMap<EngineJobId, Touched>>,
}

/// A deployment whose interval was set.
#[derive(Debug, Clone, Copy)]
struct Touched {
    generation: Option<Generation>,
    /// Its own interval when it was first touched, ms: the fallback.
    own_ms: i64,
}

impl LiveInterval {
    /// Sets the intervals of the jobs of `flink`; no job is touched yet.
    pub fn new(flink: Flink) -> Self {
        Self { flink, touched: Mutex::default() }
    }

    /// Sets `interval` ms, and waits until Flink tells it back. The timeout stays as it is.
    async fn set(&self, id: &EngineJobId, interval: i64) -> Result<(), PortError> {
        let rest = &self.flink.rest;
        let own = self.own(id).await?;
        let body = json!({ "checkpointInterval": interval, "checkpointTimeout": own.timeout });
        rest.patch(&format!("/jobs/{id}/checkpoints/configuration"), &body, &name(id)).await?;
        let clock = rest.clock();
        let deadline = clock.now().plus_millis(rest.ours_ms(CACHED_MS));
        loop {
            let told = self.own(id).await;
            match told {
                Ok(told) if told.interval == interval && told.timeout == own.timeout => {
                    return Ok(());
                }
                _ if clock.now() < deadline => {}
                Ok(told) => {
                    return Err(PortError::Refused(format!(
                        "Flink took an interval of {interval} ms for {id} and goes on to tell \
                         {} ms, with a timeout of {} ms that was {} ms",
                        told.interval, told.timeout, own.timeout
                    )));
                }
                Err(error) => return Err(error),
            }
            clock.sleep_until(clock.now().plus_millis(POLL_MS)).await;
        }
    }

    async fn own(&self, id: &EngineJobId) -> Result<OwnCheckpoints, PortError> {
        self.flink.rest.get(&format!("/jobs/{id}/checkpoints/config"), &name(id)).await
    }

    /// Waits for the first checkpoint that is triggered after `since`, at most for two intervals: what
    /// is told is not yet what is done.
    async fn comes(
        &self,
        id: &EngineJobId,
        interval: CheckpointInterval,
        since: Timestamp,
    ) -> Result<(), PortError> {
        let clock = self.flink.rest.clock();
        let deadline = since.plus_millis(2 * interval.millis() + LATE_MS);
        loop {
            let told = self.flink.history(id).await;
            match told {
                Ok(told) if has_come(&told, since) => return Ok(()),
                Err(PortError::NotFound(what)) => return Err(PortError::NotFound(what)),
                _ if clock.now() >= deadline => break,
                _ => clock.sleep_until(clock.now().plus_millis(POLL_MS)).await,
            }
        }
        Err(PortError::Refused(format!(
            "Flink says that {id} takes a checkpoint every {interval}, but none was triggered within \
             {:.0} s",
            deadline.secs_since(since)
        )))
    }
}

/// Whether a checkpoint was triggered after `since`. One that is still under way from before holds up
/// any other, so that nothing can be said against the interval.
fn has_come(told: &CheckpointHistory, since: Timestamp) -> bool {
    told.pending.is_some() || told.newest().is_some_and(|newest| newest.triggered_at >= since)
}

/// Whether there is a way to change the interval of a running job, asked so that nothing can change:
/// of a job whose id is none, and without a value. Where the path is known, Flink complains about
/// the id (400, as it does for every path with such an id); where it is not, about the path (404).
/// Sending a real job even the interval that it has could set its timer anew.
pub(super) async fn supported(rest: &Rest) -> Result<bool, PortError> {
    match rest.patch_status("/jobs/khaos-doctor/checkpoints/configuration").await? {
        400 => Ok(true),
        404 => Ok(false),
        status => Err(PortError::Refused(format!(
            "PATCH …/checkpoints/configuration was answered with {status}"
        ))),
    }
}

#[async_trait]
impl Actuator for LiveInterval {
    async fn apply(
        &self,
        run: &JobRun,
        interval: CheckpointInterval,
        generation: Generation,
    ) -> Result<(), PortError> {
        let id = &run.engine_id;
        let mut touched = self.touched.lock().await;
        let before = touched.get(id).copied();
        let last = before.and_then(|before| before.generation);
        if let Some(current) = last.filter(|current| generation <= *current) {
            return Err(PortError::StaleGeneration { given: generation, current });
        }
        let rest = &self.flink.rest;
        if !supported(rest).await? {
            return Err(PortError::Refused(format!(
                "the Flink at {} cannot change the interval of a running job (FLIP-571): drive the \
                 job, or redeploy it",
                rest.base()
            )));
        }
        let told = self.own(id).await?;
        let own_ms = before.map_or(told.interval, |before| before.own_ms);
        let wanted_ms = rest.theirs_ms(interval.millis());
        if wanted_ms > own_ms {
            return Err(PortError::Refused(format!(
                "an interval of {interval} is longer than the job's own of {:.0} s, and would stay if \
                 Khaos died",
                rest.ours_ms(own_ms) as f64 / 1_000.0
            )));
        }
        if told.min_pause > wanted_ms {
            return Err(PortError::Refused(format!(
                "the job pauses for {:.0} s after each checkpoint, which cannot be changed while it \
                 runs: checkpoints every {interval} need a shorter execution.checkpointing.min-pause",
                rest.ours_ms(told.min_pause) as f64 / 1_000.0
            )));
        }
        // Before it is done: what was sent without an answer may have arrived.
        touched.insert(id.clone(), Touched { generation: Some(generation), own_ms });
        if told.interval == wanted_ms {
            return Ok(());
        }
        let since = rest.clock().now();
        self.set(id, wanted_ms).await?;
        self.comes(id, interval, since).await?;
        tracing::info!(job = %run.key, deployment = %id, "takes a checkpoint every {interval}");
        Ok(())
    }

    /// The interval that the job had when it was first touched is in force again.
    async fn release(&self, run: &JobRun) -> Result<(), PortError> {
        let touched = self.touched.lock().await;
        let Some(before) = touched.get(&run.engine_id) else { return Ok(()) };
        self.set(&run.engine_id, before.own_ms).await
    }
}

#[cfg(test)]
mod tests;
