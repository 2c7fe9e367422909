//! The decision: which interval, and why.
//!
//! Data flow: [`Situation`] (recorded facts) + [`Goals`] + [`Predictors`] → candidates with their
//! predictions → feasible ones → the best of them → dead band → [`Decision`]. Whatever is missing
//! on the way makes the decision a hold that says so.

mod candidates;
mod hindsight;
mod repaying;
mod sentence;

use khaos_stats::FitError;
use serde::{Deserialize, Serialize};

use self::candidates::{Candidate, Choice, advise, candidates, choose, judged};
use self::repaying::{REPAID_MIN, not_repaid};
use crate::job::{JobRun, JobStatus};
use crate::observe::Minute;
use crate::optimize::{
    Goals, LatencyModel, LatencyPredictor, LoadForecast, Models, Objective, RecoveryPredictor,
    forecast_load, highest_load,
};
use crate::units::{CheckpointInterval, EventRate, Seconds, Timestamp};

/// Minutes ahead that a driven interval has to suit: until the next decision, and one missed.
pub const HORIZON_MIN: u32 = 2;
/// An increase smaller than this share of the interval waits,
const DEAD_BAND: f64 = 0.1;
/// until the last change is this long ago, s: the interval then creeps up instead of twitching.
const DEAD_BAND_S: f64 = 900.0;
/// After a change was rolled back nothing is changed for this long, s.
const AFTER_ROLLBACK_S: f64 = 600.0;
/// Recent minutes whose checkpoint durations and failures count.
const RECENT_MIN: usize = 10;

/// Models ready to predict.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictors {
    recovery: RecoveryPredictor,
    latency: Option<LatencyPredictor>,
    /// As the trials measured it, for jobs whose checkpoints are too rare to have seen one lately.
    checkpoint_duration: Option<Seconds>,
    /// Whether they may be acted on.
    earned: bool,
    /// Real failures that they were fitted to.
    failures: u32,
    /// When the drift began since which nothing else counts.
    drifted_at: Option<Timestamp>,
}

impl Predictors {
    /// Makes `models` ready.
    pub fn of(models: &Models) -> Result<Self, FitError> {
        Ok(Self {
            recovery: models.recovery.predictor()?,
            latency: models.latency.as_ref().map(LatencyModel::predictor).transpose()?,
            checkpoint_duration: models.checkpoint_duration,
            earned: models.earned(),
            failures: models.failures,
            drifted_at: models.drifted_at,
        })
    }

    /// Whether they may be acted on.
    pub fn earned(&self) -> bool {
        self.earned
    }
}

/// The recorded facts that a decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// When it is taken.
    pub now: Timestamp,
    /// The job as the engine describes it; `None` when it could not be asked.
    pub run: Option<&'a JobRun>,
    /// The interval in force.
    pub in_force: CheckpointInterval,
    /// Recent minutes, oldest first; where no trial was run, enough of them to have seen the load at
    /// its highest.
    pub minutes: &'a [&'a Minute],
    /// When the interval last changed.
    pub changed_at: Option<Timestamp>,
    /// When a change was last rolled back, unless there was another change since.
    pub rolled_back_at: Option<Timestamp>,
    /// Whether there are models, but of another shape of the job.
    pub another_shape: bool,
    /// What a change of the interval costs.
    pub change: ChangeCost,
}

/// What a change of the interval costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ChangeCost {
    /// Nothing: checkpoints are triggered from outside, between the job's own.
    Driven,
    /// Nothing: the job's own interval is set while it runs.
    Set,
    /// A redeploy, during which nothing is processed.
    Redeployed {
        /// How long it took the last time; `None` where there was none yet.
        stall: Option<Seconds>,
    },
}

/// What became of the question "which interval?".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Change the interval.
    Change,
    /// The interval in force is the right one.
    Keep,
    /// This interval would be the right one, but it is not for Khaos to put it into force: nothing is
    /// changed, and nothing is driven that was not.
    Recommend,
    /// Not judged: something that has to be known is not, or now is not the time.
    Hold,
}

/// One reason of a decision, with its data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// The engine could not be asked.
    JobUnknown,
    /// Some vertex does not run.
    NotRunning,
    /// The arrival rate has not been read for too long.
    LoadUnknown,
    /// No trial of the job was run, and its load has not been known for long enough to say how well
    /// it can be forecast: a guess about the job on top of a guess about its load is no
    /// recommendation.
    TooFewMinutes,
    /// No checkpoint has completed, neither lately nor in a trial: how long one takes is not known.
    DurationUnknown,
    /// Checkpoints fail and none completes.
    CheckpointsFailing,
    /// The last change was just rolled back.
    RolledBack,
    /// It is the largest interval that keeps these objectives at that load.
    LargestFeasible {
        /// The objectives that it keeps.
        keeps: Vec<Objective>,
    },
    /// No interval keeps this one beside what is more important.
    GivenUp {
        /// The objective.
        objective: Objective,
    },
    /// Too little is known of what the interval does to this one: it rules none out, and may be broken.
    NotJudged {
        /// The objective.
        objective: Objective,
    },
    /// No trial of the job was run: recovery is judged by priors and by a few failures at most, which
    /// is enough to recommend an interval, but not to put it into force.
    NoTrials {
        /// The highest load seen: what the priors are scaled to.
        highest: EventRate,
        /// Real failures that add to the priors.
        #[serde(default)]
        failures: u32,
    },
    /// Parallelism, state or configuration are others than when the job was profiled: those models do
    /// not speak of it any more.
    AnotherShape {
        /// Real failures of this shape: they and priors are what is left.
        failures: u32,
    },
    /// The last failures came out otherwise than predicted: what was learnt before counts no more.
    Drifted {
        /// When the first of them was noticed.
        since: Timestamp,
        /// Real failures since: they and priors are what is left.
        failures: u32,
    },
    /// The user wants recommendations, not actions.
    NotAsked,
    /// No interval keeps the recovery objective: this one has the shortest recovery.
    ShortestRecovery,
    /// A better interval would cost a redeploy that does not repay itself.
    NotRepaid {
        /// The better interval.
        better: CheckpointInterval,
        /// What the redeploy costs: the time until the job has caught up with its stall, s.
        cost_s: f64,
        /// What it gains over its horizon: time within an objective, or the share by which recovery or
        /// latency is less as time, s.
        gain_s: f64,
    },
    /// The last redeploy is to repay itself first: for the next minutes another would keep no more.
    StillRepaying {
        /// The better interval.
        better: CheckpointInterval,
    },
    /// A better interval is larger by too little to move.
    DeadBand {
        /// The better interval.
        better: CheckpointInterval,
    },
    /// Checkpoints take so long that smaller intervals are out of reach.
    CheckpointsSlow {
        /// Smallest interval considered for that.
        floor: CheckpointInterval,
    },
    /// The budget of checkpoints rules smaller intervals out.
    Budget {
        /// Smallest interval considered for that.
        floor: CheckpointInterval,
    },
}

/// What is predicted at the chosen interval and the upper load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Upper credible bound of the mean worst-case recovery, s; `None` beyond capacity.
    pub recovery_upper_s: Option<f64>,
    /// Where nine in ten single worst-case recoveries should lie, s; `None` beyond capacity.
    #[serde(default)]
    pub recovery_interval90_s: Option<(f64, f64)>,
    /// Expected p99 latency, ms.
    pub latency_ms: Option<f64>,
    /// Upper credible bound of its mean, ms.
    pub latency_upper_ms: Option<f64>,
    /// CI + δ, s.
    pub visibility_s: f64,
}

/// What would make an unmeetable recovery objective possible.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "advice", rename_all = "snake_case")]
pub enum Advice {
    /// This capacity, events/s.
    Capacity {
        /// At present, events/s.
        now_eps: f64,
        /// Needed, events/s.
        needed_eps: f64,
    },
    /// No capacity: detection, restore and reading alone take longer than the objective.
    ShortenDeadTime {
        /// `D_0`, s.
        floor_s: f64,
    },
}

/// The chosen interval with its reasons, also when it is "change nothing".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// When it was taken.
    pub at: Timestamp,
    /// Change, keep, recommend or hold.
    pub verdict: Verdict,
    /// The interval in force before.
    pub from: CheckpointInterval,
    /// The interval that should be in force after, or that is recommended.
    pub interval: CheckpointInterval,
    /// Why, most important first.
    pub reasons: Vec<Reason>,
    /// The load it is made for.
    pub load: Option<LoadForecast>,
    /// What is predicted at the interval.
    pub predicted: Option<Prediction>,
    /// What would help, where recovery cannot be met.
    pub advice: Option<Advice>,
}

impl Decision {
    /// The same decision where it may not be acted on, and why not. A hold stays a hold.
    #[must_use]
    pub fn only_recommended(mut self, why: Reason) -> Self {
        if matches!(self.verdict, Verdict::Change | Verdict::Keep) {
            self.verdict = Verdict::Recommend;
            self.reasons.push(why);
        }
        self
    }
}

/// Decides. A pure function: the same facts give the same decision. Without `predictors` it rests on
/// priors and the minutes, and only recommends.
pub fn decide(
    situation: &Situation<'_>,
    goals: &Goals,
    predictors: Option<&Predictors>,
) -> Decision {
    let hold_for = |reasons| Decision {
        at: situation.now,
        verdict: Verdict::Hold,
        from: situation.in_force,
        interval: situation.in_force,
        reasons,
        load: None,
        predicted: None,
        advice: None,
    };
    let hold = |reason| hold_for(vec![reason]);
    let Some(run) = situation.run else { return hold(Reason::JobUnknown) };
    if run.status != JobStatus::Running {
        return hold(Reason::NotRunning);
    }
    if checkpoints_failing(situation.minutes) {
        return hold(Reason::CheckpointsFailing);
    }
    let within = |at: Timestamp, s: f64| situation.now.secs_since(at) < s;
    if situation.rolled_back_at.is_some_and(|at| within(at, AFTER_ROLLBACK_S)) {
        return hold(Reason::RolledBack);
    }
    let horizon_min = match situation.change {
        ChangeCost::Driven | ChangeCost::Set => HORIZON_MIN,
        ChangeCost::Redeployed { .. } => REPAID_MIN,
    };
    let load = forecast_load(situation.minutes, situation.now, horizon_min);
    let (Some(load), Some(highest)) = (load, highest_load(situation.minutes)) else {
        return hold(Reason::LoadUnknown);
    };
    let of_priors =
        || Predictors::of(&Models::of_priors(situation.minutes, run.expected_dead_time)?).ok();
    let guessed = if predictors.is_none() && load.calibrated { of_priors() } else { None };
    let Some(predictors) = predictors.or(guessed.as_ref()) else {
        return hold(Reason::TooFewMinutes);
    };
    let unearned = (!predictors.earned).then(|| unearned(predictors, situation, highest));

    let recently = checkpoint_duration_s(situation.minutes);
    let Some(duration_s) = recently.or(predictors.checkpoint_duration.map(Seconds::get)) else {
        return hold(Reason::DurationUnknown);
    };
    // Driving only ever shortens the job's own interval; the others set it.
    let own = (situation.change == ChangeCost::Driven).then_some(run.checkpointing.interval);
    let (candidates, floor) = candidates(goals, own, duration_s);
    let rate = |ci, load: &LoadForecast| {
        Candidate::rate(ci, duration_s, load, predictors, goals.confidence)
    };
    let rated: Vec<Candidate> = candidates.iter().map(|&ci| rate(ci, &load)).collect();
    let (judged, unjudged) = judged(&rated, goals, predictors.earned);
    let unjudged = unjudged.into_iter().map(|objective| Reason::NotJudged { objective });
    if judged.is_empty() && unjudged.len() > 0 {
        // Every interval would be as good as any other, for want of knowing.
        let lost = unearned.filter(|why| !matches!(why, Reason::NoTrials { .. }));
        return hold_for(unjudged.chain(lost).collect());
    }
    let Choice { best, mut reasons, as_good } = choose(&rated, goals, judged);
    reasons.extend(unjudged);
    reasons.extend(floor.clone().filter(|_| best.interval == rated[0].interval));

    // A small increase waits, unless what it would wait in is worse than small.
    let small = is_small_increase(situation.in_force, best.interval);
    let lately = situation.changed_at.is_some_and(|at| within(at, DEAD_BAND_S));
    let present = rated.iter().find(|c| c.interval == situation.in_force).copied();
    let wait = if small && lately && as_good.contains(&situation.in_force) {
        present.map(|present| (present, Reason::DeadBand { better: best.interval }))
    } else {
        // Durations jitter, and the floor with them: each time would be a restart of its own. So what
        // is in force may stay while there is a pause between its checkpoints.
        let pauses = matches!(floor, Some(Reason::CheckpointsSlow { .. }))
            && situation.in_force.seconds() > duration_s;
        let present = present.or_else(|| pauses.then(|| rate(situation.in_force, &load)));
        not_repaid(situation, goals, best.interval, rate).and_then(|why| Some((present?, why)))
    };
    let chosen = match wait {
        Some((present, why)) => {
            reasons.insert(0, why);
            present
        }
        None => *best,
    };
    let cannot = reasons.contains(&Reason::ShortestRecovery);
    let decision = Decision {
        at: situation.now,
        verdict: if chosen.interval == situation.in_force {
            Verdict::Keep
        } else {
            Verdict::Change
        },
        from: situation.in_force,
        interval: chosen.interval,
        advice: goals
            .objectives
            .recovery
            .filter(|_| cannot)
            .map(|objective| advise(predictors, &candidates, duration_s, &load, objective)),
        reasons,
        load: Some(load),
        predicted: Some(chosen.predicted_in_full(duration_s, &load, predictors)),
    };
    match unearned {
        Some(why) => decision.only_recommended(why),
        None => decision,
    }
}

/// Why `predictors` may not be acted on.
fn unearned(predictors: &Predictors, situation: &Situation<'_>, highest: EventRate) -> Reason {
    let failures = predictors.failures;
    match predictors.drifted_at {
        Some(since) => Reason::Drifted { since, failures },
        None if situation.another_shape => Reason::AnotherShape { failures },
        None => Reason::NoTrials { highest, failures },
    }
}

/// Small increases wait; a decrease is never small.
fn is_small_increase(in_force: CheckpointInterval, best: CheckpointInterval) -> bool {
    best > in_force && best.seconds() < in_force.seconds() * (1.0 + DEAD_BAND)
}

fn recent<'a>(minutes: &'a [&'a Minute]) -> &'a [&'a Minute] {
    &minutes[minutes.len().saturating_sub(RECENT_MIN)..]
}

/// Checkpoints failed lately and none has completed since. A minute in which nobody could be asked
/// says nothing.
fn checkpoints_failing(minutes: &[&Minute]) -> bool {
    let told: Vec<(u32, u64, Option<u32>)> = recent(minutes)
        .iter()
        .filter_map(|m| Some((m.checkpoints_completed?, m.checkpoints_failed?, m.attempt)))
        .collect();
    let since = told.iter().rposition(|(completed, ..)| *completed > 0).unwrap_or(0);
    match (told.get(since), told.last()) {
        (Some((_, failed_then, then)), Some((completed, failed, now))) if then == now => {
            *completed == 0 && failed > failed_then
        }
        _ => false,
    }
}

/// The longest of the recent p99 durations, s; `None` while no checkpoint has completed.
fn checkpoint_duration_s(minutes: &[&Minute]) -> Option<f64> {
    let recent = recent(minutes).iter();
    recent.filter_map(|m| m.checkpoint_duration.known().map(Seconds::get)).reduce(f64::max)
}

#[cfg(test)]
mod tests;
