//! Clones: copies of a job that Khaos deployed itself and owns.

use std::sync::Arc;

use async_trait::async_trait;
use khaos_core::job::{EngineJobId, JobKey};
use khaos_core::record::RecordId;
use khaos_core::units::{CheckpointInterval, Timestamp};

use crate::ports::PortError;

/// What to deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloneSpec {
    /// The job to copy.
    pub of: JobKey,
    /// The campaign that it belongs to: the id of its design.
    pub campaign: RecordId,
    /// Its trial's place in the design.
    pub index: u32,
    /// Its checkpoint interval.
    pub interval: CheckpointInterval,
    /// When it may be swept by whoever finds it.
    pub deadline: Timestamp,
}

/// A clone that is there, whoever left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningClone {
    /// The engine's id.
    pub engine_id: EngineJobId,
    /// As it was deployed, read back from its labels.
    pub spec: CloneSpec,
}

/// The engine's side of clones, implemented by adapters. Only [`Clones`] makes a [`CloneId`] of
/// what it launches.
#[async_trait]
pub trait CloneHost: Send + Sync {
    /// Deploys a copy of `spec.of`, labelled with all of `spec`, reading nothing until replayed to.
    async fn launch(&self, spec: &CloneSpec) -> Result<EngineJobId, PortError>;

    /// Ends a clone and removes what it left. Refuses what is not a clone; a clone that is gone is
    /// no error.
    async fn terminate(&self, id: &EngineJobId) -> Result<(), PortError>;

    /// Sees to it that of all that was launched for copies of `of` before, heard of or not, nothing comes
    /// to be any more after this: [`Self::running`] shows what there is. Nothing to do for a host whose
    /// launches are there as soon as they are asked for. Not while one of `of` is being launched.
    async fn settle(&self, of: &JobKey) -> Result<(), PortError> {
        let _ = of;
        Ok(())
    }

    /// Every clone that is there.
    async fn running(&self) -> Result<Vec<RunningClone>, PortError>;
}

/// Proof that a deployment is a clone: faults can be injected into nothing else.
///
/// Nothing but [`Clones::deploy`] makes one; it can be neither constructed nor deserialised:
///
/// ```compile_fail,E0451
/// use khaos_control::ports::CloneId;
/// use khaos_core::job::EngineJobId;
/// let production = CloneId { engine_id: EngineJobId("production".into()) };
/// ```
/// ```compile_fail,E0277
/// let production: khaos_control::ports::CloneId = "production".to_owned().into();
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct CloneId {
    engine_id: EngineJobId,
}

impl CloneId {
    /// The engine's id of the clone.
    pub fn engine_id(&self) -> &EngineJobId {
        &self.engine_id
    }
}

/// Deploys, stops and sweeps clones.
#[derive(Clone)]
pub struct Clones {
    host: Arc<dyn CloneHost>,
}

impl std::fmt::Debug for Clones {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clones").finish_non_exhaustive()
    }
}

impl Clones {
    /// Clones on `host`.
    pub fn new(host: Arc<dyn CloneHost>) -> Self {
        Self { host }
    }

    /// Deploys a clone. What the host launched is a clone only once it is found among its clones
    /// with our labels: an adapter that mixes up ids cannot hand out a production job.
    pub async fn deploy(&self, spec: &CloneSpec) -> Result<CloneId, PortError> {
        let engine_id = self.host.launch(spec).await?;
        let ours = RunningClone { engine_id, spec: spec.clone() };
        let why = match self.host.running().await {
            Ok(running) if running.contains(&ours) => {
                return Ok(CloneId { engine_id: ours.engine_id });
            }
            Ok(_) => PortError::Refused(format!(
                "{} was launched as a clone but does not carry its labels",
                ours.engine_id
            )),
            Err(error) => error,
        };
        // A host ends nothing but clones: what was launched goes, whatever else it may be stays.
        // If this fails too, the next sweep finds it.
        let _ = self.host.terminate(&ours.engine_id).await;
        Err(why)
    }

    /// Ends a clone.
    pub async fn stop(&self, clone: CloneId) -> Result<(), PortError> {
        self.host.terminate(&clone.engine_id).await
    }

    /// Ends every clone of `job` that an earlier life left behind, and says how many. One that
    /// cannot be ended does not keep the others alive.
    pub async fn sweep(&self, job: &JobKey) -> Result<usize, PortError> {
        self.host.settle(job).await?;
        let left = self.host.running().await?.into_iter().filter(|c| c.spec.of == *job);
        let mut swept = Ok(0);
        for clone in left {
            let ended = self.host.terminate(&clone.engine_id).await;
            swept = swept.and_then(|n| ended.map(|()| n + 1));
        }
        swept
    }
}
