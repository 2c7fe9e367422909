//! What there is to know about a job, found out by asking Flink and by trying.

use khaos_control::core::job::{EngineJobId, JobStatus, TriggerId};
use khaos_control::core::units::{Seconds, Timestamp};
use khaos_control::ports::{PortError, TriggerOutcome};
use serde::Deserialize;

use super::settings::{Entry, Settings};
use crate::flink::deployment::{self, name};
use crate::flink::live_interval;
use crate::flink::messages::JobDetails;
use crate::flink::metrics::{self, FETCHED_MS};
use crate::flink::rest::Rest;
use crate::flink::{outcome, trigger};

/// An answer, or why there is none. What was not answered is never taken for well.
pub(super) type Asked<T> = Result<T, PortError>;

/// Time between two looks at the triggered checkpoint, ms: what it is measured to.
const POLL_MS: i64 = 100;

/// `GET /overview`
#[derive(Debug, Deserialize)]
struct ClusterOverview {
    #[serde(rename = "flink-version")]
    version: String,
}

/// `GET /jobs/J/config`
#[derive(Debug, Deserialize)]
struct JobConfig {
    #[serde(rename = "execution-config")]
    execution: Option<ExecutionConfig>,
}

#[derive(Debug, Deserialize)]
struct ExecutionConfig {
    #[serde(rename = "restart-strategy")]
    restart_strategy: Option<String>,
}

/// `GET /jobs/J/checkpoints/config`, as far as it is judged; what a version does not tell is unknown.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Checkpointing {
    pub(super) mode: Option<String>,
    pub(super) interval: i64,
    pub(super) timeout: Option<i64>,
    pub(super) min_pause: i64,
    pub(super) max_concurrent: Option<u32>,
    pub(super) externalization: Option<Externalization>,
    pub(super) state_backend: Option<String>,
    pub(super) checkpoint_storage: Option<String>,
    pub(super) unaligned_checkpoints: Option<bool>,
    pub(super) tolerable_failed_checkpoints: Option<i64>,
    pub(super) state_changelog_enabled: Option<bool>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Externalization {
    pub(super) enabled: bool,
    pub(super) delete_on_cancellation: bool,
}

/// `GET /jobs/J/checkpoints`, as far as it is judged.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Statistics {
    pub(super) counts: Counts,
    pub(super) history: Vec<Past>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Counts {
    pub(super) completed: u64,
    pub(super) failed: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Past {
    pub(super) status: String,
    pub(super) is_savepoint: bool,
    pub(super) end_to_end_duration: i64,
    pub(super) state_size: Option<u64>,
    /// What was written for it; less than its state where it is incremental.
    pub(super) checkpointed_size: Option<u64>,
}

/// What came of triggering a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Triggered {
    /// Not tried: the job does not run.
    No,
    /// The checkpoint of this number completed after so long, s.
    Completed(u64, f64),
    Failed(String),
    /// It had not ended after so long, s.
    Unfinished(f64),
    /// Flink did not take it, or did not tell what became of it.
    Unanswered(PortError),
}

/// A source, and whether it tells how much waits for it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SourceSeen {
    pub(super) name: String,
    pub(super) tells_pending: bool,
}

/// What the job's metrics are.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct MetricsSeen {
    pub(super) sources: Vec<SourceSeen>,
    pub(super) latency: bool,
}

/// Everything that is judged.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) version: String,
    pub(super) job: String,
    pub(super) id: String,
    pub(super) state: String,
    /// Whether every vertex runs.
    pub(super) running: bool,
    /// How long it has been in that state.
    pub(super) for_s: f64,
    pub(super) checkpointing: Asked<Checkpointing>,
    pub(super) statistics: Asked<Statistics>,
    /// In Flink's words.
    pub(super) restart_strategy: Asked<String>,
    pub(super) cluster: Asked<Settings>,
    pub(super) metrics: Asked<MetricsSeen>,
    pub(super) triggered: Triggered,
    /// Whether Flink can change the interval of a running job (FLIP-571).
    pub(super) runtime_configuration: Asked<bool>,
    /// How far the JobManager's clock is ahead of ours, ms.
    pub(super) clock_offset_ms: i64,
}

/// Flink's version: the first question, to see whether anybody answers.
pub(super) async fn overview(rest: &Rest) -> Asked<String> {
    let overview: ClusterOverview = rest.get("/overview", "overview of a Flink cluster").await?;
    Ok(overview.version)
}

/// Asks everything about `id`. An error only where the job itself cannot be described.
pub(super) async fn gather(
    rest: &Rest,
    id: &EngineJobId,
    version: String,
    patience: Seconds,
) -> Asked<Facts> {
    let of_job = |path: &str| format!("/jobs/{id}{path}");
    let asked = rest.clock().now();
    let job: JobDetails = rest.get(&of_job(""), &name(id)).await?;
    rest.compare_clocks(asked, job.now, rest.clock().now());
    let running = deployment::status(&job) == JobStatus::Running;
    let since = job.timestamps.get(&job.state).copied().unwrap_or(job.now);

    // Flink fetches metrics when it is asked for them, and answers with those before.
    let _ = metrics::find(rest, id).await;
    let triggered = if running { try_trigger(rest, id, patience).await } else { Triggered::No };
    rest.clock().sleep_until(rest.clock().now().plus_millis(FETCHED_MS)).await;

    Ok(Facts {
        version,
        running,
        for_s: (job.now - since).max(0) as f64 / 1_000.0,
        checkpointing: checkpointing(rest, id).await,
        statistics: rest.get(&of_job("/checkpoints"), &name(id)).await,
        restart_strategy: restart_strategy(rest, id).await,
        cluster: cluster(rest).await,
        metrics: metrics::find(rest, id).await.map(|found| MetricsSeen {
            latency: !found.latencies.is_empty(),
            sources: found
                .sources
                .into_iter()
                .map(|s| SourceSeen { tells_pending: s.pending.is_some(), name: s.name })
                .collect(),
        }),
        triggered,
        runtime_configuration: live_interval::supported(rest).await,
        clock_offset_ms: rest.clock_offset_ms(),
        job: job.name,
        id: job.jid,
        state: job.state,
    })
}

/// How the job's own checkpoints are taken.
pub(super) async fn checkpointing(rest: &Rest, id: &EngineJobId) -> Asked<Checkpointing> {
    rest.get(&format!("/jobs/{id}/checkpoints/config"), &name(id)).await
}

/// What the cluster was configured with.
pub(super) async fn cluster(rest: &Rest) -> Asked<Settings> {
    let told = rest.get::<Vec<Entry>>("/jobmanager/config", "configuration of the cluster").await;
    told.map(Settings::of)
}

/// How the job is restarted, in Flink's words.
pub(super) async fn restart_strategy(rest: &Rest, id: &EngineJobId) -> Asked<String> {
    let config: JobConfig = rest.get(&format!("/jobs/{id}/config"), &name(id)).await?;
    let told = config.execution.and_then(|execution| execution.restart_strategy);
    told.ok_or_else(|| PortError::NotFound("restart strategy in the job's configuration".into()))
}

/// Takes a checkpoint, as driving would, and follows it to its end.
async fn try_trigger(rest: &Rest, id: &EngineJobId, patience: Seconds) -> Triggered {
    let clock = rest.clock();
    let begun = clock.now();
    let deadline = begun.plus_secs(patience.get());
    let ours = TriggerId::new(id, begun);
    if let Err(error) = trigger(rest, id, &ours).await {
        return Triggered::Unanswered(error);
    }
    let took = |now: Timestamp| now.secs_since(begun);
    loop {
        match outcome(rest, id, &ours).await {
            Ok(TriggerOutcome::Completed(number)) => {
                return Triggered::Completed(number, took(clock.now()));
            }
            Ok(TriggerOutcome::Failed(why)) => return Triggered::Failed(why),
            Ok(TriggerOutcome::InProgress) if clock.now() >= deadline => {
                return Triggered::Unfinished(took(clock.now()));
            }
            Err(error) if clock.now() >= deadline => return Triggered::Unanswered(error),
            Ok(TriggerOutcome::InProgress) | Err(_) => {}
        }
        clock.sleep_until(clock.now().plus_millis(POLL_MS)).await;
    }
}
