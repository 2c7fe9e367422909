//! Acting: a restart takes up what was in force, and what did harm is undone.
#![allow(clippy::unwrap_used, reason = "a test says what is broken by panicking")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use khaos_control::act::Act;
use khaos_control::clock::Clock;
use khaos_control::core::job::{CheckpointSettings, JobKey, JobRun, JobStatus};
use khaos_control::core::observe::Minute;
use khaos_control::core::optimize::{Confidence, Effect, Goals, Objectives, Outcome};
use khaos_control::core::profile::IntervalBounds;
use khaos_control::core::record::{Fact, Kind, Record};
use khaos_control::core::stats::Seed;
use khaos_control::core::units::{CheckpointInterval, Timestamp};
use khaos_control::ports::{Actuator, Generation, PortError, Store};
use khaos_twin::{MemoryStore, Twin, TwinConfig, Workload, World};

const WORLD: &str = r#"
name = "act"
capacity_eps = 1000.0
checkpoint_cost_s = 0.4
detect_s = 8.0
restart_s = 4.0
settle_s = 20.0
retune_stall_s = 3.0
[latency]
a = 4.0
b = 0.4
c = -0.05
d = 0.5
load_max_eps = 800.0
"#;

/// Notes what it is asked for; answers as it was told to, one answer after the other, then yes.
#[derive(Default)]
struct Spy {
    asked: Mutex<Vec<(CheckpointInterval, Generation)>>,
    answers: Mutex<Vec<PortError>>,
}

#[async_trait]
impl Actuator for Spy {
    async fn apply(
        &self,
        _: &JobRun,
        interval: CheckpointInterval,
        generation: Generation,
    ) -> Result<(), PortError> {
        self.asked.lock().unwrap().push((interval, generation));
        self.answers.lock().unwrap().pop().map_or(Ok(()), Err)
    }

    async fn release(&self, _: &JobRun) -> Result<(), PortError> {
        Ok(())
    }
}

fn secs(seconds: u32) -> CheckpointInterval {
    CheckpointInterval::from_secs(seconds).unwrap()
}

struct Scene {
    clock: Clock,
    job: JobKey,
    store: Arc<MemoryStore>,
    spy: Arc<Spy>,
    act: Act,
}

/// Seven minutes around a change from 60 s to 20 s in the fourth; from then on checkpoints fail, if
/// they do.
async fn scene(failing: bool) -> Scene {
    let start = Timestamp(1_000_000_020_000).minute();
    let clock = Clock::anchored(start);
    let job = JobKey("act".into());
    let config = TwinConfig {
        job: job.clone(),
        world: World::parse(WORLD).unwrap(),
        workload: Workload::new(vec![500.0; 60]).unwrap(),
        settings: CheckpointSettings::full(secs(60)),
        failures: vec![],
        outages: vec![],
        seed: Seed(1),
        noise: false,
    };
    let twin = Twin::start(config, clock);
    let store = Arc::new(MemoryStore::default());
    let spy = Arc::new(Spy::default());
    let goals = Goals {
        objectives: Objectives {
            recovery: None,
            visibility: None,
            latency: None,
            order: Objectives::DEFAULT_ORDER.to_vec(),
        },
        bounds: IntervalBounds::new(secs(5), secs(60)).unwrap(),
        checkpoints_per_hour: None,
        confidence: Confidence::Mean,
    };
    let act = Act::new(clock, twin, spy.clone(), store.clone(), goals);
    for i in 0..7_u32 {
        let at = start.plus_secs(60.0 * f64::from(i));
        let after = i > 3 && failing;
        let minute = Minute {
            status: JobStatus::Running,
            attempt: Some(0),
            checkpoints_completed: Some(if after { 0 } else { 3 }),
            checkpoints_failed: Some(if after { u64::from(i) } else { 0 }),
            ..Minute::blind(at)
        };
        let record = Record::new(&job, at.plus_secs(70.0), vec![], Fact::Minute(minute));
        store.append(record).await.unwrap();
    }
    let changed_at = start.plus_secs(190.0);
    let outcome = Outcome {
        at: changed_at,
        from: secs(60),
        to: secs(20),
        generation: 4,
        effect: Effect::Applied,
        stalled: None,
    };
    store.append(Record::new(&job, changed_at, vec![], Fact::Outcome(outcome))).await.unwrap();
    clock.sleep_until(start.plus_secs(490.0)).await;
    Scene { clock, job, store, spy, act }
}

impl Scene {
    fn asked(&self) -> Vec<(CheckpointInterval, Generation)> {
        self.spy.asked.lock().unwrap().clone()
    }

    async fn last(&self) -> Outcome {
        let record = self.store.latest(&self.job, Kind::Outcome).await.unwrap().unwrap();
        record.outcome().unwrap().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_life_takes_up_what_was_in_force() {
    let scene = scene(false).await;
    scene.act.reconcile(&scene.job).await.unwrap();
    assert_eq!(scene.asked(), [(secs(20), 5)]);
    scene.act.reconcile(&scene.job).await.unwrap();
    assert_eq!(scene.asked().len(), 1, "once is enough");
    let all = scene.store.all();
    let outcomes: Vec<&Outcome> = all.iter().filter_map(|record| record.outcome()).collect();
    assert!(outcomes.iter().any(|o| {
        (o.from, o.to, o.generation, &o.effect) == (secs(20), secs(20), 5, &Effect::Applied)
    }));
    // Taking up hides nothing: the change before it was judged all the same.
    assert_eq!(outcomes.iter().filter(|o| o.effect == Effect::Kept).count(), 1);
    assert!(outcomes.iter().all(|o| o.at <= scene.clock.now()));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_answered_is_tried_again() {
    let scene = scene(false).await;
    scene.spy.answers.lock().unwrap().push(PortError::Unavailable("asleep".into()));
    assert!(scene.act.reconcile(&scene.job).await.is_err());
    scene.act.reconcile(&scene.job).await.unwrap();
    assert_eq!(scene.asked(), [(secs(20), 5), (secs(20), 5)]);
}

#[tokio::test(start_paused = true)]
async fn checkpoints_that_fail_since_a_change_undo_it() {
    let scene = scene(true).await;
    scene.act.reconcile(&scene.job).await.unwrap();
    assert_eq!(scene.asked(), [(secs(20), 5), (secs(60), 6)]);
    let last = scene.last().await;
    assert!(matches!(last.effect, Effect::RolledBack(_)), "{last:?}");
    assert_eq!((last.from, last.to), (secs(20), secs(60)));
}
