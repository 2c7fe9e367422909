//! The lab's Flink with three copies of one job on it, one for each policy, and room for clones.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use khaos_adapters::flink::{Description, Flink, FlinkClones, Redeployer, Submission};
use khaos_adapters::lab::{Lab, LabConfig, LabInjector, LabTarget, PacedJob, PacedLog, Then};
use khaos_control::clock::Clock;
use khaos_core::job::JobKey;
use khaos_core::units::{CheckpointInterval, Timestamp};

use super::course;
use crate::clock;
use crate::simulate::Policy;

/// One slot each: every job has a TaskManager of its own. Three jobs, three clones, and three to spare
/// for those that have just been killed.
const TASK_MANAGERS: u8 = 9;
/// Clones at once.
pub(super) const CLONES: u32 = 3;
/// State of the job, bytes: checkpoints take long enough to be caught half-way.
const STATE: u64 = 40_000_000;

/// Everything there is to work with while the lab's processes run.
pub(super) struct Cluster {
    pub(super) clock: Clock,
    pub(super) flink: Arc<Flink>,
    pub(super) injector: Arc<LabInjector>,
    pub(super) log: Arc<PacedLog>,
    /// The minute from which on the load is what [`course`] says.
    pub(super) began_at: Timestamp,
    /// The job that is observed, profiled and kept; it reads from the beginning.
    pub(super) job: JobKey,
    pub(super) contestants: Vec<Contestant>,
    /// The job as a clone is made of it.
    blank: Submission,
    folder: PathBuf,
}

/// A copy of the job under a policy of its own.
pub(super) struct Contestant {
    pub(super) policy: Policy,
    pub(super) target: LabTarget,
    described: Description,
}

impl Contestant {
    pub(super) fn job(&self) -> JobKey {
        JobKey(self.target.name().to_owned())
    }
}

/// What a lab for this is made of.
pub(super) fn config(lab: LabConfig) -> LabConfig {
    let hasty = [
        // What a minute's reading is elsewhere has to be one of five seconds here.
        ("metrics.fetcher.update-interval", "50"),
        // Flink fetches no metrics, of any job, while it waits for those of a TaskManager that it lost.
        ("web.timeout", "2000"),
        ("pekko.ask.timeout", "2 s"),
        ("metrics.latency.interval", "100 ms"),
        ("rest.cache.checkpoint-statistics.timeout", "10 ms"),
    ];
    let flink = hasty.map(|(key, value)| (key.to_owned(), value.to_owned()));
    LabConfig { task_managers: TASK_MANAGERS, slots: 1, flink: flink.into(), ..lab }
}

impl Cluster {
    /// Submits the job once for each of `policies`, the first of which begins at once, the others when
    /// they are told.
    pub(super) async fn on(
        lab: &Lab,
        policies: &[Policy],
        fallback: CheckpointInterval,
    ) -> anyhow::Result<Self> {
        let clock = clock::anchored().times(course::SPEED);
        let flink = Arc::new(Flink::at(lab.rest_url(), clock)?);
        // A whole minute that Flink has had time to start the job by.
        let began_at = clock.now().minute().plus_millis(120_000);
        let epoch_ms = clock.to_wall(began_at).0;
        let name = |policy: &Policy| match policy {
            Policy::Khaos => "lab".to_owned(),
            policy => format!("lab {policy}").replace(':', " "),
        };
        let job = JobKey(policies.first().map(name).context("no policy")?);
        let folder = lab.folder().to_owned();
        let log = PacedLog::of(job.clone(), epoch_ms, folder.join("replays"), clock);
        let blank = paced()?;
        let mut contestants = Vec::new();
        for policy in policies {
            let name = name(policy);
            let begins = if name == job.0 {
                PacedJob { epoch_ms: Some(epoch_ms), ..blank.clone() }
            } else {
                PacedJob { starts_with: Some(log.told(&name)), ..blank.clone() }
            };
            let copy = PacedJob {
                name,
                flink_configuration: checkpointing(*policy, fallback)
                    .map(|(key, value)| (format!("execution.checkpointing.{key}"), value))
                    .into(),
                ..begins
            };
            let described = Description::of(lab.submission(&copy))?;
            let target = lab.submit(&copy).await?;
            contestants.push(Contestant { policy: *policy, target, described });
        }
        Ok(Self {
            clock,
            flink,
            injector: Arc::new(lab.injector()?),
            log: Arc::new(log),
            began_at,
            job,
            contestants,
            blank: lab.submission(&blank),
            folder,
        })
    }

    /// Where clones are deployed: each is told in a file what it reads.
    pub(super) fn clones(&self) -> FlinkClones {
        FlinkClones::new(Flink::clone(&self.flink), self.log.recipe(self.blank.clone()))
    }

    /// What changes the interval of `contestant` by redeploying it.
    pub(super) fn redeployer(&self, contestant: &Contestant) -> Redeployer {
        let journal = self.folder.join(format!("{}.redeploy", contestant.target.name()));
        let described = contestant.described.clone();
        Redeployer::new(Flink::clone(&self.flink), described, None, journal)
    }

    /// Lets `contestant` read what arrives from now on.
    pub(super) fn begin(&self, contestant: &Contestant) -> anyhow::Result<()> {
        let told = self.log.told(contestant.target.name());
        Ok(self.log.tell(&told, self.clock.now())?)
    }
}

fn paced() -> anyhow::Result<PacedJob> {
    Ok(PacedJob {
        rates: course::rates()?,
        then: Then::Repeat,
        capacity: course::CAPACITY,
        state_bytes: STATE,
        parallelism: 1,
        ..PacedJob::default()
    })
}

/// How the job checkpoints by itself: driven checkpoints defer its own, where it is driven.
fn checkpointing(policy: Policy, fallback: CheckpointInterval) -> [(&'static str, String); 2] {
    let interval = if let Policy::Static(interval) = policy { interval } else { fallback };
    let wall = |interval: CheckpointInterval| {
        format!("{} ms", interval.millis().div_euclid(i64::from(course::SPEED)))
    };
    let pause = if policy == Policy::Khaos { wall(fallback) } else { "0 ms".to_owned() };
    [("interval", wall(interval)), ("min-pause", pause)]
}
