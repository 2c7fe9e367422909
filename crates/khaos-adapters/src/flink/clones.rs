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
            // From a savepoint of the job it would go on in the job's partitions, and its sink would abort the
            // transactions that the job has open.
            .starting_empty()
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
        // Whatever it is called: the id is one that we chose.
        self.end(id).await
    }

    /// What came of a launch of `spec` under `id`, which Flink has answered: it is a clone only where it is
    /// called like one, for nobody finds another one again. What else came of it is ended, by the id that we
    /// chose. Unavailable as long as there may be something left to end.
    async fn judge(
        &self,
        spec: &CloneSpec,
        id: &EngineJobId,
        answered: Result<(), PortError>,
    ) -> Result<(), PortError> {
        let wanted = name(spec);
        let unknown = |why: &str| {
            let said =
                answered.as_ref().err().map_or_else(String::new, |said| format!(" ({said})"));
            PortError::Unavailable(format!(
                "{wanted} ({id}) was launched{said}, but {why}; the next sweep ends it"
            ))
        };
        let found = self.find(id).await;
        let found = found.map_err(|error| unknown(&format!("it is not known as what: {error}")))?;
        match (&answered, found) {
            (Ok(()), Some((called, _))) if called == wanted => Ok(()),
            (Ok(()), None) => Err(unknown("Flink does not list it")),
            (Err(_), None) => answered,
            (_, Some((called, _))) => {
                let ended = self.end(id).await;
                ended.map_err(|error| unknown(&format!("could not be ended: {error}")))?;
                // A `main` that fails after it has made the job leaves a job behind.
                answered?;
                Err(PortError::Refused(format!(
                    "the clone {id} is called '{called}', because the job's main gives it that name, as \
                     execute(\"...\") does: nobody could tell it from the job, so it was ended; call \
                     execute() without a name, so that pipeline.name counts, which Khaos sets, or take the \
                     name from an argument that [job.deployment] leaves out"
                )))
            }
        }
    }

    /// Ends what runs as `id`, which is ours, and waits until it has ended. What is gone is no error.
    async fn end(&self, id: &EngineJobId) -> Result<(), PortError> {
        let rest = &self.flink.rest;
        let clock = rest.clock();
        let deadline = clock.now().plus_secs(DEADLINE_S);
        let mut asked = false;
        loop {
            match self.find(id).await? {
                None => return Ok(()),
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
        let launched = match self.submission(spec, &id).run(rest, &id, None).await {
            // Without an answer it may still come, and the mark tells the next sweep.
            Err(error @ PortError::Unavailable(_)) => Err(error),
            answered => self.judge(spec, &id, answered).await,
        };
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
        match self.find(id).await? {
            None => Ok(()),
            Some((name, _)) if label(&name).is_none() => {
                Err(PortError::Refused(format!("{name} ({id}) is not a clone")))
            }
            Some(_) => self.end(id).await,
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

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(future)
    }

    /// Clones on the Flink at `url`, where a second is a millisecond, of a job that was once started from a
    /// savepoint; with the folder of its jar.
    fn clones_at(url: &str) -> (FlinkClones, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let jar = dir.path().join("a.jar");
        std::fs::write(&jar, "a jar").unwrap();
        let saved = Submission::RESTORES_FROM.map(|key| (key.to_owned(), "file:/s".to_owned()));
        let recipe = move |_: &_, _: &_| Submission {
            name: "orders".to_owned(),
            jar: jar.clone(),
            entry_class: None,
            arguments: Vec::new(),
            parallelism: 1,
            configuration: BTreeMap::from(saved.clone()),
        };
        let flink = Flink::at(url, Clock::anchored(Timestamp(0)).times(1_000)).unwrap();
        (FlinkClones::new(flink, Arc::new(recipe)), dir)
    }

    fn count(asked: &[String], what: &str) -> usize {
        asked.iter().filter(|a| a.starts_with(what)).count()
    }

    /// What a Flink does with the launch of a clone.
    #[derive(Clone, Copy)]
    struct Launch {
        /// What its `main` calls it; as it was told when `None`.
        called: Option<&'static str>,
        /// Whether the launch is refused after the job was made, as where `main` fails then.
        refused: bool,
        /// Whether it says what it runs.
        lists: bool,
        /// Whether it cancels.
        cancels: bool,
    }

    const AS_TOLD: Launch = Launch { called: None, refused: false, lists: true, cancels: true };

    /// Launches a clone on a Flink that does as `launch` says: what came of it, and what Flink was asked, the
    /// clone's id as `ID`.
    fn launched(launch: Launch) -> (Result<EngineJobId, PortError>, Vec<String>) {
        block_on(async {
            let asked = Arc::new(Mutex::new(Vec::new()));
            let asking = Arc::clone(&asked);
            let mut clone = None;
            let mut state = "RUNNING";
            let url = stub::serve(move |request, body| {
                let id =
                    clone.as_ref().map_or("no id yet", |(id, _): &(String, String)| id.as_str());
                let request = request.replace(id, "ID");
                let mut status = "200 OK";
                let answer = match request.as_str() {
                    "GET /jars" => json!({ "files": [] }),
                    "POST /jars/upload" => json!({ "filename": "/somewhere/3_khaos.jar" }),
                    "POST /jars/3_khaos.jar/run" => {
                        let body: serde_json::Value = serde_json::from_str(body).unwrap();
                        let settings = &body["flinkConfiguration"];
                        assert!(body.get("savepointPath").is_none(), "{body}");
                        for key in Submission::RESTORES_FROM {
                            assert!(settings.get(key).is_none(), "{body}");
                        }
                        let id = body["jobId"].as_str().unwrap().to_owned();
                        let told = settings["pipeline.name"].as_str().unwrap();
                        clone = Some((id.clone(), launch.called.unwrap_or(told).to_owned()));
                        if launch.refused {
                            status = "400 Bad Request";
                        }
                        json!({ "jobid": id, "errors": ["main failed"] })
                    }
                    "GET /jobs/overview" if launch.lists => {
                        let (id, called) = clone.clone().unwrap();
                        let job =
                            json!({ "jid": "production", "name": "orders", "state": "RUNNING" });
                        json!({ "jobs": [job, { "jid": id, "name": called, "state": state }] })
                    }
                    "PATCH /jobs/ID?mode=cancel" if launch.cancels => {
                        state = "CANCELED";
                        json!({})
                    }
                    "DELETE /jars/3_khaos.jar" => json!({}),
                    _ => {
                        status = "503 Service Unavailable";
                        json!({ "errors": ["not now"] })
                    }
                };
                asking.lock().unwrap().push(request);
                (status, answer.to_string())
            });
            let (clones, _dir) = clones_at(&url.await);
            let came = clones.launch(&spec()).await;
            let asked = asked.lock().unwrap().clone();
            (came, asked)
        })
    }

    const CANCEL: &str = "PATCH /jobs/ID?mode=cancel";
    const MARK_REMOVED: &str = "DELETE /jars/3_khaos.jar";

    #[test]
    fn a_clone_that_is_called_as_it_was_told_runs() {
        let (came, asked) = launched(AS_TOLD);
        assert_eq!(came.unwrap().0.len(), 32);
        assert_eq!((count(&asked, "PATCH"), count(&asked, MARK_REMOVED)), (0, 1), "{asked:?}");
    }

    #[test]
    fn a_clone_that_calls_itself_like_the_job_is_ended_and_nothing_else_is() {
        let (came, asked) = launched(Launch { called: Some("orders"), ..AS_TOLD });
        let Err(PortError::Refused(said)) = came else { panic!("{came:?}") };
        assert!(said.contains("is called 'orders'") && said.contains("execute("), "{said}");
        assert_eq!((count(&asked, CANCEL), count(&asked, "PATCH")), (1, 1), "{asked:?}");
        assert_eq!(asked.last().unwrap(), MARK_REMOVED, "only after it has ended: {asked:?}");
    }

    #[test]
    fn a_job_that_is_left_by_a_main_that_failed_is_ended() {
        for called in [Some("orders"), None] {
            let (came, asked) = launched(Launch { called, refused: true, ..AS_TOLD });
            let Err(PortError::Refused(said)) = came else { panic!("{came:?}") };
            assert!(said.contains("main failed"), "{said}");
            assert_eq!((count(&asked, CANCEL), count(&asked, "PATCH")), (1, 1), "{asked:?}");
            assert_eq!(asked.last().unwrap(), MARK_REMOVED, "{asked:?}");
        }
    }

    #[test]
    fn what_could_not_be_looked_up_or_ended_is_left_to_the_next_sweep() {
        let (came, asked) = launched(Launch { lists: false, ..AS_TOLD });
        let Err(PortError::Unavailable(said)) = came else { panic!("{came:?}") };
        assert!(said.contains("not now") && said.contains("the next sweep ends it"), "{said}");
        assert_eq!((count(&asked, "PATCH"), count(&asked, "DELETE")), (0, 0), "{asked:?}");
        let (came, asked) = launched(Launch { called: Some("orders"), cancels: false, ..AS_TOLD });
        let Err(PortError::Unavailable(said)) = came else { panic!("{came:?}") };
        assert!(said.contains("could not be ended"), "{said}");
        assert_eq!((count(&asked, CANCEL), count(&asked, "DELETE")), (1, 0), "{asked:?}");
    }

    #[test]
    fn what_is_no_clone_is_not_ended() {
        block_on(async {
            let url = stub::serve(|request, _| {
                assert_eq!(request, "GET /jobs/overview");
                let job = json!({ "jid": "production", "name": "orders", "state": "RUNNING" });
                ("200 OK", json!({ "jobs": [job] }).to_string())
            });
            let (clones, _dir) = clones_at(&url.await);
            let came = clones.terminate(&EngineJobId("production".to_owned())).await;
            assert!(matches!(came, Err(PortError::Refused(_))), "{came:?}");
            clones.terminate(&EngineJobId("gone".to_owned())).await.unwrap();
        });
    }

    /// Settles a Flink that has the mark of a launch: what it was asked, in order. `jobs` is the state of the
    /// clone, once it is listed, by how often somebody tried to run one and whether it was cancelled; it is
    /// called `called`.
    fn swept(
        called: &str,
        jobs: impl Fn(usize, bool) -> Option<&'static str> + Send + 'static,
    ) -> Vec<String> {
        block_on(async {
            let spec = spec();
            let marked = mark::name(&spec, &EngineJobId("c".to_owned()));
            let (asked, called) = (Arc::new(Mutex::new(Vec::new())), called.to_owned());
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
            let (clones, _dir) = clones_at(&url.await);
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
        let (run, cancel) = ("POST /jars/3", "PATCH /jobs/c?mode=cancel");
        // Also where its main gives it the job's name: the id is ours.
        for called in [&name(&spec()), "orders"] {
            // It was there: somebody only did not hear of it.
            let there = |_, cancelled| Some(if cancelled { "CANCELED" } else { "RUNNING" });
            let asked = swept(called, there);
            assert_eq!((count(&asked, run), count(&asked, cancel)), (0, 1), "{asked:?}");
            // Flink has its id and is still making it: it comes after a while.
            let late = |runs, cancelled| {
                (runs >= 3).then_some(if cancelled { "CANCELED" } else { "CREATED" })
            };
            let asked = swept(called, late);
            assert_eq!((count(&asked, run), count(&asked, cancel)), (3, 1), "{asked:?}");
            // It has not come yet and cannot any more: its id is taken.
            let asked = swept(called, |runs, _| (runs >= 1).then_some("FAILED"));
            assert_eq!((count(&asked, run), count(&asked, cancel)), (1, 0), "{asked:?}");
        }
    }
}
