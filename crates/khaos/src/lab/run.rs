//! `khaos lab run`: the three phases on a real Flink, in about twelve minutes.
//!
//! [`course`] (what arrives, and when failures strike) → [`cluster`] (Flink, with copies of one job on it)
//! → observe and profile, as ever → [`contest`] (an afternoon under three policies, side by side) →
//! [`twin`] (the same on the embedded engine) → [`result`].
//!
//! The lab's clock runs twelve times as fast as the wall's, so that an hour of the lab passes in five
//! minutes under the very code that runs in production. Every time, rate and length that is told is of
//! that clock.

mod cluster;
mod contest;
mod course;
mod result;
mod twin;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use khaos_adapters::lab::{FlinkVersion, Lab, LabConfig, LabError};
use khaos_control::observe::{GRACE_MS, Observe};
use khaos_control::optimize::Optimize;
use khaos_control::ports::Clones;
use khaos_control::profile::{CloneBudget, Patience, Profile};
use khaos_control::tuner::{Mode, Tuner};
use khaos_core::optimize::{Confidence, Goals, Models, Objectives};
use khaos_core::profile::{IntervalBounds, Trial};
use khaos_core::record::Record;
use khaos_core::units::{CheckpointInterval, Millis, Seconds, Span, Timestamp};
use khaos_twin::{MemoryStore, World};

use self::cluster::{CLONES, Cluster};
use self::contest::{Ran, Ring};
use self::course::{Contest, PERIOD_MIN, SPEED};
use self::result::{Judge, LabResult, of_job};
use super::asked_to_stop;
use crate::output::{folder, keep, say};
use crate::progress::Steps;
use crate::report::keep_records;
use crate::simulate::Policy;
use crate::simulate::watched::Watched;
use crate::table::policies;

/// What the lab's owners want: a recovery within five minutes of the lab's, s.
const RECOVERY_S: f64 = 300.0;
/// And a p99 latency below this, ms of the lab's.
const LATENCY_MS: f64 = 2_000.0;
/// The smallest interval, s, and the one that the job has of itself.
const SMALLEST_S: u32 = 12;
const FALLBACK_S: u32 = 120;
/// The interval that somebody guessed, s.
const GUESS_S: u32 = 60;
/// Trials.
const TRIALS: u32 = 6;
/// How long a trial has to become steady, and to recover, s: a lab's day is short.
const PATIENCE_S: (f64, f64) = (400.0, 600.0);
/// Minutes from the end of profiling to the contest.
const PAUSE_MIN: u32 = 1;

/// What was wanted and what was seen.
struct Played {
    contest: Contest,
    learnt: Vec<Arc<Record>>,
    ran: Vec<Ran>,
    records: Vec<Arc<Record>>,
}

/// Runs it, writes the results into `out` and prints them.
pub(super) fn run(
    config: LabConfig,
    version: FlinkVersion,
    out: &Path,
    as_json: bool,
) -> anyhow::Result<()> {
    folder(out)?;
    let steps = Steps::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (played, wall_s) = runtime.block_on(async {
        let began = tokio::time::Instant::now();
        let stop = asked_to_stop()?;
        let played = in_lab(config, &steps, stop).await?;
        Ok::<_, anyhow::Error>((played, began.elapsed().as_secs_f64()))
    })?;
    let Some(played) = played else { return say("Stopped; the lab is down.") };
    steps.step("The same afternoon on the embedded engine");
    let result = conclude(&played, version, wall_s)?;
    drop(steps);
    keep(out, "result.json", &format!("{:#}\n", result.json()))?;
    keep(out, "world.toml", &result.world)?;
    keep_records(out, &result.records)?;
    let title = format!("An afternoon in the lab, whose clock runs {SPEED} times as fast as ours");
    let page = keep(out, "report.html", &result.page(&title)?)?;
    if as_json {
        return say(&format!("{:#}", result.json()));
    }
    say(&result.tables())?;
    let results: Vec<_> = result.afternoons.iter().map(|a| a.result.clone()).collect();
    say(&format!("\n{}", policies(&results)))?;
    say(&format!(
        "\nTimes and rates are of the lab's clock, which runs {SPEED} times as fast as the wall's.\n\
         The afternoon as pictures: {}",
        page.display()
    ))
}

/// Brings the lab up, plays, and takes it down, whatever happens; `None` when it was asked to stop.
async fn in_lab(
    config: LabConfig,
    steps: &Steps,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<Option<Played>> {
    let mut stop = std::pin::pin!(stop);
    let mut lab = tokio::select! {
        biased;
        () = &mut stop => return Ok(None),
        up = Lab::up(cluster::config(config), |message| steps.step(message)) => up?,
    };
    let fallback = CheckpointInterval::from_secs(FALLBACK_S)?;
    let contestants = [Policy::Khaos, Policy::Static(guess()?), Policy::KhaosRedeploying];
    steps.step("Submitting three copies of a job");
    let cluster = Cluster::on(&lab, &contestants, fallback).await;
    let ended = match cluster {
        Ok(cluster) => tokio::select! {
            biased;
            () = &mut stop => Ok(None),
            failure = lab.supervise() => Err(match failure {
                LabError::TakenDown => anyhow::anyhow!("The lab was taken down by another khaos"),
                failure => failure.into(),
            }),
            played = play(&cluster, steps) => played.map(Some),
        },
        Err(error) => Err(error),
    };
    lab.down().await?;
    ended
}

fn guess() -> anyhow::Result<CheckpointInterval> {
    Ok(CheckpointInterval::from_secs(GUESS_S)?)
}

fn goals() -> anyhow::Result<Goals> {
    let interval = CheckpointInterval::from_secs;
    let objectives =
        Objectives::recovery_and_latency(Seconds::new(RECOVERY_S)?, Millis::new(LATENCY_MS)?);
    Ok(Goals {
        objectives,
        bounds: IntervalBounds::new(interval(SMALLEST_S)?, interval(FALLBACK_S)?)?,
        checkpoints_per_hour: None,
        // Each of a handful of failures counts here, and restarts of three Javas on a small machine scatter:
        // half of them would be longer than their mean.
        confidence: Confidence::Single,
    })
}

async fn play(cluster: &Cluster, steps: &Steps) -> anyhow::Result<Played> {
    let Cluster { clock, flink, job, began_at, .. } = cluster;
    let (clock, began_at) = (*clock, *began_at);
    let goals = goals()?;
    let memory = Arc::new(MemoryStore::default());
    let told = steps.clone();
    let store = Arc::new(Watched::new(
        Arc::clone(&memory),
        Arc::new(move |record| {
            if let Some(news) = news(record) {
                told.step(&news);
            }
        }),
    ));
    let observe = Observe {
        clock,
        jobs: flink.clone(),
        metrics: flink.clone(),
        checkpoints: flink.clone(),
        store: store.clone(),
    };
    let patience =
        Patience { lead: Seconds::new(PATIENCE_S.0)?, recovery: Seconds::new(PATIENCE_S.1)? };
    let replayed = patience.stretch(goals.bounds.max());
    let clone_minutes = (f64::from(TRIALS) + 0.5) * (replayed.lead_s + replayed.hold_s) / 60.0;
    let profile = Profile {
        clock,
        jobs: flink.clone(),
        metrics: flink.clone(),
        checkpoints: flink.clone(),
        clones: Clones::new(Arc::new(cluster.clones())),
        log: cluster.log.clone(),
        injector: cluster.injector.clone(),
        store: store.clone(),
        bounds: goals.bounds,
        objective: goals.objectives.recovery,
        budget: CloneBudget { at_once: CLONES, clone_minutes },
        patience,
    };
    let optimize = Optimize::new(clock, flink.clone(), store.clone(), goals.clone());

    steps.step(&format!("Observing {PERIOD_MIN} minutes"));
    let tuner = Tuner { clock, observe: observe.clone(), mode: Mode::Observe };
    let recorded = Span { from: began_at, to: began_at.plus_secs(f64::from(PERIOD_MIN) * 60.0) };
    tuner.tune(job, recorded.to.plus_millis(GRACE_MS + 1_000)).await?;
    observe.conclude(job, recorded, replayed).await.context("observing")?;

    steps.step(&format!("Profiling: {TRIALS} trials on clones, {CLONES} at once"));
    tokio::select! {
        biased;
        profiled = profile.reconcile(job) => profiled.context("profiling")?,
        // It goes on being observed; this never ends.
        observed = tuner.tune(job, Timestamp(i64::MAX)) => observed?,
    }
    optimize.fit(job).await.context("fitting models")?;

    let passed_min = clock.now().secs_since(began_at) / 60.0;
    let contest = Contest::from(passed_min.ceil() as u32 + PAUSE_MIN);
    steps.step(&format!(
        "{} minutes under three policies, {} failures each",
        contest.minutes,
        contest.failures.len()
    ));
    let learnt = memory.all();
    let ring = Ring { cluster, contest: &contest, goals: &goals, learnt: &memory };
    let ran = ring.run().await?;
    let records = of_job(&memory.all(), job);
    Ok(Played { contest, learnt, ran, records })
}

/// A record as a step of progress, where it is one.
fn news(record: &Record) -> Option<String> {
    let trial = record.trial()?;
    Some(format!("Trial {} at {} is done", trial.index + 1, trial.interval))
}

/// Models and trials of what was learnt.
fn learnt(records: &[Arc<Record>]) -> anyhow::Result<(&Models, Vec<&Trial>)> {
    let models = records.iter().rev().find_map(|record| record.models());
    let mut trials: Vec<&Trial> = records.iter().filter_map(|record| record.trial()).collect();
    trials.sort_by_key(|trial| trial.index);
    Ok((models.context("the trials gave no models")?, trials))
}

fn conclude(played: &Played, version: FlinkVersion, wall_s: f64) -> anyhow::Result<LabResult> {
    let Played { contest, learnt: records, ran, .. } = played;
    let goals = goals()?;
    let (recovery, latency) = (Seconds::new(RECOVERY_S)?, Millis::new(LATENCY_MS)?);
    let (models, trials) = learnt(records)?;
    let redeployed = ran.iter().find(|ran| ran.policy == Policy::KhaosRedeploying);
    let stall_s = redeployed
        .filter(|ran| ran.intervals.len() > 1)
        .map(|ran| ran.downtime_s / (ran.intervals.len() - 1) as f64);
    let text = twin::world(models, &trials, stall_s);
    let world = World::parse(&text).context("the lab as a world of the embedded engine")?;
    let workload = course::workload(contest.first, contest.minutes)?;
    let judge = Judge {
        world: &world,
        rates: workload.per_minute(),
        goals: &goals,
        recovery,
        latency,
        models,
        trials: trials.len(),
    };
    let simulation = twin::simulation(world.clone(), workload.clone(), &goals, recovery, latency);
    let mut afternoons = Vec::new();
    for ran in ran {
        // There, too, a failure strikes with the checkpoint that comes next.
        let due = contest.failures.iter().map(|minute| f64::from(*minute) * 60.0);
        let twin: Vec<Option<f64>> = due
            .zip(&ran.failures)
            .map(|(second, struck)| {
                let trial = struck.showed.as_ref().ok();
                twin::recovery(&simulation, &ran.intervals, second, trial)
            })
            .collect::<anyhow::Result<_>>()?;
        afternoons.push(judge.afternoon(ran, &twin));
    }
    // What was learnt of the job, then what each copy of it lived through.
    let records: Vec<Arc<Record>> =
        ran.iter().flat_map(|ran| &ran.records).chain(records).cloned().collect();
    Ok(LabResult {
        flink: version.to_string(),
        wall_s,
        trials: judge.trials(&trials),
        contest: contest.clone(),
        models: models.clone(),
        world: text,
        afternoons,
        kept: played.records.clone(),
        records,
        goals: goals.clone(),
    })
}
