//! A real Prometheus beside a real Flink: what it remembers of the metrics is what they were.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use khaos_adapters::lab::PacedJob;
use khaos_adapters::prometheus::Prometheus;
use khaos_control::contract::{self, Bench};
use khaos_control::ports::{Checkpoints, Metrics};
use khaos_core::job::{JobKey, JobRun, JobStatus};
use khaos_core::series::{Reading, Series};
use khaos_core::units::{Span, Timestamp};
use tempfile::TempDir;

use crate::bench::{Cluster, Mode, RATE, in_real_time};

/// A Prometheus of this test alone, which ends with it.
struct Server {
    process: Child,
    url: String,
    _folder: TempDir,
}

impl Server {
    /// Scrapes the lab on `port_base` every 2 s: its JobManager and two TaskManagers.
    fn beside(port_base: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let targets: Vec<String> =
            (50..=52).map(|n| format!("'127.0.0.1:{}'", port_base + n)).collect();
        let config = format!(
            "global: {{scrape_interval: 2s}}\nscrape_configs:\n- job_name: flink\n  \
             static_configs: [{{targets: [{}]}}]\n",
            targets.join(", ")
        );
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let address = format!("127.0.0.1:{}", port_base + 90);
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, url: format!("http://{address}"), _folder: folder }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One subtask on each TaskManager.
async fn spread(cluster: &Cluster) -> JobRun {
    let job = PacedJob {
        name: "spread".to_owned(),
        rates: format!("3600:{RATE}").parse().unwrap(),
        parallelism: 2,
        flink_configuration: BTreeMap::from([(
            "execution.checkpointing.interval".to_owned(),
            "5 s".to_owned(),
        )]),
        ..PacedJob::default()
    };
    cluster.lab.submit(&job).await.unwrap();
    cluster.running("spread").await
}

fn is_the_true_rate(what: &str, series: &Series, span: Span) {
    let Reading::Known(rate) = series.mean(span) else { panic!("{what} is not known") };
    println!("{what} is {rate:.2}/s instead of {RATE}/s");
    assert!((rate / RATE as f64 - 1.0).abs() < 0.02, "{what} is {rate}/s instead of {RATE}/s");
}

async fn remembered_on(version: &str, port_base: u16) {
    let server = Server::beside(port_base);
    let mut cluster = Cluster::up(version, port_base, 2).await;
    let run = spread(&cluster).await;
    let often = cluster.job("often", Mode::Assist, 1).await;
    let prometheus = Arc::new(Prometheus::at(&server.url, cluster.clock).unwrap());
    let asked_at = cluster.clock.now();
    cluster.flink.history(&often.engine_id).await.unwrap();

    cluster
        .wait_for("the first scrapes of the job", 180.0, async || {
            let span = Span::last(60.0, cluster.clock.now());
            prometheus.readings(&run.engine_id, span).await.ok()
        })
        .await;
    let bench = Bench { metrics: prometheus.clone(), ..cluster.bench(&run) };
    contract::metrics_show_what_was_sampled(&bench).await;

    // Nobody asked for a minute and a half, in which Flink forgot what it had told.
    let completed = cluster.completed(&often, asked_at).await;
    println!("{version}: {} checkpoints, none missed", completed.len());
    assert!(completed.len() > 40, "one a second: {completed:?}");

    let span = Span::last(60.0, cluster.clock.now());
    let later = Prometheus::at(&server.url, cluster.clock).unwrap();
    let readings = later.readings(&run.engine_id, span).await.unwrap();
    is_the_true_rate(&format!("{version}, arrival"), &readings.arrival(), span);
    is_the_true_rate(&format!("{version}, throughput"), &readings.throughput, span);
    assert!(readings.latency_ms.samples().len() > 10, "{:?}", readings.latency_ms);

    a_failure_is_not_papered_over(version, &mut cluster, &prometheus, &run).await;
    cluster.lab.down().await.unwrap();
}

/// While a TaskManager is dead nothing is told, least of all what was before; then the load is the
/// true one again, at once.
async fn a_failure_is_not_papered_over(
    version: &str,
    cluster: &mut Cluster,
    prometheus: &Prometheus,
    run: &JobRun,
) {
    const DEAD_S: f64 = 20.0;
    let killed = cluster.clock.now();
    cluster.lab.kill_taskmanager(1);
    cluster.lab.kill_taskmanager(2);
    cluster.pause(DEAD_S).await;
    let started = cluster.clock.now();
    cluster.lab.start_taskmanager(1).unwrap();
    cluster.lab.start_taskmanager(2).unwrap();
    cluster.lab.ready().await.unwrap();
    let back = cluster
        .wait_for("the job to run again", 180.0, async || {
            use khaos_control::ports::Jobs;
            let now = cluster.flink.describe(&JobKey("spread".to_owned())).await.ok()?;
            (now.status == JobStatus::Running && now.attempt > run.attempt).then_some(now)
        })
        .await;
    cluster.pause(30.0).await;
    let span = Span { from: killed, to: cluster.clock.now() };
    let readings = prometheus.readings(&run.engine_id, span).await.unwrap();
    let (lag, arrival) = (readings.lag(), readings.arrival());
    for (what, series) in [("lag", &lag), ("arrival", &arrival)] {
        // The last scrape before the death may be one of after the kill was asked for.
        let dead = Span { from: killed.plus_secs(2.0), to: started };
        assert_eq!(series.within(dead), [], "{what} of a dead TaskManager");
    }
    // What piled up shows from the first sample on: 20 s of the rate, and what the checkpoint lacked.
    let first = lag.samples().iter().find(|sample| sample.at >= started).unwrap();
    println!("{version}: first lag after {DEAD_S} s: {}", first.value);
    let running_since: Timestamp = back.running_since.unwrap();
    let again = Span { from: running_since.plus_secs(10.0), to: span.to };
    is_the_true_rate(&format!("{version}, arrival after a failure"), &arrival, again);
}

#[test]
#[ignore = "starts a real Flink and Prometheus: ./test.sh runs it"]
fn prometheus_remembers_flink_2() {
    in_real_time(remembered_on("2", 27_500));
}

#[test]
#[ignore = "starts a real Flink and Prometheus: ./test.sh runs it"]
fn prometheus_remembers_flink_1_20() {
    in_real_time(remembered_on("1.20", 27_700));
}
