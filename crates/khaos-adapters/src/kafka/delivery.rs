//! Events on their way to Kafka, counted until each is acknowledged.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, PurgeConfig, ThreadedProducer};
use rdkafka::{ClientContext, Statistics};

use super::hearing::Hearing;
use super::{KafkaError, KafkaSettings, PATIENCE, not_made};
use crate::recording::Event;

/// What a producer begins with where the settings say nothing.
const USUAL: [(&str, &str); 6] = [
    // The broker's timestamps tell the pace, and whatever an event waits is missing in its second; under load,
    // batches fill up while others are on their way.
    ("linger.ms", "0.1"),
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
    due: Due,
}

impl Sender {
    /// A producer to partitions of `topic`, from 0; an event that is not acknowledged within `patience` has failed.
    pub(super) fn to(
        settings: &KafkaSettings,
        topic: &str,
        partitions: i32,
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
        let producer: ThreadedProducer<Deliveries> = config
            .create_with_context(Deliveries::of(partitions))
            .map_err(|error| not_made(&error))?;
        // Asked now, so that the first event does not wait for it; if nobody answers, its delivery says why.
        drop(producer.client().fetch_metadata(Some(topic), PATIENCE));
        let (topic, bootstrap) = (topic.to_owned(), settings.bootstrap().to_owned());
        Ok(Self { producer, topic, bootstrap, patience, sent: 0, due: Due::of(partitions) })
    }

    /// Hands over an event, which was due at `due_s` if it was at all; false where there is no room before others are acknowledged.
    pub(super) fn send(
        &mut self,
        event: &Event<'_>,
        timestamp_ms: i64,
        value: Option<&[u8]>,
        due_s: Option<f64>,
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
                if let Some(due_s) = due_s {
                    self.due.sent(event.partition, due_s);
                }
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
        self.deliveries().counts().sum()
    }

    /// When the event was due that has been due for longest of those that are not acknowledged, s.
    pub(super) fn oldest_s(&mut self) -> Option<f64> {
        self.due.oldest_s(self.producer.client().context().counts())
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
            // Brokers since 3.0 tell this to who may write to no topic, older ones to who lacks IdempotentWrite.
            Code::ClusterAuthorizationFailed => other(&format!(
                "Kafka does not let this user write exactly once: allow Write on topic '{0}' (kafka-acls --add \
                 --allow-principal User:… --operation Write --topic '{0}'); brokers before 3.0 want \
                 --operation IdempotentWrite --cluster besides",
                self.topic
            )),
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
                other("it is not there any more: somebody deleted it")
            }
            Code::MessageSizeTooLarge => other(
                "an event, or a batch of them, is larger than it takes: raise its max.message.bytes, or \
                 lower batch.size in --kafka-config",
            ),
            Code::InvalidTimestamp => other(
                "it does not take these timestamps: give --shift-time, or raise its \
                 message.timestamp.before.max.ms, or set the clocks of this machine and the broker right",
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

/// When the events that are on their way were due, s. Partitions are not equally fast, and each is
/// acknowledged in its own order: so each has a queue of its own, in which due times never go back.
struct Due(Vec<Waiting>);

#[derive(Default, Clone)]
struct Waiting {
    /// How many were acknowledged when it was looked at last.
    acknowledged: u64,
    due_s: VecDeque<f64>,
}

impl Due {
    fn of(partitions: i32) -> Self {
        Self(vec![Waiting::default(); partitions as usize])
    }

    fn sent(&mut self, partition: i32, due_s: f64) {
        self.0[partition as usize].due_s.push_back(due_s);
    }

    /// The earliest, once so many are `acknowledged` in each partition since the beginning.
    fn oldest_s(&mut self, acknowledged: impl Iterator<Item = u64>) -> Option<f64> {
        let oldest = |(waiting, acknowledged): (&mut Waiting, u64)| {
            let answered = (acknowledged - waiting.acknowledged) as usize;
            waiting.acknowledged = acknowledged;
            waiting.due_s.drain(..answered.min(waiting.due_s.len()));
            waiting.due_s.front().copied()
        };
        self.0.iter_mut().zip(acknowledged).filter_map(oldest).reduce(f64::min)
    }
}

/// What came back.
struct Deliveries {
    hearing: Hearing,
    /// Events, by partition.
    acknowledged: Vec<AtomicU64>,
    /// Why the first that failed did.
    failed: Mutex<Option<Code>>,
}

impl Deliveries {
    fn of(partitions: i32) -> Self {
        let acknowledged = (0..partitions).map(|_| AtomicU64::new(0)).collect();
        Self { hearing: Hearing::default(), acknowledged, failed: Mutex::default() }
    }

    /// How many events each partition has acknowledged.
    fn counts(&self) -> impl Iterator<Item = u64> {
        self.acknowledged.iter().map(|acknowledged| acknowledged.load(Ordering::Relaxed))
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let error = match result {
            Ok(event) => {
                self.acknowledged[event.partition() as usize].fetch_add(1, Ordering::Relaxed);
                return;
            }
            Err((error, _)) => error,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_counts_however_fast_the_other_partitions_are() {
        let mut due = Due::of(3);
        assert_eq!(due.oldest_s([0, 0, 0].into_iter()), None);
        for (partition, due_s) in [(0, 0.0), (1, 1.0), (0, 2.0), (1, 3.0), (0, 4.0)] {
            due.sent(partition, due_s);
        }
        assert_eq!(due.oldest_s([0, 0, 0].into_iter()), Some(0.0));
        // Two are acknowledged, and the one that was due first is not.
        assert_eq!(due.oldest_s([0, 2, 0].into_iter()), Some(0.0));
        assert_eq!(due.oldest_s([1, 2, 0].into_iter()), Some(2.0));
        due.sent(1, 5.0);
        due.sent(2, 6.0);
        assert_eq!(due.oldest_s([3, 2, 0].into_iter()), Some(5.0));
        assert_eq!(due.oldest_s([3, 2, 1].into_iter()), Some(5.0));
        assert_eq!(due.oldest_s([3, 3, 1].into_iter()), None);
    }

    #[test]
    fn where_nothing_is_due_nothing_is_late() {
        let mut due = Due::of(1);
        assert_eq!(due.oldest_s([7].into_iter()), None);
    }
}
