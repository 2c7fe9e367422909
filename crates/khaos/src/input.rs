//! What the user typed, read into what the program needs: every error names the file and the line.

use std::fmt::Display;
use std::fs::File;
use std::path::Path;

use khaos_core::profile::{Recovery, Trial};
use khaos_core::units::{CheckpointInterval, EventRate, Millis, Seconds};
use khaos_twin::{Workload, World};
use serde::Deserialize;
use thiserror::Error;

/// Something that the user typed, or a file that it names, is not usable: exit code 2.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct BadInput(pub String);

fn bad<T>(path: &Path, what: impl Display) -> Result<T, BadInput> {
    Err(BadInput(format!("{}: {what}", path.display())))
}

/// Reads a world.
pub fn world(path: &Path) -> Result<World, BadInput> {
    let text = std::fs::read_to_string(path)
        .or_else(|error| bad(path, format!("{error}; a world is a TOML file")))?;
    World::parse(&text).or_else(|error| bad(path, error))
}

#[derive(Deserialize)]
struct WorkloadRow {
    second: f64,
    events_per_second: f64,
}

/// Reads a workload: columns `second,events_per_second`, one row a minute.
pub fn workload(path: &Path) -> Result<Workload, BadInput> {
    let rows: Vec<WorkloadRow> = rows(path, "second,events_per_second")?;
    for (row, i) in rows.iter().zip(0_u32..) {
        let expected = rows[0].second + 60.0 * f64::from(i);
        let close = (row.second - expected).abs() <= 1e-6;
        if !close {
            let second = row.second;
            let line = line(i as usize);
            let what =
                format!("line {line}: second {second} should be {expected}, one row a minute");
            return bad(path, what);
        }
    }
    Workload::new(rows.iter().map(|row| row.events_per_second).collect())
        .or_else(|error| bad(path, error))
}

/// Reads rates that hold from row to row: columns `second,events_per_second`, as far apart as one likes.
pub fn steps(path: &Path) -> Result<Vec<(f64, f64)>, BadInput> {
    let rows: Vec<WorkloadRow> = rows(path, "second,events_per_second")?;
    Ok(rows.iter().map(|row| (row.second, row.events_per_second)).collect())
}

#[derive(Deserialize)]
struct ProfileRow {
    checkpoint_interval_s: u32,
    throughput_eps: f64,
    latency_p99_ms: Option<f64>,
    recovery_s: String,
}

/// Reads recorded trials: columns `checkpoint_interval_s,throughput_eps,latency_p99_ms,recovery_s`. A
/// latency that was not measured is left empty; a recovery that was not over when the watch ended is
/// written with the time watched, as in `>1800`. A trial's index is its row, from 0.
pub fn profile(path: &Path) -> Result<Vec<Trial>, BadInput> {
    let columns = "checkpoint_interval_s,throughput_eps,latency_p99_ms,recovery_s";
    let rows: Vec<ProfileRow> = rows(path, columns)?;
    let trial = |(i, row): (usize, &ProfileRow)| {
        let wrong = |what: &dyn Display| bad(path, format!("line {}: {what}", line(i)));
        trial(i as u32, row).or_else(|what| wrong(&what))
    };
    rows.iter().enumerate().map(trial).collect()
}

fn trial(index: u32, row: &ProfileRow) -> Result<Trial, String> {
    let text = row.recovery_s.trim();
    let (seconds, over) = match text.strip_prefix('>') {
        Some(seconds) => (seconds, false),
        None => (text, true),
    };
    let seconds = seconds.trim().parse().map_err(|_| {
        format!("recovery_s '{text}': give seconds, or >SECONDS where it was not over by then")
    })?;
    let positive = Some(seconds).filter(|s| *s > 0.0).ok_or("recovery_s must be more than 0")?;
    let seconds = Seconds::new(positive).map_err(|e| format!("recovery_s: {e}"))?;
    let recovery = if over { Recovery::Measured(seconds) } else { Recovery::Censored(seconds) };
    let interval = CheckpointInterval::from_secs(row.checkpoint_interval_s)
        .map_err(|e| format!("checkpoint_interval_s: {e}"))?;
    let load = EventRate::new(row.throughput_eps).map_err(|e| format!("throughput_eps: {e}"))?;
    let latency = row.latency_p99_ms.map(Millis::new).transpose();
    let latency = latency.map_err(|e| format!("latency_p99_ms: {e}"))?;
    Ok(Trial { latency, ..Trial::of_recovery(index, interval, load, recovery) })
}

#[derive(Deserialize)]
struct FailureRow {
    second: f64,
}

/// Failures that are closer cannot be told apart, s: each needs a baseline of its own.
const APART_S: f64 = 300.0;

/// Reads the seconds at which failures strike: column `second`, within `0..length_s`.
pub fn failures(path: &Path, length_s: f64) -> Result<Vec<f64>, BadInput> {
    let rows: Vec<FailureRow> = rows(path, "second")?;
    let mut seconds: Vec<f64> = rows.iter().map(|row| row.second).collect();
    if let Some(i) = seconds.iter().position(|second| !(0.0..length_s).contains(second)) {
        let (line, second) = (line(i), seconds[i]);
        let what =
            format!("line {line}: second {second} is not within the workload's {length_s} s");
        return bad(path, what);
    }
    seconds.sort_by(f64::total_cmp);
    match seconds.windows(2).find(|pair| pair[1] - pair[0] < APART_S) {
        Some(pair) => {
            let [one, other] = [pair[0], pair[1]];
            bad(path, format!("failures at {one} s and {other} s: keep them {APART_S} s apart"))
        }
        None => Ok(seconds),
    }
}

/// The line that row `i` stands on: line 1 is the header.
fn line(i: usize) -> usize {
    i + 2
}

fn rows<T: for<'de> Deserialize<'de>>(path: &Path, columns: &str) -> Result<Vec<T>, BadInput> {
    let file = File::open(path).or_else(|error| bad(path, error))?;
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(file);
    let rows: Vec<T> = reader
        .deserialize()
        .collect::<Result<_, csv::Error>>()
        .or_else(|error| bad(path, format!("{error}; the columns are {columns}")))?;
    if rows.is_empty() {
        return bad(path, format!("there are no rows below the header {columns}"));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T>(text: &str, read: impl Fn(&Path) -> Result<T, BadInput>) -> Result<T, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("input");
        std::fs::write(&path, text).unwrap();
        read(&path)
            .map_err(|error| error.to_string().replace(&dir.path().display().to_string(), ""))
    }

    fn refused<T>(text: &str, reader: impl Fn(&Path) -> Result<T, BadInput>) -> String {
        match read(text, reader) {
            Ok(_) => panic!("this must be refused: {text}"),
            Err(message) => message,
        }
    }

    #[test]
    fn a_workload_is_read() {
        let text = "second,events_per_second\n0,100.5\n60, 200\n";
        assert_eq!(read(text, workload).unwrap().per_minute(), [100.5, 200.0]);
    }

    #[test]
    fn a_profile_is_read() {
        let header = "checkpoint_interval_s,throughput_eps,latency_p99_ms,recovery_s";
        let trials = read(&format!("{header}\n10,100.5,40,97\n30,0,, > 1800\n"), profile).unwrap();
        assert_eq!(trials[0].recovery, Recovery::Measured(Seconds::new(97.0).unwrap()));
        assert_eq!(trials[0].latency, Some(Millis::new(40.0).unwrap()));
        assert_eq!(trials[1].recovery, Recovery::Censored(Seconds::new(1_800.0).unwrap()));
        assert_eq!((trials[1].index, trials[1].latency), (1, None));
        for (row, says) in [
            ("10,100,40,soon", "line 3: recovery_s 'soon': give seconds, or >SECONDS"),
            ("10,100,40,", "line 3: recovery_s ''"),
            ("10,100,40,NaN", "line 3: recovery_s must be more than 0"),
            ("10,100,40,inf", "line 3: recovery_s: a length of time in s must be zero or more"),
            ("10,100,40,0", "line 3: recovery_s must be more than 0"),
            (
                "0,100,40,97",
                "line 3: checkpoint_interval_s: a checkpoint interval in s must be from",
            ),
            ("10,-1,40,97", "line 3: throughput_eps: a rate in events/s must be zero or more"),
            ("10,100,0,97", "line 3: latency_p99_ms: a latency in ms must be more than zero"),
            ("1.5,100,40,97", "line: 3"),
            ("10,100,40", "line: 3"),
        ] {
            let message = refused(&format!("{header}\n10,100.5,40,97\n{row}\n"), profile);
            assert!(message.starts_with("/input: ") && message.contains(says), "{message}");
        }
    }

    #[test]
    fn every_error_names_file_and_place() {
        let header = "second,events_per_second\n";
        for (text, says) in [
            ("", "/input: there are no rows below the header second,events_per_second"),
            ("a,b\n1,2\n", "missing field `second`"),
            ("second,events_per_second\n0,many\n", "line: 2"),
            ("second,events_per_second\n0,1\n90,1\n", "/input: line 3: second 90 should be 60"),
            ("second,events_per_second\n0,1\n60,-1\n", "minute 1 has a rate of -1 events/s"),
            ("second,events_per_second\nNaN,1\n", "/input: line 2: second NaN"),
            ("second,events_per_second\n0,NaN\n", "minute 0 has a rate of NaN events/s"),
        ] {
            let message = refused(text, workload);
            assert!(message.contains(says), "{message}");
            assert!(message.starts_with("/input: "), "{message}");
        }
        assert!(refused(&format!("{header}0,1\n"), world).starts_with("/input: TOML parse error"));
        let late = refused("second\n10\n7000\n", |path| failures(path, 6_000.0));
        assert_eq!(late, "/input: line 3: second 7000 is not within the workload's 6000 s");
        let close = refused("second\n10\n200\n", |path| failures(path, 6_000.0));
        assert_eq!(close, "/input: failures at 10 s and 200 s: keep them 300 s apart");
        let none = workload(Path::new("nowhere.csv")).unwrap_err().to_string();
        assert!(none.starts_with("nowhere.csv: "), "{none}");
    }
}
