//! The loop: every minute, observe, decide, act.

use khaos_core::job::JobKey;
use khaos_core::units::Timestamp;

use crate::ReconcileError;
use crate::act::Act;
use crate::clock::Clock;
use crate::observe::{GRACE_MS, Observe};
use crate::optimize::Optimize;

/// Keeps one job inside its objectives.
#[derive(Debug, Clone)]
pub struct Tuner {
    /// Time.
    pub clock: Clock,
    /// Follows the job.
    pub observe: Observe,
    /// Decides.
    pub optimize: Optimize,
    /// Acts.
    pub act: Act,
}

impl Tuner {
    /// Tunes `job` until `until`: once a minute, as soon as the minute before has been read. Ends
    /// earlier only when a stored record is not what it was.
    pub async fn tune(&self, job: &JobKey, until: Timestamp) -> Result<(), ReconcileError> {
        loop {
            let tick =
                self.clock.now().plus_millis(-GRACE_MS).minute().plus_millis(60_000 + GRACE_MS);
            if tick >= until {
                self.clock.sleep_until(until).await;
                return Ok(());
            }
            self.clock.sleep_until(tick).await;
            match self.minute(job).await {
                // A minute that did not go well is followed by another; a store that lies is not
                // to be acted on.
                Err(error @ ReconcileError::Tampered(_)) => return Err(error),
                Err(error) => tracing::warn!(%job, %error, "this minute"),
                Ok(()) => {}
            }
        }
    }

    async fn minute(&self, job: &JobKey) -> Result<(), ReconcileError> {
        self.observe.minutes(job).await?;
        self.optimize.decide(job).await?;
        self.act.reconcile(job).await
    }
}
