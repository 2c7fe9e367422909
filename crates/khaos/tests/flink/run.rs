//! `khaos run` follows a real job: what it sees of it, and what it leaves.

use std::io::{BufRead, BufReader};
use std::sync::mpsc;

use khaos_adapters::sqlite::SqliteStore;
use khaos_control::ports::Store;
use khaos_core::job::JobStatus;
use khaos_core::observe::Minute;
use khaos_core::record::Record;
use khaos_core::series::Reading;
use rustix::process::{Pid, Signal, kill_process};

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
        .wait_for("a decision", 10.0, async || records.try_iter().find(|r| r.decision().is_some()))
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
