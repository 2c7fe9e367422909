//! Standard output, for results. Whoever stops reading has read enough: that is no failure.

use std::io::{ErrorKind, Write};

use anyhow::Context;

/// Prints `text` and a line end.
pub fn say(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("standard output cannot be written"),
    }
}
