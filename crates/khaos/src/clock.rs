//! Real time.

use std::time::{SystemTime, UNIX_EPOCH};

use khaos_control::clock::Clock;
use khaos_core::units::Timestamp;

/// A clock that tells real time, as the system's clock says it now. Must be made inside the runtime
/// whose time it tells.
pub fn anchored() -> Clock {
    #[allow(clippy::disallowed_methods, reason = "the one anchor in real time")]
    let now = SystemTime::now();
    // A system clock before 1970 is not set: better an early time than none.
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    Clock::anchored(Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
}
