//! One deployment under examination: is it steady, when would a failure cost most, and what did one
//! show?

use khaos_core::job::{EngineJobId, JobStatus};
use khaos_core::observe::{Baseline, NotSteady, steady};
use khaos_core::profile::{Evidence, Progress, Trial, assemble, recovered};
use khaos_core::units::{CheckpointInterval, Seconds, Span, Timestamp};

use super::AIM_S;
use crate::clock::Clock;
use crate::ports::{Checkpoints, Jobs, Metrics, PortError};

/// Time between two looks at it, s.
const LOOK_S: f64 = 5.0;
/// Readings from this long before a failure are its baseline and what leads up to it, s.
const BEFORE_S: f64 = 400.0;
/// A failure just before a checkpoint completes: at this share of the duration of a quick one,
const NEARLY_DONE: f64 = 0.9;
/// which is this quantile of durations,
const QUICK: f64 = 0.1;
/// and this long before, for the call to arrive, s of the wall's time.
const CALL_S: f64 = 0.1;
/// Between two looks whether half of the subtasks have acknowledged it, s.
const AGAIN_S: f64 = 0.1;

/// A deployment that is to fail, and everybody who can be asked about it.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// Time.
    pub clock: Clock,
    /// What runs.
    pub jobs: &'a dyn Jobs,
    /// Readings.
    pub metrics: &'a dyn Metrics,
    /// Checkpoints.
    pub checkpoints: &'a dyn Checkpoints,
    /// The engine's id.
    pub id: &'a EngineJobId,
}

impl std::fmt::Debug for Subject<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject").field("id", self.id).finish_non_exhaustive()
    }
}

/// Why an experiment says nothing.
#[derive(Debug, thiserror::Error)]
pub enum Spoilt {
    /// Somebody who had to be asked did not answer, or said no.
    #[error("{0}")]
    Port(#[from] PortError),
    /// There was no steady state to compare with.
    #[error("it did not become steady: {0}")]
    NotSteady(#[from] NotSteady),
    /// It is no copy at the interval that was to be tried.
    #[error(
        "it checkpoints every {is} and not every {wanted}: the job's code sets the interval, so it has to be \
         given to it as an argument"
    )]
    Interval {
        /// In force.
        is: CheckpointInterval,
        /// To be tried.
        wanted: CheckpointInterval,
    },
    /// There is no worst moment without checkpoints.
    #[error("it completed no checkpoint")]
    NoCheckpoint,
}

impl Subject<'_> {
    /// Waits until all of it runs; at most until `deadline`.
    pub async fn until_running(&self, deadline: Timestamp) -> Result<(), Spoilt> {
        loop {
            let now = self.look_again().await;
            match self.jobs.run(self.id).await?.status {
                JobStatus::Running => return Ok(()),
                _ if now >= deadline => return Err(NotSteady::NotRunning.into()),
                _ => {}
            }
        }
    }

    /// Waits until it is steady; at most until `deadline`.
    pub async fn until_steady(&self, deadline: Timestamp) -> Result<(), Spoilt> {
        loop {
            let now = self.look_again().await;
            let run = self.jobs.run(self.id).await?;
            let readings = self.metrics.readings(self.id, Span::last(BEFORE_S, now)).await?;
            match steady(now, &run, &readings) {
                Ok(_) => return Ok(()),
                Err(not) if now >= deadline => return Err(not.into()),
                Err(_) => {}
            }
        }
    }

    /// Refuses a deployment that does not checkpoint every `wanted`, but for what rounding makes of it.
    pub async fn refuse_other_interval(&self, wanted: CheckpointInterval) -> Result<(), Spoilt> {
        let is = self.jobs.run(self.id).await?.checkpointing.interval;
        if is.secs().abs_diff(wanted.secs()) <= 1 {
            return Ok(());
        }
        Err(Spoilt::Interval { is, wanted })
    }

    /// Waits for the moment at which a failure costs most where a checkpoint comes every `interval`:
    /// just before one completes, which is when most of it should be done and at least half of its
    /// subtasks say that they are. A checkpoint that completes meanwhile moves it; at most two
    /// intervals are waited for it.
    pub async fn until_worst_moment(&self, interval: CheckpointInterval) -> Result<(), Spoilt> {
        let interval = interval.seconds();
        let deadline = self.clock.now().plus_secs(2.0 * interval + AIM_S);
        loop {
            let history = self.checkpoints.history(self.id).await?;
            let now = self.clock.now();
            let all = Span { from: Timestamp(i64::MIN), to: Timestamp(i64::MAX) };
            // By the quick ones: of one that takes longer, half of the subtasks are waited for below.
            let (Some(newest), Some(duration)) =
                (history.newest(), history.duration_quantile(all, QUICK))
            else {
                if self.look_again().await >= deadline {
                    return Err(Spoilt::NoCheckpoint);
                }
                continue;
            };
            let call_s = CALL_S * f64::from(self.clock.speed());
            let age = (interval + NEARLY_DONE * duration - call_s).max(0.0);
            let worst = newest.triggered_at.plus_secs(age);
            let half_done = history.pending.is_some_and(|pending| pending.half_done());
            if now < worst {
                self.clock.sleep_until(worst).await;
            } else if half_done || now >= deadline {
                return Ok(());
            } else {
                self.clock.sleep_until(now.plus_secs(AGAIN_S)).await;
            }
        }
    }

    /// What the failure at `failed_at` shows, which is now, at checkpoints every `interval`: watched until
    /// the lag says that it is over, but no longer than `patience`. `index` tells it from others.
    pub async fn aftermath(
        &self,
        failed_at: Timestamp,
        index: u32,
        interval: CheckpointInterval,
        patience: Seconds,
    ) -> Result<Trial, Spoilt> {
        let leading_up = Span::last(BEFORE_S, failed_at);
        let readings = self.metrics.readings(self.id, leading_up).await?;
        let baseline = Baseline::before(failed_at, &readings).ok_or(NotSteady::NotRead)?;
        let history_before = self.checkpoints.history(self.id).await?;
        let deadline = failed_at.plus_secs(patience.get());
        let until = loop {
            let now = self.look_again().await;
            let span = Span { from: failed_at, to: now.plus_millis(1) };
            let readings = self.metrics.readings(self.id, span).await?;
            let progress = recovered(&baseline, &readings.lag(), &readings.arrival(), failed_at);
            if matches!(progress, Progress::Over(_)) || now >= deadline {
                break now;
            }
        };
        let watched = Span { to: until.plus_millis(1), ..leading_up };
        Ok(assemble(&Evidence {
            index,
            interval,
            baseline: &baseline,
            failed_at,
            failed_within: None,
            until,
            readings: &self.metrics.readings(self.id, watched).await?,
            history_before: &history_before,
            history_after: &self.checkpoints.history(self.id).await?,
            run_after: &self.jobs.run(self.id).await?,
        }))
    }

    async fn look_again(&self) -> Timestamp {
        self.clock.sleep_until(self.clock.now().plus_secs(LOOK_S)).await;
        self.clock.now()
    }
}
