//! Profile: run the trials of a design on clones.
//!
//! `Observation` → `Design` → `Trial`*, and `Models` → `Design` → `Trial` for as long as another is worth
//! it. The reconciler sweeps what an earlier life left, runs the trials that have no record yet, as many
//! at once as the budget allows, and appends each result as it arrives. Interrupted anywhere, it goes on from there and ends with the same records.

mod experiment;
mod subject;

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use khaos_core::job::JobKey;
use khaos_core::observe::{Observation, StretchShape};
use khaos_core::profile::{Design, IntervalBounds, PlannedTrial, Recovery, Trial, design, further};
use khaos_core::record::{Fact, Kind, Record, RecordId};
use khaos_core::units::{CheckpointInterval, Seconds, Span};
use thiserror::Error;

pub use self::subject::{Spoilt, Subject};
use crate::ReconcileError;
use crate::clock::Clock;
use crate::ports::{Checkpoints, Clones, FaultInjector, Jobs, Metrics, Store, WorkloadLog};

/// Beside two intervals, what the worst moment may keep a trial waiting, s.
const AIM_S: f64 = 60.0;

/// How long a trial is given.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Patience {
    /// From the start of a replay to the failure, beside one interval: enough for a clone to start and
    /// show a steady state.
    pub lead: Seconds,
    /// The longest recovery that is waited for.
    pub recovery: Seconds,
}

impl Default for Patience {
    /// Ten minutes, and half an hour.
    fn default() -> Self {
        let seconds = |s| Seconds::new(s).expect("a length of time");
        Self { lead: seconds(600.0), recovery: seconds(1_800.0) }
    }
}

impl Patience {
    /// The stretch that a trial replays at intervals up to `longest`, if all takes as long as it may.
    pub fn stretch(&self, longest: CheckpointInterval) -> StretchShape {
        let interval = longest.seconds();
        StretchShape {
            lead_s: self.lead.get() + interval,
            hold_s: 2.0 * interval + AIM_S + self.recovery.get(),
        }
    }
}

/// What a campaign may cost. Hard: a trial that might exceed it is not started.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CloneBudget {
    /// Clones at once.
    pub at_once: u32,
    /// Minutes of all clones together, counting each trial with the longest it may take.
    pub clone_minutes: f64,
}

impl CloneBudget {
    /// How many trials it allows at intervals up to the largest of `bounds`, each counted with the longest it may
    /// take.
    pub fn trials(
        self,
        patience: Patience,
        bounds: IntervalBounds,
    ) -> Result<usize, BudgetTooSmall> {
        let StretchShape { lead_s, hold_s } = patience.stretch(bounds.max());
        let trial_minutes = (lead_s + hold_s) / 60.0;
        let Self { at_once, clone_minutes } = self;
        let trials = (clone_minutes / trial_minutes).floor();
        if trials < 1.0 || at_once == 0 {
            return Err(BudgetTooSmall { clone_minutes, at_once, trial_minutes });
        }
        Ok(trials as usize)
    }
}

/// A budget that does not allow a single trial.
#[derive(Debug, Clone, PartialEq, Error)]
#[error(
    "the budget of {clone_minutes:.0} clone-minutes, {at_once} at once, allows no trial: one may \
     take {trial_minutes:.0} minutes; raise the budget"
)]
pub struct BudgetTooSmall {
    clone_minutes: f64,
    at_once: u32,
    trial_minutes: f64,
}

/// The reconciler of the profile phase.
#[derive(Clone)]
pub struct Profile {
    /// Time.
    pub clock: Clock,
    /// What runs.
    pub jobs: Arc<dyn Jobs>,
    /// Readings.
    pub metrics: Arc<dyn Metrics>,
    /// Checkpoints.
    pub checkpoints: Arc<dyn Checkpoints>,
    /// Clones.
    pub clones: Clones,
    /// The recorded workload.
    pub log: Arc<dyn WorkloadLog>,
    /// Faults.
    pub injector: Arc<dyn FaultInjector>,
    /// Records.
    pub store: Arc<dyn Store>,
    /// The intervals that the job may be given.
    pub bounds: IntervalBounds,
    /// The recovery objective: where it decides, further trials teach most.
    pub objective: Option<Seconds>,
    /// What the campaign may cost.
    pub budget: CloneBudget,
    /// How long each trial is given.
    pub patience: Patience,
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profile").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

impl Profile {
    /// Runs the campaign that follows from the latest observation, as far as it has not run yet.
    /// Without an observation there is nothing to do but to sweep.
    pub async fn reconcile(&self, job: &JobKey) -> Result<(), ReconcileError> {
        self.clones.sweep(job).await?;
        let Some(observed) = self.store.latest(job, Kind::Observation).await? else {
            return Ok(());
        };
        observed.verify()?;
        let Some(observation) = observed.observation() else { return Ok(()) };
        self.run(job, observed.id(), design(observation, self.bounds)).await?;
        match self.further(job, observation).await? {
            Some((models, plan)) => self.run(job, models.id(), plan).await,
            None => Ok(()),
        }
    }

    /// Runs once more what said nothing of the latest campaign, as far as the budget allows: somebody has mended
    /// what spoilt it. Spoilt again it stays, until this is called again.
    pub async fn again(&self, job: &JobKey) -> Result<(), ReconcileError> {
        let mut latest = None;
        let mut trials: Vec<(PlannedTrial, bool)> = Vec::new();
        for designed in self.store.range(job, Kind::Design, Span::EVER).await? {
            let Some(design) = designed.design() else { continue };
            if !design.further {
                trials.clear();
            }
            for record in self.store.children(designed.id()).await? {
                let Some(trial) = record.trial() else { continue };
                let Some(planned) = design.trials.get(trial.index as usize) else { continue };
                let spoilt = matches!(trial.recovery, Recovery::Spoilt(_));
                trials.retain(|(other, _)| other != planned);
                trials.push((*planned, spoilt));
            }
            latest = Some((designed.id().clone(), design.shape.clone()));
        }
        let spoilt: Vec<PlannedTrial> =
            trials.into_iter().filter_map(|(planned, spoilt)| spoilt.then_some(planned)).collect();
        match latest {
            Some((parent, shape)) if !spoilt.is_empty() => {
                self.run(job, &parent, Design { trials: spoilt, shape, further: true }).await
            }
            _ => Ok(()),
        }
    }

    /// The trial that the models ask for after those that they rest on, if there is one that is worth
    /// it and the budget allows another. While a trial has not been learnt from, there is none.
    async fn further(
        &self,
        job: &JobKey,
        observation: &Observation,
    ) -> Result<Option<(Arc<Record>, Design)>, ReconcileError> {
        let Some(record) = self.store.latest(job, Kind::Models).await? else { return Ok(None) };
        let Some(models) = record.models() else { return Ok(None) };
        let designs = self.store.range(job, Kind::Design, Span::EVER).await?;
        let mut run = 0;
        for designed in designs.iter().rev() {
            for trial in &self.store.children(designed.id()).await? {
                if trial.trial().is_some() && !record.parents().contains(trial.id()) {
                    return Ok(None);
                }
                run += usize::from(trial.trial().is_some());
            }
            if designed.design().is_some_and(|design| !design.further) {
                break;
            }
        }
        if run >= self.budget.trials(self.patience, self.bounds)? {
            return Ok(None);
        }
        let planned = further(&models.recovery, observation, self.bounds, self.objective);
        let design = |planned| Design {
            trials: vec![planned],
            shape: observation.shape.clone(),
            further: true,
        };
        Ok(planned.map(|planned| (record, design(planned))))
    }

    /// Runs the campaign of `plan`, which follows from the record `parent`, as far as it has not run
    /// yet and the budget allows.
    pub async fn run(
        &self,
        job: &JobKey,
        parent: &RecordId,
        mut plan: Design,
    ) -> Result<(), ReconcileError> {
        self.clones.sweep(job).await?;
        plan.trials.truncate(self.budget.trials(self.patience, self.bounds)?);
        let designed = self.append(job, parent, Fact::Design(plan.clone())).await?;
        let done = self.done(designed.id()).await?;
        let missing = (0_u32..)
            .zip(&plan.trials)
            .filter(|(index, _)| !done.contains(index))
            .map(|(index, planned)| self.trial(job, designed.id(), index, planned));
        stream::iter(missing)
            .buffer_unordered(self.budget.at_once as usize)
            .try_for_each(|()| async { Ok(()) })
            .await
    }

    async fn done(&self, design: &RecordId) -> Result<Vec<u32>, ReconcileError> {
        let children = self.store.children(design).await?;
        Ok(children.iter().filter_map(|record| record.trial().map(|t| t.index)).collect())
    }

    async fn append(
        &self,
        job: &JobKey,
        parent: &RecordId,
        fact: Fact,
    ) -> Result<Arc<Record>, ReconcileError> {
        let record = Record::new(job, self.clock.now(), vec![parent.clone()], fact);
        Ok(self.store.append(record).await?)
    }
}

/// The trials of `design` among `records`, in the order of the design; `None` while some are
/// missing.
pub fn complete<'a>(
    design: &Design,
    records: &'a [Arc<Record>],
) -> Option<Vec<(&'a RecordId, &'a Trial)>> {
    (0_u32..)
        .zip(&design.trials)
        .map(|(index, _): (u32, &PlannedTrial)| {
            records.iter().find_map(|r| r.trial().filter(|t| t.index == index).map(|t| (r.id(), t)))
        })
        .collect()
}
