//! What is usual for jobs: the weak priors of the recovery model, scaled to the job.

use khaos_stats::median;

use super::FIT_PARAMETERS;
use crate::profile::{Recovery, Trial};
use crate::units::{EventRate, Seconds};

/// `D_0` of the paper's cluster, s, where nothing is known of the job's own.
const FLOOR_S: f64 = 60.0;
/// Standard deviation of ln D_0 around its centre.
const FLOOR_SIGMA: f64 = 0.5;
/// `D_r/D_0`, and the standard deviation of its log. Source: DESIGN, fit.
const DEAD_SHARE: f64 = 0.4;
const DEAD_SHARE_SIGMA: f64 = 0.5;
/// Standard deviation of ln D_r around what the engine's configuration makes of it: a killed process took
/// 0.75 to 1.1 times that on Flink, one that hangs is noticed after 2.5 times as long by default, and
/// a large state takes its time to be read.
const DEAD_SIGMA: f64 = 0.5;
/// Settling beside a dead time that is known of itself, s, and the standard deviation of its log. How
/// often an engine's processes greet each other says nothing of how late its metrics are read, so it is
/// no share of anything. Source: Flink's values are up to 10 s old by default and read every 5 s; of the
/// 62.5 s of the paper's cluster 45 s are the maximum over a window, which nobody takes here, so 17.5 s are left.
const SETTLING_S: f64 = 15.0;
const SETTLING_SIGMA: f64 = 0.7;
/// (μ − λ_max)/λ_max, and the standard deviation of its log: in nine of ten jobs the capacity is from
/// 1.15 to 2.4 times the highest load.
const HEADROOM: f64 = 0.45;
const HEADROOM_SIGMA: f64 = 0.7;
/// Seconds of capacity that a checkpoint costs, and the standard deviation of its log.
const COST_S: f64 = 1.0;
const COST_SIGMA: f64 = 1.0;

/// Centres of the priors. Source: DESIGN, fit; the floor, the headroom and the cost are log-normal
/// here, because none of them can be negative.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usual {
    /// `D_0`, s.
    pub floor_s: f64,
    /// `D_r` by the engine's configuration, s, the rest of the floor being settling; a share of the floor
    /// when `None`.
    pub dead_time_s: Option<f64>,
    /// (μ − top)/top.
    pub headroom: f64,
    /// `k`, s.
    pub cost_s: f64,
    /// The highest load seen, events/s: the headroom counts from here.
    pub top_eps: f64,
}

impl Usual {
    /// Scaled to what `trials` saw: the shortest recovery of all holds little more than `D_0`, so that
    /// a Flink with heartbeats of a second is not taken for the paper's cluster. Where none came to
    /// its end the dead times say as much.
    pub fn of_trials(trials: &[&Trial]) -> Self {
        let measured = trials.iter().filter_map(|trial| match &trial.recovery {
            Recovery::Measured(seen) => Some(seen.get().max(0.1)),
            Recovery::Censored(_) | Recovery::Spoilt(_) => None,
        });
        let dead: Vec<f64> = trials.iter().filter_map(|t| t.dead_time.map(Seconds::get)).collect();
        let floor_of_dead = || median(&dead).map(|dead| dead.max(0.1) / DEAD_SHARE);
        Self {
            floor_s: measured.reduce(f64::min).or_else(floor_of_dead).unwrap_or(FLOOR_S),
            dead_time_s: None,
            headroom: HEADROOM,
            cost_s: COST_S,
            top_eps: trials.iter().map(|t| t.load.get()).fold(1.0, f64::max),
        }
    }

    /// Scaled to a job of which no trial was run: to the `highest` load that it was seen to have and
    /// its `longest` checkpoint, which costs no more than all of the capacity for as long as it takes; and
    /// to the dead time that is `expected` by the engine's configuration, where it is known.
    pub fn of_job(highest: EventRate, longest: Option<Seconds>, expected: Option<Seconds>) -> Self {
        let dead_time_s = expected.map(|expected| expected.get().max(0.1));
        Self {
            floor_s: dead_time_s.map_or(FLOOR_S, |dead| dead + SETTLING_S),
            dead_time_s,
            headroom: HEADROOM,
            cost_s: longest.map_or(COST_S, |longest| longest.get().clamp(0.01, COST_S)),
            top_eps: highest.get().max(1.0),
        }
    }

    /// Where a fit begins: at the centres, and at little and much headroom, since few raw recoveries
    /// can be explained by a slow restart as well as by a slow catch-up.
    pub(super) fn starts(&self) -> [Vec<f64>; 3] {
        let dead = self.dead_time_s.unwrap_or(DEAD_SHARE * self.floor_s);
        let centre = [dead.ln(), (self.floor_s - dead).ln(), self.headroom.ln(), self.cost_s.ln()];
        [0.0, -HEADROOM_SIGMA, HEADROOM_SIGMA].map(|off| {
            let mut start = centre.to_vec();
            start[2] += off;
            start
        })
    }

    /// Standardised residuals of the priors at a point of fit space.
    pub(super) fn residuals(&self, at: &[f64]) -> Vec<f64> {
        let (dead, settling) = (at[0].exp(), at[1].exp());
        let floor = dead + settling;
        let [first, second] = match self.dead_time_s {
            Some(expected) => [
                (dead / expected).ln() / DEAD_SIGMA,
                (settling / (self.floor_s - expected)).ln() / SETTLING_SIGMA,
            ],
            None => [
                (floor / self.floor_s).ln() / FLOOR_SIGMA,
                (dead / floor / DEAD_SHARE).ln() / DEAD_SHARE_SIGMA,
            ],
        };
        let residuals: [f64; FIT_PARAMETERS] = [
            first,
            second,
            (at[2] - self.headroom.ln()) / HEADROOM_SIGMA,
            (at[3] - self.cost_s.ln()) / COST_SIGMA,
        ];
        residuals.to_vec()
    }
}
