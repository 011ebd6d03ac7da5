//! The live view, commands to a recorder, and the health of it all.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use model::command::{Command, CommandBody};
use model::{EventBody, Position, TenantId};
use serde_json::json;
use storage_ports::EventQueue;

use crate::harness::{Api, Call, now};

#[tokio::test]
async fn live_changes_its_tag_with_the_calls_and_not_with_the_clock() {
    let api = Api::new().await;
    let mut first = Call::started(&api, 1, TenantId::default()).await;
    let bearer = api.bearer("supervisor").await;
    let seen = api.ask(Method::GET, "/v1/live", &[("authorization", &bearer)]).await;
    assert_eq!(seen.json()["recordings"].as_array().unwrap().len(), 1);
    let tag = seen.header("etag").to_owned();
    let again = [("authorization", bearer.as_str()), ("if-none-match", tag.as_str())];
    tokio::time::sleep(Duration::from_millis(5)).await;
    let unchanged = api.ask(Method::GET, "/v1/live", &again).await;
    assert_eq!((unchanged.status.as_u16(), unchanged.body.len()), (304, 0));

    let second = Call::started(&api, 2, TenantId::default()).await;
    let changed = api.ask(Method::GET, "/v1/live", &again).await.json();
    let ids: Vec<_> = changed["recordings"].as_array().unwrap().iter().map(|r| &r["id"]).collect();
    assert_eq!(ids, [&json!(first.id), &json!(second.id)], "oldest first");

    first.ended(&api).await;
    let after = api.ask(Method::GET, "/v1/live", &again).await.json();
    assert_eq!(after["recordings"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_command_succeeds_when_the_recorder_says_so() {
    let api = Arc::new(Api::new().await);
    let mut call = Call::started(&api, 1, TenantId::default()).await;
    let id = call.id;
    let recorder = tokio::spawn({
        let api = Arc::clone(&api);
        async move {
            let queue = api.engines.commands(&call.edge);
            for ok in [true, false] {
                let delivery = queue.receive(1, Duration::from_secs(5)).await.unwrap().remove(0);
                let command: Command = serde_json::from_str(&delivery.body).unwrap();
                let detail = format!("{:?}", command.body);
                let done = EventBody::CommandDone { command: command.id, ok, detail };
                call.tell(&api, done).await;
                queue.acknowledge(&delivery.receipt).await.unwrap();
            }
            call
        }
    });
    let bearer = api.bearer("supervisor").await;
    let headers = [("authorization", bearer.as_str())];
    let paused = api.ask(Method::POST, &format!("/v1/recordings/{id}/pause"), &headers).await;
    assert_eq!(paused.status, 200, "{:?}", paused.body);
    let told = format!("{:?}", CommandBody::Pause { recording: id });
    assert_eq!(paused.json()["detail"], told);
    let stopped = api.ask(Method::POST, &format!("/v1/recordings/{id}/stop"), &headers).await;
    assert_eq!(
        stopped.refused(409, "command_refused"),
        format!("{:?}", CommandBody::Stop { recording: id })
    );

    let mut call = recorder.await.unwrap();
    call.ended(&api).await;
    let late = api.ask(Method::POST, &format!("/v1/recordings/{id}/resume"), &headers).await;
    late.refused(409, "not_in_progress");
}

#[tokio::test]
async fn a_recorder_that_does_not_answer_is_said_to_be_silent() {
    let api = Api::new().await;
    let call = Call::started(&api, 1, TenantId::default()).await;
    let bearer = api.bearer("administrator").await;
    let path = format!("/v1/recordings/{}/pause", call.id);
    let answer = api.ask(Method::POST, &path, &[("authorization", &bearer)]).await;
    answer.refused(504, "recorder_silent");
    assert_eq!(api.engines.commands(&call.edge).depth().await.unwrap().waiting, 1);
}

#[tokio::test]
async fn health_says_whether_somebody_must_act() {
    let api = Api::new().await;
    let empty = api.get_as("auditor", "/v1/health").await.json();
    assert_eq!((&empty["ok"], empty["edges"].as_array().unwrap().len()), (&json!(false), 0));

    let mut call = Call::started(&api, 1, TenantId::default()).await;
    let live = vec![call.id];
    let stored_through = Position(0);
    let beat = EventBody::Beat { seq: 1, stored_through, live: live.clone(), dead_man: false };
    call.tell(&api, beat).await;
    let well = api.get_as("auditor", "/v1/health").await.json();
    assert_eq!(well["ok"], true, "{well}");
    assert_eq!(well["edges"][0]["calls"], 1);
    assert_eq!(well["queues"][0]["queue"], "events");
    assert!(well["now"].as_str().unwrap() <= now().to_string().as_str());

    let beat = EventBody::Beat { seq: 1, stored_through, live, dead_man: true };
    call.tell(&api, beat).await;
    let ill = api.get_as("auditor", "/v1/health").await.json();
    assert_eq!(ill["ok"], false);
    assert!(ill["summary"].as_str().unwrap().contains("edge-1 has been silent"), "{ill}");
}

#[tokio::test]
async fn only_who_may_hears_a_call_in_progress_and_only_while_it_is() {
    let api = Api::new().await;
    let mut call = Call::started(&api, 1, TenantId::default()).await;
    let path = format!("/v1/recordings/{}/audio?live=1", call.id);
    let nothing_yet = api.get_as("supervisor", &path).await;
    assert_eq!((nothing_yet.status.as_u16(), nothing_yet.body.len()), (204, 0));
    assert_eq!(nothing_yet.header("linekeeper-in-progress"), "1");
    assert_eq!(nothing_yet.header("linekeeper-next-from-ms"), "0");
    let message = api.get_as("auditor", &path).await.refused(403, "forbidden");
    assert!(message.contains("auditor"), "{message}");
    assert_eq!(api.ask(Method::GET, &path, &[]).await.status, 401);
    call.ended(&api).await;
    call.built(&api, b"audio", "{}").await;
    let message = api.get_as("supervisor", &path).await.refused(409, "not_in_progress");
    assert!(message.contains("without `live`"), "{message}");
}

#[tokio::test]
async fn a_call_that_sounds_odd_is_told_while_it_lasts() {
    let api = Api::new().await;
    let mut call = Call::started(&api, 1, TenantId::default()).await;
    let beat = EventBody::Beat {
        seq: 1,
        stored_through: Position(0),
        live: vec![call.id],
        dead_man: false,
    };
    call.tell(&api, beat).await;
    let flags = async |call: &Call| {
        let live = api.get_as("administrator", "/v1/live").await.json()["recordings"][0].clone();
        assert_eq!(live["id"], json!(call.id));
        live["flags"].clone()
    };
    let health = async || api.get_as("administrator", "/v1/health").await.json();
    for (heard, told) in [
        (vec!["no_packets", "one_way_audio"], json!({"no_packets": 1, "one_way_audio": 1})),
        (vec![], json!(null)),
        (vec!["silent_track"], json!({"silent_track": 1})),
    ] {
        let body = EventBody::Heard {
            tenant: TenantId::default(),
            recording: call.id,
            flags: heard.iter().map(|flag| (*flag).to_owned()).collect(),
        };
        call.tell(&api, body).await;
        assert_eq!(flags(&call).await, json!(heard));
        let health = health().await;
        assert_eq!(health["odd_calls"], told);
        let says_so = health["summary"].as_str().unwrap().contains("may not sound");
        assert_eq!((says_so, &health["ok"]), (!heard.is_empty(), &json!(true)), "{health}");
    }
    // Once it is built, what was heard to its end counts.
    call.ended(&api).await;
    call.built(&api, b"audio", "{}").await;
    let path = format!("/v1/recordings/{}", call.id);
    assert_eq!(api.get_as("administrator", &path).await.json()["flags"], json!([]));
}
