//! What can go wrong in the lab: one line each, and what to change.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::{Exited, Role};
use crate::kafka::KafkaError;

/// Why the lab does not do what was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LabError {
    /// There is no Java, or it is too old.
    #[error(
        "{found}: the lab needs Java {} or newer, in PATH or where JAVA_HOME says",
        super::install::OLDEST_JAVA
    )]
    Java {
        /// What is there instead.
        found: String,
    },
    /// Something has to be fetched or built, and there is no Maven to do it.
    #[error("no mvn in PATH: Maven (3.6 or newer) is needed once, to get {what}")]
    NoMaven {
        /// What is not in the cache yet.
        what: String,
    },
    /// Maven gave up.
    #[error("Maven could not get {what}: {why}")]
    Maven {
        /// What it was to get.
        what: String,
        /// Its last words.
        why: String,
    },
    /// A port of the lab is in use.
    #[error(
        "port {port} is taken: end what listens there, or choose other ports with --port-base \
         (now {base}, the lab uses up to {base}+81)"
    )]
    PortTaken {
        /// The port.
        port: u16,
        /// What the lab's ports are counted from.
        base: u16,
    },
    /// The ports that follow from this base do not exist or are reserved.
    #[error("--port-base {base} is not usable: choose one from 1024 to 65454")]
    PortBase {
        /// The base.
        base: u16,
    },
    /// No lab has this many.
    #[error("{asked} TaskManagers are not possible: choose 1 to 9, or none beside a broker")]
    TaskManagers {
        /// How many were asked for.
        asked: u8,
    },
    /// This lab was made without it.
    #[error("this lab has no {what}: choose one with {setting} when it is made")]
    Without {
        /// What it has not.
        what: &'static str,
        /// What of `LabConfig` gives it one.
        setting: &'static str,
    },
    /// No TaskManager has none.
    #[error("TaskManagers without slots run nothing: choose 1 or more for each")]
    Slots,
    /// A setting that the lab itself goes by cannot be read.
    #[error("{key}: '{value}' is no length of time, as in 5 s")]
    Setting {
        /// Which.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// There is no room.
    #[error(
        "{path}: {free_mb} MB are free, the lab needs {needed_mb}: make room, or choose another folder with {flag}"
    )]
    Disk {
        /// Where.
        path: PathBuf,
        /// MB that are free.
        free_mb: u64,
        /// MB that are needed.
        needed_mb: u64,
        /// What chooses another place.
        flag: &'static str,
    },
    /// A folder or file cannot be used.
    #[error("{path}: {source}: choose another folder with {flag}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// What chooses another one.
        flag: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// Flink or Java would misread this path.
    #[error(
        "{path}: Java and Flink cannot handle a path with {character:?}: choose another folder with {flag}"
    )]
    Path {
        /// The path.
        path: PathBuf,
        /// What is in it.
        character: char,
        /// What chooses another one.
        flag: &'static str,
    },
    /// The folder holds something that no lab put there.
    #[error("{path} is not empty and no lab made it: choose another folder with --dir")]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// Another khaos runs a lab here.
    #[error(
        "a lab is already up in {path}: end it with `khaos lab down --dir '{path}'`, or choose another folder with --dir"
    )]
    AlreadyUp {
        /// The folder.
        path: PathBuf,
    },
    /// Somebody ended it meanwhile.
    #[error("this lab was taken down by another khaos")]
    TakenDown,
    /// A process of the lab died by itself.
    #[error("{0}")]
    Died(Exited),
    /// A TaskManager dies however often it is started.
    #[error("{starts} starts in a row ended within {within_s} s: {last}")]
    KeepsDying {
        /// How often it was started.
        starts: u32,
        /// What counts as at once, s.
        within_s: u64,
        /// How it ended the last time.
        last: Exited,
    },
    /// The lab was not ready in time.
    #[error(
        "after {waited_s} s the lab is not ready: {missing}; the {role}'s log ends with: {log}"
    )]
    NotReady {
        /// How long it had, s.
        waited_s: u64,
        /// What is missing.
        missing: String,
        /// Where it is missing.
        role: Role,
        /// The last lines of its log that matter.
        log: String,
    },
    /// The lab failed, and its logs are kept.
    #[error("{source} (all logs: {logs})")]
    LogsKept {
        /// Where the logs are.
        logs: PathBuf,
        /// What failed.
        source: Box<LabError>,
    },
    /// A process cannot be started.
    #[error("{program} cannot be started: {source}")]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A process of a lab does not end.
    #[error("process {pid} ({role}) does not end: is it another user's?")]
    StillAlive {
        /// Its pid.
        pid: u32,
        /// What it is.
        role: Role,
    },
    /// Some subtasks would read nothing, and hold up event time for all.
    #[error(
        "job '{job}' has {subtasks} subtasks and its input, topic '{topic}', {partitions} partitions: a subtask \
         without one lets no window end, and nothing would be written: give the job a parallelism of \
         {partitions} at most, or the topic more partitions"
    )]
    FewPartitions {
        /// The job's name.
        job: String,
        /// What it reads.
        topic: String,
        /// Of the topic.
        partitions: i32,
        /// Of each vertex of the job.
        subtasks: u32,
    },
    /// Something with the lab's broker.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// Flink refused a job.
    #[error("Flink does not run job '{job}': {why}")]
    Refused {
        /// The job's name.
        job: String,
        /// Why.
        why: String,
    },
    /// Flink's REST interface does not answer.
    #[error("{url}: {source}")]
    Rest {
        /// What was asked.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
}

/// Says which folder it was, and how to choose another.
pub(super) fn at<T>(
    path: &Path,
    flag: &'static str,
    result: std::io::Result<T>,
) -> Result<T, LabError> {
    result.map_err(|source| LabError::Folder { path: path.to_owned(), flag, source })
}
