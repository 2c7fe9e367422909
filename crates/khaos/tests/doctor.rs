//! `khaos doctor`: what it says where there is nothing to examine, and what it finds on a real Flink.
#![allow(clippy::unwrap_used, reason = "a test says what is broken by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use khaos_adapters::lab::{Lab, LabConfig, PacedJob};
use serde_json::Value;
use tokio::time::{Duration, Instant, sleep_until};

/// Exit code, standard output, standard error.
fn doctor(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_khaos"));
    let output = command.arg("doctor").args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Nobody listens there.
const NOWHERE: [&str; 2] = ["--url", "http://127.0.0.1:1"];

#[test]
fn a_flink_that_does_not_answer_is_a_problem_with_something_to_do() {
    for job in [&[] as &[&str], &["my-job"]] {
        let (code, report, stderr) = doctor(&[job, &NOWHERE].concat());
        assert_eq!(code, Some(1), "{stderr}");
        assert!(report.contains("PROBLEM  reach: Flink does not answer: http://127.0.0.1:1/"));
        assert!(report.contains("--url"), "{report}");
        let last = report.trim_end().lines().last().unwrap();
        assert!(last.starts_with("Khaos cannot drive ") && last.ends_with("see reach."), "{last}");
    }
    let (code, document, stderr) = doctor(&["my-job", "--json", NOWHERE[0], NOWHERE[1]]);
    assert_eq!((code, stderr.as_str()), (Some(1), ""));
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["can_drive"], false);
    assert_eq!(document["findings"][0]["check"], "reach");
    assert_eq!(document["findings"][0]["verdict"], "problem");
}

#[test]
fn what_is_no_address_is_bad_usage() {
    let (code, stdout, stderr) = doctor(&["--url", "flink"]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.contains("--url: 'flink' is no address"), "{stderr}");
}

/// Nobody listens at either address.
#[test]
fn the_kafka_of_a_configuration_is_examined_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("khaos.toml");
    let text = "[flink]\nurl = \"http://127.0.0.1:1\"\n[[job]]\nname = \"my-job\"\n\
                [job.objectives]\nrecovery = \"3m\"\n\
                [job.kafka]\nbootstrap = \"127.0.0.1:1\"\ntopics = [\"orders\"]\n";
    std::fs::write(&path, text).unwrap();
    let config = ["--config", path.to_str().unwrap()];
    let (code, report, stderr) = doctor(&config);
    assert_eq!((code, stderr.as_str()), (Some(1), ""));
    assert!(report.contains("PROBLEM  reach: Flink does not answer"), "{report}");
    assert!(report.contains("PROBLEM  kafka: no Kafka broker answers at 127.0.0.1:1"), "{report}");
    let (code, _, stderr) = doctor(&["my-job", config[0], config[1]]);
    assert_eq!(code, Some(2), "{stderr}");
}

/// A job of one slot, with checkpoint settings of its own.
fn job(name: &str, settings: &[(&str, &str)]) -> PacedJob {
    PacedJob {
        name: name.to_owned(),
        rates: "3600:200".parse().unwrap(),
        capacity: 1_000,
        state_bytes: 1_000_000,
        parallelism: 1,
        flink_configuration: settings
            .iter()
            .map(|(key, value)| (format!("execution.checkpointing.{key}"), (*value).to_owned()))
            .collect(),
        ..PacedJob::default()
    }
}

/// What the doctor found of one job, once that job ran.
struct Found {
    code: Option<i32>,
    document: Value,
}

impl Found {
    async fn of(job: &str, url: &str) -> Self {
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            let (code, stdout, stderr) = doctor(&[job, "--json", "--url", url]);
            let document = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stderr}"));
            let found = Self { code, document };
            if found.check("job").is_some_and(|finding| finding["verdict"] == "ok") {
                return found;
            }
            assert!(Instant::now() < deadline, "{stdout}");
            sleep_until(Instant::now() + Duration::from_millis(500)).await;
        }
    }

    fn findings(&self) -> &[Value] {
        self.document["findings"].as_array().unwrap()
    }

    fn check(&self, check: &str) -> Option<&Value> {
        self.findings().iter().find(|finding| finding["check"] == check)
    }

    fn verdict(&self, check: &str) -> &str {
        self.check(check).unwrap_or(&Value::Null)["verdict"].as_str().unwrap_or("not checked")
    }

    /// The checks of that verdict.
    fn of_verdict(&self, verdict: &str) -> Vec<&str> {
        let of_it = self.findings().iter().filter(|finding| finding["verdict"] == verdict);
        of_it.map(|finding| finding["check"].as_str().unwrap()).collect()
    }
}

async fn a_real_flink_is_examined(version: &str, port_base: u16) {
    let dir = tempfile::tempdir().unwrap();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = std::env::var_os("KHAOS_CACHE").map(PathBuf::from);
    let cache = cache.unwrap_or(workspace.join("target/lab-cache"));
    let config = LabConfig {
        port_base,
        version: version.parse().unwrap(),
        // Flink's own defaults, where the lab is quicker.
        flink: [("metrics.fetcher.update-interval", "10000"), ("heartbeat.timeout", "50000")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..LabConfig::new(dir.path().join("lab"), cache)
    };
    let lab = Lab::up(config, |_| ()).await.unwrap();
    let url = lab.rest_url().to_owned();

    let (code, report, _) = doctor(&["--url", &url]);
    assert_eq!(code, Some(1), "{report}");
    assert!(report.contains("no job runs on "), "{report}");

    lab.submit(&job("well", &[("interval", "20 s"), ("min-pause", "20 s")])).await.unwrap();
    let well = Found::of("well", &url).await;
    assert_eq!(well.code, Some(0), "{:#}", well.document);
    assert_eq!(well.of_verdict("problem"), [] as [&str; 0]);
    assert_eq!(well.document["drivable"]["mode"], "full");
    assert_eq!(well.document["drivable"]["fallback_s"], 20);
    for check in ["reach", "job", "trigger", "mode", "fallback", "tolerable-failures", "clocks"] {
        assert_eq!(well.verdict(check), "ok", "{check}: {:#}", well.document);
    }
    for check in ["metrics-age", "dead-time", "high-availability", "retention"] {
        assert_eq!(well.verdict(check), "advice", "{check}: {:#}", well.document);
    }
    let api = well.check("runtime-configuration").unwrap();
    assert!(api["seen"].as_str().unwrap().contains("no FLIP-571"), "{api:#}");
    // Whose restarts they are is told by 2.x alone.
    let restarts = if version.starts_with('2') { "ok" } else { "unknown" };
    assert_eq!(well.verdict("restarts"), restarts, "{:#}", well.document);
    // The only one that runs need not be named.
    let (code, report, stderr) = doctor(&["--url", &url]);
    assert_eq!(code, Some(0), "{report}{stderr}");
    let last = report.trim_end().lines().last().unwrap();
    assert!(last.contains("Khaos can drive well in full mode"), "{last}");
    assert!(last.ends_with(&format!("khaos drive well --interval 10s --url {url}")), "{last}");

    let usual =
        [("interval", "20 s"), ("min-pause", "0 ms"), ("tolerable-failed-checkpoints", "0")];
    lab.submit(&job("usual", &usual)).await.unwrap();
    // The cluster has an interval, which a job can only outbid: this is how Flink says none.
    lab.submit(&job("none", &[("interval", "9223372036854775807 ms")])).await.unwrap();
    let usual = Found::of("usual", &url).await;
    assert_eq!(usual.code, Some(0), "{:#}", usual.document);
    assert_eq!(usual.document["drivable"]["mode"], "assist");
    for check in ["mode", "tolerable-failures"] {
        assert_eq!(usual.verdict(check), "advice", "{check}: {:#}", usual.document);
    }
    let set = &usual.check("mode").unwrap()["change"]["set"][0];
    assert_eq!(set["key"], "execution.checkpointing.min-pause");
    assert_eq!(set["value"], "20000 ms");

    let none = Found::of("none", &url).await;
    assert_eq!(none.code, Some(1), "{:#}", none.document);
    assert_eq!(none.of_verdict("problem"), ["own-checkpoints"]);
    assert_eq!(none.document["drivable"], Value::Null);

    let (code, stdout, stderr) = doctor(&["--url", &url]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.contains("which job?") && stderr.contains("none, usual, well"), "{stderr}");
    let (code, report, _) = doctor(&["nobody", "--url", &url]);
    assert_eq!(code, Some(1));
    let flat = report.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("there is no job nobody on ") && flat.contains("usual"), "{report}");
    lab.down().await.unwrap();
}

#[tokio::test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
async fn flink_2_is_examined() {
    a_real_flink_is_examined("2", 26_000).await;
}

#[tokio::test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
async fn flink_1_20_is_examined() {
    a_real_flink_is_examined("1.20", 27_000).await;
}
