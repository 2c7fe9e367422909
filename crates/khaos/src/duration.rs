//! Lengths of time as people write them: `500ms`, `30s`, `4m`.

use std::time::Duration;

use khaos_core::units::{CheckpointInterval, Millis, Seconds};

/// Reads a length of time, s, without a quantity.
pub(crate) fn duration(text: &str) -> Result<f64, String> {
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3_600.0)];
    units
        .iter()
        .find_map(|(unit, seconds)| {
            let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
            (number.is_finite() && number > 0.0).then_some(number * seconds)
        })
        .ok_or_else(|| format!("'{text}' is no length of time: use for example 500ms, 30s or 4m"))
}

/// Reads a length of time, s.
pub(crate) fn seconds(text: &str) -> Result<Seconds, String> {
    Seconds::new(duration(text)?).map_err(|error| error.to_string())
}

/// The longest time that is waited for: a hundred years.
const LONGEST: Duration = Duration::from_hours(876_600);

/// Reads a length of time that is waited for.
pub(crate) fn wait(text: &str) -> Result<Duration, String> {
    Duration::try_from_secs_f64(duration(text)?)
        .ok()
        .filter(|wait| *wait <= LONGEST)
        .ok_or_else(|| format!("'{text}' is too long: 876600h, a hundred years, is the most"))
}

/// Reads a length of time, ms.
pub(crate) fn millis(text: &str) -> Result<Millis, String> {
    Millis::new(duration(text)? * 1_000.0).map_err(|error| error.to_string())
}

/// Reads a checkpoint interval.
pub(crate) fn interval(text: &str) -> Result<CheckpointInterval, String> {
    let seconds = duration(text)?;
    if seconds.fract() > 1e-9 || seconds > f64::from(u32::MAX) {
        return Err(format!("'{text}' is no interval: intervals are whole seconds"));
    }
    CheckpointInterval::from_secs(seconds as u32).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_waited_for_that_no_clock_reaches() {
        assert_eq!(wait("1500ms"), Ok(Duration::from_millis(1_500)));
        assert_eq!(wait("876600h"), Ok(LONGEST));
        for text in ["876601h", "1e30s", "1e300h"] {
            let error = wait(text).unwrap_err();
            assert!(error.contains(text) && error.contains("too long"), "{error}");
        }
        assert!(wait("soon").unwrap_err().contains("use for example"));
    }
}
