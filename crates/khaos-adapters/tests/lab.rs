//! The lab as a library, on a real Flink: what tests and failure injection need of it.
#![allow(clippy::unwrap_used, reason = "a test says what is broken by panicking")]

use std::path::{Path, PathBuf};

use khaos_adapters::lab::{Lab, LabConfig, LabError, PacedJob, Phase, Role, down, status};
use serde_json::Value;
use tokio::time::{Duration, Instant, sleep_until};

async fn get(lab: &Lab, path: &str) -> Value {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let response = client.get(format!("{}{path}", lab.rest_url())).send().await.unwrap();
    response.json().await.unwrap()
}

async fn runs(lab: &mut Lab, id: &str) {
    let deadline = Instant::now() + Duration::from_mins(1);
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
    let id = lab.submit(&job).await.unwrap();
    runs(&mut lab, &id).await;
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
    runs(&mut lab, &id).await;

    lab.kill_jobmanager();
    assert!(!lab.processes().iter().any(|(role, _)| *role == Role::JobManager));
    lab.start_jobmanager().unwrap();
    lab.ready().await.unwrap();
    let id = lab.submit(&PacedJob::default()).await.unwrap();
    runs(&mut lab, &id).await;

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

#[tokio::test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
async fn a_lab_that_does_not_start_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("lab");
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = std::env::var_os("KHAOS_CACHE").map(PathBuf::from);
    let config = LabConfig {
        port_base: 23_800,
        // Less than its parts: the TaskManagers refuse it.
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
