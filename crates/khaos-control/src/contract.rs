//! The contract of the ports: tests that every implementation passes, the twin and the real ones.
//!
//! Each function is one clause; it panics with what is broken. They use nothing but the ports and
//! the clock, so that the same words hold in virtual and in real time.

mod actuators;
mod engines;
mod stores;

use std::future::Future;
use std::sync::Arc;

use khaos_core::job::{JobKey, JobRun, JobStatus};
use khaos_core::record::RecordId;
use khaos_core::units::{CheckpointInterval, Timestamp};

pub use self::actuators::{achieves_its_interval, refuses_stale_generations, released_falls_back};
pub use self::engines::{
    checkpoints_are_triggered_once_and_followed, clones_live_and_die, faults_break_clones_only,
    jobs_are_described, metrics_show_what_was_sampled, workload_is_replayed_at_its_pace,
};
pub use self::stores::{appends_once, finds_by_kind_span_and_parent, keeps_records_as_they_are};

use crate::clock::Clock;
use crate::ports::{
    Checkpoints, CloneHost, CloneSpec, FaultInjector, Jobs, Metrics, PortError, WorkloadLog,
};

/// One implementation on the bench: a running job with a workload.
#[derive(Clone)]
pub struct Bench {
    /// Time.
    pub clock: Clock,
    /// What runs.
    pub jobs: Arc<dyn Jobs>,
    /// Readings.
    pub metrics: Arc<dyn Metrics>,
    /// Checkpoints.
    pub checkpoints: Arc<dyn Checkpoints>,
    /// The job.
    pub job: JobKey,
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench").field("job", &self.job).finish_non_exhaustive()
    }
}

/// A bench on which the job can be cloned, its workload replayed, and the clones broken.
#[derive(Clone)]
pub struct CloneBench {
    /// The job.
    pub bench: Bench,
    /// Clones.
    pub host: Arc<dyn CloneHost>,
    /// The recorded workload.
    pub log: Arc<dyn WorkloadLog>,
    /// Faults.
    pub injector: Arc<dyn FaultInjector>,
    /// Some campaign.
    pub campaign: RecordId,
}

impl std::fmt::Debug for CloneBench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CloneBench").field("bench", &self.bench).finish_non_exhaustive()
    }
}

impl std::ops::Deref for CloneBench {
    type Target = Bench;
    fn deref(&self) -> &Bench {
        &self.bench
    }
}

impl Bench {
    async fn running_job(&self) -> JobRun {
        self.wait_for("the job to run", 120.0, || async {
            let run = self.jobs.describe(&self.job).await.expect("the job can be described");
            (run.status == JobStatus::Running).then_some(run)
        })
        .await
    }

    /// Looks every quarter of a second until `look` finds something, at most for `deadline_s` of the wall's
    /// time: it is the machine that is waited for, however fast the job's clock runs.
    async fn wait_for<T, F>(&self, what: &str, deadline_s: f64, look: impl Fn() -> F) -> T
    where
        F: Future<Output = Option<T>>,
    {
        let deadline = self.clock.now().plus_secs(deadline_s * f64::from(self.clock.speed()));
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(self.clock.now() < deadline, "waited {deadline_s} s for {what}");
            self.pause(0.25).await;
        }
    }

    async fn pause(&self, seconds: f64) -> Timestamp {
        self.clock.sleep_until(self.clock.now().plus_secs(seconds)).await;
        self.clock.now()
    }
}

impl CloneBench {
    fn clone_spec(&self, index: u32, interval_s: u32) -> CloneSpec {
        CloneSpec {
            of: self.job.clone(),
            campaign: self.campaign.clone(),
            index,
            interval: CheckpointInterval::from_secs(interval_s).expect("not zero"),
            deadline: self.clock.now().plus_secs(3_600.0),
        }
    }
}

fn assert_not_found<T: std::fmt::Debug>(answer: &Result<T, PortError>, what: &str) {
    assert!(matches!(answer, Err(PortError::NotFound(_))), "{what}: {answer:?}");
}
