//! What a run of the lab amounts to: one JSON document, tables for people, the page.

use std::sync::Arc;

use khaos_core::job::JobKey;
use khaos_core::optimize::{Arriving, Goals, Models};
use khaos_core::profile::{Recovery, Trial};
use khaos_core::record::Record;
use khaos_core::stats::mean;
use khaos_core::units::{Millis, Seconds};
use khaos_twin::World;
use serde::Serialize;
use serde_json::{Value, json};

use super::contest::Ran;
use super::course::{Contest, SPEED};
use crate::judged::{self, Judged, mean_of, measured, recovery, seconds, signed_percent, whole};
use crate::report::{Report, page};
use crate::score::{InForce, Objective, score};
use crate::simulate::{Policy, PolicyResult};
use crate::table::table;

/// A failure of the contest, in the lab and on the embedded engine.
#[derive(Debug, Serialize)]
pub(super) struct Failure {
    /// Second of the contest.
    second: f64,
    /// `null` where it showed nothing.
    #[serde(flatten)]
    judged: Option<Judged>,
    /// Why it showed nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    spoilt: Option<String>,
    /// Whether the smallest interval would have kept the objective; `null` where that is not known.
    feasible: Option<bool>,
    /// The same failure on the embedded engine, s.
    twin: Option<f64>,
    /// The embedded engine's over the lab's, less one.
    twin_error: Option<f64>,
}

/// A policy's afternoon.
#[derive(Debug, Serialize)]
pub(super) struct Afternoon {
    #[serde(flatten)]
    pub(super) result: PolicyResult,
    /// How often the job was restarted or redeployed, but not because it had been broken.
    restarts: usize,
    recoveries: Vec<Failure>,
}

/// Everything that a run of the lab showed.
#[derive(Debug)]
pub(super) struct LabResult {
    pub(super) flink: String,
    pub(super) wall_s: f64,
    pub(super) goals: Goals,
    pub(super) contest: Contest,
    pub(super) trials: Vec<Judged>,
    pub(super) models: Models,
    pub(super) world: String,
    pub(super) afternoons: Vec<Afternoon>,
    /// All records of the job that was kept, what it had learnt before first.
    pub(super) kept: Vec<Arc<Record>>,
    /// All records of all jobs.
    pub(super) records: Vec<Arc<Record>>,
}

/// What afternoons are judged by.
pub(super) struct Judge<'a> {
    pub(super) world: &'a World,
    pub(super) rates: &'a [f64],
    pub(super) goals: &'a Goals,
    pub(super) recovery: Seconds,
    pub(super) latency: Millis,
    pub(super) models: &'a Models,
    pub(super) trials: usize,
}

impl Judge<'_> {
    pub(super) fn trials(&self, trials: &[&Trial]) -> Vec<Judged> {
        let parameters = &self.models.recovery.parameters;
        trials.iter().map(|trial| Judged::by(parameters, trial)).collect()
    }

    /// One policy's afternoon, with the recoveries of the embedded engine beside the lab's.
    pub(super) fn afternoon(&self, ran: &Ran, twin: &[Option<f64>]) -> Afternoon {
        let objective =
            Objective { recovery_s: self.recovery.get(), latency_ms: self.latency.get() };
        let scored = score(self.world, self.rates, &ran.intervals, None, objective);
        let fallback = InForce {
            since_s: 0.0,
            interval_s: self.goals.bounds.max().seconds() + self.world.checkpoint_duration_s,
        };
        let dead = score(self.world, self.rates, &[fallback], None, objective).exposure;
        let minutes = || ran.records.iter().filter_map(|record| record.minute());
        let latencies: Vec<f64> =
            minutes().filter_map(|m| m.latency.known()).map(Millis::get).collect();
        let above = latencies.iter().filter(|ms| **ms > objective.latency_ms).count();
        let parameters = &self.models.recovery.parameters;
        let recoveries: Vec<Failure> = ran
            .failures
            .iter()
            .enumerate()
            .map(|(i, struck)| {
                let (trial, spoilt) = match &struck.showed {
                    Ok(trial) => (Some(trial), None),
                    Err(why) => (None, Some(why.clone())),
                };
                let twin = twin.get(i).copied().flatten();
                let lab = trial.and_then(measured);
                Failure {
                    second: struck.second,
                    judged: trial.map(|trial| Judged::by(parameters, trial)),
                    spoilt,
                    feasible: trial.map(|trial| self.feasible(trial)),
                    twin,
                    twin_error: twin.zip(lab).map(|(twin, lab)| twin / lab - 1.0),
                }
            })
            .collect();
        let trials = || ran.failures.iter().filter_map(|struck| struck.showed.as_ref().ok());
        // What was not over when nobody looked any more has no length.
        let longest: Option<Vec<f64>> = trials().map(measured).collect();
        let over = |trial: &&Trial| match trial.recovery {
            Recovery::Measured(s) | Recovery::Censored(s) => s > self.recovery,
            Recovery::Spoilt(_) => false,
        };
        let checkpoints = minutes().filter_map(|m| m.checkpoints_completed).map(u64::from).sum();
        let result = PolicyResult {
            name: ran.policy.to_string(),
            exposure: scored.exposure,
            latency_mean_ms: mean(&latencies).unwrap_or(f64::NAN),
            latency_over_share: above as f64 / latencies.len().max(1) as f64,
            failures: ran.failures.len(),
            recoveries_over: trials().filter(over).count(),
            recovery_max_s: longest.and_then(|all| all.into_iter().reduce(f64::max)),
            visibility_mean_s: scored.visibility_mean_s,
            interval_changes: ran.intervals.len() - 1,
            checkpoints,
            downtime_s: ran.downtime_s,
            trials: if let Policy::Static(_) = ran.policy { 0 } else { self.trials },
            exposure_if_dead: (ran.policy == Policy::Khaos).then_some(dead),
        };
        Afternoon { result, restarts: ran.restarts, recoveries }
    }

    /// Whether the smallest interval would have kept the objective in this very failure.
    fn feasible(&self, trial: &Trial) -> bool {
        let parameters = &self.models.recovery.parameters;
        let interval = self.goals.bounds.min().seconds();
        let dead_s = trial.dead_time.map_or(parameters.dead_time_s, Seconds::get);
        let age_s = interval + self.world.checkpoint_duration_s;
        let best_s = parameters.after(dead_s, age_s, interval, Arriving::at(trial));
        best_s.is_some_and(|best_s| best_s <= self.recovery.get())
    }
}

impl LabResult {
    fn trial_error(&self) -> Option<f64> {
        mean_of(self.trials.iter().map(|judged| judged.error))
    }

    fn twin_error(&self) -> Option<f64> {
        mean_of(self.afternoons.iter().flat_map(|a| &a.recoveries).map(|f| f.twin_error))
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "flink": self.flink,
            "clock_speed": SPEED,
            "wall_s": self.wall_s,
            "objectives": self.goals.objectives,
            "min_interval_s": self.goals.bounds.min(),
            "fallback_s": self.goals.bounds.max(),
            "trials": self.trials,
            "trial_mean_error": self.trial_error(),
            "models": self.models,
            "policies": self.afternoons,
            "lab_s": f64::from(self.contest.minutes) * 60.0,
            "twin": { "world": self.world, "mean_error": self.twin_error() },
        })
    }

    pub(super) fn page(&self, title: &str) -> anyhow::Result<String> {
        let results: Vec<PolicyResult> =
            self.afternoons.iter().map(|afternoon| afternoon.result.clone()).collect();
        page(&Report { title, records: &self.kept, results: &results, goals: &self.goals })
    }

    /// The trials, and the failures of every policy, as tables.
    pub(super) fn tables(&self) -> String {
        let trials = judged::trials(&self.trials);
        let mut failures = table(&[
            "policy",
            "at, min",
            "interval",
            "load",
            "noticed, s",
            "down, s",
            "age, s",
            "recovery, s",
            "predicted, s",
            "embedded, s",
            "differs",
        ]);
        for afternoon in &self.afternoons {
            for failure in &afternoon.recoveries {
                let Some(judged) = &failure.judged else { continue };
                let trial = &judged.trial;
                failures.add_row([
                    afternoon.result.name.clone(),
                    format!("{:.0}", failure.second / 60.0),
                    trial.interval.to_string(),
                    format!("{:.0}", trial.load.get()),
                    seconds(trial.detection),
                    seconds(trial.dead_time),
                    seconds(trial.age),
                    recovery(trial),
                    whole(judged.predicted),
                    whole(failure.twin),
                    signed_percent(failure.twin_error),
                ]);
            }
        }
        let of = |error: Option<f64>| error.map_or("–".into(), |e| format!("{:.1} %", 100.0 * e));
        format!(
            "Trials on clones; predicted from the models with dead time and age as measured, off by {} \
             in the mean:\n{trials}\n\nFailures of each policy's job; the same on the embedded engine, \
             which is off by {} in the mean:\n{failures}",
            of(self.trial_error()),
            of(self.twin_error()),
        )
    }
}

/// The records of the job that was kept, those of others left out.
pub(super) fn of_job(records: &[Arc<Record>], job: &JobKey) -> Vec<Arc<Record>> {
    records.iter().filter(|record| record.job() == job).cloned().collect()
}
