//! The lab's processes: started, watched, found again, ended.
//!
//! Every process carries its run folder and its role as arguments, from its first moment on. So a lab that
//! lost its khaos is found by looking at what runs: no list of pids that could be behind, or name a process
//! that has nothing to do with it.

use std::ffi::OsString;
use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::str::FromStr;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Serialize, Serializer};
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};
use tokio::time::{Duration, Instant, sleep_until};

use super::config::Ports;
use super::error::LabError;
use super::folder::RunFolder;
use super::install::Installed;

/// Which process of a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The one JobManager.
    JobManager,
    /// A TaskManager, from 1.
    TaskManager(u8),
}

impl Role {
    /// 0 for the JobManager.
    pub(super) fn number(self) -> u8 {
        match self {
            Role::JobManager => 0,
            Role::TaskManager(n) => n,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::JobManager => f.write_str("jobmanager"),
            Role::TaskManager(n) => write!(f, "taskmanager-{n}"),
        }
    }
}

impl FromStr for Role {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.strip_prefix("taskmanager-") {
            Some(n) => n.parse().map(Role::TaskManager).map_err(drop),
            None if text == "jobmanager" => Ok(Role::JobManager),
            None => Err(()),
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
const GRACE: Duration = Duration::from_secs(2);
/// How long the kernel has after SIGKILL.
const DEATH: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(25);

const MARK_FOLDER: &str = "-Dkhaos.lab=";
const MARK_ROLE: &str = "-Dkhaos.role=";

fn folder_mark(folder: &Path) -> OsString {
    let mut mark = OsString::from(MARK_FOLDER);
    mark.push(folder);
    mark
}

/// Starts a process of the lab. Its log goes on where an earlier one of this role stopped.
pub(super) fn spawn(
    role: Role,
    start: u32,
    installed: &Installed,
    folder: &RunFolder,
    ports: Ports,
) -> Result<Process, LabError> {
    let log = folder.log(&role.to_string());
    let failed = |source| LabError::Spawn { program: installed.java.clone(), source };
    let out = OpenOptions::new().create(true).append(true).open(&log).map_err(failed)?;
    let err = out.try_clone().map_err(failed)?;
    let logging = folder.path().join("conf/log4j.properties");
    let tmp = folder.path().join("tmp");
    let mut command = Command::new(&installed.java);
    command.arg(folder_mark(folder.path())).arg(format!("{MARK_ROLE}{role}")).args(JVM);
    // Framework off-heap and network memory of `config.rs`; the heap in `JVM` is framework and task.
    if let Role::TaskManager(_) = role {
        command.arg("-XX:MaxDirectMemorySize=80m");
    }
    command.arg(format!("-Dlog4j.configurationFile={}", logging.display()));
    command.arg(format!("-Djava.io.tmpdir={}", tmp.display()));
    command.arg("-cp").arg(installed.flink.join("*")).arg(match role {
        Role::JobManager => {
            "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
        }
        Role::TaskManager(_) => "org.apache.flink.runtime.taskexecutor.TaskManagerRunner",
    });
    command.arg("--configDir").arg(folder.path().join("conf"));
    for (key, value) in ports.options(role) {
        command.arg("-D").arg(format!("{key}={value}"));
    }
    if let Role::TaskManager(n) = role {
        // A name of its own for every start: Flink takes the second bearer of a name for the first.
        let us = std::process::id();
        command.arg("-D").arg(format!("taskmanager.resource-id=tm{n}-{us}-{start}"));
    }
    // Its own group: a Ctrl-C in the terminal is for khaos, which ends the lab in order.
    command.current_dir(folder.path()).process_group(0);
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    let child = command.spawn().map_err(failed)?;
    Ok(Process { child, log })
}

/// What Flink needs of its Java, and what keeps three of them small.
const JVM: [&str; 19] = [
    "-Xms256m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:MaxMetaspaceSize=128m",
    // Otherwise a killed Java leaves its counters in the system's folder for temporary files.
    "-XX:-UsePerfData",
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
}

impl Process {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
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
    let mut system = System::new();
    let what = ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always).without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, what);
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
    // What happened stands first, its root cause last.
    let (first, last) = match telling.as_slice() {
        [] => return "nothing".to_owned(),
        [only] => return short(only),
        [first, .., last] => (short(first), short(last)),
    };
    format!("{first} … {last}")
}

fn short(line: &str) -> String {
    const LENGTH: usize = 300;
    if line.chars().count() <= LENGTH {
        return line.to_owned();
    }
    line.chars().take(LENGTH).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that is no Java but carries the marks: what `find` goes by.
    fn marked(folder: &Path, role: Role, script: &str) -> Process {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg(folder_mark(folder)).arg(format!("{MARK_ROLE}{role}"));
        let child = command.process_group(0).stdout(Stdio::piped()).spawn().unwrap();
        Process { child, log: PathBuf::new() }
    }

    /// Waits until the script has said something.
    fn runs(process: &mut Process) {
        use std::io::Read;
        process.child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    }

    #[tokio::test]
    async fn what_a_dead_khaos_left_is_found_by_its_mark_and_ended() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, other) = (dir.path().join("lab"), dir.path().join("lab2"));
        // One that does not listen to SIGTERM, and one of a lab whose name begins like ours.
        let stubborn = "trap '' TERM; echo; while :; do sleep 0.05; done";
        let mut first = marked(&ours, Role::TaskManager(2), stubborn);
        let mut foreign = marked(&other, Role::JobManager, "echo; exec sleep 60");
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
                 java.lang.Exception: no\n\tat a.b\nCaused by: java.net.BindException: in use\n\
                 \t... 3 more\nt INFO Shutting down\n",
                "t ERROR Task - Cannot start. … Caused by: java.net.BindException: in use",
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
        for role in [Role::JobManager, Role::TaskManager(9)] {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        assert_eq!("taskmanager-x".parse::<Role>(), Err(()));
    }
}
