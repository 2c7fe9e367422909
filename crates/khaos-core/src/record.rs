//! The immutable facts that flow through the phases.
//!
//! A record's id is the hash of what it says and of what it follows from. The time at which it was
//! appended is not part of it: an interrupted campaign that is resumed later ends with the same
//! records.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::job::JobKey;
use crate::observe::{Minute, Observation};
use crate::optimize::{Decision, Models, Outcome};
use crate::profile::{Design, Failure, Trial};
use crate::units::Timestamp;

/// Content hash of a record, 32 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RecordId(String);

impl RecordId {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id that these digits are; `None` where they are none.
    pub fn of_digits(digits: &str) -> Option<Self> {
        let hex = |c: char| matches!(c, '0'..='9' | 'a'..='f');
        (digits.len() == 32 && digits.chars().all(hex)).then(|| Self(digits.to_owned()))
    }

    /// A number made of the id: the seed of whatever has to be the same whenever this record is.
    pub fn number(&self) -> u64 {
        u64::from_str_radix(&self.0[..16], 16).expect("an id starts with 16 hex digits")
    }
}

impl std::fmt::Display for RecordId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One fact. The variants stand in the order in which they follow from one another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "body", rename_all = "snake_case")]
pub enum Fact {
    /// A minute of a job's life.
    Minute(Minute),
    /// What the observe phase concluded.
    Observation(Observation),
    /// The trials to run.
    Design(Design),
    /// What one trial measured.
    Trial(Trial),
    /// What a real failure of the job showed.
    Failure(Failure),
    /// Models fitted to trials and failures.
    Models(Models),
    /// The chosen interval with its reasons.
    Decision(Decision),
    /// What became of a decision.
    Outcome(Outcome),
}

/// The kinds of facts, for looking them up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// [`Fact::Minute`]
    Minute,
    /// [`Fact::Observation`]
    Observation,
    /// [`Fact::Design`]
    Design,
    /// [`Fact::Trial`]
    Trial,
    /// [`Fact::Failure`]
    Failure,
    /// [`Fact::Models`]
    Models,
    /// [`Fact::Decision`]
    Decision,
    /// [`Fact::Outcome`]
    Outcome,
}

impl Kind {
    /// The kind's name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Observation => "observation",
            Self::Design => "design",
            Self::Trial => "trial",
            Self::Failure => "failure",
            Self::Models => "models",
            Self::Decision => "decision",
            Self::Outcome => "outcome",
        }
    }
}

impl Fact {
    /// Which kind it is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Minute(_) => Kind::Minute,
            Self::Observation(_) => Kind::Observation,
            Self::Design(_) => Kind::Design,
            Self::Trial(_) => Kind::Trial,
            Self::Failure(_) => Kind::Failure,
            Self::Models(_) => Kind::Models,
            Self::Decision(_) => Kind::Decision,
            Self::Outcome(_) => Kind::Outcome,
        }
    }
}

/// An immutable record: a fact, whose it is, and what it follows from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    id: RecordId,
    job: JobKey,
    at: Timestamp,
    parents: Vec<RecordId>,
    #[serde(flatten)]
    fact: Fact,
}

/// A record whose content is not what its id says.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("record {claimed} holds content of id {actual}: the store was changed by hand or damaged")]
pub struct Tampered {
    claimed: RecordId,
    actual: RecordId,
}

impl Record {
    /// A new record of `fact`, appended at `at`.
    pub fn new(job: &JobKey, at: Timestamp, parents: Vec<RecordId>, fact: Fact) -> Self {
        let id = content_id(job, &parents, &fact);
        Self { id, job: job.clone(), at, parents, fact }
    }

    /// Fails when the content does not belong to the id.
    pub fn verify(&self) -> Result<(), Tampered> {
        let actual = content_id(&self.job, &self.parents, &self.fact);
        if actual == self.id { Ok(()) } else { Err(Tampered { claimed: self.id.clone(), actual }) }
    }

    /// Content hash.
    pub fn id(&self) -> &RecordId {
        &self.id
    }

    /// The job it speaks of.
    pub fn job(&self) -> &JobKey {
        &self.job
    }

    /// When it was appended.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// What it follows from.
    pub fn parents(&self) -> &[RecordId] {
        &self.parents
    }

    /// What it says.
    pub fn fact(&self) -> &Fact {
        &self.fact
    }
}

fn content_id(job: &JobKey, parents: &[RecordId], fact: &Fact) -> RecordId {
    let content = serde_json::to_vec(&(job, parents, fact)).expect("facts are plain data");
    let digest = Sha256::digest(&content);
    RecordId(digest[..16].iter().map(|byte| format!("{byte:02x}")).collect())
}

macro_rules! bodies {
    ($($method:ident: $variant:ident),*) => {
        impl Record {
            $(
                #[doc = concat!("The body, if this is a [`Fact::", stringify!($variant), "`].")]
                pub fn $method(&self) -> Option<&$variant> {
                    if let Fact::$variant(body) = &self.fact { Some(body) } else { None }
                }
            )*
        }
    };
}
bodies!(
    minute: Minute, observation: Observation, design: Design, trial: Trial, failure: Failure,
    models: Models, decision: Decision, outcome: Outcome
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobStatus;
    use crate::series::Reading;

    fn minute(start: i64) -> Fact {
        Fact::Minute(Minute {
            status: JobStatus::Running,
            lag: Reading::Stale,
            ..Minute::blind(Timestamp(start))
        })
    }

    #[test]
    fn an_id_is_made_of_content_and_parents_not_of_time() {
        let job = JobKey("j".into());
        let first = Record::new(&job, Timestamp(1), vec![], minute(0));
        let later = Record::new(&job, Timestamp(2), vec![], minute(0));
        let other = Record::new(&job, Timestamp(1), vec![], minute(60_000));
        let child = Record::new(&job, Timestamp(1), vec![first.id().clone()], minute(0));
        assert_eq!(first.id(), later.id());
        assert_ne!(first.id(), other.id());
        assert_ne!(first.id(), child.id());
    }

    #[test]
    fn json_round_trips_and_shows_tampering() {
        let job = JobKey("j".into());
        let record = Record::new(&job, Timestamp(1), vec![], minute(0));
        let json = serde_json::to_string(&record).unwrap();
        let back: Record = serde_json::from_str(&json).unwrap();
        assert_eq!(back, record);
        assert_eq!(back.verify(), Ok(()));
        let forged: Record = serde_json::from_str(&json.replace("running", "ended")).unwrap();
        assert!(forged.verify().is_err());
    }
}
