//! What one version wrote into the table, every later one reads: a call as the first version left it,
//! item by item, is kept in `tests/golden`. A new form of an item gets a new file beside it.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use model::search::SearchQuery;
use model::{RecordingId, WallTime};
use serde_json::Value;
use storage_aws::names::table;
use storage_ports::RecordingIndex;

use crate::calls::{Edge, record, tenant, user_of};
use crate::emulator::{TABLE, clients, index};

const CALL: &str = include_str!("../golden/call.v1.json");

type Item = HashMap<String, AttributeValue>;

fn call() -> (RecordingId, WallTime) {
    (RecordingId::at(1_795_334_400_000, [7; 10]), WallTime::from_unix_ms(1_795_334_400_000))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_written_as_it_always_was() {
    let Some((emulator, index)) = index("a_call_is_written_as_it_always_was").await else {
        return;
    };
    let (id, at) = call();
    record(&index, &mut Edge::new(), id, 0, at).await;
    let client = clients(&emulator.url()).dynamodb().clone();
    let mut items = client.scan().table_name(TABLE).send().await.unwrap().items.unwrap();
    items.sort_by_key(|item| [table::PK, table::SK].map(|name| item[name].as_s().unwrap().clone()));
    let written: Vec<Value> = items
        .into_iter()
        .map(|mut item| {
            // When it was heard of, by this machine's clock.
            if item.contains_key("heard") {
                item.insert("heard".to_owned(), AttributeValue::N("0".to_owned()));
            }
            serde_dynamo::from_item(item).unwrap()
        })
        .collect();
    let golden: Vec<Value> = serde_json::from_str(CALL).unwrap();
    let new = serde_json::to_string_pretty(&written).unwrap();
    assert!(written == golden, "the table's items have another form now:\n{new}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_the_first_version_wrote_is_read() {
    let Some((emulator, index)) = index("a_call_that_the_first_version_wrote_is_read").await else {
        return;
    };
    let golden: Vec<Value> = serde_json::from_str(CALL).unwrap();
    let client = clients(&emulator.url()).dynamodb().clone();
    for items in golden.chunks(25) {
        let put = |item: &Value| {
            let item: Item = serde_dynamo::to_item(item).unwrap();
            let put = PutRequest::builder().set_item(Some(item)).build().unwrap();
            WriteRequest::builder().put_request(put).build()
        };
        let requests = items.iter().map(put).collect();
        client.batch_write_item().request_items(TABLE, requests).send().await.unwrap();
    }
    let (id, at) = call();
    let (state, journal) = index.state(&tenant(), id).await.unwrap().unwrap();
    assert_eq!(state.documents.len(), 1);
    let view = state.view(&journal).unwrap();
    assert!(view.playable && view.started_at == at && view.tracks.len() == 2, "{view:?}");
    let query = SearchQuery::default();
    for query in [
        query.clone(),
        SearchQuery { user: Some(user_of(0)), ..query.clone() },
        SearchQuery { q: Some("novak".to_owned()), ..query.clone() },
        SearchQuery { q: Some("0003".to_owned()), ..query },
    ] {
        let found = index.search(&tenant(), &query).await.unwrap();
        assert_eq!(found.items, std::slice::from_ref(&view), "{query:?}");
    }
    assert_eq!(index.due(&tenant(), at + crate::calls::LENGTH, 9).await.unwrap(), [id]);
}
