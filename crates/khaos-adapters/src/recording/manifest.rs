//! `manifest.json`: what a recording is of.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::{RecordingError, at, writing};
use super::folder::sync_dir;

pub(super) const NAME: &str = "manifest.json";
/// Version of the format that this code writes.
pub(super) const VERSION: u64 = 1;
/// The manifest before it is renamed.
pub(super) const DRAFT: &str = "manifest.json.part";

/// What a recording is of: written once, when it is created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The topic.
    pub topic: String,
    /// How many partitions it had when the recording began. It may have got more since.
    pub partitions: i32,
    /// What its timestamps are. Of a topic whose events were not read, Kafka's usual ones.
    pub timestamps: TimestampKind,
    /// What is stored.
    pub stores: Stores,
}

/// What the timestamps of a topic are (`message.timestamp.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimestampKind {
    /// What the producer says, in whatever order.
    Create,
    /// When the broker appended the event.
    LogAppend,
}

/// What is stored of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stores {
    /// Its events.
    Events,
    /// How far it was, second by second: the events stay where they are.
    Offsets,
}

#[derive(Serialize, Deserialize)]
struct OnDisk {
    version: u64,
    #[serde(flatten)]
    manifest: Manifest,
    /// CRC-32 of the manifest as compact JSON, hexadecimal.
    crc32: String,
}

impl Manifest {
    /// Has a recording begun in `dir`? What was killed before leaves no manifest.
    pub fn is_in(dir: &Path) -> bool {
        dir.join(NAME).exists()
    }

    /// CRC-32 of everything that it says: every file of the recording has it, too.
    pub(super) fn crc(&self) -> u32 {
        crc32fast::hash(&serde_json::to_vec(self).expect("a manifest is plain data"))
    }

    pub(super) fn write(&self, dir: &Path) -> Result<(), RecordingError> {
        let (path, draft) = (dir.join(NAME), dir.join(DRAFT));
        let crc32 = format!("{:08x}", self.crc());
        let on_disk = OnDisk { version: VERSION, manifest: self.clone(), crc32 };
        let text = serde_json::to_string_pretty(&on_disk).expect("a manifest is plain data");
        writing(&draft, fs::write(&draft, text + "\n"))?;
        writing(&draft, fs::File::open(&draft).and_then(|file| file.sync_all()))?;
        writing(&path, fs::rename(&draft, &path))?;
        sync_dir(dir)
    }

    pub(super) fn read(dir: &Path) -> Result<Self, RecordingError> {
        let path = dir.join(NAME);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(RecordingError::NoRecording { dir: dir.to_owned() });
            }
            read => at(&path, read)?,
        };
        let wrong = |why: String| RecordingError::Manifest { path: path.clone(), why };
        let value: Value =
            serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        match value["version"].as_u64() {
            Some(VERSION) => {}
            Some(found) if found > VERSION => return Err(RecordingError::Newer { path, found }),
            _ => return Err(wrong("it has no version that there is".to_owned())),
        }
        let on_disk: OnDisk =
            serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
        let crc32 = format!("{:08x}", on_disk.manifest.crc());
        if on_disk.crc32 != crc32 {
            return Err(wrong(format!("its crc32 is {}, not {crc32}", on_disk.crc32)));
        }
        Ok(on_disk.manifest)
    }
}
