//! The workload of the lab's job: a schedule of arrivals, which a clone can be given again from any
//! moment on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use khaos_control::clock::Clock;
use khaos_control::core::job::JobKey;
use khaos_control::core::units::{Span, Timestamp};
use khaos_control::ports::{CloneId, PortError, WorkloadLog};

use crate::flink::{Recipe, Submission};

/// What arrives at the lab's job, as far as it has arrived.
#[derive(Debug, Clone)]
pub struct PacedLog {
    clock: Clock,
    job: JobKey,
    /// When its schedule begins.
    began_at: Timestamp,
    folder: PathBuf,
}

impl PacedLog {
    /// The log of `job`, whose schedule begins at `epoch_ms` by the wall's clock. Clones are told in
    /// files of `folder` what they read.
    pub fn of(job: JobKey, epoch_ms: i64, folder: PathBuf, clock: Clock) -> Self {
        Self { began_at: clock.of_wall(Timestamp(epoch_ms)), clock, job, folder }
    }

    /// The file in which the clone with the engine's `id` is told what it reads, and from when on.
    pub fn told(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.replay"))
    }

    /// How clones are made of `blank`, the job without a start of its own: each is told in a file what it
    /// reads.
    pub fn recipe(&self, blank: Submission) -> Recipe {
        let log = self.clone();
        Arc::new(move |_, id| {
            let mut clone = blank.clone();
            let told = log.told(&id.0).display().to_string();
            clone.arguments.extend(["--starts-with".to_owned(), told]);
            clone
        })
    }

    /// Tells in the file `told` that what is due now is what was due at `from`.
    pub fn tell(&self, told: &Path, from: Timestamp) -> Result<(), PortError> {
        let now = self.clock.to_wall(self.clock.now());
        let epoch = self.clock.to_wall(self.began_at);
        let moved = now.0 - self.clock.to_wall(from).0;
        let draft = told.with_extension("part");
        let written = std::fs::create_dir_all(&self.folder)
            .and_then(|()| std::fs::write(&draft, format!("{} {}\n", epoch.0 + moved, now.0)))
            .and_then(|()| std::fs::rename(&draft, told));
        written.map_err(|error| {
            PortError::Refused(format!("{} cannot be written: {error}", told.display()))
        })
    }
}

#[async_trait]
impl WorkloadLog for PacedLog {
    async fn recorded(&self, job: &JobKey) -> Result<Span, PortError> {
        if *job != self.job {
            return Err(PortError::NotFound(format!("workload of job {job} in the lab")));
        }
        Ok(Span { from: self.began_at, to: self.clock.now() })
    }

    /// The clone sees the job's schedule, moved so that what is due now is what was due at `from`.
    async fn replay(
        &self,
        job: &JobKey,
        from: Timestamp,
        clone: &CloneId,
    ) -> Result<(), PortError> {
        let recorded = self.recorded(job).await?;
        if !recorded.contains(from) {
            let second = from.secs_since(recorded.from);
            return Err(PortError::Refused(format!(
                "second {second:.0} of the workload of {job} was not recorded"
            )));
        }
        self.tell(&self.told(&clone.engine_id().0), from)
    }
}
