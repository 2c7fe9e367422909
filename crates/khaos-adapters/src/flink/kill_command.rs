//! Breaking clones by a command of the user's: whoever runs the cluster knows how a TaskManager is killed.

use std::collections::BTreeMap;
use std::fmt;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use khaos_control::ports::{CloneId, Fault, FaultInjector, PortError};
use tokio::process::Command;
use tokio::time::timeout;

use super::placement::Placement;
use super::rest::FLINK;

/// How long the command may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much of what it said is told.
const TOLD: usize = 500;

/// Kills the TaskManager of a clone by a command, for example
/// `kubectl delete pod --grace-period=0 --force {taskmanager}`: on Kubernetes Flink calls a TaskManager by its
/// pod. Refuses where anything but the clone has a slot on it, or could get one while the command runs. The failure is where the command returns: one
/// that comes back before or long after the process is gone makes dead times look longer or shorter.
pub struct KillCommand {
    placement: Placement,
    command: Vec<String>,
    /// The TaskManagers of clones that were aimed at.
    aimed: Mutex<BTreeMap<String, String>>,
}

impl fmt::Debug for KillCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KillCommand").field("command", &self.command).finish_non_exhaustive()
    }
}

impl KillCommand {
    /// What stands for the TaskManager's id in the command.
    pub const TASK_MANAGER: &str = "{taskmanager}";

    /// For clones on the cluster whose REST API is at `url`: `command` is a program and its arguments, which no
    /// shell sees. Nothing is asked yet.
    pub fn new(url: &str, command: Vec<String>) -> Result<Self, PortError> {
        Ok(Self { placement: Placement::at(url, &FLINK)?, command, aimed: Mutex::default() })
    }

    /// The TaskManager to kill for the clone `id`.
    async fn find(&self, id: &str) -> Result<String, PortError> {
        let manager = self.placement.of(id).await?;
        self.placement.refuse_shareable(id, &manager).await?;
        Ok(manager)
    }

    async fn kill(&self, manager: &str) -> Result<(), PortError> {
        let words = || self.command.iter().map(|word| word.replace(Self::TASK_MANAGER, manager));
        let said = words().collect::<Vec<_>>().join(" ");
        let refused = |why: &str| PortError::Refused(format!("kill, `{said}`: {why}"));
        let mut words = words();
        let program = words.next().ok_or_else(|| refused("there is no command"))?;
        let child = Command::new(program)
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| refused(&error.to_string()))?;
        let ended = timeout(PATIENCE, child.wait_with_output());
        match ended.await {
            Err(_) => Err(refused(&format!("it did not end within {} s", PATIENCE.as_secs()))),
            Ok(Err(error)) => Err(refused(&error.to_string())),
            Ok(Ok(output)) if output.status.success() => Ok(()),
            Ok(Ok(output)) => {
                let told = String::from_utf8_lossy(&output.stderr);
                let told: String = told.trim().chars().take(TOLD).collect();
                Err(refused(&format!("{}: {told}", output.status)))
            }
        }
    }

    fn aims(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.aimed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl FaultInjector for KillCommand {
    async fn aim(&self, clone: &CloneId) -> Result<(), PortError> {
        let id = &clone.engine_id().0;
        let manager = self.find(id).await?;
        self.aims().insert(id.clone(), manager);
        Ok(())
    }

    async fn inject(&self, clone: &CloneId, fault: Fault) -> Result<(), PortError> {
        let Fault::Crash = fault else {
            return Err(PortError::Refused("a command can kill, and nothing else".to_owned()));
        };
        let id = &clone.engine_id().0;
        let aimed = self.aims().remove(id);
        let manager = match aimed {
            Some(manager) => manager,
            None => self.find(id).await?,
        };
        // What was so when it was aimed at need not be so now.
        self.placement.refuse_shareable(id, &manager).await?;
        self.kill(&manager).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use khaos_control::core::job::{EngineJobId, JobKey};
    use khaos_control::core::record::RecordId;
    use khaos_control::core::units::{CheckpointInterval, Timestamp};
    use khaos_control::ports::{CloneHost, CloneSpec, Clones, RunningClone};
    use serde_json::json;

    use super::*;
    use crate::flink::stub;

    fn spec() -> CloneSpec {
        CloneSpec {
            of: JobKey("orders".to_owned()),
            campaign: RecordId::of_digits("0123456789abcdef0123456789abcdef").unwrap(),
            index: 0,
            interval: CheckpointInterval::from_secs(45).unwrap(),
            deadline: Timestamp(1_764_000_000_000),
        }
    }

    /// Whoever has launched the clone `c`.
    struct Host;

    #[async_trait]
    impl CloneHost for Host {
        async fn launch(&self, _: &CloneSpec) -> Result<EngineJobId, PortError> {
            Ok(EngineJobId("c".to_owned()))
        }

        async fn terminate(&self, _: &EngineJobId) -> Result<(), PortError> {
            Ok(())
        }

        async fn running(&self) -> Result<Vec<RunningClone>, PortError> {
            Ok(vec![RunningClone { engine_id: EngineJobId("c".to_owned()), spec: spec() }])
        }
    }

    /// Which jobs have slots on a TaskManager, and how many of its slots are free.
    type Slots = (&'static [&'static str], u32);

    const ALONE: Slots = (&["c"], 0);

    /// Kills the TaskManager of the clone `c`, which has two subtasks on `tm-1` and one on `tm-2`: what is said,
    /// and whether the command was run. `slots` are those of a TaskManager before and after the clone was aimed
    /// at; it is not aimed at first where `aims` is false.
    fn injected(
        aims: bool,
        slots: impl Fn(&str, bool) -> Slots + Send + 'static,
    ) -> (Result<(), PortError>, bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let aimed = Arc::new(Mutex::new(false));
            let is_aimed = Arc::clone(&aimed);
            let url = stub::serve(move |request, _| {
                let answer = match request {
                    "GET /jobs/c" => {
                        json!({ "name": "clone", "state": "RUNNING", "vertices": [{ "id": "v" }] })
                    }
                    "GET /jobs/c/vertices/v" => {
                        let on = |tm: &str| json!({ "status": "RUNNING", "taskmanager-id": tm });
                        json!({ "subtasks": [on("tm-2"), on("tm-1"), on("tm-1")] })
                    }
                    _ => {
                        let manager = request.strip_prefix("GET /taskmanagers/").unwrap();
                        let (jobs, free) = slots(manager, *is_aimed.lock().unwrap());
                        let jobs = jobs.iter().map(|job| json!({ "jobId": job }));
                        json!({ "allocatedSlots": jobs.collect::<Vec<_>>(), "freeSlots": free })
                    }
                };
                ("200 OK", answer.to_string())
            });
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("{taskmanager}").display().to_string();
            let kill = KillCommand::new(&url.await, vec!["touch".to_owned(), file]).unwrap();
            let clone = Clones::new(Arc::new(Host)).deploy(&spec()).await.unwrap();
            let came = async {
                if aims {
                    kill.aim(&clone).await?;
                }
                *aimed.lock().unwrap() = true;
                kill.inject(&clone, Fault::Crash).await
            };
            let came = came.await;
            assert!(!folder.path().join("tm-2").exists(), "tm-1 has most of it");
            (came, folder.path().join("tm-1").exists())
        })
    }

    #[test]
    fn a_clone_that_has_its_taskmanagers_for_itself_is_killed() {
        for aims in [true, false] {
            assert_eq!(injected(aims, |_, _| ALONE), (Ok(()), true));
        }
    }

    #[test]
    fn where_others_are_or_could_come_nothing_is_killed() {
        let cases: [(Slots, &str); 3] = [
            ((&["c", "production"], 0), "shares TaskManager tm-1 with job production"),
            ((&["c"], 1), "another job could come onto it while it is killed"),
            ((&[], 0), "has left TaskManager tm-1: aim again"),
        ];
        for (slots, why) in cases {
            // When it is aimed at, between that and the kill, and without having been aimed at.
            for (aims, late) in [(true, false), (true, true), (false, true)] {
                let of = move |manager: &str, aimed: bool| {
                    if manager == "tm-1" && aimed == late { slots } else { ALONE }
                };
                let (came, killed) = injected(aims, of);
                let Err(PortError::Refused(said)) = came else { panic!("{came:?}") };
                assert!(said.contains(why), "{said}");
                assert!(!killed, "{said}");
            }
        }
    }

    #[test]
    fn a_clone_that_competes_on_any_taskmanager_is_not_killed() {
        let shared: Slots = (&["production", "c"], 0);
        let of = move |manager: &str, _: bool| if manager == "tm-2" { shared } else { ALONE };
        let (came, killed) = injected(true, of);
        let Err(PortError::Refused(said)) = came else { panic!("{came:?}") };
        assert!(said.contains("shares TaskManager tm-2 with job production"), "{said}");
        assert!(!killed);
    }

    fn killed(command: &[&str], manager: &str) -> Result<(), PortError> {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let kill = KillCommand::new("http://127.0.0.1:1", command).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(kill.kill(manager))
    }

    #[test]
    fn the_command_is_given_the_taskmanager_and_no_shell() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("$HOME; tm-1");
        let command = ["touch", &folder.path().join("{taskmanager}").display().to_string()];
        killed(&command, "$HOME; tm-1").unwrap();
        assert!(file.is_file());
    }

    #[test]
    fn what_does_not_kill_says_why() {
        let said = killed(&["ls", "/no such/{taskmanager}"], "tm-1").unwrap_err().to_string();
        assert!(said.contains("`ls /no such/tm-1`") && said.contains("No such file"), "{said}");
        let said = killed(&["no-such-program-of-khaos"], "tm-1").unwrap_err().to_string();
        assert!(said.contains("no-such-program-of-khaos"), "{said}");
    }
}
