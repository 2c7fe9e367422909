//! What a store owes.

use khaos_core::job::{EngineJobId, JobKey, JobShape};
use khaos_core::observe::Minute;
use khaos_core::optimize::{Effect, Outcome};
use khaos_core::profile::{Failure, Measured};
use khaos_core::record::{Fact, Kind, Record, RecordId};
use khaos_core::series::Reading;
use khaos_core::units::{CheckpointInterval, EventRate, Span, Timestamp};

use crate::ports::Store;

fn job() -> JobKey {
    JobKey("contract".into())
}

fn minute(n: i64, parents: Vec<RecordId>) -> Record {
    let start = Timestamp(n * 60_000);
    let mut minute = Minute::blind(start);
    // A rate that decimal digits do not hold exactly.
    minute.arrival = Reading::Known(EventRate::new(1_000.0 / 3.0 + n as f64).expect("valid"));
    Record::new(&job(), start.plus_secs(70.0), parents, Fact::Minute(minute))
}

fn outcome(n: u64) -> Record {
    let interval = CheckpointInterval::from_secs(30).expect("not zero");
    let outcome = Outcome {
        at: Timestamp(7),
        from: interval,
        to: interval,
        generation: n,
        effect: Effect::Refused("a reason with \"quotes\", ünïcode and\nlines".into()),
        stalled: None,
    };
    Record::new(&job(), Timestamp(7), vec![], Fact::Outcome(outcome))
}

fn failure() -> Record {
    let failure = Failure {
        engine_id: EngineJobId("e".into()),
        attempt: 2,
        shape: JobShape("s".into()),
        noticed_at: Timestamp(60_000),
        failed_at: Some(Timestamp(40_500)),
        highest: EventRate::new(1_000.0 / 7.0).ok(),
        measured: Measured::Nothing("it did not show in the lag".into()),
        predicted: None,
    };
    Record::new(&job(), Timestamp(130_000), vec![], Fact::Failure(failure))
}

/// What comes out is what went in, to the last bit, and its id still fits.
pub async fn keeps_records_as_they_are(store: &dyn Store) {
    for record in [minute(0, vec![]), outcome(1), failure()] {
        store.append(record.clone()).await.expect("it is appended");
        let kind = record.fact().kind();
        let found =
            store.latest(&job(), kind).await.expect("it is looked up").expect("it is there");
        assert_eq!(*found, record);
        assert_eq!(found.verify(), Ok(()));
    }
}

/// A record that is there already is there once.
pub async fn appends_once(store: &dyn Store) {
    let first = store.append(minute(0, vec![])).await.expect("it is appended");
    let again = store.append(minute(0, vec![])).await.expect("it is there already");
    assert_eq!(first.id(), again.id());
    let all = Span { from: Timestamp(i64::MIN), to: Timestamp(i64::MAX) };
    assert_eq!(store.range(&job(), Kind::Minute, all).await.expect("it is looked up").len(), 1);
}

/// Records are found by kind, by when they were made, and by what they follow from; only those.
pub async fn finds_by_kind_span_and_parent(store: &dyn Store) {
    assert_eq!(store.latest(&job(), Kind::Minute).await.expect("it is looked up"), None);
    let mut parents = Vec::new();
    let mut ids = Vec::new();
    for n in 0..4 {
        let record = store.append(minute(n, parents)).await.expect("it is appended");
        parents = vec![record.id().clone()];
        ids.push(record.id().clone());
    }
    store.append(outcome(1)).await.expect("it is appended");

    let latest = store.latest(&job(), Kind::Minute).await.expect("it is looked up");
    assert_eq!(latest.expect("it is there").id(), &ids[3]);
    // Half-open: made at 130 s and at 190 s, but not at 250 s.
    let span = Span { from: Timestamp(130_000), to: Timestamp(250_000) };
    let found = store.range(&job(), Kind::Minute, span).await.expect("it is looked up");
    let found: Vec<&RecordId> = found.iter().map(|record| record.id()).collect();
    assert_eq!(found, [&ids[1], &ids[2]]);
    let children = store.children(&ids[1]).await.expect("it is looked up");
    let children: Vec<&RecordId> = children.iter().map(|record| record.id()).collect();
    assert_eq!(children, [&ids[2]]);

    let other = JobKey("another".into());
    assert_eq!(store.latest(&other, Kind::Minute).await.expect("it is looked up"), None);
    assert!(store.range(&other, Kind::Minute, span).await.expect("it is looked up").is_empty());
}
