//! Promises of [`EventQueue`].

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::unused_name;
use crate::{Delivery, EventQueue, Message, Receipt};

/// How the queue under test is set up. Short times: these tests wait for them.
#[derive(Clone, Copy, Debug)]
pub struct QueueTerms {
    pub visibility: Duration,
    pub max_receives: u32,
}

/// Every promise of a queue. Nobody else may read from `queue` meanwhile.
pub async fn queue(queue: &dyn EventQueue, terms: QueueTerms) {
    what_is_sent_is_delivered_until_it_is_acknowledged(queue, terms).await;
    a_delivered_message_is_hidden_and_comes_back(queue, terms).await;
    a_receive_ends_when_nothing_comes(queue).await;
    a_receive_waits_for_the_first_message(queue).await;
    a_receive_takes_no_more_than_it_asked_for(queue).await;
    two_receivers_do_not_have_one_message(queue).await;
    a_delayed_message_comes_late_and_not_early(queue).await;
    a_message_given_back_comes_again(queue, terms).await;
    acknowledging_twice_succeeds(queue).await;
    a_dead_letter_is_not_delivered_again(queue, terms).await;
    a_message_delivered_too_often_becomes_a_dead_letter(queue, terms).await;
    the_depth_counts_what_is_in_nobodys_hands(queue).await;
}

const NO_WAIT: Duration = Duration::ZERO;

async fn send(queue: &dyn EventQueue, count: usize) -> BTreeSet<String> {
    let bodies: BTreeSet<String> = (0..count).map(|_| unused_name("m")).collect();
    let messages: Vec<Message> = bodies.iter().cloned().map(Message::now).collect();
    queue.send(&messages).await.unwrap();
    bodies
}

/// Receives until `count` messages are there; fails the test after 20 s.
async fn receive(queue: &dyn EventQueue, count: usize) -> Vec<Delivery> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut got = Vec::new();
    while got.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} messages came", got.len());
        got.extend(queue.receive(10, Duration::from_secs(1)).await.unwrap());
    }
    got
}

async fn acknowledge(queue: &dyn EventQueue, deliveries: &[Delivery]) {
    for delivery in deliveries {
        queue.acknowledge(&delivery.receipt).await.unwrap();
    }
}

fn bodies(deliveries: &[Delivery]) -> BTreeSet<String> {
    deliveries.iter().map(|delivery| delivery.body.clone()).collect()
}

async fn assert_empty(queue: &dyn EventQueue, why: &str) {
    let got = queue.receive(10, NO_WAIT).await.unwrap();
    assert_eq!(got, [], "{why}");
}

async fn what_is_sent_is_delivered_until_it_is_acknowledged(
    queue: &dyn EventQueue,
    terms: QueueTerms,
) {
    queue.send(&[]).await.unwrap();
    let sent = send(queue, 25).await;
    let got = receive(queue, 25).await;
    assert_eq!(bodies(&got), sent);
    assert!(got.iter().all(|delivery| delivery.attempt == 1), "{got:?}");
    acknowledge(queue, &got).await;
    tokio::time::sleep(terms.visibility * 3 / 2).await;
    assert_empty(queue, "all was acknowledged").await;
}

async fn a_delivered_message_is_hidden_and_comes_back(queue: &dyn EventQueue, terms: QueueTerms) {
    let sent = send(queue, 1).await;
    let first = receive(queue, 1).await;
    assert_empty(queue, "the message is in somebody's hands").await;
    tokio::time::sleep(terms.visibility).await;
    let second = receive(queue, 1).await;
    assert_eq!(bodies(&second), sent);
    assert_eq!(second[0].attempt, 2);
    assert_ne!(first[0].receipt, second[0].receipt);
    acknowledge(queue, &second).await;
}

async fn a_receive_ends_when_nothing_comes(queue: &dyn EventQueue) {
    let begun = Instant::now();
    assert_eq!(queue.receive(10, Duration::from_secs(1)).await.unwrap(), []);
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(5), "{took:?}");
    assert_eq!(queue.receive(0, NO_WAIT).await.unwrap(), []);
}

async fn a_receive_waits_for_the_first_message(queue: &dyn EventQueue) {
    let sender = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        send(queue, 1).await
    };
    let begun = Instant::now();
    let (got, sent) = tokio::join!(queue.receive(10, Duration::from_secs(10)), sender);
    let got = got.unwrap();
    assert_eq!(bodies(&got), sent);
    assert!(begun.elapsed() < Duration::from_secs(5), "it did not wait for the end");
    acknowledge(queue, &got).await;
}

async fn a_receive_takes_no_more_than_it_asked_for(queue: &dyn EventQueue) {
    send(queue, 12).await;
    let one = queue.receive(1, Duration::from_secs(1)).await.unwrap();
    assert_eq!(one.len(), 1);
    let many = queue.receive(1_000, Duration::from_secs(1)).await.unwrap();
    assert!(many.len() <= 10, "{} at once", many.len());
    acknowledge(queue, &one).await;
    acknowledge(queue, &many).await;
    let rest = receive(queue, 11 - many.len()).await;
    acknowledge(queue, &rest).await;
}

async fn two_receivers_do_not_have_one_message(queue: &dyn EventQueue) {
    let sent = send(queue, 8).await;
    let take = || queue.receive(2, Duration::from_millis(100));
    let (a, b, c, d) = tokio::join!(take(), take(), take(), take());
    let mut got: Vec<Delivery> = [a, b, c, d].into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(bodies(&got).len(), got.len(), "one message came twice");
    got.extend(receive(queue, 8 - got.len()).await);
    assert_eq!(bodies(&got), sent);
    acknowledge(queue, &got).await;
}

async fn a_delayed_message_comes_late_and_not_early(queue: &dyn EventQueue) {
    let delay = Duration::from_secs(1);
    let begun = Instant::now();
    queue.send(&[Message { body: unused_name("m"), delay }]).await.unwrap();
    assert_empty(queue, "the message is delayed").await;
    let got = receive(queue, 1).await;
    assert!(begun.elapsed() >= delay, "{:?}", begun.elapsed());
    acknowledge(queue, &got).await;
}

async fn a_message_given_back_comes_again(queue: &dyn EventQueue, terms: QueueTerms) {
    let sent = send(queue, 1).await;
    let first = receive(queue, 1).await;
    let begun = Instant::now();
    queue.retry(&first[0].receipt, NO_WAIT).await.unwrap();
    let second = receive(queue, 1).await;
    assert!(begun.elapsed() < terms.visibility, "it came at once, not after the visibility time");
    assert_eq!(bodies(&second), sent);
    assert_eq!(second[0].attempt, 2);
    queue.retry(&second[0].receipt, Duration::from_secs(1)).await.unwrap();
    assert_empty(queue, "it was given back with a delay").await;
    let third = receive(queue, 1).await;
    assert_eq!(third[0].attempt, 3);
    acknowledge(queue, &third).await;
}

async fn acknowledging_twice_succeeds(queue: &dyn EventQueue) {
    send(queue, 1).await;
    let got = receive(queue, 1).await;
    acknowledge(queue, &got).await;
    acknowledge(queue, &got).await;
    let not_ours = queue.acknowledge(&Receipt("no receipt".to_owned())).await;
    assert!(not_ours.is_err(), "a text that is no receipt was acknowledged");
}

async fn a_dead_letter_is_not_delivered_again(queue: &dyn EventQueue, terms: QueueTerms) {
    let before = queue.depth().await.unwrap().dead_letters;
    send(queue, 1).await;
    let got = receive(queue, 1).await;
    queue.dead_letter(&got[0], "not an event").await.unwrap();
    queue.dead_letter(&got[0], "not an event").await.unwrap();
    tokio::time::sleep(terms.visibility * 3 / 2).await;
    assert_empty(queue, "it is a dead letter").await;
    assert_eq!(queue.depth().await.unwrap().dead_letters, before + 1);
}

async fn a_message_delivered_too_often_becomes_a_dead_letter(
    queue: &dyn EventQueue,
    terms: QueueTerms,
) {
    let before = queue.depth().await.unwrap().dead_letters;
    send(queue, 1).await;
    for attempt in 1..=terms.max_receives {
        let got = receive(queue, 1).await;
        assert_eq!(got[0].attempt, attempt);
        queue.retry(&got[0].receipt, NO_WAIT).await.unwrap();
    }
    assert_eq!(queue.receive(10, Duration::from_secs(1)).await.unwrap(), []);
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.waiting, depth.dead_letters), (0, before + 1));
}

async fn the_depth_counts_what_is_in_nobodys_hands(queue: &dyn EventQueue) {
    let waiting = async || queue.depth().await.unwrap().waiting;
    assert_eq!(waiting().await, 0);
    let delayed = Message { body: unused_name("m"), delay: Duration::from_secs(2) };
    queue.send(&[delayed]).await.unwrap();
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.waiting, depth.oldest), (1, Some(NO_WAIT)), "a delayed message is not late");
    send(queue, 1).await;
    assert_eq!(waiting().await, 2);
    let got = receive(queue, 1).await;
    assert_eq!(waiting().await, 1);
    tokio::time::sleep(Duration::from_millis(50)).await;
    queue.retry(&got[0].receipt, NO_WAIT).await.unwrap();
    let depth = queue.depth().await.unwrap();
    assert_eq!(depth.waiting, 2);
    let age = depth.oldest;
    assert!(age.is_none_or(|age| age >= Duration::from_millis(40)), "given back, it is as old");
    for _ in 0..2 {
        let got = receive(queue, 1).await;
        acknowledge(queue, &got).await;
    }
    assert_eq!(waiting().await, 0);
}
