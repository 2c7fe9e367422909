//! The lab's Kafka, a real broker: it serves, keeps what it has, and leaves nothing.
#![allow(clippy::unwrap_used, reason = "a test says what is broken by panicking")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use khaos_adapters::lab::{
    KAFKA_VERSION, Lab, LabConfig, LabError, LabKafka, PacedJob, Phase, Role, down, status,
};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::Mutex;
use tokio::time::Duration;

/// Only one lab of this module at a time: they are many Javas.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Far more than anything takes: whoever waits for so long waits in vain.
const PATIENCE: Duration = Duration::from_mins(2);
const TOPIC: &str = "events";

fn config(dir: &Path, port_base: u16) -> LabConfig {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = std::env::var_os("KHAOS_CACHE").map(PathBuf::from);
    let cache = cache.unwrap_or(workspace.join("target/lab-cache"));
    // The blank is there to be stumbled over.
    LabConfig { port_base, ..LabConfig::only_kafka(dir.join("a lab"), cache) }
}

fn client(lab: &Lab) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", lab.bootstrap().unwrap());
    client
}

/// A client of a lab with authorization.
fn client_of(lab: &Lab, user: &str, password: &str) -> ClientConfig {
    let mut client = client(lab);
    client.set("security.protocol", "SASL_PLAINTEXT").set("sasl.mechanisms", "PLAIN");
    client.set("sasl.username", user).set("sasl.password", password);
    client
}

/// What the broker says to a new topic of one partition.
async fn create_topic(client: &ClientConfig) -> Result<(), RDKafkaErrorCode> {
    let admin: AdminClient<DefaultClientContext> = client.create().unwrap();
    let topic = NewTopic::new(TOPIC, 1, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let mut results = admin.create_topics([&topic], &options).await.unwrap();
    results.remove(0).map(drop).map_err(|(_, code)| code)
}

/// Keeps what became of each record.
#[derive(Default)]
struct Deliveries(std::sync::Mutex<Vec<Result<i64, KafkaError>>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let result = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(error.clone()),
        };
        self.0.lock().unwrap().push(result);
    }
}

/// Produces the events `numbers`, and says where each is, or why it is not.
fn produce(client: &ClientConfig, numbers: std::ops::Range<i64>) -> Vec<Result<i64, KafkaError>> {
    let producer: BaseProducer<Deliveries> =
        client.create_with_context(Deliveries::default()).unwrap();
    for n in numbers {
        let (key, value, header) = (format!("key {n}"), format!("value {n}"), n.to_be_bytes());
        let headers =
            OwnedHeaders::new().insert(Header { key: "n", value: Some(header.as_slice()) });
        let record = BaseRecord::to(TOPIC).key(&key).payload(&value).timestamp(1_000 + n);
        producer.send(record.headers(headers)).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    std::mem::take(&mut *producer.context().0.lock().unwrap())
}

/// The topic has exactly the events 0 to `count`, as they were produced.
fn has_all(client: &ClientConfig, count: i64) {
    let mut client = client.clone();
    client.set("group.id", "reader").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = client.create().unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(TOPIC, 0, Offset::Beginning).unwrap();
    consumer.assign(&from).unwrap();
    for n in 0..count {
        let message = consumer.poll(PATIENCE).unwrap().unwrap();
        assert_eq!((message.offset(), message.timestamp().to_millis()), (n, Some(1_000 + n)));
        assert_eq!(message.key(), Some(format!("key {n}").as_bytes()));
        assert_eq!(message.payload(), Some(format!("value {n}").as_bytes()));
        let header = message.headers().unwrap().get(0);
        assert_eq!((header.key, header.value), ("n", Some(n.to_be_bytes().as_slice())));
    }
    assert_eq!(consumer.fetch_watermarks(TOPIC, 0, PATIENCE).unwrap(), (0, count));
}

fn roles(lab: &Lab) -> Vec<Role> {
    lab.processes().into_iter().map(|(role, _)| role).collect()
}

/// No folder, no process, no port.
fn nothing_is_left(folder: &Path, port_base: u16) {
    assert!(!folder.exists());
    let status = status(folder).unwrap();
    assert_eq!((status.phase, status.processes), (Phase::None, Vec::new()));
    for port in port_base..port_base + 100 {
        TcpListener::bind(("0.0.0.0", port)).unwrap_or_else(|e| panic!("{port} is left: {e}"));
    }
}

#[tokio::test]
#[ignore = "starts a real Kafka: ./test.sh runs it"]
async fn a_broker_alone_serves_and_keeps_what_it_has() {
    const PORT_BASE: u16 = 27_000;
    let _alone = ONE_AT_A_TIME.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let mut lab = Lab::up(config(dir.path(), PORT_BASE), |_| ()).await.unwrap();
    let folder = lab.folder().to_owned();
    assert_eq!(roles(&lab), [Role::Broker]);
    let told = status(&folder).unwrap();
    assert_eq!((told.phase, told.kafka.as_deref()), (Phase::Up, Some(KAFKA_VERSION)));
    assert_eq!((told.bootstrap.as_deref(), told.flink), (lab.bootstrap(), None));

    let client = client(&lab);
    assert_eq!(create_topic(&client).await, Ok(()));
    assert_eq!(create_topic(&client).await, Err(RDKafkaErrorCode::TopicAlreadyExists));
    let there = produce(&client, 0..1_000);
    assert_eq!(there, (0..1_000).map(Ok).collect::<Vec<_>>());

    lab.kill_broker();
    assert_eq!((roles(&lab), lab.exited()), (Vec::new(), None));
    lab.start_broker().unwrap();
    lab.ready().await.unwrap();
    let there = produce(&client, 1_000..1_500);
    assert_eq!(there, (1_000..1_500).map(Ok).collect::<Vec<_>>());
    has_all(&client, 1_500);

    let mut program = lab.kafka_program("org.apache.kafka.tools.ProducerPerformance").unwrap();
    program.args(["--topic", TOPIC, "--num-records", "100", "--record-size", "10"]);
    program.args(["--throughput", "-1", "--bootstrap-server", lab.bootstrap().unwrap()]);
    let output = program.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("100 records sent"), "{output:?}");

    let refused = lab.submit(&PacedJob::default()).await.unwrap_err().to_string();
    assert!(refused.contains("no Flink") && refused.contains("task_managers"), "{refused}");
    lab.down().await.unwrap();
    nothing_is_left(&folder, PORT_BASE);
}

#[tokio::test]
#[ignore = "starts a real Flink and a real Kafka: ./test.sh runs it"]
async fn beside_flink_a_broker_refuses_who_has_no_right_and_its_death_is_told() {
    const PORT_BASE: u16 = 27_100;
    let _alone = ONE_AT_A_TIME.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let kafka = LabKafka { authorization: true, ..LabKafka::default() };
    let config =
        LabConfig { task_managers: 2, kafka: Some(kafka), ..config(dir.path(), PORT_BASE) };
    let mut lab = Lab::up(config, |_| ()).await.unwrap();
    let folder = lab.folder().to_owned();
    let (first, second) = (Role::TaskManager(1), Role::TaskManager(2));
    assert_eq!(roles(&lab), [Role::JobManager, first, second, Role::Broker]);
    let told = status(&folder).unwrap();
    assert_eq!(told.rest_url.as_deref(), Some(lab.rest_url()));
    assert!(told.flink.is_some() && told.bootstrap.as_deref() == lab.bootstrap(), "{told:?}");
    assert!(told.processes.iter().all(|process| process.alive), "{told:?}");
    lab.submit(&PacedJob::default()).await.unwrap();

    let admin = client_of(&lab, LabKafka::ADMIN, LabKafka::PASSWORD);
    let guest = client_of(&lab, LabKafka::GUEST, LabKafka::PASSWORD);
    assert_eq!(create_topic(&guest).await, Err(RDKafkaErrorCode::TopicAuthorizationFailed));
    assert_eq!(create_topic(&admin).await, Ok(()));
    assert_eq!(produce(&admin, 0..10), (0..10).map(Ok).collect::<Vec<_>>());
    has_all(&admin, 10);
    let refused = KafkaError::MessageProduction(RDKafkaErrorCode::TopicAuthorizationFailed);
    assert_eq!(produce(&guest, 10..11), [Err(refused)]);
    let stranger = client_of(&lab, LabKafka::ADMIN, "guessed");
    let stranger: BaseConsumer = stranger.create().unwrap();
    assert!(stranger.fetch_metadata(None, Duration::from_secs(1)).is_err());

    // Not by us: a broker that dies ends the lab, and says so.
    let broker = lab.processes().into_iter().find(|(role, _)| *role == Role::Broker).unwrap().1;
    kill_process(Pid::from_raw(broker.cast_signed()).unwrap(), Signal::KILL).unwrap();
    let failed = tokio::time::timeout(PATIENCE, lab.watch()).await.unwrap();
    assert!(matches!(failed, LabError::LogsKept { .. }), "{failed}");
    assert!(failed.to_string().contains("the broker died by signal 9"), "{failed}");
    lab.down().await.unwrap();
    assert!(folder.join("logs/broker.log").is_file());
    down(&folder).await.unwrap();
    nothing_is_left(&folder, PORT_BASE);
}
