//! A frame: up to 1,024 events of one partition, or 1 MiB of them, compressed, behind a header that
//! says what is in it. A single event may be larger.
//!
//! The header has its own place in it and is checked by itself, so that bytes of another place, or of a
//! recording inside an event, are never taken for one.

use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::{fs::File, io, path::Path};

use zstd::bulk::{Compressor, Decompressor};

use super::error::{RecordingError, at, damaged};
use super::{Event, Header, varint};

/// The largest event, bytes: key, value and headers together.
pub(super) const LARGEST: u64 = 1 << 30;
/// Events in a frame at most.
const MOST_EVENTS: u32 = 1_024;
/// A frame ends with the event that reaches so many bytes.
const FULL: usize = 1 << 20;
/// zstd's: compression has to keep up with Kafka.
const LEVEL: i32 = 1;
pub(super) const MAGIC: [u8; 4] = *b"KHFR";
/// Length of a header without its seconds.
pub(super) const FIXED: usize = 92;
/// More than the seconds of a full frame take, bytes.
const MOST_SECONDS: usize = 16 * MOST_EVENTS as usize;
/// More than a frame takes besides its events: header, seconds of few events, and what zstd adds.
pub(super) const OVERHEAD: u64 = 256;
/// "No timestamp before."
pub(super) const NEVER: i64 = i64::MIN;

/// What a frame says of its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// Number of the segment that it is in.
    pub(super) segment: u32,
    /// Its place there, bytes.
    pub(super) position: u64,
    /// So many bytes of the segment were on disk for sure before it was written.
    pub(super) synced: u64,
    pub(super) partition: i32,
    pub(super) events: u32,
    pub(super) first_offset: i64,
    pub(super) last_offset: i64,
    /// The earliest and the latest timestamp, epoch ms.
    pub(super) min_ms: i64,
    pub(super) max_ms: i64,
    /// The latest timestamp of the partition before this frame, epoch ms; [`NEVER`] where there is none.
    pub(super) before_ms: i64,
    /// Length of the events, bytes, and as they are stored.
    raw_len: u32,
    body_len: u32,
    body_crc: u32,
    /// Events by second of their timestamps, ascending.
    pub(super) seconds: Vec<(i64, u32)>,
    /// Length of the header with its seconds.
    pub(super) head_len: u32,
}

impl FrameHeader {
    /// Length of the whole frame, bytes.
    pub(super) fn len(&self) -> u64 {
        u64::from(self.head_len) + u64::from(self.body_len)
    }

    /// Where the next one begins.
    pub(super) fn end(&self) -> u64 {
        self.position + self.len()
    }

    /// The latest timestamp of the partition up to the last event of this frame.
    pub(super) fn after_ms(&self) -> i64 {
        self.before_ms.max(self.max_ms)
    }

    /// Writes the header in front of its body, where `seconds` stand already.
    fn encode(&self, to: &mut [u8]) {
        let seconds = to.len() - FIXED;
        let mut place = 0;
        let mut put = |bytes: &[u8]| {
            to[place..place + bytes.len()].copy_from_slice(bytes);
            place += bytes.len();
        };
        put(&MAGIC);
        put(&self.segment.to_le_bytes());
        put(&self.position.to_le_bytes());
        put(&self.synced.to_le_bytes());
        put(&self.partition.to_le_bytes());
        put(&self.events.to_le_bytes());
        for number in
            [self.first_offset, self.last_offset, self.min_ms, self.max_ms, self.before_ms]
        {
            put(&number.to_le_bytes());
        }
        for number in [self.raw_len, self.body_len, self.body_crc, seconds as u32] {
            put(&number.to_le_bytes());
        }
        let crc = head_crc(to);
        to[FIXED - 4..FIXED].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads the header that `bytes` begin with, which stand at `position` of `segment`; otherwise says
    /// what is wrong with them.
    pub(super) fn parse(bytes: &[u8], segment: u32, position: u64) -> Result<Self, &'static str> {
        let head_len = head_len(bytes).ok_or("there is no frame")?;
        let head = bytes.get(..head_len).ok_or("the file ends within a frame")?;
        let mut place = 4;
        let mut take = |length: usize| {
            place += length;
            &head[place - length..place]
        };
        let mut header = Self {
            segment: u32_of(take(4)),
            position: u64_of(take(8)),
            synced: u64_of(take(8)),
            partition: u32_of(take(4)) as i32,
            events: u32_of(take(4)),
            first_offset: u64_of(take(8)) as i64,
            last_offset: u64_of(take(8)) as i64,
            min_ms: u64_of(take(8)) as i64,
            max_ms: u64_of(take(8)) as i64,
            before_ms: u64_of(take(8)) as i64,
            raw_len: u32_of(take(4)),
            body_len: u32_of(take(4)),
            body_crc: u32_of(take(4)),
            seconds: Vec::new(),
            head_len: head_len as u32,
        };
        if u32_of(&head[FIXED - 4..FIXED]) != head_crc(head) {
            return Err("the header of a frame does not have its checksum");
        }
        if (header.segment, header.position) != (segment, position) {
            return Err("a frame of another place is here");
        }
        header.seconds =
            seconds_of(&head[FIXED..]).ok_or("the seconds of a frame make no sense")?;
        Ok(header)
    }

    /// Reads the header at `position` of a file of `length` bytes. `Ok(Err)` says what is wrong with it.
    /// The frame may reach beyond the file.
    pub(super) fn read(
        file: &File,
        length: u64,
        segment: u32,
        position: u64,
        buffer: &mut Vec<u8>,
    ) -> io::Result<Result<Self, &'static str>> {
        const TORN: &str = "the file ends within a frame";
        let left = usize::try_from(length.saturating_sub(position)).unwrap_or(usize::MAX);
        if left < FIXED {
            return Ok(Err(TORN));
        }
        buffer.resize(FIXED, 0);
        file.read_exact_at(buffer, position)?;
        let Some(head_len) = head_len(buffer) else { return Ok(Err("there is no frame")) };
        if left < head_len {
            return Ok(Err(TORN));
        }
        buffer.resize(head_len, 0);
        file.read_exact_at(&mut buffer[FIXED..], position + FIXED as u64)?;
        Ok(Self::parse(buffer, segment, position))
    }

    /// The bytes of the header itself.
    pub(super) fn read_head(&self, file: &File) -> io::Result<Vec<u8>> {
        let mut head = vec![0; self.head_len as usize];
        file.read_exact_at(&mut head, self.position)?;
        Ok(head)
    }

    /// Are its events there, as they were written? `stored` is scratch.
    pub(super) fn body_is_whole(&self, file: &File, stored: &mut Vec<u8>) -> io::Result<bool> {
        stored.resize(self.body_len as usize, 0);
        file.read_exact_at(stored, self.position + u64::from(self.head_len))?;
        Ok(crc32fast::hash(stored) == self.body_crc)
    }
}

/// Length of the header that `bytes` begin with, if they do. Only its checksum says whether it is one.
pub(super) fn head_len(bytes: &[u8]) -> Option<usize> {
    let fixed = bytes.get(..FIXED).filter(|fixed| fixed.starts_with(&MAGIC))?;
    let seconds = u32_of(&fixed[FIXED - 8..FIXED - 4]) as usize;
    (seconds <= MOST_SECONDS).then_some(FIXED + seconds)
}

fn head_crc(head: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head[..FIXED - 4]);
    crc.update(&head[FIXED..]);
    crc.finalize()
}

fn seconds_of(mut bytes: &[u8]) -> Option<Vec<(i64, u32)>> {
    let mut seconds = Vec::new();
    let mut second = 0_i64;
    while !bytes.is_empty() {
        second = second.wrapping_add(varint::take_signed(&mut bytes)?);
        seconds.push((second, u32::try_from(varint::take(&mut bytes)?).ok()?));
    }
    Some(seconds)
}

pub(super) fn u32_of(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("four bytes"))
}

pub(super) fn u64_of(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

/// A frame that is being filled, of one partition.
#[derive(Debug)]
pub(super) struct Filling {
    raw: Vec<u8>,
    events: u32,
    first_offset: i64,
    last_offset: i64,
    last_ms: i64,
    min_ms: i64,
    max_ms: i64,
    /// The latest timestamp before this frame.
    before_ms: i64,
    /// Events by second, as they came.
    seconds: Vec<(i64, u32)>,
}

impl Filling {
    /// An empty frame of a partition whose latest timestamp is `before_ms`.
    pub(super) fn after(before_ms: i64) -> Self {
        Self {
            raw: Vec::new(),
            events: 0,
            first_offset: 0,
            last_offset: 0,
            last_ms: 0,
            min_ms: i64::MAX,
            max_ms: i64::MIN,
            before_ms,
            seconds: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.events >= MOST_EVENTS || self.raw.len() >= FULL
    }

    /// More than it takes in files when it is closed as it is, bytes: once with its events, once in the
    /// segment's index.
    pub(super) fn at_most(&self) -> u64 {
        let (raw, seconds) = (self.raw.len() as u64, self.seconds.len() as u64);
        if self.is_empty() { 0 } else { 2 * OVERHEAD + raw + raw / 128 + 2 * 15 * seconds }
    }

    /// Would `event` of so many bytes make more of it than a frame should have?
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.is_empty() || self.raw.len() as u64 + bytes <= FULL as u64
    }

    /// Takes `event` in, whose offset is behind the last one.
    pub(super) fn add(&mut self, event: &Event<'_>) {
        let expected =
            if self.is_empty() { event.offset } else { self.last_offset.wrapping_add(1) };
        if self.is_empty() {
            self.first_offset = event.offset;
        }
        let raw = &mut self.raw;
        varint::put(raw, event.offset.wrapping_sub(expected) as u64);
        varint::put_signed(raw, event.timestamp_ms.wrapping_sub(self.last_ms));
        put_bytes(raw, event.key);
        put_bytes(raw, event.value);
        varint::put(raw, event.headers.len() as u64);
        for header in &event.headers {
            varint::put(raw, header.name.len() as u64);
            raw.extend_from_slice(header.name.as_bytes());
            put_bytes(raw, header.value);
        }
        self.events += 1;
        self.last_offset = event.offset;
        self.last_ms = event.timestamp_ms;
        self.min_ms = self.min_ms.min(event.timestamp_ms);
        self.max_ms = self.max_ms.max(event.timestamp_ms);
        let second = event.timestamp_ms.div_euclid(1_000);
        match self.seconds.last_mut() {
            Some((last, count)) if *last == second => *count += 1,
            _ => self.seconds.push((second, 1)),
        }
    }

    /// Each second once, ascending.
    fn tidy_seconds(&mut self) {
        self.seconds.sort_unstable();
        self.seconds.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                earlier.1 += later.1;
            }
            same
        });
    }

    /// What is filled. The next frame begins, in `memory`, which is empty.
    pub(super) fn hand_over(&mut self, memory: Vec<u8>) -> Self {
        let after_ms = self.before_ms.max(self.max_ms);
        std::mem::replace(self, Self { raw: memory, ..Self::after(after_ms) })
    }

    /// Makes the whole frame in `out`, to stand at `position` of `segment`. Its memory is returned, empty.
    pub(super) fn close(
        mut self,
        compressor: &mut Compressor<'_>,
        (segment, position, synced): (u32, u64, u64),
        partition: i32,
        out: &mut Out,
    ) -> io::Result<(FrameHeader, Vec<u8>)> {
        self.tidy_seconds();
        out.seconds.clear();
        let mut before = 0_i64;
        for (second, count) in &self.seconds {
            varint::put_signed(&mut out.seconds, second.wrapping_sub(before));
            varint::put(&mut out.seconds, u64::from(*count));
            before = *second;
        }
        let head_len = FIXED + out.seconds.len();
        let needed = head_len + zstd::zstd_safe::compress_bound(self.raw.len());
        if out.bytes.len() < needed {
            out.bytes.resize(needed, 0);
        }
        let body_len = compressor.compress_to_buffer(&self.raw, &mut out.bytes[head_len..])?;
        out.len = head_len + body_len;
        out.bytes[FIXED..head_len].copy_from_slice(&out.seconds);
        let header = FrameHeader {
            segment,
            position,
            synced,
            partition,
            events: self.events,
            first_offset: self.first_offset,
            last_offset: self.last_offset,
            min_ms: self.min_ms,
            max_ms: self.max_ms,
            before_ms: self.before_ms,
            raw_len: self.raw.len() as u32,
            body_len: body_len as u32,
            body_crc: crc32fast::hash(&out.bytes[head_len..out.len]),
            seconds: self.seconds,
            head_len: head_len as u32,
        };
        header.encode(&mut out.bytes[..head_len]);
        self.raw.clear();
        // What one huge event needed is not kept for the next hundred partitions.
        self.raw.shrink_to(2 * FULL);
        Ok((header, self.raw))
    }
}

/// A finished frame, in memory that is used again.
#[derive(Debug, Default)]
pub(super) struct Out {
    bytes: Vec<u8>,
    len: usize,
    seconds: Vec<u8>,
}

impl Out {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

pub(super) fn compressor() -> Compressor<'static> {
    Compressor::new(LEVEL).expect("zstd's context needs nothing but memory")
}

pub(super) fn decompressor() -> Decompressor<'static> {
    Decompressor::new().expect("zstd's context needs nothing but memory")
}

/// The most bytes that `event` takes in a frame.
pub(super) fn size(event: &Event<'_>) -> u64 {
    let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len) as u64 + 10;
    let header = |header: &Header<'_>| length(Some(header.name.as_bytes())) + length(header.value);
    let headers: u64 = event.headers.iter().map(header).sum();
    30 + length(event.key) + length(event.value) + headers
}

/// None is 0, otherwise the length is one more than it is.
fn put_bytes(to: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => to.push(0),
        Some(bytes) => {
            varint::put(to, bytes.len() as u64 + 1);
            to.extend_from_slice(bytes);
        }
    }
}

/// What may be empty or not there at all.
type Bytes<'a> = Option<&'a [u8]>;

fn take_bytes<'a>(from: &mut &'a [u8]) -> Option<Bytes<'a>> {
    match varint::take(from)? {
        0 => Some(None),
        more => Some(Some(take_exactly(from, more - 1)?)),
    }
}

fn take_exactly<'a>(from: &mut &'a [u8], length: u64) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(usize::try_from(length).ok()?)?;
    *from = rest;
    Some(taken)
}

/// A frame that was read, and how far it has been gone through.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) header: FrameHeader,
    raw: Vec<u8>,
    place: usize,
    left: u32,
    offset: i64,
    timestamp_ms: i64,
}

/// Where going through a frame has come to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// An event with this timestamp.
    Event(i64),
    /// Behind the last one.
    End,
}

impl Frame {
    /// Reads a frame from its place, in `raw` where there is room already. `stored` is scratch.
    pub(super) fn read(
        (path, file): (&Path, &File),
        (segment, position, length): (u32, u64, u64),
        decompressor: &mut Decompressor<'_>,
        stored: &mut Vec<u8>,
        mut raw: Vec<u8>,
    ) -> Result<Self, RecordingError> {
        stored.resize(length as usize, 0);
        match file.read_exact_at(stored, position) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Err(damaged(path, position, "the file ends within a frame"));
            }
            read => at(path, read)?,
        }
        let header = FrameHeader::parse(stored, segment, position)
            .map_err(|what| damaged(path, position, what))?;
        if header.len() != length {
            return Err(damaged(path, position, "a frame has not the length that the index says"));
        }
        let body_at = u64::from(header.head_len);
        let body = &stored[header.head_len as usize..];
        if crc32fast::hash(body) != header.body_crc {
            let what = "the events of a frame do not have their checksum";
            return Err(damaged(path, position + body_at, what));
        }
        raw.clear();
        raw.reserve(header.raw_len as usize);
        let unpacked = decompressor.decompress_to_buffer(body, &mut raw);
        if unpacked.ok() != Some(header.raw_len as usize) {
            return Err(damaged(
                path,
                position + body_at,
                "the events of a frame cannot be unpacked",
            ));
        }
        let (left, first_offset) = (header.events, header.first_offset);
        Ok(Self {
            header,
            raw,
            place: 0,
            left,
            // Of the event before the first.
            offset: first_offset.wrapping_sub(1),
            timestamp_ms: 0,
        })
    }

    /// Goes to the next event. `None`: the frame is not what was written. Between two calls the event is
    /// taken or skipped.
    pub(super) fn advance(&mut self) -> Option<Step> {
        if self.left == 0 {
            return (self.place == self.raw.len()).then_some(Step::End);
        }
        let mut rest = &self.raw[self.place..];
        let gap = varint::take(&mut rest)?;
        let later = varint::take_signed(&mut rest)?;
        self.left -= 1;
        self.place = self.raw.len() - rest.len();
        self.offset = self.offset.wrapping_add(1).wrapping_add(gap as i64);
        self.timestamp_ms = self.timestamp_ms.wrapping_add(later);
        Some(Step::Event(self.timestamp_ms))
    }

    /// Passes over the event.
    pub(super) fn skip(&mut self) -> Option<()> {
        let mut rest = &self.raw[self.place..];
        take_content(&mut rest, |_, _| Some(()))?;
        self.place = self.raw.len() - rest.len();
        Some(())
    }

    /// The event.
    pub(super) fn take(&mut self) -> Option<Event<'_>> {
        let mut rest = &self.raw[self.place..];
        let mut headers = Vec::new();
        let (key, value) = take_content(&mut rest, |name, value| {
            headers.push(Header { name: str::from_utf8(name).ok()?, value });
            Some(())
        })?;
        self.place = self.raw.len() - rest.len();
        let (partition, offset, timestamp_ms) =
            (self.header.partition, self.offset, self.timestamp_ms);
        Some(Event { partition, offset, timestamp_ms, key, value, headers })
    }

    /// Its memory, for another frame.
    pub(super) fn into_raw(self) -> Vec<u8> {
        self.raw
    }

    /// Goes through all events. Is everything as the header says? Its events are then behind it.
    pub(super) fn check(&mut self) -> Option<()> {
        let mut seen = Filling::after(self.header.before_ms);
        let mut first_offset = None;
        let mut last_offset = None;
        while let Step::Event(timestamp_ms) = self.advance()? {
            let offset = self.take()?.offset;
            if last_offset.is_some_and(|last| last >= offset) {
                return None;
            }
            first_offset = first_offset.or(Some(offset));
            last_offset = Some(offset);
            seen.min_ms = seen.min_ms.min(timestamp_ms);
            seen.max_ms = seen.max_ms.max(timestamp_ms);
            seen.seconds.push((timestamp_ms.div_euclid(1_000), 1));
        }
        seen.tidy_seconds();
        let header = &self.header;
        let same = first_offset == Some(header.first_offset)
            && last_offset == Some(header.last_offset)
            && (seen.min_ms, seen.max_ms) == (header.min_ms, header.max_ms)
            && seen.seconds == header.seconds;
        same.then_some(())
    }
}

/// The frame at `position` is not what was written, although its checksums hold.
pub(super) fn broken(path: &Path, position: u64) -> RecordingError {
    damaged(path, position, "the events of a frame are not what its header says")
}

fn take_content<'a>(
    from: &mut &'a [u8],
    mut header: impl FnMut(&'a [u8], Option<&'a [u8]>) -> Option<()>,
) -> Option<(Bytes<'a>, Bytes<'a>)> {
    let key = take_bytes(from)?;
    let value = take_bytes(from)?;
    for _ in 0..varint::take(from)? {
        let length = varint::take(from)?;
        let name = take_exactly(from, length)?;
        header(name, take_bytes(from)?)?;
    }
    Some((key, value))
}
