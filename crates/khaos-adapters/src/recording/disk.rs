//! What writes segments: a thread of its own compresses frames and brings them to disk, in the order in
//! which they were handed over. Whoever fills them waits for it only where much is waiting already.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use zstd::bulk::Compressor;

use super::error::{RecordingError, at, writing};
use super::folder::{self, sync_dir};
use super::frame::{self, Filling, Out};
use super::segment::{self, HEADER, Index, Segment};

/// Bytes of frames that may wait for the disk, a third of a second of small events: a sync takes less. A larger
/// frame waits alone.
const WAITING: u64 = 32 << 20;

/// Hands frames over to the thread that writes them. What was handed over is written, also when this is
/// dropped.
pub(super) struct Disk {
    dir: PathBuf,
    /// `None` once nothing more is to come.
    tell: Option<Sender<Work>>,
    thread: Option<JoinHandle<Result<Segments, RecordingError>>>,
    shared: Arc<Shared>,
}

/// What the thread is told to do.
enum Work {
    /// Write a frame of this partition.
    Write(i32, Filling),
    /// Bring everything to disk, then call this.
    Sync(Box<dyn FnOnce() + Send>),
}

/// How much there is, bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// In files.
    pub(super) written: u64,
    /// What the newest segment will end with.
    pub(super) footer: u64,
    /// More than the frames will take that were handed over and are not written yet.
    pub(super) waiting: u64,
}

/// What both sides look at.
struct Shared {
    state: Mutex<State>,
    /// A frame was written, or none will be any more.
    changed: Condvar,
}

struct State {
    sizes: Sizes,
    /// Memory of full frames that were written.
    spare: Vec<Vec<u8>>,
    /// The thread is at its end.
    over: bool,
}

impl Shared {
    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("sizes", &self.sizes()).finish_non_exhaustive()
    }
}

impl Disk {
    /// Begins to write behind `segments`.
    pub(super) fn behind(segments: Segments) -> Self {
        let (tell, told) = channel();
        let dir = segments.dir.clone();
        let state = State { sizes: segments.sizes(0), spare: Vec::new(), over: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::spawn(move || segments.work(told, &theirs));
        Self { dir, tell: Some(tell), thread: Some(thread), shared }
    }

    /// Has `full` written, a frame of `partition`. An error may be of a frame before.
    pub(super) fn write(&mut self, partition: i32, full: Filling) -> Result<(), RecordingError> {
        let bytes = full.at_most();
        let is_much = |state: &mut State| {
            let waiting = state.sizes.waiting;
            !state.over && waiting > 0 && waiting + bytes > WAITING
        };
        let waited = self.shared.changed.wait_while(self.shared.locked(), is_much);
        waited.unwrap_or_else(PoisonError::into_inner).sizes.waiting += bytes;
        self.tell(Work::Write(partition, full))
    }

    /// Has `done` called by the thread once everything that was handed over is on disk. Where that fails
    /// it is dropped, and [`Disk::failure`] says why.
    pub(super) fn sync_then(
        &mut self,
        done: impl FnOnce() + Send + 'static,
    ) -> Result<(), RecordingError> {
        self.tell(Work::Sync(Box::new(done)))
    }

    /// Ends the newest segment with its index, once everything is written. Nothing can be written then.
    pub(super) fn seal(&mut self) -> Result<(), RecordingError> {
        self.end()?.seal()
    }

    /// Why the thread ended before its time.
    pub(super) fn failure(&mut self) -> RecordingError {
        let failed = RecordingError::Failed { dir: self.dir.clone() };
        self.end().err().unwrap_or(failed)
    }

    /// Memory to fill again, after a frame that was full: as many of these give theirs back.
    pub(super) fn spare(&self) -> Vec<u8> {
        self.shared.locked().spare.pop().unwrap_or_default()
    }

    pub(super) fn sizes(&self) -> Sizes {
        self.shared.locked().sizes
    }

    fn tell(&mut self, work: Work) -> Result<(), RecordingError> {
        let told = self.tell.as_ref().is_some_and(|tell| tell.send(work).is_ok());
        if told { Ok(()) } else { Err(self.failure()) }
    }

    /// Waits until everything is written, or for what went wrong, which is told once.
    fn end(&mut self) -> Result<Segments, RecordingError> {
        self.tell = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ended)) => ended,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Err(RecordingError::Failed { dir: self.dir.clone() }),
        }
    }
}

impl Drop for Disk {
    /// Nobody else may write to the folder before the thread has ended.
    fn drop(&mut self) {
        self.tell = None;
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// Tells whoever waits that the thread is at its end, however it came to that.
struct Over<'a>(&'a Shared);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.locked().over = true;
        self.0.changed.notify_all();
    }
}

/// The segments of a recording, the newest open for more.
pub(super) struct Segments {
    dir: PathBuf,
    manifest_crc: u32,
    newest: Option<Newest>,
    /// Number of the segment after the newest.
    number: u32,
    /// Bytes in segments that are sealed.
    sealed: u64,
    compressor: Compressor<'static>,
    out: Out,
}

/// A segment that frames are added to.
#[derive(Debug)]
struct Newest {
    path: PathBuf,
    file: File,
    number: u32,
    /// Its length.
    position: u64,
    /// So much of it is on disk.
    synced: u64,
    index: Index,
}

impl Segments {
    /// None yet.
    pub(super) fn none(dir: &Path, manifest_crc: u32) -> Self {
        Self {
            dir: dir.to_owned(),
            manifest_crc,
            newest: None,
            number: 0,
            sealed: 0,
            compressor: frame::compressor(),
            out: Out::default(),
        }
    }

    /// Those that are there: so many, of which sealed ones take so many bytes. What is torn at the end of
    /// the newest is cut, if that is not sealed.
    pub(super) fn reopen(
        dir: &Path,
        manifest_crc: u32,
        number: u32,
        sealed: u64,
        newest: Option<&Segment>,
    ) -> Result<Self, RecordingError> {
        let reopen = |found| Newest::reopen(dir, number - 1, manifest_crc, found);
        let newest = newest.map(reopen).transpose()?;
        Ok(Self { newest, number, sealed, ..Self::none(dir, manifest_crc) })
    }

    /// Does what it is told until nothing more can come.
    fn work(mut self, told: Receiver<Work>, shared: &Shared) -> Result<Self, RecordingError> {
        let _over = Over(shared);
        for work in told {
            match work {
                Work::Write(partition, full) => {
                    let (waited, is_full) = (full.at_most(), full.is_full());
                    let memory = self.write(partition, full)?;
                    let mut state = shared.locked();
                    state.sizes = self.sizes(state.sizes.waiting - waited);
                    if is_full {
                        state.spare.push(memory);
                    }
                    shared.changed.notify_all();
                }
                Work::Sync(done) => {
                    self.sync()?;
                    done();
                }
            }
        }
        Ok(self)
    }

    /// Writes a frame. Its memory may be filled again.
    fn write(&mut self, partition: i32, full: Filling) -> Result<Vec<u8>, RecordingError> {
        let newest = match &mut self.newest {
            Some(newest) => newest,
            none => {
                let begun = Newest::begin(&self.dir, self.number, self.manifest_crc)?;
                self.number += 1;
                none.insert(begun)
            }
        };
        let place = (newest.number, newest.position, newest.synced);
        let closed = full.close(&mut self.compressor, place, partition, &mut self.out);
        let (header, memory) = writing(&newest.path, closed)?;
        writing(&newest.path, newest.file.write_all(self.out.bytes()))?;
        newest.position += header.len();
        newest.index.add(&self.out.bytes()[..header.head_len as usize]);
        if newest.position >= segment::FULL {
            self.seal()?;
        }
        Ok(memory)
    }

    fn sync(&mut self) -> Result<(), RecordingError> {
        match &mut self.newest {
            Some(newest) if newest.synced < newest.position => {
                writing(&newest.path, newest.file.sync_data())?;
                newest.synced = newest.position;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Ends the newest segment with its index. The next frame begins another.
    fn seal(&mut self) -> Result<(), RecordingError> {
        let Some(mut newest) = self.newest.take() else { return Ok(()) };
        // The frames first: an index is never on disk without them.
        writing(&newest.path, newest.file.sync_data())?;
        let footer = newest.index.footer(newest.number);
        let written = newest.file.write_all(&footer).and_then(|()| newest.file.sync_data());
        writing(&newest.path, written)?;
        self.sealed += newest.position + footer.len() as u64;
        Ok(())
    }

    fn sizes(&self, waiting: u64) -> Sizes {
        let (position, footer) = self
            .newest
            .as_ref()
            .map_or((0, HEADER), |newest| (newest.position, newest.index.len()));
        Sizes { written: self.sealed + position, footer, waiting }
    }
}

impl Newest {
    fn begin(dir: &Path, number: u32, manifest_crc: u32) -> Result<Self, RecordingError> {
        let path = folder::segment(dir, number);
        let file = OpenOptions::new().append(true).create_new(true).open(&path);
        let mut file = writing(&path, file)?;
        write_header(&path, &mut file, number, manifest_crc)?;
        sync_dir(dir)?;
        Ok(Self { path, file, number, position: HEADER, synced: HEADER, index: Index::new() })
    }

    /// Cuts what is torn, and goes on behind it.
    fn reopen(
        dir: &Path,
        number: u32,
        manifest_crc: u32,
        found: &Segment,
    ) -> Result<Self, RecordingError> {
        let path = folder::segment(dir, number);
        let mut file = at(&path, OpenOptions::new().read(true).append(true).open(&path))?;
        let mut index = Index::new();
        let heads = found.frames.iter().try_for_each(|frame| {
            index.add(&frame.read_head(&file)?);
            Ok(())
        });
        at(&path, heads)?;
        writing(&path, file.set_len(found.end))?;
        if found.end == 0 {
            write_header(&path, &mut file, number, manifest_crc)?;
        } else {
            writing(&path, file.sync_all())?;
        }
        let position = found.end.max(HEADER);
        Ok(Self { path, file, number, position, synced: position, index })
    }
}

fn write_header(
    path: &Path,
    file: &mut File,
    number: u32,
    manifest_crc: u32,
) -> Result<(), RecordingError> {
    let header = segment::header(number, manifest_crc);
    writing(path, file.write_all(&header).and_then(|()| file.sync_all()))
}
