//! What models make of a failure that has happened.

use super::Predictors;
use crate::profile::{Predicted, Trial};
use crate::units::Seconds;

/// Share of single recoveries that should lie within what is predicted.
const PROBABILITY: f64 = 0.9;

impl Predictors {
    /// Where nine in ten recoveries from a failure like this one should have been: at its interval,
    /// its load and the age that its checkpoint had. It is compared with what it should have been,
    /// not with the worst case. `None` where the age is not known, or the load may be beyond the
    /// capacity.
    pub fn hindsight(&self, trial: &Trial) -> Option<Predicted> {
        let interval_s = trial.interval.seconds();
        // The formula knows the age as interval plus duration.
        let duration_s = trial.age?.get() - interval_s;
        let load = trial.load_during.unwrap_or(trial.load);
        let (low, high) =
            self.recovery.prediction_interval(PROBABILITY, interval_s, duration_s, load.get())?;
        // What is not known of the moment of the failure is no surprise either.
        let within = trial.failed_within.map_or(0.0, Seconds::get);
        let (low, high) = ((low - within).max(0.0), high + within);
        Some(Predicted { low: Seconds::new(low).ok()?, high: Seconds::new(high).ok()? })
    }
}
