//! How far a job's Kafka sources have read: by partition, over time.
//!
//! Each source reports the offset of the last record that it handed on, −1 as long as there is none since it
//! started. Values carry no time and may be old (see `metrics`), but the time that the source has been
//! running is fetched with them: how long ago it began is learnt from the freshest answer, so each report
//! has a time of its own, however late it is read. Time that went back is another life of the source, and so
//! is time that began too late to be that of the last report.
//!
//! Between two reports of a life the position is on the line between them. After the last one of a life it
//! stays where it was, for as long as the job is known to be down, and is unknown after that: a source of
//! which nothing is heard may well be reading.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use khaos_control::core::job::{EngineJobId, JobStatus};
use khaos_control::core::units::Timestamp;
use khaos_control::ports::PortError;

use super::deployment::{name, status};
use super::messages::{JobDetails, Metric};
use super::metrics::{FETCHED_MS, PERIOD_MS, REMEMBERED_S, TIMES, values};
use super::rest::Rest;
use super::task::{Beat, Task};

/// The longest line between two reports, s: at its defaults Flink fetches values every 10 s, seen every 15.
const LONGEST_LINE_S: f64 = 20.0;
/// Looks after which names are looked up again: partitions are added, and found late.
const LOOK_AGAIN: u32 = 12;

/// Follows one deployment for as long as it is there. Dropping it stops it.
#[derive(Debug)]
pub(super) struct PositionFollower {
    pub(super) positions: Arc<Mutex<Positions>>,
    _task: Task,
}

impl PositionFollower {
    pub(super) fn start(rest: Rest, id: EngineJobId) -> Self {
        let positions: Arc<Mutex<Positions>> = Arc::default();
        let task = Task::of(follow(rest, id, Arc::clone(&positions)));
        Self { positions, _task: task }
    }
}

/// What the Kafka sources of one deployment reported, each by its name in metrics.
#[derive(Debug, Default)]
pub(crate) struct Positions {
    sources: BTreeMap<Arc<str>, Track>,
    /// When the job was seen to be down.
    down: Vec<Timestamp>,
}

/// What one source reported, over all of its lives.
#[derive(Debug, Default)]
struct Track {
    /// When each life began, as far as that is known: not later than the freshest answer says, ms.
    began_ms: Vec<f64>,
    reports: Vec<Report>,
}

#[derive(Debug)]
struct Report {
    /// Which life.
    life: usize,
    /// How long it had lasted, ms.
    ran_ms: f64,
    /// By topic and partition.
    next: BTreeMap<Arc<str>, BTreeMap<i32, Next>>,
}

/// A partition, its topic written as in metrics: with underscores for dots, between which Kafka, too, does
/// not tell where it compares names.
type Partition = (Arc<str>, i32);

/// What a source reads next of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// This offset.
    Offset(i64),
    /// It has read nothing in this life; this one an earlier life would have read next, if that is known.
    Untold(Option<i64>),
}

/// What a source reported around an instant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Around<'a> {
    before: &'a Report,
    /// When that was.
    pub(crate) at: Timestamp,
    /// The report after, of the same life, and how far on the way to it the instant is, 0 to 1.
    after: Option<(&'a Report, f64)>,
}

impl Around<'_> {
    /// What was to be read next, by the last report; `None` of a partition that it does not name.
    pub(crate) fn reported(&self, topic: &str, number: i32) -> Option<Next> {
        self.before.of(topic, number)
    }

    /// What was to be read next where the last report says `from`: not whole on the line to the next one.
    pub(crate) fn moved_on(&self, topic: &str, number: i32, from: i64) -> f64 {
        match self.after.and_then(|(after, share)| Some((after.of(topic, number)?, share))) {
            Some((Next::Offset(to), share)) if to > from => {
                from as f64 + share * (to - from) as f64
            }
            _ => from as f64,
        }
    }
}

impl Report {
    fn of(&self, topic: &str, number: i32) -> Option<Next> {
        self.next.get(topic)?.get(&number).copied()
    }
}

impl Positions {
    /// Which source was seen to read which topic, as metrics write both.
    pub(crate) fn readers(&self) -> BTreeSet<(Arc<str>, Arc<str>)> {
        let mut readers = BTreeSet::new();
        for (source, track) in &self.sources {
            let topics = track.reports.iter().flat_map(|report| report.next.keys());
            readers.extend(topics.map(|topic| (Arc::clone(source), Arc::clone(topic))));
        }
        readers
    }

    /// What `source` reported around `at`; `None` when that is not known.
    pub(crate) fn around(&self, source: &str, at: Timestamp) -> Option<Around<'_>> {
        let track = self.sources.get(source)?;
        let reports = &track.reports;
        let seen = reports.partition_point(|report| track.at(report) <= at);
        let before = &reports[seen.checked_sub(1)?];
        let reported_at = track.at(before);
        let around = |after| Some(Around { before, at: reported_at, after });
        match reports.get(seen) {
            _ if reported_at == at => around(None),
            Some(next) if next.life == before.life => {
                let line_s = track.at(next).secs_since(reported_at);
                let share = at.secs_since(reported_at) / line_s;
                if line_s > LONGEST_LINE_S { None } else { around(Some((next, share))) }
            }
            next => {
                let until = next.map(|next| track.at(next));
                let began = next.map(|next| Timestamp(track.began_ms[next.life] as i64));
                let down = self.down.iter().filter(|down| until.is_none_or(|until| **down < until));
                let down_until = down.copied().max().max(began);
                if down_until.is_some_and(|until| at <= until) { around(None) } else { None }
            }
        }
    }

    /// Takes in that the job was down at `now`.
    fn was_down(&mut self, now: Timestamp) {
        self.down.push(now);
        self.forget(now);
    }

    /// Takes in what `source` tells at `now`: how long it has been running, and the last offset that it
    /// read of each partition. What it has told before is no news.
    fn take_in(
        &mut self,
        source: &Arc<str>,
        now: Timestamp,
        ran_ms: f64,
        last: impl IntoIterator<Item = (Arc<str>, i32, i64)>,
    ) {
        let track = self.sources.entry(Arc::clone(source)).or_default();
        let before = track.reports.last();
        if before.is_some_and(|before| before.ran_ms.to_bits() == ran_ms.to_bits()) {
            return;
        }
        let began_ms = now.0 as f64 - ran_ms;
        let goes_on = |before: &&Report| {
            let reported = track.at(before);
            let late_ms = began_ms - track.began_ms[before.life];
            // A job that is down need not take all of its sources with it: one that lives on began before.
            let ended = began_ms >= reported.0 as f64 && self.down.last() > Some(&reported);
            before.ran_ms < ran_ms && late_ms <= 1_000.0 * LONGEST_LINE_S && !ended
        };
        let life = if let Some(before) = before.filter(goes_on) {
            let began = &mut track.began_ms[before.life];
            *began = began.min(began_ms);
            before.life
        } else {
            track.began_ms.push(began_ms);
            track.began_ms.len() - 1
        };
        let mut next: BTreeMap<Arc<str>, BTreeMap<i32, Next>> = BTreeMap::new();
        for (topic, number, last) in last {
            let told = match (last, before.and_then(|before| before.of(&topic, number))) {
                (0.., _) => Next::Offset(last + 1),
                (_, Some(Next::Offset(earlier))) => Next::Untold(Some(earlier)),
                (_, earlier) => earlier.unwrap_or(Next::Untold(None)),
            };
            next.entry(topic).or_default().insert(number, told);
        }
        track.reports.push(Report { life, ran_ms, next });
        self.forget(now);
    }

    /// Forgets what is too old for anybody to ask, but for the last report: it may have to stand for long.
    fn forget(&mut self, now: Timestamp) {
        let from = now.plus_secs(-REMEMBERED_S);
        self.down.drain(..self.down.partition_point(|at| *at < from));
        for track in self.sources.values_mut() {
            let old = track.reports.partition_point(|report| track.at(report) < from);
            track.reports.drain(..old.min(track.reports.len().saturating_sub(1)));
        }
    }
}

impl Track {
    fn at(&self, report: &Report) -> Timestamp {
        Timestamp((self.began_ms[report.life] + report.ran_ms).round() as i64)
    }
}

/// What the Kafka sources of a deployment report at one moment: by source and topic, as metrics write both, the
/// last offset of each partition, −1 where there is none since the source started.
pub(crate) type Reported = BTreeMap<Partitions, BTreeMap<i32, i64>>;
/// The partitions of a topic in a source.
type Partitions = (Arc<str>, Arc<str>);

/// Asks once, which takes a second.
pub(super) async fn reported(rest: &Rest, id: &EngineJobId) -> Result<Reported, PortError> {
    let job: JobDetails = rest.get(&format!("/jobs/{id}"), &name(id)).await?;
    let sources = find(rest, id, &job).await?;
    let mut reported = Reported::new();
    for (source, told) in fetched(rest, id, &sources).await? {
        for (topic, number, last) in source.last_of(&told) {
            reported.entry((Arc::clone(&source.name), topic)).or_default().insert(number, last);
        }
    }
    Ok(reported)
}

async fn follow(rest: Rest, id: EngineJobId, positions: Arc<Mutex<Positions>>) {
    let mut watched: Option<Watched> = None;
    let mut beat = Beat::every(PERIOD_MS, rest.clock());
    loop {
        // Of what nobody answers nothing is known, which shows by itself.
        if let Err(error) = look(&rest, &id, &mut watched, &positions).await {
            tracing::debug!(job = %id, "positions are not told: {error}");
            watched = None;
        }
        beat.wait().await;
    }
}

/// Which metrics are read.
#[derive(Debug, Default)]
struct Watched {
    sources: Vec<Source>,
    looks: u32,
}

#[derive(Debug)]
struct Source {
    name: Arc<str>,
    vertex: String,
    parallelism: u32,
    /// By the metric's name.
    partitions: BTreeMap<String, Partition>,
}

async fn look(
    rest: &Rest,
    id: &EngineJobId,
    watched: &mut Option<Watched>,
    positions: &Mutex<Positions>,
) -> Result<(), PortError> {
    let job: JobDetails = rest.get(&format!("/jobs/{id}"), &name(id)).await?;
    match status(&job) {
        JobStatus::Running => {}
        JobStatus::Restarting => {
            positions.lock().unwrap_or_else(PoisonError::into_inner).was_down(rest.clock().now());
            *watched = None;
            return Ok(());
        }
        JobStatus::Ended | JobStatus::Unknown => return Ok(()),
    }
    if watched.as_ref().is_none_or(|watched| watched.looks >= LOOK_AGAIN) {
        *watched = Some(Watched { sources: find(rest, id, &job).await?, looks: 0 });
    }
    let Some(Watched { sources, looks }) = watched else { return Ok(()) };
    *looks += 1;
    let mut silent = sources.is_empty();
    for (source, told) in fetched(rest, id, sources).await? {
        let now = rest.clock().now();
        let sum = |id: &str| told.iter().find(|metric| metric.id == id).and_then(|m| m.sum);
        let ran_ms: Option<f64> = TIMES.into_iter().map(sum).sum();
        let Some(ran_ms) = ran_ms else {
            silent = true;
            continue;
        };
        let ran_ms = f64::from(rest.clock().speed()) * ran_ms / f64::from(source.parallelism);
        let mut positions = positions.lock().unwrap_or_else(PoisonError::into_inner);
        positions.take_in(&source.name, now, ran_ms, source.last_of(&told));
    }
    if silent {
        // A name that nobody has any more empties the whole answer.
        *watched = None;
    }
    Ok(())
}

/// What each of `sources` tells. Takes a second: the first question makes Flink fetch, the second one is answered
/// with what was fetched.
async fn fetched<'a>(
    rest: &Rest,
    id: &EngineJobId,
    sources: &'a [Source],
) -> Result<Vec<(&'a Source, Vec<Metric>)>, PortError> {
    for source in sources {
        let _ = read(rest, id, source).await?;
    }
    rest.clock().sleep_until(rest.clock().now().plus_millis(FETCHED_MS)).await;
    let mut fetched = Vec::new();
    for source in sources {
        fetched.push((source, read(rest, id, source).await?));
    }
    Ok(fetched)
}

async fn read(rest: &Rest, id: &EngineJobId, source: &Source) -> Result<Vec<Metric>, PortError> {
    let partitions = source.partitions.keys().map(String::as_str);
    let names: Vec<&str> = TIMES.into_iter().chain(partitions).collect();
    values(rest, id, &source.vertex, &names, "sum,max").await
}

impl Source {
    /// The last offset of each partition in `told`.
    fn last_of(&self, told: &[Metric]) -> Vec<(Arc<str>, i32, i64)> {
        let last = |(metric, (topic, number)): (&String, &Partition)| {
            let told = told.iter().find(|told| told.id == *metric)?;
            Some((Arc::clone(topic), *number, told.max? as i64))
        };
        self.partitions.iter().filter_map(last).collect()
    }
}

/// Looks up which sources read which partitions.
async fn find(rest: &Rest, id: &EngineJobId, job: &JobDetails) -> Result<Vec<Source>, PortError> {
    let mut sources = Vec::new();
    for vertex in &job.vertices {
        let path = format!("/jobs/{id}/vertices/{}/subtasks/metrics", vertex.id);
        let metrics: Vec<Metric> = rest.get(&path, &name(id)).await?;
        let mut found: BTreeMap<String, BTreeMap<String, Partition>> = BTreeMap::new();
        for metric in metrics {
            if let Some((source, partition)) = partition_of(&metric.id) {
                found.entry(source.to_owned()).or_default().insert(metric.id.clone(), partition);
            }
        }
        sources.extend(found.into_iter().map(|(source, partitions)| Source {
            name: source.into(),
            vertex: vertex.id.clone(),
            parallelism: vertex.parallelism,
            partitions,
        }));
    }
    Ok(sources)
}

/// Source and partition of the metric `SOURCE.KafkaSourceReader.topic.TOPIC.partition.N.currentOffset`.
fn partition_of(metric: &str) -> Option<(&str, Partition)> {
    let path = metric.strip_suffix(".currentOffset")?;
    let (source, of_topic) = path.split_once(".KafkaSourceReader.topic.")?;
    let (topic, number) = of_topic.rsplit_once(".partition.")?;
    Some((source, (topic.into(), number.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "Source__events";

    fn at(seconds: f64) -> Timestamp {
        Timestamp(0).plus_secs(seconds)
    }

    impl Positions {
        /// At `now`, after running for so many seconds, `source` told the last offsets of partitions.
        pub(crate) fn tells(
            &mut self,
            source: &str,
            now: f64,
            ran: f64,
            last: &[(&str, i32, i64)],
        ) {
            let last = last.iter().map(|(topic, number, last)| ((*topic).into(), *number, *last));
            self.take_in(&source.into(), at(now), 1_000.0 * ran, last);
        }

        /// It was down at `now`.
        pub(crate) fn is_down(&mut self, now: f64) {
            self.was_down(at(now));
        }

        fn told(&mut self, now: f64, ran: f64, last: i64) {
            self.tells(SOURCE, now, ran, &[("clicks", 0, last)]);
        }

        /// What is to be read next, whole by the last report and on the line to the next one.
        fn next(&self, seconds: f64) -> Option<(Next, f64)> {
            let around = self.around(SOURCE, at(seconds))?;
            let reported = around.reported("clicks", 0)?;
            let Next::Offset(from) = reported else { return Some((reported, f64::NAN)) };
            Some((reported, around.moved_on("clicks", 0, from)))
        }
    }

    fn offset(seconds: Option<(Next, f64)>) -> Option<f64> {
        seconds.map(|(_, moved_on)| moved_on)
    }

    #[test]
    fn a_metric_names_source_topic_and_partition() {
        let metric = "Source__events.KafkaSourceReader.topic.a_b.partition.12.currentOffset";
        assert_eq!(partition_of(metric), Some((SOURCE, ("a_b".into(), 12))));
        for other in [
            "Source__events.KafkaSourceReader.topic.a_b.partition.12.committedOffset",
            "Source__events.KafkaSourceReader.commitsSucceeded",
            "Source__events.pendingRecords",
            "Source__events.currentOffset",
        ] {
            assert_eq!(partition_of(other), None, "{other}");
        }
    }

    /// Read at 10 s, 2 s old; at 20 s, fresh: so the source began at 0 s, the first report is of 8 s, and
    /// half-way between the two it was half-way.
    #[test]
    fn a_report_is_of_when_it_was_fetched_however_late_it_is_read() {
        let mut positions = Positions::default();
        positions.told(10.0, 8.0, 799);
        assert_eq!(offset(positions.next(10.0)), Some(800.0));
        assert_eq!(positions.next(10.1), None, "nothing is known of now: it may be reading");
        positions.told(15.0, 8.0, 799);
        positions.told(20.0, 20.0, 1_999);
        assert_eq!(positions.next(7.9), None);
        assert_eq!(offset(positions.next(8.0)), Some(800.0));
        assert_eq!(offset(positions.next(14.0)), Some(1_400.0));
        assert_eq!(offset(positions.next(20.0)), Some(2_000.0));
        // A line that is too long is none: it may have stood still and hurried.
        positions.told(50.0, 50.0, 4_999);
        assert_eq!(positions.next(30.0), None);
    }

    #[test]
    fn while_the_job_is_down_the_position_stays_where_it_was() {
        let mut positions = Positions::default();
        positions.told(100.0, 100.0, 999);
        positions.told(105.0, 105.0, 1_049);
        assert_eq!(positions.next(110.0), None, "not known to be down yet");
        positions.was_down(at(115.0));
        // Since the last report, as is known afterwards, and not longer than is known.
        assert_eq!(offset(positions.next(107.0)), Some(1_050.0));
        assert_eq!(offset(positions.next(115.0)), Some(1_050.0));
        assert_eq!(positions.next(116.0), None);
        // It runs again since 118 s, from a checkpoint before what it had read: another life, which was
        // heard of 7 s later.
        positions.told(125.0, 7.0, 1_009);
        assert_eq!(offset(positions.next(118.0)), Some(1_050.0));
        assert_eq!(positions.next(119.0), None);
        positions.told(130.0, 12.0, 1_509);
        assert_eq!(offset(positions.next(127.5)), Some(1_260.0));
    }

    /// A TaskManager that comes back before anybody looks: only the time that the source runs tells.
    #[test]
    fn another_life_is_not_on_the_line_of_the_one_before() {
        let mut positions = Positions::default();
        positions.told(100.0, 100.0, 999);
        positions.told(105.0, 1.0, 1_999);
        assert_eq!(offset(positions.next(104.0)), Some(1_000.0));
        assert_eq!(positions.next(104.5), None);
    }

    /// It had run for longer when it was heard of than the life before it, which ended soon.
    #[test]
    fn a_life_that_is_heard_of_late_is_another_one() {
        let mut positions = Positions::default();
        positions.told(9.0, 7.0, 699);
        for down in [15.0, 20.0, 25.0, 30.0, 35.0, 38.0] {
            positions.was_down(at(down));
        }
        positions.told(52.0, 12.0, 1_699);
        for seconds in [9.0, 15.0, 38.0, 40.0] {
            assert_eq!(offset(positions.next(seconds)), Some(700.0), "{seconds}");
        }
        assert_eq!(positions.next(41.0), None);
        assert_eq!(offset(positions.next(52.0)), Some(1_700.0));
        positions.told(57.0, 17.0, 2_699);
        assert_eq!(offset(positions.next(54.5)), Some(2_200.0));
    }

    /// The two signs one by one: a short outage that was seen, and a long one that nobody saw.
    #[test]
    fn another_life_is_told_by_the_outage_or_by_when_it_began() {
        let mut seen = Positions::default();
        seen.told(9.0, 7.0, 699);
        seen.was_down(at(11.0));
        seen.told(24.0, 10.0, 899);
        assert_eq!(offset(seen.next(14.0)), Some(700.0));
        assert_eq!(seen.next(20.0), None);
        assert_eq!(offset(seen.next(24.0)), Some(900.0));
        let mut unseen = Positions::default();
        unseen.told(9.0, 7.0, 699);
        unseen.told(52.0, 12.0, 1_699);
        assert_eq!(offset(unseen.next(40.0)), Some(700.0));
        assert_eq!(offset(unseen.next(52.0)), Some(1_700.0));
    }

    /// Another part of the job was down: the source had been running since before its last report.
    #[test]
    fn a_source_that_outlives_an_outage_is_the_same() {
        let mut positions = Positions::default();
        positions.told(100.0, 100.0, 999);
        positions.was_down(at(105.0));
        positions.told(110.0, 110.0, 1_999);
        assert_eq!(offset(positions.next(105.0)), Some(1_500.0));
    }

    #[test]
    fn what_was_not_read_since_the_start_is_untold() {
        let mut positions = Positions::default();
        positions.told(5.0, 5.0, -1);
        positions.told(10.0, 10.0, -1);
        let next = |seconds| positions.next(seconds).map(|(next, _)| next);
        assert_eq!(next(5.0), Some(Next::Untold(None)));
        positions.told(15.0, 15.0, 41);
        positions.told(25.0, 5.0, -1);
        positions.told(30.0, 10.0, -1);
        let next = |seconds| positions.next(seconds).map(|(next, _)| next);
        assert_eq!(next(26.0), Some(Next::Untold(Some(42))));
        assert_eq!(positions.around(SOURCE, at(26.0)).unwrap().reported("clicks", 1), None);
    }

    #[test]
    fn the_last_report_stands_however_old_it_is() {
        let mut positions = Positions::default();
        positions.told(5.0, 5.0, 9);
        positions.told(10.0, 10.0, 19);
        let late = 10.0 + 2.0 * REMEMBERED_S;
        positions.was_down(at(late));
        assert_eq!(offset(positions.next(late)), Some(20.0));
        assert_eq!(positions.next(5.0), None, "forgotten");
    }
}
