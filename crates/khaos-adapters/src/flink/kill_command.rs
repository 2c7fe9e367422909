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

/// What stands for the TaskManager's id in the command.
const TASK_MANAGER: &str = "{taskmanager}";
/// How long the command may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much of what it said is told.
const TOLD: usize = 500;

/// Kills the TaskManager of a clone by a command, for example
/// `kubectl delete pod --grace-period=0 --force {taskmanager}`: on Kubernetes Flink calls a TaskManager by its
/// pod. Refuses where anything but the clone has a slot on it. The failure is where the command returns: one
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
    /// For clones on the cluster whose REST API is at `url`: `command` is a program and its arguments, which no
    /// shell sees. Nothing is asked yet.
    pub fn new(url: &str, command: Vec<String>) -> Result<Self, PortError> {
        Ok(Self { placement: Placement::at(url, &FLINK)?, command, aimed: Mutex::default() })
    }

    async fn kill(&self, manager: &str) -> Result<(), PortError> {
        let words = || self.command.iter().map(|word| word.replace(TASK_MANAGER, manager));
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
        let manager = self.placement.of(id).await?;
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
            None => self.placement.of(id).await?,
        };
        self.placement.refuse_shared(id, &manager).await?;
        self.kill(&manager).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
