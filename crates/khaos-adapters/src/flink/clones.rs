//! Clones of a job, deployed beside it over the REST API.
//!
//! A clone's labels are its name: everybody who looks at Flink sees what it is, whose, and when it may
//! go, and whoever comes after a khaos that died finds it by one question.

use std::sync::Arc;

use async_trait::async_trait;
use khaos_control::core::job::{EngineJobId, JobKey};
use khaos_control::core::record::RecordId;
use khaos_control::core::units::{CheckpointInterval, Timestamp};
use khaos_control::ports::{CloneHost, CloneSpec, PortError, RunningClone};
use serde_json::json;

use super::Flink;
use super::deployment::has_ended;
use super::messages::Overview;
use super::submission::{Submission, new_id};

/// What a clone is made of: a submission of the job that reads nothing until it is replayed to and
/// writes where nobody reads, given what to deploy and the id that it will have.
pub type Recipe = Arc<dyn Fn(&CloneSpec, &EngineJobId) -> Submission + Send + Sync>;

/// How long Flink may take to end a clone, s.
const DEADLINE_S: f64 = 600.0;
/// Between two looks whether it has, s.
const LOOK_S: f64 = 0.5;

/// The clones on one Flink cluster.
#[derive(Clone)]
pub struct FlinkClones {
    flink: Flink,
    recipe: Recipe,
}

impl std::fmt::Debug for FlinkClones {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlinkClones").field("flink", &self.flink).finish_non_exhaustive()
    }
}

impl FlinkClones {
    /// Clones on `flink`, made by `recipe`.
    pub fn new(flink: Flink, recipe: Recipe) -> Self {
        Self { flink, recipe }
    }

    async fn find(&self, id: &EngineJobId) -> Result<Option<(String, String)>, PortError> {
        let overview: Overview = self.flink.rest.get("/jobs/overview", "list of jobs").await?;
        let found = overview.jobs.into_iter().find(|job| job.jid == id.0);
        Ok(found.map(|job| (job.name, job.state)))
    }
}

#[async_trait]
impl CloneHost for FlinkClones {
    async fn launch(&self, spec: &CloneSpec) -> Result<EngineJobId, PortError> {
        let rest = &self.flink.rest;
        let name = name(spec);
        let id = new_id(&name, rest.clock().now());
        let mut clone = (self.recipe)(spec, &id);
        name.clone_into(&mut clone.name);
        let interval_ms = rest.theirs_ms(spec.interval.millis());
        let clone = clone
            .with("execution.checkpointing.interval", format!("{interval_ms} ms"))
            .with("execution.checkpointing.min-pause", "0 ms")
            // What it saved goes with it.
            .with(
                "execution.checkpointing.externalized-checkpoint-retention",
                "DELETE_ON_CANCELLATION",
            );
        clone.run(rest, &id, None).await?;
        Ok(id)
    }

    async fn terminate(&self, id: &EngineJobId) -> Result<(), PortError> {
        let rest = &self.flink.rest;
        let clock = rest.clock();
        let deadline = clock.now().plus_secs(DEADLINE_S);
        let mut asked = false;
        loop {
            match self.find(id).await? {
                None => return Ok(()),
                Some((name, _)) if label(&name).is_none() => {
                    return Err(PortError::Refused(format!("{name} ({id}) is not a clone")));
                }
                Some((_, state)) if has_ended(&state) => return Ok(()),
                Some((name, _)) if clock.now() >= deadline => {
                    return Err(PortError::Unavailable(format!(
                        "{name} ({id}) did not end within {DEADLINE_S} s after it was cancelled"
                    )));
                }
                Some((name, _)) if !asked => {
                    let path = format!("/jobs/{id}?mode=cancel");
                    match rest.patch(&path, &json!({}), &name).await {
                        Ok(()) | Err(PortError::NotFound(_)) => asked = true,
                        Err(error) => return Err(error),
                    }
                }
                Some(_) => clock.sleep_until(clock.now().plus_secs(LOOK_S)).await,
            }
        }
    }

    async fn running(&self) -> Result<Vec<RunningClone>, PortError> {
        let present = self.flink.present().await?.into_iter();
        let clone = |(id, name): (String, String)| {
            Some(RunningClone { engine_id: EngineJobId(id), spec: label(&name)? })
        };
        Ok(present.map(|job| (job.jid, job.name)).filter_map(clone).collect())
    }
}

const MARK: &str = "khaos clone ";

/// The name of the clone of `spec`: its labels, the job's name last because anything may be in it.
fn name(spec: &CloneSpec) -> String {
    let CloneSpec { of, campaign, index, interval, deadline } = spec;
    let (secs, until) = (interval.secs(), deadline.0);
    format!("{MARK}{campaign}/{index}, every {secs} s, until {until} ms: {of}")
}

/// The clone that is called `name`; `None` where that is no name of one.
pub(super) fn label(name: &str) -> Option<CloneSpec> {
    let (campaign, rest) = name.strip_prefix(MARK)?.split_once('/')?;
    let (index, rest) = rest.split_once(", every ")?;
    let (secs, rest) = rest.split_once(" s, until ")?;
    let (until, of) = rest.split_once(" ms: ")?;
    Some(CloneSpec {
        of: JobKey(of.to_owned()),
        campaign: RecordId::of_digits(campaign)?,
        index: index.parse().ok()?,
        interval: CheckpointInterval::from_secs(secs.parse().ok()?).ok()?,
        deadline: Timestamp(until.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clones_name_holds_all_its_labels() {
        let spec = CloneSpec {
            of: JobKey("orders / EU, until 5 ms: x".to_owned()),
            campaign: RecordId::of_digits("0123456789abcdef0123456789abcdef").unwrap(),
            index: 3,
            interval: CheckpointInterval::from_secs(45).unwrap(),
            deadline: Timestamp(1_764_000_000_000),
        };
        assert_eq!(label(&name(&spec)), Some(spec));
    }

    #[test]
    fn what_somebody_else_runs_is_no_clone() {
        for name in [
            "orders",
            "khaos clone of orders",
            "khaos clone 0123456789abcdef0123456789abcdef/x, every 5 s, until 7 ms: orders",
            "khaos clone 0123/1, every 5 s, until 7 ms: orders",
            "khaos clone 0123456789abcdef0123456789abcdef/1, every 0 s, until 7 ms: orders",
        ] {
            assert_eq!(label(name), None, "{name}");
        }
    }
}
