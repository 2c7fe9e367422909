//! Reading: what there is, by the indexes alone; and whether all of it is as it was written.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::error::{RecordingError, at, damaged};
use super::events::Events;
use super::frame::{self, Frame, FrameHeader, NEVER};
use super::segment::{HEADER, Segment};
use super::{Cut, Manifest, PartitionSummary, Stores, Summary, Verified, folder, offsets};

/// A recording, as far as it had been written when it was opened. Somebody may go on writing.
#[derive(Debug)]
pub struct Recording {
    dir: PathBuf,
    manifest: Manifest,
    held: Held,
}

#[derive(Debug)]
enum Held {
    Events(Contents),
    Offsets(Summary),
}

/// What the indexes say.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) partitions: BTreeMap<i32, PartitionFrames>,
    pub(super) segments: u32,
    pub(super) events: u64,
    pub(super) torn: Option<Cut>,
    bytes: u64,
    span_ms: Option<(i64, i64)>,
    /// Events by second of their timestamps.
    seconds: BTreeMap<i64, u64>,
    /// Where the frames of each segment end.
    ends: Vec<u64>,
}

/// The frames of a partition, in the order of its offsets.
#[derive(Debug)]
pub(super) struct PartitionFrames {
    pub(super) told: PartitionSummary,
    /// The latest timestamp, epoch ms.
    pub(super) latest_ms: i64,
    pub(super) frames: Vec<Place>,
}

/// Where a frame is, and which times are in it: there may be a million.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) segment: u32,
    /// A frame begins before its segment is full: 32 bits are enough.
    pub(super) position: u32,
    pub(super) length: u32,
    pub(super) min_ms: i64,
    pub(super) max_ms: i64,
    /// The latest timestamp of the partition up to the end of the frame.
    pub(super) after_ms: i64,
}

/// Reads the index of every segment in `dir`, and hands the segment on.
pub(super) fn contents(
    dir: &Path,
    manifest_crc: u32,
    mut hand_on: impl FnMut(Segment),
) -> Result<Contents, RecordingError> {
    let mut contents = Contents { segments: folder::segments(dir)?, ..Contents::default() };
    for number in 0..contents.segments {
        let path = folder::segment(dir, number);
        let mut segment =
            Segment::load(&path, number, manifest_crc, number + 1 == contents.segments)?;
        for frame in &segment.frames {
            contents.add(frame).map_err(|what| damaged(&path, frame.position, what))?;
        }
        contents.bytes += segment.bytes;
        contents.ends.push(segment.end);
        contents.torn = segment.torn.take();
        hand_on(segment);
    }
    Ok(contents)
}

impl Contents {
    fn add(&mut self, frame: &FrameHeader) -> Result<(), &'static str> {
        let of = self.partitions.entry(frame.partition).or_insert_with(|| PartitionFrames {
            told: PartitionSummary {
                first_offset: frame.first_offset,
                next_offset: frame.first_offset,
                events: 0,
            },
            latest_ms: NEVER,
            frames: Vec::new(),
        });
        if frame.first_offset < of.told.next_offset || frame.last_offset < frame.first_offset {
            return Err("the offsets of a frame lie before those of an earlier one");
        }
        if frame.before_ms != of.latest_ms {
            return Err("a frame does not follow the one before it");
        }
        let position = u32::try_from(frame.position);
        let length = u32::try_from(frame.len());
        let (Ok(position), Ok(length)) = (position, length) else {
            return Err("a frame is larger than any that is written");
        };
        of.told.next_offset = frame.last_offset + 1;
        of.told.events += u64::from(frame.events);
        of.latest_ms = frame.after_ms();
        let (segment, min_ms, max_ms) = (frame.segment, frame.min_ms, frame.max_ms);
        let after_ms = of.latest_ms;
        of.frames.push(Place { segment, position, length, min_ms, max_ms, after_ms });
        self.events += u64::from(frame.events);
        let (first_ms, last_ms) = self.span_ms.unwrap_or((min_ms, max_ms));
        self.span_ms = Some((first_ms.min(min_ms), last_ms.max(max_ms)));
        for (second, events) in &frame.seconds {
            *self.seconds.entry(*second).or_default() += u64::from(*events);
        }
        Ok(())
    }
}

impl Recording {
    /// Opens the recording in `dir`: reads what it is of and the index of every segment.
    pub fn open(dir: &Path) -> Result<Self, RecordingError> {
        let manifest = Manifest::read(dir)?;
        let held = match manifest.stores {
            Stores::Events => Held::Events(contents(dir, manifest.crc(), drop)?),
            Stores::Offsets => Held::Offsets(offsets::load(dir, manifest.crc())?.summary),
        };
        Ok(Self { dir: dir.to_owned(), manifest, held })
    }

    /// What it is of.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Is somebody writing to it right now?
    pub fn is_written(&self) -> Result<bool, RecordingError> {
        folder::is_written(&self.dir)
    }

    /// What it holds.
    pub fn summary(&self) -> Summary {
        match &self.held {
            Held::Offsets(summary) => summary.clone(),
            Held::Events(contents) => Summary {
                events: contents.events,
                bytes: contents.bytes,
                span_ms: contents.span_ms,
                partitions: contents.partitions.iter().map(|(p, of)| (*p, of.told)).collect(),
                torn: contents.torn.clone(),
            },
        }
    }

    /// Events by epoch second of their timestamps, ascending, from the indexes alone. Seconds without
    /// events are left out. Where only offsets are recorded, what arrived between two looks is spread
    /// evenly over the time between them.
    pub fn rates(&self) -> Result<Vec<(i64, u64)>, RecordingError> {
        match &self.held {
            Held::Events(contents) => Ok(contents.seconds.iter().map(|(s, n)| (*s, *n)).collect()),
            Held::Offsets(summary) => offsets::rates(&self.dir, self.manifest.crc(), summary.bytes),
        }
    }

    /// Where only offsets are recorded: how far each partition was when it was last looked at by `ms`, epoch ms, or
    /// at the first look where that came later.
    pub fn ends_at(&self, ms: i64) -> Result<BTreeMap<i32, i64>, RecordingError> {
        match &self.held {
            Held::Events(_) => {
                let (dir, topic) = (self.dir.clone(), self.manifest.topic.clone());
                Err(RecordingError::EventsOnly { dir, topic })
            }
            Held::Offsets(summary) => {
                offsets::ends_at(&self.dir, self.manifest.crc(), summary.bytes, ms)
            }
        }
    }

    /// Events with timestamps within `[from_ms, to_ms)`, merged over partitions by time, each partition
    /// in the order of its offsets. For merging, the time of an event is the latest timestamp of its
    /// partition up to and including it, or the end of the stretch where that is earlier: what came late is
    /// due when it came. One frame per partition is in memory.
    pub fn events(&self, from_ms: i64, to_ms: i64) -> Result<Events, RecordingError> {
        match &self.held {
            Held::Events(contents) => Events::of(&self.dir, &contents.partitions, (from_ms, to_ms)),
            Held::Offsets(_) => {
                let (dir, topic) = (self.dir.clone(), self.manifest.topic.clone());
                Err(RecordingError::OffsetsOnly { dir, topic })
            }
        }
    }

    /// Reads everything and checks that it is what was written. `progress` is told how many bytes have
    /// been read since it was told last.
    pub fn verify(&self, mut progress: impl FnMut(u64)) -> Result<Verified, RecordingError> {
        let contents = match &self.held {
            Held::Events(contents) => contents,
            Held::Offsets(opened) => {
                let found = offsets::load(&self.dir, self.manifest.crc())?;
                progress(found.summary.bytes);
                let (events, bytes, torn) =
                    (found.summary.events, found.summary.bytes, opened.torn.clone());
                return Ok(Verified { events, bytes, torn });
            }
        };
        let (mut decompressor, mut head) = (frame::decompressor(), Vec::new());
        let (mut stored, mut raw) = (Vec::new(), Vec::new());
        let mut events = 0;
        for (number, end) in (0..).zip(&contents.ends) {
            let path = folder::segment(&self.dir, number);
            let file = at(&path, File::open(&path))?;
            let mut position = HEADER;
            while position < *end {
                let header =
                    at(&path, FrameHeader::read(&file, *end, number, position, &mut head))?
                        .map_err(|what| damaged(&path, position, what))?;
                let place = (number, position, header.len());
                let mut frame =
                    Frame::read((&path, &file), place, &mut decompressor, &mut stored, raw)?;
                frame.check().ok_or_else(|| frame::broken(&path, position))?;
                events += u64::from(header.events);
                progress(header.len());
                position = header.end();
                raw = frame.into_raw();
            }
        }
        if events != contents.events {
            let what = format!("{events} events were read, the index says {}", contents.events);
            return Err(damaged(&self.dir, 0, what));
        }
        Ok(Verified { events, bytes: contents.bytes, torn: contents.torn.clone() })
    }
}
