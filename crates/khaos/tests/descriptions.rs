//! What a newcomer is told of a mistake in the description of a job: each file in `descriptions/` has one,
//! and beside it stands the whole of what `khaos run` says of it.
//!
//! After a change of messages, `KHAOS_ACCEPT=1 cargo test -p khaos --test descriptions` writes what is said
//! now. Read each one as somebody would who sees it for the first time: file, line, what is wrong, and what
//! to write instead.
#![allow(clippy::unwrap_used, reason = "a test says what is broken by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use assert_cmd::Command;

/// The names of the files with this extension, without it.
fn names(folder: &Path, extension: &str) -> BTreeSet<String> {
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let found = files.filter(|path| path.extension().is_some_and(|its| its == extension));
    found.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn a_newcomer_is_told_what_to_change() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/descriptions");
    let accept = std::env::var_os("KHAOS_ACCEPT").is_some();
    let cases = names(&folder, "toml");
    assert!(!cases.is_empty());
    // What is said names no folder, so that it is the same on every machine.
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("orders.jar"), "jar").unwrap();
    let mut different = Vec::new();
    for name in &cases {
        let (file, golden) = (format!("{name}.toml"), folder.join(format!("{name}.txt")));
        std::fs::copy(folder.join(&file), elsewhere.path().join(&file)).unwrap();
        let mut khaos = Command::cargo_bin("khaos").unwrap();
        khaos.current_dir(elsewhere.path()).args(["run", "--config", &file]);
        // One without a mistake would be followed for ever.
        let output = khaos.timeout(Duration::from_mins(1)).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{file}: {said}");
        assert!(output.stdout.is_empty(), "{file}: an error leaves standard output empty");
        if accept {
            std::fs::write(&golden, &said).unwrap();
        }
        match std::fs::read_to_string(&golden) {
            Ok(expected) if expected == said => {}
            Ok(expected) => different.push(format!("{file} is to say\n{expected}but says\n{said}")),
            Err(_) => different.push(format!("{name}.txt is missing; {file} says\n{said}")),
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    assert_eq!(names(&folder, "txt"), cases, "a text without its file");
}
