//! Transactions: which there are, and the end of those that were left open.
//!
//! librdkafka asks no coordinator for transactions. What coordinators know is what they write into a compacted
//! topic of Kafka's own, one entry per change, so that another one can take over: the last entry of a transactional
//! id is how it is. A transaction is ended by a producer of the same id that comes after: before it gets an epoch
//! of its own, its coordinator aborts what the one before left open.

use std::collections::BTreeMap;
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::time::Instant;

use crate::kafka::error::may_pass;
use crate::kafka::hearing::Hearing;
use crate::kafka::{BETWEEN, Cluster, KafkaError, KafkaSettings, Offsets, PATIENCE, not_made};

/// Where coordinators keep what they know.
const TOPIC: &str = "__transaction_state";
/// For librdkafka, which assigns partitions to groups only. It has no member and no offset.
const GROUP: &str = "khaos-transactions";
/// Producers that wait for their coordinators at the same time.
const AT_ONCE: usize = 16;

/// What is known of a transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// The id.
    pub id: String,
    /// After so long Kafka aborts a transaction of it by itself. What was aborted by Khaos has Khaos's timeout since.
    pub timeout: Duration,
    /// Whether a transaction is open, or is just being ended: who reads only what is committed may have to wait.
    pub open: bool,
}

impl ProducerContext for Hearing {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// Reads what the coordinators wrote of ids that begin with `prefix`.
pub(super) fn list(
    settings: &KafkaSettings,
    cluster: &Cluster,
    prefix: &str,
) -> Result<Vec<Transaction>, KafkaError> {
    let mut unread = match cluster.ends(TOPIC) {
        // Nobody has used transactions yet.
        Err(KafkaError::NoTopic { .. }) => return Ok(Vec::new()),
        // Whoever may read it may describe it as well.
        Err(KafkaError::NotAllowed { .. }) => return Err(not_allowed()),
        ends => ends?,
    };
    let consumer = consumer(settings, &unread)?;
    let mut known = BTreeMap::new();
    let mut heard = Instant::now();
    while !unread.is_empty() {
        match consumer.poll(BETWEEN) {
            Some(Ok(entry)) => {
                heard = Instant::now();
                learn(&mut known, prefix, entry.key(), entry.payload())
                    .map_err(|why| other(&why))?;
                let (partition, next) = (entry.partition(), entry.offset() + 1);
                // What is written meanwhile is not waited for.
                if unread.get(&partition).is_some_and(|end| *end <= next) {
                    unread.remove(&partition);
                }
            }
            Some(Err(Native::PartitionEOF(partition))) => {
                heard = Instant::now();
                unread.remove(&partition);
            }
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(Code::TopicAuthorizationFailed) => return Err(not_allowed()),
                // The group is but a name.
                Some(Code::GroupAuthorizationFailed) => {}
                Some(code) if may_pass(code) => {}
                _ => return Err(other(&error.to_string())),
            },
            None => {}
        }
        if heard.elapsed() >= PATIENCE {
            let otherwise = other(&format!("nothing came of it for {} s", PATIENCE.as_secs()));
            return Err(silence(settings, consumer.context(), otherwise));
        }
    }
    Ok(known.into_values().collect())
}

/// A consumer that reads all of [`TOPIC`] once. `ends` tell which partitions there are.
fn consumer(settings: &KafkaSettings, ends: &Offsets) -> Result<BaseConsumer<Hearing>, KafkaError> {
    let mut config = settings.client()?;
    config
        .set("group.id", GROUP)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_uncommitted")
        // Compaction may take away where it just wanted to begin.
        .set("auto.offset.reset", "earliest")
        .set("enable.partition.eof", "true")
        // A partition's end is told when so long nothing came.
        .set("fetch.wait.max.ms", "100");
    let consumer: BaseConsumer<Hearing> =
        config.create_with_context(Hearing::default()).map_err(|error| not_made(&error))?;
    let mut all = TopicPartitionList::with_capacity(ends.len());
    for partition in ends.keys() {
        all.add_partition_offset(TOPIC, *partition, Offset::Beginning)
            .map_err(|error| other(&error.to_string()))?;
    }
    consumer.assign(&all).map_err(|error| other(&error.to_string()))?;
    Ok(consumer)
}

/// Aborts what is open of `ids`. Each takes a while, most of which is waiting.
pub(super) fn abort(settings: &KafkaSettings, ids: &[String]) -> Result<(), KafkaError> {
    let mut first = Ok(());
    for ids in ids.chunks(AT_ONCE) {
        let answers: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                ids.iter().map(|id| scope.spawn(|| fence(settings, id))).collect();
            threads.into_iter().map(ScopedJoinHandle::join).collect()
        });
        for answer in answers {
            first = first.and(answer.expect("whoever fences tells what came of it"));
        }
        // Nobody is there: the others would wait as long to learn it.
        if matches!(first, Err(KafkaError::NoAnswer { .. })) {
            break;
        }
    }
    first
}

/// Takes `id` over from whatever produced with it.
fn fence(settings: &KafkaSettings, id: &str) -> Result<(), KafkaError> {
    let mut config = settings.client()?;
    // librdkafka makes no producer where it is longer than the timeout of transactions, of which there will be none.
    config.remove("socket.timeout.ms");
    config.set("transactional.id", id);
    let producer: BaseProducer<Hearing> =
        config.create_with_context(Hearing::default()).map_err(|error| not_made(&error))?;
    let Err(error) = producer.init_transactions(PATIENCE) else { return Ok(()) };
    // Only so it hears why.
    producer.poll(BETWEEN);
    let not_aborted = |why: String| KafkaError::Other {
        doing: format!("the open transaction of '{id}' is not aborted"),
        why,
    };
    Err(match error.rdkafka_error_code() {
        Some(Code::TransactionalIdAuthorizationFailed) => {
            KafkaError::transactional_id_refused("Write", id)
        }
        Some(code) if may_pass(code) => {
            let why = format!("waited {} s for it: are all brokers there?", PATIENCE.as_secs());
            silence(settings, producer.context().as_ref(), not_aborted(why))
        }
        _ => not_aborted(error.to_string()),
    })
}

/// What it means that a client waited in vain: what it heard of brokers, or `otherwise`.
fn silence(settings: &KafkaSettings, hearing: &Hearing, otherwise: KafkaError) -> KafkaError {
    let bootstrap = settings.bootstrap();
    if let Some(refusal) = hearing.refusal(bootstrap) {
        return refusal;
    }
    match hearing.why("") {
        nothing if nothing.is_empty() => otherwise,
        why => KafkaError::NoAnswer {
            bootstrap: bootstrap.to_owned(),
            waited_s: PATIENCE.as_secs(),
            why,
        },
    }
}

fn not_allowed() -> KafkaError {
    KafkaError::topic_refused("Read", TOPIC)
}

fn other(why: &str) -> KafkaError {
    KafkaError::Other { doing: format!("topic '{TOPIC}'"), why: why.to_owned() }
}

/// Takes in the next entry of a partition, if it is of an id that begins with `prefix`.
fn learn(
    known: &mut BTreeMap<String, Transaction>,
    prefix: &str,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Result<(), String> {
    let id = id_of(key.unwrap_or_default())?;
    if !id.starts_with(prefix) {
        return Ok(());
    }
    match value {
        // The id was not used for long, and is forgotten.
        None => known.remove(id),
        Some(value) => known.insert(id.to_owned(), state_of(id, value)?),
    };
    Ok(())
}

/// The id that an entry is of. Source: Kafka, TransactionLogKey.json, version 0.
fn id_of(mut key: &[u8]) -> Result<&str, String> {
    let torn = || "a key ends too early".to_owned();
    let version = i16::from_be_bytes(take(&mut key).ok_or_else(torn)?);
    if version != 0 {
        return Err(unknown("keys", version, "0"));
    }
    let length = i16::from_be_bytes(take(&mut key).ok_or_else(torn)?);
    let id = usize::try_from(length).ok().and_then(|length| key.get(..length)).ok_or_else(torn)?;
    std::str::from_utf8(id).map_err(|_| "an id is no text".to_owned())
}

/// How `id` is. Source: Kafka, TransactionLogValue.json, versions 0 and 1, which begin alike; TransactionState.java.
fn state_of(id: &str, mut value: &[u8]) -> Result<Transaction, String> {
    let torn = || format!("the value of '{id}' ends too early");
    let version = i16::from_be_bytes(take(&mut value).ok_or_else(torn)?);
    if !matches!(version, 0 | 1) {
        return Err(unknown("values", version, "0 and 1"));
    }
    // The producer's id and epoch.
    let _: [u8; 10] = take(&mut value).ok_or_else(torn)?;
    let timeout_ms = i32::from_be_bytes(take(&mut value).ok_or_else(torn)?);
    let timeout_ms = u64::try_from(timeout_ms)
        .map_err(|_| format!("the timeout of '{id}' is {timeout_ms} ms"))?;
    let open = match u8::from_be_bytes(take(&mut value).ok_or_else(torn)?) {
        // Empty, CompleteCommit, CompleteAbort, Dead.
        0 | 4 | 5 | 6 => false,
        // Ongoing, PrepareCommit, PrepareAbort, PrepareEpochFence.
        1 | 2 | 3 | 7 => true,
        status => return Err(format!("'{id}' has the state {status}, which Khaos does not know")),
    };
    Ok(Transaction { id: id.to_owned(), timeout: Duration::from_millis(timeout_ms), open })
}

fn unknown(what: &str, version: i16, known: &str) -> String {
    format!(
        "its {what} have version {version}, and this Khaos reads {known}: it is older than this Kafka"
    )
}

/// The next `N` bytes of `rest`, if there are so many.
fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (next, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*next)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version 0, then the length and the letters.
    const KEY: &[u8] = b"\x00\x00\x00\x07clone-1";
    /// Version 0, producer 4,711 of epoch 3, a minute, Ongoing, one topic 'x' with partition 2, two times.
    const VALUE: &[u8] = b"\x00\x00\
        \x00\x00\x00\x00\x00\x00\x12\x67\x00\x03\
        \x00\x00\xea\x60\x01\
        \x00\x00\x00\x01\x00\x01x\x00\x00\x00\x01\x00\x00\x00\x02\
        \x00\x00\x01\x8b\xcf\xe5\x68\x00\x00\x00\x01\x8b\xcf\xe5\x68\x00";

    fn with(value: &[u8], at: usize, byte: u8) -> Vec<u8> {
        let mut value = value.to_vec();
        value[at] = byte;
        value
    }

    fn learnt(entries: &[(&[u8], Option<&[u8]>)]) -> Vec<Transaction> {
        let mut known = BTreeMap::new();
        for (key, value) in entries {
            learn(&mut known, "clone-", Some(key), *value).unwrap();
        }
        known.into_values().collect()
    }

    #[test]
    fn the_last_entry_of_an_id_is_how_it_is() {
        let one =
            |open| Transaction { id: "clone-1".to_owned(), timeout: Duration::from_mins(1), open };
        assert_eq!(learnt(&[(KEY, Some(VALUE))]), [one(true)]);
        let committed = with(VALUE, 16, 4);
        assert_eq!(learnt(&[(KEY, Some(VALUE)), (KEY, Some(&committed))]), [one(false)]);
        assert_eq!(learnt(&[(KEY, Some(&committed)), (KEY, Some(VALUE))]), [one(true)]);
        assert_eq!(learnt(&[(KEY, Some(VALUE)), (KEY, None)]), []);
        assert_eq!(learnt(&[(KEY, None)]), []);
    }

    /// Whatever it holds.
    #[test]
    fn another_prefix_is_left_alone() {
        let other = b"\x00\x00\x00\x06orders";
        assert_eq!(learnt(&[(other, Some(VALUE)), (other, Some(b"\x00\x09"))]), []);
        let other: &[u8] = b"\x00\x00\x00\x05clone";
        assert_eq!(learnt(&[(other, Some(VALUE)), (other, None)]), []);
    }

    #[test]
    fn open_is_whatever_is_not_ended() {
        for (status, open) in [
            (0, false),
            (1, true),
            (2, true),
            (3, true),
            (4, false),
            (5, false),
            (6, false),
            (7, true),
        ] {
            assert_eq!(state_of("x", &with(VALUE, 16, status)).unwrap().open, open, "{status}");
        }
        let error = state_of("x", &with(VALUE, 16, 8)).unwrap_err();
        assert!(error.contains("'x' has the state 8"), "{error}");
    }

    /// As a broker of Kafka 4.3 wrote it: lists are compact, and tagged fields come last.
    #[test]
    fn the_newer_version_begins_like_the_older() {
        let ongoing = b"\x00\x01\
            \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\
            \x00\x01\xe0\x78\x01\
            \x02\x07orders\x02\x00\x00\x00\x00\x00\
            \x00\x00\x01\xa2\x15\xfa\x7d\x55\x00\x00\x01\xa2\x15\xfa\x7d\x55\
            \x01\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00";
        let told = state_of("x", ongoing).unwrap();
        assert_eq!((told.timeout, told.open), (Duration::from_secs(123), true));
    }

    #[test]
    fn a_version_that_is_not_known_is_not_guessed() {
        let error = state_of("x", &with(VALUE, 1, 2)).unwrap_err();
        assert!(error.contains("values have version 2, and this Khaos reads 0 and 1"), "{error}");
        let error = id_of(&with(KEY, 1, 1)).unwrap_err();
        assert!(error.contains("keys have version 1, and this Khaos reads 0:"), "{error}");
    }

    #[test]
    fn what_is_cut_off_or_no_text_is_an_error() {
        for length in 0..KEY.len() {
            assert_eq!(id_of(&KEY[..length]), Err("a key ends too early".to_owned()), "{length}");
        }
        for length in 0..17 {
            let error = state_of("x", &VALUE[..length]).unwrap_err();
            assert_eq!(error, "the value of 'x' ends too early", "{length}");
        }
        assert!(id_of(b"\x00\x00\xff\xff").is_err());
        assert!(id_of(b"\x00\x00\x00\x01\xff").unwrap_err().contains("no text"));
        let error = state_of("x", &with(VALUE, 12, 0xff)).unwrap_err();
        assert!(error.contains("the timeout of 'x' is -"), "{error}");
        assert!(learn(&mut BTreeMap::new(), "", None, None).is_err());
    }
}
