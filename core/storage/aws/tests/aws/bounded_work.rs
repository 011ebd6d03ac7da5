//! What a question costs does not depend on how many recordings there are, and is what
//! `docs/design/index.md` says.
//!
//! Loading is fast because only as many calls are told to the index as there are people; the
//! items that it wrote for them are then written again, under other ids and times.

use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use futures_util::{StreamExt, TryStreamExt, stream};
use model::recording::Status;
use model::search::SearchQuery;
use model::{RecordingId, WallTime};
use storage_aws::{AwsClients, DynamoIndex, Used, names};
use storage_ports::RecordingIndex;

use crate::calls::{Edge, PEOPLE, number_of, record, tenant, user_of};
use crate::cost::is_documented;
use crate::emulator::{TABLE, index};

type Item = std::collections::HashMap<String, AttributeValue>;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// 2024-01-01T00:00:00Z.
const FIRST_DAY_MS: i64 = 1_704_067_200_000;
/// Calls of each person in a day: 2,100 and 21,000 recordings. Set [`SCALE`] to 5 and these are
/// 10,500 and 105,000, which takes minutes to load.
const A_DAY: usize = 1;
const SCALE: &str = "LINEKEEPER_TEST_SCALE";
/// A list reads the keys of 31 days at once, so there are more in the small table, too.
const FEW_DAYS: usize = 35;
const MANY_DAYS: usize = 350;
const LIVE: usize = 20;
/// Batches that are written side by side.
const AT_ONCE: usize = 4;

/// The items of a call, and what is different in those of another one.
struct Template {
    items: Vec<Item>,
    id: RecordingId,
    at: WallTime,
}

impl Template {
    fn of(&self, id: RecordingId, at: WallTime) -> Vec<Item> {
        let day = |at: WallTime| format!("#D#{}#", &at.to_string()[..10]);
        let start = |at: WallTime| format!("{:015}", at.unix_ms() + 62_167_219_200_000);
        let texts = [
            (self.id.0.simple().to_string(), id.0.simple().to_string()),
            (self.id.to_string(), id.to_string()),
            (self.at.to_string(), at.to_string()),
            (start(self.at), start(at)),
            (day(self.at), day(at)),
        ];
        self.items.iter().map(|item| replaced_in(item, &texts)).collect()
    }
}

fn replaced_in(item: &Item, texts: &[(String, String)]) -> Item {
    item.iter().map(|(name, value)| (name.clone(), replaced(value, texts))).collect()
}

fn replaced(value: &AttributeValue, texts: &[(String, String)]) -> AttributeValue {
    match value {
        AttributeValue::S(text) => AttributeValue::S(
            texts.iter().fold(text.clone(), |text, (old, new)| text.replace(old, new)),
        ),
        AttributeValue::M(map) => AttributeValue::M(replaced_in(map, texts)),
        AttributeValue::L(list) => {
            AttributeValue::L(list.iter().map(|value| replaced(value, texts)).collect())
        }
        other => other.clone(),
    }
}

fn id(at: WallTime, person: usize, number: usize) -> RecordingId {
    let mut random = [0; 10];
    random[..4].copy_from_slice(&(person as u32).to_be_bytes());
    random[4..8].copy_from_slice(&(number as u32).to_be_bytes());
    // Which of the partitions it lies in.
    random[9] = (person % 251) as u8;
    RecordingId::at(at.unix_ms().unsigned_abs(), random)
}

fn at(day: usize, person: usize, number: usize) -> WallTime {
    let secs = 8 * 3_600 + number * 1_800 + person * 60;
    WallTime::from_unix_ms(FIRST_DAY_MS) + DAY * (day as u32) + Duration::from_secs(secs as u64)
}

/// One call of each person on the first day, told to the index.
async fn templates(index: &DynamoIndex, clients: &AwsClients, edge: &mut Edge) -> Vec<Template> {
    let mut templates = Vec::new();
    for person in 0..PEOPLE {
        let at = at(0, person, 0);
        let id = id(at, person, 0);
        record(index, edge, id, person, at).await;
        let answer = clients
            .dynamodb()
            .query()
            .table_name(TABLE)
            .key_condition_expression("#pk = :pk")
            .expression_attribute_names("#pk", names::table::PK)
            .expression_attribute_values(
                ":pk",
                AttributeValue::S(format!("C#{}#{}", tenant(), id.0.simple())),
            )
            .send()
            .await
            .unwrap();
        let mut items = answer.items.unwrap();
        // No question reads documents.
        items.retain(|item| !item[names::table::SK].as_s().unwrap().starts_with("D#"));
        templates.push(Template { items, id, at });
    }
    templates
}

async fn load(clients: &AwsClients, templates: &[Template], days: std::ops::Range<usize>) {
    let scale = std::env::var(SCALE).ok().and_then(|scale| scale.parse::<usize>().ok());
    let a_day = A_DAY * scale.unwrap_or(1);
    let mut items = Vec::new();
    for day in days {
        let date = at(day, 0, 0).to_string()[..10].to_owned();
        items.push(Item::from([
            (names::table::PK.to_owned(), AttributeValue::S(format!("DAYS#{}", tenant()))),
            (names::table::SK.to_owned(), AttributeValue::S(date)),
            ("shards".to_owned(), AttributeValue::N("1".to_owned())),
        ]));
        for (person, template) in templates.iter().enumerate() {
            for number in 0..a_day {
                let at = at(day, person, number);
                items.extend(template.of(id(at, person, number), at));
            }
        }
    }
    stream::iter(items.chunks(25))
        .map(|chunk| async move {
            let put = |item: &Item| {
                let put = PutRequest::builder().set_item(Some(item.clone())).build().unwrap();
                WriteRequest::builder().put_request(put).build()
            };
            let requests = chunk.iter().map(put).collect();
            let request = clients.dynamodb().batch_write_item().request_items(TABLE, requests);
            let answer = request.send().await?;
            assert!(answer.unprocessed_items.unwrap_or_default().is_empty());
            Ok::<_, aws_sdk_dynamodb::Error>(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<_>>()
        .await
        .unwrap();
}

/// Every kind of question, and how many rows answer it.
fn questions() -> Vec<(&'static str, SearchQuery, usize)> {
    let query = SearchQuery { limit: 20, ..SearchQuery::default() };
    let text = |q: &str| SearchQuery { q: Some(q.to_owned()), ..query.clone() };
    let first = at(0, 7, 0);
    let number = number_of(7);
    let week = SearchQuery { from: Some(at(10, 0, 0)), to: Some(at(17, 0, 0)), ..query.clone() };
    vec![
        ("the newest calls", query.clone(), 20),
        ("the calls of a week", week, 20),
        ("the calls of a user", SearchQuery { user: Some(user_of(7)), ..query.clone() }, 20),
        ("a number", text(&number), 20),
        ("the first digits of a number", text(&number[..8]), 20),
        ("the last four digits of a number", text(&number[number.len() - 4..]), 20),
        ("a name", text("novak007"), 20),
        ("a part of a name", text("vak00"), 20),
        ("the id of a call", text(&id(first, 7, 0).to_string()), 1),
        ("a Call-ID", text(&format!("{}@sbc.example", id(first, 7, 0).0.simple())), 1),
        (
            "the calls in progress",
            SearchQuery { status: Some(Status::Recording), ..query.clone() },
            LIVE,
        ),
        ("a party", SearchQuery { party: Some(user_of(7)), ..query }, 20),
    ]
}

/// What each question costs.
async fn costs(index: &DynamoIndex) -> Vec<(&'static str, Used)> {
    let mut costs = Vec::new();
    for (name, query, rows) in questions() {
        let before = index.used();
        let page = index.search(&tenant(), &query).await.unwrap();
        assert_eq!(page.items.len(), rows, "{name}");
        costs.push((name, index.used().since(before)));
    }
    let before = index.used();
    assert_eq!(index.live(&tenant()).await.unwrap().len(), LIVE);
    costs.push(("the page of live calls", index.used().since(before)));
    let before = index.used();
    let due = index.due(&tenant(), at(20, 0, 0), 100).await.unwrap();
    assert_eq!(due.len(), 100);
    costs.push(("what retention has to erase", index.used().since(before)));
    costs
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_examines_no_more_of_a_table_ten_times_as_large() {
    let test = "a_question_examines_no_more_of_a_table_ten_times_as_large";
    let Some((emulator, index)) = index(test).await else { return };
    let clients = crate::emulator::clients(&emulator.url());
    let mut edge = Edge::new();
    let templates = templates(&index, &clients, &mut edge).await;
    load(&clients, &templates, 0..FEW_DAYS).await;
    for person in 0..LIVE {
        let at = at(MANY_DAYS + 1, person, 0);
        for event in edge.starts(id(at, person, 0), person, at) {
            index.apply(&event).await.unwrap();
        }
    }
    let small = costs(&index).await;
    load(&clients, &templates, FEW_DAYS..MANY_DAYS).await;
    let large = costs(&index).await;
    assert_eq!(small, large);
    let row = |(name, used): &(&str, Used)| {
        format!("| {name} | {} | {:.1} |", used.items_examined, used.read_units)
    };
    is_documented(&small.iter().map(row).collect::<Vec<_>>());
}
