//! The latency model: `ln L = a + b·x + c·ln(CI/60) + d·x²`, `x = λ/λ_max`.

use khaos_stats::{FitError, Posterior, Residuals, Seed, fit, mean, quantile};
use serde::{Deserialize, Serialize};

use crate::profile::Trial;
use crate::units::{EventRate, Millis};

/// Standard deviation that the log of a trial's mean p99 latency is expected to have: latencies of
/// the same job at the same load differ by this much from hour to hour.
const SIGMA: f64 = 0.15;
/// Posterior draws behind a credible bound.
const DRAWS: usize = 128;

/// The latency model with the uncertainty of its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatencyModel {
    /// Log of the latency in ms at no load and an interval of 60 s.
    pub a: f64,
    /// Slope over the relative load.
    pub b: f64,
    /// Slope over the log of the interval, never positive: checkpointing more often takes work, and
    /// cannot make anything faster.
    pub c: f64,
    /// Curvature over the relative load.
    pub d: f64,
    /// `λ_max`: the highest profiled load, events/s.
    pub load_max_eps: f64,
    /// The lowest profiled load, events/s.
    pub load_min_eps: f64,
    /// Spread of the residuals relative to the expected, at least 1.
    pub dispersion: f64,
    /// Mode in fit space: (a, b, ln −c, d).
    mode: Vec<f64>,
    /// Covariance in fit space.
    covariance: Vec<Vec<f64>>,
}

impl LatencyModel {
    /// Fits the model to the latencies of `trials` that measured one. `None` when fewer than three
    /// did.
    ///
    /// Weak priors: a around the mean, b and d ~ N(0.5, 1), ln −c ~ N(ln 0.05, 1).
    pub fn fit(trials: &[&Trial]) -> Result<Option<Self>, FitError> {
        let seen: Vec<(f64, f64, f64)> = trials
            .iter()
            .filter_map(|t| {
                Some((t.load.get(), t.interval.seconds(), t.latency.map(Millis::get)?.ln()))
            })
            .collect();
        let logs: Vec<f64> = seen.iter().map(|s| s.2).collect();
        let (Some(middle), true) = (mean(&logs), seen.len() >= 3) else { return Ok(None) };
        let load_max_eps = seen.iter().map(|s| s.0).fold(1.0, f64::max);
        let load_min_eps = seen.iter().map(|s| s.0).fold(load_max_eps, f64::min);
        let start = [middle - 0.5, 0.5, 0.05_f64.ln(), 0.5];
        let posterior = fit(&start, |at| Residuals {
            data: seen
                .iter()
                .map(|(load, ci, log)| (log - log_latency(at, load / load_max_eps, *ci)) / SIGMA)
                .collect(),
            prior: vec![at[0] - start[0], at[1] - start[1], at[2] - start[2], at[3] - start[3]],
        })?;
        let mode = &posterior.mode;
        Ok(Some(Self {
            a: mode[0],
            b: mode[1],
            c: -mode[2].exp(),
            d: mode[3],
            load_max_eps,
            load_min_eps,
            dispersion: posterior.dispersion,
            mode: posterior.mode,
            covariance: posterior.covariance,
        }))
    }

    /// The model made ready to predict: the same model always gives the same bounds.
    pub fn predictor(&self) -> Result<LatencyPredictor, FitError> {
        let posterior = Posterior {
            mode: self.mode.clone(),
            covariance: self.covariance.clone(),
            dispersion: self.dispersion,
        };
        let draws = posterior.draws(DRAWS, Seed(0).child("latency"))?;
        let edges = (self.load_min_eps / self.load_max_eps, 1.0);
        Ok(LatencyPredictor { mode: self.mode.clone(), draws, edges, scale: self.load_max_eps })
    }
}

fn log_latency(at: &[f64], x: f64, interval_s: f64) -> f64 {
    at[0] + at[1] * x - at[2].exp() * (interval_s / 60.0).ln() + at[3] * x * x
}

/// A latency model ready to predict. Loads beyond what was profiled count as the edge of it.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencyPredictor {
    mode: Vec<f64>,
    draws: Vec<Vec<f64>>,
    edges: (f64, f64),
    scale: f64,
}

impl LatencyPredictor {
    /// Predicted p99 latency, ms, at `interval_s` (s) and `load` (events/s).
    pub fn expected(&self, interval_s: f64, load: EventRate) -> f64 {
        log_latency(&self.mode, self.relative(load), interval_s).exp()
    }

    /// Upper `probability` credible bound of the mean of the p99 latency, ms.
    pub fn upper(&self, probability: f64, interval_s: f64, load: EventRate) -> f64 {
        let x = self.relative(load);
        let all: Vec<f64> = self.draws.iter().map(|at| log_latency(at, x, interval_s)).collect();
        quantile(&all, probability).map_or(f64::INFINITY, f64::exp)
    }

    fn relative(&self, load: EventRate) -> f64 {
        (load.get() / self.scale).clamp(self.edges.0, self.edges.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Recovery;
    use crate::units::CheckpointInterval;

    fn trials() -> Vec<Trial> {
        let truth = [6.0, 0.4, 0.06_f64.ln(), 0.6];
        let mut trials = Vec::new();
        for ci in [10, 30, 60, 120] {
            for load in [300.0, 5_000.0, 10_000.0, 15_000.0, 20_000.0] {
                let log = log_latency(&truth, load / 20_000.0, f64::from(ci));
                trials.push(Trial {
                    index: trials.len() as u32,
                    interval: CheckpointInterval::from_secs(ci).unwrap(),
                    load: EventRate::new(load).unwrap(),
                    latency: Some(Millis::new(log.exp()).unwrap()),
                    recovery: Recovery::Spoilt("not of interest here".into()),
                    dead_time: None,
                    age: None,
                    backlog: None,
                    catch_up: None,
                    load_during: None,
                    checkpoint_duration: None,
                    failed_within: None,
                });
            }
        }
        trials
    }

    #[test]
    fn a_known_curve_is_found_again() {
        let trials = trials();
        let model = LatencyModel::fit(&trials.iter().collect::<Vec<_>>()).unwrap().unwrap();
        assert!((model.a - 6.0).abs() < 0.05, "{model:?}");
        assert!((model.c + 0.06).abs() < 0.02, "{model:?}");
        let predictor = model.predictor().unwrap();
        // x = 0.5, CI 60: exp(6 + 0.2 + 0.15) = 572.5 ms.
        let half = EventRate::new(10_000.0).unwrap();
        assert!((predictor.expected(60.0, half) / 572.5 - 1.0).abs() < 0.03);
        assert!(predictor.upper(0.75, 60.0, half) > predictor.expected(60.0, half));
        assert!(predictor.expected(10.0, half) > predictor.expected(120.0, half));
    }

    #[test]
    fn held_at_the_edge_of_what_was_profiled() {
        let trials = trials();
        let model = LatencyModel::fit(&trials.iter().collect::<Vec<_>>()).unwrap().unwrap();
        let predictor = model.predictor().unwrap();
        let at = |load| predictor.expected(60.0, EventRate::new(load).unwrap());
        assert!((at(20_000.0) - at(90_000.0)).abs() < 1e-9);
        assert!((at(300.0) - at(0.0)).abs() < 1e-9);
    }

    #[test]
    fn no_latency_no_model() {
        let mut trials = trials();
        trials.truncate(2);
        assert_eq!(LatencyModel::fit(&trials.iter().collect::<Vec<_>>()), Ok(None));
    }
}
