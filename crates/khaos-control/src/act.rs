//! Act: put decisions into force, look back at them, and undo what made things worse.
//!
//! `Decision` → `Outcome`. A decision is in the store before it is acted on; whether it has been is
//! read from the store too, so a restart neither forgets nor repeats a change.

pub mod driver;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use khaos_core::job::{JobKey, JobRun};
use khaos_core::observe::Minute;
use khaos_core::optimize::{Effect, Goals, Judgement, Outcome, Verdict, judge};
use khaos_core::record::{Fact, Kind, Record, RecordId};
use khaos_core::units::{CheckpointInterval, Seconds, Span};

use crate::ReconcileError;
use crate::clock::Clock;
use crate::ports::{Actuator, Generation, Jobs, PortError, Store};

/// How far back a change and the minutes around it are looked for, s, beside the two intervals that
/// have to be seen of it.
const LOOK_BACK_S: f64 = 1_800.0;

/// The reconciler that acts.
#[derive(Clone)]
pub struct Act {
    clock: Clock,
    jobs: Arc<dyn Jobs>,
    actuator: Arc<dyn Actuator>,
    store: Arc<dyn Store>,
    goals: Goals,
    /// Jobs whose interval this life has put into force: an actuator forgets with us.
    engaged: Arc<Mutex<BTreeSet<JobKey>>>,
}

impl std::fmt::Debug for Act {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Act").field("goals", &self.goals).finish_non_exhaustive()
    }
}

impl Act {
    /// Acts through `actuator`.
    pub fn new(
        clock: Clock,
        jobs: Arc<dyn Jobs>,
        actuator: Arc<dyn Actuator>,
        store: Arc<dyn Store>,
        goals: Goals,
    ) -> Self {
        Self { clock, jobs, actuator, store, goals, engaged: Arc::default() }
    }

    /// Takes up what was in force before this life, looks back at the last change, and puts the
    /// latest decision into force if it is not.
    pub async fn reconcile(&self, job: &JobKey) -> Result<(), ReconcileError> {
        self.take_up(job).await?;
        if self.look_back(job).await? {
            // What was decided before that is out of date.
            return Ok(());
        }
        let Some(record) = self.store.latest(job, Kind::Decision).await? else { return Ok(()) };
        let Some(decision) = record.decision() else { return Ok(()) };
        if self.store.children(record.id()).await?.iter().any(|r| r.outcome().is_some()) {
            return Ok(());
        }
        let wanted = match decision.verdict {
            Verdict::Change => true,
            // The interval in force is driven too: left to itself the engine waits from the end of a
            // checkpoint, not from its trigger.
            Verdict::Keep => !self.engaged().contains(job),
            Verdict::Recommend | Verdict::Hold => false,
        };
        let last = self.store.latest(job, Kind::Outcome).await?;
        let in_force = last.as_deref().and_then(Record::outcome).map(|outcome| outcome.to);
        if !wanted || in_force.is_some_and(|interval| interval != decision.from) {
            return Ok(());
        }
        let run = self.jobs.describe(job).await?;
        self.change(job, &run, record.id(), decision.from, decision.interval, None).await
    }

    /// What an earlier life drove is driven again: the store says that it is in force.
    async fn take_up(&self, job: &JobKey) -> Result<(), ReconcileError> {
        if self.engaged().contains(job) {
            return Ok(());
        }
        let Some(record) = self.store.latest(job, Kind::Outcome).await? else { return Ok(()) };
        let Some(outcome) = record.outcome() else { return Ok(()) };
        let run = self.jobs.describe(job).await?;
        self.change(job, &run, record.id(), outcome.to, outcome.to, None).await
    }

    fn engaged(&self) -> MutexGuard<'_, BTreeSet<JobKey>> {
        self.engaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Judges the last change once enough has been seen of it, and undoes it where it did harm;
    /// whether it did. A change that another has followed before that is not judged: what was seen
    /// is not its own.
    async fn look_back(&self, job: &JobKey) -> Result<bool, ReconcileError> {
        let now = self.clock.now();
        let look_back_s = 2.0 * self.goals.bounds.max().seconds() + LOOK_BACK_S;
        let recent = Span { from: now.plus_secs(-look_back_s), to: now.plus_millis(1) };
        let outcomes = self.store.range(job, Kind::Outcome, recent).await?;
        // Neither a refusal nor what was taken up by a new life is a change.
        let change = outcomes.iter().rev().find_map(|record| {
            let changed = |o: &&Outcome| o.effect == Effect::Applied && o.from != o.to;
            record.outcome().filter(changed).map(|outcome| (record, outcome))
        });
        let Some((record, outcome)) = change else { return Ok(false) };
        let judged = |r: &Arc<Record>| {
            // A rollback that was refused will be refused again.
            r.outcome().is_some_and(|o| o.effect != Effect::Applied)
        };
        if self.store.children(record.id()).await?.iter().any(judged) {
            return Ok(false);
        }
        let records = self.store.range(job, Kind::Minute, recent).await?;
        let minutes: Vec<&Minute> = records.iter().filter_map(|r| r.minute()).collect();
        match judge(&minutes, outcome.at, outcome.to, &self.goals) {
            Judgement::Wait => Ok(false),
            Judgement::Keep => {
                let generation = self.generation(job).await?;
                let stalled = self.stalled(job, outcome).await;
                let kept = Outcome { effect: Effect::Kept, generation, stalled, ..outcome.clone() };
                self.append(job, record.id(), kept).await?;
                Ok(false)
            }
            Judgement::RollBack(why) => {
                let run = self.jobs.describe(job).await?;
                self.change(job, &run, record.id(), outcome.to, outcome.from, Some(why)).await?;
                Ok(true)
            }
        }
    }

    /// How long the job stood still for `change`: where it runs since after it. `None` where it did
    /// not, or does not answer.
    async fn stalled(&self, job: &JobKey, change: &Outcome) -> Option<Seconds> {
        let back_at = self.jobs.describe(job).await.ok()?.running_since?;
        let stalled_s = back_at.secs_since(change.at);
        Seconds::new(stalled_s).ok().filter(|_| stalled_s > 0.0)
    }

    /// The number of the last change, 0 before the first.
    async fn generation(&self, job: &JobKey) -> Result<Generation, ReconcileError> {
        let last = self.store.latest(job, Kind::Outcome).await?;
        Ok(last.as_deref().and_then(Record::outcome).map_or(0, |outcome| outcome.generation))
    }

    async fn change(
        &self,
        job: &JobKey,
        run: &JobRun,
        because: &RecordId,
        from: CheckpointInterval,
        to: CheckpointInterval,
        rolls_back: Option<String>,
    ) -> Result<(), ReconcileError> {
        let generation = self.generation(job).await? + 1;
        // A redeploy takes its time, and the job stands still from its beginning on.
        let at = self.clock.now();
        let applied = self.actuator.apply(run, to, generation).await;
        if let Err(error @ PortError::Unavailable(_)) = applied {
            // Nobody said no: it is tried again.
            return Err(error.into());
        }
        let effect = match (&applied, rolls_back) {
            (Ok(()), None) => Effect::Applied,
            (Ok(()), Some(why)) => Effect::RolledBack(why),
            (Err(error), _) => Effect::Refused(error.to_string()),
        };
        self.engaged().insert(job.clone());
        // What was refused leaves the interval as it was.
        let to = if applied.is_ok() { to } else { from };
        let outcome = Outcome { at, from, to, generation, effect, stalled: None };
        self.append(job, because, outcome).await
    }

    async fn append(
        &self,
        job: &JobKey,
        parent: &RecordId,
        outcome: Outcome,
    ) -> Result<(), ReconcileError> {
        let fact = Fact::Outcome(outcome);
        self.store.append(Record::new(job, self.clock.now(), vec![parent.clone()], fact)).await?;
        Ok(())
    }
}
