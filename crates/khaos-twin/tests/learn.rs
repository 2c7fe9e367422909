//! A job that nobody may clone: its real failures are its trials.
#![allow(clippy::unwrap_used, reason = "a test says what is broken by panicking")]

use std::sync::Arc;

use khaos_control::act::Act;
use khaos_control::act::driver::Driver;
use khaos_control::clock::Clock;
use khaos_control::core::job::{CheckpointSettings, JobKey, JobStatus};
use khaos_control::core::optimize::{
    Confidence, Decision, Goals, Models, Objectives, Reason, Verdict,
};
use khaos_control::core::profile::{Compared, Failure, IntervalBounds, Measured, Recovery};
use khaos_control::core::record::Record;
use khaos_control::core::stats::Seed;
use khaos_control::core::units::{CheckpointInterval, Millis, Seconds, Span, Timestamp};
use khaos_control::observe::Observe;
use khaos_control::optimize::Optimize;
use khaos_control::ports::{Actuator, Clones, Jobs};
use khaos_control::profile::{CloneBudget, Patience, Profile};
use khaos_control::tuner::{Mode, Tuner};
use khaos_twin::{MemoryStore, Redeployer, Twin, TwinConfig, Workload, World};

const WORLD: &str = r#"
name = "orders"
capacity_eps = 3000.0
checkpoint_cost_s = 0.5
detect_s = 12.0
restart_s = 6.0
settle_s = 18.0
retune_stall_s = 3.0
checkpoint_duration_s = 1.5
dead_time_sigma = 0.1
[latency]
a = 4.0
b = 0.4
c = -0.05
d = 0.5
load_max_eps = 2500.0
sigma = 0.1
"#;
const START: Timestamp = Timestamp(1_000_000_020_000);

fn world() -> World {
    World::parse(WORLD).unwrap()
}

fn secs(seconds: u32) -> CheckpointInterval {
    CheckpointInterval::from_secs(seconds).unwrap()
}

/// A job that is followed, with all that is recorded of it.
struct Scene {
    clock: Clock,
    twin: Arc<Twin>,
    store: Arc<MemoryStore>,
    job: JobKey,
}

impl Scene {
    /// A job with an interval of 60 s and a load between 1,200 ± `swing` events/s that fails when the
    /// first checkpoint after each of `failures`, s after its start, is about to complete.
    fn start(swing: f64, failures: &[f64], outages: &[(f64, f64)]) -> Self {
        let clock = Clock::anchored(START);
        let job = JobKey("orders".into());
        let load = |i: u32| 1_200.0 + swing * (f64::from(i) / 100.0).sin();
        let config = TwinConfig {
            job: job.clone(),
            world: world(),
            workload: Workload::new((0..1_440).map(load).collect()).unwrap(),
            settings: CheckpointSettings::full(secs(60)),
            failures: failures.to_vec(),
            outages: outages.to_vec(),
            seed: Seed(3),
            noise: true,
        };
        Self { clock, twin: Twin::start(config, clock), store: Arc::default(), job }
    }

    /// Follows it until `second`, in a life of its own.
    async fn follow(&self, acts: bool, second: f64) {
        let goals = Goals {
            objectives: Objectives::recovery_and_latency(
                Seconds::new(120.0).unwrap(),
                Millis::new(500.0).unwrap(),
            ),
            bounds: IntervalBounds::new(secs(5), secs(60)).unwrap(),
            checkpoints_per_hour: None,
            confidence: Confidence::Mean,
        };
        let (clock, twin, store) = (self.clock, || self.twin.clone(), || self.store.clone());
        let optimize = Optimize::new(clock, twin(), store(), goals.clone());
        let driver = Arc::new(Driver::new(clock, twin(), twin()));
        let mode = if acts {
            Mode::Auto(optimize, Act::new(clock, twin(), driver, store(), goals))
        } else {
            Mode::Observe
        };
        let observe =
            Observe { clock, jobs: twin(), metrics: twin(), checkpoints: twin(), store: store() };
        let tuner = Tuner { clock, observe, mode };
        tuner.tune(&self.job, START.plus_secs(second)).await.unwrap();
    }

    /// Observes it for two hours and profiles clones of it.
    async fn profile(&self) {
        self.follow(false, 7_300.0).await;
        let (twin, store) = (|| self.twin.clone(), || self.store.clone());
        let observe = Observe {
            clock: self.clock,
            jobs: twin(),
            metrics: twin(),
            checkpoints: twin(),
            store: store(),
        };
        let observed = Span { from: START, to: self.clock.now() };
        observe.conclude(&self.job, observed, Patience::default().stretch(secs(60))).await.unwrap();
        let profile = Profile {
            clock: self.clock,
            jobs: twin(),
            metrics: twin(),
            checkpoints: twin(),
            clones: Clones::new(twin()),
            log: twin(),
            injector: twin(),
            store: store(),
            bounds: IntervalBounds::new(secs(5), secs(60)).unwrap(),
            objective: None,
            budget: CloneBudget { at_once: 6, clone_minutes: 6.0 * 50.0 },
            patience: Patience::default(),
        };
        profile.reconcile(&self.job).await.unwrap();
    }

    fn all<T: Clone>(&self, body: impl Fn(&Record) -> Option<&T>) -> Vec<T> {
        self.store.all().iter().filter_map(|record| body(record).cloned()).collect()
    }

    fn failures(&self) -> Vec<Failure> {
        self.all(Record::failure)
    }

    fn decisions(&self) -> Vec<Decision> {
        self.all(Record::decision)
    }

    fn models(&self) -> Vec<Models> {
        self.all(Record::models)
    }
}

/// One failure every 4,000 s.
fn often(count: u32) -> Vec<f64> {
    (1..=count).map(|i| f64::from(i) * 4_000.0).collect()
}

fn why_nothing(failure: &Failure) -> &str {
    match &failure.measured {
        Measured::Nothing(why) => why,
        Measured::Trial(trial) => panic!("it was measured: {trial:?}"),
    }
}

fn only_recommends(decisions: &[Decision]) -> bool {
    decisions.iter().all(|d| matches!(d.verdict, Verdict::Recommend | Verdict::Hold))
}

#[tokio::test(start_paused = true)]
async fn a_day_of_failures_teaches_what_trials_would_have() {
    let scene = Scene::start(900.0, &often(20), &[]);
    scene.follow(true, 86_000.0).await;
    let (failures, truth) = (scene.failures(), scene.twin.truth().failures);
    assert_eq!((failures.len(), truth.len()), (20, 20));
    for (failure, truth) in failures.iter().zip(&truth) {
        let trial = failure.lesson().unwrap();
        let off_s = failure.failed_at.unwrap().secs_since(truth.failed_at);
        assert!(off_s.abs() <= trial.failed_within.unwrap().get(), "{off_s}: {failure:?}");
        assert_ne!(failure.compared(), Some(Compared::Longer), "{failure:?}");
        assert_ne!(failure.compared(), Some(Compared::Shorter), "{failure:?}");
    }

    // It recommends until four failures in a row came out as predicted, and acts from then on.
    let (decisions, models) = (scene.decisions(), scene.models());
    let earned_by = models.iter().position(Models::earned).unwrap();
    assert_eq!((models[earned_by].as_predicted, models[earned_by].trials()), (4, 0));
    let first = decisions.iter().find(|d| d.verdict == Verdict::Change).unwrap();
    let earned_at = failures[models[earned_by].failures as usize - 1].noticed_at;
    assert!(first.at > earned_at);
    assert!(decisions.iter().any(|d| {
        let guessed = |r: &Reason| matches!(r, Reason::NoTrials { failures: 1.., .. });
        d.verdict == Verdict::Recommend && d.reasons.iter().any(guessed)
    }));

    let off = |found: f64, truth: f64| (found / truth - 1.0).abs();
    for (after, dead, capacity) in [(4, 0.08, 0.03), (19, 0.05, 0.015)] {
        let found = models[after].recovery.parameters;
        assert!(off(found.dead_time_s, 18.0) < dead, "after {after}: {found:?}");
        assert!(off(found.capacity_eps, 3_000.0) < capacity, "after {after}: {found:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_loses_capacity_is_noticed_and_learnt_anew() {
    let scene = Scene::start(100.0, &often(20), &[]);
    scene.profile().await;
    scene.follow(true, 24_000.0).await;
    let profiled = scene.models();
    assert!(profiled.iter().all(|models| models.earned() && models.trials() == 6));
    let acts = |d: &Decision| matches!(d.verdict, Verdict::Keep | Verdict::Change);
    assert!(acts(scene.decisions().last().unwrap()));
    let struck = scene.failures().len();
    scene.twin.becomes(World { capacity_eps: 2_100.0, ..world() });

    // The first one is reported and nothing else, the second one is drift.
    scene.follow(true, 25_000.0).await;
    assert_eq!(scene.failures()[struck..].len(), 1);
    assert_eq!(scene.failures()[struck].compared(), Some(Compared::Longer));
    assert!(acts(scene.decisions().last().unwrap()));
    scene.follow(true, 29_000.0).await;
    assert_eq!(scene.failures()[struck + 1].compared(), Some(Compared::Longer));
    let drifted = scene.decisions().last().unwrap().clone();
    assert_eq!(drifted.verdict, Verdict::Recommend, "{}", drifted.sentence());
    let since = scene.failures()[struck].noticed_at;
    assert_eq!(drifted.reasons.last(), Some(&Reason::Drifted { since, failures: 2 }));
    let models = scene.models();
    assert!(models.starts_with(&profiled), "the old ones stay where they are");
    let new = models.last().unwrap();
    assert_eq!((new.drifted_at, new.failures, new.trials()), (Some(since), 2, 0));
    let found = new.recovery.parameters.capacity_eps;
    assert!((found / 2_100.0 - 1.0).abs() < 0.05, "{found}");

    // The job that it is now has to earn it again.
    let so_far = scene.decisions().len();
    scene.follow(true, 41_000.0).await;
    assert!(only_recommends(&scene.decisions()[so_far..]));
    scene.follow(true, 49_000.0).await;
    let last = scene.decisions().last().unwrap().clone();
    assert!(acts(&last), "{}", last.sentence());
}

#[tokio::test(start_paused = true)]
async fn models_belong_to_a_shape_and_serve_again_when_it_returns() {
    let scene = Scene::start(0.0, &often(7), &[]);
    scene.follow(true, 30_000.0).await;
    assert_eq!(scene.decisions().last().unwrap().verdict, Verdict::Keep);
    let (models, minutes) = (scene.models(), scene.decisions().len());

    scene.twin.becomes(World { name: "orders at 8".into(), ..world() });
    scene.follow(true, 34_000.0).await;
    let meanwhile = scene.decisions()[minutes..].to_vec();
    assert!(only_recommends(&meanwhile));
    let last = meanwhile.last().unwrap();
    assert_eq!(last.reasons.last(), Some(&Reason::AnotherShape { failures: 0 }));
    assert!(last.sentence().contains("profile it again"), "{}", last.sentence());
    assert_eq!(scene.models(), models, "the old ones stay where they are");

    scene.twin.becomes(world());
    scene.follow(true, 34_200.0).await;
    assert_eq!(scene.decisions().last().unwrap().verdict, Verdict::Keep);
    assert_eq!(scene.models(), models, "nothing is new in it");
}

#[tokio::test(start_paused = true)]
async fn a_restart_in_the_middle_of_a_recovery_loses_nothing() {
    // It strikes at 4,059 s, runs again at 4,076 s and has caught up at 4,210 s.
    let whole = Scene::start(900.0, &[4_000.0], &[]);
    whole.follow(false, 6_000.0).await;
    let expected = whole.failures();
    let Recovery::Measured(took) = expected[0].lesson().unwrap().recovery else { panic!() };
    let struck_s = expected[0].failed_at.unwrap().secs_since(START);
    assert!((4_056.0..4_060.0).contains(&struck_s) && took.get() > 140.0, "{struck_s}, {took:?}");
    for (dies_at, lives_again_at) in [(4_020.0, 4_100.0), (4_080.0, 4_130.0), (4_060.0, 5_000.0)] {
        let scene = Scene::start(900.0, &[4_000.0], &[]);
        scene.follow(false, dies_at).await;
        assert_eq!(scene.failures(), [], "it was not over at {dies_at} s");
        scene.clock.sleep_until(START.plus_secs(lives_again_at)).await;
        scene.follow(false, 6_000.0).await;
        scene.follow(false, 8_000.0).await;
        let found = scene.failures();
        assert_eq!(found.len(), 1, "once: {found:?}");
        assert_eq!(found[0].measured, expected[0].measured, "dead from {dies_at} s on");
        assert_eq!(found[0].failed_at, expected[0].failed_at);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_while_another_is_caught_up_with_spoils_both() {
    let scene = Scene::start(900.0, &[4_000.0, 4_080.0, 9_000.0], &[]);
    scene.follow(true, 12_000.0).await;
    let failures = scene.failures();
    assert_eq!(failures.len(), 3, "{failures:?}");
    assert_eq!(why_nothing(&failures[0]), "another failure came before its end was seen");
    assert!(why_nothing(&failures[1]).contains("not steady before"), "{failures:?}");
    assert!(failures[2].lesson().is_some());
    assert_eq!(scene.models().len(), 1, "only the third one teaches");
}

#[tokio::test(start_paused = true)]
async fn a_redeploy_ends_the_watch_and_leaves_the_shape_as_it_is() {
    let scene = Scene::start(900.0, &[4_000.0], &[]);
    scene.follow(false, 4_150.0).await;
    let run = scene.twin.describe(&scene.job).await.unwrap();
    assert_eq!((run.attempt, run.status), (1, JobStatus::Running), "it is back");
    Redeployer::new(scene.twin.clone()).apply(&run, secs(30), 1).await.unwrap();
    scene.follow(false, 6_000.0).await;
    let failures = scene.failures();
    assert_eq!(failures.len(), 1, "a redeploy is no failure: {failures:?}");
    let why = "the job was deployed anew before its end was seen";
    assert_eq!(why_nothing(&failures[0]), why);
    assert_eq!(scene.twin.describe(&scene.job).await.unwrap().shape, run.shape);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_read_teaches_nothing() {
    // Blind from before each failure until after it, and while it is caught up with.
    let scene = Scene::start(900.0, &[4_000.0, 9_000.0], &[(3_900.0, 4_200.0), (9_100.0, 9_170.0)]);
    scene.follow(true, 12_000.0).await;
    let failures = scene.failures();
    assert_eq!(failures.len(), 2, "{failures:?}");
    assert!(why_nothing(&failures[0]).contains("do not tell when it struck"), "{failures:?}");
    assert!(why_nothing(&failures[1]).contains("the lag was not read for"), "{failures:?}");
    assert_eq!(scene.models(), []);
    assert!(only_recommends(&scene.decisions()));
}
