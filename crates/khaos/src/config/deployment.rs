//! How the job is run, as it is started again and as clones are made of it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use khaos_adapters::flink::{Description, Misdescribed, Own, Place, Submission};
use serde::Deserialize;
use toml::{Spanned, Value};

use super::{Wrong, wrong};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeploymentTable {
    jar: Option<Spanned<PathBuf>>,
    entry_class: Option<Spanned<String>>,
    #[serde(default)]
    arguments: Vec<Spanned<String>>,
    parallelism: Option<Spanned<u32>>,
    #[serde(default)]
    flink: BTreeMap<String, Spanned<Value>>,
}

/// A description, and where in the file it says what.
pub(super) struct Deployment {
    pub(super) description: Description,
    /// The whole table.
    pub(super) at: Range<usize>,
    /// What may hold placeholders, in the order of the file.
    texts: Vec<Spanned<String>>,
}

impl Deployment {
    /// Where the first placeholder of `name` stands.
    pub(super) fn of(&self, own: Own, name: &str) -> Range<usize> {
        let placeholder = format!("{{{own}:{name}}}");
        let holds = self.texts.iter().find(|text| text.get_ref().contains(&placeholder));
        holds.map_or_else(|| self.at.clone(), Spanned::span)
    }
}

/// How the job called `name` is run, where relative paths count from `folder`.
pub(super) fn checked(
    table: Spanned<DeploymentTable>,
    name: &str,
    folder: &Path,
) -> Result<Deployment, Wrong> {
    let at = table.span();
    let DeploymentTable { jar, entry_class, arguments, parallelism, flink } = table.into_inner();
    let Some(jar) = jar else {
        return wrong(
            at,
            "[job.deployment] does not say what is run: set jar to the file that the job was \
             submitted with",
        );
    };
    let place = jar.span();
    let jar = folder.join(jar.into_inner());
    if !jar.is_file() {
        return wrong(
            place,
            format!(
                "there is no file {}: set jar to the file that the job was submitted with; a relative \
                 path counts from this file's folder",
                jar.display()
            ),
        );
    }
    if let Some(class) = entry_class.as_ref().filter(|class| class.get_ref().trim().is_empty()) {
        return wrong(
            class.span(),
            "entry_class is empty: name the class whose main makes the job, or leave the key out where \
             the jar names it",
        );
    }
    let Some(parallelism) = parallelism else {
        return wrong(
            at,
            "[job.deployment] does not say how many subtasks each vertex has: set parallelism to what \
             the job runs with",
        );
    };
    if *parallelism.get_ref() == 0 {
        return wrong(parallelism.span(), "parallelism is 0: set it to what the job runs with");
    }
    let flink = configuration(flink)?;
    let texts = arguments.iter().chain(flink.values()).cloned().collect();
    let submission = Submission {
        name: name.to_owned(),
        jar,
        entry_class: entry_class.map(Spanned::into_inner),
        arguments: arguments.iter().map(|text| text.get_ref().clone()).collect(),
        parallelism: parallelism.into_inner(),
        configuration: flink
            .iter()
            .map(|(key, text)| (key.clone(), text.get_ref().clone()))
            .collect(),
    };
    let description = Description::of(submission).map_err(|Misdescribed { place, why }| {
        let text = match place {
            Place::Argument(index) => arguments.get(index),
            Place::Configuration(key) => flink.get(&key),
        };
        Wrong { at: text.map(Spanned::span), what: why }
    })?;
    Ok(Deployment { description, at, texts })
}

/// Flink's settings, which are text.
fn configuration(
    table: BTreeMap<String, Spanned<Value>>,
) -> Result<BTreeMap<String, Spanned<String>>, Wrong> {
    let text = |(key, value): (String, Spanned<Value>)| {
        let place = value.span();
        if Submission::RESTORES_FROM.contains(&key.as_str()) {
            return wrong(
                place,
                format!(
                    "{key} would start each clone from a savepoint of the job: it would go on in the job's \
                     partitions and abort the job's transactions; leave the key out, for Khaos says by \
                     itself what is started from where"
                ),
            );
        }
        match value.into_inner() {
            Value::String(text) => Ok((key, Spanned::new(place, text))),
            Value::Table(_) => wrong(
                place,
                format!(
                    "a key that begins with {key} is taken apart at its dots: put it in quotes"
                ),
            ),
            _ => wrong(place, format!("the value of {key} is not text: put it in quotes")),
        }
    };
    table.into_iter().map(text).collect()
}
