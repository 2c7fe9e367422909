//! Which Flinks the lab can start, and which Kafka.

use std::fmt;
use std::str::FromStr;

/// The Kafka that the lab starts: the newest that resolved when `lab/README.md` was measured.
pub const KAFKA_VERSION: &str = "4.3.0";
/// The log4j that this Kafka was released with.
pub(super) const KAFKA_LOG4J: &str = "2.25.3";

/// A Flink that the lab can start, with what belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlinkVersion {
    /// Flink's own version.
    pub flink: &'static str,
    /// The Prometheus reporter's: not every patch release of it can be resolved everywhere.
    pub reporter: &'static str,
    /// The log4j that this Flink was released with.
    pub log4j: &'static str,
}

/// Every version the lab can start, the default first: those that `lab/README.md` was measured on.
const VERSIONS: [FlinkVersion; 2] = [
    FlinkVersion { flink: "2.3.0", reporter: "2.3.0", log4j: "2.25.3" },
    FlinkVersion { flink: "1.20.5", reporter: "1.20.3", log4j: "2.24.3" },
];

impl Default for FlinkVersion {
    fn default() -> Self {
        VERSIONS[0]
    }
}

impl FromStr for FlinkVersion {
    type Err = String;

    /// Reads a version or the beginning of one: `2`, `1.20`, `2.3.0`.
    fn from_str(text: &str) -> Result<Self, String> {
        let begins = |version: &&FlinkVersion| {
            let rest = version.flink.strip_prefix(text);
            !text.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        VERSIONS.iter().find(begins).copied().ok_or_else(|| {
            let known = VERSIONS.map(|version| version.flink).join(" and ");
            format!("the lab does not know Flink '{text}': it knows {known}")
        })
    }
}

impl fmt::Display for FlinkVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.flink)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_version_is_enough() {
        let read = |text: &str| text.parse::<FlinkVersion>().map(|version| version.flink);
        for text in ["2", "2.3", "2.3.0"] {
            assert_eq!(read(text), Ok("2.3.0"), "{text}");
        }
        for text in ["1", "1.20", "1.20.5"] {
            assert_eq!(read(text), Ok("1.20.5"), "{text}");
        }
        for text in ["", "1.2", "2.3.", "2.3.0.1", "3", "two"] {
            let error = read(text).unwrap_err();
            assert!(error.contains("2.3.0 and 1.20.5"), "{error}");
        }
        assert_eq!(FlinkVersion::default().flink, "2.3.0");
    }
}
