//! Marks: launches that nobody has heard the end of.
//!
//! Between the request that runs a jar and the job's being listed lies the job's `main`, which takes as long
//! as it takes and goes on when whoever asked is dead: a sweep meanwhile does not see the clone. So a launch
//! leaves its labels at Flink before it is sent, where it will arrive, as the name of an empty jar, and takes
//! them away when it has been answered. A JobManager that dies loses the jars, and what was on its way to it.

use khaos_control::core::job::{EngineJobId, JobKey};
use khaos_control::core::record::RecordId;
use khaos_control::core::units::{CheckpointInterval, Timestamp};
use khaos_control::ports::{CloneSpec, PortError};
use sha2::{Digest, Sha256};

use crate::flink::rest::Rest;
use crate::flink::submission::{jars, upload};

const MARK: &str = "khaos-clone_";
/// An archive of nothing: the end of its directory.
const EMPTY: [u8; 22] = *b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// Says at Flink that the clone of `spec` is about to be launched as `id`: Flink's name for the mark.
pub(super) async fn leave(
    rest: &Rest,
    spec: &CloneSpec,
    id: &EngineJobId,
) -> Result<String, PortError> {
    upload(rest, name(spec, id), EMPTY.to_vec()).await
}

/// Takes the mark away.
pub(super) async fn remove(rest: &Rest, mark: &str) -> Result<(), PortError> {
    rest.delete(&format!("/jars/{mark}"), "mark of a launch").await
}

/// The marks of launches for `of`, by Flink's names, and what was to be launched.
pub(super) async fn left(
    rest: &Rest,
    of: &JobKey,
) -> Result<Vec<(String, EngineJobId, CloneSpec)>, PortError> {
    let marked = jars(rest).await?.into_iter().filter_map(|jar| {
        let (id, spec) = read(&jar.name, of)?;
        Some((jar.id, id, spec))
    });
    Ok(marked.collect())
}

/// All labels, in letters that a file's name may have: the job's name, in which anything may be, as a digest.
pub(super) fn name(spec: &CloneSpec, id: &EngineJobId) -> String {
    let CloneSpec { of, campaign, index, interval, deadline } = spec;
    let digest = Sha256::digest(of.0.as_bytes());
    let of: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let (secs, until) = (interval.secs(), deadline.0);
    format!("{MARK}{id}_{campaign}_{index}_{secs}_{until}_{of}.jar")
}

/// The launch that the mark `text` is of, where that is one for `of`.
fn read(text: &str, of: &JobKey) -> Option<(EngineJobId, CloneSpec)> {
    let labels: Vec<&str> = text.strip_prefix(MARK)?.split('_').collect();
    let [id, campaign, index, secs, until, _] = labels[..] else { return None };
    let id = EngineJobId(id.to_owned());
    let spec = CloneSpec {
        of: of.clone(),
        campaign: RecordId::of_digits(campaign)?,
        index: index.parse().ok()?,
        interval: CheckpointInterval::from_secs(secs.parse().ok()?).ok()?,
        deadline: Timestamp(until.parse().ok()?),
    };
    (name(&spec, &id) == text).then_some((id, spec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_holds_all_labels_and_is_of_one_job() {
        let spec = CloneSpec {
            of: JobKey("orders_1 / EU".to_owned()),
            campaign: RecordId::of_digits("0123456789abcdef0123456789abcdef").unwrap(),
            index: 3,
            interval: CheckpointInterval::from_secs(45).unwrap(),
            deadline: Timestamp(1_764_000_000_000),
        };
        let id = EngineJobId("00112233445566778899aabbccddeeff".to_owned());
        let mark = name(&spec, &id);
        assert_eq!(read(&mark, &spec.of), Some((id, spec)));
        assert_eq!(read(&mark, &JobKey("orders".to_owned())), None);
        assert_eq!(read("khaos-0011223344556677.jar", &JobKey("orders".to_owned())), None);
    }
}
