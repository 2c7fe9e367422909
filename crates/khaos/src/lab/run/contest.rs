//! The same afternoon and the same failures under each policy, side by side on one Flink.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::ensure;
use async_trait::async_trait;
use futures::future::try_join_all;
use khaos_control::act::Act;
use khaos_control::act::driver::Driver;
use khaos_control::clock::Clock;
use khaos_control::observe::{GRACE_MS, Observe};
use khaos_control::optimize::Optimize;
use khaos_control::ports::{Actuator, Checkpoints, Fault, Generation, Jobs, PortError, Store};
use khaos_control::profile::Subject;
use khaos_control::tuner::{Mode, Tuner};
use khaos_core::job::{JobKey, JobRun, JobStatus};
use khaos_core::optimize::{Effect, Goals};
use khaos_core::profile::Trial;
use khaos_core::record::{Fact, Record, RecordId};
use khaos_core::units::{CheckpointInterval, Seconds, Timestamp};
use khaos_twin::MemoryStore;
use tokio::sync::Mutex;

use super::cluster::{Cluster, Contestant};
use super::course::Contest;
use crate::score::InForce;
use crate::simulate::Policy;

/// The longest recovery that is waited for, s: until just before the next failure.
const PATIENCE_S: f64 = 660.0;
/// Between two looks whether a checkpoint is half done, s.
const LOOK_S: f64 = 0.3;
/// How long a job that is down, or takes no checkpoint, is waited for before it is broken, s.
const WAIT_S: f64 = 300.0;

/// What happened to a contestant.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) policy: Policy,
    /// The intervals in force, from second 0 of the contest on.
    pub(super) intervals: Vec<InForce>,
    /// The failures, in order.
    pub(super) failures: Vec<Struck>,
    /// For how long it did not run because its interval was changed, s.
    pub(super) downtime_s: f64,
    /// How often it restarted, or was redeployed, but not because it was broken.
    pub(super) restarts: usize,
    /// Everything that was recorded of it since the contest began.
    pub(super) records: Vec<Arc<Record>>,
}

/// A failure that was injected.
#[derive(Debug)]
pub(super) struct Struck {
    /// Second of the contest.
    pub(super) second: f64,
    /// What it showed, or why it showed nothing.
    pub(super) showed: Result<Trial, String>,
}

/// The part of the cluster that a contest needs, and what is wanted.
pub(super) struct Ring<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) contest: &'a Contest,
    pub(super) goals: &'a Goals,
    /// Where what was learnt of the job is, and where its own contest is recorded.
    pub(super) learnt: &'a Arc<MemoryStore>,
}

impl Ring<'_> {
    /// Lets all contestants run at once.
    pub(super) async fn run(&self) -> anyhow::Result<Vec<Ran>> {
        let begins_at = self.contest.at(self.cluster.began_at, 0);
        self.cluster.clock.sleep_until(begins_at).await;
        try_join_all(self.cluster.contestants.iter().map(|c| self.compete(c, begins_at))).await
    }

    async fn compete(&self, contestant: &Contestant, begins_at: Timestamp) -> anyhow::Result<Ran> {
        let Cluster { clock, flink, job: learnt_of, .. } = self.cluster;
        let clock = *clock;
        let (job, policy) = (contestant.job(), contestant.policy);
        let store = if job == *learnt_of {
            Arc::clone(self.learnt)
        } else {
            self.cluster.begin(contestant)?;
            known_as(&job, &self.learnt.all()).await?
        };
        let known = store.all().len();
        let timed = Arc::new(Timed::new(self.actuator(contestant), clock, flink.clone()));
        let optimize = || Optimize::new(clock, flink.clone(), store.clone(), self.goals.clone());
        let act =
            || Act::new(clock, flink.clone(), timed.clone(), store.clone(), self.goals.clone());
        let mode = match policy {
            Policy::Khaos => Mode::Auto(optimize(), act()),
            Policy::KhaosRedeploying => Mode::Auto(optimize().redeploying(), act()),
            _ => Mode::Observe,
        };
        let observe = Observe {
            clock,
            jobs: flink.clone(),
            metrics: flink.clone(),
            checkpoints: flink.clone(),
            store: store.clone(),
        };
        let until = self.contest.at(self.cluster.began_at, self.contest.minutes);
        let until = until.plus_millis(GRACE_MS + 1_000);
        let tuner = Tuner { clock, observe, mode };
        let first = self.running(&job).await?;
        let (tuned, failures) =
            tokio::join!(tuner.tune(&job, until), self.failures(contestant, begins_at));
        tuned?;
        let failures = failures?;
        let last = self.running(&job).await?;
        timed.release(&last).await?;
        let records = store.all().split_off(known);
        // A first deployment that was replaced is one restart, and so is each failure that nobody injected.
        let injected = |at: &Timestamp| {
            failures.iter().any(|struck| {
                let failed_at = begins_at.plus_secs(struck.second);
                let dead_time = struck.showed.as_ref().ok().and_then(|trial| trial.dead_time);
                let back_s = dead_time.map_or(PATIENCE_S, Seconds::get);
                *at >= failed_at && *at <= failed_at.plus_secs(back_s)
            })
        };
        let own = last.noticed.iter().filter(|at| **at >= begins_at && !injected(at)).count();
        let own_interval = first.checkpointing.interval;
        Ok(Ran {
            policy,
            intervals: in_force(own_interval, &records, begins_at),
            failures,
            downtime_s: timed.stalled_s().await,
            restarts: own + timed.deployments().await,
            records,
        })
    }

    fn actuator(&self, contestant: &Contestant) -> Arc<dyn Actuator> {
        let Cluster { clock, flink, .. } = self.cluster;
        match contestant.policy {
            Policy::KhaosRedeploying => Arc::new(self.cluster.redeployer(contestant)),
            _ => Arc::new(Driver::new(*clock, flink.clone(), flink.clone())),
        }
    }

    /// The job as soon as every vertex of it runs.
    async fn running(&self, job: &JobKey) -> anyhow::Result<JobRun> {
        let Cluster { clock, flink, .. } = self.cluster;
        let deadline = clock.now().plus_secs(WAIT_S);
        loop {
            let described = flink.describe(job).await;
            match described {
                Ok(run) if run.status == JobStatus::Running => return Ok(run),
                Err(error) if clock.now() >= deadline => return Err(error.into()),
                Ok(_) if clock.now() >= deadline => {
                    anyhow::bail!("{job} did not run again within {WAIT_S} s of the lab's clock")
                }
                _ => clock.sleep_until(clock.now().plus_secs(LOOK_S)).await,
            }
        }
    }

    /// Breaks the contestant in the minutes of the contest, each time as soon as a checkpoint is half
    /// done, and watches what it costs.
    async fn failures(
        &self,
        contestant: &Contestant,
        begins_at: Timestamp,
    ) -> anyhow::Result<Vec<Struck>> {
        let Cluster { clock, flink, began_at, .. } = self.cluster;
        let job = contestant.job();
        let mut failures = Vec::new();
        for (index, minute) in (0..).zip(&self.contest.failures) {
            clock.sleep_until(self.contest.at(*began_at, *minute)).await;
            let run = self.broken(contestant, &job).await?;
            let failed_at = clock.now();
            let (flink, id) = (flink.as_ref(), &run.engine_id);
            let subject =
                Subject { clock: *clock, jobs: flink, metrics: flink, checkpoints: flink, id };
            let interval = self.interval(contestant, &run).await?;
            let patience = Seconds::new(PATIENCE_S)?;
            let showed = subject.aftermath(failed_at, index, interval, patience).await;
            let second = failed_at.secs_since(begins_at);
            failures.push(Struck { second, showed: showed.map_err(|why| why.to_string()) });
        }
        Ok(failures)
    }

    /// Breaks the contestant as soon as a checkpoint is half done: the deployment that it was.
    async fn broken(&self, contestant: &Contestant, job: &JobKey) -> anyhow::Result<JobRun> {
        let Cluster { clock, injector, .. } = self.cluster;
        let deadline = clock.now().plus_secs(WAIT_S);
        loop {
            self.running(job).await?;
            let aimed = injector.aim_at(&contestant.target).await?;
            let run = self.half_done(job).await?;
            match injector.strike(&aimed, Fault::Crash).await {
                Ok(_) => return Ok(run),
                // It was redeployed meanwhile.
                Err(PortError::Refused(_)) if clock.now() < deadline => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The deployment of `job` at a moment at which half of a checkpoint is done.
    async fn half_done(&self, job: &JobKey) -> anyhow::Result<JobRun> {
        let Cluster { clock, flink, .. } = self.cluster;
        let deadline = clock.now().plus_secs(WAIT_S);
        let mut run = self.running(job).await?;
        loop {
            match flink.history(&run.engine_id).await {
                Ok(history) if history.pending.is_some_and(|p| p.half_done()) => return Ok(run),
                Ok(_) => {}
                // It was redeployed.
                Err(PortError::NotFound(_)) => run = self.running(job).await?,
                Err(error) => return Err(error.into()),
            }
            ensure!(clock.now() < deadline, "{job} took no checkpoint for {WAIT_S} s");
            clock.sleep_until(clock.now().plus_secs(LOOK_S)).await;
            if flink.run(&run.engine_id).await?.status != JobStatus::Running {
                run = self.running(job).await?;
            }
        }
    }

    /// The interval in force.
    async fn interval(
        &self,
        contestant: &Contestant,
        run: &JobRun,
    ) -> anyhow::Result<CheckpointInterval> {
        let own = run.checkpointing.interval;
        if contestant.policy != Policy::Khaos {
            return Ok(own);
        }
        let kind = khaos_core::record::Kind::Outcome;
        let last = self.learnt.latest(&contestant.job(), kind).await?;
        Ok(last.as_deref().and_then(Record::outcome).map_or(own, |outcome| outcome.to))
    }
}

/// A store in which all that is known of another job is known of `job`, which is its copy. What follows
/// from what stays: models from trials, trials from a design.
async fn known_as(job: &JobKey, records: &[Arc<Record>]) -> anyhow::Result<Arc<MemoryStore>> {
    let store = Arc::new(MemoryStore::default());
    let mut ids: BTreeMap<&RecordId, RecordId> = BTreeMap::new();
    for record in records {
        let parents = record.parents().iter().map(|id| ids.get(id).unwrap_or(id).clone()).collect();
        let copy = Record::new(job, record.at(), parents, record.fact().clone());
        ids.insert(record.id(), copy.id().clone());
        store.append(copy).await?;
    }
    Ok(store)
}

/// The intervals in force from `begins_at` on, by the records of what was changed since.
fn in_force(
    own: CheckpointInterval,
    records: &[Arc<Record>],
    begins_at: Timestamp,
) -> Vec<InForce> {
    let mut intervals = vec![InForce { since_s: 0.0, interval_s: own.seconds() }];
    let changes = records.iter().filter_map(|record| match record.fact() {
        Fact::Outcome(outcome) => Some(outcome),
        _ => None,
    });
    let changes = changes.filter(|outcome| {
        matches!(outcome.effect, Effect::Applied | Effect::RolledBack(_))
            && outcome.from != outcome.to
    });
    intervals.extend(changes.map(|outcome| InForce {
        since_s: outcome.at.secs_since(begins_at),
        interval_s: outcome.to.seconds(),
    }));
    intervals
}

/// An actuator, and how long the job stood still for it.
struct Timed {
    inner: Arc<dyn Actuator>,
    clock: Clock,
    jobs: Arc<dyn Jobs>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    stalled_s: f64,
    deployments: usize,
}

impl Timed {
    fn new(inner: Arc<dyn Actuator>, clock: Clock, jobs: Arc<dyn Jobs>) -> Self {
        Self { inner, clock, jobs, seen: Mutex::default() }
    }

    async fn stalled_s(&self) -> f64 {
        self.seen.lock().await.stalled_s
    }

    async fn deployments(&self) -> usize {
        self.seen.lock().await.deployments
    }
}

#[async_trait]
impl Actuator for Timed {
    async fn apply(
        &self,
        run: &JobRun,
        interval: CheckpointInterval,
        generation: Generation,
    ) -> Result<(), PortError> {
        let asked_at = self.clock.now();
        let applied = self.inner.apply(run, interval, generation).await;
        let after = self.jobs.describe(&run.key).await?;
        if after.engine_id != run.engine_id {
            let back_at = after.running_since.unwrap_or_else(|| self.clock.now());
            let mut seen = self.seen.lock().await;
            seen.stalled_s += back_at.secs_since(asked_at);
            seen.deployments += 1;
        }
        applied
    }

    async fn release(&self, run: &JobRun) -> Result<(), PortError> {
        self.inner.release(run).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use khaos_core::profile::{Design, Recovery};
    use khaos_core::units::EventRate;

    #[tokio::test]
    async fn a_copy_knows_what_follows_from_what() {
        let (job, copy) = (JobKey("lab".into()), JobKey("copy".into()));
        let design = Design { trials: Vec::new(), shape: None, further: false };
        let designed = Record::new(&job, Timestamp(1), Vec::new(), Fact::Design(design));
        let (interval, load) = (CheckpointInterval::from_secs(9), EventRate::new(5.0));
        let seen = Recovery::Measured(Seconds::new(7.0).unwrap());
        let trial = Trial::of_recovery(0, interval.unwrap(), load.unwrap(), seen);
        let parents = vec![designed.id().clone()];
        let tried = Record::new(&job, Timestamp(2), parents, Fact::Trial(trial.clone()));
        let store = known_as(&copy, &[Arc::new(designed), Arc::new(tried)]).await.unwrap();
        let kind = khaos_core::record::Kind::Design;
        let designed = store.latest(&copy, kind).await.unwrap().unwrap();
        let children = store.children(designed.id()).await.unwrap();
        assert_eq!(children.iter().filter_map(|r| r.trial()).collect::<Vec<_>>(), [&trial]);
    }
}
