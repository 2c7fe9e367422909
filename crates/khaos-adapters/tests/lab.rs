//! The lab as a library, on a real Flink: what tests and failure injection need of it.
#![allow(clippy::unwrap_used, reason = "a test says what is broken by panicking")]

use std::path::{Path, PathBuf};

use khaos_adapters::lab::{
    Delivered, Lab, LabConfig, LabError, PacedJob, Phase, Role, delivered, down, status,
};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::{Duration, Instant, sleep_until};

/// Only one lab at a time: three of them would be nine Javas.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// How long a machine that does much else may take for anything.
const PATIENCE: Duration = Duration::from_mins(3);

async fn get(lab: &Lab, path: &str) -> Value {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let response = client.get(format!("{}{path}", lab.rest_url())).send().await.unwrap();
    response.json().await.unwrap()
}

async fn runs(lab: &mut Lab, id: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let job = get(lab, &format!("/jobs/{id}")).await;
        let vertices = job["vertices"].as_array().map_or(&[] as &[Value], Vec::as_slice);
        if !vertices.is_empty() && vertices.iter().all(|vertex| vertex["status"] == "RUNNING") {
            return;
        }
        assert!(Instant::now() < deadline, "{job:#}");
        assert_eq!(lab.exited(), None);
        sleep_until(Instant::now() + Duration::from_millis(100)).await;
    }
}

async fn a_lab_survives_its_failures(version: &str, port_base: u16) {
    let _alone = ONE_AT_A_TIME.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("lab");
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = std::env::var_os("KHAOS_CACHE").map(PathBuf::from);
    let config = LabConfig {
        port_base,
        version: version.parse().unwrap(),
        flink: [("restart-strategy.fixed-delay.delay".to_owned(), "2 s".to_owned())].into(),
        ..LabConfig::new(&folder, cache.unwrap_or(workspace.join("target/lab-cache")))
    };
    let mut lab = Lab::up(config, |_| ()).await.unwrap();
    assert_eq!(status(&folder).unwrap().phase, Phase::Up);

    let job = PacedJob {
        name: "a job of \"its own\"".to_owned(),
        flink_configuration: [("execution.checkpointing.interval", "7 s")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..PacedJob::default()
    };
    let target = lab.submit(&job).await.unwrap();
    let id = target.id();
    runs(&mut lab, id).await;
    assert_eq!(get(&lab, &format!("/jobs/{id}")).await["name"], job.name);
    let checkpointing = get(&lab, &format!("/jobs/{id}/checkpoints/config")).await;
    assert_eq!(checkpointing["interval"], 7_000);
    let told = get(&lab, "/jobmanager/config").await;
    let delay = told
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["key"] == "restart-strategy.fixed-delay.delay");
    assert_eq!(delay.unwrap()["value"], "2 s", "what the lab is given replaces what is usual");

    let impossible = PacedJob { capacity: 0, ..PacedJob::default() };
    let refused = lab.submit(&impossible).await.unwrap_err().to_string();
    assert!(refused.contains("--capacity is at least 1"), "{refused}");

    lab.kill_taskmanager(1);
    assert_eq!(lab.processes().len(), 2);
    assert_eq!(lab.exited(), None, "who is killed by us did not die by itself");
    lab.start_taskmanager(1).unwrap();
    lab.ready().await.unwrap();
    runs(&mut lab, id).await;

    lab.kill_jobmanager();
    assert!(!lab.processes().iter().any(|(role, _)| *role == Role::JobManager));
    lab.start_jobmanager().unwrap();
    lab.ready().await.unwrap();
    let target = lab.submit(&PacedJob::default()).await.unwrap();
    runs(&mut lab, target.id()).await;

    drop(lab);
    assert!(!folder.exists());
    let status = status(&folder).unwrap();
    assert_eq!((status.phase, status.processes), (Phase::None, Vec::new()));
}

#[tokio::test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
async fn a_lab_of_flink_2_survives_its_failures() {
    a_lab_survives_its_failures("2", 23_600).await;
}

#[tokio::test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
async fn a_lab_of_flink_1_20_survives_its_failures() {
    a_lab_survives_its_failures("1.20", 23_700).await;
}

/// Waits until the job has completed two checkpoints more, the first of which may have begun before.
async fn two_checkpoints(lab: &Lab, id: &str) -> Value {
    let path = format!("/jobs/{id}/checkpoints");
    let completed = |said: &Value| said["counts"]["completed"].as_u64().unwrap();
    let before = completed(&get(lab, &path).await);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let said = get(lab, &path).await;
        if completed(&said) >= before + 2 {
            return said;
        }
        assert!(Instant::now() < deadline, "{said:#}");
        sleep_until(Instant::now() + Duration::from_millis(100)).await;
    }
}

/// What waits for the job's first vertex, its source, once Flink knows.
async fn pending(lab: &Lab, id: &str) -> f64 {
    let job = get(lab, &format!("/jobs/{id}")).await;
    let source = job["vertices"][0]["id"].as_str().unwrap();
    let metrics = "subtasks/metrics?get=Source__arrivals.pendingRecords";
    let deadline = Instant::now() + PATIENCE;
    loop {
        let said = get(lab, &format!("/jobs/{id}/vertices/{source}/{metrics}")).await;
        if let Some(pending) = said[0]["sum"].as_f64() {
            return pending;
        }
        assert!(Instant::now() < deadline, "{said:#}");
        sleep_until(Instant::now() + Duration::from_millis(100)).await;
    }
}

/// Waits until so many events are delivered, and then for what should not come.
async fn all_delivered(lab: &Lab, id: &str, dir: &Path, events: u64) -> Delivered {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let so_far = delivered(dir).unwrap();
        if so_far.events >= events {
            break;
        }
        if Instant::now() >= deadline {
            let job = get(lab, &format!("/jobs/{id}")).await;
            let checkpoints = get(lab, &format!("/jobs/{id}/checkpoints")).await;
            panic!("{so_far:?} of {events}: {job:#} {checkpoints:#}");
        }
        sleep_until(Instant::now() + Duration::from_millis(100)).await;
    }
    two_checkpoints(lab, id).await;
    delivered(dir).unwrap()
}

/// One job counts from its submission on, the other from when it is told; a TaskManager dies under both.
async fn deliveries_are_exactly_once(version: &str, port_base: u16) {
    let _alone = ONE_AT_A_TIME.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = std::env::var_os("KHAOS_CACHE").map(PathBuf::from);
    let folder = dir.path().join("lab");
    let config = LabConfig {
        port_base,
        version: version.parse().unwrap(),
        ..LabConfig::new(&folder, cache.unwrap_or(workspace.join("target/lab-cache")))
    };
    let mut lab = Lab::up(config, |_| ()).await.unwrap();
    let job = |name: &str, rates: &str| PacedJob {
        name: name.to_owned(),
        rates: rates.parse().unwrap(),
        state_bytes: 100_000,
        deliveries: Some(dir.path().join(name)),
        flink_configuration: [("execution.checkpointing.interval".to_owned(), "1 s".to_owned())]
            .into(),
        ..PacedJob::default()
    };
    let start = dir.path().join("start");
    let told = PacedJob {
        starts_with: Some(start.clone()),
        parallelism: 1,
        ..job("told", "70:100,3600:0")
    };
    let told_id = lab.submit(&told).await.unwrap().id().to_owned();
    runs(&mut lab, &told_id).await;
    let counted = job("counted", "40:100,3600:0");
    let counted_id = lab.submit(&counted).await.unwrap().id().to_owned();
    runs(&mut lab, &counted_id).await;

    let checkpoints = two_checkpoints(&lab, &told_id).await;
    let acknowledging = &checkpoints["latest"]["completed"]["num_subtasks"];
    assert_eq!(*acknowledging, 2, "the sink and its committer are chained to the work");
    let told_dir = told.deliveries.unwrap();
    assert_eq!(delivered(&told_dir).unwrap(), Delivered::first(0), "nothing arrives yet");
    assert!(pending(&lab, &told_id).await.abs() < f64::EPSILON, "nothing waits yet");
    let now = get(&lab, &format!("/jobs/{told_id}")).await["now"].as_i64().unwrap();
    let unfinished = dir.path().join("start.unfinished");
    std::fs::write(&unfinished, format!("{} {now}", now - 65_000)).unwrap();
    std::fs::rename(&unfinished, &start).unwrap();

    let counted_dir = counted.deliveries.unwrap();
    // However slow the machine is, something is delivered, and by far not all.
    let before = all_delivered(&lab, &counted_id, &counted_dir, 1).await;
    lab.kill_taskmanager(1);
    lab.start_taskmanager(1).unwrap();
    lab.ready().await.unwrap();
    let all = counted.rates.events();
    assert!((1..all).contains(&before.events), "it died in the middle: {before:?}");
    assert_eq!(all_delivered(&lab, &counted_id, &counted_dir, all).await, Delivered::first(all));
    let restored = get(&lab, &format!("/jobs/{counted_id}/checkpoints")).await;
    assert!(restored["latest"]["restored"]["id"].is_u64(), "{restored:#}");

    // 6500 of its 7000 events had arrived by then.
    let (skipped, last) = (Delivered::first(6_500), Delivered::first(told.rates.events()));
    let read = Delivered { events: last.events - skipped.events, sum: last.sum - skipped.sum };
    assert_eq!(all_delivered(&lab, &told_id, &told_dir, read.events).await, read);
}

#[tokio::test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
async fn deliveries_of_flink_2_are_exactly_once() {
    deliveries_are_exactly_once("2", 27_600).await;
}

#[tokio::test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
async fn deliveries_of_flink_1_20_are_exactly_once() {
    deliveries_are_exactly_once("1.20", 27_600).await;
}

#[tokio::test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
async fn a_lab_that_does_not_start_says_why() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("lab");
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = std::env::var_os("KHAOS_CACHE").map(PathBuf::from);
    let config = LabConfig {
        port_base: 23_800,
        // No size: the TaskManagers refuse it.
        flink: [("taskmanager.memory.network.max".to_owned(), "many".to_owned())].into(),
        ..LabConfig::new(&folder, cache.unwrap_or(workspace.join("target/lab-cache")))
    };
    let failed = Lab::up(config, |_| ()).await.unwrap_err();
    assert!(matches!(failed, LabError::LogsKept { .. }), "{failed}");
    let words = failed.to_string();
    assert!(
        words.contains("taskmanager-") && words.contains("taskmanager.memory.network.max"),
        "{words}"
    );
    assert!(!words.contains('\n'), "{words}");
    assert!(folder.join("logs/taskmanager-1.log").is_file(), "{words}");
    down(&folder).await.unwrap();
    assert!(!folder.exists());
}
