//! Accounts and groups, managed over the API.

use axum::body::Body;
use axum::http::Method;
use model::TenantId;
use model::access::Role;
use serde_json::{Value, json};

use crate::harness::{Answer, Api, Call, request};

/// Asks as an administrator.
async fn ask(api: &Api, method: Method, path: &str, body: Value) -> Answer {
    let bearer = api.bearer("administrator").await;
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    api.send(request(method, path, &headers, Body::from(body.to_string()))).await
}

async fn import(api: &Api, query: &str, csv: &str) -> Answer {
    let bearer = api.bearer("administrator").await;
    let headers = [("authorization", bearer.as_str()), ("content-type", "text/csv")];
    let path = format!("/v1/users/import{query}");
    api.send(request(Method::POST, &path, &headers, Body::from(csv.to_owned()))).await
}

#[tokio::test]
async fn a_new_user_signs_in_with_the_password_that_is_shown_once() {
    let api = Api::new().await;
    let ana = json!({"login": "ana", "role": "agent", "addresses": [{"address": "7001"}]});
    let answer = ask(&api, Method::POST, "/v1/users", ana.clone()).await;
    assert_eq!(answer.status, 201);
    let password = answer.json()["password"].as_str().unwrap().to_owned();
    ask(&api, Method::POST, "/v1/users", ana).await.refused(409, "login_taken");

    let body = json!({"login": "ana", "password": password, "token": true});
    let signed_in = api.post("/v1/session", &[], body).await;
    assert_eq!(signed_in.json()["user"]["must_change_password"], json!(true));
    let shown = ask(&api, Method::GET, "/v1/users/ana", Value::Null).await.json();
    assert_eq!(
        shown,
        json!({"login": "ana", "role": "agent", "disabled": false, "must_change_password": true,
               "addresses": [{"address": "7001"}]})
    );
    let all = ask(&api, Method::GET, "/v1/users", Value::Null).await;
    let users = all.json()["users"].as_array().unwrap().clone();
    let logins: Vec<&str> = users.iter().map(|user| user["login"].as_str().unwrap()).collect();
    assert_eq!(logins, ["administrator", "agent", "ana", "auditor", "supervisor"]);
    assert!(!String::from_utf8_lossy(&all.body).contains("argon2"), "a hash left the server");
}

#[tokio::test]
async fn a_change_counts_with_the_next_request() {
    let api = Api::new().await;
    let bearer = api.bearer("agent").await;
    let headers = [("authorization", bearer.as_str())];
    let health = async || api.ask(Method::GET, "/v1/health", &headers).await.status.as_u16();
    assert_eq!(health().await, 403);
    let changed = ask(&api, Method::PATCH, "/v1/users/agent", json!({"role": "auditor"})).await;
    assert_eq!((changed.status.as_u16(), changed.json()["role"].clone()), (200, json!("auditor")));
    assert_eq!(health().await, 200);
    ask(&api, Method::PATCH, "/v1/users/agent", json!({"disabled": true})).await;
    assert_eq!(health().await, 401);
    // Whoever is let in again signs in again.
    ask(&api, Method::PATCH, "/v1/users/agent", json!({"disabled": false})).await;
    assert_eq!(health().await, 401);
    api.bearer("agent").await;
}

#[tokio::test]
async fn a_reset_password_replaces_the_old_one_and_signs_out() {
    let api = Api::new().await;
    let bearer = api.bearer("auditor").await;
    let answer = ask(&api, Method::POST, "/v1/users/auditor/password", Value::Null).await;
    let password = answer.json()["password"].as_str().unwrap().to_owned();
    let headers = [("authorization", bearer.as_str())];
    let old = api.ask(Method::GET, "/v1/recordings", &headers).await;
    old.refused(401, "unauthenticated");
    let sign_in = async |password: &str| {
        let body = json!({"login": "auditor", "password": password, "token": true});
        api.post("/v1/session", &[], body).await
    };
    sign_in(crate::harness::PASSWORD).await.refused(401, "wrong_credentials");
    assert_eq!(sign_in(&password).await.status, 200);
}

#[tokio::test]
async fn nobody_locks_themselves_out() {
    let api = Api::new().await;
    let path = "/v1/users/administrator";
    for body in [json!({"role": "agent"}), json!({"disabled": true})] {
        ask(&api, Method::PATCH, path, body).await.refused(409, "own_account");
    }
    let own_address = json!({"role": "administrator", "addresses": [{"address": "7001"}]});
    assert_eq!(ask(&api, Method::PATCH, path, own_address).await.status, 200);
}

#[tokio::test]
async fn users_of_another_tenant_are_not_there() {
    let api = Api::new().await;
    let other = TenantId::new("other").unwrap();
    api.add_account("stranger", Role::Administrator, other).await;
    for (method, path) in [
        (Method::GET, "/v1/users/stranger"),
        (Method::PATCH, "/v1/users/stranger"),
        (Method::POST, "/v1/users/stranger/password"),
    ] {
        ask(&api, method, path, json!({"disabled": true})).await.refused(404, "not_found");
    }
    api.bearer("stranger").await;
    let taken = json!({"login": "stranger", "role": "agent"});
    ask(&api, Method::POST, "/v1/users", taken).await.refused(409, "login_taken");
    let group = json!({"members": [{"login": "stranger"}]});
    let message = ask(&api, Method::PUT, "/v1/groups/x", group).await.refused(400, "bad_body");
    assert!(message.contains("stranger"), "{message}");
    assert_eq!(api.get_as("stranger", "/v1/groups").await.json()["groups"], json!([]));
    let problems = import(&api, "", "login,role\nstranger,agent\n").await.json();
    assert_eq!(problems["applied"], json!(false));
    assert!(problems["problems"][0]["message"].as_str().unwrap().contains("taken"));
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_name() {
    let api = Api::new().await;
    let late = json!([{"address": "7001", "from": "2026-05-02T00:00:00Z",
                       "until": "2026-05-01T00:00:00Z"}]);
    for (path, body, named) in [
        ("/v1/users", json!({"login": "a/b", "role": "agent"}), "a/b"),
        ("/v1/users", json!({"login": "ana", "role": "boss"}), "boss"),
        ("/v1/users", json!({"login": "ana", "role": "agent", "pin": 1}), "pin"),
        ("/v1/users", json!({"login": "ana", "role": "agent", "addresses": late}), "7001"),
        (
            "/v1/users",
            json!({"login": "ana", "role": "agent", "addresses": [{"address": "ana@pbx"}]}),
            "before its @",
        ),
    ] {
        let message = ask(&api, Method::POST, path, body).await.refused(400, "bad_body");
        assert!(message.contains(named), "{message}");
    }
    for (body, named) in [
        (json!({"managers": ["nobody"]}), "nobody"),
        (
            json!({"members": [{"login": "agent", "until": "2026-05-01T00:00:00Z",
                             "from": "2026-05-01T00:00:00Z"}]}),
            "agent",
        ),
        (json!({"colour": "red"}), "colour"),
    ] {
        let message = ask(&api, Method::PUT, "/v1/groups/x", body).await.refused(400, "bad_body");
        assert!(message.contains(named), "{message}");
    }
    let bad_name = ask(&api, Method::PUT, "/v1/groups/a%20b", json!({})).await;
    assert!(bad_name.refused(400, "bad_body").contains("a b"));
}

#[tokio::test]
async fn a_group_is_set_found_by_and_removed() {
    let api = Api::new().await;
    let call = Call::started_of(&api, 1, TenantId::default(), "sip:7001@pbx").await;
    let other = Call::started_of(&api, 2, TenantId::default(), "sip:7002@pbx").await;
    api.assign("agent", &["7001"]).await;
    let sales = json!({"managers": ["supervisor"], "members": [{"login": "agent"}]});
    let set = ask(&api, Method::PUT, "/v1/groups/sales", sales).await;
    assert_eq!(set.json()["name"], json!("sales"));
    let ids = async |login: &str, path: &str| -> Vec<String> {
        let rows = api.get_as(login, path).await.json()["recordings"].clone();
        rows.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    };
    let (call, other) = (call.id.to_string(), other.id.to_string());
    assert_eq!(ids("administrator", "/v1/recordings").await, [other, call.clone()]);
    for (login, path) in [
        ("supervisor", "/v1/recordings"),
        ("administrator", "/v1/recordings?group=sales"),
        ("supervisor", "/v1/recordings?group=sales"),
        ("agent", "/v1/recordings?group=sales"),
    ] {
        assert_eq!(ids(login, path).await, [call.as_str()], "{login} {path}");
    }
    for (login, path) in [
        ("administrator", "/v1/recordings?group=desk"),
        ("administrator", "/v1/recordings?group=nothing"),
        ("administrator", "/v1/recordings?group=%25"),
        ("agent", "/v1/recordings?group=desk"),
    ] {
        assert_eq!(ids(login, path).await, [""; 0], "{login} {path}");
    }
    for _ in 0..2 {
        let gone = ask(&api, Method::DELETE, "/v1/groups/sales", Value::Null).await;
        assert_eq!(gone.status, 204);
        assert_eq!(ids("supervisor", "/v1/recordings").await, [""; 0]);
    }
}

#[tokio::test]
async fn why_names_the_address_or_the_group_that_lets_somebody_hear_a_call() {
    let api = Api::new().await;
    let call = Call::started_of(&api, 1, TenantId::default(), "sip:7001@pbx").await;
    api.assign("agent", &["7001"]).await;
    let sales = json!({"managers": ["supervisor"], "members": [{"login": "agent"}]});
    ask(&api, Method::PUT, "/v1/groups/sales", sales).await;
    let decision = async |login: &str, permission: &str| {
        let path = format!("/v1/users/{login}/why?recording={}", call.id);
        let why = ask(&api, Method::GET, &path, Value::Null).await.json();
        let all = why["decisions"].as_array().unwrap().clone();
        let mut one = all.into_iter().find(|one| one["permission"] == permission).unwrap();
        one.as_object_mut().unwrap().remove("permission");
        one
    };
    let own = json!({"decision": "allowed", "by": "own_address"});
    assert_eq!(decision("agent", "play").await, own);
    let member =
        json!({"decision": "allowed", "by": "group_member", "group": "sales", "member": "agent"});
    assert_eq!(decision("supervisor", "play").await, member);
    assert_eq!(decision("auditor", "play").await, json!({"decision": "not_permitted"}));
    let by_role = json!({"decision": "allowed", "by": "role"});
    assert_eq!(decision("auditor", "view").await, by_role);
    api.assign("agent", &["7002"]).await;
    assert_eq!(decision("agent", "play").await, json!({"decision": "out_of_scope"}));
    ask(&api, Method::PATCH, "/v1/users/agent", json!({"disabled": true})).await;
    assert_eq!(decision("agent", "play").await, json!({"decision": "disabled"}));
    let unknown = "/v1/users/agent/why?recording=01890a5d-ac96-774b-bcce-b302099a8057";
    ask(&api, Method::GET, unknown, Value::Null).await.refused(404, "not_found");
    let bare = ask(&api, Method::GET, "/v1/users/agent/why", Value::Null).await;
    assert!(bare.refused(400, "bad_parameter").contains("recording"));
}

#[tokio::test]
async fn a_role_tells_its_scope_and_its_permissions() {
    let api = Api::new().await;
    let roles = ask(&api, Method::GET, "/v1/roles", Value::Null).await.json();
    let agent = roles["roles"].as_array().unwrap().iter().find(|role| role["role"] == "agent");
    let expected = json!({"role": "agent", "scope": "own",
                          "permissions": ["view", "play", "note", "pause"]});
    assert_eq!(agent, Some(&expected));
}

#[tokio::test]
async fn an_import_does_all_rows_or_none_and_a_dry_run_nothing() {
    let api = Api::new().await;
    api.assign("agent", &["7001"]).await;
    let csv = "\u{feff}Login, Role, Addresses\r\nana,agent,7002 +38612345678\r\n\
               agent,supervisor,7001 7003\r\nauditor,auditor,\r\n\"leo\",agent,\"\"\r\n";
    let dry = import(&api, "?dry_run=1", csv).await.json();
    let done = json!({"applied": false, "added": ["ana", "leo"], "changed": ["agent"],
                      "unchanged": ["auditor"], "problems": [], "passwords": []});
    assert_eq!(dry, done);
    ask(&api, Method::GET, "/v1/users/ana", Value::Null).await.refused(404, "not_found");

    let wrong = format!("{csv}ana,agent,\nb/b,agent,\nmia,boss,\nmia,,\ntom,agent,a@b\n");
    let answer = import(&api, "", &wrong).await.json();
    let problems = answer["problems"].as_array().unwrap();
    let told: Vec<(u64, &str)> = problems
        .iter()
        .map(|one| (one["line"].as_u64().unwrap(), one["message"].as_str().unwrap()))
        .collect();
    for ((line, message), (expected, named)) in told.iter().zip([
        (6, "line 2"),
        (7, "b/b"),
        (8, "boss"),
        (9, "needs a role"),
        (10, "before its @"),
    ]) {
        assert!(*line == expected && message.contains(named), "{line} {message}");
    }
    assert_eq!((told.len(), answer["applied"].clone()), (5, json!(false)));
    ask(&api, Method::GET, "/v1/users/ana", Value::Null).await.refused(404, "not_found");

    let answer = import(&api, "", csv).await.json();
    assert_eq!(answer["applied"], json!(true));
    let password = answer["passwords"][0]["password"].as_str().unwrap();
    let body = json!({"login": "ana", "password": password, "token": true});
    assert_eq!(api.post("/v1/session", &[], body).await.status, 200);
    let agent = ask(&api, Method::GET, "/v1/users/agent", Value::Null).await.json();
    assert_eq!(agent["role"], json!("supervisor"));
    assert_eq!(agent["addresses"], json!([{"address": "7001"}, {"address": "7003"}]));
    let again = import(&api, "", csv).await.json();
    assert_eq!((again["added"].clone(), again["changed"].clone()), (json!([]), json!([])));
}

#[tokio::test]
async fn what_is_no_import_is_refused_by_name() {
    let api = Api::new().await;
    for (csv, named) in [
        ("", "login"),
        ("role\nagent\n", "no column login"),
        ("login,pin\nana,1\n", "pin"),
        ("login,login\nana,ana\n", "twice"),
        ("login,role\nana\n", "fields"),
    ] {
        let message = import(&api, "", csv).await.refused(400, "bad_csv");
        assert!(message.contains(named), "{csv:?}: {message}");
    }
    let many = format!("login,role\n{}", "x,agent\n".repeat(501));
    assert!(import(&api, "", &many).await.refused(400, "bad_csv").contains("500"));
    import(&api, "?dry_run=yes", "login\n").await.refused(400, "bad_parameter");
    let as_json = ask(&api, Method::POST, "/v1/users/import", json!({})).await;
    as_json.refused(415, "not_csv");
    let own_role = import(&api, "", "login,role\nadministrator,agent\n").await.json();
    assert_eq!(own_role["applied"], json!(false));
}
