//! What every command that speaks to Kafka can be told.

use std::path::PathBuf;

use clap::Args;
use khaos_adapters::kafka::KafkaSettings;

use crate::input::BadInput;

/// Where Kafka is, and how to speak to it.
#[derive(Debug, Clone, Args)]
pub struct KafkaArgs {
    /// Brokers to begin with, HOST:PORT, several separated by commas; the rest is learnt from them. Not
    /// needed where --kafka-config has bootstrap.servers.
    #[arg(long, value_name = "HOST:PORT,…", required_unless_present = "kafka_config")]
    bootstrap: Option<String>,
    /// Settings of the client: a file of key=value lines like Java's client.properties, with
    /// librdkafka's names. ${env:NAME} and ${file:PATH} in a value stand for what is there; no value is
    /// ever shown.
    #[arg(long, value_name = "FILE")]
    kafka_config: Option<PathBuf>,
}

impl KafkaArgs {
    /// The settings, read and checked as far as that can be done without asking anybody.
    pub fn settings(&self) -> Result<KafkaSettings, BadInput> {
        let bootstrap = self.bootstrap.as_deref();
        let settings = match &self.kafka_config {
            Some(file) => KafkaSettings::read(bootstrap, file)
                .map_err(|error| BadInput(format!("--kafka-config {error}")))?,
            // clap asks for one of the two.
            None => KafkaSettings::at(bootstrap.unwrap_or_default())
                .map_err(|error| BadInput(format!("--bootstrap: {}", error.why)))?,
        };
        Ok(settings)
    }
}

/// Reads a moment: `2026-11-25T07:00:00Z` (UTC; seconds may have a fraction), or milliseconds since
/// 1970. Epoch ms.
pub(crate) fn moment(text: &str) -> Result<i64, String> {
    text.parse().ok().filter(|ms| *ms >= 0).or_else(|| utc(text)).ok_or_else(|| {
        format!(
            "'{text}' is no moment: write UTC as in 2026-11-25T07:00:00Z, or milliseconds since \
                 1970"
        )
    })
}

fn utc(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let digits = !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit());
    let ms: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let february = if leap { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *lengths.get(usize::try_from(month - 1).ok()?)?;
    let exists = digits
        && year >= 1970
        && (1..=length).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    let leaps_before = |year: i64| (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    let months: i64 = lengths[..(month - 1) as usize].iter().sum();
    let days = (year - 1970) * 365 + leaps_before(year) - leaps_before(1970) + months + day - 1;
    exists.then_some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000 + ms)
}

/// Three numbers of so many digits.
fn numbers(text: &str, between: char, digits: [usize; 3]) -> Option<[i64; 3]> {
    let mut parts = text.split(between);
    let mut read = [0; 3];
    for (number, digits) in read.iter_mut().zip(digits) {
        let part = parts.next()?;
        let right = part.len() == digits && part.bytes().all(|b| b.is_ascii_digit());
        *number = if right { part.parse().ok()? } else { return None };
    }
    parts.next().is_none().then_some(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against `date -u -d … +%s`.
    #[test]
    fn moments_are_read() {
        for (text, ms) in [
            ("0", 0),
            ("1764054000123", 1_764_054_000_123),
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799_000),
            ("2026-11-25T07:00:00Z", 1_795_590_000_000),
            ("2026-11-25T07:00:00.25Z", 1_795_590_000_250),
            ("2100-03-01T00:00:00.123456Z", 4_107_542_400_123),
        ] {
            assert_eq!(moment(text), Ok(ms), "{text}");
        }
        for text in [
            "",
            "now",
            "-1",
            "2026-11-25",
            "2026-11-25T07:00:00",
            "2026-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-25T24:00:00Z",
            "2026-11-25T07:00:00.Z",
            "2026-11-25T07:00:00.xZ",
            "1969-12-31T23:59:59Z",
            "2026-11-25T7:00:00Z",
            "2026-00-10T00:00:00Z",
        ] {
            assert!(moment(text).is_err(), "{text}");
        }
    }
}
