//! That clones of the job may be made and broken, and what makes that safe: they read, write and commit
//! under names of their own.

use std::ops::Range;
use std::path::{Path, PathBuf};

use khaos_adapters::flink::{KillCommand, Own};
use khaos_control::profile::Patience;
use khaos_core::units::Seconds;
use serde::Deserialize;
use toml::Spanned;

use super::deployment::Deployment;
use super::kafka::KafkaTable;
use super::{Wrong, value, wrong};
use crate::duration::seconds;

/// How clones of the job may be made and broken.
#[derive(Debug, Clone, PartialEq)]
pub struct Profiling {
    /// The most clones at once.
    pub at_once: u32,
    /// The most minutes that all clones of a campaign may take together; as many as the trials need where
    /// not said.
    pub clone_minutes: Option<f64>,
    /// From the start of a replay to the failure, beside one interval.
    pub lead: Seconds,
    /// The longest recovery that is waited for.
    pub recovery: Seconds,
    /// How a TaskManager is killed.
    pub kill: Kill,
}

/// How a TaskManager is killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kill {
    /// By a program and its arguments, in which `{taskmanager}` stands for Flink's id of it.
    Command(Vec<String>),
    /// By a signal: its process is of the lab in this folder.
    Lab(PathBuf),
}

/// The longest name of a topic: Kafka takes 249 characters, and clones' topics have labels before it.
const LONGEST_TOPIC: usize = 150;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProfileTable {
    at_once: Option<Spanned<u32>>,
    clone_minutes: Option<Spanned<f64>>,
    lead: Option<Spanned<String>>,
    recovery: Option<Spanned<String>>,
    kill: Option<Spanned<Vec<Spanned<String>>>>,
    lab: Option<Spanned<PathBuf>>,
    transactions: Option<Spanned<bool>>,
    only_kafka: Option<Spanned<bool>>,
}

/// What stands there, where relative paths count from `folder`. The job is run as `deployment` says, and
/// reads what `kafka` says.
pub(super) fn checked(
    table: Spanned<ProfileTable>,
    deployment: Option<&Deployment>,
    kafka: Option<&KafkaTable>,
    folder: &Path,
) -> Result<Profiling, Wrong> {
    let at = table.span();
    let ProfileTable {
        at_once,
        clone_minutes,
        lead,
        recovery,
        kill,
        lab,
        transactions,
        only_kafka,
    } = table.into_inner();
    if let Some(none) = at_once.as_ref().filter(|n| *n.get_ref() == 0) {
        return wrong(
            none.span(),
            "at_once is 0, so that no clone could be made: set it to 1 or more, or leave \
             [job.profile] out where there is to be none",
        );
    }
    let is_length = |minutes: f64| minutes.is_finite() && minutes > 0.0;
    if let Some(none) = clone_minutes.as_ref().filter(|n| !is_length(*n.get_ref())) {
        return wrong(
            none.span(),
            format!(
                "clone_minutes is {}: set it to more than 0, or leave it out where there is no limit",
                none.get_ref()
            ),
        );
    }
    let usual = Patience::default();
    let lead = value(lead.as_ref(), seconds)?.unwrap_or(usual.lead);
    let recovery = value(recovery.as_ref(), seconds)?.unwrap_or(usual.recovery);
    let kill = killed_by(kill, lab, &at, folder)?;
    let Some(deployment) = deployment else {
        return wrong(
            at,
            "[job.profile] makes clones of the job, and nothing says how it is run: add \
             [job.deployment] with jar and parallelism, and arguments that say what it reads and \
             writes, as in docs/khaos.toml",
        );
    };
    let Some(kafka) = kafka else {
        return wrong(
            at,
            "[job.profile] replays to clones what the job has read, and nothing says what that is: add \
             [job.kafka] with bootstrap and topics",
        );
    };
    reads_what_is_replayed(deployment, kafka)?;
    keeps_to_itself(deployment, transactions)?;
    touches_nothing_else(only_kafka, at)?;
    Ok(Profiling {
        at_once: at_once.map_or(1, Spanned::into_inner),
        clone_minutes: clone_minutes.map(Spanned::into_inner),
        lead,
        recovery,
        kill,
    })
}

/// How a TaskManager is killed, as one of the two keys says.
fn killed_by(
    kill: Option<Spanned<Vec<Spanned<String>>>>,
    lab: Option<Spanned<PathBuf>>,
    at: &Range<usize>,
    folder: &Path,
) -> Result<Kill, Wrong> {
    let command = match (kill, lab) {
        (Some(command), None) => command,
        (None, Some(lab)) => {
            let place = lab.span();
            let lab = folder.join(lab.into_inner());
            if !lab.is_dir() {
                return wrong(
                    place,
                    format!(
                        "there is no folder {}: set lab to the folder of a lab that khaos lab up has \
                         started; a relative path counts from this file's folder",
                        lab.display()
                    ),
                );
            }
            return Ok(Kill::Lab(lab));
        }
        (Some(_), Some(lab)) => {
            return wrong(
                lab.span(),
                "a TaskManager is killed by kill or as one of a lab: leave kill or lab out",
            );
        }
        (None, None) => {
            return wrong(
                at.clone(),
                "[job.profile] does not say how a TaskManager is killed: set kill to a program and its \
                 arguments, as in [\"kubectl\", \"delete\", \"pod\", \"--grace-period=0\", \"--force\", \
                 \"{taskmanager}\"], or lab to the folder of a lab",
            );
        }
    };
    let place = command.span();
    let command: Vec<String> = command.into_inner().into_iter().map(Spanned::into_inner).collect();
    match command.split_first() {
        None => wrong(
            place,
            "kill is empty: give a program and its arguments, {taskmanager} in one of them",
        ),
        Some((program, _)) if program.trim().is_empty() => {
            wrong(place, "the program in kill is empty: give its name or its path")
        }
        Some((_, arguments))
            if !arguments.iter().any(|text| text.contains(KillCommand::TASK_MANAGER)) =>
        {
            wrong(
                place,
                "kill does not say which TaskManager: put {taskmanager} in one of the arguments, where \
             Flink's id of it goes",
            )
        }
        Some(_) => Ok(Kill::Command(command)),
    }
}

/// A clone reads what is replayed to it, and nothing else.
fn reads_what_is_replayed(deployment: &Deployment, kafka: &KafkaTable) -> Result<(), Wrong> {
    if let Some(other) = kafka.other_sources.first() {
        return wrong(
            other.span(),
            format!(
                "the clones of [job.profile] would read '{}' where the job reads it, because only \
                 Kafka's topics can be replayed: leave [job.profile] out for a job with other sources",
                other.get_ref()
            ),
        );
    }
    let topics = kafka.topics.get_ref();
    let inputs = deployment.description.names(Own::Input);
    if let Some(topic) = topics.iter().find(|topic| !inputs.contains(&topic.get_ref().as_str())) {
        let name = topic.get_ref();
        return wrong(
            topic.span(),
            format!(
                "the clones of [job.profile] would read the job's own topic {name}: write {{input:{name}}} where \
                 [job.deployment] names it, in arguments or in [job.deployment.flink]"
            ),
        );
    }
    let known = |name: &str| topics.iter().any(|topic| topic.get_ref() == name);
    if let Some(input) = inputs.iter().find(|input| !known(input)) {
        return wrong(
            deployment.of(Own::Input, input),
            format!(
                "{{input:{input}}} is none of the topics in [job.kafka], so nothing would be replayed \
                 to it: add {input} to topics there, or correct the name"
            ),
        );
    }
    Ok(())
}

/// A clone writes and commits where the job does not.
fn keeps_to_itself(
    deployment: &Deployment,
    transactions: Option<Spanned<bool>>,
) -> Result<(), Wrong> {
    let description = &deployment.description;
    let outputs = description.names(Own::Output);
    if outputs.is_empty() {
        return wrong(
            deployment.at.clone(),
            "the clones of [job.profile] would write where the job writes: write {output:TOPIC} where the topics that it \
             writes are named, in arguments or in [job.deployment.flink]",
        );
    }
    let inputs = description.names(Own::Input);
    if let Some(both) = outputs.iter().find(|output| inputs.contains(output)) {
        return wrong(
            deployment.of(Own::Output, both),
            format!(
                "{both} is {{input:{both}}} too: a clone that writes what it reads cannot be compared \
                 with the job; give input and output topics of their own"
            ),
        );
    }
    let topics = inputs.into_iter().map(|name| (Own::Input, name));
    let mut topics = topics.chain(outputs.into_iter().map(|name| (Own::Output, name)));
    if let Some((own, name)) = topics.find(|(_, name)| name.chars().count() > LONGEST_TOPIC) {
        return wrong(
            deployment.of(own, name),
            format!(
                "the name of a topic has {} characters; clones' topics carry labels before it, which \
                 leaves {LONGEST_TOPIC}: leave [job.profile] out, or give the topic a shorter name",
                name.chars().count()
            ),
        );
    }
    if description.names(Own::Group).is_empty() {
        return wrong(
            deployment.at.clone(),
            "the clones of [job.profile] would commit offsets in the job's own consumer group: write {group:NAME} where it \
             is named, in arguments or in [job.deployment.flink]",
        );
    }
    let prefixes = description.names(Own::Transactions);
    match (transactions.filter(|used| !used.get_ref()), prefixes.first()) {
        (None, None) => wrong(
            deployment.at.clone(),
            "with the job's own transactional ids the clones of [job.profile] would fence the job's producers off, and the \
             job would fail: write {transactions:PREFIX} where their prefix is named, in arguments or \
             in [job.deployment.flink]; or, if its sinks write without Kafka transactions, set \
             transactions = false in [job.profile]",
        ),
        (Some(none), Some(prefix)) => wrong(
            none.span(),
            format!(
                "transactions is false, but [job.deployment] has {{transactions:{prefix}}}: leave one \
                 of them out"
            ),
        ),
        _ => Ok(()),
    }
}

/// What else a job reads and writes nobody can see in its jar: whoever knows it has to say that there is nothing.
fn touches_nothing_else(only_kafka: Option<Spanned<bool>>, at: Range<usize>) -> Result<(), Wrong> {
    let set = "set only_kafka = true in [job.profile] when the job reads nothing but the topics that are \
               {input:...} and writes nowhere but to those that are {output:...}; otherwise leave [job.profile] out";
    match only_kafka {
        None => wrong(
            at,
            format!(
                "[job.profile] does not say whether the job writes to anything else, be it a database, files or a \
                 service; clones would write old events there, and Khaos cannot see it: {set}"
            ),
        ),
        Some(only) if !only.get_ref() => wrong(
            only.span(),
            format!(
                "only_kafka is false: whatever else the job writes to, the clones of [job.profile] would write old \
                 events to it, too: {set}"
            ),
        ),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read;

    /// What is read where `[job.profile]` says `profile`, and main is told of transactions as in `more`.
    fn profile(profile: &str, more: &str) -> Result<Profiling, String> {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[flink]\nurl = \"http://f\"\n[[job]]\nname = \"o\"\nmode = \"observe\"\n\
             [job.kafka]\nbootstrap = \"b:1\"\ntopics = [\"a\", \"b\"]\n\
             [job.deployment]\njar = \"o.jar\"\nparallelism = 1\n\
             arguments = [\"{{input:b}},{{input:a}}\", \"{{output:c}}\", \"{{group:g}}\", \"{more}\"]\n\
             [job.profile]\nonly_kafka = true\n{profile}"
        );
        std::fs::write(folder.path().join("o.jar"), "jar").unwrap();
        std::fs::create_dir(folder.path().join("lab")).unwrap();
        let path = folder.path().join("khaos.toml");
        std::fs::write(&path, text).unwrap();
        let profile = read(&path).map_err(|error| error.to_string())?.job.profile.unwrap();
        if let Kill::Lab(lab) = &profile.kill {
            assert_eq!(*lab, folder.path().join("lab"));
        }
        Ok(profile)
    }

    #[test]
    fn what_is_not_said_is_as_usual() {
        let profile = profile("lab = \"lab\"\n", "{transactions:t}").unwrap();
        assert!(matches!(profile.kill, Kill::Lab(_)));
        assert_eq!((profile.at_once, profile.clone_minutes), (1, None));
        let usual = Patience::default();
        assert_eq!((profile.lead, profile.recovery), (usual.lead, usual.recovery));
    }

    #[test]
    fn a_job_without_transactions_says_so() {
        let none = "kill = [\"kill\", \"id={taskmanager}\"]\nlead = \"2m\"\ntransactions = false\n";
        let read = profile(none, "").unwrap();
        assert_eq!(read.kill, Kill::Command(vec!["kill".into(), "id={taskmanager}".into()]));
        assert_eq!(read.lead, seconds("2m").unwrap());
        let said = profile(&none.replace("false", "true"), "").unwrap_err();
        assert!(said.contains("fence the job's producers off"), "{said}");
        assert!(profile(&none.replace("false", "true"), "{transactions:t}").is_ok());
    }

    #[test]
    fn the_longest_topic_leaves_room_for_labels() {
        let said = |topic: usize| {
            let more = format!("{{transactions:t}}{{output:{}}}", "t".repeat(topic));
            profile("lab = \"lab\"\n", &more)
        };
        assert!(said(LONGEST_TOPIC).is_ok());
        assert!(said(LONGEST_TOPIC + 1).unwrap_err().contains("151 characters"));
    }

    #[test]
    fn minutes_are_a_number_that_a_campaign_can_spend() {
        let minutes = |text: &str| {
            profile(&format!("lab = \"lab\"\nclone_minutes = {text}\n"), "{transactions:t}")
        };
        assert_eq!(minutes("0.5").unwrap().clone_minutes, Some(0.5));
        for text in ["-1", "nan", "inf"] {
            assert!(minutes(text).unwrap_err().contains("more than 0"), "{text}");
        }
    }
}
