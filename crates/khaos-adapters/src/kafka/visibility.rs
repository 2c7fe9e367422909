//! How old what readers of committed output see is, measured at the topics that a job writes to.
//!
//! A job that writes exactly once writes into transactions, and each checkpoint that completes commits one.
//! Until then readers of committed events stop before its first event: at the *visible end* of a partition,
//! which is behind the log's end. [`Visibility`] asks for both ends, four times a second. It reads no events:
//! their timestamps are often event time, which says nothing of when they were written, and reading would be as
//! much work as the job's readers have.
//!
//! What is measured is by how much a reader is behind: at each look, since when something has been written that
//! cannot be seen yet. While output is written all the time that is the age of the newest output that can be
//! seen, at worst interval + duration of a checkpoint, just before a commit:
//! - *Nothing is hidden*: the age is 0, because who sees all there is is not behind. The newest output may be
//!   old even so, for want of output. That says nothing of checkpoints, and an interval would not change it.
//!   So the age of a job without transactions is 0.
//! - *Several partitions, several topics*: the worst of them, because somebody reads it. A partition in which
//!   nothing waits is not behind.
//! - *The ends of transactions* take offsets, too. They move the log's end, but what is hidden begins with an
//!   event, never with such an end.
//! - *A transaction that is aborted* looks like one that is committed: what it held is not hidden any more,
//!   because it is not there for readers. A job that fails leaves its transactions open, so the age grows while it
//!   is down. When it is back it aborts them: the age is 0 until it writes again what it had written, and counts
//!   from then. So from a restart until the next checkpoint the age is too low, by the time from the checkpoint
//!   that was restored to the restart: seen with a killed TaskManager, 1.3 s instead of 17.7 s. Only who reads can
//!   tell the two apart. Judge by spans in which the job ran throughout.
//! - *How late a job writes* is not in it: that is its latency, and while it catches up its lag.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use khaos_control::clock::Clock;
use khaos_control::core::series::{Sample, Series};
use khaos_control::core::units::{Span, Timestamp};

use super::ends::wait_for_tick;
use super::{Cluster, KafkaError, KafkaSettings};

/// Time between two looks, ms.
const PERIOD_MS: i64 = 250;
/// A look that takes longer says too little about when it was true, ms.
const SLOW_MS: i64 = PERIOD_MS / 2;
/// An age is known to so much, ms, so that one look may be missing…
const PRECISE_MS: i64 = 2 * PERIOD_MS + SLOW_MS;
/// …or to such a share of itself, whichever is more.
const PRECISE_SHARE: f64 = 0.1;
/// How many looks are kept until all that they showed can be seen.
const MOST: usize = 2_048;
/// How long ages are kept, s: longer than anybody looks back.
const REMEMBERED_S: f64 = 4_200.0;

/// Looks at the ends of topics for as long as this is kept.
#[derive(Debug)]
pub struct Visibility {
    ages: Arc<Mutex<VecDeque<Sample>>>,
    /// The thread ends when this is gone.
    _stop: SyncSender<()>,
}

impl Visibility {
    /// Begins to look at the topics that a job writes to, four times a second of `clock`, in a thread of its
    /// own. Fails where the settings make no client; whether anybody answers, and whether there are such topics,
    /// shows later: nothing is known before all of them answer.
    pub fn watch(
        settings: &KafkaSettings,
        topics: &[String],
        clock: Clock,
    ) -> Result<Self, KafkaError> {
        let written = Cluster::uncommitted(settings)?;
        // Whatever the settings say, which are for other readers.
        let committed = "read_committed";
        let visible = Cluster::of(settings, settings.client()?.set("isolation.level", committed))?;
        let ages = Arc::default();
        let (stop, stopped) = sync_channel(0);
        let watcher = Watcher {
            written,
            visible,
            topics: topics.to_vec(),
            clock,
            hidden: Hidden::default(),
            ages: Arc::clone(&ages),
            said: None,
        };
        std::thread::Builder::new()
            .name("kafka-visibility".to_owned())
            .spawn(move || watcher.watch(&stopped))
            .map_err(|error| KafkaError::Other {
                doing: "no thread to ask Kafka in".to_owned(),
                why: error.to_string(),
            })?;
        Ok(Self { ages, _stop: stop })
    }

    /// By how much a reader of committed output was behind, s, at the looks within `span` at which that is
    /// known: within 625 ms or a tenth, whichever is more. Looks go back 70 min at most.
    pub fn readings(&self, span: Span) -> Series {
        let ages = self.ages.lock().unwrap_or_else(PoisonError::into_inner);
        Series::new(ages.iter().copied().filter(|sample| span.contains(sample.at)))
    }

    /// The most of it within `span`, s; `None` where nothing is known of it.
    pub fn worst(&self, span: Span) -> Option<f64> {
        self.readings(span).samples().iter().map(|sample| sample.value).max_by(f64::total_cmp)
    }
}

struct Watcher {
    written: Cluster,
    visible: Cluster,
    topics: Vec<String>,
    clock: Clock,
    hidden: Hidden,
    ages: Arc<Mutex<VecDeque<Sample>>>,
    /// What was said last of why nothing is known.
    said: Option<String>,
}

impl Watcher {
    fn watch(mut self, stopped: &Receiver<()>) {
        while wait_for_tick(stopped, self.clock, PERIOD_MS).is_some() {
            let at = self.clock.now();
            // In this order: what can be seen a moment later was written before.
            let ends =
                self.ends(&self.written).and_then(|ends| Ok((ends, self.ends(&self.visible)?)));
            let why_not = match ends {
                Ok(_) if self.clock.now().0 - at.0 > SLOW_MS => {
                    let bootstrap = self.written.bootstrap();
                    Some(format!("{bootstrap} takes more than {SLOW_MS} ms to answer"))
                }
                Ok((ends, visible)) => {
                    if let Some(value) = self.hidden.look(at, ends, &visible) {
                        self.remember(Sample { at, value });
                    }
                    None
                }
                Err(error) => Some(error.to_string()),
            };
            self.tell(why_not);
        }
    }

    /// Where all topics end, to one of the clusters.
    fn ends(&self, cluster: &Cluster) -> Result<Ends, KafkaError> {
        let mut ends = Ends::new();
        for (number, topic) in self.topics.iter().enumerate() {
            let of_topic = cluster.ends(topic)?;
            ends.extend(of_topic.into_iter().map(|(partition, end)| ((number, partition), end)));
        }
        Ok(ends)
    }

    fn remember(&self, sample: Sample) {
        let mut ages = self.ages.lock().unwrap_or_else(PoisonError::into_inner);
        ages.push_back(sample);
        let from = sample.at.plus_secs(-REMEMBERED_S);
        while ages.front().is_some_and(|sample| sample.at < from) {
            ages.pop_front();
        }
    }

    /// Says why nothing is known when it begins and when that changes, and when it is over.
    fn tell(&mut self, why_not: Option<String>) {
        let topics = &self.topics;
        match &why_not {
            Some(why) if self.said != why_not => {
                tracing::warn!(?topics, "visibility is not known: {why}");
            }
            None if self.said.is_some() => tracing::info!(?topics, "visibility is known again"),
            _ => {}
        }
        self.said = why_not;
    }
}

/// Offsets by topic, in the order in which they were given, and partition.
type Ends = BTreeMap<(usize, i32), i64>;

/// What was written and cannot be seen yet.
#[derive(Debug, Default)]
struct Hidden {
    /// The newest of which everything can be seen, and what came after it. The first one of all may be hidden
    /// itself: since when is not known.
    written: VecDeque<Written>,
}

/// What looks showed of the logs, as long as nothing was written.
#[derive(Debug)]
struct Written {
    /// The first look that showed it, and the last.
    from: Timestamp,
    to: Timestamp,
    ends: Ends,
}

impl Hidden {
    /// Takes in a look: where the logs ended `at` that time, and up to where they were `visible`. Says how long
    /// something has been hidden then, s; `None` where that is not known.
    ///
    /// It counts from the last look before something was hidden, and a commit shows with the first look after
    /// it: the age just before is as often too high as too low, by less than the time between two looks.
    fn look(&mut self, at: Timestamp, ends: Ends, visible: &Ends) -> Option<f64> {
        if ends.is_empty() {
            return None;
        }
        if self.written.back().is_some_and(|last| !within(&last.ends, &ends)) {
            // Topics that were made anew: those before are gone, with what was hidden in them.
            self.written.clear();
        }
        match self.written.back_mut() {
            Some(last) if last.ends == ends => last.to = at,
            _ => self.written.push_back(Written { from: at, to: at, ends }),
        }
        while self.written.get(1).is_some_and(|next| within(&next.ends, visible)) {
            self.written.pop_front();
        }
        self.thin_out(at);
        let seen = self.written.front().filter(|first| within(&first.ends, visible))?;
        let age_s = at.secs_since(seen.to);
        let doubt_s = self.written.get(1).map_or(0.0, |next| next.from.secs_since(seen.to));
        let precise_s = (PRECISE_SHARE * age_s).max(PRECISE_MS as f64 / 1_000.0);
        (doubt_s <= precise_s).then_some(age_s)
    }

    /// Forgets looks where a transaction stays open for long: the older they are `at` this time, the more.
    fn thin_out(&mut self, at: Timestamp) {
        if self.written.len() <= MOST {
            return;
        }
        let mut kept: Option<Timestamp> = None;
        self.written.retain(|written| {
            let least_s = PRECISE_SHARE / 10.0 * at.secs_since(written.from);
            let keep = kept.is_none_or(|kept| written.from.secs_since(kept) >= least_s);
            if keep {
                kept = Some(written.to);
            }
            keep
        });
    }
}

/// Is none of `ends` further than `others`? What is not among `ends` was added and began empty.
fn within(ends: &Ends, others: &Ends) -> bool {
    ends.iter().all(|(partition, end)| others.get(partition) >= Some(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ages at looks: ms, and the ends of partitions and up to where they are visible, from 0 on.
    fn ages(looks: &[(i64, &[i64], &[i64])]) -> Vec<Option<f64>> {
        let mut hidden = Hidden::default();
        looks.iter().map(|(ms, ends, visible)| look(&mut hidden, *ms, ends, visible)).collect()
    }

    fn look(hidden: &mut Hidden, ms: i64, ends: &[i64], visible: &[i64]) -> Option<f64> {
        let of = |ends: &[i64]| (0..).map(|n| (0, n)).zip(ends.iter().copied()).collect();
        hidden.look(Timestamp(ms), of(ends), &of(visible))
    }

    /// 40 events/s, of which the 25th is the last that the first checkpoint commits, 250 ms late.
    #[test]
    fn while_output_is_written_it_is_the_age_of_the_newest_that_can_be_seen() {
        let seen = ages(&[
            (0, &[0], &[0]),
            (250, &[10], &[0]),
            (500, &[20], &[0]),
            (750, &[30], &[0]),
            (1_000, &[40], &[25]),
            (1_250, &[50], &[25]),
            (1_500, &[60], &[25]),
            (1_750, &[70], &[65]),
        ]);
        let expected = [0.0, 0.25, 0.5, 0.75, 0.5, 0.75, 1.0, 0.25];
        assert_eq!(seen, expected.map(Some));
    }

    /// A window ends at 1 s; the commit at 3 s writes its end, and nothing follows.
    #[test]
    fn who_sees_all_there_is_is_not_behind_however_old_it_is() {
        let mut hidden = Hidden::default();
        assert_eq!(look(&mut hidden, 0, &[7], &[7]), Some(0.0));
        for n in 1..4 {
            assert_eq!(look(&mut hidden, 250 * n, &[7], &[7]), Some(0.0));
        }
        // What is written once counts from then on, not from each look.
        for n in 4..12 {
            let since_s = 0.25 * (n - 3) as f64;
            assert_eq!(look(&mut hidden, 250 * n, &[9], &[7]), Some(since_s));
        }
        for n in 12..2_000 {
            assert_eq!(look(&mut hidden, 250 * n, &[10], &[10]), Some(0.0));
        }
        assert_eq!(look(&mut hidden, 500_000, &[12], &[10]), Some(0.25));
        assert!(hidden.written.len() <= 2);
    }

    #[test]
    fn without_transactions_nothing_is_ever_hidden() {
        // What is written between the two questions can be seen before it is known to be written.
        let seen = ages(&[(0, &[5], &[6]), (250, &[15], &[15]), (500, &[25], &[27])]);
        assert_eq!(seen, [Some(0.0); 3]);
    }

    #[test]
    fn the_partition_that_is_furthest_behind_counts() {
        let seen = ages(&[
            (0, &[10, 10], &[10, 10]),
            (250, &[20, 10], &[10, 10]),
            (500, &[20, 20], &[10, 10]),
            // One of two transactions is committed; nothing waits in the other partition.
            (750, &[21, 20], &[21, 10]),
            (1_000, &[21, 21], &[21, 21]),
        ]);
        assert_eq!(seen, [0.0, 0.25, 0.5, 0.5, 0.0].map(Some));
        // The same of two topics, each with a partition.
        let mut hidden = Hidden::default();
        let of = |one, other| Ends::from([((0, 0), one), ((1, 0), other)]);
        assert_eq!(hidden.look(Timestamp(0), of(1, 1), &of(1, 1)), Some(0.0));
        assert_eq!(hidden.look(Timestamp(250), of(9, 1), &of(9, 1)), Some(0.0));
        assert_eq!(hidden.look(Timestamp(500), of(9, 5), &of(9, 1)), Some(0.25));
    }

    /// The transaction of events 0 to 9 is committed at 10, and at 11 and 12 there is already the next.
    #[test]
    fn what_is_hidden_begins_with_an_event_and_not_with_the_end_of_a_transaction() {
        let seen = ages(&[
            (0, &[0], &[0]),
            (250, &[10], &[0]),
            // Two subtasks end theirs; then comes the first event of the next one.
            (500, &[12], &[12]),
            (750, &[13], &[12]),
            (1_000, &[13], &[12]),
        ]);
        assert_eq!(seen, [0.0, 0.25, 0.0, 0.25, 0.5].map(Some));
        // An end in the middle of the next transaction.
        let seen = ages(&[(0, &[0], &[0]), (250, &[12], &[0]), (500, &[13], &[10])]);
        assert_eq!(seen, [0.0, 0.25, 0.5].map(Some));
    }

    /// Down from 500 ms to 1 s, when it aborts what it had written and writes it again.
    #[test]
    fn what_is_aborted_is_hidden_until_then_and_again_when_it_is_written_again() {
        let seen = ages(&[
            (0, &[0], &[0]),
            (250, &[10], &[0]),
            (500, &[20], &[0]),
            (750, &[20], &[0]),
            (1_000, &[21], &[21]),
            (1_250, &[31], &[21]),
            (1_500, &[42], &[42]),
        ]);
        assert_eq!(seen, [0.0, 0.25, 0.5, 0.75, 0.0, 0.25, 0.0].map(Some));
    }

    #[test]
    fn since_when_is_not_known_of_what_was_hidden_at_the_first_look() {
        let seen = ages(&[
            (0, &[10], &[0]),
            (250, &[20], &[0]),
            // This commits what was written by the first look, and no more.
            (500, &[30], &[12]),
            (750, &[40], &[12]),
        ]);
        assert_eq!(seen, [None, None, Some(0.5), Some(0.75)]);
    }

    #[test]
    fn without_looks_it_is_known_as_soon_as_it_does_not_matter_any_more() {
        let mut hidden = Hidden::default();
        look(&mut hidden, 0, &[10], &[10]);
        // One look is missing.
        assert_eq!(look(&mut hidden, 500, &[20], &[10]), Some(0.5));
        assert_eq!(look(&mut hidden, 750, &[20], &[20]), Some(0.0));
        // Hidden since some time between the looks at 750 and 1,500 ms.
        assert_eq!(look(&mut hidden, 1_500, &[30], &[20]), None);
        let later: Vec<Option<f64>> =
            (7..=40).map(|n| look(&mut hidden, 250 * n, &[30 + n], &[20])).collect();
        let known = later.iter().position(Option::is_some).unwrap();
        assert_eq!(later[known], Some(7.5), "{later:?}");
        // What was written at 7,750 ms and before is visible now.
        assert_eq!(look(&mut hidden, 10_250, &[80], &[61]), Some(2.5));
        // Nobody wrote anything meanwhile, or all can be seen: that is known at once.
        assert_eq!(look(&mut hidden, 20_000, &[80], &[80]), Some(0.0));
        assert_eq!(look(&mut hidden, 30_000, &[80], &[80]), Some(0.0));
    }

    #[test]
    fn a_topic_that_was_made_anew_is_another_one() {
        let seen =
            ages(&[(0, &[90], &[90]), (250, &[95], &[90]), (500, &[5], &[0]), (750, &[6], &[6])]);
        assert_eq!(seen, [Some(0.0), Some(0.25), None, Some(0.0)]);
        let gone = ages(&[(0, &[5, 5], &[5, 5]), (250, &[6], &[5])]);
        assert_eq!(gone, [Some(0.0), None]);
        let more = ages(&[(0, &[5], &[5]), (250, &[5, 3], &[5, 0])]);
        assert_eq!(more, [Some(0.0), Some(0.25)], "a partition that is added began empty");
    }

    #[test]
    fn of_no_topics_nothing_is_known() {
        assert_eq!(ages(&[(0, &[], &[]), (250, &[], &[])]), [None, None]);
    }

    /// For an hour; then all but the last second is committed.
    #[test]
    fn a_transaction_that_stays_open_does_not_fill_the_memory() {
        let mut hidden = Hidden::default();
        look(&mut hidden, 0, &[0], &[0]);
        for n in 1..=14_400 {
            assert_eq!(look(&mut hidden, 250 * n, &[n], &[0]), Some(0.25 * n as f64));
            assert!(hidden.written.len() <= MOST);
        }
        assert_eq!(look(&mut hidden, 3_600_250, &[14_401], &[14_396]), Some(1.25));
    }
}
