//! What clones need on a real Kafka: topics, groups and open transactions are made, seen and removed, and nothing else.
#![allow(clippy::unwrap_used, reason = "a test says what is broken by panicking")]
#![allow(clippy::print_stdout, reason = "what was measured is worth reading")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use khaos_adapters::kafka::admin::{Admin, NewTopic, Transaction};
use khaos_adapters::kafka::{Cluster, KafkaError, KafkaSettings, Offsets};
use khaos_adapters::lab::{Lab, LabConfig, LabKafka};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::Mutex;
use tokio::time::{Duration, Instant};

/// Only one lab of this module at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Far more than anything takes: whoever waits for so long waits in vain.
const PATIENCE: Duration = Duration::from_mins(2);
/// What clones of this test are called.
const CLONE: &str = "khaos-clone-1-";
/// How long their transactions may be open.
const TIMEOUT: Duration = Duration::from_secs(123);

fn config(dir: &Path, port_base: u16, kafka: LabKafka) -> LabConfig {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = std::env::var_os("KHAOS_CACHE").map(PathBuf::from);
    let cache = cache.unwrap_or(workspace.join("target/lab-cache"));
    let lab = LabConfig::only_kafka(dir.join("lab"), cache);
    LabConfig { port_base, kafka: Some(kafka), ..lab }
}

fn named(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("{CLONE}{name}")).collect()
}

fn new_topic(name: &str, partitions: i32) -> NewTopic {
    let settings = BTreeMap::from([("retention.ms".to_owned(), "3600000".to_owned())]);
    NewTopic { name: name.to_owned(), partitions, settings }
}

/// Leaves a transaction of `id` open, in which an event went to the first partition of `topic`. The producer is gone.
fn leave_open(client: &ClientConfig, id: &str, topic: &str) {
    let mut config = client.clone();
    config
        .set("transactional.id", id)
        .set("transaction.timeout.ms", TIMEOUT.as_millis().to_string());
    let producer: BaseProducer = config.create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    producer.send(BaseRecord::<(), str>::to(topic).partition(0).payload("half")).unwrap();
    producer.flush(PATIENCE).unwrap();
}

/// Makes a group by what it committed: it has no members.
fn commit(client: &ClientConfig, group: &str, topic: &str) {
    let mut config = client.clone();
    let consumer: BaseConsumer = config.set("group.id", group).create().unwrap();
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(topic, 0, Offset::Offset(0)).unwrap();
    consumer.commit(&offsets, CommitMode::Sync).unwrap();
}

/// Makes a group with a member that polls no more: it is one for six seconds.
fn join(client: &ClientConfig, group: &str, topic: &str) {
    let mut config = client.clone();
    config.set("group.id", group).set("session.timeout.ms", "6000");
    // Who does not poll is alive for so long.
    config.set("max.poll.interval.ms", "6000");
    let consumer: BaseConsumer = config.create().unwrap();
    consumer.subscribe(&[topic]).unwrap();
    let begun = Instant::now();
    while consumer.assignment().unwrap().count() == 0 {
        assert!(begun.elapsed() < PATIENCE);
        drop(consumer.poll(Duration::from_millis(100)));
    }
    std::mem::forget(consumer);
}

async fn open(admin: &Admin, prefix: &str) -> Vec<(String, bool)> {
    let told = admin.transactions(prefix).await.unwrap();
    told.into_iter().map(|it| (it.id, it.open)).collect()
}

#[tokio::test]
#[ignore = "starts a real Kafka: ./test.sh runs it"]
async fn what_clones_leave_is_found_and_removed_and_nothing_else() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let lab = Lab::up(config(dir.path(), 28_800, LabKafka::default()), |_| ()).await.unwrap();
    let settings = KafkaSettings::at(lab.bootstrap().unwrap()).unwrap();
    let client = settings.client().unwrap();
    let admin = Admin::at(&settings).unwrap();

    // A cluster in which nobody has done anything.
    assert_eq!(admin.topics().await.unwrap(), [""; 0]);
    assert_eq!(admin.groups("").await.unwrap(), [""; 0]);
    assert_eq!(admin.transactions("").await.unwrap(), []);

    let topics = named(&["in", "out"]);
    let all: Vec<String> = [topics.clone(), vec!["orders".to_owned()]].concat();
    let wanted = [new_topic(&topics[0], 12), new_topic(&topics[1], 1), new_topic("orders", 1)];
    admin.create(&wanted).await.unwrap();
    let committed = Cluster::at(&settings).unwrap();
    let logs = Cluster::uncommitted(&settings).unwrap();
    assert_eq!(committed.partitions(&topics[0]).unwrap(), 12);
    assert_eq!(admin.topics().await.unwrap(), all);
    let more = [new_topic("new", 1), new_topic("orders", 1)];
    let error = admin.create(&more).await.unwrap_err().to_string();
    assert!(error.contains("topic 'orders' cannot be made: it is there already"), "{error}");
    let mut wrong = new_topic("new", 1);
    wrong.settings.insert("retention.ms".to_owned(), "soon".to_owned());
    let error = admin.create(&[wrong]).await.unwrap_err().to_string();
    assert!(error.contains("topic 'new' cannot be made: the broker does not take"), "{error}");
    // All or none.
    assert_eq!(admin.topics().await.unwrap(), all);

    let (groups, ids) = (named(&["a", "b"]), named(&["sink-0", "sink-1", "sink-2"]));
    for id in &ids {
        leave_open(&client, id, &topics[1]);
    }
    leave_open(&client, "orders-0", "orders");
    let begun = Instant::now();
    let told = admin.transactions(CLONE).await.unwrap();
    println!("{} transactions were told after {:?}", told.len(), begun.elapsed());
    let is_open = |id: &String| Transaction { id: id.clone(), timeout: TIMEOUT, open: true };
    assert_eq!(told, ids.iter().map(is_open).collect::<Vec<_>>());
    assert_eq!(committed.ends(&topics[1]).unwrap(), Offsets::from([(0, 0)]));
    assert_eq!(logs.ends(&topics[1]).unwrap(), Offsets::from([(0, 3)]));

    let begun = Instant::now();
    admin.abort(&ids).await.unwrap();
    println!("{} transactions were aborted within {:?}", ids.len(), begun.elapsed());
    let closed: Vec<_> = ids.iter().map(|id| (id.clone(), false)).collect();
    assert_eq!(open(&admin, CLONE).await, closed);
    // Each has left its marker, and nobody waits any more.
    assert_eq!(logs.ends(&topics[1]).unwrap(), Offsets::from([(0, 6)]));
    assert_eq!(committed.ends(&topics[1]).unwrap(), Offsets::from([(0, 6)]));
    assert_eq!(open(&admin, "orders").await, [("orders-0".to_owned(), true)]);
    assert_eq!(committed.ends("orders").unwrap(), Offsets::from([(0, 0)]));
    // Once more is no error, nor is one that nobody used; and of many the waiting is done together.
    let many: Vec<String> = (0..40).map(|n| format!("{CLONE}many-{n}")).collect();
    let begun = Instant::now();
    admin.abort(&[ids, many].concat()).await.unwrap();
    println!("43 that were not open were aborted within {:?}", begun.elapsed());
    let told = open(&admin, CLONE).await;
    assert!(told.len() == 43 && told.iter().all(|(_, open)| !open), "{told:?}");

    for group in [&groups[0], "orders"] {
        commit(&client, group, &topics[0]);
    }
    join(&client, &groups[1], &topics[0]);
    let begun = Instant::now();
    assert_eq!(admin.groups(CLONE).await.unwrap(), groups);
    assert_eq!(admin.groups("").await.unwrap(), [groups.clone(), vec!["orders".into()]].concat());
    admin.delete_groups(&groups).await.unwrap();
    println!("groups, one with a dead member, were deleted after {:?}", begun.elapsed());
    // It had to be waited for.
    assert!(begun.elapsed() > Duration::from_secs(3));
    assert_eq!(admin.groups("").await.unwrap(), ["orders"]);
    let begun = Instant::now();
    admin.delete(&topics).await.unwrap();
    println!("topics were deleted after {:?}", begun.elapsed());
    assert_eq!(admin.topics().await.unwrap(), ["orders"]);
    admin.delete_groups(&groups).await.unwrap();
    admin.delete(&topics).await.unwrap();
    assert_eq!(open(&admin, "orders").await, [("orders-0".to_owned(), true)]);
    // What is made anew is another one, at once.
    admin.create(&wanted[..2]).await.unwrap();
    assert_eq!(logs.ends(&topics[1]).unwrap(), Offsets::from([(0, 0)]));

    drop((committed, logs));
    lab.down().await.unwrap();
}

/// Each right that is missing is named; with them it works.
#[tokio::test]
#[ignore = "starts a real Kafka: ./test.sh runs it"]
async fn a_guest_is_told_which_rights_are_missing() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let kafka = LabKafka { authorization: true, ..LabKafka::default() };
    let lab = Lab::up(config(dir.path(), 28_900, kafka), |_| ()).await.unwrap();
    let bootstrap = lab.bootstrap().unwrap().to_owned();
    let of = |user: &str, password: &str| {
        let file = dir.path().join(user);
        let lines = [
            "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN",
            &format!("sasl.username={user}\nsasl.password={password}"),
        ];
        std::fs::write(&file, lines.join("\n")).unwrap();
        KafkaSettings::read(Some(&bootstrap), &file).unwrap()
    };
    let settings = of(LabKafka::ADMIN, LabKafka::PASSWORD);
    let (client, admin) = (settings.client().unwrap(), Admin::at(&settings).unwrap());
    let stranger = Admin::at(&of(LabKafka::GUEST, "guessed")).unwrap();
    let guest = Admin::at(&of(LabKafka::GUEST, LabKafka::PASSWORD)).unwrap();

    let ids = named(&["0"]);
    for error in [stranger.topics().await.map(drop), stranger.abort(&ids).await] {
        let error = error.unwrap_err();
        assert!(matches!(error, KafkaError::Authentication { .. }), "{error}");
    }

    admin.create(&[new_topic("orders", 1)]).await.unwrap();
    commit(&client, "orders", "orders");
    leave_open(&client, &ids[0], "orders");
    let orders = ["orders".to_owned()];
    assert_eq!(guest.topics().await.unwrap(), [""; 0]);
    assert_eq!(guest.groups("").await.unwrap(), [""; 0]);
    let refused = |said: Result<(), KafkaError>, right: &str, on: &str| {
        let error = said.unwrap_err();
        assert!(matches!(error, KafkaError::NotAllowed { .. }), "{error}");
        let error = error.to_string();
        assert!(error.contains(&format!("--operation {right} {on})")), "{error}");
    };
    refused(guest.create(&[new_topic("new", 1)]).await, "Create", "--topic 'new'");
    refused(guest.delete(&orders).await, "Delete", "--topic 'orders'");
    refused(guest.delete_groups(&orders).await, "Delete", "--group 'orders'");
    let told = guest.transactions("").await.map(drop);
    refused(told, "Read", "--topic '__transaction_state'");
    let id = format!("--transactional-id '{}'", ids[0]);
    refused(guest.abort(&ids).await, "Write", &id);
    assert_eq!(open(&admin, "").await, [(ids[0].clone(), true)]);

    let login = dir.path().join("admin.properties");
    let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
    let line = format!(
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.jaas.config={module} required \
         username=\"{}\" password=\"{}\";\n",
        LabKafka::ADMIN,
        LabKafka::PASSWORD
    );
    std::fs::write(&login, line).unwrap();
    for what in [
        ["--operation", "Read", "--topic", "__transaction_state"],
        ["--operation", "Write", "--transactional-id", &ids[0]],
    ] {
        let mut acls = lab.kafka_program("org.apache.kafka.tools.AclCommand").unwrap();
        acls.args(["--bootstrap-server", &bootstrap, "--command-config"]).arg(&login);
        acls.args(["--add", "--allow-principal", "User:guest"]).args(what);
        let output = acls.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(open(&guest, "").await, [(ids[0].clone(), true)]);
    guest.abort(&ids).await.unwrap();
    assert_eq!(open(&guest, "").await, [(ids[0].clone(), false)]);
    lab.down().await.unwrap();
}
