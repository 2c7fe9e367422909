//! Models fitted to what a job has shown: to the trials of a campaign, and to its real failures.

use std::collections::BTreeSet;

use khaos_stats::FitError;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::job::JobShape;
use crate::observe::Minute;
use crate::optimize::drift::as_predicted;
use crate::optimize::{LatencyModel, RecoveryModel, Usual};
use crate::profile::{Failure, Recovery, Trial};
use crate::units::{EventRate, Seconds, Timestamp};

/// Trials with a measured recovery below which there is no model without failures.
const FEWEST: usize = 2;
/// Failures in a row that have to come out as predicted before models without trials are acted on.
const EARNS: u32 = 4;

/// Models of recovery and latency over (CI, λ).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Models {
    /// Recovery time.
    pub recovery: RecoveryModel,
    /// Latency; `None` when what they rest on did not measure it.
    pub latency: Option<LatencyModel>,
    /// The longest p99 of checkpoint durations in a trial, or in a minute where there was none;
    /// `None` when none was measured.
    pub checkpoint_duration: Option<Seconds>,
    /// The shape of the job that they speak of; `None` where they are made of priors alone.
    pub shape: Option<JobShape>,
    /// Real failures among what the recovery model was fitted to.
    pub failures: u32,
    /// Failures in a row, up to the last, that came out as predicted.
    pub as_predicted: u32,
    /// When the drift began that made what was learnt before worthless; `None` where there was none,
    /// or trials were run since.
    pub drifted_at: Option<Timestamp>,
}

impl Models {
    /// Trials that they rest on.
    pub fn trials(&self) -> u32 {
        self.recovery.trials.saturating_sub(self.failures)
    }

    /// Whether they may be acted on: because trials of this very job stand behind them, or because
    /// they have predicted its real failures.
    pub fn earned(&self) -> bool {
        self.trials() > 0 || self.as_predicted >= EARNS
    }

    /// What can be said of a job of which no trial was run: priors, scaled to the highest arrival
    /// rate within `minutes` and to the dead time that is `expected` where that is known, and its own
    /// checkpoint statistics. Nothing is said of latency: what one interval does to it says nothing
    /// about another. `None` when no arrival rate is known.
    pub fn of_priors(minutes: &[&Minute], expected: Option<Seconds>) -> Option<Self> {
        let highest = highest_load(minutes)?;
        let durations = minutes.iter().filter_map(|m| m.checkpoint_duration.known());
        let checkpoint_duration = longest(durations);
        Some(Self {
            recovery: RecoveryModel::of_priors(highest, checkpoint_duration, expected).ok()?,
            latency: None,
            checkpoint_duration,
            shape: None,
            failures: 0,
            as_predicted: 0,
            drifted_at: None,
        })
    }
}

/// The highest arrival rate within `minutes`; `None` when none is known.
pub fn highest_load(minutes: &[&Minute]) -> Option<EventRate> {
    let known = minutes.iter().filter_map(|m| m.arrival.known());
    known.reduce(|a, b| if a < b { b } else { a })
}

fn longest(durations: impl Iterator<Item = Seconds>) -> Option<Seconds> {
    durations.reduce(|a, b| if a < b { b } else { a })
}

/// Why there are no models.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum NoModels {
    /// Too few trials say something about recovery.
    #[error(
        "{usable} of {all} trials measured a recovery, but a model needs {FEWEST}. The others say: \
         {spoilt}. Profile a recording with more load, or with intervals that the job can bear"
    )]
    TooFew {
        /// Trials that did.
        usable: usize,
        /// Trials in all.
        all: usize,
        /// What spoilt the others.
        spoilt: String,
    },
    /// The numbers do not determine a model.
    #[error(transparent)]
    Fit(#[from] FitError),
}

/// What is known of a job of one shape, since it last drifted.
#[derive(Debug, Clone, Copy)]
pub struct Learnt<'a> {
    /// The shape.
    pub shape: &'a JobShape,
    /// The trials of a campaign, or none.
    pub trials: &'a [&'a Trial],
    /// Its real failures, oldest first.
    pub failures: &'a [&'a Failure],
    /// When the drift began, if there was one.
    pub drifted_at: Option<Timestamp>,
}

/// Fits both models to what was learnt. Spoilt trials and failures that teach nothing are left out.
pub fn fit_models(learnt: &Learnt<'_>) -> Result<Models, NoModels> {
    let reason = |trial: &&Trial| match &trial.recovery {
        Recovery::Spoilt(why) => Some(why.clone()),
        Recovery::Measured(_) | Recovery::Censored(_) => None,
    };
    let trials: Vec<&Trial> =
        learnt.trials.iter().copied().filter(|trial| reason(trial).is_none()).collect();
    let failures: Vec<&Failure> =
        learnt.failures.iter().copied().filter(|failure| failure.lesson().is_some()).collect();
    if failures.is_empty() && trials.len() < FEWEST {
        let mut spoilt: Vec<String> = learnt.trials.iter().filter_map(reason).collect();
        spoilt.sort();
        spoilt.dedup();
        return Err(NoModels::TooFew {
            usable: trials.len(),
            all: learnt.trials.len(),
            spoilt: spoilt.join("; "),
        });
    }
    let lessons = failures.iter().filter_map(|failure| failure.lesson());
    let usable: Vec<&Trial> = trials.iter().copied().chain(lessons).collect();
    // Trials are run at the highest load, failures come at any.
    let highest = failures.iter().filter_map(|failure| failure.highest.map(EventRate::get));
    let usual = Usual::of_trials(&usable);
    let usual = Usual { top_eps: highest.fold(usual.top_eps, f64::max), ..usual };
    let recovery = RecoveryModel::fit_from(&usual, &usable)?;
    let intervals: BTreeSet<_> = usable.iter().map(|trial| trial.interval).collect();
    Ok(Models {
        recovery,
        // What one interval does to latency says nothing about another.
        latency: if intervals.len() > 1 { LatencyModel::fit(&usable)? } else { None },
        checkpoint_duration: longest(usable.iter().filter_map(|trial| trial.checkpoint_duration)),
        shape: Some(learnt.shape.clone()),
        failures: failures.len() as u32,
        as_predicted: as_predicted(learnt.failures) as u32,
        drifted_at: learnt.drifted_at.filter(|_| trials.is_empty()),
    })
}

#[cfg(test)]
pub(super) mod tests;
