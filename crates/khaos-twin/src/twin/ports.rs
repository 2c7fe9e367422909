//! The twin as the ports show it.

use std::sync::Arc;

use async_trait::async_trait;
use khaos_control::core::job::{
    CheckpointHistory, CheckpointSettings, EngineJobId, JobKey, JobRun, JobShape, TriggerId,
};
use khaos_control::core::series::Readings;
use khaos_control::core::units::{CheckpointInterval, Span, Timestamp};
use khaos_control::ports::{
    Actuator, Checkpoints, CloneHost, CloneId, CloneSpec, Fault, FaultInjector, Generation, Jobs,
    Metrics, PortError, RunningClone, TriggerOutcome, WorkloadLog,
};
use std::sync::Mutex;
use std::sync::PoisonError;

use super::Twin;
use crate::engine::{Engine, EngineConfig, Feed, SUBTASKS};

fn no_deployment(id: &EngineJobId) -> PortError {
    PortError::NotFound(format!("deployment {id}"))
}

impl Twin {
    fn with<T>(&self, id: &EngineJobId, f: impl FnOnce(&mut Engine) -> T) -> Result<T, PortError> {
        let mut deployments = self.deployments();
        self.caught_up(&mut deployments, id).map(f).ok_or_else(|| no_deployment(id))
    }

    fn known(&self, job: &JobKey) -> Result<EngineJobId, PortError> {
        if *job == self.config.job {
            Ok(self.deployments().job.clone())
        } else {
            Err(PortError::NotFound(format!("job {job}")))
        }
    }
}

#[async_trait]
impl Jobs for Twin {
    async fn list(&self) -> Result<Vec<JobKey>, PortError> {
        Ok(vec![self.config.job.clone()])
    }

    async fn describe(&self, job: &JobKey) -> Result<JobRun, PortError> {
        self.run(&self.known(job)?).await
    }

    async fn run(&self, id: &EngineJobId) -> Result<JobRun, PortError> {
        let shape = JobShape(self.deployments().world.name.clone());
        self.with(id, |engine| {
            let (status, running_since) = engine.status();
            JobRun {
                key: self.config.job.clone(),
                engine_id: id.clone(),
                attempt: engine.attempt(),
                parallelism: SUBTASKS,
                shape,
                status,
                running_since,
                checkpointing: engine.checkpointing().settings(),
                noticed: engine.noticed().to_vec(),
                expected_dead_time: engine.expected_dead_time(),
            }
        })
    }
}

#[async_trait]
impl Metrics for Twin {
    async fn readings(&self, job: &EngineJobId, span: Span) -> Result<Readings, PortError> {
        self.with(job, |engine| engine.readout().within(span))
    }
}

#[async_trait]
impl Checkpoints for Twin {
    async fn history(&self, job: &EngineJobId) -> Result<CheckpointHistory, PortError> {
        self.with(job, |engine| engine.history())
    }

    async fn trigger(&self, job: &EngineJobId, id: &TriggerId) -> Result<(), PortError> {
        self.with(job, |engine| engine.trigger(id))
    }

    async fn outcome(
        &self,
        job: &EngineJobId,
        id: &TriggerId,
    ) -> Result<TriggerOutcome, PortError> {
        let outcome = self.with(job, |engine| engine.checkpointing().outcome(id))?;
        outcome.ok_or_else(|| PortError::NotFound(format!("trigger {}", id.as_str())))
    }
}

#[async_trait]
impl CloneHost for Twin {
    async fn launch(&self, spec: &CloneSpec) -> Result<EngineJobId, PortError> {
        self.known(&spec.of)?;
        let id = EngineJobId(format!("clone-{}-{}", &spec.campaign.as_str()[..8], spec.index));
        let mut deployments = self.deployments();
        if deployments.engines.contains_key(&id) {
            return Err(PortError::Refused(format!("{id} is there already")));
        }
        let now = self.clock.now();
        let engine = EngineConfig {
            runs_at: now.plus_secs(deployments.world.restart_s),
            world: Arc::clone(&deployments.world),
            settings: CheckpointSettings::periodic(spec.interval),
            feed: Feed::Idle,
            failures: Vec::new(),
            outages: Vec::new(),
            seed: self.config.seed.child(&format!("{}/{}", spec.campaign, spec.index)),
            noise: self.config.noise,
        };
        deployments.engines.insert(id.clone(), Engine::start(engine, now));
        deployments.clones.insert(id.clone(), spec.clone());
        deployments.launched += 1;
        Ok(id)
    }

    async fn terminate(&self, id: &EngineJobId) -> Result<(), PortError> {
        let mut deployments = self.deployments();
        if deployments.clones.remove(id).is_some() {
            deployments.engines.remove(id);
        } else if deployments.engines.contains_key(id) {
            return Err(PortError::Refused(format!("{id} is not a clone")));
        }
        Ok(())
    }

    async fn running(&self) -> Result<Vec<RunningClone>, PortError> {
        let deployments = self.deployments();
        let clone = |(id, spec): (&EngineJobId, &CloneSpec)| RunningClone {
            engine_id: id.clone(),
            spec: spec.clone(),
        };
        Ok(deployments.clones.iter().map(clone).collect())
    }
}

#[async_trait]
impl WorkloadLog for Twin {
    async fn recorded(&self, job: &JobKey) -> Result<Span, PortError> {
        self.known(job)?;
        Ok(Span { from: self.started_at, to: self.clock.now() })
    }

    async fn replay(
        &self,
        job: &JobKey,
        from: Timestamp,
        clone: &CloneId,
    ) -> Result<(), PortError> {
        let recorded = self.recorded(job).await?;
        if !recorded.contains(from) {
            let second = from.secs_since(recorded.from);
            return Err(PortError::Refused(format!(
                "second {second:.0} of the workload of {job} was not recorded"
            )));
        }
        let feed = Feed::Workload {
            workload: Arc::clone(&self.workload),
            second: from.secs_since(self.started_at),
            since: self.clock.now(),
        };
        self.with(clone.engine_id(), |engine| engine.feed(feed))
    }
}

#[async_trait]
impl FaultInjector for Twin {
    async fn aim(&self, _: &CloneId) -> Result<(), PortError> {
        Ok(())
    }

    async fn inject(&self, clone: &CloneId, fault: Fault) -> Result<(), PortError> {
        self.with(clone.engine_id(), |engine| engine.fail(fault))
    }
}

/// The actuator that changes the interval by a redeploy: stop with a savepoint, start again with the
/// new interval, stalling the job meanwhile.
#[derive(Debug)]
pub struct Redeployer {
    twin: Arc<Twin>,
    generation: Mutex<Generation>,
}

impl Redeployer {
    /// Redeploys the job of `twin`.
    pub fn new(twin: Arc<Twin>) -> Self {
        Self { twin, generation: Mutex::default() }
    }
}

#[async_trait]
impl Actuator for Redeployer {
    async fn apply(
        &self,
        run: &JobRun,
        interval: CheckpointInterval,
        generation: Generation,
    ) -> Result<(), PortError> {
        self.twin.known(&run.key)?;
        let mut current = self.generation.lock().unwrap_or_else(PoisonError::into_inner);
        if generation <= *current {
            return Err(PortError::StaleGeneration { given: generation, current: *current });
        }
        if interval != run.checkpointing.interval {
            self.twin
                .redeploy(CheckpointSettings::periodic(interval))
                .map_err(PortError::Refused)?;
        }
        *current = generation;
        Ok(())
    }

    async fn release(&self, _: &JobRun) -> Result<(), PortError> {
        // The interval is the engine's own now: there is nothing to let go of.
        Ok(())
    }
}
