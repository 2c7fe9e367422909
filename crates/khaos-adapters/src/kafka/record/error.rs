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
    /// A header that cannot be read.
    #[error(
        "the event at offset {offset} of partition {partition} has a header whose name is not UTF-8, which \
         cannot be recorded: what comes after it can be, into another folder (--out) with --from {after_ms}"
    )]
    HeaderName {
        /// Of the event's partition.
        partition: i32,
        /// Its offset there.
        offset: i64,
        /// The moment after its timestamp, epoch ms.
        after_ms: i64,
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
