//! Submit: the lab's jobs, whose capacity and state are known.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use reqwest::multipart::{Form, Part};
use reqwest::{Client, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{LabError, at};
use crate::flink::{Errors, Submission};

/// What arrives: for how long (s) at which rate (events/s), one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Rates(Vec<(f64, u64)>);

impl Rates {
    /// How many events arrive at a source while they last, before the last one holds on or all repeat.
    pub fn events(&self) -> u64 {
        let thousandths = |(seconds, rate): &(f64, u64)| {
            u128::from((seconds * 1_000.0).round() as u64) * u128::from(*rate)
        };
        let events = self.0.iter().map(thousandths).sum::<u128>() / 1_000;
        u64::try_from(events).unwrap_or(u64::MAX)
    }
}

impl FromStr for Rates {
    type Err = String;

    /// Reads `60:2000,0.5:5000`: seconds, down to a millisecond, and whole events/s.
    fn from_str(text: &str) -> Result<Self, String> {
        let segment = |segment: &str| {
            let (seconds, rate) = segment.split_once(':')?;
            let (seconds, rate): (f64, u64) =
                (seconds.trim().parse().ok()?, rate.trim().parse().ok()?);
            let millis = seconds * 1_000.0;
            let whole = (millis - millis.round()).abs() < 1e-6;
            // Ten years: the job's sums stay far inside 64 bits.
            (whole && (1.0..=3.2e11).contains(&millis)).then_some((seconds, rate))
        };
        let read = |part: &str| {
            segment(part).ok_or_else(|| {
                format!(
                    "'{part}' is not seconds:events/s with at least a millisecond, as in 60:2000"
                )
            })
        };
        text.split(',').map(read).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let segments: Vec<String> = self.0.iter().map(|(s, rate)| format!("{s}:{rate}")).collect();
        f.write_str(&segments.join(","))
    }
}

/// What holds after the last of the [`Rates`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Then {
    /// The last one, for ever.
    #[default]
    Hold,
    /// All of them again.
    Repeat,
}

/// The lab's job. `lab/README.md` says what was seen of it.
#[derive(Debug, Clone, PartialEq)]
pub struct PacedJob {
    /// Its name in Flink.
    pub name: String,
    /// What arrives at each of its sources, by the wall clock and whether the job runs or not.
    pub rates: Rates,
    /// What arrives after that.
    pub then: Then,
    /// When the rates begin, ms since the epoch; the submission when `None`. A job that continues from a
    /// savepoint needs that of the job before.
    pub epoch_ms: Option<i64>,
    /// A file that tells when the rates begin, instead of `epoch_ms`: `EPOCH_MS FROM_MS`, ms since the epoch.
    /// Nothing arrives until it is there, renamed into place; then the rates begin at the first, which may
    /// be past, and what arrived before the second is skipped. The state is there before.
    pub starts_with: Option<PathBuf>,
    /// What it sustains, events/s, over all sources.
    pub capacity: u64,
    /// Size of its keyed state, bytes.
    pub state_bytes: u64,
    /// Over how many keys the state is spread.
    pub keys: u32,
    /// Subtasks of each of its vertices: one per source and one that works.
    pub parallelism: u32,
    /// How many sources it reads from, each of them with the whole rate.
    pub sources: u32,
    /// Whether its sources tell what waits for them, as `pendingRecords`.
    pub reports_lag: bool,
    /// The folder in which it counts what it delivers, exactly once ([`super::delivered`]); nothing counts it
    /// when `None`. Only what a complete checkpoint covers is there. The job makes the folder.
    pub deliveries: Option<PathBuf>,
    /// Flink configuration of this job alone.
    pub flink_configuration: BTreeMap<String, String>,
}

impl Default for PacedJob {
    fn default() -> Self {
        Self {
            name: "paced".to_owned(),
            rates: Rates(vec![(3_600.0, 2_000)]),
            then: Then::Hold,
            epoch_ms: None,
            starts_with: None,
            capacity: 5_000,
            state_bytes: 10_000_000,
            keys: 1_024,
            parallelism: 2,
            sources: 1,
            reports_lag: true,
            deliveries: None,
            flink_configuration: BTreeMap::new(),
        }
    }
}

impl PacedJob {
    /// What its `main` is given.
    fn arguments(&self) -> Vec<String> {
        let then = match self.then {
            Then::Hold => "hold",
            Then::Repeat => "repeat",
        };
        let mut arguments = pairs([
            ("--rates", self.rates.to_string()),
            ("--then", then.to_owned()),
            ("--capacity", self.capacity.to_string()),
            ("--state-bytes", self.state_bytes.to_string()),
            ("--keys", self.keys.to_string()),
            ("--sources", self.sources.to_string()),
            ("--report-lag", self.reports_lag.to_string()),
        ]);
        let path = |path: &PathBuf| path.display().to_string();
        let given = [
            ("--epoch-ms", self.epoch_ms.map(|epoch| epoch.to_string())),
            ("--starts-with", self.starts_with.as_ref().map(path)),
            ("--deliveries", self.deliveries.as_ref().map(path)),
        ];
        for (name, value) in given {
            arguments.extend(value.into_iter().flat_map(|value| [name.to_owned(), value]));
        }
        arguments
    }

    /// How it is run.
    pub(super) fn submission(&self, jar: &Path) -> Submission {
        Submission {
            name: self.name.clone(),
            jar: jar.to_owned(),
            entry_class: None,
            arguments: self.arguments(),
            parallelism: self.parallelism,
            configuration: self.flink_configuration.clone(),
        }
    }
}

/// The same work on the events of real topics. It needs a lab with a broker, and Flink 2.
#[derive(Debug, Clone, PartialEq)]
pub struct KafkaJob {
    /// Its name in Flink.
    pub name: String,
    /// What its source, which is called `events`, reads from the beginning.
    pub topics: Vec<String>,
    /// The group under which it commits its offsets with each checkpoint.
    pub group: String,
    /// What it sustains, events/s.
    pub capacity: u64,
    /// Size of its keyed state, bytes, once there were as many events as there are keys.
    pub state_bytes: u64,
    /// Over how many keys the state is spread.
    pub keys: u32,
    /// Subtasks of each of its vertices.
    pub parallelism: u32,
    /// Flink configuration of this job alone.
    pub flink_configuration: BTreeMap<String, String>,
}

impl Default for KafkaJob {
    fn default() -> Self {
        Self {
            name: "kafka".to_owned(),
            topics: Vec::new(),
            group: "khaos-lab".to_owned(),
            capacity: 5_000,
            state_bytes: 10_000_000,
            keys: 1_024,
            parallelism: 2,
            flink_configuration: BTreeMap::new(),
        }
    }
}

impl KafkaJob {
    /// How it is run on the topics of the broker at `bootstrap`.
    pub(super) fn submission(&self, jar: &Path, bootstrap: &str) -> Submission {
        let arguments = pairs([
            ("--bootstrap", bootstrap.to_owned()),
            ("--topics", self.topics.join(",")),
            ("--group", self.group.clone()),
            ("--capacity", self.capacity.to_string()),
            ("--state-bytes", self.state_bytes.to_string()),
            ("--keys", self.keys.to_string()),
        ]);
        Submission {
            name: self.name.clone(),
            jar: jar.to_owned(),
            entry_class: None,
            arguments,
            parallelism: self.parallelism,
            configuration: self.flink_configuration.clone(),
        }
    }
}

/// Which of the paper's jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pipeline {
    /// Positions of vehicles in; those that were fast near an observation point out.
    IotVehicles,
    /// Advertising events in; how often the ads of each campaign were seen in each 10 s out.
    Ysb,
}

impl Pipeline {
    /// The class that makes the job.
    fn entry_class(self) -> &'static str {
        match self {
            Self::IotVehicles => "khaos.lab.IotVehiclesJob",
            Self::Ysb => "khaos.lab.YsbJob",
        }
    }
}

/// One of the paper's jobs: it reads a topic, with a source that is called `events`, and
/// writes to another one exactly once. What it writes is a function of what it reads, whatever fails. It needs
/// a lab with a broker, and Flink 2.
#[derive(Debug, Clone, PartialEq)]
pub struct PipelineJob {
    /// Its name in Flink.
    pub name: String,
    /// Which it is.
    pub pipeline: Pipeline,
    /// The topic that it reads. Each of its partitions has to get events, or event time stands still.
    pub input: String,
    /// The topic that it writes to.
    pub output: String,
    /// The group under which it commits its offsets with each checkpoint.
    pub group: String,
    /// What its transactional ids begin with; no other job's may begin the same.
    pub transactional_id_prefix: String,
    /// How long the brokers keep a transaction that nobody ends: longer than interval, checkpoint and restart
    /// together, and not longer than the brokers' own bound.
    pub transaction_timeout: Duration,
    /// Whether it begins with what arrives from now on instead of the beginning of its input.
    pub starts_with_latest: bool,
    /// What it sustains, events/s; whatever the machine gives when `None`.
    pub capacity: Option<u64>,
    /// Subtasks of each of its vertices; at most as many as its input has partitions.
    pub parallelism: u32,
    /// Flink configuration of this job alone.
    pub flink_configuration: BTreeMap<String, String>,
}

impl PipelineJob {
    /// `pipeline` from topic `input` to topic `output`. Group and transactional ids are called as the job is.
    pub fn new(name: &str, pipeline: Pipeline, input: &str, output: &str) -> Self {
        Self {
            name: name.to_owned(),
            pipeline,
            input: input.to_owned(),
            output: output.to_owned(),
            group: name.to_owned(),
            transactional_id_prefix: name.to_owned(),
            // What Kafka's brokers allow at most where nobody says otherwise.
            transaction_timeout: Duration::from_mins(15),
            starts_with_latest: false,
            capacity: None,
            parallelism: 2,
            flink_configuration: BTreeMap::new(),
        }
    }

    /// Each subtask needs a partition of the input, which has so many: one that has none never says how far event
    /// time is.
    pub(super) fn refuse_idle_subtasks(&self, partitions: i32) -> Result<(), LabError> {
        if i64::from(partitions) >= i64::from(self.parallelism) {
            return Ok(());
        }
        Err(LabError::FewPartitions {
            job: self.name.clone(),
            topic: self.input.clone(),
            partitions,
            subtasks: self.parallelism,
        })
    }

    /// How it is run on the topics of the broker at `bootstrap`.
    pub(super) fn submission(&self, jar: &Path, bootstrap: &str) -> Submission {
        let mut arguments = pairs([
            ("--bootstrap", bootstrap.to_owned()),
            ("--input", self.input.clone()),
            ("--output", self.output.clone()),
            ("--group", self.group.clone()),
            ("--transactional-id-prefix", self.transactional_id_prefix.clone()),
            ("--transaction-timeout-ms", self.transaction_timeout.as_millis().to_string()),
        ]);
        if self.starts_with_latest {
            arguments.extend(pairs([("--starts-with", "latest".to_owned())]));
        }
        if let Some(capacity) = self.capacity {
            arguments.extend(pairs([("--capacity", capacity.to_string())]));
        }
        Submission {
            name: self.name.clone(),
            jar: jar.to_owned(),
            entry_class: Some(self.pipeline.entry_class().to_owned()),
            arguments,
            parallelism: self.parallelism,
            configuration: self.flink_configuration.clone(),
        }
    }
}

/// Names and values as arguments of a `main`.
fn pairs<const N: usize>(named: [(&str, String); N]) -> Vec<String> {
    named.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
}

/// The body of `POST /jars/:id/run`.
fn run_request(job: &Submission) -> Value {
    // The job gives itself no name, so that this one holds.
    let mut configuration = job.configuration.clone();
    configuration.insert("pipeline.name".to_owned(), job.name.clone());
    let mut body = json!({
        "programArgsList": job.arguments,
        "parallelism": job.parallelism,
        "flinkConfiguration": configuration,
    });
    if let Some(class) = &job.entry_class {
        body["entryClass"] = json!(class);
    }
    body
}

/// Uploads the jar and runs the job: its id.
pub(super) async fn submit(
    client: &Client,
    rest_url: &str,
    job: &Submission,
) -> Result<String, LabError> {
    let jar = at(&job.jar, "--cache", std::fs::read(&job.jar))?;
    let part = Part::bytes(jar).file_name("job.jar");
    let url = format!("{rest_url}/jars/upload");
    let upload = client.post(&url).multipart(Form::new().part("jarfile", part));
    let reply = answer(job, &url, upload.send().await).await?;
    let named = reply["filename"].as_str().and_then(|path| path.rsplit('/').next());
    let jar = named.ok_or_else(|| refused(job, format!("no file name in {reply}")))?;
    let url = format!("{rest_url}/jars/{jar}/run");
    let run = client.post(&url).json(&run_request(job));
    let reply = answer(job, &url, run.send().await).await?;
    let id = reply["jobid"].as_str();
    id.map(str::to_owned).ok_or_else(|| refused(job, format!("no job id in {reply}")))
}

async fn answer(
    job: &Submission,
    url: &str,
    sent: reqwest::Result<Response>,
) -> Result<Value, LabError> {
    let unheard = |source: reqwest::Error| LabError::Rest {
        url: url.to_owned(),
        source: source.without_url(),
    };
    let response = sent.map_err(unheard)?;
    let status = response.status();
    let text = response.text().await.map_err(unheard)?;
    match serde_json::from_str::<Value>(&text) {
        Ok(reply) if status.is_success() => Ok(reply),
        Ok(reply) => {
            let said = Errors::deserialize(&reply).ok().and_then(|errors| errors.reason());
            Err(refused(job, said.unwrap_or_else(|| reply.to_string())))
        }
        Err(_) => Err(refused(job, format!("{status}: {text}"))),
    }
}

fn refused(job: &Submission, why: String) -> LabError {
    LabError::Refused { job: job.name.clone(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_what_the_job_understands() {
        for text in ["3600:2000", "60:2000,0.5:0,0.001:5000"] {
            assert_eq!(text.parse::<Rates>().unwrap().to_string(), text);
        }
        for text in [
            "", "60", "60:", "60:2:1", "a:1", "0:5", "-1:5", "1:-5", "0.0001:5", "1:2.5", "inf:1",
            "NaN:1",
        ] {
            let error = text.parse::<Rates>().unwrap_err();
            assert!(error.contains("60:2000"), "{error}");
        }
    }

    #[test]
    fn rates_hold_so_many_events() {
        let texts = [("8:500,3600:0", 4_000), ("0.029:1000", 29), ("0.001:500,0.002:700", 1)];
        for (text, events) in texts {
            assert_eq!(text.parse::<Rates>().unwrap().events(), events, "{text}");
        }
    }

    #[test]
    fn the_name_of_the_job_is_part_of_its_configuration() {
        let job = PacedJob {
            name: "my job".to_owned(),
            epoch_ms: Some(7),
            sources: 2,
            reports_lag: false,
            deliveries: Some("/a".into()),
            flink_configuration: [("a".to_owned(), "b".to_owned())].into(),
            ..PacedJob::default()
        };
        let request = run_request(&job.submission(Path::new("paced.jar")));
        assert_eq!(request["flinkConfiguration"], json!({"a": "b", "pipeline.name": "my job"}));
        let arguments = "--rates 3600:2000 --then hold --capacity 5000 --state-bytes 10000000 \
                         --keys 1024 --sources 2 --report-lag false --epoch-ms 7 --deliveries /a";
        assert_eq!(request["programArgsList"], json!(arguments.split(' ').collect::<Vec<_>>()));
    }

    #[test]
    fn a_job_that_reads_kafka_is_told_what() {
        let job =
            KafkaJob { topics: vec!["a.b".to_owned(), "c".to_owned()], ..KafkaJob::default() };
        let arguments = "--bootstrap h:1 --topics a.b,c --group khaos-lab --capacity 5000 \
                         --state-bytes 10000000 --keys 1024";
        let submission = job.submission(Path::new("kafka.jar"), "h:1");
        assert_eq!(submission.arguments.join(" "), arguments);
    }

    #[test]
    fn a_pipeline_has_a_partition_for_each_subtask() {
        let job = PipelineJob::new("ysb", Pipeline::Ysb, "ads", "counts");
        job.refuse_idle_subtasks(3).unwrap();
        job.refuse_idle_subtasks(2).unwrap();
        let said = job.refuse_idle_subtasks(1).unwrap_err().to_string();
        assert!(said.contains("2 subtasks") && said.contains("'ads', 1 partitions"), "{said}");
    }

    #[test]
    fn a_pipeline_is_told_its_ends_and_flink_its_class() {
        let job = PipelineJob::new("ysb", Pipeline::Ysb, "ads", "counts");
        let submission = job.submission(Path::new("kafka.jar"), "h:1");
        let arguments = "--bootstrap h:1 --input ads --output counts --group ysb \
                         --transactional-id-prefix ysb --transaction-timeout-ms 900000";
        assert_eq!(submission.arguments.join(" "), arguments);
        assert_eq!(run_request(&submission)["entryClass"], "khaos.lab.YsbJob");
        let job = PipelineJob { starts_with_latest: true, capacity: Some(500), ..job };
        let arguments = format!("{arguments} --starts-with latest --capacity 500");
        assert_eq!(job.submission(Path::new("kafka.jar"), "h:1").arguments.join(" "), arguments);
        let job = KafkaJob::default().submission(Path::new("kafka.jar"), "h:1");
        assert_eq!(run_request(&job).get("entryClass"), None, "the jar names it");
    }
}
