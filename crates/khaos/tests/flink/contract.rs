//! The contract of the ports, on a real Flink: the same clauses that the twin passes. Several jobs
//! share a cluster, so that clauses that have to wait wait together.

use khaos_adapters::lab::PacedJob;
use khaos_control::act::driver::Driver;
use khaos_control::contract::{self, Bench};
use khaos_control::ports::{Jobs, Metrics, PortError};
use khaos_core::job::JobKey;
use khaos_core::series::Reading;
use khaos_core::units::Span;

use crate::bench::{Cluster, Mode, RATE, in_real_time};

fn driver(bench: &Bench) -> Driver {
    Driver::new(bench.clock, bench.jobs.clone(), bench.checkpoints.clone())
}

async fn contract_on(version: &str, port_base: u16) {
    let cluster = Cluster::up(version, port_base, 2).await;
    let read = cluster.bench(&cluster.job("read", Mode::Full, 8).await);
    let paced = cluster.bench(&cluster.job("paced", Mode::Full, 8).await);
    let unaligned = cluster.bench(&cluster.job("unaligned", Mode::Unaligned, 8).await);
    let assist = cluster.bench(&cluster.job("assist", Mode::Assist, 8).await);
    futures::join!(
        async {
            contract::jobs_are_described(&read).await;
            contract::checkpoints_are_triggered_once_and_followed(&read).await;
            contract::metrics_show_what_was_sampled(&read).await;
            the_load_is_the_true_one(&cluster, &read).await;
        },
        async { contract::achieves_its_interval(&paced, &driver(&paced)).await },
        async {
            contract::released_falls_back(&unaligned, &driver(&unaligned)).await;
            contract::refuses_stale_generations(&unaligned, &driver(&unaligned)).await;
        },
        async { contract::released_falls_back(&assist, &driver(&assist)).await },
    );
    a_name_that_two_jobs_have_is_refused(&cluster).await;
    cluster.lab.down().await.unwrap();
}

/// The lab's job is fed at a known rate.
async fn the_load_is_the_true_one(cluster: &Cluster, bench: &Bench) {
    let run = cluster.flink.describe(&bench.job).await.unwrap();
    let span = Span::last(60.0, cluster.clock.now());
    let readings = cluster.flink.readings(&run.engine_id, span).await.unwrap();
    let truth = RATE as f64;
    for (what, series) in [("arrival", readings.arrival()), ("throughput", readings.throughput)] {
        let Reading::Known(rate) = series.mean(span) else { panic!("{what} is not known") };
        assert!((rate / truth - 1.0).abs() < 0.02, "{what} is {rate}/s instead of {truth}/s");
    }
}

async fn a_name_that_two_jobs_have_is_refused(cluster: &Cluster) {
    let first = cluster.running("read").await;
    let second = PacedJob { name: "read".to_owned(), ..PacedJob::default() };
    let second = cluster.lab.submit(&second).await.unwrap();
    let refused = cluster.flink.describe(&first.key).await;
    let Err(PortError::Refused(why)) = refused else { panic!("which one is it? {refused:?}") };
    assert!(why.contains(second.id()) && why.contains(&first.engine_id.0), "{why}");
    let by_id = cluster.flink.describe(&JobKey(first.engine_id.0.clone())).await.unwrap();
    assert_eq!(by_id.engine_id, first.engine_id);
}

#[test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
fn flink_2_keeps_the_contract() {
    in_real_time(contract_on("2", 25_000));
}

#[test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
fn flink_1_20_keeps_the_contract() {
    in_real_time(contract_on("1.20", 25_200));
}
