//! The paper's recorded runs, which stand beside the project where it is developed and nowhere else.
#![allow(clippy::unwrap_used, reason = "a test says what is broken by panicking")]

mod day;
mod fit;
mod forecast;

use std::io::Write;
use std::path::{Path, PathBuf};

/// The folder of recorded runs; says so where there is none.
fn recorded(test: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/iot-vehicles");
    if path.is_dir() {
        return Some(path);
    }
    // Past the capture of passing tests' output: the line must be seen.
    let mut stderr = std::io::stderr().lock();
    writeln!(stderr, "skipped: {test}: the recorded runs are not here").unwrap();
    None
}
