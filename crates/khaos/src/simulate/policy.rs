//! The policies that a day can be lived under.

use std::fmt;
use std::str::FromStr;

use khaos_core::profile::IntervalBounds;
use khaos_core::units::CheckpointInterval;

/// A way to choose the interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// One interval all day, the engine's own.
    Static(CheckpointInterval),
    /// The interval of [`young_daly`] all day, the engine's own.
    YoungDaly,
    /// The published method, [`super::paper`]: its changes are redeploys.
    Paper,
    /// Khaos: models from trials before second 0, a forecast, a decision every minute, driven.
    Khaos,
    /// Khaos where it may not drive: each change is a redeploy, which has to repay itself.
    KhaosRedeploying,
    /// Knows the world's formula and the load of the minute to come.
    Oracle,
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "young-daly" => Ok(Self::YoungDaly),
            "paper" => Ok(Self::Paper),
            "khaos" => Ok(Self::Khaos),
            "khaos:redeploy" => Ok(Self::KhaosRedeploying),
            "oracle" => Ok(Self::Oracle),
            _ => text
                .strip_prefix("static:")
                .and_then(|rest| rest.strip_suffix('s'))
                .and_then(|seconds| seconds.parse().ok())
                .and_then(|seconds| CheckpointInterval::from_secs(seconds).ok())
                .map(Self::Static)
                .ok_or_else(|| {
                    format!(
                        "'{text}' is no policy: use static:SECONDSs as in static:30s, young-daly, \
                         paper, khaos, khaos:redeploy or oracle"
                    )
                }),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static(interval) => write!(f, "static:{}s", interval.secs()),
            Self::YoungDaly => f.write_str("young-daly"),
            Self::Paper => f.write_str("paper"),
            Self::Khaos => f.write_str("khaos"),
            Self::KhaosRedeploying => f.write_str("khaos:redeploy"),
            Self::Oracle => f.write_str("oracle"),
        }
    }
}

/// `√(2·k·run/failures)` in whole seconds within `bounds`, with what a checkpoint costs (`k`, s) and
/// how long the run is (s); the largest interval when nothing fails. Source: Young, *A first order
/// approximation to the optimum checkpoint interval*, CACM 17 (1974).
pub fn young_daly(
    cost_s: f64,
    run_s: f64,
    failures: usize,
    bounds: IntervalBounds,
) -> CheckpointInterval {
    if failures == 0 {
        return bounds.max();
    }
    let best_s = (2.0 * cost_s * run_s / failures as f64).sqrt().round();
    let held_s = best_s.clamp(bounds.min().seconds(), bounds.max().seconds());
    CheckpointInterval::from_secs(held_s as u32).expect("held between two intervals")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn young_daly_by_hand() {
        let secs = |seconds| CheckpointInterval::from_secs(seconds).unwrap();
        let bounds = IntervalBounds::new(secs(10), secs(120)).unwrap();
        let of = |cost_s, failures| young_daly(cost_s, 85_620.0, failures, bounds).secs();
        // 2·0.815·85,620/12 = 11,630: its root is 107.8.
        assert_eq!(of(0.815, 12), 108);
        // 2·0.5·85,620/600 = 142.7: 11.9.
        assert_eq!(of(0.5, 600), 12);
        // Held in the bounds: 5.3 s; 374 s; what costs nothing; what never fails.
        assert_eq!(of(0.1, 600), 10);
        assert_eq!(of(0.815, 1), 120);
        assert_eq!(of(0.0, 12), 10);
        assert_eq!(of(0.815, 0), 120);
    }

    #[test]
    fn policies_are_printed_as_they_are_typed() {
        for text in ["static:30s", "young-daly", "paper", "khaos", "khaos:redeploy", "oracle"] {
            assert_eq!(text.parse::<Policy>().unwrap().to_string(), text);
        }
        for bad in ["static", "static:0s", "static:30", "static:1.5s", "best"] {
            assert!(bad.parse::<Policy>().unwrap_err().contains(bad), "{bad}");
        }
    }
}
