//! How a job is run, with placeholders for what differs in a copy of it.
//!
//! They stand in arguments and in the values of the job's Flink configuration: `{input:orders}` is `orders`
//! in the job itself, and another topic in a clone. What looks like one and is none is refused before
//! anything is submitted: a copy that is like the job where it has to differ would write where the job
//! writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use khaos_control::core::units::CheckpointInterval;
use thiserror::Error;

use super::Submission;

/// What a copy of a job has its own of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Own {
    /// A topic that it reads.
    Input,
    /// A topic that it writes.
    Output,
    /// Its consumer group.
    Group,
    /// The prefix of its transactional ids.
    Transactions,
}

impl Own {
    const ALL: [Self; 4] = [Self::Input, Self::Output, Self::Group, Self::Transactions];

    /// What it names, as one writes it in a placeholder.
    fn example(self) -> &'static str {
        match self {
            Self::Input | Self::Output => "TOPIC",
            Self::Group => "NAME",
            Self::Transactions => "PREFIX",
        }
    }
}

impl fmt::Display for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::Group => "group",
            Self::Transactions => "transactions",
        })
    }
}

/// The word of the placeholders of the checkpoint interval.
const INTERVAL: &str = "interval";

/// How a job is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Without what may hold placeholders.
    job: Submission,
    arguments: Vec<Text>,
    configuration: BTreeMap<String, Text>,
}

/// A text, taken apart at its placeholders.
type Text = Vec<Part>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Plain(String),
    Own(Own, String),
    Milliseconds,
    Seconds,
}

/// What looks like a placeholder and is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{place}: {why}")]
pub struct Misdescribed {
    /// Where it stands.
    pub place: Place,
    /// What is wrong with it, and what to write.
    pub why: String,
}

/// Where placeholders may stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The argument of this index, from 0.
    Argument(usize),
    /// The value of this key of Flink's.
    Configuration(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(index) => write!(f, "argument {}", index + 1),
            Self::Configuration(key) => write!(f, "the value of {key}"),
        }
    }
}

impl Description {
    /// The job that is run as `submission`, in whose arguments and values of configuration placeholders may stand.
    pub fn of(submission: Submission) -> Result<Self, Misdescribed> {
        let Submission { arguments, configuration, .. } = submission;
        let job = Submission { arguments: vec![], configuration: BTreeMap::new(), ..submission };
        let arguments = arguments.iter().enumerate().map(|(index, text)| {
            taken_apart(text).map_err(|why| Misdescribed { place: Place::Argument(index), why })
        });
        let arguments = arguments.collect::<Result<_, _>>()?;
        let configuration = configuration.into_iter().map(|(key, text)| match taken_apart(&text) {
            Ok(text) => Ok((key, text)),
            Err(why) => Err(Misdescribed { place: Place::Configuration(key), why }),
        });
        let configuration = configuration.collect::<Result<_, _>>()?;
        Ok(Self { job, arguments, configuration })
    }

    /// Its name in Flink.
    pub fn name(&self) -> &str {
        &self.job.name
    }

    /// The names of this kind, sorted, each once.
    pub fn names(&self, own: Own) -> Vec<&str> {
        let parts = self.arguments.iter().chain(self.configuration.values()).flatten();
        let named = parts.filter_map(|part| match part {
            Part::Own(kind, name) if *kind == own => Some(name.as_str()),
            _ => None,
        });
        named.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The job itself, at `interval`.
    pub fn itself(&self, interval: CheckpointInterval) -> Submission {
        self.itself_ms(interval.millis())
    }

    /// The job itself at an interval of so many milliseconds, as the cluster's clock counts them: a job's
    /// own need not be whole seconds.
    pub(super) fn itself_ms(&self, interval_ms: i64) -> Submission {
        self.filled(interval_ms, |_, name| name.to_owned())
    }

    /// A copy in which each name is what `named` gives for it.
    pub fn copy(
        &self,
        interval: CheckpointInterval,
        named: impl Fn(Own, &str) -> String,
    ) -> Submission {
        self.filled(interval.millis(), named)
    }

    fn filled(&self, interval_ms: i64, named: impl Fn(Own, &str) -> String) -> Submission {
        let part = |part: &Part| match part {
            Part::Plain(text) => text.clone(),
            Part::Own(own, name) => named(*own, name),
            Part::Milliseconds => interval_ms.to_string(),
            Part::Seconds => (interval_ms as f64 / 1_000.0).to_string(),
        };
        let filled = |text: &Text| text.iter().map(part).collect::<String>();
        Submission {
            arguments: self.arguments.iter().map(filled).collect(),
            configuration: self
                .configuration
                .iter()
                .map(|(key, text)| (key.clone(), filled(text)))
                .collect(),
            ..self.job.clone()
        }
    }
}

/// Takes `text` apart at its placeholders; an error says what is wrong with one.
fn taken_apart(text: &str) -> Result<Text, String> {
    let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
    while let Some((before, after)) = rest.split_once('{') {
        plain.push_str(before);
        if let Some((part, behind)) = placeholder(after)? {
            parts.extend([Part::Plain(std::mem::take(&mut plain)), part]);
            rest = behind;
        } else {
            plain.push('{');
            rest = after;
        }
    }
    plain.push_str(rest);
    parts.push(Part::Plain(plain));
    Ok(parts)
}

/// The placeholder whose brace stands before `text`, and what stands behind it; `None` where that brace begins
/// something else, as in JSON.
fn placeholder(text: &str) -> Result<Option<(Part, &str)>, String> {
    let closed = text.split_once('}');
    let (inside, behind) = closed.unwrap_or((text, ""));
    let (word, name) = match inside.split_once(':') {
        Some((word, name)) => (word, Some(name)),
        None => (inside, None),
    };
    let trimmed = word.trim();
    let own = Own::ALL.into_iter().find(|own| own.to_string() == trimmed);
    if own.is_none() && trimmed != INTERVAL {
        if closed.is_some() && name.is_some() && is_word(word) {
            return Err(unknown(inside));
        }
        return Ok(None);
    }
    let instead = match own {
        Some(own) => format!("write {{{own}:{}}}", own.example()),
        None => "write {interval:ms} or {interval:s}".to_owned(),
    };
    match (closed, name) {
        (None, None) => return Ok(None),
        (None, Some(_)) => return Err(format!("'{{{inside}' has no closing brace: {instead}")),
        (Some(_), None) => return Err(format!("{{{inside}}} has no colon and no name: {instead}")),
        (Some(_), Some(_)) => {}
    }
    let name = name.unwrap_or_default();
    if name.trim().is_empty() {
        return Err(format!("{{{inside}}} has no name behind its colon: {instead}"));
    }
    if word != trimmed || name != name.trim() {
        return Err(format!(
            "{{{inside}}} has spaces: write {{{trimmed}:{}}} without them",
            name.trim()
        ));
    }
    match (own, name) {
        (Some(_), name) if name.contains('{') => {
            Err(format!("{{{inside}}} has a brace in its name: {instead}"))
        }
        (Some(own), name) => Ok(Some((Part::Own(own, name.to_owned()), behind))),
        (None, "ms") => Ok(Some((Part::Milliseconds, behind))),
        (None, "s") => Ok(Some((Part::Seconds, behind))),
        (None, _) => Err(format!("{{{inside}}} has no unit of time that is known: {instead}")),
    }
}

/// Whether it could be the word of a placeholder: JSON has quotes there, and other languages a space.
fn is_word(text: &str) -> bool {
    let may = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    text.starts_with(char::is_alphabetic) && text.chars().all(may)
}

fn unknown(inside: &str) -> String {
    let known: Vec<String> =
        Own::ALL.iter().map(|own| format!("{{{own}:{}}}", own.example())).collect();
    format!(
        "{{{inside}}} is no placeholder: there are {}, {{interval:ms}} and {{interval:s}}; where it is \
         meant as it stands, put a space behind the brace",
        known.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submission(arguments: &[&str], configuration: &[(&str, &str)]) -> Submission {
        let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Submission {
            name: "orders".to_owned(),
            jar: "orders.jar".into(),
            entry_class: Some("shop.Orders".to_owned()),
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
            parallelism: 2,
            configuration: configuration.iter().map(pair).collect(),
        }
    }

    fn secs(seconds: u32) -> CheckpointInterval {
        CheckpointInterval::from_secs(seconds).unwrap()
    }

    #[test]
    fn a_copy_differs_in_its_placeholders_and_nowhere_else() {
        let described = Description::of(submission(
            &[
                "--from",
                "{input:orders}",
                "{a={input:orders},b={input:prices},c={group:shop}}",
                "--every={interval:ms}",
            ],
            &[("k", "{transactions:shop}-{output:totals}"), ("t", "{interval:s} s")],
        ))
        .unwrap();
        assert_eq!(described.name(), "orders");
        assert_eq!(described.names(Own::Input), ["orders", "prices"]);
        assert_eq!(described.names(Own::Output), ["totals"]);
        assert_eq!(described.names(Own::Group), ["shop"]);
        assert_eq!(described.names(Own::Transactions), ["shop"]);
        let itself = submission(
            &["--from", "orders", "{a=orders,b=prices,c=shop}", "--every=60000"],
            &[("k", "shop-totals"), ("t", "60 s")],
        );
        assert_eq!(described.itself(secs(60)), itself);
        assert_eq!(described.itself_ms(1_500).configuration["t"], "1.5 s");
        let copy = submission(
            &["--from", "c-input-orders", "{a=c-input-orders,b=c-input-prices,c=c-group-shop}"],
            &[("k", "c-transactions-shop-c-output-totals"), ("t", "5 s")],
        );
        let copy = Submission {
            arguments: [copy.arguments, vec!["--every=5000".into()]].concat(),
            ..copy
        };
        assert_eq!(described.copy(secs(5), |own, name| format!("c-{own}-{name}")), copy);
    }

    #[test]
    fn other_braces_pass_as_they_are() {
        for text in [
            r#"{"input":"orders","n":{"a":1}}"#,
            "{}",
            "{",
            "}",
            "{{}}",
            "{a}",
            "{ key:value }",
            "{1:2}",
            "a{b",
            "{input",
            "{key:",
            "${HOME}",
        ] {
            let plain = submission(&[text], &[("k", text)]);
            let described = Description::of(plain.clone()).unwrap();
            assert_eq!(described.itself(secs(1)), plain, "{text}");
            assert_eq!(described.names(Own::Input), [""; 0], "{text}");
        }
    }

    #[test]
    fn what_looks_like_a_placeholder_and_is_none_is_refused() {
        for (text, says) in [
            ("{inptu:orders}", "{inptu:orders} is no placeholder: there are {input:TOPIC}"),
            ("{Input:orders}", "{transactions:PREFIX}, {interval:ms} and {interval:s}"),
            ("a={input:orders},b={}{topic:}", "{topic:} is no placeholder"),
            ("{größe:1}", "{größe:1} is no placeholder"),
            ("{input:}", "{input:} has no name behind its colon: write {input:TOPIC}"),
            ("{group: }", "write {group:NAME}"),
            (
                "{transactions}",
                "{transactions} has no colon and no name: write {transactions:PREFIX}",
            ),
            ("{interval}", "write {interval:ms} or {interval:s}"),
            ("{interval:min}", "{interval:min} has no unit of time that is known"),
            ("{ input: orders}", "{ input: orders} has spaces: write {input:orders} without"),
            ("{input:orders", "'{input:orders' has no closing brace: write {input:TOPIC}"),
            ("{output:a{b}", "{output:a{b} has a brace in its name"),
        ] {
            let error = Description::of(submission(&["--a", text], &[])).unwrap_err();
            assert_eq!(error.place, Place::Argument(1));
            assert!(error.why.contains(says), "{text}: {error}");
            assert!(error.to_string().starts_with("argument 2: "), "{error}");
            let error = Description::of(submission(&[], &[("k", text)])).unwrap_err();
            assert_eq!(error.place, Place::Configuration("k".to_owned()));
            assert!(error.why.contains(says), "{text}: {error}");
        }
    }
}
