//! What S3 and SQS promise beyond the ports: versions, locks, encryption, batches taken in part.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use bytes::Bytes;
use model::object_key::ObjectKey;
use model::{RecordingId, TenantId, WallTime};
use storage_aws::{AwsClients, LockMode, S3Store};
use storage_ports::contract::{self, QueueTerms};
use storage_ports::{EventQueue, Message, ObjectStore, PutMode, StorageError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::contract::queues;
use crate::emulator::{Emulator, MINISTACK, MOTO, clients};
use crate::proxy::{Plan, Proxy};

const BUCKET: &str = "media";

fn key() -> ObjectKey {
    ObjectKey::packets(&TenantId::default(), RecordingId::at(1, [7; 10]))
}

async fn versions(clients: &AwsClients) -> usize {
    let listed = clients.s3().list_object_versions().bucket(BUCKET).send().await.unwrap();
    listed.versions().len() + listed.delete_markers().len()
}

async fn put(store: &S3Store, body: &'static str) {
    store.put(&key(), Bytes::from_static(body.as_bytes()), PutMode::Replace).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_is_erased_and_a_locked_one_is_not() {
    let test = "every_version_is_erased_and_a_locked_one_is_not";
    let Some(emulator) = Emulator::start(MOTO, test) else { return };
    let clients = clients(&emulator.url());
    let s3 = clients.s3();
    s3.create_bucket().bucket(BUCKET).object_lock_enabled_for_bucket(true).send().await.unwrap();
    let on = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    s3.put_bucket_versioning().bucket(BUCKET).versioning_configuration(on).send().await.unwrap();
    let store = S3Store::new(s3.clone(), BUCKET);

    put(&store, "first").await;
    put(&store, "second").await;
    s3.delete_object().bucket(BUCKET).key(key().as_str()).send().await.unwrap();
    put(&store, "third").await;
    assert_eq!(versions(&clients).await, 4, "three versions and a mark of a deletion");
    store.delete(&key()).await.unwrap();
    assert_eq!(versions(&clients).await, 0);

    put(&store, "held").await;
    store.set_legal_hold(&key(), true).await.unwrap();
    let refused = store.delete(&key()).await;
    assert!(matches!(refused, Err(StorageError::Refused { .. })), "{refused:?}");
    assert_eq!(store.get(&key()).await.unwrap(), "held");
    store.set_legal_hold(&key(), false).await.unwrap();
    store.delete(&key()).await.unwrap();
    assert_eq!(versions(&clients).await, 0);

    put(&store, "locked").await;
    let tomorrow = WallTime::from_unix_ms(now_ms() + 24 * 60 * 60 * 1_000);
    store.lock_until(&key(), tomorrow, LockMode::Compliance).await.unwrap();
    let refused = store.delete(&key()).await;
    assert!(matches!(refused, Err(StorageError::Refused { .. })), "{refused:?}");
    assert_eq!(store.get(&key()).await.unwrap(), "locked");
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

/// What an HTTP client without credentials is answered.
async fn fetched(url: &str) -> String {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).await.unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_url_names_one_version_for_a_minute_at_most() {
    let test = "a_signed_url_names_one_version_for_a_minute_at_most";
    let Some(emulator) = Emulator::start(MOTO, test) else { return };
    let clients = clients(&emulator.url());
    let s3 = clients.s3();
    s3.create_bucket().bucket(BUCKET).object_lock_enabled_for_bucket(true).send().await.unwrap();
    let kms_key = "arn:aws:kms:us-east-1:000000000000:key/k";
    let store = S3Store::new(s3.clone(), BUCKET).with_kms_key(kms_key.to_owned());
    put(&store, "as it was").await;
    let hour = Duration::from_secs(3_600);
    let url = store.signed_url(&key(), "audio/webm", hour).await.unwrap().0;
    assert!(url.contains("X-Amz-Expires=60&"), "{url}");
    assert!(url.contains("versionId="), "{url}");
    put(&store, "as it is").await;
    let answer = fetched(&url).await;
    assert!(answer.ends_with("as it was"), "{answer}");
    assert!(answer.to_lowercase().contains("content-type: audio/webm"), "{answer}");

    let head = s3.head_object().bucket(BUCKET).key(key().as_str()).send().await.unwrap();
    assert_eq!(head.ssekms_key_id(), Some(kms_key));
    assert_eq!(head.bucket_key_enabled(), Some(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn throttled_services_keep_their_contracts_and_half_a_batch_is_sent_again() {
    let test = "throttled_services_keep_their_contracts_and_half_a_batch_is_sent_again";
    let Some(emulator) = Emulator::start(MINISTACK, test) else { return };
    let throttled = Proxy::start(emulator.port, Plan::Throttle).await;
    let through = clients(&throttled.url());
    through.s3().create_bucket().bucket(BUCKET).send().await.unwrap();
    contract::object_store(&S3Store::new(through.s3().clone(), BUCKET)).await;
    assert!(throttled.troubles() > 10);

    let halving = Proxy::start(emulator.port, Plan::HalfOfBatches).await;
    let terms = QueueTerms { visibility: Duration::from_secs(30), max_receives: 3 };
    let queue = queues(&clients(&halving.url()), terms).await;
    let bodies: BTreeSet<String> = (0..25).map(|number| format!("\"{number}\"")).collect();
    let messages: Vec<Message> = bodies.iter().map(|body| Message::now(body.clone())).collect();
    queue.send(&messages).await.unwrap();
    assert!(halving.troubles() > 2);
    let mut received = Vec::new();
    while received.len() < bodies.len() {
        let deliveries = queue.receive(10, Duration::from_secs(1)).await.unwrap();
        assert!(!deliveries.is_empty(), "only {} of {}", received.len(), bodies.len());
        received.extend(deliveries.into_iter().map(|delivery| delivery.body));
    }
    assert!(queue.receive(10, Duration::ZERO).await.unwrap().is_empty(), "nothing comes twice");
    assert_eq!(received.into_iter().collect::<BTreeSet<_>>(), bodies);
}
