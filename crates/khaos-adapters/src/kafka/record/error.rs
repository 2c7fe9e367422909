//! Why a topic is not recorded.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::kafka::KafkaError;
use crate::recording::RecordingError;

/// Why a recording does not begin, or ended before it was asked to. What was on disk stays there.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Something with Kafka.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// Something with the folder, or its disk.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// The journal beside the segments.
    #[error("{}: {why}: the recording cannot go on here; what it holds can still be replayed", path.display())]
    Journal {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        why: io::Error,
    },
    /// The folder holds something else.
    #[error("{} is a recording of {has}, not of {asked}: give another folder with --out", folder.display())]
    OfSomethingElse {
        /// Which folder.
        folder: PathBuf,
        /// What it is of.
        has: String,
        /// What was to be recorded.
        asked: String,
    },
    /// The log is shorter than what was read of it.
    #[error(
        "partition {partition} of topic '{topic}' ends at offset {end}, but the recording goes on at \
         {next}: the topic was made anew, or its log was truncated: begin another recording"
    )]
    Replaced {
        /// Which topic.
        topic: String,
        /// Which partition.
        partition: i32,
        /// Where its log ends.
        end: i64,
        /// What would have come next.
        next: i64,
    },
}
