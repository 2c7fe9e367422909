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
    /// cannot be ended does not keep the others alive, nor does what they had that cannot be removed.
    pub async fn sweep(&self, job: &JobKey) -> Result<usize, PortError> {
        let settled = self.host.settle(job).await;
        let left = self.host.running().await?.into_iter().filter(|c| c.spec.of == *job);
        let mut swept = Ok(0);
        for clone in left {
            let ended = self.host.terminate(&clone.engine_id).await;
            swept = swept.and_then(|n| ended.map(|()| n + 1));
        }
        if settled.is_ok() && swept == Ok(0) {
            return swept;
        }
        // What was ending by itself meanwhile has ended now.
        let settled = self.host.settle(job).await;
        swept.and_then(|n| settled.map(|()| n))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;

    /// A host on which some of what is asked fails, and what it was asked for.
    struct Host {
        running: Vec<RunningClone>,
        /// So often settling fails.
        unsettled: usize,
        /// Ending this clone fails.
        stays: Option<u32>,
        asked: Mutex<Vec<String>>,
    }

    impl Host {
        fn asked(&self, what: String) -> Vec<String> {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.push(what);
            asked.clone()
        }
    }

    #[async_trait]
    impl CloneHost for Host {
        async fn launch(&self, _: &CloneSpec) -> Result<EngineJobId, PortError> {
            Err(PortError::Refused("a test sweeps".to_owned()))
        }

        async fn terminate(&self, id: &EngineJobId) -> Result<(), PortError> {
            self.asked(format!("end {id}"));
            match self.stays {
                Some(index) if id.0 == index.to_string() => {
                    Err(PortError::Unavailable(format!("{id} stays")))
                }
                _ => Ok(()),
            }
        }

        async fn settle(&self, _: &JobKey) -> Result<(), PortError> {
            let asked = self.asked("settle".to_owned());
            if asked.iter().filter(|asked| *asked == "settle").count() <= self.unsettled {
                return Err(PortError::Unavailable("Kafka is away".to_owned()));
            }
            Ok(())
        }

        async fn running(&self) -> Result<Vec<RunningClone>, PortError> {
            Ok(self.running.clone())
        }
    }

    fn clone(of: &str, index: u32) -> RunningClone {
        RunningClone {
            engine_id: EngineJobId(index.to_string()),
            spec: CloneSpec {
                of: JobKey(of.to_owned()),
                campaign: RecordId::of_digits("0123456789abcdef0123456789abcdef")
                    .expect("32 hex digits"),
                index,
                interval: CheckpointInterval::from_secs(5).expect("not zero"),
                deadline: Timestamp(0),
            },
        }
    }

    async fn swept(
        unsettled: usize,
        stays: Option<u32>,
    ) -> (Result<usize, PortError>, Vec<String>) {
        let running = vec![clone("orders", 1), clone("others", 2), clone("orders", 3)];
        let host = Arc::new(Host { running, unsettled, stays, asked: Mutex::default() });
        let swept = Clones::new(host.clone()).sweep(&JobKey("orders".to_owned())).await;
        let asked = host.asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (swept, asked)
    }

    #[tokio::test]
    async fn whatever_fails_every_clone_of_the_job_is_ended() {
        let all = ["settle", "end 1", "end 3", "settle"];
        let (done, asked) = swept(0, None).await;
        assert_eq!((done, &asked[..]), (Ok(2), &all.map(str::to_owned)[..]));
        // What could not be removed at first can be later.
        let (done, asked) = swept(1, None).await;
        assert_eq!((done, &asked[..]), (Ok(2), &all.map(str::to_owned)[..]));
        let (done, asked) = swept(2, None).await;
        assert!(done.unwrap_err().to_string().contains("Kafka is away"));
        assert_eq!(asked, all);
        let (done, asked) = swept(0, Some(1)).await;
        assert!(done.unwrap_err().to_string().contains("1 stays"));
        assert_eq!(asked, all);
    }
}
