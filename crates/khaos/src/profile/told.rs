//! The steps of a trial, told as they begin: they are calls of ports.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use khaos_control::ports::{
    CloneHost, CloneId, CloneSpec, Fault, FaultInjector, PortError, RunningClone, WorkloadLog,
};
use khaos_core::job::{EngineJobId, JobKey};
use khaos_core::units::{Span, Timestamp};

/// Is told the index of a trial, and what is done.
pub(super) type Tell = Arc<dyn Fn(u32, &str) + Send + Sync>;

/// Clones that are made, fed and broken, aloud.
pub(super) struct Told<C> {
    clones: Arc<C>,
    injector: Arc<dyn FaultInjector>,
    tell: Tell,
    /// Which trial each clone is for.
    trials: Mutex<BTreeMap<EngineJobId, u32>>,
}

impl<C> Told<C> {
    pub(super) fn new(clones: Arc<C>, injector: Arc<dyn FaultInjector>, tell: Tell) -> Self {
        Self { clones, injector, tell, trials: Mutex::default() }
    }

    fn tell(&self, id: &EngineJobId, doing: &str) {
        let trials = self.trials.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = trials.get(id) {
            (self.tell)(*index, doing);
        }
    }
}

#[async_trait]
impl<C: CloneHost> CloneHost for Told<C> {
    async fn launch(&self, spec: &CloneSpec) -> Result<EngineJobId, PortError> {
        (self.tell)(
            spec.index,
            &format!("deploying a clone that checkpoints every {}", spec.interval),
        );
        let id = self.clones.launch(spec).await?;
        self.trials.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), spec.index);
        Ok(id)
    }

    async fn terminate(&self, id: &EngineJobId) -> Result<(), PortError> {
        self.tell(id, "removing the clone and what it had");
        self.clones.terminate(id).await
    }

    async fn settle(&self, of: &JobKey) -> Result<(), PortError> {
        self.clones.settle(of).await
    }

    async fn running(&self) -> Result<Vec<RunningClone>, PortError> {
        self.clones.running().await
    }
}

#[async_trait]
impl<C: WorkloadLog> WorkloadLog for Told<C> {
    async fn recorded(&self, job: &JobKey) -> Result<Span, PortError> {
        self.clones.recorded(job).await
    }

    async fn replay(
        &self,
        job: &JobKey,
        from: Timestamp,
        clone: &CloneId,
    ) -> Result<(), PortError> {
        self.clones.replay(job, from, clone).await?;
        self.tell(clone.engine_id(), "replaying, until the clone is steady and the load is there");
        Ok(())
    }
}

#[async_trait]
impl<C: Send + Sync> FaultInjector for Told<C> {
    async fn aim(&self, clone: &CloneId) -> Result<(), PortError> {
        self.tell(clone.engine_id(), "waiting for the worst moment");
        self.injector.aim(clone).await
    }

    async fn inject(&self, clone: &CloneId, fault: Fault) -> Result<(), PortError> {
        self.injector.inject(clone, fault).await?;
        self.tell(clone.engine_id(), "broken; waiting until it has recovered");
        Ok(())
    }
}
