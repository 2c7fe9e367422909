//! The intervals that may be chosen, what is predicted for each, and which is best.

use std::cmp::Ordering;

use super::{Advice, Prediction, Predictors, Reason};
use crate::optimize::{Confidence, Goals, LoadForecast, Objective};
use crate::profile::IntervalBounds;
use crate::units::{CheckpointInterval, Seconds};

/// Credibility of the bounds on mean recovery and latency that a decision uses. Source: DESIGN,
/// uncertainty.
pub(super) const CREDIBILITY: f64 = 0.75;
/// A single recovery is shorter with this probability: the upper end of its 90 % interval.
const SINGLE: f64 = 0.95;
/// Single recoveries lie within the interval that is reported with this probability.
const REPORTED: f64 = 0.9;
/// Among feasible intervals, latencies within this share of the lowest count as equal.
const SAME_LATENCY: f64 = 0.01;
/// The interval is at least so many checkpoint durations.
const DURATIONS: f64 = 2.0;

/// Every interval that may be chosen, smallest first and never none, and why smaller ones may not.
/// None is above `own`, where there is one: the job's own interval, which driving can only shorten.
pub(super) fn candidates(
    goals: &Goals,
    own: Option<CheckpointInterval>,
    duration_s: f64,
) -> (Vec<CheckpointInterval>, Option<Reason>) {
    let max = own.map_or(goals.bounds.max(), |own| goals.bounds.max().min(own));
    let min = goals.bounds.min().min(max);
    let at_least = |seconds: f64| {
        let whole = (seconds.ceil() as u32).clamp(min.secs(), max.secs());
        CheckpointInterval::from_secs(whole).expect("between two intervals")
    };
    let slow = at_least(DURATIONS * duration_s);
    let budget =
        at_least(goals.checkpoints_per_hour.map_or(0.0, |n| 3_600.0 / f64::from(n.max(1))));
    let floor = slow.max(budget);
    let reason =
        if slow >= budget { Reason::CheckpointsSlow { floor } } else { Reason::Budget { floor } };
    let bounds = IntervalBounds::new(floor, max).expect("a floor is at most the largest");
    (bounds.candidates().collect(), (floor > min).then_some(reason))
}

/// An interval with what is predicted for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) interval: CheckpointInterval,
    pub(super) predicted: Prediction,
    /// What is left of the capacity beside its checkpoints, events/s, where that is more than the
    /// expected load: otherwise nothing is ever caught up with.
    pub(super) left_eps: Option<f64>,
    recovery_rank: RecoveryRank,
}

/// Orders intervals by recovery, also where there is none.
#[derive(Debug, Clone, Copy)]
enum RecoveryRank {
    /// By the upper bound, s.
    Bounded(f64),
    /// Perhaps beyond capacity: by what is most probable, s.
    Probable(f64),
    /// Beyond capacity at the upper load, but not at the expected: by what is most probable there, s.
    Expected(f64),
    /// Beyond capacity: by what arrives more than can be processed, events/s. A small interval would
    /// be the worst, because it costs the most capacity.
    Overloaded(f64),
}

impl RecoveryRank {
    fn compare(&self, other: &Self) -> Ordering {
        let key = |rank: &Self| match *rank {
            Self::Bounded(s) => (0, s),
            Self::Probable(s) => (1, s),
            Self::Expected(s) => (2, s),
            Self::Overloaded(eps) => (3, eps),
        };
        let ((tier, value), (other_tier, other_value)) = (key(self), key(other));
        tier.cmp(&other_tier).then(value.total_cmp(&other_value))
    }
}

impl Candidate {
    pub(super) fn rate(
        interval: CheckpointInterval,
        duration_s: f64,
        load: &LoadForecast,
        predictors: &Predictors,
        confidence: Confidence,
    ) -> Self {
        let (ci, upper) = (interval.seconds(), load.upper.get());
        let recovery_upper_s = predictors.recovery.upper(CREDIBILITY, ci, duration_s, upper);
        let recovery_bound_s = match confidence {
            Confidence::Mean => recovery_upper_s,
            Confidence::Single => {
                predictors.recovery.prediction_upper(SINGLE, ci, duration_s, upper)
            }
        };
        let latency = predictors.latency.as_ref();
        let parameters = predictors.recovery.parameters();
        let probable = parameters.worst_case(ci, duration_s, upper);
        let expected = parameters.worst_case(ci, duration_s, load.expected.get());
        let recovery_rank = match (recovery_bound_s, probable, expected) {
            (Some(bound), ..) => RecoveryRank::Bounded(bound),
            (None, Some(probable), _) => RecoveryRank::Probable(probable),
            (None, None, Some(expected)) => RecoveryRank::Expected(expected),
            (None, None, None) => {
                RecoveryRank::Overloaded(upper - parameters.capacity_beside_checkpoints(ci))
            }
        };
        let left = parameters.capacity_beside_checkpoints(ci);
        Self {
            interval,
            left_eps: Some(left).filter(|left| *left > load.expected.get()),
            predicted: Prediction {
                recovery_upper_s,
                recovery_interval90_s: None,
                latency_ms: latency.map(|l| l.expected(ci, load.upper)),
                latency_upper_ms: latency.map(|l| l.upper(CREDIBILITY, ci, load.upper)),
                visibility_s: ci + duration_s,
            },
            recovery_rank,
        }
    }

    /// What is predicted, with the interval of single recoveries, which takes longer to find than all
    /// else.
    pub(super) fn predicted_in_full(
        &self,
        duration_s: f64,
        load: &LoadForecast,
        predictors: &Predictors,
    ) -> Prediction {
        let (ci, upper) = (self.interval.seconds(), load.upper.get());
        Prediction {
            recovery_interval90_s: predictors
                .recovery
                .prediction_interval(REPORTED, ci, duration_s, upper),
            ..self.predicted
        }
    }

    /// What the recovery objective is held against, s; `None` where there is no bound.
    fn recovery_bound_s(&self) -> Option<f64> {
        match self.recovery_rank {
            RecoveryRank::Bounded(bound) => Some(bound),
            RecoveryRank::Probable(_) | RecoveryRank::Expected(_) | RecoveryRank::Overloaded(_) => {
                None
            }
        }
    }

    /// Whether the objective is known to be kept.
    pub(super) fn keeps(&self, objective: Objective, goals: &Goals) -> bool {
        let Goals { objectives, .. } = goals;
        match objective {
            Objective::Recovery => objectives.recovery.is_none_or(|bound| {
                self.recovery_bound_s().is_some_and(|upper| upper <= bound.get())
            }),
            Objective::Visibility => {
                objectives.visibility.is_none_or(|bound| self.predicted.visibility_s <= bound.get())
            }
            Objective::Latency => objectives.latency.is_none_or(|bound| {
                self.predicted.latency_upper_ms.is_some_and(|upper| upper <= bound.get())
            }),
        }
    }
}

/// The best candidate, why, and those that keep as much as it does.
pub(super) struct Choice<'a> {
    pub(super) best: &'a Candidate,
    pub(super) reasons: Vec<Reason>,
    /// Empty where recovery cannot be kept: then nothing is as good as the best.
    pub(super) as_good: Vec<CheckpointInterval>,
}

/// The objectives that are set: those that can be judged, and those that cannot. Latency cannot
/// without a model of it; recovery cannot where priors alone are sure of no interval: that is no
/// finding about the job, and the interval that they would call the fastest is noise.
pub(super) fn judged(
    rated: &[Candidate],
    goals: &Goals,
    earned: bool,
) -> (Vec<Objective>, Vec<Objective>) {
    goals.objectives.set().into_iter().partition(|&objective| match objective {
        Objective::Recovery => earned || rated.iter().any(|c| c.keeps(objective, goals)),
        Objective::Visibility => true,
        Objective::Latency => rated.iter().all(|c| c.predicted.latency_upper_ms.is_some()),
    })
}

/// Chooses by the objectives to be `kept`, most important first.
pub(super) fn choose<'a>(
    rated: &'a [Candidate],
    goals: &Goals,
    mut kept: Vec<Objective>,
) -> Choice<'a> {
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
    let recovery_given_up = given_up.contains(&Objective::Recovery);
    let best = if recovery_given_up {
        feasible.iter().min_by(|a, b| a.recovery_rank.compare(&b.recovery_rank))
    } else {
        let latency = |c: &Candidate| c.predicted.latency_ms.unwrap_or(0.0);
        let lowest = feasible.iter().map(|c| latency(c)).fold(f64::INFINITY, f64::min);
        feasible.iter().rfind(|c| latency(c) <= lowest * (1.0 + SAME_LATENCY))
    };
    let best = *best.expect("with nothing left to keep every candidate is feasible");
    let mut reasons = vec![if recovery_given_up {
        Reason::ShortestRecovery
    } else {
        Reason::LargestFeasible { keeps: kept }
    }];
    // What had to be given up on the way may be kept all the same.
    let broken = given_up.iter().rev().filter(|&&o| !best.keeps(o, goals));
    let others = broken.filter(|&&o| o != Objective::Recovery);
    reasons.extend(others.map(|&objective| Reason::GivenUp { objective }));
    let as_good = feasible.iter().filter(|_| !recovery_given_up).map(|c| c.interval).collect();
    Choice { best, reasons, as_good }
}

/// What would make the recovery objective possible: the least capacity over all intervals, as sure
/// as a decision has to be.
pub(super) fn advise(
    predictors: &Predictors,
    candidates: &[CheckpointInterval],
    duration_s: f64,
    load: &LoadForecast,
    objective: Seconds,
) -> Advice {
    let recovery = &predictors.recovery;
    let needed = candidates.iter().filter_map(|ci| {
        let (ci, load) = (ci.seconds(), load.upper.get());
        recovery.capacity_needed(CREDIBILITY, ci, duration_s, load, objective.get())
    });
    let parameters = recovery.parameters();
    needed
        .min_by(f64::total_cmp)
        .map_or(Advice::ShortenDeadTime { floor_s: parameters.floor_s() }, |needed_eps| {
            Advice::Capacity { now_eps: parameters.capacity_eps, needed_eps }
        })
}
