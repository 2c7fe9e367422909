//! What is replayed: a stretch of a recording, or of a topic, in the order in which it was due; or what is
//! made instead.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as Native;
use rdkafka::message::{Message, OwnedMessage};
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::Instant;

use super::error::may_pass;
use super::hearing::Hearing;
use super::made::Maker;
use super::message::{detached, event, stamped_ms};
use super::replay::ReplayError;
use super::{KafkaError, KafkaSettings, Offsets, PATIENCE, not_made};
use crate::recording::{Event, Events};

/// Events one after the other, with when each is due, epoch ms: the latest timestamp of its partition so
/// far.
pub(super) enum Stretch {
    Recorded(Events),
    Topic(TopicEvents),
    /// Without an end.
    Made(Maker),
}

impl Stretch {
    /// Event `n`, as they are asked for one after the other; one that is made now happens at `now_ms`, epoch ms.
    pub(super) async fn next(
        &mut self,
        n: u64,
        now_ms: i64,
    ) -> Result<Option<(i64, Event<'_>)>, ReplayError> {
        Ok(match self {
            Self::Recorded(events) => events.next()?,
            Self::Topic(events) => events.next().await?,
            Self::Made(maker) => Some((now_ms, maker.event(n, now_ms))),
        })
    }
}

/// How long Kafka may say nothing at all while events are left.
const SILENCE: Duration = Duration::from_mins(1);
/// A look without any time ends with the first thing that is no event.
const ALL_OF_IT: Duration = Duration::from_millis(10);
/// What is fetched ahead for all partitions together, KiB.
const AHEAD_KIB: usize = 64 * 1024;

/// Events of a topic between offsets, its partitions merged by time.
pub(super) struct TopicEvents {
    consumer: Arc<BaseConsumer<Hearing>>,
    topic: String,
    bootstrap: String,
    partitions: Vec<Partition>,
    /// Which partition's head is due when.
    due: BinaryHeap<Reverse<(i64, usize)>>,
    /// The partition whose head was handed out.
    taken: Option<usize>,
}

struct Partition {
    number: i32,
    queue: PartitionQueue<Hearing>,
    /// What comes next, and where it ends.
    next: i64,
    until: i64,
    head: Option<OwnedMessage>,
    latest_ms: i64,
}

impl TopicEvents {
    /// Reads `topic` from offsets up to others.
    pub(super) fn open(
        settings: &KafkaSettings,
        topic: &str,
        from: &Offsets,
        until: &Offsets,
    ) -> Result<Self, KafkaError> {
        let stretches: Vec<(i32, i64, i64)> = from
            .iter()
            .filter_map(|(partition, from)| Some((*partition, *from, *until.get(partition)?)))
            .filter(|(_, from, until)| from < until)
            .collect();
        let ahead = (AHEAD_KIB / stretches.len().max(1)).max(1_024);
        let mut config = settings.client()?;
        // A group has to be named; nothing is ever committed to it.
        config
            .set("group.id", "khaos-replay")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            .set("queued.max.messages.kbytes", ahead.to_string());
        let consumer: BaseConsumer<Hearing> =
            config.create_with_context(Hearing::default()).map_err(|error| not_made(&error))?;
        let consumer = Arc::new(consumer);
        let failed = |error: &Native| KafkaError::Other {
            doing: format!("topic '{topic}'"),
            why: error.to_string(),
        };
        let mut assigned = TopicPartitionList::with_capacity(stretches.len());
        for (partition, from, _) in &stretches {
            assigned
                .add_partition_offset(topic, *partition, Offset::Offset(*from))
                .map_err(|error| failed(&error))?;
        }
        consumer.assign(&assigned).map_err(|error| failed(&error))?;
        // As rdkafka's documentation has it: assigning again would take the queues away.
        let partitions = stretches.iter().map(|(partition, from, until)| {
            let queue = consumer.split_partition_queue(topic, *partition).ok_or_else(|| {
                let why = format!("partition {partition} cannot be read by itself: run it again");
                KafkaError::Other { doing: format!("topic '{topic}'"), why }
            })?;
            let (number, next, until) = (*partition, *from, *until);
            Ok(Partition { number, queue, next, until, head: None, latest_ms: i64::MIN })
        });
        let partitions: Vec<Partition> = partitions.collect::<Result<_, KafkaError>>()?;
        let mut events = Self {
            consumer: Arc::clone(&consumer),
            topic: topic.to_owned(),
            bootstrap: settings.bootstrap().to_owned(),
            due: BinaryHeap::with_capacity(partitions.len()),
            partitions,
            taken: None,
        };
        for partition in 0..events.partitions.len() {
            let mut wait = Wait::begun();
            while !events.fill(partition, &mut wait)? {}
        }
        // What was read before a partition had a queue of its own came before its first event.
        events.serve(ALL_OF_IT)?;
        Ok(events)
    }

    /// The event that is due first. Whoever waits for it may do something else now and then.
    pub(super) async fn next(&mut self) -> Result<Option<(i64, Event<'_>)>, KafkaError> {
        if let Some(partition) = self.taken.take() {
            let mut wait = Wait::begun();
            while !self.fill(partition, &mut wait)? {
                tokio::task::yield_now().await;
            }
        }
        let Some(Reverse((due_ms, partition))) = self.due.pop() else { return Ok(None) };
        self.taken = Some(partition);
        let head = self.partitions[partition].head.as_ref().expect("an event is due");
        Ok(Some((due_ms, event(head).expect("its headers were read when it was detached"))))
    }

    /// Lets the client tell what is not about one partition. An event among that is one that its partition
    /// does not give: the replay would be without it.
    fn serve(&self, within: Duration) -> Result<(), KafkaError> {
        while let Some(told) = self.consumer.poll(within) {
            let partition = match told {
                Ok(message) => message.partition(),
                Err(Native::PartitionEOF(partition)) => partition,
                // The hearing has heard it.
                Err(_) => continue,
            };
            let why = format!("partition {partition} was read before its turn: run it again");
            return Err(KafkaError::Other { doing: format!("topic '{}'", self.topic), why });
        }
        Ok(())
    }

    /// Reads the next event of a partition, if there is one before its end, and waits a moment for it. Is that
    /// done?
    fn fill(&mut self, index: usize, wait: &mut Wait) -> Result<bool, KafkaError> {
        let partition = &mut self.partitions[index];
        partition.head = None;
        if partition.next >= partition.until {
            return Ok(true);
        }
        match partition.queue.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                partition.next = message.offset() + 1;
                // What a transaction left out, or compaction, may have held the last offset.
                if message.offset() >= partition.until {
                    return Ok(true);
                }
                let Some(head) = detached(&message) else {
                    let (number, offset) = (message.partition(), message.offset());
                    let doing =
                        format!("topic '{}', offset {offset} of partition {number}", self.topic);
                    let why = "a header's name is not UTF-8, which cannot be replayed: leave it \
                                   out by --from and --to";
                    return Err(KafkaError::Other { doing, why: why.to_owned() });
                };
                partition.latest_ms = partition.latest_ms.max(stamped_ms(&message));
                partition.head = Some(head);
                self.due.push(Reverse((partition.latest_ms, index)));
                return Ok(true);
            }
            Some(Err(Native::PartitionEOF(_))) => wait.at_end = true,
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(code) if may_pass(code) => {}
                Some(code) => return Err(KafkaError::of_topic("Read", &self.topic, code)),
                None => {
                    let (doing, why) = (format!("topic '{}'", self.topic), error.to_string());
                    return Err(KafkaError::Other { doing, why });
                }
            },
            // The last offsets may be a transaction's, or compaction's, if they are there: a leader that is new may
            // be behind the one before, and a log may have been cut.
            None if wait.at_end => {
                let (number, until) = (partition.number, partition.until);
                let end = self.consumer.fetch_watermarks(&self.topic, number, PATIENCE);
                match end.map(|(_, end)| end) {
                    Ok(end) if end >= until => return Ok(true),
                    Ok(end) if Instant::now() >= wait.until => {
                        let doing = format!("topic '{}'", self.topic);
                        let why = format!(
                            "partition {number} ends at offset {end} now, and was to be read up to {until}: \
                                 was it made anew, or truncated?"
                        );
                        return Err(KafkaError::Other { doing, why });
                    }
                    Ok(_) | Err(_) => {}
                }
            }
            None => {}
        }
        self.serve(Duration::ZERO)?;
        let hearing = self.consumer.context();
        if let Some(refusal) = hearing.refusal(&self.bootstrap) {
            return Err(refusal);
        }
        if Instant::now() >= wait.until {
            return Err(KafkaError::Away {
                bootstrap: self.bootstrap.clone(),
                waited_s: SILENCE.as_secs(),
                why: hearing.why("nothing more was read"),
            });
        }
        Ok(false)
    }
}

/// For an event that does not come.
struct Wait {
    /// When it was waited for long enough.
    until: Instant,
    /// The client has told that there is none yet.
    at_end: bool,
}

impl Wait {
    fn begun() -> Self {
        Self { until: Instant::now() + SILENCE, at_end: false }
    }
}
