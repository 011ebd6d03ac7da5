//! The one SQLite file: connections, schema, and what its errors mean to a caller.
//!
//! - Write-ahead log, so that readers (the API, `linekeeper verify` in another process) never
//!   wait for the writer.
//! - `synchronous=FULL`: with `NORMAL` a power cut may take back the last commits. A queue that
//!   has accepted an event lets the edge recycle the journal that held it, so "accepted" must
//!   mean "on the disk".
//! - One writing connection per process behind a mutex, so that our own tasks queue up fairly
//!   instead of racing for SQLite's lock; other processes are waited for [`BUSY_TIMEOUT`].
//! - Every write is one `IMMEDIATE` transaction: it never starts as a reader and then finds that
//!   somebody else has written.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use storage_ports::StorageError;

use crate::OpenError;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// How long a statement waits for another process to finish its transaction. Ours take
/// milliseconds; what holds the lock this long is a backup or a stopped process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// `LKPR`, written into the file's header so that another program's database is not touched.
const APPLICATION_ID: i32 = 0x4c4b_5052;

/// Step `n` leads from schema `n` to `n + 1`. A step that was released is never edited.
const MIGRATIONS: [&str; 3] =
    [include_str!("schema/1.sql"), include_str!("schema/2.sql"), include_str!("schema/3.sql")];

#[derive(Debug)]
pub(crate) struct Database {
    path: PathBuf,
    writer: Mutex<Connection>,
    /// Idle reading connections. As many exist as there were readers at once.
    readers: Mutex<Vec<Connection>>,
}

impl Database {
    /// Opens the file, makes it if there is none, and brings its schema up to date.
    pub fn open(path: &Path) -> Result<Arc<Self>, OpenError> {
        // SQLite gives its -wal and -shm files the mode of the database. They name callers.
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .append(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| OpenError::NotWritable { path: path.to_owned(), source })?;
        let fault = |source| open_error(path, source);
        let mut writer = connect(path).map_err(fault)?;
        migrate(&mut writer, path)?;
        Ok(Arc::new(Self {
            path: path.to_owned(),
            writer: Mutex::new(writer),
            readers: Mutex::new(Vec::new()),
        }))
    }

    /// Runs `work` in one durable transaction. Rolled back when it fails.
    pub async fn write<T, W>(
        self: &Arc<Self>,
        what: &'static str,
        work: W,
    ) -> Result<T, StorageError>
    where
        T: Send + 'static,
        W: FnOnce(&Transaction<'_>) -> Result<T, WorkError> + Send + 'static,
    {
        let database = Arc::clone(self);
        blocking(what, move || {
            // A panic inside a transaction dropped it, and so rolled it back.
            let mut writer = database.writer.lock().unwrap_or_else(PoisonError::into_inner);
            let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        })
        .await
    }

    /// Runs `work` on one consistent view of the file, beside the writer.
    pub async fn read<T, W>(
        self: &Arc<Self>,
        what: &'static str,
        work: W,
    ) -> Result<T, StorageError>
    where
        T: Send + 'static,
        W: FnOnce(&Transaction<'_>) -> Result<T, WorkError> + Send + 'static,
    {
        let database = Arc::clone(self);
        blocking(what, move || {
            let idle = database.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut reader = match idle {
                Some(reader) => reader,
                None => connect(&database.path)?,
            };
            let transaction = reader.transaction_with_behavior(TransactionBehavior::Deferred)?;
            let result = work(&transaction)?;
            drop(transaction);
            database.readers.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
            Ok(result)
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<T, WorkError> + Send + 'static,
) -> Result<T, StorageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| error.into_storage(what)),
        // The runtime is shutting down, or `work` panicked: that is not the caller's fault.
        Err(error) => Err(StorageError::unavailable(what, error)),
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let fault = |source| open_error(path, source);
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fault)?;
    let pragma = |name| transaction.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let application = pragma("application_id").map_err(fault)?;
    let found = pragma("user_version").map_err(fault)?;
    let tables: u32 = transaction
        .query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))
        .map_err(fault)?;
    let is_new = application == 0 && found == 0 && tables == 0;
    if !is_new && application != APPLICATION_ID {
        return Err(OpenError::Foreign { path: path.to_owned() });
    }
    let known = MIGRATIONS.len();
    let Some(steps) = usize::try_from(found).ok().and_then(|found| MIGRATIONS.get(found..)) else {
        return Err(OpenError::TooNew { path: path.to_owned(), found, known });
    };
    for step in steps {
        transaction.execute_batch(step).map_err(fault)?;
    }
    if !steps.is_empty() {
        if !is_new && found < 3 {
            // What a recording's addresses are, SQL cannot say.
            crate::index::add_addresses(&transaction)
                .map_err(|error| fault(error.into_sqlite()))?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(fault)?;
        transaction.pragma_update(None, "user_version", known as i64).map_err(fault)?;
    }
    transaction.commit().map_err(fault)
}

fn open_error(path: &Path, source: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Locked { path },
        Some(ErrorCode::NotADatabase) => OpenError::Foreign { path },
        _ => OpenError::Database { path, source },
    }
}

/// Why a piece of work on the database was given up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkError {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// What a column holds is not what this program writes there.
    #[error("a stored value cannot be read")]
    Corrupt(#[source] Cause),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl WorkError {
    pub fn corrupt(cause: impl Into<Cause>) -> Self {
        Self::Corrupt(cause.into())
    }

    fn into_sqlite(self) -> rusqlite::Error {
        match self {
            Self::Sqlite(error) => error,
            Self::Corrupt(cause) => {
                rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, cause)
            }
            Self::Storage(error) => rusqlite::Error::ToSqlConversionFailure(Box::new(error)),
        }
    }

    fn into_storage(self, what: &'static str) -> StorageError {
        match self {
            Self::Storage(error) => error,
            Self::Corrupt(_) => StorageError::refused(what, self),
            Self::Sqlite(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                    StorageError::unavailable(what, LockedElsewhere)
                }
                // A full or failing disk, or too many open files: an operator can help, and the
                // same call will then succeed.
                Some(
                    ErrorCode::DiskFull
                    | ErrorCode::SystemIoFailure
                    | ErrorCode::CannotOpen
                    | ErrorCode::OutOfMemory
                    | ErrorCode::FileLockingProtocolFailed
                    | ErrorCode::OperationInterrupted,
                ) => StorageError::unavailable(what, error),
                _ => StorageError::refused(what, error),
            },
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the database is locked by another process, for {} seconds already", BUSY_TIMEOUT.as_secs())]
struct LockedElsewhere;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_of_a_newer_version_is_refused_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sqlite");
        drop(Database::open(&path).unwrap());
        let raw = Connection::open(&path).unwrap();
        raw.pragma_update(None, "user_version", 900).unwrap();
        let error = Database::open(&path).unwrap_err();
        assert!(matches!(error, OpenError::TooNew { found: 900, .. }), "{error}");
        assert!(error.to_string().contains("newer"), "{error}");
        let kept: i32 = raw.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(kept, 900);
    }

    #[test]
    fn a_file_of_another_program_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sqlite");
        std::fs::write(&path, "my diary, volume three. ".repeat(200)).unwrap();
        assert!(matches!(Database::open(&path), Err(OpenError::Foreign { .. })));
        std::fs::remove_file(&path).unwrap();
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE diary (day)").unwrap();
        assert!(matches!(Database::open(&path), Err(OpenError::Foreign { .. })));
    }

    #[tokio::test]
    async fn a_database_that_another_process_has_locked_is_worth_trying_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sqlite");
        let database = Database::open(&path).unwrap();
        database.writer.lock().unwrap().busy_timeout(Duration::from_millis(10)).unwrap();
        let other = Connection::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let error = database.write("test", |_| Ok(())).await.unwrap_err();
        assert!(error.is_retryable(), "{error:?}");
        other.execute_batch("COMMIT").unwrap();
        database.write("test", |_| Ok(())).await.unwrap();
    }

    #[tokio::test]
    async fn work_that_fails_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(&dir.path().join("x.sqlite")).unwrap();
        let failed: Result<(), _> = database
            .write("test", |transaction| {
                transaction
                    .execute("INSERT INTO dead_letters VALUES (1, 'q', 'b', 0, 0, 0, 'r')", ())?;
                Err(WorkError::corrupt("on purpose"))
            })
            .await;
        assert!(matches!(failed, Err(StorageError::Refused { .. })), "{failed:?}");
        let rows: u32 = database
            .read("test", |transaction| {
                Ok(transaction.query_row("SELECT count(*) FROM dead_letters", (), |r| r.get(0))?)
            })
            .await
            .unwrap();
        assert_eq!(rows, 0);
    }
}
