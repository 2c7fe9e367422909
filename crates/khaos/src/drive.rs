//! `khaos drive`: a fixed interval by hand, live. What one types at three in the morning instead of
//! redeploying.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail};
use clap::Args;
use khaos_adapters::flink::Flink;
use khaos_control::act::driver::{Condition, DriveEvent, Driver, Watcher};
use khaos_control::clock::Clock;
use khaos_control::ports::{Actuator, Jobs};
use khaos_core::job::{CompletedCheckpoint, JobKey, JobRun};
use khaos_core::stats::{median, quantile};
use khaos_core::units::{CheckpointInterval, Seconds};
use serde::Serialize;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::input::BadInput;
use crate::output::say;
use crate::{clock, clock_time_exact};

/// A fixed interval by hand.
#[derive(Debug, Args)]
pub struct DriveArgs {
    /// The job: its name, or Flink's id of it.
    job: String,
    /// The interval, whole seconds; not above the job's own.
    #[arg(long, value_parser = crate::duration::interval)]
    interval: CheckpointInterval,
    /// How long; until Ctrl-C when not given.
    #[arg(long = "for", value_name = "TIME", value_parser = crate::duration::seconds)]
    length: Option<Seconds>,
    /// Flink's REST API: the address of the JobManager's web interface.
    #[arg(long, default_value = "http://127.0.0.1:8081")]
    url: String,
    /// One JSON document on standard output, at the end.
    #[arg(long)]
    json: bool,
}

/// Something that happened, for the JSON document.
#[derive(Debug, Serialize)]
struct Turn {
    at_ms: i64,
    condition: &'static str,
    why: Option<String>,
}

/// What happened so far.
#[derive(Debug, Default)]
struct Log {
    completed: Vec<CompletedCheckpoint>,
    turns: Vec<Turn>,
}

impl DriveArgs {
    /// Drives until told to stop.
    pub fn run(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.drive())
    }

    async fn drive(self) -> anyhow::Result<()> {
        let clock = clock::anchored();
        let flink =
            Flink::at(&self.url, clock).map_err(|error| BadInput(format!("--url: {error}")))?;
        let job = JobKey(self.job.clone());
        let run = flink.describe(&job).await?;
        self.refuse_what_cannot_be_driven(&run)?;
        if !self.json {
            say(&self.greeting(&run))?;
        }

        let log = Arc::new(Mutex::new(Log::default()));
        let watcher = watcher(clock, Arc::clone(&log), self.json);
        let flink = Arc::new(flink);
        let driver = Driver::new(clock, flink.clone(), flink.clone()).watched_by(watcher);
        driver.apply(&run, self.interval, 1).await?;
        let mut asked_to_end = signal(SignalKind::terminate()).context("signals")?;
        let until = self.length.map(|length| clock.now().plus_secs(length.get()));
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = asked_to_end.recv() => {}
            () = async {
                match until {
                    Some(until) => clock.sleep_until(until).await,
                    None => std::future::pending().await,
                }
            } => {}
        }
        driver.release(&run).await?;

        let after = flink.describe(&job).await.ok();
        let log = std::mem::take(&mut *log.lock().unwrap_or_else(PoisonError::into_inner));
        self.conclude(&run, after.as_ref(), &log)
    }

    fn refuse_what_cannot_be_driven(&self, run: &JobRun) -> Result<(), BadInput> {
        let own = run.checkpointing.interval;
        if self.interval > own {
            return Err(BadInput(format!(
                "--interval: the job's own interval is {own}: driven checkpoints can only come \
                 more often than that, not every {}",
                self.interval
            )));
        }
        Ok(())
    }

    fn greeting(&self, run: &JobRun) -> String {
        let settings = &run.checkpointing;
        let own = settings.interval;
        let mode = if settings.defers_own() {
            "driven checkpoints replace its own (full mode)"
        } else {
            "driven checkpoints come on top of its own (assist mode)"
        };
        let end = match self.length {
            Some(length) => format!("for {} s", length.get()),
            None => "until Ctrl-C".to_owned(),
        };
        format!(
            "{} ({}): its own interval is {own}, {mode}.\nDriving every {} {end}. Whenever khaos \
             ends, in whatever way, its own {own} go on by themselves.",
            run.key, run.engine_id, self.interval
        )
    }

    fn conclude(&self, before: &JobRun, after: Option<&JobRun>, log: &Log) -> anyhow::Result<()> {
        let gaps: Vec<f64> = log
            .completed
            .windows(2)
            .map(|pair| pair[1].triggered_at.secs_since(pair[0].triggered_at))
            .collect();
        let durations: Vec<f64> =
            log.completed.iter().map(CompletedCheckpoint::duration_s).collect();
        let restarts = after.map(|after| {
            let same = after.engine_id == before.engine_id;
            if same { after.attempt.saturating_sub(before.attempt) } else { after.attempt }
        });
        if self.json {
            say(&format!(
                "{:#}",
                json!({
                    "job": before.key,
                    "engine_id": before.engine_id,
                    "engine_id_after": after.map(|after| &after.engine_id),
                    "restarts": restarts,
                    "interval_s": self.interval,
                    "fallback_s": before.checkpointing.interval,
                    "mode": if before.checkpointing.defers_own() { "full" } else { "assist" },
                    "checkpoints": log.completed.len(),
                    "interval_median_s": median(&gaps),
                    "interval_max_s": quantile(&gaps, 1.0),
                    "duration_median_s": median(&durations),
                    "duration_max_s": quantile(&durations, 1.0),
                    "completed": log.completed,
                    "turns": log.turns,
                })
            ))?;
        } else if let (Some(usual), Some(took)) = (median(&gaps), median(&durations)) {
            let (n, own) = (log.completed.len(), before.checkpointing.interval);
            say(&format!(
                "{n} checkpoints, one every {usual:.1} s, each taking {took:.1} s (medians). The \
                 job is left at its own interval of {own}."
            ))?;
        }
        if log.completed.is_empty() {
            let why = log.turns.iter().rev().find_map(|turn| turn.why.clone());
            bail!(
                "no checkpoint completed: {}",
                why.as_deref().unwrap_or("it was too short a time")
            );
        }
        Ok(())
    }
}

/// Remembers what happens, and prints it for people.
fn watcher(clock: Clock, log: Arc<Mutex<Log>>, quiet: bool) -> Watcher {
    Arc::new(move |_, event| {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        let line = match event {
            DriveEvent::Completed(checkpoint) => {
                let gap = log.completed.last().map(|before| {
                    let gap = checkpoint.triggered_at.secs_since(before.triggered_at);
                    format!("{gap:.2} s after the one before, ")
                });
                log.completed.push(*checkpoint);
                let (id, took) = (checkpoint.id, checkpoint.duration_s());
                format!("checkpoint {id}: {}took {took:.2} s", gap.unwrap_or_default())
            }
            DriveEvent::Now(condition) => {
                let (name, why) = match condition {
                    Condition::Driving => ("driving", None),
                    Condition::Waiting(why) => ("waiting", Some(why.clone())),
                    Condition::Failing(why) => ("failing", Some(why.clone())),
                    Condition::Saturated { duration_s } => {
                        let why = format!(
                            "checkpoints take {duration_s:.1} s, longer than the interval: they \
                             cannot come faster"
                        );
                        ("saturated", Some(why))
                    }
                };
                let line =
                    why.as_ref().map_or_else(|| name.to_owned(), |why| format!("{name}: {why}"));
                log.turns.push(Turn { at_ms: clock.now().0, condition: name, why });
                line
            }
        };
        if !quiet {
            // Nobody reads any more: the drive goes on.
            let _ = say(&format!("{} {line}", clock_time_exact(clock.now())));
        }
    })
}
