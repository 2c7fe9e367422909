//! What the user can type.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use khaos_control::profile::Patience;
use khaos_core::profile::IntervalBounds;
use khaos_core::units::{CheckpointInterval, Millis, Seconds};
use serde_json::json;

use crate::doctor::DoctorArgs;
use crate::drive::DriveArgs;
use crate::duration::{interval, millis, seconds};
use crate::fit::FitArgs;
use crate::forecast::ForecastArgs;
use crate::input::BadInput;
use crate::lab::LabCommand;
use crate::output::say;
use crate::record::RecordArgs;
use crate::recording::RecordingCommand;
use crate::replay::ReplayArgs;
use crate::simulate::{Comparison, Policy, Simulation, usual_failures};
use crate::{demo, input, observe, profile, run, table};

/// Keeps stream-processing jobs inside their recovery and latency objectives by choosing, all the
/// time, how often they checkpoint.
#[derive(Debug, Parser)]
#[command(name = "khaos", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See it work: the three phases on the embedded engine, over a day of virtual time.
    Demo(DemoArgs),
    /// The same day under each policy, on the embedded engine.
    Simulate(SimulateArgs),
    /// How well is a workload forecast, and does the bound of its maximum hold?
    Forecast(ForecastArgs),
    /// How well do the models know a job, by recorded trials that they have not seen?
    Fit(FitArgs),
    /// Can a real job be driven, and what should change first? Asks Flink, and takes one checkpoint.
    Doctor(DoctorArgs),
    /// Drive a real job's checkpoints at a fixed interval by hand, live, without a restart.
    Drive(DriveArgs),
    /// A real Flink or Kafka on this machine, to try things on: needs Java 17 and, once, Maven.
    #[command(subcommand)]
    Lab(LabCommand),
    /// A live Kafka topic to disk: keys, values, headers, timestamps and partitions, to be replayed.
    Record(RecordArgs),
    /// A stretch of a recording, or of a topic, once more, into another topic: at its own pace, another one,
    /// or as fast as Kafka takes it.
    Replay(ReplayArgs),
    /// A recording of a topic: show, verify, export its rates.
    #[command(subcommand)]
    Recording(RecordingCommand),
    /// The first phase: follow a job, change nothing, and conclude which loads matter.
    ///
    /// Every minute is in the store as soon as it is over, also those that khaos run records there: they count.
    Observe(ObserveArgs),
    /// The second phase: trials on clones of the job, each broken at its worst moment and measured.
    ///
    /// The job itself is left alone. Every trial is in the store as soon as it is done; whatever ends khaos, the
    /// next one removes what it left and goes on from there. Ctrl-C ends the clones first.
    Profile(ProfileArgs),
    /// Follow a job for as long as it lives: observe, recommend, or keep it in its objectives.
    ///
    /// Every decision that says something new is one line on standard output, logs go to standard
    /// error. Ctrl-C ends it: a driven job goes on at its own interval, a redeployed one at its last. What was
    /// learnt is in the store.
    Run(RunArgs),
}

#[derive(Debug, Args)]
struct DemoArgs {
    /// Seed of the day and of all its noise.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for report.html, result.json and records.sqlite.
    #[arg(long, default_value = "khaos-demo")]
    out: PathBuf,
    /// One JSON document on standard output instead of the story.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct SimulateArgs {
    /// The world: a job on a cluster, by its physics (TOML).
    #[arg(long)]
    world: PathBuf,
    /// The day's workload: CSV with second,events_per_second, one row a minute.
    #[arg(long)]
    workload: PathBuf,
    /// What khaos and paper recorded and profiled before second 0, in the same format (of a folder of `khaos record`,
    /// export the rates); the day's own workload when not given.
    #[arg(long)]
    recording: Option<PathBuf>,
    /// Policies, separated by commas: static:30s (an interval that somebody guessed), young-daly (the
    /// first-order optimum, all day), paper (the published method: sixty trials, two planes, a restart
    /// per change), khaos, khaos:redeploy (where it may not drive), oracle (knows the future).
    #[arg(long, value_delimiter = ',', default_value = "static:30s,khaos,oracle")]
    policies: Vec<Policy>,
    /// Recovery objective.
    #[arg(long, value_parser = seconds)]
    recovery: Seconds,
    /// Latency objective.
    #[arg(long, value_parser = millis)]
    latency: Millis,
    /// Smallest interval.
    #[arg(long, default_value = "10s", value_parser = interval)]
    min_interval: CheckpointInterval,
    /// Largest interval: the fallback.
    #[arg(long, default_value = "120s", value_parser = interval)]
    max_interval: CheckpointInterval,
    /// When failures strike: CSV with second; twelve at quantiles of the load when not given.
    #[arg(long)]
    failures: Option<PathBuf>,
    /// Seed of all noise.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Every dead time as usual and every latency at its mean.
    #[arg(long)]
    no_noise: bool,
    /// One JSON document on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ObserveArgs {
    /// What to follow (TOML; docs/khaos.toml explains every key).
    #[arg(long, default_value = "khaos.toml")]
    config: PathBuf,
    /// For how long, as in 2h; minutes that are in the store count. An hour when not given, or as long as a trial
    /// replays where that is longer.
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    length: Option<Seconds>,
    /// One JSON document on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ProfileArgs {
    /// What to make clones of, and how (TOML; docs/khaos.toml explains every key).
    #[arg(long, default_value = "khaos.toml")]
    config: PathBuf,
    /// Only say which trials would be run, and what they may cost.
    #[arg(long)]
    dry_run: bool,
    /// One JSON document on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// What to follow, and what for (TOML; docs/khaos.toml explains every key).
    #[arg(long, default_value = "khaos.toml")]
    config: PathBuf,
    /// JSON lines on standard output: every record (minute, decision, outcome) as it is stored.
    #[arg(long)]
    json: bool,
}

impl Cli {
    /// Does what was typed.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Demo(args) => demo::run(args.seed, &args.out, args.json)?,
            Command::Simulate(args) => args.run()?,
            Command::Fit(args) => args.run()?,
            Command::Forecast(args) => args.run()?,
            Command::Doctor(args) => return args.run(),
            Command::Drive(args) => args.run()?,
            Command::Lab(command) => return command.run(),
            Command::Record(args) => args.run()?,
            Command::Replay(args) => return args.run(),
            Command::Recording(command) => return command.run(),
            Command::Observe(args) => observe::run(&args.config, args.length, args.json)?,
            Command::Profile(args) => profile::run(&args.config, args.dry_run, args.json)?,
            Command::Run(args) => run::run(&args.config, args.json)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl SimulateArgs {
    fn run(self) -> anyhow::Result<()> {
        let as_json = self.json;
        let policies = self.policies.clone();
        let results = self.read()?.compare(&policies)?;
        print(&results, as_json)
    }

    /// The simulation that was asked for; every error is one of input.
    fn read(self) -> Result<Simulation, BadInput> {
        let workload = input::workload(&self.workload)?;
        let recording = match &self.recording {
            Some(path) => input::workload(path)?,
            None => workload.clone(),
        };
        let bounds = IntervalBounds::new(self.min_interval, self.max_interval)
            .map_err(|error| BadInput(format!("--min-interval, --max-interval: {error}")))?;
        for policy in &self.policies {
            if let Policy::Static(interval) = policy
                && !(bounds.min()..=bounds.max()).contains(interval)
            {
                let (min, max) = (bounds.min(), bounds.max());
                return Err(BadInput(format!(
                    "--policies: {policy} is not between {min} and {max}"
                )));
            }
        }
        let replayed = Patience::default().stretch(bounds.max());
        let needed_s = replayed.lead_s + replayed.hold_s;
        let profiles = |policy: &&Policy| {
            matches!(policy, Policy::Khaos | Policy::KhaosRedeploying | Policy::Paper)
        };
        if let Some(policy) = self.policies.iter().find(profiles)
            && recording.secs() < needed_s
        {
            let from = self.recording.as_deref().unwrap_or(&self.workload).display();
            let minutes = recording.secs() / 60.0;
            let needed = (needed_s / 60.0).ceil();
            return Err(BadInput(format!(
                "{from}: {policy} cannot profile from {minutes} minutes, it replays up to {needed}: \
                 give a longer --recording, or leave {policy} out of --policies"
            )));
        }
        Ok(Simulation {
            world: input::world(&self.world)?,
            failures: match &self.failures {
                Some(path) => input::failures(path, workload.secs())?,
                None => usual_failures(&workload),
            },
            recording,
            workload,
            recovery: self.recovery,
            latency: self.latency,
            bounds,
            seed: self.seed,
            noise: !self.no_noise,
        })
    }
}

fn print(compared: &Comparison, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return say(&format!("{:#}", json!(compared)));
    }
    say(&table::policies(&compared.policies).to_string())?;
    match compared.policies.iter().find_map(|p| p.exposure_if_dead) {
        Some(dead) => {
            let dead = 100.0 * dead;
            say(&format!("With nobody driving, the fallback in force: {dead:.2} % exposure."))
        }
        None => Ok(()),
    }
}
