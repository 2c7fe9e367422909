//! Writing: events are gathered by partition into frames, which the [`disk`](super::disk) puts into segments.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

use super::disk::{Disk, Segments, Sizes};
use super::error::RecordingError;
use super::folder::{self, Lock};
use super::frame::{self, Filling, NEVER};
use super::offsets::OffsetsLog;
use super::read::{Contents, contents};
use super::segment::{HEADER, Index};
use super::{Cut, Event, Manifest, Stores};

/// Offsets by partition.
type Offsets = BTreeMap<i32, i64>;

/// More partitions than any topic has.
const MOST_PARTITIONS: i32 = 1 << 20;

/// Appends to a recording, and keeps other writers out as long as it lives. What was appended since the
/// last [`Writer::sync`] may be lost when it is dropped, and so is an error of writing it.
#[derive(Debug)]
pub struct Writer {
    dir: PathBuf,
    manifest: Manifest,
    log: Log,
    next_offsets: BTreeMap<i32, i64>,
    /// A write failed: what is on disk is not known any more.
    failed: bool,
    /// The last one, so that it is dropped last: until then the disk's thread may write.
    _lock: Lock,
}

#[derive(Debug)]
enum Log {
    Events(Box<EventLog>),
    Offsets(OffsetsLog),
}

impl Writer {
    /// Begins a recording in `dir`, which is made where it is not there and must be empty.
    pub fn create(dir: &Path, manifest: Manifest) -> Result<Self, RecordingError> {
        folder::make(dir)?;
        let lock = Lock::take(dir)?;
        manifest.write(dir)?;
        let log = match manifest.stores {
            Stores::Events => Log::Events(Box::new(EventLog::begin(dir, manifest.crc()))),
            Stores::Offsets => Log::Offsets(OffsetsLog::open(dir, manifest.crc())?.0),
        };
        let (dir, next_offsets) = (dir.to_owned(), BTreeMap::new());
        Ok(Self { dir, manifest, log, next_offsets, failed: false, _lock: lock })
    }

    /// Goes on with the recording in `dir`. What a crash has left at its end is cut and returned, none of
    /// which was ever synced; so is what is left of an event at the end of a copy that was cut short.
    pub fn resume(dir: &Path) -> Result<(Self, Option<Cut>), RecordingError> {
        let manifest = Manifest::read(dir)?;
        let lock = Lock::take(dir)?;
        let (log, next_offsets, cut) = match manifest.stores {
            Stores::Events => {
                let (log, next_offsets, cut) = EventLog::resume(dir, manifest.crc())?;
                (Log::Events(Box::new(log)), next_offsets, cut)
            }
            Stores::Offsets => {
                let (log, cut) = OffsetsLog::open(dir, manifest.crc())?;
                let next_offsets = log.next_offsets();
                (Log::Offsets(log), next_offsets, cut)
            }
        };
        let dir = dir.to_owned();
        Ok((Self { dir, manifest, log, next_offsets, failed: false, _lock: lock }, cut))
    }

    /// What the recording is of.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The offset after the last event of each partition that was appended, synced or not. Partitions of
    /// which there is none are not in it.
    pub fn next_offsets(&self) -> &BTreeMap<i32, i64> {
        &self.next_offsets
    }

    /// Appends an event. It waits in memory until its frame is full, 1,024 events or 1 MiB, or until
    /// [`Writer::sync`]. Offsets of a partition must grow; there may be gaps. An error of writing may be
    /// one of an event before.
    pub fn append(&mut self, event: &Event<'_>) -> Result<(), RecordingError> {
        let Log::Events(log) = &mut self.log else {
            let (dir, topic) = (self.dir.clone(), self.manifest.topic.clone());
            return Err(RecordingError::OffsetsOnly { dir, topic });
        };
        if self.failed {
            return Err(RecordingError::Failed { dir: self.dir.clone() });
        }
        let (partition, offset) = (event.partition, event.offset);
        if !(0..MOST_PARTITIONS).contains(&partition) {
            return Err(RecordingError::NoPartition { partition });
        }
        let bytes = frame::size(event);
        if bytes > frame::LARGEST {
            return Err(RecordingError::TooLarge { partition, offset, bytes });
        }
        let next = self.next_offsets.get(&partition).copied().unwrap_or(0);
        if offset < next || offset == i64::MAX {
            return Err(RecordingError::Backwards { partition, offset, next });
        }
        let added = log.append(event, bytes);
        if added.is_ok() {
            self.next_offsets.insert(partition, offset + 1);
        }
        self.failed = added.is_err();
        added
    }

    /// Appends a look at the topic: where its partitions ended at `at_ms`, epoch ms. Only where offsets
    /// are recorded. Ends never go back.
    pub fn append_ends(
        &mut self,
        at_ms: i64,
        ends: &BTreeMap<i32, i64>,
    ) -> Result<(), RecordingError> {
        let Log::Offsets(log) = &mut self.log else {
            let (dir, topic) = (self.dir.clone(), self.manifest.topic.clone());
            return Err(RecordingError::EventsOnly { dir, topic });
        };
        if self.failed {
            return Err(RecordingError::Failed { dir: self.dir.clone() });
        }
        log.add(at_ms, ends)?;
        self.next_offsets.extend(ends);
        Ok(())
    }

    /// Brings everything that was appended to disk. The offset after the last event of each partition:
    /// these may be committed now.
    pub fn sync(&mut self) -> Result<BTreeMap<i32, i64>, RecordingError> {
        let (tell, told) = channel();
        // Whoever asked waits for it below.
        self.sync_then(move |offsets| drop(tell.send(offsets)))?;
        told.recv().map_err(|_| {
            self.failed = true;
            match &mut self.log {
                Log::Events(log) => log.disk.failure(),
                Log::Offsets(_) => RecordingError::Failed { dir: self.dir.clone() },
            }
        })
    }

    /// Has everything that was appended so far brought to disk beside what comes next, then `done` called with
    /// what [`Writer::sync`] returns, by the thread that writes. Where that fails `done` is not called, and a
    /// later call that reaches the disk returns the error, as this one does with an earlier one. Offsets alone
    /// are brought to disk at once.
    pub fn sync_then(
        &mut self,
        done: impl FnOnce(BTreeMap<i32, i64>) + Send + 'static,
    ) -> Result<(), RecordingError> {
        if self.failed {
            return Err(RecordingError::Failed { dir: self.dir.clone() });
        }
        let offsets = self.next_offsets.clone();
        let told = match &mut self.log {
            Log::Events(log) => log.sync_then(move || done(offsets)),
            Log::Offsets(log) => log.sync().map(|()| done(offsets)),
        };
        self.failed = told.is_err();
        told
    }

    /// What is in files, bytes.
    pub fn bytes(&self) -> u64 {
        match &self.log {
            Log::Events(log) => log.bytes(),
            Log::Offsets(log) => log.bytes().0,
        }
    }

    /// No more would be in files if the recording were finished now, bytes.
    pub fn bytes_at_most(&self) -> u64 {
        match &self.log {
            Log::Events(log) => log.bytes_at_most(),
            Log::Offsets(log) => log.bytes().0 + log.bytes().1,
        }
    }

    /// Events that were appended, in all lives of the recording. Where only offsets are recorded, those
    /// that arrived between the first look and the last.
    pub fn events(&self) -> u64 {
        match &self.log {
            Log::Events(log) => log.events,
            Log::Offsets(log) => log.events(),
        }
    }

    /// Brings everything to disk and ends the newest segment with its index. The recording can still be
    /// resumed.
    pub fn finish(mut self) -> Result<(), RecordingError> {
        self.sync()?;
        match &mut self.log {
            Log::Events(log) => log.disk.seal(),
            Log::Offsets(_) => Ok(()),
        }
    }
}

/// Frames that are being filled, in front of the disk.
#[derive(Debug)]
struct EventLog {
    /// By partition.
    filling: Vec<Filling>,
    events: u64,
    /// More than the frames that are being filled will take, bytes.
    waiting: u64,
    disk: Disk,
}

impl EventLog {
    fn begin(dir: &Path, manifest_crc: u32) -> Self {
        Self::in_front_of(Segments::none(dir, manifest_crc))
    }

    fn in_front_of(segments: Segments) -> Self {
        Self { filling: Vec::new(), events: 0, waiting: 0, disk: Disk::behind(segments) }
    }

    fn resume(
        dir: &Path,
        manifest_crc: u32,
    ) -> Result<(Self, Offsets, Option<Cut>), RecordingError> {
        let mut newest = None;
        let mut sealed = 0;
        let mut contents: Contents = contents(dir, manifest_crc, |segment| {
            if segment.sealed {
                sealed += segment.bytes;
            } else {
                newest = Some(segment);
            }
        })?;
        let number = contents.segments;
        let segments = Segments::reopen(dir, manifest_crc, number, sealed, newest.as_ref())?;
        let mut log = Self::in_front_of(segments);
        log.events = contents.events;
        let mut next_offsets = BTreeMap::new();
        for (partition, of) in &contents.partitions {
            next_offsets.insert(*partition, of.told.next_offset);
            *log.filling(*partition) = Filling::after(of.latest_ms);
        }
        Ok((log, next_offsets, contents.torn.take()))
    }

    fn filling(&mut self, partition: i32) -> &mut Filling {
        let place = partition as usize;
        if self.filling.len() <= place {
            self.filling.resize_with(place + 1, || Filling::after(NEVER));
        }
        &mut self.filling[place]
    }

    fn append(&mut self, event: &Event<'_>, bytes: u64) -> Result<(), RecordingError> {
        if !self.filling(event.partition).has_room(bytes) {
            self.flush(event.partition, Vec::new())?;
        }
        let filling = self.filling(event.partition);
        let before = filling.at_most();
        filling.add(event);
        let (now, full) = (filling.at_most(), filling.is_full());
        self.waiting += now - before;
        self.events += 1;
        if full { self.flush(event.partition, self.disk.spare()) } else { Ok(()) }
    }

    /// Has the frame of `partition` written as it is, and begins the next one in `memory`. Only a full frame is
    /// followed by memory that was full once: a hundred partitions that are never full would keep as much of it.
    fn flush(&mut self, partition: i32, memory: Vec<u8>) -> Result<(), RecordingError> {
        let full = self.filling[partition as usize].hand_over(memory);
        self.waiting -= full.at_most();
        self.disk.write(partition, full)
    }

    fn sync_then(&mut self, done: impl FnOnce() + Send + 'static) -> Result<(), RecordingError> {
        for partition in 0..self.filling.len() {
            if !self.filling[partition].is_empty() {
                self.flush(partition as i32, Vec::new())?;
            }
        }
        self.disk.sync_then(done)
    }

    fn bytes(&self) -> u64 {
        self.disk.sizes().written
    }

    fn bytes_at_most(&self) -> u64 {
        let Sizes { written, footer, waiting } = self.disk.sizes();
        // Frames that wait may fill a segment and begin another.
        written + waiting + self.waiting + footer + Index::new().len() + HEADER
    }
}
