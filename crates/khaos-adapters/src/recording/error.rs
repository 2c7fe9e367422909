//! What can go wrong with a recording: one message each, and what to change.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a recording is not written or not read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// A file or folder cannot be used.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Writing failed. The writer is of no use any more.
    #[error(
        "{path}: cannot be written: {source}: what was synced before is safe; mend that (is the disk full?) and resume the recording"
    )]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An earlier write failed.
    #[error("{dir}: an earlier write failed: resume the recording to go on")]
    Failed {
        /// The folder.
        dir: PathBuf,
    },
    /// A recording needs a folder of its own.
    #[error("{dir} is not empty: a recording needs a folder of its own, name another one")]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
    },
    /// There is none.
    #[error("{dir} holds no recording: there is no {} in it", super::manifest::NAME)]
    NoRecording {
        /// The folder.
        dir: PathBuf,
    },
    /// The manifest is damaged.
    #[error("{path}: {why}: the file was changed after it was written")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It was written by a later Khaos.
    #[error(
        "{path}: the recording has version {found}, this Khaos knows up to {}: use a newer Khaos",
        super::manifest::VERSION
    )]
    Newer {
        /// The manifest.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
    /// Somebody writes to it.
    #[error("{dir}: another khaos records into it: end that one, or record into another folder")]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// A file is not what was written.
    #[error("{file}: damaged at byte {at}: {what}")]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where, from 0.
        at: u64,
        /// What is wrong there.
        what: String,
    },
    /// A file is missing between others.
    #[error("{file} is missing: bring it back, what is behind it cannot be read without it")]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// Offsets of a partition only grow.
    #[error(
        "offset {offset} of partition {partition} is not behind what is recorded: {next} or more is next"
    )]
    Backwards {
        /// The partition.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// The smallest that can be taken.
        next: i64,
    },
    /// No topic has it.
    #[error("there is no partition {partition}")]
    NoPartition {
        /// Its number.
        partition: i32,
    },
    /// An event is larger than anything that Kafka takes.
    #[error(
        "the event at offset {offset} of partition {partition} has {bytes} bytes: up to {} can be recorded",
        super::frame::LARGEST
    )]
    TooLarge {
        /// The partition.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// Its size.
        bytes: u64,
    },
    /// Events were asked of a recording that has none.
    #[error(
        "{dir} holds the offsets of topic '{topic}', not its events: they are in the topic itself, as long as it keeps them"
    )]
    OffsetsOnly {
        /// The folder.
        dir: PathBuf,
        /// The topic.
        topic: String,
    },
    /// Offsets were added to a recording of events.
    #[error("{dir} holds events of topic '{topic}': its offsets go into a recording of their own")]
    EventsOnly {
        /// The folder.
        dir: PathBuf,
        /// The topic.
        topic: String,
    },
}

/// Says which file or folder it was.
pub(super) fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, RecordingError> {
    result.map_err(|source| RecordingError::Io { path: path.to_owned(), source })
}

/// Says which file could not be written.
pub(super) fn writing<T>(path: &Path, result: io::Result<T>) -> Result<T, RecordingError> {
    result.map_err(|source| RecordingError::Write { path: path.to_owned(), source })
}

/// `file` is not what was written, at byte `at`.
pub(super) fn damaged(file: &Path, at: u64, what: impl Into<String>) -> RecordingError {
    RecordingError::Damaged { file: file.to_owned(), at, what: what.into() }
}
