//! Before second 0: observe a recording's worth of the job, then profile clones of it.

use std::sync::Arc;

use anyhow::Context;
use khaos_control::clock::Clock;
use khaos_control::observe::{GRACE_MS, Observe};
use khaos_control::optimize::Optimize;
use khaos_control::ports::Clones;
use khaos_control::profile::{CloneBudget, Patience, Profile};
use khaos_core::job::{CheckpointSettings, JobKey};
use khaos_core::observe::{Minute, observe_levels};
use khaos_core::record::{Kind, Record};
use khaos_core::stats::Seed;
use khaos_core::units::{Span, Timestamp};
use khaos_twin::{MemoryStore, Twin, TwinConfig};

use super::day::{ANCHOR, in_virtual_time};
use super::watched::{OnRecord, Watched, unwatched};
use super::{Simulation, paper};

/// Clones that the twin's cluster bears at once.
const AT_ONCE: u32 = 3;
/// Trials that a design has at most.
const TRIALS: usize = 6;

/// What is known before second 0.
#[derive(Debug)]
pub struct Rehearsal {
    /// Every record of it.
    pub records: Vec<Arc<Record>>,
}

impl Rehearsal {
    /// What crosses over into the day: load levels, trials and models, but no minute, so that the
    /// forecaster starts empty.
    pub fn learnt(&self) -> Vec<Arc<Record>> {
        let crosses =
            |kind| matches!(kind, Kind::Observation | Kind::Design | Kind::Trial | Kind::Models);
        self.records.iter().filter(|r| crosses(r.fact().kind())).cloned().collect()
    }
}

/// Khaos's: its six trials and its models.
pub(super) fn rehearse(simulation: &Simulation, on_record: OnRecord) -> anyhow::Result<Rehearsal> {
    in_virtual_time(async {
        let observed = observe(simulation, TRIALS, on_record).await?;
        let trials = || observed.memory.all().iter().filter(|r| r.trial().is_some()).count();
        loop {
            let before = trials();
            observed.profile.reconcile(&observed.job).await.context("profiling")?;
            observed.optimize.fit(&observed.job).await.context("fitting models")?;
            if trials() == before {
                return Ok(Rehearsal { records: observed.memory.all() });
            }
        }
    })
}

/// The published method's: every interval at every load, through the same machinery.
pub(super) fn rehearse_paper(simulation: &Simulation) -> anyhow::Result<Rehearsal> {
    in_virtual_time(async {
        let trials = paper::INTERVALS * paper::LOADS;
        let observed = observe(simulation, trials, unwatched()).await?;
        let records = observed.memory.all();
        let minutes: Vec<&Minute> = records.iter().filter_map(|record| record.minute()).collect();
        let shape = Patience::default().stretch(simulation.bounds.max());
        let levels = observe_levels(&minutes, shape, paper::LOADS)?.levels;
        let plan = paper::design(&levels, simulation.bounds);
        let profiled = observed.profile.run(&observed.job, observed.observation.id(), plan).await;
        profiled.context("profiling for paper")?;
        Ok(Rehearsal { records: observed.memory.all() })
    })
}

/// A recording that was observed, and what goes on from there.
struct Observed {
    job: JobKey,
    memory: Arc<MemoryStore>,
    observation: Arc<Record>,
    profile: Profile,
    optimize: Optimize,
}

/// Lives through the recording, observes it, and allows so many `trials` of it.
async fn observe(
    simulation: &Simulation,
    trials: usize,
    on_record: OnRecord,
) -> anyhow::Result<Observed> {
    let length_s = simulation.recording.secs();
    // The recording ends at the midnight before second 0's day.
    let clock = Clock::anchored(ANCHOR.plus_secs(-86_400.0 - length_s).minute());
    let job = JobKey(simulation.world.name.clone());
    let twin = Twin::start(
        TwinConfig {
            job: job.clone(),
            world: simulation.world.clone(),
            workload: simulation.recording.clone(),
            settings: CheckpointSettings::full(simulation.bounds.max()),
            failures: Vec::new(),
            outages: Vec::new(),
            seed: Seed(simulation.seed).child("rehearsal"),
            noise: simulation.noise,
        },
        clock,
    );
    let memory = Arc::new(MemoryStore::default());
    let store = Arc::new(Watched::new(Arc::clone(&memory), on_record));
    let observe = Observe {
        clock,
        jobs: twin.clone(),
        metrics: twin.clone(),
        checkpoints: twin.clone(),
        store: store.clone(),
    };
    let replayed = Patience::default().stretch(simulation.bounds.max());
    // Half a trial more than wanted: no rounding may cost one.
    let clone_minutes = (trials as f64 + 0.5) * (replayed.lead_s + replayed.hold_s) / 60.0;
    let profile = Profile {
        clock,
        jobs: twin.clone(),
        metrics: twin.clone(),
        checkpoints: twin.clone(),
        clones: Clones::new(twin.clone()),
        log: twin.clone(),
        injector: twin.clone(),
        store: store.clone(),
        bounds: simulation.bounds,
        objective: Some(simulation.recovery),
        budget: CloneBudget { at_once: AT_ONCE, clone_minutes },
        patience: Patience::default(),
    };
    let optimize = Optimize::new(clock, twin.clone(), store, simulation.goals());

    let recorded = Span { from: twin.started_at(), to: twin.started_at().plus_secs(length_s) };
    let mut tick = twin.started_at().plus_millis(60_000 + GRACE_MS);
    let last: Timestamp = recorded.to.plus_millis(GRACE_MS);
    while tick <= last {
        clock.sleep_until(tick).await;
        observe.minutes(&job).await?;
        tick = tick.plus_millis(60_000);
    }
    let concluded = observe.conclude(&job, recorded, replayed).await;
    let observation = concluded.context("observing the recording")?;
    Ok(Observed { job, memory, observation, profile, optimize })
}
