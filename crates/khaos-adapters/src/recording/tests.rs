//! What a recording promises, by what is in its files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use super::*;

/// An event that lives by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owned {
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Owned {
    fn new(partition: i32, offset: i64, timestamp_ms: i64, value: &[u8]) -> Self {
        let value = Some(value.to_vec());
        Self { partition, offset, timestamp_ms, key: None, value, headers: Vec::new() }
    }

    fn of(event: &Event<'_>) -> Self {
        let headers = event
            .headers
            .iter()
            .map(|header| (header.name.to_owned(), header.value.map(<[u8]>::to_vec)));
        Self {
            partition: event.partition,
            offset: event.offset,
            timestamp_ms: event.timestamp_ms,
            key: event.key.map(<[u8]>::to_vec),
            value: event.value.map(<[u8]>::to_vec),
            headers: headers.collect(),
        }
    }

    fn event(&self) -> Event<'_> {
        Event {
            partition: self.partition,
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: self
                .headers
                .iter()
                .map(|(name, value)| Header { name, value: value.as_deref() })
                .collect(),
        }
    }
}

fn manifest(stores: Stores) -> Manifest {
    let topic = "clicks".to_owned();
    Manifest { topic, partitions: 3, timestamps: TimestampKind::Create, stores }
}

fn create(dir: &Path) -> Writer {
    Writer::create(dir, manifest(Stores::Events)).unwrap()
}

fn append(writer: &mut Writer, events: &[Owned]) {
    for event in events {
        writer.append(&event.event()).unwrap();
    }
}

/// Writes `events` into a folder of their own.
fn recorded(events: &[Owned]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recording");
    let mut writer = create(&path);
    append(&mut writer, events);
    writer.finish().unwrap();
    (dir, path)
}

/// Events within the time, each with when it was due, and the error that ended them.
fn read_within(
    recording: &Recording,
    from_ms: i64,
    to_ms: i64,
) -> (Vec<(i64, Owned)>, Option<RecordingError>) {
    let mut read = Vec::new();
    let mut events = match recording.events(from_ms, to_ms) {
        Ok(events) => events,
        Err(error) => return (read, Some(error)),
    };
    loop {
        match events.next() {
            Ok(Some((due_ms, event))) => read.push((due_ms, Owned::of(&event))),
            Ok(None) => return (read, None),
            Err(error) => return (read, Some(error)),
        }
    }
}

fn read(dir: &Path) -> Vec<Owned> {
    let (read, error) = read_within(&Recording::open(dir).unwrap(), i64::MIN, i64::MAX);
    assert!(error.is_none(), "{error:?}");
    read.into_iter().map(|(_, event)| event).collect()
}

fn of_partition(events: &[Owned], partition: i32) -> Vec<&Owned> {
    events.iter().filter(|event| event.partition == partition).collect()
}

/// Chance that is the same every time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Events of three partitions whose timestamps go up and down, with gaps between offsets.
fn many(n: usize) -> Vec<Owned> {
    let mut chance = Chance(7);
    let mut next = [5_i64, 0, 1_000_000_000_000];
    (0..n)
        .map(|i| {
            let partition = chance.below(3) as usize;
            next[partition] += 1 + i64::from(chance.below(10) == 0) * chance.below(100) as i64;
            let at_ms = 1_000_000 + i as i64 * 3 + chance.below(5_000) as i64 - 2_500;
            let value = vec![b'a' + chance.below(26) as u8; chance.below(40) as usize];
            Owned::new(partition as i32, next[partition], at_ms, &value)
        })
        .collect()
}

/// Some MB that do not compress.
fn bulky() -> Vec<Owned> {
    let mut chance = Chance(9);
    let mut events = many(20_000);
    for event in &mut events {
        event.key = Some((0..200).map(|_| chance.below(256) as u8).collect());
    }
    events
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn odd_events_come_back_as_they_were() {
    let headers = vec![
        ("trace".to_owned(), Some(b"1".to_vec())),
        ("trace".to_owned(), None),
        (String::new(), Some(Vec::new())),
        ("ümläut".to_owned(), Some(vec![0, 255])),
    ];
    let plain = Owned::new(1, 0, 0, b"x");
    let huge: Vec<u8> =
        (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let events = [
        Owned { value: None, ..plain.clone() },
        Owned { offset: 1, value: Some(Vec::new()), key: Some(Vec::new()), ..plain.clone() },
        Owned { offset: 5, headers, key: Some(b"k".to_vec()), ..plain.clone() },
        Owned { offset: 6, value: Some(huge), ..plain.clone() },
        Owned { offset: 7, timestamp_ms: -1, ..plain.clone() },
        Owned { offset: 8, timestamp_ms: i64::MIN, ..plain.clone() },
        Owned { offset: 9, timestamp_ms: i64::MAX - 1, ..plain.clone() },
        Owned { offset: i64::MAX - 1, timestamp_ms: -5_000, ..plain.clone() },
    ];
    let (_dir, path) = recorded(&events);
    assert_eq!(read(&path), events);
    let recording = Recording::open(&path).unwrap();
    assert_eq!(recording.manifest(), &manifest(Stores::Events));
    let summary = recording.summary();
    assert_eq!(summary.events, 8);
    assert_eq!(summary.span_ms, Some((i64::MIN, i64::MAX - 1)));
    assert_eq!(
        summary.partitions[&1],
        PartitionSummary { first_offset: 0, next_offset: i64::MAX, events: 8 }
    );
    let verified = recording.verify(|_| {}).unwrap();
    assert_eq!((verified.events, verified.torn), (8, None));
    assert_eq!(verified.bytes, fs::metadata(path.join("00000000.segment")).unwrap().len());
}

#[test]
fn partitions_are_merged_by_time_and_each_is_in_order() {
    let events = many(20_000);
    let (_dir, path) = recorded(&events);
    let recording = Recording::open(&path).unwrap();
    let (read, error) = read_within(&recording, i64::MIN, i64::MAX);
    assert!(error.is_none());
    assert!(read.is_sorted_by_key(|(due_ms, _)| *due_ms));
    for partition in 0..3 {
        let mut latest_ms = i64::MIN;
        let expected: Vec<(i64, Owned)> = of_partition(&events, partition)
            .into_iter()
            .map(|event| {
                latest_ms = latest_ms.max(event.timestamp_ms);
                (latest_ms, event.clone())
            })
            .collect();
        let got: Vec<(i64, Owned)> =
            read.iter().filter(|(_, event)| event.partition == partition).cloned().collect();
        assert_eq!(got, expected, "partition {partition}");
    }
}

#[test]
fn seeking_by_time_is_the_same_as_reading_all_of_it() {
    let events = many(20_000);
    let (_dir, path) = recorded(&events);
    let recording = Recording::open(&path).unwrap();
    let (all, _) = read_within(&recording, i64::MIN, i64::MAX);
    let mut chance = Chance(1);
    for _ in 0..60 {
        let from_ms = 990_000 + chance.below(80_000) as i64;
        let to_ms = from_ms + chance.below(20_000) as i64 - 100;
        let mut expected: Vec<(i64, Owned)> = all
            .iter()
            .filter(|(_, event)| (from_ms..to_ms).contains(&event.timestamp_ms))
            .map(|(due_ms, event)| ((*due_ms).min(to_ms - 1), event.clone()))
            .collect();
        expected.sort_by_key(|(due_ms, event)| (*due_ms, event.partition));
        let (read, error) = read_within(&recording, from_ms, to_ms);
        assert!(error.is_none());
        assert!(read == expected, "{from_ms}..{to_ms}: {} of {}", read.len(), expected.len());
    }
}

#[test]
fn what_is_left_out_does_not_hold_up_what_follows_it() {
    let far_ms = 4_000_000_000_000;
    let events = [(0, 1_000), (1, far_ms), (2, 2_000), (3, 9_000)]
        .map(|(offset, at_ms)| Owned::new(0, offset, at_ms, b""));
    let (_dir, path) = recorded(&events);
    let recording = Recording::open(&path).unwrap();
    let due = |from_ms, to_ms| {
        let (read, error) = read_within(&recording, from_ms, to_ms);
        assert!(error.is_none());
        read.iter().map(|(due_ms, event)| (*due_ms, event.offset)).collect::<Vec<_>>()
    };
    assert_eq!(due(0, 10_000), [(1_000, 0), (9_999, 2), (9_999, 3)]);
    // Also where it lies before the stretch; where it is in it, it is waited for.
    assert_eq!(due(1_500, 10_000), [(9_999, 2), (9_999, 3)]);
    assert_eq!(due(0, i64::MAX), [(1_000, 0), (far_ms, 1), (far_ms, 2), (far_ms, 3)]);
}

#[test]
fn rates_count_every_event_in_its_second() {
    let mut events = many(10_000);
    events.push(Owned::new(0, i64::from(u32::MAX), -1, b""));
    let (_dir, path) = recorded(&events);
    let mut expected = BTreeMap::new();
    for event in &events {
        *expected.entry(event.timestamp_ms.div_euclid(1_000)).or_insert(0) += 1;
    }
    let rates = Recording::open(&path).unwrap().rates().unwrap();
    assert_eq!(rates, expected.into_iter().collect::<Vec<(i64, u64)>>());
    assert_eq!(rates[0], (-1, 1), "a second before 1970");
}

#[test]
fn a_recording_goes_on_where_it_ended() {
    let events = many(9_000);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recording");
    let mut writer = create(&path);
    append(&mut writer, &events[..3_000]);
    writer.finish().unwrap();
    for (i, part) in events[3_000..].chunks(1_000).enumerate() {
        let (mut writer, cut) = Writer::resume(&path).unwrap();
        assert_eq!(cut, None);
        let before = &events[..3_000 + 1_000 * i];
        for partition in 0..3 {
            let next = of_partition(before, partition).last().unwrap().offset + 1;
            assert_eq!(writer.next_offsets()[&partition], next);
        }
        assert_eq!(writer.events(), before.len() as u64);
        append(&mut writer, part);
        assert!(writer.bytes() < writer.bytes_at_most());
        let at_most = writer.bytes_at_most();
        // Finished or not, but synced.
        if i % 2 == 0 {
            writer.finish().unwrap();
            let bytes = Recording::open(&path).unwrap().summary().bytes;
            assert!(bytes <= at_most, "{bytes} are more than {at_most}");
        } else {
            writer.sync().unwrap();
        }
    }
    let read = read(&path);
    assert_eq!(read.len(), events.len());
    for partition in 0..3 {
        assert_eq!(of_partition(&read, partition), of_partition(&events, partition));
    }
    let verified = Recording::open(&path).unwrap().verify(|_| {}).unwrap();
    assert_eq!((verified.events, verified.torn), (9_000, None));
}

#[test]
fn what_was_not_synced_is_not_there_and_what_was_is() {
    let events = many(5_000);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recording");
    let mut writer = create(&path);
    append(&mut writer, &events[..100]);
    let synced = writer.sync().unwrap();
    assert_eq!(&synced, writer.next_offsets());
    append(&mut writer, &events[100..200]);
    // Whoever reads meanwhile sees what was synced.
    assert_eq!(read(&path).len(), 100);
    assert!(Recording::open(&path).unwrap().is_written().unwrap());
    drop(writer);
    let (writer, cut) = Writer::resume(&path).unwrap();
    assert_eq!((writer.next_offsets(), writer.events(), cut), (&synced, 100, None));
}

#[test]
fn what_is_synced_beside_is_in_the_files_when_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recording");
    let (mut writer, events) = (create(&path), many(5_000));
    let (tell, told) = channel();
    for some in events.chunks(700) {
        append(&mut writer, some);
        let (tell, path) = (tell.clone(), path.clone());
        let look = move || Recording::open(&path).unwrap().summary();
        writer.sync_then(move |offsets| tell.send((offsets, look())).unwrap()).unwrap();
    }
    writer.finish().unwrap();
    drop(tell);
    let all: Vec<_> = told.iter().collect();
    assert_eq!(all.len(), 8);
    for (i, (offsets, summary)) in all.iter().enumerate() {
        let written = events.len().min(700 * (i + 1));
        assert!(summary.events >= written as u64, "{} of {written}", summary.events);
        for (partition, next) in offsets {
            assert!(summary.partitions[partition].next_offset >= *next);
        }
    }
    let read = read(&path);
    assert_eq!(read.len(), events.len());
    for partition in 0..3 {
        assert!(of_partition(&read, partition) == of_partition(&events, partition));
    }
}

/// A sealed segment and an open one, in which every event was synced by itself. What was on disk after
/// each: length of the open segment, events in all.
fn small() -> (tempfile::TempDir, PathBuf, Vec<Owned>, Vec<(u64, usize)>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recording");
    let events = many(14);
    let mut writer = create(&path);
    append(&mut writer, &events[..8]);
    writer.finish().unwrap();
    let (mut writer, _) = Writer::resume(&path).unwrap();
    let mut synced = vec![(0, 8)];
    for (i, event) in (9..).zip(&events[8..]) {
        append(&mut writer, std::slice::from_ref(event));
        writer.sync().unwrap();
        synced.push((fs::metadata(path.join("00000001.segment")).unwrap().len(), i));
    }
    (dir, path, events, synced)
}

#[test]
fn a_crash_at_any_byte_loses_nothing_that_was_synced_before() {
    let (dir, path, events, synced) = small();
    let newest = "00000001.segment";
    let whole = fs::read(path.join(newest)).unwrap();
    let broken = dir.path().join("broken");
    for length in 0..=whole.len() as u64 {
        copy(&path, &broken);
        fs::write(broken.join(newest), &whole[..length as usize]).unwrap();
        let (end, left) = *synced.iter().rev().find(|(end, _)| *end <= length).unwrap();
        // The segment's own header was synced before any event.
        let end = if end == 0 && length >= segment::HEADER { segment::HEADER } else { end };
        let expected = Cut { file: broken.join(newest), at: end, bytes: length - end };
        let expected = (length > end).then_some(expected);
        assert_eq!(Recording::open(&broken).unwrap().summary().torn, expected, "{length}");
        let (mut writer, cut) = Writer::resume(&broken).unwrap();
        assert_eq!(cut, expected, "{length}");
        assert_eq!(writer.events(), left as u64);
        // What was lost is recorded again.
        append(&mut writer, &events[left..]);
        writer.finish().unwrap();
        let read = read(&broken);
        for partition in 0..3 {
            assert_eq!(
                of_partition(&read, partition),
                of_partition(&events, partition),
                "{length}"
            );
        }
        assert_eq!(Recording::open(&broken).unwrap().verify(|_| {}).unwrap().torn, None);
    }
}

#[test]
fn a_flipped_bit_anywhere_is_an_error_or_a_cut_and_never_a_wrong_event() {
    let (dir, path, events, synced) = small();
    let broken = dir.path().join("broken");
    // Where the last frame begins: it is the first of which no other says that it was on disk.
    let last = synced[synced.len() - 2].0;
    let (mut errors, mut cuts) = (0, 0);
    let newest = "00000001.segment";
    for name in ["manifest.json", "00000000.segment", newest] {
        let whole = fs::read(path.join(name)).unwrap();
        for place in 0..whole.len() {
            copy(&path, &broken);
            let mut bytes = whole.clone();
            bytes[place] ^= 1 << (place % 8);
            fs::write(broken.join(name), &bytes).unwrap();
            let said = format!("{name}, byte {place}");
            let recording = match Recording::open(&broken) {
                Ok(recording) => recording,
                Err(error) => {
                    assert!(error.to_string().contains(name), "{said}: {error}");
                    assert!(name != newest || (place as u64) < last, "{said}: {error}");
                    assert!(Writer::resume(&broken).is_err(), "{said}");
                    errors += 1;
                    continue;
                }
            };
            assert_eq!(recording.manifest(), &manifest(Stores::Events), "{said}");
            let (read, error) = read_within(&recording, i64::MIN, i64::MAX);
            let read: Vec<Owned> = read.into_iter().map(|(_, event)| event).collect();
            for partition in 0..3 {
                let (read, written) =
                    (of_partition(&read, partition), of_partition(&events, partition));
                assert!(written.starts_with(&read), "{said}");
            }
            let verified = recording.verify(|_| {});
            if let Some(error) = error {
                assert!(error.to_string().contains(name), "{said}: {error}");
                assert!(name != newest || (place as u64) < last, "{said}: {error}");
                assert!(verified.is_err(), "{said}");
                errors += 1;
            } else if let Some(torn) = verified.unwrap().torn {
                assert_eq!((&torn.file, torn.at), (&broken.join(name), last), "{said}");
                let (writer, cut) = Writer::resume(&broken).unwrap();
                assert_eq!(cut, Some(torn), "{said}");
                assert_eq!(writer.events(), read.len() as u64);
                cuts += 1;
            } else {
                assert_eq!(read.len(), events.len(), "{said}");
                assert_eq!(name, "manifest.json", "{said}");
            }
        }
    }
    assert!(errors > 1_000 && cuts > 50, "{errors} errors, {cuts} cuts");
}

fn ends(of: [i64; 2]) -> BTreeMap<i32, i64> {
    (0..).zip(of).collect()
}

/// Looks a second apart, the last one late.
fn looks(dir: &Path) -> PathBuf {
    let path = dir.join("offsets");
    let mut writer = Writer::create(&path, manifest(Stores::Offsets)).unwrap();
    for (at_ms, of) in
        [(10_500, [100, 7]), (11_500, [110, 7]), (12_500, [110, 17]), (14_500, [120, 27])]
    {
        writer.append_ends(at_ms, &ends(of)).unwrap();
        writer.sync().unwrap();
    }
    writer.finish().unwrap();
    path
}

#[test]
fn offsets_alone_give_rates_and_no_events() {
    let dir = tempfile::tempdir().unwrap();
    let path = looks(dir.path());
    let recording = Recording::open(&path).unwrap();
    let summary = recording.summary();
    assert_eq!((summary.events, summary.span_ms), (40, Some((10_500, 14_500))));
    assert_eq!(
        summary.partitions[&1],
        PartitionSummary { first_offset: 7, next_offset: 27, events: 20 }
    );
    // 10 in each of two seconds from half to half, then 20 in two seconds.
    assert_eq!(recording.rates().unwrap(), [(10, 5), (11, 10), (12, 10), (13, 10), (14, 5)]);
    let refused = recording.events(0, 1).unwrap_err().to_string();
    assert!(refused.contains("in the topic itself"), "{refused}");
    let (mut writer, cut) = Writer::resume(&path).unwrap();
    assert_eq!((writer.next_offsets(), cut), (&ends([120, 27]), None));
    let error = writer.append(&Owned::new(0, 200, 0, b"").event()).unwrap_err();
    assert!(matches!(error, RecordingError::OffsetsOnly { .. }), "{error}");
    let error = writer.append_ends(15_000, &ends([119, 27])).unwrap_err();
    assert!(matches!(error, RecordingError::Backwards { .. }), "{error}");
    // A new partition, and a clock that was set back.
    writer.append_ends(14_000, &BTreeMap::from([(0, 121), (1, 27), (2, 3)])).unwrap();
    writer.finish().unwrap();
    let recording = Recording::open(&path).unwrap();
    assert_eq!(recording.summary().events, 44);
    assert_eq!(recording.rates().unwrap().last(), Some(&(14, 9)));
}

#[test]
fn offsets_survive_a_crash_at_any_byte_and_no_flipped_bit_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let path = looks(dir.path());
    let rates = Recording::open(&path).unwrap().rates().unwrap();
    let name = "offsets.log";
    let whole = fs::read(path.join(name)).unwrap();
    let broken = dir.path().join("broken");
    for length in 0..=whole.len() {
        copy(&path, &broken);
        fs::write(broken.join(name), &whole[..length]).unwrap();
        let kept = whole[..length].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let (at, bytes) = (kept as u64, (length - kept) as u64);
        let expected = (bytes > 0).then(|| Cut { file: broken.join(name), at, bytes });
        assert_eq!(Recording::open(&broken).unwrap().summary().torn, expected, "{length}");
        let (mut writer, cut) = Writer::resume(&broken).unwrap();
        assert_eq!(cut, expected, "{length}");
        writer.append_ends(20_000, &ends([500, 500])).unwrap();
        writer.finish().unwrap();
        let verified = Recording::open(&broken).unwrap().verify(|_| {}).unwrap();
        let looks = whole[..length].split(|byte| *byte == b'\n').count() - 1;
        let events = if looks > 1 { 400 + 493 } else { 0 };
        assert_eq!((verified.events, verified.torn), (events, None), "{length}");
    }
    let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    for place in 0..whole.len() {
        copy(&path, &broken);
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << (place % 7);
        fs::write(broken.join(name), &bytes).unwrap();
        match Recording::open(&broken) {
            Err(error) => assert!(error.to_string().contains(name), "{place}: {error}"),
            Ok(recording) => {
                let torn = recording.summary().torn.unwrap();
                // A line whose end is hurt is one with the last.
                assert!(place + 1 >= last, "{place}: {torn}");
                assert!(recording.rates().unwrap().len() < rates.len());
            }
        }
    }
}

/// The newest segment may be sealed: then its index is behind its frames, and may be all that is hurt.
#[test]
fn without_its_index_the_newest_segment_is_still_there() {
    let events = many(50);
    let (_dir, path) = recorded(&events);
    let file = path.join("00000000.segment");
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&file, bytes).unwrap();
    assert_eq!(read(&path).len(), 50);
    let (writer, cut) = Writer::resume(&path).unwrap();
    assert!(cut.is_some());
    writer.finish().unwrap();
    assert_eq!(Recording::open(&path).unwrap().verify(|_| {}).unwrap().events, 50);
}

#[test]
fn a_missing_segment_is_named() {
    let (_dir, path, ..) = small();
    fs::remove_file(path.join("00000000.segment")).unwrap();
    let error = Recording::open(&path).unwrap_err().to_string();
    assert!(error.contains("00000000.segment is missing"), "{error}");
}

#[test]
fn a_budget_counts_what_waits_for_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recording");
    let mut writer = create(&path);
    // Keys of 200 bytes that do not compress.
    let (mut appended, mut most) = (0, 0);
    for event in bulky() {
        writer.append(&event.event()).unwrap();
        appended += 200;
        most = writer.bytes_at_most();
        assert!(most >= appended, "{most} bytes at most, of {appended}");
    }
    writer.finish().unwrap();
    let written = Recording::open(&path).unwrap().summary().bytes;
    assert!(written >= appended && written <= most, "{written}, and {most} at most");
}

#[test]
fn segments_end_when_they_are_full() {
    let mut chance = Chance(3);
    let value: Vec<u8> = (0..1_000_000).map(|_| chance.below(256) as u8).collect();
    let events: Vec<Owned> =
        (0..140).map(|i| Owned::new(i % 2, i64::from(i), i64::from(i), &value)).collect();
    let (_dir, path) = recorded(&events);
    let lengths: Vec<u64> =
        (0..3).map(|i| fs::metadata(path.join(format!("{i:08}.segment"))).unwrap().len()).collect();
    assert!(lengths[..2].iter().all(|length| (64 << 20..66 << 20).contains(length)), "{lengths:?}");
    assert!(read(&path) == events);
}

#[test]
fn one_writer_at_a_time_and_a_folder_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recording");
    let none = Writer::resume(&path).unwrap_err().to_string();
    assert!(none.contains("holds no recording"), "{none}");
    let writer = create(&path);
    let second = Writer::resume(&path).unwrap_err();
    assert!(matches!(second, RecordingError::Locked { .. }), "{second}");
    let again = Writer::create(&path, manifest(Stores::Events)).unwrap_err();
    assert!(matches!(again, RecordingError::NotEmpty { .. }), "{again}");
    drop(writer);
    assert!(!Recording::open(&path).unwrap().is_written().unwrap());
    Writer::resume(&path).unwrap().0.finish().unwrap();
    assert_eq!(Recording::open(&path).unwrap().summary(), Summary::default());
}

#[test]
fn what_was_killed_before_it_began_begins() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("khaos-recording.lock"), "").unwrap();
    fs::write(dir.path().join("manifest.json.part"), "{\"version\": 1, ").unwrap();
    fs::create_dir(dir.path().join("lost+found")).unwrap();
    assert!(!Manifest::is_in(dir.path()));
    let mut writer = create(dir.path());
    assert!(Manifest::is_in(dir.path()));
    let events = many(100);
    append(&mut writer, &events);
    writer.finish().unwrap();
    assert_eq!(Recording::open(dir.path()).unwrap().summary().events, 100);
    let of_others = tempfile::tempdir().unwrap();
    fs::write(of_others.path().join("thesis.tex"), "").unwrap();
    let refused = Writer::create(of_others.path(), manifest(Stores::Events)).unwrap_err();
    assert!(matches!(refused, RecordingError::NotEmpty { .. }), "{refused}");
}

#[test]
fn what_cannot_be_is_refused_and_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recording");
    let mut writer = create(&path);
    append(&mut writer, &[Owned::new(0, 10, 0, b"")]);
    for event in [Owned::new(0, 10, 0, b""), Owned::new(0, 9, 0, b""), Owned::new(1, -1, 0, b"")] {
        let error = writer.append(&event.event()).unwrap_err();
        assert!(matches!(error, RecordingError::Backwards { .. }), "{error}");
    }
    let error = writer.append(&Owned::new(-1, 0, 0, b"").event()).unwrap_err();
    assert!(matches!(error, RecordingError::NoPartition { partition: -1 }), "{error}");
    let error = writer.append_ends(0, &BTreeMap::new()).unwrap_err();
    assert!(matches!(error, RecordingError::EventsOnly { .. }), "{error}");
    // A topic may get more partitions than it had.
    assert_eq!(writer.next_offsets(), &BTreeMap::from([(0, 11)]));
    append(&mut writer, &[Owned::new(7, 0, 0, b""), Owned::new(0, 11, 0, b"")]);
    writer.finish().unwrap();
    assert_eq!(read(&path).len(), 3);
}

#[test]
fn a_later_version_is_not_misread() {
    let (_dir, path) = recorded(&many(3));
    let file = path.join("manifest.json");
    let text = fs::read_to_string(&file).unwrap().replace("\"version\": 1", "\"version\": 2");
    fs::write(&file, text).unwrap();
    let error = Recording::open(&path).unwrap_err().to_string();
    assert!(error.contains("version 2") && error.contains("newer Khaos"), "{error}");
}

/// In a process that may not write files beyond a size, which is what a full disk looks like.
#[test]
fn a_full_disk_is_one_error_and_what_was_synced_is_there() {
    for how in ["waiting", "beside", "once"] {
        until_it_is_full(how);
    }
}

/// Syncs every 100 events and waits for it, or does not, or syncs but once.
fn until_it_is_full(how: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recording");
    // 2,000 blocks of 512 bytes; the signal that would kill it is ignored.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 2000; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "recording::tests::until_the_disk_is_full", "--ignored", "--nocapture"])
        .env("KHAOS_TEST_RECORDING", &path)
        .env("KHAOS_TEST_SYNC", how)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let synced: usize =
        said.split("synced ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(synced > 0, "{said}");
    let events = bulky();
    let (mut writer, _cut) = Writer::resume(&path).unwrap();
    let left = writer.events() as usize;
    assert!(left >= synced, "{left} of {synced}");
    append(&mut writer, &[Owned::new(2, i64::MAX - 1, 0, b"room again")]);
    writer.finish().unwrap();
    let mut read = read(&path);
    let again = read.iter().position(|event| event.offset == i64::MAX - 1).unwrap();
    assert_eq!(read.remove(again).value.unwrap(), b"room again");
    for partition in 0..3 {
        let (read, written) = (of_partition(&read, partition), of_partition(&events, partition));
        assert!(written.starts_with(&read));
        let synced = of_partition(&events[..synced], partition).len();
        assert!(read.len() >= synced);
    }
    Recording::open(&path).unwrap().verify(|_| {}).unwrap();
}

#[test]
#[ignore = "runs in a process of its own, in a_full_disk_is_one_error_and_what_was_synced_is_there"]
fn until_the_disk_is_full() {
    let Some(path) = std::env::var_os("KHAOS_TEST_RECORDING") else { return };
    let path = PathBuf::from(path);
    let how = std::env::var("KHAOS_TEST_SYNC").unwrap();
    let mut writer = create(&path);
    let synced = Arc::new(AtomicUsize::new(0));
    let events = bulky();
    let told = events.iter().enumerate().find_map(|(i, event)| {
        let beside = Arc::clone(&synced);
        let is_due = i > 0 && i % 100 == 0;
        let written = match how.as_str() {
            "waiting" if is_due => writer.sync().map(|_| synced.store(i, Ordering::Relaxed)),
            "beside" if is_due => writer.sync_then(move |_| beside.store(i, Ordering::Relaxed)),
            // Then only frames that are full reach the disk.
            "once" if i == 100 => writer.sync().map(|_| synced.store(i, Ordering::Relaxed)),
            _ => Ok(()),
        };
        written.and_then(|()| writer.append(&event.event())).err()
    });
    // All of it may be waiting before the disk is full.
    let error = told.or_else(|| writer.sync().err()).expect("there is no room for everything");
    let said = error.to_string();
    assert!(said.contains("00000000.segment") && said.contains("resume"), "{said}");
    for again in [writer.sync().map(drop), writer.append(&events[0].event())] {
        assert!(matches!(again, Err(RecordingError::Failed { .. })), "{again:?}");
    }
    println!("synced {} events", synced.load(Ordering::Relaxed));
}
