//! Who sees whose calls.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::http::Method;
use model::access::Role;
use model::attribution::{Address, Assignment, Group, Member, Term};
use model::{GroupId, TenantId, UserId};
use serde_json::json;
use storage_ports::Account;

use crate::harness::{Api, Call, now, owned};

/// One built call for each of these users, and one of nobody.
async fn calls(api: &Api) -> [Call; 3] {
    let mut calls = Vec::new();
    for (n, aor) in [(1, "sip:ana@pbx"), (2, "sip:7002@pbx"), (3, "sip:nobody@pbx")] {
        let mut call = Call::started_of(api, n, TenantId::default(), aor).await;
        call.known_as(api, &["shared-id-1234567"]).await;
        let facts = model::call::CallFacts {
            participants: vec![model::call::Party {
                aor: Some(aor.into()),
                ..model::call::Party::default()
            }],
            call_ids: BTreeSet::from(["shared-id-1234567".to_owned()]),
            ..model::call::CallFacts::default()
        };
        let (tenant, recording) = (call.tenant.clone(), call.id);
        let flags = BTreeSet::new();
        let document = Some("<recording/>".to_owned());
        let body = model::EventBody::Metadata { tenant, recording, facts, flags, document };
        call.tell(api, body).await;
        calls.push(call);
    }
    calls.try_into().ok().expect("there are three")
}

fn ids(answer: &crate::harness::Answer) -> BTreeSet<String> {
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let body = answer.json();
    let rows = body["recordings"].as_array().unwrap();
    rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

fn set(calls: &[&Call]) -> BTreeSet<String> {
    calls.iter().map(|call| call.id.to_string()).collect()
}

#[tokio::test]
async fn an_agent_finds_and_plays_own_calls_and_no_other() {
    let api = Api::new().await;
    let [mut ana, mut desk, mut nobody] = calls(&api).await;
    for call in [&mut ana, &mut desk, &mut nobody] {
        call.ended(&api).await;
        call.built(&api, b"audio", "{}").await;
    }
    api.assign("agent", &["ana", "+38612345678"]).await;
    let bearer = api.bearer("agent").await;
    let headers = [("authorization", bearer.as_str())];
    let get = async |path: &str| api.ask(Method::GET, path, &headers).await;
    assert_eq!(ids(&get("/v1/recordings").await), set(&[&ana]));
    assert_eq!(ids(&get("/v1/recordings?q=nobody").await), set(&[]));
    let id_of_another = format!("/v1/recordings?q={}", desk.id);
    assert_eq!(ids(&get(&id_of_another).await), set(&[]));
    let page = get("/v1/recordings?limit=1").await.json();
    assert_eq!(page["next"], json!(null), "older calls of others are not told of");

    for part in ["", "/metadata", "/related", "/audio", "/peaks"] {
        let own = get(&format!("/v1/recordings/{}{part}", ana.id)).await;
        assert_eq!(own.status, 200, "{part}");
        let unknown = "01890a5d-ac96-774b-bcce-b302099a8057";
        let mut missing = get(&format!("/v1/recordings/{unknown}{part}")).await.json();
        for other in [&desk, &nobody] {
            let answer = get(&format!("/v1/recordings/{}{part}", other.id)).await;
            let message = answer.refused(404, "not_found");
            let as_missing = message.replace(&other.id.to_string(), unknown);
            assert_eq!(missing["error"]["message"].take(), json!(as_missing));
            missing["error"]["message"] = json!(as_missing);
        }
    }
    let related = get(&format!("/v1/recordings/{}/related", ana.id)).await;
    assert_eq!(ids(&related), set(&[]), "parts of the call that others had are not told of");
    let all = api.get_as("administrator", &format!("/v1/recordings/{}/related", ana.id)).await;
    assert_eq!(ids(&all), set(&[&desk, &nobody]));
}

#[tokio::test]
async fn commands_reach_own_calls_only() {
    let api = Api::new().await;
    let [ana, desk, _] = calls(&api).await;
    api.assign("agent", &["ana"]).await;
    let bearer = api.bearer("agent").await;
    let headers = [("authorization", bearer.as_str())];
    for command in ["pause", "resume"] {
        let path = format!("/v1/recordings/{}/{command}", desk.id);
        api.ask(Method::POST, &path, &headers).await.refused(404, "not_found");
        let queue = (api.state.commands)(&desk.edge).unwrap();
        assert!(queue.receive(10, Duration::ZERO).await.unwrap().is_empty(), "it was sent");
    }
    // Nobody answers for the own call; that it was asked at all is what matters here.
    let path = format!("/v1/recordings/{}/pause", ana.id);
    api.ask(Method::POST, &path, &headers).await.refused(504, "recorder_silent");
    let path = format!("/v1/recordings/{}/stop", ana.id);
    api.ask(Method::POST, &path, &headers).await.refused(403, "forbidden");
}

#[tokio::test]
async fn a_supervisor_sees_the_groups_they_manage_while_people_are_members() {
    let api = Api::new().await;
    let [ana, desk, nobody] = calls(&api).await;
    api.add_account("ana", Role::Agent, TenantId::default()).await;
    api.assign("ana", &["ana"]).await;
    let since = |term: Term| Group {
        name: GroupId::new("sales").unwrap(),
        managers: BTreeSet::from([UserId::new("supervisor").unwrap()]),
        members: vec![Member { login: UserId::new("ana").unwrap(), term }],
        addresses: vec![owned("7002")],
    };
    let sales = async |term| {
        api.state.accounts.put_group(&TenantId::default(), &since(term)).await.unwrap();
    };
    let bearer = api.bearer("supervisor").await;
    let headers = [("authorization", bearer.as_str())];
    let get = async |path: &str| ids(&api.ask(Method::GET, path, &headers).await);
    for path in ["/v1/recordings", "/v1/live"] {
        sales(Term::default()).await;
        assert_eq!(get(path).await, set(&[&ana, &desk]), "{path}");
        // Ana came after that call: what she did before is not this manager's to hear.
        sales(Term { from: Some(now()), until: None }).await;
        assert_eq!(get(path).await, set(&[&desk]), "{path}");
        let other = TenantId::new("other").unwrap();
        api.state.accounts.remove_group(&other, &GroupId::new("sales").unwrap()).await.unwrap();
        assert_eq!(get(path).await, set(&[&desk]), "{path}");
        api.state
            .accounts
            .remove_group(&TenantId::default(), &GroupId::new("sales").unwrap())
            .await
            .unwrap();
        assert_eq!(get(path).await, set(&[]), "{path}: at once");
    }
    let all = api.get_as("auditor", "/v1/recordings").await;
    assert_eq!(ids(&all), set(&[&ana, &desk, &nobody]));
}

#[tokio::test]
async fn a_member_of_another_tenant_lends_a_group_no_address() {
    let api = Api::new().await;
    let [ana, ..] = calls(&api).await;
    api.add_account("stranger", Role::Agent, TenantId::new("other").unwrap()).await;
    api.assign("stranger", &["ana"]).await;
    let group = Group {
        name: GroupId::new("sales").unwrap(),
        managers: BTreeSet::from([UserId::new("supervisor").unwrap()]),
        members: vec![Member { login: UserId::new("stranger").unwrap(), term: Term::default() }],
        addresses: Vec::new(),
    };
    api.state.accounts.put_group(&TenantId::default(), &group).await.unwrap();
    assert_eq!(ids(&api.get_as("supervisor", "/v1/recordings").await), set(&[]));
    assert_eq!(ids(&api.get_as("stranger", "/v1/recordings").await), set(&[]));
    let path = format!("/v1/recordings/{}", ana.id);
    api.get_as("stranger", &path).await.refused(404, "not_found");
}

#[tokio::test]
async fn a_disabled_user_is_out_at_once() {
    let api = Api::new().await;
    let bearer = api.bearer("auditor").await;
    let headers = [("authorization", bearer.as_str())];
    assert_eq!(api.ask(Method::GET, "/v1/recordings", &headers).await.status, 200);
    let login = UserId::new("auditor").unwrap();
    let held = api.state.accounts.account(&login).await.unwrap().unwrap();
    api.state.accounts.update_account(&Account { disabled: true, ..held }).await.unwrap();
    let answer = api.ask(Method::GET, "/v1/recordings", &headers).await;
    answer.refused(401, "unauthenticated");
    let body = json!({"login": "auditor", "password": crate::harness::PASSWORD});
    api.post("/v1/session", &[], body).await.refused(401, "wrong_credentials");
}

#[test]
fn an_assignment_is_written_as_people_read_it() {
    let text = r#"{"address":"7001","from":"2026-05-01T00:00:00.000Z"}"#;
    let assignment: Assignment = serde_json::from_str(text).unwrap();
    assert_eq!(assignment.address, Address::new("7001").unwrap());
    assert_eq!(serde_json::to_string(&assignment).unwrap(), text);
}
