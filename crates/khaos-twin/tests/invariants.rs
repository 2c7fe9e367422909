//! The invariants of DESIGN over a thousand random worlds, loads, outages and deaths.
#![allow(clippy::unwrap_used, reason = "a test says what is broken by panicking")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use khaos_control::act::Act;
use khaos_control::act::driver::Driver;
use khaos_control::clock::Clock;
use khaos_control::core::job::{
    CheckpointHistory, CheckpointSettings, EngineJobId, JobKey, JobRun, JobShape, TriggerId,
};
use khaos_control::core::optimize::{
    Confidence, Decision, Goals, Objective, Objectives, Reason, RecoveryParameters, Verdict,
};
use khaos_control::core::profile::{Design, IntervalBounds, PlannedTrial, Recovery, Trial};
use khaos_control::core::record::{Fact, Record};
use khaos_control::core::series::Readings;
use khaos_control::core::stats::Seed;
use khaos_control::core::units::{CheckpointInterval, EventRate, Millis, Seconds, Span, Timestamp};
use khaos_control::observe::Observe;
use khaos_control::optimize::Optimize;
use khaos_control::ports::{Checkpoints, Jobs, Metrics, PortError, Store, TriggerOutcome};
use khaos_control::tuner::{Mode, Tuner};
use khaos_twin::{MemoryStore, Truth, Twin, TwinConfig, Workload, World};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

const START: Timestamp = Timestamp(1_000_000_020_000);
const MINUTES: usize = 24;

/// A short life of some job under some tuner.
#[derive(Debug, Clone)]
struct Life {
    capacity: f64,
    cost: f64,
    duration: f64,
    detect: f64,
    restart: f64,
    settle: f64,
    /// Loads by the minute, as shares of the capacity.
    loads: Vec<f64>,
    bounds: (u32, u32),
    full: bool,
    recovery: f64,
    failures: Vec<f64>,
    outage: (f64, f64),
    /// When Khaos is killed and started again on the same store, s.
    restart_at: f64,
    /// While this lasts no port answers, s.
    silence: (f64, f64),
    /// When Khaos dies, s.
    death: f64,
    seed: u64,
}

fn lives() -> impl Strategy<Value = Life> {
    let physics = (
        500.0..50_000.0_f64,
        0.0..2.0_f64,
        prop_oneof![Just(0.0), 0.0..4.0_f64],
        0.0..30.0_f64,
        0.0..30.0_f64,
        0.0..90.0_f64,
    );
    let load = proptest::collection::vec(0.02..1.05_f64, MINUTES);
    let control = (2_u32..30, 10_u32..120, any::<bool>(), 20.0..600.0_f64);
    let length = MINUTES as f64 * 60.0;
    let trouble = (
        proptest::collection::vec(0.0..length, 0..3),
        (0.0..length, 0.0..400.0_f64),
        (0.0..length, 0.0..length, 0.0..200.0_f64, 300.0..length),
        any::<u64>(),
    );
    (physics, load, control, trouble).prop_map(|(physics, loads, control, trouble)| {
        let (capacity, cost, duration, detect, restart, settle) = physics;
        let (min, more, full, recovery) = control;
        let (mut failures, (from, length), (restart_at, silent_at, silent_for, death), seed) =
            trouble;
        let silence = (silent_at, silent_at + silent_for);
        failures.sort_by(f64::total_cmp);
        let outage = (from, from + length);
        let bounds = (min, min + more);
        // Three in four loads are steps of a walk rather than noise.
        let loads = if seed % 4 == 0 {
            loads
        } else {
            let mut at = loads[0];
            loads
                .iter()
                .map(|l| {
                    at += 0.2 * (l - at);
                    at
                })
                .collect()
        };
        Life {
            capacity,
            cost,
            duration,
            detect,
            restart,
            settle,
            loads,
            bounds,
            full,
            recovery,
            failures,
            outage,
            restart_at,
            silence,
            death,
            seed,
        }
    })
}

impl Life {
    fn world(&self) -> World {
        World::parse(&format!(
            "name = \"any\"\ncapacity_eps = {:?}\ncheckpoint_cost_s = {:?}\ndetect_s = {:?}\n\
             restart_s = {:?}\nsettle_s = {:?}\nretune_stall_s = 1.0\ncheckpoint_duration_s = {:?}\n\
             dead_time_sigma = 0.2\n[latency]\na = 4.0\nb = 0.4\nc = -0.05\nd = 0.5\n\
             load_max_eps = {:?}\nsigma = 0.2\n",
            self.capacity, self.cost, self.detect, self.restart, self.settle, self.duration,
            self.capacity
        ))
        .unwrap()
    }

    fn bounds(&self) -> IntervalBounds {
        let secs = |s| CheckpointInterval::from_secs(s).unwrap();
        IntervalBounds::new(secs(self.bounds.0), secs(self.bounds.1)).unwrap()
    }

    /// A campaign of six flawless trials.
    fn campaign(&self) -> (Design, Vec<Trial>) {
        let truth = RecoveryParameters {
            dead_time_s: (self.detect + self.restart).max(0.1),
            settling_s: self.settle.max(0.1),
            capacity_eps: self.capacity,
            checkpoint_cost_s: self.cost,
        };
        let bounds = self.bounds();
        let trials: Vec<Trial> = (0..6)
            .map(|i| {
                let interval = if i % 2 == 0 { bounds.max() } else { bounds.min() };
                let load = self.capacity * [0.05, 0.3, 0.6][i as usize / 2];
                let recovery = truth.worst_case_floored(interval.seconds(), self.duration, load);
                Trial {
                    index: i,
                    interval,
                    load: EventRate::new(load).unwrap(),
                    latency: Millis::new(60.0).ok(),
                    recovery: Recovery::Measured(Seconds::new(recovery).unwrap()),
                    dead_time: Seconds::new(truth.dead_time_s).ok(),
                    age: None,
                    backlog: None,
                    catch_up: None,
                    load_during: None,
                    checkpoint_duration: Seconds::new(self.duration).ok(),
                    failed_within: None,
                    detection: None,
                }
            })
            .collect();
        let stretch = Span { from: Timestamp(0), to: START };
        let planned = |t: &Trial| PlannedTrial { interval: t.interval, load: t.load, stretch };
        let shape = Some(JobShape(self.world().name));
        (Design { trials: trials.iter().map(planned).collect(), shape, further: false }, trials)
    }

    /// Lives it: tuned until Khaos dies, then alone.
    fn live(&self) -> Lived {
        self.live_with(Some(self.campaign()))
    }

    /// Lives it with what was learnt before.
    fn live_with(&self, learnt: Option<(Design, Vec<Trial>)>) -> Lived {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(self.lived(learnt))
    }

    async fn lived(&self, learnt: Option<(Design, Vec<Trial>)>) -> Lived {
        let clock = Clock::anchored(START);
        let job = JobKey("any".into());
        let fallback = self.bounds().max();
        let settings = if self.full {
            CheckpointSettings::full(fallback)
        } else {
            CheckpointSettings::periodic(fallback)
        };
        let rates = self.loads.iter().map(|share| share * self.capacity).collect();
        let twin = Twin::start(
            TwinConfig {
                job: job.clone(),
                world: self.world(),
                workload: Workload::new(rates).unwrap(),
                settings,
                failures: self.failures.clone(),
                outages: vec![self.outage],
                seed: Seed(self.seed),
                noise: true,
            },
            clock,
        );
        let goals = Goals {
            objectives: Objectives::recovery_and_latency(
                Seconds::new(self.recovery).unwrap(),
                Millis::new(200.0).unwrap(),
            ),
            bounds: self.bounds(),
            checkpoints_per_hour: None,
            confidence: Confidence::Mean,
        };
        let store = Arc::new(MemoryStore::default());
        if let Some((design, trials)) = learnt {
            let designed = Record::new(&job, START, vec![], Fact::Design(design));
            let designed = store.append(designed).await.unwrap();
            for trial in trials {
                let parents = vec![designed.id().clone()];
                store.append(Record::new(&job, START, parents, Fact::Trial(trial))).await.unwrap();
            }
        }
        let polite = Arc::new(Polite {
            twin: twin.clone(),
            clock,
            silence: self.silence,
            outstanding: Mutex::default(),
            triggered: AtomicU32::default(),
        });
        let end = START.plus_secs(self.death);
        for until in [START.plus_secs(self.restart_at).min(end), end] {
            // Everything but the store and the world is new in a new life.
            let driver = Arc::new(Driver::new(clock, polite.clone(), polite.clone()));
            let tuner = Tuner {
                clock,
                observe: Observe {
                    clock,
                    jobs: polite.clone(),
                    metrics: polite.clone(),
                    checkpoints: polite.clone(),
                    store: store.clone(),
                },
                mode: Mode::Auto(
                    Optimize::new(clock, polite.clone(), store.clone(), goals.clone()),
                    Act::new(clock, polite.clone(), driver, store.clone(), goals.clone()),
                ),
            };
            tuner.tune(&job, until).await.unwrap();
            // Dropping the tuner is its death: nothing is told to anyone, and a trigger of its may
            // be under way.
            drop(tuner);
            polite.outstanding.lock().unwrap().take();
        }
        clock.sleep_until(START.plus_secs(MINUTES as f64 * 60.0 + 400.0)).await;
        let triggered = polite.triggered.load(Ordering::Relaxed);
        Lived { truth: twin.truth(), records: store.all(), until: clock.now(), triggered }
    }
}

/// The twin behind ports that fall silent for a while, and that nobody may trigger while a trigger
/// of his is outstanding.
struct Polite {
    twin: Arc<Twin>,
    clock: Clock,
    silence: (f64, f64),
    outstanding: Mutex<Option<TriggerId>>,
    triggered: AtomicU32,
}

impl Polite {
    fn answers(&self) -> Result<(), PortError> {
        let now = self.clock.now().secs_since(START);
        if (self.silence.0..self.silence.1).contains(&now) {
            return Err(PortError::Unavailable("nobody answers".into()));
        }
        Ok(())
    }
}

#[async_trait]
impl Jobs for Polite {
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
impl Metrics for Polite {
    async fn readings(&self, job: &EngineJobId, span: Span) -> Result<Readings, PortError> {
        self.answers()?;
        self.twin.readings(job, span).await
    }
}

#[async_trait]
impl Checkpoints for Polite {
    async fn history(&self, job: &EngineJobId) -> Result<CheckpointHistory, PortError> {
        self.answers()?;
        self.twin.history(job).await
    }

    async fn trigger(&self, job: &EngineJobId, id: &TriggerId) -> Result<(), PortError> {
        self.triggered.fetch_add(1, Ordering::Relaxed);
        let before = self.outstanding.lock().unwrap().replace(id.clone());
        if let Some(before) = before {
            let outcome = self.twin.outcome(job, &before).await;
            assert_ne!(outcome, Ok(TriggerOutcome::InProgress), "two triggers are outstanding");
        }
        // The call arrives, its answer does not: the worst kind of silence.
        self.twin.trigger(job, id).await?;
        self.answers()
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

#[derive(Debug)]
struct Lived {
    truth: Truth,
    records: Vec<Arc<Record>>,
    until: Timestamp,
    triggered: u32,
}

impl Lived {
    /// Invariant 2: while every vertex runs, at most fallback + δ + 1 s between completed
    /// checkpoints, whether Khaos lives or not.
    fn checkpoints_never_stay_away(&self, life: &Life) {
        let allowed = f64::from(life.bounds.1) + life.duration + 1.0;
        // Stretches in which every vertex ran.
        let mut stretches = vec![];
        let mut from = START;
        for failure in &self.truth.failures {
            stretches.push((from, failure.failed_at));
            // Down until the end: there is no stretch after this one.
            from = failure.running_at.unwrap_or(self.until);
        }
        stretches.push((from, self.until));
        for (from, to) in stretches {
            let done = self.truth.checkpoints.iter().map(|c| c.completed_at);
            let instants: Vec<Timestamp> = std::iter::once(from)
                .chain(done.filter(|at| (from..=to).contains(at)))
                .chain([to])
                .collect();
            for pair in instants.windows(2) {
                let gap = pair[1].secs_since(pair[0]);
                assert!(gap <= allowed, "{gap} s without a checkpoint, {allowed} s are allowed");
            }
        }
    }

    /// What arrived was read or waits; what was processed again was read before.
    fn nothing_is_lost(&self) {
        let Truth { arrived, read, processed, .. } = &self.truth;
        let slack = 1e-6 * arrived.max(1.0);
        assert!(*read <= arrived + slack && *processed >= read - slack, "{:?}", self.truth);
        if self.truth.failures.is_empty() {
            assert!((processed - read).abs() <= slack, "processed again without a failure");
        }
    }

    fn decisions(&self) -> impl Iterator<Item = &Decision> {
        self.records.iter().filter_map(|record| record.decision())
    }

    /// Every decision keeps the bounds, has a reason, and follows a stored minute.
    fn decisions_are_sound(&self, life: &Life) {
        let bounds = life.bounds();
        for decision in self.decisions() {
            let interval = decision.interval;
            assert!((bounds.min()..=bounds.max()).contains(&interval), "{}", decision.sentence());
            assert!(!decision.reasons.is_empty());
            match decision.verdict {
                Verdict::Change => assert_ne!(decision.from, interval),
                Verdict::Keep | Verdict::Hold => assert_eq!(decision.from, interval),
                Verdict::Recommend => {}
            }
        }
        for record in &self.records {
            assert_eq!(record.verify(), Ok(()));
            if record.decision().is_some() || record.outcome().is_some() {
                assert!(!record.parents().is_empty(), "{record:?} follows from nothing");
            }
        }
    }

    /// Invariant 4: nothing is changed on data that is missing or old.
    fn no_action_in_the_dark(&self) {
        let minutes: Vec<_> = self.records.iter().filter_map(|r| r.minute()).collect();
        for decision in self.decisions().filter(|d| d.verdict == Verdict::Change) {
            let seen = minutes.partition_point(|m| m.start.plus_secs(60.0) <= decision.at);
            let recent = &minutes[seen.saturating_sub(3)..seen];
            assert!(
                recent.iter().any(|m| m.arrival.known().is_some()),
                "changed without knowing the load: {}",
                decision.sentence()
            );
        }
    }

    /// Every failure is recorded at most once, and is estimated where it was, but where the metrics
    /// went out in the interval before it: whether they or the job went first nobody can tell.
    fn failures_are_what_they_were(&self, life: &Life) -> usize {
        let (mut seen, mut measured) = (BTreeSet::new(), 0);
        for failure in self.records.iter().filter_map(|record| record.failure()) {
            assert!(seen.insert((failure.engine_id.clone(), failure.attempt)), "{failure:?} again");
            let truth = self.truth.failures[failure.attempt as usize];
            let Some(trial) = failure.lesson() else { continue };
            let failed_s = truth.failed_at.secs_since(START);
            let interval_s = f64::from(life.bounds.1) + life.duration;
            if (failed_s - interval_s - 10.0..failed_s).contains(&life.outage.0) {
                continue;
            }
            measured += 1;
            let off_s = failure.failed_at.unwrap().secs_since(truth.failed_at);
            // What reading the state back and the first checkpoint cost counts as down.
            let within_s = trial.failed_within.unwrap().get() + 2.0 * life.cost;
            assert!(off_s.abs() <= within_s, "{off_s} s off, {within_s} s were said: {failure:?}");
        }
        measured
    }

    /// Invariant 5: what was put into force was decided before.
    fn decided_before_done(&self) {
        for (i, record) in self.records.iter().enumerate() {
            if record.outcome().is_some() {
                let before = &self.records[..i];
                for parent in record.parents() {
                    assert!(before.iter().any(|r| r.id() == parent), "{record:?}");
                }
            }
        }
    }
}

#[test]
fn invariants_hold_in_a_thousand_lives() {
    let cases = std::env::var("KHAOS_LIVES").map_or(1_000, |lives| lives.parse().unwrap());
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let (changes, measured) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    TestRunner::new_with_rng(config, rng)
        .run(&lives(), |life| {
            let lived = life.live();
            lived.checkpoints_never_stay_away(&life);
            lived.nothing_is_lost();
            lived.decisions_are_sound(&life);
            lived.no_action_in_the_dark();
            lived.decided_before_done();
            measured.set(measured.get() + lived.failures_are_what_they_were(&life));
            let changed = lived.decisions().filter(|d| d.verdict == Verdict::Change).count();
            changes.set(changes.get() + changed);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(changes.get() > 1_000, "lives in which nothing is decided prove nothing");
    assert!(measured.get() > 100, "{} failures were measured", measured.get());
}

/// Without trials nothing is earned: whatever happens, nothing is driven, but all is told.
#[test]
fn without_models_nothing_is_ever_driven() {
    let config = Config { cases: 200, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let recommendations = std::cell::Cell::new(0);
    TestRunner::new_with_rng(config, rng)
        .run(&lives(), |life| {
            // Three times as long: a recommendation waits until forecasts are calibrated.
            let length = 3.0 * MINUTES as f64 * 60.0;
            let life = Life { loads: life.loads.repeat(3), death: length, ..life };
            let lived = life.live_with(None);
            assert_eq!(lived.triggered, 0);
            assert!(lived.records.iter().all(|record| record.outcome().is_none()));
            lived.decisions_are_sound(&life);
            for decision in lived.decisions() {
                let sentence = decision.sentence();
                assert!(
                    matches!(decision.verdict, Verdict::Recommend | Verdict::Hold),
                    "{sentence}"
                );
                let recommends = decision.verdict == Verdict::Recommend;
                let says = |r: &Reason| matches!(r, Reason::NoTrials { .. });
                assert_eq!(decision.reasons.iter().any(says), recommends, "{sentence}");
                // Nobody has measured latency, so nobody says that it is kept.
                let latency = Reason::NotJudged { objective: Objective::Latency };
                assert!(!recommends || decision.reasons.contains(&latency), "{sentence}");
            }
            let recommended = lived.decisions().filter(|d| d.verdict == Verdict::Recommend);
            recommendations.set(recommendations.get() + recommended.count());
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(recommendations.get() > 1_000, "lives without recommendations prove nothing");
}

#[test]
fn the_same_life_is_the_same_to_the_last_bit() {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let config = Config { cases: 50, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, rng)
        .run(&lives(), |life| {
            let (one, two) = (life.live(), life.live());
            assert_eq!(one.truth, two.truth);
            assert_eq!(one.records, two.records);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}
