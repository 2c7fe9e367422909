//! One experiment: deploy, replay, wait for steady state, break at the worst moment, measure, tear
//! down.

use khaos_core::job::JobKey;
use khaos_core::profile::{PlannedTrial, Recovery, Trial};
use khaos_core::record::{Fact, RecordId};

use super::{Profile, Spoilt, Subject};
use crate::ReconcileError;
use crate::ports::{CloneId, CloneSpec, Fault, PortError};

/// What a clone may live beyond its experiment before anyone may sweep it, s.
const SLACK_S: f64 = 600.0;

impl Profile {
    /// Runs one trial and appends it. What goes wrong with the clone is a spoilt trial that says why. An
    /// engine that does not answer is an error, because the trial can be run again; so is a clone that
    /// cannot be torn down, because the next trial would add to it, but not before the trial is kept.
    pub(super) async fn trial(
        &self,
        job: &JobKey,
        campaign: &RecordId,
        index: u32,
        planned: &PlannedTrial,
    ) -> Result<(), ReconcileError> {
        let replayed = self.patience.stretch(planned.interval);
        let lifetime = replayed.lead_s + replayed.hold_s + SLACK_S;
        let spec = CloneSpec {
            of: job.clone(),
            campaign: campaign.clone(),
            index,
            interval: planned.interval,
            deadline: self.clock.now().plus_secs(lifetime),
        };
        let (trial, stopped) = match self.clones.deploy(&spec).await {
            Ok(clone) => {
                let measured = self.experiment(job, &clone, index, planned).await;
                let stopped = self.clones.stop(clone).await;
                match measured {
                    Err(Spoilt::Port(error @ PortError::Unavailable(_))) => {
                        return Err(error.into());
                    }
                    Err(why) => (spoilt(index, planned, why.to_string()), stopped),
                    Ok(trial) => (trial, stopped),
                }
            }
            Err(error @ PortError::Unavailable(_)) => return Err(error.into()),
            Err(error) => (spoilt(index, planned, error.to_string()), Ok(())),
        };
        self.append(job, campaign, Fact::Trial(trial)).await?;
        Ok(stopped?)
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
        let subject = Subject {
            clock: self.clock,
            jobs: self.jobs.as_ref(),
            metrics: self.metrics.as_ref(),
            checkpoints: self.checkpoints.as_ref(),
            id: clone.engine_id(),
        };
        let deadline = began_at.plus_secs(lead_s + planned.interval.seconds());
        // Early: one that shares its place with another job must not stay there for longer than it takes to see.
        subject.until_running(deadline).await?;
        self.injector.aim(clone).await?;
        subject.until_steady(deadline).await?;
        subject.refuse_other_interval(planned.interval).await?;
        // Every trial fails at the same place of its stretch, but for an interval: the load that it
        // was planned for is there.
        self.clock.sleep_until(began_at.plus_secs(lead_s)).await;
        self.injector.aim(clone).await?;
        subject.until_worst_moment(planned.interval).await?;
        self.injector.inject(clone, Fault::Crash).await?;
        let failed_at = self.clock.now();
        subject.aftermath(failed_at, index, planned.interval, self.patience.recovery).await
    }
}

fn spoilt(index: u32, planned: &PlannedTrial, why: String) -> Trial {
    Trial::of_recovery(index, planned.interval, planned.load, Recovery::Spoilt(why))
}
