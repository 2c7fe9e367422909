//! One experiment: deploy, replay, wait for steady state, break at the worst moment, measure, tear
//! down.

use khaos_core::job::JobKey;
use khaos_core::observe::{Baseline, NotSteady, steady};
use khaos_core::profile::{Evidence, PlannedTrial, Progress, Recovery, Trial, assemble, recovered};
use khaos_core::record::RecordId;
use khaos_core::units::{Span, Timestamp};

use super::{AIM_S, Profile};
use crate::ReconcileError;
use crate::ports::{CloneId, CloneSpec, Fault, PortError};

/// Time between two looks at a clone, s.
const LOOK_S: f64 = 5.0;
/// Readings from this long before a failure are its baseline and what leads up to it, s.
const BEFORE_S: f64 = 400.0;
/// A failure just before a checkpoint completes: at this share of the duration of a quick one,
const NEARLY_DONE: f64 = 0.9;
/// which is this quantile of durations,
const QUICK: f64 = 0.1;
/// and this long before, for the call to arrive, s.
const CALL_S: f64 = 0.1;
/// What a clone may live beyond its experiment before anyone may sweep it, s.
const SLACK_S: f64 = 600.0;

impl Profile {
    /// Runs one trial. What goes wrong with the clone is a spoilt trial that says why. An engine that
    /// does not answer is an error, because the trial can be run again; so is a clone that cannot be
    /// torn down, because the next trial would add to it.
    pub(super) async fn trial(
        &self,
        job: &JobKey,
        campaign: &RecordId,
        index: u32,
        planned: &PlannedTrial,
    ) -> Result<Trial, ReconcileError> {
        let replayed = self.patience.stretch(planned.interval);
        let lifetime = replayed.lead_s + replayed.hold_s + SLACK_S;
        let spec = CloneSpec {
            of: job.clone(),
            campaign: campaign.clone(),
            index,
            interval: planned.interval,
            deadline: self.clock.now().plus_secs(lifetime),
        };
        let clone = match self.clones.deploy(&spec).await {
            Ok(clone) => clone,
            Err(error @ PortError::Unavailable(_)) => return Err(error.into()),
            Err(error) => return Ok(spoilt(index, planned, error.to_string())),
        };
        let measured = self.experiment(job, &clone, index, planned).await;
        self.clones.stop(clone).await?;
        match measured {
            Err(Spoilt::Port(error @ PortError::Unavailable(_))) => Err(error.into()),
            Err(why) => Ok(spoilt(index, planned, why.to_string())),
            Ok(trial) => Ok(trial),
        }
    }

    async fn experiment(
        &self,
        job: &JobKey,
        clone: &CloneId,
        index: u32,
        planned: &PlannedTrial,
    ) -> Result<Trial, Spoilt> {
        self.log.replay(job, planned.stretch.from, clone).await?;
        let began_at = self.clock.now();
        let lead_s = self.patience.lead.get();
        let deadline = began_at.plus_secs(lead_s + planned.interval.seconds());
        self.until_steady(clone, deadline).await?;
        // Every trial fails at the same place of its stretch, but for an interval: the load that it
        // was planned for is there.
        self.clock.sleep_until(began_at.plus_secs(lead_s)).await;
        self.until_worst_moment(clone, planned).await?;

        let failed_at = self.clock.now();
        let readings =
            self.metrics.readings(clone.engine_id(), Span::last(BEFORE_S, failed_at)).await?;
        let baseline = Baseline::before(failed_at, &readings).ok_or(NotSteady::NotRead)?;
        let history_before = self.checkpoints.history(clone.engine_id()).await?;
        self.injector.inject(clone, Fault::Crash).await?;
        let until = self.until_recovered(clone, &baseline, failed_at).await?;

        let watched = Span { from: failed_at.plus_secs(-BEFORE_S), to: until.plus_millis(1) };
        Ok(assemble(&Evidence {
            index,
            interval: planned.interval,
            baseline: &baseline,
            failed_at,
            failed_within: None,
            until,
            readings: &self.metrics.readings(clone.engine_id(), watched).await?,
            history_before: &history_before,
            history_after: &self.checkpoints.history(clone.engine_id()).await?,
            run_after: &self.jobs.run(clone.engine_id()).await?,
        }))
    }

    /// Waits until the clone is steady; at most until `deadline`.
    async fn until_steady(&self, clone: &CloneId, deadline: Timestamp) -> Result<(), Spoilt> {
        loop {
            let now = self.look_again().await;
            let run = self.jobs.run(clone.engine_id()).await?;
            let readings =
                self.metrics.readings(clone.engine_id(), Span::last(BEFORE_S, now)).await?;
            match steady(now, &run, &readings) {
                Ok(_) => return Ok(()),
                Err(not) if now >= deadline => return Err(not.into()),
                Err(_) => {}
            }
        }
    }

    /// Waits for the moment at which a failure costs most: just before a checkpoint completes, which is
    /// when most of it should be done and at least half of its subtasks say that they are. A checkpoint
    /// that completes meanwhile moves it; at most two intervals are waited for it.
    async fn until_worst_moment(
        &self,
        clone: &CloneId,
        planned: &PlannedTrial,
    ) -> Result<(), Spoilt> {
        let interval = planned.interval.seconds();
        let deadline = self.clock.now().plus_secs(2.0 * interval + AIM_S);
        loop {
            let history = self.checkpoints.history(clone.engine_id()).await?;
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
            let age = (interval + NEARLY_DONE * duration - CALL_S).max(0.0);
            let worst = newest.triggered_at.plus_secs(age);
            if now < worst {
                self.clock.sleep_until(worst).await;
            } else if history.pending.is_some_and(|pending| pending.half_done()) || now >= deadline
            {
                return Ok(());
            } else {
                self.clock.sleep_until(now.plus_secs(CALL_S)).await;
            }
        }
    }

    /// Waits until the lag says that the failure is over, as long as patience lasts. Returns until when
    /// the clone was watched.
    async fn until_recovered(
        &self,
        clone: &CloneId,
        baseline: &Baseline,
        failed_at: Timestamp,
    ) -> Result<Timestamp, Spoilt> {
        let deadline = failed_at.plus_secs(self.patience.recovery.get());
        loop {
            let now = self.look_again().await;
            let span = Span { from: failed_at, to: now.plus_millis(1) };
            let readings = self.metrics.readings(clone.engine_id(), span).await?;
            let progress = recovered(baseline, &readings.lag(), &readings.arrival(), failed_at);
            if matches!(progress, Progress::Over(_)) || now >= deadline {
                return Ok(now);
            }
        }
    }

    async fn look_again(&self) -> Timestamp {
        self.clock.sleep_until(self.clock.now().plus_secs(LOOK_S)).await;
        self.clock.now()
    }
}

/// Why an experiment says nothing.
#[derive(Debug, thiserror::Error)]
enum Spoilt {
    #[error("{0}")]
    Port(#[from] PortError),
    #[error("it did not become steady: {0}")]
    NotSteady(#[from] NotSteady),
    #[error("the clone completed no checkpoint")]
    NoCheckpoint,
}

fn spoilt(index: u32, planned: &PlannedTrial, why: String) -> Trial {
    Trial::of_recovery(index, planned.interval, planned.load, Recovery::Spoilt(why))
}
