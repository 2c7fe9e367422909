//! What Flink's REST API answers, as far as it is read. Unknown keys are other versions' business.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// `GET /jobs/overview`
#[derive(Debug, Deserialize)]
pub(super) struct Overview {
    pub(super) jobs: Vec<JobSummary>,
}

#[derive(Debug, Deserialize)]
pub(super) struct JobSummary {
    pub(super) jid: String,
    pub(super) name: String,
    pub(super) state: String,
}

/// `GET /jobs/J`
#[derive(Debug, Deserialize)]
pub(super) struct JobDetails {
    pub(super) jid: String,
    pub(super) name: String,
    pub(super) state: String,
    /// The JobManager's clock, epoch ms.
    pub(super) now: i64,
    /// When each state was entered last, epoch ms.
    pub(super) timestamps: BTreeMap<String, i64>,
    pub(super) vertices: Vec<Vertex>,
    pub(super) plan: Plan,
}

#[derive(Debug, Deserialize)]
pub(super) struct Vertex {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) parallelism: u32,
    #[serde(rename = "start-time")]
    pub(super) start_time: i64,
    /// Subtasks by state.
    pub(super) tasks: BTreeMap<String, u32>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Plan {
    pub(super) nodes: Vec<PlanNode>,
}

#[derive(Debug, Deserialize)]
pub(super) struct PlanNode {
    pub(super) id: String,
    #[serde(default)]
    pub(super) inputs: Vec<PlanInput>,
}

#[derive(Debug, Deserialize)]
pub(super) struct PlanInput {
    pub(super) id: String,
}

/// `GET /jobs/J/vertices/V`
#[derive(Debug, Deserialize)]
pub(super) struct VertexDetails {
    pub(super) now: i64,
    pub(super) subtasks: Vec<Subtask>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Subtask {
    pub(super) status: String,
    pub(super) attempt: u32,
    /// ms spent in each state. Missing where a version does not tell.
    #[serde(rename = "status-duration", default)]
    pub(super) status_duration: BTreeMap<String, i64>,
    #[serde(rename = "start-time")]
    pub(super) start_time: i64,
}

/// `GET /jobs/J/exceptions`
#[derive(Debug, Deserialize)]
pub(super) struct Exceptions {
    #[serde(rename = "exceptionHistory")]
    pub(super) history: ExceptionHistory,
}

#[derive(Debug, Deserialize)]
pub(super) struct ExceptionHistory {
    /// Newest first; sixteen of them unless configured otherwise.
    pub(super) entries: Vec<ExceptionEntry>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ExceptionEntry {
    pub(super) timestamp: i64,
    stacktrace: String,
}

/// `GET /jobs/J/checkpoints/config`
#[derive(Debug, Clone, Deserialize)]
pub(super) struct CheckpointConfig {
    pub(super) interval: i64,
    pub(super) min_pause: i64,
    pub(super) state_backend: Option<String>,
    #[serde(default)]
    pub(super) unaligned_checkpoints: bool,
    #[serde(default)]
    pub(super) state_changelog_enabled: bool,
}

/// `GET /jobs/J/checkpoints/config`, as far as it is changed or has to stay, ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OwnCheckpoints {
    pub(super) interval: i64,
    pub(super) min_pause: i64,
    pub(super) timeout: i64,
}

/// `GET /jobs/J/checkpoints`
#[derive(Debug, Deserialize)]
pub(super) struct CheckpointStatistics {
    pub(super) counts: Counts,
    pub(super) latest: Latest,
    /// Newest first; ten of them unless configured otherwise.
    pub(super) history: Vec<Checkpoint>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Counts {
    #[serde(default)]
    pub(super) completed: u64,
    pub(super) failed: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Latest {
    pub(super) restored: Option<Restored>,
    pub(super) savepoint: Option<Stored>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Restored {
    pub(super) id: u64,
    pub(super) external_path: Option<String>,
}

/// A savepoint, and where it is.
#[derive(Debug, Deserialize)]
pub(super) struct Stored {
    pub(super) trigger_timestamp: i64,
    pub(super) external_path: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Checkpoint {
    pub(super) id: u64,
    pub(super) status: String,
    pub(super) is_savepoint: bool,
    pub(super) trigger_timestamp: i64,
    /// −1 while in progress.
    pub(super) end_to_end_duration: i64,
    pub(super) num_subtasks: u32,
    pub(super) num_acknowledged_subtasks: u32,
}

/// `GET /jobs/J/checkpoints/TRIGGER`, and `savepoints` instead of `checkpoints`
#[derive(Debug, Deserialize)]
pub(super) struct Operation {
    pub(super) status: OperationStatus,
    pub(super) operation: Option<OperationResult>,
}

#[derive(Debug, Deserialize)]
pub(super) struct OperationStatus {
    pub(super) id: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct OperationResult {
    #[serde(rename = "checkpointId")]
    pub(super) checkpoint_id: Option<u64>,
    /// Of a savepoint.
    pub(super) location: Option<String>,
    /// Savepoints spell it the second way.
    #[serde(rename = "failureCause", alias = "failure-cause")]
    pub(super) failure_cause: Option<FailureCause>,
}

impl OperationResult {
    /// Why it failed, in words.
    pub(super) fn reason(&self) -> String {
        let cause = self.failure_cause.as_ref();
        cause.map_or_else(|| "no reason given".to_owned(), FailureCause::reason)
    }
}

impl Exceptions {
    /// The innermost reason of the newest failure, if there was any.
    pub(super) fn reason(&self) -> Option<String> {
        self.history.entries.first().map(|failure| last_cause(&failure.stacktrace))
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct FailureCause {
    #[serde(rename = "stack-trace", default)]
    pub(super) stack_trace: String,
}

impl FailureCause {
    /// The innermost reason: the class that Flink names is that of the wrapping.
    pub(super) fn reason(&self) -> String {
        last_cause(&self.stack_trace)
    }
}

/// The innermost reason of a Java stack trace, without its class.
fn last_cause(trace: &str) -> String {
    let mut causes = trace.lines().filter_map(|line| line.trim().strip_prefix("Caused by: "));
    let line = causes.next_back().or_else(|| trace.lines().next());
    let line = line.unwrap_or("no reason given").trim();
    match line.split_once(": ") {
        Some((class, reason)) if !class.contains(' ') && class.contains('.') => reason.to_owned(),
        _ => line.to_owned(),
    }
}

/// One of `GET …/metrics`
#[derive(Debug, Deserialize)]
pub(super) struct Metric {
    pub(super) id: String,
    #[serde(default, deserialize_with = "number")]
    pub(super) sum: Option<f64>,
    #[serde(default, deserialize_with = "number")]
    pub(super) max: Option<f64>,
}

/// A number; what is not a number comes as a string.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(value.as_f64())
}

/// `{"errors":[…]}`
#[derive(Debug, Deserialize)]
pub(crate) struct Errors {
    errors: Vec<String>,
}

impl Errors {
    /// The innermost reason of the last error: those before are titles.
    pub(crate) fn reason(&self) -> Option<String> {
        self.errors.last().map(|text| last_cause(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_failure_is_its_innermost_cause() {
        let trace = "java.util.concurrent.CompletionException: outer\n\tat a.b(C.java:1)\n\
                     Caused by: org.apache.flink.X: middle\nCaused by: \
                     org.apache.flink.runtime.checkpoint.CheckpointException: Not all required \
                     tasks are currently running.\n\tat d.e(F.java:2)";
        assert_eq!(last_cause(trace), "Not all required tasks are currently running.");
        assert_eq!(last_cause("Job could not be found."), "Job could not be found.");
        assert_eq!(last_cause(""), "no reason given");
    }

    #[test]
    fn errors_end_with_their_reason() {
        let trace = "org.apache.X: outer\n\tat a.b(C.java:1)\nCaused by: java.lang.Y: --capacity is \
                     at least 1, not 0\n\tat d.e(F.java:2)\n\t... 3 more\n";
        let told = |errors: &[&str]| Errors { errors: errors.iter().map(|&e| e.into()).collect() };
        let reason = told(&["Internal server error.", trace]).reason();
        assert_eq!(reason.as_deref(), Some("--capacity is at least 1, not 0"));
        assert_eq!(told(&["Not found."]).reason().as_deref(), Some("Not found."));
        assert_eq!(told(&[]).reason(), None);
    }
}
