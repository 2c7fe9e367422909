//! The folder of a recording: who may write, and which files are there.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::error::{RecordingError, at, writing};
use super::manifest;

const LOCK: &str = "khaos-recording.lock";
/// What a file system has at its root from the beginning.
const LOST: &str = "lost+found";

/// Keeps other writers out as long as it lives. The kernel drops the lock of a process that dies.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "it is there to be held")] File);

impl Lock {
    pub(super) fn take(dir: &Path) -> Result<Self, RecordingError> {
        let path = dir.join(LOCK);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = at(&path, file)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(RecordingError::Locked { dir: dir.to_owned() }),
            Err(TryLockError::Error(source)) => Err(RecordingError::Io { path, source }),
        }
    }
}

/// Is somebody writing to the recording in `dir` right now?
pub(super) fn is_written(dir: &Path) -> Result<bool, RecordingError> {
    let path = dir.join(LOCK);
    let file = match File::open(&path) {
        // Copies need no lock.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        opened => at(&path, opened)?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(source)) => Err(RecordingError::Io { path, source }),
    }
}

/// Makes the folder where it is not there, and refuses one that holds anything but what a recording
/// that never began has left, or what an empty disk has.
pub(super) fn make(dir: &Path) -> Result<(), RecordingError> {
    writing(dir, fs::create_dir_all(dir))?;
    for entry in at(dir, fs::read_dir(dir))? {
        let name = at(dir, entry)?.file_name();
        if ![LOCK, manifest::DRAFT, LOST].map(OsStr::new).contains(&name.as_os_str()) {
            return Err(RecordingError::NotEmpty { dir: dir.to_owned() });
        }
    }
    // Whoever may write here may not be allowed to look into what is above.
    let parent = dir.canonicalize().ok().and_then(|dir| dir.parent().map(sync_dir));
    drop(parent);
    Ok(())
}

/// Brings what files there are in `dir` to disk.
pub(super) fn sync_dir(dir: &Path) -> Result<(), RecordingError> {
    writing(dir, File::open(dir).and_then(|dir| dir.sync_all()))
}

pub(super) fn segment(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:08}.segment"))
}

/// How many segments are there: they are numbered from 0, without gaps.
pub(super) fn segments(dir: &Path) -> Result<u32, RecordingError> {
    let mut numbers = Vec::new();
    for entry in at(dir, fs::read_dir(dir))? {
        let name = at(dir, entry)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".segment"));
        numbers.extend(number.and_then(|number| number.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    match (0..).zip(&numbers).find(|(expected, number)| expected != *number) {
        Some((missing, _)) => Err(RecordingError::Missing { file: segment(dir, missing) }),
        None => Ok(numbers.len() as u32),
    }
}
