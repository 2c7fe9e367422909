//! Writing: events are gathered by partition into frames, frames into segments.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use zstd::bulk::Compressor;

use super::error::{RecordingError, at, writing};
use super::folder::{self, Lock, sync_dir};
use super::frame::{self, Filling, NEVER, Out};
use super::offsets::OffsetsLog;
use super::read::{Contents, contents};
use super::segment::{self, HEADER, Index, Segment};
use super::{Cut, Event, Manifest, Stores};

/// Offsets by partition.
type Offsets = BTreeMap<i32, i64>;

/// More partitions than any topic has.
const MOST_PARTITIONS: i32 = 1 << 20;

/// Appends to a recording, and keeps other writers out as long as it lives. What was appended since the
/// last [`Writer::sync`] is lost when it is dropped.
#[derive(Debug)]
pub struct Writer {
    dir: PathBuf,
    manifest: Manifest,
    log: Log,
    next_offsets: BTreeMap<i32, i64>,
    /// A write failed: what is on disk is not known any more.
    failed: bool,
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
    /// [`Writer::sync`]. Offsets of a partition must grow; there may be gaps.
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
        if self.failed {
            return Err(RecordingError::Failed { dir: self.dir.clone() });
        }
        let synced = match &mut self.log {
            Log::Events(log) => log.sync(),
            Log::Offsets(log) => log.sync(),
        };
        self.failed = synced.is_err();
        synced.map(|()| self.next_offsets.clone())
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
            Log::Events(log) => log.seal(),
            Log::Offsets(_) => Ok(()),
        }
    }
}

/// The segments of a recording, the newest open for more.
struct EventLog {
    dir: PathBuf,
    manifest_crc: u32,
    /// The frame that is being filled, by partition.
    filling: Vec<Filling>,
    newest: Option<Newest>,
    /// Number of the segment after the newest.
    number: u32,
    /// Bytes in segments that are sealed.
    sealed: u64,
    events: u64,
    /// More than the frames that are being filled will take, bytes.
    waiting: u64,
    compressor: Compressor<'static>,
    out: Out,
}

/// A segment that frames are added to.
#[derive(Debug)]
struct Newest {
    path: PathBuf,
    file: File,
    number: u32,
    /// Its length.
    position: u64,
    /// So much of it is on disk.
    synced: u64,
    index: Index,
}

impl fmt::Debug for EventLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLog").field("newest", &self.newest).finish_non_exhaustive()
    }
}

impl EventLog {
    fn begin(dir: &Path, manifest_crc: u32) -> Self {
        Self {
            dir: dir.to_owned(),
            manifest_crc,
            filling: Vec::new(),
            newest: None,
            number: 0,
            sealed: 0,
            events: 0,
            waiting: 0,
            compressor: frame::compressor(),
            out: Out::default(),
        }
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
        let mut log = Self::begin(dir, manifest_crc);
        (log.number, log.sealed, log.events) = (contents.segments, sealed, contents.events);
        if let Some(segment) = newest {
            log.newest = Some(Newest::reopen(dir, log.number - 1, manifest_crc, &segment)?);
        }
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
            self.flush(event.partition)?;
        }
        let filling = self.filling(event.partition);
        let before = filling.at_most();
        filling.add(event);
        let (now, full) = (filling.at_most(), filling.is_full());
        self.waiting += now - before;
        self.events += 1;
        if full { self.flush(event.partition) } else { Ok(()) }
    }

    /// Writes the frame of `partition` as it is.
    fn flush(&mut self, partition: i32) -> Result<(), RecordingError> {
        let newest = match &mut self.newest {
            Some(newest) => newest,
            none => {
                let begun = Newest::begin(&self.dir, self.number, self.manifest_crc)?;
                self.number += 1;
                none.insert(begun)
            }
        };
        let filling = &mut self.filling[partition as usize];
        self.waiting -= filling.at_most();
        let place = (newest.number, newest.position, newest.synced);
        let closed = filling.close(&mut self.compressor, place, partition, &mut self.out);
        let header = writing(&newest.path, closed)?;
        writing(&newest.path, newest.file.write_all(self.out.bytes()))?;
        newest.position += header.len();
        newest.index.add(&self.out.bytes()[..header.head_len as usize]);
        if newest.position >= segment::FULL { self.seal() } else { Ok(()) }
    }

    fn sync(&mut self) -> Result<(), RecordingError> {
        for partition in 0..self.filling.len() {
            if !self.filling[partition].is_empty() {
                self.flush(partition as i32)?;
            }
        }
        match &mut self.newest {
            Some(newest) if newest.synced < newest.position => {
                writing(&newest.path, newest.file.sync_data())?;
                newest.synced = newest.position;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Ends the newest segment with its index. The next frame begins another.
    fn seal(&mut self) -> Result<(), RecordingError> {
        let Some(mut newest) = self.newest.take() else { return Ok(()) };
        // The frames first: an index is never on disk without them.
        writing(&newest.path, newest.file.sync_data())?;
        let footer = newest.index.footer(newest.number);
        let written = newest.file.write_all(&footer).and_then(|()| newest.file.sync_data());
        writing(&newest.path, written)?;
        self.sealed += newest.position + footer.len() as u64;
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.sealed + self.newest.as_ref().map_or(0, |newest| newest.position)
    }

    fn bytes_at_most(&self) -> u64 {
        // Frames that wait may fill a segment and begin another.
        let ends = self.newest.as_ref().map_or(HEADER, |newest| newest.index.len());
        self.bytes() + self.waiting + ends + Index::new().len() + HEADER
    }
}

impl Newest {
    fn begin(dir: &Path, number: u32, manifest_crc: u32) -> Result<Self, RecordingError> {
        let path = folder::segment(dir, number);
        let file = OpenOptions::new().append(true).create_new(true).open(&path);
        let mut file = writing(&path, file)?;
        write_header(&path, &mut file, number, manifest_crc)?;
        sync_dir(dir)?;
        Ok(Self { path, file, number, position: HEADER, synced: HEADER, index: Index::new() })
    }

    /// Cuts what is torn, and goes on behind it.
    fn reopen(
        dir: &Path,
        number: u32,
        manifest_crc: u32,
        found: &Segment,
    ) -> Result<Self, RecordingError> {
        let path = folder::segment(dir, number);
        let mut file = at(&path, OpenOptions::new().read(true).append(true).open(&path))?;
        let mut index = Index::new();
        let heads = found.frames.iter().try_for_each(|frame| {
            index.add(&frame.read_head(&file)?);
            Ok(())
        });
        at(&path, heads)?;
        writing(&path, file.set_len(found.end))?;
        if found.end == 0 {
            write_header(&path, &mut file, number, manifest_crc)?;
        } else {
            writing(&path, file.sync_all())?;
        }
        let position = found.end.max(HEADER);
        Ok(Self { path, file, number, position, synced: position, index })
    }
}

fn write_header(
    path: &Path,
    file: &mut File,
    number: u32,
    manifest_crc: u32,
) -> Result<(), RecordingError> {
    let header = segment::header(number, manifest_crc);
    writing(path, file.write_all(&header).and_then(|()| file.sync_all()))
}
