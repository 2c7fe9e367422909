//! `khaos recording`: what is in a recording, whether it is as it was written, and its rates for others.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use khaos_adapters::recording::{
    Cut, PartitionSummary, Recording, RecordingError, Stores, Summary, TimestampKind, Verified,
};
use khaos_core::units::Seconds;
use serde_json::{Value, json};

use crate::duration::seconds;
use crate::input::BadInput;
use crate::kafka::moment;
use crate::output::{keep, say};
use crate::progress::progress;
use crate::table::table;

/// Rows that a file of rates may have: two months of seconds.
const MOST_ROWS: i64 = 5_000_000;

/// What can be asked of a recording.
#[derive(Debug, Subcommand)]
pub enum RecordingCommand {
    /// What is in it, by its indexes alone.
    Show(ShowArgs),
    /// Is it as it was written? Reads everything. Exit code 1 where something is damaged.
    Verify(ShowArgs),
    /// Its rates, as the workload that khaos simulate, khaos forecast and khaos replay read.
    Export(ExportArgs),
}

/// Which recording.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The folder of the recording.
    dir: PathBuf,
    /// One JSON document on standard output.
    #[arg(long)]
    json: bool,
}

/// What is exported, and where to.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The folder of the recording.
    dir: PathBuf,
    /// The file: CSV with second,events_per_second, second 0 being the first of the recording.
    #[arg(long, value_name = "FILE")]
    rates: PathBuf,
    /// A row for so many whole seconds. khaos simulate and khaos forecast read minutes, khaos replay any.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = seconds)]
    every: Seconds,
    /// Only from this moment on: UTC as in 2026-11-25T07:00:00Z, or milliseconds since 1970. What was not
    /// recorded has no rows.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<i64>,
    /// Only before this moment.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<i64>,
}

impl RecordingCommand {
    /// Does what was asked.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Show(args) => args.show().map(|()| ExitCode::SUCCESS),
            Self::Verify(args) => args.verify(),
            Self::Export(args) => args.export().map(|()| ExitCode::SUCCESS),
        }
    }
}

/// Opens a recording. That there is none is the user's, that it is damaged is not.
fn open(dir: &Path) -> anyhow::Result<Recording> {
    Recording::open(dir).map_err(|error| match error {
        RecordingError::NoRecording { .. } | RecordingError::Newer { .. } => {
            BadInput(error.to_string()).into()
        }
        error => error.into(),
    })
}

impl ShowArgs {
    fn show(self) -> anyhow::Result<()> {
        let recording = open(&self.dir)?;
        let (summary, is_written) = (recording.summary(), recording.is_written()?);
        if self.json {
            return say(&format!("{:#}", document(&recording, &summary, is_written)));
        }
        say(&headline(&recording, &summary))?;
        if !summary.partitions.is_empty() {
            let mut rows = table(&["partition", "first offset", "next offset", "events"]);
            for (partition, of) in &summary.partitions {
                let figures = [of.first_offset, of.next_offset].map(|offset| offset.to_string());
                let [first, next] = figures;
                rows.add_row([partition.to_string(), first, next, of.events.to_string()]);
            }
            say(&format!("\n{rows}"))?;
        }
        match torn(summary.torn.as_ref(), is_written) {
            Some(torn) => say(&format!("\n{torn}")),
            None => Ok(()),
        }
    }

    fn verify(self) -> anyhow::Result<ExitCode> {
        let recording = open(&self.dir);
        let verified = recording.and_then(|recording| {
            let bar = progress(recording.summary().bytes, "bytes");
            let verified = recording.verify(|bytes| bar.inc(bytes));
            bar.finish_and_clear();
            Ok((verified?, recording.is_written()?))
        });
        if self.json && !verified.as_ref().is_err_and(anyhow::Error::is::<BadInput>) {
            say(&format!("{:#}", verdict(&verified)))?;
            return Ok(if verified.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        let (Verified { events, bytes, torn: cut }, is_written) = verified?;
        say(&format!("Sound: {events} events in {bytes} bytes are as they were written."))?;
        if let Some(torn) = torn(cut.as_ref(), is_written) {
            say(&torn)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl ExportArgs {
    fn export(self) -> anyhow::Result<()> {
        let recording = open(&self.dir)?;
        let every = self.whole_seconds()?;
        let (first, last) = self.span(&recording)?;
        let rows = (last + 1 - first) / every;
        let dir = self.dir.display();
        if rows < 1 {
            return Err(BadInput(format!(
                "{dir}: {} s are less than one row of {every} s: give a shorter --every",
                last + 1 - first
            ))
            .into());
        }
        if rows > MOST_ROWS {
            return Err(BadInput(format!(
                "{dir}: its timestamps reach from {} to {}, {rows} rows of {every} s: give a longer \
                 --every, or --from and --to where some are out of place",
                utc(first.saturating_mul(1_000)),
                utc(last.saturating_mul(1_000))
            ))
            .into());
        }
        let mut counts = vec![0_u64; rows as usize];
        for (second, events) in recording.rates()? {
            let row = (second - first).div_euclid(every);
            if let Some(count) = usize::try_from(row).ok().and_then(|row| counts.get_mut(row)) {
                *count += events;
            }
        }
        let mut text = "second,events_per_second\n".to_owned();
        for (row, count) in (0..).zip(&counts) {
            let _ = writeln!(text, "{},{}", row * every, *count as f64 / every as f64);
        }
        let path = write(&self.rates, &text)?;
        let begins = utc(first.saturating_mul(1_000));
        say(&format!("{}: {rows} rows of {every} s; second 0 is {begins}.", path.display()))
    }

    fn whole_seconds(&self) -> Result<i64, BadInput> {
        let every = self.every.get();
        if every < 1.0 || every.fract() > 0.0 {
            return Err(BadInput(format!("--every: {every} s are no whole seconds")));
        }
        Ok(every as i64)
    }

    /// The first and the last second: of what is asked for, as far as it was recorded. Of what was not recorded
    /// nobody knows that nothing arrived.
    fn span(&self, recording: &Recording) -> Result<(i64, i64), BadInput> {
        let dir = self.dir.display();
        let Some((first_ms, last_ms)) = recording.summary().span_ms else {
            return Err(BadInput(format!("{dir}: the recording is empty")));
        };
        let from_ms = self.from.unwrap_or(first_ms);
        let to_ms = self.to.unwrap_or(last_ms.saturating_add(1));
        if from_ms.max(first_ms) >= to_ms.min(last_ms.saturating_add(1)) {
            return Err(BadInput(format!(
                "{dir}: nothing is between --from and --to, it reaches from {} to {}",
                utc(first_ms),
                utc(last_ms)
            )));
        }
        let second = |ms: i64| ms.div_euclid(1_000);
        let (begins, ends) = (second(first_ms), second(last_ms));
        let (from, to) = (second(from_ms), second(to_ms - 1));
        if from < begins {
            let at = utc(first_ms);
            tracing::warn!(
                "{dir}: --from is before the recording, the rows begin with it, at {at}"
            );
        }
        if to > ends {
            let at = utc(last_ms);
            tracing::warn!("{dir}: --to is behind the recording, the rows end with it, at {at}");
        }
        Ok((from.max(begins), to.min(ends)))
    }
}

fn write(file: &Path, text: &str) -> anyhow::Result<PathBuf> {
    let name = file.file_name().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("--rates {}: name a file", file.display()))?;
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    keep(dir, name, text)
}

fn headline(recording: &Recording, summary: &Summary) -> String {
    let manifest = recording.manifest();
    let (topic, partitions) = (&manifest.topic, manifest.partitions);
    let stores = match (manifest.stores, manifest.timestamps) {
        (Stores::Events, TimestampKind::Create) => "events, timestamps by the producers",
        (Stores::Events, TimestampKind::LogAppend) => "events, timestamps by the broker",
        (Stores::Offsets, _) => "offsets only, timestamps by the recorder",
    };
    let Summary { events, bytes, .. } = summary;
    let span = summary.span_ms.map_or_else(String::new, |(first_ms, last_ms)| {
        let length_s = (last_ms as f64 - first_ms as f64) / 1_000.0;
        let rate = if length_s > 0.0 {
            format!(", {:.1} events/s", *events as f64 / length_s)
        } else {
            String::new()
        };
        format!("\n{} to {}: {length_s:.1} s{rate}", utc(first_ms), utc(last_ms))
    });
    format!(
        "Topic {topic}, {partitions} partitions when the recording began; {stores}\n\
         {events} events in {bytes} bytes{span}"
    )
}

fn torn(torn: Option<&Cut>, is_written: bool) -> Option<String> {
    match (torn, is_written) {
        (_, true) => Some("Somebody is recording into it now.".to_owned()),
        (None, false) => None,
        (Some(cut), false) => Some(format!(
            "A torn tail: {cut}. A crash while it was written leaves that, or a copy that was cut \
             short; going on with the recording cuts it."
        )),
    }
}

fn document(recording: &Recording, summary: &Summary, is_written: bool) -> Value {
    let manifest = recording.manifest();
    let partition = |(partition, of): (&i32, &PartitionSummary)| {
        json!({
            "partition": partition,
            "first_offset": of.first_offset,
            "next_offset": of.next_offset,
            "events": of.events,
        })
    };
    json!({
        "topic": manifest.topic,
        "timestamps": manifest.timestamps,
        "stores": manifest.stores,
        "events": summary.events,
        "bytes": summary.bytes,
        "first_ms": summary.span_ms.map(|(first_ms, _)| first_ms),
        "last_ms": summary.span_ms.map(|(_, last_ms)| last_ms),
        "topic_partitions": manifest.partitions,
        "partitions": summary.partitions.iter().map(partition).collect::<Vec<_>>(),
        "torn": cut_document(summary.torn.as_ref()),
        "is_written": is_written,
    })
}

fn verdict(verified: &anyhow::Result<(Verified, bool)>) -> Value {
    match verified {
        Ok((verified, is_written)) => json!({
            "verdict": if verified.torn.is_some() && !is_written { "cut" } else { "sound" },
            "events": verified.events,
            "bytes": verified.bytes,
            "torn": cut_document(verified.torn.as_ref()),
            "is_written": is_written,
            "error": null,
        }),
        Err(error) => json!({ "verdict": "damaged", "error": format!("{error:#}") }),
    }
}

fn cut_document(cut: Option<&Cut>) -> Value {
    cut.map_or(
        Value::Null,
        |cut| json!({ "file": cut.file.display().to_string(), "at": cut.at, "bytes": cut.bytes }),
    )
}

/// A moment as people write it, to the second. Source: H. Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`.
pub(crate) fn utc(ms: i64) -> String {
    let seconds = ms.div_euclid(1_000);
    let (days, of_day) = (seconds.div_euclid(86_400) + 719_468, seconds.rem_euclid(86_400));
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against `date -u -d @…`.
    #[test]
    fn moments_are_written_as_they_are_read() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_868_799_999, "2000-02-29T23:59:59Z"),
            (1_795_590_000_000, "2026-11-25T07:00:00Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(ms), text);
        }
        assert_eq!(moment(&utc(1_795_590_000_000)), Ok(1_795_590_000_000));
    }
}
