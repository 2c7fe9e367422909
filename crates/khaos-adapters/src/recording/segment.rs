//! A segment: a file of frames, about 64 MiB of them. When it is full its frames' headers are written
//! behind them once more, so that opening a recording reads only those.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Cut;
use super::error::{RecordingError, at, damaged};
use super::frame::{self, FIXED, FrameHeader, u32_of, u64_of};

/// Length of what a segment begins with, bytes.
pub(super) const HEADER: u64 = 24;
/// A segment ends with the frame that reaches so many bytes.
pub(super) const FULL: u64 = 64 << 20;
/// Length of what a full segment ends with, bytes.
pub(super) const TRAILER: u64 = 32;

const BEGINS: [u8; 8] = *b"KHAOSSEG";
const INDEX: [u8; 4] = *b"KHIX";
const ENDS: [u8; 8] = *b"KHAOSEND";
const VERSION: u32 = 1;

/// What a segment begins with.
pub(super) fn header(number: u32, manifest_crc: u32) -> [u8; HEADER as usize] {
    let mut header = [0; HEADER as usize];
    header[..8].copy_from_slice(&BEGINS);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&number.to_le_bytes());
    header[16..20].copy_from_slice(&manifest_crc.to_le_bytes());
    let crc = crc32fast::hash(&header[..20]);
    header[20..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// The headers of a segment's frames, to be written behind them.
#[derive(Debug)]
pub(super) struct Index {
    bytes: Vec<u8>,
    frames: u32,
}

impl Index {
    pub(super) fn new() -> Self {
        Self { bytes: INDEX.to_vec(), frames: 0 }
    }

    /// Takes in the frame that begins with the header `head`.
    pub(super) fn add(&mut self, head: &[u8]) {
        self.bytes.extend_from_slice(head);
        self.frames += 1;
    }

    /// Length with what comes behind it.
    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64 + TRAILER
    }

    /// All that is written behind the frames of segment `number`.
    pub(super) fn footer(self, number: u32) -> Vec<u8> {
        let Self { mut bytes, frames } = self;
        let (length, crc) = (bytes.len() as u64, crc32fast::hash(&bytes));
        let begins = bytes.len();
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&frames.to_le_bytes());
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(&number.to_le_bytes());
        let crc = crc32fast::hash(&bytes[begins..]);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(&ENDS);
        bytes
    }
}

/// What was found in a segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) frames: Vec<FrameHeader>,
    /// Where the last whole frame ends; 0 where not even the segment's own header is whole.
    pub(super) end: u64,
    /// It has its index, and nothing is added to it.
    pub(super) sealed: bool,
    /// What can be read, bytes.
    pub(super) bytes: u64,
    pub(super) torn: Option<Cut>,
}

impl Segment {
    /// Reads the index of segment `number`; only the newest may be without: its frames are looked up one
    /// by one.
    pub(super) fn load(
        path: &Path,
        number: u32,
        manifest_crc: u32,
        newest: bool,
    ) -> Result<Self, RecordingError> {
        let file = at(path, File::open(path))?;
        let length = at(path, file.metadata())?.len();
        let begins = at(path, begins_with(&file, length, &header(number, manifest_crc)))?;
        match at(path, index(&file, length, number))? {
            Some(frames) if begins => {
                let end = frames.last().map_or(HEADER, FrameHeader::end);
                Ok(Self { frames, end, sealed: true, bytes: length, torn: None })
            }
            None if newest => scan(&file, path, length, number, begins),
            Some(_) => Err(damaged(path, 0, "it does not begin as a segment of this recording")),
            None => {
                let what = "it does not end with its index, as all segments but the newest do";
                Err(damaged(path, length.saturating_sub(TRAILER), what))
            }
        }
    }
}

fn begins_with(file: &File, length: u64, expected: &[u8]) -> io::Result<bool> {
    if length < HEADER {
        return Ok(false);
    }
    let mut found = [0; HEADER as usize];
    file.read_exact_at(&mut found, 0)?;
    Ok(found == expected)
}

/// The index that the file ends with; `None` where it ends with none that is whole.
fn index(file: &File, length: u64, number: u32) -> io::Result<Option<Vec<FrameHeader>>> {
    let Some(trailer_at) = length.checked_sub(TRAILER).filter(|at| *at >= HEADER) else {
        return Ok(None);
    };
    let mut trailer = [0; TRAILER as usize];
    file.read_exact_at(&mut trailer, trailer_at)?;
    let (index_len, frames) = (u64_of(&trailer[..8]), u32_of(&trailer[8..12]));
    let whole = trailer.ends_with(&ENDS)
        && u32_of(&trailer[20..24]) == crc32fast::hash(&trailer[..20])
        && u32_of(&trailer[16..20]) == number;
    let index_at = trailer_at.checked_sub(index_len).filter(|at| *at >= HEADER);
    let Some(index_at) = index_at.filter(|_| whole) else { return Ok(None) };
    let mut index = vec![0; index_len as usize];
    file.read_exact_at(&mut index, index_at)?;
    if crc32fast::hash(&index) != u32_of(&trailer[12..16]) {
        return Ok(None);
    }
    Ok(headers(&index, number, index_at).filter(|found| found.len() == frames as usize))
}

/// The headers in an index, of frames that fill a segment up to `end`.
fn headers(index: &[u8], number: u32, end: u64) -> Option<Vec<FrameHeader>> {
    let mut rest = index.strip_prefix(&INDEX)?;
    let mut position = HEADER;
    let mut headers = Vec::new();
    while !rest.is_empty() {
        let header = FrameHeader::parse(rest, number, position).ok()?;
        rest = &rest[header.head_len as usize..];
        position = header.end();
        headers.push(header);
    }
    (position == end).then_some(headers)
}

/// Finds the frames of a segment without an index: those in front of the first that is not whole. Every
/// frame says up to where the file was on disk before it was written. What lies behind that may be torn
/// by a crash; if it lies in front, something has been damaged since.
fn scan(
    file: &File,
    path: &Path,
    length: u64,
    number: u32,
    begins: bool,
) -> Result<Segment, RecordingError> {
    let mut buffer = Vec::new();
    let mut frames: Vec<FrameHeader> = Vec::new();
    let mut end = if begins { HEADER } else { 0 };
    // Behind a header that is not whole nothing is looked for: what is there says so below.
    let mut whole = begins;
    while whole {
        let read = FrameHeader::read(file, length, number, end, &mut buffer);
        let found = at(path, read)?.ok().filter(|header| header.end() <= length);
        whole = found.is_some();
        end = found.as_ref().map_or(end, FrameHeader::end);
        frames.extend(found);
    }
    // Only a crash of the whole machine leaves a header without its events.
    let synced = frames.iter().map(|frame| frame.synced).max().unwrap_or(end.min(HEADER));
    let mut stored = Vec::new();
    let known = frames.partition_point(|frame| frame.position < synced);
    for (i, frame) in frames.iter().enumerate().skip(known) {
        if !at(path, frame.body_is_whole(file, &mut stored))? {
            end = frame.position;
            frames.truncate(i);
            break;
        }
    }
    if end < length && at(path, was_on_disk(file, length, number, end))? {
        return Err(damaged(
            path,
            end,
            "no whole frame, although what is behind it was written later",
        ));
    }
    let torn = (end < length).then(|| Cut { file: path.to_owned(), at: end, bytes: length - end });
    Ok(Segment { frames, end, sealed: false, bytes: end, torn })
}

/// Does a frame behind `end` say that the byte there was on disk before?
fn was_on_disk(file: &File, length: u64, number: u32, end: u64) -> io::Result<bool> {
    const STEP: u64 = 1 << 20;
    let (mut chunk, mut buffer) = (Vec::new(), Vec::new());
    let mut from = end + 1;
    while from + FIXED as u64 <= length {
        // A magic number may lie across two chunks.
        let chunk_len = (STEP + 3).min(length - from);
        chunk.resize(chunk_len as usize, 0);
        file.read_exact_at(&mut chunk, from)?;
        for (i, window) in (0..).zip(chunk.windows(frame::MAGIC.len())) {
            if window == frame::MAGIC
                && let Ok(found) = FrameHeader::read(file, length, number, from + i, &mut buffer)?
                && found.synced > end
            {
                return Ok(true);
            }
        }
        from += STEP;
    }
    Ok(false)
}
