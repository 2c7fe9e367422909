//! Can the load be read: does Kafka say where the logs end, and do the job's sources say what they have read?

use std::collections::BTreeMap;

use khaos_control::core::job::EngineJobId;
use tokio::sync::oneshot;

use super::{Reads, in_metrics, misfits};
use crate::flink::doctor::{Finding, Restart};
use crate::flink::{Flink, Reported};
use crate::kafka::{Cluster, KafkaError, KafkaSettings, Offsets};

/// Where the logs of topics end, or why that is not told.
type Ends = BTreeMap<String, Result<Offsets, KafkaError>>;

/// Asks Kafka and, where there is a job, its sources. Each may take some seconds.
pub async fn examine(
    flink: &Flink,
    job: Option<&EngineJobId>,
    settings: &KafkaSettings,
    reads: &Reads,
) -> Vec<Finding> {
    let (tell, told) = oneshot::channel();
    let (asked, topics) = (settings.clone(), reads.topics.clone());
    // A thread: the client waits for its answers.
    std::thread::spawn(move || tell.send(ask(&asked, &topics)));
    let ends = match told.await {
        Ok(Ok(ends)) => ends,
        Ok(Err(error)) => return vec![logs_unknown(&error.to_string())],
        Err(_) => return vec![logs_unknown("the question had no end")],
    };
    let mut findings = vec![logs(settings.bootstrap(), &ends)];
    if let Some(job) = job {
        findings.push(match flink.sources_now(job).await {
            Ok((sources, reported)) => positions(reads, &ends, &sources, &reported),
            Err(error) => Finding::unknown(POSITIONS, "what the job's sources have read", &error),
        });
    }
    findings
}

fn ask(settings: &KafkaSettings, topics: &[String]) -> Result<Ends, KafkaError> {
    let cluster = Cluster::uncommitted(settings)?;
    let mut ends = Ends::new();
    for topic in topics {
        let told = cluster.ends(topic);
        let nobody_is_there = matches!(told, Err(KafkaError::NoAnswer { .. }));
        ends.insert(topic.clone(), told);
        if nobody_is_there {
            break;
        }
    }
    Ok(ends)
}

const LOGS: &str = "kafka";
const POSITIONS: &str = "positions";

fn logs(bootstrap: &str, ends: &Ends) -> Finding {
    let wrong: Vec<String> =
        ends.values().filter_map(|ends| Some(ends.as_ref().err()?.to_string())).collect();
    if !wrong.is_empty() {
        return logs_unknown(&wrong.join("; "));
    }
    let partitions = ends.iter().map(|(topic, ends)| {
        format!("{topic} (partitions: {})", ends.as_ref().map_or(0, BTreeMap::len))
    });
    let topics: Vec<String> = partitions.collect();
    Finding::ok(LOGS, format!("{bootstrap} tells where the logs end: {}", topics.join(", ")))
}

fn logs_unknown(why: &str) -> Finding {
    Finding::problem(LOGS, why).because(
        "what arrives stays unknown, so that Khaos would hold the interval and choose none",
    )
}

fn positions(reads: &Reads, ends: &Ends, sources: &[String], reported: &Reported) -> Finding {
    let because =
        "what waits stays unknown, so that no recovery is seen: Khaos would hold the interval";
    if reported.is_empty() {
        let seen = "no source of the job reports what it has read of a topic (currentOffset)";
        return Finding::problem(POSITIONS, seen).because(because).doing(
            Restart::Job,
            "read with Flink's KafkaSource, which does; a job that began just now does within a minute",
        );
    }
    let readers = reported.keys().cloned().collect();
    let misfits = misfits(reads, sources.iter().map(String::as_str), &readers);
    if !misfits.is_empty() {
        return Finding::problem(POSITIONS, misfits.join("; ")).because(because);
    }
    let silent: Vec<String> =
        ends.iter().flat_map(|(topic, ends)| of_topic(topic, ends, reported)).collect();
    if !silent.is_empty() {
        return Finding::advice(POSITIONS, silent.join("; "))
            .because(
                "what waits in all of them together stays unknown until each of them is reported, which \
                 is with the first event that a source reads there after its start",
            )
            .doing(Restart::None, "ask again once events have arrived in them");
    }
    let told = reported.iter().map(|((source, topic), partitions)| {
        format!("{source} reports what it has read of {topic} (partitions: {})", partitions.len())
    });
    Finding::ok(POSITIONS, told.collect::<Vec<_>>().join("; "))
}

/// The partitions of `topic` that hold something of which a source that reads it has not reported to have read it.
fn of_topic(topic: &str, ends: &Result<Offsets, KafkaError>, reported: &Reported) -> Vec<String> {
    let Ok(ends) = ends else { return Vec::new() };
    let written = in_metrics(topic);
    let readers = reported.iter().filter(|((_, of), _)| **of == *written);
    let of_reader = readers.filter_map(|((source, _), last)| {
        let is_silent = |number: &i32| last.get(number).is_none_or(|last| *last < 0);
        let silent = ends.iter().filter(|(number, end)| **end > 0 && is_silent(number));
        let silent: Vec<String> = silent.map(|(number, _)| number.to_string()).collect();
        (!silent.is_empty()).then(|| {
            format!(
                "{source} has not read of {topic} since it started: partitions {}",
                silent.join(", ")
            )
        })
    });
    of_reader.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flink::doctor::Verdict;

    fn reads() -> Reads {
        Reads { topics: vec!["a.b".to_owned()], other_sources: Vec::new() }
    }

    fn ends() -> Ends {
        [("a.b".to_owned(), Ok([(0, 10), (1, 0), (2, 7)].into()))].into()
    }

    /// What Source__events reports of the partitions of a topic.
    fn reported(topic: &str, last: &[(i32, i64)]) -> Reported {
        [(("Source__events".into(), topic.into()), last.iter().copied().collect())].into()
    }

    fn found(reported: &Reported) -> Finding {
        positions(&reads(), &ends(), &["Source__events".to_owned()], reported)
    }

    #[test]
    fn every_partition_that_holds_something_has_to_be_reported() {
        let all = found(&reported("a_b", &[(0, 9), (1, -1), (2, 3)]));
        assert_eq!((all.verdict, all.change), (Verdict::Ok, None), "{}", all.seen);
        for (last, silent) in [
            (vec![(0, 9), (1, -1), (2, -1)], "partitions 2"),
            (vec![(0, -1), (1, -1)], "partitions 0, 2"),
        ] {
            let some = found(&reported("a_b", &last));
            assert_eq!(some.verdict, Verdict::Advice);
            assert!(some.seen.ends_with(silent), "{}", some.seen);
        }
    }

    #[test]
    fn a_job_that_reports_nothing_or_reads_something_else_is_a_problem() {
        let nothing = found(&Reported::new());
        assert_eq!(nothing.verdict, Verdict::Problem);
        assert!(nothing.change.unwrap().what.unwrap().contains("KafkaSource"));
        let another = found(&reported("c", &[(0, 9)]));
        assert_eq!(another.verdict, Verdict::Problem);
        assert!(another.seen.contains("topics"), "{}", another.seen);
    }

    #[test]
    fn a_topic_that_is_not_told_is_a_problem_with_its_reason() {
        let well = logs("b:1", &ends());
        assert_eq!(well.verdict, Verdict::Ok);
        assert!(well.seen.contains("a.b (partitions: 3)"), "{}", well.seen);
        let mut ends = ends();
        ends.insert("c".to_owned(), Err(KafkaError::topic_refused("Describe", "c")));
        let ill = logs("b:1", &ends);
        assert_eq!(ill.verdict, Verdict::Problem);
        assert!(ill.seen.contains("topic 'c'"), "{}", ill.seen);
    }
}
