//! Checksums by partition: of a topic and of a recording, to be compared.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use khaos_adapters::recording::Recording;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// Of one partition. Equal ones saw the same events in the same order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) events: u64,
    /// Of keys, values, headers and timestamps.
    pub(crate) contents: u64,
    /// Of offsets.
    pub(crate) offsets: u64,
}

/// By partition.
pub(crate) type Sums = BTreeMap<i32, Sum>;

/// How many events there are.
pub(crate) fn events(sums: &Sums) -> u64 {
    sums.values().map(|sum| sum.events).sum()
}

impl Default for Sum {
    fn default() -> Self {
        Self { events: 0, contents: 0xcbf2_9ce4_8422_2325, offsets: 0xcbf2_9ce4_8422_2325 }
    }
}

impl Sum {
    pub(crate) fn add<'a>(
        &mut self,
        offset: i64,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) {
        self.events += 1;
        mix(&mut self.offsets, &offset.to_le_bytes());
        mix(&mut self.contents, &timestamp_ms.to_le_bytes());
        part(&mut self.contents, key);
        part(&mut self.contents, value);
        for (name, value) in headers {
            part(&mut self.contents, Some(name.as_bytes()));
            part(&mut self.contents, value);
        }
    }
}

/// Nothing, and no bytes, are two things.
fn part(sum: &mut u64, bytes: Option<&[u8]>) {
    mix(sum, &bytes.map_or(-1, |bytes| bytes.len() as i64).to_le_bytes());
    mix(sum, bytes.unwrap_or_default());
}

/// FNV-1a.
fn mix(sum: &mut u64, bytes: &[u8]) {
    for byte in bytes {
        *sum = (*sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
}

/// Everything that a recording holds.
pub(crate) fn of_recording(folder: &Path) -> Sums {
    let recording = Recording::open(folder).unwrap();
    let mut events = recording.events(i64::MIN, i64::MAX).unwrap();
    let mut sums = Sums::new();
    while let Some((_, event)) = events.next().unwrap() {
        let headers = event.headers.iter().map(|header| (header.name, header.value));
        let sum = sums.entry(event.partition).or_default();
        sum.add(event.offset, event.timestamp_ms, event.key, event.value, headers);
    }
    sums
}

/// Everything that a topic holds now, from offsets on where they are given.
pub(crate) fn of_topic(client: &ClientConfig, topic: &str, from: &BTreeMap<i32, i64>) -> Sums {
    let mut config = client.clone();
    config.set("group.id", "check").set("enable.auto.commit", "false");
    config.set("enable.partition.eof", "true").set("isolation.level", "read_committed");
    let consumer: BaseConsumer = config.create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(30)).unwrap();
    let partitions = metadata.topics()[0].partitions().len();
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions as i32 {
        let offset = from.get(&partition).map_or(Offset::Beginning, |from| Offset::Offset(*from));
        list.add_partition_offset(topic, partition, offset).unwrap();
    }
    consumer.assign(&list).unwrap();
    let mut sums = Sums::new();
    let mut left = partitions;
    while left > 0 {
        match consumer.poll(Duration::from_mins(1)).expect("the broker answers") {
            Ok(message) => {
                let headers = message.headers().into_iter().flat_map(Headers::iter);
                let timestamp_ms = message.timestamp().to_millis().unwrap();
                sums.entry(message.partition()).or_default().add(
                    message.offset(),
                    timestamp_ms,
                    message.key(),
                    message.payload(),
                    headers.map(|header| (header.key, header.value)),
                );
            }
            Err(KafkaError::PartitionEOF(_)) => left -= 1,
            Err(error) => panic!("{error}"),
        }
    }
    sums
}
