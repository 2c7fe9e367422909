//! A minute of a job's life.

use serde::{Deserialize, Serialize};

use crate::job::{CheckpointHistory, EngineJobId, JobRun, JobShape, JobStatus};
use crate::series::{Reading, Readings, Series};
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
    /// Running only if every vertex ran for all of the minute.
    pub status: JobStatus,
    /// The deployment that it was told of.
    pub engine_id: Option<EngineJobId>,
    /// The job's shape.
    pub shape: Option<JobShape>,
    /// Restarts of this deployment so far: a higher number than a minute ago means a failure.
    pub attempt: Option<u32>,
    /// Checkpoints completed within the minute.
    pub checkpoints_completed: Option<u32>,
    /// Checkpoints failed since the deployment began.
    pub checkpoints_failed: Option<u64>,
    /// p99 of the durations of the checkpoints completed within the minute.
    pub checkpoint_duration: Reading<Seconds>,
    /// Whoever did not answer, and why.
    pub errors: Vec<String>,
}

impl Minute {
    /// The span of a minute, s.
    pub const SECS: f64 = 60.0;

    /// A minute of which nothing could be read.
    pub fn blind(start: Timestamp) -> Self {
        Self::condense(start, None, None, None)
    }

    /// Condenses what was read of the minute that begins at `start`, by whoever answered.
    pub fn condense(
        start: Timestamp,
        run: Option<&JobRun>,
        readings: Option<&Readings>,
        history: Option<&CheckpointHistory>,
    ) -> Self {
        let span = Span { from: start, to: start.plus_secs(Self::SECS) };
        let mean = |series: Option<Series>| series.map_or(Reading::Unknown, |s| s.mean(span));
        // Some of a minute's checkpoints are not their number.
        let all = history.filter(|history| history.complete_since <= span.from);
        let completed = all.map(|history| {
            history.completed.iter().filter(|c| span.contains(c.completed_at)).count()
        });
        let duration = history.and_then(|history| history.duration_quantile(span, 0.99));
        Self {
            start,
            arrival: valid(mean(readings.map(Readings::arrival)), EventRate::new),
            throughput: valid(mean(readings.map(|r| r.throughput.clone())), EventRate::new),
            lag: valid(mean(readings.map(Readings::lag)), Events::new),
            latency: valid(mean(readings.map(|r| r.latency_ms.clone())), Millis::new),
            status: run.map_or(JobStatus::Unknown, |run| match run.status {
                JobStatus::Running if !run.ran_throughout(span) => JobStatus::Restarting,
                status => status,
            }),
            engine_id: run.map(|run| run.engine_id.clone()),
            shape: run.map(|run| run.shape.clone()),
            attempt: run.map(|run| run.attempt),
            checkpoints_completed: completed.and_then(|n| u32::try_from(n).ok()),
            checkpoints_failed: history.map(|history| history.failed),
            checkpoint_duration: valid(Reading::from_option(duration), Seconds::new),
            errors: Vec::new(),
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
