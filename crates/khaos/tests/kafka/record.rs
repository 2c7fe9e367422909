//! `khaos record` on a real broker.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use khaos_adapters::lab::LabKafka;
use khaos_adapters::recording::Recording;
use tokio::time::{Instant, sleep_until};

use crate::bench::{Broker, Khaos, PATIENCE, in_real_time, khaos, produce, wait_for};
use crate::sums::{Sums, events, of_recording, of_topic};

/// How many events the round trip has; more where KHAOS_EVENTS says so.
const EVENTS: u64 = 400_000;
/// In so many parts.
const SLICES: u64 = 40;
/// How often the recorder is killed meanwhile.
const KILLS: u64 = 4;

/// What `khaos record` is told in every test.
fn arguments<'a>(broker: &'a Broker, topic: &'a str, out: &'a Path) -> Vec<&'a str> {
    let out = out.to_str().unwrap();
    let bootstrap = broker.bootstrap.as_str();
    let mut arguments = vec!["record", "--bootstrap", bootstrap, "--topic", topic, "--out", out];
    arguments.extend(["--from", "beginning", "--json"]);
    arguments
}

fn with<'a>(mut arguments: Vec<&'a str>, more: &[&'a str]) -> Vec<&'a str> {
    arguments.extend(more);
    arguments
}

/// What comes next, as whoever opens the recording now reads it.
fn next_offsets(out: &Path) -> BTreeMap<i32, i64> {
    let Ok(recording) = Recording::open(out) else { return BTreeMap::new() };
    let partitions = &recording.summary().partitions;
    partitions.iter().map(|(partition, of)| (*partition, of.next_offset)).collect()
}

/// Waits until the recording holds everything that is in the log.
async fn caught_up(broker: &Broker, topic: &str, partitions: i32, out: &Path) {
    let ends: BTreeMap<i32, i64> =
        broker.ends(topic, partitions).into_iter().filter(|(_, end)| *end > 0).collect();
    wait_for("the recording to catch up", async || (next_offsets(out) == ends).then_some(())).await;
}

fn committed_is_on_disk(broker: &Broker, group: &str, topic: &str, partitions: i32, out: &Path) {
    // First what is committed: the recording may only be further.
    let committed = broker.committed(group, topic, partitions);
    let recorded = next_offsets(out);
    for (partition, offset) in committed {
        let next = recorded.get(&partition).copied().unwrap_or(0);
        assert!(offset <= next, "partition {partition}: {offset} is committed, {next} on disk");
    }
}

/// One broker for everything that needs no users.
#[test]
#[ignore = "starts a real Kafka: ./test.sh runs it"]
fn what_is_recorded_of_a_real_broker() {
    in_real_time(async {
        let mut broker = Broker::up(27_400, LabKafka::default()).await;
        let begun = Instant::now();
        let told = |what: &str| println!("{what}: {:.1} s", begun.elapsed().as_secs_f64());
        killed_and_started_again(&broker).await;
        told("killed and started again");
        no_such_topic(&broker);
        a_budget_and_a_gap(&broker).await;
        told("a budget and a gap");
        a_gap_while_it_runs(&broker).await;
        told("a gap while it runs");
        a_full_disk(&broker).await;
        told("a full disk");
        new_partitions_and_another_topic(&broker).await;
        told("new partitions and another topic");
        only_offsets(&broker).await;
        told("only offsets");
        a_broker_that_goes_away(&mut broker).await;
        told("a broker that goes away");
    });
}

/// Killed with -9 again and again while it records: nothing is lost or doubled, and what was committed
/// was on disk.
async fn killed_and_started_again(broker: &Broker) {
    let (topic, partitions) = ("clicks", 4);
    let all = std::env::var("KHAOS_EVENTS").map_or(EVENTS, |events| events.parse().unwrap());
    broker.create(topic, partitions).await;
    let out = broker.new_folder("clicks");
    // As if it had been killed before it began, too.
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("khaos-recording.lock"), "").unwrap();
    let producer = std::thread::spawn({
        let client = broker.client.clone();
        move || {
            // In slices, so that the recorder is killed while there is more to come.
            let slice = all / SLICES;
            for n in 0..SLICES {
                produce(&client, topic, partitions as u64, n * slice..(n + 1) * slice);
                std::thread::park_timeout(Duration::from_millis(50));
            }
        }
    });
    for kill in 1..=KILLS {
        let recorder = Khaos::starts(&arguments(broker, topic, &out));
        let enough = all * kill / (KILLS + 2);
        wait_for("some events to be on disk", async || {
            let recorded: i64 = next_offsets(&out).values().sum();
            (recorded as u64 >= enough).then_some(())
        })
        .await;
        // With -9.
        drop(recorder);
        println!("killed at {} events on disk", events(&of_recording(&out)));
        committed_is_on_disk(broker, "khaos-record-clicks", topic, partitions, &out);
    }
    let recorder = Khaos::starts(&arguments(broker, topic, &out));
    producer.join().unwrap();
    caught_up(broker, topic, partitions, &out).await;
    let said = recorder.told_to_end();
    assert_eq!(said.code, Some(0), "{said:?}");
    let document = said.json();
    assert_eq!(document["ended"], "told");
    assert_eq!(document["events_total"], all / SLICES * SLICES);
    assert_eq!(document["gaps"], serde_json::json!([]));
    assert_eq!(document["committed"], document["next_offsets"], "{document}");
    let group = format!("khaos-record-{topic}");
    assert_eq!(broker.committed(&group, topic, partitions), next_offsets(&out));
    let (recorded, topic) = (of_recording(&out), of_topic(&broker.client, topic, &BTreeMap::new()));
    assert_eq!(events(&topic), all / SLICES * SLICES);
    assert_eq!(recorded, topic);

    // And back: into another topic, where offsets are others, but nothing else is.
    broker.create("again", partitions).await;
    let said = khaos(&[
        "replay",
        "--bootstrap",
        &broker.bootstrap,
        "--recording",
        out.to_str().unwrap(),
        "--into",
        "again",
        "--full-speed",
        "--json",
    ]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.json()["acknowledged"], events(&topic));
    let again = of_topic(&broker.client, "again", &BTreeMap::new());
    assert_eq!(contents(&again), contents(&topic));
}

/// What does not depend on where events stand in a log.
fn contents(sums: &Sums) -> BTreeMap<i32, (u64, u64)> {
    sums.iter().map(|(partition, sum)| (*partition, (sum.events, sum.contents))).collect()
}

fn no_such_topic(broker: &Broker) {
    let said = khaos(&arguments(broker, "klicks", &broker.new_folder("none")));
    assert_eq!(said.code, Some(1), "{said:?}");
    let error = format!("there is no topic 'klicks' at {}: there are clicks", broker.bootstrap);
    assert!(said.errors.contains(&error), "{said:?}");
    assert!(!broker.new_folder("none").exists());
}

fn size_on_disk(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

/// It ends within its budget; what retention deletes before it goes on is told, and the rest recorded.
async fn a_budget_and_a_gap(broker: &Broker) {
    broker.create("budget", 2).await;
    broker.produce("budget", 2, 0..200_000);
    let out = broker.new_folder("budget");
    let limit = 1_000_000;
    let said = khaos(&with(arguments(broker, "budget", &out), &["--max-bytes", "1MB"]));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.json()["ended"], "budget");
    let size = size_on_disk(&out);
    assert!((limit * 8 / 10..=limit).contains(&size), "{size} bytes");
    let recorded = of_recording(&out);
    let next = next_offsets(&out);
    assert_eq!(said.json()["next_offsets"], serde_json::json!(next));
    assert_eq!(events(&recorded), next.values().sum::<i64>() as u64, "from the beginning");

    // What is left of the budget is for the index of another segment, and an event or two.
    let again = khaos(&with(arguments(broker, "budget", &out), &["--max-bytes", "1MB"]));
    assert_eq!((again.code, &again.json()["ended"]), (Some(0), &"budget".into()));
    assert!(again.json()["events"].as_u64().unwrap() < 100, "{again:?}");
    assert!(size_on_disk(&out) <= limit);
    let next = next_offsets(&out);

    let first_left = next[&0] + 10;
    broker.delete_records("budget", 0, first_left).await;
    let recorder = Khaos::starts(&arguments(broker, "budget", &out));
    caught_up(broker, "budget", 2, &out).await;
    let said = recorder.told_to_end();
    assert_eq!(said.code, Some(0), "{said:?}");
    let document = said.json();
    assert_eq!(document["lost_at_most"], 10);
    assert_eq!(document["gaps"][0]["from"], next[&0]);
    assert_eq!(document["gaps"][0]["to"], first_left);
    assert!(said.errors.contains("a gap in partition 0 of topic 'budget'"), "{said:?}");
    assert_eq!(events(&of_recording(&out)), 200_000 - 10);
    // It stays a fact.
    let said = khaos(&with(arguments(broker, "budget", &out), &["--for", "1s"]));
    assert_eq!((said.code, &said.json()["gaps"]), (Some(0), &document["gaps"]));
}

/// Retention overtakes a recorder that stands still: what is lost is told, to the event, and the rest is
/// recorded.
async fn a_gap_while_it_runs(broker: &Broker) {
    broker.create("overtaken", 2).await;
    broker.produce("overtaken", 2, 0..2_000);
    let out = broker.new_folder("overtaken");
    let recorder = Khaos::starts(&arguments(broker, "overtaken", &out));
    caught_up(broker, "overtaken", 2, &out).await;
    recorder.stands_still();
    // More than one answer of the broker, which may be under way already, holds.
    broker.produce("overtaken", 2, 2_000..60_000);
    let ends = broker.ends("overtaken", 2);
    broker.delete_records("overtaken", 0, ends[&0]).await;
    broker.produce("overtaken", 2, 60_000..62_000);
    recorder.goes_on();
    caught_up(broker, "overtaken", 2, &out).await;
    let said = recorder.told_to_end();
    assert_eq!(said.code, Some(0), "{said:?}");
    let document = said.json();
    let lost = document["lost_at_most"].as_u64().unwrap();
    assert!(lost > 0, "{document}");
    assert_eq!(
        (&document["gaps"][0]["partition"], &document["gaps"][0]["to"]),
        (&0.into(), &ends[&0].into())
    );
    assert_eq!(events(&of_recording(&out)), 62_000 - lost);
}

/// No more can be written: one error, and everything goes on when there is room again.
async fn a_full_disk(broker: &Broker) {
    let out = broker.new_folder("full");
    let mut shell = Command::new("sh");
    // The system's own limit; the signal that comes with it would end the process without a word.
    let script = r#"trap '' XFSZ; ulimit -f 1000; exec "$0" "$@""#;
    shell.args(["-c", script, env!("CARGO_BIN_EXE_khaos")]);
    let arguments = with(arguments(broker, "clicks", &out), &["--group", "full"]);
    let said = Khaos::of(shell.args(&arguments)).ends();
    assert_eq!(said.code, Some(1), "{said:?}");
    let document = said.json();
    assert_eq!(document["ended"], "failed");
    let error = document["error"].as_str().unwrap();
    assert!(
        error.contains(out.to_str().unwrap()) && error.contains("is the disk full?"),
        "{error}"
    );
    assert!(said.errors.contains(error), "{said:?}");
    committed_is_on_disk(broker, "full", "clicks", 4, &out);

    let recorder = Khaos::starts(&arguments);
    caught_up(broker, "clicks", 4, &out).await;
    assert_eq!(recorder.told_to_end().code, Some(0));
    assert_eq!(of_recording(&out), of_topic(&broker.client, "clicks", &BTreeMap::new()));
}

/// Partitions that a topic gets are recorded from their first event; a topic that was made anew is
/// another one.
async fn new_partitions_and_another_topic(broker: &Broker) {
    broker.create("grows", 1).await;
    broker.produce("grows", 1, 0..1_000);
    let out = broker.new_folder("grows");
    let from_end = |argument| if argument == "beginning" { "end" } else { argument };
    let told: Vec<&str> = arguments(broker, "grows", &out).into_iter().map(from_end).collect();
    let recorder = Khaos::starts(&told);
    wait_for("the recording to begin", async || Recording::open(&out).ok()).await;
    // Only when its beginning is a fact.
    wait_for("its beginning", async || {
        let journal = std::fs::read_to_string(out.join("recorder.jsonl")).ok()?;
        journal.contains("from").then_some(())
    })
    .await;
    broker.add_partitions("grows", 3).await;
    wait_for("the partitions to be there", async || {
        let clients = broker.client.clone();
        let produced = std::panic::catch_unwind(|| produce(&clients, "grows", 3, 1_000..3_000));
        produced.ok()
    })
    .await;
    let ends = broker.ends("grows", 3);
    wait_for("all partitions to be recorded", async || (next_offsets(&out) == ends).then_some(()))
        .await;
    let said = recorder.told_to_end();
    assert_eq!(said.code, Some(0), "{said:?}");
    let first = BTreeMap::from([(0, 1_000)]);
    assert_eq!(of_recording(&out), of_topic(&broker.client, "grows", &first));

    broker.delete("grows").await;
    broker.create("grows", 3).await;
    let said = khaos(&told);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.errors.contains("the topic was made anew"), "{said:?}");
    let other = khaos(&arguments(broker, "clicks", &out));
    assert_eq!(other.code, Some(2), "{other:?}");
    assert!(other.errors.contains("is a recording of topic 'grows', not of topic 'clicks'"));
}

/// How long the log is, second by second; nothing is fetched.
async fn only_offsets(broker: &Broker) {
    let out = broker.new_folder("offsets");
    let recorder = Khaos::starts(&with(arguments(broker, "clicks", &out), &["--offsets-only"]));
    let before = events(&of_topic(&broker.client, "clicks", &BTreeMap::new()));
    wait_for("a look at the log", async || {
        let recording = Recording::open(&out).ok()?;
        (!recording.summary().partitions.is_empty()).then_some(())
    })
    .await;
    broker.produce("clicks", 4, 0..5_000);
    caught_up(broker, "clicks", 4, &out).await;
    let said = recorder.told_to_end();
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.json()["group"], serde_json::Value::Null);
    let recording = Recording::open(&out).unwrap();
    let summary = recording.summary();
    assert_eq!(summary.events, 5_000, "{summary:?}");
    let rates: u64 = recording.rates().unwrap().iter().map(|(_, events)| events).sum();
    assert_eq!(rates, 5_000);
    let refused = khaos(&arguments(broker, "clicks", &out));
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.errors.contains("the offsets of topic 'clicks'"), "{refused:?}");
    assert_eq!(before + 5_000, events(&of_topic(&broker.client, "clicks", &BTreeMap::new())));

    // Those events come again, whatever their producer's clock said: theirs is years behind.
    broker.create("clicks-again", 4).await;
    let from = ["--bootstrap", &broker.bootstrap, "--recording", out.to_str().unwrap()];
    let into = ["--into", "clicks-again", "--full-speed", "--json"];
    let replayed = khaos(&[&["replay"], from.as_slice(), &into].concat());
    assert_eq!(replayed.code, Some(0), "{replayed:?}");
    assert_eq!(replayed.json()["acknowledged"], 5_000);
    let first: BTreeMap<i32, i64> =
        summary.partitions.iter().map(|(p, of)| (*p, of.first_offset)).collect();
    let original = contents(&of_topic(&broker.client, "clicks", &first));
    assert_eq!(contents(&of_topic(&broker.client, "clicks-again", &BTreeMap::new())), original);
    broker.delete_records("clicks", 0, first[&0] + 1).await;
    let gone = khaos(&[&["replay"], from.as_slice(), &into].concat());
    assert_eq!(gone.code, Some(1), "{gone:?}");
    assert!(gone.errors.contains("retention has removed events of the stretch"), "{gone:?}");
}

/// Killed and started again: it goes on. Killed for good: one error, and everything that was read is
/// there.
async fn a_broker_that_goes_away(broker: &mut Broker) {
    broker.create("outage", 3).await;
    broker.produce("outage", 3, 0..20_000);
    let out = broker.new_folder("outage");
    let recorder = Khaos::starts(&arguments(broker, "outage", &out));
    caught_up(broker, "outage", 3, &out).await;
    broker.lab.kill_broker();
    // Long enough that it is noticed.
    sleep_until(Instant::now() + Duration::from_secs(3)).await;
    broker.lab.start_broker().unwrap();
    broker.lab.ready().await.unwrap();
    broker.produce("outage", 3, 20_000..40_000);
    caught_up(broker, "outage", 3, &out).await;
    let said = recorder.told_to_end();
    assert_eq!(said.code, Some(0), "{said:?}");
    let topic = of_topic(&broker.client, "outage", &BTreeMap::new());
    assert_eq!(events(&topic), 40_000);
    assert_eq!(of_recording(&out), topic);

    broker.produce("outage", 3, 40_000..50_000);
    let topic = of_topic(&broker.client, "outage", &BTreeMap::new());
    let patient = with(arguments(broker, "outage", &out), &["--patience", "15s"]);
    let recorder = Khaos::starts(&patient);
    caught_up(broker, "outage", 3, &out).await;
    broker.lab.kill_broker();
    let begun = Instant::now();
    let said = recorder.ends();
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    assert_eq!(said.code, Some(1), "{said:?}");
    let document = said.json();
    assert_eq!((&document["ended"], &document["events"]), (&"failed".into(), &10_000.into()));
    let error = format!("{} went away and did not come back within ", broker.bootstrap);
    assert!(said.errors.contains(&error), "{said:?}");
    assert_eq!(of_recording(&out), topic);
    let nobody = khaos(&arguments(broker, "outage", &out));
    assert_eq!(nobody.code, Some(1), "{nobody:?}");
    assert!(nobody.errors.contains("no Kafka broker answers"), "{nobody:?}");
}

/// A user who may do nothing, then some, then enough.
#[test]
#[ignore = "starts a real Kafka: ./test.sh runs it"]
fn what_is_refused_to_a_guest() {
    in_real_time(async {
        let kafka = LabKafka { authorization: true, ..LabKafka::default() };
        let broker = Broker::up(27_500, kafka).await;
        broker.create("secret", 2).await;
        broker.produce("secret", 2, 0..2_000);
        let out = broker.new_folder("secret");
        let config = broker.new_folder("client.properties");
        let write = |user: &str, password: &str| {
            let lines = [
                "security.protocol=SASL_PLAINTEXT",
                "sasl.mechanism=PLAIN",
                &format!("sasl.username={user}"),
                &format!("sasl.password={password}"),
            ];
            std::fs::write(&config, lines.join("\n")).unwrap();
        };
        let into = |out| {
            let config = ["--kafka-config", config.to_str().unwrap()];
            with(arguments(&broker, "secret", out), &config)
        };
        let arguments = || into(&out);
        let lengths = broker.new_folder("lengths");
        let looks = with(into(&lengths), &["--offsets-only", "--for", "3s"]);
        write(LabKafka::GUEST, "guessed");
        let said = khaos(&arguments());
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.errors.contains("does not let us in: "), "{said:?}");
        assert!(!said.errors.contains("guessed"), "{said:?}");

        write(LabKafka::GUEST, LabKafka::PASSWORD);
        let refused = |what: &str| {
            let said = khaos(&arguments());
            assert_eq!(said.code, Some(1), "{said:?}");
            assert!(said.errors.contains(what), "{what}: {said:?}");
        };
        refused("Kafka refuses Describe on topic 'secret' to this user");
        broker.allow(&["--operation", "Describe", "--topic", "secret"]);
        // Nothing is fetched where only the length is looked at.
        let said = khaos(&looks);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(next_offsets(&lengths), broker.ends("secret", 2));
        refused("Kafka refuses Read on ");
        broker.allow(&["--operation", "Read", "--topic", "secret"]);
        refused("Kafka refuses Read on group 'khaos-record-secret' to this user");
        broker.allow(&["--operation", "Read", "--group", "khaos-record-secret"]);
        let recorder = Khaos::starts(&arguments());
        let ends = broker.ends("secret", 2);
        // The run before may have brought all of it to disk; only what is committed shows that this one runs.
        let committed = || broker.committed("khaos-record-secret", "secret", 2);
        wait_for("the commit", async || (committed() == ends).then_some(())).await;
        let said = recorder.told_to_end();
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(of_recording(&out), of_topic(&broker.client, "secret", &BTreeMap::new()));
    });
}
