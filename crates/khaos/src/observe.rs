//! `khaos observe`: the first phase by itself. It follows the job for as long as is wanted, changes nothing, and
//! concludes which loads matter and where each can be replayed from.

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
    let Some(record) = observed else {
        return say(
            "Stopped. The minutes that were observed are kept: the next observe counts them.",
        );
    };
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
    let known = store.range(job, Kind::Minute, Span { to: Timestamp(i64::MAX), ..wanted }).await?;
    let first = known.iter().filter_map(|record| record.minute()).map(|minute| minute.start);
    let from = first
        .filter(|start| wanted.contains(*start))
        .min()
        .unwrap_or_else(|| clock.now().minute().plus_millis(60_000));
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
