//! The contract of the store on SQLite, and what only a file can get wrong.

use khaos_adapters::sqlite::{OpenError, SqliteStore};
use khaos_control::contract;
use khaos_control::core::job::JobKey;
use khaos_control::core::observe::Minute;
use khaos_control::core::record::{Fact, Kind, Record};
use khaos_control::core::units::Timestamp;
use khaos_control::ports::Store;

macro_rules! store_clauses {
    ($($clause:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $clause() {
                let dir = tempfile::tempdir().unwrap();
                let store = SqliteStore::open(&dir.path().join("khaos.sqlite")).unwrap();
                contract::$clause(&store).await;
            }
        )*
    };
}
store_clauses!(keeps_records_as_they_are, appends_once, finds_by_kind_span_and_parent);

#[tokio::test]
async fn records_outlive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("khaos.sqlite");
    let job = JobKey("j".into());
    let record = Record::new(&job, Timestamp(1), vec![], Fact::Minute(Minute::blind(Timestamp(0))));
    SqliteStore::open(&path).unwrap().append(record.clone()).await.unwrap();
    let again = SqliteStore::open(&path).unwrap();
    assert_eq!(*again.latest(&job, Kind::Minute).await.unwrap().unwrap(), record);
}

#[tokio::test]
async fn what_is_no_store_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.txt");
    std::fs::write(&path, "this is not a database, but it is long enough to look at").unwrap();
    let error = SqliteStore::open(&path).unwrap_err();
    assert!(error.to_string().contains("notes.txt"), "{error}");

    let newer = dir.path().join("newer.sqlite");
    drop(SqliteStore::open(&newer).unwrap());
    let raise = rusqlite::Connection::open(&newer).unwrap();
    raise.pragma_update(None, "user_version", 99).unwrap();
    drop(raise);
    let error = SqliteStore::open(&newer).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error}");
}

#[tokio::test]
async fn a_record_changed_by_hand_shows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("khaos.sqlite");
    let store = SqliteStore::open(&path).unwrap();
    let job = JobKey("j".into());
    let minute = Fact::Minute(Minute::blind(Timestamp(0)));
    store.append(Record::new(&job, Timestamp(1), vec![], minute)).await.unwrap();
    let forge = rusqlite::Connection::open(&path).unwrap();
    forge
        .execute("UPDATE record SET json = replace(json, '\"attempt\":null', '\"attempt\":3')", [])
        .unwrap();
    let found = store.latest(&job, Kind::Minute).await.unwrap().unwrap();
    assert_eq!(found.minute().unwrap().attempt, Some(3));
    assert!(found.verify().is_err());
}
