//! Lists, searches and single recordings, with what was received about them.

use model::TenantId;
use model::access::Role;
use serde_json::json;

use crate::harness::{Api, Call, LARGE_DOCUMENT};

#[tokio::test]
async fn a_list_pages_through_every_call_once_newest_first() {
    let api = Api::new().await;
    let mut expected = Vec::new();
    for n in 0..7 {
        expected.push(Call::started(&api, n, TenantId::default()).await.id.to_string());
    }
    expected.reverse();
    let (mut found, mut pages, mut next) = (Vec::new(), 0, Some(String::new()));
    while let Some(cursor) = next {
        let cursor = if cursor.is_empty() { cursor } else { format!("&cursor={cursor}") };
        let answer = api.get_as("auditor", &format!("/v1/recordings?limit=3{cursor}")).await.json();
        let rows = answer["recordings"].as_array().unwrap();
        found.extend(rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()));
        next = answer["next"].as_str().map(str::to_owned);
        pages += 1;
    }
    assert_eq!(found.len(), 7, "{found:?}");
    assert_eq!(found.iter().collect::<std::collections::BTreeSet<_>>().len(), 7);
    assert_eq!(pages, 3);
}

#[tokio::test]
async fn conditions_reach_the_index() {
    let api = Api::new().await;
    Call::started(&api, 1, TenantId::default()).await;
    let second = Call::started(&api, 2, TenantId::default()).await;
    for (query, count) in [
        ("q=novak", 2),
        ("q=call-2%40sbc", 1),
        ("party=agent+2", 1),
        ("party=nobody", 0),
        ("status=recording", 2),
        ("status=stored", 0),
        ("from=2099-01-01T00:00:00Z", 0),
        ("to=2020-01-01T00:00:00%2B01:00", 0),
        ("min_seconds=1", 0),
    ] {
        let answer = api.get_as("auditor", &format!("/v1/recordings?{query}")).await;
        assert_eq!(answer.status, 200, "{query}: {:?}", answer.body);
        let answer = answer.json();
        assert_eq!(answer["recordings"].as_array().unwrap().len(), count, "{query}: {answer}");
    }
    let one = api.get_as("auditor", &format!("/v1/recordings/{}", second.id)).await.json();
    assert_eq!(one["status"], "recording");
    assert_eq!(one["playable"], false);
    assert_eq!(one["participants"][0]["name"], "Eva Novák");
    assert_eq!(one["call_ids"], json!(["call-2@sbc"]));
}

#[tokio::test]
async fn a_wrong_parameter_is_named_everywhere() {
    let api = Api::new().await;
    let call = Call::started(&api, 1, TenantId::default()).await;
    let id = call.id;
    for (path, code, named) in [
        ("/v1/recordings?cursor=abc".to_owned(), "bad_cursor", "`cursor`"),
        ("/v1/recordings?limit=5000".to_owned(), "bad_parameter", "1 to 1000"),
        ("/v1/recordings?from=today".to_owned(), "bad_parameter", "`from`"),
        ("/v1/recordings?stauts=stored".to_owned(), "bad_parameter", "`stauts`"),
        (format!("/v1/recordings/{id}?x=1"), "bad_parameter", "`x`"),
        (format!("/v1/recordings/{id}/metadata?x"), "bad_parameter", "`x`"),
        (format!("/v1/recordings/{id}/audio?format=mp3"), "bad_parameter", "webm, wav"),
        ("/v1/live?since=1".to_owned(), "bad_parameter", "`since`"),
        ("/v1/health?deep".to_owned(), "bad_parameter", "`deep`"),
    ] {
        let message = api.get_as("administrator", &path).await.refused(400, code);
        assert!(message.contains(named), "{path}: {message}");
    }
}

#[tokio::test]
async fn an_unknown_recording_is_not_found_whatever_is_asked_of_it() {
    let api = Api::new().await;
    for id in ["01890a5d-ac96-774b-bcce-b302099a8057", "7", "..%2f..%2fetc"] {
        for part in ["", "/audio", "/peaks", "/metadata", "/related", "/audio?format=wav&track=0"] {
            let answer = api.get_as("administrator", &format!("/v1/recordings/{id}{part}")).await;
            answer.refused(404, "not_found");
        }
    }
}

#[tokio::test]
async fn recordings_of_one_call_are_found_from_each_other() {
    let api = Api::new().await;
    let other = TenantId::new("other").unwrap();
    let mut calls = Vec::new();
    for (n, ids) in [
        // The two dialogs of a built-in bridge; what follows a transfer; two calls of one queue.
        &["24194634", "24194635"][..],
        &["24194634"],
        &["24194635", "20240514-group@core1"],
        &["support queue"],
        &["support queue"],
        // Part of an id, and another tenant's.
        &["2419463"],
        &["24194634"],
    ]
    .into_iter()
    .enumerate()
    {
        let tenant = if n == 6 { other.clone() } else { TenantId::default() };
        let mut call = Call::started(&api, n as u8, tenant).await;
        call.known_as(&api, ids).await;
        calls.push(call.id.to_string());
    }
    for (n, expected) in [(0, &[1, 2][..]), (1, &[0]), (2, &[0]), (3, &[]), (5, &[])] {
        let path = format!("/v1/recordings/{}/related", calls[n]);
        let answer = api.get_as("auditor", &path).await.json();
        let rows = answer["recordings"].as_array().unwrap();
        let found: Vec<_> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
        let expected: Vec<_> = expected.iter().map(|n: &usize| calls[*n].as_str()).collect();
        assert_eq!(found, expected, "{n}: {answer}");
    }
    let path = format!("/v1/recordings/{}/related", calls[6]);
    api.get_as("auditor", &path).await.refused(404, "not_found");
}

#[tokio::test]
async fn metadata_is_given_as_it_was_received() {
    let api = Api::new().await;
    let call = Call::started(&api, 1, TenantId::default()).await;
    let answer = api.get_as("auditor", &format!("/v1/recordings/{}/metadata", call.id)).await;
    let answer = answer.json();
    assert_eq!(answer["id"], call.id.to_string());
    let documents = answer["documents"].as_array().unwrap();
    assert_eq!(documents.len(), 1);
    assert_eq!(documents[0]["text"], "<recording xmlns='urn:ietf:params:xml:ns:recording:1'/>");
    assert_eq!(documents[0]["content_type"], "application/rs-metadata+xml");
    assert!(documents[0]["received_at"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn a_document_too_large_for_the_index_is_read_from_the_packets() {
    let api = Api::new().await;
    let mut call = Call::started(&api, 1, TenantId::default()).await;
    call.large_document(&api).await;
    let path = format!("/v1/recordings/{}/metadata", call.id);
    let early = api.get_as("auditor", &path).await.json();
    assert_eq!(early["documents"].as_array().unwrap().len(), 2);
    assert_eq!(early["documents"][1].get("text"), None);
    call.ended(&api).await;
    call.built(&api, b"", "{}").await;
    let late = api.get_as("auditor", &path).await.json();
    assert_eq!(late["documents"][0]["text"], LARGE_DOCUMENT, "{late}");
    assert_eq!(late["documents"][0]["content_type"], "application/rs-metadata");
}

#[tokio::test]
async fn a_call_whose_start_is_not_known_yet_is_not_shown() {
    let api = Api::new().await;
    let other = TenantId::new("other").unwrap();
    api.add_account("stranger", Role::Administrator, other.clone()).await;
    // Its `ended` has overtaken its `started`.
    let mut call = Call::started(&api, 1, TenantId::default()).await;
    call.tenant = other;
    call.ended(&api).await;
    let path = format!("/v1/recordings/{}", call.id);
    api.get_as("stranger", &path).await.refused(404, "not_found");
}

#[tokio::test]
async fn which_keys_were_pressed_is_for_who_may_know() {
    let api = Api::new().await;
    let mut call = Call::started(&api, 1, TenantId::default()).await;
    call.ended(&api).await;
    call.built(&api, b"audio", "{}").await;
    let one = format!("/v1/recordings/{}", call.id);
    for (who, digit) in [("administrator", json!("7")), ("supervisor", json!(null))] {
        let mark = api.get_as(who, &one).await.json()["marks"][0].clone();
        assert_eq!((&mark["kind"], &mark["from_ms"]), (&json!("dtmf"), &json!(1_000)), "{mark}");
        assert_eq!(mark["detail"], digit, "{who}");
        let list = api.get_as(who, "/v1/recordings").await.json();
        assert_eq!(list["recordings"][0]["marks"][0]["detail"], digit, "{who}");
    }
}
