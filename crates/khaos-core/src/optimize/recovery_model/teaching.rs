//! What a trial would teach, before it is run.

use super::{
    FIT_PARAMETERS, RecoveryModel, RecoveryParameters, SIGMA_CATCH_UP, SIGMA_DEAD,
    SIGMA_RECOVERY_IN_PARTS, SIGMA_RECOVERY_WHOLE,
};

/// A catch-up that is shorter than this shows no rate of its own in the readings, s.
const SHOWS_RATE_S: f64 = 30.0;
/// Step of the differences in fit space, whose parameters are of order one.
const STEP: f64 = 1e-4;

/// A point of the (CI, λ) plane that matters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Checkpoint interval, s.
    pub interval_s: f64,
    /// Checkpoint duration, s.
    pub duration_s: f64,
    /// Arrival rate, events/s.
    pub load: f64,
}

/// What a trial measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measures {
    /// Dead time, catch-up rate and recovery, each by itself.
    Parts,
    /// The recovery alone.
    Whole,
}

impl RecoveryModel {
    /// How much is doubted about the mean worst-case recovery at `places`: the standard deviation of
    /// its log, root mean square over them.
    pub fn doubt(&self, places: &[Place]) -> f64 {
        let posterior = self.posterior();
        self.mean_variance(places, |gradient| posterior.variance(gradient)).sqrt()
    }

    /// As [`Self::doubt`], were a trial run at `trial` before.
    pub fn doubt_after(&self, trial: Place, measures: Measures, places: &[Place]) -> f64 {
        let observed = self.observed(trial, measures);
        let posterior = observed.iter().fold(self.posterior(), |known, (log, sigma)| {
            let gradient: Vec<f64> =
                self.gradient(|p| log(p, trial)).iter().map(|g| g / sigma).collect();
            known.after(&gradient)
        });
        self.mean_variance(places, |gradient| posterior.variance(gradient)).sqrt()
    }

    fn mean_variance(&self, places: &[Place], variance: impl Fn(&[f64]) -> f64) -> f64 {
        let of = |place: &Place| variance(&self.gradient(|p| log_recovery(p, *place)));
        places.iter().map(of).sum::<f64>() / places.len().max(1) as f64
    }

    /// Logs of what a trial would show, with the standard deviation of each.
    fn observed(&self, trial: Place, measures: Measures) -> Vec<(LogOf, f64)> {
        let catch_up_s = log_recovery(&self.parameters, trial).exp() - self.parameters.floor_s();
        match measures {
            Measures::Whole => vec![(log_recovery, SIGMA_RECOVERY_WHOLE)],
            Measures::Parts => {
                let mut parts: Vec<(LogOf, f64)> = vec![
                    (|p, _| p.dead_time_s.ln(), SIGMA_DEAD),
                    (log_recovery, SIGMA_RECOVERY_IN_PARTS),
                ];
                if catch_up_s >= SHOWS_RATE_S {
                    parts.push((log_left, SIGMA_CATCH_UP));
                }
                parts
            }
        }
    }

    /// Gradient of `f` over fit space, at the mode.
    fn gradient(&self, f: impl Fn(&RecoveryParameters) -> f64) -> [f64; FIT_PARAMETERS] {
        let at = |index: usize, by: f64| {
            let mut moved = self.mode.clone();
            moved[index] += by;
            f(&RecoveryParameters::from_fit_space(&moved, self.top_eps))
        };
        std::array::from_fn(|i| (at(i, STEP) - at(i, -STEP)) / (2.0 * STEP))
    }
}

/// Log of something that parameters say of a place.
type LogOf = fn(&RecoveryParameters, Place) -> f64;

fn log_recovery(parameters: &RecoveryParameters, place: Place) -> f64 {
    parameters.worst_case_floored(place.interval_s, place.duration_s, place.load).ln()
}

fn log_left(parameters: &RecoveryParameters, place: Place) -> f64 {
    parameters.floored_gap(place.interval_s, 0.0).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::EventRate;

    fn usual() -> RecoveryModel {
        RecoveryModel::of_priors(EventRate::new(10_000.0).unwrap(), None, None).unwrap()
    }

    fn place(interval_s: f64, load: f64) -> Place {
        Place { interval_s, duration_s: 0.0, load }
    }

    #[test]
    fn without_load_only_the_floor_is_doubted_and_a_trial_there_takes_the_doubt_by_hand() {
        // R = D_0 at no load, ln D_0 ~ N(ln 60, 0.5): the doubt is 0.5. One whole recovery with
        // σ 0.15: variance 1/(1/0.5² + 1/0.15²) = 0.02064, σ 0.1437.
        let model = usual();
        let idle = place(60.0, 0.0);
        assert!((model.doubt(&[idle]) - 0.5).abs() < 1e-3, "{}", model.doubt(&[idle]));
        let after = model.doubt_after(idle, Measures::Whole, &[idle]);
        assert!((after - 0.1437).abs() < 1e-3, "{after}");
    }

    #[test]
    fn a_trial_teaches_most_where_the_doubt_is() {
        let model = usual();
        let busy = place(120.0, 10_000.0);
        let here = model.doubt_after(busy, Measures::Parts, &[busy]);
        let elsewhere = model.doubt_after(place(120.0, 100.0), Measures::Parts, &[busy]);
        assert!(here < elsewhere && elsewhere < model.doubt(&[busy]), "{here} {elsewhere}");
        let whole = model.doubt_after(busy, Measures::Whole, &[busy]);
        assert!(here < whole, "parts teach more: {here} {whole}");
    }
}
