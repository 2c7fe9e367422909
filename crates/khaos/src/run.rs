//! `khaos run`: follow one job for as long as it lives.
//!
//! [`Daemon`] is the whole of it over the ports, in whatever time its clock tells; the command wires
//! it to Flink, to Prometheus where there is one, to real time and a store on disk, and tells what is recorded as it is recorded
//! (`telling`).

mod telling;

use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::Context;
use khaos_adapters::flink::Flink;
use khaos_adapters::prometheus::Prometheus;
use khaos_adapters::sqlite::SqliteStore;
use khaos_control::ReconcileError;
use khaos_control::act::Act;
use khaos_control::act::driver::Driver;
use khaos_control::clock::Clock;
use khaos_control::observe::Observe;
use khaos_control::optimize::Optimize;
use khaos_control::ports::{Checkpoints, Jobs, Metrics, Store};
use khaos_control::tuner::{self, Tuner};
use khaos_core::job::JobRun;
use khaos_core::optimize::Goals;
use khaos_core::record::Record;
use khaos_core::units::{Span, Timestamp};
use tokio::signal::unix::{SignalKind, signal};

use self::telling::Telling;
use crate::clock;
use crate::config::{Job, Mode, read};
use crate::input::BadInput;
use crate::output::say;
use crate::simulate::watched::Watched;

/// Between two looks for a job that is not there, s.
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
    /// mode says. Ends earlier only when a stored record is not what it was. When this ends, or is
    /// dropped, nobody drives any more: the job is at its own interval.
    pub async fn follow(&self, until: Timestamp) -> Result<(), ReconcileError> {
        let Some(run) = self.await_job(until).await else { return Ok(()) };
        // Where nobody else samples, sampling begins with the first question: it is asked now.
        let nothing = Span::last(0.0, self.clock.now());
        if let Err(error) = self.metrics.readings(&run.engine_id, nothing).await {
            tracing::warn!(job = %self.job.key, "no readings yet: {error}");
        }
        let own = run.checkpointing.interval;
        let Job { key, mode, objectives, max, .. } = &self.job;
        if let Some(max) = max.filter(|max| *max > own) {
            tracing::warn!(job = %key, %max, "max is above the job's own interval, which counts: {own}");
        }
        tracing::info!(job = %key, id = %run.engine_id, %own, ?mode, "following");
        let goals = Goals {
            objectives: objectives.clone(),
            bounds: self.job.bounds(own),
            checkpoints_per_hour: self.job.checkpoints_per_hour,
            confidence: self.job.confidence,
        };
        let (clock, store) = (self.clock, || Arc::clone(&self.store));
        let optimize = || Optimize::new(clock, Arc::clone(&self.jobs), store(), goals.clone());
        let mode = match mode {
            Mode::Observe => tuner::Mode::Observe,
            Mode::Recommend => tuner::Mode::Recommend(optimize()),
            Mode::Auto => {
                let driver = Driver::new(clock, self.jobs.clone(), self.checkpoints.clone());
                let act =
                    Act::new(clock, self.jobs.clone(), Arc::new(driver), store(), goals.clone());
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
        let flink = Flink::at(&config.flink, clock)
            .map_err(|error| BadInput(format!("{}: url in [flink]: {error}", path.display())))?;
        let flink = Arc::new(flink);
        let metrics: Arc<dyn Metrics> = match &config.prometheus {
            Some(url) => Arc::new(Prometheus::at(url, clock).map_err(|error| {
                BadInput(format!("{}: url in [prometheus]: {error}", path.display()))
            })?),
            None => flink.clone(),
        };
        let store = Arc::new(SqliteStore::open(&config.store)?);
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
            store: Arc::new(Watched::new(store, Arc::new(tell))),
            job: config.job,
        };
        let ended = tokio::select! {
            biased;
            asked = asked_to_end() => asked.context("signals cannot be received"),
            ended = daemon.follow(Timestamp(i64::MAX)) => ended.context("it cannot go on"),
        };
        tracing::info!(job = %daemon.job.key, "ending; the job is left at its own interval");
        ended
    })
}

async fn asked_to_end() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        biased;
        pressed = tokio::signal::ctrl_c() => pressed,
        _ = terminate.recv() => Ok(()),
    }
}
