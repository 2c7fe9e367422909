//! A recovery model made ready to predict.

use khaos_stats::{FitError, Seed, Spread, quantile};

use super::{RecoveryModel, RecoveryParameters};

/// Posterior draws behind a credible bound: their Monte Carlo error on a 75 % quantile is well below
/// a tenth of the posterior's own width.
const DRAWS: usize = 128;

/// A recovery model ready to predict.
#[derive(Debug, Clone, PartialEq)]
pub struct RecoveryPredictor {
    mode: RecoveryParameters,
    draws: Vec<RecoveryParameters>,
    spread: Spread,
}

impl RecoveryPredictor {
    pub(super) fn of(model: &RecoveryModel) -> Result<Self, FitError> {
        let draws = model.posterior().draws(DRAWS, Seed(0).child("recovery"))?;
        let parameters = |at: &Vec<f64>| RecoveryParameters::from_fit_space(at, model.top_eps);
        Ok(Self {
            mode: model.parameters,
            draws: draws.iter().map(parameters).collect(),
            spread: model.spread.clone(),
        })
    }

    /// The most probable parameters.
    pub fn parameters(&self) -> &RecoveryParameters {
        &self.mode
    }

    /// Upper `probability` credible bound of the *mean* worst-case recovery, s, in the units of
    /// [`RecoveryParameters::worst_case`]. `None` when the load may be beyond the capacity with more
    /// than the remaining probability.
    pub fn upper(
        &self,
        probability: f64,
        interval_s: f64,
        duration_s: f64,
        load: f64,
    ) -> Option<f64> {
        let of = |p: &RecoveryParameters| p.worst_case(interval_s, duration_s, load);
        let all: Vec<f64> = self.draws.iter().map(|p| of(p).unwrap_or(f64::INFINITY)).collect();
        quantile(&all, probability).filter(|bound| bound.is_finite())
    }

    /// Two-sided interval, s, that holds a *single* worst-case recovery with `probability`, in the units
    /// of [`RecoveryParameters::worst_case`]. `None` when the load may be beyond the capacity with more
    /// than the remaining probability.
    pub fn prediction_interval(
        &self,
        probability: f64,
        interval_s: f64,
        duration_s: f64,
        load: f64,
    ) -> Option<(f64, f64)> {
        let (expected, draws) = self.logs(interval_s, duration_s, load)?;
        self.spread.interval(expected, &draws, probability)
    }

    /// Bound, s, that a *single* worst-case recovery stays below with `probability`, as [`Self::prediction_interval`].
    pub fn prediction_upper(
        &self,
        probability: f64,
        interval_s: f64,
        duration_s: f64,
        load: f64,
    ) -> Option<f64> {
        let (expected, draws) = self.logs(interval_s, duration_s, load)?;
        self.spread.upper(expected, &draws, probability)
    }

    /// Logs of the mean worst-case recovery: the most probable one, and every draw's, infinite beyond
    /// its capacity. `None` when the most probable one has none.
    fn logs(&self, interval_s: f64, duration_s: f64, load: f64) -> Option<(f64, Vec<f64>)> {
        let log = |p: &RecoveryParameters| p.worst_case(interval_s, duration_s, load).map(f64::ln);
        let draws = self.draws.iter().map(|p| log(p).unwrap_or(f64::INFINITY)).collect();
        Some((log(&self.mode)?, draws))
    }

    /// Capacity, events/s, at which the upper `probability` credible bound of the mean worst-case
    /// recovery would be `objective_s`, in the units of [`RecoveryParameters::capacity_needed`].
    /// `None` when no capacity would do.
    pub fn capacity_needed(
        &self,
        probability: f64,
        interval_s: f64,
        duration_s: f64,
        load: f64,
        objective_s: f64,
    ) -> Option<f64> {
        // How much more than it has each draw would need: of the bound itself, never less than 1.
        let more = |p: &RecoveryParameters| {
            let needed = p.capacity_needed(interval_s, duration_s, load, objective_s);
            needed.map_or(f64::INFINITY, |needed| needed / p.capacity_eps)
        };
        let all: Vec<f64> = self.draws.iter().map(more).collect();
        let more = quantile(&all, probability).filter(|more| more.is_finite())?;
        Some(more * self.mode.capacity_eps)
    }
}
