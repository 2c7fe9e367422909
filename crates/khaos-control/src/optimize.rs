//! Optimize: fit models to a finished campaign and to real failures, and decide every minute.
//!
//! `Design` + `Trial`* + `Failure`* → `Models`; `Minute`* + `Models` → `Decision`. Models belong to a
//! job and its shape: those of another shape are left where they are, and serve again when it returns.

use std::sync::{Arc, Mutex, PoisonError};

use khaos_core::job::{JobKey, JobRun, JobShape};
use khaos_core::observe::Minute;
use khaos_core::optimize::{
    ChangeCost, Decision, Effect, Goals, Learnt, Predictors, Reason, Situation, decide, fit_models,
    last_drift,
};
use khaos_core::profile::{Failure, Trial};
use khaos_core::record::{Fact, Kind, Record, RecordId};
use khaos_core::units::{Span, Timestamp};

use crate::ReconcileError;
use crate::clock::Clock;
use crate::ports::{Jobs, PortError, Store};
use crate::profile::complete;

/// How far a decision looks back, s: a forecast knows a day's season from the second day on, and the
/// load's height, to which priors are scaled, comes once a day.
const LOOK_BACK_S: f64 = 3.0 * 86_400.0;
/// For how long it is remembered what a redeploy cost, s: a week.
const REMEMBERED_S: f64 = 7.0 * 86_400.0;

/// Models made ready to predict, and which.
#[derive(Clone)]
struct Ready {
    models: RecordId,
    predictors: Arc<Predictors>,
}

/// What a change of the interval is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Changing {
    /// Checkpoints between the job's own.
    Drives,
    /// Another interval of its own.
    Sets,
    /// The same, and the job stands still for it.
    Redeploys,
}

/// The reconciler of the optimize phase.
#[derive(Clone)]
pub struct Optimize {
    clock: Clock,
    jobs: Arc<dyn Jobs>,
    store: Arc<dyn Store>,
    goals: Goals,
    changing: Changing,
    /// Predictors of the newest models: a cache, nothing more.
    ready: Arc<Mutex<Option<Ready>>>,
}

impl std::fmt::Debug for Optimize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Optimize").field("goals", &self.goals).finish_non_exhaustive()
    }
}

impl Optimize {
    /// Decides by `goals`, for a job that is driven.
    pub fn new(clock: Clock, jobs: Arc<dyn Jobs>, store: Arc<dyn Store>, goals: Goals) -> Self {
        Self { clock, jobs, store, goals, changing: Changing::Drives, ready: Arc::default() }
    }

    /// The same where a change of the interval sets the job's own while it runs: what it is at the
    /// moment bounds nothing.
    #[must_use]
    pub fn setting(self) -> Self {
        Self { changing: Changing::Sets, ..self }
    }

    /// The same where a change of the interval is a redeploy, which has to repay itself.
    #[must_use]
    pub fn redeploying(self) -> Self {
        Self { changing: Changing::Redeploys, ..self }
    }

    /// Fits models to what was learnt of the job in its present shape since it last drifted: to the
    /// latest design of which all trials are there, and to real failures. Does nothing where that is
    /// what the latest models rest on.
    pub async fn fit(&self, job: &JobKey) -> Result<(), ReconcileError> {
        let shape = self.jobs.describe(job).await?.shape;
        let records = self.store.range(job, Kind::Failure, Span::EVER).await?;
        let of_shape = |record: &&Arc<Record>| record.failure().is_some_and(|f| f.shape == shape);
        let records: Vec<&Arc<Record>> = records.iter().filter(of_shape).collect();
        let failures: Vec<&Failure> =
            records.iter().filter_map(|record| record.failure()).collect();
        let drift = last_drift(&failures);
        let drifted_at = drift.map(|began| failures[began].noticed_at);
        let (records, failures) = (&records[drift.unwrap_or(0)..], &failures[drift.unwrap_or(0)..]);
        let trials = self.trials(job, &shape, drifted_at).await?;

        let lessons = records.iter().filter(|r| r.failure().is_some_and(|f| f.lesson().is_some()));
        let rests_on: Vec<&Arc<Record>> = trials.iter().chain(lessons.copied()).collect();
        let parents: Vec<RecordId> = rests_on.iter().map(|record| record.id().clone()).collect();
        let latest = models_of(self.store.as_ref(), job, &shape).await?;
        if parents.is_empty() || latest.is_some_and(|models| models.parents() == parents) {
            return Ok(());
        }
        for record in &rests_on {
            record.verify()?;
        }
        let trials: Vec<&Trial> = trials.iter().filter_map(|record| record.trial()).collect();
        let learnt = Learnt { shape: &shape, trials: &trials, failures, drifted_at };
        let models = Fact::Models(fit_models(&learnt)?);
        self.store.append(Record::new(job, self.clock.now(), parents, models)).await?;
        Ok(())
    }

    /// The trials of the latest campaign for `shape`: of the latest designs of which all are there,
    /// back to the one that the others add to; none where they were made before `drifted_at`.
    async fn trials(
        &self,
        job: &JobKey,
        shape: &JobShape,
        drifted_at: Option<Timestamp>,
    ) -> Result<Vec<Arc<Record>>, ReconcileError> {
        let since = Span { from: drifted_at.unwrap_or(Span::EVER.from), ..Span::EVER };
        let mut campaign: Vec<Arc<Record>> = Vec::new();
        for designed in self.store.range(job, Kind::Design, since).await?.iter().rev() {
            let Some(design) = designed.design() else { continue };
            if design.shape.as_ref().is_some_and(|of| of != shape) {
                continue;
            }
            let children = self.store.children(designed.id()).await?;
            // What adds to others counts as far as it has come: it may never be completed.
            let ids: Vec<&RecordId> = match complete(design, &children) {
                Some(trials) => trials.into_iter().map(|(id, _)| id).collect(),
                None if design.further => {
                    children.iter().filter(|r| r.trial().is_some()).map(|r| r.id()).collect()
                }
                None => continue,
            };
            let record = |id| children.iter().find(|record| record.id() == id).cloned();
            let trials: Vec<Arc<Record>> = ids.into_iter().filter_map(record).collect();
            campaign.splice(0..0, trials);
            if !design.further {
                break;
            }
        }
        Ok(campaign)
    }

    /// Decides, once for every minute that was observed.
    pub async fn decide(&self, job: &JobKey) -> Result<(), ReconcileError> {
        self.conclude(job, true).await
    }

    /// As [`Self::decide`], for a job that nobody may drive: the engine's own interval is in force,
    /// and what is decided stays a recommendation.
    pub async fn recommend(&self, job: &JobKey) -> Result<(), ReconcileError> {
        self.conclude(job, false).await
    }

    async fn conclude(&self, job: &JobKey, drives: bool) -> Result<(), ReconcileError> {
        let now = self.clock.now();
        let Some(minute) = self.store.latest(job, Kind::Minute).await? else { return Ok(()) };
        if self.store.children(minute.id()).await?.iter().any(|r| r.decision().is_some()) {
            return Ok(());
        }
        let run = self.jobs.describe(job).await.ok();
        let models = match &run {
            Some(run) => models_of(self.store.as_ref(), job, &run.shape).await?,
            None => None,
        };
        let predictors =
            models.as_deref().map(|record| self.predictors(record)).transpose()?.flatten();
        let earned = predictors.as_ref().is_some_and(|predictors| predictors.earned());
        let another_shape = !earned && self.knows_another_shape(job, run.as_ref()).await?;
        let span = Span { from: now.plus_secs(-LOOK_BACK_S), to: now.plus_millis(1) };
        let records = self.store.range(job, Kind::Minute, span).await?;
        let minutes: Vec<&Minute> = records.iter().filter_map(|record| record.minute()).collect();
        // What an earlier life put into force is in force no more when nobody drives.
        let last = if drives { self.store.latest(job, Kind::Outcome).await? } else { None };
        let last = last.as_deref().and_then(Record::outcome);
        let in_force = match (last, &run) {
            (Some(outcome), _) => outcome.to,
            (None, Some(run)) => run.checkpointing.interval,
            (None, None) => self.goals.bounds.max(),
        };
        let outcomes = self.store.range(job, Kind::Outcome, span).await?;
        // What a new life took up is no change.
        let changed = outcomes.iter().rev().filter_map(|r| r.outcome()).find(|o| o.from != o.to);
        let rolled_back = changed.filter(|o| matches!(o.effect, Effect::RolledBack(_)));
        let situation = Situation {
            now,
            run: run.as_ref(),
            in_force,
            minutes: &minutes,
            changed_at: changed.map(|outcome| outcome.at),
            rolled_back_at: rolled_back.map(|outcome| outcome.at),
            another_shape,
            change: self.change_cost(job, now).await?,
        };
        let decision = decide(&situation, &self.goals, predictors.as_deref());
        let decision =
            if drives { decision } else { Decision::only_recommended(decision, Reason::NotAsked) };
        let parents = [Some(&minute), models.as_ref()].into_iter().flatten();
        let parents = parents.map(|record| record.id().clone()).collect();
        self.store.append(Record::new(job, now, parents, Fact::Decision(decision))).await?;
        Ok(())
    }

    /// What a change costs, as measured the last time.
    async fn change_cost(
        &self,
        job: &JobKey,
        now: Timestamp,
    ) -> Result<ChangeCost, ReconcileError> {
        match self.changing {
            Changing::Drives => return Ok(ChangeCost::Driven),
            Changing::Sets => return Ok(ChangeCost::Set),
            Changing::Redeploys => {}
        }
        let lately = Span { from: now.plus_secs(-REMEMBERED_S), to: now.plus_millis(1) };
        let outcomes = self.store.range(job, Kind::Outcome, lately).await?;
        let last = outcomes.iter().rev().find_map(|record| record.outcome()?.stalled);
        Ok(ChangeCost::Redeployed { stall: last })
    }

    /// Whether models of another shape of the job than that of `run` had earned to be acted on.
    async fn knows_another_shape(
        &self,
        job: &JobKey,
        run: Option<&JobRun>,
    ) -> Result<bool, ReconcileError> {
        let all = self.store.range(job, Kind::Models, Span::EVER).await?;
        let earned = all.iter().filter_map(|record| record.models()).filter(|m| m.earned());
        let shapes = earned.filter_map(|models| models.shape.as_ref());
        Ok(run.is_some_and(|run| shapes.into_iter().any(|shape| *shape != run.shape)))
    }

    fn predictors(&self, record: &Record) -> Result<Option<Arc<Predictors>>, ReconcileError> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Ready { models, predictors }) = &*ready
            && models == record.id()
        {
            return Ok(Some(Arc::clone(predictors)));
        }
        record.verify()?;
        let Some(models) = record.models() else { return Ok(None) };
        let predictors = Predictors::of(models).map_err(khaos_core::optimize::NoModels::from)?;
        let predictors = Arc::new(predictors);
        *ready = Some(Ready { models: record.id().clone(), predictors: Arc::clone(&predictors) });
        Ok(Some(predictors))
    }
}

/// The latest models of `job` in `shape`.
pub(crate) async fn models_of(
    store: &dyn Store,
    job: &JobKey,
    shape: &JobShape,
) -> Result<Option<Arc<Record>>, PortError> {
    let all = store.range(job, Kind::Models, Span::EVER).await?;
    let of_shape =
        |record: &Record| record.models().is_some_and(|m| m.shape.as_ref() == Some(shape));
    Ok(all.into_iter().rfind(|record| of_shape(record)))
}
