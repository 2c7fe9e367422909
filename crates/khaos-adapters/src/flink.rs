//! Apache Flink, over its REST API: 1.17 to 2.x.
//!
//! [`Flink`] is one cluster as the ports `Jobs`, `Checkpoints` and `Metrics` show it. `rest` asks,
//! `messages` are the answers as far as they are read, `deployment` makes one description of a job
//! of several answers, `history` follows checkpoints beyond the ten that Flink keeps, `metrics`
//! samples counters, `positions` what Kafka sources have read, each by a `task` of its own. Two actuators
//! change the job's own interval: [`Redeployer`] starts the job again with it, as its [`Description`] says,
//! and [`LiveInterval`] asks a Flink that can. `doctor` says what to change before Khaos can drive, and why. What Flink was seen to
//! do, and every trap that this has to avoid, stands in
//! `docs/flink.md`.

mod clones;
mod deployment;
mod description;
pub mod doctor;
mod history;
mod kill_command;
mod live_interval;
mod messages;
mod metrics;
mod placement;
mod positions;
mod redeploy;
mod rest;
#[cfg(test)]
mod stub;
mod submission;
mod task;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use khaos_control::clock::Clock;
use khaos_control::core::job::{CheckpointHistory, EngineJobId, JobKey, JobRun, TriggerId};
use khaos_control::core::series::Readings;
use khaos_control::core::units::Span;
use khaos_control::ports::{Checkpoints, Jobs, Metrics, PortError, TriggerOutcome};
use serde_json::{Value, json};

pub use self::clones::{FlinkClones, Recipe};
use self::deployment::Described;
pub use self::description::{Description, Misdescribed, Own, Place};
use self::history::{Followed, Follower};
pub use self::kill_command::KillCommand;
pub use self::live_interval::LiveInterval;
pub(crate) use self::messages::Errors;
use self::messages::{JobSummary, Operation, OperationResult, Overview};
use self::metrics::Sampler;
pub(crate) use self::placement::Placement;
use self::positions::PositionFollower;
pub(crate) use self::positions::{Next, Positions, Reported};
pub use self::redeploy::{Recovered, Redeployer};
use self::rest::Rest;
pub use self::submission::Submission;

/// One Flink cluster. Clones are the same cluster.
#[derive(Debug, Clone)]
pub struct Flink {
    rest: Rest,
    deployments: Arc<Deployments>,
}

type Deployments = Mutex<BTreeMap<EngineJobId, Deployment>>;

/// What is remembered of one deployment for as long as the cluster has it.
#[derive(Debug, Default)]
struct Deployment {
    described: Option<Described>,
    followed: Followed,
    /// Begins with the first question for the history.
    follower: Option<Follower>,
    /// Begins with the first question for readings.
    sampler: Option<Sampler>,
    /// Begins with the first question for positions.
    positions: Option<PositionFollower>,
}

impl Flink {
    /// The cluster whose REST API is at `url`, for example `http://127.0.0.1:8081`. Nothing is
    /// asked yet; an address that cannot be one is refused.
    pub fn at(url: &str, clock: Clock) -> Result<Self, PortError> {
        Ok(Self { rest: Rest::at(url, clock)?, deployments: Arc::default() })
    }

    /// Where its REST API is.
    pub fn url(&self) -> &str {
        self.rest.base()
    }

    fn deployments(&self) -> MutexGuard<'_, BTreeMap<EngineJobId, Deployment>> {
        self.deployments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the Kafka sources of a deployment have read, over time. As with readings, that begins with the
    /// first question.
    pub(crate) async fn positions(
        &self,
        job: &EngineJobId,
    ) -> Result<Arc<Mutex<Positions>>, PortError> {
        let followed = |deployment: &Deployment| {
            deployment.positions.as_ref().map(|follower| Arc::clone(&follower.positions))
        };
        let known = self.deployments().get(job).and_then(followed);
        if let Some(positions) = known {
            return Ok(positions);
        }
        // Only what is there is followed.
        self.run(job).await?;
        let mut deployments = self.deployments();
        let deployment = deployments.entry(job.clone()).or_default();
        let follower = deployment
            .positions
            .get_or_insert_with(|| PositionFollower::start(self.rest.clone(), job.clone()));
        Ok(Arc::clone(&follower.positions))
    }

    /// The names of a deployment's sources, and what those of Kafka report, now. Takes a second.
    pub(crate) async fn sources_now(
        &self,
        job: &EngineJobId,
    ) -> Result<(Vec<String>, Reported), PortError> {
        let found = metrics::find(&self.rest, job).await?;
        let names = found.sources.into_iter().map(|source| source.name).collect();
        Ok((names, positions::reported(&self.rest, job).await?))
    }

    /// The jobs that have not ended. Whatever was remembered of others is forgotten.
    async fn present(&self) -> Result<Vec<JobSummary>, PortError> {
        let overview: Overview = self.rest.get("/jobs/overview", "list of jobs").await?;
        let ended = |job: &JobSummary| deployment::has_ended(&job.state);
        let present: Vec<_> = overview.jobs.into_iter().filter(|job| !ended(job)).collect();
        self.deployments().retain(|id, _| present.iter().any(|job| job.jid == id.0));
        Ok(present)
    }

    /// The present deployment of `job`: by its name, or by Flink's id of it.
    async fn find(&self, job: &JobKey) -> Result<EngineJobId, PortError> {
        let present = self.present().await?;
        let found: Vec<&JobSummary> =
            present.iter().filter(|j| j.name == job.0 || j.jid == job.0).collect();
        match found[..] {
            [one] => Ok(EngineJobId(one.jid.clone())),
            [] => {
                let names: Vec<&str> = present.iter().map(|j| j.name.as_str()).collect();
                let running = match names[..] {
                    [] => "no job runs there".to_owned(),
                    _ => format!("what runs there is {}", names.join(", ")),
                };
                Err(PortError::NotFound(format!("job {job} on {}: {running}", self.rest.base())))
            }
            _ => {
                let ids: Vec<&str> = found.iter().map(|j| j.jid.as_str()).collect();
                Err(PortError::Refused(format!(
                    "{} jobs on {} are called {job}: name the one that is meant by its id ({})",
                    found.len(),
                    self.rest.base(),
                    ids.join(", ")
                )))
            }
        }
    }
}

#[async_trait]
impl Jobs for Flink {
    async fn list(&self) -> Result<Vec<JobKey>, PortError> {
        let present = self.present().await?.into_iter();
        let jobs = present.filter(|job| clones::label(&job.name).is_none());
        let mut names: Vec<JobKey> = jobs.map(|job| JobKey(job.name)).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    async fn describe(&self, job: &JobKey) -> Result<JobRun, PortError> {
        let run = self.run(&self.find(job).await?).await?;
        Ok(JobRun { key: job.clone(), ..run })
    }

    async fn run(&self, id: &EngineJobId) -> Result<JobRun, PortError> {
        let known = self.deployments().get(id).and_then(|d| d.described.clone());
        let (run, described) = deployment::describe(&self.rest, id, known).await?;
        self.deployments().entry(id.clone()).or_default().described = described;
        Ok(run)
    }
}

#[async_trait]
impl Checkpoints for Flink {
    /// From the first question about a deployment on it is followed, however seldom anybody asks
    /// again: Flink remembers ten checkpoints, which can be those of ten seconds.
    async fn history(&self, job: &EngineJobId) -> Result<CheckpointHistory, PortError> {
        let told = history::ask(&self.rest, job).await?;
        let mut deployments = self.deployments();
        let deployment = deployments.entry(job.clone()).or_default();
        deployment.follower.get_or_insert_with(|| {
            Follower::start(self.rest.clone(), Arc::downgrade(&self.deployments), job.clone())
        });
        Ok(deployment.followed.take_in(&told, &self.rest))
    }

    async fn trigger(&self, job: &EngineJobId, id: &TriggerId) -> Result<(), PortError> {
        trigger(&self.rest, job, id).await
    }

    async fn outcome(
        &self,
        job: &EngineJobId,
        id: &TriggerId,
    ) -> Result<TriggerOutcome, PortError> {
        outcome(&self.rest, job, id).await
    }
}

async fn trigger(rest: &Rest, job: &EngineJobId, id: &TriggerId) -> Result<(), PortError> {
    // The type that the job itself is configured to take.
    let body = json!({ "checkpointType": "CONFIGURED", "triggerId": id.as_str() });
    let path = format!("/jobs/{job}/checkpoints");
    rest.post::<Value>(&path, &body, &deployment::name(job)).await?;
    Ok(())
}

async fn outcome(
    rest: &Rest,
    job: &EngineJobId,
    id: &TriggerId,
) -> Result<TriggerOutcome, PortError> {
    let path = format!("/jobs/{job}/checkpoints/{}", id.as_str());
    let told: Operation = rest.get(&path, &format!("trigger {}", id.as_str())).await?;
    if told.status.id != "COMPLETED" {
        return Ok(TriggerOutcome::InProgress);
    }
    // Completed is the operation, not the checkpoint: only a number is a checkpoint.
    Ok(match told.operation {
        Some(OperationResult { checkpoint_id: Some(number), .. }) => {
            TriggerOutcome::Completed(number)
        }
        Some(failed) => TriggerOutcome::Failed(failed.reason()),
        None => TriggerOutcome::Failed("no reason given".to_owned()),
    })
}

#[async_trait]
impl Metrics for Flink {
    /// Sampling begins with the first question about a deployment, and ends with the deployment or
    /// with this cluster's last handle: what was before is not known.
    async fn readings(&self, job: &EngineJobId, span: Span) -> Result<Readings, PortError> {
        let sampled = {
            let deployments = self.deployments();
            deployments.get(job).and_then(|d| d.sampler.as_ref()).map(|s| s.readings(span))
        };
        if let Some(readings) = sampled {
            return readings;
        }
        // Only what is there is sampled.
        self.run(job).await?;
        let mut deployments = self.deployments();
        let deployment = deployments.entry(job.clone()).or_default();
        let sampler = deployment
            .sampler
            .get_or_insert_with(|| Sampler::start(self.rest.clone(), job.clone()));
        sampler.readings(span)
    }
}
