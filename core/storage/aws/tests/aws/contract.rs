//! The contract of the ports.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_sqs::types::QueueAttributeName;
use storage_aws::{AwsClients, DynamoIndex, S3Store, SqsQueue, create_table};
use storage_ports::contract::{self, QueueTerms};

use crate::emulator::{Emulator, MINISTACK, TABLE, clients, index};

#[tokio::test(flavor = "multi_thread")]
async fn dynamodb_is_an_index() {
    let Some((_emulator, index)) = index("dynamodb_is_an_index").await else { return };
    contract::index(&index).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_in_several_shards_is_one_list() {
    let Some((_emulator, index)) = index("a_day_in_several_shards_is_one_list").await else {
        return;
    };
    contract::index(&index.with_shards(4)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dynamodb_keeps_accounts() {
    let Some((_emulator, index)) = index("dynamodb_keeps_accounts").await else { return };
    contract::accounts(&index).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ministack_is_an_object_store_a_queue_an_index_and_keeps_accounts() {
    let test = "ministack_is_an_object_store_a_queue_an_index_and_keeps_accounts";
    let Some(emulator) = Emulator::start(MINISTACK, test) else { return };
    let clients = clients(&emulator.url());
    objects(&clients).await;
    queue(&clients).await;
    create_table(clients.dynamodb(), TABLE).await.unwrap();
    let index = DynamoIndex::new(clients.dynamodb().clone(), TABLE);
    contract::accounts(&index).await;
    contract::index(&index).await;
}

async fn objects(clients: &AwsClients) {
    let bucket = "contract";
    clients.s3().create_bucket().bucket(bucket).send().await.unwrap();
    contract::object_store(&S3Store::new(clients.s3().clone(), bucket)).await;
}

pub async fn queues(clients: &AwsClients, terms: QueueTerms) -> SqsQueue {
    let make = async |name: &str, attributes: HashMap<QueueAttributeName, String>| {
        let request = clients.sqs().create_queue().queue_name(name);
        let made = request.set_attributes(Some(attributes)).send().await.unwrap();
        made.queue_url().unwrap().to_owned()
    };
    let dead = make("dead", HashMap::from([])).await;
    let answer = clients
        .sqs()
        .get_queue_attributes()
        .queue_url(&dead)
        .attribute_names(QueueAttributeName::QueueArn)
        .send()
        .await
        .unwrap();
    let arn = &answer.attributes().unwrap()[&QueueAttributeName::QueueArn];
    let redrive = serde_json::json!({
        "deadLetterTargetArn": arn,
        "maxReceiveCount": terms.max_receives,
    });
    let visibility = terms.visibility.as_secs().to_string();
    let live = make(
        "live",
        HashMap::from([
            (QueueAttributeName::VisibilityTimeout, visibility),
            (QueueAttributeName::RedrivePolicy, redrive.to_string()),
        ]),
    )
    .await;
    SqsQueue::new(clients.sqs().clone(), live, Some(dead))
}

async fn queue(clients: &AwsClients) {
    let terms = QueueTerms { visibility: Duration::from_secs(2), max_receives: 3 };
    contract::queue(&queues(clients, terms).await, terms).await;
}
