//! The dead-man switch: khaos is killed with -9 while it drives, and the job's own checkpoints go on.

use khaos_core::job::{CompletedCheckpoint, JobRun};
use khaos_core::units::Timestamp;

use crate::bench::{Cluster, Khaos, Mode, in_real_time};

/// The job's own interval, s.
const OWN_S: u32 = 8;
/// What khaos drives, s.
const DRIVEN_S: u32 = 2;

fn drive(cluster: &Cluster, run: &JobRun) -> Khaos {
    let interval = format!("{DRIVEN_S}s");
    let url = cluster.lab.rest_url();
    Khaos::starts(&["drive", &run.key.0, "--json", "--interval", &interval, "--url", url])
}

/// No gap between completed checkpoints is longer than the job's own interval + δ + 1 s.
fn no_gap_is_longer_than_allowed(completed: &[CompletedCheckpoint]) {
    for pair in completed.windows(2) {
        let gap = pair[1].completed_at.secs_since(pair[0].completed_at);
        let allowed = f64::from(OWN_S) + pair[1].duration_s() + 1.0;
        assert!(gap <= allowed, "{gap} s without a checkpoint: {pair:?}");
    }
}

/// Drives for a while, kills khaos, and returns what completed since it began, and when it died.
async fn driven_until_killed(
    cluster: &Cluster,
    run: &JobRun,
) -> (Vec<CompletedCheckpoint>, Timestamp) {
    // From a checkpoint of its own on: the time before the first is that of a start.
    let first = cluster
        .wait_for("a first checkpoint", 180.0, async || {
            cluster.completed(run, Timestamp(0)).await.last().copied()
        })
        .await;
    let khaos = drive(cluster, run);
    for _ in 0..4 {
        cluster.pause(f64::from(OWN_S) / 2.0).await;
        cluster.completed(run, Timestamp(0)).await;
    }
    drop(khaos);
    let died = cluster.clock.now();
    // Two of its own intervals and a bit: so that two of them are seen, if they come.
    for _ in 0..5 {
        cluster.pause(f64::from(OWN_S) / 2.0).await;
        cluster.completed(run, Timestamp(0)).await;
    }
    (cluster.completed(run, first.completed_at).await, died)
}

async fn full(cluster: &Cluster) {
    let run = cluster.job("full", Mode::Full, OWN_S).await;
    let (completed, died) = driven_until_killed(cluster, &run).await;
    no_gap_is_longer_than_allowed(&completed);
    let driven = completed.iter().filter(|c| c.triggered_at < died).count();
    assert!(driven >= 6, "it was driven: {completed:?}");
    let own = &completed[driven - 1..];
    assert!(own.len() >= 3, "its own go on: {completed:?}");
    // Whoever counts the first one after the death as its own is wrong where a trigger was on the way.
    let gap = own[2].triggered_at.secs_since(own[1].triggered_at);
    assert!(gap > 0.8 * f64::from(OWN_S), "somebody still drives: {own:?}");
    let gap = own[1].completed_at.secs_since(own[0].completed_at);
    println!(
        "full: killed {:.1} s after a checkpoint, the next came {gap:.2} s after it",
        died.secs_since(own[0].completed_at)
    );
    let after = cluster.running("full").await;
    assert_eq!((after.engine_id, after.attempt), (run.engine_id, run.attempt), "never restarted");
}

async fn assist(cluster: &Cluster) {
    let run = cluster.job("assist", Mode::Assist, OWN_S).await;
    let (completed, died) = driven_until_killed(cluster, &run).await;
    no_gap_is_longer_than_allowed(&completed);
    let driven = completed.iter().filter(|c| c.triggered_at < died).count();
    assert!(driven >= 6 && completed.len() > driven, "driven, then its own: {completed:?}");
    let gaps = completed.windows(2).map(|p| p[1].completed_at.secs_since(p[0].completed_at));
    println!("assist: the longest gap was {:.2} s", gaps.fold(0.0, f64::max));
    let after = cluster.running("assist").await;
    assert_eq!((after.engine_id, after.attempt), (run.engine_id, run.attempt), "never restarted");
}

async fn dead_man_on(version: &str, port_base: u16) {
    let cluster = Cluster::up(version, port_base, 1).await;
    futures::join!(full(&cluster), assist(&cluster));
    cluster.lab.down().await.unwrap();
}

#[test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
fn a_dead_khaos_leaves_flink_2_at_its_own_interval() {
    in_real_time(dead_man_on("2", 24_200));
}

#[test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
fn a_dead_khaos_leaves_flink_1_20_at_its_own_interval() {
    in_real_time(dead_man_on("1.20", 24_400));
}
