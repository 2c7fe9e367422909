//! When did a failure strike that nobody planned?
//!
//! Sure is when every vertex ran again, and that the job lived while its checkpoints completed. The
//! rest is read from the throughput, which stops with the job. Where a metrics system goes on reading
//! a job that is down, the stretch without throughput is as long as the job was down, however late
//! the readings are: it is measured, and counted back from when the job ran again. Where the readings
//! stop with the job, it failed between the last of them and the one that did not come. Either way
//! the moment is off by half the time between two readings at most, but for a reading that was missed
//! just then, and so is the dead time: of a short one little is known.

use std::collections::VecDeque;

use khaos_stats::median;

use crate::job::CompletedCheckpoint;
use crate::series::{Readings, Sample, Series};
use crate::units::{Seconds, Timestamp};

/// Share of the usual throughput below which a sample counts as idle.
const IDLE: f64 = 0.5;
/// So many samples before say what is usual.
const BEFORE: usize = 12;
/// Share of it from which on a sample shows that processing has begun again.
const ALIVE: f64 = 0.05;
/// How late readings may be, s: an idle stretch that begins later after the job is back is another.
const LATE_S: f64 = 120.0;
/// From so many times the usual distance between two readings on, one was missed between them,
const MISSED: f64 = 1.5;
/// and from so many on, what is said of the time between them is no sample of it.
const GAP: f64 = 3.0;

/// When a failure struck.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// The middle of when it can have been.
    pub at: Timestamp,
    /// How far off that may be.
    pub within: Seconds,
}

/// When the failure struck after which every vertex ran again at `back_at`, from the checkpoint
/// `restored` if that is known, by what was read from well before it on. `None` where the readings do
/// not tell, or contradict the checkpoint.
pub fn struck(
    readings: &Readings,
    back_at: Timestamp,
    restored: Option<&CompletedCheckpoint>,
) -> Option<Moment> {
    let samples = readings.throughput.samples();
    let before: Vec<f64> = gaps_s(samples, |sample| sample.at <= back_at);
    let pace_s = median(&before).filter(|pace| *pace > 0.0)?;
    let (from, to) = if let Some(down_s) = down_s(samples, &readings.arrival(), back_at, pace_s) {
        let at = back_at.plus_secs(-down_s);
        (at.plus_secs(-pace_s / 2.0), at.plus_secs(pace_s / 2.0))
    } else {
        let last = last_before_silence(samples, back_at, pace_s)?;
        (last, last.plus_secs(pace_s))
    };
    let from = restored.map_or(from, |checkpoint| from.max(checkpoint.completed_at));
    let width_s = to.min(back_at).secs_since(from);
    let within = Seconds::new(width_s / 2.0).ok()?;
    Some(Moment { at: from.plus_secs(within.get()), within })
}

/// Times between neighbours of which the later one is `wanted`, s.
fn gaps_s(samples: &[Sample], wanted: impl Fn(&Sample) -> bool) -> Vec<f64> {
    let pairs = samples.windows(2).filter(|pair| wanted(&pair[1]));
    pairs.map(|pair| pair[1].at.secs_since(pair[0].at)).collect()
}

/// How long nothing was processed before `back_at`, s, by the samples that say so: each speaks of
/// the time since the one before. `None` where none does.
fn down_s(samples: &[Sample], arrival: &Series, back_at: Timestamp, pace_s: f64) -> Option<f64> {
    let length_s = |i: usize| samples[i].at.secs_since(samples[i - 1].at);
    let usual = usual(samples, arrival);
    let below = |i: usize, share: f64| usual[i].is_some_and(|u| samples[i].value < share * u);
    let idle = |i: &usize| below(*i, IDLE) && length_s(*i) <= GAP * pace_s;
    // The stretch that reaches to where the job was back, or begins soon after: readings are late.
    let may_reach = |i: &usize| samples[*i].at >= back_at.plus_secs(-pace_s);
    let reached = (1..samples.len()).find(|i| idle(i) && may_reach(i))?;
    if samples[reached].at > back_at.plus_secs(LATE_S) {
        return None;
    }
    let first = (1..=reached).rev().take_while(idle).last()?;
    let last = (reached..samples.len()).take_while(idle).last()?;
    // It began before anybody looked.
    let before = first.checked_sub(1).filter(|before| *before > 0)?;

    let deepest = (first..=last).min_by(|&a, &b| samples[a].value.total_cmp(&samples[b].value))?;
    let back = (deepest + 1..samples.len()).find(|&i| usual[i].is_some() && !below(i, ALIVE))?;
    let idle_s = |i: usize| {
        // In the sample in which it stops, a whole one would be the usual; in the one in which it
        // comes back, what the next one shows of the catch-up.
        let next = samples.get(i + 1).filter(|_| i == back).map_or(0.0, |next| next.value);
        let whole = usual[i]?.max(next);
        Some((1.0 - samples[i].value / whole).clamp(0.0, 1.0) * length_s(i))
    };
    (before..=back).map(idle_s).sum()
}

/// What each sample of the throughput would be if the job were not down: what it was before, but no
/// more than arrives, lest the end of a catch-up pass for idleness, or readings that are late for it
/// when the load rises. `None` where neither is known.
fn usual(samples: &[Sample], arrival: &Series) -> Vec<Option<f64>> {
    let mut lately: VecDeque<f64> = VecDeque::new();
    let of = |sample: &Sample| {
        let before = median(lately.make_contiguous());
        let arriving = arrival.latest(sample.at, LATE_S).known();
        let usual = before.zip(arriving).map(|(a, b)| a.min(b)).filter(|usual| *usual > 0.0);
        if usual.is_none_or(|usual| sample.value >= IDLE * usual) {
            lately.push_back(sample.value);
        }
        if lately.len() > BEFORE {
            lately.pop_front();
        }
        usual
    };
    samples.iter().map(of).collect()
}

/// The last sample before readings stayed away around `back_at`, if they did.
fn last_before_silence(samples: &[Sample], back_at: Timestamp, pace_s: f64) -> Option<Timestamp> {
    let seen = samples.partition_point(|sample| sample.at <= back_at);
    let last = samples[seen.checked_sub(1)?].at;
    let missed = |next: &Sample| next.at.secs_since(last) > MISSED * pace_s;
    samples.get(seen).is_none_or(missed).then_some(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::SourceReadings;

    fn at(seconds: f64) -> Timestamp {
        Timestamp::default().plus_secs(seconds)
    }

    /// A sample every 5 s of a throughput as it was `late` s earlier; 100 events/s arrive.
    fn readings(processed_until: impl Fn(f64) -> f64, late: f64, missing: (f64, f64)) -> Readings {
        let all = |value: &dyn Fn(f64) -> f64| {
            let times = (1..120).map(|i| f64::from(i) * 5.0);
            Series::new(
                times
                    .filter(|t| !(missing.0..missing.1).contains(t))
                    .map(|t| Sample { at: at(t), value: value(t) }),
            )
        };
        let rate = |t: f64| (processed_until(t - late) - processed_until(t - late - 5.0)) / 5.0;
        let arrival = all(&|_| 100.0);
        let source = SourceReadings { name: "s".into(), arrival, lag: Series::default() };
        Readings { sources: vec![source], throughput: all(&rate), latency_ms: Series::default() }
    }

    /// Processed until `t`: 100/s, nothing from 302 s to 320 s, then 300/s for a minute.
    fn processed(t: f64) -> f64 {
        100.0 * t.min(302.0)
            + 300.0 * (t.min(380.0) - 320.0).max(0.0)
            + 100.0 * (t - 380.0).max(0.0)
    }

    fn checkpoint(completed_at: f64) -> CompletedCheckpoint {
        CompletedCheckpoint { id: 1, triggered_at: at(280.0), completed_at: at(completed_at) }
    }

    #[test]
    fn the_moment_by_hand_where_readings_go_on() {
        // Read 7 s late, it stopped at 309 s and came back at 327 s. The sample of 310 s shows 80/s,
        // one idle second; those of 315, 320 and 325 s nothing; that of 330 s shows 180/s where the
        // next one shows 300/s, two idle seconds: 1 + 15 + 2 = 18 s, from 320 s back to 302 s.
        let late = readings(processed, 7.0, (0.0, 0.0));
        let moment = struck(&late, at(320.0), Some(&checkpoint(290.0))).unwrap();
        assert_eq!((moment.at, moment.within.get()), (at(302.0), 2.5));
        // As late as a pause that is over before anything of it is read.
        let later = readings(processed, 33.0, (0.0, 0.0));
        assert_eq!(struck(&later, at(320.0), None).unwrap().at, at(302.0));
    }

    #[test]
    fn the_moment_by_hand_where_readings_stop_with_the_job() {
        // The last one is of 300 s, the one of 305 s did not come: between the two, at 302.5 s.
        let silent = readings(processed, 0.0, (301.0, 332.0));
        let moment = struck(&silent, at(320.0), Some(&checkpoint(290.0))).unwrap();
        assert_eq!((moment.at, moment.within.get()), (at(302.5), 2.5));
        // A checkpoint that completed at 303 s leaves two seconds of them.
        let moment = struck(&silent, at(320.0), Some(&checkpoint(303.0))).unwrap();
        assert_eq!((moment.at, moment.within.get()), (at(304.0), 1.0));
        // One that completed at 310 s says that the readings stopped for another reason.
        assert_eq!(struck(&silent, at(320.0), Some(&checkpoint(310.0))), None);
        // It was back before the next reading was due: at most for a second.
        let moment = struck(&silent, at(301.0), None).unwrap();
        assert_eq!((moment.at, moment.within.get()), (at(300.5), 0.5));
    }

    #[test]
    fn what_nothing_shows_is_not_known() {
        let flat = readings(|t| 100.0 * t, 0.0, (0.0, 0.0));
        assert_eq!(struck(&flat, at(320.0), None), None);
        assert_eq!(struck(&Readings::default(), at(320.0), None), None);
        // Down since before anybody looked.
        let since_ever = readings(|t| 100.0 * (t - 320.0).max(0.0), 0.0, (0.0, 0.0));
        assert_eq!(struck(&since_ever, at(320.0), None), None);
        // Another pause, long before.
        assert_eq!(struck(&readings(processed, 0.0, (0.0, 0.0)), at(500.0), None), None);
        // Late readings of a load that rises, and the end of a catch-up, only look like one.
        let rising = |t: f64| 100.0 * t + 5.0 * (t - 300.0).max(0.0).powi(2);
        let mut late = readings(rising, 20.0, (0.0, 0.0));
        late.sources[0].arrival = readings(rising, 0.0, (0.0, 0.0)).throughput;
        assert_eq!(struck(&late, at(310.0), None), None);
        assert_eq!(struck(&readings(processed, 0.0, (0.0, 0.0)), at(375.0), None), None);
    }
}
