//! Optimize: fit models to a finished campaign, and decide every minute.
//!
//! `Design` + `Trial`* → `Models`; `Minute`* + `Models` → `Decision`.

use std::sync::{Arc, Mutex, PoisonError};

use khaos_core::job::JobKey;
use khaos_core::observe::Minute;
use khaos_core::optimize::{
    Decision, Effect, Goals, Predictors, Reason, Situation, decide, fit_models,
};
use khaos_core::profile::Trial;
use khaos_core::record::{Fact, Kind, Record, RecordId};
use khaos_core::units::Span;

use crate::ReconcileError;
use crate::clock::Clock;
use crate::ports::{Jobs, Store};
use crate::profile::complete;

/// Minutes that a decision looks back: enough to calibrate its forecast.
const LOOK_BACK_S: f64 = 240.0 * 60.0;
/// Where no trial was run it looks back a day instead: the load's height, to which the priors are
/// scaled, comes once a day.
const LOOK_BACK_WITHOUT_TRIALS_S: f64 = 86_400.0;

/// Models made ready to predict, and which.
#[derive(Clone)]
struct Ready {
    models: RecordId,
    predictors: Arc<Predictors>,
}

/// The reconciler of the optimize phase.
#[derive(Clone)]
pub struct Optimize {
    clock: Clock,
    jobs: Arc<dyn Jobs>,
    store: Arc<dyn Store>,
    goals: Goals,
    /// Predictors of the newest models: a cache, nothing more.
    ready: Arc<Mutex<Option<Ready>>>,
}

impl std::fmt::Debug for Optimize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Optimize").field("goals", &self.goals).finish_non_exhaustive()
    }
}

impl Optimize {
    /// Decides by `goals`.
    pub fn new(clock: Clock, jobs: Arc<dyn Jobs>, store: Arc<dyn Store>, goals: Goals) -> Self {
        Self { clock, jobs, store, goals, ready: Arc::default() }
    }

    /// Fits models to the latest design, once all of its trials are there.
    pub async fn fit(&self, job: &JobKey) -> Result<(), ReconcileError> {
        let Some(designed) = self.store.latest(job, Kind::Design).await? else { return Ok(()) };
        let Some(design) = designed.design() else { return Ok(()) };
        let children = self.store.children(designed.id()).await?;
        let Some(trials) = complete(design, &children) else { return Ok(()) };
        for record in &children {
            record.verify()?;
        }
        let (ids, bodies): (Vec<&RecordId>, Vec<&Trial>) = trials.into_iter().unzip();
        let models = fit_models(&bodies)?;
        let parents = ids.into_iter().cloned().collect();
        self.store
            .append(Record::new(job, self.clock.now(), parents, Fact::Models(models)))
            .await?;
        Ok(())
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
        let models = self.store.latest(job, Kind::Models).await?;
        let predictors =
            models.as_deref().map(|record| self.predictors(record)).transpose()?.flatten();
        let look_back_s =
            if predictors.is_some() { LOOK_BACK_S } else { LOOK_BACK_WITHOUT_TRIALS_S };
        let span = Span { from: now.plus_secs(-look_back_s), to: now.plus_millis(1) };
        let records = self.store.range(job, Kind::Minute, span).await?;
        let minutes: Vec<&Minute> = records.iter().filter_map(|record| record.minute()).collect();
        let run = self.jobs.describe(job).await.ok();
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
        };
        let decision = decide(&situation, &self.goals, predictors.as_deref());
        let decision =
            if drives { decision } else { Decision::only_recommended(decision, Reason::NotAsked) };
        let parents = [Some(&minute), models.as_ref()].into_iter().flatten();
        let parents = parents.map(|record| record.id().clone()).collect();
        self.store.append(Record::new(job, now, parents, Fact::Decision(decision))).await?;
        Ok(())
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
