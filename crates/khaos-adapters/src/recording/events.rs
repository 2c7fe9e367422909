//! Events of a recording one after the other, its partitions merged by time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use zstd::bulk::Decompressor;

use super::Event;
use super::error::{RecordingError, at};
use super::folder;
use super::frame::{self, Frame, Step};
use super::read::{PartitionFrames, Place};

/// Segments that are open at once: partitions are read at about the same time.
const OPEN: usize = 4;

/// Events of a recording, in the order in which they were due.
pub struct Events {
    /// From this timestamp on, and before that one, epoch ms.
    within: (i64, i64),
    partitions: Vec<Cursor>,
    /// When the next event of a partition is due, and which it is.
    due: BinaryHeap<Reverse<(i64, usize)>>,
    /// The partition whose event was handed out.
    taken: Option<usize>,
    files: Files,
}

struct Cursor {
    /// Frames that may hold something, the next one first.
    ahead: VecDeque<Place>,
    frame: Option<Frame>,
    /// Memory of the last frame.
    raw: Vec<u8>,
    latest_ms: i64,
}

struct Files {
    dir: PathBuf,
    /// Those used last are at the end.
    open: VecDeque<(u32, PathBuf, File)>,
    decompressor: Decompressor<'static>,
    stored: Vec<u8>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("within", &self.within).finish_non_exhaustive()
    }
}

impl Events {
    pub(super) fn of(
        dir: &Path,
        partitions: &BTreeMap<i32, PartitionFrames>,
        within: (i64, i64),
    ) -> Result<Self, RecordingError> {
        let (from_ms, to_ms) = within;
        let cursor = |of: &PartitionFrames| {
            // Nothing before the first frame that gets as far is late enough.
            let first = of.frames.partition_point(|place| place.after_ms < from_ms);
            let holds = |place: &&Place| place.max_ms >= from_ms && place.min_ms < to_ms;
            let ahead = of.frames[first..].iter().filter(holds).copied().collect();
            Cursor { ahead, frame: None, raw: Vec::new(), latest_ms: frame::NEVER }
        };
        let mut events = Self {
            within,
            partitions: partitions.values().map(cursor).collect(),
            due: BinaryHeap::new(),
            taken: None,
            files: Files {
                dir: dir.to_owned(),
                open: VecDeque::new(),
                decompressor: frame::decompressor(),
                stored: Vec::new(),
            },
        };
        for partition in 0..events.partitions.len() {
            events.advance(partition)?;
        }
        Ok(events)
    }

    /// The next event, and when it is due, epoch ms: the latest timestamp of its partition up to and
    /// including it, but within the time. It lives until the next call.
    #[allow(clippy::should_implement_trait, reason = "an iterator's items outlive the next call")]
    pub fn next(&mut self) -> Result<Option<(i64, Event<'_>)>, RecordingError> {
        if let Some(partition) = self.taken.take() {
            self.advance(partition)?;
        }
        let Some(Reverse((due_ms, partition))) = self.due.pop() else { return Ok(None) };
        self.taken = Some(partition);
        let Self { partitions, files, .. } = self;
        let frame = partitions[partition].frame.as_mut().expect("an event is due");
        let (segment, position) = (frame.header.segment, frame.header.position);
        match frame.take() {
            Some(event) => Ok(Some((due_ms, event))),
            None => Err(frame::broken(&files.path(segment), position)),
        }
    }

    /// Goes on to the next event of a partition that is within the time.
    fn advance(&mut self, partition: usize) -> Result<(), RecordingError> {
        let cursor = &mut self.partitions[partition];
        loop {
            let Some(frame) = &mut cursor.frame else {
                let Some(place) = cursor.ahead.pop_front() else {
                    cursor.raw = Vec::new();
                    return Ok(());
                };
                let frame = self.files.read(place, std::mem::take(&mut cursor.raw))?;
                cursor.latest_ms = frame.header.before_ms;
                cursor.frame = Some(frame);
                continue;
            };
            let broken = |header: &frame::FrameHeader| {
                frame::broken(&self.files.path(header.segment), header.position)
            };
            match frame.advance() {
                Some(Step::Event(timestamp_ms)) => {
                    cursor.latest_ms = cursor.latest_ms.max(timestamp_ms);
                    if (self.within.0..self.within.1).contains(&timestamp_ms) {
                        // What is left out, far in the future perhaps, does not hold up what follows it.
                        let due_ms = cursor.latest_ms.min(self.within.1 - 1);
                        self.due.push(Reverse((due_ms, partition)));
                        return Ok(());
                    }
                    if frame.skip().is_none() {
                        return Err(broken(&frame.header));
                    }
                }
                Some(Step::End) => {
                    cursor.raw = cursor.frame.take().map_or_else(Vec::new, Frame::into_raw);
                }
                None => return Err(broken(&frame.header)),
            }
        }
    }
}

impl Files {
    fn path(&self, segment: u32) -> PathBuf {
        folder::segment(&self.dir, segment)
    }

    fn read(&mut self, place: Place, raw: Vec<u8>) -> Result<Frame, RecordingError> {
        let known = self.open.iter().position(|(number, ..)| *number == place.segment);
        let open = if let Some(open) = known.and_then(|known| self.open.remove(known)) {
            open
        } else {
            let path = self.path(place.segment);
            let file = at(&path, File::open(&path))?;
            (place.segment, path, file)
        };
        if self.open.len() == OPEN {
            self.open.pop_front();
        }
        self.open.push_back(open);
        let (_, path, file) = self.open.back().expect("one was added");
        let (position, length) = (u64::from(place.position), u64::from(place.length));
        let place = (place.segment, position, length);
        Frame::read((path, file), place, &mut self.decompressor, &mut self.stored, raw)
    }
}
