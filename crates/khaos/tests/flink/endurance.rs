//! Half an hour of driving every two seconds: nothing fails, nothing piles up, nothing grows.

use std::process::{Command, Stdio};

use khaos_control::core::stats::median;
use khaos_control::ports::Checkpoints;
use serde_json::Value;

use crate::bench::{Cluster, Mode, in_real_time};
use crate::proxy::Proxy;

const MINUTES: u32 = 30;

/// Resident memory of a process, kB.
fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

async fn half_an_hour(cluster: Cluster) {
    let run = cluster.job("driven", Mode::Full, 60).await;
    let proxy = Proxy::before(cluster.lab.rest_url()).await;
    let mut khaos = Command::new(env!("CARGO_BIN_EXE_khaos"))
        .args(["drive", "driven", "--json", "--interval", "2s", "--url", &proxy.url])
        .args(["--for", &format!("{MINUTES}m")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut memory = Vec::new();
    for _ in 0..2 * MINUTES - 1 {
        cluster.pause(30.0).await;
        memory.push(resident(khaos.id()));
    }
    while khaos.try_wait().unwrap().is_none() {
        cluster.pause(1.0).await;
    }
    let output = khaos.wait_with_output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let failed = cluster.flink.history(&run.engine_id).await.unwrap().failed;
    let (first, last) =
        (median(&memory[4..14]).unwrap(), median(&memory[memory.len() - 10..]).unwrap());
    println!(
        "{} checkpoints, one every {} s (median; longest {}), {failed} failed, at most {} \
         outstanding, {} requests; resident {first} kB in minutes 2-7, {last} kB in the last five",
        told["checkpoints"],
        told["interval_median_s"],
        told["interval_max_s"],
        proxy.most_outstanding(),
        proxy.requests(),
    );
    assert!(output.status.success());
    assert_eq!((failed, proxy.most_outstanding()), (0, 1));
    assert_eq!((&told["restarts"], &told["engine_id_after"]), (&0.into(), &told["engine_id"]));
    // What it tells at the end it has to remember: 24 bytes a checkpoint.
    assert!(last < 1.05 * first, "it grows: {memory:?}");
    cluster.lab.down().await.unwrap();
}

#[test]
#[ignore = "half an hour on a real Flink: ./test.sh --long runs it"]
fn half_an_hour_of_driving_every_two_seconds() {
    in_real_time(async { half_an_hour(Cluster::up("2", 25_400, 1).await).await });
}
