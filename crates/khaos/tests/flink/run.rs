//! `khaos run` follows a real job: what it sees of it, and what it leaves.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use khaos_adapters::flink::{Description, Redeployer, Submission};
use khaos_adapters::lab::PacedJob;
use khaos_adapters::sqlite::SqliteStore;
use khaos_control::ports::{Actuator, Store};
use khaos_core::job::{JobRun, JobStatus};
use khaos_core::observe::Minute;
use khaos_core::record::Record;
use khaos_core::series::Reading;
use khaos_core::units::{CheckpointInterval, Seconds};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::bench::{Cluster, Khaos, Mode, RATE, in_real_time};

async fn run_on(version: &str, port_base: u16) {
    let cluster = Cluster::up(version, port_base, 1).await;
    let before = cluster.job("followed", Mode::Full, 10).await;
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "[flink]\nurl = \"{}\"\n[[job]]\nname = \"followed\"\nobjectives.recovery = \"1m\"\n",
        cluster.lab.rest_url()
    );
    std::fs::write(folder.path().join("khaos.toml"), config).unwrap();
    let mut khaos = Khaos::starts_in(folder.path(), &["run", "--json"]);
    let stdout = BufReader::new(khaos.0.stdout.take().unwrap());
    let (sender, records) = mpsc::channel();
    std::thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            let _ = sender.send(serde_json::from_str::<Record>(&line).unwrap());
        }
    });

    // The first whole minute that it was there for.
    let seen = cluster
        .wait_for("a minute that is known", 200.0, async || {
            let whole = |m: &Minute| m.arrival.known().is_some() && m.status == JobStatus::Running;
            records.try_iter().find(|record| record.minute().is_some_and(whole))
        })
        .await;
    let minute = seen.minute().unwrap();
    let Reading::Known(arrival) = minute.arrival else { unreachable!("just found") };
    println!("{version}: {minute:?}");
    assert!((arrival.get() / RATE as f64 - 1.0).abs() < 0.02, "{arrival:?}");
    assert!(minute.latency.known().is_some() && minute.lag.known().is_some(), "{minute:?}");
    // Six of its own in a minute, one more or less at the edges.
    assert!(minute.checkpoints_completed.is_some_and(|n| (5..=7).contains(&n)), "{minute:?}");
    assert_eq!(minute.errors, Vec::<String>::new());
    // A decision follows from the minute, and it is no change: there is no trial to rest on.
    let decided = cluster
        .wait_for("a decision", 180.0, async || records.try_iter().find(|r| r.decision().is_some()))
        .await;
    assert_eq!(decided.parents().first(), Some(seen.id()));

    kill_process(Pid::from_child(&khaos.0), Signal::INT).unwrap();
    while khaos.0.try_wait().unwrap().is_none() {
        cluster.pause(0.1).await;
    }
    assert!(khaos.0.wait().unwrap().success());
    let store = SqliteStore::open(&folder.path().join("khaos.sqlite")).unwrap();
    let children = store.children(seen.id()).await.unwrap();
    assert!(children.iter().any(|record| record.id() == decided.id()), "{children:?}");
    let after = cluster.running("followed").await;
    assert_eq!((after.engine_id, after.attempt), (before.engine_id, before.attempt));
    cluster.lab.down().await.unwrap();
}

#[test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
fn khaos_run_sees_a_job_on_flink_2() {
    in_real_time(run_on("2", 28_400));
}

#[test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
fn khaos_run_sees_a_job_on_flink_1_20() {
    in_real_time(run_on("1.20", 28_600));
}

/// Dies between the stop of the job and its new start; the journal is all that is left of it.
async fn dies_redeploying(cluster: &Cluster, run: &JobRun, submission: Submission, journal: &Path) {
    let flink = cluster.flink.clone();
    let described = Description::of(submission).unwrap();
    let redeployer = Redeployer::new(flink, described, None, journal.to_owned());
    let stopped = cluster.wait_for("the savepoint", 180.0, async || {
        let intent: Value = serde_json::from_slice(&std::fs::read(journal).ok()?).unwrap();
        intent["savepoint"].is_string().then_some(())
    });
    tokio::select! {
        biased;
        () = stopped => {}
        done = redeployer.apply(run, CheckpointInterval::from_secs(4).unwrap(), 1) => {
            panic!("it was too quick: {done:?}")
        }
    }
}

async fn recovers_on(version: &str, port_base: u16) {
    let cluster = Cluster::up(version, port_base, 1).await;
    let settings = [("execution.checkpointing.interval".to_owned(), "8 s".to_owned())];
    let job = PacedJob {
        name: "left".to_owned(),
        rates: format!("3600:{RATE}").parse().unwrap(),
        parallelism: 1,
        epoch_ms: Some(cluster.clock.now().0),
        flink_configuration: settings.into(),
        ..PacedJob::default()
    };
    cluster.lab.submit(&job).await.unwrap();
    let before = cluster.running("left").await;
    // Heartbeats every second, a restart after one more, and one to deploy.
    assert_eq!(before.expected_dead_time, Seconds::new(4.0).ok());

    let submission = cluster.lab.submission(&job);
    let folder = tempfile::tempdir().unwrap();
    // Text and lists of it are written alike in JSON and in TOML.
    let config = format!(
        "[flink]\nurl = {url}\n[[job]]\nname = \"left\"\nmode = \"auto\"\nchange = \"redeploy\"\n\
         objectives.recovery = \"1m\"\ninterval.max = \"1m\"\n\
         [job.deployment]\njar = {jar}\narguments = {arguments}\nparallelism = 1\n",
        url = json!(cluster.lab.rest_url()),
        jar = json!(submission.jar),
        arguments = json!(submission.arguments),
    );
    std::fs::write(folder.path().join("khaos.toml"), config).unwrap();
    let journal = folder.path().join("khaos.sqlite.left.redeploy.json");
    dies_redeploying(&cluster, &before, submission, &journal).await;
    assert!(journal.exists());

    let mut command = Command::new(env!("CARGO_BIN_EXE_khaos"));
    command.arg("run").current_dir(folder.path()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut khaos = Khaos(command.spawn().unwrap());
    let stderr = BufReader::new(khaos.0.stderr.take().unwrap());
    let (sender, said) = mpsc::channel();
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let mut lines = Vec::new();
    let follows = cluster.clock.now().plus_secs(60.0);
    while !lines.iter().any(|line: &String| line.contains("following")) {
        assert!(cluster.clock.now() < follows, "{lines:#?}");
        lines.extend(said.try_iter());
        cluster.pause(0.1).await;
    }
    println!("{version}: {lines:#?}");
    let ended = lines.iter().position(|l| l.contains("a redeploy had been left unfinished"));
    let follows = lines.iter().position(|line| line.contains("following"));
    assert!(ended.is_some() && ended < follows, "first what was begun: {lines:#?}");
    assert!(!journal.exists());
    let run = cluster.running("left").await;
    assert_ne!(run.engine_id, before.engine_id, "started again from the savepoint");

    kill_process(Pid::from_child(&khaos.0), Signal::INT).unwrap();
    while khaos.0.try_wait().unwrap().is_none() {
        cluster.pause(0.1).await;
    }
    assert!(khaos.0.wait().unwrap().success());
    let after = cluster.running("left").await;
    assert_eq!((after.engine_id, after.checkpointing), (run.engine_id, run.checkpointing));
    cluster.lab.down().await.unwrap();
}

#[test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
fn khaos_run_ends_a_redeploy_that_was_left_unfinished_on_flink_2() {
    in_real_time(recovers_on("2", 24_000));
}

#[test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
fn khaos_run_ends_a_redeploy_that_was_left_unfinished_on_flink_1_20() {
    in_real_time(recovers_on("1.20", 24_100));
}
