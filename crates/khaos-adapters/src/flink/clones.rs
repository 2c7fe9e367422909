//! Clones of a job, deployed beside it over the REST API.
//!
//! A clone's labels are its name: everybody who looks at Flink sees what it is, whose, and when it may
//! go, and whoever comes after a khaos that died finds it by one question. One that Flink is still making
//! cannot be found so: it has a `mark`.

mod mark;

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
/// A savepoint that is nowhere, on any machine.
const NOWHERE: &str = "file:///dev/null/khaos";

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

    /// What is run under `id` as the clone of `spec`.
    fn submission(&self, spec: &CloneSpec, id: &EngineJobId) -> Submission {
        let interval_ms = self.flink.rest.theirs_ms(spec.interval.millis());
        Submission { name: name(spec), ..(self.recipe)(spec, id) }
            .with("execution.checkpointing.interval", format!("{interval_ms} ms"))
            .with("execution.checkpointing.min-pause", "0 ms")
            // What it saved goes with it.
            .with(
                "execution.checkpointing.externalized-checkpoint-retention",
                "DELETE_ON_CANCELLATION",
            )
    }

    /// Ends the clone of `spec` that is `id`, whether Flink has made it, is making it, or has not begun to:
    /// Flink takes an id once, so it comes from here, with nothing to start from, or not at all. A wait
    /// would have to be longer than a `main` that nobody knows.
    async fn forestall(
        &self,
        mark: &str,
        id: &EngineJobId,
        spec: &CloneSpec,
    ) -> Result<(), PortError> {
        let clock = self.flink.rest.clock();
        let deadline = clock.now().plus_secs(DEADLINE_S);
        let stillborn = self.submission(spec, id);
        while self.find(id).await?.is_none() {
            let now = clock.now();
            // Refused in any case. What counts is whether there is a deployment of this id then.
            let Err(why) = stillborn.run(&self.flink.rest, id, Some(NOWHERE)).await else {
                continue;
            };
            if now >= deadline {
                return Err(PortError::Unavailable(format!(
                    "{} ({id}), which an earlier khaos launched, has not come and could not be kept from \
                     coming: {why}; when it cannot come any more, delete the jar {mark} at Flink",
                    name(spec)
                )));
            }
            clock.sleep_until(now.plus_secs(LOOK_S)).await;
        }
        self.terminate(id).await
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
        let id = new_id(&name(spec), rest.clock().now());
        let mark = mark::leave(rest, spec, &id).await?;
        let launched = self.submission(spec, &id).run(rest, &id, None).await;
        // Without an answer it may still come, and the mark tells the next sweep.
        if !matches!(launched, Err(PortError::Unavailable(_))) {
            // One that stays costs the next sweep a look.
            let _ = mark::remove(rest, &mark).await;
        }
        launched.map(|()| id)
    }

    async fn settle(&self, of: &JobKey) -> Result<(), PortError> {
        let rest = &self.flink.rest;
        for (mark, id, spec) in mark::left(rest, of).await? {
            self.forestall(&mark, &id, &spec).await?;
            mark::remove(rest, &mark).await?;
        }
        Ok(())
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
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use khaos_control::clock::Clock;

    use super::*;
    use crate::flink::stub;

    fn spec() -> CloneSpec {
        CloneSpec {
            of: JobKey("orders / EU, until 5 ms: x".to_owned()),
            campaign: RecordId::of_digits("0123456789abcdef0123456789abcdef").unwrap(),
            index: 3,
            interval: CheckpointInterval::from_secs(45).unwrap(),
            deadline: Timestamp(1_764_000_000_000),
        }
    }

    #[test]
    fn a_clones_name_holds_all_its_labels() {
        assert_eq!(label(&name(&spec())), Some(spec()));
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

    /// Settles a Flink that has the mark of a launch: what it was asked, in order. `jobs` is the state of the
    /// clone, once it is listed, by how often somebody tried to run one and whether it was cancelled.
    fn swept(jobs: impl Fn(usize, bool) -> Option<&'static str> + Send + 'static) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let jar = dir.path().join("a.jar");
            std::fs::write(&jar, "a jar").unwrap();
            let spec = spec();
            let marked = mark::name(&spec, &EngineJobId("c".to_owned()));
            let (asked, called) = (Arc::new(Mutex::new(Vec::new())), name(&spec));
            let asking = Arc::clone(&asked);
            let url = stub::serve(move |request, body| {
                let mut asked = asking.lock().unwrap();
                let runs = asked.iter().filter(|a: &&String| a.ends_with("/run")).count();
                let cancelled = asked.iter().any(|a| a.starts_with("PATCH"));
                let answer = match request {
                    "GET /jars" => {
                        let mark = json!({ "id": format!("1_{marked}"), "name": marked });
                        json!({ "files": [mark, { "id": "2_a.jar", "name": "a.jar" }] })
                    }
                    "POST /jars/upload" => json!({ "filename": "/somewhere/3_khaos.jar" }),
                    "GET /jobs/overview" => {
                        let job = |state| json!({ "jid": "c", "name": called, "state": state });
                        json!({ "jobs": Vec::from_iter(jobs(runs, cancelled).map(job)) })
                    }
                    "POST /jars/3_khaos.jar/run" => {
                        let body: serde_json::Value = serde_json::from_str(body).unwrap();
                        assert_eq!(
                            (&body["jobId"], &body["savepointPath"]),
                            (&json!("c"), &json!(NOWHERE))
                        );
                        asked.push(request.to_owned());
                        return ("400 Bad Request", json!({ "errors": ["no"] }).to_string());
                    }
                    _ => json!({}),
                };
                asked.push(request.to_owned());
                ("200 OK", answer.to_string())
            });
            let clock = Clock::anchored(Timestamp(0)).times(1_000);
            let flink = Flink::at(&url.await, clock).unwrap();
            let recipe = move |_: &_, _: &_| Submission {
                name: "orders".to_owned(),
                jar: jar.clone(),
                entry_class: None,
                arguments: Vec::new(),
                parallelism: 1,
                configuration: BTreeMap::new(),
            };
            let clones = FlinkClones::new(flink, Arc::new(recipe));
            clones.settle(&JobKey("others".to_owned())).await.unwrap();
            assert_eq!(*asked.lock().unwrap(), ["GET /jars"], "another job's launch is left alone");
            clones.settle(&spec.of).await.unwrap();
            let asked = asked.lock().unwrap();
            assert!(
                asked.last().unwrap().starts_with("DELETE /jars/1_khaos-clone_c_"),
                "{asked:?}"
            );
            asked.clone()
        })
    }

    #[test]
    fn a_launch_that_nobody_heard_of_is_ended_whenever_it_comes() {
        let count =
            |asked: &[String], what: &str| asked.iter().filter(|a| a.starts_with(what)).count();
        let (run, cancel) = ("POST /jars/3", "PATCH /jobs/c?mode=cancel");
        // It was there: somebody only did not hear of it.
        let asked = swept(|_, cancelled| Some(if cancelled { "CANCELED" } else { "RUNNING" }));
        assert_eq!((count(&asked, run), count(&asked, cancel)), (0, 1), "{asked:?}");
        // Flink has its id and is still making it: it comes after a while.
        let late =
            |runs, cancelled| (runs >= 3).then_some(if cancelled { "CANCELED" } else { "CREATED" });
        let asked = swept(late);
        assert_eq!((count(&asked, run), count(&asked, cancel)), (3, 1), "{asked:?}");
        // It has not come yet and cannot any more: its id is taken.
        let asked = swept(|runs, _| (runs >= 1).then_some("FAILED"));
        assert_eq!((count(&asked, run), count(&asked, cancel)), (1, 0), "{asked:?}");
    }
}
