//! `khaos lab load`: events for the lab's jobs, made by number and sent by a schedule.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use khaos_adapters::kafka::made::Made;
use khaos_adapters::kafka::pace::{Pace, Schedule};
use khaos_adapters::kafka::replay::{ReplayConfig, Source};

use crate::input::{self, BadInput};
use crate::kafka::KafkaArgs;
use crate::replay::{SendingArgs, send, wrong};

/// Which events, where to, and how many when.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Whose events.
    #[arg(long)]
    job: Job,
    #[command(flatten)]
    kafka: KafkaArgs,
    /// The topic that the events go to, all of its partitions in turn.
    #[arg(long)]
    topic: String,
    /// At which rates: CSV with second,events_per_second; a rate holds until the next row, the last one as
    /// long as the one before it.
    #[arg(long, value_name = "FILE")]
    schedule: PathBuf,
    /// Factor for the rates of the schedule.
    #[arg(long, value_name = "F", default_value_t = 1.0, value_parser = scale)]
    rate_scale: f64,
    /// Factor for its seconds: at 0.1 a day of it takes 2.4 hours, at the same rates.
    #[arg(long, value_name = "F", default_value_t = 1.0, value_parser = scale)]
    time_scale: f64,
    /// Event number, time and this make the event.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    sending: SendingArgs,
}

/// Whose events there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Job {
    /// IoT vehicles: where a thousand vehicles are.
    Iot,
    /// Yahoo's streaming benchmark: what is seen of a thousand ads.
    Ysb,
}

/// Smaller is nothing at all, larger is more than anything bears.
const SCALES: RangeInclusive<f64> = 1e-6..=1e6;

fn scale(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|scale: &f64| SCALES.contains(scale));
    number.ok_or_else(|| {
        let (least, most) = (SCALES.start(), SCALES.end());
        format!("'{text}' is no factor: use for example 1, 0.1 or 10, from {least:?} to {most:?}")
    })
}

impl LoadArgs {
    /// Sends: 0 when every event was acknowledged in time.
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let settings = self.kafka.settings()?;
        let schedule = self.schedule()?;
        let made = match self.job {
            Job::Iot => Made::IotVehicles,
            Job::Ysb => Made::Ysb,
        };
        let config = ReplayConfig {
            source: Source::Made { made, seed: self.seed },
            from: None,
            to: None,
            into: self.topic,
            pace: Pace::Scheduled(schedule),
            shift_time: false,
            shift_field: None,
            max_late: self.sending.max_late,
            patience: self.sending.patience,
        };
        send(&settings, config, self.sending.json)
    }

    /// The schedule as it is kept, scaled.
    fn schedule(&self) -> Result<Schedule, BadInput> {
        let rows = input::steps(&self.schedule)?;
        let wrong = |why| wrong(&self.schedule, &why);
        // What is wrong is told as it stands in the file.
        Schedule::new(&rows).map_err(wrong)?;
        let scaled = rows.iter().map(|(s, rate)| (self.time_scale * s, self.rate_scale * rate));
        Schedule::new(&scaled.collect::<Vec<_>>()).map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(flatten)]
        load: LoadArgs,
    }

    /// The schedule of a file that holds `text`, with `more` arguments.
    fn schedule(text: &str, more: &[&str]) -> Result<Schedule, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rates.csv");
        std::fs::write(&path, text).unwrap();
        let usual = ["load", "--job", "iot", "--bootstrap", "h:1", "--topic", "t", "--schedule"];
        let arguments = [usual.as_slice(), &[path.to_str().unwrap()], more].concat();
        let typed = Typed::try_parse_from(arguments).map_err(|error| error.to_string())?;
        typed.load.schedule().map_err(|error| error.to_string())
    }

    #[test]
    fn a_schedule_is_scaled_in_rate_and_in_time() {
        let text = "second,events_per_second\n0,2000\n60,0\n120,500\n";
        let as_it_is = Schedule::new(&[(0.0, 2_000.0), (60.0, 0.0), (120.0, 500.0)]).unwrap();
        assert_eq!(schedule(text, &[]), Ok(as_it_is));
        let scaled = Schedule::new(&[(0.0, 500.0), (30.0, 0.0), (60.0, 125.0)]).unwrap();
        let more = ["--rate-scale", "0.25", "--time-scale", "0.5"];
        assert_eq!(schedule(text, &more), Ok(scaled));
    }

    #[test]
    fn what_is_no_schedule_is_told_as_it_stands_in_the_file() {
        let header = "second,events_per_second";
        for (rows, what) in [
            ("0,5\n60,-3\n", "row 2: second 60 with -3 events/s"),
            ("0,5\n", "two rows"),
            ("0,0\n60,0\n", "every rate is 0"),
            ("0,many\n", "line: 2"),
        ] {
            let said = schedule(&format!("{header}\n{rows}"), &["--rate-scale", "10"]).unwrap_err();
            assert!(said.contains("rates.csv: ") && said.contains(what), "{said}");
        }
    }

    #[test]
    fn a_scale_is_a_number_above_nothing() {
        assert_eq!((scale("1"), scale("0.25")), (Ok(1.0), Ok(0.25)));
        for text in ["0", "-1", "NaN", "inf", "1e7", "half"] {
            let said = scale(text).unwrap_err();
            assert!(said.contains(text) && said.contains("0.1"), "{said}");
        }
        let said = schedule("", &["--time-scale", "0"]).unwrap_err();
        assert!(said.contains("--time-scale") && said.contains("no factor"), "{said}");
    }
}
