//! `khaos.toml`: which job to follow, and what it has to keep.
//!
//! text → tables as written (private; serde refuses unknown keys) → [`Config`], in which nothing
//! contradicts anything; how the job is run is read in `deployment`, by what the interval is changed in
//! `change`, where events come from in `kafka`, how clones are made and broken in `profile`. Every error names the file, the line and what to change. Jobs are a list although there is one
//! for now: a file that is right today stays right when there may be several.

mod change;
mod deployment;
mod kafka;
mod profile;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use khaos_adapters::flink::Description;
use khaos_control::profile::Patience;
use khaos_core::job::JobKey;
use khaos_core::optimize::{Confidence, Objective, Objectives};
use khaos_core::profile::IntervalBounds;
use khaos_core::units::CheckpointInterval;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

pub use self::change::{Change, Redeploy};
use self::change::{Kind, RedeployTable};
use self::deployment::DeploymentTable;
pub use self::kafka::Kafka;
use self::kafka::KafkaTable;
use self::profile::ProfileTable;
pub use self::profile::{Kill, Profiling};
use crate::duration::{interval, millis, seconds};
use crate::input::BadInput;

/// The smallest interval where the user names none, s: below it most jobs do nothing but checkpoint.
const USUAL_MIN: &str = "10s";
/// Where records are kept where the user names nothing.
const USUAL_STORE: &str = "khaos.sqlite";

/// Everything that `khaos run` has to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The REST API of the Flink cluster.
    pub flink: String,
    /// The Prometheus to read metrics from; Flink's own REST API where there is none.
    pub prometheus: Option<String>,
    /// The job to follow.
    pub job: Job,
    /// The store's file.
    pub store: PathBuf,
}

/// A job, and what is wanted of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its name: names outlast redeploys, ids do not.
    pub key: JobKey,
    /// How far Khaos may go.
    pub mode: Mode,
    /// How it is run, where that was said.
    pub deployment: Option<Description>,
    /// By what the interval is changed.
    pub change: Change,
    /// What it has to keep.
    pub objectives: Objectives,
    /// The smallest interval that it may be given.
    pub min: CheckpointInterval,
    /// The largest; the job's own where not said. That is never exceeded but by a redeploy, which sets it.
    pub max: Option<CheckpointInterval>,
    /// What has to stay below the recovery objective.
    pub confidence: Confidence,
    /// The most checkpoints that it may take in an hour.
    pub checkpoints_per_hour: Option<u32>,
    /// Where its events come from; what arrives and what waits is what its sources say where not said.
    pub kafka: Option<Kafka>,
    /// How clones of it may be made and broken; none are where not said.
    pub profile: Option<Profiling>,
}

/// How far Khaos may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It records, and decides nothing.
    Observe,
    /// It decides and explains, and never acts.
    #[default]
    Recommend,
    /// It acts on decisions that rest on trials, or on failures that came out as predicted.
    Auto,
}

impl Job {
    /// The bounds of the interval where the job's own is `own`: never above that, because a dead
    /// Khaos leaves the job at it; but where it redeploys the job, its own is what Khaos made it.
    pub fn bounds(&self, own: CheckpointInterval) -> IntervalBounds {
        let max = match (&self.change, self.max) {
            (Change::Redeploy(_), Some(max)) => max,
            (_, max) => max.map_or(own, |max| max.min(own)),
        };
        IntervalBounds::new(self.min.min(max), max).expect("the smaller of two is not above")
    }

    /// How long a trial is given.
    pub fn patience(&self) -> Patience {
        self.profile.as_ref().map_or_else(Patience::default, |profiling| Patience {
            lead: profiling.lead,
            recovery: profiling.recovery,
        })
    }
}

/// Reads the configuration at `path`. Relative paths count from the file's folder.
pub fn read(path: &Path) -> Result<Config, BadInput> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        BadInput(format!("{name}: {error}; docs/khaos.toml is one to start from"))
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    parse(&text, folder).map_err(|Wrong { at, what }| match at {
        Some(span) => {
            let line = text[..span.start].matches('\n').count() + 1;
            BadInput(format!("{name}: line {line}: {what}"))
        }
        None => BadInput(format!("{name}: {what}")),
    })
}

/// What is wrong, and where in the text.
#[derive(Debug)]
struct Wrong {
    at: Option<Range<usize>>,
    what: String,
}

impl Wrong {
    /// What serde found in `text`, in the words of the file.
    fn found(text: &str, error: &toml::de::Error) -> Self {
        let words = [
            ("unknown field", "unknown key"),
            ("missing field", "missing key"),
            ("unknown variant", "unknown value"),
        ];
        let said = error.message().to_owned();
        let said = words.iter().fold(said, |said, (theirs, ours)| said.replace(theirs, ours));
        let key = error.span().and_then(|span| key(text, span.start));
        Self { at: error.span(), what: of_another_type(&said, key).unwrap_or(said) }
    }
}

/// A value of the wrong type, as told to those who know no types.
fn of_another_type(said: &str, key: Option<&str>) -> Option<String> {
    let said = said.strip_prefix("invalid type: ").or(said.strip_prefix("invalid value: "))?;
    let (is, expected) = said.rsplit_once(", expected ")?;
    let write = match expected {
        "a string" | "path string" => "text in quotes",
        "a sequence" => "a list, as in [\"a\", \"b\"]",
        "a boolean" => "true or false, without quotes",
        // None of these may be 0.
        "u32" => "a whole number, 1 or more, without quotes",
        "f64" => "a number, without quotes",
        _ => return None,
    };
    let is = is.replacen("floating point", "number", 1).replacen("string", "text", 1);
    Some(format!("{} is the {is}: write {write}", key.unwrap_or("this")))
}

/// The key on the line of `at`, where there is one.
fn key(text: &str, at: usize) -> Option<&str> {
    let line = &text[text[..at].rfind('\n').map_or(0, |end| end + 1)..];
    let key = line.split_once('=')?.0.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!key.is_empty() && key.chars().all(plain)).then_some(key)
}

fn wrong<T>(at: Range<usize>, what: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { at: Some(at), what: what.into() })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    flink: FlinkTable,
    prometheus: Option<PrometheusTable>,
    #[serde(deserialize_with = "jobs")]
    job: Vec<Spanned<JobTable>>,
    #[serde(default)]
    store: StoreTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlinkTable {
    url: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrometheusTable {
    url: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct StoreTable {
    path: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JobTable {
    name: Spanned<String>,
    #[serde(default)]
    mode: Mode,
    deployment: Option<Spanned<DeploymentTable>>,
    change: Option<Spanned<Kind>>,
    redeploy: Option<Spanned<RedeployTable>>,
    #[serde(default)]
    objectives: ObjectivesTable,
    #[serde(default)]
    interval: IntervalTable,
    #[serde(default)]
    budget: BudgetTable,
    kafka: Option<Spanned<KafkaTable>>,
    profile: Option<Spanned<ProfileTable>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct ObjectivesTable {
    recovery: Option<Spanned<String>>,
    latency: Option<Spanned<String>>,
    visibility: Option<Spanned<String>>,
    #[serde(default)]
    order: Vec<Spanned<Objective>>,
    #[serde(default)]
    confidence: Confidence,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct IntervalTable {
    min: Option<Spanned<String>>,
    max: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct BudgetTable {
    checkpoints_per_hour: Option<Spanned<u32>>,
}

/// A list of jobs; whoever writes `[job]` is told to double the brackets.
fn jobs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Spanned<JobTable>>, D::Error> {
    struct List;
    impl<'de> Visitor<'de> for List {
        type Value = Vec<Spanned<JobTable>>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list: write [[job]], in double brackets")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut jobs = Vec::new();
            while let Some(job) = list.next_element()? {
                jobs.push(job);
            }
            Ok(jobs)
        }
    }
    deserializer.deserialize_seq(List)
}

fn parse(text: &str, folder: &Path) -> Result<Config, Wrong> {
    let File { flink, prometheus, mut job, store } =
        toml::from_str(text).map_err(|error| Wrong::found(text, &error))?;
    if let Some(second) = job.get(1) {
        return wrong(second.span(), "one job for now: leave the others to a Khaos of their own");
    }
    let Some(job) = job.pop() else {
        return Err(Wrong { at: None, what: "there is no job: add a [[job]]".into() });
    };
    let store = folder.join(store.path.unwrap_or_else(|| USUAL_STORE.into()));
    let prometheus = prometheus.map(|prometheus| prometheus.url);
    Ok(Config { flink: flink.url, prometheus, job: checked(job, folder, &store)?, store })
}

fn checked(table: Spanned<JobTable>, folder: &Path, store: &Path) -> Result<Job, Wrong> {
    let whole = table.span();
    let JobTable {
        name,
        mode,
        deployment,
        change,
        redeploy,
        objectives: wanted,
        interval: intervals,
        budget,
        kafka,
        profile,
    } = table.into_inner();
    if name.get_ref().trim().is_empty() {
        return wrong(name.span(), "the name is empty: give the name that Flink shows");
    }
    let min = value(intervals.min.as_ref(), interval)?
        .map_or_else(|| interval(USUAL_MIN).map_err(|what| Wrong { at: None, what }), Ok)?;
    let max = value(intervals.max.as_ref(), interval)?;
    if let (Some(max), Some(place)) = (max.filter(|max| *max < min), &intervals.max) {
        return wrong(
            place.span(),
            format!(
                "max ({max}) is below min ({min}, {USUAL_MIN} when not said): raise it, or lower min"
            ),
        );
    }
    let objectives = Objectives {
        recovery: value(wanted.recovery.as_ref(), seconds)?,
        visibility: value(wanted.visibility.as_ref(), seconds)?,
        latency: value(wanted.latency.as_ref(), millis)?,
        order: order(&wanted.order)?,
    };
    if mode != Mode::Observe && objectives.set().is_empty() {
        return wrong(
            whole,
            "nothing to keep: set recovery, latency or visibility in [job.objectives], or mode = \
             \"observe\"",
        );
    }
    if let (Some(bound), Some(place)) = (objectives.visibility, &wanted.visibility)
        && bound.get() < min.seconds()
    {
        return wrong(
            place.span(),
            format!(
                "visibility cannot be kept: output becomes visible with checkpoints, and min allows \
                 none more often than every {min}: raise visibility, or lower min"
            ),
        );
    }
    let deployment = deployment.map(|table| deployment::checked(table, name.get_ref(), folder));
    let deployment = deployment.transpose()?;
    let described = deployment.as_ref().map(|deployment| &deployment.description);
    let changed_by = change::checked(change.as_ref(), redeploy, described, store)?;
    if let (Change::Redeploy(_), None, Some(place)) = (&changed_by, max, change) {
        return wrong(
            place.span(),
            "a redeploy changes the job's own interval, which therefore bounds nothing: set max in \
             [job.interval]",
        );
    }
    let reads = kafka.as_ref().map(|table| kafka::checked(table, folder)).transpose()?;
    let kafka = kafka.as_ref().map(Spanned::get_ref);
    let profile = profile.map(|table| profile::checked(table, deployment.as_ref(), kafka, folder));
    Ok(Job {
        key: JobKey(name.into_inner()),
        mode,
        deployment: described.cloned(),
        objectives,
        min,
        change: changed_by,
        max,
        confidence: wanted.confidence,
        checkpoints_per_hour: checkpoints_per_hour(budget, max)?,
        kafka: reads,
        profile: profile.transpose()?,
    })
}

/// The budget, if it leaves an interval up to `max`.
fn checkpoints_per_hour(
    budget: BudgetTable,
    max: Option<CheckpointInterval>,
) -> Result<Option<u32>, Wrong> {
    let Some(most) = budget.checkpoints_per_hour else { return Ok(None) };
    let place = most.span();
    let most = most.into_inner();
    if most == 0 {
        return wrong(place, "checkpoints_per_hour is 0: leave it out where there is no limit");
    }
    let every_s = 3_600.0 / f64::from(most);
    match max.filter(|max| max.seconds() < every_s) {
        Some(max) => wrong(
            place,
            format!(
                "{most} checkpoints an hour are one every {every_s:.0} s, but max is {max}: raise \
                 one of them"
            ),
        ),
        None => Ok(Some(most)),
    }
}

/// A value that is written as text, where there is one.
fn value<T>(
    text: Option<&Spanned<String>>,
    read: fn(&str) -> Result<T, String>,
) -> Result<Option<T>, Wrong> {
    text.map(|text| read(text.get_ref()).or_else(|what| wrong(text.span(), what))).transpose()
}

/// The user's order, and after it what it does not name, in the usual order.
fn order(named: &[Spanned<Objective>]) -> Result<Vec<Objective>, Wrong> {
    let mut order: Vec<Objective> = Vec::new();
    for objective in named {
        if order.contains(objective.get_ref()) {
            let what = format!("order names {} twice: leave one out", objective.get_ref());
            return wrong(objective.span(), what);
        }
        order.push(*objective.get_ref());
    }
    let others = Objectives::DEFAULT_ORDER.into_iter().filter(|o| !order.contains(o));
    let others: Vec<Objective> = others.collect();
    order.extend(others);
    Ok(order)
}

#[cfg(test)]
mod tests {
    use khaos_adapters::flink::Own;
    use khaos_control::profile::Patience;

    use super::*;

    fn secs(seconds: u32) -> CheckpointInterval {
        CheckpointInterval::from_secs(seconds).unwrap()
    }

    const EXAMPLE: &str = include_str!("../../../docs/khaos.toml");

    #[test]
    fn the_example_is_right_with_every_key_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let commented = parse(EXAMPLE, folder.path()).unwrap();
        assert_eq!(commented.job.mode, Mode::Recommend);
        assert_eq!(commented.prometheus, None);
        // Keys that are commented out show what they could be.
        let all: String = EXAMPLE
            .lines()
            .map(|line| line.strip_prefix("#: ").unwrap_or(line))
            .map(|line| format!("{line}\n"))
            .collect();
        std::fs::write(folder.path().join("orders.jar"), "jar").unwrap();
        std::fs::write(folder.path().join("client.properties"), "client.id=x\n").unwrap();
        let all = parse(&all, folder.path()).unwrap();
        assert_eq!(all.flink, "http://127.0.0.1:8081");
        assert_eq!(all.prometheus.as_deref(), Some("http://127.0.0.1:9090"));
        assert_eq!(all.store, folder.path().join("khaos.sqlite"));
        assert_eq!((all.job.min, all.job.max), (secs(10), Some(secs(120))));
        let Objectives { recovery, visibility, latency, order } = all.job.objectives;
        assert_eq!(recovery.unwrap().get().to_bits(), 180.0_f64.to_bits());
        assert_eq!(visibility.unwrap().get().to_bits(), 120.0_f64.to_bits());
        assert_eq!(latency.unwrap().get().to_bits(), 500.0_f64.to_bits());
        assert_eq!(order, [Objective::Recovery, Objective::Visibility, Objective::Latency]);
        assert_eq!(all.job.confidence, Confidence::Mean);
        assert_eq!(all.job.checkpoints_per_hour, Some(360));
        assert_eq!(commented.job.change, Change::Drive);
        let Change::Redeploy(redeploy) = all.job.change else { panic!("it shows a redeploy") };
        assert_eq!(redeploy.savepoints.as_deref(), Some("s3://bucket/savepoints"));
        assert_eq!(commented.job.deployment, None);
        let deployment = all.job.deployment.unwrap();
        assert_eq!(deployment, redeploy.deployment);
        assert_eq!(deployment.names(Own::Input), ["orders"]);
        assert_eq!(deployment.names(Own::Output), ["totals"]);
        let submission = deployment.itself(secs(60));
        assert_eq!(submission.entry_class.as_deref(), Some("shop.Orders"));
        assert_eq!(submission.arguments, ["--from=orders", "--to=totals", "--ids=shop,shop"]);
        assert_eq!((submission.configuration.len(), submission.parallelism), (1, 4));
        assert_eq!(commented.job.kafka, None);
        let kafka = all.job.kafka.unwrap();
        assert_eq!(kafka.settings().unwrap().bootstrap(), "kafka-1:9092,kafka-2:9092");
        assert_eq!(kafka.reads.topics, ["orders"]);
        assert_eq!(kafka.reads.other_sources, [""; 0]);
        assert_eq!(commented.job.profile, None);
        let profile = all.job.profile.unwrap();
        assert_eq!((profile.at_once, profile.clone_minutes), (1, Some(600.0)));
        assert_eq!(
            Patience { lead: profile.lead, recovery: profile.recovery },
            Patience::default()
        );
        let Kill::Command(kill) = profile.kill else { panic!("it shows a command") };
        assert_eq!((kill[0].as_str(), kill[5].as_str()), ("kubectl", "{taskmanager}"));
    }

    #[test]
    fn the_least_that_has_to_be_said() {
        let least = "[flink]\nurl = \"http://f\"\n[[job]]\nname = \"orders\"\n\
                     [job.objectives]\nlatency = \"1s\"\norder = [\"latency\"]\n";
        let Config { job, store, .. } = parse(least, Path::new("")).unwrap();
        assert_eq!((job.mode, store), (Mode::Recommend, "khaos.sqlite".into()));
        assert!(job.objectives.outranks(Objective::Latency, Objective::Recovery));
        assert_eq!(job.bounds(secs(60)), IntervalBounds::new(secs(10), secs(60)).unwrap());
        assert_eq!(job.bounds(secs(5)), IntervalBounds::new(secs(5), secs(5)).unwrap());
        let capped = Job { max: Some(secs(90)), ..job };
        assert_eq!(capped.bounds(secs(60)).max(), secs(60));
        assert_eq!(capped.bounds(secs(120)).max(), secs(90));
        let watching = "[flink]\nurl = \"http://f\"\n[[job]]\nname = \"o\"\nmode = \"observe\"\n";
        assert!(parse(watching, Path::new("")).unwrap().job.objectives.set().is_empty());
    }

    #[test]
    fn every_error_names_the_line_and_what_to_change() {
        let file = |job: &str| format!("[flink]\nurl = \"http://f\"\n[[job]]\nname = \"o\"\n{job}");
        let keeps = "[job.objectives]\nrecovery = \"3m\"\n";
        let cases = [
            (file("colour = 1\n"), ["line 5: ", "unknown key `colour`", "`objectives`"]),
            (file("mode = \"atuo\"\n"), ["line 5: ", "`atuo`", "`observe`, `recommend`, `auto`"]),
            (file(""), ["line 3: ", "nothing to keep", "set recovery"]),
            (file("[job.objectives]\nrecovery = \"soon\"\n"), ["line 6: ", "'soon'", "30s"]),
            (file("[job.objectives]\nrecovery = \"0s\"\n"), ["line 6: ", "'0s'", "30s"]),
            (file("[job.objectives]\nrecovery = 180\n"), ["line 6: ", "180", "text in quotes"]),
            (
                file("[job.objectives]\nrecovery = \"3m\"\norder = [\"latency\", \"latency\"]\n"),
                ["line 7: ", "latency twice", "leave one out"],
            ),
            (
                file("[job.objectives]\nvisibility = \"5s\"\n"),
                ["line 6: ", "every 10 s", "raise visibility"],
            ),
            (
                file(&format!("{keeps}[job.interval]\nmin = \"3m\"\nmax = \"2m\"\n")),
                ["line 9: ", "120 s", "180 s"],
            ),
            (
                file(&format!("{keeps}[job.interval]\nmin = \"1500ms\"\n")),
                ["line 8: ", "'1500ms'", "whole seconds"],
            ),
            (file(&format!("{keeps}confidence = \"sure\"\n")), ["line 7: ", "`sure`", "`mean`"]),
            (
                file(&format!("{keeps}[job.budget]\ncheckpoints_per_hour = 0\n")),
                ["line 8: ", "leave it out", "no limit"],
            ),
            (
                file(&format!(
                    "{keeps}[job.interval]\nmax = \"30s\"\n[job.budget]\ncheckpoints_per_hour = 90\n"
                )),
                ["line 10: ", "one every 40 s", "max is 30 s"],
            ),
            (
                file(&format!("{keeps}[[job]]\nname = \"p\"\n")),
                ["line 7: ", "one job for now", "others"],
            ),
            (
                "[flink]\nurl = \"http://f\"\n[job]\nname = \"o\"\n".into(),
                ["line 3: ", "[[job]]", "double brackets"],
            ),
            ("[flink]\nurl = \"http://f\"\n".into(), ["", "missing key", "`job`"]),
            (
                "[flink]\nurl = \"http://f\"\n[[job]]\nmode = \"auto\"\n".into(),
                ["line 3: ", "missing key", "`name`"],
            ),
            (format!("{}[store]\nfile = 1\n", file(keeps)), ["line 8: ", "`file`", "`path`"]),
            (file("name = \"p\"\n"), ["line 5: ", "duplicate", ""]),
            (
                file(&format!("{keeps}[job.kafka]\nbootstrap = \"b:1\"\n")),
                ["line 7: ", "missing key", "`topics`"],
            ),
            (
                file(&format!("{keeps}[job.kafka]\nbootstrap = \"b:1\"\ntopics = []\n")),
                ["line 9: ", "names none", "every topic"],
            ),
            (
                file(&format!("{keeps}[job.kafka]\ntopics = [\"t\"]\n")),
                ["line 7: ", "where Kafka is", "set bootstrap"],
            ),
            (
                file(&format!("{keeps}[job.kafka]\nbootstrap = \"b\"\ntopics = [\"t\"]\n")),
                ["line 8: ", "'b' is no broker", "HOST:PORT"],
            ),
            (
                file(&format!(
                    "{keeps}[job.kafka]\nbootstrap = \"b:1\"\ntopics = [\"t\",\n\"t\"]\n"
                )),
                ["line 10: ", "names t twice", "leave one out"],
            ),
            (
                file(&format!("{keeps}[job.kafka]\nconfig = \"no.file\"\ntopics = [\"t\"]\n")),
                ["line 8: ", "no.file", "cannot be read"],
            ),
        ];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("khaos.toml");
        for (text, says) in cases {
            std::fs::write(&path, &text).unwrap();
            let message = read(&path).unwrap_err().to_string();
            for said in says {
                assert!(message.contains(said), "{text} does not say {said}: {message}");
            }
            assert!(message.contains("khaos.toml: "), "{message}");
        }
        let none = read(Path::new("nowhere.toml")).unwrap_err().to_string();
        assert!(none.starts_with("nowhere.toml: "), "{none}");
    }

    #[test]
    fn the_store_lies_beside_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("khaos.toml");
        std::fs::write(&path, EXAMPLE).unwrap();
        assert_eq!(read(&path).unwrap().store, dir.path().join("khaos.sqlite"));
    }
}
