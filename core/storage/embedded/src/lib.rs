//! The engines of the one-machine product: a directory of objects, and one SQLite file that holds
//! the queues, the index and the accounts.
//!
//! Several processes may have the same directory open (`linekeeper run` and `linekeeper verify`);
//! SQLite and the file system keep them apart.

mod accounts;
mod clock;
mod database;
mod directory;
mod index;
mod queue;
mod signing;

use std::collections::HashMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use model::EdgeId;
use tokio::sync::Notify;

pub use accounts::SqliteAccounts;
pub use directory::DirectoryStore;
pub use index::SqliteIndex;
pub use queue::{DeadLetter, QueueOptions, SqliteQueue};
pub use signing::{SignatureError, UrlSigner};

use database::Database;

/// Why the data directory cannot be used. Each of them is for the operator to act on.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{} cannot be written", path.display())]
    NotWritable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is locked by another process: stop that one and start again", path.display())]
    Locked { path: PathBuf },
    #[error(
        "{} has schema {found} and was written by a newer Linekeeper; this one knows schemas up \
         to {known}: start the newer one, or restore the backup made before it",
        path.display()
    )]
    TooNew { path: PathBuf, found: i32, known: usize },
    #[error("{} is not a Linekeeper database", path.display())]
    Foreign { path: PathBuf },
    #[error("open database {}", path.display())]
    Database {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("no random numbers from the operating system")]
    Random(#[source] getrandom::Error),
}

/// All engines over one data directory:
///
/// ```text
/// DIR/objects/            the object store
/// DIR/linekeeper.sqlite   queues, index, accounts
/// ```
#[derive(Clone)]
pub struct Embedded {
    database: Arc<Database>,
    objects: Arc<DirectoryStore>,
    /// Wakes the receivers of a queue, by name, when a message comes from this process.
    wakers: Arc<Mutex<HashMap<String, Arc<Notify>>>>,
}

impl Embedded {
    /// Opens `dir`, making what is missing. Does file IO: call it before serving starts.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        make_private_dir(dir)?;
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(OpenError::Random)?;
        // A new key with each start: it invalidates URLs that live for a minute at most.
        let objects = DirectoryStore::open(&dir.join("objects"), UrlSigner::new(key))?;
        Ok(Self {
            database: Database::open(&dir.join("linekeeper.sqlite"))?,
            objects: Arc::new(objects),
            wakers: Arc::default(),
        })
    }

    pub fn objects(&self) -> Arc<DirectoryStore> {
        Arc::clone(&self.objects)
    }

    pub fn index(&self) -> Arc<SqliteIndex> {
        Arc::new(SqliteIndex::new(Arc::clone(&self.database)))
    }

    pub fn accounts(&self) -> Arc<SqliteAccounts> {
        Arc::new(SqliteAccounts::new(Arc::clone(&self.database)))
    }

    /// Recording events, from edges to the indexer.
    pub fn events(&self) -> Arc<SqliteQueue> {
        self.queue("events", QueueOptions::default())
    }

    /// Recordings to build, from the indexer to the finaliser.
    pub fn finalize(&self) -> Arc<SqliteQueue> {
        self.queue("finalize", QueueOptions::long_work())
    }

    /// Commands to one edge.
    pub fn commands(&self, edge: &EdgeId) -> Arc<SqliteQueue> {
        self.queue(&format!("commands-{edge}"), QueueOptions::default())
    }

    /// The queue of this name; it exists as soon as something is sent to it.
    pub fn queue(&self, name: &str, options: QueueOptions) -> Arc<SqliteQueue> {
        let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        let waker = Arc::clone(wakers.entry(name.to_owned()).or_default());
        Arc::new(SqliteQueue::new(Arc::clone(&self.database), name, options, waker))
    }
}

/// Makes a directory that only its owner may enter: what lies in it was said on the telephone.
fn make_private_dir(path: &Path) -> Result<(), OpenError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| OpenError::NotWritable { path: path.to_owned(), source })
}
