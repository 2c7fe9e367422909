//! A lab from outside, whoever started it: how it is, and its end.

use std::path::{Path, PathBuf};

use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use super::folder::{self, Found, RunFolder, State};
use super::marks::{self, end_leftovers};
use super::{LOOK, LabError, Role, TAKE_DOWN, error, roles};

/// What [`down`] had to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Nothing: there was no lab.
    Nothing,
    /// A khaos supervised the lab, and has ended it.
    Supervised,
    /// A khaos that is dead left this many processes, or a khaos that failed left its logs.
    Left(usize),
}

/// Ends the lab in `folder`, whoever started it, and removes the folder.
pub async fn down(folder: &Path) -> Result<Ended, LabError> {
    let path = folder::absolute(folder)?;
    let deadline = Instant::now() + TAKE_DOWN;
    let mut supervised = false;
    loop {
        match RunFolder::find(&path)? {
            Found::Nothing if supervised => return Ok(Ended::Supervised),
            Found::Nothing => {
                let left = end_leftovers(&path).await?;
                return Ok(if left == 0 { Ended::Nothing } else { Ended::Left(left) });
            }
            Found::Left(mut folder) => {
                let left = end_leftovers(&path).await?;
                folder.remove()?;
                return Ok(if supervised { Ended::Supervised } else { Ended::Left(left) });
            }
            Found::Supervised if Instant::now() < deadline => {
                folder::ask_to_end(&path)?;
                supervised = true;
                sleep_until(Instant::now() + LOOK).await;
            }
            // It hangs. When it wakes up it finds its folder gone and ends.
            Found::Supervised => {
                let left = end_leftovers(&path).await?;
                error::at(&path, "--dir", std::fs::remove_dir_all(&path))?;
                return Ok(Ended::Left(left));
            }
        }
    }
}

/// What state a lab is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// There is none.
    None,
    /// A khaos is starting it.
    Starting,
    /// It is up, and a khaos supervises it.
    Up,
    /// It runs, but the khaos that supervised it is dead.
    Abandoned,
    /// It failed, or was killed with its khaos; its folder is still there.
    Ended,
}

/// What there is to know about a lab from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Its run folder.
    pub folder: PathBuf,
    /// Its state.
    pub phase: Phase,
    /// Its Flink's version, once it is known; none where it has no Flink.
    pub flink: Option<String>,
    /// Where Flink's REST interface is, once that is known.
    pub rest_url: Option<String>,
    /// Its Kafka's version, once it is known; none where it has no Kafka.
    pub kafka: Option<String>,
    /// Where Kafka's clients begin, once that is known.
    pub bootstrap: Option<String>,
    /// Pid of the khaos that supervises it, where one does.
    pub supervisor: Option<u32>,
    /// The processes it should have, and those it has.
    pub processes: Vec<ProcessStatus>,
}

/// A process of a lab, from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ProcessStatus {
    /// Which.
    pub role: Role,
    /// Its pid, where it is alive.
    pub pid: Option<u32>,
    /// Whether it is.
    pub alive: bool,
}

/// Looks at the lab in `folder`, whoever started it, and changes nothing.
pub fn status(folder: &Path) -> Result<Status, LabError> {
    let folder = folder::absolute(folder)?;
    let supervised = folder::is_supervised(&folder)?;
    let told = folder::told(&folder);
    let found = marks::find(&folder);
    let alive = |role| found.iter().find(|found| found.role == role).map(|found| found.pid);
    let expected = told.iter().flat_map(|told| roles(told.task_managers, told.kafka.is_some()));
    let mut roles: Vec<Role> = expected.chain(found.iter().map(|found| found.role)).collect();
    roles.sort_unstable();
    roles.dedup();
    let process = |role| {
        let pid = alive(role);
        ProcessStatus { role, pid, alive: pid.is_some() }
    };
    let phase = match (&told, supervised) {
        (Some(State { ready: true, .. }), true) => Phase::Up,
        (_, true) => Phase::Starting,
        (_, false) if !found.is_empty() => Phase::Abandoned,
        (Some(_), false) => Phase::Ended,
        (None, false) => Phase::None,
    };
    Ok(Status {
        processes: roles.into_iter().map(process).collect(),
        supervisor: told.as_ref().filter(|_| supervised).map(|told| told.supervisor),
        flink: told.as_ref().and_then(|told| told.flink.clone()),
        rest_url: told.as_ref().and_then(|told| told.rest_url.clone()),
        kafka: told.as_ref().and_then(|told| told.kafka.clone()),
        bootstrap: told.and_then(|told| told.bootstrap),
        folder,
        phase,
    })
}
