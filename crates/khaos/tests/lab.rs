//! `khaos lab`: what it says where something is missing, and, on a real Flink, that nothing stays behind.
#![allow(clippy::unwrap_used, reason = "a test says what is broken by panicking")]

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn khaos(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_khaos"));
    command.arg("lab").args(arguments).stdin(Stdio::null());
    command
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A machine on which only some programs are installed.
struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    fn with(programs: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("bin")).unwrap();
        for (name, script) in programs {
            let path = dir.path().join("bin").join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// `khaos lab up` on it, in folders of its own.
    fn up(&self, more: &[&str]) -> Command {
        let mut command = khaos(&["up"]);
        command.env_clear().env("PATH", self.path("bin"));
        if !more.contains(&"--dir") {
            command.arg("--dir").arg(self.path("lab"));
        }
        command.arg("--cache").arg(self.path("cache")).args(more);
        command
    }

    /// The error of an `up` that fails, which is one line and leaves no run folder.
    fn refuses(&self, code: i32, command: &mut Command) -> String {
        let (exit, stdout, stderr) = said(&command.output().unwrap());
        assert_eq!((exit, stdout.as_str()), (Some(code), ""), "{stderr}");
        assert!(!self.dir.path().join("lab").exists(), "{stderr}");
        stderr.lines().find(|line| line.starts_with("khaos: ")).unwrap_or(&stderr).to_owned()
    }
}

const JAVA_17: (&str, &str) = ("java", "echo 'openjdk version \"17.0.15\" 2025-04-15' >&2");

/// Ports that no other test uses, and none that the system gives away by itself.
const ELSEWHERE: [&str; 2] = ["--port-base", "22800"];
const ONLY_KAFKA: [&str; 3] = ["--kafka", "--taskmanagers", "0"];

#[test]
fn what_is_missing_is_named() {
    let nothing = Machine::with(&[]);
    let error = nothing.refuses(1, &mut nothing.up(&ELSEWHERE));
    assert!(error.contains("no java in PATH") && error.contains("Java 17"), "{error}");
    let mut elsewhere = nothing.up(&ELSEWHERE);
    let error = nothing.refuses(1, elsewhere.env("JAVA_HOME", "/nowhere"));
    assert!(error.contains("JAVA_HOME is /nowhere"), "{error}");

    let old = Machine::with(&[("java", "echo 'java version \"1.8.0_402\"' >&2")]);
    let error = old.refuses(1, &mut old.up(&ELSEWHERE));
    assert!(error.contains("bin/java is version 8") && error.contains("Java 17"), "{error}");

    let no_maven = Machine::with(&[JAVA_17]);
    let error = no_maven.refuses(1, &mut no_maven.up(&ELSEWHERE));
    assert!(error.contains("no mvn in PATH") && error.contains("Flink 2.3.0"), "{error}");
    let mut only_kafka = no_maven.up(&ELSEWHERE);
    let error = no_maven.refuses(1, only_kafka.args(ONLY_KAFKA));
    assert!(error.contains("no mvn in PATH") && error.contains("Kafka 4.3.0"), "{error}");

    let maven = ("mvn", "echo '[ERROR] Could not transfer artifact: no route to host'; exit 1");
    let offline = Machine::with(&[JAVA_17, maven]);
    std::fs::create_dir_all(offline.path("cache/.unfinished-of-a-killed-khaos/jars")).unwrap();
    let error = offline.refuses(1, offline.up(&ELSEWHERE).args(["--flink", "1.20"]));
    assert!(error.contains("Maven could not get Flink 1.20.5"), "{error}");
    assert!(error.contains("no route to host"), "{error}");
    let left: Vec<_> = std::fs::read_dir(offline.path("cache")).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "only the lock: {left:?}");
}

#[test]
fn a_taken_port_is_named_before_anything_is_fetched() {
    let machine = Machine::with(&[JAVA_17]);
    let _taken = TcpListener::bind("127.0.0.1:22981").unwrap();
    let error = machine.refuses(1, &mut machine.up(&["--port-base", "22900"]));
    assert!(error.contains("port 22981 is taken") && error.contains("--port-base"), "{error}");
    let _taken = TcpListener::bind("127.0.0.1:22925").unwrap();
    let error = machine.refuses(1, machine.up(&["--port-base", "22900"]).args(ONLY_KAFKA));
    assert!(error.contains("port 22925 is taken") && error.contains("--port-base"), "{error}");
}

#[test]
fn a_folder_of_somebody_else_is_left_alone() {
    let machine = Machine::with(&[JAVA_17]);
    std::fs::create_dir(machine.path("thesis")).unwrap();
    std::fs::write(machine.path("thesis/text"), "years").unwrap();
    let thesis = machine.path("thesis");
    let error = machine.refuses(1, &mut machine.up(&["--dir", &thesis]));
    assert!(error.contains("no lab made it") && error.contains("--dir"), "{error}");
    let (code, _, error) = said(&khaos(&["down", "--dir", &thesis]).output().unwrap());
    assert!(code == Some(1) && error.contains("no lab made it"), "{error}");
    assert_eq!(std::fs::read_to_string(machine.path("thesis/text")).unwrap(), "years");
}

#[test]
fn what_cannot_be_used_is_bad_usage() {
    let machine = Machine::with(&[JAVA_17]);
    for (arguments, says) in [
        (&["--flink", "3"] as &[&str], "2.3.0 and 1.20.5"),
        (&["--port-base", "80"], "--port-base"),
        (&["--taskmanagers", "10"], "--taskmanagers"),
        (&["--taskmanagers", "0"], "give --kafka"),
        (&["--taskmanagers", "0", "--kafka", "--job", "paced"], "no Flink"),
        (&["--parallelism", "5"], "there are 4 slots"),
        (&["--rates", "60"], "60:2000"),
        (&["--interval", "0s"], "10ms"),
        (&["--interval", "soon"], "30s"),
        (&["--job", "mine"], "paced"),
    ] {
        let (code, _, stderr) = said(&machine.up(arguments).output().unwrap());
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains(says), "{stderr}");
    }
    for command in ["up", "down", "status"] {
        let output = khaos(&[command]).env_clear().output().unwrap();
        let (code, _, stderr) = said(&output);
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains("HOME is not set: say with --"), "{stderr}");
    }
}

#[test]
fn the_default_folder_follows_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let status = |variable: &str| {
        let mut command = khaos(&["status", "--json"]);
        let output = command.env_clear().env(variable, dir.path()).output().unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(status["phase"], "none");
        PathBuf::from(status["folder"].as_str().unwrap())
    };
    let base = dir.path().canonicalize().unwrap();
    assert_eq!(status("HOME"), base.join(".local/state/khaos/lab"));
    assert_eq!(status("XDG_STATE_HOME"), base.join("khaos/lab"));
    assert_eq!(std::fs::read_dir(&base).unwrap().count(), 0, "looking makes nothing");
}

/// A place for a real lab. Only one at a time: three of them would be nine Javas.
struct Place {
    dir: tempfile::TempDir,
    port_base: u16,
    _alone: MutexGuard<'static, ()>,
}

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

impl Place {
    fn new(port_base: u16) -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        Self { dir: tempfile::tempdir().unwrap(), port_base, _alone: alone }
    }

    /// The blank is there to be stumbled over.
    fn folder(&self) -> PathBuf {
        self.dir.path().join("a lab")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = khaos(arguments);
        command.arg("--dir").arg(self.folder());
        command
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        said(&self.command(arguments).output().unwrap())
    }

    fn up(&self, more: &[&str]) -> Up {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let cache = std::env::var_os("KHAOS_CACHE").map(PathBuf::from);
        let mut command = self.command(&["up", "--port-base", &self.port_base.to_string()]);
        command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.arg("--cache").arg(cache.unwrap_or(workspace.join("target/lab-cache")));
        Up { child: command.spawn().unwrap() }
    }

    fn status(&self) -> Value {
        let (code, stdout, stderr) = self.run(&["status", "--json"]);
        assert_eq!(code, Some(0), "{stderr}");
        serde_json::from_str(&stdout).unwrap()
    }

    /// Pids of the lab's processes; all of the expected ones are alive.
    fn pids(&self) -> Vec<i32> {
        self.pids_of(&["jobmanager", "taskmanager-1", "taskmanager-2"])
    }

    fn pids_of(&self, expected: &[&str]) -> Vec<i32> {
        let status = self.status();
        let processes = status["processes"].as_array().unwrap();
        let roles: Vec<&str> = processes.iter().map(|p| p["role"].as_str().unwrap()).collect();
        assert_eq!(roles, expected, "{status:#}");
        processes.iter().map(|p| p["pid"].as_i64().unwrap() as i32).collect()
    }

    /// No process with the lab's mark, no port, no folder.
    fn nothing_is_left(&self) {
        assert_eq!(std::fs::read_dir(self.dir.path()).unwrap().count(), 0);
        let mark = format!("-Dkhaos.lab={}", self.dir.path().display());
        let marked = |pid: &str| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&mark)
        };
        let pids = std::fs::read_dir("/proc").unwrap().flatten();
        let mut left = pids.filter_map(|entry| entry.file_name().into_string().ok());
        assert_eq!(left.find(|pid| marked(pid)), None, "a process is left");
        for port in self.port_base..self.port_base + 100 {
            TcpListener::bind(("0.0.0.0", port)).unwrap_or_else(|e| panic!("{port} is left: {e}"));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A test that failed leaves nothing, either.
        let _ = self.command(&["down"]).output();
    }
}

/// A `khaos lab up`, killed when forgotten.
struct Up {
    child: Child,
}

impl Up {
    /// What it prints on standard output until it is up.
    fn is_up(&mut self) -> String {
        let mut stdout = BufReader::new(self.child.stdout.as_mut().unwrap());
        let mut all = String::new();
        while stdout.read_line(&mut all).unwrap() > 0 {
            if all.ends_with("Ctrl-C ends it.\n") {
                return all;
            }
        }
        let mut stderr = String::new();
        self.child.stderr.as_mut().unwrap().read_to_string(&mut stderr).unwrap();
        panic!("the lab did not come up: {all}{stderr}");
    }

    /// Waits until it says `text` on standard error.
    fn is_at(&mut self, text: &str) {
        let stderr = BufReader::new(self.child.stderr.as_mut().unwrap());
        assert!(stderr.lines().any(|line| line.unwrap().contains(text)), "never came to: {text}");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Exit code, and what it printed since.
    fn ends(mut self) -> (Option<i32>, String, String) {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (self.child.wait().unwrap().code(), stdout, stderr)
    }

    /// What nothing can be done against.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_all_there(place: &Place, up: &mut Up, version: &str) {
    let told = up.is_up();
    let rest = format!("http://127.0.0.1:{}", place.port_base + 81);
    assert!(told.contains(&format!("Flink {version} is up: {rest}")), "{told}");
    assert!(told.contains("\nJob paced: "), "{told}");
    let status = place.status();
    assert_eq!((&status["phase"], &status["rest_url"]), (&"up".into(), &rest.into()));
    assert_eq!(status["supervisor"], up.child.id());
    place.pids();
}

#[test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
fn ctrl_c_leaves_nothing() {
    let place = Place::new(23_000);
    let mut up = place.up(&["--flink", "2"]);
    is_all_there(&place, &mut up, "2.3.0");
    up.signal(Signal::INT);
    let (code, stdout, stderr) = up.ends();
    assert_eq!((code, stdout.as_str()), (Some(0), "The lab is down.\n"), "{stderr}");
    place.nothing_is_left();
}

#[test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
fn a_lab_is_taken_down_from_elsewhere() {
    let place = Place::new(23_100);
    let mut up = place.up(&["--flink", "1.20"]);
    is_all_there(&place, &mut up, "1.20.5");
    let (code, stdout, stderr) = place.run(&["down"]);
    assert_eq!((code, stdout.as_str()), (Some(0), "The lab is down.\n"), "{stderr}");
    place.nothing_is_left();
    let (code, stdout, stderr) = up.ends();
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(stdout, "The lab was taken down by another khaos.\n");
}

#[test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
fn what_a_killed_khaos_left_is_ended_by_the_next() {
    let place = Place::new(23_200);
    let mut first = place.up(&["--job", "none"]);
    first.is_up();
    let left = place.pids();
    first.kill();
    assert_eq!(place.status()["phase"], "abandoned");
    assert_eq!(place.pids(), left);
    let (_, words, _) = place.run(&["status"]);
    assert!(words.contains("supervised it is dead") && words.contains("lab down"), "{words}");

    let mut second = place.up(&["--job", "none"]);
    second.is_up();
    let started = place.pids();
    assert!(started.iter().all(|pid| !left.contains(pid)), "{left:?} {started:?}");
    let (code, _, stderr) = place.up(&[]).ends();
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("already up") && stderr.contains("khaos lab down"), "{stderr}");
    assert_eq!(place.pids(), started, "the one that is up does not care");

    second.kill();
    let (code, stdout, stderr) = place.run(&["down"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("3 processes"), "{stdout}");
    place.nothing_is_left();
}

#[test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
fn whoever_stops_a_start_leaves_nothing() {
    let place = Place::new(23_400);
    let mut up = place.up(&[]);
    up.is_at("Starting Flink");
    up.signal(Signal::TERM);
    let (code, stdout, stderr) = up.ends();
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(stdout, "Stopped before the lab was up.\n");
    place.nothing_is_left();
}

#[test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
fn a_process_that_dies_is_named_and_its_log_is_kept() {
    let place = Place::new(23_500);
    let mut up = place.up(&["--job", "none"]);
    up.is_up();
    let second = place.pids()[2];
    kill_process(Pid::from_raw(second).unwrap(), Signal::KILL).unwrap();
    let (code, _, stderr) = up.ends();
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("the taskmanager-2 died by signal 9"), "{stderr}");
    let log = place.folder().join("logs/taskmanager-2.log");
    assert!(stderr.contains("a lab/logs") && log.is_file(), "{stderr}");
    assert_eq!(place.status()["phase"], "ended");
    let (code, _, stderr) = place.run(&["down"]);
    assert_eq!(code, Some(0), "{stderr}");
    place.nothing_is_left();
}

#[test]
#[ignore = "starts a real Kafka: ./test.sh runs it"]
fn a_broker_alone_is_shown_and_ended() {
    let place = Place::new(27_300);
    let mut up = place.up(&ONLY_KAFKA);
    let told = up.is_up();
    assert!(told.starts_with("Kafka 4.3.0 is up: 127.0.0.1:27325\nIn another"), "{told}");
    let status = place.status();
    assert_eq!((&status["phase"], &status["kafka"]), (&"up".into(), &"4.3.0".into()));
    assert_eq!(status["bootstrap"], "127.0.0.1:27325");
    assert_eq!((&status["flink"], &status["rest_url"]), (&Value::Null, &Value::Null));
    let broker = place.pids_of(&["broker"])[0];
    let (_, words, _) = place.run(&["status"]);
    assert!(words.starts_with("Kafka 4.3.0 is up: 127.0.0.1:27325\n"), "{words}");
    assert!(words.contains(&format!("broker         pid {broker}")), "{words}");

    up.kill();
    let (_, words, _) = place.run(&["status"]);
    assert!(words.contains("(Kafka 4.3.0 at 127.0.0.1:27325), but the khaos that"), "{words}");
    let (code, stdout, stderr) = place.run(&["down"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("1 process ran"), "{stdout}");
    place.nothing_is_left();
}
