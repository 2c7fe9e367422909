//! `khaos doctor`: can this job be driven, and what should change first? Made to be read at three in
//! the morning: what is wrong comes first, with what to set; what is well is one line each.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use khaos_adapters::flink::doctor::{Change, Examination, Finding, Mode, Restart, Verdict};
use khaos_adapters::flink::{Flink, Own};
use khaos_adapters::kafka::{admin, load};
use khaos_control::ports::Jobs;
use khaos_core::job::{EngineJobId, JobKey};
use khaos_core::units::Seconds;
use serde_json::json;

use crate::clock;
use crate::config::{self, Config, Job};
use crate::input::BadInput;
use crate::output::say;

const URL: &str = "http://127.0.0.1:8081";

/// What to examine.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The job: its name, or Flink's id of it; the one that runs when not given.
    job: Option<String>,
    /// Flink's REST API: the address of the JobManager's web interface.
    #[arg(long, default_value = URL)]
    url: String,
    /// The file for khaos run, which names Flink and the job; its [job.kafka] is examined, too.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["job", "url"])]
    config: Option<PathBuf>,
    /// How long to wait for the checkpoint that is triggered.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = crate::duration::seconds)]
    wait: Seconds,
    /// One JSON document on standard output.
    #[arg(long)]
    json: bool,
}

impl DoctorArgs {
    /// Examines and reports: 0 when the job can be driven.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.examine())
    }

    async fn examine(self) -> anyhow::Result<ExitCode> {
        let config = self.config.as_deref().map(config::read).transpose()?;
        let (named, url, described) = match config {
            Some(Config { flink, job, .. }) => (Some(job.key.clone()), flink, Some(job)),
            None => (self.job.map(JobKey), self.url, None),
        };
        let flink = Flink::at(&url, clock::anchored())
            .map_err(|error| BadInput(format!("--url: {error}")))?;
        let job = match named {
            Some(job) => Some(job),
            None => the_only_one(&flink, &url).await?,
        };
        let mut examination = flink.examine(job.as_ref(), self.wait).await;
        if let Some(described) = described {
            add_kafka(&mut examination, &flink, &described).await?;
        }
        // What has no name of its own is driven by its id.
        let typed = job.map(|job| job.0);
        let summary = summary(&examination, typed.as_deref());
        if self.json {
            let mut document = json!(examination);
            document["can_drive"] = json!(examination.drivable.is_some());
            document["summary"] = json!(summary);
            say(&format!("{document:#}"))?;
        } else {
            say(&report(&examination, &summary))?;
        }
        let driven = examination.drivable.is_some();
        Ok(if driven { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Whether what arrives and what waits can be read off Kafka, and whether transactions live long enough there.
async fn add_kafka(
    examination: &mut Examination,
    flink: &Flink,
    described: &Job,
) -> Result<(), BadInput> {
    let Some(kafka) = &described.kafka else { return Ok(()) };
    let settings = kafka.settings().map_err(|error| BadInput(format!("[job.kafka] {error}")))?;
    let job = examination.engine_id.clone().map(EngineJobId);
    let findings = load::doctor::examine(flink, job.as_ref(), &settings, &kafka.reads).await;
    examination.add(findings);
    let prefixes = described.deployment.iter().flat_map(|it| it.names(Own::Transactions));
    let prefixes: Vec<&str> = prefixes.collect();
    if let (Some(job), [_, ..]) = (&job, &prefixes[..]) {
        let redeployed =
            described.max.filter(|_| matches!(described.change, config::Change::Redeploy(_)));
        let findings = admin::doctor::examine(flink, job, &settings, &prefixes, redeployed).await;
        examination.add(findings);
    }
    Ok(())
}

/// The job to examine where none was named. Where Flink does not answer, the examination says so.
async fn the_only_one(flink: &Flink, url: &str) -> Result<Option<JobKey>, BadInput> {
    let Ok(mut jobs) = flink.list().await else { return Ok(None) };
    if jobs.len() > 1 {
        let names: Vec<&str> = jobs.iter().map(|job| job.0.as_str()).collect();
        return Err(BadInput(format!("which job? Several run on {url}: {}", names.join(", "))));
    }
    Ok(jobs.pop())
}

/// One line: whether and how, and what to type next.
fn summary(examination: &Examination, typed: Option<&str>) -> String {
    let job = typed.or(examination.job.as_deref());
    let count = |verdict| examination.findings.iter().filter(|f| f.verdict == verdict).count();
    let Some(drivable) = examination.drivable else {
        let preventing = examination.findings.iter().filter(|f| f.prevents_driving);
        let checks: Vec<&str> = preventing.map(|finding| finding.check).collect();
        let what = job.map_or_else(|| "anything there".to_owned(), quoted);
        return format!("Khaos cannot drive {what}: see {}.", checks.join(", "));
    };
    let (job, fallback) = (quoted(job.unwrap_or_default()), drivable.fallback_s);
    let mode = match drivable.mode {
        Mode::Full => "in full mode, without a restart",
        Mode::Assist => "in assist mode, as it is and without a restart",
    };
    let and = match (count(Verdict::Problem), count(Verdict::Advice)) {
        (0, 0) => String::new(),
        (0, n) => format!(" ({})", counted(n, "piece of advice", "pieces of advice")),
        (n, _) => format!(" ({} above should be mended first)", counted(n, "problem", "problems")),
    };
    let url = match examination.url.as_str() {
        URL => String::new(),
        other => format!(" --url {other}"),
    };
    let interval = drivable.interval_s;
    format!(
        "Khaos can drive {job} {mode}, at any interval up to {fallback} s{and}. Next: khaos drive \
         {job} --interval {interval}s{url}"
    )
}

fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !word.is_empty() && !word.starts_with('-') && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn report(examination: &Examination, summary: &str) -> String {
    let job = match (&examination.job, &examination.engine_id) {
        (Some(job), Some(id)) => format!("{job} ({id}) on "),
        _ => String::new(),
    };
    let flink = match &examination.flink {
        Some(version) => format!("Flink {version} at "),
        None => String::new(),
    };
    let mut blocks = vec![format!("{job}{flink}{}", examination.url)];
    let (well, ailing): (Vec<&Finding>, Vec<&Finding>) =
        examination.findings.iter().partition(|finding| finding.verdict == Verdict::Ok);
    blocks.extend(ailing.iter().map(|finding| in_full(finding)));
    let lines: Vec<String> = well
        .iter()
        .map(|finding| hanging(&format!("ok       {:<22} ", finding.check), &finding.seen))
        .collect();
    blocks.extend((!lines.is_empty()).then(|| lines.join("\n")));
    blocks.push(summary.to_owned());
    blocks.join("\n\n")
}

fn in_full(finding: &Finding) -> String {
    let verdict = match finding.verdict {
        Verdict::Problem => "PROBLEM",
        Verdict::Advice => "advice",
        Verdict::Unknown => "unknown",
        Verdict::Ok => "ok",
    };
    let mut lines =
        vec![hanging(&format!("{verdict:<8} "), &format!("{}: {}", finding.check, finding.seen))];
    let mut line = |label: &str, text: &str| lines.push(hanging(&format!("  {label:<6} "), text));
    if let Some(why) = &finding.why {
        line("why", why);
    }
    if let Some(change) = &finding.change {
        if let Some(what) = &change.what {
            line("do", what);
        }
        for setting in &change.set {
            line("set", &format!("{}: {}", setting.key, setting.value));
        }
        if let Some(cost) = cost(change) {
            line("costs", &cost);
        }
    }
    lines.join("\n")
}

fn cost(change: &Change) -> Option<String> {
    let restart = match change.restart {
        Restart::None => None,
        Restart::Job => Some("one restart of the job, from a savepoint"),
        Restart::Cluster => Some("a restart of the cluster, with every job on it"),
    };
    match (restart, &change.cost) {
        (Some(restart), Some(cost)) => Some(format!("{restart}; {cost}")),
        (restart, cost) => restart.map(str::to_owned).or_else(|| cost.clone()),
    }
}

/// Columns of a line: those of a small terminal would break keys and values.
const WIDTH: usize = 100;

/// `text` behind `label`, in lines that begin where the first one does.
fn hanging(label: &str, text: &str) -> String {
    let indent = label.chars().count();
    let (mut lines, mut column) = (label.to_owned(), indent);
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > indent && column + 1 + length > WIDTH {
            lines.push('\n');
            lines.push_str(&" ".repeat(indent));
            column = indent;
        } else if column > indent {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += length;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_quoted_where_a_shell_would_take_it_apart() {
        for (name, typed) in [
            ("paced-1.2", "paced-1.2"),
            ("my job", "'my job'"),
            ("it's", r"'it'\''s'"),
            ("-x", "'-x'"),
        ] {
            assert_eq!(quoted(name), typed);
        }
    }

    #[test]
    fn long_lines_hang_below_where_they_began() {
        let text = "word ".repeat(30);
        let lines = hanging("label  ", text.trim());
        assert!(lines.lines().all(|line| line.chars().count() <= WIDTH), "{lines}");
        assert!(lines.lines().nth(1).unwrap().starts_with("       word"), "{lines}");
        let key = "k".repeat(200);
        assert_eq!(hanging("set ", &key), format!("set {key}"), "what is one word stays one");
    }
}
