//! What the user can type.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use khaos_core::profile::IntervalBounds;
use khaos_core::units::{CheckpointInterval, Millis, Seconds};
use serde_json::json;

use crate::input;
use crate::simulate::watched::unwatched;
use crate::simulate::{Policy, Simulation, usual_failures};

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
    /// The same day under each policy, on the embedded engine.
    Simulate(SimulateArgs),
}

#[derive(Debug, Args)]
struct SimulateArgs {
    /// The world: a job on a cluster, by its physics (TOML).
    #[arg(long)]
    world: PathBuf,
    /// The day's workload: CSV with second,events_per_second, one row a minute.
    #[arg(long)]
    workload: PathBuf,
    /// What khaos recorded and profiled before second 0, in the same format; the day's own workload
    /// when not given.
    #[arg(long)]
    recording: Option<PathBuf>,
    /// Policies, separated by commas: khaos, oracle, static:30s.
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

fn duration(text: &str) -> Result<f64, String> {
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3_600.0)];
    units
        .iter()
        .find_map(|(unit, seconds)| {
            let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
            (number.is_finite() && number > 0.0).then_some(number * seconds)
        })
        .ok_or_else(|| format!("'{text}' is no length of time: use for example 500ms, 30s or 4m"))
}

fn seconds(text: &str) -> Result<Seconds, String> {
    Seconds::new(duration(text)?).map_err(|error| error.to_string())
}

fn millis(text: &str) -> Result<Millis, String> {
    Millis::new(duration(text)? * 1_000.0).map_err(|error| error.to_string())
}

fn interval(text: &str) -> Result<CheckpointInterval, String> {
    let seconds = duration(text)?;
    if seconds.fract() > 1e-9 || seconds > f64::from(u32::MAX) {
        return Err(format!("'{text}' is no interval: intervals are whole seconds"));
    }
    CheckpointInterval::from_secs(seconds as u32).map_err(|error| error.to_string())
}

impl Cli {
    /// Does what was typed.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Simulate(args) => args.run(),
        }
    }
}

impl SimulateArgs {
    #[allow(clippy::print_stdout, reason = "the command's result")]
    fn run(self) -> anyhow::Result<ExitCode> {
        let workload = input::workload(&self.workload)?;
        let simulation = Simulation {
            world: input::world(&self.world)?,
            recording: match &self.recording {
                Some(path) => input::workload(path)?,
                None => workload.clone(),
            },
            failures: match &self.failures {
                Some(path) => input::failures(path, workload.secs())?,
                None => usual_failures(&workload),
            },
            workload,
            recovery: self.recovery,
            latency: self.latency,
            bounds: IntervalBounds::new(self.min_interval, self.max_interval)
                .context("--min-interval and --max-interval")?,
            seed: self.seed,
            noise: !self.no_noise,
        };
        let learnt = if self.policies.contains(&Policy::Khaos) {
            simulation.rehearse(unwatched())?.learnt()
        } else {
            Vec::new()
        };
        let mut policies = Vec::new();
        for &policy in &self.policies {
            policies.push(simulation.live(policy, &learnt, unwatched())?.result);
        }
        let result = json!({ "policies": policies, "virtual_s": simulation.workload.secs() });
        println!("{result:#}");
        Ok(ExitCode::SUCCESS)
    }
}
