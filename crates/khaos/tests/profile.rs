//! `khaos observe` and `khaos profile`, as far as they come where nobody answers: what they say, and where.
#![allow(clippy::unwrap_used, reason = "a test says what is broken by panicking")]

use std::path::PathBuf;

use assert_cmd::Command;

/// Nobody listens at either address.
const NOWHERE: &str = "[flink]\nurl = \"http://127.0.0.1:1\"\n[[job]]\nname = \"orders\"\n\
                       [job.objectives]\nrecovery = \"3m\"\n";
/// Clones may be made of it.
const CLONED: &str = r#"
[job.kafka]
bootstrap = "127.0.0.1:1"
topics = ["orders"]
[job.deployment]
jar = "orders.jar"
arguments = ["{input:orders}", "{output:totals}", "{group:shop}", "{transactions:shop}"]
parallelism = 4
[job.profile]
only_kafka = true
kill = ["kill-it", "{taskmanager}"]
"#;

struct Folder(tempfile::TempDir);

impl Folder {
    /// With a configuration.
    fn of(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("khaos.toml"), config).unwrap();
        std::fs::write(dir.path().join("orders.jar"), "jar").unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What it says to `arguments` on standard error, where `code` comes of it. Standard output is for results.
    fn refused(&self, arguments: &[&str], code: i32) -> String {
        let mut khaos = Command::cargo_bin("khaos").unwrap();
        khaos.args(arguments).arg("--config").arg(self.path("khaos.toml"));
        let output = khaos.timeout(std::time::Duration::from_mins(1)).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}: an error leaves standard output empty");
        said
    }
}

const PROFILES: [&[&str]; 4] = [
    &["profile"],
    &["profile", "--json"],
    &["profile", "--dry-run"],
    &["profile", "--dry-run", "--json"],
];

#[test]
fn without_its_table_no_clone_is_made() {
    let folder = Folder::of(NOWHERE);
    for arguments in PROFILES {
        let said = folder.refused(arguments, 2);
        assert!(said.contains("khaos.toml: [job.profile] is missing"), "{said}");
        assert!(said.contains("docs/khaos.toml"), "{said}");
    }
    assert!(!folder.path("khaos.sqlite").exists(), "nothing was begun");
}

#[test]
fn a_job_that_may_write_elsewhere_is_not_cloned() {
    let unsaid = CLONED.replace("only_kafka = true\n", "");
    let denied = CLONED.replace("only_kafka = true", "only_kafka = false");
    for cloned in [unsaid, denied] {
        let folder = Folder::of(&format!("{NOWHERE}{cloned}"));
        for arguments in PROFILES {
            let said = folder.refused(arguments, 2);
            assert!(said.contains("khaos.toml: line 1"), "{said}");
            assert!(said.contains("set only_kafka = true in [job.profile] when"), "{said}");
        }
    }
}

#[test]
fn a_flink_that_does_not_answer_is_named() {
    let folder = Folder::of(&format!("{NOWHERE}{CLONED}"));
    let observes: [&[&str]; 2] = [&["observe"], &["observe", "--for", "2h", "--json"]];
    for arguments in PROFILES.into_iter().chain(observes) {
        let said = folder.refused(arguments, 1);
        assert!(said.contains("http://127.0.0.1:1/"), "{arguments:?}: {said}");
    }
}
