//! Does a change repay what it costs?
//!
//! Driving costs nothing. A redeploy stalls the job, and has to gain more than that over a horizon of
//! its own: time within the objectives that would be lost otherwise, shorter recoveries where recovery
//! is lost anyhow, latency where it is kept anyhow. Until then there is no other, unless the recovery
//! objective is about to be broken and another would keep it.

use super::candidates::Candidate;
use super::{ChangeCost, Situation};
use crate::observe::Minute;
use crate::optimize::decision::Reason;
use crate::optimize::{Goals, LoadForecast, Objective, forecast_load};
use crate::units::{CheckpointInterval, Seconds};

/// Minutes within which a redeploy has to have repaid itself.
pub(super) const REPAID_MIN: u32 = 30;
/// Steps in which they are looked at, min.
const STEP_MIN: u32 = 5;
/// How long a redeploy stalls a job where none was measured yet, s: the paper's cluster lost 4.4 to
/// 6.6 s, starting machines takes longer.
const USUAL_STALL_S: f64 = 10.0;

/// Why a change from the interval in force to `better` has to wait; `None` where it need not.
/// `rate` says what an interval does at a load.
pub(super) fn not_repaid(
    situation: &Situation<'_>,
    goals: &Goals,
    better: CheckpointInterval,
    rate: impl Fn(CheckpointInterval, &LoadForecast) -> Candidate,
) -> Option<Reason> {
    let ChangeCost::Redeployed { stall } = situation.change else { return None };
    if better == situation.in_force {
        return None;
    }
    let steps: Vec<LoadForecast> = (1..=REPAID_MIN / STEP_MIN)
        .filter_map(|step| forecast_load(situation.minutes, situation.now, step * STEP_MIN))
        .collect();
    let pairs: Vec<[Candidate; 2]> =
        steps.iter().map(|load| [situation.in_force, better].map(|ci| rate(ci, load))).collect();

    let step_s = f64::from(STEP_MIN) * 60.0;
    let gained = |[present, other]: &[Candidate; 2]| step_s * gained_share(present, other, goals);
    let gain_s: f64 = pairs.iter().map(gained).sum();

    // On a ramp every minute has a better interval: each would be a restart of its own.
    let lately = situation
        .changed_at
        .is_some_and(|at| situation.now.secs_since(at) < f64::from(REPAID_MIN) * Minute::SECS);
    let first = pairs.first();
    let keeps_recovery = |candidate: &Candidate| candidate.keeps(Objective::Recovery, goals);
    let mends =
        first.is_some_and(|[present, other]| !keeps_recovery(present) && keeps_recovery(other));
    if lately && !mends {
        return Some(Reason::StillRepaying { better });
    }

    let stall_s = stall.map_or(USUAL_STALL_S, Seconds::get);
    // The stall and the catch-up after it; the latency is out of bounds for as long.
    let cost_s = steps.first().zip(pairs.first()).map_or(stall_s, |(load, [_, other])| {
        let arriving = load.expected.get();
        other.left_eps.map_or(f64::INFINITY, |left| stall_s * left / (left - arriving))
    });
    (gain_s <= cost_s).then_some(Reason::NotRepaid { better, cost_s, gain_s })
}

/// What `other` gains over `present`, as a share of the time: 1 where it keeps an objective that would be
/// broken. The most important objective that tells them apart decides, as in the choice itself, and where
/// neither keeps recovery the shorter one: otherwise an interval that mends recovery would have to make up
/// for the latency that it costs.
fn gained_share(present: &Candidate, other: &Candidate, goals: &Goals) -> f64 {
    let (now, then) = (&present.predicted, &other.predicted);
    for objective in goals.objectives.set() {
        match (present.keeps(objective, goals), other.keeps(objective, goals)) {
            (false, true) => return 1.0,
            (true, false) => return -1.0,
            (false, false) if objective == Objective::Recovery => {
                return less(now.recovery_upper_s, then.recovery_upper_s);
            }
            (true, true) | (false, false) => {}
        }
    }
    less(now.latency_ms, then.latency_ms)
}

/// By which share `then` is less than `now`. What has no bound is more than whatever has one.
fn less(now: Option<f64>, then: Option<f64>) -> f64 {
    match (now, then) {
        (Some(now), Some(then)) => 1.0 - then / now,
        (None, Some(_)) => 1.0,
        (Some(_), None) => -1.0,
        (None, None) => 0.0,
    }
}
