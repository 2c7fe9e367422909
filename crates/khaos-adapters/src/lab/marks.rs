//! By what the lab's processes are found: marks on their command lines.
//!
//! Every process carries its run folder and its role as arguments, from its first moment on. So a lab that
//! lost its khaos is found by looking at what runs: no list of pids that could be behind, or name a process
//! that has nothing to do with it.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};
use tokio::time::{Duration, Instant, sleep_until};

use super::Role;
use super::error::LabError;
use super::process::{GRACE, POLL};

/// How long the kernel has after SIGKILL.
const DEATH: Duration = Duration::from_secs(10);

pub(super) const MARK_ROLE: &str = "-Dkhaos.role=";

/// Whose it is: an argument of every process of the lab in `folder`.
pub(super) fn folder_mark(folder: &Path) -> OsString {
    let mut mark = OsString::from("-Dkhaos.lab=");
    mark.push(folder);
    mark
}

/// Which it is: an argument of the TaskManager that Flink calls `id`, and of no other.
pub(super) fn resource_mark(id: &str) -> String {
    format!("taskmanager.resource-id={id}")
}

/// A process that carries a lab's mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    pub(super) role: Role,
    pub(super) pid: u32,
}

/// All processes of the lab in `folder`, whoever started them. Dead ones that nobody waited for have lost
/// their arguments and do not count.
pub(super) fn find(folder: &Path) -> Vec<Found> {
    let mark = folder_mark(folder);
    let system = look_at(ProcessesToUpdate::All);
    let mut found: Vec<Found> = system
        .processes()
        .values()
        .filter(|process| process.cmd().contains(&mark))
        .filter_map(|process| {
            let role = process
                .cmd()
                .iter()
                .find_map(|argument| argument.to_str()?.strip_prefix(MARK_ROLE)?.parse().ok())?;
            Some(Found { role, pid: process.pid().as_u32() })
        })
        .collect();
    found.sort_unstable();
    found
}

/// The process of the TaskManager that Flink calls `id`, in the lab in `folder`, while it lives.
pub(super) fn find_taskmanager(folder: &Path, id: &str) -> Option<Pid> {
    let system = look_at(ProcessesToUpdate::All);
    let found = system.processes().values().find(|process| is_taskmanager(process, folder, id))?;
    Pid::from_raw(found.pid().as_u32() as i32)
}

/// Sends `signal` to the process `pid`, if it is still that TaskManager: whether it was.
pub(super) fn signal_taskmanager(folder: &Path, id: &str, pid: Pid, signal: Signal) -> bool {
    let there = sysinfo::Pid::from_u32(pid.as_raw_pid().cast_unsigned());
    let system = look_at(ProcessesToUpdate::Some(&[there]));
    let is_it = system.process(there).is_some_and(|process| is_taskmanager(process, folder, id));
    is_it && kill_process(pid, signal).is_ok()
}

fn is_taskmanager(process: &sysinfo::Process, folder: &Path, id: &str) -> bool {
    let (folder, id) = (folder_mark(folder), resource_mark(id));
    let carries = |mark: &OsStr| process.cmd().iter().any(|argument| argument == mark);
    carries(&folder) && carries(id.as_ref())
}

fn look_at(which: ProcessesToUpdate<'_>) -> System {
    let mut system = System::new();
    let what = ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always).without_tasks();
    system.refresh_processes_specifics(which, true, what);
    system
}

/// Ends all processes of the lab in `folder` that nobody supervises, and says how many there were.
///
/// Before every signal it looks again who carries the mark.
pub(super) async fn end_leftovers(folder: &Path) -> Result<usize, LabError> {
    let there = find(folder);
    let mut left = there.clone();
    for (signal, patience) in [(Signal::TERM, GRACE), (Signal::KILL, DEATH)] {
        for process in &left {
            if let Some(pid) = Pid::from_raw(process.pid as i32) {
                // What cannot be signalled is still there at the end.
                let _ = kill_process(pid, signal);
            }
        }
        let deadline = Instant::now() + patience;
        while !left.is_empty() && Instant::now() < deadline {
            sleep_until(Instant::now() + POLL).await;
            left = find(folder);
        }
    }
    match left.first() {
        None => Ok(there.len()),
        Some(&Found { role, pid }) => Err(LabError::StillAlive { pid, role }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::super::process::tests::{marked, runs};
    use super::*;

    #[tokio::test]
    async fn what_a_dead_khaos_left_is_found_by_its_mark_and_ended() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, other) = (dir.path().join("lab"), dir.path().join("lab2"));
        // One that does not listen to SIGTERM, and one of a lab whose name begins like ours. It starts no other
        // process: until that has its own command line it carries the same marks.
        let stubborn = "trap '' TERM; echo; kill -STOP $$; exit";
        let mut first = marked(&ours, Role::TaskManager(2), stubborn);
        let mut foreign = marked(&other, Role::JobManager, "echo; while :; do sleep 0.05; done");
        runs(&mut first);
        runs(&mut foreign);
        let found = Found { role: Role::TaskManager(2), pid: first.pid() };
        assert_eq!(find(&ours), [found]);
        assert_eq!(end_leftovers(&ours).await.unwrap(), 1);
        assert_eq!(first.ended().unwrap().signal(), Some(9));
        assert_eq!(foreign.ended(), None);
        assert_eq!(end_leftovers(&ours).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_taskmanager_is_signalled_only_while_its_process_carries_both_marks() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, other) = (dir.path().join("lab"), dir.path().join("lab2"));
        // No `exec`: it would take the marks away; and no child, which would carry them for a moment.
        let script = "echo; kill -STOP $$; exit";
        let mut process = marked(&ours, Role::TaskManager(1), script);
        let mut foreign = marked(&other, Role::TaskManager(2), script);
        runs(&mut process);
        runs(&mut foreign);
        let id = "taskmanager-1-first";
        let pid = find_taskmanager(&ours, id).unwrap();
        assert_eq!(pid.as_raw_pid().cast_unsigned(), process.pid());
        assert_eq!(find_taskmanager(&ours, "taskmanager-2-first"), None, "another lab's");
        assert_eq!(find_taskmanager(&ours, "taskmanager-1-fir"), None, "another's name");

        let theirs = find_taskmanager(&other, "taskmanager-2-first").unwrap();
        assert!(
            !signal_taskmanager(&ours, id, theirs, Signal::KILL),
            "the pid is another's by now"
        );
        assert_eq!(foreign.ended(), None);
        assert!(signal_taskmanager(&ours, id, pid, Signal::KILL));
        while process.ended().is_none() {
            sleep_until(Instant::now() + POLL).await;
        }
        assert!(!signal_taskmanager(&ours, id, pid, Signal::KILL), "it is dead");
    }
}
