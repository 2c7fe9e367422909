//! Changing the interval by a redeploy: stop with a savepoint, start from it with another interval.
//!
//! The story of [`Redeployer::apply`], one file each: *journal* (what is about to happen is written
//! down) → *stop* (the job ends in a savepoint, or runs on) → *start* (from the savepoint, seen to run
//! as it was meant; otherwise the old settings from the same savepoint). Nothing is cancelled while the
//! savepoint's location is not known, and nothing that has completed a checkpoint since.
//!
//! Between stop and start nobody runs the job. Whoever dies there leaves the journal;
//! [`Redeployer::recover`] starts the job again by it. Two that redeploy one job at the same time are
//! not kept apart: one khaos per job.

mod journal;
mod start;
mod stop;

use std::fmt;
use std::path::PathBuf;

use async_trait::async_trait;
use khaos_control::core::job::{EngineJobId, JobRun, JobStatus, TriggerId};
use khaos_control::core::units::CheckpointInterval;
use khaos_control::ports::{Actuator, Generation, Jobs, PortError};
use tokio::sync::Mutex;

use self::journal::{Intent, Journal};
use self::start::{TRIES, Wanted};
use self::stop::Stopped;
use super::deployment::name;
use super::messages::OwnCheckpoints;
use super::submission::new_id;
use super::{Description, Flink, Submission};

/// Time between two looks, ms.
const POLL_MS: i64 = 250;
/// What was sent without an answer may still arrive for this long, ms.
const ARRIVES_MS: i64 = 10_000;

/// The actuator that redeploys. Each change stalls the job: `khaos_control::act` measures for how long.
#[derive(Debug)]
pub struct Redeployer {
    flink: Flink,
    job: Description,
    savepoints: Option<String>,
    journal: Journal,
    generation: Mutex<Option<Generation>>,
}

/// What came of a redeploy that was left unfinished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovered {
    /// The job had not been stopped.
    NeverStopped(EngineJobId),
    /// The new deployment runs, with the new interval.
    New(EngineJobId),
    /// Started again from the savepoint with the old interval.
    Old(EngineJobId),
    /// Somebody else had started the job again.
    Elsewhere(EngineJobId),
}

impl fmt::Display for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverStopped(id) => write!(f, "the job was not stopped and goes on as {id}"),
            Self::New(id) => write!(f, "the new deployment {id} runs"),
            Self::Old(id) => write!(f, "started again with its old interval, as {id}"),
            Self::Elsewhere(id) => write!(f, "somebody else has started the job again, as {id}"),
        }
    }
}

impl Redeployer {
    /// Redeploys `job`, by its name; placeholders of the interval are the one that it is started with.
    /// Savepoints go to the directory `savepoints`, to the cluster's own when `None`. `journal` is a file
    /// of this job alone that outlives the process; where it is, there is nothing else to be.
    pub fn new(
        flink: Flink,
        job: Description,
        savepoints: Option<String>,
        journal: PathBuf,
    ) -> Self {
        let (journal, generation) = (Journal::at(journal), Mutex::default());
        Self { flink, job, savepoints, journal, generation }
    }

    /// Ends what a redeploy left unfinished, if one did: to be called before anything else is done to
    /// the job. An error says what has to be done by hand, or that the cluster does not answer; the
    /// journal stays then, so that the next call tries again.
    pub async fn recover(&self) -> Result<Option<Recovered>, PortError> {
        let _alone = self.generation.lock().await;
        self.finish().await
    }

    async fn finish(&self) -> Result<Option<Recovered>, PortError> {
        let Some(intent) = self.journal.read()? else { return Ok(None) };
        if intent.job != self.job.name() {
            return Err(PortError::Refused(format!(
                "{} is the journal of job {}, not of {}: give each job a file of its own",
                self.journal.path().display(),
                intent.job,
                self.job.name()
            )));
        }
        let recovered = self.take_up(intent).await?;
        self.journal.remove()?;
        tracing::warn!(job = %self.job.name(), "a redeploy had been left unfinished: {recovered}");
        Ok(Some(recovered))
    }

    /// Goes on where `intent` was left.
    async fn take_up(&self, mut intent: Intent) -> Result<Recovered, PortError> {
        let rest = &self.flink.rest;
        let present = self.flink.present().await?;
        let runs = |id: &EngineJobId| present.iter().any(|job| job.jid == id.0);
        let ours = |id: &str| {
            let ids = [Some(&intent.old), Some(&intent.new), intent.back.as_ref()];
            ids.into_iter().flatten().any(|one| one.0 == id)
        };
        let other = present.iter().find(|job| job.name == intent.job && !ours(&job.jid));
        if let Some(other) = other {
            return Ok(Recovered::Elsewhere(EngineJobId(other.jid.clone())));
        }
        // What was sent and not heard of may still come. So it is sent again: Flink takes an id once.
        match (intent.savepoint.clone(), intent.back.clone()) {
            (Some(savepoint), None) => {
                let wanted = intent.wants_new(&savepoint);
                match start::once_more(rest, &self.job, wanted).await {
                    Ok(()) => return Ok(Recovered::New(intent.new)),
                    Err(why) => tracing::warn!(job = %intent.job, "the new one: {why}"),
                }
                start::take_back(rest, &intent.new)
                    .await
                    .map_err(|why| self.by_hand(&intent, &savepoint, &why))?;
            }
            (Some(savepoint), Some(back)) => {
                let wanted = intent.wants_old(&back, &savepoint);
                match start::once_more(rest, &self.job, wanted).await {
                    Ok(()) => return Ok(Recovered::Old(back)),
                    Err(why) if self.flink.present().await?.iter().any(|job| job.jid == back.0) => {
                        return Err(self.by_hand(&intent, &savepoint, &why));
                    }
                    // An id of a start that failed is used up.
                    Err(why) => tracing::warn!(job = %intent.job, "the old one: {why}"),
                }
            }
            (None, _) => {}
        }
        match self.savepoint(&mut intent).await? {
            // Flink says so of a job that it does not know, too.
            Stopped::Not(_) if runs(&intent.old) => Ok(Recovered::NeverStopped(intent.old)),
            Stopped::Not(why) => Err(self.lost(&intent, &format!("it does not run ({why})"))),
            Stopped::Lost(how) => Err(self.lost(&intent, &how)),
            Stopped::At(savepoint) => {
                self.go_back(&mut intent, &savepoint).await.map(Recovered::Old)
            }
        }
    }

    /// What came of the stop; where the savepoint is gets written down.
    async fn savepoint(&self, intent: &mut Intent) -> Result<Stopped, PortError> {
        if let Some(known) = &intent.savepoint {
            return Ok(Stopped::At(known.clone()));
        }
        let stopped = stop::outcome(&self.flink.rest, intent).await?;
        if let Stopped::At(location) = &stopped {
            intent.savepoint = Some(location.clone());
            self.journal.write(intent)?;
        }
        Ok(stopped)
    }

    /// Starts the old settings again from the savepoint.
    async fn go_back(
        &self,
        intent: &mut Intent,
        savepoint: &str,
    ) -> Result<EngineJobId, PortError> {
        let rest = &self.flink.rest;
        // Each try has an id of its own: Flink takes none twice.
        let back = new_id(&format!("{} again", intent.job), rest.clock().now());
        intent.back = Some(back.clone());
        self.journal.write(intent)?;
        let started = start::start(rest, &self.job, intent.wants_old(&back, savepoint)).await;
        started.map(|()| back).map_err(|why| self.by_hand(intent, savepoint, &why))
    }

    async fn redeploy(&self, run: &JobRun, interval: CheckpointInterval) -> Result<(), PortError> {
        let rest = &self.flink.rest;
        let (old, at) = (&run.engine_id, rest.clock().now());
        let old_own: OwnCheckpoints =
            rest.get(&format!("/jobs/{old}/checkpoints/config"), &name(old)).await?;
        // Nothing is stopped for want of a jar.
        self.job.itself_ms(old_own.interval).uploaded(rest).await?;
        let new_own = with_interval(old_own, rest.theirs_ms(interval.millis()));
        let mut intent = Intent {
            job: self.job.name().to_owned(),
            at,
            old: old.clone(),
            old_own,
            stop: TriggerId::new(old, at),
            directory: self.savepoints.clone(),
            savepoint: None,
            new: new_id(self.job.name(), at),
            new_own,
            back: None,
        };
        self.journal.write(&intent)?;
        match stop::ask(rest, &intent).await {
            // It may have arrived all the same.
            Ok(()) | Err(PortError::Unavailable(_)) => {}
            Err(error) => {
                self.journal.remove()?;
                return Err(error);
            }
        }
        let savepoint = match self.savepoint(&mut intent).await? {
            Stopped::At(savepoint) => savepoint,
            Stopped::Not(why) => return Err(self.runs_on(&intent, &why).await?),
            Stopped::Lost(how) => return Err(self.lost(&intent, &how)),
        };
        tracing::info!(job = %intent.job, %savepoint, "stopped, to go on at {interval}");
        let Err(why) = start::start(rest, &self.job, intent.wants_new(&savepoint)).await else {
            self.journal.remove()?;
            tracing::info!(job = %intent.job, deployment = %intent.new, "runs at {interval}");
            return Ok(());
        };
        tracing::warn!(job = %intent.job, "it does not run at {interval}: {why}");
        if let Err(left) = start::take_back(rest, &intent.new).await {
            let why = format!("{why}; {left}");
            return Err(self.by_hand(&intent, &savepoint, &why));
        }
        let back = self.go_back(&mut intent, &savepoint).await?;
        self.journal.remove()?;
        Err(PortError::Refused(format!(
            "{} did not come up at {interval}: {why}. It runs on at its old interval, from the \
             savepoint {savepoint}, as {back}",
            intent.job,
            why = why.trim_end_matches('.'),
        )))
    }

    /// The error of a stop that stopped nothing: the job has to be seen running on, which Flink may
    /// have to restart it for.
    async fn runs_on(&self, intent: &Intent, why: &str) -> Result<PortError, PortError> {
        let clock = self.flink.rest.clock();
        let deadline = clock.now().plus_millis(stop::ENDS_MS);
        let runs = loop {
            let run = self.flink.run(&intent.old).await;
            match run.map(|run| run.status) {
                Ok(JobStatus::Running) => break "It runs on at its old interval",
                // The stop is over and nothing of it is left: what it is now is not ours to change.
                Ok(JobStatus::Ended) | Err(PortError::NotFound(_)) => {
                    break "And it does not run any more: start it again by hand from its last \
                           checkpoint";
                }
                _ if clock.now() >= deadline => {
                    break "And it has not been seen to run since: look at its exceptions in Flink's \
                           web interface";
                }
                _ => clock.sleep_until(clock.now().plus_millis(POLL_MS)).await,
            }
        };
        self.journal.remove()?;
        Ok(PortError::Refused(format!(
            "{} could not be stopped with a savepoint: {why}. {runs}",
            intent.job,
            why = why.trim_end_matches('.'),
        )))
    }

    /// The error of a job that does not run and cannot be started from `savepoint`.
    fn by_hand(&self, intent: &Intent, savepoint: &str, why: &str) -> PortError {
        let Submission { jar, entry_class, arguments, parallelism, .. } =
            &self.job.itself_ms(intent.old_own.interval);
        let class = entry_class.as_ref().map_or_else(String::new, |class| format!("-c {class} "));
        let options =
            start::settings(intent.old_own).map(|(key, value)| format!("-D{key}='{value}'"));
        PortError::Refused(format!(
            "{job} was stopped with the savepoint {savepoint} and does not run again: {why}. Call \
             this once more when the reason is gone ({journal} remembers), or start it by hand, with \
             the rest of its configuration: flink run -d -s {savepoint} -p {parallelism} {options} \
             {class}{jar} {arguments} (REST: POST {base}/jars/JAR/run with \"savepointPath\": \
             \"{savepoint}\"); then remove {journal}",
            job = intent.job,
            journal = self.journal.path().display(),
            options = options.join(" "),
            jar = jar.display(),
            arguments = arguments.join(" "),
            base = self.flink.rest.base(),
        ))
    }

    /// The error of a job that is gone without a known savepoint.
    fn lost(&self, intent: &Intent, how: &str) -> PortError {
        let directory = intent.directory.as_deref();
        PortError::Refused(format!(
            "{job} was to be stopped with a savepoint, and now {how}; Flink does not say where the \
             savepoint is. Look in {directory} for the newest folder savepoint-{start}-… that has a \
             file _metadata, start the job from it by hand, or from its last checkpoint where there \
             is none, and remove {journal}",
            job = intent.job,
            directory = directory.unwrap_or("the cluster's directory of savepoints"),
            // Flink names them so.
            start = intent.old.0.get(..6).unwrap_or(&intent.old.0),
            journal = self.journal.path().display(),
        ))
    }
}

impl Intent {
    fn wants_new<'a>(&'a self, savepoint: &'a str) -> Wanted<'a> {
        Wanted { id: &self.new, own: self.new_own, savepoint, tries: Some(TRIES) }
    }

    /// The old settings are known to work, so whatever keeps them from running may go away.
    fn wants_old<'a>(&self, id: &'a EngineJobId, savepoint: &'a str) -> Wanted<'a> {
        Wanted { id, own: self.old_own, savepoint, tries: None }
    }
}

/// The settings with another interval, ms. A pause as long as the interval makes a job that can be
/// driven in full mode, and stays as long as it is; any other pause stays, but for what would be longer
/// than the interval: Flink waits for both, so that the pause would be the interval.
fn with_interval(own: OwnCheckpoints, interval: i64) -> OwnCheckpoints {
    let full = own.min_pause >= own.interval;
    let min_pause = if full { interval } else { own.min_pause.min(interval) };
    OwnCheckpoints { interval, min_pause, ..own }
}

#[async_trait]
impl Actuator for Redeployer {
    async fn apply(
        &self,
        run: &JobRun,
        interval: CheckpointInterval,
        generation: Generation,
    ) -> Result<(), PortError> {
        let mut last = self.generation.lock().await;
        if let Some(current) = last.filter(|current| generation <= *current) {
            return Err(PortError::StaleGeneration { given: generation, current });
        }
        if run.key.0 != self.job.name() {
            return Err(PortError::Refused(format!(
                "{} is not {}, which this redeploys (by its name: ids change with each redeploy)",
                run.key,
                self.job.name()
            )));
        }
        self.finish().await?;
        // What is in force is the engine's to say: `run` may be of an earlier deployment.
        let run = self.flink.describe(&run.key).await?;
        if interval != run.checkpointing.interval {
            if run.status != JobStatus::Running {
                return Err(PortError::Unavailable(format!(
                    "{} does not run: a job that does not cannot be stopped with a savepoint",
                    run.key
                )));
            }
            *last = Some(generation);
            self.redeploy(&run, interval).await?;
        }
        *last = Some(generation);
        Ok(())
    }

    /// The interval is the job's own: it is the fallback, and there is nothing to let go of.
    async fn release(&self, _: &JobRun) -> Result<(), PortError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_goes_with_the_interval_and_is_never_longer() {
        let own = |interval, min_pause| OwnCheckpoints { interval, min_pause, timeout: 1 };
        // Full mode stays full mode.
        assert_eq!(with_interval(own(60, 60), 20), own(20, 20));
        assert_eq!(with_interval(own(60, 60), 90), own(90, 90));
        // Assist mode stays as it is, as far as it can.
        assert_eq!(with_interval(own(60, 0), 20), own(20, 0));
        assert_eq!(with_interval(own(60, 30), 20), own(20, 20));
        assert_eq!(with_interval(own(60, 30), 90), own(90, 30));
    }
}
