//! `khaos replay`: a stretch of a recording, or of a topic, once more, into another topic.

use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use khaos_adapters::kafka::KafkaSettings;
use khaos_adapters::kafka::pace::{Pace, Schedule, ScheduleError};
use khaos_adapters::kafka::replay::{Moment, Progress, Replay, ReplayConfig, Replayed, Source};
use khaos_adapters::kafka::shift::TimeField;
use serde_json::json;

use crate::clock;
use crate::duration::duration;
use crate::input::{self, BadInput};
use crate::kafka::{KafkaArgs, moment};
use crate::lab::asked_to_stop;
use crate::output::say;
use crate::progress::{hidden, progress};

/// What is replayed, where to, and how.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    kafka: KafkaArgs,
    /// What to replay: the folder of a recording. Of one with offsets only, the events come from the
    /// topic that was recorded.
    #[arg(long, value_name = "DIR", required_unless_present = "topic")]
    recording: Option<PathBuf>,
    /// What to replay: a topic, as far back as its retention reaches.
    #[arg(long, conflicts_with = "recording")]
    topic: Option<String>,
    /// The topic that the events go to, each into the partition that it came from.
    #[arg(long, value_name = "TOPIC")]
    into: String,
    /// Where to begin: a time as in 2026-11-25T07:00:00Z, milliseconds since 1970, or, in a recording,
    /// so long after its beginning, as in 90s. At the first event when not given.
    #[arg(long, value_name = "TIME", value_parser = moment_of)]
    from: Option<Moment>,
    /// Where to end, written the same way; that moment itself is left out.
    #[arg(long, value_name = "TIME", value_parser = moment_of)]
    to: Option<Moment>,
    /// How many times as fast as recorded.
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// As fast as Kafka takes it.
    #[arg(long, conflicts_with_all = ["speed", "schedule"])]
    full_speed: bool,
    /// At these rates instead: CSV with second,events_per_second; a rate holds until the next row, the last
    /// one as long as the one before it.
    #[arg(long, value_name = "FILE", conflicts_with = "speed")]
    schedule: Option<PathBuf>,
    /// Move the timestamps of the events: what is due now carries now.
    #[arg(long)]
    shift_time: bool,
    /// Move a number in JSON values by the same time: NAME, or NAME.NAME inside objects, milliseconds since
    /// 1970; NAME:s for seconds, NAME:us for microseconds.
    #[arg(long, value_name = "FIELD")]
    shift_field: Option<TimeField>,
    #[command(flatten)]
    sending: SendingArgs,
}

/// What is asked of sending at a pace, whatever is sent.
#[derive(Debug, Args)]
pub(crate) struct SendingArgs {
    /// How late events may be before the pace is spoilt and the sending ends.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = lateness)]
    pub(crate) max_late: Duration,
    /// How long Kafka may take to acknowledge an event, and so how long a broker may be away.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = patience)]
    pub(crate) patience: Duration,
    /// One JSON document on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Timestamps count in ms; no recording is longer, and no number that it is counted in overflows.
const LENGTHS: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_hours(100 * 365 * 24);
/// librdkafka counts an event's time in ms with 31 bits, and 0 of them are for ever.
const PATIENCE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24 * 24);
/// Slower is standing still.
const SLOWEST: f64 = 1e-6;

/// Reads a length of time that is not out of `range`.
fn length(text: &str, range: &RangeInclusive<Duration>) -> Result<Duration, String> {
    let read = Duration::try_from_secs_f64(duration(text)?).ok();
    read.filter(|length| range.contains(length)).ok_or_else(|| {
        let (least, most) = (range.start(), range.end().as_secs() / 3_600);
        format!("'{text}' is too short or too long: give at least {least:?} and at most {most}h")
    })
}

fn lateness(text: &str) -> Result<Duration, String> {
    length(text, &LENGTHS)
}

fn patience(text: &str) -> Result<Duration, String> {
    length(text, &PATIENCE)
}

fn moment_of(text: &str) -> Result<Moment, String> {
    if let Ok(at_ms) = moment(text) {
        return Ok(Moment::At(at_ms));
    }
    if duration(text).is_ok() {
        return length(text, &LENGTHS).map(Moment::After);
    }
    Err(format!(
        "'{text}' is no moment: write UTC as in 2026-11-25T07:00:00Z, milliseconds since 1970, or a \
         length of time after the beginning, as in 90s"
    ))
}

fn speed(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|speed: &f64| speed.is_finite() && *speed >= SLOWEST);
    number.ok_or_else(|| {
        format!("'{text}' is no speed: use for example 1, 10 or 0.5, and no less than {SLOWEST:?}")
    })
}

impl ReplayArgs {
    /// Replays: 0 when every event was acknowledged in time.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let settings = self.kafka.settings()?;
        let as_json = self.sending.json;
        send(&settings, self.config()?, as_json)
    }

    fn config(self) -> Result<ReplayConfig, BadInput> {
        let pace = match &self.schedule {
            Some(path) => {
                let schedule = Schedule::new(&input::steps(path)?);
                Pace::Scheduled(schedule.map_err(|why| wrong(path, &why))?)
            }
            None if self.full_speed => Pace::Full,
            None => Pace::Recorded { speed: self.speed },
        };
        Ok(ReplayConfig {
            source: match (self.recording, self.topic) {
                (Some(folder), _) => Source::Recording(folder),
                // clap asks for one of the two.
                (None, topic) => Source::Topic(topic.unwrap_or_default()),
            },
            from: self.from,
            to: self.to,
            into: self.into,
            pace,
            shift_time: self.shift_time,
            shift_field: self.shift_field,
            max_late: self.sending.max_late,
            patience: self.sending.patience,
        })
    }
}

/// The schedule in the file at `path` is none.
pub(crate) fn wrong(path: &Path, why: &ScheduleError) -> BadInput {
    BadInput(format!("{}: {why}", path.display()))
}

/// Sends what `config` asks for, with progress and a result: 0 when every event was acknowledged in time.
pub(crate) fn send(
    settings: &KafkaSettings,
    config: ReplayConfig,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let replayed = runtime.block_on(async {
        let replay = Replay::prepare(settings, config).map_err(|error| {
            let usage = error.is_of_usage();
            if usage { BadInput(error.to_string()).into() } else { anyhow::Error::from(error) }
        })?;
        if let Some(torn) = replay.torn() {
            let what = "The recording's end is torn and is not replayed";
            drop(writeln!(std::io::stderr(), "{what}: {torn}."));
        }
        // Until here, nothing has to be put in order.
        let stop = asked_to_stop()?;
        let bar = if as_json { hidden() } else { progress(replay.events(), "events") };
        let tell = |Progress { sent, acknowledged, late_s }: Progress| {
            bar.set_position(acknowledged);
            let on_the_way = sent - acknowledged;
            bar.set_message(format!("events ({on_the_way} on their way, {late_s:.3} s late)"));
        };
        let replayed = replay.run(clock::anchored(), stop, tell).await;
        bar.finish_and_clear();
        anyhow::Ok(replayed)
    })?;
    if as_json {
        say(&format!("{:#}", json!(replayed)))?;
    } else {
        say(&in_words(&replayed))?;
    }
    Ok(if replayed.spoilt.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn in_words(replayed: &Replayed) -> String {
    let Replayed { topic, took_s, acknowledged, bytes, unshifted, .. } = replayed;
    let rate = *acknowledged as f64 / took_s.max(0.001);
    let mega = *bytes as f64 / 1e6;
    let mut text = format!(
        "{acknowledged} events ({mega:.1} MB) into topic '{topic}' in {took_s:.1} s: {rate:.0} events/s, \
         every one acknowledged"
    );
    if let Some(late_s) = replayed.late_max_s {
        let _ = write!(text, ", none more than {late_s:.3} s late");
    }
    text += ".";
    if *unshifted > 0 {
        let _ = write!(
            text,
            "\n{unshifted} values had no such field to move, and were sent as they were."
        );
    }
    if replayed.cut_short {
        text += "\nIt was stopped before its end.";
    }
    match &replayed.spoilt {
        Some(why) => format!(
            "SPOILT: {why}.\n{acknowledged} events of {} into topic '{topic}' in {took_s:.1} s.",
            replayed.sent
        ),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_a_length_of_time() {
        assert_eq!(moment_of("1764054000123"), Ok(Moment::At(1_764_054_000_123)));
        assert_eq!(moment_of("2026-11-25T07:00:00Z"), Ok(Moment::At(1_795_590_000_000)));
        assert_eq!(moment_of("90s"), Ok(Moment::After(Duration::from_secs(90))));
        let said = moment_of("noon").unwrap_err();
        assert!(said.starts_with("'noon' is no moment: ") && said.contains("90s"), "{said}");
    }
}
