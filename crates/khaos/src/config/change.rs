//! By what the interval is changed, and what that has to be told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use khaos_adapters::flink::Description;
use serde::Deserialize;
use toml::{Spanned, Value};

use super::{Wrong, wrong};

/// By what the interval is changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Checkpoints are triggered from outside, between the job's own.
    Drive,
    /// The job is stopped with a savepoint and started from it with another interval of its own.
    Redeploy(Box<Redeploy>),
    /// The job's own interval is set while it runs (FLIP-571). No released Flink can do that: this was
    /// tried on a stub of the proposal alone.
    Live,
}

/// What it takes to redeploy a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Redeploy {
    /// How it is run.
    pub deployment: Description,
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

/// `[job.redeploy]`, as written: its keys are read by hand, to say of some where they belong.
pub(super) type RedeployTable = BTreeMap<Spanned<String>, Spanned<Value>>;

/// What says how the job is run, and not how it is redeployed.
const OF_DEPLOYMENT: [&str; 5] = ["jar", "entry_class", "arguments", "parallelism", "flink"];

/// What the job, run as `deployment` says, is changed by, where records are kept in `store`.
pub(super) fn checked(
    kind: Option<&Spanned<Kind>>,
    table: Option<Spanned<RedeployTable>>,
    deployment: Option<&Description>,
    store: &Path,
) -> Result<Change, Wrong> {
    let (kind, place) = kind.map_or((Kind::Drive, 0..0), |kind| (*kind.get_ref(), kind.span()));
    let at = table.as_ref().map(Spanned::span);
    let savepoints = table.map(|table| savepoints(table.into_inner())).transpose()?.flatten();
    match (kind, at, deployment) {
        (Kind::Redeploy, _, Some(deployment)) => Ok(Change::Redeploy(Box::new(Redeploy {
            journal: journal(store, deployment.name()),
            deployment: deployment.clone(),
            savepoints,
        }))),
        (Kind::Redeploy, _, None) => wrong(
            place,
            "to redeploy a job it has to be known how it is run: add [job.deployment] with jar and \
             parallelism",
        ),
        (_, Some(at), _) => wrong(
            at,
            "[job.redeploy] is for change = \"redeploy\": set that, or leave the table out",
        ),
        (Kind::Drive, None, _) => Ok(Change::Drive),
        (Kind::Live, None, _) => Ok(Change::Live),
    }
}

/// The directory of savepoints, where there is one.
fn savepoints(table: RedeployTable) -> Result<Option<String>, Wrong> {
    let mut savepoints = None;
    for (key, value) in table {
        let place = value.span();
        match (key.get_ref().as_str(), value.into_inner()) {
            ("savepoints", Value::String(directory)) if is_absolute(&directory) => {
                savepoints = Some(directory);
            }
            ("savepoints", Value::String(directory)) => {
                return wrong(
                    place,
                    format!(
                        "savepoints is relative ('{directory}'), but it is the cluster that writes them: \
                         give a place that all of it knows, as s3://… or file:///…, or leave it out where \
                         the cluster has a directory of its own"
                    ),
                );
            }
            ("savepoints", _) => return wrong(place, "savepoints is not text: put it in quotes"),
            (moved, _) if OF_DEPLOYMENT.contains(&moved) => {
                return wrong(
                    key.span(),
                    format!(
                        "{moved} has moved to [job.deployment], which says how the job is run: write it \
                         there, and leave only savepoints here"
                    ),
                );
            }
            (unknown, _) => {
                let what = format!("unknown key `{unknown}`, expected `savepoints`");
                return wrong(key.span(), what);
            }
        }
    }
    Ok(savepoints)
}

/// Whether Flink knows the directory without being told from where it counts.
fn is_absolute(directory: &str) -> bool {
    let scheme = directory.split_once(":/").map(|(scheme, _)| scheme);
    directory.starts_with('/') || scheme.is_some_and(|scheme| !scheme.is_empty())
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
    use khaos_adapters::flink::Submission;
    use khaos_core::units::CheckpointInterval;

    use super::*;
    use crate::config::{Config, read};

    /// A file in a folder of its own with `orders.jar`, whose job has `keys` and `tables`.
    fn config(keys: &str, tables: &str) -> (tempfile::TempDir, Result<Config, String>) {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[flink]\nurl = \"http://f\"\n[[job]]\nname = \"a/b c\"\n{keys}\
             [job.objectives]\nrecovery = \"3m\"\n{tables}"
        );
        std::fs::write(folder.path().join("orders.jar"), "jar").unwrap();
        std::fs::write(folder.path().join("khaos.toml"), text).unwrap();
        let config = read(&folder.path().join("khaos.toml")).map_err(|error| error.to_string());
        (folder, config)
    }

    const REDEPLOY: &str = "change = \"redeploy\"\ninterval.max = \"2m\"\n";
    const TABLE: &str = "[job.deployment]\njar = \"orders.jar\"\nparallelism = 4\n";

    #[test]
    fn a_redeploy_knows_how_the_job_is_run() {
        let more = "entry_class = \"o.Orders\"\narguments = [\"--a\", \"{input:b}\"]\n\
                    [job.deployment.flink]\n\"state.backend.type\" = \"rocksdb\"\n\
                    [job.redeploy]\nsavepoints = \"s3://s\"\n";
        let (folder, config) = config(REDEPLOY, &format!("{TABLE}{more}"));
        let job = config.unwrap().job;
        let Change::Redeploy(found) = job.change else { panic!("no redeploy") };
        let expected = Submission {
            name: "a/b c".into(),
            jar: folder.path().join("orders.jar"),
            entry_class: Some("o.Orders".into()),
            arguments: vec!["--a".into(), "b".into()],
            parallelism: 4,
            configuration: BTreeMap::from([("state.backend.type".into(), "rocksdb".into())]),
        };
        assert_eq!(found.deployment.itself(CheckpointInterval::from_secs(1).unwrap()), expected);
        assert_eq!(job.deployment.as_ref(), Some(&found.deployment));
        assert_eq!(found.savepoints.as_deref(), Some("s3://s"));
        assert_eq!(found.journal, folder.path().join("khaos.sqlite.a%2fb%20c.redeploy.json"));
    }

    #[test]
    fn the_others_need_no_more_than_their_name() {
        let change = |keys| config(keys, "").1.unwrap().job.change;
        assert_eq!(change(""), Change::Drive);
        assert_eq!(change("change = \"drive\"\n"), Change::Drive);
        assert_eq!(change("change = \"live\"\n"), Change::Live);
        // Savepoints may go where the cluster puts them.
        let change = config(REDEPLOY, TABLE).1.unwrap().job.change;
        assert!(matches!(change, Change::Redeploy(redeploy) if redeploy.savepoints.is_none()));
        // How a job is run may be said though nobody redeploys it.
        assert_eq!(config("", TABLE).1.unwrap().job.change, Change::Drive);
    }

    #[test]
    fn the_cluster_knows_the_directory_without_being_told_from_where_it_counts() {
        for directory in ["/s", "file:/s", "file:///s", "s3://bucket/s"] {
            assert!(is_absolute(directory), "{directory}");
        }
        for directory in ["s", "s/t", "./s", ":/s"] {
            assert!(!is_absolute(directory), "{directory}");
        }
    }
}
