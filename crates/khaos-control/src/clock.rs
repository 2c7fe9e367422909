//! Time is tokio's clock, nothing else: with the clock paused, the same code runs in virtual time.

use khaos_core::units::Timestamp;
use tokio::time::{Duration, Instant};

/// Epoch time from one anchor.
///
/// A clock may run faster than the wall's, so that an hour of a laboratory passes in minutes. All that
/// Khaos does, and all that its records say, is in the time of its clock; an adapter translates what an
/// engine tells in the wall's time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    anchor: Timestamp,
    origin: Instant,
    speed: u32,
}

impl Clock {
    /// A clock that reads `anchor` now. Must be made inside the runtime whose time it tells.
    pub fn anchored(anchor: Timestamp) -> Self {
        Self { anchor, origin: Instant::now(), speed: 1 }
    }

    /// The same, `speed` times as fast as the wall's; at least once.
    #[must_use]
    pub fn times(self, speed: u32) -> Self {
        Self { speed: speed.max(1), ..self }
    }

    /// How many times as fast as the wall's it runs.
    pub fn speed(&self) -> u32 {
        self.speed
    }

    /// Now, whole milliseconds since the epoch.
    pub fn now(&self) -> Timestamp {
        let elapsed = Instant::now().duration_since(self.origin) * self.speed;
        self.anchor.plus_millis(i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX))
    }

    /// Sleeps until `at`; not at all when it is past. Absolute, so that loops do not drift.
    pub async fn sleep_until(&self, at: Timestamp) {
        let millis = u64::try_from(at.0 - self.anchor.0).unwrap_or(0);
        tokio::time::sleep_until(self.origin + Duration::from_millis(millis) / self.speed).await;
    }

    /// What this clock reads when the wall's reads `wall`.
    pub fn of_wall(&self, wall: Timestamp) -> Timestamp {
        let since = wall.0.saturating_sub(self.anchor.0);
        self.anchor.plus_millis(since.saturating_mul(i64::from(self.speed)))
    }

    /// What the wall's clock reads when this one reads `at`.
    pub fn to_wall(&self, at: Timestamp) -> Timestamp {
        let since = at.0.saturating_sub(self.anchor.0);
        self.anchor.plus_millis(since.div_euclid(i64::from(self.speed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_hour_passes_in_five_minutes() {
        let clock = Clock::anchored(Timestamp(1_000_000)).times(12);
        clock.sleep_until(Timestamp(1_000_000).plus_secs(3_600.0)).await;
        assert_eq!(clock.now(), Timestamp(4_600_000));
        assert_eq!(clock.origin.elapsed(), Duration::from_mins(5));
        assert_eq!(clock.to_wall(clock.now()), Timestamp(1_300_000));
        assert_eq!(clock.of_wall(Timestamp(1_300_000)), clock.now());
        // Before the anchor, too.
        assert_eq!(clock.of_wall(Timestamp(999_000)), Timestamp(988_000));
        assert_eq!(clock.to_wall(Timestamp(988_000)), Timestamp(999_000));
    }
}
