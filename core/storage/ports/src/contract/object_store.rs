//! Promises of [`ObjectStore`].

use std::time::Duration;

use bytes::Bytes;
use model::object_key::ObjectKey;

use super::unused_name;
use crate::{ObjectStore, PutMode, PutOutcome, StorageError};

/// Every promise of an object store.
pub async fn object_store(store: &dyn ObjectStore) {
    put_then_get_returns_the_same_bytes(store).await;
    an_empty_object_is_an_object(store).await;
    a_file_is_put_as_its_bytes_are(store).await;
    replace_replaces(store).await;
    if_absent_keeps_what_is_there(store).await;
    of_many_writers_at_once_one_stores(store).await;
    a_missing_object_is_not_found(store).await;
    a_range_is_cut_at_the_end(store).await;
    a_list_is_complete_and_in_order_of_key(store).await;
    a_prefix_need_not_end_at_a_slash(store).await;
    a_list_sees_what_was_put_and_deleted_before_it(store).await;
    deleting_twice_succeeds(store).await;
    a_signed_url_names_one_object(store).await;
}

struct Folder(String);

impl Folder {
    fn new() -> Self {
        Self(unused_name("contract/"))
    }

    fn key(&self, name: &str) -> ObjectKey {
        ObjectKey::parse(&format!("{}/{name}", self.0)).expect("a key of letters and slashes")
    }
}

async fn put(store: &dyn ObjectStore, key: &ObjectKey, body: &'static [u8]) {
    let outcome = store.put(key, Bytes::from_static(body), PutMode::IfAbsent).await.unwrap();
    assert_eq!(outcome, PutOutcome::Stored, "{key} is new");
}

async fn keys(store: &dyn ObjectStore, prefix: &str) -> Vec<String> {
    let objects = store.list(prefix).await.unwrap();
    objects.into_iter().map(|object| object.key.to_string()).collect()
}

async fn put_then_get_returns_the_same_bytes(store: &dyn ObjectStore) {
    let key = Folder::new().key("a");
    let body: Bytes = (0..=255_u8).cycle().take(300_001).collect();
    store.put(&key, body.clone(), PutMode::IfAbsent).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap(), body);
    assert_eq!(store.size(&key).await.unwrap(), 300_001);
}

async fn a_file_is_put_as_its_bytes_are(store: &dyn ObjectStore) {
    let key = Folder::new().key("a");
    let file = std::env::temp_dir().join(unused_name("contract-file-").replace('/', "-"));
    let body: Vec<u8> = (0..=255_u8).cycle().take(1_000_003).collect();
    std::fs::write(&file, &body).unwrap();
    let outcome = store.put_file(&key, &file, PutMode::IfAbsent).await;
    let again = store.put_file(&key, &file, PutMode::IfAbsent).await;
    std::fs::write(&file, b"other").unwrap();
    let replaced_by = store.put_file(&key, &file, PutMode::IfAbsent).await;
    assert_eq!(outcome.unwrap(), PutOutcome::Stored);
    assert_eq!(again.unwrap(), PutOutcome::AlreadyThere);
    assert_eq!(replaced_by.unwrap(), PutOutcome::AlreadyThere);
    assert_eq!(store.get(&key).await.unwrap(), body);
    let outcome = store.put_file(&key, &file, PutMode::Replace).await;
    std::fs::remove_file(&file).unwrap();
    assert_eq!(outcome.unwrap(), PutOutcome::Stored);
    assert_eq!(store.get(&key).await.unwrap(), b"other"[..]);
    let missing = store.put_file(&key, &file, PutMode::Replace).await;
    assert!(missing.is_err(), "the file is gone");
}

async fn an_empty_object_is_an_object(store: &dyn ObjectStore) {
    let key = Folder::new().key("a");
    put(store, &key, b"").await;
    assert_eq!(store.get(&key).await.unwrap(), Bytes::new());
    assert_eq!(store.get_range(&key, 0..10).await.unwrap(), Bytes::new());
    assert_eq!(store.size(&key).await.unwrap(), 0);
}

async fn replace_replaces(store: &dyn ObjectStore) {
    let key = Folder::new().key("a");
    for body in [&b"longer than the next"[..], b"short"] {
        let outcome = store.put(&key, Bytes::from_static(body), PutMode::Replace).await.unwrap();
        assert_eq!(outcome, PutOutcome::Stored);
        assert_eq!(store.get(&key).await.unwrap(), body);
    }
}

async fn if_absent_keeps_what_is_there(store: &dyn ObjectStore) {
    let key = Folder::new().key("a");
    put(store, &key, b"first").await;
    let second = store.put(&key, Bytes::from_static(b"second"), PutMode::IfAbsent).await.unwrap();
    assert_eq!(second, PutOutcome::AlreadyThere);
    assert_eq!(store.get(&key).await.unwrap(), &b"first"[..]);
}

async fn of_many_writers_at_once_one_stores(store: &dyn ObjectStore) {
    let key = Folder::new().key("a");
    let write = |body: &'static [u8]| {
        let key = key.clone();
        async move { store.put(&key, Bytes::from_static(body), PutMode::IfAbsent).await.unwrap() }
    };
    let (a, b, c, d) = tokio::join!(write(b"a"), write(b"b"), write(b"c"), write(b"d"));
    let outcomes = [a, b, c, d];
    let winners: Vec<usize> =
        (0..4).filter(|index| outcomes[*index] == PutOutcome::Stored).collect();
    assert_eq!(winners.len(), 1, "{outcomes:?}");
    assert_eq!(store.get(&key).await.unwrap(), [b'a' + winners[0] as u8].as_slice());
}

async fn a_missing_object_is_not_found(store: &dyn ObjectStore) {
    let folder = Folder::new();
    put(store, &folder.key("dir/a"), b"x").await;
    for name in ["missing", "dir", "dir/a/b"] {
        let key = folder.key(name);
        let answers = [
            store.get(&key).await.map(drop),
            store.get_range(&key, 0..1).await.map(drop),
            store.size(&key).await.map(drop),
        ];
        for answer in answers {
            assert!(matches!(answer, Err(StorageError::NotFound { .. })), "{key}: {answer:?}");
        }
    }
}

async fn a_range_is_cut_at_the_end(store: &dyn ObjectStore) {
    let key = Folder::new().key("a");
    put(store, &key, b"0123456789").await;
    let cases = [
        (0..3, "012"),
        (3..7, "3456"),
        (7..100, "789"),
        (0..u64::MAX, "0123456789"),
        (9..10, "9"),
        (10..20, ""),
        (1_000..2_000, ""),
        (4..4, ""),
    ];
    for (range, expected) in cases {
        let got = store.get_range(&key, range.clone()).await.unwrap();
        assert_eq!(got, expected.as_bytes(), "{range:?}");
    }
}

async fn a_list_is_complete_and_in_order_of_key(store: &dyn ObjectStore) {
    let folder = Folder::new();
    // S3 gives pages of 1,000; a directory gives its own order; `-` and `.` sort before `/`.
    let mut names: Vec<String> = (0..1_005).map(|number| format!("many/{number:05}")).collect();
    names.extend(["b/c", "b-c", "b.c", "b0", "B"].map(str::to_owned));
    names.sort();
    for batch in names.iter().rev().collect::<Vec<_>>().chunks(3) {
        let write = |name: Option<&&String>| {
            let key = name.map(|name| folder.key(name));
            async move {
                if let Some(key) = key {
                    put(store, &key, b"xy").await;
                }
            }
        };
        tokio::join!(write(batch.first()), write(batch.get(1)), write(batch.get(2)));
    }
    let expected: Vec<String> = names.iter().map(|name| folder.key(name).to_string()).collect();
    assert_eq!(keys(store, &format!("{}/", folder.0)).await, expected);
    let objects = store.list(&format!("{}/b", folder.0)).await.unwrap();
    assert!(objects.iter().all(|object| object.bytes == 2), "{objects:?}");
}

async fn a_prefix_need_not_end_at_a_slash(store: &dyn ObjectStore) {
    let folder = Folder::new();
    for name in ["ab/1", "ab/2", "abc", "b"] {
        put(store, &folder.key(name), b"x").await;
    }
    let list = |prefix: &'static str| {
        let prefix = format!("{}/{prefix}", folder.0);
        async move { keys(store, &prefix).await.len() }
    };
    assert_eq!(list("a").await, 3);
    assert_eq!(list("ab").await, 3);
    assert_eq!(list("ab/").await, 2);
    assert_eq!(list("ab/1").await, 1);
    assert_eq!(list("ab/1/").await, 0);
    assert_eq!(list("nothing").await, 0);
}

async fn a_list_sees_what_was_put_and_deleted_before_it(store: &dyn ObjectStore) {
    let folder = Folder::new();
    let (a, b) = (folder.key("a"), folder.key("b"));
    put(store, &a, b"x").await;
    put(store, &b, b"x").await;
    assert_eq!(keys(store, &folder.0).await, [a.to_string(), b.to_string()]);
    store.delete(&a).await.unwrap();
    assert_eq!(keys(store, &folder.0).await, [b.to_string()]);
}

async fn deleting_twice_succeeds(store: &dyn ObjectStore) {
    let folder = Folder::new();
    let key = folder.key("a");
    put(store, &key, b"x").await;
    for _ in 0..2 {
        store.delete(&key).await.unwrap();
        let gone = store.get(&key).await;
        assert!(matches!(gone, Err(StorageError::NotFound { .. })), "{gone:?}");
    }
    put(store, &key, b"again").await;
}

async fn a_signed_url_names_one_object(store: &dyn ObjectStore) {
    let folder = Folder::new();
    let mut urls = Vec::new();
    for name in ["a", "b"] {
        let key = folder.key(name);
        put(store, &key, b"x").await;
        let url = store.signed_url(&key, "audio/webm", Duration::from_secs(60)).await.unwrap();
        assert!(url.0.contains(key.as_str()), "the URL of {key} does not name it");
        assert!(!format!("{url:?}").contains(&folder.0), "a signed URL must not print");
        urls.push(url);
    }
    assert_ne!(urls[0], urls[1]);
}
