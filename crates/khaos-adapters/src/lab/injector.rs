//! Break: the TaskManager of one job, and of no other.
//!
//! Flink says which TaskManagers run a job and what else they run; which process that is, and whether it is
//! the lab's, its command line says. So it works from any process that knows the run folder, and a pid is
//! never taken from anywhere but the marks, at the moment of the signal.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use khaos_control::ports::{CloneId, Fault, FaultInjector, PortError};
use rustix::process::{Pid, Signal};
use tokio::time::Instant;

use super::folder::absolute;
use super::marks::{find_taskmanager, signal_taskmanager};
use crate::flink::{Errors, Placement};
use crate::http::Peer;

const FLINK: Peer = Peer {
    name: "the lab's Flink",
    address: "what `khaos lab status` tells, for example http://127.0.0.1:21081",
    reason: |body| serde_json::from_slice::<Errors>(body).ok()?.reason(),
};

/// A job that a lab submitted: proof that it may be hurt.
///
/// Nothing but [`Lab::submit`](super::Lab::submit) makes one; it can be neither constructed nor
/// deserialised:
///
/// ```compile_fail,E0451
/// use khaos_adapters::lab::LabTarget;
/// let production = LabTarget { id: "0123".to_owned(), name: "production".to_owned() };
/// ```
/// ```compile_fail,E0277
/// let production: khaos_adapters::lab::LabTarget = "production".to_owned().into();
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct LabTarget {
    id: String,
    name: String,
}

impl LabTarget {
    pub(super) fn submitted(id: String, name: &str) -> Self {
        Self { id, name: name.to_owned() }
    }

    /// The engine's id that it was submitted under. A redeployment has another one.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its name, which stays.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// What was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The TaskManager, as Flink calls it.
    pub task_manager: String,
    /// When the signal had been sent.
    pub at: Instant,
}

/// A job's TaskManager and its process, looked up before the moment at which it is to be broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aimed {
    id: String,
    task_manager: String,
    pid: Pid,
}

/// Breaks jobs of one lab: SIGKILL for a crash, SIGSTOP for a hang, to the TaskManager that runs most of
/// the job. Refuses where that runs anything else.
#[derive(Debug)]
pub struct LabInjector {
    folder: PathBuf,
    placement: Placement,
    /// Clones that were aimed at.
    aimed: Mutex<BTreeMap<String, Aimed>>,
}

impl LabInjector {
    /// For the lab in `folder`, whose REST interface is at `rest_url`. Nothing is asked yet.
    pub fn at(folder: &Path, rest_url: &str) -> Result<Self, PortError> {
        let folder = absolute(folder).map_err(|error| PortError::Refused(error.to_string()))?;
        Ok(Self { folder, placement: Placement::at(rest_url, &FLINK)?, aimed: Mutex::default() })
    }

    /// Breaks the present deployment of a job that the lab submitted: the one of its name that has not
    /// ended.
    pub async fn hurt(&self, target: &LabTarget, fault: Fault) -> Result<Broken, PortError> {
        self.strike(&self.aim_at(target).await?, fault).await
    }

    /// Looks up what it takes to break the present deployment of a job that the lab submitted.
    pub async fn aim_at(&self, target: &LabTarget) -> Result<Aimed, PortError> {
        self.find(&self.placement.id_of(&target.name).await?).await
    }

    /// Breaks what was aimed at, where it still runs there and nothing else does.
    pub async fn strike(&self, aimed: &Aimed, fault: Fault) -> Result<Broken, PortError> {
        let Aimed { id, task_manager: manager, pid } = aimed;
        self.placement.refuse_shared(id, manager).await?;
        let signal = match fault {
            Fault::Crash => Signal::KILL,
            Fault::Hang => Signal::STOP,
        };
        if signal_taskmanager(&self.folder, manager, *pid, signal) {
            return Ok(Broken { task_manager: manager.clone(), at: Instant::now() });
        }
        Err(self.no_process(id, manager))
    }

    async fn find(&self, id: &str) -> Result<Aimed, PortError> {
        let task_manager = self.placement.of(id).await?;
        let pid = find_taskmanager(&self.folder, &task_manager);
        let pid = pid.ok_or_else(|| self.no_process(id, &task_manager))?;
        Ok(Aimed { id: id.to_owned(), task_manager, pid })
    }

    fn no_process(&self, id: &str, manager: &str) -> PortError {
        let folder = self.folder.display();
        PortError::Refused(format!(
            "job {id} is on TaskManager {manager}, which is no living process of the lab in {folder}: \
             it died just now, or this Flink is another lab's"
        ))
    }

    fn aims(&self) -> MutexGuard<'_, BTreeMap<String, Aimed>> {
        self.aimed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl FaultInjector for LabInjector {
    async fn aim(&self, clone: &CloneId) -> Result<(), PortError> {
        let id = &clone.engine_id().0;
        let aimed = self.find(id).await?;
        self.aims().insert(id.clone(), aimed);
        Ok(())
    }

    async fn inject(&self, clone: &CloneId, fault: Fault) -> Result<(), PortError> {
        let id = &clone.engine_id().0;
        let aimed = self.aims().remove(id);
        let aimed = match aimed {
            Some(aimed) => aimed,
            None => self.find(id).await?,
        };
        self.strike(&aimed, fault).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_none_is_refused() {
        let refused = LabInjector::at(Path::new("/lab"), "the lab").unwrap_err().to_string();
        assert!(refused.contains("khaos lab status"), "{refused}");
    }
}
