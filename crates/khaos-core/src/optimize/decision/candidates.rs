//! The intervals that may be chosen, what is predicted for each, and which is best.

use super::{Advice, Prediction, Predictors, Reason};
use crate::optimize::{Goals, LoadForecast, Objective};
use crate::units::{CheckpointInterval, Seconds};

/// Credibility of the bounds on mean recovery and latency that a decision uses. Source: DESIGN,
/// uncertainty.
const CREDIBILITY: f64 = 0.75;
/// Among feasible intervals, latencies within this share of the lowest count as equal.
const SAME_LATENCY: f64 = 0.01;
/// The interval is at least so many checkpoint durations.
const DURATIONS: f64 = 2.0;

/// Every interval that may be chosen, smallest first and never none, and why smaller ones may not.
pub(super) fn candidates(goals: &Goals, duration_s: f64) -> (Vec<CheckpointInterval>, Vec<Reason>) {
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
pub(super) struct Candidate {
    pub(super) interval: CheckpointInterval,
    pub(super) predicted: Prediction,
    /// Orders intervals by recovery, also those beyond capacity.
    recovery_rank: (bool, f64),
}

impl Candidate {
    pub(super) fn rate(
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
pub(super) fn choose<'a>(rated: &'a [Candidate], goals: &Goals) -> (&'a Candidate, Vec<Reason>) {
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
pub(super) fn advise(
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
