//! What `khaos run` says of what it records.

use khaos_core::observe::Minute;
use khaos_core::optimize::{Decision, Effect};
use khaos_core::profile::{Compared, Failure, Measured, Recovery, Trial};
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
            Fact::Failure(failure) => (failed(failure), failed(failure)),
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

/// A failure in one line: when, how long, whether that was to be expected, and in which parts.
fn failed(failure: &Failure) -> String {
    let at = match failure.failed_at {
        Some(at) => format!("at about {}", clock_time(at)),
        None => format!("before {}", clock_time(failure.noticed_at)),
    };
    let trial = match &failure.measured {
        Measured::Trial(trial) => trial,
        Measured::Nothing(why) => return format!("Failed {at}, which teaches nothing: {why}."),
    };
    let length = match &trial.recovery {
        Recovery::Measured(seconds) => format!("recovered after {:.0} s", seconds.get()),
        Recovery::Censored(seconds) => format!("not recovered {:.0} s later", seconds.get()),
        Recovery::Spoilt(why) => why.clone(),
    };
    let expected = failure.predicted.map_or(String::new(), |predicted| {
        let surprise = match failure.compared() {
            Some(Compared::Longer) => "longer than ",
            Some(Compared::Shorter) => "shorter than ",
            Some(Compared::AsPredicted) | None => "",
        };
        let (low, high) = (predicted.low.get(), predicted.high.get());
        format!(" ({surprise}predicted: {low:.0}–{high:.0} s)")
    });
    format!("Failed {at}, {length}{expected}{}.", parts(trial))
}

/// The parts of a failure, as far as they were seen.
fn parts(trial: &Trial) -> String {
    let down = trial.dead_time.map(|seconds| format!("{:.0} s down", seconds.get()));
    let then = trial.catch_up.map(|rate| format!("catching up at {:.0} events/s", rate.get()));
    let parts: Vec<String> = [down, then].into_iter().flatten().collect();
    if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", then ")) }
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
    use khaos_core::job::{EngineJobId, JobKey, JobShape, JobStatus};
    use khaos_core::optimize::{LoadForecast, Reason, Verdict};
    use khaos_core::profile::Predicted;
    use khaos_core::units::{CheckpointInterval, EventRate, Seconds, Timestamp};

    use super::*;

    fn decision(minute: i64, interval: u32, load: f64) -> Record {
        let (at, load) = (Timestamp(minute * 60_000), EventRate::new(load).unwrap());
        let decision = Decision {
            at,
            verdict: Verdict::Recommend,
            from: CheckpointInterval::from_secs(60).unwrap(),
            interval: CheckpointInterval::from_secs(interval).unwrap(),
            reasons: vec![Reason::NotAsked],
            load: Some(LoadForecast {
                expected: load,
                upper: load,
                calibrated: true,
                at_horizon: load,
            }),
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
    fn a_failure_is_told_in_every_mode() {
        let seconds = |s: f64| Seconds::new(s).unwrap();
        let trial = |recovery| Trial {
            index: 0,
            interval: CheckpointInterval::from_secs(30).unwrap(),
            load: EventRate::new(9_000.0).unwrap(),
            latency: None,
            recovery,
            dead_time: Some(seconds(24.0)),
            age: Some(seconds(12.0)),
            backlog: None,
            catch_up: EventRate::new(33_000.0).ok(),
            load_during: None,
            checkpoint_duration: None,
            failed_within: Some(seconds(2.5)),
            detection: None,
        };
        let told = |measured: Measured, failed_at, predicted: Option<(f64, f64)>| {
            let failure = Failure {
                engine_id: EngineJobId("e".into()),
                attempt: 0,
                shape: JobShape("s".into()),
                noticed_at: Timestamp(843 * 60_000),
                failed_at,
                highest: None,
                measured,
                predicted: predicted
                    .map(|(low, high)| Predicted { low: seconds(low), high: seconds(high) }),
            };
            let fact = Fact::Failure(failure);
            let record = Record::new(&JobKey("j".into()), Timestamp(846 * 60_000), vec![], fact);
            let lines = [Mode::Observe, Mode::Recommend, Mode::Auto]
                .map(|mode| Telling::of(false, mode).of_record(&record).unwrap());
            assert!(lines.iter().all(|line| *line == lines[0]));
            lines[0].clone()
        };
        let at = Some(Timestamp(842 * 60_000));
        let measured = || Measured::Trial(trial(Recovery::Measured(seconds(183.0))));
        assert_eq!(
            told(measured(), at, Some((150.0, 210.0))),
            "14:06 UTC  j: Failed at about 14:02, recovered after 183 s (predicted: 150–210 s): \
             24 s down, then catching up at 33000 events/s."
        );
        let longer = told(measured(), at, Some((50.0, 110.0)));
        assert!(longer.contains("after 183 s (longer than predicted: 50–110 s): 24 s"), "{longer}");
        let unpredicted = told(measured(), at, None);
        assert!(unpredicted.contains("recovered after 183 s: 24 s down"), "{unpredicted}");
        let endless = Measured::Trial(trial(Recovery::Censored(seconds(3_600.0))));
        assert!(told(endless, at, None).contains("14:02, not recovered 3600 s later: 24 s down"));
        assert_eq!(
            told(Measured::Nothing("it did not show in the lag".into()), None, None),
            "14:06 UTC  j: Failed before 14:03, which teaches nothing: it did not show in the lag."
        );
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
