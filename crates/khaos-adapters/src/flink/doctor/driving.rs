//! Can the job be reached, triggered and driven, and what is left when nobody drives it?

use khaos_control::ports::PortError;

use super::facts::{Checkpointing, Facts, Triggered};
use super::{Drivable, Finding, Mode, Restart, Verdict, restarts, time};
use crate::flink::deployment::DAY_MS;

const INTERVAL: &str = "execution.checkpointing.interval";
const MIN_PAUSE: &str = "execution.checkpointing.min-pause";
const TIMEOUT: &str = "execution.checkpointing.timeout";
const TOLERABLE: &str = "execution.checkpointing.tolerable-failed-checkpoints";
const CONCURRENT: &str = "execution.checkpointing.max-concurrent-checkpoints";

/// So many failed checkpoints are enough to keep what may happen in the worst ten minutes from
/// restarting the job.
const TOLERABLE_ENOUGH: i64 = 10;

pub(super) fn unreachable(error: &PortError) -> Finding {
    Finding::problem("reach", format!("Flink does not answer: {error}"))
        .prevents()
        .because("everything that Khaos sees and does goes through Flink's REST API")
        .doing(
            Restart::None,
            "give the address of the JobManager's web interface with --url, as this machine \
             reaches it (on Kubernetes through the service JOB-rest, or kubectl port-forward)",
        )
}

pub(super) fn no_job(error: &PortError) -> Finding {
    Finding::problem("job", error.to_string()).prevents().doing(
        Restart::None,
        "name a job that runs, by its name or Flink's id of it, or point --url at another cluster",
    )
}

pub(super) fn reached(version: &str) -> Finding {
    let mut parts = version.split('.').map(str::parse::<u32>);
    let number = |part: Option<Result<u32, _>>| part.and_then(Result::ok);
    let (major, minor) = (number(parts.next()), number(parts.next()));
    match (major, minor) {
        (Some(1), Some(17..)) | (Some(2), Some(_)) => {
            Finding::ok("reach", format!("Flink {version} answers"))
        }
        _ => Finding::advice("reach", format!("Flink {version} answers"))
            .because(
                "Khaos knows 1.17 to 2.x, and was tried on 1.20.5 and 2.3.0: what it asks may be \
                 answered otherwise here",
            )
            .doing(Restart::None, "try `khaos drive` on a job that nobody needs before this one"),
    }
}

/// How the job could be driven, if nothing else prevents it.
pub(super) fn drivable(facts: &Facts) -> Option<Drivable> {
    let config = facts.checkpointing.as_ref().ok()?;
    let interval_s = interval_s(config)?;
    let fallback_s = (interval_s as u32).max(1);
    let half = (fallback_s / 2).max(1);
    let quick = facts.duration_s().map_or(1, |duration| (2.0 * duration).ceil() as u32);
    Some(Drivable {
        mode: if config.min_pause >= config.interval { Mode::Full } else { Mode::Assist },
        fallback_s,
        interval_s: half.max(quick).min(fallback_s),
    })
}

/// The job's own interval, s; `None` where it has none.
pub(super) fn interval_s(config: &Checkpointing) -> Option<f64> {
    let there = (1..=DAY_MS).contains(&config.interval);
    there.then(|| config.interval as f64 / 1_000.0)
}

impl Facts {
    /// How long checkpoints take at worst, s, as far as it was seen.
    fn duration_s(&self) -> Option<f64> {
        let past = self.statistics.iter().flat_map(|told| &told.history);
        let completed = past.filter(|c| c.status == "COMPLETED" && !c.is_savepoint);
        let longest = completed.map(|c| c.end_to_end_duration as f64 / 1_000.0).reduce(f64::max);
        match self.triggered {
            Triggered::Completed(_, took) => longest.or(Some(took)),
            _ => longest,
        }
    }
}

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![reached(&facts.version), runs(facts), triggered(facts)];
    match &facts.checkpointing {
        Ok(config) => {
            findings.push(own_checkpoints(config));
            findings.extend(guarantee(config));
            if let Some(interval) = interval_s(config) {
                let duration = facts.duration_s();
                findings.push(mode(config, interval));
                findings.push(fallback(facts, config, interval, duration));
                findings.push(timeout(config, interval, duration));
            }
            findings.push(tolerable(config));
            findings.extend(concurrent(config));
            findings.extend(alignment(config));
        }
        // The job is there: checkpoints are off.
        Err(PortError::NotFound(_)) => {
            findings.push(own_checkpoints(&Checkpointing::default()));
        }
        Err(error) => findings.push(
            Finding::unknown("own-checkpoints", "the job's checkpoint settings", error).prevents(),
        ),
    }
    findings.push(runtime_configuration(facts));
    findings
}

fn runs(facts: &Facts) -> Finding {
    let (state, since) = (&facts.state, time(facts.for_s));
    if facts.running {
        return Finding::ok("job", format!("every vertex has been running for {since}"));
    }
    Finding::problem("job", format!("it does not run: {state} for {since}, or not every vertex"))
        .prevents()
        .because("a job can only be triggered while every vertex runs")
        .doing(
            Restart::None,
            "look at the job's exceptions in Flink's web interface; ask again once it runs",
        )
}

fn triggered(facts: &Facts) -> Finding {
    let unanswered = match &facts.triggered {
        Triggered::Completed(number, took) => {
            let seen = format!(
                "a checkpoint can be triggered: number {number} completed in {}",
                time(*took)
            );
            return Finding::ok("trigger", seen);
        }
        Triggered::No => {
            let seen = "not tried: a job that does not run cannot be triggered";
            return Finding::new("trigger", Verdict::Unknown, seen).prevents();
        }
        Triggered::Failed(why) => {
            let seen = format!("the checkpoint that was triggered failed: {why}");
            return Finding::problem("trigger", seen)
                .prevents()
                .because("driving is triggering: what fails now fails then, and the job's own too")
                .doing(
                    Restart::None,
                    "look at the checkpoint under Checkpoints → History in Flink's web interface \
                     and in the TaskManagers' logs (storage that is full or not reachable is the \
                     usual reason)",
                );
        }
        Triggered::Unfinished(waited) => {
            let waited = time(*waited);
            let seen = format!("the checkpoint that was triggered had not ended after {waited}");
            return Finding::new("trigger", Verdict::Unknown, seen)
                .prevents()
                .because("an interval below the time that a checkpoint takes cannot be driven")
                .doing(
                    Restart::None,
                    "ask again with --wait 10m; if it never ends, look for back pressure",
                );
        }
        Triggered::Unanswered(error) => error,
    };
    Finding::problem("trigger", format!("a checkpoint cannot be triggered: {unanswered}"))
        .prevents()
        .because("driving is triggering checkpoints over REST")
        .doing(
            Restart::None,
            "let POST /jobs/…/checkpoints through, should a proxy between here and Flink refuse it",
        )
}

fn own_checkpoints(config: &Checkpointing) -> Finding {
    match interval_s(config) {
        Some(interval) => Finding::ok(
            "own-checkpoints",
            format!("the job takes a checkpoint of its own every {}", time(interval)),
        ),
        None => Finding::problem("own-checkpoints", "the job takes no checkpoints of its own")
            .prevents()
            .because(
                "nothing would take over if Khaos died: the next failure would repeat everything \
                 since the last driven checkpoint, or since the job began",
            )
            .set(Restart::Job, INTERVAL, "60 s")
            .set(Restart::Job, MIN_PAUSE, "60 s")
            .costs(
                "60 s stands for the interval that you accept while nobody drives; min-pause as \
                 long as that lets driven checkpoints replace the job's own (full mode)",
            ),
    }
}

fn guarantee(config: &Checkpointing) -> Option<Finding> {
    let mode = config.mode.as_deref()?;
    let words = mode.replace('_', " ");
    Some(if mode.eq_ignore_ascii_case("exactly_once") {
        Finding::ok("guarantee", words)
    } else {
        Finding::advice("guarantee", words)
            .because(
                "events that were read since the last checkpoint are counted twice after a \
                 failure: a shorter interval makes these fewer, not none",
            )
            .set(Restart::Job, "execution.checkpointing.mode", "EXACTLY_ONCE")
            .costs("checkpoints wait for the slowest input (aligned) or save what is in flight")
    })
}

fn mode(config: &Checkpointing, interval: f64) -> Finding {
    let own = time(interval);
    if config.min_pause >= config.interval {
        let seen =
            format!("full: min-pause is the interval, {own}; driven checkpoints replace its own");
        return Finding::ok("mode", seen);
    }
    let pause = time(config.min_pause as f64 / 1_000.0);
    let ms = format!("{} ms", config.interval);
    Finding::advice(
        "mode",
        format!(
            "assist: driven checkpoints come on top of its own (interval {own}, min-pause {pause})"
        ),
    )
    .because(
        "its own checkpoints go on while Khaos drives, so that some are taken twice and the \
         interval can only get shorter; with min-pause = interval each driven one puts its own off",
    )
    .set(Restart::Job, MIN_PAUSE, ms)
    .costs(
        "nothing while Khaos drives. Without Khaos its own come one interval after the *end* of \
         the one before, so a little less often. Driving in assist mode needs no change at all",
    )
}

/// What is left when Khaos is dead: that much is known before anything is driven.
fn fallback(
    facts: &Facts,
    config: &Checkpointing,
    interval: f64,
    duration: Option<f64>,
) -> Finding {
    let full = config.min_pause >= config.interval;
    let own = time(interval);
    let Some(duration) = duration else {
        let seen = format!(
            "if Khaos dies, its own {own} go on by themselves; what a failure would cost then is \
             unknown, because no checkpoint has completed yet"
        );
        return Finding::new("fallback", Verdict::Unknown, seen);
    };
    // The age of the last completed checkpoint at the worst moment: just before the next completes.
    let age = interval + duration * if full { 2.0 } else { 1.0 };
    let mut seen = format!(
        "if Khaos dies, its own {own} go on by themselves: a failure at the worst moment repeats \
         {} of events",
        time(age)
    );
    if let Some(dead) = restarts::dead_time(facts) {
        // R = D + (D + age)·λ/(μ − λ), with λ = μ/2.
        let (kill, worst) = (time(dead.kill_s), time(2.0 * dead.kill_s + age));
        seen = format!(
            "{seen}. At half of its capacity it would have caught up {worst} after a killed \
             TaskManager ({kill} dead time included), at a higher load later"
        );
    }
    Finding::ok("fallback", seen)
}

fn timeout(config: &Checkpointing, interval: f64, duration: Option<f64>) -> Finding {
    let Some(timeout) = config.timeout.map(|ms| ms as f64 / 1_000.0) else {
        return Finding::new(
            "timeout",
            Verdict::Unknown,
            "Flink does not tell the checkpoint timeout",
        );
    };
    let (words, known) = (time(timeout), duration.unwrap_or(0.0));
    let enough = (10.0 * known).max(interval).max(60.0).ceil();
    if timeout < 3.0 * known {
        let seen = format!("checkpoints time out after {words}, and take up to {}", time(known));
        return Finding::advice("timeout", seen)
            .because("one that is a little slower under load is given up, and counts as failed")
            .set(Restart::Job, TIMEOUT, format!("{enough} s"))
            .costs("a checkpoint that hangs is noticed later");
    }
    if timeout > 2.0 * enough {
        let seen = format!("a checkpoint that hangs holds up every other for {words}");
        return Finding::advice("timeout", seen)
            .because(format!(
                "only one runs at a time, so until it times out no other can complete, whoever \
                 triggers it: a failure then repeats that much and not {}",
                time(interval)
            ))
            .set(Restart::Job, TIMEOUT, format!("{enough} s"))
            .costs(
                "a checkpoint that would have needed longer fails: keep it above ten times what \
                 checkpoints take, and tolerable-failed-checkpoints high",
            );
    }
    Finding::ok("timeout", format!("checkpoints time out after {words}"))
}

fn tolerable(config: &Checkpointing) -> Finding {
    let Some(tolerable) = config.tolerable_failed_checkpoints else {
        let seen = "Flink does not tell how many failed checkpoints the job bears";
        return Finding::new("tolerable-failures", Verdict::Unknown, seen);
    };
    if tolerable >= TOLERABLE_ENOUGH {
        let seen = match tolerable {
            1_000.. => "failed checkpoints do not restart the job".to_owned(),
            few => format!("{few} failed checkpoints in a row do not restart the job"),
        };
        return Finding::ok("tolerable-failures", seen);
    }
    let seen = match tolerable {
        ..=0 => "the first checkpoint that fails or times out restarts the job".to_owned(),
        some => format!("{} failed checkpoints in a row restart the job", some + 1),
    };
    Finding::advice("tolerable-failures", seen)
        .because(
            "more checkpoints are more chances to fail, and a restart makes an outage of what the \
             next checkpoint would have made good. Driven ones count like the job's own",
        )
        .set(Restart::Job, TOLERABLE, "1000000")
        .costs(
            "storage that stays broken no longer shows as a restarting job: watch the age of the \
             last checkpoint instead, as Khaos does",
        )
}

fn concurrent(config: &Checkpointing) -> Option<Finding> {
    Some(match config.max_concurrent? {
        1 => Finding::ok("concurrent", "one checkpoint at a time"),
        many => Finding::advice("concurrent", format!("up to {many} checkpoints at a time"))
            .because(
                "Khaos waits for each before it triggers the next; several at a time cost more \
                 capacity together, and forbid unaligned checkpoints",
            )
            .set(Restart::Job, CONCURRENT, "1"),
    })
}

fn alignment(config: &Checkpointing) -> Option<Finding> {
    let seen = if config.unaligned_checkpoints? {
        "unaligned checkpoints: driven ones are taken in the same way"
    } else {
        "aligned checkpoints: under back pressure they take longer"
    };
    Some(Finding::ok("alignment", seen))
}

fn runtime_configuration(facts: &Facts) -> Finding {
    let check = "runtime-configuration";
    match &facts.runtime_configuration {
        Ok(false) => Finding::ok(
            check,
            format!(
                "Flink {} cannot change the interval of a running job (no FLIP-571), and need not: \
                 Khaos triggers the checkpoints",
                facts.version
            ),
        ),
        Ok(true) => Finding::ok(
            check,
            "this Flink can change the interval of a running job (FLIP-571). Khaos leaves that \
             alone: it triggers the checkpoints, so that the fallback stays as it is",
        ),
        Err(error) => {
            Finding::unknown(check, "whether Flink can change the interval of a running job", error)
        }
    }
}
