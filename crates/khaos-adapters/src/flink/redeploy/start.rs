//! Starting a job from a savepoint, seeing that it is the one that was meant, and taking it back.

use std::collections::BTreeSet;

use khaos_control::core::job::{EngineJobId, JobStatus};
use khaos_control::ports::PortError;
use serde_json::json;

use super::{ARRIVES_MS, POLL_MS};
use crate::flink::Description;
use crate::flink::deployment::{has_ended, name, status};
use crate::flink::messages::{CheckpointStatistics, Exceptions, JobDetails, OwnCheckpoints};
use crate::flink::rest::Rest;

/// How long a job may take until every vertex runs, or until it has ended, ms.
const DEADLINE_MS: i64 = 600_000;
/// A new setting that fails so often before every vertex runs will not come up: each try is time that
/// nobody processes events in.
pub(super) const TRIES: usize = 3;

const INTERVAL: &str = "execution.checkpointing.interval";
const MIN_PAUSE: &str = "execution.checkpointing.min-pause";

/// What is to run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) id: &'a EngineJobId,
    pub(super) own: OwnCheckpoints,
    pub(super) savepoint: &'a str,
    /// Restarts before every vertex runs that are enough to give up; none are when `None`.
    pub(super) tries: Option<usize>,
}

/// Flink's settings for checkpoints as in `own`.
pub(super) fn settings(own: OwnCheckpoints) -> [(&'static str, String); 2] {
    [(INTERVAL, format!("{} ms", own.interval)), (MIN_PAUSE, format!("{} ms", own.min_pause))]
}

/// Submits it and waits until it runs as it was meant to; otherwise says why it does not.
pub(super) async fn start(
    rest: &Rest,
    job: &Description,
    wanted: Wanted<'_>,
) -> Result<(), String> {
    match submit(rest, job, wanted).await {
        Ok(()) => comes_up(rest, wanted).await,
        // It may have been taken all the same.
        Err(why @ PortError::Unavailable(_)) => came_up(rest, wanted, &why).await,
        Err(error) => Err(format!("Flink did not take it: {error}")),
    }
}

/// As [`start`] for what may have been submitted before: then Flink refuses it, and what counts is whether
/// that runs.
pub(super) async fn once_more(
    rest: &Rest,
    job: &Description,
    wanted: Wanted<'_>,
) -> Result<(), String> {
    match submit(rest, job, wanted).await {
        Ok(()) => comes_up(rest, wanted).await,
        Err(why) => came_up(rest, wanted, &why).await,
    }
}

async fn submit(rest: &Rest, job: &Description, wanted: Wanted<'_>) -> Result<(), PortError> {
    let configured = settings(wanted.own)
        .into_iter()
        .fold(job.itself_ms(wanted.own.interval), |job, (key, value)| job.with(key, value));
    configured.run(rest, wanted.id, Some(wanted.savepoint)).await
}

/// Waits as [`comes_up`] for what was answered with `why`.
async fn came_up(rest: &Rest, wanted: Wanted<'_>, why: &PortError) -> Result<(), String> {
    let came = comes_up(rest, wanted).await;
    came.map_err(|seen| format!("{seen}; submitting it was answered so: {why}"))
}

/// Waits until every vertex runs, with the settings and from the savepoint that were meant.
pub(super) async fn comes_up(rest: &Rest, wanted: Wanted<'_>) -> Result<(), String> {
    let Wanted { id, tries, .. } = wanted;
    let clock = rest.clock();
    let begun = clock.now();
    let mut restarted = BTreeSet::new();
    loop {
        let now = clock.now();
        match rest.get::<JobDetails>(&format!("/jobs/{id}"), &name(id)).await {
            Ok(job) if has_ended(&job.state) => {
                return Err(format!("it is {}{}", job.state, reason(rest, id).await));
            }
            Ok(job) => {
                // Before it runs, so that one with wrong settings has not done anything yet.
                let mut as_meant = job.state == "RUNNING";
                if as_meant {
                    as_meant = is_as_meant(rest, wanted).await?;
                }
                if as_meant && status(&job) == JobStatus::Running {
                    return Ok(());
                }
                restarted.extend(job.timestamps.get("RESTARTING").copied().filter(|at| *at > 0));
                if tries.is_some_and(|tries| restarted.len() >= tries) {
                    let times = restarted.len();
                    let reason = reason(rest, id).await;
                    return Err(format!("it failed {times} times before it ran{reason}"));
                }
            }
            Err(PortError::NotFound(what)) if now >= begun.plus_millis(ARRIVES_MS) => {
                return Err(format!("there is no {what}"));
            }
            Err(_) => {}
        }
        if now >= begun.plus_millis(DEADLINE_MS) {
            let waited = DEADLINE_MS / 1_000;
            let reason = reason(rest, id).await;
            return Err(format!("not every vertex ran within {waited} s{reason}"));
        }
        clock.sleep_until(now.plus_millis(POLL_MS)).await;
    }
}

/// Whether settings and savepoint were seen to be the ones that were meant; an error when they are
/// others.
async fn is_as_meant(rest: &Rest, wanted: Wanted<'_>) -> Result<bool, String> {
    let Wanted { id, own, savepoint, .. } = wanted;
    let path = format!("/jobs/{id}/checkpoints");
    let Ok(has) = rest.get::<OwnCheckpoints>(&format!("{path}/config"), &name(id)).await else {
        return Ok(false);
    };
    let of = |own: OwnCheckpoints| settings(own).map(|(key, value)| format!("{key} {value}"));
    if of(has) != of(own) {
        return Err(format!(
            "it has {} instead of {} (does the job set it in its own code?)",
            of(has).join(", "),
            of(own).join(", ")
        ));
    }
    let Ok(told) = rest.get::<CheckpointStatistics>(&path, &name(id)).await else {
        return Ok(false);
    };
    let Some(restored) = told.latest.restored else { return Ok(false) };
    match restored.external_path {
        // Since it came up it may have failed and started from a checkpoint of its own.
        Some(from) if from == savepoint || told.counts.completed > 0 => Ok(true),
        from => Err(format!(
            "it started from {} instead of {savepoint}",
            from.as_deref().unwrap_or("somewhere else")
        )),
    }
}

/// The reason of the last failure, to go behind other words.
async fn reason(rest: &Rest, id: &EngineJobId) -> String {
    let told = rest.get::<Exceptions>(&format!("/jobs/{id}/exceptions"), &name(id)).await;
    let reason = told.ok().and_then(|told| told.reason());
    reason.map_or_else(String::new, |reason| format!(": {reason}"))
}

/// Cancels what came of a start that failed, if anything did. One that has completed a checkpoint is
/// left alone: what it committed then would be committed once more from the savepoint.
pub(super) async fn take_back(rest: &Rest, id: &EngineJobId) -> Result<(), String> {
    let path = format!("/jobs/{id}");
    let clock = rest.clock();
    let begun = clock.now();
    let mut unknown;
    loop {
        let now = clock.now();
        match rest.get::<JobDetails>(&path, &name(id)).await {
            Err(PortError::NotFound(_)) => return Ok(()),
            Err(error) => unknown = error.to_string(),
            Ok(job) if has_ended(&job.state) => return Ok(()),
            Ok(job) => {
                let told: Result<CheckpointStatistics, _> =
                    rest.get(&format!("{path}/checkpoints"), &name(id)).await;
                // None at all where it has not come so far as to take any.
                if let Ok(told) = told
                    && told.counts.completed > 0
                {
                    return Err(format!(
                        "it has gone beyond the savepoint since (checkpoints completed: {}), so it \
                         is left as it is ({})",
                        told.counts.completed, job.state
                    ));
                }
                unknown = format!("it is {}", job.state);
                // Asked once more where an answer got lost; a job that is being cancelled is.
                let asked = rest.patch(&format!("{path}?mode=cancel"), &json!({}), &name(id)).await;
                if let Err(error) = asked {
                    unknown = error.to_string();
                }
            }
        }
        if now >= begun.plus_millis(DEADLINE_MS) {
            return Err(format!("{id} could not be cancelled: {unknown}"));
        }
        clock.sleep_until(now.plus_millis(POLL_MS)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use khaos_control::clock::Clock;
    use khaos_control::core::units::Timestamp;

    use serde_json::Value;

    use super::*;
    use crate::flink::{Submission, stub};

    const OWN: OwnCheckpoints = OwnCheckpoints { interval: 4_000, min_pause: 0, timeout: 1 };

    /// What job `n` is, and what it has done.
    struct Told {
        state: &'static str,
        own: OwnCheckpoints,
        restored: &'static str,
        completed: u64,
    }

    const WELL: Told = Told { state: "RUNNING", own: OWN, restored: "file:/s", completed: 0 };

    impl Told {
        fn answer(&self, asked: usize, request: &str) -> (&'static str, String) {
            let answer = match request {
                "GET /jobs/n" => json!({
                    "jid": "n", "name": "orders", "state": self.state, "now": 9,
                    // A restart at each look.
                    "timestamps": { "RESTARTING": if self.state == "RUNNING" { 0 } else { asked } },
                    "vertices": [{ "id": "a", "name": "a", "parallelism": 1, "start-time": 1,
                                   "tasks": { "RUNNING": 1 } }],
                    "plan": { "nodes": [] },
                }),
                "GET /jobs/n/checkpoints/config" => json!(self.own),
                "GET /jobs/n/checkpoints" => json!({
                    "counts": { "failed": 0, "completed": self.completed }, "history": [],
                    "latest": { "restored": { "id": 1, "external_path": self.restored } },
                }),
                "GET /jobs/n/exceptions" => json!({
                    "exceptionHistory": { "entries": [{ "timestamp": 1, "stacktrace": "java.lang.X: too bad" }] },
                }),
                _ => return ("404 Not Found", json!({ "errors": ["Not found."] }).to_string()),
            };
            ("200 OK", answer.to_string())
        }
    }

    /// Whether it comes up, whether it can be taken back, and what was asked.
    fn of(told: Told) -> (Result<(), String>, Result<(), String>, Vec<String>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let asked = Arc::new(Mutex::new(Vec::new()));
            let asking = Arc::clone(&asked);
            let url = stub::serve(move |request, _| {
                let mut asked = asking.lock().unwrap();
                asked.push(request.to_owned());
                told.answer(asked.len(), request)
            });
            let clock = Clock::anchored(Timestamp(0)).times(1_000);
            let rest = Rest::at(&url.await, clock).unwrap();
            let id = EngineJobId("n".to_owned());
            let wanted = Wanted { id: &id, own: OWN, savepoint: "file:/s", tries: Some(TRIES) };
            let up = comes_up(&rest, wanted).await;
            let back = take_back(&rest, &id).await;
            let asked = asked.lock().unwrap().clone();
            (up, back, asked)
        })
    }

    #[test]
    fn only_what_was_meant_has_come_up() {
        assert_eq!(of(Told { completed: 1, ..WELL }).0, Ok(()));
        let own = OwnCheckpoints { interval: 9_000, ..OWN };
        let why = of(Told { own, completed: 1, ..WELL }).0.unwrap_err();
        assert!(why.contains("interval 9000 ms") && why.contains("instead of"), "{why}");
        let elsewhere = Told { restored: "file:/other", state: "RUNNING", own: OWN, completed: 0 };
        let (up, _, _) = of(elsewhere);
        assert_eq!(up, Err("it started from file:/other instead of file:/s".to_owned()));
        let why = of(Told { state: "RESTARTING", completed: 1, ..WELL }).0.unwrap_err();
        assert_eq!(why, "it failed 3 times before it ran: too bad");
    }

    /// A job whose code sets its interval comes up with the one that was meant all the same.
    #[test]
    fn a_job_is_told_the_interval_that_it_is_started_with() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let jar = folder.path().join("a.jar");
        std::fs::write(&jar, "a jar").unwrap();
        let job = Description::of(Submission {
            name: "orders".to_owned(),
            jar,
            entry_class: None,
            arguments: vec!["--every={interval:ms}".to_owned(), "{input:orders}".to_owned()],
            parallelism: 1,
            configuration: [("k".to_owned(), "{interval:s}".to_owned())].into(),
        });
        let job = job.unwrap();
        let ran = Arc::new(Mutex::new(Value::Null));
        let running = Arc::clone(&ran);
        let started = runtime.block_on(async move {
            let url = stub::serve(move |request, body| {
                let answer = match request {
                    "GET /jars" => json!({ "files": [] }),
                    "POST /jars/upload" => json!({ "filename": "/somewhere/1_a.jar" }),
                    "POST /jars/1_a.jar/run" => {
                        *running.lock().unwrap() = serde_json::from_str(body).unwrap();
                        json!({ "jobid": "n" })
                    }
                    _ => return WELL.answer(1, request),
                };
                ("200 OK", answer.to_string())
            });
            let clock = Clock::anchored(Timestamp(0)).times(1_000);
            let rest = Rest::at(&url.await, clock).unwrap();
            let id = EngineJobId("n".to_owned());
            let wanted = Wanted { id: &id, own: OWN, savepoint: "file:/s", tries: Some(TRIES) };
            start(&rest, &job, wanted).await
        });
        assert_eq!(started, Ok(()));
        let ran = ran.lock().unwrap();
        assert_eq!(ran["programArgsList"], json!(["--every=4000", "orders"]));
        let configuration = &ran["flinkConfiguration"];
        assert_eq!(
            (&configuration["k"], &configuration[INTERVAL]),
            (&json!("4"), &json!("4000 ms"))
        );
    }

    #[test]
    fn what_has_gone_beyond_the_savepoint_is_not_cancelled() {
        let cancel = "PATCH /jobs/n?mode=cancel".to_owned();
        let (_, back, asked) = of(Told { completed: 2, ..WELL });
        assert!(back.unwrap_err().contains("completed: 2"));
        assert!(!asked.contains(&cancel), "{asked:?}");
        let (_, _, asked) = of(WELL);
        assert!(asked.contains(&cancel), "{asked:?}");
    }
}
