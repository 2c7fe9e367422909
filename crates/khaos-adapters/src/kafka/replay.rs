//! A stretch of a recording, or of a topic, once more: into another topic, each event in its partition and
//! in order, each when it is due, and counted until Kafka acknowledged it. Events that are made go the same way.
//!
//! [`pace`](super::pace) says when, *stretch* what, *delivery* hands it over.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use khaos_control::clock::Clock;
use serde::Serialize;
use thiserror::Error;
use tokio::time::{Instant, sleep_until};

use super::delivery::Sender;
use super::made::{Made, Maker};
use super::pace::Pace;
use super::shift::{TimeField, Unshifted};
use super::stretch::{Stretch, TopicEvents};
use super::{Cluster, KafkaError, KafkaSettings, Offsets};
use crate::recording::{Recording, RecordingError, Stores};

/// Where the events come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A recording, in its folder. One that stores offsets only is read from its topic.
    Recording(PathBuf),
    /// A topic of the same cluster, as far back as its retention reaches.
    Topic(String),
    /// Nowhere: they are made for the partitions of the topic that they go to, and happen when they are due,
    /// by a schedule.
    Made {
        /// Whose events.
        made: Made,
        /// Of which seed.
        seed: u64,
    },
}

/// A moment of a stretch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// So long after the recording's first event.
    After(Duration),
    /// Epoch ms.
    At(i64),
}

impl Moment {
    /// Epoch ms, in a recording that begins at `first_ms`.
    fn ms(self, first_ms: i64) -> i64 {
        match self {
            Self::After(after) => first_ms.saturating_add(after.as_millis() as i64),
            Self::At(ms) => ms,
        }
    }
}

/// What is replayed, where to, and how.
#[derive(Debug, Clone)]
pub struct ReplayConfig {
    /// Where the events come from.
    pub source: Source,
    /// The first moment, when the replay begins; the first event where not given.
    pub from: Option<Moment>,
    /// The moment before which it ends; after the last event where not given.
    pub to: Option<Moment>,
    /// The topic that the events go to. It is there, and has at least as many partitions.
    pub into: String,
    /// How fast.
    pub pace: Pace,
    /// Timestamps are moved, so that what is due now carries now.
    pub shift_time: bool,
    /// A field of JSON values that is moved by the same time.
    pub shift_field: Option<TimeField>,
    /// How long after it is due an event may be acknowledged without the pace being spoilt.
    pub max_late: Duration,
    /// How long an event may take to be acknowledged, and so how long a broker may be away.
    pub patience: Duration,
}

/// Why a replay does not begin, or why it is spoilt.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// Something with Kafka.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// Something with the recording.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// Source and target are the same.
    #[error("topic '{0}' cannot be replayed into itself: give another one with --into")]
    Itself(String),
    /// The topic is not large enough.
    #[error(
        "topic '{topic}' has {has} partitions and the events come from {needs}: give it more \
         (kafka-topics --alter --topic '{topic}' --partitions {needs}), or another topic with --into"
    )]
    Partitions {
        /// The topic that was to be written to.
        topic: String,
        /// How many it has.
        has: i32,
        /// How many are needed.
        needs: i32,
    },
    /// Only a schedule says when an event is due that nobody recorded.
    #[error("events that are made need a schedule: they were not recorded at any pace")]
    Unscheduled,
    /// So long after the beginning of a topic.
    #[error("{0} of a topic is a time, as in 2026-11-25T07:00:00Z: where its log begins moves")]
    OfTopic(&'static str),
    /// Nothing lies in it.
    #[error("there is no event between --from and --to: {0}")]
    Empty(String),
    /// The schedule needs more.
    #[error("the schedule needs {needs} events and the stretch has {has}: choose a longer stretch")]
    TooFew {
        /// What the schedule needs.
        needs: u64,
        /// What there is.
        has: u64,
    },
    /// Retention removed what was recorded by offsets.
    #[error(
        "retention has removed events of the stretch: partition {partition} of topic '{topic}' begins at \
         offset {begins} now, and the recording at {recorded}: choose a later --from"
    )]
    Gone {
        /// Which topic.
        topic: String,
        /// Which partition.
        partition: i32,
        /// Where it begins.
        begins: i64,
        /// Where the recording begins.
        recorded: i64,
    },
    /// The very first value does not have the field.
    #[error("partition {partition}, offset {offset}: {why}: check --shift-field")]
    Field {
        /// Of the first event.
        partition: i32,
        /// Of the first event.
        offset: i64,
        /// Why.
        why: Unshifted,
    },
    /// Too fast.
    #[error(
        "the pace cannot be kept: {late_s:.1} s behind after {acknowledged} events, which is {reached:.0} \
         events/s: ask for less, give the topic more partitions or faster brokers, or bear it (--max-late)"
    )]
    Behind {
        /// How far, s.
        late_s: f64,
        /// Acknowledged by then.
        acknowledged: u64,
        /// Acknowledged, events/s of the whole run so far.
        reached: f64,
    },
}

impl ReplayError {
    /// Is it what was asked for, rather than what happened?
    pub fn is_of_usage(&self) -> bool {
        matches!(
            self,
            Self::Itself(_)
                | Self::OfTopic(_)
                | Self::Unscheduled
                | Self::Empty(_)
                | Self::TooFew { .. }
                | Self::Kafka(KafkaError::Settings(_))
        )
    }
}

/// What a replay did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replayed {
    /// The topic that was written to.
    pub topic: String,
    /// When second 0 was, epoch ms.
    pub started_ms: i64,
    /// From then to the last acknowledgement, s.
    pub took_s: f64,
    /// Events handed to Kafka's client.
    pub sent: u64,
    /// Events that all replicas have.
    pub acknowledged: u64,
    /// The others: of those, nobody knows.
    pub unacknowledged: u64,
    /// Keys and values that were sent, bytes.
    pub bytes: u64,
    /// Values in which the field could not be moved; they were sent as they were.
    pub unshifted: u64,
    /// The longest that an event was not yet acknowledged after it was due, s; `null` where nothing is due.
    pub late_max_s: Option<f64>,
    /// It was asked to stop.
    pub cut_short: bool,
    /// What is no whole event at the end of the recording, in words: it was not replayed.
    pub torn: Option<String>,
    /// Why the result is not to be relied on; `null` where it is.
    pub spoilt: Option<String>,
}

/// How far a replay is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Events handed to Kafka's client.
    pub sent: u64,
    /// Events acknowledged.
    pub acknowledged: u64,
    /// How long the oldest that is not acknowledged has been due, s.
    pub late_s: f64,
}

/// A replay that may begin: everything that can be refused has been looked at.
pub struct Replay {
    config: ReplayConfig,
    found: Found,
    sender: Sender,
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What is to be replayed.
struct Found {
    stretch: Stretch,
    /// When it begins, epoch ms; `None`: with its first event.
    base_ms: Option<i64>,
    /// At most so many events.
    events: u64,
    /// Partitions of the topic that they come from.
    partitions: i32,
    /// What a crash or a copy left of the recording's last events.
    torn: Option<String>,
}

impl Replay {
    /// Looks at everything that can be refused. Sends nothing.
    pub fn prepare(settings: &KafkaSettings, config: ReplayConfig) -> Result<Self, ReplayError> {
        let is_scheduled = matches!(config.pace, Pace::Scheduled(_));
        if matches!(config.source, Source::Made { .. }) && !is_scheduled {
            return Err(ReplayError::Unscheduled);
        }
        let cluster = Cluster::at(settings)?;
        let found = match &config.source {
            Source::Topic(topic) => of_topic(settings, &cluster, topic, &config)?,
            Source::Recording(folder) => {
                of_recording(settings, &cluster, &Recording::open(folder)?, &config)?
            }
            Source::Made { made, seed } => {
                let partitions = cluster.partitions(&config.into)?;
                let stretch = Stretch::Made(Maker::new(*made, *seed, partitions));
                Found { stretch, base_ms: None, events: u64::MAX, partitions, torn: None }
            }
        };
        if let Some(needs) = config.pace.events().filter(|needs| *needs > found.events) {
            return Err(ReplayError::TooFew { needs, has: found.events });
        }
        let (has, needs) = (cluster.partitions(&config.into)?, found.partitions);
        if has < needs {
            return Err(ReplayError::Partitions { topic: config.into, has, needs });
        }
        let sender = Sender::to(settings, &config.into, needs, config.patience)?;
        Ok(Self { config, found, sender })
    }

    /// At most so many events will be sent.
    pub fn events(&self) -> u64 {
        self.config.pace.events().unwrap_or(self.found.events)
    }

    /// What is no whole event at the end of the recording, in words: a crash or a copy left it so.
    pub fn torn(&self) -> Option<&str> {
        self.found.torn.as_deref()
    }

    /// Replays until it is done, spoilt, or `stop` is. `clock` tells the time that shifted events carry.
    /// It works in the thread that awaits it, between waits of a millisecond: give it one.
    pub async fn run(
        self,
        clock: Clock,
        stop: impl Future<Output = ()>,
        progress: impl FnMut(Progress),
    ) -> Replayed {
        let Self { config, found, sender } = self;
        let lead = if config.pace == Pace::Full { Duration::ZERO } else { LEAD };
        let mut run = Run {
            start: Instant::now() + lead,
            started_ms: clock.now().0 + lead.as_millis() as i64,
            config: &config,
            base_ms: found.base_ms,
            torn: found.torn,
            sender,
            progress,
            bytes: 0,
            unshifted: 0,
            at_s: 0.0,
            told_s: 0.0,
            late_max_s: 0.0,
        };
        let (cut_short, sent) = tokio::select! {
            biased;
            () = stop => (true, Ok(())),
            sent = run.send_all(found.stretch) => (false, sent),
        };
        let outcome = run.flush(sent).await;
        run.conclude(cut_short, outcome.err())
    }
}

/// A stretch of `topic` between the moments of `config`.
fn of_topic(
    settings: &KafkaSettings,
    cluster: &Cluster,
    topic: &str,
    config: &ReplayConfig,
) -> Result<Found, ReplayError> {
    let at = |moment, name| match moment {
        None => Ok(None),
        Some(Moment::At(ms)) => Ok(Some(ms)),
        Some(Moment::After(_)) => Err(ReplayError::OfTopic(name)),
    };
    let (from_ms, to_ms) = (at(config.from, "--from")?, at(config.to, "--to")?);
    if topic == config.into {
        return Err(ReplayError::Itself(topic.to_owned()));
    }
    let from = match from_ms {
        None => cluster.starts(topic)?,
        Some(from_ms) => cluster.offsets_at(topic, from_ms)?,
    };
    let until = match to_ms {
        None => cluster.ends(topic)?,
        Some(to_ms) => cluster.offsets_at(topic, to_ms)?,
    };
    let of = |(partition, from): (&i32, &i64)| {
        let until = until.get(partition).copied().unwrap_or(*from);
        u64::try_from(until - from).unwrap_or(0)
    };
    let events = from.iter().map(of).sum();
    if events == 0 {
        return Err(ReplayError::Empty(format!("topic '{topic}' has none there now")));
    }
    let partitions = from.len() as i32;
    let stretch = Stretch::Topic(TopicEvents::open(settings, topic, &from, &until)?);
    Ok(Found { stretch, base_ms: from_ms, events, partitions, torn: None })
}

/// A stretch of `recording` between the moments of `config`.
fn of_recording(
    settings: &KafkaSettings,
    cluster: &Cluster,
    recording: &Recording,
    config: &ReplayConfig,
) -> Result<Found, ReplayError> {
    if recording.manifest().stores == Stores::Offsets {
        return of_offsets(settings, cluster, recording, config);
    }
    let (manifest, summary) = (recording.manifest(), recording.summary());
    let Some((first_ms, last_ms)) = summary.span_ms else {
        return Err(ReplayError::Empty("the recording is empty".to_owned()));
    };
    let at = |moment: Option<Moment>| moment.map(|moment| moment.ms(first_ms));
    let from_ms = at(config.from).unwrap_or(first_ms);
    let to_ms = at(config.to).unwrap_or(last_ms.saturating_add(1));
    let seconds = from_ms.div_euclid(1_000)..to_ms.saturating_add(999).div_euclid(1_000);
    let inside = recording.rates()?.into_iter().filter(|(second, _)| seconds.contains(second));
    let events = inside.map(|(_, events)| events).sum();
    if events == 0 {
        let length_s = (last_ms - first_ms) / 1_000;
        return Err(ReplayError::Empty(format!("the recording is {length_s} s long")));
    }
    let torn = torn(recording)?;
    let highest = summary.partitions.keys().next_back();
    Ok(Found {
        stretch: Stretch::Recorded(recording.events(from_ms, to_ms)?),
        base_ms: Some(from_ms),
        events,
        // A topic may have been given more while it was recorded.
        partitions: manifest.partitions.max(highest.map_or(0, |partition| partition + 1)),
        torn,
    })
}

/// The stretch of a topic of which `recording` knows the offsets: what arrived between two looks at it.
/// Timestamps do not tell that, for producers make them.
fn of_offsets(
    settings: &KafkaSettings,
    cluster: &Cluster,
    recording: &Recording,
    config: &ReplayConfig,
) -> Result<Found, ReplayError> {
    let (topic, summary) = (&recording.manifest().topic, recording.summary());
    if *topic == config.into {
        return Err(ReplayError::Itself(topic.clone()));
    }
    let Some((first_ms, last_ms)) = summary.span_ms else {
        return Err(ReplayError::Empty("the recording is empty".to_owned()));
    };
    let ends_at = |moment: Option<Moment>, otherwise_ms| {
        recording.ends_at(moment.map_or(otherwise_ms, |moment| moment.ms(first_ms)))
    };
    let (known, until) = (ends_at(config.from, first_ms)?, ends_at(config.to, last_ms)?);
    // A partition that came later began with its first event.
    let from: Offsets = until.keys().map(|p| (*p, known.get(p).copied().unwrap_or(0))).collect();
    let (starts, ends) = (cluster.starts(topic)?, cluster.ends(topic)?);
    let mut events = 0;
    for (&partition, &until) in &until {
        let recorded = from[&partition];
        if until <= recorded {
            continue;
        }
        events += (until - recorded) as u64;
        let end = ends.get(&partition).copied().unwrap_or(0);
        if end < until {
            let why = format!(
                "partition {partition} ends at offset {end} now, and at {until} in the recording: it was made \
                 anew, or truncated"
            );
            return Err(KafkaError::Other { doing: format!("topic '{topic}'"), why }.into());
        }
        let begins = starts.get(&partition).copied().unwrap_or(0);
        if begins > recorded {
            return Err(ReplayError::Gone { topic: topic.clone(), partition, begins, recorded });
        }
    }
    if events == 0 {
        let length_s = (last_ms - first_ms) / 1_000;
        return Err(ReplayError::Empty(format!("the recording is {length_s} s long")));
    }
    let partitions = starts.len() as i32;
    let stretch = Stretch::Topic(TopicEvents::open(settings, topic, &from, &until)?);
    Ok(Found { stretch, base_ms: None, events, partitions, torn: torn(recording)? })
}

/// What is no whole event at its end, in words. While somebody records into it, that is being written.
fn torn(recording: &Recording) -> Result<Option<String>, RecordingError> {
    let cut = recording.summary().torn.map(|cut| cut.to_string());
    Ok(if recording.is_written()? { None } else { cut })
}

struct Run<'a, P> {
    config: &'a ReplayConfig,
    start: Instant,
    started_ms: i64,
    base_ms: Option<i64>,
    torn: Option<String>,
    sender: Sender,
    progress: P,
    bytes: u64,
    unshifted: u64,
    /// When the clock was looked at last, s after the start.
    at_s: f64,
    told_s: f64,
    late_max_s: f64,
}

/// Before second 0 of a pace: a producer that is new needs a number from the brokers before it may send.
const LEAD: Duration = Duration::from_secs(2);
/// Events between two looks at the clock.
const STRIDE: u64 = 512;
/// Between two looks while waiting.
const LOOK: Duration = Duration::from_millis(50);
/// While there is no room for more events.
const FOR_ROOM: Duration = Duration::from_millis(1);
/// Between two reports of progress, s.
const TELL_S: f64 = 0.25;

impl<P: FnMut(Progress)> Run<'_, P> {
    async fn send_all(&mut self, mut stretch: Stretch) -> Result<(), ReplayError> {
        let config = self.config;
        let mut buffer = Vec::new();
        let mut has_shifted = false;
        sleep_until(self.start).await;
        loop {
            let n = self.sender.sent();
            if config.pace.events() == Some(n) {
                return Ok(());
            }
            // What is made has to know when it is due; what was recorded says so itself.
            let made_s = config.pace.due_s(n, 0.0).unwrap_or(self.at_s);
            let Some((recorded_ms, event)) = stretch.next(n, self.epoch_ms(made_s)).await? else {
                let enough = |needs| Err(ReplayError::TooFew { needs, has: n });
                return config.pace.events().map_or(Ok(()), enough);
            };
            let base_ms = *self.base_ms.get_or_insert(recorded_ms);
            let due_s = config.pace.due_s(n, recorded_ms.saturating_sub(base_ms) as f64 / 1_000.0);
            if n.is_multiple_of(STRIDE) {
                self.look(due_s)?;
                tokio::task::yield_now().await;
            }
            while let Some(due_s) = due_s.filter(|due_s| *due_s > self.at_s) {
                let until_s = due_s.min(self.at_s + LOOK.as_secs_f64());
                sleep_until(self.start + Duration::from_secs_f64(until_s)).await;
                self.look(Some(due_s))?;
            }
            let now_ms = self.epoch_ms(due_s.unwrap_or(self.at_s));
            let by_ms = now_ms - recorded_ms;
            let value = match (event.value, &config.shift_field) {
                (Some(value), Some(field)) => match field.shift(value, by_ms, &mut buffer) {
                    Ok(()) => {
                        has_shifted = true;
                        Some(buffer.as_slice())
                    }
                    Err(why) if !has_shifted && self.unshifted == 0 => {
                        let (partition, offset) = (event.partition, event.offset);
                        return Err(ReplayError::Field { partition, offset, why });
                    }
                    Err(_) => {
                        self.unshifted += 1;
                        Some(value)
                    }
                },
                (value, _) => value,
            };
            let timestamp_ms = event.timestamp_ms + if config.shift_time { by_ms } else { 0 };
            while !self.sender.send(&event, timestamp_ms, value, due_s)? {
                sleep_until(Instant::now() + FOR_ROOM).await;
                self.look(due_s)?;
            }
            self.bytes += (event.key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len)) as u64;
        }
    }

    /// Epoch ms of so long after the start.
    fn epoch_ms(&self, after_s: f64) -> i64 {
        self.started_ms.saturating_add((after_s * 1_000.0).round() as i64)
    }

    /// Looks at the clock, at what came back, and whether what was due is late; `next_s` is when the event
    /// is due that is sent next.
    fn look(&mut self, next_s: Option<f64>) -> Result<(), ReplayError> {
        self.sender.check()?;
        self.at_s = self.start.elapsed().as_secs_f64();
        let (sent, acknowledged) = (self.sender.sent(), self.sender.acknowledged());
        let oldest_s = self.sender.oldest_s().or(next_s);
        let late_s = oldest_s.map_or(0.0, |due_s| (self.at_s - due_s).max(0.0));
        self.late_max_s = self.late_max_s.max(late_s);
        if late_s > self.config.max_late.as_secs_f64() {
            let reached = acknowledged as f64 / self.at_s;
            return Err(ReplayError::Behind { late_s, acknowledged, reached });
        }
        if self.at_s - self.told_s >= TELL_S {
            self.told_s = self.at_s;
            (self.progress)(Progress { sent, acknowledged, late_s });
        }
        Ok(())
    }

    /// Waits until everything is acknowledged, or fails: librdkafka's patience is the deadline. `outcome` is
    /// how the sending ended.
    async fn flush(&mut self, mut outcome: Result<(), ReplayError>) -> Result<(), ReplayError> {
        loop {
            match self.look(None) {
                Ok(()) => {}
                Err(late @ ReplayError::Behind { .. }) => outcome = outcome.and(Err(late)),
                // The reason of everything else that went wrong.
                Err(why) => {
                    self.sender.give_up();
                    return Err(why);
                }
            }
            if self.sender.acknowledged() == self.sender.sent() {
                return outcome;
            }
            sleep_until(Instant::now() + FOR_ROOM).await;
        }
    }

    fn conclude(self, cut_short: bool, spoilt: Option<ReplayError>) -> Replayed {
        let (sent, acknowledged) = (self.sender.sent(), self.sender.acknowledged());
        let unacknowledged = sent - acknowledged;
        let spoilt = spoilt.map(|why| match unacknowledged {
            0 => why.to_string(),
            _ => format!("{unacknowledged} of {sent} events were not acknowledged: {why}"),
        });
        Replayed {
            topic: self.config.into.clone(),
            started_ms: self.started_ms,
            took_s: self.at_s,
            sent,
            acknowledged,
            unacknowledged,
            bytes: self.bytes,
            unshifted: self.unshifted,
            late_max_s: (self.config.pace != Pace::Full).then_some(self.late_max_s),
            cut_short,
            torn: self.torn,
            spoilt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_are_made_need_a_schedule() {
        let settings = KafkaSettings::at("127.0.0.1:1").unwrap();
        for pace in [Pace::Full, Pace::Recorded { speed: 1.0 }] {
            let config = ReplayConfig {
                source: Source::Made { made: Made::Ysb, seed: 7 },
                from: None,
                to: None,
                into: "ads".to_owned(),
                pace,
                shift_time: false,
                shift_field: None,
                max_late: Duration::ZERO,
                patience: Duration::ZERO,
            };
            let refused = Replay::prepare(&settings, config).unwrap_err();
            assert!(matches!(refused, ReplayError::Unscheduled), "{refused}");
        }
    }
}
