//! Learn: a real failure of the job is a trial that nobody planned.
//!
//! `Minute`* → `Failure`. What is seen of a failure is what the observe phase sees, through the same
//! ports. It is recorded once, as soon as it is over, whoever lived when it struck: all that has to
//! be known of it is in the engine, in the metrics and in the minutes. Whether it came out as
//! predicted is said of it there and then; what follows from that is for optimize to say.

use std::sync::Arc;

use khaos_core::job::{JobKey, JobRun};
use khaos_core::observe::Minute;
use khaos_core::optimize::{Models, NoModels, Predictors, highest_load};
use khaos_core::profile::failure::{
    Aftermath, BEFORE_S, DEADLINE_S, Failure, Measured, Noticed, measure, noticed,
};
use khaos_core::profile::moment::Moment;
use khaos_core::record::{Fact, Kind, Record};
use khaos_core::units::{CheckpointInterval, Span, Timestamp};

use crate::ReconcileError;
use crate::observe::Observe;
use crate::optimize::models_of;
use crate::ports::PortError;

/// How far back failures are looked for, s: longer than the longest recovery that is waited for.
const LOOK_BACK_S: f64 = 2.0 * DEADLINE_S;
/// The time before a failure in which the load is at its highest once, s.
const DAY_S: f64 = 86_400.0;

/// Records the failures of `job` that are over, as `observe` sees them, and are not recorded yet.
/// Never waits: one that is not over is looked at again. `drives` says whether the last change of the
/// interval is in force.
pub async fn failures(observe: &Observe, job: &JobKey, drives: bool) -> Result<(), ReconcileError> {
    let now = observe.clock.now();
    let lately = Span { from: now.plus_secs(-LOOK_BACK_S), to: now.plus_millis(1) };
    let run = observe.jobs.describe(job).await?;
    let minutes = observe.store.range(job, Kind::Minute, lately).await?;
    let minutes: Vec<&Minute> = minutes.iter().filter_map(|record| record.minute()).collect();
    let known = observe.store.range(job, Kind::Failure, lately).await?;
    let is_known = |failure: &Noticed| {
        let mut known = known.iter().filter_map(|record| record.failure());
        known.any(|k| k.engine_id == failure.engine_id && k.attempt == failure.attempt)
    };
    let mut seen = noticed(&minutes);
    seen.extend(before_anybody_looked(&run, lately).filter(|failure| {
        !seen.iter().any(|s| s.engine_id == failure.engine_id && s.attempt == failure.attempt)
    }));
    for failure in seen.into_iter().filter(|failure| !is_known(failure)) {
        let present = run.engine_id == failure.engine_id && run.attempt == failure.attempt + 1;
        let over = if present {
            aftermath(observe, job, &run, drives).await?
        } else if run.engine_id == failure.engine_id {
            Some(interrupted("another failure came before its end was seen"))
        } else {
            Some(interrupted("the job was deployed anew before its end was seen"))
        };
        if let Some((moment, measured)) = over {
            record(observe, &run, failure, moment, measured).await?;
        }
    }
    Ok(())
}

/// The failure that ended the attempt before the present one, where that was lately: Khaos may have
/// come after it.
fn before_anybody_looked(run: &JobRun, lately: Span) -> Option<Noticed> {
    let attempt = run.attempt.checked_sub(1)?;
    let at = run.running_since.filter(|back_at| lately.contains(*back_at))?;
    let (engine_id, shape) = (run.engine_id.clone(), run.shape.clone());
    Some(Noticed { engine_id, attempt, shape, at })
}

/// When a failure struck, where that is known, and what it showed.
type Over = (Option<Moment>, Measured);

/// Nothing more will be seen of it.
fn interrupted(why: &str) -> Over {
    (None, Measured::Nothing(why.to_owned()))
}

/// What the failure showed that made the present attempt of `run`; `None` while it is not over.
async fn aftermath(
    observe: &Observe,
    job: &JobKey,
    run: &JobRun,
    drives: bool,
) -> Result<Option<Over>, ReconcileError> {
    let Some(back_at) = run.running_since else { return Ok(None) };
    let now = observe.clock.now();
    let span = Span { from: back_at.plus_secs(-BEFORE_S), to: now.plus_millis(1) };
    let answers = async {
        let readings = observe.metrics.readings(&run.engine_id, span).await?;
        Ok::<_, PortError>((readings, observe.checkpoints.history(&run.engine_id).await?))
    };
    let (readings, history) = match answers.await {
        Err(error) if now.secs_since(back_at) >= DEADLINE_S => {
            return Ok(Some(interrupted(&error.to_string())));
        }
        answers => answers?,
    };
    let interval = in_force(observe, job, run, back_at, drives).await?;
    let (readings, history) = (&readings, &history);
    Ok(measure(&Aftermath { interval, run, back_at, readings, history, now }))
}

/// The interval in force at `at`: what was put into force last by those who drive, and what the
/// engine keeps to by itself otherwise.
async fn in_force(
    observe: &Observe,
    job: &JobKey,
    run: &JobRun,
    at: Timestamp,
    drives: bool,
) -> Result<CheckpointInterval, ReconcileError> {
    let own = run.checkpointing.interval;
    if !drives {
        return Ok(own);
    }
    let before = Span { from: Timestamp(i64::MIN), to: at };
    let outcomes = observe.store.range(job, Kind::Outcome, before).await?;
    let last = outcomes.iter().rev().find_map(|record| record.outcome());
    Ok(last.map_or(own, |outcome| outcome.to.min(own)))
}

/// Appends the failure beside what the models of its shape make of it, or priors where there are none.
async fn record(
    observe: &Observe,
    run: &JobRun,
    failure: Noticed,
    moment: Option<Moment>,
    measured: Measured,
) -> Result<(), ReconcileError> {
    let job = &run.key;
    let day = Span { from: failure.at.plus_secs(-DAY_S), to: failure.at.plus_millis(1) };
    let minutes = observe.store.range(job, Kind::Minute, day).await?;
    let bodies: Vec<&Minute> = minutes.iter().filter_map(|record| record.minute()).collect();
    let models = models_of(observe.store.as_ref(), job, &failure.shape).await?;
    let of_priors = || Models::of_priors(&bodies, run.expected_dead_time);
    let of_priors = if models.is_none() { of_priors() } else { None };
    let body = models.as_deref().and_then(Record::models).or(of_priors.as_ref());
    let predictors = body.map(Predictors::of).transpose().map_err(NoModels::from)?;
    let predicted = match &measured {
        Measured::Trial(trial) => predictors.and_then(|predictors| predictors.hindsight(trial)),
        Measured::Nothing(_) => None,
    };
    let Noticed { engine_id, attempt, shape, at: noticed_at } = failure;
    let fact = Fact::Failure(Failure {
        engine_id,
        attempt,
        shape,
        noticed_at,
        failed_at: moment.map(|moment| moment.at),
        highest: highest_load(&bodies),
        measured,
        predicted,
    });
    let follows_from = [minutes.last(), models.as_ref()].into_iter().flatten();
    let parents = follows_from.map(|record: &Arc<Record>| record.id().clone()).collect();
    observe.store.append(Record::new(job, observe.clock.now(), parents, fact)).await?;
    Ok(())
}
