//! What is kept of a topic: its events, where they begin, and what is missing between them.

use khaos_control::clock::Clock;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::journal::{Fact, Gap, Journal};
use super::{RecordConfig, RecordError};
use crate::kafka::Offsets;
use crate::kafka::message::{event, stamped_ms};
use crate::recording::{Event, Writer};

/// A recording that grows.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) writer: Writer,
    journal: Journal,
    /// What comes next, by partition.
    pub(super) positions: Vec<i64>,
    pub(super) gaps: Vec<Gap>,
    /// Events of this run.
    pub(super) events: u64,
    max_bytes: Option<u64>,
}

impl Kept {
    pub(super) fn of(writer: Writer, journal: Journal, config: &RecordConfig) -> Self {
        Self {
            writer,
            journal,
            positions: Vec::new(),
            gaps: Vec::new(),
            events: 0,
            max_bytes: config.max_bytes,
        }
    }

    /// Goes on where earlier runs ended; begins with `first`, where there was none. `starts` is where the logs begin.
    pub(super) fn take_up(
        &mut self,
        facts: Vec<Fact>,
        first: Offsets,
        starts: &Offsets,
    ) -> Result<(), RecordError> {
        let mut begun = Offsets::new();
        for fact in facts {
            match fact {
                Fact::From(offsets) => begun.extend(offsets),
                Fact::Gap(gap) => self.gaps.push(gap),
            }
        }
        if begun.is_empty() {
            // A copy may be without its journal. It goes on behind its events all the same, and partitions of which it
            // has none are read from their beginning: more than was asked for, but nothing is missed.
            let on_disk = self.writer.next_offsets();
            let next = |(partition, start): (&i32, &i64)| {
                (*partition, on_disk.get(partition).copied().unwrap_or(*start))
            };
            let first = if on_disk.is_empty() { first } else { starts.iter().map(next).collect() };
            self.journal.add(&Fact::From(first.clone()))?;
            begun = first;
        }
        self.positions = begun.into_values().collect();
        for (partition, next) in self.writer.next_offsets() {
            if let Some(position) = self.positions.get_mut(*partition as usize) {
                *position = (*position).max(*next);
            }
        }
        for gap in &self.gaps {
            if let Some(position) = self.positions.get_mut(gap.partition as usize) {
                *position = (*position).max(gap.to);
            }
        }
        Ok(())
    }

    /// Takes partitions in that the topic has got since: from their first event, whenever they are
    /// noticed. Were there any?
    pub(super) fn note_partitions(&mut self, count: usize) -> Result<bool, RecordError> {
        let known = self.positions.len();
        if count <= known {
            return Ok(false);
        }
        let new: Offsets = (known..count).map(|partition| (partition as i32, 0)).collect();
        self.journal.add(&Fact::From(new))?;
        self.positions.resize(count, 0);
        let topic = &self.writer.manifest().topic;
        tracing::info!(
            "topic '{topic}' has {count} partitions now, {known} before: all are recorded"
        );
        Ok(true)
    }

    /// The log of `partition` begins at `start`: what would have come before is a gap. Is there one?
    pub(super) fn go_on_from(
        &mut self,
        partition: i32,
        start: i64,
        clock: Clock,
    ) -> Result<bool, RecordError> {
        let Some(position) = self.positions.get_mut(partition as usize) else { return Ok(false) };
        if start <= *position {
            return Ok(false);
        }
        let gap = Gap { partition, from: *position, to: start, at_ms: clock.now().0 };
        self.journal.add(&Fact::Gap(gap))?;
        *position = start;
        self.gaps.push(gap);
        let topic = &self.writer.manifest().topic;
        tracing::warn!(
            "a gap in partition {partition} of topic '{topic}': retention deleted offsets {} to {} \
             before they were recorded",
            gap.from,
            start - 1
        );
        Ok(true)
    }

    /// No log is shorter than what was read of it.
    pub(super) fn refuse_replaced(&self, topic: &str, ends: &Offsets) -> Result<(), RecordError> {
        for (partition, position) in (0..).zip(&self.positions) {
            let end = ends.get(&partition).copied().unwrap_or(0);
            if end < *position {
                let (topic, next) = (topic.to_owned(), *position);
                return Err(RecordError::Replaced { topic, partition, end, next });
            }
        }
        Ok(())
    }

    /// All partitions, each where it goes on.
    pub(super) fn assignment(&self) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(self.positions.len());
        for (partition, position) in (0..).zip(&self.positions) {
            list.add_partition_offset(
                &self.writer.manifest().topic,
                partition,
                Offset::Offset(*position),
            )
            .expect("an offset of a log is one of a list");
        }
        list
    }

    /// Events that lie before `ends` and were not read.
    pub(super) fn behind(&self, ends: &Offsets) -> u64 {
        let of = |(partition, end): (&i32, &i64)| {
            let position = self.positions.get(*partition as usize).copied().unwrap_or(0);
            u64::try_from(end - position).unwrap_or(0)
        };
        ends.iter().map(of).sum()
    }

    /// Appends `message`, unless that might be more than the budget, which after a sync it may not be.
    /// Was there room?
    pub(super) fn append(&mut self, message: &BorrowedMessage<'_>) -> Result<bool, RecordError> {
        let Some(event) = event(message) else {
            let after_ms = stamped_ms(message).saturating_add(1);
            let (partition, offset) = (message.partition(), message.offset());
            return Err(RecordError::HeaderName { partition, offset, after_ms });
        };
        if !self.has_room(size(&event)) {
            return Ok(false);
        }
        self.writer.append(&event)?;
        self.events += 1;
        if let Some(position) = self.positions.get_mut(event.partition as usize) {
            *position = event.offset + 1;
        }
        Ok(true)
    }

    /// Adds how long the log is, and brings that to disk. Was there room?
    pub(super) fn look(&mut self, at_ms: i64, ends: Offsets) -> Result<bool, RecordError> {
        if !self.has_room(32 + 24 * ends.len() as u64) {
            return Ok(false);
        }
        let before = self.writer.events();
        self.writer.append_ends(at_ms, &ends)?;
        self.writer.sync()?;
        self.events += self.writer.events() - before;
        self.note_partitions(ends.len())?;
        self.positions = ends.into_values().collect();
        Ok(true)
    }

    /// Is there room for so many more bytes, even if nothing can be compressed?
    fn has_room(&self, bytes: u64) -> bool {
        self.max_bytes.is_none_or(|most| self.writer.bytes_at_most() + bytes <= most)
    }

    /// Brings everything to disk. What may be committed.
    pub(super) fn sync(&mut self) -> Result<Offsets, RecordError> {
        Ok(self.writer.sync()?)
    }
}

/// What an event takes beside its own bytes, and perhaps a frame of its own, at most, bytes.
const FRAME: usize = 512;

/// The most that an event takes on disk, bytes: as if nothing could be compressed.
fn size(event: &Event<'_>) -> u64 {
    let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
    let headers: usize =
        event.headers.iter().map(|header| header.name.len() + length(header.value) + 20).sum();
    (length(event.key) + length(event.value) + headers + FRAME) as u64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::kafka::record::From;
    use crate::recording::{Manifest, Stores, TimestampKind};

    #[test]
    fn a_copy_without_its_journal_goes_on_behind_its_events() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("copy");
        let (topic, timestamps) = ("clicks".to_owned(), TimestampKind::Create);
        let manifest = Manifest { topic, partitions: 2, timestamps, stores: Stores::Events };
        let mut writer = Writer::create(&dir, manifest).unwrap();
        let (key, value, headers) = (None, None, Vec::new());
        writer
            .append(&Event { partition: 0, offset: 41, timestamp_ms: 7, key, value, headers })
            .unwrap();
        let config = RecordConfig {
            topic: "clicks".to_owned(),
            folder: dir.clone(),
            stores: Stores::Events,
            group: "g".to_owned(),
            from: From::End,
            length: None,
            max_bytes: None,
            patience: Duration::from_mins(1),
        };
        let (journal, facts) = Journal::open(&dir).unwrap();
        let mut kept = Kept::of(writer, journal, &config);
        let (ends, starts) = ([(0, 100), (1, 50)].into(), [(0, 3), (1, 10)].into());
        kept.take_up(facts, ends, &starts).unwrap();
        assert_eq!(kept.positions, [42, 10]);
    }
}
