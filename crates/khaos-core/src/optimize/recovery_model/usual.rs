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
            headroom: HEADROOM,
            cost_s: COST_S,
            top_eps: trials.iter().map(|t| t.load.get()).fold(1.0, f64::max),
        }
    }

    /// Scaled to a job of which no trial was run: to the `highest` load that it was seen to have and
    /// its `longest` checkpoint, which costs no more than all of the capacity for as long as it takes.
    pub fn of_job(highest: EventRate, longest: Option<Seconds>) -> Self {
        let cost_s = longest.map_or(COST_S, |longest| longest.get().clamp(0.01, COST_S));
        Self { floor_s: FLOOR_S, headroom: HEADROOM, cost_s, top_eps: highest.get().max(1.0) }
    }

    /// Where a fit begins: at the centres, and at little and much headroom, since few raw recoveries
    /// can be explained by a slow restart as well as by a slow catch-up.
    pub(super) fn starts(&self) -> [Vec<f64>; 3] {
        let dead = DEAD_SHARE * self.floor_s;
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
        let residuals: [f64; FIT_PARAMETERS] = [
            (floor / self.floor_s).ln() / FLOOR_SIGMA,
            (dead / floor / DEAD_SHARE).ln() / DEAD_SHARE_SIGMA,
            (at[2] - self.headroom.ln()) / HEADROOM_SIGMA,
            (at[3] - self.cost_s.ln()) / COST_SIGMA,
        ];
        residuals.to_vec()
    }
}
