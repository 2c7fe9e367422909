//! Where the job's events come from, where that is Kafka.

use std::path::{Path, PathBuf};

use khaos_adapters::kafka::load::Reads;
use khaos_adapters::kafka::{KafkaSettings, SettingsError};
use serde::Deserialize;
use toml::Spanned;

use super::{Wrong, wrong};

/// A Kafka cluster, and what the job reads there.
#[derive(Debug, Clone, PartialEq)]
pub struct Kafka {
    bootstrap: Option<String>,
    config: Option<PathBuf>,
    /// What the job reads.
    pub reads: Reads,
}

impl Kafka {
    /// How to speak to the cluster. What it takes was there when the configuration was read.
    pub fn settings(&self) -> Result<KafkaSettings, SettingsError> {
        match &self.config {
            Some(file) => KafkaSettings::read(self.bootstrap.as_deref(), file),
            None => KafkaSettings::at(self.bootstrap.as_deref().unwrap_or_default()),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KafkaTable {
    bootstrap: Option<Spanned<String>>,
    pub(super) topics: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    pub(super) other_sources: Vec<Spanned<String>>,
    config: Option<Spanned<PathBuf>>,
}

/// What stands there, where relative paths count from `folder`.
pub(super) fn checked(table: &Spanned<KafkaTable>, folder: &Path) -> Result<Kafka, Wrong> {
    let whole = table.span();
    let KafkaTable { bootstrap, topics, other_sources, config } = table.get_ref();
    if topics.get_ref().is_empty() {
        return wrong(topics.span(), "topics names none: name every topic that the job reads");
    }
    let place = match (config, bootstrap) {
        (Some(config), _) => config.span(),
        (None, Some(bootstrap)) => bootstrap.span(),
        (None, None) => {
            let what = "[job.kafka] does not say where Kafka is: set bootstrap to HOST:PORT";
            return wrong(whole, what);
        }
    };
    let topics = names("topics", topics.get_ref())?;
    let other_sources = names("other_sources", other_sources)?;
    let kafka = Kafka {
        bootstrap: bootstrap.as_ref().map(|text| text.get_ref().clone()),
        config: config.as_ref().map(|config| folder.join(config.get_ref())),
        reads: Reads { topics, other_sources },
    };
    match kafka.settings() {
        Ok(_) => Ok(kafka),
        Err(error) => wrong(place, error.to_string()),
    }
}

/// Names, each of them once.
fn names(key: &str, list: &[Spanned<String>]) -> Result<Vec<String>, Wrong> {
    let mut names: Vec<String> = Vec::new();
    for name in list {
        let (place, name) = (name.span(), name.get_ref());
        if name.trim().is_empty() {
            return wrong(place, format!("{key} has an empty name: leave it out"));
        }
        if names.contains(name) {
            return wrong(place, format!("{key} names {name} twice: leave one out"));
        }
        names.push(name.clone());
    }
    Ok(names)
}
