//! `khaos simulate`: the same day under each policy.
//!
//! world + workload → a day per [`Policy`] on the twin ([`day`]; khaos and [`paper`] profile before
//! second 0, [`rehearsal`]) → [`crate::score`] → [`PolicyResult`].

pub mod day;
pub mod paper;
pub mod policy;
pub mod rehearsal;
pub mod watched;

use std::sync::Arc;

use khaos_core::optimize::{Confidence, Goals, Objectives};
use khaos_core::profile::IntervalBounds;
use khaos_core::record::Record;
use khaos_core::stats::{Ar1, Seed};
use khaos_core::units::{CheckpointInterval, Millis, Seconds};
use khaos_twin::{Workload, World};
use serde::Serialize;

use self::day::{Day, Recovered, live};
pub use self::policy::Policy;
use self::policy::young_daly;
use self::rehearsal::{Rehearsal, rehearse, rehearse_paper};
use self::watched::{OnRecord, unwatched};
use crate::progress::progress;
use crate::score::{InForce, Objective, score};

/// One simulation: everything but the policy.
#[derive(Debug, Clone)]
pub struct Simulation {
    /// The physics.
    pub world: World,
    /// What khaos may have recorded before second 0.
    pub recording: Workload,
    /// What arrives from second 0 on.
    pub workload: Workload,
    /// Failures strike here, s.
    pub failures: Vec<f64>,
    /// The recovery objective.
    pub recovery: Seconds,
    /// The latency objective.
    pub latency: Millis,
    /// Intervals that every policy chooses from.
    pub bounds: IntervalBounds,
    /// Seed of all noise.
    pub seed: u64,
    /// Whether there is noise.
    pub noise: bool,
}

/// How one policy did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PolicyResult {
    /// The policy, as typed.
    pub name: String,
    /// Share of time in which the worst-case recovery exceeds its objective.
    pub exposure: f64,
    /// Mean failure-free latency, ms.
    pub latency_mean_ms: f64,
    /// Share of time in which the failure-free latency exceeds its objective.
    pub latency_over_share: f64,
    /// Failures that struck.
    pub failures: usize,
    /// Recoveries longer than the objective, those without an end among them.
    pub recoveries_over: usize,
    /// The longest recovery, s, as the lag shows it; `null` when one did not end or none was seen.
    pub recovery_max_s: Option<f64>,
    /// Time mean of CI + δ, s.
    pub visibility_mean_s: f64,
    /// Changes of the interval.
    pub interval_changes: usize,
    /// Completed checkpoints.
    pub checkpoints: u64,
    /// Stalls caused by interval changes, s.
    pub downtime_s: f64,
    /// Trials run before second 0.
    pub trials: usize,
    /// Exposure if the policy's driver were dead all day and the fallback in force; `null` for
    /// policies whose intervals are the engine's own.
    pub exposure_if_dead: Option<f64>,
}

/// The same day under several policies.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// How each did, in the order in which they were asked for.
    pub policies: Vec<PolicyResult>,
    /// Length of the day, s.
    pub virtual_s: f64,
}

/// A policy's day with its result.
#[derive(Debug)]
pub struct Simulated {
    /// How it did.
    pub result: PolicyResult,
    /// What happened.
    pub day: Day,
}

impl Simulation {
    /// What khaos is asked to keep.
    pub fn goals(&self) -> Goals {
        Goals {
            objectives: Objectives::recovery_and_latency(self.recovery, self.latency),
            bounds: self.bounds,
            checkpoints_per_hour: None,
            confidence: Confidence::Mean,
        }
    }

    /// The interval of [`Policy::YoungDaly`].
    pub fn young_daly(&self) -> CheckpointInterval {
        let (cost_s, run_s) = (self.world.checkpoint_cost_s, self.workload.secs());
        young_daly(cost_s, run_s, self.failures.len(), self.bounds)
    }

    /// Lives the day under each of `policies`; khaos and paper profile before. Progress goes to
    /// standard error.
    pub fn compare(&self, policies: &[Policy]) -> anyhow::Result<Comparison> {
        let bar = progress(policies.len() as u64 + 1, "policies");
        let mut results = Vec::with_capacity(policies.len());
        for &policy in policies {
            bar.inc(1);
            bar.set_message(policy.to_string());
            let learnt = match policy {
                Policy::Khaos | Policy::KhaosRedeploying => self.rehearse(unwatched())?.learnt(),
                Policy::Paper => self.rehearse_paper()?.learnt(),
                Policy::Static(_) | Policy::YoungDaly | Policy::Oracle => Vec::new(),
            };
            results.push(self.live(policy, &learnt, unwatched())?.result);
        }
        bar.finish_and_clear();
        Ok(Comparison { policies: results, virtual_s: self.workload.secs() })
    }

    /// Observes and profiles on the recording, before second 0, as khaos does.
    pub fn rehearse(&self, on_record: OnRecord) -> anyhow::Result<Rehearsal> {
        rehearse(self, on_record)
    }

    /// Observes and profiles on the recording, before second 0, as the published method does.
    pub fn rehearse_paper(&self) -> anyhow::Result<Rehearsal> {
        rehearse_paper(self)
    }

    /// Lives the day under `policy`; khaos and paper need what they learnt before.
    pub fn live(
        &self,
        policy: Policy,
        learnt: &[Arc<Record>],
        on_record: OnRecord,
    ) -> anyhow::Result<Simulated> {
        let day = live(self, policy, learnt, on_record)?;
        let result = self.judge(policy, &day, learnt);
        Ok(Simulated { result, day })
    }

    fn judge(&self, policy: Policy, day: &Day, learnt: &[Arc<Record>]) -> PolicyResult {
        let objective =
            Objective { recovery_s: self.recovery.get(), latency_ms: self.latency.get() };
        let rates = self.workload.per_minute();
        let rate = |intervals: &[InForce]| {
            let path =
                || Ar1::new(self.world.latency_rho_per_minute, Seed(self.seed).stream("latency"));
            score(&self.world, rates, intervals, self.noise.then(path), objective)
        };
        let scored = rate(&day.intervals);
        // With nobody driving, min-pause counts from the end of a checkpoint.
        let undriven_s = self.bounds.max().seconds() + self.world.checkpoint_duration_s;
        let fallback = InForce { since_s: 0.0, interval_s: undriven_s };
        let over = |recovered: &Recovered| match recovered {
            Recovered::NotShown => false,
            Recovered::After(s) => *s > objective.recovery_s,
            Recovered::NoEnd => true,
        };
        PolicyResult {
            name: policy.to_string(),
            exposure: scored.exposure,
            latency_mean_ms: scored.latency_mean_ms,
            latency_over_share: scored.latency_over_share,
            failures: day.recoveries.len(),
            recoveries_over: day.recoveries.iter().filter(|r| over(r)).count(),
            recovery_max_s: longest(&day.recoveries),
            visibility_mean_s: scored.visibility_mean_s,
            interval_changes: day.intervals.len() - 1,
            checkpoints: day.checkpoints,
            downtime_s: day.stalled_s,
            trials: learnt.iter().filter(|r| r.trial().is_some()).count(),
            exposure_if_dead: matches!(policy, Policy::Khaos | Policy::Oracle)
                .then(|| rate(&[fallback]).exposure),
        }
    }
}

/// The longest recovery, s; `None` when one did not end, or none was seen.
fn longest(recoveries: &[Recovered]) -> Option<f64> {
    if recoveries.contains(&Recovered::NoEnd) {
        return None;
    }
    let seconds = recoveries.iter().filter_map(|recovered| match recovered {
        Recovered::After(s) => Some(*s),
        Recovered::NotShown | Recovered::NoEnd => None,
    });
    seconds.reduce(f64::max)
}

/// Failures where the user gave none, at equally spaced quantiles of the load and a quarter of an
/// hour apart: twelve, or as many as fit into a short day.
pub fn usual_failures(workload: &Workload) -> Vec<f64> {
    const APART_MIN: usize = 15;
    let rates = workload.per_minute();
    let count = (rates.len() / APART_MIN).clamp(1, 12);
    let mut by_rate: Vec<usize> = (0..rates.len()).collect();
    by_rate.sort_by(|&a, &b| rates[a].total_cmp(&rates[b]).then(a.cmp(&b)));
    let apart = APART_MIN.min(rates.len() / (2 * count));
    let mut chosen: Vec<usize> = Vec::new();
    for i in 0..count {
        let rank = (2 * i + 1) * rates.len() / (2 * count);
        // The nearest rank whose minute keeps its distance from those chosen before.
        let free = |minute: &&usize| chosen.iter().all(|c| c.abs_diff(**minute) >= apart);
        let above = by_rate[rank..].iter().enumerate().find(|(_, m)| free(m));
        let below = by_rate[..rank].iter().rev().enumerate().find(|(_, m)| free(m));
        let nearest = [above, below].into_iter().flatten().min_by_key(|(distance, _)| *distance);
        chosen.extend(nearest.map(|(_, minute)| *minute));
    }
    chosen.sort_unstable();
    chosen.into_iter().map(|minute| minute as f64 * 60.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_day_has_fewer_failures() {
        let minutes = |n: usize| Workload::new(vec![1.0; n]).unwrap();
        assert_eq!(usual_failures(&minutes(1)), [0.0]);
        assert_eq!(usual_failures(&minutes(60)).len(), 4);
        assert_eq!(usual_failures(&minutes(1_000)).len(), 12);
    }

    #[test]
    fn usual_failures_sit_at_the_quantiles_of_the_load_and_apart() {
        let workload = Workload::web_shop_day(10_000.0, Seed(1));
        let seconds = usual_failures(&workload);
        assert_eq!(seconds.len(), 12);
        assert!(seconds.windows(2).all(|w| w[1] - w[0] >= 900.0));
        let mut rates: Vec<f64> = seconds.iter().map(|&s| workload.rate_at(s + 30.0)).collect();
        rates.sort_by(f64::total_cmp);
        let mut all = workload.per_minute().to_vec();
        all.sort_by(f64::total_cmp);
        for (i, rate) in rates.iter().enumerate() {
            let rank = all.partition_point(|r| r < rate) as f64 / all.len() as f64;
            let wanted = (i as f64 + 0.5) / 12.0;
            assert!((rank - wanted).abs() < 0.04, "{i}: {rank} instead of {wanted}");
        }
    }
}
