//! The run folder: one lab at a time, and none of somebody else's files.
//!
//! Its lock file says two things: that a lab made this folder, and, while it is locked, that a khaos
//! supervises it. The kernel drops the lock of a process that dies, however it dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::time::{Duration, Instant, sleep_until};

use super::error::{LabError, at};
use super::install::{enough_space, readable_by_java};

const LOCK: &str = "khaos-lab.lock";
const STATE: &str = "khaos-lab.json";
/// While this file is there, whoever supervises is asked to end.
const END: &str = "khaos-lab.end";
const FLAG: &str = "--dir";

/// What `lab status` tells about a lab besides its processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// None of a lab without Flink; the next two belong to it.
    pub(super) flink: Option<String>,
    pub(super) rest_url: Option<String>,
    pub(super) task_managers: u8,
    /// None of a lab without Kafka; the next one belongs to it.
    pub(super) kafka: Option<String>,
    pub(super) bootstrap: Option<String>,
    pub(super) supervisor: u32,
    pub(super) ready: bool,
}

/// What is in a run folder.
#[derive(Debug)]
pub(super) enum Found {
    /// No lab.
    Nothing,
    /// A lab's folder that nobody supervises: now ours.
    Left(RunFolder),
    /// A lab that a living khaos supervises.
    Supervised,
}

/// A run folder that is ours as long as this lives.
#[derive(Debug)]
pub(super) struct RunFolder {
    path: PathBuf,
    lock: File,
    keep_logs: bool,
}

impl RunFolder {
    /// Takes an absent, an empty or an abandoned folder.
    pub(super) async fn take(path: &Path) -> Result<Self, LabError> {
        let path = absolute(path)?;
        readable_by_java(&path, FLAG)?;
        // Somebody who only looks holds the lock for a moment: try again before giving up.
        let deadline = Instant::now() + Duration::from_millis(500);
        loop {
            refuse_foreign(&path)?;
            at(&path, FLAG, std::fs::create_dir_all(&path))?;
            enough_space(&path, FLAG)?;
            if let Some(folder) = Self::try_take(&path)? {
                return Ok(folder);
            }
            if Instant::now() >= deadline {
                return Err(LabError::AlreadyUp { path });
            }
            sleep_until(Instant::now() + Duration::from_millis(50)).await;
        }
    }

    /// What is there, without making anything.
    pub(super) fn find(path: &Path) -> Result<Found, LabError> {
        let path = absolute(path)?;
        refuse_foreign(&path)?;
        if !path.join(LOCK).exists() {
            return Ok(Found::Nothing);
        }
        Ok(Self::try_take(&path)?.map_or(Found::Supervised, Found::Left))
    }

    fn try_take(path: &Path) -> Result<Option<Self>, LabError> {
        let file = path.join(LOCK);
        let opened = OpenOptions::new().write(true).create(true).truncate(false).open(&file);
        let lock = match opened {
            // The folder is being removed.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => at(&file, FLAG, opened)?,
        };
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(source)) => return at(&file, FLAG, Err(source)),
            Ok(()) => {}
        }
        let folder = Self { path: path.to_owned(), lock, keep_logs: true };
        // Whoever had it may have removed it between opening and locking.
        Ok(folder.is_still_there().then_some(folder))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what an earlier lab left, and makes the folders that Flink and Kafka want to find.
    pub(super) fn prepare(&mut self) -> Result<(), LabError> {
        self.keep_logs = false;
        self.clear(&[LOCK])?;
        for name in ["conf", "logs", "tmp", "checkpoints", "savepoints"] {
            let path = self.path.join(name);
            at(&path, FLAG, std::fs::create_dir(&path))?;
        }
        Ok(())
    }

    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), LabError> {
        let path = self.path.join(name);
        at(&path, FLAG, std::fs::write(&path, text))
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.path.join("logs").join(format!("{name}.log"))
    }

    /// Writes what `status` reads: at once, so that nobody reads half of it.
    pub(super) fn tell(&self, state: &State) -> Result<(), LabError> {
        let text = serde_json::json!(state).to_string();
        self.write("state.new", &text)?;
        let path = self.path.join(STATE);
        at(&path, FLAG, std::fs::rename(self.path.join("state.new"), &path))
    }

    /// Whether somebody wants this lab to end, or took its folder away.
    pub(super) fn is_to_end(&self) -> bool {
        self.path.join(END).exists() || !self.is_still_there()
    }

    fn is_still_there(&self) -> bool {
        let inode = |found: std::io::Result<std::fs::Metadata>| {
            found.ok().map(|meta| (meta.dev(), meta.ino()))
        };
        let here = inode(self.lock.metadata());
        here.is_some() && here == inode(std::fs::metadata(self.path.join(LOCK)))
    }

    /// Leaves the logs behind when this is dropped, and says so.
    pub(super) fn keep_logs(&mut self, failure: LabError) -> LabError {
        self.keep_logs = true;
        LabError::LogsKept { logs: self.path.join("logs"), source: Box::new(failure) }
    }

    /// Leaves nothing behind but, where they are to be kept, the logs.
    pub(super) fn leave(mut self) -> Result<(), LabError> {
        if self.keep_logs || !self.is_still_there() { Ok(()) } else { self.remove() }
    }

    /// Removes the folder. The lock goes last: until then it is ours.
    pub(super) fn remove(&mut self) -> Result<(), LabError> {
        self.clear(&[LOCK])?;
        let lock = self.path.join(LOCK);
        at(&lock, FLAG, std::fs::remove_file(&lock))?;
        self.keep_logs = true;
        match std::fs::remove_dir(&self.path) {
            // Another lab is already moving in.
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
            removed => at(&self.path, FLAG, removed),
        }
    }

    fn clear(&self, but: &[&str]) -> Result<(), LabError> {
        for entry in at(&self.path, FLAG, std::fs::read_dir(&self.path))? {
            let entry = at(&self.path, FLAG, entry)?;
            if but.iter().any(|name| entry.file_name() == **name) {
                continue;
            }
            let path = entry.path();
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let removed = if is_folder {
                std::fs::remove_dir_all(&path)
            } else {
                std::fs::remove_file(&path)
            };
            at(&path, FLAG, removed)?;
        }
        Ok(())
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // Not when somebody else has the folder by now.
        if !self.is_still_there() {
            return;
        }
        let _ = if self.keep_logs { self.clear(&[LOCK, STATE, "logs"]) } else { self.remove() };
    }
}

/// What the lab in `path` told last.
pub(super) fn told(path: &Path) -> Option<State> {
    serde_json::from_slice(&std::fs::read(path.join(STATE)).ok()?).ok()
}

/// Asks whoever supervises the lab in `path` to end it.
pub(super) fn ask_to_end(path: &Path) -> Result<(), LabError> {
    let file = path.join(END);
    at(&file, FLAG, File::create(&file).map(drop))
}

/// Whether a khaos supervises the lab in `path`.
pub(super) fn is_supervised(path: &Path) -> Result<bool, LabError> {
    let file = path.join(LOCK);
    let lock = match File::open(&file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        opened => at(&file, FLAG, opened)?,
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(source)) => at(&file, FLAG, Err(source)),
    }
}

/// The same name for a folder whoever names it, whether it exists or not: processes are found by it.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, LabError> {
    let mut there = at(path, FLAG, std::path::absolute(path))?;
    let mut missing = Vec::new();
    loop {
        match there.canonicalize() {
            Ok(real) => return Ok(missing.iter().rev().fold(real, |path, name| path.join(name))),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let Some(name) = there.file_name().map(ToOwned::to_owned) else {
                    return at(path, FLAG, Err(error));
                };
                missing.push(name);
                there.pop();
            }
            Err(error) => return at(path, FLAG, Err(error)),
        }
    }
}

/// Nothing may be done to a folder that has something in it and no lab's lock.
fn refuse_foreign(path: &Path) -> Result<(), LabError> {
    let mut entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        read => at(path, FLAG, read)?,
    };
    if entries.next().is_some() && !path.join(LOCK).is_file() {
        return Err(LabError::Foreign { path: path.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_folder_that_no_lab_made_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("thesis.txt"), "years").unwrap();
        let refused = RunFolder::take(dir.path()).await.unwrap_err().to_string();
        assert!(refused.contains("no lab made it") && refused.contains("--dir"), "{refused}");
        assert!(RunFolder::find(dir.path()).is_err());
        assert_eq!(names(dir.path()), ["thesis.txt"]);
        let file = dir.path().join("thesis.txt");
        assert!(RunFolder::take(&file).await.unwrap_err().to_string().contains("thesis.txt"));
    }

    #[tokio::test]
    async fn one_lab_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("not/yet/there");
        assert!(matches!(RunFolder::find(&path), Ok(Found::Nothing)));
        assert!(!path.exists(), "looking makes nothing");
        let mut first = RunFolder::take(&path).await.unwrap();
        first.prepare().unwrap();
        assert!(matches!(RunFolder::find(&path), Ok(Found::Supervised)));
        assert!(is_supervised(&path).unwrap());
        let second = RunFolder::take(&path).await.unwrap_err().to_string();
        assert!(second.contains("already up") && second.contains("khaos lab down"), "{second}");
        assert!(!first.is_to_end());
        ask_to_end(&path).unwrap();
        assert!(first.is_to_end());
        drop(first);
        assert!(!path.exists(), "nothing is left");
        assert!(path.parent().unwrap().exists(), "what is above is not ours");
    }

    #[tokio::test]
    async fn logs_can_be_kept_and_the_next_lab_clears_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lab");
        let mut folder = RunFolder::take(&path).await.unwrap();
        folder.prepare().unwrap();
        std::fs::write(folder.log("jobmanager"), "why").unwrap();
        let failure = folder.keep_logs(LabError::TakenDown).to_string();
        assert!(failure.contains("/lab/logs"), "{failure}");
        drop(folder);
        assert_eq!(names(&path), [LOCK, "logs"]);
        assert!(matches!(RunFolder::find(&path), Ok(Found::Left(_))));
        assert_eq!(names(&path.join("logs")), ["jobmanager.log"], "looking removes nothing");
        let mut next = RunFolder::take(&path).await.unwrap();
        next.prepare().unwrap();
        assert!(names(&path.join("logs")).is_empty());
        next.remove().unwrap();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_lab_whose_folder_was_taken_away_removes_nothing_of_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lab");
        let mut first = RunFolder::take(&path).await.unwrap();
        first.prepare().unwrap();
        std::fs::remove_dir_all(&path).unwrap();
        assert!(first.is_to_end());
        let mut next = RunFolder::take(&path).await.unwrap();
        next.prepare().unwrap();
        drop(first);
        assert!(path.join("conf").exists() && !next.is_to_end());
    }

    #[test]
    fn a_folder_has_one_name() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(&real, real.join("link")).unwrap();
        assert_eq!(absolute(&real.join("link/a/b")).unwrap(), real.join("a/b"));
        assert_eq!(absolute(&real.join("link")).unwrap(), real);
    }
}
