//! Events on their way to Kafka, counted until each is acknowledged.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, PurgeConfig, ThreadedProducer};
use rdkafka::{ClientContext, Statistics};

use super::hearing::Hearing;
use super::{KafkaError, KafkaSettings, PATIENCE, not_made};
use crate::recording::Event;

/// What a producer begins with where the settings say nothing.
const USUAL: [(&str, &str); 6] = [
    // The broker's timestamps tell the pace; under load, batches fill up while others are on their way.
    ("linger.ms", "1"),
    ("batch.size", "1000000"),
    ("batch.num.messages", "10000"),
    // What is on its way is bounded by both.
    ("queue.buffering.max.messages", "200000"),
    ("queue.buffering.max.kbytes", "131072"),
    // What is too large is for the broker to say.
    ("message.max.bytes", "100000000"),
];

/// Sends in order, each event once, and counts.
pub(super) struct Sender {
    producer: ThreadedProducer<Deliveries>,
    topic: String,
    bootstrap: String,
    patience: Duration,
    sent: u64,
}

impl Sender {
    /// A producer to `topic`; an event that is not acknowledged within `patience` has failed.
    pub(super) fn to(
        settings: &KafkaSettings,
        topic: &str,
        patience: Duration,
    ) -> Result<Self, KafkaError> {
        let mut config = settings.client()?;
        // Once, in order, by all replicas.
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", patience.as_millis().to_string())
            // A topic whose name is misspelt is not to come into being.
            .set("allow.auto.create.topics", "false");
        for (name, value) in USUAL {
            if config.get(name).is_none() {
                config.set(name, value);
            }
        }
        let producer: ThreadedProducer<Deliveries> =
            config.create_with_context(Deliveries::default()).map_err(|error| not_made(&error))?;
        // Asked now, so that the first event does not wait for it; if nobody answers, its delivery says why.
        drop(producer.client().fetch_metadata(Some(topic), PATIENCE));
        let (topic, bootstrap) = (topic.to_owned(), settings.bootstrap().to_owned());
        Ok(Self { producer, topic, bootstrap, patience, sent: 0 })
    }

    /// Hands over an event; false where there is no room before others are acknowledged.
    pub(super) fn send(
        &mut self,
        event: &Event<'_>,
        timestamp_ms: i64,
        value: Option<&[u8]>,
    ) -> Result<bool, KafkaError> {
        // An event of before there were timestamps gets librdkafka's, which is now.
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.topic)
            .partition(event.partition)
            .timestamp(timestamp_ms.max(0));
        record.key = event.key;
        record.payload = value;
        if !event.headers.is_empty() {
            let headers = OwnedHeaders::new_with_capacity(event.headers.len());
            record.headers = Some(event.headers.iter().fold(headers, |headers, header| {
                headers.insert(Header { key: header.name, value: header.value })
            }));
        }
        match self.producer.send(record) {
            Ok(()) => {
                self.sent += 1;
                Ok(true)
            }
            Err((error, _)) => match error.rdkafka_error_code().unwrap_or(Code::Fail) {
                Code::QueueFull => Ok(false),
                code => Err(self.meaning(code)),
            },
        }
    }

    /// An error where something that was sent will never be acknowledged.
    pub(super) fn check(&self) -> Result<(), KafkaError> {
        let deliveries = self.deliveries();
        if let Some(refusal) = deliveries.hearing.refusal(&self.bootstrap) {
            return Err(refusal);
        }
        let first = *deliveries.failed.lock().unwrap_or_else(PoisonError::into_inner);
        first.map_or(Ok(()), |code| Err(self.meaning(code)))
    }

    /// Gives up what is on its way: of that, nobody knows what arrives.
    pub(super) fn give_up(&self) {
        self.producer.purge(PurgeConfig::default().queue().inflight());
        // What was acknowledged before is counted yet; nothing else is to be waited for.
        drop(self.producer.flush(Duration::from_secs(1)));
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.deliveries().acknowledged.load(Ordering::Relaxed)
    }

    fn deliveries(&self) -> &Deliveries {
        self.producer.client().context()
    }

    /// What librdkafka's code means for an event.
    fn meaning(&self, code: Code) -> KafkaError {
        let other = |why: &str| KafkaError::Other {
            doing: format!("topic '{}'", self.topic),
            why: why.to_owned(),
        };
        match code {
            Code::MessageTimedOut => KafkaError::Away {
                bootstrap: self.bootstrap.clone(),
                waited_s: self.patience.as_secs(),
                why: self.deliveries().hearing.why("events were not acknowledged in time"),
            },
            Code::ClusterAuthorizationFailed => other(
                "Kafka does not let this user write exactly once: have it allowed (kafka-acls --add \
                 --allow-principal User:… --operation IdempotentWrite --cluster)",
            ),
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
                other("it is not there any more: somebody deleted it")
            }
            Code::MessageSizeTooLarge => other(
                "an event, or a batch of them, is larger than it takes: raise its max.message.bytes, or \
                 lower batch.size in --kafka-config",
            ),
            Code::InvalidTimestamp => other(
                "it does not take these timestamps: give --shift-time, or raise its \
                 message.timestamp.before.max.ms",
            ),
            Code::InvalidRecord => {
                other("it does not take such an event: a compacted topic wants keys")
            }
            Code::Fatal => match self.producer.client().fatal_error() {
                Some((Code::Fatal, why)) => other(&why),
                Some((code, _)) => self.meaning(code),
                None => other(&code.to_string()),
            },
            code => KafkaError::of_topic("Write", &self.topic, code),
        }
    }
}

/// What came back.
#[derive(Default)]
struct Deliveries {
    hearing: Hearing,
    acknowledged: AtomicU64,
    /// Why the first that failed did.
    failed: Mutex<Option<Code>>,
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let Err((error, _)) = result else {
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get_or_insert(error.rdkafka_error_code().unwrap_or(Code::Fail));
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.hearing.log(level, facility, line);
    }

    fn error(&self, error: Native, reason: &str) {
        self.hearing.error(error, reason);
    }

    fn stats(&self, _: Statistics) {}
}
