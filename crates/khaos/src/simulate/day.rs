//! One day under one policy, lived on the twin in virtual time.

mod recoveries;

use std::future::Future;
use std::sync::Arc;

use khaos_control::act::Act;
use khaos_control::act::driver::Driver;
use khaos_control::clock::Clock;
use khaos_control::observe::Observe;
use khaos_control::optimize::Optimize;
use khaos_control::ports::{Actuator, Jobs, Metrics, PortError, Store};
use khaos_control::tuner::{Mode, Tuner};
use khaos_core::job::{CheckpointSettings, JobKey};
use khaos_core::optimize::Effect;
use khaos_core::record::Record;
use khaos_core::stats::Seed;
use khaos_core::units::{CheckpointInterval, Span, Timestamp};
use khaos_twin::{MemoryStore, Redeployer, Twin, TwinConfig};

pub use self::recoveries::Recovered;
use self::recoveries::recoveries;
use super::paper::{self, PaperMethod, Seen};
use super::watched::{OnRecord, Watched};
use super::{Policy, Simulation};
use crate::score::{InForce, oracle};

/// Second 0 of every simulated day: a midnight that is the same for everyone.
pub const ANCHOR: Timestamp = Timestamp(1_662_249_600_000);

/// What happened on a day.
#[derive(Debug)]
pub struct Day {
    /// Intervals in force, from second 0 on.
    pub intervals: Vec<InForce>,
    /// How each was recovered from, by the lag that the metrics show.
    pub recoveries: Vec<Recovered>,
    /// Completed checkpoints.
    pub checkpoints: u64,
    /// Stalls caused by interval changes, s.
    pub stalled_s: f64,
    /// Everything that khaos recorded, what it had learnt before included; empty for others.
    pub records: Vec<Arc<Record>>,
}

/// Runs `future` on a paused clock of its own: waiting takes no time.
pub fn in_virtual_time<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?
        .block_on(future)
}

pub(super) fn live(
    simulation: &Simulation,
    policy: Policy,
    learnt: &[Arc<Record>],
    on_record: OnRecord,
) -> anyhow::Result<Day> {
    in_virtual_time(async {
        let clock = Clock::anchored(ANCHOR);
        let max = simulation.bounds.max();
        let settings = match policy {
            Policy::Static(interval) => CheckpointSettings::periodic(interval),
            Policy::YoungDaly => CheckpointSettings::periodic(simulation.young_daly()),
            Policy::Paper | Policy::KhaosRedeploying => CheckpointSettings::periodic(max),
            Policy::Khaos | Policy::Oracle => CheckpointSettings::full(max),
        };
        let job = JobKey(simulation.world.name.clone());
        let twin = start(simulation, settings, clock);
        let memory = Arc::new(MemoryStore::default());
        let driver = Arc::new(silent_driver(&twin, clock));
        let end = ANCHOR.plus_secs(simulation.workload.secs());
        let intervals = match policy {
            Policy::Static(_) | Policy::YoungDaly => {
                clock.sleep_until(end).await;
                vec![InForce { since_s: 0.0, interval_s: settings.interval.seconds() }]
            }
            Policy::Paper => follow_paper(simulation, learnt, &twin, &job, clock).await?,
            Policy::Oracle => {
                let intervals = oracles(simulation);
                drive(&intervals, &twin, &job, &driver, clock).await?;
                clock.sleep_until(end).await;
                intervals
            }
            Policy::Khaos | Policy::KhaosRedeploying => {
                for record in learnt {
                    memory.append(Record::clone(record)).await?;
                }
                let store = Arc::new(Watched::new(Arc::clone(&memory), on_record));
                let goals = simulation.goals();
                let optimize = Optimize::new(clock, twin.clone(), store.clone(), goals.clone());
                let actuator: Arc<dyn Actuator> = match policy {
                    Policy::Khaos => driver.clone(),
                    _ => Arc::new(Redeployer::new(twin.clone())),
                };
                let tuner = Tuner {
                    clock,
                    observe: Observe {
                        clock,
                        jobs: twin.clone(),
                        metrics: twin.clone(),
                        checkpoints: twin.clone(),
                        store: store.clone(),
                    },
                    mode: Mode::Auto(
                        if policy == Policy::Khaos { optimize } else { optimize.redeploying() },
                        Act::new(clock, twin.clone(), actuator, store, goals),
                    ),
                };
                tuner.tune(&job, end).await?;
                in_force(max, &memory.all())
            }
        };
        let truth = twin.truth();
        // A failure strikes when the next checkpoint is about to complete: the last one may come
        // after the day.
        let last_s = max.seconds() + 2.0 * simulation.world.checkpoint_duration_s + 1.0;
        clock.sleep_until(end.plus_secs(last_s)).await;
        let failures = twin.truth().failures;
        // Driving changes an interval without a restart.
        let restarts: Vec<Timestamp> = match policy {
            Policy::Paper | Policy::KhaosRedeploying => {
                intervals[1..].iter().map(|i| ANCHOR.plus_secs(i.since_s)).collect()
            }
            Policy::Static(_) | Policy::YoungDaly | Policy::Khaos | Policy::Oracle => Vec::new(),
        };
        let recoveries = recoveries(&twin, &job, &failures, &restarts, clock, end).await?;
        Ok(Day {
            intervals,
            recoveries,
            checkpoints: truth.checkpoints_total,
            stalled_s: truth.stalled_s,
            records: memory.all(),
        })
    })
}

/// The oracle's intervals: that of each minute from the minute's first second on.
fn oracles(simulation: &Simulation) -> Vec<InForce> {
    let bounds = (simulation.bounds.min().secs(), simulation.bounds.max().secs());
    let rates = simulation.workload.per_minute();
    let mut intervals: Vec<InForce> = Vec::new();
    for (minute, secs) in
        oracle(&simulation.world, rates, bounds, simulation.recovery.get()).into_iter().enumerate()
    {
        let (since_s, interval_s) = (minute as f64 * 60.0, f64::from(secs));
        if intervals.last().is_none_or(|last| last.interval_s.total_cmp(&interval_s).is_ne()) {
            intervals.push(InForce { since_s, interval_s });
        }
    }
    intervals
}

/// Drives `intervals`, each from its second on.
async fn drive(
    intervals: &[InForce],
    twin: &Twin,
    job: &JobKey,
    driver: &Driver,
    clock: Clock,
) -> anyhow::Result<()> {
    for (generation, InForce { since_s, interval_s }) in (1..).zip(intervals) {
        clock.sleep_until(ANCHOR.plus_secs(*since_s)).await;
        let run = twin.describe(job).await?;
        let interval = CheckpointInterval::from_secs(*interval_s as u32)?;
        driver.apply(&run, interval, generation).await?;
    }
    Ok(())
}

/// How the failures of the day are recovered from where `intervals` are driven and nobody decides.
pub fn relive(simulation: &Simulation, intervals: &[InForce]) -> anyhow::Result<Vec<Recovered>> {
    in_virtual_time(async {
        let clock = Clock::anchored(ANCHOR);
        let job = JobKey(simulation.world.name.clone());
        let twin = start(simulation, CheckpointSettings::full(simulation.bounds.max()), clock);
        let driver = silent_driver(&twin, clock);
        drive(intervals, &twin, &job, &driver, clock).await?;
        let end = ANCHOR.plus_secs(simulation.workload.secs());
        clock.sleep_until(end).await;
        let failures = twin.truth().failures;
        recoveries(&twin, &job, &failures, &[], clock, end).await
    })
}

/// The world of `simulation` on its day.
fn start(simulation: &Simulation, settings: CheckpointSettings, clock: Clock) -> Arc<Twin> {
    let config = TwinConfig {
        job: JobKey(simulation.world.name.clone()),
        world: simulation.world.clone(),
        workload: simulation.workload.clone(),
        settings,
        failures: simulation.failures.clone(),
        outages: Vec::new(),
        seed: Seed(simulation.seed),
        noise: simulation.noise,
    };
    Twin::start(config, clock)
}

/// The log tells real time, and what happens here happens in a day that is simulated.
fn silent_driver(twin: &Arc<Twin>, clock: Clock) -> Driver {
    Driver::new(clock, twin.clone(), twin.clone()).watched_by(Arc::new(|_, _| ()))
}

/// Lets the published method look at the job whenever it has settled, and redeploys it for every
/// change.
async fn follow_paper(
    simulation: &Simulation,
    learnt: &[Arc<Record>],
    twin: &Arc<Twin>,
    job: &JobKey,
    clock: Clock,
) -> anyhow::Result<Vec<InForce>> {
    let Simulation { bounds, recovery, latency, .. } = *simulation;
    let trials = learnt.iter().filter_map(|record| record.trial());
    let mut method = PaperMethod::fit(trials, bounds, recovery, latency)?;
    let redeployer = Redeployer::new(Arc::clone(twin));
    let end = ANCHOR.plus_secs(simulation.workload.secs());
    let mut current = bounds.max();
    let mut intervals = vec![InForce { since_s: 0.0, interval_s: current.seconds() }];
    let mut look = ANCHOR;
    while look < end {
        clock.sleep_until(look).await;
        let run = twin.describe(job).await?;
        let settled = run.running_since.map(|since| since.plus_secs(paper::SETTLE_S));
        let next_look = look.plus_secs(paper::LOOK_S);
        if settled.is_none_or(|at| at > look) {
            look = settled.unwrap_or(next_look);
            continue;
        }
        let readings = twin.readings(&run.engine_id, Span::last(paper::LOOK_S, look)).await?;
        if let Some(interval) = method.decide(current, Seen::read(&readings, look)) {
            match redeployer.apply(&run, interval, intervals.len() as u64).await {
                Ok(()) => {
                    current = interval;
                    let since_s = look.secs_since(ANCHOR);
                    intervals.push(InForce { since_s, interval_s: interval.seconds() });
                }
                // It has just failed, so that no savepoint can be taken: nothing has changed.
                Err(PortError::Refused(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        look = next_look;
    }
    clock.sleep_until(end).await;
    Ok(intervals)
}

/// The intervals in force by the records: from `start` on, then as each change was put into force.
pub fn in_force(start: CheckpointInterval, records: &[Arc<Record>]) -> Vec<InForce> {
    let mut intervals = vec![InForce { since_s: 0.0, interval_s: start.seconds() }];
    let changes = records.iter().filter_map(|record| record.outcome()).filter(|outcome| {
        matches!(outcome.effect, Effect::Applied | Effect::RolledBack(_))
            && outcome.from != outcome.to
    });
    intervals.extend(changes.map(|outcome| InForce {
        since_s: outcome.at.secs_since(ANCHOR),
        interval_s: outcome.to.seconds(),
    }));
    intervals
}
