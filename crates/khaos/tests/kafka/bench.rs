//! A real broker, topics on it, and events of every kind.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use khaos_adapters::lab::{Lab, LabConfig, LabKafka};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::{Instant, sleep_until};

/// Long enough for a slow machine on which other tests run.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// A lab with a broker alone, in a folder of its own, which goes with it.
pub(crate) struct Broker {
    pub(crate) lab: Lab,
    pub(crate) bootstrap: String,
    /// Of somebody who may do everything.
    pub(crate) client: ClientConfig,
    folder: TempDir,
}

impl Broker {
    pub(crate) async fn up(port_base: u16, kafka: LabKafka) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let cache = std::env::var_os("KHAOS_CACHE").map(PathBuf::from);
        let cache = cache.unwrap_or(workspace.join("target/lab-cache"));
        let authorization = kafka.authorization;
        let config = LabConfig {
            port_base,
            task_managers: 0,
            kafka: Some(kafka),
            ..LabConfig::new(folder.path().join("lab"), cache)
        };
        let lab = Lab::up(config, |step| println!("{step}")).await.unwrap();
        let bootstrap = lab.bootstrap().unwrap().to_owned();
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &bootstrap).set("reconnect.backoff.max.ms", "1000");
        if authorization {
            login(&mut client, LabKafka::ADMIN);
        }
        Self { lab, bootstrap, client, folder }
    }

    /// A folder that is not there yet.
    pub(crate) fn new_folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client.create().unwrap()
    }

    pub(crate) async fn create(&self, topic: &str, partitions: i32) {
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let made = self.admin().create_topics([&new], &patient()).await.unwrap();
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        // A broker may hear of it a little later than the controller.
        wait_for("the topic to be there", async || {
            let consumer: BaseConsumer = self.client.create().unwrap();
            let found = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).ok()?;
            (found.topics()[0].partitions().len() == partitions as usize).then_some(())
        })
        .await;
    }

    pub(crate) async fn delete(&self, topic: &str) {
        let gone = self.admin().delete_topics(&[topic], &patient()).await.unwrap();
        assert!(gone.iter().all(Result::is_ok), "{gone:?}");
    }

    pub(crate) async fn add_partitions(&self, topic: &str, count: usize) {
        let new = NewPartitions::new(topic, count);
        let made = self.admin().create_partitions([&new], &patient()).await.unwrap();
        assert!(made.iter().all(Result::is_ok), "{made:?}");
    }

    /// As retention does it: events before `offset` are not there any more.
    pub(crate) async fn delete_records(&self, topic: &str, partition: i32, offset: i64) {
        let mut before = TopicPartitionList::new();
        before.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
        self.admin().delete_records(&before, &patient()).await.unwrap();
    }

    /// What `group` has committed.
    pub(crate) fn committed(&self, group: &str, topic: &str, count: i32) -> BTreeMap<i32, i64> {
        let mut config = self.client.clone();
        let consumer: BaseConsumer = config.set("group.id", group).create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, count - 1);
        let begun = Instant::now();
        let committed = loop {
            match consumer.committed_offsets(list.clone(), PATIENCE) {
                // Where nobody was in a group yet, who coordinates it is only being found.
                Err(KafkaError::MetadataFetch(
                    Code::NotCoordinator | Code::CoordinatorLoadInProgress,
                )) if begun.elapsed() < PATIENCE => {
                    drop(consumer.poll(Duration::from_millis(100)));
                }
                told => break told.unwrap(),
            }
        };
        let elements = committed.elements();
        let known = elements.iter().filter_map(|of| match of.offset() {
            Offset::Offset(offset) => Some((of.partition(), offset)),
            _ => None,
        });
        known.collect()
    }

    /// Where the log of each partition ends.
    pub(crate) fn ends(&self, topic: &str, count: i32) -> BTreeMap<i32, i64> {
        let consumer: BaseConsumer = self.client.create().unwrap();
        let end = |partition| consumer.fetch_watermarks(topic, partition, PATIENCE).unwrap().1;
        (0..count).map(|partition| (partition, end(partition))).collect()
    }

    /// Produces events of every kind and waits until Kafka has them all.
    pub(crate) fn produce(&self, topic: &str, partitions: u64, which: Range<u64>) {
        produce(&self.client, topic, partitions, which);
    }

    /// Allows the guest what the errors say that is refused.
    pub(crate) fn allow(&self, what: &[&str]) {
        let admin = self.new_folder("admin.properties");
        let login = format!(
            "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.jaas.config=\
             org.apache.kafka.common.security.plain.PlainLoginModule required username=\"{}\" \
             password=\"{}\";\n",
            LabKafka::ADMIN,
            LabKafka::PASSWORD
        );
        std::fs::write(&admin, login).unwrap();
        let mut acls = self.lab.kafka_program("org.apache.kafka.tools.AclCommand").unwrap();
        acls.args(["--bootstrap-server", &self.bootstrap, "--command-config"]).arg(&admin);
        acls.args(["--add", "--allow-principal", "User:guest"]).args(what);
        let output = acls.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

/// Says who a client is.
pub(crate) fn login(client: &mut ClientConfig, user: &str) {
    client
        .set("security.protocol", "SASL_PLAINTEXT")
        .set("sasl.mechanism", "PLAIN")
        .set("sasl.username", user)
        .set("sasl.password", LabKafka::PASSWORD);
}

fn patient() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}

/// Keys and values that are there, are empty, are not there; headers of the same name, without a value;
/// timestamps that go back. Each by its number.
pub(crate) fn produce(client: &ClientConfig, topic: &str, partitions: u64, which: Range<u64>) {
    let mut config = client.clone();
    config.set("linger.ms", "20").set("queue.buffering.max.messages", "200000");
    let producer: ThreadedProducer<DefaultProducerContext> = config.create().unwrap();
    for n in which {
        let spread = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let key = format!("key-{}", spread % 1_000);
        let value = format!(r#"{{"n":{n},"user":"user-{}","amount":{}}}"#, spread % 977, n % 91);
        let headers = n.is_multiple_of(3).then(|| {
            let headers = OwnedHeaders::new_with_capacity(3);
            headers
                .insert(Header { key: "trace", value: Some(&n.to_le_bytes()) })
                .insert(Header { key: "trace", value: None::<&[u8]> })
                .insert(Header { key: "größe", value: Some("") })
        });
        let mut record = BaseRecord::<[u8], [u8]> {
            topic,
            partition: Some((spread % partitions) as i32),
            key: Some(key.as_bytes()).filter(|_| !n.is_multiple_of(5)),
            payload: Some(value.as_bytes()).filter(|_| !n.is_multiple_of(11)),
            timestamp: Some(1_700_000_000_000 + n as i64 / 20 - (spread % 50) as i64),
            headers,
            delivery_opaque: (),
        };
        if n.is_multiple_of(7) {
            let empty: &[u8] = &[];
            (record.key, record.payload) = (Some(empty), Some(empty));
        }
        while let Err((KafkaError::MessageProduction(Code::QueueFull), again)) =
            producer.send(record)
        {
            record = again;
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
    producer.flush(PATIENCE).unwrap();
}

/// Looks ten times a second until `look` finds something.
pub(crate) async fn wait_for<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        sleep_until(Instant::now() + Duration::from_millis(100)).await;
    }
}

/// A khaos that runs. Dropping it kills it, with -9.
pub(crate) struct Khaos(Option<Child>);

impl Khaos {
    pub(crate) fn starts(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_khaos"));
        Self::of(command.args(arguments))
    }

    pub(crate) fn of(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(Some(command.spawn().unwrap()))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.0.as_ref().unwrap()), signal).unwrap();
    }

    pub(crate) fn stands_still(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn goes_on(&self) {
        self.signal(Signal::CONT);
    }

    /// Asked to end as service managers do it. What it said.
    pub(crate) fn told_to_end(self) -> Said {
        self.signal(Signal::TERM);
        self.ends()
    }

    /// Waits until it ends by itself. What it said.
    pub(crate) fn ends(mut self) -> Said {
        Said::of(&self.0.take().unwrap().wait_with_output().unwrap())
    }
}

impl Drop for Khaos {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a khaos said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) errors: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_owned()).unwrap();
        Self { code: output.status.code(), out: text(&output.stdout), errors: text(&output.stderr) }
    }

    /// The one JSON document.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs a khaos to its end.
pub(crate) fn khaos(arguments: &[&str]) -> Said {
    Khaos::starts(arguments).ends()
}

/// Real time on one thread, with the network.
pub(crate) fn in_real_time(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test);
}
