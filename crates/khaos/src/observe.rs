//! `khaos observe`: the first phase by itself. It follows the job for as long as is wanted, changes nothing, and
//! concludes which loads matter and where each can be replayed from.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use khaos_control::observe::{GRACE_MS, Observe};
use khaos_control::ports::{Jobs, Store};
use khaos_control::tuner::{self, Tuner};
use khaos_core::observe::{Minute, Observation};
use khaos_core::record::{Kind, Record};
use khaos_core::series::Reading;
use khaos_core::units::{Millis, Seconds, Span, Timestamp};
use serde_json::json;

use crate::clock;
use crate::config::{Config, read};
use crate::input::BadInput;
use crate::lab::asked_to_stop;
use crate::output::say;
use crate::progress::{hidden, progress};
use crate::recording::utc;
use crate::simulate::watched::Watched;
use crate::table::table;
use crate::wired::Wired;

/// What is observed at least where nobody says for how long, s: a job's load moves over an hour.
const USUAL_S: f64 = 3_600.0;
/// How long the last minute of the load may be over for the next ones to follow on it, s.
const STALE_S: f64 = 120.0;

/// Runs `khaos observe` with the configuration at `path`, for `length`.
pub fn run(path: &Path, length: Option<Seconds>, as_json: bool) -> anyhow::Result<()> {
    let config = read(path)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let observed = runtime.block_on(async {
        let clock = clock::anchored();
        let wired = Wired::to(&config, path, clock)?;
        let stop = asked_to_stop()?;
        tokio::select! {
            biased;
            () = stop => anyhow::Ok(None),
            observed = observe(&config, clock, wired, length, as_json) => observed.map(Some),
        }
    })?;
    // Nothing was concluded: whoever waits for a result is told so by the exit code.
    let record = observed.context(
        "stopped before there was an observation. The minutes that were observed are kept: a khaos observe within \
         two minutes goes on from them",
    )?;
    let observation = record.observation().context("an observation is one")?;
    if as_json {
        return say(&format!("{:#}", json!({ "id": record.id(), "observation": observation })));
    }
    say(&in_words(observation))
}

/// Observes until the last `length` has been seen, and concludes. What is in the store already counts.
async fn observe(
    config: &Config,
    clock: khaos_control::clock::Clock,
    wired: Wired,
    length: Option<Seconds>,
    quiet: bool,
) -> anyhow::Result<Arc<Record>> {
    let Wired { flink, metrics, store, .. } = wired;
    let job = &config.job.key;
    let run = flink.describe(job).await?;
    // Where nobody else samples, sampling begins with the first question.
    metrics.readings(&run.engine_id, Span::last(0.0, clock.now())).await?;
    let bounds = config.job.bounds(run.checkpointing.interval);
    let replayed = config.job.patience().stretch(bounds.max());
    let needed_s = replayed.lead_s + replayed.hold_s;
    let length_s = minutes_up(length.map_or(needed_s.max(USUAL_S), Seconds::get));
    if length_s < needed_s {
        return Err(BadInput(format!(
            "--for {:.0}m is too short: a trial at {} replays up to {:.0} minutes; observe for that long at \
             least, or lower lead and recovery in [job.profile]",
            length_s / 60.0,
            bounds.max(),
            (needed_s / 60.0).ceil(),
        ))
        .into());
    }
    let wanted = Span::last(length_s, clock.now());
    let recorded =
        store.range(job, Kind::Minute, Span { to: Timestamp(i64::MAX), ..wanted }).await?;
    let minutes = recorded.iter().filter_map(|record| record.minute());
    let from =
        unbroken_since(minutes, wanted).unwrap_or_else(|| clock.now().minute().plus_millis(60_000));
    let until = from.plus_secs(length_s);

    let minutes = (length_s / Minute::SECS) as u64;
    let bar = if quiet { hidden() } else { progress(minutes, "minutes") };
    let told = bar.clone();
    let store = Arc::new(Watched::new(
        store,
        Arc::new(move |record| {
            if let Some(minute) = record.minute() {
                let passed = minute.start.secs_since(from) / Minute::SECS + 1.0;
                told.set_position(passed.max(0.0) as u64);
                told.set_message(seen(minute));
            }
        }),
    ));
    let observe =
        Observe { clock, jobs: flink.clone(), metrics, checkpoints: flink, store: store.clone() };
    let tuner = Tuner { clock, observe: observe.clone(), mode: tuner::Mode::Observe };
    tuner.tune(job, until.plus_millis(GRACE_MS + 1_000)).await?;
    bar.finish_and_clear();
    Ok(observe.conclude(job, Span { from, to: until }, replayed).await?)
}

/// Since when the load is known without a gap, up to the end of `wanted`, as far as it reaches back; `None` where it
/// is not known now. What was filled in after a pause, of which nobody remembered anything, counts as a gap.
fn unbroken_since<'a>(
    minutes: impl Iterator<Item = &'a Minute>,
    wanted: Span,
) -> Option<Timestamp> {
    let known: BTreeSet<Timestamp> = minutes
        .filter(|minute| wanted.contains(minute.start) && minute.arrival.known().is_some())
        .map(|minute| minute.start)
        .collect();
    let mut from = *known.last()?;
    // The minute that was over last is recorded a while after its end.
    if wanted.to.secs_since(from) > Minute::SECS + STALE_S {
        return None;
    }
    while let Some(before) = known.get(&from.plus_millis(-60_000)) {
        from = *before;
    }
    Some(from)
}

fn minutes_up(seconds: f64) -> f64 {
    (seconds / Minute::SECS).ceil() * Minute::SECS
}

/// What is known of a minute, beside the bar.
fn seen(minute: &Minute) -> String {
    match minute.arrival.known() {
        Some(rate) => format!("minutes, {:.0} events/s arrive", rate.get()),
        None => "minutes, what arrives is not known".to_owned(),
    }
}

fn in_words(observation: &Observation) -> String {
    let Observation {
        span, known_minutes, unknown_minutes, steady_minutes, lowest, highest, ..
    } = observation;
    let all = known_minutes + unknown_minutes;
    let latency = told(observation.latency, |ms: Millis| format!("{:.0} ms", ms.get()));
    let duration = told(observation.checkpoint_duration, |s: Seconds| format!("{:.1} s", s.get()));
    let mut levels = table(&["load, events/s", "replayed from", "for, min"]);
    for level in &observation.levels {
        let minutes = level.stretch.secs() / 60.0;
        levels.add_row([
            format!("{:.0}", level.rate.get()),
            utc(level.stretch.from.0),
            format!("{minutes:.0}"),
        ]);
    }
    format!(
        "Observed {all} minutes from {} on: the load was known in {known_minutes}, the job steady in \
         {steady_minutes}.\nLoad {:.0} to {:.0} events/s, latency p99 {latency}, checkpoints up to {duration} \
         (p99), lag {:.1} s of data.\n\n{levels}\n\nNext: khaos profile --dry-run, which says what trials of \
         these loads would cost.",
        utc(span.from.0),
        lowest.get(),
        highest.get(),
        observation.lag.get(),
    )
}

fn told<T>(reading: Reading<T>, words: impl Fn(T) -> String) -> String {
    match reading {
        Reading::Known(value) => words(value),
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use khaos_core::units::EventRate;

    /// A job of which the minutes `known` and `unknown` are recorded; now is 100:30.
    fn since(known: &[i64], unknown: &[i64]) -> Option<i64> {
        let blind = |minute: &i64| Minute::blind(Timestamp(minute * 60_000));
        let arrival = Reading::Known(EventRate::new(100.0).unwrap());
        let mut minutes: Vec<Minute> = unknown.iter().map(blind).collect();
        minutes.extend(known.iter().map(|minute| Minute { arrival, ..blind(minute) }));
        let wanted = Span::last(3_600.0, Timestamp(100 * 60_000 + 30_000));
        let from = unbroken_since(minutes.iter(), wanted)?;
        assert_eq!(from.0 % 60_000, 0);
        Some(from.0 / 60_000)
    }

    #[test]
    fn what_was_recorded_up_to_now_counts() {
        assert_eq!(since(&[96, 97, 98, 99], &[]), Some(96));
        let all: Vec<i64> = (0..100).collect();
        assert_eq!(since(&all, &[]), Some(41), "within the hour that is wanted");
    }

    #[test]
    fn a_gap_is_where_it_begins() {
        assert_eq!(since(&[90, 91, 95, 98, 99], &[92, 93, 94, 96, 97]), Some(98), "blind minutes");
        assert_eq!(since(&[90, 91, 97, 98, 99], &[]), Some(97), "minutes that nobody recorded");
        assert_eq!(since(&[97, 98, 99], &[98]), Some(97), "one khaos knew, the other did not");
    }

    #[test]
    fn after_a_pause_it_begins_anew() {
        assert_eq!(since(&[], &[]), None);
        assert_eq!(since(&[], &[98, 99]), None);
        assert_eq!(since(&[80, 81], &[]), None);
        assert_eq!(since(&[95, 96], &[97, 98, 99]), None);
        assert_eq!(since(&[97], &[98, 99]), None);
        assert_eq!(since(&[98], &[99]), Some(98), "two minutes may be late");
    }
}
