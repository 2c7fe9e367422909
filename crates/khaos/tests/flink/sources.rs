//! Jobs whose load is not one plain number: two sources that only together are the load, and a source
//! that does not tell its lag. Both run in one cluster at the same time.

use std::collections::BTreeMap;

use khaos_adapters::lab::PacedJob;
use khaos_control::ports::{Checkpoints, Jobs, Metrics};
use khaos_core::job::{JobRun, JobStatus};
use khaos_core::series::{Reading, Readings, Series};
use khaos_core::units::{Span, Timestamp};

use crate::bench::{Cluster, in_real_time};

/// What arrives at each source, events/s.
const EACH: u64 = 500;

/// Submits `job`, with the rate and checkpoints that both have, and waits until it runs.
async fn started(cluster: &Cluster, job: PacedJob) -> JobRun {
    let job = PacedJob {
        rates: format!("3600:{EACH}").parse().unwrap(),
        parallelism: 1,
        flink_configuration: BTreeMap::from([(
            "execution.checkpointing.interval".to_owned(),
            "8 s".to_owned(),
        )]),
        ..job
    };
    cluster.lab.submit(&job).await.unwrap();
    cluster.running(&job.name).await
}

/// The mean is within 3 % of what is true.
fn is_about(what: &str, series: &Series, span: Span, truth: u64) {
    let truth = truth as f64;
    let Reading::Known(mean) = series.mean(span) else { panic!("{what} is not known") };
    println!("{what}: {mean:.2}/s from {} samples, truly {truth}/s", series.samples().len());
    assert!((mean / truth - 1.0).abs() < 0.03, "{what} is {mean}/s instead of {truth}/s");
}

fn names(readings: &Readings) -> Vec<&str> {
    readings.sources.iter().map(|source| source.name.as_str()).collect()
}

fn two_sources_are_told_apart_and_add_up(version: &str, readings: &Readings, span: Span) {
    assert_eq!(names(readings), ["Source__arrivals-1", "Source__arrivals-2"]);
    for source in &readings.sources {
        is_about(&format!("flink {version}: {}", source.name), &source.arrival, span, EACH);
        assert!(!source.lag.samples().is_empty(), "{} has no lag", source.name);
    }
    // A sum only has the instants that all of its sources have: it can be empty where none of them is.
    is_about(&format!("flink {version}: the sum"), &readings.arrival(), span, 2 * EACH);
    assert!(!readings.lag().samples().is_empty(), "the lags have no instant in common");
    is_about(&format!("flink {version}: throughput"), &readings.throughput, span, 2 * EACH);
}

fn a_load_that_nobody_tells_is_unknown(readings: &Readings, span: Span) {
    assert_eq!(names(readings), ["Source__arrivals"]);
    for (what, series) in
        [("arrival", &readings.sources[0].arrival), ("lag", &readings.sources[0].lag)]
    {
        assert!(series.samples().is_empty(), "nobody told the {what}: {series:?}");
    }
    assert_eq!(readings.arrival().mean(span), Reading::Unknown);
    assert_eq!(readings.lag().mean(span), Reading::Unknown);
}

/// What does not rest on metrics does not miss them.
async fn the_rest_works(cluster: &Cluster, run: &JobRun, since: Timestamp, failed_before: u64) {
    let now = cluster.flink.describe(&run.key).await.unwrap();
    assert_eq!((now.status, &now.engine_id), (JobStatus::Running, &run.engine_id));
    assert_eq!(now.attempt, run.attempt, "never restarted");
    let completed = cluster.completed(run, since).await;
    println!(
        "{} checkpoints of the job whose lag is not told, {failed_before} failed while it began",
        completed.len()
    );
    // Every 8 s for 75 s are nine; half of them tell that it goes on.
    assert!(completed.len() >= 5, "{completed:?}");
    let history = cluster.flink.history(&run.engine_id).await.unwrap();
    assert_eq!(history.failed, failed_before, "{history:?}");
}

async fn sources_on(version: &str, port_base: u16) {
    let cluster = Cluster::up(version, port_base, 1).await;
    let job = |name: &str| PacedJob { name: name.to_owned(), ..PacedJob::default() };
    let two = started(&cluster, PacedJob { sources: 2, ..job("two") }).await;
    let mute = started(&cluster, PacedJob { reports_lag: false, ..job("mute") }).await;

    let begun = cluster.clock.now();
    for run in [&two, &mute] {
        // Sampling begins with the first question.
        cluster.flink.readings(&run.engine_id, Span::last(60.0, begun)).await.unwrap();
    }
    // A trigger that came before all tasks ran counts as failed, and says nothing of what follows.
    let failed_before = cluster.flink.history(&mute.engine_id).await.unwrap().failed;
    cluster.pause(75.0).await;
    let span = Span::last(60.0, cluster.clock.now());
    let readings = cluster.flink.readings(&two.engine_id, span).await.unwrap();
    two_sources_are_told_apart_and_add_up(version, &readings, span);
    let readings = cluster.flink.readings(&mute.engine_id, span).await.unwrap();
    a_load_that_nobody_tells_is_unknown(&readings, span);
    the_rest_works(&cluster, &mute, begun, failed_before).await;
    cluster.lab.down().await.unwrap();
}

#[test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
fn sources_of_flink_2_are_read_as_they_are() {
    in_real_time(sources_on("2", 28_000));
}

#[test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
fn sources_of_flink_1_20_are_read_as_they_are() {
    in_real_time(sources_on("1.20", 28_200));
}
