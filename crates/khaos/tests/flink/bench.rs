//! A real Flink of one version, with jobs on it.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use khaos_adapters::flink::Flink;
use khaos_adapters::lab::{FlinkVersion, Lab, LabConfig, PacedJob};
use khaos_control::clock::Clock;
use khaos_control::contract::Bench;
use khaos_control::ports::{Checkpoints, Jobs};
use khaos_core::job::{CompletedCheckpoint, JobKey, JobRun, JobStatus};
use khaos_core::units::Timestamp;
use tempfile::TempDir;

/// What arrives at each job, events/s.
pub(crate) const RATE: u64 = 1_000;

/// A lab in a folder of its own, which goes with it.
pub(crate) struct Cluster {
    pub(crate) lab: Lab,
    pub(crate) clock: Clock,
    pub(crate) flink: Flink,
    folder: TempDir,
}

/// How a job checkpoints by itself.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    /// Driven checkpoints replace its own.
    Full,
    /// As full, and checkpoints overtake what stands in buffers.
    Unaligned,
    /// Driven checkpoints come on top of its own.
    Assist,
}

impl Cluster {
    pub(crate) async fn up(version: &str, port_base: u16, task_managers: u8) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let cache = std::env::var_os("KHAOS_CACHE").map(PathBuf::from);
        let cache = cache.unwrap_or(workspace.join("target/lab-cache"));
        let config = LabConfig {
            port_base,
            task_managers,
            version: version.parse::<FlinkVersion>().unwrap(),
            ..LabConfig::new(folder.path().join("lab"), cache)
        };
        let lab = Lab::up(config, |step| println!("flink {version}: {step}")).await.unwrap();
        let clock = khaos::clock::anchored();
        let flink = Flink::at(lab.rest_url(), clock).unwrap();
        Self { lab, clock, flink, folder }
    }

    /// A folder for what a job goes on writing until the lab is down: it goes with the cluster.
    pub(crate) fn folder(&self) -> TempDir {
        tempfile::tempdir_in(self.folder.path()).unwrap()
    }

    /// Submits a job whose own interval is `own_s`, and waits until it runs.
    pub(crate) async fn job(&self, name: &str, mode: Mode, own_s: u32) -> JobRun {
        let pause_s = if let Mode::Assist = mode { 0 } else { own_s };
        let unaligned = matches!(mode, Mode::Unaligned);
        let job = PacedJob {
            name: name.to_owned(),
            rates: format!("3600:{RATE}").parse().unwrap(),
            parallelism: 1,
            flink_configuration: BTreeMap::from([
                ("execution.checkpointing.interval".to_owned(), format!("{own_s} s")),
                ("execution.checkpointing.min-pause".to_owned(), format!("{pause_s} s")),
                ("execution.checkpointing.unaligned.enabled".to_owned(), unaligned.to_string()),
            ]),
            ..PacedJob::default()
        };
        self.lab.submit(&job).await.unwrap();
        self.running(name).await
    }

    pub(crate) async fn running(&self, name: &str) -> JobRun {
        self.wait_for(&format!("{name} to run"), 180.0, async || {
            let run = self.flink.describe(&JobKey(name.to_owned())).await.ok()?;
            (run.status == JobStatus::Running).then_some(run)
        })
        .await
    }

    pub(crate) fn bench(&self, run: &JobRun) -> Bench {
        let flink = Arc::new(self.flink.clone());
        Bench {
            clock: self.clock,
            jobs: flink.clone(),
            metrics: flink.clone(),
            checkpoints: flink,
            job: run.key.clone(),
        }
    }

    /// What completed since `from`, without gaps.
    pub(crate) async fn completed(
        &self,
        run: &JobRun,
        from: Timestamp,
    ) -> Vec<CompletedCheckpoint> {
        let history = self.flink.history(&run.engine_id).await.unwrap();
        assert!(history.complete_since <= from, "some checkpoints were missed: {history:?}");
        history.completed.into_iter().filter(|c| c.completed_at >= from).collect()
    }

    pub(crate) async fn pause(&self, seconds: f64) {
        self.clock.sleep_until(self.clock.now().plus_secs(seconds)).await;
    }

    /// Looks four times a second until `look` finds something, at most for `deadline_s`.
    pub(crate) async fn wait_for<T, F>(
        &self,
        what: &str,
        deadline_s: f64,
        look: impl Fn() -> F,
    ) -> T
    where
        F: Future<Output = Option<T>>,
    {
        let deadline = self.clock.now().plus_secs(deadline_s);
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(self.clock.now() < deadline, "waited {deadline_s} s for {what}");
            self.pause(0.25).await;
        }
    }
}

/// A khaos that runs. Dropping it kills it, with -9, so that a test that fails leaves none.
pub(crate) struct Khaos(pub(crate) Child);

impl Khaos {
    pub(crate) fn starts(arguments: &[&str]) -> Self {
        Self::starts_in(Path::new("."), arguments)
    }

    pub(crate) fn starts_in(folder: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_khaos"));
        command.args(arguments).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Khaos {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Real time on one thread, with the network.
pub(crate) fn in_real_time(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test);
}
