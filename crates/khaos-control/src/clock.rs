//! Time is tokio's clock, nothing else: with the clock paused, the same code runs in virtual time.

use khaos_core::units::Timestamp;
use tokio::time::{Duration, Instant};

/// Epoch time from one anchor.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    anchor: Timestamp,
    origin: Instant,
}

impl Clock {
    /// A clock that reads `anchor` now. Must be made inside the runtime whose time it tells.
    pub fn anchored(anchor: Timestamp) -> Self {
        Self { anchor, origin: Instant::now() }
    }

    /// Now, whole milliseconds since the epoch.
    pub fn now(&self) -> Timestamp {
        let elapsed = Instant::now().duration_since(self.origin);
        self.anchor.plus_millis(i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX))
    }

    /// Sleeps until `at`; not at all when it is past. Absolute, so that loops do not drift.
    pub async fn sleep_until(&self, at: Timestamp) {
        let millis = u64::try_from(at.0 - self.anchor.0).unwrap_or(0);
        tokio::time::sleep_until(self.origin + Duration::from_millis(millis)).await;
    }
}
