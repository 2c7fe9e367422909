//! The checkpoints of one deployment.
//!
//! Periodic triggers as Flink schedules them: every interval, but not before min-pause has passed
//! since a checkpoint last completed, whoever triggered it. Triggers from outside ignore min-pause
//! and wait while another checkpoint is under way.

use std::collections::{BTreeMap, VecDeque};

use khaos_control::core::job::{
    CheckpointHistory, CheckpointSettings, CompletedCheckpoint, PendingCheckpoint, TriggerId,
};
use khaos_control::core::units::Timestamp;
use khaos_control::ports::TriggerOutcome;

use crate::world::World;

/// Share of the capacity that writing a checkpoint takes while it lasts: a slow-down, no stop.
const SHARE: f64 = 0.25;
/// Subtasks that acknowledge a checkpoint.
pub(crate) const SUBTASKS: u32 = 4;
/// Completed checkpoints that the engine remembers.
const REMEMBERED: usize = 100;

/// A completed checkpoint and what it holds.
#[derive(Debug, Clone, Copy)]
struct Completed {
    checkpoint: CompletedCheckpoint,
    position: f64,
}

#[derive(Debug)]
struct Pending {
    id: u64,
    triggered_at: Timestamp,
    completes_at: Timestamp,
    position: f64,
    requested: Option<TriggerId>,
}

/// Work that a checkpoint leaves behind: it takes a share of the capacity until it is done.
#[derive(Debug)]
struct Flush {
    ends_at: Timestamp,
    share: f64,
}

#[derive(Debug)]
pub(crate) struct Checkpointing {
    settings: CheckpointSettings,
    next_periodic: Timestamp,
    next_id: u64,
    pending: Option<Pending>,
    requests: VecDeque<TriggerId>,
    outcomes: BTreeMap<TriggerId, TriggerOutcome>,
    flushes: Vec<Flush>,
    completed: Vec<Completed>,
    savepoint: f64,
    /// Completed over all deployments.
    total: u64,
    restored: Option<CompletedCheckpoint>,
    failed: u64,
}

impl Checkpointing {
    pub(crate) fn new(settings: CheckpointSettings, runs_at: Timestamp) -> Self {
        Self {
            settings,
            next_periodic: runs_at.plus_millis(settings.interval.millis()),
            next_id: 1,
            pending: None,
            requests: VecDeque::new(),
            outcomes: BTreeMap::new(),
            flushes: Vec::new(),
            completed: Vec::new(),
            savepoint: 0.0,
            total: 0,
            restored: None,
            failed: 0,
        }
    }

    pub(crate) fn settings(&self) -> CheckpointSettings {
        self.settings
    }

    /// The next instant at which something may happen by itself, while the job runs.
    pub(crate) fn next_event(&self, now: Timestamp) -> Option<Timestamp> {
        let pending = self.pending.as_ref().map(|p| p.completes_at);
        let periodic = self.pending.is_none().then(|| self.periodic_due());
        let flushes = self.flushes.iter().map(|f| f.ends_at);
        flushes.chain(pending).chain(periodic).filter(|at| *at > now).min()
    }

    fn periodic_due(&self) -> Timestamp {
        let pause_over = self
            .completed
            .last()
            .map(|c| c.checkpoint.completed_at.plus_secs(self.settings.min_pause.get()));
        pause_over.map_or(self.next_periodic, |over| over.max(self.next_periodic))
    }

    /// Share of the capacity that checkpoints take now.
    pub(crate) fn capacity_taken(&self, now: Timestamp) -> f64 {
        let active = self.flushes.iter().filter(|f| f.ends_at > now);
        active.map(|f| f.share).sum::<f64>().min(1.0)
    }

    /// Whether the pending checkpoint is due to complete.
    pub(crate) fn completes(&self, now: Timestamp) -> bool {
        self.pending.as_ref().is_some_and(|p| p.completes_at <= now)
    }

    /// Completes the pending checkpoint.
    pub(crate) fn complete(&mut self, now: Timestamp) {
        let Some(pending) = self.pending.take() else { return };
        let Pending { id, triggered_at, position, requested, .. } = pending;
        if let Some(requested) = requested {
            self.outcomes.insert(requested, TriggerOutcome::Completed(id));
        }
        let checkpoint = CompletedCheckpoint { id, triggered_at, completed_at: now };
        self.total += 1;
        self.completed.push(Completed { checkpoint, position });
    }

    /// Begins the next checkpoint, if one is asked for or due and none is under way.
    pub(crate) fn begin(&mut self, now: Timestamp, position: f64, world: &World) -> bool {
        if self.pending.is_some() {
            return false;
        }
        let requested = self.requests.pop_front();
        if requested.is_none() {
            if self.periodic_due() > now {
                return false;
            }
            self.next_periodic = now.plus_millis(self.settings.interval.millis());
        }
        self.spend(now, world);
        self.pending = Some(Pending {
            id: self.next_id,
            triggered_at: now,
            completes_at: now.plus_secs(world.checkpoint_duration_s),
            position,
            requested,
        });
        self.next_id += 1;
        true
    }

    /// Takes the capacity that a checkpoint costs, spread over a while.
    fn spend(&mut self, now: Timestamp, world: &World) {
        self.flushes.retain(|f| f.ends_at > now);
        let work_s = (world.checkpoint_cost_s / SHARE).max(world.checkpoint_duration_s);
        if work_s > 0.0 {
            let share = world.checkpoint_cost_s / work_s;
            self.flushes.push(Flush { ends_at: now.plus_secs(work_s), share });
        }
    }

    /// Takes in a trigger from outside: once per id, and failed at once when a vertex does not run.
    pub(crate) fn request(&mut self, id: &TriggerId, running: bool) {
        if self.outcomes.contains_key(id) {
            return;
        }
        let outcome = if running {
            self.requests.push_back(id.clone());
            TriggerOutcome::InProgress
        } else {
            TriggerOutcome::Failed("not all required tasks are currently running".into())
        };
        self.outcomes.insert(id.clone(), outcome);
    }

    pub(crate) fn outcome(&self, id: &TriggerId) -> Option<TriggerOutcome> {
        self.outcomes.get(id).cloned()
    }

    /// Whatever was under way or asked for has failed.
    pub(crate) fn abort(&mut self, why: &str) {
        let pending = self.pending.take();
        self.failed += u64::from(pending.is_some());
        let requested = pending.and_then(|p| p.requested);
        for id in requested.into_iter().chain(self.requests.drain(..)) {
            self.outcomes.insert(id, TriggerOutcome::Failed(why.into()));
        }
        self.flushes.clear();
    }

    /// Nothing moves any more: whatever is under way or asked for stays so until the engine notices.
    pub(crate) fn freeze(&mut self) {
        self.flushes.clear();
        if let Some(pending) = &mut self.pending {
            pending.completes_at = Timestamp(i64::MAX);
        }
    }

    /// Starts again from the newest completed checkpoint, or the savepoint that the deployment began
    /// from; the position to read from. Reading the state back costs what writing it did.
    pub(crate) fn restore(&mut self, now: Timestamp, world: &World) -> f64 {
        self.spend(now, world);
        self.next_periodic = now.plus_millis(self.settings.interval.millis());
        let newest = self.completed.last();
        self.restored = newest.map(|c| c.checkpoint);
        newest.map_or(self.savepoint, |c| c.position)
    }

    /// Takes a savepoint and goes on under other settings; the engine forgets the checkpoints of the
    /// old deployment.
    pub(crate) fn redeploy(&mut self, settings: CheckpointSettings, now: Timestamp, position: f64) {
        self.abort("the job was stopped with a savepoint");
        let (next_id, total) = (self.next_id, self.total);
        *self = Self { next_id, total, savepoint: position, ..Self::new(settings, now) };
    }

    /// The interval that checkpoints have come at lately, s.
    pub(crate) fn recent_interval_s(&self) -> f64 {
        match self.completed.last_chunk::<2>() {
            Some([before, last]) => {
                last.checkpoint.triggered_at.secs_since(before.checkpoint.triggered_at).max(0.1)
            }
            None => self.settings.interval.seconds(),
        }
    }

    /// Every completed checkpoint of this deployment, also those that the engine forgot.
    pub(crate) fn completed(&self) -> impl Iterator<Item = CompletedCheckpoint> {
        self.completed.iter().map(|c| c.checkpoint)
    }

    /// Checkpoints completed over all deployments.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    pub(crate) fn history(&self, now: Timestamp) -> CheckpointHistory {
        let forgotten = self.completed.len().saturating_sub(REMEMBERED);
        let newest = &self.completed[forgotten..];
        let oldest = newest.first().filter(|_| forgotten > 0);
        CheckpointHistory {
            completed: newest.iter().map(|c| c.checkpoint).collect(),
            complete_since: oldest.map_or(Timestamp(0), |c| c.checkpoint.triggered_at),
            pending: self.pending.as_ref().map(|p| {
                let whole = p.completes_at.secs_since(p.triggered_at).max(0.001);
                let share = (now.secs_since(p.triggered_at) / whole).clamp(0.0, 1.0);
                PendingCheckpoint {
                    id: p.id,
                    triggered_at: p.triggered_at,
                    acknowledged: (share * f64::from(SUBTASKS)).floor() as u32,
                    subtasks: SUBTASKS,
                }
            }),
            failed: self.failed,
            restored: self.restored,
        }
    }
}
