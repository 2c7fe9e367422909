//! A real failure of the job: the trial that nobody planned.
//!
//! [`noticed`] finds in the minutes that there was one, [`measure`] says what it showed once it is
//! over, [`Failure::compared`] whether it came out as predicted.

use serde::{Deserialize, Serialize};

use crate::job::{CheckpointHistory, EngineJobId, JobRun, JobShape};
use crate::observe::steady::STALE_AFTER_S;
use crate::observe::{Minute, settled};
use crate::profile::moment::{Moment, struck};
use crate::profile::{Evidence, Progress, Recovery, Trial, assemble, onset, recovered};
use crate::series::{Readings, Series};
use crate::units::{CheckpointInterval, EventRate, Seconds, Span, Timestamp};

/// How long a recovery is waited for after the job is back, s.
pub const DEADLINE_S: f64 = 3_600.0;
/// After the job is back nothing is given up for this long, s: readings are late.
const PATIENCE_S: f64 = 300.0;

/// A real failure of the job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The deployment that failed.
    pub engine_id: EngineJobId,
    /// The attempt that it ended, the last one where an engine needed several to come back.
    pub attempt: u32,
    /// The job's shape.
    pub shape: JobShape,
    /// When it was first seen in a minute that is over; where Khaos came later, when the job was back.
    pub noticed_at: Timestamp,
    /// When it struck, estimated; `None` where nothing tells.
    pub failed_at: Option<Timestamp>,
    /// The highest arrival rate of the day before, by minutes; `None` where none was known.
    pub highest: Option<EventRate>,
    /// What it showed.
    pub measured: Measured,
    /// What the models made of it, at the load and the checkpoint age that it had.
    pub predicted: Option<Predicted>,
}

/// What a failure showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measured {
    /// As of a trial; its index is the attempt that it ended.
    Trial(Trial),
    /// Nothing, and why.
    Nothing(String),
}

/// Where 90 % of single recoveries were to be expected.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Predicted {
    /// 5 % are shorter.
    pub low: Seconds,
    /// 5 % are longer.
    pub high: Seconds,
}

/// How a recovery came out beside what was predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// Within the bounds.
    AsPredicted,
    /// Shorter than 95 % should be.
    Shorter,
    /// Longer than 95 % should be.
    Longer,
}

impl Failure {
    /// What was measured, if anything was.
    pub fn trial(&self) -> Option<&Trial> {
        match &self.measured {
            Measured::Trial(trial) => Some(trial),
            Measured::Nothing(_) => None,
        }
    }

    /// Its trial, if models can learn from it. A real failure comes at any age of a checkpoint, so
    /// without its parts its length says nothing about the worst case.
    pub fn lesson(&self) -> Option<&Trial> {
        self.trial().filter(|trial| {
            let parts = trial.dead_time.is_some() && trial.backlog.is_some();
            parts && !matches!(trial.recovery, Recovery::Spoilt(_))
        })
    }

    /// How it came out beside what was predicted; `None` where nothing was, or where it was not seen
    /// for long enough to say.
    pub fn compared(&self) -> Option<Compared> {
        let Predicted { low, high } = self.predicted?;
        match self.trial()?.recovery {
            Recovery::Measured(seen) if seen < low => Some(Compared::Shorter),
            Recovery::Measured(seen) | Recovery::Censored(seen) if seen > high => {
                Some(Compared::Longer)
            }
            Recovery::Measured(_) => Some(Compared::AsPredicted),
            Recovery::Censored(_) | Recovery::Spoilt(_) => None,
        }
    }
}

/// A failure that shows in the minutes.
#[derive(Debug, Clone, PartialEq)]
pub struct Noticed {
    /// The deployment that failed.
    pub engine_id: EngineJobId,
    /// The attempt that it ended.
    pub attempt: u32,
    /// The job's shape then.
    pub shape: JobShape,
    /// The end of the minute in which it was first seen.
    pub at: Timestamp,
}

/// The failures that show in `minutes`, oldest first: where a deployment is at a later attempt than
/// the last time that anybody could be asked.
pub fn noticed(minutes: &[&Minute]) -> Vec<Noticed> {
    let told = |minute: &&Minute| {
        let Minute { start, engine_id, shape, attempt, .. } = *minute;
        Some((engine_id.clone()?, (*attempt)?, shape.clone()?, start.plus_secs(Minute::SECS)))
    };
    let told: Vec<_> = minutes.iter().filter_map(told).collect();
    let pairs = told.windows(2).filter_map(|pair| {
        let ((before_id, before, ..), (engine_id, attempt, shape, at)) = (&pair[0], &pair[1]);
        // A new deployment counts its attempts from 0.
        let before = if engine_id == before_id { *before } else { 0 };
        let (engine_id, shape) = (engine_id.clone(), shape.clone());
        (*attempt > before).then(|| Noticed { engine_id, attempt: attempt - 1, shape, at: *at })
    });
    pairs.collect()
}

/// Everything that is seen of a failure after which the job runs again.
#[derive(Debug, Clone)]
pub struct Aftermath<'a> {
    /// The checkpoint interval in force when it struck.
    pub interval: CheckpointInterval,
    /// The deployment, at the attempt that came back.
    pub run: &'a JobRun,
    /// Since when every vertex has been running.
    pub back_at: Timestamp,
    /// Readings from [`BEFORE_S`] before that until now.
    pub readings: &'a Readings,
    /// The checkpoints.
    pub history: &'a CheckpointHistory,
    /// Now.
    pub now: Timestamp,
}

/// The longest time that the moment of a failure is looked for before the job is back, and the
/// steady state before that, s.
pub const BEFORE_S: f64 = 900.0 + 400.0;

/// What the failure showed and when it struck; `None` while it is not over. It always ends.
pub fn measure(seen: &Aftermath<'_>) -> Option<(Option<Moment>, Measured)> {
    let Aftermath { interval, run, back_at, readings, history, now } = *seen;
    let waited_s = now.secs_since(back_at);
    let given_up = |moment, why: &str| {
        (waited_s >= PATIENCE_S).then(|| (moment, Measured::Nothing(why.to_owned())))
    };
    let Some(moment) = struck(readings, back_at, history.restored.as_ref()) else {
        return given_up(None, "the readings do not tell when it struck");
    };
    let before = moment.at.plus_secs(-moment.within.get());
    let baseline = match settled(before, readings) {
        Ok(baseline) => baseline,
        Err(not) => return given_up(Some(moment), &format!("it was not steady before: {not}")),
    };
    let (lag, arrival) = (readings.lag(), readings.arrival());
    let since = Span { from: moment.at, to: now.plus_millis(1) };
    // The moment is an estimate: what does not stand out from the lag clearly may be none of it.
    if onset(&baseline, &lag, &arrival, since).is_none() {
        return given_up(Some(moment), "it did not show in the lag");
    }
    let until = match recovered(&baseline, &lag, &arrival, moment.at) {
        Progress::Over(end) => end,
        Progress::NotShown | Progress::NotOver if waited_s < DEADLINE_S => return None,
        Progress::NotShown | Progress::NotOver => now,
    };
    let unread_s = longest_gap_s(&lag, Span { from: back_at, to: until });
    if unread_s > STALE_AFTER_S {
        let why = format!("the lag was not read for {unread_s:.0} s while it recovered");
        return Some((Some(moment), Measured::Nothing(why)));
    }
    let trial = assemble(&Evidence {
        index: run.attempt.saturating_sub(1),
        interval,
        baseline: &baseline,
        failed_at: moment.at,
        failed_within: Some(moment.within),
        until: now,
        readings,
        history_before: history,
        history_after: history,
        run_after: run,
    });
    Some((Some(moment), Measured::Trial(trial)))
}

/// The longest time within `span` in which `series` has no sample, s.
fn longest_gap_s(series: &Series, span: Span) -> f64 {
    let inside = series.within(span).iter().map(|sample| sample.at);
    let instants: Vec<Timestamp> =
        std::iter::once(span.from).chain(inside).chain([span.to]).collect();
    instants.windows(2).map(|pair| pair[1].secs_since(pair[0])).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests;
