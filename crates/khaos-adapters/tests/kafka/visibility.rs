//! How far a reader of committed output is behind: by the checkpoints, by the ends of the topic, and by a reader.
#![allow(clippy::unwrap_used, reason = "a test says what is broken by panicking")]
#![allow(clippy::print_stdout, reason = "what was measured is worth reading")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use khaos_adapters::flink::Flink;
use khaos_adapters::kafka::KafkaSettings;
use khaos_adapters::kafka::made::{Made, Maker};
use khaos_adapters::kafka::visibility::Visibility;
use khaos_adapters::lab::{Lab, LabConfig, LabKafka, Pipeline, PipelineJob};
use khaos_control::act::driver::Driver;
use khaos_control::clock::Clock;
use khaos_control::core::job::{CompletedCheckpoint, JobKey, JobRun, JobStatus};
use khaos_control::core::series::{Sample, Series};
use khaos_control::core::units::{CheckpointInterval, Span, Timestamp};
use khaos_control::ports::{Actuator, Checkpoints, Jobs};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::time::{Instant, sleep_until};

const INPUT: &str = "vehicles";
const OUTPUT: &str = "speeds";
/// Of each topic.
const PARTITIONS: i32 = 2;
/// What is written to the input, events/s.
const RATE: u64 = 2_500;
/// Event time goes so many times as fast as the clock: the job gives out the speeds of every second of it, which are
/// 100 ms, so that its output is fresher than what is measured to be close.
const SPEED: i64 = 10;
/// When the first event happens, epoch ms.
const FIRST_MS: i64 = 1_764_054_000_000;
/// The intervals, s, and how many checkpoints they are in force for. The first is the job's own, the others are
/// driven.
const PHASES: [(u32, usize); 3] = [(8, 4), (3, 6), (5, 3)];
/// How far apart what is close may be: s, or a share, whichever is more.
const CLOSE_S: f64 = 0.5;
const CLOSE_SHARE: f64 = 0.1;
/// Between a commit and the last look that may show it, s.
const SHOWN_S: f64 = 1.5;
/// How long anything may take that has no deadline of its own.
const PATIENCE: Duration = Duration::from_mins(2);

/// Writes events to the input, each when it is due, until it is told to stop.
fn write(bootstrap: &str, stop: &AtomicBool) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("linger.ms", "5");
    let producer: BaseProducer<DefaultProducerContext> = config.create().unwrap();
    let mut maker = Maker::new(Made::IotVehicles, 7, PARTITIONS);
    let begun = Instant::now();
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let due_us = 1_000_000 * n / RATE;
        let due = begun + Duration::from_micros(due_us);
        producer.poll(due.saturating_duration_since(Instant::now()));
        let event = maker.event(n, FIRST_MS + SPEED * due_us as i64 / 1_000);
        let mut record = BaseRecord::<[u8], [u8]>::to(INPUT).partition(event.partition);
        record.key = event.key;
        record.payload = event.value;
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

/// A result, and when it was read: partition, offset.
type Read = (Timestamp, (i32, i64));

/// Reads results, with this isolation, until it is told to stop.
fn read(bootstrap: &str, isolation: &str, clock: Clock, stop: &AtomicBool) -> Vec<Read> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "reader")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "50")
        .set("isolation.level", isolation);
    let consumer: BaseConsumer = config.create().unwrap();
    let mut from = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        from.add_partition_offset(OUTPUT, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&from).unwrap();
    let mut seen = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let Some(message) = consumer.poll(Duration::from_millis(50)) else { continue };
        let message = message.unwrap();
        seen.push((clock.now(), (message.partition(), message.offset())));
    }
    seen
}

/// How old the newest result was that a reader of what is `committed` had, before each that it got: of the partition
/// in which that is the oldest. `written` is what a reader of everything saw.
fn ages(written: &[Read], committed: &[Read]) -> Series {
    let appeared: BTreeMap<(i32, i64), Timestamp> =
        written.iter().map(|&(at, result)| (result, at)).collect();
    let mut newest = [None; PARTITIONS as usize];
    let mut ages = Vec::new();
    for &(at, (partition, offset)) in committed {
        if let Some(oldest) = newest.iter().copied().min().flatten() {
            ages.push(Sample { at, value: at.secs_since(oldest) });
        }
        newest[partition as usize] = appeared.get(&(partition, offset)).copied();
    }
    Series::new(ages)
}

fn worst(series: &Series, span: Span) -> Option<f64> {
    series.values(span).into_iter().max_by(f64::total_cmp)
}

async fn make_topics(bootstrap: &str) {
    let mut config = ClientConfig::new();
    let admin: AdminClient<DefaultClientContext> =
        config.set("bootstrap.servers", bootstrap).create().unwrap();
    let topics =
        [INPUT, OUTPUT].map(|name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1)));
    for made in admin.create_topics(&topics, &AdminOptions::new()).await.unwrap() {
        made.unwrap();
    }
}

/// The first answer that is `wanted`.
async fn until<T>(what: &str, wanted: impl AsyncFn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = wanted().await {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        pause(0.25).await;
    }
}

async fn pause(seconds: f64) {
    sleep_until(Instant::now() + Duration::from_secs_f64(seconds)).await;
}

fn midway(a: Timestamp, b: Timestamp) -> Timestamp {
    Timestamp(i64::midpoint(a.0, b.0))
}

/// How far a reader was behind just before a commit, s: by the checkpoints, by the ends of the topic, by its own account.
struct Commit {
    predicted: f64,
    measured: Option<f64>,
    read: Option<f64>,
}

/// Of each of `completed` but the first.
fn commits(completed: &[CompletedCheckpoint], measured: &Series, read: &Series) -> Vec<Commit> {
    let commit = |(n, pair): (usize, &[CompletedCheckpoint])| {
        let [before, this] = [pair[0], pair[1]];
        // From one commit to the next the age only grows: the most that is near a commit is just before it.
        let to = match completed.get(n + 2) {
            Some(next) => midway(this.completed_at, next.completed_at),
            None => this.completed_at.plus_secs(SHOWN_S),
        };
        let span = Span { from: midway(before.completed_at, this.completed_at), to };
        Commit {
            // Interval + duration.
            predicted: this.completed_at.secs_since(before.triggered_at),
            measured: worst(measured, span),
            read: worst(read, span),
        }
    };
    completed.windows(2).enumerate().map(commit).collect()
}

fn is_close(predicted_s: f64, measured_s: Option<f64>) -> bool {
    let close_s = (CLOSE_SHARE * predicted_s).max(CLOSE_S);
    measured_s.is_some_and(|measured_s| (measured_s - predicted_s).abs() <= close_s)
}

#[tokio::test]
#[ignore = "starts a real Flink and a real Kafka: ./test.sh runs it"]
async fn visibility_is_interval_and_duration() {
    let dir = tempfile::tempdir().unwrap();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = std::env::var_os("KHAOS_CACHE").map(PathBuf::from);
    let cache = cache.unwrap_or(workspace.join("target/lab-cache"));
    let config = LabConfig {
        port_base: 26_000,
        task_managers: 1,
        kafka: Some(LabKafka::default()),
        ..LabConfig::new(dir.path().join("lab"), cache)
    };
    let lab = Lab::up(config, |step| println!("{step}")).await.unwrap();
    let bootstrap = lab.bootstrap().unwrap().to_owned();
    make_topics(&bootstrap).await;
    let clock = Clock::anchored(Timestamp(1_000_000));
    let flink = Flink::at(lab.rest_url(), clock).unwrap();
    let settings = KafkaSettings::at(&bootstrap).unwrap();
    let visibility = Visibility::watch(&settings, &[OUTPUT.to_owned()], clock).unwrap();

    let own = format!("{} s", PHASES[0].0);
    let job = PipelineJob {
        flink_configuration: [
            ("execution.checkpointing.interval", own.as_str()),
            ("execution.checkpointing.min-pause", own.as_str()),
            // How often windows are told how far event time is.
            ("pipeline.auto-watermark-interval", "50 ms"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into(),
        ..PipelineJob::new("iot", Pipeline::IotVehicles, INPUT, OUTPUT)
    };
    lab.submit_pipeline(&job, |step| println!("{step}")).await.unwrap();
    let key = JobKey(job.name.clone());
    let running = async || -> Option<JobRun> {
        let run = flink.describe(&key).await.ok()?;
        (run.status == JobStatus::Running && run.running_since.is_some()).then_some(run)
    };
    let run = until("the job runs", running).await;

    let begun = clock.now();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (bootstrap, stop) = (bootstrap.clone(), Arc::clone(&stop));
        std::thread::spawn(move || write(&bootstrap, &stop))
    };
    let readers = ["read_uncommitted", "read_committed"].map(|isolation| {
        let (bootstrap, stop) = (bootstrap.clone(), Arc::clone(&stop));
        std::thread::spawn(move || read(&bootstrap, isolation, clock, &stop))
    });
    let port = Arc::new(flink.clone());
    let driver = Driver::new(clock, port.clone(), port);
    // Java is slow at first: what is triggered then may reach the sink as late as it completes.
    let completed = async || -> Vec<CompletedCheckpoint> {
        let history = flink.history(&run.engine_id).await.unwrap_or_default();
        let warm = begun.plus_secs(10.0);
        history.completed.into_iter().filter(|c| c.triggered_at >= warm).collect()
    };
    for (generation, (interval_s, count)) in (1..).zip(PHASES) {
        if generation > 1 {
            let interval = CheckpointInterval::from_secs(interval_s).unwrap();
            driver.apply(&run, interval, generation).await.unwrap();
        }
        let most = completed().await.len() + count;
        let enough = async || (completed().await.len() >= most).then_some(());
        until(&format!("{count} checkpoints of {interval_s} s"), enough).await;
    }
    let completed = completed().await;
    pause(SHOWN_S).await;
    stop.store(true, Ordering::Relaxed);
    while !(writer.is_finished() && readers.iter().all(JoinHandle::is_finished)) {
        pause(0.05).await;
    }
    writer.join().unwrap();
    let [written, committed] = readers.map(|reader| reader.join().unwrap());
    let read = ages(&written, &committed);
    let looked = Span { from: begun.plus_secs(5.0), to: clock.now() };
    let measured = visibility.readings(looked);
    let looks = 4.0 * looked.to.secs_since(looked.from);
    println!("{} of {looks:.0} looks", measured.samples().len());

    let commits = commits(&completed, &measured, &read);
    println!("before a commit, s: predicted, measured at the ends, seen by a reader");
    for Commit { predicted, measured, read } in &commits {
        let [measured, read] = [measured, read].map(|seconds| seconds.unwrap_or(f64::NAN));
        println!(
            "{predicted:6.2} {measured:6.2} {read:6.2}   off by {:+.2} {:+.2}",
            measured - predicted,
            read - predicted,
        );
    }
    // One in ten may be off: on a busy machine a checkpoint reaches the sink late, and a look may be missing.
    let close = |of: fn(&Commit) -> Option<f64>| {
        commits.iter().filter(|commit| is_close(commit.predicted, of(commit))).count()
    };
    let (measured, read) = (close(|commit| commit.measured), close(|commit| commit.read));
    println!("close to what was predicted, of {}: {measured} and {read}", commits.len());
    let enough = commits.len() - commits.len() / 10;
    assert!(commits.len() >= 10 && measured >= enough && read >= enough);
    lab.down().await.unwrap();
}
