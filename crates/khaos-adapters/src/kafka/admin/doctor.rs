//! May transactions of a job's sinks be open for as long as a commit may take?
//!
//! Flink's KafkaSink with exactly-once writes everything between two checkpoints into one transaction. One that is
//! older than its timeout is aborted by Kafka, also when a checkpoint says that all of it was written.

use khaos_control::core::job::EngineJobId;
use khaos_control::core::units::CheckpointInterval;

use super::{Admin, Transaction};
use crate::flink::Flink;
use crate::flink::doctor::{Finding, Restart, UntilCommit, Verdict, exactly};
use crate::kafka::{KafkaError, KafkaSettings};

const CHECK: &str = "transactions";
const SETTING: &str = "transaction.timeout.ms";
/// The most that brokers take where nobody set their transaction.max.timeout.ms, ms.
const BROKERS_MOST_MS: i64 = 900_000;

/// Holds what Kafka knows of the transactional ids with these prefixes against what Flink tells of `job`, which may be
/// given an interval of `redeployed`, too. May take some seconds: all that coordinators wrote is read.
pub async fn examine(
    flink: &Flink,
    job: &EngineJobId,
    settings: &KafkaSettings,
    prefixes: &[&str],
    redeployed: Option<CheckpointInterval>,
) -> Vec<Finding> {
    let until = match flink.until_commit(job, redeployed).await {
        Ok(Some(until)) => until,
        Ok(None) => {
            let seen =
                "the job takes no checkpoints of its own, so that nothing says when it commits";
            return vec![Finding::new(CHECK, Verdict::Unknown, seen)];
        }
        Err(error) => {
            let what = "what the job's transactions have to outlast";
            return vec![Finding::unknown(CHECK, what, &error)];
        }
    };
    let mut findings = Vec::new();
    for prefix in prefixes {
        match known(settings, prefix).await {
            Ok(known) => findings.push(judged(prefix, &known, &until)),
            Err(error) => {
                // Whatever it is, it is the same for the others.
                findings.push(not_read(prefix, &error));
                break;
            }
        }
    }
    findings
}

async fn known(settings: &KafkaSettings, prefix: &str) -> Result<Vec<Transaction>, KafkaError> {
    Admin::at(settings)?.transactions(prefix).await
}

fn not_read(prefix: &str, error: &KafkaError) -> Finding {
    let seen = format!("the timeout of transactions of '{prefix}' could not be read: {error}");
    Finding::new(CHECK, Verdict::Unknown, seen).because(
        "Kafka aborts a transaction that is older than that, and what was written in it is lost",
    )
}

/// Whether `id` is one that Flink's KafkaSink makes of `prefix`: PREFIX-SUBTASK-NUMBER, however it names its
/// transactions. Another job's prefix may begin with this one.
fn is_of(prefix: &str, id: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let rest = id.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-'));
    let parts = rest.and_then(|rest| rest.split_once('-'));
    parts.is_some_and(|(subtask, count)| number(subtask) && number(count))
}

/// What comes of transactions of `prefix`, of all ids that Kafka `known`s to begin with it.
fn judged(prefix: &str, known: &[Transaction], until: &UntilCommit) -> Finding {
    let ids: Vec<&Transaction> = known.iter().filter(|it| is_of(prefix, &it.id)).collect();
    // Ids are known for a week, with the timeout of then: what is open now has that of now.
    let open: Vec<&Transaction> = ids.iter().copied().filter(|it| it.open).collect();
    let (counted, which) = if open.is_empty() {
        (&ids, format!("the shortest of {} ids, none of them open now", ids.len()))
    } else {
        (&open, format!("the shortest of {} open now", open.len()))
    };
    let Some(timeout) = counted.iter().map(|it| it.timeout).min() else {
        return nothing_known(prefix, known.len());
    };
    let timeout_ms = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
    let need_ms = until.ms();
    let seen = format!(
        "Kafka aborts transactions of '{prefix}' after {} ({which}), and until a commit up to {} pass: {}",
        exactly(timeout_ms),
        exactly(need_ms),
        until.in_words()
    );
    let is_short = need_ms > timeout_ms;
    let verdict = if until.told_ms() > timeout_ms {
        Verdict::Problem
    } else if until.told_ms() == need_ms && until.restarts {
        Verdict::Ok
    } else {
        Verdict::Unknown
    };
    let seen = if is_short {
        format!("{seen}. That is too short by {}", exactly(need_ms - timeout_ms))
    } else if until.restarts {
        seen
    } else {
        format!("{seen}, and then the time until somebody starts the job again: nothing else does")
    };
    let finding = Finding::new(CHECK, verdict, seen);
    if is_short { longer(finding, need_ms) } else { finding }
}

/// What to do about a timeout that has to be `need_ms`.
fn longer(finding: Finding, need_ms: i64) -> Finding {
    let brokers = if need_ms > BROKERS_MOST_MS {
        "Brokers take no more than their transaction.max.timeout.ms, which is 15 min by default: raise that first, or \
         lower execution.checkpointing.timeout"
    } else {
        "Brokers take no more than their transaction.max.timeout.ms, 15 min by default"
    };
    finding
        .because(
            "what is aborted is lost, not late: after a restart Flink wants to commit what its checkpoint says was \
             written, and cannot any more",
        )
        .doing(
            Restart::Job,
            format!(
                "give the sink at least this (KafkaSink's builder: setProperty), and more where restoring state takes \
                 longer than a second. {brokers}"
            ),
        )
        .set(Restart::Job, SETTING, need_ms.to_string())
        .costs(
            "what a job that never comes back leaves open holds up readers of committed output for so long",
        )
}

fn nothing_known(prefix: &str, others: usize) -> Finding {
    let others = match others {
        0 => String::new(),
        n => format!(" ({n} begin with '{prefix}', but go on otherwise)"),
    };
    let seen = format!("Kafka knows no transactional id {prefix}-SUBTASK-NUMBER{others}");
    Finding::new(CHECK, Verdict::Unknown, seen)
        .because(
            "either nothing was written in a transaction within the last week, after which Kafka forgets ids, or the \
             sink has another prefix, or it is not exactly-once",
        )
        .doing(
            Restart::None,
            "ask again once the job has written something; if it has, compare {transactions:…} in [job.deployment] with \
             the sink's setTransactionalIdPrefix",
        )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn id(id: &str, timeout_s: f64, open: bool) -> Transaction {
        Transaction { id: id.to_owned(), timeout: Duration::from_secs_f64(timeout_s), open }
    }

    /// 60 + 60 + 52 s.
    fn until(timeout_told: bool, restarts: bool) -> UntilCommit {
        let parts = [
            ("interval", 60_000, true),
            ("checkpoint timeout", 60_000, timeout_told),
            ("restart", 52_000, true),
        ];
        UntilCommit::lasting(&parts, restarts)
    }

    fn found(known: &[Transaction]) -> Finding {
        judged("shop", known, &until(true, true))
    }

    fn set(finding: &Finding) -> Vec<&str> {
        let set = finding.change.iter().flat_map(|change| &change.set);
        set.map(|setting| setting.value.as_str()).collect()
    }

    #[test]
    fn the_boundary_is_the_sum() {
        for (timeout_s, verdict, short) in [
            (900.0, Verdict::Ok, ""),
            (172.0, Verdict::Ok, ""),
            (171.999, Verdict::Problem, "too short by 0.001 s"),
            (60.0, Verdict::Problem, "too short by 112 s"),
        ] {
            let finding = found(&[id("shop-0-7", timeout_s, true)]);
            assert_eq!(finding.verdict, verdict, "{}", finding.seen);
            assert!(finding.seen.contains(short), "{}", finding.seen);
            let sum = "up to 172 s pass: interval 60 s + checkpoint timeout 60 s + restart 52 s";
            assert!(finding.seen.contains(sum), "{}", finding.seen);
            let after = format!("of 'shop' after {timeout_s} s");
            assert!(finding.seen.contains(&after), "{}", finding.seen);
            assert!(!finding.prevents_driving);
            if short.is_empty() {
                assert_eq!(finding.change, None);
                continue;
            }
            assert_eq!(set(&finding), ["172000"]);
            let change = finding.change.unwrap();
            assert_eq!(change.restart, Restart::Job);
            assert!(change.what.unwrap().contains("transaction.max.timeout.ms, 15 min by default"));
            assert!(finding.why.unwrap().contains("lost, not late"));
        }
    }

    /// 840 + 60 + 1 s are a second more than 15 min.
    #[test]
    fn brokers_that_take_no_such_timeout_have_to_be_changed_first() {
        let until_commit = |interval_ms| {
            let parts =
                [("interval", interval_ms, true), ("timeout", 60_000, true), ("", 1_000, true)];
            UntilCommit::lasting(&parts, true)
        };
        let says = |interval_ms| {
            let known = [id("shop-0-7", 60.0, true)];
            judged("shop", &known, &until_commit(interval_ms)).change.unwrap().what.unwrap()
        };
        assert!(says(840_000).contains("raise that first"));
        assert!(!says(839_000).contains("raise that first"));
    }

    #[test]
    fn only_ids_as_flink_makes_them_are_of_a_prefix() {
        for (id, of) in [
            ("a-0-1", true),
            ("a-11-4711", true),
            ("ab-0-1", false),
            ("a-1-0-1", false),
            ("a-0", false),
            ("a-0-", false),
            ("a--1", false),
            ("a-0-x", false),
            ("a-+1-1", false),
            ("a", false),
            ("khaos-clone-1-a-0-1", false),
        ] {
            assert_eq!(is_of("a", id), of, "{id}");
        }
        assert!(is_of("a-1", "a-1-0-1") && is_of("a-0", "a-0-0-1") && !is_of("a-0", "a-0-1"));
    }

    #[test]
    fn the_shortest_of_what_is_open_counts() {
        let told = |known: &[Transaction]| {
            let finding = found(known);
            (finding.verdict, finding.seen)
        };
        let (was, is) = (id("shop-0-7", 60.0, false), id("shop-0-8", 900.0, true));
        let (verdict, seen) = told(&[was.clone(), is.clone()]);
        assert!(verdict == Verdict::Ok && seen.contains("the shortest of 1 open now"), "{seen}");
        let (verdict, seen) = told(&[was.clone(), is.clone(), id("shop-1-8", 90.0, true)]);
        assert!(verdict == Verdict::Problem && seen.contains("too short by 82 s"), "{seen}");
        let (verdict, seen) = told(&[was, Transaction { open: false, ..is.clone() }]);
        assert!(
            verdict == Verdict::Problem && seen.contains("of 2 ids, none of them open"),
            "{seen}"
        );
        // That of another job.
        let (verdict, _) = told(&[is, id("shopper-0-1", 60.0, true)]);
        assert_eq!(verdict, Verdict::Ok);
    }

    #[test]
    fn what_rests_on_a_default_is_not_known() {
        let found = |timeout_s, told, restarts| {
            judged("shop", &[id("shop-0-7", timeout_s, true)], &until(told, restarts))
        };
        let enough = found(900.0, false, true);
        assert_eq!((enough.verdict, &enough.change), (Verdict::Unknown, &None));
        assert!(enough.seen.contains("60 s (Flink's default: "), "{}", enough.seen);
        // Short by Flink's default only: 112 s are told.
        let short = found(112.0, false, true);
        assert_eq!((short.verdict, set(&short)), (Verdict::Unknown, vec!["172000"]));
        // Short whatever the rest is.
        assert_eq!(found(111.0, false, true).verdict, Verdict::Problem);
        let for_good = found(900.0, true, false);
        assert_eq!((for_good.verdict, &for_good.change), (Verdict::Unknown, &None));
        assert!(for_good.seen.contains("until somebody starts the job again"), "{}", for_good.seen);
        assert_eq!(found(60.0, true, false).verdict, Verdict::Problem);
    }

    #[test]
    fn an_id_that_nobody_used_is_not_taken_for_well() {
        let none = found(&[]);
        assert_eq!(none.verdict, Verdict::Unknown);
        assert_eq!(none.seen, "Kafka knows no transactional id shop-SUBTASK-NUMBER");
        let other = found(&[id("shop-sink", 60.0, true)]);
        assert_eq!(other.verdict, Verdict::Unknown);
        assert!(
            other.seen.contains("(1 begin with 'shop', but go on otherwise)"),
            "{}",
            other.seen
        );
    }

    #[test]
    fn a_right_that_is_missing_is_named() {
        let refused = not_read("shop", &KafkaError::topic_refused("Read", "__transaction_state"));
        assert_eq!(refused.verdict, Verdict::Unknown);
        let right = "--operation Read --topic '__transaction_state'";
        assert!(refused.seen.contains(right), "{}", refused.seen);
    }
}
