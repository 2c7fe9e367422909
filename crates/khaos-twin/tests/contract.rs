//! The contract of the ports, on the twin, in virtual time.
#![allow(clippy::unwrap_used, reason = "a test says what is broken by panicking")]

use std::sync::Arc;

use khaos_control::act::driver::Driver;
use khaos_control::clock::Clock;
use khaos_control::contract::{self, Bench, CloneBench};
use khaos_control::core::job::{CheckpointSettings, JobKey};
use khaos_control::core::observe::Minute;
use khaos_control::core::record::{Fact, Record};
use khaos_control::core::stats::Seed;
use khaos_control::core::units::{CheckpointInterval, Timestamp};
use khaos_twin::{MemoryStore, Redeployer, Twin, TwinConfig, Workload, World};

const WORLD: &str = r#"
name = "contract"
capacity_eps = 5000.0
checkpoint_cost_s = 0.4
detect_s = 8.0
restart_s = 4.0
settle_s = 20.0
retune_stall_s = 3.0
checkpoint_duration_s = 0.7
dead_time_sigma = 0.1
[latency]
a = 4.0
b = 0.4
c = -0.05
d = 0.5
load_max_eps = 4000.0
sigma = 0.1
"#;

fn bench(settings: CheckpointSettings) -> (CloneBench, Arc<Twin>) {
    let clock = Clock::anchored(Timestamp(1_000_000_020_000));
    let config = TwinConfig {
        job: JobKey("contract".into()),
        world: World::parse(WORLD).unwrap(),
        workload: Workload::new((0..60).map(|i| 1_500.0 + 20.0 * f64::from(i)).collect()).unwrap(),
        settings,
        failures: vec![],
        outages: vec![],
        seed: Seed(11),
        noise: true,
    };
    let twin = Twin::start(config, clock);
    let campaign = Record::new(
        &JobKey("contract".into()),
        Timestamp(0),
        vec![],
        Fact::Minute(Minute::blind(Timestamp(0))),
    );
    let bench = Bench {
        clock,
        jobs: twin.clone(),
        metrics: twin.clone(),
        checkpoints: twin.clone(),
        job: JobKey("contract".into()),
    };
    let bench = CloneBench {
        bench,
        host: twin.clone(),
        log: twin.clone(),
        injector: twin.clone(),
        campaign: campaign.id().clone(),
    };
    (bench, twin)
}

fn fallback() -> CheckpointInterval {
    CheckpointInterval::from_secs(24).unwrap()
}

macro_rules! engine_clauses {
    ($($clause:ident),* $(,)?) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $clause() {
                contract::$clause(&bench(CheckpointSettings::full(fallback())).0).await;
            }
        )*
    };
}
engine_clauses!(
    jobs_are_described,
    metrics_show_what_was_sampled,
    checkpoints_are_triggered_once_and_followed,
    clones_live_and_die,
    workload_is_replayed_at_its_pace,
    faults_break_clones_only,
);

macro_rules! driver_clauses {
    ($($name:ident: $clause:ident in $mode:ident),* $(,)?) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $name() {
                let (bench, twin) = bench(CheckpointSettings::$mode(fallback()));
                let driver = Driver::new(bench.clock, twin.clone(), twin);
                contract::$clause(&bench, &driver).await;
            }
        )*
    };
}
driver_clauses!(
    driver_refuses_stale_generations: refuses_stale_generations in full,
    driver_achieves_its_interval: achieves_its_interval in full,
    driver_released_falls_back_in_full_mode: released_falls_back in full,
    driver_released_falls_back_in_assist_mode: released_falls_back in periodic,
);

#[tokio::test(start_paused = true)]
async fn redeployer_refuses_stale_generations() {
    let (bench, twin) = bench(CheckpointSettings::periodic(fallback()));
    contract::refuses_stale_generations(&bench, &Redeployer::new(twin)).await;
}

#[tokio::test(start_paused = true)]
async fn redeployer_achieves_its_interval_and_loses_nothing_but_time() {
    let (bench, twin) = bench(CheckpointSettings::periodic(fallback()));
    contract::achieves_its_interval(&bench, &Redeployer::new(twin.clone())).await;
    let truth = twin.truth();
    // Two changes of the interval, 3 s each; nothing was processed twice.
    assert!((truth.stalled_s - 6.0).abs() < 1e-9);
    assert!((truth.processed - truth.read).abs() < 1e-6);
}

macro_rules! store_clauses {
    ($($clause:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $clause() {
                contract::$clause(&MemoryStore::default()).await;
            }
        )*
    };
}
store_clauses!(keeps_records_as_they_are, appends_once, finds_by_kind_span_and_parent);
