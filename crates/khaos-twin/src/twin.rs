//! The deployments together, behind the ports.

mod ports;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use khaos_control::clock::Clock;
use khaos_control::core::job::{CheckpointSettings, CompletedCheckpoint, EngineJobId, JobKey};
use khaos_control::core::stats::Seed;
use khaos_control::core::units::{Span, Timestamp};
use khaos_control::ports::CloneSpec;

use crate::engine::{Engine, EngineConfig, Feed};
use crate::workload::Workload;
use crate::world::World;

pub use self::ports::Redeployer;
pub use crate::engine::Failure;

/// What a twin is made of.
#[derive(Debug, Clone)]
pub struct TwinConfig {
    /// The name of its job.
    pub job: JobKey,
    /// The physics.
    pub world: World,
    /// What arrives at the job from its start on.
    pub workload: Workload,
    /// The job's checkpoint settings.
    pub settings: CheckpointSettings,
    /// Failures of nature, s after the start, in order: each strikes when the first checkpoint after
    /// it is about to complete, the worst moment.
    pub failures: Vec<f64>,
    /// Spans in which no scrape of the job succeeds, s after the start.
    pub outages: Vec<(f64, f64)>,
    /// Seed of all its noise.
    pub seed: Seed,
    /// Whether there is noise: without it everything takes its usual time, latency has its mean, and
    /// no scrape is missed.
    pub noise: bool,
}

/// The embedded engine: one job, its clones, its metrics and its log.
#[derive(Debug)]
pub struct Twin {
    clock: Clock,
    config: TwinConfig,
    workload: Arc<Workload>,
    started_at: Timestamp,
    deployments: Mutex<Deployments>,
}

#[derive(Debug)]
struct Deployments {
    world: Arc<World>,
    job: EngineJobId,
    redeploys: u32,
    engines: BTreeMap<EngineJobId, Engine>,
    clones: BTreeMap<EngineJobId, CloneSpec>,
    /// Clones launched so far.
    launched: u32,
}

/// What really happened to the job: for scoring, hidden from the ports.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    /// Its failures.
    pub failures: Vec<Failure>,
    /// Completed checkpoints since the last redeploy.
    pub checkpoints: Vec<CompletedCheckpoint>,
    /// Completed checkpoints in all.
    pub checkpoints_total: u64,
    /// Stalls caused by redeploys, s.
    pub stalled_s: f64,
    /// Events that have arrived.
    pub arrived: f64,
    /// Events that were read: what is left is waiting in the log.
    pub read: f64,
    /// Events that were processed, those processed again included.
    pub processed: f64,
}

impl Twin {
    /// Starts the job now, on the time of `clock`.
    pub fn start(config: TwinConfig, clock: Clock) -> Arc<Self> {
        let now = clock.now();
        let (world, workload) = (Arc::new(config.world.clone()), Arc::new(config.workload.clone()));
        let after = |second: f64| now.plus_secs(second);
        let outage = |&(from, to): &(f64, f64)| Span { from: after(from), to: after(to) };
        let engine = EngineConfig {
            world: Arc::clone(&world),
            settings: config.settings,
            feed: Feed::Workload { workload: Arc::clone(&workload), second: 0.0, since: now },
            failures: config.failures.iter().map(|&second| after(second)).collect(),
            outages: config.outages.iter().map(outage).collect(),
            seed: config.seed,
            noise: config.noise,
            runs_at: now,
        };
        let job = engine_id(&config.job, 0);
        let engines = BTreeMap::from([(job.clone(), Engine::start(engine, now))]);
        let clones = BTreeMap::new();
        let deployments = Deployments { world, job, redeploys: 0, engines, clones, launched: 0 };
        Arc::new(Self {
            clock,
            workload,
            started_at: now,
            deployments: Mutex::new(deployments),
            config,
        })
    }

    /// When the job was started: second 0 of its workload.
    pub fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// What really happened to the job so far.
    pub fn truth(&self) -> Truth {
        let mut deployments = self.deployments();
        let id = deployments.job.clone();
        let engine = self.caught_up(&mut deployments, &id).expect("the job is always there");
        let (arrived, read, processed) = engine.balance();
        Truth {
            failures: engine.failures().to_vec(),
            checkpoints: engine.checkpointing().completed().collect(),
            checkpoints_total: engine.checkpointing().total(),
            stalled_s: engine.stalled_s(),
            arrived,
            read,
            processed,
        }
    }

    /// From now on its job and its clones are of `world`: a cluster loses capacity, a job is scaled.
    /// Another name is another shape. The metrics system stays as it was.
    pub fn becomes(&self, world: World) {
        let mut deployments = self.deployments();
        let world = Arc::new(world);
        deployments.world = Arc::clone(&world);
        for engine in deployments.engines.values_mut() {
            engine.advance(self.clock.now());
            engine.becomes(&world);
        }
    }

    /// Clones launched in all.
    pub fn launched(&self) -> u32 {
        self.deployments().launched
    }

    fn deployments(&self) -> MutexGuard<'_, Deployments> {
        self.deployments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The deployment, caught up with now. Each lives through time by itself, so that looking at one
    /// changes nothing in another.
    fn caught_up<'a>(
        &self,
        deployments: &'a mut Deployments,
        id: &EngineJobId,
    ) -> Option<&'a mut Engine> {
        let engine = deployments.engines.get_mut(id)?;
        engine.advance(self.clock.now());
        Some(engine)
    }

    /// Stops the job with a savepoint and starts it with `settings` under a new engine's id; what
    /// keeps it from that, if anything.
    fn redeploy(&self, settings: CheckpointSettings) -> Result<(), String> {
        let mut deployments = self.deployments();
        let old = deployments.job.clone();
        let engine = self.caught_up(&mut deployments, &old).expect("the job is always there");
        if !engine.redeploy(settings) {
            return Err("no savepoint can be taken while the job is not running".into());
        }
        let engine = deployments.engines.remove(&old).expect("it was just there");
        deployments.redeploys += 1;
        deployments.job = engine_id(&self.config.job, deployments.redeploys);
        let new = deployments.job.clone();
        deployments.engines.insert(new, engine);
        Ok(())
    }
}

fn engine_id(job: &JobKey, redeploys: u32) -> EngineJobId {
    EngineJobId(format!("{job}-{redeploys}"))
}
