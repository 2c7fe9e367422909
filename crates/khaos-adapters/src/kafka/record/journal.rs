//! What a recorder has to remember beside the events: where partitions began, and what retention took
//! before it was read. One line a fact, each on disk before anything rests on it.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::RecordError;
use crate::kafka::Offsets;

/// The journal's name in the folder of a recording.
pub(super) const NAME: &str = "recorder.jsonl";

/// Something that the events do not tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fact {
    /// From which offsets partitions are recorded.
    From(Offsets),
    /// Retention was faster.
    Gap(Gap),
}

/// Offsets that the broker deleted before they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Of which partition.
    pub partition: i32,
    /// The first offset that would have come next.
    pub from: i64,
    /// The first that is still there.
    pub to: i64,
    /// When that was noticed, epoch ms.
    pub at_ms: i64,
}

/// The journal of one recording, open for more.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens the journal in `folder`, makes one where there is none, and reads it. A line that a crash
    /// cut off is dropped: nothing rests on it yet.
    pub(super) fn open(folder: &Path) -> Result<(Self, Vec<Fact>), RecordError> {
        let path = folder.join(NAME);
        let failed = |why: io::Error| RecordError::Journal { path: path.clone(), why };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        let text = std::fs::read(&path).map_err(failed)?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let facts = text[..whole]
            .split_inclusive(|byte| *byte == b'\n')
            .map(fact)
            .collect::<Option<Vec<Fact>>>()
            .ok_or_else(|| failed(io::Error::from(io::ErrorKind::InvalidData)))?;
        file.set_len(whole as u64).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        // The name of a new file is on disk with its folder.
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok((Self { path, file }, facts))
    }

    /// Adds a fact. It is on disk when this returns.
    pub(super) fn add(&mut self, fact: &Fact) -> Result<(), RecordError> {
        let json = serde_json::to_string(fact).map_err(io::Error::from);
        json.and_then(|json| {
            let line = format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()));
            self.file.write_all(line.as_bytes())?;
            self.file.sync_data()
        })
        .map_err(|why| RecordError::Journal { path: self.path.clone(), why })
    }
}

/// A line, its checksum first.
fn fact(line: &[u8]) -> Option<Fact> {
    let (crc, json) = std::str::from_utf8(line).ok()?.trim_end().split_once(' ')?;
    let right = u32::from_str_radix(crc, 16).ok()? == crc32fast::hash(json.as_bytes());
    right.then(|| serde_json::from_str(json).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Vec<Fact> {
        vec![
            Fact::From([(0, 12), (1, 0)].into()),
            Fact::Gap(Gap { partition: 1, from: 3, to: 9, at_ms: 1_764_054_000_123 }),
        ]
    }

    #[test]
    fn facts_are_there_again_whatever_was_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, none) = Journal::open(folder.path()).unwrap();
        assert_eq!(none, []);
        for fact in facts() {
            journal.add(&fact).unwrap();
        }
        let path = folder.path().join(NAME);
        let whole = std::fs::read(&path).unwrap();
        let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let kept = usize::from(length >= first) + usize::from(length == whole.len());
            let (mut journal, read) = Journal::open(folder.path()).unwrap();
            assert_eq!(read, facts()[..kept], "{length} bytes");
            journal.add(&facts()[0]).unwrap();
            let (_, read) = Journal::open(folder.path()).unwrap();
            assert_eq!(read.len(), kept + 1, "{length} bytes");
        }
    }

    #[test]
    fn a_flipped_bit_is_noticed_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(folder.path()).unwrap();
        for fact in facts() {
            journal.add(&fact).unwrap();
        }
        let path = folder.path().join(NAME);
        let whole = std::fs::read(&path).unwrap();
        // The last line end may go: it is what a crash leaves.
        for at in 0..whole.len() - 1 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            std::fs::write(&path, &flipped).unwrap();
            let error = Journal::open(folder.path()).unwrap_err().to_string();
            assert!(error.contains(NAME), "{error}");
        }
    }
}
