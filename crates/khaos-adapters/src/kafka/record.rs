//! A live topic to disk, for a time or until told to stop, without anybody noticing.
//!
//! The recorder assigns all partitions to itself and is a member of no group: nothing is rebalanced,
//! not even among recorders. What it read goes to a [`Writer`]; about every second that is brought to
//! disk, and only then are offsets committed, for people to see how far it is: a recording that goes on
//! goes on where *it* ends, whatever the group says.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use khaos_control::clock::Clock;
use rdkafka::error::RDKafkaErrorCode as Code;
use serde::Serialize;
use tokio::time::Instant;

use super::error::may_pass;
use super::{Cluster, KafkaError, KafkaSettings, Offsets};
use crate::recording::{
    Cut, Manifest, Recording, RecordingError, Stores, Summary, TimestampKind, Writer,
};

mod error;
mod journal;
mod keeper;
mod kept;
mod offsets;
mod reading;

pub use error::RecordError;
pub use journal::Gap;
use journal::Journal;
use kept::Kept;

/// Between two times that everything read is brought to disk and committed, and progress is told.
const SYNC: Duration = Duration::from_secs(1);

/// Where a recording begins that did not begin before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// With everything that retention has left.
    Beginning,
    /// With what comes from now on.
    End,
    /// With the first event of each partition whose timestamp is not before, epoch ms.
    At(i64),
}

/// What is recorded, where to, and for how long.
#[derive(Debug, Clone)]
pub struct RecordConfig {
    /// Which topic.
    pub topic: String,
    /// The folder: a new or empty one, or one in which this topic was recorded before.
    pub folder: PathBuf,
    /// Events, or offsets only.
    pub stores: Stores,
    /// The group whose offsets show how far the recording is.
    pub group: String,
    /// Where it begins, unless it goes on.
    pub from: From,
    /// How long; until told to stop where not given.
    pub length: Option<Duration>,
    /// The most that the recording may take, bytes.
    pub max_bytes: Option<u64>,
    /// How long all brokers may be away.
    pub patience: Duration,
}

impl RecordError {
    /// Is it what was asked for, rather than what happened?
    pub fn is_of_usage(&self) -> bool {
        matches!(
            self,
            Self::OfSomethingElse { .. }
                | Self::Kafka(KafkaError::Settings(_))
                | Self::Recording(RecordingError::NotEmpty { .. })
        )
    }
}

/// Why a recording ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It was told to.
    Told,
    /// It took as long as it was to take.
    Time,
    /// What comes next would be more bytes than it may take.
    Budget,
    /// It could not go on.
    Failed,
}

/// How far a recording is.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Events read by this run.
    pub events: u64,
    /// Of the whole recording on disk.
    pub bytes: u64,
    /// Events that the log had more, when it was looked at last.
    pub behind: u64,
    /// How long no broker has answered, and why, where that is long.
    pub away: Option<(Duration, String)>,
}

/// What became of a recording.
#[derive(Debug, Serialize)]
pub struct Recorded {
    /// Which topic.
    pub topic: String,
    /// Where it is.
    pub folder: PathBuf,
    /// Whose offsets were committed; nobody's where only offsets are recorded.
    pub group: Option<String>,
    /// Why it ended.
    pub ended: Ended,
    /// Events that this run added. This and what else is on disk is `None` where that cannot be read.
    pub events: Option<u64>,
    /// Events of the whole recording.
    pub events_total: Option<u64>,
    /// Bytes on disk of the whole recording.
    pub bytes: Option<u64>,
    /// Why what is on disk cannot be read.
    pub unread: Option<String>,
    /// How long this run took, s.
    pub took_s: f64,
    /// By partition: the offset that comes next.
    pub next_offsets: Option<Offsets>,
    /// What is committed of those.
    pub committed: Offsets,
    /// Why not all of it is.
    pub uncommitted: Option<String>,
    /// What retention took before it could be read, in this run and before.
    pub gaps: Vec<Gap>,
    /// What an earlier run had left half-written; it was read again.
    pub cut: Option<String>,
}

impl Recorded {
    /// Events that retention took before they could be read: at most so many.
    pub fn lost(&self) -> u64 {
        self.gaps.iter().map(|gap| gap.to.abs_diff(gap.from)).sum()
    }
}

/// A recording that may begin: everything that can be refused has been looked at.
#[derive(Debug)]
pub struct Recorder {
    settings: KafkaSettings,
    config: RecordConfig,
    clock: Clock,
    cluster: Arc<Cluster>,
    kept: Kept,
    /// The log's ends at the beginning.
    ends: Offsets,
    /// What earlier runs recorded.
    events_before: u64,
    resumed: bool,
    cut: Option<Cut>,
}

impl Recorder {
    /// Looks at everything that can be refused, and makes the recording or takes it up again. `clock`
    /// tells when gaps were noticed.
    pub fn begin(
        settings: &KafkaSettings,
        config: RecordConfig,
        clock: Clock,
    ) -> Result<Self, RecordError> {
        let cluster = Arc::new(Cluster::at(settings)?);
        let topic = config.topic.as_str();
        let starts = cluster.starts(topic)?;
        let ends = cluster.ends(topic)?;
        let resumed = Manifest::is_in(&config.folder);
        let (writer, cut) = if resumed {
            let (writer, cut) = Writer::resume(&config.folder)?;
            refuse_another(&config, writer.manifest())?;
            (writer, cut)
        } else {
            let timestamps = match config.stores {
                Stores::Events => reading::timestamps(settings, &config, &starts, &ends)?,
                // An event would have to be read, which takes more than the right to look.
                Stores::Offsets => TimestampKind::Create,
            };
            let (topic, partitions) = (topic.to_owned(), starts.len() as i32);
            let manifest = Manifest { topic, partitions, timestamps, stores: config.stores };
            (Writer::create(&config.folder, manifest)?, None)
        };
        let (journal, facts) = Journal::open(&config.folder)?;
        let mut kept = Kept::of(writer, journal, &config);
        let first = match config.from {
            From::Beginning => starts.clone(),
            From::End => ends.clone(),
            From::At(ms) => cluster.offsets_at(topic, ms)?,
        };
        kept.take_up(facts, first, &starts)?;
        kept.note_partitions(starts.len())?;
        for (partition, start) in starts {
            kept.go_on_from(partition, start, clock)?;
        }
        // Once more, and last: what it begins with may be an end of a moment ago.
        let ends = cluster.ends(topic)?;
        kept.refuse_replaced(topic, &ends)?;
        let (settings, events_before) = (settings.clone(), kept.writer.events());
        Ok(Self { settings, config, clock, cluster, kept, ends, events_before, resumed, cut })
    }

    /// Does it go on where an earlier run ended?
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// What an earlier run left half-written, and is not there any more. It will be read again.
    pub fn cut(&self) -> Option<&Cut> {
        self.cut.as_ref()
    }

    /// What retention took before it could be read, so far.
    pub fn gaps(&self) -> &[Gap] {
        &self.kept.gaps
    }

    /// Records until `stop` is set, time or bytes are up, or it cannot go on: then what was read before
    /// is on disk all the same, unless that is what failed. `progress` is called about every second.
    pub fn run(
        mut self,
        stop: &AtomicBool,
        mut progress: impl FnMut(&Progress),
    ) -> (Recorded, Result<(), RecordError>) {
        let begun = Instant::now();
        // What no clock reaches is no end.
        let until = self.config.length.and_then(|length| begun.checked_add(length));
        let end = |now| {
            if stop.load(Ordering::Relaxed) {
                return Some(Ended::Told);
            }
            until.is_some_and(|until| now >= until).then_some(Ended::Time)
        };
        let (ended, commits) = match self.config.stores {
            Stores::Events => reading::read(&mut self, end, &mut progress),
            Stores::Offsets => (offsets::read(&mut self, end, &mut progress), Commits::default()),
        };
        let finished = match ended {
            Ok(ended) => self.kept.writer.finish().map(|()| ended).map_err(RecordError::from),
            Err(error) => Err(error),
        };
        // What the disk says, not what was meant to be on it.
        let held = Recording::open(&self.config.folder).map(|recording| recording.summary());
        let unread = held.as_ref().err().map(ToString::to_string);
        let (held, result) = match held {
            Ok(held) => (Some(held), Ok(())),
            Err(error) => (None, Err(RecordError::from(error))),
        };
        let next_offsets = |held: &Summary| {
            held.partitions.iter().map(|(partition, of)| (*partition, of.next_offset)).collect()
        };
        let has_group = self.config.stores == Stores::Events;
        let recorded = Recorded {
            group: has_group.then_some(self.config.group),
            topic: self.config.topic,
            folder: self.config.folder,
            ended: *finished.as_ref().unwrap_or(&Ended::Failed),
            events: held.as_ref().map(|held| held.events.saturating_sub(self.events_before)),
            events_total: held.as_ref().map(|held| held.events),
            bytes: held.as_ref().map(|held| held.bytes),
            unread,
            took_s: begun.elapsed().as_secs_f64(),
            next_offsets: held.as_ref().map(next_offsets),
            committed: commits.committed,
            uncommitted: commits.uncommitted,
            gaps: self.kept.gaps,
            cut: self.cut.map(|cut| cut.to_string()),
        };
        (recorded, finished.and(result))
    }
}

/// What is committed at the end, and why not all is.
#[derive(Debug, Default)]
struct Commits {
    committed: Offsets,
    uncommitted: Option<String>,
}

/// A recording goes on only as what it is.
fn refuse_another(config: &RecordConfig, manifest: &Manifest) -> Result<(), RecordError> {
    let of = |topic: &str, stores| match stores {
        Stores::Events => format!("topic '{topic}'"),
        Stores::Offsets => format!("the offsets of topic '{topic}'"),
    };
    if manifest.topic == config.topic && manifest.stores == config.stores {
        return Ok(());
    }
    Err(RecordError::OfSomethingElse {
        folder: config.folder.clone(),
        has: of(&manifest.topic, manifest.stores),
        asked: of(&config.topic, config.stores),
    })
}

/// What an error of reading or committing means that waiting does not mend.
fn refusal(code: Code, topic: &str, group: &str) -> Option<KafkaError> {
    match code {
        Code::GroupAuthorizationFailed => Some(KafkaError::group_refused("Read", group)),
        Code::UnknownMemberId | Code::IllegalGeneration | Code::RebalanceInProgress => {
            Some(KafkaError::Other {
                doing: format!("group '{group}'"),
                why: "somebody is a member of it: choose another name with --group".to_owned(),
            })
        }
        // A broker that comes back may refuse for a while. If it stays so, patience ends.
        Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL => None,
        code if may_pass(code) => None,
        code => Some(KafkaError::of_topic("Read", topic, code)),
    }
}
