//! A minute of a job's life.

use serde::{Deserialize, Serialize};

use crate::job::{CheckpointHistory, JobRun, JobStatus};
use crate::series::{Reading, Readings};
use crate::units::{EventRate, Events, Millis, Seconds, Span, Timestamp};

/// One minute, condensed. What was not read is unknown, never zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Minute {
    /// Its first instant.
    pub start: Timestamp,
    /// Mean arrival rate over all sources.
    pub arrival: Reading<EventRate>,
    /// Mean throughput.
    pub throughput: Reading<EventRate>,
    /// Mean reported consumer lag over all sources.
    pub lag: Reading<Events>,
    /// Mean of the reported p99 latency.
    pub latency: Reading<Millis>,
    /// The job's status when the minute was closed.
    pub status: JobStatus,
    /// Restarts of this deployment so far: a higher number than a minute ago means a failure.
    pub attempt: u32,
    /// Checkpoints completed within the minute.
    pub checkpoints_completed: u32,
    /// Checkpoints failed since the deployment began.
    pub checkpoints_failed: u64,
    /// p99 of the durations of the checkpoints completed within the minute.
    pub checkpoint_duration: Reading<Seconds>,
}

impl Minute {
    /// The span of a minute, s.
    pub const SECS: f64 = 60.0;

    /// A minute of which nothing could be read.
    pub fn blind(start: Timestamp) -> Self {
        Self {
            start,
            arrival: Reading::Unknown,
            throughput: Reading::Unknown,
            lag: Reading::Unknown,
            latency: Reading::Unknown,
            status: JobStatus::Unknown,
            attempt: 0,
            checkpoints_completed: 0,
            checkpoints_failed: 0,
            checkpoint_duration: Reading::Unknown,
        }
    }

    /// Condenses what was read of the minute that begins at `start`.
    pub fn condense(
        start: Timestamp,
        readings: &Readings,
        run: &JobRun,
        history: &CheckpointHistory,
    ) -> Self {
        let span = Span { from: start, to: start.plus_secs(Self::SECS) };
        let duration = history.duration_quantile(span, 0.99);
        let completed = history.completed.iter().filter(|c| span.contains(c.completed_at)).count();
        Self {
            start,
            arrival: valid(readings.arrival().mean(span), EventRate::new),
            throughput: valid(readings.throughput.mean(span), EventRate::new),
            lag: valid(readings.lag().mean(span), Events::new),
            latency: valid(readings.latency_ms.mean(span), Millis::new),
            status: run.status,
            attempt: run.attempt,
            checkpoints_completed: u32::try_from(completed).unwrap_or(u32::MAX),
            checkpoints_failed: history.failed,
            checkpoint_duration: valid(Reading::from_option(duration), Seconds::new),
        }
    }
}

/// A reading outside its quantity's range says nothing: it is unknown.
fn valid<T, E>(reading: Reading<f64>, quantity: impl Fn(f64) -> Result<T, E>) -> Reading<T> {
    match reading {
        Reading::Known(value) => Reading::from_option(quantity(value).ok()),
        Reading::Stale => Reading::Stale,
        Reading::Unknown => Reading::Unknown,
    }
}
