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
    /// Tunes `job` until `until`: once a minute, as soon as the minute before has been read.
    pub async fn tune(&self, job: &JobKey, until: Timestamp) -> Result<(), ReconcileError> {
        loop {
            let tick =
                self.clock.now().plus_millis(-GRACE_MS).minute().plus_millis(60_000 + GRACE_MS);
            if tick >= until {
                self.clock.sleep_until(until).await;
                return Ok(());
            }
            self.clock.sleep_until(tick).await;
            self.observe.minutes(job).await?;
            self.optimize.decide(job).await?;
            self.act.reconcile(job).await?;
        }
    }
}
