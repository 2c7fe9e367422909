//! Orphans: khaos is killed with -9 at every step of a campaign, and what it leaves is swept by the next.
//!
//! The cluster outlives khaos: the lab belongs to the test, and each life of khaos that ends is a process of
//! its own, this test program once more. It says aloud what it is about to do and what it has done, and is
//! killed as soon as it is heard.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use async_trait::async_trait;
use khaos_adapters::flink::{Flink, Submission};
use khaos_adapters::lab::{LabInjector, PacedLog, status};
use khaos_control::clock::Clock;
use khaos_control::ports::{
    CloneHost, CloneId, CloneSpec, Clones, Fault, FaultInjector, Jobs, PortError, RunningClone,
    WorkloadLog,
};
use khaos_control::profile::{CloneBudget, Patience, Profile};
use khaos_core::job::{EngineJobId, JobKey, JobRun};
use khaos_core::profile::{Design, IntervalBounds, PlannedTrial};
use khaos_core::record::{Kind, RecordId};
use khaos_core::units::{CheckpointInterval, EventRate, Seconds, Span, Timestamp};
use khaos_twin::MemoryStore;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::arena::{Arena, Wanted, clones};
use crate::bench::{Khaos, RATE, in_real_time};

/// Where a life is told what it lives for.
pub(crate) const LIFE: &str = "KHAOS_TEST_LIFE";
/// What goes before each step that is said.
pub(crate) const STEP: &str = "step: ";
const TASK_MANAGERS: u8 = 3;
/// Lives that may end before the step that is waited for.
const LIVES: u32 = 5;
/// What was sent to Flink and not answered has arrived by then, s of the wall's time: four times as long as
/// a start took at most.
const ARRIVED_S: f64 = 6.0;

/// How a life ends: so long after it said this, ms of the wall's time.
const DEATHS: [(&str, u32); 12] = [
    // In the middle of a launch: before the job is sent, while Flink makes it, when it is made.
    ("launch", 0),
    ("launch", 20),
    ("launch", 40),
    ("launch", 80),
    ("launch", 160),
    ("launched", 0),
    ("replay", 0),
    ("replayed", 0),
    ("inject", 0),
    ("injected", 0),
    ("terminate", 0),
    ("terminated", 0),
];

/// All that a life has to be told.
#[derive(Serialize, Deserialize)]
struct Life {
    rest_url: String,
    lab: PathBuf,
    speed: u32,
    job: JobKey,
    /// When the job's schedule began, by the wall's clock.
    epoch_ms: i64,
    jar: PathBuf,
    arguments: Vec<String>,
    configuration: BTreeMap<String, String>,
}

impl Life {
    async fn of(arena: &Arena) -> Self {
        let recorded = arena.log.recorded(&arena.job()).await.unwrap();
        let Submission { jar, arguments, configuration, .. } = arena.blank.clone();
        Self {
            rest_url: arena.rest_url.clone(),
            lab: arena.folder.clone(),
            speed: arena.clock.speed(),
            job: arena.job(),
            epoch_ms: arena.clock.to_wall(recorded.from).0,
            jar,
            arguments,
            configuration,
        }
    }

    /// One campaign of one small trial, every step of it said.
    async fn lived(self) {
        let clock = khaos::clock::anchored().times(self.speed);
        let flink = Arc::new(Flink::at(&self.rest_url, clock).unwrap());
        let folder = self.lab.join("replays");
        let log = Arc::new(PacedLog::of(self.job.clone(), self.epoch_ms, folder, clock));
        let blank = Submission {
            name: self.job.0.clone(),
            jar: self.jar,
            entry_class: None,
            arguments: self.arguments,
            parallelism: 1,
            configuration: self.configuration,
        };
        let host = Arc::new(Said(clones(&flink, &blank, &log)));
        let injector = LabInjector::at(&self.lab, &self.rest_url).unwrap();
        let from = log.recorded(&self.job).await.unwrap().from;
        let profile =
            profile(clock, &flink, host, Arc::new(Said(log)), Arc::new(Said(Arc::new(injector))));
        let trial = PlannedTrial {
            interval: profile.bounds.max(),
            load: EventRate::new(RATE as f64 / f64::from(self.speed)).unwrap(),
            stretch: Span { from, to: from.plus_secs(1_200.0) },
        };
        let plan = Design { trials: vec![trial], shape: None, further: false };
        let parent = RecordId::of_digits("0123456789abcdef0123456789abcdef").unwrap();
        let ran = profile.run(&self.job, &parent, plan).await;
        let ever = Span { from: Timestamp(0), to: Timestamp(i64::MAX) };
        let trials = profile.store.range(&self.job, Kind::Trial, ever).await.unwrap();
        println!("{STEP}the end: {ran:?}, {:?}", trials.first().map(|record| record.trial()));
    }
}

/// The test `test` of this program in a process of its own, which is told `life`: what it says, step by step.
pub(crate) fn begins(test: &str, life: &impl Serialize) -> (Khaos, UnboundedReceiver<String>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(LIFE, serde_json::to_string(life).unwrap())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut khaos = Khaos(command.spawn().unwrap());
    let stdout = BufReader::new(khaos.0.stdout.take().unwrap());
    let (sender, steps) = unbounded_channel();
    std::thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            // The test program may have begun the line.
            if let Some((_, step)) = line.split_once(STEP) {
                let _ = sender.send(step.to_owned());
            }
        }
    });
    (khaos, steps)
}

/// What a campaign needs, on these.
fn profile(
    clock: Clock,
    flink: &Arc<Flink>,
    host: Arc<dyn CloneHost>,
    log: Arc<dyn WorkloadLog>,
    injector: Arc<dyn FaultInjector>,
) -> Profile {
    let interval = CheckpointInterval::from_secs(10).unwrap();
    let seconds = |s| Seconds::new(s).unwrap();
    Profile {
        clock,
        jobs: flink.clone(),
        metrics: flink.clone(),
        checkpoints: flink.clone(),
        clones: Clones::new(host),
        log,
        injector,
        store: Arc::new(MemoryStore::default()),
        bounds: IntervalBounds::new(interval, interval).unwrap(),
        objective: None,
        budget: CloneBudget { at_once: 1, clone_minutes: 60.0 },
        patience: Patience { lead: seconds(420.0), recovery: seconds(240.0) },
    }
}

/// Says what is done through a port, before and after.
pub(crate) struct Said<T: ?Sized>(pub(crate) Arc<T>);

pub(crate) fn say(step: &str) {
    println!("{STEP}{step}");
}

#[async_trait]
impl<T: CloneHost + ?Sized> CloneHost for Said<T> {
    async fn launch(&self, spec: &CloneSpec) -> Result<EngineJobId, PortError> {
        say("launch");
        let launched = self.0.launch(spec).await?;
        say("launched");
        Ok(launched)
    }

    async fn settle(&self, of: &JobKey) -> Result<(), PortError> {
        self.0.settle(of).await
    }

    async fn terminate(&self, id: &EngineJobId) -> Result<(), PortError> {
        say("terminate");
        self.0.terminate(id).await?;
        say("terminated");
        Ok(())
    }

    async fn running(&self) -> Result<Vec<RunningClone>, PortError> {
        self.0.running().await
    }
}

#[async_trait]
impl<T: WorkloadLog + ?Sized> WorkloadLog for Said<T> {
    async fn recorded(&self, job: &JobKey) -> Result<Span, PortError> {
        self.0.recorded(job).await
    }

    async fn replay(
        &self,
        job: &JobKey,
        from: Timestamp,
        clone: &CloneId,
    ) -> Result<(), PortError> {
        say("replay");
        self.0.replay(job, from, clone).await?;
        say("replayed");
        Ok(())
    }
}

#[async_trait]
impl<T: FaultInjector + ?Sized> FaultInjector for Said<T> {
    async fn aim(&self, clone: &CloneId) -> Result<(), PortError> {
        self.0.aim(clone).await
    }

    async fn inject(&self, clone: &CloneId, fault: Fault) -> Result<(), PortError> {
        say("inject");
        self.0.inject(clone, fault).await?;
        say("injected");
        Ok(())
    }
}

/// A khaos that is at `step`. On a slow machine a trial may be spoilt before it comes to that: then
/// another.
async fn lives_until(arena: &Arena, step: &str) -> Khaos {
    for _ in 0..LIVES {
        let (khaos, mut steps) = begins("orphans::a_life_of_khaos", &Life::of(arena).await);
        while let Some(said) = steps.recv().await {
            if said == step {
                return khaos;
            }
            if said.starts_with("the end") {
                println!("no {step}: {said}");
            }
        }
    }
    panic!("{LIVES} lives without {step}");
}

/// A life that ends with -9 at `step`, and the next start.
async fn dies_at(arena: &Arena, step: &str, after_ms: u32) {
    let began = arena.clock.now();
    let wall_s = |now: Timestamp| now.secs_since(began) / f64::from(arena.clock.speed());
    let target = arena.running(0).await;
    let khaos = lives_until(arena, step).await;
    if after_ms > 0 {
        arena.pause_wall(f64::from(after_ms) / 1_000.0).await;
    }
    let pid = khaos.0.id();
    drop(khaos);
    let died = arena.clock.now();

    let host = arena.clones();
    let next = profile(arena.clock, &arena.flink, host, arena.log.clone(), arena.injector.clone());
    next.reconcile(&arena.job()).await.unwrap();
    let swept = arena.clock.now();
    only_the_target_runs(arena, &target).await;
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "khaos lives");
    if step == "launch" {
        // Nothing comes any more, however long it was on its way.
        arena.pause_wall(ARRIVED_S).await;
        only_the_target_runs(arena, &target).await;
        // But a mark may have, of a launch that was never sent: the start after next takes it away.
        next.reconcile(&arena.job()).await.unwrap();
        only_the_target_runs(arena, &target).await;
    }
    let marks = told(arena, "/jars").await["files"].to_string();
    assert!(!marks.contains("khaos-clone"), "{marks}");
    everything_is_back(arena, &target).await;
    println!(
        "{step} + {after_ms} ms: died after {:.1} s, swept in {:.2} s, all well after {:.1} s",
        wall_s(died),
        wall_s(swept) - wall_s(died),
        wall_s(arena.clock.now()) - wall_s(died),
    );
}

async fn told(arena: &Arena, path: &str) -> Value {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}{path}", arena.rest_url);
    client.get(url).send().await.unwrap().json().await.unwrap()
}

async fn only_the_target_runs(arena: &Arena, target: &JobRun) {
    assert_eq!(arena.clones().running().await, Ok(Vec::new()));
    let overview = told(arena, "/jobs/overview").await;
    let ended = ["FINISHED", "CANCELED", "FAILED"];
    let jobs = overview["jobs"].as_array().unwrap().iter();
    let present: Vec<&Value> =
        jobs.filter(|job| !ended.contains(&job["state"].as_str().unwrap())).collect();
    let ids: Vec<&Value> = present.iter().map(|job| &job["jid"]).collect();
    assert_eq!(ids, [target.engine_id.0.as_str()], "{present:?}");
}

/// The target never noticed, every TaskManager is there, and of the clone's checkpoints nothing is.
async fn everything_is_back(arena: &Arena, target: &JobRun) {
    let run = arena.flink.describe(&arena.job()).await.unwrap();
    assert_eq!((&run.engine_id, run.attempt), (&target.engine_id, target.attempt));
    let asked_ms = arena.clock.to_wall(arena.clock.now()).0;
    let deadline = arena.clock.now().plus_secs(120.0 * f64::from(arena.clock.speed()));
    loop {
        let managers = told(arena, "/taskmanagers").await;
        let managers = managers["taskmanagers"].as_array().unwrap();
        // One that was killed is listed until Flink notices, but does not beat.
        let beats = |m: &&Value| m["timeSinceLastHeartbeat"].as_i64().unwrap() > asked_ms;
        let alive = managers.iter().filter(beats).count();
        let processes = status(&arena.folder).unwrap().processes;
        let lives = processes.iter().filter(|process| process.alive).count();
        let left = left_of_others(&arena.folder.join("checkpoints"), &target.engine_id);
        let all = usize::from(TASK_MANAGERS);
        if (alive, managers.len(), lives, left.len()) == (all, all, all + 1, 0) {
            return;
        }
        assert!(arena.clock.now() < deadline, "{managers:?} {processes:?} {left:?}");
        arena.pause_wall(0.1).await;
    }
}

/// What is saved in the folder of checkpoints and is not the target's. Flink leaves a folder for each job
/// that ever took one, with nothing in it but empty folders.
fn left_of_others(folder: &Path, target: &EngineJobId) -> Vec<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    let mut left = Vec::new();
    while let Some(folder) = folders.pop() {
        // Flink may be removing it.
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            let is_chk = path.file_name().unwrap().to_str().unwrap().starts_with("chk-");
            match path.is_dir() {
                _ if path.ends_with(&target.0) => {}
                true if !is_chk => folders.push(path),
                _ => left.push(path),
            }
        }
    }
    left
}

async fn dies_at_every_step(version: &str, port_base: u16) {
    let wanted = Wanted {
        version,
        port_base,
        task_managers: TASK_MANAGERS,
        speed: 12,
        heartbeats_s: (1, 5),
        interval_ms: 1_000,
        state_bytes: 10_000_000,
    };
    wanted
        .test(async |arena| {
            arena.running(1).await;
            for (step, after_ms) in DEATHS {
                dies_at(arena, step, after_ms).await;
            }
        })
        .await;
}

#[test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
fn whenever_khaos_dies_the_next_leaves_no_orphan_on_flink_2() {
    in_real_time(dies_at_every_step("2", 23_800));
}

/// Nothing but what the test above starts and kills.
#[test]
#[ignore = "does nothing unless the test above starts it"]
fn a_life_of_khaos() {
    let Ok(life) = std::env::var(LIFE) else { return };
    in_real_time(serde_json::from_str::<Life>(&life).unwrap().lived());
}
