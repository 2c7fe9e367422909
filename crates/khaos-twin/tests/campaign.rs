//! A campaign that is interrupted anywhere resumes and ends with the same records.
#![allow(clippy::unwrap_used, reason = "a test says what is broken by panicking")]

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use khaos_control::clock::Clock;
use khaos_control::core::job::{CheckpointSettings, JobKey};
use khaos_control::core::optimize::Place;
use khaos_control::core::profile::{IntervalBounds, Recovery};
use khaos_control::core::record::{Kind, Record, RecordId};
use khaos_control::core::stats::Seed;
use khaos_control::core::units::{CheckpointInterval, Span, Timestamp};
use khaos_control::observe::{GRACE_MS, Observe};
use khaos_control::optimize::Optimize;
use khaos_control::ports::{CloneHost, CloneId, Clones, Fault, FaultInjector, PortError, Store};
use khaos_control::profile::{CloneBudget, Patience, Profile};
use khaos_control::{ReconcileError, core};
use khaos_twin::{MemoryStore, Twin, TwinConfig, Workload, World};
use tokio::sync::Notify;

const WORLD: &str = r#"
name = "campaign"
capacity_eps = 3000.0
checkpoint_cost_s = 0.5
detect_s = 6.0
restart_s = 5.0
settle_s = 18.0
retune_stall_s = 3.0
checkpoint_duration_s = 1.5
dead_time_sigma = 0.2
[latency]
a = 4.0
b = 0.4
c = -0.05
d = 0.5
load_max_eps = 2500.0
sigma = 0.15
"#;

/// A store whose process dies right after the record that it was told to die after.
struct Mortal {
    inner: Arc<MemoryStore>,
    dies_after: usize,
    death: Arc<Notify>,
}

#[async_trait]
impl Store for Mortal {
    async fn append(&self, record: Record) -> Result<Arc<Record>, PortError> {
        let record = self.inner.append(record).await?;
        if campaign(&self.inner).len() >= self.dies_after {
            self.death.notify_one();
            std::future::pending::<()>().await;
        }
        Ok(record)
    }
    async fn latest(&self, job: &JobKey, kind: Kind) -> Result<Option<Arc<Record>>, PortError> {
        self.inner.latest(job, kind).await
    }
    async fn range(
        &self,
        job: &JobKey,
        kind: Kind,
        span: Span,
    ) -> Result<Vec<Arc<Record>>, PortError> {
        self.inner.range(job, kind, span).await
    }
    async fn children(&self, id: &RecordId) -> Result<Vec<Arc<Record>>, PortError> {
        self.inner.children(id).await
    }
}

/// What the campaign has said so far: everything but the minutes.
fn campaign(store: &MemoryStore) -> BTreeSet<RecordId> {
    let all = store.all();
    all.iter().filter(|r| r.fact().kind() != Kind::Minute).map(|r| r.id().clone()).collect()
}

struct Cluster {
    clock: Clock,
    twin: Arc<Twin>,
    memory: Arc<MemoryStore>,
    job: JobKey,
    recorded: Span,
}

impl Cluster {
    /// A job that has been observed for an hour and a half.
    async fn observed() -> Self {
        Self::observed_in(WORLD).await
    }

    async fn observed_in(world: &str) -> Self {
        let clock = Clock::anchored(Timestamp(1_000_000_020_000));
        let job = JobKey("campaign".into());
        let workload = (0..90).map(|i| 1_200.0 + 900.0 * (f64::from(i) / 14.0).sin()).collect();
        let config = TwinConfig {
            job: job.clone(),
            world: World::parse(world).unwrap(),
            workload: Workload::new(workload).unwrap(),
            settings: CheckpointSettings::full(CheckpointInterval::from_secs(60).unwrap()),
            failures: vec![],
            outages: vec![],
            seed: Seed(5),
            noise: true,
        };
        let twin = Twin::start(config, clock);
        let from = twin.started_at();
        let recorded = Span { from: from.minute(), to: from.plus_secs(90.0 * 60.0).minute() };
        let cluster = Self { clock, twin, memory: Arc::default(), job, recorded };
        let observe = cluster.observe(cluster.memory.clone());
        let mut tick = from.minute().plus_millis(60_000 + GRACE_MS);
        while tick <= recorded.to.plus_millis(GRACE_MS) {
            clock.sleep_until(tick).await;
            observe.minutes(&cluster.job).await.unwrap();
            tick = tick.plus_millis(60_000);
        }
        cluster
    }

    fn observe(&self, store: Arc<dyn Store>) -> Observe {
        Observe {
            clock: self.clock,
            jobs: self.twin.clone(),
            metrics: self.twin.clone(),
            checkpoints: self.twin.clone(),
            store,
        }
    }

    /// One life of the process: everything that follows from the minutes.
    async fn life(&self, store: Arc<dyn Store>) -> Result<(), ReconcileError> {
        self.life_on(store, CloneBudget { at_once: 2, clone_minutes: 6.0 * 50.0 }).await
    }

    async fn life_on(
        &self,
        store: Arc<dyn Store>,
        budget: CloneBudget,
    ) -> Result<(), ReconcileError> {
        let secs = |s| CheckpointInterval::from_secs(s).unwrap();
        let bounds = IntervalBounds::new(secs(5), secs(60)).unwrap();
        self.observe(store.clone())
            .conclude(&self.job, self.recorded, Patience::default().stretch(bounds.max()))
            .await?;
        self.profile(store.clone(), bounds, budget, self.twin.clone()).reconcile(&self.job).await?;
        self.fit(store, bounds).await
    }

    fn profile(
        &self,
        store: Arc<dyn Store>,
        bounds: IntervalBounds,
        budget: CloneBudget,
        injector: Arc<dyn FaultInjector>,
    ) -> Profile {
        Profile {
            clock: self.clock,
            jobs: self.twin.clone(),
            metrics: self.twin.clone(),
            checkpoints: self.twin.clone(),
            clones: Clones::new(self.twin.clone()),
            log: self.twin.clone(),
            injector,
            store,
            bounds,
            objective: None,
            budget,
            patience: Patience::default(),
        }
    }

    async fn fit(
        &self,
        store: Arc<dyn Store>,
        bounds: IntervalBounds,
    ) -> Result<(), ReconcileError> {
        let goals = core::optimize::Goals {
            objectives: core::optimize::Objectives {
                recovery: None,
                visibility: None,
                latency: None,
                order: core::optimize::Objectives::DEFAULT_ORDER.to_vec(),
            },
            bounds,
            checkpoints_per_hour: None,
            confidence: core::optimize::Confidence::Mean,
        };
        Optimize::new(self.clock, self.twin.clone(), store, goals).fit(&self.job).await
    }

    async fn assert_clean(&self) {
        assert_eq!(self.twin.running().await, Ok(vec![]), "no clone is left");
    }
}

async fn uninterrupted() -> BTreeSet<RecordId> {
    let cluster = Cluster::observed().await;
    cluster.life(cluster.memory.clone()).await.unwrap();
    cluster.assert_clean().await;
    campaign(&cluster.memory)
}

#[tokio::test(start_paused = true)]
async fn interrupted_after_any_record_it_ends_with_the_same_records() {
    let whole = uninterrupted().await;
    assert_eq!(whole.len(), 1 + 1 + 6 + 1, "observation, design, six trials, models");
    for dies_after in 1..=whole.len() {
        let cluster = Cluster::observed().await;
        let death = Arc::new(Notify::new());
        let mortal = Mortal { inner: cluster.memory.clone(), dies_after, death: death.clone() };
        tokio::select! {
            biased;
            () = death.notified() => {}
            ended = cluster.life(Arc::new(mortal)) => panic!("it outlived its death: {ended:?}"),
        }
        assert_eq!(campaign(&cluster.memory).len(), dies_after);
        cluster.life(cluster.memory.clone()).await.unwrap();
        assert_eq!(campaign(&cluster.memory), whole, "died after {dies_after} records");
        cluster.assert_clean().await;
    }
}

#[tokio::test(start_paused = true)]
async fn killed_in_the_middle_of_trials_it_ends_with_the_same_records() {
    let whole = uninterrupted().await;
    for seconds in [1.0, 333.3, 517.0, 634.5] {
        let cluster = Cluster::observed().await;
        let mut hit = false;
        // Three deaths in a row, each after as long.
        for _ in 0..3 {
            let until = cluster.clock.now().plus_secs(seconds);
            tokio::select! {
                biased;
                () = cluster.clock.sleep_until(until) => {}
                ended = cluster.life(cluster.memory.clone()) => ended.unwrap(),
            }
            hit |= !cluster.twin.running().await.unwrap().is_empty();
        }
        assert!(hit, "a kill must hit a trial to prove anything");
        cluster.life(cluster.memory.clone()).await.unwrap();
        assert_eq!(campaign(&cluster.memory), whole, "killed every {seconds} s");
        cluster.assert_clean().await;
    }
}

#[tokio::test(start_paused = true)]
async fn budgets_are_hard() {
    let cluster = Cluster::observed().await;
    for broke in [
        CloneBudget { at_once: 0, clone_minutes: 600.0 },
        CloneBudget { at_once: 2, clone_minutes: 20.0 },
    ] {
        let refused = cluster.life_on(cluster.memory.clone(), broke).await;
        assert!(matches!(refused, Err(ReconcileError::Budget(_))), "{refused:?}");
        assert_eq!(cluster.twin.launched(), 0);
    }
    // At 44 minutes a trial at most, 140 clone-minutes are three trials, one after the other.
    let thrifty = CloneBudget { at_once: 1, clone_minutes: 140.0 };
    let most = std::cell::Cell::new(0);
    let watch = async {
        loop {
            most.set(most.get().max(cluster.twin.running().await.unwrap().len()));
            cluster.clock.sleep_until(cluster.clock.now().plus_secs(1.0)).await;
        }
    };
    let began_at = cluster.clock.now();
    tokio::select! {
        biased;
        ended = cluster.life_on(cluster.memory.clone(), thrifty) => ended.unwrap(),
        () = watch => unreachable!("it watches for ever"),
    }
    assert_eq!((most.get(), cluster.twin.launched()), (1, 3));
    assert!(cluster.clock.now().secs_since(began_at) <= 140.0 * 60.0);
}

/// Who kills only every `nth` clone, and says of the others that they cannot be found.
struct Clumsy {
    twin: Arc<Twin>,
    nth: usize,
    asked: std::sync::Mutex<usize>,
}

#[async_trait]
impl FaultInjector for Clumsy {
    async fn aim(&self, clone: &CloneId) -> Result<(), PortError> {
        self.twin.aim(clone).await
    }

    async fn inject(&self, clone: &CloneId, fault: Fault) -> Result<(), PortError> {
        let asked = {
            let mut asked = self.asked.lock().unwrap();
            *asked += 1;
            *asked
        };
        if asked.is_multiple_of(self.nth) {
            return self.twin.inject(clone, fault).await;
        }
        Err(PortError::Refused("no such pod".into()))
    }
}

#[tokio::test(start_paused = true)]
async fn what_said_nothing_is_run_again_when_somebody_asks_for_it() {
    let cluster = Cluster::observed().await;
    let secs = |s| CheckpointInterval::from_secs(s).unwrap();
    let bounds = IntervalBounds::new(secs(5), secs(60)).unwrap();
    let budget = CloneBudget { at_once: 2, clone_minutes: 6.0 * 50.0 };
    let shape = Patience::default().stretch(bounds.max());
    let store = cluster.memory.clone();
    let observe = cluster.observe(store.clone());
    observe.conclude(&cluster.job, cluster.recorded, shape).await.unwrap();
    let profile = |nth| {
        let injector =
            Clumsy { twin: cluster.twin.clone(), nth, asked: std::sync::Mutex::default() };
        cluster.profile(store.clone(), bounds, budget, Arc::new(injector))
    };
    let spoilt = || {
        let all = store.all();
        let trials = all.iter().filter_map(|record| record.trial());
        trials.filter(|trial| matches!(&trial.recovery, Recovery::Spoilt(_))).count()
    };
    // Nothing has been tried yet.
    profile(1).again(&cluster.job).await.unwrap();
    assert_eq!(cluster.twin.launched(), 0);
    // Of six, two are measured.
    profile(3).reconcile(&cluster.job).await.unwrap();
    assert_eq!((cluster.twin.launched(), spoilt()), (6, 4));
    // By itself a campaign does not try again: its budget is hard.
    profile(1).reconcile(&cluster.job).await.unwrap();
    assert_eq!(cluster.twin.launched(), 6);
    // Of the four that said nothing none is measured, and then all, twice for the same reason or not.
    profile(usize::MAX).again(&cluster.job).await.unwrap();
    assert_eq!((cluster.twin.launched(), spoilt()), (10, 8));
    profile(1).again(&cluster.job).await.unwrap();
    assert_eq!((cluster.twin.launched(), spoilt()), (14, 8));
    profile(1).again(&cluster.job).await.unwrap();
    assert_eq!(cluster.twin.launched(), 14, "nothing is left to be tried again");
    cluster.fit(store.clone(), bounds).await.unwrap();
    let all = store.all();
    let models = all.iter().rev().find(|record| record.models().is_some()).unwrap();
    let rests_on = |record: &&Arc<Record>| models.parents().contains(record.id());
    let measured = all.iter().filter(rests_on).filter_map(|record| record.trial());
    let measured = measured.filter(|trial| matches!(trial.recovery, Recovery::Measured(_)));
    assert_eq!(measured.count(), 6, "the models rest on each trial as it was measured");
    cluster.assert_clean().await;
}

#[tokio::test(start_paused = true)]
async fn a_finished_campaign_deploys_nothing_more() {
    let cluster = Cluster::observed().await;
    cluster.life(cluster.memory.clone()).await.unwrap();
    let launched = cluster.twin.launched();
    assert_eq!(launched, 6);
    cluster.life(cluster.memory.clone()).await.unwrap();
    assert_eq!(cluster.twin.launched(), launched);
}

#[tokio::test(start_paused = true)]
async fn where_more_is_affordable_trials_go_on_until_they_teach_too_little() {
    let generous = CloneBudget { at_once: 2, clone_minutes: 40.0 * 50.0 };
    // Restarts that vary by 60 %: six of them do not make the mean sure.
    let cluster = Cluster::observed_in(&WORLD.replace("sigma = 0.2", "sigma = 0.6")).await;
    // Each life fits models to what there is and runs what they ask for; one is killed in the middle.
    let mut launched = Vec::new();
    loop {
        let until = cluster.clock.now().plus_secs(700.0);
        if launched.len() == 2 {
            tokio::select! {
                biased;
                () = cluster.clock.sleep_until(until) => {}
                ended = cluster.life_on(cluster.memory.clone(), generous) => ended.unwrap(),
            }
        }
        cluster.life_on(cluster.memory.clone(), generous).await.unwrap();
        cluster.assert_clean().await;
        launched.push(cluster.twin.launched());
        assert!(launched.len() < 40, "it does not end: {launched:?}");
        if launched
            .iter()
            .rev()
            .take(2)
            .all(|n| launched.len() > 1 && *n == cluster.twin.launched())
        {
            break;
        }
    }
    let all = cluster.memory.all();
    let trials = all.iter().filter(|record| record.trial().is_some()).count();
    let designs: Vec<_> = all.iter().filter_map(|record| record.design()).collect();
    assert!(trials > 6, "more than six are worth it: {launched:?}");
    assert_eq!(designs.iter().map(|design| design.trials.len()).sum::<usize>(), trials);
    assert!(!designs[0].further && designs[1..].iter().all(|design| design.further));
    let doubts: Vec<f64> = all
        .iter()
        .filter_map(|record| record.models())
        .map(|models| {
            let at = |load| Place { interval_s: 17.0, duration_s: 1.5, load };
            models.recovery.doubt(&[at(600.0), at(1_200.0), at(2_000.0)])
        })
        .collect();
    assert!(doubts.last() < doubts.first(), "{doubts:?}");
    let models: Vec<_> = all.iter().filter(|record| record.models().is_some()).collect();
    assert_eq!(models.last().unwrap().parents().len(), trials, "they rest on every trial");
}
