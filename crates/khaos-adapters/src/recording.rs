//! A recording: the events of a topic, or only its offsets, in a folder. No Kafka in it.
//!
//! ```text
//! manifest.json            what it is of, written once
//! khaos-recording.lock     locked by whoever writes
//! 00000000.segment …       frames of events, then an index of them
//! offsets.log              instead of segments, where only offsets are recorded
//! ```
//! The bytes, and why they are so, are in `docs/recording.md`. What [`Writer::sync`] returned is on disk.
//! A crash leaves a torn tail in the newest file at most, which [`Writer::resume`] cuts and reports;
//! damage anywhere else is an error that names file and byte, and never wrong events.

mod disk;
mod error;
mod events;
mod folder;
mod frame;
mod manifest;
mod offsets;
mod read;
mod segment;
#[cfg(test)]
mod tests;
mod varint;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

pub use error::RecordingError;
pub use events::Events;
pub use manifest::{Manifest, Stores, TimestampKind};
pub use read::Recording;
pub use write::Writer;

/// One event, borrowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    /// The partition that it is in, from 0.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Kafka's timestamp of the record, epoch ms; −1 where it has none.
    pub timestamp_ms: i64,
    /// Its key. An empty one is not the same as none.
    pub key: Option<&'a [u8]>,
    /// Its value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers in their order; names may repeat.
    pub headers: Vec<Header<'a>>,
}

/// A header of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its value.
    pub value: Option<&'a [u8]>,
}

/// What a recording holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Events; where only offsets are recorded, those that arrived between the first and the last look.
    pub events: u64,
    /// Size of what can be read, bytes.
    pub bytes: u64,
    /// The earliest and the latest timestamp, epoch ms; `None` where there is no event.
    pub span_ms: Option<(i64, i64)>,
    /// Partitions of which something is recorded.
    pub partitions: BTreeMap<i32, PartitionSummary>,
    /// What is behind the last whole event: a crash leaves that, or a copy that was cut short. Also what is
    /// being written right now.
    pub torn: Option<Cut>,
}

/// What a recording holds of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionSummary {
    /// Offset of the first event.
    pub first_offset: i64,
    /// Offset after the last event.
    pub next_offset: i64,
    /// Events between; less than the difference where compaction or transactions left gaps.
    pub events: u64,
}

/// Everything was read, and every check held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// As in [`Summary`].
    pub events: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// As in [`Summary`].
    pub torn: Option<Cut>,
}

/// Bytes at the end of a file that are no whole frame or line: what a crash left, or a copy that was cut
/// short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Of which file.
    pub file: PathBuf,
    /// From which byte on.
    pub at: u64,
    /// How many.
    pub bytes: u64,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, at, bytes } = self;
        write!(f, "{}: {bytes} bytes from byte {at} on are no whole event", file.display())
    }
}
