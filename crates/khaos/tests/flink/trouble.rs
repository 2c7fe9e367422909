//! Everything breaks: khaos holds, says so, and goes on when it can.

use std::sync::{Arc, Mutex};

use khaos_adapters::flink::Flink;
use khaos_control::act::driver::{Condition, DriveEvent, Driver};
use khaos_control::ports::Actuator;
use khaos_core::job::{JobKey, JobRun};
use khaos_core::units::CheckpointInterval;

use serde_json::{Value, json};

use crate::bench::{Cluster, Mode, in_real_time};
use crate::proxy::{Fault, Proxy};

/// The job's own interval, s.
const OWN_S: u32 = 20;

/// A job that is driven every 2 s through a proxy, and what its drive tells.
struct Drive {
    driver: Driver,
    proxy: Proxy,
    told: Arc<Mutex<Vec<DriveEvent>>>,
}

impl Drive {
    async fn begin(cluster: &Cluster, run: &JobRun) -> Self {
        let proxy = Proxy::before(cluster.lab.rest_url()).await;
        let flink = Arc::new(Flink::at(&proxy.url, cluster.clock).unwrap());
        let told: Arc<Mutex<Vec<DriveEvent>>> = Arc::default();
        let log = Arc::clone(&told);
        let driver = Driver::new(cluster.clock, flink.clone(), flink)
            .watched_by(Arc::new(move |_: &JobKey, event| log.lock().unwrap().push(event.clone())));
        driver.apply(run, CheckpointInterval::from_secs(2).unwrap(), 1).await.unwrap();
        Self { driver, proxy, told }
    }

    /// What was told since this was asked last.
    fn news(&self) -> Vec<DriveEvent> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }

    /// Waits until the drive says that it holds, and why.
    async fn holds(&self, cluster: &Cluster) -> String {
        self.hears(cluster, "khaos to say that it holds", |event| match event {
            DriveEvent::Now(Condition::Waiting(why) | Condition::Failing(why)) => Some(why.clone()),
            _ => None,
        })
        .await
    }

    /// Waits until checkpoints complete as often as wanted: three, at most 3 s apart.
    async fn goes_on(&self, cluster: &Cluster) {
        self.news();
        cluster
            .wait_for("khaos to drive again", 180.0, async || {
                let told = self.told.lock().unwrap();
                let completed: Vec<_> = told
                    .iter()
                    .filter_map(|event| match event {
                        DriveEvent::Completed(checkpoint) => Some(checkpoint.triggered_at),
                        DriveEvent::Now(_) => None,
                    })
                    .collect();
                let driven = |w: &[_]| {
                    w.windows(2)
                        .all(|p: &[khaos_core::units::Timestamp]| p[1].secs_since(p[0]) < 3.0)
                };
                completed.windows(3).any(driven).then_some(())
            })
            .await;
    }

    async fn hears<T>(
        &self,
        cluster: &Cluster,
        what: &str,
        find: impl Fn(&DriveEvent) -> Option<T>,
    ) -> T {
        cluster
            .wait_for(what, 180.0, async || self.told.lock().unwrap().iter().find_map(&find))
            .await
    }
}

/// A savepoint and a checkpoint that somebody else asks for complete, and the drive goes on.
async fn others_may_checkpoint_too(cluster: &Cluster, run: &JobRun, drive: &Drive) {
    drive.news();
    let client = reqwest::Client::new();
    let job = format!("{}/jobs/{}", cluster.lab.rest_url(), run.engine_id);
    let target = format!("file://{}/savepoints", cluster.lab.folder().display());
    let savepoint = json!({ "target-directory": target, "cancel-job": false });
    let mut ends = Vec::new();
    for (path, body) in [("savepoints", savepoint), ("checkpoints", json!({}))] {
        let url = format!("{job}/{path}");
        let answer = client.post(&url).json(&body).send().await.unwrap();
        let asked: Value = answer.json().await.unwrap();
        ends.push(format!("{url}/{}", asked["request-id"].as_str().unwrap()));
    }
    for end in ends {
        let result = cluster
            .wait_for("what others asked for", 180.0, async || {
                let told: Value = client.get(&end).send().await.unwrap().json().await.unwrap();
                (told["status"]["id"] == "COMPLETED").then(|| told["operation"].clone())
            })
            .await;
        assert!(result.get("failure-cause").is_none(), "{result}");
        assert!(result.get("failureCause").is_none(), "{result}");
    }
    let held = |event: &DriveEvent| {
        matches!(event, DriveEvent::Now(Condition::Waiting(_) | Condition::Failing(_)))
    };
    let told = drive.news();
    assert!(!told.iter().any(held), "nothing failed for that: {told:?}");
    drive.goes_on(cluster).await;
}

async fn trouble_on(version: &str, port_base: u16) {
    let mut cluster = Cluster::up(version, port_base, 2).await;
    let run = cluster.job("driven", Mode::Full, OWN_S).await;
    let drive = Drive::begin(&cluster, &run).await;
    drive.goes_on(&cluster).await;
    others_may_checkpoint_too(&cluster, &run, &drive).await;

    for (fault, says) in [
        (Fault::InternalError, "500"),
        (Fault::TruncatedJson, "not what Flink answers"),
        (Fault::Late, "no answer within"),
        (Fault::Silence, "no answer within"),
    ] {
        drive.news();
        drive.proxy.breaks(fault);
        let why = drive.holds(&cluster).await;
        assert!(why.contains(says), "{fault:?}: {why}");
        drive.proxy.breaks(Fault::None);
        drive.goes_on(&cluster).await;
        println!("{version}, {fault:?}: \"{why}\", and went on");
    }
    let after = cluster.running("driven").await;
    assert_eq!(
        (after.engine_id, after.attempt),
        (run.engine_id.clone(), run.attempt),
        "never restarted"
    );

    drive.news();
    cluster.lab.kill_taskmanager(1);
    cluster.lab.kill_taskmanager(2);
    let why = drive.holds(&cluster).await;
    println!("{version}, TaskManagers killed: \"{why}\"");
    cluster.lab.start_taskmanager(1).unwrap();
    cluster.lab.ready().await.unwrap();
    drive.goes_on(&cluster).await;
    let after = cluster.running("driven").await;
    assert_eq!(after.engine_id, run.engine_id);
    assert!(after.attempt > run.attempt, "the failure is seen: {after:?}");

    // Without high availability the job is lost with the JobManager, and comes back under another id.
    drive.news();
    cluster.lab.kill_jobmanager();
    let why = drive.holds(&cluster).await;
    println!("{version}, JobManager killed: \"{why}\"");
    cluster.lab.start_jobmanager().unwrap();
    cluster.lab.ready().await.unwrap();
    let again = cluster.job("driven", Mode::Full, OWN_S).await;
    assert_ne!(again.engine_id, run.engine_id);
    drive.goes_on(&cluster).await;

    assert_eq!(drive.proxy.most_outstanding(), 1, "one outstanding trigger");
    drive.driver.release(&again).await.unwrap();
    println!("{version}: {} requests passed", drive.proxy.requests());
    cluster.lab.down().await.unwrap();
}

#[test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
fn khaos_holds_and_goes_on_with_flink_2() {
    in_real_time(trouble_on("2", 24_600));
}

#[test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
fn khaos_holds_and_goes_on_with_flink_1_20() {
    in_real_time(trouble_on("1.20", 24_800));
}
