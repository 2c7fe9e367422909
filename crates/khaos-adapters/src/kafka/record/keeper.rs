//! Beside the reading, which must not wait for answers: commits what is on disk, and looks how long the
//! log has become.

use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::Instant;

use super::refusal;
use crate::kafka::hearing::Hearing;
use crate::kafka::{Cluster, KafkaError, Offsets, PATIENCE};

/// Between two looks at the log's ends.
const LOOK: Duration = Duration::from_secs(2);

/// A thread that speaks to the brokers, and what it heard.
pub(super) struct Keeper {
    tell: Option<Sender<Offsets>>,
    seen: Arc<Mutex<Seen>>,
    thread: Option<JoinHandle<()>>,
    /// Nothing is ever sent: it is closed when the thread is at its end.
    at_its_end: Receiver<()>,
}

/// What the brokers answered.
#[derive(Debug)]
pub(super) struct Seen {
    /// When they answered last.
    pub(super) answered: Instant,
    /// The log's ends by then.
    pub(super) ends: Offsets,
    /// What is committed.
    pub(super) committed: Offsets,
    /// Why the last commit failed, if it did.
    pub(super) uncommitted: Option<String>,
    /// A commit was refused for good.
    pub(super) refused: Option<KafkaError>,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("seen", &self.seen).finish_non_exhaustive()
    }
}

impl Keeper {
    /// Begins, with the ends that are known.
    pub(super) fn of(
        cluster: Arc<Cluster>,
        consumer: Arc<BaseConsumer<Hearing>>,
        topic: &str,
        group: &str,
        ends: Offsets,
    ) -> Self {
        let seen = Arc::new(Mutex::new(Seen {
            answered: Instant::now(),
            ends,
            committed: Offsets::new(),
            uncommitted: None,
            refused: None,
        }));
        let (tell, told) = channel();
        let work = Work {
            cluster,
            consumer,
            topic: topic.to_owned(),
            group: group.to_owned(),
            seen: Arc::clone(&seen),
        };
        let (lives, at_its_end) = channel::<()>();
        let thread = std::thread::spawn(move || {
            work.until_told_no_more(&told);
            drop(lives);
        });
        Self { tell: Some(tell), seen, thread: Some(thread), at_its_end }
    }

    /// Has `offsets` committed: everything before them is on disk.
    pub(super) fn commit(&self, offsets: Offsets) {
        self.teller().commit(offsets);
    }

    /// Commits from another thread.
    pub(super) fn teller(&self) -> Teller {
        Teller(self.tell.clone())
    }

    /// What was heard so far.
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits what is left to commit, and ends; after [`PATIENCE`] without it. librdkafka may wait for ever
    /// for the answer to a commit whose broker is gone, and nothing is lost without one.
    pub(super) fn end(&mut self) {
        self.tell = None;
        let Some(thread) = self.thread.take() else { return };
        if self.at_its_end.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            let why = || "its broker did not answer".to_owned();
            self.seen().uncommitted.get_or_insert_with(why);
            return;
        }
        let _ = thread.join();
    }
}

/// Tells a [`Keeper`] what may be committed. It does not end before this does.
pub(super) struct Teller(Option<Sender<Offsets>>);

impl Teller {
    /// Has `offsets` committed, unless the keeper is at its end.
    pub(super) fn commit(&self, offsets: Offsets) {
        if let Some(tell) = &self.0 {
            // The thread ends only after this end of the channel.
            let _ = tell.send(offsets);
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end();
    }
}

struct Work {
    cluster: Arc<Cluster>,
    consumer: Arc<BaseConsumer<Hearing>>,
    topic: String,
    group: String,
    seen: Arc<Mutex<Seen>>,
}

impl Work {
    fn until_told_no_more(&self, told: &Receiver<Offsets>) {
        let mut next_look = Instant::now() + LOOK;
        loop {
            let mut next = told.recv_timeout(next_look.saturating_duration_since(Instant::now()));
            let mut newest = None;
            // While the last commit was on its way, more was written.
            while let Ok(offsets) = next {
                newest = Some(offsets);
                next = told.recv_timeout(Duration::ZERO);
            }
            let is_over = next == Err(RecvTimeoutError::Disconnected);
            // First, because a commit waits long where nobody coordinates the group.
            if !is_over && Instant::now() >= next_look {
                self.look();
                next_look = Instant::now() + LOOK;
            }
            if let Some(offsets) = newest {
                self.commit(offsets);
            }
            if is_over {
                return;
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) {
        // Who reads notices by itself, and waits longer, if nobody answers.
        if let Ok(ends) = self.cluster.ends(&self.topic) {
            let mut seen = self.seen();
            seen.answered = Instant::now();
            seen.ends = ends;
        }
    }

    fn commit(&self, offsets: Offsets) {
        if self.seen().committed == offsets {
            return;
        }
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        let listed = offsets.iter().try_for_each(|(partition, offset)| {
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset))
        });
        let result = listed.and_then(|()| self.consumer.commit(&list, CommitMode::Sync));
        let mut seen = self.seen();
        let Err(error) = result else {
            seen.answered = Instant::now();
            seen.uncommitted = None;
            seen.committed = offsets;
            return;
        };
        seen.uncommitted = Some(error.to_string());
        let code = error.rdkafka_error_code();
        seen.refused = code.and_then(|code| refusal(code, &self.topic, &self.group));
    }
}
