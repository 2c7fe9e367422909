//! Which trial further, and whether any.
//!
//! The first six suit any job; what is still doubted after them depends on it. A further trial is
//! chosen by what it would teach about the decision: about recovery at the loads at which the job
//! lives and at the intervals between which the objective decides there. It ends by itself: where the
//! bounds are tight, or nothing that could be tried would teach much, no trial is worth its clone.

use crate::observe::Observation;
use crate::optimize::{Measures, Place, RecoveryModel, RecoveryParameters};
use crate::profile::{IntervalBounds, PlannedTrial};
use crate::units::{CheckpointInterval, EventRate, Seconds};

/// Tight enough: the standard deviation of the log of the mean recovery at which the bound that a
/// decision uses lies 5 % above the middle, for e^(0.674·0.072) = 1.05.
const TIGHT: f64 = 0.072;
/// A trial that takes away less than this share of the doubt is not worth its clone.
const WORTH: f64 = 0.05;
/// The objective decides where it is within this factor of what some interval gives.
const NEAR: f64 = 1.3;
/// Intervals between the bounds that may be tried, by their place in logs.
const INTERVALS: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];

/// The trial that would teach most about the decisions to come, or `None` where it is not worth it:
/// `model` knows enough where the job lives, or no trial would tell much more.
///
/// `objective` bounds the recovery; without one every interval matters.
pub fn further(
    model: &RecoveryModel,
    observation: &Observation,
    bounds: IntervalBounds,
    objective: Option<Seconds>,
) -> Option<PlannedTrial> {
    let duration_s = observation.checkpoint_duration.known().map_or(0.0, Seconds::get);
    let bounds = bounds.above_durations(observation.checkpoint_duration.known());
    let places: Vec<Place> = observation
        .usual
        .iter()
        .filter_map(|load| decisive(&model.parameters, bounds, duration_s, *load, objective))
        .collect();
    let doubt = model.doubt(&places);
    if places.is_empty() || doubt <= TIGHT {
        return None;
    }
    let candidates = observation.levels.iter().flat_map(|level| {
        let planned = |share| PlannedTrial {
            interval: bounds.at(share),
            load: level.rate,
            stretch: level.stretch,
        };
        INTERVALS.map(planned)
    });
    let left = |trial: &PlannedTrial| {
        let (interval_s, load) = (trial.interval.seconds(), trial.load.get());
        let at = Place { interval_s, duration_s, load };
        // A clone that cannot keep up never becomes steady.
        let bears = model.parameters.worst_case(interval_s, duration_s, load).is_some();
        bears.then(|| model.doubt_after(at, Measures::Parts, &places))
    };
    let (trial, left) = candidates
        .filter_map(|trial| Some((trial, left(&trial)?)))
        .min_by(|(_, a), (_, b)| a.total_cmp(b))?;
    (left <= doubt * (1.0 - WORTH)).then_some(trial)
}

/// Where the decision at `load` is made: at the largest interval that keeps the objective, by the most
/// probable parameters. `None` where the objective is far from what any interval gives: doubt about
/// recovery changes no decision there.
fn decisive(
    parameters: &RecoveryParameters,
    bounds: IntervalBounds,
    duration_s: f64,
    load: EventRate,
    objective: Option<Seconds>,
) -> Option<Place> {
    let load = load.get();
    let recovery = |interval_s: f64| {
        parameters.worst_case(interval_s, duration_s, load).unwrap_or(f64::INFINITY)
    };
    let at = |interval_s| Place { interval_s, duration_s, load };
    let Some(objective) = objective.map(Seconds::get) else {
        return Some(at(bounds.at(0.5).seconds()));
    };
    let candidates: Vec<f64> = bounds.candidates().map(CheckpointInterval::seconds).collect();
    let shortest =
        candidates.iter().copied().min_by(|a, b| recovery(*a).total_cmp(&recovery(*b)))?;
    let largest_kept = candidates.iter().rfind(|ci| recovery(**ci) <= objective).copied();
    let kept_everywhere = recovery(bounds.max().seconds()) * NEAR <= objective;
    let kept_nowhere = recovery(shortest) > objective * NEAR;
    (!kept_everywhere && !kept_nowhere).then(|| at(largest_kept.unwrap_or(shortest)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::LoadLevel;
    use crate::profile::{Recovery, Trial};
    use crate::series::Reading;
    use crate::units::{Span, Timestamp};

    fn rate(eps: f64) -> EventRate {
        EventRate::new(eps).unwrap()
    }

    fn seconds(s: f64) -> Seconds {
        Seconds::new(s).unwrap()
    }

    fn observation() -> Observation {
        let stretch = Span { from: Timestamp(0), to: Timestamp(3_600_000) };
        let loads = |n: u32| (1..=n).map(move |i| rate(10_000.0 * f64::from(i) / f64::from(n)));
        Observation {
            span: stretch,
            known_minutes: 60,
            unknown_minutes: 0,
            steady_minutes: 60,
            lag: seconds(0.1),
            latency: Reading::Unknown,
            lowest: rate(2_000.0),
            highest: rate(10_000.0),
            levels: loads(5).map(|rate| LoadLevel { rate, stretch }).collect(),
            usual: loads(10).collect(),
            checkpoint_duration: Reading::Known(seconds(1.0)),
            shape: None,
        }
    }

    const TRUTH: RecoveryParameters = RecoveryParameters {
        dead_time_s: 20.0,
        settling_s: 30.0,
        capacity_eps: 13_000.0,
        checkpoint_cost_s: 0.5,
    };

    fn bounds() -> IntervalBounds {
        let secs = |s| CheckpointInterval::from_secs(s).unwrap();
        IntervalBounds::new(secs(10), secs(120)).unwrap()
    }

    /// A whole recovery of [`TRUTH`], off by `scatter`.
    fn trial(index: usize, interval_s: f64, load: f64, scatter: f64) -> Trial {
        let recovery = TRUTH.worst_case(interval_s, 1.0, load).unwrap() * scatter;
        Trial {
            checkpoint_duration: Some(seconds(1.0)),
            ..Trial::of_recovery(
                index as u32,
                CheckpointInterval::from_secs(interval_s as u32).unwrap(),
                rate(load),
                Recovery::Measured(seconds(recovery)),
            )
        }
    }

    fn known(trials: &[Trial]) -> RecoveryModel {
        RecoveryModel::fit(&trials.iter().collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn it_goes_on_where_the_decision_is_in_doubt_and_ends_by_itself() {
        let objective = Some(seconds(150.0));
        let mut trials = vec![trial(0, 120.0, 10_000.0, 1.1), trial(1, 10.0, 2_000.0, 0.9)];
        let at = Place { interval_s: 60.0, duration_s: 1.0, load: 8_000.0 };
        let mut doubts = vec![known(&trials).doubt(&[at])];
        while let Some(next) = further(&known(&trials), &observation(), bounds(), objective) {
            let (interval_s, load) = (next.interval.seconds(), next.load.get());
            let scatter = if trials.len() % 2 == 0 { 1.12 } else { 0.9 };
            trials.push(trial(trials.len(), interval_s, load, scatter));
            doubts.push(known(&trials).doubt(&[at]));
            assert!(trials.len() < 60, "it does not end: {doubts:?}");
        }
        assert!(trials.len() > 3, "two trials with a scatter of 10 % are not enough");
        assert!(doubts[doubts.len() - 1] < 0.75 * doubts[0], "{doubts:?}");
    }

    #[test]
    fn where_no_interval_comes_near_the_objective_nothing_is_worth_a_clone() {
        let few = known(&[trial(0, 120.0, 10_000.0, 1.1), trial(1, 10.0, 2_000.0, 0.9)]);
        let with = |objective: Option<f64>| {
            further(&few, &observation(), bounds(), objective.map(seconds)).is_some()
        };
        assert!(with(Some(150.0)) && with(None));
        assert!(!with(Some(20_000.0)), "any interval would do");
        assert!(!with(Some(5.0)), "none would");
    }

    #[test]
    fn the_decisive_interval_by_hand() {
        // At 5,000/s: R = 50 + (20 + CI + 1)·5,000/(13,000·(1 − 0.5/CI) − 5,000). For 100 s:
        // CI 57: 78·5,000/7,886 = 49.5; CI 58: 79·5,000/7,888 = 50.1, one too many.
        let at =
            |load, objective| decisive(&TRUTH, bounds(), 1.0, rate(load), Some(seconds(objective)));
        assert_eq!(at(5_000.0, 100.0).map(|place| place.interval_s), Some(57.0));
        assert_eq!(at(100.0, 100.0), None, "at 100/s even 120 s give 51 s");
        assert_eq!(at(12_900.0, 100.0), None, "beyond help");
    }
}
