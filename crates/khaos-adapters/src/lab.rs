//! A real Flink and a real Kafka on this machine, to try Khaos on: one JobManager and some TaskManagers, one
//! broker, or either without the other. Each is a process of its own, all bound to loopback (but Flink's
//! Prometheus reporter, which cannot be).
//!
//! The story of [`Lab::up`], one file each: *install* (the jars and the job, once, by Maven) → *folder*
//! (one lab at a time, nobody else's files) → *config* (ports, `config.yaml`), *broker*
//! (`server.properties`) → *process* (start, watch, end) → ready → *submit* → *deliveries*. What was
//! measured is in `lab/README.md`. A lab can be broken, too: *injector* breaks one job's TaskManager, and
//! *supervise* starts again what died or hangs.
//!
//! Nothing stays behind: [`Lab::down`] ends the processes in order and removes the run folder, dropping
//! a lab does so by force, and what a killed khaos left is found by the *marks* that the processes carry,
//! by the next [`Lab::up`] or [`down`], which with [`status`] is how a lab is met from *outside*.

mod broker;
mod config;
mod deliveries;
mod error;
mod folder;
mod injector;
mod install;
mod log;
mod marks;
mod outside;
mod process;
mod submit;
mod supervise;
mod version;

use std::collections::BTreeMap;
use std::fmt;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use reqwest::Client;
use serde_json::Value;
use tokio::time::{Duration, Instant, sleep_until};

use khaos_control::ports::PortError;

use self::config::{LOG4J, Ports, config_yaml};
use self::folder::{RunFolder, State};
use self::install::Installed;
use self::marks::end_leftovers;
use self::process::{Process, SERVER_PROPERTIES, end, in_words, log_ends_with};
use crate::flink::Submission;

pub use self::broker::LabKafka;
pub use self::deliveries::{Delivered, delivered};
pub use self::error::LabError;
pub use self::injector::{Aimed, Broken, LabInjector, LabTarget};
pub use self::log::PacedLog;
pub use self::outside::{Ended, Phase, ProcessStatus, Status, down, status};
pub use self::process::Role;
pub use self::submit::{KafkaJob, PacedJob, Pipeline, PipelineJob, Rates, Then};
pub use self::version::{FlinkVersion, KAFKA_VERSION};

/// What a lab is made of.
#[derive(Debug, Clone)]
pub struct LabConfig {
    /// Its run folder: absent, empty, or left by an earlier lab. It goes when the lab goes.
    pub folder: PathBuf,
    /// Where the jars of Flink and Kafka and the job are kept between labs.
    pub cache: PathBuf,
    /// What its ports are counted from: REST is 81 above. 1024 to 65454.
    pub port_base: u16,
    /// Which Flink.
    pub version: FlinkVersion,
    /// How many TaskManagers, 1 to 9; beside a broker also none, and then no JobManager either.
    pub task_managers: u8,
    /// Slots of each of them, at least 1. With one, no two jobs share a TaskManager.
    pub slots: u8,
    /// Flink configuration that replaces the lab's usual one; not its ports.
    pub flink: BTreeMap<String, String>,
    /// Its Kafka broker, if it has one.
    pub kafka: Option<LabKafka>,
}

impl LabConfig {
    /// Two TaskManagers of two slots each, of the newest Flink, no Kafka, ports from 21000.
    pub fn new(folder: impl Into<PathBuf>, cache: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            cache: cache.into(),
            port_base: 21_000,
            version: FlinkVersion::default(),
            task_managers: 2,
            slots: 2,
            flink: BTreeMap::new(),
            kafka: None,
        }
    }

    /// A Kafka broker, no Flink.
    pub fn only_kafka(folder: impl Into<PathBuf>, cache: impl Into<PathBuf>) -> Self {
        Self { task_managers: 0, kafka: Some(LabKafka::default()), ..Self::new(folder, cache) }
    }

    /// How many slots the lab has in all.
    pub fn total_slots(&self) -> u32 {
        u32::from(self.task_managers) * u32::from(self.slots)
    }

    fn has_flink(&self) -> bool {
        self.task_managers > 0
    }

    fn roles(&self) -> impl Iterator<Item = Role> + use<> {
        roles(self.task_managers, self.kafka.is_some())
    }

    /// What runs, in words.
    fn parts(&self) -> String {
        let flink =
            format!("Flink {}: a JobManager, TaskManagers: {}", self.version, self.task_managers);
        let kafka = format!("Kafka {KAFKA_VERSION}: a broker");
        match (self.has_flink(), &self.kafka) {
            (true, None) => flink,
            (true, Some(_)) => format!("{flink}; {kafka}"),
            (false, _) => kafka,
        }
    }

    fn refuse_impossible(&self) -> Result<(), LabError> {
        let fewest = u8::from(self.kafka.is_none());
        if !(fewest..=9).contains(&self.task_managers) {
            return Err(LabError::TaskManagers { asked: self.task_managers });
        }
        if self.slots == 0 {
            return Err(LabError::Slots);
        }
        if !(1_024..=65_454).contains(&self.port_base) {
            return Err(LabError::PortBase { base: self.port_base });
        }
        Ok(())
    }

    fn refuse_without_flink(&self) -> Result<(), LabError> {
        let without = LabError::Without { what: "Flink", setting: "task_managers" };
        if self.has_flink() { Ok(()) } else { Err(without) }
    }
}

/// Flink's roles, where there are TaskManagers, and the broker's.
fn roles(task_managers: u8, kafka: bool) -> impl Iterator<Item = Role> {
    let job_manager = (task_managers > 0).then_some(Role::JobManager);
    let broker = kafka.then_some(Role::Broker);
    job_manager.into_iter().chain((1..=task_managers).map(Role::TaskManager)).chain(broker)
}

/// How long the processes have until all of them are registered: ten times what was measured.
const READY: Duration = Duration::from_mins(3);
/// How often the lab looks at its processes.
const LOOK: Duration = Duration::from_millis(100);
/// How long a supervising khaos has to take its lab down: two graces and a removal.
const TAKE_DOWN: Duration = Duration::from_secs(20);

/// A Flink, a Kafka or both, running. Dropping it kills its processes and removes its folder.
#[derive(Debug)]
pub struct Lab {
    // Before the folder: fields are dropped in this order, and the processes write into the folder.
    processes: BTreeMap<Role, Process>,
    folder: RunFolder,
    config: LabConfig,
    installed: Installed,
    ports: Ports,
    rest_url: String,
    bootstrap: Option<String>,
    client: Client,
    starts: u32,
}

/// A process of a lab that ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exited {
    /// Which.
    pub role: Role,
    /// How, in words.
    pub how: String,
    /// How long after its start.
    pub after: Duration,
    /// The end of its log, in one line.
    pub log: String,
}

impl fmt::Display for Exited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, how, log, .. } = self;
        write!(f, "the {role} died {how}; its log ends with: {log}")
    }
}

impl Lab {
    /// Starts a lab and waits until all of it is ready; `report` is told each step.
    ///
    /// Ends what an earlier khaos left in the same folder. When the start fails, the logs stay in the
    /// run folder; when the future is dropped, nothing does.
    pub async fn up(config: LabConfig, report: impl Fn(&str)) -> Result<Self, LabError> {
        config.refuse_impossible()?;
        let mut folder = RunFolder::take(&config.folder).await?;
        let left = end_leftovers(folder.path()).await?;
        if left > 0 {
            report(&format!("Ended {left} processes that an earlier khaos left"));
        }
        folder.prepare()?;
        let ports = Ports { base: config.port_base };
        config.roles().try_for_each(|role| refuse_taken(ports, role))?;
        let installed = tokio::select! {
            biased;
            installed = install::install(&config, &report) => installed?,
            () = is_to_end(&folder) => return Err(LabError::TakenDown),
        };
        let mut lab = Self::configured(config, ports, folder, installed)?;
        report(&format!("Starting {}", lab.config.parts()));
        match lab.start().await {
            Ok(()) => Ok(lab),
            Err(LabError::TakenDown) => Err(LabError::TakenDown),
            Err(failure) => Err(lab.folder.keep_logs(failure)),
        }
    }

    fn configured(
        config: LabConfig,
        ports: Ports,
        folder: RunFolder,
        installed: Installed,
    ) -> Result<Self, LabError> {
        if config.has_flink() {
            folder.write("conf/config.yaml", &config_yaml(folder.path(), &config))?;
        }
        if let Some(kafka) = &config.kafka {
            let text = broker::server_properties(folder.path(), ports, kafka);
            folder.write(SERVER_PROPERTIES, &text)?;
        }
        let bootstrap = config.kafka.is_some().then(|| format!("127.0.0.1:{}", ports.broker()));
        folder.write("conf/log4j.properties", LOG4J)?;
        let rest_url = format!("http://127.0.0.1:{}", ports.rest());
        // No proxy, whatever the environment says: this is loopback.
        let client = Client::builder().no_proxy().timeout(Duration::from_mins(1)).build();
        let client = client.map_err(|source| LabError::Rest { url: rest_url.clone(), source })?;
        let processes = BTreeMap::new();
        Ok(Self {
            processes,
            folder,
            config,
            installed,
            ports,
            rest_url,
            bootstrap,
            client,
            starts: 0,
        })
    }

    async fn start(&mut self) -> Result<(), LabError> {
        self.tell(false)?;
        if self.config.kafka.is_some() {
            self.format_storage().await?;
        }
        for role in self.config.roles() {
            self.spawn(role)?;
        }
        self.ready().await?;
        self.tell(true)
    }

    /// By Kafka's own tool: a broker whose folder only looks like its work has none of the newer features.
    async fn format_storage(&mut self) -> Result<(), LabError> {
        let mut tool = process::format(&self.installed, &self.folder)?;
        let deadline = Instant::now() + READY;
        loop {
            if self.folder.is_to_end() {
                return Err(LabError::TakenDown);
            }
            let ended = tool.ended();
            if ended.is_some_and(|status| status.success()) {
                return Ok(());
            }
            let late = (Instant::now() >= deadline).then(|| "unfinished".to_owned());
            if let Some(how) = ended.map(in_words).or(late) {
                let (after, log) = (tool.started().elapsed(), tool.log_ends_with());
                return Err(LabError::Died(Exited { role: Role::Broker, how, after, log }));
            }
            sleep_until(Instant::now() + process::POLL).await;
        }
    }

    fn tell(&self, ready: bool) -> Result<(), LabError> {
        let has_flink = self.config.has_flink();
        self.folder.tell(&State {
            flink: has_flink.then(|| self.config.version.to_string()),
            rest_url: has_flink.then(|| self.rest_url.clone()),
            task_managers: self.config.task_managers,
            kafka: self.config.kafka.is_some().then(|| KAFKA_VERSION.to_owned()),
            bootstrap: self.bootstrap.clone(),
            supervisor: std::process::id(),
            ready,
        })
    }

    fn spawn(&mut self, role: Role) -> Result<(), LabError> {
        if !self.processes.contains_key(&role) {
            self.starts += 1;
            let started =
                process::spawn(role, self.starts, &self.installed, &self.folder, self.ports)?;
            self.processes.insert(role, started);
        }
        Ok(())
    }

    /// Waits until REST answers and exactly those TaskManagers are registered that run, with all their
    /// slots, and until the broker, where it runs, serves clients. At once where that is so; an error after
    /// 180 s, or when a process dies meanwhile.
    pub async fn ready(&mut self) -> Result<(), LabError> {
        let deadline = Instant::now() + READY;
        loop {
            self.refuse_ended()?;
            let Err((role, missing)) = self.is_ready().await else { return Ok(()) };
            if Instant::now() >= deadline {
                let log = log_ends_with(&self.folder.log(&role.to_string()));
                return Err(LabError::NotReady { waited_s: READY.as_secs(), missing, role, log });
            }
            sleep_until(Instant::now() + LOOK).await;
        }
    }

    /// What is missing, in words, and who knows more.
    async fn is_ready(&self) -> Result<(), (Role, String)> {
        if self.config.has_flink() {
            self.flink_is_ready().await.map_err(|missing| (Role::JobManager, missing))?;
        }
        let (Some(kafka), Some(bootstrap)) = (&self.config.kafka, &self.bootstrap) else {
            return Ok(());
        };
        if self.processes.contains_key(&Role::Broker) {
            let served = broker::serves(bootstrap, kafka).await;
            served.map_err(|missing| (Role::Broker, missing))?;
        }
        Ok(())
    }

    async fn flink_is_ready(&self) -> Result<(), String> {
        let url = format!("{}/overview", self.rest_url);
        let asked = self.client.get(&url).timeout(Duration::from_secs(5)).send().await;
        let answered = asked.and_then(reqwest::Response::error_for_status);
        let Ok(response) = answered else { return Err(format!("{url} does not answer")) };
        let overview: Value = response.json().await.map_err(|error| error.to_string())?;
        let running = self.processes.keys().filter(|role| role.is_taskmanager()).count();
        let registered = overview["taskmanagers"].as_u64();
        let slots = overview["slots-total"].as_u64();
        let expected = running as u64;
        if registered == Some(expected) && slots == Some(expected * u64::from(self.config.slots)) {
            return Ok(());
        }
        let registered = registered.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
        Err(format!("TaskManagers registered: {registered}, running: {expected}"))
    }

    /// Where Flink's REST interface is, in a lab with Flink.
    pub fn rest_url(&self) -> &str {
        &self.rest_url
    }

    /// Where Kafka's clients begin, `127.0.0.1:PORT`, in a lab with a broker.
    pub fn bootstrap(&self) -> Option<&str> {
        self.bootstrap.as_deref()
    }

    /// A program of Kafka's distribution by the name of its class, as its scripts start it, to be given
    /// its arguments: `org.apache.kafka.tools.ProducerPerformance`, say. In a lab with a broker.
    pub fn kafka_program(&self, class: &str) -> Option<Command> {
        self.config.kafka.as_ref().map(|_| process::kafka_program(class, &self.installed))
    }

    /// The run folder, by its one absolute name.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The processes that were started and not killed, with their pids.
    pub fn processes(&self) -> Vec<(Role, u32)> {
        self.processes.iter().map(|(role, process)| (*role, process.pid())).collect()
    }

    /// Runs a job, which this lab may break.
    pub async fn submit(&self, job: &PacedJob) -> Result<LabTarget, LabError> {
        self.config.refuse_without_flink()?;
        self.run(&self.submission(job)).await
    }

    /// Runs a job that reads topics of the broker, which this lab may break; its jar is built where no lab has
    /// needed it yet. In a lab of Flink 2 with a broker.
    pub async fn submit_kafka(
        &self,
        job: &KafkaJob,
        report: impl Fn(&str),
    ) -> Result<LabTarget, LabError> {
        let (jar, bootstrap) = self.kafka_jar(report).await?;
        self.run(&job.submission(&jar, bootstrap)).await
    }

    /// Runs one of the paper's jobs, which this lab may break, under the same conditions. Its input is there and has
    /// a partition for each subtask.
    pub async fn submit_pipeline(
        &self,
        job: &PipelineJob,
        report: impl Fn(&str),
    ) -> Result<LabTarget, LabError> {
        let submission = self.pipeline(job, report).await?;
        if let Some(bootstrap) = self.bootstrap() {
            job.refuse_idle_subtasks(broker::partitions(bootstrap, &job.input).await?)?;
        }
        self.run(&submission).await
    }

    /// What it takes to run `job` by other means than [`Lab::submit_pipeline`], as often as is wanted.
    pub async fn pipeline(
        &self,
        job: &PipelineJob,
        report: impl Fn(&str),
    ) -> Result<Submission, LabError> {
        let (jar, bootstrap) = self.kafka_jar(report).await?;
        Ok(job.submission(&jar, bootstrap))
    }

    /// The jar of the jobs that read Kafka, and where that is.
    async fn kafka_jar(&self, report: impl Fn(&str)) -> Result<(PathBuf, &str), LabError> {
        self.config.refuse_without_flink()?;
        if !self.config.version.flink.starts_with("2.") {
            return Err(LabError::Without { what: "Flink 2", setting: "version" });
        }
        let without = LabError::Without { what: "Kafka", setting: "kafka" };
        let bootstrap = self.bootstrap().ok_or(without)?;
        Ok((install::kafka_job(&self.config.cache, &report).await?, bootstrap))
    }

    async fn run(&self, job: &Submission) -> Result<LabTarget, LabError> {
        let id = submit::submit(&self.client, &self.rest_url, job).await?;
        Ok(LabTarget::submitted(id, &job.name))
    }

    /// What breaks jobs of this lab, also while it is supervised.
    pub fn injector(&self) -> Result<LabInjector, PortError> {
        LabInjector::at(self.folder(), &self.rest_url)
    }

    /// What it takes to run `job` by other means than [`Lab::submit`], as often as is wanted.
    pub fn submission(&self, job: &PacedJob) -> Submission {
        job.submission(&self.installed.job_jar)
    }

    /// Kills the JobManager (SIGKILL), where it runs. Its jobs and uploaded jars are lost with it.
    pub fn kill_jobmanager(&mut self) {
        self.processes.remove(&Role::JobManager);
    }

    /// Starts the JobManager, where it does not run. [`Lab::ready`] waits for it.
    pub fn start_jobmanager(&mut self) -> Result<(), LabError> {
        self.config.refuse_without_flink()?;
        self.spawn(Role::JobManager)
    }

    /// Kills TaskManager `n`, from 1 (SIGKILL), where it runs.
    pub fn kill_taskmanager(&mut self, n: u8) {
        self.processes.remove(&Role::TaskManager(n));
    }

    /// Starts TaskManager `n`, from 1, where it does not run, under a new name in Flink. [`Lab::ready`]
    /// waits for it, and for Flink to forget the one before.
    pub fn start_taskmanager(&mut self, n: u8) -> Result<(), LabError> {
        self.config.refuse_without_flink()?;
        if !(1..=9).contains(&n) {
            return Err(LabError::TaskManagers { asked: n });
        }
        self.spawn(Role::TaskManager(n))
    }

    /// Kills the broker (SIGKILL), where it runs. What it has stays in the run folder.
    pub fn kill_broker(&mut self) {
        self.processes.remove(&Role::Broker);
    }

    /// Starts the broker, where it does not run, on what it had. [`Lab::ready`] waits for it.
    pub fn start_broker(&mut self) -> Result<(), LabError> {
        if self.config.kafka.is_none() {
            return Err(LabError::Without { what: "Kafka", setting: "kafka" });
        }
        self.spawn(Role::Broker)
    }

    /// A process that ended by itself since this was asked last, if any.
    pub fn exited(&mut self) -> Option<Exited> {
        let (role, status) = self
            .processes
            .iter_mut()
            .find_map(|(role, process)| Some((*role, process.ended()?)))?;
        let process = self.processes.remove(&role)?;
        let (after, log) = (process.started().elapsed(), process.log_ends_with());
        Some(Exited { role, how: in_words(status), after, log })
    }

    fn refuse_ended(&mut self) -> Result<(), LabError> {
        // The wish first: whoever ends the processes of a lab says so before.
        if self.folder.is_to_end() {
            return Err(LabError::TakenDown);
        }
        self.exited().map_or(Ok(()), |exited| Err(LabError::Died(exited)))
    }

    /// Watches over the lab until it cannot go on: a process died by itself, and the logs will be kept,
    /// or another khaos wants it to end. [`Lab::down`] is what has to follow.
    pub async fn watch(&mut self) -> LabError {
        self.look(Self::refuse_ended).await
    }

    /// Looks again and again, until that fails.
    async fn look(&mut self, mut at: impl FnMut(&mut Self) -> Result<(), LabError>) -> LabError {
        loop {
            match at(self) {
                Ok(()) => sleep_until(Instant::now() + LOOK).await,
                Err(LabError::TakenDown) => return LabError::TakenDown,
                Err(failure) => return self.folder.keep_logs(failure),
            }
        }
    }

    /// Ends the processes, at first politely, and removes the run folder.
    pub async fn down(self) -> Result<(), LabError> {
        let Self { processes, folder, .. } = self;
        end(processes.into_values()).await;
        folder.leave()
    }
}

fn refuse_taken(ports: Ports, role: Role) -> Result<(), LabError> {
    let loopback = ports.loopback(role).into_iter().map(|port| ("127.0.0.1", port));
    let everywhere = ports.everywhere(role).map(|port| ("0.0.0.0", port));
    loopback.chain(everywhere).try_for_each(|(host, port)| {
        let free = TcpListener::bind((host, port)).map(drop);
        free.map_err(|_| LabError::PortTaken { port, base: ports.base })
    })
}

async fn is_to_end(folder: &RunFolder) {
    while !folder.is_to_end() {
        sleep_until(Instant::now() + LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_what_chooses_another() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let ports = Ports { base: port - 81 };
        let error = refuse_taken(ports, Role::JobManager).unwrap_err().to_string();
        assert!(error.contains(&format!("port {port} is taken")), "{error}");
        assert!(error.contains("--port-base"), "{error}");
    }

    #[tokio::test]
    async fn what_no_lab_can_be_is_refused_before_anything_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let usual = LabConfig::new(dir.path().join("lab"), dir.path().join("cache"));
        for config in [
            LabConfig { task_managers: 0, ..usual.clone() },
            LabConfig { task_managers: 10, ..usual.clone() },
            LabConfig { task_managers: 10, kafka: Some(LabKafka::default()), ..usual.clone() },
            LabConfig { slots: 0, ..usual.clone() },
            LabConfig { port_base: 80, ..usual.clone() },
            LabConfig { port_base: 65_500, ..usual.clone() },
        ] {
            let refused = Lab::up(config, |_| ()).await.unwrap_err();
            assert!(refused.to_string().contains("choose"), "{refused}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn where_no_lab_is_there_is_nothing_to_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lab");
        assert_eq!(down(&path).await.unwrap(), Ended::Nothing);
        let status = status(&path).unwrap();
        assert_eq!((status.phase, status.processes.len()), (Phase::None, 0));
        assert!(!path.exists());
    }
}
