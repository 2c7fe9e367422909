//! `khaos lab`: a real Flink and a real Kafka on this machine, as long as this runs.

mod load;
mod run;

use std::ffi::OsString;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use khaos_adapters::lab::{
    self, Ended, FlinkVersion, KAFKA_VERSION, Lab, LabConfig, LabError, LabKafka, PacedJob, Phase,
    Rates, Status,
};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use self::load::LoadArgs;
use crate::duration::duration;
use crate::input::BadInput;
use crate::output::say;
use crate::progress::Steps;

/// What can be done with a lab.
#[derive(Debug, Subcommand)]
pub enum LabCommand {
    /// Start Flink and a job whose load is known, or Kafka, or all of it; it ends with Ctrl-C. Or with
    /// `khaos lab down`.
    Up(UpArgs),
    /// The three phases on a real Flink, in about twelve minutes: observe, profile with failures, and
    /// an afternoon with failures under three policies. One minute of its clock passes in five seconds.
    Run(RunArgs),
    /// Send events for one of the lab's jobs to Kafka, by a schedule; made, not recorded: seed, number
    /// and time make each.
    Load(LoadArgs),
    /// End a lab, whoever started it and whether or not that khaos is still alive.
    Down(FolderArgs),
    /// Say what runs.
    Status(StatusArgs),
}

/// Which lab.
#[derive(Debug, Args)]
pub struct FolderArgs {
    /// Run folder of the lab; $XDG_STATE_HOME/khaos/lab or ~/.local/state/khaos/lab when not given.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Which lab, and for whom.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// One JSON document on standard output.
    #[arg(long)]
    json: bool,
}

/// What runs in a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Job {
    /// A source of known rate and work of known capacity on state of known size.
    Paced,
    /// Nothing.
    None,
}

/// Which Flink, and where.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// Version of Flink: 2.3 or 1.20.
    #[arg(long, default_value = "2.3")]
    flink: FlinkVersion,
    #[command(flatten)]
    folder: FolderArgs,
    /// Where Flink and Kafka are kept between labs; $XDG_CACHE_HOME/khaos or ~/.cache/khaos when not given.
    #[arg(long, env = "KHAOS_CACHE")]
    cache: Option<PathBuf>,
    /// What the lab's ports are counted from: REST is 81 above, Kafka 25.
    #[arg(long, default_value_t = 21_000, value_parser = clap::value_parser!(u16).range(1_024..=65_454))]
    port_base: u16,
}

/// A whole run of the lab.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Folder for report.html, result.json, world.toml and records.sqlite.
    #[arg(long, default_value = "khaos-lab")]
    out: PathBuf,
    /// One JSON document on standard output instead of tables.
    #[arg(long)]
    json: bool,
}

/// What a lab is made of.
#[derive(Debug, Args)]
pub struct UpArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// TaskManagers, of two slots each; none, with --kafka, is a lab without Flink.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=9))]
    taskmanagers: u8,
    /// A Kafka broker, too.
    #[arg(long)]
    kafka: bool,
    /// What runs on Flink; paced when not given.
    #[arg(long)]
    job: Option<Job>,
    /// Load of the job, seconds:events/s one after the other, as in 60:2000,60:5000; the last one stays.
    #[arg(long, default_value = "3600:2000")]
    rates: Rates,
    /// What the job sustains, events/s.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..))]
    capacity: u64,
    /// Size of the job's state, bytes.
    #[arg(long, default_value_t = 10_000_000)]
    state_bytes: u64,
    /// Parallelism of the job.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    parallelism: u32,
    /// The job's own checkpoint interval.
    #[arg(long, default_value = "60s", value_parser = millis)]
    interval: u64,
    /// The job's own pause between checkpoints.
    #[arg(long, default_value = "0s", value_parser = millis)]
    min_pause: u64,
}

/// Whole milliseconds, also none.
fn millis(text: &str) -> Result<u64, String> {
    if ["0", "0s", "0ms"].contains(&text) {
        return Ok(0);
    }
    Ok((duration(text)? * 1_000.0).round() as u64)
}

impl LabCommand {
    /// Does what was typed.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
        match self {
            LabCommand::Run(RunArgs { cluster, out, json }) => {
                run::run(cluster.config()?, cluster.flink, &out, json)?;
            }
            LabCommand::Load(args) => return args.run(),
            LabCommand::Up(args) => runtime()?.block_on(args.run())?,
            LabCommand::Down(args) => runtime()?.block_on(args.down())?,
            LabCommand::Status(args) => args.run()?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl ClusterArgs {
    fn config(&self) -> Result<LabConfig, BadInput> {
        let cache = match &self.cache {
            Some(cache) => cache.clone(),
            None => default_folder("XDG_CACHE_HOME", ".cache", "khaos", "--cache")?,
        };
        Ok(LabConfig {
            port_base: self.port_base,
            version: self.flink,
            ..LabConfig::new(self.folder.folder()?, cache)
        })
    }
}

impl UpArgs {
    async fn run(self) -> anyhow::Result<()> {
        let (config, job) = self.read()?;
        let steps = Steps::new();
        // From here on: whoever wants us to end gets a lab that is taken down, at every moment.
        let mut stop = std::pin::pin!(asked_to_stop()?);
        let started = tokio::select! {
            biased;
            () = &mut stop => None,
            started = start(config, job.as_ref(), &steps) => Some(started?),
        };
        let Some((mut lab, job_id)) = started else {
            return say("Stopped before the lab was up.");
        };
        drop(steps);
        let ended = match announce(&lab, &self, job.as_ref(), job_id.as_deref()) {
            Ok(()) => tokio::select! {
                biased;
                () = &mut stop => Ok("The lab is down."),
                ended = lab.watch() => match ended {
                    LabError::TakenDown => Ok("The lab was taken down by another khaos."),
                    failure => Err(failure.into()),
                },
            },
            Err(failure) => Err(failure),
        };
        lab.down().await?;
        say(ended?)
    }

    /// The lab and the job that were asked for; every error is one of input.
    fn read(&self) -> Result<(LabConfig, Option<PacedJob>), BadInput> {
        let config = LabConfig {
            task_managers: self.taskmanagers,
            kafka: self.kafka.then(LabKafka::default),
            ..self.cluster.config()?
        };
        match (self.taskmanagers, self.kafka, self.job) {
            (0, false, _) => {
                let nothing = "--taskmanagers 0: nothing is left; give --kafka for a broker alone";
                return Err(BadInput(nothing.to_owned()));
            }
            (0, true, Some(Job::Paced)) => {
                let nowhere =
                    "--job paced: there is no Flink with --taskmanagers 0; give it 1 or more";
                return Err(BadInput(nowhere.to_owned()));
            }
            (0, true, _) | (_, _, Some(Job::None)) => return Ok((config, None)),
            (_, _, Some(Job::Paced) | None) => {}
        }
        let slots = config.total_slots();
        if self.parallelism > slots {
            let asked = self.parallelism;
            return Err(BadInput(format!(
                "--parallelism {asked}: there are {slots} slots, two for each of --taskmanagers"
            )));
        }
        if self.interval < 10 {
            return Err(BadInput("--interval: Flink takes no less than 10ms".to_owned()));
        }
        let job = PacedJob {
            rates: self.rates.clone(),
            capacity: self.capacity,
            state_bytes: self.state_bytes,
            parallelism: self.parallelism,
            flink_configuration: [("interval", self.interval), ("min-pause", self.min_pause)]
                .map(|(key, ms)| (format!("execution.checkpointing.{key}"), format!("{ms} ms")))
                .into(),
            ..PacedJob::default()
        };
        Ok((config, Some(job)))
    }
}

async fn start(
    config: LabConfig,
    job: Option<&PacedJob>,
    steps: &Steps,
) -> Result<(Lab, Option<String>), LabError> {
    let lab = Lab::up(config, |message| steps.step(message)).await?;
    let Some(job) = job else { return Ok((lab, None)) };
    steps.step(&format!("Submitting job {}", job.name));
    let target = lab.submit(job).await?;
    Ok((lab, Some(target.id().to_owned())))
}

fn announce(
    lab: &Lab,
    args: &UpArgs,
    job: Option<&PacedJob>,
    job_id: Option<&str>,
) -> anyhow::Result<()> {
    if args.taskmanagers > 0 {
        say(&format!("Flink {} is up: {}", args.cluster.flink, lab.rest_url()))?;
    }
    if let Some(bootstrap) = lab.bootstrap() {
        say(&format!("Kafka {KAFKA_VERSION} is up: {bootstrap}"))?;
    }
    if let (Some(job), Some(id)) = (job, job_id) {
        say(&format!("Job {}: {id}", job.name))?;
    }
    let dir = match &args.cluster.folder.dir {
        Some(_) => format!(" --dir '{}'", lab.folder().display()),
        None => String::new(),
    };
    say(&format!("In another terminal: khaos lab status{dir}"))?;
    say("Ctrl-C ends it.")
}

/// Becomes ready when somebody wants this process to end. Listens from the call on, not from the first
/// poll, so that no signal is too early.
pub(crate) fn asked_to_stop() -> anyhow::Result<impl Future<Output = ()>> {
    let listen = |kind| signal(kind).context("signals cannot be listened to");
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

impl FolderArgs {
    fn folder(&self) -> Result<PathBuf, BadInput> {
        match &self.dir {
            Some(dir) => Ok(dir.clone()),
            None => default_folder("XDG_STATE_HOME", ".local/state", "khaos/lab", "--dir"),
        }
    }

    async fn down(self) -> anyhow::Result<()> {
        let folder = self.folder()?;
        let done = match lab::down(&folder).await? {
            Ended::Nothing => format!("There is no lab in {}.", folder.display()),
            Ended::Supervised => "The lab is down.".to_owned(),
            Ended::Left(0) => "The lab had ended already; its folder is gone now.".to_owned(),
            Ended::Left(1) => {
                "The lab is down: 1 process ran that no khaos looked after.".to_owned()
            }
            Ended::Left(left) => {
                format!("The lab is down: {left} processes ran that no khaos looked after.")
            }
        };
        say(&done)
    }
}

/// A folder as the XDG base directory specification places it.
fn default_folder(
    variable: &str,
    in_home: &str,
    name: &str,
    flag: &str,
) -> Result<PathBuf, BadInput> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    // The specification: a path that is not absolute is to be ignored.
    let absolute = |value: OsString| Some(PathBuf::from(value)).filter(|path| path.is_absolute());
    set(variable)
        .and_then(absolute)
        .or_else(|| set("HOME").and_then(absolute).map(|home| home.join(in_home)))
        .map(|base| base.join(name))
        .ok_or_else(|| BadInput(format!("HOME is not set: say with {flag} which folder to use")))
}

impl StatusArgs {
    fn run(self) -> anyhow::Result<()> {
        let status = lab::status(&self.folder.folder()?)?;
        if self.json {
            return say(&format!("{:#}", json!(status)));
        }
        say(&in_words(&status))
    }
}

fn in_words(status: &Status) -> String {
    let folder: &Path = &status.folder;
    let folder = folder.display();
    let down = format!("`khaos lab down --dir '{folder}'`");
    let of = |program: &str, version: &Option<String>, address: &Option<String>| {
        Some((format!("{program} {}", version.as_ref()?), address.clone()?))
    };
    let flink = of("Flink", &status.flink, &status.rest_url);
    let parts = [flink, of("Kafka", &status.kafka, &status.bootstrap)].into_iter().flatten();
    let list = |between: &str, join: &str| {
        let parts = parts.clone().map(|(name, address)| format!("{name}{between}{address}"));
        parts.collect::<Vec<_>>().join(join)
    };
    let mut lines = vec![match status.phase {
        Phase::None => format!("There is no lab in {folder}."),
        Phase::Starting => format!("A lab is starting in {folder}."),
        Phase::Up => list(" is up: ", "\n"),
        Phase::Abandoned => format!(
            "A lab runs ({}), but the khaos that supervised it is dead: {down} ends it.",
            list(" at ", ", ")
        ),
        Phase::Ended => {
            format!("The lab in {folder} has ended; what is left is in logs/. {down} removes it.")
        }
    }];
    if let Some(pid) = status.supervisor {
        lines.push(format!("  {:<14} pid {pid}", "khaos"));
    }
    lines.extend(status.processes.iter().map(|process| match process.pid {
        Some(pid) => format!("  {:<14} pid {pid}", process.role.to_string()),
        None => format!("  {:<14} dead", process.role.to_string()),
    }));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_may_be_nothing() {
        for (text, ms) in [("0s", 0), ("0", 0), ("500ms", 500), ("1s", 1_000), ("1.5s", 1_500)] {
            assert_eq!(millis(text), Ok(ms), "{text}");
        }
        assert!(millis("soon").is_err());
    }
}
