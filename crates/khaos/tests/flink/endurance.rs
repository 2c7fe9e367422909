//! Half an hour of driving every two seconds: nothing fails, nothing piles up, nothing grows.

use std::io::Read;

use khaos_control::core::stats::median;
use khaos_control::ports::Checkpoints;
use serde_json::Value;

use crate::bench::{Cluster, Khaos, Mode, in_real_time};
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
    let length = format!("{MINUTES}m");
    let arguments = ["drive", "driven", "--json", "--interval", "2s", "--for", &length];
    let mut khaos = Khaos::starts(&[&arguments[..], &["--url", &proxy.url]].concat());
    // What it tells is more than a pipe holds: it is read while it is told.
    let mut stdout = khaos.0.stdout.take().unwrap();
    let told = std::thread::spawn(move || {
        let mut told = String::new();
        stdout.read_to_string(&mut told).map(|_| told)
    });
    let mut memory = Vec::new();
    for _ in 0..2 * MINUTES - 1 {
        cluster.pause(30.0).await;
        memory.push(resident(khaos.0.id()));
    }
    while !told.is_finished() {
        cluster.pause(0.5).await;
    }
    let told = told.join().unwrap().unwrap();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert!(khaos.0.wait().unwrap().success());
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
