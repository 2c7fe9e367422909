//! The paper's jobs on a real Flink and a real Kafka: what they commit is the same, whatever fails.
#![allow(clippy::unwrap_used, reason = "a test says what is broken by panicking")]
#![allow(clippy::print_stdout, reason = "what was measured is worth reading")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use khaos_adapters::flink::Flink;
use khaos_adapters::flink::doctor::Verdict;
use khaos_adapters::kafka::KafkaSettings;
use khaos_adapters::kafka::admin::doctor::examine;
use khaos_adapters::kafka::made::{Made, Maker};
use khaos_adapters::lab::{Lab, LabConfig, LabError, LabKafka, Pipeline, PipelineJob};
use khaos_control::act::driver::Driver;
use khaos_control::clock::Clock;
use khaos_control::core::job::{JobKey, JobRun, JobStatus};
use khaos_control::core::units::{CheckpointInterval, Timestamp};
use khaos_control::ports::{Actuator, Jobs};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

const JOBS: [(&str, Pipeline, Made); 2] =
    [("iot", Pipeline::IotVehicles, Made::IotVehicles), ("ysb", Pipeline::Ysb, Made::Ysb)];
const SEED: u64 = 7;
/// Of each topic.
const PARTITIONS: i32 = 2;
/// What is written to each input, events/s, and when the first one is due, epoch ms.
const RATE: u64 = 1_500;
const FIRST_MS: i64 = 1_764_054_000_000;
/// Of events that are due within so long, ms, the first ones are in time and the others late.
const PERIOD_MS: i64 = 1_500;
const IN_TIME_MS: i64 = 500;
/// How late: the last of a period still have to be behind the first by more than the bound, ms.
const LATE_BY_MS: i64 = 3_000;
/// Whatever the jobs do, events may be so far behind the latest one, ms.
const BOUND_MS: i64 = 1_000;
/// How often everything is killed.
const KILLS: u32 = 3;
/// How long anything may take that has no deadline of its own.
const PATIENCE: Duration = Duration::from_mins(3);

/// When event `n` is due, epoch ms.
fn due_ms(n: u64) -> i64 {
    FIRST_MS + (1_000 * n / RATE) as i64
}

/// Does event `n` come too late for the jobs? Many do that follow one another: a job that forgot at a restart what
/// came before would take them for punctual.
fn is_late(n: u64) -> bool {
    (due_ms(n) - FIRST_MS) % PERIOD_MS >= IN_TIME_MS
}

/// When event `n` happens, epoch ms.
fn happens_ms(n: u64) -> i64 {
    due_ms(n) - if is_late(n) { LATE_BY_MS } else { 0 }
}

/// At least so many events, of which the last of each partition is in time.
fn whole(least: u64) -> u64 {
    let turn = PARTITIONS as u64;
    let ends_in_time = |n: &u64| n.is_multiple_of(turn) && !(n - turn..*n).any(is_late);
    // A period has some.
    (least..least + 2 * RATE).find(ends_in_time).unwrap()
}

#[derive(Default)]
struct Acknowledged(AtomicU64);

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        assert!(result.is_ok(), "{result:?}");
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Writes events to all inputs, each when it is due, and goes on for 5 s after it was asked to stop. Says how
/// many each input has: as many in each partition.
fn write(bootstrap: &str, stop: &AtomicBool) -> u64 {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("enable.idempotence", "true");
    let producer: BaseProducer<Acknowledged> =
        config.create_with_context(Acknowledged::default()).unwrap();
    let mut makers = JOBS.map(|(name, _, made)| (input(name), Maker::new(made, SEED, PARTITIONS)));
    let begun = Instant::now();
    let mut until = u64::MAX;
    for n in 0.. {
        if until == u64::MAX && stop.load(Ordering::Relaxed) {
            until = whole(n + 5 * RATE);
        }
        if n == until {
            break;
        }
        let due = begun + Duration::from_millis(1_000 * n / RATE);
        producer.poll(due.saturating_duration_since(Instant::now()));
        for (topic, maker) in &mut makers {
            let event = maker.event(n, happens_ms(n));
            let mut record = BaseRecord::<[u8], [u8]>::to(topic)
                .partition(event.partition)
                .timestamp(event.timestamp_ms);
            record.key = event.key;
            record.payload = event.value;
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
    }
    producer.flush(PATIENCE).unwrap();
    let acknowledged = producer.context().0.load(Ordering::Relaxed);
    assert_eq!(acknowledged, until * JOBS.len() as u64);
    until
}

/// Up to when event time is known once a job has read `events`, epoch ms.
fn known_ms(events: u64) -> i64 {
    // In turn: the first of the last ones is the latest of the partition that is furthest behind.
    happens_ms(events - PARTITIONS as u64) - BOUND_MS
}

fn input(job: &str) -> String {
    format!("{job}-in")
}

fn output(job: &str, run: &str) -> String {
    format!("{job}-{run}")
}

async fn make_topics(bootstrap: &str) {
    let mut config = ClientConfig::new();
    let admin: AdminClient<DefaultClientContext> =
        config.set("bootstrap.servers", bootstrap).create().unwrap();
    let names: Vec<String> = JOBS
        .iter()
        .flat_map(|(name, ..)| [input(name), output(name, HURT), output(name, UNHURT)])
        .collect();
    let new = |name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1));
    let topics: Vec<NewTopic<'_>> = names.iter().map(|name| new(name)).collect();
    for made in admin.create_topics(&topics, &AdminOptions::new()).await.unwrap() {
        made.unwrap();
    }
}

/// What is in a topic, and how often: key and value.
type Results = BTreeMap<(String, String), u64>;

/// What a reader of committed events sees in `topic` now. Whoever drives goes on meanwhile.
async fn committed(bootstrap: &str, topic: &str) -> Results {
    let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
    let (tell, told) = oneshot::channel();
    std::thread::spawn(move || tell.send(read(&bootstrap, &topic)));
    told.await.unwrap()
}

fn read(bootstrap: &str, topic: &str) -> Results {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "reader")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut from = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        from.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&from).unwrap();
    let (mut results, mut ended) = (Results::new(), BTreeSet::new());
    while ended.len() < PARTITIONS as usize {
        match consumer.poll(PATIENCE).expect("the broker answers") {
            Ok(message) => {
                let text =
                    |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
                *results.entry((text(message.key()), text(message.payload()))).or_default() += 1;
            }
            Err(KafkaError::PartitionEOF(partition)) => {
                ended.insert(partition);
            }
            Err(error) => panic!("{topic}: {error}"),
        }
    }
    results
}

/// How many views the campaigns have in each window of those of `events` that `counts`, counted without Flink, in
/// those that have ended.
fn views_expected(events: u64, counts: impl Fn(u64) -> bool) -> Results {
    let mut maker = Maker::new(Made::Ysb, SEED, PARTITIONS);
    let mut views: BTreeMap<(u64, i64), u64> = BTreeMap::new();
    for n in (0..events).filter(|n| counts(*n)) {
        let event = json(maker.event(n, happens_ms(n)).value.unwrap());
        let start_ms = happens_ms(n) / 10_000 * 10_000;
        if event["event_type"] == "view" && start_ms + 10_000 <= known_ms(events) {
            let ad: u64 =
                event["ad_id"].as_str().unwrap().strip_prefix("ad-").unwrap().parse().unwrap();
            *views.entry((ad / 10, start_ms)).or_default() += 1;
        }
    }
    let result = |((campaign, start_ms), views)| {
        let key = format!("campaign-{campaign:02}");
        let value =
            format!(r#"{{"campaign_id":"{key}","window_start":{start_ms},"views":{views}}}"#);
        ((key, value), 1)
    };
    views.into_iter().map(result).collect()
}

/// Metres along a great circle, from degrees north and east to such.
fn distance_m(from: (f64, f64), to: (f64, f64)) -> f64 {
    let half_sin = |a: f64, b: f64| ((b - a).to_radians() / 2.0).sin();
    let narrower = from.0.to_radians().cos() * to.0.to_radians().cos();
    let haversine = half_sin(from.0, to.0).powi(2) + narrower * half_sin(from.1, to.1).powi(2);
    2.0 * 6_371_000.0 * haversine.sqrt().asin()
}

/// A plate, and the end of the window, epoch ms.
type Window = (String, i64);
/// km/h, and `None` where rounding decides whether there is a result.
type Speeds = BTreeMap<Window, Option<f64>>;
/// When a vehicle was where, epoch ms and degrees.
type Fix = (i64, (f64, f64));

/// How fast the vehicles of `events` are said to be, in windows that have ended: reckoned without Flink.
fn speeds_expected(events: u64) -> Speeds {
    let mut maker = Maker::new(Made::IotVehicles, SEED, PARTITIONS);
    // The first and the last of each.
    let mut tracks: BTreeMap<Window, [Fix; 2]> = BTreeMap::new();
    let mut speeds = Speeds::new();
    for n in (0..events).filter(|n| !is_late(*n)) {
        let at_ms = happens_ms(n);
        let event = json(maker.event(n, at_ms).value.unwrap());
        let plate = event["plate"].as_str().unwrap();
        let place = (event["lat"].as_f64().unwrap(), event["lon"].as_f64().unwrap());
        let away_m = distance_m((52.516_23, 13.385_32), place);
        let next_ms = at_ms / 1_000 * 1_000 + 1_000;
        for window in (0..5).map(|n| (plate.to_owned(), next_ms + 1_000 * n)) {
            if window.1 > known_ms(events) {
                continue;
            }
            if (away_m - 1_000.0).abs() < 0.5 {
                speeds.insert(window, None);
            } else if away_m < 1_000.0 {
                // Those of a vehicle that are in time are in the order of time.
                tracks.entry(window).or_insert([(at_ms, place); 2])[1] = (at_ms, place);
            }
        }
    }
    for (window, [(first_ms, from), (last_ms, to)]) in tracks {
        let kmh = 3_600.0 * distance_m(from, to) / (last_ms - first_ms) as f64;
        // One who was seen once is at none.
        if kmh >= 70.0 - CLOSE_KMH {
            speeds.entry(window).or_insert((kmh > 70.0 + CLOSE_KMH).then_some(kmh));
        }
    }
    speeds
}

/// How near speeds are that are the same, km/h: they are written with two decimals.
const CLOSE_KMH: f64 = 0.05;

fn same_speeds(seen: &Results, expected: &Speeds) {
    let speed = |(plate, value): &(String, String)| {
        let value = json(value.as_bytes());
        let window = (plate.clone(), value["window_end"].as_i64().unwrap());
        (window, value["kmh"].as_f64().unwrap())
    };
    let seen: BTreeMap<Window, f64> = seen.keys().map(speed).collect();
    let windows: BTreeSet<&Window> = seen.keys().chain(expected.keys()).collect();
    let differs = |window: &&Window| match (seen.get(*window), expected.get(*window)) {
        (_, Some(None)) => false,
        (Some(seen), Some(Some(expected))) => (seen - expected).abs() > CLOSE_KMH,
        _ => true,
    };
    let both = |window| (window, seen.get(window), expected.get(window));
    let wrong: Vec<_> = windows.into_iter().filter(differs).map(both).take(5).collect();
    assert!(wrong.is_empty(), "seen and expected: {wrong:#?}");
    let open = expected.values().filter(|kmh| kmh.is_none()).count();
    println!("iot: {} speeds, {open} of them too close to call", expected.len());
    assert!(open < expected.len() / 20);
}

fn json(value: &[u8]) -> Value {
    serde_json::from_slice(value).unwrap()
}

/// The windows that all results are of, by their end, epoch ms.
fn window_ends(results: &Results) -> BTreeSet<i64> {
    let end_ms = |value: &str| {
        let value = json(value.as_bytes());
        let start_ms = value["window_start"].as_i64();
        value["window_end"].as_i64().or(start_ms.map(|start| start + 10_000)).unwrap()
    };
    results.keys().map(|(_, value)| end_ms(value)).collect()
}

/// Says so little of what differs that it can be read.
fn same(what: &str, seen: &Results, expected: &Results) {
    let only = |these: &Results, those: &Results| -> Vec<String> {
        let differs = these.iter().filter(|(result, times)| those.get(result) != Some(times));
        differs.map(|((_, value), times)| format!("{times} × {value}")).take(5).collect()
    };
    let (more, less) = (only(seen, expected), only(expected, seen));
    assert!(more.is_empty() && less.is_empty(), "{what}: there is {more:#?} instead of {less:#?}");
}

const HURT: &str = "hurt";
const UNHURT: &str = "unhurt";

struct Bench {
    lab: Lab,
    bootstrap: String,
    flink: Flink,
    driver: Driver,
    generation: u64,
}

impl Bench {
    /// Both jobs, of one run.
    async fn submit(&self, run: &str) -> Vec<JobRun> {
        let mut runs = Vec::new();
        for (name, pipeline, _) in JOBS {
            let job = PipelineJob {
                // What is driven replaces the job's own checkpoints.
                flink_configuration: ["interval", "min-pause"]
                    .map(|key| (format!("execution.checkpointing.{key}"), "5 s".to_owned()))
                    .into(),
                ..PipelineJob::new(&output(name, run), pipeline, &input(name), &output(name, run))
            };
            self.lab.submit_pipeline(&job, |step| println!("{step}")).await.unwrap();
            runs.push(self.running(&job.name, 0).await);
        }
        runs
    }

    async fn refuses_a_subtask_without_a_partition(&self) {
        let job = PipelineJob {
            parallelism: 3,
            ..PipelineJob::new("wide", Pipeline::Ysb, &input("ysb"), &output("ysb", HURT))
        };
        let said = self.lab.submit_pipeline(&job, |step| println!("{step}")).await.unwrap_err();
        assert!(
            matches!(said, LabError::FewPartitions { partitions: PARTITIONS, subtasks: 3, .. }),
            "{said}"
        );
        let nowhere = PipelineJob { input: "nowhere".to_owned(), ..job };
        let said = self.lab.submit_pipeline(&nowhere, |_| ()).await.unwrap_err().to_string();
        assert!(said.starts_with("there is no topic 'nowhere'"), "{said}");
    }

    /// The job runs, and was restarted so often at least.
    async fn running(&self, name: &str, attempts: u32) -> JobRun {
        let begun = Instant::now();
        loop {
            let run = self.flink.describe(&JobKey(name.to_owned())).await;
            if let Ok(run) = &run
                && run.status == JobStatus::Running
                && run.running_since.is_some()
                && run.attempt >= attempts
            {
                return run.clone();
            }
            assert!(begun.elapsed() < PATIENCE, "{name} does not run again: {run:?}");
            pause(0.25).await;
        }
    }

    async fn drive(&mut self, runs: &[JobRun], interval_s: u32) {
        self.generation += 1;
        let interval = CheckpointInterval::from_secs(interval_s).unwrap();
        for run in runs {
            self.driver.apply(run, interval, self.generation).await.unwrap();
        }
    }

    /// How many results each job has committed in `run`, once both have more than `before`.
    async fn more(&self, run: &str, before: [usize; 2]) -> [usize; 2] {
        let [one, other] = JOBS.map(|(name, ..)| output(name, run));
        let of = async |topic: &str| committed(&self.bootstrap, topic).await.len();
        let begun = Instant::now();
        loop {
            let counts = [of(&one).await, of(&other).await];
            if counts.iter().zip(before).all(|(count, before)| *count > before) {
                return counts;
            }
            assert!(begun.elapsed() < PATIENCE, "{run}: {counts:?} results, not above {before:?}");
            pause(0.5).await;
        }
    }

    /// What a job committed in `run` once it has read all `events` and nothing more comes.
    async fn settled(&self, name: &str, run: &str, events: u64) -> Results {
        // A window ends every second, or every 10 s.
        let step_ms = if name == "ysb" { 10_000 } else { 1_000 };
        let last_ms = known_ms(events) / step_ms * step_ms;
        let begun = Instant::now();
        let topic = output(name, run);
        loop {
            let results = committed(&self.bootstrap, &topic).await;
            let ends = window_ends(&results);
            if ends.last() == Some(&last_ms) {
                // What would come twice would come by now.
                pause(8.0).await;
                let later = committed(&self.bootstrap, &topic).await;
                if later == results {
                    return results;
                }
            }
            let reached = ends.last();
            assert!(begun.elapsed() < PATIENCE, "{topic} is at {reached:?}, not at {last_ms}");
            pause(1.0).await;
        }
    }

    async fn cancel(&self, run: &JobRun) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("{}/jobs/{}", self.lab.rest_url(), run.engine_id);
        client.patch(url).send().await.unwrap().error_for_status().unwrap();
    }
}

async fn pause(seconds: f64) {
    sleep_until(Instant::now() + Duration::from_secs_f64(seconds)).await;
}

async fn up() -> (tempfile::TempDir, Bench) {
    let dir = tempfile::tempdir().unwrap();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = std::env::var_os("KHAOS_CACHE").map(PathBuf::from);
    let cache = cache.unwrap_or(workspace.join("target/lab-cache"));
    let config = LabConfig {
        port_base: 25_600,
        task_managers: 1,
        slots: 4,
        kafka: Some(LabKafka::default()),
        ..LabConfig::new(dir.path().join("lab"), cache)
    };
    let lab = Lab::up(config, |step| println!("{step}")).await.unwrap();
    let bootstrap = lab.bootstrap().unwrap().to_owned();
    make_topics(&bootstrap).await;
    let clock = Clock::anchored(Timestamp(1_000_000));
    let flink = Flink::at(lab.rest_url(), clock).unwrap();
    let port = Arc::new(flink.clone());
    let driver = Driver::new(clock, port.clone(), port);
    (dir, Bench { lab, bootstrap, flink, driver, generation: 0 })
}

#[tokio::test]
#[ignore = "starts a real Flink and a real Kafka: ./test.sh runs it"]
async fn what_is_committed_is_the_same_with_failures_and_without() {
    let (_dir, mut bench) = up().await;
    bench.refuses_a_subtask_without_a_partition().await;
    let hurt = bench.submit(HURT).await;
    let bootstrap = bench.bootstrap.clone();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let writer = std::thread::spawn(move || write(&bootstrap, &stopped));
    // Every kill hits jobs that have committed something since the one before, and they do so again after it.
    let (mut hit, mut reached) = (Vec::new(), [0; 2]);
    for kills in 1..=KILLS {
        bench.drive(&hurt, 1).await;
        reached = bench.more(HURT, reached).await;
        hit.push(reached);
        let mut attempts = Vec::new();
        for run in &hurt {
            attempts.push(bench.running(&run.key.0, 0).await.attempt);
        }
        bench.lab.kill_taskmanager(1);
        bench.lab.start_taskmanager(1).unwrap();
        bench.lab.ready().await.unwrap();
        for (run, before) in hurt.iter().zip(attempts) {
            bench.running(&run.key.0, before + 1).await;
        }
        // Another interval for a while.
        bench.drive(&hurt, 2 + kills % 2).await;
        reached = bench.more(HURT, reached).await;
    }
    stop.store(true, Ordering::Relaxed);
    while !writer.is_finished() {
        pause(0.25).await;
    }
    let events = writer.join().unwrap();
    let mut seen = Vec::new();
    for (name, ..) in JOBS {
        seen.push(bench.settled(name, HURT, events).await);
    }
    let late = (0..events).filter(|n| is_late(*n)).count();
    println!("{events} events, {late} of them late; results before each kill: {hit:?}");
    for run in &hurt {
        let attempt = bench.running(&run.key.0, 0).await.attempt;
        println!("{}: restarted {attempt} times", run.key);
        bench.driver.release(run).await.unwrap();
        bench.cancel(run).await;
    }
    // A Java that has loaded neither job yet.
    bench.lab.kill_taskmanager(1);
    bench.lab.start_taskmanager(1).unwrap();
    bench.lab.ready().await.unwrap();

    let unhurt = bench.submit(UNHURT).await;
    for ((name, ..), seen) in JOBS.iter().zip(&seen) {
        let expected = bench.settled(name, UNHURT, events).await;
        println!("{name}: {} results", expected.len());
        same(name, seen, &expected);
        assert!(expected.values().all(|times| *times == 1), "{name}: each window once");
    }
    let settings = KafkaSettings::at(&bench.bootstrap).unwrap();
    for run in &unhurt {
        // Its ids are as the doctor takes them to be, and 15 min are enough for all that the lab sets.
        let prefix = [run.key.0.as_str()];
        let found = examine(&bench.flink, &run.engine_id, &settings, &prefix, None).await;
        assert_eq!(found[0].verdict, Verdict::Ok, "{found:?}");
        assert!(found[0].seen.contains("after 900 s"), "{found:?}");
        println!("{}", found[0].seen);
        let attempt = bench.running(&run.key.0, 0).await.attempt;
        println!("{}: restarted {attempt} times", run.key);
    }
    same_speeds(&seen[0], &speeds_expected(events));
    let views = views_expected(events, |n| !is_late(n));
    same("ysb, counted by hand", &seen[1], &views);
    assert_ne!(views, views_expected(events, |_| true), "what is late is missing");
    bench.lab.down().await.unwrap();
}
