//! Reading events: as fast as they come, through everything that passes.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};
use rdkafka::message::{Message, Timestamp};
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::time::Instant;

use super::keeper::Keeper;
use super::{Commits, Ended, Progress, RecordConfig, RecordError, Recorder, SYNC, refusal};
use crate::kafka::error::is_no_topic;
use crate::kafka::hearing::Hearing;
use crate::kafka::{KafkaError, KafkaSettings, Offsets, not_made};
use crate::recording::{RecordingError, TimestampKind};

/// How long the log may be silent before somebody looks at clocks and flags.
const LOOK: Duration = Duration::from_millis(50);
/// Events between two such looks.
const STRIDE: u32 = 256;
/// For one message of a topic, to see whose timestamps it has.
const PEEK: Duration = Duration::from_secs(5);
/// Brokers that have not answered for so long are told of.
const SILENCE: Duration = Duration::from_secs(5);

/// What makes reading fast. A file of settings may say otherwise.
const FAST: [(&str, &str); 6] = [
    // Together with what a message takes beside its bytes, some 100 MB for small ones.
    ("queued.max.messages.kbytes", "32768"),
    ("queued.min.messages", "300000"),
    // Default 1 s: so long nothing is fetched once there is enough.
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.message.max.bytes", "4194304"),
    // Few, large answers while there is much; none waits longer than this.
    ("fetch.wait.max.ms", "100"),
    ("fetch.min.bytes", "65536"),
];

/// A consumer that reads what it is told to, and nothing else.
fn consumer(settings: &KafkaSettings, group: &str) -> Result<BaseConsumer<Hearing>, KafkaError> {
    let mut config = settings.client()?;
    for (key, value) in FAST.into_iter().chain([("check.crcs", "true")]) {
        if config.get(key).is_none() {
            config.set(key, value);
        }
    }
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // What is not there any more is a gap, and never skipped in silence.
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        // Without membership it bounds but one thing: how long a commit waits for a coordinator.
        .set("session.timeout.ms", "10000");
    config.create_with_context(Hearing::default()).map_err(|error| not_made(&error))
}

/// Whose timestamps the last messages of `topic` have. Where there is none, Kafka's usual ones.
pub(super) fn timestamps(
    settings: &KafkaSettings,
    config: &RecordConfig,
    starts: &Offsets,
    ends: &Offsets,
) -> Result<TimestampKind, KafkaError> {
    let (topic, group) = (config.topic.as_str(), config.group.as_str());
    let mut last = TopicPartitionList::new();
    for (partition, end) in ends {
        if starts.get(partition).is_some_and(|start| start < end) {
            last.add_partition_offset(topic, *partition, Offset::Offset(end - 1))
                .map_err(|error| other(topic, &error))?;
        }
    }
    let consumer = consumer(settings, group)?;
    consumer.assign(&last).map_err(|error| other(topic, &error))?;
    let deadline = Instant::now() + PEEK;
    let mut left = last.count();
    while left > 0 && Instant::now() < deadline {
        match consumer.poll(LOOK) {
            Some(Ok(message)) => {
                return Ok(match message.timestamp() {
                    Timestamp::LogAppendTime(_) => TimestampKind::LogAppend,
                    Timestamp::CreateTime(_) | Timestamp::NotAvailable => TimestampKind::Create,
                });
            }
            // A transaction's mark stood there.
            Some(Err(Native::PartitionEOF(_))) => left -= 1,
            Some(Err(error)) => match error.rdkafka_error_code() {
                // Retention was faster.
                Some(Code::AutoOffsetReset) | None => left -= 1,
                Some(code) => refusal(code, topic, group).map_or(Ok(()), Err)?,
            },
            None => {}
        }
    }
    Ok(TimestampKind::Create)
}

/// Reads until `end` says so. What is committed then.
pub(super) fn read(
    recorder: &mut Recorder,
    end: impl Fn(Instant) -> Option<Ended>,
    progress: &mut impl FnMut(&Progress),
) -> (Result<Ended, RecordError>, Commits) {
    let config = &recorder.config;
    let consumer = match consumer(&recorder.settings, &config.group) {
        Ok(consumer) => Arc::new(consumer),
        Err(error) => return (Err(error.into()), Commits::default()),
    };
    let keeper = Keeper::of(
        Arc::clone(&recorder.cluster),
        Arc::clone(&consumer),
        &config.topic,
        &config.group,
        recorder.ends.clone(),
    );
    let mut reading = Reading { recorder, consumer, keeper, heard: Instant::now() };
    let ended = reading.until(end, progress);
    let away = matches!(ended, Err(RecordError::Kafka(KafkaError::Away { .. })));
    // Whatever happened: what was read is kept. If it cannot be, that is why it ended, unless that was told.
    let ended = match (ended, reading.sync(!away)) {
        (ended, Ok(())) => ended,
        (Err(told), Err(RecordError::Recording(RecordingError::Failed { .. }))) => Err(told),
        (_, Err(disk)) => Err(disk),
    };
    reading.keeper.end();
    let seen = reading.keeper.seen();
    let commits =
        Commits { committed: seen.committed.clone(), uncommitted: seen.uncommitted.clone() };
    drop(seen);
    (ended, commits)
}

struct Reading<'a> {
    recorder: &'a mut Recorder,
    consumer: Arc<BaseConsumer<Hearing>>,
    keeper: Keeper,
    /// When it was last seen that events had come.
    heard: Instant,
}

impl Reading<'_> {
    fn until(
        &mut self,
        end: impl Fn(Instant) -> Option<Ended>,
        progress: &mut impl FnMut(&Progress),
    ) -> Result<Ended, RecordError> {
        self.assign()?;
        let mut next_sync = Instant::now() + SYNC;
        let mut unlooked = 0;
        let mut has_heard = false;
        let consumer = Arc::clone(&self.consumer);
        loop {
            let polled = consumer.poll(LOOK);
            let is_event = matches!(polled, Some(Ok(_)));
            match polled {
                Some(Ok(message)) => {
                    let kept = &mut self.recorder.kept;
                    if !kept.append(&message)? {
                        // It takes less than it might, once it is on disk.
                        self.keeper.commit(kept.sync()?);
                        if !kept.append(&message)? {
                            return Ok(Ended::Budget);
                        }
                    }
                }
                Some(Err(error)) => self.bear(&error)?,
                None => {}
            }
            unlooked += 1;
            has_heard |= is_event;
            if is_event && unlooked < STRIDE {
                continue;
            }
            unlooked = 0;
            let now = Instant::now();
            if std::mem::take(&mut has_heard) {
                self.heard = now;
            }
            if let Some(ended) = end(now) {
                return Ok(ended);
            }
            if now >= next_sync {
                self.sync_beside()?;
                next_sync = now + SYNC;
                self.look_around(now, progress)?;
            }
        }
    }

    fn assign(&self) -> Result<(), KafkaError> {
        let assignment = self.recorder.kept.assignment();
        let topic = &self.recorder.config.topic;
        self.consumer.assign(&assignment).map_err(|error| other(topic, &error))
    }

    /// Has what was read so far brought to disk, and committed then, beside the reading.
    fn sync_beside(&mut self) -> Result<(), RecordError> {
        let keeper = self.keeper.teller();
        Ok(self.recorder.kept.writer.sync_then(move |offsets| keeper.commit(offsets))?)
    }

    /// Brings what was read to disk, then has it committed.
    fn sync(&mut self, commit: bool) -> Result<(), RecordError> {
        let offsets = self.recorder.kept.sync()?;
        if commit {
            self.keeper.commit(offsets);
        }
        Ok(())
    }

    /// About every second: has anybody answered, may offsets be committed, are there new partitions?
    fn look_around(
        &mut self,
        now: Instant,
        progress: &mut impl FnMut(&Progress),
    ) -> Result<(), RecordError> {
        let mut seen = self.keeper.seen();
        if let Some(refusal) = seen.refused.take() {
            return Err(refusal.into());
        }
        let away = now.saturating_duration_since(seen.answered.max(self.heard));
        let ends = seen.ends.clone();
        drop(seen);
        let why = || self.consumer.context().why("nobody answers");
        // Whoever looks may wait for an answer to something else.
        let answers = || self.recorder.cluster.ends(&self.recorder.config.topic).is_ok();
        if away > self.recorder.config.patience && answers() {
            self.heard = Instant::now();
        } else if away > self.recorder.config.patience {
            let bootstrap = self.recorder.cluster.bootstrap();
            // A password that is not taken any more is no absence.
            let refusal = self.consumer.context().refusal(bootstrap);
            return Err(refusal
                .unwrap_or_else(|| KafkaError::Away {
                    bootstrap: bootstrap.to_owned(),
                    waited_s: away.as_secs(),
                    why: why(),
                })
                .into());
        }
        progress(&Progress {
            events: self.recorder.kept.events,
            bytes: self.recorder.kept.writer.bytes(),
            behind: self.recorder.kept.behind(&ends),
            away: (away > SILENCE).then(|| (away, why())),
        });
        if self.recorder.kept.note_partitions(ends.len())? {
            self.assign()?;
        }
        Ok(())
    }

    /// An error that passes is waited for; one that does not is returned.
    fn bear(&mut self, error: &Native) -> Result<(), RecordError> {
        let (topic, group) = (&self.recorder.config.topic, &self.recorder.config.group);
        let Some(code) = error.rdkafka_error_code() else {
            return match error {
                Native::PartitionEOF(_) => Ok(()),
                error => Err(other(topic, error).into()),
            };
        };
        if code == Code::AutoOffsetReset {
            return self.find_again();
        }
        // Whether it is gone, or a broker just does not know it yet, is asked.
        if is_no_topic(code) || code == Code::UnknownPartition {
            let partitions = self.recorder.cluster.partitions(topic);
            return Ok(unless_silent(partitions).map(|_| ())?);
        }
        refusal(code, topic, group).map_or(Ok(()), |refusal| Err(refusal.into()))
    }

    /// An offset that comes next is not in the log: it was deleted, or the log is another one.
    fn find_again(&mut self) -> Result<(), RecordError> {
        let recorder = &mut *self.recorder;
        let topic = &recorder.config.topic;
        let cluster = &recorder.cluster;
        let asked = cluster.starts(topic).and_then(|starts| Ok((starts, cluster.ends(topic)?)));
        if let Some((starts, ends)) = unless_silent(asked)? {
            recorder.kept.refuse_replaced(topic, &ends)?;
            for (partition, start) in starts {
                recorder.kept.go_on_from(partition, start, recorder.clock)?;
            }
        }
        Ok(self.assign()?)
    }
}

/// A broker that just went away is waited for by who looks at clocks.
fn unless_silent<T>(asked: Result<T, KafkaError>) -> Result<Option<T>, KafkaError> {
    match asked {
        Ok(answer) => Ok(Some(answer)),
        Err(KafkaError::NoAnswer { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn other(topic: &str, error: &Native) -> KafkaError {
    KafkaError::Other { doing: format!("topic '{topic}'"), why: error.to_string() }
}
