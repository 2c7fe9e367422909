//! `offsets.log`: how far a topic was, one line a look: epoch ms, `partition:end` for each, CRC-32.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::error::{RecordingError, at, damaged, writing};
use super::folder::sync_dir;
use super::{Cut, PartitionSummary, Summary};

const NAME: &str = "offsets.log";
const BEGINS: &str = "khaos-offsets 1";

/// The ends of all partitions at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Look {
    at_ms: i64,
    ends: BTreeMap<i32, i64>,
}

impl Look {
    fn line(&self) -> String {
        let mut text = self.at_ms.to_string();
        for (partition, end) in &self.ends {
            // Text takes everything.
            let _ = write!(text, " {partition}:{end}");
        }
        signed(&text)
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let mut words = unsigned(line)?.split(' ');
        let at_ms = words.next()?.parse().ok()?;
        let end = |word: &str| {
            let (partition, end) = word.split_once(':')?;
            Some((partition.parse().ok()?, end.parse().ok()?))
        };
        Some(Self { at_ms, ends: words.map(end).collect::<Option<_>>()? })
    }
}

/// A line with its checksum.
fn signed(text: &str) -> String {
    format!("{text} {:08x}\n", crc32fast::hash(text.as_bytes()))
}

/// A line without its checksum, if it has the right one.
fn unsigned(line: &[u8]) -> Option<&str> {
    let text = str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let (text, crc) = text.rsplit_once(' ')?;
    (crc == format!("{:08x}", crc32fast::hash(text.as_bytes()))).then_some(text)
}

/// What all looks together say.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) summary: Summary,
    looks: u64,
    /// Where the last whole line ends; 0 where not even the first one is whole.
    end: u64,
}

impl Found {
    pub(super) fn next_offsets(&self) -> BTreeMap<i32, i64> {
        self.summary.partitions.iter().map(|(partition, of)| (*partition, of.next_offset)).collect()
    }

    /// Reads the whole log, up to `until` bytes of it; each look is told with how many events had arrived
    /// since the first.
    fn read(
        dir: &Path,
        manifest_crc: u32,
        until: u64,
        mut look_at: impl FnMut(&Look, u64),
    ) -> Result<Self, RecordingError> {
        let path = dir.join(NAME);
        let mut found = Self::default();
        let file = match File::open(&path) {
            // Nothing was ever written.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(found),
            opened => at(&path, opened)?,
        };
        let mut reader = BufReader::new(file);
        let (mut place, mut line) = (0_u64, Vec::new());
        let mut torn = false;
        while place < until {
            line.clear();
            let length = at(&path, reader.read_until(b'\n', &mut line))? as u64;
            if length == 0 {
                break;
            }
            let first = place == 0;
            place += length;
            let whole = if first {
                unsigned(&line).is_some_and(|text| text == format!("{BEGINS} {manifest_crc:08x}"))
            } else {
                match Look::parse(&line) {
                    Some(_) if torn => {
                        let what = "no whole line, although there are others behind it";
                        return Err(damaged(&path, found.end, what));
                    }
                    Some(look) => {
                        found.take(&look).map_err(|what| damaged(&path, found.end, what))?;
                        look_at(&look, found.summary.events);
                        true
                    }
                    None => false,
                }
            };
            torn |= !whole;
            if !torn {
                found.end = place;
            }
        }
        found.summary.bytes = found.end;
        found.summary.torn = (found.end < place).then(|| Cut {
            file: path,
            at: found.end,
            bytes: place - found.end,
        });
        Ok(found)
    }

    fn take(&mut self, look: &Look) -> Result<(), &'static str> {
        let begun = self.looks > 0;
        let partitions = &mut self.summary.partitions;
        for (partition, end) in &look.ends {
            // A partition that came later began with its first event.
            let first_offset = if begun { 0 } else { *end };
            let known = partitions.entry(*partition).or_insert(PartitionSummary {
                first_offset,
                next_offset: first_offset,
                events: 0,
            });
            if *end < known.next_offset {
                return Err("an offset goes back");
            }
            self.summary.events += (end - known.next_offset) as u64;
            known.next_offset = *end;
            known.events = (end - known.first_offset) as u64;
        }
        let span = self.summary.span_ms.unwrap_or((look.at_ms, look.at_ms));
        self.summary.span_ms = Some((span.0.min(look.at_ms), span.1.max(look.at_ms)));
        self.looks += 1;
        Ok(())
    }
}

/// Reads the whole log and checks every line.
pub(super) fn load(dir: &Path, manifest_crc: u32) -> Result<Found, RecordingError> {
    Found::read(dir, manifest_crc, u64::MAX, |_, _| {})
}

/// Events by second, as far as the log was `bytes` long. What arrived between two looks is spread evenly
/// over the time between them.
pub(super) fn rates(
    dir: &Path,
    manifest_crc: u32,
    bytes: u64,
) -> Result<Vec<(i64, u64)>, RecordingError> {
    let mut rates = BTreeMap::new();
    let mut last: Option<(i64, u64)> = None;
    Found::read(dir, manifest_crc, bytes, |look, total| {
        let at_ms = look.at_ms;
        let Some((from_ms, before)) = last else {
            last = Some((at_ms, total));
            return;
        };
        // A clock that was set back makes a look one of the same moment.
        let to_ms = at_ms.max(from_ms);
        spread((from_ms, to_ms), total - before, &mut rates);
        last = Some((to_ms, total));
    })?;
    Ok(rates.into_iter().filter(|(_, events)| *events > 0).collect())
}

/// The ends at the last look by `ms`, or at the first one, as far as the log was `bytes` long.
pub(super) fn ends_at(
    dir: &Path,
    manifest_crc: u32,
    bytes: u64,
    ms: i64,
) -> Result<BTreeMap<i32, i64>, RecordingError> {
    let mut ends: Option<BTreeMap<i32, i64>> = None;
    Found::read(dir, manifest_crc, bytes, |look, _| {
        if ends.is_none() || look.at_ms <= ms {
            ends = Some(look.ends.clone());
        }
    })?;
    Ok(ends.unwrap_or_default())
}

/// Spreads `events` over the seconds between two moments; every one counts once.
fn spread((from_ms, to_ms): (i64, i64), events: u64, rates: &mut BTreeMap<i64, u64>) {
    if from_ms == to_ms {
        *rates.entry(from_ms.div_euclid(1_000)).or_default() += events;
        return;
    }
    let length = u128::from(to_ms.abs_diff(from_ms));
    let (first, last) = (from_ms.div_euclid(1_000), (to_ms - 1).div_euclid(1_000));
    let mut told = 0;
    for second in first..=last {
        let passed = ((second + 1) * 1_000).min(to_ms).abs_diff(from_ms);
        let by_then = (u128::from(events) * u128::from(passed) / length) as u64;
        *rates.entry(second).or_default() += by_then - told;
        told = by_then;
    }
}

/// The log, open for more.
#[derive(Debug)]
pub(super) struct OffsetsLog {
    path: PathBuf,
    file: File,
    found: Found,
    /// Lines that are not written yet.
    pending: String,
}

impl OffsetsLog {
    /// Opens the log, and begins it where there is none. A torn tail is cut.
    pub(super) fn open(
        dir: &Path,
        manifest_crc: u32,
    ) -> Result<(Self, Option<Cut>), RecordingError> {
        let mut found = load(dir, manifest_crc)?;
        let cut = found.summary.torn.take();
        let path = dir.join(NAME);
        let file = OpenOptions::new().append(true).create(true).open(&path);
        let mut file = writing(&path, file)?;
        let begun = file.set_len(found.end).and_then(|()| {
            if found.end == 0 {
                let first = signed(&format!("{BEGINS} {manifest_crc:08x}"));
                file.write_all(first.as_bytes())?;
                found.end = first.len() as u64;
            }
            file.sync_all()
        });
        writing(&path, begun)?;
        sync_dir(dir)?;
        Ok((Self { path, file, found, pending: String::new() }, cut))
    }

    pub(super) fn next_offsets(&self) -> BTreeMap<i32, i64> {
        self.found.next_offsets()
    }

    pub(super) fn add(
        &mut self,
        at_ms: i64,
        ends: &BTreeMap<i32, i64>,
    ) -> Result<(), RecordingError> {
        for (partition, end) in ends {
            let next = self.found.summary.partitions.get(partition).map_or(0, |of| of.next_offset);
            if *end < next {
                let (partition, offset) = (*partition, *end);
                return Err(RecordingError::Backwards { partition, offset, next });
            }
        }
        let look = Look { at_ms, ends: ends.clone() };
        self.found.take(&look).expect("no offset goes back");
        self.pending += &look.line();
        Ok(())
    }

    pub(super) fn sync(&mut self) -> Result<(), RecordingError> {
        let written = self.file.write_all(self.pending.as_bytes());
        writing(&self.path, written.and_then(|()| self.file.sync_data()))?;
        self.found.end += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Bytes on disk, and those that wait.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.found.end, self.pending.len() as u64)
    }

    pub(super) fn events(&self) -> u64 {
        self.found.summary.events
    }
}
