use super::*;
use crate::job::{CheckpointSettings, CompletedCheckpoint, JobKey, JobStatus};
use crate::series::{Sample, SourceReadings};

fn at(seconds: f64) -> Timestamp {
    Timestamp::default().plus_secs(seconds)
}

fn minute(i: i64, engine: &str, attempt: Option<u32>) -> Minute {
    Minute {
        engine_id: attempt.map(|_| EngineJobId(engine.into())),
        shape: attempt.map(|_| JobShape("s".into())),
        attempt,
        ..Minute::blind(Timestamp(i * 60_000))
    }
}

fn seen(minutes: &[Minute]) -> Vec<(String, u32, i64)> {
    let found = noticed(&minutes.iter().collect::<Vec<_>>());
    found.into_iter().map(|n| (n.engine_id.0, n.attempt, n.at.0 / 60_000)).collect()
}

#[test]
fn a_later_attempt_is_a_failure_and_a_new_deployment_is_none() {
    let minutes = [
        minute(0, "a", Some(3)),
        minute(1, "a", Some(3)),
        minute(2, "a", None),
        minute(3, "a", Some(4)),
        minute(4, "a", Some(6)),
        minute(5, "b", Some(0)),
        minute(6, "c", Some(1)),
    ];
    let expected = [("a", 3, 4), ("a", 5, 5), ("c", 0, 7)];
    assert_eq!(seen(&minutes), expected.map(|(id, attempt, at)| (id.to_owned(), attempt, at)));
    assert_eq!(seen(&minutes[..2]), [], "what was before the first look was not seen");
}

/// A job with 100 events/s and a reading every 5 s: fails at 602 s, is back at 620 s from the
/// checkpoint of 580 s, and catches up at 300 events/s.
struct Story {
    lag: fn(f64) -> f64,
    /// No reading from the first to before the second, s.
    missing: (f64, f64),
}

/// Backlog at 620 s: 40 s · 100/s, falling by 200/s until 640 s.
fn lag(t: f64) -> f64 {
    match t {
        t if t < 602.0 => 20.0,
        t if t < 620.0 => 100.0 * (t - 602.0),
        t => (4_000.0 - 200.0 * (t - 620.0)).max(20.0),
    }
}

fn throughput(t: f64) -> f64 {
    let processed = |t: f64| {
        100.0 * t.min(602.0)
            + 300.0 * (t.min(640.0) - 620.0).max(0.0)
            + 100.0 * (t - 640.0).max(0.0)
    };
    (processed(t) - processed(t - 5.0)) / 5.0
}

const USUAL: Story = Story { lag, missing: (0.0, 0.0) };

impl Story {
    fn told(&self, now: f64) -> Option<(Option<Moment>, Measured)> {
        let series = |value: &dyn Fn(f64) -> f64| {
            let times = (1..=960).map(|i| f64::from(i) * 5.0).filter(|t| *t <= now);
            let there = times.filter(|t| !(self.missing.0..self.missing.1).contains(t));
            Series::new(there.map(|t| Sample { at: at(t), value: value(t) }))
        };
        let source = SourceReadings {
            name: "s".into(),
            arrival: series(&|_| 100.0),
            lag: series(&self.lag),
        };
        let readings = Readings {
            sources: vec![source],
            throughput: series(&throughput),
            latency_ms: series(&|_| 50.0),
        };
        let checkpoint =
            CompletedCheckpoint { id: 9, triggered_at: at(580.0), completed_at: at(581.0) };
        let history = CheckpointHistory {
            completed: vec![checkpoint],
            restored: Some(checkpoint),
            ..CheckpointHistory::default()
        };
        let interval = CheckpointInterval::from_secs(30).unwrap();
        let run = JobRun {
            key: JobKey("j".into()),
            engine_id: EngineJobId("e".into()),
            attempt: 3,
            parallelism: 1,
            shape: JobShape("s".into()),
            status: JobStatus::Running,
            running_since: Some(at(620.0)),
            checkpointing: CheckpointSettings::periodic(interval),
            noticed: Vec::new(),
            expected_dead_time: None,
        };
        measure(&Aftermath {
            interval,
            run: &run,
            back_at: at(620.0),
            readings: &readings,
            history: &history,
            now: at(now),
        })
    }

    fn nothing(&self, now: f64) -> String {
        match self.told(now) {
            Some((_, Measured::Nothing(why))) => why,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_failure_by_hand() {
    // Below 20 + 100 events from 640 s on, sure 15 s later.
    assert_eq!(USUAL.told(650.0), None, "it is not over yet");
    let Some((Some(moment), Measured::Trial(trial))) = USUAL.told(655.0) else { panic!() };
    assert_eq!((moment.at, moment.within.get()), (at(602.0), 2.5));
    assert_eq!(trial.recovery, Recovery::Measured(Seconds::new(38.0).unwrap()));
    assert_eq!(trial.dead_time.map(Seconds::get), Some(18.0));
    assert_eq!(trial.age.map(Seconds::get), Some(22.0));
    // 40 s of arrivals less the one that counts as normal.
    assert_eq!(trial.backlog.map(crate::units::Events::get), Some(3_900.0));
    assert_eq!(trial.checkpoint_duration.map(Seconds::get), Some(1.0));
    assert_eq!((trial.index, trial.interval.secs()), (2, 30));
    assert_eq!(trial.failed_within.map(Seconds::get), Some(2.5));
    assert_eq!(USUAL.told(3_000.0), USUAL.told(655.0), "whenever it is looked at");
}

#[test]
fn what_never_ends_is_censored_at_the_deadline() {
    let endless = Story { lag: |t| if t < 602.0 { 20.0 } else { 9_000.0 }, ..USUAL };
    assert_eq!(endless.told(4_200.0), None);
    let Some((_, Measured::Trial(trial))) = endless.told(4_225.0) else { panic!() };
    assert_eq!(trial.recovery, Recovery::Censored(Seconds::new(3_623.0).unwrap()));
}

#[test]
fn each_reason_to_learn_nothing() {
    let flat = Story { lag: |_| 20.0, ..USUAL };
    assert_eq!(flat.told(900.0), None, "readings may be late");
    assert_eq!(flat.nothing(920.0), "it did not show in the lag");
    // Catching up since before it failed: 4 events fewer every second.
    let behind = Story { lag: |t| 4_000.0 - 4.0 * t.min(602.0) + lag(t), ..USUAL };
    assert!(behind.nothing(920.0).starts_with("it was not steady before: the lag moved by 6.0 s"));
    let blind_before = Story { missing: (400.0, 640.0), ..USUAL };
    assert!(blind_before.nothing(920.0).contains("do not tell when"), "a checkpoint came since");
    let blind_after = Story { missing: (610.0, 660.0), ..USUAL };
    let why = "the lag was not read for 40 s while it recovered";
    let slow = |t: f64| if t < 620.0 { lag(t) } else { (4_000.0 - 20.0 * (t - 620.0)).max(20.0) };
    assert_eq!(Story { lag: slow, ..blind_after }.nothing(920.0), why);
}

#[test]
fn a_recovery_is_compared_with_its_bounds() {
    let seconds = |s: f64| Seconds::new(s).unwrap();
    let Some((_, Measured::Trial(trial))) = USUAL.told(655.0) else { panic!() };
    let compared = |recovery: Recovery, bounds: Option<(f64, f64)>| {
        let failure = Failure {
            engine_id: EngineJobId("e".into()),
            attempt: 2,
            shape: JobShape("s".into()),
            noticed_at: at(660.0),
            failed_at: Some(at(602.0)),
            highest: None,
            measured: Measured::Trial(Trial { recovery, ..trial.clone() }),
            predicted: bounds
                .map(|(low, high)| Predicted { low: seconds(low), high: seconds(high) }),
        };
        failure.compared()
    };
    let bounds = Some((30.0, 45.0));
    let measured = |s| Recovery::Measured(seconds(s));
    assert_eq!(compared(measured(38.0), bounds), Some(Compared::AsPredicted));
    assert_eq!(compared(measured(46.0), bounds), Some(Compared::Longer));
    assert_eq!(compared(measured(29.0), bounds), Some(Compared::Shorter));
    assert_eq!(compared(Recovery::Censored(seconds(46.0)), bounds), Some(Compared::Longer));
    assert_eq!(compared(Recovery::Censored(seconds(38.0)), bounds), None);
    assert_eq!(compared(measured(38.0), None), None);
}
