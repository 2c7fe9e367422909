//! A time inside JSON values, moved: one number or string is replaced, and no other byte.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde_json::value::RawValue;
use thiserror::Error;

/// Which field of a value holds a time, and in what unit where it is a number: `a.b` or `a.b:UNIT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeField {
    /// Names from the outermost object inwards.
    path: Vec<String>,
    unit: Unit,
}

/// Of a time that is a number, since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Seconds,
    Millis,
    Micros,
}

/// A value has no such field, or it is no time.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the value has no number in its field {0}")]
pub struct Unshifted(TimeField);

impl FromStr for TimeField {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (path, unit) = match text.rsplit_once(':') {
            None => (text, Unit::Millis),
            Some((path, "s")) => (path, Unit::Seconds),
            Some((path, "ms")) => (path, Unit::Millis),
            Some((path, "us")) => (path, Unit::Micros),
            Some((_, unit)) => {
                return Err(format!("'{unit}' is no unit of a time: use s, ms or us"));
            }
        };
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            return Err(format!("'{text}' names no field: write for example event.time:ms"));
        }
        Ok(Self { path, unit })
    }
}

impl fmt::Display for TimeField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path.join("."))
    }
}

impl TimeField {
    /// Writes `value` into `moved`, which is emptied first, with this field `by_ms` later.
    pub fn shift(&self, value: &[u8], by_ms: i64, moved: &mut Vec<u8>) -> Result<(), Unshifted> {
        self.try_shift(value, by_ms, moved).ok_or_else(|| Unshifted(self.clone()))
    }

    fn try_shift(&self, value: &[u8], by_ms: i64, moved: &mut Vec<u8>) -> Option<()> {
        let value = std::str::from_utf8(value).ok()?;
        let mut found = value;
        for name in &self.path {
            let object: BTreeMap<String, &RawValue> = serde_json::from_str(found).ok()?;
            found = object.get(name)?.get();
        }
        let shifted = self.unit.shift(found, by_ms)?;
        // Raw values are slices of what they were read from.
        let from = found.as_ptr() as usize - value.as_ptr() as usize;
        moved.clear();
        moved.extend_from_slice(&value.as_bytes()[..from]);
        moved.extend_from_slice(shifted.as_bytes());
        moved.extend_from_slice(&value.as_bytes()[from + found.len()..]);
        Some(())
    }
}

impl Unit {
    /// What stands for the number `found` after `by_ms`; whole numbers stay whole.
    fn shift(self, found: &str, by_ms: i64) -> Option<String> {
        let per_s = match self {
            Self::Seconds => 1_i64,
            Self::Millis => 1_000,
            Self::Micros => 1_000_000,
        };
        if let Ok(whole) = found.parse::<i64>() {
            // To the nearest.
            let by = (i128::from(by_ms) * i128::from(per_s) + 500).div_euclid(1_000);
            return whole.checked_add(i64::try_from(by).ok()?).map(|moved| moved.to_string());
        }
        let number: f64 = serde_json::from_str(found).ok()?;
        Some((number + by_ms as f64 * per_s as f64 / 1_000.0).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shift(field: &str, value: &str, by_ms: i64) -> Result<String, String> {
        let mut moved = b"left over".to_vec();
        let field: TimeField = field.parse().unwrap();
        field.shift(value.as_bytes(), by_ms, &mut moved).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(moved).unwrap())
    }

    #[test]
    fn only_the_digits_of_the_field_change() {
        let value = "\t{ \"x\" : [1, {\"t\": 5}, \"}\\\"{\"], \"s\":{},\r\n\"t\" : 1700000000123 ,\"é\":1e3}\n";
        let moved = shift("t", value, 1_877).unwrap();
        assert_eq!(moved, value.replace("1700000000123", "1700000002000"));
    }

    #[test]
    fn a_field_inside_objects_is_found() {
        let value = r#"{"t":1,"a":{"t":2,"b":{"t":3}},"b":{"t":4}}"#;
        assert_eq!(shift("a.b.t", value, 10).unwrap(), value.replace(":3", ":13"));
        assert_eq!(shift("b.t", value, 10).unwrap(), value.replace(":4", ":14"));
        // A name that is written with an escape is the same name.
        assert_eq!(shift("tä", r#"{"\u0074\u00e4":1}"#, 1).unwrap(), r#"{"\u0074\u00e4":2}"#);
    }

    #[test]
    fn every_unit_is_moved_by_the_same_time() {
        for (field, before, after) in [
            ("t", "1700000000123", "1700000086523"),
            ("t:ms", "1700000000123.5", "1700000086523.5"),
            ("t:us", "1700000000123456", "1700000086523456"),
            ("t:s", "1700000000", "1700000086"),
            ("t:s", "1700000000.25", "1700000086.65"),
            ("t:ms", "1.7E12", "1700000086400"),
            ("t:s", "-100", "-14"),
        ] {
            let moved = shift(field, &format!("{{\"t\":{before}}}"), 86_400).unwrap();
            assert_eq!(moved, format!("{{\"t\":{after}}}"), "{field}");
        }
        // Where no digits are for it, to the nearest.
        assert_eq!(shift("t:s", "{\"t\":10}", 1_499).unwrap(), "{\"t\":11}");
        assert_eq!(shift("t:s", "{\"t\":10}", 1_500).unwrap(), "{\"t\":12}");
        assert_eq!(shift("t:s", "{\"t\":10}", -1_501).unwrap(), "{\"t\":8}");
    }

    #[test]
    fn what_cannot_be_moved_says_so() {
        for (field, value) in [
            ("t", ""),
            ("t", "[1]"),
            ("t", "\u{0}\u{0}\u{0}\u{0}\u{1}{\"t\":1}"),
            ("t", "{}"),
            ("a.t", r#"{"t":1}"#),
            ("a.t", r#"{"a":1}"#),
            ("t", r#"{"t":1"#),
            ("t", r#"{"t":null}"#),
            ("t", r#"{"t":"1700000000"}"#),
            ("t", r#"{"t":1e999}"#),
            ("t", r#"{"t":9223372036854775807}"#),
        ] {
            let expected = format!("the value has no number in its field {field}");
            assert_eq!(shift(field, value, 1).unwrap_err(), expected, "{value}");
        }
        let field: TimeField = "t".parse().unwrap();
        assert!(field.shift(b"{\"t\":1,\"x\":\"\xff\"}", 1, &mut Vec::new()).is_err());
    }

    #[test]
    fn a_field_is_named_with_its_unit() {
        for text in ["", ".", "a.", "a..b", ":ms", "a:h", "a:"] {
            assert!(text.parse::<TimeField>().is_err(), "{text}");
        }
        let field: TimeField = "a.b:s".parse().unwrap();
        assert_eq!((field.to_string().as_str(), field.unit), ("a.b", Unit::Seconds));
    }
}
