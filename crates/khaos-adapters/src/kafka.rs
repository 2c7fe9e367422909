//! Apache Kafka: what to tell a client ([`settings`]), what a cluster says of its topics, a live topic to
//! disk ([`record`]), a stretch of events once more ([`replay`]) or events that are [`made`] instead, and what
//! arrives and waits there for a job ([`load`]), how old is what others see of what it writes ([`visibility`]).
//! What clones need there is made and removed by [`admin`].
//!
//! A [`Cluster`] waits for answers in the thread that asks.

pub mod admin;
pub mod clones;
mod delivery;
mod ends;
pub mod error;
mod hearing;
pub mod load;
pub mod made;
mod message;
pub mod pace;
pub mod record;
pub mod replay;
pub mod settings;
pub mod shift;
mod stretch;
pub mod visibility;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};
use rdkafka::metadata::MetadataTopic;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::oneshot;
use tokio::time::Instant;

pub use error::KafkaError;
use error::may_pass;
use hearing::Hearing;
pub use settings::{KafkaSettings, SettingsError};

/// How long an answer may take, all tries together: as long as a leader may be without a successor.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The first try; each further one may take twice as long. What waiting does not mend is noticed between.
const FIRST_TRY: Duration = Duration::from_secs(1);
/// Between two tries, in which librdkafka tells what it has to tell.
const BETWEEN: Duration = Duration::from_millis(100);

/// Offsets by partition.
pub type Offsets = BTreeMap<i32, i64>;

impl ConsumerContext for Hearing {}

/// A cluster that can be asked about its topics. It reads nothing and is a member of no group.
pub struct Cluster {
    consumer: BaseConsumer<Hearing>,
    bootstrap: String,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("bootstrap", &self.bootstrap).finish_non_exhaustive()
    }
}

impl Cluster {
    /// A client of the cluster. Whether anybody is there shows with the first question.
    pub fn at(settings: &KafkaSettings) -> Result<Self, KafkaError> {
        Self::of(settings, &settings.client()?)
    }

    /// The same, but its ends are those of the logs, whatever transactions are open.
    pub fn uncommitted(settings: &KafkaSettings) -> Result<Self, KafkaError> {
        Self::of(settings, settings.client()?.set("isolation.level", "read_uncommitted"))
    }

    fn of(settings: &KafkaSettings, config: &ClientConfig) -> Result<Self, KafkaError> {
        let consumer =
            config.create_with_context(Hearing::default()).map_err(|error| not_made(&error))?;
        Ok(Self { consumer, bootstrap: settings.bootstrap().to_owned() })
    }

    /// Where it was asked to look.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// How many partitions `topic` has. They are numbered from 0 without gaps.
    pub fn partitions(&self, topic: &str) -> Result<i32, KafkaError> {
        let count = self.ask(|consumer, within| {
            let metadata = consumer.fetch_metadata(Some(topic), within)?;
            let found = metadata.topics().iter().find(|found| found.name() == topic);
            let error = match found {
                None => Some(Code::UnknownTopicOrPartition),
                Some(found) => found.error().map(Code::from),
            };
            match (error, found) {
                (None, Some(found)) => Ok(found.partitions().len() as i32),
                (code, _) => Err(Native::MetadataFetch(code.unwrap_or(Code::UnknownTopic))),
            }
        });
        count.map_err(|failed| self.of_topic(topic, failed))
    }

    /// The first offset of each partition that retention has left.
    pub fn starts(&self, topic: &str) -> Result<Offsets, KafkaError> {
        self.offsets(topic, Offset::Beginning)
    }

    /// The offset after the last event of each partition that may be read: behind that of the log while
    /// a transaction is open, unless the settings' isolation.level is read_uncommitted.
    pub fn ends(&self, topic: &str) -> Result<Offsets, KafkaError> {
        self.offsets(topic, Offset::End)
    }

    /// The first offset of each partition whose timestamp is not before `epoch_ms`; its end where
    /// there is none yet.
    pub fn offsets_at(&self, topic: &str, epoch_ms: i64) -> Result<Offsets, KafkaError> {
        // First the ends: what arrives between the two questions is after them.
        let ends = self.ends(topic)?;
        let mut offsets = self.offsets(topic, Offset::Offset(epoch_ms.max(0)))?;
        for (partition, offset) in &mut offsets {
            if *offset == NONE {
                *offset = ends.get(partition).copied().unwrap_or(0);
            }
        }
        Ok(offsets)
    }

    /// Asks the leaders, all at once. A time is an offset to librdkafka here, and the ends are times.
    fn offsets(&self, topic: &str, of: Offset) -> Result<Offsets, KafkaError> {
        let partitions = self.partitions(topic)?;
        let offsets = self.ask(|consumer, within| {
            let mut list = TopicPartitionList::with_capacity(partitions as usize);
            for partition in 0..partitions {
                list.add_partition_offset(topic, partition, of)?;
            }
            let answer = consumer.offsets_for_times(list, within)?;
            let mut offsets = Offsets::new();
            for found in answer.elements() {
                found.error()?;
                let offset = match found.offset() {
                    Offset::Offset(offset) => offset,
                    _ => NONE,
                };
                offsets.insert(found.partition(), offset);
            }
            Ok(offsets)
        });
        offsets.map_err(|failed| self.of_topic(topic, failed))
    }

    /// Puts `question`, which may take so long, until it is answered, refused, or time is up.
    fn ask<T>(
        &self,
        question: impl Fn(&BaseConsumer<Hearing>, Duration) -> Result<T, Native>,
    ) -> Result<T, Failed> {
        let deadline = Instant::now() + PATIENCE;
        let mut within = FIRST_TRY;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let error = match question(&self.consumer, within.min(left)) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            listen(&self.consumer);
            let hearing = self.consumer.context();
            if let Some(refusal) = hearing.refusal(&self.bootstrap) {
                return Err(Failed::Kafka(refusal));
            }
            match error.rdkafka_error_code() {
                Some(code) if !may_pass(code) => return Err(Failed::Code(code)),
                None => {
                    let (doing, why) = (self.bootstrap.clone(), error.to_string());
                    return Err(Failed::Kafka(KafkaError::Other { doing, why }));
                }
                Some(_) if Instant::now() < deadline => within *= 2,
                Some(code) => {
                    return Err(Failed::Kafka(KafkaError::NoAnswer {
                        bootstrap: self.bootstrap.clone(),
                        waited_s: PATIENCE.as_secs(),
                        why: hearing.why(&code.to_string()),
                    }));
                }
            }
        }
    }

    /// What it means that a question about `topic` failed.
    fn of_topic(&self, topic: &str, failed: Failed) -> KafkaError {
        match failed {
            Failed::Kafka(error) => error,
            Failed::Code(code) if error::is_no_topic(code) => {
                let there = match self.consumer.fetch_metadata(None, FIRST_TRY) {
                    Ok(all) => nearest(topic, all.topics().iter().map(MetadataTopic::name)),
                    Err(error) => format!("what there is cannot be listed ({error})"),
                };
                let (topic, bootstrap) = (topic.to_owned(), self.bootstrap.clone());
                KafkaError::NoTopic { topic, bootstrap, there }
            }
            Failed::Code(code) => KafkaError::of_topic("Describe", topic, code),
        }
    }
}

/// What librdkafka answers where no offset fits.
const NONE: i64 = -1;

/// Why a question got no answer: an error that is complete, or a code whose meaning depends on what was
/// asked.
#[derive(Debug)]
enum Failed {
    Kafka(KafkaError),
    Code(Code),
}

/// librdkafka takes the settings one by one, but not together.
pub(crate) fn not_made(error: &Native) -> KafkaError {
    let why = match error {
        Native::ClientCreation(why) => why.clone(),
        error => error.to_string(),
    };
    KafkaError::Settings(SettingsError { place: "settings of the Kafka client".to_owned(), why })
}

/// Does `work` in a thread of its own, because clients of Kafka wait. It goes on until its end when nobody waits
/// for it any more. `doing` is what it is, should there be no thread.
async fn in_thread<T: Send + 'static, E: From<KafkaError> + Send + 'static>(
    doing: &str,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    let (tell, told) = oneshot::channel();
    let no_answer = |why: String| KafkaError::Other { doing: doing.to_owned(), why };
    std::thread::Builder::new()
        .name("kafka-asking".to_owned())
        .spawn(move || tell.send(work()).is_ok())
        .map_err(|error| no_answer(format!("there is no thread for it: {error}")))?;
    match told.await {
        Ok(done) => done,
        Err(_) => Err(no_answer("it had no end".to_owned()).into()),
    }
}

/// Lets librdkafka tell `consumer`'s context what it has to tell. Takes [`BETWEEN`].
fn listen(consumer: &BaseConsumer<Hearing>) {
    let until = Instant::now() + BETWEEN;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if consumer.poll(left).is_none() && Instant::now() >= until {
            return;
        }
    }
}

/// Says which topics there are, those whose names are most like `topic` first.
fn nearest<'a>(topic: &str, there: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = there.filter(|name| !name.starts_with("__")).collect();
    if names.is_empty() {
        return "there is none, or none that this user may see".to_owned();
    }
    names.sort_by_key(|name| (edits(topic, name), *name));
    let shown = names.len().min(5);
    let more = match names.len() - shown {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("there are {}{more}", names[..shown].join(", "))
}

/// How many letters have to be changed, added or left out to get from `a` to `b`.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let kept = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = kept.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_topic_finds_its_like() {
        assert_eq!(edits("clicks", "clicks"), 0);
        assert_eq!(edits("klicks", "clicks"), 1);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("kitten", "sitting"), 3);
        let there = ["__consumer_offsets", "z", "orders", "clicks", "a", "b", "c", "click"];
        let said = nearest("klicks", there.into_iter());
        assert!(said.starts_with("there are clicks, click, "), "{said}");
        assert!(said.ends_with(" and 2 more") && !said.contains("__"), "{said}");
        assert!(nearest("x", ["__consumer_offsets"].into_iter()).starts_with("there is none"));
    }

    /// Nobody listens on port 1: the reason is librdkafka's.
    #[test]
    fn nobody_there_is_one_error_with_the_reason() {
        let cluster = Cluster::at(&KafkaSettings::at("127.0.0.1:1").unwrap()).unwrap();
        let error = cluster.partitions("clicks").unwrap_err();
        assert!(matches!(error, KafkaError::NoAnswer { .. }), "{error}");
        let said = error.to_string();
        assert!(said.contains("127.0.0.1:1") && said.contains("Connection refused"), "{said}");
    }
}
