//! `khaos run` in virtual time: the daemon over the twin, in each of its modes, through silence and
//! restarts.
#![allow(clippy::unwrap_used, reason = "a test says what is broken by panicking")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use khaos::config::{Change, Job, Mode, Redeploy};
use khaos::run::Daemon;
use khaos_adapters::flink::{Description, Submission};
use khaos_control::act::driver::Driver;
use khaos_control::clock::Clock;
use khaos_control::observe::Observe;
use khaos_control::optimize::Optimize;
use khaos_control::ports::{
    Actuator, Checkpoints, Clones, Jobs, Metrics, PortError, Store, TriggerOutcome,
};
use khaos_control::profile::{CloneBudget, Patience, Profile};
use khaos_core::job::{
    CheckpointHistory, CheckpointSettings, EngineJobId, JobKey, JobRun, TriggerId,
};
use khaos_core::observe::Minute;
use khaos_core::optimize::{
    Confidence, Decision, Effect, Goals, Objectives, Outcome, Reason, Verdict,
};
use khaos_core::record::{Kind, Record};
use khaos_core::series::Readings;
use khaos_core::stats::Seed;
use khaos_core::units::{CheckpointInterval, Millis, Seconds, Span, Timestamp};
use khaos_twin::{MemoryStore, Redeployer, Twin, TwinConfig, Workload, World};

const WORLD: &str = r#"
name = "orders"
capacity_eps = 3000.0
checkpoint_cost_s = 0.5
detect_s = 6.0
restart_s = 5.0
settle_s = 18.0
retune_stall_s = 3.0
checkpoint_duration_s = 1.5
[latency]
a = 4.0
b = 0.4
c = -0.05
d = 0.5
load_max_eps = 2500.0
"#;
const START: Timestamp = Timestamp(1_000_000_020_000);

/// The twin behind ports that do not answer during `silence`, and count triggers.
struct Cluster {
    clock: Clock,
    twin: Arc<Twin>,
    silence: Mutex<Option<Span>>,
    triggered: AtomicU32,
    memory: Arc<MemoryStore>,
}

impl Cluster {
    /// A job with an interval of 60 s, to be followed from now on.
    fn start() -> Arc<Self> {
        let clock = Clock::anchored(START);
        let workload = (0..600).map(|i| 1_200.0 + 900.0 * (f64::from(i) / 14.0).sin()).collect();
        let config = TwinConfig {
            job: JobKey("orders".into()),
            world: World::parse(WORLD).unwrap(),
            workload: Workload::new(workload).unwrap(),
            settings: CheckpointSettings::full(secs(60)),
            failures: vec![],
            outages: vec![],
            seed: Seed(5),
            noise: true,
        };
        let twin = Twin::start(config, clock);
        let (silence, triggered) = (Mutex::default(), AtomicU32::default());
        Arc::new(Self { clock, twin, silence, triggered, memory: Arc::default() })
    }

    /// Follows the job for `minutes`, in a life of its own.
    async fn follow(self: &Arc<Self>, mode: Mode, minutes: f64) {
        self.follows(Job { mode, ..job() }, minutes).await;
    }

    async fn follows(self: &Arc<Self>, job: Job, minutes: f64) {
        let actuator: Arc<dyn Actuator> = match job.change {
            Change::Redeploy(_) => Arc::new(Redeployer::new(self.twin.clone())),
            _ => Arc::new(Driver::new(self.clock, self.clone(), self.clone())),
        };
        let daemon = Daemon {
            clock: self.clock,
            jobs: self.clone(),
            metrics: self.clone(),
            checkpoints: self.clone(),
            actuator,
            store: self.memory.clone(),
            job,
        };
        daemon.follow(self.clock.now().plus_secs(60.0 * minutes)).await.unwrap();
    }

    /// Nobody answers for `minutes` from now on.
    fn falls_silent(&self, minutes: f64) {
        let now = self.clock.now();
        *self.silence.lock().unwrap() = Some(Span { from: now, to: now.plus_secs(60.0 * minutes) });
    }

    /// Runs a campaign on what was observed so far.
    async fn profile(&self) {
        let store: Arc<dyn Store> = self.memory.clone();
        let key = job().key;
        let observe = Observe {
            clock: self.clock,
            jobs: self.twin.clone(),
            metrics: self.twin.clone(),
            checkpoints: self.twin.clone(),
            store: store.clone(),
        };
        let bounds = job().bounds(secs(60));
        let observed = Span { from: START, to: self.clock.now() };
        observe.conclude(&key, observed, Patience::default().stretch(bounds.max())).await.unwrap();
        let profile = Profile {
            clock: self.clock,
            jobs: self.twin.clone(),
            metrics: self.twin.clone(),
            checkpoints: self.twin.clone(),
            clones: Clones::new(self.twin.clone()),
            log: self.twin.clone(),
            injector: self.twin.clone(),
            store: store.clone(),
            bounds,
            objective: None,
            budget: CloneBudget { at_once: 3, clone_minutes: 6.0 * 50.0 },
            patience: Patience::default(),
        };
        profile.reconcile(&key).await.unwrap();
        let goals = Goals {
            objectives: job().objectives,
            bounds,
            checkpoints_per_hour: None,
            confidence: Confidence::Mean,
        };
        Optimize::new(self.clock, self.twin.clone(), store, goals).fit(&key).await.unwrap();
    }

    fn triggered(&self) -> u32 {
        self.triggered.load(Ordering::Relaxed)
    }

    fn all<T: Clone>(&self, body: impl Fn(&Record) -> Option<&T>) -> Vec<T> {
        self.memory.all().iter().filter_map(|record| body(record).cloned()).collect()
    }

    fn decisions(&self) -> Vec<Decision> {
        self.all(Record::decision)
    }

    fn answers(&self) -> Result<(), PortError> {
        let now = self.clock.now();
        match *self.silence.lock().unwrap() {
            Some(span) if span.contains(now) => {
                Err(PortError::Unavailable("nobody answers".into()))
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Jobs for Cluster {
    async fn list(&self) -> Result<Vec<JobKey>, PortError> {
        self.answers()?;
        self.twin.list().await
    }

    async fn describe(&self, job: &JobKey) -> Result<JobRun, PortError> {
        self.answers()?;
        self.twin.describe(job).await
    }

    async fn run(&self, id: &EngineJobId) -> Result<JobRun, PortError> {
        self.answers()?;
        self.twin.run(id).await
    }
}

#[async_trait]
impl Metrics for Cluster {
    async fn readings(&self, job: &EngineJobId, span: Span) -> Result<Readings, PortError> {
        self.answers()?;
        self.twin.readings(job, span).await
    }
}

#[async_trait]
impl Checkpoints for Cluster {
    async fn history(&self, job: &EngineJobId) -> Result<CheckpointHistory, PortError> {
        self.answers()?;
        self.twin.history(job).await
    }

    async fn trigger(&self, job: &EngineJobId, id: &TriggerId) -> Result<(), PortError> {
        self.triggered.fetch_add(1, Ordering::Relaxed);
        self.answers()?;
        self.twin.trigger(job, id).await
    }

    async fn outcome(
        &self,
        job: &EngineJobId,
        id: &TriggerId,
    ) -> Result<TriggerOutcome, PortError> {
        self.answers()?;
        self.twin.outcome(job, id).await
    }
}

fn secs(seconds: u32) -> CheckpointInterval {
    CheckpointInterval::from_secs(seconds).unwrap()
}

fn job() -> Job {
    Job {
        key: JobKey("orders".into()),
        mode: Mode::Observe,
        deployment: None,
        change: Change::Drive,
        objectives: Objectives::recovery_and_latency(
            Seconds::new(150.0).unwrap(),
            Millis::new(500.0).unwrap(),
        ),
        min: secs(5),
        max: None,
        confidence: Confidence::Mean,
        checkpoints_per_hour: None,
        kafka: None,
        profile: None,
    }
}

#[tokio::test(start_paused = true)]
async fn observing_records_and_decides_nothing() {
    let cluster = Cluster::start();
    cluster.follow(Mode::Observe, 60.5).await;
    assert_eq!(cluster.all(Record::minute).len(), 61, "the one before it began, and sixty");
    assert!(cluster.memory.all().iter().all(|record| record.fact().kind() == Kind::Minute));
    assert_eq!(cluster.triggered(), 0);
}

#[tokio::test(start_paused = true)]
async fn without_trials_both_other_modes_recommend_and_never_trigger() {
    for mode in [Mode::Recommend, Mode::Auto] {
        let cluster = Cluster::start();
        cluster.follow(mode, 60.5).await;
        let decisions = cluster.decisions();
        assert_eq!(decisions.len(), 61);
        let recommended: Vec<&Decision> =
            decisions.iter().filter(|d| d.verdict == Verdict::Recommend).collect();
        assert!(recommended.len() > 10, "{}", recommended.len());
        assert!(decisions.iter().all(|d| matches!(d.verdict, Verdict::Recommend | Verdict::Hold)));
        assert!(
            recommended.iter().any(|d| d.interval < d.from),
            "it must recommend something else"
        );
        assert!(recommended.iter().all(|d| d.sentence().contains("no trial of this job was run")));
        assert_eq!(cluster.all(Record::outcome), [] as [Outcome; 0]);
        assert_eq!(cluster.triggered(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn with_models_auto_drives_and_the_other_modes_do_not() {
    let cluster = Cluster::start();
    cluster.follow(Mode::Observe, 90.5).await;
    cluster.profile().await;

    cluster.follow(Mode::Recommend, 30.0).await;
    assert!(!cluster.decisions().is_empty());
    for decision in cluster.decisions() {
        assert_eq!((decision.verdict, decision.from), (Verdict::Recommend, secs(60)));
        assert_eq!(decision.reasons.last(), Some(&Reason::NotAsked), "{}", decision.sentence());
    }
    assert_eq!((cluster.triggered(), cluster.all(Record::outcome).len()), (0, 0));

    // The load rises again meanwhile.
    cluster.follow(Mode::Auto, 60.0).await;
    assert!(cluster.decisions().iter().any(|d| d.verdict == Verdict::Change));
    let driven = cluster.triggered();
    assert!(driven > 20, "{driven}");
    let in_force = cluster.all(Record::outcome).last().unwrap().to;
    assert!(in_force < secs(60));

    // Its end is the end of driving: the job is at its own interval, and a recommendation knows it.
    cluster.follow(Mode::Recommend, 10.0).await;
    assert_eq!(cluster.triggered(), driven);
    assert_eq!(cluster.decisions().last().unwrap().from, secs(60));

    // A new life goes on where the last one was.
    cluster.follow(Mode::Auto, 10.0).await;
    assert!(cluster.triggered() > driven);
}

/// A redeploy sets the job's own interval: the next life may lengthen it again, up to `max`.
#[tokio::test(start_paused = true)]
async fn with_models_auto_redeploys_seldom_and_leaves_the_interval() {
    let deployment = Description::of(Submission {
        name: "orders".into(),
        jar: "orders.jar".into(),
        entry_class: None,
        arguments: vec![],
        parallelism: 1,
        configuration: BTreeMap::new(),
    })
    .unwrap();
    let redeploy = |mode| Job {
        mode,
        change: Change::Redeploy(Box::new(Redeploy {
            deployment: deployment.clone(),
            savepoints: None,
            journal: "orders.json".into(),
        })),
        max: Some(secs(60)),
        ..job()
    };
    let cluster = Cluster::start();
    cluster.follow(Mode::Observe, 90.5).await;
    cluster.profile().await;
    cluster.follows(redeploy(Mode::Recommend), 10.0).await;
    assert_eq!(cluster.all(Record::outcome), []);

    cluster.follows(redeploy(Mode::Auto), 240.0).await;
    assert_eq!(cluster.triggered(), 0, "nothing is driven");
    let changes = |cluster: &Cluster| {
        let mut changes = cluster.all(Record::outcome);
        changes.retain(|o| o.effect == Effect::Applied && o.from != o.to);
        changes
    };
    let changed = changes(&cluster);
    // The load has come and gone nearly three times.
    assert!((1..=12).contains(&changed.len()), "{changed:?}");
    assert!(changed.iter().any(|o| o.to > o.from) && changed.iter().any(|o| o.to < o.from));
    let left = cluster.describe(&job().key).await.unwrap();
    assert_eq!(left.checkpointing.interval, changed.last().unwrap().to, "it is the job's own now");
    assert_eq!(left.engine_id.0, format!("orders-{}", changed.len()));

    // A new life is bound by what the file says, not by what the last one left.
    assert_eq!(redeploy(Mode::Auto).bounds(secs(5)).max(), secs(60));
    assert_eq!(job().bounds(secs(5)).max(), secs(5));
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_the_job_and_outlives_silence() {
    let cluster = Cluster::start();
    cluster.falls_silent(20.0);
    cluster.follow(Mode::Recommend, 15.0).await;
    assert!(cluster.memory.all().is_empty(), "nothing is said of a job that was never there");

    // The next life begins before the engine is back, and goes on for a while.
    cluster.follow(Mode::Recommend, 45.5).await;
    assert!(cluster.decisions().iter().any(|d| d.verdict == Verdict::Recommend));
    let minutes = cluster.all(Record::minute).len();

    // The engine is gone for a while: minutes are blind, decisions hold, then it goes on.
    cluster.falls_silent(5.0);
    cluster.follow(Mode::Recommend, 15.0).await;
    let later: Vec<Minute> = cluster.all(Record::minute)[minutes..].to_vec();
    assert!(later.iter().any(|minute| minute.errors.is_empty()));
    let last = cluster.decisions().pop().unwrap();
    assert_eq!(last.verdict, Verdict::Recommend, "{}", last.sentence());
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_goes_away_in_between_makes_it_hold() {
    let cluster = Cluster::start();
    let silent = async {
        cluster.clock.sleep_until(START.plus_secs(1_800.0)).await;
        cluster.falls_silent(5.0);
    };
    tokio::join!(biased; cluster.follow(Mode::Auto, 60.5), silent);
    let decisions = cluster.decisions();
    assert_eq!(decisions.len(), 61);
    let holds: Vec<&Decision> =
        decisions.iter().filter(|d| d.reasons == [Reason::JobUnknown]).collect();
    assert_eq!(holds.len(), 5);
    assert!(holds.iter().all(|d| d.verdict == Verdict::Hold && d.interval == secs(60)));
    assert_eq!(decisions.last().unwrap().verdict, Verdict::Recommend);
    assert_eq!(cluster.triggered(), 0);
}
