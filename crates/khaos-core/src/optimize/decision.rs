//! The decision: which interval, and why.
//!
//! Data flow: [`Situation`] (recorded facts) + [`Goals`] + [`Predictors`] → candidates with their
//! predictions → feasible ones → the best of them → dead band → [`Decision`]. Whatever is missing
//! on the way makes the decision a hold that says so.

use khaos_stats::FitError;
use serde::{Deserialize, Serialize};

use crate::job::{JobRun, JobStatus};
use crate::observe::Minute;
use crate::optimize::{
    Goals, LatencyPredictor, LoadForecast, Models, Objective, RecoveryPredictor, forecast_load,
};
use crate::units::{CheckpointInterval, Seconds, Timestamp};

/// Credibility of the bounds on mean recovery and latency that a decision uses. Source: DESIGN,
/// uncertainty.
const CREDIBILITY: f64 = 0.75;
/// Minutes ahead that a driven interval has to suit: until the next decision, and one missed.
pub const HORIZON_MIN: u32 = 2;
/// An increase smaller than this share of the interval waits,
const DEAD_BAND: f64 = 0.1;
/// until the last change is this long ago, s: the interval then creeps up instead of twitching.
const DEAD_BAND_S: f64 = 900.0;
/// After a change was rolled back nothing is changed for this long, s.
const AFTER_ROLLBACK_S: f64 = 600.0;
/// Among feasible intervals, latencies within this share of the lowest count as equal.
const SAME_LATENCY: f64 = 0.01;
/// The interval is at least so many checkpoint durations.
const DURATIONS: f64 = 2.0;
/// Recent minutes whose checkpoint durations and failures count.
const RECENT_MIN: usize = 10;

/// Models ready to predict.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictors {
    recovery: RecoveryPredictor,
    latency: Option<LatencyPredictor>,
}

impl Predictors {
    /// Makes `models` ready.
    pub fn of(models: &Models) -> Result<Self, FitError> {
        Ok(Self {
            recovery: models.recovery.predictor()?,
            latency: models
                .latency
                .as_ref()
                .map(crate::optimize::LatencyModel::predictor)
                .transpose()?,
        })
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
    /// Recent minutes, oldest first.
    pub minutes: &'a [&'a Minute],
    /// When the interval last changed.
    pub changed_at: Option<Timestamp>,
    /// When a change was last rolled back, unless there was another change since.
    pub rolled_back_at: Option<Timestamp>,
}

/// What became of the question "which interval?".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Change the interval.
    Change,
    /// The interval in force is the right one.
    Keep,
    /// Not judged: something that has to be known is not, or now is not the time.
    Hold,
}

/// One reason of a decision, with its data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// There are no models of this job yet.
    NoModels,
    /// The engine could not be asked.
    JobUnknown,
    /// Some vertex does not run.
    NotRunning,
    /// The arrival rate has not been read for too long.
    LoadUnknown,
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
    /// No interval keeps the recovery objective: this one has the shortest recovery.
    ShortestRecovery,
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
    /// Change, keep or hold.
    pub verdict: Verdict,
    /// The interval in force before.
    pub from: CheckpointInterval,
    /// The interval that should be in force after.
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

/// Decides. A pure function: the same facts give the same decision.
pub fn decide(
    situation: &Situation<'_>,
    goals: &Goals,
    predictors: Option<&Predictors>,
) -> Decision {
    let hold = |reason| Decision {
        at: situation.now,
        verdict: Verdict::Hold,
        from: situation.in_force,
        interval: situation.in_force,
        reasons: vec![reason],
        load: None,
        predicted: None,
        advice: None,
    };
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
    let Some(predictors) = predictors else { return hold(Reason::NoModels) };
    let Some(load) = forecast_load(situation.minutes, situation.now, HORIZON_MIN) else {
        return hold(Reason::LoadUnknown);
    };

    let duration_s = checkpoint_duration_s(situation.minutes);
    let (candidates, floors) = candidates(goals, duration_s);
    let rated: Vec<Candidate> =
        candidates.iter().map(|&ci| Candidate::rate(ci, duration_s, &load, predictors)).collect();
    let (best, mut reasons) = choose(&rated, goals);
    reasons.extend(floors.into_iter().filter(|_| best.interval == rated[0].interval));

    let small = is_small_increase(situation.in_force, best.interval);
    let wait = (small && situation.changed_at.is_some_and(|at| within(at, DEAD_BAND_S)))
        .then(|| rated.iter().find(|c| c.interval == situation.in_force))
        .flatten();
    if wait.is_some() {
        reasons.insert(0, Reason::DeadBand { better: best.interval });
    }
    let chosen = wait.unwrap_or(best);
    let cannot = reasons.contains(&Reason::ShortestRecovery);
    Decision {
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
        predicted: Some(chosen.predicted),
    }
}

/// Small increases wait; a decrease is never small.
fn is_small_increase(in_force: CheckpointInterval, best: CheckpointInterval) -> bool {
    best > in_force && best.seconds() < in_force.seconds() * (1.0 + DEAD_BAND)
}

fn recent<'a>(minutes: &'a [&'a Minute]) -> &'a [&'a Minute] {
    &minutes[minutes.len().saturating_sub(RECENT_MIN)..]
}

/// Checkpoints failed lately and none has completed since.
fn checkpoints_failing(minutes: &[&Minute]) -> bool {
    let recent = recent(minutes);
    let since = recent.iter().rposition(|m| m.checkpoints_completed > 0).unwrap_or(0);
    let failed = |m: &Minute| m.checkpoints_failed;
    match (recent.get(since), recent.last()) {
        (Some(then), Some(now)) if then.attempt == now.attempt => {
            now.checkpoints_completed == 0 && failed(now) > failed(then)
        }
        _ => false,
    }
}

/// The longest of the recent p99 durations, s; zero while no checkpoint has completed.
fn checkpoint_duration_s(minutes: &[&Minute]) -> f64 {
    recent(minutes)
        .iter()
        .filter_map(|m| m.checkpoint_duration.known().map(Seconds::get))
        .fold(0.0, f64::max)
}

/// Every interval that may be chosen, smallest first and never none, and why smaller ones may not.
fn candidates(goals: &Goals, duration_s: f64) -> (Vec<CheckpointInterval>, Vec<Reason>) {
    let max = goals.bounds.max();
    let at_least = |seconds: f64| {
        let whole = (seconds.ceil() as u32).clamp(goals.bounds.min().secs(), max.secs());
        CheckpointInterval::from_secs(whole).expect("within bounds")
    };
    let slow = at_least(DURATIONS * duration_s);
    let budget =
        at_least(goals.checkpoints_per_hour.map_or(0.0, |n| 3_600.0 / f64::from(n.max(1))));
    let floor = slow.max(budget);
    let mut reasons = Vec::new();
    if floor > goals.bounds.min() {
        reasons.push(if slow >= budget {
            Reason::CheckpointsSlow { floor }
        } else {
            Reason::Budget { floor }
        });
    }
    (goals.bounds.candidates().filter(|&ci| ci >= floor).collect(), reasons)
}

/// An interval with what is predicted for it.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    interval: CheckpointInterval,
    predicted: Prediction,
    /// Orders intervals by recovery, also those beyond capacity.
    recovery_rank: (bool, f64),
}

impl Candidate {
    fn rate(
        interval: CheckpointInterval,
        duration_s: f64,
        load: &LoadForecast,
        predictors: &Predictors,
    ) -> Self {
        let (ci, upper) = (interval.seconds(), load.upper.get());
        let recovery_upper_s = predictors.recovery.upper(CREDIBILITY, ci, duration_s, upper);
        let latency = predictors.latency.as_ref();
        let floored = || predictors.recovery.parameters().worst_case_floored(ci, duration_s, upper);
        Self {
            interval,
            predicted: Prediction {
                recovery_upper_s,
                latency_ms: latency.map(|l| l.expected(ci, load.upper)),
                latency_upper_ms: latency.map(|l| l.upper(CREDIBILITY, ci, load.upper)),
                visibility_s: ci + duration_s,
            },
            recovery_rank: (recovery_upper_s.is_none(), recovery_upper_s.unwrap_or_else(floored)),
        }
    }

    /// Whether the objective is kept. Unknown latency breaks no latency objective: there is nothing
    /// that another interval could be known to do better.
    fn keeps(&self, objective: Objective, goals: &Goals) -> bool {
        let Goals { objectives, .. } = goals;
        match objective {
            Objective::Recovery => objectives.recovery.is_none_or(|bound| {
                self.predicted.recovery_upper_s.is_some_and(|upper| upper <= bound.get())
            }),
            Objective::Visibility => {
                objectives.visibility.is_none_or(|bound| self.predicted.visibility_s <= bound.get())
            }
            Objective::Latency => objectives.latency.is_none_or(|bound| {
                self.predicted.latency_upper_ms.is_none_or(|upper| upper <= bound.get())
            }),
        }
    }
}

/// The best candidate, and why.
fn choose<'a>(rated: &'a [Candidate], goals: &Goals) -> (&'a Candidate, Vec<Reason>) {
    let mut kept = goals.objectives.set();
    let mut given_up = Vec::new();
    let feasible = loop {
        let feasible: Vec<&Candidate> =
            rated.iter().filter(|c| kept.iter().all(|&o| c.keeps(o, goals))).collect();
        match kept.pop() {
            None => break feasible,
            Some(last) if feasible.is_empty() => given_up.push(last),
            Some(last) => {
                kept.push(last);
                break feasible;
            }
        }
    };
    let beside = given_up.iter().rev().filter(|&&o| o != Objective::Recovery);
    let mut reasons: Vec<Reason> = beside.map(|&objective| Reason::GivenUp { objective }).collect();
    if given_up.contains(&Objective::Recovery) {
        let shortest = feasible
            .into_iter()
            .min_by(|a, b| {
                let ((a_beyond, a), (b_beyond, b)) = (a.recovery_rank, b.recovery_rank);
                a_beyond.cmp(&b_beyond).then(a.total_cmp(&b))
            })
            .expect("with nothing left to keep every candidate is feasible, and there is one");
        reasons.insert(0, Reason::ShortestRecovery);
        return (shortest, reasons);
    }
    let latency = |c: &Candidate| c.predicted.latency_ms.unwrap_or(0.0);
    let lowest = feasible.iter().map(|c| latency(c)).fold(f64::INFINITY, f64::min);
    let best = feasible
        .into_iter()
        .rfind(|c| latency(c) <= lowest * (1.0 + SAME_LATENCY))
        .expect("the one with the lowest latency is within 1 % of it");
    reasons.insert(0, Reason::LargestFeasible { keeps: kept });
    (best, reasons)
}

/// What would make the recovery objective possible: the least capacity over all intervals.
fn advise(
    predictors: &Predictors,
    candidates: &[CheckpointInterval],
    duration_s: f64,
    load: &LoadForecast,
    objective: Seconds,
) -> Advice {
    let parameters = predictors.recovery.parameters();
    candidates
        .iter()
        .filter_map(|ci| {
            let load = load.upper.get();
            parameters.capacity_needed(ci.seconds(), duration_s, load, objective.get())
        })
        .min_by(f64::total_cmp)
        .map_or(Advice::ShortenDeadTime { floor_s: parameters.floor_s() }, |needed_eps| {
            Advice::Capacity { now_eps: parameters.capacity_eps, needed_eps }
        })
}

impl Decision {
    /// The decision in one sentence.
    pub fn sentence(&self) -> String {
        let head = match self.verdict {
            Verdict::Change => {
                format!("Change the interval from {} to {}", self.from, self.interval)
            }
            Verdict::Keep => format!("Keep the interval at {}", self.interval),
            Verdict::Hold => format!("Hold the interval at {}", self.interval),
        };
        let load = self
            .load
            .map_or(String::new(), |l| format!(", ready for {:.0} events/s", l.upper.get()));
        let reasons: Vec<String> = self.reasons.iter().map(ToString::to_string).collect();
        let advice = self.advice.map_or(String::new(), |a| format!("; {a}"));
        format!("{head}{load}: {}{advice}.", reasons.join("; "))
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoModels => write!(f, "there are no models of this job yet"),
            Self::JobUnknown => write!(f, "the engine could not be asked about the job"),
            Self::NotRunning => write!(f, "the job is not running"),
            Self::LoadUnknown => write!(f, "the arrival rate is not known"),
            Self::CheckpointsFailing => write!(f, "checkpoints fail and none completes"),
            Self::RolledBack => write!(f, "the last change was just rolled back"),
            Self::LargestFeasible { keeps } if keeps.is_empty() => {
                write!(f, "no objective asks for a smaller one")
            }
            Self::LargestFeasible { keeps } => {
                let names: Vec<String> = keeps.iter().map(ToString::to_string).collect();
                write!(f, "the largest that keeps {}", names.join(" and "))
            }
            Self::GivenUp { objective } => write!(f, "{objective} cannot be kept beside that"),
            Self::ShortestRecovery => {
                write!(f, "no interval keeps the recovery objective, this one recovers fastest")
            }
            Self::DeadBand { better } => write!(f, "{better} would be too small a step"),
            Self::CheckpointsSlow { floor } => {
                write!(f, "checkpoints take too long for less than {floor}")
            }
            Self::Budget { floor } => {
                write!(f, "the checkpoint budget allows no less than {floor}")
            }
        }
    }
}

impl std::fmt::Display for Advice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Capacity { now_eps, needed_eps } => write!(
                f,
                "a capacity of {needed_eps:.0} events/s instead of {now_eps:.0} would keep it"
            ),
            Self::ShortenDeadTime { floor_s } => write!(
                f,
                "no capacity would keep it: detection and restore take {floor_s:.0} s, shorten them"
            ),
        }
    }
}

#[cfg(test)]
mod tests;
