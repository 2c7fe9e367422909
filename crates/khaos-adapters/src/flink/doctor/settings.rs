//! What Flink writes in words: configuration values, and how it restarts a job.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One of `GET /jobmanager/config`
#[derive(Debug, Deserialize)]
pub(super) struct Entry {
    key: String,
    value: String,
}

/// What the cluster was configured with; what is not in it is at its default.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings(BTreeMap<String, String>);

impl Settings {
    pub(super) fn of(entries: Vec<Entry>) -> Self {
        Self(entries.into_iter().map(|entry| (entry.key, entry.value)).collect())
    }

    /// The value of the first of `keys` that is set: later ones are what older versions call it.
    pub(super) fn get(&self, keys: &[&str]) -> Option<&str> {
        keys.iter().find_map(|key| self.0.get(*key)).map(String::as_str)
    }

    /// A length of time, s; `default` where it is not set, `None` where it cannot be read.
    pub(super) fn seconds(&self, keys: &[&str], default: f64) -> Option<f64> {
        self.get(keys).map_or(Some(default), seconds)
    }

    #[cfg(test)]
    pub(super) fn with(entries: &[(&str, &str)]) -> Self {
        Self(entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }
}

/// A length of time as Flink reads it (`10 s`, `10000`) or writes it (`PT1M`), in s.
pub(crate) fn seconds(text: &str) -> Option<f64> {
    let text = text.trim().to_ascii_lowercase();
    let (digits, mut text) = match text.strip_prefix("pt") {
        Some(rest) => (true, rest),
        None => (false, text.as_str()),
    };
    let mut total = None;
    while !text.is_empty() {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let number: f64 = text[..end].parse().ok()?;
        let rest = text[end..].trim_start();
        let end = rest.find(|c: char| !c.is_ascii_alphabetic() && c != 'µ').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" if !digits => 0.001,
            "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hour" | "hours" => 3_600.0,
            "d" | "day" | "days" => 86_400.0,
            _ => return None,
        };
        total = Some(total.unwrap_or(0.0) + number * unit);
        text = rest[end..].trim_start();
        // Only the ISO form has several parts.
        if !digits && !text.is_empty() {
            return None;
        }
    }
    total
}

/// How a job is restarted after a failure.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Strategy {
    /// Not at all.
    None,
    /// So often in its life, each after a delay, s.
    Fixed { attempts: u64, delay_s: f64 },
    /// Without limit, or so often in a row, after delays that grow, s.
    Exponential { first_s: f64, longest_s: f64, attempts: Option<u64> },
    /// As long as there are not more failures than that in an interval, s.
    FailureRate { failures: u64, interval_s: f64, delay_s: f64 },
    /// Nobody set one, and the job does not tell: Flink's default, which has no limit where
    /// checkpoints are on.
    Default,
}

/// What Flink 1.x says of a job whose restarts the cluster decides. It also says so of a job that
/// was submitted with restarts of its own.
const CLUSTER_LEVEL: &str = "Cluster level default";

/// Whether `told` of the job says nothing about it.
pub(super) fn is_cluster_level(told: &str) -> bool {
    told.starts_with(CLUSTER_LEVEL)
}

impl Strategy {
    /// As `GET /jobs/J/config` describes it; `None` where it is in other words than those known.
    pub(super) fn told(text: &str) -> Option<Self> {
        let between = |before: &str, after: &str| {
            let rest = text.split_once(before)?.1;
            Some(rest.split_once(after)?.0.trim())
        };
        if text.starts_with("Restart deactivated") {
            return Some(Self::None);
        }
        if text.starts_with("Restart with fixed delay") {
            return Some(Self::Fixed {
                attempts: between("#", " ")?.parse().ok()?,
                delay_s: seconds(between("(", ")")?)?,
            });
        }
        if text.starts_with("Restart with exponential delay") {
            let longest = between("maximum ", ".")?;
            return Some(Self::Exponential {
                first_s: seconds(between("starting at ", ",")?)?,
                longest_s: seconds(longest)?,
                attempts: None,
            });
        }
        if text.starts_with("Failure rate restart") {
            let delay = text.split_once("fixed delay ")?.1.trim_end_matches('.');
            return Some(Self::FailureRate {
                failures: between("maximum of ", " ")?.parse().ok()?,
                interval_s: seconds(between("interval ", " and")?)?,
                delay_s: seconds(delay)?,
            });
        }
        None
    }

    /// As the cluster is configured; `None` where that cannot be read.
    pub(super) fn configured(cluster: &Settings) -> Option<Self> {
        let Some(kind) = cluster.get(&["restart-strategy.type", "restart-strategy"]) else {
            return Some(Self::Default);
        };
        let number = |key: &str, default| cluster.get(&[key]).map_or(Some(default), whole);
        Some(match kind.trim().to_ascii_lowercase().as_str() {
            "none" | "off" | "disable" => Self::None,
            "fixed-delay" | "fixeddelay" => Self::Fixed {
                attempts: number("restart-strategy.fixed-delay.attempts", 1)?,
                delay_s: cluster.seconds(&["restart-strategy.fixed-delay.delay"], 1.0)?,
            },
            "exponential-delay" | "exponentialdelay" => {
                let key = |name| format!("restart-strategy.exponential-delay.{name}");
                let attempts = cluster.get(&[&key("attempts-before-reset-backoff")]);
                Self::Exponential {
                    first_s: cluster.seconds(&[&key("initial-backoff")], 1.0)?,
                    longest_s: cluster.seconds(&[&key("max-backoff")], 60.0)?,
                    attempts: attempts.and_then(whole).filter(|n| *n < UNLIMITED),
                }
            }
            "failure-rate" | "failurerate" => {
                let key = |name| format!("restart-strategy.failure-rate.{name}");
                Self::FailureRate {
                    failures: number(&key("max-failures-per-interval"), 1)?,
                    interval_s: cluster.seconds(&[&key("failure-rate-interval")], 60.0)?,
                    delay_s: cluster.seconds(&[&key("delay")], 1.0)?,
                }
            }
            _ => return None,
        })
    }

    /// Time from a failure that was noticed to the first restart, s.
    pub(super) fn delay_s(&self) -> f64 {
        match self {
            Self::None => 0.0,
            Self::Fixed { delay_s, .. } | Self::FailureRate { delay_s, .. } => *delay_s,
            Self::Exponential { first_s, .. } => *first_s,
            Self::Default => 1.0,
        }
    }

    /// The same when failures repeat.
    pub(super) fn longest_delay_s(&self) -> f64 {
        match self {
            Self::Exponential { longest_s, .. } => *longest_s,
            other => other.delay_s(),
        }
    }
}

fn whole(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// From here on a number of attempts is none: Flink's largest.
pub(super) const UNLIMITED: u64 = i32::MAX as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_as_flink_reads_and_writes_them() {
        for (text, expected) in [
            ("10000", Some(10.0)),
            ("10 s", Some(10.0)),
            ("500ms", Some(0.5)),
            ("10 min", Some(600.0)),
            ("1 h", Some(3_600.0)),
            ("PT1S", Some(1.0)),
            ("PT1M30S", Some(90.0)),
            ("PT0.5S", Some(0.5)),
            ("", None),
            ("soon", None),
            ("1 min 3 s", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    /// In the words of 2.3.0, and in those that older versions have for a fixed delay.
    #[test]
    fn restart_strategies_are_read_from_flinks_words() {
        let fixed = |attempts, delay_s| Some(Strategy::Fixed { attempts, delay_s });
        let unlimited = "Restart with fixed delay (PT1S). #2147483647 restart attempts.";
        assert_eq!(Strategy::told(unlimited), fixed(UNLIMITED, 1.0));
        let older = "Restart with fixed delay (10000 ms). #3 restart attempts.";
        assert_eq!(Strategy::told(older), fixed(3, 10.0));
        let exponential = "Restart with exponential delay: starting at PT1S, increasing by \
                           1.500000, with maximum PT1M. Delay resets after PT1H with jitter 0.1";
        let expected = Strategy::Exponential { first_s: 1.0, longest_s: 60.0, attempts: None };
        assert_eq!(Strategy::told(exponential), Some(expected));
        let rate = "Failure rate restart with maximum of 1 failures within interval PT1M and \
                    fixed delay PT1S.";
        let expected = Strategy::FailureRate { failures: 1, interval_s: 60.0, delay_s: 1.0 };
        assert_eq!(Strategy::told(rate), Some(expected));
        assert_eq!(Strategy::told("Restart deactivated."), Some(Strategy::None));
        assert_eq!(Strategy::told("Cluster level default restart strategy"), None);
        assert!(is_cluster_level("Cluster level default restart strategy"));
    }

    #[test]
    fn restart_strategies_are_read_from_configuration() {
        let read = |entries: &[(&str, &str)]| Strategy::configured(&Settings::with(entries));
        assert_eq!(read(&[]), Some(Strategy::Default));
        // By its old name, with Flink's default of one attempt.
        assert_eq!(
            read(&[("restart-strategy", "fixed-delay")]),
            Some(Strategy::Fixed { attempts: 1, delay_s: 1.0 })
        );
        assert_eq!(
            read(&[
                ("restart-strategy.type", "failure-rate"),
                ("restart-strategy.failure-rate.max-failures-per-interval", "3"),
                ("restart-strategy.failure-rate.delay", "5 s"),
            ]),
            Some(Strategy::FailureRate { failures: 3, interval_s: 60.0, delay_s: 5.0 })
        );
        assert_eq!(read(&[("restart-strategy.type", "com.example.Mine")]), None);
    }
}
