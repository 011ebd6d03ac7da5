//! Any multiset of events, in any order, by many at once and through every failure, gives one index.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use model::RecordingEvent;
use model::example::{history, redelivered};
use proptest::prelude::*;
use storage_aws::DynamoIndex;
use storage_ports::faulty::{Fail, Faults, Faulty, Loss};
use storage_ports::{RecordingIndex, contract};

use crate::emulator::{TABLE, clients, index};
use crate::proxy::{Plan, Proxy};

/// How often an event is told that is not taken: what the queue does for two weeks.
const TRIES: usize = 50;
/// Functions that read the queue at once.
const AT_ONCE: usize = 8;
const CALLS: usize = 9;
/// Where every failure is waited for.
const FEW_CALLS: usize = 3;

/// As a queue does: again, until it is taken.
async fn tell(index: &dyn RecordingIndex, event: &RecordingEvent) {
    for _ in 0..TRIES {
        match index.apply(event).await {
            Ok(_) => return,
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
    }
    panic!("not taken in {TRIES} tries: {event:?}");
}

/// Several readers at once, each with what an index remembers by itself.
async fn tell_all(indexes: &[&dyn RecordingIndex], events: &[RecordingEvent]) {
    stream::iter(events.iter().enumerate())
        .for_each_concurrent(AT_ONCE, async |(number, event)| {
            tell(indexes[number % indexes.len()], event).await;
        })
        .await;
}

#[test]
fn any_order_and_any_repetition_gives_one_index() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let started = runtime.block_on(index("any_order_and_any_repetition_gives_one_index"));
    let Some((_emulator, index)) = started else { return };
    proptest!(ProptestConfig::with_cases(6), |(
        seed in any::<u64>(),
        delivery in any::<u64>(),
        calls in 1_usize..12,
    )| {
        let sent = history(seed, calls);
        let delivered = redelivered(delivery, &sent);
        runtime.block_on(contract::any_order_gives_one_index(&index, &delivered, &sent));
    });
}

#[test]
fn many_readers_at_once_give_one_index() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let started = runtime.block_on(index("many_readers_at_once_give_one_index"));
    let Some((emulator, one)) = started else { return };
    let another = DynamoIndex::new(clients(&emulator.url()).dynamodb().clone(), TABLE);
    proptest!(ProptestConfig::with_cases(6), |(seed in any::<u64>(), delivery in any::<u64>())| {
        let sent = history(seed, CALLS);
        let delivered = redelivered(delivery, &sent);
        runtime.block_on(async {
            tell_all(&[&one, &another], &delivered).await;
            contract::any_order_gives_one_index(&one, &[], &sent).await;
        });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_fail_or_whose_answers_are_lost_are_told_again() {
    let test = "calls_that_fail_or_whose_answers_are_lost_are_told_again";
    let Some((_emulator, index)) = index(test).await else { return };
    let index = Arc::new(index);
    for (seed, loss) in [(1, Loss::Request), (2, Loss::Answer)] {
        let faults = Faults::default();
        let faulty = Faulty::new(index.clone(), faults.clone());
        faults.fail(Fail::EveryKth(3), loss);
        let sent = history(seed, CALLS);
        tell_all(&[&faulty], &redelivered(seed, &sent)).await;
        contract::any_order_gives_one_index(&*index, &[], &sent).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_lost_answers_and_half_batches_lose_nothing() {
    let test = "throttling_lost_answers_and_half_batches_lose_nothing";
    let Some((emulator, index)) = index(test).await else { return };
    for (seed, plan) in [(3, Plan::Throttle), (4, Plan::LoseAnswer), (5, Plan::HalfOfBatches)] {
        let proxy = Proxy::start(emulator.port, plan).await;
        let troubled = DynamoIndex::new(clients(&proxy.url()).dynamodb().clone(), TABLE);
        let sent = history(seed, FEW_CALLS);
        tell_all(&[&troubled], &redelivered(seed, &sent)).await;
        assert!(proxy.troubles() > 10, "{plan:?} came {} times", proxy.troubles());
        contract::any_order_gives_one_index(&index, &[], &sent).await;
    }
}
