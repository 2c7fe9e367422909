//! Set-ups as they are met, and what the doctor has to say of each.

use khaos_control::clock::Clock;
use khaos_control::core::units::Timestamp;
use khaos_control::ports::PortError;

use super::facts::{
    Checkpointing, Counts, Externalization, Facts, MetricsSeen, Past, SourceSeen, Statistics,
    Triggered,
};
use super::settings::Settings;
use super::*;

const RESTARTS_FOR_EVER: &str = "Restart with fixed delay (PT1S). #2147483647 restart attempts.";

/// A job that nothing is wrong with.
fn well() -> Facts {
    Facts {
        version: "2.3.0".into(),
        job: "j".into(),
        id: "e".into(),
        state: "RUNNING".into(),
        running: true,
        for_s: 3_600.0,
        checkpointing: Ok(Checkpointing {
            mode: Some("exactly_once".into()),
            interval: 60_000,
            timeout: Some(60_000),
            min_pause: 60_000,
            max_concurrent: Some(1),
            externalization: Some(Externalization { enabled: true, delete_on_cancellation: false }),
            state_backend: Some("EmbeddedRocksDBStateBackend".into()),
            checkpoint_storage: Some("FileSystemCheckpointStorage".into()),
            unaligned_checkpoints: Some(false),
            tolerable_failed_checkpoints: Some(1_000_000),
            state_changelog_enabled: Some(false),
        }),
        statistics: Ok(Statistics {
            counts: Counts { completed: 9, failed: 1 },
            history: vec![past("COMPLETED", 2_000), past("FAILED", 90_000)],
        }),
        restart_strategy: Ok(RESTARTS_FOR_EVER.into()),
        cluster: Ok(cluster(&[])),
        metrics: Ok(MetricsSeen { sources: vec![source("Source__a", true)], latency: true }),
        triggered: Triggered::Completed(10, 0.25),
        runtime_configuration: Ok(false),
        clock_offset_ms: 20,
    }
}

fn past(status: &str, duration: i64) -> Past {
    Past {
        status: status.into(),
        is_savepoint: false,
        end_to_end_duration: duration,
        state_size: Some(5_000_000_000),
        checkpointed_size: Some(40_000_000),
    }
}

fn source(name: &str, tells_pending: bool) -> SourceSeen {
    SourceSeen { name: name.into(), tells_pending }
}

/// A cluster that nothing is wrong with, but for `more`.
fn cluster(more: &[(&str, &str)]) -> Settings {
    let usual = [
        ("heartbeat.interval", "2000"),
        ("heartbeat.timeout", "10000"),
        ("metrics.fetcher.update-interval", "1000"),
        ("web.timeout", "10000"),
        ("high-availability.type", "kubernetes"),
    ];
    Settings::with(&[&usual, more].concat())
}

fn job(change: impl Fn(&mut Checkpointing)) -> Facts {
    let mut facts = well();
    facts.checkpointing.as_mut().map(change).unwrap();
    facts
}

fn with_cluster(entries: &[(&str, &str)]) -> Facts {
    Facts { cluster: Ok(cluster(entries)), ..well() }
}

fn restarting(told: &str) -> Facts {
    Facts { restart_strategy: Ok(told.into()), ..well() }
}

fn gone() -> PortError {
    PortError::Unavailable("no answer within 5 s".into())
}

/// The finding of `check`.
fn found(facts: &Facts, check: &str) -> Finding {
    let all = findings(facts);
    let mut of_it = all.iter().filter(|finding| finding.check == check);
    let one = of_it.next().unwrap_or_else(|| panic!("no {check} in {all:#?}"));
    assert_eq!(of_it.next(), None);
    one.clone()
}

/// Verdict, what was seen, and the settings as they would be written.
fn said(facts: &Facts, check: &str) -> (Verdict, String, String) {
    let finding = found(facts, check);
    let set = finding.change.iter().flat_map(|change| &change.set);
    let set: Vec<String> = set.map(|s| format!("{}: {}", s.key, s.value)).collect();
    (finding.verdict, finding.seen, set.join("; "))
}

#[tokio::test]
async fn nothing_is_said_of_a_job_that_is_well() {
    let ailing: Vec<Finding> =
        findings(&well()).into_iter().filter(|f| f.verdict != Verdict::Ok).collect();
    assert_eq!(ailing, []);
    let rest = Rest::at("http://127.0.0.1:8081", Clock::anchored(Timestamp(0))).unwrap();
    let examination = judge(&rest, &well());
    let drivable = Drivable { mode: Mode::Full, fallback_s: 60, interval_s: 30 };
    assert_eq!(examination.drivable, Some(drivable));
    // A problem comes first, and what prevents driving before all.
    let mut ailing = job(|config| config.interval = i64::MAX);
    ailing.restart_strategy = Ok("Restart deactivated.".into());
    let examination = judge(&rest, &ailing);
    assert_eq!(examination.drivable, None);
    let first: Vec<_> = examination.findings.iter().take(2).map(|f| f.check).collect();
    assert_eq!(first, ["own-checkpoints", "restarts"]);
}

/// Every set-up that is bad: what it comes to, part of what is said, and what to set.
#[test]
#[allow(clippy::too_many_lines, reason = "one table")]
fn what_is_bad_is_found_with_what_to_set() {
    use Verdict::{Advice, Problem, Unknown};
    let version = |version: &str| Facts { version: version.into(), ..well() };
    let triggered = |triggered| Facts { triggered, ..well() };
    let silent = |for_s| Facts {
        for_s,
        metrics: Ok(MetricsSeen {
            sources: vec![source("Source__a", true), source("old", false)],
            latency: false,
        }),
        ..well()
    };
    let whole = |version: &str| Facts {
        version: version.into(),
        statistics: Ok(Statistics {
            history: vec![Past { checkpointed_size: Some(5_000_000_000), ..past("COMPLETED", 1) }],
            ..Statistics::default()
        }),
        ..well()
    };
    let on_old_cluster = |entries: &[(&str, &str)]| Facts {
        cluster: Ok(cluster(entries)),
        ..restarting("Cluster level default restart strategy")
    };
    let attempts = "restart-strategy.type: fixed-delay; restart-strategy.fixed-delay.attempts: \
                    2147483647; restart-strategy.fixed-delay.delay: 1 s";
    for (facts, check, verdict, seen, set) in vec![
        (version("1.16.3"), "reach", Advice, "Flink 1.16.3 answers", ""),
        (version("3.0.0"), "reach", Advice, "Flink 3.0.0 answers", ""),
        (
            Facts { running: false, state: "RESTARTING".into(), for_s: 7.0, ..well() },
            "job",
            Problem,
            "RESTARTING for 7 s",
            "",
        ),
        (triggered(Triggered::No), "trigger", Unknown, "not tried", ""),
        (triggered(Triggered::Failed("disk full".into())), "trigger", Problem, "disk full", ""),
        (triggered(Triggered::Unfinished(120.0)), "trigger", Unknown, "not ended after 120 s", ""),
        (triggered(Triggered::Unanswered(gone())), "trigger", Problem, "no answer within 5 s", ""),
        (
            job(|c| c.interval = i64::MAX),
            "own-checkpoints",
            Problem,
            "no checkpoints of its own",
            "execution.checkpointing.interval: 60 s; execution.checkpointing.min-pause: 60 s",
        ),
        (
            Facts { checkpointing: Err(PortError::NotFound("x".into())), ..well() },
            "own-checkpoints",
            Problem,
            "no checkpoints of its own",
            "execution.checkpointing.interval: 60 s; execution.checkpointing.min-pause: 60 s",
        ),
        (
            Facts { checkpointing: Err(gone()), ..well() },
            "own-checkpoints",
            Unknown,
            "could not be read: no answer",
            "",
        ),
        (
            job(|c| c.mode = Some("at_least_once".into())),
            "guarantee",
            Advice,
            "at least once",
            "execution.checkpointing.mode: EXACTLY_ONCE",
        ),
        (
            job(|c| c.min_pause = 500),
            "mode",
            Advice,
            "assist: driven checkpoints come on top of its own (interval 60 s, min-pause 500 ms)",
            "execution.checkpointing.min-pause: 60000 ms",
        ),
        (
            Facts { statistics: Err(gone()), triggered: Triggered::No, ..well() },
            "fallback",
            Unknown,
            "no checkpoint has completed",
            "",
        ),
        (
            job(|c| c.timeout = Some(600_000)),
            "timeout",
            Advice,
            "holds up every other for 10 min",
            "execution.checkpointing.timeout: 60 s",
        ),
        (
            job(|c| c.timeout = Some(5_000)),
            "timeout",
            Advice,
            "time out after 5 s, and take up to 2 s",
            "execution.checkpointing.timeout: 60 s",
        ),
        (job(|c| c.timeout = None), "timeout", Unknown, "does not tell", ""),
        (
            job(|c| c.tolerable_failed_checkpoints = Some(0)),
            "tolerable-failures",
            Advice,
            "the first checkpoint that fails or times out restarts the job",
            "execution.checkpointing.tolerable-failed-checkpoints: 1000000",
        ),
        (
            job(|c| c.tolerable_failed_checkpoints = Some(2)),
            "tolerable-failures",
            Advice,
            "3 failed checkpoints in a row restart the job",
            "execution.checkpointing.tolerable-failed-checkpoints: 1000000",
        ),
        (
            job(|c| c.tolerable_failed_checkpoints = None),
            "tolerable-failures",
            Unknown,
            "does not tell",
            "",
        ),
        (
            job(|c| c.max_concurrent = Some(3)),
            "concurrent",
            Advice,
            "up to 3 checkpoints at a time",
            "execution.checkpointing.max-concurrent-checkpoints: 1",
        ),
        (
            Facts { runtime_configuration: Err(gone()), ..well() },
            "runtime-configuration",
            Unknown,
            "could not be read",
            "",
        ),
        (restarting("Restart deactivated."), "restarts", Problem, "first failure ends", attempts),
        (
            restarting("Restart with fixed delay (PT1S). #1 restart attempts."),
            "restarts",
            Problem,
            "1 in all, then the job has failed",
            attempts,
        ),
        (
            restarting("Restart with fixed delay (PT1S). #30 restart attempts."),
            "restarts",
            Advice,
            "30 in all",
            attempts,
        ),
        (
            restarting(
                "Failure rate restart with maximum of 1 failures within interval PT1M and fixed \
                 delay PT1S.",
            ),
            "restarts",
            Problem,
            "at most 1 failures within 60 s",
            "restart-strategy.failure-rate.max-failures-per-interval: 50",
        ),
        (
            on_old_cluster(&[
                ("restart-strategy.type", "exponential-delay"),
                ("restart-strategy.exponential-delay.attempts-before-reset-backoff", "4"),
            ]),
            "restarts",
            Advice,
            "4 in a row",
            "restart-strategy.exponential-delay.attempts-before-reset-backoff: 2147483647",
        ),
        (on_old_cluster(&[]), "restarts", Unknown, "Flink's default with checkpoints", ""),
        (
            on_old_cluster(&[("restart-strategy", "fixed-delay")]),
            "restarts",
            Problem,
            "1 in all",
            attempts,
        ),
        (restarting("com.example.Mine"), "restarts", Unknown, "com.example.Mine", ""),
        (Facts { restart_strategy: Err(gone()), ..well() }, "restarts", Unknown, "no answer", ""),
        (
            restarting("Restart with fixed delay (PT30S). #2147483647 restart attempts."),
            "restart-delay",
            Advice,
            "30 s pass",
            "restart-strategy.fixed-delay.delay: 1 s",
        ),
        (
            Facts { cluster: Ok(Settings::default()), ..well() },
            "dead-time",
            Advice,
            "heartbeats every 10 s, given up after 50 s (Flink's defaults): a killed TaskManager \
             stops the job for about 22 s, one that hangs for 52 s",
            "heartbeat.interval: 2000; heartbeat.timeout: 10000",
        ),
        (Facts { cluster: Err(gone()), ..well() }, "dead-time", Unknown, "could not be read", ""),
        (
            Facts { cluster: Err(gone()), ..well() },
            "high-availability",
            Unknown,
            "could not be read",
            "",
        ),
        (Facts { cluster: Err(gone()), ..well() }, "configuration", Unknown, "could not", ""),
        (
            Facts { cluster: Ok(Settings::default()), ..well() },
            "high-availability",
            Advice,
            "takes the job with it",
            "high-availability.type: kubernetes; high-availability.storageDir: s3://… or another \
             folder that every machine reaches",
        ),
        (
            whole("2.3.0"),
            "state",
            Advice,
            "5.0 GB of state",
            "execution.checkpointing.incremental: true",
        ),
        (whole("1.18.1"), "state", Advice, "5.0 GB", "state.backend.incremental: true"),
        (
            job(|c| c.checkpoint_storage = Some("JobManagerCheckpointStorage".into())),
            "storage",
            Advice,
            "kept in memory",
            "execution.checkpointing.dir: s3://… or another folder that every machine reaches",
        ),
        (
            job(|c| {
                c.externalization =
                    Some(Externalization { enabled: false, delete_on_cancellation: true });
            }),
            "retention",
            Advice,
            "deleted when the job is cancelled",
            "execution.checkpointing.externalized-checkpoint-retention: RETAIN_ON_CANCELLATION",
        ),
        (
            with_cluster(&[("web.checkpoints.history", "2")]),
            "history",
            Problem,
            "remembers 2",
            "web.checkpoints.history: 10",
        ),
        (
            with_cluster(&[("rest.cache.checkpoint-statistics.timeout", "30 s")]),
            "statistics-cache",
            Advice,
            "up to 30 s late",
            "rest.cache.checkpoint-statistics.timeout: 1 s",
        ),
        (
            Facts {
                version: "1.17.2".into(),
                ..with_cluster(&[("web.refresh-interval", "20000")])
            },
            "statistics-cache",
            Advice,
            "up to 20 s late",
            "web.refresh-interval: 1 s",
        ),
        (
            Facts { cluster: Ok(Settings::default()), ..well() },
            "metrics-age",
            Advice,
            "up to 10 s old",
            "metrics.fetcher.update-interval: 1000",
        ),
        (
            Facts { cluster: Ok(Settings::default()), ..well() },
            "metrics-after-a-loss",
            Advice,
            "up to 10 min",
            "web.timeout: 10000",
        ),
        (
            with_cluster(&[("web.timeout", "soon")]),
            "metrics-after-a-loss",
            Unknown,
            "no length of time",
            "",
        ),
        (silent(3_600.0), "sources", Advice, "no pendingRecords from old", ""),
        (silent(5.0), "sources", Unknown, "no pendingRecords from old so far", ""),
        (
            Facts { metrics: Ok(MetricsSeen::default()), ..well() },
            "sources",
            Unknown,
            "no source was found",
            "",
        ),
        (Facts { metrics: Err(gone()), ..well() }, "sources", Unknown, "could not be read", ""),
        (
            silent(3_600.0),
            "latency-markers",
            Advice,
            "off: no latency is measured",
            "metrics.latency.interval: 1000",
        ),
        (
            Facts {
                cluster: Ok(cluster(&[("metrics.latency.interval", "1 s")])),
                ..silent(3_600.0)
            },
            "latency-markers",
            Unknown,
            "switched on",
            "",
        ),
        (
            Facts { clock_offset_ms: -4_000, ..well() },
            "clocks",
            Advice,
            "the JobManager's clock is 4 s behind ours",
            "",
        ),
    ] {
        let (is, has_seen, sets) = said(&facts, check);
        assert_eq!(is, verdict, "{check}: {has_seen}");
        assert!(has_seen.contains(seen), "{check}: {has_seen}");
        assert_eq!(sets, set, "{check}: {has_seen}");
    }
}

/// By hand: heartbeats of 2 s and 10 s, restart delay 1 s, 1 s to deploy: killed 6 s, hung 12 s. In
/// full mode the age is at worst 60 + 2·2 = 64 s; R = D + (D + age) at half of the capacity = 76 s.
/// In assist mode it is 62 s and 74 s.
#[test]
fn what_is_left_without_khaos_is_said() {
    let (verdict, full, _) = said(&well(), "fallback");
    assert_eq!(verdict, Verdict::Ok);
    assert!(full.contains("repeats 64 s of events"), "{full}");
    assert!(full.contains("caught up 76 s after a killed TaskManager (6 s dead time"), "{full}");
    let (_, assist, _) = said(&job(|c| c.min_pause = 0), "fallback");
    assert!(assist.contains("repeats 62 s") && assist.contains("caught up 74 s"), "{assist}");
    let (_, dead, _) = said(&well(), "dead-time");
    assert!(dead.contains("about 6 s, one that hangs for 12 s"), "{dead}");
}

/// What is told with every job: 2·2 + 1 + 1 s, by Flink's defaults 2·10 + 1 + 1 s, and nothing where it is
/// not known or nothing starts the job again.
#[test]
fn the_dead_time_to_expect_is_that_of_a_killed_taskmanager() {
    let expected = |facts: &Facts| restarts::expected_s(&facts.restart_strategy, &facts.cluster);
    assert_eq!(expected(&well()), Some(6.0));
    assert_eq!(expected(&Facts { cluster: Ok(Settings::default()), ..well() }), Some(22.0));
    assert_eq!(
        expected(&restarting("Restart with fixed delay (PT10S). #3 restart attempts.")),
        Some(15.0)
    );
    assert_eq!(expected(&restarting("Restart deactivated.")), None);
    assert_eq!(expected(&Facts { cluster: Err(gone()), ..well() }), None);
    assert_eq!(expected(&Facts { restart_strategy: Err(gone()), ..well() }), None);
}

#[test]
fn what_prevents_driving_is_told_from_what_is_only_bad() {
    let preventing = |facts: &Facts| -> Vec<&str> {
        findings(facts).iter().filter(|f| f.prevents_driving).map(|f| f.check).collect()
    };
    assert_eq!(preventing(&well()), [] as [&str; 0]);
    let nothing = Facts { cluster: Ok(Settings::default()), ..restarting("Restart deactivated.") };
    assert_eq!(preventing(&nothing), [] as [&str; 0]);
    let stopped = Facts { running: false, triggered: Triggered::No, ..well() };
    assert_eq!(preventing(&stopped), ["job", "trigger"]);
    assert_eq!(preventing(&job(|c| c.interval = -1)), ["own-checkpoints"]);
}

#[test]
fn an_interval_to_begin_with_leaves_checkpoints_the_time_they_need() {
    let begin = |facts: &Facts| driving::drivable(facts).map(|drivable| drivable.interval_s);
    assert_eq!(begin(&well()), Some(30));
    let mut slow = well();
    slow.statistics.as_mut().unwrap().history = vec![past("COMPLETED", 20_400)];
    assert_eq!(begin(&slow), Some(41), "twice 20.4 s");
    slow.statistics.as_mut().unwrap().history = vec![past("COMPLETED", 50_000)];
    assert_eq!(begin(&slow), Some(60), "not above its own");
    assert_eq!(begin(&job(|c| c.interval = 900)), Some(1));
}

#[test]
fn lengths_of_time_are_said_as_people_say_them() {
    for (seconds, said) in [
        (0.0, "0 ms"),
        (0.25, "250 ms"),
        (1.0, "1 s"),
        (2.64, "2.6 s"),
        (64.4, "64 s"),
        (600.0, "10 min"),
        (36_000.0, "10 h"),
        (604_800.0, "7 days"),
    ] {
        assert_eq!(time(seconds), said);
    }
}
