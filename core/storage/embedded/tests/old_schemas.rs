//! A database that any released version wrote opens in every later one.

use std::path::Path;
use std::time::Duration;

use model::attribution::{Address, Assignment, Term};
use model::recording::Status;
use model::search::SearchQuery;
use model::{JournalState, RecordingState, TenantId};
use rusqlite::{Connection, params};
use storage_embedded::Embedded;
use storage_ports::{EventQueue, RecordingIndex};

fn golden(name: &str) -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../model/tests/golden");
    std::fs::read_to_string(dir.join(name)).unwrap()
}

#[tokio::test]
async fn a_database_of_schema_1_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let old = Connection::open(dir.path().join("linekeeper.sqlite")).unwrap();
    old.execute_batch(include_str!("../src/schema/1.sql")).unwrap();
    old.execute_batch("PRAGMA application_id = 0x4c4b5052; PRAGMA user_version = 1").unwrap();
    let recording: RecordingState =
        serde_json::from_str(&golden("index_recording.v1.json")).unwrap();
    let journal: JournalState = serde_json::from_str(&golden("index_journal.v1.json")).unwrap();
    old.execute(
        "INSERT INTO journals VALUES (?1, 0, ?2)",
        params![journal.journal.0.as_bytes(), golden("index_journal.v1.json")],
    )
    .unwrap();
    old.execute(
        "INSERT INTO recordings VALUES
         (1, 'default', ?1, ?2, 1795334400123, 61020, 'stored', 0, NULL, 'eva novak', '', ?3)",
        params![
            recording.id.0.as_bytes(),
            journal.journal.0.as_bytes(),
            golden("index_recording.v1.json")
        ],
    )
    .unwrap();
    old.execute("INSERT INTO recording_text (rowid, text) VALUES (1, 'eva novak')", ()).unwrap();
    old.execute("INSERT INTO queue_messages VALUES (1, 'events', 'old', 0, 0, 0, 0)", ()).unwrap();
    drop(old);

    let engines = Embedded::open(dir.path()).unwrap();
    let index = engines.index();
    let tenant = TenantId::default();
    let state = index.state(&tenant, recording.id).await.unwrap();
    assert_eq!(state, Some((recording.clone(), journal)));
    let query = SearchQuery {
        q: Some("Novák".to_owned()),
        status: Some(Status::Stored),
        ..SearchQuery::default()
    };
    let found = index.search(&tenant, &query).await.unwrap();
    assert_eq!(found.items.iter().map(|item| item.id).collect::<Vec<_>>(), [recording.id]);
    // What a scope is looked up in was not there yet.
    for (address, expected) in [("+38612345678", vec![recording.id]), ("7001", vec![])] {
        let address = Address::new(address).unwrap();
        let scope = Some(vec![Assignment { address, term: Term::default() }]);
        let query = SearchQuery { scope, ..SearchQuery::default() };
        let found = index.search(&tenant, &query).await.unwrap();
        assert_eq!(found.items.iter().map(|item| item.id).collect::<Vec<_>>(), expected);
    }
    let messages = engines.events().receive(10, Duration::ZERO).await.unwrap();
    assert_eq!(messages[0].body, "old");
}
