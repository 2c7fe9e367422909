//! What the user typed, read into what the program needs: every error names the file and the line.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, bail};
use khaos_twin::{Workload, World};
use serde::Deserialize;

/// Reads a world.
pub fn world(path: &Path) -> anyhow::Result<World> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{}: the world cannot be read", path.display()))?;
    World::parse(&text).with_context(|| format!("{}: not a valid world", path.display()))
}

#[derive(Deserialize)]
struct WorkloadRow {
    second: f64,
    events_per_second: f64,
}

/// Reads a workload: columns `second,events_per_second`, one row a minute.
pub fn workload(path: &Path) -> anyhow::Result<Workload> {
    let rows: Vec<WorkloadRow> = rows(path, "second,events_per_second")?;
    for (i, row) in rows.iter().enumerate() {
        let expected = rows[0].second + 60.0 * i as f64;
        if (row.second - expected).abs() > 1e-6 {
            // Line 1 is the header.
            bail!(
                "{}, line {}: second {} should be {expected}: a workload has one row a minute",
                path.display(),
                i + 2,
                row.second
            );
        }
    }
    Workload::new(rows.iter().map(|row| row.events_per_second).collect())
        .with_context(|| format!("{}: not a valid workload", path.display()))
}

#[derive(Deserialize)]
struct FailureRow {
    second: f64,
}

/// Reads the seconds at which failures strike: column `second`, within `0..length_s`.
pub fn failures(path: &Path, length_s: f64) -> anyhow::Result<Vec<f64>> {
    let rows: Vec<FailureRow> = rows(path, "second")?;
    for (i, row) in rows.iter().enumerate() {
        if !(0.0..length_s).contains(&row.second) {
            bail!(
                "{}, line {}: second {} lies outside of the workload's {length_s} s",
                path.display(),
                i + 2,
                row.second
            );
        }
    }
    let mut seconds: Vec<f64> = rows.iter().map(|row| row.second).collect();
    seconds.sort_by(f64::total_cmp);
    Ok(seconds)
}

fn rows<T: for<'de> Deserialize<'de>>(path: &Path, columns: &str) -> anyhow::Result<Vec<T>> {
    let file = File::open(path).with_context(|| format!("{}: cannot be opened", path.display()))?;
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(file);
    let rows: Result<Vec<T>, csv::Error> = reader.deserialize().collect();
    let rows = rows.with_context(|| {
        format!("{}: cannot be read as CSV with the columns {columns}", path.display())
    })?;
    if rows.is_empty() {
        bail!("{}: there are no rows below the header {columns}", path.display());
    }
    Ok(rows)
}
