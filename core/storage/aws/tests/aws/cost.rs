//! What a call costs in the table is what `docs/design/index.md` says.
//!
//! Counted from the items that the index writes, by the rules of AWS's on-demand mode: a write is
//! charged by the larger of the item before and after, in KB begun; each index is charged for what
//! of its entry changed, and for removing the old entry where its key changed. The emulator's own
//! count is not used, so that its mistakes are not ours.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use model::{RecordingEvent, RecordingId, WallTime};
use storage_aws::{AwsClients, names::table};
use storage_ports::RecordingIndex;

use crate::calls::{Edge, LENGTH, tenant};
use crate::emulator::{TABLE, index};

type Item = HashMap<String, AttributeValue>;
/// All items by their keys.
type Snapshot = BTreeMap<(String, String), Item>;

/// Dollars for a million units, on demand, in us-east-1 since November 2024.
const WRITE_PRICE: f64 = 0.625;
const READ_PRICE: f64 = 0.125;
const KB: usize = 1_024;
const DOCUMENT: &str = include_str!("../../../../../docs/design/index.md");

/// Keys of each index, and whether it shows the state of a recording.
const INDEXES: [([&str; 2], bool); 3] = [
    ([table::LIST_PK, table::LIST_SK], true),
    ([table::LOOKUP_PK, table::LOOKUP_SK], false),
    ([table::WORK_PK, table::WORK_SK], true),
];

/// Bytes of a value, as AWS counts them.
fn bytes(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        // "Approximately": two digits in a byte, and one more.
        AttributeValue::N(digits) => digits.len().div_ceil(2) + 1,
        AttributeValue::B(blob) => blob.as_ref().len(),
        AttributeValue::Bool(_) | AttributeValue::Null(_) => 1,
        AttributeValue::M(map) => 3 + map.len() + item_bytes(map),
        AttributeValue::L(list) => 3 + list.iter().map(|value| 1 + bytes(value)).sum::<usize>(),
        other => panic!("no item of ours has {other:?}"),
    }
}

fn item_bytes(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + bytes(value)).sum()
}

fn units(item: &Item) -> usize {
    item_bytes(item).div_ceil(KB)
}

/// What an index shows of an item; `None` where it shows nothing.
fn entry(item: &Item, keys: [&str; 2], with_state: bool) -> Option<Item> {
    if !keys.iter().all(|key| item.contains_key(*key)) {
        return None;
    }
    let [pk, sk] = keys;
    let shown =
        [table::PK, table::SK, pk, sk].into_iter().chain(with_state.then_some(table::STATE));
    Some(shown.filter_map(|name| Some((name.to_owned(), item.get(name)?.clone()))).collect())
}

/// Write units of one write that made `new` of `old`.
fn written(old: Option<&Item>, new: &Item) -> usize {
    let in_index = |(keys, with_state): &([&str; 2], bool)| {
        let old = old.and_then(|old| entry(old, *keys, *with_state));
        let new = entry(new, *keys, *with_state);
        match (old, new) {
            (None, None) => 0,
            (Some(old), Some(new)) if old == new => 0,
            (Some(old), Some(new)) if keys.iter().all(|key| old[*key] == new[*key]) => {
                units(&old).max(units(&new))
            }
            (old, new) => old.iter().chain(&new).map(units).sum(),
        }
    };
    let itself = units(new).max(old.map_or(0, units));
    itself + INDEXES.iter().map(in_index).sum::<usize>()
}

async fn snapshot(clients: &AwsClients) -> Snapshot {
    let answer = clients.dynamodb().scan().table_name(TABLE).send().await.unwrap();
    assert!(answer.last_evaluated_key.is_none(), "more than one page");
    let text = |item: &Item, name: &str| item[name].as_s().unwrap().clone();
    let keyed = |item: Item| ((text(&item, table::PK), text(&item, table::SK)), item);
    answer.items.unwrap().into_iter().map(keyed).collect()
}

/// Write units from one snapshot to the next; between them each item is written once at most.
fn between(before: &Snapshot, after: &Snapshot) -> usize {
    let changed = after.iter().filter(|(key, new)| before.get(*key) != Some(*new));
    changed.map(|(key, new)| written(before.get(key), new)).sum()
}

/// Bytes that are charged for keeping a call: 100 more for each item and each entry of an index.
fn kept(all: &Snapshot, id: RecordingId) -> usize {
    let of_call = |key: &(String, String)| key.0.ends_with(&id.0.simple().to_string());
    let parts = |item: &Item| {
        let entries =
            INDEXES.iter().filter_map(|(keys, with_state)| entry(item, *keys, *with_state));
        entries.map(|entry| item_bytes(&entry) + 100).sum::<usize>() + item_bytes(item) + 100
    };
    all.iter().filter(|(key, _)| of_call(key)).map(|(_, item)| parts(item)).sum()
}

fn row(what: &str, writes: usize, reads: f64) -> String {
    let price = writes as f64 * WRITE_PRICE + reads * READ_PRICE;
    format!("| {what} | {writes} | {reads:.1} | ${price:.2} |")
}

/// Fails, and prints what should be there, where the documentation has other numbers.
pub fn is_documented(rows: &[String]) {
    let missing: Vec<_> = rows.iter().filter(|row| !DOCUMENT.contains(row.as_str())).collect();
    assert!(missing.is_empty(), "docs/design/index.md should have:\n{}", rows.join("\n"));
}

fn call(number: u64) -> (RecordingId, WallTime) {
    // 2026-11-22T08:00:00Z, an hour apart.
    let at = WallTime::from_unix_ms(1_795_334_400_000) + Duration::from_secs(3_600) * number as u32;
    (RecordingId::at(at.unix_ms().unsigned_abs(), [number as u8; 10]), at)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_costs_what_the_documentation_says() {
    let Some((emulator, index)) = index("a_call_costs_what_the_documentation_says").await else {
        return;
    };
    let clients = crate::emulator::clients(&emulator.url());
    let mut edge = Edge::new();
    let mut rows = Vec::new();
    let mut before = snapshot(&clients).await;
    // The second call has no word and no day that the table does not know.
    for number in 0..2 {
        let (id, at) = call(number);
        let mut total = (0, 0.0);
        let mut step = async |what: &str, events: &[RecordingEvent], build: bool| {
            let used = index.used();
            for event in events {
                index.apply(event).await.unwrap();
            }
            if build {
                let built = Edge::built(3);
                assert!(index.finalized(&tenant(), id, built).await.unwrap());
            }
            let after = snapshot(&clients).await;
            let writes = between(&before, &after);
            let reads = index.used().since(used).read_units;
            before = after;
            total = (total.0 + writes, total.1 + reads);
            rows.push(row(what, writes, reads));
        };
        let started = edge.starts(id, 0, at);
        let ended = edge.ends(id, at);
        step("`started`", &started[..1], false).await;
        step("`metadata`, with a document of 2.6 kB", &started[1..], false).await;
        step("`ended`", &ended[..1], false).await;
        step("`stored`", &ended[1..], false).await;
        step("built", &[], true).await;
        rows.push(row("**a call**", total.0, total.1));
        rows.push(format!("| kept of it, indexes included | {} bytes |", kept(&before, id)));
        if number == 0 {
            rows.clear();
        }
    }
    let (id, at) = call(2);
    for event in edge.starts(id, 0, at) {
        index.apply(&event).await.unwrap();
    }
    let [first, first_delayed] = edge.beats(at + LENGTH, vec![id]);
    let [second, _] = edge.beats(at + LENGTH, vec![id]);
    index.apply(&first).await.unwrap();
    before = snapshot(&clients).await;
    let mut total = (0, 0.0);
    for event in [second, first_delayed] {
        let used = index.used();
        index.apply(&event).await.unwrap();
        let after = snapshot(&clients).await;
        total = (total.0 + between(&before, &after), total.1 + index.used().since(used).read_units);
        before = after;
    }
    rows.push(row("a beat, at once and delayed", total.0, total.1));
    is_documented(&rows);
}
