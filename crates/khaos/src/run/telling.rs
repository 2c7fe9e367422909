//! What `khaos run` says of what it records.

use khaos_core::observe::Minute;
use khaos_core::optimize::{Decision, Effect};
use khaos_core::record::{Fact, Record};
use khaos_core::series::Reading;

use crate::clock_time;
use crate::config::Mode;

/// Says of each record what is new in it.
#[derive(Debug)]
pub(super) struct Telling {
    as_json: bool,
    mode: Mode,
    /// What was said last, without its numbers: they change every minute.
    said: String,
}

impl Telling {
    pub(super) fn of(as_json: bool, mode: Mode) -> Self {
        Self { as_json, mode, said: String::new() }
    }

    /// The line to print for `record`, if it says something new.
    pub(super) fn of_record(&mut self, record: &Record) -> Option<String> {
        if self.as_json {
            return Some(serde_json::to_string(record).expect("records are plain data"));
        }
        let (line, gist) = match record.fact() {
            Fact::Decision(decision) => (decision.sentence(), gist(decision)),
            // Where nothing is decided, what can be seen is all there is to say.
            Fact::Minute(minute) if self.mode == Mode::Observe => (seen(minute), seen(minute)),
            Fact::Outcome(outcome) => {
                let line = match &outcome.effect {
                    Effect::Applied | Effect::Kept => return None,
                    Effect::Refused(why) => format!("Refused, {} stays: {why}.", outcome.to),
                    Effect::RolledBack(why) => {
                        format!("Went back from {} to {}: {why}.", outcome.from, outcome.to)
                    }
                };
                (line.clone(), line)
            }
            _ => return None,
        };
        if gist == self.said {
            return None;
        }
        self.said = gist;
        Some(format!("{} UTC  {}: {line}", clock_time(record.at()), record.job()))
    }
}

/// A decision without what changes every minute.
fn gist(decision: &Decision) -> String {
    Decision { load: None, advice: None, ..decision.clone() }.sentence()
}

/// What is known of a minute, and what not.
fn seen(minute: &Minute) -> String {
    fn is_known<T: Copy>(reading: &Reading<T>) -> bool {
        reading.known().is_some()
    }
    let (known, unknown): (Vec<_>, Vec<_>) = [
        ("arrival rate", is_known(&minute.arrival)),
        ("throughput", is_known(&minute.throughput)),
        ("lag", is_known(&minute.lag)),
        ("latency", is_known(&minute.latency)),
        ("checkpoints", minute.checkpoints_completed.is_some()),
    ]
    .into_iter()
    .partition(|(_, known)| *known);
    let names = |those: Vec<(&'static str, bool)>| match those[..] {
        [] => "nothing".to_owned(),
        _ => those.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
    };
    let status = format!("{:?}", minute.status).to_lowercase();
    let errors: String = minute.errors.iter().map(|error| format!("; {error}")).collect();
    format!("Status {status}; known: {}; unknown: {}{errors}.", names(known), names(unknown))
}

#[cfg(test)]
mod tests {
    use khaos_core::job::{JobKey, JobStatus};
    use khaos_core::optimize::{LoadForecast, Reason, Verdict};
    use khaos_core::units::{CheckpointInterval, EventRate, Timestamp};

    use super::*;

    fn decision(minute: i64, interval: u32, load: f64) -> Record {
        let (at, load) = (Timestamp(minute * 60_000), EventRate::new(load).unwrap());
        let decision = Decision {
            at,
            verdict: Verdict::Recommend,
            from: CheckpointInterval::from_secs(60).unwrap(),
            interval: CheckpointInterval::from_secs(interval).unwrap(),
            reasons: vec![Reason::NotAsked],
            load: Some(LoadForecast { expected: load, upper: load, calibrated: true }),
            predicted: None,
            advice: None,
        };
        Record::new(&JobKey("j".into()), at, vec![], Fact::Decision(decision))
    }

    #[test]
    fn a_line_only_where_something_else_is_said() {
        let mut telling = Telling::of(false, Mode::Recommend);
        let first = telling.of_record(&decision(61, 20, 100.0)).unwrap();
        assert!(first.starts_with("01:01 UTC  j: Recommended: an interval of 20 s"), "{first}");
        assert_eq!(telling.of_record(&decision(62, 20, 110.0)), None);
        assert!(telling.of_record(&decision(63, 19, 110.0)).is_some());
        let mut json = Telling::of(true, Mode::Recommend);
        for _ in 0..2 {
            let line = json.of_record(&decision(61, 20, 100.0)).unwrap();
            assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), decision(61, 20, 100.0));
        }
    }

    #[test]
    fn what_is_seen_is_said_where_nothing_is_decided() {
        let minute = Minute {
            status: JobStatus::Running,
            arrival: Reading::Known(EventRate::new(5.0).unwrap()),
            errors: vec!["the metrics are asleep".into()],
            ..Minute::blind(Timestamp(0))
        };
        let record = Record::new(&JobKey("j".into()), Timestamp(0), vec![], Fact::Minute(minute));
        assert_eq!(Telling::of(false, Mode::Auto).of_record(&record), None);
        let line = Telling::of(false, Mode::Observe).of_record(&record).unwrap();
        assert!(line.contains("Status running; known: arrival rate; unknown: throughput, lag"));
        assert!(line.contains("the metrics are asleep"), "{line}");
    }
}
