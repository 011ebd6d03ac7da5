//! The embedded engines keep every promise of their ports.

use std::time::Duration;

use storage_embedded::{Embedded, QueueOptions};
use storage_ports::contract::{self, QueueTerms};

fn engines() -> (tempfile::TempDir, Embedded) {
    let dir = tempfile::tempdir().unwrap();
    let engines = Embedded::open(dir.path()).unwrap();
    (dir, engines)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_an_object_store() {
    let (_dir, engines) = engines();
    contract::object_store(&*engines.objects()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_is_a_queue() {
    let (_dir, engines) = engines();
    let terms = QueueTerms { visibility: Duration::from_secs(2), max_receives: 3 };
    let options = QueueOptions { visibility: terms.visibility, max_receives: terms.max_receives };
    contract::queue(&*engines.queue("contract", options), terms).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_is_an_index() {
    let (_dir, engines) = engines();
    contract::index(&*engines.index()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_keeps_accounts() {
    let (_dir, engines) = engines();
    contract::accounts(&*engines.accounts()).await;
}
