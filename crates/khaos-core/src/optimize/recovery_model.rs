//! The recovery formula, and its fit to trials.

use khaos_stats::{FitError, Residuals, Seed, fit, quantile};
use serde::{Deserialize, Serialize};

use crate::profile::{Recovery, Trial};
use crate::units::{EventRate, Events, Seconds};

/// Share of the capacity that the gap between capacity and load never falls below *inside the fit*,
/// so that a trial beyond saturation still has a direction to pull in. Source: DESIGN, formulas.
const GAP_FLOOR: f64 = 0.03;
/// Seconds of capacity that a checkpoint usually costs: k ~ N(1, 1). Source: DESIGN, formulas.
const COST: f64 = 1.0;
/// Posterior draws behind a credible bound: their Monte Carlo error on a 75 % quantile is well below
/// a tenth of the posterior's own width.
const DRAWS: usize = 128;
/// Standard deviations of log residuals that a trial's parts are expected to have. Recovery repeats
/// within 1–4 % once dead time and age are taken as measured, 14 % otherwise; the dead time itself
/// carries nearly all of that. Source: repeated recoveries on Flink 1.20 and 2.3.
const SIGMA_DEAD: f64 = 0.15;
const SIGMA_CATCH_UP: f64 = 0.015;
const SIGMA_RECOVERY_IN_PARTS: f64 = 0.04;
const SIGMA_RECOVERY_WHOLE: f64 = 0.15;

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
        let gap = self.capacity_beside_checkpoints(interval_s) - load;
        let age = interval_s + duration_s;
        (gap > 0.0).then(|| self.floor_s() + (self.dead_time_s + age) * load / gap)
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

    /// Fit space: (ln D_r, ln settling, ln μ, k).
    fn from_fit_space(at: &[f64]) -> Self {
        Self {
            dead_time_s: at[0].exp(),
            settling_s: at[1].exp(),
            capacity_eps: at[2].exp(),
            checkpoint_cost_s: at[3].max(0.0),
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
    /// Mode in fit space: (ln D_r, ln settling, ln μ, k).
    mode: Vec<f64>,
    /// Covariance in fit space.
    covariance: Vec<Vec<f64>>,
}

impl RecoveryModel {
    /// Fits the model to `trials`: on the parts of a trial where they were measured, on the whole
    /// recovery time where not, one-sided where it was censored.
    ///
    /// Weak priors, of the paper's cluster: ln D_0 ~ N(ln 60, 0.5), D_r about 0.4·D_0,
    /// ln(μ/λ_max) ~ N(ln 1.45, 0.3), k ~ N(1, 1).
    pub fn fit(trials: &[&Trial]) -> Result<Self, FitError> {
        Self::posterior(trials.iter().map(|t| t.load.get()).fold(1.0, f64::max), COST, trials)
    }

    /// The model of a job of which no trial was run: the priors of [`Self::fit`], scaled to the
    /// `highest` load that it was seen to have and its `longest` checkpoint: one costs no more than
    /// all of the capacity for as long as it takes.
    pub fn of_priors(highest: EventRate, longest: Option<Seconds>) -> Result<Self, FitError> {
        let cost = longest.map_or(COST, |longest| longest.get().clamp(0.01, COST));
        Self::posterior(highest.get().max(1.0), cost, &[])
    }

    /// Priors at the highest load `top` (events/s) and a usual `cost` (s) of a checkpoint, and what
    /// `trials` add to them.
    fn posterior(top: f64, cost: f64, trials: &[&Trial]) -> Result<Self, FitError> {
        let start = [24_f64.ln(), 36_f64.ln(), (1.45 * top).ln(), cost];
        let posterior = fit(&start, |at| {
            let parameters = RecoveryParameters::from_fit_space(at);
            Residuals {
                data: trials.iter().flat_map(|trial| residuals(&parameters, trial)).collect(),
                prior: vec![
                    (parameters.floor_s() / 60.0).ln() / 0.5,
                    (parameters.dead_time_s / parameters.floor_s() / 0.4).ln() / 0.5,
                    (parameters.capacity_eps / top / 1.45).ln() / 0.3,
                    (at[3] - cost) / cost,
                ],
            }
        })?;
        Ok(Self {
            parameters: RecoveryParameters::from_fit_space(&posterior.mode),
            trials: trials.len() as u32,
            dispersion: posterior.dispersion,
            mode: posterior.mode,
            covariance: posterior.covariance,
        })
    }

    /// The model made ready to predict: the same model always gives the same bounds.
    pub fn predictor(&self) -> Result<RecoveryPredictor, FitError> {
        let posterior = khaos_stats::Posterior {
            mode: self.mode.clone(),
            covariance: self.covariance.clone(),
            dispersion: self.dispersion,
        };
        let draws = posterior.draws(DRAWS, Seed(0).child("recovery"))?;
        let draws = draws.iter().map(|at| RecoveryParameters::from_fit_space(at)).collect();
        Ok(RecoveryPredictor { mode: self.parameters, draws })
    }
}

/// Log residuals of one trial, standardised; always the same number for the same trial.
fn residuals(parameters: &RecoveryParameters, trial: &Trial) -> Vec<f64> {
    let log_ratio = |seen: f64, expected: f64, sigma: f64| (seen / expected).ln() / sigma;
    let interval = trial.interval.seconds();
    let positive = |seconds: Seconds| seconds.get().max(1e-3);
    let mut residuals = Vec::with_capacity(3);

    let dead = trial.dead_time.map(positive);
    if let Some(dead) = dead {
        residuals.push(log_ratio(dead, parameters.dead_time_s, SIGMA_DEAD));
    }
    if let Some(rate) = trial.catch_up.map(EventRate::get) {
        let left = parameters.capacity_beside_checkpoints(interval);
        let floor = GAP_FLOOR * parameters.capacity_eps;
        residuals.push(log_ratio(rate, left.max(floor), SIGMA_CATCH_UP));
    }

    let duration = trial.checkpoint_duration.map_or(0.0, Seconds::get);
    let load = trial.load.get();
    let in_parts = dead.zip(trial.backlog.map(Events::get)).map(|(dead, backlog)| {
        let during = trial.load_during.map_or(load, EventRate::get);
        dead + parameters.settling_s + backlog / parameters.floored_gap(interval, during)
    });
    let (expected, sigma) = match in_parts {
        Some(expected) => (expected, SIGMA_RECOVERY_IN_PARTS),
        None => (parameters.worst_case_floored(interval, duration, load), SIGMA_RECOVERY_WHOLE),
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

/// A recovery model ready to predict.
#[derive(Debug, Clone, PartialEq)]
pub struct RecoveryPredictor {
    mode: RecoveryParameters,
    draws: Vec<RecoveryParameters>,
}

impl RecoveryPredictor {
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
}

impl RecoveryPredictor {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::CheckpointInterval;

    const PAPER: RecoveryParameters = RecoveryParameters {
        dead_time_s: 16.2,
        settling_s: 62.5,
        capacity_eps: 34_294.0,
        checkpoint_cost_s: 0.815,
    };

    #[test]
    fn the_formula_by_hand() {
        // CI 30, λ 20,000: left 34,294·(1 − 0.815/30) = 33,362.35; gap 13,362.35;
        // 78.7 + 46.2·20,000/13,362.35 = 147.85.
        assert!((PAPER.worst_case(30.0, 0.0, 20_000.0).unwrap() - 147.85).abs() < 0.01);
        // δ = 10 adds 10·20,000/13,362.35 = 14.97.
        assert!((PAPER.worst_case(30.0, 10.0, 20_000.0).unwrap() - 162.82).abs() < 0.01);
        assert_eq!(PAPER.worst_case(30.0, 0.0, 33_400.0), None);
        assert!(PAPER.worst_case_floored(30.0, 0.0, 33_400.0).is_finite());
    }

    #[test]
    fn the_capacity_needed_keeps_the_objective_exactly() {
        let needed = PAPER.capacity_needed(60.0, 5.0, 30_000.0, 240.0).unwrap();
        let grown = RecoveryParameters { capacity_eps: needed, ..PAPER };
        assert!((grown.worst_case(60.0, 5.0, 30_000.0).unwrap() - 240.0).abs() < 1e-6);
        assert_eq!(PAPER.capacity_needed(60.0, 5.0, 30_000.0, 78.0), None);
    }

    fn trial(index: u32, interval: u32, load: f64, noise: f64, in_parts: bool) -> Trial {
        let interval = CheckpointInterval::from_secs(interval).unwrap();
        let seconds = |s: f64| Some(Seconds::new(s).unwrap());
        let ci = interval.seconds();
        let dead = PAPER.dead_time_s * noise;
        let backlog = (dead + ci) * load;
        let left = PAPER.capacity_beside_checkpoints(ci);
        let recovery = dead + PAPER.settling_s + backlog / (left - load);
        Trial {
            index,
            interval,
            load: EventRate::new(load).unwrap(),
            latency: None,
            recovery: Recovery::Measured(Seconds::new(recovery).unwrap()),
            dead_time: seconds(dead).filter(|_| in_parts),
            age: seconds(ci).filter(|_| in_parts),
            backlog: Some(Events::new(backlog).unwrap()).filter(|_| in_parts),
            catch_up: Some(EventRate::new(left).unwrap()).filter(|_| in_parts && load > 10_000.0),
            load_during: None,
            checkpoint_duration: seconds(0.0),
            failed_within: None,
        }
    }

    fn six(in_parts: bool) -> Vec<Trial> {
        let plan = [
            (120, 27_000.0, 1.1),
            (10, 27_000.0, 0.92),
            (35, 20_000.0, 1.05),
            (120, 14_000.0, 0.97),
            (10, 7_000.0, 1.02),
            (35, 300.0, 0.95),
        ];
        (0..6).map(|i| trial(i as u32, plan[i].0, plan[i].1, plan[i].2, in_parts)).collect()
    }

    #[test]
    fn six_trials_in_parts_find_the_parameters() {
        let trials = six(true);
        let model = RecoveryModel::fit(&trials.iter().collect::<Vec<_>>()).unwrap();
        let found = model.parameters;
        assert!((found.capacity_eps / PAPER.capacity_eps - 1.0).abs() < 0.01, "{found:?}");
        assert!((found.dead_time_s / PAPER.dead_time_s - 1.0).abs() < 0.05, "{found:?}");
        assert!((found.settling_s / PAPER.settling_s - 1.0).abs() < 0.05, "{found:?}");
        assert!((found.checkpoint_cost_s - PAPER.checkpoint_cost_s).abs() < 0.15, "{found:?}");
    }

    #[test]
    fn parts_teach_more_than_whole_recoveries() {
        let width = |in_parts| {
            let trials = six(in_parts);
            let model = RecoveryModel::fit(&trials.iter().collect::<Vec<_>>()).unwrap();
            let predictor = model.predictor().unwrap();
            let bound = |p| predictor.upper(p, 60.0, 0.0, 22_000.0).unwrap();
            bound(0.9) / bound(0.1)
        };
        assert!(width(true) < width(false));
    }

    #[test]
    fn the_upper_bound_lies_above_the_middle_and_knows_infeasible() {
        let trials = six(true);
        let model = RecoveryModel::fit(&trials.iter().collect::<Vec<_>>()).unwrap();
        let predictor = model.predictor().unwrap();
        let upper = |p| predictor.upper(p, 30.0, 0.0, 25_000.0).unwrap();
        assert!(upper(0.75) > upper(0.5));
        assert_eq!(predictor.upper(0.75, 30.0, 0.0, 40_000.0), None);
        assert_eq!(predictor, model.predictor().unwrap(), "the same model, the same bounds");
    }

    #[test]
    fn priors_alone_are_the_paper_s_usual_job_and_wide() {
        let model = RecoveryModel::of_priors(EventRate::new(10_000.0).unwrap(), None).unwrap();
        assert_eq!(model.trials, 0);
        let found = model.parameters;
        assert!((found.floor_s() - 60.0).abs() < 1e-6, "{found:?}");
        assert!((found.dead_time_s - 24.0).abs() < 1e-6, "{found:?}");
        assert!((found.capacity_eps - 14_500.0).abs() < 1e-3, "{found:?}");
        assert!((found.checkpoint_cost_s - 1.0).abs() < 1e-6, "{found:?}");
        // With nothing arriving R = D_0 ~ exp(N(ln 60, 0.5)): its upper quartile is
        // 60·exp(0.674·0.5) = 84 s, give or take what 128 draws do.
        let upper = model.predictor().unwrap().upper(0.75, 30.0, 0.0, 0.0).unwrap();
        assert!((75.0..95.0).contains(&upper), "{upper}");
    }

    #[test]
    fn a_checkpoint_costs_no_more_than_it_takes() {
        let highest = EventRate::new(10_000.0).unwrap();
        for (longest, cost) in [(0.2, 0.2), (7.0, 1.0), (0.0, 0.01)] {
            let longest = Some(Seconds::new(longest).unwrap());
            let found = RecoveryModel::of_priors(highest, longest).unwrap().parameters;
            assert!((found.checkpoint_cost_s - cost).abs() < 1e-6, "{found:?}");
        }
    }

    #[test]
    fn a_censored_trial_pushes_one_way_only() {
        let mut long = six(true);
        long[0].recovery = Recovery::Censored(Seconds::new(100.0).unwrap());
        let refs: Vec<&Trial> = long.iter().collect();
        let model = RecoveryModel::fit(&refs).unwrap();
        // It lasted at least 100 s, and the formula says 560 s: nothing contradicts it.
        assert!((model.parameters.capacity_eps / PAPER.capacity_eps - 1.0).abs() < 0.02);
    }
}
