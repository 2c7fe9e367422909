//! Numbers with a unit and a range: a value that exists is valid.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A number outside the range of its quantity.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("{quantity} must be {range}, not {value}")]
pub struct OutOfRange {
    quantity: &'static str,
    range: &'static str,
    value: f64,
}

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $words:literal, $range:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(try_from = "f64", into = "f64")]
        pub struct $name(f64);

        impl $name {
            /// The quantity, if `value` lies in its range.
            pub fn new(value: f64) -> Result<Self, OutOfRange> {
                let valid: fn(f64) -> bool = $valid;
                if value.is_finite() && valid(value) {
                    Ok(Self(value))
                } else {
                    Err(OutOfRange { quantity: $words, range: $range, value })
                }
            }

            /// The number, in the quantity's unit.
            pub const fn get(self) -> f64 {
                self.0
            }
        }

        impl TryFrom<f64> for $name {
            type Error = OutOfRange;
            fn try_from(value: f64) -> Result<Self, OutOfRange> {
                Self::new(value)
            }
        }

        impl From<$name> for f64 {
            fn from(quantity: $name) -> f64 {
                quantity.0
            }
        }
    };
}

quantity!(
    /// A length of time, s, zero or more.
    Seconds, "a length of time in s", "zero or more", |v| v >= 0.0
);
quantity!(
    /// A latency, ms, more than zero.
    Millis, "a latency in ms", "more than zero", |v| v > 0.0
);
quantity!(
    /// A rate of events, events/s, zero or more.
    EventRate, "a rate in events/s", "zero or more", |v| v >= 0.0
);
quantity!(
    /// A number of events, zero or more; not whole where it is a mean.
    Events, "a number of events", "zero or more", |v| v >= 0.0
);

/// A checkpoint interval: whole seconds between checkpoint triggers, from one to a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct CheckpointInterval(u32);

impl CheckpointInterval {
    /// The longest that makes sense to anyone: a day.
    const LONGEST_S: u32 = 86_400;

    /// The interval, if it is between a second and a day.
    pub fn from_secs(seconds: u32) -> Result<Self, OutOfRange> {
        if (1..=Self::LONGEST_S).contains(&seconds) {
            return Ok(Self(seconds));
        }
        let quantity = "a checkpoint interval in s";
        Err(OutOfRange { quantity, range: "from 1 to 86400", value: f64::from(seconds) })
    }

    /// Whole seconds.
    pub const fn secs(self) -> u32 {
        self.0
    }

    /// Seconds, for formulas.
    pub fn seconds(self) -> f64 {
        f64::from(self.0)
    }

    /// Milliseconds, for time.
    pub fn millis(self) -> i64 {
        i64::from(self.0) * 1_000
    }
}

impl TryFrom<u32> for CheckpointInterval {
    type Error = OutOfRange;
    fn try_from(seconds: u32) -> Result<Self, OutOfRange> {
        Self::from_secs(seconds)
    }
}

impl From<CheckpointInterval> for u32 {
    fn from(interval: CheckpointInterval) -> u32 {
        interval.0
    }
}

impl std::fmt::Display for CheckpointInterval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} s", self.0)
    }
}

/// A point in time, milliseconds since the epoch.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This point moved by `millis`, back where negative.
    #[must_use]
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// This point moved by `seconds`, to the nearest millisecond.
    #[must_use]
    pub fn plus_secs(self, seconds: f64) -> Self {
        Self(self.0.saturating_add((seconds * 1_000.0).round() as i64))
    }

    /// Seconds from `earlier` to here, negative when `earlier` is later.
    pub fn secs_since(self, earlier: Self) -> f64 {
        (self.0 - earlier.0) as f64 / 1_000.0
    }

    /// The start of the minute that this point lies in.
    #[must_use]
    pub const fn minute(self) -> Self {
        Self(self.0 - self.0.rem_euclid(60_000))
    }
}

/// A half-open stretch of time: `from` belongs to it, `to` does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// First instant.
    pub from: Timestamp,
    /// First instant after.
    pub to: Timestamp,
}

impl Span {
    /// All time.
    pub const EVER: Self = Self { from: Timestamp(i64::MIN), to: Timestamp(i64::MAX) };

    /// The `seconds` before `to`.
    pub fn last(seconds: f64, to: Timestamp) -> Self {
        Self { from: to.plus_secs(-seconds), to }
    }

    /// Whether `at` lies within.
    pub fn contains(&self, at: Timestamp) -> bool {
        self.from <= at && at < self.to
    }

    /// Length, s.
    pub fn secs(&self) -> f64 {
        self.to.secs_since(self.from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_refuse_what_is_out_of_range_and_say_so() {
        assert!(EventRate::new(0.0).is_ok());
        for bad in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(EventRate::new(bad).is_err(), "{bad}");
        }
        let error = Millis::new(0.0).unwrap_err().to_string();
        assert_eq!(error, "a latency in ms must be more than zero, not 0");
        assert!(CheckpointInterval::from_secs(0).is_err());
    }

    #[test]
    fn json_is_validated_too() {
        assert!(serde_json::from_str::<EventRate>("-3.0").is_err());
        assert!(serde_json::from_str::<CheckpointInterval>("0").is_err());
        let rate: EventRate = serde_json::from_str("2.5").unwrap();
        assert_eq!(serde_json::to_string(&rate).unwrap(), "2.5");
    }

    #[test]
    fn minutes_start_on_the_minute_also_before_the_epoch() {
        assert_eq!(Timestamp(61_500).minute(), Timestamp(60_000));
        assert_eq!(Timestamp(-1).minute(), Timestamp(-60_000));
    }
}
