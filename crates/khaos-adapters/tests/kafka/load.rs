//! What arrives and what waits at a real job that reads a real Kafka: while it runs, while it is down, and after.
#![allow(clippy::unwrap_used, reason = "a test says what is broken by panicking")]
#![allow(clippy::print_stdout, reason = "what was measured is worth reading")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use khaos_adapters::flink::Flink;
use khaos_adapters::flink::doctor::Verdict;
use khaos_adapters::kafka::load::{KafkaLoad, Reads, doctor};
use khaos_adapters::kafka::{Cluster, KafkaSettings};
use khaos_adapters::lab::{KafkaJob, Lab, LabConfig, LabKafka};
use khaos_control::clock::Clock;
use khaos_control::core::job::EngineJobId;
use khaos_control::core::series::{Readings, Sample};
use khaos_control::core::units::{Span, Timestamp};
use khaos_control::ports::Metrics;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use tokio::time::{Instant, sleep_until};

/// Topics, and their partitions. What arrives is the same in each of these.
const TOPICS: [(&str, i32); 2] = [("clicks.of-users", 3), ("orders", 1)];
/// What arrives in all of them together, events/s.
const RATE: u64 = 1_200;
/// Between two looks, s.
const PERIOD_S: f64 = 5.0;
/// How long anything may take that has no deadline of its own.
const PATIENCE: Duration = Duration::from_mins(2);

/// Writes to the topics at their rate, on absolute time, until it is told to stop.
struct Writer {
    stop: SyncSender<()>,
    thread: JoinHandle<u64>,
}

#[derive(Default)]
struct Delivered(AtomicU64);

impl ClientContext for Delivered {}

impl ProducerContext for Delivered {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        assert!(result.is_ok(), "{result:?}");
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Writer {
    fn start(bootstrap: &str) -> Self {
        let mut config = ClientConfig::new();
        // Or an event that is sent again stands in the log twice.
        config
            .set("bootstrap.servers", bootstrap)
            .set("linger.ms", "5")
            .set("enable.idempotence", "true");
        let producer: BaseProducer<Delivered> =
            config.create_with_context(Delivered::default()).unwrap();
        let (stop, stopped) = sync_channel(0);
        let thread = std::thread::spawn(move || {
            let begun = Instant::now();
            let partitions: i32 = TOPICS.iter().map(|(_, partitions)| partitions).sum();
            let round_us = 1_000_000 * partitions as u64 / RATE;
            for round in 1.. {
                for (topic, partitions) in TOPICS {
                    for partition in 0..partitions {
                        let record = BaseRecord::<(), [u8]>::to(topic).partition(partition);
                        producer.send(record.payload(&[7; 100])).unwrap();
                    }
                }
                let due = begun + Duration::from_micros(round_us * round);
                let left = due.saturating_duration_since(Instant::now());
                producer.poll(Duration::ZERO);
                if stopped.recv_timeout(left) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
            producer.flush(PATIENCE).unwrap();
            producer.context().0.load(Ordering::Relaxed)
        });
        Self { stop, thread }
    }

    /// How many events it wrote: all of them were acknowledged.
    fn stop(self) -> u64 {
        drop(self.stop);
        self.thread.join().unwrap()
    }
}

async fn make_topics(bootstrap: &str) {
    let mut config = ClientConfig::new();
    let admin: AdminClient<DefaultClientContext> =
        config.set("bootstrap.servers", bootstrap).create().unwrap();
    let topics = TOPICS
        .map(|(name, partitions)| NewTopic::new(name, partitions, TopicReplication::Fixed(1)));
    for made in admin.create_topics(&topics, &AdminOptions::new()).await.unwrap() {
        made.unwrap();
    }
}

/// A job, and what is known of it.
struct Watched {
    load: KafkaLoad,
    clock: Clock,
    job: EngineJobId,
}

impl Watched {
    /// The first readings that `seen` accepts.
    async fn until(&self, what: &str, mut seen: impl FnMut(&Readings) -> bool) -> Readings {
        let begun = Instant::now();
        loop {
            let readings = self.load.readings(&self.job, Span::last(600.0, self.clock.now())).await;
            if let Ok(readings) = &readings
                && seen(readings)
            {
                println!("{what}: after {:.1} s", begun.elapsed().as_secs_f64());
                return readings.clone();
            }
            assert!(begun.elapsed() < PATIENCE, "{what}: not so far: {readings:#?}");
            sleep_until(Instant::now() + Duration::from_millis(500)).await;
        }
    }
}

/// Events that arrived, by the rates at looks after `after` and up to `until`.
fn arrived(readings: &Readings, after: Timestamp, until: Timestamp) -> f64 {
    let arrival = readings.arrival();
    let looks = arrival.samples().iter().filter(|sample| sample.at > after && sample.at <= until);
    looks.map(|sample| PERIOD_S * sample.value).sum()
}

/// Looks after `after` and up to `until`: they are at multiples of their period.
fn looks(after: Timestamp, until: Timestamp) -> usize {
    let period_ms = (1_000.0 * PERIOD_S) as i64;
    (until.0.div_euclid(period_ms) - after.0.div_euclid(period_ms)) as usize
}

/// Samples of one look after the other, as far as they are known, after `since`.
fn neighbours(samples: &[Sample], since: Timestamp) -> impl Iterator<Item = (Sample, Sample)> {
    let pairs = samples.windows(2).map(|pair| (pair[0], pair[1]));
    pairs.filter(move |(a, b)| a.at > since && b.at.secs_since(a.at) < 1.5 * PERIOD_S)
}

fn newest(samples: &[Sample]) -> f64 {
    samples.last().map_or(f64::NAN, |sample| sample.value)
}

#[tokio::test]
#[ignore = "starts a real Flink and a real Kafka: ./test.sh runs it"]
async fn the_load_is_known_while_the_job_is_down() {
    let dir = tempfile::tempdir().unwrap();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = std::env::var_os("KHAOS_CACHE").map(PathBuf::from);
    let cache = cache.unwrap_or(workspace.join("target/lab-cache"));
    let config = LabConfig {
        port_base: 28_200,
        task_managers: 1,
        kafka: Some(LabKafka::default()),
        ..LabConfig::new(dir.path().join("lab"), cache)
    };
    let mut lab = Lab::up(config, |_| ()).await.unwrap();
    let bootstrap = lab.bootstrap().unwrap().to_owned();
    make_topics(&bootstrap).await;
    let clock = Clock::anchored(Timestamp(1_000_000));
    let flink = Flink::at(lab.rest_url(), clock).unwrap();
    let settings = KafkaSettings::at(&bootstrap).unwrap();
    let topics = TOPICS.map(|(name, _)| name.to_owned()).to_vec();
    let reads = Reads { topics: topics.clone(), other_sources: Vec::new() };
    let inner = Arc::new(flink.clone());
    let load = KafkaLoad::new(inner, flink.clone(), &settings, reads.clone(), clock).unwrap();

    // Nothing is ever committed, as there is no checkpoint: what waits is not told from that.
    let job = KafkaJob {
        topics,
        capacity: 20_000,
        state_bytes: 100_000,
        flink_configuration: [("execution.checkpointing.interval".to_owned(), "1 h".to_owned())]
            .into(),
        ..KafkaJob::default()
    };
    let target = lab.submit_kafka(&job, |_| ()).await.unwrap();
    let watched = Watched { load, clock, job: EngineJobId(target.id().to_owned()) };
    let empty =
        |r: &Readings| !r.arrival().samples().is_empty() && newest(r.arrival().samples()) < 1.0;
    watched.until("nothing arrives yet, which is known", empty).await;

    let writer = Writer::start(&bootstrap);
    let begun = clock.now();
    let rate = RATE as f64;
    let steady = |r: &Readings| {
        let arrives = newest(r.arrival().samples()) > 0.0;
        let lag = r.lag();
        arrives && neighbours(lag.samples(), begun).any(|(a, b)| a.value.max(b.value) < 2.0 * rate)
    };
    let before = watched.until("what is written arrives and is read at once", steady).await;
    assert_eq!(before.sources.len(), 2, "{before:#?}");
    let findings = doctor::examine(&flink, Some(&watched.job), &settings, &reads).await;
    let well = findings.iter().all(|finding| finding.verdict == Verdict::Ok);
    assert!(well && findings.len() == 2, "{findings:#?}");

    let killed = clock.now();
    lab.kill_taskmanager(1);
    // By more than a steady job ever has, over several looks.
    let grows = |r: &Readings| {
        neighbours(r.lag().samples(), killed).count() >= 3
            && newest(r.lag().samples()) > 15.0 * rate
    };
    let down = watched.until("the lag grows while the job is down", grows).await;
    let lag = down.lag();
    let waits: Vec<Sample> = lag.samples().iter().copied().filter(|s| s.at > killed).collect();
    let (first, last) = (waits[0], waits[waits.len() - 1]);
    let known =
        down.arrival().samples().iter().filter(|s| s.at > killed && s.at <= last.at).count();
    // A look that took too long on a busy machine is missing, with what arrived before it.
    let looked = looks(killed, last.at);
    assert!(0 < known && known <= looked, "{known} of {looked}: {down:#?}");
    // Nobody reads: what waits is more by the events that arrived, all of them.
    let (grown, seen) = (last.value - first.value, arrived(&down, first.at, last.at));
    println!(
        "while down: {grown:.0} more wait, {seen:.0} seen to arrive, {known} of {looked} looks"
    );
    let all = known < looked || seen > 0.9 * grown;
    assert!(all && seen < 1.1 * grown, "{grown} more wait, {seen} arrived: {down:#?}");

    lab.start_taskmanager(1).unwrap();
    lab.ready().await.unwrap();
    let started = clock.now();
    let caught_up = |r: &Readings| {
        neighbours(r.lag().samples(), started).any(|(a, b)| a.value.max(b.value) < 2.0 * rate)
    };
    watched.until("the job has caught up", caught_up).await;

    let written = writer.stop();
    let drained =
        |r: &Readings| newest(r.arrival().samples()) == 0.0 && newest(r.lag().samples()) == 0.0;
    let at_last = watched.until("all is read, to the event", drained).await;
    let cluster = Cluster::uncommitted(&settings).unwrap();
    let ends = TOPICS.map(|(topic, _)| cluster.ends(topic).unwrap().values().sum::<i64>());
    assert_eq!(ends.iter().sum::<i64>(), written as i64);
    let seen = arrived(&at_last, Timestamp(0), clock.now());
    println!("written: {written}, seen to arrive: {seen:.0}");
    let arrival = at_last.arrival();
    let gapless =
        neighbours(arrival.samples(), Timestamp(0)).count() + 1 == arrival.samples().len();
    let written = written as f64;
    // A look that took too long is missing, with what arrived before it.
    assert!(seen < 1.1 * written && (!gapless || seen > 0.9 * written), "{arrival:#?}");
    let lag: Vec<(i64, f64)> = at_last
        .lag()
        .samples()
        .iter()
        .map(|s| ((s.at.0 - killed.0) / 1_000, s.value.round()))
        .collect();
    println!("lag by seconds from the kill: {lag:?}");
    lab.down().await.unwrap();
}
