//! On a stub of what the proposal publishes: no released Flink has it.

use std::sync::{Arc, Mutex as StdMutex};

use khaos_control::clock::Clock;
use khaos_control::core::job::{CheckpointSettings, JobKey, JobShape, JobStatus};

use super::*;
use crate::flink::stub;

/// A Flink that takes checkpoints of job `j`, by the wall's clock.
struct Stub {
    clock: Clock,
    /// Whether it can change the interval of a running job.
    knows: bool,
    /// Whether it does as it says.
    does: bool,
    own: OwnCheckpoints,
    /// At what interval it takes them, and since when, ms.
    takes: (i64, Timestamp),
    patches: Vec<serde_json::Value>,
}

impl Stub {
    fn answer(&mut self, request: &str, body: &str) -> (&'static str, String) {
        let unknown = ("404 Not Found", r#"{"errors":["Not found."]}"#.to_owned());
        match request.split(' ').collect::<Vec<_>>()[..2] {
            ["PATCH", path] if path.ends_with("/checkpoints/configuration") => {
                if !self.knows {
                    return unknown;
                }
                if path != "/jobs/j/checkpoints/configuration" {
                    let why = r#"{"errors":["Cannot resolve path parameter (jobid)"]}"#;
                    return ("400 Bad Request", why.to_owned());
                }
                let body: serde_json::Value = serde_json::from_str(body).unwrap();
                self.own.interval = body["checkpointInterval"].as_i64().unwrap();
                self.own.timeout = body["checkpointTimeout"].as_i64().unwrap();
                if self.does {
                    self.takes = (self.own.interval, self.clock.to_wall(self.clock.now()));
                }
                self.patches.push(body);
                ("200 OK", "{}".to_owned())
            }
            ["GET", "/jobs/j/checkpoints/config"] => {
                ("200 OK", serde_json::to_string(&self.own).unwrap())
            }
            ["GET", "/jobs/j/checkpoints"] => {
                let (interval, since) = self.takes;
                let now = self.clock.to_wall(self.clock.now());
                let taken = (now.0 - since.0) / interval;
                let entry = json!({
                    "id": taken, "status": "COMPLETED", "is_savepoint": false,
                    "trigger_timestamp": since.0 + taken * interval, "end_to_end_duration": 1,
                    "num_subtasks": 1, "num_acknowledged_subtasks": 1,
                });
                let history: Vec<_> = if taken > 0 { vec![entry] } else { Vec::new() };
                let told = json!({
                    "counts": { "failed": 0 }, "latest": { "restored": null }, "history": history,
                });
                ("200 OK", told.to_string())
            }
            _ => unknown,
        }
    }
}

const OWN: OwnCheckpoints = OwnCheckpoints { interval: 1_000, min_pause: 0, timeout: 50_000 };

fn secs(seconds: u32) -> CheckpointInterval {
    CheckpointInterval::from_secs(seconds).unwrap()
}

/// A clock that runs 12 times as fast, so that Flink's second is 12 s.
fn on_a_stub(
    change: impl FnOnce(&mut Stub),
    test: impl AsyncFnOnce(LiveInterval, JobRun, Arc<StdMutex<Stub>>),
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let clock = Clock::anchored(Timestamp(1_000_000)).times(12);
        let mut stub = Stub {
            clock,
            knows: true,
            does: true,
            own: OWN,
            takes: (OWN.interval, Timestamp(1_000_000)),
            patches: Vec::new(),
        };
        change(&mut stub);
        let stub = Arc::new(StdMutex::new(stub));
        let answering = Arc::clone(&stub);
        let url = stub::serve(move |request, body| answering.lock().unwrap().answer(request, body));
        let url = url.await;
        let run = JobRun {
            key: JobKey("orders".to_owned()),
            engine_id: EngineJobId("j".to_owned()),
            attempt: 0,
            parallelism: 1,
            shape: JobShape("s".to_owned()),
            status: JobStatus::Running,
            running_since: Some(Timestamp(1_000_000)),
            checkpointing: CheckpointSettings::periodic(secs(12)),
            noticed: Vec::new(),
            expected_dead_time: None,
        };
        test(LiveInterval::new(Flink::at(&url, clock).unwrap()), run, stub).await;
    });
}

#[test]
fn an_interval_is_set_seen_and_put_back() {
    on_a_stub(
        |_| {},
        async |live, run, stub| {
            live.apply(&run, secs(6), 1).await.unwrap();
            assert_eq!(stub.lock().unwrap().own, OwnCheckpoints { interval: 500, ..OWN });
            // Up to what it was when it was first touched, and no further.
            live.apply(&run, secs(12), 2).await.unwrap();
            let Err(PortError::Refused(why)) = live.apply(&run, secs(13), 3).await else {
                panic!()
            };
            assert!(why.contains("longer than the job's own of 12 s"), "{why}");
            live.apply(&run, secs(3), 4).await.unwrap();
            let stale = live.apply(&run, secs(6), 4).await;
            assert_eq!(stale, Err(PortError::StaleGeneration { given: 4, current: 4 }));
            live.release(&run).await.unwrap();
            let patches = stub.lock().unwrap().patches.clone();
            let sent: Vec<_> =
                patches.iter().map(|p| p["checkpointInterval"].as_i64().unwrap()).collect();
            assert_eq!(sent, [500, 1_000, 250, 1_000]);
            assert!(patches.iter().all(|p| p["checkpointTimeout"] == 50_000), "{patches:?}");
        },
    );
}

#[test]
fn a_flink_that_cannot_is_told_nothing() {
    on_a_stub(
        |stub| stub.knows = false,
        async |live, run, stub| {
            let Err(PortError::Refused(why)) = live.apply(&run, secs(6), 1).await else { panic!() };
            assert!(why.contains("FLIP-571") && why.contains("redeploy"), "{why}");
            live.release(&run).await.unwrap();
            assert!(stub.lock().unwrap().patches.is_empty());
        },
    );
}

#[test]
fn an_interval_that_is_told_and_not_kept_is_found_out() {
    on_a_stub(
        |stub| {
            stub.does = false;
            stub.takes = (600_000, Timestamp(1_000_000));
        },
        async |live, run, _| {
            let Err(PortError::Refused(why)) = live.apply(&run, secs(6), 1).await else { panic!() };
            assert!(why.contains("none was triggered within 17 s"), "{why}");
        },
    );
}

#[test]
fn a_pause_that_would_be_the_interval_is_refused() {
    on_a_stub(
        |stub| stub.own.min_pause = 1_000,
        async |live, run, stub| {
            let Err(PortError::Refused(why)) = live.apply(&run, secs(6), 1).await else { panic!() };
            assert!(why.contains("execution.checkpointing.min-pause"), "{why}");
            assert!(stub.lock().unwrap().patches.is_empty());
        },
    );
}
