//! `khaos run`: follow one job for as long as it lives.
//!
//! [`Daemon`] is the whole of it over the ports, in whatever time its clock tells; the command wires
//! it to Flink, to Prometheus and Kafka where there are some, to real time and a store on disk, and tells what
//! is recorded as it is recorded (`telling`).

mod telling;

use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::Context;
use khaos_adapters::flink::{Flink, LiveInterval, Redeployer};
use khaos_control::ReconcileError;
use khaos_control::act::Act;
use khaos_control::act::driver::Driver;
use khaos_control::clock::Clock;
use khaos_control::observe::Observe;
use khaos_control::optimize::Optimize;
use khaos_control::ports::{Actuator, Checkpoints, Jobs, Metrics, PortError, Store};
use khaos_control::tuner::{self, Tuner};
use khaos_core::job::{JobKey, JobRun};
use khaos_core::optimize::Goals;
use khaos_core::record::Record;
use khaos_core::units::{Span, Timestamp};
use tokio::signal::unix::{SignalKind, signal};

use self::telling::Telling;
use crate::clock;
use crate::config::{Change, Job, Mode, Redeploy, read};
use crate::output::say;
use crate::simulate::watched::Watched;
use crate::wired::Wired;

/// Between two looks for a job or a cluster that is not there, s.
const LOOK_S: f64 = 10.0;

/// Follows one job.
#[derive(Clone)]
pub struct Daemon {
    /// Time.
    pub clock: Clock,
    /// What runs.
    pub jobs: Arc<dyn Jobs>,
    /// Readings.
    pub metrics: Arc<dyn Metrics>,
    /// Checkpoints.
    pub checkpoints: Arc<dyn Checkpoints>,
    /// What changes the interval, as the job says. Mode auto alone is given it.
    pub actuator: Arc<dyn Actuator>,
    /// Records: all that a later life needs to go on.
    pub store: Arc<dyn Store>,
    /// The job, and what is wanted of it.
    pub job: Job,
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Daemon").field("job", &self.job).finish_non_exhaustive()
    }
}

impl Daemon {
    /// Waits for the job, then observes it every minute until `until`, and decides and acts as its
    /// mode says. Ends earlier only when a stored record is not what it was. What it has put into force
    /// stays until [`Self::let_go`]; a driver that is dropped drives no more.
    pub async fn follow(&self, until: Timestamp) -> Result<(), ReconcileError> {
        let Some(run) = self.await_job(until).await else { return Ok(()) };
        // Where nobody else samples, sampling begins with the first question: it is asked now.
        let nothing = Span::last(0.0, self.clock.now());
        if let Err(error) = self.metrics.readings(&run.engine_id, nothing).await {
            tracing::warn!(job = %self.job.key, "no readings yet: {error}");
        }
        let own = run.checkpointing.interval;
        let Job { key, mode, objectives, max, .. } = &self.job;
        let bounds = self.job.bounds(own);
        if let Some(max) = max.filter(|max| *max > bounds.max()) {
            tracing::warn!(job = %key, %max, "max is above the job's own interval, which counts: {own}");
        }
        tracing::info!(job = %key, id = %run.engine_id, %own, ?mode, "following");
        let goals = Goals {
            objectives: objectives.clone(),
            bounds,
            checkpoints_per_hour: self.job.checkpoints_per_hour,
            confidence: self.job.confidence,
        };
        let (clock, store) = (self.clock, || Arc::clone(&self.store));
        let optimize = || {
            let optimize = Optimize::new(clock, Arc::clone(&self.jobs), store(), goals.clone());
            match self.job.change {
                Change::Drive => optimize,
                Change::Redeploy(_) => optimize.redeploying(),
                Change::Live => optimize.setting(),
            }
        };
        let mode = match mode {
            Mode::Observe => tuner::Mode::Observe,
            Mode::Recommend => tuner::Mode::Recommend(optimize()),
            Mode::Auto => {
                let actuator = Arc::clone(&self.actuator);
                let act = Act::new(clock, self.jobs.clone(), actuator, store(), goals.clone());
                tuner::Mode::Auto(optimize(), act)
            }
        };
        let observe = Observe {
            clock,
            jobs: self.jobs.clone(),
            metrics: self.metrics.clone(),
            checkpoints: self.checkpoints.clone(),
            store: store(),
        };
        Tuner { clock, observe, mode }.tune(key, until).await
    }

    /// Lets go of the job: its own interval is in force again. In any other mode than auto nobody has
    /// changed it.
    pub async fn let_go(&self) -> Result<(), PortError> {
        if self.job.mode != Mode::Auto {
            return Ok(());
        }
        match self.jobs.describe(&self.job.key).await {
            Ok(run) => self.actuator.release(&run).await,
            Err(PortError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The job as soon as the engine knows it; `None` when it does not until `until`. What keeps it
    /// away is said whenever it is something else.
    async fn await_job(&self, until: Timestamp) -> Option<JobRun> {
        let mut said = String::new();
        while self.clock.now() < until {
            match self.jobs.describe(&self.job.key).await {
                Ok(run) => return Some(run),
                Err(error) if error.to_string() != said => {
                    said = error.to_string();
                    tracing::warn!(job = %self.job.key, "waiting: {said}");
                }
                Err(_) => {}
            }
            self.clock.sleep_until(self.clock.now().plus_secs(LOOK_S).min(until)).await;
        }
        None
    }
}

/// Runs `khaos run`: until it is asked to end.
pub fn run(path: &Path, as_json: bool) -> anyhow::Result<()> {
    let config = read(path)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let clock = clock::anchored();
        let Wired { flink, metrics, store, .. } = Wired::to(&config, path, clock)?;
        let actuator = tokio::select! {
            biased;
            asked = asked_to_end() => return asked.context("signals cannot be received"),
            found = actuator(&config.job, &flink, clock) => found.context("it cannot begin")?,
        };
        let telling = Mutex::new(Telling::of(as_json, config.job.mode));
        let tell = move |record: &Record| {
            let told = telling.lock().ok().and_then(|mut telling| telling.of_record(record));
            if let Some(Err(error)) = told.map(|line| say(&line)) {
                tracing::warn!("{error:#}");
            }
        };
        let daemon = Daemon {
            clock,
            jobs: flink.clone(),
            metrics,
            checkpoints: flink,
            actuator,
            store: Arc::new(Watched::new(store, Arc::new(tell))),
            job: config.job,
        };
        let ended = tokio::select! {
            biased;
            asked = asked_to_end() => asked.context("signals cannot be received"),
            ended = daemon.follow(Timestamp(i64::MAX)) => ended.context("it cannot go on"),
        };
        match daemon.let_go().await {
            Ok(()) => {
                tracing::info!(job = %daemon.job.key, "ending; the job is left at its own interval");
            }
            Err(error) => tracing::warn!(job = %daemon.job.key, "ending, not letting go: {error}"),
        }
        ended
    })
}

/// What changes the interval of `job`. A redeploy that a khaos before this one left unfinished is ended
/// first; an error says what has to be done by hand.
async fn actuator(
    job: &Job,
    flink: &Arc<Flink>,
    clock: Clock,
) -> Result<Arc<dyn Actuator>, PortError> {
    Ok(match job.change.clone() {
        Change::Drive => Arc::new(Driver::new(clock, flink.clone(), flink.clone())),
        Change::Redeploy(redeploy) => {
            let Redeploy { deployment, savepoints, journal } = *redeploy;
            let flink = flink.as_ref().clone();
            let redeployer = Redeployer::new(flink, deployment, savepoints, journal);
            recover(&redeployer, &job.key, clock).await?;
            Arc::new(redeployer)
        }
        Change::Live => Arc::new(LiveInterval::new(flink.as_ref().clone())),
    })
}

/// Ends what a redeploy left unfinished as soon as the cluster answers; what came of it is told.
async fn recover(redeployer: &Redeployer, job: &JobKey, clock: Clock) -> Result<(), PortError> {
    let mut said = String::new();
    loop {
        match redeployer.recover().await {
            Err(PortError::Unavailable(why)) if why != said => {
                tracing::warn!(%job, "waiting, to end a redeploy that was left unfinished: {why}");
                said = why;
            }
            Err(PortError::Unavailable(_)) => {}
            ended => return ended.map(drop),
        }
        clock.sleep_until(clock.now().plus_secs(LOOK_S)).await;
    }
}

async fn asked_to_end() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        biased;
        pressed = tokio::signal::ctrl_c() => pressed,
        _ = terminate.recv() => Ok(()),
    }
}
