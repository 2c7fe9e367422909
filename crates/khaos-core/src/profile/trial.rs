//! What one failure showed, in parts: each part says something about the model that the whole
//! recovery time alone would hide (its noise is almost all dead time).

use khaos_stats::mean;
use serde::{Deserialize, Serialize};

use crate::job::{CheckpointHistory, JobRun};
use crate::observe::Baseline;
use crate::profile::{Progress, calm_below_s, recovered};
use crate::series::{Reading, Readings, Sample, Series};
use crate::units::{CheckpointInterval, EventRate, Events, Millis, Seconds, Span, Timestamp};

/// How long the job took to recover.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recovery {
    /// Failure → lag back to normal.
    Measured(Seconds),
    /// Not over when the deadline came: at least this long.
    Censored(Seconds),
    /// The trial says nothing about recovery, and why.
    Spoilt(String),
}

/// One failure at (CI, λ), measured: of a clone at the worst moment, or a real one of the job at
/// whatever moment it came. A part that was not seen is `None`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Its place in the design; of a real failure the attempt that it ended.
    pub index: u32,
    /// The checkpoint interval in force.
    pub interval: CheckpointInterval,
    /// Mean arrival rate over the baseline before the failure.
    pub load: EventRate,
    /// Mean p99 latency over the baseline.
    pub latency: Option<Millis>,
    /// How long it took to recover.
    pub recovery: Recovery,
    /// Failure → every vertex running again.
    pub dead_time: Option<Seconds>,
    /// The part of the dead time until the engine noticed the failure; the rest is the restore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detection: Option<Seconds>,
    /// Failure − trigger of the checkpoint that was restored.
    pub age: Option<Seconds>,
    /// Events that the catch-up had to work off: those that arrived from the restored checkpoint
    /// until the clone was back, less the lag at which the detector calls it over.
    pub backlog: Option<Events>,
    /// Throughput while catching up: what is left of the capacity at this interval.
    pub catch_up: Option<EventRate>,
    /// Mean arrival rate from the failure until it was over.
    pub load_during: Option<EventRate>,
    /// p99 of the durations of the checkpoints before.
    pub checkpoint_duration: Option<Seconds>,
    /// How far off the moment of the failure may be, and by as much dead time, age and recovery, the
    /// first and the last the same way: recovery less dead time is sure. `None` where the moment is
    /// known, because the failure was injected.
    pub failed_within: Option<Seconds>,
}

impl Trial {
    /// A trial of which nothing but its recovery is known.
    pub fn of_recovery(
        index: u32,
        interval: CheckpointInterval,
        load: EventRate,
        recovery: Recovery,
    ) -> Self {
        Self {
            index,
            interval,
            load,
            latency: None,
            recovery,
            dead_time: None,
            detection: None,
            age: None,
            backlog: None,
            catch_up: None,
            load_during: None,
            checkpoint_duration: None,
            failed_within: None,
        }
    }
}

/// Everything that was seen of one failure, up to its end or its deadline.
#[derive(Debug, Clone)]
pub struct Evidence<'a> {
    /// Its place in the design; of a real failure the attempt that it ended.
    pub index: u32,
    /// The checkpoint interval in force.
    pub interval: CheckpointInterval,
    /// The steady state before the failure.
    pub baseline: &'a Baseline,
    /// When it failed.
    pub failed_at: Timestamp,
    /// How far off that may be; `None` where it was injected then.
    pub failed_within: Option<Seconds>,
    /// Until when it was watched.
    pub until: Timestamp,
    /// Readings from before the failure until then.
    pub readings: &'a Readings,
    /// The checkpoints before the failure.
    pub history_before: &'a CheckpointHistory,
    /// The checkpoints when the watch ended.
    pub history_after: &'a CheckpointHistory,
    /// The deployment as the engine described it when the watch ended.
    pub run_after: &'a JobRun,
}

/// What the evidence amounts to.
pub fn assemble(evidence: &Evidence<'_>) -> Trial {
    let Evidence { index, interval, baseline, failed_at, until, readings, .. } = *evidence;
    let (lag, arrival) = (readings.lag(), readings.arrival());
    let progress = recovered(baseline, &lag, &arrival, failed_at);
    let end = if let Progress::Over(at) = progress { at } else { until };
    let elapsed = |to: Timestamp| Seconds::new(to.secs_since(failed_at)).ok();

    let back_at = evidence.run_after.running_since.filter(|&at| at > failed_at);
    let within = Span { from: failed_at, to: back_at.unwrap_or(failed_at) };
    let noticed = evidence.run_after.noticed.iter().copied().find(|&at| within.contains(at));
    let restored = evidence.history_after.restored.filter(|c| c.triggered_at <= failed_at);
    let mean_arrival = |from, to| match arrival.mean(Span { from, to }) {
        Reading::Known(rate) => EventRate::new(rate).ok(),
        Reading::Stale | Reading::Unknown => None,
    };
    let backlog = back_at.zip(restored).and_then(|(back, checkpoint)| {
        let since = checkpoint.triggered_at;
        let arrived = mean_arrival(since, back)?.get() * back.secs_since(since);
        Events::new(arrived - calm_below_s(baseline) * baseline.load).ok()
    });
    let everything = Span { from: Timestamp(i64::MIN), to: failed_at };
    Trial {
        index,
        interval,
        load: EventRate::new(baseline.load).expect("a baseline's load is a mean of rates"),
        latency: baseline.latency_ms.known().and_then(|ms| Millis::new(ms).ok()),
        recovery: match (progress, elapsed(end)) {
            (Progress::NotShown, _) | (_, None) => {
                Recovery::Spoilt("the failure did not show in the lag".into())
            }
            (Progress::Over(_), Some(seconds)) => Recovery::Measured(seconds),
            (Progress::NotOver, Some(seconds)) => Recovery::Censored(seconds),
        },
        dead_time: back_at.and_then(elapsed),
        detection: noticed.and_then(elapsed),
        age: restored.and_then(|c| Seconds::new(failed_at.secs_since(c.triggered_at)).ok()),
        backlog,
        catch_up: back_at.and_then(|back| {
            plateau(readings.throughput.within(Span { from: back, to: end }), &arrival)
        }),
        load_during: mean_arrival(failed_at, end),
        checkpoint_duration: evidence
            .history_before
            .duration_quantile(everything, 0.99)
            .and_then(|s| Seconds::new(s).ok()),
        failed_within: evidence.failed_within,
    }
}

/// Mean of the longest run of samples in which more was processed than arrived, without its first
/// and last sample, which the beginning and the end of the catch-up share. `None` when fewer than
/// three remain.
fn plateau(throughput: &[Sample], arrival: &Series) -> Option<EventRate> {
    let faster = |sample: &Sample| {
        let arriving = arrival.latest(sample.at, 60.0).known();
        arriving.is_some_and(|rate| sample.value > 1.05 * rate)
    };
    let longest = throughput
        .split(|sample| !faster(sample))
        .max_by_key(|run| run.len())
        .filter(|run| run.len() >= 5)?;
    let inner: Vec<f64> = longest[1..longest.len() - 1].iter().map(|s| s.value).collect();
    mean(&inner).and_then(|rate| EventRate::new(rate).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{
        CheckpointSettings, CompletedCheckpoint, EngineJobId, JobKey, JobShape, JobStatus,
    };
    use crate::series::SourceReadings;

    fn series(f: impl Fn(f64) -> f64) -> Series {
        Series::new((0..120).map(|i| Sample { at: Timestamp(i * 5_000), value: f(i as f64 * 5.0) }))
    }

    /// 100 events/s; failure at 300 s, back at 320 s, catch-up at 300/s until the backlog is gone.
    #[test]
    fn the_parts_of_a_trial_by_hand() {
        let at = |s: f64| Timestamp::default().plus_secs(s);
        let lag = |t: f64| match t {
            t if t < 300.0 => 0.0,
            t if t < 320.0 => 100.0 * (t - 300.0),
            // Restored from the checkpoint of 290 s: backlog 30 s · 100/s, falling by 200/s.
            t => (3_000.0 - 200.0 * (t - 320.0)).max(0.0),
        };
        let throughput = |t: f64| match t {
            t if t < 300.0 => 100.0,
            t if t <= 320.0 => 0.0,
            t if t <= 335.0 => 300.0,
            _ => 100.0,
        };
        let source =
            SourceReadings { name: "s".into(), arrival: series(|_| 100.0), lag: series(lag) };
        let readings = Readings {
            sources: vec![source],
            throughput: series(throughput),
            latency_ms: series(|_| 50.0),
        };
        let baseline = Baseline::before(at(300.0), &readings).unwrap();
        let checkpoint =
            CompletedCheckpoint { id: 3, triggered_at: at(290.0), completed_at: at(292.0) };
        let before = CheckpointHistory { completed: vec![checkpoint], ..Default::default() };
        let after = CheckpointHistory { restored: Some(checkpoint), ..Default::default() };
        let interval = CheckpointInterval::from_secs(10).unwrap();
        let run_after = JobRun {
            key: JobKey("j".into()),
            engine_id: EngineJobId("e".into()),
            attempt: 1,
            parallelism: 1,
            shape: JobShape("s".into()),
            status: JobStatus::Running,
            running_since: Some(at(320.0)),
            checkpointing: CheckpointSettings::periodic(interval),
            noticed: vec![at(100.0), at(303.0), at(305.0)],
            expected_dead_time: None,
        };
        let evidence = Evidence {
            index: 0,
            interval,
            baseline: &baseline,
            failed_at: at(300.0),
            failed_within: None,
            until: at(600.0),
            readings: &readings,
            history_before: &before,
            history_after: &after,
            run_after: &run_after,
        };
        let trial = assemble(&evidence);
        // s < 1 once the lag is below 100: first seen at 335 s, where it is 0.
        assert_eq!(trial.recovery, Recovery::Measured(Seconds::new(35.0).unwrap()));
        assert_eq!(trial.dead_time.map(Seconds::get), Some(20.0));
        assert_eq!(trial.detection.map(Seconds::get), Some(3.0));
        assert_eq!(trial.age.map(Seconds::get), Some(10.0));
        // 30 s of arrivals, less the 1 s that counts as normal.
        assert_eq!(trial.backlog.map(Events::get), Some(2_900.0));
        assert_eq!(trial.checkpoint_duration.map(Seconds::get), Some(2.0));
        assert_eq!(trial.latency.map(Millis::get), Some(50.0));
        // Three samples of catch-up, of which two may be partial: not enough to tell a rate.
        assert_eq!(trial.catch_up, None);

        let endless = Readings {
            sources: vec![SourceReadings {
                lag: series(|t| if t < 300.0 { 0.0 } else { 9_000.0 }),
                ..readings.sources[0].clone()
            }],
            ..readings.clone()
        };
        let censored = assemble(&Evidence { readings: &endless, ..evidence });
        assert_eq!(censored.recovery, Recovery::Censored(Seconds::new(300.0).unwrap()));
    }

    #[test]
    fn a_plateau_is_the_inside_of_the_longest_run() {
        let of = |values: &[f64]| {
            let samples: Vec<Sample> =
                values.iter().map(|&value| Sample { at: Timestamp(0), value }).collect();
            let arrival = Series::new([Sample { at: Timestamp(0), value: 100.0 }]);
            plateau(&samples, &arrival).map(EventRate::get)
        };
        assert_eq!(of(&[100., 200., 100., 150., 300., 310., 290., 180., 100.]), Some(300.0));
        assert_eq!(of(&[100., 300., 300., 300., 300., 100.]), None);
    }
}
