//! One deployment living through time.
//!
//! Between two instants at which something happens, never more than [`STEP_MS`] apart, events
//! arrive, queue and are processed at what is left of the capacity. What happens at an instant is a
//! checkpoint's end, a failure noticed, a restore done, a periodic trigger, or a scrape.

mod checkpointing;
mod latency;
mod readings;

use std::collections::VecDeque;
use std::sync::Arc;

use khaos_control::core::job::{CheckpointHistory, CheckpointSettings, JobStatus, TriggerId};
use khaos_control::core::stats::Seed;
use khaos_control::core::units::{Seconds, Timestamp};
use khaos_control::ports::Fault;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use self::checkpointing::Checkpointing;
pub(crate) use self::checkpointing::SUBTASKS;
use self::latency::Latency;
pub(crate) use self::readings::Readout;
use crate::workload::Workload;
use crate::world::World;

/// The longest stretch over which rates are held constant, ms.
const STEP_MS: i64 = 100;

/// Where a deployment's events come from.
#[derive(Debug, Clone)]
pub(crate) enum Feed {
    /// Nowhere yet.
    Idle,
    /// The workload, whose second `second` it was at `since`.
    Workload { workload: Arc<Workload>, second: f64, since: Timestamp },
}

impl Feed {
    /// Arrival rate at `at`, events/s.
    fn rate_at(&self, at: Timestamp) -> f64 {
        match self {
            Self::Idle => 0.0,
            Self::Workload { workload, second, since } => {
                workload.rate_at(second + at.secs_since(*since))
            }
        }
    }
}

/// Whether the deployment lives.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Vitality {
    /// Starting, restoring or stopped for a redeploy, until then.
    Starting { until: Timestamp },
    /// Every vertex runs.
    Running { since: Timestamp },
    /// Failed; until the engine notices, it shows the job as running since before.
    Dead { noticed_at: Timestamp, since: Timestamp },
}

/// A failure as it really was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Failure {
    /// When it happened.
    pub failed_at: Timestamp,
    /// When every vertex ran again; `None` while it does not.
    pub running_at: Option<Timestamp>,
}

/// One deployment.
#[derive(Debug)]
pub(crate) struct Engine {
    world: Arc<World>,
    noise: bool,
    dead_time: ChaCha8Rng,
    now: Timestamp,
    feed: Feed,
    vitality: Vitality,
    attempt: u32,
    /// Events that have arrived, that the source has read, and that were processed, again included.
    log_end: f64,
    position: f64,
    processed: f64,
    checkpointing: Checkpointing,
    latency: Latency,
    readout: Readout,
    failures: Vec<Failure>,
    /// When failures of the present deployment were noticed.
    noticed: Vec<Timestamp>,
    /// Failures of nature: each strikes when the first checkpoint after it is about to complete.
    armed: VecDeque<Timestamp>,
    stalled_ms: i64,
}

/// What a deployment is made of.
#[derive(Debug, Clone)]
pub(crate) struct EngineConfig {
    pub(crate) world: Arc<World>,
    pub(crate) settings: CheckpointSettings,
    pub(crate) feed: Feed,
    /// Failures of nature, in order.
    pub(crate) failures: Vec<Timestamp>,
    /// Spans in which no scrape succeeds.
    pub(crate) outages: Vec<khaos_control::core::units::Span>,
    pub(crate) seed: Seed,
    pub(crate) noise: bool,
    /// When every vertex runs for the first time.
    pub(crate) runs_at: Timestamp,
}

impl Engine {
    pub(crate) fn start(config: EngineConfig, now: Timestamp) -> Self {
        let EngineConfig { world, settings, feed, failures, outages, seed, noise, runs_at } =
            config;
        Self {
            noise,
            dead_time: seed.stream("dead time"),
            now,
            feed,
            vitality: Vitality::Starting { until: runs_at },
            attempt: 0,
            log_end: 0.0,
            position: 0.0,
            processed: 0.0,
            checkpointing: Checkpointing::new(settings, runs_at),
            latency: Latency::new(&world, seed, noise, now),
            readout: Readout::new(&world, seed, noise, outages, now),
            failures: Vec::new(),
            noticed: Vec::new(),
            armed: failures.into(),
            stalled_ms: 0,
            world,
        }
    }

    /// Lives until `to`.
    pub(crate) fn advance(&mut self, to: Timestamp) {
        self.happen();
        while self.now < to {
            let next = self.next_event().unwrap_or(to).min(to).min(self.now.plus_millis(STEP_MS));
            self.flow(next);
            self.now = next;
            self.happen();
        }
    }

    fn next_event(&self) -> Option<Timestamp> {
        let vitality = match self.vitality {
            Vitality::Starting { until } => Some(until),
            Vitality::Dead { noticed_at, .. } => Some(noticed_at),
            Vitality::Running { .. } => self.checkpointing.next_event(self.now),
        };
        [vitality, Some(self.readout.next_scrape())]
            .into_iter()
            .flatten()
            .filter(|at| *at > self.now)
            .min()
    }

    /// Events arrive and are processed from now until `next`.
    fn flow(&mut self, next: Timestamp) {
        let seconds = next.secs_since(self.now);
        let middle = self.now.plus_millis((next.0 - self.now.0) / 2);
        let arrival = self.feed.rate_at(middle);
        self.log_end += arrival * seconds;
        if matches!(self.vitality, Vitality::Running { .. }) {
            let share = 1.0 - self.checkpointing.capacity_taken(self.now);
            let room = self.world.capacity_eps * share * seconds;
            let read = room.min(self.log_end - self.position);
            self.position += read;
            self.processed += read;
            if self.log_end - self.position <= arrival.max(1.0) {
                self.latency.caught_up(next);
            }
        }
        let lag = self.log_end - self.position;
        let interval_s = self.checkpointing.recent_interval_s();
        let latency_ms = self.latency.now_ms(next, arrival, lag, interval_s);
        self.readout.observe(next, lag, self.processed, latency_ms);
    }

    /// Whatever happens at this instant.
    fn happen(&mut self) {
        match self.vitality {
            Vitality::Dead { noticed_at, .. } if noticed_at <= self.now => {
                self.attempt += 1;
                self.noticed.push(self.now);
                self.checkpointing.abort("the job failed");
                let until = self.now.plus_secs(self.world.restart_s * self.luck());
                self.vitality = Vitality::Starting { until };
            }
            Vitality::Starting { until } if until <= self.now => {
                self.vitality = Vitality::Running { since: self.now };
                self.position = self.checkpointing.restore(self.now, &self.world);
                if let Some(failure) = self.failures.last_mut() {
                    failure.running_at.get_or_insert(self.now);
                }
            }
            _ => {}
        }
        if matches!(self.vitality, Vitality::Running { .. }) {
            self.checkpoints();
        }
        if self.readout.next_scrape() <= self.now {
            self.readout.scrape(self.now, self.log_end);
        }
    }

    /// Checkpoints that end and begin at this instant; with no duration one after the other.
    fn checkpoints(&mut self) {
        loop {
            if self.checkpointing.completes(self.now) {
                if self.armed.front().is_some_and(|at| *at <= self.now) {
                    self.armed.pop_front();
                    self.fail(Fault::Crash);
                    return;
                }
                self.checkpointing.complete(self.now);
            }
            if !self.checkpointing.begin(self.now, self.position, &self.world) {
                return;
            }
        }
    }

    /// Fails now, if it runs.
    pub(crate) fn fail(&mut self, fault: Fault) {
        let Vitality::Running { since } = self.vitality else { return };
        let detect_s = match fault {
            Fault::Crash => self.world.detect_s,
            Fault::Hang => self.world.hang_detect_s(),
        };
        let noticed_at = self.now.plus_secs(detect_s * self.luck());
        self.vitality = Vitality::Dead { noticed_at, since };
        self.failures.push(Failure { failed_at: self.now, running_at: None });
        self.checkpointing.freeze();
        self.latency.failed(self.now);
    }

    /// A factor of how long things take this time.
    fn luck(&mut self) -> f64 {
        let z: f64 = StandardNormal.sample(&mut self.dead_time);
        if self.noise { (self.world.dead_time_sigma * z).exp() } else { 1.0 }
    }

    /// Stops with a savepoint and comes back with other settings after the world's stall. Nothing is
    /// processed twice. Refused unless every vertex runs.
    pub(crate) fn redeploy(&mut self, settings: CheckpointSettings) -> bool {
        if !matches!(self.vitality, Vitality::Running { .. }) {
            return false;
        }
        let until = self.now.plus_secs(self.world.retune_stall_s);
        self.stalled_ms += until.0 - self.now.0;
        self.vitality = Vitality::Starting { until };
        self.attempt = 0;
        self.noticed.clear();
        self.checkpointing.redeploy(settings, self.now, self.position);
        true
    }

    /// Is of another world from now on, but for how it is read.
    pub(crate) fn becomes(&mut self, world: &Arc<World>) {
        self.world = Arc::clone(world);
        self.latency.becomes(world);
    }

    /// Feeds it from `feed` from now on.
    pub(crate) fn feed(&mut self, feed: Feed) {
        self.feed = feed;
    }

    /// Asks for a checkpoint.
    pub(crate) fn trigger(&mut self, id: &TriggerId) {
        let (status, _) = self.status();
        self.checkpointing.request(id, status == JobStatus::Running);
        if matches!(self.vitality, Vitality::Running { .. }) {
            self.checkpoints();
        }
    }

    pub(crate) fn checkpointing(&self) -> &Checkpointing {
        &self.checkpointing
    }

    pub(crate) fn history(&self) -> CheckpointHistory {
        self.checkpointing.history(self.now)
    }

    pub(crate) fn readout(&self) -> &Readout {
        &self.readout
    }

    pub(crate) fn status(&self) -> (JobStatus, Option<Timestamp>) {
        match self.vitality {
            Vitality::Running { since } | Vitality::Dead { since, .. } => {
                (JobStatus::Running, Some(since))
            }
            Vitality::Starting { .. } => (JobStatus::Restarting, None),
        }
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }

    pub(crate) fn noticed(&self) -> &[Timestamp] {
        &self.noticed
    }

    /// Its usual dead time after a crash: what detection and restart are configured to take.
    pub(crate) fn expected_dead_time(&self) -> Option<Seconds> {
        Seconds::new(self.world.detect_s + self.world.restart_s).ok()
    }

    pub(crate) fn failures(&self) -> &[Failure] {
        &self.failures
    }

    pub(crate) fn stalled_s(&self) -> f64 {
        self.stalled_ms as f64 / 1_000.0
    }

    /// Events that arrived, that were read, and that were processed, again included.
    pub(crate) fn balance(&self) -> (f64, f64, f64) {
        (self.log_end, self.position, self.processed)
    }
}
