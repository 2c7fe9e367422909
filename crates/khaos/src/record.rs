//! `khaos record`: a live topic to disk.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use indicatif::ProgressBar;
use khaos_adapters::kafka::record::{Ended, From, Progress, RecordConfig, Recorded, Recorder};
use khaos_adapters::recording::Stores;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::clock;
use crate::duration::wait;
use crate::input::BadInput;
use crate::kafka::{KafkaArgs, moment};
use crate::output::say;

/// A live topic to disk.
#[derive(Debug, Args)]
pub struct RecordArgs {
    #[command(flatten)]
    kafka: KafkaArgs,
    /// The topic.
    #[arg(long)]
    topic: String,
    /// Folder of the recording: a new one, or one in which the same topic was recorded before, which is
    /// then continued where it ended.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How long; until Ctrl-C or SIGTERM when not given.
    #[arg(long = "for", value_name = "TIME", value_parser = wait)]
    length: Option<Duration>,
    /// Where a new recording begins: beginning (of what the broker still has), end (what comes from now
    /// on), or a time: 2026-11-25T07:00:00Z, or milliseconds since 1970.
    #[arg(long, default_value = "end", value_parser = from)]
    from: From,
    /// The most that the recording may take on disk, as in 500MB or 10GiB: it ends in good order before
    /// that would be more.
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    max_bytes: Option<u64>,
    /// Only how long the log is, every second: the broker's retention is the store.
    #[arg(long)]
    offsets_only: bool,
    /// Consumer group whose committed offsets show how far the recording is; khaos-record-TOPIC when not
    /// given. Nobody may be a member of it.
    #[arg(long)]
    group: Option<String>,
    /// How long all brokers may be away before that ends the recording.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = wait)]
    patience: Duration,
    /// One JSON document on standard output, at the end.
    #[arg(long)]
    json: bool,
}

/// Less is no recording.
const LEAST_BYTES: u64 = 1_000_000;

impl RecordArgs {
    /// Records until it is done, told to stop, or cannot go on.
    pub fn run(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let settings = self.kafka.settings()?;
        let clock = runtime.block_on(async { clock::anchored() });
        let recorder = Recorder::begin(&settings, self.config(), clock).map_err(|error| {
            let usage = error.is_of_usage();
            if usage { BadInput(error.to_string()).into() } else { anyhow::Error::from(error) }
        })?;
        self.greet(&recorder)?;

        // Before anything is recorded: from then on it ends in good order.
        let _entered = runtime.enter();
        let mut interrupted = signal(SignalKind::interrupt()).context("signals")?;
        let mut asked_to_end = signal(SignalKind::terminate()).context("signals")?;
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, mut done) = oneshot::channel::<()>();
        let worker = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let line = Line::new();
                let ended = recorder.run(&stop, |progress| line.show(progress));
                drop(tell);
                ended
            }
        });
        runtime.block_on(async {
            tokio::select! {
                _ = interrupted.recv() => {}
                _ = asked_to_end.recv() => {}
                _ = &mut done => {}
            }
        });
        stop.store(true, Ordering::Relaxed);
        let (recorded, result) = worker.join().map_err(|_| anyhow!("the recorder panicked"))?;
        self.conclude(&recorded, result.err().map(anyhow::Error::from))
    }

    fn config(&self) -> RecordConfig {
        let group = self.group.clone().unwrap_or_else(|| format!("khaos-record-{}", self.topic));
        RecordConfig {
            topic: self.topic.clone(),
            folder: self.out.clone(),
            stores: if self.offsets_only { Stores::Offsets } else { Stores::Events },
            group,
            from: self.from,
            length: self.length,
            max_bytes: self.max_bytes,
            patience: self.patience,
        }
    }

    fn greet(&self, recorder: &Recorder) -> anyhow::Result<()> {
        if self.json {
            return Ok(());
        }
        let (topic, out) = (&self.topic, self.out.display());
        let what = if self.offsets_only { "offsets of topic" } else { "topic" };
        let how = if recorder.resumed() { "goes on where it ended" } else { "begins" };
        let end = match self.length {
            Some(length) => format!("for {} s", length.as_secs_f64()),
            None => "until Ctrl-C".to_owned(),
        };
        if let Some(cut) = recorder.cut() {
            say(&format!("{cut}: they are cut, and what was in them is read again."))?;
        }
        say(&format!("The recording of {what} '{topic}' in {out} {how}, {end}."))
    }

    fn conclude(&self, recorded: &Recorded, error: Option<anyhow::Error>) -> anyhow::Result<()> {
        if self.json {
            let mut document = serde_json::to_value(recorded)?;
            document["error"] = json!(error.as_ref().map(|error| format!("{error:#}")));
            document["lost_at_most"] = json!(recorded.lost());
            say(&format!("{document:#}"))?;
        } else {
            say(&in_words(recorded))?;
        }
        error.map_or(Ok(()), Err)
    }
}

/// What became of a recording, for people.
fn in_words(recorded: &Recorded) -> String {
    let mut text = match recorded.ended {
        Ended::Told => "Told to stop.",
        Ended::Time => "The time is up.",
        Ended::Budget => "What comes next would be more than --max-bytes.",
        Ended::Failed => "It could not go on; what was read before is kept.",
    }
    .to_owned();
    let (out, took_s) = (recorded.folder.display(), recorded.took_s);
    let unread = recorded.unread.as_deref().unwrap_or_default();
    let _ = match (recorded.events, recorded.events_total, recorded.bytes) {
        (Some(events), Some(events_total), Some(bytes)) => write!(
            text,
            "\n{events} events in {took_s:.1} s. {out} holds {events_total} events in {} now.",
            size(bytes)
        ),
        _ => write!(text, "\nAfter {took_s:.1} s, what {out} holds cannot be read: {unread}."),
    };
    if !recorded.gaps.is_empty() {
        let _ = write!(
            text,
            "\nRetention deleted up to {} offsets before they were recorded (gaps: {}).",
            recorded.lost(),
            recorded.gaps.len()
        );
    }
    if let Some(why) = &recorded.uncommitted {
        let _ = write!(
            text,
            "\nNot all of that is committed, which matters to nobody but lookers-on: {why}."
        );
    }
    text
}

/// A line that tells how far it is, where somebody watches.
struct Line(Option<ProgressBar>);

impl Line {
    fn new() -> Self {
        Self(std::io::stderr().is_terminal().then(ProgressBar::new_spinner))
    }

    fn show(&self, progress: &Progress) {
        let Some(line) = &self.0 else { return };
        let Progress { events, behind, .. } = progress;
        let away = progress.away.as_ref().map_or_else(String::new, |(time, why)| {
            format!("; no broker answers for {} s: {why}", time.as_secs())
        });
        line.set_message(format!(
            "{events} events, {} on disk, {behind} behind{away}",
            size(progress.bytes)
        ));
        line.tick();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(line) = &self.0 {
            line.finish_and_clear();
        }
    }
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    match bytes {
        0.0..1e3 => format!("{bytes} B"),
        1e3..1e6 => format!("{:.1} kB", bytes / 1e3),
        1e6..1e9 => format!("{:.1} MB", bytes / 1e6),
        _ => format!("{:.2} GB", bytes / 1e9),
    }
}

/// Reads where a recording begins.
fn from(text: &str) -> Result<From, String> {
    match text {
        "beginning" => Ok(From::Beginning),
        "end" => Ok(From::End),
        text => moment(text).map(From::At).map_err(|error| format!("{error}, beginning, or end")),
    }
}

/// Reads a size on disk, bytes.
fn bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 7] = [
        ("KiB", 1_024.0),
        ("MiB", 1_048_576.0),
        ("GiB", 1_073_741_824.0),
        ("kB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("TB", 1e12),
    ];
    let with_unit = UNITS.iter().find_map(|(unit, bytes)| {
        let number: f64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
        (number.is_finite() && number > 0.0).then_some((number * bytes) as u64)
    });
    let bytes = with_unit
        .or_else(|| text.parse().ok())
        .ok_or_else(|| format!("'{text}' is no size: use for example 500MB, 10GiB, or bytes"))?;
    if bytes < LEAST_BYTES {
        return Err(format!("'{text}' is too little for a recording: give at least 1MB"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use khaos_adapters::kafka::Offsets;

    use super::*;

    #[test]
    fn sizes_and_beginnings_are_read() {
        for (text, read) in [
            ("1000000", 1_000_000),
            ("500MB", 500_000_000),
            ("1.5 GB", 1_500_000_000),
            ("10GiB", 10_737_418_240),
        ] {
            assert_eq!(bytes(text), Ok(read), "{text}");
        }
        for text in ["", "MB", "-1GB", "10", "1kB", "NaNGB", "10 apples"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        assert_eq!(from("beginning"), Ok(From::Beginning));
        assert_eq!(from("end"), Ok(From::End));
        assert_eq!(from("1970-01-01T00:00:01Z"), Ok(From::At(1_000)));
        assert!(from("yesterday").unwrap_err().ends_with("beginning, or end"));
        assert_eq!(size(999), "999 B");
        assert_eq!(size(1_234_567), "1.2 MB");
        assert_eq!(size(12_345_678_900), "12.35 GB");
    }

    #[test]
    fn a_recording_that_cannot_be_read_has_no_figures() {
        let mut recorded = Recorded {
            topic: "clicks".to_owned(),
            folder: "clicks-monday".into(),
            group: None,
            ended: Ended::Failed,
            events: None,
            events_total: None,
            bytes: None,
            unread: Some("clicks-monday: no such device".to_owned()),
            took_s: 12.0,
            next_offsets: None,
            committed: Offsets::new(),
            uncommitted: None,
            gaps: Vec::new(),
            cut: None,
        };
        let text = in_words(&recorded);
        assert!(
            text.contains("clicks-monday holds cannot be read: clicks-monday: no such"),
            "{text}"
        );
        assert!(!text.contains("0 B"), "{text}");
        (recorded.events, recorded.events_total, recorded.bytes) = (Some(2), Some(5), Some(1_500));
        let text = in_words(&recorded);
        assert!(text.contains("2 events in 12.0 s"), "{text}");
        assert!(text.contains("5 events in 1.5 kB"), "{text}");
    }
}
