//! What kind of job and cluster the twin plays.

use serde::Deserialize;
use thiserror::Error;

/// A job on a cluster, by its physics.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct World {
    /// What it is called.
    pub name: String,
    /// Events/s that it processes when nothing else takes capacity.
    pub capacity_eps: f64,
    /// Seconds of capacity that one checkpoint takes, spread over a while.
    pub checkpoint_cost_s: f64,
    /// From a crash until the engine notices, s.
    pub detect_s: f64,
    /// From a hang until the engine notices, s; 2.5 times `detect_s` when not given, the ratio of
    /// Flink's heartbeat timeout to its detection of a killed process.
    pub hang_detect_s: Option<f64>,
    /// From noticing until every vertex runs again, s.
    pub restart_s: f64,
    /// Total delay of the lag's reading, metric windows included, s.
    pub settle_s: f64,
    /// Stall of the job when its interval is changed by a redeploy, s.
    pub retune_stall_s: f64,
    /// Trigger → completed, s.
    #[serde(default)]
    pub checkpoint_duration_s: f64,
    /// Log-normal spread of detection and restart.
    #[serde(default)]
    pub dead_time_sigma: f64,
    /// Correlation of the latency's noise from minute to minute.
    #[serde(default = "usual_rho")]
    pub latency_rho_per_minute: f64,
    /// End-to-end p99 latency.
    pub latency: LatencyWorld,
    /// The metrics system.
    #[serde(default)]
    pub metrics: MetricsWorld,
}

/// `ln L = a + b·x + c·ln(CI/60) + d·x²` with `x = λ/load_max_eps`, times log-normal noise.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatencyWorld {
    /// Log of ms at no load and an interval of 60 s.
    pub a: f64,
    /// Slope over x.
    pub b: f64,
    /// Slope over ln(CI/60).
    pub c: f64,
    /// Slope over x².
    pub d: f64,
    /// Load at which x is 1, events/s.
    pub load_max_eps: f64,
    /// Log-normal spread.
    #[serde(default)]
    pub sigma: f64,
    /// Latency while and after catching up; that of the queue alone when not given.
    pub catch_up: Option<CatchUpWorld>,
}

/// A failure raises the latency to `level_ms` for `base_s + per_recovery_s · recovery`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatchUpWorld {
    /// Latency, ms.
    pub level_ms: f64,
    /// Part of its length that every failure has, s.
    pub base_s: f64,
    /// Part of its length per second of recovery.
    pub per_recovery_s: f64,
}

/// How the metrics system reads.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsWorld {
    /// Time between two scrapes, s.
    pub scrape_s: f64,
    /// Share of scrapes that are missed.
    pub missed: f64,
}

impl Default for MetricsWorld {
    fn default() -> Self {
        Self { scrape_s: 5.0, missed: 0.01 }
    }
}

fn usual_rho() -> f64 {
    0.97
}

/// What is wrong with a world.
#[derive(Debug, Error)]
pub enum InvalidWorld {
    /// It does not parse: unknown or missing keys, or no TOML at all.
    #[error("{0}")]
    Toml(#[from] toml::de::Error),
    /// A value is out of its range.
    #[error("{key} must be {range}, not {value}")]
    Value {
        /// Which.
        key: &'static str,
        /// What it has to be.
        range: &'static str,
        /// What it is.
        value: f64,
    },
}

/// What a value of a world may be. Beyond these nothing is a job on a cluster any more.
struct Range {
    words: &'static str,
    valid: fn(f64) -> bool,
}

const RATE: Range = Range { words: "more than 0, at most 1e12", valid: |v| v > 0.0 && v <= 1e12 };
const TIME: Range = Range { words: "from 0 to 86400", valid: |v| (0.0..=86_400.0).contains(&v) };
const SCRAPE: Range = Range { words: "from 1 to 3600", valid: |v| (1.0..=3_600.0).contains(&v) };
const SPREAD: Range = Range { words: "from 0 to 5", valid: |v| (0.0..=5.0).contains(&v) };
const SHARE: Range = Range { words: "at least 0 and below 1", valid: |v| (0.0..1.0).contains(&v) };
const EXPONENT: Range = Range { words: "from -50 to 50", valid: |v| v.abs() <= 50.0 };

impl World {
    /// Parses and validates a world.
    pub fn parse(text: &str) -> Result<Self, InvalidWorld> {
        let world: Self = toml::from_str(text)?;
        world.validate()?;
        Ok(world)
    }

    fn validate(&self) -> Result<(), InvalidWorld> {
        let check = |key, range: Range, value: f64| {
            if value.is_finite() && (range.valid)(value) {
                Ok(())
            } else {
                Err(InvalidWorld::Value { key, range: range.words, value })
            }
        };
        check("capacity_eps", RATE, self.capacity_eps)?;
        check("checkpoint_cost_s", TIME, self.checkpoint_cost_s)?;
        check("detect_s", TIME, self.detect_s)?;
        check("hang_detect_s", TIME, self.hang_detect_s.unwrap_or(0.0))?;
        check("restart_s", TIME, self.restart_s)?;
        check("settle_s", TIME, self.settle_s)?;
        check("retune_stall_s", TIME, self.retune_stall_s)?;
        check("checkpoint_duration_s", TIME, self.checkpoint_duration_s)?;
        check("dead_time_sigma", SPREAD, self.dead_time_sigma)?;
        check("latency_rho_per_minute", SHARE, self.latency_rho_per_minute)?;
        check("latency.a", EXPONENT, self.latency.a)?;
        check("latency.b", EXPONENT, self.latency.b)?;
        check("latency.c", EXPONENT, self.latency.c)?;
        check("latency.d", EXPONENT, self.latency.d)?;
        check("latency.load_max_eps", RATE, self.latency.load_max_eps)?;
        check("latency.sigma", SPREAD, self.latency.sigma)?;
        if let Some(catch_up) = &self.latency.catch_up {
            check("latency.catch_up.level_ms", RATE, catch_up.level_ms)?;
            check("latency.catch_up.base_s", TIME, catch_up.base_s)?;
            check("latency.catch_up.per_recovery_s", TIME, catch_up.per_recovery_s)?;
        }
        check("metrics.scrape_s", SCRAPE, self.metrics.scrape_s)?;
        check("metrics.missed", SHARE, self.metrics.missed)
    }

    /// From a hang until the engine notices, s.
    pub fn hang_detect_s(&self) -> f64 {
        self.hang_detect_s.unwrap_or(2.5 * self.detect_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "
name = \"plain\"
capacity_eps = 1000.0
checkpoint_cost_s = 0.5
detect_s = 8.0
restart_s = 8.0
settle_s = 20.0
retune_stall_s = 5.0
[latency]
a = 4.0
b = 0.4
c = -0.05
d = 0.5
load_max_eps = 800.0
";

    #[test]
    fn optional_keys_have_defaults() {
        let world = World::parse(PLAIN).unwrap();
        assert!(world.checkpoint_duration_s.abs() < 1e-12);
        assert!((world.hang_detect_s() - 20.0).abs() < 1e-12);
        assert!((world.metrics.scrape_s - 5.0).abs() < 1e-12);
    }

    #[test]
    fn errors_name_the_key_and_where_it_stands() {
        let unknown = World::parse(&format!("{PLAIN}sigmaa = 1.0\n")).unwrap_err().to_string();
        assert!(unknown.contains("sigmaa") && unknown.contains("line 15"), "{unknown}");
        let missing = World::parse("name = \"x\"").unwrap_err().to_string();
        assert!(missing.contains("capacity_eps"), "{missing}");
        let negative = World::parse(&PLAIN.replace("1000.0", "-1.0")).unwrap_err().to_string();
        assert_eq!(negative, "capacity_eps must be more than 0, at most 1e12, not -1");
        let nan = World::parse(&PLAIN.replace("a = 4.0", "a = nan")).unwrap_err().to_string();
        assert_eq!(nan, "latency.a must be from -50 to 50, not NaN");
    }
}
