//! One description of a deployment, made of several answers.

use khaos_control::core::job::{
    CheckpointSettings, EngineJobId, JobKey, JobRun, JobShape, JobStatus,
};
use khaos_control::core::units::{CheckpointInterval, Seconds, Timestamp};
use khaos_control::ports::PortError;

use super::doctor;
use super::messages::{CheckpointConfig, Exceptions, JobDetails, VertexDetails};
use super::rest::Rest;

/// What changes only when the job starts again, in whole or in part.
#[derive(Debug, Clone)]
pub(super) struct Described {
    /// Of which start this was told.
    start: Start,
    running_since: Timestamp,
    attempt: u32,
    /// When failures were noticed, oldest first.
    noticed: Vec<Timestamp>,
    config: CheckpointConfig,
    expected_dead_time: Option<Seconds>,
}

/// When the job and each of its vertices started: another start, another description. A restart of
/// a part of the job passes through the state RESTARTING too.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Start {
    states: Vec<Option<i64>>,
    vertices: Vec<i64>,
}

impl Start {
    fn of(job: &JobDetails) -> Self {
        let entered = |state: &&str| job.timestamps.get(*state).copied();
        Self {
            states: ["INITIALIZING", "RESTARTING", "RUNNING"].iter().map(entered).collect(),
            vertices: job.vertices.iter().map(|vertex| vertex.start_time).collect(),
        }
    }
}

pub(super) fn name(id: &EngineJobId) -> String {
    format!("deployment {id}")
}

pub(super) fn has_ended(state: &str) -> bool {
    matches!(state, "FINISHED" | "CANCELED" | "FAILED")
}

pub(super) fn status(job: &JobDetails) -> JobStatus {
    if has_ended(&job.state) {
        return JobStatus::Ended;
    }
    let subtasks =
        |state: &str| -> u32 { job.vertices.iter().filter_map(|v| v.tasks.get(state)).sum() };
    let all: u32 = job.vertices.iter().map(|v| v.parallelism).sum();
    // A bounded source that has finished takes part in checkpoints no more, the others do.
    let runs = subtasks("RUNNING") > 0 && subtasks("RUNNING") + subtasks("FINISHED") == all;
    if job.state == "RUNNING" && runs { JobStatus::Running } else { JobStatus::Restarting }
}

/// Describes deployment `id`; what is `known` is not asked again.
pub(super) async fn describe(
    rest: &Rest,
    id: &EngineJobId,
    known: Option<Described>,
) -> Result<(JobRun, Option<Described>), PortError> {
    let asked = rest.clock().now();
    let job: JobDetails = rest.get(&format!("/jobs/{id}"), &name(id)).await?;
    rest.compare_clocks(asked, job.now, rest.clock().now());
    let start = Start::of(&job);
    let mut status = status(&job);
    let current = known.clone().filter(|described| described.start == start);
    let described = match current {
        Some(described) => Some(described),
        None if status == JobStatus::Running => {
            let described = ask(rest, &job, start).await?;
            if described.is_none() {
                // It stopped running between two answers.
                status = JobStatus::Restarting;
            }
            described
        }
        // What it was before it failed is the best that is known.
        None => known,
    };
    let config = match &described {
        Some(described) => described.config.clone(),
        None => checkpoint_config(rest, id).await?,
    };
    let running = described.as_ref().filter(|_| status == JobStatus::Running);
    let run = JobRun {
        key: JobKey(job.name.clone()),
        engine_id: id.clone(),
        attempt: described.as_ref().map_or(0, |described| described.attempt),
        parallelism: job.vertices.iter().map(|vertex| vertex.parallelism).max().unwrap_or(1),
        shape: shape(&job, &config),
        status,
        running_since: running.map(|described| described.running_since),
        checkpointing: settings(&config, &job.name, |theirs| rest.ours_ms(theirs))?,
        noticed: described.as_ref().map_or_else(Vec::new, |described| described.noticed.clone()),
        expected_dead_time: described.as_ref().and_then(|described| described.expected_dead_time),
    };
    Ok((run, described))
}

/// Asks what belongs to this start; `None` when a vertex does not run after all.
async fn ask(rest: &Rest, job: &JobDetails, start: Start) -> Result<Option<Described>, PortError> {
    let id = EngineJobId(job.jid.clone());
    let (mut running_since, mut attempt) = (i64::MIN, 0);
    for vertex in &job.vertices {
        let path = format!("/jobs/{id}/vertices/{}", vertex.id);
        let told: VertexDetails = rest.get(&path, &name(&id)).await?;
        for subtask in &told.subtasks {
            attempt = attempt.max(subtask.attempt);
            match subtask.status.as_str() {
                "FINISHED" => {}
                "RUNNING" => {
                    let running_ms = subtask.status_duration.get("RUNNING");
                    let since = running_ms.map_or(subtask.start_time, |ms| told.now - ms);
                    running_since = running_since.max(since);
                }
                _ => return Ok(None),
            }
        }
    }
    if running_since == i64::MIN {
        return Ok(None);
    }
    let config = checkpoint_config(rest, &id).await?;
    let told: Exceptions = rest.get(&format!("/jobs/{id}/exceptions"), &name(&id)).await?;
    let mut noticed: Vec<Timestamp> =
        told.history.entries.iter().map(|entry| rest.ours(entry.timestamp)).collect();
    noticed.sort_unstable();
    let running_since = rest.ours(running_since);
    let expected_dead_time = doctor::expected_dead_time(rest, &id).await;
    Ok(Some(Described { start, running_since, attempt, noticed, config, expected_dead_time }))
}

async fn checkpoint_config(rest: &Rest, id: &EngineJobId) -> Result<CheckpointConfig, PortError> {
    let asked = rest.get(&format!("/jobs/{id}/checkpoints/config"), &name(id)).await;
    match asked {
        // The job is there, it was just described: checkpoints are off.
        Err(PortError::NotFound(_)) => Err(no_interval(&id.0)),
        answer => answer,
    }
}

fn no_interval(job: &str) -> PortError {
    PortError::Refused(format!(
        "job {job} takes no checkpoints of its own, so nothing would take over if Khaos died: set \
         execution.checkpointing.interval to what may pass then"
    ))
}

/// The longest fallback that makes sense to anyone, ms; Flink says 2^63 − 1 for none at all.
pub(super) const DAY_MS: i64 = 86_400_000;

fn settings(
    config: &CheckpointConfig,
    job: &str,
    ours_ms: impl Fn(i64) -> i64,
) -> Result<CheckpointSettings, PortError> {
    if config.interval <= 0 || config.interval > DAY_MS {
        return Err(no_interval(job));
    }
    // Rounded down: what counts as the fallback is never longer than it is.
    let whole = u32::try_from(ours_ms(config.interval) / 1_000).unwrap_or(1).max(1);
    let refused = |error: khaos_control::core::units::OutOfRange| {
        PortError::Refused(format!("job {job}: {error}"))
    };
    Ok(CheckpointSettings {
        interval: CheckpointInterval::from_secs(whole).map_err(refused)?,
        min_pause: Seconds::new(ours_ms(config.min_pause.max(0)) as f64 / 1_000.0)
            .map_err(refused)?,
    })
}

/// What a model of recovery and latency depends on beside the interval and the load: whoever only
/// changes how often checkpoints come leaves the shape as it is.
fn shape(job: &JobDetails, config: &CheckpointConfig) -> JobShape {
    let mut parts: Vec<String> =
        job.vertices.iter().map(|v| format!("{} {} × {}", v.id, v.name, v.parallelism)).collect();
    parts.push(config.state_backend.clone().unwrap_or_default());
    parts.push(format!(
        "unaligned {} changelog {}",
        config.unaligned_checkpoints, config.state_changelog_enabled
    ));
    JobShape::of(&parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(state: &str, tasks: &str) -> JobDetails {
        serde_json::from_str(&format!(
            r#"{{"jid":"j","name":"n","state":"{state}","now":5,"timestamps":{{"RUNNING":3}},
                "vertices":[{{"id":"a","name":"Source: a","parallelism":1,"start-time":2,
                              "tasks":{{"RUNNING":1}}}},
                            {{"id":"b","name":"b","parallelism":2,"start-time":2,
                              "tasks":{{{tasks}}}}}],
                "plan":{{"nodes":[]}}}}"#
        ))
        .unwrap()
    }

    #[test]
    fn a_job_runs_when_every_subtask_does_or_has_finished() {
        assert_eq!(status(&job("RUNNING", r#""RUNNING":2"#)), JobStatus::Running);
        assert_eq!(status(&job("RUNNING", r#""RUNNING":1,"FINISHED":1"#)), JobStatus::Running);
        assert_eq!(
            status(&job("RUNNING", r#""RUNNING":1,"INITIALIZING":1"#)),
            JobStatus::Restarting
        );
        assert_eq!(status(&job("RESTARTING", r#""RUNNING":2"#)), JobStatus::Restarting);
        assert_eq!(status(&job("CANCELED", r#""CANCELED":2"#)), JobStatus::Ended);
    }

    #[test]
    fn a_shape_is_scale_and_state_and_not_how_often_checkpoints_come() {
        let config = |interval, min_pause, changelog| CheckpointConfig {
            interval,
            min_pause,
            state_backend: Some("rocksdb".into()),
            unaligned_checkpoints: false,
            state_changelog_enabled: changelog,
        };
        let running = job("RUNNING", r#""RUNNING":2"#);
        let usual = shape(&running, &config(60_000, 0, false));
        assert_eq!(shape(&running, &config(10_000, 10_000, false)), usual);
        assert_eq!(shape(&job("RESTARTING", r#""FAILED":2"#), &config(60_000, 0, false)), usual);
        assert_ne!(shape(&running, &config(60_000, 0, true)), usual);
        let mut scaled = running;
        scaled.vertices[1].parallelism = 4;
        assert_ne!(shape(&scaled, &config(60_000, 0, false)), usual);
    }

    #[test]
    fn the_fallback_is_never_longer_than_the_jobs_own_interval() {
        let config = |interval| CheckpointConfig {
            interval,
            min_pause: 500,
            state_backend: None,
            unaligned_checkpoints: false,
            state_changelog_enabled: false,
        };
        let taken = settings(&config(2_900), "j", |theirs| theirs).unwrap();
        assert_eq!((taken.interval.secs(), taken.min_pause.get()), (2, 0.5));
        let hasty = settings(&config(2_900), "j", |theirs| 12 * theirs).unwrap();
        assert_eq!((hasty.interval.secs(), hasty.min_pause.get()), (34, 6.0));
        for none in [i64::MAX, 0, -1] {
            let refused = settings(&config(none), "j", |theirs| theirs).unwrap_err().to_string();
            assert!(refused.contains("execution.checkpointing.interval"), "{refused}");
        }
    }
}
