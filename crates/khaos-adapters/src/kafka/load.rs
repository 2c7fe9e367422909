//! The load of a job that reads Kafka: what arrives and what waits, from the logs of its topics.
//!
//! [`KafkaLoad`] asks another source of metrics for throughput and latency, and Kafka for the rest:
//! - what arrives is by how much the logs' ends move on, which is known whether the job runs or not;
//! - what waits is the ends less what the job's sources *report* to have read (`flink`'s `positions`). While
//!   the job is down that stays as it was, and the lag grows by what arrives. Offsets that a source commits
//!   move only with checkpoints: they would show a lag that rises and falls with these, and are not asked for.
//!
//! What is not told is missing: a broker that does not answer, a partition of which the source has not said
//! what it read.

pub mod doctor;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use khaos_control::clock::Clock;
use khaos_control::core::job::EngineJobId;
use khaos_control::core::series::{Readings, Sample, Series, SourceReadings};
use khaos_control::core::units::{Span, Timestamp};
use khaos_control::ports::{Metrics, PortError};

use super::ends::{Ends, Log, PERIOD_MS, Tick};
use super::{KafkaError, KafkaSettings};
use crate::flink::{Flink, Next, Positions};

/// A source, and a topic that it reads, as metrics write both.
type Reader = (Arc<str>, Arc<str>);

/// What does not fit for so long is not because a job begins, s.
const MISFIT_S: f64 = 120.0;

/// Metrics of jobs whose sources read Kafka.
pub struct KafkaLoad {
    inner: Arc<dyn Metrics>,
    flink: Flink,
    ends: Ends,
    reads: Reads,
    clock: Clock,
    /// What does not fit, since when; `None` of what was said.
    misfits: Mutex<BTreeMap<String, Option<Timestamp>>>,
}

/// What a job reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reads {
    /// Every topic that its Kafka sources read.
    pub topics: Vec<String>,
    /// Its sources that are none of Kafka, by the names that Flink shows; what they report is kept.
    pub other_sources: Vec<String>,
}

impl fmt::Debug for KafkaLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaLoad").field("reads", &self.reads).finish_non_exhaustive()
    }
}

impl KafkaLoad {
    /// Throughput and latency of `inner`, positions of the jobs of `flink`, ends of the logs from the cluster
    /// of `settings`. Looking at the logs begins now: what arrived before is not known.
    pub fn new(
        inner: Arc<dyn Metrics>,
        flink: Flink,
        settings: &KafkaSettings,
        reads: Reads,
        clock: Clock,
    ) -> Result<Self, KafkaError> {
        let ends = Ends::watch(settings, &reads.topics, clock)?;
        Ok(Self { inner, flink, ends, reads, clock, misfits: Mutex::default() })
    }

    /// Says, once, where the job does not read what it was said to read.
    fn tell(&self, job: &EngineJobId, inner: &Readings, positions: &Positions) {
        let now = self.clock.now();
        let mut seen = self.misfits.lock().unwrap_or_else(PoisonError::into_inner);
        let names = inner.sources.iter().map(|source| source.name.as_str());
        for what in misfits(&self.reads, names, &positions.readers()) {
            let since = seen.entry(format!("{job} {what}")).or_insert(Some(now));
            if since.is_some_and(|since| now.secs_since(since) >= MISFIT_S) {
                tracing::warn!(%job, "{what}");
                *since = None;
            }
        }
    }
}

#[async_trait]
impl Metrics for KafkaLoad {
    async fn readings(&self, job: &EngineJobId, span: Span) -> Result<Readings, PortError> {
        let inner = self.inner.readings(job, span).await?;
        let positions = self.flink.positions(job).await?;
        let positions = positions.lock().unwrap_or_else(PoisonError::into_inner);
        self.tell(job, &inner, &positions);
        let logs = self.ends.logs();
        let topics = self.reads.topics.iter().filter_map(|topic| Some((topic, logs.get(topic)?)));
        let mut sources: Vec<SourceReadings> =
            topics.flat_map(|(topic, log)| of_topic(topic, log, &positions, span)).collect();
        sources.extend(self.reads.other_sources.iter().map(|name| of_other(name, &inner, span)));
        Ok(Readings { sources, throughput: inner.throughput, latency_ms: inner.latency_ms })
    }
}

/// What `topic` shows, once for every source that reads it: each of them gets all of it.
fn of_topic(topic: &str, log: &Log, positions: &Positions, span: Span) -> Vec<SourceReadings> {
    let written = in_metrics(topic);
    let arrival = log.arrival(span);
    let readers = positions.readers();
    let readers: Vec<&str> =
        readers.iter().filter(|(_, of)| **of == *written).map(|(source, _)| &**source).collect();
    let of_reader = |source: &&str| SourceReadings {
        name: if readers.len() == 1 { topic.to_owned() } else { format!("{topic} in {source}") },
        arrival: arrival.clone(),
        lag: lag(log, positions, source, &written, span),
    };
    if readers.is_empty() {
        // Nobody has told yet who reads it.
        let (name, lag) = (topic.to_owned(), Series::default());
        return vec![SourceReadings { name, arrival, lag }];
    }
    readers.iter().map(of_reader).collect()
}

/// What waits for `source` in `topic`, at the looks within `span` at which that is known of every partition.
fn lag(log: &Log, positions: &Positions, source: &str, topic: &str, span: Span) -> Series {
    Series::new(log.within(span).filter_map(|tick| {
        let value = waiting(tick, positions, source, topic)?;
        Some(Sample { at: tick.at, value })
    }))
}

fn waiting(tick: &Tick, positions: &Positions, source: &str, topic: &str) -> Option<f64> {
    let around = positions.around(source, tick.asked)?;
    if around.at < tick.since {
        // It reported offsets of a topic that is gone.
        return None;
    }
    let of_partition = |(&number, &end): (&i32, &i64)| match around.reported(topic, number) {
        // Nothing is there to be read.
        _ if end == 0 => Some(0.0),
        // Nor since an earlier life of the source, which had read all there is.
        Some(Next::Untold(Some(earlier))) if earlier == end => Some(0.0),
        // Further than there is anything: of a topic that is gone, too.
        Some(Next::Offset(next)) if next > end => None,
        Some(Next::Offset(next)) => {
            // It was not on the line at every moment.
            Some((end as f64 - around.moved_on(topic, number, next)).max(0.0))
        }
        Some(Next::Untold(_)) | None => None,
    };
    tick.ends.iter().map(of_partition).sum()
}

/// What the source called `name` shows; nothing where it is not there, so that sums lack it.
fn of_other(name: &str, inner: &Readings, span: Span) -> SourceReadings {
    let found = inner.sources.iter().find(|source| same_source(&source.name, name));
    let on_ticks = |of: fn(&SourceReadings) -> &Series| {
        found.map_or_else(Series::default, |source| on_ticks(of(source), span))
    };
    let (arrival, lag) = (on_ticks(|source| &source.arrival), on_ticks(|source| &source.lag));
    SourceReadings { name: name.to_owned(), arrival, lag }
}

/// The samples of `series` at the looks that came next: only what is of the same instant can be added.
fn on_ticks(series: &Series, span: Span) -> Series {
    let tick = |sample: &Sample| {
        let at = Timestamp(-(-sample.at.0).div_euclid(PERIOD_MS) * PERIOD_MS);
        Sample { at, value: sample.value }
    };
    let ticks: Vec<Sample> = series.samples().iter().map(tick).collect();
    // The newest of those that come before the same look.
    let newest = ticks.chunk_by(|a, b| a.at == b.at).filter_map(|same| same.last().copied());
    Series::new(newest.filter(|sample| span.contains(sample.at)))
}

/// A topic's name in metrics.
fn in_metrics(topic: &str) -> String {
    topic.replace('.', "_")
}

/// Flink shows `Source: a-1`, its REST API writes `Source__a-1`, Prometheus is told `Source:_a_1`.
fn same_source(a: &str, b: &str) -> bool {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    a.chars().map(plain).eq(b.chars().map(plain))
}

/// Where the job with these `sources` does not read what it was said to read, as far as it tells what it reads.
fn misfits<'a>(
    reads: &Reads,
    sources: impl Iterator<Item = &'a str>,
    readers: &BTreeSet<Reader>,
) -> Vec<String> {
    if readers.is_empty() {
        return Vec::new();
    }
    let is_read = |topic: &String| readers.iter().any(|(_, of)| **of == *in_metrics(topic));
    let is_said = |of: &str| reads.topics.iter().any(|topic| in_metrics(topic) == of);
    let unread = reads.topics.iter().filter(|topic| !is_read(topic)).map(|topic| {
        format!(
            "no source of the job reads the topic '{topic}', so its lag stays unknown: take it out of \
             topics"
        )
    });
    let unsaid = readers.iter().filter(|(_, of)| !is_said(of)).map(|(source, of)| {
        format!("{source} reads the topic '{of}', too, which is not counted: add it to topics")
    });
    let is_other = |name: &str| reads.other_sources.iter().any(|other| same_source(other, name));
    let reads_kafka = |name: &str| readers.iter().any(|(source, _)| same_source(source, name));
    let unknown = sources
        .filter(|name| !is_other(name) && !reads_kafka(name))
        .map(|name| format!("{name} reads no topic, and is not counted: add it to other_sources"));
    unread.chain(unsaid).chain(unknown).collect()
}

#[cfg(test)]
mod tests;
