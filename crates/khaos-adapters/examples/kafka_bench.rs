//! What recording and replaying costs, on a real Kafka of the lab, beside the tools of its distribution.
//!
//! `kafka_bench pace|throughput|recorder|large [--events N] [--port-base P] [--cache DIR]`, built with --release, on
//! a machine that does nothing else. Prints one JSON document.
//! - `pace`: a schedule with steps around 20,000 events/s, by the broker's timestamps.
//! - `throughput`: a replay at full speed beside ProducerPerformance, in turn.
//! - `recorder`: a recording of a topic that is full beside ConsumerPerformance, and beside librdkafka with nothing
//!   done about what it reads, in turn.
//! - `large`: a recording of many small events, written, opened, sought by time and replayed, with the
//!   memory that each took.
#![allow(clippy::unwrap_used, reason = "whoever measures wants to see what broke")]
#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use khaos_adapters::kafka::pace::{Pace, Schedule};
use khaos_adapters::kafka::record::{From, RecordConfig, Recorder};
use khaos_adapters::kafka::replay::{Moment, Replay, ReplayConfig, Replayed, Source};
use khaos_adapters::kafka::{Cluster, KafkaSettings};
use khaos_adapters::lab::{Lab, LabConfig};
use khaos_adapters::recording::{Event, Manifest, Recording, Stores, TimestampKind, Writer};
use khaos_control::clock::Clock;
use khaos_control::core::units::Timestamp;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};
use tokio::time::Instant;

const PARTITIONS: i32 = 4;
/// Epoch ms of the first event of every recording here.
const BEGUN_MS: i64 = 1_700_000_000_000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_default();
    let options: Vec<String> = arguments.collect();
    let option = |name: &str| {
        let at = options.iter().position(|option| option == name)?;
        options.get(at + 1).cloned()
    };
    let events = |usual| option("--events").map_or(usual, |events| events.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut config = LabConfig::only_kafka(
        folder.path().join("lab"),
        option("--cache").map_or_else(|| PathBuf::from("target/lab-cache"), PathBuf::from),
    );
    if let Some(base) = option("--port-base") {
        config.port_base = base.parse().unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let measured = runtime.block_on(async {
        let lab = Lab::up(config, eprint_line).await.unwrap();
        let bench = Bench { lab, folder: folder.path().to_owned() };
        let measured = match what.as_str() {
            "pace" => bench.pace().await,
            "throughput" => bench.throughput(events(3_000_000)).await,
            "recorder" => bench.recorder(events(10_000_000)).await,
            "large" => bench.large(events(50_000_000)).await,
            _ => panic!(
                "kafka_bench pace|throughput|recorder|large [--events N] [--port-base P] [--cache DIR]"
            ),
        };
        bench.lab.down().await.unwrap();
        measured
    });
    println!("{measured:#}");
}

#[allow(clippy::print_stderr, reason = "progress is for people")]
fn eprint_line(line: &str) {
    eprintln!("{line}");
}

struct Bench {
    lab: Lab,
    folder: PathBuf,
}

impl Bench {
    /// Steps around 20,000 events/s: how many events the broker stamped in each second of the schedule.
    async fn pace(&self) -> Value {
        const ROUND: [u32; 12] = [
            20_000, 20_000, 25_000, 15_000, 20_000, 5_000, 40_000, 20_000, 18_000, 22_000, 20_000,
            20_000,
        ];
        let step_s = 5_u32;
        // Of fewer than a hundred seconds, the worst would be the 99th percentile.
        let rates = ROUND.repeat(4);
        let rows: Vec<(f64, f64)> =
            (0..).zip(&rates).map(|(i, rate)| (f64::from(i * step_s), f64::from(*rate))).collect();
        let pace = Pace::Scheduled(Schedule::new(&rows).unwrap());
        let all = pace.events().unwrap();
        let recording = self.record("pace", all, 100, 100_000);
        // A broker that has just started compiles first, what it is asked by a replay at a pace.
        self.create("warm", &[("message.timestamp.type", "LogAppendTime")]).await;
        let warming = Schedule::new(&[(0.0, 20_000.0), (15.0, 20_000.0)]).unwrap();
        self.replay(config(&recording, "warm", Pace::Scheduled(warming))).await;
        self.create("paced", &[("message.timestamp.type", "LogAppendTime")]).await;
        let replayed = self.replay(config(&recording, "paced", pace.clone())).await;
        assert_eq!(replayed.spoilt, None);

        let mut stamps: Vec<i64> = Vec::with_capacity(all as usize);
        self.read("paced", |stamp_ms| stamps.push(stamp_ms - replayed.started_ms));
        stamps.sort_unstable();
        let late_ms: Vec<f64> =
            (0..).zip(&stamps).map(|(n, at)| *at as f64 - due_ms(&pace, n)).collect();
        // How long events are on their way, which is what all of them are later than due.
        let on_its_way_ms = median(&late_ms);
        let expected: Vec<f64> =
            rates.iter().flat_map(|rate| [f64::from(*rate)].repeat(step_s as usize)).collect();
        // How much later than due the events were stamped, on average, by parts of the schedule.
        let behind_ms: Vec<f64> = late_ms
            .chunks(late_ms.len().div_ceil(rates.len()))
            .map(|part| part.iter().sum::<f64>() / part.len() as f64)
            .collect();
        json!({
            "events": all,
            "stamped": stamps.len(),
            "stamped_before_due": late_ms.iter().filter(|late| **late <= -1.0).count(),
            "on_its_way_ms": on_its_way_ms,
            "sent": by_second(&stamps, 0.0, &expected),
            "arrived": by_second(&stamps, on_its_way_ms, &expected),
            "behind_ms": behind_ms,
            "drift_ms": behind_ms[behind_ms.len() - 1] - behind_ms[0],
            "late_max_s": replayed.late_max_s,
        })
    }

    /// In turn: a replay at full speed, and the distribution's own tool.
    async fn throughput(&self, events: u64) -> Value {
        const VALUE: usize = 200;
        let recording = self.record("throughput", events, VALUE, 1_000_000);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..5 {
            let topic = format!("ours-{round}");
            self.create(&topic, &[]).await;
            let replayed = self.replay(config(&recording, &topic, Pace::Full)).await;
            assert_eq!(replayed.spoilt, None);
            ours.push(replayed.acknowledged as f64 / replayed.took_s);
            self.delete(&topic).await;

            let topic = format!("theirs-{round}");
            self.create(&topic, &[]).await;
            theirs.push(self.producer_performance(&topic, events, VALUE));
            self.delete(&topic).await;
            eprint_line(&format!(
                "round {round}: {:.0} and {:.0} events/s",
                ours[round], theirs[round]
            ));
        }
        let ratio = median(&ours) / median(&theirs);
        json!({ "events": events, "value_bytes": VALUE, "ours_eps": ours, "theirs_eps": theirs, "ratio": ratio })
    }

    /// In turn: a recorder that begins at the beginning, and the distribution's own tool.
    async fn recorder(&self, events: u64) -> Value {
        const VALUE: usize = 100;
        let full = self.record("full", events, VALUE, 1_000_000);
        self.create("full", &[]).await;
        assert_eq!(self.replay(config(&full, "full", Pace::Full)).await.spoilt, None);
        std::fs::remove_dir_all(full).unwrap();
        let (mut ours, mut theirs, mut client) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..5 {
            ours.push(self.recorded(round, events));
            theirs.push(self.consumer_performance("full", events));
            // As the tool counts: without what it takes to begin.
            let mut begun = None;
            self.read("full", |_| {
                begun.get_or_insert_with(Instant::now);
            });
            client.push(events as f64 / begun.unwrap().elapsed().as_secs_f64());
            eprint_line(&format!(
                "round {round}: {:.0}, {:.0} and {:.0} events/s",
                ours[round], theirs[round], client[round]
            ));
        }
        json!({
            "events": events,
            "value_bytes": VALUE,
            "ours_eps": ours,
            "theirs_eps": theirs,
            "client_alone_eps": client,
            "ratio": median(&ours) / median(&theirs),
            "ratio_client_alone": median(&client) / median(&theirs),
        })
    }

    /// Events/s of a recorder until it last told of progress before it had all: that is once a second.
    fn recorded(&self, round: usize, events: u64) -> f64 {
        let folder = self.folder.join(format!("recorded-{round}"));
        let config = RecordConfig {
            topic: "full".to_owned(),
            folder: folder.clone(),
            stores: Stores::Events,
            group: "bench-recorder".to_owned(),
            from: From::Beginning,
            length: None,
            max_bytes: None,
            patience: Duration::from_mins(1),
        };
        let recorder = Recorder::begin(&self.settings(), config, clock()).unwrap();
        let (stop, begun) = (AtomicBool::new(false), Instant::now());
        let mut told = None;
        let (recorded, result) = recorder.run(&stop, |progress| {
            if progress.events < events {
                told = Some(progress.events as f64 / begun.elapsed().as_secs_f64());
            } else {
                stop.store(true, Ordering::Relaxed);
            }
        });
        result.unwrap();
        assert_eq!(recorded.events, Some(events));
        std::fs::remove_dir_all(folder).unwrap();
        told.expect("it takes longer than a second: give more --events")
    }

    /// Events/s without the time that it takes to join its group, as the tool itself says.
    fn consumer_performance(&self, topic: &str, events: u64) -> f64 {
        let mut tool =
            self.lab.kafka_program("org.apache.kafka.tools.ConsumerPerformance").unwrap();
        tool.args(["--topic", topic, "--num-records", &events.to_string()]);
        tool.args(["--bootstrap-server", self.lab.bootstrap().unwrap()]);
        let output = tool.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let rows: Vec<Vec<&str>> =
            said.lines().map(|line| line.split(',').map(str::trim).collect()).collect();
        let place = |row: &Vec<&str>| row.iter().position(|name| *name == "fetch.nMsg.sec");
        let rate = rows.iter().find_map(place).and_then(|at| rows.last()?.get(at)?.parse().ok());
        rate.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Events/s, as the tool itself says.
    fn producer_performance(&self, topic: &str, events: u64, bytes: usize) -> f64 {
        let mut tool =
            self.lab.kafka_program("org.apache.kafka.tools.ProducerPerformance").unwrap();
        tool.args(["--topic", topic, "--throughput", "-1"]);
        tool.args(["--num-records", &events.to_string(), "--record-size", &bytes.to_string()]);
        tool.args(["--bootstrap-server", self.lab.bootstrap().unwrap()]);
        tool.args(["--command-property", "acks=all"]);
        let output = tool.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let last = said
            .lines()
            .rfind(|line| line.contains("records/sec"))
            .unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
        let rate = last.split(", ").nth(1).and_then(|part| part.split(' ').next());
        rate.unwrap().parse().unwrap()
    }

    /// A recording of many events: bytes, seconds and peak memory of everything that is done with it.
    async fn large(&self, events: u64) -> Value {
        let begun = Instant::now();
        let folder = self.record("large", events, 40, 20_000);
        let written = json!({ "s": begun.elapsed().as_secs_f64(), "peak_mb": peak_mb() });

        let begun = Instant::now();
        let recording = Recording::open(&folder).unwrap();
        let summary = recording.summary();
        let opened = json!({ "s": begun.elapsed().as_secs_f64(), "peak_mb": peak_mb() });

        let begun = Instant::now();
        let middle_ms = BEGUN_MS + (events as i64 / 2) * 1_000 / 20_000;
        let mut sought = recording.events(middle_ms, i64::MAX).unwrap();
        let (first_ms, _) = sought.next().unwrap().unwrap();
        let took_s = begun.elapsed().as_secs_f64();
        let sought = json!({ "s": took_s, "late_ms": first_ms - middle_ms, "peak_mb": peak_mb() });

        self.create("large", &[]).await;
        let begun_ms =
            |config: ReplayConfig| ReplayConfig { from: Some(Moment::At(middle_ms)), ..config };
        let replayed = self.replay(begun_ms(config(&folder, "large", Pace::Full))).await;
        assert_eq!(replayed.spoilt, None);
        json!({
            "events": summary.events,
            "bytes": summary.bytes,
            "written": written,
            "opened": opened,
            "sought": sought,
            "replayed": {
                "events": replayed.acknowledged,
                "s": replayed.took_s,
                "eps": replayed.acknowledged as f64 / replayed.took_s,
                "peak_mb": peak_mb(),
            },
        })
    }

    /// A recording of `events` at a constant rate.
    fn record(&self, name: &str, events: u64, value: usize, rate: i64) -> PathBuf {
        let folder = self.folder.join(name);
        let (topic, timestamps) = (name.to_owned(), TimestampKind::Create);
        let manifest =
            Manifest { topic, partitions: PARTITIONS, timestamps, stores: Stores::Events };
        let mut writer = Writer::create(&folder, manifest).unwrap();
        // As the distribution's tool makes them: letters by chance.
        let mut chance = 1_u64;
        let mut letters = vec![0_u8; value + 1_000_003];
        for letter in &mut letters {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *letter = b'A' + (chance >> 33) as u8 % 26;
        }
        for n in 0..events {
            let at = (n as usize * 7_919) % 1_000_003;
            let event = Event {
                partition: n as i32 % PARTITIONS,
                offset: n as i64 / i64::from(PARTITIONS),
                timestamp_ms: BEGUN_MS + n as i64 * 1_000 / rate,
                key: None,
                value: Some(&letters[at..at + value]),
                headers: Vec::new(),
            };
            writer.append(&event).unwrap();
        }
        writer.finish().unwrap();
        folder
    }

    async fn replay(&self, config: ReplayConfig) -> Replayed {
        let replay = Replay::prepare(&self.settings(), config).unwrap();
        replay.run(clock(), std::future::pending(), |_| ()).await
    }

    /// Every timestamp in a topic, which only this bench has written to.
    fn read(&self, topic: &str, mut stamped: impl FnMut(i64)) {
        let consumer: BaseConsumer = self
            .client()
            .set("group.id", "bench")
            .set("enable.auto.commit", "false")
            // As the recorder has them.
            .set("queued.max.messages.kbytes", "32768")
            .set("queued.min.messages", "300000")
            .set("fetch.queue.backoff.ms", "5")
            .set("fetch.message.max.bytes", "4194304")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.min.bytes", "65536")
            .set("enable.auto.offset.store", "false")
            .set("check.crcs", "true")
            .create()
            .unwrap();
        let mut all = TopicPartitionList::new();
        let mut left = 0;
        for partition in 0..PARTITIONS {
            all.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
            let wait = Duration::from_secs(10);
            left += consumer.fetch_watermarks(topic, partition, wait).unwrap().1;
        }
        consumer.assign(&all).unwrap();
        while left > 0 {
            let message = consumer.poll(Duration::from_secs(30)).unwrap().unwrap();
            stamped(message.timestamp().to_millis().unwrap());
            left -= 1;
        }
    }

    fn settings(&self) -> KafkaSettings {
        KafkaSettings::at(self.lab.bootstrap().unwrap()).unwrap()
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.lab.bootstrap().unwrap());
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().unwrap()
    }

    async fn create(&self, topic: &str, settings: &[(&str, &str)]) {
        let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
        let new = settings.iter().fold(new, |new, (key, value)| new.set(key, value));
        let made = self.admin().create_topics([&new], &AdminOptions::new()).await.unwrap();
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        // The broker hears of it a little later than its controller.
        let cluster = Cluster::at(&self.settings()).unwrap();
        while cluster.partitions(topic).ok() != Some(PARTITIONS) {}
    }

    async fn delete(&self, topic: &str) {
        let gone = self.admin().delete_topics(&[topic], &AdminOptions::new()).await.unwrap();
        assert!(gone.iter().all(Result::is_ok), "{gone:?}");
    }
}

fn config(recording: &Path, into: &str, pace: Pace) -> ReplayConfig {
    ReplayConfig {
        source: Source::Recording(recording.to_owned()),
        from: None,
        to: None,
        into: into.to_owned(),
        pace,
        shift_time: false,
        shift_field: None,
        max_late: Duration::from_secs(5),
        patience: Duration::from_mins(1),
    }
}

/// How far off the counts of events by second are, which are stamped at `stamps`, ms after second 0 of the
/// schedule, when seconds are counted from `begin_ms` after it.
fn by_second(stamps: &[i64], begin_ms: f64, expected: &[f64]) -> Value {
    let mut counts = vec![0_u64; expected.len() + 1];
    for at in stamps {
        let second = ((*at as f64 - begin_ms) / 1_000.0).floor().max(0.0) as usize;
        counts[second.min(expected.len())] += 1;
    }
    let errors: Vec<f64> =
        counts.iter().zip(expected).map(|(count, due)| *count as f64 / due - 1.0).collect();
    let mut sizes: Vec<f64> = errors.iter().map(|error| error.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    json!({
        "error_median": sizes[sizes.len() / 2],
        "error_p99": sizes[(sizes.len() * 99).div_ceil(100) - 1],
        "error_max": sizes[sizes.len() - 1],
        "beyond_the_end": counts[expected.len()],
        "errors": errors,
    })
}

fn due_ms(pace: &Pace, n: u64) -> f64 {
    1_000.0 * pace.due_s(n, 0.0).unwrap_or(f64::NAN)
}

fn clock() -> Clock {
    #[allow(clippy::disallowed_methods, reason = "the anchor, which is compared with the broker's")]
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    Clock::anchored(Timestamp(since.as_millis() as i64))
}

/// The most memory that was resident since this was asked last, MB.
fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    kib * 1_024.0 / 1e6
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
