//! By what the interval is changed, and what that has to be told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use khaos_adapters::flink::Submission;
use serde::Deserialize;
use toml::{Spanned, Value};

use super::{Wrong, wrong};

/// By what the interval is changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Checkpoints are triggered from outside, between the job's own.
    Drive,
    /// The job is stopped with a savepoint and started from it with another interval of its own.
    Redeploy(Redeploy),
    /// The job's own interval is set while it runs (FLIP-571). No released Flink can do that: this was
    /// tried on a stub of the proposal alone.
    Live,
}

/// What it takes to redeploy a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Redeploy {
    /// How it is run.
    pub submission: Submission,
    /// The directory that savepoints go to; the cluster's own when `None`.
    pub savepoints: Option<String>,
    /// The file that remembers a redeploy that has begun: beside the store, of this job alone.
    pub journal: PathBuf,
}

/// `change`, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Drive,
    Redeploy,
    Live,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RedeployTable {
    jar: Spanned<PathBuf>,
    entry_class: Option<String>,
    #[serde(default)]
    arguments: Vec<String>,
    parallelism: Spanned<u32>,
    savepoints: Option<Spanned<String>>,
    #[serde(default)]
    flink: BTreeMap<String, Spanned<Value>>,
}

/// What `job` is changed by, where relative paths count from `folder` and records are kept in `store`.
pub(super) fn checked(
    kind: Option<&Spanned<Kind>>,
    table: Option<Spanned<RedeployTable>>,
    job: &str,
    folder: &Path,
    store: &Path,
) -> Result<Change, Wrong> {
    match (kind.map_or(Kind::Drive, |kind| *kind.get_ref()), table) {
        (Kind::Redeploy, Some(table)) => {
            redeploy(table.into_inner(), job, folder, store).map(Change::Redeploy)
        }
        (Kind::Redeploy, None) => wrong(
            kind.map_or(0..0, Spanned::span),
            "to redeploy a job it has to be known how it is run: add [job.redeploy] with jar and \
             parallelism",
        ),
        (_, Some(table)) => wrong(
            table.span(),
            "[job.redeploy] is for change = \"redeploy\": set that, or leave the table out",
        ),
        (Kind::Drive, None) => Ok(Change::Drive),
        (Kind::Live, None) => Ok(Change::Live),
    }
}

fn redeploy(
    table: RedeployTable,
    job: &str,
    folder: &Path,
    store: &Path,
) -> Result<Redeploy, Wrong> {
    let RedeployTable { jar, entry_class, arguments, parallelism, savepoints, flink } = table;
    let place = jar.span();
    let jar = folder.join(jar.into_inner());
    if !jar.is_file() {
        return wrong(
            place,
            format!(
                "there is no file {}: give the jar that the job was submitted with; a relative path \
                 counts from this file's folder",
                jar.display()
            ),
        );
    }
    if *parallelism.get_ref() == 0 {
        return wrong(parallelism.span(), "parallelism is 0: give what the job runs with");
    }
    if let Some(place) = savepoints.as_ref().filter(|directory| !is_absolute(directory.get_ref())) {
        return wrong(
            place.span(),
            format!(
                "savepoints is relative ('{}'), but it is the cluster that writes them: give a place \
                 that all of it knows, as s3://… or file:///…, or leave it out where the cluster has \
                 a directory of its own",
                place.get_ref()
            ),
        );
    }
    let submission = Submission {
        name: job.to_owned(),
        jar,
        entry_class,
        arguments,
        parallelism: parallelism.into_inner(),
        configuration: configuration(flink)?,
    };
    let savepoints = savepoints.map(Spanned::into_inner);
    Ok(Redeploy { submission, savepoints, journal: journal(store, job) })
}

/// Whether Flink knows the directory without being told from where it counts.
fn is_absolute(directory: &str) -> bool {
    let scheme = directory.split_once(":/").map(|(scheme, _)| scheme);
    directory.starts_with('/') || scheme.is_some_and(|scheme| !scheme.is_empty())
}

/// Flink's settings, which are text.
fn configuration(
    table: BTreeMap<String, Spanned<Value>>,
) -> Result<BTreeMap<String, String>, Wrong> {
    let text = |(key, value): (String, Spanned<Value>)| match value.get_ref() {
        Value::String(text) => Ok((key, text.clone())),
        Value::Table(_) => wrong(
            value.span(),
            format!("a key that begins with {key} is taken apart at its dots: put it in quotes"),
        ),
        _ => wrong(value.span(), format!("the value of {key} is not text: put it in quotes")),
    };
    table.into_iter().map(text).collect()
}

/// The file that remembers what is under way: of this store and of this job alone, whatever characters are
/// in its name.
fn journal(store: &Path, job: &str) -> PathBuf {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let written = |byte| {
        if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") }
    };
    let name: String = job.bytes().map(written).collect();
    let mut path = store.as_os_str().to_owned();
    path.push(format!(".{name}.redeploy.json"));
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, read};

    /// A file in a folder of its own with `orders.jar`, whose job has `keys` and a table `redeploy`.
    fn config(keys: &str, redeploy: &str) -> (tempfile::TempDir, Result<Config, String>) {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[flink]\nurl = \"http://f\"\n[[job]]\nname = \"a/b c\"\n{keys}\
             [job.objectives]\nrecovery = \"3m\"\n{redeploy}"
        );
        std::fs::write(folder.path().join("orders.jar"), "jar").unwrap();
        std::fs::write(folder.path().join("khaos.toml"), text).unwrap();
        let config = read(&folder.path().join("khaos.toml")).map_err(|error| error.to_string());
        (folder, config)
    }

    const REDEPLOY: &str = "change = \"redeploy\"\ninterval.max = \"2m\"\n";
    const TABLE: &str = "[job.redeploy]\njar = \"orders.jar\"\nparallelism = 4\n";

    #[test]
    fn a_redeploy_knows_how_the_job_is_run() {
        let more = "entry_class = \"o.Orders\"\narguments = [\"--a\", \"b\"]\n\
                    savepoints = \"s3://s\"\n[job.redeploy.flink]\n\"state.backend.type\" = \"rocksdb\"\n";
        let (folder, config) = config(REDEPLOY, &format!("{TABLE}{more}"));
        let Change::Redeploy(found) = config.unwrap().job.change else { panic!("no redeploy") };
        let expected = Submission {
            name: "a/b c".into(),
            jar: folder.path().join("orders.jar"),
            entry_class: Some("o.Orders".into()),
            arguments: vec!["--a".into(), "b".into()],
            parallelism: 4,
            configuration: BTreeMap::from([("state.backend.type".into(), "rocksdb".into())]),
        };
        assert_eq!((found.submission, found.savepoints), (expected, Some("s3://s".into())));
        assert_eq!(found.journal, folder.path().join("khaos.sqlite.a%2fb%20c.redeploy.json"));
    }

    #[test]
    fn the_others_need_no_more_than_their_name() {
        let change = |keys| config(keys, "").1.unwrap().job.change;
        assert_eq!(change(""), Change::Drive);
        assert_eq!(change("change = \"drive\"\n"), Change::Drive);
        assert_eq!(change("change = \"live\"\n"), Change::Live);
    }

    #[test]
    fn every_error_names_the_line_and_what_to_change() {
        let table = |more: &str| format!("{TABLE}{more}");
        for (keys, redeploy, says) in [
            ("change = \"redploy\"\n", String::new(), ["line 5: ", "`redploy`", "`redeploy`"]),
            (REDEPLOY, String::new(), ["line 5: ", "add [job.redeploy]", "jar"]),
            ("", table(""), ["line 7: ", "change = \"redeploy\"", "leave the table out"]),
            ("change = \"live\"\n", table(""), ["line 8: ", "change = \"redeploy\"", "leave"]),
            ("change = \"redeploy\"\n", table(""), ["line 5: ", "max", "[job.interval]"]),
            (REDEPLOY, TABLE.replace("orders", "other"), ["line 10: ", "other.jar", "folder"]),
            (REDEPLOY, TABLE.replace("jar =", "jars ="), ["line 10: ", "`jars`", "`jar`"]),
            (
                REDEPLOY,
                "[job.redeploy]\nparallelism = 1\n".into(),
                ["line 9: ", "missing", "`jar`"],
            ),
            (REDEPLOY, TABLE.replace('4', "0"), ["line 11: ", "parallelism is 0", "runs with"]),
            (
                REDEPLOY,
                table("savepoints = \"saved/here\"\n"),
                ["line 12: ", "relative ('saved/here')", "file:///"],
            ),
            (
                REDEPLOY,
                table("[job.redeploy.flink]\nstate.backend.type = \"rocksdb\"\n"),
                ["line 13: ", "begins with state", "in quotes"],
            ),
            (
                REDEPLOY,
                table("[job.redeploy.flink]\n\"a.b\" = 5\n"),
                ["line 13: ", "value of a.b", "in quotes"],
            ),
        ] {
            let message = config(keys, &redeploy).1.unwrap_err();
            for said in says {
                assert!(message.contains(said), "{keys}{redeploy} does not say {said}: {message}");
            }
            assert!(message.contains("khaos.toml: "), "{message}");
        }
        for directory in ["/s", "file:/s", "file:///s", "s3://bucket/s"] {
            assert!(is_absolute(directory), "{directory}");
        }
    }
}
