//! Can what has to be known be read: load, latency, checkpoints, time?

use super::facts::{Facts, MetricsSeen};
use super::settings::Settings;
use super::{Finding, Restart, Verdict, time};

const HISTORY: [&str; 1] = ["web.checkpoints.history"];
const CACHE: [&str; 1] = ["rest.cache.checkpoint-statistics.timeout"];
const FETCHER: [&str; 1] = ["metrics.fetcher.update-interval"];
const WEB_TIMEOUT: [&str; 1] = ["web.timeout"];
const ASK_TIMEOUT: [&str; 2] = ["pekko.ask.timeout", "akka.ask.timeout"];
const LATENCY: [&str; 1] = ["metrics.latency.interval"];

/// Khaos looks at checkpoints every five seconds, and between two looks there may be its own, the
/// job's and one that failed.
const HISTORY_ENOUGH: u64 = 3;
/// Metrics older than that blur what a minute shows, s.
const FRESH_S: f64 = 5.0;
/// Metrics that stand still for longer than that after a loss hide most of a recovery, s.
const BLIND_S: f64 = 20.0;
/// Sources and latency histograms register some time after the start, s.
const SETTLED_S: f64 = 60.0;
/// Clocks that are further apart are worth setting, s.
const CLOCKS_APART_S: f64 = 1.0;

impl Facts {
    /// Whether this Flink is older than `major.minor`; not when its version is not a number.
    pub(super) fn is_before(&self, major: u32, minor: u32) -> bool {
        let mut parts = self.version.split('.').map_while(|part| part.parse::<u32>().ok());
        let (this, that) = (parts.next(), parts.next());
        this.zip(that).is_some_and(|version| version < (major, minor))
    }
}

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![clocks(facts)];
    match &facts.cluster {
        Ok(cluster) => findings.extend([
            history(cluster),
            cache(facts, cluster),
            fetcher(cluster),
            blindness(cluster),
        ]),
        Err(error) => findings.push(Finding::unknown(
            "configuration",
            "the cluster's configuration (history size, caches, age of metrics)",
            error,
        )),
    }
    match &facts.statistics {
        Ok(told) => {
            let (completed, failed) = (told.counts.completed, told.counts.failed);
            findings.push(Finding::ok(
                "checkpoints",
                format!("{completed} completed and {failed} failed since the job was submitted"),
            ));
        }
        Err(error) => {
            findings.push(Finding::unknown("checkpoints", "the job's checkpoints", error));
        }
    }
    match &facts.metrics {
        Ok(metrics) => {
            findings.push(sources(facts, metrics));
            findings.push(latency(facts, metrics));
        }
        Err(error) => findings.push(Finding::unknown("sources", "the job's metrics", error)),
    }
    findings
}

fn clocks(facts: &Facts) -> Finding {
    let apart = facts.clock_offset_ms as f64 / 1_000.0;
    if apart.abs() < CLOCKS_APART_S {
        return Finding::ok("clocks", "the JobManager's clock and ours agree to a second");
    }
    let direction = if apart > 0.0 { "ahead of" } else { "behind" };
    Finding::advice(
        "clocks",
        format!("the JobManager's clock is {} {direction} ours", time(apart.abs())),
    )
    .because("Khaos corrects for it, but logs and metrics of both cannot be compared")
    .doing(Restart::None, "synchronise both with NTP")
}

fn history(cluster: &Settings) -> Finding {
    let kept = cluster.get(&HISTORY).map_or(Some(10), |text| text.trim().parse::<u64>().ok());
    match kept {
        None => {
            Finding::new("history", Verdict::Unknown, "web.checkpoints.history is not a number")
        }
        Some(kept) if kept < HISTORY_ENOUGH => {
            Finding::problem("history", format!("Flink remembers {kept} checkpoints"))
                .because(
                    "Khaos follows them every few seconds: at short intervals some would come and \
                     go unseen, so that it could not tell what a failure restores",
                )
                .set(Restart::Cluster, HISTORY[0], "10")
                .costs("a few kB of the JobManager's memory per checkpoint and job")
        }
        Some(kept) => Finding::ok(
            "history",
            format!("Flink remembers {kept} checkpoints; Khaos follows them beyond that"),
        ),
    }
}

fn cache(facts: &Facts, cluster: &Settings) -> Finding {
    let check = "statistics-cache";
    // Before 1.19 the web interface's refresh is the cache.
    let keys = if facts.is_before(1, 19) { ["web.refresh-interval"] } else { CACHE };
    match cluster.seconds(&keys, 3.0) {
        None => Finding::new(check, Verdict::Unknown, format!("{} is no length of time", keys[0])),
        Some(age) if age <= 3.0 => Finding::ok(
            check,
            format!("checkpoints are shown up to {} late; Khaos knows its own at once", time(age)),
        ),
        Some(age) => {
            Finding::advice(check, format!("checkpoints are shown up to {} late", time(age)))
                .because(
                    "the job's own checkpoints are seen that late, and driven ones that were not \
                     needed are taken meanwhile",
                )
                .set(Restart::Cluster, keys[0], "1 s")
                .costs("a little more work for the JobManager per question")
        }
    }
}

fn fetcher(cluster: &Settings) -> Finding {
    let check = "metrics-age";
    match cluster.seconds(&FETCHER, 10.0) {
        None => {
            Finding::new(check, Verdict::Unknown, format!("{} is no length of time", FETCHER[0]))
        }
        Some(age) if age <= FRESH_S => {
            Finding::ok(check, format!("metrics are at most {} old", time(age)))
        }
        Some(age) => Finding::advice(check, format!("metrics are up to {} old", time(age)))
            .because(
                "load and backlog cannot be sampled finer than that: enough to decide by the \
                 minute, too coarse to time a recovery",
            )
            // Plain milliseconds: 1.x takes nothing else.
            .set(Restart::Cluster, FETCHER[0], "1000")
            .costs("TaskManagers are asked for their metrics that often, while somebody looks"),
    }
}

/// For how long Flink tells no new metrics, of any job, once it has lost a TaskManager: until its question
/// to the lost one has timed out.
fn blindness(cluster: &Settings) -> Finding {
    let check = "metrics-after-a-loss";
    let timeouts = cluster.seconds(&WEB_TIMEOUT, 600.0).zip(cluster.seconds(&ASK_TIMEOUT, 10.0));
    let Some(blind) = timeouts.map(|(web, ask)| web.max(ask)) else {
        let seen = format!("{} or {} is no length of time", WEB_TIMEOUT[0], ASK_TIMEOUT[0]);
        return Finding::new(check, Verdict::Unknown, seen);
    };
    let seen = format!("stand still for up to {} when a TaskManager is lost", time(blind));
    if blind <= BLIND_S {
        return Finding::ok(check, seen);
    }
    Finding::advice(check, seen)
        .because(
            "the JobManager fetches no metrics of any job while it waits for those of the lost \
             TaskManager, so that real failures cannot be measured; metrics from Prometheus can",
        )
        // Plain milliseconds: 1.x takes nothing else.
        .set(Restart::Cluster, WEB_TIMEOUT[0], "10000")
        .costs("REST calls that make the JobManager work for longer fail, as large submissions may")
}

fn sources(facts: &Facts, metrics: &MetricsSeen) -> Finding {
    let check = "sources";
    let names = |tells: bool| -> Vec<&str> {
        let of_kind = metrics.sources.iter().filter(|source| source.tells_pending == tells);
        of_kind.map(|source| source.name.as_str()).collect()
    };
    let (telling, silent) = (names(true), names(false));
    let unknown = |seen: String| Finding::new(check, Verdict::Unknown, seen);
    if metrics.sources.is_empty() {
        return unknown("no source was found among the job's metrics".to_owned())
            .because("without the load no interval can be chosen by itself; by hand it can");
    }
    if silent.is_empty() {
        let seen = format!(
            "{} of {} tell how much waits for them (pendingRecords): {}",
            telling.len(),
            metrics.sources.len(),
            telling.join(", ")
        );
        return Finding::ok(check, seen);
    }
    let seen = format!("no pendingRecords from {}", silent.join(", "));
    if !facts.running || facts.for_s < SETTLED_S {
        return unknown(format!("{seen} so far")).doing(
            Restart::None,
            "ask again once the job has run for a minute: some tell it late",
        );
    }
    Finding::advice(check, seen)
        .because(
            "what arrives cannot be told from what is read, so that the load stays unknown: Khaos \
             would hold the interval and choose none. Driving a fixed interval by hand works",
        )
        .doing(
            Restart::Job,
            "use a source on the new Source API (FLIP-27) that reports pendingRecords, as \
             KafkaSource does",
        )
}

fn latency(facts: &Facts, metrics: &MetricsSeen) -> Finding {
    let check = "latency-markers";
    if metrics.latency {
        return Finding::ok(check, "on: a latency objective can be judged");
    }
    let interval = facts.cluster.as_ref().ok().map(|c| c.seconds(&LATENCY, 0.0).unwrap_or(0.0));
    match interval {
        Some(seconds) if seconds > 0.0 => Finding::new(
            check,
            Verdict::Unknown,
            "switched on, but no latency has been measured so far",
        )
        .doing(
            Restart::None,
            "ask again once the job has run for a minute; a job of one operator never measures any",
        ),
        _ => Finding::advice(check, "off: no latency is measured")
            .because("a latency objective cannot be judged; recovery and visibility can")
            // Plain milliseconds: 1.x takes nothing else.
            .set(Restart::Job, LATENCY[0], "1000")
            .costs(
                "a marker per source subtask and second through the whole job, and a histogram for \
                 each source in every operator's subtask: Flink warns that this can be felt, most \
                 with metrics.latency.granularity: subtask",
            ),
    }
}
