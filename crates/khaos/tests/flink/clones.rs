//! Clones on a real Flink: the clauses of the contract, and what failures of them show.

use khaos_control::contract;
use khaos_control::ports::{Checkpoints, Fault, Jobs};
use khaos_control::profile::Subject;
use khaos_core::job::EngineJobId;
use khaos_core::units::Timestamp;
use serde_json::Value;

use crate::arena::{Arena, Wanted};
use crate::bench::in_real_time;

fn wanted(version: &str, port_base: u16) -> Wanted<'_> {
    Wanted {
        version,
        port_base,
        task_managers: 4,
        speed: 12,
        heartbeats_s: (1, 5),
        interval_ms: 1_000,
        state_bytes: 10_000_000,
    }
}

async fn clones_keep_the_contract(wanted: Wanted<'_>) {
    wanted
        .test(async |arena| {
            let bench = arena.bench();
            contract::clones_live_and_die(&bench).await;
            contract::workload_is_replayed_at_its_pace(&bench).await;
            contract::faults_break_clones_only(&bench).await;
        })
        .await;
}

#[test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
fn clones_on_flink_2_keep_the_contract() {
    in_real_time(clones_keep_the_contract(wanted("2", 23_000)));
}

#[test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
fn clones_on_flink_1_20_keep_the_contract() {
    in_real_time(clones_keep_the_contract(wanted("1.20", 23_200)));
}

/// Of the checkpoint that a failure at `failed_at` spoilt, the share of subtasks that had acknowledged
/// it, as Flink tells afterwards.
async fn acknowledged(arena: &Arena, id: &EngineJobId, failed_at: Timestamp) -> Option<f64> {
    let url = format!("{}/jobs/{id}/checkpoints", arena.rest_url);
    let told: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    let failed_at = arena.clock.to_wall(failed_at).0;
    let spoilt = told["history"].as_array().unwrap().iter().find(|checkpoint| {
        let triggered = checkpoint["trigger_timestamp"].as_i64().unwrap();
        checkpoint["status"] == "FAILED" && (failed_at - 2_000..=failed_at).contains(&triggered)
    })?;
    let count = |key: &str| spoilt[key].as_f64().unwrap();
    Some(count("num_acknowledged_subtasks") / count("num_subtasks"))
}

/// Breaks the target `times` times, each at its worst moment: the shares that had acknowledged by then.
async fn shares(arena: &Arena, times: u32) -> Vec<Option<f64>> {
    let mut shares = Vec::new();
    for time in 0..times {
        let run = arena.running(2).await;
        let flink = arena.flink.as_ref();
        let subject = Subject {
            clock: arena.clock,
            jobs: flink,
            metrics: flink,
            checkpoints: flink,
            id: &run.engine_id,
        };
        let aimed = arena.injector.aim_at(&arena.target).await.unwrap();
        subject.until_worst_moment(run.checkpointing.interval).await.unwrap();
        arena.injector.strike(&aimed, Fault::Crash).await.unwrap();
        let failed_at = arena.clock.now();
        let history = flink.history(&run.engine_id).await.unwrap();
        // Until Flink notices, it says that the job runs.
        let mut back = run.clone();
        while back.running_since.is_none_or(|since| since <= failed_at) {
            arena.pause_wall(0.1).await;
            back = flink.run(&run.engine_id).await.unwrap();
        }
        let share = acknowledged(arena, &run.engine_id, failed_at).await;
        let newest = history.newest().unwrap();
        println!(
            "failure {time}: age {:.2} s of the wall's, {} acknowledged",
            failed_at.secs_since(newest.triggered_at) / f64::from(arena.clock.speed()),
            share.map_or("nothing under way".to_owned(), |share| format!("{:.0} %", 100.0 * share)),
        );
        shares.push(share);
    }
    shares
}

async fn failures_hit_checkpoints_half_way(port_base: u16, times: u32) {
    // So much that the signal reaches a busy machine while it is written.
    let wanted = Wanted { state_bytes: 80_000_000, interval_ms: 2_000, ..wanted("2", port_base) };
    wanted
        .test(async |arena| {
            let shares = shares(arena, times).await;
            let hit = shares.iter().flatten().filter(|share| (0.5..0.99).contains(*share)).count();
            println!("{hit} of {times} failures hit a checkpoint between 50 % and 99 %");
            // A checkpoint may complete while the signal is under way.
            assert!(5 * hit >= 4 * times as usize, "{shares:?}");
        })
        .await;
}

#[test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
fn failures_hit_checkpoints_that_are_half_done() {
    in_real_time(failures_hit_checkpoints_half_way(23_400, 5));
}

#[test]
#[ignore = "twenty times as above: ./test.sh --long runs it"]
fn twenty_failures_hit_checkpoints_that_are_half_done() {
    in_real_time(failures_hit_checkpoints_half_way(23_400, 20));
}

/// How long Flink takes to notice that the only TaskManager of a job was killed, and until the job runs
/// again: three times at each setting of heartbeats.
async fn dead_times(heartbeats_s: (u32, u32), port_base: u16) {
    let wanted = Wanted { heartbeats_s, speed: 1, ..wanted("2", port_base) };
    wanted
        .test(async |arena| {
            let (every, timeout) = heartbeats_s;
            for _ in 0..3 {
                let run = arena.running(2).await;
                arena.injector.hurt(&arena.target, Fault::Crash).await.unwrap();
                let failed_at = arena.clock.now();
                let mut back = run.clone();
                while back.running_since.is_none_or(|since| since <= failed_at) {
                    arena.pause_wall(0.1).await;
                    back = arena.flink.run(&run.engine_id).await.unwrap();
                }
                let noticed = back.noticed.iter().find(|at| **at >= failed_at).unwrap();
                println!(
                    "heartbeats {every} s/{timeout} s: noticed after {:.1} s, down for {:.1} s",
                    noticed.secs_since(failed_at),
                    back.running_since.unwrap().secs_since(failed_at),
                );
            }
        })
        .await;
}

#[test]
#[ignore = "minutes of waiting: ./test.sh --long runs it"]
fn dead_times_by_heartbeats() {
    in_real_time(async {
        dead_times((1, 5), 23_600).await;
        dead_times((10, 50), 23_600).await;
    });
}
