//! Submitting a job: its jar, and how it is run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use khaos_control::core::job::EngineJobId;
use khaos_control::core::units::Timestamp;
use khaos_control::ports::PortError;
use reqwest::multipart::{Form, Part};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::rest::Rest;

/// How long Flink may take to receive a jar, or to make a job of it.
const PATIENCE: Duration = Duration::from_mins(2);

/// All that it takes to run a job, as often as is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// Its name in Flink.
    pub name: String,
    /// Its jar, on this machine.
    pub jar: PathBuf,
    /// The class whose `main` makes the job; the one that the jar names when `None`.
    pub entry_class: Option<String>,
    /// What `main` is given.
    pub arguments: Vec<String>,
    /// Subtasks of each vertex.
    pub parallelism: u32,
    /// Flink configuration of this job alone.
    pub configuration: BTreeMap<String, String>,
}

impl Submission {
    /// Flink's settings that start a job from a savepoint: the key of 1.20 on, and the one before it, which
    /// later versions read, too.
    pub const RESTORES_FROM: [&str; 2] =
        ["execution.state-recovery.path", "execution.savepoint.path"];

    /// The same with nothing to start from.
    #[must_use]
    pub(super) fn starting_empty(mut self) -> Self {
        self.configuration.retain(|key, _| !Self::RESTORES_FROM.contains(&key.as_str()));
        self
    }

    /// The same with Flink's setting `key`.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.configuration.insert(key.to_owned(), value.into());
        self
    }

    /// Runs it under `id`, from the savepoint at `savepoint` where there is one. Whether it runs when
    /// this fails without an answer is told by whether there is a deployment `id`.
    pub(super) async fn run(
        &self,
        rest: &Rest,
        id: &EngineJobId,
        savepoint: Option<&str>,
    ) -> Result<(), PortError> {
        let jar = self.uploaded(rest).await?;
        let body = self.body(id, savepoint);
        let path = format!("/jars/{jar}/run");
        let told: Run = rest.post_patiently(&path, &body, PATIENCE, "jar").await?;
        if told.jobid == id.0 {
            return Ok(());
        }
        Err(PortError::Refused(format!(
            "Flink runs {} as {} instead of {id}: cancel it by hand",
            self.name, told.jobid
        )))
    }

    /// The body of `POST /jars/:jar/run`.
    fn body(&self, id: &EngineJobId, savepoint: Option<&str>) -> Value {
        // It holds where `main` gives the job no name of its own, as `execute("orders")` does.
        let configuration = self.clone().with("pipeline.name", &self.name).configuration;
        let mut body = json!({
            "jobId": id.0,
            "programArgsList": self.arguments,
            "parallelism": self.parallelism,
            "flinkConfiguration": configuration,
        });
        if let Some(class) = &self.entry_class {
            body["entryClass"] = json!(class);
        }
        if let Some(savepoint) = savepoint {
            body["savepointPath"] = json!(savepoint);
            // State that nobody takes over is state lost.
            body["allowNonRestoredState"] = json!(false);
        }
        body
    }

    /// Flink's id of the jar: it is uploaded where Flink does not have it yet.
    pub(super) async fn uploaded(&self, rest: &Rest) -> Result<String, PortError> {
        let path = self.jar.display();
        let jar = std::fs::read(&self.jar)
            .map_err(|error| PortError::Refused(format!("jar {path} cannot be read: {error}")))?;
        // Named by what is in it: it is uploaded once, however many runs there are.
        let digest = Sha256::digest(&jar);
        let hash: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let name = format!("khaos-{hash}.jar");
        match jars(rest).await?.into_iter().find(|file| file.name == name) {
            Some(known) => Ok(known.id),
            None => upload(rest, name, jar).await,
        }
    }
}

/// The jars that Flink has.
pub(super) async fn jars(rest: &Rest) -> Result<Vec<Jar>, PortError> {
    let there: Jars = rest.get("/jars", "list of jars").await?;
    Ok(there.files)
}

/// Gives Flink a jar of this name: its id there.
pub(super) async fn upload(rest: &Rest, name: String, jar: Vec<u8>) -> Result<String, PortError> {
    let form = Form::new().part("jarfile", Part::bytes(jar).file_name(name));
    let told: Uploaded = rest.upload("/jars/upload", form, PATIENCE).await?;
    Ok(told.filename.rsplit('/').next().unwrap_or(&told.filename).to_owned())
}

/// A deployment's id, chosen by us, so that it is known whether or not Flink's answer arrives: by the
/// job's name and the time, 32 hex digits.
pub(super) fn new_id(name: &str, at: Timestamp) -> EngineJobId {
    let digest =
        Sha256::new().chain_update(name.as_bytes()).chain_update(at.0.to_le_bytes()).finalize();
    EngineJobId(digest[..16].iter().map(|byte| format!("{byte:02x}")).collect())
}

#[derive(Debug, Deserialize)]
struct Jars {
    files: Vec<Jar>,
}

/// One of the jars that Flink has.
#[derive(Debug, Deserialize)]
pub(super) struct Jar {
    /// Flink's id of it.
    pub(super) id: String,
    /// As it was uploaded.
    pub(super) name: String,
}

#[derive(Debug, Deserialize)]
struct Uploaded {
    filename: String,
}

#[derive(Debug, Deserialize)]
struct Run {
    jobid: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_its_name_its_id_and_what_it_starts_from() {
        let submission = Submission {
            name: "my job".to_owned(),
            jar: PathBuf::from("a.jar"),
            entry_class: None,
            arguments: vec!["--a".to_owned()],
            parallelism: 2,
            configuration: BTreeMap::new(),
        };
        let id = new_id("my job", Timestamp(1));
        assert_eq!(id.0.len(), 32);
        assert_ne!(id, new_id("my job", Timestamp(2)));
        let body = submission.clone().with("k", "v").body(&id, None);
        let expected = json!({
            "jobId": id.0, "programArgsList": ["--a"], "parallelism": 2,
            "flinkConfiguration": {"k": "v", "pipeline.name": "my job"},
        });
        assert_eq!(body, expected);
        let restored = submission.body(&id, Some("file:/s"));
        assert_eq!(restored["savepointPath"], "file:/s");
        assert_eq!(restored["allowNonRestoredState"], false);
        let saved = |key| submission.clone().with(key, "file:/s").with("k", "v");
        for key in Submission::RESTORES_FROM {
            assert_eq!(saved(key).starting_empty(), submission.clone().with("k", "v"), "{key}");
        }
    }
}
