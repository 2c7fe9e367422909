//! Stopping a job with a savepoint, and finding out what came of it.

use khaos_control::core::units::Timestamp;
use khaos_control::ports::PortError;
use serde_json::{Value, json};

use super::journal::Intent;
use super::{ARRIVES_MS, POLL_MS};
use crate::flink::deployment::{has_ended, name};
use crate::flink::messages::{CheckpointStatistics, JobDetails, Operation, OperationResult};
use crate::flink::rest::Rest;

/// How long Flink may take to end a job beyond the time that its savepoint may take, ms.
pub(super) const ENDS_MS: i64 = 600_000;

/// What came of a stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stopped {
    /// The job has ended, and all of it is in the savepoint there.
    At(String),
    /// It has not been stopped, and why.
    Not(String),
    /// The job is not there any more, and nobody knows a savepoint of its end. How it is, in words.
    Lost(String),
}

/// Asks for the stop. The same id twice stops once.
pub(super) async fn ask(rest: &Rest, intent: &Intent) -> Result<(), PortError> {
    let mut body = json!({ "drain": false, "triggerId": intent.stop.as_str() });
    if let Some(directory) = &intent.directory {
        body["targetDirectory"] = json!(directory);
    }
    let path = format!("/jobs/{}/stop", intent.old);
    rest.post::<Value>(&path, &body, &name(&intent.old)).await.map(drop)
}

/// Follows the stop to its end. An error says that the end is not known yet.
pub(super) async fn outcome(rest: &Rest, intent: &Intent) -> Result<Stopped, PortError> {
    let path = format!("/jobs/{}/savepoints/{}", intent.old, intent.stop.as_str());
    let clock = rest.clock();
    let begun = clock.now();
    let patience_ms = rest.ours_ms(intent.old_own.timeout).saturating_add(ENDS_MS);
    loop {
        let now = clock.now();
        let told = rest.get::<Operation>(&path, "savepoint of that stop").await;
        let unknown = match told {
            Ok(told) if told.status.id == "COMPLETED" => {
                return Ok(match told.operation {
                    Some(OperationResult { location: Some(location), .. }) => Stopped::At(location),
                    Some(failed) => Stopped::Not(failed.reason()),
                    None => Stopped::Not("no reason given".to_owned()),
                });
            }
            Ok(_) => "the savepoint is still under way".to_owned(),
            // Not asked, or so long ago that it is forgotten. It may also still be on its way.
            Err(PortError::NotFound(_)) if now >= begun.plus_millis(ARRIVES_MS) => {
                return forgotten(rest, intent).await;
            }
            Err(error) => error.to_string(),
        };
        if now >= begun.plus_millis(patience_ms) {
            return Err(PortError::Unavailable(format!(
                "whether {} has stopped is not known: {unknown}",
                intent.job
            )));
        }
        clock.sleep_until(now.plus_millis(POLL_MS)).await;
    }
}

/// What came of a stop that Flink does not remember, as far as the job itself tells.
async fn forgotten(rest: &Rest, intent: &Intent) -> Result<Stopped, PortError> {
    let path = format!("/jobs/{}", intent.old);
    let job: JobDetails = match rest.get(&path, &name(&intent.old)).await {
        Ok(job) => job,
        Err(PortError::NotFound(_)) => {
            return Ok(Stopped::Lost("Flink does not know it any more".to_owned()));
        }
        Err(error) => return Err(error),
    };
    if !has_ended(&job.state) {
        return Ok(Stopped::Not("Flink knows nothing of that stop".to_owned()));
    }
    let told: CheckpointStatistics =
        rest.get(&format!("{path}/checkpoints"), &name(&intent.old)).await?;
    let savepoint = told.latest.savepoint.filter(|savepoint| {
        // An earlier one is not where it ended.
        let of_the_stop = is_since(rest.ours(savepoint.trigger_timestamp), intent.at);
        job.state == "FINISHED" && of_the_stop
    });
    Ok(match savepoint.and_then(|savepoint| savepoint.external_path) {
        Some(location) => Stopped::At(location),
        None => Stopped::Lost(format!("it is {}", job.state)),
    })
}

/// Clocks are compared to some milliseconds.
fn is_since(at: Timestamp, asked: Timestamp) -> bool {
    at >= asked.plus_millis(-1_000)
}
