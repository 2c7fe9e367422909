//! What models make of a failure that has happened.

use super::Predictors;
use crate::profile::{Predicted, Trial};
use crate::units::{EventRate, Seconds};

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
        let (low, high) = self.single_recovery(interval_s, duration_s, load)?;
        // What is not known of the moment of the failure is no surprise either.
        let within = trial.failed_within.map_or(0.0, Seconds::get);
        let (low, high) = ((low - within).max(0.0), high + within);
        Some(Predicted { low: Seconds::new(low).ok()?, high: Seconds::new(high).ok()? })
    }

    /// Stands in for `RecoveryPredictor::prediction_interval` until that is there: the credible
    /// bounds of the mean, and a quarter for what single recoveries differ by.
    fn single_recovery(
        &self,
        interval_s: f64,
        duration_s: f64,
        load: EventRate,
    ) -> Option<(f64, f64)> {
        const SINGLE: f64 = 0.25;
        let tail = (1.0 - PROBABILITY) / 2.0;
        let bound = |p| self.recovery.upper(p, interval_s, duration_s, load.get());
        Some((bound(tail)? * (1.0 - SINGLE), bound(1.0 - tail)? * (1.0 + SINGLE)))
    }
}
