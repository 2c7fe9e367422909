//! Where a job runs: the TaskManager that has most of it, whether it is there alone, and whether it stays
//! alone. Whoever breaks a job has to ask, because what dies with a TaskManager is all that runs on it.

use std::collections::{BTreeMap, BTreeSet};

use khaos_control::ports::PortError;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::deployment::has_ended;
use super::messages::{JobSummary, Overview};
use crate::http::{Http, Peer};

/// Which TaskManagers the jobs of a cluster are on.
#[derive(Debug)]
pub(crate) struct Placement {
    http: Http,
}

impl Placement {
    /// Of the cluster whose REST API is at `url`. Nothing is asked yet.
    pub(crate) fn at(url: &str, peer: &'static Peer) -> Result<Self, PortError> {
        Ok(Self { http: Http::at(url, peer)? })
    }

    /// The engine's id of the job called `name` that has not ended.
    pub(crate) async fn id_of(&self, name: &str) -> Result<String, PortError> {
        let what = format!("job '{name}' in the lab");
        let overview: Overview = self.get("/jobs/overview", &what).await?;
        let there = |job: &&JobSummary| job.name == name && !has_ended(&job.state);
        let ids: Vec<&str> =
            overview.jobs.iter().filter(there).map(|job| job.jid.as_str()).collect();
        match ids[..] {
            [id] => Ok(id.to_owned()),
            [] => Err(PortError::NotFound(format!("{what} that has not ended"))),
            [..] => Err(PortError::Refused(format!(
                "{} jobs are called '{name}' ({}): give each a name of its own, or end the others",
                ids.len(),
                ids.join(", ")
            ))),
        }
    }

    /// The TaskManager that has most of the job `id`. Nothing else has a slot on any that the job is on: one
    /// that competes with others recovers as nobody wants to know.
    pub(crate) async fn of(&self, id: &str) -> Result<String, PortError> {
        let job: Job = self.get(&format!("/jobs/{id}"), &format!("job {id}")).await?;
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
        for on in subtasks.iter().filter_map(Subtask::on).collect::<BTreeSet<_>>() {
            self.refuse_shared(id, on).await?;
        }
        Ok(manager.to_owned())
    }

    /// Refuses where anything but the job has a slot on the TaskManager, or the job has none. Enough for who
    /// kills at once.
    pub(crate) async fn refuse_shared(&self, id: &str, manager: &str) -> Result<(), PortError> {
        self.slots(manager).await?.refuse_shared(id, manager)
    }

    /// As [`Self::refuse_shared`], and where another job could come onto the TaskManager: for who kills by
    /// something that takes its time.
    pub(crate) async fn refuse_shareable(&self, id: &str, manager: &str) -> Result<(), PortError> {
        let slots = self.slots(manager).await?;
        slots.refuse_shared(id, manager)?;
        if slots.free_slots == 0 {
            return Ok(());
        }
        Err(PortError::Refused(format!(
            "job {id} leaves slots free on TaskManager {manager} (free: {}): another job could come onto it \
             while it is killed; give each TaskManager as many slots as a clone takes there, one is simplest \
             (taskmanager.numberOfTaskSlots)",
            slots.free_slots
        )))
    }

    async fn slots(&self, manager: &str) -> Result<TaskManager, PortError> {
        let path = format!("/taskmanagers/{manager}");
        self.get(&path, &format!("TaskManager {manager}")).await
    }

    /// `what` names what is asked for, should there be none.
    async fn get<T: DeserializeOwned>(&self, path: &str, what: &str) -> Result<T, PortError> {
        self.http.ask(self.http.get(path), path, Some(what)).await
    }
}

/// The TaskManager with most subtasks that are there, the first by name where several have as many.
fn with_most(subtasks: &[Subtask]) -> Option<&str> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for manager in subtasks.iter().filter_map(Subtask::on) {
        *counts.entry(manager).or_default() += 1;
    }
    // The last of several maxima is taken: the first by name.
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(manager, _)| manager)
}

/// States of a subtask that is on a TaskManager.
const THERE: [&str; 3] = ["DEPLOYING", "INITIALIZING", "RUNNING"];

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

impl Subtask {
    /// The TaskManager that it is on, if it is on any.
    fn on(&self) -> Option<&str> {
        let there = THERE.contains(&self.status.as_str());
        self.task_manager.as_deref().filter(|_| there)
    }
}

/// `GET /taskmanagers/T`
#[derive(Debug, Deserialize)]
struct TaskManager {
    #[serde(rename = "allocatedSlots")]
    allocated_slots: Vec<Slot>,
    #[serde(rename = "freeSlots")]
    free_slots: u32,
}

impl TaskManager {
    fn refuse_shared(&self, id: &str, manager: &str) -> Result<(), PortError> {
        let refuse = |why: String| Err(PortError::Refused(format!("job {id} {why}")));
        if let Some(other) = self.allocated_slots.iter().find(|slot| slot.job_id != id) {
            let other = &other.job_id;
            return refuse(format!(
                "shares TaskManager {manager} with job {other}, which would be hurt too: give each \
                 TaskManager one slot (taskmanager.numberOfTaskSlots)"
            ));
        }
        if self.allocated_slots.is_empty() {
            return refuse(format!("has left TaskManager {manager}: aim again"));
        }
        Ok(())
    }
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
}
