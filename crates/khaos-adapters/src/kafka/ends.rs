//! Where the logs of topics end, over time: what arrived, whoever has read it and whether anybody does.
//!
//! The ends are asked for at absolute instants, so that those of several topics can be added, in a thread of
//! its own, because a client of Kafka waits. It is the end of the log that counts, not that of the last
//! transaction which is complete: events of an open one have arrived, and of a producer that hangs in one
//! nothing would be seen to arrive although its consumers fall behind. Whoever reads only what is committed is
//! therefore never closer to the end than the transaction that is open. Each transaction's end takes an offset
//! of each of its partitions, which counts as an event.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use khaos_control::clock::Clock;
use khaos_control::core::series::{Sample, Series};
use khaos_control::core::units::{Span, Timestamp};

use super::{Cluster, KafkaError, KafkaSettings, Offsets};

/// Time between two looks, ms.
pub(super) const PERIOD_MS: i64 = 5_000;
/// An answer that takes longer says too little about when it was true, ms.
const SLOW_MS: i64 = PERIOD_MS / 5;
/// How long ends are kept, s: longer than anybody looks back.
const REMEMBERED_S: f64 = 4_200.0;

/// Looks at the ends of topics for as long as this is kept.
#[derive(Debug)]
pub(super) struct Ends {
    logs: Arc<Mutex<BTreeMap<String, Log>>>,
    /// The thread ends when this is gone.
    _stop: SyncSender<()>,
}

impl Ends {
    /// Begins to look, every five seconds of `clock`. Whether anybody answers shows later.
    pub(super) fn watch(
        settings: &KafkaSettings,
        topics: &[String],
        clock: Clock,
    ) -> Result<Self, KafkaError> {
        let cluster = Cluster::uncommitted(settings)?;
        let logs = topics.iter().map(|topic| (topic.clone(), Log::default())).collect();
        let logs: Arc<Mutex<BTreeMap<String, Log>>> = Arc::new(Mutex::new(logs));
        let (stop, stopped) = sync_channel(0);
        let watcher = Watcher { cluster, clock, logs: Arc::clone(&logs), said: BTreeMap::new() };
        std::thread::Builder::new()
            .name("kafka-ends".to_owned())
            .spawn(move || watcher.watch(&stopped))
            .map_err(|error| KafkaError::Other {
                doing: "no thread to ask Kafka in".to_owned(),
                why: error.to_string(),
            })?;
        Ok(Self { logs, _stop: stop })
    }

    /// What was seen so far, by topic.
    pub(super) fn logs(&self) -> MutexGuard<'_, BTreeMap<String, Log>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the next multiple of `period_ms`; `None` once this is `stopped`. What was missed is not made up for.
pub(super) fn wait_for_tick(
    stopped: &Receiver<()>,
    clock: Clock,
    period_ms: i64,
) -> Option<Timestamp> {
    let tick = Timestamp((clock.now().0.div_euclid(period_ms) + 1) * period_ms);
    let left_ms = (tick.0 - clock.now().0).max(0).unsigned_abs();
    let wait = Duration::from_millis(left_ms) / clock.speed();
    (stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout)).then_some(tick)
}

struct Watcher {
    cluster: Cluster,
    clock: Clock,
    logs: Arc<Mutex<BTreeMap<String, Log>>>,
    /// What was said last of topics that are not told.
    said: BTreeMap<String, String>,
}

impl Watcher {
    fn watch(mut self, stopped: &Receiver<()>) {
        let topics: Vec<String> = {
            let logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
            logs.keys().cloned().collect()
        };
        while let Some(tick) = wait_for_tick(stopped, self.clock, PERIOD_MS) {
            for topic in &topics {
                if let Err(KafkaError::NoAnswer { .. }) = self.look(topic, tick) {
                    // Nobody is there: the others would wait as long to learn it.
                    break;
                }
            }
        }
    }

    fn look(&mut self, topic: &str, tick: Timestamp) -> Result<(), KafkaError> {
        let asked = self.clock.now();
        let answer = self.cluster.ends(topic);
        let took_ms = self.clock.now().0 - asked.0;
        let why_not = match &answer {
            Ok(_) if took_ms > SLOW_MS => {
                Some(format!("{} takes more than {SLOW_MS} ms to answer", self.cluster.bootstrap()))
            }
            Ok(ends) => {
                let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
                logs.entry(topic.to_owned()).or_default().add(tick, asked, ends.clone());
                None
            }
            Err(error) => Some(error.to_string()),
        };
        let said = self.said.get(topic);
        match why_not {
            Some(why) if said != Some(&why) => {
                tracing::warn!(topic, "what arrives is not known: {why}");
                self.said.insert(topic.to_owned(), why);
            }
            None if self.said.remove(topic).is_some() => {
                tracing::info!(topic, "what arrives is known again");
            }
            _ => {}
        }
        answer.map(drop)
    }
}

/// Where one topic's partitions ended, over time.
#[derive(Debug, Default)]
pub(super) struct Log {
    ticks: Vec<Tick>,
}

/// What a look showed.
#[derive(Debug)]
pub(super) struct Tick {
    /// When it was due: a multiple of five seconds.
    pub(super) at: Timestamp,
    /// When it was asked for, a little later: the ends are of then or of a moment after.
    pub(super) asked: Timestamp,
    /// The offset that each partition's next event gets.
    pub(super) ends: Offsets,
    /// When the topic was first seen as it is: before that offsets were those of another one of its name.
    pub(super) since: Timestamp,
}

impl Log {
    fn add(&mut self, at: Timestamp, asked: Timestamp, ends: Offsets) {
        let since = match self.ticks.last() {
            Some(before) if before.ends.iter().all(|(n, end)| ends.get(n) >= Some(end)) => {
                before.since
            }
            _ => asked,
        };
        self.ticks.push(Tick { at, asked, ends, since });
        let from = at.plus_secs(-REMEMBERED_S);
        self.ticks.drain(..self.ticks.partition_point(|tick| tick.at < from));
    }

    /// The looks within `span`.
    pub(super) fn within(&self, span: Span) -> impl Iterator<Item = &Tick> {
        self.ticks.iter().filter(move |tick| span.contains(tick.at))
    }

    /// What arrived, events/s, at the looks within `span` before which there was another one just before.
    pub(super) fn arrival(&self, span: Span) -> Series {
        let rates = self.ticks.windows(2).filter(|pair| span.contains(pair[1].at));
        Series::new(rates.filter_map(|pair| {
            Some(Sample { at: pair[1].at, value: pair[1].rate_since(&pair[0])? })
        }))
    }
}

impl Tick {
    /// Events/s that arrived since `before`; `None` where that is too long ago, or of another topic.
    fn rate_since(&self, before: &Self) -> Option<f64> {
        if self.at.0 - before.at.0 > PERIOD_MS || self.since != before.since {
            return None;
        }
        // A partition that was added began empty.
        let arrived = self.ends.iter().map(|(n, end)| end - before.ends.get(n).unwrap_or(&0));
        let seconds = self.asked.secs_since(before.asked);
        (seconds > 0.0).then(|| arrived.sum::<i64>() as f64 / seconds)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    impl Log {
        /// A log that ended there: seconds, and the ends of partitions from 0 on.
        pub(in super::super) fn of(ticks: &[(i64, &[i64])]) -> Self {
            let mut log = Self::default();
            for (seconds, ends) in ticks {
                let at = Timestamp(1_000 * seconds);
                log.add(at, at, (0..).zip(ends.iter().copied()).collect());
            }
            log
        }
    }

    const ALL: Span = Span { from: Timestamp(0), to: Timestamp(i64::MAX) };

    fn rates(log: &Log) -> Vec<(i64, f64)> {
        log.arrival(ALL).samples().iter().map(|s| (s.at.0 / 1_000, s.value)).collect()
    }

    /// 500 and 1,000 events in 5 s are 300/s; 2,500 more in one partition 500/s.
    #[test]
    fn what_arrives_is_what_all_ends_moved_by() {
        let log = Log::of(&[(5, &[100, 900]), (10, &[600, 1_900]), (15, &[600, 4_400])]);
        assert_eq!(rates(&log), [(10, 300.0), (15, 500.0)]);
    }

    #[test]
    fn the_time_that_passed_is_that_between_the_questions() {
        let mut log = Log::default();
        log.add(Timestamp(5_000), Timestamp(5_500), [(0, 0)].into());
        log.add(Timestamp(10_000), Timestamp(10_000), [(0, 450)].into());
        assert_eq!(rates(&log), [(10, 100.0)]);
    }

    #[test]
    fn what_was_not_answered_is_missing_and_not_made_up_for() {
        let log = Log::of(&[(5, &[0]), (15, &[1_000]), (20, &[1_500])]);
        assert_eq!(rates(&log), [(20, 100.0)]);
    }

    #[test]
    fn a_partition_that_is_added_began_empty() {
        let log = Log::of(&[(5, &[100]), (10, &[200, 50])]);
        assert_eq!(rates(&log), [(10, 30.0)]);
    }

    #[test]
    fn a_topic_that_was_made_anew_is_another_one() {
        let log = Log::of(&[(5, &[100, 50]), (10, &[10, 60]), (15, &[60, 60]), (20, &[110])]);
        assert_eq!(rates(&log), [(15, 10.0)]);
        let since: Vec<i64> = log.within(ALL).map(|tick| tick.since.0 / 1_000).collect();
        assert_eq!(since, [5, 10, 10, 20]);
    }
}
