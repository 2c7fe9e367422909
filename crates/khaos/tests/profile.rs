//! `khaos observe` and `khaos profile`, as far as they come where nobody answers, or only a Flink with a job that
//! restarts: what they say, and where.
#![allow(clippy::unwrap_used, reason = "a test says what is broken by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use assert_cmd::Command;
use khaos_adapters::sqlite::SqliteStore;
use khaos_control::ports::Store;
use khaos_core::job::JobKey;
use khaos_core::observe::{LoadLevel, Observation};
use khaos_core::record::{Fact, Record};
use khaos_core::series::Reading;
use khaos_core::units::{EventRate, Seconds, Span, Timestamp};
use rustix::process::{Pid, Signal, kill_process};

/// Nobody listens at either address.
const NOWHERE: &str = "[flink]\nurl = \"http://127.0.0.1:1\"\n[[job]]\nname = \"orders\"\n\
                       [job.objectives]\nrecovery = \"3m\"\n";
/// Clones may be made of it.
const CLONED: &str = r#"
[job.kafka]
bootstrap = "127.0.0.1:1"
topics = ["orders"]
[job.deployment]
jar = "orders.jar"
arguments = ["{input:orders}", "{output:totals}", "{group:shop}", "{transactions:shop}"]
parallelism = 4
[job.profile]
only_kafka = true
kill = ["kill-it", "{taskmanager}"]
"#;

struct Folder(tempfile::TempDir);

impl Folder {
    /// With a configuration.
    fn of(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("khaos.toml"), config).unwrap();
        std::fs::write(dir.path().join("orders.jar"), "jar").unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What it says to `arguments` on standard error, where `code` comes of it. Standard output is for results.
    fn refused(&self, arguments: &[&str], code: i32) -> String {
        let mut khaos = Command::cargo_bin("khaos").unwrap();
        khaos.args(arguments).arg("--config").arg(self.path("khaos.toml"));
        let output = khaos.timeout(Duration::from_mins(1)).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}: an error leaves standard output empty");
        said
    }
}

const PROFILES: [&[&str]; 4] = [
    &["profile"],
    &["profile", "--json"],
    &["profile", "--dry-run"],
    &["profile", "--dry-run", "--json"],
];

#[test]
fn without_its_table_no_clone_is_made() {
    let folder = Folder::of(NOWHERE);
    for arguments in PROFILES {
        let said = folder.refused(arguments, 2);
        assert!(said.contains("khaos.toml: [job.profile] is missing"), "{said}");
        assert!(said.contains("docs/khaos.toml"), "{said}");
    }
    assert!(!folder.path("khaos.sqlite").exists(), "nothing was begun");
}

#[test]
fn a_job_that_may_write_elsewhere_is_not_cloned() {
    let unsaid = CLONED.replace("only_kafka = true\n", "");
    let denied = CLONED.replace("only_kafka = true", "only_kafka = false");
    for cloned in [unsaid, denied] {
        let folder = Folder::of(&format!("{NOWHERE}{cloned}"));
        for arguments in PROFILES {
            let said = folder.refused(arguments, 2);
            assert!(said.contains("khaos.toml: line 1"), "{said}");
            assert!(said.contains("set only_kafka = true in [job.profile] when"), "{said}");
        }
    }
}

#[test]
fn a_flink_that_does_not_answer_is_named() {
    let folder = Folder::of(&format!("{NOWHERE}{CLONED}"));
    let observes: [&[&str]; 2] = [&["observe"], &["observe", "--for", "2h", "--json"]];
    for arguments in PROFILES.into_iter().chain(observes) {
        let said = folder.refused(arguments, 1);
        assert!(said.contains("http://127.0.0.1:1/"), "{arguments:?}: {said}");
    }
}

/// A Flink on which the job called orders restarts: its address, and the paths that it is asked for. It takes no orders.
fn flink() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, asked) = channel();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = BufReader::new(client.unwrap());
            let mut head = vec![String::new()];
            while client.read_line(head.last_mut().unwrap()).unwrap_or(0) > 2 {
                head.push(String::new());
            }
            let request = head[0].trim_end().trim_end_matches(" HTTP/1.1");
            let (status, text) = match request {
                "GET /jobs/overview" => {
                    ("200 OK", r#"{"jobs":[{"jid":"j","name":"orders","state":"RESTARTING"}]}"#)
                }
                "GET /jobs/j" => (
                    "200 OK",
                    r#"{"jid":"j","name":"orders","state":"RESTARTING","now":1,"timestamps":{},"vertices":[],
                        "plan":{"nodes":[]}}"#,
                ),
                "GET /jobs/j/checkpoints/config" => {
                    ("200 OK", r#"{"interval":60000,"min_pause":0,"state_backend":null}"#)
                }
                _ => ("404 Not Found", "{}"),
            };
            let length = text.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}"
            );
            // Who asked may have gone.
            let _ = client.get_mut().write_all(answer.as_bytes());
            let _ = tell.send(request.to_owned());
        }
    });
    (url, asked)
}

/// A configuration for the Flink at `url`.
fn at(url: &str, more: &str) -> Folder {
    Folder::of(&format!("{}{more}", NOWHERE.replace("http://127.0.0.1:1", url)))
}

#[test]
fn an_observation_that_is_too_short_for_trials_is_refused() {
    let (url, _) = flink();
    let said = at(&url, "").refused(&["observe", "--for", "1m"], 2);
    assert!(said.contains("--for 1m is too short"), "{said}");
}

#[test]
fn whoever_stops_observing_is_not_told_of_a_result() {
    for more in [&[] as &[&str], &["--json"]] {
        let (url, asked) = flink();
        let folder = at(&url, "");
        let mut khaos = std::process::Command::new(env!("CARGO_BIN_EXE_khaos"));
        khaos.arg("observe").args(more).arg("--config").arg(folder.path("khaos.toml"));
        let khaos = khaos.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It listens for signals before it asks anybody.
        asked.recv_timeout(Duration::from_secs(30)).unwrap();
        kill_process(Pid::from_child(&khaos), Signal::INT).unwrap();
        let output = khaos.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("khaos: stopped before there was an observation"), "{said}");
        assert!(output.stdout.is_empty());
    }
}

#[tokio::test]
async fn what_cannot_succeed_is_refused_before_anything_is_deployed() {
    let (url, asked) = flink();
    let small = CLONED.replace("only_kafka", "clone_minutes = 5\nonly_kafka");
    let (folder, small) = (at(&url, CLONED), at(&url, &small));
    for arguments in PROFILES {
        let said = folder.refused(arguments, 2);
        assert!(said.contains("orders has not been observed: run khaos observe first"), "{said}");
    }
    let rate = EventRate::new(100.0).unwrap();
    let span = Span { from: Timestamp(0), to: Timestamp(7_200_000) };
    let observation = Observation {
        span,
        known_minutes: 120,
        unknown_minutes: 0,
        steady_minutes: 120,
        lag: Seconds::new(0.1).unwrap(),
        latency: Reading::Unknown,
        lowest: rate,
        highest: rate,
        levels: vec![LoadLevel { rate, stretch: span }; 5],
        usual: vec![rate],
        checkpoint_duration: Reading::Unknown,
        shape: None,
    };
    for folder in [&folder, &small] {
        let store = SqliteStore::open(&folder.path("khaos.sqlite")).unwrap();
        let fact = Fact::Observation(observation.clone());
        let record = Record::new(&JobKey("orders".to_owned()), Timestamp(1), vec![], fact);
        store.append(record).await.unwrap();
    }
    for arguments in PROFILES {
        let said = small.refused(arguments, 2);
        assert!(said.contains("khaos: clone_minutes in [job.profile]: the budget of 5"), "{said}");
    }
    // Not even the dry run promises what Kafka does not have.
    for arguments in [PROFILES[1], PROFILES[2]] {
        let said = folder.refused(arguments, 1);
        assert!(said.contains("what can be replayed: "), "{said}");
        assert!(said.contains("127.0.0.1:1"), "{said}");
    }
    let asked: Vec<String> = asked.try_iter().collect();
    assert!(!asked.is_empty() && asked.iter().all(|one| one.starts_with("GET ")), "{asked:?}");
}
