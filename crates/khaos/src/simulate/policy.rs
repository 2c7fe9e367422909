//! The policies that a day can be lived under.

use std::fmt;
use std::str::FromStr;

use khaos_core::units::CheckpointInterval;

/// A way to choose the interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// One interval all day, the engine's own.
    Static(CheckpointInterval),
    /// Khaos: models from trials before second 0, a forecast, a decision every minute, driven.
    Khaos,
    /// Knows the world's formula and the load of the minute to come.
    Oracle,
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "khaos" => Ok(Self::Khaos),
            "oracle" => Ok(Self::Oracle),
            _ => text
                .strip_prefix("static:")
                .and_then(|rest| rest.strip_suffix('s'))
                .and_then(|seconds| seconds.parse().ok())
                .and_then(|seconds| CheckpointInterval::from_secs(seconds).ok())
                .map(Self::Static)
                .ok_or_else(|| {
                    format!("'{text}' is no policy: use khaos, oracle or static:SECONDSs as in static:30s")
                }),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static(interval) => write!(f, "static:{}s", interval.secs()),
            Self::Khaos => f.write_str("khaos"),
            Self::Oracle => f.write_str("oracle"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_printed_as_they_are_typed() {
        for text in ["static:30s", "khaos", "oracle"] {
            assert_eq!(text.parse::<Policy>().unwrap().to_string(), text);
        }
        for bad in ["static", "static:0s", "static:30", "static:1.5s", "best"] {
            assert!(bad.parse::<Policy>().unwrap_err().contains(bad), "{bad}");
        }
    }
}
