//! Readings, sampled from Flink's counters.
//!
//! Flink's own rates are averages over a minute, and its REST API tells values that some earlier
//! question made it fetch, without saying when. So counters are read, and the time between two
//! readings is taken from the reading itself: a subtask's busy, idle and back-pressured time add up
//! to the time that it has been running, and are fetched with its other counters. Values that did
//! not move on are old, and are no sample; time that went back means that the subtask began anew.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use khaos_control::core::job::EngineJobId;
use khaos_control::core::series::{Readings, Sample, Series, SourceReadings};
use khaos_control::core::units::{Span, Timestamp};
use khaos_control::ports::PortError;

use super::deployment::name;
use super::messages::{JobDetails, Metric};
use super::rest::Rest;
use super::task::{Beat, Task};
use crate::counters::Counters;

/// Time between two samples, ms.
pub(super) const PERIOD_MS: i64 = 5_000;
/// Flink fetches values when it is asked, and answers with those before: so it is asked twice, this
/// far apart, ms.
pub(super) const FETCHED_MS: i64 = 700;
/// How long samples are kept, s: longer than anybody looks back.
pub(super) const REMEMBERED_S: f64 = 4_200.0;
/// Samples after which names are looked up again while a source shows no lag: some register it late.
const LOOK_AGAIN: u32 = 12;
/// Longest list of names in one question, bytes: Flink takes 4,096 for the whole line.
const LINE: usize = 3_000;
/// Most latency histograms that are read of a job: it has one per operator, subtask and source.
const HISTOGRAMS: usize = 200;

/// Counters that add up to the time that a subtask has been running, ms.
pub(super) const TIMES: [&str; 3] =
    ["accumulateBusyTimeMs", "accumulateIdleTimeMs", "accumulateBackPressuredTimeMs"];

/// Samples one deployment for as long as it is there. Dropping it stops it.
#[derive(Debug)]
pub(super) struct Sampler {
    sampled: Arc<Mutex<Sampled>>,
    _task: Task,
}

/// What was sampled so far.
#[derive(Debug, Default)]
struct Sampled {
    sources: BTreeMap<String, (Vec<Sample>, Vec<Sample>)>,
    throughput: Vec<Sample>,
    latency_ms: Vec<Sample>,
    /// Why the last look failed, if it did.
    failed: Option<PortError>,
}

impl Sampler {
    pub(super) fn start(rest: Rest, id: EngineJobId) -> Self {
        let sampled: Arc<Mutex<Sampled>> = Arc::default();
        let task = Task::of(sample(rest, id, Arc::clone(&sampled)));
        Self { sampled, _task: task }
    }

    /// The samples within `span`. An error only where there is none and the last look failed.
    pub(super) fn readings(&self, span: Span) -> Result<Readings, PortError> {
        let sampled = self.sampled.lock().unwrap_or_else(PoisonError::into_inner);
        let within = |samples: &[Sample]| {
            Series::new(samples.iter().copied().filter(|sample| span.contains(sample.at)))
        };
        let sources = sampled.sources.iter().map(|(name, (arrival, lag))| SourceReadings {
            name: name.clone(),
            arrival: within(arrival),
            lag: within(lag),
        });
        let readings = Readings {
            sources: sources.collect(),
            throughput: within(&sampled.throughput),
            latency_ms: within(&sampled.latency_ms),
        };
        match &sampled.failed {
            Some(error) if readings.throughput.samples().is_empty() => Err(error.clone()),
            _ => Ok(readings),
        }
    }
}

impl Sampled {
    fn add(&mut self, at: Timestamp, seen: Seen) {
        let keep_from = at.plus_secs(-REMEMBERED_S);
        let push = |samples: &mut Vec<Sample>, value: Option<f64>| {
            samples.extend(value.map(|value| Sample { at, value }));
            let old = samples.partition_point(|sample| sample.at < keep_from);
            samples.drain(..old);
        };
        // A source that had no names yet was called by its vertex: it was never there.
        self.sources.retain(|name, (arrival, lag)| {
            seen.sources.contains_key(name) || !(arrival.is_empty() && lag.is_empty())
        });
        for (name, (arrival, lag)) in seen.sources {
            let series = self.sources.entry(name).or_default();
            push(&mut series.0, arrival);
            push(&mut series.1, lag);
        }
        push(&mut self.throughput, seen.throughput);
        push(&mut self.latency_ms, seen.latency_ms);
    }
}

/// One sample of everything.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    /// Per source: arrival rate, events/s, and lag, events.
    sources: BTreeMap<String, (Option<f64>, Option<f64>)>,
    throughput: Option<f64>,
    latency_ms: Option<f64>,
}

async fn sample(rest: Rest, id: EngineJobId, sampled: Arc<Mutex<Sampled>>) {
    let (mut watched, mut last): (Option<Watched>, BTreeMap<String, Counters>) = Default::default();
    let mut beat = Beat::every(PERIOD_MS, rest.clock());
    loop {
        let looked = look(&rest, &id, &mut watched, &mut last).await;
        let now = rest.clock().now();
        {
            let mut sampled = sampled.lock().unwrap_or_else(PoisonError::into_inner);
            match looked {
                Ok(seen) => {
                    sampled.add(now, seen);
                    sampled.failed = None;
                }
                Err(error) => sampled.failed = Some(error),
            }
        }
        beat.wait().await;
    }
}

/// Which counters of which vertices are read.
#[derive(Debug, Default)]
pub(super) struct Watched {
    pub(super) sources: Vec<Source>,
    /// Vertex → names of the p99 of its latency histograms.
    pub(super) latencies: Vec<(String, Vec<String>)>,
    /// Samples taken by these names.
    samples: u32,
    /// Whether it was told that some tell too little.
    told: bool,
}

impl Watched {
    /// Whether the names have to be looked up again: they come and go with restarts, and one that is
    /// unknown empties the whole answer. From a source that never tells its lag nothing is expected.
    fn fell_silent(&self, told: &BTreeMap<String, Counters>) -> bool {
        // One that does not even tell what it read has no names yet.
        let expects = |source: &&Source| source.counters().is_some() || source.read.is_none();
        let mut expected = self.sources.iter().filter(expects);
        told.is_empty() && (self.sources.is_empty() || expected.next().is_some())
    }
}

#[derive(Debug, Clone)]
pub(super) struct Source {
    /// As it is shown.
    pub(super) name: String,
    vertex: String,
    parallelism: u32,
    /// Metric of the events that it has read; `None` where it has no such thing.
    read: Option<String>,
    /// Metric of the events that wait for it; `None` where it has no such thing.
    pub(super) pending: Option<String>,
}

impl Source {
    /// Metrics of what it has read and of what waits for it; `None` where it does not have both.
    fn counters(&self) -> Option<(&str, &str)> {
        self.read.as_deref().zip(self.pending.as_deref())
    }
}

async fn look(
    rest: &Rest,
    id: &EngineJobId,
    watched: &mut Option<Watched>,
    last: &mut BTreeMap<String, Counters>,
) -> Result<Seen, PortError> {
    let mute = |source: &&Source| source.pending.is_none() || source.read.is_none();
    let lacks = |w: &Watched| {
        w.sources.is_empty() || w.latencies.is_empty() || w.sources.iter().any(|s| mute(&s))
    };
    let again = |w: &Watched| w.samples >= LOOK_AGAIN && lacks(w);
    if watched.as_ref().is_none_or(again) {
        let mut found = find(rest, id).await?;
        // A job that begins has no names yet, which is nothing to tell anybody.
        if let Some(before) = watched.as_ref() {
            found.told = before.told || found.sources.iter().any(|source| mute(&source));
            for source in found.sources.iter().filter(mute).filter(|_| !before.told) {
                tracing::warn!(
                    job = %id, source = %source.name,
                    "the source does not report pendingRecords: what arrives at it cannot be told \
                     from what it reads, so the job's load stays unknown"
                );
            }
        }
        *watched = Some(found);
    }
    let names = watched.as_mut().expect("just looked up");
    names.samples += 1;
    // The first question makes Flink fetch, the second one is answered with what was fetched.
    let _ = read(rest, id, names).await?;
    rest.clock().sleep_until(rest.clock().now().plus_millis(FETCHED_MS)).await;
    let (counters, latency_ms) = read(rest, id, names).await?;

    let mut seen = Seen::default();
    let (mut throughput, mut moved) = (Some(0.0), false);
    for source in &names.sources {
        let now = counters.get(&source.name).copied();
        let earlier = now.and_then(|now| last.insert(source.name.clone(), now));
        let rates = now.zip(earlier).and_then(|(now, earlier)| now.since(&earlier));
        let (arrival, lag) = (rates.map(|r| r.0), rates.and(now).map(|now| now.pending));
        throughput = throughput.zip(rates).map(|(sum, rates)| sum + rates.1);
        moved |= rates.is_some();
        seen.sources.insert(source.name.clone(), (arrival, lag));
    }
    if names.fell_silent(&counters) {
        *watched = None;
    }
    if moved {
        seen.throughput = throughput;
        seen.latency_ms = latency_ms;
    }
    Ok(seen)
}

/// Counters per source that told all of them, and the highest p99 latency.
async fn read(
    rest: &Rest,
    id: &EngineJobId,
    watched: &Watched,
) -> Result<(BTreeMap<String, Counters>, Option<f64>), PortError> {
    let mut counters = BTreeMap::new();
    for source in &watched.sources {
        let Some((read, pending)) = source.counters() else { continue };
        let names: Vec<&str> = TIMES.into_iter().chain([read, pending]).collect();
        let told = values(rest, id, &source.vertex, &names, "sum").await?;
        let sum = |name: &str| told.iter().find(|m| m.id == name).and_then(|m| m.sum);
        let ran_ms: Option<f64> = TIMES.into_iter().map(sum).sum();
        if let (Some(ran_ms), Some(read), Some(pending)) = (ran_ms, sum(read), sum(pending)) {
            let speed = f64::from(rest.clock().speed());
            let ran_ms = speed * ran_ms / f64::from(source.parallelism);
            counters.insert(source.name.clone(), Counters { at_ms: ran_ms, read, pending });
        }
    }
    let mut latency: Option<f64> = None;
    for (vertex, names) in &watched.latencies {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let told = values(rest, id, vertex, &names, "max").await?;
        let highest = told.iter().filter_map(|m| m.max).reduce(f64::max);
        let highest = highest.map(|ms| f64::from(rest.clock().speed()) * ms);
        latency = [latency, highest].into_iter().flatten().reduce(f64::max);
    }
    Ok((counters, latency))
}

/// Values of a vertex' metrics, over its subtasks. One name that no subtask has, and there are none.
pub(super) async fn values(
    rest: &Rest,
    id: &EngineJobId,
    vertex: &str,
    names: &[&str],
    aggregation: &str,
) -> Result<Vec<Metric>, PortError> {
    let mut told = Vec::new();
    let mut rest_of_names = names;
    while !rest_of_names.is_empty() {
        let mut length = 0;
        let fits = |name: &&&str| {
            length += name.len() + 1;
            length <= LINE
        };
        let (line, after) =
            rest_of_names.split_at(rest_of_names.iter().take_while(fits).count().max(1));
        let path = format!(
            "/jobs/{id}/vertices/{vertex}/subtasks/metrics?get={}&agg={aggregation}",
            line.join(",")
        );
        told.extend(rest.get::<Vec<Metric>>(&path, &name(id)).await?);
        rest_of_names = after;
    }
    Ok(told)
}

/// Looks up which counters there are.
pub(super) async fn find(rest: &Rest, id: &EngineJobId) -> Result<Watched, PortError> {
    let job: JobDetails = rest.get(&format!("/jobs/{id}"), &name(id)).await?;
    let mut watched = Watched::default();
    for vertex in &job.vertices {
        let path = format!("/jobs/{id}/vertices/{}/subtasks/metrics", vertex.id);
        let metrics: Vec<Metric> = rest.get(&path, &name(id)).await?;
        let mut metrics: Vec<String> = metrics.into_iter().map(|metric| metric.id).collect();
        metrics.sort();
        let mut node = job.plan.nodes.iter().filter(|node| node.id == vertex.id);
        let reads_outside = node.next().is_some_and(|node| node.inputs.is_empty());
        let operators = sources_among(&metrics);
        if reads_outside && operators.is_empty() {
            watched.sources.push(Source {
                name: vertex.name.clone(),
                vertex: vertex.id.clone(),
                parallelism: vertex.parallelism,
                read: None,
                pending: None,
            });
        }
        for operator in operators {
            let metric = |name: &str| {
                let full = format!("{operator}.{name}");
                metrics.binary_search(&full).is_ok().then_some(full)
            };
            watched.sources.push(Source {
                name: operator.clone(),
                vertex: vertex.id.clone(),
                parallelism: vertex.parallelism,
                read: metric("numRecordsIn").or_else(|| metric("numRecordsOut")),
                pending: metric("pendingRecords"),
            });
        }
        let last = !job.plan.nodes.iter().any(|node| node.inputs.iter().any(|i| i.id == vertex.id));
        let histograms: Vec<String> = metrics
            .into_iter()
            .filter(|name| last && name.starts_with("latency.") && name.ends_with(".latency_p99"))
            .collect();
        let every = histograms.len().div_ceil(HISTOGRAMS).max(1);
        if !histograms.is_empty() {
            let chosen = histograms.into_iter().step_by(every).collect();
            watched.latencies.push((vertex.id.clone(), chosen));
        }
    }
    Ok(watched)
}

/// Operators that are sources, by the names of a vertex's metrics: what reports pending records, and
/// what Flink calls a source.
fn sources_among(metrics: &[String]) -> Vec<String> {
    let mut operators: Vec<String> = metrics
        .iter()
        .filter_map(|metric| metric.split_once('.'))
        .filter(|(operator, metric)| {
            *metric == "pendingRecords"
                || operator.starts_with("Source__") && *metric == "numRecordsOut"
        })
        .map(|(operator, _)| operator.to_owned())
        .collect();
    operators.sort();
    operators.dedup();
    operators
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_without_lag_is_not_looked_up_at_every_sample() {
        let source = |pending: Option<&str>| Source {
            name: "Source__a".to_owned(),
            vertex: "v".to_owned(),
            parallelism: 1,
            read: Some("Source__a.numRecordsIn".to_owned()),
            pending: pending.map(str::to_owned),
        };
        let watching =
            |sources: &[Source]| Watched { sources: sources.to_vec(), ..Watched::default() };
        let (tells, mute) = (source(Some("Source__a.pendingRecords")), source(None));
        let nothing = BTreeMap::new();
        assert!(!watching(std::slice::from_ref(&mute)).fell_silent(&nothing));
        assert!(watching(std::slice::from_ref(&tells)).fell_silent(&nothing));
        assert!(watching(&[tells.clone(), mute]).fell_silent(&nothing));
        assert!(watching(&[]).fell_silent(&nothing), "no source yet: a job that begins");
        let unnamed = Source { read: None, ..source(None) };
        assert!(watching(&[unnamed]).fell_silent(&nothing), "no names yet: a job that begins");
        let told = Counters { at_ms: 5_000.0, read: 10.0, pending: 0.0 };
        let told = BTreeMap::from([("Source__a".to_owned(), told)]);
        assert!(!watching(&[tells]).fell_silent(&told));
    }

    #[test]
    fn a_source_that_got_its_name_late_is_one_source() {
        let seen = |name: &str, arrival| Seen {
            sources: BTreeMap::from([(name.to_owned(), (arrival, arrival))]),
            ..Seen::default()
        };
        let mut sampled = Sampled::default();
        sampled.add(Timestamp(0), seen("Source: a", None));
        sampled.add(Timestamp(5_000), seen("Source__a", Some(7.0)));
        assert_eq!(sampled.sources.keys().collect::<Vec<_>>(), ["Source__a"]);
        // What told something once is missed when it falls silent.
        sampled.add(Timestamp(10_000), seen("Source: a", None));
        assert!(sampled.sources.contains_key("Source__a"));
    }

    #[test]
    fn sources_are_known_by_their_names() {
        let names = [
            "Source__a.numRecordsOut",
            "Source__a.pendingRecords",
            "b.pendingRecords",
            "c.numRecordsOut",
            "numRecordsOut",
            "Source__a.split.0.pendingRecords",
        ];
        assert_eq!(sources_among(&names.map(str::to_owned)), ["Source__a", "b"]);
    }

    #[test]
    fn not_a_number_is_unknown() {
        let told: Vec<Metric> =
            serde_json::from_str(r#"[{"id":"a","sum":"NaN"},{"id":"b","sum":2.5},{"id":"c"}]"#)
                .unwrap();
        assert_eq!(told.iter().map(|m| m.sum).collect::<Vec<_>>(), [None, Some(2.5), None]);
    }
}
