//! The recovery formula, and its fit to trials.
//!
//! trials + [`Usual`] (priors, scaled to the job) → [`RecoveryModel::fit`] → [`RecoveryModel`] →
//! [`RecoveryPredictor`].

mod predictor;
mod teaching;
mod usual;

use std::collections::BTreeMap;

use khaos_stats::{ENOUGH, FitError, Posterior, Residuals, Spread, cauchy_weights, fit, mean};
use serde::{Deserialize, Serialize};

pub use self::predictor::RecoveryPredictor;
pub use self::teaching::{Measures, Place};
pub use self::usual::Usual;
use crate::profile::{Recovery, Trial};
use crate::units::{CheckpointInterval, EventRate, Events, Seconds};

/// Share of the capacity that the gap between capacity and load never falls below *inside the fit*,
/// so that a trial beyond saturation still has a direction to pull in. Source: DESIGN, formulas.
const GAP_FLOOR: f64 = 0.03;
/// Standard deviations of log residuals that a trial's parts are expected to have. Recovery repeats
/// within 1–4 % once dead time and age are taken as measured, 14 % otherwise; the dead time itself
/// carries nearly all of that. Source: repeated recoveries on Flink 1.20 and 2.3.
const SIGMA_DEAD: f64 = 0.15;
/// How many dead times the expected one is worth: on a cluster whose restarts vary more, a few trials
/// must not make it sure.
const SIGMA_DEAD_WEIGHS: f64 = 4.0;
const SIGMA_CATCH_UP: f64 = 0.015;
const SIGMA_RECOVERY_IN_PARTS: f64 = 0.04;
const SIGMA_RECOVERY_WHOLE: f64 = 0.15;
/// Dead time, settling, headroom, cost.
const FIT_PARAMETERS: usize = 4;

/// The four numbers that decide about recovery.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RecoveryParameters {
    /// `D_r`: failure → processing again (detection + restore), s.
    pub dead_time_s: f64,
    /// Delay of the reading itself, s: `D_0 = D_r + settling`.
    pub settling_s: f64,
    /// `μ`: what the job sustains while catching up, events/s.
    pub capacity_eps: f64,
    /// `k`: seconds of capacity that one checkpoint costs.
    pub checkpoint_cost_s: f64,
}

/// What arrives around a failure, events/s.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arriving {
    /// Before it, since the checkpoint to which the job is rolled back.
    pub before: f64,
    /// From it to the end of the recovery.
    pub during: f64,
}

impl Arriving {
    /// A load that does not change.
    pub fn always(load: f64) -> Self {
        Self { before: load, during: load }
    }

    /// What arrived around the failure of `trial`.
    pub fn at(trial: &Trial) -> Self {
        let before = trial.load.get();
        Self { before, during: trial.load_during.map_or(before, EventRate::get) }
    }
}

impl RecoveryParameters {
    /// `D_0`, s.
    pub fn floor_s(&self) -> f64 {
        self.dead_time_s + self.settling_s
    }

    /// What is left of the capacity beside checkpoints every `interval_s`, events/s.
    pub fn capacity_beside_checkpoints(&self, interval_s: f64) -> f64 {
        self.capacity_eps * (1.0 - self.checkpoint_cost_s / interval_s)
    }

    /// Worst-case recovery time, s, at checkpoint interval `interval_s` (s), checkpoint duration
    /// `duration_s` (s) and arrival rate `load` (events/s):
    /// `D_0 + (D_r + CI + δ)·λ / (μ·(1 − k/CI) − λ)`.
    /// `None` when `load` is at or above what is left of the capacity. Source: DESIGN, formulas.
    pub fn worst_case(&self, interval_s: f64, duration_s: f64, load: f64) -> Option<f64> {
        self.after(self.dead_time_s, interval_s + duration_s, interval_s, Arriving::always(load))
    }

    /// Recovery time, s, from a failure that kept the job down for `dead_s` (s) and rolled it back to a
    /// checkpoint of `age_s` (s), with checkpoints every `interval_s` (s). What is read again arrived before
    /// the failure, what it is caught up against arrives after:
    /// `D + settling + (age·λ_before + D·λ_during) / (μ·(1 − k/CI) − λ_during)`. `None` as for
    /// [`Self::worst_case`].
    pub fn after(
        &self,
        dead_s: f64,
        age_s: f64,
        interval_s: f64,
        arriving: Arriving,
    ) -> Option<f64> {
        let Arriving { before, during } = arriving;
        let gap = self.capacity_beside_checkpoints(interval_s) - during;
        let backlog = age_s * before + dead_s * during;
        (gap > 0.0).then(|| dead_s + self.settling_s + backlog / gap)
    }

    /// As [`Self::worst_case`], with the gap held at a small positive floor: never a promise, only
    /// for a fit that has to find its way back from beyond saturation.
    pub fn worst_case_floored(&self, interval_s: f64, duration_s: f64, load: f64) -> f64 {
        let gap = self.floored_gap(interval_s, load);
        self.floor_s() + (self.dead_time_s + interval_s + duration_s) * load / gap
    }

    /// Capacity at which `interval_s` would keep the worst-case recovery at `objective_s`, events/s.
    /// `None` when no capacity does: the objective is not above `D_0`, or checkpoints cost all.
    pub fn capacity_needed(
        &self,
        interval_s: f64,
        duration_s: f64,
        load: f64,
        objective_s: f64,
    ) -> Option<f64> {
        let (slack, share) =
            (objective_s - self.floor_s(), 1.0 - self.checkpoint_cost_s / interval_s);
        let backlog_s = self.dead_time_s + interval_s + duration_s;
        (slack > 0.0 && share > 0.0).then(|| load * (1.0 + backlog_s / slack) / share)
    }

    fn floored_gap(&self, interval_s: f64, load: f64) -> f64 {
        let gap = self.capacity_beside_checkpoints(interval_s) - load;
        gap.max(GAP_FLOOR * self.capacity_eps)
    }

    /// Fit space: (ln D_r, ln settling, ln headroom, ln k), the headroom being (μ − top)/top: what
    /// was processed is no more than the capacity.
    fn from_fit_space(at: &[f64], top_eps: f64) -> Self {
        Self {
            dead_time_s: at[0].exp(),
            settling_s: at[1].exp(),
            capacity_eps: top_eps * (1.0 + at[2].exp()),
            checkpoint_cost_s: at[3].exp(),
        }
    }
}

/// The recovery model with the uncertainty of its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecoveryModel {
    /// The most probable parameters.
    pub parameters: RecoveryParameters,
    /// Trials that it was fitted to; none where it is made of priors alone.
    pub trials: u32,
    /// Spread of the residuals relative to the expected, at least 1.
    pub dispersion: f64,
    /// How far single recoveries scatter around the mean.
    pub spread: Spread,
    /// The highest load among the trials, events/s: headroom counts from here.
    top_eps: f64,
    /// Mode in fit space: (ln D_r, ln settling, ln headroom, ln k).
    mode: Vec<f64>,
    /// Covariance in fit space.
    covariance: Vec<Vec<f64>>,
}

impl RecoveryModel {
    /// Fits the model to `trials`: on the parts of a trial where they were measured, on the whole
    /// recovery time where not, one-sided where it was censored. Weak priors: [`Usual::of_trials`].
    pub fn fit(trials: &[&Trial]) -> Result<Self, FitError> {
        Self::fit_from(&Usual::of_trials(trials), trials)
    }

    /// The model of a job of which no trial was run: the priors alone, scaled to the `highest` load
    /// that it was seen to have, its `longest` checkpoint and the `expected` dead time.
    pub fn of_priors(
        highest: EventRate,
        longest: Option<Seconds>,
        expected: Option<Seconds>,
    ) -> Result<Self, FitError> {
        Self::fit_from(&Usual::of_job(highest, longest, expected), &[])
    }

    /// As [`Self::fit`], with priors centred on what is `usual`.
    pub fn fit_from(usual: &Usual, trials: &[&Trial]) -> Result<Self, FitError> {
        let posterior = posterior(usual, trials)?;
        let parameters = RecoveryParameters::from_fit_space(&posterior.mode, usual.top_eps);
        let spread = match unseen_errors(usual, trials)? {
            Some(spread) => spread,
            None => learnt_spread(&parameters, trials),
        };
        Ok(Self {
            parameters,
            trials: trials.len() as u32,
            dispersion: posterior.dispersion,
            spread,
            top_eps: usual.top_eps,
            mode: posterior.mode,
            covariance: posterior.covariance,
        })
    }

    /// The model made ready to predict: the same model always gives the same bounds.
    pub fn predictor(&self) -> Result<RecoveryPredictor, FitError> {
        RecoveryPredictor::of(self)
    }

    /// What it says of the whole recovery of `trial`, s, at the trial's own age where that is known,
    /// with the gap floored as in [`RecoveryParameters::worst_case_floored`].
    pub fn whole(&self, trial: &Trial) -> f64 {
        whole(&self.parameters, trial)
    }

    /// Where `trial` lies.
    pub fn place(&self, trial: &Trial) -> Place {
        Place {
            interval_s: trial.interval.seconds(),
            duration_s: trial.checkpoint_duration.map_or(0.0, Seconds::get),
            load: trial.load.get(),
        }
    }

    fn posterior(&self) -> Posterior {
        Posterior {
            mode: self.mode.clone(),
            covariance: self.covariance.clone(),
            dispersion: self.dispersion,
        }
    }
}

fn posterior(usual: &Usual, trials: &[&Trial]) -> Result<Posterior, FitError> {
    let sigma_dead = sigma_dead(trials);
    fit(&usual.starts(), |at| {
        let parameters = RecoveryParameters::from_fit_space(at, usual.top_eps);
        let of_trial = |trial: &&Trial| residuals(&parameters, trial, sigma_dead);
        Residuals { data: trials.iter().flat_map(of_trial).collect(), prior: usual.residuals(at) }
    })
}

/// Standard deviation of the log of a dead time, by those of `trials` and what is expected of them.
fn sigma_dead(trials: &[&Trial]) -> f64 {
    let exact = trials.iter().filter(|trial| trial.failed_within.is_none());
    let logs: Vec<f64> =
        exact.filter_map(|t| t.dead_time.map(|dead| positive(dead).ln())).collect();
    let middle = mean(&logs).unwrap_or(0.0);
    let squares: f64 = logs.iter().map(|log| (log - middle).powi(2)).sum();
    let freedom = SIGMA_DEAD_WEIGHS + (logs.len() as f64 - 1.0).max(0.0);
    ((SIGMA_DEAD_WEIGHS * SIGMA_DEAD.powi(2) + squares) / freedom).sqrt().max(SIGMA_DEAD)
}

/// Log residuals of one trial, standardised; always the same number for the same trial.
fn residuals(parameters: &RecoveryParameters, trial: &Trial, sigma_dead: f64) -> Vec<f64> {
    let log_ratio = |seen: f64, expected: f64, sigma: f64| (seen / expected).ln() / sigma;
    let interval = trial.interval.seconds();
    let mut residuals = Vec::with_capacity(3);

    let dead = trial.dead_time.map(positive);
    if let Some(dead) = dead {
        // Of a failure that nobody planned, the beginning is an estimate.
        let within = trial.failed_within.map_or(0.0, |within| within.get() / dead);
        residuals.push(log_ratio(dead, parameters.dead_time_s, sigma_dead.hypot(within)));
    }
    if let Some(rate) = trial.catch_up.map(EventRate::get) {
        let left = parameters.capacity_beside_checkpoints(interval);
        let floor = GAP_FLOOR * parameters.capacity_eps;
        residuals.push(log_ratio(rate, left.max(floor), SIGMA_CATCH_UP));
    }

    let in_parts = dead.zip(trial.backlog.map(Events::get)).map(|(dead, backlog)| {
        let during = trial.load_during.unwrap_or(trial.load).get();
        dead + parameters.settling_s + backlog / parameters.floored_gap(interval, during)
    });
    let (expected, sigma) = match in_parts {
        Some(expected) => (expected, SIGMA_RECOVERY_IN_PARTS),
        None => (whole(parameters, trial), SIGMA_RECOVERY_WHOLE),
    };
    match &trial.recovery {
        Recovery::Measured(seen) => residuals.push(log_ratio(positive(*seen), expected, sigma)),
        Recovery::Censored(after) => {
            residuals.push(log_ratio(positive(*after), expected, sigma).max(0.0));
        }
        Recovery::Spoilt(_) => {}
    }
    residuals
}

fn positive(seconds: Seconds) -> f64 {
    seconds.get().max(1e-3)
}

/// What the formula says of the whole recovery of `trial`, s; at its own age where that is known.
fn whole(parameters: &RecoveryParameters, trial: &Trial) -> f64 {
    let interval = trial.interval.seconds();
    let duration = trial.checkpoint_duration.map_or(0.0, Seconds::get);
    let age = trial.age.map_or(interval + duration, Seconds::get);
    let load = trial.load_during.unwrap_or(trial.load).get();
    let gap = parameters.floored_gap(interval, load);
    parameters.floor_s() + (parameters.dead_time_s + age) * load / gap
}

/// ln(seen/expected) of a recovery that was measured to its end.
fn whole_error(parameters: &RecoveryParameters, trial: &Trial) -> Option<f64> {
    match &trial.recovery {
        Recovery::Measured(seen) => Some((positive(*seen) / whole(parameters, trial)).ln()),
        Recovery::Censored(_) | Recovery::Spoilt(_) => None,
    }
}

fn learnt_spread(parameters: &RecoveryParameters, trials: &[&Trial]) -> Spread {
    let errors: Vec<f64> = trials.iter().filter_map(|t| whole_error(parameters, t)).collect();
    let standard: Vec<f64> = errors.iter().map(|e| e / SIGMA_RECOVERY_WHOLE).collect();
    let weighted: Vec<(f64, f64)> = errors.into_iter().zip(cauchy_weights(&standard)).collect();
    Spread::learnt(&weighted, FIT_PARAMETERS, SIGMA_RECOVERY_WHOLE)
}

/// The scatter by errors on intervals that the fit had not seen; `None` where there are too few.
fn unseen_errors(usual: &Usual, trials: &[&Trial]) -> Result<Option<Spread>, FitError> {
    let mut by_interval: BTreeMap<CheckpointInterval, Vec<&Trial>> = BTreeMap::new();
    for trial in trials.iter().filter(|t| matches!(t.recovery, Recovery::Measured(_))) {
        by_interval.entry(trial.interval).or_default().push(trial);
    }
    if by_interval.len() < ENOUGH {
        return Ok(None);
    }
    let mut groups = Vec::with_capacity(by_interval.len());
    for (interval, unseen) in &by_interval {
        let seen: Vec<&Trial> =
            trials.iter().copied().filter(|t| t.interval != *interval).collect();
        let mode = posterior(usual, &seen)?.mode;
        let parameters = RecoveryParameters::from_fit_space(&mode, usual.top_eps);
        groups.push(unseen.iter().filter_map(|t| whole_error(&parameters, t)).collect());
    }
    Ok(Spread::conformal(&groups))
}

#[cfg(test)]
mod tests;
