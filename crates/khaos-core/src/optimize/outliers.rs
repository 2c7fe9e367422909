//! Trials that do not fit the others: named, with the reason.
//!
//! A contaminated trial at a corner of the (CI, λ) plane pulls a fit to itself and looks innocent
//! beside it. So each trial is held against what the *others* say of it.

use khaos_stats::{FitError, median};

use crate::optimize::{LatencyModel, RecoveryModel};
use crate::profile::{Recovery, Trial};
use crate::units::Millis;

/// A trial this many times the usual scatter from what the others say is an outlier: one in a million
/// if the scatter is normal.
const FAR: f64 = 5.0;
/// The scatter is never believed to be smaller than this, log.
const SMALLEST: f64 = 0.1;

/// A trial that does not fit the others.
#[derive(Debug, Clone, PartialEq)]
pub struct Outlier {
    /// Its place among the trials that were given.
    pub place: usize,
    /// What is wrong with it, in words.
    pub reason: String,
}

/// The outliers among `trials`, at most `most`, in the order in which they were found: the furthest
/// first, and the others judged again without it, because one outlier hides another.
pub fn outliers(trials: &[&Trial], most: usize) -> Result<Vec<Outlier>, FitError> {
    let mut found: Vec<Outlier> = Vec::new();
    while found.len() < most {
        let left: Vec<usize> =
            (0..trials.len()).filter(|i| found.iter().all(|o| o.place != *i)).collect();
        let recoveries = misfits(trials, &left, recovery_by_others)?;
        let latencies = misfits(trials, &left, latency_by_others)?;
        let all = recoveries.iter().map(|m| (m, "recovery", "s"));
        let all = all.chain(latencies.iter().map(|m| (m, "latency", "ms")));
        let worst = all.max_by(|(a, ..), (b, ..)| a.far.total_cmp(&b.far));
        let Some((misfit, what, unit)) = worst.filter(|(m, ..)| m.far > FAR) else { break };
        let Misfit { place, seen, expected, far } = *misfit;
        let reason = format!(
            "{what} of {seen:.0} {unit} where the other trials say {expected:.0} {unit}: {far:.0} \
             times the usual scatter"
        );
        found.push(Outlier { place, reason });
    }
    Ok(found)
}

/// What was seen, what the others say, and how much that is doubted, log.
type ByOthers = fn(&Trial, &[&Trial]) -> Result<Option<(f64, f64, f64)>, FitError>;

struct Misfit {
    place: usize,
    seen: f64,
    expected: f64,
    /// Distance, in the usual scatter and the doubt together.
    far: f64,
}

fn misfits(
    trials: &[&Trial],
    left: &[usize],
    by_others: ByOthers,
) -> Result<Vec<Misfit>, FitError> {
    let mut judged = Vec::with_capacity(left.len());
    for &place in left {
        let others: Vec<&Trial> =
            left.iter().filter(|i| **i != place).map(|i| trials[*i]).collect();
        judged.extend(by_others(trials[place], &others)?.map(|by| (place, by)));
    }
    let error = |(seen, expected): (f64, f64)| (seen / expected).ln().abs();
    let sizes: Vec<f64> = judged.iter().map(|(_, (seen, exp, _))| error((*seen, *exp))).collect();
    let scatter = median(&sizes).map_or(SMALLEST, |mad| (1.4826 * mad).max(SMALLEST));
    let misfit = |(place, (seen, expected, doubt)): (usize, (f64, f64, f64))| {
        let far = error((seen, expected)) / scatter.hypot(doubt);
        Misfit { place, seen, expected, far }
    };
    Ok(judged.into_iter().map(misfit).collect())
}

fn recovery_by_others(
    trial: &Trial,
    others: &[&Trial],
) -> Result<Option<(f64, f64, f64)>, FitError> {
    let Recovery::Measured(seen) = &trial.recovery else { return Ok(None) };
    let model = RecoveryModel::fit(others)?;
    let (expected, doubt) = (model.whole(trial), model.doubt(&[model.place(trial)]));
    Ok(Some((seen.get().max(1e-3), expected, doubt)))
}

fn latency_by_others(
    trial: &Trial,
    others: &[&Trial],
) -> Result<Option<(f64, f64, f64)>, FitError> {
    let Some(seen) = trial.latency.map(Millis::get) else { return Ok(None) };
    let Some(model) = LatencyModel::fit(others)? else { return Ok(None) };
    let interval_s = trial.interval.seconds();
    let expected = model.predictor()?.expected(interval_s, trial.load);
    Ok(Some((seen, expected, model.doubt(interval_s, trial.load))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimize::RecoveryParameters;
    use crate::units::{CheckpointInterval, EventRate, Seconds};

    /// Four intervals × five loads of a known job, with a scatter of ±10 %.
    fn trials() -> Vec<Trial> {
        let truth = RecoveryParameters {
            dead_time_s: 20.0,
            settling_s: 40.0,
            capacity_eps: 13_000.0,
            checkpoint_cost_s: 0.5,
        };
        let mut trials = Vec::new();
        for (i, ci) in [10, 30, 60, 120].into_iter().enumerate() {
            for (j, load) in [500.0, 3_000.0, 5_500.0, 8_000.0, 10_000.0].into_iter().enumerate() {
                let scatter = 0.9 + 0.05 * ((3 * i + 2 * j) % 5) as f64;
                let recovery = truth.worst_case(f64::from(ci), 0.0, load).unwrap() * scatter;
                trials.push(Trial {
                    latency: Some(Millis::new(300.0 * scatter * (load / 10_000.0).exp()).unwrap()),
                    ..Trial::of_recovery(
                        trials.len() as u32,
                        CheckpointInterval::from_secs(ci).unwrap(),
                        EventRate::new(load).unwrap(),
                        Recovery::Measured(Seconds::new(recovery).unwrap()),
                    )
                });
            }
        }
        trials
    }

    fn found(trials: &[Trial], most: usize) -> Vec<Outlier> {
        outliers(&trials.iter().collect::<Vec<_>>(), most).unwrap()
    }

    #[test]
    fn trials_that_scatter_as_usual_have_none() {
        assert_eq!(found(&trials(), 3), []);
    }

    #[test]
    fn a_contaminated_corner_is_named() {
        // The smallest interval at the highest load, where a fit would rather believe in dear
        // checkpoints than in an outlier.
        let mut trials = trials();
        trials[4].recovery = Recovery::Measured(Seconds::new(2_500.0).unwrap());
        let [outlier] = &found(&trials, 3)[..] else { panic!("one outlier") };
        assert_eq!(outlier.place, 4);
        assert!(outlier.reason.starts_with("recovery of 2500 s where"), "{}", outlier.reason);
    }

    #[test]
    fn one_does_not_hide_another_and_no_more_than_asked_for_are_named() {
        let mut trials = trials();
        trials[2].latency = Some(Millis::new(9_000.0).unwrap());
        trials[17].recovery = Recovery::Measured(Seconds::new(9.0).unwrap());
        let mut places: Vec<usize> = found(&trials, 3).iter().map(|o| o.place).collect();
        places.sort_unstable();
        assert_eq!(places, [2, 17]);
        assert_eq!(found(&trials, 1).len(), 1);
    }
}
