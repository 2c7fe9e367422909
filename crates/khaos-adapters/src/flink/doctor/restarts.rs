//! Does the job come back after a failure, and how long is it dead?

use super::facts::{Asked, Checkpointing, Facts};
use super::settings::{Settings, Strategy, UNLIMITED, is_cluster_level};
use super::{Finding, Restart, Verdict, time};

const HEARTBEAT: [&str; 1] = ["heartbeat.interval"];
const HEARTBEAT_TIMEOUT: [&str; 1] = ["heartbeat.timeout"];
const FIXED_ATTEMPTS: &str = "restart-strategy.fixed-delay.attempts";
const FIXED_DELAY: &str = "restart-strategy.fixed-delay.delay";
const TYPE: &str = "restart-strategy.type";

/// From here on a dead time is worth shortening, s: detection at Flink's defaults is 20 s and 50 s.
const LONG_HANG_S: f64 = 20.0;
/// Deploying again and restoring, s, measured with little state: 0.3 to 1.4.
pub(super) const DEPLOY_S: f64 = 1.0;
/// A restart delay that is longer than that is most of what a short detection saves, s.
const LONG_DELAY_S: f64 = 5.0;

/// From a failure until events are processed again, s, by what is configured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct DeadTime {
    /// After a TaskManager was killed: two heartbeat intervals, as measured.
    pub(super) kill_s: f64,
    /// After one hangs, or its network does: the heartbeat's timeout.
    pub(super) hang_s: f64,
}

/// The dead time that heartbeats and restart delay make; `None` where they are not known.
pub(super) fn dead_time(facts: &Facts) -> Option<DeadTime> {
    Some(dead_time_with(&strategy_of(facts).ok()?, heartbeats(&facts.cluster)?))
}

/// What `cluster` and the restart strategy that Flink `told` make of the dead time after a TaskManager was
/// killed, s; `None` where either is not known, or nothing starts the job again.
pub(super) fn expected_s(told: &Asked<String>, cluster: &Asked<Settings>) -> Option<f64> {
    let strategy = strategy(told, cluster).ok().filter(|strategy| *strategy != Strategy::None)?;
    Some(dead_time_with(&strategy, heartbeats(cluster)?).kill_s)
}

fn dead_time_with(strategy: &Strategy, (interval, timeout): (f64, f64)) -> DeadTime {
    let after = strategy.delay_s() + DEPLOY_S;
    DeadTime { kill_s: 2.0 * interval + after, hang_s: timeout + after }
}

/// Interval and timeout, s.
pub(super) fn heartbeats(cluster: &Asked<Settings>) -> Option<(f64, f64)> {
    let cluster = cluster.as_ref().ok()?;
    Some((cluster.seconds(&HEARTBEAT, 10.0)?, cluster.seconds(&HEARTBEAT_TIMEOUT, 50.0)?))
}

fn strategy_of(facts: &Facts) -> Result<Strategy, Box<Finding>> {
    strategy(&facts.restart_strategy, &facts.cluster)
}

/// The restart strategy, or a finding why it is not known.
pub(super) fn strategy(
    told: &Asked<String>,
    cluster: &Asked<Settings>,
) -> Result<Strategy, Box<Finding>> {
    let check = "restarts";
    let told =
        told.as_ref().map_err(|error| Finding::unknown(check, "the restart strategy", error))?;
    let unreadable = |what: &str| {
        Box::new(Finding::new(check, Verdict::Unknown, format!("not understood: {what}")))
    };
    if !is_cluster_level(told) {
        return Strategy::told(told).ok_or_else(|| unreadable(told));
    }
    let cluster = cluster.as_ref().map_err(|error| {
        Finding::unknown(check, "the cluster's restart strategy, which the job has,", error)
    })?;
    Strategy::configured(cluster).ok_or_else(|| unreadable("the cluster's restart-strategy.type"))
}

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    match strategy_of(facts) {
        Ok(strategy) => {
            findings.push(restarts(facts, &strategy));
            findings.push(delay(&strategy));
        }
        Err(unknown) => findings.push(*unknown),
    }
    findings.push(detection(facts));
    findings.extend(state(facts));
    findings.extend(facts.checkpointing.iter().filter_map(retention));
    findings.push(high_availability(facts));
    findings
}

/// About how often a job starts again until one loss of a TaskManager has been noticed: until then
/// it is deployed onto the dead slot again and again.
fn restarts_per_loss(facts: &Facts, strategy: &Strategy) -> u64 {
    let noticed_s = heartbeats(&facts.cluster).map_or(20.0, |(interval, _)| 2.0 * interval);
    ((noticed_s / (strategy.delay_s() + DEPLOY_S)).ceil() as u64).max(2)
}

fn restarts(facts: &Facts, strategy: &Strategy) -> Finding {
    let check = "restarts";
    let per_loss = restarts_per_loss(facts, strategy);
    let told = |finding| if tells(facts) { finding } else { guessed(finding) };
    let forever = |finding: Finding| {
        finding
            .set(Restart::Job, TYPE, "fixed-delay")
            .set(Restart::Job, FIXED_ATTEMPTS, UNLIMITED.to_string())
            .set(Restart::Job, FIXED_DELAY, "1 s")
            .costs(
                "a job that fails for good restarts for ever instead of ending: watch its restarts",
            )
    };
    let about = format!(
        "one lost TaskManager takes about {per_loss} restarts until heartbeats notice it, because \
         the job is deployed onto the dead slots again"
    );
    match strategy {
        Strategy::None => forever(
            Finding::problem(check, "none: the first failure ends the job")
                .because("what Khaos keeps short is recovery, and there is none"),
        ),
        Strategy::Fixed { attempts, .. } if *attempts >= UNLIMITED => {
            told(Finding::ok(check, "without limit"))
        }
        Strategy::Fixed { attempts, .. } => {
            let seen = format!("{attempts} in all, then the job has failed");
            let finding = if *attempts < per_loss {
                Finding::problem(check, seen)
            } else {
                Finding::advice(check, seen)
            };
            forever(finding.because(format!("{about}. They are counted over the job's whole life")))
        }
        Strategy::Exponential { attempts: Some(attempts), longest_s, .. } => {
            let seen = format!("{attempts} in a row, then the job has failed");
            Finding::advice(check, seen)
                .because(format!("{about}; delays grow to {}", time(*longest_s)))
                .set(
                    Restart::Job,
                    "restart-strategy.exponential-delay.attempts-before-reset-backoff",
                    UNLIMITED.to_string(),
                )
                .costs("a job that fails for good restarts for ever: watch its restarts")
        }
        Strategy::Exponential { first_s, longest_s, .. } => {
            let (first, longest) = (time(*first_s), time(*longest_s));
            told(Finding::ok(
                check,
                format!("without limit, after {first}, and up to {longest} when failures repeat"),
            ))
        }
        Strategy::FailureRate { failures, interval_s, .. } => {
            let interval = time(*interval_s);
            let seen =
                format!("at most {failures} failures within {interval}, then the job has failed");
            if *failures > 2 * per_loss {
                return told(Finding::ok(check, seen));
            }
            let finding = if *failures < per_loss {
                Finding::problem(check, seen)
            } else {
                Finding::advice(check, seen)
            };
            finding
                .because(about)
                .set(
                    Restart::Job,
                    "restart-strategy.failure-rate.max-failures-per-interval",
                    (5 * per_loss).max(50).to_string(),
                )
                .costs("a job that fails for good takes longer to end")
        }
        Strategy::Default => told(Finding::ok(
            check,
            "without limit: none are configured, and that is Flink's default with checkpoints",
        )),
    }
}

/// Whether Flink tells this job's own restarts: 1.x calls it the cluster's default even where the
/// job was submitted with restarts of its own.
fn tells(facts: &Facts) -> bool {
    !facts.restart_strategy.as_ref().is_ok_and(|told| is_cluster_level(told))
}

/// What the cluster is configured to do is not known to be what the job does.
fn guessed(finding: Finding) -> Finding {
    let seen = format!("{} for the cluster", finding.seen);
    Finding { seen, verdict: Verdict::Unknown, ..finding }
        .because(
            "this Flink does not tell whether the job was submitted with a restart-strategy of its \
             own, which would hold instead",
        )
        .doing(Restart::None, "see how the job is submitted: nothing to do where it sets none")
}

fn delay(strategy: &Strategy) -> Finding {
    let check = "restart-delay";
    let (delay, key) = match strategy {
        Strategy::None => return Finding::ok(check, "none, as there are no restarts"),
        Strategy::Fixed { delay_s, .. } => (*delay_s, FIXED_DELAY),
        Strategy::FailureRate { delay_s, .. } => (*delay_s, "restart-strategy.failure-rate.delay"),
        Strategy::Exponential { first_s, .. } => {
            (*first_s, "restart-strategy.exponential-delay.initial-backoff")
        }
        Strategy::Default => (1.0, FIXED_DELAY),
    };
    let words = time(delay);
    if delay <= LONG_DELAY_S {
        return Finding::ok(check, format!("{words} between failure and restart"));
    }
    Finding::advice(
        check,
        format!("{words} pass between a failure that was noticed and the restart"),
    )
    .because("it is part of every recovery, and events queue up meanwhile")
    .set(Restart::Job, key, "1 s")
    .costs("services that the job calls get less time to come back between two tries")
}

fn detection(facts: &Facts) -> Finding {
    let check = "dead-time";
    let Ok(cluster) = &facts.cluster else {
        let seen =
            "the heartbeats could not be read (/jobmanager/config), so neither is the dead time";
        return Finding::new(check, Verdict::Unknown, seen);
    };
    let (Some((interval, timeout)), Some(dead)) = (heartbeats(&facts.cluster), dead_time(facts))
    else {
        let seen = "heartbeats or restart strategy are not known, so neither is the dead time";
        return Finding::new(check, Verdict::Unknown, seen);
    };
    let default = cluster.get(&HEARTBEAT).or(cluster.get(&HEARTBEAT_TIMEOUT)).is_none();
    let seen = format!(
        "heartbeats every {}, given up after {}{}: a killed TaskManager stops the job for about {}, \
         one that hangs for {}",
        time(interval),
        time(timeout),
        if default { " (Flink's defaults)" } else { "" },
        time(dead.kill_s),
        time(dead.hang_s),
    );
    if dead.hang_s <= LONG_HANG_S {
        return Finding::ok(check, seen);
    }
    Finding::advice(check, seen)
        .because(
            "this is the part of a recovery that no checkpoint interval can shorten, and it counts \
             twice: what arrives meanwhile has to be caught up with",
        )
        // Plain milliseconds: 1.x takes nothing else.
        .set(Restart::Cluster, HEARTBEAT[0], "2000")
        .set(Restart::Cluster, HEARTBEAT_TIMEOUT[0], "10000")
        .costs(
            "false alarms: a process that stands still for longer than the timeout (a long garbage \
             collection, an overloaded network) counts as dead, and the job restarts. Look at the \
             longest pauses in the TaskManagers' garbage collection first",
        )
}

/// Where state is kept, and whether checkpoints save all of it each time.
fn state(facts: &Facts) -> Vec<Finding> {
    let Ok(config) = &facts.checkpointing else { return Vec::new() };
    let mut findings = Vec::new();
    if let Some(storage) = config.checkpoint_storage.as_deref().filter(|s| s.contains("JobManager"))
    {
        let dir = if facts.is_before(1, 20) {
            "state.checkpoints.dir"
        } else {
            "execution.checkpointing.dir"
        };
        findings.push(
            Finding::advice("storage", format!("checkpoints are kept in memory ({storage})"))
                .because("a JobManager that is lost takes every checkpoint with it")
                .set(Restart::Job, dir, "s3://… or another folder that every machine reaches")
                .costs("checkpoints are written to that storage, and take as long as that takes"),
        );
    }
    let Some(backend) = config.state_backend.as_deref() else { return findings };
    let completed = facts.statistics.iter().flat_map(|told| &told.history);
    let completed: Vec<_> =
        completed.filter(|c| c.status == "COMPLETED" && !c.is_savepoint).collect();
    let size = completed.iter().filter_map(|c| c.state_size).max();
    let size =
        size.map_or_else(String::new, |bytes| format!(", {} of state", bytes_in_words(bytes)));
    let partial = completed.iter().any(|c| match (c.checkpointed_size, c.state_size) {
        (Some(written), Some(state)) => written < state,
        _ => false,
    });
    let changelog = config.state_changelog_enabled == Some(true);
    let key = if facts.is_before(1, 20) {
        "state.backend.incremental"
    } else {
        "execution.checkpointing.incremental"
    };
    let keys = [key, "execution.checkpointing.incremental", "state.backend.incremental"];
    let configured = facts.cluster.as_ref().ok().and_then(|c| c.get(&keys)) == Some("true");
    let check = "state";
    findings.push(if changelog {
        Finding::ok(check, format!("{backend} with a changelog{size}: checkpoints are short"))
    } else if !backend.contains("RocksDB") && !backend.contains("ForSt") {
        Finding::ok(check, format!("{backend}{size}: every checkpoint saves all of it"))
    } else if partial {
        Finding::ok(check, format!("{backend}, incremental{size}: checkpoints save what changed"))
    } else if configured {
        let seen = format!(
            "{backend}{size}: incremental by configuration, and no checkpoint shows it yet"
        );
        Finding::ok(check, seen)
    } else {
        let seen = format!("{backend}{size}: no checkpoint seen saved less than all of it");
        Finding::advice(check, seen)
            .because(
                "a checkpoint that saves only what changed costs less, so that shorter intervals \
                 become affordable. Flink does not tell the job's own setting: this is from sizes",
            )
            .set(Restart::Job, key, "true")
            .costs("restoring reads more files; shared ones stay longer in the checkpoint folder")
    });
    findings
}

fn bytes_in_words(bytes: u64) -> String {
    match bytes as f64 {
        b if b < 1e6 => format!("{:.0} kB", b / 1e3),
        b if b < 1e9 => format!("{:.0} MB", b / 1e6),
        b => format!("{:.1} GB", b / 1e9),
    }
}

fn retention(config: &Checkpointing) -> Option<Finding> {
    let kept = config.externalization.as_ref()?;
    let check = "retention";
    if kept.enabled && !kept.delete_on_cancellation {
        return Some(Finding::ok(check, "checkpoints stay when the job is cancelled"));
    }
    Some(
        Finding::advice(check, "checkpoints are deleted when the job is cancelled")
            .because(
                "whoever cancels the job by mistake can only begin anew; a failure restores them \
                 all the same",
            )
            .set(
                Restart::Job,
                "execution.checkpointing.externalized-checkpoint-retention",
                "RETAIN_ON_CANCELLATION",
            )
            .costs("somebody has to delete what cancelled jobs leave"),
    )
}

fn high_availability(facts: &Facts) -> Finding {
    let check = "high-availability";
    let cluster = match &facts.cluster {
        Ok(cluster) => cluster,
        Err(error) => return Finding::unknown(check, "the cluster's configuration", error),
    };
    match cluster.get(&["high-availability.type", "high-availability"]) {
        Some(kind) if !kind.eq_ignore_ascii_case("none") => {
            Finding::ok(check, format!("{kind}: the job outlives its JobManager"))
        }
        _ => Finding::advice(check, "none: a JobManager that is lost takes the job with it")
            .because("no checkpoint is restored by itself then, whoever took it and how often")
            .set(Restart::Cluster, "high-availability.type", "kubernetes")
            .set(
                Restart::Cluster,
                "high-availability.storageDir",
                "s3://… or another folder that every machine reaches",
            )
            .costs("where there is no Kubernetes: zookeeper instead, and one to run"),
    }
}
