//! The loop: every minute, observe, learn, decide, act, as far as the mode allows.

use khaos_core::job::JobKey;
use khaos_core::units::Timestamp;

use crate::ReconcileError;
use crate::act::Act;
use crate::clock::Clock;
use crate::learn::failures;
use crate::observe::{GRACE_MS, Observe};
use crate::optimize::Optimize;

/// How far the loop goes. What a mode must not do, it has not got the hands for.
#[derive(Debug, Clone)]
pub enum Mode {
    /// Records minutes and failures, decides nothing.
    Observe,
    /// Decides, stores and explains, never acts.
    Recommend(Optimize),
    /// Acts on decisions that rest on trials, or on failures that came out as predicted; recommends
    /// where there are none.
    Auto(Optimize, Act),
}

/// Keeps one job inside its objectives.
#[derive(Debug, Clone)]
pub struct Tuner {
    /// Time.
    pub clock: Clock,
    /// Follows the job.
    pub observe: Observe,
    /// Whether it decides and acts.
    pub mode: Mode,
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
        match self.learn(job).await {
            Err(error @ ReconcileError::Tampered(_)) => return Err(error),
            // What is to be learnt can wait, a decision cannot; it says by itself where models are missing.
            Err(ReconcileError::NoModels(why)) => tracing::debug!(%job, %why, "no models"),
            Err(error) => tracing::warn!(%job, %error, "learning from failures"),
            Ok(()) => {}
        }
        match &self.mode {
            Mode::Observe => Ok(()),
            Mode::Recommend(optimize) => optimize.recommend(job).await,
            Mode::Auto(optimize, act) => {
                optimize.decide(job).await?;
                act.reconcile(job).await
            }
        }
    }

    async fn learn(&self, job: &JobKey) -> Result<(), ReconcileError> {
        let drives = matches!(self.mode, Mode::Auto(..));
        failures(&self.observe, job, drives).await?;
        match &self.mode {
            Mode::Observe => Ok(()),
            Mode::Recommend(optimize) | Mode::Auto(optimize, _) => optimize.fit(job).await,
        }
    }
}
