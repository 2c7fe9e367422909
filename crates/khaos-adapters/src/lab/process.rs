//! The lab's processes: started, watched, ended.

use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::str::FromStr;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Serialize, Serializer};
use sysinfo::{ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System};
use tokio::time::{Duration, Instant, sleep_until};

use super::config::Ports;
use super::error::LabError;
use super::folder::RunFolder;
use super::install::Installed;
use super::marks::{MARK_ROLE, folder_mark, resource_mark};

/// Which process of a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The one JobManager.
    JobManager,
    /// A TaskManager, from 1.
    TaskManager(u8),
    /// Kafka's one broker, which is its own controller.
    Broker,
}

impl Role {
    /// Among Flink's processes: 0 for the JobManager.
    pub(super) fn number(self) -> u8 {
        match self {
            Role::TaskManager(n) => n,
            Role::JobManager | Role::Broker => 0,
        }
    }

    pub(super) fn is_taskmanager(self) -> bool {
        matches!(self, Role::TaskManager(_))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::JobManager => f.write_str("jobmanager"),
            Role::TaskManager(n) => write!(f, "taskmanager-{n}"),
            Role::Broker => f.write_str("broker"),
        }
    }
}

impl FromStr for Role {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match (text.strip_prefix("taskmanager-"), text) {
            (Some(n), _) => n.parse().map(Role::TaskManager).map_err(drop),
            (None, "jobmanager") => Ok(Role::JobManager),
            (None, "broker") => Ok(Role::Broker),
            (None, _) => Err(()),
        }
    }
}

impl Serialize for Role {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How long a process has after SIGTERM. A JobManager that still holds an answer that nobody read would
/// take five seconds; nothing in a lab is worth that.
pub(super) const GRACE: Duration = Duration::from_secs(2);
pub(super) const POLL: Duration = Duration::from_millis(25);

/// Starts a process of the lab. Its log goes on where an earlier one of this role stopped.
pub(super) fn spawn(
    role: Role,
    start: u32,
    installed: &Installed,
    folder: &RunFolder,
    ports: Ports,
) -> Result<Process, LabError> {
    let mut command = java(role, installed, folder);
    match role {
        Role::JobManager => {
            let main = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint";
            command.args(FLINK_JVM).arg("-cp").arg(installed.flink.join("*")).arg(main);
        }
        Role::TaskManager(_) => {
            // Framework off-heap and network memory of `config.rs`; the heap is framework and task.
            command.args(FLINK_JVM).arg("-XX:MaxDirectMemorySize=80m");
            let main = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner";
            command.arg("-cp").arg(installed.flink.join("*")).arg(main);
        }
        Role::Broker => {
            command.arg(BROKER_HEAP).args(KAFKA_JVM);
            command.arg("-cp").arg(installed.kafka.join("*")).arg("kafka.Kafka");
            command.arg(folder.path().join(SERVER_PROPERTIES));
            return run(command, role, folder);
        }
    }
    command.arg("--configDir").arg(folder.path().join("conf"));
    for (key, value) in ports.options(role) {
        command.arg("-D").arg(format!("{key}={value}"));
    }
    if let Role::TaskManager(n) = role {
        // A name of its own for every start: Flink takes the second bearer of a name for the first.
        let us = std::process::id();
        command.arg("-D").arg(resource_mark(&format!("tm{n}-{us}-{start}")));
    }
    run(command, role, folder)
}

/// Starts what makes the broker's data folder, once for all of its starts.
pub(super) fn format(installed: &Installed, folder: &RunFolder) -> Result<Process, LabError> {
    let role = Role::Broker;
    let mut command = java(role, installed, folder);
    command.args(FORMAT_JVM).arg("-cp").arg(installed.kafka.join("*"));
    command.args(["kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER_ID, "--config"]);
    command.arg(folder.path().join(SERVER_PROPERTIES));
    run(command, role, folder)
}

/// A program of Kafka's distribution, by its class, as its scripts start it: no process of the lab.
pub(super) fn kafka_program(class: &str, installed: &Installed) -> Command {
    let mut command = Command::new(&installed.java);
    command.arg(KAFKA_PROGRAM_HEAP).args(KAFKA_JVM).arg("-XX:-UsePerfData");
    command.arg("-cp").arg(installed.kafka.join("*")).arg(class);
    command
}

/// A Java that carries the lab's marks, logs where the lab's logs are and leaves nothing elsewhere.
fn java(role: Role, installed: &Installed, folder: &RunFolder) -> Command {
    let logging = folder.path().join("conf/log4j.properties");
    let tmp = folder.path().join("tmp");
    let mut command = Command::new(&installed.java);
    command.arg(folder_mark(folder.path())).arg(format!("{MARK_ROLE}{role}"));
    command.arg(format!("-Dlog4j.configurationFile={}", logging.display()));
    command.arg(format!("-Djava.io.tmpdir={}", tmp.display()));
    // Otherwise a killed Java leaves its counters in the system's folder for temporary files.
    command.arg("-XX:-UsePerfData");
    command
}

fn run(mut command: Command, role: Role, folder: &RunFolder) -> Result<Process, LabError> {
    let log = folder.log(&role.to_string());
    let program = PathBuf::from(command.get_program());
    let failed = |source| LabError::Spawn { program: program.clone(), source };
    let out = OpenOptions::new().create(true).append(true).open(&log).map_err(failed)?;
    let err = out.try_clone().map_err(failed)?;
    // Its own group: a Ctrl-C in the terminal is for khaos, which ends the lab in order.
    command.current_dir(folder.path()).process_group(0);
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    let child = command.spawn().map_err(failed)?;
    Ok(Process { child, log, started: Instant::now() })
}

/// Where the broker's configuration is, in the run folder.
pub(super) const SERVER_PROPERTIES: &str = "conf/server.properties";
/// Kafka wants sixteen bytes in this form; every lab is a cluster of its own, whatever it is called.
const CLUSTER_ID: &str = "a2hhb3MtbGFiLWthZmthMQ";

/// The heap of the broker: what it serves is in the kernel's page cache, and several labs are to fit.
const BROKER_HEAP: &str = "-Xmx256m";
/// The heap of the programs beside it, as Kafka's scripts have it.
const KAFKA_PROGRAM_HEAP: &str = "-Xmx512m";
/// What Kafka's scripts tell every Java.
const KAFKA_JVM: [&str; 5] = [
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-Djava.awt.headless=true",
];
/// A tool that runs for a second.
const FORMAT_JVM: [&str; 3] = ["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

/// What Flink needs of its Java, and what keeps three of them small.
const FLINK_JVM: [&str; 18] = [
    "-Xms256m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:MaxMetaspaceSize=128m",
    "--add-exports=java.base/sun.net.util=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--add-opens=java.base/java.net=ALL-UNNAMED",
    "--add-opens=java.base/java.io=ALL-UNNAMED",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens=java.base/java.lang.reflect=ALL-UNNAMED",
    "--add-opens=java.base/java.text=ALL-UNNAMED",
    "--add-opens=java.base/java.time=ALL-UNNAMED",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED",
    "--add-opens=java.base/java.util.concurrent.atomic=ALL-UNNAMED",
    "--add-opens=java.base/java.util.concurrent.locks=ALL-UNNAMED",
];

/// A process that we started and have not waited for: until then its pid is nobody else's.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    log: PathBuf,
    started: Instant,
}

impl Process {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// When it was started.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// Whether it is stopped, as by SIGSTOP: there, and doing nothing.
    pub(super) fn is_stopped(&self) -> bool {
        let pid = sysinfo::Pid::from_u32(self.pid());
        let mut system = System::new();
        let what = ProcessRefreshKind::nothing().without_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, what);
        system.process(pid).is_some_and(|process| process.status() == ProcessStatus::Stop)
    }

    pub(super) fn log_ends_with(&self) -> String {
        log_ends_with(&self.log)
    }

    pub(super) fn ask_to_end(&self) {
        // Fails only when it has ended already.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
    }

    /// SIGKILL, and gone when this returns.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// SIGTERM to all, SIGKILL after the grace.
pub(super) async fn end(processes: impl IntoIterator<Item = Process>) {
    let mut processes: Vec<Process> = processes.into_iter().collect();
    processes.iter().for_each(Process::ask_to_end);
    let deadline = Instant::now() + GRACE;
    while !processes.is_empty() && Instant::now() < deadline {
        processes.retain_mut(|process| process.ended().is_none());
        sleep_until(Instant::now() + POLL).await;
    }
    processes.iter_mut().for_each(Process::kill);
}

/// How a process ended, in words.
pub(super) fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (None, Some(signal)) => format!("by signal {signal}"),
        (Some(code), _) => format!("with exit code {code}"),
        (None, None) => "for an unknown reason".to_owned(),
    }
}

/// The end of a log, in one line: from the last error on where there is one, without stack frames.
pub(super) fn log_ends_with(log: &Path) -> String {
    let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let text = text.unwrap_or_default();
    let words =
        |line: &&str| !line.is_empty() && !line.starts_with("at ") && !line.starts_with("...");
    let lines: Vec<&str> = text.lines().map(str::trim).filter(words).collect();
    let bad = |line: &&str| {
        [" ERROR ", " FATAL ", "Exception", "Error:", "Error "].iter().any(|bad| line.contains(bad))
    };
    let error = lines.iter().rposition(|line| line.contains(" ERROR ")).unwrap_or(0);
    let mut telling: Vec<&str> = lines[error..].iter().filter(|line| bad(line)).copied().collect();
    if telling.is_empty() {
        telling = lines[lines.len().saturating_sub(2)..].to_vec();
    }
    if telling.is_empty() {
        return "nothing".to_owned();
    }
    // What happened stands first, its causes last.
    telling.drain(1..telling.len().saturating_sub(2).max(1));
    telling.into_iter().map(short).collect::<Vec<_>>().join(" … ")
}

fn short(line: &str) -> String {
    const LENGTH: usize = 300;
    if line.chars().count() <= LENGTH {
        return line.to_owned();
    }
    line.chars().take(LENGTH).chain(['…']).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::marks::find;
    use super::*;

    /// A process that is no Java but carries the marks: what `find` goes by.
    pub(in super::super) fn marked(folder: &Path, role: Role, script: &str) -> Process {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg(folder_mark(folder)).arg(format!("{MARK_ROLE}{role}"));
        command.arg(resource_mark(&format!("{role}-first")));
        let child = command.process_group(0).stdout(Stdio::piped()).spawn().unwrap();
        Process { child, log: PathBuf::new(), started: Instant::now() }
    }

    /// Waits until the script has said something.
    pub(in super::super) fn runs(process: &mut Process) {
        use std::io::Read;
        process.child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    }

    #[tokio::test]
    async fn a_process_has_its_grace_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let left = dir.path().join("left");
        let good = format!(
            "trap 'touch {}; exit' TERM; echo; while :; do sleep 0.05; done",
            left.display()
        );
        let mut good = marked(dir.path(), Role::JobManager, &good);
        let mut bad = marked(
            dir.path(),
            Role::TaskManager(1),
            "trap '' TERM; echo; while :; do sleep 0.05; done",
        );
        runs(&mut good);
        runs(&mut bad);
        end([good, bad]).await;
        assert!(left.exists());
        assert!(find(dir.path()).is_empty());
    }

    #[tokio::test]
    async fn a_process_that_is_stopped_is_seen_to_be() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = marked(dir.path(), Role::JobManager, "echo; exec sleep 60");
        runs(&mut process);
        for (signal, stopped) in [(Signal::STOP, true), (Signal::CONT, false)] {
            kill_process(Pid::from_child(&process.child), signal).unwrap();
            let deadline = Instant::now() + Duration::from_secs(5);
            while process.is_stopped() != stopped {
                assert!(Instant::now() < deadline, "{signal:?}");
                sleep_until(Instant::now() + POLL).await;
            }
        }
    }

    #[test]
    fn whoever_forgets_a_process_kills_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = marked(dir.path(), Role::JobManager, "echo; exec sleep 60");
        runs(&mut process);
        drop(process);
        assert!(find(dir.path()).is_empty());
    }

    #[test]
    fn a_log_is_told_by_its_last_error() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        for (text, told) in [
            ("", "nothing"),
            ("a\nb\nc\n", "b … c"),
            (
                "t ERROR Old - gone\nt INFO x\nt ERROR Task - Cannot start.\n\
                 java.lang.Exception: no\n\tat a.b\nCaused by: a.BException: port 7\n\tat c.d\n\
                 Caused by: java.net.BindException: in use\n\
                 \t... 3 more\nt INFO Shutting down\n",
                "t ERROR Task - Cannot start. … Caused by: a.BException: port 7 … \
                 Caused by: java.net.BindException: in use",
            ),
            (
                "Error: Could not find or load main class X\n",
                "Error: Could not find or load main class X",
            ),
        ] {
            std::fs::write(&log, text).unwrap();
            assert_eq!(log_ends_with(&log), told, "{text}");
        }
    }

    #[test]
    fn a_role_is_read_as_it_is_written() {
        for role in [Role::JobManager, Role::TaskManager(9), Role::Broker] {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        assert_eq!("taskmanager-x".parse::<Role>(), Err(()));
    }
}
