//! The lab's Kafka: one broker that is its own controller (`KRaft`), what it is told, and whether it answers.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError as Native;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::Duration;

use super::config::Ports;
use crate::kafka::{Cluster, KafkaError, KafkaSettings};

/// The Kafka broker of a lab.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabKafka {
    /// Whether clients have to say who they are (`SASL_PLAINTEXT`, `PLAIN`) and may do only what they have a
    /// right to: [`LabKafka::ADMIN`] everything, [`LabKafka::GUEST`] nothing but what somebody allows.
    /// Otherwise everybody may do everything, without a name.
    pub authorization: bool,
    /// Settings of the broker that replace the lab's usual ones; not its ports.
    pub settings: BTreeMap<String, String>,
}

impl LabKafka {
    /// The user who may do everything.
    pub const ADMIN: &str = "admin";
    /// The user who may do nothing unless an ACL allows it.
    pub const GUEST: &str = "guest";
    /// The password of both.
    pub const PASSWORD: &str = "known-to-everybody";
}

/// `server.properties` of the lab's broker in `folder`, the run folder by its one absolute name.
pub(super) fn server_properties(folder: &Path, ports: Ports, kafka: &LabKafka) -> String {
    let mut settings: BTreeMap<String, String> =
        USUAL.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let (clients, controller) = (ports.broker(), ports.controller());
    let protocol = if kafka.authorization { "SASL_PLAINTEXT" } else { "PLAINTEXT" };
    for (key, value) in [
        ("log.dirs", format!("{}/kafka", folder.display())),
        ("advertised.listeners", format!("CLIENTS://127.0.0.1:{clients}")),
        ("controller.quorum.voters", format!("1@127.0.0.1:{controller}")),
        ("listeners", format!("CLIENTS://127.0.0.1:{clients},CONTROLLER://127.0.0.1:{controller}")),
        ("listener.security.protocol.map", format!("CLIENTS:{protocol},CONTROLLER:PLAINTEXT")),
    ] {
        settings.insert(key.to_owned(), value);
    }
    if kafka.authorization {
        let (admin, guest, password) = (LabKafka::ADMIN, LabKafka::GUEST, LabKafka::PASSWORD);
        let logins = format!(
            "org.apache.kafka.common.security.plain.PlainLoginModule required \
             username=\"{admin}\" password=\"{password}\" \
             user_{admin}=\"{password}\" user_{guest}=\"{password}\";"
        );
        for (key, value) in [
            ("sasl.enabled.mechanisms", "PLAIN"),
            ("sasl.mechanism.inter.broker.protocol", "PLAIN"),
            ("listener.name.clients.plain.sasl.jaas.config", &logins),
            ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
            // Without a name comes the broker to its controller; no client can, where clients listen.
            ("super.users", &format!("User:{admin};User:ANONYMOUS")),
        ] {
            settings.insert(key.to_owned(), value.to_owned());
        }
    }
    settings.extend(kafka.settings.iter().map(|(key, value)| (key.clone(), value.clone())));
    settings.iter().map(|(key, value)| format!("{}={}\n", escaped(key), escaped(value))).collect()
}

/// What every lab tells its Kafka; the reasons that are not in the names stand beside.
const USUAL: [(&str, &str); 19] = [
    ("process.roles", "broker,controller"),
    ("node.id", "1"),
    ("controller.listener.names", "CONTROLLER"),
    ("inter.broker.listener.name", "CLIENTS"),
    // A name that somebody mistyped is an error, not a topic.
    ("auto.create.topics.enable", "false"),
    ("group.initial.rebalance.delay.ms", "0"),
    // There is nobody to replicate to.
    ("offsets.topic.replication.factor", "1"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
    // Default 50 each, which are made when the first group, and the first transaction, come.
    ("offsets.topic.num.partitions", "1"),
    ("transaction.state.log.num.partitions", "1"),
    ("share.coordinator.state.topic.num.partitions", "1"),
    // Default a week, by the timestamps of the events: those of a replay may be years old.
    ("log.retention.ms", "-1"),
    // Default 128 MB of heap.
    ("log.cleaner.dedupe.buffer.size", "4194304"),
    // A broker that was killed is refused for so long after its start: default 9 s.
    ("broker.session.timeout.ms", "6000"),
    ("broker.heartbeat.interval.ms", "1000"),
    // The folder goes with the lab; nobody asks how it was.
    ("controlled.shutdown.enable", "false"),
];

/// As `java.util.Properties` reads it, which takes a file for ISO 8859-1.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => escaped.push_str("\\n"),
            '\\' | ' ' | ':' | '=' | '#' | '!' => escaped.extend(['\\', c]),
            ' '..='~' => escaped.push(c),
            _ => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                let _ = write!(escaped, "\\u{unit:04x}");
            }),
        }
    }
    escaped
}

/// How long the broker has for one answer.
const ANSWER: Duration = Duration::from_secs(3);

/// Whether the broker serves clients: it names itself among those who do, which it does only once its
/// controller takes it for alive. What is missing otherwise, in words.
pub(super) async fn serves(bootstrap: &str, kafka: &LabKafka) -> Result<(), String> {
    // First, so that no client is made, which would go on trying, as long as nobody listens.
    let silent = |_| format!("{bootstrap} does not answer");
    TcpStream::connect(bootstrap).await.map(drop).map_err(silent)?;
    let config = client_config(bootstrap, kafka);
    let (tell, told) = oneshot::channel();
    // A thread: the client blocks, and has no deadline for its own end.
    std::thread::spawn(move || {
        let _ = tell.send(brokers(&config));
    });
    match tokio::time::timeout(ANSWER * 2, told).await {
        Ok(Ok(Ok(0))) => Err(format!("{bootstrap} answers, but no broker is alive")),
        Ok(Ok(Ok(_))) => Ok(()),
        Ok(Ok(Err(error))) => Err(format!("{bootstrap}: {error}")),
        Ok(Err(_)) | Err(_) => Err(format!("{bootstrap} does not answer a client")),
    }
}

/// How many brokers there are, as the one that is asked says.
fn brokers(config: &ClientConfig) -> Result<usize, Native> {
    let client: BaseConsumer<Silent> = config.create_with_context(Silent)?;
    Ok(client.fetch_metadata(None, ANSWER)?.brokers().len())
}

/// How many partitions a topic has, at a broker that wants to know nobody's name.
pub(super) async fn partitions(bootstrap: &str, topic: &str) -> Result<i32, KafkaError> {
    let settings = KafkaSettings::at(bootstrap)?;
    let topic = topic.to_owned();
    let (tell, told) = oneshot::channel();
    // A thread: the client waits for its answer.
    std::thread::spawn(move || {
        tell.send(Cluster::at(&settings).and_then(|it| it.partitions(&topic)))
    });
    told.await.expect("whoever asks tells the answer")
}

fn client_config(bootstrap: &str, kafka: &LabKafka) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    if kafka.authorization {
        config.set("security.protocol", "SASL_PLAINTEXT").set("sasl.mechanisms", "PLAIN");
        config.set("sasl.username", LabKafka::ADMIN).set("sasl.password", LabKafka::PASSWORD);
    }
    config
}

/// A client that says nothing of its own: a broker that starts is asked too early as a rule.
struct Silent;

impl ClientContext for Silent {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: Native, _: &str) {}
}

impl ConsumerContext for Silent {}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(folder: &str, kafka: &LabKafka) -> Vec<String> {
        let text = server_properties(Path::new(folder), Ports { base: 21_000 }, kafka);
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_broker_listens_on_loopback_and_keeps_its_data_in_the_run_folder() {
        let more = [("log.retention.ms", "60000"), ("my.own", "a: b\nc\\d")];
        let settings = more.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let lines = told("/a lab/ä", &LabKafka { settings, authorization: false });
        for line in [
            "listeners=CLIENTS\\://127.0.0.1\\:21025,CONTROLLER\\://127.0.0.1\\:21026",
            "controller.quorum.voters=1@127.0.0.1\\:21026",
            "log.dirs=/a\\ lab/\\u00e4/kafka",
            "log.retention.ms=60000",
            "my.own=a\\:\\ b\\nc\\\\d",
        ] {
            assert!(lines.iter().any(|there| there == line), "{line} is not in {lines:#?}");
        }
        assert!(!lines.iter().any(|line| line.contains("sasl")), "{lines:#?}");
    }

    #[test]
    fn rights_are_asked_for_only_where_they_are_wanted() {
        let lines = told("/lab", &LabKafka { authorization: true, ..LabKafka::default() });
        let has = |begin: &str| lines.iter().any(|line| line.starts_with(begin));
        assert!(has("listener.security.protocol.map=CLIENTS\\:SASL_PLAINTEXT,"), "{lines:#?}");
        assert!(has("authorizer.class.name="), "{lines:#?}");
        assert!(has("super.users=User\\:admin;User\\:ANONYMOUS"), "{lines:#?}");
    }

    #[tokio::test]
    async fn what_does_not_listen_or_does_not_speak_is_not_ready() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mute = serves(&address, &LabKafka::default()).await.unwrap_err();
        assert!(mute.starts_with(&address), "{mute}");
        drop(listener);
        let nobody = serves(&address, &LabKafka::default()).await.unwrap_err();
        assert_eq!(nobody, format!("{address} does not answer"));
    }
}
