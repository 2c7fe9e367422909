//! A real Flink on which jobs fail: every job has TaskManagers of its own, whatever dies comes back, and
//! the clock runs as fast as is wanted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use khaos_adapters::flink::{Flink, FlinkClones, Submission};
use khaos_adapters::lab::{
    FlinkVersion, Lab, LabConfig, LabInjector, LabTarget, PacedJob, PacedLog,
};
use khaos_control::clock::Clock;
use khaos_control::contract::{Bench, CloneBench};
use khaos_control::ports::{Checkpoints, Jobs};
use khaos_core::job::{JobKey, JobRun, JobStatus};
use khaos_core::record::RecordId;

/// What arrives at the target, events/s of the wall's time.
const RATE: u64 = 1_000;

/// The lab and the job that may be broken.
pub(crate) struct Arena {
    pub(crate) clock: Clock,
    pub(crate) flink: Arc<Flink>,
    pub(crate) rest_url: String,
    /// The lab's.
    pub(crate) folder: PathBuf,
    pub(crate) injector: Arc<LabInjector>,
    pub(crate) log: Arc<PacedLog>,
    pub(crate) target: LabTarget,
    pub(crate) blank: Submission,
}

/// What a lab is to be like.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) version: &'a str,
    pub(crate) port_base: u16,
    pub(crate) task_managers: u8,
    /// The clock's.
    pub(crate) speed: u32,
    /// Flink's heartbeats: interval and timeout, s.
    pub(crate) heartbeats_s: (u32, u32),
    /// The target's own checkpoint interval, ms of the wall's time.
    pub(crate) interval_ms: u32,
    pub(crate) state_bytes: u64,
}

impl Wanted<'_> {
    /// Runs `test` in such a lab.
    pub(crate) async fn test(self, test: impl AsyncFnOnce(&Arena)) {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let cache = std::env::var_os("KHAOS_CACHE").map(PathBuf::from);
        let cache = cache.unwrap_or(workspace.join("target/lab-cache"));
        let (every, timeout) = self.heartbeats_s;
        let flink = [
            ("heartbeat.interval", format!("{every} s")),
            ("heartbeat.timeout", format!("{timeout} s")),
            ("metrics.fetcher.update-interval", "50".to_owned()),
            ("web.timeout", "3000".to_owned()),
            ("pekko.ask.timeout", "3 s".to_owned()),
            ("metrics.latency.interval", "100 ms".to_owned()),
            ("rest.cache.checkpoint-statistics.timeout", "5 ms".to_owned()),
        ];
        let config = LabConfig {
            port_base: self.port_base,
            task_managers: self.task_managers,
            slots: 1,
            version: self.version.parse::<FlinkVersion>().unwrap(),
            flink: flink.map(|(key, value)| (key.to_owned(), value)).into(),
            ..LabConfig::new(folder.path().join("lab"), cache)
        };
        let mut lab =
            Lab::up(config, |step| println!("flink {}: {step}", self.version)).await.unwrap();
        let arena = self.arena(&lab).await;
        tokio::select! {
            biased;
            ended = lab.supervise() => panic!("{ended}"),
            () = test(&arena) => {}
        }
        lab.down().await.unwrap();
    }

    async fn arena(self, lab: &Lab) -> Arena {
        let clock = khaos::clock::anchored().times(self.speed);
        let epoch_ms = clock.to_wall(clock.now()).0;
        let flink = Arc::new(Flink::at(lab.rest_url(), clock).unwrap());
        let folder = lab.folder().join("replays");
        let log = PacedLog::of(JobKey("target".to_owned()), epoch_ms, folder, clock);
        let blank = PacedJob {
            name: "target".to_owned(),
            rates: format!("86400:{RATE}").parse().unwrap(),
            capacity: 2 * RATE,
            state_bytes: self.state_bytes,
            parallelism: 1,
            flink_configuration: [(
                "execution.checkpointing.interval".to_owned(),
                format!("{} ms", self.interval_ms),
            )]
            .into(),
            ..PacedJob::default()
        };
        let target = PacedJob { epoch_ms: Some(epoch_ms), ..blank.clone() };
        Arena {
            clock,
            rest_url: lab.rest_url().to_owned(),
            folder: lab.folder().to_owned(),
            flink,
            injector: Arc::new(lab.injector().unwrap()),
            log: Arc::new(log),
            target: lab.submit(&target).await.unwrap(),
            blank: lab.submission(&blank),
        }
    }
}

impl Arena {
    pub(crate) fn job(&self) -> JobKey {
        JobKey(self.target.name().to_owned())
    }

    pub(crate) fn clones(&self) -> Arc<FlinkClones> {
        clones(&self.flink, &self.blank, &self.log)
    }

    pub(crate) fn bench(&self) -> CloneBench {
        CloneBench {
            bench: Bench {
                clock: self.clock,
                jobs: self.flink.clone(),
                metrics: self.flink.clone(),
                checkpoints: self.flink.clone(),
                job: self.job(),
            },
            host: self.clones(),
            log: self.log.clone(),
            injector: self.injector.clone(),
            campaign: RecordId::of_digits("0123456789abcdef0123456789abcdef").unwrap(),
        }
    }

    /// The target as soon as every vertex of it runs and `completed` checkpoints have, since it does.
    pub(crate) async fn running(&self, completed: usize) -> JobRun {
        let deadline = self.clock.now().plus_secs(120.0 * f64::from(self.clock.speed()));
        loop {
            if let Ok(run) = self.flink.describe(&self.job()).await
                && run.status == JobStatus::Running
                && let Some(since) = run.running_since
            {
                let history = self.flink.history(&run.engine_id).await.unwrap();
                let after = history.completed.iter().filter(|c| c.triggered_at >= since);
                if after.count() >= completed {
                    return run;
                }
            }
            assert!(self.clock.now() < deadline, "the target does not run again");
            self.pause_wall(0.1).await;
        }
    }

    /// Waits so many seconds of the wall's time.
    pub(crate) async fn pause_wall(&self, seconds: f64) {
        let seconds = seconds * f64::from(self.clock.speed());
        self.clock.sleep_until(self.clock.now().plus_secs(seconds)).await;
    }
}

/// Clones that read what `log` tells them to.
pub(crate) fn clones(flink: &Flink, blank: &Submission, log: &Arc<PacedLog>) -> Arc<FlinkClones> {
    Arc::new(FlinkClones::new(flink.clone(), log.recipe(blank.clone())))
}
