//! The doctor: whether Khaos can drive a job, found out by asking Flink and by trying, never assumed.
//!
//! `facts` asks and tries, `driving`, `restarts` and `reading` judge: pure functions from facts to
//! [`Finding`]s, each with what to change, why, and what the change costs. `commits` adds up what a sink's
//! transactions have to outlast, which is judged where Kafka is known. `settings` reads what
//! Flink writes in words. A fact that could not be read is [`Verdict::Unknown`].
//!
//! The only thing that is changed is one checkpoint more: whether the job can be triggered is found
//! out by triggering it.

mod commits;
mod driving;
mod facts;
mod reading;
mod restarts;
mod settings;
#[cfg(test)]
mod tests;

use khaos_control::core::job::{EngineJobId, JobKey};
use khaos_control::core::units::{CheckpointInterval, Seconds};
use khaos_control::ports::PortError;
use serde::Serialize;

pub(crate) use self::commits::{UntilCommit, exactly};
use self::facts::{Asked, Facts};
pub(crate) use self::settings::seconds;
use super::Flink;
use super::rest::Rest;

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It has to be changed.
    Problem,
    /// It should be changed.
    Advice,
    /// It could not be found out.
    Unknown,
    /// It is well.
    Ok,
}

/// What has to start again for a change to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Nothing.
    None,
    /// The job, once, from a savepoint.
    Job,
    /// The cluster, and every job on it.
    Cluster,
}

/// A configuration key with its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The key, as this version of Flink knows it; of a sink's property, as Kafka does.
    pub key: String,
    /// The value.
    pub value: String,
}

/// What to change, and what that costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What to do, where it is more than to set something.
    pub what: Option<String>,
    /// What to set.
    pub set: Vec<Setting>,
    /// What has to start again.
    pub restart: Restart,
    /// What it costs beside that.
    pub cost: Option<String>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was checked.
    pub check: &'static str,
    /// What it came to.
    pub verdict: Verdict,
    /// Whether Khaos cannot drive the job because of this.
    pub prevents_driving: bool,
    /// What was seen.
    pub seen: String,
    /// Why that matters.
    pub why: Option<String>,
    /// What to change.
    pub change: Option<Change>,
}

impl Finding {
    pub(crate) fn new(check: &'static str, verdict: Verdict, seen: impl Into<String>) -> Self {
        let seen = seen.into();
        Self { check, verdict, prevents_driving: false, seen, why: None, change: None }
    }

    pub(crate) fn ok(check: &'static str, seen: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, seen)
    }

    pub(crate) fn advice(check: &'static str, seen: impl Into<String>) -> Self {
        Self::new(check, Verdict::Advice, seen)
    }

    pub(crate) fn problem(check: &'static str, seen: impl Into<String>) -> Self {
        Self::new(check, Verdict::Problem, seen)
    }

    /// What Flink would not tell.
    pub(crate) fn unknown(check: &'static str, what: &str, why: &PortError) -> Self {
        Self::new(check, Verdict::Unknown, format!("{what} could not be read: {why}"))
    }

    fn prevents(mut self) -> Self {
        self.prevents_driving = true;
        self
    }

    pub(crate) fn because(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    fn change_mut(&mut self) -> &mut Change {
        self.change.get_or_insert_with(|| Change {
            what: None,
            set: Vec::new(),
            restart: Restart::None,
            cost: None,
        })
    }

    pub(crate) fn set(mut self, restart: Restart, key: &str, value: impl Into<String>) -> Self {
        let change = self.change_mut();
        change.set.push(Setting { key: key.to_owned(), value: value.into() });
        change.restart = restart;
        self
    }

    pub(crate) fn doing(mut self, restart: Restart, what: impl Into<String>) -> Self {
        let change = self.change_mut();
        change.what = Some(what.into());
        change.restart = restart;
        self
    }

    pub(crate) fn costs(mut self, cost: impl Into<String>) -> Self {
        self.change_mut().cost = Some(cost.into());
        self
    }
}

/// How driven checkpoints and the job's own go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Driven ones replace its own.
    Full,
    /// Driven ones come on top.
    Assist,
}

/// How the job could be driven now.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Drivable {
    /// What becomes of its own checkpoints.
    pub mode: Mode,
    /// Its own interval, whole seconds: the longest that can be driven, and what is left when nobody
    /// drives.
    pub fallback_s: u32,
    /// An interval to begin with, s: half of that, if checkpoints are quick enough.
    pub interval_s: u32,
}

/// All that was found out about a job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Examination {
    /// Where Flink is.
    pub url: String,
    /// Its version, where it told.
    pub flink: Option<String>,
    /// The job's name, where one was found.
    pub job: Option<String>,
    /// Flink's id of it.
    pub engine_id: Option<String>,
    /// How it could be driven; `None` where it cannot.
    pub drivable: Option<Drivable>,
    /// What was checked, problems first.
    pub findings: Vec<Finding>,
}

impl Examination {
    fn new(rest: &Rest, findings: Vec<Finding>) -> Self {
        let url = rest.base().to_owned();
        let mut examination = Self {
            url,
            flink: None,
            job: None,
            engine_id: None,
            drivable: None,
            findings: Vec::new(),
        };
        examination.add(findings);
        examination
    }

    /// What was checked beside.
    pub fn add(&mut self, findings: Vec<Finding>) {
        self.findings.extend(findings);
        self.findings.sort_by_key(|finding| (!finding.prevents_driving, finding.verdict));
    }
}

impl Flink {
    /// Examines `job`, or says why there is none to examine. Takes as long as one checkpoint, which
    /// is waited for as long as `patience`.
    pub async fn examine(&self, job: Option<&JobKey>, patience: Seconds) -> Examination {
        let reached = facts::overview(&self.rest).await;
        let version = match reached {
            Ok(version) => version,
            Err(error) => {
                return Examination::new(&self.rest, vec![driving::unreachable(&error)]);
            }
        };
        let found = match job {
            Some(job) => self.find(job).await,
            None => Err(PortError::NotFound(format!(
                "job to examine: no job runs on {}",
                self.rest.base()
            ))),
        };
        let asked = match found {
            Ok(id) => facts::gather(&self.rest, &id, version.clone(), patience).await,
            Err(error) => Err(error),
        };
        match asked {
            Ok(facts) => judge(&self.rest, &facts),
            Err(error) => {
                let findings = vec![driving::reached(&version), driving::no_job(&error)];
                Examination { flink: Some(version), ..Examination::new(&self.rest, findings) }
            }
        }
    }

    /// What passes at worst between two commits of `job`, which may be given an interval of `redeployed`, too; `None`
    /// where it has no interval.
    pub(crate) async fn until_commit(
        &self,
        job: &EngineJobId,
        redeployed: Option<CheckpointInterval>,
    ) -> Asked<Option<UntilCommit>> {
        let config = facts::checkpointing(&self.rest, job).await?;
        let restart_strategy = facts::restart_strategy(&self.rest, job).await;
        let cluster = facts::cluster(&self.rest).await;
        Ok(UntilCommit::of(&config, &restart_strategy, &cluster, redeployed))
    }
}

/// What Flink's configuration makes of the dead time of `id` after a TaskManager was lost; `None` where it
/// cannot be read, or nothing starts the job again.
pub(super) async fn expected_dead_time(rest: &Rest, id: &EngineJobId) -> Option<Seconds> {
    let (told, cluster) = (facts::restart_strategy(rest, id).await, facts::cluster(rest).await);
    let theirs_s = restarts::expected_s(&told, &cluster)?;
    Seconds::new(rest.ours_ms((theirs_s * 1_000.0).round() as i64) as f64 / 1_000.0).ok()
}

fn judge(rest: &Rest, facts: &Facts) -> Examination {
    let findings = findings(facts);
    let drivable = driving::drivable(facts);
    let drivable = drivable.filter(|_| !findings.iter().any(|f| f.prevents_driving));
    Examination {
        flink: Some(facts.version.clone()),
        job: Some(facts.job.clone()),
        engine_id: Some(facts.id.clone()),
        drivable,
        ..Examination::new(rest, findings)
    }
}

/// Every check, in the order of the questions: reach, drive, restore, read.
fn findings(facts: &Facts) -> Vec<Finding> {
    [driving::findings(facts), restarts::findings(facts), reading::findings(facts)].concat()
}

/// Seconds as one says them.
fn time(seconds: f64) -> String {
    let whole = seconds.round();
    match seconds {
        s if s < 0.995 => format!("{:.0} ms", s * 1_000.0),
        s if s < 9.95 && (s - whole).abs() > 0.05 => format!("{s:.1} s"),
        s if s < 600.0 => format!("{whole:.0} s"),
        s if s < 36_000.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3_600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}
