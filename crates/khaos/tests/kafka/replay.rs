//! `khaos replay`: what arrives, and when; and what it says when something is in its way.

use std::path::{Path, PathBuf};
use std::process::Command;

use khaos_adapters::kafka::made::{Made, Maker};
use khaos_adapters::lab::LabKafka;
use khaos_adapters::recording::{Event, Header, Manifest, Stores, TimestampKind, Writer};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::bench::{Broker, Khaos, PATIENCE, in_real_time, wait_for};

const PARTITIONS: i32 = 3;
const EVENTS: usize = 20_000;
/// When the first event was recorded, epoch ms. Ten of them came every ms.
const BEGUN_MS: i64 = 1_764_054_000_000;

/// An event as it is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    partition: i32,
    timestamp_ms: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Event `n` of the recording: everything that an event may have, and lack.
fn known(n: usize) -> Known {
    let (header, bytes) =
        (|name: &str| name.to_owned(), |text: &str| Some(text.as_bytes().to_vec()));
    // Every 50th was 40 ms on its way.
    let timestamp_ms = BEGUN_MS + n as i64 / 10 - if n % 50 == 49 { 40 } else { 0 };
    Known {
        partition: (n % 7) as i32 % PARTITIONS,
        timestamp_ms,
        key: match n % 5 {
            0 => None,
            1 => bytes(""),
            _ => bytes(&format!("key {}", n % 1_000)),
        },
        value: match n % 11 {
            8 => None,
            9 => bytes(""),
            10 => Some(vec![0, 255, 13, 10, (n % 256) as u8]),
            _ => bytes(&format!(
                "{{\"n\": {n}, \"at\": {{\"t\":{timestamp_ms}}}, \"ä\":\"\\u00e4\"}}"
            )),
        },
        headers: match n % 3 {
            0 => vec![],
            1 => vec![(header("same"), bytes("one")), (header("same"), bytes("other"))],
            _ => vec![(header("none"), None), (header("empty"), bytes(""))],
        },
    }
}

/// Writes the recording; the first offset of partition p is 1,000·p.
fn record(folder: &Path) {
    let manifest = Manifest {
        topic: "original".to_owned(),
        partitions: PARTITIONS,
        timestamps: TimestampKind::Create,
        stores: Stores::Events,
    };
    let mut writer = Writer::create(folder, manifest).unwrap();
    let mut offsets: Vec<i64> =
        (0..PARTITIONS).map(|partition| 1_000 * i64::from(partition)).collect();
    for known in (0..EVENTS).map(known) {
        let offset = &mut offsets[known.partition as usize];
        let event = Event {
            partition: known.partition,
            offset: *offset,
            timestamp_ms: known.timestamp_ms,
            key: known.key.as_deref(),
            value: known.value.as_deref(),
            headers: known
                .headers
                .iter()
                .map(|(name, value)| Header { name, value: value.as_deref() })
                .collect(),
        };
        writer.append(&event).unwrap();
        *offset += 1;
    }
    writer.finish().unwrap();
}

/// A broker, and a recording that is not from it.
struct Bench {
    broker: Broker,
    recording: PathBuf,
}

impl Bench {
    async fn up(port_base: u16, kafka: LabKafka) -> Self {
        let broker = Broker::up(port_base, kafka).await;
        let recording = broker.new_folder("recording");
        record(&recording);
        Self { broker, recording }
    }

    /// A topic whose timestamps are the broker's.
    async fn create_stamping(&self, topic: &str) {
        let admin: AdminClient<DefaultClientContext> = self.broker.client.create().unwrap();
        let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1))
            .set("message.timestamp.type", "LogAppendTime");
        let made = admin.create_topics([&new], &AdminOptions::new()).await.unwrap();
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        // The broker hears of it a little later than its controller.
        let reader: BaseConsumer = self.broker.client.create().unwrap();
        wait_for("the topic to be there", async || {
            let found = reader.fetch_metadata(Some(topic), PATIENCE).ok()?;
            (found.topics()[0].partitions().len() == PARTITIONS as usize).then_some(())
        })
        .await;
    }

    /// How many events a topic has.
    fn count(&self, topic: &str) -> i64 {
        self.broker.ends(topic, PARTITIONS).values().sum()
    }

    /// Everything in a topic, each partition in its order.
    fn read(&self, topic: &str) -> Vec<Known> {
        let mut config = self.broker.client.clone();
        let consumer: BaseConsumer = config.set("group.id", "reader").create().unwrap();
        let mut all = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            all.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&all).unwrap();
        let mut read: Vec<Known> = (0..self.count(topic))
            .map(|_| {
                let message = consumer.poll(PATIENCE).unwrap().unwrap();
                let headers = message.headers().map_or(vec![], |headers| {
                    let owned = |bytes: &[u8]| bytes.to_vec();
                    headers.iter().map(|h| (h.key.to_owned(), h.value.map(owned))).collect()
                });
                Known {
                    partition: message.partition(),
                    timestamp_ms: message.timestamp().to_millis().unwrap(),
                    key: message.key().map(<[u8]>::to_vec),
                    value: message.payload().map(<[u8]>::to_vec),
                    headers,
                }
            })
            .collect();
        read.sort_by_key(|known| known.partition);
        read
    }

    /// `khaos replay` with these arguments, of the recording where they name no topic.
    fn replay(&self, arguments: &[&str]) -> Khaos {
        let mut command = Command::new(env!("CARGO_BIN_EXE_khaos"));
        command.args(["replay", "--bootstrap", &self.broker.bootstrap]);
        if !arguments.iter().any(|argument| ["--topic", "--recording"].contains(argument)) {
            command.arg("--recording").arg(&self.recording);
        }
        Khaos::of(command.args(arguments))
    }

    /// The document of a replay that has to succeed, however slow the machine is.
    fn replayed(&self, arguments: &[&str]) -> Value {
        let said = self.replay(&[arguments, &["--json", "--max-late", "10m"]].concat()).ends();
        let document = said.json();
        assert_eq!(said.code, Some(0), "{document:#}");
        assert_eq!(document["spoilt"], Value::Null);
        assert_eq!(document["unacknowledged"], 0);
        document
    }

    /// The error of a replay that must not begin.
    fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let said = self.replay(arguments).ends();
        assert_eq!((said.code, said.out.as_str()), (Some(code), ""), "{}", said.errors);
        said.errors
    }
}

/// The document of a replay that must be spoilt.
fn spoilt(khaos: Khaos) -> Value {
    let said = khaos.ends();
    let document = said.json();
    assert_eq!(said.code, Some(1), "{document:#}");
    let count = |name: &str| document[name].as_i64().unwrap();
    assert_eq!(count("sent"), count("acknowledged") + count("unacknowledged"));
    document
}

/// The recording, each partition in its order.
fn recorded() -> Vec<Known> {
    let mut recorded: Vec<Known> = (0..EVENTS).map(known).collect();
    recorded.sort_by_key(|known| known.partition);
    recorded
}

/// One broker for everything that needs no users.
#[test]
#[ignore = "starts a real Kafka: ./test.sh runs it"]
fn what_was_recorded_comes_again() {
    in_real_time(async {
        let mut bench = Bench::up(27_800, LabKafka::default()).await;
        for topic in ["whole", "again", "stretch", "torn", "cut", "iot", "ysb", "broken"] {
            bench.broker.create(topic, PARTITIONS).await;
        }
        bench.broker.create("narrow", 2).await;
        bench.create_stamping("paced").await;
        everything_is_there(&bench);
        a_torn_end_is_told(&bench);
        a_stretch_of_a_topic_is_moved_in_time(&bench);
        what_is_in_its_way_is_one_error(&bench);
        nothing_comes_before_it_is_due(&bench);
        what_is_made_carries_when_it_is_due(&bench);
        a_broker_that_dies_spoils_it(&mut bench).await;
        bench.broker.lab.down().await.unwrap();
    });
}

fn everything_is_there(bench: &Bench) {
    let document = bench.replayed(&["--into", "whole", "--full-speed"]);
    assert_eq!(document["acknowledged"], EVENTS);
    assert_eq!(document["late_max_s"], Value::Null);
    assert_eq!(document["torn"], Value::Null);
    assert_eq!(bench.read("whole"), recorded());

    // Event 49 was recorded first: 40 ms late, and so 36 ms before event 0.
    let document = bench.replayed(&["--into", "stretch", "--from", "136ms", "--to", "236ms"]);
    let from = BEGUN_MS + 100;
    let inside = |known: &Known| (from..from + 100).contains(&known.timestamp_ms);
    let expected: Vec<Known> = recorded().into_iter().filter(inside).collect();
    assert_eq!(bench.read("stretch"), expected);
    assert_eq!(document["acknowledged"], expected.len());
}

fn a_stretch_of_a_topic_is_moved_in_time(bench: &Bench) {
    let from = (BEGUN_MS + 1_000).to_string();
    let document = bench.replayed(&[
        "--topic",
        "whole",
        "--from",
        &from,
        "--into",
        "again",
        "--speed",
        "10",
        "--shift-time",
        "--shift-field",
        "at.t",
    ]);
    let began_ms = document["started_ms"].as_i64().unwrap();
    // Kafka finds offsets: what was late is after them, too.
    let mut expected = recorded();
    for partition in 0..PARTITIONS {
        let first = expected
            .iter()
            .position(|k| k.partition == partition && k.timestamp_ms >= BEGUN_MS + 1_000)
            .unwrap();
        let begin = expected.iter().position(|k| k.partition == partition).unwrap();
        expected.drain(begin..first);
    }
    let read = bench.read("again");
    assert_eq!(read.len(), expected.len());
    assert_eq!(document["acknowledged"], expected.len());
    let mut stayed = 0;
    let mut latest = [i64::MIN; PARTITIONS as usize];
    for (read, expected) in read.iter().zip(&expected) {
        let latest = &mut latest[expected.partition as usize];
        *latest = expected.timestamp_ms.max(*latest);
        // Ten times as fast, and as late as it was.
        let due_ms = began_ms + (*latest - BEGUN_MS - 1_000) / 10;
        let moved_ms = read.timestamp_ms;
        let off = moved_ms - (due_ms - (*latest - expected.timestamp_ms));
        assert!((0..=1).contains(&off), "{off} ms off");
        assert_eq!((read.partition, &read.key), (expected.partition, &expected.key));
        let Some(value) = &expected.value else { continue };
        match serde_json::from_slice::<Value>(value) {
            Err(_) => {
                stayed += 1;
                assert_eq!(read.value.as_ref(), Some(value));
            }
            Ok(mut value) => {
                value["at"]["t"] = json!(moved_ms);
                let read: Value = serde_json::from_slice(read.value.as_ref().unwrap()).unwrap();
                assert_eq!(read, value);
            }
        }
    }
    assert_eq!(document["unshifted"], stayed);
    assert!(stayed > 0);
}

/// A copy that lacks the second half of its only segment.
fn a_torn_end_is_told(bench: &Bench) {
    let copy = bench.broker.new_folder("copy");
    std::fs::create_dir(&copy).unwrap();
    for name in ["manifest.json", "00000000.segment"] {
        let whole = std::fs::read(bench.recording.join(name)).unwrap();
        let length = if name == "manifest.json" { whole.len() } else { whole.len() / 2 };
        std::fs::write(copy.join(name), &whole[..length]).unwrap();
    }
    let arguments = ["--recording", copy.to_str().unwrap(), "--into", "torn", "--full-speed"];
    let said = bench.replay(&[&arguments[..], &["--json"]].concat()).ends();
    let document = said.json();
    assert_eq!((said.code, &document["spoilt"]), (Some(0), &Value::Null), "{document:#}");
    assert_eq!(document["acknowledged"], bench.count("torn"));
    assert!((1..EVENTS as i64).contains(&bench.count("torn")), "{document:#}");
    let torn = document["torn"].as_str().unwrap();
    assert!(torn.contains("00000000.segment: ") && said.errors.contains(torn), "{}", said.errors);
}

fn what_is_in_its_way_is_one_error(bench: &Bench) {
    let said = bench.refused(1, &["--into", "hole"]);
    assert!(said.contains("there is no topic 'hole' at ") && said.contains("whole"), "{said}");
    let said = bench.refused(1, &["--into", "narrow"]);
    assert!(said.contains("'narrow' has 2 partitions and the events come from 3"), "{said}");
    let said = bench.refused(2, &["--topic", "whole", "--into", "whole"]);
    assert!(said.contains("cannot be replayed into itself"), "{said}");
    let said = bench.refused(2, &["--into", "cut", "--from", "1h"]);
    assert!(said.contains("there is no event between --from and --to"), "{said}");

    let schedule = bench.broker.new_folder("schedule.csv");
    std::fs::write(&schedule, "second,events_per_second\n0,10000\n2,1000\n").unwrap();
    let said = bench.refused(2, &["--into", "cut", "--schedule", schedule.to_str().unwrap()]);
    assert!(said.contains("needs 22000 events and the stretch has 20000"), "{said}");

    // Nobody can: all within the same microsecond.
    let arguments = ["--into", "cut", "--speed", "1000000000", "--max-late", "1ms", "--json"];
    let document = spoilt(bench.replay(&arguments));
    let spoilt = document["spoilt"].as_str().unwrap();
    assert!(
        spoilt.contains("the pace cannot be kept: ") && spoilt.contains("s behind"),
        "{spoilt}"
    );
    assert_eq!(document["unacknowledged"], 0);
    assert_eq!(document["acknowledged"], bench.count("cut"));
    assert!(document["late_max_s"].as_f64().unwrap() > 0.001, "{document:#}");
}

fn nothing_comes_before_it_is_due(bench: &Bench) {
    let schedule = bench.broker.new_folder("schedule.csv");
    std::fs::write(&schedule, "second,events_per_second\n0,2000\n1,0\n2,500\n3,4000\n").unwrap();
    let document = bench.replayed(&["--into", "paced", "--schedule", schedule.to_str().unwrap()]);
    assert_eq!(document["acknowledged"], 6_500);
    let began_ms = document["started_ms"].as_i64().unwrap();
    let mut stamps: Vec<i64> =
        bench.read("paced").iter().map(|known| known.timestamp_ms - began_ms).collect();
    stamps.sort_unstable();
    assert_eq!(stamps.len(), 6_500);
    // However slow the machine is: by no moment more has arrived than was due. Clocks tell whole ms.
    for (n, at_ms) in (0..).zip(stamps) {
        let due_ms = match n {
            0..2_000 => n / 2,
            2_000..2_500 => 2_000 + (n - 2_000) * 2,
            _ => 3_000 + (n - 2_500) / 4,
        };
        assert!(at_ms >= due_ms - 1, "event {n} came after {at_ms} ms and was due after {due_ms}");
    }
}

fn what_is_made_carries_when_it_is_due(bench: &Bench) {
    let schedule = bench.broker.new_folder("load.csv");
    let load = |job: &str, topic: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_khaos"));
        command.args(["lab", "load", "--bootstrap", &bench.broker.bootstrap, "--json"]);
        command.args(["--job", job, "--topic", topic, "--schedule", schedule.to_str().unwrap()]);
        command.args(["--rate-scale", "0.5", "--time-scale", "0.1", "--seed", "7"]);
        Khaos::of(command.args(["--max-late", "10m"])).ends()
    };
    let said = load("iot", "iot");
    assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{}", said.errors);
    assert!(said.errors.contains("load.csv: "), "{}", said.errors);
    std::fs::write(&schedule, "second,events_per_second\n0,2000\n10,0\n20,1000\n30,1000\n")
        .unwrap();
    let said = load("iot", "iott");
    assert_eq!(said.code, Some(1), "{}", said.errors);
    assert!(said.errors.contains("'iott'") && said.errors.contains("iot,"), "{}", said.errors);

    for (job, made) in [("iot", Made::IotVehicles), ("ysb", Made::Ysb)] {
        let said = load(job, job);
        let document = said.json();
        assert_eq!(said.code, Some(0), "{document:#}");
        assert_eq!((&document["acknowledged"], &document["spoilt"]), (&json!(2_000), &Value::Null));
        let began_ms = document["started_ms"].as_i64().unwrap();
        let mut maker = Maker::new(made, 7, PARTITIONS);
        let mut expected: Vec<Known> = (0..2_000_u64)
            .map(|n| {
                // 1,000/s for a second, nothing for one, 500/s for two.
                let due_ms = if n < 1_000 { n } else { 2_000 + (n - 1_000) * 2 };
                let event = maker.event(n, began_ms + due_ms as i64);
                Known {
                    partition: event.partition,
                    timestamp_ms: event.timestamp_ms,
                    key: event.key.map(<[u8]>::to_vec),
                    value: event.value.map(<[u8]>::to_vec),
                    headers: vec![],
                }
            })
            .collect();
        expected.sort_by_key(|known| known.partition);
        assert_eq!(bench.read(job), expected);
    }
}

async fn a_broker_that_dies_spoils_it(bench: &mut Bench) {
    // 2 s of a recording in 400: there will be time.
    let arguments = [
        "--into",
        "broken",
        "--speed",
        "0.005",
        "--patience",
        "20s",
        "--max-late",
        "10m",
        "--json",
    ];
    let replay = bench.replay(&arguments);
    wait_for("events to arrive", async || (bench.count("broken") >= 50).then_some(())).await;
    bench.broker.lab.kill_broker();
    let document = spoilt(replay);
    let count = |name: &str| document[name].as_i64().unwrap();
    let (sent, unacknowledged) = (count("sent"), count("unacknowledged"));
    assert!(unacknowledged > 0 && count("acknowledged") > 0, "{document:#}");
    let spoilt = document["spoilt"].as_str().unwrap();
    let says = format!("{unacknowledged} of {sent} events were not acknowledged: ");
    assert!(spoilt.starts_with(&says) && spoilt.contains("went away"), "{spoilt}");

    // What was acknowledged is there.
    bench.broker.lab.start_broker().unwrap();
    bench.broker.lab.ready().await.unwrap();
    let there = bench.count("broken");
    assert!((count("acknowledged")..=sent).contains(&there), "{there}: {document:#}");
}

#[test]
#[ignore = "starts a real Kafka: ./test.sh runs it"]
fn who_may_not_write_is_told_so() {
    in_real_time(async {
        let kafka = LabKafka { authorization: true, ..LabKafka::default() };
        let bench = Bench::up(27_840, kafka).await;
        let settings = bench.broker.new_folder("client.properties");
        let login = |password: &str| {
            let user = LabKafka::GUEST;
            let text = format!(
                "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.username={user}\n\
                 sasl.password={password}\n"
            );
            std::fs::write(&settings, text).unwrap();
        };
        let arguments = ["--kafka-config", settings.to_str().unwrap(), "--into", "secret"];
        login(LabKafka::PASSWORD);
        let said = bench.refused(1, &arguments);
        assert!(said.contains("Kafka refuses Describe on topic 'secret' to this user"), "{said}");
        login("hunter2");
        let said = bench.refused(1, &arguments);
        assert!(said.contains("does not let us in: ") && !said.contains("hunter2"), "{said}");

        // Who may look at a topic may not write to it yet.
        bench.broker.create("secret", PARTITIONS).await;
        bench.broker.create("open", PARTITIONS).await;
        bench.broker.allow(&["--operation", "Describe", "--topic", "secret"]);
        login(LabKafka::PASSWORD);
        let refused = |what: &str| {
            let document = spoilt(bench.replay(&[arguments.as_slice(), &["--json"]].concat()));
            let why = document["spoilt"].as_str().unwrap();
            assert!(why.contains(what), "{why}");
            assert_eq!(document["acknowledged"], 0);
        };
        // Who may write nowhere is not given a producer's number.
        refused("allow Write on topic 'secret'");
        bench.broker.allow(&["--operation", "Write", "--topic", "open"]);
        refused("Kafka refuses Write on topic 'secret' to this user");
        assert_eq!(bench.count("secret"), 0);
        bench.broker.allow(&["--operation", "Write", "--topic", "secret"]);
        bench.replayed(&arguments);
        bench.broker.lab.down().await.unwrap();
    });
}
