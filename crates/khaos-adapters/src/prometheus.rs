//! Prometheus, where one scrapes a Flink cluster through Flink's own reporter.
//!
//! It remembers: readings from before Khaos began are as good as those after. Three rules keep what
//! it says true.
//!
//! **No value twice.** An ordinary query repeats a series' last value for up to five minutes, also
//! that of a TaskManager that died. So raw samples are asked for, with the times of their scrapes
//! (`metric[…]`, which never looks back further than it says).
//!
//! **A life is a series.** Flink labels counters with the attempt of the task, so those of a restarted
//! source are not compared with its earlier life's; where that label was configured away, a counter
//! that falls begins another life. Rates come of both counters at the same instants (`counters`).
//!
//! **Sums are over instants.** TaskManagers are scraped at different times: counters are read off at
//! multiples of five seconds, on the line between the two scrapes around, unless a scrape between
//! them was missed. A sum is there when every subtask has a value.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use khaos_control::clock::Clock;
use khaos_control::core::job::EngineJobId;
use khaos_control::core::series::{Readings, Sample, Series, SourceReadings};
use khaos_control::core::stats::quantile;
use khaos_control::core::units::{Span, Timestamp};
use khaos_control::ports::{Metrics, PortError};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::counters::Counters;
use crate::http::{Http, Peer};

/// Between two instants of the grid, ms.
const STEP_MS: i64 = 5_000;
/// How far around a span scrapes are asked for, s: the line to its first and last instants begins
/// and ends outside.
const MARGIN_S: f64 = 120.0;
/// A deployment that no scrape showed for this long is not there: longer than a failure lasts, so
/// that a job that is down is not taken for one that never was.
const KNOWN: &str = "1h";
/// From this many times the usual distance between two scrapes on, one was missed between them.
const MISSED: f64 = 1.5;

const PENDING: &str = "flink_taskmanager_job_task_operator_pendingRecords";
const COUNTERS: &str = "flink_taskmanager_job_task_operator_(pendingRecords|numRecordsIn)";
/// What is there of every job, also of one that does not run.
const TRACES: &str =
    "flink_(taskmanager_job_task_operator_numRecordsIn|jobmanager_job_numRestarts)";
/// In whatever granularity; not the mailbox's, which ends in `LatencyMs`.
const LATENCIES: &str = "flink_taskmanager_job(_task)?_latency_.*latency";

const PROMETHEUS: Peer = Peer {
    name: "Prometheus",
    address: "the address of its web interface, for example http://127.0.0.1:9090",
    reason: |body| serde_json::from_slice::<Failure>(body).ok().map(|failure| failure.error),
};

/// One Prometheus, or whatever else speaks its query language over HTTP.
#[derive(Debug)]
pub struct Prometheus {
    http: Http,
    clock: Clock,
    /// Whose sources were said not to report what waits.
    said: Mutex<BTreeSet<EngineJobId>>,
}

#[derive(Deserialize)]
struct Failure {
    error: String,
}

#[derive(Deserialize)]
struct Answer<T> {
    data: Data<T>,
    /// Parts that did not answer, and the like: a sum of the others would be too small.
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
struct Data<T> {
    result: Vec<T>,
}

/// An instant vector's element, whose value says nothing but that it is there.
#[derive(Deserialize)]
struct There {
    metric: Labels,
}

/// A matrix's element: samples with their times, s.
#[derive(Deserialize)]
struct Raw {
    metric: Labels,
    values: Vec<(f64, String)>,
}

/// A label that a reporter was told to leave out is empty.
#[derive(Deserialize, Default, Clone)]
#[serde(default)]
struct Labels {
    #[serde(rename = "__name__")]
    metric: String,
    operator_name: String,
    operator_id: String,
    subtask_index: String,
    task_attempt_id: String,
    task_attempt_num: String,
    tm_id: String,
}

impl Prometheus {
    /// The Prometheus at `url`, for example `http://127.0.0.1:9090`. Nothing is asked yet; an
    /// address that cannot be one is refused.
    pub fn at(url: &str, clock: Clock) -> Result<Self, PortError> {
        Ok(Self { http: Http::at(url, &PROMETHEUS)?, clock, said: Mutex::default() })
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        parameters: &[(&str, String)],
    ) -> Result<Vec<T>, PortError> {
        let request = self.http.get_with(path, parameters);
        // Nothing that is asked for can be missing at these paths: a 404 is somebody else's.
        let answer: Answer<T> = self.http.ask(request, path, None).await?;
        match answer.warnings.first() {
            None => Ok(answer.data.result),
            Some(warning) => Err(PortError::Unavailable(format!(
                "{}{path}: the answer may be incomplete: {warning}",
                self.http.base()
            ))),
        }
    }

    async fn query<T: DeserializeOwned>(
        &self,
        query: String,
        at: Timestamp,
    ) -> Result<Vec<T>, PortError> {
        self.ask("/api/v1/query", &[("query", query), ("time", seconds(at))]).await
    }

    /// The sources that were there within the hour before `at`.
    async fn sources(
        &self,
        job: &EngineJobId,
        at: Timestamp,
    ) -> Result<BTreeMap<Operator, Source>, PortError> {
        let query = format!(
            "group by (__name__, operator_name, operator_id, subtask_index, task_attempt_num) \
             (last_over_time({}[{KNOWN}]))",
            selector(COUNTERS, job, &[])
        );
        let there: Vec<There> = self.query(query, at).await?;
        Ok(sources_among(there.into_iter().map(|there| there.metric)))
    }

    /// Whether anything was seen of the deployment lately.
    async fn knows(&self, job: &EngineJobId) -> Result<bool, PortError> {
        let query = format!("count(last_over_time({}[{KNOWN}]))", selector(TRACES, job, &[]));
        Ok(!self.query::<There>(query, self.clock.now()).await?.is_empty())
    }

    fn warn_of_what_is_not_reported(
        &self,
        job: &EngineJobId,
        sources: &BTreeMap<Operator, Source>,
    ) {
        let mut silent = sources.iter().filter(|(_, source)| !source.reports_pending);
        let Some((operator, _)) = silent.next() else { return };
        if self.said.lock().unwrap_or_else(PoisonError::into_inner).insert(job.clone()) {
            tracing::warn!(
                %job, source = %operator.name,
                "Prometheus has no pendingRecords of the source: what arrives at it cannot be told \
                 from what it reads, so the job's load stays unknown"
            );
        }
    }
}

#[async_trait]
impl Metrics for Prometheus {
    /// A deployment is not found when no scrape showed it within the last hour, so also in the few
    /// seconds before the first one does.
    async fn readings(&self, job: &EngineJobId, span: Span) -> Result<Readings, PortError> {
        let now = self.clock.now();
        let sources = self.sources(job, span.to.min(now)).await?;
        if sources.is_empty() && !self.knows(job).await? {
            return Err(PortError::NotFound(format!(
                "deployment {job} in what {} scraped within the last hour",
                self.http.base()
            )));
        }
        self.warn_of_what_is_not_reported(job, &sources);
        // What is not there yet cannot be asked for.
        let (first, last) = (span.from.plus_secs(-MARGIN_S), span.to.plus_secs(MARGIN_S).min(now));
        let mut grid = grid(span);
        grid.retain(|at| *at <= now);
        let (Some(begin), Some(end)) = (grid.first(), grid.last()) else {
            return Ok(Readings::default());
        };
        let mut counted = Vec::new();
        for (operator, source) in sources {
            let name = ("operator_name", operator.name.as_str());
            let counters = selector(COUNTERS, job, &[name, ("operator_id", &operator.id)]);
            let query = format!("{counters}[{}ms]", last.0 - first.0);
            let subtasks = lives(&self.query::<Raw>(query, last).await?);
            counted.push((operator, Counted { expected: source.subtasks, subtasks }));
        }
        let Some(longest) = longest_line_ms(counted.iter().map(|(_, counted)| counted)) else {
            return Ok(sum(counted, &[], 0.0, Series::default()));
        };
        let p99 = selector(LATENCIES, job, &[("quantile", "0.99")]);
        let latency: Vec<Raw> = self
            .ask(
                "/api/v1/query_range",
                &[
                    // Not older than a scrape: see above.
                    ("query", format!("max(last_over_time({p99}[{longest:.0}ms]))")),
                    ("start", seconds(*begin)),
                    ("end", seconds(*end)),
                    ("step", format!("{}", STEP_MS / 1_000)),
                ],
            )
            .await?;
        let latency = Series::new(latency.iter().flat_map(Raw::samples));
        Ok(sum(counted, &grid, longest, latency))
    }
}

fn seconds(at: Timestamp) -> String {
    format!("{}.{:03}", at.0.div_euclid(1_000), at.0.rem_euclid(1_000))
}

/// Selects series of `job` by a pattern of their names, and by labels.
fn selector(metrics: &str, job: &EngineJobId, labels: &[(&str, &str)]) -> String {
    // PromQL escapes as JSON does.
    let labels = labels.iter().map(|(label, value)| format!(",{label}={}", json!(value)));
    let labels: String = labels.collect();
    format!("{{__name__=~{},job_id={}{labels}}}", json!(metrics), json!(job.0))
}

/// The instants within `span` that are told of.
fn grid(span: Span) -> Vec<Timestamp> {
    let first = span.from.0.div_euclid(STEP_MS) * STEP_MS;
    let instants = (first..span.to.0).step_by(STEP_MS as usize).map(Timestamp);
    instants.filter(|at| span.contains(*at)).collect()
}

/// An operator, by its labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Operator {
    name: String,
    id: String,
}

impl Operator {
    /// Its name as Flink's REST API writes it in metrics.
    fn written(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        self.name.chars().map(plain).collect()
    }
}

#[derive(Debug, Default, PartialEq)]
struct Source {
    /// Subtasks that it has to have; how it was cut before a rescale is past.
    subtasks: BTreeSet<u32>,
    reports_pending: bool,
}

/// Operators that are sources: those that report pending records, and what Flink calls a source.
fn sources_among(there: impl Iterator<Item = Labels>) -> BTreeMap<Operator, Source> {
    // Per operator: whether it reports what waits, and per attempt the highest subtask.
    let mut operators: BTreeMap<Operator, (bool, BTreeMap<u32, u32>)> = BTreeMap::new();
    for labels in there {
        let Ok(subtask) = labels.subtask_index.parse::<u32>() else { continue };
        let attempt = labels.task_attempt_num.parse().unwrap_or(0);
        let operator = Operator { name: labels.operator_name, id: labels.operator_id };
        let (pending, highest) = operators.entry(operator).or_default();
        *pending |= labels.metric == PENDING;
        let highest = highest.entry(attempt).or_default();
        *highest = subtask.max(*highest);
    }
    operators
        .into_iter()
        .filter(|(operator, (pending, _))| *pending || operator.name.starts_with("Source:"))
        .map(|(operator, (reports_pending, attempts))| {
            // Those of the last attempt, without gaps: a TaskManager that nobody scrapes is missing.
            let highest = attempts.last_key_value().map_or(0, |(_, highest)| *highest);
            (operator, Source { subtasks: (0..=highest).collect(), reports_pending })
        })
        .collect()
}

/// Counters of one attempt of one subtask, in order of time.
type Life = Vec<Counters>;

/// What a source counted around a span.
#[derive(Debug)]
struct Counted {
    expected: BTreeSet<u32>,
    /// Lives of each subtask, in order of their beginnings.
    subtasks: BTreeMap<u32, Vec<Life>>,
}

impl Raw {
    fn samples(&self) -> impl Iterator<Item = Sample> {
        self.values.iter().filter_map(|(at, value)| {
            let value: f64 = value.parse().ok()?;
            let at = Timestamp((at * 1_000.0).round() as i64);
            value.is_finite().then_some(Sample { at, value })
        })
    }
}

/// Puts both counters of each scrape together: a scrape has one time.
fn lives(raw: &[Raw]) -> BTreeMap<u32, Vec<Life>> {
    type Scrapes = BTreeMap<Timestamp, (Option<f64>, Option<f64>)>;
    // Whoever scrapes twice sees the same attempt twice, at other times: that is more of the same.
    let mut attempts: BTreeMap<(u32, &str, &str), Scrapes> = BTreeMap::new();
    for series in raw {
        let Labels { subtask_index, task_attempt_id, tm_id, metric, .. } = &series.metric;
        let Ok(subtask) = subtask_index.parse() else { continue };
        let scrapes = attempts.entry((subtask, task_attempt_id, tm_id)).or_default();
        for Sample { at, value } in series.samples() {
            let (read, pending) = scrapes.entry(at).or_default();
            *(if metric == PENDING { pending } else { read }) = Some(value);
        }
    }
    let mut lives: BTreeMap<u32, Vec<Life>> = BTreeMap::new();
    for ((subtask, ..), scrapes) in attempts {
        let both = scrapes.into_iter().filter_map(|(at, (read, pending))| {
            Some(Counters { at_ms: at.0 as f64, read: read?, pending: pending? })
        });
        let both: Life = both.collect();
        let of_subtask = lives.entry(subtask).or_default();
        of_subtask.extend(both.chunk_by(|a, b| a.read <= b.read).map(<[_]>::to_vec));
        of_subtask.sort_by(|a, b| a[0].at_ms.total_cmp(&b[0].at_ms));
    }
    lives
}

/// The longest distance of two scrapes that a line is drawn between, ms; `None` without any two.
fn longest_line_ms<'a>(sources: impl Iterator<Item = &'a Counted>) -> Option<f64> {
    let lives = sources.flat_map(|source| source.subtasks.values().flatten());
    let apart = |life: &'a Life| life.windows(2).map(|pair| pair[1].at_ms - pair[0].at_ms);
    // The third quartile: where two scrape the same, every other distance is shorter than usual.
    quantile(&lives.flat_map(apart).collect::<Vec<_>>(), 0.75).map(|usual| MISSED * usual)
}

/// The counters at an instant of a life.
fn at(life: &[Counters], at: Timestamp, longest_ms: f64) -> Option<Counters> {
    let at_ms = at.0 as f64;
    let after = life.partition_point(|counters| counters.at_ms <= at_ms);
    let earlier = life[after.checked_sub(1)?];
    match life.get(after) {
        Some(later) if later.at_ms - earlier.at_ms <= longest_ms => {
            Some(earlier.towards(later, at_ms))
        }
        _ => (earlier.at_ms >= at_ms).then_some(earlier),
    }
}

/// What a source, or a subtask of it, shows at an instant.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Shown {
    /// Arrival rate and throughput, events/s.
    rates: Option<(f64, f64)>,
    lag: f64,
}

impl Counted {
    fn shows(&self, instant: Timestamp, longest_ms: f64) -> Option<Shown> {
        let mut sum = Shown { rates: Some((0.0, 0.0)), lag: 0.0 };
        let seen: BTreeSet<u32> = self.subtasks.keys().copied().collect();
        for subtask in seen.union(&self.expected) {
            // The newest attempt that had begun; an older one may linger where nobody sees it end.
            let begun = |life: &&Life| life[0].at_ms <= instant.0 as f64;
            let life = self.subtasks.get(subtask)?.iter().rev().find(begun)?;
            let now = at(life, instant, longest_ms)?;
            let earlier = at(life, instant.plus_millis(-STEP_MS), longest_ms);
            let rates = earlier.and_then(|earlier| now.since(&earlier));
            sum.rates = sum.rates.zip(rates).map(|(a, b)| (a.0 + b.0, a.1 + b.1));
            sum.lag += now.pending;
        }
        Some(sum)
    }
}

/// Reads every source off at the instants of `grid`.
fn sum(
    counted: Vec<(Operator, Counted)>,
    grid: &[Timestamp],
    longest_ms: f64,
    latency_ms: Series,
) -> Readings {
    let (mut sources, mut throughputs) = (Vec::new(), Vec::new());
    for (operator, counted) in counted {
        let shown: Vec<(Timestamp, Shown)> = grid
            .iter()
            .filter_map(|at| counted.shows(*at, longest_ms).map(|shown| (*at, shown)))
            .collect();
        let series = |value: fn(&Shown) -> Option<f64>| {
            let samples = shown
                .iter()
                .filter_map(|(at, shown)| value(shown).map(|value| Sample { at: *at, value }));
            Series::new(samples)
        };
        throughputs.push(series(|shown| shown.rates.map(|rates| rates.1)));
        sources.push(SourceReadings {
            name: operator.written(),
            arrival: series(|shown| shown.rates.map(|rates| rates.0)),
            lag: series(|shown| Some(shown.lag)),
        });
    }
    let throughput = Series::sum(&throughputs.iter().collect::<Vec<_>>());
    Readings { sources, throughput, latency_ms }
}

#[cfg(test)]
mod tests;
