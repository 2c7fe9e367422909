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
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::folder::absolute;
use super::marks::{find_taskmanager, signal_taskmanager};
use crate::flink::Errors;
use crate::http::{Http, Peer};

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
    http: Http,
    /// Clones that were aimed at.
    aimed: Mutex<BTreeMap<String, Aimed>>,
}

impl LabInjector {
    /// For the lab in `folder`, whose REST interface is at `rest_url`. Nothing is asked yet.
    pub fn at(folder: &Path, rest_url: &str) -> Result<Self, PortError> {
        let folder = absolute(folder).map_err(|error| PortError::Refused(error.to_string()))?;
        Ok(Self { folder, http: Http::at(rest_url, &FLINK)?, aimed: Mutex::default() })
    }

    /// Breaks the present deployment of a job that the lab submitted: the one of its name that has not
    /// ended.
    pub async fn hurt(&self, target: &LabTarget, fault: Fault) -> Result<Broken, PortError> {
        self.strike(&self.aim_at(target).await?, fault).await
    }

    /// Looks up what it takes to break the present deployment of a job that the lab submitted.
    pub async fn aim_at(&self, target: &LabTarget) -> Result<Aimed, PortError> {
        let what = format!("job '{}' in the lab", target.name);
        let overview: Overview = self.get("/jobs/overview", &what).await?;
        let name = &target.name;
        let there = |job: &&Summary| job.name == *name && !ENDED.contains(&job.state.as_str());
        let ids: Vec<&str> =
            overview.jobs.iter().filter(there).map(|job| job.jid.as_str()).collect();
        match ids[..] {
            [id] => self.find(id).await,
            [] => Err(PortError::NotFound(format!("{what} that has not ended"))),
            [..] => Err(PortError::Refused(format!(
                "{} jobs are called '{name}' ({}): give each a name of its own, or end the others",
                ids.len(),
                ids.join(", ")
            ))),
        }
    }

    /// Breaks what was aimed at, where it still runs there and nothing else does.
    pub async fn strike(&self, aimed: &Aimed, fault: Fault) -> Result<Broken, PortError> {
        let Aimed { id, task_manager: manager, pid } = aimed;
        self.refuse_shared(id, manager).await?;
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
        let job: Job = self.get(&format!("/jobs/{id}"), &format!("job {id} in the lab")).await?;
        let refuse = |why: String| PortError::Refused(format!("job '{}' ({id}) {why}", job.name));
        if job.state != "RUNNING" {
            let state = job.state;
            return Err(refuse(format!("is {state}: only what runs can be broken")));
        }
        let mut subtasks = Vec::new();
        for Vertex { id: vertex } in &job.vertices {
            let path = format!("/jobs/{id}/vertices/{vertex}");
            let details: VertexDetails = self.get(&path, &format!("vertex {vertex}")).await?;
            subtasks.extend(details.subtasks);
        }
        let Some(manager) = with_most(&subtasks) else {
            return Err(refuse("is on no TaskManager yet: wait until it runs".to_owned()));
        };
        self.refuse_shared(id, manager).await?;
        let pid = find_taskmanager(&self.folder, manager);
        let pid = pid.ok_or_else(|| self.no_process(id, manager))?;
        Ok(Aimed { id: id.to_owned(), task_manager: manager.to_owned(), pid })
    }

    /// Refuses where anything but the job has a slot on the TaskManager, or the job has none.
    async fn refuse_shared(&self, id: &str, manager: &str) -> Result<(), PortError> {
        let path = format!("/taskmanagers/{manager}");
        let slots: TaskManager = self.get(&path, &format!("TaskManager {manager}")).await?;
        let refuse = |why: String| Err(PortError::Refused(format!("job {id} {why}")));
        if let Some(other) = slots.allocated_slots.iter().find(|slot| slot.job_id != id) {
            let other = &other.job_id;
            return refuse(format!(
                "shares TaskManager {manager} with job {other}, which would be hurt too: give the lab \
                 one slot for each TaskManager"
            ));
        }
        if slots.allocated_slots.is_empty() {
            return refuse(format!("has left TaskManager {manager}: aim again"));
        }
        Ok(())
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

    /// `what` names what is asked for, should there be none.
    async fn get<T: DeserializeOwned>(&self, path: &str, what: &str) -> Result<T, PortError> {
        self.http.ask(self.http.get(path), path, Some(what)).await
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

/// The TaskManager with most subtasks that are there, the first by name where several have as many.
fn with_most(subtasks: &[Subtask]) -> Option<&str> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let there = subtasks.iter().filter(|subtask| THERE.contains(&subtask.status.as_str()));
    for manager in there.filter_map(|subtask| subtask.task_manager.as_deref()) {
        *counts.entry(manager).or_default() += 1;
    }
    // The last of several maxima is taken: the first by name.
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(manager, _)| manager)
}

/// States of a job that has ended.
const ENDED: [&str; 3] = ["FINISHED", "CANCELED", "FAILED"];
/// States of a subtask that is on a TaskManager.
const THERE: [&str; 3] = ["DEPLOYING", "INITIALIZING", "RUNNING"];

/// `GET /jobs/overview`
#[derive(Debug, Deserialize)]
struct Overview {
    jobs: Vec<Summary>,
}

#[derive(Debug, Deserialize)]
struct Summary {
    jid: String,
    name: String,
    state: String,
}

/// `GET /jobs/J`
#[derive(Debug, Deserialize)]
struct Job {
    name: String,
    state: String,
    vertices: Vec<Vertex>,
}

#[derive(Debug, Deserialize)]
struct Vertex {
    id: String,
}

/// `GET /jobs/J/vertices/V`
#[derive(Debug, Deserialize)]
struct VertexDetails {
    subtasks: Vec<Subtask>,
}

#[derive(Debug, Deserialize)]
struct Subtask {
    status: String,
    #[serde(rename = "taskmanager-id")]
    task_manager: Option<String>,
}

/// `GET /taskmanagers/T`
#[derive(Debug, Deserialize)]
struct TaskManager {
    #[serde(rename = "allocatedSlots")]
    allocated_slots: Vec<Slot>,
}

#[derive(Debug, Deserialize)]
struct Slot {
    #[serde(rename = "jobId")]
    job_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_taskmanager_with_most_of_the_job_is_broken() {
        let chosen = |there: &[(&str, &str)]| {
            let subtask = |&(status, manager): &(&str, &str)| Subtask {
                status: status.to_owned(),
                task_manager: Some(manager.to_owned()),
            };
            let subtasks: Vec<Subtask> = there.iter().map(subtask).collect();
            with_most(&subtasks).map(str::to_owned)
        };
        let runs = |manager| ("RUNNING", manager);
        assert_eq!(chosen(&[runs("tm1"), runs("tm2"), runs("tm2")]).unwrap(), "tm2");
        assert_eq!(chosen(&[runs("tm2"), runs("tm1")]).unwrap(), "tm1");
        let ended = [("FINISHED", "tm1"), ("FINISHED", "tm1"), ("INITIALIZING", "tm2")];
        assert_eq!(chosen(&ended).unwrap(), "tm2");
        assert_eq!(chosen(&[("SCHEDULED", "(unassigned)")]), None);
        assert_eq!(chosen(&[]), None);
    }

    #[test]
    fn an_address_that_is_none_is_refused() {
        let refused = LabInjector::at(Path::new("/lab"), "the lab").unwrap_err().to_string();
        assert!(refused.contains("khaos lab status"), "{refused}");
    }
}
