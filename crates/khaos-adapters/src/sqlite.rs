//! The store in one SQLite file: inspectable with the `sqlite3` shell, safe against a kill at any
//! moment (write-ahead log, one transaction a record).

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use khaos_control::core::job::JobKey;
use khaos_control::core::record::{Kind, Record, RecordId};
use khaos_control::core::units::Span;
use khaos_control::ports::{PortError, Store};
use rusqlite::{Connection, OptionalExtension, Row, params};
use thiserror::Error;

/// Version of the schema that this code writes.
const VERSION: i64 = 1;
const SCHEMA: &str = "
    CREATE TABLE record (
        seq    INTEGER PRIMARY KEY,
        id     TEXT NOT NULL UNIQUE,
        job    TEXT NOT NULL,
        kind   TEXT NOT NULL,
        at_ms  INTEGER NOT NULL,
        json   TEXT NOT NULL
    );
    CREATE INDEX record_by_kind ON record (job, kind, at_ms);
    CREATE TABLE parent (
        parent TEXT NOT NULL,
        child  INTEGER NOT NULL REFERENCES record (seq),
        PRIMARY KEY (parent, child)
    ) WITHOUT ROWID;
";

/// Why a file is no store.
#[derive(Debug, Error)]
pub enum OpenError {
    /// SQLite says no.
    #[error("{path}: cannot be opened as a store: {source}")]
    Sqlite {
        /// The file.
        path: String,
        /// Why.
        source: rusqlite::Error,
    },
    /// It was written by a later Khaos.
    #[error(
        "{path}: the store has version {found}, this Khaos knows up to {VERSION}: use a newer Khaos"
    )]
    Newer {
        /// The file.
        path: String,
        /// Its version.
        found: i64,
    },
}

/// Records in an SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Mutex<Connection>,
}

impl SqliteStore {
    /// Opens the store at `path`, and creates it where there is none.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let name = path.display().to_string();
        let fail = |source| OpenError::Sqlite { path: name.clone(), source };
        let mut connection = Connection::open(path).map_err(fail)?;
        let prepare = |connection: &mut Connection| {
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            connection.pragma_update(None, "foreign_keys", "ON")?;
            let created = connection.transaction()?;
            let found: i64 = created.pragma_query_value(None, "user_version", |row| row.get(0))?;
            if found == 0 {
                created.execute_batch(SCHEMA)?;
                created.pragma_update(None, "user_version", VERSION)?;
            }
            created.commit()?;
            Ok(found)
        };
        let found = prepare(&mut connection).map_err(fail)?;
        if found > VERSION {
            return Err(OpenError::Newer { path: name, found });
        }
        Ok(Self { connection: Mutex::new(connection) })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
    ) -> Result<Vec<Arc<Record>>, PortError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(sql).map_err(|error| broken(&error))?;
        let rows = statement.query_map(values, json).map_err(|error| broken(&error))?;
        rows.map(|row| row.map_err(|error| broken(&error)).and_then(|text| parse(&text))).collect()
    }
}

fn json(row: &Row<'_>) -> rusqlite::Result<String> {
    row.get(0)
}

fn broken(error: &rusqlite::Error) -> PortError {
    PortError::Unavailable(format!("the store: {error}"))
}

fn parse(text: &str) -> Result<Arc<Record>, PortError> {
    serde_json::from_str(text).map(Arc::new).map_err(|error| {
        PortError::Refused(format!("the store holds a record that cannot be read: {error}"))
    })
}

#[async_trait]
impl Store for SqliteStore {
    async fn append(&self, record: Record) -> Result<Arc<Record>, PortError> {
        let json = serde_json::to_string(&record).expect("records are plain data");
        let insert = |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            let id = record.id().as_str();
            let there: Option<String> = transaction
                .prepare_cached("SELECT json FROM record WHERE id = ?1")?
                .query_row([id], |row| row.get(0))
                .optional()?;
            if there.is_some() {
                return Ok(there);
            }
            let (job, kind) = (&record.job().0, record.fact().kind().name());
            transaction
                .prepare_cached(
                    "INSERT INTO record (id, job, kind, at_ms, json) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![id, job, kind, record.at().0, json])?;
            let child = transaction.last_insert_rowid();
            for parent in record.parents() {
                transaction
                    .prepare_cached("INSERT INTO parent (parent, child) VALUES (?1, ?2)")?
                    .execute(params![parent.as_str(), child])?;
            }
            transaction.commit()?;
            Ok(None)
        };
        match insert(&mut self.connection()).map_err(|error| broken(&error))? {
            Some(there) => parse(&there),
            None => Ok(Arc::new(record)),
        }
    }

    async fn latest(&self, job: &JobKey, kind: Kind) -> Result<Option<Arc<Record>>, PortError> {
        let found = self.find(
            "SELECT json FROM record WHERE job = ?1 AND kind = ?2 ORDER BY seq DESC LIMIT 1",
            params![job.0, kind.name()],
        )?;
        Ok(found.into_iter().next())
    }

    async fn range(
        &self,
        job: &JobKey,
        kind: Kind,
        span: Span,
    ) -> Result<Vec<Arc<Record>>, PortError> {
        self.find(
            "SELECT json FROM record WHERE job = ?1 AND kind = ?2 AND at_ms >= ?3 AND at_ms < ?4 \
             ORDER BY at_ms, seq",
            params![job.0, kind.name(), span.from.0, span.to.0],
        )
    }

    async fn children(&self, id: &RecordId) -> Result<Vec<Arc<Record>>, PortError> {
        self.find(
            "SELECT json FROM parent JOIN record ON record.seq = parent.child \
             WHERE parent.parent = ?1 ORDER BY seq",
            [id.as_str()],
        )
    }
}
