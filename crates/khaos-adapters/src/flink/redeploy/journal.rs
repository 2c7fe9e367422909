//! What is written down before a job is stopped, so that whoever comes after a death can start it again.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use khaos_control::core::job::{EngineJobId, TriggerId};
use khaos_control::core::units::Timestamp;
use khaos_control::ports::PortError;
use serde::{Deserialize, Serialize};

use crate::flink::messages::OwnCheckpoints;

/// A redeploy that has begun and not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Intent {
    /// The job's name.
    pub(super) job: String,
    /// When it was to be stopped, by our clock.
    pub(super) at: Timestamp,
    /// The deployment that is stopped, and how it checkpointed.
    pub(super) old: EngineJobId,
    pub(super) old_own: OwnCheckpoints,
    /// Our id of the stop.
    pub(super) stop: TriggerId,
    /// Where the savepoint goes; where the cluster puts them when `None`.
    pub(super) directory: Option<String>,
    /// Where it is; only this makes the old deployment's end certain.
    pub(super) savepoint: Option<String>,
    /// The deployment that follows, and how it is to checkpoint.
    pub(super) new: EngineJobId,
    pub(super) new_own: OwnCheckpoints,
    /// The deployment that has the old settings again, once the new one did not come up.
    pub(super) back: Option<EngineJobId>,
}

/// The file that an [`Intent`] lies in for as long as it is one.
#[derive(Debug)]
pub(super) struct Journal(PathBuf);

impl Journal {
    pub(super) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn read(&self) -> Result<Option<Intent>, PortError> {
        let text = match fs::read(&self.0) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| self.broken("read", &error))?,
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            PortError::Refused(format!(
                "{} is no journal of a redeploy ({error}): see whether the job runs, then move the \
                 file away",
                self.0.display()
            ))
        })
    }

    /// On the disk when this returns; whoever reads meanwhile reads the one before.
    pub(super) fn write(&self, intent: &Intent) -> Result<(), PortError> {
        let written = || {
            let next = self.0.with_extension("next");
            let mut file = File::create(&next)?;
            file.write_all(&serde_json::to_vec_pretty(intent)?)?;
            file.sync_all()?;
            fs::rename(&next, &self.0)?;
            self.sync_folder()
        };
        written().map_err(|error| self.broken("written", &error))
    }

    pub(super) fn remove(&self) -> Result<(), PortError> {
        let removed = fs::remove_file(&self.0).and_then(|()| self.sync_folder());
        removed.map_err(|error| self.broken("removed", &error))
    }

    /// A rename is on the disk once its folder is.
    fn sync_folder(&self) -> io::Result<()> {
        let folder = self.0.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn broken(&self, done: &str, error: &io::Error) -> PortError {
        let path = self.0.display();
        PortError::Refused(format!("the journal of redeploys, {path}, cannot be {done}: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_is_read_as_it_was_written_and_a_spoilt_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::at(folder.path().join("redeploy.json"));
        assert_eq!(journal.read(), Ok(None));
        let old = EngineJobId("0a".to_owned());
        let own = OwnCheckpoints { interval: 8_000, min_pause: 0, timeout: 60_000 };
        let mut intent = Intent {
            job: "orders".to_owned(),
            at: Timestamp(5),
            stop: TriggerId::new(&old, Timestamp(5)),
            old,
            old_own: own,
            directory: None,
            savepoint: None,
            new: EngineJobId("0b".to_owned()),
            new_own: OwnCheckpoints { interval: 4_000, ..own },
            back: None,
        };
        journal.write(&intent).unwrap();
        intent.savepoint = Some("file:/s".to_owned());
        journal.write(&intent).unwrap();
        assert_eq!(journal.read(), Ok(Some(intent.clone())));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");

        fs::write(journal.path(), &fs::read(journal.path()).unwrap()[..40]).unwrap();
        let said = journal.read().unwrap_err().to_string();
        assert!(said.contains(journal.path().to_str().unwrap()), "{said}");
        journal.remove().unwrap();
        assert_eq!(journal.read(), Ok(None));

        let nowhere = Journal::at(folder.path().join("missing/redeploy.json"));
        let said = nowhere.write(&intent).unwrap_err().to_string();
        assert!(said.contains("missing/redeploy.json"), "{said}");
    }
}
