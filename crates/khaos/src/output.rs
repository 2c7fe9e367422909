//! Standard output, for results, and folders of results. Whoever stops reading has read enough: that is
//! no failure.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::input::BadInput;

/// Makes the folder that results go to: before the work, not after it, for it may not be ours to make.
pub fn folder(dir: &Path) -> Result<(), BadInput> {
    std::fs::create_dir_all(dir)
        .map_err(|error| BadInput(format!("--out {}: cannot be made: {error}", dir.display())))
}

/// Keeps `text` as `name` in `dir`, written beside and renamed: nobody ever reads half a page. The
/// file's path.
pub fn keep(dir: &Path, name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let (path, draft) = (dir.join(name), dir.join(format!(".{name}.part")));
    std::fs::write(&draft, text)
        .and_then(|()| std::fs::rename(&draft, &path))
        .with_context(|| format!("{}: cannot be written", path.display()))?;
    Ok(path)
}

/// Prints `text` and a line end.
pub fn say(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("standard output cannot be written"),
    }
}
