//! How far off are predictions of trials that the fit has not seen?
//!
//! trials, in groups → for each group a fit of the others → [`Held`]: what was seen and what was
//! predicted. The same for models and for the regressions that they are compared with.

use std::collections::BTreeMap;

use khaos_core::optimize::{LatencyModel, RecoveryModel};
use khaos_core::profile::{Recovery, Trial};
use khaos_core::stats::{mean, ols};
use khaos_core::units::Millis;

/// Probability of the intervals and bounds that are checked.
pub(super) const PROBABILITY: f64 = 0.9;
/// Equal-count bins of throughput.
const LOAD_BINS: usize = 12;

/// What is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// Recovery time, s.
    Recovery,
    /// p99 latency, ms.
    Latency,
}

impl Subject {
    /// What `trial` showed of it; `None` when it was not measured, or not to its end.
    pub(super) fn seen(self, trial: &Trial) -> Option<f64> {
        match (self, &trial.recovery) {
            (Self::Recovery, Recovery::Measured(seconds)) => Some(seconds.get()),
            (Self::Recovery, Recovery::Censored(_) | Recovery::Spoilt(_)) => None,
            (Self::Latency, _) => trial.latency.map(Millis::get),
        }
    }
}

/// What predicts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// Khaos's model.
    Model,
    /// The paper's linear regression on (1, λ, CI).
    Regression,
}

/// A prediction of one trial by a fit without it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Held {
    /// The trial's place.
    pub(super) place: usize,
    /// What it showed.
    pub(super) seen: f64,
    /// What was predicted.
    pub(super) predicted: f64,
    /// Two-sided interval of [`PROBABILITY`]; `None` where there is none.
    pub(super) interval: Option<(f64, f64)>,
    /// Upper bound of [`PROBABILITY`]; `None` where there is none.
    pub(super) upper: Option<f64>,
}

/// Predicts each group of `groups` (places in `trials`) by a fit of all other trials in them. `None`
/// when some fit is not determined, or has nothing to learn from.
pub(super) fn held_out(
    trials: &[Trial],
    groups: &[Vec<usize>],
    subject: Subject,
    method: Method,
) -> Option<Vec<Held>> {
    let all: Vec<usize> = groups.concat();
    let mut held = Vec::with_capacity(all.len());
    for group in groups {
        let others: Vec<&Trial> =
            all.iter().filter(|i| !group.contains(i)).map(|i| &trials[*i]).collect();
        if others.is_empty() {
            return None;
        }
        held.extend(predictions(trials, &others, group, subject, method)?);
    }
    (!held.is_empty()).then_some(held)
}

/// Predicts the trials at `places` by a fit of `fitted`. `None` when that is not determined.
pub(super) fn predictions(
    trials: &[Trial],
    fitted: &[&Trial],
    places: &[usize],
    subject: Subject,
    method: Method,
) -> Option<Vec<Held>> {
    let predict = learn(fitted, subject, method)?;
    let seen = places.iter().filter_map(|&i| Some((i, subject.seen(&trials[i])?)));
    let held = |(place, seen)| {
        let Predicted { expected, interval, upper } = predict(&trials[place]);
        Held { place, seen, predicted: expected, interval, upper }
    };
    Some(seen.map(held).collect())
}

struct Predicted {
    expected: f64,
    interval: Option<(f64, f64)>,
    upper: Option<f64>,
}

type Predict = Box<dyn Fn(&Trial) -> Predicted>;

fn learn(trials: &[&Trial], subject: Subject, method: Method) -> Option<Predict> {
    match (method, subject) {
        (Method::Model, Subject::Recovery) => {
            let model = RecoveryModel::fit(trials).ok()?;
            let predictor = model.predictor().ok()?;
            Some(Box::new(move |trial| {
                let at = model.place(trial);
                let (ci, duration, load) = (at.interval_s, at.duration_s, at.load);
                Predicted {
                    expected: model.whole(trial),
                    interval: predictor.prediction_interval(PROBABILITY, ci, duration, load),
                    upper: predictor.prediction_upper(PROBABILITY, ci, duration, load),
                }
            }))
        }
        (Method::Model, Subject::Latency) => {
            let predictor = LatencyModel::fit(trials).ok()??.predictor().ok()?;
            Some(Box::new(move |trial| {
                let (ci, load) = (trial.interval.seconds(), trial.load);
                Predicted {
                    expected: predictor.expected(ci, load),
                    interval: predictor.prediction_interval(PROBABILITY, ci, load),
                    upper: predictor.prediction_upper(PROBABILITY, ci, load),
                }
            }))
        }
        (Method::Regression, _) => {
            let known = trials.iter().filter_map(|t| Some((predictors(t), subject.seen(t)?)));
            let plane = ols(&known.collect::<Vec<_>>()).ok()?;
            Some(Box::new(move |trial| Predicted {
                expected: plane.predict(&predictors(trial)),
                interval: None,
                upper: None,
            }))
        }
    }
}

fn predictors(trial: &Trial) -> [f64; 3] {
    [1.0, trial.load.get(), trial.interval.seconds()]
}

/// Each place by itself.
pub(super) fn one_by_one(places: &[usize]) -> Vec<Vec<usize>> {
    places.iter().map(|i| vec![*i]).collect()
}

/// Places by the interval of their trial.
pub(super) fn by_interval(trials: &[Trial], places: &[usize]) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for &place in places {
        groups.entry(trials[place].interval).or_default().push(place);
    }
    groups.into_values().collect()
}

/// Places in bins of equal count by the load of their trial, the larger bins first.
pub(super) fn by_load(trials: &[Trial], places: &[usize]) -> Vec<Vec<usize>> {
    let mut sorted = places.to_vec();
    sorted.sort_by(|a, b| trials[*a].load.get().total_cmp(&trials[*b].load.get()));
    let (size, larger) = (sorted.len() / LOAD_BINS, sorted.len() % LOAD_BINS);
    let mut rest = &sorted[..];
    let bins = (0..LOAD_BINS).map(|bin| {
        let (bin, others) = rest.split_at(size + usize::from(bin < larger));
        rest = others;
        bin.to_vec()
    });
    bins.filter(|bin| !bin.is_empty()).collect()
}

/// Mean absolute percentage error, as a share.
pub(super) fn mape(held: &[Held]) -> Option<f64> {
    mean(&held.iter().map(|h| (h.predicted / h.seen - 1.0).abs()).collect::<Vec<_>>())
}

/// Share that lay in its two-sided interval; one that had none was missed.
pub(super) fn coverage(held: &[Held]) -> Option<f64> {
    share(held, |h| h.interval.is_some_and(|(low, high)| (low..=high).contains(&h.seen)))
}

/// Share that lay below its upper bound; one that had none was missed.
pub(super) fn coverage_upper(held: &[Held]) -> Option<f64> {
    share(held, |h| h.upper.is_some_and(|upper| h.seen <= upper))
}

fn share(held: &[Held], is_so: impl Fn(&Held) -> bool) -> Option<f64> {
    mean(&held.iter().map(|h| if is_so(h) { 1.0 } else { 0.0 }).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use khaos_core::units::{CheckpointInterval, EventRate, Seconds};

    /// R = 10 + load/100 + 2·CI, exactly a plane.
    fn plane() -> Vec<Trial> {
        let cells = [10, 20, 40].into_iter().flat_map(|ci| (0..5).map(move |i| (ci, i)));
        cells
            .zip(0..)
            .map(|((ci, i), index)| {
                let load = 500.0 * f64::from(i * i);
                let recovery = 10.0 + load / 100.0 + 2.0 * f64::from(ci);
                let interval = CheckpointInterval::from_secs(ci).unwrap();
                let recovery = Recovery::Measured(Seconds::new(recovery).unwrap());
                Trial::of_recovery(index, interval, EventRate::new(load).unwrap(), recovery)
            })
            .collect()
    }

    #[test]
    fn a_plane_is_predicted_by_a_plane_whatever_is_left_out() {
        let trials = plane();
        let places: Vec<usize> = (0..trials.len()).collect();
        for groups in
            [one_by_one(&places), by_interval(&trials, &places), by_load(&trials, &places)]
        {
            let held = held_out(&trials, &groups, Subject::Recovery, Method::Regression).unwrap();
            assert_eq!(held.len(), trials.len());
            assert!(mape(&held).unwrap() < 1e-9);
        }
        let latency = held_out(&trials, &one_by_one(&places), Subject::Latency, Method::Model);
        assert_eq!(latency, None, "no trial measured one");
    }

    #[test]
    fn bins_of_equal_count_by_hand() {
        // 15 trials in 12 bins: three of two, nine of one.
        let trials = plane();
        let bins = by_load(&trials, &(0..15).collect::<Vec<_>>());
        let sizes: Vec<usize> = bins.iter().map(Vec::len).collect();
        assert_eq!(sizes, [2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!(bins[0], [0, 5], "the lowest loads come first");
        assert_eq!(by_interval(&trials, &[14, 0, 6, 1]), [vec![0, 1], vec![6], vec![14]]);
    }

    #[test]
    fn figures_by_hand() {
        let held =
            |seen, predicted, interval, upper| Held { place: 0, seen, predicted, interval, upper };
        let all = [
            held(100.0, 110.0, Some((90.0, 120.0)), Some(115.0)),
            held(100.0, 80.0, Some((60.0, 95.0)), Some(99.0)),
            held(50.0, 50.0, None, None),
        ];
        assert!((mape(&all).unwrap() - 0.1).abs() < 1e-12);
        assert!((coverage(&all).unwrap() - 1.0 / 3.0).abs() < 1e-12);
        assert!((coverage_upper(&all).unwrap() - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(mape(&[]), None);
    }
}
