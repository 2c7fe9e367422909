//! Models fitted to the trials of one campaign.

use khaos_stats::FitError;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::observe::Minute;
use crate::optimize::{LatencyModel, RecoveryModel};
use crate::profile::{Recovery, Trial};
use crate::units::{EventRate, Seconds};

/// Trials with a measured recovery below which there is no model.
const FEWEST: usize = 2;

/// Models of recovery and latency over (CI, λ).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Models {
    /// Recovery time.
    pub recovery: RecoveryModel,
    /// Latency; `None` when the trials did not measure it.
    pub latency: Option<LatencyModel>,
    /// The longest p99 of checkpoint durations in a trial, or in a minute where there was none;
    /// `None` when none was measured.
    pub checkpoint_duration: Option<Seconds>,
}

impl Models {
    /// Whether they rest on trials of this very job rather than on priors alone.
    pub fn earned(&self) -> bool {
        self.recovery.trials > 0
    }

    /// What can be said of a job of which no trial was run: priors, scaled to the highest arrival
    /// rate within `minutes`, and its own checkpoint statistics. Nothing is said of latency: what
    /// one interval does to it says nothing about another. `None` when no arrival rate is known.
    pub fn of_priors(minutes: &[&Minute]) -> Option<Self> {
        let highest = highest_load(minutes)?;
        let durations = minutes.iter().filter_map(|m| m.checkpoint_duration.known());
        let checkpoint_duration = longest(durations);
        Some(Self {
            recovery: RecoveryModel::of_priors(highest, checkpoint_duration).ok()?,
            latency: None,
            checkpoint_duration,
        })
    }
}

/// The highest arrival rate within `minutes`; `None` when none is known.
pub(super) fn highest_load(minutes: &[&Minute]) -> Option<EventRate> {
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

/// Fits both models to `trials`. Spoilt trials are left out.
pub fn fit_models(trials: &[&Trial]) -> Result<Models, NoModels> {
    let reason = |trial: &&Trial| match &trial.recovery {
        Recovery::Spoilt(why) => Some(why.clone()),
        Recovery::Measured(_) | Recovery::Censored(_) => None,
    };
    let usable: Vec<&Trial> = trials.iter().copied().filter(|t| reason(t).is_none()).collect();
    if usable.len() < FEWEST {
        let mut spoilt: Vec<String> = trials.iter().filter_map(reason).collect();
        spoilt.sort();
        spoilt.dedup();
        return Err(NoModels::TooFew {
            usable: usable.len(),
            all: trials.len(),
            spoilt: spoilt.join("; "),
        });
    }
    let durations = usable.iter().filter_map(|trial| trial.checkpoint_duration);
    Ok(Models {
        recovery: RecoveryModel::fit(&usable)?,
        latency: LatencyModel::fit(&usable)?,
        checkpoint_duration: longest(durations),
    })
}
