//! Clones of a job that reads and writes Kafka exactly once, on a real Flink and a real Kafka: the clauses of the
//! contract, and that whenever khaos dies the next leaves topics, groups, transactions and jobs as they were.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use khaos_adapters::flink::{Description, Flink, Submission};
use khaos_adapters::kafka::KafkaSettings;
use khaos_adapters::kafka::admin::{Admin, NewTopic, Transaction};
use khaos_adapters::kafka::clones::KafkaClones;
use khaos_adapters::kafka::load::{KafkaLoad, Reads};
use khaos_adapters::kafka::made::Made;
use khaos_adapters::kafka::pace::{Pace, Schedule};
use khaos_adapters::kafka::replay::{Replay, ReplayConfig, Source};
use khaos_adapters::lab::{Lab, LabConfig, LabInjector, LabKafka, Pipeline, PipelineJob};
use khaos_adapters::sqlite::SqliteStore;
use khaos_control::clock::Clock;
use khaos_control::contract::{self, Bench, CloneBench};
use khaos_control::ports::{
    CloneHost, Clones, FaultInjector, Jobs, Metrics, PortError, WorkloadLog,
};
use khaos_control::profile::{CloneBudget, Patience, Profile};
use khaos_core::job::{EngineJobId, JobKey, JobRun, JobStatus};
use khaos_core::profile::{Design, IntervalBounds, PlannedTrial};
use khaos_core::record::{Kind, RecordId};
use khaos_core::series::Readings;
use khaos_core::units::{CheckpointInterval, EventRate, Seconds, Span};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::bench::in_real_time;
use crate::orphans::{LIFE, STEP, Said, begins};

const SPEED: u32 = 12;
/// What arrives, and what the job sustains, events/s of the wall's time.
const RATE: u64 = 400;
const CAPACITY: u64 = 1_000;
const JOB: &str = "speeds";
const INPUT: &str = "positions";
const OUTPUT: &str = "fast";
const PARTITIONS: i32 = 2;
/// The job's own interval, ms of the wall's time.
const INTERVAL_MS: u32 = 1_000;
const TASK_MANAGERS: u8 = 3;
/// How long a trial is given, s, and what has to be recorded for one.
const LEAD_S: f64 = 600.0;
const RECOVERY_S: f64 = 300.0;
const RECORDED_S: f64 = 1_080.0;
/// Lives that may end before the step that is waited for.
const LIVES: u32 = 3;

/// How a life ends: so long after it said this, ms of the wall's time.
const DEATHS: [(&str, u32); 4] = [
    // Topics are being made, or are there, or Flink makes the job.
    ("launch", 30),
    ("launched", 0),
    // Its TaskManager is dead, and what it was writing is an open transaction that Flink never ends.
    (BROKEN, 100),
    // The job is cancelled, and then its group and topics go.
    ("terminate", 400),
];
/// The step after which a transaction is left open.
const BROKEN: &str = "injected";

/// All that has to be known to work with what the lab runs.
#[derive(Clone, Serialize, Deserialize)]
struct Known {
    rest_url: String,
    bootstrap: String,
    lab: PathBuf,
    store: PathBuf,
    jar: PathBuf,
    entry_class: Option<String>,
    arguments: Vec<String>,
}

/// What that amounts to.
struct Arena {
    clock: Clock,
    flink: Arc<Flink>,
    settings: KafkaSettings,
    clones: Arc<KafkaClones>,
    injector: Arc<LabInjector>,
}

fn job() -> JobKey {
    JobKey(JOB.to_owned())
}

impl Known {
    fn arena(&self) -> Arena {
        let clock = khaos::clock::anchored().times(SPEED);
        let flink = Flink::at(&self.rest_url, clock).unwrap();
        let submission = Submission {
            name: JOB.to_owned(),
            jar: self.jar.clone(),
            entry_class: self.entry_class.clone(),
            arguments: self.arguments.clone(),
            parallelism: 1,
            configuration: BTreeMap::new(),
        };
        let description = Description::of(submission).unwrap();
        let settings = KafkaSettings::at(&self.bootstrap).unwrap();
        let inner = Arc::new(flink.clone());
        let clones =
            KafkaClones::new(job(), description, flink.clone(), inner, &settings, clock).unwrap();
        Arena {
            clock,
            settings,
            clones: Arc::new(clones),
            injector: Arc::new(LabInjector::at(&self.lab, &self.rest_url).unwrap()),
            flink: Arc::new(flink),
        }
    }

    /// One campaign of one small trial, every step of it said.
    async fn lived(self) {
        let arena = self.arena();
        let host = Arc::new(Said(arena.clones.clone()));
        let injector = Arc::new(Said(arena.injector.clone()));
        let profile = self.profile(&arena, host.clone(), host, injector);
        let from = arena.clones.recorded(&job()).await.unwrap().from;
        let trial = PlannedTrial {
            interval: profile.bounds.max(),
            load: EventRate::new(RATE as f64 / f64::from(SPEED)).unwrap(),
            stretch: Span { from, to: from.plus_secs(1_200.0) },
        };
        let plan = Design { trials: vec![trial], shape: None, further: false };
        let parent = RecordId::of_digits("0123456789abcdef0123456789abcdef").unwrap();
        let ran = profile.run(&job(), &parent, plan).await;
        let trials = profile.store.range(&job(), Kind::Trial, Span::EVER).await.unwrap();
        println!("{STEP}the end: {ran:?}, {:?}", trials.first().map(|record| record.trial()));
    }

    fn profile(
        &self,
        arena: &Arena,
        host: Arc<dyn CloneHost>,
        log: Arc<dyn WorkloadLog>,
        injector: Arc<dyn FaultInjector>,
    ) -> Profile {
        let interval = CheckpointInterval::from_secs(12).unwrap();
        let seconds = |s| Seconds::new(s).unwrap();
        Profile {
            clock: arena.clock,
            jobs: arena.flink.clone(),
            metrics: arena.clones.clone(),
            checkpoints: arena.flink.clone(),
            clones: Clones::new(host),
            log,
            injector,
            store: Arc::new(SqliteStore::open(&self.store).unwrap()),
            bounds: IntervalBounds::new(interval, interval).unwrap(),
            objective: None,
            budget: CloneBudget { at_once: 1, clone_minutes: 60.0 },
            patience: Patience { lead: seconds(LEAD_S), recovery: seconds(RECOVERY_S) },
        }
    }
}

/// Readings of clones, and of the job.
struct Both {
    clones: Arc<KafkaClones>,
    job: KafkaLoad,
}

#[async_trait]
impl Metrics for Both {
    async fn readings(&self, id: &EngineJobId, span: Span) -> Result<Readings, PortError> {
        match self.clones.readings(id, span).await {
            Err(PortError::NotFound(_)) => self.job.readings(id, span).await,
            read => read,
        }
    }
}

impl Arena {
    fn bench(&self) -> CloneBench {
        let reads = Reads { topics: vec![INPUT.to_owned()], other_sources: Vec::new() };
        let (flink, clock) = (self.flink.as_ref().clone(), self.clock);
        let job_load = KafkaLoad::new(self.flink.clone(), flink, &self.settings, reads, clock);
        CloneBench {
            bench: Bench {
                clock,
                jobs: self.flink.clone(),
                metrics: Arc::new(Both { clones: self.clones.clone(), job: job_load.unwrap() }),
                checkpoints: self.flink.clone(),
                job: job(),
            },
            host: self.clones.clone(),
            log: self.clones.clone(),
            injector: self.injector.clone(),
            campaign: RecordId::of_digits("0123456789abcdef0123456789abcdef").unwrap(),
        }
    }

    async fn pause_wall(&self, seconds: f64) {
        let seconds = seconds * f64::from(SPEED);
        self.clock.sleep_until(self.clock.now().plus_secs(seconds)).await;
    }

    /// The job as soon as it runs and has committed offsets, which it does with its checkpoints.
    async fn running(&self) -> JobRun {
        for _ in 0..1_200 {
            if let Ok(run) = self.flink.describe(&job()).await
                && run.status == JobStatus::Running
                && self.on_kafka().await.groups == [JOB]
            {
                return run;
            }
            self.pause_wall(0.1).await;
        }
        panic!("the job does not run");
    }

    /// What is on Kafka that clones have something of, too: topics, groups, open transactions.
    async fn on_kafka(&self) -> OnKafka {
        let admin = Admin::at(&self.settings).unwrap();
        // The job's own are open as a rule, under another number each time.
        let foreign = |found: &Transaction| found.open && !found.id.starts_with(JOB);
        let transactions = admin.transactions("").await.unwrap();
        OnKafka {
            topics: admin.topics().await.unwrap(),
            groups: admin.groups("").await.unwrap(),
            open: transactions.into_iter().filter(foreign).map(|found| found.id).collect(),
        }
    }

    /// Deployments on Flink that have not ended.
    async fn present(&self) -> Vec<EngineJobId> {
        let clones = self.clones.running().await.unwrap();
        let mut present: Vec<EngineJobId> =
            clones.into_iter().map(|clone| clone.engine_id).collect();
        for key in self.flink.list().await.unwrap() {
            present.push(self.flink.describe(&key).await.unwrap().engine_id);
        }
        present
    }
}

#[derive(Debug, PartialEq)]
struct OnKafka {
    topics: Vec<String>,
    groups: Vec<String>,
    open: Vec<String>,
}

/// Sends events to the job's topic, until the sender is dropped.
fn load(settings: &KafkaSettings) -> oneshot::Sender<()> {
    let schedule = Schedule::new(&[(0.0, RATE as f64), (3_600.0, RATE as f64)]).unwrap();
    let config = ReplayConfig {
        source: Source::Made { made: Made::IotVehicles, seed: 7 },
        from: None,
        to: None,
        into: INPUT.to_owned(),
        pace: Pace::Scheduled(schedule),
        shift_time: false,
        shift_field: None,
        max_late: Duration::from_mins(1),
        patience: Duration::from_mins(1),
    };
    let replay = Replay::prepare(settings, config).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        in_real_time(async {
            let replayed =
                replay.run(khaos::clock::anchored(), async { drop(stopped.await) }, |_| {});
            assert_eq!(replayed.await.spoilt, None);
        });
    });
    stop
}

/// Runs `test` on a lab whose job is loaded.
async fn in_lab(port_base: u16, test: impl AsyncFnOnce(&Known, &Arena)) {
    let folder = tempfile::tempdir().unwrap();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = std::env::var_os("KHAOS_CACHE").map(PathBuf::from);
    let cache = cache.unwrap_or(workspace.join("target/lab-cache"));
    let flink = [
        ("heartbeat.interval", "1 s"),
        ("heartbeat.timeout", "5 s"),
        ("metrics.fetcher.update-interval", "50"),
        ("web.timeout", "3000"),
        ("pekko.ask.timeout", "3 s"),
        ("metrics.latency.interval", "100 ms"),
        ("rest.cache.checkpoint-statistics.timeout", "5 ms"),
        ("execution.checkpointing.interval", &format!("{INTERVAL_MS} ms")),
    ];
    let config = LabConfig {
        port_base,
        task_managers: TASK_MANAGERS,
        slots: 1,
        kafka: Some(LabKafka::default()),
        flink: flink.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ..LabConfig::new(folder.path().join("lab"), cache)
    };
    let mut lab = Lab::up(config, |step| println!("{step}")).await.unwrap();
    let bootstrap = lab.bootstrap().unwrap().to_owned();
    let settings = KafkaSettings::at(&bootstrap).unwrap();
    let topic = |name: &str| NewTopic {
        name: name.to_owned(),
        partitions: PARTITIONS,
        settings: BTreeMap::new(),
    };
    Admin::at(&settings).unwrap().create(&[topic(INPUT), topic(OUTPUT)]).await.unwrap();
    let plain = PipelineJob {
        parallelism: 1,
        capacity: Some(CAPACITY),
        ..PipelineJob::new(JOB, Pipeline::IotVehicles, INPUT, OUTPUT)
    };
    lab.submit_pipeline(&plain, |step| println!("{step}")).await.unwrap();
    let marked = PipelineJob {
        input: format!("{{input:{INPUT}}}"),
        output: format!("{{output:{OUTPUT}}}"),
        group: format!("{{group:{JOB}}}"),
        transactional_id_prefix: format!("{{transactions:{JOB}}}"),
        ..plain
    };
    let Submission { jar, entry_class, arguments, .. } =
        lab.pipeline(&marked, |step| println!("{step}")).await.unwrap();
    let known = Known {
        rest_url: lab.rest_url().to_owned(),
        bootstrap,
        lab: lab.folder().to_owned(),
        store: folder.path().join("khaos.sqlite"),
        jar,
        entry_class,
        arguments,
    };
    let stop = load(&settings);
    let arena = known.arena();
    tokio::select! {
        biased;
        ended = lab.supervise() => panic!("{ended}"),
        () = test(&known, &arena) => {}
    }
    drop(stop);
    lab.down().await.unwrap();
}

/// One lab for both: two of these beside each other take the machine from whoever else tests.
#[test]
#[ignore = "starts a real Flink and a real Kafka: ./test.sh runs it"]
fn clones_that_read_kafka_keep_the_contract_and_leave_nothing_whenever_khaos_dies() {
    in_real_time(in_lab(23_600, async |known, arena| {
        let target = arena.running().await;
        let before = arena.on_kafka().await;
        assert_eq!(before.topics, [OUTPUT, INPUT]);
        let bench = arena.bench();
        contract::clones_live_and_die(&bench).await;
        contract::workload_is_replayed_at_its_pace(&bench).await;
        contract::faults_break_clones_only(&bench).await;
        drop(bench);
        assert_eq!(arena.on_kafka().await, before, "clones leave nothing");
        // A trial is fed for no longer than was recorded.
        while arena.clones.recorded(&job()).await.unwrap().secs() < RECORDED_S {
            arena.pause_wall(1.0).await;
        }
        for (step, after_ms) in DEATHS {
            let left = dies_at(known, arena, step, after_ms).await;
            let next = known.arena();
            let profile = known.profile(
                &next,
                next.clones.clone(),
                next.clones.clone(),
                next.injector.clone(),
            );
            profile.reconcile(&job()).await.unwrap();
            println!("{step} + {after_ms} ms had left {left:?}");
            assert!(step != BROKEN || !left.open.is_empty(), "there is something to abort");
            assert_eq!(next.on_kafka().await, before, "{step} + {after_ms} ms");
            assert_eq!(next.present().await, std::slice::from_ref(&target.engine_id));
            if step == "launch" {
                // A mark may have come of a launch that was never sent: the start after next takes it away.
                arena.pause_wall(6.0).await;
                profile.reconcile(&job()).await.unwrap();
                assert_eq!(next.on_kafka().await, before, "late, {step} + {after_ms} ms");
                assert_eq!(next.present().await, std::slice::from_ref(&target.engine_id));
            }
        }
        let run = arena.flink.describe(&job()).await.unwrap();
        assert_eq!((run.engine_id, run.attempt), (target.engine_id, target.attempt));
    }));
}

/// A life that ends with -9 so long after it said `step`: what it left. On a slow machine a trial may be spoilt
/// before it comes to that: then another.
async fn dies_at(known: &Known, arena: &Arena, step: &str, after_ms: u32) -> OnKafka {
    for _ in 0..LIVES {
        let (khaos, mut steps) = begins("kafka_clones::a_life_with_kafka", known);
        while let Some(said) = steps.recv().await {
            if said == step {
                arena.pause_wall(f64::from(after_ms) / 1_000.0).await;
                drop(khaos);
                return arena.on_kafka().await;
            }
            if said.starts_with("the end") {
                println!("no {step}: {said}");
            }
        }
    }
    panic!("{LIVES} lives without {step}");
}

/// Nothing but what the test above starts and kills.
#[test]
#[ignore = "does nothing unless the test above starts it"]
fn a_life_with_kafka() {
    let Ok(life) = std::env::var(LIFE) else { return };
    in_real_time(serde_json::from_str::<Known>(&life).unwrap().lived());
}
