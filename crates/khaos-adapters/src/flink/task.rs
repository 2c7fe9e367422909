//! Work that goes on beside the questions.

use std::future::Future;

use khaos_control::clock::Clock;
use khaos_control::core::units::Timestamp;
use tokio::task::JoinHandle;

/// Something that is done for as long as this is kept. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Task(JoinHandle<()>);

impl Task {
    pub(super) fn of(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A pace from now on. What was missed is not made up for.
#[derive(Debug)]
pub(super) struct Beat {
    clock: Clock,
    period_ms: i64,
    next: Timestamp,
}

impl Beat {
    pub(super) fn every(period_ms: i64, clock: Clock) -> Self {
        Self { clock, period_ms, next: clock.now() }
    }

    /// Until the next beat.
    pub(super) async fn wait(&mut self) {
        while self.next <= self.clock.now() {
            self.next = self.next.plus_millis(self.period_ms);
        }
        self.clock.sleep_until(self.next).await;
    }
}
