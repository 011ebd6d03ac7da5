//! Requests to the one table, in words of ours: whole batches, whole ranges, plain conditions.
//!
//! What DynamoDB leaves undone of a batch (throttling) is asked for again, with back-off; the SDK
//! repeats whole requests only. Reads of the table are strongly consistent; an index cannot be.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeValue, ConsumedCapacity, DeleteRequest, KeysAndAttributes, PutRequest,
    ReturnConsumedCapacity, WriteRequest,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use storage_ports::StorageError;

use crate::error::{code, storage_error};
use crate::names::table;

pub const WHAT: &str = "index";

/// What one request may read and write.
const MAX_GETS: usize = 100;
const MAX_WRITES: usize = 25;
/// How often what is left of a batch is tried again.
const ATTEMPTS: u32 = 8;
const FIRST_BACKOFF: Duration = Duration::from_millis(20);
const MAX_BACKOFF: Duration = Duration::from_secs(1);

pub type Item = HashMap<String, AttributeValue>;

#[derive(Clone, Debug)]
pub struct Table {
    pub client: Client,
    pub name: Arc<str>,
    usage: Arc<Usage>,
}

/// What the requests so far have cost, as DynamoDB counts it.
#[derive(Debug, Default)]
pub struct Usage {
    items_examined: AtomicU64,
    read_milli_units: AtomicU64,
    write_milli_units: AtomicU64,
}

/// A reading of [`Usage`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Used {
    /// Items that were looked at, whether they were wanted or not.
    pub items_examined: u64,
    pub read_units: f64,
    pub write_units: f64,
}

impl Used {
    /// What was used since an earlier reading.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            items_examined: self.items_examined - earlier.items_examined,
            read_units: self.read_units - earlier.read_units,
            write_units: self.write_units - earlier.write_units,
        }
    }
}

/// The table itself, or one of its indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Index {
    Table,
    List,
    Lookup,
    Work,
}

impl Index {
    /// Name, partition key, sort key.
    fn names(self) -> (Option<&'static str>, &'static str, &'static str) {
        match self {
            Self::Table => (None, table::PK, table::SK),
            Self::List => (Some(table::LIST_INDEX), table::LIST_PK, table::LIST_SK),
            Self::Lookup => (Some(table::LOOKUP_INDEX), table::LOOKUP_PK, table::LOOKUP_SK),
            Self::Work => (Some(table::WORK_INDEX), table::WORK_PK, table::WORK_SK),
        }
    }

    pub fn sort_key(self) -> &'static str {
        self.names().2
    }
}

/// A run of one partition, both ends included.
#[derive(Clone, Debug)]
pub struct Run {
    pub index: Index,
    pub pk: String,
    pub from: String,
    pub to: String,
    pub descending: bool,
}

impl Run {
    /// All whose sort key begins with `prefix`.
    pub fn prefix(index: Index, pk: String, prefix: &str) -> Self {
        // No key of ours has a character beyond this one.
        let to = format!("{prefix}{}", char::MAX);
        let from = if prefix.is_empty() { " ".to_owned() } else { prefix.to_owned() };
        Self { index, pk, from, to, descending: false }
    }

    pub fn whole(index: Index, pk: String) -> Self {
        Self::prefix(index, pk, "")
    }
}

/// Some items, and where the next ones begin.
pub struct Items {
    pub items: Vec<Item>,
    pub next: Option<Item>,
}

impl Table {
    pub fn new(client: Client, name: String) -> Self {
        Self { client, name: name.into(), usage: Arc::default() }
    }

    pub fn used(&self) -> Used {
        let units = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64 / 1_000.0;
        Used {
            items_examined: self.usage.items_examined.load(Ordering::Relaxed),
            read_units: units(&self.usage.read_milli_units),
            write_units: units(&self.usage.write_milli_units),
        }
    }

    fn read<'a>(&self, items: usize, consumed: impl IntoIterator<Item = &'a ConsumedCapacity>) {
        self.usage.items_examined.fetch_add(items as u64, Ordering::Relaxed);
        add_units(&self.usage.read_milli_units, consumed);
    }

    pub fn wrote<'a>(&self, consumed: impl IntoIterator<Item = &'a ConsumedCapacity>) {
        add_units(&self.usage.write_milli_units, consumed);
    }

    pub async fn get(&self, pk: &str, sk: &str) -> Result<Option<Item>, StorageError> {
        let answer = self
            .client
            .get_item()
            .table_name(&*self.name)
            .set_key(Some(key_of(pk, sk)))
            .consistent_read(true)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| storage_error(WHAT, error))?;
        self.read(usize::from(answer.item.is_some()), &answer.consumed_capacity);
        Ok(answer.item)
    }

    /// Those that exist, in no order.
    pub async fn get_many(&self, keys: Vec<(String, String)>) -> Result<Vec<Item>, StorageError> {
        let mut found = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(MAX_GETS) {
            let mut left: Vec<Item> = chunk.iter().map(|(pk, sk)| key_of(pk, sk)).collect();
            let mut backoff = Backoff::default();
            while !left.is_empty() {
                let wanted = KeysAndAttributes::builder()
                    .set_keys(Some(left))
                    .consistent_read(true)
                    .build()
                    .map_err(|cause| StorageError::refused(WHAT, cause))?;
                let answer = self
                    .client
                    .batch_get_item()
                    .request_items(&*self.name, wanted)
                    .return_consumed_capacity(ReturnConsumedCapacity::Total)
                    .send()
                    .await
                    .map_err(|error| storage_error(WHAT, error))?;
                let items = answer
                    .responses
                    .and_then(|mut tables| tables.remove(&*self.name))
                    .unwrap_or_default();
                self.read(items.len(), answer.consumed_capacity.iter().flatten());
                found.extend(items);
                let unread = answer.unprocessed_keys.and_then(|mut all| all.remove(&*self.name));
                left = unread.map(|unread| unread.keys).unwrap_or_default();
                if !left.is_empty() {
                    backoff.wait("items of a batch not read").await?;
                }
            }
        }
        Ok(found)
    }

    /// At most `limit` items of a run, from where `after` says.
    pub async fn query(
        &self,
        run: &Run,
        limit: Option<usize>,
        after: Option<Item>,
    ) -> Result<Items, StorageError> {
        let (index, pk, sk) = run.index.names();
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let answer = self
            .client
            .query()
            .table_name(&*self.name)
            .set_index_name(index.map(str::to_owned))
            .consistent_read(index.is_none())
            .key_condition_expression("#pk = :pk AND #sk BETWEEN :from AND :to")
            .expression_attribute_names("#pk", pk)
            .expression_attribute_names("#sk", sk)
            .expression_attribute_values(":pk", text(&run.pk))
            .expression_attribute_values(":from", text(&run.from))
            .expression_attribute_values(":to", text(&run.to))
            .scan_index_forward(!run.descending)
            .set_limit(limit.map(|limit| i32::try_from(limit).unwrap_or(i32::MAX)))
            .set_exclusive_start_key(after)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| storage_error(WHAT, error))?;
        self.read(
            usize::try_from(answer.scanned_count).unwrap_or_default(),
            &answer.consumed_capacity,
        );
        Ok(Items { items: answer.items.unwrap_or_default(), next: answer.last_evaluated_key })
    }

    /// The whole run, however long it is.
    pub async fn query_all(&self, run: &Run) -> Result<Vec<Item>, StorageError> {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = self.query(run, None, after).await?;
            found.extend(page.items);
            after = page.next;
            if after.is_none() {
                return Ok(found);
            }
        }
    }

    /// Writes an item if `condition` holds for what is there. Returns whether it did.
    pub async fn put(
        &self,
        item: Item,
        condition: Option<Condition>,
    ) -> Result<bool, StorageError> {
        let mut request = self
            .client
            .put_item()
            .table_name(&*self.name)
            .set_item(Some(item))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        if let Some(condition) = condition {
            request = request
                .condition_expression(condition.expression)
                .set_expression_attribute_names(some(condition.names))
                .set_expression_attribute_values(some(condition.values));
        }
        match request.send().await {
            Ok(answer) => {
                self.wrote(&answer.consumed_capacity);
                Ok(true)
            }
            Err(error) if is_unmet(code(&error).as_deref()) => Ok(false),
            Err(error) => Err(storage_error(WHAT, error)),
        }
    }

    pub async fn delete(&self, pk: &str, sk: &str) -> Result<(), StorageError> {
        let answer = self
            .client
            .delete_item()
            .table_name(&*self.name)
            .set_key(Some(key_of(pk, sk)))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| storage_error(WHAT, error))?;
        self.wrote(&answer.consumed_capacity);
        Ok(())
    }

    /// Writes all items, each over whatever is there. No two may have the same key.
    pub async fn put_many(&self, items: Vec<Item>) -> Result<(), StorageError> {
        let request = |item| PutRequest::builder().set_item(Some(item)).build();
        let requests: Result<Vec<_>, _> = items.into_iter().map(request).collect();
        let requests = requests.map_err(|cause| StorageError::refused(WHAT, cause))?;
        let put = |request| WriteRequest::builder().put_request(request).build();
        self.write_many(requests.into_iter().map(put).collect()).await
    }

    pub async fn delete_many(&self, keys: Vec<(String, String)>) -> Result<(), StorageError> {
        let request = |(pk, sk): (String, String)| {
            DeleteRequest::builder().set_key(Some(key_of(&pk, &sk))).build()
        };
        let requests: Result<Vec<_>, _> = keys.into_iter().map(request).collect();
        let requests = requests.map_err(|cause| StorageError::refused(WHAT, cause))?;
        let delete = |request| WriteRequest::builder().delete_request(request).build();
        self.write_many(requests.into_iter().map(delete).collect()).await
    }

    async fn write_many(&self, requests: Vec<WriteRequest>) -> Result<(), StorageError> {
        for chunk in requests.chunks(MAX_WRITES) {
            let mut left = chunk.to_vec();
            let mut backoff = Backoff::default();
            while !left.is_empty() {
                let answer = self
                    .client
                    .batch_write_item()
                    .request_items(&*self.name, left)
                    .return_consumed_capacity(ReturnConsumedCapacity::Total)
                    .send()
                    .await
                    .map_err(|error| storage_error(WHAT, error))?;
                self.wrote(answer.consumed_capacity.iter().flatten());
                let unwritten = answer.unprocessed_items;
                left = unwritten.and_then(|mut all| all.remove(&*self.name)).unwrap_or_default();
                if !left.is_empty() {
                    backoff.wait("items of a batch not written").await?;
                }
            }
        }
        Ok(())
    }
}

/// What has to hold for a write.
#[derive(Clone, Debug)]
pub struct Condition {
    pub expression: String,
    pub names: HashMap<String, String>,
    pub values: HashMap<String, AttributeValue>,
}

impl Condition {
    /// Nothing is there.
    pub fn absent() -> Self {
        Self {
            expression: "attribute_not_exists(#pk)".to_owned(),
            names: HashMap::from([("#pk".to_owned(), table::PK.to_owned())]),
            values: HashMap::new(),
        }
    }

    pub fn present() -> Self {
        Self { expression: "attribute_exists(#pk)".to_owned(), ..Self::absent() }
    }

    /// What is there has this value.
    pub fn equals(attribute: &str, value: AttributeValue) -> Self {
        Self {
            expression: "#a = :a".to_owned(),
            names: HashMap::from([("#a".to_owned(), attribute.to_owned())]),
            values: HashMap::from([(":a".to_owned(), value)]),
        }
    }
}

/// DynamoDB refuses an empty map where it takes none.
fn some<V>(map: HashMap<String, V>) -> Option<HashMap<String, V>> {
    Some(map).filter(|map| !map.is_empty())
}

pub fn is_unmet(code: Option<&str>) -> bool {
    code == Some("ConditionalCheckFailedException")
}

pub fn key_of(pk: &str, sk: &str) -> Item {
    HashMap::from([
        (table::PK.to_owned(), AttributeValue::S(pk.to_owned())),
        (table::SK.to_owned(), AttributeValue::S(sk.to_owned())),
    ])
}

/// A text attribute.
pub fn text<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

/// A typed item as the table holds it.
pub fn to_item(typed: &impl Serialize) -> Result<Item, StorageError> {
    serde_dynamo::to_item(typed).map_err(|cause| StorageError::refused(WHAT, cause))
}

/// An item as its type. What cannot be read was not written by this version or an earlier one.
pub fn from_item<T: DeserializeOwned>(item: Item) -> Result<T, StorageError> {
    serde_dynamo::from_item(item).map_err(|cause| StorageError::refused(WHAT, cause))
}

fn add_units<'a>(total: &AtomicU64, consumed: impl IntoIterator<Item = &'a ConsumedCapacity>) {
    let units: f64 = consumed.into_iter().filter_map(|used| used.capacity_units).sum();
    total.fetch_add((units * 1_000.0).round() as u64, Ordering::Relaxed);
}

/// Waits longer each time, and by chance, so that those who collided do not collide again.
#[derive(Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    pub async fn wait(&mut self, why: &'static str) -> Result<(), StorageError> {
        self.attempts += 1;
        if self.attempts >= ATTEMPTS {
            return Err(StorageError::unavailable(WHAT, why));
        }
        let longest = (FIRST_BACKOFF * 2_u32.pow(self.attempts)).min(MAX_BACKOFF);
        // Every state hashes nothing to another number: chance without a dependency.
        let chance = RandomState::new().hash_one(()) as f64 / u64::MAX as f64;
        tokio::time::sleep(longest.mul_f64(chance)).await;
        Ok(())
    }
}
